/*
 * stream/pattern.c: see the header. A pattern becomes a program, which is run for all places of the
 * text side by side (Thompson, "Regular expression search algorithm", 1968).
 *
 * Jumps are relative, so a piece of program can be moved and copied: a repetition puts a split in
 * front of what it repeats. Alternatives of an open group end in jumps that are not known yet; they
 * stand before all that is still being moved.
 */
#include "stream/pattern.h"

#include "base/mem.h"

#include <kvs/error.h>
#include <stdint.h>

#define CLASSES_MAX 64u
#define RANGES_MAX 256u /* of all classes, beyond their bits */
#define DEPTH_MAX 32u
#define REPEAT_MAX 1000u
#define WITHOUT_MAX 8u
#define CHAR_BYTE 0x110000u /* a byte that is of no character of UTF-8 counts as one of its own */
#define CHAR_MAX_ALL (CHAR_BYTE + 255)

enum step_kind {
    STEP_CHAR,
    STEP_ANY,
    STEP_CLASS,
    STEP_SPLIT,
    STEP_JUMP,
    STEP_BEGIN,
    STEP_END,
    STEP_MATCH
};

struct step {
    uint8_t kind;
    uint32_t value; /* the character, or the class */
    int16_t first;  /* of a split or a jump, relative */
    int16_t second;
};

/* Characters: one bit for each of the first 256; of those beyond, ranges of the pattern. */
struct class
{
    uint8_t bits[32];
    bool is_inverted; /* of the ranges; the bits are as they are */
    uint32_t ranges_begin, ranges_end;
};

struct range {
    uint32_t from, to;
};

struct pattern {
    struct pattern *without; /* what the text may not begin with, and so on; NULL: anything */
    uint32_t count;
    uint32_t classes_count;
    uint32_t ranges_count;
    struct class classes[CLASSES_MAX];
    struct range ranges[RANGES_MAX];
    struct step steps[PATTERN_STEPS_MAX];
};

/* --- characters ------------------------------------------------------------------------------- */

/* The one at *at, which is moved behind it; `at` is within the text. UTF-8 as in RFC 3629. */
static uint32_t char_take(kvs_slice text, size_t *at)
{
    static const uint32_t mins[] = {0, 0x80, 0x800, 0x10000};
    const uint8_t *bytes = text.data + *at;
    unsigned more = bytes[0] < 0xc2 ? 0 : bytes[0] < 0xe0 ? 1 : bytes[0] < 0xf0 ? 2 : 3;
    uint32_t character = more > 0 ? bytes[0] & (0x3fu >> more) : bytes[0];
    bool whole = (more > 0 || bytes[0] < 0x80) && bytes[0] < 0xf5 && text.size - *at > more;
    for (unsigned i = 1; whole && i <= more; i++) {
        whole = (bytes[i] & 0xc0) == 0x80;
        character = character << 6 | (bytes[i] & 0x3f);
    }
    whole = whole && character >= mins[more] && character < CHAR_BYTE &&
            (character < 0xd800 || character > 0xdfff);
    *at += whole ? more + 1 : 1;
    return whole ? character : CHAR_BYTE + bytes[0];
}

/* --- parsing ---------------------------------------------------------------------------------- */

struct frame {
    uint32_t begin;       /* of the group */
    uint32_t alternative; /* begin of the one that is being read */
    uint32_t jumps; /* of earlier ones: the last one's index plus 1; each leads to the one before */
};

struct parser {
    struct pattern *pattern;
    kvs_slice text;
    size_t at;
    uint32_t atom; /* begin of what a repetition would repeat; only if has_atom */
    bool has_atom;
    uint32_t depth;
    struct frame frames[DEPTH_MAX];
};

static bool parser_has(const struct parser *parser)
{
    return parser->at < parser->text.size;
}

static uint8_t parser_peek(const struct parser *parser)
{
    return parser_has(parser) ? parser->text.data[parser->at] : 0;
}

static int step_add(struct parser *parser, struct step step)
{
    struct pattern *pattern = parser->pattern;
    if (pattern->count + 1 >= PATTERN_STEPS_MAX)
        return KVS_ERR_TOO_LARGE;
    pattern->steps[pattern->count++] = step;
    return 0;
}

