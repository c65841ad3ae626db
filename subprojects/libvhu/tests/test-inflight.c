/* SPDX-License-Identifier: BSD-3-Clause */
/* Owns the tests of the inflight buffer as a whole and of what a ring writes
 * to its region, byte by byte. Reading a region is in test-inflight-read.c. */
#include "tests/raw-ring.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define FIRST 0x80008000u

/* ---- The buffer ---- */

static void test_queue_bytes(void)
{
    /* 16 and 16 per descriptor, 32 and 32 per descriptor; whole cache lines. */
    g_assert_cmpuint(vhu_inflight_queue_bytes(false, 1), ==, 64);
    g_assert_cmpuint(vhu_inflight_queue_bytes(false, 128), ==, 2112);
    g_assert_cmpuint(vhu_inflight_queue_bytes(true, 1), ==, 64);
    g_assert_cmpuint(vhu_inflight_queue_bytes(true, 128), ==, 4160);
    g_assert_cmpuint(vhu_inflight_queue_bytes(true, 32768), ==, 1048640);
}

static void test_buffer_survives(void)
{
    VhuInflightArea area = {.num_queues = 3, .queue_size = 128};
    VhuInflight *made;
    VhuInflight *kept;
    uint8_t *region;
    int fd = -1;

    made = vhu_inflight_create(&area, false, &fd, NULL);
    g_assert_nonnull(made);
    g_assert_cmpuint(area.mmap_size, ==, 3 * 2112);
    g_assert_cmpuint(area.mmap_offset, ==, 0);
    g_assert_cmpint(fcntl(fd, F_GET_SEALS) & F_SEAL_SHRINK, !=, 0);
    g_assert_cmpint(fcntl(fd, F_GETFD) & FD_CLOEXEC, !=, 0);
    g_assert_false(vhu_inflight_used(made, 2));
    region = vhu_inflight_queue(made, 2);
    region[8] = 1; /* version */
    region[2111] = 0x77;
    vhu_inflight_unref(vhu_inflight_ref(made));
    vhu_inflight_unref(made);

    kept = vhu_inflight_map(&area, false, fd, -1, NULL);
    g_assert_nonnull(kept);
    close(fd);
    region = vhu_inflight_queue(kept, 2);
    g_assert_cmpuint(region[2111], ==, 0x77);
    g_assert_true(vhu_inflight_used(kept, 2));
    g_assert_false(vhu_inflight_used(kept, 1));
    g_assert_false(vhu_inflight_used(kept, 3));
    g_assert_null(vhu_inflight_queue(kept, 3));
    g_assert_cmpuint(vhu_inflight_queue_size(kept), ==, 128);
    vhu_inflight_unref(kept);
}

static void test_offset(void)
{
    VhuInflightArea area = {
        .num_queues = 1,
        .queue_size = 4,
        .mmap_size = 192,
        .mmap_offset = 4160,
    };
    int fd = memfd_create("inflight", MFD_CLOEXEC);
    VhuInflight *inflight;

    g_assert_cmpint(ftruncate(fd, 8192), ==, 0);
    g_assert_cmpint(pwrite(fd, "\1", 1, 4160 + 8), ==, 1);
    inflight = vhu_inflight_map(&area, true, fd, -1, NULL);
    g_assert_nonnull(inflight);
    g_assert_true(vhu_inflight_used(inflight, 0));
    vhu_inflight_unref(inflight);
    close(fd);
}

static void test_area_refused(void)
{
    static const struct {
        VhuInflightArea area;
        const char *text;
    } rows[] = {
        {{4096, 0, 0, 16}, "inflight buffer for 0 queues, expected 1 to 256"},
        {{4096, 0, 257, 16},
         "inflight buffer for 257 queues, expected 1 to 256"},
        {{4096, 0, 1, 0},
         "inflight buffer for queues of 0, expected 1 to 32768"},
        {{4096, 0, 1, 32769},
         "inflight buffer for queues of 32769, expected 1 to 32768"},
        {{639, 0, 2, 16},
         "inflight buffer of 639 bytes at offset 0, expected 640 bytes, "
         "aligned to 64"},
        {{640, 32, 2, 16},
         "inflight buffer of 640 bytes at offset 32, expected 640 bytes, "
         "aligned to 64"},
        {{640, 8192, 2, 16},
         "inflight buffer: offset 0x2000 plus size 0x280 is past the end of "
         "a file of 0x2000 bytes"},
    };
    int fd = memfd_create("inflight", MFD_CLOEXEC);

    g_assert_cmpint(ftruncate(fd, 8192), ==, 0);
    for (unsigned i = 0; i < G_N_ELEMENTS(rows); i++) {
        VhuError err = {0};

        g_assert_null(vhu_inflight_map(&rows[i].area, false, fd, -1, &err));
        g_assert_cmpstr(err.text, ==, rows[i].text);
        g_assert_cmpint(err.code, ==, EINVAL);
    }
    close(fd);
}

