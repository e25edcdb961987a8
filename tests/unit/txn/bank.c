/* tests/unit/txn/bank.c: the clients; see bank.h. The check is in bank_check.c. */
#include "unit/txn/bank_parts.h"

#include "base/mem.h"

#include <kvs/error.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>

#define INITIAL 1000
#define TRIES_MAX 10000u
#define WAIT_MS 1 /* for a lock */
#define WAIT_FOREVER_MS 100000
#define WAIT_SIMULATED_MS 5u
#define PAUSE_SIMULATED_MS 2u

void bank_broken(struct bank *bank, const char *what, uint64_t ts)
{
    const char *none = NULL;
    if (atomic_compare_exchange_strong(&bank->wrong, &none, what))
        atomic_store(&bank->wrong_ts, ts);
}

uint64_t bank_ts(struct bank *bank)
{
    return atomic_fetch_add(&bank->clock, 1u << TXN_TS_LOGICAL_BITS) + (1u << TXN_TS_LOGICAL_BITS);
}

void bank_pause(struct bank *bank)
{
    if (bank->clients_count > 1)
        sched_yield();
    else
        atomic_fetch_add(&bank->clock, (uint64_t)PAUSE_SIMULATED_MS << TXN_TS_LOGICAL_BITS);
}

/* --- keys and values -------------------------------------------------------------------------- */

kvs_slice bank_key(unsigned i, struct bank_name *name)
{
    int size = i < BANK_ACCOUNTS_MAX
                   ? snprintf(name->text, sizeof name->text, "account%03u", i)
                   : snprintf(name->text, sizeof name->text, "slot%u", i - BANK_ACCOUNTS_MAX);
    return slice_make(name->text, (size_t)size);
}

/* Every third one is too long for a lock record. */
static kvs_slice value_make(unsigned key, long long balance, unsigned count, char to[VALUE_ROOM])
{
    memset(to, ' ', VALUE_ROOM);
    int size = snprintf(to, VALUE_ROOM, "%lld %u", balance, count);
    to[size] = ' ';
    return slice_make(to, key % 3 == 0 ? 300 : (size_t)size);
}

bool bank_value_parse(kvs_slice value, long long *ret_balance, unsigned *ret_count)
{
    char text[VALUE_ROOM + 1] = {0};
    if (value.size > VALUE_ROOM)
        return false;
    memcpy(text, value.data, value.size);
    return sscanf(text, "%lld %u", ret_balance, ret_count) == 2;
}

/* --- a transaction under way ------------------------------------------------------------------ */

struct work {
    struct bank_client *client;
    struct rand *rand;
    uint64_t start_ts;
    uint64_t for_update_ts; /* 0: optimistic */
    uint64_t ttl_ms;
    unsigned keys_count;
    unsigned keys[BANK_KEYS_MAX];
    struct bank_name names[BANK_KEYS_MAX];
    struct txn_mutation mutations[BANK_KEYS_MAX];
    char values[BANK_KEYS_MAX][VALUE_ROOM];
    kvs_slice slices[BANK_KEYS_MAX];
    long long balances[BANK_KEYS_MAX];
    unsigned counts[BANK_KEYS_MAX];
    bool exists[BANK_KEYS_MAX];
    bool shared[BANK_KEYS_MAX]; /* pessimistic: must stay as it is until the commit, no more */
    unsigned locked_count;      /* pessimistic: the first so many */
    bool async;
    bool one_pc;
    bool flushes;
    uint64_t commit_ts;
    enum bank_outcome outcome;
};

static struct txn_fixture *fixture_of(struct work *work)
{
    return &work->client->bank->fixture;
}

static bool dies(struct work *work)
{
    return rand_below(work->rand, 40) == 0;
}

/* An error of the command itself: only when the world fails. */
static bool is_error(struct bank *bank, int error, const char *what)
{
    if (error != 0 && !bank->can_fail)
        bank_broken(bank, what, (uint64_t)-error);
    return error != 0;
}

