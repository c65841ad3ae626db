/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The disk that is served: a raw file or a block device, its facts and how
 * far its host can do what guests ask.
 */
#ifndef CONTRIB_VHOST_USER_BLK_IMAGE_H
#define CONTRIB_VHOST_USER_BLK_IMAGE_H

#include <glib.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#define BLK_SECTOR_BYTES    512u
#define BLK_MAX_BLOCK_BYTES 4096u

/* Zeroes to write from, aligned for direct I/O. */
#define BLK_ZERO_CHUNK_BYTES 65536u
extern const uint8_t blk_zero_chunk[BLK_ZERO_CHUNK_BYTES];

typedef struct BlkImageConfig {
    const char *path;
    bool read_only;
    bool direct;          /* O_DIRECT */
    bool without_lock;    /* do not care who else uses it */
    uint32_t block_bytes; /* logical block; 0: the host's, 512 for files */
    int lock_wait_ms;     /* how long a former user may take to let go */
} BlkImageConfig;

typedef struct BlkImage {
    char *path;
    int fd;        /* O_DIRECT if direct */
    int cached_fd; /* through the page cache; the same as fd if not direct */
    bool read_only;
    bool direct;
    bool is_device; /* a block device */

    /* Powers of two, bytes. */
    uint32_t block_bytes;    /* logical block, as guests see it */
    uint32_t physical_bytes; /* what the host writes without reading */
    uint32_t discard_bytes;  /* granularity of discards */
    uint32_t memory_align;   /* of direct I/O: addresses, */
    uint32_t range_align;    /* offsets and sizes; 1 if not direct */

    uint32_t align_bytes;  /* offset of the first aligned physical block */
    uint32_t min_io_bytes; /* 0: no wish */
    uint32_t opt_io_bytes; /* 0: no wish */

    /* Ways to discard or zero that the host turned out to lack, one bit each;
     * see io.c. Any thread. */
    atomic_uint lacking;
} BlkImage;

/**
 * Open an image and lock it. An exclusive (read-only: a shared) lock keeps two
 * writers apart; and as the kernel holds it for as long as I/O of a killed
 * process runs, nothing of a former daemon can reach disk or guest memory
 * once we have it.
 * @config: borrowed
 * @error:  names the option
 * Returns it, or NULL. Blocks up to lock_wait_ms, but no longer when one of
 * the signals came that end a daemon. Control thread.
 */
BlkImage *blk_image_open(const BlkImageConfig *config, GError **error);

/** Close it. @image: may be NULL; no I/O runs. Control thread. */
void blk_image_close(BlkImage *image);

/**
 * Ask for the size now.
 * @sectors: filled, of 512 bytes, whole logical blocks only
 * Returns 0 or -errno. Any thread.
 */
int blk_image_sectors(const BlkImage *image, uint64_t *sectors);

#endif
