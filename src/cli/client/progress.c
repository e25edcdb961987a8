/* cli/client/progress.c: see cli/client/progress.h. */
#include "cli/client/progress.h"

#include "base/clock.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#define DRAW_INTERVAL_NS 100000000u
#define BAR_SIZE 24
#define LINE_SIZE_MAX 256
#define COLUMNS_DEFAULT 80

void progress_init(struct progress *progress, const char *verb, uint64_t total, bool allowed)
{
    *progress = (struct progress){.shown = allowed && isatty(STDERR_FILENO),
                                  .verb = verb,
                                  .total = total,
                                  .begin_ns = clock_now_ns()};
}

static const char *bytes_text(double bytes, char text[32])
{
    static const char *const units[] = {"B", "KiB", "MiB", "GiB", "TiB"};
    size_t unit = 0;
    for (; bytes >= 1024 && unit < 4; unit++)
        bytes /= 1024;
    snprintf(text, 32, unit == 0 ? "%.0f %s" : "%.1f %s", bytes, units[unit]);
    return text;
}

static double seconds_since_begin(const struct progress *progress)
{
    double seconds = (double)(clock_now_ns() - progress->begin_ns) / 1e9;
    return seconds > 1e-6 ? seconds : 1e-6;
}

/* "[#####.....]  42%  0:12 left  ", or nothing when the total is not known. */
static void bar_text(const struct progress *progress, uint64_t done, char *text, size_t size)
{
    text[0] = '\0';
    if (progress->total == 0)
        return;
    double part = (double)done / (double)progress->total;
    if (part > 1)
        part = 1;
    char bar[BAR_SIZE + 1];
    size_t filled = (size_t)(part * BAR_SIZE);
    memset(bar, '#', filled);
    memset(bar + filled, '.', BAR_SIZE - filled);
    bar[BAR_SIZE] = '\0';
    double left = part > 0 ? seconds_since_begin(progress) * (1 - part) / part : 0;
    unsigned seconds = left < 3600 * 100 ? (unsigned)left : 0;
    snprintf(text, size, "[%s] %3.0f%%  %u:%02u left  ", bar, part * 100, seconds / 60,
             seconds % 60);
}

void progress_update(struct progress *progress, uint64_t done, uint64_t keys, uint64_t bytes)
{
    if (!progress->shown)
        return;
    uint64_t now_ns = clock_now_ns();
    if (now_ns - progress->drawn_ns < DRAW_INTERVAL_NS)
        return;
    progress->drawn_ns = now_ns;
    struct winsize window;
    unsigned columns = COLUMNS_DEFAULT;
    if (ioctl(STDERR_FILENO, TIOCGWINSZ, &window) == 0 && window.ws_col > 0)
        columns = window.ws_col;
    char line[LINE_SIZE_MAX], bar[LINE_SIZE_MAX / 2], size[32], rate[32];
    bar_text(progress, done, bar, sizeof bar);
    snprintf(line, sizeof line, "%s  %s%" PRIu64 " keys  %s  %s/s", progress->verb, bar, keys,
             bytes_text((double)bytes, size),
             bytes_text((double)bytes / seconds_since_begin(progress), rate));
    /* One column stays free, or the terminal would begin another line. */
    fprintf(stderr, "\r\033[K%.*s", (int)(columns - 1), line);
}

void progress_end(struct progress *progress, bool finished, uint64_t keys, uint64_t bytes)
{
    if (!progress->shown)
        return;
    if (progress->drawn_ns != 0)
        fputs("\r\033[K", stderr);
    char size[32];
    if (finished)
        fprintf(stderr, "%s: %" PRIu64 " keys, %s in %.1f s\n", progress->verb, keys,
                bytes_text((double)bytes, size), seconds_since_begin(progress));
    progress->shown = false;
}
