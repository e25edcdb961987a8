/*
 * client/txn/txn_calls.c: the calls of kvs/txn.h in a transaction: checked, answered at once where
 * that is possible, else queued; and what each does when its turn comes. See
 * client/txn/txn_parts.h.
 *
 * At once: writes, locks and reads for update of optimistic transactions change the buffer; a read
 * of one key finds it there, or, with the data in this process, in memory.
 */
#include "client/txn/txn_parts.h"

#include "base/mem.h"
#include "store/store.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void request_free(void *payload);

/* Most of what a read needs is of no use to a write or a commit: those are a third as large. */
struct read_request {
    struct txn_request request;
    struct reader reader;
};

static const struct future_methods request_methods = {
    .payload_size = sizeof(struct txn_request),
    .cancel = request_on_cancel,
    .free = request_free,
};

static const struct future_methods read_request_methods = {
    .payload_size = sizeof(struct read_request),
    .cancel = request_on_cancel,
    .free = request_free,
};

static bool kind_reads_keys(unsigned kind)
{
    return kind >= OP_GET && kind <= OP_BATCH_GET_FOR_UPDATE && kind != OP_SCAN;
}

static void request_free(void *payload)
{
    struct txn_request *op = payload;
    scan_free(op);
    lock_free(op);
    if (op->reader != NULL)
        reader_deinit(op->reader);
    arena_deinit(&op->arena);
}

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
static kvs_future *request_set_outcome(struct txn_request *op, int error)
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
static int make_asks(struct txn_request *op)
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

static int refuse(struct txn_request *op, int error, const char *why)
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

static int check_size(struct txn_request *op)
{
    const kvs_txn *txn = op->txn;
    uint64_t size = txn->writes.size_bytes;
    uint64_t count = txn->writes.count;
    for (uint32_t i = 0; i < op->mutations_count; i++)
        size += op->mutations[i].key.size + op->mutations[i].value.size;
    count += op->mutations_count;
    if (size <= txn->options.size_bytes_max && count <= txn->options.count_max)
        return 0;
    snprintf(op->message, sizeof op->message,
             "the transaction would write more than its limits of %llu bytes, %u keys: cut it up",
             (unsigned long long)txn->options.size_bytes_max, txn->options.count_max);
    return KVS_ERR_TXN_TOO_LARGE;
}

static int write_all(struct txn_request *op)
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
            error = write_all(op);
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
        if (held && op->insert && entry->kind == WRITE_PUT)
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
        error = check_size(op);
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
static bool holds_locks(const struct txn_request *op)
{
    const kvs_txn *txn = op->txn;
    if (op->kind != OP_WRITE || op->insert || txn->exclusive || !list_empty(&txn->queue))
        return false;
    for (uint32_t i = 0; i < op->mutations_count; i++) {
        const struct write_entry *entry = write_buffer_find(&txn->writes, op->mutations[i].key);
        if (entry == NULL || !entry->locked)
            return false;
    }
    return true;
}

/* The mutex is held. True: the op has its outcome. */
static bool request_try_at_once(struct txn_request *op, int *ret_error)
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
    if (op->kind == OP_SCAN || (changes && txn->options.pessimistic && !holds_locks(op)))
        return false;
    if (op->kind == OP_WRITE) {
        *ret_error = check_size(op);
        if (*ret_error == 0)
            *ret_error = write_all(op);
        return true;
    }
    if (changes) {
        *ret_error = mark_locks(op, false);
        if (*ret_error != 0 || op->kind == OP_LOCK)
            return true;
    }
    return read_at_once(op, ret_error);
}

/* --- checks and copies --------------------------------------------------------------------------
 */

static int check_key(struct txn_request *op, kvs_slice key)
{
    if (key.size >= 1 && key.size <= KVS_KEY_SIZE_MAX && key.data != NULL)
        return 0;
    snprintf(op->message, sizeof op->message, "a key has 1 to %u bytes", KVS_KEY_SIZE_MAX);
    return key.size > KVS_KEY_SIZE_MAX ? KVS_ERR_TOO_LARGE : KVS_ERR_INVALID_ARGUMENT;
}

