/*
 * stream/read_stream.c: reading one stream: an event, forward, backward.
 *
 *   1. the stream's record and last number say what may be seen;
 *   2. the index gives the positions of the numbers that were asked for;
 *   3. the blocks with these positions are looked at, one after the other; what is not there any
 *      more, or too old, is left out;
 *   4. links are resolved.
 * Numbers that are left out count: a page may be short or empty, and `next` goes on behind it.
 */
#include "stream/reader.h"

#include "base/mem.h"

#define SCAN_ENOUGH 3 /* never leaves this file */

/* --- positions -------------------------------------------------------------------------------- */

struct element {
    int64_t number;
    int64_t position;
};

/* Those of the numbers from `from` to `to`, ascending, `room` at most. */
struct elements {
    struct element *list;
    uint32_t count;
    uint32_t room;
    int64_t from;
    int64_t to;
};

static int elements_of_run(struct elements *elements, const struct run *run)
{
    if (run->first_number > elements->to)
        return SCAN_ENOUGH;
    struct run_walk walk;
    run_walk_begin(&walk, run);
    if (!run->listed && elements->from > run->first_number) { /* the begin can be jumped over */
        uint64_t skip = (uint64_t)(elements->from - run->first_number);
        walk.at = skip < run->count ? (uint32_t)skip : run->count;
        walk.position += walk.at;
    }
    while (walk.at < run->count) {
        int64_t number = run->first_number + (int64_t)walk.at;
        if (number > elements->to || elements->count == elements->room)
            return SCAN_ENOUGH;
        if (number >= elements->from)
            elements->list[elements->count++] =
                (struct element){.number = number, .position = walk.position};
        if (!run_walk_next(&walk))
            return KVS_ERR_CORRUPTION;
    }
    return 0;
}

static int elements_each(void *arg, kvs_slice key, kvs_slice value)
{
    struct run run;
    int error = run_parse(key, value, &run);
    return error != 0 ? error : elements_of_run(arg, &run);
}

/* Fills elements->list, which the caller frees. */
static int elements_find(struct reader *reader, uint64_t stream_id, struct elements *elements)
{
    elements->list = mem_alloc(elements->room * sizeof *elements->list);
    if (elements->list == NULL)
        return KVS_ERR_NO_MEMORY;
    struct run first = {.first_number = elements->from};
    int error = lookup_run(reader->view, stream_id, elements->from, NULL, &first);
    if (error != 0 && error != KVS_ERR_NOT_FOUND)
        return error;
    struct index_key start =
        index_key_make(stream_id, error == 0 ? first.first_number : elements->from);
    struct index_key end = index_key_make(stream_id + 1, 0);
    struct engine_range range = {.family = STREAM_FAMILY_INDEX,
                                 .start = slice_make(start.bytes, INDEX_KEY_SIZE),
                                 .end = slice_make(end.bytes, INDEX_KEY_SIZE)};
    error = engine_scan(reader->view, &range, elements_each, elements);
    return error == SCAN_ENOUGH ? 0 : error;
}

/* --- events ----------------------------------------------------------------------------------- */

/* The elements become events, in their order or from the last to the first. */
struct fetch {
    struct reader *reader;
    const struct visible *visible;
    const struct elements *elements;
    bool backward;
    uint32_t done; /* of the elements */
    int64_t created_min;
    bool expired;    /* one of them was too old */
    bool only_looks; /* no event is taken */
};

static const struct element *fetch_next(const struct fetch *fetch)
{
    uint32_t i = fetch->backward ? fetch->elements->count - 1 - fetch->done : fetch->done;
    return &fetch->elements->list[i];
}

static int fetch_event(struct fetch *fetch, const struct block *block, uint32_t i,
                       const struct element *element)
{
    struct reader *reader = fetch->reader;
    struct stream_record record;
    uint64_t stream_id;
    int error = block_event(block, i, &record, &stream_id);
    if (error != 0)
        return error;
    if (record.created_100ns < fetch->created_min) {
        fetch->expired = true;
        return 0;
    }
    if (fetch->only_looks)
        return 0;
    bool derived = fetch->visible->settings.derived;
    if (!derived && (record.number != element->number || stream_id != fetch->visible->settings.id))
        return KVS_ERR_CORRUPTION;
    struct stream_event *event;
    error = reader_event(reader, record_bytes(&record), &event);
    if (error != 0)
        return error;
    error = reader_copy(reader, &record, &event->event);
    event->has_event = true;
    if (error == 0 && derived)
        error = link_make(reader, event, reader->read->stream, fetch->visible->settings.id,
                          element->number);
    return error;
}

