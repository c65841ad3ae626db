/* SPDX-License-Identifier: BSD-3-Clause */
/* Owns the tests of split rings byte by byte. What a driver may not write is
 * in test-ring-hostile.c. */
#include "tests/raw-ring.h"

/* addr, len, flags, next: a chain 2 -> 5 -> 7 of a ring of eight. */
static void put_chain(RawRing *raw)
{
    raw_put(raw, RAW_DESC + 2 * 16,
            "00 41 00 40 00 00 00 00  10 00 00 00  01 00  05 00");
    raw_put(raw, RAW_DESC + 5 * 16,
            "00 50 00 40 00 00 00 00  00 02 00 00  03 00  07 00");
    raw_put(raw, RAW_DESC + 7 * 16,
            "ff 4f 00 40 00 00 00 00  01 00 00 00  02 00  00 00");
}

static void test_pop_and_push(void)
{
    RawRing *raw = raw_new(RAW_BASIC, 8, 0);
    VhuElement *element;

    raw_open(raw);
    raw_pop_none(raw);
    put_chain(raw);
    raw_put(raw, RAW_DRIVER, "00 00  01 00  02 00");
    element = raw_pop(raw);
    g_assert_cmpuint(element->id, ==, 2);
    g_assert_cmpuint(element->out_bytes, ==, 0x10);
    g_assert_cmpuint(element->in_bytes, ==, 0x201);
    raw_expect_pieces(raw, element, "40004100+10 | 40005000+200 40004fff+1");
    raw_pop_none(raw);

    vhu_ring_push(raw->ring, element, 0x201);
    raw_expect(raw, RAW_DEVICE, "00 00  00 00  00 00 00 00  00 00 00 00");
    g_assert_true(vhu_ring_flush(raw->ring));
    raw_expect(raw, RAW_DEVICE, "00 00  01 00  02 00 00 00  01 02 00 00");
    g_assert_cmpuint(vhu_ring_base(raw->ring), ==, 1);
    raw_free(raw);
}

static void test_indices_wrap(void)
{
    RawRing *raw = raw_new(RAW_BASIC, 8, 0xffff);
    VhuElement *elements[2];

    raw_put(raw, RAW_DEVICE, "00 00  ff ff");
    raw_open(raw);
    put_chain(raw);
    raw_put(raw, RAW_DESC, "00 40 00 40 00 00 00 00  00 01 00 00  02 00");
    /* Entry 7 holds 2, entry 0 holds 0. */
    raw_put(raw, RAW_DRIVER, "00 00  01 00  00 00");
    raw_put(raw, RAW_DRIVER + 4 + 2 * 7, "02 00");
    elements[0] = raw_pop(raw);
    elements[1] = raw_pop(raw);
    g_assert_cmpuint(elements[0]->id, ==, 2);
    g_assert_cmpuint(elements[1]->id, ==, 0);
    vhu_ring_push(raw->ring, elements[1], 0x100);
    vhu_ring_push(raw->ring, elements[0], 0);
    g_assert_true(vhu_ring_flush(raw->ring));
    raw_expect(raw, RAW_DEVICE, "00 00  01 00  02 00 00 00  00 00 00 00");
    raw_expect(raw, RAW_DEVICE + 4 + 7 * 8, "00 00 00 00  00 01 00 00");
    g_assert_cmpuint(vhu_ring_base(raw->ring), ==, 1);
    raw_free(raw);
}

static void test_written_is_bounded(void)
{
    RawRing *raw = raw_new(RAW_BASIC, 8, 0);

    raw_open(raw);
    put_chain(raw);
    raw_put(raw, RAW_DRIVER, "00 00  01 00  02 00");
    vhu_ring_push(raw->ring, raw_pop(raw), 0xffffffff);
    vhu_ring_flush(raw->ring);
    raw_expect(raw, RAW_DEVICE + 4, "02 00 00 00  01 02 00 00");
    raw_free(raw);
}

static void test_indirect_table(void)
{
    RawRing *raw = raw_new(RAW_BASIC | RAW_INDIRECT, 8, 0);

    raw_open(raw);
    /* A table of three at 0x40004008, which need not be aligned; WRITE on the
     * descriptor that refers to it means nothing. Its order is 0, 2, 1. */
    raw_put(raw, RAW_DESC + 16,
            "08 40 00 40 00 00 00 00  30 00 00 00  06 00  ff ff");
    raw_put(raw, RAW_DATA + 8,
            "00 60 00 40 00 00 00 00  01 00 00 00  01 00  02 00"
            "00 62 00 40 00 00 00 00  03 00 00 00  02 00  09 00"
            "00 61 00 40 00 00 00 00  02 00 00 00  03 00  01 00");
    raw_put(raw, RAW_DRIVER, "00 00  01 00  01 00");
    raw_expect_pieces(raw, raw_pop(raw), "40006000+1 | 40006100+2 40006200+3");
    raw_free(raw);
}

