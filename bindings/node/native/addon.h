/*
 * native/addon.h: the native side of the Node.js package: submit a call, deliver its result, close.
 *
 * Node-API alone, no C++, no V8. All that an environment has (the main thread's or a worker's) is
 * in its struct addon; there are no globals, so the addon may be loaded many times at once.
 *
 * The life of a call:
 *   1. JavaScript picks an id, keeps the promise of it, and calls a native function with the id and
 *      the arguments, which are checked and copied into a struct call;
 *   2. calls of one turn are gathered, and submitted to libkvs together (addon_flush);
 *   3. libkvs completes them on the runtime's own thread: there the results of store calls are
 *      written into two arrays, others go into the list `done`, and the first one wakes
 *      JavaScript's thread;
 *   4. there the others are written, too, and one call into JavaScript for all settles their
 *      promises (completions.c says how results are written).
 *
 * Threads: everything runs on the environment's thread but call_done, which runs on the runtime's.
 */
#ifndef BINDINGS_NODE_NATIVE_ADDON_H
#define BINDINGS_NODE_NATIVE_ADDON_H

#define NAPI_VERSION 8
#include <kvs/events.h>
#include <kvs/kvs.h>
#include <node_api.h>
#include <pthread.h>
#include <string.h>

#define CALLS_FLUSH_MAX 256u /* gathered before they are submitted at the latest */

struct call;
struct resource;
struct watch;
struct writer;

/* What an environment has. */
struct addon {
    napi_env env;
    kvs_runtime *runtime; /* NULL until something is opened */
    napi_ref deliver;     /* JavaScript's function that settles promises */
    napi_threadsafe_function wake;
    struct call **calls; /* under way, by id */
    uint32_t calls_size;
    uint32_t process_holds; /* calls under way, and clients that JavaScript has asked to count */
    struct call *gathered[CALLS_FLUSH_MAX]; /* store calls, not yet submitted */
    unsigned gathered_count;
    struct call *spares;
    unsigned spares_count;
    size_t spares_memory;
    napi_ref words_array; /* of deliveries (completions.c), and its memory */
    void *words;
    struct resource *resources; /* open, or being closed */
    bool stopping;              /* the environment ends */
    unsigned holds;             /* the environment's and the resources' */
    pthread_mutex_t lock;       /* of what follows, and of whether a call is done */
    struct writer *written;     /* results of those that are done */
    struct writer *written_last;
    struct writer *spare_writers;
    unsigned spare_writers_count;
    struct call *done; /* the others */
    struct call *done_last;
    bool woken;
};

/* Something that is opened and closed: a store, a client, a transaction, a subscription. JavaScript
 * holds it by an external value; calls under way hold it, too. */
struct resource_kind {
    const char *closed; /* what a call of a closed one is told */
    /* Closes `pointer`; NULL when nothing has to be waited for. */
    kvs_future *(*close)(void *pointer);
};

struct resource {
    struct addon *addon;
    const struct resource_kind *kind;
    void *pointer;           /* libkvs's; NULL once it is being closed */
    struct resource *parent; /* held: a transaction's client, say */
    unsigned holds;
    bool closing;
    struct resource *next;
    struct resource **link;
};

/* Writes the result of a call, on the environment's thread. */
typedef void call_write_fn(struct call *call, struct writer *writer);

struct call {
    kvs_op op; /* store calls; first */
    struct addon *addon;
    struct call *next;         /* of `done`, of a writer's, or of the spares */
    struct resource *resource; /* held */
    kvs_store *store;          /* of an op that was submitted: is there until the op is done */
    kvs_future *future;        /* calls with a future */
    call_write_fn *write;
    uint32_t id;
    unsigned flags;  /* the kind's own */
    uint8_t *memory; /* copied arguments; of a batch also the table of them */
    size_t memory_size;
    int accepted_error;  /* is no failure: `write` says what came of it */
    struct watch *watch; /* held; NULL but for connection.c and an open of event streams */
    bool lets_process_end;
    bool is_done; /* under the addon's lock */
};

/* --- addon.c --- */

/* The runtime, made at the first need; NULL: an exception is pending. */
kvs_runtime *addon_runtime(struct addon *addon);
struct addon *addon_of(napi_env env);
void addon_release(struct addon *addon);
/* Submits what is gathered. */
void addon_flush(struct addon *addon);

