/*
 * tests/fault/test_fault_stream.c: event streams while the k-th allocation, write or sync fails, or
 * the disk is full, for every k (or every n-th): once, or from then on.
 *
 * Everything that was handed over completes. After that, with nothing failing any more, what was
 * acknowledged is there, whole and once; what was refused with an error that says so is not;
 * numbers have no gaps; and more can be written.
 *
 * KVS_TEST_FAULT="KIND K once|on" repeats one case, as a failure prints it; KVS_TEST_EVERY=1 tries
 * every k, where each run takes some, from a place of its own.
 */
#include "base/fault.h"

#include "base/bytes.h"
#include "base/log.h"
#include "base/slice.h"
#include "fault/stride.h"
#include "stream/group.h"
#include "stream/users.h"
#include "test.h"
#include "unit/stream/stream_fixture.h"

#include <stdio.h>
#include <stdlib.h>

#define WRITES 24
#define STREAMS 3
#define RUNS_MAX TIMES(150, 40, 12) /* of a kind and mode */

static const struct {
    enum fault_kind kind;
    const char *name;
} kinds[] = {{FAULT_ALLOC, "ALLOC"},
             {FAULT_FILE_OPEN, "FILE_OPEN"},
             {FAULT_FILE_READ, "FILE_READ"},
             {FAULT_FILE_WRITE, "FILE_WRITE"},
             {FAULT_FILE_SPACE, "FILE_SPACE"},
             {FAULT_FILE_SHORT, "FILE_SHORT"},
             {FAULT_FILE_SYNC, "FILE_SYNC"},
             {FAULT_FILE_RENAME, "FILE_RENAME"},
             {FAULT_THREAD_START, "THREAD_START"}};
#define KINDS (sizeof kinds / sizeof kinds[0])

static struct stream_fixture fixture;
static struct stream_write writes[WRITES];
static struct stream_new_event events[WRITES][3];
static char names[STREAMS][16];
static struct latch latch;
static uint64_t seed;
static const char *wrong_after; /* what was acknowledged after the storage had failed */

static void on_done(struct task *task)
{
    (void)task;
    latch_down(&latch);
}

/* --- the script ------------------------------------------------------------------------------- */

static bool storage_has_failed(void)
{
    struct engine_stats stats;
    engine_stats(fixture.engine.engine, &stats);
    return stats.failed;
}

/* Eight at once; to each stream upon what it is believed to have. */
static void append_group(unsigned first)
{
    struct task_list list = {0};
    bool failed = storage_has_failed();
    latch_init(&latch, 8);
    for (unsigned i = first; i < first + 8; i++) {
        for (unsigned k = 0; k < 3; k++)
            events[i][k] = event_of(i * 10 + k, "T", "some data");
        writes[i] = (struct stream_write){
            .op = {.task.run = on_done, .loop = &fixture.engine.loop},
            .stream = slice_of_string(names[i % STREAMS]),
            .expected_version = STREAM_ANY,
            .events = events[i],
            .count = 3,
        };
        task_list_push(&list, &writes[i].op.task);
        if (i % 3 == 0)
            streams_write_list(fixture.streams, &list);
    }
    streams_write_list(fixture.streams, &list);
    latch_wait(&latch);
    latch_deinit(&latch);
    for (unsigned i = first; i < first + 8 && failed; i++) {
        if (writes[i].op.error == 0)
            wrong_after = "a write is acknowledged after the storage has failed";
    }
}

static void write_others(void)
{
    struct stream_new_event event = event_of(1, "T", "x");
    (void)append_wait(&fixture, "other", STREAM_ANY, 1, 5, NULL);
    (void)metadata_wait(&fixture, "other", "{\"$maxCount\":2,\"$acl\":{\"$r\":\"joe\"}}");
    (void)delete_wait(&fixture, "other", STREAM_ANY, false, NULL);
    (void)append_wait(&fixture, "other", STREAM_ANY, 6, 1, NULL);
    (void)append_wait(&fixture, "gone", STREAM_ANY, 9, 1, NULL);
    (void)delete_wait(&fixture, "gone", STREAM_ANY, true, NULL);
    struct stream_write write = {.kind = STREAM_WRITE_TRANSACTION_START,
                                 .stream = S("transacted"),
                                 .expected_version = STREAM_ANY};
    if (write_event_wait(&fixture, &write) != 0)
        return;
    write.kind = STREAM_WRITE_TRANSACTION_APPEND;
    write.events = &event;
    write.count = 1;
    (void)write_event_wait(&fixture, &write);
    write.kind = STREAM_WRITE_TRANSACTION_COMMIT;
    (void)write_event_wait(&fixture, &write);
}

struct consumer {
    struct stream_consumer consumer;
    unsigned count;
};

static void on_confirmed(struct stream_consumer *consumer)
{
    (void)consumer;
}