static void test_chain_then_indirect(void)
{
    RawRing *raw = raw_new(RAW_BASIC | RAW_INDIRECT, 8, 0);
    VhuElement *element;

    raw_open(raw);
    raw_put(raw, RAW_DESC + 3 * 16,
            "00 70 00 40 00 00 00 00  08 00 00 00  01 00  04 00");
    raw_put(raw, RAW_DESC + 4 * 16,
            "00 40 00 40 00 00 00 00  20 00 00 00  04 00  00 00");
    raw_put(raw, RAW_DATA,
            "00 60 00 40 00 00 00 00  01 00 00 00  01 00  01 00"
            "00 62 00 40 00 00 00 00  03 00 00 00  02 00");
    raw_put(raw, RAW_DRIVER, "00 00  01 00  03 00");
    element = raw_pop(raw);
    raw_expect_pieces(raw, element, "40007000+8 40006000+1 | 40006200+3");
    vhu_ring_push(raw->ring, element, 3);
    vhu_ring_flush(raw->ring);
    raw_expect(raw, RAW_DEVICE + 2, "01 00  03 00 00 00  03 00 00 00");
    raw_free(raw);
}

static void test_empty_descriptors(void)
{
    RawRing *raw = raw_new(RAW_BASIC, 8, 0);
    VhuElement *element;

    raw_open(raw);
    /* Of no bytes, at an address that is nowhere. */
    raw_put(raw, RAW_DESC,
            "00 00 00 00 00 00 ff ff  00 00 00 00  01 00  01 00"
            "00 50 00 40 00 00 00 00  05 00 00 00  01 00  02 00"
            "00 00 00 00 00 00 ff ff  00 00 00 00  02 00");
    raw_put(raw, RAW_DRIVER, "00 00  02 00  00 00  02 00");
    element = raw_pop(raw);
    raw_expect_pieces(raw, element, "40005000+5 |");
    g_assert_cmpuint(element->in_bytes, ==, 0);
    vhu_ring_push(raw->ring, element, 7);
    vhu_ring_flush(raw->ring);
    raw_expect(raw, RAW_DEVICE + 4, "00 00 00 00  00 00 00 00");
    element = raw_pop(raw);
    raw_expect_pieces(raw, element, "|");
    raw_free(raw);
}

static void test_pieces_cross_regions(void)
{
    RawRing *raw = raw_new(RAW_BASIC, 8, 0);
    VhuRegionInfo region = vhu_memory_region(raw->guest->memory, 1);

    raw_open(raw);
    g_assert_cmphex(region.guest_addr + region.size, ==, 0x4001a000);
    raw_put(raw, RAW_DESC, "ff 9f 01 40 00 00 00 00  02 00 00 00  02 00");
    raw_put(raw, RAW_DRIVER, "00 00  01 00  00 00");
    raw_expect_pieces(raw, raw_pop(raw), "| 40019fff+1 4001a000+1");
    raw_free(raw);
}

static void test_flags_suppress(void)
{
    RawRing *raw = raw_new(RAW_BASIC, 8, 0);

    raw_open(raw);
    put_chain(raw);
    raw_put(raw, RAW_DRIVER, "01 00  01 00  02 00");
    g_assert_false(vhu_ring_set_notify(raw->ring, false));
    raw_expect(raw, RAW_DEVICE, "01 00");
    g_assert_true(vhu_ring_set_notify(raw->ring, true));
    raw_expect(raw, RAW_DEVICE, "00 00");
    vhu_ring_push(raw->ring, raw_pop(raw), 0);
    g_assert_false(vhu_ring_flush(raw->ring));
    g_assert_false(vhu_ring_set_notify(raw->ring, true));
    raw_free(raw);
}

static void test_event_index(void)
{
    RawRing *raw = raw_new(RAW_BASIC | RAW_EVENT, 4, 0);

    raw_open(raw);
    raw_put(raw, RAW_DESC, "00 50 00 40 00 00 00 00  05 00 00 00  00 00");
    raw_put(raw, RAW_DESC + 16, "00 50 00 40 00 00 00 00  05 00 00 00  00 00");
    /* flags: not looked at; index 2; entries 0, 1; used_event: 1 */
    raw_put(raw, RAW_DRIVER, "01 00  02 00  00 00  01 00  00 00  00 00  01 00");
    vhu_ring_push(raw->ring, raw_pop(raw), 0);
    g_assert_false(vhu_ring_flush(raw->ring));
    g_assert_true(vhu_ring_set_notify(raw->ring, true));
    raw_expect(raw, RAW_DEVICE + 4 + 4 * 8, "01 00");
    vhu_ring_push(raw->ring, raw_pop(raw), 0);
    g_assert_true(vhu_ring_flush(raw->ring));
    g_assert_false(vhu_ring_set_notify(raw->ring, false));
    /* The device must leave flags alone and cannot say never. */
    raw_expect(raw, RAW_DEVICE, "00 00");
    raw_expect(raw, RAW_DEVICE + 4 + 4 * 8, "01 00");
    g_assert_false(vhu_ring_set_notify(raw->ring, true));
    raw_expect(raw, RAW_DEVICE + 4 + 4 * 8, "02 00");
    raw_free(raw);
}

