/*
 * stream/batch.c: what goes to the engine at once.
 *
 *   1. events are appended: into the last block, and, for each stream they belong to, into its run
 *      of this batch, which spans blocks: one key for each stream, however many events;
 *   2. finish makes blocks, runs and changed stream records one atomic batch of the engine, whose
 *      condition is the last block of the batch before.
 *
 * Failure: NO_MEMORY leaves heads and batch half changed; then the batch is given up and the heads
 * are forgotten (sequencer.c).
 */
#include "stream/streams.h"

#include "base/mem.h"

int batch_new(struct streams *streams, struct batch **ret_batch)
{
    struct batch *batch = mem_zalloc(sizeof *batch);
    if (batch == NULL)
        return KVS_ERR_NO_MEMORY;
    batch->streams = streams;
    batch->serial = ++streams->sequencer.next_serial;
    batch->created_100ns = streams_now_100ns(streams);
    *ret_batch = batch;
    return 0;
}

void batch_free(struct batch *batch)
{
    for (struct batch_block *block = batch->blocks; block != NULL; block = block->next)
        block_builder_deinit(&block->builder);
    for (struct batch_run *run = batch->runs; run != NULL; run = run->next)
        buf_deinit(&run->run.deltas);
    buf_deinit(&batch->values);
    buf_deinit(&batch->write.previous);
    mem_free(batch->mutations);
    arena_deinit(&batch->arena);
    mem_free(batch);
}

int batch_hold(struct batch *batch, struct head *head)
{
    if (head->batch_serial == batch->serial)
        return 0;
    struct batch_head *held = arena_alloc(&batch->arena, sizeof *held);
    if (held == NULL)
        return KVS_ERR_NO_MEMORY;
    *held = (struct batch_head){.next = batch->heads, .head = head};
    batch->heads = held;
    head->batch_serial = batch->serial;
    head->run = NULL;
    head->record_changed = false;
    head->pins++;
    return 0;
}

int batch_change_record(struct batch *batch, struct head *head)
{
    int error = batch_hold(batch, head);
    if (error == 0)
        head->record_changed = true;
    return error;
}

/* --- appending -------------------------------------------------------------------------------- */

static int block_begin(struct batch *batch, size_t event_size)
{
    struct batch_block *last = batch->last_block;
    if (last != NULL && (last->builder.count == 0 ||
                         block_builder_size(&last->builder) + event_size <= BLOCK_SIZE_TARGET))
        return 0;
    struct batch_block *block = arena_zalloc(&batch->arena, sizeof *block);
    if (block == NULL)
        return KVS_ERR_NO_MEMORY;
    block->serial = ++batch->streams->sequencer.next_serial;
    if (last != NULL)
        last->next = block;
    else
        batch->blocks = block;
    batch->last_block = block;
    return 0;
}

static int block_name_head(struct batch_block *block, struct head *head)
{
    if (head->block_serial == block->serial)
        return 0;
    int error =
        block_add_stream(&block->builder, head->settings.id, head_name(head), &head->block_index);
    if (error == 0)
        head->block_serial = block->serial;
    return error;
}

/* The stream's first run in this batch goes on where the one before ended, if it can. */
static int run_begin(struct batch *batch, struct head *head, int64_t first_number, int64_t position)
{
    struct batch_run *run = arena_zalloc(&batch->arena, sizeof *run);
    if (run == NULL)
        return KVS_ERR_NO_MEMORY;
    run->head = head;
    run->begin = first_number;
    run->run.first_number = first_number;
    if (head->run == NULL && run_tail_fits(&head->tail, first_number, position)) {
        int error = run_tail_resume(&head->tail, &run->run);
        if (error != 0)
            return error;
    }
    if (batch->last_run != NULL)
        batch->last_run->next = run;
    else
        batch->runs = run;
    batch->last_run = run;
    head->run = run;
    return 0;
}

/* The event at `position` is the stream's number `number`, which is held. */
static int head_extend(struct batch *batch, struct head *head, int64_t number, int64_t position)
{
    int error = 1;
    bool follows =
        head->run != NULL && number == head->run->run.first_number + (int64_t)head->run->run.count;
    if (follows)
        error = run_add(&head->run->run, position);
    if (error == 1) {
        error = run_begin(batch, head, number, position);
        if (error == 0)
            error = run_add(&head->run->run, position);
    }
    if (error == 0)
        head->last = number;
    return error;
}

