/*
 * stream/scavenge.c: gives the space of events back that nobody can see any more.
 *
 *   1. blocks are gone through, oldest first, some at a time: events of deleted streams, those that
 *      truncation, count or age hide, leave; what is left of neighbours that are small is joined;
 *   2. then the index: runs at the begin of a stream of which no event is left; never the last one;
 *   3. transactions that nobody has committed for a day;
 *   4. the engine compacts.
 * Each step reads on the pool, in a view of its own, and writes one batch; reads and writes of
 * others go on. Nobody else changes what a scavenge changes: the newest block, upon whose being
 * there the next batch of the sequencer depends, is left alone. On a full disk the engine compacts
 * before more is written, and a step's batch goes in pieces.
 *
 * A join is a scavenge of which only the first step is done, without looking who is dead, for what
 * was written since the one before: it begins by itself when there are many small blocks among
 * that. A scavenge that is asked for meanwhile has it stop, and waits for its end.
 *
 * Failure: it ends with the error; what was removed stays removed. A join that failed leaves its
 * blocks as they are, for a scavenge.
 */
#include "stream/streams.h"

#include "base/mem.h"

#include <time.h>

#define STEP_BYTES_MAX (4u * 1024 * 1024)
#define STEP_STREAMS_MAX 256u
#define STEP_RUNS_MAX 4096u
#define PIECE_BYTES_MAX (2 * STEP_BYTES_MAX) /* a step's batch, as long as the disk is not full */
#define PIECE_BYTES_MIN (64u * 1024)
#define ROOM_WAIT_NS (10 * 1000 * 1000)
#define ROOM_WAITS_MAX 50u
#define SMALL_BLOCK_SIZE (BLOCK_SIZE_TARGET / 4)
#define JOIN_BLOCKS_DEFAULT 1024u
#define JOIN_BLOCK_SIZE (4u * 1024)       /* what a join takes is smaller */
#define JOIN_STEP_BYTES_MAX (512u * 1024) /* appends wait for no more than that */
#define JOIN_SPAN_MAX (64u * 1024 * 1024) /* a few small blocks among so much stay as they are */
#define TRANSACTION_MARGIN_MS (3600 * 1000)
#define SCAN_ENOUGH 3 /* never leaves this file */

enum phase { PHASE_BLOCKS, PHASE_INDEX, PHASE_TRANSACTIONS, PHASE_COMPACT };

/* Blocks that become one. */
struct joint {
    struct block_builder builder;
    struct log_key *keys; /* of what it replaces; the first is its own */
    uint32_t count, room;
    bool changed; /* an event has left */
};

struct scavenger {
    struct stream_scavenge *scavenge; /* NULL: a join */
    struct streams *streams;
    struct engine_read read;
    struct engine_write write;
    struct engine_control control;
    enum phase phase;
    bool phase_ends;
    struct log_key next_block, end_block;
    bool has_end;
    struct buf next_stream; /* the name where the index goes on, ... */
    int64_t next_number;    /* ... and the number there */
    struct joint joint;
    struct arena arena; /* of a step's keys and values */
    kvs_mutation *mutations;
    uint32_t count, room;
    uint32_t written;  /* of them */
    size_t piece_max;  /* bytes of a batch */
    bool has_progress; /* since the last compaction */
    unsigned waits;    /* since then, too */
    size_t bytes;      /* looked at in this step */
};

static void scavenger_step(struct scavenger *scavenger);

/* --- a step's batch --------------------------------------------------------------------------- */

static int change_add(struct scavenger *scavenger, uint8_t kind, unsigned family, kvs_slice key,
                      kvs_slice value)
{
    if (scavenger->count == scavenger->room) {
        uint32_t room = scavenger->room > 0 ? scavenger->room * 2 : 64;
        void *grown = mem_realloc(scavenger->mutations, room * sizeof *scavenger->mutations);
        if (grown == NULL)
            return KVS_ERR_NO_MEMORY;
        scavenger->mutations = grown;
        scavenger->room = room;
    }
    void *key_copy = arena_copy(&scavenger->arena, key);
    void *value_copy = arena_copy(&scavenger->arena, value);
    if (key_copy == NULL || value_copy == NULL)
        return KVS_ERR_NO_MEMORY;
    scavenger->mutations[scavenger->count++] =
        (kvs_mutation){.kind = kind,
                       .family = (uint8_t)family,
                       .key = slice_make(key_copy, key.size),
                       .value = slice_make(value_copy, value.size)};
    return 0;
}

