/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Owns the tests of contrib/vhost-user-blk/io: which steps an I/O takes, and
 * what their results lead to. The steps are not carried out. */
#include "contrib/vhost-user-blk/io.h"

#include <errno.h>
#include <linux/falloc.h>
#include <linux/fs.h>
#include <string.h>

#define CACHED_FD 7
#define DIRECT_FD 8

static const BlkImage cached_image = {
    .fd = CACHED_FD,
    .cached_fd = CACHED_FD,
    .memory_align = 1,
    .range_align = 1,
};

static const BlkImage direct_image = {
    .fd = DIRECT_FD,
    .cached_fd = CACHED_FD,
    .direct = true,
    .memory_align = 512,
    .range_align = 4096,
};

static const BlkImage device_image = {
    .fd = CACHED_FD,
    .cached_fd = CACHED_FD,
    .is_device = true,
    .memory_align = 1,
    .range_align = 1,
};

typedef struct Fixture {
    BlkImage image;
    BlkIo io;
    struct iovec iov[2 * BLK_WINDOW];
    uint8_t *data; /* aligned to a page */
} Fixture;

static void set_up(Fixture *f, const BlkImage *image, BlkOp op, uint64_t size)
{
    memset(f, 0, sizeof(*f));
    f->image = *image;
    f->data = g_aligned_alloc0(1, MAX(size, 4096), 4096);
    f->iov[0] = (struct iovec){.iov_base = f->data, .iov_len = size};
    f->io.op = op;
    f->io.offset = 8192;
    f->io.size = size;
    f->io.iov = f->iov;
    f->io.num_iov = 1;
}

static void tear_down(Fixture *f)
{
    g_aligned_free(f->data);
}

static void begin(Fixture *f)
{
    g_assert_cmpint(blk_io_begin(&f->image, &f->io), ==, BLK_NEXT_STEP);
}

static void advance(Fixture *f, int64_t result)
{
    g_assert_cmpint(blk_io_advance(&f->image, &f->io, result), ==,
                    BLK_NEXT_STEP);
}

static void finish(Fixture *f, int64_t result, int expected)
{
    g_assert_cmpint(blk_io_advance(&f->image, &f->io, result), ==,
                    BLK_NEXT_DONE);
    g_assert_cmpint(f->io.result, ==, expected);
}

static void check_transfer(const Fixture *f, BlkCall call, uint64_t offset,
                           uint64_t size)
{
    uint64_t sum = 0;

    g_assert_cmpint(f->io.step.call, ==, call);
    g_assert_cmpuint(f->io.step.offset, ==, offset);
    g_assert_cmpuint(f->io.step.size, ==, size);
    for (uint32_t i = 0; i < f->io.step.num_iov; i++) {
        sum += f->io.window[i].iov_len;
    }
    g_assert_cmpuint(sum, ==, size);
}

static void test_short_transfer_is_continued(void)
{
    Fixture f;

    set_up(&f, &cached_image, BLK_OP_READ, 4096);
    begin(&f);
    check_transfer(&f, BLK_CALL_READ, 8192, 4096);
    advance(&f, 1000);
    check_transfer(&f, BLK_CALL_READ, 9192, 3096);
    g_assert_true(f.io.window[0].iov_base == f.data + 1000);
    advance(&f, 1);
    check_transfer(&f, BLK_CALL_READ, 9193, 3095);
    finish(&f, 3095, 0);
    tear_down(&f);
}

static void test_skipped_and_empty_pieces_are_left_out(void)
{
    Fixture f;

    set_up(&f, &cached_image, BLK_OP_WRITE, 4096);
    f.iov[0].iov_len = 10;
    f.iov[1] = (struct iovec){.iov_base = f.data + 10, .iov_len = 0};
    f.iov[2] = (struct iovec){.iov_base = f.data + 10, .iov_len = 600};
    f.io.num_iov = 3;
    f.io.iov_skip = 16;
    f.io.size = 512;
    begin(&f);
    check_transfer(&f, BLK_CALL_WRITE, 8192, 512);
    g_assert_cmpuint(f.io.step.num_iov, ==, 1);
    g_assert_true(f.io.window[0].iov_base == f.data + 16);
    finish(&f, 512, 0);
    tear_down(&f);
}

