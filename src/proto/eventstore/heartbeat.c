/* proto/eventstore/heartbeat.c: see the header. */
#include "proto/eventstore/heartbeat.h"

#include "proto/eventstore/frame.h"

void es_heartbeat_init(struct es_heartbeat *heartbeat, uint32_t interval_ms, uint32_t timeout_ms,
                       uint64_t now_ms)
{
    *heartbeat = (struct es_heartbeat){
        .interval_ms = interval_ms,
        .timeout_ms = timeout_ms,
        .began_ms = now_ms,
    };
}

static void begin_interval(struct es_heartbeat *heartbeat,
                           const struct es_heartbeat_traffic *traffic, uint64_t now_ms)
{
    heartbeat->began_ms = now_ms;
    heartbeat->received = traffic->received;
    heartbeat->queued = traffic->queued;
    heartbeat->waiting = false;
    heartbeat->waiting_ms = 0;
}

static bool is_dead(struct es_heartbeat *heartbeat, const struct es_heartbeat_traffic *traffic,
                    uint64_t now_ms)
{
    if (traffic->written < heartbeat->queued)
        return false;
    if (heartbeat->waiting_ms == 0)
        heartbeat->waiting_ms = now_ms;
    return now_ms - heartbeat->waiting_ms >= heartbeat->timeout_ms;
}

enum es_heartbeat_action es_heartbeat_check(struct es_heartbeat *heartbeat,
                                            const struct es_heartbeat_traffic *traffic,
                                            uint64_t now_ms)
{
    if (heartbeat->interval_ms == 0)
        return ES_HEARTBEAT_NOTHING;
    bool came = traffic->received != heartbeat->received || !traffic->reading;
    if (heartbeat->waiting) {
        if (!came)
            return is_dead(heartbeat, traffic, now_ms) ? ES_HEARTBEAT_DEAD : ES_HEARTBEAT_NOTHING;
        begin_interval(heartbeat, traffic, now_ms);
    }
    if (now_ms - heartbeat->began_ms < heartbeat->interval_ms)
        return ES_HEARTBEAT_NOTHING;
    bool ask = !came || traffic->queued == heartbeat->queued;
    begin_interval(heartbeat, traffic, now_ms);
    heartbeat->waiting = !came;
    if (ask)
        heartbeat->queued += ES_FRAME_HEAD_SIZE; /* the question itself */
    return ask ? ES_HEARTBEAT_ASK : ES_HEARTBEAT_NOTHING;
}