/* Holds it, and gives it an id if it has none yet. */
static int head_ready(struct batch *batch, struct head *head)
{
    int error = batch_hold(batch, head);
    if (error != 0 || head->settings.id != 0)
        return error;
    head->settings.id = batch->streams->sequencer.next_stream_id++;
    head->settings.derived = name_is_derived(head_name(head));
    head->record_changed = true;
    return 0;
}

/* Somebody wrote to a stream of this name before it was one of ours. */
static bool head_is_taken(const struct head *derived)
{
    return derived->settings.id != 0 && !derived->settings.derived;
}

static int link_append(struct batch *batch, struct head *derived, int64_t position)
{
    if (derived == NULL || head_is_taken(derived))
        return 0;
    int error = head_ready(batch, derived);
    return error != 0 ? error : head_extend(batch, derived, derived->last + 1, position);
}

int batch_append(struct batch *batch, struct head *head, const struct stream_new_event *event,
                 bool is_tombstone, const struct derived *derived)
{
    struct sequencer *sequencer = &batch->streams->sequencer;
    size_t size =
        BLOCK_EVENT_HEADER_SIZE + event->type.size + event->data.size + event->metadata.size;
    int64_t number = is_tombstone ? STREAM_NUMBER_DELETED : head->last + 1;
    int64_t position = sequencer->next_position;
    int error = head_ready(batch, head);
    if (error == 0)
        error = block_begin(batch, size);
    if (error == 0)
        error = block_name_head(batch->last_block, head);
    if (error == 0)
        error = block_add(&batch->last_block->builder, head->block_index, number, position,
                          batch->created_100ns, event);
    if (error == 0)
        error = head_extend(batch, head, number, position);
    if (error == 0)
        error = link_append(batch, derived->streams, position);
    if (error == 0)
        error = link_append(batch, derived->category, position);
    if (error == 0)
        error = link_append(batch, derived->type, position);
    if (error == 0)
        error = link_append(batch, derived->references, position);
    if (error == 0)
        error = link_append(batch, derived->correlation, position);
    if (error != 0)
        return error;
    if (is_tombstone) {
        head->settings.has_tombstone = true;
        head->record_changed = true;
    }
    recent_add(&sequencer->recent, head->settings.id, event->id, number, position);
    sequencer->next_position++;
    batch->changes_users |= name_is_about_user(head_name(head));
    batch->last_position = position;
    batch->size += size;
    batch->events_count++;
    return 0;
}

int batch_add_extra(struct batch *batch, const kvs_mutation *mutation)
{
    struct batch_extra *extra = arena_alloc(&batch->arena, sizeof *extra);
    if (extra == NULL)
        return KVS_ERR_NO_MEMORY;
    void *key = arena_copy(&batch->arena, mutation->key);
    void *value = arena_copy(&batch->arena, mutation->value);
    if (key == NULL || value == NULL)
        return KVS_ERR_NO_MEMORY;
    *extra = (struct batch_extra){.mutation = *mutation};
    extra->mutation.key.data = key;
    extra->mutation.value.data = value;
    if (batch->last_extra != NULL)
        batch->last_extra->next = extra;
    else
        batch->extras = extra;
    batch->last_extra = extra;
    batch->size += mutation->key.size + mutation->value.size;
    return 0;
}

/* --- finishing -------------------------------------------------------------------------------- */

static uint32_t mutations_count(const struct batch *batch)
{
    uint32_t count = 0;
    for (const struct batch_block *block = batch->blocks; block != NULL; block = block->next)
        count++;
    for (const struct batch_run *run = batch->runs; run != NULL; run = run->next)
        count++;
    for (const struct batch_head *held = batch->heads; held != NULL; held = held->next)
        count += held->head->record_changed;
    for (const struct batch_extra *extra = batch->extras; extra != NULL; extra = extra->next)
        count++;
    return count;
}

static kvs_mutation *mutation_next(struct batch *batch, unsigned family, kvs_slice key)
{
    kvs_mutation *mutation = &batch->mutations[batch->write.mutations_count++];
    *mutation = (kvs_mutation){.kind = KVS_MUTATION_SET, .family = (uint8_t)family, .key = key};
    return mutation;
}