static int step_insert(struct parser *parser, uint32_t at, struct step step)
{
    struct pattern *pattern = parser->pattern;
    int error = step_add(parser, step);
    if (error != 0)
        return error;
    memmove(&pattern->steps[at + 1], &pattern->steps[at],
            (pattern->count - 1 - at) * sizeof(struct step));
    pattern->steps[at] = step;
    return 0;
}

static void class_add(struct class *class, uint32_t from, uint32_t to)
{
    for (uint32_t character = from; character <= to && character < 256; character++)
        class->bits[character / 8] |= (uint8_t)(1u << (character % 8));
}

/* Those beyond the bits of the class that is being read, whose ranges are the last; they stay in
 * order, and those that touch become one. */
static int class_add_beyond(struct pattern *pattern, const struct class *class, uint32_t from,
                            uint32_t to)
{
    struct range *ranges = pattern->ranges;
    uint32_t count = pattern->ranges_count;
    uint32_t at = class->ranges_begin;
    if (to < 256)
        return 0;
    from = from < 256 ? 256 : from;
    while (at < count && ranges[at].to + 1 < from)
        at++;
    uint32_t end = at;
    for (; end < count && ranges[end].from <= to + 1; end++) {
        from = ranges[end].from < from ? ranges[end].from : from;
        to = ranges[end].to > to ? ranges[end].to : to;
    }
    if (end == at && count == RANGES_MAX)
        return KVS_ERR_TOO_LARGE;
    memmove(&ranges[at + 1], &ranges[end], (count - end) * sizeof *ranges);
    ranges[at] = (struct range){from, to};
    pattern->ranges_count = count + 1 - (end - at);
    return 0;
}

static void class_invert(struct class *class)
{
    for (unsigned i = 0; i < sizeof class->bits; i++)
        class->bits[i] = (uint8_t) ~class->bits[i];
    class->is_inverted = true;
}

/* \d and its like; false: it is none of them. */
static bool class_of_letter(uint8_t letter, struct class *ret_class)
{
    struct class class = {.bits = {0}};
    switch (letter | 0x20) {
    case 'd':
        class_add(&class, '0', '9');
        break;
    case 'w':
        class_add(&class, '0', '9');
        class_add(&class, 'a', 'z');
        class_add(&class, 'A', 'Z');
        class_add(&class, '_', '_');
        break;
    case 's':
        class_add(&class, '\t', '\r');
        class_add(&class, ' ', ' ');
        break;
    default:
        return false;
    }
    if (letter < 'a')
        class_invert(&class);
    *ret_class = class;
    return true;
}

static int hex_digit(uint8_t byte)
{
    if (byte >= '0' && byte <= '9')
        return byte - '0';
    byte |= 0x20;
    return byte >= 'a' && byte <= 'f' ? byte - 'a' + 10 : -1;
}

/* The character that an escape stands for, behind its backslash; -1: it is none. */
static int parse_escaped(struct parser *parser)
{
    uint32_t character = char_take(parser->text, &parser->at);
    switch (character) {
    case 't':
        return '\t';
    case 'n':
        return '\n';
    case 'r':
        return '\r';
    case 'x': {
        if (parser->text.size - parser->at < 2)
            return -1;
        int high = hex_digit(parser->text.data[parser->at]);
        int low = hex_digit(parser->text.data[parser->at + 1]);
        parser->at += 2;
        return high < 0 || low < 0 ? -1 : high * 16 + low;
    }
    default:
        break;
    }
    bool is_letter = (character | 0x20) >= 'a' && (character | 0x20) <= 'z';
    return is_letter || (character >= '0' && character <= '9') ? -1 : (int)character;
}

static int atom_class(struct parser *parser, const struct class *class)
{
    struct pattern *pattern = parser->pattern;
    if (pattern->classes_count == CLASSES_MAX)
        return KVS_ERR_TOO_LARGE;
    pattern->classes[pattern->classes_count] = *class;
    return step_add(parser, (struct step){.kind = STEP_CLASS, .value = pattern->classes_count++});
}

/* One end of a range in brackets, or a whole class: then -2. */
static int parse_class_member(struct parser *parser, struct class *class, int *ret_error)
{
    uint32_t character = char_take(parser->text, &parser->at);
    if (character != '\\')
        return (int)character;
    if (!parser_has(parser))
        return -1;
    struct class named;
    if (!class_of_letter(parser_peek(parser), &named))
        return parse_escaped(parser);
    parser->at++;
    for (unsigned i = 0; i < sizeof named.bits; i++)
        class->bits[i] |= named.bits[i];
    if (named.is_inverted)
        *ret_error = class_add_beyond(parser->pattern, class, 256, CHAR_MAX_ALL);
    return -2;
}

