/*
 * tests/crash/test_disk_full.c: a server on a disk that is really full.
 *
 * The disk is a small tmpfs in a mount namespace of the test's own, made with the rights that a
 * user namespace gives to anyone; where the system does not allow that, the test is skipped, and
 * the fault tests alone stand for it.
 *
 *   1. a writer sets keys until one is refused with NO_SPACE: the server lives, and reads go on;
 *   2. a file beside is removed: writes are accepted again, without a restart;
 *   3. the server is killed on the full disk and started again: all that was acknowledged is there.
 */
#include "contract/engine_fixture.h"
#include "crash/raw_client.h"
#include "crash/server_process.h"
#include "test.h"

#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <unistd.h>

#define DISK_SIZE "size=12m"
#define BALLAST_SIZE (4 * 1024 * 1024)
#define VALUE_SIZE 20000
#define KEYS_MAX 2000

static char directory[] = "/tmp/kvs-full-XXXXXX";
static char data[64];
static char ballast[64];
static struct server_process server;
static unsigned acknowledged; /* keys 0 .. acknowledged - 1 are there */

static bool write_text(const char *path, const char *text)
{
    int fd = open(path, O_WRONLY);
    bool done = fd >= 0 && write(fd, text, strlen(text)) == (ssize_t)strlen(text);
    if (fd >= 0)
        close(fd);
    return done;
}

/* Mounts the small disk, seen by this process and its children only. */
static bool make_disk(void)
{
    char user[32];
    char group[32];
    snprintf(user, sizeof user, "0 %u 1", (unsigned)getuid());
    snprintf(group, sizeof group, "0 %u 1", (unsigned)getgid());
    if (unshare(CLONE_NEWUSER | CLONE_NEWNS) != 0)
        return false;
    write_text("/proc/self/setgroups", "deny");
    return write_text("/proc/self/uid_map", user) && write_text("/proc/self/gid_map", group) &&
           mount("kvs-test", directory, "tmpfs", 0, DISK_SIZE) == 0;
}

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
    for (size_t i = 0; i < VALUE_SIZE; i++)
        value[i] = (uint8_t)(number * 31 + i);
    return slice_make(value, VALUE_SIZE);
}

/* Sets keys until one is refused; the error of that one. */
static int write_until_refused(struct raw_client *client)
{
    for (; acknowledged < KEYS_MAX; acknowledged++) {
        char text[32];
        uint8_t value[VALUE_SIZE];
        kvs_op op = KVS_OP_INIT;
        op.kind = KVS_OP_SET;
        op.key = key_of(text, acknowledged);
        op.value = value_of(value, acknowledged);
        struct wire_frame reply;
        assert_true(raw_client_call(client, &op, &reply));
        if (reply.status != 0)
            return reply.status;
    }
    return 0;
}

static void check_all(struct raw_client *client)
{
    for (unsigned i = 0; i <= acknowledged; i++) {
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

static void test_disk_full(void **state)
{
    assert_true(make_ballast());
    start_server();
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

int main(void)
{
    if (mkdtemp(directory) == NULL)
        return 1;
    snprintf(data, sizeof data, "%s/data", directory);
    snprintf(ballast, sizeof ballast, "%s/ballast", directory);
    if (!make_disk()) {
        printf("1..0 # SKIP this system lets nobody mount a small disk in a namespace\n");
        rmdir(directory);
        return 0;
    }
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_disk_full)};
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    server_process_end(&server, SIGKILL);
    umount(directory);
    rmdir(directory);
    return failed;
}
