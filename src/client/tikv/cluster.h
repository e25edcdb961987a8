/*
 * client/tikv/cluster.h: a TiKV cluster as seen from one loop: where each key lives, a connection
 * to each store, and requests on their way.
 *
 * The life of a request (struct cluster_call):
 *   1. cluster_call_start: the region cache says which region and store; else PD is asked
 *      (at most LOOKUPS_MAX questions at a time; the others wait and look into the cache again);
 *   2. it waits with its store until the end of the turn;
 *   3. methods->write cuts the request to the region and writes it; what is there goes out as
 *      messages of up to BATCH_MAX commands on the store's BatchCommands stream, or as a call of
 *      its own;
 *   4. methods->on_answer gets the answer, methods->on_failed an error that another attempt would
 *      not change.
 * Between 3 and 4: a region error or a broken connection is looked up in retry.h: what was wrong is
 * forgotten, the request waits, and goes back to 1. So a request that was cut for a region that no
 * longer is is cut anew.
 *
 * Failures: no PD: requests wait for it, trouble texts tell why; no memory: on_failed. Time limits
 * are the owner's: cluster_call_cancel.
 *
 * Thread: the loop's. tikv_cluster_run has to be called at the end of each turn.
 */
#ifndef CLIENT_TIKV_CLUSTER_H
#define CLIENT_TIKV_CLUSTER_H

#include "base/heap.h"
#include "client/tikv/pd_client.h"
#include "client/tikv/region_cache.h"
#include "client/tikv/retry.h"

#include <stdatomic.h>

#define LOOKUPS_MAX 16u
#define BATCH_MAX 128u
#define BATCH_BYTES_MAX (1024u * 1024)

struct tikv_cluster;
struct tikv_node;
struct cluster_call;

enum cluster_call_state {
    CALL_IDLE,
    CALL_UNLOCATED, /* waits for a question to PD to be free */
    CALL_LOOKUP,    /* PD is asked */
    CALL_QUEUED,    /* waits for its store */
    CALL_SENT,
    CALL_BACKOFF,
};

/* Where an attempt goes. */
struct call_place {
    const struct region *region; /* borrowed for the call; NULL: the call names its store */
    uint64_t max_execution_ms;
};

struct cluster_call_methods {
    /* Cuts the call to the region and appends the request to `message`: as it is, or as one command
     * of a BatchCommandsRequest. Returns 0, or an error and the message as it was. */
    int (*write)(struct cluster_call *call, const struct call_place *place, struct buf *message,
                 bool as_command);
    /* Reads an answer, and says what follows: cluster_call_end, cluster_call_on_region_error or
     * cluster_call_fail. */
    void (*on_answer)(struct cluster_call *call, kvs_slice body);
    /* call->maybe_done tells whether an attempt may have been carried out. */
    void (*on_failed)(struct cluster_call *call, int error, const char *why);
    /* The answer does not fit into one message: asks for less, or says false. May be NULL. */
    bool (*make_smaller)(struct cluster_call *call);
};

struct cluster_call {
    struct list node; /* of its state */
    struct heap_node timer;
    struct tikv_cluster *cluster;
    const struct cluster_call_methods *methods;
    char *message; /* of the operation, MESSAGE_SIZE bytes: why it is tried again */
    kvs_slice path;
    uint32_t command; /* its number in BatchCommands; 0: only as a call of its own */
    uint64_t deadline_ms;
    uint8_t state; /* enum cluster_call_state */
    bool below;    /* routed by the keys just below `key` */
    bool is_write;
    bool once;  /* an attempt that may have been carried out is the last one */
    bool alone; /* not on the stream: its answer may be large */
    bool maybe_done;
    uint8_t lookups; /* since the last time it was sent */
    struct backoff backoff;
    kvs_slice key; /* routes it; without the prefix unless key_is_full */
    bool key_is_full;
    uint64_t to_store; /* not 0: to this store, whatever the region; there is no key then */
    /* of the attempt */
    struct tikv_node *node_of_region;
    uint64_t region_id;
    uint64_t conf_ver;
    uint64_t version;
    uint64_t peer_id;
    uint64_t store_id;
    struct region_lookup *lookup;
    struct node_unary *unary;     /* sent as a call of its own */
    struct node_channel *channel; /* sent on a stream */
    uint32_t slot;                /* there */
};

