/*
 * client/tikv/raw_batch.c: batch reads and batch writes; see client/tikv/raw_op.h.
 *
 * op->order holds indices of keys or mutations in the order of their keys; a call is a part
 * [from, to) of it. When the call is sent it is cut at its region's end and at the size of one
 * request, and leaves a call for the rest. So an answer that says that regions have changed needs
 * no special treatment: the call is cut anew.
 */
#include "client/tikv/raw_op.h"

#include "base/mem.h"
#include "client/tikv/shard.h"
#include "store/store.h"

#include <assert.h>
#include <stdlib.h>

#define PLACE_NONE UINT32_MAX

/* --- cutting ------------------------------------------------------------------------------------
 */

static kvs_slice key_at(const struct raw_call *call, uint32_t at)
{
    const struct tikv_op *op = op_of_call(call);
    const kvs_op *base = kvs_op_of_tikv(call->op);
    uint32_t index = op->order[at];
    return base->kind == KVS_OP_BATCH_GET ? base->keys[index] : base->mutations[index].key;
}

static size_t size_at(const struct raw_call *call, uint32_t at)
{
    size_t size = key_at(call, at).size;
    if (call->kind == RAW_BATCH_PUT)
        size += kvs_op_of_tikv(call->op)->mutations[op_of_call(call)->order[at]].value.size;
    return size;
}

/* Is the user's key below the region's end, which is a full key? */
static bool is_below(const struct raw_call *call, kvs_slice key, kvs_slice end)
{
    kvs_slice prefix = tikv_cluster_prefix(call->base.cluster);
    if (end.size == 0)
        return true;
    if (prefix.size == 0)
        return slice_compare(key, end) < 0;
    kvs_slice head = slice_make(end.data, end.size < prefix.size ? end.size : prefix.size);
    int order = slice_compare(prefix, head);
    if (order != 0 || head.size < prefix.size)
        return order < 0;
    return slice_compare(key, slice_make(end.data + head.size, end.size - head.size)) < 0;
}

static struct raw_call *add_part(struct tikv_op *op, enum raw_kind kind, unsigned family,
                                 uint32_t from, uint32_t to);

/* How many of the call's keys one request may hold in the region. */
static uint32_t part_end(const struct raw_call *call, const struct region *region)
{
    size_t size = 0;
    uint32_t end = call->from;
    while (end < call->to && end - call->from < call->limit) {
        size += size_at(call, end);
        bool fits = end == call->from || size <= OP_BATCH_BYTES_MAX;
        if (!fits || !is_below(call, key_at(call, end), region->end))
            break;
        end++;
    }
    return end > call->from ? end : call->from + 1;
}

static int batch_fit(struct raw_call *call, const struct region *region,
                     struct raw_request *request)
{
    struct tikv_op *op = op_of_call(call);
    const kvs_op *base = kvs_op_of_tikv(op);
    uint32_t end = part_end(call, region);
    if (end < call->to) {
        struct raw_call *rest = add_part(op, call->kind, call->family, end, call->to);
        if (rest == NULL)
            return KVS_ERR_NO_MEMORY;
        rest->limit = call->limit;
        call->to = end;
        op_start_call(rest);
    }
    request->family = raw_family_name(call->family);
    request->for_cas = !op->shard->plain_writes;
    request->order = op->order + call->from;
    request->count = call->to - call->from;
    request->keys = base->keys;
    request->mutations = base->mutations;
    return 0;
}

/* --- batch get ----------------------------------------------------------------------------------
 */

