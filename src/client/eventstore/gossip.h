/*
 * client/eventstore/gossip.h: what a node says of its cluster, GET /gossip as JSON: newer and older
 * servers' words. No I/O; hostile text ends in an error. Any thread.
 */
#ifndef CLIENT_EVENTSTORE_GOSSIP_H
#define CLIENT_EVENTSTORE_GOSSIP_H

#include "base/rand.h"
#include "base/slice.h"

#include <kvs/events.h>

#define GOSSIP_MEMBERS_MAX 64u

struct gossip_node {
    char host[256];
    uint16_t port;
};

struct gossip_member {
    bool is_alive;
    bool may_serve;                /* by its state */
    unsigned rank;                 /* of its state: the higher, the nearer to leading */
    enum kvs_node_preference role; /* RANDOM: none of the three */
    struct gossip_node tcp;        /* port 0: it has none of the kind asked for */
    struct gossip_node http;
};

struct gossip {
    unsigned count;
    struct gossip_member members[GOSSIP_MEMBERS_MAX];
};

/* Returns 0, PROTOCOL (not that JSON, or more members than there may be), NO_MEMORY. */
int gossip_parse(kvs_slice json, bool is_tls, struct gossip *ret_gossip);

/* The member to connect to, or NULL. One like `failed` (may be NULL) is taken only when there is no
 * other. */
const struct gossip_member *gossip_choose(const struct gossip *gossip,
                                          enum kvs_node_preference preference,
                                          const struct gossip_node *failed, struct rand *rand);

#endif
