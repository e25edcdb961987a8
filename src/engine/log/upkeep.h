/* engine/log/upkeep.h: what is done for sealed segments beside emptying them; see upkeep.c. */
#ifndef ENGINE_LOG_UPKEEP_H
#define ENGINE_LOG_UPKEEP_H

#include "engine/log/hint.h"
#include "engine/log/log_engine.h"

/* The writer: the next segment that needs a hint, or could be in the cache; NULL for none. */
struct segment *upkeep_pick_hint(struct log_engine *log);
struct segment *upkeep_pick_warm(struct log_engine *log);
/* The compaction thread. */
int upkeep_hint(struct log_engine *log, struct segment *segment);
int upkeep_warm(struct log_engine *log, struct segment *segment);
/* What its hint has to say, from the records of a sealed segment. */
int upkeep_list(const struct log_engine *log, const struct segment *segment, struct hint *ret_hint);
/* Reads all bytes of a segment and checks every record. */
int upkeep_read_checked(const struct log_engine *log, const struct segment *segment,
                        uint8_t *bytes);
/* The same from one record up to another, and nothing else. */
int upkeep_read_part_checked(const struct log_engine *log, const struct segment *segment,
                             uint8_t *bytes, uint32_t from, uint32_t to);
/* When all threads are gone: the hints that are missing, but for what is too much. */
void upkeep_close(struct log_engine *log);
/* The writer, when such a job is done. */
void upkeep_finished(struct log_engine *log, struct segment *segment, enum compaction_job job,
                     int error);

#endif
