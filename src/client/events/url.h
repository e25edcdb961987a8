/* client/events/url.h: what a URL of event streams says; see kvs/events.h for the forms. */
#ifndef CLIENT_EVENTS_URL_H
#define CLIENT_EVENTS_URL_H

#include "client/eventstore/gossip.h"

#define EVENTS_URL_NODES_MAX 32u
#define EVENTS_URL_TEXT_SIZE 512u

enum events_url_scheme {
    EVENTS_URL_LOG,
    EVENTS_URL_ROCKSDB,
    EVENTS_URL_MEMORY,
    EVENTS_URL_ESDB,
    EVENTS_URL_DISCOVER,
};

struct events_url {
    enum events_url_scheme scheme;
    char path[4096]; /* log:, rocksdb: */
    unsigned nodes_count;
    struct gossip_node nodes[EVENTS_URL_NODES_MAX];
    char login[256]; /* "": none */
    char password[256];
    char tls_ca[EVENTS_URL_TEXT_SIZE];
    char connection_name[EVENTS_URL_TEXT_SIZE];
};

/* Parses, and sets in `options` what the URL's query says; strings there then point into ret_url.
 * Returns 0, or INVALID_ARGUMENT with a line for a person, at most `size` bytes. */
int events_url_parse(const char *text, struct events_url *ret_url,
                     struct kvs_events_options *options, char *ret_why, size_t size);

#endif
