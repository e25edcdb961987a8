/* tests/contract/engine_fixture.c: see engine_fixture.h. */
#include "contract/engine_fixture.h"

#include "base/mem.h"

#include <errno.h>
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

static int remove_entry(const char *path, const struct stat *status, int type, struct FTW *where)
{
    return remove(path);
}

void descriptor_path(int fd, char path[256])
{
    char link[64];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t size = readlink(link, path, 255);
    path[size > 0 ? size : 0] = '\0';
}

void directory_remove(const char *path)
{
    nftw(path, remove_entry, 16, FTW_DEPTH | FTW_PHYS);
}

static uint64_t summed_size; /* nftw has no argument */

static int add_size(const char *path, const struct stat *status, int type, struct FTW *where)
{
    if (type == FTW_F && S_ISREG(status->st_mode))
        summed_size += (uint64_t)status->st_size;
    return 0;
}

uint64_t directory_size(const char *path)
{
    summed_size = 0;
    nftw(path, add_size, 16, FTW_PHYS);
    return summed_size;
}

void fixtures_in_memory(void)
{
    if (access("/dev/shm", W_OK) == 0)
        setenv("TMPDIR", "/dev/shm", 0);
}

int fixture_init(struct fixture *fixture, const struct engine_kind *kind)
{
    *fixture = (struct fixture){.kind = kind};
    const char *temporary = getenv("TMPDIR");
    snprintf(fixture->root, sizeof fixture->root, "%.40s/kvs-engine-XXXXXX",
             temporary != NULL ? temporary : "/tmp");
    if (mkdtemp(fixture->root) == NULL)
        return KVS_ERR_IO;
    snprintf(fixture->directory, sizeof fixture->directory, "%s/data", fixture->root);
    if (mkdir(fixture->directory, 0755) != 0)
        return KVS_ERR_IO;
    int error = kvs_thread_pool_new(KVS_THREAD_POOL_SHARED_QUEUE, 4, &fixture->pool);
    if (error == 0)
        error = loop_init(&fixture->loop, 0);
    if (error == 0)
        error = loop_start(&fixture->loop, "test-loop");
    fixture->options = (struct engine_options){
        .pool = fixture->pool,
        .directory = fixture->directory,
        .sync = kind->sync,
        .callers_write = kind->callers_write,
        .segment_size_bytes = kind->segment_size_bytes,
        .cache_size_bytes = kind->cache_size_bytes,
        .cache_prefault = kind->cache_prefault,
    };
    return error;
}

int tests_end(int failed)
{
    fflush(NULL);
    if (failed != 0)
        _exit(1);
    return 0;
}

int fixture_open(struct fixture *fixture)
{
    return fixture->kind->open(&fixture->options, &fixture->engine, &fixture->message);
}

int fixture_close(struct fixture *fixture)
{
    int error = engine_close_blocking(fixture->engine);
    fixture->engine = NULL;
    return error;
}

void fixture_deinit(struct fixture *fixture)
{
    if (fixture->engine != NULL)
        fixture_close(fixture);
    loop_stop(&fixture->loop);
    loop_deinit(&fixture->loop);
    kvs_thread_pool_unref(fixture->pool);
    directory_remove(fixture->root);
}

bool fixture_can(const struct fixture *fixture, unsigned capabilities)
{
    return (fixture->engine->capabilities & capabilities) == capabilities;
}

void latch_init(struct latch *latch, unsigned count)
{
    pthread_mutex_init(&latch->lock, NULL);
    pthread_cond_init(&latch->zero, NULL);
    latch->count = count;
}

void latch_down(struct latch *latch)
{
    pthread_mutex_lock(&latch->lock);
    if (--latch->count == 0)
        pthread_cond_broadcast(&latch->zero);
    pthread_mutex_unlock(&latch->lock);
}

void latch_wait(struct latch *latch)
{
    pthread_mutex_lock(&latch->lock);
    while (latch->count > 0)
        pthread_cond_wait(&latch->zero, &latch->lock);
    pthread_mutex_unlock(&latch->lock);
}

void latch_deinit(struct latch *latch)
{
    pthread_cond_destroy(&latch->zero);
    pthread_mutex_destroy(&latch->lock);
}

static void pending_write_on_done(struct task *task)
{
    struct pending_write *pending = CONTAINER_OF(task, struct pending_write, write.op.task);
    pending->completed_on = pthread_self();
    latch_down(pending->latch);
}

void pending_write_init(struct pending_write *pending, struct latch *latch, struct loop *loop,
                        const kvs_mutation *mutations, uint32_t count)
{
    *pending = (struct pending_write){
        .write.op.task.run = pending_write_on_done,
        .write.op.loop = loop,
        .write.mutations = mutations,
        .write.mutations_count = count,
        .latch = latch,
    };
}

