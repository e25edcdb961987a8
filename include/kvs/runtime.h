/*
 * kvs/runtime.h: the threads and loops on which stores, clients and callbacks live.
 *
 * A runtime owns network loops and a pool of threads for calls that may block. Nothing but where
 * the log goes (kvs/log.h) is the process's: a program may have several runtimes, and each store
 * belongs to one.
 *
 * Three ways to run the loops:
 *   own threads     kvs_runtime_new: one thread per loop; the program only waits on futures
 *   host's loop     kvs_runtime_new_on_uv: one loop, the program's own libuv loop (Node.js, say)
 *   any other loop  kvs_runtime_new_polled: one loop, driven by the program through a descriptor
 *
 * Callbacks run on a loop of the runtime, never inside the call that started the operation, one at
 * a time per loop. A callback must not block, and must not wait on a future.
 *
 * Threads of the runtime and its pool block all signals. On the program's own loops (the second and
 * the third way) the program should ignore SIGPIPE.
 *
 * A thread must not be cancelled (pthread_cancel) inside a call, for it may hold what others wait
 * for: disable that around calls. kvs_future_wait alone may be called without.
 */
#ifndef KVS_RUNTIME_H
#define KVS_RUNTIME_H

#include <kvs/thread_pool.h>

#ifdef __cplusplus
extern "C" {
#endif
#pragma GCC visibility push(default)

typedef struct kvs_runtime kvs_runtime;
struct uv_loop_s; /* libuv's uv_loop_t */

/* Zero means the default in every field. Set size = sizeof(struct kvs_runtime_options). */
struct kvs_runtime_options {
    uint32_t size;
    uint32_t loops;        /* loops with a thread each; default 1 */
    uint32_t pool_threads; /* threads for blocking calls; default 4 */
    kvs_thread_pool *pool; /* use this pool instead; the runtime takes its own reference */
};

/*
 * Starts a runtime with its own threads. `options` may be NULL.
 * Errors, of all three: KVS_ERR_INVALID_ARGUMENT, KVS_ERR_NO_MEMORY, KVS_ERR_TOO_MANY_FILES.
 */
int kvs_runtime_new(const struct kvs_runtime_options *options, kvs_runtime **ret_runtime);

/*
 * Starts a runtime on the host's loop, which must outlive it; all calls that complete do so on that
 * loop's thread. Calls into stores may still come from any thread. `options->loops` must be 0 or 1,
 * as for a polled runtime. kvs_runtime_free then has to be called on the loop's thread, and returns
 * at once; the handles close in later turns of the host's loop.
 */
int kvs_runtime_new_on_uv(struct uv_loop_s *loop, const struct kvs_runtime_options *options,
                          kvs_runtime **ret_runtime);

/* Starts a runtime whose single loop turns only inside kvs_runtime_poll. */
int kvs_runtime_new_polled(const struct kvs_runtime_options *options, kvs_runtime **ret_runtime);

/* Polled runtimes: a descriptor, readable when kvs_runtime_poll has work; -1 for the others. */
int kvs_runtime_fd(const kvs_runtime *runtime);

/* Polled runtimes: milliseconds until kvs_runtime_poll must be called although the descriptor is
 * not readable; -1 for never. */
int kvs_runtime_poll_timeout_ms(const kvs_runtime *runtime);

/* Polled runtimes: does what is ready and returns without blocking. One thread at a time. */
void kvs_runtime_poll(kvs_runtime *runtime);

/* The pool for blocking calls; borrowed. */
kvs_thread_pool *kvs_runtime_pool(kvs_runtime *runtime);

/*
 * Stops the loops and frees the runtime. Stores must be closed before. First all futures become
 * ready and all callbacks are called; delays end, and functions of kvs_future_then are not called
 * any more, with KVS_ERR_CLOSED. Afterwards futures may still be read and freed, nothing else. Not
 * from a callback, except that of a host's loop. NULL is allowed.
 */
void kvs_runtime_free(kvs_runtime *runtime);

#pragma GCC visibility pop
#ifdef __cplusplus
}
#endif
#endif
