/*
 * client/events/users.c: users of a server, kept as EventStoreDB keeps them: in streams.
 *
 *   $user-LOGIN   its last event is the user: name, groups, salt and hash of the password
 *   $users        an event for each login that was ever made
 *   $users-password-notifications   tells nodes that remember passwords to forget one
 *
 *   create: append to $user-LOGIN, which must not exist; its rights; append to $users
 *   change: read the last event; append a changed one, expecting that nobody else did meanwhile;
 *           a password: tell so
 *   list:   read $users, then the last event of each
 *
 * The state of such a call is the pointer of the future that the chain begins with: so it lives as
 * long as the result, and goes with it, whoever frees it when.
 */
#include "client/events/compose.h"

#include "base/mem.h"

#include <inttypes.h>
#include <jansson.h>
#include <openssl/evp.h>
#include <stdio.h>
#include <sys/random.h>

#define LOGIN_SIZE_MAX 255u
#define SALT_SIZE 16
#define HASH_SIZE 20 /* of SHA-1 */
#define HASH_ROUNDS 1000
#define USERS_MAX KVS_EVENTS_PAGE_MAX

#define ACL "\"$acl\":{\"$w\":\"$admins\",\"$d\":\"$admins\",\"$mw\":\"$admins\"}"

struct user_call {
    kvs_events *events;
    enum kvs_user_change change;
    kvs_call_options options; /* texts behind it are ours */
    char login[LOGIN_SIZE_MAX + 1];
    char stream[LOGIN_SIZE_MAX + 8];
    char password[LOGIN_SIZE_MAX + 1];
    char by_login[LOGIN_SIZE_MAX + 1];
    char by_password[LOGIN_SIZE_MAX + 1];
    json_t *json; /* of the user */
    int64_t version;
};

static void user_call_free(void *pointer)
{
    struct user_call *call = pointer;
    json_decref(call->json);
    mem_free(call);
}

static kvs_future *fail(struct user_call *call, int error)
{
    if (error == KVS_ERR_NOT_FOUND)
        return events_refuse(call->events, error, "no such user");
    if (error == KVS_ERR_ALREADY_EXISTS)
        return events_refuse(call->events, error, "the user exists");
    return kvs_future_ready(call->events->runtime, error, NULL, NULL);
}

/* --- the user as JSON --------------------------------------------------------------------------
 */

static json_t *encode_base64(const unsigned char *bytes, int size)
{
    unsigned char text[64];
    EVP_EncodeBlock(text, bytes, size);
    return json_string((const char *)text);
}

static int set_password(json_t *json, const char *password)
{
    unsigned char salt[SALT_SIZE];
    unsigned char hash[HASH_SIZE];
    if (getrandom(salt, sizeof salt, 0) != (ssize_t)sizeof salt ||
        PKCS5_PBKDF2_HMAC(password, (int)strlen(password), salt, sizeof salt, HASH_ROUNDS,
                          EVP_sha1(), sizeof hash, hash) != 1)
        return KVS_ERR_IO;
    if (json_object_set_new(json, "salt", encode_base64(salt, sizeof salt)) != 0 ||
        json_object_set_new(json, "hash", encode_base64(hash, sizeof hash)) != 0)
        return KVS_ERR_NO_MEMORY;
    return 0;
}

static int set_names(json_t *json, const kvs_user *user)
{
    json_t *groups = json_array();
    for (size_t i = 0; i < user->groups_count; i++)
        json_array_append_new(groups, json_string(user->groups[i]));
    if (json_array_size(groups) != user->groups_count) {
        json_decref(groups);
        return KVS_ERR_INVALID_ARGUMENT; /* a group is no UTF-8 */
    }
    const char *full_name = user->full_name != NULL ? user->full_name : "";
    if (json_object_set_new(json, "groups", groups) != 0 ||
        json_object_set_new(json, "fullName", json_string(full_name)) != 0)
        return KVS_ERR_INVALID_ARGUMENT;
    return 0;
}

/* Keys are in camel case; servers of other versions wrote a capital first. */
static json_t *get_key(json_t *json, const char *key)
{
    char other[32];
    json_t *value = json_object_get(json, key);
    snprintf(other, sizeof other, "%s", key);
    other[0] = (char)(other[0] - 'a' + 'A');
    return value != NULL ? value : json_object_get(json, other);
}

static json_t *normalized(json_t *json)
{
    static const char *const keys[] = {"loginName", "fullName", "salt",
                                       "hash",      "disabled", "groups"};
    json_t *copy = json_object();
    for (size_t i = 0; i < sizeof keys / sizeof keys[0]; i++) {
        if (get_key(json, keys[i]) != NULL)
            json_object_set(copy, keys[i], get_key(json, keys[i]));
    }
    return copy;
}