static void test_many_pieces_take_several_steps(void)
{
    Fixture f;
    unsigned num = BLK_WINDOW + 3;

    set_up(&f, &cached_image, BLK_OP_READ, num * 8);
    for (unsigned i = 0; i < num; i++) {
        f.iov[i] = (struct iovec){.iov_base = f.data + 8 * i, .iov_len = 8};
    }
    f.io.num_iov = num;
    begin(&f);
    check_transfer(&f, BLK_CALL_READ, 8192, BLK_WINDOW * 8);
    advance(&f, BLK_WINDOW * 8);
    check_transfer(&f, BLK_CALL_READ, 8192 + BLK_WINDOW * 8, 24);
    g_assert_true(f.io.window[0].iov_base == f.data + BLK_WINDOW * 8);
    finish(&f, 24, 0);
    tear_down(&f);
}

static void test_end_of_file_is_an_error(void)
{
    Fixture f;

    set_up(&f, &cached_image, BLK_OP_READ, 4096);
    begin(&f);
    advance(&f, 512);
    finish(&f, 0, -EIO);
    tear_down(&f);
}

static void test_failure_is_reported(void)
{
    Fixture f;

    set_up(&f, &cached_image, BLK_OP_WRITE, 4096);
    begin(&f);
    finish(&f, -ENOSPC, -ENOSPC);
    tear_down(&f);
}

static void test_interrupted_step_is_repeated(void)
{
    Fixture f;

    set_up(&f, &cached_image, BLK_OP_WRITE, 4096);
    begin(&f);
    advance(&f, -EINTR);
    check_transfer(&f, BLK_CALL_WRITE, 8192, 4096);
    finish(&f, 4096, 0);
    tear_down(&f);
}

static void test_write_through_writes_are_synchronous(void)
{
    Fixture f;

    set_up(&f, &cached_image, BLK_OP_WRITE, 4096);
    begin(&f);
    g_assert_cmpint(f.io.step.flags, ==, 0);
    f.io.stable = true;
    begin(&f);
    g_assert_cmpint(f.io.step.flags, ==, RWF_DSYNC);
    advance(&f, 512);
    g_assert_cmpint(f.io.step.flags, ==, RWF_DSYNC);
    finish(&f, 3584, 0);
    tear_down(&f);
}

static void test_flush_syncs(void)
{
    Fixture f;

    set_up(&f, &cached_image, BLK_OP_FLUSH, 0);
    begin(&f);
    g_assert_cmpint(f.io.step.call, ==, BLK_CALL_SYNC);
    finish(&f, 0, 0);
    begin(&f);
    finish(&f, -EIO, -EIO);
    tear_down(&f);
}

static void check_range(const Fixture *f, int flags)
{
    g_assert_cmpint(f->io.step.call, ==, BLK_CALL_FALLOCATE);
    g_assert_cmpint(f->io.step.flags, ==, flags);
    g_assert_cmpuint(f->io.step.offset, ==, 8192);
    g_assert_cmpuint(f->io.step.size, ==, f->io.size);
}

static void test_zeroing_falls_back_to_writing(void)
{
    Fixture f;
    uint64_t chunk = BLK_WINDOW * BLK_ZERO_CHUNK_BYTES;

    set_up(&f, &cached_image, BLK_OP_ZERO_UNMAP, 0);
    f.io.size = chunk + 512;
    begin(&f);
    check_range(&f, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE);
    advance(&f, -EOPNOTSUPP);
    check_range(&f, FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE);
    advance(&f, -EOPNOTSUPP);
    check_transfer(&f, BLK_CALL_WRITE, 8192, chunk);
    g_assert_true(f.io.window[0].iov_base == blk_zero_chunk);
    advance(&f, chunk);
    check_transfer(&f, BLK_CALL_WRITE, 8192 + chunk, 512);
    finish(&f, 512, 0);

    /* What the host lacks is not tried again. */
    begin(&f);
    check_transfer(&f, BLK_CALL_WRITE, 8192, chunk);
    tear_down(&f);
}

static void test_one_refused_range_does_not_condemn_the_way(void)
{
    Fixture f;

    set_up(&f, &cached_image, BLK_OP_ZERO, 0);
    f.io.size = 512;
    begin(&f);
    check_range(&f, FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE);
    advance(&f, -EINVAL);
    check_transfer(&f, BLK_CALL_WRITE, 8192, 512);
    begin(&f);
    check_range(&f, FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE);
    finish(&f, -EIO, -EIO);
    tear_down(&f);
}