/* Where the event at `position` is: mostly beside the one before it. */
static uint32_t fetch_seek(const struct fetch *fetch, const struct block *block, uint32_t before,
                           int64_t position)
{
    uint32_t beside = fetch->backward ? before - 1 : before + 1;
    if (beside < block->count && block_position(block, beside) == position) {
        block_prefetch(block,
                       fetch->backward ? beside - BLOCK_EVENTS_AHEAD : beside + BLOCK_EVENTS_AHEAD);
        return beside;
    }
    return block_seek(block, position);
}

/* All elements that this block could have. */
static int fetch_each(void *arg, kvs_slice key, kvs_slice value)
{
    struct fetch *fetch = arg;
    struct block block;
    int error = block_parse(key, value, &block);
    if (error != 0)
        return error;
    int64_t last = block_last_position(&block);
    uint32_t done_before = fetch->done;
    uint32_t i = block.count; /* of the event before */
    while (fetch->done < fetch->elements->count) {
        const struct element *element = fetch_next(fetch);
        if (element->position < block.position ||
            (element->position > last && fetch->done > done_before))
            break;
        i = fetch_seek(fetch, &block, i, element->position);
        bool found = i < block.count && block_position(&block, i) == element->position;
        error = found ? fetch_event(fetch, &block, i, element) : 0;
        if (error != 0)
            return error;
        fetch->done++;
    }
    return SCAN_ENOUGH;
}

static int fetch_run(struct fetch *fetch)
{
    int error = 0;
    while (error == 0 && fetch->done < fetch->elements->count) {
        struct log_key end = log_key_make(fetch_next(fetch)->position + 1);
        uint32_t done_before = fetch->done;
        struct engine_range range = {.family = STREAM_FAMILY_LOG,
                                     .reverse = true,
                                     .end = slice_make(end.bytes, LOG_KEY_SIZE)};
        error = engine_scan(fetch->reader->view, &range, fetch_each, fetch);
        if (error == SCAN_ENOUGH)
            error = 0;
        if (error == 0 && fetch->done == done_before)
            fetch->done++; /* no block at all: it is gone */
    }
    return error;
}

/* What came of fetch_numbers. */
struct fetched {
    int64_t cut;  /* number of the first one that had no room in the page; -1 */
    int64_t last; /* the highest number that the index has of those asked for; -1 */
    bool expired; /* one of them was too old */
};

/* The events of the numbers from..to, and their links. */
static int fetch_numbers(struct reader *reader, const struct visible *visible, int64_t from,
                         int64_t to, uint32_t room, bool backward, struct fetched *fetched)
{
    bool hidden = (reader->read->flags & STREAM_READ_HIDDEN) != 0;
    struct elements elements = {.from = from, .to = to, .room = room};
    struct fetch fetch = {.reader = reader,
                          .visible = visible,
                          .elements = &elements,
                          .backward = backward,
                          .created_min = hidden ? INT64_MIN : visible->created_min};
    *fetched = (struct fetched){.cut = -1, .last = -1};
    int error = elements_find(reader, visible->settings.id, &elements);
    if (error == 0 && elements.count > 0)
        fetched->last = elements.list[elements.count - 1].number;
    if (error == 0)
        error = fetch_run(&fetch);
    fetched->expired = fetch.expired;
    if (error == READER_FULL) {
        fetched->cut = fetch_next(&fetch)->number;
        error = 0;
    }
    mem_free(elements.list);
    if (error != 0)
        return error;
    error = links_resolve(reader);
    if (error != READER_FULL)
        return error;
    fetched->cut = stream_event_original(&reader->read->events[reader->read->events_count])->number;
    return 0;
}

/* Is there an event of that number, and is it too old? */
static int is_expired(struct reader *reader, const struct visible *visible, int64_t number,
                      bool *ret_expired)
{
    struct elements elements = {.from = number, .to = number, .room = 1};
    struct fetch fetch = {.reader = reader,
                          .visible = visible,
                          .elements = &elements,
                          .created_min = visible->created_min,
                          .only_looks = true};
    int error = elements_find(reader, visible->settings.id, &elements);
    if (error == 0)
        error = fetch_run(&fetch);
    mem_free(elements.list);
    *ret_expired = fetch.expired;
    return error;
}

/* A page of nothing but what is too old: the next one begins behind all of that. What is gone says
 * nothing of those before it. */
static int skip_expired(struct reader *reader, const struct visible *visible)
{
    int64_t from = reader->read->next;
    int64_t to = visible->last;
    while (from <= to) {
        int64_t middle = from + (to - from) / 2;
        bool expired;
        int error = is_expired(reader, visible, middle, &expired);
        if (error != 0)
            return error;
        if (expired)
            from = middle + 1;
        else
            to = middle - 1;
    }
    reader->read->next = from;
    reader->read->end = from > visible->last;
    return 0;
}

/* --- the reads -------------------------------------------------------------------------------- */