static kvs_slice log_key_slice(const struct log_key *key)
{
    return slice_make(key->bytes, LOG_KEY_SIZE);
}

/* --- blocks: joining -------------------------------------------------------------------------- */

static void joint_clear(struct joint *joint)
{
    block_builder_deinit(&joint->builder);
    joint->count = 0;
    joint->changed = false;
}

/* What has been gathered replaces what it was made of, unless it is the same. */
static int joint_flush(struct scavenger *scavenger)
{
    struct joint *joint = &scavenger->joint;
    int error = 0;
    uint32_t removed_from = 0;
    if (joint->count == 1 && !joint->changed)
        joint->count = 0;
    if (joint->count > 0 && joint->builder.count > 0) {
        removed_from = 1;
        error = block_finish(&joint->builder);
        if (error == 0)
            error = change_add(scavenger, KVS_MUTATION_SET, STREAM_FAMILY_LOG,
                               log_key_slice(&joint->keys[0]), buf_slice(&joint->builder.bytes));
    }
    for (uint32_t i = removed_from; i < joint->count && error == 0; i++)
        error = change_add(scavenger, KVS_MUTATION_REMOVE, STREAM_FAMILY_LOG,
                           log_key_slice(&joint->keys[i]), (kvs_slice){0});
    joint_clear(joint);
    return error;
}

static int joint_add_source(struct joint *joint, int64_t position)
{
    if (joint->count == joint->room) {
        uint32_t room = joint->room > 0 ? joint->room * 2 : 16;
        void *grown = mem_realloc(joint->keys, room * sizeof *joint->keys);
        if (grown == NULL)
            return KVS_ERR_NO_MEMORY;
        joint->keys = grown;
        joint->room = room;
    }
    if (joint->count == 0)
        joint->builder.position = position;
    joint->keys[joint->count++] = log_key_make(position);
    return 0;
}

static int joint_stream(struct joint *joint, uint64_t id, kvs_slice name, uint32_t *ret_index)
{
    struct block_builder *builder = &joint->builder;
    for (uint32_t i = builder->streams_count; i-- > 0;) {
        if (get_u64(builder->streams.data + (size_t)i * 16) == id) {
            *ret_index = i;
            return 0;
        }
    }
    return block_add_stream(builder, id, name, ret_index);
}

static int joint_add_event(struct joint *joint, const struct stream_record *record, uint64_t id)
{
    uint32_t stream;
    struct stream_new_event event = {.is_json = record->is_json,
                                     .type = record->type,
                                     .data = record->data,
                                     .metadata = record->metadata};
    memcpy(event.id, record->id, sizeof event.id);
    int error = joint_stream(joint, id, record->stream, &stream);
    return error != 0 ? error
                      : block_add(&joint->builder, stream, record->number, record->position,
                                  record->created_100ns, &event);
}

/* --- blocks: what is dead --------------------------------------------------------------------- */

/* What is alive of one stream. */
struct alive {
    kvs_slice name; /* in the block */
    int64_t min;
    int64_t created_min;
    bool only_tombstone;
};

static int alive_find(struct scavenger *scavenger, struct engine_view *view, kvs_slice name,
                      struct alive *alive)
{
    struct stream_settings settings;
    int64_t last;
    bool is_meta = name_is_metastream(name);
    int64_t base_last = 0;
    int error = lookup_stream(view, name, &settings, &last);
    if (error == 0 && is_meta) {
        struct stream_settings of_base;
        error = lookup_stream(view, name_of_metastream(name), &of_base, &base_last);
    }
    *alive =
        (struct alive){.name = name, .min = settings.truncate_before, .created_min = INT64_MIN};
    int64_t max_count = is_meta ? 1 : settings.max_count;
    if (max_count > 0 && last != STREAM_NUMBER_DELETED && last - max_count + 1 > alive->min)
        alive->min = last - max_count + 1;
    if (settings.max_age_s > 0 && settings.max_age_s < INT64_MAX / 10000000)
        alive->created_min = streams_now_100ns(scavenger->streams) - settings.max_age_s * 10000000;
    alive->only_tombstone = last == STREAM_NUMBER_DELETED || base_last == STREAM_NUMBER_DELETED;
    return error;
}

