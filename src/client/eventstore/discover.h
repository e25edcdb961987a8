/*
 * client/eventstore/discover.h: to which node the next attempt goes.
 *
 * From a list: one after the other; the one that worked first. By gossip:
 *   1. the nodes known so far (the hosts given, and the members last heard of), in random order,
 *      are asked one by one who is in the cluster;
 *   2. the first answer that names a node to connect to decides; the one that has just failed is
 *      taken only when there is no other;
 *   3. nobody answered: again after interval_ms; after attempts_max rounds the attempt has failed.
 * A node that a redirect named goes before all that, once. Thread: the loop.
 */
#ifndef CLIENT_EVENTSTORE_DISCOVER_H
#define CLIENT_EVENTSTORE_DISCOVER_H

#include "client/eventstore/gossip.h"
#include "client/eventstore/http.h"

#define DISCOVER_NODES_MAX 32u
#define DISCOVER_WHY_SIZE 1024u

struct discover_config {
    const struct gossip_node *nodes; /* kept by the owner; 1 to DISCOVER_NODES_MAX */
    unsigned nodes_count;
    bool by_gossip; /* their ports speak HTTP */
    bool is_tls;
    struct tls_context *tls; /* for HTTP; kept by the owner */
    enum kvs_node_preference preference;
    uint32_t timeout_ms;
    uint32_t interval_ms;
    uint32_t attempts_max;
};

struct discover {
    const struct discover_config *config;
    struct loop *loop;
    kvs_thread_pool *pool;
    struct rand rand;
    struct link *link; /* that waits; NULL: none */
    unsigned next;     /* list: which node */
    bool has_preferred;
    bool has_tried;
    bool has_failed;
    struct gossip_node preferred;
    struct gossip_node tried; /* at last */
    struct gossip_node failed;
    struct gossip heard; /* at last */

    struct gossip_node candidates[DISCOVER_NODES_MAX + GOSSIP_MEMBERS_MAX];
    unsigned candidates_count;
    unsigned candidates_next;
    unsigned rounds;
    struct http_call http;
    bool asking;
    bool closing;
    char why[DISCOVER_WHY_SIZE]; /* of this round: each that was asked */
    int error;
    uv_timer_t timer;
    void (*closed)(struct discover *discover);
};

void discover_init(struct discover *discover, struct loop *loop, kvs_thread_pool *pool,
                   const struct discover_config *config);

/* In link_events.on_attempt, whose answer it gives. */
bool discover_next(struct discover *discover, struct link *link);

/* Adds what became of one more node; cut where there is no more room. */
void discover_add_why(char why[DISCOVER_WHY_SIZE], const char *more);

/* A node that is to be tried next. */
void discover_prefer(struct discover *discover, const char *host, uint16_t port);
/* Another node than the last one. False: there is none. */
bool discover_skip(struct discover *discover);

void discover_on_established(struct discover *discover);
/* An attempt failed, or a connection that was established broke. */
void discover_on_lost(struct discover *discover, bool was_established);

void discover_close(struct discover *discover, void (*closed)(struct discover *discover));

#endif
