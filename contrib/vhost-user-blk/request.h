/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * One request of a driver: parsed, checked, turned into I/Os and answered.
 * VIRTIO 1.4, "Block Device", "Device Operation".
 */
#ifndef CONTRIB_VHOST_USER_BLK_REQUEST_H
#define CONTRIB_VHOST_USER_BLK_REQUEST_H

#include "contrib/vhost-user-blk/io.h"
#include "vhu/ring.h"

#include <linux/virtio_blk.h>

/* Of one DISCARD or WRITE_ZEROES request; in configuration space. A segment
 * may have to be zeroed by writing: it shall not take minutes. */
#define BLK_MAX_SEGMENTS        16u
#define BLK_MAX_DISCARD_SECTORS (1u << 22)
#define BLK_MAX_ZERO_SECTORS    (1u << 18)

/* What a read that fails, and what has more room than it fills, zeroes at once
 * of the rest; more takes an I/O of its own. */
#define BLK_MAX_ZERO_FILL (256u * 1024u)

/* The disk as a request finds it. */
typedef struct BlkDisk {
    uint64_t sectors;      /* capacity, of 512 bytes */
    uint64_t features;     /* negotiated */
    bool read_only;        /* VIRTIO_BLK_F_RO was offered */
    bool write_through;    /* writes are stable when completed */
    const uint8_t *serial; /* VIRTIO_BLK_ID_BYTES of them */
} BlkDisk;

typedef struct BlkRequest {
    VhuElement *element;
    void *owner; /* the queue's */
    uint8_t status;
    bool has_status; /* there is a byte for it */
    bool has_filled; /* the last I/O zeroed the rest */
    uint64_t filled; /* data bytes written from the start, for the driver */
    unsigned next_segment;
    unsigned num_segments;
    struct virtio_blk_discard_write_zeroes segments[BLK_MAX_SEGMENTS];
    BlkIo io;
} BlkRequest;

typedef enum BlkRequestNext {
    BLK_REQUEST_IO,   /* request->io is to be carried out (done is not set) */
    BLK_REQUEST_DONE, /* to be ended */
} BlkRequestNext;

/**
 * Begin a request.
 * @request: room; its owner is kept
 * @element: hostile
 * Any thread.
 */
BlkRequestNext blk_request_begin(BlkRequest *request, VhuElement *element,
                                 const BlkDisk *disk);

/** request->io is done. @result: 0 or -errno. */
BlkRequestNext blk_request_io_done(BlkRequest *request, int result);

/** Write the status. Returns the bytes written to the buffer from its start,
 * for vhu_queue_push. */
uint32_t blk_request_end(BlkRequest *request);

#endif
