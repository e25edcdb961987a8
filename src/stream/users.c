/*
 * stream/users.c: users, in the streams $user-LOGIN.
 *
 * A call:
 *   1. on the blocking pool, the user's last event is read, what is asked for is checked, and the
 *      password hashed; what is to be written is prepared;
 *   2. the event is appended, expecting the number that was read: of two changes at once the second
 *      begins again;
 *   3. what goes with it follows: the rights of a new user's stream, a notice in $users, a notice
 *   of
 *      a changed password. These are for others to read; that one of them fails hurts nobody;
 *   4. the call completes.
 * A login that was found right is remembered by a digest with a secret of this process, together
 * with the number of the user's last event: it counts as long as that is the last.
 *
 * Who was deleted and made again goes on in the same stream, as another user. He shows by an event
 * $UserCreated, or by a truncation, behind the last event that was seen of the one before him.
 */
#include "stream/users.h"
#include "stream/json_text.h"
#include "stream/password.h"
#include "stream/streams.h"

#include "base/mem.h"
#include "runtime/waiting.h"

#include <inttypes.h>
#include <stdio.h>

#define USERS_STREAM "$users"
#define CREATED_TYPE "$UserCreated"
#define NOTICES_STREAM "$users-password-notifications"
#define USER_ACL "\"$acl\":{\"$w\":\"$admins\",\"$d\":\"$admins\",\"$mw\":\"$admins\"}"
#define GROUPS_PER_USER_MAX 256u
#define LOGINS_MAX 256u
#define TRIES_MAX 5
#define NOBODY_SALT "AAAAAAAAAAAAAAAAAAAAAA=="
#define NOBODY_HASH "AAAAAAAAAAAAAAAAAAAAAAAAAAA="

/* --- logins that were found right ------------------------------------------------------------- */

struct known_login {
    uint8_t digest[LOGIN_DIGEST_SIZE];
    int64_t number; /* of the user's last event; -1: empty */
    uint32_t groups_count;
    kvs_slice *groups; /* with their bytes in one piece of memory */
};

struct users {
    pthread_mutex_t lock;
    uint8_t secret[32];
    struct known_login logins[LOGINS_MAX]; /* by the first byte of the digest: the newest stays */
};

int users_new(struct users **ret_users)
{
    struct users *users = mem_zalloc(sizeof *users);
    if (users == NULL)
        return KVS_ERR_NO_MEMORY;
    int error = password_random(users->secret, sizeof users->secret);
    if (error != 0) {
        mem_free(users);
        return error;
    }
    pthread_mutex_init(&users->lock, NULL);
    for (unsigned i = 0; i < LOGINS_MAX; i++)
        users->logins[i].number = -1;
    *ret_users = users;
    return 0;
}

void users_free(struct users *users)
{
    if (users == NULL)
        return;
    for (unsigned i = 0; i < LOGINS_MAX; i++)
        mem_free(users->logins[i].groups);
    pthread_mutex_destroy(&users->lock);
    mem_free(users);
}

uint64_t streams_users_version(struct streams *streams)
{
    /* acquire: pairs with the release in sequencer.c. */
    return atomic_load_explicit(&streams->users_version, memory_order_acquire);
}

static void login_remember(struct users *users, const uint8_t *digest, int64_t number,
                           const struct stream_user *user)
{
    size_t size = user->groups_count * sizeof(kvs_slice);
    for (uint32_t i = 0; i < user->groups_count; i++)
        size += user->groups[i].size;
    kvs_slice *groups = mem_alloc(size);
    if (groups == NULL) /* then it is hashed again the next time */
        return;
    uint8_t *at = (uint8_t *)(groups + user->groups_count);
    for (uint32_t i = 0; i < user->groups_count; i++) {
        groups[i] = slice_make(at, user->groups[i].size);
        memcpy(at, user->groups[i].data, user->groups[i].size);
        at += groups[i].size;
    }
    pthread_mutex_lock(&users->lock);
    struct known_login *known = &users->logins[digest[0]];
    mem_free(known->groups);
    *known = (struct known_login){
        .number = number, .groups_count = user->groups_count, .groups = groups};
    memcpy(known->digest, digest, LOGIN_DIGEST_SIZE);
    pthread_mutex_unlock(&users->lock);
}

