/* engine/log/emptying.c: see engine/log/emptying.h. */
#include "engine/log/emptying.h"

#include "base/log.h"
#include "base/mem.h"
#include "engine/log/hint_file.h"
#include "engine/log/overlap.h"
#include "engine/log/tournament.h"
#include "engine/log/upkeep.h"

#define MOVE_COUNT_MAX 4096u
/* Records looked at inside one epoch, which holds up reclaiming. */
#define SCAN_COUNT_MAX 2048u

/* A victim's bytes and keys. */
struct source {
    struct victim *victim;
    const uint8_t *bytes; /* of the segment, all of them */
    uint8_t *copy;        /* NULL: they are in the cache */
    struct hint hint;
};

struct emptying {
    struct log_engine *log;
    struct source *sources; /* of victims that are not dead */
    uint32_t count;
    const struct key_span *begin; /* nothing before its first key is to be moved; NULL: who knows */
    struct tournament tournament;
    struct move move;
};

/* --- what the victims hold -------------------------------------------------------------------- */

static int source_bytes_load(struct log_engine *log, struct source *source)
{
    const struct segment *segment = source->victim->segment;
    /* The writer keeps the memory of a victim: no epoch is needed. */
    source->bytes = atomic_load_explicit(&segment->memory, memory_order_acquire);
    if (source->bytes != NULL)
        return 0;
    source->copy = segment_memory_new(segment->size); /* all of it goes back to the system */
    if (source->copy == NULL)
        return KVS_ERR_NO_MEMORY;
    source->bytes = source->copy;
    return upkeep_read_checked(log, segment, source->copy);
}

static bool cursor_begin(struct hint_cursor *cursor, const struct key_span *begin)
{
    unsigned family;
    kvs_slice key;
    if (begin == NULL)
        return hint_cursor_next(cursor);
    key_span_first(begin, &family, &key);
    return hint_cursor_seek(cursor, family, key);
}

/* Of a segment of which only a part of the keys is to be moved, the records between the first one
 * and the last one of these. */
static int source_part_load(const struct emptying *emptying, struct source *source)
{
    const struct log_engine *log = emptying->log;
    const struct segment *segment = source->victim->segment;
    const struct key_span *end = log->compaction.end;
    struct hint_cursor cursor;
    source->copy = segment_memory_new(segment->size);
    if (source->copy == NULL || hint_cursor_init(&cursor, &source->hint) != 0)
        return KVS_ERR_NO_MEMORY;
    source->bytes = source->copy;
    uint32_t from = UINT32_MAX;
    uint32_t to = 0;
    for (bool is_there = cursor_begin(&cursor, emptying->begin);
         is_there && (end == NULL || !key_span_is_behind(end, cursor.item.family, cursor.item.key));
         is_there = hint_cursor_next(&cursor)) {
        const struct hint_item *item = &cursor.item;
        uint32_t item_end = item->offset + (uint32_t)record_size(item->key.size, item->value_size,
                                                                 item->expires_at_ms != 0);
        from = item->offset < from ? item->offset : from;
        to = item_end > to ? item_end : to;
    }
    hint_cursor_deinit(&cursor);
    return from < to ? upkeep_read_part_checked(log, segment, source->copy, from, to) : 0;
}

static bool is_for_a_part(const struct victim *victim)
{
    const struct segment *segment = victim->segment;
    return segment->hint == SEGMENT_HINT_THERE && segment->span != NULL &&
           (victim->stays || key_span_is_cut(segment->span)) &&
           atomic_load_explicit(&segment->memory, memory_order_acquire) == NULL;
}

static int source_load(const struct emptying *emptying, struct source *source)
{
    struct log_engine *log = emptying->log;
    const struct segment *segment = source->victim->segment;
    if (is_for_a_part(source->victim)) {
        int error = hint_file_read(log, segment, segment->size, &source->hint);
        if (error == 0)
            return source_part_load(emptying, source);
        if (error == KVS_ERR_NO_MEMORY)
            return error;
    }
    int error = source_bytes_load(log, source);
    if (error != 0)
        return error;
    if (segment->hint == SEGMENT_HINT_THERE) {
        error = hint_file_read(log, segment, segment->size, &source->hint);
        if (error == 0 || error == KVS_ERR_NO_MEMORY) /* to make it takes more */
            return error;
    }
    return hint_build(slice_make(source->bytes, segment->size), segment->number, &source->hint);
}

