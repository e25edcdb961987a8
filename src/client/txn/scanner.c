/*
 * client/txn/scanner.c: a scan of a transaction: what the store has, page by page, merged with what
 * the transaction has written.
 *
 *   1. the reader brings the next part of the range, in order;
 *   2. up to where that part ends, both sources are merged: the transaction's own writes win;
 *   3. until there is enough, the range is over, or, for a paged scan, a page is full.
 * One pair more than wanted is looked for, so that `more` is the truth.
 *
 * Thread: the shard's loop; scan_free: any.
 */
#include "client/txn/txn_parts.h"

#include "base/mem.h"
#include "store/store.h"

#define SCAN_LIMIT_FIRST 256u
#define SCAN_LIMIT_MAX 10240u

struct scanner {
    struct txn_request *op;
    struct reader reader;
    kvs_pair *pairs;
    size_t count;
    size_t capacity;
    size_t size_bytes;
    bool full; /* a further pair was seen */
    /* Where the own writes go on: [low, high). */
    kvs_slice low;
    kvs_slice high;
    struct buf bound; /* memory of the one that moves */
};

static void scan_on_part(struct reader *reader, int error);

/* --- output -------------------------------------------------------------------------------------
 */

static bool has_room(struct scanner *scanner, size_t size)
{
    const struct txn_request *op = scanner->op;
    if (op->limit > 0 && scanner->count >= op->limit)
        return false;
    return !op->paged || scanner->count == 0 || scanner->size_bytes + size <= STORE_PAGE_SIZE_MAX;
}

static int add_pair(struct scanner *scanner, kvs_slice key, kvs_slice value)
{
    size_t size = key.size + value.size + STORE_PAIR_OVERHEAD;
    if (!has_room(scanner, size)) {
        scanner->full = true;
        return 0;
    }
    if (scanner->count == scanner->capacity) {
        size_t capacity = scanner->capacity > 0 ? scanner->capacity * 2 : 64;
        kvs_pair *pairs = mem_realloc(scanner->pairs, capacity * sizeof pairs[0]);
        if (pairs == NULL)
            return KVS_ERR_NO_MEMORY;
        scanner->pairs = pairs;
        scanner->capacity = capacity;
    }
    scanner->pairs[scanner->count++] = (kvs_pair){.key = key, .value = value, .found = true};
    scanner->size_bytes += size;
    return 0;
}

/* One of the own writes; what it says is copied, since the transaction may end before the future.
 */
static int add_own(struct scanner *scanner, const struct write_entry *entry)
{
    struct txn_request *op = scanner->op;
    if (entry->kind != WRITE_PUT)
        return 0;
    kvs_slice value = op->keys_only ? slice_make(NULL, 0) : entry->value;
    void *key_copy = arena_copy(&op->arena, entry->key);
    void *value_copy = arena_copy(&op->arena, value);
    if (key_copy == NULL || value_copy == NULL)
        return KVS_ERR_NO_MEMORY;
    return add_pair(scanner, slice_make(key_copy, entry->key.size),
                    slice_make(value_copy, value.size));
}

/* --- own writes ---------------------------------------------------------------------------------
 */

/* The next own write in the scan's direction, behind where the scan is; NULL: none. */
static struct write_entry *own_first(const struct scanner *scanner)
{
    const struct write_buffer *writes = &scanner->op->txn->writes;
    struct write_entry *entry = scanner->op->reverse
                                    ? write_buffer_below(writes, scanner->high)
                                    : write_buffer_at_or_above(writes, scanner->low);
    if (entry == NULL)
        return NULL;
    if (scanner->op->reverse)
        return slice_compare(entry->key, scanner->low) >= 0 ? entry : NULL;
    return scanner->high.size == 0 || slice_compare(entry->key, scanner->high) < 0 ? entry : NULL;
}

/* Own writes up to the key are behind the scan. */
static int pass(struct scanner *scanner, kvs_slice key)
{
    struct buf bound = BUF_INIT;
    int error = buf_append_slice(&bound, key);
    if (error == 0 && !scanner->op->reverse)
        error = buf_append_u8(&bound, 0);
    if (error != 0)
        return error;
    buf_deinit(&scanner->bound);
    scanner->bound = bound;
    if (scanner->op->reverse)
        scanner->high = buf_slice(&scanner->bound);
    else
        scanner->low = buf_slice(&scanner->bound);
    return 0;
}

static bool is_only_known(const struct write_entry *entry)
{
    return entry->kind < WRITE_PUT;
}

