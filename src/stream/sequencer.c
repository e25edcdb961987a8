/*
 * stream/sequencer.c: puts all writes into one order, in batches, and sends these to the engine.
 *
 *   1. streams_write puts writes into a mailbox; whoever finds nobody at work becomes the
 *      sequencer, on its own thread: no lock, and no other thread has to wake up;
 *   2. a turn takes what is there, and decides write after write what it does (write.c), on the
 *      heads, which are ahead of the engine by the batches on their way; what is to be written goes
 *      into the batch that is being built;
 *   3. the batch goes to the engine; up to IN_FLIGHT_MAX are there at once, what comes meanwhile
 *      gathers for the next one;
 *   4. when the engine has it safe, on the engine's thread: watches fire, the writes complete, each
 *      on its loop; then the heads are unpinned by the next turn, which that thread takes if nobody
 *      else is at it.
 * A write that was answered by what another one on its way has done (a retry, a conflict) completes
 * with the batch being built, which comes after that one.
 *
 * If a turn must wait for a disk (a head that is not in memory), or comes to a write so large that
 * a loop would be held up, the rest of it is done on the blocking pool; the writes behind it wait,
 * in order. The pool also takes over when others keep a thread at it for long.
 *
 * Failure: when the engine refuses a batch, those behind it fail as well, by their condition; no
 * further batch is sent until all are back; then everything starts from what the engine has. A
 * batch that cannot be built for lack of memory is given up, and its writes fail: the same follows.
 * On a full disk the engine takes a batch if all in it gives space back: what does so, and was
 * refused with others, or behind them, is tried once more without them, if it still does.
 */
#include "stream/streams.h"

#include "base/mem.h"

#include <assert.h>

#define IN_FLIGHT_MAX 4u
#define BATCH_SIZE_MAX (1024u * 1024) /* then it goes, if it can */
#define BATCH_WRITES_MAX 4096u
#define TURNS_MAX 32u /* of one thread, which may be a loop: then the pool goes on */
#define SCAN_ENOUGH 3 /* ends a scan; never leaves this file */
#define RECENT_LOAD_SIZE_MAX (32u * 1024 * 1024)

enum turn_result { TURN_DONE, TURN_MUST_BLOCK };

/* --- loading ---------------------------------------------------------------------------------- */

struct recent_load {
    struct recent *recent;
    size_t size;
    uint32_t count;
    struct log_key from;
    bool adding;
};

static int recent_each(void *arg, kvs_slice key, kvs_slice value)
{
    struct recent_load *load = arg;
    struct block block;
    int error = block_parse(key, value, &block);
    if (error != 0)
        return error;
    load->size += value.size;
    load->count += block.count;
    memcpy(load->from.bytes, key.data, LOG_KEY_SIZE);
    for (uint32_t i = 0; load->adding && i < block.count; i++) {
        struct stream_record record;
        uint64_t stream_id;
        error = block_event(&block, i, &record, &stream_id);
        if (error != 0)
            return error;
        recent_add(load->recent, stream_id, record.id, record.number, record.position);
    }
    bool enough = load->size > RECENT_LOAD_SIZE_MAX || load->count > RECENT_COUNT;
    return enough && !load->adding ? SCAN_ENOUGH : 0;
}

/* First backwards, to see where to begin; then forwards, so that the oldest leave first. */
static int recent_load(struct recent *recent, struct engine_view *view)
{
    recent_clear(recent);
    struct recent_load load = {.recent = recent};
    struct engine_range range = {.family = STREAM_FAMILY_LOG, .reverse = true};
    int error = engine_scan(view, &range, recent_each, &load);
    if ((error != 0 && error != SCAN_ENOUGH) || load.count == 0)
        return error == SCAN_ENOUGH ? 0 : error;
    load.adding = true;
    struct log_key from = load.from;
    range = (struct engine_range){.family = STREAM_FAMILY_LOG,
                                  .start = slice_make(from.bytes, LOG_KEY_SIZE)};
    return engine_scan(view, &range, recent_each, &load);
}

