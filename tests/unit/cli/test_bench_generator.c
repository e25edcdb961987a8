/* cli/bench: options, generator, worker and report together, against a peer of the test's own. */
#include "cli/bench/generator.h"
#include "cli/bench/report.h"

#include "resp_peer.h"

#include <jansson.h>
#include <kvs/error.h>
#include <kvs/store.h>
#include <stdlib.h>
#include <string.h>

#include "test.h"

static struct resp_peer peer;
static struct result result; /* histograms: too large for a stack */

/* --- options ---- */

static int parse(struct bench_options *options, const char *line, char *message)
{
    static char words[512];
    char *argv[32] = {"kvs-bench"};
    int argc = 1;
    snprintf(words, sizeof words, "%s", line);
    for (char *word = strtok(words, " "); word != NULL; word = strtok(NULL, " "))
        argv[argc++] = word;
    return bench_options_parse(options, argc, argv, message);
}

static void test_options(void **state)
{
    (void)state;
    static const char *const bad[] = {"a b",
                                      "--no-such-flag",
                                      "--connections 0",
                                      "--connections x",
                                      "--pipeline 65537",
                                      "--workload walk",
                                      "--read-ratio 1.5",
                                      "--read-ratio nan",
                                      "--workload set --read-ratio 0.5",
                                      "--rate -1",
                                      "--rate 1e10",
                                      "--key-size 2 --keys 101",
                                      "--duration 0",
                                      "--value-size 257m",
                                      "--sync never tikv://h:1",
                                      "--sync sometimes log:d"};
    struct bench_options options;
    char message[ARGUMENTS_MESSAGE_SIZE];
    assert_int_equal(parse(&options, "", message), 0);
    assert_string_equal(options.url, "kvs://127.0.0.1:4000");
    assert_true(options.read_ratio == 0.5 && options.threads >= 1);
    assert_int_equal(parse(&options, "-c 2 -t 8 -w get redis://h:1 -d 1k --warm-up 0", message), 0);
    assert_string_equal(options.url, "redis://h:1");
    assert_int_equal(options.threads, 2); /* no thread without a connection */
    assert_true(options.read_ratio == 1.0);
    assert_int_equal(options.value_size, 1024);
    assert_int_equal(options.sync, KVS_SYNC_ALWAYS);
    assert_int_equal(parse(&options, "--sync never log:d", message), 0);
    assert_int_equal(options.sync, KVS_SYNC_NEVER);
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        message[0] = '\0';
        if (parse(&options, bad[i], message) != KVS_ERR_INVALID_ARGUMENT || message[0] == '\0')
            fail_msg("accepted: %s", bad[i]);
    }
}

/* --- runs ---- */

struct trial {
    struct bench_options options;
    char url[64];
    struct generator generator;
};

static void trial_open(struct trial *trial, const char *words)
{
    char message[ARGUMENTS_MESSAGE_SIZE], text[TARGET_TEXT_MAX];
    memset(trial, 0, sizeof *trial);
    assert_int_equal(parse(&trial->options, words, message), 0);
    snprintf(trial->url, sizeof trial->url, "redis://127.0.0.1:%u", peer.port);
    trial->options.url = trial->url;
    assert_int_equal(generator_open(&trial->generator, &trial->options, text), 0);
}

static void trial_run(enum peer_manner manner, uint64_t honest_max, const char *words)
{
    struct trial trial;
    resp_peer_start(&peer, manner, honest_max);
    trial_open(&trial, words);
    assert_int_equal(generator_run(&trial.generator, STAGE_MEASURE, &result, NULL, NULL), 0);
    generator_close(&trial.generator);
    resp_peer_stop(&peer);
}

static uint64_t answered(void)
{
    return result.tally.latency[OPERATION_SET].count + result.tally.latency[OPERATION_GET].count;
}