/* Looks the stream up; true: the read goes on. */
static bool read_begin(struct reader *reader, struct visible *visible, int *ret_error)
{
    struct stream_read *read = reader->read;
    *ret_error = visible_find(reader, read->stream, visible);
    if (*ret_error != 0)
        return false;
    read->outcome = visible->state;
    if (visible->state != STREAM_ACCESS_DENIED)
        read->last_number = visible->last;
    read->cache_control = visible->settings.cache_control_s;
    return visible->state == STREAM_OK;
}

/* The last event of a metastream that has none, of a stream that is there: its metadata is
 * empty. */
static int empty_metadata(struct reader *reader)
{
    struct stream_read *read = reader->read;
    struct stream_settings settings;
    int64_t last;
    if (read->from != STREAM_END || !name_is_metastream(read->stream))
        return 0;
    int error = lookup_stream(reader->view, name_of_metastream(read->stream), &settings, &last);
    if (error == 0 && last >= 0)
        read->outcome = STREAM_OK;
    return error;
}

int read_event(struct reader *reader)
{
    struct stream_read *read = reader->read;
    struct visible visible;
    int error;
    if (!read_begin(reader, &visible, &error)) {
        if (error == 0 && read->outcome == STREAM_NOT_FOUND)
            error = empty_metadata(reader);
        return error;
    }
    int64_t number = read->from == STREAM_END ? visible.last : read->from;
    struct fetched fetched;
    if (number >= visible.min && number <= visible.last)
        error = fetch_numbers(reader, &visible, number, number, 1, false, &fetched);
    if (error == 0 && read->events_count == 0)
        read->outcome = STREAM_EVENT_NOT_FOUND;
    return error;
}

/* What a subscription reads: every event that is there, whatever hides it, a tombstone last. */
static int read_hidden(struct reader *reader, struct visible *visible)
{
    struct stream_read *read = reader->read;
    struct fetched fetched;
    read->outcome = STREAM_OK;
    read->next = read->from;
    if (visible->last < read->from)
        return 0;
    int error = fetch_numbers(reader, visible, read->from, STREAM_NUMBER_DELETED, read->count,
                              false, &fetched);
    if (error != 0)
        return error;
    if (fetched.cut >= 0) {
        read->next = fetched.cut;
        read->end = false;
        return 0;
    }
    int64_t last = fetched.last >= 0 ? fetched.last : visible->last;
    read->next = last == STREAM_NUMBER_DELETED ? last : last + 1;
    read->end = last >= visible->last;
    return 0;
}

int read_stream_forward(struct reader *reader)
{
    struct stream_read *read = reader->read;
    struct visible visible;
    int error;
    bool there = read_begin(reader, &visible, &error);
    if (error == 0 && (read->flags & STREAM_READ_HIDDEN) != 0 &&
        visible.state != STREAM_ACCESS_DENIED)
        return read_hidden(reader, &visible);
    if (!there)
        return error;
    int64_t to = read->from > INT64_MAX - read->count ? INT64_MAX - 1
                                                      : read->from + (int64_t)read->count - 1;
    if (read->from > visible.last) {
        read->next = visible.last + 1;
        return 0;
    }
    if (to < visible.min) {
        read->next = visible.min;
        read->end = false;
        return 0;
    }
    struct fetched fetched;
    int64_t from = read->from > visible.min ? read->from : visible.min;
    read->end = to >= visible.last;
    if (to > visible.last)
        to = visible.last;
    error = fetch_numbers(reader, &visible, from, to, read->count, false, &fetched);
    read->next = to + 1;
    if (error == 0 && fetched.cut >= 0) {
        read->next = fetched.cut;
        read->end = false;
    }
    if (error == 0 && fetched.expired && read->events_count == 0)
        error = skip_expired(reader, &visible);
    return error;
}

int read_stream_backward(struct reader *reader)
{
    struct stream_read *read = reader->read;
    struct visible visible;
    int error;
    if (!read_begin(reader, &visible, &error))
        return error;
    int64_t from = read->from == STREAM_END ? visible.last : read->from;
    int64_t to = from - (int64_t)read->count + 1; /* the lowest */
    if (from < visible.min || visible.last < visible.min)
        return 0;
    if (to > visible.last) {
        read->next = visible.last;
        read->end = false;
        return 0;
    }
    if (from > visible.last)
        from = visible.last;
    if (to < visible.min)
        to = visible.min;
    struct fetched fetched;
    error = fetch_numbers(reader, &visible, to, from, read->count, true, &fetched);
    read->end = to == visible.min || fetched.expired; /* those below are older still */
    read->next = read->end ? -1 : to - 1;
    if (error == 0 && fetched.cut >= 0) {
        read->next = fetched.cut;
        read->end = false;
    }
    return error;
}
