/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Owns the meaning of requests. Does no I/O and knows no queue.
 *
 * Framing. Nothing is assumed about descriptors: the header is the first 16
 * readable bytes, the status is the last writable byte, and what is between
 * is data, in whatever pieces.
 */
#include "contrib/vhost-user-blk/request.h"

#include <endian.h>
#include <sys/param.h>

/* Beside VIRTIO_BLK_S_*: an I/O is needed first. */
#define NEEDS_IO (-1)

typedef struct Kind Kind;

/* A type of request. */
struct Kind {
    uint32_t type; /* VIRTIO_BLK_T_* */
    /* Returns the status, or NEEDS_IO. */
    int (*begin)(BlkRequest *request, const Kind *kind, const BlkDisk *disk,
                 uint64_t sector);
    bool writes;          /* changes the disk */
    uint64_t feature;     /* bits of which it needs one; 0: always there */
    uint32_t flags;       /* legal in a segment */
    uint32_t max_sectors; /* in a segment */
};

#define HEADER_BYTES sizeof(struct virtio_blk_outhdr)

static bool is_in_range(const BlkDisk *disk, uint64_t sector, uint64_t sectors)
{
    return sector <= disk->sectors && sectors <= disk->sectors - sector;
}

static int begin_transfer(BlkRequest *request, const BlkDisk *disk,
                          uint64_t sector)
{
    BlkIo *io = &request->io;

    if (io->size % BLK_SECTOR_BYTES != 0 ||
        !is_in_range(disk, sector, io->size / BLK_SECTOR_BYTES)) {
        return VIRTIO_BLK_S_IOERR;
    }
    io->offset = sector * BLK_SECTOR_BYTES;
    io->stable = disk->write_through;
    return NEEDS_IO;
}

static int begin_read(BlkRequest *request, const Kind *kind,
                      const BlkDisk *disk, uint64_t sector)
{
    VhuElement *element = request->element;

    (void)kind;
    request->io.op = BLK_OP_READ;
    request->io.iov = element->in;
    request->io.num_iov = element->num_in;
    request->io.iov_skip = 0;
    request->io.size = element->in_bytes - 1;
    return begin_transfer(request, disk, sector);
}

static int begin_write(BlkRequest *request, const Kind *kind,
                       const BlkDisk *disk, uint64_t sector)
{
    VhuElement *element = request->element;

    (void)kind;
    request->io.op = BLK_OP_WRITE;
    request->io.iov = element->out;
    request->io.num_iov = element->num_out;
    request->io.iov_skip = HEADER_BYTES;
    request->io.size = element->out_bytes - HEADER_BYTES;
    return begin_transfer(request, disk, sector);
}

static int begin_flush(BlkRequest *request, const Kind *kind,
                       const BlkDisk *disk, uint64_t sector)
{
    (void)kind;
    (void)disk;
    (void)sector;
    request->io.op = BLK_OP_FLUSH;
    request->io.offset = 0;
    request->io.size = 0;
    return NEEDS_IO;
}

static int begin_get_id(BlkRequest *request, const Kind *kind,
                        const BlkDisk *disk, uint64_t sector)
{
    VhuElement *element = request->element;
    uint64_t room = element->in_bytes - 1;

    (void)kind;
    (void)sector;
    request->filled = vhu_element_write(element, 0, disk->serial,
                                        MIN(room, VIRTIO_BLK_ID_BYTES));
    return VIRTIO_BLK_S_OK;
}

/* Turns the next segment that is not empty into an I/O. */
static int begin_segment(BlkRequest *request)
{
    BlkIo *io = &request->io;

    while (request->next_segment < request->num_segments) {
        const struct virtio_blk_discard_write_zeroes *segment =
            &request->segments[request->next_segment++];

        if (segment->num_sectors != 0) {
            io->offset = segment->sector * BLK_SECTOR_BYTES;
            io->size = (uint64_t)segment->num_sectors * BLK_SECTOR_BYTES;
            if (io->op != BLK_OP_DISCARD) {
                io->op = segment->flags & VIRTIO_BLK_WRITE_ZEROES_FLAG_UNMAP
                             ? BLK_OP_ZERO_UNMAP
                             : BLK_OP_ZERO;
            }
            return NEEDS_IO;
        }
    }
    return VIRTIO_BLK_S_OK;
}

/* All segments are checked before any is carried out; flags first. */
static int check_segments(const BlkRequest *request, const Kind *kind,
                          const BlkDisk *disk)
{
    for (unsigned i = 0; i < request->num_segments; i++) {
        if (request->segments[i].flags & ~kind->flags) {
            return VIRTIO_BLK_S_UNSUPP;
        }
    }
    for (unsigned i = 0; i < request->num_segments; i++) {
        if (request->segments[i].num_sectors > kind->max_sectors ||
            !is_in_range(disk, request->segments[i].sector,
                         request->segments[i].num_sectors)) {
            return VIRTIO_BLK_S_IOERR;
        }
    }
    return VIRTIO_BLK_S_OK;
}

