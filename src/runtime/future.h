/*
 * runtime/future.h: how a producer makes a kvs_future, and completes it.
 *
 * Happy path:
 *   1. future_new gives a future with the producer's payload behind it, zeroed; the producer fills
 *      the payload, starts its work, and returns the future to the user;
 *   2. when the work has ended, on any thread, it sets results with future_set_* (memory that the
 *      payload owns) and calls future_complete, once; from then on it touches neither any more;
 *   3. waiters wake; the callback or the composed future that waits for it runs on a loop, later;
 *   4. the payload's free function runs when the user has freed the future and it is complete.
 *
 * Who owns what: the user holds the future until kvs_future_free; the producer holds it from
 * future_new until future_complete, so the payload is there for both. A future freed by its user
 * while the work goes on costs the producer no thought: it completes it all the same.
 *
 * Cancelling: methods->cancel is called at most once, on the future's loop, while the future is not
 * complete. A producer that completes on that loop has no race to fear; one that completes from
 * another thread must bear to be asked while it does. It answers by completing soon, with
 * KVS_ERR_CANCELLED or with what happened. Without that method the work cannot be cancelled: the
 * future itself becomes ready when it is done, and what is composed over it no longer waits.
 *
 * Work that cannot be called back, but need not be waited for (a disk has it): `cancel` calls
 * future_give_up, and the producer asks future_decide when the work has ended. Whoever comes first
 * decides what the future says; the payload stays until the work has ended, too.
 *
 * A pointer to more than memory (to something that is open): `abandon` is called, on a loop, when
 * the future has it, nobody has read it, and what is composed over the future ends without it:
 * nobody can read it then. A ready future that the user has himself is his business.
 *
 * Work that a thread can do itself instead of sleeping until another has done it: `help` is called
 * on a thread that waits for the future, and takes moments only where its time is `limited`. The
 * future may become ready meanwhile; its payload and its runtime stay.
 *
 * A future that is not complete keeps its runtime running: kvs_runtime_free waits for it.
 */
#ifndef RUNTIME_FUTURE_H
#define RUNTIME_FUTURE_H

#include <kvs/future.h>

struct loop;

/* What all futures of one kind share; static. */
struct future_methods {
    size_t payload_size;
    void (*cancel)(kvs_future *future);  /* see above; may be NULL */
    void (*free)(void *payload);         /* frees what it owns; any thread; may be NULL */
    void (*abandon)(kvs_future *future); /* see above; may be NULL */
    void (*help)(kvs_future *future, bool limited); /* see above; may be NULL */
};

/*
 * A future whose callbacks run on `loop`, a loop of `runtime` (NULL: picked in turn). The caller
 * now is both producer and user. NULL when there is no memory; then nothing was called.
 */
kvs_future *future_new(kvs_runtime *runtime, struct loop *loop,
                       const struct future_methods *methods);
/* One that is ready, with success and no result; much lighter. The runtime lives as long as it is
 * asked to call somebody. NULL: no memory. */
kvs_future *future_new_ready(kvs_runtime *runtime, struct loop *loop);

/*
 * For a producer that mostly knows the result before it returns: future_new, but not yet under way,
 * so that it costs no atomic operation. Before anybody else sees the future, the producer either
 * sets results and calls future_complete_idle, or calls future_start; then all is as after
 * future_new. `loop` must be given.
 */
kvs_future *future_new_idle(kvs_runtime *runtime, struct loop *loop,
                            const struct future_methods *methods);
void future_start(kvs_future *future);
void future_complete_idle(kvs_future *future, int error);

/* The payload of a future and back. */
void *future_payload(kvs_future *future);
kvs_future *future_of_payload(void *payload);

kvs_runtime *future_runtime(const kvs_future *future);
struct loop *future_loop(const kvs_future *future);

/* Was it asked to give up? For producers that look now and then. Any thread. */
bool future_is_cancelled(const kvs_future *future);

/*
 * Results, set by the producer before future_complete. All memory is borrowed from the payload, or
 * lives as long. A future may have several, and results next to an error: then the getters give
 * both.
 */
void future_set_value(kvs_future *future, kvs_slice value);
void future_set_number(kvs_future *future, int64_t number);
void future_set_pairs(kvs_future *future, const kvs_pair *pairs, size_t count);
void future_set_pointer(kvs_future *future, void *pointer);
/* More about the error, for a getter of the producer's own; in all futures of one type: a
 * kvs_txn_conflict. NULL: nothing. */
void future_set_details(kvs_future *future, const void *details);
const void *future_details(const kvs_future *future);
/* What kvs_future_error_message says; "" or not set: the text of the error. */
void future_set_message(kvs_future *future, const char *message);

/* Makes the future ready: exactly once, on any thread. The producer's hold on it ends here. */
void future_complete(kvs_future *future, int error);

/* For a producer whose `cancel` gives futures up: true, then it sets results and completes; false:
 * the future was ready before its work was, and the producer's hold on it has ended. Once. */
bool future_decide(kvs_future *future);
/* From `cancel`: makes the future ready unless its outcome is decided; false: it is. The message is
 * static. */
bool future_give_up(kvs_future *future, int error, const char *message);

/* As kvs_future_timeout, of what is under way and must not be given up for want of memory: then it
 * is the future itself, without a time. */
kvs_future *future_try_timeout(kvs_future *future, int64_t timeout_ms);

#endif
