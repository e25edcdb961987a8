/* tests/unit/stream/test_stream_read.c: reading events, streams, the log; limits, links,
 * filters. */
#include "base/slice.h"
#include "unit/stream/stream_test.h"

#include <stdio.h>

static void read_wait(struct stream_read *read)
{
    assert_int_equal(read_event_wait(&fixture, read), 0);
}

/* Reads and writes down "outcome next end last: number number ...", for short expectations. */
static const char *described(enum stream_read_kind kind, const char *stream, int64_t from,
                             uint32_t count)
{
    static const char *const outcomes[] = {"ok",      "wrong",  "deleted",     "none",
                                           "missing", "denied", "transaction", "bad"};
    static char text[1000];
    struct stream_read read = {
        .kind = kind, .stream = slice_of_string(stream), .from = from, .count = count};
    read_wait(&read);
    size_t size = (size_t)snprintf(text, sizeof text, "%s %lld %s %lld:", outcomes[read.outcome],
                                   (long long)read.next, read.end ? "end" : "more",
                                   (long long)read.last_number);
    for (uint32_t i = 0; i < read.events_count; i++)
        size += (size_t)snprintf(text + size, sizeof text - size, " %lld",
                                 (long long)read.events[i].event.number);
    stream_read_release(&read);
    return text;
}

#define forward(stream, from, count) described(STREAM_READ_FORWARD, stream, from, count)
#define backward(stream, from, count) described(STREAM_READ_BACKWARD, stream, from, count)

static void test_event(void **state)
{
    append("a", 1, 3);
    struct stream_new_event event = event_of(77, "Other", "{\"x\":1}");
    event.metadata = S("meta");
    struct stream_write write = {
        .stream = S("a"), .expected_version = 2, .events = &event, .count = 1};
    assert_int_equal(write_event_wait(&fixture, &write), 0);
    struct stream_read read = {.stream = S("a"), .from = STREAM_END};
    read_wait(&read);
    assert_int_equal(read.outcome, STREAM_OK);
    assert_int_equal(read.events_count, 1);
    const struct stream_record *record = &read.events[0].event;
    assert_true(read.events[0].has_event && !read.events[0].has_link);
    assert_slice_equal(record->stream, "a");
    assert_slice_equal(record->type, "Other");
    assert_slice_equal(record->data, "{\"x\":1}");
    assert_slice_equal(record->metadata, "meta");
    assert_true(record->is_json);
    assert_int_equal(record->number, 3);
    assert_int_equal(record->position, write.position);
    assert_int_equal(record->created_100ns, (int64_t)atomic_load(&fixture_wall_ms) * 10000);
    assert_memory_equal(record->id, event.id, 16);
    stream_read_release(&read);
    read = (struct stream_read){.stream = S("a"), .from = 1};
    read_wait(&read);
    assert_slice_equal(read.events[0].event.data, "d2");
    assert_false(read.events[0].event.is_json);
    stream_read_release(&read);
    read = (struct stream_read){.stream = S("a"), .from = 4};
    read_wait(&read);
    assert_int_equal(read.outcome, STREAM_EVENT_NOT_FOUND);
    read = (struct stream_read){.stream = S("nobody"), .from = 0};
    read_wait(&read);
    assert_int_equal(read.outcome, STREAM_NOT_FOUND);
    read = (struct stream_read){.stream = S("a"), .from = -2};
    read_wait(&read);
    assert_int_equal(read.outcome, STREAM_BAD_REQUEST);
    /* No metadata yet, but a stream. */
    read = (struct stream_read){.stream = S("$$a"), .from = STREAM_END};
    read_wait(&read);
    assert_int_equal(read.outcome, STREAM_OK);
    assert_int_equal(read.events_count, 0);
    read = (struct stream_read){.stream = S("$$nobody"), .from = STREAM_END};
    read_wait(&read);
    assert_int_equal(read.outcome, STREAM_NOT_FOUND);
}

static void test_forward(void **state)
{
    append("a", 0, 10);
    assert_string_equal(forward("a", 0, 4), "ok 4 more 9: 0 1 2 3");
    assert_string_equal(forward("a", 4, 4), "ok 8 more 9: 4 5 6 7");
    assert_string_equal(forward("a", 8, 4), "ok 10 end 9: 8 9");
    assert_string_equal(forward("a", 0, 10), "ok 10 end 9: 0 1 2 3 4 5 6 7 8 9");
    assert_string_equal(forward("a", 10, 4), "ok 10 end 9:");
    assert_string_equal(forward("a", 50, 4), "ok 10 end 9:");
    assert_string_equal(forward("nobody", 0, 4), "none -1 end -1:");
    assert_string_equal(forward("a", -1, 4), "bad -1 end -1:");
    assert_string_equal(forward("a", 0, 0), "bad -1 end -1:");
    assert_string_equal(forward("a", 0, 4097), "bad -1 end -1:");
    assert_string_equal(forward("a", INT64_MAX, 4096), "ok 10 end 9:");
}

static void test_backward(void **state)
{
    append("a", 0, 10);
    assert_string_equal(backward("a", -1, 4), "ok 5 more 9: 9 8 7 6");
    assert_string_equal(backward("a", 5, 4), "ok 1 more 9: 5 4 3 2");
    assert_string_equal(backward("a", 1, 4), "ok -1 end 9: 1 0");
    assert_string_equal(backward("a", 3, 4), "ok -1 end 9: 3 2 1 0");
    assert_string_equal(backward("a", 11, 4), "ok 7 more 9: 9 8");
    assert_string_equal(backward("a", 20, 4), "ok 9 more 9:");
    assert_string_equal(backward("nobody", -1, 4), "none -1 end -1:");
}

