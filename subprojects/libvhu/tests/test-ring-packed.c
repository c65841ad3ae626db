/* SPDX-License-Identifier: BSD-3-Clause */
/* Owns the tests of packed rings byte by byte. What a driver may not write is
 * in test-ring-hostile.c. */
#include "tests/raw-ring.h"

#define FIRST 0x80008000u /* both positions 0, both wrap counters 1 */

/* addr, len, id, flags: AVAIL is 0x0080, USED 0x8000. */

static void test_pop_and_push(void)
{
    RawRing *raw = raw_new(RAW_PACKED, 3, FIRST);
    VhuElement *element;

    raw_open(raw);
    raw_pop_none(raw);
    raw_put(raw, RAW_DESC,
            "00 41 00 40 00 00 00 00  10 00 00 00  ee ee  81 00"
            "00 50 00 40 00 00 00 00  00 02 00 00  07 01  82 00");
    element = raw_pop(raw);
    g_assert_cmpuint(element->id, ==, 0x107);
    raw_expect_pieces(raw, element, "40004100+10 | 40005000+200");
    g_assert_cmphex(vhu_ring_base(raw->ring), ==, 0x80008002);
    raw_pop_none(raw);

    vhu_ring_push(raw->ring, element, 0x1ff);
    raw_expect(raw, RAW_DESC + 14, "81 00");
    g_assert_true(vhu_ring_flush(raw->ring));
    /* Used, with WRITE because something was written; the second descriptor
     * is skipped. */
    raw_expect(raw, RAW_DESC + 8, "ff 01 00 00  07 01  82 80");
    raw_expect(raw, RAW_DESC + 16 + 8, "00 02 00 00  07 01  82 00");
    g_assert_cmphex(vhu_ring_base(raw->ring), ==, 0x80028002);
    raw_free(raw);
}

/* A list over the end of the ring: its second half is of the next lap. */
static void test_list_wraps(void)
{
    RawRing *raw = raw_new(RAW_PACKED, 3, 0x80028002);
    VhuElement *element;

    raw_open(raw);
    raw_put(raw, RAW_DESC + 32,
            "00 41 00 40 00 00 00 00  10 00 00 00  05 00  81 00");
    raw_put(raw, RAW_DESC,
            "00 50 00 40 00 00 00 00  00 02 00 00  05 00  02 80");
    element = raw_pop(raw);
    raw_expect_pieces(raw, element, "40004100+10 | 40005000+200");
    g_assert_cmphex(vhu_ring_base(raw->ring), ==, 0x80020001);
    vhu_ring_push(raw->ring, element, 0);
    vhu_ring_flush(raw->ring);
    raw_expect(raw, RAW_DESC + 32 + 8, "00 00 00 00  05 00  80 80");
    g_assert_cmphex(vhu_ring_base(raw->ring), ==, 0x00010001);

    /* In the lap of wrap counter 0: available is USED without AVAIL, used is
     * neither. */
    raw_put(raw, RAW_DESC + 16,
            "00 50 00 40 00 00 00 00  00 02 00 00  06 00  02 80");
    vhu_ring_push(raw->ring, raw_pop(raw), 1);
    vhu_ring_flush(raw->ring);
    raw_expect(raw, RAW_DESC + 16 + 8, "01 00 00 00  06 00  02 00");
    raw_free(raw);
}

/* What is left of a lap ago is not available. */
static void test_stale_flags(void)
{
    static const char *const flags[] = {"80 00", "00 00", "80 80"};
    RawRing *raw = raw_new(RAW_PACKED, 3, 0);

    raw_open(raw);
    for (unsigned i = 0; i < G_N_ELEMENTS(flags); i++) {
        raw_put(raw, RAW_DESC + 14, flags[i]);
        raw_pop_none(raw);
    }
    raw_free(raw);
}

static void test_out_of_order(void)
{
    RawRing *raw = raw_new(RAW_PACKED, 4, FIRST);
    VhuElement *elements[2];

    raw_open(raw);
    raw_put(raw, RAW_DESC,
            "00 41 00 40 00 00 00 00  10 00 00 00  01 00  81 00"
            "00 42 00 40 00 00 00 00  10 00 00 00  01 00  82 00"
            "00 50 00 40 00 00 00 00  00 02 00 00  02 00  82 00");
    elements[0] = raw_pop(raw);
    elements[1] = raw_pop(raw);
    vhu_ring_push(raw->ring, elements[1], 0x200);
    vhu_ring_push(raw->ring, elements[0], 0x10);
    vhu_ring_flush(raw->ring);
    /* The second buffer has one descriptor: the first one's used descriptor
     * comes right behind. */
    raw_expect(raw, RAW_DESC + 8, "00 02 00 00  02 00  82 80");
    raw_expect(raw, RAW_DESC + 24, "10 00 00 00  01 00  82 80");
    g_assert_cmphex(vhu_ring_base(raw->ring), ==, 0x80038003);
    raw_free(raw);
}

