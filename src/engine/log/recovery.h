/* engine/log/recovery.h: what reading the log has in common when a directory is opened (recovery.c)
 * and when it is only looked at (survey.c). */
#ifndef ENGINE_LOG_RECOVERY_H
#define ENGINE_LOG_RECOVERY_H

#include "engine/log/log_engine.h"

struct place {
    uint32_t segment;
    uint32_t offset;
};

/* Numbers of files, ascending. */
struct numbers {
    uint32_t *items;
    size_t count;
    size_t capacity;
};

struct log_files {
    struct numbers segments;
    struct numbers hints;
    struct numbers new_hints; /* left half made */
};

/* Lists the files of the log's directory. */
int log_files_list(const struct log_engine *log, struct log_files *files);
void log_files_deinit(struct log_files *files);
bool numbers_have(const struct numbers *numbers, uint32_t number);

/* Adds a segment to the list and opens its file; `what` names the step that failed. */
int recovery_segment_open(struct log_engine *log, uint32_t number, int flags,
                          struct segment **ret_segment, uint64_t *ret_size, const char **what);
/* Fills in the message for a segment; returns the error. */
int recovery_fail(const struct log_engine *log, struct engine_message *message, int error,
                  uint32_t segment, const char *what);

/* Looks for marks at every place a record may begin; raises *durable to the furthest place that one
 * of them says was on the disk. */
void recovery_marks_scan(struct place *durable, uint32_t segment, kvs_slice bytes, size_t from);
static inline bool place_is_durable(const struct place *durable, uint32_t segment, uint32_t offset)
{
    return durable->segment > segment || (durable->segment == segment && durable->offset > offset);
}
bool recovery_is_zero(const uint8_t *data, size_t size);

#endif
