/*
 * txn/job.h: a command under way inside the node: what the rules see of it.
 *
 * A rule is what one kind of command does to keys. It runs while the latches of its keys are held,
 * reads in a view that began after that, and stages mutations; nothing happens before it returns.
 * It may be run again: from the start, after nothing of the first run has happened. So a rule sets
 * all results each time.
 *
 * Two arenas: results go to the command's; what is staged goes to `scratch`, which is emptied
 * before each run of commands that run many times.
 */
#ifndef TXN_JOB_H
#define TXN_JOB_H

#include "txn/latch.h"
#include "txn/mvcc.h"
#include "txn/newest.h"
#include "txn/node.h"
#include "txn/pending.h"
#include "txn/wait.h"

#define JOB_STEP_KEYS_MAX 256u

struct txn_node {
    struct engine *engine;
    uint32_t wait_default_ms;
    uint32_t wait_max_ms;
    uint32_t value_size_max;
    uint64_t dead_before_ts;
    bool refuses_old;
    _Atomic uint64_t safe_point; /* raised before anything is removed */
    struct pending_table pending;
    struct wait_room room;
    struct latches latches;
    struct newest newest;
    _Atomic uint64_t stat_commands;
    _Atomic uint64_t stat_conflicts;
    _Atomic uint64_t stat_lock_waits;
    _Atomic uint64_t stat_deadlocks;
};

struct txn_job;

struct txn_rule {
    /* What is wrong with the request: 0, INVALID_ARGUMENT, TOO_LARGE; or the keys to latch. */
    int (*check)(struct txn_job *job);
    /* 0, ENGINE_WOULD_BLOCK, or an error for op.error. */
    int (*run)(struct txn_job *job, struct engine_view *view);
    /* Commands over ranges: finds the keys of the next step, in job->keys; without them the command
     * is done. On the pool, without latches: the run looks again. */
    int (*find)(struct txn_job *job, struct engine_view *view);
};

struct txn_job {
    struct txn_node *node;
    struct txn_command *command;
    const struct txn_rule *rule;
    struct arena *scratch;
    struct arena own; /* `scratch` of commands that run many times */
    struct task task; /* when its wait is over */
    struct latch_claim claim;
    bool latches_all;
    struct engine_write write;
    struct engine_read read;
    /* what it latches; of a range: of this step */
    const kvs_slice *keys;
    uint32_t keys_count;
    int run_error; /* of the rule */
    /* staged */
    kvs_mutation *mutations;
    uint32_t mutations_count;
    uint32_t mutations_room;
    size_t mutations_bytes;
    uint32_t left_at; /* the last shared lock that a holder leaves, among them; else beyond */
    struct pending_lock *pending; /* shown already: an array */
    uint32_t pending_count;
    kvs_slice *unlocked; /* user's keys that lose their locks by this batch */
    uint32_t unlocked_count;
    uint32_t unlocked_room;
    bool unlocks_all;
    /* a lock in the way: wants to wait, with the outcome staged for the case that it may not */
    bool wants_wait;
    bool was_woken; /* for waiter.key */
    bool has_key;   /* got the lock, or wrote it */
    uint64_t wait_begun_ns;
    struct waiter waiter;
    struct arena before; /* the command's, before the first attempt */
    /* ranges */
    struct record_key *next; /* where the next step begins; NULL: at the begin of the range */
    bool is_last_step;
    uint32_t steps;            /* of GC, done */
    uint64_t removed_versions; /* by this step of it */
};

/* --- staging: 0, NO_MEMORY or TOO_LARGE ------------------------------------------------------- */

/* The value is borrowed until the batch is done. */
int job_set(struct txn_job *job, unsigned family, kvs_slice key, kvs_slice value);
int job_remove(struct txn_job *job, unsigned family, kvs_slice key);

/* Of a shared one, the part of its holder; the parts of others stay. */
int job_put_lock(struct txn_job *job, const struct record_key *key, const struct lock_record *lock);
/* The first part of a shared one, or another. */
int job_put_shared_lock(struct txn_job *job, const struct record_key *key,
                        const struct lock_record *lock);
int job_put_write(struct txn_job *job, struct record_key *key, uint64_t commit_ts,
                  const struct write_record *write);
int job_remove_write(struct txn_job *job, struct record_key *key, uint64_t commit_ts);
int job_put_data(struct txn_job *job, struct record_key *key, uint64_t start_ts, kvs_slice value);
int job_remove_data(struct txn_job *job, struct record_key *key, uint64_t start_ts);
/* `user_key`, whose encoding `key` is, is told to those who wait for it. Of a shared one, the part
 * of its holder. */
int job_remove_lock(struct txn_job *job, const struct record_key *key, kvs_slice user_key,
                    const struct lock_record *lock);

