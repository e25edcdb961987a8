/* tests/unit/txn/bank_read.c: what clients do about locks, and how they read; see bank.h. */
#include "unit/txn/bank_parts.h"

#include <kvs/error.h>

#define TRIES_MAX 100000u

static bool failed(struct bank *bank, int error, const char *what)
{
    if (error != 0 && !bank->can_fail)
        bank_broken(bank, what, (uint64_t)-error);
    return error != 0;
}

/* --- who is under way ------------------------------------------------------------------------- */

static pthread_mutex_t active_mutex = PTHREAD_MUTEX_INITIALIZER;

uint64_t bank_start(struct bank_client *client)
{
    pthread_mutex_lock(&active_mutex);
    client->start_ts = bank_ts(client->bank);
    pthread_mutex_unlock(&active_mutex);
    return client->start_ts;
}

void bank_finish(struct bank_client *client)
{
    pthread_mutex_lock(&active_mutex);
    client->start_ts = 0;
    pthread_mutex_unlock(&active_mutex);
}

static uint64_t oldest_start(struct bank *bank)
{
    pthread_mutex_lock(&active_mutex);
    uint64_t oldest = bank_ts(bank);
    for (unsigned i = 0; i < bank->clients_count; i++) {
        uint64_t start_ts = bank->clients[i].start_ts;
        if (start_ts != 0 && start_ts < oldest)
            oldest = start_ts;
    }
    pthread_mutex_unlock(&active_mutex);
    return oldest;
}

/* --- locks ------------------------------------------------------------------------------------ */

/* What is known of a transaction. */
struct fate {
    bool is_decided;
    bool is_pushed; /* it will commit above the caller's timestamp */
    uint64_t commit_ts;
};

/* The secondaries of an async commit that is over. *ret_is_sync: one of them is no async lock. */
static bool ask_secondaries(struct bank *bank, uint64_t start_ts, const struct txn_lock_info *lock,
                            struct fate *fate, bool *ret_is_sync)
{
    struct txn_check_secondaries check;
    txn_command_init(&check.base, TXN_CHECK_SECONDARIES);
    check.keys = lock->secondaries;
    check.keys_count = lock->secondaries_count;
    check.start_ts = start_ts;
    int error = txn_run(&bank->fixture, &check.base);
    *ret_is_sync = false;
    if (!failed(bank, error, "check secondaries: error")) {
        fate->is_decided = true;
        fate->commit_ts = check.commit_ts;
        if (check.locks_count == lock->secondaries_count) {
            fate->commit_ts = lock->min_commit_ts;
            for (uint32_t i = 0; i < check.locks_count; i++) {
                if (check.locks[i].min_commit_ts > fate->commit_ts)
                    fate->commit_ts = check.locks[i].min_commit_ts;
                *ret_is_sync = *ret_is_sync || !check.locks[i].use_async_commit;
            }
        }
        if (*ret_is_sync)
            fate->is_decided = false;
    }
    txn_command_deinit(&check.base);
    return error == 0;
}

/* Asks the primary. False: gave up. */
static bool ask_primary(struct bank *bank, const struct txn_lock_info *lock, uint64_t caller_ts,
                        bool force_sync, struct fate *fate)
{
    uint64_t now = bank_ts(bank);
    bool is_over = txn_ts_physical_ms(lock->start_ts) + lock->ttl_ms < txn_ts_physical_ms(now);
    struct txn_check_status check;
    txn_make_check(&check, lock->primary, lock->start_ts, caller_ts, now);
    check.rollback_if_not_exist = is_over;
    check.force_sync_commit = force_sync;
    check.resolving_pessimistic_lock = lock->type == TXN_OP_PESSIMISTIC_LOCK;
    check.verify_is_primary = true;
    int error = txn_run(&bank->fixture, &check.base);
    bool is_sync = false;
    *fate = (struct fate){0};
    if (failed(bank, error, "check status: error")) {
        txn_command_deinit(&check.base);
        return false;
    }
    if (check.error.kind == TXN_ERROR_NONE && check.lock_ttl_ms == 0) {
        fate->is_decided = true;
        fate->commit_ts = check.commit_ts;
    } else if (check.action == TXN_ACTION_MIN_COMMIT_TS_PUSHED) {
        fate->is_pushed = true;
    } else if (check.error.kind == TXN_ERROR_PRIMARY_MISMATCH) {
        bank_broken(bank, "a primary is none", lock->start_ts);
    } else if (check.error.kind == TXN_ERROR_NONE && check.lock.use_async_commit && !force_sync &&
               txn_ts_physical_ms(lock->start_ts) + check.lock_ttl_ms < txn_ts_physical_ms(now)) {
        if (!ask_secondaries(bank, lock->start_ts, &check.lock, fate, &is_sync))
            error = -1;
    }
    txn_command_deinit(&check.base);
    if (error == 0 && is_sync)
        return ask_primary(bank, lock, caller_ts, true, fate);
    return error == 0;
}

