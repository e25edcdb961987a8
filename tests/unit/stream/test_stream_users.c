/* tests/unit/stream/test_stream_users.c: users: logins, changes, who may, what is kept. */
#include "stream/users.h"

#include "base/slice.h"
#include "stream/password.h"
#include "test.h"
#include "unit/stream/stream_fixture.h"

static struct stream_fixture fixture;

static int setup(void **state)
{
    int error = stream_fixture_init(&fixture, *state);
    fixture.options.make_users = true;
    return error != 0 ? error : stream_fixture_open(&fixture);
}

static int teardown(void **state)
{
    (void)state;
    stream_fixture_deinit(&fixture);
    return 0;
}

struct waited_call {
    struct stream_user_call call;
    struct latch latch;
};

static void call_on_done(struct task *task)
{
    latch_down(&CONTAINER_OF(task, struct waited_call, call.op.task)->latch);
}

static int call_wait(struct stream_user_call *call)
{
    struct waited_call waited = {.call = *call};
    waited.call.op.task.run = call_on_done;
    waited.call.op.loop = &fixture.engine.loop;
    latch_init(&waited.latch, 1);
    streams_user_call(fixture.streams, &waited.call);
    latch_wait(&waited.latch);
    latch_deinit(&waited.latch);
    assert_int_equal(waited.call.op.error, 0);
    *call = waited.call;
    return (int)call->outcome;
}

static int simple(enum stream_user_action action, const char *login, const char *password,
                  const char *new_password)
{
    struct stream_user_call call = {.action = action,
                                    .login = slice_of_string(login),
                                    .password = slice_of_string(password),
                                    .new_password = slice_of_string(new_password)};
    int outcome = call_wait(&call);
    stream_user_call_release(&call);
    return outcome;
}

static int login(const char *name, const char *password)
{
    return simple(STREAM_USER_LOGIN, name, password, "");
}

static int create(const char *name, const char *password, const struct stream_user *by)
{
    kvs_slice groups[2] = {S("staff"), S("readers")};
    struct stream_user_call call = {.action = STREAM_USER_CREATE,
                                    .login = slice_of_string(name),
                                    .password = slice_of_string(password),
                                    .full_name = S("Joe \"J\" Doe"),
                                    .groups = groups,
                                    .groups_count = 2,
                                    .by = by};
    int outcome = call_wait(&call);
    stream_user_call_release(&call);
    return outcome;
}

static void test_defaults(void **state)
{
    (void)state;
    struct stream_user_call call = {
        .action = STREAM_USER_LOGIN, .login = S("admin"), .password = S("changeit")};
    for (unsigned i = 0; i < 3; i++) { /* hashed, remembered, reopened */
        assert_int_equal(call_wait(&call), STREAM_USER_OK);
        assert_true(call.default_password);
        assert_slice_equal(call.user.login, "admin");
        assert_int_equal(call.user.groups_count, 1);
        assert_slice_equal(call.user.groups[0], "$admins");
        stream_user_call_release(&call);
        if (i == 1)
            assert_int_equal(stream_fixture_reopen(&fixture), 0);
    }
    assert_int_equal(login("admin", "wrong"), STREAM_USER_WRONG);
    assert_int_equal(login("nobody", "changeit"), STREAM_USER_WRONG);
    assert_int_equal(login("", "changeit"), STREAM_USER_WRONG);
    assert_int_equal(login("ops", "changeit"), STREAM_USER_OK);
    assert_string_equal(streams_default_password_blocking(fixture.streams), "admin and ops");
    assert_int_equal(simple(STREAM_USER_RESET_PASSWORD, "ops", "", "better"), STREAM_USER_OK);
    assert_string_equal(streams_default_password_blocking(fixture.streams), "admin");
    assert_int_equal(simple(STREAM_USER_CHANGE_PASSWORD, "admin", "changeit", "secret"),
                     STREAM_USER_OK);
    assert_null(streams_default_password_blocking(fixture.streams));
    assert_int_equal(login("admin", "changeit"), STREAM_USER_WRONG);
    assert_int_equal(login("admin", "secret"), STREAM_USER_OK);
}

