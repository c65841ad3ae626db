/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Owns the tests of what vhost-user-blk tells of its disk, of the cache mode
 * and of a disk that changes its size.
 */
#include "tests/loopback/blk-rig.h"

#include <endian.h>
#include <errno.h>
#include <linux/magic.h>
#include <signal.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/vfs.h>
#include <unistd.h>

#ifndef SYS_cachestat
#define SYS_cachestat 451
#endif

#define WRITEBACK_AT 32u /* in configuration space */

#define OK    VIRTIO_BLK_S_OK
#define IOERR VIRTIO_BLK_S_IOERR

static BlkRig *start(const char *const *options, uint64_t features)
{
    BlkRigConfig config = {
        .options = options,
        .rig = {.features = features},
    };

    return blk_rig_new(&config);
}

static uint64_t get_le(Rig *rig, uint32_t offset, unsigned bytes)
{
    uint8_t data[8] = {0};
    uint64_t value;

    rig_get_config(rig, offset, data, bytes);
    memcpy(&value, data, sizeof(value));
    return le64toh(value);
}

static uint64_t capacity(Rig *rig)
{
    return get_le(rig, 0, 8);
}

/* Offsets of VIRTIO 1.4, "Block Device", "Device configuration layout". */
static void test_options_show_in_configuration_space(void)
{
    static const char *const options[] = {"--num-queues=3", "--queue-size=64",
                                          "--block-size=4096", NULL};
    BlkRigConfig config = {
        .options = options,
        .image_bytes = 1024 * 1024 + 4095,
        .rig = {.features = RIG_BIT(VIRTIO_BLK_F_MQ), .num_queues = 3},
    };
    BlkRig *blk = blk_rig_new(&config);

    g_assert_cmpuint(capacity(blk->rig), ==, 2048);
    g_assert_cmpuint(get_le(blk->rig, 12, 4), ==, 62);   /* seg_max */
    g_assert_cmpuint(get_le(blk->rig, 20, 4), ==, 4096); /* blk_size */
    g_assert_cmpuint(get_le(blk->rig, 34, 2), ==, 3);    /* num_queues */
    g_assert_cmpuint(get_le(blk->rig, 36, 4), >, 0);     /* max discard */
    g_assert_cmpuint(get_le(blk->rig, 40, 4), >, 1);     /* its segments */
    g_assert_cmpuint(get_le(blk->rig, 48, 4), >, 0);     /* max zeroes */
    g_assert_cmpuint(get_le(blk->rig, 56, 1), ==, 1);    /* may unmap */
    blk_rig_free(blk);
}

static void check_fails(const char *const *options, int status, const char *why)
{
    g_autoptr(GPtrArray) argv = g_ptr_array_new();
    RigDaemon *daemon;

    g_ptr_array_add(argv, (void *)blk_program());
    g_ptr_array_add(argv, "--socket-path=/nowhere/blk.sock");
    for (; *options != NULL; options++) {
        g_ptr_array_add(argv, (void *)*options);
    }
    g_ptr_array_add(argv, NULL);
    daemon = rig_daemon_run((const char *const *)argv->pdata);
    g_assert_cmpint(rig_daemon_wait(daemon, BLK_DEADLINE_MS), ==, status);
    g_test_message("%s", rig_daemon_errors(daemon));
    g_assert_nonnull(strstr(rig_daemon_errors(daemon), why));
    g_assert_cmpint(strstr(rig_daemon_errors(daemon), "(see --help)") != NULL,
                    ==, status == 2);
    rig_daemon_free(daemon);
}

static void test_what_cannot_be_had_ends_the_daemon(void)
{
    static const char *const rows[][2] = {
        {"--blk-file=/nowhere", "/nowhere"},
        {"--blk-file=/dev/null", "neither a file nor"},
        {"--blk-file=/dev/zero", "neither a file nor"},
    };

    for (size_t i = 0; i < G_N_ELEMENTS(rows); i++) {
        const char *const options[] = {rows[i][0], NULL};

        check_fails(options, 1, rows[i][1]);
    }
    /* It has no direct I/O, and is a regular file. */
    check_fails((const char *const[]){"--direct", "--read-only", "--no-lock",
                                      "--blk-file=/proc/self/status", NULL},
                1, "direct I/O");
}

