/* Transactions that flush, over a socket: the shapes of KvFlush and KvBufferBatchGet, by themselves
 * and in BatchCommands. What the rules decide is tested with src/txn. */
#include "unit/server/txn_calls.h"

#include "test.h"

#define FLUSH_KEYS_MAX 4u

struct flush {
    Kvrpcpb__FlushRequest request;
    Kvrpcpb__Mutation mutations[FLUSH_KEYS_MAX];
    Kvrpcpb__Mutation *pointers[FLUSH_KEYS_MAX];
};

/* `keys` has one character for each; upper case: it is deleted. */
static void flush_fill(struct flush *flush, const char *keys, const char *value, uint64_t start_ms,
                       uint64_t generation)
{
    kvrpcpb__flush_request__init(&flush->request);
    flush->request.context = &at.context;
    flush->request.mutations = flush->pointers;
    flush->request.n_mutations = strlen(keys);
    static char names[26][2];
    for (size_t i = 0; i < flush->request.n_mutations; i++) {
        bool is_deleted = keys[i] < 'a';
        char *name = names[keys[i] - (is_deleted ? 'A' : 'a')];
        name[0] = is_deleted ? (char)(keys[i] - 'A' + 'a') : keys[i];
        kvrpcpb__mutation__init(&flush->mutations[i]);
        flush->mutations[i].op = is_deleted ? KVRPCPB__OP__Del : KVRPCPB__OP__Put;
        flush->mutations[i].key = bytes_of(name);
        flush->mutations[i].value = bytes_of(is_deleted ? "" : value);
        flush->pointers[i] = &flush->mutations[i];
    }
    flush->request.primary_key = bytes_of("a");
    flush->request.start_ts = TS(start_ms);
    flush->request.min_commit_ts = TS(start_ms) + 1;
    flush->request.generation = generation;
    flush->request.lock_ttl = TTL_MS;
}

static Kvrpcpb__FlushResponse *flush_send(const char *keys, const char *value, uint64_t start_ms,
                                          uint64_t generation)
{
    struct flush flush;
    flush_fill(&flush, keys, value, start_ms, generation);
    return CALL("KvFlush", flush.request, flush_response);
}

static void flush_keys(const char *keys, const char *value, uint64_t start_ms, uint64_t generation)
{
    Kvrpcpb__FlushResponse *answer = flush_send(keys, value, start_ms, generation);
    assert_null(answer->region_error);
    assert_int_equal(answer->n_errors, 0);
    FREE(answer);
}

static void resolve(uint64_t start_ms, uint64_t commit_ms)
{
    REQUEST(ResolveLockRequest, request, RESOLVE_LOCK_REQUEST);
    request.start_version = TS(start_ms);
    request.commit_version = commit_ms != 0 ? TS(commit_ms) : 0;
    Kvrpcpb__ResolveLockResponse *answer = CALL("KvResolveLock", request, resolve_lock_response);
    assert_null(answer->error);
    FREE(answer);
}

static Kvrpcpb__BufferBatchGetResponse *own(uint64_t start_ms)
{
    REQUEST(BufferBatchGetRequest, request, BUFFER_BATCH_GET_REQUEST);
    ProtobufCBinaryData keys[] = {bytes_of("a"), bytes_of("b"), bytes_of("c"), bytes_of("d")};
    request.n_keys = 4;
    request.keys = keys;
    request.version = TS(start_ms);
    return CALL("KvBufferBatchGet", request, buffer_batch_get_response);
}

static void test_flush_read_commit(void **state)
{
    (void)state;
    put("c", "before", 100);
    put("d", "before", 100);
    flush_keys("abc", "1", 200, 1);
    flush_keys("bC", "2", 200, 2);
    flush_keys("a", "0", 200, 1); /* late */
    Kvrpcpb__BufferBatchGetResponse *mine = own(200);
    assert_null(mine->error);
    assert_int_equal(mine->n_pairs, 3); /* d is not ours */
    static const char *const values[] = {"1", "2", ""};
    static const char *const keys[] = {"a", "b", "c"};
    for (size_t i = 0; i < 3; i++) {
        assert_null(mine->pairs[i]->error);
        assert_bytes(mine->pairs[i]->key, keys[i]);
        assert_bytes(mine->pairs[i]->value, values[i]);
    }
    FREE(mine);
    mine = own(201);
    assert_int_equal(mine->n_pairs, 0);
    FREE(mine);
    Kvrpcpb__GetResponse *got = get_at("b", 300);
    assert_true(got->error->locked->txn_size == UINT64_MAX);
    assert_true(got->error->locked->min_commit_ts == TS(200) + 1);
    FREE(got);
    Kvrpcpb__CommitResponse *committed = commit_one("a", 200, 400);
    assert_null(committed->error);
    FREE(committed);
    resolve(200, 400);
    expect_get("a", 400, "1");
    expect_get("b", 400, "2");
    expect_get("c", 400, NULL);
    expect_get("c", 399, "before");
    expect_locks(1000, "");
}

static void test_rollback(void **state)
{
    (void)state;
    put("b", "before", 100);
    flush_keys("abcd", "1", 200, 1);
    expect_locks(1000, "abcd");
    resolve(200, 0);
    expect_locks(1000, "");
    expect_get("b", 300, "before");
    Kvrpcpb__FlushResponse *answer = flush_send("a", "2", 200, 2);
    assert_int_equal(answer->errors[0]->conflict->reason,
                     KVRPCPB__WRITE_CONFLICT__REASON__SelfRolledBack);
    FREE(answer);
}

