/*
 * tests/crash/test_disk_full_events.c: event streams on a disk that is really full: what makes room
 * is done, by the metadata that bound a stream, by deletes and by a scavenge; nothing else is.
 */
#include "base/clock.h"
#include "crash/small_disk.h"
#include "test.h"
#include "unit/client/events_patient.h"

#include <kvs/kvs.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define STREAMS 20u
#define EVENT_SIZE 2000u
#define EVENTS_MAX 100000u
#define ROUNDS 4u /* streams that are treated alike */
#define SPACE_MS_MAX 20000
#define OTHER STREAMS      /* has events, too, ... */
#define NONE (STREAMS + 1) /* ... and those behind have none */
#define BESIDE 8u          /* appends on each side of a delete */

static char directory[] = "/tmp/kvs-full-XXXXXX";
static kvs_runtime *runtime;
static kvs_events *events;
static unsigned appended; /* one to each stream in turn */

static kvs_slice stream_of(char text[32], unsigned number)
{
    snprintf(text, 32, "stream-%u", number);
    return kvs_slice_of(text);
}

static void events_open(void)
{
    char url[64];
    const struct kvs_events_options options = events_patient();
    snprintf(url, sizeof url, "log:%s/data", directory);
    events = opened_by(kvs_events_open(runtime, url, &options));
}

static kvs_future *append_begin(unsigned stream)
{
    static uint8_t data[EVENT_SIZE];
    char text[32];
    const kvs_new_event event = {.type = kvs_slice_of("T"), .data = {data, sizeof data}};
    return kvs_events_append(events, stream_of(text, stream), KVS_EXPECT_ANY, &event, 1, NULL);
}

static kvs_future *delete_begin(unsigned stream, bool hard)
{
    char text[32];
    return kvs_events_delete(events, stream_of(text, stream), KVS_EXPECT_ANY, hard, NULL);
}

static kvs_future *metadata_begin(unsigned stream, const char *json)
{
    char text[32];
    return kvs_events_set_metadata(events, stream_of(text, stream), KVS_EXPECT_ANY,
                                   kvs_slice_of(json), NULL);
}

/* What a compaction has emptied comes back after a moment. */
#define ASSERT_DONE(call)                                            \
    do {                                                             \
        uint64_t begun_ms = clock_now_ms();                          \
        int status;                                                  \
        while ((status = wait_and_free(call)) == KVS_ERR_NO_SPACE && \
               clock_now_ms() - begun_ms < SPACE_MS_MAX)             \
            usleep(1000);                                            \
        assert_int_equal(status, 0);                                 \
    } while (0)

static void append_until_refused(void)
{
    int error = 0;
    for (; appended < EVENTS_MAX; appended++) {
        error = wait_and_free(append_begin(appended % STREAMS));
        if (error != 0 && error != KVS_ERR_STREAM_DELETED)
            break;
    }
    assert_int_equal(error, KVS_ERR_NO_SPACE);
}

static unsigned events_of(unsigned stream)
{
    return appended / STREAMS + (stream < appended % STREAMS);
}

/* Of a stream that is not deleted: how many are there. */
static unsigned count(unsigned stream)
{
    char text[32];
    void *pointer = NULL;
    kvs_future *future =
        kvs_events_read_stream(events, stream_of(text, stream), 0, KVS_EVENTS_PAGE_MAX, 0, NULL);
    unsigned number = 0;
    if (kvs_future_wait(future, -1) == 0 && kvs_future_get_pointer(future, &pointer) == 0)
        number = (unsigned)((const kvs_event_page *)pointer)->count;
    kvs_future_free(future);
    return number;
}

static int setup(void **state)
{
    (void)state;
    appended = 0;
    events_open();
    assert_int_equal(wait_and_free(append_begin(OTHER)), 0);
    assert_int_equal(wait_and_free(append_begin(OTHER)), 0);
    append_until_refused();
    return 0;
}

static int teardown(void **state)
{
    char command[64];
    (void)state;
    wait_and_free(kvs_events_close(events));
    snprintf(command, sizeof command, "rm -rf %s/data", directory);
    return system(command);
}

/* Compaction may just have given a little back: then that is taken, too. */
#define ASSERT_REFUSED(call)                                          \
    do {                                                              \
        int error = 0;                                                \
        for (unsigned times = 0; times < 50 && error == 0; times++) { \
            append_until_refused();                                   \
            error = wait_and_free(call);                              \
        }                                                             \
        assert_int_equal(error, KVS_ERR_NO_SPACE);                    \
    } while (0)

/* Whatever is no help, of a stream with events and of one that has none. */
static void check_refused(unsigned stream, unsigned none)
{
    static char large[100001];
    memset(large, ' ', sizeof large - 1);
    memcpy(large, "{\"$maxCount\":1}", 15);
    ASSERT_REFUSED(metadata_begin(stream, "{\"mine\":1}"));
    ASSERT_REFUSED(metadata_begin(stream, "{\"$maxCount\":9000}"));
    ASSERT_REFUSED(metadata_begin(stream, large));
    ASSERT_REFUSED(metadata_begin(none, "{\"$tb\":9}"));
    ASSERT_REFUSED(delete_begin(none++, true)); /* each of them once */
}