static int check_mutation(struct txn_request *op, const kvs_mutation *mutation)
{
    bool is_set = mutation->kind == KVS_MUTATION_SET;
    if ((!is_set && mutation->kind != KVS_MUTATION_REMOVE) || mutation->family != 0 ||
        mutation->ttl_ms != 0)
        return refuse(op, KVS_ERR_UNSUPPORTED,
                      "a transaction sets and removes keys, without families and ends of life");
    if (is_set && mutation->value.size > KVS_VALUE_SIZE_MAX)
        return refuse(op, KVS_ERR_TOO_LARGE, "a value is larger than 16 MiB");
    if (is_set && mutation->value.size > 0 && mutation->value.data == NULL)
        return refuse(op, KVS_ERR_INVALID_ARGUMENT, "a value is NULL");
    return check_key(op, mutation->key);
}

static int check_op(struct txn_request *op)
{
    kvs_txn *txn = op->txn;
    int error = 0;
    bool changes = op->kind >= OP_GET_FOR_UPDATE && op->kind <= OP_LOCK;
    if (txn->refused != NULL)
        return refuse(op, KVS_ERR_INVALID_ARGUMENT, txn->refused);
    if (changes && txn->options.read_only)
        return refuse(op, KVS_ERR_INVALID_ARGUMENT, "the transaction is read-only");
    if ((op->keys_count > 0 && op->keys == NULL) ||
        (op->mutations_count > 0 && op->mutations == NULL))
        return refuse(op, KVS_ERR_INVALID_ARGUMENT, "the keys are NULL");
    if (op->keys_count > KVS_BATCH_COUNT_MAX || op->mutations_count > KVS_BATCH_COUNT_MAX)
        return refuse(op, KVS_ERR_TOO_LARGE, "more keys than one call takes");
    if (op->kind == OP_SCAN &&
        (op->start.size > KVS_KEY_SIZE_MAX || op->end.size > KVS_KEY_SIZE_MAX))
        return refuse(op, KVS_ERR_TOO_LARGE, "a bound is longer than a key");
    for (uint32_t i = 0; error == 0 && i < op->keys_count; i++)
        error = check_key(op, op->keys[i]);
    for (uint32_t i = 0; error == 0 && i < op->mutations_count; i++)
        error = check_mutation(op, &op->mutations[i]);
    return error;
}

static int copy_slice(struct arena *arena, kvs_slice *slice)
{
    if (slice->size == 0)
        return 0;
    void *copy = arena_copy(arena, *slice);
    if (copy == NULL)
        return KVS_ERR_NO_MEMORY;
    slice->data = copy;
    return 0;
}

/* Keys that a write locks are those it writes. */
static int take_written_keys(struct txn_request *op)
{
    kvs_slice *keys = arena_alloc(&op->arena, (op->mutations_count + 1) * sizeof keys[0]);
    if (keys == NULL)
        return KVS_ERR_NO_MEMORY;
    for (uint32_t i = 0; i < op->mutations_count; i++)
        keys[i] = op->mutations[i].key;
    op->keys = keys;
    op->keys_count = op->mutations_count;
    return 0;
}

/* Copies the inputs and what points to them. */
static int copy_inputs(struct txn_request *op)
{
    struct arena *arena = &op->arena;
    int error = copy_slice(arena, &op->start);
    if (error == 0)
        error = copy_slice(arena, &op->end);
    if (op->keys_count > 0) {
        kvs_slice *keys =
            arena_copy(arena, slice_make(op->keys, op->keys_count * sizeof op->keys[0]));
        if (keys == NULL)
            return KVS_ERR_NO_MEMORY;
        for (uint32_t i = 0; error == 0 && i < op->keys_count; i++)
            error = copy_slice(arena, &keys[i]);
        op->keys = keys;
    }
    if (op->mutations_count > 0) {
        kvs_mutation *mutations = arena_copy(
            arena, slice_make(op->mutations, op->mutations_count * sizeof op->mutations[0]));
        if (mutations == NULL)
            return KVS_ERR_NO_MEMORY;
        for (uint32_t i = 0; error == 0 && i < op->mutations_count; i++) {
            error = copy_slice(arena, &mutations[i].key);
            if (error == 0)
                error = copy_slice(arena, &mutations[i].value);
        }
        op->mutations = mutations;
        if (error == 0)
            error = take_written_keys(op);
    }
    /* The asks point to the keys as they were. */
    for (uint32_t i = 0; error == 0 && i < op->keys_count && op->places != NULL; i++)
        op->asks[op->places[i]].key = op->keys[i];
    if (error == 0 && op->places == NULL && op->keys_count > 0)
        error = make_asks(op);
    return error;
}

