/* SPDX-License-Identifier: BSD-3-Clause */
/* Owns the tests of a region that was left behind: by a crash, by a back end
 * that suspended, or by somebody hostile. Bytes by hand. */
#include "tests/raw-inflight.h"

#include <string.h>

#define FIRST 0x80008000u

/* ---- Split ---- */

static void test_split_resubmits_in_order(void)
{
    RawRing *raw = raw_split_new();
    VhuElement *elements[3];

    raw_put(raw, SPLIT(3), "01  00 00 00 00 00  00 00  05");
    raw_put(raw, SPLIT(1), "01  00 00 00 00 00  00 00  06");
    raw_put(raw, RAW_DRIVER, "00 00  0a 00  00 00  02 00");
    raw_open(raw);
    /* Two of them are past the used index, whatever base was given. */
    g_assert_cmpuint(vhu_ring_base(raw->ring), ==, 9);
    g_assert_cmpuint(vhu_ring_to_resubmit(raw->ring), ==, 2);
    elements[0] = raw_pop(raw);
    elements[1] = raw_pop(raw);
    elements[2] = raw_pop(raw);
    g_assert_cmpuint(elements[0]->id, ==, 3);
    g_assert_cmpuint(elements[1]->id, ==, 1);
    g_assert_cmpuint(elements[2]->id, ==, 2);
    g_assert_true(elements[0]->resubmitted);
    g_assert_true(elements[1]->resubmitted);
    g_assert_false(elements[2]->resubmitted);
    g_assert_cmpuint(vhu_ring_to_resubmit(raw->ring), ==, 0);
    raw_pop_none(raw);
    /* The new one's counter goes on from theirs. */
    raw_expect(raw, SPLIT(2), "01  00 00 00 00 00  00 00  07");
    raw_free(raw);
}

/* A resubmitted buffer can be put back like any other. */
static void test_split_resubmitted_unpop(void)
{
    RawRing *raw = raw_split_new();
    VhuElement *element;

    raw_put(raw, SPLIT(3), "01");
    raw_put(raw, RAW_DRIVER, "00 00  08 00");
    raw_open(raw);
    vhu_ring_unpop(raw->ring, raw_pop(raw));
    g_assert_cmpuint(vhu_ring_to_resubmit(raw->ring), ==, 1);
    raw_expect(raw, SPLIT(3), "01");
    element = raw_pop(raw);
    g_assert_true(element->resubmitted);
    vhu_ring_push(raw->ring, element, 2);
    vhu_ring_flush(raw->ring);
    raw_expect(raw, SPLIT(3), "00");
    raw_expect(raw, RAW_DEVICE + 2, "08 00");
    raw_expect(raw, RAW_DEVICE + 4 + 3 * 8, "03 00 00 00  02 00 00 00");
    raw_free(raw);
}

/* The batch was shown, the region does not know yet. */
static void test_split_finishes_batch(void)
{
    RawRing *raw = raw_split_new();

    raw_put(raw, RAW_DEVICE, "00 00  09 00");
    raw_put(raw, RAW_INFLIGHT + 12, "02 00  07 00");
    raw_put(raw, SPLIT(0), "00  00 00 00 00 00  03 00");
    raw_put(raw, SPLIT(2), "01  00 00 00 00 00  00 00");
    raw_put(raw, SPLIT(3), "01");
    raw_put(raw, RAW_DRIVER, "00 00  0a 00");
    raw_open(raw);
    g_assert_cmpuint(vhu_ring_base(raw->ring), ==, 10);
    raw_expect(raw, RAW_INFLIGHT + 12, "02 00  09 00");
    raw_expect(raw, SPLIT(2), "00");
    g_assert_cmpuint(raw_pop(raw)->id, ==, 3);
    raw_pop_none(raw);
    raw_free(raw);
}

/* The driver laid the ring out anew; the buffer was kept and is clean. */
static void test_split_new_ring(void)
{
    RawRing *raw = raw_split_new();

    raw_put(raw, RAW_DEVICE, "00 00  00 00");
    raw_put(raw, RAW_DRIVER, "00 00  01 00  02 00");
    raw_open(raw);
    g_assert_cmpuint(vhu_ring_base(raw->ring), ==, 0);
    raw_expect(raw, RAW_INFLIGHT + 12, "00 00  00 00");
    g_assert_cmpuint(raw_pop(raw)->id, ==, 2);
    raw_free(raw);
}

static void test_first_flush_notifies(void)
{
    RawRing *raw = raw_split_new();

    raw_put(raw, RAW_DRIVER, "00 00  07 00");
    raw_open(raw);
    g_assert_true(vhu_ring_flush(raw->ring));
    g_assert_false(vhu_ring_flush(raw->ring));
    raw_free(raw);
}

