/* client/events/subscription.c: see the header. */
#include "client/events/subscription.h"

#include "base/mem.h"
#include "base/slice.h"

#include <assert.h>

void subscription_init(kvs_subscription *subscription, const struct subscription_methods *methods,
                       struct loop *loop, const struct kvs_subscription_handlers *handlers,
                       void *arg)
{
    subscription->methods = methods;
    subscription->loop = loop;
    subscription->handlers = *handlers;
    subscription->arg = arg;
    atomic_init(&subscription->holds, 2); /* the user's and the implementation's */
}

void subscription_hold(kvs_subscription *subscription)
{
    atomic_fetch_add_explicit(&subscription->holds, 1, memory_order_relaxed);
}

void subscription_release(kvs_subscription *subscription)
{
    /* acq_rel: whoever frees sees what all others did. */
    if (atomic_fetch_sub_explicit(&subscription->holds, 1, memory_order_acq_rel) == 1)
        subscription->methods->free(subscription);
}

/* --- the loop's side ---------------------------------------------------------------------------
 */

bool subscription_give(kvs_subscription *subscription, const kvs_resolved_event *events,
                       size_t count)
{
    assert(!subscription->kept && count > 0);
    /* release: pairs with the exchange in kvs_subscription_resume. */
    atomic_store_explicit(&subscription->given, true, memory_order_release);
    bool done = subscription->handlers.on_events(subscription, events, count, subscription->arg);
    /* seq_cst: either this sees the resume, or its task comes when `kept` is set. */
    if (done || !atomic_load(&subscription->given)) {
        atomic_store_explicit(&subscription->given, false, memory_order_relaxed);
        return true;
    }
    subscription->kept = true;
    return false;
}

static void subscription_on_resume(struct task *task)
{
    kvs_subscription *subscription = CONTAINER_OF(task, kvs_subscription, resume_task);
    atomic_store(&subscription->resume_posted, false);
    if (subscription->kept && !atomic_load(&subscription->given)) {
        subscription->kept = false;
        if (!subscription_has_ended(subscription))
            subscription->methods->resumed(subscription);
    }
    subscription_release(subscription);
}

void subscription_tell(kvs_subscription *subscription, enum kvs_subscription_state state)
{
    if (subscription->told == state)
        return;
    subscription->told = state;
    if (subscription->handlers.on_state != NULL)
        subscription->handlers.on_state(subscription, state, subscription->arg);
}

void subscription_drop(kvs_subscription *subscription, int error, const char *why)
{
    if (subscription_has_ended(subscription))
        return;
    /* release: pairs with the acquire in subscription_has_ended. */
    atomic_store_explicit(&subscription->ended, true, memory_order_release);
    subscription->handlers.on_dropped(subscription, error, why, subscription->arg);
    subscription_release(subscription);
}

static void subscription_on_stop(struct task *task)
{
    kvs_subscription *subscription = CONTAINER_OF(task, kvs_subscription, stop_task);
    if (!subscription_has_ended(subscription))
        subscription->methods->stop(subscription);
    subscription_release(subscription);
}

static void subscription_on_ack(struct task *task)
{
    struct subscription_ack *ack = CONTAINER_OF(task, struct subscription_ack, task);
    kvs_subscription *subscription = ack->subscription;
    if (!subscription_has_ended(subscription))
        subscription->methods->ack(subscription, ack);
    mem_free(ack);
    subscription_release(subscription);
}

/* --- any thread --------------------------------------------------------------------------------
 */

static void subscription_post(kvs_subscription *subscription, struct task *task, task_fn *run)
{
    subscription_hold(subscription);
    task->run = run;
    loop_post(subscription->loop, task);
}

void kvs_subscription_resume(kvs_subscription *subscription)
{
    if (subscription_has_ended(subscription) || !atomic_exchange(&subscription->given, false))
        return;
    if (!atomic_exchange(&subscription->resume_posted, true))
        subscription_post(subscription, &subscription->resume_task, subscription_on_resume);
}

void kvs_subscription_stop(kvs_subscription *subscription)
{
    if (subscription_has_ended(subscription) || atomic_exchange(&subscription->stop_posted, true))
        return;
    subscription_post(subscription, &subscription->stop_task, subscription_on_stop);
}

void kvs_subscription_free(kvs_subscription *subscription)
{
    if (subscription == NULL || atomic_exchange(&subscription->freed, true))
        return;
    kvs_subscription_stop(subscription);
    subscription_release(subscription);
}

static int subscription_send_ack(kvs_subscription *subscription, bool is_nak,
                                 const kvs_event_id *ids, size_t count, enum kvs_nak_action action,
                                 const char *reason)
{
    if (!subscription->methods->is_group || (count > 0 && ids == NULL) ||
        count > KVS_APPEND_COUNT_MAX || (unsigned)action > KVS_NAK_STOP)
        return KVS_ERR_INVALID_ARGUMENT;
    if (count == 0 || subscription_has_ended(subscription))
        return 0;
    size_t reason_size = reason != NULL ? strlen(reason) : 0;
    struct subscription_ack *ack =
        mem_alloc(sizeof *ack + count * sizeof ack->ids[0] + reason_size);
    if (ack == NULL)
        return KVS_ERR_NO_MEMORY;
    *ack = (struct subscription_ack){
        .subscription = subscription,
        .is_nak = is_nak,
        .action = action,
        .count = count,
        .reason = slice_make(ack->ids + count, reason_size),
    };
    memcpy(ack->ids, ids, count * sizeof ack->ids[0]);
    if (reason_size > 0)
        memcpy(ack->ids + count, reason, reason_size);
    subscription_post(subscription, &ack->task, subscription_on_ack);
    return 0;
}

int kvs_subscription_ack(kvs_subscription *subscription, const kvs_event_id *ids, size_t count)
{
    return subscription_send_ack(subscription, false, ids, count, KVS_NAK_UNKNOWN, NULL);
}

int kvs_subscription_nak(kvs_subscription *subscription, const kvs_event_id *ids, size_t count,
                         enum kvs_nak_action action, const char *reason)
{
    return subscription_send_ack(subscription, true, ids, count, action, reason);
}
