/*
 * tests/unit/stream/test_stream_model.c: random writes, several on their way at once, reopens and
 * scavenges, beside a simple model of what must come of them; then everything is read and compared.
 *
 * KVS_TEST_SEED repeats a run. After a scavenge the model does not know which of the events that
 * nobody can see are still there: so the log may have more than it must, but nothing else, and
 * retries name visible events only.
 */
#include "base/rand.h"
#include "base/slice.h"
#include "test.h"
#include "unit/stream/stream_fixture.h"

#include <stdio.h>

#define STREAMS 6
#define EVENTS_MAX 4000
#define STEPS 250
#define GROUP_MAX 8

struct model_stream {
    char name[16];
    unsigned ids[EVENTS_MAX];
    int64_t last; /* -1 */
    int64_t metadata_last;
    int64_t truncate_before;
    int64_t max_count;
    int64_t gone_below; /* a scavenge may have removed these */
    bool tombstone;
};

/* An event of the log, in its order. */
struct model_event {
    unsigned stream;
    bool is_metadata;
    int64_t number;
};

static struct stream_fixture fixture;
static struct model_stream model[STREAMS];
static struct model_event *events;
static unsigned events_count;
static unsigned next_id;
static struct rand rand_state;

static int setup(void **state)
{
    int error = stream_fixture_init(&fixture, *state);
    memset(model, 0, sizeof model);
    for (unsigned i = 0; i < STREAMS; i++) {
        snprintf(model[i].name, sizeof model[i].name, "c%u-%u", i % 2, i);
        model[i].last = -1;
        model[i].metadata_last = -1;
    }
    events = test_calloc(200000, sizeof *events);
    events_count = 0;
    next_id = 1;
    return error != 0 ? error : stream_fixture_open(&fixture);
}

static int teardown(void **state)
{
    (void)state;
    stream_fixture_deinit(&fixture);
    test_free(events);
    return 0;
}

static uint64_t below(uint64_t bound)
{
    return rand_below(&rand_state, bound);
}

/* --- the model -------------------------------------------------------------------------------- */

static int64_t visible_min(const struct model_stream *stream)
{
    int64_t min = stream->truncate_before;
    if (stream->max_count > 0 && stream->last - stream->max_count + 1 > min)
        min = stream->last - stream->max_count + 1;
    return min;
}

/* From here on all are there for sure. */
static int64_t sure_min(const struct model_stream *stream)
{
    int64_t min = visible_min(stream);
    return min > stream->gone_below ? min : stream->gone_below;
}

static void log_add(unsigned stream, bool is_metadata, int64_t number)
{
    events[events_count++] = (struct model_event){stream, is_metadata, number};
}

static void metadata_add(unsigned i, int64_t truncate_before, int64_t max_count)
{
    log_add(i, true, ++model[i].metadata_last);
    model[i].truncate_before = truncate_before;
    model[i].max_count = max_count;
}

static int64_t find_recent(const struct model_stream *stream, unsigned id)
{
    for (int64_t number = stream->last; number >= 0; number--) {
        if (stream->ids[number] == id)
            return number;
    }
    return -1;
}

/* By the rules of expected versions: the outcome; *ret_first: where the events were found, or -1:
 * they are to be written. */
static enum stream_outcome decide(const struct model_stream *stream, int64_t expected,
                                  unsigned first_id, unsigned count, int64_t *ret_first)
{
    bool soft = stream->truncate_before == INT64_MAX;
    *ret_first = -1;
    if (stream->tombstone || (expected == STREAM_EXISTS && soft))
        return STREAM_DELETED;
    if (expected == STREAM_EXISTS && stream->last == -1 && stream->metadata_last == -1)
        return STREAM_WRONG_EXPECTED_VERSION;
    if (expected < -1) {
        int64_t first = count > 0 ? find_recent(stream, first_id) : -1;
        for (unsigned i = 1; first >= 0 && i < count; i++) {
            if (find_recent(stream, first_id + i) < 0)
                return STREAM_WRONG_EXPECTED_VERSION;
        }
        *ret_first = first;
        return STREAM_OK;
    }
    if (expected > stream->last)
        return STREAM_WRONG_EXPECTED_VERSION;
    if (expected == stream->last)
        return STREAM_OK;
    for (unsigned i = 0; i < count; i++) {
        int64_t number = expected + 1 + i;
        if (number <= stream->last && stream->ids[number] == first_id + i)
            continue;
        return i == 0 && expected == -1 && soft ? STREAM_OK : STREAM_WRONG_EXPECTED_VERSION;
    }
    *ret_first = expected + 1;
    return count > 0 ? STREAM_OK : STREAM_WRONG_EXPECTED_VERSION;
}

