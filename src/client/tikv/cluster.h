/*
 * client/tikv/cluster.h: a TiKV cluster as seen from one loop: where each key lives, a connection
 * to each store, and requests on their way.
 *
 * The life of a request (struct raw_call):
 *   1. raw_call_start: the region cache says which region and store; when it does not, PD is asked
 *      (at most LOOKUPS_MAX questions at a time; the others wait and look into the cache again);
 *   2. methods->fit cuts the request to the region;
 *   3. it waits with its store until the end of the turn; what is there then goes out as messages
 *      of up to BATCH_MAX commands on the store's BatchCommands stream, or as a call of its own;
 *   4. methods->on_reply gets the answer, methods->on_failed an error that another attempt would
 *      not change.
 * Between 3 and 4: a region error or a broken connection is looked up in retry.h: what was wrong is
 * forgotten, the request waits, and goes back to 1. So a request that was cut for a region that no
 * longer is is cut anew.
 *
 * Failures: no PD: requests wait for it, trouble texts tell why; no memory: on_failed. Time limits
 * are the owner's: raw_call_cancel.
 *
 * Thread: the loop's. tikv_cluster_run has to be called at the end of each turn.
 */
#ifndef CLIENT_TIKV_CLUSTER_H
#define CLIENT_TIKV_CLUSTER_H

#include "base/heap.h"
#include "client/tikv/pd_client.h"
#include "client/tikv/region_cache.h"
#include "client/tikv/retry.h"
#include "proto/tikv/raw_request.h"

#define LOOKUPS_MAX 16u
#define BATCH_MAX 128u
#define BATCH_BYTES_MAX (1024u * 1024)

struct tikv_cluster;
struct tikv_node;
struct raw_call;

enum raw_call_state {
    CALL_IDLE,
    CALL_UNLOCATED, /* waits for a question to PD to be free */
    CALL_LOOKUP,    /* PD is asked */
    CALL_QUEUED,    /* waits for its store */
    CALL_SENT,
    CALL_BACKOFF,
};

struct raw_call_methods {
    /* Cuts the call to the region, fills in the request. Returns 0 or an error. */
    int (*fit)(struct raw_call *call, const struct region *region, struct raw_request *request);
    void (*on_reply)(struct raw_call *call, struct raw_reply *reply);
    /* call->maybe_done tells whether an attempt may have been carried out. */
    void (*on_failed)(struct raw_call *call, int error, const char *why);
};

struct raw_call {
    struct list node; /* of its state */
    struct heap_node timer;
    struct tikv_cluster *cluster;
    const struct raw_call_methods *methods;
    char *message; /* of the operation, MESSAGE_SIZE bytes: why it is tried again */
    uint64_t deadline_ms;
    uint8_t state; /* enum raw_call_state */
    uint8_t kind;  /* enum raw_kind */
    bool below;    /* routed by the keys just below `key` */
    bool maybe_done;
    bool alone;      /* not on the stream: its answer may be large */
    uint8_t lookups; /* since the last time it was sent */
    struct backoff backoff;
    kvs_slice key; /* routes it; without the prefix unless key_is_full */
    bool key_is_full;
    /* of the attempt */
    struct tikv_node *node_of_region;
    uint64_t region_id;
    uint64_t conf_ver;
    uint64_t version;
    uint64_t peer_id;
    uint64_t store_id;
    struct region_lookup *lookup;
    struct raw_unary *unary;      /* sent as a call of its own */
    struct node_channel *channel; /* sent on a stream */
    uint32_t slot;                /* there */
    struct list op_node;          /* the owner's, as all below */
    void *op;
    uint8_t family;
    uint32_t from, to;       /* of a batch */
    kvs_slice end;           /* of a range, full */
    struct buf bounds;       /* memory of key and end */
    struct buf region_bound; /* where the request was cut */
    uint32_t limit;
};

#define MESSAGE_SIZE 160u

struct cluster_events {
    /* Once: 0 when requests can be made, else why not. */
    void (*on_first)(struct tikv_cluster *cluster, int error, const char *why);
    void (*on_closed)(struct tikv_cluster *cluster);
};

struct cluster_counters {
    uint64_t requests; /* attempts sent */
    uint64_t messages; /* BatchCommands messages */
    uint64_t lookups;  /* questions for a region */
    uint64_t retries;
    uint64_t region_errors;
    uint64_t losses; /* connections to stores */
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
    struct list arrivals;  /* struct raw_call, to be routed in this turn */
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
    bool is_v2;
    uint32_t keyspace_id;
    uint8_t prefix[4];
    uint8_t prefix_end[4];
    struct cluster_counters counters;
};

/* pd.members is set, the rest is zero but for keyspace. */
void tikv_cluster_init(struct tikv_cluster *cluster, struct loop *loop, kvs_thread_pool *pool,
                       struct tls_context *tls_context, uint32_t connect_timeout_ms,
                       const struct cluster_events *events);
void tikv_cluster_start(struct tikv_cluster *cluster);
/* Calls must have ended or been cancelled. on_closed comes in a later turn. */
void tikv_cluster_close(struct tikv_cluster *cluster);
void tikv_cluster_deinit(struct tikv_cluster *cluster);

void tikv_cluster_run(struct tikv_cluster *cluster, uint64_t now_ms);
uint64_t tikv_cluster_timer(const struct tikv_cluster *cluster);

/* Zeroed, with cluster, methods, message, kind, key, deadline_ms set. It is routed at the end of
 * the turn; no method is called inside. */
void raw_call_start(struct raw_call *call);
/* No method will be called. True when the request may have been carried out by now. */
bool raw_call_cancel(struct raw_call *call);

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
