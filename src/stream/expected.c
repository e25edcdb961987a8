/*
 * stream/expected.c: may a write happen, or has it happened already?
 *
 * A writer says what it believes to be the stream's last number; a writer that does not know
 * whether its write arrived sends it again, with the same ids. The rules, in their order:
 *
 *   1. the stream has a tombstone: DELETED;
 *   2. EXISTS: a soft-deleted stream: DELETED; neither it nor its metadata has an event: WRONG;
 *   3. ANY and EXISTS: if the first id is not among the recent ones of the stream: WRITE; if all
 *      are: WAS_THERE; if only some: WRONG;
 *   4. less than the last number: the ids of the events that follow the expected one are compared:
 *      all equal: WAS_THERE; the first differs: WRONG, but WRITE for NO_STREAM on a soft-deleted
 *      stream; a later one differs, or there are no events to compare: WRONG;
 *   5. more than the last number: WRONG;
 *   6. equal: WRITE. Ids play no part: the same events twice is what such a writer asked for.
 */
#include "stream/streams.h"

static void was_there(struct stream_write *write, int64_t first, int64_t last, int64_t position)
{
    write->first_number = first;
    write->last_number = last;
    write->position = position;
    write->was_there = true;
}

static enum expected_verdict decide_by_recent(const struct recent *recent, uint64_t stream_id,
                                              const struct stream_new_event *events, uint32_t count,
                                              struct stream_write *write)
{
    const struct recent_event *first =
        count > 0 ? recent_find(recent, stream_id, events[0].id) : NULL;
    if (first == NULL)
        return EXPECTED_WRITE;
    const struct recent_event *last = first;
    for (uint32_t i = 1; i < count && last != NULL; i++)
        last = recent_find(recent, stream_id, events[i].id);
    if (last == NULL)
        return EXPECTED_WRONG;
    was_there(write, first->number, last->number, last->position);
    return EXPECTED_WAS_THERE;
}

static int decide_by_events(struct streams *streams, const struct write_target *target,
                            int64_t expected, const struct stream_new_event *events, uint32_t count,
                            struct stream_write *write, enum expected_verdict *ret_verdict)
{
    struct stream_record stored = {.position = -1};
    *ret_verdict = EXPECTED_WRONG;
    for (uint32_t i = 0; i < count; i++) {
        int64_t number = expected + 1 + (int64_t)i;
        int error = number <= target->head->last
                        ? sequencer_event(streams, target->head, number, true, &stored)
                        : KVS_ERR_NOT_FOUND;
        if (error != 0 && error != KVS_ERR_NOT_FOUND)
            return error;
        if (error == 0 && memcmp(stored.id, events[i].id, sizeof stored.id) == 0)
            continue;
        bool recreates = i == 0 && expected == STREAM_NO_STREAM && head_soft_deleted(target->head);
        if (recreates)
            *ret_verdict = EXPECTED_WRITE;
        return 0;
    }
    if (count == 0)
        return 0;
    was_there(write, expected + 1, expected + (int64_t)count, stored.position);
    *ret_verdict = EXPECTED_WAS_THERE;
    return 0;
}

int expected_decide(struct streams *streams, const struct write_target *target, int64_t expected,
                    const struct stream_new_event *events, uint32_t count,
                    struct stream_write *write, enum expected_verdict *ret_verdict)
{
    const struct head *head = target->head;
    *ret_verdict = EXPECTED_WRONG;
    if (head->last == STREAM_NUMBER_DELETED || target->base->last == STREAM_NUMBER_DELETED) {
        *ret_verdict = EXPECTED_DELETED;
        return 0;
    }
    bool nothing = head->last == -1 && (target->is_meta || head->settings.metadata_last == -1);
    if (expected == STREAM_EXISTS && head_soft_deleted(head)) {
        *ret_verdict = EXPECTED_DELETED;
    } else if (expected == STREAM_EXISTS && nothing) {
        *ret_verdict = EXPECTED_WRONG;
    } else if (expected == STREAM_ANY || expected == STREAM_EXISTS) {
        *ret_verdict =
            decide_by_recent(&streams->sequencer.recent, head->settings.id, events, count, write);
    } else if (expected < head->last) {
        return decide_by_events(streams, target, expected, events, count, write, ret_verdict);
    } else if (expected == head->last) {
        *ret_verdict = EXPECTED_WRITE;
    }
    return 0;
}