static void on_event(struct stream_consumer *stream_consumer, const struct stream_event *event,
                     int32_t retries)
{
    struct consumer *consumer = CONTAINER_OF(stream_consumer, struct consumer, consumer);
    (void)retries;
    const uint8_t *id = stream_event_original(event)->id;
    if (consumer->count++ % 3 == 0)
        (void)stream_consumer_nak(stream_consumer, id, 1, STREAM_NAK_PARK, S("no"));
    else
        (void)stream_consumer_ack(stream_consumer, id, 1);
    if (consumer->count == 6)
        stream_consumer_close(stream_consumer, false);
}

static void on_dropped(struct stream_consumer *consumer, enum stream_drop drop)
{
    (void)consumer;
    (void)drop;
    latch_down(&latch);
}

static void close_consumer(void *arg)
{
    stream_consumer_close(&((struct consumer *)arg)->consumer, false);
}

static void use_group(void)
{
    struct stream_group_call call = {.op = {.task.run = on_done, .loop = &fixture.engine.loop},
                                     .stream = S("stream-0"),
                                     .group = S("g")};
    stream_group_settings_default(&call.settings);
    call.settings.start_from = 0;
    call.settings.checkpoint_max_count = 2;
    latch_init(&latch, 1);
    streams_group_call(fixture.streams, &call);
    latch_wait(&latch);
    latch_deinit(&latch);
    struct consumer consumer = {.consumer = {.loop = &fixture.engine.loop,
                                             .stream = S("stream-0"),
                                             .group = S("g"),
                                             .slots = 4,
                                             .on_confirmed = on_confirmed,
                                             .on_event = on_event,
                                             .on_dropped = on_dropped}};
    latch_init(&latch, 1);
    streams_consume(fixture.streams, &consumer.consumer);
    on_loop(&fixture, close_consumer, &consumer);
    latch_wait(&latch);
    latch_deinit(&latch);
    stream_group_call_release(&call);
}

static void use_users(void)
{
    kvs_slice groups[1] = {S("staff")};
    struct stream_user_call call = {.op = {.task.run = on_done, .loop = &fixture.engine.loop},
                                    .action = STREAM_USER_CREATE,
                                    .login = S("joe"),
                                    .password = S("secret"),
                                    .groups = groups,
                                    .groups_count = 1};
    for (unsigned i = 0; i < 3; i++) {
        latch_init(&latch, 1);
        streams_user_call(fixture.streams, &call);
        latch_wait(&latch);
        latch_deinit(&latch);
        stream_user_call_release(&call);
        call.action = i == 0 ? STREAM_USER_LOGIN : STREAM_USER_DETAILS;
    }
}

static void scavenge(void)
{
    struct stream_scavenge scavenge = {.op = {.task.run = on_done, .loop = &fixture.engine.loop}};
    latch_init(&latch, 1);
    streams_scavenge(fixture.streams, &scavenge);
    latch_wait(&latch);
    latch_deinit(&latch);
}

static void read_some(void)
{
    struct stream_read read = {.kind = STREAM_READ_FORWARD,
                               .flags = STREAM_READ_RESOLVE_LINKS,
                               .stream = S("$ce-stream"),
                               .count = 50};
    (void)read_event_wait(&fixture, &read);
    stream_read_release(&read);
    (void)read_all_wait(&fixture, 0, 50, false, &read);
    stream_read_release(&read);
}

static void script_run(void)
{
    wrong_after = NULL;
    for (unsigned i = 0; i < WRITES; i++)
        writes[i].op.error = KVS_ERR_CANCELLED; /* not handed over */
    if (stream_fixture_open(&fixture) != 0)
        return;
    append_group(0);
    write_others();
    append_group(8);
    use_group();
    use_users();
    scavenge();
    read_some();
    if (stream_fixture_close(&fixture) != 0 || stream_fixture_open(&fixture) != 0)
        return;
    append_group(16);
    read_some();
}

/* --- what is left ----------------------------------------------------------------------------- */

static unsigned count_of(const struct stream_read *read, unsigned id, unsigned *ret_at)
{
    unsigned count = 0;
    for (uint32_t i = 0; i < read->events_count; i++) {
        if (get_u32(read->events[i].event.id) != id)
            continue;
        *ret_at = i;
        count++;
    }
    return count;
}

static const char *check_write(const struct stream_write *write, const struct stream_read *read)
{
    unsigned at[3] = {0};
    unsigned counts[3];
    for (unsigned k = 0; k < 3; k++)
        counts[k] = count_of(read, get_u32(write->events[k].id), &at[k]);
    if (counts[0] != counts[1] || counts[1] != counts[2])
        return "a write is half there";
    if (counts[0] > 1)
        return "a write is there twice";
    if (counts[0] == 1 && (at[1] != at[0] + 1 || at[2] != at[0] + 2))
        return "the events of a write are apart";
    bool acknowledged = write->op.error == 0 && write->outcome == STREAM_OK;
    if (acknowledged && counts[0] == 0)
        return "an acknowledged write is not there";
    if (acknowledged && (int64_t)at[0] != write->first_number)
        return "an acknowledged write has another number";
    if (!acknowledged && kvs_error_retryable(write->op.error) && counts[0] != 0)
        return "a refused write is there";
    return NULL;
}

