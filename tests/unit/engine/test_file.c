/* engine/file.h: what the system answers and what is made of it. */
#include "engine/file.h"

#include <errno.h>
#include <fcntl.h>
#include <kvs/error.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
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
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
