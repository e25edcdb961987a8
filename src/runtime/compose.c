/*
 * runtime/compose.c: futures made of futures: then, map, all, any, timeout, and ready.
 *
 * Happy path:
 *   1. the call takes its inputs, makes the composed future on the first input's loop, and has each
 *      input report to that loop when it is ready;
 *   2. a report runs the rule of the kind: it is the end, with an error or 0, or more is awaited;
 *      the rule of `then` calls the user's function, and takes the future that it returns as its
 *      second input;
 *   3. at the end the inputs that are not ready are cancelled, and the composed future completes;
 *      results that are an input's own are read from there;
 *   4. the composed future, and so its inputs, lives until its user has freed it and every input
 *      has reported, which the cancelled ones soon do.
 *
 * Cancelling cancels the inputs and awaits their outcome, which may be better than "cancelled": a
 * write may have been done, or its outcome be unknown. Only when none of those that are awaited can
 * be cancelled, it ends at once. A timeout does the same to its input, and then says TIMEOUT.
 *
 * Threads: 1 on the caller's, the rest on the composed future's loop, so it needs no lock.
 */
#include "runtime/future_core.h"
#include "runtime/runtime.h"

#include <kvs/error.h>

struct compose;

/* The rule of a kind: `input` has reported. True: it is the end, with *ret_error. */
typedef bool compose_fn(kvs_future *node, kvs_future *input, int *ret_error);

struct compose {
    compose_fn *rule;
    kvs_future_then_fn *then_fn;
    kvs_future_map_fn *map_fn;
    void *arg;
    void *pointer; /* what map made */
    void (*free_fn)(void *);
    size_t reported;
    /* Giving up goes through the inputs once, however often it is gone on with. */
    size_t asked;     /* so many were asked to */
    size_t can_cease; /* the first of those that can, and is not ready */
    size_t awaited;   /* the first that is not ready */
    int given_up;     /* timeout: the error, once the time has passed */
    bool ended;
    kvs_future *inputs[];
};

static void compose_cancel(kvs_future *node);
static void compose_free(void *payload);
static void compose_on_input(struct task *task);

static const struct future_methods compose_methods = {
    .payload_size = sizeof(struct compose),
    .cancel = compose_cancel,
    .free = compose_free,
};

static compose_fn then_rule, map_rule, all_rule, any_rule, timeout_rule;

/* --- making one ---------------------------------------------------------------------------------
 */

/* `like` gives the runtime and the loop unless `runtime` is another one. */
static kvs_future *compose_new(kvs_runtime *runtime, const kvs_future *like, compose_fn *rule,
                               size_t inputs_max)
{
    if (inputs_max > SIZE_MAX / 2 / sizeof(kvs_future *))
        return NULL;
    bool same = like != NULL && (runtime == NULL || runtime == like->runtime);
    kvs_future *node = future_new_larger(same ? like->runtime : runtime, same ? like->loop : NULL,
                                         &compose_methods, inputs_max * sizeof(kvs_future *));
    if (node == NULL)
        return NULL;
    struct compose *compose = future_payload(node);
    compose->rule = rule;
    node->inputs = compose->inputs;
    return node;
}

/* False when the future has a consumer already; it is left as it is. */
static bool compose_take(kvs_future *node, kvs_future *input)
{
    if (!future_take(input))
        return false;
    input->taker = node;
    input->taker_index = node->inputs_count;
    input->ready_task.run = compose_on_input;
    node->inputs[node->inputs_count++] = input;
    return true;
}

static void compose_arm(kvs_future *node, kvs_future *input)
{
    future_hold(node); /* until the input has reported */
    future_arm(input);
}

/* The last step of the call that makes it. From the first arming on, the loop works on it. */
static kvs_future *compose_begin(kvs_future *node, bool valid)
{
    size_t count = node->inputs_count;
    if (!valid || count == 0) {
        future_complete(node, valid ? 0 : KVS_ERR_INVALID_ARGUMENT);
        return node;
    }
    for (size_t i = 0; i < count; i++)
        compose_arm(node, node->inputs[i]);
    return node;
}

/* There is no memory for the composed future: its inputs were given away nonetheless. */
static void inputs_discard(kvs_future **inputs, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        if (inputs[i] != NULL && future_take(inputs[i]))
            future_free_taken(inputs[i]);
    }
}

kvs_future *kvs_future_then(kvs_future *future, kvs_future_then_fn *fn, void *arg)
{
    if (future == NULL)
        return NULL;
    kvs_future *node = compose_new(NULL, future, then_rule, 2);
    if (node == NULL) {
        inputs_discard(&future, 1);
        return NULL;
    }
    struct compose *compose = future_payload(node);
    compose->then_fn = fn;
    compose->arg = arg;
    return compose_begin(node, fn != NULL && compose_take(node, future));
}

