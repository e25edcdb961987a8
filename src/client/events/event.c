/* client/events/event.c: the functions of kvs/event.h: ids and positions. */
#include "base/clock.h"
#include "base/rand.h"
#include "proto/eventstore/frame.h"

#include <assert.h>
#include <kvs/event.h>
#include <sys/random.h>

static_assert(sizeof(kvs_event_id) == sizeof(struct es_id), "the same 16 bytes");

kvs_event_id kvs_event_id_random(void)
{
    kvs_event_id id;
    /* A system that has no entropy yet: clock and address, so that ids still differ. */
    if (getrandom(id.bytes, sizeof id.bytes, 0) != (ssize_t)sizeof id.bytes) {
        struct rand rand = rand_seed(clock_now_ns() ^ (uintptr_t)&id);
        for (size_t i = 0; i < sizeof id.bytes; i++)
            id.bytes[i] = (uint8_t)rand_u64(&rand);
    }
    /* Version 4, variant 1: bytes 7 and 8 as they travel. */
    id.bytes[7] = (uint8_t)((id.bytes[7] & 0x0f) | 0x40);
    id.bytes[8] = (uint8_t)((id.bytes[8] & 0x3f) | 0x80);
    return id;
}

int kvs_event_id_parse(const char *text, kvs_event_id *ret_id)
{
    struct es_id id;
    if (text == NULL || !es_id_parse(slice_make(text, strlen(text)), &id))
        return KVS_ERR_INVALID_ARGUMENT;
    memcpy(ret_id->bytes, id.bytes, sizeof id.bytes);
    return 0;
}

void kvs_event_id_format(const kvs_event_id *id, char text[KVS_EVENT_ID_TEXT_SIZE])
{
    struct es_id same;
    memcpy(same.bytes, id->bytes, sizeof same.bytes);
    es_id_format(&same, text);
}

int kvs_position_compare(kvs_position a, kvs_position b)
{
    if (a.commit != b.commit)
        return a.commit < b.commit ? -1 : 1;
    return (a.prepare > b.prepare) - (a.prepare < b.prepare);
}
