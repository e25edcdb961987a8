/*
 * server/tikv_write.c: raw writes.
 *
 * 1. The command is checked and becomes one batch of the engine, in the message's arena.
 * 2. The batches of a turn go to the engine as one chain, at the turn's end.
 * 3. on_done answers, when the batch is as safe as the server's sync policy says.
 *
 * All writes are atomic, whether the client asks for it (for_cas) or not. Failures: over the size
 * of an entry: RaftEntryTooLarge; too much under way on this loop: ServerIsBusy.
 * Thread: the connection's loop.
 */
#include "server/tikv_parts.h"

#include <kvs/error.h>

struct tikv_write {
    struct engine_write base;
    struct tikv_command *command;
    kvs_mutation *mutations;
    struct engine_condition condition;
    size_t bytes;
    bool is_cas;
};

/* NULL: answered. */
static struct tikv_write *write_new(struct tikv_place *place, size_t count)
{
    struct tikv_command *command = place->command;
    if (count > KVS_BATCH_COUNT_MAX) {
        tikv_answer_error(command, "%zu keys in one batch, at most %u are possible", count,
                          KVS_BATCH_COUNT_MAX);
        return NULL;
    }
    struct tikv_write *write = arena_zalloc(command_arena(command), sizeof *write);
    kvs_mutation *mutations =
        arena_zalloc(command_arena(command), count * sizeof *write->mutations);
    if (write == NULL || mutations == NULL) {
        tikv_fail_no_memory(command);
        return NULL;
    }
    write->command = command;
    write->mutations = mutations;
    write->base.mutations = mutations;
    write->base.mutations_count = (uint32_t)count;
    return write;
}

static uint64_t ttl_of_seconds(uint64_t seconds)
{
    return seconds < KVS_TTL_MS_MAX / 1000 ? seconds * 1000 : KVS_TTL_MS_MAX;
}

static void answer_cas(struct tikv_write *write, bool succeeded)
{
    Kvrpcpb__RawCASResponse answer = KVRPCPB__RAW_CASRESPONSE__INIT;
    struct buf previous = write->base.previous; /* the write ends with its command */
    answer.succeed = succeeded;
    answer.previous_not_exist = !write->base.previous_found;
    answer.previous_value = slice_bytes(buf_slice(&previous));
    tikv_answer_message(write->command, &answer.base);
    buf_deinit(&previous);
}

static void on_done(struct task *task)
{
    struct tikv_write *write = CONTAINER_OF(task, struct tikv_write, base.op.task);
    int error = write->base.op.error;
    command_at(write->command)->writes_bytes -= write->bytes;
    bool refused = error == KVS_ERR_NOT_FOUND || error == KVS_ERR_ALREADY_EXISTS ||
                   error == KVS_ERR_CONDITION_FAILED;
    if (write->is_cas && (error == 0 || refused))
        answer_cas(write, error == 0);
    else if (error == 0)
        tikv_answer(write->command, slice_make(NULL, 0));
    else
        tikv_answer_engine_error(write->command, error);
}

static void submit(struct tikv_write *write, const struct tikv_place *place)
{
    struct tikv_command *command = write->command;
    struct tikv_service_loop *at = command_at(command);
    size_t entry = 0;
    for (uint32_t i = 0; i < write->base.mutations_count; i++) {
        const kvs_mutation *mutation = &write->mutations[i];
        if (mutation->value.size > at->service->value_size_max) {
            tikv_answer_error(command, "value of %zu bytes, the limit is %u", mutation->value.size,
                              at->service->value_size_max);
            return;
        }
        entry += mutation->key.size + mutation->value.size;
    }
    write->bytes = entry + write->base.mutations_count * sizeof *write->mutations + sizeof *write;
    if (entry > TIKV_ENTRY_SIZE_MAX) {
        tikv_answer_entry_too_large(command, place->region->id, entry);
    } else if (at->writes_bytes + write->bytes > TIKV_WRITES_BYTES_MAX) {
        tikv_answer_busy(command, "too many writes are under way");
    } else {
        at->writes_bytes += write->bytes;
        write->base.op.task.run = on_done;
        write->base.op.loop = at->loop;
        task_list_push(&at->writes, &write->base.op.task);
    }
}

void tikv_writes_submit(struct tikv_service_loop *at)
{
    if (at->writes.first != NULL)
        engine_write_list(at->service->engine, &at->writes);
    at->writes = (struct task_list){0};
}

/* --- single keys --------------------------------------------------------------------------------
 */

static bool find_key(struct tikv_place *place, struct tikv_command *command,
                     const Kvrpcpb__Context *context, const char *family, kvs_slice key)
{
    return tikv_place_begin(place, command, context, family) && tikv_place_write_key(place, key) &&
           tikv_place_region(place) && tikv_place_has(place, key);
}

void tikv_raw_put(struct tikv_command *command)
{
    const Kvrpcpb__RawPutRequest *request = (const void *)command->request;
    kvs_slice key = bytes_slice(request->key);
    struct tikv_place place;
    if (!find_key(&place, command, request->context, request->cf, key))
        return;
    struct tikv_write *write = write_new(&place, 1);
    if (write == NULL)
        return;
    write->mutations[0] = (kvs_mutation){
        .kind = KVS_MUTATION_SET,
        .family = place.family,
        .key = key,
        .value = bytes_slice(request->value),
        .ttl_ms = ttl_of_seconds(request->ttl),
    };
    submit(write, &place);
}

