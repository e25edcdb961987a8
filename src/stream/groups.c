/*
 * stream/groups.c: all groups: making, changing and deleting them, opening and closing.
 *
 * Calls are posted to the loop of the streams and done one after the other:
 *   1. what is asked for is checked; a group that starts with what comes needs the stream's end;
 *      what a deletion that was cut short left of one of the same name goes;
 *   2. the configuration of all groups, with the change, is appended to its stream;
 *   3. when that is safe the change is made: a new group begins; a changed one stops, with its
 *      consumers dropped, and begins again from its checkpoint; a deleted one stops, and its
 *      streams
 *      are deleted softly;
 *   4. the call completes.
 * Failure: of step 2: nothing has changed. A deletion whose last part fails leaves streams that
 * nobody looks at.
 */
#include "stream/groups.h"

#include "base/mem.h"

#include <sched.h>
#include <stdio.h>

#define CONFIG_TYPE "PersistentConfig1"
/* As EventStoreDB writes them. */
#define CONFIG_METADATA "{\"$maxCount\":2}"
#define CHECKPOINT_METADATA                                                                \
    "{\"$maxCount\":2,\"$acl\":{\"$r\":\"$admins\",\"$w\":\"$admins\",\"$d\":\"$admins\"," \
    "\"$mr\":\"$all\",\"$mw\":\"$admins\"}}"

struct group *groups_find(struct groups *groups, kvs_slice stream, kvs_slice name)
{
    for (struct list *at = groups->all.next; at != &groups->all; at = at->next) {
        struct group *group = list_entry(at, struct group, node);
        if (slice_equal(group->stream, stream) && slice_equal(group->name, name))
            return group;
    }
    return NULL;
}

/* --- calls: writing --------------------------------------------------------------------------- */

static void call_run(struct groups *groups);

static void call_complete(struct groups *groups, int error)
{
    struct stream_group_call *call = groups->first_call;
    groups->first_call = call->state[0];
    if (groups->first_call == NULL)
        groups->last_call = NULL;
    groups->call_group = NULL;
    struct completions completions = COMPLETIONS_INIT;
    completions_add(&completions, &call->op, error);
    completions_flush(&completions);
    if (groups->first_call != NULL)
        call_run(groups);
}

static void call_fail(struct groups *groups, enum stream_group_outcome outcome, const char *reason)
{
    struct stream_group_call *call = groups->first_call;
    call->outcome = outcome;
    snprintf(call->reason, sizeof call->reason, "%s", reason);
    call_complete(groups, 0);
}

static void call_append(struct groups *groups, kvs_slice stream, const char *type, kvs_slice data,
                        task_fn *then)
{
    groups->call_event =
        (struct stream_new_event){.type = slice_of_string(type), .is_json = true, .data = data};
    put_u64(groups->call_event.id, ++groups->call_ids);
    put_u64(groups->call_event.id + 8, uv_hrtime());
    groups->call_write = (struct stream_write){
        .op = {.task.run = then, .loop = groups->streams->loop},
        .stream = stream,
        .expected_version = STREAM_ANY,
        .events = &groups->call_event,
        .count = 1,
    };
    streams_write(groups->streams, &groups->call_write);
}

/* Step 2. */
static void call_write_config(struct groups *groups, const struct group_change *change,
                              task_fn *then)
{
    const struct stream_user *user = groups->first_call->user;
    buf_clear(&groups->call_text);
    kvs_slice by = user != NULL ? user->login : (kvs_slice){0};
    int error = groups_config_write(groups, change, by, &groups->call_text);
    if (error == 0) {
        call_append(groups, slice_of_string(GROUP_CONFIG_STREAM), CONFIG_TYPE,
                    buf_slice(&groups->call_text), then);
        return;
    }
    groups->call_write.op.error = error;
    then(&groups->call_write.op.task);
}

static struct groups *groups_of_write(struct task *task)
{
    return CONTAINER_OF(task, struct groups, call_write.op.task);
}

static int write_error(const struct groups *groups)
{
    if (groups->call_write.op.error != 0)
        return groups->call_write.op.error;
    return groups->call_write.outcome == STREAM_OK ? 0 : KVS_ERR_INVALID_ARGUMENT;
}

/* Softly, if it is there. */
static void delete_stream(struct groups *groups, kvs_slice stream, task_fn *then)
{
    groups->call_write = (struct stream_write){
        .op = {.task.run = then, .loop = groups->streams->loop},
        .kind = STREAM_WRITE_DELETE,
        .stream = stream,
        .expected_version = STREAM_EXISTS,
    };
    streams_write(groups->streams, &groups->call_write);
}

/* --- create ----------------------------------------------------------------------------------- */

