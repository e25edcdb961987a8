/* engine/log/merge.c: see engine/log/merge.h. */
#include "engine/log/merge.h"

#include "base/mem.h"
#include "engine/log/range_sweep.h"
#include "engine/log/team.h"
#include "engine/log/tournament.h"
#include "engine/log/tree_build.h"

#include <stdlib.h>

#define ITEMS_PER_HAND 65536u
#define SAMPLES_MAX 4096u

/* A place in the order of all keys. */
struct bound {
    unsigned family;
    kvs_slice key;
};

/* What a list contributes to its segment's accounts, by one part. */
struct tally {
    uint64_t live_bytes;
    uint64_t entries;
    struct life lives[LIFE_CLASSES];
};

struct part {
    const struct merge *merge;
    const struct bound *from; /* NULL: no bound */
    const struct bound *to;
    struct slab slab;
    struct tree_writer tree;
    struct tree_run runs[ENGINE_FAMILY_COUNT];
    uint64_t keys[ENGINE_FAMILY_COUNT];
    uint64_t expiring_keys[ENGINE_FAMILY_COUNT];
    struct tally *tallies; /* one for each input */
    struct tournament tournament;
    struct range_sweep sweep;
    int error;
};

struct merge {
    const struct merge_input *inputs;
    size_t count;
    const _Atomic bool *cancelled;
    struct range_list ranges;
    struct bound bounds[TEAM_MAX];
    struct part parts[TEAM_MAX];
    unsigned parts_count;
};

/* --- a part ----------------------------------------------------------------------------------- */

static int part_init(struct part *part, const struct merge *merge)
{
    part->merge = merge;
    slab_init(&part->slab);
    part->tree = (struct tree_writer){.slab = &part->slab, .birth = 1};
    for (unsigned i = 0; i < ENGINE_FAMILY_COUNT; i++)
        part->runs[i].writer = &part->tree;
    part->tallies = mem_zalloc(merge->count * sizeof *part->tallies);
    if (part->tallies == NULL)
        return KVS_ERR_NO_MEMORY;
    int error = range_sweep_init(&part->sweep, &merge->ranges);
    if (error == 0)
        error = tournament_init(&part->tournament, merge->count);
    for (uint32_t i = 0; i < merge->count && error == 0; i++)
        error = tournament_add(&part->tournament, i, merge->inputs[i].hint);
    return error;
}

static void part_deinit(struct part *part)
{
    tournament_deinit(&part->tournament);
    for (unsigned i = 0; i < ENGINE_FAMILY_COUNT; i++)
        tree_run_deinit(&part->runs[i]);
    range_sweep_deinit(&part->sweep);
    mem_free(part->tallies);
    slab_deinit(&part->slab); /* empty, unless an error came in between */
}

static bool is_behind(const struct part *part, const struct hint_item *item)
{
    const struct bound *to = part->to;
    if (to == NULL || item->family != to->family)
        return to != NULL && item->family > to->family;
    return slice_compare(item->key, to->key) >= 0;
}

/* The newest item of a key. */
static int item_decide(struct part *part)
{
    uint32_t i = tournament_winner(&part->tournament);
    const struct hint_item *item = tournament_item(&part->tournament);
    const struct merge_input *input = &part->merge->inputs[i];
    uint64_t removed;
    int error = range_sweep_at(&part->sweep, item->family, item->key, &removed);
    if (error != 0 || item->kind == RECORD_REMOVE || removed > input->hint->sequence_last)
        return error;
    bool expires = item->expires_at_ms != 0;
    struct entry *entry = tree_entry_new(&part->tree, item->key, item->expires_at_ms,
                                         item->value_size, input->hint->sequence_last,
                                         location_make(input->segment->slot, item->offset));
    if (entry == NULL)
        return KVS_ERR_NO_MEMORY;
    struct tally *tally = &part->tallies[i];
    size_t size = record_size(item->key.size, item->value_size, expires);
    tally->live_bytes += size;
    tally->entries++;
    part->keys[item->family]++;
    if (expires) {
        part->expiring_keys[item->family]++;
        life_add(life_of(input->segment, tally->lives, item->expires_at_ms), size,
                 item->expires_at_ms);
    }
    return tree_run_add(&part->runs[item->family], entry);
}

/* Looked at once for so many items. */
#define CANCEL_EVERY 4096u

static bool is_cancelled(const struct part *part, uint32_t nth)
{
    /* relaxed: a wish. */
    return nth % CANCEL_EVERY == 0 &&
           atomic_load_explicit(part->merge->cancelled, memory_order_relaxed);
}

static int part_run(struct part *part)
{
    struct tournament *tournament = &part->tournament;
    uint32_t nth = 0;
    int error = part->from != NULL
                    ? tournament_begin_at(tournament, part->from->family, part->from->key)
                    : tournament_begin(tournament);
    while (error == 0 && !tournament->is_bad && !tournament_has_ended(tournament) &&
           !is_behind(part, tournament_item(tournament))) {
        if (is_cancelled(part, nth++))
            error = KVS_ERR_CANCELLED;
        else if (!tournament_is_older(tournament))
            error = item_decide(part);
        tournament_next(tournament);
    }
    for (unsigned i = 0; i < ENGINE_FAMILY_COUNT; i++)
        tree_run_end(&part->runs[i]);
    return error == 0 && tournament->is_bad ? KVS_ERR_CORRUPTION : error;
}

