/* engine/ring_read.c: see ring_read.h. */
#include "engine/ring_read.h"

#include "base/fault.h"
#include "base/log.h"
#include "base/mem.h"
#include "engine/pool_read.h"
#include "runtime/thread.h"

#include <liburing.h>
#include <stdio.h>
#include <sys/eventfd.h>
#include <unistd.h>

#define SLOTS 64u
#define STEPS_MAX 64u                /* of one read; each fetches one record */
#define FETCH_SIZE_MAX (256u * 1024) /* larger ones are the pool's: they hold nobody up there */

struct slot {
    struct engine_read *read; /* NULL: free */
    struct engine_view view;
    uint8_t *buffer;
    uint32_t room;
    unsigned steps;
};

struct ring_reads {
    struct engine *engine;
    kvs_thread_pool *pool;
    struct io_uring ring;
    pthread_t thread;
    int event_fd;
    uint64_t event_count; /* where the ring reads the event to */
    bool event_armed;
    struct slot slots[SLOTS];
    unsigned slots_used;
    struct task_list waiting; /* taken from the queue, no slot yet */
    struct completions done;

    pthread_mutex_t lock; /* guards what follows */
    struct task_list queue;
    bool asleep;
    bool stop;
};

/* Stands in engine_read.state: a link of the queue. */
static struct engine_read *read_of(struct task *task)
{
    return (struct engine_read *)(void *)((char *)task - offsetof(struct engine_read, state));
}

static void wake(struct ring_reads *ring)
{
    const uint64_t one = 1;
    ssize_t wrote = write(ring->event_fd, &one, sizeof one);
    (void)wrote; /* it fails only when the counter is full: then it is awake */
}

void ring_read_submit(struct ring_reads *ring, struct engine_read *read)
{
    struct task *link = (struct task *)(void *)read->state;
    _Static_assert(sizeof *link <= sizeof read->state, "state is large enough");
    pthread_mutex_lock(&ring->lock);
    task_list_push(&ring->queue, link);
    bool was_asleep = ring->asleep;
    ring->asleep = false;
    pthread_mutex_unlock(&ring->lock);
    if (was_asleep)
        wake(ring);
}

/* --- one read --------------------------------------------------------------------------------- */

static void slot_end(struct ring_reads *ring, struct slot *slot)
{
    engine_view_end(&slot->view);
    slot->read = NULL;
    ring->slots_used--;
}

static bool buffer_reserve(struct slot *slot, uint32_t size)
{
    if (size <= slot->room)
        return true;
    uint8_t *buffer = size <= FETCH_SIZE_MAX ? mem_alloc(size) : NULL;
    if (buffer == NULL)
        return false;
    mem_free(slot->buffer);
    slot->buffer = buffer;
    slot->room = size;
    return true;
}

/* Has the ring fetch what the read wants; false when it cannot. */
static bool slot_fetch(struct ring_reads *ring, struct slot *slot)
{
    const struct engine_fetch *fetch = &slot->view.fetch;
    if (fetch->size == 0 || slot->steps++ == STEPS_MAX || !buffer_reserve(slot, fetch->size))
        return false;
    struct io_uring_sqe *sqe = io_uring_get_sqe(&ring->ring);
    if (sqe == NULL)
        return false;
    io_uring_prep_read(sqe, fetch->fd, slot->buffer, fetch->size, fetch->offset);
    io_uring_sqe_set_data(sqe, slot);
    return true;
}

/* Runs the read as far as it goes without waiting. */
static void slot_step(struct ring_reads *ring, struct slot *slot)
{
    struct engine_read *read = slot->read;
    int error = read->run(read, &slot->view);
    if (error == ENGINE_WOULD_BLOCK && slot_fetch(ring, slot))
        return;
    slot_end(ring, slot);
    if (error == ENGINE_WOULD_BLOCK)
        pool_read_submit(ring->pool, ring->engine, read);
    else
        completions_add(&ring->done, &read->op, error);
}

static void slot_begin(struct ring_reads *ring, struct engine_read *read)
{
    struct slot *slot = ring->slots;
    while (slot->read != NULL)
        slot++;
    slot->steps = 0;
    int error = engine_view_begin(ring->engine, read->snapshot, false, &slot->view);
    if (error != 0) {
        completions_add(&ring->done, &read->op, error);
        return;
    }
    slot->read = read;
    ring->slots_used++;
    slot_step(ring, slot);
}

