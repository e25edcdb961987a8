/*
 * engine/directory.h: the directory that belongs to one engine, and is open once.
 *
 * Its text file `KVS` names the engine that wrote it; the file `LOCK` is held with flock(2) by the
 * process that has it open.
 */
#ifndef ENGINE_DIRECTORY_H
#define ENGINE_DIRECTORY_H

#include "engine/engine.h"

/*
 * Makes options->directory if need be (unless it must exist), locks it, and marks it as one of
 * `engine_name` or checks that it is. Gives the descriptor that holds the lock: closing it unlocks.
 * NO_DIRECTORY, PERMISSION, READ_ONLY, LOCKED, WRONG_ENGINE, CORRUPTION (files of a log, but no
 * mark: a copy that was not finished), IO, NO_SPACE, NO_MEMORY, TOO_MANY_FILES, with a line for a
 * person.
 */
int engine_directory_open_blocking(const struct engine_options *options, const char *engine_name,
                                   int *ret_lock_fd, struct engine_message *ret_message);

/* Locks a directory that is there; what it holds does not matter. LOCKED, NO_DIRECTORY, IO. */
int engine_directory_lock_blocking(const char *directory, int *ret_lock_fd,
                                   struct engine_message *ret_message);

/* The same for one that cannot be written: the lock file is not made. */
int engine_directory_lock_unwritten_blocking(const char *directory, int *ret_lock_fd,
                                             struct engine_message *ret_message);

/* Is the file KVS there, and are files of a log? NO_DIRECTORY, PERMISSION, IO. */
int engine_directory_look_blocking(const char *directory, bool *ret_has_mark,
                                   bool *ret_has_segments);

/* Writes, durably, that the directory is one of `engine_name`: the last step of a copy. */
int engine_directory_mark_blocking(const char *directory, const char *engine_name);

/* Makes a new directory for a copy, durably. ALREADY_EXISTS: never one that is there. */
int engine_directory_make_blocking(const char *directory);

/* Fills in "DIRECTORY: what (text of the error)"; returns the error. */
int engine_directory_fail(struct engine_message *message, int error, const char *directory,
                          const char *what);

#endif
