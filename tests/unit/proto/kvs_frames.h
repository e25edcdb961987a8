/* Random but valid requests and replies for the tests of the kvs codec; the seed makes them. */
#ifndef TESTS_UNIT_PROTO_KVS_FRAMES_H
#define TESTS_UNIT_PROTO_KVS_FRAMES_H

#include "base/rand.h"
#include "proto/kvs/wire.h"

#define FRAMES_COUNT_MAX 6u
#define FRAMES_BYTES 64u

extern const struct wire_limits frames_limits;

/* An op and everything it points to. */
struct random_op {
    kvs_op op;
    uint8_t bytes[FRAMES_COUNT_MAX * 4][FRAMES_BYTES];
    kvs_slice keys[FRAMES_COUNT_MAX];
    kvs_mutation mutations[FRAMES_COUNT_MAX];
    kvs_pair pairs[FRAMES_COUNT_MAX];
    unsigned bytes_used;
};

void random_request(struct random_op *random, struct rand *rand);
/* Gives the results that fit the request. */
void random_reply(struct random_op *random, struct rand *rand);

#endif
