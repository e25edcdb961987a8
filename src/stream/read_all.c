/*
 * stream/read_all.c: reading the log of all events, forward and backward, and filters.
 *
 * A forward read begins with the position given, a backward read before it. With a filter the read
 * ends also when it has looked at as many events as its window has, or has worked as long as one
 * page may: patterns come from outside. `next` is behind the last one that it looked at.
 */
#include "stream/reader.h"

#include "base/mem.h"
#include "stream/pattern.h"

#define SCAN_ENOUGH 3 /* never leaves this file */
#define PREFIXES_MAX 1000u
#define PREFIXES_SIZE_MAX (1024u * 1024)
#define EVENT_STEPS 8u /* to look at an event, whatever the filter */
#define COMPARED_A_STEP 64u

/* --- filters ---------------------------------------------------------------------------------- */

struct stream_filter {
    enum stream_filter_subject subject;
    struct pattern *pattern; /* or NULL */
    uint32_t count;
    struct buf bytes; /* of the prefixes */
    kvs_slice prefixes[];
};

static int filter_prefixes(struct stream_filter *filter, const kvs_slice *prefixes, uint32_t count)
{
    int error = 0;
    for (uint32_t i = 0; i < count && error == 0; i++)
        error = buf_append_slice(&filter->bytes, prefixes[i]);
    size_t at = 0;
    for (uint32_t i = 0; i < count && error == 0; i++) {
        filter->prefixes[i] = slice_make(filter->bytes.data + at, prefixes[i].size);
        at += prefixes[i].size;
    }
    filter->count = count;
    return error;
}

int stream_filter_new(enum stream_filter_subject subject, bool is_regex, const kvs_slice *patterns,
                      uint32_t count, struct stream_filter **ret_filter)
{
    if (count == 0 || (is_regex && count != 1) || (unsigned)subject > STREAM_FILTER_TYPE)
        return KVS_ERR_INVALID_ARGUMENT;
    size_t size = 0;
    for (uint32_t i = 0; i < count && i < PREFIXES_MAX; i++)
        size += patterns[i].size;
    if (count > PREFIXES_MAX || size > PREFIXES_SIZE_MAX)
        return KVS_ERR_TOO_LARGE;
    struct stream_filter *filter = mem_zalloc(sizeof *filter + count * sizeof(kvs_slice));
    if (filter == NULL)
        return KVS_ERR_NO_MEMORY;
    filter->subject = subject;
    int error = is_regex ? pattern_new(patterns[0], &filter->pattern)
                         : filter_prefixes(filter, patterns, count);
    if (error != 0) {
        stream_filter_free(filter);
        return error;
    }
    *ret_filter = filter;
    return 0;
}

void stream_filter_free(struct stream_filter *filter)
{
    if (filter == NULL)
        return;
    pattern_free(filter->pattern);
    buf_deinit(&filter->bytes);
    mem_free(filter);
}

bool filter_matches(const struct stream_filter *filter, const struct stream_record *record,
                    uint64_t *steps)
{
    kvs_slice text = filter->subject == STREAM_FILTER_TYPE ? record->type : record->stream;
    if (filter->pattern != NULL)
        return pattern_matches(filter->pattern, text, steps);
    for (uint32_t i = 0; i < filter->count; i++) {
        kvs_slice prefix = filter->prefixes[i];
        *steps += 1 + prefix.size / COMPARED_A_STEP;
        if (text.size >= prefix.size &&
            (prefix.size == 0 || memcmp(text.data, prefix.data, prefix.size) == 0))
            return true;
    }
    return false;
}

/* --- walking the log -------------------------------------------------------------------------- */

struct all_walk {
    struct reader *reader;
    bool backward;
    int64_t from;   /* not before it, or, backward, before it */
    int64_t window; /* events to look at */
    int64_t last;   /* position of the one looked at last; 0: none */
};

/* Is it of the page? */
static int walk_select(struct reader *reader, const struct stream_record *record, bool *ret_takes)
{
    const struct stream_filter *filter = reader->read->filter;
    uint64_t steps = EVENT_STEPS;
    *ret_takes = filter == NULL || filter_matches(filter, record, &steps);
    return filter != NULL ? reader_work(reader, steps) : 0;
}