static void test_create_refused(void)
{
    VhuInflightArea area = {.num_queues = 1, .queue_size = 0};
    int fd = -1;

    g_assert_null(vhu_inflight_create(&area, false, &fd, NULL));
    g_assert_cmpint(fd, ==, -1);
}

/* ---- What a ring writes ---- */

static void put_split_descs(RawRing *raw)
{
    for (unsigned i = 0; i < 4; i++) {
        raw_put(raw, RAW_DESC + i * 16,
                "00 50 00 40 00 00 00 00  05 00 00 00  02 00  00 00");
    }
}

static void test_split_region(void)
{
    RawRing *raw = raw_new(RAW_BASIC, 4, 7);
    VhuElement *elements[2];

    raw_track(raw, 4);
    raw_put(raw, RAW_DEVICE, "00 00  07 00");
    put_split_descs(raw);
    /* Entries 3 and 0 of the available ring. */
    raw_put(raw, RAW_DRIVER, "00 00  09 00  01 00  00 00  00 00  02 00");
    raw_open(raw);
    /* features, version, desc_num, last_batch_head, used_idx */
    raw_expect(raw, RAW_INFLIGHT,
               "00 00 00 00 00 00 00 00  01 00  04 00  "
               "00 00  07 00");
    elements[0] = raw_pop(raw);
    elements[1] = raw_pop(raw);
    /* inflight, padding, next, counter */
    raw_expect(raw, RAW_INFLIGHT + 16,
               "00  00 00 00 00 00  00 00  00 00 00 00 00 00 00 00"
               "01  00 00 00 00 00  00 00  01 00 00 00 00 00 00 00"
               "01  00 00 00 00 00  00 00  00 00 00 00 00 00 00 00"
               "00  00 00 00 00 00  00 00  00 00 00 00 00 00 00 00");
    g_assert_cmpuint(elements[0]->id, ==, 2);

    vhu_ring_push(raw->ring, elements[1], 0);
    vhu_ring_push(raw->ring, elements[0], 0);
    raw_expect(raw, RAW_INFLIGHT + 12, "00 00  07 00");
    vhu_ring_flush(raw->ring);
    /* The batch list: 2, then 1, which was first and points at what was the
     * head before. */
    raw_expect(raw, RAW_INFLIGHT + 12, "02 00  09 00");
    raw_expect(raw, RAW_INFLIGHT + 32,
               "00  00 00 00 00 00  00 00  01 00 00 00 00 00 00 00"
               "00  00 00 00 00 00  01 00  00 00 00 00 00 00 00 00");
    raw_free(raw);
}

static void test_split_unpop(void)
{
    RawRing *raw = raw_new(RAW_BASIC, 4, 0);

    raw_track(raw, 4);
    put_split_descs(raw);
    raw_put(raw, RAW_DRIVER, "00 00  01 00  02 00");
    raw_open(raw);
    vhu_ring_unpop(raw->ring, raw_pop(raw));
    raw_expect(raw, RAW_INFLIGHT + 16 + 2 * 16, "00");
    g_assert_cmpuint(vhu_ring_base(raw->ring), ==, 0);
    g_assert_cmpuint(vhu_ring_in_flight(raw->ring), ==, 0);
    g_assert_cmpuint(raw_pop(raw)->id, ==, 2);
    raw_expect(raw, RAW_INFLIGHT + 16 + 2 * 16, "01");
    raw_free(raw);
}