static int last_id_each(void *arg, kvs_slice key, kvs_slice value)
{
    (void)value;
    uint64_t *id = arg;
    if (key.size != INDEX_KEY_SIZE)
        return KVS_ERR_CORRUPTION;
    *id = get_u64_be(key.data);
    return SCAN_ENOUGH;
}

static int load_from_view(struct streams *streams, struct engine_view *view)
{
    struct sequencer *sequencer = &streams->sequencer;
    int64_t last_position = 0;
    int error = lookup_last_block(view, &sequencer->last_block, &last_position);
    sequencer->has_last_block = error == 0;
    uint64_t last_id = 0;
    struct engine_range range = {.family = STREAM_FAMILY_INDEX, .reverse = true, .keys_only = true};
    if (error == 0 || error == KVS_ERR_NOT_FOUND)
        error = engine_scan(view, &range, last_id_each, &last_id);
    if (error == 0 || error == SCAN_ENOUGH)
        error = recent_load(&sequencer->recent, view);
    kvs_slice value = {0};
    if (error == 0)
        error = engine_get(view, STREAM_FAMILY_STATE, slice_of_string("transaction"), &value);
    if (error != 0 && error != KVS_ERR_NOT_FOUND)
        return error;
    sequencer->last_transaction = value.size == 8 ? get_u64(value.data) : 0;
    sequencer->next_position = last_position + 1;
    sequencer->next_stream_id = last_id + 1;
    atomic_store_explicit(&streams->last_position, last_position, memory_order_release);
    return 0;
}

int sequencer_load(struct streams *streams, bool may_block)
{
    heads_clear(&streams->sequencer.heads);
    transactions_clear(&streams->sequencer);
    struct engine_view view;
    int error = engine_view_begin(streams->engine, NULL, may_block, &view);
    if (error != 0)
        return error;
    error = load_from_view(streams, &view);
    engine_view_end(&view);
    return error;
}

/* --- for write.c ------------------------------------------------------------------------------ */

int sequencer_batch(struct streams *streams, struct batch **ret_batch)
{
    struct sequencer *sequencer = &streams->sequencer;
    int error = 0;
    if (sequencer->building == NULL)
        error = batch_new(streams, &sequencer->building);
    *ret_batch = sequencer->building;
    return error;
}

int sequencer_view(struct streams *streams, struct engine_view **ret_view)
{
    struct sequencer *sequencer = &streams->sequencer;
    *ret_view = &sequencer->view;
    if (sequencer->view_open)
        return 0;
    int error = engine_view_begin(streams->engine, NULL, sequencer->may_block, &sequencer->view);
    sequencer->view_open = error == 0;
    return error;
}

int sequencer_head(struct streams *streams, kvs_slice name, struct head **ret_head)
{
    struct engine_view *view;
    int error = sequencer_view(streams, &view);
    return error != 0 ? error : heads_get(&streams->sequencer.heads, view, name, ret_head);
}

/* Keeps a copy in the batch's arena: what a view gives in a scan is gone after it. */
struct kept_event {
    struct arena *arena;
    struct stream_record *record;
    bool id_only;
};

static int kept_slice(struct arena *arena, kvs_slice *slice)
{
    void *copy = arena_copy(arena, *slice);
    if (copy == NULL)
        return KVS_ERR_NO_MEMORY;
    slice->data = copy;
    return 0;
}

static int keep_event(void *arg, const struct stream_record *record, uint64_t stream_id)
{
    (void)stream_id;
    struct kept_event *kept = arg;
    *kept->record = *record;
    if (kept->id_only)
        return 0;
    int error = kept_slice(kept->arena, &kept->record->stream);
    if (error == 0)
        error = kept_slice(kept->arena, &kept->record->type);
    if (error == 0)
        error = kept_slice(kept->arena, &kept->record->data);
    return error != 0 ? error : kept_slice(kept->arena, &kept->record->metadata);
}

