/*
 * tests/unit/txn/bank.h: random transactions of many clients against one node, and the proof that
 * they were isolated.
 *
 * Accounts hold a balance and the number of their changes. Clients move money between accounts in
 * transactions of every kind (two phases, async, one phase; optimistic, pessimistic), put and
 * delete a few keys, read snapshots, collect garbage; they die between any two steps, and resolve
 * the locks that others left. Time is simulated: each timestamp is a millisecond after the last, so
 * that locks expire also under living clients.
 *
 * What must hold, and is checked:
 *   - the sum of all balances is the same in every snapshot (no dirty, fuzzy or skewed read);
 *   - a snapshot that is read again is the same (until it is collected as garbage);
 *   - each change of an account is the last one's number plus one (no lost update);
 *   - keys are put and deleted in turns, though puts are blind inserts;
 *   - no client sees less than it has seen or done before;
 *   - what a client shares a lock of is not written until it has committed;
 *   - a lock that was given back while it was waited for does not come later;
 *   - every transaction that was reported committed is there, at the timestamp that was said; none
 *     that was reported failed is; of the others all or nothing.
 *
 * Nothing in here asserts: bank->wrong tells the first promise that was broken.
 */
#ifndef TESTS_UNIT_TXN_BANK_H
#define TESTS_UNIT_TXN_BANK_H

#include "unit/txn/txn_fixture.h"

#define BANK_ACCOUNTS_MAX 64u
#define BANK_SLOTS 3u
#define BANK_CLIENTS_MAX 16u
#define BANK_KEYS_MAX 5u

enum bank_outcome { BANK_UNKNOWN = 0, BANK_COMMITTED, BANK_FAILED };

/* One transaction as its client knows it. */
struct bank_record {
    uint64_t start_ts;
    uint64_t commit_ts;
    enum bank_outcome outcome;
    unsigned keys_count;
    unsigned keys[BANK_KEYS_MAX];
};

struct bank_client {
    struct bank *bank;
    pthread_t thread;
    unsigned number;
    uint64_t seed;
    uint64_t start_ts; /* of the transaction under way, as seen by the garbage collector; 0: none */
    unsigned seen[BANK_ACCOUNTS_MAX];
    uint64_t snapshot_ts;
    uint64_t snapshot_digest;
    struct bank_record *records;
    unsigned records_count;
    unsigned records_room;
};

struct bank {
    struct txn_fixture fixture;
    unsigned accounts;
    unsigned clients_count;
    unsigned steps; /* of each client in a round */
    bool can_fail;  /* the world fails: an error is no broken promise */
    _Atomic uint64_t clock;
    _Atomic uint64_t safe_point;
    _Atomic(const char *) wrong;
    _Atomic uint64_t wrong_ts;
    struct bank_client clients[BANK_CLIENTS_MAX];
};

/* A node over a fresh engine. 0 or the error. */
int bank_init(struct bank *bank, const struct engine_kind *kind, unsigned accounts,
              unsigned clients, unsigned steps, uint64_t seed);
void bank_deinit(struct bank *bank);

/* Puts the money in. */
void bank_open_accounts(struct bank *bank);
/* One round of all clients. */
void bank_round(struct bank *bank);
/* Resolves all that is left, and looks at every version. */
void bank_check(struct bank *bank);

/* Transactions by their outcome, of all clients. */
unsigned bank_count(const struct bank *bank, enum bank_outcome outcome);

#endif