static void test_life_of_a_user(void **state)
{
    (void)state;
    assert_int_equal(create("joe", "pw", NULL), STREAM_USER_OK);
    assert_int_equal(create("joe", "other", NULL), STREAM_USER_EXISTS);
    assert_int_equal(login("joe", "pw"), STREAM_USER_OK);
    assert_int_equal(simple(STREAM_USER_DISABLE, "joe", "", ""), STREAM_USER_OK);
    assert_int_equal(login("joe", "pw"), STREAM_USER_WRONG);
    assert_int_equal(simple(STREAM_USER_ENABLE, "joe", "", ""), STREAM_USER_OK);
    assert_int_equal(login("joe", "pw"), STREAM_USER_OK);
    assert_int_equal(simple(STREAM_USER_CHANGE_PASSWORD, "joe", "no", "new"), STREAM_USER_WRONG);
    assert_int_equal(simple(STREAM_USER_CHANGE_PASSWORD, "joe", "pw", "new"), STREAM_USER_OK);
    assert_int_equal(login("joe", "pw"), STREAM_USER_WRONG);
    assert_int_equal(login("joe", "new"), STREAM_USER_OK);
    struct stream_user_call call = {.action = STREAM_USER_DETAILS, .login = S("joe")};
    assert_int_equal(call_wait(&call), STREAM_USER_OK);
    assert_int_equal(call.details_count, 1);
    assert_slice_equal(call.details[0].login, "joe");
    assert_slice_equal(call.details[0].full_name, "Joe \"J\" Doe");
    assert_int_equal(call.details[0].groups_count, 2);
    assert_slice_equal(call.details[0].groups[1], "readers");
    assert_false(call.details[0].disabled);
    stream_user_call_release(&call);
    call.login = (kvs_slice){0};
    assert_int_equal(call_wait(&call), STREAM_USER_OK);
    assert_int_equal(call.details_count, 3);
    stream_user_call_release(&call);
    assert_int_equal(simple(STREAM_USER_DELETE, "joe", "", ""), STREAM_USER_OK);
    assert_int_equal(login("joe", "new"), STREAM_USER_WRONG);
    assert_int_equal(simple(STREAM_USER_DELETE, "joe", "", ""), STREAM_USER_NOT_FOUND);
    assert_int_equal(simple(STREAM_USER_DETAILS, "joe", "", ""), STREAM_USER_NOT_FOUND);
    assert_int_equal(create("joe", "again", NULL), STREAM_USER_OK);
    assert_int_equal(login("joe", "again"), STREAM_USER_OK);
    assert_int_equal(login("joe", "new"), STREAM_USER_WRONG);
}

/* How far joe's history was looked at; 0: he is not there, or another one. */
static uint64_t seen(enum stream_user_action action, const char *password, uint64_t before)
{
    struct stream_user_call call = {.action = action,
                                    .login = S("joe"),
                                    .password = slice_of_string(password),
                                    .seen_before = before};
    int outcome = call_wait(&call);
    assert_true(outcome == STREAM_USER_OK || outcome == STREAM_USER_NOT_FOUND);
    assert_true((outcome == STREAM_USER_OK) == (call.seen > 0));
    stream_user_call_release(&call);
    return call.seen;
}

static uint64_t seen_again(uint64_t before)
{
    return seen(STREAM_USER_DETAILS, "", before);
}

/* Who is made again is another one, however it is done, also where his stream shows all of him who
 * was there before; who is changed is not. */
