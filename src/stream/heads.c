/*
 * stream/heads.c: what the sequencer knows of each stream, a cache of records and last numbers.
 *
 * A head that is not pinned says what the engine says; one that is pinned is ahead of it by the
 * batches on their way. So only what is not pinned may be forgotten, and only before the view of a
 * turn is begun: then that view shows all that the forgotten head knew.
 */
#include "stream/streams.h"

#include "base/checksum.h"
#include "base/mem.h"

int heads_init(struct heads *heads, uint64_t seed)
{
    *heads = (struct heads){.seed = seed, .buckets_count = HEADS_BUCKETS_MIN};
    list_init(&heads->used);
    heads->buckets = mem_zalloc(HEADS_BUCKETS_MIN * sizeof(struct head *));
    return heads->buckets != NULL ? 0 : KVS_ERR_NO_MEMORY;
}

static struct head **bucket_of(const struct heads *heads, uint64_t hash)
{
    return &heads->buckets[hash & (heads->buckets_count - 1)];
}

static void head_free(struct heads *heads, struct head *head)
{
    struct head **at = bucket_of(heads, head->hash);
    while (*at != head)
        at = &(*at)->next;
    *at = head->next;
    list_remove(&head->used);
    heads->count--;
    buf_deinit(&head->acl);
    mem_free(head);
}

void heads_clear(struct heads *heads)
{
    while (!list_empty(&heads->used))
        head_free(heads, list_entry(heads->used.next, struct head, used));
}

void heads_deinit(struct heads *heads)
{
    if (heads->buckets != NULL)
        heads_clear(heads);
    mem_free(heads->buckets);
    heads->buckets = NULL;
}

void heads_trim(struct heads *heads)
{
    struct list *at = heads->used.next;
    while (heads->count > HEADS_MAX && at != &heads->used) {
        struct head *head = list_entry(at, struct head, used);
        at = at->next;
        if (head->pins == 0)
            head_free(heads, head);
    }
}

/* Longer chains are borne when there is no memory for more buckets. */
static void heads_grow(struct heads *heads)
{
    if (heads->count < heads->buckets_count)
        return;
    uint32_t count = heads->buckets_count * 2;
    struct head **buckets = mem_zalloc(count * sizeof(struct head *));
    if (buckets == NULL)
        return;
    mem_free(heads->buckets);
    heads->buckets = buckets;
    heads->buckets_count = count;
    for (struct list *at = heads->used.next; at != &heads->used; at = at->next) {
        struct head *head = list_entry(at, struct head, used);
        struct head **bucket = bucket_of(heads, head->hash);
        head->next = *bucket;
        *bucket = head;
    }
}

static int head_load(struct engine_view *view, kvs_slice name, struct head *head)
{
    struct buf deltas = BUF_INIT;
    struct run run;
    int error = lookup_stream_run(view, name, &head->settings, &deltas, &run);
    head->last = run.count > 0 ? run_last_number(&run) : -1;
    if (error == 0 && run.count > 0)
        error = run_tail_load(&head->tail, &run);
    buf_deinit(&deltas);
    if (error == 0)
        error = buf_append_slice(&head->acl, head->settings.acl);
    head->settings.acl = buf_slice(&head->acl);
    return error;
}

int heads_get(struct heads *heads, struct engine_view *view, kvs_slice name, struct head **ret_head)
{
    uint64_t hash = checksum_seeded(name.data, name.size, heads->seed);
    for (struct head *head = *bucket_of(heads, hash); head != NULL; head = head->next) {
        if (head->hash == hash && slice_equal(head_name(head), name)) {
            list_remove(&head->used);
            list_append(&heads->used, &head->used);
            *ret_head = head;
            return 0;
        }
    }
    struct head *head = mem_zalloc(sizeof *head + name.size);
    if (head == NULL)
        return KVS_ERR_NO_MEMORY;
    head->hash = hash;
    head->name_size = (uint32_t)name.size;
    memcpy(head->name, name.data, name.size);
    int error = head_load(view, name, head);
    if (error != 0) {
        buf_deinit(&head->acl);
        mem_free(head);
        return error;
    }
    heads_grow(heads);
    struct head **bucket = bucket_of(heads, hash);
    head->next = *bucket;
    *bucket = head;
    list_append(&heads->used, &head->used);
    heads->count++;
    *ret_head = head;
    return 0;
}