static void test_a_wrong_command_line_is_told(void)
{
    static const char *const rows[][2] = {
        {"--block-size=1000", "not a power of two"},
        {"--block-size=256", "--block-size=256"},
        {"--block-size=8192", "--block-size=8192"},
        {"--serial=012345678901234567890", "21 characters"},
        {"--serial=\xc3\xa4", "ASCII"},
        {"--queue-size=3", "--queue-size=3"},
        {"--num-queues=0", "--num-queues=0"},
        {"--aio=posix", "--aio=posix"},
    };

    check_fails((const char *const[]){NULL}, 2, "blk-file");
    for (size_t i = 0; i < G_N_ELEMENTS(rows); i++) {
        const char *const options[] = {rows[i][0], "--blk-file=/nowhere", NULL};

        check_fails(options, 2, rows[i][1]);
    }
}

static void test_an_image_in_use_is_refused(void)
{
    BlkRigConfig config = {0};
    BlkRig *blk = blk_rig_new_daemon(&config);
    g_autofree char *file = g_strdup_printf("--blk-file=%s", blk->path);
    const char *const options[] = {file, NULL};

    check_fails(options, 1, "another process uses it");
    blk_rig_free(blk);
}

static void test_a_signal_ends_the_wait_for_an_image(void)
{
    BlkRigConfig config = {0};
    BlkRig *blk = blk_rig_new_daemon(&config);
    g_autofree char *file = g_strdup_printf("--blk-file=%s", blk->path);
    const char *const argv[] = {blk_program(), "--socket-path=/nowhere/socket",
                                file, NULL};
    RigDaemon *second = rig_daemon_run(argv);

    rig_daemon_expect_error(second, "waiting for the lock");
    rig_daemon_signal(second, SIGTERM);
    g_assert_cmpint(rig_daemon_wait(second, BLK_DEADLINE_MS), ==, 0);
    /* Not the alarm, which says nothing. */
    rig_daemon_expect_error(second, "ending: Terminated");
    rig_daemon_free(second);
    blk_rig_free(blk);
}

/* ---- cache mode ---- */

#define FLUSH RIG_BIT(VIRTIO_BLK_F_FLUSH)
#define WCE   RIG_BIT(VIRTIO_BLK_F_CONFIG_WCE)

static void test_writeback_begins_as_negotiated(void)
{
    static const struct {
        uint64_t features;
        uint8_t writeback;
    } rows[] = {{FLUSH | WCE, 1}, {WCE, 0}, {FLUSH, 1}, {0, 1}};

    for (size_t i = 0; i < G_N_ELEMENTS(rows); i++) {
        BlkRig *blk = start(NULL, rows[i].features);

        g_assert_cmpuint(get_le(blk->rig, WRITEBACK_AT, 1), ==,
                         rows[i].writeback);
        blk_rig_free(blk);
    }
}

static void test_only_writeback_can_be_written(void)
{
    BlkRig *blk = start(NULL, FLUSH | WCE);
    uint8_t config[60];
    uint8_t value = 0;
    uint8_t two = 2;

    rig_get_config(blk->rig, 0, config, sizeof(config));
    for (uint32_t at = 0; at < sizeof(config); at++) {
        uint8_t other = config[at] ^ 0x80;

        if (at != WRITEBACK_AT) {
            g_assert_cmpint(rig_set_config(blk->rig, at, &other, 1), ==,
                            -EREMOTEIO);
        }
    }
    g_assert_cmpint(rig_set_config(blk->rig, WRITEBACK_AT, &two, 1), ==,
                    -EREMOTEIO);
    g_assert_cmpint(rig_set_config(blk->rig, WRITEBACK_AT, &value, 1), ==, 0);
    g_assert_cmpuint(get_le(blk->rig, WRITEBACK_AT, 1), ==, 0);

    /* The whole, with nothing else changed. */
    config[WRITEBACK_AT] = 1;
    g_assert_cmpint(rig_set_config(blk->rig, 0, config, sizeof(config)), ==, 0);
    g_assert_cmpuint(get_le(blk->rig, WRITEBACK_AT, 1), ==, 1);
    config[WRITEBACK_AT] = 0;
    config[0] ^= 1;
    g_assert_cmpint(rig_set_config(blk->rig, 0, config, sizeof(config)), ==,
                    -EREMOTEIO);
    g_assert_cmpuint(get_le(blk->rig, WRITEBACK_AT, 1), ==, 1);
    blk_rig_free(blk);
}