/* --- a call's memory -------------------------------------------------------------------------- */

static int call_copy(struct stream_user_call *call, kvs_slice from, kvs_slice *to)
{
    void *copy = arena_copy(&call->arena, from);
    if (copy == NULL)
        return KVS_ERR_NO_MEMORY;
    *to = slice_make(copy, from.size);
    return 0;
}

static int call_copy_groups(struct stream_user_call *call, const kvs_slice *from, uint32_t count,
                            const kvs_slice **to)
{
    kvs_slice *groups = arena_alloc(&call->arena, count * sizeof *groups);
    int error = groups != NULL ? 0 : KVS_ERR_NO_MEMORY;
    for (uint32_t i = 0; i < count && error == 0; i++)
        error = call_copy(call, from[i], &groups[i]);
    *to = groups;
    return error;
}

static int user_stream_name(struct arena *arena, const char *prefix, kvs_slice login,
                            kvs_slice *ret_name)
{
    size_t prefix_size = strlen(prefix);
    uint8_t *name = arena_alloc(arena, prefix_size + login.size);
    if (name == NULL)
        return KVS_ERR_NO_MEMORY;
    memcpy(name, prefix, prefix_size);
    memcpy(name + prefix_size, login.data, login.size);
    *ret_name = slice_make(name, prefix_size + login.size);
    return 0;
}

/* --- a user as it is stored ------------------------------------------------------------------- */

struct stored_user {
    uint64_t stream_id;
    int64_t last;            /* number of the last event; -1: no such user, nor ever */
    int64_t truncate_before; /* of the stream */
    bool there;              /* it has not been deleted */
    json_t *json;
    int64_t created_100ns;
};

/* Clients that write users themselves (ours does) and some servers begin the names of members in
 * lower case. */
static int stored_rename_members(json_t *json)
{
    static const char *const names[] = {"LoginName", "FullName", "Salt",
                                        "Hash",      "Disabled", "Groups"};
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        char other[16];
        snprintf(other, sizeof other, "%s", names[i]);
        other[0] = (char)(other[0] - 'A' + 'a');
        json_t *value = json_object_get(json, other);
        if (value == NULL)
            continue;
        if (json_object_get(json, names[i]) == NULL && json_object_set(json, names[i], value) != 0)
            return KVS_ERR_NO_MEMORY;
        json_object_del(json, other);
    }
    return 0;
}

static int stored_each(void *arg, const struct stream_record *record, uint64_t stream_id)
{
    (void)stream_id;
    struct stored_user *stored = arg;
    json_error_t reason;
    stored->created_100ns = record->created_100ns;
    stored->json =
        json_loadb((const char *)record->data.data, record->data.size, JSON_ALLOW_NUL, &reason);
    if (stored->json == NULL && json_error_code(&reason) == json_error_out_of_memory)
        return KVS_ERR_NO_MEMORY;
    return stored_rename_members(stored->json);
}

/* Its json is the caller's to give back. */
static int stored_find(struct engine_view *view, kvs_slice stream, struct stored_user *ret_stored)
{
    struct stream_settings settings;
    int64_t position;
    *ret_stored = (struct stored_user){.last = -1};
    int error = lookup_stream(view, stream, &settings, &ret_stored->last);
    if (error != 0 || ret_stored->last < 0 || ret_stored->last == STREAM_NUMBER_DELETED ||
        settings_soft_deleted(&settings))
        return error;
    ret_stored->stream_id = settings.id;
    ret_stored->truncate_before = settings.truncate_before;
    error = lookup_position(view, settings.id, ret_stored->last, &position);
    if (error == 0)
        error = lookup_event_at(view, position, stored_each, ret_stored);
    ret_stored->there = error == 0 && json_is_object(ret_stored->json);
    return error == KVS_ERR_NOT_FOUND ? 0 : error;
}