static void test_interleaved(void **state)
{
    for (unsigned i = 0; i < 40; i++) {
        append("a", 10 * i, 1 + i % 3);
        append("b", 10 * i + 5, 1);
    }
    struct stream_read read;
    for (int64_t from = 0; from < 80; from += 7) {
        assert_int_equal(read_forward_wait(&fixture, "a", from, 9, &read), 0);
        for (uint32_t i = 0; i < read.events_count; i++)
            assert_int_equal(read.events[i].event.number, from + i);
        stream_read_release(&read);
    }
}

static void test_max_count(void **state)
{
    append("a", 0, 10);
    assert_int_equal(metadata_wait(&fixture, "a", "{\"$maxCount\":3}"), STREAM_OK);
    assert_string_equal(forward("a", 0, 4), "ok 7 more 9:");
    assert_string_equal(forward("a", 7, 4), "ok 10 end 9: 7 8 9");
}

static void test_truncate_before(void **state)
{
    append("a", 0, 10);
    assert_int_equal(metadata_wait(&fixture, "a", "{\"$tb\":6}"), STREAM_OK);
    assert_string_equal(forward("a", 0, 4), "ok 6 more 9:");
    assert_string_equal(forward("a", 4, 4), "ok 8 more 9: 6 7");
    assert_string_equal(forward("a", 8, 4), "ok 10 end 9: 8 9");
    assert_string_equal(backward("a", 7, 4), "ok -1 end 9: 7 6");
    assert_string_equal(backward("a", 5, 4), "ok -1 end 9:");
    assert_string_equal(backward("a", 15, 4), "ok 9 more 9:");
    struct stream_read read = {.stream = S("a"), .from = 5};
    read_wait(&read);
    assert_int_equal(read.outcome, STREAM_EVENT_NOT_FOUND);
    /* Nothing is left. */
    assert_int_equal(metadata_wait(&fixture, "a", "{\"$tb\":12}"), STREAM_OK);
    assert_string_equal(backward("a", 14, 4), "ok -1 end 9:");
    assert_string_equal(backward("a", -1, 4), "ok -1 end 9:");
    /* Bad values say nothing. */
    assert_int_equal(metadata_wait(&fixture, "a", "{\"$tb\":\"x\",\"$maxCount\":-1}"), STREAM_OK);
    assert_string_equal(forward("a", 0, 2), "ok 2 more 9: 0 1");
    assert_int_equal(metadata_wait(&fixture, "a", "no json"), STREAM_OK);
    assert_string_equal(forward("a", 0, 2), "ok 2 more 9: 0 1");
}

static void test_max_age(void **state)
{
    append("a", 0, 5);
    atomic_fetch_add(&fixture_wall_ms, 10000);
    append("a", 5, 5);
    assert_int_equal(metadata_wait(&fixture, "a", "{\"$maxAge\":8}"), STREAM_OK);
    assert_string_equal(forward("a", 0, 7), "ok 7 more 9: 5 6");
    /* Not page by page: where the first is that is not too old. */
    assert_string_equal(forward("a", 0, 3), "ok 5 more 9:");
    assert_string_equal(forward("a", 4, 1), "ok 5 more 9:");
    assert_string_equal(forward("a", 3, 3), "ok 6 more 9: 5");
    assert_string_equal(backward("a", -1, 20), "ok -1 end 9: 9 8 7 6 5");
    /* Below one that is too old nothing is left. */
    assert_string_equal(backward("a", -1, 5), "ok 4 more 9: 9 8 7 6 5");
    assert_string_equal(backward("a", 6, 3), "ok -1 end 9: 6 5");
    assert_string_equal(backward("a", 4, 2), "ok -1 end 9:");
    struct stream_read read = {.stream = S("a"), .from = 4};
    read_wait(&read);
    assert_int_equal(read.outcome, STREAM_EVENT_NOT_FOUND);
    atomic_fetch_add(&fixture_wall_ms, 10000);
    assert_string_equal(forward("a", 5, 5), "ok 10 end 9:");
    assert_string_equal(forward("a", 0, 3), "ok 10 end 9:");
}

static void test_metastream_keeps_one(void **state)
{
    append("a", 0, 1);
    for (unsigned i = 0; i < 3; i++)
        assert_int_equal(metadata_wait(&fixture, "a", "{\"$cacheControl\":7}"), STREAM_OK);
    assert_string_equal(backward("$$a", -1, 5), "ok -1 end 2: 2");
    struct stream_read read;
    assert_int_equal(read_forward_wait(&fixture, "a", 0, 1, &read), 0);
    assert_int_equal(read.cache_control, 7);
    stream_read_release(&read);
}

/* --- the log ---------------------------------------------------------------------------------- */