static void create_on_metadata(struct task *task)
{
    call_complete(groups_of_write(task), 0);
}

/* The group is there; its checkpoints need not be kept: that this may fail hurts nobody. */
static void create_write_metadata(struct groups *groups)
{
    struct group *group = groups->call_group;
    buf_clear(&groups->call_text);
    if (buf_append(&groups->call_text, "$$", 2) != 0 ||
        buf_append_slice(&groups->call_text, group->checkpoint_stream) != 0) {
        call_complete(groups, 0);
        return;
    }
    call_append(groups, buf_slice(&groups->call_text), METADATA_TYPE,
                slice_of_string(CHECKPOINT_METADATA), create_on_metadata);
}

static void create_on_config_metadata(struct task *task)
{
    create_write_metadata(groups_of_write(task));
}

static void create_fail(struct groups *groups, int error)
{
    group_drop_members(groups->call_group, STREAM_DROP_NOT_FOUND); /* who came meanwhile */
    group_free(groups->call_group);
    call_complete(groups, error);
}

/* Nor need old configurations: that is noted with the first one. */
static void create_on_config(struct task *task)
{
    struct groups *groups = groups_of_write(task);
    int error = write_error(groups);
    if (error != 0) {
        create_fail(groups, error);
        return;
    }
    group_start(groups->call_group);
    if (groups->call_write.first_number == 0)
        call_append(groups, slice_of_string("$$" GROUP_CONFIG_STREAM), METADATA_TYPE,
                    slice_of_string(CONFIG_METADATA), create_on_config_metadata);
    else
        create_write_metadata(groups);
}

static void create_on_parked(struct task *task)
{
    struct groups *groups = groups_of_write(task);
    struct group_change change = {.group = groups->call_group,
                                  .settings = &groups->first_call->settings,
                                  .start_at = groups->call_start_at};
    if (groups->call_write.op.error != 0)
        create_fail(groups, groups->call_write.op.error);
    else
        call_write_config(groups, &change, create_on_config);
}

static void create_on_checkpoint(struct task *task)
{
    struct groups *groups = groups_of_write(task);
    if (groups->call_write.op.error != 0)
        create_fail(groups, groups->call_write.op.error);
    else
        delete_stream(groups, groups->call_group->parked_stream, create_on_parked);
}

static void create_begin(struct groups *groups)
{
    struct stream_group_call *call = groups->first_call;
    if (groups->count >= GROUPS_MAX) {
        call_fail(groups, STREAM_GROUP_FAILED, "there are too many groups");
        return;
    }
    int error = group_new(groups, call->stream, call->group, &groups->call_group);
    if (error != 0) {
        call_complete(groups, error);
        return;
    }
    groups->call_group->settings = call->settings;
    groups->call_group->start_at = groups->call_start_at;
    /* A deletion that was cut short may have left them. */
    delete_stream(groups, groups->call_group->checkpoint_stream, create_on_checkpoint);
}

/* --- update ----------------------------------------------------------------------------------- */

static void update_on_stopped(struct group *group, void *arg)
{
    struct groups *groups = arg;
    group->settings = groups->first_call->settings;
    group->start_at = groups->call_start_at;
    group_start(group);
    call_complete(groups, 0);
}

static void update_on_config(struct task *task)
{
    struct groups *groups = groups_of_write(task);
    int error = write_error(groups);
    if (error != 0)
        call_complete(groups, error);
    else
        group_stop(groups->call_group, STREAM_DROP_UNSUBSCRIBED, update_on_stopped, groups);
}

static void update_begin(struct groups *groups)
{
    struct group_change change = {.group = groups->call_group,
                                  .settings = &groups->first_call->settings,
                                  .start_at = groups->call_start_at};
    call_write_config(groups, &change, update_on_config);
}

/* --- delete ----------------------------------------------------------------------------------- */

static void delete_on_parked(struct task *task)
{
    struct groups *groups = groups_of_write(task);
    group_free(groups->call_group);
    call_complete(groups, 0);
}

static void delete_on_checkpoint(struct task *task)
{
    struct groups *groups = groups_of_write(task);
    delete_stream(groups, groups->call_group->parked_stream, delete_on_parked);
}

static void delete_on_stopped(struct group *group, void *arg)
{
    delete_stream(arg, group->checkpoint_stream, delete_on_checkpoint);
}

static void delete_on_config(struct task *task)
{
    struct groups *groups = groups_of_write(task);
    int error = write_error(groups);
    if (error != 0)
        call_complete(groups, error);
    else
        group_stop(groups->call_group, STREAM_DROP_UNSUBSCRIBED, delete_on_stopped, groups);
}

