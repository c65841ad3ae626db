/* SPDX-License-Identifier: BSD-3-Clause */
/* Owns the tests of what a ring has to do with memory: the IOTLB, snapshots
 * that are replaced. */
#include "tests/raw-ring.h"

#include <errno.h>
#include <linux/vhost_types.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define FIRST 0x80008000u
#define PAGE  0x1000u

/* ---- IOTLB ---- */

/* The next pop lacks an entry and consumes nothing. */
static void pop_misses(const RawRing *raw, uint64_t iova, uint8_t perm)
{
    uint32_t base = vhu_ring_base(raw->ring);
    VhuElement *element = NULL;
    VhuError err = {0};

    g_assert_cmpint(vhu_ring_pop(raw->ring, &element, &err), ==, -EAGAIN);
    g_assert_cmpint(err.code, ==, 0);
    g_assert_cmphex(vhu_ring_miss(raw->ring).iova, ==, iova);
    g_assert_cmpuint(vhu_ring_miss(raw->ring).perm, ==, perm);
    g_assert_cmphex(vhu_ring_base(raw->ring), ==, base);
    g_assert_cmpuint(vhu_ring_in_flight(raw->ring), ==, 0);
    g_assert_true(vhu_ring_has_work(raw->ring));
}

static void test_miss_in_chain(gconstpointer data)
{
    bool packed = GPOINTER_TO_UINT(data);
    RawRing *raw =
        packed ? raw_new(RAW_PACKED, 4, FIRST) : raw_new(RAW_BASIC, 4, 0);
    VhuIotlb *iotlb = vhu_iotlb_new();
    VhuElement *element;

    raw_track(raw, 4);
    raw_open(raw);
    vhu_ring_set_memory(raw->ring, raw->guest->memory, iotlb);
    raw_put(raw, RAW_DESC,
            packed ? "00 00 00 10 00 00 00 00  10 00 00 00  00 00  81 00"
                     "f0 1f 00 10 00 00 00 00  20 00 00 00  00 00  82 00"
                   : "00 00 00 10 00 00 00 00  10 00 00 00  01 00  01 00"
                     "f0 1f 00 10 00 00 00 00  20 00 00 00  02 00  00 00");
    raw_put(raw, RAW_DRIVER, packed ? "" : "00 00  01 00  00 00");
    pop_misses(raw, 0x10000000, VHOST_ACCESS_RO);
    raw_add_page(raw, iotlb, 0x10000000, 0x8000, VHOST_ACCESS_RO);
    pop_misses(raw, 0x10001ff0, VHOST_ACCESS_WO);
    raw_add_page(raw, iotlb, 0x10001000, 0x5000, VHOST_ACCESS_RW);
    pop_misses(raw, 0x10002000, VHOST_ACCESS_WO);
    raw_add_page(raw, iotlb, 0x10002000, 0x7000, VHOST_ACCESS_WO);
    element = raw_pop(raw);
    raw_expect_pieces(raw, element, "40008000+10 | 40005ff0+10 40007000+10");
    raw_free(raw);
    vhu_iotlb_free(iotlb);
}

/* A table over two pages that are apart, with a descriptor over the seam. */
static void test_table_in_pieces(gconstpointer data)
{
    bool packed = GPOINTER_TO_UINT(data);
    uint64_t features = RAW_INDIRECT | (packed ? RAW_PACKED : RAW_BASIC);
    RawRing *raw = raw_new(features, 4, packed ? FIRST : 0);
    VhuIotlb *iotlb = vhu_iotlb_new();

    raw_open(raw);
    vhu_ring_set_memory(raw->ring, raw->guest->memory, iotlb);
    raw_put(raw, RAW_DESC,
            packed ? "e9 1f 00 10 00 00 00 00  30 00 00 00  07 00  84 00"
                   : "e9 1f 00 10 00 00 00 00  30 00 00 00  04 00  00 00");
    raw_put(raw, RAW_DRIVER, packed ? "" : "00 00  01 00  00 00");
    raw_put(raw, RAW_DATA + 0xfe9,
            packed ? "00 00 00 10 00 00 00 00  01 00 00 00  00 00  00 00"
                     "00 01 00 10 00 00 00"
                   : "00 00 00 10 00 00 00 00  01 00 00 00  01 00  01 00"
                     "00 01 00 10 00 00 00");
    raw_put(raw, RAW_DATA + 0x2000,
            packed ? "00  02 00 00 00  00 00  02 00"
                     "00 02 00 10 00 00 00 00  03 00 00 00  00 00  02 00"
                   : "00  02 00 00 00  03 00  02 00"
                     "00 02 00 10 00 00 00 00  03 00 00 00  02 00  00 00");
    pop_misses(raw, 0x10001fe9, VHOST_ACCESS_RO);
    raw_add_page(raw, iotlb, 0x10001000, RAW_DATA, VHOST_ACCESS_RO);
    pop_misses(raw, 0x10002000, VHOST_ACCESS_RO);
    raw_add_page(raw, iotlb, 0x10002000, RAW_DATA + 0x2000, VHOST_ACCESS_RO);
    pop_misses(raw, 0x10000000, VHOST_ACCESS_RO);
    raw_add_page(raw, iotlb, 0x10000000, 0x9000, VHOST_ACCESS_RW);
    raw_expect_pieces(raw, raw_pop(raw), "40009000+1 | 40009100+2 40009200+3");
    raw_free(raw);
    vhu_iotlb_free(iotlb);
}

