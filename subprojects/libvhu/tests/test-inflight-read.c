/* SPDX-License-Identifier: BSD-3-Clause */
/* Owns the tests of a region that was left behind: by a crash, by a back end
 * that suspended, or by somebody hostile. Bytes by hand. */
#include "tests/raw-ring.h"

#include <string.h>

#define FIRST    0x80008000u
#define SPLIT(i) (RAW_INFLIGHT + 16 + 16 * (i))
#define ENTRY(i) (RAW_INFLIGHT + 32 + 32 * (i))

/* ---- Split: a ring of four, the used index is at 7 ---- */

static RawRing *split_new(void)
{
    RawRing *raw = raw_new(RAW_BASIC, 4, 0);

    raw_track(raw, 4);
    raw_put(raw, RAW_DEVICE, "00 00  07 00");
    raw_put(raw, RAW_INFLIGHT + 8, "01 00  04 00  00 00  07 00");
    for (unsigned i = 0; i < 4; i++) {
        raw_put(raw, RAW_DESC + i * 16,
                "00 50 00 40 00 00 00 00  05 00 00 00  02 00  00 00");
    }
    return raw;
}

static void test_split_resubmits_in_order(void)
{
    RawRing *raw = split_new();
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
    RawRing *raw = split_new();
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
    RawRing *raw = split_new();

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
    RawRing *raw = split_new();

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
    RawRing *raw = split_new();

    raw_put(raw, RAW_DRIVER, "00 00  07 00");
    raw_open(raw);
    g_assert_true(vhu_ring_flush(raw->ring));
    g_assert_false(vhu_ring_flush(raw->ring));
    raw_free(raw);
}

/* ---- Packed: a ring of four ---- */

/* All free, positions at 1 of wrap counter 1. */
static RawRing *packed_new(void)
{
    RawRing *raw = raw_new(RAW_PACKED, 4, FIRST);

    raw_track(raw, 4);
    raw_put(raw, RAW_INFLIGHT + 8,
            "01 00  04 00  00 00  00 00  01 00  01 00  01  01");
    raw_put(raw, ENTRY(0), "00 00 01 00");
    raw_put(raw, ENTRY(1), "00 00 02 00");
    raw_put(raw, ENTRY(2), "00 00 03 00");
    raw_put(raw, ENTRY(3), "00 00 04 00");
    return raw;
}

/* In flight: entry 1 (counter 9), and 2 -> 0 (counter 8); 3 is free. */
static RawRing *packed_busy(void)
{
    RawRing *raw = packed_new();

    raw_put(raw, RAW_INFLIGHT + 12, "03 00  03 00");
    raw_put(raw, ENTRY(1),
            "01 00 02 00 01 00 01 00  09 00 00 00 00 00 00 00"
            "31 00 82 00 05 00 00 00  00 51 00 40 00 00 00 00");
    raw_put(raw, ENTRY(2),
            "01 00 00 00 00 00 02 00  08 00 00 00 00 00 00 00"
            "ee 00 81 00 06 00 00 00  00 52 00 40 00 00 00 00");
    raw_put(raw, ENTRY(0),
            "00 00 04 00 00 00 00 00  00 00 00 00 00 00 00 00"
            "32 00 82 00 07 00 00 00  00 53 00 40 00 00 00 00");
    return raw;
}