int sequencer_event(struct streams *streams, const struct head *head, int64_t number, bool id_only,
                    struct stream_record *ret_record)
{
    struct sequencer *sequencer = &streams->sequencer;
    struct batch *building;
    int error = sequencer_batch(streams, &building);
    if (error != 0)
        return error;
    error = batch_find_event(building, head, number, ret_record);
    for (struct batch *at = sequencer->first; at != NULL && error == KVS_ERR_NOT_FOUND;
         at = at->next)
        error = batch_find_event(at, head, number, ret_record);
    if (error != KVS_ERR_NOT_FOUND || head->settings.id == 0)
        return error;
    struct engine_view *view;
    int64_t position;
    error = sequencer_view(streams, &view);
    if (error == 0)
        error = lookup_position(view, head->settings.id, number, &position);
    struct kept_event kept = {.arena = &building->arena, .record = ret_record, .id_only = id_only};
    return error != 0 ? error : lookup_event_at(view, position, keep_event, &kept);
}

/* --- batches on their way --------------------------------------------------------------------- */

static void writes_complete(struct task_list *writes, int error)
{
    struct completions completions = COMPLETIONS_INIT;
    struct task *task;
    while ((task = task_list_pop(writes)) != NULL)
        completions_add(&completions, CONTAINER_OF(task, struct op, task), error);
    completions_flush(&completions);
}

static void acls_install(struct streams *streams, struct batch *batch)
{
    pthread_rwlock_wrlock(&streams->acls_lock);
    struct default_acls old = streams->acls;
    streams->acls = batch->acls;
    batch->acls = old;
    pthread_rwlock_unlock(&streams->acls_lock);
}

static void batch_is_safe(struct streams *streams, struct batch *batch)
{
    if (batch->last_position != 0) {
        /* release: who sees the position finds the event in a view begun after that. */
        atomic_store_explicit(&streams->last_position, batch->last_position, memory_order_release);
        stream_stat_add(&streams->stat_events, batch->events_count);
    }
    /* release: who sees the version finds the change in a view begun after that. */
    if (batch->changes_users)
        atomic_fetch_add_explicit(&streams->users_version, 1, memory_order_release);
    if (batch->changes_acls)
        acls_install(streams, batch);
    stream_stat_add(&streams->stat_batches, 1);
    watches_fire(streams, batch);
    tidy_note_batch(streams, batch);
}

/* What gives space back may have been refused for what came with it, or before it. */
static void writes_keep(struct batch *batch)
{
    struct task_list writes = batch->writes;
    batch->writes = (struct task_list){0};
    struct task *task;
    while ((task = task_list_pop(&writes)) != NULL) {
        struct stream_write *write = CONTAINER_OF(task, struct stream_write, op.task);
        bool kept = write->gives_back && !write->again;
        write->again |= kept;
        task_list_push(kept ? &batch->again : &batch->writes, task);
    }
}

/* On the engine's thread, in the order of the batches. */
static void batch_on_written(struct task *task)
{
    struct batch *batch = CONTAINER_OF(task, struct batch, write.op.task);
    struct streams *streams = batch->streams;
    struct sequencer *sequencer = &streams->sequencer;
    int error = batch->write.op.error;
    if (error != 0) {
        /* That its condition failed is the consequence of an earlier failure. */
        bool follows = error == KVS_ERR_NOT_FOUND && sequencer->failed_error != 0;
        if (!follows)
            sequencer->failed_error = error != KVS_ERR_NOT_FOUND ? error : KVS_ERR_CORRUPTION;
        error = sequencer->failed_error;
        /* release: pairs with the acquire in turn_recover. */
        atomic_store_explicit(&sequencer->failed, true, memory_order_release);
        if (error == KVS_ERR_NO_SPACE)
            writes_keep(batch);
    } else {
        batch_is_safe(streams, batch);
    }
    writes_complete(&batch->writes, error);
    mailbox_push(&sequencer->completed, &batch->completed);
    sequencer_kick(streams);
    /* release: the last touch; pairs with the acquire in sequencer_is_idle. */
    atomic_fetch_sub_explicit(&sequencer->handlers, 1, memory_order_release);
}

static void heads_unpin(struct batch *batch)
{
    for (struct batch_head *held = batch->heads; held != NULL; held = held->next)
        held->head->pins--;
}

