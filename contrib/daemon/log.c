/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Owns the lines on standard error and the counting of floods.
 *
 * Two lines have the same shape if they differ in numbers only. Of one shape
 * LOG_BURST lines are printed per window; the window of a shape begins with
 * its first line and is closed, with a count of what was held back, by the
 * first line of any shape after its end.
 *
 * Whoever reads standard error may have stopped reading. A line that would
 * have to wait is dropped and counted, so that a full pipe stops no device.
 */
#include "contrib/daemon/log.h"

#include "vhu/clock.h"

#include <poll.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define LINE_BYTES  2048
#define TEXT_BYTES  256
#define SHAPE_SLOTS 16

typedef struct LogShape {
    uint32_t hash;
    bool used;
    unsigned seen; /* lines in this window */
    LogLevel level;
    int64_t start_ms;
    char last[TEXT_BYTES]; /* the last line held back */
} LogShape;

const char *const log_level_names[] = {
    [LOG_LEVEL_ERROR] = "error", [LOG_LEVEL_WARNING] = "warning",
    [LOG_LEVEL_INFO] = "info",   [LOG_LEVEL_DEBUG] = "debug",
    [LOG_LEVEL_TRACE] = "trace", NULL,
};

static struct {
    pthread_mutex_t lock;
    const char *name;
    LogLevel level;
    unsigned dropped; /* lines since the last that was written */
    LogShape shapes[SHAPE_SLOTS];
} log_state = {
    .lock = PTHREAD_MUTEX_INITIALIZER,
    .name = "vhost-user",
    .level = LOG_LEVEL_INFO,
};

void log_init(const char *name, LogLevel level)
{
    log_state.name = name;
    log_state.level = level;
}

LogLevel log_level(void)
{
    return log_state.level;
}

/* Whether a line can be written now: a pipe is ready when it takes a page. */
static bool is_ready(void)
{
    struct pollfd fd = {.fd = STDERR_FILENO, .events = POLLOUT};

    return poll(&fd, 1, 0) == 1 && (fd.revents & POLLOUT);
}

/* One write per line, so that lines of threads and processes do not mix. */
static void write_line(LogLevel level, const char *text)
{
    char line[LINE_BYTES];
    int len;

    len = snprintf(line, sizeof(line) - 1, "%s: %s%s%s", log_state.name,
                   level == LOG_LEVEL_INFO ? "" : log_level_names[level],
                   level == LOG_LEVEL_INFO ? "" : ": ", text);
    if (len < 0) {
        return;
    }
    if ((size_t)len > sizeof(line) - 2) {
        len = (int)sizeof(line) - 2;
    }
    for (int i = 0; i < len; i++) {
        if ((unsigned char)line[i] < ' ' || line[i] == 0x7f) {
            line[i] = '?';
        }
    }
    line[len] = '\n';
    if (write(STDERR_FILENO, line, (size_t)len + 1) < 0) {
        log_state.dropped++;
    }
}

static void print_line(LogLevel level, const char *text)
{
    char notice[64];

    if (!is_ready()) {
        log_state.dropped++;
        return;
    }
    if (log_state.dropped > 0) {
        snprintf(notice, sizeof(notice), "%u lines could not be written",
                 log_state.dropped);
        log_state.dropped = 0;
        write_line(LOG_LEVEL_WARNING, notice);
    }
    write_line(level, text);
}

/* FNV-1a over the text, each run of digits counting as one. */
static uint32_t shape_hash(const char *text)
{
    uint32_t hash = 2166136261u;
    bool in_number = false;

    for (; *text; text++) {
        const bool digit = g_ascii_isdigit(*text);

        if (!digit || !in_number) {
            hash ^= digit ? '0' : (unsigned char)*text;
            hash *= 16777619u;
        }
        in_number = digit;
    }
    return hash;
}

static void close_window(LogShape *shape)
{
    const unsigned held = shape->seen > LOG_BURST ? shape->seen - LOG_BURST : 0;
    char text[TEXT_BYTES + 64];

    if (shape->used && held > 0) {
        snprintf(text, sizeof(text), "%u more like this: %s", held,
                 shape->last);
        print_line(shape->level, text);
    }
    shape->used = false;
    shape->seen = 0;
}

/* The slot of a shape; a new shape takes a free slot, or the oldest. */
static LogShape *shape_slot(uint32_t hash, int64_t now_ms)
{
    LogShape *slot = &log_state.shapes[0];

    for (unsigned i = 0; i < SHAPE_SLOTS; i++) {
        LogShape *shape = &log_state.shapes[i];

        if (shape->used && now_ms - shape->start_ms >= LOG_WINDOW_MS) {
            close_window(shape);
        }
        if (shape->used && shape->hash == hash) {
            return shape;
        }
        if (slot->used && (!shape->used || shape->start_ms < slot->start_ms)) {
            slot = shape;
        }
    }
    close_window(slot);
    slot->used = true;
    slot->hash = hash;
    slot->start_ms = now_ms;
    return slot;
}

static void print_or_count(LogLevel level, const char *text)
{
    LogShape *shape = shape_slot(shape_hash(text), vhu_now_ms());

    if (++shape->seen <= LOG_BURST) {
        print_line(level, text);
    } else {
        shape->level = level;
        g_strlcpy(shape->last, text, sizeof(shape->last));
    }
}

void log_line(LogLevel level, const char *fmt, ...)
{
    char text[LINE_BYTES];
    va_list args;

    if (level > log_state.level) {
        return;
    }
    va_start(args, fmt);
    vsnprintf(text, sizeof(text), fmt, args);
    va_end(args);
    pthread_mutex_lock(&log_state.lock);
    if (level > LOG_LEVEL_INFO) {
        print_line(level, text);
    } else {
        print_or_count(level, text);
    }
    pthread_mutex_unlock(&log_state.lock);
}

void log_flush(void)
{
    pthread_mutex_lock(&log_state.lock);
    for (unsigned i = 0; i < SHAPE_SLOTS; i++) {
        close_window(&log_state.shapes[i]);
    }
    pthread_mutex_unlock(&log_state.lock);
}
