/*
 * stream/write.c: what a write does, decided by the sequencer.
 *
 * A write is prepared in two steps. The first one looks up all that it needs: heads, ids to
 * compare, metadata to carry on. It may have to wait for a disk, and changes nothing. The second
 * one changes heads and the batch that is being built, and can fail for lack of memory only;
 * `tainted` says that it has begun.
 *
 * A stream's metadata is what the last event of $$NAME says; the record of NAME repeats it. To
 * delete a stream softly is to write metadata that truncates all of it; to write to it again moves
 * the truncation to the first new event.
 */
#include "stream/streams.h"

#define CATEGORY_PREFIX "$ce-"
#define PREFIX_SIZE_MAX 16u
/* What a loop has time for at once; more goes to the blocking pool. */
#define QUICK_SIZE_MAX (1024u * 1024)
#define GIVES_BACK_SIZE_MAX (16u * 1024) /* metadata that is taken on a full disk */

/* --- targets ---------------------------------------------------------------------------------- */

int write_target_find(struct streams *streams, kvs_slice name, struct write_target *ret_target,
                      enum stream_outcome *ret_outcome)
{
    if (name.size == 0)
        return KVS_ERR_INVALID_ARGUMENT;
    if (name.size > STREAM_NAME_SIZE_MAX)
        return KVS_ERR_TOO_LARGE;
    struct write_target target = {.is_meta = name_is_metastream(name)};
    kvs_slice base = target.is_meta ? name_of_metastream(name) : name;
    bool of_nobody = !target.is_meta && (name_is(name, "$all") || name_is_derived(name));
    if (of_nobody || (target.is_meta && name_is_metastream(base))) {
        *ret_outcome = STREAM_ACCESS_DENIED;
        return 0;
    }
    int error = sequencer_head(streams, name, &target.head);
    if (error == 0)
        error = sequencer_head(streams, base, &target.base);
    *ret_target = target;
    return error;
}

bool write_is_granted(struct streams *streams, const struct stream_user *user,
                      const struct write_target *target, enum stream_right right)
{
    if (user == NULL || streams->insecure)
        return true;
    if (target->is_meta)
        right = STREAM_RIGHT_META_WRITE;
    pthread_rwlock_rdlock(&streams->acls_lock);
    bool granted = access_is_granted(user, head_name(target->base), target->base->settings.acl,
                                     &streams->acls, right);
    pthread_rwlock_unlock(&streams->acls_lock);
    return granted;
}

/* --- derived streams -------------------------------------------------------------------------- */

static int head_of_parts(struct streams *streams, const char *prefix, kvs_slice rest,
                         struct head **ret_head)
{
    uint8_t name[STREAM_NAME_SIZE_MAX + PREFIX_SIZE_MAX];
    size_t prefix_size = strlen(prefix);
    if (rest.size > STREAM_NAME_SIZE_MAX || prefix_size > PREFIX_SIZE_MAX)
        return KVS_ERR_TOO_LARGE;
    memcpy(name, prefix, prefix_size);
    memcpy(name + prefix_size, rest.data, rest.size);
    return sequencer_head(streams, slice_make(name, prefix_size + rest.size), ret_head);
}

/* What the events of a write have in common, so that it is looked up once. */
struct derivation {
    bool off;
    bool all;    /* those that must be asked for, too */
    bool begins; /* the stream has no event yet */
    struct derived heads;
    struct head *deleted_type;
    kvs_slice type; /* whose head is in heads.type */
    bool type_is_known;
};

/* NULL: the stream has no category. */
static int derivation_category(struct streams *streams, kvs_slice name, const char *prefix,
                               struct head **ret_head)
{
    *ret_head = NULL;
    const uint8_t *dash = name_is_system(name) ? NULL : memchr(name.data, '-', name.size);
    if (dash == NULL || dash == name.data)
        return 0;
    kvs_slice category = slice_make(name.data, (size_t)(dash - name.data));
    return head_of_parts(streams, prefix, category, ret_head);
}

static int derivation_begin(struct streams *streams, const struct head *head,
                            struct derivation *derivation)
{
    *derivation = (struct derivation){.off = streams->projections == STREAM_PROJECTIONS_NONE,
                                      .all = streams->projections == STREAM_PROJECTIONS_ALL};
    kvs_slice name = head_name(head);
    if (derivation->off)
        return 0;
    derivation->begins = head->last == -1;
    int error = 0;
    if (derivation->begins)
        error = sequencer_head(streams, slice_of_string("$streams"), &derivation->heads.streams);
    if (error == 0)
        error = derivation_category(streams, name, CATEGORY_PREFIX, &derivation->heads.category);
    if (error == 0 && derivation->all && derivation->begins)
        error =
            derivation_category(streams, name, REFERENCES_PREFIX, &derivation->heads.references);
    return error;
}

