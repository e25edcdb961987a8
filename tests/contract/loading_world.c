/* tests/contract/loading_world.c: see loading_world.h. */
#include "contract/loading_world.h"

#include "base/bytes.h"
#include "base/fault.h"
#include "contract/contract.h"
#include "engine/file.h"
#include "engine/log/log_engine.h"
#include "test.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define OK(call) assert_int_equal((call), 0)

#define BATCHES TIMES(1200u, 800u, 400u)
#define BATCH_SIZE 8u

const struct engine_kind loading_kind = {.name = "loading",
                                         .directory = "kvs",
                                         .open = log_engine_open_blocking,
                                         .segment_size_bytes = 64 * 1024,
                                         .cache_size_bytes = 1,
                                         .sync = KVS_SYNC_INTERVAL};

/* What the system has in memory may go at any time, and not every file system says: so all is. */
int __wrap_file_read_now(int fd, void *data, size_t size, uint64_t offset);
int __wrap_file_read_now(int fd, void *data, size_t size, uint64_t offset)
{
    return file_read(fd, data, size, offset);
}

kvs_slice key_of(char text[KEY_TEXT], unsigned key)
{
    snprintf(text, KEY_TEXT, "%s%05u", key % 3 == 0 ? "key " : "another key ", key);
    return slice_of_string(text);
}

kvs_slice value_of(uint8_t bytes[VALUE_SIZE_MAX], unsigned number)
{
    size_t size = number % 13 == 0 ? 0 : number * 7 % VALUE_SIZE_MAX;
    bytes_fill(bytes, size, number);
    return slice_make(bytes, size);
}

/* All keys from one to another, in their order and with the same begin. */
static void range_remove(struct world *world, kvs_mutation *mutation, char texts[2][KEY_TEXT],
                         unsigned family)
{
    unsigned first = (unsigned)rand_below(&world->rand, KEYS / 3) * 3;
    unsigned end = first + 3 * (unsigned)rand_below(&world->rand, 60);
    *mutation = mutation_remove_range(key_of(texts[0], first), key_of(texts[1], end));
    for (unsigned key = first; key < end && key < KEYS; key += 3)
        world->numbers[family][key] = 0;
}

static void batch_random(struct world *world)
{
    kvs_mutation mutations[BATCH_SIZE];
    char texts[BATCH_SIZE][2][KEY_TEXT];
    uint8_t values[BATCH_SIZE][VALUE_SIZE_MAX];
    for (unsigned i = 0; i < BATCH_SIZE; i++) {
        unsigned family = rand_below(&world->rand, 8) == 0;
        unsigned key = (unsigned)rand_below(&world->rand, KEYS);
        unsigned what = (unsigned)rand_below(&world->rand, 400);
        kvs_slice name = key_of(texts[i][0], key);
        if (what < 2) {
            range_remove(world, &mutations[i], texts[i], family);
        } else if (what < 80) {
            mutations[i] = mutation_remove(name);
            world->numbers[family][key] = 0;
        } else {
            unsigned number = ++world->next_number;
            mutations[i] = mutation_set(name, value_of(values[i], number));
            mutations[i].ttl_ms = what < 120 ? KVS_TTL_MS_MAX : 0;
            world->numbers[family][key] = number;
        }
        mutations[i].family = (uint8_t)family;
    }
    OK(batch_wait(&world->fixture, mutations, BATCH_SIZE));
}

void batches_random(struct world *world, unsigned count)
{
    for (unsigned i = 0; i < count; i++)
        batch_random(world);
}

void world_begin(struct world *world)
{
    fault_gate_remove();
    memset(world, 0, sizeof *world);
    world->rand = rand_seed(test_seed());
    OK(fixture_init(&world->fixture, &loading_kind));
    OK(fixture_open(&world->fixture));
    batches_random(world, BATCHES);
    hints_wait(world->fixture.directory);
    OK(fixture_close(&world->fixture));
    OK(fixture_open(&world->fixture)); /* behind what the close has sealed */
    batches_random(world, 10);
    OK(fixture_close(&world->fixture));
}

void world_end(struct world *world)
{
    fault_gate_remove();
    fixture_deinit(&world->fixture);
}

void world_open(struct world *world, uint64_t steps)
{
    fault_gate_set(steps);
    OK(fixture_open(&world->fixture));
}

bool is_loading(const struct world *world)
{
    struct engine_stats stats;
    engine_stats(world->fixture.engine, &stats);
    return stats.loading;
}

int get_in(struct engine_view *view, const struct world *world, unsigned family, unsigned key)
{
    char text[KEY_TEXT];
    uint8_t bytes[VALUE_SIZE_MAX];
    kvs_slice value;
    unsigned number = world->numbers[family][key];
    int error = engine_get(view, family, key_of(text, key), &value);
    if (error == 0 && (number == 0 || !slice_equal(value, value_of(bytes, number))))
        fail_msg("%u/%s: a value of %zu bytes, not number %u", family, text, value.size, number);
    if (error == KVS_ERR_NOT_FOUND && number != 0)
        fail_msg("%u/%s: not found, and not number %u", family, text, number);
    return error;
}

void check_gets(const struct world *world, const struct engine_snapshot *snapshot)
{
    for (unsigned family = 0; family < 2; family++) {
        for (unsigned key = 0; key < KEYS; key++) {
            struct engine_view view;
            OK(engine_view_begin(world->fixture.engine, snapshot, true, &view));
            int error = get_in(&view, world, family, key);
            assert_true(error == 0 || error == KVS_ERR_NOT_FOUND);
            engine_view_end(&view);
        }
    }
}

void check_many(const struct world *world)
{
    enum { COUNT = 40 };
    char texts[COUNT][KEY_TEXT];
    kvs_slice keys[COUNT];
    kvs_slice values[COUNT];
    int errors[COUNT];
    struct engine_pin pins[COUNT] = {0};
    struct engine_view view;
    for (unsigned i = 0; i < COUNT; i++)
        keys[i] = key_of(texts[i], i * (KEYS / COUNT));
    OK(engine_view_begin(world->fixture.engine, NULL, true, &view));
    engine_get_many(&view, 0, keys, COUNT, values, errors, pins);
    for (unsigned i = 0; i < COUNT; i++) {
        uint8_t bytes[VALUE_SIZE_MAX];
        unsigned number = world->numbers[0][i * (KEYS / COUNT)];
        assert_int_equal(errors[i], number != 0 ? 0 : KVS_ERR_NOT_FOUND);
        assert_true(number == 0 || slice_equal(values[i], value_of(bytes, number)));
        engine_pin_release(&pins[i]);
    }
    engine_view_end(&view);
}

void check_all(const struct world *world)
{
    for (unsigned family = 0; family < 2; family++) {
        uint64_t count = 0;
        for (unsigned key = 0; key < KEYS; key++)
            count += world->numbers[family][key] != 0;
        assert_int_equal(count_all((struct fixture *)&world->fixture, family), count);
    }
    assert_false(is_loading(world));
    check_gets(world, NULL);
}

bool is_hint(const struct file *file)
{
    return strstr(file->name, ".hint") != NULL;
}

void assert_unchanged(const struct world *world, const struct files *files)
{
    struct files now;
    files_read(world->fixture.directory, &now);
    for (unsigned i = 0; i < files->count; i++) {
        const struct file *file = file_find(&now, files->list[i].name);
        assert_non_null(file);
        assert_int_equal(file->size, files->list[i].size);
        assert_memory_equal(file->bytes, files->list[i].bytes, file->size);
    }
    assert_true(now.count <= files->count + 1);
    files_free(&now);
}
