/* engine/file.h: what the system answers and what is made of it. */
#include "engine/file.h"

#include <errno.h>
#include <fcntl.h>
#include <kvs/error.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/quota.h>
#include <sys/resource.h>
#include <sys/statvfs.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "test.h"

#define SIZE (16u * FILE_BLOCK_SIZE)

/* A limit within a block or even a sector: the system cuts the write there, and refuses the rest in
 * words of its own. */
static void test_limit_of_file_sizes(void **state)
{
    static const uint64_t limits[] = {SIZE, SIZE + 1, SIZE + 1000, SIZE + 512,
                                      SIZE + FILE_BLOCK_SIZE + 17};
    char path[] = "/tmp/kvs-file-XXXXXX";
    int fd = mkstemp(path);
    int direct_fd = -1;
    bool direct = fd >= 0 && file_open_direct(path, &direct_fd) == 0;
    uint8_t *data = aligned_alloc(FILE_BLOCK_SIZE, SIZE);
    assert_non_null(data);
    memset(data, 'x', SIZE);
    struct rlimit before;
    getrlimit(RLIMIT_FSIZE, &before);
    for (size_t i = 0; i < sizeof limits / sizeof limits[0]; i++) {
        struct rlimit limit = {limits[i], before.rlim_max};
        assert_int_equal(setrlimit(RLIMIT_FSIZE, &limit), 0);
        int error = direct ? file_write_direct(direct_fd, data, SIZE, 0) : 0;
        int error_beyond =
            direct ? file_write_direct(direct_fd, data, SIZE, SIZE) : KVS_ERR_NO_SPACE;
        int error_buffered = file_write(fd, data, SIZE, SIZE);
        setrlimit(RLIMIT_FSIZE, &before);
        assert_int_equal(error, 0);
        assert_int_equal(error_beyond, KVS_ERR_NO_SPACE);
        assert_int_equal(error_buffered, KVS_ERR_NO_SPACE);
    }
    if (direct)
        close(direct_fd);
    free(data);
    close(fd);
    unlink(path);
}

/* --- quotas: as the system would answer -------------------------------------------------------*/

static struct dqblk quotas[MAXQUOTAS];
static unsigned quota_ids[MAXQUOTAS]; /* who was asked for */
static int quota_errno;
static uid_t user;

uid_t __wrap_geteuid(void);
long __real_syscall(long number, long a, long b, long c, long d, long e, long f);
long __wrap_syscall(long number, long a, long b, long c, long d, long e, long f);

uid_t __wrap_geteuid(void)
{
    return user;
}

long __wrap_syscall(long number, long a, long b, long c, long d, long e, long f)
{
    if (number != SYS_quotactl_fd)
        return __real_syscall(number, a, b, c, d, e, f);
    for (int type = 0; type < MAXQUOTAS; type++) {
        if ((unsigned)b != ((unsigned)Q_GETQUOTA << SUBCMDSHIFT | (unsigned)type))
            continue;
        quota_ids[type] = (unsigned)c;
        memcpy((void *)d, &quotas[type], sizeof quotas[type]);
    }
    errno = quota_errno;
    return quota_errno != 0 ? -1 : 0;
}

static void quota_set(int type, uint64_t limit, uint64_t used)
{
    quotas[type] = (struct dqblk){.dqb_bhardlimit = limit / 1024, .dqb_curspace = used};
}

static void check_space(uint64_t free_expected, uint64_t all_expected)
{
    struct file_space space;
    assert_int_equal(file_space("/tmp", &space), 0);
    assert_int_equal(space.free, free_expected);
    assert_int_equal(space.all, all_expected);
}

static void test_space_under_a_quota(void **state)
{
    struct statvfs facts;
    struct file_space space;
    user = 1234;
    assert_int_equal(statvfs("/tmp", &facts), 0);
    assert_int_equal(file_space("/tmp", &space), 0); /* there is none */
    assert_int_equal(space.all, (uint64_t)facts.f_blocks * facts.f_frsize);
    assert_true(space.free > 65536);
    quota_set(USRQUOTA, 65536, 4097);
    check_space(65536 - 4097, 65536);
    quota_set(GRPQUOTA, 32768, 32000);
    check_space(768, 32768);
    assert_int_equal(quota_ids[USRQUOTA], user);
    assert_int_equal(quota_ids[GRPQUOTA], getegid());
    quota_set(GRPQUOTA, 32768, 40000); /* over it, as when it was made less */
    check_space(0, 32768);
    quota_set(USRQUOTA, UINT64_MAX / 2048 * 1024, 1);
    quota_set(GRPQUOTA, 0, 1u << 30); /* none */
    assert_int_equal(file_space("/tmp", &space), 0);
    assert_int_equal(space.all, (uint64_t)facts.f_blocks * facts.f_frsize);
    quota_set(USRQUOTA, 65536, 65536);
    check_space(0, 65536);
    user = 0; /* root's writes are not refused */
    assert_int_equal(file_space("/tmp", &space), 0);
    assert_true(space.free > 65536);
    user = 1234;
    quota_errno = ESRCH; /* a file system without */
    assert_int_equal(file_space("/tmp", &space), 0);
    assert_true(space.free > 65536);
}

/* Where a file system can tell at all. */
static void test_who_else_has_a_file_open(void **state)
{
    char path[] = "/tmp/kvs-file-XXXXXX";
    int fd = mkstemp(path);
    int other = -1;
    assert_true(fd >= 0);
    bool alone = file_is_alone(fd);
    bool knows = alone || errno != EINVAL;
    int error = file_open(path, O_RDWR, &other);
    unlink(path);
    bool beside_another = file_is_alone(fd);
    close(other);
    bool at_last = file_is_alone(fd);
    close(fd);
    assert_int_equal(error, 0);
    assert_false(beside_another);
    if (!knows)
        skip();
    assert_true(alone);
    assert_true(at_last);
}

int main(void)
{
    signal(SIGXFSZ, SIG_IGN); /* as the programs do */
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_limit_of_file_sizes),
        cmocka_unit_test(test_who_else_has_a_file_open),
        cmocka_unit_test(test_space_under_a_quota),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
