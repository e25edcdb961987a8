/* client/tikv/shard.c: see client/tikv/shard.h for the life of an operation. */
#include "client/tikv/shard.h"

#include "base/checksum.h"
#include "base/mem.h"
#include "store/store.h"

#include <assert.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>

/* tikv_op.cancel_state. A cancel comes from any thread while the op may be ending on the loop;
 * whoever changes NONE wins. After ASKED the op's memory stays until the loop has seen the task. */
enum { CANCEL_NONE, CANCEL_ASKED, CANCEL_TOO_LATE };

static void shard_close_when_idle(struct tikv_shard *shard);

/* --- one write of a key at a time ---------------------------------------------------------------
 */

static bool op_writes_key(const kvs_op *op)
{
    return op->kind == KVS_OP_SET || op->kind == KVS_OP_REMOVE || op->kind == KVS_OP_CAS;
}

static bool same_key(const kvs_op *a, const kvs_op *b)
{
    return a->family == b->family && slice_equal(a->key, b->key);
}

static struct tikv_op *chain_find(struct tikv_shard *shard, struct tikv_op *op)
{
    struct tikv_op *at = shard->chains[op->chain];
    while (at != NULL && !same_key(kvs_op_of_tikv(at), kvs_op_of_tikv(op)))
        at = at->chain_next;
    return at;
}

static void chain_add(struct tikv_shard *shard, struct tikv_op *op)
{
    op->is_first = true;
    op->is_behind = false;
    op->chain_next = shard->chains[op->chain];
    shard->chains[op->chain] = op;
}

/* True when the op may begin; else it waits behind another one. */
static bool chain_enter(struct tikv_shard *shard, struct tikv_op *op)
{
    const kvs_op *base = kvs_op_of_tikv(op);
    if (!op_writes_key(base))
        return true;
    op->chain = checksum(base->key.data, base->key.size) % SHARD_CHAINS;
    struct tikv_op *first = chain_find(shard, op);
    if (first == NULL) {
        chain_add(shard, op);
        return true;
    }
    if (first->behind != NULL)
        first->behind_last->behind = op;
    else
        first->behind = op;
    first->behind_last = op;
    op->is_behind = true;
    return false;
}

static void shard_wake(struct tikv_shard *shard);

static void chain_leave_first(struct tikv_shard *shard, struct tikv_op *op)
{
    struct tikv_op **link = &shard->chains[op->chain];
    while (*link != op)
        link = &(*link)->chain_next;
    *link = op->chain_next;
    struct tikv_op *next = op->behind;
    op->is_first = false;
    op->behind = NULL;
    if (next == NULL)
        return;
    next->behind_last = op->behind_last;
    chain_add(shard, next);
    list_append(&shard->ready, &next->ready_node);
    shard_wake(shard);
}

static void chain_leave_behind(struct tikv_shard *shard, struct tikv_op *op)
{
    struct tikv_op *first = chain_find(shard, op);
    struct tikv_op *at = first;
    while (at->behind != op)
        at = at->behind;
    at->behind = op->behind;
    if (first->behind_last == op)
        first->behind_last = at;
    op->is_behind = false;
    op->behind = NULL;
}

/* --- the end of an operation --------------------------------------------------------------------
 */

/* Has the turn end come (again), also when nothing else happens on the loop. */
static void shard_wake(struct tikv_shard *shard)
{
    if (shard->woken)
        return;
    shard->woken = true;
    loop_post(shard->loop, &shard->wake_task);
}

static void shard_on_wake(struct task *task)
{
    CONTAINER_OF(task, struct tikv_shard, wake_task)->woken = false;
}

static void op_call_done(struct task *task)
{
    kvs_op *op = kvs_op_of_tikv(CONTAINER_OF(task, struct tikv_op, task));
    op->on_done(op);
}

/* on_done is due, at the end of the turn. */
static void op_push_done(struct tikv_op *op)
{
    op->task.run = op_call_done;
    task_list_push(&op->shard->done, &op->task);
}

