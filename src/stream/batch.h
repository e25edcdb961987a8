/*
 * stream/batch.h: what goes to the engine at once: events in blocks, runs, stream records, and
 * other keys that go along. The sequencer's, until the engine has it.
 */
#ifndef STREAM_BATCH_H
#define STREAM_BATCH_H

#include "stream/block.h"
#include "stream/heads.h"

struct batch_run {
    struct batch_run *next;
    struct head *head;
    struct run_builder run;
    int64_t begin; /* number of the first event of this batch: those before it are older */
};

struct batch_block {
    struct batch_block *next;
    struct block_builder builder;
    uint64_t serial;
    struct log_key key;
};

/* A head that the batch holds; each once. */
struct batch_head {
    struct batch_head *next;
    struct head *head;
};

/* A key of the state family, or another mutation, which go along. */
struct batch_extra {
    struct batch_extra *next;
    kvs_mutation mutation;
};

struct batch {
    struct engine_write write;
    struct engine_condition condition;
    struct log_key condition_key;
    struct streams *streams;
    struct batch *next; /* on their way, oldest first */
    struct arena arena; /* of all below */
    struct batch_block *blocks, *last_block;
    struct batch_run *runs, *last_run;
    struct batch_head *heads;
    struct batch_extra *extras, *last_extra; /* in order: of one key the last one counts */
    struct buf values;                       /* of runs and records */
    kvs_mutation *mutations;
    struct task_list writes; /* that complete with it, ... */
    struct task_list again;  /* ... or not yet */
    uint64_t serial;
    int64_t created_100ns; /* of all its events */
    int64_t last_position; /* 0: it has no event */
    size_t size;
    uint32_t events_count;
    uint32_t writes_count;
    uint32_t gives_back_count; /* of them */
    bool of_again;             /* they are tried once more */
    bool changes_users;        /* something is written about one of them */
    bool changes_acls;         /* to these, when it is done */
    struct default_acls acls;
    struct task completed;
    int error;
};

/* Everything that can be undone when a write runs out of memory half way is undone by giving the
 * batch up: see sequencer.c. */
int batch_new(struct streams *streams, struct batch **ret_batch);
void batch_free(struct batch *batch);
/* The batch keeps the head until it is done. */
int batch_hold(struct batch *batch, struct head *head);
/* The derived streams that link to an event; NULL: none of this kind. */
struct derived {
    struct head *streams; /* it is its stream's first */
    struct head *category;
    struct head *type;
    struct head *references; /* it is its stream's first, and the stream has a category */
    struct head *correlation;
};

/* Appends an event to the stream and the derived streams. It gets the next number, a tombstone
 * STREAM_NUMBER_DELETED. */
int batch_append(struct batch *batch, struct head *head, const struct stream_new_event *event,
                 bool is_tombstone, const struct derived *derived);
int batch_change_record(struct batch *batch, struct head *head);
int batch_add_extra(struct batch *batch, const kvs_mutation *mutation);
/* Builds the engine's batch. */
int batch_finish(struct batch *batch);
/* An event of the batch, finished or not; it lives until the batch changes. NOT_FOUND. */
int batch_find_event(const struct batch *batch, const struct head *head, int64_t number,
                     struct stream_record *ret_record);

#endif
