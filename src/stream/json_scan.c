/* stream/json_scan.c: see the header. */
#include "stream/json_scan.h"

#define DEPTH_MAX 2048u

struct scan {
    const uint8_t *at;
    const uint8_t *end;
};

static uint8_t scan_peek(const struct scan *scan)
{
    return scan->at < scan->end ? *scan->at : 0;
}

static bool scan_take(struct scan *scan, uint8_t byte)
{
    bool there = scan->at < scan->end && *scan->at == byte;
    scan->at += there;
    return there;
}

static void scan_space(struct scan *scan)
{
    while (scan->at < scan->end &&
           (*scan->at == ' ' || *scan->at == '\n' || *scan->at == '\r' || *scan->at == '\t'))
        scan->at++;
}

/* --- values that have no parts ---------------------------------------------------------------- */

static bool is_digit(uint8_t byte)
{
    return byte >= '0' && byte <= '9';
}

static int hex_digit(uint8_t byte)
{
    if (is_digit(byte))
        return byte - '0';
    byte |= 0x20;
    return byte >= 'a' && byte <= 'f' ? byte - 'a' + 10 : -1;
}

/* The four digits behind \u; -1: they are not there. */
static int scan_hex(struct scan *scan)
{
    int code = 0;
    if (scan->end - scan->at < 4)
        return -1;
    for (unsigned i = 0; i < 4; i++) {
        int digit = hex_digit(*scan->at++);
        if (digit < 0)
            return -1;
        code = code * 16 + digit;
    }
    return code;
}

/* What stands for one unit of a text: its code, or the byte; -1: it is broken, or the end. */
static int scan_unit(struct scan *scan)
{
    static const char signs[] = "\"\\/bfnrt";
    static const char units[] = "\"\\/\b\f\n\r\t";
    if (scan->at == scan->end || *scan->at < 0x20)
        return -1;
    uint8_t byte = *scan->at++;
    if (byte != '\\')
        return byte;
    if (scan_take(scan, 'u'))
        return scan_hex(scan);
    const char *sign = scan_peek(scan) != 0 ? strchr(signs, scan_peek(scan)) : NULL;
    if (sign == NULL)
        return -1;
    scan->at++;
    return units[sign - signs];
}

static bool scan_text(struct scan *scan)
{
    if (!scan_take(scan, '"'))
        return false;
    while (scan->at < scan->end && *scan->at != '"') {
        if (scan_unit(scan) < 0)
            return false;
    }
    return scan_take(scan, '"');
}

static bool scan_digits(struct scan *scan)
{
    const uint8_t *begin = scan->at;
    while (is_digit(scan_peek(scan)))
        scan->at++;
    return scan->at > begin;
}

static bool scan_number(struct scan *scan)
{
    (void)scan_take(scan, '-');
    if (!scan_take(scan, '0') && !scan_digits(scan))
        return false;
    if (scan_take(scan, '.') && !scan_digits(scan))
        return false;
    if (!scan_take(scan, 'e') && !scan_take(scan, 'E'))
        return true;
    if (!scan_take(scan, '+'))
        (void)scan_take(scan, '-');
    return scan_digits(scan);
}

static bool scan_word(struct scan *scan, const char *word)
{
    size_t size = strlen(word);
    if ((size_t)(scan->end - scan->at) < size || memcmp(scan->at, word, size) != 0)
        return false;
    scan->at += size;
    return true;
}

static bool scan_plain(struct scan *scan)
{
    switch (scan_peek(scan)) {
    case '"':
        return scan_text(scan);
    case 't':
        return scan_word(scan, "true");
    case 'f':
        return scan_word(scan, "false");
    case 'n':
        return scan_word(scan, "null");
    default:
        return scan_number(scan);
    }
}

/* --- values of any kind ----------------------------------------------------------------------- */

/* The containers that are open, from the outside: is it an object? */
struct nesting {
    unsigned depth;
    uint8_t objects[DEPTH_MAX / 8];
};

static bool nesting_is_object(const struct nesting *nesting)
{
    unsigned at = nesting->depth - 1;
    return (nesting->objects[at / 8] >> (at % 8) & 1) != 0;
}