/* What has been merged is not looked through again: the span with the lowest first key. */
static const struct key_span *victims_begin(const struct compaction *compaction)
{
    const struct key_span *begin = NULL;
    for (unsigned i = 0; i < compaction->victims_count; i++) {
        const struct key_span *span = compaction->victims[i].segment->span;
        if (span == NULL)
            return NULL;
        if (begin == NULL || key_span_begins_before(span, begin))
            begin = span;
    }
    return begin;
}

static int sources_load(struct emptying *emptying)
{
    struct log_engine *log = emptying->log;
    struct compaction *compaction = &log->compaction;
    emptying->sources = mem_zalloc(compaction->victims_count * sizeof *emptying->sources);
    if (emptying->sources == NULL)
        return KVS_ERR_NO_MEMORY;
    emptying->begin = victims_begin(compaction);
    for (unsigned i = 0; i < compaction->victims_count; i++) {
        if (compaction_is_stopping(log))
            return KVS_ERR_CANCELLED;
        if (compaction->victims[i].is_dead)
            continue;
        struct source *source = &emptying->sources[emptying->count++];
        source->victim = &compaction->victims[i];
        int error = source_load(emptying, source);
        if (error != 0) {
            source->victim->error = error;
            return error;
        }
    }
    return 0;
}

static int records_begin(struct emptying *emptying)
{
    unsigned family;
    kvs_slice key;
    if (emptying->begin == NULL)
        return tournament_begin(&emptying->tournament);
    key_span_first(emptying->begin, &family, &key);
    return tournament_begin_at(&emptying->tournament, family, key);
}

static bool records_are_over(const struct emptying *emptying)
{
    const struct tournament *tournament = &emptying->tournament;
    const struct key_span *end = emptying->log->compaction.end;
    if (tournament_has_ended(tournament))
        return true;
    const struct hint_item *item = tournament_item(tournament);
    return end != NULL && key_span_is_behind(end, item->family, item->key);
}

static int emptying_init(struct emptying *emptying)
{
    int error = sources_load(emptying);
    if (error != 0 || emptying->count == 0)
        return error;
    emptying->move = (struct move){.log = emptying->log};
    emptying->move.items = mem_alloc(MOVE_COUNT_MAX * sizeof *emptying->move.items);
    if (emptying->move.items == NULL)
        return KVS_ERR_NO_MEMORY;
    error = tournament_init(&emptying->tournament, emptying->count);
    for (uint32_t i = 0; i < emptying->count && error == 0; i++)
        error = tournament_add(&emptying->tournament, i, &emptying->sources[i].hint);
    return error != 0 ? error : records_begin(emptying);
}

static void emptying_deinit(struct emptying *emptying)
{
    tournament_deinit(&emptying->tournament);
    for (uint32_t i = 0; i < emptying->count; i++) {
        segment_memory_unref(emptying->sources[i].copy);
        hint_deinit(&emptying->sources[i].hint);
    }
    mem_free(emptying->sources);
    mem_free(emptying->move.items);
}

/* --- range removals --------------------------------------------------------------------------- */

static int move_run(struct move *move)
{
    int error = move->count > 0 ? compaction_move(move) : 0;
    move->count = 0;
    move->size_bytes = 0;
    return error;
}

static bool move_is_full(const struct move *move)
{
    return move->size_bytes >= pace_move_size(move->log) ||
           move->count > MOVE_COUNT_MAX - TREE_FIND_MANY_MAX;
}

static void move_add(struct move *move, const struct move_item *item)
{
    move->items[move->count++] = *item;
    move->size_bytes += item->size;
}

/* The writer decides which still count. Their bytes are taken from the hint. */
static int ranges_move(struct emptying *emptying, const struct source *source)
{
    kvs_slice rest = source->hint.ranges;
    struct record record;
    int error = 0;
    for (size_t size; error == 0 && (size = record_parse(rest, &record)) > 0;
         rest = slice_make(rest.data + size, rest.size - size)) {
        struct move_item item = {
            .bytes = rest.data, .size = (uint32_t)size, .victim = source->victim};
        move_add(&emptying->move, &item);
        if (move_is_full(&emptying->move))
            error = move_run(&emptying->move);
    }
    return error;
}

/* --- sets and removes ------------------------------------------------------------------------- */

/* The next records in the order of keys, as many as are looked up side by side. */
struct batch {
    struct move_item items[TREE_FIND_MANY_MAX];
    struct record records[TREE_FIND_MANY_MAX];
    unsigned count;
    unsigned family;
};

