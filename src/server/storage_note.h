/*
 * server/storage_note.h: trouble with the storage, for the operator. Clients are told each time;
 * the log says it once; of a full disk, or of too many open files, which ends by itself or by the
 * operator, once a minute.
 *
 * Thread: any.
 */
#ifndef SERVER_STORAGE_NOTE_H
#define SERVER_STORAGE_NOTE_H

#include <stdatomic.h>
#include <stdint.h>

/* Zeroed: nothing was said yet. */
struct storage_notes {
    _Atomic uint64_t broken_ms; /* when it was last said; 0: never */
    _Atomic uint64_t full_ms;
    _Atomic uint64_t files_ms;
};

/* Logs errors that concern all clients, and no others. `message`: more of it, "" for nothing. */
void storage_note(struct storage_notes *notes, int error, const char *message);

#endif