/* Reads all keys at start_ts. False: gave up. */
static bool read_all(struct work *work)
{
    struct bank *bank = work->client->bank;
    for (unsigned i = 0; i < work->keys_count; i++) {
        struct bank_read read;
        if (!bank_get(bank, work->slices[i], work->start_ts, &read))
            return false;
        work->exists[i] = read.found;
        if (work->keys[i] >= BANK_ACCOUNTS_MAX)
            continue;
        if (!read.found || !bank_value_parse(slice_make(read.bytes, read.size), &work->balances[i],
                                             &work->counts[i])) {
            bank_broken(bank, "an account is missing", work->start_ts);
            return false;
        }
    }
    return true;
}

/* No keys: all that it has locked. */
static void give_back(struct work *work, const kvs_slice *keys, unsigned count)
{
    struct txn_pessimistic_rollback command;
    txn_command_init(&command.base, TXN_PESSIMISTIC_ROLLBACK);
    command.keys = keys;
    command.keys_count = count;
    command.start_ts = work->start_ts;
    command.for_update_ts = work->for_update_ts;
    (void)is_error(work->client->bank, txn_run(fixture_of(work), &command.base),
                   "pessimistic rollback: error");
    txn_command_deinit(&command.base);
}

static void pessimistic_rollback(struct work *work)
{
    bool by_range = rand_below(work->rand, 4) == 0;
    give_back(work, work->slices, by_range ? 0 : work->keys_count);
}

static void make_lock(struct work *work, unsigned i, struct txn_pessimistic_lock *lock)
{
    work->mutations[i] = (struct txn_mutation){
        .op = work->shared[i] ? TXN_OP_SHARED_PESSIMISTIC_LOCK : TXN_OP_PESSIMISTIC_LOCK,
        .key = work->slices[i]};
    txn_make_lock(lock, &work->mutations[i], 1, work->slices[0], work->start_ts,
                  work->for_update_ts);
    lock->lock_ttl_ms = work->ttl_ms;
}

/* One try to lock the key; the kind of the error, or negative to give up. */
static int lock_once(struct work *work, unsigned i)
{
    struct bank *bank = work->client->bank;
    struct txn_pessimistic_lock lock;
    make_lock(work, i, &lock);
    lock.return_values = true;
    lock.is_first_lock = i == 0;
    lock.wait_timeout_ms = rand_below(work->rand, 3) == 0 ? -1 : WAIT_MS;
    int result = txn_run(fixture_of(work), &lock.base);
    if (is_error(bank, result, "pessimistic lock: error")) {
        result = -1;
    } else if (lock.errors_count > 0) {
        result = lock.errors[0].kind;
        if (result == TXN_ERROR_LOCKED && lock.wait_timeout_ms > 0)
            atomic_fetch_add(&bank->clock, (uint64_t)WAIT_SIMULATED_MS << TXN_TS_LOGICAL_BITS);
        if (result == TXN_ERROR_LOCKED && !bank_resolve(bank, &lock.errors[0].lock, 0, NULL))
            result = -1;
    } else {
        work->exists[i] = !lock.not_founds[0];
        if (work->keys[i] < BANK_ACCOUNTS_MAX &&
            (!work->exists[i] ||
             !bank_value_parse(lock.values[0], &work->balances[i], &work->counts[i]))) {
            bank_broken(bank, "an account that was locked is missing", work->start_ts);
            result = -1;
        }
    }
    txn_command_deinit(&lock.base);
    return result;
}

static bool has_locked(struct work *work, unsigned i)
{
    struct txn_mvcc mvcc;
    txn_command_init(&mvcc.base, TXN_MVCC_BY_KEY);
    mvcc.key = work->slices[i];
    bool failed = is_error(work->client->bank, txn_run(fixture_of(work), &mvcc.base),
                           "look at a lock: error");
    bool has = !failed && mvcc.has_lock && mvcc.lock.start_ts == work->start_ts;
    for (uint32_t n = 0; !failed && mvcc.has_lock && n < mvcc.lock.holders_count; n++)
        has = has || mvcc.lock.holders[n].start_ts == work->start_ts;
    txn_command_deinit(&mvcc.base);
    return has;
}

