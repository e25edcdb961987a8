/* cli/bench/report.c: text, JSON and the live line; on the main thread, after or between phases. */
#include "cli/bench/report.h"

#include <inttypes.h>
#include <jansson.h>
#include <string.h>

#define URL_SHOWN_SIZE 512

/* By workload: the rows of tables and objects. */
static const char *operation_name(const struct bench_options *options, int operation)
{
    static const char *const names[OPERATION_COUNT] = {"set", "get", "txn"};
    static const char *const of_events[] = {"append", "page", "event"};
    if (!workload_is_events(options->workload) || operation == OPERATION_TXN)
        return names[operation];
    bool is_append = operation == OPERATION_SET;
    return is_append ? of_events[0] : of_events[options->workload == WORKLOAD_READ ? 1 : 2];
}

static const struct {
    double percent;
    const char *name; /* in the text and, with a p before it, in JSON */
} percentiles[] = {{50, "50"}, {90, "90"}, {99, "99"}, {99.9, "99.9"}, {99.99, "99.99"}};

enum { PERCENTILE_COUNT = sizeof percentiles / sizeof percentiles[0] };

static uint64_t number(const _Atomic uint64_t *counter)
{
    return atomic_load_explicit(counter, memory_order_relaxed);
}

static double seconds(uint64_t ns)
{
    return (double)ns / 1e9;
}

static double microseconds(uint64_t ns)
{
    return (double)ns / 1e3;
}

static double per(double count, double of)
{
    return of > 0 ? count / of : 0.0;
}

static uint64_t answered(const struct result *result)
{
    uint64_t sum = 0;
    for (int i = 0; i < OPERATION_COUNT; i++)
        sum += number(&result->tally.latency[i].count);
    return sum;
}

static bool result_is_clean(const struct result *result)
{
    return result == NULL ||
           (number(&result->tally.errors) == 0 && number(&result->tally.lost) == 0 &&
            result->idle_lost == 0 && result->tally.lost_connections == 0);
}

bool report_is_clean(const struct report *report)
{
    return result_is_clean(report->fill) && result_is_clean(report->measure);
}

/* A report is kept and shown around: it has no login and no password. A directory has neither. */
static void url_shown(const char *url, char out[URL_SHOWN_SIZE])
{
    const char *at = target_is_in_process(url) ? NULL : strrchr(url, '@');
    const char *host = strstr(url, "//");
    int scheme = at != NULL && host != NULL ? (int)(host + 2 - url) : 0;
    snprintf(out, URL_SHOWN_SIZE, "%.*s%s", scheme, url, scheme > 0 ? at + 1 : url);
}

/* --- text ---- */

static void print_setting(const struct bench_options *options, FILE *file)
{
    char url[URL_SHOWN_SIZE];
    url_shown(options->url, url);
    fprintf(file,
            "%s\n%" PRIu64 " connections x %" PRIu64 " in flight, %" PRIu64 " threads, %" PRIu64
            " keys (%s), key %" PRIu64 " B, value %" PRIu64 " B, %.0f%% gets",
            url, options->connections, options->pipeline, options->threads, options->keys,
            bench_distribution_name(options->distribution), options->key_size, options->value_size,
            options->read_ratio * 100);
    if (options->idle_connections > 0)
        fprintf(file, ", %" PRIu64 " idle connections", options->idle_connections);
    if (options->rate > 0)
        fprintf(file, ", open loop at %.0f/s\n", options->rate);
    else
        fprintf(file, ", closed loop\n");
}

static void print_row(const char *name, const struct histogram *latency, double elapsed_s,
                      FILE *file)
{
    uint64_t count = number(&latency->count);
    fprintf(file, "%-5s %12" PRIu64 " %12.0f %9.1f", name, count, per((double)count, elapsed_s),
            histogram_mean(latency) / 1e3);
    for (int i = 0; i < PERCENTILE_COUNT; i++)
        fprintf(file, " %9.1f",
                microseconds(histogram_percentile(latency, percentiles[i].percent)));
    fprintf(file, " %9.1f\n", microseconds(number(&latency->max)));
}

static void print_table(const struct bench_options *options, const struct result *result,
                        FILE *file)
{
    static struct histogram all; /* too large for a stack; one main thread */
    double elapsed_s = seconds(result->elapsed_ns);
    int kinds = 0;
    fprintf(file, "\n%-5s %12s %12s %9s", "", "answered", "per second", "mean us");
    for (int i = 0; i < PERCENTILE_COUNT; i++)
        fprintf(file, " %8s%%", percentiles[i].name);
    fprintf(file, " %9s\n", "max us");
    histogram_clear(&all);
    for (int i = 0; i < OPERATION_COUNT; i++) {
        const struct histogram *latency = &result->tally.latency[i];
        histogram_add(&all, latency);
        if (number(&latency->count) == 0)
            continue;
        print_row(operation_name(options, i), latency, elapsed_s, file);
        kinds++;
    }
    if (kinds != 1)
        print_row("all", &all, elapsed_s, file);
}

