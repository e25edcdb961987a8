/*
 * client/tikv/raw_range.c: operations over ranges of keys: exists, scan, count, delete range.
 *
 * Bounds of calls are full keys, with the keyspace's prefix, in call->bounds: [key, end), where an
 * empty end has no bound. A reverse scan goes from `key`, exclusive, down to `end`, inclusive.
 */
#include "client/tikv/raw_op.h"

#include "client/tikv/shard.h"
#include "proto/tikv/key.h"
#include "store/store.h"

#include <assert.h>
#include <stdio.h>

static kvs_slice smaller_end(kvs_slice a, kvs_slice b)
{
    if (a.size == 0 || b.size == 0)
        return a.size == 0 ? b : a;
    return slice_compare(a, b) <= 0 ? a : b;
}

/* --- bounds -------------------------------------------------------------------------------------
 */

/* Copies both bounds, which may lie in the call's own memory. */
static int call_set_bounds(struct raw_call *call, kvs_slice key, kvs_slice end)
{
    struct buf bounds = BUF_INIT;
    int error = buf_reserve(&bounds, key.size + end.size);
    if (error != 0)
        return error;
    buf_append_slice(&bounds, key); /* there is room */
    buf_append_slice(&bounds, end);
    buf_deinit(&call->bounds);
    call->bounds = bounds;
    call->base.key_is_full = true;
    call->base.key = slice_make(bounds.data, key.size);
    call->end = slice_make(bounds.data + key.size, end.size);
    return 0;
}

/* The range of the user as full keys: [low, high). */
static int full_range(const struct tikv_cluster *cluster, kvs_slice start, kvs_slice end,
                      struct buf *low, struct buf *high)
{
    int error = buf_append_slice(low, tikv_cluster_prefix(cluster));
    if (error == 0)
        error = buf_append_slice(low, start);
    if (error == 0 && end.size > 0)
        error = buf_append_slice(high, tikv_cluster_prefix(cluster));
    if (error == 0 && end.size > 0)
        error = buf_append_slice(high, end);
    if (error == 0 && end.size == 0 && cluster->is_v2)
        error = buf_append(high, cluster->prefix_end, sizeof cluster->prefix_end);
    return error;
}

static bool is_empty_range(kvs_slice start, kvs_slice end)
{
    return end.size > 0 && slice_compare(start, end) >= 0;
}

/* Adds and starts a call over the range. */
static int range_begin(struct tikv_op *op, enum raw_kind kind,
                       const struct raw_call_methods *methods, kvs_slice start, kvs_slice end,
                       bool reverse, uint32_t limit, unsigned family)
{
    struct raw_call *call = op_add_call(op, kind, methods);
    if (call == NULL)
        return KVS_ERR_NO_MEMORY;
    struct buf low = BUF_INIT;
    struct buf high = BUF_INIT;
    int error = full_range(call->base.cluster, start, end, &low, &high);
    if (error == 0)
        error = reverse ? call_set_bounds(call, buf_slice(&high), buf_slice(&low))
                        : call_set_bounds(call, buf_slice(&low), buf_slice(&high));
    buf_deinit(&low);
    buf_deinit(&high);
    if (error != 0) {
        op_free_call(call);
        return error;
    }
    call->base.below = reverse;
    const kvs_op *base = kvs_op_of_tikv(op);
    call->base.alone = base->kind == KVS_OP_SCAN && (base->flags & KVS_OP_FLAG_KEYS_ONLY) == 0;
    call->limit = limit;
    call->family = (uint8_t)family;
    op_start_call(call);
    return 0;
}

/* The part of a forward range in the region; what lies behind it becomes a call of its own. */
static int cut_forward(struct raw_call *call, const struct region *region)
{
    kvs_slice bound = smaller_end(call->end, region->end);
    if (slice_equal(bound, call->end))
        return 0;
    struct raw_call *rest = op_add_call(op_of_call(call), call->kind, call->methods);
    if (rest == NULL)
        return KVS_ERR_NO_MEMORY;
    int error = call_set_bounds(rest, bound, call->end);
    if (error == 0)
        error = call_set_bounds(call, call->base.key, bound);
    if (error != 0) {
        op_free_call(rest);
        return error;
    }
    rest->limit = call->limit;
    rest->family = call->family;
    op_start_call(rest);
    return 0;
}

