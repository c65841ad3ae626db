/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Owns the tests of what vhost-user-blk answers to single requests, good and
 * bad, and of what of them reaches the image.
 */
#include "tests/loopback/blk-rig.h"

#include <endian.h>
#include <errno.h>
#include <sched.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#define IMAGE_SECTORS (BLK_IMAGE_BYTES / BLK_SECTOR)
#define ALL_FEATURES                                                           \
    (RIG_BIT(VIRTIO_BLK_F_FLUSH) | RIG_BIT(VIRTIO_BLK_F_DISCARD) |             \
     RIG_BIT(VIRTIO_BLK_F_WRITE_ZEROES))

#define OK     VIRTIO_BLK_S_OK
#define IOERR  VIRTIO_BLK_S_IOERR
#define UNSUPP VIRTIO_BLK_S_UNSUPP

static const char *const plain[] = {"--serial=disk-0123456789abcde", NULL};
static const char *const threads[] = {"--serial=disk-0123456789abcde",
                                      "--aio=threads", NULL};

static BlkRig *start(gconstpointer options)
{
    BlkRigConfig config = {
        .options = options,
        .rig = {.features = ALL_FEATURES | RIG_BIT(VIRTIO_RING_F_INDIRECT_DESC),
                .queue_size = 256},
    };

    return blk_rig_new(&config);
}

static void fill_image(const BlkRig *blk)
{
    g_autofree uint8_t *data = g_malloc(BLK_IMAGE_BYTES);

    blk_fill(data, BLK_IMAGE_BYTES, 0, 1);
    g_assert_cmpint(pwrite(blk->fd, data, BLK_IMAGE_BYTES, 0), ==,
                    BLK_IMAGE_BYTES);
}

static void check_image(const BlkRig *blk, uint64_t sector, uint64_t num,
                        uint64_t version)
{
    size_t bytes = num * BLK_SECTOR;
    g_autofree uint8_t *expected = g_malloc0(bytes);
    g_autofree uint8_t *data = g_malloc(bytes);

    if (version > 0) {
        blk_fill(expected, bytes, sector, version);
    }
    blk_image_read(blk, sector * BLK_SECTOR, data, bytes);
    g_assert_true(memcmp(data, expected, bytes) == 0);
}

/* ---- one row, one request ---- */

typedef struct Row {
    const char *name;
    uint32_t type;
    uint64_t sector;
    size_t out_bytes; /* zeroes, after the header */
    size_t in_bytes;  /* before the status */
    uint8_t status;
} Row;

static const Row rows[] = {
    {"read", VIRTIO_BLK_T_IN, 0, 0, 4096, OK},
    {"read nothing", VIRTIO_BLK_T_IN, 0, 0, 0, OK},
    {"read the last", VIRTIO_BLK_T_IN, IMAGE_SECTORS - 1, 0, 512, OK},
    {"read of odd size", VIRTIO_BLK_T_IN, 0, 0, 513, IOERR},
    {"read past the end", VIRTIO_BLK_T_IN, IMAGE_SECTORS, 0, 512, IOERR},
    {"read across the end", VIRTIO_BLK_T_IN, IMAGE_SECTORS - 1, 0, 1024, IOERR},
    {"read that overflows", VIRTIO_BLK_T_IN, UINT64_MAX / 512 + 1, 0, 512,
     IOERR},
    {"large read past the end", VIRTIO_BLK_T_IN, IMAGE_SECTORS - 1, 0,
     1024 * 1024, IOERR},
    {"large read", VIRTIO_BLK_T_IN, 1, 0, 2 * 1024 * 1024, OK},
    {"read from the last of all", VIRTIO_BLK_T_IN, UINT64_MAX, 0, 512, IOERR},
    {"write of odd size", VIRTIO_BLK_T_OUT, 0, 100, 0, IOERR},
    {"write past the end", VIRTIO_BLK_T_OUT, IMAGE_SECTORS, 512, 0, IOERR},
    {"write that overflows", VIRTIO_BLK_T_OUT, 1ull << 55, 512, 0, IOERR},
    {"flush", VIRTIO_BLK_T_FLUSH, 0, 0, 0, OK},
    {"discard of nothing", VIRTIO_BLK_T_DISCARD, 0, 0, 0, IOERR},
    {"discard of half", VIRTIO_BLK_T_DISCARD, 0, 8, 0, IOERR},
    {"discard of 17", VIRTIO_BLK_T_DISCARD, 0, 17 * 16, 0, IOERR},
    {"discard of empty ranges", VIRTIO_BLK_T_DISCARD, 0, 16 * 16, 0, OK},
    {"SCSI", 2, 0, 0, 0, UNSUPP},
    {"lifetime", 10, 0, 0, 6, UNSUPP},
    {"secure erase", VIRTIO_BLK_T_SECURE_ERASE, 0, 16, 0, UNSUPP},
    {"zone report", 16, 0, 0, 4096, UNSUPP},
    {"unknown", 0x12345678, 0, 0, 0, UNSUPP},
};

