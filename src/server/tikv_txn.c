/* server/tikv_txn.c: see tikv_txn.h. */
#include "server/tikv_txn.h"

#include "base/clock.h"
#include "pd/tso.h"

#include <kvs/error.h>

#define TS_AHEAD_MAX_MS 60000u /* of a timestamp, before our clock */

/* --- to the node and back -----------------------------------------------------------------------
 */

static void answer_error(struct tikv_txn *txn, int error)
{
    struct tikv_command *command = txn->command;
    bool is_disk = error == KVS_ERR_IO || error == KVS_ERR_STORAGE_FAILED;
    tikv_note_storage(command, error);
    if (error == KVS_ERR_CANCELLED)
        tikv_answer_busy(command, "the server is stopping");
    else if (error == KVS_ERR_TOO_LARGE && txn->is_write)
        tikv_answer_entry_too_large(command, txn->region_id, TIKV_ENTRY_SIZE_MAX);
    else if (is_disk && txn->is_write)
        tikv_answer_undetermined(command, kvs_error_text(error));
    else if (txn->is_write)
        tikv_answer_engine_error(command, error);
    else
        tikv_answer_read_error(command, error);
}

static void finish(struct tikv_txn *txn)
{
    struct txn_command results = txn->of.base; /* the rest may end with its message */
    if (results.op.error != 0)
        rope_deinit(&txn->pairs.body);
    if (results.op.error == 0)
        txn->answer(txn);
    else
        answer_error(txn, results.op.error);
    txn_command_deinit(&results);
}

static void on_done(struct task *task)
{
    struct tikv_txn *txn = CONTAINER_OF(task, struct tikv_txn, of.base.op.task);
    if (!txn->is_write)
        tikv_reads_end(&command_at(txn->command)->reads, &txn->long_read);
    finish(txn);
}

struct tikv_txn *tikv_txn_new(struct tikv_place *place, enum txn_command_kind kind,
                              void (*answer)(struct tikv_txn *txn))
{
    struct tikv_command *command = place->command;
    struct tikv_txn *txn = arena_zalloc(command_arena(command), sizeof *txn);
    if (txn == NULL) {
        tikv_fail_no_memory(command);
        return NULL;
    }
    txn->command = command;
    txn->request = command->request;
    txn->answer = answer;
    txn->region_id = place->region != NULL ? place->region->id : 0;
    txn_command_init(&txn->of.base, kind);
    txn->of.base.op.task.run = on_done;
    txn->of.base.op.loop = command_at(command)->loop;
    return txn;
}

static void start_on_pool(struct tikv_long_read *read)
{
    struct tikv_txn *txn = CONTAINER_OF(read, struct tikv_txn, long_read);
    txn_submit(command_at(txn->command)->service->txn, &txn->of.base);
}

void tikv_txn_read_on_pool(struct tikv_txn *txn)
{
    struct tikv_reads *reads = &command_at(txn->command)->reads;
    if (tikv_reads_begin(reads, &txn->long_read, command_connection(txn->command), start_on_pool))
        return;
    rope_deinit(&txn->pairs.body);
    tikv_answer_busy(txn->command, "too many long reads are under way");
}

void tikv_txn_read(struct tikv_txn *txn)
{
    struct txn_view *view = tikv_txn_view(txn->command->message);
    struct txn_node *node = command_at(txn->command)->service->txn;
    if (view != NULL && txn_answer_in(node, view, &txn->of.base))
        finish(txn);
    else
        tikv_txn_read_on_pool(txn);
}

void tikv_txn_write(struct tikv_txn *txn)
{
    struct tikv_service_loop *at = command_at(txn->command);
    txn->is_write = true;
    if (tikv_message_charge(txn->command->message))
        task_list_push(&at->txns, &txn->of.base.op.task);
    else
        tikv_answer_busy(txn->command, "too many writes are under way");
}

void tikv_txn_submit(struct tikv_service_loop *at)
{
    struct task_list commands = at->txns;
    at->txns = (struct task_list){0};
    if (commands.first != NULL)
        txn_submit_list(at->service->txn, &commands);
}

