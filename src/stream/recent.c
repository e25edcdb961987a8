/*
 * stream/recent.c: the ids of the last RECENT_COUNT events, so that a write that is sent again with
 * "any version" is known.
 *
 * A ring, and chains by a hash of stream and id, newest first: the oldest event's place is taken by
 * the next one. Nothing is unlinked then: a chain ends where it comes to an event that is too old
 * to be in the ring. The hash has a seed that nobody outside knows, so nobody can make the chains
 * long.
 */
#include "stream/streams.h"

#include "base/checksum.h"
#include "base/mem.h"

int recent_init(struct recent *recent, uint64_t seed)
{
    *recent = (struct recent){
        .seed = seed,
        .events = mem_zalloc(RECENT_COUNT * sizeof(struct recent_event)),
        .buckets = mem_zalloc(RECENT_COUNT * sizeof(uint64_t)),
    };
    return recent->events != NULL && recent->buckets != NULL ? 0 : KVS_ERR_NO_MEMORY;
}

void recent_deinit(struct recent *recent)
{
    mem_free(recent->events);
    mem_free(recent->buckets);
    *recent = (struct recent){0};
}

void recent_clear(struct recent *recent)
{
    if (recent->count == 0)
        return; /* memory that was never touched stays so */
    memset(recent->buckets, 0, RECENT_COUNT * sizeof(uint64_t));
    recent->count = 0;
}

static uint32_t bucket_of(const struct recent *recent, uint64_t stream_id, const uint8_t id[16])
{
    return checksum_seeded(id, 16, recent->seed ^ (stream_id * 0x9e3779b97f4a7c15u)) % RECENT_COUNT;
}

void recent_add(struct recent *recent, uint64_t stream_id, const uint8_t id[16], int64_t number,
                int64_t position)
{
    uint64_t count = ++recent->count;
    struct recent_event *event = &recent->events[count % RECENT_COUNT];
    uint64_t *bucket = &recent->buckets[bucket_of(recent, stream_id, id)];
    *event = (struct recent_event){
        .stream_id = stream_id, .number = number, .position = position, .older = *bucket};
    memcpy(event->id, id, sizeof event->id);
    *bucket = count;
}

const struct recent_event *recent_find(const struct recent *recent, uint64_t stream_id,
                                       const uint8_t id[16])
{
    uint64_t at = recent->buckets[bucket_of(recent, stream_id, id)];
    while (at != 0 && recent->count - at < RECENT_COUNT) {
        const struct recent_event *event = &recent->events[at % RECENT_COUNT];
        if (event->stream_id == stream_id && memcmp(event->id, id, 16) == 0)
            return event;
        at = event->older;
    }
    return NULL;
}