static void test_writeback_is_fixed_without_config_wce(void)
{
    BlkRig *blk = start(NULL, FLUSH);
    uint8_t value = 0;

    g_assert_cmpint(rig_set_config(blk->rig, WRITEBACK_AT, &value, 1), ==,
                    -EREMOTEIO);
    g_assert_cmpuint(get_le(blk->rig, WRITEBACK_AT, 1), ==, 1);
    blk_rig_free(blk);
}

/* Pages of the image the kernel has not written back; or skips the test. */
static bool count_dirty(const BlkRig *blk, uint64_t *dirty)
{
    struct {
        uint64_t offset;
        uint64_t bytes;
    } range = {0, BLK_IMAGE_BYTES};
    uint64_t stat[5];
    struct statfs fs;

    g_assert_no_errno(fstatfs(blk->fd, &fs));
    if (fs.f_type == TMPFS_MAGIC ||
        syscall(SYS_cachestat, blk->fd, &range, stat, 0) < 0) {
        g_test_skip("this host does not tell what is stable");
        return false;
    }
    *dirty = stat[1];
    return true;
}

/* What a write of @data leaves in the host's cache. */
static bool check_write(BlkRig *blk, bool stable)
{
    uint8_t data[8 * BLK_SECTOR];
    struct virtio_blk_discard_write_zeroes range = {
        .sector = htole64(64),
        .num_sectors = htole32(3),
    };
    uint64_t dirty;

    g_assert_no_errno(fsync(blk->fd));
    blk_fill(data, sizeof(data), 0, 1);
    g_assert_cmphex(blk_write(blk->rig, 64, data, sizeof(data)), ==, OK);
    if (!count_dirty(blk, &dirty)) {
        return false;
    }
    g_assert_true((dirty == 0) == stable);
    if (rig_features(blk->rig) & RIG_BIT(VIRTIO_BLK_F_WRITE_ZEROES)) {
        g_assert_cmphex(
            blk_segments(blk->rig, VIRTIO_BLK_T_WRITE_ZEROES, &range, 1), ==,
            OK);
        count_dirty(blk, &dirty);
        g_assert_true(!stable || dirty == 0);
    }
    g_assert_cmphex(blk_flush(blk->rig), ==, OK);
    count_dirty(blk, &dirty);
    g_assert_cmpuint(dirty, ==, 0);
    return true;
}

static const char *const uring[] = {NULL};
static const char *const threads[] = {"--aio=threads", NULL};

/* Nobody tells a new daemon what the driver wrote to the one before: writes
 * are stable until the driver flushes, which it does with write-back only. */
static void test_new_daemon_is_careful(gconstpointer options)
{
    BlkRig *blk = start(options, FLUSH | WCE);
    uint8_t data[BLK_SECTOR] = {0};

    g_assert_cmphex(blk_write(blk->rig, 0, data, sizeof(data)), ==, OK);
    rig_daemon_kill(blk->daemon);
    rig_wait_closed(blk->rig, NULL);
    rig_daemon_respawn(blk->daemon);
    rig_reconnect(blk->rig, rig_daemon_socket(blk->daemon));
    if (check_write(blk, true)) {
        check_write(blk, false);
    }
    blk_rig_free(blk);
}

/* VIRTIO 1.4, "Block Device", "Device Operation": when a write is stable. */
static void test_writes_are_stable_when_they_must_be(gconstpointer options)
{
    static const struct {
        uint64_t features;
        bool stable;
    } rows[] = {
        {RIG_BIT(VIRTIO_BLK_F_WRITE_ZEROES), true},
        {WCE | RIG_BIT(VIRTIO_BLK_F_WRITE_ZEROES), true},
        {FLUSH, false},
        {FLUSH | WCE, false},
    };

    for (size_t i = 0; i < G_N_ELEMENTS(rows); i++) {
        BlkRig *blk = start(options, rows[i].features);
        bool goes_on = check_write(blk, rows[i].stable);

        blk_rig_free(blk);
        if (!goes_on) {
            return;
        }
    }
}

static void test_switching_writeback_takes_effect(gconstpointer options)
{
    BlkRig *blk = start(options, FLUSH | WCE);

    for (uint8_t value = 0; value < 2; value++) {
        g_assert_cmpint(rig_set_config(blk->rig, WRITEBACK_AT, &value, 1), ==,
                        0);
        if (!check_write(blk, value == 0)) {
            break;
        }
    }
    blk_rig_free(blk);
}

/* ---- size ---- */

