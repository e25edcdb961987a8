/*
 * cli/client/events_append.c: `kvs-client events append`: lines of JSON into a stream.
 *
 * 1. what is there to be read is read, at most READ_SIZE at once;
 * 2. its whole lines become appends of at most --batch events, each all or none;
 * 3. each append prints a line that says which numbers the events got.
 * So lines that come slowly are appended as they come; what stands before a line that is no event
 * is, too, and nothing behind it. With an expected version, the first append expects it, each later
 * one the number of the last event before it.
 */
#include "base/mem.h"
#include "cli/client/events.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <string.h>
#include <unistd.h>

#define READ_SIZE (256u * 1024)
#define LINE_SIZE_MAX (64u * 1024 * 1024)

struct appender {
    struct client *client;
    kvs_slice stream;
    int64_t expected;
    struct events_input *inputs;
    kvs_new_event *events;
    size_t count;
    size_t count_max;
    size_t size; /* of the events, against KVS_APPEND_SIZE_MAX */
    uint64_t line_number;
};

static void appender_clear(struct appender *appender)
{
    for (size_t i = 0; i < appender->count; i++)
        events_input_deinit(&appender->inputs[i]);
    appender->count = 0;
    appender->size = 0;
}

static int appender_flush(struct appender *appender)
{
    if (appender->count == 0)
        return 0;
    for (size_t i = 0; i < appender->count; i++)
        appender->events[i] = appender->inputs[i].event;
    kvs_future *future =
        kvs_events_append(appender->client->events, appender->stream, appender->expected,
                          appender->events, appender->count, NULL);
    int status = events_wait(appender->client, future);
    void *pointer = NULL;
    if (status == 0 && kvs_future_get_pointer(future, &pointer) == 0) {
        const kvs_write_result *result = pointer;
        printf("{\"first\":%" PRId64 ",\"last\":%" PRId64 ",\"commit\":%" PRId64
               ",\"prepare\":%" PRId64 "}\n",
               result->first_number, result->last_number, result->position.commit,
               result->position.prepare);
        if (appender->expected != KVS_EXPECT_ANY)
            appender->expected = result->last_number;
        status = client_flush_output(appender->client, 0);
    }
    kvs_future_free(future);
    appender_clear(appender);
    return status;
}

static int appender_add(struct appender *appender, kvs_slice line)
{
    char why[160];
    appender->line_number++;
    if (line.size == 0 || (line.size == 1 && line.data[0] == '\r'))
        return 0;
    struct events_input *input = &appender->inputs[appender->count];
    if (events_parse(line, input, why) != 0) { /* what stands before it is appended */
        int status = appender_flush(appender);
        return status != 0
                   ? status
                   : client_fail(appender->client,
                                 "line %" PRIu64 ": %s; this and what follows is not appended",
                                 appender->line_number, why);
    }
    size_t size = line.size + 128;
    if (appender->count > 0 && appender->size + size > KVS_APPEND_SIZE_MAX / 2) {
        struct events_input kept = *input;
        int status = appender_flush(appender);
        appender->inputs[0] = kept;
        if (status != 0) {
            events_input_deinit(&appender->inputs[0]);
            return status;
        }
    }
    appender->count++;
    appender->size += size;
    return appender->count == appender->count_max ? appender_flush(appender) : 0;
}

/* All whole lines of the buffer; at the end also the rest. */
static int appender_take_lines(struct appender *appender, struct buf *in, bool ended)
{
    size_t taken = 0;
    int status = 0;
    while (status == 0 && taken < in->size) {
        const uint8_t *at = in->data + taken;
        const uint8_t *end = memchr(at, '\n', in->size - taken);
        if (end == NULL && !ended)
            break;
        size_t size = end != NULL ? (size_t)(end - at) : in->size - taken;
        status = appender_add(appender, slice_make(at, size));
        taken += size + (end != NULL ? 1 : 0);
    }
    buf_consume(in, taken);
    return status != 0 ? status : appender_flush(appender);
}

static int append_lines(struct appender *appender, int file, const char *name)
{
    struct buf in = BUF_INIT;
    int status = 0;
    for (bool ended = false; status == 0 && !ended;) {
        if (in.size > LINE_SIZE_MAX || buf_reserve(&in, READ_SIZE) != 0) {
            status = client_fail(appender->client, "a line of %s is too long", name);
            break;
        }
        ssize_t got = read(file, in.data + in.size, READ_SIZE);
        if (got < 0 && errno == EINTR && client_interrupted()) {
            status = client_fail_operation(appender->client, KVS_ERR_CANCELLED, "");
            break;
        }
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0) {
            status = client_fail(appender->client, "%s: %s", name, strerror(errno));
            break;
        }
        in.size += (size_t)got;
        ended = got == 0;
        status = appender_take_lines(appender, &in, ended);
    }
    buf_deinit(&in);
    return status;
}

static int append_file(struct appender *appender)
{
    const struct client *client = appender->client;
    const char *path = "-";
    if (client->operands_count > 1) {
        int status = client_path(client, client->operands[1], &path);
        if (status != 0)
            return status;
    }
    bool is_stdin = strcmp(path, "-") == 0;
    int file = is_stdin ? STDIN_FILENO : open(path, O_RDONLY | O_CLOEXEC);
    if (file < 0)
        return client_fail(client, "%s: %s", path, strerror(errno));
    int status = append_lines(appender, file, is_stdin ? "standard input" : path);
    if (!is_stdin)
        close(file);
    return status;
}

/* The event that --type and --data are. */
static int append_one(struct appender *appender)
{
    struct client *client = appender->client;
    struct client_options *options = &client->options;
    struct events_input *input = &appender->inputs[0];
    kvs_slice data = options->data.data != NULL ? options->data : slice_of_string("{}");
    *input = (struct events_input){0};
    input->event.is_json = true;
    if (buf_append(&input->type, options->type, strlen(options->type)) != 0 ||
        buf_append_slice(&input->data, data) != 0) {
        events_input_deinit(input);
        return client_fail(client, "out of memory");
    }
    input->event.type = buf_slice(&input->type);
    input->event.data = buf_slice(&input->data);
    appender->count = 1;
    return appender_flush(appender);
}

/* --type and --data make one event, and make sense. */
static int check_one(const struct client *client)
{
    const struct client_options *options = &client->options;
    if (options->type == NULL)
        return options->data.data != NULL ? client_misuse(client, "--data needs a --type") : 0;
    if (client->operands_count > 1)
        return client_misuse(client, "--type makes one event; there is no file to read then");
    if (options->data.data == NULL)
        return 0;
    return events_is_json(options->data)
               ? 0
               : client_misuse(client, "--data is no JSON; a text has quotes: --data '\"text\"'");
}

int command_events_append(void *context)
{
    struct client *client = context;
    struct appender appender = {
        .client = client,
        .stream = client->operands[0],
        .count_max = client->options.batch,
    };
    int status = events_expected(client, &appender.expected);
    if (status == 0)
        status = check_one(client);
    if (status == 0)
        status = events_connect(client, false);
    if (status != 0)
        return status;
    appender.inputs = mem_zalloc(appender.count_max * sizeof *appender.inputs);
    appender.events = mem_zalloc(appender.count_max * sizeof *appender.events);
    if (appender.inputs == NULL || appender.events == NULL)
        status = client_fail(client, "out of memory");
    else if (client->options.type != NULL)
        status = append_one(&appender);
    else
        status = append_file(&appender);
    appender_clear(&appender);
    mem_free(appender.inputs);
    mem_free(appender.events);
    return status;
}
