/* stream/json_text.c: see the header. */
#include "stream/json_text.h"

#include <kvs/error.h>

#include <stdio.h>
#include <time.h>

int json_append(json_t *json, struct buf *to)
{
    size_t size = json != NULL ? json_dumpb(json, NULL, 0, JSON_COMPACT) : 0;
    int error = size > 0 ? buf_reserve(to, size) : KVS_ERR_NO_MEMORY;
    if (error == 0) {
        json_dumpb(json, (char *)to->data + to->size, size, JSON_COMPACT);
        to->size += size;
    }
    json_decref(json);
    return error;
}

json_t *json_text(kvs_slice text)
{
    json_t *string = json_stringn((const char *)text.data, text.size);
    return string != NULL ? string : json_string("");
}

kvs_slice json_text_of(const json_t *object, const char *key)
{
    const json_t *string = json_object_get(object, key);
    if (!json_is_string(string))
        return (kvs_slice){0};
    return slice_make(json_string_value(string), json_string_length(string));
}

json_t *json_time(int64_t unix_ms)
{
    char text[40];
    char whole[64];
    struct tm parts;
    time_t seconds = (time_t)(unix_ms / 1000);
    gmtime_r(&seconds, &parts);
    strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%S", &parts);
    snprintf(whole, sizeof whole, "%s.%03dZ", text, (int)(unix_ms % 1000));
    return json_string(whole);
}
