/* tests/contract/contract_threads.c: many threads at once. */
#include "base/bytes.h"
#include "base/mem.h"
#include "contract/contract.h"
#include "test.h"

#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define OK(call) assert_int_equal((call), 0)

struct crew {
    struct fixture *fixture;
    void (*work)(struct crew *crew, unsigned member);
    _Atomic unsigned joined;
    _Atomic unsigned wrong; /* threads cannot use cmocka's asserts */
};

static void *crew_member(void *arg)
{
    struct crew *crew = arg;
    crew->work(crew, atomic_fetch_add(&crew->joined, 1));
    return NULL;
}

static void crew_run(struct crew *crew, unsigned threads)
{
    pthread_t ids[128];
    assert_true(threads <= 128);
    for (unsigned i = 0; i < threads; i++)
        OK(pthread_create(&ids[i], NULL, crew_member, crew));
    for (unsigned i = 0; i < threads; i++)
        pthread_join(ids[i], NULL);
    assert_int_equal(atomic_load(&crew->wrong), 0);
}

/* --- sets -------------------------------------------------------------------------------------*/

#define SETS 10000
#define SETS_THREADS 16
#define SETS_EACH (SETS / SETS_THREADS)

/* All sets of a thread are in flight together. */
static void sets_work(struct crew *crew, unsigned member)
{
    struct pending_write *pending = mem_zalloc(SETS_EACH * sizeof *pending);
    kvs_mutation *mutations = mem_zalloc(SETS_EACH * sizeof *mutations);
    char(*texts)[TEXT_SIZE_MAX] = mem_zalloc(SETS_EACH * sizeof *texts);
    struct latch latch;
    latch_init(&latch, SETS_EACH);
    for (unsigned i = 0; i < SETS_EACH; i++) {
        kvs_slice key = text_format(texts[i], "%u/%u", member, i);
        mutations[i] = mutation_set(key, key);
        /* Some complete on the loop, some on the engine's own thread. */
        pending_write_init(&pending[i], &latch, i % 2 ? &crew->fixture->loop : NULL, &mutations[i],
                           1);
        engine_write(crew->fixture->engine, &pending[i].write);
    }
    latch_wait(&latch);
    latch_deinit(&latch);
    for (unsigned i = 0; i < SETS_EACH; i++)
        if (pending[i].write.op.error != 0)
            atomic_fetch_add(&crew->wrong, 1);
    mem_free(pending);
    mem_free(mutations);
    mem_free(texts);
}

static void sets_check(struct fixture *fixture)
{
    struct engine_view view;
    OK(engine_view_begin(fixture->engine, NULL, true, &view));
    for (unsigned i = 0; i < SETS; i++) {
        char text[TEXT_SIZE_MAX];
        kvs_slice key = text_format(text, "%u/%u", i / SETS_EACH, i % SETS_EACH);
        check_in_view(&view, 0, key, text);
    }
    engine_view_end(&view);
    assert_int_equal(count_all(fixture, 0), SETS);
}

void contract_sets_10000(struct fixture *fixture)
{
    struct crew crew = {.fixture = fixture, .work = sets_work};
    crew_run(&crew, SETS_THREADS);
    sets_check(fixture);
    if (!fixture_can(fixture, ENGINE_CAP_DURABLE))
        return;
    OK(fixture_close(fixture));
    OK(fixture_open(fixture));
    sets_check(fixture);
}

/* --- gets -------------------------------------------------------------------------------------*/

static void gets_work(struct crew *crew, unsigned member)
{
    for (unsigned i = 0; i < 100; i++) {
        char key[TEXT_SIZE_MAX];
        char text[TEXT_SIZE_MAX];
        unsigned number = (member + i) % 100;
        kvs_slice expected = text_format(text, "value%u", number);
        struct buf value;
        int error = get_copy(crew->fixture, 0, text_format(key, "key%u", number), &value);
        if (error != 0 || !slice_equal(buf_slice(&value), expected))
            atomic_fetch_add(&crew->wrong, 1);
        buf_deinit(&value);
    }
}

void contract_gets_100x100(struct fixture *fixture)
{
    for (unsigned i = 0; i < 100; i++) {
        char key[TEXT_SIZE_MAX];
        char value[TEXT_SIZE_MAX];
        OK(set_wait(fixture, text_format(key, "key%u", i), text_format(value, "value%u", i)));
    }
    for (unsigned round = 0; round < 2; round++) {
        struct crew crew = {.fixture = fixture, .work = gets_work};
        crew_run(&crew, 100);
        if (!fixture_can(fixture, ENGINE_CAP_DURABLE))
            return;
        OK(fixture_close(fixture));
        OK(fixture_open(fixture));
    }
}

/* --- compare and set --------------------------------------------------------------------------*/

#define INCREMENTS_EACH 50
#define INCREMENTS_THREADS 8

static void increments_work(struct crew *crew, unsigned member)
{
    struct buf seen;
    if (get_copy(crew->fixture, 0, S("counter"), &seen) != 0)
        atomic_fetch_add(&crew->wrong, 1);
    for (unsigned done = 0; done < INCREMENTS_EACH && atomic_load(&crew->wrong) == 0;) {
        uint8_t next[8];
        put_u64(next, get_u64(seen.data) + 1);
        const kvs_mutation mutation = mutation_set(S("counter"), slice_make(next, 8));
        struct engine_condition condition = {
            .kind = ENGINE_CONDITION_EQUALS, .key = S("counter"), .value = buf_slice(&seen)};
        struct engine_write write = {.mutations = &mutation,
                                     .mutations_count = 1,
                                     .conditions = &condition,
                                     .conditions_count = 1,
                                     .flags = ENGINE_WRITE_WANT_PREVIOUS};
        int error = write_wait(crew->fixture, &write);
        if (!write.previous_found || write.previous.size != 8)
            atomic_fetch_add(&crew->wrong, 1);
        if (error == 0)
            done++;
        else if (error != KVS_ERR_CONDITION_FAILED)
            atomic_fetch_add(&crew->wrong, 1);
        buf_clear(&seen);
        kvs_slice now = error == 0 ? slice_make(next, 8) : buf_slice(&write.previous);
        buf_append_slice(&seen, now);
        buf_deinit(&write.previous);
    }
    buf_deinit(&seen);
}

