/*
 * cli/client/shell_words.h: a line of the shell into words.
 *
 * Blanks separate words. "double quotes" keep blanks and read escapes (\n \r \t \0 \\ \" \' \xHH);
 * 'single quotes' keep everything; outside quotes a backslash takes the next byte as it is. Quoted
 * and plain parts side by side are one word. # at the begin of a word starts a comment.
 */
#ifndef CLI_CLIENT_SHELL_WORDS_H
#define CLI_CLIENT_SHELL_WORDS_H

#include "base/buf.h"

enum shell_split {
    SHELL_SPLIT_OK,
    SHELL_SPLIT_OPEN,   /* ends inside quotes or behind a backslash: the line goes on */
    SHELL_SPLIT_ESCAPE, /* an escape that does not exist */
    SHELL_SPLIT_NO_MEMORY,
};

struct shell_words {
    kvs_slice *words; /* each is followed by a zero byte */
    size_t count;
    size_t last_begin; /* where in the line the last word begins; the line's size behind a blank */
    struct buf bytes;
};

/* Splits. Also after OPEN the words are there, the last one as far as it goes (for completion).
 * The caller calls shell_words_deinit after every outcome. */
enum shell_split shell_words_split(struct shell_words *words, kvs_slice line);
void shell_words_deinit(struct shell_words *words);

#endif
