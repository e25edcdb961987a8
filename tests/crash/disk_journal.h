/*
 * tests/crash/disk_journal.h: everything that the log engine does to its files, in order, so that a
 * power cut can be played at any moment of it.
 *
 * The linker sends the engine's calls of engine/file.h, link and mkdir through here (--wrap); they
 * are done as ever, and noted. disk_journal_cut then writes a directory as a disk could hold it
 * after a cut:
 *   - what was synced before the moment is there;
 *   - of every other write any sectors are there, or none: they need not come in order;
 *   - files that were made, linked, renamed or removed since their directory was synced are so up
 *     to some moment, as on journalling file systems, which keep the order of these; or, on a disk
 *     that forgets more, each of these is there or is lost.
 * A kill -9 cannot show any of this, because the system keeps what it was given.
 */
#ifndef TESTS_CRASH_DISK_JOURNAL_H
#define TESTS_CRASH_DISK_JOURNAL_H

#include "base/rand.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Notes what happens below this directory from now on; what is in it by now (and in directories in
 * it) is safe. Frees what was noted before. Returns the first moment for a cut. */
size_t disk_journal_start(const char *directory);
void disk_journal_stop(void);
void disk_journal_free(void);

/* The next sync of a directory by this thread fails, and brings nothing to the disk. */
void disk_journal_fail_directory_sync(void);

/* From now on, or no longer: syncs of files fail. What was written to such a file and not synced
 * never comes to the disk then, whatever is synced later, though the file has it: so do systems
 * behave that count pages as written when they could not be. */
void disk_journal_fail_syncs(bool fail);

/* The next write of more than DISK_FULL_AFTER bytes, not all of them zero, by any thread, has so
 * many of them written, and then finds no space. */
#define DISK_FULL_AFTER 4096u
void disk_journal_fill_disk(void);

/* A note of the caller's: "this is true by now". */
void disk_journal_note(uint64_t number);

size_t disk_journal_length(void);

/* Names that were made or removed since their directory was synced: */
enum disk_names {
    DISK_NAMES_ORDERED, /* all up to some moment */
    DISK_NAMES_LOST,    /* any of them */
    DISK_NAMES_ALONE,   /* any of them, and nothing of what was written to the files is lost */
};

/* Makes `directory`, which must not exist, as after a cut before event `at`. Returns the highest
 * note before it, 0 when there is none. */
uint64_t disk_journal_cut(size_t at, enum disk_names names, struct rand *rand,
                          const char *directory);

#endif