/* A page of the table that only its second descriptor is on. */
static void test_miss_far_in_table(void)
{
    RawRing *raw = raw_new(RAW_BASIC | RAW_INDIRECT, 4, 0);
    VhuIotlb *iotlb = vhu_iotlb_new();

    raw_open(raw);
    vhu_ring_set_memory(raw->ring, raw->guest->memory, iotlb);
    raw_put(raw, RAW_DESC, "00 00 00 10 00 00 00 00  00 30 00 00  04 00");
    raw_put(raw, RAW_DRIVER, "00 00  01 00  00 00");
    raw_put(raw, RAW_DATA,
            "00 00 00 20 00 00 00 00  01 00 00 00  01 00  01 02");
    raw_put(raw, RAW_DATA + 0x3010,
            "00 01 00 20 00 00 00 00  02 00 00 00  00 00  00 00");
    raw_add_page(raw, iotlb, 0x10000000, RAW_DATA, VHOST_ACCESS_RO);
    raw_add_page(raw, iotlb, 0x10001000, RAW_DATA + 0x2000, VHOST_ACCESS_RO);
    raw_add_page(raw, iotlb, 0x20000000, 0x9000, VHOST_ACCESS_RO);
    pop_misses(raw, 0x10002010, VHOST_ACCESS_RO);
    raw_add_page(raw, iotlb, 0x10002000, RAW_DATA + 0x3000, VHOST_ACCESS_RO);
    raw_expect_pieces(raw, raw_pop(raw), "40009000+1 40009100+2 |");
    raw_free(raw);
    vhu_iotlb_free(iotlb);
}

static void test_not_permitted(void)
{
    RawRing *raw = raw_new(RAW_BASIC, 4, 0);
    VhuIotlb *iotlb = vhu_iotlb_new();

    raw_open(raw);
    vhu_ring_set_memory(raw->ring, raw->guest->memory, iotlb);
    raw_add_page(raw, iotlb, 0x10000000, 0x8000, VHOST_ACCESS_RO);
    raw_put(raw, RAW_DESC, "00 00 00 10 00 00 00 00  10 00 00 00  02 00");
    raw_put(raw, RAW_DRIVER, "00 00  01 00  00 00");
    raw_pop_broken(raw, "descriptor 0: 16 bytes at 0x10000000 cannot be "
                        "reached");
    raw_free(raw);
    vhu_iotlb_free(iotlb);
}

/* ---- Snapshots ---- */

static bool is_mapped(void *address)
{
    uintptr_t page = (uintptr_t)address & ~(uintptr_t)(PAGE - 1);
    unsigned char resident;

    return mincore((void *)page, PAGE, &resident) == 0;
}

/* Two writable buffers of five bytes at 0x40005000. */
static void put_two(RawRing *raw)
{
    for (unsigned i = 0; i < 2; i++) {
        raw_put(raw, RAW_DESC + 16 * i,
                "00 50 00 40 00 00 00 00  05 00 00 00  02 00");
    }
    raw_put(raw, RAW_DRIVER, "00 00  02 00  00 00  01 00");
}

static void test_element_keeps_memory(void)
{
    RawRing *raw = raw_new(RAW_BASIC, 4, 0);
    RingGuest *other = guest_new(RAW_DATA, 0x10000);
    VhuElement *before;
    VhuElement *after;
    VhuMemory *old;
    void *local;

    raw_open(raw);
    put_two(raw);
    /* The ring is in the guest that stays, its buffers move. */
    old = vhu_memory_ref(other->memory);
    vhu_ring_set_memory(raw->ring, old, NULL);
    before = raw_pop(raw);
    local = before->in[0].iov_base;
    guest_free(other);
    vhu_memory_unref(old);
    vhu_ring_set_memory(raw->ring, raw->guest->memory, NULL);
    after = raw_pop(raw);
    g_assert_true(before->memory != after->memory);
    g_assert_true(is_mapped(local));
    g_assert_cmpuint(vhu_element_write(before, 0, "hello", 5), ==, 5);
    vhu_ring_push(raw->ring, before, 5);
    g_assert_false(is_mapped(local));
    vhu_ring_push(raw->ring, after, 0);
    vhu_ring_flush(raw->ring);
    raw_expect(raw, RAW_DEVICE + 4,
               "00 00 00 00  05 00 00 00"
               "01 00 00 00  00 00 00 00");
    raw_free(raw);
}

