/* engine/log/tournament.c: see engine/log/tournament.h. */
#include "engine/log/tournament.h"

#include "base/bytes.h"
#include "base/mem.h"

#include <kvs/error.h>

static bool is_less(const struct tournament *tournament, uint32_t a, uint32_t b)
{
    const struct rank *x = &tournament->ranks[a];
    const struct rank *y = &tournament->ranks[b];
    if (x->family != y->family)
        return x->family < y->family;
    if (x->word != y->word)
        return x->word < y->word;
    if (x->family == FAMILY_NONE)
        return a > b;
    int order = slice_compare(tournament->cursors[a].item.key, tournament->cursors[b].item.key);
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

static void rank_set(struct tournament *tournament, uint32_t i, bool any)
{
    const struct hint_item *item = &tournament->cursors[i].item;
    tournament->ranks[i] = any ? (struct rank){key_word(item->key), item->family}
                               : (struct rank){UINT64_MAX, FAMILY_NONE};
    if (!any && tournament->cursors[i].is_bad)
        tournament->is_bad = true;
}

/* The list that won has moved on: plays its matches again, up to the root. */
static void winner_replay(struct tournament *tournament)
{
    uint32_t winner = tournament->losers[0];
    for (size_t at = (winner + tournament->count) / 2; at > 0; at /= 2) {
        if (is_less(tournament, tournament->losers[at], winner)) {
            uint32_t loser = winner;
            winner = tournament->losers[at];
            tournament->losers[at] = loser;
        }
    }
    tournament->losers[0] = winner;
}

/* Match i is between the winners of 2i and 2i + 1; behind count, these are the lists. */
static int matches_play(struct tournament *tournament)
{
    size_t count = tournament->count;
    uint32_t *winners = mem_alloc(2 * count * sizeof *winners);
    if (winners == NULL)
        return KVS_ERR_NO_MEMORY;
    for (size_t i = 0; i < count; i++)
        winners[count + i] = (uint32_t)i;
    for (size_t i = count - 1; i > 0; i--) {
        uint32_t left = winners[2 * i];
        uint32_t right = winners[2 * i + 1];
        bool left_wins = is_less(tournament, left, right);
        winners[i] = left_wins ? left : right;
        tournament->losers[i] = left_wins ? right : left;
    }
    tournament->losers[0] = winners[count > 1 ? 1 : count];
    mem_free(winners);
    return 0;
}

int tournament_init(struct tournament *tournament, size_t count)
{
    *tournament = (struct tournament){.count = count, .last_rank.family = FAMILY_NONE};
    tournament->cursors = mem_zalloc(count * sizeof *tournament->cursors);
    tournament->ranks = mem_zalloc(count * sizeof *tournament->ranks);
    tournament->losers = mem_zalloc(count * sizeof *tournament->losers);
    if (tournament->cursors == NULL || tournament->ranks == NULL || tournament->losers == NULL)
        return KVS_ERR_NO_MEMORY;
    return 0;
}

int tournament_add(struct tournament *tournament, uint32_t i, const struct hint *hint)
{
    return hint_cursor_init(&tournament->cursors[i], hint);
}

void tournament_deinit(struct tournament *tournament)
{
    for (size_t i = 0; tournament->cursors != NULL && i < tournament->count; i++)
        hint_cursor_deinit(&tournament->cursors[i]);
    mem_free(tournament->cursors);
    mem_free(tournament->ranks);
    mem_free(tournament->losers);
    mem_free(tournament->last_key);
}

static int last_key_make(struct tournament *tournament)
{
    uint32_t size_max = 0;
    for (size_t i = 0; i < tournament->count; i++) {
        uint32_t size = tournament->cursors[i].hint->key_size_max;
        size_max = size > size_max ? size : size_max;
    }
    tournament->last_key = mem_alloc((size_t)size_max + 1);
    return tournament->last_key != NULL ? 0 : KVS_ERR_NO_MEMORY;
}

int tournament_begin(struct tournament *tournament)
{
    for (uint32_t i = 0; i < tournament->count; i++)
        rank_set(tournament, i, hint_cursor_next(&tournament->cursors[i]));
    int error = last_key_make(tournament);
    return error != 0 ? error : matches_play(tournament);
}

int tournament_begin_at(struct tournament *tournament, unsigned family, kvs_slice key)
{
    for (uint32_t i = 0; i < tournament->count; i++)
        rank_set(tournament, i, hint_cursor_seek(&tournament->cursors[i], family, key));
    int error = last_key_make(tournament);
    return error != 0 ? error : matches_play(tournament);
}

bool tournament_is_older(const struct tournament *tournament)
{
    const struct rank *rank = &tournament->ranks[tournament->losers[0]];
    return rank->word == tournament->last_rank.word &&
           rank->family == tournament->last_rank.family &&
           slice_equal(tournament_item(tournament)->key,
                       slice_make(tournament->last_key, tournament->last_size));
}

void tournament_next(struct tournament *tournament)
{
    uint32_t i = tournament->losers[0];
    kvs_slice key = tournament->cursors[i].item.key;
    memcpy(tournament->last_key, key.data, key.size);
    tournament->last_size = key.size;
    tournament->last_rank = tournament->ranks[i];
    rank_set(tournament, i, hint_cursor_next(&tournament->cursors[i]));
    winner_replay(tournament);
}
