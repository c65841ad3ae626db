/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Owns the tests of the image of vhost-user-blk: what may be served, its
 * lock and size, and what drivers are told of it. */
#include "contrib/vhost-user-blk/config.h"

#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

typedef struct Fixture {
    char *path;
    int fd;
    BlkImageConfig config;
} Fixture;

static void set_up(Fixture *f, gconstpointer data)
{
    g_autoptr(GError) error = NULL;

    (void)data;
    f->fd = g_file_open_tmp("blk-image-XXXXXX", &f->path, &error);
    g_assert_no_error(error);
    g_assert_no_errno(ftruncate(f->fd, 1024 * 1024));
    f->config.path = f->path;
}

static void tear_down(Fixture *f, gconstpointer data)
{
    (void)data;
    close(f->fd);
    unlink(f->path);
    g_free(f->path);
}

static BlkImage *open_image(const Fixture *f)
{
    g_autoptr(GError) error = NULL;
    BlkImage *image = blk_image_open(&f->config, &error);

    g_assert_no_error(error);
    return image;
}

static void check_refused(const Fixture *f, const char *why)
{
    g_autoptr(GError) error = NULL;

    g_assert_null(blk_image_open(&f->config, &error));
    g_assert_nonnull(error);
    g_assert_nonnull(strstr(error->message, why));
}

static void test_writers_exclude_others(Fixture *f, gconstpointer data)
{
    BlkImage *image = open_image(f);

    (void)data;
    check_refused(f, "another process uses it");
    f->config.read_only = true;
    check_refused(f, "another process writes to it");
    f->config.without_lock = true;
    blk_image_close(open_image(f));
    blk_image_close(image);
    f->config.without_lock = false;
    blk_image_close(open_image(f));
}

static void test_readers_share_an_image(Fixture *f, gconstpointer data)
{
    BlkImage *first;

    (void)data;
    f->config.read_only = true;
    first = open_image(f);
    blk_image_close(open_image(f));
    f->config.read_only = false;
    check_refused(f, "another process uses it");
    blk_image_close(first);
}

static gpointer open_in_thread(gpointer data)
{
    return open_image(data);
}

static unsigned count_fds(const char *path)
{
    g_autoptr(GDir) dir = g_dir_open("/proc/self/fd", 0, NULL);
    const char *name;
    unsigned num = 0;

    while ((name = g_dir_read_name(dir)) != NULL) {
        g_autofree char *link = g_build_filename("/proc/self/fd", name, NULL);
        g_autofree char *target = g_file_read_link(link, NULL);

        num += g_strcmp0(target, path) == 0;
    }
    return num;
}

static void test_a_former_user_is_waited_for(Fixture *f, gconstpointer data)
{
    BlkImage *image = open_image(f);
    unsigned num_fds = count_fds(f->path);
    GThread *thread;

    (void)data;
    f->config.lock_wait_ms = 10000;
    thread = g_thread_new(NULL, open_in_thread, f);
    while (count_fds(f->path) == num_fds) {
        g_thread_yield();
    }
    blk_image_close(image);
    blk_image_close(g_thread_join(thread));
}

static void test_odd_files_are_refused(Fixture *f, gconstpointer data)
{
    static const struct {
        const char *path;
        const char *why;
    } rows[] = {
        {"/nowhere/at/all", "--blk-file=/nowhere/at/all: No such file"},
        {"/dev/null", "neither a file nor a block device"},
        {"/", "--blk-file=/: "},
    };

    (void)data;
    for (unsigned i = 0; i < G_N_ELEMENTS(rows); i++) {
        f->config.path = rows[i].path;
        check_refused(f, rows[i].why);
    }
}

static void test_a_fifo_does_not_hang_us(Fixture *f, gconstpointer data)
{
    (void)data;
    unlink(f->path);
    g_assert_no_errno(mkfifo(f->path, 0600));
    check_refused(f, "neither a file nor a block device");
}

static void check_sectors(const BlkImage *image, uint64_t expected)
{
    uint64_t sectors;

    g_assert_cmpint(blk_image_sectors(image, &sectors), ==, 0);
    g_assert_cmpuint(sectors, ==, expected);
}

