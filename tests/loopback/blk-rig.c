/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Owns what all tests of vhost-user-blk as a process share: an image, the
 * daemon, requests. Judges only what no test may see fail.
 */
#include "tests/loopback/blk-rig.h"

#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/loop.h>
#include <signal.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#define HEADER_BYTES sizeof(struct virtio_blk_outhdr)
/* Cuts in one side of a request, made at random. */
#define MAX_CUTS 12

static const char *program;

void blk_test_init(int *argc, char ***argv)
{
    g_test_init(argc, argv, NULL);
    g_assert_cmpint(*argc, ==, 2);
    program = (*argv)[1];
}

const char *blk_program(void)
{
    return program;
}

bool blk_can_direct(void)
{
    g_autofree char *path = g_strdup("blk-direct-XXXXXX");
    int fd = g_mkstemp_full(path, O_RDWR | O_DIRECT, 0600);

    if (fd < 0) {
        g_test_skip("no direct I/O here");
        return false;
    }
    close(fd);
    unlink(path);
    return true;
}

static void make_image(BlkRig *blk, const BlkRigConfig *config)
{
    blk->path = g_build_filename(config->folder == NULL ? "." : config->folder,
                                 "blk-XXXXXX.img", NULL);
    blk->fd = g_mkstemp_full(blk->path, O_RDWR | O_CLOEXEC, 0600);
    g_assert_cmpint(blk->fd, >=, 0);
    blk->bytes =
        config->image_bytes != 0 ? config->image_bytes : BLK_IMAGE_BYTES;
    g_assert_no_errno(ftruncate(blk->fd, (off_t)blk->bytes));
}

/* A free loop device, not ours yet; or -1. */
static int open_free_loop(char **path)
{
    int control = open("/dev/loop-control", O_RDWR | O_CLOEXEC);
    int number = control < 0 ? -1 : ioctl(control, LOOP_CTL_GET_FREE);
    int fd = -1;

    if (number >= 0) {
        *path = g_strdup_printf("/dev/loop%d", number);
        fd = open(*path, O_RDWR | O_CLOEXEC);
    }
    if (control >= 0) {
        close(control);
    }
    return fd;
}

/* It goes when the last one closes it. */
static bool make_loop(BlkRig *blk, uint32_t block_bytes)
{
    struct loop_config config = {
        .fd = (uint32_t)blk->fd,
        .block_size = block_bytes,
        .info = {.lo_flags = LO_FLAGS_AUTOCLEAR},
    };

    /* Somebody else may take the free one first. */
    for (int tries = 0; tries < 10; tries++) {
        g_clear_pointer(&blk->loop, g_free);
        blk->loop_fd = open_free_loop(&blk->loop);
        if (blk->loop_fd < 0) {
            return false;
        }
        if (ioctl(blk->loop_fd, LOOP_CONFIGURE, &config) == 0) {
            return true;
        }
        close(blk->loop_fd);
        blk->loop_fd = -1;
    }
    return false;
}

bool blk_can_loop(void)
{
    BlkRig blk = {.loop_fd = -1};
    BlkRigConfig config = {0};
    bool can;

    make_image(&blk, &config);
    can = make_loop(&blk, BLK_SECTOR);
    if (can) {
        close(blk.loop_fd);
    } else {
        g_test_skip("no loop device can be had");
    }
    close(blk.fd);
    unlink(blk.path);
    g_free(blk.path);
    g_free(blk.loop);
    return can;
}

static void spawn(BlkRig *blk, const BlkRigConfig *config)
{
    static const char *const none[] = {NULL};
    const char *const *wrapper = config->wrapper ? config->wrapper : none;
    const char *const *options = config->options ? config->options : none;
    g_autofree char *file = g_strdup_printf(
        "--blk-file=%s", blk->loop != NULL ? blk->loop : blk->path);
    g_autoptr(GPtrArray) argv = g_ptr_array_new();

    for (; *wrapper != NULL; wrapper++) {
        g_ptr_array_add(argv, (void *)*wrapper);
    }
    g_ptr_array_add(argv, (void *)blk_program());
    g_ptr_array_add(argv, file);
    for (; *options != NULL; options++) {
        g_ptr_array_add(argv, (void *)*options);
    }
    g_ptr_array_add(argv, NULL);
    blk->daemon = rig_daemon_spawn((const char *const *)argv->pdata);
}