static void test_free_drops_memory(void)
{
    RawRing *raw = raw_new(RAW_BASIC, 4, 0);
    RingGuest *other = guest_new(RAW_DATA, 0x10000);
    void *local;

    raw_open(raw);
    put_two(raw);
    vhu_ring_set_memory(raw->ring, other->memory, NULL);
    guest_free(other);
    local = raw_pop(raw)->in[0].iov_base;
    vhu_ring_set_memory(raw->ring, raw->guest->memory, NULL);
    g_assert_true(is_mapped(local));
    raw_pop(raw);
    vhu_ring_free(raw->ring);
    raw->ring = NULL;
    g_assert_false(is_mapped(local));
    raw_free(raw);
}

/* The parts may move while the ring runs: it goes on where it was. */
static void test_parts_move(void)
{
    RawRing *raw = raw_new(RAW_BASIC, 4, 0);
    uint8_t *ring = raw->config.desc;

    raw_open(raw);
    put_two(raw);
    vhu_ring_push(raw->ring, raw_pop(raw), 1);
    vhu_ring_flush(raw->ring);
    memcpy(ring + RAW_DATA - 0x2000, ring, 0x2000);
    memset(ring, 0xff, 0x2000);
    ring += RAW_DATA - 0x2000;
    vhu_ring_set_parts(raw->ring, ring, ring + RAW_DRIVER, ring + RAW_DEVICE);
    vhu_ring_push(raw->ring, raw_pop(raw), 2);
    vhu_ring_flush(raw->ring);
    raw_expect(raw, RAW_DATA - 0x2000 + RAW_DEVICE,
               "00 00  02 00  00 00 00 00  01 00 00 00"
               "01 00 00 00  02 00 00 00");
    raw_free(raw);
}

/* What the device keeps per element stays with it. */
static void test_elements_are_reused(void)
{
    RawRing *raw = raw_new(RAW_BASIC, 4, 0);
    VhuElement *element;
    uint8_t *request;

    raw->config.request_bytes = 16;
    raw_open(raw);
    put_two(raw);
    element = raw_pop(raw);
    request = element->request;
    g_assert_cmpmem(request, 16, "\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0", 16);
    memset(request, 0x5a, 16);
    vhu_ring_push(raw->ring, element, 0);
    vhu_ring_flush(raw->ring);
    g_assert_true(raw_pop(raw) == element);
    g_assert_true(element->request == request);
    g_assert_cmpuint(request[15], ==, 0x5a);
    raw_free(raw);
}

static void count_element(VhuElement *element, void *opaque)
{
    unsigned *ids = opaque;

    *ids |= 1u << element->id;
}

static void test_each_in_flight(void)
{
    RawRing *raw = raw_new(RAW_BASIC, 4, 0);
    VhuElement *element;
    unsigned ids = 0;

    raw_open(raw);
    put_two(raw);
    element = raw_pop(raw);
    raw_pop(raw);
    vhu_ring_each_in_flight(raw->ring, count_element, &ids);
    g_assert_cmphex(ids, ==, 3);
    vhu_ring_push(raw->ring, element, 0);
    ids = 0;
    vhu_ring_each_in_flight(raw->ring, count_element, &ids);
    g_assert_cmphex(ids, ==, 2);
    raw_free(raw);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_data_func("/ring/iotlb/split-miss-in-chain", GUINT_TO_POINTER(0),
                         test_miss_in_chain);
    g_test_add_data_func("/ring/iotlb/packed-miss-in-chain",
                         GUINT_TO_POINTER(1), test_miss_in_chain);
    g_test_add_data_func("/ring/iotlb/split-table-in-pieces",
                         GUINT_TO_POINTER(0), test_table_in_pieces);
    g_test_add_data_func("/ring/iotlb/packed-table-in-pieces",
                         GUINT_TO_POINTER(1), test_table_in_pieces);
    g_test_add_func("/ring/iotlb/miss-far-in-table", test_miss_far_in_table);
    g_test_add_func("/ring/iotlb/not-permitted", test_not_permitted);
    g_test_add_func("/ring/memory/element-keeps-memory",
                    test_element_keeps_memory);
    g_test_add_func("/ring/memory/free-drops-memory", test_free_drops_memory);
    g_test_add_func("/ring/memory/parts-move", test_parts_move);
    g_test_add_func("/ring/memory/elements-are-reused",
                    test_elements_are_reused);
    g_test_add_func("/ring/memory/each-in-flight", test_each_in_flight);
    return g_test_run();
}
