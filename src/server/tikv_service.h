/*
 * server/tikv_service.h: the TiKV service: tikvpb.Tikv, on the store's port.
 *
 * The life of a message, which is a unary call or what one BatchCommands message brought:
 *   1. it is decoded into an arena that is its own until its last command is answered;
 *   2. each command is checked: cluster, API version, keys, then the region as TiKV does it;
 *   3. reads of data in memory are answered on the spot, from one view for the message; others, and
 *      long ones, run on the engine's pool; writes of all messages of a turn go to the engine as
 *      one chain;
 *   4. answers of a turn to one BatchCommands stream leave as one message, in any order.
 *
 * Failures: a region error, an error text in the answer, or a gRPC status, as in
 * docs/protocol/tikv.md. Too much under way: the region error ServerIsBusy.
 *
 * One part on each loop, which is the state (rpc_state) of the methods there.
 */
#ifndef SERVER_TIKV_SERVICE_H
#define SERVER_TIKV_SERVICE_H

#include "base/heap.h"
#include "pd/cluster.h"
#include "server/grpc_service.h"
#include "server/storage_note.h"
#include "server/tikv_reads.h"

struct tikv_replies;
struct txn_node;

struct tikv_service {
    struct cluster *cluster;
    struct engine *engine;
    struct txn_node *txn;
    uint32_t value_size_max;
    struct rope_budget answers; /* of long reads, from when they are begun until they have left */
    size_t answer_size_max;     /* of one of them */
    struct storage_notes storage_notes;
    _Atomic uint64_t feedbacks; /* sequence number of health feedback */
};

struct tikv_service_loop {
    struct tikv_service *service;
    struct loop *loop;
    struct region_reader regions;
    struct loop_hook flush;
    struct task_list writes; /* gathered in this turn */
    struct task_list txns;   /* likewise, for the node of transactions */
    size_t writes_bytes;     /* under way */
    struct tikv_reads reads; /* that the loop does not do itself */
    struct buf scratch;      /* one answer, until it is copied to where it goes */

    struct tikv_replies *dirty; /* streams with answers of this turn */
    struct tikv_replies *spare;

    struct heap delayed; /* commands that asked for it */
    uv_timer_t delay_timer;
    bool closing;

    uv_timer_t outage_timer;     /* of test faults */
    struct grpc_port_loop *port; /* whose connections they break; NULL: none */
};

/* Bounds what long reads may take: as much as all connections may hold (connections_share). */
void tikv_service_bound_answers(struct tikv_service *service, uint64_t memory_bytes_max);

extern const struct rpc_method tikv_methods[];
extern const size_t tikv_methods_count;

/* On a loop that is not started. */
void tikv_service_loop_init(struct tikv_service_loop *at, struct tikv_service *service,
                            struct loop *loop);
/* Commands that asked for a delay are answered now, and from now on at once. */
void tikv_service_loop_drain(struct tikv_service_loop *at);
/* Its handles begin to close; on the loop's thread, when no connection is left. */
void tikv_service_loop_close(struct tikv_service_loop *at);
void tikv_service_loop_deinit(struct tikv_service_loop *at);

#endif