/* Three descriptors: a list of two with id 0x21, one with id 0x22. */
static void put_packed_descs(RawRing *raw)
{
    raw_put(raw, RAW_DESC,
            "00 51 00 40 00 00 00 00  15 00 00 00  ee 00  81 00"
            "00 52 00 40 00 00 00 00  25 00 00 00  21 00  82 00"
            "00 53 00 40 00 00 00 00  35 00 00 00  22 00  82 00");
}

static void test_packed_region(void)
{
    RawRing *raw = raw_new(RAW_PACKED, 4, FIRST);
    VhuElement *elements[2];

    raw_track(raw, 4);
    raw_open(raw);
    /* features, version, desc_num, free_head, old_free_head, used_idx,
     * old_used_idx, used_wrap_counter, old_used_wrap_counter */
    raw_expect(raw, RAW_INFLIGHT,
               "00 00 00 00 00 00 00 00  01 00  04 00  "
               "00 00  00 00  00 00  00 00  01  01");
    /* inflight, padding, next of the free list */
    raw_expect(raw, RAW_INFLIGHT + 32, "00 00 01 00");
    raw_expect(raw, RAW_INFLIGHT + 32 + 3 * 32, "00 00 04 00");
    put_packed_descs(raw);
    elements[0] = raw_pop(raw);
    elements[1] = raw_pop(raw);
    raw_expect(raw, RAW_INFLIGHT + 12, "03 00  03 00  00 00  00 00  01  01");
    /* inflight, padding, next, last, num; counter; id, flags, len; addr */
    raw_expect(raw, RAW_INFLIGHT + 32,
               "01 00 01 00 01 00 02 00  00 00 00 00 00 00 00 00"
               "ee 00 81 00 15 00 00 00  00 51 00 40 00 00 00 00"
               "00 00 02 00 00 00 00 00  00 00 00 00 00 00 00 00"
               "21 00 82 00 25 00 00 00  00 52 00 40 00 00 00 00"
               "01 00 03 00 02 00 01 00  01 00 00 00 00 00 00 00"
               "22 00 82 00 35 00 00 00  00 53 00 40 00 00 00 00");

    vhu_ring_push(raw->ring, elements[1], 0);
    vhu_ring_flush(raw->ring);
    /* Entry 2 is in front of the free list, which went on at 3. */
    raw_expect(raw, RAW_INFLIGHT + 12, "02 00  02 00  01 00  01 00  01  01");
    raw_expect(raw, RAW_INFLIGHT + 32 + 2 * 32, "00 00 03 00");
    vhu_ring_push(raw->ring, elements[0], 0);
    vhu_ring_flush(raw->ring);
    raw_expect(raw, RAW_INFLIGHT + 12, "00 00  00 00  03 00  03 00  01  01");
    raw_expect(raw, RAW_INFLIGHT + 32, "00 00 01 00");
    raw_expect(raw, RAW_INFLIGHT + 32 + 32, "00 00 02 00");
    raw_free(raw);
}

static void test_packed_unpop(void)
{
    RawRing *raw = raw_new(RAW_PACKED, 4, FIRST);

    raw_track(raw, 4);
    raw_open(raw);
    put_packed_descs(raw);
    vhu_ring_unpop(raw->ring, raw_pop(raw));
    raw_expect(raw, RAW_INFLIGHT + 12, "00 00  00 00");
    raw_expect(raw, RAW_INFLIGHT + 32, "00 00 01 00");
    raw_expect(raw, RAW_INFLIGHT + 32 + 32, "00 00 02 00");
    g_assert_cmphex(vhu_ring_base(raw->ring), ==, FIRST);
    g_assert_cmpuint(raw_pop(raw)->id, ==, 0x21);
    g_assert_cmpuint(raw_pop(raw)->id, ==, 0x22);
    raw_free(raw);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/inflight/queue-bytes", test_queue_bytes);
    g_test_add_func("/inflight/buffer-survives", test_buffer_survives);
    g_test_add_func("/inflight/offset", test_offset);
    g_test_add_func("/inflight/area-refused", test_area_refused);
    g_test_add_func("/inflight/create-refused", test_create_refused);
    g_test_add_func("/inflight/split-region", test_split_region);
    g_test_add_func("/inflight/split-unpop", test_split_unpop);
    g_test_add_func("/inflight/packed-region", test_packed_region);
    g_test_add_func("/inflight/packed-unpop", test_packed_unpop);
    return g_test_run();
}