static void take_completed(struct sequencer *sequencer)
{
    struct task_list completed = mailbox_take(&sequencer->completed);
    while (task_list_pop(&completed) != NULL) {
        struct batch *batch = sequencer->first; /* they come back in order */
        sequencer->first = batch->next;
        if (sequencer->first == NULL)
            sequencer->last = NULL;
        sequencer->in_flight--;
        task_list_splice(&sequencer->again, &batch->again);
        heads_unpin(batch);
        batch_free(batch);
    }
}

static void batch_issue(struct streams *streams, struct batch *batch)
{
    struct sequencer *sequencer = &streams->sequencer;
    if (sequencer->has_last_block) {
        batch->condition_key = sequencer->last_block;
        batch->condition = (struct engine_condition){
            .kind = ENGINE_CONDITION_EXISTS,
            .family = STREAM_FAMILY_LOG,
            .key = slice_make(batch->condition_key.bytes, LOG_KEY_SIZE),
        };
        batch->write.conditions = &batch->condition;
        batch->write.conditions_count = 1;
    }
    if (batch->last_block != NULL) {
        sequencer->last_block = batch->last_block->key;
        sequencer->has_last_block = true;
    }
    if (sequencer->last != NULL)
        sequencer->last->next = batch;
    else
        sequencer->first = batch;
    sequencer->last = batch;
    sequencer->in_flight++;
    atomic_fetch_add_explicit(&sequencer->handlers, 1, memory_order_relaxed);
    if (batch->gives_back_count == batch->writes_count)
        batch->write.flags = ENGINE_WRITE_GIVES_BACK;
    batch->write.op.task.run = batch_on_written;
    batch->write.op.loop = NULL; /* on the engine's thread */
    engine_write(streams->engine, &batch->write);
}

/* The heads are ahead of what will be written: they are forgotten when all is back. */
static void batch_give_up(struct streams *streams, int error)
{
    struct sequencer *sequencer = &streams->sequencer;
    struct batch *batch = sequencer->building;
    sequencer->building = NULL;
    sequencer->tainted = false;
    atomic_store_explicit(&sequencer->failed, true, memory_order_release);
    if (batch == NULL)
        return;
    struct task *task;
    while ((task = task_list_pop(&batch->writes)) != NULL) {
        CONTAINER_OF(task, struct op, task)->error = error;
        task_list_push(&sequencer->done, task);
    }
    heads_unpin(batch);
    batch_free(batch);
}

/* Sends what has been built, if anything. */
static void building_issue(struct streams *streams)
{
    struct sequencer *sequencer = &streams->sequencer;
    struct batch *batch = sequencer->building;
    if (batch == NULL)
        return;
    if (batch->writes.first == NULL) { /* made to look something up, no more */
        sequencer->building = NULL;
        batch_free(batch);
        return;
    }
    int error = batch_finish(batch);
    if (error != 0) {
        batch_give_up(streams, error);
        return;
    }
    sequencer->building = NULL;
    batch_issue(streams, batch);
}

/* --- turns ------------------------------------------------------------------------------------ */

/* A write that is tried once more gives nothing back without those that were before it. The heads
 * are ahead by it: those that are in its batch are prepared anew. */
static void again_refuse(struct streams *streams, struct stream_write *write)
{
    struct sequencer *sequencer = &streams->sequencer;
    struct task_list *beside = &sequencer->building->writes;
    task_list_splice(beside, &sequencer->queue);
    task_list_splice(&sequencer->queue, beside);
    write->op.error = KVS_ERR_NO_SPACE;
    task_list_push(&sequencer->done, &write->op.task);
    batch_give_up(streams, KVS_ERR_NO_SPACE);
}

