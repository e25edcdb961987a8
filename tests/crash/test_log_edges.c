/*
 * tests/crash/test_log_edges.c: the log engine where its limits meet: segments filled to the last
 * byte, caches smaller than a segment, files left half done, calls that fail or take long.
 *
 * The linker sends some of the engine's calls through here (--wrap), so that a test can hold one
 * up, have it fail, or count.
 */
#include "base/log.h"
#include "contract/engine_fixture.h"
#include "engine/file.h"
#include "engine/log/segment.h"
#include "test.h"

#include <fcntl.h>
#include <malloc.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define OK(call) assert_int_equal((call), 0)

#define SEGMENT_SIZE (64u * 1024)
#define PAGE 4096u

static const struct engine_kind kind = {.name = "log-edges",
                                        .directory = "kvs",
                                        .open = log_engine_open_blocking,
                                        .segment_size_bytes = SEGMENT_SIZE};

/* --- the wrapped calls ------------------------------------------------------------------------*/

#define BLOCKS_MAX 1024u

struct block {
    void *memory;
    uint32_t capacity;
};

static struct {
    pthread_mutex_t lock; /* guards the rest */
    pthread_cond_t changed;
    bool hold_writes, hold_syncs;
    bool hold_zeros;        /* syncs of what is prepared ahead of the log */
    unsigned writes_passed; /* tickets for writes that go on although they are held up */
    unsigned writes_held, syncs_held, zeros_held;
    unsigned writes;         /* done */
    unsigned syncs;          /* begun */
    unsigned writes_at_sync; /* done when the last sync began */
    int write_error, sync_error;
    int zeros_error; /* of writes of these */
    uint64_t memory, memory_max;
    struct block blocks[BLOCKS_MAX];
    char unlinked[64][32];
    unsigned unlinked_count;
} disk = {.lock = PTHREAD_MUTEX_INITIALIZER, .changed = PTHREAD_COND_INITIALIZER};

int __real_file_write(int fd, const void *data, size_t size, uint64_t offset);
int __real_file_sync(int fd);
int __real_file_unlink(const char *path);
int __wrap_file_write(int fd, const void *data, size_t size, uint64_t offset);
int __wrap_file_sync(int fd);
int __wrap_file_unlink(const char *path);
int __wrap_file_open_direct(const char *path, int *ret_fd);
uint8_t *__real_segment_memory_new(uint32_t capacity);
void __real_segment_memory_unref(void *memory);
uint8_t *__wrap_segment_memory_new(uint32_t capacity);
void __wrap_segment_memory_unref(void *memory);

/* Hints are written on the side: they are neither held up nor counted. */
static bool is_hint(int fd)
{
    char path[256];
    descriptor_path(fd, path);
    return strstr(path, ".hint") != NULL;
}

/* Space is prepared by a thread of a pool; hints and groups are written by others. */
static bool is_zeros(const void *data, size_t size)
{
    const uint8_t *bytes = data;
    return size > PAGE && bytes[0] == 0 && memcmp(bytes, bytes + 1, size - 1) == 0;
}

static bool is_pool_thread(void)
{
    char name[16] = "";
    pthread_getname_np(pthread_self(), name, sizeof name);
    return strcmp(name, "kvs-pool") == 0;
}

int __wrap_file_write(int fd, const void *data, size_t size, uint64_t offset)
{
    if (is_hint(fd))
        return __real_file_write(fd, data, size, offset);
    pthread_mutex_lock(&disk.lock);
    int zeros_error = is_pool_thread() && is_zeros(data, size) ? disk.zeros_error : 0;
    if (zeros_error != 0) {
        disk.zeros_held++;
        pthread_cond_broadcast(&disk.changed);
        pthread_mutex_unlock(&disk.lock);
        return zeros_error;
    }
    while (disk.hold_writes && disk.writes_passed == 0) {
        disk.writes_held = 1;
        pthread_cond_broadcast(&disk.changed);
        pthread_cond_wait(&disk.changed, &disk.lock);
    }
    disk.writes_held = 0;
    disk.writes_passed -= disk.writes_passed > 0;
    int error = disk.write_error;
    pthread_mutex_unlock(&disk.lock);
    if (error == 0)
        error = __real_file_write(fd, data, size, offset);
    pthread_mutex_lock(&disk.lock);
    disk.writes++;
    pthread_mutex_unlock(&disk.lock);
    return error;
}

int __wrap_file_sync(int fd)
{
    pthread_mutex_lock(&disk.lock);
    disk.syncs++;
    disk.writes_at_sync = disk.writes;
    disk.syncs_held += disk.hold_syncs;
    pthread_cond_broadcast(&disk.changed);
    while (disk.hold_syncs)
        pthread_cond_wait(&disk.changed, &disk.lock);
    disk.syncs_held = 0;
    bool zeros = disk.hold_zeros && is_pool_thread();
    disk.zeros_held += zeros;
    pthread_cond_broadcast(&disk.changed);
    while (zeros && disk.hold_zeros)
        pthread_cond_wait(&disk.changed, &disk.lock);
    int error = disk.sync_error;
    pthread_mutex_unlock(&disk.lock);
    return error != 0 ? error : __real_file_sync(fd);
}