void tikv_op_on_end(struct tikv_op *op, int error)
{
    struct tikv_shard *shard = op->shard;
    kvs_op *base = kvs_op_of_tikv(op);
    base->error = error;
    if (error == 0)
        base->message[0] = '\0';
    if (op->operation.state != OPERATION_IDLE)
        operations_take(&shard->operations, &op->operation);
    list_remove(&op->ready_node);
    if (op->is_first)
        chain_leave_first(shard, op);
    else if (op->is_behind)
        chain_leave_behind(shard, op);
    int expected = CANCEL_NONE;
    /* acquire: pairs with the release of a cancel; its task is still to come then. */
    if (atomic_compare_exchange_strong_explicit(&op->cancel_state, &expected, CANCEL_TOO_LATE,
                                                memory_order_acquire, memory_order_acquire) ||
        expected == CANCEL_TOO_LATE) {
        op_push_done(op);
    } else {
        op->done = true;
        shard->parked++;
    }
}

static void shard_on_give_up(struct operations *operations, struct operation *operation,
                             bool was_sent, int error, const char *why)
{
    (void)operations;
    (void)was_sent; /* the op's calls know better */
    tikv_op_give_up(CONTAINER_OF(operation, struct tikv_op, operation), error, why);
}

static void shard_run_done(struct tikv_shard *shard)
{
    struct task_list done = shard->done;
    shard->done = (struct task_list){0};
    shard->in_callbacks = true;
    struct task *task;
    while ((task = task_list_pop(&done)) != NULL) {
        struct tikv_op *op = CONTAINER_OF(task, struct tikv_op, task);
        if (op->loop == shard->loop)
            task->run(task);
        else
            loop_post(op->loop, task);
    }
    shard->in_callbacks = false;
}

/* --- submitting and cancelling ------------------------------------------------------------------
 */

static uint64_t op_size(const kvs_op *op)
{
    uint64_t size =
        sizeof *op + op->key.size + op->value.size + op->end_key.size + op->expected.size;
    for (uint32_t i = 0; op->kind == KVS_OP_BATCH_GET && i < op->count; i++)
        size += op->keys[i].size + sizeof(uint32_t) * 2;
    for (uint32_t i = 0; op->kind == KVS_OP_BATCH_WRITE && i < op->count; i++)
        size += op->mutations[i].key.size + op->mutations[i].value.size + sizeof(uint32_t);
    return size;
}

static void op_on_submit(struct task *task)
{
    struct tikv_op *op = CONTAINER_OF(task, struct tikv_op, task);
    struct tikv_shard *shard = op->shard;
    kvs_op *base = kvs_op_of_tikv(op);
    if (op->refused) {
        char message[sizeof base->message];
        memcpy(message, base->message, sizeof message);
        tikv_op_on_end(op, base->error);
        memcpy(base->message, message, sizeof message);
        return;
    }
    uint32_t timeout_ms = base->timeout_ms != 0 ? base->timeout_ms : shard->timeout_ms;
    op->operation.deadline_ms = loop_now_ms(shard->loop) + timeout_ms;
    op->operation.size_bytes = op_size(base);
    op->operation.repeatable = true; /* it is the calls that know what was sent */
    int error = operations_add(&shard->operations, &op->operation);
    if (error != 0) {
        snprintf(base->message, sizeof base->message, "too many operations are under way");
        tikv_op_on_end(op, error);
        return;
    }
    if (!chain_enter(shard, op))
        return;
    if (shard->cluster.usable)
        tikv_op_begin(op);
    else
        list_append(&shard->ready, &op->ready_node); /* its keys have no prefix yet */
}

void tikv_shard_prepare(struct tikv_shard *shard, kvs_op *base, struct loop *loop, int error)
{
    struct tikv_op *op = tikv_op_of(base);
    *op = (struct tikv_op){
        .shard = shard,
        .loop = loop,
        .task.run = op_on_submit,
        .refused = error != 0,
    };
    list_init(&op->calls);
    list_init(&op->parked);
    list_init(&op->ready_node);
    atomic_init(&op->cancel_state, CANCEL_NONE);
    base->error = error;
}

void tikv_shard_submit(struct tikv_shard *shard, struct task_list *list)
{
    if (!loop_is_current(shard->loop)) {
        loop_post_list(shard->loop, list);
        return;
    }
    struct task *task;
    while ((task = task_list_pop(list)) != NULL)
        task->run(task);
    if (!shard->in_callbacks)
        shard_wake(shard); /* this turn's end may be over for this shard */
}