static int made_each(void *arg, const struct stream_record *record, uint64_t stream_id)
{
    (void)stream_id;
    bool *made = arg;
    *made = name_is(record->type, CREATED_TYPE);
    return 0;
}

/* Is he another one than he whose first `seen` events were looked at before? What was removed since
 * may have said so. */
static int stored_is_another(struct engine_view *view, const struct stored_user *stored,
                             uint64_t seen, bool *ret_another)
{
    bool made = stored->last + 1 < (int64_t)seen || stored->truncate_before >= (int64_t)seen;
    int error = 0;
    for (int64_t number = (int64_t)seen; number <= stored->last && !made && error == 0; number++) {
        int64_t position = 0;
        error = lookup_position(view, stored->stream_id, number, &position);
        if (error == 0)
            error = lookup_event_at(view, position, made_each, &made);
        if (error == KVS_ERR_NOT_FOUND) {
            made = true;
            error = 0;
        }
    }
    *ret_another = made;
    return error;
}

static uint32_t stored_groups(struct stream_user_call *call, const json_t *json,
                              const kvs_slice **ret_groups, int *ret_error)
{
    const json_t *list = json_object_get(json, "Groups");
    kvs_slice found[GROUPS_PER_USER_MAX];
    uint32_t count = 0;
    for (size_t i = 0; i < json_array_size(list) && count < GROUPS_PER_USER_MAX; i++) {
        const json_t *group = json_array_get(list, i);
        if (json_is_string(group))
            found[count++] = slice_make(json_string_value(group), json_string_length(group));
    }
    *ret_error = call_copy_groups(call, found, count, ret_groups);
    return count;
}

static bool stored_disabled(const struct stored_user *stored)
{
    return json_is_true(json_object_get(stored->json, "Disabled"));
}

static bool stored_password_is(const struct stored_user *stored, kvs_slice password)
{
    return password_matches(password, json_text_of(stored->json, "Salt"),
                            json_text_of(stored->json, "Hash"));
}

/* --- actions, on the pool --------------------------------------------------------------------- */

/* What a call keeps between its steps, in call->state. */
struct user_step {
    kvs_slice stream;
    struct stream_new_event *event;
    uint8_t step;
    uint8_t tries;
    bool writes;   /* the event is to be appended */
    bool notifies; /* of a changed password */
};

static struct user_step *step_of(struct stream_user_call *call)
{
    _Static_assert(sizeof(struct user_step) <= sizeof call->state, "state is large enough");
    return (struct user_step *)(void *)call->state;
}

static bool is_default_user(kvs_slice login)
{
    return name_is(login, "admin") || name_is(login, "ops");
}

static int action_login(struct stream_user_call *call, const struct stored_user *stored)
{
    call->outcome = STREAM_USER_WRONG;
    if (!stored->there) { /* it takes as long as for one who exists */
        (void)password_matches(call->password, slice_of_string(NOBODY_SALT),
                               slice_of_string(NOBODY_HASH));
        return 0;
    }
    if (!stored_password_is(stored, call->password) || stored_disabled(stored))
        return 0;
    int error = call_copy(call, call->login, &call->user.login);
    if (error == 0)
        call->user.groups_count = stored_groups(call, stored->json, &call->user.groups, &error);
    if (error != 0)
        return error;
    call->outcome = STREAM_USER_OK;
    call->seen = (uint64_t)stored->last + 1;
    uint8_t digest[LOGIN_DIGEST_SIZE];
    struct users *users = call->streams->users;
    if (login_digest(users->secret, call->login, call->password, digest) == 0)
        login_remember(users, digest, stored->last, &call->user);
    return 0;
}

static int json_set(json_t *json, const char *key, json_t *value)
{
    return json_object_set_new(json, key, value) == 0 ? 0 : KVS_ERR_NO_MEMORY;
}