/* No version of the key, whose latch is held, is at or above ts; cheap. False: look. */
static inline bool job_is_newest_below(struct txn_job *job, struct engine_view *view,
                                       const struct record_key *key, uint64_t ts)
{
    return newest_is_below(&job->node->newest, view, record_key_slice(key), ts);
}

/* May something have been removed that a transaction or a read of this timestamp has to see? Asked
 * in a view: what that does not show any more was removed after the safe point had been raised. */
static inline bool node_is_past(const struct txn_node *node, uint64_t ts)
{
    return node->refuses_old &&
           /* acquire: pairs with the raise, whose removals the view may show. */
           ts < atomic_load_explicit(&node->safe_point, memory_order_acquire);
}

/* A rollback record, or the mark on the commit that stands in its place. `outcome` is that of the
 * key and start_ts, and says UNKNOWN. */
int job_put_rollback(struct txn_job *job, struct record_key *key, uint64_t start_ts,
                     const struct mvcc_outcome *outcome, bool is_protected);
/* The rollback before this one, if it stands at the end of the history and need not be kept. */
int job_collapse_rollback(struct txn_job *job, struct engine_view *view, struct record_key *key,
                          uint64_t start_ts);

/* --- results: 0 or NO_MEMORY; copies live in the command's arena ------------------------------ */

int txn_lock_info_set(struct txn_lock_info *info, struct arena *arena, kvs_slice key,
                      const struct lock_record *lock);
/* Of a shared one, the holders that began up to max_ts: perhaps none. */
int txn_lock_info_up_to(struct txn_lock_info *info, struct arena *arena, kvs_slice key,
                        const struct lock_record *lock, uint64_t max_ts);
int txn_error_locked(struct txn_key_error *error, struct arena *arena, kvs_slice key,
                     const struct lock_record *lock);
int txn_slice_copy(struct arena *arena, kvs_slice bytes, kvs_slice *ret_copy);
/* The text is a constant. */
void txn_error_abort(struct txn_key_error *error, kvs_slice key, const char *text);

/* --- the rules -------------------------------------------------------------------------------- */

extern const struct txn_rule rule_prewrite;
extern const struct txn_rule rule_commit;
extern const struct txn_rule rule_batch_rollback;
extern const struct txn_rule rule_cleanup;
extern const struct txn_rule rule_heartbeat;
extern const struct txn_rule rule_check_status;
extern const struct txn_rule rule_check_secondaries;
extern const struct txn_rule rule_pessimistic_lock;
extern const struct txn_rule rule_pessimistic_rollback;
extern const struct txn_rule rule_pessimistic_rollback_range;
extern const struct txn_rule rule_resolve_lock;
extern const struct txn_rule rule_resolve_lock_range;
extern const struct txn_rule rule_delete_range;
extern const struct txn_rule rule_gc;

/* Claims the latches of keys, and checks their sizes. */
int job_keys_set(struct txn_job *job, const kvs_slice *keys, uint32_t count);

/* What two rules share: rolls one key back, whatever its state; the outcome is told when it was
 * committed. */
int rollback_key(struct txn_job *job, struct engine_view *view, kvs_slice user_key,
                 uint64_t start_ts, bool is_protected, struct mvcc_outcome *ret_outcome);
int commit_key(struct txn_job *job, struct engine_view *view, kvs_slice user_key, uint64_t start_ts,
               uint64_t commit_ts, struct txn_key_error *ret_error);
/* The same of a lock that has been looked up. */
int rollback_held(struct txn_job *job, struct engine_view *view, struct record_key *key,
                  kvs_slice user_key, const struct lock_record *lock, bool is_protected,
                  struct mvcc_outcome *ret_outcome);
int commit_held(struct txn_job *job, struct engine_view *view, struct record_key *key,
                kvs_slice user_key, const struct lock_record *lock, uint64_t commit_ts,
                struct txn_key_error *ret_error);
int pessimistic_rollback_key(struct txn_job *job, struct engine_view *view, kvs_slice user_key,
                             uint64_t start_ts, uint64_t for_update_ts);

/* --- reads (read.c) --------------------------------------------------------------------------- */

bool txn_kind_is_read(uint8_t kind);
/* What is wrong with a read: for op.error. */
int txn_read_check(const struct txn_command *command);
/* R1 to R3 of txn/pending.h: before the view begins. */
int txn_read_prepare(struct txn_node *node, struct txn_command *command);
/* The prewrites under way that R3 met: is it worth waiting for them? Not twice. */
bool txn_read_should_wait(const struct txn_command *command);
void txn_read_set_waited(struct txn_command *command);
/* Their keys; none when it should not wait. 0 or NO_MEMORY. */
int txn_read_hidden_keys(struct txn_command *command, kvs_slice **ret_keys, uint32_t *ret_count);
/* R4: 0, ENGINE_WOULD_BLOCK or an error. */
int txn_read_run(struct txn_node *node, struct txn_command *command, struct engine_view *view);

#endif
