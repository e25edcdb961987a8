/*
 * client/txn/request.c: what an operation of a transaction does: at once, in the call that makes
 * it, or when its turn has come. See client/txn/txn_parts.h.
 *
 * At once: writes, locks and reads for update of optimistic transactions change the buffer; a read
 * of one key finds it there, or, with the data in this process, in memory.
 */
#include "client/txn/txn_parts.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* --- results ------------------------------------------------------------------------------------
 */

static void request_set_results(kvs_future *future, const struct txn_request *op)
{
    switch (op->kind) {
    case OP_TIMESTAMP:
        future_set_number(future, (int64_t)op->number);
        break;
    case OP_GET:
    case OP_GET_FOR_UPDATE:
        future_set_value(future, op->asks[0].value);
        break;
    case OP_EXISTS:
        future_set_number(future, op->asks[0].found);
        break;
    case OP_SCAN:
        future_set_number(future, (int64_t)op->number);
        future_set_pairs(future, op->pairs, op->pairs_count);
        break;
    case OP_BATCH_GET:
    case OP_BATCH_GET_FOR_UPDATE:
        future_set_pairs(future, op->pairs, op->pairs_count);
        break;
    case OP_COMMIT:
        future_set_number(future, (int64_t)op->number);
        break;
    default:
        break;
    }
}

/* The future of a request that has ended. */
kvs_future *request_set_outcome(struct txn_request *op, int error)
{
    kvs_future *future = future_of_payload(op);
    if (error == 0)
        request_set_results(future, op);
    if (op->message[0] != '\0' && error != 0)
        future_set_message(future, op->message);
    future_set_details(future, op->has_conflict ? &op->conflict : NULL);
    return future;
}

void request_complete(struct txn_request *op, int error)
{
    if (future_decide(future_of_payload(op))) /* else it was given up, and nobody asks any more */
        future_complete(request_set_outcome(op, error), error);
}

/* What was asked for, in the order asked. */
static int set_pairs(struct txn_request *op)
{
    op->pairs = arena_zalloc(&op->arena, (op->keys_count + 1) * sizeof op->pairs[0]);
    if (op->pairs == NULL)
        return KVS_ERR_NO_MEMORY;
    op->pairs_count = op->keys_count;
    for (uint32_t i = 0; i < op->keys_count; i++) {
        const struct read_key *ask = &op->asks[op->places[i]];
        op->pairs[i] = (kvs_pair){.key = op->keys[i], .value = ask->value, .found = ask->found};
    }
    return 0;
}

/* The read's outcome is in the asks. */
static int request_take_reads(struct txn_request *op)
{
    if (op->kind == OP_BATCH_GET || op->kind == OP_BATCH_GET_FOR_UPDATE)
        return set_pairs(op);
    bool is_get = op->kind == OP_GET || op->kind == OP_GET_FOR_UPDATE;
    return is_get && !op->asks[0].found ? KVS_ERR_NOT_FOUND : 0;
}

/* --- keys ---------------------------------------------------------------------------------------
 */

static int compare_asks(const void *a, const void *b)
{
    const struct read_key *left = a;
    const struct read_key *right = b;
    int order = slice_compare(left->key, right->key);
    return order != 0 ? order : (left->index > right->index) - (left->index < right->index);
}

/* Sorts what was asked for; places[i] tells where keys[i] went. */
int request_make_asks(struct txn_request *op)
{
    if (op->keys_count == 1) {
        static const uint32_t first_place = 0;
        op->one = (struct read_key){.key = op->keys[0]};
        op->asks = &op->one;
        op->asks_count = 1;
        op->places = &first_place;
        return 0;
    }
    op->asks = arena_zalloc(&op->arena, (op->keys_count + 1) * sizeof op->asks[0]);
    uint32_t *places = arena_alloc(&op->arena, (op->keys_count + 1) * sizeof places[0]);
    if (op->asks == NULL || places == NULL)
        return KVS_ERR_NO_MEMORY;
    for (uint32_t i = 0; i < op->keys_count; i++)
        op->asks[i] = (struct read_key){.key = op->keys[i], .index = i};
    qsort(op->asks, op->keys_count, sizeof op->asks[0], compare_asks);
    for (uint32_t i = 0; i < op->keys_count; i++) {
        uint32_t index = op->asks[i].index;
        bool is_new =
            op->asks_count == 0 || !slice_equal(op->asks[op->asks_count - 1].key, op->asks[i].key);
        if (is_new)
            op->asks[op->asks_count++] = op->asks[i];
        places[index] = op->asks_count - 1;
    }
    op->places = places;
    return 0;
}