static void fill_range(const struct raw_call *call, struct raw_request *request)
{
    request->family = raw_family_name(call->family);
    request->key_is_full = true;
    request->key = call->base.key;
    request->end_is_full = true;
    request->end = call->end;
    request->limit = call->limit;
}

static int set_key_after(struct raw_call *call, kvs_slice last)
{
    kvs_slice prefix = tikv_cluster_prefix(call->base.cluster);
    struct buf key = BUF_INIT;
    int error = buf_append_slice(&key, prefix);
    if (error == 0)
        error = buf_append_slice(&key, last);
    if (error == 0 && !call->base.below)
        error = buf_append_u8(&key, 0); /* the next key there can be */
    if (error == 0)
        error = call_set_bounds(call, buf_slice(&key), call->end);
    buf_deinit(&key);
    return error;
}

static void fail(struct raw_call *call, int error)
{
    op_fail_call(call, error,
                 error == KVS_ERR_PROTOCOL ? "a store sent what cannot be read" : "no memory");
}

/* --- exists -------------------------------------------------------------------------------------
 */

/* The bounds are the user's key, and it with a zero behind: one key. */
static int exists_fit(struct raw_call *call, const struct region *region,
                      struct raw_request *request)
{
    (void)region;
    fill_range(call, request);
    request->keys_only = true;
    return 0;
}

static void exists_on_reply(struct raw_call *call, struct raw_reply *reply)
{
    kvs_op *base = kvs_op_of_tikv(op_of_call(call));
    struct raw_pair pair;
    int more = raw_reply_next_pair(reply, tikv_cluster_prefix(call->base.cluster), &pair);
    if (more < 0) {
        fail(call, more);
        return;
    }
    base->number = more > 0 && !pair.has_error && slice_equal(pair.key, base->key);
    op_end_call(call);
}

static const struct raw_call_methods exists_methods = {
    .fit = exists_fit,
    .on_reply = exists_on_reply,
    .on_failed = op_fail_call,
};

int raw_exists_begin(struct tikv_op *op)
{
    const kvs_op *base = kvs_op_of_tikv(op);
    struct buf end = BUF_INIT;
    int error = buf_append_slice(&end, base->key);
    if (error == 0)
        error = buf_append_u8(&end, 0);
    if (error == 0)
        error = range_begin(op, RAW_SCAN, &exists_methods, base->key, buf_slice(&end), false, 1,
                            base->family);
    buf_deinit(&end);
    return error;
}

/* --- count and delete range ---------------------------------------------------------------------
 */

static int count_fit(struct raw_call *call, const struct region *region,
                     struct raw_request *request)
{
    int error = cut_forward(call, region);
    fill_range(call, request);
    request->keys_only = true;
    return error;
}

static void count_on_reply(struct raw_call *call, struct raw_reply *reply)
{
    struct tikv_op *op = op_of_call(call);
    kvs_op *base = kvs_op_of_tikv(op);
    struct raw_pair pair = {0};
    uint32_t count = 0;
    int more;
    while ((more = raw_reply_next_pair(reply, tikv_cluster_prefix(call->base.cluster), &pair)) > 0)
        count++;
    base->number += count;
    if (more == 0 && count < call->limit) {
        op_end_call(call);
        return;
    }
    int error = more < 0 ? more : set_key_after(call, pair.key);
    if (error != 0)
        fail(call, error);
    else
        raw_call_start(call);
}

static const struct raw_call_methods count_methods = {
    .fit = count_fit,
    .on_reply = count_on_reply,
    .on_failed = op_fail_call,
};

