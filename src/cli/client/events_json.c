/* cli/client/events_json.c: events as lines of JSON; see cli/client/events.h. */
#include "base/mem.h"
#include "cli/client/encoding.h"
#include "cli/client/events.h"
#include "stream/json_scan.h"

#include <inttypes.h>
#include <jansson.h>
#include <string.h>

/* --- out ---------------------------------------------------------------------------------------
 */

/* Numbers are not looked at: they stay as they are written, however large. */
#define JSON_FLAGS (JSON_DECODE_ANY | JSON_DECODE_INT_AS_REAL | JSON_ALLOW_NUL)

bool events_is_json(kvs_slice text)
{
    json_t *parsed = json_loadb((const char *)text.data, text.size, JSON_FLAGS, NULL);
    json_decref(parsed);
    return parsed != NULL;
}

/* JSON on one line: the ends of lines in it stand between its parts, as blanks do. False: it is
 * none. */
static bool one_line(kvs_slice json, struct buf *ret_text)
{
    if (!events_is_json(json) || buf_append_slice(ret_text, json) != 0)
        return false;
    for (size_t i = 0; i < ret_text->size; i++) {
        if (ret_text->data[i] == '\n' || ret_text->data[i] == '\r')
            ret_text->data[i] = ' ';
    }
    return true;
}

/* "NAME":JSON, or "OTHER":"text", or "OTHER64":"base64". */
static int print_content(struct buf *line, const char *name, const char *other, kvs_slice content,
                         bool is_json)
{
    struct buf json = BUF_INIT;
    bool as_json = is_json && one_line(content, &json);
    int error = as_json ? buf_printf(line, ",\"%s\":", name) : buf_append_u8(line, ',');
    if (error == 0)
        error = as_json ? buf_append_slice(line, buf_slice(&json))
                        : json_field_append(line, other, content);
    buf_deinit(&json);
    return error;
}

static int print_link(struct buf *line, const kvs_resolved_event *event)
{
    if (event->link == NULL)
        return 0;
    int error = buf_printf(line, ",\"link\":{");
    if (error == 0)
        error = json_field_append(line, "stream", event->link->stream);
    if (error == 0)
        error = buf_printf(line, ",\"number\":%" PRId64 "}", event->link->number);
    return error;
}

static int print_record(struct buf *line, const kvs_event *record)
{
    char id[KVS_EVENT_ID_TEXT_SIZE];
    kvs_event_id_format(&record->id, id);
    int error = json_field_append(line, "stream", record->stream);
    if (error == 0)
        error = buf_printf(line, ",\"number\":%" PRId64 ",", record->number);
    if (error == 0)
        error = json_field_append(line, "type", record->type);
    if (error == 0)
        error = buf_printf(line, ",\"id\":\"%s\",\"created\":%" PRId64, id, record->created_ms);
    if (error == 0)
        error = print_content(line, "data", "bytes", record->data, record->is_json);
    if (error == 0 && record->metadata.size > 0)
        error = print_content(line, "metadata", "metadataBytes", record->metadata, record->is_json);
    return error;
}

int events_print(struct buf *line, const kvs_resolved_event *event)
{
    size_t before = line->size;
    /* A link whose event is gone is shown as it is. */
    const kvs_event *record = event->event != NULL ? event->event : event->link;
    int error = buf_append_u8(line, '{');
    if (error == 0)
        error = print_record(line, record);
    if (error == 0)
        error = print_link(line, event);
    if (error == 0 && event->position.commit >= 0)
        error = buf_printf(line, ",\"commit\":%" PRId64 ",\"prepare\":%" PRId64,
                           event->position.commit, event->position.prepare);
    if (error == 0 && event->retry_count > 0)
        error = buf_printf(line, ",\"retries\":%" PRId32, event->retry_count);
    if (error == 0)
        error = buf_append(line, "}\n", 2);
    if (error != 0)
        line->size = before;
    return error;
}

/* --- in ----------------------------------------------------------------------------------------
 */

static int refuse(char why[160], const char *text)
{
    snprintf(why, 160, "%s", text);
    return KVS_ERR_INVALID_ARGUMENT;
}

