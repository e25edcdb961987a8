/* cli/client/status.c: the commands about the store itself: stats, ping, sync, compact, help. Main
 * thread. */
#include "base/clock.h"
#include "cli/client/client.h"
#include "cli/client/encoding.h"
#include "cli/client/events.h"

#include <inttypes.h>
#include <jansson.h>
#include <string.h>
#include <time.h>

#define COMPACT_TIMEOUT_MS (3600u * 1000)
#define STATS_DEPTH_MAX 8
#define STATS_COLUMN 34

int command_help(void *context)
{
    struct client *client = context;
    return client_help(client, &client_program, client->operands, client->operands_count);
}

/* Runs an operation without inputs. */
static int run_plain(struct client *client, enum kvs_op_kind kind, uint32_t timeout_ms)
{
    int status = client_connect(client, true);
    if (status != 0)
        return status;
    struct call call;
    call_init(&call, kind);
    call.op.timeout_ms = client->options.timeout_ms == 0 ? timeout_ms : 0;
    if (call_run(client, &call) != 0)
        status = call_tell_failure(client, &call);
    call_deinit(&call);
    return status;
}

int command_sync(void *context)
{
    return run_plain(context, KVS_OP_SYNC, 0);
}

int command_compact(void *context)
{
    return run_plain(context, KVS_OP_COMPACT, COMPACT_TIMEOUT_MS);
}

int command_backup(void *context)
{
    struct client *client = context;
    int status = client_connect(client, true);
    if (status != 0)
        return status;
    struct call call;
    call_init(&call, KVS_OP_CHECKPOINT);
    call.op.key = client->operands[0];
    call.op.timeout_ms = client->options.timeout_ms == 0 ? COMPACT_TIMEOUT_MS : 0;
    if (call_run(client, &call) != 0)
        status = call_tell_failure(client, &call);
    call_deinit(&call);
    return status;
}

/* --- ping ------------------------------------------------------------------------------------- */

static void pause_between(const struct client *client)
{
    uint64_t ms = client->options.interval_ms;
    struct timespec pause = {.tv_sec = (time_t)(ms / 1000), .tv_nsec = (long)(ms % 1000) * 1000000};
    nanosleep(&pause, NULL); /* Ctrl-C ends it early */
}

int command_ping(void *context)
{
    struct client *client = context;
    int status = client_connect(client, true);
    double total_ms = 0, least_ms = 0, most_ms = 0;
    uint64_t count = client->options.count, done = 0;
    while (status == 0 && done < count && !client_interrupted()) {
        if (done > 0)
            pause_between(client);
        struct call call;
        call_init(&call, KVS_OP_PING);
        uint64_t begin_ns = clock_now_ns();
        if (call_run(client, &call) != 0)
            status = call_tell_failure(client, &call);
        double took_ms = (double)(clock_now_ns() - begin_ns) / 1e6;
        call_deinit(&call);
        if (status != 0)
            break;
        printf("pong from %s: %.3f ms\n", client->url, took_ms);
        fflush(stdout);
        least_ms = done == 0 || took_ms < least_ms ? took_ms : least_ms;
        most_ms = took_ms > most_ms ? took_ms : most_ms;
        total_ms += took_ms;
        done++;
    }
    if (count > 1 && done > 0)
        printf("%" PRIu64 " of %" PRIu64 " answered, min/avg/max %.3f/%.3f/%.3f ms\n", done, count,
               least_ms, total_ms / (double)done, most_ms);
    return status;
}

/* --- stats ------------------------------------------------------------------------------------ */

static bool name_ends(const char *name, const char *end)
{
    size_t size = strlen(name), end_size = strlen(end);
    return size >= end_size && strcmp(name + size - end_size, end) == 0;
}

/* A number for people: groups of three digits, and bytes also in the unit that fits. */
static void print_number(const char *name, int64_t number)
{
    char digits[32], text[48];
    int size = snprintf(digits, sizeof digits, "%" PRId64, number);
    int at = 0;
    for (int i = 0; i < size; i++) {
        if (i > 0 && digits[i - 1] != '-' && (size - i) % 3 == 0)
            text[at++] = ',';
        text[at++] = digits[i];
    }
    text[at] = '\0';
    printf("%s", text);
    if (name_ends(name, "bytes") && number >= 10240) {
        static const char *const units[] = {"KiB", "MiB", "GiB", "TiB"};
        double scaled = (double)number / 1024;
        size_t unit = 0;
        for (; scaled >= 1024 && unit < 3; unit++)
            scaled /= 1024;
        printf("  (%.1f %s)", scaled, units[unit]);
    }
    putchar('\n');
}

/* "outer.inner   value", one line per leaf. The depth is bounded: the text comes from a peer. */
static void print_stats(const char *name, const json_t *value, unsigned depth)
{
    if (json_is_object(value) && depth < STATS_DEPTH_MAX) {
        const char *key;
        json_t *member;
        json_object_foreach((json_t *)value, key, member)
        {
            char path[256];
            snprintf(path, sizeof path, "%s%s%s", name, name[0] != '\0' ? "." : "", key);
            print_stats(path, member, depth + 1);
        }
        return;
    }
    struct buf line = BUF_INIT; /* names and texts are a peer's: nothing in them may steer */
    escape_append(&line, slice_of_string(name));
    printf("%-*.*s  ", STATS_COLUMN, (int)line.size, (const char *)line.data);
    buf_clear(&line);
    if (json_is_integer(value)) {
        print_number(name, json_integer_value(value));
    } else if (json_is_string(value)) {
        escape_append(&line, slice_of_string(json_string_value(value)));
        printf("%.*s\n", (int)line.size, (const char *)line.data);
    } else {
        char *text = json_dumps(value, JSON_ENCODE_ANY | JSON_COMPACT | JSON_REAL_PRECISION(6));
        puts(text != NULL ? text : "?");
        free(text);
    }
    buf_deinit(&line);
}

int command_stats(void *context)
{
    struct client *client = context;
    int status = client_connect(client, true);
    if (status != 0)
        return status;
    struct call call;
    call_init(&call, KVS_OP_STATS);
    if (call_run(client, &call) != 0) {
        status = call_tell_failure(client, &call);
    } else if (client->options.json) {
        fwrite(call.op.result.data, 1, call.op.result.size, stdout);
        putchar('\n');
    } else {
        json_t *stats = json_loadb((const char *)call.op.result.data, call.op.result.size, 0, NULL);
        if (stats == NULL)
            status = client_fail(client, "the store's statistics are no JSON, at %s", client->url);
        else
            print_stats("", stats, 0);
        json_decref(stats);
    }
    call_deinit(&call);
    return status;
}