int __wrap_file_unlink(const char *path)
{
    pthread_mutex_lock(&disk.lock);
    if (disk.unlinked_count < 64 && strstr(path, ".hint") == NULL)
        snprintf(disk.unlinked[disk.unlinked_count++], 32, "%s", strrchr(path, '/') + 1);
    pthread_mutex_unlock(&disk.lock);
    return __real_file_unlink(path);
}

int __wrap_file_open_direct(const char *path, int *ret_fd)
{
    return KVS_ERR_UNSUPPORTED; /* so that all writes and syncs come through the two above */
}

/* With a page behind it that must not be touched. */
uint8_t *__wrap_segment_memory_new(uint32_t capacity)
{
    size_t size = ((size_t)capacity + PAGE - 1) / PAGE * PAGE;
    uint8_t *memory = __real_segment_memory_new((uint32_t)(size + PAGE));
    if (memory == NULL)
        return NULL;
    mprotect(memory + size, PAGE, PROT_NONE);
    pthread_mutex_lock(&disk.lock);
    unsigned i = 0;
    while (i < BLOCKS_MAX && disk.blocks[i].memory != NULL)
        i++;
    assert_true(i < BLOCKS_MAX);
    disk.blocks[i] = (struct block){memory, capacity};
    disk.memory += capacity;
    if (disk.memory > disk.memory_max)
        disk.memory_max = disk.memory;
    pthread_mutex_unlock(&disk.lock);
    return memory;
}

/* The first call counts, which is the engine's own but where results hold it, too. */
void __wrap_segment_memory_unref(void *memory)
{
    pthread_mutex_lock(&disk.lock);
    for (unsigned i = 0; memory != NULL && i < BLOCKS_MAX; i++) {
        if (disk.blocks[i].memory != memory)
            continue;
        disk.memory -= disk.blocks[i].capacity;
        disk.blocks[i] = (struct block){0};
    }
    pthread_mutex_unlock(&disk.lock);
    __real_segment_memory_unref(memory);
}

/* Holds up all writes but the next `passing`. */
static void disk_hold_writes(unsigned passing)
{
    pthread_mutex_lock(&disk.lock);
    disk.hold_writes = true;
    disk.writes_passed = passing;
    pthread_mutex_unlock(&disk.lock);
}

/* Lets the write go that is held up, and holds up the next. */
static void disk_pass_write(void)
{
    pthread_mutex_lock(&disk.lock);
    disk.writes_passed++;
    pthread_cond_broadcast(&disk.changed);
    pthread_mutex_unlock(&disk.lock);
}

/* Begins or ends holding up. */
static void disk_set(bool *what, bool value)
{
    pthread_mutex_lock(&disk.lock);
    *what = value;
    pthread_cond_broadcast(&disk.changed);
    pthread_mutex_unlock(&disk.lock);
}

/* Waits until a call is held up, or counted; for `ms` at most, 0: however long it takes. */
static void disk_wait(const unsigned *number, unsigned until_number, unsigned ms)
{
    struct timespec until;
    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_nsec += (long)ms * 1000000;
    until.tv_sec += until.tv_nsec / 1000000000;
    until.tv_nsec %= 1000000000;
    int status = 0;
    pthread_mutex_lock(&disk.lock);
    while (*number < until_number && status == 0)
        status = ms == 0 ? pthread_cond_wait(&disk.changed, &disk.lock)
                         : pthread_cond_timedwait(&disk.changed, &disk.lock, &until);
    pthread_mutex_unlock(&disk.lock);
}

static uint64_t disk_memory_max(void)
{
    pthread_mutex_lock(&disk.lock);
    uint64_t most = disk.memory_max;
    pthread_mutex_unlock(&disk.lock);
    return most;
}

/* Writes of zeros end so, from now on; they are counted anew. */
static void disk_fail_zeros(int error)
{
    pthread_mutex_lock(&disk.lock);
    disk.zeros_error = error;
    disk.zeros_held = 0;
    pthread_mutex_unlock(&disk.lock);
}

static unsigned disk_number(const unsigned *what)
{
    pthread_mutex_lock(&disk.lock);
    unsigned number = *what;
    pthread_mutex_unlock(&disk.lock);
    return number;
}

/* --- helpers ----------------------------------------------------------------------------------*/

static void begin(struct fixture *fixture, enum kvs_sync sync, uint64_t cache_size)
{
    OK(fixture_init(fixture, &kind));
    fixture->options.sync = sync;
    fixture->options.sync_interval_ms = 3600 * 1000; /* by request only */
    fixture->options.cache_size_bytes = cache_size;
    OK(fixture_open(fixture));
}