static void test_all(void **state)
{
    struct stream_read read;
    assert_int_equal(read_all_wait(&fixture, 0, 10, false, &read), 0);
    assert_true(read.end && read.events_count == 0 && read.next == 0);
    for (unsigned i = 0; i < 30; i++)
        append(i % 2 != 0 ? "a" : "b", i, 1);
    int64_t next = 0;
    int64_t positions[30];
    unsigned count = 0;
    do {
        assert_int_equal(read_all_wait(&fixture, next, 7, false, &read), 0);
        for (uint32_t i = 0; i < read.events_count; i++, count++) {
            positions[count] = read.events[i].event.position;
            assert_true(positions[count] >= next && positions[count] > 0);
            assert_true(count == 0 || positions[count] > positions[count - 1]);
        }
        next = read.next;
        stream_read_release(&read);
    } while (read.events_count > 0 || !read.end);
    assert_int_equal(count, 30);
    assert_true(next >= streams_last_position(fixture.streams));
    next = STREAM_END;
    do {
        assert_int_equal(read_all_wait(&fixture, next, 7, true, &read), 0);
        for (uint32_t i = 0; i < read.events_count; i++)
            assert_int_equal(read.events[i].event.position, positions[--count]);
        next = read.next;
        stream_read_release(&read);
    } while (!read.end);
    assert_int_equal(count, 0);
    assert_int_equal(read_all_wait(&fixture, positions[3], 1, false, &read), 0);
    assert_int_equal(read.events[0].event.position, positions[3]);
    stream_read_release(&read);
    assert_int_equal(read_all_wait(&fixture, positions[3], 1, true, &read), 0);
    assert_int_equal(read.events[0].event.position, positions[2]);
    stream_read_release(&read);
    assert_int_equal(read_all_wait(&fixture, positions[29] + 1, 5, false, &read), 0);
    assert_true(read.events_count == 0 && read.end && read.next == positions[29] + 1);
    assert_int_equal(read_all_wait(&fixture, positions[29] + 100, 5, false, &read), 0);
    assert_true(read.events_count == 0 && read.end && read.next == positions[29] + 100);
}

static void test_page_by_size(void **state)
{
    append("a", 0, 20);
    struct stream_read read = {
        .kind = STREAM_READ_FORWARD, .stream = S("a"), .count = 20, .size_max = 170};
    read_wait(&read);
    assert_int_equal(read.events_count, 3);
    assert_int_equal(read.next, 3);
    assert_false(read.end);
    stream_read_release(&read);
    read.size_max = 1;
    read_wait(&read);
    assert_int_equal(read.events_count, 1);
    stream_read_release(&read);
    read.kind = STREAM_READ_BACKWARD;
    read.from = STREAM_END;
    read.size_max = 170;
    read_wait(&read);
    assert_int_equal(read.events_count, 3);
    assert_int_equal(read.next, 16);
    assert_false(read.end);
    stream_read_release(&read);
    read.kind = STREAM_READ_ALL_FORWARD;
    read.from = 0;
    read_wait(&read);
    assert_int_equal(read.events_count, 3);
    assert_int_equal(read.next, read.events[2].event.position + 1);
    assert_false(read.end);
    stream_read_release(&read);
}

static unsigned count_filtered(enum stream_filter_subject subject, bool is_regex,
                               const char *pattern, uint32_t window, bool backward)
{
    struct stream_filter *filter;
    kvs_slice text = slice_of_string(pattern);
    assert_int_equal(stream_filter_new(subject, is_regex, &text, 1, &filter), 0);
    unsigned count = 0;
    struct stream_read read = {
        .kind = backward ? STREAM_READ_ALL_BACKWARD : STREAM_READ_ALL_FORWARD,
        .from = backward ? STREAM_END : 0,
        .count = 5,
        .search_window = window,
        .filter = filter,
    };
    do {
        read_wait(&read);
        assert_true(read.considered <= (window != 0 ? window : 5));
        count += read.events_count;
        read.from = read.next;
        stream_read_release(&read);
    } while (!read.end);
    stream_filter_free(filter);
    return count;
}

static void test_filters(void **state)
{
    for (unsigned i = 0; i < 20; i++) {
        append("order-1", 10 * i, 1);
        append("payment-1", 10 * i + 1, 1);
        append("$system", 10 * i + 2, 1);
    }
    assert_int_equal(metadata_wait(&fixture, "order-1", "{}"), STREAM_OK);
    for (unsigned backward = 0; backward < 2; backward++) {
        assert_int_equal(count_filtered(STREAM_FILTER_STREAM, false, "order-", 0, backward), 20);
        assert_int_equal(count_filtered(STREAM_FILTER_STREAM, false, "$", 50, backward), 21);
        assert_int_equal(count_filtered(STREAM_FILTER_STREAM, true, "^[^$]", 13, backward), 40);
        assert_int_equal(count_filtered(STREAM_FILTER_STREAM, true, "ment", 7, backward), 20);
        assert_int_equal(count_filtered(STREAM_FILTER_TYPE, false, "$meta", 0, backward), 1);
        assert_int_equal(count_filtered(STREAM_FILTER_TYPE, true, "^T$", 0, backward), 60);
        assert_int_equal(count_filtered(STREAM_FILTER_TYPE, true, "nothing", 0, backward), 0);
    }
    struct stream_filter *filter;
    kvs_slice two[2] = {S("a"), S("b")};
    assert_int_equal(stream_filter_new(STREAM_FILTER_TYPE, true, two, 2, &filter),
                     KVS_ERR_INVALID_ARGUMENT);
    kvs_slice bad = S("(");
    assert_int_equal(stream_filter_new(STREAM_FILTER_TYPE, true, &bad, 1, &filter),
                     KVS_ERR_INVALID_ARGUMENT);
}

