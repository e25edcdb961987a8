/*
 * tests/history/linearizable.h: could one thing after the other have happened as many clients saw
 * it happen at once?
 *
 * A history is a list of calls on a few registers, each with the moment of its call and that of its
 * return, taken from one counter. It is linearizable when all calls can be put in one order in
 * which no call stands before one that had returned when it was called, and in which each call gave
 * what the calls before it left. A call whose outcome nobody knows may stand anywhere behind its
 * moment, or not at all.
 *
 * The search is that of Wing and Gong: try each call that may be next, go back where none can be.
 * Lowe's addition makes it fast: sets of calls done that left the same registers are tried once. A
 * call that only looks is taken at once where its answer fits, because that forbids nothing.
 * What was tried is remembered by a hash of 128 bits; a collision could only refuse a good history.
 *
 * The order of keys that are alone is checked key by key, each a history of its own (an object is
 * linearizable when each part is); several registers in one history show whether batches and scans
 * are seen whole and in one order.
 */
#ifndef TESTS_HISTORY_LINEARIZABLE_H
#define TESTS_HISTORY_LINEARIZABLE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#define HISTORY_REGISTERS 4
#define HISTORY_NEVER UINT64_MAX

enum history_kind {
    HISTORY_SET,    /* the registers of the mask become `values`; 0: nothing is there */
    HISTORY_GET,    /* the registers of the mask were `values` */
    HISTORY_COUNT,  /* of those of the mask, values[0] were not 0 */
    HISTORY_REMOVE, /* one register becomes 0; held: it was not */
    HISTORY_CAS,    /* one register: held: it was `expected` and became the value. Else it was the
                       value, which is not `expected` */
};

struct history_call {
    uint64_t called;
    uint64_t returned; /* HISTORY_NEVER: nobody knows its outcome */
    uint8_t kind;
    uint8_t mask; /* bit i: register i takes part */
    uint8_t client;
    bool held;
    uint16_t expected;
    uint16_t values[HISTORY_REGISTERS];
};

enum history_verdict {
    HISTORY_FINE,
    HISTORY_REFUSED,
    HISTORY_GIVEN_UP, /* more was tried than the bound allows: nothing is known */
};

/* Registers are all 0 at the begin. When refused, `ret_stuck` (or NULL) is how many calls of the
 * longest order that was found come before the calls that fit nowhere; they are marked in
 * `ret_done` (of `count` bytes, or NULL). */
enum history_verdict history_check(const struct history_call *calls, size_t count,
                                   size_t *ret_stuck, bool *ret_done);

/* What a call does to the registers (16 bits each): false when it cannot have given what it gave.
 */
bool history_step(const struct history_call *call, uint64_t registers, uint64_t *ret_registers);

/* A line for each call: those around the place where the longest order ended, after a refusal. */
void history_print(FILE *out, const struct history_call *calls, size_t count, const bool *done);

#endif
