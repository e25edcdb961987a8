/* stream/settings.c: see the header. */
#include "stream/settings.h"

#include "base/bytes.h"
#include "stream/json_scan.h"

#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>

#define RECORD_VERSION 1u
#define RECORD_SIZE 56u
#define RECORD_FLAG_TOMBSTONE 1u
#define RECORD_FLAG_DERIVED 2u
#define ACL_NOT_SAID UINT16_MAX
#define ACL_NAMES_MAX 1024u
#define ACL_NAME_SIZE_MAX 1024u
/* Of a text of so many bytes in JSON: each may be written as \uXXXX, and there are the quotes. */
#define JSON_TEXT_SIZE_MAX(size) (6u * (size) + 2)

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

/* A tree of one value that json_scan_object gave, or NULL; *ret_error says whether it was for lack
 * of memory. */
static json_t *tree_of(kvs_slice value, int *ret_error)
{
    json_error_t error;
    json_t *tree =
        json_loadb((const char *)value.data, value.size, JSON_ALLOW_NUL | JSON_DECODE_ANY, &error);
    *ret_error =
        tree == NULL && json_error_code(&error) == json_error_out_of_memory ? KVS_ERR_NO_MEMORY : 0;
    return tree;
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

/* Can a tree be made of what is said of a right? */
static bool right_is_small(kvs_slice value)
{
    kvs_slice name;
    size_t at = 0;
    size_t count = 0;
    if (value.size == 0 || value.data[0] != '[')
        return value.size > 0 && value.size <= JSON_TEXT_SIZE_MAX(ACL_NAME_SIZE_MAX);
    while (json_scan_array(value, &at, &name)) {
        if (++count > ACL_NAMES_MAX || name.data[0] != '"' ||
            name.size > JSON_TEXT_SIZE_MAX(ACL_NAME_SIZE_MAX))
            return false;
    }
    return true;
}

static int acl_append_names(struct buf *to, const json_t *value)
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

/* A string or an array of strings; what else is there says nothing. */
static int acl_append_right(struct buf *to, kvs_slice value)
{
    int error = 0;
    json_t *tree = right_is_small(value) ? tree_of(value, &error) : NULL;
    if (error == 0)
        error = acl_append_names(to, tree);
    json_decref(tree);
    return error;
}

/* Appends nothing when nothing is said. */
static int acl_append(struct buf *to, kvs_slice acl)
{
    kvs_slice rights[STREAM_RIGHTS];
    if (!json_scan_object(acl, right_keys, STREAM_RIGHTS, rights))
        return 0;
    int error = 0;
    for (unsigned i = 0; error == 0 && i < STREAM_RIGHTS; i++)
        error = acl_append_right(to, rights[i]);
    return error;
}

int settings_of_json(kvs_slice json, struct stream_settings *settings, struct buf *acl)
{
    enum { ACL, TRUNCATE_BEFORE, MAX_COUNT, MAX_AGE, CACHE_CONTROL, KEYS };
    static const char *const keys[KEYS] = {"$acl", "$tb", "$maxCount", "$maxAge", "$cacheControl"};
    kvs_slice values[KEYS];
    (void)json_scan_object(json, keys, KEYS, values);
    struct buf parsed = BUF_INIT;
    int error = acl_append(&parsed, values[ACL]);
    if (error != 0) {
        buf_deinit(&parsed);
        return error;
    }
    buf_deinit(acl);
    *acl = parsed;
    settings->acl = buf_slice(acl);
    settings->truncate_before = json_scan_positive(values[TRUNCATE_BEFORE]);
    settings->max_count = json_scan_positive(values[MAX_COUNT]);
    settings->max_age_s = json_scan_positive(values[MAX_AGE]);
    settings->cache_control_s = json_scan_positive(values[CACHE_CONTROL]);
    return 0;
}

/* Most events have no such member, and no JSON is read for them. */
int metadata_correlation_id(kvs_slice json, struct buf *ret_id)
{
    static const char *const key = "$correlationId";
    kvs_slice value;
    buf_clear(ret_id);
    if (json.size <= strlen(key) || memmem(json.data, json.size, key, strlen(key)) == NULL ||
        !json_scan_object(json, &key, 1, &value) ||
        value.size > JSON_TEXT_SIZE_MAX(STREAM_NAME_SIZE_MAX) || value.size == 0)
        return 0;
    int error = 0;
    json_t *id = value.data[0] == '"' ? tree_of(value, &error) : NULL;
    if (json_is_string(id) && json_string_length(id) <= STREAM_NAME_SIZE_MAX)
        error = buf_append(ret_id, json_string_value(id), json_string_length(id));
    json_decref(id);
    return error;
}

static const char *const truncate_key = "$tb";

bool metadata_is_object(kvs_slice json)
{
    kvs_slice value;
    return json_scan_object(json, &truncate_key, 1, &value);
}

bool metadata_deletes(kvs_slice json)
{
    kvs_slice value;
    return json_scan_object(json, &truncate_key, 1, &value) &&
           json_scan_positive(value) == INT64_MAX;
}

/* Where an object's closing brace stands, and whether it has no members. */
static size_t object_end(kvs_slice object, bool *ret_empty)
{
    size_t end = object.size - 1;
    while (object.data[end] != '}')
        end--;
    size_t before = end - 1;
    while (memchr(" \t\r\n", object.data[before], 4) != NULL)
        before--;
    *ret_empty = object.data[before] == '{';
    return end;
}

int metadata_with_truncate_before(kvs_slice json, int64_t truncate_before, struct buf *to)
{
    char member[40];
    kvs_slice value;
    if (!json_scan_object(json, &truncate_key, 1, &value))
        json = slice_of_string("{}");
    int error = buf_reserve(to, json.size + sizeof member);
    if (error != 0)
        return error;
    size_t begin, end;
    if (value.size > 0) {
        begin = (size_t)(value.data - json.data);
        end = begin + value.size;
        snprintf(member, sizeof member, "%" PRId64, truncate_before);
    } else {
        bool is_empty;
        begin = end = object_end(json, &is_empty);
        snprintf(member, sizeof member, "%s\"%s\":%" PRId64, is_empty ? "" : ",", truncate_key,
                 truncate_before);
    }
    (void)buf_append(to, json.data, begin);
    (void)buf_append(to, member, strlen(member));
    return buf_append(to, json.data + end, json.size - end);
}

/* --- who may what ----------------------------------------------------------------------------- */

int default_acls_of_json(kvs_slice json, struct default_acls *ret_acls)
{
    static const char *const keys[] = {"$userStreamAcl", "$systemStreamAcl"};
    kvs_slice values[2];
    struct default_acls acls = {0};
    (void)json_scan_object(json, keys, 2, values);
    int error = acl_append(&acls.of_users, values[0]);
    if (error == 0)
        error = acl_append(&acls.of_system, values[1]);
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

bool stream_user_is_somebody(const struct stream_user *user)
{
    return user == NULL || user->login.size > 0;
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
    bool reads = right == STREAM_RIGHT_READ || right == STREAM_RIGHT_META_READ;
    if (granted < 0 && reads && name_is_derived(name))
        return true; /* EventStoreDB's projections say so in the metadata of their streams */
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