static int json_set_password(json_t *json, kvs_slice password)
{
    struct password_hash hash;
    int error = password_hash_make(password, &hash);
    if (error == 0)
        error = json_set(json, "Salt", json_string(hash.salt));
    return error != 0 ? error : json_set(json, "Hash", json_string(hash.hash));
}

static int json_set_profile(json_t *json, const struct stream_user_call *call)
{
    json_t *groups = json_array();
    int error = groups != NULL ? 0 : KVS_ERR_NO_MEMORY;
    for (uint32_t i = 0; i < call->groups_count && error == 0; i++)
        error =
            json_array_append_new(groups, json_text(call->groups[i])) == 0 ? 0 : KVS_ERR_NO_MEMORY;
    if (error == 0)
        error = json_set(json, "FullName", json_text(call->full_name));
    if (error == 0)
        return json_set(json, "Groups", groups);
    json_decref(groups);
    return error;
}

/* The event that says `json`, which is given back. */
static int event_prepare(struct stream_user_call *call, const char *type, json_t *json)
{
    struct buf text = BUF_INIT;
    struct user_step *step = step_of(call);
    int error = json_append(json, &text);
    step->event = arena_zalloc(&call->arena, sizeof *step->event);
    if (error == 0 && step->event == NULL)
        error = KVS_ERR_NO_MEMORY;
    if (error == 0)
        error = password_random(step->event->id, sizeof step->event->id);
    if (error == 0) {
        step->event->type = slice_of_string(type);
        step->event->is_json = true;
        error = call_copy(call, buf_slice(&text), &step->event->data);
    }
    buf_deinit(&text);
    step->writes = error == 0;
    return error;
}

static int action_create(struct stream_user_call *call, const struct stored_user *stored)
{
    if (stored->there) {
        call->outcome = STREAM_USER_EXISTS;
        return 0;
    }
    json_t *json = json_pack("{s:b}", "Disabled", 0);
    int error =
        json != NULL ? json_set(json, "LoginName", json_text(call->login)) : KVS_ERR_NO_MEMORY;
    if (error == 0)
        error = json_set_profile(json, call);
    if (error == 0)
        error = json_set_password(json, call->password);
    if (error == 0)
        return event_prepare(call, CREATED_TYPE, json);
    json_decref(json);
    return error;
}

static int action_change(struct stream_user_call *call, const struct stored_user *stored)
{
    json_t *json = json_deep_copy(stored->json);
    int error = json != NULL ? 0 : KVS_ERR_NO_MEMORY;
    enum stream_user_action action = call->action;
    if (error == 0 && action == STREAM_USER_UPDATE)
        error = json_set_profile(json, call);
    else if (error == 0 && (action == STREAM_USER_ENABLE || action == STREAM_USER_DISABLE))
        error = json_set(json, "Disabled", json_boolean(action == STREAM_USER_DISABLE));
    else if (error == 0)
        error = json_set_password(json, call->new_password);
    step_of(call)->notifies =
        action == STREAM_USER_RESET_PASSWORD || action == STREAM_USER_CHANGE_PASSWORD;
    if (error == 0)
        return event_prepare(call, "$UserUpdated", json);
    json_decref(json);
    return error;
}

static int action_on_existing(struct stream_user_call *call, const struct stored_user *stored)
{
    if (!stored->there) {
        call->outcome = STREAM_USER_NOT_FOUND;
        return 0;
    }
    if (call->action == STREAM_USER_CHANGE_PASSWORD &&
        (stored_disabled(stored) || !stored_password_is(stored, call->password))) {
        call->outcome = STREAM_USER_WRONG;
        return 0;
    }
    if (call->action != STREAM_USER_DELETE)
        return action_change(call, stored);
    step_of(call)->writes = true;
    return 0;
}

/* --- details ---------------------------------------------------------------------------------- */