static void model_append(unsigned i, unsigned first_id, unsigned count)
{
    struct model_stream *stream = &model[i];
    bool soft = stream->truncate_before == INT64_MAX;
    int64_t first = stream->last + 1;
    for (unsigned k = 0; k < count; k++) {
        stream->ids[++stream->last] = first_id + k;
        log_add(i, false, stream->last);
    }
    if (soft)
        metadata_add(i, first, stream->max_count);
}

/* --- steps ------------------------------------------------------------------------------------ */

struct pending {
    struct stream_write write;
    struct latch *latch;
    struct stream_new_event list[5];
    char data[5][16];
    char metadata_name[24];
    enum stream_outcome outcome; /* what the model says */
    int64_t first, last;
};

static void pending_on_done(struct task *task)
{
    latch_down(CONTAINER_OF(task, struct pending, write.op.task)->latch);
}

static void choose_append(struct pending *pending, unsigned i)
{
    struct model_stream *stream = &model[i];
    unsigned count = (unsigned)below(5);
    unsigned first_id = next_id;
    int64_t expected = STREAM_ANY;
    uint64_t choice = below(10);
    int64_t min = sure_min(stream);
    bool can_retry = min <= stream->last && stream->last >= 0 && !stream->tombstone;
    if (choice < 3 && can_retry) { /* a retry, of some visible events and perhaps new ones */
        int64_t from = min + (int64_t)below((uint64_t)(stream->last - min + 1));
        first_id = stream->ids[from];
        expected = choice == 0 ? from - 1 : choice == 1 ? STREAM_ANY : STREAM_EXISTS;
    } else if (choice < 5) {
        expected = stream->last;
    } else if (choice == 5) {
        expected = stream->last + 1 + (int64_t)below(3);
    } else if (choice == 6) {
        expected = STREAM_EXISTS;
    } else if (choice == 7) {
        expected = STREAM_NO_STREAM;
    }
    for (unsigned k = 0; k < count; k++) {
        snprintf(pending->data[k], sizeof pending->data[k], "%u", first_id + k);
        pending->list[k] = event_of(first_id + k, "T", pending->data[k]);
    }
    next_id += first_id == next_id ? count : 0;
    pending->write.kind = STREAM_WRITE_APPEND;
    pending->write.expected_version = expected;
    pending->write.events = pending->list;
    pending->write.count = count;
    int64_t found;
    pending->outcome = decide(stream, expected, first_id, count, &found);
    pending->first = pending->last = -1;
    if (pending->outcome != STREAM_OK)
        return;
    pending->first = found >= 0 ? found : stream->last + 1;
    /* Of a retry by ids, the last one's newest number. */
    pending->last = pending->first + (int64_t)count - 1;
    if (found >= 0 && expected < -1)
        pending->last = find_recent(stream, first_id + count - 1);
    if (found < 0)
        model_append(i, first_id, count);
}

static void choose_delete(struct pending *pending, unsigned i, bool hard)
{
    struct model_stream *stream = &model[i];
    uint64_t choice = below(6);
    int64_t expected = choice < 2 ? stream->last : choice == 2 ? STREAM_NO_STREAM : STREAM_ANY;
    int64_t found;
    pending->write.kind = hard ? STREAM_WRITE_TOMBSTONE : STREAM_WRITE_DELETE;
    pending->write.expected_version = expected;
    pending->first = pending->last = -1;
    pending->outcome = decide(stream, expected, next_id++, 1, &found);
    if (!hard && pending->outcome == STREAM_OK && stream->last == -1 && stream->metadata_last == -1)
        pending->outcome = STREAM_WRONG_EXPECTED_VERSION;
    if (pending->outcome != STREAM_OK)
        return;
    if (!hard) {
        metadata_add(i, INT64_MAX, 0);
        return;
    }
    stream->tombstone = true;
    log_add(i, false, STREAM_NUMBER_DELETED);
}