static void delete_begin(struct groups *groups)
{
    struct group_change change = {.group = groups->call_group};
    call_write_config(groups, &change, delete_on_config);
}

/* --- calls: step 1 ---------------------------------------------------------------------------- */

static void call_on_read(struct task *task)
{
    struct groups *groups = CONTAINER_OF(task, struct groups, call_read.op.task);
    int64_t last = groups->call_read.last_number;
    if (groups->call_read.op.error != 0) {
        call_complete(groups, groups->call_read.op.error);
        return;
    }
    groups->call_start_at = last < STREAM_NUMBER_DELETED ? last + 1 : last;
    create_begin(groups);
}

/* Where it begins when it has no checkpoint. For a group that is there "from the end" is where it
 * was to begin: what came since was promised. */
static void call_find_start(struct groups *groups)
{
    struct stream_group_call *call = groups->first_call;
    bool from_end = call->settings.start_from == STREAM_END;
    bool stays = from_end && call->action == STREAM_GROUP_UPDATE;
    groups->call_start_at = stays ? groups->call_group->start_at : call->settings.start_from;
    groups->call_read = (struct stream_read){
        .op = {.task.run = call_on_read, .loop = groups->streams->loop},
        .kind = STREAM_READ_INFO,
        .stream = call->stream,
    };
    if (call->action == STREAM_GROUP_UPDATE)
        update_begin(groups);
    else if (from_end)
        streams_read(groups->streams, &groups->call_read);
    else
        create_begin(groups);
}

static const char *call_problem(const struct stream_group_call *call)
{
    if (call->stream.size == 0 || name_is(call->stream, "$all"))
        return "a group needs the name of a stream; $all cannot have one";
    if (call->stream.size > STREAM_NAME_SIZE_MAX / 2)
        return "the stream's name is too long for a group";
    if (call->group.size == 0 || call->group.size > GROUP_NAME_SIZE_MAX)
        return "the group's name is empty or too long";
    if (call->action == STREAM_GROUP_CREATE || call->action == STREAM_GROUP_UPDATE)
        return group_settings_problem(&call->settings);
    return NULL;
}

static void call_replay(struct groups *groups)
{
    group_replay(groups->call_group, groups->first_call->stop_at);
    call_complete(groups, 0);
}

static void call_begin(struct groups *groups)
{
    struct stream_group_call *call = groups->first_call;
    if (call->action == STREAM_GROUP_CREATE || call->action == STREAM_GROUP_UPDATE)
        call_find_start(groups);
    else if (call->action == STREAM_GROUP_DELETE)
        delete_begin(groups);
    else
        call_replay(groups);
}

static void call_inform(struct groups *groups)
{
    struct stream_group_call *call = groups->first_call;
    groups->info_waits = groups_info_must_wait(groups, call);
    if (!groups->info_waits)
        call_complete(groups, groups_info(groups, call));
}

void groups_on_loaded(struct groups *groups)
{
    if (groups->info_waits)
        call_inform(groups);
}

static void call_run(struct groups *groups)
{
    struct stream_group_call *call = groups->first_call;
    call->outcome = STREAM_GROUP_OK;
    call->reason[0] = '\0';
    call->infos = NULL;
    call->infos_count = 0;
    bool informs = call->action == STREAM_GROUP_INFO;
    bool may = informs ? stream_user_is_somebody(call->user) : stream_user_is_operator(call->user);
    if (!may && !groups->streams->insecure) {
        call_fail(groups, STREAM_GROUP_ACCESS_DENIED, "Access Denied");
        return;
    }
    if (informs) {
        call_inform(groups);
        return;
    }
    const char *problem = call_problem(call);
    groups->call_group = groups_find(groups, call->stream, call->group);
    bool creates = call->action == STREAM_GROUP_CREATE;
    if (problem != NULL)
        call_fail(groups, STREAM_GROUP_FAILED, problem);
    else if (creates && groups->call_group != NULL)
        call_fail(groups, STREAM_GROUP_EXISTS, "the group exists already");
    else if (!creates && groups->call_group == NULL)
        call_fail(groups, STREAM_GROUP_NOT_FOUND, "there is no such group");
    else
        call_begin(groups);
}

static void call_enqueue(struct task *task)
{
    struct stream_group_call *call = CONTAINER_OF(task, struct stream_group_call, task);
    struct groups *groups = call->streams->groups;
    bool alone = groups->first_call == NULL;
    call->state[0] = NULL;
    if (alone)
        groups->first_call = call;
    else
        groups->last_call->state[0] = call;
    groups->last_call = call;
    if (alone)
        call_run(groups);
}

