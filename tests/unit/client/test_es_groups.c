/* What servers tell of groups by HTTP: texts as EventStoreDB 5 and 21 write them, and others. */
#include "client/eventstore/groups.h"

#include "base/fault.h"
#include "test.h"

#define S(text) slice_of_string(text)

/* Of version 21: positions are texts. */
static const char new_list[] =
    "[{\"links\":[{\"href\":\"http://127.0.0.1:2113/subscriptions/a/g/info\",\"rel\":\"detail\"}],"
    "\"eventStreamId\":\"a\",\"groupName\":\"g\",\"parkedMessageUri\":\"x\",\"getMessagesUri\":"
    "\"y\",\"status\":\"Live\",\"averageItemsPerSecond\":12.0,\"totalItemsProcessed\":34,"
    "\"lastProcessedEventNumber\":0,\"lastCheckpointedEventPosition\":null,"
    "\"lastKnownEventNumber\":56,\"lastKnownEventPosition\":\"56\",\"connectionCount\":2,"
    "\"totalInFlightMessages\":7},"
    "{\"eventStreamId\":\"$all\",\"groupName\":\"h\",\"status\":\"Behind, OutstandingPageRequest\","
    "\"lastKnownEventPosition\":\"C:12/P:12\",\"lastKnownEventNumber\":0}]";

/* Of version 5: numbers only. */
static const char old_info[] =
    "{\"links\":[],\"config\":{\"resolveLinktos\":true,\"startFrom\":-1,"
    "\"messageTimeoutMilliseconds\":10000,\"extraStatistics\":false,\"maxRetryCount\":10,"
    "\"liveBufferSize\":500,\"bufferSize\":501,\"readBatchSize\":20,\"preferRoundRobin\":true,"
    "\"checkPointAfterMilliseconds\":1000,\"minCheckPointCount\":11,\"maxCheckPointCount\":500,"
    "\"maxSubscriberCount\":10,\"namedConsumerStrategy\":\"Pinned\"},"
    "\"eventStreamId\":\"a\",\"groupName\":\"g\",\"status\":\"Live\",\"averageItemsPerSecond\":1.5,"
    "\"totalItemsProcessed\":100,\"countSinceLastMeasurement\":3,\"lastProcessedEventNumber\":41,"
    "\"lastKnownEventNumber\":42,\"readBufferCount\":1,\"liveBufferCount\":2,"
    "\"retryBufferCount\":3,\"totalInFlightMessages\":4,\"connections\":[{\"from\":"
    "\"10.0.0.1:5000\",\"username\":\"admin\",\"averageItemsPerSecond\":6,"
    "\"totalItemsProcessed\":7,\"countSinceLastMeasurement\":8,\"extraStatistics\":[],"
    "\"availableSlots\":9,\"inFlightMessages\":10}]}";

static void test_lists(void **state)
{
    (void)state;
    struct arena arena = {0};
    kvs_group_list *list;
    assert_int_equal(groups_parse_list(S(new_list), &arena, &list), 0);
    assert_int_equal(list->count, 2);
    const kvs_group_summary *first = &list->groups[0], *all = &list->groups[1];
    assert_slice_equal(first->stream, "a");
    assert_slice_equal(first->group, "g");
    assert_string_equal(first->status, "Live");
    assert_int_equal(first->last_known, 56);
    assert_int_equal(first->last_checkpoint, -1);
    assert_int_equal(first->total, 34);
    assert_int_equal(first->per_second, 12);
    assert_int_equal(first->connections_count, 2);
    assert_int_equal(first->in_flight, 7);
    assert_slice_equal(all->stream, "$all");
    assert_int_equal(all->last_known, -1);
    assert_int_equal(groups_parse_list(S("[]"), &arena, &list), 0);
    assert_int_equal(list->count, 0);
    arena_deinit(&arena);
}

