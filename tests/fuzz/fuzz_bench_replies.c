/*
 * tests/fuzz/fuzz_bench_replies.c: kvs-bench's readers of replies.
 *
 * The first byte says which protocol (lowest bit) and into how large parts the rest is cut. What is
 * read in parts must be what is read at once, and never more may be kept than is promised.
 */
#include "base/buf.h"
#include "cli/bench/target.h"
#include "fuzz/target.h"

#include <stdlib.h>

enum { REPLIES_MAX = 4 };

struct reading {
    struct parser parser;
    struct buf carry;
    uint64_t replies;
    uint64_t outcomes; /* a sum over all replies, in which their order shows */
    int error;
};

static void feed(const struct target *target, struct reading *reading, const uint8_t *data,
                 size_t size)
{
    size_t at = 0, count, used;
    require(buf_append(&reading->carry, data, size) == 0);
    do {
        struct reply replies[REPLIES_MAX];
        reading->error =
            target->methods->parse(target, &reading->parser, reading->carry.data + at,
                                   reading->carry.size - at, replies, REPLIES_MAX, &count, &used);
        require(count <= REPLIES_MAX && used <= reading->carry.size - at);
        at += used;
        for (size_t i = 0; i < count; i++) {
            reading->replies++;
            reading->outcomes = reading->outcomes * 31 + replies[i].outcome;
            for (size_t k = 0; replies[i].text != NULL && k < replies[i].text_size; k++)
                reading->outcomes = reading->outcomes * 31 + replies[i].text[k];
        }
    } while (reading->error == 0 && count == REPLIES_MAX);
    buf_consume(&reading->carry, at);
    require(reading->error != 0 || reading->carry.size <= TARGET_CARRY_MAX);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size == 0)
        return 0;
    struct target target = {.methods = data[0] % 2 == 0 ? &target_redis : &target_kvs};
    struct reading whole = {.error = 0}, parts = {.error = 0};
    size_t step = data[0] / 2u + 1u;
    require(target_prepare(&target, 16, 100));
    data++;
    size--;
    feed(&target, &whole, data, size);
    for (size_t at = 0; at < size && parts.error == 0; at += step)
        feed(&target, &parts, data + at, size - at < step ? size - at : step);
    require(whole.error == parts.error);
    require(whole.replies == parts.replies && whole.outcomes == parts.outcomes);
    buf_deinit(&whole.carry);
    buf_deinit(&parts.carry);
    return 0;
}
