/*
 * bench/micro/kvs_codec.c: what decoding and encoding the kvs protocol cost on one core, and what
 * it would cost to have another thread do it.
 *
 *   kvs_codec [SECONDS [BYTES]]      seconds of each measurement (0.5), bytes of a value (100)
 *
 * The crossing is measured as a task that goes from one loop to another and back: alone, when both
 * sleep in between, and as chains of 64, one wake-up each way for all.
 */
#include "base/clock.h"
#include "proto/kvs/client_session.h"
#include "proto/kvs/server_session.h"
#include "runtime/loop.h"
#include "usage.h"

#include <stdio.h>
#include <stdlib.h>

#define REQUESTS 64u

static const struct server_session_options options = {
    .limits = {.key_size_max = 8192,
               .value_size_max = 16u << 20,
               .body_size_max = 64u << 20,
               .batch_count_max = 65536,
               .in_flight_max = 4096,
               .scans_max = 64,
               .page_size = 1u << 20,
               .in_flight_bytes_max = 64u << 20},
    .unwritten_bytes_max = 64u << 20,
};

static uint64_t run_ns;
static uint8_t value[1u << 20];
static size_t value_size = 100;
static struct buf requests, replies;
static struct server_session server;

static void require(bool holds)
{
    if (!holds)
        abort();
}

static void measure(const char *what, void (*run)(void))
{
    uint64_t begin = clock_now_ns(), now = begin, count = 0;
    while (now - begin < run_ns) {
        for (int i = 0; i < 100; i++)
            run();
        count += 100 * REQUESTS;
        now = clock_now_ns();
    }
    printf("%-44s %8.1f ns\n", what, (double)(now - begin) / (double)count);
}

static void make_requests(uint8_t kind)
{
    buf_clear(&requests);
    for (uint32_t i = 0; i < REQUESTS; i++) {
        kvs_op op = {.kind = kind, .key = slice_make("key0000000000001", 16)};
        if (kind == KVS_OP_SET)
            op.value = slice_make(value, value_size);
        require(wire_request_encode(&op, i, 0, &requests) == 0);
    }
}

static void make_gets(void)
{
    make_requests(KVS_OP_GET);
}

static void make_sets(void)
{
    make_requests(KVS_OP_SET);
}

static void take_requests(void)
{
    struct server_session_input input;
    kvs_slice rest = buf_slice(&requests);
    static kvs_op op;
    const char *why;
    while (server_session_next(&server, rest, 1, &replies, &input) == SERVER_SESSION_REQUEST) {
        require(wire_request_decode(&input.frame, &options.limits, &op, NULL, NULL, &why) == 0);
        rest = slice_make(rest.data + input.taken, rest.size - input.taken);
    }
    require(rest.size == 0);
}

static void make_replies(void)
{
    buf_clear(&replies);
    for (uint32_t i = 0; i < REQUESTS; i++)
        require(wire_reply_value(KVS_OP_GET, i, slice_make(value, value_size), &replies) == 0);
}

static void take_replies(void)
{
    static kvs_op op = {.kind = KVS_OP_GET};
    struct wire_frame frame;
    kvs_slice rest = buf_slice(&replies);
    while (wire_frame_decode(rest, UINT32_MAX >> 2, &frame) == 0) {
        size_t size = WIRE_HEADER_SIZE + frame.body.size;
        require(wire_reply_decode(&frame, &op, NULL) == 0);
        rest = slice_make(rest.data + size, rest.size - size);
    }
    require(rest.size == 0);
}

/* --- crossing threads ---- */

static struct loop loops[2];
static struct crossing {
    struct task task;
    unsigned at; /* which loop it is on */
} crossings[REQUESTS];
static unsigned in_chain, gathered[2];
static struct task_list chains[2];
static uint64_t rounds;
static _Atomic bool enough;

/* Gathers what came; the last of a chain sends all of it back. */
static void on_crossed(struct task *task)
{
    struct crossing *crossing = CONTAINER_OF(task, struct crossing, task);
    unsigned here = crossing->at;
    crossing->at = 1 - here;
    task_list_push(&chains[here], task);
    if (++gathered[here] < in_chain)
        return;
    gathered[here] = 0;
    rounds += here == 0;
    if (here == 0 && enough)
        return;
    loop_post_list(&loops[1 - here], &chains[here]);
}

static void measure_crossing(const char *what, unsigned chain)
{
    in_chain = chain;
    rounds = 0;
    enough = false;
    struct task_list list = {0};
    for (unsigned i = 0; i < chain; i++) {
        crossings[i] = (struct crossing){.task.run = on_crossed, .at = 1};
        task_list_push(&list, &crossings[i].task);
    }
    for (unsigned i = 0; i < 2; i++)
        require(loop_init(&loops[i], i) == 0 && loop_start(&loops[i], "crossing") == 0);
    uint64_t begin = clock_now_ns();
    loop_post_list(&loops[1], &list);
    while (clock_now_ns() - begin < run_ns)
        nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
    uint64_t taken_ns = clock_now_ns() - begin;
    enough = true; /* the chain ends when it next comes to loop 0 */
    nanosleep(&(struct timespec){.tv_nsec = 50000000}, NULL);
    loop_stop(&loops[0]);
    loop_stop(&loops[1]);
    printf("%-44s %8.1f ns\n", what, (double)taken_ns / ((double)rounds * chain));
    for (unsigned i = 0; i < 2; i++) {
        chains[i] = (struct task_list){0};
        gathered[i] = 0;
        loop_deinit(&loops[i]);
    }
}

int main(int argc, char **argv)
{
    usage_check(argc, argv, 0, "kvs_codec [SECONDS [BYTES]]");
    run_ns = (uint64_t)((argc > 1 ? strtod(argv[1], NULL) : 0.5) * 1e9);
    if (argc > 2)
        value_size = strtoul(argv[2], NULL, 10) % sizeof value;
    server_session_init(&server, &options, 1);
    server.state = SERVER_SESSION_OPEN;
    printf("values of %zu bytes; per request:\n", value_size);
    measure("encode a get", make_gets);
    measure("decode a get", take_requests);
    measure("encode a set", make_sets);
    measure("decode a set", take_requests);
    measure("encode a get's reply", make_replies);
    measure("decode a get's reply", take_replies);
    measure_crossing("to another thread and back, one by one", 1);
    measure_crossing("to another thread and back, in chains of 64", 64);
    buf_deinit(&requests);
    buf_deinit(&replies);
    return 0;
}