static struct stream_filter *filter_of(bool is_regex, const kvs_slice *patterns, uint32_t count)
{
    struct stream_filter *filter;
    assert_int_equal(stream_filter_new(STREAM_FILTER_STREAM, is_regex, patterns, count, &filter),
                     0);
    return filter;
}

/* A pattern that is much work ends its pages early, and reads come through all the same. */
static void test_filter_of_much_work(void **state)
{
    char name[3001];
    memset(name, 'a', 3000);
    name[3000] = '\0';
    for (unsigned i = 0; i < 40; i++) {
        name[0] = (char)('a' + i % 20);
        append(name, i, 1);
    }
    append("ends-with-x", 40, 1);
    kvs_slice pattern = S("(.*){50}x");
    struct stream_filter *filter = filter_of(true, &pattern, 1);
    struct stream_read read = {.kind = STREAM_READ_ALL_FORWARD,
                               .count = 100,
                               .search_window = UINT32_MAX,
                               .filter = filter};
    unsigned found = 0, pages = 0, considered = 0;
    do {
        read_wait(&read);
        assert_true(read.considered > 0);
        /* One event behind the bound, at most; of these it takes less than 2,000,000. */
        assert_true(read.work < STREAM_READ_WORK_MAX + 2000000);
        found += read.events_count;
        considered += (unsigned)read.considered;
        pages++;
        read.from = read.next;
        stream_read_release(&read);
    } while (!read.end);
    assert_int_equal(found, 1);
    assert_int_equal(considered, 41);
    assert_in_range(pages, 5, 41);
    stream_filter_free(filter);
}

/* Many prefixes are work as well: not for a loop. */
static void test_filter_of_many_prefixes(void **state)
{
    kvs_slice prefixes[1000];
    for (unsigned i = 0; i < 1000; i++)
        prefixes[i] = S("x");
    append("a", 0, 50);
    append("a", 50, 50);
    struct stream_filter *filter = filter_of(false, prefixes, 1000);
    struct stream_read read = {.kind = STREAM_READ_ALL_FORWARD, .count = 100, .filter = filter};
    assert_false(streams_read_answer(fixture.streams, &read));
    read_wait(&read);
    assert_int_equal(read.considered, 100);
    assert_true(read.work >= 100 * 1000);
    stream_read_release(&read);
    stream_filter_free(filter);
}

/* --- links ------------------------------------------------------------------------------------ */

static void append_link(const char *stream, unsigned id, const char *data)
{
    struct stream_new_event event = event_of(id, "$>", data);
    struct stream_write write = {.stream = slice_of_string(stream),
                                 .expected_version = STREAM_ANY,
                                 .events = &event,
                                 .count = 1};
    assert_int_equal(write_event_wait(&fixture, &write), 0);
}

static void assert_link(const struct stream_event *event, const char *data, const char *type)
{
    assert_true(event->has_link);
    assert_true(slice_equal(event->link.data, slice_of_string(data)));
    assert_int_equal(event->has_event, type != NULL);
    if (type != NULL)
        assert_true(slice_equal(event->event.type, slice_of_string(type)));
}

static void read_resolved(const char *stream, struct stream_read *ret_read)
{
    *ret_read = (struct stream_read){.kind = STREAM_READ_FORWARD,
                                     .stream = slice_of_string(stream),
                                     .count = 10,
                                     .flags = STREAM_READ_RESOLVE_LINKS};
    read_wait(ret_read);
}

static void test_links(void **state)
{
    static const char *const unresolvable[] = {
        "0@gone", "9@a", "x@a", "0", "@a", "0@", "0@nobody", "99999999999999999999@a", ""};
    append("a", 1, 3);
    append("gone", 4, 1);
    assert_int_equal(delete_wait(&fixture, "gone", STREAM_ANY, true, NULL), STREAM_OK);
    append_link("links", 10, "1@a");
    for (unsigned i = 0; i < sizeof unresolvable / sizeof unresolvable[0]; i++)
        append_link("links", 20 + i, unresolvable[i]);
    struct stream_read read;
    assert_int_equal(read_forward_wait(&fixture, "links", 0, 100, &read), 0);
    assert_slice_equal(read.events[0].event.data, "1@a");
    assert_false(read.events[0].has_link);
    stream_read_release(&read);
    read.flags = STREAM_READ_RESOLVE_LINKS;
    read_wait(&read);
    assert_true(read.events[0].has_link && read.events[0].has_event);
    assert_slice_equal(read.events[0].link.data, "1@a");
    assert_slice_equal(read.events[0].link.stream, "links");
    assert_slice_equal(read.events[0].event.data, "d2");
    assert_slice_equal(read.events[0].event.stream, "a");
    for (uint32_t i = 1; i < read.events_count; i++)
        assert_true(read.events[i].has_link && !read.events[i].has_event);
    stream_read_release(&read);
    assert_int_equal(metadata_wait(&fixture, "a", "{\"$tb\":2}"), STREAM_OK);
    read_wait(&read);
    assert_true(read.events[0].has_link && !read.events[0].has_event);
    stream_read_release(&read);
}

/* An element of a derived stream is an event like others: a link to it leads to it, which is a link
 * itself, and no further. */
