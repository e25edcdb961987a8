/*
 * stream/block.h: blocks of events, runs of the index and keys, as docs/format/streams.md lays them
 * out; nothing else knows these bytes.
 *
 * What is parsed points into the bytes given. Bytes come from a disk: what is wrong with them is
 * CORRUPTION.
 */
#ifndef STREAM_BLOCK_H
#define STREAM_BLOCK_H

#include "base/buf.h"
#include "base/bytes.h"
#include "stream/stream.h"

#define STREAM_FAMILY_LOG 6u
#define STREAM_FAMILY_INDEX 7u
#define STREAM_FAMILY_STREAMS 8u
#define STREAM_FAMILY_STATE 9u

#define BLOCK_SIZE_TARGET (64u * 1024)
#define BLOCK_EVENT_HEADER_SIZE 48u
#define RUN_LISTED_COUNT_MAX 512u /* events of a run whose positions are listed */
/* A run of an earlier batch is made longer while it has fewer events, in a row, ... */
#define RUN_TAIL_COUNT_MAX 4096u
#define RUN_TAIL_DELTAS_MAX 64u /* ... or fewer bytes of positions */
#define LOG_KEY_SIZE 8u
#define INDEX_KEY_SIZE 16u

/* --- keys ------------------------------------------------------------------------------------- */

struct log_key {
    uint8_t bytes[LOG_KEY_SIZE];
};

struct index_key {
    uint8_t bytes[INDEX_KEY_SIZE];
};

static inline struct log_key log_key_make(int64_t position)
{
    struct log_key key;
    put_u64_be(key.bytes, (uint64_t)position);
    return key;
}

static inline struct index_key index_key_make(uint64_t stream_id, int64_t number)
{
    struct index_key key;
    put_u64_be(key.bytes, stream_id);
    put_u64_be(key.bytes + 8, (uint64_t)number);
    return key;
}

/* --- blocks: reading -------------------------------------------------------------------------- */

struct block {
    kvs_slice bytes;
    int64_t position; /* the key */
    uint32_t count;
    uint32_t streams_count;
    uint32_t streams_at;
    uint32_t table_at;
};

/* 0 or CORRUPTION. */
int block_parse(kvs_slice key, kvs_slice value, struct block *ret_block);

/* Of event i, which must be less than count. */
int64_t block_position(const struct block *block, uint32_t i);
/* Everything, the stream's name too; 0 or CORRUPTION. */
int block_event(const struct block *block, uint32_t i, struct stream_record *ret_record,
                uint64_t *ret_stream_id);
/* The first event whose position is at least this; `count` if there is none. */
uint32_t block_seek(const struct block *block, int64_t position);
/* Asks for the memory of an event that is read soon; i may be anything. */
void block_prefetch(const struct block *block, uint32_t i);

/* Who reads a block in order asks for so many events ahead. */
#define BLOCK_EVENTS_AHEAD 4u

static inline int64_t block_last_position(const struct block *block)
{
    return block->count > 0 ? block_position(block, block->count - 1) : block->position;
}

/* --- blocks: writing -------------------------------------------------------------------------- */

struct block_builder {
    struct buf bytes;
    struct buf streams;
    struct buf table;
    int64_t position; /* of the first event */
    uint32_t count;
    uint32_t streams_count;
};

void block_builder_deinit(struct block_builder *builder);
/* Adds a stream; its index is for block_add. NO_MEMORY. */
int block_add_stream(struct block_builder *builder, uint64_t id, kvs_slice name,
                     uint32_t *ret_index);
/* Positions ascend. The first one is the block's key, unless builder->position was set before.
 * NO_MEMORY: as before. */
int block_add(struct block_builder *builder, uint32_t stream, int64_t number, int64_t position,
              int64_t created_100ns, const struct stream_new_event *event);
/* An event of a block that is being built, or is finished; it lives until the builder changes.
 * NOT_FOUND. */
int block_builder_event(const struct block_builder *builder, int64_t position,
                        struct stream_record *ret_record);
/* Makes `bytes` the whole block. */
int block_finish(struct block_builder *builder);

static inline size_t block_builder_size(const struct block_builder *builder)
{
    return builder->bytes.size + builder->streams.size + builder->table.size;
}

/* --- runs ------------------------------------------------------------------------------------- */

struct run {
    uint64_t stream_id;
    int64_t first_number;
    uint32_t count;
    bool listed;
    int64_t first_position;
    kvs_slice deltas;
};

int run_parse(kvs_slice key, kvs_slice value, struct run *ret_run);

static inline int64_t run_last_number(const struct run *run)
{
    return run->first_number + ((int64_t)run->count - 1);
}

/* The positions of a run, one after the other. */
struct run_walk {
    const struct run *run;
    uint32_t at;      /* the next event */
    int64_t position; /* of it */
    kvs_slice deltas; /* behind it */
};

void run_walk_begin(struct run_walk *walk, const struct run *run);
/* To the next one; false: the deltas are damaged. Fine at the end. */
bool run_walk_next(struct run_walk *walk);

struct run_builder {
    int64_t first_number;
    int64_t first_position;
    int64_t last_position;
    uint32_t count;
    bool listed;
    struct buf deltas;
};

/* The last run of a stream, as far as a later batch can make it longer. */
struct run_tail {
    int64_t first_number;
    int64_t first_position;
    int64_t last_position;
    uint32_t count; /* 0: it cannot */
    bool listed;
    uint8_t deltas_size;
    uint8_t deltas[RUN_TAIL_DELTAS_MAX];
};

/* Of a run that was read: CORRUPTION when it is damaged. */
int run_tail_load(struct run_tail *tail, const struct run *run);
/* Of a run that was built. */
void run_tail_keep(struct run_tail *tail, const struct run_builder *builder);
/* Is it for the event of this number, at this position, to go on with? */
bool run_tail_fits(const struct run_tail *tail, int64_t number, int64_t position);
/* Begins a run with what the tail has. NO_MEMORY. */
int run_tail_resume(const struct run_tail *tail, struct run_builder *builder);

/* Adds the event of the next number. 1: it does not fit, begin another run; or NO_MEMORY. */
int run_add(struct run_builder *builder, int64_t position);
/* Appends the value. */
int run_encode(const struct run_builder *builder, struct buf *to);

#endif