static void open_again(struct fixture *fixture)
{
    int error = fixture_open(fixture);
    if (error != 0) {
        fixture->engine = NULL;
        fail_msg("%s: %s", kvs_error_name(error), fixture->message.text);
    }
}

static kvs_slice key_of(char text[32], unsigned i)
{
    snprintf(text, 32, "key %06u", i);
    return slice_of_string(text);
}

#define VALUE_SIZE 1000

static void set_keys(struct fixture *fixture, unsigned first, unsigned last)
{
    uint8_t value[VALUE_SIZE];
    for (unsigned i = first; i < last; i++) {
        char text[32];
        memset(value, (int)(i % 251), sizeof value);
        OK(set_wait(fixture, key_of(text, i), slice_make(value, sizeof value)));
    }
}

static bool key_is_there(struct fixture *fixture, unsigned i)
{
    char text[32];
    uint8_t expected[VALUE_SIZE];
    struct buf value;
    memset(expected, (int)(i % 251), sizeof expected);
    int error = get_copy(fixture, 0, key_of(text, i), &value);
    bool there = error == 0 && slice_equal(buf_slice(&value), slice_make(expected, VALUE_SIZE));
    buf_deinit(&value);
    return there;
}

static void check_keys(struct fixture *fixture, unsigned first, unsigned last)
{
    for (unsigned i = first; i < last; i++) {
        if (!key_is_there(fixture, i))
            fail_msg("key %u is not there", i);
    }
}

/* Gives a fault the time to show. */
static void pause_ms(unsigned ms)
{
    struct timespec pause = {.tv_nsec = (long)ms * 1000000};
    nanosleep(&pause, NULL);
}

static struct engine_stats stats_of(struct fixture *fixture)
{
    struct engine_stats stats;
    engine_stats(fixture->engine, &stats);
    return stats;
}

static void file_path(const struct fixture *fixture, unsigned number, char out[128])
{
    snprintf(out, 128, "%s/%010u.seg", fixture->directory, number);
}

static uint64_t file_size_of(const struct fixture *fixture, unsigned number)
{
    char path[128];
    struct stat status;
    file_path(fixture, number, path);
    OK(stat(path, &status));
    return (uint64_t)status.st_size;
}

static unsigned files_count(const struct fixture *fixture)
{
    unsigned count = 0;
    for (unsigned number = 1; number < 200; number++) {
        char path[128];
        file_path(fixture, number, path);
        count += access(path, F_OK) == 0;
    }
    return count;
}

static void file_cut(const struct fixture *fixture, unsigned number, uint64_t size)
{
    char path[128];
    file_path(fixture, number, path);
    OK(truncate(path, (off_t)size));
}

static void file_append(const struct fixture *fixture, unsigned number, const void *data,
                        size_t size)
{
    char path[128];
    file_path(fixture, number, path);
    int fd = open(path, O_WRONLY | O_APPEND);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, data, size), size);
    close(fd);
}

struct pending_control {
    struct engine_control control;
    struct latch latch;
};

static void pending_control_on_done(struct task *task)
{
    latch_down(&CONTAINER_OF(task, struct pending_control, control.op.task)->latch);
}

static void control_begin(struct fixture *fixture, struct pending_control *pending,
                          enum engine_control_kind control)
{
    *pending = (struct pending_control){.control.op.task.run = pending_control_on_done,
                                        .control.op.loop = &fixture->loop,
                                        .control.kind = control};
    latch_init(&pending->latch, 1);
    engine_control(fixture->engine, &pending->control);
}

static int control_end(struct pending_control *pending)
{
    latch_wait(&pending->latch);
    latch_deinit(&pending->latch);
    return pending->control.op.error;
}

/* --- start-up ---------------------------------------------------------------------------------*/

/* A crash between beginning a segment and sealing the one before, with hardly any cache. */
static void test_cut_before_the_last_segment(void **state)
{
    struct fixture fixture;
    begin(&fixture, KVS_SYNC_ALWAYS, 1);
    set_keys(&fixture, 0, 200);
    uint64_t segments = stats_of(&fixture).segments;
    assert_true(segments >= 3);
    OK(fixture_close(&fixture));
    unsigned last = (unsigned)segments;
    file_cut(&fixture, last, SEGMENT_HEADER_SIZE);
    file_cut(&fixture, last - 1, file_size_of(&fixture, last - 1) - RECORD_SEAL_SIZE);
    open_again(&fixture);
    uint64_t keys = stats_of(&fixture).keys;
    assert_true(keys > 100 && keys < 200);
    set_keys(&fixture, (unsigned)keys, 300);
    OK(fixture_close(&fixture));
    open_again(&fixture);
    check_keys(&fixture, 0, 300);
    fixture_deinit(&fixture);
}