/* Asks for the lock, and gives it back without waiting for the answer: it does not come later. */
static void lock_in_vain(struct work *work, unsigned i)
{
    struct bank *bank = work->client->bank;
    struct txn_pessimistic_lock lock;
    struct txn_pending_run run;
    work->for_update_ts = bank_ts(bank);
    make_lock(work, i, &lock);
    lock.wait_timeout_ms = WAIT_FOREVER_MS;
    txn_start(fixture_of(work), &run, &lock.base);
    for (uint64_t n = rand_below(work->rand, 20); n > 0; n--)
        bank_pause(bank);
    give_back(work, &work->slices[i], 1);
    (void)is_error(bank, txn_finish(&run), "lock that was given back: error");
    txn_command_deinit(&lock.base);
    if (has_locked(work, i))
        bank_broken(bank, "a lock came after it had been given back", work->start_ts);
}

/* Locks all keys and reads them. False: failed, or gave up. */
static bool lock_all(struct work *work)
{
    for (unsigned i = 0; i < work->keys_count; i++) {
        if (work->client->bank->clients_count > 1 && rand_below(work->rand, 20) == 0) {
            lock_in_vain(work, i);
            pessimistic_rollback(work);
            return false;
        }
        int result = TXN_ERROR_LOCKED;
        for (unsigned tries = 0; tries < TRIES_MAX && result != 0; tries++) {
            work->for_update_ts = bank_ts(work->client->bank);
            result = lock_once(work, i);
            if (result != TXN_ERROR_LOCKED && result != TXN_ERROR_WRITE_CONFLICT)
                break;
        }
        if (result == 0 && dies(work))
            return false;
        if (result != 0) {
            pessimistic_rollback(work);
            return false;
        }
        work->locked_count++;
    }
    return true;
}

/* The last account that it writes. */
static unsigned last_written(const struct work *work)
{
    unsigned last = 0;
    for (unsigned i = 1; i < work->keys_count; i++) {
        if (work->keys[i] < BANK_ACCOUNTS_MAX && !work->shared[i])
            last = i;
    }
    return last;
}

/* What it writes: money moves, or a slot is put or deleted. */
static void plan(struct work *work)
{
    long long moved = 0;
    unsigned last = last_written(work);
    for (unsigned i = 0; i < work->keys_count; i++) {
        struct txn_mutation *mutation = &work->mutations[i];
        *mutation = (struct txn_mutation){.key = work->slices[i]};
        if (work->for_update_ts != 0)
            mutation->pessimistic_action = TXN_DO_PESSIMISTIC_CHECK;
        if (work->keys[i] >= BANK_ACCOUNTS_MAX) {
            mutation->op = work->exists[i] ? TXN_OP_DELETE : TXN_OP_INSERT;
            if (work->exists[i] && rand_below(work->rand, 4) == 0)
                mutation->op = TXN_OP_LOCK;
            mutation->value = mutation->op == TXN_OP_INSERT ? S("slot") : (kvs_slice){0};
            continue;
        }
        if (work->shared[i]) {
            mutation->op = TXN_OP_SHARED_LOCK;
            continue;
        }
        long long amount = i == last ? -moved : (long long)rand_below(work->rand, 21) - 10;
        moved += amount;
        mutation->op = TXN_OP_PUT;
        mutation->value = value_make(work->keys[i], work->balances[i] + amount, work->counts[i] + 1,
                                     work->values[i]);
    }
}

