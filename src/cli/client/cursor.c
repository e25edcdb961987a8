/*
 * cli/client/cursor.c: ranges from the command line, and reading one page by page.
 *
 * Happy path: (1) cursor_init asks for the first page; (2) cursor_next waits for it, notes where
 * the next one begins, asks for that one and hands out the first; (3) so on until a page says that
 * there is no more. While the caller prints a page the next is on its way. The pages of a range
 * follow each other in key order without gap or overlap, each as of the moment it was read.
 * A failed page ends the walk with a message. Main thread.
 */
#include "cli/client/client.h"

/* The first byte string behind all that begin with `bytes`; empty: there is none. */
static int append_prefix_end(struct buf *end, kvs_slice bytes)
{
    size_t size = bytes.size;
    while (size > 0 && bytes.data[size - 1] == 0xff)
        size--;
    int error = buf_append(end, bytes.data, size);
    if (error == 0 && size > 0)
        end->data[end->size - 1]++;
    return error;
}

int range_from_options(const struct client *client, struct range *ret_range)
{
    const struct client_options *options = &client->options;
    struct range range = {BUF_INIT, BUF_INIT};
    if (options->prefix.data != NULL && (options->start.data != NULL || options->end.data != NULL))
        return client_misuse(client, "--prefix is a range of its own: leave --start and --end out");
    int status = 0;
    if (options->prefix.data != NULL) {
        status = client_bytes(client, options->prefix, &range.start);
        if (status == 0 && append_prefix_end(&range.end, buf_slice(&range.start)) != 0)
            status = client_fail(client, "out of memory");
    }
    if (options->start.data != NULL)
        status = client_bytes(client, options->start, &range.start);
    if (status == 0 && options->end.data != NULL)
        status = client_bytes(client, options->end, &range.end);
    if (status == 0 && options->prefix.data == NULL && options->end.data != NULL &&
        range.end.size == 0)
        status = client_misuse(client, "--end is empty: leave it out to go to the last key");
    if (status != 0)
        range_deinit(&range);
    else
        *ret_range = range;
    return status;
}

bool range_is_everything(const struct range *range)
{
    return range->start.size == 0 && range->end.size == 0;
}

void range_deinit(struct range *range)
{
    buf_deinit(&range->start);
    buf_deinit(&range->end);
}

static void cursor_ask(struct cursor *cursor, unsigned index)
{
    kvs_op *op = &cursor->calls[index].op;
    op->family = cursor->family;
    op->flags = (uint16_t)cursor->flags;
    op->limit = cursor->left < UINT32_MAX ? (uint32_t)cursor->left : 0;
    op->key = buf_slice(&cursor->range.start);
    op->end_key = buf_slice(&cursor->range.end);
    cursor->current = index;
    cursor->waiting = true;
    call_start(cursor->client, &cursor->calls[index]);
}

void cursor_init(struct cursor *cursor, struct client *client, struct range *range, uint8_t family,
                 unsigned flags, uint64_t limit)
{
    *cursor = (struct cursor){.client = client, .range = *range, .family = family, .flags = flags};
    *range = (struct range){BUF_INIT, BUF_INIT};
    cursor->left = limit != 0 ? limit : UINT64_MAX;
    for (unsigned i = 0; i < 2; i++)
        call_init(&cursor->calls[i], KVS_OP_SCAN);
    cursor_ask(cursor, 0);
}

/* The bound behind the last key of a page. *ret_end when no key can follow. */
static int cursor_continue(struct cursor *cursor, kvs_slice last, bool *ret_end)
{
    if ((cursor->flags & KVS_OP_FLAG_REVERSE) != 0) {
        buf_clear(&cursor->range.end);
        return buf_append_slice(&cursor->range.end, last);
    }
    buf_clear(&cursor->range.start);
    if (last.size < KVS_KEY_SIZE_MAX) {
        int error = buf_append_slice(&cursor->range.start, last);
        return error != 0 ? error : buf_append_u8(&cursor->range.start, 0);
    }
    /* A key of full size cannot be lengthened: the next one differs within it. */
    int error = append_prefix_end(&cursor->range.start, last);
    *ret_end = error == 0 && cursor->range.start.size == 0;
    return error;
}

int cursor_next(struct cursor *cursor, const kvs_pair **ret_pairs, size_t *ret_count)
{
    if (cursor->holding)
        call_release_result(
            &cursor->calls[cursor->waiting ? 1 - cursor->current : cursor->current]);
    cursor->holding = false;
    *ret_count = 0;
    if (!cursor->waiting)
        return 0;
    if (client_interrupted())
        return client_fail_operation(cursor->client, KVS_ERR_CANCELLED, "");
    unsigned index = cursor->current;
    kvs_op *op = &cursor->calls[index].op;
    int error = call_wait(cursor->client, &cursor->calls[index]);
    cursor->waiting = false;
    cursor->holding = true;
    if (error != 0)
        return call_tell_failure(cursor->client, &cursor->calls[index]);
    bool ended = !op->more;
    if (op->pairs_count < cursor->left)
        cursor->left -= op->pairs_count;
    else
        ended = true;
    if (!ended && op->pairs_count == 0)
        return client_fail(cursor->client, "the store gave an empty page, at %s",
                           cursor->client->url);
    if (!ended && cursor_continue(cursor, op->pairs[op->pairs_count - 1].key, &ended) != 0)
        return client_fail(cursor->client, "out of memory");
    if (!ended)
        cursor_ask(cursor, 1 - index);
    *ret_pairs = op->pairs;
    *ret_count = op->pairs_count;
    return 0;
}

void cursor_deinit(struct cursor *cursor)
{
    if (cursor->waiting) {
        call_cancel(cursor->client, &cursor->calls[cursor->current]);
        call_wait(cursor->client, &cursor->calls[cursor->current]);
    }
    for (unsigned i = 0; i < 2; i++)
        call_deinit(&cursor->calls[i]);
    range_deinit(&cursor->range);
}