static void test_each_request_is_answered(gconstpointer options)
{
    BlkRig *blk = start(options);

    fill_image(blk);
    for (size_t i = 0; i < G_N_ELEMENTS(rows); i++) {
        for (int framing = 0; framing < 4; framing++) {
            BlkJobConfig job = {
                .type = rows[i].type,
                .sector = rows[i].sector,
                .out_bytes = rows[i].out_bytes,
                .in_bytes = rows[i].in_bytes,
                .framing = framing > 0 ? BLK_FRAMING_RANDOM : BLK_FRAMING_USUAL,
            };

            g_test_message("%s", rows[i].name);
            g_assert_cmphex(blk_do(blk->rig, &job), ==, rows[i].status);
        }
    }
    check_image(blk, 0, IMAGE_SECTORS, 1);
    blk_rig_free(blk);
}

/* What is too malformed to be answered comes back, and the daemon lives. */
static void test_malformed_buffers_come_back(gconstpointer options)
{
    BlkRig *blk = start(options);
    struct virtio_blk_outhdr header = {.type = htole32(VIRTIO_BLK_T_OUT)};
    uint8_t data[512] = {0xff};
    RigRequest *request;
    uint8_t *status;

    /* No status byte. */
    request = rig_request(blk->rig, 0);
    rig_out(request, &header, sizeof(header));
    rig_out(request, data, sizeof(data));
    g_assert_cmpuint(rig_do(request), ==, 0);
    rig_request_free(request);

    /* No header. */
    request = rig_request(blk->rig, 0);
    status = rig_in(request, 1);
    g_assert_cmpuint(rig_do(request), ==, 1);
    g_assert_cmphex(*status, ==, IOERR);
    rig_request_free(request);

    /* Half a header. */
    request = rig_request(blk->rig, 0);
    rig_out(request, &header, 15);
    status = rig_in(request, 1);
    g_assert_cmpuint(rig_do(request), ==, 1);
    g_assert_cmphex(*status, ==, IOERR);
    rig_request_free(request);

    check_image(blk, 0, 8, 0);
    g_assert_cmphex(blk_flush(blk->rig), ==, OK);
    blk_rig_free(blk);
}

static void test_written_data_can_be_read(gconstpointer options)
{
    BlkRig *blk = start(options);
    uint8_t data[8 * BLK_SECTOR];
    uint8_t back[sizeof(data)];

    blk_fill(data, sizeof(data), 100, 7);
    g_assert_cmphex(blk_write(blk->rig, 100, data, sizeof(data)), ==, OK);
    g_assert_cmphex(blk_read(blk->rig, 100, back, sizeof(back)), ==, OK);
    g_assert_cmpmem(back, sizeof(back), data, sizeof(data));
    check_image(blk, 100, 8, 7);
    check_image(blk, 99, 1, 0);
    check_image(blk, 108, 1, 0);
    blk_rig_free(blk);
}

