/*
 * tests/contract/loading_world.h: a log store whose keys are known, at every step of being loaded
 * (engine/log/loading.h), held there by the gate of base/fault.h.
 *
 * Asserts as a test does.
 */
#ifndef TESTS_CONTRACT_LOADING_WORLD_H
#define TESTS_CONTRACT_LOADING_WORLD_H

#include "base/rand.h"
#include "contract/engine_fixture.h"
#include "crash/directory_files.h"

#define KEYS 1500u
#define KEY_TEXT 32
#define VALUE_SIZE_MAX 120u

extern const struct engine_kind loading_kind;

/* Family 1 has few keys. What is over, is so since the batch that set it. */
struct world {
    struct fixture fixture;
    struct rand rand;
    unsigned numbers[2][KEYS]; /* of the value; 0: none */
    unsigned next_number;
};

kvs_slice key_of(char text[KEY_TEXT], unsigned key);
kvs_slice value_of(uint8_t bytes[VALUE_SIZE_MAX], unsigned number);

/* Some segments with hints, and a newest one with what came after them; closed. */
void world_begin(struct world *world);
void world_end(struct world *world);
/* Random batches, of an open store. */
void batches_random(struct world *world, unsigned count);
/* Opened; so many steps of loading are done, or on their way. */
void world_open(struct world *world, uint64_t steps);
bool is_loading(const struct world *world);

/* Waits for nothing but the view's own reads. */
int get_in(struct engine_view *view, const struct world *world, unsigned family, unsigned key);
void check_gets(const struct world *world, const struct engine_snapshot *snapshot);
void check_many(const struct world *world); /* keys at once */
/* By the index: a scan has all keys, in order, and no others. */
void check_all(const struct world *world);

bool is_hint(const struct file *file);
/* All are there as they were. A new segment may have been begun since. */
void assert_unchanged(const struct world *world, const struct files *files);

#endif