static void test_packed_resubmits_in_order(void)
{
    RawRing *raw = packed_busy();
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
    RawRing *raw = packed_new();

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
    RawRing *raw = packed_busy();

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
    RawRing *raw = packed ? packed_new() : split_new();
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
    RawRing *raw = split_new();
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

/* ---- Hostile regions ---- */

typedef struct Row {
    const char *name;
    struct {
        uint64_t at;
        const char *hex;
    } put[3]; /* over what _busy or _new has */
    const char *text;
    uint16_t room; /* of the region, 0: 4 */
} Row;

static const Row split_rows[] = {
    {
        .name = "version",
        .put = {{RAW_INFLIGHT + 8, "02 00"}},
        .text = "inflight region: version 2, expected 1",
    },
    {
        .name = "fewer-descriptors-than-the-ring",
        .put = {{RAW_INFLIGHT + 10, "03 00"}},
        .text = "inflight region is for 3 descriptors, the ring has 4 and the "
                "region room for 4",
    },
    {
        .name = "more-descriptors-than-room",
        .put = {{RAW_INFLIGHT + 10, "05 00"}},
        .text = "inflight region is for 5 descriptors, the ring has 4 and the "
                "region room for 4",
    },
    {
        .name = "less-room-than-the-ring",
        .text = "inflight region has room for 3 descriptors, the ring has 4",
        .room = 3,
    },
    {
        .name = "state",
        .put = {{SPLIT(2), "02"}},
        .text = "inflight region: state 2 of descriptor 2",
    },
    {
        .name = "head-past-the-ring",
        .put = {{RAW_INFLIGHT + 10, "06 00"}, {SPLIT(5), "01"}},
        .text = "inflight region: descriptor 5 is in flight, the ring has 4",
        .room = 6,
    },
    {
        .name = "batch-past-the-end",
        .put = {{RAW_INFLIGHT + 12, "04 00 06 00"}, {SPLIT(3), "01"}},
        .text =
            "inflight region: batch list comes to 4, 1 entries before its end",
    },
    {
        .name = "batch-loop",
        .put = {{RAW_INFLIGHT + 12, "01 00 04 00"},
                {SPLIT(1), "01 00 00 00 00 00 02 00"},
                {SPLIT(2), "01 00 00 00 00 00 01 00"}},
        .text = "inflight region: batch list comes to 1 again, 1 entries "
                "before its end",
    },
    {
        .name = "used-index-behind",
        .put = {{RAW_INFLIGHT + 12, "00 00 08 00"}, {SPLIT(3), "01"}},
        .text = "inflight region: batch list comes to 0 again, 65534 entries "
                "before its end",
    },
};

static const Row packed_rows[] = {
    {
        .name = "version",
        .put = {{RAW_INFLIGHT + 8, "00 01"}},
        .text = "inflight region: version 256, expected 1",
    },
    {
        .name = "fewer-descriptors-than-the-ring",
        .put = {{RAW_INFLIGHT + 10, "03 00"}},
        .text = "inflight region is for 3 descriptors, the ring has 4 and the "
                "region room for 4",
    },
    {
        .name = "more-descriptors-than-room",
        .put = {{RAW_INFLIGHT + 10, "05 00"}},
        .text = "inflight region is for 5 descriptors, the ring has 4 and the "
                "region room for 4",
    },
    {
        .name = "used-index-past-the-ring",
        .put = {{RAW_INFLIGHT + 16, "04 00"}},
        .text = "inflight region: used index 4, before 1, the ring has 4",
    },
    {
        .name = "old-used-index-past-the-ring",
        .put = {{RAW_INFLIGHT + 18, "ff ff"}},
        .text = "inflight region: used index 1, before 65535, the ring has 4",
    },
    {
        .name = "free-list-past-the-end",
        .put = {{RAW_INFLIGHT + 14, "05 00"}},
        .text = "inflight region: free list comes to entry 5",
    },
    {
        .name = "free-list-loop",
        .put = {{ENTRY(3) + 2, "03 00"}},
        .text = "inflight region: free list comes to entry 3 again",
    },
    {
        .name = "state",
        .put = {{ENTRY(1), "ff"}},
        .text = "inflight region: state 255 of entry 1",
    },
    {
        .name = "buffer-in-another",
        .put = {{ENTRY(0), "01 00 04 00 00 00 01 00"}},
        .text = "inflight region: list of descriptors comes to entry 0 again",
    },
    {
        .name = "buffer-in-the-free-list",
        .put = {{ENTRY(2) + 2, "03 00"}},
        .text = "inflight region: list of descriptors comes to entry 3 again",
    },
    {
        .name = "buffer-past-the-end",
        .put = {{ENTRY(2) + 2, "04 00"}},
        .text = "inflight region: list of descriptors comes to entry 4",
    },
    {
        .name = "buffer-of-none",
        .put = {{ENTRY(1) + 6, "00 00"}},
        .text = "inflight region: buffer at 1 has 0 descriptors and ends at 1, "
                "the ring has 4",
    },
    {
        .name = "buffer-that-ends-elsewhere",
        .put = {{ENTRY(1) + 4, "02 00"}},
        .text = "inflight region: buffer at 1 has 1 descriptors and ends at 2, "
                "the ring has 4",
    },
    {
        .name = "lost-entries",
        .put = {{ENTRY(2), "00"}},
        .text =
            "inflight region: 2 of 4 entries are neither free nor in flight",
    },
    {
        .name = "more-in-flight-than-the-ring",
        .put = {{RAW_INFLIGHT + 10, "06 00 04 00 04 00"},
                {ENTRY(3), "01 00 05 00 05 00 02 00"},
                {ENTRY(4) + 2, "06 00"}},
        .text = "inflight region: buffer at 3 has 2 descriptors and ends at 5, "
                "the ring has 4",
        .room = 6,
    },
};

static void check_row(RawRing *raw, const Row *row)
{
    g_autofree char *text = NULL;

    if (row->room) {
        raw->config.inflight_size = row->room;
    }
    for (unsigned i = 0; i < G_N_ELEMENTS(row->put); i++) {
        raw_put(raw, row->put[i].at, row->put[i].hex ? row->put[i].hex : "");
    }
    text = raw_try_open(raw);
    g_assert_cmpstr(text, ==, row->text);
    raw_free(raw);
}

static void test_split_row(gconstpointer data)
{
    check_row(split_new(), data);
}

static void test_packed_row(gconstpointer data)
{
    check_row(packed_busy(), data);
}

/* Flags are read when the buffer is resubmitted, and checked then. */
static void test_packed_last_has_next(void)
{
    RawRing *raw = packed_busy();

    raw_put(raw, ENTRY(0) + 18, "83 00");
    raw_open(raw);
    raw_pop_broken(raw, "inflight region: entry 0 ends a buffer and has a "
                        "next");
    raw_free(raw);
}

/* Addresses are checked then, too. */
static void test_packed_unmapped(void)
{
    RawRing *raw = packed_busy();

    raw_put(raw, ENTRY(0) + 24, "00 00 00 00 05 00 00 00");
    raw_open(raw);
    raw_pop_broken(raw, "descriptor 0: 7 bytes at 0x500000000 cannot be "
                        "reached");
    raw_free(raw);
}

/* Counters that say nothing: the order is any, but all come back. */
static void test_same_counters(gconstpointer data)
{
    bool packed = GPOINTER_TO_UINT(data);
    RawRing *raw = packed ? packed_busy() : split_new();

    raw_put(raw, packed ? ENTRY(1) + 8 : SPLIT(3), packed ? "08" : "01");
    raw_put(raw, packed ? ENTRY(2) + 8 : SPLIT(1), packed ? "08" : "01");
    raw_put(raw, RAW_DRIVER, packed ? "" : "00 00  09 00");
    raw_open(raw);
    g_assert_cmpuint(raw_pop(raw)->id, ==, packed ? 0x31 : 1);
    g_assert_cmpuint(raw_pop(raw)->id, ==, packed ? 0x32 : 3);
    raw_pop_none(raw);
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

static void add_rows(const char *layout, const Row *rows, unsigned num,
                     GTestDataFunc fn)
{
    for (unsigned i = 0; i < num; i++) {
        g_autofree char *path =
            g_strdup_printf("/inflight/%s/%s-is-refused", layout, rows[i].name);

        g_test_add_data_func(path, &rows[i], fn);
    }
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
    g_test_add_data_func("/inflight/split/same-counters", GUINT_TO_POINTER(0),
                         test_same_counters);
    g_test_add_data_func("/inflight/packed/same-counters", GUINT_TO_POINTER(1),
                         test_same_counters);
    g_test_add_func("/inflight/packed/unmapped", test_packed_unmapped);
    g_test_add_data_func("/inflight/split/small-ring", GUINT_TO_POINTER(0),
                         test_small_ring);
    g_test_add_data_func("/inflight/packed/small-ring", GUINT_TO_POINTER(1),
                         test_small_ring);
    add_rows("split", split_rows, G_N_ELEMENTS(split_rows), test_split_row);
    add_rows("packed", packed_rows, G_N_ELEMENTS(packed_rows), test_packed_row);
    g_test_add_func("/inflight/packed/last-has-next",
                    test_packed_last_has_next);
    return g_test_run();
}