static void test_filling_sets_every_key_once(void **state)
{
    (void)state;
    struct trial trial;
    resp_peer_start(&peer, PEER_HONEST, 0);
    trial_open(&trial, "-k 1001 -c 7 -t 3 --idle-connections 20");
    assert_int_equal(generator_run(&trial.generator, STAGE_FILL, &result, NULL, NULL), 0);
    generator_close(&trial.generator);
    resp_peer_stop(&peer);
    assert_int_equal(peer.connections, 27);
    assert_int_equal(answered(), 1001);
    assert_int_equal(result.alive, 7);
    for (int i = 0; i < PEER_KEYS_MAX; i++)
        assert_int_equal(peer.sets[i], i < 1001);
}

static void test_closed_loop_sends_what_was_asked_for(void **state)
{
    (void)state;
    trial_run(PEER_HONEST, 0, "-k 100 -c 5 -t 2 -P 16 -n 10001 --read-ratio 0.25");
    assert_int_equal(answered(), 10001);
    assert_int_equal(peer.requests, 10001);
    assert_in_range(result.tally.latency[OPERATION_GET].count, 2200, 2800);
    assert_int_equal(result.tally.errors, 0);
    assert_int_equal(result.tally.lost, 0);
    assert_true(result.elapsed_ns > 0);
    assert_true(result.tally.writes < 10001); /* several requests by one write */
}

static void test_missing_keys_are_counted(void **state)
{
    (void)state;
    trial_run(PEER_HONEST, 0, "-k 100 -c 2 -w get -n 500");
    assert_int_equal(answered(), 500);
    assert_int_equal(result.tally.misses, 500);
}

static void test_open_loop_sends_what_is_due(void **state)
{
    (void)state;
    trial_run(PEER_HONEST, 0, "-k 100 -c 3 -t 2 -P 4 --rate 20000 -n 2000");
    assert_int_equal(answered(), 2000);
    assert_int_equal(result.tally.unsent, 0);
    /* The last is due after 1999/20000 s. */
    assert_true(result.elapsed_ns >= 99950000);
}

static void test_a_duration_ends(void **state)
{
    (void)state;
    trial_run(PEER_HONEST, 0, "-k 100 -c 3 -P 4 -D 0.5");
    assert_true(answered() > 0);
    assert_int_equal(answered(), peer.requests);
    trial_run(PEER_HONEST, 0, "-k 100 -c 3 -P 4 -D 0.05 --rate 1000");
    assert_int_equal(answered() + result.tally.unsent, 50);
}

/* More than the sockets' buffers hold: the rest is kept and sent later. */
static void test_large_values(void **state)
{
    (void)state;
    trial_run(PEER_HONEST, 0, "-k 10 -c 2 -t 1 -P 8 -w set -d 1m -n 64");
    assert_int_equal(answered(), 64);
    assert_int_equal(peer.requests, 64);
    assert_int_equal(result.tally.lost, 0);
}

static void test_errors_are_counted(void **state)
{
    (void)state;
    trial_run(PEER_REFUSES, 100, "-k 100 -c 2 -P 4 -w set -n 1000");
    assert_int_equal(answered(), 1000);
    assert_int_equal(result.tally.errors, 900);
    assert_string_equal(result.tally.first_error, "ERR not today");
}

static void test_broken_peers_end_the_run(void **state)
{
    (void)state;
    static const enum peer_manner manners[] = {PEER_BABBLES, PEER_LEAVES, PEER_ECHOES};
    for (size_t i = 0; i < sizeof manners / sizeof manners[0]; i++) {
        trial_run(manners[i], 100, "-k 100 -c 4 -t 2 -P 4 -n 1000000");
        assert_int_equal(result.alive, 0);
        assert_int_equal(result.tally.lost_connections, 4);
        assert_true(answered() >= 100 && answered() < 1000000);
        /* An echo answers what is still under way; else what was honest counts, and all of it. */
        assert_true(answered() == 100 || manners[i] == PEER_ECHOES);
        assert_true(strlen(result.tally.first_error) > 0);
    }
}

/* The peer leaves while large requests are being written: a write fails, and the replies that came
 * before it are there to be read. */
static void test_replies_before_a_failed_write_count(void **state)
{
    (void)state;
    for (int i = 0; i < 50; i++) {
        trial_run(PEER_LEAVES, 5, "-k 10 -c 1 -t 1 -P 8 -w set -d 1m -n 64");
        assert_int_equal(result.alive, 0);
        assert_int_equal(answered(), 5);
    }
}