/* What does not fit into the cache does not stay in memory while the rest is read. */
static void test_opening_keeps_to_the_cache(void **state)
{
    struct fixture fixture;
    begin(&fixture, KVS_SYNC_ALWAYS, 1);
    set_keys(&fixture, 0, 1500);
    assert_true(stats_of(&fixture).segments >= 20);
    OK(fixture_close(&fixture));
    assert_int_equal(disk.memory, 0);
    disk.memory_max = 0;
    open_again(&fixture);
    assert_true(disk_memory_max() <= 3 * SEGMENT_SIZE);
    check_keys(&fixture, 0, 1500);
    /* Also of segments that are only looked at for marks. */
    OK(fixture_close(&fixture));
    file_cut(&fixture, 2, SEGMENT_SIZE / 2);
    disk.memory_max = 0;
    assert_int_equal(fixture_open(&fixture), KVS_ERR_CORRUPTION);
    fixture.engine = NULL;
    assert_true(disk_memory_max() <= 3 * SEGMENT_SIZE);
    fixture_deinit(&fixture);
}

/* A log whose newest segment ends with a block has no room for a seal left in it. */
static void test_seal_behind_a_full_block(void **state)
{
    struct fixture fixture;
    begin(&fixture, KVS_SYNC_NEVER, 0);
    uint8_t value[4043] = {1}; /* with header, key and the segment's header: a block */
    OK(set_wait(&fixture, S("k"), slice_make(value, sizeof value)));
    OK(fixture_close(&fixture));
    assert_int_equal(file_size_of(&fixture, 1), 4096);
    fixture.options.segment_size_bytes = SEGMENT_SIZE_MIN;
    open_again(&fixture);
    set_keys(&fixture, 0, 20);
    OK(fixture_close(&fixture));
    open_again(&fixture);
    check_keys(&fixture, 0, 20);
    fixture_deinit(&fixture);
}

/* Nothing may be appended behind a seal: nobody would read it. */
static void test_garbage_behind_a_seal(void **state)
{
    struct fixture fixture;
    begin(&fixture, KVS_SYNC_ALWAYS, 0);
    set_keys(&fixture, 0, 100);
    OK(fixture_close(&fixture));
    char path[128];
    file_path(&fixture, 2, path);
    OK(unlink(path));
    file_append(&fixture, 1, "garbage!", 8);
    open_again(&fixture);
    assert_true(fixture.message.text[0] != '\0' || stats_of(&fixture).keys > 0);
    set_keys(&fixture, 100, 110);
    OK(fixture_close(&fixture));
    open_again(&fixture);
    check_keys(&fixture, 0, 10);
    check_keys(&fixture, 100, 110);
    fixture_deinit(&fixture);
}

/* The files as a kill would leave them now, ... */
static void files_keep(const struct fixture *fixture)
{
    char command[512];
    snprintf(command, sizeof command, "cp -a '%s' '%s.kept'", fixture->directory,
             fixture->directory);
    OK(system(command));
}

/* ... in the place of those that are there. */
static void files_put_back(const struct fixture *fixture)
{
    char command[512];
    snprintf(command, sizeof command, "rm -rf '%s' && mv '%s.kept' '%s'", fixture->directory,
             fixture->directory, fixture->directory);
    OK(system(command));
}

/* Cut from the end on: were the first one removed first, a crash in the middle would leave a hole
 * that passes for compacted segments. */
static void test_cut_begins_at_the_end(void **state)
{
    struct fixture fixture;
    begin(&fixture, KVS_SYNC_NEVER, 0);
    disk_set(&disk.hold_syncs, true); /* so that no mark says that anything was */
    set_keys(&fixture, 0, 300);
    files_keep(&fixture);
    disk_set(&disk.hold_syncs, false);
    OK(fixture_close(&fixture));
    files_put_back(&fixture);
    unsigned files = files_count(&fixture);
    assert_true(files >= 4);
    file_cut(&fixture, 2, 10); /* not even a header */
    disk.unlinked_count = 0;
    int error = fixture_open(&fixture);
    if (error != 0) /* marks say that it was on the disk */
        fixture.engine = NULL;
    assert_int_equal(error, 0);
    assert_int_equal(disk.unlinked_count, files - 1);
    for (unsigned i = 1; i < disk.unlinked_count; i++)
        assert_true(strcmp(disk.unlinked[i - 1], disk.unlinked[i]) > 0);
    fixture_deinit(&fixture);
}

