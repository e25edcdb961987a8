/*
 * proto/foreign.h: a peer that speaks another protocol than the port it came to: somebody mixed up
 * two ports, or clear text and TLS. Its first bytes tell; it gets an answer that its own program
 * shows to that somebody.
 *
 * No I/O, no state. Thread: any.
 */
#ifndef PROTO_FOREIGN_H
#define PROTO_FOREIGN_H

#include "base/buf.h"

enum foreign {
    FOREIGN_UNKNOWN, /* none of these, or too few bytes to tell */
    FOREIGN_TLS,
    FOREIGN_HTTP,  /* 1.x */
    FOREIGN_HTTP2, /* and with it gRPC */
    FOREIGN_REDIS,
    FOREIGN_KVS,
    FOREIGN_EVENTSTORE,
};

/* What the first bytes of a connection are the begin of. Who asks knows what is not foreign. */
enum foreign foreign_recognise(kvs_slice first);

/* For a log line: "HTTP". */
const char *foreign_name(enum foreign foreign);

/* Appends an answer in that protocol's words (in clear text to those who know none), after which
 * the connection is to be closed. `here`: what the port speaks, "the kvs protocol". Returns 0 or
 * NO_MEMORY. */
int foreign_answer(enum foreign foreign, const char *here, struct buf *out);

#endif