static bool nesting_open(struct nesting *nesting, bool is_object)
{
    unsigned at = nesting->depth;
    if (at == DEPTH_MAX)
        return false;
    unsigned below = at % 8; /* those of this byte that are open already */
    unsigned kept = below > 0 ? nesting->objects[at / 8] & ((1u << below) - 1) : 0;
    nesting->objects[at / 8] = (uint8_t)(kept | (unsigned)is_object << below);
    nesting->depth++;
    return true;
}

/* The name of a member, and the colon; the name's text has its quotes. */
static bool scan_key(struct scan *scan, kvs_slice *ret_key)
{
    scan_space(scan);
    const uint8_t *begin = scan->at;
    if (!scan_text(scan))
        return false;
    *ret_key = slice_make(begin, (size_t)(scan->at - begin));
    scan_space(scan);
    return scan_take(scan, ':');
}

/* Behind a value: out of the containers that end here, and to where the next value begins. */
static bool scan_onward(struct scan *scan, struct nesting *nesting)
{
    kvs_slice key;
    while (nesting->depth > 0) {
        bool is_object = nesting_is_object(nesting);
        scan_space(scan);
        if (scan_take(scan, ','))
            return !is_object || scan_key(scan, &key);
        if (!scan_take(scan, is_object ? '}' : ']'))
            return false;
        nesting->depth--;
    }
    return true;
}

static bool scan_value(struct scan *scan)
{
    struct nesting nesting;
    kvs_slice key;
    nesting.depth = 0;
    do {
        scan_space(scan);
        bool is_object = scan_take(scan, '{');
        if (!is_object && !scan_take(scan, '[')) {
            if (!scan_plain(scan))
                return false;
        } else {
            if (!nesting_open(&nesting, is_object))
                return false;
            scan_space(scan);
            if (scan_peek(scan) != (is_object ? '}' : ']')) { /* not empty: its first value */
                if (is_object && !scan_key(scan, &key))
                    return false;
                continue;
            }
        }
        if (!scan_onward(scan, &nesting))
            return false;
    } while (nesting.depth > 0);
    return true;
}

/* --- what others ask for ---------------------------------------------------------------------- */

static bool key_is(kvs_slice text, const char *key)
{
    struct scan scan = {text.data + 1, text.data + text.size - 1};
    for (; *key != '\0'; key++) {
        if (scan_unit(&scan) != *key)
            return false;
    }
    return scan.at == scan.end;
}

static bool scan_members(struct scan *scan, const char *const *keys, unsigned count,
                         kvs_slice *values)
{
    kvs_slice key;
    scan_space(scan);
    if (!scan_take(scan, '{'))
        return false;
    scan_space(scan);
    if (scan_take(scan, '}'))
        return true;
    do {
        if (!scan_key(scan, &key))
            return false;
        scan_space(scan);
        const uint8_t *begin = scan->at;
        if (!scan_value(scan))
            return false;
        for (unsigned i = 0; i < count; i++) {
            if (key_is(key, keys[i]))
                values[i] = slice_make(begin, (size_t)(scan->at - begin));
        }
        scan_space(scan);
    } while (scan_take(scan, ','));
    return scan_take(scan, '}');
}

bool json_scan_object(kvs_slice object, const char *const *keys, unsigned count,
                      kvs_slice *ret_values)
{
    struct scan scan = {object.data, object.data + object.size};
    memset(ret_values, 0, count * sizeof *ret_values);
    bool whole = object.size > 0 && scan_members(&scan, keys, count, ret_values);
    scan_space(&scan);
    if (whole && scan.at == scan.end)
        return true;
    memset(ret_values, 0, count * sizeof *ret_values);
    return false;
}

bool json_scan_array(kvs_slice array, size_t *at, kvs_slice *ret_element)
{
    struct scan scan = {array.data + *at, array.data + array.size};
    if (array.size == 0 || !scan_take(&scan, *at == 0 ? '[' : ','))
        return false;
    scan_space(&scan);
    const uint8_t *begin = scan.at;
    if (scan_peek(&scan) == ']' || !scan_value(&scan))
        return false;
    *ret_element = slice_make(begin, (size_t)(scan.at - begin));
    scan_space(&scan);
    *at = (size_t)(scan.at - array.data);
    return true;
}

int64_t json_scan_positive(kvs_slice value)
{
    int64_t number = 0;
    for (size_t i = 0; i < value.size; i++) {
        int digit = value.data[i] - '0';
        if (!is_digit(value.data[i]) || number > (INT64_MAX - digit) / 10)
            return 0;
        number = number * 10 + digit;
    }
    return number;
}
