/* engine/log/emptying.c: see engine/log/emptying.h. */
#include "engine/log/emptying.h"

#include "base/log.h"
#include "base/mem.h"
#include "engine/log/hint_file.h"
#include "engine/log/living.h"
#include "engine/log/overlap.h"
#include "engine/log/upkeep.h"

#define MOVE_COUNT_MAX 4096u
/* Batches looked at inside one epoch, which holds up reclaiming. */
#define SCAN_BATCHES_MAX 128u
/* Of the next victim, with each move: twice as many as that had records, but not fewer. */
#define PARTS_PER_MOVE 32u

struct emptying {
    struct log_engine *log;
    struct source *sources; /* of victims that are not dead */
    uint32_t count;
    const struct key_span *begin; /* nothing before its first key is to be moved; NULL: who knows */
    struct source *next;          /* the system is asked for its bytes meanwhile; or NULL */
    struct living living;
    struct move move;
    struct buf read; /* records of the move whose victims are read one by one */
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
    return from < to ? upkeep_read_part_checked(log, segment, source->copy + from, from, to) : 0;
}

/* What lives in it may be dead when it is moved; hardly anything comes to life. */
static int source_look(const struct emptying *emptying, struct source *source)
{
    struct log_engine *log = emptying->log;
    struct living living;
    int error = wanted_init(&source->wanted, source->victim->segment->size);
    if (error != 0)
        return error;
    error = living_init(&living, log, source, 1, emptying->begin);
    while (error == 0 && !living_is_over(&living)) {
        if (compaction_is_stopping(log)) {
            error = KVS_ERR_CANCELLED;
            break;
        }
        struct move_item items[TREE_FIND_MANY_MAX];
        unsigned slot = epoch_enter(&log->epoch);
        const struct version *version = atomic_load_explicit(&log->version, memory_order_seq_cst);
        for (unsigned n = 0; n < SCAN_BATCHES_MAX && !living_is_over(&living); n++) {
            unsigned count = living_next(&living, version, items);
            for (unsigned i = 0; i < count; i++)
                wanted_add(&source->wanted, items[i].offset, items[i].size);
        }
        epoch_leave(&log->epoch, slot);
    }
    living_deinit(&living);
    return error;
}

static bool is_for_a_part(const struct victim *victim)
{
    const struct segment *segment = victim->segment;
    return segment->hint == SEGMENT_HINT_THERE && segment->span != NULL &&
           (victim->stays || key_span_is_cut(segment->span)) &&
           atomic_load_explicit(&segment->memory, memory_order_acquire) == NULL;
}