/* Behind the bracket. */
static int parse_class(struct parser *parser)
{
    struct class class = {.ranges_begin = parser->pattern->ranges_count};
    bool negated = parser_peek(parser) == '^';
    parser->at += negated;
    bool first = true;
    int error = 0;
    for (; parser_has(parser) && (first || parser_peek(parser) != ']'); first = false) {
        int from = parse_class_member(parser, &class, &error);
        if (from == -1)
            return KVS_ERR_INVALID_ARGUMENT;
        if (error != 0)
            return error;
        if (from == -2)
            continue;
        int to = from;
        bool is_range = parser_peek(parser) == '-' && parser->at + 1 < parser->text.size &&
                        parser->text.data[parser->at + 1] != ']';
        if (is_range) {
            parser->at++;
            to = parse_class_member(parser, &class, &error);
        }
        if (to < from)
            return KVS_ERR_INVALID_ARGUMENT;
        class_add(&class, (uint32_t)from, (uint32_t)to);
        error = class_add_beyond(parser->pattern, &class, (uint32_t)from, (uint32_t)to);
        if (error != 0)
            return error;
    }
    if (!parser_has(parser))
        return KVS_ERR_INVALID_ARGUMENT;
    parser->at++;
    class.ranges_end = parser->pattern->ranges_count;
    if (negated)
        class_invert(&class);
    return atom_class(parser, &class);
}

static int parse_escape(struct parser *parser)
{
    uint8_t letter = parser_peek(parser);
    struct class class;
    if (!parser_has(parser))
        return KVS_ERR_INVALID_ARGUMENT;
    if (class_of_letter(letter, &class)) {
        parser->at++;
        return atom_class(parser, &class);
    }
    if (letter == 'A' || letter == 'z' || letter == 'Z') {
        parser->at++;
        return step_add(parser, (struct step){.kind = letter == 'A' ? STEP_BEGIN : STEP_END});
    }
    int character = parse_escaped(parser);
    if (character < 0)
        return KVS_ERR_INVALID_ARGUMENT;
    return step_add(parser, (struct step){.kind = STEP_CHAR, .value = (uint32_t)character});
}

/* --- groups and alternatives ------------------------------------------------------------------ */

static int group_open(struct parser *parser)
{
    if (parser->depth == DEPTH_MAX)
        return KVS_ERR_TOO_LARGE;
    if (parser_peek(parser) == '?') {
        if (parser->text.size - parser->at < 2 || parser->text.data[parser->at + 1] != ':')
            return KVS_ERR_INVALID_ARGUMENT;
        parser->at += 2;
    }
    uint32_t begin = parser->pattern->count;
    parser->frames[parser->depth++] = (struct frame){.begin = begin, .alternative = begin};
    parser->has_atom = false;
    return 0;
}

/* Ends an alternative: a split in front of it, a jump behind it. */
static int alternative_end(struct parser *parser)
{
    struct frame *frame = &parser->frames[parser->depth - 1];
    uint32_t size = parser->pattern->count - frame->alternative;
    int error =
        step_insert(parser, frame->alternative,
                    (struct step){.kind = STEP_SPLIT, .first = 1, .second = (int16_t)(size + 2)});
    if (error == 0)
        error = step_add(parser, (struct step){.kind = STEP_JUMP, .first = (int16_t)frame->jumps});
    if (error != 0)
        return error;
    frame->jumps = parser->pattern->count;
    frame->alternative = parser->pattern->count;
    parser->has_atom = false;
    return 0;
}

static void group_close(struct parser *parser)
{
    struct frame *frame = &parser->frames[--parser->depth];
    uint32_t at = frame->jumps;
    while (at != 0) {
        struct step *jump = &parser->pattern->steps[at - 1];
        uint32_t before = (uint16_t)jump->first;
        jump->first = (int16_t)(parser->pattern->count - (at - 1));
        at = before;
    }
    parser->atom = frame->begin;
    parser->has_atom = true;
}