static void resize(BlkRig *blk, uint64_t sectors)
{
    unsigned seen = rig_config_changes(blk->rig);

    g_assert_no_errno(ftruncate(blk->fd, (off_t)(sectors * BLK_SECTOR)));
    rig_wait_config_change(blk->rig, seen);
    g_assert_cmpuint(capacity(blk->rig), ==, sectors);
}

static void test_a_new_size_is_told(gconstpointer options)
{
    BlkRig *blk = start(options, FLUSH);
    uint64_t before = BLK_IMAGE_BYTES / BLK_SECTOR;
    uint8_t data[BLK_SECTOR];

    blk_fill(data, sizeof(data), 0, 9);
    g_assert_cmpuint(capacity(blk->rig), ==, before);
    g_assert_cmphex(blk_write(blk->rig, before, data, sizeof(data)), ==, IOERR);
    resize(blk, before + 100);
    g_assert_cmphex(blk_write(blk->rig, before + 99, data, sizeof(data)), ==,
                    OK);
    g_assert_cmphex(blk_write(blk->rig, before + 100, data, sizeof(data)), ==,
                    IOERR);
    resize(blk, 8);
    g_assert_cmphex(blk_read(blk->rig, 7, data, sizeof(data)), ==, OK);
    g_assert_cmphex(blk_read(blk->rig, 8, data, sizeof(data)), ==, IOERR);
    blk_rig_free(blk);
}

/* Before the daemon has noticed that the file is shorter, too. */
static void test_reads_past_a_shrunk_end_fail(gconstpointer options)
{
    BlkRig *blk = start(options, FLUSH);
    uint8_t data[2 * BLK_SECTOR];

    g_assert_no_errno(ftruncate(blk->fd, 9 * BLK_SECTOR));
    memset(data, 0xff, sizeof(data));
    g_assert_cmphex(blk_read(blk->rig, 8, data, sizeof(data)), ==, IOERR);
    g_assert_cmphex(data[0], ==, 0);
    g_assert_cmphex(data[sizeof(data) - 1], ==, 0);
    g_assert_cmphex(blk_read(blk->rig, 8, data, BLK_SECTOR), ==, OK);
    blk_rig_free(blk);
}

static void test_every_front_end_is_told(void)
{
    BlkRigConfig config = {0};
    BlkRig *blk = blk_rig_new(&config);
    Rig *other = rig_new(&config.rig);

    rig_connect(other, rig_daemon_socket(blk->daemon));
    rig_start(other);
    resize(blk, 16);
    rig_wait_config_change(other, 0);
    g_assert_cmpuint(capacity(other), ==, 16);
    rig_free(other);
    blk_rig_free(blk);
}

static void add_both(const char *name, GTestDataFunc fn)
{
    g_autofree char *first = g_strdup_printf("/blk/%s", name);
    g_autofree char *second = g_strdup_printf("/blk/threads/%s", name);

    g_test_add_data_func(first, uring, fn);
    g_test_add_data_func(second, threads, fn);
}

int main(int argc, char **argv)
{
    blk_test_init(&argc, &argv);
    g_test_add_func("/blk/options-show-in-configuration-space",
                    test_options_show_in_configuration_space);
    g_test_add_func("/blk/what-cannot-be-had-ends-the-daemon",
                    test_what_cannot_be_had_ends_the_daemon);
    g_test_add_func("/blk/a-wrong-command-line-is-told",
                    test_a_wrong_command_line_is_told);
    g_test_add_func("/blk/an-image-in-use-is-refused",
                    test_an_image_in_use_is_refused);
    g_test_add_func("/blk/a-signal-ends-the-wait-for-an-image",
                    test_a_signal_ends_the_wait_for_an_image);
    g_test_add_func("/blk/writeback-begins-as-negotiated",
                    test_writeback_begins_as_negotiated);
    g_test_add_func("/blk/only-writeback-can-be-written",
                    test_only_writeback_can_be_written);
    g_test_add_func("/blk/writeback-is-fixed-without-config-wce",
                    test_writeback_is_fixed_without_config_wce);
    add_both("writes-are-stable-when-they-must-be",
             test_writes_are_stable_when_they_must_be);
    add_both("a-new-daemon-is-careful", test_new_daemon_is_careful);
    add_both("switching-writeback-takes-effect",
             test_switching_writeback_takes_effect);
    add_both("a-new-size-is-told", test_a_new_size_is_told);
    add_both("reads-past-a-shrunk-end-fail", test_reads_past_a_shrunk_end_fail);
    g_test_add_func("/blk/every-front-end-is-told",
                    test_every_front_end_is_told);
    return g_test_run();
}