/* Prepares the first write of the queue; false: it cannot be done now. */
static bool queue_prepare(struct streams *streams, enum turn_result *result)
{
    struct sequencer *sequencer = &streams->sequencer;
    struct stream_write *write = CONTAINER_OF(sequencer->queue.first, struct stream_write, op.task);
    int64_t position = sequencer->next_position;
    bool waits = false;
    int error = write_prepare(streams, write, &waits);
    if (error == ENGINE_WOULD_BLOCK || error == WRITE_WAITS) {
        *result = error == ENGINE_WOULD_BLOCK ? TURN_MUST_BLOCK : TURN_DONE;
        return false;
    }
    task_list_pop(&sequencer->queue);
    stream_stat_add(&streams->stat_appends, 1);
    if (error != 0) {
        write->op.error = error;
        task_list_push(&sequencer->done, &write->op.task);
        if (sequencer->tainted)
            batch_give_up(streams, error);
        return !atomic_load_explicit(&sequencer->failed, memory_order_relaxed);
    }
    write->op.error = 0;
    if (!waits) {
        task_list_push(&sequencer->done, &write->op.task);
        return true;
    }
    if (write->again && !write->gives_back && sequencer->next_position != position) {
        again_refuse(streams, write);
        return false;
    }
    struct batch *batch = sequencer->building;
    batch->writes_count++;
    batch->gives_back_count += write->gives_back || write->again; /* or it is an answer alone */
    batch->of_again = write->again;
    task_list_push(&batch->writes, &write->op.task);
    return true;
}

/* Does the first write of the queue belong into another batch? */
static bool building_is_full(const struct sequencer *sequencer)
{
    const struct batch *batch = sequencer->building;
    const struct stream_write *next =
        CONTAINER_OF(sequencer->queue.first, struct stream_write, op.task);
    return batch != NULL && batch->writes_count > 0 &&
           (batch->size >= BATCH_SIZE_MAX || batch->writes_count >= BATCH_WRITES_MAX ||
            batch->of_again != next->again);
}

static void done_complete(struct sequencer *sequencer)
{
    struct completions completions = COMPLETIONS_INIT;
    struct task *task;
    while ((task = task_list_pop(&sequencer->done)) != NULL) {
        struct op *op = CONTAINER_OF(task, struct op, task);
        completions_add(&completions, op, op->error);
    }
    completions_flush(&completions);
}

static enum turn_result queue_run(struct streams *streams)
{
    struct sequencer *sequencer = &streams->sequencer;
    enum turn_result result = TURN_DONE;
    bool go_on = true;
    while (go_on && sequencer->queue.first != NULL && sequencer->in_flight < IN_FLIGHT_MAX) {
        while (go_on && sequencer->queue.first != NULL && !building_is_full(sequencer))
            go_on = queue_prepare(streams, &result);
        done_complete(sequencer); /* before what comes behind them may be safe */
        building_issue(streams);
        go_on = go_on && !atomic_load_explicit(&sequencer->failed, memory_order_relaxed);
    }
    return result;
}

/* After a failure: true when everything has been loaded again. */
static bool turn_recover(struct streams *streams, enum turn_result *result)
{
    struct sequencer *sequencer = &streams->sequencer;
    /* acquire: pairs with the release in batch_on_written. */
    if (!atomic_load_explicit(&sequencer->failed, memory_order_acquire))
        return true;
    if (sequencer->in_flight > 0)
        return false;
    task_list_splice(&sequencer->again, &sequencer->queue);
    task_list_splice(&sequencer->queue, &sequencer->again);
    int error = sequencer_load(streams, sequencer->may_block);
    if (error == ENGINE_WOULD_BLOCK)
        *result = TURN_MUST_BLOCK;
    if (error == ENGINE_WOULD_BLOCK)
        return false;
    if (error != 0) {
        writes_complete(&sequencer->queue, error);
        return false;
    }
    sequencer->failed_error = 0;
    atomic_store_explicit(&sequencer->failed, false, memory_order_relaxed);
    return true;
}