static void test_made_again(void **state)
{
    (void)state;
    assert_int_equal(create("joe", "pw", NULL), STREAM_USER_OK);
    for (unsigned i = 0; i < 2; i++) /* hashed, remembered */
        assert_int_equal(seen(STREAM_USER_LOGIN, "pw", 0), 1);
    assert_int_equal(seen_again(1), 1);
    assert_int_equal(simple(STREAM_USER_RESET_PASSWORD, "joe", "", "new"), STREAM_USER_OK);
    assert_int_equal(simple(STREAM_USER_DISABLE, "joe", "", ""), STREAM_USER_OK);
    assert_int_equal(simple(STREAM_USER_ENABLE, "joe", "", ""), STREAM_USER_OK);
    assert_int_equal(seen_again(1), 4);
    assert_int_equal(seen_again(4), 4);
    assert_int_equal(seen_again(5), 0);

    assert_int_equal(simple(STREAM_USER_DELETE, "joe", "", ""), STREAM_USER_OK);
    assert_int_equal(seen_again(4), 0);
    assert_int_equal(create("joe", "new", NULL), STREAM_USER_OK);
    assert_int_equal(simple(STREAM_USER_RESET_PASSWORD, "joe", "", "pw"), STREAM_USER_OK);
    struct stream_read read;
    assert_int_equal(read_forward_wait(&fixture, "$user-joe", 0, 10, &read), 0);
    assert_int_equal(read.events_count, 2);
    assert_int_equal(read.events[0].event.number, 4);
    stream_read_release(&read);
    for (uint64_t before = 1; before <= 4; before++)
        assert_int_equal(seen_again(before), 0);
    assert_int_equal(seen_again(0), 6);
    assert_int_equal(seen_again(5), 6);
    assert_int_equal(seen(STREAM_USER_LOGIN, "pw", 0), 6);

    /* Written by a client that has another word for it. */
    struct stream_new_event event = event_of(1, "made", "{\"LoginName\":\"joe\"}");
    struct stream_write written = {.kind = STREAM_WRITE_APPEND,
                                   .stream = S("$user-joe"),
                                   .expected_version = STREAM_ANY,
                                   .events = &event,
                                   .count = 1};
    assert_int_equal(simple(STREAM_USER_DELETE, "joe", "", ""), STREAM_USER_OK);
    assert_int_equal(write_event_wait(&fixture, &written), 0);
    assert_int_equal(seen_again(6), 0);
    assert_int_equal(seen_again(0), 7);
}

static void test_who_may(void **state)
{
    (void)state;
    struct stream_user joe = {.login = S("joe")};
    struct stream_user admin = {.login = S("admin")};
    assert_int_equal(create("ann", "pw", &joe), STREAM_USER_ACCESS_DENIED);
    assert_int_equal(create("joe", "pw", &admin), STREAM_USER_OK);
    struct stream_user_call call = {.action = STREAM_USER_DETAILS, .login = S("joe"), .by = &joe};
    assert_int_equal(call_wait(&call), STREAM_USER_OK);
    stream_user_call_release(&call);
    call.login = S("admin");
    assert_int_equal(call_wait(&call), STREAM_USER_ACCESS_DENIED);
    call.login = S("");
    assert_int_equal(call_wait(&call), STREAM_USER_ACCESS_DENIED);
    call = (struct stream_user_call){.action = STREAM_USER_CHANGE_PASSWORD,
                                     .login = S("joe"),
                                     .password = S("pw"),
                                     .new_password = S("x"),
                                     .by = &joe};
    assert_int_equal(call_wait(&call), STREAM_USER_OK);
    stream_user_call_release(&call);
    call.action = STREAM_USER_RESET_PASSWORD;
    assert_int_equal(call_wait(&call), STREAM_USER_ACCESS_DENIED);
    assert_int_equal(create("ann", "", &admin), STREAM_USER_BAD_REQUEST);
    assert_int_equal(create("", "pw", &admin), STREAM_USER_BAD_REQUEST);
}

/* Nobody but admins reads hashes. */
static void test_streams_of_users(void **state)
{
    (void)state;
    assert_int_equal(create("joe", "pw", NULL), STREAM_USER_OK);
    struct stream_user joe = {.login = S("joe")};
    struct stream_read read = {.stream = S("$user-joe"), .from = STREAM_END, .user = &joe};
    assert_int_equal(read_event_wait(&fixture, &read), 0);
    assert_int_equal(read.outcome, STREAM_ACCESS_DENIED);
    read.user = NULL;
    assert_int_equal(read_event_wait(&fixture, &read), 0);
    assert_slice_equal(read.events[0].event.type, "$UserCreated");
    stream_read_release(&read);
    assert_int_equal(read_forward_wait(&fixture, "$users", 0, 10, &read), 0);
    assert_int_equal(read.events_count, 3);
    assert_slice_equal(read.events[2].event.type, "$User");
    assert_slice_equal(read.events[2].event.data, "joe");
    stream_read_release(&read);
}