static int begin_segments(BlkRequest *request, const Kind *kind,
                          const BlkDisk *disk, uint64_t sector)
{
    VhuElement *element = request->element;
    uint64_t size = element->out_bytes - HEADER_BYTES;
    struct virtio_blk_discard_write_zeroes *segments = request->segments;
    int status;

    (void)sector;
    if (size == 0 || size % sizeof(segments[0]) != 0 ||
        size > sizeof(request->segments)) {
        return VIRTIO_BLK_S_IOERR;
    }
    vhu_element_read(element, HEADER_BYTES, segments, size);
    request->num_segments = size / sizeof(segments[0]);
    for (unsigned i = 0; i < request->num_segments; i++) {
        segments[i].sector = le64toh(segments[i].sector);
        segments[i].num_sectors = le32toh(segments[i].num_sectors);
        segments[i].flags = le32toh(segments[i].flags);
    }
    status = check_segments(request, kind, disk);
    if (status != VIRTIO_BLK_S_OK) {
        return status;
    }
    request->io.op =
        kind->type == VIRTIO_BLK_T_DISCARD ? BLK_OP_DISCARD : BLK_OP_ZERO;
    request->io.stable = disk->write_through;
    return begin_segment(request);
}

static const Kind kinds[] = {
    {
        .type = VIRTIO_BLK_T_IN,
        .begin = begin_read,
    },
    {
        .type = VIRTIO_BLK_T_OUT,
        .begin = begin_write,
        .writes = true,
    },
    {
        .type = VIRTIO_BLK_T_FLUSH,
        .begin = begin_flush,
    },
    {
        .type = VIRTIO_BLK_T_GET_ID,
        .begin = begin_get_id,
    },
    {
        .type = VIRTIO_BLK_T_DISCARD,
        .begin = begin_segments,
        .writes = true,
        .feature = 1ULL << VIRTIO_BLK_F_DISCARD,
        .max_sectors = BLK_MAX_DISCARD_SECTORS,
    },
    {
        .type = VIRTIO_BLK_T_WRITE_ZEROES,
        .begin = begin_segments,
        .writes = true,
        .feature = 1ULL << VIRTIO_BLK_F_WRITE_ZEROES,
        .flags = VIRTIO_BLK_WRITE_ZEROES_FLAG_UNMAP,
        .max_sectors = BLK_MAX_ZERO_SECTORS,
    },
};

static int begin_kind(BlkRequest *request, const BlkDisk *disk)
{
    struct virtio_blk_outhdr header;
    uint32_t type;

    if (vhu_element_read(request->element, 0, &header, sizeof(header)) !=
        sizeof(header)) {
        return VIRTIO_BLK_S_IOERR;
    }
    type = le32toh(header.type);
    for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++) {
        const Kind *kind = &kinds[i];

        if (kind->type != type) {
            continue;
        }
        if (kind->writes && disk->read_only) {
            return VIRTIO_BLK_S_IOERR;
        }
        if (kind->feature != 0 && !(kind->feature & disk->features)) {
            return VIRTIO_BLK_S_UNSUPP;
        }
        return kind->begin(request, kind, disk, le64toh(header.sector));
    }
    return VIRTIO_BLK_S_UNSUPP;
}

/* The rest of the data, up to the status, is zeroed: the driver is told that
 * all of the buffer was written. */
static BlkRequestNext fill_rest(BlkRequest *request)
{
    VhuElement *element = request->element;
    uint64_t rest = element->in_bytes - 1 - request->filled;

    if (rest <= BLK_MAX_ZERO_FILL) {
        return BLK_REQUEST_DONE;
    }
    request->has_filled = true;
    request->io.op = BLK_OP_FILL;
    request->io.iov = element->in;
    request->io.num_iov = element->num_in;
    request->io.iov_skip = request->filled;
    request->io.offset = 0;
    request->io.size = rest;
    request->filled += rest;
    return BLK_REQUEST_IO;
}

static BlkRequestNext settle(BlkRequest *request, int status)
{
    if (status == NEEDS_IO) {
        return BLK_REQUEST_IO;
    }
    request->status = (uint8_t)status;
    return fill_rest(request);
}

BlkRequestNext blk_request_begin(BlkRequest *request, VhuElement *element,
                                 const BlkDisk *disk)
{
    request->element = element;
    request->has_status = element->in_bytes > 0;
    request->has_filled = false;
    request->filled = 0;
    request->next_segment = 0;
    request->num_segments = 0;
    request->io.stable = false;
    if (!request->has_status) {
        return BLK_REQUEST_DONE;
    }
    return settle(request, begin_kind(request, disk));
}

BlkRequestNext blk_request_io_done(BlkRequest *request, int result)
{
    if (request->has_filled) {
        return BLK_REQUEST_DONE;
    }
    if (result < 0) {
        return settle(request, VIRTIO_BLK_S_IOERR);
    }
    if (request->io.op == BLK_OP_READ) {
        request->filled = request->io.size;
    }
    return settle(request, begin_segment(request));
}

uint32_t blk_request_end(BlkRequest *request)
{
    VhuElement *element = request->element;
    uint64_t data = element->in_bytes - 1;

    if (!request->has_status) {
        return 0;
    }
    while (request->filled < data) {
        request->filled += vhu_element_write(
            element, request->filled, blk_zero_chunk,
            MIN(data - request->filled, BLK_ZERO_CHUNK_BYTES));
    }
    vhu_element_write(element, data, &request->status, 1);
    return (uint32_t)MIN(element->in_bytes, UINT32_MAX);
}