static void test_room_is_made(void **state)
{
    (void)state;
    check_refused(OTHER, NONE);
    unsigned before = appended;
    for (unsigned i = 0; i < ROUNDS; i++) {
        ASSERT_DONE(delete_begin(i, false));
        if (i % 2 == 1) /* then its events are hidden already */
            ASSERT_DONE(delete_begin(ROUNDS + i, false));
        ASSERT_DONE(delete_begin(ROUNDS + i, true));
        ASSERT_DONE(metadata_begin(2 * ROUNDS + i, "{\"$maxCount\":3}"));
        ASSERT_DONE(metadata_begin(3 * ROUNDS + i, "{\"$tb\":7,\"mine\":1}"));
    }
    ASSERT_DONE(metadata_begin(4 * ROUNDS, "{\"$maxAge\":86400}"));
    check_refused(OTHER, NONE);
    assert_int_equal(wait_and_free(kvs_events_scavenge(events, NULL)), 0);
    for (unsigned i = 0; i < before / 3; i++)
        ASSERT_DONE(append_begin(OTHER));
    for (unsigned i = 0; i < ROUNDS; i++) {
        assert_int_equal(count(i), events_of(i) - (before / STREAMS + (i < before % STREAMS)));
        assert_int_equal(count(2 * ROUNDS + i), 3);
        assert_int_equal(count(3 * ROUNDS + i), events_of(3 * ROUNDS + i) - 7);
        assert_int_equal(count(4 * ROUNDS + i), events_of(4 * ROUNDS + i));
    }
}

/* Appends that go to the engine with a delete, or before it, are refused without it. */
static void test_deleted_beside_appends(void **state)
{
    (void)state;
    unsigned refused = 0;
    unsigned late = 0;
    for (unsigned i = 0; i < STREAMS; i++) {
        append_until_refused();
        kvs_future *beside[2 * BESIDE];
        for (unsigned j = 0; j < BESIDE; j++)
            beside[j] = append_begin(i);
        kvs_future *deleted = delete_begin(i, i % 2 == 0);
        for (unsigned j = BESIDE; j < 2 * BESIDE; j++)
            beside[j] = append_begin(NONE + j);
        int error = wait_and_free(deleted);
        if (error == KVS_ERR_NO_SPACE)
            ASSERT_DONE(delete_begin(i, i % 2 == 0));
        else
            assert_int_equal(error, 0);
        late += error != 0;
        for (unsigned j = 0; j < 2 * BESIDE; j++)
            refused += wait_and_free(beside[j]) == KVS_ERR_NO_SPACE;
    }
    print_message("# %u of %u were refused, and %u deletes\n", refused, 2 * BESIDE * STREAMS, late);
    assert_true(refused > BESIDE * STREAMS);
    assert_true(late < STREAMS / 4);
    assert_int_equal(wait_and_free(kvs_events_scavenge(events, NULL)), 0);
    ASSERT_DONE(append_begin(OTHER));
}

/* Metadata that would hide events which come with it, and are refused, is refused, too; a delete
 * before or behind it is not. */
static void test_nothing_is_hidden(void **state)
{
    (void)state;
    unsigned taken = 0;
    unsigned late = 0;
    for (unsigned i = 0; i < STREAMS; i++) {
        kvs_future *beside[BESIDE];
        kvs_future *deleted = NULL;
        bool is_there = false;
        ASSERT_REFUSED(metadata_begin(OTHER, "{\"mine\":1}"));
        for (unsigned j = 0; j < BESIDE; j++)
            beside[j] = append_begin(NONE + i);
        if (i % 2 == 0)
            deleted = delete_begin(i, true);
        kvs_future *metadata = metadata_begin(NONE + i, "{\"$tb\":1}");
        if (deleted == NULL)
            deleted = delete_begin(i, true);
        int error = wait_and_free(deleted);
        if (error == KVS_ERR_NO_SPACE)
            ASSERT_DONE(delete_begin(i, true));
        else
            assert_int_equal(error, 0);
        late += error != 0;
        for (unsigned j = 0; j < BESIDE; j++)
            is_there |= wait_and_free(beside[j]) == 0;
        error = wait_and_free(metadata);
        assert_true(error == 0 || error == KVS_ERR_NO_SPACE);
        taken += error == 0 && !is_there;
    }
    print_message("# %u of %u were taken, and %u deletes refused\n", taken, STREAMS, late);
    assert_true(taken < STREAMS / 4);
    assert_true(late < STREAMS / 4);
}

int main(void)
{
    if (mkdtemp(directory) == NULL)
        return 1;
    int failed = 0;
    if (small_disk_mount(directory)) {
        const struct CMUnitTest tests[] = {
            cmocka_unit_test_setup_teardown(test_room_is_made, setup, teardown),
            cmocka_unit_test_setup_teardown(test_deleted_beside_appends, setup, teardown),
            cmocka_unit_test_setup_teardown(test_nothing_is_hidden, setup, teardown)};
        kvs_runtime_new(NULL, &runtime);
        failed = cmocka_run_group_tests(tests, NULL, NULL);
        kvs_runtime_free(runtime);
        small_disk_unmount(directory);
    }
    rmdir(directory);
    return failed;
}
