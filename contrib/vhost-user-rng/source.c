/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Owns the file random bytes are read from. Knows nothing of queues.
 *
 * What there is to wait for differs by the kind of file: a FIFO or a device
 * is watched; a device that cannot be polled is looked at now and then; the
 * end of a plain file may be moved by whoever appends to it. A FIFO without
 * writers also reads as ended, and epoll reports that without end: it is
 * opened anew, the new one before the old one is closed so that the kernel
 * keeps what is in it.
 */
#include "contrib/vhost-user-rng/source.h"

#include "contrib/daemon/log.h"
#include "contrib/daemon/option.h"
#include "vhu/clock.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

struct Source {
    const char *path; /* NULL: the kernel */
    int fd;           /* -1: the kernel */
    bool fifo;
    bool told; /* that there is nothing to read, since there was last */
    VhuLoop *loop;
    VhuWatch *watch; /* only while waiting */
    VhuTimer *timer;
    VhuLoopFn ready;
    void *opaque;
};

static int open_file(const char *path)
{
    return open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC | O_NOCTTY);
}

static bool open_source(Source *source, GError **error)
{
    struct stat st;

    if (!source->path) {
        return true;
    }
    source->fd = open_file(source->path);
    if (source->fd < 0 || fstat(source->fd, &st) < 0) {
        option_set_error(error, "source", source->path, "%s",
                         g_strerror(errno));
        return false;
    }
    if (S_ISDIR(st.st_mode)) {
        option_set_error(error, "source", source->path, "%s",
                         g_strerror(EISDIR));
        return false;
    }
    source->fifo = S_ISFIFO(st.st_mode);
    return true;
}

static void on_time(void *opaque)
{
    Source *source = opaque;

    source->ready(source->opaque);
}

static void on_readable(void *opaque, uint32_t events)
{
    Source *source = opaque;

    (void)events;
    g_clear_pointer(&source->watch, vhu_watch_free);
    source->ready(source->opaque);
}

Source *source_new(const char *path, VhuLoop *loop, VhuLoopFn ready,
                   void *opaque, GError **error)
{
    Source *source = g_new0(Source, 1);

    source->path = path;
    source->fd = -1;
    source->loop = loop;
    source->ready = ready;
    source->opaque = opaque;
    if (!open_source(source, error)) {
        source_free(source);
        return NULL;
    }
    source->timer = vhu_loop_timer(loop, on_time, source);
    if (!source->timer) {
        g_set_error(error, OPTION_ERROR, 0, "source: out of memory");
        source_free(source);
        return NULL;
    }
    return source;
}

void source_free(Source *source)
{
    if (source) {
        vhu_watch_free(source->watch);
        vhu_timer_free(source->timer);
        if (source->fd >= 0) {
            close(source->fd);
        }
        g_free(source);
    }
}

static void wait_ms(Source *source, int64_t ms)
{
    vhu_timer_set(source->timer, vhu_now_ms() + ms);
}

static void wait_until_readable(Source *source)
{
    if (source->fd >= 0 && !source->watch) {
        source->watch = vhu_loop_watch(source->loop, source->fd, EPOLLIN,
                                       on_readable, source);
    }
    if (!source->watch) {
        wait_ms(source, SOURCE_POLL_MS);
    }
}

static void tell(Source *source, const char *why)
{
    if (!source->told) {
        log_line(LOG_LEVEL_ERROR, "source %s: %s; requests wait",
                 source->path ? source->path : "kernel", why);
        source->told = true;
    }
}

/* From the end of a FIFO to the beginning of what the next writer sends. */
static void wait_for_writer(Source *source)
{
    const int fd = open_file(source->path);

    if (fd < 0) {
        tell(source, g_strerror(errno));
        wait_ms(source, SOURCE_RETRY_MS);
        return;
    }
    g_clear_pointer(&source->watch, vhu_watch_free);
    close(source->fd);
    source->fd = fd;
    wait_until_readable(source);
}

size_t source_read(Source *source, void *data, size_t size)
{
    const ssize_t got = source->fd < 0 ? getrandom(data, size, GRND_NONBLOCK)
                                       : read(source->fd, data, size);

    if (got > 0) {
        source->told = false;
        return (size_t)got;
    }
    if (got == 0 && source->fifo) {
        wait_for_writer(source);
    } else if (got < 0 && (errno == EAGAIN || errno == EINTR)) {
        wait_until_readable(source);
    } else {
        tell(source, got < 0 ? g_strerror(errno) : "end of file");
        wait_ms(source, SOURCE_RETRY_MS);
    }
    return 0;
}