static void op_on_cancel(struct task *task)
{
    struct tikv_op *op = CONTAINER_OF(task, struct tikv_op, cancel_task);
    atomic_store_explicit(&op->cancel_state, CANCEL_TOO_LATE, memory_order_relaxed);
    if (op->done) {
        op->shard->parked--;
        op_push_done(op);
        return;
    }
    tikv_op_give_up(op, KVS_ERR_CANCELLED, "");
}

void tikv_shard_cancel(kvs_op *base)
{
    struct tikv_op *op = tikv_op_of(base);
    int expected = CANCEL_NONE;
    /* release: pairs with the acquire in tikv_op_on_end. */
    if (!atomic_compare_exchange_strong_explicit(&op->cancel_state, &expected, CANCEL_ASKED,
                                                 memory_order_release, memory_order_relaxed))
        return; /* asked already, or done */
    op->cancel_task.run = op_on_cancel;
    loop_post(op->shard->loop, &op->cancel_task);
}

/* --- turns --------------------------------------------------------------------------------------
 */

static void shard_on_timer(uv_timer_t *timer)
{
    struct tikv_shard *shard = timer->data;
    shard->timer_armed_ms = UINT64_MAX; /* the end of the turn does the work */
}

static void shard_arm_timer(struct tikv_shard *shard, uint64_t now_ms)
{
    uint64_t due_ms = operations_due_ms(&shard->operations);
    uint64_t cluster_ms = tikv_cluster_timer(&shard->cluster);
    if (cluster_ms < due_ms)
        due_ms = cluster_ms;
    if (due_ms >= shard->timer_armed_ms)
        return; /* armed for earlier, when more will be known */
    shard->timer_armed_ms = due_ms;
    uv_timer_start(&shard->timer, shard_on_timer, due_ms > now_ms ? due_ms - now_ms : 0, 0);
}

static void shard_expire(struct tikv_shard *shard, uint64_t now_ms)
{
    if (operations_due_ms(&shard->operations) > now_ms)
        return;
    const struct pd_client *pd = &shard->cluster.pd;
    char why[sizeof pd->trouble + 32];
    bool has_trouble = pd->trouble[0] != '\0';
    snprintf(why, sizeof why, "%s%s", has_trouble ? "PD: " : "no answer in time", pd->trouble);
    operations_expire(&shard->operations, now_ms, why);
}

static void shard_on_turn_end(struct loop_hook *hook)
{
    struct tikv_shard *shard = CONTAINER_OF(hook, struct tikv_shard, turn_end);
    uint64_t now_ms = loop_now_ms(shard->loop);
    struct list *ready;
    if (shard->closed)
        return;
    shard_run_done(shard);
    shard_expire(shard, now_ms);
    while (shard->cluster.usable && (ready = list_pop(&shard->ready)) != NULL)
        tikv_op_begin(list_entry(ready, struct tikv_op, ready_node));
    tikv_cluster_run(&shard->cluster, now_ms);
    shard_arm_timer(shard, now_ms);
    if (shard->done.first != NULL)
        shard_wake(shard);
    shard_close_when_idle(shard);
}

/* --- statistics ---------------------------------------------------------------------------------
 */

static void add_store(void *arg, uint64_t id, const char *address, bool connected)
{
    json_array_append_new(arg, json_pack("{s:I, s:s, s:b}", "id", (json_int_t)id, "address",
                                         address, "connected", connected));
}

static json_int_t counted(const struct tikv_shard *shard, enum cluster_counter which)
{
    unsigned long long sum = 0;
    for (unsigned i = 0; i < shard->all_count; i++) /* relaxed: see tikv_cluster_count */
        sum += atomic_load_explicit(&shard->all[i].cluster.counters[which], memory_order_relaxed);
    return (json_int_t)sum;
}

