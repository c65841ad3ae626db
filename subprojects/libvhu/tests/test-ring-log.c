/* SPDX-License-Identifier: BSD-3-Clause */
/* Owns the tests of what a ring marks in the dirty log. */
#include "tests/raw-ring.h"

#include <linux/vhost_types.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define FIRST     0x80008000u
#define PAGE      0x1000u
#define LOG_BYTES 0x9000u /* one bit per page up to 0x48000000 */

/* Two writable buffers of five bytes at 0x40005000. */
static void put_two(RawRing *raw)
{
    for (unsigned i = 0; i < 2; i++) {
        raw_put(raw, RAW_DESC + 16 * i,
                "00 50 00 40 00 00 00 00  05 00 00 00  02 00");
    }
    raw_put(raw, RAW_DRIVER, "00 00  02 00  00 00  01 00");
}

typedef struct Log {
    VhuDirtyLog *log;
    uint8_t *bits;
} Log;

static Log log_new(void)
{
    VhuLogArea area = {.size = LOG_BYTES};
    int fd = memfd_create("log", MFD_CLOEXEC);
    Log log;

    g_assert_cmpint(ftruncate(fd, LOG_BYTES), ==, 0);
    log.log = vhu_dirty_new(fd, &area, -1, NULL);
    g_assert_nonnull(log.log);
    log.bits = mmap(NULL, LOG_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    g_assert_true(log.bits != MAP_FAILED);
    close(fd);
    return log;
}

static void log_free(Log *log)
{
    vhu_dirty_unref(log->log);
    munmap(log->bits, LOG_BYTES);
}

/* The pages logged since the last call, in hex. */
static void expect_pages(Log *log, const char *pages)
{
    g_autoptr(GString) text = g_string_new(NULL);

    for (unsigned page = 0; page < LOG_BYTES * 8; page++) {
        if (log->bits[page / 8] & 1 << page % 8) {
            g_string_append_printf(text, "%s%x", text->len ? " " : "", page);
        }
    }
    g_assert_cmpstr(text->str, ==, pages);
    memset(log->bits, 0, LOG_BYTES);
}

/* A used ring of which index, entry 0, entry 1023 and event index are logged
 * on pages 0, 1, 2 and 3. Two buffers: the first may write 0x1003 bytes in two
 * pieces, the second one byte; their entries are 1023 and 0. */
#define USED_AT   (RAW_DATA + 0x8000)
#define USED_ADDR 0xffcu

static RawRing *log_split_new(uint64_t features, Log *log)
{
    RawRing *raw = raw_new(features, 1024, 1023);

    raw->config.device =
        guest_device_ptr(raw->guest, GUEST_BASE + USED_AT, 0x2006);
    raw_put(raw, USED_AT, "00 00  ff 03");
    raw_put(raw, RAW_DESC,
            "00 50 00 40 00 00 00 00  00 10 00 00  01 00  01 00"
            "ff 7f 00 40 00 00 00 00  02 10 00 00  03 00  02 00"
            "00 b0 00 40 00 00 00 00  01 00 00 00  02 00  00 00"
            "00 a0 00 40 00 00 00 00  01 00 00 00  02 00  00 00");
    raw_put(raw, RAW_DRIVER, "00 00  01 04  03 00");
    raw_open(raw);
    vhu_ring_set_log(raw->ring, log->log, true, USED_ADDR);
    return raw;
}

static void test_log_split(void)
{
    Log log = log_new();
    RawRing *raw = log_split_new(RAW_BASIC | RAW_EVENT, &log);

    vhu_ring_set_notify(raw->ring, true);
    expect_pages(&log, "3");
    vhu_ring_push(raw->ring, raw_pop(raw), 1);
    /* Everything that could have been written, not only what was said. */
    expect_pages(&log, "40007 40008 40009 4000b");
    vhu_ring_flush(raw->ring);
    expect_pages(&log, "0 2");
    vhu_ring_push(raw->ring, raw_pop(raw), 1);
    expect_pages(&log, "4000a");
    vhu_ring_flush(raw->ring);
    expect_pages(&log, "0 1");
    raw_free(raw);
    log_free(&log);
}

static void test_log_split_wraps(void)
{
    Log log = log_new();
    RawRing *raw = log_split_new(RAW_BASIC, &log);

    vhu_ring_set_notify(raw->ring, false);
    expect_pages(&log, "0");
    vhu_ring_push(raw->ring, raw_pop(raw), 0);
    vhu_ring_push(raw->ring, raw_pop(raw), 0);
    expect_pages(&log, "40007 40008 40009 4000a 4000b");
    vhu_ring_flush(raw->ring);
    expect_pages(&log, "0 1 2");
    raw_free(raw);
    log_free(&log);
}

static void test_log_packed(void)
{
    RawRing *raw = raw_new(RAW_PACKED, 4, FIRST);
    Log log = log_new();

    raw_open(raw);
    vhu_ring_set_log(raw->ring, log.log, true, 3 * PAGE);
    raw_put(raw, RAW_DESC,
            "00 50 00 40 00 00 00 00  00 10 00 00  01 00  82 00");
    vhu_ring_set_notify(raw->ring, true);
    expect_pages(&log, "3");
    vhu_ring_push(raw->ring, raw_pop(raw), 0);
    expect_pages(&log, "40005");
    vhu_ring_flush(raw->ring);
    expect_pages(&log, "40000");
    raw_free(raw);
    log_free(&log);
}

/* The ring is in a view that is no region; its IOVA says where it is. */
static void test_log_packed_view(void)
{
    RawRing *raw = raw_new(RAW_PACKED, 4, FIRST);
    VhuIotlb *iotlb = vhu_iotlb_new();
    Log log = log_new();

    raw->config.desc = raw->guest->local;
    raw_open(raw);
    vhu_ring_set_memory(raw->ring, raw->guest->memory, iotlb);
    vhu_ring_set_desc_iova(raw->ring, 0x10000000);
    vhu_ring_set_log(raw->ring, log.log, true, 0);
    raw_add_page(raw, iotlb, 0x10000000, 0xa000, VHOST_ACCESS_RW);
    raw_put(raw, RAW_DESC,
            "20 00 00 10 00 00 00 00  01 00 00 00  01 00  80 00");
    vhu_ring_push(raw->ring, raw_pop(raw), 0);
    vhu_ring_flush(raw->ring);
    expect_pages(&log, "4000a");
    raw_free(raw);
    log_free(&log);
    vhu_iotlb_free(iotlb);
}

static void test_log_data_only(void)
{
    RawRing *raw = raw_new(RAW_BASIC, 4, 0);
    Log log = log_new();

    raw_open(raw);
    put_two(raw);
    vhu_ring_set_log(raw->ring, log.log, false, 3 * PAGE);
    vhu_ring_set_notify(raw->ring, true);
    vhu_ring_push(raw->ring, raw_pop(raw), 0);
    vhu_ring_flush(raw->ring);
    expect_pages(&log, "40005");
    vhu_ring_set_log(raw->ring, NULL, true, 0);
    vhu_ring_push(raw->ring, raw_pop(raw), 0);
    vhu_ring_flush(raw->ring);
    expect_pages(&log, "");
    raw_free(raw);
    log_free(&log);
}

/* A buffer's pages are known by the snapshot it was popped with. */
static void test_log_old_memory(void)
{
    RawRing *raw = raw_new(RAW_BASIC, 4, 0);
    VhuMemory *none = vhu_memory_new(-1);
    Log log = log_new();
    VhuElement *element;

    raw_open(raw);
    put_two(raw);
    element = raw_pop(raw);
    vhu_ring_set_memory(raw->ring, none, NULL);
    vhu_ring_set_log(raw->ring, log.log, true, 0);
    vhu_ring_push(raw->ring, element, 5);
    expect_pages(&log, "40005");
    vhu_memory_unref(none);
    raw_free(raw);
    log_free(&log);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/ring/log/split", test_log_split);
    g_test_add_func("/ring/log/split-wraps", test_log_split_wraps);
    g_test_add_func("/ring/log/packed", test_log_packed);
    g_test_add_func("/ring/log/packed-view", test_log_packed_view);
    g_test_add_func("/ring/log/data-only", test_log_data_only);
    g_test_add_func("/ring/log/old-memory", test_log_old_memory);
    return g_test_run();
}
