/* pd/region_message.c: see the header. */
#include "pd/region_message.h"

static ProtobufCBinaryData bytes_of(kvs_slice slice)
{
    return (ProtobufCBinaryData){.len = slice.size, .data = (uint8_t *)(uintptr_t)slice.data};
}

void region_message_fill(struct region_message *message, const struct region *region)
{
    metapb__region__init(&message->region);
    metapb__region_epoch__init(&message->epoch);
    metapb__peer__init(&message->peer);
    message->epoch.conf_ver = region->conf_version;
    message->epoch.version = region->version;
    message->peer.id = region->peer_id;
    message->peer.store_id = STORE_ID;
    message->peers[0] = &message->peer;
    message->region.id = region->id;
    message->region.start_key = bytes_of(region->start);
    message->region.end_key = bytes_of(region->end);
    message->region.region_epoch = &message->epoch;
    message->region.n_peers = 1;
    message->region.peers = message->peers;
}