/* ---- Packed ---- */

static void test_packed_resubmits_in_order(void)
{
    RawRing *raw = raw_packed_busy();
    VhuElement *elements[3];

    raw_open(raw);
    /* From 1, three descriptors: 0 of the next lap. Used is at 1. */
    g_assert_cmphex(vhu_ring_base(raw->ring), ==, 0x80010000);
    g_assert_cmpuint(vhu_ring_to_resubmit(raw->ring), ==, 2);
    elements[0] = raw_pop(raw);
    elements[1] = raw_pop(raw);
    g_assert_cmpuint(elements[0]->id, ==, 0x32);
    raw_expect_pieces(raw, elements[0], "40005200+6 | 40005300+7");
    g_assert_cmpuint(elements[1]->id, ==, 0x31);
    raw_expect_pieces(raw, elements[1], "| 40005100+5");
    g_assert_true(elements[0]->resubmitted);
    raw_pop_none(raw);
    raw_put(raw, RAW_DESC,
            "00 54 00 40 00 00 00 00  08 00 00 00  33 00  02 80");
    elements[2] = raw_pop(raw);
    g_assert_cmpuint(elements[2]->id, ==, 0x33);
    raw_expect(raw, ENTRY(3) + 8, "0a 00 00 00 00 00 00 00");

    vhu_ring_push(raw->ring, elements[0], 7);
    vhu_ring_flush(raw->ring);
    raw_expect(raw, RAW_DESC + 16 + 8, "07 00 00 00  32 00  82 80");
    raw_expect(raw, RAW_INFLIGHT + 12, "02 00  02 00  03 00  03 00  01  01");
    raw_free(raw);
}

/* A list was being taken: the two entries are free again. */
static void test_packed_forgets_half_taken(void)
{
    RawRing *raw = raw_packed_new();

    raw_put(raw, RAW_INFLIGHT + 12, "02 00  00 00");
    raw_put(raw, ENTRY(0), "01 00 01 00 00 00 02 00");
    raw_open(raw);
    g_assert_cmphex(vhu_ring_base(raw->ring), ==, 0x80018001);
    raw_expect(raw, RAW_INFLIGHT + 12, "00 00  00 00");
    raw_expect(raw, ENTRY(0), "00");
    raw_pop_none(raw);
    raw_free(raw);
}

/* Entry 1 was being used: in front of the free list, positions moved. */
static RawRing *packed_half_used(void)
{
    RawRing *raw = raw_packed_busy();

    raw_put(raw, RAW_INFLIGHT + 12, "01 00  03 00  02 00  01 00  01  01");
    raw_put(raw, ENTRY(1) + 2, "03 00");
    return raw;
}

static void test_packed_undoes_use(void)
{
    RawRing *raw = packed_half_used();

    /* The descriptor at the old position is what the driver made it. */
    raw_put(raw, RAW_DESC + 16 + 14, "81 00");
    raw_open(raw);
    g_assert_cmphex(vhu_ring_base(raw->ring), ==, 0x80010000);
    raw_expect(raw, RAW_INFLIGHT + 12, "03 00  03 00  01 00  01 00  01  01");
    g_assert_cmpuint(raw_pop(raw)->id, ==, 0x32);
    g_assert_cmpuint(raw_pop(raw)->id, ==, 0x31);
    raw_free(raw);
}

static void test_packed_finishes_use(void)
{
    /* Used, or already made available again in the next lap. */
    static const char *const flags[] = {"82 80", "01 80"};

    for (unsigned i = 0; i < G_N_ELEMENTS(flags); i++) {
        RawRing *raw = packed_half_used();

        raw_put(raw, RAW_DESC + 16 + 14, flags[i]);
        raw_open(raw);
        g_assert_cmphex(vhu_ring_base(raw->ring), ==, 0x80020000);
        raw_expect(raw, RAW_INFLIGHT + 12,
                   "01 00  01 00  02 00  02 00  01  01");
        raw_expect(raw, ENTRY(1), "00");
        g_assert_cmpuint(raw_pop(raw)->id, ==, 0x32);
        raw_pop_none(raw);
        raw_free(raw);
    }
}

/* ---- Suspended ---- */

