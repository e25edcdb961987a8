/*
 * tests/crash/test_disk_full.c: a server on a disk that is really full.
 *
 *   1. a writer sets keys until one is refused with NO_SPACE: the server lives, and reads go on;
 *   2. a file beside is removed: writes are accepted again, without a restart;
 *   3. the server is killed on the full disk and started again: all that was acknowledged is there.
 *
 * What sets may not take is left to removals and to compaction, so that there is space again
 * without anybody's help; and a start needs no space at all.
 */
#include "base/clock.h"
#include "base/rand.h"
#include "contract/engine_fixture.h"
#include "crash/raw_client.h"
#include "crash/server_process.h"
#include "crash/small_disk.h"
#include "test.h"

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define BALLAST_SIZE (4 * 1024 * 1024)
#define VALUE_SIZE 20000
#define VALUE_SMALL 2000
#define KEYS_MAX 8000
#define SPACE_MS_MAX 60000
#define FAST_ROUNDS 300u
#define FAST_SETS 100u /* at once */

static char directory[] = "/tmp/kvs-full-XXXXXX";
static char data[64];
static char ballast[64];
static struct server_process server = {.stderr_fd = -1};
static unsigned acknowledged; /* keys 0 .. acknowledged - 1 are there */
static size_t value_size;

static bool make_ballast(void)
{
    static const char zeros[BALLAST_SIZE];
    int fd = open(ballast, O_WRONLY | O_CREAT, 0600);
    bool done = fd >= 0 && write(fd, zeros, BALLAST_SIZE) == BALLAST_SIZE;
    if (fd >= 0)
        close(fd);
    return done;
}

static void start_server(void)
{
    const char *arguments[] = {"--dir", data, "--segment-size", "1048576", NULL};
    if (!server_process_start(&server, arguments))
        fail_msg("the server does not start: %s", server.log);
}

static kvs_slice key_of(char text[32], unsigned number)
{
    snprintf(text, 32, "key %u", number);
    return slice_of_string(text);
}

static kvs_slice value_of(uint8_t value[VALUE_SIZE], unsigned number)
{
    for (size_t i = 0; i < value_size; i++)
        value[i] = (uint8_t)(number * 31 + i);
    return slice_make(value, value_size);
}

static int set(struct raw_client *client, unsigned number)
{
    char text[32];
    uint8_t value[VALUE_SIZE];
    kvs_op op = KVS_OP_INIT;
    op.kind = KVS_OP_SET;
    op.key = key_of(text, number);
    op.value = value_of(value, number);
    struct wire_frame reply;
    assert_true(raw_client_call(client, &op, &reply));
    return reply.status;
}

static int remove_key(struct raw_client *client, unsigned number)
{
    char text[32];
    kvs_op op = KVS_OP_INIT;
    op.kind = KVS_OP_REMOVE;
    op.key = key_of(text, number);
    struct wire_frame reply;
    assert_true(raw_client_call(client, &op, &reply));
    return reply.status;
}

/* Of any keys that are there; how many are refused. */
static unsigned set_many(struct raw_client *client, struct rand *rand)
{
    static char texts[FAST_SETS][32];
    static uint8_t values[FAST_SETS][VALUE_SIZE];
    unsigned refused = 0;
    for (unsigned i = 0; i < FAST_SETS; i++) {
        unsigned number = (unsigned)rand_below(rand, acknowledged);
        kvs_op op = KVS_OP_INIT;
        op.kind = KVS_OP_SET;
        op.key = key_of(texts[i], number);
        op.value = value_of(values[i], number);
        assert_true(raw_client_add(client, &op, i + 1));
    }
    assert_true(raw_client_flush(client));
    for (unsigned i = 0; i < FAST_SETS; i++) {
        struct wire_frame reply;
        assert_true(raw_client_reply(client, &reply));
        assert_true(reply.status == 0 || reply.status == KVS_ERR_NO_SPACE);
        refused += reply.status != 0;
    }
    return refused;
}

