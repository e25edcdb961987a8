/*
 * kvs/future.h: the one asynchronous result type.
 *
 * Every call that takes time returns a kvs_future at once. Exactly once it becomes ready, with a
 * result or an error. Two phrases hold for the whole library:
 *   "the future owns it": memory read from a future stays valid until kvs_future_free.
 *   "free every future exactly once": also one that was cancelled or composed.
 *
 * All functions may be called from any thread; one future may be waited on by many threads. A
 * function that returns a future returns NULL only when there is no memory for it; given to any
 * function here, NULL reads as a future that failed with KVS_ERR_NO_MEMORY.
 */
#ifndef KVS_FUTURE_H
#define KVS_FUTURE_H

#include <kvs/runtime.h>

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif
#pragma GCC visibility push(default)

typedef struct kvs_future kvs_future;

/* A struct that begins with its size, and is zero otherwise, in C and in C++:
 *     struct kvs_store_options options = KVS_SIZED(struct kvs_store_options); */
#ifdef __cplusplus
#define KVS_SIZED(type)          \
    ([] {                        \
        type made{};             \
        made.size = sizeof made; \
        return made;             \
    }())
#else
#define KVS_SIZED(type) ((type){.size = sizeof(type)})
#endif

/* Borrowed bytes; data may be NULL when size is 0. */
typedef struct kvs_slice {
    const uint8_t *data;
    size_t size;
} kvs_slice;

/* A key and its value, as scans and batch reads give them. */
typedef struct kvs_pair {
    kvs_slice key;
    kvs_slice value; /* empty in a keys-only scan */
    bool found;      /* batch get: false when the key does not exist; scans: always true */
} kvs_pair;

/* Called on a loop of the runtime when the future is ready; kvs/runtime.h says what it may do. */
typedef void kvs_future_fn(kvs_future *future, void *arg);

/* Is the result there? Never blocks. */
bool kvs_future_is_ready(const kvs_future *future);

/*
 * Blocks until the future is ready or `timeout_ms` passed (negative: no limit; 0: only looks).
 * Returns the future's own error (0 for success) when it is ready, KVS_ERR_TIMEOUT when the wait
 * ended first: then the future goes on. Returns KVS_ERR_INVALID_ARGUMENT when called on the loop
 * that would have to complete it. A thread that waits without a limit may do the work itself, such
 * as a read from a disk that no thread of the pool has begun: then it returns when that is done,
 * also if the future is cancelled meanwhile.
 */
int kvs_future_wait(kvs_future *future, int64_t timeout_ms);

/* The error of a ready future, 0 for success; KVS_ERR_BUSY while it is not ready. */
int kvs_future_error(const kvs_future *future);

/* One line for a person: what failed, where. Never NULL; the future owns it. */
const char *kvs_future_error_message(const kvs_future *future);

/*
 * Has `fn` called once when the future is ready (also when it already is), always on a loop of its
 * runtime and never inside this call. At most one callback per future: a second is
 * KVS_ERR_INVALID_ARGUMENT. After kvs_future_free the callback is not called any more;
 * kvs_future_free may be called inside the callback.
 */
int kvs_future_on_ready(kvs_future *future, kvs_future_fn *fn, void *arg);

/*
 * Asks for the operation to be given up. It becomes ready with KVS_ERR_CANCELLED unless it was
 * already done; a write that had been sent may still happen. Never blocks.
 */
void kvs_future_cancel(kvs_future *future);

/*
 * Frees the future and all that it owns; cancels it when it is not ready. NULL is allowed. No
 * callback or function of it, or of what it is composed of, is called any more; one that is running
 * at that moment on another thread is waited for, so its `arg` may be freed afterwards.
 */
void kvs_future_free(kvs_future *future);

/* --- results: each returns the future's error, or KVS_ERR_INVALID_ARGUMENT for another type --- */

/* Bytes: the value of a get, the JSON text of statistics. The future owns them. */
int kvs_future_get_value(const kvs_future *future, kvs_slice *ret_value);
/* A number: a count, the number of keys removed; 0 or 1 of exists, and of scans: is there more? */
int kvs_future_get_number(const kvs_future *future, int64_t *ret_number);
/* Keys and values: batch gets (in the order asked), scans (in key order). The future owns them. */
int kvs_future_get_pairs(const kvs_future *future, const kvs_pair **ret_pairs, size_t *ret_count);
/* Whatever a composed function or an open gave: see there for the type and its owner. */
int kvs_future_get_pointer(const kvs_future *future, void **ret_pointer);

/* --- composition: the inputs are taken (freed with the result); the result is a new future ------
 *
 * Calls can be nested: an input that is NULL, for want of memory, gives a result that is NULL, and
 * the other inputs are freed. A future with a callback, or one that was taken already, cannot be an
 * input: it is left as it is, and the result is ready with KVS_ERR_INVALID_ARGUMENT. Cancelling the
 * result cancels the inputs; their outcome then decides the result's.
 */

/*
 * When `future` is ready, with a result or an error, calls `fn` on a loop; the result becomes what
 * the future that `fn` returns becomes, which is taken. `fn` borrows its argument, and may return
 * it: then its outcome is the result. NULL, from a call that found no memory, is
 * KVS_ERR_NO_MEMORY.
 */
typedef kvs_future *kvs_future_then_fn(kvs_future *future, void *arg);
kvs_future *kvs_future_then(kvs_future *future, kvs_future_then_fn *fn, void *arg);

/*
 * Makes a value out of a result without further waiting: `fn` runs on a loop and returns 0 or an
 * error, and may set *ret_pointer, which kvs_future_get_pointer gives; `free_fn` (may be NULL)
 * frees the pointer with the future. Not called when the input failed: the error passes through.
 */
typedef int kvs_future_map_fn(kvs_future *future, void *arg, void **ret_pointer);
kvs_future *kvs_future_map(kvs_future *future, kvs_future_map_fn *fn, void *arg,
                           void (*free_fn)(void *));

/* Ready when all are (or one failed: then with that error, the others cancelled). The array is
 * copied, the futures are taken; kvs_future_input reads each. count may be 0: `runtime` says whose
 * loops complete it. */
kvs_future *kvs_future_all(kvs_runtime *runtime, kvs_future **futures, size_t count);

/* Ready when the first one is, whatever its outcome, the others cancelled; kvs_future_get_number
 * gives its index, kvs_future_input reads it. count must not be 0. */
kvs_future *kvs_future_any(kvs_runtime *runtime, kvs_future **futures, size_t count);

/* The i-th input of an all or any, also of one that was given through a `then`; borrowed, NULL when
 * there is none. */
kvs_future *kvs_future_input(kvs_future *future, size_t i);

/*
 * As `future`, which is cancelled after timeout_ms; when that ends it, KVS_ERR_TIMEOUT. So a write
 * that was sent and may have happened is not told as a timeout: its own error says so.
 */
kvs_future *kvs_future_timeout(kvs_future *future, int64_t timeout_ms);

/* Ready with success after `delay_ms`. */
kvs_future *kvs_future_delay(kvs_runtime *runtime, int64_t delay_ms);

/* Already ready: with success and `pointer`, or with an error. For functions given to `then`.
 * `free_fn` (may be NULL) frees the pointer with the future, or at once when there is no memory. */
kvs_future *kvs_future_ready(kvs_runtime *runtime, int error, void *pointer,
                             void (*free_fn)(void *));

#pragma GCC visibility pop
#ifdef __cplusplus
}
#endif
#endif