/* Has completions_deliver called on the environment's thread; any thread. */
void addon_wake(struct addon *addon);

/* Something keeps the process alive, or does no longer. */
void addon_hold_process(struct addon *addon);
void addon_release_process(struct addon *addon);

/* --- call.c --- */

/* A call of the id, which must be free; NULL: an exception is pending. */
struct call *call_new(struct addon *addon, uint32_t id, struct resource *resource,
                      call_write_fn *write);
/* Room for `size` bytes of arguments, which may move what is there: false, when there is no memory,
 * with an exception. */
bool call_reserve(struct call *call, size_t size);
/* The call does not keep the process alive. */
void call_let_process_end(struct call *call);
/* Not submitted: an exception is pending. */
void call_drop(struct call *call);
void call_submit_op(struct call *call, enum kvs_op_kind kind);
/* Takes the future. NULL: no memory, which is the call's error. */
void call_submit_future(struct call *call, kvs_future *future);
/* The same of an opening, which can be given up at once: what it opens later is closed again. */
void call_submit_open(struct call *call, kvs_future *opening);
/* It has its outcome; any thread. */
void call_done(struct call *call);
/* It is over: the resource is let go, memory given back. */
void call_end(struct call *call);
/* Asks for all calls to be given up. */
void calls_cancel_all(struct addon *addon);
napi_value call_cancel_js(napi_env env, napi_callback_info info);
void calls_free_spares(struct addon *addon);

/* --- completions.c --- */

/* Settles of those that are done as many as one moment should; sees to it that it is called again
 * for the rest. */
void completions_deliver(struct addon *addon);
/* The result of a store call that is done, written at once: on the runtime's thread, under the
 * addon's lock. False: there was no memory. */
bool completions_write(struct call *call);
/* Ends all that are done, and frees what there is; no other thread is at work any more. */
void completions_end(struct addon *addon);

/* Parts of a result, in the order in which JavaScript reads them. */
void write_nothing(struct writer *writer);
void write_boolean(struct writer *writer, bool value);
void write_number(struct writer *writer, int64_t value);
void write_u64(struct writer *writer, uint64_t value);
void write_bytes(struct writer *writer, kvs_slice bytes);
void write_json(struct writer *writer, kvs_slice text);
void write_pairs(struct writer *writer, const kvs_pair *pairs, size_t count);
void write_keys(struct writer *writer, const kvs_pair *pairs, size_t count);
void write_values(struct writer *writer, const kvs_pair *pairs, size_t count);
void write_position(struct writer *writer, kvs_position position);
void write_events(struct writer *writer, const kvs_resolved_event *events, size_t count);
/* False: there was no memory for what was written so far; the call fails with that. */
bool write_went_well(const struct writer *writer);
/* There is no memory for the result that is being written. */
void write_failed(struct writer *writer);
/* A resource that the call has made; takes it. */
void write_resource(struct writer *writer, struct resource *resource);
/* The same for what an open has given; closes it when there is no memory. */
void write_new_resource(struct call *call, struct writer *writer, const struct resource_kind *kind,
                        void *pointer);

/* --- resource.c --- */

/* Holds `parent`, which may be NULL. NULL: no memory. */
struct resource *resource_new(struct addon *addon, const struct resource_kind *kind, void *pointer,
                              struct resource *parent);
void resource_hold(struct resource *resource);
void resource_release(struct resource *resource);
/* The external of it, which holds it; takes the caller's hold. */
napi_value resource_external(napi_env env, struct resource *resource);
/* Of an external that is open; NULL: a TypeError or an Error that it is closed is pending. */
struct resource *resource_get(napi_env env, napi_value value, const struct resource_kind *kind);
/* The future of its closing; NULL when it is closed already, or nothing has to be waited for. */
kvs_future *resource_close(struct resource *resource);
/* (id, resource): its close as a call; of one that is closed already, done at once. */
napi_value resource_close_js(napi_env env, napi_callback_info info,
                             const struct resource_kind *kind);
/* Closes all, and waits. */
void resources_close_all_blocking(struct addon *addon);

/* --- arguments.c: each false with an exception pending, a TypeError that begins with `what` --- */

#define ARGUMENTS_MAX 12u