/* Every byte a descriptor of its own. */
static void test_a_sector_may_come_in_bytes(gconstpointer options)
{
    BlkRig *blk = start(options);
    struct virtio_blk_outhdr header = {
        .type = htole32(VIRTIO_BLK_T_OUT),
        .sector = htole64(5),
    };
    uint8_t data[BLK_SECTOR];
    RigRequest *request = rig_request(blk->rig, 0);
    uint8_t *status;

    blk_fill(data, sizeof(data), 5, 3);
    for (size_t i = 0; i < sizeof(header); i++) {
        rig_out(request, (uint8_t *)&header + i, 1);
    }
    for (size_t i = 0; i < 100; i++) {
        rig_out(request, data + i, 1);
    }
    rig_out(request, data + 100, sizeof(data) - 100);
    status = rig_in(request, 1);
    g_assert_cmpuint(rig_do(request), ==, 1);
    g_assert_cmphex(*status, ==, OK);
    rig_request_free(request);
    check_image(blk, 5, 1, 3);
    blk_rig_free(blk);
}

static void test_serial_is_told(gconstpointer options)
{
    BlkRig *blk = start(options);
    BlkJobConfig config = {
        .type = VIRTIO_BLK_T_GET_ID,
        .in_bytes = VIRTIO_BLK_ID_BYTES,
    };
    BlkJob *job = blk_job_new(blk->rig, &config);

    g_assert_cmphex(blk_job_do(job), ==, OK);
    g_assert_cmpmem(job->in, VIRTIO_BLK_ID_BYTES, "disk-0123456789abcde",
                    VIRTIO_BLK_ID_BYTES);
    blk_job_free(job);
    blk_rig_free(blk);
}

/* ---- discard and zeroes ---- */

static uint64_t allocated_bytes(const BlkRig *blk)
{
    struct stat st;

    g_assert_no_errno(fstat(blk->fd, &st));
    g_assert_cmpint(st.st_size, ==, BLK_IMAGE_BYTES);
    return (uint64_t)st.st_blocks * BLK_SECTOR;
}

static struct virtio_blk_discard_write_zeroes
segment(uint64_t sector, uint32_t num, uint32_t flags)
{
    return (struct virtio_blk_discard_write_zeroes){
        .sector = htole64(sector),
        .num_sectors = htole32(num),
        .flags = htole32(flags),
    };
}

static void test_discard_gives_space_back(gconstpointer options)
{
    BlkRig *blk = start(options);
    struct virtio_blk_discard_write_zeroes segments[] = {
        segment(1024, 1024, 0),
        segment(0, 512, 0),
    };
    uint64_t before;

    fill_image(blk);
    g_assert_no_errno(fsync(blk->fd));
    before = allocated_bytes(blk);
    g_assert_cmphex(blk_segments(blk->rig, VIRTIO_BLK_T_DISCARD, segments, 2),
                    ==, OK);
    g_assert_cmpuint(allocated_bytes(blk), <=, before - 1536 * BLK_SECTOR);
    check_image(blk, 512, 512, 1);
    check_image(blk, 2048, IMAGE_SECTORS - 2048, 1);
    blk_rig_free(blk);
}

static void test_zeroes_are_written(gconstpointer options)
{
    BlkRig *blk = start(options);
    struct virtio_blk_discard_write_zeroes segments[] = {
        segment(1, 6, 0),
        segment(2048, 1024, VIRTIO_BLK_WRITE_ZEROES_FLAG_UNMAP),
        segment(IMAGE_SECTORS - 1, 1, 0),
    };
    uint64_t before;

    fill_image(blk);
    g_assert_no_errno(fsync(blk->fd));
    before = allocated_bytes(blk);
    g_assert_cmphex(
        blk_segments(blk->rig, VIRTIO_BLK_T_WRITE_ZEROES, segments, 3), ==, OK);
    check_image(blk, 0, 1, 1);
    check_image(blk, 1, 6, 0);
    check_image(blk, 7, 2041, 1);
    check_image(blk, 2048, 1024, 0);
    check_image(blk, 3072, IMAGE_SECTORS - 3073, 1);
    check_image(blk, IMAGE_SECTORS - 1, 1, 0);
    g_assert_cmpuint(allocated_bytes(blk), <=, before - 1024 * BLK_SECTOR);
    blk_rig_free(blk);
}