static void print_events(const struct result *result, FILE *file)
{
    if (result->tally.events > 0)
        fprintf(file, "%" PRIu64 " events, %.0f per second\n", result->tally.events,
                per((double)result->tally.events, seconds(result->elapsed_ns)));
}

static void print_troubles(const struct result *result, FILE *file)
{
    const struct tally *tally = &result->tally;
    fprintf(file, "errors %" PRIu64 ", missing keys %" PRIu64, number(&tally->errors),
            number(&tally->misses));
    if (number(&tally->lost) > 0 || tally->lost_connections > 0)
        fprintf(file,
                ", lost connections %" PRIu64 " (idle %" PRIu64 ") with %" PRIu64
                " requests, %" PRIu64 " of them timed out",
                tally->lost_connections, result->idle_lost, number(&tally->lost), tally->timed_out);
    if (tally->unsent > 0)
        fprintf(file, ", %" PRIu64 " due requests never sent: the server does not keep this rate",
                tally->unsent);
    fprintf(file, "\n");
    if (tally->first_error[0] != '\0')
        fprintf(file, "first error: %s\n", tally->first_error);
}

static void print_cost(const struct result *result, FILE *file)
{
    const struct tally *tally = &result->tally;
    double elapsed_s = seconds(result->elapsed_ns), count = (double)answered(result);
    bool is_counted = tally->bytes_out > 0; /* else libkvs sends and receives */
    fprintf(file, "in %.2f s", elapsed_s);
    if (is_counted)
        fprintf(file, "; received %.1f MB/s, sent %.1f MB/s",
                per((double)tally->bytes_in / 1e6, elapsed_s),
                per((double)tally->bytes_out / 1e6, elapsed_s));
    fprintf(file,
            "\ngenerator: %.2f of a processor in user mode and %.2f in the kernel, %.0f ns and "
            "%.0f ns a request",
            per(seconds(tally->user_ns), elapsed_s), per(seconds(tally->system_ns), elapsed_s),
            per((double)tally->user_ns, count), per((double)tally->system_ns, count));
    if (is_counted)
        fprintf(file, "; %.2f system calls a request",
                per((double)(tally->reads + tally->writes + tally->polls), count));
    fprintf(file, "\n");
}

/* Not requests, each of which may carry several. */
static uint64_t filled(const struct result *fill)
{
    return fill->tally.events > 0 ? fill->tally.events : answered(fill);
}

void report_print_text(const struct report *report, FILE *file)
{
    print_setting(report->options, file);
    if (report->fill != NULL) {
        double elapsed_s = seconds(report->fill->elapsed_ns);
        uint64_t count = filled(report->fill);
        fprintf(file, "filled with %" PRIu64 " %s in %.2f s, %.0f per second\n", count,
                workload_is_events(report->options->workload) ? "events" : "keys", elapsed_s,
                per((double)count, elapsed_s));
        if (!result_is_clean(report->fill))
            print_troubles(report->fill, file);
    }
    if (report->measure != NULL) {
        print_table(report->options, report->measure, file);
        print_events(report->measure, file);
        print_troubles(report->measure, file);
        print_cost(report->measure, file);
    }
}

/* --- JSON ---- */

static json_t *json_number(uint64_t value)
{
    return json_integer((json_int_t)value);
}

/* Takes the value; a missing one (no memory) makes the whole object fail. */
static void put(json_t **object, const char *name, json_t *value)
{
    if (*object != NULL && json_object_set_new(*object, name, value) != 0) {
        json_decref(*object);
        *object = NULL;
    } else if (*object == NULL) {
        json_decref(value);
    }
}

static json_t *setting_json(const struct bench_options *options)
{
    json_t *json = json_object();
    put(&json, "connections", json_number(options->connections));
    put(&json, "idle_connections", json_number(options->idle_connections));
    put(&json, "pipeline", json_number(options->pipeline));
    put(&json, "threads", json_number(options->threads));
    put(&json, "keys", json_number(options->keys));
    put(&json, "distribution", json_string(bench_distribution_name(options->distribution)));
    put(&json, "key_size", json_number(options->key_size));
    put(&json, "value_size", json_number(options->value_size));
    put(&json, "read_ratio", json_real(options->read_ratio));
    put(&json, "rate", json_real(options->rate));
    put(&json, "seed", json_number(options->seed));
    return json;
}

