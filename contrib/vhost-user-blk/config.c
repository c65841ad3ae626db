/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Owns what drivers are told of the disk. Holds no state. */
#include "contrib/vhost-user-blk/config.h"

#include "contrib/vhost-user-blk/request.h"

#include <endian.h>
#include <string.h>

#define BIT(feature) (1ULL << (feature))

uint64_t blk_config_features(const BlkImage *image)
{
    uint64_t features = BIT(VIRTIO_BLK_F_SEG_MAX) | BIT(VIRTIO_BLK_F_BLK_SIZE) |
                        BIT(VIRTIO_BLK_F_FLUSH) | BIT(VIRTIO_BLK_F_TOPOLOGY) |
                        BIT(VIRTIO_BLK_F_CONFIG_WCE) | BIT(VIRTIO_BLK_F_MQ);

    if (image->read_only) {
        return features | BIT(VIRTIO_BLK_F_RO);
    }
    return features | BIT(VIRTIO_BLK_F_DISCARD) |
           BIT(VIRTIO_BLK_F_WRITE_ZEROES);
}

static void fill_topology(const BlkImage *image,
                          struct virtio_blk_config *config)
{
    uint32_t block = image->block_bytes;
    uint32_t min_io = image->min_io_bytes / block;

    config->blk_size = htole32(block);
    config->physical_block_exp =
        __builtin_ctz(image->physical_bytes) - __builtin_ctz(block);
    config->alignment_offset = MIN(image->align_bytes / block, UINT8_MAX);
    config->min_io_size = htole16(CLAMP(min_io, 1, UINT16_MAX));
    config->opt_io_size = htole32(image->opt_io_bytes / block);
}

void blk_config_fill(const BlkImage *image, const BlkConfigFacts *facts,
                     uint8_t *config)
{
    struct virtio_blk_config fields = {
        .capacity = htole64(facts->sectors),
        .seg_max = htole32(facts->seg_max),
        .wce = facts->writeback,
        .num_queues = htole16(facts->num_queues),
    };

    fill_topology(image, &fields);
    if (!image->read_only) {
        fields.max_discard_sectors = htole32(BLK_MAX_DISCARD_SECTORS);
        fields.max_discard_seg = htole32(BLK_MAX_SEGMENTS);
        fields.discard_sector_alignment =
            htole32(MAX(image->discard_bytes / BLK_SECTOR_BYTES, 1));
        fields.max_write_zeroes_sectors = htole32(BLK_MAX_ZERO_SECTORS);
        fields.max_write_zeroes_seg = htole32(BLK_MAX_SEGMENTS);
        fields.write_zeroes_may_unmap = 1;
    }
    memset(config, 0, BLK_CONFIG_BYTES);
    memcpy(config, &fields, sizeof(fields));
}
