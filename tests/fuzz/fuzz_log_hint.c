/*
 * tests/fuzz/fuzz_log_hint.c: any bytes as a hint, as they are and with their checksums set right.
 * What is believed can be read to its end, and a seek finds each of its keys.
 */
#include "fuzz/target.h"
#include "unit/engine/hint_sums.h"

#include <assert.h>
#include <stdlib.h>

static void read_all(const struct hint *hint)
{
    struct hint_cursor cursor;
    struct hint_cursor seeker;
    if (hint_cursor_init(&cursor, hint) != 0 || hint_cursor_init(&seeker, hint) != 0)
        abort();
    uint32_t count = 0;
    while (hint_cursor_next(&cursor)) {
        count++;
        bool found = hint_cursor_seek(&seeker, cursor.item.family, cursor.item.key);
        assert(found && seeker.item.offset == cursor.item.offset);
        assert(slice_equal(seeker.item.key, cursor.item.key));
        (void)found;
    }
    assert(count == hint->count && !cursor.is_bad);
    hint_cursor_deinit(&cursor);
    hint_cursor_deinit(&seeker);
}

static void try_take(struct buf *bytes)
{
    struct hint_binding binding = {0};
    struct hint hint;
    if (bytes->size >= HINT_HEADER_SIZE)
        binding = (struct hint_binding){get_u32(bytes->data + 8), get_u32(bytes->data + 12),
                                        get_u32(bytes->data + 16), get_u32(bytes->data + 20)};
    if (hint_take(bytes, &binding, &hint) != 0)
        return;
    read_all(&hint);
    hint_deinit(&hint);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct buf bytes = BUF_INIT;
    if (buf_append(&bytes, data, size) != 0)
        abort();
    try_take(&bytes);
    buf_deinit(&bytes);
    if (size < HINT_HEADER_SIZE)
        return 0;
    if (buf_append(&bytes, data, size) != 0)
        abort();
    hint_sum(&bytes);
    try_take(&bytes);
    buf_deinit(&bytes);
    return 0;
}
