/*
 * client/remote_store.c against a server that says anything: answers of the right form and no
 * sense, to the wrong request, twice, cut off, of enormous length, or none. Whatever comes, each
 * call ends, and the store can be closed.
 */
#include "base/rand.h"
#include "scripted_server.h"

#include <kvs/kvs.h>
#include <string.h>

#include "seed.h"
#include "test.h"
#include "times.h"

#define ROUNDS TIMES(30, 20, 10)
#define CALLS 200
#define END_MS 60000

static uint64_t seed;
static struct scripted_server server;

/* --- the server --------------------------------------------------------------------------------
 */

static int any_status(struct rand *rand)
{
    static const int statuses[] = {
        0, KVS_ERR_NOT_FOUND, KVS_ERR_CONDITION_FAILED, KVS_ERR_BUSY, KVS_ERR_OUTCOME_UNKNOWN, -999,
        5, INT16_MIN};
    uint64_t choice = rand_below(rand, 24);
    return choice < 8 ? statuses[choice] : 0;
}

static void put_body(struct buf *out, struct rand *rand)
{
    uint8_t bytes[64];
    for (unsigned i = 0; i < sizeof bytes; i++)
        bytes[i] = rand_below(rand, 2) == 0 ? 0 : (uint8_t)rand_u64(rand);
    uint64_t kind = rand_below(rand, 4);
    if (kind == 0)
        buf_append(out, bytes, rand_below(rand, sizeof bytes));
    else if (kind == 1)
        buf_append(out, bytes, 8);
    for (uint64_t pairs = kind == 2 ? rand_below(rand, 5) : 0; pairs > 0; pairs--)
        wire_pair_append(slice_make(bytes, 1 + pairs), slice_make(bytes, 8), out);
}

static bool say_anything(struct scripted_server *self, const struct wire_frame *asked, uint32_t id,
                         struct rand *rand)
{
    struct buf out = BUF_INIT;
    size_t header;
    uint8_t opcode = rand_below(rand, 40) == 0 ? (uint8_t)rand_u64(rand) : (uint8_t)asked->opcode;
    if (rand_below(rand, 100) == 0)
        opcode = WIRE_GOAWAY;
    wire_reply_begin(opcode, id, any_status(rand), 0, &out, &header);
    put_body(&out, rand);
    wire_reply_finish(&out, header, (uint8_t)rand_below(rand, 4), (uint32_t)rand_below(rand, 5));
    bool goes_on = rand_below(rand, 60) > 0;
    if (!goes_on)
        out.size = rand_below(rand, out.size);
    else if (rand_below(rand, 100) == 0)
        out.data[rand_below(rand, WIRE_HEADER_SIZE)] = (uint8_t)rand_u64(rand);
    return script_send_buf(self, &out) && goes_on;
}

static void script_says_anything(struct scripted_server *self, unsigned number)
{
    struct rand rand = rand_seed(seed * 1000003 + number);
    struct wire_frame frame;
    uint32_t ids[16] = {0};
    if (rand_below(&rand, 4) == 0) {
        self->limits.in_flight_max = 1 + (uint32_t)rand_below(&rand, 3);
        self->limits.scans_max = 1;
    }
    if (rand_below(&rand, 10) == 0 || !script_hello(self))
        return;
    for (unsigned turn = 0; rand_below(&rand, 100) > 0 && script_read_frame(self, &frame); turn++) {
        ids[turn % 16] = frame.id;
        for (uint64_t words = rand_below(&rand, 5) > 0 ? 1 : rand_below(&rand, 4); words > 0;
             words--) {
            uint32_t id = ids[rand_below(&rand, 20) > 0 ? turn % 16 : rand_below(&rand, 16)];
            if (!say_anything(self, &frame, id, &rand))
                return;
        }
    }
}

/* --- the client --------------------------------------------------------------------------------
 */

