/*
 * Answers of a TiKV store to commands of transactions, as the client reads them: any bytes as the
 * answer to each kind, with and without a keyspace. What comes out is looked at as the client does.
 */
#include "client/tikv/txn_wire.h"
#include "fuzz/target.h"

#include <kvs/error.h>
#include <stdlib.h>

static const struct txn_transport_methods methods = {.call_extra = 0};
static struct txn_transport transport = {.methods = &methods};
static volatile unsigned sum; /* so that nothing is left out */

static void touch(kvs_slice bytes)
{
    for (size_t i = 0; i < bytes.size; i++)
        sum += bytes.data[i];
}

static void touch_lock(const struct txn_lock_info *lock)
{
    touch(lock->key);
    touch(lock->primary);
    for (uint32_t i = 0; i < lock->secondaries_count; i++)
        touch(lock->secondaries[i]);
}

static void touch_shared(const struct txn_lock_info *lock)
{
    touch_lock(lock);
    for (uint32_t i = 0; i < lock->holders_count; i++)
        touch_lock(&lock->holders[i]);
}

static void touch_error(const struct txn_key_error *error)
{
    require(error->kind <= TXN_ERROR_ABORT);
    touch(error->key);
    touch(error->primary);
    touch(error->lock_key);
    touch(error->deadlock_key);
    touch_shared(&error->lock);
    if (error->text != NULL)
        touch(slice_of_string(error->text));
}

static void touch_errors(const struct txn_key_error *errors, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++)
        touch_error(&errors[i]);
}

static void touch_pairs(const struct txn_pair *pairs, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++) {
        touch(pairs[i].key);
        touch(pairs[i].value);
        touch_error(&pairs[i].error);
    }
}

static void touch_locks(const struct txn_lock_info *locks, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++)
        touch_shared(&locks[i]);
}

static void touch_results(const struct txn_call *call)
{
    const union txn_any *command = &call->command;
    switch (command->base.kind) {
    case TXN_GET:
        touch(command->get.value);
        touch_error(&command->get.error);
        break;
    case TXN_BATCH_GET:
        touch_pairs(command->batch_get.pairs, command->batch_get.pairs_count);
        touch_error(&command->batch_get.error);
        break;
    case TXN_SCAN:
        touch_pairs(command->scan.pairs, command->scan.pairs_count);
        touch_error(&command->scan.error);
        break;
    case TXN_SCAN_LOCK:
        touch_locks(command->scan_lock.locks, command->scan_lock.locks_count);
        break;
    case TXN_PREWRITE:
        touch_errors(command->prewrite.errors, command->prewrite.errors_count);
        break;
    case TXN_PESSIMISTIC_LOCK:
        touch_errors(command->lock.errors, command->lock.errors_count);
        for (uint32_t i = 0; command->lock.errors_count == 0 && i < 2; i++) {
            sum += command->lock.not_founds[i];
            touch(command->lock.values[i]);
        }
        break;
    case TXN_CHECK_STATUS:
        touch_error(&command->check_status.error);
        touch_lock(&command->check_status.lock);
        break;
    case TXN_CHECK_SECONDARIES:
        touch_error(&command->check_secondaries.error);
        touch_locks(command->check_secondaries.locks, command->check_secondaries.locks_count);
        break;
    case TXN_COMMIT:
        touch_error(&command->commit.error);
        break;
    default: /* the rest has an error at most */
        break;
    }
}

static void read_answer(enum txn_command_kind kind, kvs_slice body, kvs_slice prefix)
{
    const struct txn_wire_place place = {.prefix = prefix, .is_v2 = prefix.size > 0};
    struct txn_call *call = txn_call_new(&transport, kind, NULL, NULL);
    kvs_slice region_error;
    require(call != NULL);
    if (kind == TXN_PESSIMISTIC_LOCK) {
        call->command.lock.mutations_count = 2;
        call->command.lock.return_values = true;
    }
    int error = txn_wire_read(call, &place, body, &region_error);
    require(error == 0 || error == KVS_ERR_PROTOCOL || error == KVS_ERR_IO);
    if (error == 0 && region_error.data != NULL)
        touch(region_error);
    else if (error == 0)
        touch_results(call);
    txn_call_free(call);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const enum txn_command_kind kinds[] = {
        TXN_GET,
        TXN_BATCH_GET,
        TXN_SCAN,
        TXN_SCAN_LOCK,
        TXN_PREWRITE,
        TXN_COMMIT,
        TXN_HEARTBEAT,
        TXN_BATCH_ROLLBACK,
        TXN_PESSIMISTIC_LOCK,
        TXN_RESOLVE_LOCK,
        TXN_CHECK_STATUS,
        TXN_CHECK_SECONDARIES,
        TXN_PESSIMISTIC_ROLLBACK,
    };
    if (size == 0)
        return 0;
    kvs_slice prefix = slice_make("x\0\0\0", data[0] % 2 == 0 ? 4 : 0);
    kvs_slice body = slice_make(data + 1, size - 1);
    for (size_t i = 0; i < sizeof kinds / sizeof kinds[0]; i++)
        read_answer(kinds[i], body, prefix);
    return 0;
}
