/*
 * stream/transaction.c: explicit transactions: start, any number of writes, commit.
 *
 * What is written lies in the state family, and is no event yet: it has neither number nor
 * position, and no reader sees it. The commit appends all of it like one write, by the rules of
 * expected versions as of then, in the batch that removes it from there. So a transaction survives
 * lost connections and restarts, and one that is forgotten costs nothing but its space.
 */
#include "stream/streams.h"

#include "base/mem.h"

#define KEY_SIZE 9u
#define PART_KEY_SIZE 13u
#define RECORD_SIZE 41u
#define LAST_TRANSACTION_KEY "transaction"

struct transaction_key {
    uint8_t bytes[PART_KEY_SIZE];
};

static struct transaction_key key_make(uint64_t id, uint32_t part)
{
    struct transaction_key key = {.bytes = {'t'}};
    put_u64_be(key.bytes + 1, id);
    for (unsigned i = 0; i < 4; i++)
        key.bytes[9 + i] = (uint8_t)(part >> (24 - 8 * i));
    return key;
}

static kvs_slice transaction_name(const struct transaction *transaction)
{
    return slice_make(transaction->name, transaction->name_size);
}

/* --- in memory -------------------------------------------------------------------------------- */

static void transaction_drop(struct sequencer *sequencer, struct transaction *transaction)
{
    list_remove(&transaction->node);
    sequencer->transactions_count--;
    mem_free(transaction);
}

void transactions_clear(struct sequencer *sequencer)
{
    while (!list_empty(&sequencer->transactions))
        transaction_drop(sequencer,
                         list_entry(sequencer->transactions.next, struct transaction, node));
}

/* Is the batch that has its last part still on its way? */
static bool is_on_its_way(const struct sequencer *sequencer, const struct transaction *transaction)
{
    const struct batch *first = sequencer->first != NULL ? sequencer->first : sequencer->building;
    return first != NULL && first->serial <= transaction->batch_serial;
}

static void transactions_trim(struct sequencer *sequencer)
{
    struct list *at = sequencer->transactions.next;
    while (sequencer->transactions_count > TRANSACTIONS_MAX && at != &sequencer->transactions) {
        struct transaction *transaction = list_entry(at, struct transaction, node);
        at = at->next;
        if (!is_on_its_way(sequencer, transaction))
            transaction_drop(sequencer, transaction);
    }
}

static struct transaction *transaction_new(struct sequencer *sequencer, uint64_t id, kvs_slice name)
{
    struct transaction *transaction = mem_zalloc(sizeof *transaction + name.size);
    if (transaction == NULL)
        return NULL;
    transaction->id = id;
    transaction->name_size = (uint32_t)name.size;
    memcpy(transaction->name, name.data, name.size);
    transactions_trim(sequencer);
    list_append(&sequencer->transactions, &transaction->node);
    sequencer->transactions_count++;
    return transaction;
}

/* --- in the state family ---------------------------------------------------------------------- */

static int last_part_each(void *arg, kvs_slice key, kvs_slice value)
{
    (void)value;
    uint32_t *parts = arg;
    if (key.size == PART_KEY_SIZE)
        *parts = (uint32_t)(get_u64_be(key.data + 5) & UINT32_MAX) + 1;
    return WRITE_WAITS;
}