/* Everything until the op is queued (false) or has its outcome. */
static bool request_submit(struct txn_request *op, int *ret_error)
{
    kvs_txn *txn = op->txn;
    bool is_read = op->kind >= OP_GET && op->kind <= OP_BATCH_GET_FOR_UPDATE;
    bool done = true;
    *ret_error = check_op(op);
    if (*ret_error == 0 && (is_read || op->kind == OP_LOCK) && op->kind != OP_SCAN)
        *ret_error = make_asks(op);
    if (*ret_error != 0)
        return true;
    pthread_mutex_lock(&txn->mutex);
    if (txn_client_is_closing(txn->client))
        *ret_error = refuse(op, KVS_ERR_CLOSED, "the client was closed");
    else if (txn->state != TXN_ACTIVE && op->kind != OP_TIMESTAMP)
        *ret_error = refuse(op, KVS_ERR_INVALID_ARGUMENT, "the transaction has ended");
    else
        done = request_try_at_once(op, ret_error);
    if (*ret_error == 0 && !done) {
        *ret_error = copy_inputs(op);
        done = *ret_error != 0;
        if (!done) {
            future_start(future_of_payload(op));
            txn_enqueue(op);
        }
    }
    pthread_mutex_unlock(&txn->mutex);
    return done || *ret_error != 0;
}

/* A write of keys that need no lock, or have theirs: nothing of a request is left when it is done.
 * NULL: it has to be a request, which finds out why; what was buffered is buffered again then. */
static kvs_future *write_at_once(kvs_txn *txn, const kvs_mutation *mutations, uint32_t count)
{
    struct txn_request op = {
        .kind = OP_WRITE, .txn = txn, .mutations = mutations, .mutations_count = count};
    if (check_op(&op) != 0)
        return NULL;
    kvs_future *future = future_new_ready(txn->client->runtime, txn->shard->loop);
    if (future == NULL)
        return NULL;
    pthread_mutex_lock(&txn->mutex);
    bool is_done = !txn_client_is_closing(txn->client) && txn->state == TXN_ACTIVE &&
                   (!txn->options.pessimistic || holds_locks(&op)) && check_size(&op) == 0 &&
                   write_all(&op) == 0;
    pthread_mutex_unlock(&txn->mutex);
    if (is_done)
        return future;
    kvs_future_free(future);
    return NULL;
}

static kvs_future *request_start(kvs_txn *txn, const struct txn_request *request)
{
    bool reads = kind_reads_keys(request->kind);
    kvs_future *future = future_new_idle(txn->client->runtime, txn->shard->loop,
                                         reads ? &read_request_methods : &request_methods);
    if (future == NULL)
        return NULL;
    struct txn_request *op = future_payload(future);
    int error = 0;
    *op = *request;
    op->reader = reads ? &((struct read_request *)future_payload(future))->reader : NULL;
    op->txn = txn;
    list_init(&op->node);
    if (request_submit(op, &error))
        future_complete_idle(request_set_outcome(op, error), error);
    return future;
}

static kvs_future *request_start_key(kvs_txn *txn, enum txn_op_kind kind, kvs_slice key)
{
    return request_start(
        txn, &(struct txn_request){.kind = (uint8_t)kind, .keys = &key, .keys_count = 1});
}

static kvs_future *request_start_keys(kvs_txn *txn, enum txn_op_kind kind, const kvs_slice *keys,
                                      size_t count, int32_t wait_ms)
{
    uint32_t bounded = count > UINT32_MAX ? UINT32_MAX : (uint32_t)count; /* refused later */
    return request_start(
        txn, &(struct txn_request){
                 .kind = (uint8_t)kind, .keys = keys, .keys_count = bounded, .wait_ms = wait_ms});
}

