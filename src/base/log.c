/* base/log.c: see base/log.h. */
#include "base/log.h"

#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <time.h>
#include <unistd.h>

#define LINE_SIZE_MAX 1024

/* Relaxed: a level change need not be ordered with anything. */
static _Atomic int level_now = LOG_WARN;

static const char *const level_names[] = {"debug", "info", "warn", "error"};

void log_set_level(enum log_level level)
{
    atomic_store_explicit(&level_now, (int)level, memory_order_relaxed);
}

enum log_level log_level_now(void)
{
    return (enum log_level)atomic_load_explicit(&level_now, memory_order_relaxed);
}

void log_line(enum log_level level, const char *format, ...)
{
    if ((int)level < atomic_load_explicit(&level_now, memory_order_relaxed))
        return;
    struct timespec now;
    struct tm utc;
    clock_gettime(CLOCK_REALTIME, &now);
    gmtime_r(&now.tv_sec, &utc);
    char line[LINE_SIZE_MAX];
    size_t size = strftime(line, sizeof line, "%Y-%m-%dT%H:%M:%S", &utc);
    size += (size_t)snprintf(line + size, sizeof line - size, ".%03dZ %s ",
                             (int)(now.tv_nsec / 1000000), level_names[level]);
    va_list args;
    va_start(args, format);
    int wrote = vsnprintf(line + size, sizeof line - size - 1, format, args);
    va_end(args);
    if (wrote > 0)
        size += (size_t)wrote < sizeof line - size - 1 ? (size_t)wrote : sizeof line - size - 2;
    line[size++] = '\n';
    /* Nowhere to report a log that cannot be written. */
    ssize_t ignored = write(STDERR_FILENO, line, size);
    (void)ignored;
}
