/* stream/settings.c: see the header. */
#include "stream/settings.h"

#include "base/bytes.h"
#include "stream/json_text.h"

#define RECORD_VERSION 1u
#define RECORD_SIZE 56u
#define RECORD_FLAG_TOMBSTONE 1u
#define RECORD_FLAG_DERIVED 2u
#define ACL_NOT_SAID UINT16_MAX
#define ACL_NAMES_MAX 1024u
#define ACL_NAME_SIZE_MAX 1024u

static const char *const right_keys[STREAM_RIGHTS] = {[STREAM_RIGHT_READ] = "$r",
                                                      [STREAM_RIGHT_WRITE] = "$w",
                                                      [STREAM_RIGHT_DELETE] = "$d",
                                                      [STREAM_RIGHT_META_READ] = "$mr",
                                                      [STREAM_RIGHT_META_WRITE] = "$mw"};

/* --- records ---------------------------------------------------------------------------------- */

void settings_init(struct stream_settings *settings)
{
    *settings = (struct stream_settings){.metadata_last = -1};
}

/* Takes one right's names off the begin: their number, ACL_NOT_SAID, or -1 for damaged bytes. */
static int acl_take(kvs_slice *acl, kvs_slice *ret_names)
{
    if (acl->size < 2)
        return -1;
    unsigned count = get_u16(acl->data);
    size_t at = 2;
    for (unsigned i = 0; count != ACL_NOT_SAID && i < count; i++) {
        if (acl->size - at < 2 || acl->size - at - 2 < get_u16(acl->data + at))
            return -1;
        at += 2u + get_u16(acl->data + at);
    }
    *ret_names = slice_make(acl->data + 2, at - 2);
    *acl = slice_make(acl->data + at, acl->size - at);
    return (int)count;
}

int settings_parse(kvs_slice record, struct stream_settings *ret_settings)
{
    if (record.size < RECORD_SIZE || record.data[0] != RECORD_VERSION)
        return KVS_ERR_CORRUPTION;
    const uint8_t *data = record.data;
    struct stream_settings settings = {
        .has_tombstone = (data[1] & RECORD_FLAG_TOMBSTONE) != 0,
        .derived = (data[1] & RECORD_FLAG_DERIVED) != 0,
        .id = get_u64(data + 8),
        .metadata_last = (int64_t)get_u64(data + 16),
        .truncate_before = (int64_t)get_u64(data + 24),
        .max_count = (int64_t)get_u64(data + 32),
        .max_age_s = (int64_t)get_u64(data + 40),
        .cache_control_s = (int64_t)get_u64(data + 48),
        .acl = slice_make(data + RECORD_SIZE, record.size - RECORD_SIZE),
    };
    kvs_slice acl = settings.acl;
    kvs_slice names;
    for (unsigned i = 0; settings.acl.size > 0 && i < STREAM_RIGHTS; i++) {
        if (acl_take(&acl, &names) < 0)
            return KVS_ERR_CORRUPTION;
    }
    if (acl.size > 0)
        return KVS_ERR_CORRUPTION;
    *ret_settings = settings;
    return 0;
}

int settings_encode(const struct stream_settings *settings, struct buf *to)
{
    uint8_t record[RECORD_SIZE] = {RECORD_VERSION};
    record[1] = (uint8_t)((settings->has_tombstone ? RECORD_FLAG_TOMBSTONE : 0) |
                          (settings->derived ? RECORD_FLAG_DERIVED : 0));
    put_u64(record + 8, settings->id);
    put_u64(record + 16, (uint64_t)settings->metadata_last);
    put_u64(record + 24, (uint64_t)settings->truncate_before);
    put_u64(record + 32, (uint64_t)settings->max_count);
    put_u64(record + 40, (uint64_t)settings->max_age_s);
    put_u64(record + 48, (uint64_t)settings->cache_control_s);
    int error = buf_reserve(to, sizeof record + settings->acl.size);
    if (error != 0)
        return error;
    (void)buf_append(to, record, sizeof record);
    return buf_append_slice(to, settings->acl);
}