static int details_fill(struct stream_user_call *call, const struct stored_user *stored)
{
    if (call->details_count % 16 == 0) {
        struct stream_user_details *grown =
            arena_zalloc(&call->arena, (call->details_count + 16) * sizeof *grown);
        if (grown == NULL)
            return KVS_ERR_NO_MEMORY;
        if (call->details_count > 0)
            memcpy(grown, call->details, call->details_count * sizeof *grown);
        call->details = grown;
    }
    struct stream_user_details *details = &call->details[call->details_count];
    int error = call_copy(call, json_text_of(stored->json, "LoginName"), &details->login);
    if (error == 0)
        error = call_copy(call, json_text_of(stored->json, "FullName"), &details->full_name);
    if (error == 0)
        details->groups_count = stored_groups(call, stored->json, &details->groups, &error);
    details->disabled = stored_disabled(stored);
    details->updated_100ns = stored->created_100ns;
    if (error == 0)
        call->details_count++;
    return error;
}

struct names {
    struct arena *arena;
    kvs_slice *list;
    uint32_t count, room;
};

static int names_each(void *arg, kvs_slice key, kvs_slice value)
{
    (void)value;
    struct names *names = arg;
    if (names->count == names->room) {
        uint32_t room = names->room > 0 ? names->room * 2 : 64;
        kvs_slice *grown = mem_realloc(names->list, room * sizeof *grown);
        if (grown == NULL)
            return KVS_ERR_NO_MEMORY;
        names->list = grown;
        names->room = room;
    }
    void *copy = arena_copy(names->arena, key);
    if (copy == NULL)
        return KVS_ERR_NO_MEMORY;
    names->list[names->count++] = slice_make(copy, key.size);
    return 0;
}

static int action_details_of_all(struct stream_user_call *call, struct engine_view *view)
{
    struct names names = {.arena = &call->arena};
    struct engine_range range = {.family = STREAM_FAMILY_STREAMS,
                                 .keys_only = true,
                                 .start = slice_of_string(USER_PREFIX),
                                 .end = slice_of_string("$user.")}; /* behind all that begin so */
    int error = engine_scan(view, &range, names_each, &names);
    for (uint32_t i = 0; i < names.count && error == 0; i++) {
        struct stored_user stored;
        error = stored_find(view, names.list[i], &stored);
        if (error == 0 && stored.there)
            error = details_fill(call, &stored);
        json_decref(stored.json);
    }
    mem_free(names.list);
    return error;
}

static int action_details(struct stream_user_call *call, struct engine_view *view,
                          const struct stored_user *stored)
{
    bool another = false;
    int error = 0;
    if (stored->there && call->seen_before > 0)
        error = stored_is_another(view, stored, call->seen_before, &another);
    if (error != 0)
        return error;
    if (!stored->there || another) {
        call->outcome = STREAM_USER_NOT_FOUND;
        return 0;
    }
    call->seen = (uint64_t)stored->last + 1;
    return details_fill(call, stored);
}

/* --- step 1 ----------------------------------------------------------------------------------- */

static void user_call_reset(struct stream_user_call *call)
{
    struct user_step *step = step_of(call);
    uint8_t tries = step->tries;
    arena_reset(&call->arena);
    *step = (struct user_step){.tries = tries};
    call->outcome = STREAM_USER_OK;
    call->user = (struct stream_user){.groups_count = 0};
    call->details = NULL;
    call->details_count = 0;
    call->seen = 0;
    call->default_password = false;
}

static int action_run(struct stream_user_call *call, struct engine_view *view,
                      const struct stored_user *stored)
{
    switch (call->action) {
    case STREAM_USER_LOGIN:
        return action_login(call, stored);
    case STREAM_USER_CREATE:
        return action_create(call, stored);
    case STREAM_USER_DETAILS:
        return action_details(call, view, stored);
    default:
        return action_on_existing(call, stored);
    }
}

static int user_run(struct engine_read *read, struct engine_view *view)
{
    struct stream_user_call *call = CONTAINER_OF(read, struct stream_user_call, engine_read);
    user_call_reset(call);
    if (call->login.size == 0)
        return action_details_of_all(call, view);
    struct stored_user stored;
    int error = user_stream_name(&call->arena, USER_PREFIX, call->login, &step_of(call)->stream);
    if (error != 0)
        return error;
    error = stored_find(view, step_of(call)->stream, &stored);
    if (error == 0)
        error = action_run(call, view, &stored);
    call->write.expected_version = stored.last;
    json_decref(stored.json);
    return error;
}

