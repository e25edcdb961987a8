/*
 * tests/unit/engine/test_log_hint.c: hints say what their segments say, and nothing that was
 * changed is believed.
 */
#include "base/rand.h"
#include "engine/log/format.h"
#include "engine/log/hint.h"
#include "engine/log/hint_sort.h"
#include "engine/log/range_sweep.h"
#include <kvs/error.h>

#include "seed.h"
#include "test.h"
#include "unit/engine/hint_sums.h"
#include "unit/engine/log_pages.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define OK(call) assert_int_equal((call), 0)

#define NUMBER 7u
#define KEYS 3000u
#define GUESSES TIMES(20000u, 4000u, 1000u)
#define KEY_SIZE_MAX 300u

/* The last record of each key, as a plain list. */
struct model {
    struct known {
        bool is_there;
        struct record record;
        uint32_t offset;
    } keys[2][KEYS];
    uint8_t bytes[KEYS][KEY_SIZE_MAX];
    size_t sizes[KEYS];
    uint64_t sequence;      /* the last one that is taken */
    uint64_t sequence_last; /* the highest of the records; 0: none */
};

static kvs_slice key_of(const struct model *model, unsigned i)
{
    return slice_make(model->bytes[i], model->sizes[i]);
}

/* Keys in ascending order: some alike in a few bytes, some in many, some the begin of the next. */
static void keys_make(struct model *model, struct rand *rand, const char *head)
{
    for (unsigned i = 0; i < KEYS; i++) {
        char *text = (char *)model->bytes[i];
        int size = i % 3 == 0 ? snprintf(text, KEY_SIZE_MAX, "%s%05u", head, i / 3)
                              : snprintf(text, KEY_SIZE_MAX, "%s/%0*d", model->bytes[i - 1],
                                         1 + (int)rand_below(rand, 40), 0);
        model->sizes[i] = (size_t)size;
    }
    for (unsigned i = 1; i < KEYS; i++)
        assert_true(slice_compare(key_of(model, i - 1), key_of(model, i)) < 0);
}

static void range_apply(struct model *model, const struct record *record)
{
    for (unsigned i = 0; i < KEYS; i++) {
        kvs_slice key = key_of(model, i);
        struct known *known = &model->keys[record->family][i];
        if (slice_compare(record->key, key) <= 0 &&
            (record->value.size == 0 || slice_compare(key, record->value) < 0) &&
            known->record.sequence < record->sequence)
            known->is_there = false;
    }
}

static void record_random(struct model *model, struct rand *rand, struct buf *page)
{
    static const uint8_t value[500] = {1};
    unsigned family = (unsigned)rand_below(rand, 2);
    unsigned i = (unsigned)rand_below(rand, rand_below(rand, 2) == 0 ? 50 : KEYS);
    struct record record = {.family = (uint8_t)family, .sequence = ++model->sequence};
    unsigned what = (unsigned)rand_below(rand, 1000);
    if (what < 3) { /* one in three is one that compaction moved here, and older than all */
        unsigned last = i + (unsigned)rand_below(rand, 200);
        record.kind = RECORD_REMOVE_RANGE;
        record.key = i > 0 ? key_of(model, i) : (kvs_slice){0};
        record.value = last < KEYS ? key_of(model, last) : (kvs_slice){0};
        if (what == 0) {
            record.sequence = 10;
            model->sequence--;
        }
        if (model->sequence_last < record.sequence)
            model->sequence_last = record.sequence;
        page_add(page, NUMBER, &record);
        range_apply(model, &record);
        return;
    }
    model->sequence_last = record.sequence;
    record.kind = what < 100 ? RECORD_REMOVE : RECORD_SET;
    record.key = key_of(model, i);
    if (record.kind == RECORD_SET) {
        record.value = slice_make(value, what < 500 ? 100 : rand_below(rand, sizeof value));
        record.expires_at_ms = what % 7 == 0 ? 1000 + model->sequence : 0;
    }
    model->keys[family][i] = (struct known){true, record, page_add(page, NUMBER, &record)};
}

