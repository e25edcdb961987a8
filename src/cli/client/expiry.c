/* cli/client/expiry.c: see cli/client/expiry.h. */
#include "cli/client/expiry.h"

#include "base/clock.h"
#include "base/mem.h"

#include <errno.h>
#include <stdatomic.h>

#define WINDOW 256u

struct expiry_window {
    kvs_op ops[WINDOW];
    kvs_op *list[WINDOW];
    _Atomic unsigned left; /* not answered yet */
    sem_t done;
};

void expiries_init(struct expiries *expiries, struct client *client)
{
    *expiries = (struct expiries){.client = client};
}

void expiries_deinit(struct expiries *expiries)
{
    if (expiries->window != NULL)
        sem_destroy(&expiries->window->done);
    mem_free(expiries->window);
    mem_free(expiries->ends_ms);
}

static int expiries_reserve(struct expiries *expiries, size_t count)
{
    if (expiries->window == NULL) {
        expiries->window = mem_zalloc(sizeof *expiries->window);
        if (expiries->window == NULL)
            return KVS_ERR_NO_MEMORY;
        sem_init(&expiries->window->done, 0, 0);
    }
    if (count <= expiries->room)
        return 0;
    uint64_t *ends_ms = mem_realloc(expiries->ends_ms, count * sizeof *ends_ms);
    if (ends_ms == NULL)
        return KVS_ERR_NO_MEMORY;
    expiries->ends_ms = ends_ms;
    expiries->room = count;
    return 0;
}

static void expiry_on_done(kvs_op *op)
{
    struct expiry_window *window = op->user;
    /* acq_rel: whoever is last, and the main thread after it, sees all the answers. */
    if (atomic_fetch_sub_explicit(&window->left, 1, memory_order_acq_rel) == 1)
        sem_post(&window->done);
}

static void window_ask(struct expiries *expiries, uint8_t family, const kvs_pair *pairs,
                       unsigned count)
{
    struct expiry_window *window = expiries->window;
    for (unsigned i = 0; i < count; i++) {
        window->ops[i] = KVS_OP_INIT;
        window->ops[i].kind = KVS_OP_TTL;
        window->ops[i].family = family;
        window->ops[i].key = pairs[i].key;
        window->ops[i].timeout_ms = (uint32_t)expiries->client->options.timeout_ms;
        window->ops[i].on_done = expiry_on_done;
        window->ops[i].user = window;
        window->list[i] = &window->ops[i];
    }
    atomic_store_explicit(&window->left, count, memory_order_relaxed);
    kvs_store_submit_many(expiries->client->store, window->list, count);
    while (sem_wait(&window->done) != 0)
        continue; /* a signal: each has a deadline */
}

static int window_take(struct expiries *expiries, unsigned count, uint64_t now_ms,
                       uint64_t *ret_ends_ms)
{
    int status = 0;
    for (unsigned i = 0; i < count; i++) {
        kvs_op *op = &expiries->window->ops[i];
        ret_ends_ms[i] = 0;
        if (op->error == KVS_ERR_NOT_FOUND)
            ret_ends_ms[i] = EXPIRY_GONE;
        else if (op->error == KVS_ERR_UNSUPPORTED)
            expiries->none = true;
        else if (op->error != 0 && status == 0)
            status = client_fail_operation(expiries->client, op->error, op->message);
        else if (op->error == 0 && op->number > 0)
            ret_ends_ms[i] = now_ms + (uint64_t)op->number;
        kvs_op_release(op);
    }
    return status;
}

int expiries_read(struct expiries *expiries, uint8_t family, const kvs_pair *pairs, size_t count)
{
    if (expiries_reserve(expiries, count) != 0)
        return client_fail(expiries->client, "out of memory");
    for (size_t done = 0; done < count;) {
        unsigned part = count - done < WINDOW ? (unsigned)(count - done) : WINDOW;
        if (expiries->none) {
            memset(expiries->ends_ms + done, 0, part * sizeof *expiries->ends_ms);
        } else {
            uint64_t now_ms = clock_wall_ms();
            window_ask(expiries, family, pairs + done, part);
            int status = window_take(expiries, part, now_ms, expiries->ends_ms + done);
            if (status != 0)
                return status;
        }
        done += part;
    }
    return 0;
}
