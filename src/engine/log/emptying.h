/*
 * engine/log/emptying.h: moving what lives in several segments to the newest, in the order of keys.
 *
 *   1. each victim's hint is there, or read, and so are its bytes, which are checked; of a file
 *      that is mostly garbage the system is only asked to read what may live (wanted.h);
 *   2. the hints tell in the order of keys what may live (living.h); of such files, that is read,
 *      record by record, and checked now;
 *   3. it is handed to the writer, a small move at a time.
 * So records whose keys are neighbours lie side by side in what is written. Victims whose files may
 * go in any order are moved one after the other, and the system reads of the next one meanwhile.
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