static void choose_metadata(struct pending *pending, unsigned i)
{
    static char texts[GROUP_MAX][64];
    static unsigned text;
    struct model_stream *stream = &model[i];
    bool soft = stream->truncate_before == INT64_MAX;
    int64_t truncate = below(2) == 0 ? 1 + (int64_t)below((uint64_t)stream->last + 2) : 0;
    int64_t max_count = below(2) == 0 ? 1 + (int64_t)below(20) : 0;
    char *json = texts[text++ % GROUP_MAX];
    snprintf(json, sizeof texts[0], "{\"$tb\":%lld,\"$maxCount\":%lld}", (long long)truncate,
             (long long)max_count);
    snprintf(pending->metadata_name, sizeof pending->metadata_name, "$$%s", stream->name);
    pending->list[0] = event_of(next_id++, "$metadata", json);
    pending->write.kind = STREAM_WRITE_APPEND;
    pending->write.stream = slice_of_string(pending->metadata_name);
    pending->write.expected_version = STREAM_ANY;
    pending->write.events = pending->list;
    pending->write.count = 1;
    pending->outcome = stream->tombstone ? STREAM_DELETED : STREAM_OK;
    pending->first = pending->last = -1;
    if (stream->tombstone)
        return;
    pending->first = pending->last = stream->metadata_last + 1;
    metadata_add(i, truncate, max_count);
    if (soft)
        metadata_add(i, stream->last + 1, max_count);
}

static void choose(struct pending *pending)
{
    /* Later streams live longer. */
    unsigned i = (unsigned)below(STREAMS);
    pending->write = (struct stream_write){
        .op = {.task.run = pending_on_done, .loop = &fixture.engine.loop},
        .stream = slice_of_string(model[i].name),
    };
    uint64_t choice = below(100);
    if (choice < 80)
        choose_append(pending, i);
    else if (choice < 90)
        choose_metadata(pending, i);
    else
        choose_delete(pending, i, choice == 99 && i < 3);
}

static void step_writes(void)
{
    struct pending pending[GROUP_MAX];
    struct latch latch;
    unsigned count = 1 + (unsigned)below(GROUP_MAX);
    struct task_list list = {0};
    latch_init(&latch, count);
    for (unsigned i = 0; i < count; i++) {
        choose(&pending[i]);
        pending[i].latch = &latch;
        task_list_push(&list, &pending[i].write.op.task);
        if (below(2) == 0)
            streams_write_list(fixture.streams, &list);
    }
    streams_write_list(fixture.streams, &list);
    latch_wait(&latch);
    latch_deinit(&latch);
    for (unsigned i = 0; i < count; i++) {
        const struct stream_write *write = &pending[i].write;
        assert_int_equal(write->op.error, 0);
        assert_int_equal(write->outcome, pending[i].outcome);
        if (write->kind != STREAM_WRITE_APPEND)
            continue;
        assert_int_equal(write->first_number, pending[i].first);
        assert_int_equal(write->last_number, pending[i].last);
    }
}

/* --- comparing -------------------------------------------------------------------------------- */

static void compare_stream(const struct model_stream *stream, uint32_t page)
{
    struct stream_read read;
    int64_t number = visible_min(stream);
    int64_t from = 0;
    bool gone = stream->last == -1 || stream->truncate_before == INT64_MAX;
    do {
        assert_int_equal(read_forward_wait(&fixture, stream->name, from, page, &read), 0);
        if (stream->tombstone || gone) {
            assert_int_equal(read.outcome, stream->tombstone ? STREAM_DELETED : STREAM_NOT_FOUND);
            return;
        }
        assert_int_equal(read.outcome, STREAM_OK);
        assert_int_equal(read.last_number, stream->last);
        for (uint32_t i = 0; i < read.events_count; i++, number++) {
            char data[16];
            while (number < read.events[i].event.number && number < stream->gone_below)
                number++;
            assert_int_equal(read.events[i].event.number, number);
            snprintf(data, sizeof data, "%u", stream->ids[number]);
            assert_int_equal(read.events[i].event.data.size, strlen(data));
            assert_memory_equal(read.events[i].event.data.data, data, strlen(data));
        }
        from = read.next;
        stream_read_release(&read);
    } while (!read.end);
    assert_true(number == stream->last + 1 || sure_min(stream) > stream->last);
    struct stream_read backward = {.kind = STREAM_READ_BACKWARD,
                                   .stream = slice_of_string(stream->name),
                                   .from = STREAM_END,
                                   .count = page};
    number = stream->last;
    do {
        assert_int_equal(read_event_wait(&fixture, &backward), 0);
        for (uint32_t i = 0; i < backward.events_count; i++) {
            assert_true(backward.events[i].event.number == number ||
                        (backward.events[i].event.number < number && number < stream->gone_below));
            number = backward.events[i].event.number - 1;
        }
        backward.from = backward.next;
        stream_read_release(&backward);
    } while (!backward.end);
    assert_true(number < sure_min(stream));
}