/* --- JSON ------------------------------------------------------------------------------------- */

/* A JSON object or NULL; *ret_error says whether it was for lack of memory. */
static json_t *object_of(kvs_slice json, int *ret_error)
{
    json_error_t error;
    json_t *object = json_loadb((const char *)json.data, json.size, JSON_ALLOW_NUL, &error);
    *ret_error = object == NULL && json_error_code(&error) == json_error_out_of_memory
                     ? KVS_ERR_NO_MEMORY
                     : 0;
    if (object != NULL && !json_is_object(object)) {
        json_decref(object);
        return NULL;
    }
    return object;
}

/* A positive whole number, else 0. */
static int64_t positive_of(const json_t *object, const char *key)
{
    const json_t *value = json_object_get(object, key);
    json_int_t number = json_is_integer(value) ? json_integer_value(value) : 0;
    return number > 0 ? (int64_t)number : 0;
}

static int acl_append_name(struct buf *to, const json_t *name)
{
    size_t size = json_string_length(name);
    int error = buf_append_u16(to, (uint16_t)size);
    return error != 0 ? error : buf_append(to, json_string_value(name), size);
}

static bool name_is_usable(const json_t *name)
{
    return json_is_string(name) && json_string_length(name) <= ACL_NAME_SIZE_MAX;
}

/* A string or an array of strings; what else is there says nothing. */
static int acl_append_right(struct buf *to, const json_t *value)
{
    if (name_is_usable(value)) {
        int error = buf_append_u16(to, 1);
        return error != 0 ? error : acl_append_name(to, value);
    }
    size_t count = json_array_size(value);
    bool usable = json_is_array(value) && count <= ACL_NAMES_MAX;
    for (size_t i = 0; usable && i < count; i++)
        usable = name_is_usable(json_array_get(value, i));
    int error = buf_append_u16(to, usable ? (uint16_t)count : ACL_NOT_SAID);
    for (size_t i = 0; error == 0 && usable && i < count; i++)
        error = acl_append_name(to, json_array_get(value, i));
    return error;
}

/* Appends nothing when nothing is said. */
static int acl_append(struct buf *to, const json_t *acl)
{
    if (!json_is_object(acl))
        return 0;
    int error = 0;
    for (unsigned i = 0; error == 0 && i < STREAM_RIGHTS; i++)
        error = acl_append_right(to, json_object_get(acl, right_keys[i]));
    return error;
}

int settings_of_json(kvs_slice json, struct stream_settings *settings, struct buf *acl)
{
    int error;
    json_t *object = object_of(json, &error);
    if (error != 0)
        return error;
    struct buf parsed = BUF_INIT;
    error = acl_append(&parsed, json_object_get(object, "$acl"));
    if (error != 0) {
        buf_deinit(&parsed);
        json_decref(object);
        return error;
    }
    buf_deinit(acl);
    *acl = parsed;
    settings->acl = buf_slice(acl);
    settings->truncate_before = positive_of(object, "$tb");
    settings->max_count = positive_of(object, "$maxCount");
    settings->max_age_s = positive_of(object, "$maxAge");
    settings->cache_control_s = positive_of(object, "$cacheControl");
    json_decref(object);
    return 0;
}

/* Most events have no such member, and no JSON is read for them. */
int metadata_correlation_id(kvs_slice json, struct buf *ret_id)
{
    static const char key[] = "$correlationId";
    int error;
    buf_clear(ret_id);
    if (json.size < sizeof key || memmem(json.data, json.size, key, sizeof key - 1) == NULL)
        return 0;
    json_t *object = object_of(json, &error);
    const json_t *id = json_object_get(object, key);
    if (json_is_string(id) && json_string_length(id) <= STREAM_NAME_SIZE_MAX)
        error = buf_append(ret_id, json_string_value(id), json_string_length(id));
    json_decref(object);
    return error;
}

