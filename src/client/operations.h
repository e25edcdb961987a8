/*
 * client/operations.h: the operation manager of one connection: what waits, what was sent, until
 * when, and what may be sent again.
 *
 *   1. operations_add: the operation waits, in order of submission, until a deadline.
 *   2. operations_sent: it has been written for the connection; it counts as an attempt.
 *   3. operations_take: its answer is there (or its owner gives it up); the manager forgets it.
 * When the connection is lost, operations_on_lost puts back what may be sent again, in order and in
 * front of what waits, and gives the rest up:
 *
 *   waiting                             waits on
 *   sent, known not to be carried out   waits again
 *   sent, repeatable                    waits again, attempts_max times in all
 *   sent, any other                     given up with OUTCOME_UNKNOWN
 *
 * It knows no protocol, no socket and no clock: times are passed in. Memory is the embedder's;
 * nothing here can fail but the bound. Thread: the connection's loop.
 */
#ifndef CLIENT_OPERATIONS_H
#define CLIENT_OPERATIONS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define OPERATION_ATTEMPTS_MAX 4u

/* Deadlines are kept in a wheel of slots; one further than a turn away is met once a turn. */
#define OPERATIONS_TICK_MS 8u
#define OPERATIONS_SLOTS 512u

enum operation_state {
    OPERATION_IDLE, /* not with a manager */
    OPERATION_WAITING,
    OPERATION_SENT,
};

struct operation {
    struct operation *next; /* in its list */
    struct operation *prev;
    struct operation *slot_next; /* in its slot of the wheel */
    struct operation *slot_prev;
    uint64_t deadline_ms;
    uint64_t size_bytes; /* against the bound of what waits */
    uint64_t sequence;   /* the order of submission */
    uint8_t state;       /* enum operation_state */
    uint8_t attempts;
    bool repeatable; /* done twice is as done once: may be sent again after a loss */
};

struct operation_list {
    struct operation *first;
    struct operation *last;
};

struct operations;

/*
 * An operation ends without an answer: the manager has already forgotten it; `was_sent` tells that
 * its answer may still come.
 */
typedef void operations_give_up_fn(struct operations *operations, struct operation *operation,
                                   bool was_sent, int error, const char *why);

struct operations {
    operations_give_up_fn *give_up;
    unsigned attempts_max; /* OPERATION_ATTEMPTS_MAX; the owner may set another, up to 255 */
    size_t count_max;
    uint64_t size_max;
    size_t count;
    uint64_t size_bytes;
    struct operation_list waiting;
    struct operation_list sent;
    struct operation *again; /* the last of those in front of what waits that were sent before */
    uint64_t next_sequence;
    uint64_t tick; /* all slots up to this tick have been looked at */
    struct operation *slots[OPERATIONS_SLOTS];
};

void operations_init(struct operations *operations, size_t count_max, uint64_t size_max,
                     operations_give_up_fn *give_up, uint64_t now_ms);

/* Takes an operation whose deadline, size and repeatable are set. Returns 0 or KVS_ERR_BUSY. */
int operations_add(struct operations *operations, struct operation *operation);

/* The next one to send, or NULL. */
static inline struct operation *operations_first_waiting(const struct operations *operations)
{
    return operations->waiting.first;
}

/* A waiting one has been sent. */
void operations_sent(struct operations *operations, struct operation *operation);

/* One that was sent waits again, in front of all that were not, and in the order of submission. */
void operations_put_back(struct operations *operations, struct operation *operation);

/* Another deadline for one that the manager has. */
void operations_set_deadline(struct operations *operations, struct operation *operation,
                             uint64_t deadline_ms);

/* Forgets an operation. */
void operations_take(struct operations *operations, struct operation *operation);

/* The connection is gone. not_carried_out: what was sent is known not to have happened. */
void operations_on_lost(struct operations *operations, bool not_carried_out, int error,
                        const char *why);

/* Gives up all that waits. */
void operations_fail_waiting(struct operations *operations, int error, const char *why);

/* Gives up what is past its deadline: TIMEOUT, or OUTCOME_UNKNOWN; `why` tells more. */
void operations_expire(struct operations *operations, uint64_t now_ms, const char *why);

/* When operations_expire should be called next; UINT64_MAX for never. */
uint64_t operations_due_ms(const struct operations *operations);

/* What to say of an operation that ends with `error` and no answer. */
int operation_outcome(const struct operation *operation, bool was_sent, int error);

#endif
