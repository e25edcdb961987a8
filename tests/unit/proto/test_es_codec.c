/*
 * The codec of EventStoreDB's messages: random messages there and back, held against what
 * protobuf-c makes of schema/eventstore.proto; damaged and cut ones from memory of exactly their
 * size, so that ASan sees a reader that goes beyond; and real bytes of real clients.
 */
#include "base/mem.h"
#include "es_random.h"
#include "eventstore.pb-c.h"
#include "proto/eventstore/commands.h"

#include <kvs/error.h>

#include <inttypes.h>

#include "test.h"

#define SEED 20260214u
#define ROUNDS 400
#define STRUCT_SIZE_MAX 1024

#define PAIR(ours, theirs)                                                        \
    {                                                                             \
        &es_##ours##_type, &event_store__client__messages__##theirs##__descriptor \
    }
static const struct {
    const struct es_message_type *ours;
    const ProtobufCMessageDescriptor *theirs;
} pairs[] = {
#define SAME(name) PAIR(name, name),
    ES_MESSAGE_TYPES(SAME)
#undef SAME
};
#define PAIRS (sizeof pairs / sizeof pairs[0])

static int print_seed(void **state)
{
    (void)state;
    print_message("# seed %u\n", SEED);
    return 0;
}

/* Protobuf-c reads what we wrote, and writes it byte for byte the same. */
static void assert_they_agree(const ProtobufCMessageDescriptor *theirs, kvs_slice bytes)
{
    ProtobufCMessage *message = protobuf_c_message_unpack(theirs, NULL, bytes.size, bytes.data);
    assert_non_null(message);
    uint8_t *packed = mem_alloc(bytes.size + 1);
    assert_non_null(packed);
    assert_int_equal(protobuf_c_message_get_packed_size(message), bytes.size);
    protobuf_c_message_pack(message, packed);
    assert_memory_equal(packed, bytes.data, bytes.size);
    mem_free(packed);
    protobuf_c_message_free_unpacked(message, NULL);
}

/* Lists are read into arrays, so that the whole can be written again. */
static void gather_lists(const struct es_message_type *type, struct arena *arena, void *message)
{
    for (unsigned i = 0; i < type->count; i++) {
        const struct es_field *field = &type->fields[i];
        void *to = (uint8_t *)message + field->offset;
        if (field->kind == ES_KIND_MESSAGE)
            gather_lists(field->type, arena, to);
        if (field->kind != ES_KIND_MESSAGES && field->kind != ES_KIND_TEXTS)
            continue;
        struct es_list list;
        memcpy(&list, to, sizeof list);
        size_t size = field->kind == ES_KIND_TEXTS ? sizeof(kvs_slice) : field->type->size;
        struct es_list array = {.count = list.count};
        uint8_t *items = arena_zalloc(arena, size * list.count + 1);
        assert_non_null(items);
        for (uint32_t k = 0; k < array.count; k++) {
            void *item = items + k * size;
            if (field->kind == ES_KIND_TEXTS)
                assert_int_equal(es_list_next_text(&list, item), 1);
            else
                assert_int_equal(es_list_next(&list, field->type, item), 1);
        }
        kvs_slice none;
        assert_int_equal(es_list_next_text(&list, &none), 0);
        array.items = items;
        memcpy(to, &array, sizeof array);
    }
}

static void messages_come_back(void **state)
{
    (void)state;
    struct rand rand = rand_seed(SEED);
    struct arena arena = {0};
    _Alignas(16) static uint8_t message[STRUCT_SIZE_MAX], again[STRUCT_SIZE_MAX];
    for (size_t i = 0; i < PAIRS * ROUNDS; i++) {
        const struct es_message_type *type = pairs[i % PAIRS].ours;
        struct buf first = BUF_INIT, second = BUF_INIT;
        assert_true(type->size <= sizeof message);
        es_random_message(type, &rand, &arena, message);
        assert_int_equal(es_message_append(&first, type, message), 0);
        assert_int_equal(first.size, es_message_size(type, message));
        assert_they_agree(pairs[i % PAIRS].theirs, buf_slice(&first));
        assert_int_equal(es_message_decode(buf_slice(&first), type, again), 0);
        gather_lists(type, &arena, again);
        assert_int_equal(es_message_append(&second, type, again), 0);
        assert_int_equal(second.size, first.size);
        assert_memory_equal(second.data, first.data, first.size);
        buf_deinit(&first);
        buf_deinit(&second);
        arena_reset(&arena);
    }
    arena_deinit(&arena);
}

