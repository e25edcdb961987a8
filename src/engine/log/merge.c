/* engine/log/merge.c: see engine/log/merge.h. */
#include "engine/log/merge.h"

#include "base/bytes.h"
#include "base/mem.h"
#include "engine/log/range_sweep.h"
#include "engine/log/team.h"
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
    uint64_t expiring_bytes;
    uint64_t expires_last_ms;
    uint64_t entries;
};

/* Of a list's next key, kept together so that most comparisons need no more. */
struct rank {
    uint64_t word; /* first 8 bytes */
    uint32_t family;
};

#define FAMILY_NONE HINT_FAMILIES /* the list has ended */

struct part {
    const struct merge *merge;
    const struct bound *from; /* NULL: no bound */
    const struct bound *to;
    struct slab slab;
    struct tree_writer tree;
    struct tree_run runs[ENGINE_FAMILY_COUNT];
    uint64_t keys[ENGINE_FAMILY_COUNT];
    uint64_t expiring_keys[ENGINE_FAMILY_COUNT];
    struct tally *tallies; /* one for each input, as the next three */
    struct hint_cursor *cursors;
    struct rank *ranks;
    uint32_t *losers; /* a tournament: losers[0] won, losers[i] lost the match at i */
    struct range_sweep sweep;
    uint8_t *last_key; /* of the key that was decided last */
    struct rank last_rank;
    size_t last_size;
    int error;
};

struct merge {
    const struct merge_input *inputs;
    size_t count;
    struct range_list ranges;
    struct bound bounds[TEAM_MAX];
    struct part parts[TEAM_MAX];
    unsigned parts_count;
    uint32_t key_size_max;
};

/* --- the tournament --------------------------------------------------------------------------- */

static bool is_less(const struct part *part, uint32_t a, uint32_t b)
{
    const struct rank *x = &part->ranks[a];
    const struct rank *y = &part->ranks[b];
    if (x->family != y->family)
        return x->family < y->family;
    if (x->word != y->word)
        return x->word < y->word;
    if (x->family == FAMILY_NONE)
        return a > b;
    int order = slice_compare(part->cursors[a].item.key, part->cursors[b].item.key);
    return order != 0 ? order < 0 : a > b; /* of equal keys the newest first */
}

static uint64_t key_word(kvs_slice key)
{
    if (key.size >= 8)
        return get_u64_be(key.data);
    uint8_t bytes[8] = {0};
    if (key.size > 0)
        memcpy(bytes, key.data, key.size);
    return get_u64_be(bytes);
}

static void rank_set(struct part *part, uint32_t i, bool any)
{
    const struct hint_item *item = &part->cursors[i].item;
    part->ranks[i] = any ? (struct rank){key_word(item->key), item->family}
                         : (struct rank){UINT64_MAX, FAMILY_NONE};
    if (!any && part->cursors[i].is_bad)
        part->error = KVS_ERR_CORRUPTION;
}

/* The list that won has moved on: plays its matches again, up to the root. */
static void winner_replay(struct part *part)
{
    uint32_t winner = part->losers[0];
    for (size_t at = (winner + part->merge->count) / 2; at > 0; at /= 2) {
        if (is_less(part, part->losers[at], winner)) {
            uint32_t loser = winner;
            winner = part->losers[at];
            part->losers[at] = loser;
        }
    }
    part->losers[0] = winner;
}

/* Match i is between the winners of 2i and 2i + 1; behind count, these are the lists. */
static int tournament_begin(struct part *part)
{
    size_t count = part->merge->count;
    uint32_t *winners = mem_alloc(2 * count * sizeof *winners);
    if (winners == NULL)
        return KVS_ERR_NO_MEMORY;
    for (size_t i = 0; i < count; i++)
        winners[count + i] = (uint32_t)i;
    for (size_t i = count - 1; i > 0; i--) {
        uint32_t left = winners[2 * i];
        uint32_t right = winners[2 * i + 1];
        bool left_wins = is_less(part, left, right);
        winners[i] = left_wins ? left : right;
        part->losers[i] = left_wins ? right : left;
    }
    part->losers[0] = winners[count > 1 ? 1 : count];
    mem_free(winners);
    return 0;
}

/* --- a part ----------------------------------------------------------------------------------- */