bool metadata_has_truncate_before(kvs_slice json)
{
    int error;
    json_t *object = object_of(json, &error);
    bool has = positive_of(object, "$tb") > 0;
    json_decref(object);
    return has;
}

int metadata_with_truncate_before(kvs_slice json, int64_t truncate_before, struct buf *to)
{
    int error;
    json_t *object = object_of(json, &error);
    if (error != 0)
        return error;
    if (object == NULL)
        object = json_object();
    if (object == NULL || json_object_set_new(object, "$tb", json_integer(truncate_before)) != 0) {
        json_decref(object);
        return KVS_ERR_NO_MEMORY;
    }
    return json_append(object, to);
}

/* --- who may what ----------------------------------------------------------------------------- */

int default_acls_of_json(kvs_slice json, struct default_acls *ret_acls)
{
    int error;
    json_t *object = object_of(json, &error);
    if (error != 0)
        return error;
    struct default_acls acls = {0};
    error = acl_append(&acls.of_users, json_object_get(object, "$userStreamAcl"));
    if (error == 0)
        error = acl_append(&acls.of_system, json_object_get(object, "$systemStreamAcl"));
    json_decref(object);
    if (error != 0) {
        default_acls_deinit(&acls);
        return error;
    }
    *ret_acls = acls;
    return 0;
}

void default_acls_deinit(struct default_acls *acls)
{
    buf_deinit(&acls->of_users);
    buf_deinit(&acls->of_system);
}

static bool user_has_role(const struct stream_user *user, kvs_slice role)
{
    if (user->login.size > 0 && slice_equal(user->login, role))
        return true;
    for (uint32_t i = 0; i < user->groups_count; i++) {
        if (slice_equal(user->groups[i], role))
            return true;
    }
    return false;
}

bool stream_user_is_admin(const struct stream_user *user)
{
    return user == NULL || name_is(user->login, "admin") ||
           user_has_role(user, slice_of_string("$admins"));
}

bool stream_user_is_operator(const struct stream_user *user)
{
    return stream_user_is_admin(user) || name_is(user->login, "ops") ||
           user_has_role(user, slice_of_string("$ops"));
}

/* 1, 0, or -1: the acl does not say. */
static int acl_grants(const struct stream_user *user, kvs_slice acl, enum stream_right right)
{
    kvs_slice names = {0};
    int count = -1;
    for (unsigned i = 0; i <= (unsigned)right; i++) {
        count = acl_take(&acl, &names);
        if (count < 0)
            return -1;
    }
    if (count == ACL_NOT_SAID)
        return -1;
    for (int i = 0; i < count; i++) {
        kvs_slice name = slice_make(names.data + 2, get_u16(names.data));
        if (name_is(name, "$all") || user_has_role(user, name))
            return 1;
        names = slice_make(name.data + name.size, names.size - 2 - name.size);
    }
    return 0;
}

bool access_is_granted(const struct stream_user *user, kvs_slice name, kvs_slice acl,
                       const struct default_acls *defaults, enum stream_right right)
{
    if (stream_user_is_admin(user))
        return true;
    int granted = acl_grants(user, acl, right);
    bool system = name_is_system(name);
    if (granted < 0)
        granted =
            acl_grants(user, buf_slice(system ? &defaults->of_system : &defaults->of_users), right);
    return granted < 0 ? !system : granted != 0;
}

/* --- names ------------------------------------------------------------------------------------ */

bool name_is_derived(kvs_slice name)
{
    return name_is(name, "$streams") || name_begins_with(name, "$ce-") ||
           name_begins_with(name, "$et-") || name_begins_with(name, BY_CORRELATION_PREFIX) ||
           name_begins_with(name, REFERENCES_PREFIX);
}
