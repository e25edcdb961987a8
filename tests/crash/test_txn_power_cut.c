/*
 * tests/crash/test_txn_power_cut.c: transactions in process after a power cut at any moment.
 *
 * One client moves money between accounts, transaction after transaction, optimistic and
 * pessimistic, in one phase and in two, and each also writes its number; disk_journal.h notes what
 * reaches the disk when. Then, for many moments, the disk is made as it could be after a cut, and
 * opened: what a snapshot sees is what the transactions up to some number left, all of each; that
 * number is the last one reported committed, or the one that was under way. Its locks are in
 * nobody's way: the clock stands still then, so that waiting for their end would never end.
 */
#include "base/log.h"
#include "base/rand.h"
#include "contract/engine_fixture.h"
#include "crash/disk_journal.h"
#include "test.h"

#include <kvs/kvs.h>

#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define OK(call) assert_int_equal((call), 0)
#define ACCOUNTS 8
#define MONEY 100
#define TXNS 60
#define CUTS 40

static kvs_runtime *runtime;
static char root[64];
static int balances[TXNS + 2][ACCOUNTS]; /* after each transaction */

/* Else 0: when the clock stands. */
static _Atomic time_t stopped_s;

int __real_clock_gettime(clockid_t clock, struct timespec *ret_now);
int __wrap_clock_gettime(clockid_t clock, struct timespec *ret_now);

int __wrap_clock_gettime(clockid_t clock, struct timespec *ret_now)
{
    time_t at_s = atomic_load(&stopped_s);
    int status = __real_clock_gettime(clock, ret_now);
    if (at_s != 0 && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE))
        *ret_now = (struct timespec){.tv_sec = at_s};
    return status;
}

static kvs_txn_client *client_open(const char *directory)
{
    struct kvs_store_options options = {.size = sizeof options, .segment_size_bytes = 64 * 1024};
    char url[200];
    snprintf(url, sizeof url, "log:%s", directory);
    return opened_by(kvs_txn_client_open(runtime, url, &options));
}

/* A number that a key has; -1: there is none. */
static int number_of(kvs_future *future)
{
    kvs_slice value;
    int number = -1;
    int error = kvs_future_wait(future, -1);
    if (error != KVS_ERR_NOT_FOUND) {
        OK(error);
        OK(kvs_future_get_value(future, &value));
        assert_int_equal(value.size, sizeof number);
        memcpy(&number, value.data, sizeof number);
    }
    kvs_future_free(future);
    return number;
}

static kvs_slice account(char text[16], unsigned i)
{
    snprintf(text, 16, "account %u", i % 100);
    return slice_of_string(text);
}

static void put_number(kvs_txn *txn, kvs_slice key, int number)
{
    OK(wait_and_free(kvs_txn_put(txn, key, slice_make((const uint8_t *)&number, sizeof number))));
}

/* Transaction `number`, 1 opens the accounts; always to the next number's balances. */
static void txn_do(kvs_txn_client *client, int number, bool pessimistic, struct rand *rand)
{
    struct kvs_txn_options options = {.size = sizeof options,
                                      .pessimistic = pessimistic,
                                      .no_async_commit = rand_below(rand, 2) == 0,
                                      .no_one_pc = rand_below(rand, 2) == 0};
    kvs_txn *txn = kvs_txn_begin(client, &options);
    int *after = balances[number];
    memcpy(after, balances[number - 1], sizeof balances[0]);
    unsigned from = (unsigned)rand_below(rand, ACCOUNTS);
    unsigned to = (from + 1 + (unsigned)rand_below(rand, ACCOUNTS - 1)) % ACCOUNTS;
    int amount = (int)rand_below(rand, 10);
    after[from] -= number == 1 ? 0 : amount;
    after[to] += number == 1 ? 0 : amount;
    for (unsigned i = 0; i < ACCOUNTS; i++) {
        char text[16];
        if (number == 1)
            after[i] = MONEY;
        else if (i != from && i != to)
            continue;
        else
            assert_int_equal(number_of(kvs_txn_get(txn, account(text, i))),
                             balances[number - 1][i]);
        put_number(txn, account(text, i), after[i]);
    }
    put_number(txn, S("last"), number);
    OK(wait_and_free(kvs_txn_commit(txn)));
    kvs_txn_free(txn);
}