static bool is_alive(const struct alive *alive, const struct stream_record *record)
{
    if (record->number == STREAM_NUMBER_DELETED)
        return true;
    return !alive->only_tombstone && record->number >= alive->min &&
           record->created_100ns >= alive->created_min;
}

/* One bit for each event: it stays. */
static int block_judge(struct scavenger *scavenger, struct engine_view *view,
                       const struct block *block, bool *stays, uint32_t *ret_dead)
{
    struct alive alive = {0};
    *ret_dead = 0;
    for (uint32_t i = 0; i < block->count; i++) {
        struct stream_record record;
        uint64_t id;
        int error = block_event(block, i, &record, &id);
        if (error == 0 && !slice_equal(record.stream, alive.name))
            error = alive_find(scavenger, view, record.stream, &alive);
        if (error != 0)
            return error;
        stays[i] = is_alive(&alive, &record);
        *ret_dead += !stays[i];
    }
    return 0;
}

/* `stays` NULL: all do. */
static int block_take(struct scavenger *scavenger, const struct block *block, const bool *stays)
{
    struct joint *joint = &scavenger->joint;
    int error = joint_add_source(joint, block->position);
    for (uint32_t i = 0; i < block->count && error == 0; i++) {
        struct stream_record record;
        uint64_t id;
        error = block_event(block, i, &record, &id);
        if (error == 0 && (stays == NULL || stays[i])) {
            error = joint_add_event(joint, &record, id);
        } else if (error == 0) {
            joint->changed = true;
            scavenger->scavenge->events_removed++;
            scavenger->scavenge->bytes_removed += BLOCK_EVENT_HEADER_SIZE + record.type.size +
                                                  record.data.size + record.metadata.size;
        }
    }
    return error;
}

static int block_scavenge(struct scavenger *scavenger, struct engine_view *view,
                          const struct block *block)
{
    struct joint *joint = &scavenger->joint;
    bool joins = scavenger->scavenge == NULL;
    uint32_t dead = 0;
    bool *stays = joins ? NULL : mem_alloc(block->count * sizeof *stays);
    if (stays == NULL && !joins)
        return KVS_ERR_NO_MEMORY;
    int error = joins ? 0 : block_judge(scavenger, view, block, stays, &dead);
    bool takes = dead > 0 || block->bytes.size < (joins ? JOIN_BLOCK_SIZE : SMALL_BLOCK_SIZE);
    bool fits = joint->count == 0 ||
                (block_builder_size(&joint->builder) + block->bytes.size <= BLOCK_SIZE_TARGET &&
                 block_last_position(block) - joint->builder.position < UINT32_MAX);
    if (error == 0 && (!takes || !fits))
        error = joint_flush(scavenger);
    if (error == 0 && takes)
        error = block_take(scavenger, block, stays);
    mem_free(stays);
    return error;
}

/* --- blocks: a step --------------------------------------------------------------------------- */

struct block_copy {
    struct log_key key;
    struct buf bytes;
};

static int block_copy_each(void *arg, kvs_slice key, kvs_slice value)
{
    struct block_copy *copy = arg;
    if (key.size != LOG_KEY_SIZE)
        return KVS_ERR_CORRUPTION;
    memcpy(copy->key.bytes, key.data, LOG_KEY_SIZE);
    int error = buf_append_slice(&copy->bytes, value);
    return error != 0 ? error : SCAN_ENOUGH;
}