/* What a reader goes by without having the lock resolved. False: it has to be. */
static bool known_add(struct bank_known *known, const struct txn_lock_info *lock, uint64_t ts,
                      const struct fate *fate)
{
    bool is_later = fate->is_pushed || (fate->is_decided && fate->commit_ts > ts);
    bool is_committed = fate->is_decided && fate->commit_ts != 0 && fate->commit_ts <= ts;
    if (is_later && known->resolved_count < BANK_KNOWN_MAX)
        known->resolved[known->resolved_count++] = lock->start_ts;
    else if (is_committed && known->committed_count < BANK_KNOWN_MAX && lock->start_ts % 7 < 4)
        known->committed[known->committed_count++] = lock->start_ts;
    else
        return false;
    return true;
}

static struct txn_read read_with(uint64_t ts, const struct bank_known *known)
{
    return (struct txn_read){.ts = ts,
                             .resolved_locks = known->resolved,
                             .resolved_locks_count = known->resolved_count,
                             .committed_locks = known->committed,
                             .committed_locks_count = known->committed_count};
}

static bool give_back(struct bank *bank, const struct txn_lock_info *lock)
{
    struct txn_pessimistic_rollback command;
    txn_command_init(&command.base, TXN_PESSIMISTIC_ROLLBACK);
    command.keys = &lock->key;
    command.keys_count = 1;
    command.start_ts = lock->start_ts;
    command.for_update_ts = TXN_TS_MAX;
    int error = txn_run(&bank->fixture, &command.base);
    txn_command_deinit(&command.base);
    return !failed(bank, error, "giving back: error");
}

bool bank_resolve(struct bank *bank, const struct txn_lock_info *lock, uint64_t caller_ts,
                  struct bank_known *known)
{
    struct fate fate;
    for (uint32_t i = 0; i < lock->holders_count; i++) {
        if (!bank_resolve(bank, &lock->holders[i], caller_ts, known))
            return false;
    }
    if (lock->holders_count > 0)
        return true;
    if (!ask_primary(bank, lock, caller_ts, false, &fate))
        return false;
    if (known != NULL && known_add(known, lock, caller_ts, &fate))
        return true;
    if (!fate.is_decided) {
        bank_pause(bank);
        return true;
    }
    if (lock->type == TXN_OP_PESSIMISTIC_LOCK)
        return give_back(bank, lock);
    struct txn_status status = {.start_ts = lock->start_ts, .commit_ts = fate.commit_ts};
    struct txn_resolve_lock resolve;
    txn_make_resolve(&resolve, &status, 1);
    resolve.keys = &lock->key;
    resolve.keys_count = lock->start_ts >> TXN_TS_LOGICAL_BITS & 1; /* else the whole range */
    int error = txn_run(&bank->fixture, &resolve.base);
    /* What decides about a transaction may be collected once all its locks are resolved. */
    if (!failed(bank, error, "resolve: error") && resolve.error.kind != TXN_ERROR_NONE &&
        lock->start_ts > atomic_load(&bank->safe_point))
        bank_broken(bank, "a transaction has two fates", lock->start_ts);
    txn_command_deinit(&resolve.base);
    return error == 0;
}