BlkRig *blk_rig_new_daemon(const BlkRigConfig *config)
{
    BlkRig *blk = g_new0(BlkRig, 1);

    blk->loop_fd = -1;
    make_image(blk, config);
    if (config->loop_bytes != 0) {
        g_assert_true(make_loop(blk, config->loop_bytes));
    }
    spawn(blk, config);
    return blk;
}

BlkRig *blk_rig_new(const BlkRigConfig *config)
{
    BlkRig *blk = blk_rig_new_daemon(config);

    blk->rig = rig_new(&config->rig);
    rig_connect(blk->rig, rig_daemon_socket(blk->daemon));
    rig_start(blk->rig);
    return blk;
}

void blk_rig_free(BlkRig *blk)
{
    if (blk->rig != NULL) {
        rig_stop(blk->rig);
        rig_free(blk->rig);
    }
    if (rig_daemon_pid(blk->daemon) != 0) {
        rig_daemon_signal(blk->daemon, SIGTERM);
        g_assert_cmpint(rig_daemon_wait(blk->daemon, BLK_DEADLINE_MS), ==, 0);
    }
    rig_daemon_free(blk->daemon);
    if (blk->loop_fd >= 0) {
        close(blk->loop_fd);
    }
    g_free(blk->loop);
    close(blk->fd);
    unlink(blk->path);
    g_free(blk->path);
    g_free(blk);
}

/* ---- requests ---- */

typedef void (*AddPiece)(RigRequest *request, VhuGuestAddr addr,
                         uint32_t bytes);

/* A side of a request: how to append to it, and where it usually is cut. */
typedef struct Side {
    AddPiece add;
    size_t cut;
} Side;

static void add_usual(RigRequest *request, const Side *side, VhuGuestAddr addr,
                      size_t bytes)
{
    if (side->cut > 0) {
        side->add(request, addr, (uint32_t)side->cut);
    }
    if (bytes > side->cut) {
        side->add(request, addr + side->cut, (uint32_t)(bytes - side->cut));
    }
}

static void add_random(RigRequest *request, const Side *side, VhuGuestAddr addr,
                       size_t bytes)
{
    unsigned cuts = g_test_rand_int_range(0, MAX_CUTS);

    while (bytes > 0) {
        int limit = g_test_rand_bit() ? 20 : 5000;
        size_t part = (size_t)g_test_rand_int_range(1, limit);

        part = cuts == 0 ? bytes : MIN(part, bytes);
        cuts -= cuts > 0;
        side->add(request, addr, (uint32_t)part);
        addr += part;
        bytes -= part;
    }
}

/* Guest memory, at random not aligned. */
static uint8_t *alloc(Rig *rig, BlkFraming framing, size_t bytes, void **block)
{
    size_t shift = framing == BLK_FRAMING_RANDOM
                       ? (size_t)g_test_rand_int_range(0, 600)
                       : 0;

    *block = rig_alloc(rig, bytes + shift);
    return (uint8_t *)*block + shift;
}

static void add_side(BlkJob *job, BlkFraming framing, const Side *side,
                     const uint8_t *data, size_t bytes)
{
    VhuGuestAddr addr = rig_addr(job->request->rig, data);

    if (framing == BLK_FRAMING_RANDOM) {
        add_random(job->request, side, addr, bytes);
    } else {
        add_usual(job->request, side, addr, bytes);
    }
}