static kvs_future *any_call(kvs_store *store, struct rand *rand)
{
    const kvs_slice keys[3] = {kvs_slice_of("a"), kvs_slice_of("b"), kvs_slice_of("a")};
    const kvs_mutation mutations[2] = {
        {.kind = KVS_MUTATION_SET, .key = kvs_slice_of("a"), .value = kvs_slice_of("v")},
        {.kind = KVS_MUTATION_REMOVE, .key = kvs_slice_of("b")}};
    kvs_op op = KVS_OP_INIT;
    op.kind = (uint8_t)(1 + rand_below(rand, KVS_OP_CHECKPOINT));
    op.timeout_ms = 1 + (uint32_t)rand_below(rand, 300);
    op.key = kvs_slice_of("a");
    if (op.kind == KVS_OP_SET || op.kind == KVS_OP_CAS)
        op.value = kvs_slice_of("v");
    if (op.kind == KVS_OP_SCAN) {
        op.limit = (uint32_t)rand_below(rand, 4);
        op.flags = rand_below(rand, 2) == 0 ? KVS_OP_FLAG_PAGE : 0;
    }
    op.keys = keys;
    op.mutations = mutations;
    op.count = op.kind == KVS_OP_BATCH_GET ? 3 : op.kind == KVS_OP_BATCH_WRITE ? 2 : 0;
    return kvs_store_call(store, &op);
}

static void finish(kvs_future *future, const char *what)
{
    kvs_slice value;
    const kvs_pair *pairs;
    size_t count;
    assert_non_null(future);
    kvs_future_wait(future, END_MS);
    if (!kvs_future_is_ready(future))
        fail_msg("seed %llu: a %s does not end", (unsigned long long)seed, what);
    unsigned sum = 0; /* what it gives can be read */
    if (kvs_future_get_value(future, &value) == 0)
        for (size_t i = 0; i < value.size; i++)
            sum += value.data[i];
    if (kvs_future_get_pairs(future, &pairs, &count) == 0)
        for (size_t i = 0; i < count; i++)
            sum += pairs[i].key.size > 0 ? pairs[i].key.data[0] : 0;
    assert_true(sum < UINT32_MAX);
    assert_non_null(kvs_future_error_message(future));
    kvs_future_free(future);
}

static void use(kvs_store *store, struct rand *rand)
{
    kvs_future *calls[CALLS];
    for (unsigned i = 0; i < CALLS; i++) {
        calls[i] = any_call(store, rand);
        if (rand_below(rand, 10) == 0)
            kvs_future_cancel(calls[i]);
        if (rand_below(rand, 10) == 0)
            kvs_future_wait(calls[i], 20);
    }
    if (rand_below(rand, 2) == 0) {
        for (unsigned i = 0; i < CALLS; i++) {
            finish(calls[i], "call");
            calls[i] = NULL;
        }
    }
    finish(kvs_store_close(store), "close");
    for (unsigned i = 0; i < CALLS; i++) {
        if (calls[i] != NULL)
            finish(calls[i], "call of one that is closed");
    }
}

static void test_a_server_that_says_anything(void **state)
{
    (void)state;
    uint64_t first = test_seed();
    for (seed = first; seed < first + ROUNDS; seed++) {
        struct rand rand = rand_seed(seed);
        const struct kvs_runtime_options threads = {.size = sizeof threads, .loops = 2};
        const struct kvs_store_options options = {.size = sizeof options,
                                                  .timeout_ms = 500,
                                                  .connect_timeout_ms = 500,
                                                  .connections = 1 + (uint32_t)(seed % 2)};
        kvs_runtime *runtime;
        assert_int_equal(kvs_runtime_new(&threads, &runtime), 0);
        scripted_server_start(&server, script_says_anything);
        kvs_future *open = kvs_store_open(runtime, server.url, &options);
        void *store = NULL;
        if (kvs_future_wait(open, END_MS) == 0)
            kvs_future_get_pointer(open, &store);
        kvs_future_free(open);
        if (store != NULL)
            use(store, &rand);
        scripted_server_stop(&server);
        kvs_runtime_free(runtime);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_server_that_says_anything),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