static void test_size_is_in_whole_blocks(Fixture *f, gconstpointer data)
{
    BlkImage *image = open_image(f);

    (void)data;
    check_sectors(image, 2048);
    g_assert_no_errno(ftruncate(f->fd, 4096 * 3 + 1023));
    check_sectors(image, 25);
    g_assert_no_errno(ftruncate(f->fd, 511));
    check_sectors(image, 0);
    blk_image_close(image);

    f->config.block_bytes = 4096;
    image = open_image(f);
    g_assert_no_errno(ftruncate(f->fd, 4096 * 3 + 1023));
    check_sectors(image, 24);
    blk_image_close(image);
}

/* ---- what drivers are told ---- */

#define BIT(feature) (1ULL << (feature))
#define WRITE_FEATURES                                                         \
    (BIT(VIRTIO_BLK_F_DISCARD) | BIT(VIRTIO_BLK_F_WRITE_ZEROES))

static void test_read_only_is_told(Fixture *f, gconstpointer data)
{
    BlkImage *image = open_image(f);
    uint64_t features = blk_config_features(image);

    (void)data;
    g_assert_cmphex(features & WRITE_FEATURES, ==, WRITE_FEATURES);
    g_assert_cmphex(features & BIT(VIRTIO_BLK_F_RO), ==, 0);
    g_assert_cmphex(features & BIT(VIRTIO_BLK_F_CONFIG_WCE), !=, 0);
    g_assert_cmphex(features & BIT(VIRTIO_BLK_F_FLUSH), !=, 0);
    blk_image_close(image);

    f->config.read_only = true;
    image = open_image(f);
    features = blk_config_features(image);
    g_assert_cmphex(features & WRITE_FEATURES, ==, 0);
    g_assert_cmphex(features & BIT(VIRTIO_BLK_F_RO), !=, 0);
    blk_image_close(image);
}

/* The layout of VIRTIO 1.4, "Block Device", "Device configuration layout". */
static void test_configuration_is_laid_out_as_specified(void)
{
    static const uint8_t expected[BLK_CONFIG_BYTES] = {
        0x44, 0x33, 0x22, 0x11, 0, 0, 0, 0, /* capacity */
        0,    0,    0,    0,                /* size_max */
        0x7e, 0,    0,    0,                /* seg_max */
        0,    0,    0,    0,                /* geometry */
        0x00, 0x04, 0,    0,                /* blk_size 1024 */
        2,                                  /* physical_block_exp */
        3,                                  /* alignment_offset */
        8,    0,                            /* min_io_size */
        0x40, 0,    0,    0,                /* opt_io_size */
        1,                                  /* writeback */
        0,                                  /* unused0 */
        5,    0,                            /* num_queues */
        0,    0,    0x40, 0,                /* max_discard_sectors */
        16,   0,    0,    0,                /* max_discard_seg */
        16,   0,    0,    0,                /* discard_sector_alignment */
        0,    0,    4,    0,                /* max_write_zeroes_sectors */
        16,   0,    0,    0,                /* max_write_zeroes_seg */
        1,                                  /* write_zeroes_may_unmap */
        0,
    };
    BlkImage image = {
        .block_bytes = 1024,
        .physical_bytes = 4096,
        .discard_bytes = 8192,
        .align_bytes = 3072,
        .min_io_bytes = 8192,
        .opt_io_bytes = 65536,
    };
    BlkConfigFacts facts = {
        .sectors = 0x11223344,
        .seg_max = 126,
        .num_queues = 5,
        .writeback = true,
    };
    uint8_t config[BLK_CONFIG_BYTES];

    blk_config_fill(&image, &facts, config);
    g_assert_cmpmem(config, sizeof(config), expected, sizeof(expected));
    g_assert_cmpuint(BLK_CONFIG_WRITEBACK, ==, 32);
}

#define ADD(path, fn)                                                          \
    g_test_add("/blk/image/" path, Fixture, NULL, set_up, fn, tear_down)

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    ADD("writers-exclude-others", test_writers_exclude_others);
    ADD("readers-share-it", test_readers_share_an_image);
    ADD("a-former-user-is-waited-for", test_a_former_user_is_waited_for);
    ADD("odd-files-are-refused", test_odd_files_are_refused);
    ADD("a-fifo-does-not-hang-us", test_a_fifo_does_not_hang_us);
    ADD("size-is-in-whole-blocks", test_size_is_in_whole_blocks);
    ADD("read-only-is-told", test_read_only_is_told);
    g_test_add_func("/blk/config/is-laid-out-as-specified",
                    test_configuration_is_laid_out_as_specified);
    return g_test_run();
}