/* The next block, copied: its streams are looked up in the same view. */
static int block_next(struct scavenger *scavenger, struct engine_view *view, bool *ret_found)
{
    struct block_copy copy = {.bytes = BUF_INIT};
    struct block block;
    struct engine_range range = {.family = STREAM_FAMILY_LOG,
                                 .start = log_key_slice(&scavenger->next_block),
                                 .end = log_key_slice(&scavenger->end_block)};
    int error = engine_scan(view, &range, block_copy_each, &copy);
    *ret_found = error == SCAN_ENOUGH;
    if (error == SCAN_ENOUGH)
        error = block_parse(log_key_slice(&copy.key), buf_slice(&copy.bytes), &block);
    if (error == 0 && *ret_found) {
        scavenger->next_block = log_key_make(block.position + 1);
        scavenger->bytes += copy.bytes.size;
        error = block_scavenge(scavenger, view, &block);
    }
    buf_deinit(&copy.bytes);
    return error;
}

static int step_blocks(struct scavenger *scavenger, struct engine_view *view)
{
    int error = 0;
    if (!scavenger->has_end) {
        int64_t last;
        error = lookup_last_block(view, &scavenger->end_block, &last);
        scavenger->has_end = true;
        scavenger->phase_ends = error == KVS_ERR_NOT_FOUND;
        if (error != 0)
            return error == KVS_ERR_NOT_FOUND ? 0 : error;
    }
    bool found = true;
    size_t bytes_max = scavenger->scavenge != NULL ? STEP_BYTES_MAX : JOIN_STEP_BYTES_MAX;
    while (error == 0 && found && scavenger->bytes < bytes_max)
        error = block_next(scavenger, view, &found);
    scavenger->phase_ends = !found;
    return error != 0 ? error : joint_flush(scavenger);
}

/* --- the index -------------------------------------------------------------------------------- */

static int nothing_each(void *arg, const struct stream_record *record, uint64_t stream_id)
{
    (void)arg;
    (void)record;
    (void)stream_id;
    return 0;
}

static int event_is_there(struct engine_view *view, int64_t position, bool *ret_there)
{
    int error = lookup_event_at(view, position, nothing_each, NULL);
    *ret_there = error == 0;
    return error == KVS_ERR_NOT_FOUND ? 0 : error;
}

/* Events leave a stream from its begin on, so the last one of a run tells; those of a derived
 * stream leave in any order. */
static int run_is_dead(struct engine_view *view, const struct run *run, bool derived,
                       bool *ret_dead)
{
    struct run_walk walk;
    bool there = false;
    int error = 0;
    for (run_walk_begin(&walk, run); walk.at < run->count && error == 0 && !there;) {
        if (derived || walk.at + 1 == run->count)
            error = event_is_there(view, walk.position, &there);
        if (error == 0 && !run_walk_next(&walk))
            error = KVS_ERR_CORRUPTION;
    }
    *ret_dead = !there;
    return error;
}

struct run_copy {
    struct run run;
    struct buf deltas;
};

static int run_copy_each(void *arg, kvs_slice key, kvs_slice value)
{
    struct run_copy *copy = arg;
    int error = run_parse(key, value, &copy->run);
    buf_clear(&copy->deltas);
    if (error == 0)
        error = buf_append_slice(&copy->deltas, copy->run.deltas);
    copy->run.deltas = buf_slice(&copy->deltas);
    return error != 0 ? error : SCAN_ENOUGH;
}

/* The run that begins at `from` or behind; NOT_FOUND. */
static int run_next(struct engine_view *view, uint64_t id, int64_t from, struct run_copy *copy)
{
    struct index_key start = index_key_make(id, from);
    struct index_key end = index_key_make(id + 1, 0);
    struct engine_range range = {.family = STREAM_FAMILY_INDEX,
                                 .start = slice_make(start.bytes, INDEX_KEY_SIZE),
                                 .end = slice_make(end.bytes, INDEX_KEY_SIZE)};
    int error = engine_scan(view, &range, run_copy_each, copy);
    if (error == SCAN_ENOUGH)
        return 0;
    return error == 0 ? KVS_ERR_NOT_FOUND : error;
}