static bool must_be_there(const struct model_event *event)
{
    const struct model_stream *stream = &model[event->stream];
    if (stream->tombstone)
        return event->number == STREAM_NUMBER_DELETED;
    if (event->is_metadata)
        return event->number == stream->metadata_last;
    return event->number >= sure_min(stream);
}

static bool is_event(const struct model_event *event, const struct stream_record *record)
{
    char name[24];
    snprintf(name, sizeof name, "%s%s", event->is_metadata ? "$$" : "", model[event->stream].name);
    return slice_equal(record->stream, slice_of_string(name)) && record->number == event->number;
}

static void compare_log(uint32_t page, bool scavenged)
{
    struct stream_read read;
    unsigned at = 0;
    int64_t from = 0;
    do {
        assert_int_equal(read_all_wait(&fixture, from, page, false, &read), 0);
        for (uint32_t i = 0; i < read.events_count; i++, at++) {
            while (at < events_count && !is_event(&events[at], &read.events[i].event)) {
                assert_true(scavenged && !must_be_there(&events[at]));
                at++;
            }
            assert_true(at < events_count);
        }
        from = read.next;
        stream_read_release(&read);
    } while (!read.end);
    for (; at < events_count; at++)
        assert_true(scavenged && !must_be_there(&events[at]));
}

/* Derived streams have a link for each visible event of theirs, and for metadata that deletes, in
 * the log's order. */
static void compare_category(unsigned category, uint32_t page)
{
    char name[16];
    snprintf(name, sizeof name, "$ce-c%u", category);
    struct stream_read read = {.kind = STREAM_READ_FORWARD,
                               .flags = STREAM_READ_RESOLVE_LINKS,
                               .stream = slice_of_string(name),
                               .count = page};
    unsigned at = 0;
    do {
        assert_int_equal(read_event_wait(&fixture, &read), 0);
        for (uint32_t i = 0; i < read.events_count; i++) {
            if (!read.events[i].has_event)
                continue;
            const struct stream_record *record = &read.events[i].event;
            while (at < events_count && !is_event(&events[at], record))
                at++;
            assert_true(at++ < events_count);
        }
        read.from = read.next;
        stream_read_release(&read);
    } while (!read.end);
}

static void scavenge_on_done(struct task *task)
{
    struct waited {
        struct stream_scavenge scavenge;
        struct latch *latch;
    };
    latch_down(CONTAINER_OF(task, struct waited, scavenge.op.task)->latch);
}

static void step_scavenge(void)
{
    struct latch latch;
    struct waited {
        struct stream_scavenge scavenge;
        struct latch *latch;
    } waited = {.scavenge.op = {.task.run = scavenge_on_done, .loop = &fixture.engine.loop},
                .latch = &latch};
    latch_init(&latch, 1);
    streams_scavenge(fixture.streams, &waited.scavenge);
    latch_wait(&latch);
    latch_deinit(&latch);
    assert_int_equal(waited.scavenge.op.error, 0);
    for (unsigned i = 0; i < STREAMS; i++) {
        int64_t min =
            visible_min(&model[i]) < INT64_MAX ? visible_min(&model[i]) : model[i].last + 1;
        if (min > model[i].gone_below)
            model[i].gone_below = min;
    }
}

static void test_model(void **state)
{
    (void)state;
    rand_state = rand_seed(test_seed());
    bool scavenged = false;
    for (unsigned step = 0; step < STEPS; step++) {
        step_writes();
        uint64_t choice = below(40);
        if (choice == 0)
            assert_int_equal(stream_fixture_reopen(&fixture), 0);
        if (choice == 1)
            step_scavenge();
        scavenged |= choice == 1;
        if (choice > 2)
            continue;
        uint32_t page = 1 + (uint32_t)below(60);
        for (unsigned i = 0; i < STREAMS; i++)
            compare_stream(&model[i], page);
        compare_log(page, scavenged);
        compare_category(0, page);
        compare_category(1, page);
    }
}

#define TEST(function) cmocka_unit_test_setup_teardown(function, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {TEST(test_model)};
    return stream_tests_run("stream-model", tests, sizeof tests / sizeof tests[0]);
}
