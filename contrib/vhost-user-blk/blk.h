/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The block device: what the vhost-user library calls. It serves any number
 * of front ends from one image.
 */
#ifndef CONTRIB_VHOST_USER_BLK_BLK_H
#define CONTRIB_VHOST_USER_BLK_BLK_H

#include "contrib/vhost-user-blk/store.h"
#include "vhu/backend.h"

#include <linux/virtio_blk.h>

typedef struct BlkDevice BlkDevice;

typedef struct BlkDeviceConfig {
    VhuLoop *control;                    /* of the control thread, borrowed */
    BlkImage *image;                     /* owned by the device from now on */
    const BlkStoreOps *store;            /* how I/O is done */
    uint16_t num_queues;                 /* offered */
    uint16_t queue_size;                 /* largest ring accepted, entries */
    uint16_t seg_max;                    /* pieces of data in a request */
    uint8_t serial[VIRTIO_BLK_ID_BYTES]; /* padded with NUL */
} BlkDeviceConfig;

/** Make a device; it looks at the size of the image from time to time, and
 * tells the front ends of a new one. @config: copied. Control thread. */
BlkDevice *blk_device_new(const BlkDeviceConfig *config);

/** Free it with its image; no connection is alive. @device: may be NULL.
 * Control thread. */
void blk_device_free(BlkDevice *device);

/** Fill in what the library wants to know, but for the name. Control
 * thread. */
void blk_device_describe(const BlkDevice *device, VhuDeviceInfo *info);

#endif
