/*
 * stream/open.c: opening and closing the event streams of an engine; statistics.
 *
 * Open: 1. the format is checked, or noted in an engine that has none; 2. the sequencer learns
 * where the log ends; 3. the default rights are read from $settings; 4. the first users are made,
 * if that is asked for; 5. the groups begin, on the loop.
 * Close: 1. what the streams themselves still do ends; 2. when nothing is on its way, all is freed.
 */
#include "stream/groups.h"

#include "base/clock.h"
#include "base/mem.h"
#include "engine/write_blocking.h"

#include <sched.h>
#include <stdio.h>

#define FORMAT_KEY "format"
#define FORMAT "1"

/* --- opening ---------------------------------------------------------------------------------- */

static int format_note(struct streams *streams)
{
    kvs_mutation mutation = {.kind = KVS_MUTATION_SET,
                             .family = STREAM_FAMILY_STATE,
                             .key = slice_of_string(FORMAT_KEY),
                             .value = slice_of_string(FORMAT)};
    return engine_write_blocking(streams->engine, &mutation, 1);
}

static int acls_each(void *arg, const struct stream_record *record, uint64_t stream_id)
{
    (void)stream_id;
    return default_acls_of_json(record->data, arg);
}

static int acls_load(struct streams *streams, struct engine_view *view)
{
    struct stream_settings settings;
    int64_t last;
    int64_t position;
    int error = lookup_stream(view, slice_of_string(SETTINGS_STREAM), &settings, &last);
    if (error != 0 || last < 0)
        return error;
    error = lookup_position(view, settings.id, last, &position);
    if (error == 0)
        error = lookup_event_at(view, position, acls_each, &streams->acls);
    return error == KVS_ERR_NOT_FOUND ? 0 : error;
}

static int fail(struct engine_message *message, int error, const char *what)
{
    snprintf(message->text, sizeof message->text, "the event streams %s: %s", what,
             kvs_error_text(error));
    return error;
}

static int state_load(struct streams *streams, struct engine_message *message)
{
    struct engine_view view;
    kvs_slice format;
    int error = engine_view_begin(streams->engine, NULL, true, &view);
    if (error != 0)
        return fail(message, error, "cannot be read");
    error = engine_get(&view, STREAM_FAMILY_STATE, slice_of_string(FORMAT_KEY), &format);
    bool is_new = error == KVS_ERR_NOT_FOUND;
    if (error == 0 && !slice_equal(format, slice_of_string(FORMAT)))
        error = fail(message, KVS_ERR_VERSION, "were written by another version");
    if (error == 0 || is_new)
        error = acls_load(streams, &view);
    engine_view_end(&view);
    if (error == 0 && is_new)
        error = format_note(streams);
    if (error == 0)
        error = sequencer_init(streams);
    if (error != 0 && message->text[0] == '\0')
        fail(message, error, "cannot be opened");
    return error;
}

static void streams_free(struct streams *streams)
{
    groups_free(streams->groups);
    users_free(streams->users);
    sequencer_deinit(streams);
    watches_deinit(&streams->watches);
    tidy_deinit(&streams->tidy);
    default_acls_deinit(&streams->acls);
    pthread_rwlock_destroy(&streams->acls_lock);
    mem_free(streams);
}

int streams_open_blocking(const struct streams_options *options, struct streams **ret_streams,
                          struct engine_message *ret_message)
{
    ret_message->text[0] = '\0';
    struct streams *streams = mem_zalloc(sizeof *streams);
    if (streams == NULL)
        return fail(ret_message, KVS_ERR_NO_MEMORY, "cannot be opened");
    streams->engine = options->engine;
    streams->loop = options->loop;
    streams->projections = options->projections;
    streams->insecure = options->insecure;
    streams->wall_ms = options->wall_ms != NULL ? options->wall_ms : clock_wall_ms;
    list_init(&streams->sequencer.transactions);
    watches_init(&streams->watches);
    tidy_init(&streams->tidy, options->join_blocks);
    pthread_rwlock_init(&streams->acls_lock, NULL);
    int error = users_new(&streams->users);
    if (error == 0)
        error = state_load(streams, ret_message);
    if (error == 0 && options->make_users)
        error = users_make_defaults_blocking(streams);
    if (error == 0)
        error = groups_open_blocking(streams); /* the last: from now on the loop has them */
    if (error != 0) {
        if (ret_message->text[0] == '\0')
            fail(ret_message, error, "cannot be opened");
        while (!tidy_stop(streams) || !sequencer_is_idle(streams))
            sched_yield();
        streams_free(streams);
        return error;
    }
    *ret_streams = streams;
    return 0;
}

/* --- closing ---------------------------------------------------------------------------------- */

/* The completions that the last ops brought may still be returning on other threads. */
static void streams_close_when_idle(struct task *task)
{
    struct streams *streams = CONTAINER_OF(task, struct streams, close_task);
    if (!tidy_stop(streams) || !sequencer_is_idle(streams)) {
        sched_yield();
        loop_post(streams->loop, &streams->close_task);
        return;
    }
    void (*closed)(void *) = streams->closed;
    void *arg = streams->closed_arg;
    streams_free(streams);
    closed(arg);
}

static void groups_on_closed(struct streams *streams)
{
    streams->close_task.run = streams_close_when_idle;
    loop_post(streams->loop, &streams->close_task);
}

void streams_close(struct streams *streams, void (*closed)(void *arg), void *arg)
{
    streams->closed = closed;
    streams->closed_arg = arg;
    groups_close(streams, groups_on_closed);
}

/* --- statistics ------------------------------------------------------------------------------- */

static uint64_t stat_of(_Atomic uint64_t *stat)
{
    return atomic_load_explicit(stat, memory_order_relaxed);
}

void streams_stats(struct streams *streams, struct streams_stats *ret_stats)
{
    *ret_stats = (struct streams_stats){
        .appends = stat_of(&streams->stat_appends),
        .events = stat_of(&streams->stat_events),
        .batches = stat_of(&streams->stat_batches),
        .reads = stat_of(&streams->stat_reads),
        .events_read = stat_of(&streams->stat_events_read),
        .joins = stat_of(&streams->stat_joins),
        .retries_found = stat_of(&streams->stat_retries),
        .subscriptions = stat_of(&streams->stat_subscriptions),
        .groups = stat_of(&streams->stat_groups),
        .streams_cached = stat_of(&streams->stat_heads),
        .last_position = streams_last_position(streams),
    };
}