static void test_indirect_table(void)
{
    RawRing *raw = raw_new(RAW_PACKED | RAW_INDIRECT, 3, FIRST);
    VhuElement *element;

    raw_open(raw);
    raw_put(raw, RAW_DESC,
            "04 40 00 40 00 00 00 00  30 00 00 00  09 00  86 00");
    /* Descriptors follow each other; ids and all flags but WRITE mean
     * nothing, not even INDIRECT and NEXT. */
    raw_put(raw, RAW_DATA + 4,
            "00 60 00 40 00 00 00 00  01 00 00 00  ff ff  fd ff"
            "00 61 00 40 00 00 00 00  02 00 00 00  02 00  06 00"
            "00 62 00 40 00 00 00 00  03 00 00 00  02 00  03 00");
    element = raw_pop(raw);
    g_assert_cmpuint(element->id, ==, 9);
    raw_expect_pieces(raw, element, "40006000+1 | 40006100+2 40006200+3");
    g_assert_cmphex(vhu_ring_base(raw->ring), ==, 0x80008001);
    raw_free(raw);
}

static void test_empty_descriptors(void)
{
    RawRing *raw = raw_new(RAW_PACKED, 3, FIRST);

    raw_open(raw);
    raw_put(raw, RAW_DESC,
            "00 00 00 00 00 00 ff ff  00 00 00 00  01 00  81 00"
            "00 50 00 40 00 00 00 00  05 00 00 00  01 00  80 00"
            "00 00 00 00 00 00 ff ff  00 00 00 00  02 00  82 00");
    raw_expect_pieces(raw, raw_pop(raw), "40005000+5 |");
    raw_expect_pieces(raw, raw_pop(raw), "|");
    raw_free(raw);
}

static void test_flags_suppress(void)
{
    RawRing *raw = raw_new(RAW_PACKED, 3, FIRST);

    raw_open(raw);
    raw_put(raw, RAW_DESC,
            "00 50 00 40 00 00 00 00  05 00 00 00  01 00  80 00"
            "00 50 00 40 00 00 00 00  05 00 00 00  02 00  80 00");
    raw_put(raw, RAW_DRIVER, "00 00  01 00");
    g_assert_false(vhu_ring_set_notify(raw->ring, false));
    raw_expect(raw, RAW_DEVICE, "00 00  01 00");
    g_assert_true(vhu_ring_set_notify(raw->ring, true));
    raw_expect(raw, RAW_DEVICE, "00 00  00 00");
    vhu_ring_push(raw->ring, raw_pop(raw), 0);
    g_assert_false(vhu_ring_flush(raw->ring));
    raw_put(raw, RAW_DRIVER, "00 00  00 00");
    vhu_ring_push(raw->ring, raw_pop(raw), 0);
    g_assert_true(vhu_ring_flush(raw->ring));
    g_assert_false(vhu_ring_set_notify(raw->ring, true));
    raw_free(raw);
}

static void test_event_index(void)
{
    RawRing *raw = raw_new(RAW_PACKED | RAW_EVENT, 3, 0x80028002);

    raw_open(raw);
    raw_put(raw, RAW_DESC + 32,
            "00 50 00 40 00 00 00 00  05 00 00 00  01 00  80 00");
    raw_put(raw, RAW_DESC,
            "00 50 00 40 00 00 00 00  05 00 00 00  02 00  00 80");
    g_assert_true(vhu_ring_set_notify(raw->ring, true));
    raw_expect(raw, RAW_DEVICE, "02 80  02 00");
    /* Descriptor 0 of the lap of wrap counter 0. */
    raw_put(raw, RAW_DRIVER, "00 00  02 00");
    vhu_ring_push(raw->ring, raw_pop(raw), 0);
    g_assert_false(vhu_ring_flush(raw->ring));
    vhu_ring_push(raw->ring, raw_pop(raw), 0);
    g_assert_true(vhu_ring_flush(raw->ring));
    g_assert_false(vhu_ring_set_notify(raw->ring, true));
    raw_expect(raw, RAW_DEVICE, "01 00  02 00");
    vhu_ring_set_notify(raw->ring, false);
    raw_expect(raw, RAW_DEVICE + 2, "01 00");
    raw_free(raw);
}

/* A reserved value, or one that was not negotiated, is no reason to be
 * silent. */