/* --- steps of a change -------------------------------------------------------------------------
 */

static kvs_future *append(struct user_call *call, const char *stream, const char *type,
                          int64_t expected, kvs_slice data, bool is_json)
{
    const kvs_new_event event = {.type = slice_of_string(type), .data = data, .is_json = is_json};
    const struct events_request request = {
        .kind = EVENTS_APPEND,
        .stream = slice_of_string(stream),
        .number = expected,
        .new_events = &event,
        .count = 1,
        .options = call->options,
    };
    return events_start(call->events, &request);
}

static kvs_future *append_json(struct user_call *call, const char *stream, const char *type,
                               int64_t expected, json_t *json)
{
    char *text = json_dumps(json, JSON_COMPACT | JSON_SORT_KEYS);
    if (text == NULL)
        return fail(call, KVS_ERR_NO_MEMORY);
    kvs_future *future = append(call, stream, type, expected, slice_of_string(text), true);
    free(text);
    return future;
}

static kvs_future *created_on_rights(kvs_future *before, void *arg)
{
    struct user_call *call = arg;
    if (kvs_future_error(before) != 0)
        return before;
    return append(call, "$users", "$User", KVS_EXPECT_ANY, slice_of_string(call->login), false);
}

static kvs_future *created_on_user(kvs_future *before, void *arg)
{
    struct user_call *call = arg;
    int error = kvs_future_error(before);
    if (error == KVS_ERR_WRONG_EXPECTED_VERSION)
        return fail(call, KVS_ERR_ALREADY_EXISTS);
    if (error != 0)
        return before;
    /* Of one who was deleted before the stream goes on, and goes on hiding what was there. */
    char rights[160] = "{" ACL "}";
    void *written = NULL;
    kvs_future_get_pointer(before, &written);
    int64_t first_number = ((const kvs_write_result *)written)->first_number;
    if (first_number > 0)
        snprintf(rights, sizeof rights, "{\"$tb\":%" PRId64 "," ACL "}", first_number);
    kvs_future *rights_set =
        compose_set_metadata(call->events, slice_of_string(call->stream), KVS_EXPECT_ANY,
                             slice_of_string(rights), &call->options);
    return kvs_future_then(rights_set, created_on_rights, call);
}

static kvs_future *create(struct user_call *call)
{
    int error = set_password(call->json, call->password);
    if (error != 0)
        return fail(call, error);
    kvs_future *user =
        append_json(call, call->stream, "$UserCreated", KVS_EXPECT_NO_STREAM, call->json);
    return kvs_future_then(user, created_on_user, call);
}

static kvs_future *changed_on_user(kvs_future *before, void *arg)
{
    struct user_call *call = arg;
    if (kvs_future_error(before) == KVS_ERR_WRONG_EXPECTED_VERSION)
        return fail(call, KVS_ERR_BUSY); /* somebody else changes the user at this moment */
    if (kvs_future_error(before) != 0 || call->change != KVS_USER_PASSWORD)
        return before;
    json_t *note = json_pack("{s:s}", "loginName", call->login);
    kvs_future *future = append_json(call, "$users-password-notifications", "$PasswordChanged",
                                     KVS_EXPECT_ANY, note);
    json_decref(note);
    return future;
}

/* Reads the last event of a user: its version, and what it says. */
static int take_user(kvs_future *read, int64_t *ret_version, json_t **ret_json)
{
    void *pointer = NULL;
    int error = kvs_future_get_pointer(read, &pointer);
    if (error == KVS_ERR_NO_STREAM || error == KVS_ERR_STREAM_DELETED)
        return KVS_ERR_NOT_FOUND;
    if (error != 0)
        return error;
    const kvs_event *event = kvs_original_event(pointer);
    json_t *json = json_loadb((const char *)event->data.data, event->data.size, 0, NULL);
    if (!json_is_object(json)) {
        json_decref(json);
        return KVS_ERR_CORRUPTION;
    }
    *ret_version = event->number;
    *ret_json = normalized(json);
    json_decref(json);
    return 0;
}

static kvs_future *changed_on_read(kvs_future *read, void *arg)
{
    struct user_call *call = arg;
    json_t *wanted = call->json;
    call->json = NULL;
    int error = take_user(read, &call->version, &call->json);
    if (error == 0 && call->change == KVS_USER_UPDATE)
        error = json_object_update(call->json, wanted) == 0 ? 0 : KVS_ERR_NO_MEMORY;
    else if (error == 0 && call->change == KVS_USER_PASSWORD)
        error = set_password(call->json, call->password);
    else if (error == 0 && call->change == KVS_USER_DISABLE)
        json_object_set_new(call->json, "disabled", json_true());
    else if (error == 0 && call->change == KVS_USER_ENABLE)
        json_object_set_new(call->json, "disabled", json_false());
    json_decref(wanted);
    if (error != 0)
        return fail(call, error);
    if (call->change == KVS_USER_DELETE) {
        const struct events_request request = {
            .kind = EVENTS_DELETE,
            .stream = slice_of_string(call->stream),
            .number = call->version,
            .options = call->options,
        };
        return kvs_future_then(events_start(call->events, &request), changed_on_user, call);
    }
    kvs_future *user = append_json(call, call->stream, "$UserUpdated", call->version, call->json);
    return kvs_future_then(user, changed_on_user, call);
}