/* --- checks -------------------------------------------------------------------------------------
 */

bool tikv_txn_place(struct tikv_place *place, const kvs_slice *keys, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        if (!tikv_place_key(place, keys[i]) || !tikv_place_key_size(place, keys[i]))
            return false;
    }
    if (!tikv_place_region(place))
        return false;
    for (size_t i = 0; i < count; i++) {
        if (!tikv_place_has(place, keys[i]))
            return false;
    }
    return true;
}

bool tikv_txn_slices(struct tikv_command *command, const ProtobufCBinaryData *bytes, size_t count,
                     const kvs_slice **ret_slices)
{
    kvs_slice *slices = arena_alloc(command_arena(command), count * sizeof *slices);
    if (slices == NULL) {
        tikv_fail_no_memory(command);
        return false;
    }
    for (size_t i = 0; i < count; i++)
        slices[i] = bytes_slice(bytes[i]);
    *ret_slices = slices;
    return true;
}

bool tikv_txn_check_ts(struct tikv_command *command, uint64_t ts)
{
    uint64_t ms = txn_ts_physical_ms(ts);
    if (ts == TXN_TS_MAX || ms <= clock_wall_ms() + TS_AHEAD_MAX_MS ||
        ms <= tso_given_ms(command_at(command)->service->cluster->tso))
        return true;
    tikv_answer_region_text(command, "the timestamp of the request is from the future: PD gave "
                                     "none that late");
    return false;
}

bool tikv_txn_check_commit_ts(struct tikv_command *command, uint64_t ts)
{
    if (ts != TXN_TS_MAX)
        return tikv_txn_check_ts(command, ts);
    tikv_answer_region_text(command, "nothing commits at the last timestamp there is");
    return false;
}

/* --- ranges -------------------------------------------------------------------------------------
 */

/* An empty key is no bound. */
static bool encode(struct tikv_command *command, kvs_slice key, kvs_slice *ret_encoded)
{
    size_t size = key_encoded_size(key.size);
    uint8_t *bytes = key.size > 0 ? arena_alloc(command_arena(command), size) : NULL;
    if (key.size == 0) {
        *ret_encoded = slice_make(NULL, 0);
        return true;
    }
    if (bytes == NULL) {
        tikv_fail_no_memory(command);
        return false;
    }
    key_encode(key, bytes);
    *ret_encoded = slice_make(bytes, size);
    return true;
}

bool tikv_txn_encode_range(struct tikv_command *command, kvs_slice start, kvs_slice end,
                           struct txn_range *ret_range)
{
    return encode(command, start, &ret_range->start) && encode(command, end, &ret_range->end);
}

/* Regions may change before it is used. */
static bool copy_bound(struct tikv_place *place, kvs_slice bound, kvs_slice *ret_copy)
{
    uint8_t *bytes = arena_copy(command_arena(place->command), bound);
    if (bytes == NULL) {
        tikv_fail_no_memory(place->command);
        return false;
    }
    *ret_copy = slice_make(bytes, bound.size);
    return true;
}

bool tikv_txn_whole_region(struct tikv_place *place, struct txn_range *ret_range)
{
    return copy_bound(place, place->region->start, &ret_range->start) &&
           copy_bound(place, place->region->end, &ret_range->end);
}

bool tikv_txn_range(struct tikv_place *place, kvs_slice from, kvs_slice to, bool reverse,
                    struct txn_range *ret_range)
{
    struct txn_range region, asked;
    if (from.size > 0 && !(reverse ? tikv_place_has_end(place, from) : tikv_place_has(place, from)))
        return false;
    if (!tikv_txn_whole_region(place, &region) ||
        !tikv_txn_encode_range(place->command, reverse ? to : from, reverse ? from : to, &asked))
        return false;
    *ret_range = asked;
    if (slice_compare(asked.start, region.start) < 0)
        ret_range->start = region.start;
    if (region.end.size > 0 && (asked.end.size == 0 || slice_compare(asked.end, region.end) > 0))
        ret_range->end = region.end;
    return true;
}