/* --- steps 2 and 3 ---------------------------------------------------------------------------- */

static void user_begin(struct stream_user_call *call);
static void user_next(struct stream_user_call *call);

static void user_complete(struct stream_user_call *call, int error)
{
    call->default_password = call->action == STREAM_USER_LOGIN && call->outcome == STREAM_USER_OK &&
                             is_default_user(call->login) &&
                             name_is(call->password, STREAM_DEFAULT_PASSWORD);
    call->op.error = error;
    call->op.task.run(&call->op.task);
}

static void user_on_written(struct task *task)
{
    struct stream_user_call *call = CONTAINER_OF(task, struct stream_user_call, write.op.task);
    struct user_step *step = step_of(call);
    bool conflict = call->write.outcome == STREAM_WRONG_EXPECTED_VERSION;
    if (step->step > 1) { /* a notice: whatever came of it */
        user_next(call);
    } else if (call->write.op.error != 0) {
        user_complete(call, call->write.op.error);
    } else if (conflict && ++step->tries < TRIES_MAX) {
        user_begin(call);
    } else if (call->write.outcome != STREAM_OK) {
        user_complete(call, KVS_ERR_BUSY);
    } else {
        user_next(call);
    }
}

static void user_write(struct stream_user_call *call, enum stream_write_kind kind, kvs_slice stream,
                       int64_t expected)
{
    call->write = (struct stream_write){
        .op = {.task.run = user_on_written, .loop = call->op.loop},
        .kind = kind,
        .stream = stream,
        .expected_version = expected,
        .events = step_of(call)->event,
        .count = kind == STREAM_WRITE_APPEND ? 1 : 0,
    };
    streams_write(call->streams, &call->write);
}

/* Another event in place of the one before. */
static bool user_notice(struct stream_user_call *call, const char *type, bool is_json,
                        kvs_slice data)
{
    struct stream_new_event *event = step_of(call)->event;
    event->type = slice_of_string(type);
    event->is_json = is_json;
    event->data = data;
    return password_random(event->id, sizeof event->id) == 0;
}

static bool user_notice_of_password(struct stream_user_call *call)
{
    struct buf text = BUF_INIT;
    json_t *json = json_object();
    kvs_slice data = {0};
    int error = json_set(json, "LoginName", json_text(call->login));
    if (error == 0)
        error = json_append(json, &text);
    else
        json_decref(json);
    if (error == 0)
        error = call_copy(call, buf_slice(&text), &data);
    buf_deinit(&text);
    return error == 0 && user_notice(call, "$PasswordChanged", true, data);
}

/* The rights of a new user's stream, which goes on hiding what was there before him. */
static bool user_notice_of_rights(struct stream_user_call *call)
{
    char text[160];
    kvs_slice data;
    int size =
        snprintf(text, sizeof text, "{\"$tb\":%" PRId64 "," USER_ACL "}", call->write.first_number);
    if (call->write.first_number <= 0)
        size = snprintf(text, sizeof text, "{" USER_ACL "}");
    return call_copy(call, slice_make(text, (size_t)size), &data) == 0 &&
           user_notice(call, METADATA_TYPE, true, data);
}

static void user_next(struct stream_user_call *call)
{
    struct user_step *step = step_of(call);
    kvs_slice stream;
    step->step++;
    if (call->action == STREAM_USER_CREATE && step->step == 2 &&
        user_stream_name(&call->arena, "$$" USER_PREFIX, call->login, &stream) == 0 &&
        user_notice_of_rights(call))
        user_write(call, STREAM_WRITE_APPEND, stream, STREAM_ANY);
    else if (call->action == STREAM_USER_CREATE && step->step <= 3 &&
             user_notice(call, "$User", false, call->login)) {
        step->step = 3;
        user_write(call, STREAM_WRITE_APPEND, slice_of_string(USERS_STREAM), STREAM_ANY);
    } else if (step->notifies && step->step == 2 && user_notice_of_password(call)) {
        user_write(call, STREAM_WRITE_APPEND, slice_of_string(NOTICES_STREAM), STREAM_ANY);
    } else {
        user_complete(call, 0);
    }
}