static void rollback_all(struct work *work)
{
    struct txn_batch_rollback rollback;
    txn_make_rollback(&rollback, work->slices, work->keys_count, work->start_ts);
    int error = txn_run(fixture_of(work), &rollback.base);
    if (!is_error(work->client->bank, error, "rollback: error") &&
        rollback.error.kind != TXN_ERROR_NONE)
        bank_broken(work->client->bank, "a failed transaction had committed", work->start_ts);
    txn_command_deinit(&rollback.base);
}

/* One prewrite or flush: its key error's kind, or negative to give up. */
static int prewrite_once(struct work *work, const struct txn_mutation *mutations, unsigned count,
                         uint64_t generation, uint64_t *ret_min)
{
    struct bank *bank = work->client->bank;
    struct txn_prewrite prewrite;
    txn_make_prewrite(&prewrite, mutations, count, work->slices[0], work->start_ts);
    prewrite.generation = generation;
    prewrite.lock_ttl_ms = work->ttl_ms;
    prewrite.for_update_ts = work->for_update_ts;
    prewrite.use_async_commit = work->async;
    prewrite.try_one_pc = work->one_pc;
    prewrite.is_retry = rand_below(work->rand, 3) == 0;
    if (work->async) {
        prewrite.secondaries = work->slices + 1;
        prewrite.secondaries_count = work->keys_count - 1;
    }
    if (rand_below(work->rand, 10) == 0)
        prewrite.max_commit_ts = work->start_ts + 2; /* often too low */
    int result = txn_run(fixture_of(work), &prewrite.base);
    if (is_error(bank, result, "prewrite: error")) {
        result = -1;
    } else if (prewrite.errors_count > 0) {
        result = prewrite.errors[0].kind;
        for (unsigned i = 0; i < prewrite.errors_count && result == TXN_ERROR_LOCKED; i++) {
            if (!bank_resolve(bank, &prewrite.errors[i].lock, work->start_ts, NULL))
                result = -1;
        }
    } else {
        *ret_min = work->one_pc ? prewrite.one_pc_commit_ts : prewrite.min_commit_ts_found;
    }
    txn_command_deinit(&prewrite.base);
    return result;
}

static int prewrite_part(struct work *work, const struct txn_mutation *mutations, unsigned count,
                         uint64_t generation, uint64_t *ret_min)
{
    int result = TXN_ERROR_LOCKED;
    for (unsigned tries = 0; tries < TRIES_MAX && result == TXN_ERROR_LOCKED; tries++) {
        if (tries > 0)
            bank_pause(work->client->bank);
        result = prewrite_once(work, mutations, count, generation, ret_min);
    }
    return result;
}

/* What was flushed is read as it was written, unless others have ended the transaction. */
static bool reads_drafts(struct work *work, const struct txn_mutation *drafts, unsigned count)
{
    kvs_slice keys[BANK_KEYS_MAX];
    for (unsigned i = 0; i < count; i++)
        keys[i] = drafts[i].key;
    struct txn_batch_get get;
    txn_command_init(&get.base, TXN_BUFFER_GET);
    get.read.ts = work->start_ts;
    get.keys = keys;
    get.keys_count = count;
    int error = txn_run(fixture_of(work), &get.base);
    for (unsigned i = 0; error == 0 && i < get.pairs_count; i++) {
        for (unsigned j = 0; j < count; j++) {
            if (slice_equal(get.pairs[i].key, drafts[j].key) &&
                !slice_equal(get.pairs[i].value, drafts[j].value))
                bank_broken(work->client->bank, "a flushed value is read otherwise",
                            work->start_ts);
        }
    }
    txn_command_deinit(&get.base);
    return !is_error(work->client->bank, error, "read of what was flushed: error");
}

/* Some keys get a value first that nobody may ever see, short or long; then all of them theirs, and
 * the first request may come once more. */
