/*
 * runtime/runtime.h: what the other layers ask of a kvs_runtime: a loop, the pool, its life.
 *
 * A runtime runs as long as somebody holds it: its user until kvs_runtime_free, every future that
 * is not complete or has a callback to deliver, and whoever calls runtime_hold. kvs_runtime_free
 * gives up the user's hold and waits for the others (on a host's loop: returns, and the last one
 * frees). Delays end when it begins, with KVS_ERR_CLOSED.
 */
#ifndef RUNTIME_RUNTIME_H
#define RUNTIME_RUNTIME_H

#include "runtime/loop.h"

#include <kvs/runtime.h>

#define RUNTIME_LOOPS_MAX 256u

/* The next loop in turn. Any thread. */
struct loop *runtime_pick_loop(kvs_runtime *runtime);

/* Does it run on the host's libuv loop? Then handles belong to a loop that goes on after us. */
bool runtime_is_hosted(const kvs_runtime *runtime);

/* Do its loops turn by themselves? Else futures must become ready on a loop, for whoever polls. */
bool runtime_has_threads(const kvs_runtime *runtime);

/* Is this the thread of one of its loops, in a callback? */
bool runtime_is_current(const kvs_runtime *runtime);

/* Would waiting on this thread be waiting for oneself? As runtime_is_current, and for the thread
 * that polled last: who else would turn the loop? */
bool runtime_waits_for(const kvs_runtime *runtime);

/* Has kvs_runtime_free begun? Then nothing new should be started. Any thread. */
bool runtime_is_stopping(const kvs_runtime *runtime);

/* Keeps the loops running until the matching release; the release may come from any thread. Only
 * by someone who knows that the runtime is held. */
void runtime_hold(kvs_runtime *runtime);
void runtime_release(kvs_runtime *runtime);

/* The chain of delays that live on a loop of the runtime; for that loop's thread. */
struct delay;
struct delay **runtime_delays(struct loop *loop);

#endif