static int walk_event(struct all_walk *walk, const struct block *block, uint32_t i)
{
    struct reader *reader = walk->reader;
    struct stream_read *read = reader->read;
    if (read->events_count == read->count || read->considered == walk->window ||
        read->work >= STREAM_READ_WORK_MAX)
        return SCAN_ENOUGH;
    block_prefetch(block, walk->backward ? i - BLOCK_EVENTS_AHEAD : i + BLOCK_EVENTS_AHEAD);
    struct stream_record record;
    uint64_t stream_id;
    int error = block_event(block, i, &record, &stream_id);
    bool takes = false;
    if (error == 0)
        error = walk_select(reader, &record, &takes);
    if (error != 0)
        return error;
    if (takes) {
        struct stream_event *event;
        error = reader_event(reader, record_bytes(&record), &event);
        if (error != 0)
            return error;
        error = reader_copy(reader, &record, &event->event);
        event->has_event = true;
    }
    read->considered++;
    walk->last = record.position;
    return error;
}

static int walk_each(void *arg, kvs_slice key, kvs_slice value)
{
    struct all_walk *walk = arg;
    struct block block;
    int error = block_parse(key, value, &block);
    if (error != 0)
        return error;
    uint32_t at = block_seek(&block, walk->from);
    if (walk->backward) {
        while (error == 0 && at > 0)
            error = walk_event(walk, &block, --at);
    } else {
        for (; error == 0 && at < block.count; at++)
            error = walk_event(walk, &block, at);
    }
    return error;
}

static int first_key_each(void *arg, kvs_slice key, kvs_slice value)
{
    (void)value;
    memcpy(arg, key.data, LOG_KEY_SIZE);
    return SCAN_ENOUGH;
}

/* The key of the block where a forward read begins. */
static int walk_begin_key(struct all_walk *walk, struct log_key *ret_key)
{
    struct log_key end = log_key_make(walk->from < INT64_MAX ? walk->from + 1 : INT64_MAX);
    struct engine_range range = {.family = STREAM_FAMILY_LOG,
                                 .reverse = true,
                                 .keys_only = true,
                                 .end = slice_make(end.bytes, LOG_KEY_SIZE)};
    *ret_key = log_key_make(walk->from);
    int error = engine_scan(walk->reader->view, &range, first_key_each, ret_key->bytes);
    return error == SCAN_ENOUGH ? 0 : error;
}

/* Each event in its order; SCAN_ENOUGH and READER_FULL: there are more. */
static int walk_run(struct all_walk *walk)
{
    struct log_key bound = log_key_make(walk->from);
    struct engine_range range = {.family = STREAM_FAMILY_LOG, .reverse = walk->backward};
    int error = walk->backward ? 0 : walk_begin_key(walk, &bound);
    if (error != 0)
        return error;
    if (walk->backward)
        range.end = slice_make(bound.bytes, LOG_KEY_SIZE);
    else
        range.start = slice_make(bound.bytes, LOG_KEY_SIZE);
    return engine_scan(walk->reader->view, &range, walk_each, walk);
}

static int all_is_granted(struct reader *reader, bool *ret_may)
{
    struct stream_settings settings;
    int64_t last;
    kvs_slice name = slice_of_string("$all");
    int error = lookup_stream(reader->view, name, &settings, &last);
    return error != 0 ? error
                      : lookup_may_read(reader->streams, reader->view, reader->read->user, name,
                                        &settings, ret_may);
}

/* Links that had no room: the page ends before the first of them. */
static int all_links(struct all_walk *walk, bool *ret_cut)
{
    struct stream_read *read = walk->reader->read;
    int error = links_resolve(walk->reader);
    *ret_cut = error == READER_FULL;
    if (error != READER_FULL)
        return error;
    int64_t position = stream_event_original(&read->events[read->events_count])->position;
    walk->last = walk->backward ? position + 1 : position - 1;
    return 0;
}

int read_all(struct reader *reader, bool backward)
{
    struct stream_read *read = reader->read;
    bool may;
    if (read->filter != NULL && read->filter->pattern != NULL && !reader->view->may_block)
        return ENGINE_WOULD_BLOCK; /* matching may take long */
    int error = all_is_granted(reader, &may);
    if (error != 0)
        return error;
    if (!may) {
        read->outcome = STREAM_ACCESS_DENIED;
        return 0;
    }
    int64_t end = read->last_position + 1;
    struct all_walk walk = {
        .reader = reader,
        .backward = backward,
        .from = read->from == STREAM_END ? end : read->from,
        .window = read->filter != NULL
                      ? (read->search_window != 0 ? read->search_window : read->count)
                      : INT64_MAX,
    };
    error = walk_run(&walk);
    bool more = error == SCAN_ENOUGH || error == READER_FULL;
    if (error != 0 && !more)
        return error;
    bool cut;
    error = all_links(&walk, &cut);
    read->end = !more && !cut;
    read->next = walk.from;
    if (walk.last != 0)
        read->next = backward ? walk.last : walk.last + 1;
    return error;
}
