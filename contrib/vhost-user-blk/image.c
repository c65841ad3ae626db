/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Owns the opening of files and block devices, their lock and their facts.
 * Does no I/O on their contents.
 */
#include "contrib/vhost-user-blk/image.h"

#include "contrib/daemon/log.h"
#include "contrib/daemon/option.h"
#include "contrib/daemon/signals.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#define LOCK_POLL_MS 20

_Alignas(BLK_MAX_BLOCK_BYTES) const uint8_t
    blk_zero_chunk[BLK_ZERO_CHUNK_BYTES];

static bool is_power_of_two(uint64_t value)
{
    return value != 0 && (value & (value - 1)) == 0;
}

/* The first of the values that is a usable power of two. */
static uint32_t pick_power(uint64_t value, uint32_t otherwise)
{
    return is_power_of_two(value) && value <= INT32_MAX ? (uint32_t)value
                                                        : otherwise;
}

/*
 * Locks belong to open files: each of the two has a byte of its own, so that
 * they do not exclude one another and both are held until their last I/O.
 */
static bool try_lock(const BlkImage *image, int fd, off_t byte)
{
    struct flock lock = {
        .l_type = image->read_only ? F_RDLCK : F_WRLCK,
        .l_whence = SEEK_SET,
        .l_start = byte,
        .l_len = 1,
    };

    /* A file system without locks serves too. */
    return fcntl(fd, F_OFD_SETLK, &lock) == 0 ||
           (errno != EAGAIN && errno != EACCES);
}

static bool lock_image(const BlkImage *image, const BlkImageConfig *config,
                       GError **error)
{
    int waited_ms = 0;

    while (!try_lock(image, image->fd, 0) ||
           (image->cached_fd != image->fd &&
            !try_lock(image, image->cached_fd, 1))) {
        if (waited_ms == 0 && config->lock_wait_ms > 0) {
            log_line(LOG_LEVEL_INFO, "waiting for the lock of %s",
                     config->path);
        }
        if (waited_ms >= config->lock_wait_ms || signals_received()) {
            option_set_error(error, "blk-file", config->path,
                             "another process %s it (--no-lock: serve it "
                             "all the same)",
                             image->read_only ? "writes to" : "uses");
            return false;
        }
        poll(NULL, 0, LOCK_POLL_MS);
        waited_ms += LOCK_POLL_MS;
    }
    return true;
}

/* Discard granularity is not in any ioctl. */
static uint32_t device_discard_bytes(const struct stat *st, uint32_t otherwise)
{
    g_autofree char *path =
        g_strdup_printf("/sys/dev/block/%u:%u/queue/discard_granularity",
                        major(st->st_rdev), minor(st->st_rdev));
    g_autofree char *text = NULL;

    if (!g_file_get_contents(path, &text, NULL, NULL)) {
        return otherwise;
    }
    return pick_power(g_ascii_strtoull(text, NULL, 10), otherwise);
}

static void get_device_facts(BlkImage *image, const struct stat *st)
{
    int logical = 0;
    unsigned physical = 0;
    int align = 0;

    ioctl(image->fd, BLKSSZGET, &logical);
    ioctl(image->fd, BLKPBSZGET, &physical);
    ioctl(image->fd, BLKALIGNOFF, &align);
    ioctl(image->fd, BLKIOMIN, &image->min_io_bytes);
    ioctl(image->fd, BLKIOOPT, &image->opt_io_bytes);
    image->block_bytes = pick_power(logical, BLK_SECTOR_BYTES);
    image->physical_bytes = pick_power(physical, image->block_bytes);
    image->align_bytes = align > 0 ? (uint32_t)align : 0;
    image->discard_bytes = device_discard_bytes(st, image->physical_bytes);
    image->memory_align = image->block_bytes;
    image->range_align = image->block_bytes;
}

static void get_file_facts(BlkImage *image, const struct stat *st)
{
    uint32_t host = pick_power(st->st_blksize, BLK_MAX_BLOCK_BYTES);

    image->block_bytes = BLK_SECTOR_BYTES;
    image->physical_bytes = MIN(host, BLK_MAX_BLOCK_BYTES);
    image->discard_bytes = host;
    image->min_io_bytes = 0;
    image->opt_io_bytes = 0;
    image->memory_align = host;
    image->range_align = host;
}