static int transaction_load(struct streams *streams, uint64_t id, struct transaction **ret)
{
    struct engine_view *view;
    kvs_slice record;
    struct transaction_key key = key_make(id, 0);
    int error = sequencer_view(streams, &view);
    if (error == 0)
        error = engine_get(view, STREAM_FAMILY_STATE, slice_make(key.bytes, KEY_SIZE), &record);
    if (error != 0)
        return error;
    if (record.size <= RECORD_SIZE)
        return KVS_ERR_CORRUPTION;
    struct transaction_key end = key_make(id + 1, 0);
    struct engine_range range = {.family = STREAM_FAMILY_STATE,
                                 .reverse = true,
                                 .keys_only = true,
                                 .start = slice_make(key.bytes, PART_KEY_SIZE),
                                 .end = slice_make(end.bytes, KEY_SIZE)};
    uint32_t parts = 0;
    error = engine_scan(view, &range, last_part_each, &parts);
    if (error != 0 && error != WRITE_WAITS)
        return error;
    struct transaction *transaction = transaction_new(
        &streams->sequencer, id, slice_make(record.data + RECORD_SIZE, record.size - RECORD_SIZE));
    if (transaction == NULL)
        return KVS_ERR_NO_MEMORY;
    transaction->committed = record.data[0] != 0;
    transaction->expected_version = (int64_t)get_u64(record.data + 1);
    transaction->started_ms = (int64_t)get_u64(record.data + 9);
    transaction->first_number = (int64_t)get_u64(record.data + 17);
    transaction->last_number = (int64_t)get_u64(record.data + 25);
    transaction->position = (int64_t)get_u64(record.data + 33);
    transaction->parts = parts;
    *ret = transaction;
    return 0;
}

/* One that may have been scavenged counts as unknown. */
static bool is_too_old(const struct streams *streams, const struct transaction *transaction)
{
    return (int64_t)streams->wall_ms() - transaction->started_ms > TRANSACTION_AGE_MS_MAX;
}

static int transaction_find(struct streams *streams, uint64_t id, struct transaction **ret)
{
    struct list *list = &streams->sequencer.transactions;
    for (struct list *at = list->prev; at != list; at = at->prev) {
        struct transaction *transaction = list_entry(at, struct transaction, node);
        if (transaction->id != id)
            continue;
        list_remove(&transaction->node);
        list_append(list, &transaction->node);
        *ret = transaction;
        return 0;
    }
    return transaction_load(streams, id, ret);
}

static int record_put(struct batch *batch, const struct transaction *transaction)
{
    uint8_t record[RECORD_SIZE + STREAM_NAME_SIZE_MAX];
    struct transaction_key key = key_make(transaction->id, 0);
    record[0] = transaction->committed;
    put_u64(record + 1, (uint64_t)transaction->expected_version);
    put_u64(record + 9, (uint64_t)transaction->started_ms);
    put_u64(record + 17, (uint64_t)transaction->first_number);
    put_u64(record + 25, (uint64_t)transaction->last_number);
    put_u64(record + 33, (uint64_t)transaction->position);
    memcpy(record + RECORD_SIZE, transaction->name, transaction->name_size);
    kvs_mutation mutation = {
        .kind = KVS_MUTATION_SET,
        .family = STREAM_FAMILY_STATE,
        .key = slice_make(key.bytes, KEY_SIZE),
        .value = slice_make(record, RECORD_SIZE + transaction->name_size),
    };
    return batch_add_extra(batch, &mutation);
}

/* --- the three kinds -------------------------------------------------------------------------- */

static int start_apply(struct streams *streams, struct stream_write *write)
{
    struct sequencer *sequencer = &streams->sequencer;
    struct batch *batch;
    int error = sequencer_batch(streams, &batch);
    struct transaction *transaction =
        error == 0 ? transaction_new(sequencer, sequencer->last_transaction + 1, write->stream)
                   : NULL;
    if (transaction == NULL)
        return KVS_ERR_NO_MEMORY;
    sequencer->last_transaction = transaction->id;
    transaction->expected_version = write->expected_version;
    transaction->started_ms = (int64_t)streams->wall_ms();
    transaction->batch_serial = batch->serial;
    uint8_t last[8];
    put_u64(last, transaction->id);
    kvs_mutation mutation = {.kind = KVS_MUTATION_SET,
                             .family = STREAM_FAMILY_STATE,
                             .key = slice_of_string(LAST_TRANSACTION_KEY),
                             .value = slice_make(last, sizeof last)};
    error = batch_add_extra(batch, &mutation);
    write->transaction = transaction->id;
    return error != 0 ? error : record_put(batch, transaction);
}

/* The events as a block of their own. */
static int part_encode(const struct stream_new_event *events, uint32_t count,
                       struct block_builder *builder)
{
    uint32_t stream;
    int error = block_add_stream(builder, 0, (kvs_slice){0}, &stream);
    for (uint32_t i = 0; i < count && error == 0; i++)
        error = block_add(builder, stream, i, (int64_t)i + 1, 0, &events[i]);
    return error != 0 ? error : block_finish(builder);
}