/* When there is space. False: not after a long time. */
static bool done_in_the_end(struct raw_client *client, unsigned number,
                            int (*run)(struct raw_client *client, unsigned number))
{
    uint64_t begun_ms = clock_now_ms();
    int status;
    while ((status = run(client, number)) == KVS_ERR_NO_SPACE &&
           clock_now_ms() - begun_ms < SPACE_MS_MAX)
        usleep(1000);
    assert_true(status == 0 || status == KVS_ERR_NO_SPACE);
    return status == 0;
}

static bool set_in_the_end(struct raw_client *client, unsigned number)
{
    return done_in_the_end(client, number, set);
}

static bool removed_in_the_end(struct raw_client *client, unsigned number)
{
    return done_in_the_end(client, number, remove_key);
}

/* Sets keys until one is refused; the error of that one. */
static int write_until_refused(struct raw_client *client)
{
    for (; acknowledged < KEYS_MAX; acknowledged++) {
        int status = set(client, acknowledged);
        if (status != 0)
            return status;
    }
    return 0;
}

/* Every `step`th key. */
static void check(struct raw_client *client, unsigned first, unsigned step)
{
    for (unsigned i = first; i <= acknowledged; i += step) {
        char text[32];
        uint8_t value[VALUE_SIZE];
        kvs_op op = KVS_OP_INIT;
        op.kind = KVS_OP_GET;
        op.key = key_of(text, i);
        struct wire_frame reply;
        assert_true(raw_client_call(client, &op, &reply));
        assert_int_equal(reply.status, i < acknowledged ? 0 : KVS_ERR_NOT_FOUND);
        if (i < acknowledged)
            assert_true(slice_equal(reply.body, value_of(value, i)));
    }
}

static void check_all(struct raw_client *client)
{
    check(client, 0, 1);
}

static void begin(size_t size)
{
    server_process_end(&server, SIGKILL); /* of a test that failed */
    directory_remove(data);
    acknowledged = 0;
    value_size = size;
    start_server();
}

static void test_disk_full(void **state)
{
    assert_true(make_ballast());
    begin(VALUE_SIZE);
    struct raw_client client;
    assert_true(raw_client_open(&client, &server.address));
    assert_int_equal(write_until_refused(&client), KVS_ERR_NO_SPACE);
    unsigned first = acknowledged;
    assert_true(first > 0);
    for (unsigned i = 0; i < 10; i++)
        assert_int_equal(write_until_refused(&client), KVS_ERR_NO_SPACE);
    check_all(&client);

    unlink(ballast);
    assert_int_equal(write_until_refused(&client), KVS_ERR_NO_SPACE);
    assert_true(acknowledged > first + 20);
    check_all(&client);
    raw_client_close(&client);
    server_process_end(&server, SIGKILL);

    start_server();
    assert_true(raw_client_open(&client, &server.address));
    check_all(&client);
    raw_client_close(&client);
    print_message("# %u keys, then %u when there was space again\n", first, acknowledged);
    assert_int_equal(server_process_end(&server, SIGTERM), 0);
}

/* Half of the keys are removed when there is no space for another one, and then there is. */
static void test_removed_on_a_full_disk(void **state)
{
    (void)state;
    struct raw_client client;
    begin(VALUE_SMALL);
    assert_true(raw_client_open(&client, &server.address));
    assert_int_equal(write_until_refused(&client), KVS_ERR_NO_SPACE);
    for (unsigned i = 1; i < acknowledged; i += 2)
        assert_true(removed_in_the_end(&client, i));
    for (unsigned i = 1; i < acknowledged / 2; i += 2)
        assert_true(set_in_the_end(&client, i));
    check(&client, 0, 2);
    raw_client_close(&client);
    assert_int_equal(server_process_end(&server, SIGTERM), 0);
}