/* Sequence numbers that no writer gives. */
static void test_sequence_numbers_out_of_range(void **state)
{
    const uint64_t numbers[] = {0, UINT64_MAX, UINT64_MAX - 1, UINT64_C(1) << 63};
    for (unsigned i = 0; i < sizeof numbers / sizeof numbers[0]; i++) {
        struct fixture fixture;
        begin(&fixture, KVS_SYNC_NEVER, 0);
        OK(fixture_close(&fixture));
        uint8_t bytes[32];
        struct record record = {
            .kind = RECORD_SET, .sequence = numbers[i], .key = S("k"), .value = S("v")};
        record_encode(bytes, 1, &record);
        file_append(&fixture, 1, bytes, record_size(1, 1, false));
        open_again(&fixture);
        struct engine_snapshot *snapshot;
        OK(engine_snapshot_take(fixture.engine, &snapshot));
        uint64_t before = stats_of(&fixture).keys;
        set_keys(&fixture, 0, 100);
        struct engine_view view;
        uint64_t count;
        OK(engine_view_begin(fixture.engine, snapshot, true, &view));
        OK(engine_count(&view, &(struct engine_range){.start = S("a")}, &count));
        engine_view_end(&view);
        assert_int_equal(count, before);
        engine_snapshot_release(fixture.engine, snapshot);
        OK(fixture_close(&fixture));
        open_again(&fixture);
        check_keys(&fixture, 0, 100);
        fixture_deinit(&fixture);
    }
}

/* A name that has no room for the files' names is refused, not shortened. */
static void test_long_directory(void **state)
{
    struct fixture fixture;
    OK(fixture_init(&fixture, &kind));
    char path[PAGE];
    size_t size = (size_t)snprintf(path, sizeof path, "%s", fixture.root);
    while (size < 4085) {
        size_t more = 4085 - size < 202 ? 4085 - size : 200;
        path[size++] = '/';
        memset(path + size, 'd', more - 1);
        size += more - 1;
        path[size] = '\0';
        OK(mkdir(path, 0755));
    }
    fixture.options.directory = path;
    assert_int_equal(fixture_open(&fixture), KVS_ERR_INVALID_ARGUMENT);
    assert_true(fixture.message.text[0] != '\0');
    fixture.engine = NULL;
    fixture_deinit(&fixture);
}

/* --- syncs ------------------------------------------------------------------------------------*/

/* A background sync that begins while the writer has a group in the making does not vouch for it:
 * the group may be written after the sync. */
static void test_sync_during_a_group(void **state)
{
    struct fixture fixture;
    begin(&fixture, KVS_SYNC_INTERVAL, 0);
    OK(set_wait(&fixture, S("a"), S("1")));
    struct pending_control first, second;
    disk_set(&disk.hold_syncs, true);
    control_begin(&fixture, &first, ENGINE_CONTROL_SYNC);
    disk_wait(&disk.syncs_held, 1, 0);
    control_begin(&fixture, &second, ENGINE_CONTROL_SYNC); /* waits for the first */

    /* While the writer writes b, c arrives and the first sync comes back. */
    disk_hold_writes(0);
    struct latch latch;
    latch_init(&latch, 2);
    const kvs_mutation b = mutation_set(S("b"), S("2"));
    const kvs_mutation c = mutation_set(S("c"), S("3"));
    struct pending_write writes[2];
    pending_write_init(&writes[0], &latch, &fixture.loop, &b, 1);
    pending_write_init(&writes[1], &latch, &fixture.loop, &c, 1);
    engine_write(fixture.engine, &writes[0].write);
    disk_wait(&disk.writes_held, 1, 0);
    engine_write(fixture.engine, &writes[1].write);
    unsigned syncs = disk_number(&disk.syncs);
    disk_set(&disk.hold_syncs, false);
    pause_ms(20); /* it is on its way to the writer */

    /* c stays unwritten until the second sync has begun, if it does so without c. */
    disk_pass_write();
    disk_wait(&disk.syncs, syncs + 1, 100);
    disk_set(&disk.hold_writes, false);
    OK(control_end(&first));
    OK(control_end(&second));
    latch_wait(&latch);
    latch_deinit(&latch);
    OK(writes[0].write.op.error);
    OK(writes[1].write.op.error);
    OK(control_wait(&fixture, ENGINE_CONTROL_SYNC, NULL));
    assert_int_equal(disk_number(&disk.writes_at_sync), disk_number(&disk.writes));
    fixture_deinit(&fixture);
}

/* Only what is on the disk is compacted, so something has to bring it there. */
static void test_never_synced_is_compacted(void **state)
{
    struct fixture fixture;
    begin(&fixture, KVS_SYNC_NEVER, 0);
    for (unsigned round = 0; round < 300 && stats_of(&fixture).compactions == 0; round++)
        set_keys(&fixture, 0, 50);
    assert_true(stats_of(&fixture).compactions > 0);
    check_keys(&fixture, 0, 50);
    fixture_deinit(&fixture);
}

/* With --sync=always the writer passes zeros whose sync takes long, and begins the next segment. */
static void test_sync_of_zeros_takes_long(void **state)
{
    struct fixture fixture;
    begin(&fixture, KVS_SYNC_ALWAYS, 0);
    disk_set(&disk.hold_zeros, true);
    set_keys(&fixture, 0, 1);
    disk_wait(&disk.zeros_held, 1, 0);
    set_keys(&fixture, 1, 200); /* three segments */
    check_keys(&fixture, 0, 200);
    assert_true(stats_of(&fixture).segments > 2);
    disk_set(&disk.hold_zeros, false);
    disk_fail_zeros(0);
    set_keys(&fixture, 200, 300);
    OK(fixture_close(&fixture));
    open_again(&fixture);
    check_keys(&fixture, 0, 300);
    fixture_deinit(&fixture);
}