/* All of one family, and their bytes are asked for. */
static void batch_take(struct emptying *emptying, struct batch *batch)
{
    struct tournament *tournament = &emptying->tournament;
    batch->count = 0;
    while (batch->count < TREE_FIND_MANY_MAX && !records_are_over(emptying)) {
        const struct hint_item *item = tournament_item(tournament);
        if (batch->count > 0 && item->family != batch->family)
            return;
        batch->family = item->family;
        if (!tournament_is_older(tournament)) {
            const struct source *source = &emptying->sources[tournament_winner(tournament)];
            const uint8_t *bytes = source->bytes + item->offset;
            __builtin_prefetch(bytes);
            batch->items[batch->count++] =
                (struct move_item){.bytes = bytes,
                                   .size = (uint32_t)record_size(item->key.size, item->value_size,
                                                                 item->expires_at_ms != 0),
                                   .offset = item->offset,
                                   .victim = source->victim};
        }
        tournament_next(tournament);
    }
}

static bool record_is_item(const struct record *record, size_t size, const struct batch *batch,
                           unsigned i)
{
    return size == batch->items[i].size && record->family == batch->family &&
           (record->kind == RECORD_SET || record->kind == RECORD_REMOVE);
}

static int batch_parse(const struct log_engine *log, struct batch *batch)
{
    for (unsigned i = 0; i < batch->count; i++) {
        const struct move_item *item = &batch->items[i];
        size_t size = record_parse(slice_make(item->bytes, item->size), &batch->records[i]);
        if (record_is_item(&batch->records[i], size, batch, i))
            continue;
        log_error("%s: segment %u has no such record at offset %u as its hint says; it is left as "
                  "it is",
                  log->directory, item->victim->segment->number, item->offset);
        item->victim->error = KVS_ERR_CORRUPTION;
        return KVS_ERR_CORRUPTION;
    }
    return 0;
}

/* Might the record still count? The writer decides; here those that surely do not are left out. */
static bool may_live(const struct move_item *item, const struct record *record,
                     const struct entry *entry)
{
    if (record->kind == RECORD_REMOVE)
        return item->victim->keep_removes && entry == NULL;
    if (entry == NULL)
        return victim_owes(item->victim, record);
    return atomic_load_explicit(&entry->location, memory_order_acquire) ==
           location_make(item->victim->segment->slot, item->offset);
}

static void batch_filter(const struct version *version, const struct batch *batch,
                         struct move *move)
{
    kvs_slice keys[TREE_FIND_MANY_MAX];
    struct entry *entries[TREE_FIND_MANY_MAX];
    for (unsigned i = 0; i < batch->count; i++)
        keys[i] = batch->records[i].key;
    tree_find_many(version->families[batch->family].root, keys, batch->count, entries);
    for (unsigned i = 0; i < batch->count; i++) {
        if (may_live(&batch->items[i], &batch->records[i], entries[i]))
            move_add(move, &batch->items[i]);
    }
}

/* Fills the move with the next records that may live. */
static int move_fill(struct emptying *emptying)
{
    struct log_engine *log = emptying->log;
    struct batch batch = {.count = 0};
    int error = 0;
    unsigned slot = epoch_enter(&log->epoch);
    const struct version *version = atomic_load_explicit(&log->version, memory_order_seq_cst);
    for (unsigned n = 0; n < SCAN_COUNT_MAX && !move_is_full(&emptying->move); n += batch.count) {
        batch_take(emptying, &batch);
        error = batch_parse(log, &batch);
        if (error != 0 || batch.count == 0)
            break;
        batch_filter(version, &batch, &emptying->move);
    }
    epoch_leave(&log->epoch, slot);
    return error;
}

static int records_move(struct emptying *emptying)
{
    while (!records_are_over(emptying)) {
        if (compaction_is_stopping(emptying->log))
            return KVS_ERR_CANCELLED;
        int error = move_fill(emptying);
        if (error == 0 && move_is_full(&emptying->move))
            error = move_run(&emptying->move);
        if (error != 0)
            return error;
    }
    if (emptying->tournament.is_bad)
        return KVS_ERR_CORRUPTION;
    return move_run(&emptying->move);
}

int emptying_run(struct log_engine *log)
{
    struct emptying emptying = {.log = log};
    int error = emptying_init(&emptying);
    for (uint32_t i = 0; i < emptying.count && error == 0; i++)
        error =
            emptying.sources[i].victim->stays ? 0 : ranges_move(&emptying, &emptying.sources[i]);
    if (error == 0 && emptying.count > 0)
        error = records_move(&emptying);
    emptying_deinit(&emptying);
    return error;
}