bool bank_resolve_all(struct bank *bank, uint64_t max_ts)
{
    for (unsigned tries = 0; tries < TRIES_MAX; tries++) {
        struct txn_scan_lock scan;
        txn_command_init(&scan.base, TXN_SCAN_LOCK);
        scan.max_ts = max_ts;
        scan.limit = 10;
        int error = txn_run(&bank->fixture, &scan.base);
        bool goes_on = !failed(bank, error, "scan of locks: error");
        uint32_t count = goes_on ? scan.locks_count : 0;
        for (uint32_t i = 0; i < count && goes_on; i++)
            goes_on = bank_resolve(bank, &scan.locks[i], 0, NULL);
        txn_command_deinit(&scan.base);
        if (!goes_on || count == 0)
            return goes_on;
        if (atomic_load(&bank->wrong) != NULL)
            return false;
    }
    bank_broken(bank, "a lock never goes away", max_ts);
    return false;
}

/* --- reads ------------------------------------------------------------------------------------ */

bool bank_get(struct bank *bank, kvs_slice key, uint64_t ts, struct bank_read *ret_read)
{
    struct bank_known known = {0};
    for (unsigned tries = 0; tries < TRIES_MAX && atomic_load(&bank->wrong) == NULL; tries++) {
        struct txn_get get;
        txn_make_get(&get, key, ts);
        get.read = read_with(ts, &known);
        int error = txn_run(&bank->fixture, &get.base);
        bool goes_on = !failed(bank, error, "get: error");
        bool is_done = goes_on && get.error.kind == TXN_ERROR_NONE;
        if (is_done) {
            ret_read->found = get.found;
            ret_read->size = get.value.size < VALUE_ROOM ? get.value.size : VALUE_ROOM;
            if (get.found)
                memcpy(ret_read->bytes, get.value.data, ret_read->size);
        } else if (goes_on) {
            goes_on = bank_resolve(bank, &get.error.lock, ts, &known);
        }
        txn_command_deinit(&get.base);
        if (is_done || !goes_on)
            return is_done;
    }
    if (atomic_load(&bank->wrong) == NULL)
        bank_broken(bank, "a read never ends", ts);
    return false;
}

/* A snapshot that is read until no lock is in the way. */
struct reading {
    uint64_t ts;
    struct bank_known known;
};

/* What one try of a snapshot gathers. */
struct sum {
    long long total;
    uint64_t digest;
    unsigned count;
    unsigned counts[BANK_ACCOUNTS_MAX];
};

static bool sum_add(struct bank *bank, struct sum *sum, unsigned account, kvs_slice value)
{
    long long balance;
    if (!bank_value_parse(value, &balance, &sum->counts[account])) {
        bank_broken(bank, "a value is none that was written", account);
        return false;
    }
    sum->total += balance;
    sum->digest = (sum->digest ^ (uint64_t)balance ^ (uint64_t)sum->counts[account] << 32) *
                  0x9e3779b97f4a7c15u;
    sum->count++;
    return true;
}

/* All pairs of a read, or the locks in their way resolved. *ret_is_done: no lock was. */
static bool pairs_take(struct bank *bank, const struct txn_pair *pairs, uint32_t count,
                       bool reverse, struct reading *reading, struct sum *sum, bool *ret_is_done)
{
    *ret_is_done = true;
    for (uint32_t n = 0; n < count; n++) {
        const struct txn_pair *pair = &pairs[reverse ? count - 1 - n : n];
        if (pair->error.kind != TXN_ERROR_NONE) {
            *ret_is_done = false;
            if (!bank_resolve(bank, &pair->error.lock, reading->ts, &reading->known))
                return false;
        } else if (*ret_is_done && pair->key.data[0] == 'a' && sum->count < bank->accounts &&
                   !sum_add(bank, sum, sum->count, pair->value)) {
            return false;
        }
    }
    return true;
}