static void test_links_to_derived_streams(void **state)
{
    (void)state;
    append("order-1", 1, 3);
    append_link("order-2", 10, "2@order-1");
    static const char *const links[] = {"1@$ce-order", "3@$ce-order", "0@$streams",
                                        "2@$et-T",     "4@$ce-order", "0@$ce-none"};
    static const char *const expected[] = {"1@order-1", "2@order-1", "0@order-1", "2@order-1"};
    for (unsigned i = 0; i < sizeof links / sizeof links[0]; i++)
        append_link("links", 20 + i, links[i]);
    struct stream_read read = {.kind = STREAM_READ_FORWARD,
                               .stream = S("links"),
                               .count = 10,
                               .flags = STREAM_READ_RESOLVE_LINKS};
    for (unsigned reopened = 0; reopened < 2; reopened++) {
        read_wait(&read);
        assert_int_equal(read.events_count, 6);
        for (unsigned i = 0; i < 4; i++) {
            const struct stream_event *event = &read.events[i];
            assert_true(event->has_link && event->has_event);
            assert_true(slice_equal(event->link.data, slice_of_string(links[i])));
            assert_slice_equal(event->event.type, "$>");
            assert_true(slice_equal(event->event.data, slice_of_string(expected[i])));
            assert_true(
                slice_equal(event->event.stream, slice_of_string(strchr(links[i], '@') + 1)));
            assert_int_equal(event->event.number, links[i][0] - '0');
        }
        assert_false(read.events[4].has_event || read.events[5].has_event);
        stream_read_release(&read);
        assert_int_equal(stream_fixture_reopen(&fixture), 0);
    }
}

/* What the element of `$ce-c` says to joe, who may not read the stream that it comes of. */
static void assert_tells_nothing(int64_t number, const char *data)
{
    struct stream_user joe = {.login = S("joe")};
    struct stream_read read = {
        .kind = STREAM_READ_EVENT, .stream = S("$ce-c"), .from = number, .user = &joe};
    for (unsigned resolves = 0; resolves < 2; resolves++) {
        read.flags = resolves ? STREAM_READ_RESOLVE_LINKS : 0;
        read_wait(&read);
        assert_int_equal(read.events_count, 1);
        assert_int_equal(read.events[0].has_event, !resolves);
        const struct stream_record *link = stream_event_original(&read.events[0]);
        assert_true(slice_equal(link->data, slice_of_string(data)));
        stream_read_release(&read);
    }
}

/* Events that call themselves links, with data that leads nowhere: an element of a derived stream
 * leads to such an event itself, and shows nobody what it has. */
static void test_derived_of_broken_links(void **state)
{
    (void)state;
    static char long_name[STREAM_NAME_SIZE_MAX + 10] = "7@";
    memset(long_name + 2, 'x', sizeof long_name - 3);
    const char *const broken[] = {"secret", "7secret", "@secret", "7@", "", long_name};
    for (unsigned i = 0; i < 6; i++)
        append_link("c-1", 1 + i, broken[i]);
    struct stream_read read;
    read_resolved("$ce-c", &read);
    assert_int_equal(read.events_count, 6);
    for (uint32_t i = 0; i < 6; i++) {
        char data[16];
        snprintf(data, sizeof data, "%u@c-1", i);
        assert_link(&read.events[i], data, "$>");
        assert_true(slice_equal(read.events[i].event.data, slice_of_string(broken[i])));
    }
    stream_read_release(&read);
    assert_int_equal(metadata_wait(&fixture, "c-1", "{\"$acl\":{\"$r\":\"ann\"}}"), STREAM_OK);
    assert_tells_nothing(0, "0@c-1");
    assert_tells_nothing(5, "5@c-1");
}

static void test_derived(void **state)
{
    append("order-1", 1, 2);
    append("order-2", 3, 1);
    append("plain", 4, 1);
    append("order-1", 5, 1);
    append("-odd", 6, 1);
    append("$sys-x", 7, 1);
    assert_string_equal(forward("$ce-order", 0, 10), "ok 4 end 3: 0 1 2 3");
}

