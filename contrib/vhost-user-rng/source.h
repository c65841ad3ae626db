/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Where random bytes come from: the kernel, or a file of any kind. Reading
 * never waits.
 */
#ifndef CONTRIB_VHOST_USER_RNG_SOURCE_H
#define CONTRIB_VHOST_USER_RNG_SOURCE_H

#include "vhu/loop.h"

#include <glib.h>

typedef struct Source Source;

/**
 * Open a source.
 * @path:  a file, borrowed until the source is freed; NULL: the kernel
 * @loop:  of the calling thread, borrowed; all calls are made on it
 * @ready: called from the loop once there may be bytes after there were none
 * @error: names option and value
 * Returns the source, or NULL.
 */
Source *source_new(const char *path, VhuLoop *loop, VhuLoopFn ready,
                   void *opaque, GError **error);

/**
 * Read what there is.
 * @data: room for @size bytes, at least 1
 * Returns the bytes read; 0: none now, and @ready will be called (end of file
 * and errors are logged, and tried again after SOURCE_RETRY_MS).
 */
size_t source_read(Source *source, void *data, size_t size);

/** Close. @source: may be NULL. */
void source_free(Source *source);

/* When to look again at a source that cannot be waited for. */
#define SOURCE_POLL_MS  50
#define SOURCE_RETRY_MS 1000

#endif
