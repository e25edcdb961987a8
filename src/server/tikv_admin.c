/*
 * server/tikv_admin.c: commands about the node and its regions, and those that are refused.
 *
 * A split: 1. the keys become stored keys; 2. the region map writes the new regions; 3. the answer
 * names all regions that now cover the old one. When the region changed meanwhile: EpochNotMatch.
 * Thread: the connection's loop.
 */
#include "server/tikv_parts.h"

#include "tikvpb.pb-c.h"

#include <kvs/error.h>

#define DELAY_MAX_MS 10000u
#define DELAYED_MAX 4096u
#define SLOW_SCORE 1 /* as fast as can be */

struct split {
    struct region_split base;
    struct tikv_command *command;
    Kvrpcpb__Context *context;
    kvs_slice start, end; /* of the old region */
};

struct delayed {
    struct heap_node node;
    struct tikv_command *command;
    uint64_t test_id;
};

/* --- refused ------------------------------------------------------------------------------------
 */

void tikv_raw_coprocessor(struct tikv_command *command)
{
    const Kvrpcpb__RawCoprocessorRequest *request = (const void *)command->request;
    struct tikv_place place;
    if (tikv_place_begin(&place, command, request->context, NULL))
        tikv_answer_error(command, "coprocessor '%.64s' not found: there are no plug-ins here",
                          request->copr_name);
}

void tikv_coprocessor(struct tikv_command *command)
{
    Coprocessor__Response answer = COPROCESSOR__RESPONSE__INIT;
    answer.other_error = (char *)"the coprocessor is not supported";
    tikv_answer_message(command, &answer.base);
}

/* --- the node -----------------------------------------------------------------------------------
 */

/* Nobody reads stale data here: no timestamp is promised. */
void tikv_store_safe_ts(struct tikv_command *command)
{
    tikv_answer(command, slice_make(NULL, 0));
}

void tikv_health_feedback(struct tikv_command *command)
{
    Kvrpcpb__GetHealthFeedbackResponse answer = KVRPCPB__GET_HEALTH_FEEDBACK_RESPONSE__INIT;
    Kvrpcpb__HealthFeedback feedback = KVRPCPB__HEALTH_FEEDBACK__INIT;
    feedback.store_id = STORE_ID;
    feedback.feedback_seq_no =
        1 + atomic_fetch_add_explicit(&command_at(command)->service->feedbacks, 1,
                                      memory_order_relaxed);
    feedback.slow_score = SLOW_SCORE;
    answer.health_feedback = &feedback;
    tikv_answer_message(command, &answer.base);
}

/* --- commands that wait -------------------------------------------------------------------------
 */

static void answer_empty(struct tikv_command *command, uint64_t test_id)
{
    Tikvpb__BatchCommandsEmptyResponse answer = TIKVPB__BATCH_COMMANDS_EMPTY_RESPONSE__INIT;
    answer.test_id = test_id;
    tikv_answer_message(command, &answer.base);
}

static void on_delay(uv_timer_t *timer)
{
    tikv_delayed_run(timer->data);
}

void tikv_delayed_run(struct tikv_service_loop *at)
{
    uint64_t now_ms = loop_now_ms(at->loop);
    struct heap_node *node;
    while ((node = heap_first(&at->delayed)) != NULL && (node->key <= now_ms || at->closing)) {
        struct delayed *delayed = CONTAINER_OF(node, struct delayed, node);
        heap_remove(&at->delayed, node);
        answer_empty(delayed->command, delayed->test_id);
    }
    if (node != NULL)
        uv_timer_start(&at->delay_timer, on_delay, node->key - now_ms, 0);
}

void tikv_empty(struct tikv_command *command)
{
    const Tikvpb__BatchCommandsEmptyRequest *request = (const void *)command->request;
    struct tikv_service_loop *at = command_at(command);
    uint64_t wait_ms = request->delay_time < DELAY_MAX_MS ? request->delay_time : DELAY_MAX_MS;
    if (wait_ms == 0 || at->delayed.size >= DELAYED_MAX) {
        answer_empty(command, request->test_id);
        return;
    }
    struct delayed *delayed = arena_zalloc(command_arena(command), sizeof *delayed);
    if (delayed == NULL ||
        heap_push(&at->delayed, &delayed->node, loop_now_ms(at->loop) + wait_ms) != 0) {
        tikv_fail_no_memory(command);
        return;
    }
    delayed->command = command;
    delayed->test_id = request->test_id;
    tikv_delayed_run(at);
}

/* --- splits -------------------------------------------------------------------------------------
 */

