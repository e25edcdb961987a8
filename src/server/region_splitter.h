/*
 * server/region_splitter.h: cuts regions that have grown past a bound, as a real cluster does.
 *
 * 1. Each second it looks whether the engine has written anything since the last round.
 * 2. Then a round goes through the regions on the engine's pool, and counts keys and bytes in the
 *    index: writes are not slowed by counting, and values are not read. The next round waits at
 *    least twenty times as long as this one took.
 * 3. Versions of a transaction's key count as one key and stay in one region; their bytes count
 *    all. Locks do not.
 * 4. A region over the bound is cut into parts of at least half of it, by the region map: durable
 *    before anybody sees it. Clients learn of it by EpochNotMatch, as of any split.
 *
 * Where it cuts: clients of transactions and of API V2 decode the bounds of regions, so a bound is
 * a valid encoding, and the raw part of a keyspace stays whole. Raw keys of API V1 are no
 * encodings: they are cut where their first eight bytes change. With raw_bounds it cuts at any raw
 * key.
 *
 * Failures: of the engine, or no memory: the round ends, the next one tries again. A region that
 * changed meanwhile is left alone. Thread: its loop, and the pool for counting.
 */
#ifndef SERVER_REGION_SPLITTER_H
#define SERVER_REGION_SPLITTER_H

#include "pd/cluster.h"
#include "runtime/loop.h"
#include "txn/record.h"

#define SPLITTER_CUTS_MAX 1024u /* of one region in one round */

struct region_splitter_options {
    uint64_t keys_max;  /* of a region; 0: no bound */
    uint64_t bytes_max; /* of keys and values; 0: no bound */
    bool raw_bounds;
};

struct region_extent {
    uint64_t keys, bytes;
};

struct region_splitter {
    struct region_splitter_options options;
    struct cluster *cluster;
    struct loop *loop;
    struct region_reader reader;
    uv_timer_t timer;
    uint64_t writes_seen; /* of the engine's statistics */
    uint64_t round_ms;    /* when the round began */
    bool busy;            /* a round is under way */
    bool complained;
    atomic_bool closing; /* relaxed: the pool may see it late */
    void (*on_closed)(void *arg);
    void *arg;

    /* the round: what the pool works on */
    struct engine_read read;
    const struct region_list *list;
    struct buf at; /* the stored key to go on from */
    bool at_end;
    uint64_t region_id, region_version; /* of the cuts */
    struct region_extent total, part;
    bool is_v2;
    bool counts_keys;     /* the family has each key of a transaction once or more */
    bool no_place;        /* a cut of raw keys could not be made here */
    bool stuck;           /* so a region over the bound has none */
    size_t previous_size; /* of the last key */
    uint8_t previous[RECORD_KEY_ENCODED_MAX]; /* of a raw one: its first bytes */
    struct buf cut_bytes;
    size_t cuts_count;
    size_t cut_ends[SPLITTER_CUTS_MAX]; /* in cut_bytes */
    kvs_slice cuts[SPLITTER_CUTS_MAX];
    struct region_split split;
};

static inline bool region_splitter_is_wanted(const struct region_splitter_options *options)
{
    return options->keys_max > 0 || options->bytes_max > 0;
}

/* On a loop that is not started, or on its thread. */
void region_splitter_start(struct region_splitter *splitter, struct cluster *cluster,
                           struct loop *loop, const struct region_splitter_options *options);
/* On the loop's thread. Calls on_closed when nothing is under way and the handle is closed. */
void region_splitter_close(struct region_splitter *splitter, void (*on_closed)(void *arg),
                           void *arg);
/* After that. */
void region_splitter_deinit(struct region_splitter *splitter);

#endif