static json_t *latency_json(const struct histogram *latency, double elapsed_s)
{
    uint64_t count = number(&latency->count);
    json_t *json = json_object(), *times = json_object();
    put(&times, "min", json_real(count > 0 ? microseconds(number(&latency->min)) : 0.0));
    put(&times, "mean", json_real(histogram_mean(latency) / 1e3));
    for (int i = 0; i < PERCENTILE_COUNT; i++) {
        char name[16];
        snprintf(name, sizeof name, "p%s", percentiles[i].name);
        put(&times, name,
            json_real(microseconds(histogram_percentile(latency, percentiles[i].percent))));
    }
    put(&times, "max", json_real(microseconds(number(&latency->max))));
    put(&json, "answered", json_number(count));
    put(&json, "per_second", json_real(per((double)count, elapsed_s)));
    put(&json, "latency_us", times);
    return json;
}

static json_t *cost_json(const struct tally *tally, double count)
{
    json_t *json = json_object();
    put(&json, "user_seconds", json_real(seconds(tally->user_ns)));
    put(&json, "system_seconds", json_real(seconds(tally->system_ns)));
    put(&json, "user_ns_per_request", json_real(per((double)tally->user_ns, count)));
    put(&json, "reads", json_number(tally->reads));
    put(&json, "writes", json_number(tally->writes));
    put(&json, "polls", json_number(tally->polls));
    return json;
}

static json_t *result_json(const struct bench_options *options, const struct result *result)
{
    const struct tally *tally = &result->tally;
    double elapsed_s = seconds(result->elapsed_ns);
    json_t *json = json_object();
    put(&json, "seconds", json_real(elapsed_s));
    put(&json, "answered", json_number(answered(result)));
    put(&json, "per_second", json_real(per((double)answered(result), elapsed_s)));
    for (int i = 0; i < OPERATION_COUNT; i++)
        put(&json, operation_name(options, i), latency_json(&tally->latency[i], elapsed_s));
    put(&json, "errors", json_number(number(&tally->errors)));
    put(&json, "first_error", json_string(tally->first_error));
    put(&json, "missing_keys", json_number(number(&tally->misses)));
    put(&json, "lost_requests", json_number(number(&tally->lost)));
    put(&json, "timed_out_requests", json_number(tally->timed_out));
    put(&json, "lost_connections", json_number(tally->lost_connections));
    put(&json, "lost_idle_connections", json_number(result->idle_lost));
    put(&json, "unsent_requests", json_number(tally->unsent));
    put(&json, "events", json_number(tally->events));
    put(&json, "bytes_in", json_number(tally->bytes_in));
    put(&json, "bytes_out", json_number(tally->bytes_out));
    put(&json, "generator", cost_json(tally, (double)answered(result)));
    return json;
}

bool report_print_json(const struct report *report, FILE *file)
{
    json_t *json = json_object();
    char url[URL_SHOWN_SIZE];
    url_shown(report->options->url, url);
    put(&json, "version", json_string(KVS_VERSION));
    put(&json, "target", json_string(url));
    put(&json, "setting", setting_json(report->options));
    put(&json, "fill",
        report->fill != NULL ? result_json(report->options, report->fill) : json_null());
    put(&json, "measured",
        report->measure != NULL ? result_json(report->options, report->measure) : json_null());
    if (json == NULL)
        return false;
    int status = json_dumpf(json, file, JSON_INDENT(2) | JSON_REAL_PRECISION(9));
    json_decref(json);
    fputc('\n', file);
    return status == 0;
}

/* --- the live line ---- */

void report_watch(void *context, enum stage stage, uint64_t elapsed_ns, uint64_t count,
                  uint64_t errors, const struct histogram *latency)
{
    static const char *const names[] = {"filling", "warming up", "measuring"};
    fprintf(stderr,
            "\r\033[K%s %.0f s: %" PRIu64 " answered, %.0f per second, median %.1f us, 99%% %.1f "
            "us, errors %" PRIu64,
            names[stage], seconds(elapsed_ns), count, per((double)count, seconds(elapsed_ns)),
            microseconds(histogram_percentile(latency, 50)),
            microseconds(histogram_percentile(latency, 99)), errors);
    fflush(stderr);
}

void report_watch_clear(void)
{
    fputs("\r\033[K", stderr);
    fflush(stderr);
}