static kvs_future *read_user(struct user_call *call, const char *stream)
{
    const struct events_request request = {
        .kind = EVENTS_READ_EVENT,
        .stream = slice_of_string(stream),
        .number = KVS_EVENT_LAST,
        .count = 1,
        .options = call->options,
    };
    return events_start(call->events, &request);
}

static kvs_future *change_begin(kvs_future *head, void *arg)
{
    struct user_call *call = arg;
    (void)head;
    if (call->change == KVS_USER_CREATE)
        return create(call);
    return kvs_future_then(read_user(call, call->stream), changed_on_read, call);
}

/* --- the begin of a chain ----------------------------------------------------------------------
 */

static void copy_text(char *to, const char *from)
{
    snprintf(to, LOGIN_SIZE_MAX + 1, "%s", from != NULL ? from : "");
}

static struct user_call *user_call_new(kvs_events *events, const struct events_request *request)
{
    struct user_call *call = mem_zalloc(sizeof *call);
    if (call == NULL)
        return NULL;
    call->events = events;
    call->change = request->user_change;
    call->options = request->options;
    copy_text(call->by_login, request->options.login);
    copy_text(call->by_password, request->options.password);
    call->options.login = request->options.login != NULL ? call->by_login : NULL;
    call->options.password = request->options.password != NULL ? call->by_password : NULL;
    if (request->user != NULL) {
        copy_text(call->login, request->user->login);
        copy_text(call->password, request->user->password);
        snprintf(call->stream, sizeof call->stream, "$user-%s", call->login);
    }
    return call;
}

static kvs_future *user_call_begin(struct user_call *call, kvs_future_then_fn *begin)
{
    kvs_future *head = kvs_future_ready(call->events->runtime, 0, call, user_call_free);
    return kvs_future_then(head, begin, call);
}

kvs_future *compose_change_user(kvs_events *events, const struct events_request *request)
{
    struct user_call *call = user_call_new(events, request);
    if (call == NULL)
        return NULL;
    call->json = json_pack("{s:s, s:b}", "loginName", call->login, "disabled", 0);
    bool has_names = request->user_change <= KVS_USER_UPDATE;
    if (call->json == NULL || (has_names && set_names(call->json, request->user) != 0)) {
        user_call_free(call);
        return events_refuse(events, KVS_ERR_INVALID_ARGUMENT, "names of users are UTF-8");
    }
    if (request->user_change == KVS_USER_UPDATE)
        json_object_del(call->json, "disabled");
    return user_call_begin(call, change_begin);
}

/* --- the list ----------------------------------------------------------------------------------
 */

struct user_list {
    kvs_user_list list;
    kvs_user *users;
    json_t **jsons;
};

static void user_list_free(void *pointer)
{
    struct user_list *list = pointer;
    for (size_t i = 0; i < list->list.count; i++) {
        json_decref(list->jsons[i]);
        mem_free((void *)(uintptr_t)list->users[i].groups);
    }
    mem_free(list->users);
    mem_free(list->jsons);
    mem_free(list);
}

static struct user_list *user_list_new(size_t count)
{
    struct user_list *list = mem_zalloc(sizeof *list);
    if (list == NULL)
        return NULL;
    list->users = mem_zalloc((count > 0 ? count : 1) * sizeof *list->users);
    list->jsons = mem_zalloc((count > 0 ? count : 1) * sizeof *list->jsons);
    list->list.users = list->users;
    if (list->users == NULL || list->jsons == NULL) {
        user_list_free(list);
        return NULL;
    }
    return list;
}

static const char *text_of(json_t *json, const char *key)
{
    const char *text = json_string_value(json_object_get(json, key));
    return text != NULL ? text : "";
}

/* Takes the JSON. */
static int user_list_add(struct user_list *list, json_t *json)
{
    json_t *groups = json_object_get(json, "groups");
    size_t count = json_array_size(groups);
    const char **names = mem_alloc((count > 0 ? count : 1) * sizeof *names);
    if (names == NULL) {
        json_decref(json);
        return KVS_ERR_NO_MEMORY;
    }
    size_t kept = 0;
    for (size_t i = 0; i < count; i++) {
        const char *name = json_string_value(json_array_get(groups, i));
        if (name != NULL)
            names[kept++] = name;
    }
    size_t at = list->list.count++;
    list->jsons[at] = json;
    list->users[at] = (kvs_user){
        .login = text_of(json, "loginName"),
        .full_name = text_of(json, "fullName"),
        .groups = names,
        .groups_count = kept,
        .is_disabled = json_is_true(json_object_get(json, "disabled")),
    };
    return 0;
}