static int source_read(const struct emptying *emptying, struct source *source)
{
    struct log_engine *log = emptying->log;
    const struct segment *segment = source->victim->segment;
    if (source->victim->is_sparse || is_for_a_part(source->victim)) {
        int error = hint_file_read(log, segment, segment->size, &source->hint);
        if (error == 0)
            return source->victim->is_sparse ? source_look(emptying, source)
                                             : source_part_load(emptying, source);
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

static int source_load(const struct emptying *emptying, struct source *source)
{
    if (source->is_loaded)
        return 0;
    if (compaction_is_stopping(emptying->log))
        return KVS_ERR_CANCELLED;
    int error = source_read(emptying, source);
    if (error != 0 && error != KVS_ERR_CANCELLED)
        source->victim->error = error;
    source->is_loaded = error == 0;
    return error;
}

static void source_unload(struct source *source)
{
    segment_memory_unref(source->copy);
    hint_deinit(&source->hint);
    wanted_deinit(&source->wanted);
    *source = (struct source){.victim = source->victim};
}

static int emptying_init(struct emptying *emptying)
{
    struct compaction *compaction = &emptying->log->compaction;
    emptying->move = (struct move){.log = emptying->log};
    emptying->move.items = mem_alloc(MOVE_COUNT_MAX * sizeof *emptying->move.items);
    emptying->sources = mem_zalloc(compaction->victims_count * sizeof *emptying->sources);
    if (emptying->move.items == NULL || emptying->sources == NULL)
        return KVS_ERR_NO_MEMORY;
    emptying->begin = victims_begin(compaction);
    for (unsigned i = 0; i < compaction->victims_count; i++) {
        if (!compaction->victims[i].is_dead)
            emptying->sources[emptying->count++].victim = &compaction->victims[i];
    }
    return 0;
}

static void emptying_deinit(struct emptying *emptying)
{
    for (uint32_t i = 0; i < emptying->count; i++)
        source_unload(&emptying->sources[i]);
    mem_free(emptying->sources);
    mem_free(emptying->move.items);
    buf_deinit(&emptying->read);
}

/* --- moves ------------------------------------------------------------------------------------ */

/* Those that are only in files, one by one: they have been asked for. */
static int move_read(struct emptying *emptying)
{
    struct move *move = &emptying->move;
    size_t size = 0;
    for (uint32_t i = 0; i < move->count; i++)
        size += move->items[i].bytes == NULL ? move->items[i].size : 0;
    int error = buf_reserve(&emptying->read, size);
    uint8_t *bytes = emptying->read.data;
    for (uint32_t i = 0; i < move->count && error == 0; i++) {
        struct move_item *item = &move->items[i];
        if (item->bytes != NULL)
            continue;
        if (compaction_is_stopping(emptying->log))
            return KVS_ERR_CANCELLED;
        error = upkeep_read_part_checked(emptying->log, item->victim->segment, bytes, item->offset,
                                         item->offset + item->size);
        if (error != 0)
            item->victim->error = error;
        item->bytes = bytes;
        bytes += item->size;
    }
    return error;
}

static bool item_is_there(const struct move_item *item)
{
    struct record record;
    return record_parse(slice_make(item->bytes, item->size), &record) == item->size &&
           record.kind == item->kind && record.family == item->family &&
           (record.expires_at_ms != 0) == item->expires;
}

static int move_check(const struct log_engine *log, const struct move *move)
{
    for (uint32_t i = 0; i < move->count; i++) {
        const struct move_item *item = &move->items[i];
        if (item_is_there(item))
            continue;
        log_error("%s: segment %u has no such record at offset %u as its hint says; it is left as "
                  "it is",
                  log->directory, item->victim->segment->number, item->offset);
        item->victim->error = KVS_ERR_CORRUPTION;
        return KVS_ERR_CORRUPTION;
    }
    return 0;
}

static void source_ask(const struct emptying *emptying, struct source *source, uint32_t parts)
{
    wanted_ask(&source->wanted, emptying->log, source->victim->segment->fd, parts);
}

static int move_run(struct emptying *emptying)
{
    struct move *move = &emptying->move;
    if (move->count == 0)
        return 0;
    int error = move_read(emptying);
    if (error == 0)
        error = move_check(emptying->log, move);
    if (error == 0)
        error = compaction_move(move);
    if (error == 0 && emptying->next != NULL)
        source_ask(emptying, emptying->next,
                   2 * move->count > PARTS_PER_MOVE ? 2 * move->count : PARTS_PER_MOVE);
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
        struct move_item item = {.bytes = rest.data,
                                 .size = (uint32_t)size,
                                 .kind = record.kind,
                                 .family = record.family,
                                 .victim = source->victim};
        move_add(&emptying->move, &item);
        if (move_is_full(&emptying->move))
            error = move_run(emptying);
    }
    return error;
}

/* Fills the move with the next records that may live. */
static void move_fill(struct emptying *emptying)
{
    struct log_engine *log = emptying->log;
    struct living *living = &emptying->living;
    struct move *move = &emptying->move;
    struct move_item items[TREE_FIND_MANY_MAX];
    unsigned slot = epoch_enter(&log->epoch);
    const struct version *version = atomic_load_explicit(&log->version, memory_order_seq_cst);
    for (unsigned n = 0; n < SCAN_BATCHES_MAX && !move_is_full(move) && !living_is_over(living);
         n++) {
        unsigned count = living_next(living, version, items);
        for (unsigned i = 0; i < count; i++)
            move_add(move, &items[i]);
    }
    epoch_leave(&log->epoch, slot);
}

static int records_move(struct emptying *emptying)
{
    while (!living_is_over(&emptying->living)) {
        if (compaction_is_stopping(emptying->log))
            return KVS_ERR_CANCELLED;
        move_fill(emptying);
        int error = move_is_full(&emptying->move) ? move_run(emptying) : 0;
        if (error != 0)
            return error;
    }
    if (living_is_bad(&emptying->living))
        return KVS_ERR_CORRUPTION;
    return move_run(emptying);
}

/* Those that are one list, and have the system begin with the next one. */
static int sources_load(struct emptying *emptying, uint32_t from, uint32_t count)
{
    int error = 0;
    for (uint32_t i = from; i < from + count && error == 0; i++)
        error = source_load(emptying, &emptying->sources[i]);
    struct source *next = from + count < emptying->count ? &emptying->sources[from + count] : NULL;
    emptying->next = next != NULL && next->victim->is_sparse ? next : NULL;
    if (error == 0 && emptying->next != NULL)
        error = source_load(emptying, emptying->next);
    for (uint32_t i = from; i < from + count && error == 0; i++)
        source_ask(emptying, &emptying->sources[i], UINT32_MAX);
    return error;
}

static int sources_move(struct emptying *emptying, uint32_t from, uint32_t count)
{
    struct source *sources = emptying->sources + from;
    int error = sources_load(emptying, from, count);
    for (uint32_t i = 0; i < count && error == 0; i++)
        error = sources[i].victim->stays ? 0 : ranges_move(emptying, &sources[i]);
    if (error == 0) {
        error = living_init(&emptying->living, emptying->log, sources, count, emptying->begin);
        error = error == 0 ? records_move(emptying) : error;
        living_deinit(&emptying->living);
    }
    for (uint32_t i = 0; i < count; i++)
        source_unload(&sources[i]);
    return error;
}

int emptying_run(struct log_engine *log)
{
    struct emptying emptying = {.log = log};
    int error = emptying_init(&emptying);
    uint32_t at_once = log->compaction.in_any_order ? 1 : emptying.count;
    for (uint32_t i = 0; i < emptying.count && error == 0; i += at_once)
        error = sources_move(&emptying, i, at_once);
    emptying_deinit(&emptying);
    return error;
}
