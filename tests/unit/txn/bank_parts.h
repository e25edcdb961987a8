/* tests/unit/txn/bank_parts.h: what the files of the bank share. */
#ifndef TESTS_UNIT_TXN_BANK_PARTS_H
#define TESTS_UNIT_TXN_BANK_PARTS_H

#include "unit/txn/bank.h"

#include "base/rand.h"

#define VALUE_ROOM 320u

struct bank_name {
    char text[24];
};

void bank_broken(struct bank *bank, const char *what, uint64_t ts);
uint64_t bank_ts(struct bank *bank);
/* Lets others go on; when there are none, time. */
void bank_pause(struct bank *bank);
kvs_slice bank_key(unsigned i, struct bank_name *name);
bool bank_value_parse(kvs_slice value, long long *ret_balance, unsigned *ret_count);
long long bank_total(const struct bank *bank);

/* A timestamp below which nothing is collected until bank_finish. */
uint64_t bank_start(struct bank_client *client);
void bank_finish(struct bank_client *client);

struct bank_read {
    bool found;
    size_t size;
    uint8_t bytes[VALUE_ROOM];
};

/* Reads, resolving what is in the way. False: gave up. */
bool bank_get(struct bank *bank, kvs_slice key, uint64_t ts, struct bank_read *ret_read);

/* What a reader has learned of transactions whose locks need not be in its way. */
#define BANK_KNOWN_MAX 32u

struct bank_known {
    unsigned resolved_count;
    unsigned committed_count;
    uint64_t resolved[BANK_KNOWN_MAX];
    uint64_t committed[BANK_KNOWN_MAX];
};

/* Does what a client does about a lock that it met: decides about its transaction if that is over,
 * else nothing. Readers may only note what they learned, in `known`. False: gave up. */
bool bank_resolve(struct bank *bank, const struct txn_lock_info *lock, uint64_t caller_ts,
                  struct bank_known *known);
/* Reads all accounts at once, and checks what must hold. */
void bank_snapshot(struct bank_client *client, struct rand *rand);
void bank_collect(struct bank_client *client, struct rand *rand);
/* All locks up to a timestamp. */
bool bank_resolve_all(struct bank *bank, uint64_t max_ts);

#endif