static void test_derived_links(void **state)
{
    append("order-1", 1, 2);
    append("order-2", 3, 1);
    append("order-1", 5, 1);
    for (unsigned reopened = 0; reopened < 2; reopened++) {
        struct stream_read read;
        assert_int_equal(read_forward_wait(&fixture, "$ce-order", 0, 10, &read), 0);
        assert_int_equal(read.events_count, 4);
        assert_slice_equal(read.events[2].event.type, "$>");
        assert_slice_equal(read.events[2].event.data, "0@order-2");
        assert_slice_equal(read.events[3].event.data, "2@order-1");
        assert_slice_equal(read.events[3].event.stream, "$ce-order");
        stream_read_release(&read);
        read.flags = STREAM_READ_RESOLVE_LINKS;
        read_wait(&read);
        assert_slice_equal(read.events[3].link.data, "2@order-1");
        assert_int_equal(read.events[3].link.number, 3);
        assert_slice_equal(read.events[3].event.data, "d5");
        stream_read_release(&read);
        assert_int_equal(read_forward_wait(&fixture, "$streams", 0, 10, &read), 0);
        assert_int_equal(read.events_count, 2);
        assert_slice_equal(read.events[1].event.data, "0@order-2");
        stream_read_release(&read);
        assert_int_equal(read_forward_wait(&fixture, "$et-T", 0, 10, &read), 0);
        assert_int_equal(read.events_count, 4);
        stream_read_release(&read);
        assert_string_equal(forward("$ce-nobody", 0, 10), "none -1 end -1:");
        assert_string_equal(backward("$ce-order", -1, 2), "ok 1 more 3: 3 2");
        assert_int_equal(stream_fixture_reopen(&fixture), 0);
    }
    assert_int_equal(delete_wait(&fixture, "order-2", STREAM_ANY, true, NULL), STREAM_OK);
    struct stream_read read = {.kind = STREAM_READ_FORWARD,
                               .stream = S("$ce-order"),
                               .count = 10,
                               .flags = STREAM_READ_RESOLVE_LINKS};
    read_wait(&read);
    assert_int_equal(read.events_count, 5); /* the tombstone, too */
    assert_true(read.events[2].has_link && !read.events[2].has_event);
    stream_read_release(&read);
    assert_string_equal(forward("$et-$deleted", 0, 10), "ok 1 end 0: 0");
    /* A stream that has nothing but a tombstone has no first event. */
    assert_int_equal(delete_wait(&fixture, "order-3", STREAM_ANY, true, NULL), STREAM_OK);
    assert_string_equal(forward("$et-$deleted", 0, 10), "ok 2 end 1: 0 1");
    assert_string_equal(forward("$streams", 0, 10), "ok 2 end 1: 0 1");
}

/* As EventStoreDB's projections have it: the metadata that deletes a stream is of its category, and
 * in `$et-$deleted` by the name of the stream. */
static void test_derived_soft_delete(void **state)
{
    struct stream_read read;
    append("order-1", 1, 3);
    assert_int_equal(metadata_wait(&fixture, "order-1", "{\"$maxCount\":9}"), STREAM_OK);
    assert_int_equal(metadata_wait(&fixture, "plain", "{\"$tb\":9223372036854775807}"), STREAM_OK);
    assert_string_equal(forward("$ce-order", 0, 10), "ok 3 end 2: 0 1 2");
    assert_int_equal(delete_wait(&fixture, "order-1", STREAM_ANY, false, NULL), STREAM_OK);
    for (unsigned reopened = 0; reopened < 2; reopened++) {
        read_resolved("$ce-order", &read);
        assert_int_equal(read.events_count, 4);
        assert_link(&read.events[2], "2@order-1", NULL);
        assert_link(&read.events[3], "1@$$order-1", "$metadata");
        stream_read_release(&read);
        read_resolved("$et-$deleted", &read);
        assert_int_equal(read.events_count, 2);
        assert_link(&read.events[0], "0@plain", NULL);
        assert_link(&read.events[1], "1@order-1", NULL);
        stream_read_release(&read);
        assert_string_equal(forward("$et-$metadata", 0, 10), "ok 1 end 0: 0");
        assert_int_equal(stream_fixture_reopen(&fixture), 0);
    }
    append("order-1", 4, 1); /* writes metadata that deletes nothing */
    read_resolved("$ce-order", &read);
    assert_int_equal(read.events_count, 5);
    assert_link(&read.events[3], "1@$$order-1", NULL);
    assert_link(&read.events[4], "3@order-1", "T");
    stream_read_release(&read);
    assert_string_equal(forward("$et-$metadata", 0, 10), "ok 2 end 1: 0 1");
    const struct stream_new_event events[] = {
        event_of(100, "$metadata", "{\"$tb\":9223372036854775807}"), event_of(101, "T", "{}")};
    struct stream_write write = {
        .stream = S("$$order-1"), .expected_version = STREAM_ANY, .events = events, .count = 2};
    assert_int_equal(write_event_wait(&fixture, &write), 0);
    assert_int_equal(write.outcome, STREAM_OK);
    assert_string_equal(forward("$ce-order", 0, 10), "ok 6 end 5: 0 1 2 3 4 5");
}

static void append_with(const char *stream, unsigned id, const char *metadata)
{
    struct stream_new_event event = event_of(id, "T", "d");
    event.metadata = slice_of_string(metadata);
    struct stream_write write = {.stream = slice_of_string(stream),
                                 .expected_version = STREAM_ANY,
                                 .events = &event,
                                 .count = 1};
    assert_int_equal(write_event_wait(&fixture, &write), 0);
    assert_int_equal(write.outcome, STREAM_OK);
}

static void reopen_with(enum stream_projections projections)
{
    fixture.options.projections = projections;
    assert_int_equal(stream_fixture_reopen(&fixture), 0);
}