/* Takes the dead runs of a stream from `next_number` on, as many as a step has room for. */
static int stream_prune(struct scavenger *scavenger, struct engine_view *view,
                        const struct stream_settings *settings, bool *ret_ends)
{
    struct run last;
    struct run_copy copy = {.deltas = BUF_INIT};
    int error = lookup_run(view, settings->id, INT64_MAX, NULL, &last);
    bool dead = error == 0;
    while (error == 0 && scavenger->count < STEP_RUNS_MAX) {
        dead = false;
        error = run_next(view, settings->id, scavenger->next_number, &copy);
        if (error == 0 && copy.run.first_number < last.first_number)
            error = run_is_dead(view, &copy.run, settings->derived, &dead);
        if (error != 0 || !dead)
            break;
        struct index_key key = index_key_make(settings->id, copy.run.first_number);
        error = change_add(scavenger, KVS_MUTATION_REMOVE, STREAM_FAMILY_INDEX,
                           slice_make(key.bytes, INDEX_KEY_SIZE), (kvs_slice){0});
        scavenger->scavenge->runs_removed++;
        scavenger->next_number = copy.run.first_number + 1;
    }
    *ret_ends = !dead;
    buf_deinit(&copy.deltas);
    return error == KVS_ERR_NOT_FOUND ? 0 : error;
}

static int stream_name_each(void *arg, kvs_slice key, kvs_slice value)
{
    (void)value;
    struct buf *name = arg;
    buf_clear(name);
    int error = buf_append_slice(name, key);
    return error != 0 ? error : SCAN_ENOUGH;
}

/* Does it have what makes events leave? */
static bool stream_can_shrink(const struct scavenger *scavenger, kvs_slice name,
                              const struct stream_settings *settings)
{
    if (settings->id == 0)
        return false;
    if (settings->derived)
        return scavenger->scavenge->events_removed > 0;
    return settings->has_tombstone || settings->truncate_before > 0 || settings->max_count > 0 ||
           settings->max_age_s > 0 || name_is_metastream(name);
}

static int step_index(struct scavenger *scavenger, struct engine_view *view)
{
    int error = 0;
    for (uint32_t i = 0; i < STEP_STREAMS_MAX && scavenger->count < STEP_RUNS_MAX; i++) {
        struct engine_range range = {.family = STREAM_FAMILY_STREAMS,
                                     .keys_only = true,
                                     .start = buf_slice(&scavenger->next_stream)};
        struct stream_settings settings;
        int64_t last;
        error = engine_scan(view, &range, stream_name_each, &scavenger->next_stream);
        scavenger->phase_ends = error == 0;
        if (error != SCAN_ENOUGH)
            return error;
        kvs_slice name = buf_slice(&scavenger->next_stream);
        error = lookup_stream(view, name, &settings, &last);
        bool ends = true;
        if (error == 0 && stream_can_shrink(scavenger, name, &settings))
            error = stream_prune(scavenger, view, &settings, &ends);
        if (error == 0 && ends) {
            scavenger->next_number = 0;
            error = buf_append_u8(&scavenger->next_stream, 0); /* the next possible name */
        }
        if (error != 0)
            return error;
    }
    return 0;
}

/* --- transactions ----------------------------------------------------------------------------- */

static int transaction_each(void *arg, kvs_slice key, kvs_slice value)
{
    struct scavenger *scavenger = arg;
    if (key.size != 9 || value.size < 17)
        return 0;
    int64_t age_ms = (int64_t)scavenger->streams->wall_ms() - (int64_t)get_u64(value.data + 9);
    if (age_ms < (int64_t)TRANSACTION_AGE_MS_MAX + TRANSACTION_MARGIN_MS)
        return 0;
    uint8_t end[9] = {'t'};
    put_u64_be(end + 1, get_u64_be(key.data + 1) + 1);
    return change_add(scavenger, KVS_MUTATION_REMOVE_RANGE, STREAM_FAMILY_STATE, key,
                      slice_make(end, sizeof end));
}

static int step_transactions(struct scavenger *scavenger, struct engine_view *view)
{
    uint8_t start[9] = {'t'}; /* behind it are ids; "transaction" is no such key */
    struct engine_range range = {.family = STREAM_FAMILY_STATE,
                                 .start = slice_make(start, sizeof start),
                                 .end = slice_of_string("tr")};
    scavenger->phase_ends = true;
    return engine_scan(view, &range, transaction_each, scavenger);
}