char *tikv_shard_stats(const struct tikv_shard *shard)
{
    const struct tikv_cluster *cluster = &shard->cluster;
    const struct pd_members *members = &cluster->pd.members;
    char leader[LINK_NAME_SIZE] = "";
    char id[24];
    if (members->leader >= 0)
        snprintf(leader, sizeof leader, "%s:%u", members->addresses[members->leader].host,
                 members->addresses[members->leader].port);
    snprintf(id, sizeof id, "%llu", (unsigned long long)members->cluster_id);
    json_t *stores = json_array();
    tikv_cluster_each_node(cluster, add_store, stores);
    json_t *root = json_pack(
        "{s:s, s:s, s:s, s:s, s:I, s:o, s:I, s:I, s:I, s:I, s:I, s:I}", "engine", "tikv",
        "cluster_id", id, "pd_leader", leader, "keyspace", cluster->keyspace, "regions_known",
        (json_int_t)cluster->regions.count, "stores", stores, "requests",
        counted(shard, COUNT_REQUESTS), "messages", counted(shard, COUNT_MESSAGES), "lookups",
        counted(shard, COUNT_LOOKUPS), "retries", counted(shard, COUNT_RETRIES), "region_errors",
        counted(shard, COUNT_REGION_ERRORS), "connections_lost", counted(shard, COUNT_LOSSES));
    char *text = root != NULL ? json_dumps(root, JSON_COMPACT) : NULL;
    char *copy = text != NULL ? mem_strdup(text) : NULL;
    free(text); /* jansson's */
    json_decref(root);
    return copy;
}

/* --- life ---------------------------------------------------------------------------------------
 */

static void shard_on_timer_closed(uv_handle_t *handle)
{
    struct tikv_shard *shard = handle->data;
    loop_remove_hook(shard->loop, &shard->turn_end);
    tikv_cluster_deinit(&shard->cluster);
    while (shard->spare_calls != NULL) {
        struct raw_call *call = shard->spare_calls;
        shard->spare_calls = call->op;
        mem_free(call);
    }
    shard->owner->on_closed(shard);
}

static void shard_on_cluster_closed(struct tikv_cluster *cluster)
{
    struct tikv_shard *shard = CONTAINER_OF(cluster, struct tikv_shard, cluster);
    shard->closed = true;
    uv_close((uv_handle_t *)&shard->timer, shard_on_timer_closed);
}

/* While closing: what waits for a PD that does not answer is not waited for. */
static void shard_close_when_idle(struct tikv_shard *shard)
{
    if (!shard->closing || shard->closed || shard->cluster.closing)
        return;
    const struct pd_client *pd = &shard->cluster.pd;
    if (pd->state != PD_READY && pd->trouble[0] != '\0')
        operations_fail_waiting(&shard->operations, KVS_ERR_CLOSED, pd->trouble);
    /* Whatever is not yet so brings another turn end. */
    if (shard->operations.count == 0 && shard->done.first == NULL && shard->parked == 0 &&
        !shard->woken)
        tikv_cluster_close(&shard->cluster);
}

static void shard_on_close(struct task *task)
{
    struct tikv_shard *shard = CONTAINER_OF(task, struct tikv_shard, close_task);
    shard->closing = true;
    shard->cluster.first_told = true;
}

void tikv_shard_close(struct tikv_shard *shard)
{
    shard->close_task.run = shard_on_close;
    loop_post(shard->loop, &shard->close_task);
}

static void shard_on_first(struct tikv_cluster *cluster, int error, const char *why)
{
    struct tikv_shard *shard = CONTAINER_OF(cluster, struct tikv_shard, cluster);
    shard->owner->on_first(shard, error, why);
}

static const struct cluster_events shard_cluster_events = {
    .on_first = shard_on_first,
    .on_closed = shard_on_cluster_closed,
};

static void shard_on_start(struct task *task)
{
    struct tikv_shard *shard = CONTAINER_OF(task, struct tikv_shard, start_task);
    tikv_cluster_init(&shard->cluster, shard->loop, shard->pool, shard->tls_context,
                      shard->connect_timeout_ms, &shard_cluster_events);
    operations_init(&shard->operations, SHARD_COUNT_MAX, SHARD_SIZE_MAX, shard_on_give_up,
                    loop_now_ms(shard->loop));
    shard->wake_task.run = shard_on_wake;
    list_init(&shard->ready);
    shard->timer_armed_ms = UINT64_MAX;
    uv_timer_init(shard->loop->uv, &shard->timer); /* cannot fail */
    shard->timer.data = shard;
    shard->turn_end.run = shard_on_turn_end;
    loop_add_hook(shard->loop, &shard->turn_end);
    tikv_cluster_start(&shard->cluster);
}

void tikv_shard_start(struct tikv_shard *shard)
{
    shard->start_task.run = shard_on_start;
    loop_post(shard->loop, &shard->start_task);
}
