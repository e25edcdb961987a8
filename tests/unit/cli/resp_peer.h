/*
 * tests/unit/cli/resp_peer.h: a small server of redis' protocol on its own thread; can be told to
 * misbehave. It knows PING, SET and GET, and of values only that they are there.
 */
#ifndef TESTS_UNIT_CLI_RESP_PEER_H
#define TESTS_UNIT_CLI_RESP_PEER_H

#include <pthread.h>
#include <stdint.h>

enum { PEER_KEYS_MAX = 4096, PEER_CONNECTIONS_MAX = 256 };

enum peer_manner {
    PEER_HONEST,
    PEER_REFUSES, /* answers with an error */
    PEER_BABBLES, /* answers with what is no protocol */
    PEER_LEAVES,  /* closes instead of answering */
    PEER_SILENT,  /* never answers */
    PEER_ECHOES,  /* answers every request twice */
};

struct resp_peer {
    enum peer_manner manner;
    uint64_t honest_max;          /* requests answered before the manner shows; PINGs not counted */
    uint32_t sets[PEER_KEYS_MAX]; /* of the key with this number at its end */
    uint32_t gets[PEER_KEYS_MAX];
    uint64_t requests;
    uint32_t connections; /* that were greeted */
    uint16_t port;
    int listener, stop[2];
    pthread_t thread;
};

/* All numbers may be read after the stop. A failure ends the test. */
void resp_peer_start(struct resp_peer *peer, enum peer_manner manner, uint64_t honest_max);
void resp_peer_stop(struct resp_peer *peer);

#endif