static void page_random(struct model *model, struct rand *rand, struct buf *page, const char *head,
                        unsigned records)
{
    memset(model, 0, sizeof *model);
    keys_make(model, rand, head);
    model->sequence = 1000;
    page_begin(page, NUMBER, model->sequence + 1);
    for (unsigned i = 0; i < records; i++)
        record_random(model, rand, page);
    page_seal(page, NUMBER, model->sequence);
}

static void assert_item_is(const struct hint_item *item, const struct known *known)
{
    assert_int_equal(item->kind, known->record.kind);
    assert_int_equal(item->family, known->record.family);
    assert_int_equal(item->offset, known->offset);
    assert_int_equal(item->value_size, known->record.value.size);
    assert_int_equal(item->expires_at_ms, known->record.expires_at_ms);
    assert_true(slice_equal(item->key, known->record.key));
}

static void assert_says(const struct hint *hint, const struct model *model)
{
    struct hint_cursor cursor;
    OK(hint_cursor_init(&cursor, hint));
    uint32_t count = 0;
    for (unsigned family = 0; family < 2; family++) {
        for (unsigned i = 0; i < KEYS; i++) {
            if (!model->keys[family][i].is_there)
                continue;
            count++;
            assert_true(hint_cursor_next(&cursor));
            assert_item_is(&cursor.item, &model->keys[family][i]);
        }
    }
    assert_false(hint_cursor_next(&cursor));
    assert_false(cursor.is_bad);
    assert_int_equal(hint->count, count);
    hint_cursor_deinit(&cursor);
}

static void assert_seeks(const struct hint *hint, const struct model *model, struct rand *rand)
{
    struct hint_cursor cursor;
    OK(hint_cursor_init(&cursor, hint));
    for (unsigned n = 0; n < 300; n++) {
        unsigned family = (unsigned)rand_below(rand, 3);
        unsigned i = (unsigned)rand_below(rand, KEYS);
        bool any = hint_cursor_seek(&cursor, family, key_of(model, i));
        while (family < 2 && !model->keys[family][i].is_there) {
            if (++i == KEYS) {
                i = 0;
                family++;
            }
        }
        assert_int_equal(any, family < 2);
        if (any)
            assert_item_is(&cursor.item, &model->keys[family][i]);
    }
    hint_cursor_deinit(&cursor);
}

/* The file's bytes, taken as they were read. */
static bool take(const struct hint *made, struct hint *ret_hint)
{
    struct buf bytes = BUF_INIT;
    OK(buf_append_slice(&bytes, buf_slice(&made->bytes)));
    bool taken = hint_take(&bytes, &made->binding, ret_hint) == 0;
    buf_deinit(&bytes);
    return taken;
}

/* The revision before says the same. */
static void assert_old_is_taken(const struct hint *made, const struct model *model)
{
    struct buf bytes;
    struct hint taken;
    OK(hint_old(made, &bytes));
    assert_int_equal(hint_items_size(bytes.data), 0);
    OK(hint_take(&bytes, &made->binding, &taken));
    assert_true(hint_is_old(&taken) && !hint_is_old(made));
    assert_true(hint_is_same(made, &taken));
    assert_says(&taken, model);
    hint_deinit(&taken);
}