/* --- repetitions ------------------------------------------------------------------------------ */

static int parse_number(struct parser *parser, uint32_t *ret_number)
{
    uint32_t number = 0;
    size_t begin = parser->at;
    for (; parser_peek(parser) >= '0' && parser_peek(parser) <= '9'; parser->at++) {
        number = number * 10 + (uint32_t)(parser_peek(parser) - '0');
        if (number > REPEAT_MAX)
            return KVS_ERR_TOO_LARGE;
    }
    *ret_number = number;
    return parser->at > begin ? 0 : KVS_ERR_INVALID_ARGUMENT;
}

#define WITHOUT_END UINT32_MAX

/* Behind the brace. */
static int parse_bounds(struct parser *parser, uint32_t *ret_min, uint32_t *ret_max)
{
    int error = parse_number(parser, ret_min);
    *ret_max = *ret_min;
    if (error == 0 && parser_peek(parser) == ',') {
        parser->at++;
        *ret_max = WITHOUT_END;
        if (parser_peek(parser) != '}')
            error = parse_number(parser, ret_max);
    }
    if (error != 0)
        return error;
    if (parser_peek(parser) != '}' || *ret_max < *ret_min)
        return KVS_ERR_INVALID_ARGUMENT;
    parser->at++;
    return 0;
}

static int copy_add(struct parser *parser, const struct step *steps, uint32_t count)
{
    int error = 0;
    for (uint32_t i = 0; i < count && error == 0; i++)
        error = step_add(parser, steps[i]);
    return error;
}

/* What follows `begin` may also not be there, and, if it has no end, be there again. */
static int make_optional(struct parser *parser, uint32_t begin, bool repeats)
{
    uint32_t size = parser->pattern->count - begin;
    int error = step_insert(parser, begin,
                            (struct step){.kind = STEP_SPLIT,
                                          .first = 1,
                                          .second = (int16_t)(size + 1 + (repeats ? 1 : 0))});
    if (error == 0 && repeats)
        error = step_add(parser,
                         (struct step){.kind = STEP_JUMP, .first = (int16_t) - (int)(size + 1)});
    return error;
}

/* The atom, `min` times, then up to `max` times or without end. */
static int repeat(struct parser *parser, uint32_t min, uint32_t max)
{
    struct pattern *pattern = parser->pattern;
    uint32_t size = pattern->count - parser->atom;
    struct step *atom = mem_copy(&pattern->steps[parser->atom], size * sizeof *atom);
    if (atom == NULL)
        return KVS_ERR_NO_MEMORY;
    pattern->count = parser->atom;
    int error = 0;
    for (uint32_t i = 0; i < min && error == 0; i++)
        error = copy_add(parser, atom, size);
    uint32_t more = max == WITHOUT_END ? 1 : max - min;
    for (uint32_t i = 0; i < more && error == 0; i++) {
        uint32_t begin = pattern->count;
        error = copy_add(parser, atom, size);
        if (error == 0)
            error = make_optional(parser, begin, max == WITHOUT_END);
    }
    mem_free(atom);
    return error;
}

static int parse_repetition(struct parser *parser, uint8_t sign)
{
    uint32_t min = sign == '+' ? 1 : 0;
    uint32_t max = sign == '?' ? 1 : WITHOUT_END;
    if (!parser->has_atom)
        return KVS_ERR_INVALID_ARGUMENT;
    int error = sign == '{' ? parse_bounds(parser, &min, &max) : 0;
    if (error == 0)
        error = repeat(parser, min, max);
    if (error == 0 && parser_peek(parser) == '?')
        parser->at++;
    parser->has_atom = false;
    return error;
}

/* --- the whole -------------------------------------------------------------------------------- */

static int parse_atom(struct parser *parser)
{
    uint32_t begin = parser->pattern->count;
    uint32_t character = char_take(parser->text, &parser->at);
    int error;
    if (character == '[')
        error = parse_class(parser);
    else if (character == '\\')
        error = parse_escape(parser);
    else if (character == '.')
        error = step_add(parser, (struct step){.kind = STEP_ANY});
    else if (character == '^' || character == '$')
        error = step_add(parser, (struct step){.kind = character == '^' ? STEP_BEGIN : STEP_END});
    else
        error = step_add(parser, (struct step){.kind = STEP_CHAR, .value = character});
    parser->atom = begin;
    parser->has_atom = true;
    return error;
}

