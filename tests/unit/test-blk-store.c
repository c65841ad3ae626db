/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Owns the tests of the stores of vhost-user-blk: that what is submitted to a
 * channel happens to a file, whichever store does it. */
#include "contrib/vhost-user-blk/store.h"

#include "contrib/vhost-user-blk/workers.h"

#include "vhu/clock.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#define FILE_BYTES  (4u * 1024 * 1024)
#define DEADLINE_MS 20000

/* The host can do nothing but read, write and sync. */
static const unsigned no_help =
    BLK_LACKS(BLK_OP_DISCARD, 0) | BLK_LACKS(BLK_OP_ZERO, 0) |
    BLK_LACKS(BLK_OP_ZERO_UNMAP, 0) | BLK_LACKS(BLK_OP_ZERO_UNMAP, 1);

/* A way to run the tests. */
typedef struct Setup {
    const char *name;
    const BlkStoreOps *ops;
    bool direct;
} Setup;

static const Setup setups[] = {
#ifdef BLK_HAVE_IO_URING
    {.name = "io_uring", .ops = &blk_store_uring},
    {.name = "io_uring+direct", .ops = &blk_store_uring, .direct = true},
#endif
    {.name = "threads", .ops = &blk_store_threads},
    {.name = "threads+direct", .ops = &blk_store_threads, .direct = true},
};

typedef struct Fixture {
    char *path;
    int fd; /* our own */
    BlkImage *image;
    VhuLoop *loop;
    BlkChannel *channel;
    unsigned num_batches;
    unsigned num_done;
} Fixture;

typedef struct TestIo {
    BlkIo io;
    Fixture *fixture;
    struct iovec iov[8];
    uint8_t *data;
    bool done;
    int result;
} TestIo;

static void on_done(BlkIo *io, int result)
{
    TestIo *test = (TestIo *)((char *)io - offsetof(TestIo, io));

    g_assert_false(test->done);
    test->done = true;
    test->result = result;
    test->fixture->num_done++;
}

static void on_batch(void *opaque)
{
    Fixture *f = opaque;

    f->num_batches++;
}

static bool open_image(Fixture *f, const BlkImageConfig *config)
{
    g_autoptr(GError) error = NULL;

    f->image = blk_image_open(config, &error);
    return f->image != NULL;
}

