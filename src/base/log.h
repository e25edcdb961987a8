/*
 * base/log.h: lines for the operator, on standard error or where kvs_log_set has them go.
 *
 * One line per event, "2026-01-31T12:00:00.123Z LEVEL text"; written by one write(2), so that lines
 * of threads do not mix. The level is process-wide: standard error is, too. The library itself logs
 * nothing below warn unless a program asks.
 */
#ifndef BASE_LOG_H
#define BASE_LOG_H

#include <kvs/log.h>

enum log_level {
    LOG_DEBUG = KVS_LOG_DEBUG,
    LOG_INFO = KVS_LOG_INFO,
    LOG_WARN = KVS_LOG_WARN,
    LOG_ERROR = KVS_LOG_ERROR,
    LOG_SILENT = KVS_LOG_SILENT
};

void log_set_level(enum log_level level);
enum log_level log_level_now(void);
void log_line(enum log_level level, const char *format, ...) __attribute__((format(printf, 2, 3)));

#define log_debug(...) log_line(LOG_DEBUG, __VA_ARGS__)
#define log_info(...) log_line(LOG_INFO, __VA_ARGS__)
#define log_warn(...) log_line(LOG_WARN, __VA_ARGS__)
#define log_error(...) log_line(LOG_ERROR, __VA_ARGS__)

#endif