static int part_init(struct part *part, const struct merge *merge)
{
    part->merge = merge;
    slab_init(&part->slab);
    part->tree = (struct tree_writer){.slab = &part->slab, .birth = 1};
    for (unsigned i = 0; i < ENGINE_FAMILY_COUNT; i++)
        part->runs[i].writer = &part->tree;
    part->tallies = mem_zalloc(merge->count * sizeof *part->tallies);
    part->cursors = mem_zalloc(merge->count * sizeof *part->cursors);
    part->ranks = mem_zalloc(merge->count * sizeof *part->ranks);
    part->losers = mem_zalloc(merge->count * sizeof *part->losers);
    part->last_key = mem_alloc((size_t)merge->key_size_max + 1);
    if (part->tallies == NULL || part->cursors == NULL || part->ranks == NULL ||
        part->losers == NULL || part->last_key == NULL)
        return KVS_ERR_NO_MEMORY;
    int error = range_sweep_init(&part->sweep, &merge->ranges);
    for (size_t i = 0; i < merge->count && error == 0; i++)
        error = hint_cursor_init(&part->cursors[i], merge->inputs[i].hint);
    return error;
}

static void part_deinit(struct part *part)
{
    for (size_t i = 0; part->cursors != NULL && i < part->merge->count; i++)
        hint_cursor_deinit(&part->cursors[i]);
    for (unsigned i = 0; i < ENGINE_FAMILY_COUNT; i++)
        tree_run_deinit(&part->runs[i]);
    range_sweep_deinit(&part->sweep);
    mem_free(part->tallies);
    mem_free(part->cursors);
    mem_free(part->ranks);
    mem_free(part->losers);
    mem_free(part->last_key);
    slab_deinit(&part->slab); /* empty, unless an error came in between */
}

static bool is_behind(const struct part *part, const struct rank *rank, kvs_slice key)
{
    const struct bound *to = part->to;
    if (to == NULL || rank->family != to->family)
        return to != NULL && rank->family > to->family;
    return slice_compare(key, to->key) >= 0;
}

static bool was_decided(const struct part *part, uint32_t i)
{
    const struct rank *rank = &part->ranks[i];
    return rank->word == part->last_rank.word && rank->family == part->last_rank.family &&
           slice_equal(part->cursors[i].item.key, slice_make(part->last_key, part->last_size));
}

/* The newest item of a key. */
static int item_decide(struct part *part, uint32_t i)
{
    const struct hint_item *item = &part->cursors[i].item;
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
        tally->expiring_bytes += size;
        part->expiring_keys[item->family]++;
        if (item->expires_at_ms > tally->expires_last_ms)
            tally->expires_last_ms = item->expires_at_ms;
    }
    return tree_run_add(&part->runs[item->family], entry);
}

static int part_run(struct part *part)
{
    for (uint32_t i = 0; i < part->merge->count; i++) {
        struct hint_cursor *cursor = &part->cursors[i];
        rank_set(part, i,
                 part->from != NULL ? hint_cursor_seek(cursor, part->from->family, part->from->key)
                                    : hint_cursor_next(cursor));
    }
    int error = tournament_begin(part);
    part->last_rank.family = FAMILY_NONE;
    while (error == 0 && part->error == 0) {
        uint32_t i = part->losers[0];
        kvs_slice key = part->cursors[i].item.key;
        if (part->ranks[i].family == FAMILY_NONE || is_behind(part, &part->ranks[i], key))
            break;
        if (!was_decided(part, i)) {
            error = item_decide(part, i);
            memcpy(part->last_key, key.data, key.size);
            part->last_size = key.size;
            part->last_rank = part->ranks[i];
        }
        rank_set(part, i, hint_cursor_next(&part->cursors[i]));
        winner_replay(part);
    }
    for (unsigned i = 0; i < ENGINE_FAMILY_COUNT; i++)
        tree_run_end(&part->runs[i]);
    return error != 0 ? error : part->error;
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
        const struct hint *hint = merge->inputs[i].hint;
        kvs_slice rest = hint->ranges;
        struct record record;
        for (size_t size; (size = record_parse(rest, &record)) > 0;
             rest = slice_make(rest.data + size, rest.size - size)) {
            int error = range_list_add(&merge->ranges, &record);
            if (error != 0)
                return error;
        }
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
        segment->accounts.expiring_bytes += tally->expiring_bytes;
        if (tally->expires_last_ms > segment->accounts.expires_last_ms)
            segment->accounts.expires_last_ms = tally->expires_last_ms;
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
    uint64_t items = 0;
    for (size_t i = 0; i < count; i++) {
        items += inputs[i].hint->count;
        if (inputs[i].hint->key_size_max > merge->key_size_max)
            merge->key_size_max = inputs[i].hint->key_size_max;
    }
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