static int flush_all(struct work *work)
{
    static const char nonsense[300] = "1 1 ";
    struct txn_mutation drafts[BANK_KEYS_MAX];
    unsigned count = 0;
    uint64_t none;
    for (unsigned i = 0; i < work->keys_count; i++) {
        if (work->mutations[i].op != TXN_OP_PUT || rand_below(work->rand, 2) == 0)
            continue;
        drafts[count] = work->mutations[i];
        drafts[count++].value =
            slice_make(nonsense, rand_below(work->rand, 2) == 0 ? 3 : sizeof nonsense);
    }
    if (count == 0)
        return prewrite_part(work, work->mutations, work->keys_count, 1, &none);
    int result = prewrite_part(work, drafts, count, 1, &none);
    if (result == 0 && (!reads_drafts(work, drafts, count) || dies(work)))
        return -1;
    for (unsigned i = 0; result == 0 && i < work->keys_count; i++)
        result = prewrite_part(work, &work->mutations[i], 1, 2 + i, &none);
    if (result == 0 && rand_below(work->rand, 2) == 0)
        result = prewrite_part(work, drafts, count, 1, &none);
    return result;
}

/* Sometimes all at once, sometimes in two parts, the second one first. */
static int prewrite_all(struct work *work)
{
    if (work->flushes)
        return flush_all(work);
    uint64_t first_min = 0;
    uint64_t second_min = 0;
    unsigned cut = work->keys_count;
    if (!work->one_pc && rand_below(work->rand, 2) == 0)
        cut = 1 + (unsigned)rand_below(work->rand, work->keys_count);
    int result = 0;
    if (cut < work->keys_count)
        result = prewrite_part(work, work->mutations + cut, work->keys_count - cut, 0, &second_min);
    if (result == 0 && cut < work->keys_count && dies(work))
        return -1;
    if (result == 0)
        result = prewrite_part(work, work->mutations, cut, 0, &first_min);
    if (result != 0)
        return result;
    if (cut == work->keys_count)
        second_min = first_min;
    if (first_min == 0 || second_min == 0) {
        work->async = false;
        work->one_pc = false;
    }
    work->commit_ts = first_min > second_min ? first_min : second_min;
    return 0;
}

/* The primary decides, in two phases; for the others the decision was made by the prewrites. */
static void commit_primary(struct work *work)
{
    struct bank *bank = work->client->bank;
    int kind = TXN_ERROR_COMMIT_TS_EXPIRED;
    while (kind == TXN_ERROR_COMMIT_TS_EXPIRED) {
        if (!work->async)
            work->commit_ts = bank_ts(bank);
        /* Readers with later timestamps come by. */
        for (uint64_t n = rand_below(work->rand, 3) * 20; n > 0; n--)
            bank_pause(bank);
        if (dies(work)) /* also: the answer is lost */
            return;
        struct txn_commit commit;
        txn_make_commit(&commit, work->slices, 1, work->start_ts, work->commit_ts);
        int error = txn_run(fixture_of(work), &commit.base);
        kind = commit.error.kind;
        txn_command_deinit(&commit.base);
        if (is_error(bank, error, "commit: error"))
            return;
        if (kind == TXN_ERROR_COMMIT_TS_EXPIRED && work->async) {
            bank_broken(bank, "an async commit came too late", work->start_ts);
            return;
        }
    }
    if (kind == 0) {
        work->outcome = BANK_COMMITTED;
    } else if (kind == TXN_ERROR_LOCK_NOT_FOUND && !work->async) {
        work->outcome = BANK_FAILED;
        rollback_all(work);
    } else {
        bank_broken(bank, "a commit was refused for no good reason", work->start_ts);
    }
}

static void commit_secondaries(struct work *work)
{
    struct txn_commit commit;
    txn_make_commit(&commit, work->slices + 1, work->keys_count - 1, work->start_ts,
                    work->commit_ts);
    int error = txn_run(fixture_of(work), &commit.base);
    if (!is_error(work->client->bank, error, "commit of secondaries: error") &&
        commit.error.kind != TXN_ERROR_NONE)
        bank_broken(work->client->bank, "a secondary could not be committed", work->start_ts);
    txn_command_deinit(&commit.base);
}

