/* client/operations.c: two lists and a wheel of deadlines; see client/operations.h. */
#include "client/operations.h"

#include <assert.h>
#include <kvs/error.h>

void operations_init(struct operations *operations, size_t count_max, uint64_t size_max,
                     operations_give_up_fn *give_up, uint64_t now_ms)
{
    *operations = (struct operations){
        .count_max = count_max,
        .size_max = size_max,
        .give_up = give_up,
        .attempts_max = OPERATION_ATTEMPTS_MAX,
        .tick = now_ms / OPERATIONS_TICK_MS,
    };
}

/* --- lists -------------------------------------------------------------------------------------
 */

static void list_push(struct operation_list *list, struct operation *operation)
{
    operation->next = NULL;
    operation->prev = list->last;
    if (list->last != NULL)
        list->last->next = operation;
    else
        list->first = operation;
    list->last = operation;
}

static void list_remove(struct operation_list *list, struct operation *operation)
{
    if (operation->prev != NULL)
        operation->prev->next = operation->next;
    else
        list->first = operation->next;
    if (operation->next != NULL)
        operation->next->prev = operation->prev;
    else
        list->last = operation->prev;
}

/* Behind `before`; NULL: in front. */
static void list_insert(struct operation_list *list, struct operation *before,
                        struct operation *operation)
{
    struct operation **link = before != NULL ? &before->next : &list->first;
    operation->prev = before;
    operation->next = *link;
    if (operation->next != NULL)
        operation->next->prev = operation;
    else
        list->last = operation;
    *link = operation;
}

/* --- the wheel ---------------------------------------------------------------------------------
 */

/* The tick in which a deadline is surely past. */
static uint64_t tick_of(uint64_t deadline_ms)
{
    return deadline_ms / OPERATIONS_TICK_MS + 1;
}

static struct operation **slot_of(struct operations *operations, const struct operation *operation)
{
    return &operations->slots[tick_of(operation->deadline_ms) % OPERATIONS_SLOTS];
}

static void wheel_add(struct operations *operations, struct operation *operation)
{
    /* A deadline that is past already is met in the next tick. */
    if (tick_of(operation->deadline_ms) <= operations->tick)
        operation->deadline_ms = operations->tick * OPERATIONS_TICK_MS;
    struct operation **slot = slot_of(operations, operation);
    operation->slot_prev = NULL;
    operation->slot_next = *slot;
    if (*slot != NULL)
        (*slot)->slot_prev = operation;
    *slot = operation;
}

static void wheel_remove(struct operations *operations, struct operation *operation)
{
    if (operation->slot_prev != NULL)
        operation->slot_prev->slot_next = operation->slot_next;
    else
        *slot_of(operations, operation) = operation->slot_next;
    if (operation->slot_next != NULL)
        operation->slot_next->slot_prev = operation->slot_prev;
}

uint64_t operations_due_ms(const struct operations *operations)
{
    if (operations->count == 0)
        return UINT64_MAX;
    for (uint64_t tick = operations->tick + 1;; tick++) {
        if (operations->slots[tick % OPERATIONS_SLOTS] != NULL)
            return tick * OPERATIONS_TICK_MS;
        assert(tick <= operations->tick + OPERATIONS_SLOTS && "counted but in no slot");
    }
}

/* --- the life of an operation ------------------------------------------------------------------
 */

int operations_add(struct operations *operations, struct operation *operation)
{
    assert(operation->state == OPERATION_IDLE);
    bool full = operations->count >= operations->count_max ||
                operations->size_bytes + operation->size_bytes > operations->size_max;
    if (full && operations->count > 0)
        return KVS_ERR_BUSY;
    operations->count++;
    operations->size_bytes += operation->size_bytes;
    operation->state = OPERATION_WAITING;
    operation->attempts = 0;
    operation->sequence = operations->next_sequence++;
    list_push(&operations->waiting, operation);
    wheel_add(operations, operation);
    return 0;
}

static void waiting_remove(struct operations *operations, struct operation *operation)
{
    if (operations->again == operation)
        operations->again = operation->prev;
    list_remove(&operations->waiting, operation);
}

void operations_sent(struct operations *operations, struct operation *operation)
{
    assert(operation->state == OPERATION_WAITING);
    waiting_remove(operations, operation);
    list_push(&operations->sent, operation);
    operation->state = OPERATION_SENT;
    if (operation->attempts < UINT8_MAX)
        operation->attempts++;
}

void operations_put_back(struct operations *operations, struct operation *operation)
{
    assert(operation->state == OPERATION_SENT);
    struct operation *before = operations->again;
    while (before != NULL && before->sequence > operation->sequence)
        before = before->prev;
    list_remove(&operations->sent, operation);
    list_insert(&operations->waiting, before, operation);
    if (before == operations->again)
        operations->again = operation;
    operation->state = OPERATION_WAITING;
}

void operations_set_deadline(struct operations *operations, struct operation *operation,
                             uint64_t deadline_ms)
{
    wheel_remove(operations, operation);
    operation->deadline_ms = deadline_ms;
    wheel_add(operations, operation);
}

void operations_take(struct operations *operations, struct operation *operation)
{
    assert(operation->state != OPERATION_IDLE);
    if (operation->state == OPERATION_SENT)
        list_remove(&operations->sent, operation);
    else
        waiting_remove(operations, operation);
    wheel_remove(operations, operation);
    operation->state = OPERATION_IDLE;
    operations->count--;
    operations->size_bytes -= operation->size_bytes;
}

int operation_outcome(const struct operation *operation, bool was_sent, int error)
{
    return was_sent && !operation->repeatable ? KVS_ERR_OUTCOME_UNKNOWN : error;
}

static void give_up(struct operations *operations, struct operation *operation, int error,
                    const char *why)
{
    bool was_sent = operation->state == OPERATION_SENT;
    operations_take(operations, operation);
    operations->give_up(operations, operation, was_sent,
                        operation_outcome(operation, was_sent, error), why);
}

void operations_on_lost(struct operations *operations, bool not_carried_out, int error,
                        const char *why)
{
    struct operation *operation = operations->sent.first;
    while (operation != NULL) {
        struct operation *next = operation->next;
        bool again = operation->repeatable && operation->attempts < operations->attempts_max;
        if (not_carried_out || again)
            operations_put_back(operations, operation);
        else
            give_up(operations, operation, error, why);
        operation = next;
    }
}

void operations_fail_waiting(struct operations *operations, int error, const char *why)
{
    while (operations->waiting.first != NULL)
        give_up(operations, operations->waiting.first, error, why);
}

static void expire_slot(struct operations *operations, struct operation *operation, uint64_t now_ms,
                        const char *why)
{
    while (operation != NULL) {
        struct operation *next = operation->slot_next;
        if (operation->deadline_ms <= now_ms)
            give_up(operations, operation, KVS_ERR_TIMEOUT, why);
        operation = next;
    }
}

void operations_expire(struct operations *operations, uint64_t now_ms, const char *why)
{
    uint64_t now_tick = now_ms / OPERATIONS_TICK_MS;
    uint64_t turns = 0;
    for (uint64_t tick = operations->tick + 1; tick <= now_tick && turns < OPERATIONS_SLOTS;
         tick++, turns++)
        expire_slot(operations, operations->slots[tick % OPERATIONS_SLOTS], now_ms, why);
    if (now_tick > operations->tick)
        operations->tick = now_tick;
}