static bool read_by_scan(struct bank *bank, struct rand *rand, struct reading *reading,
                         struct sum *sum, bool *ret_is_done)
{
    struct txn_scan scan;
    txn_command_init(&scan.base, TXN_SCAN);
    scan.read = read_with(reading->ts, &reading->known);
    scan.limit = 1000;
    scan.reverse = rand_below(rand, 2) == 0;
    int error = txn_run(&bank->fixture, &scan.base);
    bool goes_on = !failed(bank, error, "scan: error");
    if (goes_on)
        goes_on =
            pairs_take(bank, scan.pairs, scan.pairs_count, scan.reverse, reading, sum, ret_is_done);
    txn_command_deinit(&scan.base);
    return goes_on;
}

static bool read_by_batch(struct bank *bank, struct reading *reading, struct sum *sum,
                          bool *ret_is_done)
{
    struct bank_name names[BANK_ACCOUNTS_MAX];
    kvs_slice keys[BANK_ACCOUNTS_MAX];
    for (unsigned i = 0; i < bank->accounts; i++)
        keys[i] = bank_key(i, &names[i]);
    struct txn_batch_get batch;
    txn_command_init(&batch.base, TXN_BATCH_GET);
    batch.read = read_with(reading->ts, &reading->known);
    batch.keys = keys;
    batch.keys_count = bank->accounts;
    int error = txn_run(&bank->fixture, &batch.base);
    bool goes_on = !failed(bank, error, "batch get: error");
    if (goes_on)
        goes_on =
            pairs_take(bank, batch.pairs, batch.pairs_count, false, reading, sum, ret_is_done);
    txn_command_deinit(&batch.base);
    return goes_on;
}

static bool read_all(struct bank *bank, struct rand *rand, uint64_t ts, struct sum *ret_sum)
{
    struct reading reading = {.ts = ts};
    for (unsigned tries = 0; tries < TRIES_MAX && atomic_load(&bank->wrong) == NULL; tries++) {
        *ret_sum = (struct sum){0};
        bool is_done = false;
        bool goes_on = rand_below(rand, 2) == 0
                           ? read_by_scan(bank, rand, &reading, ret_sum, &is_done)
                           : read_by_batch(bank, &reading, ret_sum, &is_done);
        if (!goes_on || is_done)
            return goes_on;
    }
    return false;
}

void bank_snapshot(struct bank_client *client, struct rand *rand)
{
    struct bank *bank = client->bank;
    struct sum sum;
    uint64_t ts = bank_start(client);
    if (read_all(bank, rand, ts, &sum)) {
        if (sum.count != bank->accounts)
            bank_broken(bank, "a snapshot lacks an account", ts);
        if (sum.total != bank_total(bank))
            bank_broken(bank, "money was made or lost in a snapshot", ts);
        for (unsigned i = 0; i < bank->accounts; i++) {
            if (sum.counts[i] < client->seen[i])
                bank_broken(bank, "a snapshot shows less than was seen before", ts);
            client->seen[i] = sum.counts[i];
        }
        uint64_t digest = sum.digest;
        uint64_t before_ts = client->snapshot_ts;
        if (before_ts > atomic_load(&bank->safe_point) && read_all(bank, rand, before_ts, &sum) &&
            sum.digest != client->snapshot_digest && before_ts > atomic_load(&bank->safe_point))
            bank_broken(bank, "a snapshot has changed", before_ts);
        client->snapshot_ts = ts;
        client->snapshot_digest = digest;
    }
    bank_finish(client);
}

void bank_collect(struct bank_client *client, struct rand *rand)
{
    struct bank *bank = client->bank;
    uint64_t safe_point = oldest_start(bank) - 1;
    uint64_t before = atomic_load(&bank->safe_point);
    while (before < safe_point &&
           !atomic_compare_exchange_weak(&bank->safe_point, &before, safe_point)) {
    }
    if (rand_below(rand, 2) == 0 || !bank_resolve_all(bank, safe_point))
        return;
    struct txn_gc gc;
    txn_command_init(&gc.base, TXN_GC);
    gc.safe_point = safe_point;
    (void)failed(bank, txn_run(&bank->fixture, &gc.base), "garbage collection: error");
    txn_command_deinit(&gc.base);
}
