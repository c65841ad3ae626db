/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What a driver is told of the disk: feature bits and configuration space.
 * VIRTIO 1.4, "Block Device", "Feature bits", "Device configuration layout".
 */
#ifndef CONTRIB_VHOST_USER_BLK_CONFIG_H
#define CONTRIB_VHOST_USER_BLK_CONFIG_H

#include "contrib/vhost-user-blk/image.h"

#include <linux/virtio_blk.h>

/* With the zoned characteristics, all zero, which the Linux headers we build
 * with may lack: a front end may ask for the whole. */
#define BLK_CONFIG_BYTES 96u

/* The one byte a driver may write. */
#define BLK_CONFIG_WRITEBACK offsetof(struct virtio_blk_config, wce)

/* What of it is not in the image. */
typedef struct BlkConfigFacts {
    uint64_t sectors; /* capacity, of 512 bytes */
    uint32_t seg_max; /* pieces of data in a request */
    uint16_t num_queues;
    bool writeback; /* cache mode */
} BlkConfigFacts;

/** Feature bits to offer. Any thread. */
uint64_t blk_config_features(const BlkImage *image);

/** Fill the configuration space. @config: of BLK_CONFIG_BYTES. Any thread. */
void blk_config_fill(const BlkImage *image, const BlkConfigFacts *facts,
                     uint8_t *config);

#endif
