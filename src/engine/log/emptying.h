/*
 * engine/log/emptying.h: moving what lives in several segments to the newest, in the order of keys.
 *
 *   1. each victim's bytes are there, or read and checked, and so is its hint;
 *   2. the hints are read as one list in the order of keys (tournament.h); of each key the record
 *      of the youngest victim counts, for the others are dead by it;
 *   3. those to which the index still points are handed to the writer, a small move at a time.
 * So records whose keys are neighbours lie side by side in what is written.
 *
 * Failure: what was moved is moved, all victims are left as they are. A victim that cannot be read
 * is told of. Thread: the compaction's.
 */
#ifndef ENGINE_LOG_EMPTYING_H
#define ENGINE_LOG_EMPTYING_H

#include "engine/log/log_engine.h"

/* Moves what lives in all victims of log->compaction. Returns when it is published. */
int emptying_run(struct log_engine *log);
/* Hands the move to the writer and waits for it. */
int compaction_move(struct move *move);

#endif