BlkJob *blk_job_new(Rig *rig, const BlkJobConfig *config)
{
    BlkJob *job = g_new0(BlkJob, 1);
    struct virtio_blk_outhdr header = {
        .type = htole32(config->type),
        .sector = htole64(config->sector),
    };
    Side out = {.add = rig_out_at, .cut = HEADER_BYTES};
    Side in = {.add = rig_in_at, .cut = config->in_bytes};

    job->request = rig_request(rig, config->queue);
    job->request->user = job;
    job->out_bytes = HEADER_BYTES + config->out_bytes;
    job->in_bytes = config->in_bytes + 1;
    job->out = alloc(rig, config->framing, job->out_bytes, &job->out_block);
    job->in = alloc(rig, config->framing, job->in_bytes, &job->in_block);
    memcpy(job->out, &header, HEADER_BYTES);
    if (config->data != NULL) {
        memcpy(job->out + HEADER_BYTES, config->data, config->out_bytes);
    } else {
        memset(job->out + HEADER_BYTES, 0, config->out_bytes);
    }
    memset(job->in, 0xa5, job->in_bytes);
    add_side(job, config->framing, &out, job->out, job->out_bytes);
    add_side(job, config->framing, &in, job->in, job->in_bytes);
    return job;
}

void blk_job_free(BlkJob *job)
{
    if (job != NULL) {
        Rig *rig = job->request->rig;

        rig_request_free(job->request);
        rig_release(rig, job->out_block);
        rig_release(rig, job->in_block);
        g_free(job);
    }
}

void blk_job_forget(BlkJob *job)
{
    g_free(job);
}

uint8_t blk_job_status(const BlkJob *job)
{
    return job->in[job->in_bytes - 1];
}

uint8_t blk_job_do(BlkJob *job)
{
    g_assert_cmpuint(rig_do(job->request), ==, job->in_bytes);
    return blk_job_status(job);
}

uint8_t blk_do(Rig *rig, const BlkJobConfig *config)
{
    BlkJob *job = blk_job_new(rig, config);
    uint8_t status = blk_job_do(job);

    blk_job_free(job);
    return status;
}

uint8_t blk_read(Rig *rig, uint64_t sector, void *data, size_t bytes)
{
    BlkJobConfig config = {
        .type = VIRTIO_BLK_T_IN,
        .sector = sector,
        .in_bytes = bytes,
    };
    BlkJob *job = blk_job_new(rig, &config);
    uint8_t status = blk_job_do(job);

    memcpy(data, job->in, bytes);
    blk_job_free(job);
    return status;
}

uint8_t blk_write(Rig *rig, uint64_t sector, const void *data, size_t bytes)
{
    BlkJobConfig config = {
        .type = VIRTIO_BLK_T_OUT,
        .sector = sector,
        .data = data,
        .out_bytes = bytes,
    };

    return blk_do(rig, &config);
}

uint8_t blk_flush(Rig *rig)
{
    BlkJobConfig config = {.type = VIRTIO_BLK_T_FLUSH};

    return blk_do(rig, &config);
}

uint8_t blk_segments(Rig *rig, uint32_t type,
                     const struct virtio_blk_discard_write_zeroes *segments,
                     unsigned num)
{
    BlkJobConfig config = {
        .type = type,
        .data = segments,
        .out_bytes = num * sizeof(*segments),
    };

    return blk_do(rig, &config);
}

void blk_fill(void *data, size_t bytes, uint64_t sector, uint64_t version)
{
    uint64_t *words = data;

    for (size_t i = 0; i < bytes / sizeof(*words); i++) {
        words[i] = (sector + i * sizeof(*words) / BLK_SECTOR) << 40 |
                   version << 8 | (i & 63);
    }
}

void blk_image_read(const BlkRig *blk, uint64_t offset, void *data,
                    size_t bytes)
{
    int fd = blk->loop_fd >= 0 ? blk->loop_fd : blk->fd;

    g_assert_cmpint(pread(fd, data, bytes, (off_t)offset), ==, bytes);
}
