/*
 * client/eventstore/slots.h: who a reply is for: correlation ids of one connection.
 *
 * An id is the number of a slot, how often the slot was used, and 8 random bytes of this
 * connection, since servers tell the subscriptions of all their clients apart by it. Whoever waits
 * embeds a struct slot_owner. Thread: the connection's loop.
 */
#ifndef CLIENT_EVENTSTORE_SLOTS_H
#define CLIENT_EVENTSTORE_SLOTS_H

#include "base/rand.h"
#include "proto/eventstore/frame.h"

#define SLOT_NONE UINT32_MAX

struct slot_owner {
    void (*on_frame)(struct slot_owner *owner, const struct es_frame *frame);
    uint32_t slot; /* SLOT_NONE: waits for nothing */
};

struct slots_item;

struct slots {
    struct slots_item *items;
    uint32_t capacity;
    uint32_t free;  /* the first free one, or SLOT_NONE */
    uint32_t taken; /* how many are not free */
    uint8_t salt[8];
};

void slots_init(struct slots *slots);
void slots_deinit(struct slots *slots);

/* Begins a new connection: all slots are free, what was asked on the old one has no id here. */
void slots_reset(struct slots *slots);

/* Sets owner->slot and its id. Returns 0 or NO_MEMORY. */
int slots_take(struct slots *slots, struct slot_owner *owner, struct es_id *ret_id);
void slots_give(struct slots *slots, struct slot_owner *owner);

/* The id again. */
struct es_id slots_id(const struct slots *slots, uint32_t slot);

/* NULL: nobody waits for it (any more). */
struct slot_owner *slots_find(const struct slots *slots, const struct es_id *id);

#endif