static void write_all(struct rand *rand)
{
    char directory[100];
    char disk[80];
    snprintf(disk, sizeof disk, "%s/disk", root);
    snprintf(directory, sizeof directory, "%s/data", disk);
    OK(mkdir(disk, 0755));
    disk_journal_start(disk);
    kvs_txn_client *client = client_open(directory);
    for (int number = 1; number <= TXNS; number++) {
        txn_do(client, number, rand_below(rand, 2) == 0, rand);
        disk_journal_note((uint64_t)number);
        if (number % 25 == 0) {
            OK(wait_and_free(kvs_txn_client_close(client)));
            client = client_open(directory);
        }
    }
    disk_journal_stop();
    OK(wait_and_free(kvs_txn_client_close(client)));
}

/* The last transaction that a snapshot sees, which has to see all of it and of those before. */
static int check_snapshot(kvs_txn_client *client)
{
    kvs_snapshot *snapshot = kvs_snapshot_new(client, 0);
    int last = number_of(kvs_snapshot_get(snapshot, S("last")));
    last = last < 0 ? 0 : last;
    assert_in_range(last, 0, TXNS);
    for (unsigned i = 0; i < ACCOUNTS; i++) {
        char text[16];
        int expected = last == 0 ? -1 : balances[last][i];
        int found = number_of(kvs_snapshot_get(snapshot, account(text, i)));
        if (found != expected)
            fail_msg("%s has %d after transaction %d, not %d", text, found, last, expected);
    }
    kvs_snapshot_free(snapshot);
    return last;
}

static void cut_and_open(struct rand *rand, size_t begin)
{
    char disk[80];
    char data[100];
    size_t length = disk_journal_length();
    size_t at = begin + rand_below(rand, length - begin + 1);
    snprintf(disk, sizeof disk, "%s/cut", root);
    snprintf(data, sizeof data, "%s/data", disk);
    directory_remove(disk);
    enum disk_names names = rand_below(rand, 2) == 0 ? DISK_NAMES_ORDERED : DISK_NAMES_LOST;
    int noted = (int)disk_journal_cut(at, names, rand, disk);
    for (unsigned again = 0; again < 2; again++) {
        kvs_txn_client *client = client_open(data);
        int last = check_snapshot(client);
        if (last < noted || last > noted + 1)
            fail_msg("cut before event %zu of %zu: transaction %d is the last, %d was reported", at,
                     length, last, noted);
        if (again == 0 && last < TXNS) { /* whoever comes next is not held up */
            int kept[ACCOUNTS];
            memcpy(kept, balances[last + 1], sizeof kept);
            txn_do(client, last + 1, rand_below(rand, 2) == 0, rand);
            OK(wait_and_free(kvs_txn_client_close(client)));
            client = client_open(data);
            assert_int_equal(check_snapshot(client), last + 1);
            memcpy(balances[last + 1], kept, sizeof kept);
            OK(wait_and_free(kvs_txn_client_close(client)));
            return;
        }
        OK(wait_and_free(kvs_txn_client_close(client)));
    }
}

static void test_cuts(void **state)
{
    (void)state;
    struct rand rand = rand_seed(test_seed());
    write_all(&rand);
    atomic_store(&stopped_s, time(NULL));
    for (unsigned i = 0; i < CUTS; i++)
        cut_and_open(&rand, 1);
    print_message("# %u cuts within %zu events\n", CUTS, disk_journal_length());
    disk_journal_free();
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_cuts)};
    fixtures_in_memory();
    log_set_level(LOG_SILENT);
    const char *temporary = getenv("TMPDIR");
    snprintf(root, sizeof root, "%.40s/kvs-txn-XXXXXX", temporary != NULL ? temporary : "/tmp");
    if (mkdtemp(root) == NULL || kvs_runtime_new(NULL, &runtime) != 0)
        return 1;
    int failed = cmocka_run_group_tests_name("txn-power-cut", tests, NULL, NULL);
    fflush(NULL);
    if (failed != 0)
        _exit(1); /* a client of a failed test is still open */
    kvs_runtime_free(runtime);
    directory_remove(root);
    return 0;
}