/* The first of the call's keys that is not below `key`. */
static uint32_t find_key(const struct raw_call *call, kvs_slice key)
{
    uint32_t low = call->from;
    uint32_t high = call->to;
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        if (slice_compare(key_at(call, middle), key) < 0)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

static int get_take_pair(struct raw_call *call, const struct raw_pair *pair)
{
    struct tikv_op *op = op_of_call(call);
    uint32_t at = find_key(call, pair->key);
    if (at == call->to || !slice_equal(key_at(call, at), pair->key))
        return KVS_ERR_PROTOCOL; /* nobody asked for it */
    if (op->place[op->order[at]] != PLACE_NONE)
        return 0; /* once more, for a key that was asked for twice */
    size_t size = page_bytes(&op->page) + pair->key.size + pair->value.size +
                  op->page.count * STORE_PAIR_OVERHEAD;
    if (size > KVS_BATCH_SIZE_MAX && op->page.count > 0)
        return KVS_ERR_TOO_LARGE;
    int error = page_append(&op->page, pair->key, pair->value, true);
    for (; error == 0 && at < call->to && slice_equal(key_at(call, at), pair->key); at++)
        op->place[op->order[at]] = (uint32_t)op->page.count - 1;
    return error;
}

static void get_on_reply(struct raw_call *call, struct raw_reply *reply)
{
    struct raw_pair pair;
    int error = 0;
    int more = 0;
    while (error == 0 &&
           (more = raw_reply_next_pair(reply, tikv_cluster_prefix(call->base.cluster), &pair)) > 0)
        error = pair.has_error ? KVS_ERR_IO : get_take_pair(call, &pair);
    if (error == 0 && more < 0)
        error = more;
    if (error != 0)
        op_fail_call(call, error, kvs_error_text(error));
    else
        op_end_call(call);
}

static const struct raw_call_methods get_methods = {
    .fit = batch_fit,
    .on_reply = get_on_reply,
    .on_failed = op_fail_call,
};

/* The page holds what came in the order it came; now as asked, with what is missing. */
int raw_batch_get_end(struct tikv_op *op)
{
    kvs_op *base = kvs_op_of_tikv(op);
    for (uint32_t i = 0; i < base->count; i++) {
        if (op->place[i] != PLACE_NONE)
            continue;
        int error = page_append(&op->page, base->keys[i], slice_make(NULL, 0), false);
        if (error != 0)
            return error;
        op->place[i] = (uint32_t)op->page.count - 1;
    }
    /* A key that was asked for twice has one pair in the page: room for one each is made. */
    while (op->page.count < base->count) {
        int error = page_append(&op->page, slice_make(NULL, 0), slice_make(NULL, 0), false);
        if (error != 0)
            return error;
    }
    kvs_pair *pairs = mem_alloc(base->count * sizeof pairs[0]);
    if (pairs == NULL)
        return KVS_ERR_NO_MEMORY;
    for (uint32_t i = 0; i < base->count; i++)
        pairs[i] = op->page.pairs[op->place[i]];
    memcpy(op->page.pairs, pairs, base->count * sizeof pairs[0]);
    mem_free(pairs);
    op->page.count = base->count;
    page_detach(&op->page, base);
    return 0;
}

/* --- order --------------------------------------------------------------------------------------
 */

static int compare_keys(const void *a, const void *b, void *arg)
{
    const kvs_op *op = arg;
    return slice_compare(op->keys[*(const uint32_t *)a], op->keys[*(const uint32_t *)b]);
}

/* By family and key; the last of a key first. */
static int compare_mutations(const void *a, const void *b, void *arg)
{
    const kvs_op *op = arg;
    uint32_t at = *(const uint32_t *)a;
    uint32_t bt = *(const uint32_t *)b;
    const kvs_mutation *am = &op->mutations[at];
    const kvs_mutation *bm = &op->mutations[bt];
    if (am->family != bm->family)
        return am->family < bm->family ? -1 : 1;
    int order = slice_compare(am->key, bm->key);
    return order != 0 ? order : at > bt ? -1 : 1;
}

/* By family and kind, then key. */
static int compare_groups(const void *a, const void *b, void *arg)
{
    const kvs_op *op = arg;
    const kvs_mutation *am = &op->mutations[*(const uint32_t *)a];
    const kvs_mutation *bm = &op->mutations[*(const uint32_t *)b];
    if (am->family != bm->family)
        return am->family < bm->family ? -1 : 1;
    if (am->kind != bm->kind)
        return am->kind < bm->kind ? -1 : 1;
    return slice_compare(am->key, bm->key);
}

int raw_batch_get_begin(struct tikv_op *op)
{
    kvs_op *base = kvs_op_of_tikv(op);
    op->order = mem_alloc((size_t)base->count * 2 * sizeof op->order[0]);
    if (op->order == NULL)
        return KVS_ERR_NO_MEMORY;
    op->place = op->order + base->count;
    for (uint32_t i = 0; i < base->count; i++) {
        op->order[i] = i;
        op->place[i] = PLACE_NONE;
    }
    qsort_r(op->order, base->count, sizeof op->order[0], compare_keys, base);
    struct raw_call *call = add_part(op, RAW_BATCH_GET, base->family, 0, base->count);
    if (call == NULL)
        return KVS_ERR_NO_MEMORY;
    op_start_call(call);
    return 0;
}

/* --- batch write --------------------------------------------------------------------------------
 */

static void write_on_reply(struct raw_call *call, struct raw_reply *reply)
{
    (void)reply;
    op_of_call(call)->written = true;
    op_end_call(call);
}

static const struct raw_call_methods write_methods = {
    .fit = batch_fit,
    .on_reply = write_on_reply,
    .on_failed = op_fail_call,
};

static struct raw_call *add_part(struct tikv_op *op, enum raw_kind kind, unsigned family,
                                 uint32_t from, uint32_t to)
{
    struct raw_call *call =
        op_add_call(op, kind, kind == RAW_BATCH_GET ? &get_methods : &write_methods);
    if (call == NULL)
        return NULL;
    call->base.alone = kind == RAW_BATCH_GET;
    call->limit = OP_BATCH_COUNT_MAX;
    call->family = (uint8_t)family;
    call->from = from;
    call->to = to;
    call->base.key = key_at(call, from);
    return call;
}

/* Of each key the last mutation. */
static uint32_t drop_overwritten(const kvs_op *base, uint32_t *order, uint32_t count)
{
    uint32_t kept = 0;
    for (uint32_t i = 0; i < count; i++) {
        const kvs_mutation *mutation = &base->mutations[order[i]];
        const kvs_mutation *last = kept > 0 ? &base->mutations[order[kept - 1]] : NULL;
        if (last == NULL || last->family != mutation->family ||
            !slice_equal(last->key, mutation->key))
            order[kept++] = order[i];
    }
    return kept;
}

/* One call for each family and kind; all are made before the first one starts. */
static int start_groups(struct tikv_op *op, uint32_t count)
{
    const kvs_op *base = kvs_op_of_tikv(op);
    struct list made;
    list_init(&made);
    for (uint32_t from = 0, to; from < count; from = to) {
        const kvs_mutation *first = &base->mutations[op->order[from]];
        for (to = from + 1; to < count; to++) {
            const kvs_mutation *at = &base->mutations[op->order[to]];
            if (at->family != first->family || at->kind != first->kind)
                break;
        }
        enum raw_kind kind = first->kind == KVS_MUTATION_SET ? RAW_BATCH_PUT : RAW_BATCH_DELETE;
        struct raw_call *call = add_part(op, kind, first->family, from, to);
        if (call == NULL) {
            struct list *at;
            while ((at = list_pop(&made)) != NULL)
                op_free_call(list_entry(at, struct raw_call, op_node));
            return KVS_ERR_NO_MEMORY;
        }
        list_append(&made, &call->op_node);
    }
    struct list *at;
    while ((at = list_pop(&made)) != NULL)
        op_start_call(list_entry(at, struct raw_call, op_node));
    return 0;
}

static bool is_empty_range(const kvs_mutation *mutation)
{
    return mutation->kind == KVS_MUTATION_REMOVE_RANGE && mutation->value.size > 0 &&
           slice_compare(mutation->key, mutation->value) >= 0;
}

int raw_batch_write_next(struct tikv_op *op, bool *ret_done)
{
    kvs_op *base = kvs_op_of_tikv(op);
    while (op->next < base->count && is_empty_range(&base->mutations[op->next]))
        op->next++;
    *ret_done = op->next == base->count;
    if (*ret_done)
        return 0;
    const kvs_mutation *first = &base->mutations[op->next];
    if (first->kind == KVS_MUTATION_REMOVE_RANGE) {
        op->next++;
        return raw_delete_range_begin(op, first->family, first->key, first->value);
    }
    uint32_t begin = op->next;
    while (op->next < base->count && base->mutations[op->next].kind != KVS_MUTATION_REMOVE_RANGE)
        op->next++;
    uint32_t count = op->next - begin;
    mem_free(op->order);
    op->order = mem_alloc(count * sizeof op->order[0]);
    if (op->order == NULL)
        return KVS_ERR_NO_MEMORY;
    for (uint32_t i = 0; i < count; i++)
        op->order[i] = begin + i;
    qsort_r(op->order, count, sizeof op->order[0], compare_mutations, base);
    count = drop_overwritten(base, op->order, count);
    qsort_r(op->order, count, sizeof op->order[0], compare_groups, base);
    return start_groups(op, count);
}