static int derivation_correlation(struct streams *streams, struct derivation *derivation,
                                  kvs_slice metadata)
{
    derivation->heads.correlation = NULL;
    if (!derivation->all)
        return 0;
    struct buf id = BUF_INIT;
    int error = metadata_correlation_id(metadata, &id);
    if (error == 0 && id.size > 0)
        error = head_of_parts(streams, BY_CORRELATION_PREFIX, buf_slice(&id),
                              &derivation->heads.correlation);
    buf_deinit(&id);
    return error;
}

static int derivation_type(struct streams *streams, struct derivation *derivation, kvs_slice type)
{
    if (derivation->off || (derivation->type_is_known && slice_equal(type, derivation->type)))
        return 0;
    derivation->type = type;
    derivation->type_is_known = true;
    derivation->heads.type = NULL;
    if (type.size == 0 || name_is(type, LINK_TYPE))
        return 0;
    return head_of_parts(streams, TYPE_PREFIX, type, &derivation->heads.type);
}

/* What an event of a metastream says; nothing, if it is not marked as JSON. */
static kvs_slice metadata_of(const struct stream_new_event *event)
{
    return event->is_json ? event->data : (kvs_slice){0};
}

/* The streams that get a link to the event. Metadata that deletes a stream softly is an event of
 * that stream's category. */
static int derivation_event(struct streams *streams, struct derivation *derivation,
                            const struct head *head, const struct stream_new_event *event)
{
    kvs_slice type = event->type;
    bool is_meta = name_is_metastream(head_name(head));
    bool deletes_softly =
        is_meta && name_is(type, METADATA_TYPE) && metadata_deletes(metadata_of(event));
    int error = 0;
    if (deletes_softly || name_is(type, TOMBSTONE_TYPE))
        type = slice_of_string(DELETED_TYPE);
    if (is_meta)
        derivation->heads.category = NULL;
    if (deletes_softly && !derivation->off)
        error = derivation_category(streams, name_of_metastream(head_name(head)), CATEGORY_PREFIX,
                                    &derivation->heads.category);
    if (error == 0)
        error = derivation_type(streams, derivation, type);
    return error != 0 ? error : derivation_correlation(streams, derivation, event->metadata);
}

/* First step: every head is there, so that the second finds them without reading. */
static int derivation_load(struct streams *streams, const struct head *head,
                           const struct stream_new_event *events, uint32_t count)
{
    struct derivation derivation;
    int error = derivation_begin(streams, head, &derivation);
    for (uint32_t i = 0; i < count && error == 0; i++)
        error = derivation_event(streams, &derivation, head, &events[i]);
    return error;
}

/* Second step. */
static int append_all(struct streams *streams, struct head *head,
                      const struct stream_new_event *events, uint32_t count, bool is_tombstone)
{
    struct batch *batch;
    struct derivation derivation;
    int error = sequencer_batch(streams, &batch);
    if (error == 0)
        error = derivation_begin(streams, head, &derivation);
    if (error == 0 && is_tombstone) /* whose number is not the first */
        derivation.heads.streams = derivation.heads.references = NULL;
    for (uint32_t i = 0; i < count && error == 0; i++) {
        error = derivation_event(streams, &derivation, head, &events[i]);
        if (error == 0)
            error = batch_append(batch, head, &events[i], is_tombstone, &derivation.heads);
        derivation.heads.streams = NULL; /* only its first event */
        derivation.heads.references = NULL;
    }
    return error;
}

/* --- metadata --------------------------------------------------------------------------------- */

static struct stream_new_event event_make(struct streams *streams, const char *type, bool is_json,
                                          kvs_slice data)
{
    struct stream_new_event event = {
        .type = slice_of_string(type), .is_json = is_json, .data = data};
    uint64_t halves[2] = {rand_u64(&streams->sequencer.rand), rand_u64(&streams->sequencer.rand)};
    memcpy(event.id, halves, sizeof event.id);
    return event;
}

/* Second step: the last event of `meta` says `json`: so does the record of its stream from now
 * on. */
static int metadata_apply(struct streams *streams, struct head *meta, struct head *base,
                          kvs_slice json)
{
    struct batch *batch;
    int error = sequencer_batch(streams, &batch);
    if (error == 0)
        error = settings_of_json(json, &base->settings, &base->acl);
    base->settings.metadata_last = meta->last;
    return error != 0 ? error : batch_change_record(batch, base);
}