/* A third of the disk is overwritten in any order, which leaves something in each segment: who is
 * refused is welcome after a moment. */
static void test_overwritten_on_a_full_disk(void **state)
{
    (void)state;
    struct rand rand = rand_seed(test_seed());
    struct raw_client client;
    begin(VALUE_SMALL);
    assert_true(raw_client_open(&client, &server.address));
    for (; acknowledged < 2000; acknowledged++)
        assert_int_equal(set(&client, acknowledged), 0);
    unsigned refused = 0;
    for (unsigned i = 0; i < 30000; i++) {
        unsigned key = (unsigned)rand_below(&rand, acknowledged);
        int status = i % 100 == 0 ? KVS_ERR_NO_SPACE : set(&client, key);
        refused += i % 100 != 0 && status != 0;
        if (status != 0)
            assert_true(set_in_the_end(&client, key));
    }
    print_message("# %u of 30000 were refused at first\n", refused);
    check_all(&client);
    refused = 0;
    for (unsigned i = 0; i < FAST_ROUNDS; i++)
        refused += set_many(&client, &rand);
    print_message("# %u of %u were refused\n", refused, FAST_ROUNDS * FAST_SETS);
    assert_true(refused < FAST_ROUNDS * FAST_SETS / 10);
    check_all(&client);
    raw_client_close(&client);
    assert_int_equal(server_process_end(&server, SIGTERM), 0);
}

/* Not a byte is left. */
static void fill_disk(void)
{
    static const char zeros[4096];
    int fd = open(ballast, O_WRONLY | O_CREAT | O_TRUNC, 0600);
    assert_true(fd >= 0);
    while (write(fd, zeros, sizeof zeros) > 0) {
    }
    close(fd);
}

/* Others may fill the disk while the server is not there, or while it is. */
static void test_starts_and_stops_on_a_full_disk(void **state)
{
    (void)state;
    struct raw_client client;
    begin(VALUE_SIZE);
    assert_true(raw_client_open(&client, &server.address));
    for (; acknowledged < 75; acknowledged++)
        assert_int_equal(set(&client, acknowledged), 0);
    raw_client_close(&client);
    for (unsigned i = 0; i < 3; i++) {
        if (i > 0) { /* full while it stops, or full when it starts */
            start_server();
            assert_true(raw_client_open(&client, &server.address));
            check_all(&client);
            assert_int_equal(set(&client, acknowledged), KVS_ERR_NO_SPACE);
            raw_client_close(&client);
        }
        if (i == 1)
            unlink(ballast);
        assert_int_equal(server_process_end(&server, SIGTERM), 0);
        fill_disk();
    }
    unlink(ballast);
    start_server();
    assert_true(raw_client_open(&client, &server.address));
    assert_int_equal(set(&client, acknowledged), 0);
    acknowledged++;
    raw_client_close(&client);
    fill_disk();
    assert_int_equal(server_process_end(&server, SIGTERM), 0);
    start_server();
    assert_true(raw_client_open(&client, &server.address));
    check_all(&client);
    raw_client_close(&client);
    assert_int_equal(server_process_end(&server, SIGTERM), 0);
    unlink(ballast);
}

int main(void)
{
    if (mkdtemp(directory) == NULL)
        return 1;
    snprintf(data, sizeof data, "%s/data", directory);
    snprintf(ballast, sizeof ballast, "%s/ballast", directory);
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_disk_full),
                                       cmocka_unit_test(test_removed_on_a_full_disk),
                                       cmocka_unit_test(test_overwritten_on_a_full_disk),
                                       cmocka_unit_test(test_starts_and_stops_on_a_full_disk)};
    int failed = 0;
    if (small_disk_mount(directory)) {
        failed = cmocka_run_group_tests(tests, NULL, NULL);
        server_process_end(&server, SIGKILL);
        small_disk_unmount(directory);
    }
    rmdir(directory);
    return failed;
}