static int append_apply(struct streams *streams, struct stream_write *write,
                        struct transaction *transaction)
{
    struct batch *batch;
    struct block_builder builder = {0};
    int error = sequencer_batch(streams, &batch);
    if (error == 0)
        error = part_encode(write->events, write->count, &builder);
    struct transaction_key key = key_make(transaction->id, transaction->parts);
    kvs_mutation mutation = {.kind = KVS_MUTATION_SET,
                             .family = STREAM_FAMILY_STATE,
                             .key = slice_make(key.bytes, PART_KEY_SIZE),
                             .value = buf_slice(&builder.bytes)};
    if (error == 0)
        error = batch_add_extra(batch, &mutation);
    block_builder_deinit(&builder);
    if (error != 0)
        return error;
    transaction->parts++;
    transaction->batch_serial = batch->serial;
    return 0;
}

/* The events of all parts, in the arena of the batch that is being built. */
struct gathering {
    const struct streams *streams;
    struct arena *arena;
    struct stream_new_event *events;
    uint32_t count, capacity;
    uint64_t size;
};

static int gather_copy(struct gathering *gathering, kvs_slice *slice)
{
    void *copy = arena_copy(gathering->arena, *slice);
    if (copy == NULL)
        return KVS_ERR_NO_MEMORY;
    slice->data = copy;
    gathering->size += slice->size;
    return 0;
}

static int gather_event(struct gathering *gathering, const struct stream_record *record)
{
    if (gathering->count == gathering->capacity) {
        uint32_t capacity = gathering->capacity > 0 ? gathering->capacity * 2 : 64;
        void *grown = mem_realloc(gathering->events, capacity * sizeof *gathering->events);
        if (grown == NULL)
            return KVS_ERR_NO_MEMORY;
        gathering->events = grown;
        gathering->capacity = capacity;
    }
    struct stream_new_event *event = &gathering->events[gathering->count];
    *event = (struct stream_new_event){.is_json = record->is_json,
                                       .type = record->type,
                                       .data = record->data,
                                       .metadata = record->metadata};
    memcpy(event->id, record->id, sizeof event->id);
    int error = gather_copy(gathering, &event->type);
    if (error == 0)
        error = gather_copy(gathering, &event->data);
    if (error == 0)
        error = gather_copy(gathering, &event->metadata);
    if (error == 0)
        gathering->count++;
    gathering->size += BLOCK_EVENT_HEADER_SIZE; /* parts may have any number of empty events */
    return error != 0 ? error
                      : write_check_size(gathering->streams, gathering->count, gathering->size);
}

static int gather_each(void *arg, kvs_slice key, kvs_slice value)
{
    (void)key;
    struct block block;
    uint8_t first[LOG_KEY_SIZE] = {[LOG_KEY_SIZE - 1] = 1};
    int error = block_parse(slice_make(first, sizeof first), value, &block);
    for (uint32_t i = 0; error == 0 && i < block.count; i++) {
        struct stream_record record;
        uint64_t stream_id;
        error = block_event(&block, i, &record, &stream_id);
        if (error == 0)
            error = gather_event(arg, &record);
    }
    return error;
}

static struct engine_range parts_range(const struct transaction_key *start,
                                       const struct transaction_key *end)
{
    return (struct engine_range){.family = STREAM_FAMILY_STATE,
                                 .start = slice_make(start->bytes, PART_KEY_SIZE),
                                 .end = slice_make(end->bytes, KEY_SIZE)};
}

/* The commit's events are in the batch: the transaction goes. */
static int commit_note(struct streams *streams, const struct stream_write *write,
                       struct transaction *transaction)
{
    struct batch *batch;
    struct transaction_key start = key_make(transaction->id, 0);
    struct transaction_key end = key_make(transaction->id + 1, 0);
    kvs_mutation remove = {.kind = KVS_MUTATION_REMOVE_RANGE,
                           .family = STREAM_FAMILY_STATE,
                           .key = slice_make(start.bytes, PART_KEY_SIZE),
                           .value = slice_make(end.bytes, KEY_SIZE)};
    transaction->committed = true;
    transaction->first_number = write->first_number;
    transaction->last_number = write->last_number;
    transaction->position = write->position;
    int error = sequencer_batch(streams, &batch);
    if (error == 0)
        error = batch_add_extra(batch, &remove);
    if (error == 0)
        error = record_put(batch, transaction);
    if (error == 0)
        transaction->batch_serial = batch->serial;
    return error;
}

