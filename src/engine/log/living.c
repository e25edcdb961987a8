/* engine/log/living.c: see engine/log/living.h. */
#include "engine/log/living.h"

#include "base/mem.h"
#include "engine/log/overlap.h"

/* Of all records that are looked up side by side; one more may be larger. */
#define BATCH_SIZE_MAX (1024u * 1024)

static int records_begin(struct living *living, const struct key_span *begin)
{
    unsigned family;
    kvs_slice key;
    if (begin == NULL)
        return tournament_begin(&living->tournament);
    key_span_first(begin, &family, &key);
    return tournament_begin_at(&living->tournament, family, key);
}

int living_init(struct living *living, struct log_engine *log, const struct source *sources,
                uint32_t count, const struct key_span *begin)
{
    *living = (struct living){.log = log, .sources = sources, .key_size_max = 1};
    int error = tournament_init(&living->tournament, count);
    for (uint32_t i = 0; i < count && error == 0; i++) {
        const struct hint *hint = &sources[i].hint;
        if (hint->key_size_max > living->key_size_max)
            living->key_size_max = hint->key_size_max;
        error = tournament_add(&living->tournament, i, hint);
    }
    if (error != 0)
        return error;
    living->keys = mem_alloc(TREE_FIND_MANY_MAX * living->key_size_max);
    return living->keys != NULL ? records_begin(living, begin) : KVS_ERR_NO_MEMORY;
}

void living_deinit(struct living *living)
{
    tournament_deinit(&living->tournament);
    mem_free(living->keys);
}

bool living_is_over(const struct living *living)
{
    const struct key_span *end = living->log->compaction.end;
    if (tournament_has_ended(&living->tournament))
        return true;
    const struct hint_item *item = tournament_item(&living->tournament);
    return end != NULL && key_span_is_behind(end, item->family, item->key);
}

/* --- batches ---------------------------------------------------------------------------------- */

/* The next records, as many as are looked up side by side; all of one family. */
struct batch {
    struct move_item *items;
    kvs_slice keys[TREE_FIND_MANY_MAX];
    unsigned count;
    size_t size_bytes;
};

static void batch_add(const struct living *living, struct batch *batch)
{
    const struct hint_item *item = tournament_item(&living->tournament);
    const struct source *source = &living->sources[tournament_winner(&living->tournament)];
    uint8_t *key = living->keys + batch->count * living->key_size_max;
    bool expires = item->expires_at_ms != 0;
    memcpy(key, item->key.data, item->key.size); /* the cursor moves on */
    batch->keys[batch->count] = slice_make(key, item->key.size);
    batch->items[batch->count] =
        (struct move_item){.bytes = source->bytes != NULL ? source->bytes + item->offset : NULL,
                           .size = (uint32_t)record_size(item->key.size, item->value_size, expires),
                           .offset = item->offset,
                           .kind = item->kind,
                           .family = item->family,
                           .expires = expires,
                           .victim = source->victim};
    batch->size_bytes += batch->items[batch->count].size;
    batch->count++;
}

static void batch_take(struct living *living, struct batch *batch)
{
    while (batch->count < TREE_FIND_MANY_MAX && batch->size_bytes < BATCH_SIZE_MAX &&
           !living_is_over(living)) {
        const struct hint_item *item = tournament_item(&living->tournament);
        if (batch->count > 0 && item->family != batch->items[0].family)
            return;
        if (!tournament_is_older(&living->tournament))
            batch_add(living, batch);
        tournament_next(&living->tournament);
    }
}

/* Might the record still count? The writer decides; here those that surely do not are left out. */
static bool may_live(const struct move_item *item, const struct entry *entry)
{
    if (item->kind == RECORD_REMOVE)
        return item->victim->keep_removes && entry == NULL;
    if (entry == NULL)
        return victim_owes(item->victim, item->expires);
    return atomic_load_explicit(&entry->location, memory_order_acquire) ==
           location_make(item->victim->segment->slot, item->offset);
}

unsigned living_next(struct living *living, const struct version *version,
                     struct move_item items[TREE_FIND_MANY_MAX])
{
    struct batch batch = {.items = items};
    struct entry *entries[TREE_FIND_MANY_MAX];
    unsigned kept = 0;
    batch_take(living, &batch);
    if (batch.count == 0)
        return 0;
    tree_find_many(version->families[items[0].family].root, batch.keys, batch.count, entries);
    for (unsigned i = 0; i < batch.count; i++) {
        if (!may_live(&items[i], entries[i]))
            continue;
        if (items[i].bytes != NULL)
            __builtin_prefetch(items[i].bytes);
        items[kept++] = items[i];
    }
    return kept;
}
