/*
 * stream/settings.h: what a stream's metadata says, in its three forms: JSON, as clients write it
 * into $$NAME; the stream record of docs/format/streams.md; and who may do what.
 */
#ifndef STREAM_SETTINGS_H
#define STREAM_SETTINGS_H

#include "base/buf.h"
#include "stream/stream.h"

#define METADATA_TYPE "$metadata"
#define TOMBSTONE_TYPE "$streamDeleted"
#define LINK_TYPE "$>"
#define SETTINGS_STREAM "$settings"
#define METADATA_DELETED "{\"$tb\":9223372036854775807}"

/* A stream record. `acl` is in the record's form and points into it. */
struct stream_settings {
    uint64_t id; /* 0: no event yet */
    bool derived;
    bool has_tombstone;
    int64_t metadata_last; /* -1: none */
    int64_t truncate_before;
    int64_t max_count;
    int64_t max_age_s;
    int64_t cache_control_s;
    kvs_slice acl;
};

/* Of a stream that nobody has written to. */
void settings_init(struct stream_settings *settings);
/* 0 or CORRUPTION. */
int settings_parse(kvs_slice record, struct stream_settings *ret_settings);
int settings_encode(const struct stream_settings *settings, struct buf *to);

static inline bool settings_soft_deleted(const struct stream_settings *settings)
{
    return settings->truncate_before == INT64_MAX;
}

/* Takes what a metadata event says: all but id, flags and metadata_last. What is no JSON object
 * says nothing. The acl is put into `acl`, which is emptied first. NO_MEMORY: unchanged. */
int settings_of_json(kvs_slice json, struct stream_settings *settings, struct buf *acl);
/* The $correlationId of an event's metadata; empty: it has none. ret_id is emptied first. */
int metadata_correlation_id(kvs_slice json, struct buf *ret_id);
bool metadata_is_object(kvs_slice json);
/* Does it delete the stream softly? */
bool metadata_deletes(kvs_slice json);
/* Appends the metadata with another $tb; what is no JSON object counts as empty. */
int metadata_with_truncate_before(kvs_slice json, int64_t truncate_before, struct buf *to);

/* --- who may what ----------------------------------------------------------------------------- */

/* What $settings says of streams that say nothing, each in the form of a record's acl; empty: the
 * built-in rights. */
struct default_acls {
    struct buf of_users;
    struct buf of_system;
};

int default_acls_of_json(kvs_slice json, struct default_acls *ret_acls);
void default_acls_deinit(struct default_acls *acls);

/* May the user do this with the stream `name`, which is no metastream? NULL may all. */
bool access_is_granted(const struct stream_user *user, kvs_slice name, kvs_slice acl,
                       const struct default_acls *defaults, enum stream_right right);

/* --- names ------------------------------------------------------------------------------------ */

static inline bool name_is_system(kvs_slice name)
{
    return name.size > 0 && name.data[0] == '$';
}

static inline bool name_is_metastream(kvs_slice name)
{
    return name.size > 2 && name.data[0] == '$' && name.data[1] == '$';
}

static inline kvs_slice name_of_metastream(kvs_slice name)
{
    return slice_make(name.data + 2, name.size - 2);
}

static inline bool name_begins_with(kvs_slice name, const char *prefix)
{
    size_t size = strlen(prefix);
    return name.size >= size && memcmp(name.data, prefix, size) == 0;
}

static inline bool name_is(kvs_slice name, const char *text)
{
    return slice_equal(name, slice_of_string(text));
}

#define USER_PREFIX "$user-"

/* A user's stream, or the metadata of it, which deletes him. */
static inline bool name_is_about_user(kvs_slice name)
{
    return name_is_system(name) &&
           (name_begins_with(name, USER_PREFIX) || name_begins_with(name, "$$" USER_PREFIX));
}

#define TYPE_PREFIX "$et-"
#define DELETED_TYPE "$deleted" /* of tombstones, and of metadata that deletes a stream softly */
#define BY_CORRELATION_PREFIX "$bc-"
#define REFERENCES_PREFIX "$category-" /* its elements are no links, but name streams */

bool name_is_derived(kvs_slice name);

#endif