static void test_discard_may_do_nothing(void)
{
    Fixture f;

    set_up(&f, &cached_image, BLK_OP_DISCARD, 0);
    f.io.size = 512;
    begin(&f);
    check_range(&f, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE);
    finish(&f, -EOPNOTSUPP, 0);
    g_assert_cmpint(blk_io_begin(&f.image, &f.io), ==, BLK_NEXT_DONE);
    g_assert_cmpint(f.io.result, ==, 0);
    tear_down(&f);
}

static void test_devices_are_asked_by_ioctl(void)
{
    Fixture f;

    set_up(&f, &device_image, BLK_OP_DISCARD, 0);
    f.io.size = 512;
    begin(&f);
    g_assert_cmpint(f.io.step.call, ==, BLK_CALL_IOCTL);
    g_assert_cmpuint(f.io.step.request, ==, BLKDISCARD);
    finish(&f, 0, 0);
    f.io.op = BLK_OP_ZERO;
    begin(&f);
    g_assert_cmpint(f.io.step.call, ==, BLK_CALL_IOCTL);
    g_assert_cmpuint(f.io.step.request, ==, BLKZEROOUT);
    advance(&f, -EINVAL);
    check_transfer(&f, BLK_CALL_WRITE, 8192, 512);
    tear_down(&f);
}

static void test_write_through_zeroing_ends_with_a_sync(void)
{
    Fixture f;

    set_up(&f, &cached_image, BLK_OP_ZERO, 0);
    f.io.size = 512;
    f.io.stable = true;
    begin(&f);
    advance(&f, 0);
    g_assert_cmpint(f.io.step.call, ==, BLK_CALL_SYNC);
    finish(&f, 0, 0);
    tear_down(&f);
}

static void test_direct_goes_around_the_cache(void)
{
    Fixture f;

    set_up(&f, &direct_image, BLK_OP_READ, 8192);
    g_assert_false(blk_io_needs_bounce(&f.image, &f.io));
    begin(&f);
    g_assert_cmpint(f.io.step.fd, ==, DIRECT_FD);
    tear_down(&f);
}

static void test_direct_bounces_unaligned_pieces(void)
{
    Fixture f;
    uint8_t *bounce = g_malloc(BLK_BOUNCE_BYTES);
    uint64_t size = BLK_BOUNCE_BYTES + 4096;

    set_up(&f, &direct_image, BLK_OP_READ, size + 1);
    f.iov[0].iov_len = 10;
    f.iov[1] = (struct iovec){.iov_base = f.data + 10, .iov_len = size - 9};
    f.io.num_iov = 2;
    f.io.iov_skip = 1;
    f.io.size = size;
    g_assert_true(blk_io_needs_bounce(&f.image, &f.io));
    f.io.bounce = bounce;
    begin(&f);
    g_assert_cmpint(f.io.step.fd, ==, DIRECT_FD);
    check_transfer(&f, BLK_CALL_READ, 8192, BLK_BOUNCE_BYTES);
    memset(bounce, 0xaa, BLK_BOUNCE_BYTES);
    advance(&f, BLK_BOUNCE_BYTES);
    check_transfer(&f, BLK_CALL_READ, 8192 + BLK_BOUNCE_BYTES, 4096);
    memset(bounce, 0xbb, 4096);
    finish(&f, 4096, 0);
    g_assert_cmphex(f.data[0], ==, 0);
    g_assert_cmphex(f.data[1], ==, 0xaa);
    g_assert_cmphex(f.data[BLK_BOUNCE_BYTES], ==, 0xaa);
    g_assert_cmphex(f.data[BLK_BOUNCE_BYTES + 1], ==, 0xbb);
    g_assert_cmphex(f.data[size], ==, 0xbb);

    memset(f.data, 0x11, 20);
    f.io.op = BLK_OP_WRITE;
    begin(&f);
    g_assert_cmphex(bounce[18], ==, 0x11);
    g_assert_cmphex(bounce[19], ==, 0xaa);
    tear_down(&f);
    g_free(bounce);
}

/* 512 bytes of a disk whose blocks have 4096. */
static void test_direct_leaves_odd_ranges_to_the_cache(void)
{
    Fixture f;

    set_up(&f, &direct_image, BLK_OP_WRITE, 512);
    g_assert_false(blk_io_needs_bounce(&f.image, &f.io));
    begin(&f);
    g_assert_cmpint(f.io.step.fd, ==, CACHED_FD);
    f.io.size = 4096;
    f.io.offset = 512;
    f.iov[0].iov_len = 4096;
    begin(&f);
    g_assert_cmpint(f.io.step.fd, ==, CACHED_FD);
    /* The rest of a short transfer need not be aligned either. */
    f.io.offset = 4096;
    begin(&f);
    g_assert_cmpint(f.io.step.fd, ==, DIRECT_FD);
    advance(&f, 512);
    g_assert_cmpint(f.io.step.fd, ==, CACHED_FD);
    tear_down(&f);
}