/* There is no room for zeros: nobody else hears of it. */
static void test_zeros_without_space(void **state)
{
    struct fixture fixture;
    begin(&fixture, KVS_SYNC_ALWAYS, 0);
    disk_fail_zeros(KVS_ERR_NO_SPACE);
    set_keys(&fixture, 0, 1);
    disk_wait(&disk.zeros_held, 1, 0);
    set_keys(&fixture, 1, 200);
    disk_fail_zeros(0);
    set_keys(&fixture, 200, 300);
    OK(fixture_close(&fixture));
    open_again(&fixture);
    check_keys(&fixture, 0, 300);
    fixture_deinit(&fixture);
}

/* A failed engine writes nothing more, by no way. */
static void test_no_roll_after_a_failure(void **state)
{
    struct fixture fixture;
    begin(&fixture, KVS_SYNC_INTERVAL, 0);
    for (unsigned round = 0; round < 5; round++)
        set_keys(&fixture, 0, 10);
    disk.sync_error = KVS_ERR_IO;
    assert_int_equal(control_wait(&fixture, ENGINE_CONTROL_SYNC, NULL), KVS_ERR_IO);
    disk.sync_error = 0;
    unsigned writes = disk_number(&disk.writes);
    assert_int_equal(control_wait(&fixture, ENGINE_CONTROL_COMPACT, NULL), KVS_ERR_STORAGE_FAILED);
    assert_int_equal(set_wait(&fixture, S("k"), S("v")), KVS_ERR_STORAGE_FAILED);
    assert_int_equal(disk_number(&disk.writes), writes);
    check_keys(&fixture, 0, 10);
    assert_int_equal(fixture_close(&fixture), KVS_ERR_STORAGE_FAILED);
    fixture_deinit(&fixture);
}

/* --- the pool ---------------------------------------------------------------------------------*/

static void pool_of_one(struct fixture *fixture)
{
    kvs_thread_pool_unref(fixture->pool);
    OK(kvs_thread_pool_new(KVS_THREAD_POOL_SHARED_QUEUE, 1, &fixture->pool));
    fixture->options.pool = fixture->pool;
}

struct busy {
    struct fixture *fixture;
    struct latch latch;
    int error;
};

static void busy_job(void *arg)
{
    struct busy *busy = arg;
    static uint8_t value[16 * 1024];
    for (unsigned i = 0; i < 64 && busy->error == 0; i++)
        busy->error = set_wait(busy->fixture, S("k"), slice_make(value, sizeof value));
    latch_down(&busy->latch);
}

/* A job of the engine's own pool may wait for writes: the writer must not wait for the pool. */
static void test_writes_from_the_only_pool_thread(void **state)
{
    struct fixture fixture;
    OK(fixture_init(&fixture, &kind));
    pool_of_one(&fixture);
    fixture.options.segment_size_bytes = 4 * 1024 * 1024;
    OK(fixture_open(&fixture));
    struct busy busy = {.fixture = &fixture};
    latch_init(&busy.latch, 1);
    OK(kvs_thread_pool_submit(fixture.pool, busy_job, &busy));
    latch_wait(&busy.latch);
    OK(busy.error);
    latch_deinit(&busy.latch);
    fixture_deinit(&fixture);
}

/* --- compaction and memory --------------------------------------------------------------------*/

/* What has expired leaves the index with its segment, also when nothing else is written. */
static void test_expired_leave_the_index(void **state)
{
    struct fixture fixture;
    begin(&fixture, KVS_SYNC_ALWAYS, 0);
    static uint8_t value[VALUE_SIZE];
    for (unsigned i = 0; i < 300; i++) {
        char text[32];
        kvs_mutation mutation = mutation_set(key_of(text, i), slice_make(value, sizeof value));
        mutation.ttl_ms = 1;
        OK(batch_wait(&fixture, &mutation, 1));
    }
    usleep(3000);
    OK(control_wait(&fixture, ENGINE_CONTROL_COMPACT, NULL));
    OK(control_wait(&fixture, ENGINE_CONTROL_COMPACT, NULL));
    assert_true(stats_of(&fixture).keys < 70); /* the newest segment's */
    set_keys(&fixture, 0, 10);
    check_keys(&fixture, 0, 10);
    assert_int_equal(count_all(&fixture, 0), 10);
    fixture_deinit(&fixture);
}

/* A compaction that is asked for while an earlier sync is under way waits for one that covers what
 * it has to empty. */
