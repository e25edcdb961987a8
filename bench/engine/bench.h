/*
 * bench/engine/bench.h: stores of several makers under the same load, in one process.
 *
 * A peer is one maker's store: a table of methods. A phase is one kind of load on it, by one or
 * more threads; each has a session of its own and runs the peer's loop for that load until the
 * phase is over, drawing keys by run_next. So each peer is called as its documentation
 * calls the fast one, and what it costs to call through a table is paid once in a phase.
 *
 * Methods answer 0 or say what went wrong by bench_say and answer -1: a peer that fails is left out
 * of what follows.
 */
#ifndef BENCH_ENGINE_BENCH_H
#define BENCH_ENGINE_BENCH_H

#include "base/clock.h"
#include "base/rand.h"
#include "cli/bench/histogram.h"
#include "cli/bench/keyspace.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>

enum { KEY_SIZE = 16, SCAN_COUNT = 100, DRAWS = 1 << 22, VALUES_SPREAD = 4096 };

struct peer_options {
    const char *directory; /* empty, or what the same peer left there */
    uint64_t data_bytes;   /* keys and values together */
    uint64_t
        cache_bytes;  /* for a store's cache: three times the data, half of the memory at most */
    unsigned threads; /* processors, for work in the background */
    bool synced;      /* a set that was answered is on the disk */
    bool prefaults;   /* memory for its cache may be made by the open */
};

/* What all threads of a phase share. */
struct load {
    struct keyspace keyspace; /* writes keys */
    enum distribution distribution;
    const uint8_t *values; /* VALUES_SPREAD + value_size random bytes */
    uint32_t value_size;
    bool reads_values;       /* a word of each cache line is summed up; else both ends are read */
    unsigned depth;          /* operations in flight of a thread, where a peer has that */
    uint64_t deadline_ns;    /* no operation begins behind it */
    uint64_t operations_max; /* of a thread */
    uint64_t first_new;      /* nonzero: new keys are set, from this number on ... */
    unsigned threads;        /* ... by so many threads in turn */
    uint64_t interval_ns;    /* nonzero: one operation is due so often */
    uint64_t begin_ns;       /* of the first that is due */
};

/* One thread's part of a phase. */
struct run {
    const struct load *load;
    const uint32_t *draws; /* DRAWS numbers of keys, taken in a ring ... */
    unsigned draws_begin;  /* ... from here on */
    unsigned thread;
    uint64_t begun; /* operations */
    uint64_t done;
    uint64_t misses;
    uint64_t touched;          /* what was looked at of the values, so that it is looked at */
    struct histogram *latency; /* NULL: not asked for */
    bool failed;
};

struct peer {
    const char *name;
    const char *settings; /* for the page: what differs from its defaults */
    int (*open)(const struct peer_options *options, void **ret_store);
    void (*close)(void *store);
    int (*session_open)(void *store, void **ret_session);
    void (*session_close)(void *session);
    /* Sets keys numbers[0..count-1], in batches, on the calling thread. */
    int (*fill)(void *session, const struct load *load, const uint32_t *numbers, uint64_t count);
    void (*set)(void *session, struct run *run); /* one set a commit */
    void (*get)(void *session, struct run *run);
    void (*scan)(void *session, struct run *run); /* SCAN_COUNT keys from one on */
    int (*compact)(void *store);
    /* Other ways to do the same, or NULL: with copies; one at a time; several together. */
    void (*get_copied)(void *session, struct run *run);  /* the value is the caller's */
    void (*scan_copied)(void *session, struct run *run); /* the pairs are the caller's */
    void (*set_waiting)(void *session, struct run *run);
    void (*get_together)(void *session, struct run *run);
};

extern const struct peer peer_kvs;
extern const struct peer peer_rocksdb;
extern const struct peer peer_lmdb;
extern const struct peer peer_leveldb;

void bench_say(const char *format, ...) __attribute__((format(printf, 1, 2)));
void run_fail(struct run *run, const char *peer, const char *what);

/* How late a thread is each time that it wants to look at the clock, in ns; see machine.c. */
void machine_lateness(uint64_t interval_ns, double seconds, bool beside_busy,
                      struct histogram *ret_lateness);

/* The bytes of a value for the n-th set. */
static inline const uint8_t *load_value(const struct load *load, uint64_t n)
{
    return load->values + n * 8 % VALUES_SPREAD;
}

/* The next key of this thread; false when the phase is over. The clock is looked at sometimes. */
static inline bool run_next(struct run *run, uint8_t key[KEY_SIZE])
{
    const struct load *load = run->load;
    if (run->begun % 32 == 0 &&
        (run->begun >= load->operations_max || run->failed || clock_now_ns() >= load->deadline_ns))
        return false;
    uint64_t n = run->begun++;
    uint64_t number = load->first_new != 0 ? load->first_new + n * load->threads + run->thread
                                           : run->draws[(run->draws_begin + n) % DRAWS];
    keyspace_write(&load->keyspace, number, key);
    return true;
}

/* A value that was gotten or scanned. */
static inline void run_note_value(struct run *run, const void *data, uint64_t size)
{
    const uint8_t *bytes = data;
    if (size == run->load->value_size)
        run->touched += (uint64_t)bytes[0] + bytes[size - 1];
    else
        run->misses++;
    run->done++;
    if (!run->load->reads_values)
        return;
    uint64_t sum = 0;
    for (uint64_t at = 0; at + sizeof(uint64_t) <= size; at += 64) {
        uint64_t word;
        memcpy(&word, bytes + at, sizeof word);
        sum += word;
    }
    run->touched += sum;
}

#endif