static kvs_future *request_start_write(kvs_txn *txn, const kvs_mutation *mutations, size_t count,
                                       bool insert)
{
    uint32_t bounded = count > UINT32_MAX ? UINT32_MAX : (uint32_t)count;
    kvs_future *done = insert ? NULL : write_at_once(txn, mutations, bounded);
    if (done != NULL)
        return done;
    return request_start(txn, &(struct txn_request){.kind = OP_WRITE,
                                                    .mutations = mutations,
                                                    .mutations_count = bounded,
                                                    .insert = insert});
}

/* --- the calls ----------------------------------------------------------------------------------
 */

kvs_txn *kvs_txn_begin(kvs_txn_client *client, const struct kvs_txn_options *options)
{
    return txn_new(client, options, 0);
}

void kvs_txn_free(kvs_txn *txn)
{
    if (txn != NULL)
        txn_drop(txn);
}

kvs_future *kvs_txn_start_timestamp(kvs_txn *txn)
{
    return request_start(txn, &(struct txn_request){.kind = OP_TIMESTAMP});
}

kvs_future *kvs_txn_get(kvs_txn *txn, kvs_slice key)
{
    return request_start_key(txn, OP_GET, key);
}

kvs_future *kvs_txn_exists(kvs_txn *txn, kvs_slice key)
{
    return request_start_key(txn, OP_EXISTS, key);
}

kvs_future *kvs_txn_batch_get(kvs_txn *txn, const kvs_slice *keys, size_t count)
{
    return request_start_keys(txn, OP_BATCH_GET, keys, count, 0);
}

kvs_future *kvs_txn_get_for_update(kvs_txn *txn, kvs_slice key)
{
    return request_start_key(txn, OP_GET_FOR_UPDATE, key);
}

kvs_future *kvs_txn_batch_get_for_update(kvs_txn *txn, const kvs_slice *keys, size_t count)
{
    return request_start_keys(txn, OP_BATCH_GET_FOR_UPDATE, keys, count, 0);
}

kvs_future *kvs_txn_lock(kvs_txn *txn, const kvs_slice *keys, size_t count, int32_t wait_ms)
{
    return request_start_keys(txn, OP_LOCK, keys, count, wait_ms);
}

kvs_future *kvs_txn_scan(kvs_txn *txn, kvs_slice start, kvs_slice end, uint32_t limit,
                         unsigned flags)
{
    return request_start(
        txn, &(struct txn_request){.kind = OP_SCAN,
                                   .start = start,
                                   .end = end,
                                   .limit = limit,
                                   .reverse = (flags & KVS_OP_FLAG_REVERSE) != 0,
                                   .keys_only = (flags & KVS_OP_FLAG_KEYS_ONLY) != 0,
                                   .paged = limit == 0 || (flags & KVS_OP_FLAG_PAGE) != 0});
}

kvs_future *kvs_txn_put(kvs_txn *txn, kvs_slice key, kvs_slice value)
{
    const kvs_mutation mutation = {.kind = KVS_MUTATION_SET, .key = key, .value = value};
    return request_start_write(txn, &mutation, 1, false);
}

kvs_future *kvs_txn_insert(kvs_txn *txn, kvs_slice key, kvs_slice value)
{
    const kvs_mutation mutation = {.kind = KVS_MUTATION_SET, .key = key, .value = value};
    return request_start_write(txn, &mutation, 1, true);
}

kvs_future *kvs_txn_delete(kvs_txn *txn, kvs_slice key)
{
    const kvs_mutation mutation = {.kind = KVS_MUTATION_REMOVE, .key = key};
    return request_start_write(txn, &mutation, 1, false);
}

kvs_future *kvs_txn_mutate(kvs_txn *txn, const kvs_mutation *mutations, size_t count)
{
    return request_start_write(txn, mutations, count, false);
}

kvs_future *kvs_txn_commit(kvs_txn *txn)
{
    return request_start(txn, &(struct txn_request){.kind = OP_COMMIT});
}

kvs_future *kvs_txn_rollback(kvs_txn *txn)
{
    return request_start(txn, &(struct txn_request){.kind = OP_ROLLBACK});
}