/* PBKDF2 with HMAC-SHA1: what other programs wrote is understood (RFC 6070 has no such rounds, so
 * this was made with another implementation). */
static void test_known_hash(void **state)
{
    (void)state;
    assert_true(password_matches(S("changeit"), S("AAECAwQFBgcICQoLDA0ODw=="),
                                 S("ESjecbuhkU3H6HH3/Q/sDBotvTI=")));
    assert_false(password_matches(S("changeit!"), S("AAECAwQFBgcICQoLDA0ODw=="),
                                  S("ESjecbuhkU3H6HH3/Q/sDBotvTI=")));
    assert_false(
        password_matches(S("changeit"), S("no base64"), S("ESjecbuhkU3H6HH3/Q/sDBotvTI=")));
    assert_false(password_matches(S("changeit"), S("AAECAwQFBgcICQoLDA0ODw=="), S("")));
}

/* A client may write a user itself; then names of members begin in lower case. */
static void test_users_that_clients_write(void **state)
{
    (void)state;
    struct password_hash hash;
    struct stream_write written;
    struct stream_user_call call = {.action = STREAM_USER_DETAILS, .login = slice_of_string("eva")};
    char json[400];
    assert_int_equal(password_hash_make(slice_of_string("one"), &hash), 0);
    snprintf(json, sizeof json,
             "{\"loginName\":\"eva\",\"fullName\":\"Eva\",\"groups\":[\"g\"],\"disabled\":false,"
             "\"salt\":\"%s\",\"hash\":\"%s\"}",
             hash.salt, hash.hash);
    struct stream_new_event event = event_of(1, "$UserCreated", json);
    written = (struct stream_write){.kind = STREAM_WRITE_APPEND,
                                    .stream = slice_of_string("$user-eva"),
                                    .expected_version = STREAM_NO_STREAM,
                                    .events = &event,
                                    .count = 1};
    assert_int_equal(write_event_wait(&fixture, &written), 0);
    assert_int_equal(simple(STREAM_USER_LOGIN, "eva", "two", ""), STREAM_USER_WRONG);
    assert_int_equal(simple(STREAM_USER_LOGIN, "eva", "one", ""), STREAM_USER_OK);
    assert_int_equal(simple(STREAM_USER_CHANGE_PASSWORD, "eva", "one", "two"), STREAM_USER_OK);
    assert_int_equal(simple(STREAM_USER_LOGIN, "eva", "one", ""), STREAM_USER_WRONG);
    assert_int_equal(simple(STREAM_USER_LOGIN, "eva", "two", ""), STREAM_USER_OK);
    assert_int_equal(simple(STREAM_USER_DISABLE, "eva", "", ""), STREAM_USER_OK);
    assert_int_equal(simple(STREAM_USER_LOGIN, "eva", "two", ""), STREAM_USER_WRONG);
    assert_int_equal(call_wait(&call), STREAM_USER_OK);
    assert_int_equal(call.details_count, 1);
    assert_slice_equal(call.details[0].full_name, "Eva");
    assert_int_equal(call.details[0].groups_count, 1);
    assert_true(call.details[0].disabled);
    stream_user_call_release(&call);
}

#define TEST(function) cmocka_unit_test_setup_teardown(function, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_defaults),
        TEST(test_life_of_a_user),
        TEST(test_made_again),
        TEST(test_who_may),
        TEST(test_streams_of_users),
        TEST(test_known_hash),
        TEST(test_users_that_clients_write),
    };
    return stream_tests_run("stream-users", tests, sizeof tests / sizeof tests[0]);
}
