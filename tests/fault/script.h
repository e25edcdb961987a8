/*
 * tests/fault/script.h: a fixed piece of work on an engine while the world fails at one point, and
 * the check of what is left.
 *
 *   1. run the script once and count how often it comes by each kind of fault point;
 *   2. for every k (or every n-th when there are many): a fresh directory, the k-th hit fails (only
 *      that one, or all from then on), run the script, noting which batches were acknowledged;
 *   3. nothing fails any more: open, and compare all that is there with what may be there.
 *
 * What may be there: the batches carry a number each and leave a key with it, so the reader sees
 * which are there. All acknowledged ones must be, none of those that were refused with a retryable
 * error ("nothing was done"), and of the others any. The content must be what exactly those
 * batches, applied in order to the memory engine, give: no half batch, no other order. A backup
 * that was reported done opens and has all that was acknowledged before it; one that looks finished
 * opens, too.
 */
#ifndef TESTS_FAULT_SCRIPT_H
#define TESTS_FAULT_SCRIPT_H

#include "base/fault.h"
#include "contract/engine_fixture.h"

#define SCRIPT_BATCHES 48

struct script {
    struct fixture fixture;
    int outcomes[SCRIPT_BATCHES]; /* of each batch; SCRIPT_NOT_RUN: never submitted */
    unsigned errors;              /* reported by anything */
    bool broken;                  /* the storage failed since the last open */
    bool backups[2];              /* that were reported done, after half of the batches and all */
    const char *wrong;            /* the first promise that was broken, or NULL */
    long long wrong_detail;
};

#define SCRIPT_NOT_RUN 1

/* A fresh directory, nothing armed. */
int script_init(struct script *script, const struct engine_kind *kind);
void script_deinit(struct script *script);

/* Opens, works, closes (durable engines: twice). */
void script_run(struct script *script);

/* Submits the batches [first, last), waits, notes the outcomes. */
void script_batches(struct script *script, unsigned first, unsigned last);

/* To be called with no faults armed. Opens when closed; script->wrong tells what it found. */
void script_check(struct script *script);

#endif
