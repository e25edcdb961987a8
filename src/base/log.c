/* base/log.c: see base/log.h. */
#include "base/log.h"

#include <stdarg.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <time.h>
#include <unistd.h>

#define LINE_SIZE_MAX 1024

/* Relaxed: a level change need not be ordered with anything. */
static _Atomic int level_now = LOG_WARN;

/* Set before there are threads. */
static struct {
    kvs_log_fn *fn; /* NULL: standard error */
    void *arg;
} target;

static const char *const level_names[] = {"debug", "info", "warn", "error"};

void log_set_level(enum log_level level)
{
    atomic_store_explicit(&level_now, (int)level, memory_order_relaxed);
}

void kvs_log_set(enum kvs_log_level level, kvs_log_fn *fn, void *arg)
{
    target.fn = fn;
    target.arg = arg;
    log_set_level((enum log_level)level);
}

enum log_level log_level_now(void)
{
    return (enum log_level)atomic_load_explicit(&level_now, memory_order_relaxed);
}

/* Bytes of one character of UTF-8 that may be shown; 0: a control character, or no UTF-8. */
static size_t shown_size(const uint8_t *at, size_t left)
{
    if (at[0] < 0x80)
        return at[0] >= ' ' && at[0] != 0x7f ? 1 : 0;
    size_t size = at[0] >= 0xf0 ? 4 : at[0] >= 0xe0 ? 3 : 2;
    if (at[0] < 0xc2 || at[0] > 0xf4 || size > left)
        return 0;
    for (size_t i = 1; i < size; i++) {
        if ((at[i] & 0xc0) != 0x80)
            return 0;
    }
    return at[0] == 0xc2 && at[1] < 0xa0 ? 0 : size;
}

/* Names and texts of peers are part of messages: none of them begins a line of its own, or speaks
 * to the terminal. */
static void make_shown(char *text, size_t size)
{
    size_t at = 0;
    while (at < size) {
        size_t shown = shown_size((const uint8_t *)text + at, size - at);
        if (shown == 0)
            text[at] = '?';
        at += shown > 0 ? shown : 1;
    }
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
    size_t begin = size;
    if (wrote > 0)
        size += (size_t)wrote < sizeof line - size - 1 ? (size_t)wrote : sizeof line - size - 2;
    make_shown(line + begin, size - begin);
    if (target.fn != NULL) {
        line[size] = '\0';
        target.fn((enum kvs_log_level)level, line + begin, target.arg);
        return;
    }
    line[size++] = '\n';
    /* Nowhere to report a log that cannot be written. */
    ssize_t ignored = write(STDERR_FILENO, line, size);
    (void)ignored;
}
