/* base/rope.c: see the header. Pieces grow with what is there already, so that a short rope is
 * small and a long one has few; what is large gets a piece of its own size. */
#include "base/rope.h"

#include "base/mem.h"

#include <assert.h>
#include <kvs/error.h>
#include <stdatomic.h>

#define PIECE_SIZE_MIN 1024u
#define PIECE_SIZE_MAX (256u * 1024)

struct rope_piece {
    struct rope_piece *next;
    struct rope_budget *budget;
    size_t begin, end; /* of what is in bytes */
    size_t capacity;
    uint8_t bytes[];
};

/* relaxed, all of them: a count, which orders nothing. */
static bool budget_take(struct rope_budget *budget, size_t size)
{
    if (budget == NULL)
        return true;
    uint64_t before = atomic_fetch_add_explicit(&budget->bytes, size, memory_order_relaxed);
    if (budget->bytes_max == 0 || before + size <= budget->bytes_max)
        return true;
    atomic_fetch_sub_explicit(&budget->bytes, size, memory_order_relaxed);
    return false;
}

static void budget_give(struct rope_budget *budget, size_t size)
{
    if (budget != NULL)
        atomic_fetch_sub_explicit(&budget->bytes, size, memory_order_relaxed);
}

static void piece_free(struct rope_piece *piece)
{
    budget_give(piece->budget, piece->capacity);
    mem_free(piece);
}

static size_t piece_capacity(const struct rope *rope, size_t wanted)
{
    size_t capacity = rope->size < PIECE_SIZE_MAX ? rope->size : PIECE_SIZE_MAX;
    if (capacity < PIECE_SIZE_MIN)
        capacity = PIECE_SIZE_MIN;
    return wanted >= capacity / 4 ? wanted : capacity;
}

static int add_piece(struct rope *rope, size_t capacity)
{
    if (capacity > SIZE_MAX / 2)
        return KVS_ERR_NO_MEMORY;
    if (!budget_take(rope->budget, capacity))
        return KVS_ERR_BUSY;
    struct rope_piece *piece = mem_alloc(sizeof *piece + capacity);
    if (piece == NULL) {
        budget_give(rope->budget, capacity);
        return KVS_ERR_NO_MEMORY;
    }
    *piece = (struct rope_piece){.budget = rope->budget, .capacity = capacity};
    if (rope->last != NULL)
        rope->last->next = piece;
    else
        rope->first = piece;
    rope->last = piece;
    return 0;
}

int rope_room(struct rope *rope, size_t size, uint8_t **ret_room)
{
    struct rope_piece *last = rope->last;
    if (last == NULL || last->capacity - last->end < size) {
        int error = add_piece(rope, piece_capacity(rope, size));
        if (error != 0)
            return error;
        last = rope->last;
    }
    *ret_room = last->bytes + last->end;
    last->end += size;
    rope->size += size;
    return 0;
}

int rope_append(struct rope *rope, kvs_slice bytes)
{
    uint8_t *room;
    if (bytes.size == 0)
        return 0;
    int error = rope_room(rope, bytes.size, &room);
    if (error == 0)
        memcpy(room, bytes.data, bytes.size);
    return error;
}

void rope_move(struct rope *to, struct rope *from)
{
    if (from->first == NULL)
        return;
    if (to->last != NULL)
        to->last->next = from->first;
    else
        to->first = from->first;
    to->last = from->last;
    to->size += from->size;
    *from = (struct rope){.budget = from->budget};
}

static void drop_first(struct rope *rope)
{
    struct rope_piece *piece = rope->first;
    rope->first = piece->next;
    if (rope->first == NULL)
        rope->last = NULL;
    piece_free(piece);
}

void rope_take(struct rope *rope, size_t size, uint8_t *to)
{
    assert(size <= rope->size);
    rope->size -= size;
    while (size > 0) {
        struct rope_piece *piece = rope->first;
        size_t part = piece->end - piece->begin < size ? piece->end - piece->begin : size;
        memcpy(to, piece->bytes + piece->begin, part);
        piece->begin += part;
        to += part;
        size -= part;
        if (piece->begin == piece->end)
            drop_first(rope);
    }
}

void rope_cut(struct rope *rope, size_t size)
{
    assert(size <= rope->size);
    struct rope kept = {.budget = rope->budget};
    while (size > 0) {
        struct rope_piece *piece = rope->first;
        size_t part = piece->end - piece->begin < size ? piece->end - piece->begin : size;
        rope->first = piece->next;
        piece->next = NULL;
        piece->end = piece->begin + part;
        rope_move(&kept, &(struct rope){.first = piece, .last = piece, .size = part});
        size -= part;
    }
    rope_deinit(rope);
    *rope = kept;
}

void rope_deinit(struct rope *rope)
{
    while (rope->first != NULL)
        drop_first(rope);
    *rope = (struct rope){.budget = rope->budget};
}