/* All regions within the old one; the newest list. */
static void answer_split(struct split *split, const struct region_list *list)
{
    struct tikv_command *command = split->command;
    size_t first = region_list_index(list, split->start);
    size_t count = 0;
    while (
        first + count < list->count &&
        (split->end.size == 0 || slice_compare(list->by_key[first + count]->start, split->end) < 0))
        count++;
    Metapb__Region **regions = arena_alloc(command_arena(command), count * sizeof *regions);
    for (size_t i = 0; i < count; i++) {
        Metapb__Region *region =
            regions != NULL ? tikv_region_message(command_arena(command), list->by_key[first + i])
                            : NULL;
        if (region == NULL) {
            tikv_fail_no_memory(command);
            return;
        }
        regions[i] = region;
    }
    Kvrpcpb__SplitRegionResponse answer = KVRPCPB__SPLIT_REGION_RESPONSE__INIT;
    answer.n_regions = count;
    answer.regions = regions;
    if (count == 2) { /* what clients read that know of two parts only */
        answer.left = regions[0];
        answer.right = regions[1];
    }
    tikv_answer_message(command, &answer.base);
}

static void on_split(struct region_split *base, int error)
{
    struct split *split = CONTAINER_OF(base, struct split, base);
    struct tikv_command *command = split->command;
    const struct region_list *list = region_reader_list(&command_at(command)->regions);
    if (error == 0) {
        answer_split(split, list);
        return;
    }
    command->message->regions = list;
    struct tikv_place place = {.command = command, .context = split->context};
    if (error == KVS_ERR_CONDITION_FAILED) {
        if (tikv_place_region(&place))
            tikv_answer_epoch(command, split->context, place.region);
    } else {
        tikv_answer_engine_error(command, error);
    }
}

/* As the keys come for raw data of API V1, else encoded. */
static bool stored_keys(struct tikv_place *place, const Kvrpcpb__SplitRegionRequest *request,
                        kvs_slice **ret_keys, size_t *ret_count)
{
    struct arena *arena = command_arena(place->command);
    size_t count = request->n_split_keys > 0 ? request->n_split_keys : 1;
    kvs_slice *keys = arena_alloc(arena, count * sizeof *keys);
    for (size_t i = 0; i < count && keys != NULL; i++) {
        keys[i] =
            bytes_slice(request->n_split_keys > 0 ? request->split_keys[i] : request->split_key);
        if (keys[i].size == 0 || keys[i].size > KEY_SIZE_MAX ||
            (!place->is_v2 && request->is_raw_kv))
            continue;
        uint8_t *bytes = arena_alloc(arena, key_encoded_size(keys[i].size));
        if (bytes == NULL) {
            keys = NULL;
            break;
        }
        key_encode(keys[i], bytes);
        keys[i] = slice_make(bytes, key_encoded_size(keys[i].size));
    }
    *ret_keys = keys;
    *ret_count = count;
    if (keys == NULL)
        tikv_fail_no_memory(place->command);
    return keys != NULL;
}

static bool refuse_split(struct tikv_command *command, const char *text)
{
    tikv_answer_region_text(command, text);
    return false;
}

static bool check_split_keys(struct tikv_place *place, const kvs_slice *keys, size_t count)
{
    struct tikv_place stored = *place; /* the keys are as region bounds now */
    stored.is_encoded = false;
    if (count > REGION_SPLIT_KEYS_MAX)
        return refuse_split(place->command, "too many split keys");
    for (size_t i = 0; i < count; i++) {
        if (keys[i].size == 0)
            return refuse_split(place->command, "a split key is empty");
        if (keys[i].size > key_encoded_size(KEY_SIZE_MAX))
            return refuse_split(place->command, "a split key is too large");
        if (!tikv_place_has(&stored, keys[i]))
            return false;
    }
    return true;
}

void tikv_split_region(struct tikv_command *command)
{
    const Kvrpcpb__SplitRegionRequest *request = (const void *)command->request;
    struct tikv_service_loop *at = command_at(command);
    struct arena *arena = command_arena(command);
    struct tikv_place place;
    kvs_slice *keys;
    size_t count;
    if (!tikv_place_begin(&place, command, request->context, NULL) || !tikv_place_region(&place) ||
        !stored_keys(&place, request, &keys, &count) || !check_split_keys(&place, keys, count))
        return;
    struct split *split = arena_zalloc(arena, sizeof *split);
    uint8_t *start = arena_copy(arena, place.region->start);
    uint8_t *end = arena_copy(arena, place.region->end);
    if (split == NULL || start == NULL || end == NULL) {
        tikv_fail_no_memory(command);
        return;
    }
    split->command = command;
    split->context = request->context;
    split->start = slice_make(start, place.region->start.size);
    split->end = slice_make(end, place.region->end.size);
    split->base.keys = keys;
    split->base.count = count;
    split->base.region_id = place.region->id;
    split->base.version = place.region->version;
    split->base.done = on_split;
    region_map_split(at->service->cluster->regions, at->loop, &split->base);
}