/* --- steps ------------------------------------------------------------------------------------ */

static void scavenger_free(struct scavenger *scavenger)
{
    joint_clear(&scavenger->joint);
    mem_free(scavenger->joint.keys);
    mem_free(scavenger->mutations);
    buf_deinit(&scavenger->next_stream);
    arena_deinit(&scavenger->arena);
    mem_free(scavenger);
}

static void scavenge_complete(struct stream_scavenge *scavenge, int error)
{
    struct completions completions = COMPLETIONS_INIT;
    completions_add(&completions, &scavenge->op, error);
    completions_flush(&completions);
}

static void scavenger_end(struct scavenger *scavenger, int error)
{
    struct stream_scavenge *scavenge = scavenger->scavenge;
    struct streams *streams = scavenger->streams;
    struct stream_tidy *tidy = &streams->tidy;
    scavenger_free(scavenger);
    pthread_mutex_lock(&tidy->lock);
    tidy->running = NULL;
    struct stream_scavenge *waiting = tidy->waiting;
    tidy->waiting = NULL;
    pthread_mutex_unlock(&tidy->lock);
    if (waiting != NULL)
        streams_scavenge(streams, waiting);
    if (scavenge != NULL)
        scavenge_complete(scavenge, error);
    else /* release: the last touch; pairs with the acquire in tidy_stop */
        atomic_fetch_sub_explicit(&tidy->joins, 1, memory_order_release);
}

static void scavenger_on_compacted(struct task *task)
{
    struct scavenger *scavenger = CONTAINER_OF(task, struct scavenger, control.op.task);
    int error = scavenger->control.op.error;
    scavenger_end(scavenger, error == KVS_ERR_UNSUPPORTED ? 0 : error);
}

static _Atomic bool *scavenger_stop(struct scavenger *scavenger)
{
    return scavenger->scavenge != NULL ? &scavenger->scavenge->stop
                                       : &scavenger->streams->tidy.stop_join;
}

/* All of the step's batch is written. */
static void scavenger_on_stepped(struct scavenger *scavenger, int error)
{
    scavenger->count = 0;
    scavenger->written = 0;
    scavenger->bytes = 0;
    arena_reset(&scavenger->arena);
    if (scavenger->phase_ends)
        scavenger->phase++;
    scavenger->phase_ends = false;
    if (error == 0 && atomic_load_explicit(scavenger_stop(scavenger), memory_order_relaxed))
        error = KVS_ERR_CANCELLED;
    bool joined = scavenger->scavenge == NULL && scavenger->phase > PHASE_BLOCKS;
    if (error != 0 || joined)
        scavenger_end(scavenger, error);
    else
        scavenger_step(scavenger);
}

static void scavenger_write(struct scavenger *scavenger);

static void scavenger_on_room(struct scavenger *scavenger, int error)
{
    if (atomic_load_explicit(scavenger_stop(scavenger), memory_order_relaxed))
        error = KVS_ERR_CANCELLED;
    if (error == 0 || error == KVS_ERR_NO_SPACE || error == KVS_ERR_UNSUPPORTED)
        scavenger_write(scavenger);
    else
        scavenger_end(scavenger, error);
}

static void room_on_compacted(struct task *task)
{
    struct scavenger *scavenger = CONTAINER_OF(task, struct scavenger, control.op.task);
    scavenger_on_room(scavenger, scavenger->control.op.error);
}

static void room_on_waited(struct task *task)
{
    struct scavenger *scavenger = CONTAINER_OF(task, struct scavenger, read.op.task);
    scavenger_on_room(scavenger, scavenger->read.op.error);
}

static int room_wait(struct engine_read *read, struct engine_view *view)
{
    const struct timespec wait = {.tv_nsec = ROOM_WAIT_NS};
    (void)read;
    (void)view;
    (void)nanosleep(&wait, NULL);
    return 0;
}

/* Has what was removed so far given back, and tries less at once. Files that were emptied go a
 * moment after a compaction. False: all that was no help. */