/* $bc- and $category-, which must be asked for. */
static void test_more_derived(void **state)
{
    static const char *const of_a[] = {"0@x-1", "0@x-2", "1@x-1"};
    struct stream_read read;
    append_with("x-0", 90, "{\"$correlationId\":\"a\"}");
    assert_string_equal(forward("$bc-a", 0, 10), "none -1 end -1:");
    assert_string_equal(forward("$category-x", 0, 10), "none -1 end -1:");
    reopen_with(STREAM_PROJECTIONS_ALL);
    append_with("x-1", 1, "{\"$correlationId\":\"a\",\"more\":[1]}");
    append_with("x-2", 2, "{ \"other\": 1, \"$correlationId\" : \"a\" }");
    append_with("$sys", 3, "{\"$correlationId\":\"b\"}");
    append_with("x-2", 4, "{\"$correlationId\":7}");
    append_with("x-2", 5, "[\"$correlationId\"]");
    append_with("x-2", 6, "\"$correlationId\":\"a\"");
    append_with("x-2", 7, "{\"$correlationId\":\"\"}");
    append_with("plain", 8, "{\"correlationId\":\"a\"}");
    append_with("x-1", 9, "{\"$correlationId\":\"a\"}");
    assert_int_equal(delete_wait(&fixture, "x-3", STREAM_ANY, true, NULL), STREAM_OK);
    for (unsigned round = 0; round < 2; round++) {
        read = (struct stream_read){.kind = STREAM_READ_FORWARD,
                                    .stream = S("$bc-a"),
                                    .count = 10,
                                    .flags = STREAM_READ_RESOLVE_LINKS};
        read_wait(&read);
        assert_int_equal(read.events_count, 3);
        for (unsigned i = 0; i < 3; i++) {
            assert_true(slice_equal(read.events[i].link.data, slice_of_string(of_a[i])));
            assert_true(read.events[i].has_event);
        }
        stream_read_release(&read);
        assert_string_equal(forward("$bc-b", 0, 10), "ok 1 end 0: 0");
        assert_string_equal(forward("$bc-7", 0, 10), "none -1 end -1:");
        read.stream = S("$category-x"); /* x-0 was there before */
        read_wait(&read);
        assert_int_equal(read.events_count, 2);
        assert_false(read.events[1].has_link);
        assert_slice_equal(read.events[1].event.type, "$@");
        assert_slice_equal(read.events[1].event.data, "x-2");
        assert_slice_equal(read.events[1].event.stream, "$category-x");
        assert_int_equal(read.events[1].event.number, 1);
        stream_read_release(&read);
        assert_int_equal(append_wait(&fixture, "$bc-a", STREAM_ANY, 50, 1, NULL),
                         STREAM_ACCESS_DENIED);
        assert_int_equal(append_wait(&fixture, "$category-x", STREAM_ANY, 50, 1, NULL),
                         STREAM_ACCESS_DENIED);
        reopen_with(STREAM_PROJECTIONS_NONE);
        append_with("y-1", 60 + round, "{\"$correlationId\":\"a\"}");
    }
    assert_string_equal(forward("$ce-y", 0, 10), "none -1 end -1:");
    assert_string_equal(forward("$streams", 0, 1), "ok 1 more 4: 0");
}

/* The longest names there are: their derived streams can be read, too. */
static void test_longest_derived_names(void **state)
{
    static char name[STREAM_NAME_SIZE_MAX + 1], derived[STREAM_NAME_SIZE_MAX + 32];
    static char metadata[STREAM_NAME_SIZE_MAX + 64];
    reopen_with(STREAM_PROJECTIONS_ALL);
    memset(name, 'n', STREAM_NAME_SIZE_MAX);
    name[STREAM_NAME_SIZE_MAX - 1] = '-';
    snprintf(metadata, sizeof metadata, "{\"$correlationId\":\"%s\"}", name);
    append_with(name, 1, metadata);
    snprintf(derived, sizeof derived, "$bc-%s", name);
    assert_string_equal(forward(derived, 0, 10), "ok 1 end 0: 0");
    name[STREAM_NAME_SIZE_MAX - 1] = '\0';
    snprintf(derived, sizeof derived, "$category-%s", name);
    assert_string_equal(forward(derived, 0, 10), "ok 1 end 0: 0");
    append_with("short", 2, "{\"$correlationId\":\"\\u0000\"}");
}

/* --- access ----------------------------------------------------------------------------------- */

static enum stream_outcome read_as(const char *stream, const char *login, const char *group)
{
    kvs_slice groups[1] = {slice_of_string(group)};
    struct stream_user user = {
        .login = slice_of_string(login), .groups = groups, .groups_count = group[0] != '\0'};
    struct stream_read read = {
        .kind = STREAM_READ_FORWARD, .stream = slice_of_string(stream), .count = 1, .user = &user};
    if (stream[0] == '\0')
        read.kind = STREAM_READ_ALL_FORWARD;
    read_wait(&read);
    stream_read_release(&read);
    return read.outcome;
}

static enum stream_outcome write_as(const char *stream, const char *login)
{
    struct stream_new_event event = event_of(1, "T", "x");
    struct stream_user user = {.login = slice_of_string(login)};
    struct stream_write write = {.stream = slice_of_string(stream),
                                 .expected_version = STREAM_ANY,
                                 .events = &event,
                                 .count = 1,
                                 .user = &user};
    assert_int_equal(write_event_wait(&fixture, &write), 0);
    return write.outcome;
}