/* One read is over, or all of a kvs_future_all: deleted users are left out of a list. */
static int list_take(struct user_list *list, kvs_future *read, bool must_exist)
{
    json_t *json = NULL;
    int64_t version;
    int error = take_user(read, &version, &json);
    if (error == KVS_ERR_NOT_FOUND && !must_exist)
        return 0;
    return error != 0 ? error : user_list_add(list, json);
}

static kvs_future *list_on_user(kvs_future *read, void *arg)
{
    struct user_call *call = arg;
    struct user_list *list = user_list_new(1);
    if (list == NULL)
        return fail(call, KVS_ERR_NO_MEMORY);
    int error = list_take(list, read, true);
    if (error != 0) {
        user_list_free(list);
        return fail(call, error);
    }
    return kvs_future_ready(call->events->runtime, 0, list, user_list_free);
}

/* A read of a user that does not fail when there is none: so the others go on. */
static kvs_future *list_keep(kvs_future *read, void *arg)
{
    struct user_call *call = arg;
    int error = kvs_future_error(read);
    if (error == KVS_ERR_NO_STREAM || error == KVS_ERR_STREAM_DELETED)
        return kvs_future_ready(call->events->runtime, 0, NULL, NULL);
    return read;
}

static kvs_future *list_on_users(kvs_future *all, void *arg)
{
    struct user_call *call = arg;
    int error = kvs_future_error(all);
    size_t count = 0;
    while (error == 0 && kvs_future_input(all, count) != NULL)
        count++;
    struct user_list *list = error == 0 ? user_list_new(count) : NULL;
    if (list == NULL)
        return error != 0 ? all : fail(call, KVS_ERR_NO_MEMORY);
    for (size_t i = 0; i < count && error == 0; i++) {
        void *pointer = NULL;
        kvs_future *read = kvs_future_input(all, i);
        error = kvs_future_get_pointer(read, &pointer);
        if (error == 0 && pointer != NULL)
            error = list_take(list, read, false);
    }
    if (error != 0) {
        user_list_free(list);
        return fail(call, error);
    }
    return kvs_future_ready(call->events->runtime, 0, list, user_list_free);
}

static bool seen_before(const kvs_event_page *page, size_t at)
{
    for (size_t i = 0; i < at; i++) {
        const kvs_event *event = page->events[i].event;
        if (event != NULL && slice_equal(event->data, page->events[at].event->data))
            return true;
    }
    return false;
}

static kvs_future *list_on_logins(kvs_future *read, void *arg)
{
    struct user_call *call = arg;
    void *pointer = NULL;
    kvs_future *reads[USERS_MAX];
    size_t count = 0;
    int error = kvs_future_get_pointer(read, &pointer);
    if (error != 0 && error != KVS_ERR_NO_STREAM)
        return read;
    const kvs_event_page none = {0};
    const kvs_event_page *page = error == 0 ? pointer : &none;
    for (size_t i = 0; i < page->count; i++) {
        char stream[LOGIN_SIZE_MAX + 8];
        const kvs_event *event = page->events[i].event;
        if (event == NULL || event->data.size == 0 || event->data.size > LOGIN_SIZE_MAX ||
            seen_before(page, i))
            continue;
        snprintf(stream, sizeof stream, "$user-%.*s", (int)event->data.size,
                 (const char *)event->data.data);
        reads[count++] = kvs_future_then(read_user(call, stream), list_keep, call);
    }
    kvs_future *all = kvs_future_all(call->events->runtime, reads, count);
    return kvs_future_then(all, list_on_users, call);
}

static kvs_future *list_begin(kvs_future *head, void *arg)
{
    struct user_call *call = arg;
    (void)head;
    if (call->login[0] != '\0')
        return kvs_future_then(read_user(call, call->stream), list_on_user, call);
    const struct events_request request = {
        .kind = EVENTS_READ_STREAM,
        .stream = slice_of_string("$users"),
        .number = KVS_EVENT_FIRST,
        .count = USERS_MAX,
        .options = call->options,
    };
    return kvs_future_then(events_start(call->events, &request), list_on_logins, call);
}

kvs_future *compose_get_users(kvs_events *events, const struct events_request *request)
{
    struct user_call *call = user_call_new(events, request);
    return call != NULL ? user_call_begin(call, list_begin) : NULL;
}