kvs_future *kvs_future_map(kvs_future *future, kvs_future_map_fn *fn, void *arg,
                           void (*free_fn)(void *))
{
    if (future == NULL)
        return NULL;
    kvs_future *node = compose_new(NULL, future, map_rule, 1);
    if (node == NULL) {
        inputs_discard(&future, 1);
        return NULL;
    }
    struct compose *compose = future_payload(node);
    compose->map_fn = fn;
    compose->arg = arg;
    compose->free_fn = free_fn;
    return compose_begin(node, fn != NULL && compose_take(node, future));
}

static kvs_future *compose_many(kvs_runtime *runtime, kvs_future **futures, size_t count,
                                compose_fn *rule)
{
    bool whole = true;
    for (size_t i = 0; i < count; i++)
        whole = whole && futures[i] != NULL;
    kvs_future *node = NULL;
    if (whole)
        node = compose_new(runtime, count > 0 ? futures[0] : NULL, rule, count);
    if (node == NULL) {
        inputs_discard(futures, count);
        return NULL;
    }
    bool valid = true;
    for (size_t i = 0; i < count; i++)
        valid = compose_take(node, futures[i]) && valid;
    return compose_begin(node, valid && (count > 0 || rule == all_rule));
}

kvs_future *kvs_future_all(kvs_runtime *runtime, kvs_future **futures, size_t count)
{
    return compose_many(runtime, futures, count, all_rule);
}

kvs_future *kvs_future_any(kvs_runtime *runtime, kvs_future **futures, size_t count)
{
    return compose_many(runtime, futures, count, any_rule);
}

kvs_future *kvs_future_input(kvs_future *future, size_t i)
{
    if (future != NULL && kvs_future_is_ready(future) && future->source != NULL)
        future = (kvs_future *)future->source; /* a then, say, that gave an all */
    if (future == NULL || future->methods != &compose_methods)
        return NULL;
    const struct compose *compose = future_payload(future);
    if ((compose->rule != all_rule && compose->rule != any_rule) || i >= future->inputs_count)
        return NULL;
    return future->inputs[i];
}

kvs_future *future_try_timeout(kvs_future *future, int64_t timeout_ms)
{
    kvs_future *delay = kvs_future_delay(future->runtime, timeout_ms);
    kvs_future *node = delay != NULL ? compose_new(NULL, future, timeout_rule, 2) : NULL;
    if (node == NULL) {
        kvs_future_free(delay);
        return future;
    }
    bool valid = compose_take(node, future);
    return compose_begin(node, compose_take(node, delay) && valid);
}

kvs_future *kvs_future_timeout(kvs_future *future, int64_t timeout_ms)
{
    if (future == NULL)
        return NULL;
    kvs_future *timed = future_try_timeout(future, timeout_ms);
    if (timed != future)
        return timed;
    inputs_discard(&future, 1);
    return NULL;
}

/* --- on the loop --------------------------------------------------------------------------------
 */

static void compose_end(kvs_future *node, int error)
{
    struct compose *compose = future_payload(node);
    compose->ended = true;
    for (size_t i = 0; i < node->inputs_count; i++)
        kvs_future_cancel(node->inputs[i]); /* does nothing to those that are ready */
    future_complete(node, error);
}

/* Asks what is awaited to give up; true when nothing of it can. */
static bool compose_give_up(kvs_future *node)
{
    struct compose *compose = future_payload(node);
    size_t count = compose->rule == timeout_rule ? 1 : node->inputs_count; /* not the delay */
    for (; compose->asked < count; compose->asked++) {
        if (node->inputs[compose->asked]->methods->cancel != NULL)
            kvs_future_cancel(node->inputs[compose->asked]);
    }
    while (compose->can_cease < count &&
           (kvs_future_is_ready(node->inputs[compose->can_cease]) ||
            node->inputs[compose->can_cease]->methods->cancel == NULL))
        compose->can_cease++;
    while (compose->awaited < count && kvs_future_is_ready(node->inputs[compose->awaited]))
        compose->awaited++;
    return compose->awaited < count && compose->can_cease == count;
}

static void compose_cancel(kvs_future *node)
{
    const struct compose *compose = future_payload(node);
    if (!compose->ended && compose_give_up(node))
        compose_end(node, KVS_ERR_CANCELLED);
}

/* Nobody can get at what the input gave any more, unless a function of the user has it already. */
static void outcome_abandon(kvs_future *input)
{
    kvs_future *from = input->source != NULL ? (kvs_future *)(uintptr_t)input->source : input;
    if (from->error == 0 && from->methods->abandon != NULL &&
        (future_state(from) & FUTURE_READ) == 0)
        from->methods->abandon(from);
}

static void compose_on_input(struct task *task)
{
    kvs_future *input = CONTAINER_OF(task, kvs_future, ready_task);
    kvs_future *node = input->taker;
    struct compose *compose = future_payload(node);
    compose->reported++;
    if (!compose->ended) {
        int error = KVS_ERR_CANCELLED;
        bool end = true;
        if (future_run_begin(node)) {
            end = compose->rule(node, input, &error);
            future_run_end(node);
        } else { /* its user has freed it */
            outcome_abandon(input);
        }
        if (!end && future_is_cancelled(node) && compose_give_up(node)) {
            error = KVS_ERR_CANCELLED;
            end = true;
        }
        if (end)
            compose_end(node, error);
    }
    future_release(node);
    future_release(input);
}