#define MESSAGE_SIZE 160u

struct cluster_events {
    /* Once: 0 when requests can be made, else why not. */
    void (*on_first)(struct tikv_cluster *cluster, int error, const char *why);
    void (*on_closed)(struct tikv_cluster *cluster);
};

enum cluster_counter {
    COUNT_REQUESTS, /* attempts sent */
    COUNT_MESSAGES, /* BatchCommands messages */
    COUNT_LOOKUPS,  /* questions for a region */
    COUNT_RETRIES,
    COUNT_REGION_ERRORS,
    COUNT_LOSSES, /* connections to stores */
    CLUSTER_COUNTERS
};

struct tikv_cluster {
    struct pd_client pd;
    struct region_cache regions;
    struct loop *loop;
    kvs_thread_pool *pool;
    struct tls_context *tls_context;
    uint32_t connect_timeout_ms;
    const struct cluster_events *events;
    struct tikv_node *nodes;
    struct list arrivals;  /* struct cluster_call, to be routed in this turn */
    struct list unlocated; /* those that wait for a lookup to end */
    bool regions_changed;  /* they may look again */
    struct list lookups;   /* struct region_lookup */
    unsigned lookups_count;
    struct heap timers; /* of calls in CALL_BACKOFF */
    struct rand rand;
    struct buf scratch;   /* a routing key */
    struct buf message;   /* a BatchCommandsRequest */
    struct list channels; /* of node.c, not yet closed */
    bool pd_closed;
    bool closing;
    bool first_told;
    bool usable; /* PD and the keyspace were found: requests may be made */
    /* the keyspace */
    char keyspace[64]; /* name; "": API V1 */
    struct pd_request keyspace_request;
    char key_mode; /* of the keyspace's keys: raw or transactions */
    bool is_v2;
    bool bounds_are_encoded; /* of regions, in PD */
    uint32_t keyspace_id;
    uint8_t prefix[4];
    uint8_t prefix_end[4];
    atomic_ullong counters[CLUSTER_COUNTERS]; /* enum cluster_counter; read by other loops, too */
};

static inline void tikv_cluster_count(struct tikv_cluster *cluster, enum cluster_counter which,
                                      unsigned long long more)
{
    /* relaxed: nothing else follows from a number of the statistics. */
    atomic_fetch_add_explicit(&cluster->counters[which], more, memory_order_relaxed);
}

/* pd.members, keyspace and key_mode are set, the rest is zero. */
void tikv_cluster_init(struct tikv_cluster *cluster, struct loop *loop, kvs_thread_pool *pool,
                       struct tls_context *tls_context, uint32_t connect_timeout_ms,
                       const struct cluster_events *events);
void tikv_cluster_start(struct tikv_cluster *cluster);
/* Calls must have ended or been cancelled. on_closed comes in a later turn. */
void tikv_cluster_close(struct tikv_cluster *cluster);
void tikv_cluster_deinit(struct tikv_cluster *cluster);

void tikv_cluster_run(struct tikv_cluster *cluster, uint64_t now_ms);
uint64_t tikv_cluster_timer(const struct tikv_cluster *cluster);

/* Zeroed, with cluster, methods, message, path, command, key, deadline_ms set. It is routed at the
 * end of the turn; no method is called inside. */
void cluster_call_start(struct cluster_call *call);
/* No method will be called. True when the request may have been carried out by now. */
bool cluster_call_cancel(struct cluster_call *call);

/* What on_answer says. */
void cluster_call_end(struct cluster_call *call); /* it is the owner's again */
void cluster_call_on_region_error(struct cluster_call *call, kvs_slice error);
/* Calls on_failed. */
void cluster_call_fail(struct cluster_call *call, int error, const char *why);
/* "HOST:PORT" of whom it was sent to. */
const char *cluster_call_peer(const struct cluster_call *call, char name[LINK_NAME_SIZE]);

static inline kvs_slice tikv_cluster_prefix(const struct tikv_cluster *cluster)
{
    return slice_make(cluster->prefix, cluster->is_v2 ? sizeof cluster->prefix : 0);
}

/* Stores known, for statistics: calls `each` for all. */
void tikv_cluster_each_node(const struct tikv_cluster *cluster,
                            void (*each)(void *arg, uint64_t id, const char *address,
                                         bool connected),
                            void *arg);

#endif
