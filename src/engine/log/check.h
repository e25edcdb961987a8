/*
 * engine/log/check.h: looks at every record of a log engine's directory that nobody has open, and
 * saves what can be read of a damaged one. Changes nothing in the directory.
 *
 *   1. all marks are read: they tell what was safely on the disk;
 *   2. all records are read, in order, into an index. A place that cannot be read is damage when it
 *      was safely on the disk: reading goes on behind it. Else it is the unfinished end of the log,
 *      which the next start would cut off, too;
 *   3. each key of the index is looked up in the files, and compared with the record that is there;
 *   4. to save: what the index has is written to a new directory, and its file KVS last, so that
 *      one without it is not whole.
 * When a record is lost, an older one of its key may count again: a removed key or an older value.
 *
 * Failure: an error ends it when the directory cannot be used at all, or the new one not written.
 */
#ifndef ENGINE_LOG_CHECK_H
#define ENGINE_LOG_CHECK_H

#include "engine/engine.h"

struct log_check {
    /* Called with each line of the report: damage, with file and offset, and notes. */
    void (*say)(struct log_check *check, const char *line);

    /* results */
    uint64_t segments;
    uint64_t records;
    uint64_t bytes; /* of the files */
    uint64_t keys;
    uint64_t damages; /* places where something was lost, or does not fit */
    uint64_t lost_bytes;
    uint64_t unfinished_bytes; /* at the end, never acknowledged as durable */
    uint64_t saved;            /* keys written to the new directory */
};

/* Reads `directory`. `save_to`: NULL, or a directory to make, for what can be read. `pool` is for
 * the engine there. 0, also when there is damage: look at check->damages. NO_DIRECTORY, LOCKED,
 * WRONG_ENGINE, ALREADY_EXISTS (save_to), IO, NO_SPACE, NO_MEMORY, with a line in ret_message. */
int log_check_blocking(struct log_check *check, const char *directory, const char *save_to,
                       kvs_thread_pool *pool, struct engine_message *ret_message);

#endif