static int parse_one(struct parser *parser)
{
    uint8_t sign = parser_peek(parser);
    if (strchr("()|*+?{", sign) == NULL || sign == '\0')
        return parse_atom(parser);
    parser->at++;
    switch (sign) {
    case '(':
        return group_open(parser);
    case ')':
        if (parser->depth == 1)
            return KVS_ERR_INVALID_ARGUMENT;
        group_close(parser);
        return 0;
    case '|':
        return alternative_end(parser);
    default:
        return parse_repetition(parser, sign);
    }
}

static int compile(kvs_slice text, bool has_alternatives, struct pattern *pattern)
{
    struct parser parser = {.pattern = pattern, .text = text, .depth = 1};
    int error = 0;
    while (error == 0 && parser_has(&parser))
        error = parse_one(&parser);
    if (error == 0 && parser.depth != 1)
        error = KVS_ERR_INVALID_ARGUMENT;
    if (error == 0 && !has_alternatives && parser.frames[0].jumps != 0)
        error = KVS_ERR_INVALID_ARGUMENT;
    if (error != 0)
        return error;
    group_close(&parser);
    pattern->steps[pattern->count++] =
        (struct step){.kind = STEP_MATCH}; /* kept free by step_add */
    return 0;
}

static size_t class_end(kvs_slice text, size_t at)
{
    at += at < text.size && text.data[at] == '^';
    at += at < text.size && text.data[at] == ']';
    while (at < text.size && text.data[at] != ']')
        at += text.data[at] == '\\' ? 2 : 1;
    return at;
}

/* The bracket that ends the group that began before `at`; the size when there is none. */
static size_t group_end(kvs_slice text, size_t at)
{
    unsigned depth = 1;
    for (; at < text.size; at++) {
        uint8_t byte = text.data[at];
        if (byte == '\\')
            at++;
        else if (byte == '[')
            at = class_end(text, at + 1);
        else if (byte == '(')
            depth++;
        else if (byte == ')' && --depth == 0)
            return at;
    }
    return text.size;
}

static bool has_at(kvs_slice text, size_t at, const char *what)
{
    return text.size - at >= strlen(what) && memcmp(text.data + at, what, strlen(what)) == 0;
}

/*
 * "^(?!X)(?!Y)rest" is "^rest" without "^(?:X)" and "^(?:Y)". Alternatives at the outside of the
 * rest are refused: what may not be would hold for the first of them only.
 */
static int compile_without(kvs_slice text, struct pattern *pattern)
{
    uint8_t part[PATTERN_SIZE_MAX + 8];
    size_t at = 1;
    for (unsigned i = 0; has_at(text, at, "(?!"); i++) {
        size_t begin = at + 3;
        size_t end = group_end(text, begin);
        struct pattern *without = i < WITHOUT_MAX ? mem_zalloc(sizeof *without) : NULL;
        if (without == NULL)
            return i < WITHOUT_MAX ? KVS_ERR_NO_MEMORY : KVS_ERR_TOO_LARGE;
        without->without = pattern->without;
        pattern->without = without;
        if (end == text.size)
            return KVS_ERR_INVALID_ARGUMENT;
        memcpy(part, "^(?:", 4);
        memcpy(part + 4, text.data + begin, end - begin + 1);
        int error = compile(slice_make(part, 4 + end - begin + 1), true, without);
        if (error != 0)
            return error;
        at = end + 1;
    }
    part[0] = '^';
    memcpy(part + 1, text.data + at, text.size - at);
    return compile(slice_make(part, 1 + text.size - at), false, pattern);
}

int pattern_new(kvs_slice text, struct pattern **ret_pattern)
{
    if (text.size > PATTERN_SIZE_MAX)
        return KVS_ERR_TOO_LARGE;
    struct pattern *pattern = mem_zalloc(sizeof *pattern);
    if (pattern == NULL)
        return KVS_ERR_NO_MEMORY;
    int error =
        has_at(text, 0, "^(?!") ? compile_without(text, pattern) : compile(text, true, pattern);
    uint32_t steps = 0;
    for (const struct pattern *part = pattern; part != NULL; part = part->without)
        steps += part->count;
    if (error == 0 && steps > PATTERN_STEPS_MAX)
        error = KVS_ERR_TOO_LARGE;
    if (error != 0) {
        pattern_free(pattern);
        return error;
    }
    *ret_pattern = pattern;
    return 0;
}

