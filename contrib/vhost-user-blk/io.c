/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Owns which system calls make up an I/O. Does not know who carries them out,
 * nor anything of guests.
 */
#include "contrib/vhost-user-blk/io.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <linux/fs.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/param.h>
#include <unistd.h>

/* A way to discard or to zero. BLK_CALL_NONE: just say it is done;
 * BLK_CALL_WRITE: write zeroes. */
typedef struct Way {
    BlkCall call;
    int flags;             /* of fallocate */
    unsigned long request; /* of ioctl */
} Way;

#define PUNCH_HOLE (FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE)
#define ZERO_RANGE (FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE)

/* In the order they are tried; the last one of a row always works. */
static const Way file_ways[][BLK_MAX_WAYS] = {
    [BLK_OP_DISCARD] =
        {
            {.call = BLK_CALL_FALLOCATE, .flags = PUNCH_HOLE},
            {.call = BLK_CALL_NONE},
        },
    [BLK_OP_ZERO] =
        {
            {.call = BLK_CALL_FALLOCATE, .flags = ZERO_RANGE},
            {.call = BLK_CALL_WRITE},
        },
    [BLK_OP_ZERO_UNMAP] =
        {
            {.call = BLK_CALL_FALLOCATE, .flags = PUNCH_HOLE},
            {.call = BLK_CALL_FALLOCATE, .flags = ZERO_RANGE},
            {.call = BLK_CALL_WRITE},
        },
};

static const Way device_ways[][BLK_MAX_WAYS] = {
    [BLK_OP_DISCARD] =
        {
            {.call = BLK_CALL_IOCTL, .request = BLKDISCARD},
            {.call = BLK_CALL_NONE},
        },
    [BLK_OP_ZERO] =
        {
            {.call = BLK_CALL_IOCTL, .request = BLKZEROOUT},
            {.call = BLK_CALL_WRITE},
        },
    [BLK_OP_ZERO_UNMAP] =
        {
            {.call = BLK_CALL_FALLOCATE, .flags = PUNCH_HOLE},
            {.call = BLK_CALL_IOCTL, .request = BLKZEROOUT},
            {.call = BLK_CALL_WRITE},
        },
};

static const Way *get_way(const BlkImage *image, const BlkIo *io)
{
    return image->is_device ? &device_ways[io->op][io->way]
                            : &file_ways[io->op][io->way];
}

static bool is_aligned(uint64_t value, uint32_t to)
{
    return (value & (to - 1)) == 0;
}

/* Direct I/O on ranges it cannot do goes through the page cache, which the
 * kernel keeps coherent. */
static bool range_is_direct(const BlkImage *image, uint64_t offset,
                            uint64_t size)
{
    return image->direct && is_aligned(offset, image->range_align) &&
           is_aligned(size, image->range_align);
}

bool blk_io_needs_bounce(const BlkImage *image, const BlkIo *io)
{
    uint64_t skip = io->iov_skip;
    uint64_t left = io->size;

    if ((io->op != BLK_OP_READ && io->op != BLK_OP_WRITE) ||
        !range_is_direct(image, io->offset, io->size)) {
        return false;
    }
    for (uint32_t i = 0; i < io->num_iov && left > 0; i++) {
        uint64_t begin = MIN(skip, io->iov[i].iov_len);
        uint64_t size = MIN(io->iov[i].iov_len - begin, left);
        uintptr_t address = (uintptr_t)io->iov[i].iov_base + begin;

        if (size > 0 && (!is_aligned(address, image->memory_align) ||
                         !is_aligned(size, image->range_align))) {
            return true;
        }
        skip -= begin;
        left -= size;
    }
    return false;
}

/* Let the window cover the owner's pieces from the progress on. */
static void fill_window(BlkIo *io)
{
    BlkStep *step = &io->step;
    uint64_t skip = io->iov_skip + io->progress;
    uint64_t left = io->size - io->progress;

    step->num_iov = 0;
    step->size = 0;
    for (uint32_t i = 0; i < io->num_iov && left > 0; i++) {
        uint64_t begin = MIN(skip, io->iov[i].iov_len);
        uint64_t size = MIN(io->iov[i].iov_len - begin, left);

        skip -= begin;
        if (size == 0) {
            continue;
        }
        if (step->num_iov == BLK_WINDOW) {
            break;
        }
        io->window[step->num_iov++] = (struct iovec){
            .iov_base = (uint8_t *)io->iov[i].iov_base + begin,
            .iov_len = size,
        };
        step->size += size;
        left -= size;
    }
}