void tikv_raw_delete(struct tikv_command *command)
{
    const Kvrpcpb__RawDeleteRequest *request = (const void *)command->request;
    kvs_slice key = bytes_slice(request->key);
    struct tikv_place place;
    if (!find_key(&place, command, request->context, request->cf, key))
        return;
    struct tikv_write *write = write_new(&place, 1);
    if (write == NULL)
        return;
    write->mutations[0] =
        (kvs_mutation){.kind = KVS_MUTATION_REMOVE, .family = place.family, .key = key};
    submit(write, &place);
}

void tikv_raw_cas(struct tikv_command *command)
{
    const Kvrpcpb__RawCASRequest *request = (const void *)command->request;
    kvs_slice key = bytes_slice(request->key);
    struct tikv_place place;
    if (!find_key(&place, command, request->context, request->cf, key))
        return;
    struct tikv_write *write = write_new(&place, 1);
    if (write == NULL)
        return;
    write->is_cas = true;
    write->mutations[0] =
        (kvs_mutation){.kind = KVS_MUTATION_REMOVE, .family = place.family, .key = key};
    if (!request->delete_) {
        write->mutations[0].kind = KVS_MUTATION_SET;
        write->mutations[0].value = bytes_slice(request->value);
        write->mutations[0].ttl_ms = ttl_of_seconds(request->ttl);
    }
    write->condition = (struct engine_condition){
        .kind = request->previous_not_exist ? ENGINE_CONDITION_ABSENT : ENGINE_CONDITION_EQUALS,
        .family = place.family,
        .key = key,
        .value = bytes_slice(request->previous_value),
    };
    write->base.conditions = &write->condition;
    write->base.conditions_count = 1;
    write->base.flags = ENGINE_WRITE_WANT_PREVIOUS;
    submit(write, &place);
}

/* --- several keys -------------------------------------------------------------------------------
 */

/* All keys are in the batch: checks them, and submits. */
static void submit_batch(struct tikv_write *write, struct tikv_place *place)
{
    for (uint32_t i = 0; i < write->base.mutations_count; i++) {
        write->mutations[i].family = place->family;
        if (!tikv_place_write_key(place, write->mutations[i].key))
            return;
    }
    if (!tikv_place_region(place))
        return;
    for (uint32_t i = 0; i < write->base.mutations_count; i++) {
        if (!tikv_place_has(place, write->mutations[i].key))
            return;
    }
    submit(write, place);
}

void tikv_raw_batch_put(struct tikv_command *command)
{
    const Kvrpcpb__RawBatchPutRequest *request = (const void *)command->request;
    struct tikv_place place;
    if (!tikv_place_begin(&place, command, request->context, request->cf))
        return;
    if (request->n_ttls > 1 && request->n_ttls != request->n_pairs) {
        tikv_answer_error(command, "The length of ttls does not equal to the length of pairs");
        return;
    }
    struct tikv_write *write = write_new(&place, request->n_pairs);
    if (write == NULL)
        return;
    for (size_t i = 0; i < request->n_pairs; i++) {
        uint64_t ttl = 0;
        if (request->n_ttls > 0)
            ttl = request->ttls[request->n_ttls > 1 ? i : 0];
        write->mutations[i] = (kvs_mutation){
            .kind = KVS_MUTATION_SET,
            .key = bytes_slice(request->pairs[i]->key),
            .value = bytes_slice(request->pairs[i]->value),
            .ttl_ms = ttl_of_seconds(ttl),
        };
    }
    submit_batch(write, &place);
}

void tikv_raw_batch_delete(struct tikv_command *command)
{
    const Kvrpcpb__RawBatchDeleteRequest *request = (const void *)command->request;
    struct tikv_place place;
    if (!tikv_place_begin(&place, command, request->context, request->cf))
        return;
    struct tikv_write *write = write_new(&place, request->n_keys);
    if (write == NULL)
        return;
    for (size_t i = 0; i < request->n_keys; i++)
        write->mutations[i] =
            (kvs_mutation){.kind = KVS_MUTATION_REMOVE, .key = bytes_slice(request->keys[i])};
    submit_batch(write, &place);
}

void tikv_raw_delete_range(struct tikv_command *command)
{
    const Kvrpcpb__RawDeleteRangeRequest *request = (const void *)command->request;
    kvs_slice start = bytes_slice(request->start_key);
    kvs_slice end = bytes_slice(request->end_key);
    struct tikv_place place;
    if (!tikv_place_begin(&place, command, request->context, request->cf) ||
        !tikv_place_range(&place, start, end) || !tikv_place_region(&place) ||
        !tikv_place_has(&place, start) || (end.size > 0 && !tikv_place_has_end(&place, end)) ||
        !tikv_place_clip(&place, start, end, &start, &end))
        return;
    if (end.size > 0 && slice_compare(start, end) >= 0) {
        tikv_answer(command, slice_make(NULL, 0));
        return;
    }
    struct tikv_write *write = write_new(&place, 1);
    if (write == NULL)
        return;
    write->mutations[0] = (kvs_mutation){
        .kind = KVS_MUTATION_REMOVE_RANGE, .family = place.family, .key = start, .value = end};
    submit(write, &place);
}