typedef struct SegmentRow {
    uint32_t type;
    uint64_t sector;
    uint32_t num;
    uint32_t flags;
    uint8_t status;
} SegmentRow;

static const SegmentRow segment_rows[] = {
    {VIRTIO_BLK_T_DISCARD, 8, 8, 1, UNSUPP},
    {VIRTIO_BLK_T_DISCARD, 8, 8, 2, UNSUPP},
    {VIRTIO_BLK_T_DISCARD, IMAGE_SECTORS, 1, 0, IOERR},
    {VIRTIO_BLK_T_DISCARD, UINT64_MAX, 2, 0, IOERR},
    {VIRTIO_BLK_T_DISCARD, 0, UINT32_MAX, 0, IOERR},
    {VIRTIO_BLK_T_WRITE_ZEROES, 8, 8, 2, UNSUPP},
    {VIRTIO_BLK_T_WRITE_ZEROES, 8, 8, 0x80000001u, UNSUPP},
    {VIRTIO_BLK_T_WRITE_ZEROES, IMAGE_SECTORS - 7, 8, 0, IOERR},
    {VIRTIO_BLK_T_WRITE_ZEROES, UINT64_MAX - 7, 8, 1, IOERR},
};

/* Each as the second segment: the first must not have been carried out. */
static void test_bad_segments_change_nothing(gconstpointer options)
{
    BlkRig *blk = start(options);

    fill_image(blk);
    for (size_t i = 0; i < G_N_ELEMENTS(segment_rows); i++) {
        const SegmentRow *row = &segment_rows[i];
        struct virtio_blk_discard_write_zeroes segments[] = {
            segment(0, 8, 0),
            segment(row->sector, row->num, row->flags),
        };

        g_assert_cmphex(blk_segments(blk->rig, row->type, segments, 2), ==,
                        row->status);
    }
    check_image(blk, 0, IMAGE_SECTORS, 1);
    blk_rig_free(blk);
}

/* ---- read-only ---- */

static void test_read_only_is_enforced(gconstpointer options)
{
    static const char *const words[] = {"--read-only", NULL};
    BlkRigConfig config = {
        .options = words,
        .rig = {.features =
                    RIG_BIT(VIRTIO_BLK_F_RO) | RIG_BIT(VIRTIO_BLK_F_FLUSH)},
    };
    BlkRig *blk = blk_rig_new(&config);
    struct virtio_blk_discard_write_zeroes range = segment(0, 8, 0);
    uint8_t data[BLK_SECTOR] = {0};

    (void)options;
    fill_image(blk);
    g_assert_cmphex(blk_write(blk->rig, 0, data, sizeof(data)), ==, IOERR);
    g_assert_cmphex(blk_segments(blk->rig, VIRTIO_BLK_T_DISCARD, &range, 1), ==,
                    IOERR);
    g_assert_cmphex(
        blk_segments(blk->rig, VIRTIO_BLK_T_WRITE_ZEROES, &range, 1), ==,
        IOERR);
    g_assert_cmphex(blk_flush(blk->rig), ==, OK);
    g_assert_cmphex(blk_read(blk->rig, 0, data, sizeof(data)), ==, OK);
    check_image(blk, 0, IMAGE_SECTORS, 1);
    blk_rig_free(blk);
}

/* ---- the host runs out of room ---- */