static void test_compaction_during_a_sync(void **state)
{
    struct fixture fixture;
    begin(&fixture, KVS_SYNC_INTERVAL, 0);
    set_keys(&fixture, 0, 50);
    struct pending_control sync, compact;
    disk_set(&disk.hold_syncs, true);
    control_begin(&fixture, &sync, ENGINE_CONTROL_SYNC);
    disk_wait(&disk.syncs_held, 1, 0);
    set_keys(&fixture, 0, 50); /* behind what is synced now: half is garbage */
    control_begin(&fixture, &compact, ENGINE_CONTROL_COMPACT);
    set_keys(&fixture, 50, 51); /* the writer has seen the request */
    disk_set(&disk.hold_syncs, false);
    OK(control_end(&sync));
    OK(control_end(&compact));
    assert_true(stats_of(&fixture).compactions > 0);
    check_keys(&fixture, 0, 51);
    fixture_deinit(&fixture);
}

/* Segments that are kept for snapshots only do not eat up the cache. */
static void test_snapshots_pin_no_memory(void **state)
{
    struct fixture fixture;
    begin(&fixture, KVS_SYNC_ALWAYS, 4 * SEGMENT_SIZE);
    struct engine_snapshot *snapshots[8];
    for (unsigned round = 0; round < 8; round++) {
        set_keys(&fixture, round * 100, round * 100 + 100);
        OK(engine_snapshot_take(fixture.engine, &snapshots[round]));
        const kvs_mutation all = mutation_remove_range(S(""), S(""));
        OK(batch_wait(&fixture, &all, 1));
        OK(control_wait(&fixture, ENGINE_CONTROL_COMPACT, NULL));
        OK(control_wait(&fixture, ENGINE_CONTROL_COMPACT, NULL));
    }
    assert_true(stats_of(&fixture).segments < 4);
    assert_true(stats_of(&fixture).cache_bytes <= 3 * SEGMENT_SIZE);
    for (unsigned round = 0; round < 8; round++) {
        struct engine_view view;
        OK(engine_view_begin(fixture.engine, snapshots[round], true, &view));
        for (unsigned i = round * 100; i < round * 100 + 100; i++) {
            char text[32];
            kvs_slice value;
            OK(engine_get(&view, 0, key_of(text, i), &value));
            assert_int_equal(value.data[VALUE_SIZE - 1], i % 251);
        }
        engine_view_end(&view);
        engine_snapshot_release(fixture.engine, snapshots[round]);
    }
    fixture_deinit(&fixture);
}

static const uint8_t *value_address(struct fixture *fixture, unsigned i, struct engine_view *view)
{
    char text[32];
    kvs_slice value;
    OK(engine_view_begin(fixture->engine, NULL, true, view));
    OK(engine_get(view, 0, key_of(text, i), &value));
    return value.data;
}

/* A reader may have found the copy of a record whose move then fails for lack of space. And space
 * that comes back is made use of. */
static void test_move_without_space(void **state)
{
    struct fixture fixture;
    begin(&fixture, KVS_SYNC_INTERVAL, 0);
    set_keys(&fixture, 0, 50);
    set_keys(&fixture, 0, 14); /* of which the newest segment has a few */
    struct engine_view view;
    const uint8_t *before = value_address(&fixture, 49, &view);
    engine_view_end(&view);
    struct pending_control compact;
    disk_hold_writes(0); /* the newest segment is left as it is: the first is the move */
    control_begin(&fixture, &compact, ENGINE_CONTROL_COMPACT);
    disk_wait(&disk.writes_held, 1, 0);
    const uint8_t *value = value_address(&fixture, 49, &view);
    assert_ptr_not_equal(value, before);
    uint8_t expected[VALUE_SIZE];
    memset(expected, 49, sizeof expected);
    assert_memory_equal(value, expected, VALUE_SIZE);
    disk.write_error = KVS_ERR_NO_SPACE;
    disk_set(&disk.hold_writes, false);
    pause_ms(50); /* time to undo it */
    assert_memory_equal(value, expected, VALUE_SIZE);
    engine_view_end(&view);
    assert_int_equal(control_end(&compact), KVS_ERR_NO_SPACE);
    disk.write_error = 0;
    check_keys(&fixture, 0, 50);
    uint64_t compactions = stats_of(&fixture).compactions;
    OK(control_wait(&fixture, ENGINE_CONTROL_COMPACT, NULL));
    assert_true(stats_of(&fixture).compactions > compactions);
    check_keys(&fixture, 0, 50);
    OK(fixture_close(&fixture));
    open_again(&fixture);
    check_keys(&fixture, 0, 50);
    fixture_deinit(&fixture);
}

struct lent {
    struct engine_pins pins;
    unsigned lasting;
    unsigned passing;
    kvs_slice values[50]; /* of those that last */
};

static int lent_each(void *arg, kvs_slice key, kvs_slice value)
{
    struct lent *lent = arg;
    (void)key;
    if (lent->pins.lasting)
        lent->values[lent->lasting++] = value;
    else
        lent->passing++;
    return 0;
}