/* Our tables and the schema name and number the same fields. */
static void tables_are_the_schema(void **state)
{
    (void)state;
    for (size_t i = 0; i < PAIRS; i++) {
        const struct es_message_type *ours = pairs[i].ours;
        assert_int_equal(ours->count, pairs[i].theirs->n_fields);
        for (unsigned k = 0; k < ours->count; k++) {
            const ProtobufCFieldDescriptor *theirs = &pairs[i].theirs->fields[k];
            assert_int_equal(ours->fields[k].number, theirs->id);
            bool optional = theirs->label == PROTOBUF_C_LABEL_OPTIONAL;
            assert_int_equal(ours->fields[k].has_offset != ES_ALWAYS, optional);
            assert_true(k == 0 || ours->fields[k - 1].number < ours->fields[k].number);
        }
    }
}

/* Reads every list to its end, whatever it holds. */
static void read_lists(const struct es_message_type *type, const void *message)
{
    _Alignas(16) static uint8_t item[STRUCT_SIZE_MAX];
    for (unsigned i = 0; i < type->count; i++) {
        const struct es_field *field = &type->fields[i];
        struct es_list list;
        kvs_slice text;
        if (field->kind != ES_KIND_MESSAGES && field->kind != ES_KIND_TEXTS)
            continue;
        memcpy(&list, (const uint8_t *)message + field->offset, sizeof list);
        uint32_t count = list.count;
        if (field->kind == ES_KIND_TEXTS)
            while (es_list_next_text(&list, &text) == 1)
                count--;
        else
            while (es_list_next(&list, field->type, item) == 1)
                count--;
        assert_true(count <= list.count + 1);
    }
}

static void damaged_messages_do_no_harm(void **state)
{
    (void)state;
    struct rand rand = rand_seed(SEED + 1);
    struct arena arena = {0};
    _Alignas(16) static uint8_t message[STRUCT_SIZE_MAX];
    for (size_t i = 0; i < PAIRS * ROUNDS; i++) {
        const struct es_message_type *type = pairs[i % PAIRS].ours;
        struct buf out = BUF_INIT;
        es_random_message(type, &rand, &arena, message);
        assert_int_equal(es_message_append(&out, type, message), 0);
        size_t size = out.size > 0 ? rand_below(&rand, out.size + 1) : 0;
        uint8_t *cut = mem_copy(out.data, size);
        assert_non_null(cut);
        for (uint64_t damage = rand_below(&rand, 3); damage > 0 && size > 0; damage--)
            cut[rand_below(&rand, size)] ^= (uint8_t)(1u << rand_below(&rand, 8));
        if (es_message_decode(slice_make(cut, size), type, message) == 0)
            read_lists(type, message);
        mem_free(cut);
        buf_deinit(&out);
        arena_reset(&arena);
    }
    arena_deinit(&arena);
}

static int decode(const char *bytes, size_t size, const struct es_message_type *type, void *message)
{
    return es_message_decode(slice_make(bytes, size), type, message);
}
#define DECODE(bytes, type, message) decode(bytes, sizeof(bytes) - 1, type, message)

static void reading_is_lenient(void **state)
{
    (void)state;
    struct es_write_events_completed completed;
    /* Newer servers leave out what is 0. */
    assert_int_equal(DECODE("", &es_write_events_completed_type, &completed), 0);
    assert_int_equal(completed.result, ES_SUCCESS);
    assert_false(completed.has_current_version);
    assert_null(completed.message.data);
    /* The last value wins; field 99 is skipped in every wire type; any order. */
    assert_int_equal(DECODE("\x20\x07\x98\x06\x05\x9a\x06\x02hi\x99\x06"
                            "12345678\x9d\x06"
                            "1234\x08\x04\x08\x05\x12\x00",
                            &es_write_events_completed_type, &completed),
                     0);
    assert_int_equal(completed.result, ES_STREAM_DELETED);
    assert_int_equal(completed.last_event_number, 7);
    assert_non_null(completed.message.data); /* empty, but there */
    assert_int_equal(completed.message.size, 0);
    /* An int32 may be written as ten bytes, or as five. */
    assert_int_equal(DECODE("\x08\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01",
                            &es_write_events_completed_type, &completed),
                     0);
    assert_int_equal(completed.result, -1);
    assert_int_equal(
        DECODE("\x08\xff\xff\xff\xff\x0f", &es_write_events_completed_type, &completed), 0);
    assert_int_equal(completed.result, -1);
}

