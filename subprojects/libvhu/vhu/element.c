/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Owns copying to and from vectors of guest memory. Knows neither rings nor
 * where a vector came from.
 */
#include "vhu/ring-internal.h"

#include <string.h>

/* Walks a vector from an offset on. */
typedef struct Cursor {
    const struct iovec *iov;
    const struct iovec *end;
    size_t skip; /* bytes into the current piece */
} Cursor;

static Cursor cursor_at(const struct iovec *iov, uint32_t num, uint64_t offset)
{
    Cursor cursor = {.iov = iov, .end = iov + num};

    while (cursor.iov < cursor.end && offset >= cursor.iov->iov_len) {
        offset -= cursor.iov->iov_len;
        cursor.iov++;
    }
    cursor.skip = (size_t)offset;
    return cursor;
}

/* The next piece, of at most @size bytes. Returns its bytes, 0 at the end. */
static size_t cursor_next(Cursor *cursor, uint64_t size, void **piece)
{
    size_t bytes;

    while (cursor->iov < cursor->end && cursor->skip == cursor->iov->iov_len) {
        cursor->iov++;
        cursor->skip = 0;
    }
    if (cursor->iov == cursor->end || size == 0) {
        return 0;
    }
    bytes = cursor->iov->iov_len - cursor->skip;
    if (bytes > size) {
        bytes = (size_t)size;
    }
    *piece = (uint8_t *)cursor->iov->iov_base + cursor->skip;
    cursor->skip += bytes;
    return bytes;
}

size_t vhu_iov_gather(const struct iovec *iov, uint32_t num, uint64_t offset,
                      void *data, size_t size)
{
    Cursor cursor = cursor_at(iov, num, offset);
    size_t done = 0;
    void *piece;
    size_t bytes;

    while ((bytes = cursor_next(&cursor, size - done, &piece)) > 0) {
        memcpy((uint8_t *)data + done, piece, bytes);
        done += bytes;
    }
    return done;
}

size_t vhu_element_read(const VhuElement *element, uint64_t offset, void *data,
                        size_t size)
{
    return vhu_iov_gather(element->out, element->num_out, offset, data, size);
}

size_t vhu_element_write(const VhuElement *element, uint64_t offset,
                         const void *data, size_t size)
{
    Cursor cursor = cursor_at(element->in, element->num_in, offset);
    size_t done = 0;
    void *piece;
    size_t bytes;

    while ((bytes = cursor_next(&cursor, size - done, &piece)) > 0) {
        memcpy(piece, (const uint8_t *)data + done, bytes);
        done += bytes;
    }
    return done;
}

uint32_t vhu_iov_slice(const struct iovec *iov, uint32_t num, uint64_t offset,
                       uint64_t size, struct iovec *out)
{
    Cursor cursor = cursor_at(iov, num, offset);
    uint32_t used = 0;
    void *piece;
    size_t bytes;

    while ((bytes = cursor_next(&cursor, size, &piece)) > 0) {
        out[used].iov_base = piece;
        out[used].iov_len = bytes;
        used++;
        size -= bytes;
    }
    return used;
}