static void test_a_silent_peer_is_given_up(void **state)
{
    (void)state;
    trial_run(PEER_SILENT, 100, "-k 100 -c 4 -t 2 -P 4 -n 1000000 --timeout 1");
    assert_int_equal(result.alive, 0);
    assert_int_equal(answered(), 100);
    assert_int_equal(result.tally.timed_out, 16);
    assert_int_equal(result.tally.lost, 16);
    assert_string_equal(result.tally.first_error, "no reply in time");
}

static void test_no_server_is_an_error(void **state)
{
    (void)state;
    struct trial trial;
    char message[ARGUMENTS_MESSAGE_SIZE], text[TARGET_TEXT_MAX];
    resp_peer_start(&peer, PEER_HONEST, 0);
    resp_peer_stop(&peer); /* its port is free again */
    memset(&trial, 0, sizeof trial);
    assert_int_equal(parse(&trial.options, "", message), 0);
    snprintf(trial.url, sizeof trial.url, "redis://127.0.0.1:%u", peer.port);
    trial.options.url = trial.url;
    assert_int_equal(generator_open(&trial.generator, &trial.options, text), KVS_ERR_CONNECT);
    assert_non_null(strstr(text, "cannot connect to 127.0.0.1:"));
}

/* --- the report ---- */

static double real_at(json_t *object, const char *path)
{
    char names[64];
    snprintf(names, sizeof names, "%s", path);
    for (char *name = strtok(names, "/"); name != NULL; name = strtok(NULL, "/"))
        object = json_object_get(object, name);
    assert_true(json_is_number(object));
    return json_number_value(object);
}

static void test_json_says_what_was_measured(void **state)
{
    (void)state;
    struct bench_options options;
    struct report report = {.options = &options, .measure = &result};
    char message[ARGUMENTS_MESSAGE_SIZE], *text = NULL;
    size_t size = 0;
    trial_run(PEER_HONEST, 0, "-k 100 -c 5 -P 16 -n 1000 --read-ratio 0.25");
    assert_int_equal(parse(&options, "-P 16 -c 5 redis://there:1", message), 0);
    FILE *file = open_memstream(&text, &size);
    assert_non_null(file);
    assert_true(report_print_json(&report, file));
    fclose(file);
    json_t *json = json_loads(text, 0, NULL);
    assert_non_null(json);
    assert_string_equal(json_string_value(json_object_get(json, "target")), "redis://there:1");
    assert_true(json_is_null(json_object_get(json, "fill")));
    assert_true(real_at(json, "setting/pipeline") == 16);
    assert_true(real_at(json, "measured/answered") == 1000);
    assert_true(real_at(json, "measured/set/answered") + real_at(json, "measured/get/answered") ==
                1000);
    assert_true(real_at(json, "measured/set/latency_us/p50") <=
                real_at(json, "measured/set/latency_us/p99.9"));
    assert_true(real_at(json, "measured/set/latency_us/p99.99") <=
                real_at(json, "measured/set/latency_us/max"));
    assert_true(real_at(json, "measured/per_second") > 0);
    assert_true(report_is_clean(&report));
    json_decref(json);
    free(text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_options),
        cmocka_unit_test(test_filling_sets_every_key_once),
        cmocka_unit_test(test_closed_loop_sends_what_was_asked_for),
        cmocka_unit_test(test_missing_keys_are_counted),
        cmocka_unit_test(test_open_loop_sends_what_is_due),
        cmocka_unit_test(test_a_duration_ends),
        cmocka_unit_test(test_large_values),
        cmocka_unit_test(test_errors_are_counted),
        cmocka_unit_test(test_broken_peers_end_the_run),
        cmocka_unit_test(test_replies_before_a_failed_write_count),
        cmocka_unit_test(test_a_silent_peer_is_given_up),
        cmocka_unit_test(test_no_server_is_an_error),
        cmocka_unit_test(test_json_says_what_was_measured),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