int raw_count_begin(struct tikv_op *op)
{
    const kvs_op *base = kvs_op_of_tikv(op);
    if (is_empty_range(base->key, base->end_key)) {
        op_end(op, 0);
        return 0;
    }
    return range_begin(op, RAW_SCAN, &count_methods, base->key, base->end_key, false,
                       OP_SCAN_LIMIT_MAX, base->family);
}

static int checksum_fit(struct raw_call *call, const struct region *region,
                        struct raw_request *request)
{
    int error = cut_forward(call, region);
    fill_range(call, request);
    return error;
}

static void checksum_on_reply(struct raw_call *call, struct raw_reply *reply)
{
    struct kvs_checksum *sum = &op_of_call(call)->checksum;
    sum->crc64_xor ^= reply->checksum;
    sum->keys += reply->keys;
    sum->bytes += reply->bytes;
    op_end_call(call);
}

static const struct raw_call_methods checksum_methods = {
    .fit = checksum_fit,
    .on_reply = checksum_on_reply,
    .on_failed = op_fail_call,
};

int raw_checksum_begin(struct tikv_op *op)
{
    kvs_op *base = kvs_op_of_tikv(op);
    op->checksum = (struct kvs_checksum){0};
    if (is_empty_range(base->key, base->end_key)) {
        op_end(op, store_op_set_checksum(base, &op->checksum));
        return 0;
    }
    if (base->family != 0) { /* the request has no word for it */
        snprintf(base->message, sizeof base->message,
                 "TiKV has checksums of the default column family only");
        return KVS_ERR_UNSUPPORTED;
    }
    return range_begin(op, RAW_CHECKSUM, &checksum_methods, base->key, base->end_key, false, 0, 0);
}

static int delete_fit(struct raw_call *call, const struct region *region,
                      struct raw_request *request)
{
    int error = cut_forward(call, region);
    fill_range(call, request);
    return error;
}

static void delete_on_reply(struct raw_call *call, struct raw_reply *reply)
{
    (void)reply;
    op_of_call(call)->written = true;
    op_end_call(call);
}

static const struct raw_call_methods delete_methods = {
    .fit = delete_fit,
    .on_reply = delete_on_reply,
    .on_failed = op_fail_call,
};

int raw_delete_range_begin(struct tikv_op *op, unsigned family, kvs_slice start, kvs_slice end)
{
    return range_begin(op, RAW_DELETE_RANGE, &delete_methods, start, end, false, 0, family);
}

/* --- scan ---------------------------------------------------------------------------------------
 *
 * One pair more than wanted is asked for at the end: so `more` is the truth.
 */

static bool is_paged(const kvs_op *op)
{
    return op->limit == 0 || (op->flags & KVS_OP_FLAG_PAGE) != 0;
}

/* Where this request ends: the region's bound in the scan's direction, or the range's. */
static int scan_fit(struct raw_call *call, const struct region *region, struct raw_request *request)
{
    struct tikv_op *op = op_of_call(call);
    const kvs_op *base = kvs_op_of_tikv(op);
    static uint8_t highest[KEY_SIZE_MAX];
    fill_range(call, request);
    request->reverse = call->base.below;
    request->keys_only = (base->flags & KVS_OP_FLAG_KEYS_ONLY) != 0;
    if (call->base.below) {
        if (slice_compare(region->start, call->end) > 0)
            request->end = region->start;
        if (request->key.size == 0) { /* not every store knows an empty upper bound */
            memset(highest, 0xff, sizeof highest);
            request->key = slice_make(highest, sizeof highest);
        }
    } else {
        request->end = smaller_end(call->end, region->end);
    }
    size_t left = base->limit > 0 ? base->limit - op->page.count + 1 : OP_SCAN_LIMIT_MAX;
    if (request->limit > left)
        request->limit = (uint32_t)left;
    call->to = request->limit;
    /* The bound has to outlive the region: it is where the next call goes on. */
    buf_clear(&call->region_bound);
    int error = buf_append_slice(&call->region_bound, request->end);
    if (error != 0)
        return error;
    return 0;
}