static void lend_all(struct fixture *fixture, struct lent *lent)
{
    struct engine_range range = {.pins = &lent->pins};
    struct engine_view view;
    *lent = (struct lent){0};
    OK(engine_view_begin(fixture->engine, NULL, true, &view));
    OK(engine_scan(&view, &range, lent_each, lent));
    engine_view_end(&view);
}

/* What compaction has copied, and may undo, is not lent; all else is, and stays as it is. */
static void test_undone_moves_are_not_lent(void **state)
{
    struct fixture fixture;
    begin(&fixture, KVS_SYNC_INTERVAL, 64 * SEGMENT_SIZE);
    set_keys(&fixture, 0, 50);
    set_keys(&fixture, 0, 14);
    struct lent before, during, after;
    lend_all(&fixture, &before);
    assert_int_equal(before.lasting, 50);
    struct pending_control compact;
    disk_hold_writes(0);
    control_begin(&fixture, &compact, ENGINE_CONTROL_COMPACT);
    disk_wait(&disk.writes_held, 1, 0);
    lend_all(&fixture, &during);
    assert_int_equal(during.lasting + during.passing, 50);
    assert_true(during.passing > 0);
    assert_true(during.lasting > 0);
    disk.write_error = KVS_ERR_NO_SPACE;
    disk_set(&disk.hold_writes, false);
    assert_int_equal(control_end(&compact), KVS_ERR_NO_SPACE);
    disk.write_error = 0;
    OK(control_wait(&fixture, ENGINE_CONTROL_COMPACT, NULL)); /* uses that place anew */
    lend_all(&fixture, &after);
    assert_int_equal(after.lasting, 50);
    fixture_deinit(&fixture); /* they outlive the engine */
    for (unsigned i = 0; i < 50; i++) {
        uint8_t expected[VALUE_SIZE];
        memset(expected, (int)i, sizeof expected);
        assert_memory_equal(before.values[i].data, expected, VALUE_SIZE);
        assert_memory_equal(after.values[i].data, expected, VALUE_SIZE);
    }
    for (unsigned i = 0; i < during.lasting; i++)
        assert_int_equal(during.values[i].data[0], during.values[i].data[VALUE_SIZE - 1]);
    engine_pins_release(&before.pins);
    engine_pins_release(&during.pins);
    engine_pins_release(&after.pins);
}

#ifndef __SANITIZE_ADDRESS__
/* The index of long keys is given back when the engine closes. (Sanitizers see it for
 * themselves.) */
static void test_long_keys_are_freed(void **state)
{
    struct fixture fixture;
    begin(&fixture, KVS_SYNC_NEVER, 0);
    OK(fixture_close(&fixture));
    static char key[8192];
    memset(key, 'k', sizeof key);
    size_t used = 0;
    for (unsigned round = 0; round < 3; round++) {
        open_again(&fixture);
        for (unsigned i = 0; i < 500; i++) {
            snprintf(key, 16, "%015u", i);
            OK(set_wait(&fixture, slice_make(key, sizeof key), S("v")));
        }
        OK(fixture_close(&fixture));
        size_t now = mallinfo2().uordblks + mallinfo2().hblkhd;
        if (round == 0)
            used = now;
        else
            assert_true(now < used + 1000000);
    }
    fixture_deinit(&fixture);
}
#endif

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_cut_before_the_last_segment),
        cmocka_unit_test(test_opening_keeps_to_the_cache),
        cmocka_unit_test(test_seal_behind_a_full_block),
        cmocka_unit_test(test_garbage_behind_a_seal),
        cmocka_unit_test(test_cut_begins_at_the_end),
        cmocka_unit_test(test_sequence_numbers_out_of_range),
        cmocka_unit_test(test_long_directory),
        cmocka_unit_test(test_sync_during_a_group),
        cmocka_unit_test(test_never_synced_is_compacted),
        cmocka_unit_test(test_sync_of_zeros_takes_long),
        cmocka_unit_test(test_zeros_without_space),
        cmocka_unit_test(test_no_roll_after_a_failure),
        cmocka_unit_test(test_writes_from_the_only_pool_thread),
        cmocka_unit_test(test_expired_leave_the_index),
        cmocka_unit_test(test_compaction_during_a_sync),
        cmocka_unit_test(test_snapshots_pin_no_memory),
        cmocka_unit_test(test_move_without_space),
        cmocka_unit_test(test_undone_moves_are_not_lent),
#ifndef __SANITIZE_ADDRESS__
        cmocka_unit_test(test_long_keys_are_freed),
#endif
    };
    fixtures_in_memory();
    log_set_level(LOG_SILENT);
    if (argc > 1)
        cmocka_set_test_filter(argv[1]);
    return tests_end(cmocka_run_group_tests(tests, NULL, NULL));
}