static void slot_on_fetched(struct ring_reads *ring, struct slot *slot, int result)
{
    struct engine_read *read = slot->read;
    if (result == (int)slot->view.fetch.size && !fault_hit(FAULT_FILE_READ)) {
        slot->view.fetch.data = slot->buffer;
        slot_step(ring, slot);
        return;
    }
    slot_end(ring, slot); /* the pool will find out */
    pool_read_submit(ring->pool, ring->engine, read);
}

/* --- the thread ------------------------------------------------------------------------------- */

static void event_arm(struct ring_reads *ring)
{
    struct io_uring_sqe *sqe = ring->event_armed ? NULL : io_uring_get_sqe(&ring->ring);
    if (sqe == NULL)
        return;
    io_uring_prep_read(sqe, ring->event_fd, &ring->event_count, sizeof ring->event_count, 0);
    io_uring_sqe_set_data(sqe, NULL);
    ring->event_armed = true;
}

static bool can_begin(const struct ring_reads *ring)
{
    return ring->waiting.first != NULL && ring->slots_used < SLOTS;
}

/* Takes the queue; false when the thread is to end. When there is nothing to begin it will sleep,
 * and whoever submits next wakes it. */
static bool queue_take(struct ring_reads *ring)
{
    pthread_mutex_lock(&ring->lock);
    task_list_splice(&ring->waiting, &ring->queue);
    bool idle = ring->waiting.first == NULL && ring->slots_used == 0;
    bool end = ring->stop && idle;
    ring->asleep = !can_begin(ring);
    pthread_mutex_unlock(&ring->lock);
    return !end;
}

static void completions_take(struct ring_reads *ring)
{
    struct io_uring_cqe *cqe;
    while (io_uring_peek_cqe(&ring->ring, &cqe) == 0) {
        struct slot *slot = io_uring_cqe_get_data(cqe);
        int result = cqe->res;
        io_uring_cqe_seen(&ring->ring, cqe);
        if (slot == NULL)
            ring->event_armed = false;
        else
            slot_on_fetched(ring, slot, result);
    }
}

static void *ring_thread(void *arg)
{
    struct ring_reads *ring = arg;
    while (queue_take(ring)) {
        bool sleeps = !can_begin(ring);
        while (can_begin(ring))
            slot_begin(ring, read_of(task_list_pop(&ring->waiting)));
        completions_flush(&ring->done);
        event_arm(ring);
        int submitted = io_uring_submit_and_wait(&ring->ring, sleeps ? 1 : 0);
        if (submitted < 0 && submitted != -EINTR)
            log_warn("io_uring: %s", strerror(-submitted)); /* what was prepared is sent again */
        completions_take(ring);
        completions_flush(&ring->done);
    }
    return NULL;
}

/* --- life ------------------------------------------------------------------------------------- */

static void ring_discard(struct ring_reads *ring)
{
    for (unsigned i = 0; i < SLOTS; i++)
        mem_free(ring->slots[i].buffer);
    io_uring_queue_exit(&ring->ring);
    close(ring->event_fd);
    pthread_mutex_destroy(&ring->lock);
    mem_free(ring);
}

int ring_reads_new(struct engine *engine, kvs_thread_pool *pool, struct ring_reads **ret_ring)
{
    struct ring_reads *ring = mem_zalloc(sizeof *ring);
    if (ring == NULL)
        return KVS_ERR_NO_MEMORY;
    ring->engine = engine;
    ring->pool = pool;
    ring->done = COMPLETIONS_INIT;
    ring->event_fd = eventfd(0, EFD_CLOEXEC);
    if (ring->event_fd < 0 || io_uring_queue_init(2 * SLOTS, &ring->ring, 0) != 0) {
        if (ring->event_fd >= 0)
            close(ring->event_fd);
        mem_free(ring);
        return KVS_ERR_UNSUPPORTED;
    }
    pthread_mutex_init(&ring->lock, NULL);
    int error = thread_start(&ring->thread, "kvs-ring", ring_thread, ring);
    if (error != 0) {
        ring_discard(ring);
        return error;
    }
    *ret_ring = ring;
    return 0;
}

void ring_reads_free(struct ring_reads *ring)
{
    if (ring == NULL)
        return;
    pthread_mutex_lock(&ring->lock);
    ring->stop = true;
    pthread_mutex_unlock(&ring->lock);
    wake(ring);
    pthread_join(ring->thread, NULL);
    ring_discard(ring);
}
