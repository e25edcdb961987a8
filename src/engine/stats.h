/* engine/stats.h: what an engine counts, for operators; `kvs_store_stats` tells it as JSON. */
#ifndef ENGINE_STATS_H
#define ENGINE_STATS_H

#include <stdbool.h>
#include <stdint.h>

struct engine_stats {
    uint64_t keys;        /* live keys of all families, expired ones not yet removed included */
    uint64_t own_keys;    /* of these, the default family's; 0 of an engine that estimates */
    uint64_t live_bytes;  /* of records that count */
    uint64_t disk_bytes;  /* of all files */
    uint64_t cache_bytes; /* of values in memory */
    uint64_t index_bytes;
    uint64_t segments;
    uint64_t snapshots;
    uint64_t writes; /* batches since open */
    uint64_t groups; /* groups of batches written at once */
    uint64_t syncs;
    uint64_t compactions;     /* segments compacted since open */
    uint64_t compacted_bytes; /* given back since open */
    bool compacting;          /* at this moment */
    bool loading;             /* the index is not there yet: nor are keys, live_bytes */
    bool failed;              /* STORAGE_FAILED */
};

#endif