/* Without the feature the bytes behind the rings are somebody else's. */
static void test_no_event_index(void)
{
    RawRing *raw = raw_new(RAW_BASIC, 4, 0);

    raw_open(raw);
    raw_put(raw, RAW_DESC, "00 50 00 40 00 00 00 00  05 00 00 00  00 00");
    raw_put(raw, RAW_DRIVER, "00 00  01 00  00 00  00 00  00 00  00 00  63 00");
    raw_put(raw, RAW_DEVICE + 4 + 4 * 8, "aa aa");
    vhu_ring_push(raw->ring, raw_pop(raw), 0);
    g_assert_true(vhu_ring_flush(raw->ring));
    vhu_ring_set_notify(raw->ring, true);
    raw_expect(raw, RAW_DEVICE + 4 + 4 * 8, "aa aa");
    raw_free(raw);
}

static void test_in_order(void)
{
    RawRing *raw = raw_new(RAW_BASIC | RAW_IN_ORDER, 4, 0);
    VhuElement *elements[3];

    raw_open(raw);
    for (unsigned i = 0; i < 3; i++) {
        raw_put(raw, RAW_DESC + i * 16,
                "00 50 00 40 00 00 00 00  05 00 00 00  02 00");
    }
    raw_put(raw, RAW_DRIVER, "00 00  03 00  00 00  01 00  02 00");
    for (unsigned i = 0; i < 3; i++) {
        elements[i] = raw_pop(raw);
    }
    vhu_ring_push(raw->ring, elements[2], 3);
    vhu_ring_push(raw->ring, elements[1], 2);
    g_assert_false(vhu_ring_flush(raw->ring));
    raw_expect(raw, RAW_DEVICE + 2, "00 00");
    g_assert_cmpuint(vhu_ring_in_flight(raw->ring), ==, 3);
    vhu_ring_push(raw->ring, elements[0], 1);
    g_assert_true(vhu_ring_flush(raw->ring));
    raw_expect(raw, RAW_DEVICE + 2,
               "03 00  00 00 00 00  01 00 00 00"
               "01 00 00 00  02 00 00 00"
               "02 00 00 00  03 00 00 00");
    g_assert_cmpuint(vhu_ring_in_flight(raw->ring), ==, 0);
    raw_free(raw);
}

static void test_config_refused(void)
{
    static const struct {
        uint32_t size;
        uint32_t base;
        const char *text;
    } rows[] = {
        {0, 0, "ring size 0 is not a power of two up to 32768"},
        {6, 0, "ring size 6 is not a power of two up to 32768"},
        {65536, 0, "ring size 65536 is not a power of two up to 32768"},
        {8, 9, "base 9, the used index is 0, the ring has 8"},
        {8, 0xffff, "base 65535, the used index is 0, the ring has 8"},
        {8, 0x10000, "base 65536, the used index is 0, the ring has 8"},
    };

    for (unsigned i = 0; i < G_N_ELEMENTS(rows); i++) {
        RawRing *raw = raw_new(RAW_BASIC, rows[i].size, rows[i].base);
        g_autofree char *text = raw_try_open(raw);

        g_assert_cmpstr(text, ==, rows[i].text);
        raw_free(raw);
    }
}

static void test_alignment_refused(void)
{
    RawRing *raw = raw_new(RAW_BASIC, 8, 0);
    uint8_t *ring = raw->config.desc;
    VhuRingConfig good = raw->config;

    for (unsigned i = 0; i < 3; i++) {
        g_autofree char *text = NULL;

        raw->config = good;
        raw->config.desc = ring + (i == 0 ? 8 : 0);
        raw->config.driver = ring + RAW_DRIVER + (i == 1 ? 1 : 0);
        raw->config.device = ring + RAW_DEVICE + (i == 2 ? 2 : 0);
        text = raw_try_open(raw);
        g_assert_true(g_str_has_suffix(text, "are not aligned"));
    }
    raw_free(raw);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/ring/split/pop-and-push", test_pop_and_push);
    g_test_add_func("/ring/split/indices-wrap", test_indices_wrap);
    g_test_add_func("/ring/split/written-is-bounded", test_written_is_bounded);
    g_test_add_func("/ring/split/indirect-table", test_indirect_table);
    g_test_add_func("/ring/split/chain-then-indirect",
                    test_chain_then_indirect);
    g_test_add_func("/ring/split/empty-descriptors", test_empty_descriptors);
    g_test_add_func("/ring/split/pieces-cross-regions",
                    test_pieces_cross_regions);
    g_test_add_func("/ring/split/flags-suppress", test_flags_suppress);
    g_test_add_func("/ring/split/event-index", test_event_index);
    g_test_add_func("/ring/split/no-event-index", test_no_event_index);
    g_test_add_func("/ring/split/in-order", test_in_order);
    g_test_add_func("/ring/split/config-refused", test_config_refused);
    g_test_add_func("/ring/split/alignment-refused", test_alignment_refused);
    return g_test_run();
}