/* What the transaction itself has written; the mutex is held. Returns how many are left to read, or
 * an error. */
static int look_into_writes(struct txn_request *op, uint32_t *ret_left)
{
    *ret_left = 0;
    op->looked = true;
    for (uint32_t i = 0; i < op->asks_count; i++) {
        struct read_key *ask = &op->asks[i];
        const struct write_entry *entry = write_buffer_find(&op->txn->writes, ask->key);
        if (entry == NULL || entry->kind < WRITE_PUT) {
            ask->locked = true; /* for now: to be read */
            ++*ret_left;
            continue;
        }
        ask->locked = false;
        ask->found = entry->kind == WRITE_PUT;
        if (!ask->found)
            continue;
        void *copy = arena_copy(&op->arena, entry->value);
        if (copy == NULL)
            return KVS_ERR_NO_MEMORY;
        ask->value = slice_make(copy, entry->value.size);
    }
    return 0;
}

/* --- reads --------------------------------------------------------------------------------------
 */

static void read_done(struct reader *reader, int error)
{
    struct txn_request *op = &CONTAINER_OF(reader, struct read_request, reader)->request;
    if (error == 0) {
        for (uint32_t i = 0; i < reader->keys_count; i++) {
            if (reader->keys != op->asks)
                op->asks[reader->keys[i].index] = reader->keys[i];
        }
        error = request_take_reads(op);
        request_end(op, error);
    } else {
        request_fail(op, error, reader->why);
    }
}

/* The keys that the writes do not tell. */
static int read_prepare(struct txn_request *op, uint32_t left)
{
    struct reader *reader = op->reader;
    reader_init(reader, op->txn->shard, &op->txn->view, &op->txn->mutex, op->deadline_ms,
                read_done);
    reader->is_batch = op->asks_count > 1;
    reader->keys = op->asks;
    reader->keys_count = op->asks_count;
    if (left == op->asks_count)
        return 0;
    reader->keys = arena_alloc(&op->arena, left * sizeof reader->keys[0]);
    if (reader->keys == NULL)
        return KVS_ERR_NO_MEMORY;
    reader->keys_count = 0;
    for (uint32_t i = 0; i < op->asks_count; i++) {
        if (!op->asks[i].locked)
            continue;
        struct read_key *key = &reader->keys[reader->keys_count++];
        *key = op->asks[i];
        key->index = i;
    }
    return 0;
}

static void read_begin(struct txn_request *op)
{
    uint32_t left = 0;
    int error = 0;
    pthread_mutex_lock(&op->txn->mutex);
    if (op->looked) {
        for (uint32_t i = 0; i < op->asks_count; i++)
            left += op->asks[i].locked;
    } else {
        error = look_into_writes(op, &left);
    }
    pthread_mutex_unlock(&op->txn->mutex);
    if (error == 0 && left == 0)
        error = request_take_reads(op);
    else if (error == 0)
        error = read_prepare(op, left);
    if (error != 0 || left == 0)
        request_end(op, error);
    else
        reader_start(op->reader);
}

/* The mutex is held. True: op has its outcome. */
static bool read_at_once(struct txn_request *op, int *ret_error)
{
    kvs_txn *txn = op->txn;
    uint32_t left;
    if (txn->options.pessimistic && (!list_empty(&txn->queue) || txn->exclusive))
        return false; /* something before it may write */
    *ret_error = look_into_writes(op, &left);
    if (*ret_error == 0 && left == 0)
        *ret_error = request_take_reads(op);
    if (*ret_error != 0 || left == 0)
        return true;
    if (!txn->has_start || txn->shard->transport->methods->answer == NULL || left != op->asks_count)
        return false;
    *ret_error = read_prepare(op, left);
    if (*ret_error != 0 || reader_answer(op->reader, ret_error)) {
        if (*ret_error == 0)
            *ret_error = request_take_reads(op);
        return true;
    }
    reader_deinit(op->reader);
    memset(op->reader, 0, sizeof *op->reader);
    return false;
}

/* --- writes -------------------------------------------------------------------------------------
 */

int request_refuse(struct txn_request *op, int error, const char *why)
{
    snprintf(op->message, sizeof op->message, "%s", why);
    return error;
}

