/*
 * engine/log/segment.c: memory that is made ahead is there, and nothing that is in it changes, also
 * while somebody writes to it.
 */
#include "engine/log/segment.h"

#include <pthread.h>
#include <string.h>
#include <sys/mman.h>

#include "test.h"

#define CAPACITY (4u * 1024 * 1024)
#define PAGE 4096u

static bool is_there(uint8_t *memory)
{
    unsigned char pages[CAPACITY / PAGE];
    assert_int_equal(mincore(memory, CAPACITY, pages), 0);
    for (unsigned i = 0; i < CAPACITY / PAGE; i++) {
        if ((pages[i] & 1) == 0)
            return false;
    }
    return true;
}

static void test_memory_is_there(void **state)
{
    (void)state;
    uint8_t *memory = segment_memory_new(CAPACITY);
    assert_non_null(memory);
    assert_false(is_there(memory));
    segment_memory_fault(memory + 100, CAPACITY - 100);
    assert_true(is_there(memory));
    for (unsigned i = 0; i < CAPACITY; i++)
        assert_int_equal(memory[i], 0);
    segment_memory_unref(memory);
}

static void *writes(void *memory)
{
    for (unsigned at = 0; at < CAPACITY; at += PAGE)
        memset((uint8_t *)memory + at, (int)(at / PAGE % 255) + 1, PAGE);
    return NULL;
}

static void test_what_is_written_stays(void **state)
{
    (void)state;
    for (unsigned round = 0; round < 20; round++) {
        uint8_t *memory = segment_memory_new(CAPACITY);
        assert_non_null(memory);
        pthread_t thread;
        assert_int_equal(pthread_create(&thread, NULL, writes, memory), 0);
        segment_memory_fault(memory, CAPACITY);
        assert_int_equal(pthread_join(thread, NULL), 0);
        for (unsigned i = 0; i < CAPACITY; i++) {
            if (memory[i] != i / PAGE % 255 + 1)
                fail_msg("round %u: byte %u is %u", round, i, memory[i]);
        }
        segment_memory_unref(memory);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_memory_is_there),
        cmocka_unit_test(test_what_is_written_stays),
    };
    return cmocka_run_group_tests_name("log_segment", tests, NULL, NULL);
}