static int commit_apply(struct streams *streams, struct stream_write *write,
                        struct transaction *transaction, const struct write_target *target,
                        bool *ret_waits)
{
    struct engine_view *view;
    struct batch *batch;
    int error = sequencer_batch(streams, &batch);
    if (error == 0)
        error = sequencer_view(streams, &view);
    if (error != 0)
        return error;
    struct gathering gathering = {.streams = streams, .arena = &batch->arena};
    struct transaction_key start = key_make(transaction->id, 0);
    struct transaction_key end = key_make(transaction->id + 1, 0);
    struct engine_range range = parts_range(&start, &end);
    error = engine_scan(view, &range, gather_each, &gathering);
    if (error == 0)
        error = write_events(streams, write, target, transaction->expected_version,
                             gathering.events, gathering.count, ret_waits);
    mem_free(gathering.events);
    if (error != 0 || write->outcome != STREAM_OK)
        return error;
    *ret_waits = true;
    streams->sequencer.tainted = true;
    error = commit_note(streams, write, transaction);
    streams->sequencer.tainted = error != 0;
    return error;
}

static int prepare_known(struct streams *streams, struct stream_write *write,
                         struct transaction *transaction, const struct write_target *target,
                         bool *ret_waits)
{
    if (write->kind == STREAM_WRITE_TRANSACTION_COMMIT && transaction->committed) {
        write->first_number = transaction->first_number;
        write->last_number = transaction->last_number;
        write->position = transaction->position;
        write->was_there = true;
        return 0;
    }
    if (transaction->committed) {
        write->outcome = STREAM_INVALID_TRANSACTION;
        return 0;
    }
    if (write->kind == STREAM_WRITE_TRANSACTION_COMMIT)
        return commit_apply(streams, write, transaction, target, ret_waits);
    int error = write_check_events(streams, write->events, write->count);
    if (error != 0)
        return error;
    *ret_waits = true;
    streams->sequencer.tainted = true;
    error = append_apply(streams, write, transaction);
    streams->sequencer.tainted = error != 0;
    return error;
}

static int prepare_start(struct streams *streams, struct stream_write *write, bool *ret_waits)
{
    *ret_waits = true;
    streams->sequencer.tainted = true;
    int error = start_apply(streams, write);
    streams->sequencer.tainted = error != 0;
    return error;
}

int transaction_prepare(struct streams *streams, struct stream_write *write, bool *ret_waits)
{
    struct transaction *transaction = NULL;
    kvs_slice name = write->stream;
    if (write->kind != STREAM_WRITE_TRANSACTION_START) {
        int error = transaction_find(streams, write->transaction, &transaction);
        if (error == KVS_ERR_NOT_FOUND || (error == 0 && is_too_old(streams, transaction))) {
            write->outcome = STREAM_INVALID_TRANSACTION;
            return 0;
        }
        if (error != 0)
            return error;
        /* The parts are read, and an answer given again, when they are safe. */
        if (write->kind == STREAM_WRITE_TRANSACTION_COMMIT &&
            is_on_its_way(&streams->sequencer, transaction))
            return WRITE_WAITS;
        name = transaction_name(transaction);
    }
    struct write_target target;
    int error = write_target_find(streams, name, &target, &write->outcome);
    if (error != 0 || write->outcome != STREAM_OK)
        return error;
    if (!write_is_granted(streams, write->user, &target, STREAM_RIGHT_WRITE)) {
        write->outcome = STREAM_ACCESS_DENIED;
        return 0;
    }
    if (transaction == NULL)
        return prepare_start(streams, write, ret_waits);
    return prepare_known(streams, write, transaction, &target, ret_waits);
}