static void test_odd_event_flags(void)
{
    static const char *const areas[] = {"01 80  02 00", "01 80  03 00"};

    for (unsigned i = 0; i < G_N_ELEMENTS(areas); i++) {
        RawRing *raw = raw_new(RAW_PACKED, 3, FIRST);

        raw_open(raw);
        raw_put(raw, RAW_DESC,
                "00 50 00 40 00 00 00 00  05 00 00 00  01 00  80 00");
        raw_put(raw, RAW_DRIVER, areas[i]);
        vhu_ring_push(raw->ring, raw_pop(raw), 0);
        g_assert_true(vhu_ring_flush(raw->ring));
        raw_free(raw);
    }
}

static void test_in_order(void)
{
    RawRing *raw = raw_new(RAW_PACKED | RAW_IN_ORDER, 4, FIRST);
    VhuElement *elements[3];

    raw_open(raw);
    raw_put(raw, RAW_DESC,
            "00 50 00 40 00 00 00 00  05 00 00 00  01 00  82 00"
            "00 50 00 40 00 00 00 00  05 00 00 00  02 00  82 00"
            "00 50 00 40 00 00 00 00  05 00 00 00  03 00  82 00");
    for (unsigned i = 0; i < 3; i++) {
        elements[i] = raw_pop(raw);
    }
    vhu_ring_push(raw->ring, elements[1], 2);
    g_assert_false(vhu_ring_flush(raw->ring));
    raw_expect(raw, RAW_DESC + 14, "82 00");
    vhu_ring_push(raw->ring, elements[0], 1);
    g_assert_true(vhu_ring_flush(raw->ring));
    raw_expect(raw, RAW_DESC + 8, "01 00 00 00  01 00  82 80");
    raw_expect(raw, RAW_DESC + 24, "02 00 00 00  02 00  82 80");
    raw_expect(raw, RAW_DESC + 40, "05 00 00 00  03 00  82 00");
    raw_free(raw);
}

/* One buffer may fill the ring, and does not look available again. */
static void test_whole_ring(void)
{
    RawRing *raw = raw_new(RAW_PACKED, 2, FIRST);
    VhuElement *element;

    raw_open(raw);
    raw_put(raw, RAW_DESC,
            "00 50 00 40 00 00 00 00  05 00 00 00  01 00  81 00"
            "00 50 00 40 00 00 00 00  05 00 00 00  01 00  80 00");
    element = raw_pop(raw);
    g_assert_cmphex(vhu_ring_base(raw->ring), ==, 0x80000000);
    raw_pop_none(raw);
    vhu_ring_unpop(raw->ring, element);
    g_assert_cmphex(vhu_ring_base(raw->ring), ==, FIRST);
    element = raw_pop(raw);
    vhu_ring_push(raw->ring, element, 0);
    vhu_ring_flush(raw->ring);
    g_assert_cmphex(vhu_ring_base(raw->ring), ==, 0);
    raw_free(raw);
}

static void test_config_refused(void)
{
    static const struct {
        uint32_t size;
        uint32_t base;
        const char *text;
    } rows[] = {
        {0, FIRST, "ring size 0 is not a number from 1 up to 32768"},
        {32769, FIRST, "ring size 32769 is not a number from 1 up to 32768"},
        {3, 0x80008003, "base 0x80008003: available 3, used 0, the ring has 3"},
        {3, 0x80038000, "base 0x80038000: available 0, used 3, the ring has 3"},
        /* The used position is ahead, or more than a lap behind. */
        {3, 0x80018000, "base 0x80018000: available 0, used 1, the ring has 3"},
        {3, 0x80000001, "base 0x80000001: available 1, used 0, the ring has 3"},
    };

    for (unsigned i = 0; i < G_N_ELEMENTS(rows); i++) {
        RawRing *raw = raw_new(RAW_PACKED, rows[i].size, rows[i].base);
        g_autofree char *text = raw_try_open(raw);

        g_assert_cmpstr(text, ==, rows[i].text);
        raw_free(raw);
    }
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/ring/packed/pop-and-push", test_pop_and_push);
    g_test_add_func("/ring/packed/list-wraps", test_list_wraps);
    g_test_add_func("/ring/packed/stale-flags", test_stale_flags);
    g_test_add_func("/ring/packed/out-of-order", test_out_of_order);
    g_test_add_func("/ring/packed/indirect-table", test_indirect_table);
    g_test_add_func("/ring/packed/empty-descriptors", test_empty_descriptors);
    g_test_add_func("/ring/packed/flags-suppress", test_flags_suppress);
    g_test_add_func("/ring/packed/event-index", test_event_index);
    g_test_add_func("/ring/packed/odd-event-flags", test_odd_event_flags);
    g_test_add_func("/ring/packed/in-order", test_in_order);
    g_test_add_func("/ring/packed/whole-ring", test_whole_ring);
    g_test_add_func("/ring/packed/config-refused", test_config_refused);
    return g_test_run();
}
