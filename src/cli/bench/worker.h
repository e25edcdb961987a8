/*
 * cli/bench/worker.h: one thread of load: an epoll loop with its own share of the connections.
 *
 * A worker owns its connections and its numbers; while a phase runs only its thread touches them,
 * but for the atomic counters, which the live line reads.
 */
#ifndef CLI_BENCH_WORKER_H
#define CLI_BENCH_WORKER_H

#include "cli/bench/histogram.h"
#include "cli/bench/keyspace.h"
#include "cli/bench/target.h"

#include <pthread.h>

struct connection;

enum txn_load_kind { TXN_LOAD_PUT, TXN_LOAD_RMW, TXN_LOAD_BANK };

/* What transactions do, and what came of them; see worker_txn.c. */
struct txn_load {
    enum txn_load_kind kind;
    uint32_t keys; /* of each */
    bool pessimistic;
    _Atomic uint64_t committed;
    _Atomic uint64_t unknown;   /* may be committed */
    _Atomic uint64_t conflicts; /* attempts that lost */
};

/* What all workers of a run share and none changes. */
struct load {
    const struct target *target;
    const struct keyspace *keyspace;
    const uint8_t *values; /* random bytes: VALUES_SPREAD and one value more */
    uint64_t timeout_ns;   /* without any reply for so long, what is in flight is given up */
    unsigned depth_max;    /* slots of a busy connection */
    struct txn_load *txn;  /* NULL: single operations */
    _Atomic bool stop;     /* set at any time: send nothing more, end when all is answered */
};

enum { VALUES_SPREAD = 64 << 10 };

#define WITHOUT_LIMIT UINT64_MAX

/* One worker's part of a phase. */
struct phase {
    bool fill; /* set the keys first_key, first_key + 1, ...; else draw */
    uint64_t first_key;
    double read_ratio;
    unsigned depth; /* requests in flight per connection */
    uint64_t start_ns;
    uint64_t deadline_ns;  /* nothing is sent from here on; or WITHOUT_LIMIT */
    uint64_t requests_max; /* or WITHOUT_LIMIT */

    /* Open loop: request k is due at start_ns + first_due_ns + k * interval_ns. Closed loop: 0. */
    double interval_ns;
    double first_due_ns;
};

/* The numbers of one phase. */
struct tally {
    struct histogram latency[OPERATION_COUNT]; /* ns; of every answered request */
    _Atomic uint64_t errors;                   /* answered, with an error */
    _Atomic uint64_t misses;                   /* answered: no such key */
    _Atomic uint64_t lost;                     /* in flight when their connection ended */
    uint64_t lost_connections;
    uint64_t timed_out; /* given up after timeout_ns without any reply; part of lost */
    uint64_t unsent;    /* open loop: due before the end, and no connection had room */
    uint64_t events;    /* of event streams: written, read or given; keys that transactions fill */
    uint64_t bytes_in, bytes_out;
    uint64_t reads, writes, polls; /* system calls */
    uint64_t user_ns, system_ns;   /* processor time of the worker */
    uint64_t end_ns;               /* of the last reply */
    char first_error[TARGET_TEXT_MAX];
};

struct worker {
    const struct load *load;
    struct phase phase;
    struct tally tally;

    /* What stays open from phase to phase, of loads that go through libkvs; NULL: nothing. */
    void *kept;
    void (*kept_close)(struct worker *worker);
    pthread_t thread;
    int done_fd; /* an eventfd: +1 when a phase has ended */
    int poll_fd;
    struct connection *connections; /* the busy ones first, then the idle ones */
    size_t busy_count, count;
    size_t busy_alive, idle_lost;

    struct rand rand;
    uint64_t issued;
    uint64_t in_flight;
    uint64_t last_reply_ns;
    size_t turn; /* open loop: the connection that is next */
    uint8_t *key;
    uint8_t *in;  /* what a read gives, behind what the connection carries */
    uint8_t *out; /* the requests of one turn */
    size_t out_size;
};

/* Room for `busy` and `idle` connections; none is open yet. Returns 0 or a negative error. */
int worker_init(struct worker *worker, const struct load *load, size_t busy, size_t idle,
                uint64_t seed, int done_fd);
void worker_deinit(struct worker *worker); /* closes what is open; no phase may be running */

/* Takes a greeted socket as the connection `index`; also on failure. */
int worker_take(struct worker *worker, size_t index, int fd);

/* Starts worker->phase on a thread of its own, with an empty tally; done_fd tells when it has
 * ended, and the thread then wants to be joined. Returns 0 or a negative error. */
int worker_start(struct worker *worker);

#endif