/* From the first write to the end, or to death. */
static void write_all(struct work *work)
{
    plan(work);
    int result = prewrite_all(work);
    if (result > 0) {
        work->outcome = BANK_FAILED;
        if (!dies(work))
            rollback_all(work);
        if (work->for_update_ts != 0 && !dies(work))
            pessimistic_rollback(work);
    }
    if (result != 0)
        return;
    if (work->one_pc || work->async)
        work->outcome = BANK_COMMITTED;
    if (work->one_pc || dies(work))
        return;
    commit_primary(work);
    if (work->outcome == BANK_COMMITTED && work->keys_count > 1 && !dies(work))
        commit_secondaries(work);
}

/* --- what a client does ----------------------------------------------------------------------- */

static void record_add(struct bank_client *client, const struct work *work)
{
    if (client->records_count == client->records_room) {
        client->records_room = client->records_room > 0 ? client->records_room * 2 : 256;
        client->records = realloc(client->records, client->records_room * sizeof *client->records);
        if (client->records == NULL)
            abort();
    }
    struct bank_record *record = &client->records[client->records_count++];
    *record = (struct bank_record){
        .start_ts = work->start_ts, .commit_ts = work->commit_ts, .outcome = work->outcome};
    for (unsigned i = 0; i < work->keys_count; i++) {
        if (work->mutations[i].op != TXN_OP_LOCK && work->mutations[i].op != TXN_OP_SHARED_LOCK)
            record->keys[record->keys_count++] = work->keys[i];
    }
}

static void choose_keys(struct work *work, struct bank *bank)
{
    unsigned count = 2 + (unsigned)rand_below(work->rand, BANK_KEYS_MAX - 2);
    while (work->keys_count < count) {
        unsigned key = (unsigned)rand_below(work->rand, bank->accounts);
        bool is_new = true;
        for (unsigned i = 0; i < work->keys_count; i++)
            is_new = is_new && work->keys[i] != key;
        if (is_new)
            work->keys[work->keys_count++] = key;
        else
            count = work->keys_count > 1 ? work->keys_count : count;
    }
    if (count < BANK_KEYS_MAX && rand_below(work->rand, 3) == 0)
        work->keys[work->keys_count++] =
            BANK_ACCOUNTS_MAX + (unsigned)rand_below(work->rand, BANK_SLOTS);
    for (unsigned i = 0; i < work->keys_count; i++)
        work->slices[i] = bank_key(work->keys[i], &work->names[i]);
}

/* No client sees less than it saw before. */
static void check_monotonic(struct work *work)
{
    struct bank_client *client = work->client;
    for (unsigned i = 0; i < work->keys_count; i++) {
        if (work->keys[i] >= BANK_ACCOUNTS_MAX)
            continue;
        if (work->counts[i] < client->seen[work->keys[i]])
            bank_broken(client->bank, "a client saw less than before", work->start_ts);
        bool is_written = work->outcome == BANK_COMMITTED && !work->shared[i];
        client->seen[work->keys[i]] = work->counts[i] + (is_written ? 1 : 0);
    }
}

/* Some of the accounts behind the primary, and no commit but in two phases. */
static void choose_shared(struct work *work)
{
    for (unsigned i = 1; i < work->keys_count; i++) {
        work->shared[i] = work->keys[i] < BANK_ACCOUNTS_MAX && rand_below(work->rand, 2) == 0;
        work->async = work->async && !work->shared[i];
        work->one_pc = work->one_pc && !work->shared[i];
    }
}

/* What it shared with others nobody has written until it committed. */
static void check_shared(struct work *work)
{
    struct bank *bank = work->client->bank;
    for (unsigned i = 0; i < work->keys_count && work->outcome == BANK_COMMITTED; i++) {
        struct bank_read read;
        long long balance;
        unsigned count;
        if (!work->shared[i] || !bank_get(bank, work->slices[i], work->commit_ts, &read))
            continue;
        if (!read.found || !bank_value_parse(slice_make(read.bytes, read.size), &balance, &count) ||
            count != work->counts[i])
            bank_broken(bank, "an account was written under a shared lock", work->start_ts);
    }
}