static void user_on_run(struct task *task)
{
    struct stream_user_call *call =
        CONTAINER_OF(task, struct stream_user_call, engine_read.op.task);
    struct user_step *step = step_of(call);
    if (call->engine_read.op.error != 0 || !step->writes) {
        user_complete(call, call->engine_read.op.error);
        return;
    }
    step->step = 1;
    int64_t expected = call->write.expected_version;
    bool deletes = call->action == STREAM_USER_DELETE;
    user_write(call, deletes ? STREAM_WRITE_DELETE : STREAM_WRITE_APPEND, step->stream, expected);
}

static void user_begin(struct stream_user_call *call)
{
    call->engine_read = (struct engine_read){.op = {.task.run = user_on_run, .loop = call->op.loop},
                                             .run = user_run};
    engine_read(call->streams->engine, &call->engine_read);
}

/* --- calls ------------------------------------------------------------------------------------ */

/* A login that is known: true, and the call has its result. */
static bool login_answer(struct stream_user_call *call)
{
    struct users *users = call->streams->users;
    uint8_t digest[LOGIN_DIGEST_SIZE];
    struct stream_settings settings;
    struct engine_view view;
    kvs_slice stream;
    int64_t last = -1;
    if (login_digest(users->secret, call->login, call->password, digest) != 0 ||
        user_stream_name(&call->arena, USER_PREFIX, call->login, &stream) != 0 ||
        engine_view_begin(call->streams->engine, NULL, false, &view) != 0)
        return false;
    int error = lookup_stream(&view, stream, &settings, &last);
    bool usable = error == 0 && last >= 0 && !settings_soft_deleted(&settings);
    engine_view_end(&view);
    pthread_mutex_lock(&users->lock);
    const struct known_login *known = &users->logins[digest[0]];
    bool found =
        usable && known->number == last && memcmp(known->digest, digest, sizeof digest) == 0;
    if (found) {
        call->seen = (uint64_t)last + 1;
        call->user.groups_count = known->groups_count;
        found =
            call_copy_groups(call, known->groups, known->groups_count, &call->user.groups) == 0 &&
            call_copy(call, call->login, &call->user.login) == 0;
    }
    pthread_mutex_unlock(&users->lock);
    return found;
}

static bool login_is_valid(kvs_slice login)
{
    return login.size > 0 && login.size <= STREAM_LOGIN_SIZE_MAX &&
           memchr(login.data, 0, login.size) == NULL;
}

/* The outcome of a call that need not be carried out; OK: it has to be. */
static enum stream_user_outcome call_refusal(const struct stream_user_call *call)
{
    bool of_all = call->action == STREAM_USER_DETAILS && call->login.size == 0;
    bool sets_password = call->action == STREAM_USER_CREATE;
    bool own = call->by != NULL && slice_equal(call->by->login, call->login);
    if (call->action == STREAM_USER_LOGIN)
        return login_is_valid(call->login) && call->password.size <= STREAM_PASSWORD_SIZE_MAX
                   ? STREAM_USER_OK
                   : STREAM_USER_WRONG;
    if (call->by != NULL && !call->streams->insecure && !stream_user_is_admin(call->by) &&
        !(own &&
          (call->action == STREAM_USER_DETAILS || call->action == STREAM_USER_CHANGE_PASSWORD)))
        return STREAM_USER_ACCESS_DENIED;
    if (call->action > STREAM_USER_DETAILS || (!of_all && !login_is_valid(call->login)) ||
        call->password.size > STREAM_PASSWORD_SIZE_MAX ||
        call->new_password.size > STREAM_PASSWORD_SIZE_MAX ||
        call->groups_count > GROUPS_PER_USER_MAX || call->full_name.size > 1024)
        return STREAM_USER_BAD_REQUEST;
    bool changes_password =
        call->action == STREAM_USER_RESET_PASSWORD || call->action == STREAM_USER_CHANGE_PASSWORD;
    if ((sets_password && call->password.size == 0) ||
        (changes_password && call->new_password.size == 0))
        return STREAM_USER_BAD_REQUEST;
    return STREAM_USER_OK;
}