/* <0: `a` comes first in the scan's direction. */
static int scan_order(const struct scanner *scanner, kvs_slice a, kvs_slice b)
{
    int order = slice_compare(a, b);
    return scanner->op->reverse ? -order : order;
}

/* Own writes before `until` (NULL: all that are left). */
static int merge_own(struct scanner *scanner, const kvs_slice *until)
{
    struct write_entry *entry;
    int error = 0;
    while (error == 0 && !scanner->full && (entry = own_first(scanner)) != NULL) {
        if (until != NULL && scan_order(scanner, entry->key, *until) >= 0)
            break;
        error = add_own(scanner, entry);
        if (error == 0 && !scanner->full)
            error = pass(scanner, entry->key);
    }
    return error;
}

/* One pair of the store, and what stands before it. */
static int merge_pair(struct scanner *scanner, const struct txn_pair *pair)
{
    int error = merge_own(scanner, &pair->key);
    if (error != 0 || scanner->full)
        return error;
    const struct write_entry *own = write_buffer_find(&scanner->op->txn->writes, pair->key);
    if (own != NULL && !is_only_known(own)) {
        error = add_own(scanner, own);
        return error == 0 && !scanner->full ? pass(scanner, own->key) : error;
    }
    return add_pair(scanner, pair->key, pair->value);
}

/* --- parts --------------------------------------------------------------------------------------
 */

static void scan_end(struct scanner *scanner, int error)
{
    struct txn_request *op = scanner->op;
    op->pairs = scanner->pairs;
    op->pairs_count = (uint32_t)scanner->count;
    op->number = scanner->full;
    if (error != 0)
        request_fail(op, error, scanner->reader.why);
    else
        request_end(op, 0);
}

/* How much to ask for: what is missing and one more, but no more than about a page. */
static uint32_t next_limit(const struct scanner *scanner)
{
    size_t average =
        scanner->count > 0 ? scanner->size_bytes / scanner->count : STORE_PAIR_OVERHEAD;
    size_t limit = scanner->count > 0 ? STORE_PAGE_SIZE_MAX / average + 2 : SCAN_LIMIT_FIRST;
    if (scanner->op->limit > 0 && scanner->op->limit - scanner->count + 1 < limit)
        limit = scanner->op->limit - scanner->count + 1;
    return limit < SCAN_LIMIT_MAX ? (uint32_t)limit : SCAN_LIMIT_MAX;
}

static void scan_on_part(struct reader *reader, int error)
{
    struct scanner *scanner = CONTAINER_OF(reader, struct scanner, reader);
    kvs_txn *txn = scanner->op->txn;
    pthread_mutex_lock(&txn->mutex);
    for (uint32_t i = 0; error == 0 && !scanner->full && i < reader->pairs_count; i++)
        error = merge_pair(scanner, &reader->pairs[i]);
    if (error == 0 && reader->over)
        error = merge_own(scanner, NULL);
    pthread_mutex_unlock(&txn->mutex);
    if (error != 0 || scanner->full || reader->over) {
        scan_end(scanner, error);
        return;
    }
    reader->limit = next_limit(scanner);
    reader_next(reader);
}

void scan_begin(struct txn_request *op)
{
    struct scanner *scanner = mem_zalloc(sizeof *scanner);
    if (scanner == NULL) {
        request_end(op, KVS_ERR_NO_MEMORY);
        return;
    }
    op->scanner = scanner;
    scanner->op = op;
    scanner->low = op->start;
    scanner->high = op->end;
    struct reader *reader = &scanner->reader;
    reader_init(reader, op->txn->shard, &op->txn->view, &op->txn->mutex, op->deadline_ms,
                scan_on_part);
    reader->is_scan = true;
    reader->reverse = op->reverse;
    reader->keys_only = op->keys_only;
    reader->start = op->start;
    reader->end = op->end;
    reader->limit = next_limit(scanner);
    if (op->end.size > 0 && slice_compare(op->start, op->end) >= 0)
        scan_end(scanner, 0);
    else
        reader_start(reader);
}

void scan_cancel(struct txn_request *op)
{
    reader_cancel(&op->scanner->reader);
}

void scan_free(struct txn_request *op)
{
    struct scanner *scanner = op->scanner;
    if (scanner == NULL)
        return;
    reader_deinit(&scanner->reader);
    mem_free(scanner->pairs);
    buf_deinit(&scanner->bound);
    mem_free(scanner);
}
