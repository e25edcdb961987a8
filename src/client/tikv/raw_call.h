/*
 * client/tikv/raw_call.h: one request of TiKV's raw API to one region: a struct cluster_call whose
 * message is a struct raw_request.
 *
 *   1. raw_call_start; the cluster finds the region;
 *   2. methods->fit cuts the request to the region and fills in what it says;
 *   3. methods->on_reply gets the answer, methods->on_failed an error that another attempt would
 *      not change.
 * A request that is cut for a region that no longer is is cut anew: 2 again. Thread: the loop's.
 */
#ifndef CLIENT_TIKV_RAW_CALL_H
#define CLIENT_TIKV_RAW_CALL_H

#include "client/tikv/cluster.h"
#include "proto/tikv/raw_request.h"

struct raw_call;

struct raw_call_methods {
    /* Returns 0 or an error. */
    int (*fit)(struct raw_call *call, const struct region *region, struct raw_request *request);
    void (*on_reply)(struct raw_call *call, struct raw_reply *reply);
    /* call->base.maybe_done tells whether an attempt may have been carried out. */
    void (*on_failed)(struct raw_call *call, int error, const char *why);
};

struct raw_call {
    struct cluster_call base;
    const struct raw_call_methods *methods;
    uint8_t kind;        /* enum raw_kind */
    struct list op_node; /* the owner's, as all below */
    void *op;
    uint8_t family;
    uint32_t from, to;       /* of a batch */
    kvs_slice end;           /* of a range, full */
    struct buf bounds;       /* memory of key and end */
    struct buf region_bound; /* where the request was cut */
    uint32_t limit;
};

/* Zeroed, with methods, kind and of base cluster, message, key, deadline_ms set. No method is
 * called inside. */
void raw_call_start(struct raw_call *call);
/* No method will be called. True when something may have been written by now. */
bool raw_call_cancel(struct raw_call *call);

#endif