/* Its pieces may be where direct I/O cannot reach them. */
static void test_direct_is_not_taken_up_midway(void)
{
    Fixture f;

    set_up(&f, &direct_image, BLK_OP_READ, 512 + 4096);
    f.iov[0].iov_base = f.data + 1;
    f.io.offset = 4096 - 512;
    g_assert_false(blk_io_needs_bounce(&f.image, &f.io));
    begin(&f);
    g_assert_cmpint(f.io.step.fd, ==, CACHED_FD);
    advance(&f, 512);
    check_transfer(&f, BLK_CALL_READ, 4096, 4096);
    g_assert_cmpint(f.io.step.fd, ==, CACHED_FD);
    tear_down(&f);
}

static void test_direct_bounces_each_misaligned_address(void)
{
    Fixture f;

    set_up(&f, &direct_image, BLK_OP_READ, 8192);
    f.iov[0].iov_base = f.data + 256;
    f.io.size = 4096;
    g_assert_true(blk_io_needs_bounce(&f.image, &f.io));
    f.iov[0].iov_base = f.data + 512;
    g_assert_false(blk_io_needs_bounce(&f.image, &f.io));
    tear_down(&f);
}

static void test_filling_zeroes_the_pieces(void)
{
    Fixture f;

    set_up(&f, &direct_image, BLK_OP_FILL, 4096);
    memset(f.data, 0xff, 4096);
    f.io.iov_skip = 5;
    f.io.size = 1000;
    g_assert_false(blk_io_needs_bounce(&f.image, &f.io));
    begin(&f);
    finish(&f, blk_io_run_step(&f.io), 0);
    g_assert_cmphex(f.data[4], ==, 0xff);
    g_assert_cmphex(f.data[5], ==, 0);
    g_assert_cmphex(f.data[1004], ==, 0);
    g_assert_cmphex(f.data[1005], ==, 0xff);
    tear_down(&f);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/blk/io/short-transfer-is-continued",
                    test_short_transfer_is_continued);
    g_test_add_func("/blk/io/skipped-and-empty-pieces-are-left-out",
                    test_skipped_and_empty_pieces_are_left_out);
    g_test_add_func("/blk/io/many-pieces-take-several-steps",
                    test_many_pieces_take_several_steps);
    g_test_add_func("/blk/io/end-of-file-is-an-error",
                    test_end_of_file_is_an_error);
    g_test_add_func("/blk/io/failure-is-reported", test_failure_is_reported);
    g_test_add_func("/blk/io/interrupted-step-is-repeated",
                    test_interrupted_step_is_repeated);
    g_test_add_func("/blk/io/write-through-writes-are-synchronous",
                    test_write_through_writes_are_synchronous);
    g_test_add_func("/blk/io/flush-syncs", test_flush_syncs);
    g_test_add_func("/blk/io/zeroing-falls-back-to-writing",
                    test_zeroing_falls_back_to_writing);
    g_test_add_func("/blk/io/one-refused-range-does-not-condemn-the-way",
                    test_one_refused_range_does_not_condemn_the_way);
    g_test_add_func("/blk/io/discard-may-do-nothing",
                    test_discard_may_do_nothing);
    g_test_add_func("/blk/io/devices-are-asked-by-ioctl",
                    test_devices_are_asked_by_ioctl);
    g_test_add_func("/blk/io/write-through-zeroing-ends-with-a-sync",
                    test_write_through_zeroing_ends_with_a_sync);
    g_test_add_func("/blk/io/direct-goes-around-the-cache",
                    test_direct_goes_around_the_cache);
    g_test_add_func("/blk/io/direct-bounces-unaligned-pieces",
                    test_direct_bounces_unaligned_pieces);
    g_test_add_func("/blk/io/direct-leaves-odd-ranges-to-the-cache",
                    test_direct_leaves_odd_ranges_to_the_cache);
    g_test_add_func("/blk/io/direct-is-not-taken-up-midway",
                    test_direct_is_not_taken_up_midway);
    g_test_add_func("/blk/io/direct-bounces-each-misaligned-address",
                    test_direct_bounces_each_misaligned_address);
    g_test_add_func("/blk/io/filling-zeroes-the-pieces",
                    test_filling_zeroes_the_pieces);
    return g_test_run();
}
