/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Owns the tests of contrib/vhost-user-blk/request: what a buffer asks for,
 * what is refused, and what is answered. No I/O is carried out. */
#include "contrib/vhost-user-blk/request.h"

#include <errno.h>
#include <glib.h>
#include <string.h>

#define BIT(feature) (1ULL << (feature))
#define DISK_SECTORS 1000u
#define UNTOUCHED    0xa5

static const uint8_t serial[VIRTIO_BLK_ID_BYTES] = "serial number 123456";

static const BlkDisk plain_disk = {
    .sectors = DISK_SECTORS,
    .features = BIT(VIRTIO_BLK_F_DISCARD) | BIT(VIRTIO_BLK_F_WRITE_ZEROES),
    .serial = serial,
};

/* A buffer, cut into pieces. */
typedef struct Buffer {
    uint8_t out[1024];
    uint8_t in[2048];
    struct iovec out_iov[64];
    struct iovec in_iov[64];
    VhuElement element;
    BlkRequest request;
} Buffer;

static void add_piece(struct iovec *iov, uint32_t *num, uint64_t *total,
                      uint8_t *base, size_t size)
{
    iov[*num] = (struct iovec){.iov_base = base + *total, .iov_len = size};
    (*num)++;
    *total += size;
}

static void add_out(Buffer *b, size_t size)
{
    add_piece(b->out_iov, &b->element.num_out, &b->element.out_bytes, b->out,
              size);
}

static void add_in(Buffer *b, size_t size)
{
    add_piece(b->in_iov, &b->element.num_in, &b->element.in_bytes, b->in, size);
}

/* Little-endian, by hand. */
static void put_le(uint8_t *at, uint64_t value, unsigned bytes)
{
    for (unsigned i = 0; i < bytes; i++) {
        at[i] = (uint8_t)(value >> (8 * i));
    }
}

static void init(Buffer *b, uint32_t type, uint64_t sector)
{
    memset(b, 0, sizeof(*b));
    memset(b->in, UNTOUCHED, sizeof(b->in));
    b->element.out = b->out_iov;
    b->element.in = b->in_iov;
    put_le(b->out, type, 4);
    put_le(b->out + 8, sector, 8);
}

static BlkRequestNext begin(Buffer *b, const BlkDisk *disk)
{
    return blk_request_begin(&b->request, &b->element, disk);
}

static void check_io(Buffer *b, BlkOp op, uint64_t offset, uint64_t size)
{
    g_assert_cmpint(b->request.io.op, ==, op);
    g_assert_cmpuint(b->request.io.offset, ==, offset);
    g_assert_cmpuint(b->request.io.size, ==, size);
}

static void check_end(Buffer *b, uint8_t status, uint32_t written)
{
    g_assert_cmpuint(blk_request_end(&b->request), ==, written);
    if (b->element.in_bytes > 0) {
        g_assert_cmphex(b->in[b->element.in_bytes - 1], ==, status);
    }
    g_assert_cmphex(b->in[b->element.in_bytes], ==, UNTOUCHED);
}

/* ---- a table of requests that are answered at once ---- */

typedef struct Refused {
    const char *name;
    uint32_t type;
    uint64_t sector;
    uint32_t out; /* readable bytes, header included */
    uint32_t in;  /* writable bytes, status included */
    bool read_only;
    uint8_t status;
} Refused;

#define OK     VIRTIO_BLK_S_OK
#define IOERR  VIRTIO_BLK_S_IOERR
#define UNSUPP VIRTIO_BLK_S_UNSUPP

