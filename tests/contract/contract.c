/* tests/contract/contract.c: runs the list of contract.h. */
#include "contract/contract.h"

#include "base/rand.h"
#include "test.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const struct engine_kind *kind_under_test;

struct contract_test {
    const char *name;
    void (*run)(struct fixture *fixture);
    unsigned needs;
};

static const struct contract_test tests[] = {
#define X(name, needs, promise) {#name ": " promise, contract_##name, needs},
    CONTRACT_TESTS(X)
#undef X
};

#define TESTS_COUNT (sizeof tests / sizeof tests[0])

static struct fixture the_fixture;

static void contract_test_run(void **state)
{
    const struct contract_test *test = *state;
    assert_int_equal(fixture_init(&the_fixture, kind_under_test), 0);
    int error = fixture_open(&the_fixture);
    if (error != 0)
        fail_msg("open: %s: %s", kvs_error_name(error), the_fixture.message.text);
    test->run(&the_fixture);
    fixture_deinit(&the_fixture);
}

/* A failed test leaves its engine running, as nobody knows what of it is still in use. */
static int contract_test_teardown(void **state)
{
    directory_remove(the_fixture.root);
    return 0;
}

static unsigned capabilities(const struct engine_kind *kind)
{
    struct fixture fixture;
    if (fixture_init(&fixture, kind) != 0 || fixture_open(&fixture) != 0) {
        fprintf(stderr, "%s does not open: %s\n", kind->name, fixture.message.text);
        exit(1);
    }
    unsigned able = fixture.engine->capabilities;
    fixture_deinit(&fixture);
    return able;
}

int contract_run(const struct engine_kind *kind)
{
    kind_under_test = kind;
    static struct CMUnitTest group[TESTS_COUNT];
    size_t count = 0;
    unsigned able = capabilities(kind);
    for (size_t i = 0; i < TESTS_COUNT; i++) {
        if ((tests[i].needs & ~able) == 0)
            group[count++] = (struct CMUnitTest){.name = tests[i].name,
                                                 .test_func = contract_test_run,
                                                 .teardown_func = contract_test_teardown,
                                                 .initial_state = (void *)&tests[i]};
    }
    return tests_end(_cmocka_run_group_tests(kind->name, group, count, NULL, NULL));
}

kvs_slice text_format(char text[TEXT_SIZE_MAX], const char *format, ...)
{
    va_list args;
    va_start(args, format);
    int size = vsnprintf(text, TEXT_SIZE_MAX, format, args);
    va_end(args);
    return slice_make(text, (size_t)size);
}

void bytes_fill(uint8_t *bytes, size_t size, uint64_t number)
{
    struct rand rand = rand_seed(number);
    for (size_t i = 0; i < size; i += 8) {
        uint64_t word = rand_u64(&rand);
        memcpy(bytes + i, &word, size - i < 8 ? size - i : 8);
    }
}

void check_in_view(struct engine_view *view, unsigned family, kvs_slice key, const char *text)
{
    kvs_slice value;
    int error = engine_get(view, family, key, &value);
    if (text == NULL) {
        assert_int_equal(error, KVS_ERR_NOT_FOUND);
        return;
    }
    assert_int_equal(error, 0);
    assert_int_equal(value.size, strlen(text));
    if (value.size > 0)
        assert_memory_equal(value.data, text, value.size);
}

void check_value(struct fixture *fixture, const char *key, const char *text)
{
    struct engine_view view;
    assert_int_equal(engine_view_begin(fixture->engine, NULL, true, &view), 0);
    check_in_view(&view, 0, slice_of_string(key), text);
    engine_view_end(&view);
}