int write_wait(struct fixture *fixture, struct engine_write *write)
{
    struct latch latch;
    latch_init(&latch, 1);
    struct pending_write pending;
    pending_write_init(&pending, &latch, &fixture->loop, write->mutations, write->mutations_count);
    pending.write.conditions = write->conditions;
    pending.write.conditions_count = write->conditions_count;
    pending.write.flags = write->flags;
    engine_write(fixture->engine, &pending.write);
    latch_wait(&latch);
    latch_deinit(&latch);
    *write = pending.write;
    return write->op.error;
}

int batch_wait(struct fixture *fixture, const kvs_mutation *mutations, uint32_t count)
{
    struct engine_write write = {.mutations = mutations, .mutations_count = count};
    return write_wait(fixture, &write);
}

int set_wait(struct fixture *fixture, kvs_slice key, kvs_slice value)
{
    kvs_mutation mutation = mutation_set(key, value);
    return batch_wait(fixture, &mutation, 1);
}

int remove_wait(struct fixture *fixture, kvs_slice key, uint64_t *ret_removed)
{
    kvs_mutation mutation = mutation_remove(key);
    struct engine_write write = {.mutations = &mutation, .mutations_count = 1};
    int error = write_wait(fixture, &write);
    if (ret_removed != NULL)
        *ret_removed = write.removed_count;
    return error;
}

struct pending_control {
    struct engine_control control;
    struct latch latch;
};

static void pending_control_on_done(struct task *task)
{
    latch_down(&CONTAINER_OF(task, struct pending_control, control.op.task)->latch);
}

int control_wait(struct fixture *fixture, enum engine_control_kind kind, const char *path)
{
    struct pending_control pending = {
        .control.op.task.run = pending_control_on_done,
        .control.op.loop = &fixture->loop,
        .control.kind = kind,
        .control.path = path,
    };
    latch_init(&pending.latch, 1);
    engine_control(fixture->engine, &pending.control);
    latch_wait(&pending.latch);
    latch_deinit(&pending.latch);
    return pending.control.op.error;
}

int get_copy(struct fixture *fixture, unsigned family, kvs_slice key, struct buf *ret_value)
{
    *ret_value = BUF_INIT;
    struct engine_view view;
    int error = engine_view_begin(fixture->engine, NULL, true, &view);
    if (error != 0)
        return error;
    kvs_slice value;
    error = engine_get(&view, family, key, &value);
    if (error == 0)
        error = buf_append_slice(ret_value, value);
    engine_view_end(&view);
    return error;
}

uint64_t count_all(struct fixture *fixture, unsigned family)
{
    struct engine_view view;
    if (engine_view_begin(fixture->engine, NULL, true, &view) != 0)
        return UINT64_MAX;
    struct engine_range range = {.family = (uint8_t)family};
    uint64_t count;
    if (engine_count(&view, &range, &count) != 0)
        count = UINT64_MAX;
    engine_view_end(&view);
    return count;
}

static int pairs_add(void *arg, kvs_slice key, kvs_slice value)
{
    struct pairs *pairs = arg;
    if (pairs->count == pairs->room) {
        size_t room = pairs->room > 0 ? 2 * pairs->room : 16;
        void *list = mem_realloc(pairs->list, room * sizeof *pairs->list);
        if (list == NULL)
            return KVS_ERR_NO_MEMORY;
        pairs->list = list;
        pairs->room = room;
    }
    pairs->list[pairs->count].at = pairs->bytes.size;
    pairs->list[pairs->count].key_size = key.size;
    pairs->list[pairs->count].value_size = value.size;
    pairs->count++;
    int error = buf_append_slice(&pairs->bytes, key);
    return error != 0 ? error : buf_append_slice(&pairs->bytes, value);
}

int pairs_scan(struct engine_view *view, const struct engine_range *range, struct pairs *ret_pairs)
{
    *ret_pairs = (struct pairs){0};
    return engine_scan(view, range, pairs_add, ret_pairs);
}

kvs_slice pairs_key(const struct pairs *pairs, size_t i)
{
    return slice_make(pairs->bytes.data + pairs->list[i].at, pairs->list[i].key_size);
}

kvs_slice pairs_value(const struct pairs *pairs, size_t i)
{
    return slice_make(pairs->bytes.data + pairs->list[i].at + pairs->list[i].key_size,
                      pairs->list[i].value_size);
}

void pairs_deinit(struct pairs *pairs)
{
    buf_deinit(&pairs->bytes);
    mem_free(pairs->list);
}