/* First step of what metadata_append does. */
static int metadata_load(struct streams *streams, struct head *meta, kvs_slice json)
{
    const struct stream_new_event event = {
        .type = slice_of_string(METADATA_TYPE), .is_json = true, .data = json};
    return derivation_load(streams, meta, &event, 1);
}

static int metadata_append(struct streams *streams, struct head *meta, struct head *base,
                           kvs_slice json)
{
    struct stream_new_event event = event_make(streams, METADATA_TYPE, true, json);
    int error = append_all(streams, meta, &event, 1, false);
    return error != 0 ? error : metadata_apply(streams, meta, base, json);
}

static int metastream_head(struct streams *streams, const struct head *base, struct head **ret_meta)
{
    return head_of_parts(streams, "$$", head_name(base), ret_meta);
}

/* First step: the metadata that the stream has, with another $tb. Of a soft-deleted stream. */
static int metadata_moved(struct streams *streams, struct head *base, struct head *meta,
                          struct buf *ret_json)
{
    struct stream_record last;
    int error = sequencer_event(streams, meta, base->settings.metadata_last, false, &last);
    if (error != 0 && error != KVS_ERR_NOT_FOUND)
        return error;
    if (error != 0 || !last.is_json)
        last.data = (kvs_slice){0};
    return metadata_with_truncate_before(last.data, base->last + 1, ret_json);
}

/* --- appending -------------------------------------------------------------------------------- */

int write_check_size(const struct streams *streams, uint32_t count, uint64_t size)
{
    if (size > STREAM_WRITE_SIZE_MAX)
        return KVS_ERR_TOO_LARGE;
    bool holds_up = count > STREAM_WRITE_COUNT_QUICK || size > QUICK_SIZE_MAX;
    return holds_up && !streams->sequencer.may_block ? ENGINE_WOULD_BLOCK : 0;
}

int write_check_events(const struct streams *streams, const struct stream_new_event *events,
                       uint32_t count)
{
    uint64_t total = 0;
    for (uint32_t i = 0; i < count; i++) {
        const struct stream_new_event *event = &events[i];
        uint64_t size = (uint64_t)event->data.size + event->metadata.size;
        if (event->type.size > STREAM_TYPE_SIZE_MAX || size > STREAM_EVENT_SIZE_MAX ||
            size + event->type.size > STREAM_EVENT_SIZE_MAX)
            return KVS_ERR_TOO_LARGE;
        total += size + event->type.size;
    }
    return write_check_size(streams, count, total);
}

/* The default rights are what the last event of $settings says. */
static int settings_stream_changed(struct streams *streams, const struct head *head, kvs_slice json)
{
    struct batch *batch;
    if (!name_is(head_name(head), SETTINGS_STREAM))
        return 0;
    struct default_acls acls;
    int error = sequencer_batch(streams, &batch);
    if (error == 0)
        error = default_acls_of_json(json, &acls);
    if (error != 0)
        return error;
    default_acls_deinit(&batch->acls);
    batch->acls = acls;
    batch->changes_acls = true;
    return 0;
}

/* What else the last event of a write does. */
static int last_event_apply(struct streams *streams, const struct write_target *target,
                            const struct stream_new_event *last)
{
    return target->is_meta ? metadata_apply(streams, target->head, target->base, metadata_of(last))
                           : settings_stream_changed(streams, target->head, last->data);
}

/* Second step of an append to `target`; `json` is the metadata that goes with it, if any. */
static int events_append(struct streams *streams, struct stream_write *write,
                         const struct write_target *target, const struct stream_new_event *events,
                         uint32_t count, struct head *meta, kvs_slice json)
{
    struct head *head = target->head;
    write->first_number = head->last + 1;
    int error = append_all(streams, head, events, count, false);
    if (error != 0)
        return error;
    write->last_number = head->last;
    if (count > 0) {
        write->position = streams->sequencer.next_position - 1;
        error = last_event_apply(streams, target, &events[count - 1]);
    }
    if (error == 0 && meta != NULL)
        error = metadata_append(streams, meta, target->base, json);
    return error;
}

/* Does the write bring a soft-deleted stream back, and with which metadata? What was deleted stays
 * away, whatever $tb new metadata gives; but what is no JSON object is left alone: it says nothing,
 * not even that the stream was truncated. A write of no events brings it back, too, as in
 * EventStoreDB: to the stream or its metastream. */
