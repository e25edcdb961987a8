/* events_served.h: the contract of event streams through a kvs-server in this process. */
#ifndef TESTS_UNIT_CLIENT_EVENTS_SERVED_H
#define TESTS_UNIT_CLIENT_EVENTS_SERVED_H

enum events_way {
    EVENTS_BY_TCP,
    EVENTS_BY_GOSSIP, /* over TCP to the node that the server's gossip names */
    EVENTS_BY_TLS,    /* the same with TLS everywhere */
};

/* Runs the list; the exit status of a test program. */
int events_served_main(enum events_way way);

#endif
