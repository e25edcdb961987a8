/* native/events.h: what events.c and subscription.c share; see addon.h. */
#ifndef BINDINGS_NODE_NATIVE_EVENTS_H
#define BINDINGS_NODE_NATIVE_EVENTS_H

#include "addon.h"

#define TEXTS_MAX 72u /* the patterns of a filter, and a few more */

/* Copied strings, freed together; {0} is empty. */
struct texts {
    char *list[TEXTS_MAX];
    unsigned count;
};

struct filter_option {
    kvs_event_filter filter;
    kvs_slice patterns[KVS_FILTER_PATTERNS_MAX];
};

/* What a resource of this kind points to. */
struct events_client {
    kvs_events *events;
    struct watch *watch; /* held; never NULL */
};

extern const struct resource_kind events_kind;

/* --- connection.c --- */

/* With one hold; NULL: no memory. */
struct watch *watch_new(void);
void watch_hold(struct watch *watch);
/* The client is no more: JavaScript is told; gives a hold back. Any thread. */
void watch_end(struct watch *watch);
/* libkvs's on_connection, with the watch. */
void watch_on_connection(kvs_events *events, const struct kvs_connection_event *event, void *arg);
napi_value watch_js(napi_env env, napi_callback_info info);

/* --- events_options.c: each take_ is false with an exception pending --- */

void texts_free(struct texts *texts);
/* The named property, a string; untouched when there is none. */
bool take_text(napi_env env, napi_value object, const char *name, struct texts *texts,
               const char **ret_text);
bool take_slice(napi_env env, napi_value object, const char *name, struct texts *texts,
                kvs_slice *ret_slice);
bool take_events_options(napi_env env, napi_value object, struct texts *texts,
                         struct kvs_events_options *options);
/* Of an object; what is null or undefined leaves the options zero. */
bool take_call_options(napi_env env, napi_value object, struct texts *texts,
                       kvs_call_options *options);
/* {on, kind, patterns, window}; *ret_filter is NULL for none. */
bool take_filter(napi_env env, napi_value object, struct texts *texts, struct filter_option *option,
                 const kvs_event_filter **ret_filter);
bool take_group_settings(napi_env env, napi_value object, struct texts *texts,
                         kvs_group_settings *settings);
/* An array of strings, at most `max`, into the texts. */
bool take_text_list(napi_env env, napi_value array, struct texts *texts, const char **list,
                    uint32_t max, uint32_t *ret_count);

#endif