static int recreation_load(struct streams *streams, const struct write_target *target,
                           const struct stream_new_event *events, uint32_t count,
                           struct head **ret_meta, struct buf *ret_json)
{
    struct head *base = target->base;
    const struct stream_new_event *said = target->is_meta && count > 0 ? &events[count - 1] : NULL;
    if (!head_soft_deleted(base))
        return 0;
    if (said != NULL && !metadata_is_object(said->data))
        return 0;
    int error = metastream_head(streams, base, ret_meta);
    if (error == 0)
        error = metadata_load(streams, *ret_meta, (kvs_slice){0});
    if (error != 0)
        return error;
    if (said != NULL)
        return metadata_with_truncate_before(said->data, base->last + 1, ret_json);
    return metadata_moved(streams, base, *ret_meta, ret_json);
}

static int events_write(struct streams *streams, struct stream_write *write,
                        const struct write_target *target, const struct stream_new_event *events,
                        uint32_t count)
{
    struct head *meta = NULL;
    struct buf json = BUF_INIT;
    int error = derivation_load(streams, target->head, events, count);
    if (error == 0)
        error = recreation_load(streams, target, events, count, &meta, &json);
    if (error == 0) {
        streams->sequencer.tainted = true;
        error = events_append(streams, write, target, events, count, meta, buf_slice(&json));
        streams->sequencer.tainted = error != 0;
    }
    buf_deinit(&json);
    return error;
}

/* An answer that rests on what is on its way comes with the batch that follows that. */
static int answer_waits(struct streams *streams, const struct write_target *target, bool *ret_waits)
{
    struct batch *batch;
    *ret_waits = target->head->pins > 0 || target->base->pins > 0;
    return *ret_waits ? sequencer_batch(streams, &batch) : 0;
}

static void answer_verdict(struct stream_write *write, const struct write_target *target,
                           enum expected_verdict verdict)
{
    if (verdict == EXPECTED_WRONG) {
        write->outcome = STREAM_WRONG_EXPECTED_VERSION;
        write->current_version = target->head->last;
    } else if (verdict == EXPECTED_DELETED) {
        write->outcome = STREAM_DELETED;
        write->current_version = STREAM_NUMBER_DELETED;
    }
}

int write_events(struct streams *streams, struct stream_write *write,
                 const struct write_target *target, int64_t expected,
                 const struct stream_new_event *events, uint32_t count, bool *ret_waits)
{
    enum expected_verdict verdict;
    int error = expected_decide(streams, target, expected, events, count, write, &verdict);
    if (error == 0)
        error = answer_waits(streams, target, ret_waits);
    if (error != 0)
        return error;
    answer_verdict(write, target, verdict);
    if (verdict == EXPECTED_WAS_THERE)
        stream_stat_add(&streams->stat_retries, 1);
    if (verdict != EXPECTED_WRITE)
        return 0;
    if (count == 0 && !head_soft_deleted(target->base)) {
        write->first_number = target->head->last + 1;
        write->last_number = target->head->last;
        return 0;
    }
    *ret_waits = true;
    return events_write(streams, write, target, events, count);
}

static int prepare_append(struct streams *streams, struct stream_write *write,
                          const struct write_target *target, bool *ret_waits)
{
    int error = write_check_events(streams, write->events, write->count);
    if (error != 0)
        return error;
    if (!write_is_granted(streams, write->user, target, STREAM_RIGHT_WRITE)) {
        write->outcome = STREAM_ACCESS_DENIED;
        return 0;
    }
    return write_events(streams, write, target, write->expected_version, write->events,
                        write->count, ret_waits);
}

/* --- deleting --------------------------------------------------------------------------------- */

static int soft_delete(struct streams *streams, struct stream_write *write, struct head *head)
{
    const kvs_slice json = slice_of_string(METADATA_DELETED);
    struct head *meta;
    int error = metastream_head(streams, head, &meta);
    if (error == 0)
        error = metadata_load(streams, meta, json);
    if (error != 0)
        return error;
    streams->sequencer.tainted = true;
    error = metadata_append(streams, meta, head, json);
    streams->sequencer.tainted = error != 0;
    write->position = streams->sequencer.next_position - 1;
    return error;
}

static int hard_delete(struct streams *streams, struct stream_write *write, struct head *head)
{
    struct stream_new_event event = event_make(streams, TOMBSTONE_TYPE, false, (kvs_slice){0});
    int error = derivation_load(streams, head, &event, 1);
    if (error != 0)
        return error;
    streams->sequencer.tainted = true;
    error = append_all(streams, head, &event, 1, true);
    streams->sequencer.tainted = error != 0;
    write->position = streams->sequencer.next_position - 1;
    return error;
}