static void part_work(void *arg, unsigned i)
{
    struct merge *merge = arg;
    struct part *part = &merge->parts[i];
    int error = part_init(part, merge);
    part->error = error != 0 ? error : part_run(part);
}

/* --- dividing --------------------------------------------------------------------------------- */

static int bound_compare(const void *a, const void *b)
{
    const struct bound *x = a;
    const struct bound *y = b;
    if (x->family != y->family)
        return x->family < y->family ? -1 : 1;
    return slice_compare(x->key, y->key);
}

/* Every `stride`th restart of all lists. The key of a restart stands whole in the items. */
static int samples_take(const struct merge *merge, uint64_t stride, struct bound *samples,
                        size_t *ret_count)
{
    uint64_t nth = 0;
    size_t count = 0;
    for (size_t i = 0; i < merge->count; i++) {
        const struct hint *hint = merge->inputs[i].hint;
        struct hint_cursor cursor;
        if (hint_cursor_init(&cursor, hint) != 0)
            return KVS_ERR_NO_MEMORY;
        for (uint32_t restart = 0; restart < hint_restarts(hint); restart++) {
            if (nth++ % stride != 0 || !hint_cursor_restart(&cursor, restart))
                continue;
            size_t size = cursor.item.key.size;
            samples[count++] = (struct bound){
                cursor.item.family, slice_make(hint->items.data + cursor.at - size, size)};
        }
        hint_cursor_deinit(&cursor);
    }
    *ret_count = count;
    return 0;
}

static int bounds_find(struct merge *merge, unsigned parts)
{
    uint64_t restarts = 0;
    for (size_t i = 0; i < merge->count; i++)
        restarts += hint_restarts(merge->inputs[i].hint);
    merge->parts_count = 1;
    if (parts < 2 || restarts < parts)
        return 0;
    uint64_t stride = restarts / SAMPLES_MAX + 1;
    struct bound *samples = mem_alloc((size_t)(restarts / stride + 1) * sizeof *samples);
    if (samples == NULL)
        return KVS_ERR_NO_MEMORY;
    size_t count;
    int error = samples_take(merge, stride, samples, &count);
    if (error == 0 && count >= parts) {
        qsort(samples, count, sizeof *samples, bound_compare);
        for (unsigned i = 1; i < parts; i++)
            merge->bounds[i] = samples[count * i / parts];
        merge->parts_count = parts;
    }
    mem_free(samples);
    return error;
}

/* --- all of it -------------------------------------------------------------------------------- */

static int ranges_gather(struct merge *merge)
{
    for (size_t i = 0; i < merge->count; i++) {
        int error = range_list_add_all(&merge->ranges, merge->inputs[i].hint->ranges);
        if (error != 0)
            return error;
    }
    range_list_sort(&merge->ranges);
    return 0;
}

static void part_count_in(struct log_engine *log, struct merge *merge, struct part *part)
{
    for (size_t i = 0; i < merge->count; i++) {
        struct segment *segment = merge->inputs[i].segment;
        const struct tally *tally = &part->tallies[i];
        segment->entries += tally->entries;
        segment->accounts.live_bytes += tally->live_bytes;
        for (unsigned n = 0; n < LIFE_CLASSES; n++)
            life_add(&segment->accounts.lives[n], tally->lives[n].bytes, tally->lives[n].last_ms);
    }
    for (unsigned i = 0; i < ENGINE_FAMILY_COUNT; i++) {
        log->working.families[i].keys += part->keys[i];
        log->working.families[i].expiring_keys += part->expiring_keys[i];
    }
    slab_absorb(&log->slab, &part->slab);
}

static int parts_join(struct log_engine *log, struct merge *merge)
{
    for (unsigned i = 0; i < merge->parts_count; i++) {
        if (merge->parts[i].error != 0)
            return merge->parts[i].error;
    }
    for (unsigned i = 0; i < merge->parts_count; i++)
        part_count_in(log, merge, &merge->parts[i]);
    int error = 0;
    for (unsigned family = 0; family < ENGINE_FAMILY_COUNT && error == 0; family++) {
        struct tree_run *runs[TEAM_MAX];
        for (unsigned i = 0; i < merge->parts_count; i++)
            runs[i] = &merge->parts[i].runs[family];
        error = tree_runs_join(&log->tree, runs, merge->parts_count,
                               &log->working.families[family].root);
    }
    return error;
}

int merge_run(struct log_engine *log, const struct merge_input *inputs, size_t count)
{
    if (count == 0)
        return 0;
    struct merge *merge = mem_zalloc(sizeof *merge);
    if (merge == NULL)
        return KVS_ERR_NO_MEMORY;
    merge->inputs = inputs;
    merge->count = count;
    merge->cancelled = &log->closing;
    uint64_t items = 0;
    for (size_t i = 0; i < count; i++)
        items += inputs[i].hint->count;
    int error = ranges_gather(merge);
    if (error == 0)
        error = bounds_find(merge, team_count(items, ITEMS_PER_HAND));
    if (error == 0) {
        for (unsigned i = 1; i < merge->parts_count; i++) {
            merge->parts[i - 1].to = &merge->bounds[i];
            merge->parts[i].from = &merge->bounds[i];
        }
        team_run(merge->parts_count, part_work, merge);
        error = parts_join(log, merge);
        for (unsigned i = 0; i < merge->parts_count; i++)
            part_deinit(&merge->parts[i]);
    }
    range_list_deinit(&merge->ranges);
    mem_free(merge);
    return error;
}