static int finish_blocks(struct batch *batch)
{
    for (struct batch_block *block = batch->blocks; block != NULL; block = block->next) {
        int error = block_finish(&block->builder);
        if (error != 0)
            return error;
        block->key = log_key_make(block->builder.position);
        kvs_mutation *mutation =
            mutation_next(batch, STREAM_FAMILY_LOG, slice_make(block->key.bytes, LOG_KEY_SIZE));
        mutation->value = buf_slice(&block->builder.bytes);
    }
    return 0;
}

/* Values of runs and records lie in one buffer that may still move: first their sizes are noted. */
static int finish_runs(struct batch *batch)
{
    for (struct batch_run *run = batch->runs; run != NULL; run = run->next) {
        struct index_key *key = arena_alloc(&batch->arena, sizeof *key);
        if (key == NULL)
            return KVS_ERR_NO_MEMORY;
        *key = index_key_make(run->head->settings.id, run->run.first_number);
        size_t before = batch->values.size;
        int error = run_encode(&run->run, &batch->values);
        if (error != 0)
            return error;
        mutation_next(batch, STREAM_FAMILY_INDEX, slice_make(key->bytes, INDEX_KEY_SIZE))
            ->value.size = batch->values.size - before;
        if (run->head->run == run)
            run_tail_keep(&run->head->tail, &run->run);
    }
    return 0;
}

static int finish_records(struct batch *batch)
{
    for (struct batch_head *held = batch->heads; held != NULL; held = held->next) {
        struct head *head = held->head;
        if (!head->record_changed)
            continue;
        size_t before = batch->values.size;
        int error = settings_encode(&head->settings, &batch->values);
        if (error != 0)
            return error;
        mutation_next(batch, STREAM_FAMILY_STREAMS, head_name(head))->value.size =
            batch->values.size - before;
    }
    return 0;
}

int batch_finish(struct batch *batch)
{
    uint32_t count = mutations_count(batch);
    batch->mutations = mem_alloc(count * sizeof *batch->mutations);
    if (batch->mutations == NULL)
        return KVS_ERR_NO_MEMORY;
    int error = finish_blocks(batch);
    uint32_t first = batch->write.mutations_count;
    if (error == 0)
        error = finish_runs(batch);
    if (error == 0)
        error = finish_records(batch);
    if (error != 0)
        return error;
    size_t at = 0;
    for (uint32_t i = first; i < batch->write.mutations_count; i++) {
        batch->mutations[i].value.data = batch->values.data + at;
        at += batch->mutations[i].value.size;
    }
    for (struct batch_extra *extra = batch->extras; extra != NULL; extra = extra->next)
        batch->mutations[batch->write.mutations_count++] = extra->mutation;
    batch->write.mutations = batch->mutations;
    return 0;
}

/* --- looking back ----------------------------------------------------------------------------- */

static int run_find(const struct batch_run *at, int64_t number, int64_t *ret_position)
{
    if (!at->run.listed) {
        *ret_position = at->run.first_position + (number - at->run.first_number);
        return 0;
    }
    const struct run run = {
        .first_number = at->run.first_number,
        .count = at->run.count,
        .listed = true,
        .first_position = at->run.first_position,
        .deltas = buf_slice(&at->run.deltas),
    };
    struct run_walk walk;
    run_walk_begin(&walk, &run);
    while (walk.at < (uint64_t)(number - run.first_number)) {
        if (!run_walk_next(&walk))
            return KVS_ERR_CORRUPTION;
    }
    *ret_position = walk.position;
    return 0;
}

int batch_find_event(const struct batch *batch, const struct head *head, int64_t number,
                     struct stream_record *ret_record)
{
    for (const struct batch_run *run = batch->runs; run != NULL; run = run->next) {
        if (run->head != head || number < run->begin ||
            number - run->run.first_number >= (int64_t)run->run.count)
            continue;
        int64_t position = 0;
        int error = run_find(run, number, &position);
        const struct batch_block *block = batch->blocks;
        while (block->next != NULL && block->next->builder.position <= position)
            block = block->next;
        return error != 0 ? error : block_builder_event(&block->builder, position, ret_record);
    }
    return KVS_ERR_NOT_FOUND;
}