static int already_exists(struct txn_request *op, kvs_slice key)
{
    void *copy = arena_copy(&op->arena, key);
    if (copy == NULL)
        return KVS_ERR_NO_MEMORY;
    op->conflict =
        (kvs_txn_conflict){.key = slice_make(copy, key.size), .start_ts = op->txn->view.ts};
    op->has_conflict = true;
    return KVS_ERR_ALREADY_EXISTS;
}

/* Puts one mutation into the buffer; the mutex is held, or nothing else may. */
static int write_one(struct txn_request *op, const kvs_mutation *mutation)
{
    kvs_txn *txn = op->txn;
    struct write_entry *entry = write_buffer_get(&txn->writes, mutation->key);
    if (entry == NULL)
        return KVS_ERR_NO_MEMORY;
    if (op->insert && entry->kind == WRITE_PUT)
        return already_exists(op, mutation->key);
    bool was_written = entry->kind >= WRITE_PUT;
    if (mutation->kind == KVS_MUTATION_REMOVE) {
        write_buffer_delete(&txn->writes, entry);
        return 0;
    }
    int error = write_buffer_put(&txn->writes, entry, mutation->value);
    if (error == 0 && op->insert && !was_written && !txn->options.pessimistic)
        entry->must_be_absent = true;
    return error;
}

/* With writes over earlier ones, which take only what they are longer; never too little. */
static bool is_within_limits(const struct txn_request *op)
{
    const kvs_txn *txn = op->txn;
    uint64_t size = txn->writes.size_bytes;
    uint64_t count = txn->writes.count;
    for (uint32_t i = 0; i < op->mutations_count; i++) {
        const kvs_mutation *mutation = &op->mutations[i];
        const struct write_entry *entry = write_buffer_find(&txn->writes, mutation->key);
        size_t before = entry != NULL ? entry->value.size : 0;
        size += mutation->value.size > before ? mutation->value.size - before : 0;
        size += entry == NULL ? mutation->key.size : 0;
        count += entry == NULL;
    }
    return size <= txn->options.size_bytes_max && count <= txn->options.count_max;
}

int request_check_size(struct txn_request *op)
{
    const kvs_txn *txn = op->txn;
    uint64_t size = txn->writes.size_bytes;
    uint64_t count = txn->writes.count;
    for (uint32_t i = 0; i < op->mutations_count; i++)
        size += op->mutations[i].key.size + op->mutations[i].value.size;
    count += op->mutations_count;
    if ((size <= txn->options.size_bytes_max && count <= txn->options.count_max) ||
        is_within_limits(op))
        return 0;
    snprintf(op->message, sizeof op->message,
             "the transaction would write more than its limits of %llu bytes, %u keys: cut it up",
             (unsigned long long)txn->options.size_bytes_max, txn->options.count_max);
    return KVS_ERR_TXN_TOO_LARGE;
}

int request_write_all(struct txn_request *op)
{
    int error = 0;
    for (uint32_t i = 0; error == 0 && i < op->mutations_count; i++)
        error = write_one(op, &op->mutations[i]);
    return error;
}

/* Marks the keys as locked, or to be locked. */
static int mark_locks(struct txn_request *op, bool held)
{
    for (uint32_t i = 0; i < op->asks_count; i++) {
        struct write_entry *entry = write_buffer_get(&op->txn->writes, op->asks[i].key);
        if (entry == NULL)
            return KVS_ERR_NO_MEMORY;
        if (entry->kind == WRITE_NONE)
            entry->kind = WRITE_LOCK;
        if (held && !entry->locked)
            entry->shared = op->shares;
        entry->locked |= held;
    }
    return 0;
}

/* --- pessimistic: lock first --------------------------------------------------------------------
 */

static bool request_wants_values(const struct txn_request *op)
{
    return op->kind == OP_GET_FOR_UPDATE || op->kind == OP_BATCH_GET_FOR_UPDATE;
}

static void locked_done(struct txn_request *op, int error)
{
    for (uint32_t i = 0; error == 0 && request_wants_values(op) && i < op->locks_count; i++)
        op->asks[op->locks[i].index] = op->locks[i];
    if (error == 0) {
        pthread_mutex_lock(&op->txn->mutex);
        error = mark_locks(op, true);
        if (error == 0 && op->kind == OP_WRITE)
            error = request_write_all(op);
        pthread_mutex_unlock(&op->txn->mutex);
    }
    if (error == 0 && request_wants_values(op))
        error = request_take_reads(op);
    request_end(op, error);
}