/* Without its items, of which each block comes alone. */
static void assert_blocks(const struct hint *made, const struct model *model)
{
    struct buf bytes = BUF_INIT;
    struct hint frame;
    struct hint_cursor cursor;
    OK(buf_append_slice(&bytes, buf_slice(&made->bytes)));
    assert_int_equal(hint_items_size(bytes.data), made->items.size);
    memset(bytes.data + HINT_HEADER_SIZE, 0xa5, made->items.size);
    assert_true(hint_take_frame(&bytes, &made->binding, &frame));
    OK(hint_cursor_init(&cursor, &frame));
    uint32_t restart = 0;
    for (unsigned family = 0; family < HINT_FAMILIES; family++) {
        uint32_t from;
        uint32_t to;
        hint_family_restarts(&frame, family, &from, &to);
        assert_int_equal(from, restart);
        uint32_t left = made->counts[family];
        for (; restart < to; restart++) {
            struct hint_block block = hint_block(&frame, restart);
            uint8_t *copy = malloc(block.size);
            memcpy(copy, made->items.data + block.at, block.size);
            kvs_slice alone = slice_make(copy, block.size);
            assert_true(hint_block_is_right(&frame, restart, alone));
            assert_true(hint_cursor_enter(&cursor, restart, alone));
            for (uint32_t i = 1; i < block.count; i++)
                assert_true(hint_cursor_next(&cursor));
            assert_int_equal(cursor.item.family, family);
            left -= block.count;
            copy[block.size - 1] ^= 1;
            assert_false(hint_block_is_right(&frame, restart, alone));
            free(copy);
        }
        assert_int_equal(left, 0);
    }
    assert_int_equal(restart, hint_restarts(&frame));
    assert_int_equal(hint_check_items(&frame), frame.count > 0 ? KVS_ERR_CORRUPTION : 0);
    memcpy(frame.bytes.data + HINT_HEADER_SIZE, made->items.data, made->items.size);
    OK(hint_check_items(&frame));
    assert_says(&frame, model);
    hint_cursor_deinit(&cursor);
    hint_deinit(&frame);
}

static void test_says_what_the_segment_says(void **state)
{
    static const char *const heads[] = {"", "k", "a head of more than eight bytes/",
                                        "01234567890123456789012345678901234567890123456789"};
    struct rand rand = rand_seed(test_seed());
    struct model *model = malloc(sizeof *model);
    for (unsigned n = 0; n < TIMES(16, 8, 8); n++) {
        struct buf page;
        struct hint made;
        struct hint taken;
        page_random(model, &rand, &page, heads[n % 4], n < 4 ? n : 20000);
        OK(hint_build(buf_slice(&page), NUMBER, &made));
        assert_says(&made, model);
        assert_seeks(&made, model, &rand);
        assert_int_equal(made.sequence_last, model->sequence_last);
        assert_true(take(&made, &taken));
        assert_says(&taken, model);
        assert_int_equal(taken.sequence_last, made.sequence_last);
        assert_int_equal(taken.set_sequence_min, made.set_sequence_min);
        assert_int_equal(taken.tombstone_bytes, made.tombstone_bytes);
        assert_int_equal(taken.runs, made.runs);
        assert_int_equal(hint_is_scattered(&made), n >= 4); /* 20,000 keys in any order */
        assert_true(hint_is_same(&made, &taken));
        hint_deinit(&taken);
        assert_old_is_taken(&made, model);
        assert_blocks(&made, model);
        hint_deinit(&made);
        buf_deinit(&page);
    }
    free(model);
}

/* Any flipped bit, any end that is missing, any other segment. */
static void test_nothing_else_is_believed(void **state)
{
    struct rand rand = rand_seed(test_seed());
    struct model *model = malloc(sizeof *model);
    struct buf page;
    struct hint made;
    struct hint taken;
    page_random(model, &rand, &page, "key", 700);
    OK(hint_build(buf_slice(&page), NUMBER, &made));
    for (size_t i = 0; i < made.bytes.size; i++) {
        uint8_t bit = (uint8_t)(1u << rand_below(&rand, 8));
        made.bytes.data[i] ^= bit;
        assert_false(take(&made, &taken));
        made.bytes.data[i] ^= bit;
    }
    size_t size = made.bytes.size;
    for (made.bytes.size = 0; made.bytes.size < size; made.bytes.size += 1 + size / 100)
        assert_false(take(&made, &taken));
    made.bytes.size = size;
    for (unsigned i = 0; i < 4; i++) {
        struct hint other = made;
        uint32_t *fields[] = {&other.binding.segment, &other.binding.size,
                              &other.binding.header_checksum, &other.binding.seal_checksum};
        *fields[i] += 1;
        assert_false(take(&other, &taken));
    }
    assert_true(take(&made, &taken));
    hint_deinit(&taken);
    hint_deinit(&made);
    buf_deinit(&page);
    free(model);
}

