/*
 * server/tikv_reads.h: long reads of a loop: which of them are on the pool, and whose turn is next.
 *
 * Connections share what there is. A read is refused when its connection has as many under way as
 * there is room left: so one alone gets half of all, and whoever comes finds room. A few are on the
 * pool at once; when one of these ends, the oldest of the connection that has fewest there follows.
 *
 * Thread: the loop's. Owned by whoever embeds it; a read is borrowed from begin to end.
 */
#ifndef SERVER_TIKV_READS_H
#define SERVER_TIKV_READS_H

#include <stdbool.h>

#define TIKV_READS_MAX 512u    /* under way */
#define TIKV_READS_AT_ONCE 32u /* on the pool */

struct tikv_long_read {
    struct tikv_long_read *next;
    unsigned share; /* of its connection: index in shares */
    void (*start)(struct tikv_long_read *read);
};

struct tikv_reads_share {
    const void *connection; /* only compared */
    unsigned count;         /* 0: free */
    unsigned running;
};

/* Begins as zeros. */
struct tikv_reads {
    unsigned count;
    unsigned running;
    struct tikv_long_read *first; /* they wait, in the order they came */
    struct tikv_reads_share shares[TIKV_READS_MAX];
};

/* Has `start` called when it is the read's turn, perhaps at once. False: too many are under way. */
bool tikv_reads_begin(struct tikv_reads *reads, struct tikv_long_read *read, const void *connection,
                      void (*start)(struct tikv_long_read *read));
/* It was started, and is back. Starts the next one. */
void tikv_reads_end(struct tikv_reads *reads, struct tikv_long_read *read);

#endif