void pattern_free(struct pattern *pattern)
{
    while (pattern != NULL) {
        struct pattern *next = pattern->without;
        mem_free(pattern);
        pattern = next;
    }
}

/* --- matching --------------------------------------------------------------------------------- */

struct places {
    uint32_t count;
    uint16_t steps[PATTERN_STEPS_MAX];
};

struct matcher {
    const struct pattern *pattern;
    uint64_t steps;
    uint32_t mark; /* of this character of the text */
    uint32_t marks[PATTERN_STEPS_MAX];
    uint16_t stack[PATTERN_STEPS_MAX * 2];
    bool at_begin;
    bool at_end;
};

/* Adds a step and all that is reached from it without a character; true: the match is found. */
static bool places_add(struct matcher *matcher, struct places *places, uint32_t from)
{
    uint32_t depth = 0;
    matcher->stack[depth++] = (uint16_t)from;
    while (depth > 0) {
        uint32_t at = matcher->stack[--depth];
        matcher->steps++;
        if (matcher->marks[at] == matcher->mark)
            continue;
        matcher->marks[at] = matcher->mark;
        const struct step *step = &matcher->pattern->steps[at];
        if (step->kind == STEP_MATCH)
            return true;
        if (step->kind == STEP_JUMP || step->kind == STEP_SPLIT)
            matcher->stack[depth++] = (uint16_t)((int)at + step->first);
        if (step->kind == STEP_SPLIT)
            matcher->stack[depth++] = (uint16_t)((int)at + step->second);
        if ((step->kind == STEP_BEGIN && matcher->at_begin) ||
            (step->kind == STEP_END && matcher->at_end))
            matcher->stack[depth++] = (uint16_t)(at + 1);
        if (step->kind <= STEP_CLASS)
            places->steps[places->count++] = (uint16_t)at;
    }
    return false;
}

static bool class_has(const struct pattern *pattern, const struct class *class, uint32_t character)
{
    if (character < 256)
        return (class->bits[character / 8] >> (character % 8) & 1) != 0;
    uint32_t low = class->ranges_begin;
    uint32_t high = class->ranges_end;
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        if (pattern->ranges[middle].to < character)
            low = middle + 1;
        else
            high = middle;
    }
    bool found = low < class->ranges_end && pattern->ranges[low].from <= character;
    return found != class->is_inverted;
}

static bool step_takes(const struct pattern *pattern, const struct step *step, uint32_t character)
{
    if (step->kind == STEP_CHAR)
        return step->value == character;
    if (step->kind == STEP_ANY)
        return character != '\n';
    return class_has(pattern, &pattern->classes[step->value], character);
}

/* One character further. */
static bool places_advance(struct matcher *matcher, const struct places *now, struct places *next,
                           uint32_t character)
{
    const struct pattern *pattern = matcher->pattern;
    matcher->mark++;
    matcher->steps += now->count;
    next->count = 0;
    for (uint32_t i = 0; i < now->count; i++) {
        const struct step *step = &pattern->steps[now->steps[i]];
        if (step_takes(pattern, step, character) && places_add(matcher, next, now->steps[i] + 1u))
            return true;
    }
    return places_add(matcher, next, 0); /* or it begins here */
}

static bool matches(const struct pattern *pattern, kvs_slice text, uint64_t *steps)
{
    struct matcher matcher = {.pattern = pattern, .mark = 1, .at_begin = true};
    struct places places[2];
    places[0].count = 0;
    matcher.at_end = text.size == 0;
    bool found = places_add(&matcher, &places[0], 0);
    unsigned now = 0;
    for (size_t at = 0; at < text.size && !found; now = 1 - now) {
        uint32_t character = char_take(text, &at);
        matcher.at_begin = false;
        matcher.at_end = at == text.size;
        found = places_advance(&matcher, &places[now], &places[1 - now], character);
    }
    *steps += matcher.steps;
    return found;
}

bool pattern_matches(const struct pattern *pattern, kvs_slice text, uint64_t *steps)
{
    for (const struct pattern *without = pattern->without; without != NULL;
         without = without->without)
        if (matches(without, text, steps))
            return false;
    return matches(pattern, text, steps);
}