void streams_user_call(struct streams *streams, struct stream_user_call *call)
{
    call->streams = streams;
    *step_of(call) = (struct user_step){0};
    user_call_reset(call);
    call->outcome = call_refusal(call);
    bool answered = call->outcome != STREAM_USER_OK;
    if (!answered && call->action == STREAM_USER_LOGIN)
        answered = login_answer(call);
    if (!answered) {
        user_begin(call);
        return;
    }
    call->default_password = call->outcome == STREAM_USER_OK && is_default_user(call->login) &&
                             name_is(call->password, STREAM_DEFAULT_PASSWORD);
    struct completions completions = COMPLETIONS_INIT;
    completions_add(&completions, &call->op, 0);
    completions_flush(&completions);
}

void stream_user_call_release(struct stream_user_call *call)
{
    arena_deinit(&call->arena);
    call->details = NULL;
    call->details_count = 0;
}

/* --- default users ---------------------------------------------------------------------------- */

struct waited_user_call {
    struct stream_user_call call;
    struct waiting waiting;
};

static void waited_on_done(struct task *task)
{
    struct waited_user_call *waited = CONTAINER_OF(task, struct waited_user_call, call.op.task);
    waiting_end(&waited->waiting);
}

static int user_call_wait(struct streams *streams, struct stream_user_call *call)
{
    struct waited_user_call waited = {.call = *call, .waiting = WAITING_INIT};
    waited.call.op.task.run = waited_on_done; /* without a loop: on the thread that completes it */
    streams_user_call(streams, &waited.call);
    waiting_for_end(&waited.waiting);
    stream_user_call_release(&waited.call);
    call->outcome = waited.call.outcome;
    return waited.call.op.error;
}

static int default_user_make(struct streams *streams, const char *login, const char *full_name,
                             const char *group)
{
    kvs_slice groups[1] = {slice_of_string(group)};
    struct stream_user_call call = {
        .action = STREAM_USER_CREATE,
        .login = slice_of_string(login),
        .password = slice_of_string(STREAM_DEFAULT_PASSWORD),
        .full_name = slice_of_string(full_name),
        .groups = groups,
        .groups_count = 1,
    };
    return user_call_wait(streams, &call); /* that it exists is fine */
}

/* Only where there has never been an admin: one that was deleted stays away. */
int users_make_defaults_blocking(struct streams *streams)
{
    struct engine_view view;
    struct stream_settings settings;
    int64_t last = -1;
    int error = engine_view_begin(streams->engine, NULL, true, &view);
    if (error != 0)
        return error;
    error = lookup_stream(&view, slice_of_string(USER_PREFIX "admin"), &settings, &last);
    engine_view_end(&view);
    if (error != 0 || last != -1)
        return error;
    error = default_user_make(streams, "ops", "Event Store Operations", "$ops");
    if (error == 0)
        error = default_user_make(streams, "admin", "Event Store Administrator", "$admins");
    return error;
}

const char *streams_default_password_blocking(struct streams *streams)
{
    static const char *const logins[] = {"admin", "ops"};
    static const char *const texts[] = {NULL, "admin", "ops", "admin and ops"};
    unsigned found = 0;
    for (unsigned i = 0; i < 2; i++) {
        struct stream_user_call call = {
            .action = STREAM_USER_LOGIN,
            .login = slice_of_string(logins[i]),
            .password = slice_of_string(STREAM_DEFAULT_PASSWORD),
        };
        if (user_call_wait(streams, &call) == 0 && call.outcome == STREAM_USER_OK)
            found |= 1u << i;
    }
    return texts[found];
}