void contract_increments(struct fixture *fixture)
{
    OK(set_wait(fixture, S("counter"), S("\0\0\0\0\0\0\0\0")));
    struct crew crew = {.fixture = fixture, .work = increments_work};
    crew_run(&crew, INCREMENTS_THREADS);
    struct buf value;
    OK(get_copy(fixture, 0, S("counter"), &value));
    assert_int_equal(get_u64(value.data), INCREMENTS_EACH * INCREMENTS_THREADS);
    buf_deinit(&value);
}

/* --- readers and writers ----------------------------------------------------------------------*/

#define MIXED_KEYS 32
#define MIXED_THREADS 12
#define MIXED_ROUNDS 300

/* Value: 8 bytes of number, then bytes that follow from it. */
static size_t mixed_value(uint8_t bytes[600], uint64_t number)
{
    size_t size = 8 + number % 512;
    put_u64(bytes, number);
    bytes_fill(bytes + 8, size - 8, number);
    return size;
}

static int mixed_check(void *arg, kvs_slice key, kvs_slice value)
{
    uint8_t expected[600];
    if (value.size < 8)
        return -1;
    size_t size = mixed_value(expected, get_u64(value.data));
    return size == value.size && memcmp(expected, value.data, size) == 0 ? 0 : -1;
}

static void mixed_work(struct crew *crew, unsigned member)
{
    for (unsigned i = 0; i < MIXED_ROUNDS; i++) {
        char text[TEXT_SIZE_MAX];
        kvs_slice key = text_format(text, "mixed %u", (i * 31 + member * 7) % MIXED_KEYS);
        uint8_t bytes[600];
        if (member % 3 == 0) {
            kvs_slice value = slice_make(bytes, mixed_value(bytes, member * 1000003u + i));
            if (set_wait(crew->fixture, key, value) != 0)
                atomic_fetch_add(&crew->wrong, 1);
            continue;
        }
        struct engine_view view;
        if (engine_view_begin(crew->fixture->engine, NULL, true, &view) != 0) {
            atomic_fetch_add(&crew->wrong, 1);
            return;
        }
        struct engine_range range = {.start = key, .reverse = i % 2 != 0};
        if (engine_scan(&view, &range, mixed_check, NULL) != 0)
            atomic_fetch_add(&crew->wrong, 1);
        kvs_slice value;
        int error = engine_get(&view, 0, key, &value);
        if (error == 0 ? mixed_check(NULL, key, value) != 0 : error != KVS_ERR_NOT_FOUND)
            atomic_fetch_add(&crew->wrong, 1);
        engine_view_end(&view);
    }
}

void contract_readers_and_writers(struct fixture *fixture)
{
    struct crew crew = {.fixture = fixture, .work = mixed_work};
    crew_run(&crew, MIXED_THREADS);
}

/* --- chains -----------------------------------------------------------------------------------*/

#define CHAIN_THREADS 6
#define CHAIN_LENGTH 64
#define CHAIN_ROUNDS 10

/* Each chain sets its thread's key to 1, 2, 3 ... and expects every value before. */
static void chains_work(struct crew *crew, unsigned member)
{
    char text[TEXT_SIZE_MAX];
    kvs_slice key = text_format(text, "chain %u", member);
    uint64_t number = 0;
    for (unsigned round = 0; round < CHAIN_ROUNDS; round++) {
        struct pending_write pending[CHAIN_LENGTH];
        kvs_mutation mutations[CHAIN_LENGTH];
        uint8_t values[CHAIN_LENGTH][8];
        struct latch latch;
        latch_init(&latch, CHAIN_LENGTH);
        struct task_list list = {0};
        uint64_t first = number;
        for (unsigned i = 0; i < CHAIN_LENGTH; i++) {
            put_u64(values[i], ++number);
            mutations[i] = mutation_set(key, slice_make(values[i], 8));
            pending_write_init(&pending[i], &latch, &crew->fixture->loop, &mutations[i], 1);
            pending[i].write.flags = ENGINE_WRITE_WANT_PREVIOUS;
            task_list_push(&list, &pending[i].write.op.task);
        }
        engine_write_list(crew->fixture->engine, &list);
        latch_wait(&latch);
        latch_deinit(&latch);
        for (unsigned i = 0; i < CHAIN_LENGTH; i++) {
            struct engine_write *write = &pending[i].write;
            uint64_t previous = write->previous_found ? get_u64(write->previous.data) : 0;
            if (write->op.error != 0 || previous != first + i)
                atomic_fetch_add(&crew->wrong, 1);
            buf_deinit(&write->previous);
        }
    }
}

void contract_chains(struct fixture *fixture)
{
    struct crew crew = {.fixture = fixture, .work = chains_work};
    crew_run(&crew, CHAIN_THREADS);
    for (unsigned i = 0; i < CHAIN_THREADS; i++) {
        char text[TEXT_SIZE_MAX];
        struct buf value;
        OK(get_copy(fixture, 0, text_format(text, "chain %u", i), &value));
        assert_int_equal(get_u64(value.data), CHAIN_ROUNDS * CHAIN_LENGTH);
        buf_deinit(&value);
    }
}