/* Few different bytes, zeros among them, so that many keys are the same for long, are the begin of
 * others, or differ in where they end. */
static size_t key_alike(struct rand *rand, uint8_t *key)
{
    static const uint8_t bytes[] = {0, 0, 0, 1, 255};
    size_t size = 1 + rand_below(rand, rand_below(rand, 2) == 0 ? 4 : 40);
    uint8_t fill = bytes[rand_below(rand, sizeof bytes)];
    memset(key, fill, size);
    for (uint64_t changed = rand_below(rand, 3); changed > 0; changed--)
        key[rand_below(rand, size)] = bytes[rand_below(rand, sizeof bytes)];
    return size;
}

/* As of a transaction's writes: a key, and the number of a version, the newest first. */
static size_t key_versioned(struct rand *rand, uint8_t *key)
{
    int size = snprintf((char *)key, 64, "key %03u of versions.", (unsigned)rand_below(rand, 5));
    put_u64_be(key + size, UINT64_MAX - rand_below(rand, 1u << 20));
    return (size_t)size + 8;
}

static kvs_slice page_key(const struct buf *page, const struct sort_item *item)
{
    struct record record;
    assert_int_not_equal(
        record_parse(slice_make(page->data + item->offset, page->size - item->offset), &record), 0);
    assert_int_equal(record.family, item->family);
    return record.key;
}

static void assert_sorted(const struct buf *page, const struct sort_item *items, size_t count)
{
    for (size_t i = 1; i < count; i++) {
        const struct sort_item *a = &items[i - 1];
        const struct sort_item *b = &items[i];
        int order = slice_compare(page_key(page, a), page_key(page, b));
        assert_true(
            a->family < b->family ||
            (a->family == b->family && (order < 0 || (order == 0 && a->offset < b->offset))));
        if (a->family == b->family && order == 0)
            assert_true(a->word == b->word);
    }
}

static void test_sorts_what_is_alike(void **state)
{
    enum { COUNT_MAX = 5000 };
    struct rand rand = rand_seed(test_seed());
    struct sort_item *items = malloc(COUNT_MAX * sizeof *items);
    for (unsigned n = 0; n < 40; n++) {
        struct buf page;
        size_t count = n < 10 ? n : 1 + rand_below(&rand, COUNT_MAX);
        page_begin(&page, NUMBER, 1);
        uint64_t sum = 0;
        for (size_t i = 0; i < count; i++) {
            uint8_t key[64];
            size_t size = n % 2 == 0 ? key_alike(&rand, key) : key_versioned(&rand, key);
            struct record record = {.kind = RECORD_SET,
                                    .family = (uint8_t)rand_below(&rand, 3),
                                    .sequence = 1 + i,
                                    .key = slice_make(key, size)};
            items[i].family = record.family;
            items[i].offset = page_add(&page, NUMBER, &record);
            sum += items[i].offset;
        }
        OK(hint_sort(buf_slice(&page), items, count));
        assert_sorted(&page, items, count);
        for (size_t i = 0; i < count; i++)
            sum -= items[i].offset;
        assert_int_equal(sum, 0);
        buf_deinit(&page);
    }
    free(items);
}