static void compose_free(void *payload)
{
    struct compose *compose = payload;
    if (compose->pointer != NULL && compose->free_fn != NULL)
        compose->free_fn(compose->pointer);
}

/* The results and the message of an input are the node's. */
static int outcome_of(kvs_future *node, const kvs_future *input)
{
    node->source = input->source != NULL ? input->source : input;
    return input->error;
}

/* --- the rules ----------------------------------------------------------------------------------
 */

/* May a function of the user be called for what `input` gave? If not, the outcome. */
static bool may_go_on(kvs_future *node, kvs_future *input, int *ret_error)
{
    bool cancelled = future_is_cancelled(node);
    if (!cancelled && !runtime_is_stopping(node->runtime))
        return true;
    /* An error that the function might have answered (there is no such key) says nothing now. */
    *ret_error = cancelled ? KVS_ERR_CANCELLED : KVS_ERR_CLOSED;
    if (kvs_error_maybe_committed(input->error))
        *ret_error = outcome_of(node, input);
    outcome_abandon(input);
    return false;
}

static bool then_rule(kvs_future *node, kvs_future *input, int *ret_error)
{
    const struct compose *compose = future_payload(node);
    if (input->taker_index == 1) {
        *ret_error = outcome_of(node, input);
        return true;
    }
    if (!may_go_on(node, input, ret_error))
        return true;
    kvs_future *next = compose->then_fn(input, compose->arg);
    *ret_error = 0;
    if (next == input) {
        *ret_error = outcome_of(node, input);
    } else if (next == NULL) {
        *ret_error = KVS_ERR_NO_MEMORY;
    } else if ((future_state(node) & FUTURE_FREED) != 0) {
        kvs_future_free(next); /* the function freed what it works for */
        *ret_error = KVS_ERR_CANCELLED;
    } else if (!compose_take(node, next)) {
        *ret_error = KVS_ERR_INVALID_ARGUMENT;
    } else {
        compose_arm(node, next);
        return false;
    }
    return true;
}

static bool map_rule(kvs_future *node, kvs_future *input, int *ret_error)
{
    struct compose *compose = future_payload(node);
    if (input->error != 0) {
        *ret_error = outcome_of(node, input);
        return true;
    }
    if (!may_go_on(node, input, ret_error))
        return true;
    *ret_error = compose->map_fn(input, compose->arg, &compose->pointer);
    if (*ret_error == 0)
        future_set_pointer(node, compose->pointer);
    return true;
}

static bool all_rule(kvs_future *node, kvs_future *input, int *ret_error)
{
    const struct compose *compose = future_payload(node);
    *ret_error = input->error;
    if (input->error != 0)
        future_set_message(node, kvs_future_error_message(input));
    return input->error != 0 || compose->reported == node->inputs_count;
}

static bool any_rule(kvs_future *node, kvs_future *input, int *ret_error)
{
    *ret_error = input->error;
    future_set_message(node, kvs_future_error_message(input));
    future_set_number(node, (int64_t)input->taker_index);
    return true;
}

static bool timeout_rule(kvs_future *node, kvs_future *input, int *ret_error)
{
    struct compose *compose = future_payload(node);
    const char *message = "not done within its timeout_ms";
    kvs_future *timed = node->inputs[0];
    if (input == timed) {
        *ret_error = outcome_of(node, input);
        if (input->error != KVS_ERR_CANCELLED || compose->given_up == 0)
            return true;
        node->source = NULL;
    } else {
        compose->given_up = input->error != 0 ? input->error : KVS_ERR_TIMEOUT;
        if (kvs_future_is_ready(timed))
            return false; /* its report is on the way */
        if (timed->methods->cancel != NULL) {
            kvs_future_cancel(timed);
            return false;
        }
    }
    *ret_error = compose->given_up;
    if (compose->given_up == KVS_ERR_TIMEOUT)
        future_set_message(node, message);
    return true;
}

/* --- ready --------------------------------------------------------------------------------------
 */

struct ready {
    void *pointer;
    void (*free_fn)(void *);
};

static void ready_free(void *payload)
{
    struct ready *ready = payload;
    if (ready->pointer != NULL && ready->free_fn != NULL)
        ready->free_fn(ready->pointer);
}

static const struct future_methods ready_methods = {
    .payload_size = sizeof(struct ready),
    .free = ready_free,
};

kvs_future *kvs_future_ready(kvs_runtime *runtime, int error, void *pointer,
                             void (*free_fn)(void *))
{
    kvs_future *future = future_new(runtime, NULL, &ready_methods);
    if (future == NULL) {
        if (pointer != NULL && free_fn != NULL)
            free_fn(pointer);
        return NULL;
    }
    *(struct ready *)future_payload(future) = (struct ready){pointer, free_fn};
    future_set_pointer(future, pointer);
    future_complete(future, error);
    return future;
}
