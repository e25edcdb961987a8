/* server/pd_parts.h: what the files of the PD service share. */
#ifndef SERVER_PD_PARTS_H
#define SERVER_PD_PARTS_H

#include "pdpb.pb-c.h"
#include "server/advertise.h"
#include "server/pd_service.h"

#define PD_MEMBER_ID 1u
#define PD_MEMBER_NAME "kvs"

static inline struct cluster *pd_cluster(const struct rpc *rpc)
{
    return ((struct pd_service_loop *)rpc_state(rpc))->cluster;
}

static inline const struct connection *pd_asking(const struct rpc *rpc)
{
    return http_connection_of(rpc->connection);
}

static inline const struct region_list *pd_regions(struct rpc *rpc)
{
    return region_reader_list(&((struct pd_service_loop *)rpc_state(rpc))->regions);
}

static inline kvs_slice pd_slice(ProtobufCBinaryData bytes)
{
    return slice_make(bytes.data, bytes.len);
}

/* False: the request is meant for another cluster; it was answered. Without a header, or with id
 * 0, it may pass. */
bool pd_check_header(struct rpc *rpc, const Pdpb__RequestHeader *header);

/* An answer's header; the caller keeps the memory. */
Pdpb__ResponseHeader *pd_header(const struct rpc *rpc, Pdpb__ResponseHeader *header);

/* The same with an error in it. */
struct pd_error_header {
    Pdpb__ResponseHeader header;
    Pdpb__Error error;
};
Pdpb__ResponseHeader *pd_error_header(const struct rpc *rpc, struct pd_error_header *header,
                                      Pdpb__ErrorType type, const char *message);

/* Ends the call for an error of the engine, or for want of memory. */
void pd_fail(struct rpc *rpc, int error);

/* Where we are, for the one who asks: each "HOST:PORT"; the URL is "http://" or "https://" and PD's
 * place. */
#define PD_URL_SIZE (ADVERTISE_TEXT_SIZE + sizeof "https://")
struct pd_places {
    char pd[ADVERTISE_TEXT_SIZE];
    char pd_url[PD_URL_SIZE];
    char store[ADVERTISE_TEXT_SIZE];
    char status[ADVERTISE_TEXT_SIZE];
};
void pd_tell_places(const struct cluster *cluster, const struct connection *asking,
                    struct pd_places *ret_places);

/* pd_regions.c */
void pd_get_region(struct rpc *rpc, kvs_slice message);
void pd_get_prev_region(struct rpc *rpc, kvs_slice message);
void pd_get_region_by_id(struct rpc *rpc, kvs_slice message);
void pd_query_region(struct rpc *rpc, kvs_slice message);
void pd_scan_regions(struct rpc *rpc, kvs_slice message);
void pd_batch_scan_regions(struct rpc *rpc, kvs_slice message);
void pd_split_regions(struct rpc *rpc, kvs_slice message);
void pd_scatter_region(struct rpc *rpc, kvs_slice message);
void pd_get_operator(struct rpc *rpc, kvs_slice message);

/* pd_gc.c */
void pd_get_gc_safe_point(struct rpc *rpc, kvs_slice message);
void pd_update_gc_safe_point(struct rpc *rpc, kvs_slice message);
void pd_update_service_gc_safe_point(struct rpc *rpc, kvs_slice message);
void pd_get_gc_state(struct rpc *rpc, kvs_slice message);
void pd_advance_txn_safe_point(struct rpc *rpc, kvs_slice message);
void pd_advance_gc_safe_point(struct rpc *rpc, kvs_slice message);
void pd_set_gc_barrier(struct rpc *rpc, kvs_slice message);
void pd_delete_gc_barrier(struct rpc *rpc, kvs_slice message);

/* pd_meta.c */
void pd_load_keyspace(struct rpc *rpc, kvs_slice message);
void pd_load_keyspace_by_id(struct rpc *rpc, kvs_slice message);
void pd_meta_get(struct rpc *rpc, kvs_slice message);
void pd_etcd_member_list(struct rpc *rpc, kvs_slice message);
void pd_etcd_range(struct rpc *rpc, kvs_slice message);
void pd_etcd_put(struct rpc *rpc, kvs_slice message);

#endif
