/*
 * tests/crash/test_stream_power_cut.c: event streams after a power cut at any moment.
 *
 * Appends to a few streams, one by one and in groups, and scavenges that join their blocks, while
 * disk_journal.h notes what reaches the disk when. Then, for many moments, the disk is made as it
 * could be after a cut, and opened: the log has every acknowledged event, and nothing behind a gap;
 * streams and derived streams agree with it; and it can be built upon.
 */
#include "base/bytes.h"
#include "base/log.h"
#include "base/slice.h"
#include "crash/disk_journal.h"
#include "test.h"
#include "unit/stream/stream_fixture.h"

#include <stdio.h>
#include <unistd.h>

#define OK(call) assert_int_equal((call), 0)

#define ROUNDS 120
#define CUTS 150
#define STREAMS 4

static struct stream_fixture fixture;
static char names[STREAMS][16];
static struct latch latch;

static void on_done(struct task *task)
{
    (void)task;
    latch_down(&latch);
}

/* Event number `n` of all goes to stream n % STREAMS, with n as its id. */
static unsigned append_group(unsigned next, unsigned count)
{
    struct stream_write writes[16];
    struct stream_new_event events[16];
    char data[16][700];
    struct task_list list = {0};
    latch_init(&latch, count);
    for (unsigned i = 0; i < count; i++) {
        memset(data[i], 'x', sizeof data[i] - 1);
        data[i][(next + i) * 37 % 690] = '\0';
        events[i] = event_of(next + i, "T", data[i]);
        writes[i] = (struct stream_write){
            .op = {.task.run = on_done, .loop = &fixture.engine.loop},
            .stream = slice_of_string(names[(next + i) % STREAMS]),
            .expected_version = (int64_t)((next + i) / STREAMS) - 1,
            .events = &events[i],
            .count = 1,
        };
        task_list_push(&list, &writes[i].op.task);
    }
    streams_write_list(fixture.streams, &list);
    latch_wait(&latch);
    latch_deinit(&latch);
    for (unsigned i = 0; i < count; i++) {
        OK(writes[i].op.error);
        assert_int_equal(writes[i].outcome, STREAM_OK);
    }
    return next + count;
}

static void scavenge(void)
{
    struct stream_scavenge scavenge = {.op = {.task.run = on_done, .loop = &fixture.engine.loop}};
    latch_init(&latch, 1);
    streams_scavenge(fixture.streams, &scavenge);
    latch_wait(&latch);
    latch_deinit(&latch);
    OK(scavenge.op.error);
    assert_int_equal(scavenge.events_removed, 0);
}

static void write_all(struct rand *rand)
{
    unsigned next = 0;
    disk_journal_start(fixture.engine.directory);
    OK(stream_fixture_open(&fixture));
    for (unsigned round = 0; round < ROUNDS; round++) {
        next = append_group(next, 1 + (unsigned)rand_below(rand, round % 3 == 0 ? 16 : 2));
        disk_journal_note(next);
        if (round % 40 == 20)
            scavenge();
        if (round % 50 == 30)
            OK(stream_fixture_reopen(&fixture));
    }
    disk_journal_stop();
    OK(stream_fixture_close(&fixture));
}

/* The number of events that are there: 0, 1, 2 and so on. */
static unsigned check_log(void)
{
    struct stream_read read;
    unsigned count = 0;
    int64_t from = 0;
    do {
        OK(read_all_wait(&fixture, from, 100, false, &read));
        for (uint32_t i = 0; i < read.events_count; i++, count++)
            assert_int_equal(get_u32(read.events[i].event.id), count);
        from = read.next;
        stream_read_release(&read);
    } while (!read.end);
    return count;
}

static void check_stream(const char *name, unsigned count, bool derived)
{
    struct stream_read read = {.kind = STREAM_READ_FORWARD,
                               .flags = STREAM_READ_RESOLVE_LINKS,
                               .stream = slice_of_string(name),
                               .count = 100};
    unsigned found = 0;
    do {
        OK(read_event_wait(&fixture, &read));
        for (uint32_t i = 0; i < read.events_count; i++, found++) {
            assert_int_equal(stream_event_original(&read.events[i])->number, found);
            assert_true(read.events[i].has_event && read.events[i].has_link == derived);
        }
        read.from = read.next;
        stream_read_release(&read);
    } while (!read.end);
    assert_int_equal(found, count);
}

static void cut_and_open(struct rand *rand, size_t at)
{
    char directory[128];
    snprintf(directory, sizeof directory, "%s/cut", fixture.engine.root);
    directory_remove(directory);
    enum disk_names names_kept = at % 2 == 0 ? DISK_NAMES_ORDERED : DISK_NAMES_LOST;
    uint64_t noted = disk_journal_cut(at, names_kept, rand, directory);
    const char *own = fixture.engine.options.directory;
    fixture.engine.options.directory = directory;
    for (unsigned again = 0; again < 2; again++) {
        OK(stream_fixture_open(&fixture));
        unsigned count = check_log();
        if (count < noted)
            fail_msg("cut before event %zu of %zu: %u events, but %u were safe", at,
                     disk_journal_length(), count, (unsigned)noted);
        for (unsigned i = 0; i < STREAMS; i++)
            check_stream(names[i], count / STREAMS + (i < count % STREAMS), false);
        check_stream("$ce-s", count, true);
        if (again == 0)
            append_group(count, 3);
        OK(stream_fixture_close(&fixture));
    }
    fixture.engine.options.directory = own;
}

static void test_cuts(void **state)
{
    (void)state;
    struct rand rand = rand_seed(test_seed());
    OK(stream_fixture_init(&fixture, &stream_engines[2]));
    for (unsigned i = 0; i < STREAMS; i++)
        snprintf(names[i], sizeof names[i], "s-%u", i);
    write_all(&rand);
    size_t length = disk_journal_length();
    for (unsigned i = 0; i < CUTS; i++)
        cut_and_open(&rand, rand_below(&rand, i % 8 == 0 ? 40 : length + 1));
    cut_and_open(&rand, length);
    print_message("# %u cuts within %zu events\n", CUTS, length);
    disk_journal_free();
    stream_fixture_deinit(&fixture);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_cuts)};
    fixtures_in_memory();
    log_set_level(LOG_SILENT);
    return tests_end(cmocka_run_group_tests(tests, NULL, NULL));
}