static void test_suspended_is_resubmitted(gconstpointer data)
{
    bool packed = GPOINTER_TO_UINT(data);
    RawRing *raw = packed ? raw_packed_new() : raw_split_new();
    VhuElement *element;

    raw_put(raw, RAW_DESC + 16,
            packed ? "00 50 00 40 00 00 00 00  05 00 00 00  01 00  82 00"
                   : "00 50 00 40 00 00 00 00  05 00 00 00  02 00");
    raw_put(raw, RAW_DRIVER,
            packed ? "" : "00 00  08 00  00 00 00 00 00 00 01 00");
    raw_open(raw);
    vhu_ring_suspend(raw->ring, raw_pop(raw));
    g_assert_cmpuint(vhu_ring_in_flight(raw->ring), ==, 0);
    raw_pop_none(raw);
    raw->config.base = vhu_ring_base(raw->ring);
    raw_open(raw);
    g_assert_cmphex(vhu_ring_base(raw->ring), ==, raw->config.base);
    element = raw_pop(raw);
    g_assert_cmpuint(element->id, ==, 1);
    g_assert_true(element->resubmitted);
    raw_free(raw);
}

/* In order, nothing popped later may be shown any more. */
static void test_suspended_in_order(void)
{
    RawRing *raw = raw_split_new();
    VhuElement *elements[3];

    raw->config.features |= RAW_IN_ORDER;
    raw_put(raw, RAW_DRIVER, "00 00  0a 00  02 00 03 00 00 00 01 00");
    raw_open(raw);
    vhu_ring_flush(raw->ring);
    for (unsigned i = 0; i < 3; i++) {
        elements[i] = raw_pop(raw);
    }
    vhu_ring_push(raw->ring, elements[2], 0);
    vhu_ring_suspend(raw->ring, elements[0]);
    g_assert_false(vhu_ring_flush(raw->ring));
    g_assert_cmpuint(vhu_ring_in_flight(raw->ring), ==, 1);
    vhu_ring_push(raw->ring, elements[1], 0);
    g_assert_false(vhu_ring_flush(raw->ring));
    g_assert_cmpuint(vhu_ring_in_flight(raw->ring), ==, 0);
    raw_expect(raw, RAW_DEVICE + 2, "07 00");
    raw_open(raw);
    g_assert_cmpuint(raw_pop(raw)->id, ==, 1);
    g_assert_cmpuint(raw_pop(raw)->id, ==, 2);
    g_assert_cmpuint(raw_pop(raw)->id, ==, 3);
    raw_free(raw);
}

/* A ring may be smaller than the region. */
static void test_small_ring(gconstpointer data)
{
    bool packed = GPOINTER_TO_UINT(data);
    RawRing *raw =
        packed ? raw_new(RAW_PACKED, 2, FIRST) : raw_new(RAW_BASIC, 2, 0);

    raw_track(raw, 100);
    raw_put(raw, RAW_DRIVER, packed ? "" : "00 00  01 00  01 00");
    raw_put(raw, RAW_DESC,
            packed ? "00 50 00 40 00 00 00 00  05 00 00 00  01 00  82 00" : "");
    raw_open(raw);
    raw_expect(raw, RAW_INFLIGHT + 8, "01 00  64 00");
    g_assert_cmpuint(raw_pop(raw)->id, ==, 1);
    raw_open(raw);
    g_assert_true(raw_pop(raw)->resubmitted);
    raw_free(raw);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/inflight/split/resubmits-in-order",
                    test_split_resubmits_in_order);
    g_test_add_func("/inflight/split/resubmitted-unpop",
                    test_split_resubmitted_unpop);
    g_test_add_func("/inflight/split/finishes-batch",
                    test_split_finishes_batch);
    g_test_add_func("/inflight/split/new-ring", test_split_new_ring);
    g_test_add_func("/inflight/split/first-flush-notifies",
                    test_first_flush_notifies);
    g_test_add_func("/inflight/packed/resubmits-in-order",
                    test_packed_resubmits_in_order);
    g_test_add_func("/inflight/packed/forgets-half-taken",
                    test_packed_forgets_half_taken);
    g_test_add_func("/inflight/packed/undoes-use", test_packed_undoes_use);
    g_test_add_func("/inflight/packed/finishes-use", test_packed_finishes_use);
    g_test_add_data_func("/inflight/split/suspended-is-resubmitted",
                         GUINT_TO_POINTER(0), test_suspended_is_resubmitted);
    g_test_add_data_func("/inflight/packed/suspended-is-resubmitted",
                         GUINT_TO_POINTER(1), test_suspended_is_resubmitted);
    g_test_add_func("/inflight/split/suspended-in-order",
                    test_suspended_in_order);
    g_test_add_data_func("/inflight/split/small-ring", GUINT_TO_POINTER(0),
                         test_small_ring);
    g_test_add_data_func("/inflight/packed/small-ring", GUINT_TO_POINTER(1),
                         test_small_ring);
    return g_test_run();
}
