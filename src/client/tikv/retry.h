/*
 * client/tikv/retry.h: what to do about a request that failed. Pure: errors in, decisions out.
 *
 * The rules are client-go's. A region error says that the request was not carried out (but for
 * UndeterminedResult); a failed connection leaves it open. How long to wait: client/backoff.h.
 */
#ifndef CLIENT_TIKV_RETRY_H
#define CLIENT_TIKV_RETRY_H

#include "client/backoff.h"
#include "errorpb.pb-c.h"

#include <stdbool.h>
#include <stdint.h>

#define RETRY_AT_ONCE_MAX 3u /* attempts in a row without a wait */

enum retry_what {
    RETRY_AT_ONCE, /* as often as RETRY_AT_ONCE_MAX; then as RETRY_AFTER */
    RETRY_AFTER,   /* after a wait of `backoff` */
    RETRY_NEVER,   /* `error` is the outcome */
};

struct retry_decision {
    enum retry_what what;
    enum backoff_kind backoff;
    uint64_t at_least_ms;
    bool drop_region;   /* what the cache says is wrong */
    bool drop_store;    /* the store's address, too */
    bool switch_peer;   /* ask another one of the region's peers */
    bool take_regions;  /* of epoch_not_match */
    bool take_leader;   /* of not_leader */
    bool maybe_done;    /* this attempt may have been carried out */
    int error;          /* RETRY_NEVER, and when the budget is used up */
    const char *reason; /* static, for a person */
};

struct retry_decision retry_on_region_error(const Errorpb__Error *error);

/* A call or its connection failed with a status of gRPC. from_peer: the server itself said so. */
struct retry_decision retry_on_status(int code, bool from_peer, bool not_processed);

/* TiKV's text for a raw request that it will not carry out, as a code. */
int retry_error_of_text(const char *text, size_t size);

#endif