/* What direct I/O wants, where the host can tell. */
static bool get_direct_facts(BlkImage *image, const char *path, GError **error)
{
    if (!image->direct) {
        image->memory_align = 1;
        image->range_align = 1;
        return true;
    }
#ifdef STATX_DIOALIGN
    struct statx stx;

    if (statx(image->fd, "", AT_EMPTY_PATH, STATX_DIOALIGN, &stx) == 0 &&
        (stx.stx_mask & STATX_DIOALIGN)) {
        if (!is_power_of_two(stx.stx_dio_mem_align) ||
            !is_power_of_two(stx.stx_dio_offset_align)) {
            option_set_error(error, "direct", NULL,
                             "the file system of '%s' has no direct I/O", path);
            return false;
        }
        image->memory_align = stx.stx_dio_mem_align;
        image->range_align = stx.stx_dio_offset_align;
    }
#endif
    return true;
}

static bool get_facts(BlkImage *image, const BlkImageConfig *config,
                      GError **error)
{
    struct stat st;

    if (fstat(image->fd, &st) < 0) {
        option_set_error(error, "blk-file", config->path, "%s",
                         g_strerror(errno));
        return false;
    }
    if (S_ISBLK(st.st_mode)) {
        image->is_device = true;
        get_device_facts(image, &st);
    } else if (S_ISREG(st.st_mode)) {
        get_file_facts(image, &st);
    } else {
        option_set_error(error, "blk-file", config->path,
                         "neither a file nor a block device");
        return false;
    }
    if (config->block_bytes != 0) {
        image->block_bytes = config->block_bytes;
    }
    image->physical_bytes = MAX(image->physical_bytes, image->block_bytes);
    return get_direct_facts(image, config->path, error);
}

static int open_file(const BlkImageConfig *config, int flags, GError **error)
{
    int fd;

    flags |= (config->read_only ? O_RDONLY : O_RDWR) | O_CLOEXEC | O_NOCTTY;
    /* O_NONBLOCK only not to hang on a FIFO: io_uring would obey it. */
    fd = open(config->path, flags | O_NONBLOCK);
    if (fd >= 0) {
        fcntl(fd, F_SETFL, flags);
        return fd;
    }
    if (errno == EINVAL && (flags & O_DIRECT)) {
        option_set_error(error, "direct", NULL,
                         "the file system of '%s' has no direct I/O",
                         config->path);
    } else {
        option_set_error(error, "blk-file", config->path, "%s",
                         g_strerror(errno));
    }
    return -1;
}

static bool open_fds(BlkImage *image, const BlkImageConfig *config,
                     GError **error)
{
    image->fd = open_file(config, config->direct ? O_DIRECT : 0, error);
    if (image->fd < 0) {
        return false;
    }
    image->cached_fd = config->direct ? open_file(config, 0, error) : image->fd;
    return image->cached_fd >= 0;
}

BlkImage *blk_image_open(const BlkImageConfig *config, GError **error)
{
    BlkImage *image = g_new0(BlkImage, 1);
    uint64_t sectors;
    int result;

    image->path = g_strdup(config->path);
    image->fd = -1;
    image->cached_fd = -1;
    image->read_only = config->read_only;
    image->direct = config->direct;
    atomic_init(&image->lacking, 0);
    if (!open_fds(image, config, error) || !get_facts(image, config, error) ||
        (!config->without_lock && !lock_image(image, config, error))) {
        goto fail;
    }
    result = blk_image_sectors(image, &sectors);
    if (result < 0) {
        option_set_error(error, "blk-file", config->path, "its size: %s",
                         g_strerror(-result));
        goto fail;
    }
    return image;

fail:
    blk_image_close(image);
    return NULL;
}

void blk_image_close(BlkImage *image)
{
    if (image == NULL) {
        return;
    }
    if (image->cached_fd >= 0 && image->cached_fd != image->fd) {
        close(image->cached_fd);
    }
    if (image->fd >= 0) {
        close(image->fd);
    }
    g_free(image->path);
    g_free(image);
}

int blk_image_sectors(const BlkImage *image, uint64_t *sectors)
{
    uint64_t bytes = 0;
    struct stat st;

    if (image->is_device) {
        if (ioctl(image->fd, BLKGETSIZE64, &bytes) < 0) {
            return -errno;
        }
    } else {
        if (fstat(image->fd, &st) < 0) {
            return -errno;
        }
        bytes = (uint64_t)st.st_size;
    }
    *sectors = (bytes & ~((uint64_t)image->block_bytes - 1)) / BLK_SECTOR_BYTES;
    return 0;
}