static void transact(struct bank_client *client, struct rand *rand)
{
    struct bank *bank = client->bank;
    struct work work = {.client = client, .rand = rand};
    choose_keys(&work, bank);
    work.ttl_ms = 20 + rand_below(rand, 400);
    work.async = rand_below(rand, 2) == 0;
    work.one_pc = rand_below(rand, 3) == 0;
    bool is_pessimistic = rand_below(rand, 2) == 0;
    work.flushes = !work.async && !work.one_pc && !is_pessimistic && rand_below(rand, 2) == 0;
    if (is_pessimistic && rand_below(rand, 2) == 0)
        choose_shared(&work);
    work.start_ts = bank_start(client);
    bool goes_on = is_pessimistic ? lock_all(&work) : read_all(&work);
    if (goes_on) {
        write_all(&work);
        check_monotonic(&work);
        check_shared(&work);
        record_add(client, &work);
    }
    bank_finish(client);
}

static void *client_run(void *arg)
{
    struct bank_client *client = arg;
    struct bank *bank = client->bank;
    struct rand rand = rand_seed(client->seed);
    client->seed = rand_u64(&rand);
    for (unsigned i = 0; i < bank->steps && atomic_load(&bank->wrong) == NULL; i++) {
        uint64_t what = rand_below(&rand, 100);
        if (what < 75)
            transact(client, &rand);
        else if (what < 98)
            bank_snapshot(client, &rand);
        else
            bank_collect(client, &rand);
    }
    return NULL;
}

void bank_round(struct bank *bank)
{
    for (unsigned i = 0; i < bank->clients_count; i++) {
        struct bank_client *client = &bank->clients[i];
        if (pthread_create(&client->thread, NULL, client_run, client) != 0)
            abort();
    }
    for (unsigned i = 0; i < bank->clients_count; i++)
        pthread_join(bank->clients[i].thread, NULL);
}

/* --- begin and end ---------------------------------------------------------------------------- */

int bank_init(struct bank *bank, const struct engine_kind *kind, unsigned accounts,
              unsigned clients, unsigned steps, uint64_t seed)
{
    memset(bank, 0, sizeof *bank);
    bank->accounts = accounts;
    bank->clients_count = clients;
    bank->steps = steps;
    atomic_init(&bank->clock, (uint64_t)1000 << TXN_TS_LOGICAL_BITS);
    struct rand rand = rand_seed(seed);
    for (unsigned i = 0; i < clients; i++) {
        bank->clients[i].bank = bank;
        bank->clients[i].number = i;
        bank->clients[i].seed = rand_u64(&rand);
    }
    return txn_fixture_init(&bank->fixture, kind);
}

void bank_deinit(struct bank *bank)
{
    for (unsigned i = 0; i < bank->clients_count; i++)
        free(bank->clients[i].records);
    txn_fixture_deinit(&bank->fixture);
}

void bank_open_accounts(struct bank *bank)
{
    for (unsigned i = 0; i < bank->accounts; i++) {
        struct bank_name name;
        char value[VALUE_ROOM];
        uint64_t start_ts = bank_ts(bank);
        if (txn_put(&bank->fixture, bank_key(i, &name), value_make(i, INITIAL, 0, value), start_ts,
                    bank_ts(bank)) != 0)
            bank_broken(bank, "an account cannot be opened", i);
    }
}

long long bank_total(const struct bank *bank)
{
    return (long long)bank->accounts * INITIAL;
}

unsigned bank_count(const struct bank *bank, enum bank_outcome outcome)
{
    unsigned count = 0;
    for (unsigned c = 0; c < bank->clients_count; c++) {
        for (unsigned i = 0; i < bank->clients[c].records_count; i++)
            count += bank->clients[c].records[i].outcome == outcome;
    }
    return count;
}