/* With checksums that are right: what is believed keeps to its bounds and its order. */
static void test_bytes_that_nobody_wrote(void **state)
{
    struct rand rand = rand_seed(test_seed());
    struct model *model = malloc(sizeof *model);
    struct buf page;
    struct hint made;
    page_random(model, &rand, &page, "key", 700);
    OK(hint_build(buf_slice(&page), NUMBER, &made));
    unsigned believed = 0;
    for (unsigned n = 0; n < GUESSES; n++) {
        struct buf bytes = BUF_INIT;
        struct hint hint;
        OK(buf_append_slice(&bytes, buf_slice(&made.bytes)));
        size_t at = (size_t)rand_below(&rand, bytes.size - 48) + 48;
        bytes.data[at] = (uint8_t)rand_u64(&rand);
        hint_sum(&bytes);
        bool taken = hint_take(&bytes, &made.binding, &hint) == 0;
        believed += taken;
        if (taken)
            hint_deinit(&hint);
        buf_deinit(&bytes);
    }
    print_message("# %u of %u were believed\n", believed, GUESSES);
    hint_deinit(&made);
    buf_deinit(&page);
    free(model);
}

static void test_range_sweep(void **state)
{
    struct rand rand = rand_seed(test_seed());
    for (unsigned n = 0; n < 200; n++) {
        struct range_list list = {0};
        struct range_sweep sweep;
        static uint8_t keys[64][2];
        unsigned count = (unsigned)rand_below(&rand, 32);
        for (unsigned i = 0; i < count; i++) {
            for (unsigned k = 2 * i; k < 2 * i + 2; k++) {
                keys[k][0] = (uint8_t)rand_below(&rand, 8);
                keys[k][1] = (uint8_t)rand_below(&rand, 8);
            }
            struct record record = {.kind = RECORD_REMOVE_RANGE,
                                    .family = (uint8_t)rand_below(&rand, 3),
                                    .sequence = 1 + rand_below(&rand, 100),
                                    .key = slice_make(keys[2 * i], rand_below(&rand, 3)),
                                    .value = slice_make(keys[2 * i + 1], rand_below(&rand, 3))};
            OK(range_list_add(&list, &record));
        }
        range_list_sort(&list);
        OK(range_sweep_init(&sweep, &list));
        for (unsigned i = 0; i < 3 * 64; i++) {
            const uint8_t bytes[2] = {(uint8_t)(i % 64 / 8), (uint8_t)(i % 8)};
            kvs_slice key = slice_make(bytes, 2);
            uint64_t expected = 0;
            uint64_t got;
            for (unsigned k = 0; k < count; k++) {
                const struct range_removal *range = &list.ranges[k];
                if (range->family == i / 64 && slice_compare(range->start, key) <= 0 &&
                    (range->end.size == 0 || slice_compare(key, range->end) < 0) &&
                    range->sequence > expected)
                    expected = range->sequence;
            }
            OK(range_sweep_at(&sweep, i / 64, key, &got));
            assert_int_equal(got, expected);
        }
        range_sweep_deinit(&sweep);
        range_list_deinit(&list);
    }
}

static void test_names(void **state)
{
    char name[HINT_NAME_SIZE];
    uint32_t segment;
    bool is_new;
    hint_name_format(4294967295u, true, name);
    assert_string_equal(name, "4294967295.hint.new");
    assert_true(hint_name_parse(name, &is_new, &segment));
    assert_true(is_new && segment == 4294967295u);
    hint_name_format(12, false, name);
    assert_string_equal(name, "0000000012.hint");
    assert_true(hint_name_parse(name, &is_new, &segment));
    assert_true(!is_new && segment == 12);
    static const char *const others[] = {"",
                                         "0000000012.seg",
                                         "0000000000.hint",
                                         "4294967296.hint",
                                         "000000012.hint",
                                         "0000000012.hint.old",
                                         "0000000012.hint.new2",
                                         "00000000a2.hint"};
    for (size_t i = 0; i < sizeof others / sizeof others[0]; i++)
        assert_false(hint_name_parse(others[i], &is_new, &segment));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_says_what_the_segment_says),
        cmocka_unit_test(test_sorts_what_is_alike),
        cmocka_unit_test(test_nothing_else_is_believed),
        cmocka_unit_test(test_bytes_that_nobody_wrote),
        cmocka_unit_test(test_range_sweep),
        cmocka_unit_test(test_names),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
