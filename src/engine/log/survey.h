/*
 * engine/log/survey.h: recovery that reads on behind damage, and changes nothing; for check.c.
 */
#ifndef ENGINE_LOG_SURVEY_H
#define ENGINE_LOG_SURVEY_H

#include "engine/log/log_engine.h"

struct log_survey {
    /* Called for each place [from, to) of a segment that was safely on the disk and cannot be
     * read. */
    void (*lost)(struct log_survey *survey, uint32_t segment, uint32_t from, uint32_t to,
                 const char *what);
    /* Called for a hint that a start would not believe, or (`is_wrong`) that it would although the
     * records of the segment say something else. */
    void (*hint)(struct log_survey *survey, uint32_t segment, bool is_wrong);

    /* results */
    uint64_t segments;
    uint64_t records;
    uint64_t bytes;
    uint64_t hints;            /* that a start would believe */
    uint64_t unfinished_bytes; /* behind the end of the log: */
    uint32_t end_segment;
    uint32_t end_offset;
};

/* Reads the log of the directory into the working trees; the files are opened for reading only.
 * Blocking; no thread knows the engine. */
int log_survey_run(struct log_engine *log, struct log_survey *survey,
                   struct engine_message *message);

#endif