static const char *check_stream(unsigned stream)
{
    struct stream_read read;
    const char *wrong = NULL;
    if (read_forward_wait(&fixture, names[stream], 0, 1000, &read) != 0)
        return "a stream cannot be read";
    for (uint32_t i = 0; i < read.events_count; i++) {
        if (read.events[i].event.number != i)
            wrong = "numbers have a gap";
    }
    for (unsigned i = stream; i < WRITES && wrong == NULL; i += STREAMS) {
        if (writes[i].op.error != KVS_ERR_CANCELLED)
            wrong = check_write(&writes[i], &read);
    }
    stream_read_release(&read);
    return wrong;
}

static const char *check(void)
{
    if (fixture.engine.engine != NULL && stream_fixture_close(&fixture) != 0 &&
        fixture.engine.engine != NULL)
        return "it does not close";
    if (stream_fixture_open(&fixture) != 0)
        return "it does not open";
    const char *wrong = NULL;
    for (unsigned i = 0; i < STREAMS && wrong == NULL; i++)
        wrong = check_stream(i);
    if (wrong == NULL && append_wait(&fixture, names[0], STREAM_ANY, 900, 2, NULL) != 0)
        wrong = "nothing more can be written";
    if (wrong == NULL && stream_fixture_reopen(&fixture) != 0)
        wrong = "it does not open again";
    if (wrong_after != NULL)
        return wrong_after;
    return wrong != NULL ? wrong : check_stream(1);
}

/* --- every k ---------------------------------------------------------------------------------- */

static bool run_one(unsigned kind, uint64_t k, bool from_then_on, unsigned *wrong_count)
{
    assert_int_equal(stream_fixture_init(&fixture, &stream_engines[1]), 0);
    fault_reset();
    fault_arm(kinds[kind].kind, k, from_then_on);
    script_run();
    bool fired = fault_fired() > 0;
    fault_reset();
    const char *wrong = check();
    if (wrong != NULL)
        print_error("KVS_TEST_FAULT=\"%s %llu %s\": %s (%s)\n", kinds[kind].name,
                    (unsigned long long)k, from_then_on ? "on" : "once", wrong,
                    fixture.engine.message.text);
    *wrong_count += wrong != NULL;
    stream_fixture_deinit(&fixture);
    return fired;
}

static uint64_t hits_of(unsigned kind)
{
    assert_int_equal(stream_fixture_init(&fixture, &stream_engines[1]), 0);
    fault_reset();
    script_run();
    uint64_t hits = fault_hits(kinds[kind].kind);
    for (unsigned i = 0; i < WRITES; i++)
        assert_int_equal(writes[i].op.error, 0);
    assert_null(check());
    stream_fixture_deinit(&fixture);
    return hits;
}

static void test_kind(void **state)
{
    unsigned kind = *(unsigned *)*state;
    uint64_t hits = hits_of(kind);
    uint64_t stride = fault_stride(hits, RUNS_MAX);
    unsigned wrong = 0;
    for (unsigned on = 0; on < 2; on++) {
        unsigned runs = 0;
        unsigned fired = 0;
        for (uint64_t k = 1 + seed % stride; k <= hits; k += stride, runs++)
            fired += run_one(kind, k, on != 0, &wrong);
        printf("# %s %s: %llu hits, %u runs, %u failed at their point\n", kinds[kind].name,
               on ? "on" : "once", (unsigned long long)hits, runs, fired);
        assert_true(fired > 0);
    }
    assert_int_equal(wrong, 0);
}

static int repeat(const char *text)
{
    char name[16];
    char mode[8];
    unsigned long long k;
    unsigned wrong = 0;
    if (sscanf(text, "%15s %llu %7s", name, &k, mode) != 3)
        return 2;
    for (unsigned i = 0; i < KINDS; i++) {
        if (strcmp(kinds[i].name, name) == 0)
            run_one(i, k, strcmp(mode, "on") == 0, &wrong);
    }
    return wrong != 0;
}

int main(void)
{
    const char *text = getenv("KVS_TEST_FAULT");
    log_set_level(LOG_SILENT);
    fixtures_in_memory();
    for (unsigned i = 0; i < STREAMS; i++)
        snprintf(names[i], sizeof names[i], "stream-%u", i);
    if (text != NULL)
        return repeat(text);
    static unsigned numbers[KINDS];
    struct CMUnitTest tests[KINDS];
    for (unsigned i = 0; i < KINDS; i++) {
        numbers[i] = i;
        tests[i] = (struct CMUnitTest){kinds[i].name, test_kind, NULL, NULL, &numbers[i]};
    }
    seed = test_seed();
    return _cmocka_run_group_tests("fault-stream", tests, KINDS, NULL, NULL);
}