void streams_group_call(struct streams *streams, struct stream_group_call *call)
{
    call->streams = streams;
    call->task.run = call_enqueue;
    loop_post(streams->loop, &call->task);
}

void stream_group_call_release(struct stream_group_call *call)
{
    arena_deinit(&call->arena);
    call->infos = NULL;
    call->infos_count = 0;
}

/* --- opening ---------------------------------------------------------------------------------- */

static void groups_on_tick(uv_timer_t *timer)
{
    struct groups *groups = timer->data;
    uint64_t now_ms = loop_now_ms(groups->streams->loop);
    struct list *next;
    for (struct list *at = groups->all.next; at != &groups->all; at = next) {
        next = at->next;
        group_tick(list_entry(at, struct group, node), now_ms);
    }
    if (list_empty(&groups->all)) /* streams without groups sleep */
        uv_timer_stop(timer);
}

void groups_tick_begin(struct groups *groups)
{
    uv_timer_t *tick = &groups->tick;
    if (!uv_is_active((uv_handle_t *)tick)) /* when it is being closed this does nothing */
        uv_timer_start(tick, groups_on_tick, GROUP_TICK_MS, GROUP_TICK_MS);
}

/* On the loop, before anything else that is posted there. */
static void groups_start(struct task *task)
{
    struct groups *groups = CONTAINER_OF(task, struct groups, start_task);
    uv_timer_init(groups->streams->loop->uv, &groups->tick);
    groups->tick.data = groups;
    for (struct list *at = groups->all.next; at != &groups->all; at = at->next)
        group_start(list_entry(at, struct group, node));
}

static int config_each(void *arg, const struct stream_record *record, uint64_t stream_id)
{
    (void)stream_id;
    return groups_config_read(arg, record->data);
}

static int config_load(struct groups *groups, struct engine_view *view)
{
    struct stream_settings settings;
    int64_t last;
    int64_t position;
    int error = lookup_stream(view, slice_of_string(GROUP_CONFIG_STREAM), &settings, &last);
    if (error != 0 || last < 0 || last == STREAM_NUMBER_DELETED)
        return error;
    error = lookup_position(view, settings.id, last, &position);
    if (error == 0)
        error = lookup_event_at(view, position, config_each, groups);
    return error == KVS_ERR_NOT_FOUND ? 0 : error;
}

int groups_open_blocking(struct streams *streams)
{
    struct groups *groups = mem_zalloc(sizeof *groups);
    if (groups == NULL)
        return KVS_ERR_NO_MEMORY;
    groups->streams = streams;
    groups->sent_seed = rand_u64(&streams->sequencer.rand);
    list_init(&groups->all);
    streams->groups = groups;
    struct engine_view view;
    int error = engine_view_begin(streams->engine, NULL, true, &view);
    if (error != 0)
        return error;
    error = config_load(groups, &view);
    engine_view_end(&view);
    if (error == 0) {
        groups->start_task.run = groups_start;
        loop_post(streams->loop, &groups->start_task);
    }
    return error;
}

/* --- closing ---------------------------------------------------------------------------------- */

void groups_free(struct groups *groups)
{
    if (groups == NULL)
        return;
    while (!list_empty(&groups->all))
        group_free(list_entry(groups->all.next, struct group, node));
    buf_deinit(&groups->call_text);
    mem_free(groups);
}

/* Members may still be on their way to be freed. */
static void groups_close_when_idle(struct task *task)
{
    struct groups *groups = CONTAINER_OF(task, struct groups, close_task);
    /* acquire: pairs with the release in member_free. */
    if (atomic_load_explicit(&groups->members, memory_order_acquire) > 0) {
        sched_yield();
        loop_post(groups->streams->loop, &groups->close_task);
        return;
    }
    groups->closed(groups->streams);
}

static void groups_stopped_one(struct groups *groups)
{
    if (--groups->stopping > 0)
        return;
    groups->close_task.run = groups_close_when_idle;
    loop_post(groups->streams->loop, &groups->close_task);
}

static void close_on_stopped(struct group *group, void *arg)
{
    (void)group;
    groups_stopped_one(arg);
}

static void close_on_timer(uv_handle_t *timer)
{
    groups_stopped_one(timer->data);
}

void groups_close(struct streams *streams, void (*closed)(struct streams *streams))
{
    struct groups *groups = streams->groups;
    groups->closed = closed;
    groups->stopping = groups->count + 1;
    uv_close((uv_handle_t *)&groups->tick, close_on_timer);
    struct list *next;
    for (struct list *at = groups->all.next; at != &groups->all; at = next) {
        next = at->next;
        group_stop(list_entry(at, struct group, node), STREAM_DROP_UNSUBSCRIBED, close_on_stopped,
                   groups);
    }
}