static void test_details(void **state)
{
    (void)state;
    struct arena arena = {0};
    kvs_group_info *info;
    assert_int_equal(groups_parse_info(S(old_info), &arena, &info), 0);
    assert_int_equal(info->summary.last_known, 42);
    assert_int_equal(info->summary.last_checkpoint, 41);
    assert_int_equal(info->summary.per_second, 1);
    assert_int_equal(info->summary.in_flight, 4);
    assert_int_equal(info->read_buffer, 1);
    assert_int_equal(info->retry_buffer, 3);
    assert_int_equal(info->settings.start_from, -1);
    assert_true(info->settings.resolve_links);
    assert_int_equal(info->settings.history_buffer_count, 501);
    assert_int_equal(info->settings.checkpoint_count_min, 11);
    assert_string_equal(info->settings.strategy, "Pinned");
    assert_int_equal(info->summary.connections_count, 1);
    assert_string_equal(info->connections[0].from, "10.0.0.1:5000");
    assert_string_equal(info->connections[0].login, "admin");
    assert_string_equal(info->connections[0].name, "");
    assert_int_equal(info->connections[0].total, 7);
    assert_int_equal(info->connections[0].available_slots, 9);
    arena_deinit(&arena);
}

static void test_others(void **state)
{
    (void)state;
    static const char *const wrong[] = {"",
                                        "[",
                                        "{}",
                                        "7",
                                        "null",
                                        "[7]",
                                        "[{}]",
                                        "[{\"eventStreamId\":\"a\"}]",
                                        "{\"eventStreamId\":1,\"groupName\":\"g\"}",
                                        "not found; this is kvs-server"};
    struct arena arena = {0};
    kvs_group_list *list;
    kvs_group_info *info;
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        assert_int_equal(groups_parse_list(S(wrong[i]), &arena, &list), KVS_ERR_PROTOCOL);
        assert_int_equal(groups_parse_info(S(wrong[i]), &arena, &info), KVS_ERR_PROTOCOL);
    }
    /* Numbers that are none, or too large. */
    assert_int_equal(
        groups_parse_info(S("{\"eventStreamId\":\"a\",\"groupName\":\"g\","
                            "\"totalItemsProcessed\":1e300,\"totalInFlightMessages\":-5,"
                            "\"readBufferCount\":99999999999,\"lastKnownEventPosition\":\"12x\","
                            "\"lastProcessedEventNumber\":1.5,\"config\":[],\"connections\":{}}"),
                          &arena, &info),
        0);
    assert_int_equal(info->summary.total, 0);
    assert_int_equal(info->summary.in_flight, 0);
    assert_int_equal(info->read_buffer, INT32_MAX);
    assert_int_equal(info->summary.last_known, -1);
    assert_int_equal(info->summary.last_checkpoint, -1);
    assert_int_equal(info->summary.connections_count, 0);
    assert_string_equal(info->settings.strategy, "");
    arena_deinit(&arena);
}

#ifdef KVS_FAULTS

static void test_without_memory(void **state)
{
    (void)state;
    int error = KVS_ERR_NO_MEMORY;
    for (uint64_t k = 1; error != 0; k++) {
        struct arena arena = {0};
        kvs_group_list *list;
        kvs_group_info *info;
        fault_arm(FAULT_ALLOC, k, true);
        error = groups_parse_list(S(new_list), &arena, &list);
        if (error == 0)
            error = groups_parse_info(S(old_info), &arena, &info);
        bool fired = fault_fired() > 0;
        fault_reset();
        assert_int_equal(error, fired ? KVS_ERR_NO_MEMORY : 0);
        arena_deinit(&arena);
    }
}

#endif

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_lists),
        cmocka_unit_test(test_details),
        cmocka_unit_test(test_others),
#ifdef KVS_FAULTS
        cmocka_unit_test(test_without_memory),
#endif
    };
    return cmocka_run_group_tests_name("client/eventstore groups", tests, NULL, NULL);
}