static void fill_window_with_zeroes(BlkIo *io)
{
    BlkStep *step = &io->step;
    uint64_t left = io->size - io->progress;

    step->num_iov = 0;
    step->size = 0;
    while (left > 0 && step->num_iov < BLK_WINDOW) {
        uint64_t size = MIN(left, BLK_ZERO_CHUNK_BYTES);

        io->window[step->num_iov++] = (struct iovec){
            .iov_base = (void *)(uintptr_t)blk_zero_chunk,
            .iov_len = size,
        };
        step->size += size;
        left -= size;
    }
}

/* Copy between the bounce buffer and the pieces at the progress. */
static void copy_bounce(const BlkIo *io, size_t size, bool to_pieces)
{
    uint64_t skip = io->iov_skip + io->progress;
    uint8_t *bounce = io->bounce;

    for (uint32_t i = 0; i < io->num_iov && size > 0; i++) {
        size_t begin = MIN(skip, io->iov[i].iov_len);
        size_t part = MIN(io->iov[i].iov_len - begin, size);
        uint8_t *piece = (uint8_t *)io->iov[i].iov_base + begin;

        memcpy(to_pieces ? piece : bounce, to_pieces ? bounce : piece, part);
        skip -= begin;
        bounce += part;
        size -= part;
    }
}

static void fill_window_with_bounce(BlkIo *io)
{
    BlkStep *step = &io->step;

    step->num_iov = 1;
    step->size = MIN(io->size - io->progress, BLK_BOUNCE_BYTES);
    io->window[0] = (struct iovec){
        .iov_base = io->bounce,
        .iov_len = step->size,
    };
    if (io->op == BLK_OP_WRITE) {
        copy_bounce(io, step->size, false);
    }
}

static BlkNext transfer(BlkIo *io, BlkCall call, void (*fill)(BlkIo *io))
{
    const BlkImage *image = io->image;
    uint64_t offset = io->offset + io->progress;
    /* Once off the direct way, pieces were not looked at: stay off. */
    bool direct = range_is_direct(image, io->offset, io->size) &&
                  range_is_direct(image, offset, io->size - io->progress);

    io->step = (BlkStep){
        .call = call,
        .fd = direct ? image->fd : image->cached_fd,
        .flags = call == BLK_CALL_WRITE && io->stable ? RWF_DSYNC : 0,
        .offset = offset,
    };
    fill(io);
    return BLK_NEXT_STEP;
}

static BlkNext finish(BlkIo *io, int result)
{
    io->result = result;
    return BLK_NEXT_DONE;
}

static BlkNext sync_step(BlkIo *io)
{
    io->synced = true;
    io->step = (BlkStep){.call = BLK_CALL_SYNC, .fd = io->image->fd};
    return BLK_NEXT_STEP;
}

/* The step of the way that is tried now. */
static BlkNext range_step(const BlkImage *image, BlkIo *io)
{
    const Way *way;

    while (atomic_load_explicit(&image->lacking, memory_order_relaxed) &
           BLK_LACKS(io->op, io->way)) {
        io->way++;
    }
    way = get_way(image, io);
    if (way->call == BLK_CALL_NONE) {
        return finish(io, 0);
    }
    if (way->call == BLK_CALL_WRITE) {
        return transfer(io, BLK_CALL_WRITE, fill_window_with_zeroes);
    }
    io->step = (BlkStep){
        .call = way->call,
        .fd = image->fd,
        .flags = way->flags,
        .request = way->request,
        .offset = io->offset,
        .size = io->size,
    };
    return BLK_NEXT_STEP;
}