static int prepare_delete(struct streams *streams, struct stream_write *write,
                          const struct write_target *target, bool *ret_waits)
{
    struct head *head = target->head;
    bool hard = write->kind == STREAM_WRITE_TOMBSTONE;
    if (target->is_meta || !write_is_granted(streams, write->user, target, STREAM_RIGHT_DELETE)) {
        write->outcome = STREAM_ACCESS_DENIED;
        return 0;
    }
    /* As a write of something new. */
    struct stream_new_event event = event_make(streams, TOMBSTONE_TYPE, false, (kvs_slice){0});
    enum expected_verdict verdict;
    int error =
        expected_decide(streams, target, write->expected_version, &event, 1, write, &verdict);
    if (error == 0)
        error = answer_waits(streams, target, ret_waits);
    if (error != 0)
        return error;
    bool nothing = head->last == -1 && head->settings.metadata_last == -1;
    if (verdict == EXPECTED_WRITE && !hard && nothing)
        verdict = EXPECTED_WRONG;
    answer_verdict(write, target, verdict);
    if (verdict != EXPECTED_WRITE)
        return 0;
    *ret_waits = true;
    return hard ? hard_delete(streams, write, head) : soft_delete(streams, write, head);
}

/* --- all kinds -------------------------------------------------------------------------------- */

static void results_clear(struct stream_write *write)
{
    write->outcome = STREAM_OK;
    write->first_number = -1;
    write->last_number = -1;
    write->position = -1;
    write->current_version = -1;
    write->was_there = false;
}

static int events_load(struct streams *streams, struct stream_write *write)
{
    if (write->load_events == NULL)
        return 0;
    if (!streams->sequencer.may_block)
        return ENGINE_WOULD_BLOCK;
    int error = write->load_events(write);
    write->load_events = NULL; /* a write may be prepared more than once */
    return error;
}

/* The first event that is not hidden, of those up to `last`. */
static int64_t first_shown(const struct stream_settings *settings, int64_t last)
{
    int64_t first = settings->has_tombstone ? INT64_MAX : settings->truncate_before;
    if (settings->max_count > 0 && last - settings->max_count + 1 > first)
        first = last - settings->max_count + 1;
    return first <= last ? first : last + 1;
}

/* Has the write hidden events that were there before it? Metadata that has more to say than that
 * may wait for space. */
static bool hides_events(const struct stream_write *write, const struct stream_settings *before,
                         const struct stream_settings *after, int64_t last_before)
{
    const struct stream_new_event *event = write->events;
    if (write->count > 1 ||
        (write->count == 1 &&
         (uint64_t)event->data.size + event->metadata.size > GIVES_BACK_SIZE_MAX))
        return false;
    bool is_aged =
        after->max_age_s > 0 && (before->max_age_s == 0 || after->max_age_s < before->max_age_s);
    bool is_ended = after->has_tombstone && !before->has_tombstone; /* they may be hidden already */
    return first_shown(after, last_before) > first_shown(before, last_before) ||
           ((is_aged || is_ended) && last_before >= 0);
}

static int target_write(struct streams *streams, struct stream_write *write,
                        const struct write_target *target, bool *ret_waits)
{
    const struct head *base = target->base;
    const struct stream_settings before = base->settings;
    int64_t last_before = base->last;
    int error = write->kind == STREAM_WRITE_APPEND
                    ? prepare_append(streams, write, target, ret_waits)
                    : prepare_delete(streams, write, target, ret_waits);
    write->gives_back = error == 0 && hides_events(write, &before, &base->settings, last_before);
    return error;
}

int write_prepare(struct streams *streams, struct stream_write *write, bool *ret_waits)
{
    results_clear(write);
    int error = events_load(streams, write);
    if (error != 0)
        return error;
    if (write->kind >= STREAM_WRITE_TRANSACTION_START)
        return transaction_prepare(streams, write, ret_waits);
    bool version_is_valid =
        write->expected_version >= STREAM_ANY || write->expected_version == STREAM_EXISTS;
    if (!version_is_valid) {
        write->outcome = STREAM_BAD_REQUEST;
        return 0;
    }
    struct write_target target;
    error = write_target_find(streams, write->stream, &target, &write->outcome);
    if (error != 0 || write->outcome != STREAM_OK)
        return error;
    return target_write(streams, write, &target, ret_waits);
}