static void what_is_no_message_is_refused(void **state)
{
    (void)state;
    struct es_write_events write;
    struct es_new_event event;
    const struct es_message_type *type = &es_write_events_type;
    assert_int_equal(DECODE("\x08\x01", type, &write), KVS_ERR_PROTOCOL);  /* text as number */
    assert_int_equal(DECODE("\x12\x01x", type, &write), KVS_ERR_PROTOCOL); /* number as text */
    assert_int_equal(DECODE("\x0a\x05"
                            "abc",
                            type, &write),
                     KVS_ERR_PROTOCOL); /* beyond the end */
    assert_int_equal(DECODE("\x0a", type, &write), KVS_ERR_PROTOCOL);
    assert_int_equal(DECODE("\x02\x01x", type, &write), KVS_ERR_PROTOCOL); /* field 0 */
    assert_int_equal(DECODE("\x0b\x0c", type, &write), KVS_ERR_PROTOCOL);  /* a group */
    assert_int_equal(DECODE("\x10\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", type, &write),
                     KVS_ERR_PROTOCOL); /* a number of eleven bytes */
    /* The first event is broken only inside: the list says so. */
    assert_int_equal(DECODE("\x1a\x02\x0a\x05\x1a\x00", type, &write), 0);
    assert_int_equal(write.events.count, 2);
    assert_int_equal(es_list_next(&write.events, &es_new_event_type, &event), KVS_ERR_PROTOCOL);
    assert_int_equal(es_list_next(&write.events, &es_new_event_type, &event), 1);
    assert_int_equal(es_list_next(&write.events, &es_new_event_type, &event), 0);
}

/* The bytes that the Node client sends and is content with. */
static void real_bytes(void **state)
{
    (void)state;
    static const char write_bytes[] =
        "\x0a\x01s\x10\xfe\xff\xff\xff\xff\xff\xff\xff\xff\x01\x1a\x2b"
        "\x0a\x10\x33\x22\x11\x00\x55\x44\x77\x66\x88\x99\xaa\xbb\xcc\xdd\xee\xff"
        "\x12\x01T\x18\x01\x20\x00\x2a\x07{\"a\":1}\x32\x07{\"m\":1}\x20\x01";
    struct es_write_events write;
    struct es_new_event event;
    struct es_id id;
    assert_int_equal(DECODE(write_bytes, &es_write_events_type, &write), 0);
    assert_slice_equal(write.event_stream_id, "s");
    assert_int_equal(write.expected_version, ES_VERSION_ANY);
    assert_true(write.require_leader);
    assert_int_equal(es_list_next(&write.events, &es_new_event_type, &event), 1);
    assert_slice_equal(event.event_type, "T");
    assert_int_equal(event.data_content_type, ES_CONTENT_JSON);
    assert_slice_equal(event.data, "{\"a\":1}");
    assert_slice_equal(event.metadata, "{\"m\":1}");
    memcpy(id.bytes, event.event_id.data, sizeof id.bytes);
    char text[ES_ID_TEXT_SIZE];
    es_id_format(&id, text);
    assert_string_equal(text, "00112233-4455-6677-8899-aabbccddeeff");

    struct buf out = BUF_INIT;
    struct es_write_events_completed completed = {.result = ES_SUCCESS};
    assert_int_equal(es_message_append(&out, &es_write_events_completed_type, &completed), 0);
    assert_slice_equal(buf_slice(&out), "\x08\x00\x18\x00\x20\x00");
    buf_clear(&out);
    struct es_read_event_completed none = {.result = ES_READ_EVENT_NO_STREAM};
    assert_int_equal(es_message_append(&out, &es_read_event_completed_type, &none), 0);
    assert_slice_equal(buf_slice(&out), "\x08\x02\x12\x00");
    buf_deinit(&out);
}

static void times(void **state)
{
    (void)state;
    /* 2014-01-01T00:00:00Z */
    assert_int_equal(es_created_from_unix(13885344000000000), 635241312000000000 + (1ll << 62));
    assert_int_equal(es_created_to_unix(635241312000000000 + (1ll << 62)), 13885344000000000);
    assert_int_equal(es_created_to_unix(es_created_from_unix(INT64_MIN)), -621355968000000000);
    assert_true(es_created_from_unix(INT64_MAX) > 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(messages_come_back),
        cmocka_unit_test(tables_are_the_schema),
        cmocka_unit_test(damaged_messages_do_no_harm),
        cmocka_unit_test(reading_is_lenient),
        cmocka_unit_test(what_is_no_message_is_refused),
        cmocka_unit_test(real_bytes),
        cmocka_unit_test(times),
    };
    return cmocka_run_group_tests_name("proto/eventstore/codec", tests, print_seed, NULL);
}
