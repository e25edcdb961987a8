/* txn/record.c: any bytes as a lock, a version and a key of a version; what is accepted must be the
 * encoding of what was read from it. */
#include "fuzz/target.h"
#include "txn/record.h"

#include <stdint.h>
#include <stdlib.h>

/* Made of its holders anew it is the same. */
static void check_holders(const struct lock_record *lock)
{
    struct arena arena = {0};
    struct lock_record holder;
    kvs_slice made = {0};
    size_t at = 0;
    uint32_t count = 0;
    for (; lock_record_next(lock, &at, &holder); count++)
        require(shared_record_with(&arena, made, &holder, &made) == 0);
    require(count == lock->holders_count && made.size == lock->shared.size);
    uint8_t *bytes = arena_copy(&arena, made);
    require(bytes != NULL);
    if (lock->is_closed)
        shared_record_close(bytes);
    require(memcmp(bytes, lock->shared.data, made.size) == 0);
    for (at = 0; lock_record_next(lock, &at, &holder);)
        made = shared_record_without(bytes, made.size, holder.start_ts);
    require(made.size == 0);
    arena_deinit(&arena);
}

static void check_lock(kvs_slice bytes)
{
    struct lock_record lock;
    if (lock_record_decode(bytes, &lock) != 0)
        return;
    if (lock.type == TXN_OP_SHARED_LOCK)
        check_holders(&lock);
    require(lock_record_size(&lock) == bytes.size);
    uint8_t *again = malloc(bytes.size);
    require(again != NULL);
    lock_record_encode(&lock, again);
    require(memcmp(again, bytes.data, bytes.size) == 0);
    struct arena arena = {0};
    const kvs_slice *secondaries = lock_record_secondaries(&lock, &arena);
    require(secondaries != NULL);
    lock.secondaries = secondaries;
    require(lock_record_size(&lock) == bytes.size);
    lock_record_encode(&lock, again);
    require(memcmp(again, bytes.data, bytes.size) == 0);
    arena_deinit(&arena);
    free(again);
}

static void check_write(kvs_slice bytes)
{
    struct write_record write;
    if (write_record_decode(bytes, &write) != 0)
        return;
    uint8_t again[12 + RECORD_VALUE_INLINE_MAX];
    require(write_record_size(&write) == bytes.size && bytes.size <= sizeof again);
    write_record_encode(&write, again);
    require(memcmp(again, bytes.data, bytes.size) == 0);
}

static void check_key(kvs_slice bytes)
{
    kvs_slice encoded;
    uint64_t ts;
    struct record_key key;
    if (!record_key_split(bytes, &encoded, &ts))
        return;
    require(record_key_set_encoded(&key, encoded));
    require(slice_equal(record_key_at(&key, ts), bytes));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    check_lock(slice_make(data, size));
    check_write(slice_make(data, size));
    check_key(slice_make(data, size));
    return 0;
}
