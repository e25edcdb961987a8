/* tests/unit/txn/bank_check.c: looks at every version that is left; see bank.h. */
#include "unit/txn/bank_parts.h"

#include <kvs/error.h>

/* Who wrote a version, or claims to have. */
static const struct bank_record *record_find(const struct bank *bank, uint64_t start_ts)
{
    for (unsigned c = 0; c < bank->clients_count; c++) {
        const struct bank_client *client = &bank->clients[c];
        for (unsigned i = 0; i < client->records_count; i++) {
            if (client->records[i].start_ts == start_ts)
                return &client->records[i];
        }
    }
    return NULL;
}

/* The value of a version, from either place. */
static kvs_slice version_value(const struct txn_mvcc *mvcc, const struct txn_mvcc_write *write)
{
    for (uint32_t i = 0; i < mvcc->values_count; i++) {
        if (mvcc->values[i].start_ts == write->start_ts)
            return mvcc->values[i].value;
    }
    return write->short_value;
}

static void check_author(struct bank *bank, unsigned key, const struct txn_mvcc_write *write)
{
    const struct bank_record *record = record_find(bank, write->start_ts);
    if (record == NULL)
        return; /* the first one of an account */
    if (record->outcome == BANK_FAILED)
        bank_broken(bank, "a transaction that failed is there", write->start_ts);
    if (record->outcome == BANK_COMMITTED && record->commit_ts != write->commit_ts)
        bank_broken(bank, "a transaction is there at another time than it was told",
                    write->start_ts);
    bool has_key = false;
    for (unsigned i = 0; i < record->keys_count; i++)
        has_key = has_key || record->keys[i] == key;
    if (!has_key)
        bank_broken(bank, "a transaction wrote a key that is not its own", write->start_ts);
}

/* The versions of one key, newest first: each follows from the one below. */
static void check_versions(struct bank *bank, unsigned key, const struct txn_mvcc *mvcc)
{
    unsigned count_above = 0;
    uint8_t type_above = TXN_OP_LOCK;
    for (uint32_t i = 0; i < mvcc->writes_count; i++) {
        const struct txn_mvcc_write *write = &mvcc->writes[i];
        if (write->type == TXN_OP_LOCK || write->type == TXN_OP_ROLLBACK)
            continue;
        check_author(bank, key, write);
        if (key >= BANK_ACCOUNTS_MAX) {
            if (write->type == type_above)
                bank_broken(bank, "a key was inserted or deleted twice", write->commit_ts);
            type_above = write->type;
            continue;
        }
        long long balance;
        unsigned count;
        if (write->type != TXN_OP_PUT ||
            !bank_value_parse(version_value(mvcc, write), &balance, &count)) {
            bank_broken(bank, "a version is damaged", write->commit_ts);
            return;
        }
        if (type_above == TXN_OP_PUT && count + 1 != count_above)
            bank_broken(bank, "an update was lost", write->commit_ts);
        type_above = write->type;
        count_above = count;
    }
}

/* Is there a version of each key of a transaction? *ret_some: of at least one. */
static bool is_whole(const struct txn_mvcc *versions, const struct bank_record *record,
                     bool *ret_some)
{
    unsigned found = 0;
    for (unsigned i = 0; i < record->keys_count; i++) {
        const struct txn_mvcc *mvcc = &versions[record->keys[i]];
        for (uint32_t n = 0; n < mvcc->writes_count; n++)
            found += mvcc->writes[n].start_ts == record->start_ts &&
                     mvcc->writes[n].type != TXN_OP_ROLLBACK;
    }
    *ret_some = found > 0;
    return found == record->keys_count;
}

static void check_records(struct bank *bank, const struct txn_mvcc *versions)
{
    uint64_t safe_point = atomic_load(&bank->safe_point);
    for (unsigned c = 0; c < bank->clients_count; c++) {
        const struct bank_client *client = &bank->clients[c];
        for (unsigned i = 0; i < client->records_count; i++) {
            const struct bank_record *record = &client->records[i];
            if (record->start_ts <= safe_point)
                continue; /* what it wrote may be collected */
            bool some;
            bool whole = is_whole(versions, record, &some);
            if (record->outcome == BANK_COMMITTED && !whole)
                bank_broken(bank, "a transaction that committed is not there", record->start_ts);
            if (record->outcome == BANK_UNKNOWN && some && !whole)
                bank_broken(bank, "half a transaction is there", record->start_ts);
        }
    }
}

static void check_leftovers(struct bank *bank, const struct txn_mvcc *mvcc)
{
    if (mvcc->has_lock)
        bank_broken(bank, "a lock is left", mvcc->lock.start_ts);
    for (uint32_t v = 0; v < mvcc->values_count; v++) {
        bool is_used = false;
        for (uint32_t i = 0; i < mvcc->writes_count; i++)
            is_used = is_used || (mvcc->writes[i].start_ts == mvcc->values[v].start_ts &&
                                  mvcc->writes[i].type == TXN_OP_PUT);
        if (!is_used)
            bank_broken(bank, "a value is left", mvcc->values[v].start_ts);
    }
}

void bank_check(struct bank *bank)
{
    static struct txn_mvcc versions[BANK_ACCOUNTS_MAX + BANK_SLOTS];
    for (unsigned i = 0; i < bank->clients_count; i++)
        bank_finish(&bank->clients[i]);
    if (!bank_resolve_all(bank, TXN_TS_MAX - 1) && atomic_load(&bank->wrong) == NULL)
        bank_broken(bank, "what is left cannot be resolved", 0);
    for (unsigned i = 0; i < BANK_ACCOUNTS_MAX + BANK_SLOTS; i++) {
        struct bank_name name;
        txn_command_init(&versions[i].base, TXN_MVCC_BY_KEY);
        versions[i].key = bank_key(i, &name);
        if (txn_run(&bank->fixture, &versions[i].base) != 0)
            bank_broken(bank, "a key cannot be read", i);
        check_versions(bank, i, &versions[i]);
        check_leftovers(bank, &versions[i]);
    }
    check_records(bank, versions);
    for (unsigned i = 0; i < BANK_ACCOUNTS_MAX + BANK_SLOTS; i++)
        txn_command_deinit(&versions[i].base);
    struct rand rand = rand_seed(1);
    bank_snapshot(&bank->clients[0], &rand);
}