static bool scavenger_make_room(struct scavenger *scavenger)
{
    bool is_large = scavenger->piece_max > PIECE_BYTES_MIN;
    bool compacts = is_large || scavenger->has_progress;
    if (scavenger->scavenge == NULL || (!compacts && scavenger->waits == ROOM_WAITS_MAX))
        return false;
    scavenger->waits = compacts ? 0 : scavenger->waits + 1;
    if (!compacts) {
        scavenger->read = (struct engine_read){.op.task.run = room_on_waited, .run = room_wait};
        engine_read(scavenger->streams->engine, &scavenger->read);
        return true;
    }
    if (is_large)
        scavenger->piece_max /= 4;
    scavenger->has_progress = false;
    scavenger->control =
        (struct engine_control){.op.task.run = room_on_compacted, .kind = ENGINE_CONTROL_COMPACT};
    engine_control(scavenger->streams->engine, &scavenger->control);
    return true;
}

static void scavenger_on_written(struct task *task)
{
    struct scavenger *scavenger = CONTAINER_OF(task, struct scavenger, write.op.task);
    int error = scavenger->write.op.error;
    if (error == KVS_ERR_NO_SPACE && scavenger_make_room(scavenger))
        return;
    scavenger->written += scavenger->write.mutations_count;
    scavenger->has_progress = true;
    if (error == 0 && scavenger->written < scavenger->count)
        scavenger_write(scavenger);
    else
        scavenger_on_stepped(scavenger, error);
}

/* A block that is written anew and those that it takes the place of go together: a set begins. */
static uint32_t piece_end(const struct scavenger *scavenger)
{
    size_t size = 0;
    for (uint32_t i = scavenger->written; i < scavenger->count; i++) {
        const kvs_mutation *mutation = &scavenger->mutations[i];
        if (size > 0 && mutation->kind == KVS_MUTATION_SET &&
            size + mutation->value.size > scavenger->piece_max)
            return i;
        size += mutation->key.size + mutation->value.size;
    }
    return scavenger->count;
}

static void scavenger_write(struct scavenger *scavenger)
{
    uint32_t from = scavenger->written;
    scavenger->write = (struct engine_write){.op.task.run = scavenger_on_written,
                                             .mutations = &scavenger->mutations[from],
                                             .mutations_count = piece_end(scavenger) - from};
    if (scavenger->scavenge != NULL) /* a join can be done without */
        scavenger->write.flags = ENGINE_WRITE_GIVES_BACK;
    engine_write(scavenger->streams->engine, &scavenger->write);
}

static void scavenger_on_read(struct task *task)
{
    struct scavenger *scavenger = CONTAINER_OF(task, struct scavenger, read.op.task);
    if (scavenger->read.op.error != 0)
        scavenger_end(scavenger, scavenger->read.op.error);
    else if (scavenger->count == 0)
        scavenger_on_stepped(scavenger, 0);
    else
        scavenger_write(scavenger);
}

static int scavenger_run(struct engine_read *read, struct engine_view *view)
{
    struct scavenger *scavenger = CONTAINER_OF(read, struct scavenger, read);
    if (scavenger->phase == PHASE_BLOCKS)
        return step_blocks(scavenger, view);
    if (scavenger->phase == PHASE_INDEX)
        return step_index(scavenger, view);
    return step_transactions(scavenger, view);
}

/* All steps run on the pool's and the engine's threads, one after the other. */
static void scavenger_step(struct scavenger *scavenger)
{
    struct engine *engine = scavenger->streams->engine;
    if (scavenger->phase < PHASE_COMPACT) {
        scavenger->read =
            (struct engine_read){.op.task.run = scavenger_on_read, .run = scavenger_run};
        engine_read(engine, &scavenger->read);
        return;
    }
    scavenger->control = (struct engine_control){.op.task.run = scavenger_on_compacted,
                                                 .kind = ENGINE_CONTROL_COMPACT};
    engine_control(engine, &scavenger->control);
}