static void check_no_room(const BlkRigConfig *config)
{
    BlkRig *blk = blk_rig_new(config);
    size_t bytes = 256 * 1024;
    g_autofree uint8_t *data = g_malloc(bytes);
    g_autofree char *line = NULL;
    unsigned num_failed = 0;

    for (uint64_t at = 0; at < blk->bytes; at += bytes) {
        blk_fill(data, bytes, at / BLK_SECTOR, 1);
        if (blk_write(blk->rig, at / BLK_SECTOR, data, bytes) == IOERR &&
            num_failed++ == 0) {
            line = g_strdup_printf("image '%s': write at %" G_GUINT64_FORMAT
                                   " of 262144 bytes: ",
                                   blk->path, at);
        }
    }
    g_assert_cmpuint(num_failed, >, 0);
    g_assert_cmpuint(num_failed, <, blk->bytes / bytes);
    rig_daemon_expect_error(blk->daemon, line);
    /* What was written before is there, and the daemon serves on. */
    check_image(blk, 0, bytes / BLK_SECTOR, 1);
    g_assert_cmphex(blk_read(blk->rig, 0, data, bytes), ==, OK);
    blk_rig_free(blk);
}

static void test_file_size_limit_is_an_io_error(gconstpointer options)
{
    static const char *const wrapper[] = {
        "sh", "-c", "ulimit -f 2048; exec \"$0\" \"$@\"", NULL};
    BlkRigConfig config = {
        .options = options,
        .wrapper = wrapper,
        .rig = {.features = ALL_FEATURES},
    };

    check_no_room(&config);
}

/* A file system of 2 MiB that only this process and its children see, or
 * NULL. */
static char *mount_small_folder(void)
{
    g_autofree char *folder = g_dir_make_tmp("blk-small-XXXXXX", NULL);

    if (unshare(CLONE_NEWNS) == 0 &&
        mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) == 0 &&
        mount("none", folder, "tmpfs", 0, "size=2m") == 0) {
        return g_steal_pointer(&folder);
    }
    rmdir(folder);
    return NULL;
}

static void test_full_disk_is_an_io_error(gconstpointer options)
{
    g_autofree char *folder = mount_small_folder();
    BlkRigConfig config = {
        .options = options,
        .folder = folder,
        .rig = {.features = ALL_FEATURES},
    };

    if (folder == NULL) {
        g_test_skip("a small file system cannot be mounted");
        return;
    }
    check_no_room(&config);
    g_assert_no_errno(umount(folder));
    rmdir(folder);
}

static const struct {
    const char *name;
    GTestDataFunc fn;
} tests[] = {
    {"each-request-is-answered", test_each_request_is_answered},
    {"malformed-buffers-come-back", test_malformed_buffers_come_back},
    {"written-data-can-be-read", test_written_data_can_be_read},
    {"a-sector-may-come-in-bytes", test_a_sector_may_come_in_bytes},
    {"serial-is-told", test_serial_is_told},
    {"discard-gives-space-back", test_discard_gives_space_back},
    {"zeroes-are-written", test_zeroes_are_written},
    {"bad-segments-change-nothing", test_bad_segments_change_nothing},
    {"read-only-is-enforced", test_read_only_is_enforced},
    {"file-size-limit-is-an-io-error", test_file_size_limit_is_an_io_error},
    {"full-disk-is-an-io-error", test_full_disk_is_an_io_error},
};

int main(int argc, char **argv)
{
    blk_test_init(&argc, &argv);
    for (size_t i = 0; i < G_N_ELEMENTS(tests); i++) {
        g_autofree char *uring =
            g_strdup_printf("/blk/requests/%s", tests[i].name);
        g_autofree char *fallback =
            g_strdup_printf("/blk/requests/threads/%s", tests[i].name);

        g_test_add_data_func(uring, plain, tests[i].fn);
        g_test_add_data_func(fallback, threads, tests[i].fn);
    }
    return g_test_run();
}