static void test_access(void **state)
{
    append("a", 1, 1);
    append("$sys", 2, 1);
    assert_int_equal(read_as("a", "", ""), STREAM_OK);
    assert_int_equal(read_as("$sys", "joe", ""), STREAM_ACCESS_DENIED);
    assert_int_equal(read_as("$sys", "admin", ""), STREAM_OK);
    assert_int_equal(read_as("$sys", "joe", "$admins"), STREAM_OK);
    assert_int_equal(read_as("", "joe", ""), STREAM_ACCESS_DENIED);
    assert_int_equal(read_as("", "admin", ""), STREAM_OK);
    assert_int_equal(metadata_wait(&fixture, "a",
                                   "{\"$acl\":{\"$r\":[\"joe\",\"staff\"],\"$w\":\"ann\","
                                   "\"$mr\":[],\"$mw\":\"$all\"}}"),
                     STREAM_OK);
    for (unsigned reopened = 0; reopened < 2; reopened++) {
        assert_int_equal(read_as("a", "", ""), STREAM_ACCESS_DENIED);
        assert_int_equal(read_as("a", "joe", ""), STREAM_OK);
        assert_int_equal(read_as("a", "ann", ""), STREAM_ACCESS_DENIED);
        assert_int_equal(read_as("a", "ann", "staff"), STREAM_OK);
        assert_int_equal(read_as("$$a", "joe", ""), STREAM_ACCESS_DENIED);
        assert_int_equal(write_as("a", "joe"), STREAM_ACCESS_DENIED);
        assert_int_equal(write_as("a", "ann"), STREAM_OK);
        assert_int_equal(stream_fixture_reopen(&fixture), 0);
    }
    assert_int_equal(metadata_wait(&fixture, "$all", "{\"$acl\":{\"$r\":\"joe\"}}"), STREAM_OK);
    assert_int_equal(read_as("", "joe", ""), STREAM_OK);
    assert_int_equal(write_as("$$a", ""), STREAM_OK);
}

static void test_default_access(void **state)
{
    append("a", 1, 1);
    struct stream_new_event event =
        event_of(9, "update-default-acl",
                 "{\"$userStreamAcl\":{\"$r\":\"ann\"},\"$systemStreamAcl\":{\"$r\":\"joe\"}}");
    struct stream_write write = {
        .stream = S("$settings"), .expected_version = STREAM_ANY, .events = &event, .count = 1};
    assert_int_equal(write_event_wait(&fixture, &write), 0);
    for (unsigned reopened = 0; reopened < 2; reopened++) {
        assert_int_equal(read_as("a", "joe", ""), STREAM_ACCESS_DENIED);
        assert_int_equal(read_as("a", "ann", ""), STREAM_OK);
        assert_int_equal(read_as("$settings", "joe", ""), STREAM_OK);
        assert_int_equal(write_as("b", ""), STREAM_OK);
        assert_int_equal(stream_fixture_reopen(&fixture), 0);
    }
}

/* Has the first element of the stream, with its link resolved, an event for this user? */
static bool resolves_as(const char *stream, const char *login)
{
    struct stream_user user = {.login = slice_of_string(login)};
    struct stream_read read = {.kind = STREAM_READ_FORWARD,
                               .stream = slice_of_string(stream),
                               .count = 1,
                               .flags = STREAM_READ_RESOLVE_LINKS,
                               .user = &user};
    read_wait(&read);
    assert_int_equal(read.events_count, 1);
    assert_true(read.events[0].has_link);
    bool has_event = read.events[0].has_event;
    stream_read_release(&read);
    return has_event;
}

/* As EventStoreDB's projections make them: for everybody, who sees no more behind a link than the
 * stream there lets him. */
static void test_access_to_derived_streams(void **state)
{
    static const char *const names[] = {"$streams", "$ce-c", "$et-T"};
    append("c-1", 1, 1);
    for (unsigned i = 0; i < 3; i++) {
        char meta[32];
        snprintf(meta, sizeof meta, "$$%s", names[i]);
        assert_int_equal(read_as(names[i], "", ""), STREAM_OK);
        assert_int_equal(read_as(names[i], "joe", ""), STREAM_OK);
        assert_int_equal(read_as(meta, "joe", ""), STREAM_NOT_FOUND);
        assert_int_equal(write_as(meta, "joe"), STREAM_ACCESS_DENIED);
        assert_true(resolves_as(names[i], "joe"));
    }
    assert_int_equal(metadata_wait(&fixture, "c-1", "{\"$acl\":{\"$r\":\"ann\"}}"), STREAM_OK);
    assert_false(resolves_as("$ce-c", "joe"));
    assert_true(resolves_as("$ce-c", "ann"));
    assert_int_equal(metadata_wait(&fixture, "$ce-c", "{\"$acl\":{\"$r\":\"ann\"}}"), STREAM_OK);
    assert_int_equal(read_as("$ce-c", "joe", ""), STREAM_ACCESS_DENIED);
    assert_int_equal(read_as("$ce-c", "ann", ""), STREAM_OK);
}

#define TEST(function) cmocka_unit_test_setup_teardown(function, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_event),
        TEST(test_forward),
        TEST(test_backward),
        TEST(test_interleaved),
        TEST(test_max_count),
        TEST(test_truncate_before),
        TEST(test_max_age),
        TEST(test_metastream_keeps_one),
        TEST(test_all),
        TEST(test_page_by_size),
        TEST(test_filters),
        TEST(test_filter_of_much_work),
        TEST(test_filter_of_many_prefixes),
        TEST(test_links),
        TEST(test_links_to_derived_streams),
        TEST(test_derived_of_broken_links),
        TEST(test_derived),
        TEST(test_derived_links),
        TEST(test_derived_soft_delete),
        TEST(test_more_derived),
        TEST(test_longest_derived_names),
        TEST(test_access),
        TEST(test_default_access),
        TEST(test_access_to_derived_streams),
    };
    return stream_tests_run("stream-read", tests, sizeof tests / sizeof tests[0]);
}
