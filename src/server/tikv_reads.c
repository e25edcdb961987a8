/* server/tikv_reads.c: see the header. */
#include "server/tikv_reads.h"

#include <assert.h>
#include <stddef.h>

/* The connection's share, or a free one: there is one while there are fewer reads than shares. */
static unsigned share_of(const struct tikv_reads *reads, const void *connection)
{
    unsigned unused = TIKV_READS_MAX;
    for (unsigned i = 0; i < TIKV_READS_MAX; i++) {
        if (reads->shares[i].count == 0)
            unused = unused < i ? unused : i;
        else if (reads->shares[i].connection == connection)
            return i;
    }
    return unused;
}

static void run(struct tikv_reads *reads, struct tikv_long_read *read)
{
    reads->running++;
    reads->shares[read->share].running++;
    read->start(read);
}

bool tikv_reads_begin(struct tikv_reads *reads, struct tikv_long_read *read, const void *connection,
                      void (*start)(struct tikv_long_read *read))
{
    unsigned room = TIKV_READS_MAX - reads->count;
    unsigned share = room > 0 ? share_of(reads, connection) : 0;
    struct tikv_reads_share *own = &reads->shares[share];
    if (room == 0 || own->count >= room)
        return false;
    if (own->count == 0)
        *own = (struct tikv_reads_share){.connection = connection};
    own->count++;
    reads->count++;
    *read = (struct tikv_long_read){.share = share, .start = start};
    if (reads->running < TIKV_READS_AT_ONCE) { /* then none waits */
        run(reads, read);
        return true;
    }
    struct tikv_long_read **link = &reads->first;
    while (*link != NULL)
        link = &(*link)->next;
    *link = read;
    return true;
}

static struct tikv_long_read *take_next(struct tikv_reads *reads)
{
    struct tikv_long_read **best = &reads->first;
    for (struct tikv_long_read **link = &reads->first; *link != NULL; link = &(*link)->next) {
        if (reads->shares[(*link)->share].running < reads->shares[(*best)->share].running)
            best = link;
    }
    struct tikv_long_read *next = *best;
    if (next != NULL)
        *best = next->next;
    return next;
}

void tikv_reads_end(struct tikv_reads *reads, struct tikv_long_read *read)
{
    struct tikv_reads_share *own = &reads->shares[read->share];
    assert(own->count > 0 && own->running > 0);
    own->count--;
    own->running--;
    reads->count--;
    reads->running--;
    struct tikv_long_read *next = take_next(reads);
    if (next != NULL)
        run(reads, next);
}