/* Keys that the transaction has written itself: their locks are held, their values known. */
static int take_own_values(struct txn_request *op)
{
    uint32_t left;
    pthread_mutex_lock(&op->txn->mutex);
    int error = look_into_writes(op, &left);
    pthread_mutex_unlock(&op->txn->mutex);
    return error;
}

/* Those of the asks that have to be locked. */
static int choose_locks(struct txn_request *op, bool wants_values)
{
    op->locks = arena_alloc(&op->arena, (op->asks_count + 1) * sizeof op->locks[0]);
    int error = op->locks != NULL ? 0 : KVS_ERR_NO_MEMORY;
    if (error == 0 && wants_values)
        error = take_own_values(op);
    for (uint32_t i = 0; error == 0 && i < op->asks_count; i++) {
        const struct write_entry *entry = write_buffer_find(&op->txn->writes, op->asks[i].key);
        bool held = entry != NULL && entry->locked;
        if (held && entry->shared && !op->shares)
            error = request_refuse(op, KVS_ERR_INVALID_ARGUMENT,
                                   "the transaction has locked the key in share mode: so it cannot "
                                   "have it for itself");
        else if (held && op->insert && entry->kind == WRITE_PUT)
            error = already_exists(op, op->asks[i].key);
        /* A lock that is held is asked for again where its value, or that it has none, is wanted */
        bool needs = !held || (wants_values && op->asks[i].locked) ||
                     (op->insert && entry->kind == WRITE_LOCK);
        if (!needs)
            continue;
        op->locks[op->locks_count] = op->asks[i];
        op->locks[op->locks_count++].index = i;
    }
    return error;
}

static void lock_first(struct txn_request *op)
{
    bool wants_values = request_wants_values(op);
    int error = choose_locks(op, wants_values);
    if (error == 0)
        error = request_check_size(op);
    if (error == 0 && op->shares && op->locks_count > 0 && op->txn->primary.size == 0)
        error = request_refuse(op, KVS_ERR_INVALID_ARGUMENT,
                               "before it shares a lock a transaction writes or locks a key for "
                               "itself");
    if (error != 0)
        request_end(op, error);
    else if (op->locks_count == 0)
        locked_done(op, 0);
    else
        lock_begin(op, wants_values, locked_done);
}

/* --- what a turn brings -------------------------------------------------------------------------
 */

void request_begin(struct txn_request *op)
{
    kvs_txn *txn = op->txn;
    switch (op->kind) {
    case OP_TIMESTAMP:
        op->number = txn->view.ts;
        request_end(op, 0);
        break;
    case OP_GET:
    case OP_EXISTS:
    case OP_BATCH_GET:
        read_begin(op);
        break;
    case OP_SCAN:
        scan_begin(op);
        break;
    case OP_COMMIT:
        commit_begin(op);
        break;
    case OP_ROLLBACK:
        rollback_begin(op);
        break;
    default:
        if (txn->options.pessimistic)
            lock_first(op);
        else
            read_begin(op); /* for update; the rest was done at once */
    }
}

/* A write of a pessimistic transaction whose locks are held, and that nothing is ahead of. */
bool request_holds_locks(const struct txn_request *op)
{
    const kvs_txn *txn = op->txn;
    if (op->kind != OP_WRITE || op->insert || txn->exclusive || !list_empty(&txn->queue))
        return false;
    for (uint32_t i = 0; i < op->mutations_count; i++) {
        const struct write_entry *entry = write_buffer_find(&txn->writes, op->mutations[i].key);
        if (entry == NULL || !entry->locked || entry->shared)
            return false;
    }
    return true;
}

/* The mutex is held. True: the op has its outcome. */
bool request_try_at_once(struct txn_request *op, int *ret_error)
{
    kvs_txn *txn = op->txn;
    bool changes = op->kind >= OP_GET_FOR_UPDATE && op->kind <= OP_LOCK;
    if (op->kind == OP_TIMESTAMP) {
        op->number = txn->view.ts;
        return txn->has_start;
    }
    if (op->kind >= OP_COMMIT) {
        txn->state = TXN_ENDING;
        return false;
    }
    if (op->kind == OP_SCAN || (changes && txn->options.pessimistic && !request_holds_locks(op)))
        return false;
    if (op->kind == OP_WRITE) {
        *ret_error = request_check_size(op);
        if (*ret_error == 0)
            *ret_error = request_write_all(op);
        return true;
    }
    if (changes) {
        *ret_error = mark_locks(op, false);
        if (*ret_error != 0 || op->kind == OP_LOCK)
            return true;
    }
    return read_at_once(op, ret_error);
}