struct arguments {
    napi_env env;
    struct addon *addon;
    size_t count;
    napi_value values[ARGUMENTS_MAX];
};

bool arguments_begin(struct arguments *arguments, napi_env env, napi_callback_info info);
bool argument_u32(struct arguments *arguments, unsigned i, const char *what, uint32_t *ret_value);
bool argument_double(struct arguments *arguments, unsigned i, const char *what, double *ret_value);
/* A number or a BigInt that is not negative. */
bool argument_u64(struct arguments *arguments, unsigned i, const char *what, uint64_t *ret_value);
/* A safe integer or a BigInt of 64 bits, with a sign. */
bool argument_i64(struct arguments *arguments, unsigned i, const char *what, int64_t *ret_value);
bool argument_boolean(struct arguments *arguments, unsigned i);
bool argument_is_nullish(struct arguments *arguments, unsigned i);
/* Bytes of a Buffer, Uint8Array or string: how many; then copied. */
bool bytes_size(napi_env env, napi_value value, const char *what, size_t *ret_size);
void bytes_copy(napi_env env, napi_value value, uint8_t *to, size_t size);
/* A string, freed by free(). */
bool argument_string(struct arguments *arguments, unsigned i, const char *what, char **ret_text);
/* The named property; NULL when it is missing, null or undefined. */
bool option_get(napi_env env, napi_value object, const char *name, napi_value *ret_value);

bool take_text_option(napi_env env, napi_value object, const char *name, char **ret_text);
bool take_u64_option(napi_env env, napi_value object, const char *name, uint64_t *ret_value);
bool take_i64_option(napi_env env, napi_value object, const char *name, int64_t *ret_value);
bool take_u32_option(napi_env env, napi_value object, const char *name, uint32_t *ret_value);
bool take_i32_option(napi_env env, napi_value object, const char *name, int32_t *ret_value);
bool take_flag_option(napi_env env, napi_value object, const char *name, bool *ret_value);

/* Copies arguments first, first + 1, ... (at most 4; null: empty) into the call's memory. */
bool call_take_bytes(struct call *call, struct arguments *arguments, unsigned first, unsigned count,
                     kvs_slice *slices[]);
/* Values one behind the other, to be taken one after the other. */
struct packed {
    const uint8_t *at;
    const uint32_t *sizes; /* JavaScript's: readable until the native function returns */
    uint32_t count;
    size_t bytes; /* of all */
};

/* Three arguments: bytes, their sizes, how many (src/pack.ts); copied into the call's memory. */
bool call_take_packed(struct call *call, struct arguments *arguments, unsigned i, uint32_t max,
                      struct packed *ret_packed);
/* Zeroed room for a table of them, before the first is taken. NULL: no memory, an exception. */
void *packed_table(struct call *call, struct packed *packed, size_t size);
/* Not more often than `count`. */
kvs_slice packed_next(struct packed *packed);
/* The three arguments of keys; NULL: an exception is pending. */
kvs_slice *call_take_keys(struct call *call, struct arguments *arguments, unsigned i,
                          uint32_t *ret_count);
/* Kinds (a Uint8Array, or one number), then the three of all keys and behind them all values. */
kvs_mutation *call_take_mutations(struct call *call, struct arguments *arguments, unsigned i,
                                  uint32_t *ret_count);

/* --- connection.c --- */

void watch_release(struct watch *watch);

/* --- store.c, txn.c, events.c, subscription.c --- */

bool store_define(napi_env env, napi_value exports);
bool txn_define(napi_env env, napi_value exports);
bool events_define(napi_env env, napi_value exports);
bool subscription_define(napi_env env, napi_value exports);
typedef kvs_future *open_fn(kvs_runtime *runtime, const char *url,
                            const struct kvs_store_options *options);
/* (id, url, options): what the URL names is opened; the options have the names of the struct, in
 * camel case. */
napi_value open_by_url(napi_env env, napi_callback_info info, open_fn *open, call_write_fn *write);

bool define_functions(napi_env env, napi_value exports, const napi_property_descriptor *functions,
                      size_t count);
#define FUNCTION(name, fn)                                   \
    {                                                        \
        name, NULL, fn, NULL, NULL, NULL, napi_default, NULL \
    }

#endif
