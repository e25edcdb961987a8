/*
 * stream/sequencer.h: the order of all writes, and what a write does; see sequencer.c.
 */
#ifndef STREAM_SEQUENCER_H
#define STREAM_SEQUENCER_H

#include "base/rand.h"
#include "runtime/mailbox.h"
#include "stream/batch.h"

/* --- transactions ----------------------------------------------------------------------------- */

#define TRANSACTION_AGE_MS_MAX (24 * 3600 * 1000)
#define TRANSACTIONS_MAX 1024u /* kept in memory; all are in the state family */

struct transaction {
    struct list node;
    uint64_t id;
    int64_t expected_version;
    int64_t started_ms;
    bool committed;
    int64_t first_number; /* results of the commit */
    int64_t last_number;
    int64_t position;
    uint32_t parts;        /* number of the next one */
    uint64_t batch_serial; /* the batch that has the last one */
    uint32_t name_size;
    uint8_t name[];
};

/* --- the sequencer ---------------------------------------------------------------------------- */

struct sequencer {
    struct mailbox incoming;  /* struct stream_write, by op.task */
    struct mailbox completed; /* struct batch */
    atomic_uint signals;      /* whoever adds the first runs it */
    struct engine_read pool_turn;
    struct task_list queue; /* taken from incoming */
    struct task_list again; /* before all of these, when everything has been loaded */
    struct task_list done;  /* waiting for no batch */
    struct batch *building;
    struct batch *first, *last; /* on their way */
    unsigned in_flight;
    atomic_uint handlers; /* of them, until their completion is over: close waits for it */
    _Atomic bool failed;  /* one of them: no further ones until all are back */
    int failed_error;     /* ... and why; theirs who complete batches */
    bool tainted;         /* a write has begun to change heads and batch */
    struct rand rand;
    struct heads heads;
    struct recent recent;
    struct list transactions;
    unsigned transactions_count;
    uint64_t next_serial; /* of batches and blocks */
    int64_t next_position;
    uint64_t next_stream_id;
    uint64_t last_transaction;
    struct log_key last_block; /* its key; condition of the next batch */
    bool has_last_block;
    struct engine_view view; /* of this turn */
    bool view_open;
    bool may_block;
};

/* --- sequencer.c ------------------------------------------------------------------------------ */

int sequencer_init(struct streams *streams);
/* Nothing is queued, on its way or being completed: close may go on. */
bool sequencer_is_idle(struct streams *streams);
void sequencer_deinit(struct streams *streams);
/* There may be something to do: on this thread, unless another is at it. */
void sequencer_kick(struct streams *streams);
/* For whoever prepares a write: the batch that is being built; the view of this turn. */
int sequencer_batch(struct streams *streams, struct batch **ret_batch);
int sequencer_view(struct streams *streams, struct engine_view **ret_view);
int sequencer_head(struct streams *streams, kvs_slice name, struct head **ret_head);
/* An event of a stream, also one on its way; it lives until the batch that is being built changes.
 * `id_only`: no more than that is wanted, and no slice is valid. NOT_FOUND. */
int sequencer_event(struct streams *streams, const struct head *head, int64_t number, bool id_only,
                    struct stream_record *ret_record);
/* Starts from what the engine has: after a failure, and when opening. */
int sequencer_load(struct streams *streams, bool may_block);

/* --- write.c, transaction.c ------------------------------------------------------------------- */

/* What the sequencer does with a write: 0, with its outcome set; ENGINE_WOULD_BLOCK: again, on a
 * thread that may; WRITE_WAITS: again, when all that is on its way is done; else the error.
 * *ret_waits: it must complete with the batch that is being built. */
#define WRITE_WAITS 2
int write_prepare(struct streams *streams, struct stream_write *write, bool *ret_waits);

/* The stream that a write goes to, and the one whose record decides: of a metastream `$$x`, x. */
struct write_target {
    struct head *head;
    struct head *base;
    bool is_meta;
};

/* *ret_outcome is ACCESS_DENIED for what nobody may write to. */
int write_target_find(struct streams *streams, kvs_slice name, struct write_target *ret_target,
                      enum stream_outcome *ret_outcome);
bool write_is_granted(struct streams *streams, const struct stream_user *user,
                      const struct write_target *target, enum stream_right right);
/* By the rules of expected versions: appends, or says why not. */
int write_events(struct streams *streams, struct stream_write *write,
                 const struct write_target *target, int64_t expected,
                 const struct stream_new_event *events, uint32_t count, bool *ret_waits);
/* TOO_LARGE; WOULD_BLOCK, when it would hold a loop up for long, and this may be one. */
int write_check_events(const struct streams *streams, const struct stream_new_event *events,
                       uint32_t count);
int write_check_size(const struct streams *streams, uint32_t count, uint64_t size);

/* The three kinds of a transaction. */
int transaction_prepare(struct streams *streams, struct stream_write *write, bool *ret_waits);
void transactions_clear(struct sequencer *sequencer);

/* --- expected.c ------------------------------------------------------------------------------- */

enum expected_verdict { EXPECTED_WRITE, EXPECTED_WAS_THERE, EXPECTED_WRONG, EXPECTED_DELETED };

/* Of a write of `count` events. WAS_THERE: the write's numbers and position are set. */
int expected_decide(struct streams *streams, const struct write_target *target, int64_t expected,
                    const struct stream_new_event *events, uint32_t count,
                    struct stream_write *write, enum expected_verdict *ret_verdict);

#endif