static enum turn_result turn(struct streams *streams, bool may_block)
{
    struct sequencer *sequencer = &streams->sequencer;
    enum turn_result result = TURN_DONE;
    sequencer->may_block = may_block;
    take_completed(sequencer);
    struct task_list incoming = mailbox_take(&sequencer->incoming);
    task_list_splice(&sequencer->queue, &incoming);
    heads_trim(&sequencer->heads);
    if (turn_recover(streams, &result))
        result = queue_run(streams);
    /* A give-up with nothing on its way: nobody else would come back to it. */
    while (result == TURN_DONE && sequencer->in_flight == 0 && sequencer->queue.first != NULL &&
           atomic_load_explicit(&sequencer->failed, memory_order_relaxed)) {
        if (sequencer->view_open)
            engine_view_end(&sequencer->view);
        sequencer->view_open = false;
        if (turn_recover(streams, &result))
            result = queue_run(streams);
    }
    if (sequencer->view_open)
        engine_view_end(&sequencer->view);
    sequencer->view_open = false;
    atomic_store_explicit(&streams->stat_heads, sequencer->heads.count, memory_order_relaxed);
    done_complete(sequencer);
    return result;
}

/* Turns until nobody has signalled since; the caller holds the role. */
static void turns_run(struct streams *streams)
{
    struct sequencer *sequencer = &streams->sequencer;
    /* acquire and release: what one holder of the role wrote, the next one sees. */
    unsigned seen = atomic_load_explicit(&sequencer->signals, memory_order_acquire);
    for (unsigned turns = 1;; turns++) {
        if (turn(streams, false) == TURN_MUST_BLOCK || turns == TURNS_MAX) {
            engine_read(streams->engine, &sequencer->pool_turn);
            return; /* with the role */
        }
        unsigned before =
            atomic_fetch_sub_explicit(&sequencer->signals, seen, memory_order_acq_rel);
        if (before == seen)
            return;
        seen = before - seen;
    }
}

static int pool_turn_run(struct engine_read *read, struct engine_view *view)
{
    (void)view; /* the turn begins its own, after it has forgotten heads */
    struct streams *streams = CONTAINER_OF(read, struct streams, sequencer.pool_turn);
    (void)turn(streams, true);
    return 0;
}

static void pool_turn_on_done(struct task *task)
{
    struct streams *streams = CONTAINER_OF(task, struct streams, sequencer.pool_turn.op.task);
    turns_run(streams);
}

void sequencer_kick(struct streams *streams)
{
    if (atomic_fetch_add_explicit(&streams->sequencer.signals, 1, memory_order_acq_rel) == 0)
        turns_run(streams);
}

void streams_write_list(struct streams *streams, struct task_list *writes)
{
    if (writes->first == NULL)
        return;
    mailbox_push_list(&streams->sequencer.incoming, writes);
    sequencer_kick(streams);
}

void streams_write(struct streams *streams, struct stream_write *write)
{
    struct task_list list = {0};
    task_list_push(&list, &write->op.task);
    streams_write_list(streams, &list);
}

/* --- life ------------------------------------------------------------------------------------- */

int sequencer_init(struct streams *streams)
{
    struct sequencer *sequencer = &streams->sequencer;
    uint64_t seed = streams->wall_ms() ^ (uint64_t)(uintptr_t)streams;
    sequencer->rand = rand_seed(seed);
    mailbox_init(&sequencer->incoming);
    mailbox_init(&sequencer->completed);
    list_init(&sequencer->transactions);
    sequencer->pool_turn =
        (struct engine_read){.op.task.run = pool_turn_on_done, .run = pool_turn_run};
    int error = heads_init(&sequencer->heads, rand_u64(&sequencer->rand));
    if (error == 0)
        error = recent_init(&sequencer->recent, rand_u64(&sequencer->rand));
    return error != 0 ? error : sequencer_load(streams, true);
}

bool sequencer_is_idle(struct streams *streams)
{
    struct sequencer *sequencer = &streams->sequencer;
    /* acquire: pairs with the releases of handlers and of the role. */
    return atomic_load_explicit(&sequencer->handlers, memory_order_acquire) == 0 &&
           atomic_load_explicit(&sequencer->signals, memory_order_acquire) == 0;
}

void sequencer_deinit(struct streams *streams)
{
    struct sequencer *sequencer = &streams->sequencer;
    assert(sequencer->first == NULL && sequencer->building == NULL);
    transactions_clear(sequencer);
    heads_deinit(&sequencer->heads);
    recent_deinit(&sequencer->recent);
}
