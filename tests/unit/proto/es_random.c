/* tests/unit/proto/es_random.c: see the header. */
#include "es_random.h"

#include "test.h"

static kvs_slice random_text(struct rand *rand, struct arena *arena)
{
    size_t size = rand_below(rand, 4) == 0 ? 0 : rand_below(rand, 41);
    uint8_t *text = arena_alloc(arena, size + 1);
    assert_non_null(text);
    for (size_t i = 0; i < size; i++)
        text[i] = (uint8_t)(1 + rand_below(rand, 127));
    return slice_make(text, size);
}

static int64_t random_number(struct rand *rand, bool is_small)
{
    int64_t number = (int64_t)(rand_u64(rand) >> rand_below(rand, 64));
    if (rand_below(rand, 4) == 0)
        number = -number;
    if (rand_below(rand, 8) == 0)
        number = 0;
    return is_small ? (int32_t)(uint32_t)(uint64_t)number : number;
}

static struct es_list random_list(const struct es_field *field, struct rand *rand,
                                  struct arena *arena)
{
    struct es_list list = {.count = (uint32_t)rand_below(rand, 4)};
    size_t size = field->kind == ES_KIND_TEXTS ? sizeof(kvs_slice) : field->type->size;
    uint8_t *items = arena_zalloc(arena, size * list.count + 1);
    assert_non_null(items);
    for (uint32_t i = 0; i < list.count; i++) {
        if (field->kind == ES_KIND_TEXTS)
            ((kvs_slice *)(void *)items)[i] = random_text(rand, arena);
        else
            es_random_message(field->type, rand, arena, items + i * size);
    }
    list.items = items;
    return list;
}

static void random_field(const struct es_field *field, struct rand *rand, struct arena *arena,
                         uint8_t *message)
{
    int64_t number = random_number(rand, field->kind == ES_KIND_INT32);
    bool truth = rand_below(rand, 2) == 0;
    kvs_slice text = random_text(rand, arena);
    struct es_list list;
    uint8_t *to = message + field->offset;
    switch (field->kind) {
    case ES_KIND_INT64:
    case ES_KIND_INT32:
        memcpy(to, &number, sizeof number);
        break;
    case ES_KIND_BOOL:
        memcpy(to, &truth, sizeof truth);
        break;
    case ES_KIND_BYTES:
        memcpy(to, &text, sizeof text);
        break;
    case ES_KIND_MESSAGE:
        es_random_message(field->type, rand, arena, to);
        break;
    default:
        list = random_list(field, rand, arena);
        memcpy(to, &list, sizeof list);
    }
}

void es_random_message(const struct es_message_type *type, struct rand *rand, struct arena *arena,
                       void *ret_message)
{
    memset(ret_message, 0, type->size);
    for (unsigned i = 0; i < type->count; i++) {
        const struct es_field *field = &type->fields[i];
        bool optional = field->has_offset != ES_ALWAYS;
        if (optional && rand_below(rand, 2) == 0)
            continue;
        random_field(field, rand, arena, ret_message);
        bool truth = true;
        if (optional && field->kind != ES_KIND_BYTES)
            memcpy((uint8_t *)ret_message + field->has_offset, &truth, sizeof truth);
    }
}
