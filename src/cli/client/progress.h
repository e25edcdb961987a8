/*
 * cli/client/progress.h: one line on standard error that shows how far a long command is.
 *
 * It is drawn only on a terminal, at most ten times a second, and wiped at the end; in pipes and
 * files nothing is ever written.
 */
#ifndef CLI_CLIENT_PROGRESS_H
#define CLI_CLIENT_PROGRESS_H

#include <stdbool.h>
#include <stdint.h>

struct progress {
    bool shown;
    const char *verb; /* "import" */
    uint64_t total;   /* what `done` counts up to; 0: not known, no bar */
    uint64_t begin_ns, drawn_ns;
};

/* `allowed` false: stays silent even on a terminal. */
void progress_init(struct progress *progress, const char *verb, uint64_t total, bool allowed);
/* `done` of `total`; keys and bytes are shown as numbers and rates. */
void progress_update(struct progress *progress, uint64_t done, uint64_t keys, uint64_t bytes);
/* Wipes the line; prints a summary in its place when `finished`. */
void progress_end(struct progress *progress, bool finished, uint64_t keys, uint64_t bytes);

#endif