static BlkNext next_step(const BlkImage *image, BlkIo *io)
{
    switch (io->op) {
    case BLK_OP_READ:
    case BLK_OP_WRITE:
        return transfer(
            io, io->op == BLK_OP_READ ? BLK_CALL_READ : BLK_CALL_WRITE,
            io->bounce != NULL ? fill_window_with_bounce : fill_window);
    case BLK_OP_FILL:
        return transfer(io, BLK_CALL_FILL, fill_window);
    case BLK_OP_FLUSH:
        return sync_step(io);
    case BLK_OP_DISCARD:
    case BLK_OP_ZERO:
    case BLK_OP_ZERO_UNMAP:
        break;
    }
    return range_step(image, io);
}

BlkNext blk_io_begin(BlkImage *image, BlkIo *io)
{
    io->image = image;
    io->progress = 0;
    io->way = 0;
    io->synced = false;
    if (io->size == 0 && io->op != BLK_OP_FLUSH) {
        return finish(io, 0);
    }
    return next_step(image, io);
}

/* All is done but for write-through of what RWF_DSYNC does not cover. */
static BlkNext complete(BlkIo *io)
{
    bool zeroing = io->op == BLK_OP_ZERO || io->op == BLK_OP_ZERO_UNMAP;

    return io->stable && zeroing && !io->synced ? sync_step(io) : finish(io, 0);
}

static BlkNext advance_transfer(const BlkImage *image, BlkIo *io,
                                int64_t result)
{
    if (result < 0) {
        return finish(io, (int)result);
    }
    if (result == 0 || (uint64_t)result > io->step.size) {
        /* The end of a file that became shorter, or a disk that is full. */
        return finish(io, -EIO);
    }
    if (io->op == BLK_OP_READ && io->bounce != NULL) {
        copy_bounce(io, result, true);
    }
    io->progress += result;
    return io->progress == io->size ? complete(io) : next_step(image, io);
}

/* Whether an error means "this host cannot do it so" rather than "failed". */
static bool is_lacking(int64_t result)
{
    return result == -EOPNOTSUPP || result == -ENOTTY || result == -ENOSYS;
}

static BlkNext advance_range(BlkImage *image, BlkIo *io, int64_t result)
{
    if (result == 0) {
        return complete(io);
    }
    if (is_lacking(result)) {
        atomic_fetch_or_explicit(&image->lacking, BLK_LACKS(io->op, io->way),
                                 memory_order_relaxed);
    } else if (result != -EINVAL) {
        return finish(io, (int)result);
    }
    /* EINVAL: not this range, as it splits the host's blocks. */
    io->way++;
    return range_step(image, io);
}

BlkNext blk_io_advance(BlkImage *image, BlkIo *io, int64_t result)
{
    if (result == -EINTR || result == -EAGAIN) {
        return BLK_NEXT_STEP;
    }
    switch (io->step.call) {
    case BLK_CALL_READ:
    case BLK_CALL_WRITE:
    case BLK_CALL_FILL:
        return advance_transfer(image, io, result);
    case BLK_CALL_SYNC:
        return finish(io, (int)result);
    case BLK_CALL_FALLOCATE:
    case BLK_CALL_IOCTL:
    case BLK_CALL_NONE:
        break;
    }
    return advance_range(image, io, result);
}

static int64_t zero_window(const BlkIo *io)
{
    for (uint32_t i = 0; i < io->step.num_iov; i++) {
        memset(io->window[i].iov_base, 0, io->window[i].iov_len);
    }
    return (int64_t)io->step.size;
}

int64_t blk_io_run_step(BlkIo *io)
{
    const BlkStep *step = &io->step;
    uint64_t range[2] = {step->offset, step->size};
    int64_t result = 0;

    switch (step->call) {
    case BLK_CALL_NONE:
        break;
    case BLK_CALL_READ:
        result = preadv2(step->fd, io->window, step->num_iov, step->offset,
                         step->flags);
        break;
    case BLK_CALL_WRITE:
        result = pwritev2(step->fd, io->window, step->num_iov, step->offset,
                          step->flags);
        break;
    case BLK_CALL_SYNC:
        result = fdatasync(step->fd);
        break;
    case BLK_CALL_FALLOCATE:
        result = fallocate(step->fd, step->flags, step->offset, step->size);
        break;
    case BLK_CALL_IOCTL:
        result = ioctl(step->fd, step->request, range);
        break;
    case BLK_CALL_FILL:
        return zero_window(io);
    }
    return result < 0 ? -errno : result;
}
