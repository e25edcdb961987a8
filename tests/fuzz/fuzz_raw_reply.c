/*
 * Answers of a TiKV store as the client takes them apart: any bytes as a BatchCommandsResponse, and
 * as the body of each kind of answer. What is read must lie in what was given. The raw error text
 * and a region error are decided about, too.
 */
#include "client/tikv/retry.h"
#include "fuzz/target.h"
#include "proto/tikv/raw_request.h"

#include <kvs/error.h>
#include <stdlib.h>

static void within(kvs_slice inner, kvs_slice outer)
{
    require(inner.size == 0 || (inner.data >= outer.data && inner.size <= outer.size &&
                                inner.data + inner.size <= outer.data + outer.size));
}

static void decide(kvs_slice bytes)
{
    Errorpb__Error *error = errorpb__error__unpack(NULL, bytes.size, bytes.data);
    if (error == NULL)
        return;
    struct retry_decision decision = retry_on_region_error(error);
    require(decision.error < 0 && decision.reason != NULL);
    require(!decision.take_leader || error->not_leader->leader != NULL);
    require(!decision.take_regions || error->epoch_not_match->n_current_regions > 0);
    errorpb__error__free_unpacked(error, NULL);
}

static void read_body(enum raw_kind kind, kvs_slice body, kvs_slice prefix)
{
    struct raw_reply reply;
    struct raw_pair pair;
    int more;
    int error = raw_reply_read(kind, body, &reply);
    if (error != 0) {
        require(error == KVS_ERR_PROTOCOL);
        return;
    }
    within(reply.region_error, body);
    within(reply.error, body);
    within(reply.value, body);
    if (reply.has_region_error)
        decide(reply.region_error);
    if (reply.error.size > 0)
        require(retry_error_of_text((const char *)reply.error.data, reply.error.size) < 0);
    while ((more = raw_reply_next_pair(&reply, prefix, &pair)) > 0) {
        within(pair.key, body);
        within(pair.value, body);
    }
    require(more == 0 || more == KVS_ERR_PROTOCOL);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size == 0)
        return 0;
    kvs_slice prefix = slice_make("r\0\0\0", data[0] % 2 == 0 ? 4 : 0);
    kvs_slice bytes = slice_make(data + 1, size - 1);
    for (unsigned kind = 0; kind < RAW_KINDS; kind++)
        read_body((enum raw_kind)kind, bytes, prefix);
    struct raw_batch_reply batch;
    uint64_t id;
    kvs_slice body;
    uint32_t command;
    int more;
    raw_batch_reply_begin(&batch, bytes);
    while ((more = raw_batch_reply_next(&batch, &id, &body, &command)) > 0) {
        within(body, bytes);
        for (unsigned kind = 0; kind < RAW_KINDS; kind++) {
            if (command != 0 && raw_command_number((enum raw_kind)kind) == command)
                read_body((enum raw_kind)kind, body, prefix);
        }
    }
    require(more == 0 || more == KVS_ERR_PROTOCOL);
    return 0;
}