static void test_errors(void **state)
{
    (void)state;
    put("b", "1", 300);
    prewrite("c", "1", "c", 100);
    Kvrpcpb__FlushResponse *answer = flush_send("b", "2", 200, 1);
    assert_non_null(answer->errors[0]->conflict);
    FREE(answer);
    answer = flush_send("ac", "2", 200, 1);
    assert_int_equal(answer->n_errors, 1);
    assert_bytes(answer->errors[0]->locked->key, "c");
    FREE(answer);
    answer = flush_send("a", "2", 200, 0);
    assert_non_null(answer->errors[0]->abort);
    FREE(answer);
    struct flush flush;
    flush_fill(&flush, "a", "1", 200, 1);
    flush.mutations[0].op = KVRPCPB__OP__PessimisticLock;
    answer = CALL("KvFlush", flush.request, flush_response);
    assert_non_null(answer->errors[0]->abort);
    FREE(answer);
    flush_fill(&flush, "a", "1", 200, 1);
    flush.request.assertion_level = (Kvrpcpb__AssertionLevel)7;
    answer = CALL("KvFlush", flush.request, flush_response);
    assert_non_null(answer->errors[0]->abort);
    FREE(answer);
    flush_fill(&flush, "a", "1", 200, 1);
    flush.request.min_commit_ts = UINT64_MAX;
    answer = CALL("KvFlush", flush.request, flush_response);
    assert_non_null(answer->region_error);
    FREE(answer);
    flush_fill(&flush, "a", "1", 200, 1);
    flush.mutations[0].op = KVRPCPB__OP__Put;
    flush.mutations[0].assertion = KVRPCPB__ASSERTION__Exist;
    flush.request.assertion_level = KVRPCPB__ASSERTION_LEVEL__Fast;
    answer = CALL("KvFlush", flush.request, flush_response);
    assert_bytes(answer->errors[0]->assertion_failed->key, "a");
    FREE(answer);
    at.context.region_id += 1000;
    answer = flush_send("a", "1", 200, 1);
    assert_non_null(answer->region_error);
    FREE(answer);
    Kvrpcpb__BufferBatchGetResponse *mine = own(200);
    assert_non_null(mine->region_error);
    FREE(mine);
    at.context.region_id -= 1000;
    expect_locks(1000, "c"); /* nothing of all that was written */
}

/* Takes the answers to commands 1 and 2, in any order and number of messages. */
static void take_two(Tikvpb__BatchCommandsResponse__Response *ret[2],
                     Tikvpb__BatchCommandsResponse *ret_messages[2])
{
    size_t count = 0;
    for (size_t m = 0; count < 2; m++) {
        ret_messages[m] = peer_receive(peer);
        assert_non_null(ret_messages[m]);
        for (size_t i = 0; i < ret_messages[m]->n_responses; i++, count++)
            ret[ret_messages[m]->request_ids[i] - 1] = ret_messages[m]->responses[i];
    }
}

static void test_in_a_batch(void **state)
{
    (void)state;
    flush_keys("ab", "1", 200, 1);
    struct flush flush;
    flush_fill(&flush, "c", "2", 200, 2);
    REQUEST(BufferBatchGetRequest, get, BUFFER_BATCH_GET_REQUEST);
    ProtobufCBinaryData key = bytes_of("b");
    get.n_keys = 1;
    get.keys = &key;
    get.version = TS(200);
    Tikvpb__BatchCommandsRequest batch = TIKVPB__BATCH_COMMANDS_REQUEST__INIT;
    Tikvpb__BatchCommandsRequest__Request requests[2];
    Tikvpb__BatchCommandsRequest__Request *pointers[] = {&requests[0], &requests[1]};
    uint64_t ids[] = {1, 2};
    for (size_t i = 0; i < 2; i++)
        tikvpb__batch_commands_request__request__init(&requests[i]);
    requests[0].cmd_case = TIKVPB__BATCH_COMMANDS_REQUEST__REQUEST__CMD_FLUSH;
    requests[0].flush = &flush.request;
    requests[1].cmd_case = TIKVPB__BATCH_COMMANDS_REQUEST__REQUEST__CMD_BUFFER_BATCH_GET;
    requests[1].buffer_batch_get = &get;
    batch.n_requests = batch.n_request_ids = 2;
    batch.requests = pointers;
    batch.request_ids = ids;
    peer_stream(peer);
    peer_send(peer, &batch);
    Tikvpb__BatchCommandsResponse__Response *answers[2];
    Tikvpb__BatchCommandsResponse *messages[2] = {NULL};
    take_two(answers, messages);
    assert_int_equal(answers[0]->cmd_case, TIKVPB__BATCH_COMMANDS_RESPONSE__RESPONSE__CMD_FLUSH);
    assert_int_equal(answers[0]->flush->n_errors, 0);
    assert_int_equal(answers[1]->cmd_case,
                     TIKVPB__BATCH_COMMANDS_RESPONSE__RESPONSE__CMD_BUFFER_BATCH_GET);
    assert_int_equal(answers[1]->buffer_batch_get->n_pairs, 1);
    assert_bytes(answers[1]->buffer_batch_get->pairs[0]->value, "1");
    for (size_t i = 0; i < 2 && messages[i] != NULL; i++)
        FREE(messages[i]);
    peer_half_close(peer);
    assert_null(peer_receive(peer));
    expect_locks(1000, "abc");
}

#define TEST(test) cmocka_unit_test_setup_teardown(test, txn_set_up, txn_tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_flush_read_commit),
        TEST(test_rollback),
        TEST(test_errors),
        TEST(test_in_a_batch),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
