/*
 * examples/transactions.c: money moves between accounts, in transactions that run side by side.
 *
 *   1. ten accounts get 100 each, in one transaction, on this thread (kvs_txn_run_blocking)
 *   2. a hundred transfers at once, each a function that kvs_txn_run calls as often as it takes:
 *      two that meet at an account cannot both commit, and the loser is begun anew
 *   3. all accounts are read in one snapshot: no money was lost or made
 *
 * Usage: transactions URL, where URL is log:DIR, memory: or tikv://PD.
 */
#include <kvs/kvs.h>

#include <stdio.h>
#include <stdlib.h>

#define ACCOUNTS 10
#define TRANSFERS 100
#define MONEY 100

struct transfer {
    char from[32];
    char to[32];
    kvs_txn *txn;
};

static void name_account(char name[32], int i)
{
    snprintf(name, 32, "account/%d", i);
}

static long money_in(kvs_slice value)
{
    char text[32];
    snprintf(text, sizeof text, "%.*s", (int)value.size, (const char *)value.data);
    return strtol(text, NULL, 10);
}

static kvs_future *put_money(kvs_txn *txn, const char *account, long money)
{
    char text[32];
    snprintf(text, sizeof text, "%ld", money);
    return kvs_txn_put(txn, kvs_slice_of(account), kvs_slice_of(text));
}

/* On this thread: every call is waited for. */
static int open_accounts(kvs_txn *txn, void *arg)
{
    (void)arg;
    for (int i = 0; i < ACCOUNTS; i++) {
        char name[32];
        name_account(name, i);
        kvs_future *put = put_money(txn, name, MONEY);
        int error = kvs_future_wait(put, -1);
        kvs_future_free(put);
        if (error != 0)
            return error;
    }
    return 0;
}

/* On a loop: both accounts were read. Returning the argument passes a failure on. */
static kvs_future *move_money(kvs_future *read, void *arg)
{
    struct transfer *transfer = arg;
    const kvs_pair *pairs;
    size_t count;
    if (kvs_future_get_pairs(read, &pairs, &count) != 0)
        return read;
    long amount = money_in(pairs[0].value) / 3;
    kvs_future_free(put_money(transfer->txn, transfer->from, money_in(pairs[0].value) - amount));
    return put_money(transfer->txn, transfer->to, money_in(pairs[1].value) + amount);
}

static kvs_future *run_transfer(kvs_txn *txn, void *arg)
{
    struct transfer *transfer = arg;
    const kvs_slice accounts[2] = {kvs_slice_of(transfer->from), kvs_slice_of(transfer->to)};
    transfer->txn = txn;
    return kvs_future_then(kvs_txn_batch_get(txn, accounts, 2), move_money, transfer);
}

static int run_all(kvs_runtime *runtime, kvs_txn_client *client)
{
    static struct transfer transfers[TRANSFERS];
    kvs_future *futures[TRANSFERS];
    const struct kvs_txn_run_options options = {.size = sizeof options, .attempts_max = 1000};
    for (int i = 0; i < TRANSFERS; i++) {
        name_account(transfers[i].from, i % ACCOUNTS);
        name_account(transfers[i].to, (i * 7 + 3) % ACCOUNTS);
        if (i % ACCOUNTS == (i * 7 + 3) % ACCOUNTS)
            name_account(transfers[i].to, (i + 1) % ACCOUNTS);
        futures[i] = kvs_txn_run(client, run_transfer, &transfers[i], &options);
    }
    kvs_future *all = kvs_future_all(runtime, futures, TRANSFERS);
    int error = kvs_future_wait(all, -1);
    if (error != 0)
        fprintf(stderr, "transactions: %s\n", kvs_future_error_message(all));
    kvs_future_free(all);
    return error;
}

static int count_money(kvs_txn_client *client, long *ret_sum)
{
    const kvs_pair *pairs;
    size_t count = 0;
    kvs_snapshot *snapshot = kvs_snapshot_new(client, 0);
    if (snapshot == NULL)
        return KVS_ERR_NO_MEMORY;
    kvs_future *scan =
        kvs_snapshot_scan(snapshot, kvs_slice_of("account/"), kvs_slice_of("account0"), 0, 0);
    int error = kvs_future_wait(scan, -1);
    if (error == 0)
        error = kvs_future_get_pairs(scan, &pairs, &count);
    *ret_sum = 0;
    for (size_t i = 0; i < count; i++)
        *ret_sum += money_in(pairs[i].value);
    kvs_future_free(scan);
    kvs_snapshot_free(snapshot);
    return error;
}

static int run(kvs_runtime *runtime, kvs_txn_client *client)
{
    long sum;
    if (kvs_txn_run_blocking(client, open_accounts, NULL, NULL, NULL) != 0 ||
        run_all(runtime, client) != 0 || count_money(client, &sum) != 0)
        return 1;
    printf("transactions: %d transfers, %ld in %d accounts\n", TRANSFERS, sum, ACCOUNTS);
    return sum != (long)MONEY * ACCOUNTS;
}

int main(int argc, char **argv)
{
    kvs_runtime *runtime;
    if (argc != 2 || kvs_runtime_new(NULL, &runtime) != 0) {
        fprintf(stderr, "usage: transactions URL, such as memory:\n");
        return 2;
    }
    kvs_future *opening = kvs_txn_client_open(runtime, argv[1], NULL);
    void *client;
    int status = 1;
    if (kvs_future_wait(opening, -1) == 0 && kvs_future_get_pointer(opening, &client) == 0) {
        status = run(runtime, client);
        kvs_future *closing = kvs_txn_client_close(client);
        kvs_future_wait(closing, -1);
        kvs_future_free(closing);
    } else {
        fprintf(stderr, "transactions: %s\n", kvs_future_error_message(opening));
    }
    kvs_future_free(opening);
    kvs_runtime_free(runtime);
    return status;
}