/* A value as it stands in the line. */
static int take_json(kvs_slice line, const char *name, struct buf *ret_bytes)
{
    kvs_slice value;
    bool found = json_scan_object(line, &name, 1, &value) && value.size > 0;
    return found ? buf_append_slice(ret_bytes, value) : KVS_ERR_INVALID_ARGUMENT;
}

/* What was not meant to be left out would be: a name that nobody knows is a mistake. */
static int check_names(json_t *object, char why[160])
{
    static const char *const names[] = {"stream",  "stream64", "number",        "type",
                                        "id",      "created",  "data",          "bytes",
                                        "bytes64", "metadata", "metadataBytes", "metadataBytes64",
                                        "link",    "commit",   "prepare",       "retries"};
    const char *name;
    json_t *value;
    json_object_foreach(object, name, value)
    {
        bool known = false;
        for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
            known |= strcmp(names[i], name) == 0;
        if (!known) {
            snprintf(why, 160, "an event has no \"%.60s\"", name);
            return KVS_ERR_INVALID_ARGUMENT;
        }
    }
    return 0;
}

static kvs_slice string_of(json_t *value)
{
    return slice_make(json_string_value(value), json_string_length(value));
}

/* NAME, OTHER or OTHER64, whichever is there. */
static int take_content(json_t *object, kvs_slice line, const char *const names[3],
                        struct buf *ret_bytes, bool *ret_is_json, char why[160])
{
    json_t *json = json_object_get(object, names[0]);
    json_t *text = json_object_get(object, names[1]);
    json_t *base64 = json_object_get(object, names[2]);
    if ((json != NULL) + (text != NULL) + (base64 != NULL) > 1)
        return refuse(why, "the same is given in two ways");
    if (json != NULL) {
        *ret_is_json = true;
        int error = take_json(line, names[0], ret_bytes);
        return error == KVS_ERR_INVALID_ARGUMENT ? refuse(why, "JSON that is not understood")
                                                 : error;
    }
    if ((text != NULL && !json_is_string(text)) || (base64 != NULL && !json_is_string(base64)))
        return refuse(why, "bytes are given as a string");
    if (text != NULL)
        return buf_append_slice(ret_bytes, string_of(text));
    if (base64 == NULL)
        return 0;
    int error = base64_decode_append(ret_bytes, string_of(base64));
    return error == KVS_ERR_INVALID_ARGUMENT ? refuse(why, "this is no base64") : error;
}

static int take_object(json_t *object, kvs_slice line, struct events_input *input, char why[160])
{
    static const char *const data[] = {"data", "bytes", "bytes64"};
    static const char *const metadata[] = {"metadata", "metadataBytes", "metadataBytes64"};
    json_t *type = json_object_get(object, "type");
    json_t *id = json_object_get(object, "id");
    bool metadata_is_json = false;
    if (!json_is_object(object) || !json_is_string(type) || json_string_length(type) == 0)
        return refuse(why, "an event is an object with a \"type\", a string");
    if (id != NULL && kvs_event_id_parse(json_string_value(id), &input->event.id) != 0)
        return refuse(why, "\"id\" is no UUID");
    int error = check_names(object, why);
    if (error == 0)
        error = buf_append_slice(&input->type, string_of(type));
    if (error == 0)
        error = take_content(object, line, data, &input->data, &input->event.is_json, why);
    if (error == 0)
        error = take_content(object, line, metadata, &input->metadata, &metadata_is_json, why);
    return error;
}

int events_parse(kvs_slice line, struct events_input *ret_input, char why[160])
{
    json_error_t wrong;
    struct events_input input = {0};
    json_t *object = json_loadb((const char *)line.data, line.size, JSON_FLAGS, &wrong);
    if (object == NULL)
        return refuse(why, wrong.text);
    int error = take_object(object, line, &input, why);
    json_decref(object);
    if (error != 0) {
        events_input_deinit(&input);
        if (error == KVS_ERR_NO_MEMORY)
            refuse(why, "out of memory");
        return error;
    }
    input.event.type = buf_slice(&input.type);
    input.event.data = buf_slice(&input.data);
    input.event.metadata = buf_slice(&input.metadata);
    *ret_input = input;
    return 0;
}

void events_input_deinit(struct events_input *input)
{
    buf_deinit(&input->type);
    buf_deinit(&input->data);
    buf_deinit(&input->metadata);
    *input = (struct events_input){0};
}
