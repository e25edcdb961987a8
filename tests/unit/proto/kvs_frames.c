/* See kvs_frames.h. */
#include "kvs_frames.h"

#include <stdio.h>

const struct wire_limits frames_limits = {
    .key_size_max = 40,
    .value_size_max = 60,
    .body_size_max = 4096,
    .batch_count_max = 64,
    .in_flight_max = 8,
    .scans_max = 2,
    .page_size = 1024,
    .in_flight_bytes_max = 4096,
};

static kvs_slice random_bytes(struct random_op *random, struct rand *rand, size_t min, size_t max)
{
    size_t size = min + (size_t)rand_below(rand, max - min + 1);
    uint8_t *bytes = random->bytes[random->bytes_used++];
    for (size_t i = 0; i < size; i++)
        bytes[i] = (uint8_t)rand_u64(rand);
    return slice_make(bytes, size);
}

static kvs_slice random_key(struct random_op *random, struct rand *rand)
{
    return random_bytes(random, rand, 1, frames_limits.key_size_max);
}

static kvs_slice random_value(struct random_op *random, struct rand *rand)
{
    return random_bytes(random, rand, 0, frames_limits.value_size_max);
}

static kvs_mutation random_mutation(struct random_op *random, struct rand *rand)
{
    kvs_mutation mutation = {
        .kind = (uint8_t)(1 + rand_below(rand, 3)),
        .family = (uint8_t)rand_below(rand, 16),
        .key = random_key(random, rand),
    };
    if (mutation.kind == KVS_MUTATION_SET) {
        mutation.value = random_value(random, rand);
        mutation.ttl_ms = rand_below(rand, 2) * rand_below(rand, 100000);
    } else if (mutation.kind == KVS_MUTATION_REMOVE_RANGE) {
        mutation.value = random_bytes(random, rand, 0, frames_limits.key_size_max);
    }
    return mutation;
}

static void random_set(struct random_op *random, struct rand *rand)
{
    kvs_op *op = &random->op;
    op->key = random_key(random, rand);
    op->value = random_value(random, rand);
    op->ttl_ms = rand_below(rand, 2) * rand_below(rand, 100000);
    if (op->kind != KVS_OP_CAS)
        return;
    if (rand_below(rand, 2) == 0)
        op->flags = KVS_OP_FLAG_EXPECT_ABSENT;
    else
        op->expected = random_value(random, rand);
}

static void random_range(struct random_op *random, struct rand *rand)
{
    kvs_op *op = &random->op;
    op->key = random_bytes(random, rand, 0, frames_limits.key_size_max);
    op->end_key = random_bytes(random, rand, 0, frames_limits.key_size_max);
    if (op->kind != KVS_OP_SCAN)
        return;
    op->limit = (uint32_t)rand_u64(rand);
    op->flags = (uint16_t)(rand_below(rand, 4) | (rand_below(rand, 2) != 0 ? KVS_OP_FLAG_PAGE : 0));
}

void random_request(struct random_op *random, struct rand *rand)
{
    kvs_op *op = &random->op;
    random->bytes_used = 0;
    *op = KVS_OP_INIT;
    op->kind = (uint8_t)(KVS_OP_GET + rand_below(rand, KVS_OP_CHECKPOINT));
    op->family = (uint8_t)rand_below(rand, 16);
    op->timeout_ms = (uint32_t)rand_u64(rand);
    switch (op->kind) {
    case KVS_OP_GET:
    case KVS_OP_EXISTS:
    case KVS_OP_REMOVE:
    case KVS_OP_TTL:
    case KVS_OP_CHECKPOINT:
        op->key = random_key(random, rand);
        break;
    case KVS_OP_SET:
    case KVS_OP_CAS:
        random_set(random, rand);
        break;
    case KVS_OP_BATCH_GET:
        op->count = (uint32_t)rand_below(rand, FRAMES_COUNT_MAX + 1);
        op->keys = random->keys;
        for (uint32_t i = 0; i < op->count; i++)
            random->keys[i] = random_key(random, rand);
        break;
    case KVS_OP_BATCH_WRITE:
        op->count = (uint32_t)rand_below(rand, FRAMES_COUNT_MAX + 1);
        op->mutations = random->mutations;
        for (uint32_t i = 0; i < op->count; i++)
            random->mutations[i] = random_mutation(random, rand);
        break;
    case KVS_OP_SCAN:
    case KVS_OP_COUNT:
    case KVS_OP_CHECKSUM:
    case KVS_OP_REMOVE_RANGE:
        random_range(random, rand);
        break;
    default:
        break;
    }
}

static void random_pairs(struct random_op *random, struct rand *rand)
{
    kvs_op *op = &random->op;
    bool scan = op->kind == KVS_OP_SCAN;
    op->pairs = random->pairs;
    op->pairs_count = scan ? rand_below(rand, FRAMES_COUNT_MAX + 1) : op->count;
    op->more = scan && rand_below(rand, 2) != 0;
    for (size_t i = 0; i < op->pairs_count; i++) {
        kvs_pair *pair = &op->pairs[i];
        *pair = (kvs_pair){.found = scan || rand_below(rand, 3) != 0};
        pair->key = scan ? random_key(random, rand) : op->keys[i];
        if (pair->found)
            pair->value = random_value(random, rand);
    }
}

void random_reply(struct random_op *random, struct rand *rand)
{
    kvs_op *op = &random->op;
    if (rand_below(rand, 4) == 0) {
        op->error = -(int)(1 + rand_below(rand, 25));
        if (op->kind == KVS_OP_CAS && op->error == KVS_ERR_CONDITION_FAILED) {
            op->number = (int64_t)rand_below(rand, 2);
            op->result = random_value(random, rand);
        } else {
            snprintf(op->message, sizeof op->message, "text %u", (unsigned)rand_u64(rand));
        }
        return;
    }
    switch (op->kind) {
    case KVS_OP_GET:
    case KVS_OP_STATS:
        op->result = random_value(random, rand);
        break;
    case KVS_OP_EXISTS:
        op->number = (int64_t)rand_below(rand, 2);
        break;
    case KVS_OP_CHECKSUM:
        op->result = random_bytes(random, rand, 24, 24);
        break;
    case KVS_OP_COUNT:
    case KVS_OP_TTL:
    case KVS_OP_REMOVE_RANGE:
        op->number = (int64_t)(rand_u64(rand) >> 1);
        break;
    case KVS_OP_BATCH_GET:
    case KVS_OP_SCAN:
        random_pairs(random, rand);
        break;
    default:
        break;
    }
}