static const Refused refused[] = {
    {"short header", VIRTIO_BLK_T_IN, 0, 15, 513, false, IOERR},
    {"no header", VIRTIO_BLK_T_IN, 0, 0, 1, false, IOERR},
    {"read of odd size", VIRTIO_BLK_T_IN, 0, 16, 512, false, IOERR},
    {"read of 513", VIRTIO_BLK_T_IN, 0, 16, 514, false, IOERR},
    {"read past the end", VIRTIO_BLK_T_IN, DISK_SECTORS, 16, 513, false, IOERR},
    {"read across the end", VIRTIO_BLK_T_IN, DISK_SECTORS - 1, 16, 1023 + 2,
     false, IOERR},
    {"write past the end", VIRTIO_BLK_T_OUT, DISK_SECTORS, 528, 1, false,
     IOERR},
    {"read far away", VIRTIO_BLK_T_IN, UINT64_MAX, 16, 513, false, IOERR},
    {"read that overflows", VIRTIO_BLK_T_IN, UINT64_MAX / 512 + 1, 16, 513,
     false, IOERR},
    {"write of odd size", VIRTIO_BLK_T_OUT, 0, 16 + 511, 1, false, IOERR},
    {"write that overflows", VIRTIO_BLK_T_OUT, 1ull << 55, 528, 1, false,
     IOERR},
    {"write, read-only", VIRTIO_BLK_T_OUT, 0, 528, 1, true, IOERR},
    {"discard, read-only", VIRTIO_BLK_T_DISCARD, 0, 32, 1, true, IOERR},
    {"zeroes, read-only", VIRTIO_BLK_T_WRITE_ZEROES, 0, 32, 1, true, IOERR},
    {"discard of nothing", VIRTIO_BLK_T_DISCARD, 0, 16, 1, false, IOERR},
    {"discard of half a segment", VIRTIO_BLK_T_DISCARD, 0, 24, 1, false, IOERR},
    {"too many segments", VIRTIO_BLK_T_WRITE_ZEROES, 0,
     16 + 16 * (BLK_MAX_SEGMENTS + 1), 1, false, IOERR},
    {"empty segments", VIRTIO_BLK_T_DISCARD, 0, 16 + 32, 1, false, OK},
    {"SCSI command", 2, 0, 16, 1, false, UNSUPP},
    {"lifetime", 10, 0, 16, 7, false, UNSUPP},
    {"secure erase", VIRTIO_BLK_T_SECURE_ERASE, 0, 32, 1, false, UNSUPP},
    {"zone append", 15, 0, 528, 9, false, UNSUPP},
    {"zone report", 16, 0, 16, 513, false, UNSUPP},
    {"barrier", 0x80000000u | VIRTIO_BLK_T_OUT, 0, 528, 1, false, UNSUPP},
    {"unknown", 0xffffffff, 0, 16, 1, false, UNSUPP},
    {"serial", VIRTIO_BLK_T_GET_ID, 0, 16, 21, false, OK},
};

static void check_refused(const Refused *row)
{
    BlkDisk disk = plain_disk;
    Buffer b;

    g_test_message("%s", row->name);
    disk.read_only = row->read_only;
    init(&b, row->type, row->sector);
    add_out(&b, row->out);
    add_in(&b, row->in);
    g_assert_cmpint(begin(&b, &disk), ==, BLK_REQUEST_DONE);
    check_end(&b, row->status, row->in);
    for (uint32_t i = 0; row->type == VIRTIO_BLK_T_IN && i < row->in - 1; i++) {
        g_assert_cmphex(b.in[i], ==, 0);
    }
}

static void test_what_breaks_a_rule_is_refused(void)
{
    for (size_t i = 0; i < G_N_ELEMENTS(refused); i++) {
        check_refused(&refused[i]);
    }
}

static void test_without_status_nothing_happens(void)
{
    Buffer b;

    init(&b, VIRTIO_BLK_T_OUT, 0);
    add_out(&b, 528);
    g_assert_cmpint(begin(&b, &plain_disk), ==, BLK_REQUEST_DONE);
    check_end(&b, 0, 0);
}

static void test_features_not_negotiated_are_unsupported(void)
{
    static const uint32_t types[] = {VIRTIO_BLK_T_DISCARD,
                                     VIRTIO_BLK_T_WRITE_ZEROES};
    BlkDisk disk = plain_disk;
    Buffer b;

    disk.features = 0;
    for (size_t i = 0; i < G_N_ELEMENTS(types); i++) {
        init(&b, types[i], 0);
        put_le(b.out + 24, 1, 4);
        add_out(&b, 32);
        add_in(&b, 1);
        g_assert_cmpint(begin(&b, &disk), ==, BLK_REQUEST_DONE);
        check_end(&b, UNSUPP, 1);
        g_assert_cmpint(begin(&b, &plain_disk), ==, BLK_REQUEST_IO);
    }
}

/* ---- transfers ---- */

