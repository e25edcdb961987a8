/* client/eventstore/slots.c: see the header. */
#include "client/eventstore/slots.h"

#include "base/bytes.h"
#include "base/mem.h"

#include <assert.h>
#include <kvs/event.h>

#define CAPACITY_MIN 64u

struct slots_item {
    struct slot_owner *owner; /* NULL: free */
    uint32_t uses;
    uint32_t next_free;
};

void slots_init(struct slots *slots)
{
    *slots = (struct slots){.free = SLOT_NONE};
    slots_reset(slots);
}

void slots_deinit(struct slots *slots)
{
    mem_free(slots->items);
    *slots = (struct slots){.free = SLOT_NONE};
}

void slots_reset(struct slots *slots)
{
    kvs_event_id random = kvs_event_id_random();
    memcpy(slots->salt, random.bytes + 8, sizeof slots->salt);
    slots->free = SLOT_NONE;
    slots->taken = 0;
    for (uint32_t i = slots->capacity; i-- > 0;) {
        if (slots->items[i].owner != NULL)
            slots->items[i].owner->slot = SLOT_NONE;
        slots->items[i].owner = NULL;
        slots->items[i].next_free = slots->free;
        slots->free = i;
    }
}

static int slots_grow(struct slots *slots)
{
    uint32_t capacity = slots->capacity > 0 ? slots->capacity * 2 : CAPACITY_MIN;
    struct slots_item *items = mem_realloc(slots->items, capacity * sizeof *items);
    if (items == NULL)
        return KVS_ERR_NO_MEMORY;
    slots->items = items;
    for (uint32_t i = capacity; i-- > slots->capacity;) {
        items[i] = (struct slots_item){.next_free = slots->free};
        slots->free = i;
    }
    slots->capacity = capacity;
    return 0;
}

struct es_id slots_id(const struct slots *slots, uint32_t slot)
{
    struct es_id id;
    put_u32(id.bytes, slot);
    put_u32(id.bytes + 4, slots->items[slot].uses);
    memcpy(id.bytes + 8, slots->salt, sizeof slots->salt);
    return id;
}

int slots_take(struct slots *slots, struct slot_owner *owner, struct es_id *ret_id)
{
    if (slots->free == SLOT_NONE && slots_grow(slots) != 0)
        return KVS_ERR_NO_MEMORY;
    uint32_t slot = slots->free;
    struct slots_item *item = &slots->items[slot];
    slots->free = item->next_free;
    slots->taken++;
    item->owner = owner;
    item->uses++;
    owner->slot = slot;
    *ret_id = slots_id(slots, slot);
    return 0;
}

void slots_give(struct slots *slots, struct slot_owner *owner)
{
    if (owner->slot == SLOT_NONE)
        return;
    struct slots_item *item = &slots->items[owner->slot];
    assert(item->owner == owner);
    item->owner = NULL;
    item->next_free = slots->free;
    slots->free = owner->slot;
    slots->taken--;
    owner->slot = SLOT_NONE;
}

struct slot_owner *slots_find(const struct slots *slots, const struct es_id *id)
{
    uint32_t slot = get_u32(id->bytes);
    if (slot >= slots->capacity || slots->items[slot].owner == NULL ||
        slots->items[slot].uses != get_u32(id->bytes + 4) ||
        memcmp(id->bytes + 8, slots->salt, sizeof slots->salt) != 0)
        return NULL;
    return slots->items[slot].owner;
}
