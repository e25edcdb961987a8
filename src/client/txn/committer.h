/*
 * client/txn/committer.h: a commit under way, for the files that carry it out: committer.c (what
 * happens when, and the outcome), prewriter.c and background.c.
 *
 * A committer holds its transaction, and lives until the background is done.
 */
#ifndef CLIENT_TXN_COMMITTER_H
#define CLIENT_TXN_COMMITTER_H

#include "client/txn/txn_parts.h"

#define PREWRITE_BUDGET_MS 40000u
#define ROLLBACK_BUDGET_MS 20000u

enum commit_phase {
    PHASE_PREWRITE,
    PHASE_COMMIT,     /* of the primary */
    PHASE_BACKGROUND, /* the outcome is known, or never will be to us */
};

struct committer {
    kvs_txn *txn;
    struct txn_request *op; /* NULL: its future is ready */
    struct arena arena;
    struct txn_mutation *mutations;
    uint32_t count;
    uint32_t primary; /* index */
    kvs_slice *keys;  /* that will have a lock */
    uint32_t keys_count;
    uint32_t primary_key;        /* index in keys */
    uint32_t done_from, done_to; /* keys that were committed together with the primary */
    uint64_t bytes;
    kvs_slice *secondaries;
    uint32_t secondaries_count;
    enum commit_phase phase;
    bool shares; /* has locks in share mode, which are committed in two phases */
    bool async;
    bool one_pc;
    bool rest_waits; /* for the primary's part */
    uint32_t rest_from;
    bool undetermined;
    bool may_have_locks;    /* something of it may have been prewritten */
    uint64_t min_commit_ts; /* to ask for */
    uint64_t commit_ts;
    uint64_t deadline_ms;
    struct list calls;
    unsigned pending;
    int error; /* the first definite one */
    char why[TXN_WHY_SIZE];
    struct txn_timestamp time;
    bool asks_time; /* waits for it: nothing is under way that could decide */
    bool pushed;    /* the primary has refused a time as too early */
    struct resolver resolver;
    bool has_resolver;
    uint64_t wait_ms;
    struct backoff backoff;
    struct txn_timer timer;
    bool timer_runs;
    uint64_t again_at_ms; /* locks are given back once more; 0: no */
    struct list parked;   /* parts that met locks */
    struct txn_call *spare_call;
    struct committer *next_spare;
};

static inline struct txn_shard *committer_shard(const struct committer *committer)
{
    return committer->txn->shard;
}

/* --- committer.c --- */

/* op NULL: of what only goes on in the background. NULL: no memory. */
struct committer *committer_new(kvs_txn *txn, struct txn_request *op);
void committer_free(struct committer *committer);
/* A call that is not started yet, of what lies in [from, to); NULL: no memory. */
struct txn_call *committer_add_call(struct committer *committer, enum txn_command_kind kind,
                                    const struct txn_call_methods *methods, kvs_slice key,
                                    uint32_t from, uint32_t to, uint32_t budget_ms);
void committer_end_call(struct committer *committer, struct txn_call *call);
/* Its future is ready, if it has one still; the committer may go on. */
void committer_tell(struct committer *committer, int error);
/* The first one counts. */
void committer_note_error(struct committer *committer, int error, const char *why);
void committer_note_key_error(struct committer *committer, const struct txn_key_error *error);
/* All prewrites that were under way have ended. */
void committer_round_end(struct committer *committer);

/* --- prewriter.c: 0 or NO_MEMORY --- */

/* Of all that the transaction has written; and how it may commit. */
int prewrite_make_mutations(struct committer *committer);
int prewrite_add(struct committer *committer, uint32_t from, uint32_t to);
/* Its locks need heartbeats. */
bool prewrite_is_long(const struct committer *committer);

/* --- background.c --- */

/* The command for all keys but those that were committed with the primary; frees the committer. */
void background_run(struct committer *committer, enum txn_command_kind kind, uint32_t budget_ms);
/* Gives all locks back; the op ends when that is done, or its time is over. False: no memory, and
 * nothing is done. */
bool background_rollback(struct txn_request *op);

#endif