/* Returns false if this machine cannot do it. */
static bool set_up(Fixture *f, const Setup *setup)
{
    BlkImageConfig image = {.direct = setup->direct};
    BlkChannelConfig channel = {
        .ops = setup->ops,
        .batch = on_batch,
        .opaque = f,
    };
    int error = setup->ops->probe();

    if (error < 0) {
        g_test_skip(g_strerror(-error));
        return false;
    }
    memset(f, 0, sizeof(*f));
    /* Not in /tmp, which may be a tmpfs without direct I/O. */
    f->path = g_strdup_printf("blk-store-%d.img", getpid());
    f->fd = open(f->path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    g_assert_cmpint(f->fd, >=, 0);
    g_assert_no_errno(ftruncate(f->fd, FILE_BYTES));
    image.path = f->path;
    if (!open_image(f, &image)) {
        g_assert_true(setup->direct);
        g_test_skip("no direct I/O here");
        close(f->fd);
        unlink(f->path);
        g_free(f->path);
        return false;
    }
    f->loop = vhu_loop_new(NULL);
    channel.image = f->image;
    channel.loop = f->loop;
    f->channel = blk_channel_new(&channel, &error);
    g_assert_nonnull(f->channel);
    return true;
}

static void tear_down(Fixture *f)
{
    blk_channel_free(f->channel);
    vhu_loop_free(f->loop);
    blk_image_close(f->image);
    close(f->fd);
    unlink(f->path);
    g_free(f->path);
}

static void fill_io(Fixture *f, TestIo *test, BlkOp op, uint64_t offset,
                    uint64_t size)
{
    memset(test, 0, sizeof(*test));
    test->fixture = f;
    test->io.op = op;
    test->io.offset = offset;
    test->io.size = size;
    test->io.iov = test->iov;
    test->io.num_iov = 1;
    test->io.done = on_done;
    if (op == BLK_OP_READ || op == BLK_OP_WRITE) {
        test->data = g_malloc0(size);
        test->iov[0] = (struct iovec){test->data, size};
    }
}

static void wait_for(Fixture *f, const bool *done)
{
    int64_t deadline = vhu_now_ms() + DEADLINE_MS;

    while (!*done) {
        g_assert_cmpint(vhu_now_ms(), <, deadline);
        vhu_loop_dispatch(f->loop, 100);
    }
}

static int do_io(Fixture *f, TestIo *test)
{
    g_assert_true(blk_channel_has_room(f->channel));
    blk_channel_submit(f->channel, &test->io);
    blk_channel_start(f->channel);
    wait_for(f, &test->done);
    g_free(test->data);
    return test->result;
}

/* Cut the data into pieces at odd places. */
static void cut(TestIo *test)
{
    size_t sizes[] = {1, 0, 511, 7, 1000};
    size_t left = test->io.size;
    uint8_t *at = test->data;
    unsigned n = 0;

    for (unsigned i = 0; i < G_N_ELEMENTS(sizes) && left > sizes[i]; i++) {
        test->iov[n++] = (struct iovec){at, sizes[i]};
        at += sizes[i];
        left -= sizes[i];
    }
    test->iov[n++] = (struct iovec){at, left};
    test->io.num_iov = n;
}

static uint64_t random_range(uint64_t *size)
{
    uint64_t offset = g_test_rand_int_range(0, FILE_BYTES / 512 - 64) * 512ull;

    *size = g_test_rand_int_range(1, 64) * 512ull;
    if (g_test_rand_bit()) {
        offset &= ~4095ull;
        *size = (*size + 4095) & ~4095ull;
    }
    return offset;
}

static void do_random_write(Fixture *f, uint8_t *shadow)
{
    TestIo test;
    uint64_t size;
    uint64_t offset = random_range(&size);

    fill_io(f, &test, BLK_OP_WRITE, offset, size);
    for (uint64_t i = 0; i < size; i++) {
        test.data[i] = (uint8_t)g_test_rand_int();
    }
    memcpy(shadow + offset, test.data, size);
    if (g_test_rand_bit()) {
        cut(&test);
    }
    test.io.stable = g_test_rand_int_range(0, 8) == 0;
    g_assert_cmpint(do_io(f, &test), ==, 0);
}

static void do_random_zeroing(Fixture *f, uint8_t *shadow)
{
    TestIo test;
    uint64_t size;
    uint64_t offset = random_range(&size);

    fill_io(f, &test, g_test_rand_bit() ? BLK_OP_ZERO : BLK_OP_ZERO_UNMAP,
            offset, size);
    memset(shadow + offset, 0, size);
    test.io.stable = g_test_rand_bit();
    g_assert_cmpint(do_io(f, &test), ==, 0);
}

static void do_random_read(Fixture *f, const uint8_t *shadow)
{
    TestIo test;
    uint64_t size;
    uint64_t offset = random_range(&size);
    g_autofree uint8_t *data = NULL;

    fill_io(f, &test, BLK_OP_READ, offset, size);
    data = test.data;
    if (g_test_rand_bit()) {
        cut(&test);
    }
    test.data = NULL;
    g_assert_cmpint(do_io(f, &test), ==, 0);
    g_assert_cmpmem(data, size, shadow + offset, size);
}

static void check_file(Fixture *f, const uint8_t *shadow)
{
    g_autofree uint8_t *contents = g_malloc(FILE_BYTES);

    g_assert_cmpint(pread(f->fd, contents, FILE_BYTES, 0), ==, FILE_BYTES);
    g_assert_true(memcmp(contents, shadow, FILE_BYTES) == 0);
}

static void test_random_io_is_as_in_a_shadow(gconstpointer setup)
{
    g_autofree uint8_t *shadow = g_malloc0(FILE_BYTES);
    Fixture f;
    TestIo test;

    if (!set_up(&f, setup)) {
        return;
    }
    for (unsigned i = 0; i < 300; i++) {
        switch (g_test_rand_int_range(0, 4)) {
        case 0:
            do_random_zeroing(&f, shadow);
            break;
        case 1:
            do_random_read(&f, shadow);
            break;
        default:
            do_random_write(&f, shadow);
        }
    }
    fill_io(&f, &test, BLK_OP_FLUSH, 0, 0);
    g_assert_cmpint(do_io(&f, &test), ==, 0);
    check_file(&f, shadow);
    tear_down(&f);
}

static void test_zeroing_works_where_the_host_helps_not(gconstpointer setup)
{
    g_autofree uint8_t *shadow = g_malloc0(FILE_BYTES);
    Fixture f;

    if (!set_up(&f, setup)) {
        return;
    }
    atomic_store(&f.image->lacking, no_help);
    for (unsigned i = 0; i < 30; i++) {
        do_random_write(&f, shadow);
        do_random_zeroing(&f, shadow);
    }
    check_file(&f, shadow);
    tear_down(&f);
}

static void test_discard_gives_space_back(gconstpointer setup)
{
    Fixture f;
    TestIo test;
    struct stat before;
    struct stat after;

    if (!set_up(&f, setup)) {
        return;
    }
    fill_io(&f, &test, BLK_OP_WRITE, 0, 1024 * 1024);
    memset(test.data, 1, 1024 * 1024);
    test.io.stable = true;
    g_assert_cmpint(do_io(&f, &test), ==, 0);
    g_assert_no_errno(fstat(f.fd, &before));
    fill_io(&f, &test, BLK_OP_DISCARD, 0, 1024 * 1024);
    g_assert_cmpint(do_io(&f, &test), ==, 0);
    g_assert_no_errno(fstat(f.fd, &after));
    g_assert_cmpint(after.st_size, ==, before.st_size);
    if (atomic_load(&f.image->lacking) == 0) {
        g_assert_cmpint(after.st_blocks, <, before.st_blocks);
    }
    tear_down(&f);
}

static void test_depth_is_bounded_and_all_end(gconstpointer setup)
{
    Fixture f;
    g_autofree TestIo *tests = g_new(TestIo, BLK_CHANNEL_DEPTH);
    unsigned num = 0;

    if (!set_up(&f, setup)) {
        return;
    }
    while (blk_channel_has_room(f.channel)) {
        g_assert_cmpuint(num, <, BLK_CHANNEL_DEPTH);
        fill_io(&f, &tests[num], BLK_OP_WRITE, 4096 * num, 4096);
        cut(&tests[num]);
        blk_channel_submit(f.channel, &tests[num].io);
        num++;
    }
    g_assert_cmpuint(num, ==,
                     f.image->direct ? BLK_CHANNEL_BOUNCES : BLK_CHANNEL_DEPTH);
    g_assert_cmpuint(blk_channel_running(f.channel) + f.num_done, ==, num);
    blk_channel_start(f.channel);
    for (unsigned i = 0; i < num; i++) {
        wait_for(&f, &tests[i].done);
        g_assert_cmpint(tests[i].result, ==, 0);
        g_free(tests[i].data);
    }
    g_assert_cmpuint(blk_channel_running(f.channel), ==, 0);
    g_assert_true(blk_channel_has_room(f.channel));
    tear_down(&f);
}

static void test_cancelled_io_ends(gconstpointer setup)
{
    Fixture f;
    g_autofree TestIo *tests = g_new(TestIo, BLK_CHANNEL_DEPTH);
    unsigned num = 0;
    unsigned num_cancelled = 0;

    if (!set_up(&f, setup)) {
        return;
    }
    for (; blk_channel_has_room(f.channel); num++) {
        fill_io(&f, &tests[num], BLK_OP_WRITE, 4096 * num, 4096);
        tests[num].io.stable = true;
        blk_channel_submit(f.channel, &tests[num].io);
    }
    blk_channel_start(f.channel);
    blk_channel_cancel(f.channel);
    for (unsigned i = 0; i < num; i++) {
        wait_for(&f, &tests[i].done);
        g_assert_true(tests[i].result == 0 || tests[i].result == -ECANCELED);
        num_cancelled += tests[i].result == -ECANCELED;
        g_free(tests[i].data);
    }
    g_test_message("%u of %u were cut short", num_cancelled, num);
    g_assert_cmpuint(blk_channel_running(f.channel), ==, 0);
    tear_down(&f);
}

static void test_long_io_is_cut_short(gconstpointer setup)
{
    Fixture f;
    TestIo test;

    if (!set_up(&f, setup)) {
        return;
    }
    /* Zeroing by writing takes a step per 8 MiB: one cannot be cut. */
    atomic_store(&f.image->lacking, no_help);
    g_assert_no_errno(ftruncate(f.fd, 256 * 1024 * 1024));
    fill_io(&f, &test, BLK_OP_ZERO, 0, 64 * 1024 * 1024);
    blk_channel_submit(f.channel, &test.io);
    blk_channel_cancel(f.channel);
    wait_for(&f, &test.done);
    g_assert_cmpint(test.result, ==, -ECANCELED);
    tear_down(&f);
}

static void test_read_past_the_end_fails(gconstpointer setup)
{
    Fixture f;
    TestIo test;

    if (!set_up(&f, setup)) {
        return;
    }
    g_assert_no_errno(ftruncate(f.fd, 4096));
    fill_io(&f, &test, BLK_OP_READ, 0, 8192);
    g_assert_cmpint(do_io(&f, &test), ==, -EIO);
    fill_io(&f, &test, BLK_OP_READ, 8192, 4096);
    g_assert_cmpint(do_io(&f, &test), ==, -EIO);
    tear_down(&f);
}

static void test_results_come_in_batches(gconstpointer setup)
{
    Fixture f;
    TestIo test;

    if (!set_up(&f, setup)) {
        return;
    }
    fill_io(&f, &test, BLK_OP_FLUSH, 0, 0);
    g_assert_cmpint(do_io(&f, &test), ==, 0);
    g_assert_cmpuint(f.num_batches, >=, 1);
    tear_down(&f);
}

static const struct {
    const char *name;
    GTestDataFunc fn;
} store_tests[] = {
    {"random-io-is-as-in-a-shadow", test_random_io_is_as_in_a_shadow},
    {"zeroing-works-where-the-host-helps-not",
     test_zeroing_works_where_the_host_helps_not},
    {"discard-gives-space-back", test_discard_gives_space_back},
    {"depth-is-bounded-and-all-end", test_depth_is_bounded_and_all_end},
    {"cancelled-io-ends", test_cancelled_io_ends},
    {"long-io-is-cut-short", test_long_io_is_cut_short},
    {"read-past-the-end-fails", test_read_past_the_end_fails},
    {"results-come-in-batches", test_results_come_in_batches},
};

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    for (unsigned i = 0; i < G_N_ELEMENTS(setups); i++) {
        for (unsigned j = 0; j < G_N_ELEMENTS(store_tests); j++) {
            g_autofree char *path = g_strdup_printf(
                "/blk/store/%s/%s", setups[i].name, store_tests[j].name);

            g_test_add_data_func(path, &setups[i], store_tests[j].fn);
        }
    }
    return g_test_run();
}