static void test_framing_is_arbitrary(void)
{
    Buffer b;
    const BlkIo *io = &b.request.io;

    init(&b, VIRTIO_BLK_T_OUT, 3);
    add_out(&b, 1);
    add_out(&b, 14);
    add_out(&b, 100);
    add_out(&b, 413);
    add_in(&b, 1);
    g_assert_cmpint(begin(&b, &plain_disk), ==, BLK_REQUEST_IO);
    check_io(&b, BLK_OP_WRITE, 3 * 512, 512);
    g_assert_true(io->iov == b.out_iov);
    g_assert_cmpuint(io->num_iov, ==, 4);
    g_assert_cmpuint(io->iov_skip, ==, 16);
    g_assert_cmpint(blk_request_io_done(&b.request, 0), ==, BLK_REQUEST_DONE);
    check_end(&b, OK, 1);

    init(&b, VIRTIO_BLK_T_IN, 4);
    add_out(&b, 9);
    add_out(&b, 7);
    add_in(&b, 3);
    add_in(&b, 510);
    g_assert_cmpint(begin(&b, &plain_disk), ==, BLK_REQUEST_IO);
    check_io(&b, BLK_OP_READ, 4 * 512, 512);
    g_assert_true(io->iov == b.in_iov);
    g_assert_cmpuint(io->iov_skip, ==, 0);
    g_assert_cmpint(blk_request_io_done(&b.request, 0), ==, BLK_REQUEST_DONE);
    /* What was read is left alone. */
    check_end(&b, OK, 513);
    g_assert_cmphex(b.in[511], ==, UNTOUCHED);
}

static void test_failed_read_is_zeroed(void)
{
    Buffer b;

    init(&b, VIRTIO_BLK_T_IN, 0);
    add_out(&b, 16);
    add_in(&b, 200);
    add_in(&b, 313);
    g_assert_cmpint(begin(&b, &plain_disk), ==, BLK_REQUEST_IO);
    g_assert_cmpint(blk_request_io_done(&b.request, -EIO), ==,
                    BLK_REQUEST_DONE);
    check_end(&b, IOERR, 513);
    for (unsigned i = 0; i < 512; i++) {
        g_assert_cmphex(b.in[i], ==, 0);
    }
}

static void test_large_failed_read_is_zeroed_by_an_io(void)
{
    Buffer b;
    size_t size = BLK_MAX_ZERO_FILL + 512;
    g_autofree uint8_t *data = g_malloc0(size);

    init(&b, VIRTIO_BLK_T_IN, 1000000);
    add_out(&b, 16);
    b.in_iov[0] = (struct iovec){.iov_base = data, .iov_len = size};
    b.in_iov[1] = (struct iovec){.iov_base = b.in, .iov_len = 1};
    b.element.num_in = 2;
    b.element.in_bytes = size + 1;
    g_assert_cmpint(begin(&b, &plain_disk), ==, BLK_REQUEST_IO);
    check_io(&b, BLK_OP_FILL, 0, size);
    g_assert_true(b.request.io.iov == b.in_iov);
    g_assert_cmpint(blk_request_io_done(&b.request, 0), ==, BLK_REQUEST_DONE);
    g_assert_cmpuint(blk_request_end(&b.request), ==, size + 1);
    g_assert_cmphex(b.in[0], ==, IOERR);
}

static void test_the_last_sector_can_be_had(void)
{
    Buffer b;

    init(&b, VIRTIO_BLK_T_OUT, DISK_SECTORS - 1);
    add_out(&b, 528);
    add_in(&b, 1);
    g_assert_cmpint(begin(&b, &plain_disk), ==, BLK_REQUEST_IO);
    check_io(&b, BLK_OP_WRITE, (DISK_SECTORS - 1) * 512, 512);
}

static void test_write_through_is_passed_on(void)
{
    BlkDisk disk = plain_disk;
    Buffer b;

    init(&b, VIRTIO_BLK_T_OUT, 0);
    add_out(&b, 528);
    add_in(&b, 1);
    begin(&b, &disk);
    g_assert_false(b.request.io.stable);
    disk.write_through = true;
    begin(&b, &disk);
    g_assert_true(b.request.io.stable);
}