static bool scan_has_room(const struct tikv_op *op, const kvs_op *base, const struct raw_pair *pair)
{
    const struct page *page = &op->page;
    if (base->limit > 0 && page->count >= base->limit)
        return false;
    size_t size = page_bytes(page) + page->count * STORE_PAIR_OVERHEAD + pair->key.size +
                  pair->value.size + STORE_PAIR_OVERHEAD;
    return !is_paged(base) || page->count == 0 || size <= STORE_PAGE_SIZE_MAX;
}

/* Returns 1 when the scan's end is reached before the answer's, 0, or an error. */
static int scan_take(struct raw_call *call, struct raw_reply *reply, uint32_t *ret_count)
{
    struct tikv_op *op = op_of_call(call);
    kvs_op *base = kvs_op_of_tikv(op);
    bool keys_only = (base->flags & KVS_OP_FLAG_KEYS_ONLY) != 0;
    struct raw_pair pair;
    int more;
    while ((more = raw_reply_next_pair(reply, tikv_cluster_prefix(call->base.cluster), &pair)) >
           0) {
        if (pair.has_error)
            return KVS_ERR_IO;
        if (keys_only)
            pair.value = slice_make(NULL, 0);
        if (!scan_has_room(op, base, &pair)) {
            base->more = true;
            return 1;
        }
        int error = page_append(&op->page, pair.key, pair.value, true);
        if (error != 0)
            return error;
        ++*ret_count;
    }
    return more;
}

/* About a page, going by the pairs so far. */
static uint32_t scan_next_limit(const struct tikv_op *op)
{
    size_t size = page_bytes(&op->page) + op->page.count * STORE_PAIR_OVERHEAD;
    size_t average = op->page.count > 0 ? size / op->page.count : STORE_PAIR_OVERHEAD;
    size_t limit = STORE_PAGE_SIZE_MAX / (average > 0 ? average : 1) + 2;
    return limit < OP_SCAN_LIMIT_MAX ? (uint32_t)limit : OP_SCAN_LIMIT_MAX;
}

static void scan_end(struct raw_call *call)
{
    struct tikv_op *op = op_of_call(call);
    op_free_call(call);
    op->active--;
    page_detach(&op->page, kvs_op_of_tikv(op));
    op_end(op, 0);
}

static bool scan_is_over(const struct raw_call *call)
{
    if (slice_equal(buf_slice(&call->region_bound), call->end))
        return true;
    /* Backwards, the first region begins with the empty key. */
    return call->base.below && call->region_bound.size == 0;
}

static void scan_on_reply(struct raw_call *call, struct raw_reply *reply)
{
    struct tikv_op *op = op_of_call(call);
    uint32_t count = 0;
    int result = scan_take(call, reply, &count);
    if (result < 0) {
        fail(call, result);
        return;
    }
    bool region_is_over = count < call->to;
    if (result == 1 || (region_is_over && scan_is_over(call))) {
        scan_end(call);
        return;
    }
    int error = region_is_over ? call_set_bounds(call, buf_slice(&call->region_bound), call->end)
                               : set_key_after(call, page_last_key(&op->page));
    if (error != 0) {
        fail(call, error);
        return;
    }
    call->limit = scan_next_limit(op);
    raw_call_start(call);
}

static const struct raw_call_methods scan_methods = {
    .fit = scan_fit,
    .on_reply = scan_on_reply,
    .on_failed = op_fail_call,
};

int raw_scan_begin(struct tikv_op *op)
{
    const kvs_op *base = kvs_op_of_tikv(op);
    if (is_empty_range(base->key, base->end_key)) {
        op_end(op, 0);
        return 0;
    }
    bool reverse = (base->flags & KVS_OP_FLAG_REVERSE) != 0;
    return range_begin(op, RAW_SCAN, &scan_methods, base->key, base->end_key, reverse,
                       OP_SCAN_LIMIT_FIRST, base->family);
}
