/* client/tikv/cluster_parts.h: what cluster.c (routing) and node.c (connections) know of each
 * other. */
#ifndef CLIENT_TIKV_CLUSTER_PARTS_H
#define CLIENT_TIKV_CLUSTER_PARTS_H

#include "client/tikv/cluster.h"

/* A store of TiKV. It stays as long as the cluster; its address and connection come and go. */
struct tikv_node {
    struct tikv_node *next;
    struct tikv_cluster *cluster;
    uint64_t id;
    struct pd_address address;
    bool has_address;
    bool asking; /* PD, for the address */
    struct pd_request ask;
    struct list calls;            /* struct cluster_call, queued */
    struct node_channel *channel; /* that takes calls; NULL: none */
    bool no_batch;                /* the store does not know BatchCommands */
};

/* Returns NULL for want of memory. */
struct tikv_node *node_get(struct tikv_cluster *cluster, uint64_t id);
void node_run(struct tikv_node *node, uint64_t now_ms);
void channels_run(struct tikv_cluster *cluster, uint64_t now_ms);
uint64_t channels_timer(const struct tikv_cluster *cluster);
void channels_close(struct tikv_cluster *cluster);
/* Its question to PD ends; it has no connection any more. */
void node_close(struct tikv_node *node);
/* Forgets the address: PD is asked again. */
void node_drop_address(struct tikv_node *node);

/* Takes a call out of whatever it was sent with. */
void node_forget_call(struct cluster_call *call);

/* --- what happens to calls; in cluster.c --- */

void cluster_call_on_status(struct cluster_call *call, const struct unary_result *result);
/* The store cannot be found or reached now. */
void cluster_call_on_no_store(struct cluster_call *call, enum backoff_kind kind, int error,
                              const char *why);
/* Appends the request, alone or as a command. Returns 0, or an error: then the call has failed or
 * waits again. */
int cluster_call_write(struct cluster_call *call, struct buf *message, bool as_command,
                       uint64_t now_ms);

/* Packs a message of PD into `body`. Returns 0 or NO_MEMORY. */
int pack_message(struct buf *body, const ProtobufCMessage *message);
void cluster_channel_gone(struct tikv_cluster *cluster);

#endif