static void test_flush_flushes(void)
{
    BlkDisk disk = plain_disk;
    Buffer b;

    disk.read_only = true;
    init(&b, VIRTIO_BLK_T_FLUSH, 0);
    add_out(&b, 16);
    add_in(&b, 1);
    g_assert_cmpint(begin(&b, &disk), ==, BLK_REQUEST_IO);
    check_io(&b, BLK_OP_FLUSH, 0, 0);
    g_assert_cmpint(blk_request_io_done(&b.request, -EIO), ==,
                    BLK_REQUEST_DONE);
    check_end(&b, IOERR, 1);
}

static void test_serial_fits_the_room(void)
{
    static const uint32_t rooms[] = {5, 20, 30};
    Buffer b;

    for (size_t i = 0; i < G_N_ELEMENTS(rooms); i++) {
        uint8_t expected[64] = {0};

        memcpy(expected, serial, MIN(rooms[i], VIRTIO_BLK_ID_BYTES));
        init(&b, VIRTIO_BLK_T_GET_ID, 0);
        add_out(&b, 16);
        add_in(&b, rooms[i] + 1);
        g_assert_cmpint(begin(&b, &plain_disk), ==, BLK_REQUEST_DONE);
        check_end(&b, OK, rooms[i] + 1);
        g_assert_cmpmem(b.in, rooms[i], expected, rooms[i]);
    }
}

/* ---- segments ---- */

static void put_segment(Buffer *b, unsigned index, uint64_t sector,
                        uint32_t num, uint32_t flags)
{
    uint8_t *at = b->out + 16 + 16 * index;

    put_le(at, sector, 8);
    put_le(at + 8, num, 4);
    put_le(at + 12, flags, 4);
}

static void init_segments(Buffer *b, uint32_t type, unsigned num)
{
    init(b, type, 0);
    add_out(b, 16 + 16 * num);
    add_in(b, 1);
}

static void test_segments_are_done_in_turn(void)
{
    Buffer b;

    init_segments(&b, VIRTIO_BLK_T_WRITE_ZEROES, 4);
    put_segment(&b, 0, 10, 2, 0);
    put_segment(&b, 1, 5, 0, 1);
    put_segment(&b, 2, 20, 3, 1);
    put_segment(&b, 3, DISK_SECTORS - 1, 1, 0);
    g_assert_cmpint(begin(&b, &plain_disk), ==, BLK_REQUEST_IO);
    check_io(&b, BLK_OP_ZERO, 5120, 1024);
    /* The driver may change its mind: it is not asked again. */
    put_segment(&b, 2, UINT64_MAX, UINT32_MAX, UINT32_MAX);
    g_assert_cmpint(blk_request_io_done(&b.request, 0), ==, BLK_REQUEST_IO);
    check_io(&b, BLK_OP_ZERO_UNMAP, 10240, 1536);
    g_assert_cmpint(blk_request_io_done(&b.request, 0), ==, BLK_REQUEST_IO);
    check_io(&b, BLK_OP_ZERO, (DISK_SECTORS - 1) * 512, 512);
    g_assert_cmpint(blk_request_io_done(&b.request, 0), ==, BLK_REQUEST_DONE);
    check_end(&b, OK, 1);
}

static void test_a_failed_segment_ends_the_request(void)
{
    Buffer b;

    init_segments(&b, VIRTIO_BLK_T_DISCARD, 2);
    put_segment(&b, 0, 0, 8, 0);
    put_segment(&b, 1, 8, 8, 0);
    g_assert_cmpint(begin(&b, &plain_disk), ==, BLK_REQUEST_IO);
    check_io(&b, BLK_OP_DISCARD, 0, 4096);
    g_assert_cmpint(blk_request_io_done(&b.request, -EIO), ==,
                    BLK_REQUEST_DONE);
    check_end(&b, IOERR, 1);
}

typedef struct Segment {
    uint32_t type;
    uint64_t sector;
    uint32_t num;
    uint32_t flags;
    int status; /* -1: goes on */
} Segment;

