/*
 * base/fault.h: points at which a test can make the outside world fail.
 *
 * In a build without -Dfaults=true every point is the constant false. With it, a test arms "the
 * k-th hit of this kind fails" (once, or from then on) and counts the hits of a run to know how
 * many k there are. Counters are process-wide and atomic: the world that fails is shared, too.
 */
#ifndef BASE_FAULT_H
#define BASE_FAULT_H

#include <stdbool.h>
#include <stdint.h>

enum fault_kind {
    FAULT_ALLOC,        /* malloc returns NULL */
    FAULT_FILE_OPEN,    /* EIO */
    FAULT_FILE_READ,    /* EIO */
    FAULT_FILE_WRITE,   /* EIO */
    FAULT_FILE_SPACE,   /* ENOSPC on write or allocate */
    FAULT_FILE_SHORT,   /* a write takes only half */
    FAULT_FILE_SYNC,    /* EIO on fdatasync */
    FAULT_FILE_RENAME,  /* EIO on rename, link, unlink, mkdir and directory syncs */
    FAULT_THREAD_START, /* no thread to be had */
    FAULT_KINDS,
};

#ifdef KVS_FAULTS

/* Is this hit the one to fail? Counts. */
bool fault_hit(enum fault_kind kind);

/* Fails hit number `at` (counted from 1 after this call) of `kind`; all later ones too if
 * `from_then_on`. */
void fault_arm(enum fault_kind kind, uint64_t at, bool from_then_on);

/* Nothing fails any more; counters go to 0. */
void fault_reset(void);

/* Hits of a kind since the last reset or arm. */
uint64_t fault_hits(enum fault_kind kind);

/* Times that a hit was made to fail since the last reset. */
uint64_t fault_fired(void);

/*
 * The gate that work in the background passes step by step, where a test wants to see it half done:
 * loading (engine/log/loading.h), which then never ends before the open. Lets so many steps pass,
 * counted from now; the next ones wait. UINT64_MAX: all pass, but the gate is there, as it is for
 * all of a program's life with KVS_TEST_GATE in the environment.
 */
void fault_gate_set(uint64_t steps);
void fault_gate_remove(void);
bool fault_gate_is_there(void);
bool fault_gate_holds(void); /* somebody waits there, and goes on waiting */
void fault_gate_pass(void);

#else

static inline bool fault_hit(enum fault_kind kind)
{
    (void)kind;
    return false;
}

static inline bool fault_gate_is_there(void)
{
    return false;
}

static inline void fault_gate_pass(void)
{
}

#endif
#endif
