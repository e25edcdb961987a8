/* client/eventstore/gossip.c: see the header. */
#include "client/eventstore/gossip.h"

#include <jansson.h>
#include <stdio.h>

struct state {
    const char *name;
    unsigned rank;
    bool may_serve;
    enum kvs_node_preference role;
};

/* The words of version 20 and newer, then those before. */
static const struct state states[] = {
    {"initializing", 0, true, KVS_NODE_RANDOM},
    {"discoverleader", 1, true, KVS_NODE_RANDOM},
    {"unknown", 2, true, KVS_NODE_RANDOM},
    {"prereplica", 3, true, KVS_NODE_RANDOM},
    {"catchingup", 4, true, KVS_NODE_RANDOM},
    {"clone", 5, true, KVS_NODE_RANDOM},
    {"follower", 6, true, KVS_NODE_FOLLOWER},
    {"preleader", 7, true, KVS_NODE_RANDOM},
    {"leader", 8, true, KVS_NODE_LEADER},
    {"manager", 0, false, KVS_NODE_RANDOM},
    {"shuttingdown", 0, false, KVS_NODE_RANDOM},
    {"shutdown", 0, false, KVS_NODE_RANDOM},
    {"readonlyleaderless", 0, true, KVS_NODE_READ_ONLY_REPLICA},
    {"prereadonlyreplica", 0, true, KVS_NODE_RANDOM},
    {"readonlyreplica", 0, true, KVS_NODE_READ_ONLY_REPLICA},
    {"resigningleader", 0, true, KVS_NODE_RANDOM},
    {"slave", 6, true, KVS_NODE_FOLLOWER},
    {"premaster", 7, true, KVS_NODE_RANDOM},
    {"master", 8, true, KVS_NODE_LEADER},
};

static const struct state *state_of(const char *name)
{
    static const struct state other = {"", 0, false, KVS_NODE_RANDOM};
    for (size_t i = 0; i < sizeof states / sizeof states[0] && name != NULL; i++) {
        if (strcasecmp(states[i].name, name) == 0)
            return &states[i];
    }
    return &other;
}

static void take_node(json_t *member, const char *host_key, const char *port_key,
                      struct gossip_node *ret_node)
{
    const char *host = json_string_value(json_object_get(member, host_key));
    json_int_t port = json_integer_value(json_object_get(member, port_key));
    if (host == NULL || host[0] == '\0' || strlen(host) >= sizeof ret_node->host || port < 1 ||
        port > UINT16_MAX)
        return;
    snprintf(ret_node->host, sizeof ret_node->host, "%s", host);
    ret_node->port = (uint16_t)port;
}

static void take_member(json_t *json, bool is_tls, struct gossip_member *ret_member)
{
    const struct state *state = state_of(json_string_value(json_object_get(json, "state")));
    *ret_member = (struct gossip_member){
        .is_alive = json_is_true(json_object_get(json, "isAlive")),
        .may_serve = state->may_serve,
        .rank = state->rank,
        .role = state->role,
    };
    take_node(json, "externalTcpIp", is_tls ? "externalSecureTcpPort" : "externalTcpPort",
              &ret_member->tcp);
    take_node(json, "externalHttpIp", "externalHttpPort", &ret_member->http);
    take_node(json, "httpEndPointIp", "httpEndPointPort", &ret_member->http);
}

int gossip_parse(kvs_slice json, bool is_tls, struct gossip *ret_gossip)
{
    json_t *parsed = json_loadb((const char *)json.data, json.size, 0, NULL);
    json_t *members = json_object_get(parsed, "members");
    size_t count = json_array_size(members);
    bool ok = json_is_array(members) && count <= GOSSIP_MEMBERS_MAX;
    ret_gossip->count = 0;
    for (size_t i = 0; ok && i < count; i++)
        take_member(json_array_get(members, i), is_tls, &ret_gossip->members[i]);
    if (ok)
        ret_gossip->count = (unsigned)count;
    json_decref(parsed);
    return ok ? 0 : KVS_ERR_PROTOCOL;
}

static bool same_node(const struct gossip_node *a, const struct gossip_node *b)
{
    return a->port == b->port && strcmp(a->host, b->host) == 0;
}

/* Its worth under a preference; 0: it cannot be taken. */
static unsigned worth(const struct gossip_member *member, enum kvs_node_preference preference,
                      const struct gossip_node *failed)
{
    if (!member->is_alive || !member->may_serve || member->tcp.port == 0)
        return 0;
    unsigned points = 1 + (preference == KVS_NODE_RANDOM ? 0 : member->rank);
    if (preference != KVS_NODE_RANDOM && member->role == preference)
        points += 100;
    if (failed == NULL || !same_node(&member->tcp, failed))
        points += 1000;
    return points;
}

const struct gossip_member *gossip_choose(const struct gossip *gossip,
                                          enum kvs_node_preference preference,
                                          const struct gossip_node *failed, struct rand *rand)
{
    const struct gossip_member *best = NULL;
    unsigned best_points = 0;
    unsigned equals = 0;
    for (unsigned i = 0; i < gossip->count; i++) {
        unsigned points = worth(&gossip->members[i], preference, failed);
        if (points == 0 || points < best_points)
            continue;
        equals = points > best_points ? 1 : equals + 1;
        best_points = points;
        if (equals == 1 || rand_below(rand, equals) == 0) /* each of the equals as likely */
            best = &gossip->members[i];
    }
    return best;
}