static const Segment segments[] = {
    {VIRTIO_BLK_T_DISCARD, 0, 8, 0, -1},
    {VIRTIO_BLK_T_DISCARD, 0, 8, 1, UNSUPP},
    {VIRTIO_BLK_T_DISCARD, 0, 8, 2, UNSUPP},
    {VIRTIO_BLK_T_WRITE_ZEROES, 0, 8, 1, -1},
    {VIRTIO_BLK_T_WRITE_ZEROES, 0, 8, 2, UNSUPP},
    {VIRTIO_BLK_T_WRITE_ZEROES, 0, 8, 0x80000000u, UNSUPP},
    /* An unknown flag is told even where the range is wrong too. */
    {VIRTIO_BLK_T_WRITE_ZEROES, UINT64_MAX, 8, 2, UNSUPP},
    {VIRTIO_BLK_T_WRITE_ZEROES, DISK_SECTORS, 1, 0, IOERR},
    {VIRTIO_BLK_T_WRITE_ZEROES, DISK_SECTORS - 7, 8, 0, IOERR},
    {VIRTIO_BLK_T_DISCARD, UINT64_MAX, 8, 0, IOERR},
    {VIRTIO_BLK_T_DISCARD, UINT64_MAX - 7, 8, 0, IOERR},
    {VIRTIO_BLK_T_DISCARD, 0, UINT32_MAX, 0, IOERR},
};

static void test_segments_are_checked(void)
{
    for (size_t i = 0; i < G_N_ELEMENTS(segments); i++) {
        const Segment *s = &segments[i];
        Buffer b;

        /* As the second: the first must not have been begun. */
        init_segments(&b, s->type, 2);
        put_segment(&b, 0, 0, 1, 0);
        put_segment(&b, 1, s->sector, s->num, s->flags);
        if (s->status < 0) {
            g_assert_cmpint(begin(&b, &plain_disk), ==, BLK_REQUEST_IO);
        } else {
            g_assert_cmpint(begin(&b, &plain_disk), ==, BLK_REQUEST_DONE);
            check_end(&b, (uint8_t)s->status, 1);
        }
    }
}

static void test_segments_have_a_largest_size(void)
{
    static const struct {
        uint32_t type;
        uint32_t max;
    } rows[] = {
        {VIRTIO_BLK_T_DISCARD, BLK_MAX_DISCARD_SECTORS},
        {VIRTIO_BLK_T_WRITE_ZEROES, BLK_MAX_ZERO_SECTORS},
    };
    BlkDisk disk = plain_disk;
    Buffer b;

    disk.sectors = 1ull << 40;
    for (size_t i = 0; i < G_N_ELEMENTS(rows); i++) {
        init_segments(&b, rows[i].type, 1);
        put_segment(&b, 0, 7, rows[i].max, 0);
        g_assert_cmpint(begin(&b, &disk), ==, BLK_REQUEST_IO);
        put_segment(&b, 0, 7, rows[i].max + 1, 0);
        g_assert_cmpint(begin(&b, &disk), ==, BLK_REQUEST_DONE);
        check_end(&b, IOERR, 1);
    }
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/blk/request/what-breaks-a-rule-is-refused",
                    test_what_breaks_a_rule_is_refused);
    g_test_add_func("/blk/request/without-status-nothing-happens",
                    test_without_status_nothing_happens);
    g_test_add_func("/blk/request/features-not-negotiated-are-unsupported",
                    test_features_not_negotiated_are_unsupported);
    g_test_add_func("/blk/request/framing-is-arbitrary",
                    test_framing_is_arbitrary);
    g_test_add_func("/blk/request/failed-read-is-zeroed",
                    test_failed_read_is_zeroed);
    g_test_add_func("/blk/request/large-failed-read-is-zeroed-by-an-io",
                    test_large_failed_read_is_zeroed_by_an_io);
    g_test_add_func("/blk/request/the-last-sector-can-be-had",
                    test_the_last_sector_can_be_had);
    g_test_add_func("/blk/request/write-through-is-passed-on",
                    test_write_through_is_passed_on);
    g_test_add_func("/blk/request/flush-flushes", test_flush_flushes);
    g_test_add_func("/blk/request/serial-fits-the-room",
                    test_serial_fits_the_room);
    g_test_add_func("/blk/request/segments-are-done-in-turn",
                    test_segments_are_done_in_turn);
    g_test_add_func("/blk/request/a-failed-segment-ends-the-request",
                    test_a_failed_segment_ends_the_request);
    g_test_add_func("/blk/request/segments-are-checked",
                    test_segments_are_checked);
    g_test_add_func("/blk/request/segments-have-a-largest-size",
                    test_segments_have_a_largest_size);
    return g_test_run();
}
