/*
 * fuzz/fuzz_es_frame.c: a stream of EventStoreDB's frames. Every message that its command's table
 * can read is read, lists and all; what was read is written and read again: it must be the same.
 */
#include "base/mem.h"
#include "fuzz/target.h"
#include "proto/eventstore/commands.h"

#include <stdlib.h>

#define STRUCT_SIZE_MAX 1024

static void read_list(const struct es_field *field, struct es_list list)
{
    _Alignas(16) static uint8_t item[STRUCT_SIZE_MAX];
    uint32_t left = list.count;
    kvs_slice text;
    int got;
    do {
        got = field->kind == ES_KIND_TEXTS ? es_list_next_text(&list, &text)
                                           : es_list_next(&list, field->type, item);
        require(got <= 0 || list.count == left - 1);
        left = list.count;
    } while (got == 1);
}

/* Lists cannot be written as they were read: they are read, and forgotten. */
static void drop_lists(const struct es_message_type *type, uint8_t *message)
{
    for (unsigned i = 0; i < type->count; i++) {
        const struct es_field *field = &type->fields[i];
        struct es_list list;
        if (field->kind == ES_KIND_MESSAGE)
            drop_lists(field->type, message + field->offset);
        if (field->kind != ES_KIND_MESSAGES && field->kind != ES_KIND_TEXTS)
            continue;
        memcpy(&list, message + field->offset, sizeof list);
        read_list(field, list);
        memset(message + field->offset, 0, sizeof list);
    }
}

static void take_message(const struct es_message_type *type, kvs_slice body)
{
    _Alignas(16) static uint8_t message[STRUCT_SIZE_MAX];
    struct buf first = BUF_INIT, second = BUF_INIT;
    require(type->size <= sizeof message);
    if (es_message_decode(body, type, message) == 0) {
        drop_lists(type, message);
        require(es_message_append(&first, type, message) == 0);
        require(es_message_decode(buf_slice(&first), type, message) == 0);
        require(es_message_append(&second, type, message) == 0);
        require(slice_equal(buf_slice(&first), buf_slice(&second)));
    }
    buf_deinit(&first);
    buf_deinit(&second);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    uint8_t *copy = mem_copy(data, size); /* of exactly its size: ASan sees the end */
    if (copy == NULL)
        return 0;
    kvs_slice in = slice_make(copy, size);
    struct es_frame frame;
    size_t frame_size;
    const char *why;
    while (es_frame_decode(in, 65536, &frame, &frame_size, &why) == 0) {
        require(frame_size <= in.size);
        in = slice_make(in.data + frame_size, in.size - frame_size);
        const struct es_command_info *info = es_command_info(frame.command);
        if (info != NULL && info->body != NULL)
            take_message(info->body, frame.body);
    }
    mem_free(copy);
    return 0;
}