static struct scavenger *scavenger_new(struct streams *streams, struct stream_scavenge *scavenge)
{
    struct scavenger *scavenger = mem_zalloc(sizeof *scavenger);
    if (scavenger == NULL)
        return NULL;
    scavenger->scavenge = scavenge;
    scavenger->streams = streams;
    scavenger->piece_max = PIECE_BYTES_MAX;
    return scavenger;
}

void streams_scavenge(struct streams *streams, struct stream_scavenge *scavenge)
{
    struct stream_tidy *tidy = &streams->tidy;
    struct scavenger *scavenger = NULL;
    scavenge->events_removed = 0;
    scavenge->bytes_removed = 0;
    scavenge->runs_removed = 0;
    pthread_mutex_lock(&tidy->lock);
    bool is_free = tidy->running == NULL;
    bool waits = !is_free && tidy->joining && tidy->waiting == NULL;
    if (is_free) {
        scavenger = scavenger_new(streams, scavenge);
        tidy->running = scavenger;
        tidy->joining = false;
    }
    if (waits) {
        tidy->waiting = scavenge;
        atomic_store_explicit(&tidy->stop_join, true, memory_order_relaxed);
    }
    pthread_mutex_unlock(&tidy->lock);
    if (scavenger != NULL)
        scavenger_step(scavenger);
    else if (!waits)
        scavenge_complete(scavenge, is_free ? KVS_ERR_NO_MEMORY : KVS_ERR_BUSY);
}

/* --- joins ------------------------------------------------------------------------------------ */

void tidy_init(struct stream_tidy *tidy, uint32_t join_blocks)
{
    pthread_mutex_init(&tidy->lock, NULL);
    tidy->join_blocks = join_blocks != 0 ? join_blocks : JOIN_BLOCKS_DEFAULT;
}

void tidy_deinit(struct stream_tidy *tidy)
{
    pthread_mutex_destroy(&tidy->lock);
}

/* Begins a join of the span, if it is free; under the lock. NULL: not now. */
static struct scavenger *join_begin(struct streams *streams)
{
    struct stream_tidy *tidy = &streams->tidy;
    if (tidy->running != NULL || tidy->closing)
        return NULL;
    struct scavenger *scavenger = scavenger_new(streams, NULL);
    if (scavenger == NULL)
        return NULL;
    scavenger->next_block = log_key_make(tidy->span_from);
    tidy->running = scavenger;
    tidy->joining = true;
    atomic_store_explicit(&tidy->stop_join, false, memory_order_relaxed);
    atomic_fetch_add_explicit(&tidy->joins, 1, memory_order_relaxed);
    stream_stat_add(&streams->stat_joins, 1);
    return scavenger;
}

void tidy_note_batch(struct streams *streams, const struct batch *batch)
{
    struct stream_tidy *tidy = &streams->tidy;
    struct scavenger *scavenger = NULL;
    if (batch->last_block == NULL)
        return;
    pthread_mutex_lock(&tidy->lock);
    if (tidy->span_from == 0)
        tidy->span_from = batch->blocks->builder.position;
    for (const struct batch_block *block = batch->blocks; block != NULL; block = block->next) {
        tidy->span_bytes += block->builder.bytes.size;
        tidy->small_blocks += block->builder.bytes.size < JOIN_BLOCK_SIZE;
    }
    if (tidy->small_blocks >= tidy->join_blocks)
        scavenger = join_begin(streams);
    if (scavenger != NULL || tidy->span_bytes > JOIN_SPAN_MAX) {
        /* The newest block is left to the next one. */
        tidy->span_from = batch->last_block->builder.position;
        tidy->span_bytes = 0;
        tidy->small_blocks = 0;
    }
    pthread_mutex_unlock(&tidy->lock);
    if (scavenger != NULL)
        scavenger_step(scavenger);
}

bool tidy_stop(struct streams *streams)
{
    struct stream_tidy *tidy = &streams->tidy;
    pthread_mutex_lock(&tidy->lock);
    tidy->closing = true;
    pthread_mutex_unlock(&tidy->lock);
    atomic_store_explicit(&tidy->stop_join, true, memory_order_relaxed);
    /* acquire: pairs with the release in scavenger_end. */
    return atomic_load_explicit(&tidy->joins, memory_order_acquire) == 0;
}
