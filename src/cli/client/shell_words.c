/* cli/client/shell_words.c: see cli/client/shell_words.h. */
#include "cli/client/shell_words.h"

#include "base/mem.h"
#include "cli/client/encoding.h"

#include <kvs/error.h>

struct split {
    kvs_slice line;
    size_t at;
    struct buf *bytes; /* has room for all that the line can give */
};

static bool is_blank(uint8_t byte)
{
    return byte == ' ' || byte == '\t' || byte == '\n' || byte == '\r';
}

static void take(struct split *split)
{
    split->bytes->data[split->bytes->size++] = split->line.data[split->at++];
}

/* Behind the opening quote; ends behind the closing one. */
static enum shell_split split_double(struct split *split)
{
    while (split->at < split->line.size && split->line.data[split->at] != '"') {
        if (split->line.data[split->at] != '\\') {
            take(split);
            continue;
        }
        size_t left = split->line.size - split->at;
        size_t size = left > 1 && split->line.data[split->at + 1] == 'x' ? 4 : 2;
        if (left < size)
            break;
        if (unescape_append(split->bytes, slice_make(split->line.data + split->at, size)) != 0)
            return SHELL_SPLIT_ESCAPE;
        split->at += size;
    }
    if (split->at >= split->line.size || split->line.data[split->at] != '"')
        return SHELL_SPLIT_OPEN;
    split->at++;
    return SHELL_SPLIT_OK;
}

static enum shell_split split_single(struct split *split)
{
    while (split->at < split->line.size && split->line.data[split->at] != '\'')
        take(split);
    if (split->at == split->line.size)
        return SHELL_SPLIT_OPEN;
    split->at++;
    return SHELL_SPLIT_OK;
}

static enum shell_split split_word(struct split *split)
{
    enum shell_split outcome = SHELL_SPLIT_OK;
    while (outcome == SHELL_SPLIT_OK && split->at < split->line.size &&
           !is_blank(split->line.data[split->at])) {
        uint8_t byte = split->line.data[split->at];
        if (byte == '"' || byte == '\'') {
            split->at++;
            outcome = byte == '"' ? split_double(split) : split_single(split);
        } else if (byte == '\\') {
            if (++split->at == split->line.size)
                return SHELL_SPLIT_OPEN;
            take(split);
        } else {
            take(split);
        }
    }
    return outcome;
}

enum shell_split shell_words_split(struct shell_words *words, kvs_slice line)
{
    *words = (struct shell_words){.last_begin = line.size};
    /* Words are separated by a byte, so n bytes make at most n/2+1, each with its zero byte. */
    words->words = mem_zalloc((line.size / 2 + 1) * sizeof *words->words);
    if (words->words == NULL || buf_reserve(&words->bytes, 2 * line.size + 1) != 0)
        return SHELL_SPLIT_NO_MEMORY;
    struct split split = {.line = line, .bytes = &words->bytes};
    enum shell_split outcome = SHELL_SPLIT_OK;
    while (outcome == SHELL_SPLIT_OK) {
        while (split.at < line.size && is_blank(line.data[split.at]))
            split.at++;
        if (split.at == line.size || line.data[split.at] == '#')
            break;
        size_t begin = words->bytes.size, line_begin = split.at;
        outcome = split_word(&split);
        words->words[words->count++] =
            slice_make(words->bytes.data + begin, words->bytes.size - begin);
        words->bytes.data[words->bytes.size++] = 0;
        if (split.at >= line.size || outcome == SHELL_SPLIT_OPEN)
            words->last_begin = line_begin;
    }
    return outcome;
}

void shell_words_deinit(struct shell_words *words)
{
    mem_free(words->words);
    buf_deinit(&words->bytes);
}
