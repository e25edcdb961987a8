/* pd/region_message.h: a region as metapb says it. */
#ifndef PD_REGION_MESSAGE_H
#define PD_REGION_MESSAGE_H

#include "metapb.pb-c.h"
#include "pd/region_map.h"

/* The message and all it points to, but the bounds: those are the region's. Not to be moved. */
struct region_message {
    Metapb__Region region;
    Metapb__RegionEpoch epoch;
    Metapb__Peer peer; /* the only one, and the leader */
    Metapb__Peer *peers[1];
};

void region_message_fill(struct region_message *message, const struct region *region);

#endif
