/* SPDX-License-Identifier: BSD-3-Clause */
/* Owns what a driver may not write: each row is bytes by hand and the error
 * they must come to. */
#include "tests/raw-ring.h"

#include <string.h>

#define FIRST      0x80008000u
#define MAX_PIECES "1024"

typedef struct Row {
    const char *name;
    const char *desc;   /* at RAW_DESC */
    const char *table;  /* at RAW_DATA, 0x40004000 */
    const char *driver; /* at RAW_DRIVER; NULL: entry 0 is descriptor 0 */
    const char *text;   /* of the error */
    uint64_t without;   /* features not negotiated */
} Row;

/* A ring of eight, INDIRECT_DESC negotiated. addr, len, flags, next. */
static const Row split_rows[] = {
    {
        .name = "head-past-the-table",
        .driver = "00 00  01 00  08 00",
        .text = "available entry 0: descriptor 8 of 8",
    },
    {
        .name = "index-too-far-ahead",
        .driver = "00 00  09 00",
        .text = "available index 9 is 9 ahead with 0 in flight, the ring has "
                "8",
    },
    {
        .name = "index-goes-back",
        .driver = "00 00  ff ff",
        .text = "available index 65535 is 65535 ahead with 0 in flight, the "
                "ring has 8",
    },
    {
        .name = "next-past-the-table",
        .desc = "00 50 00 40 00 00 00 00  01 00 00 00  01 00  08 00",
        .text = "descriptor 0: next is 8 of 8",
    },
    {
        .name = "loop-of-one",
        .desc = "00 50 00 40 00 00 00 00  01 00 00 00  01 00  00 00",
        .text = "buffer 0: loop among 8 descriptors",
    },
    {
        .name = "loop-of-two-without-bytes",
        .desc = "00 50 00 40 00 00 00 00  00 00 00 00  01 00  01 00"
                "00 50 00 40 00 00 00 00  00 00 00 00  01 00  00 00",
        .text = "buffer 0: loop among 8 descriptors",
    },
    {
        .name = "readable-after-writable",
        .desc = "00 50 00 40 00 00 00 00  01 00 00 00  03 00  01 00"
                "00 51 00 40 00 00 00 00  01 00 00 00  00 00  00 00",
        .text = "descriptor 1 is readable after writable ones",
    },
    {
        .name = "unmapped",
        .desc = "00 00 00 00 05 00 00 00  01 00 00 00  00 00  00 00",
        .text = "descriptor 0: 1 bytes at 0x500000000 cannot be reached",
    },
    {
        .name = "unmapped-at-its-end",
        .desc = "ff 6f 06 40 00 00 00 00  02 00 00 00  02 00  00 00",
        .text = "descriptor 0: 2 bytes at 0x40066fff cannot be reached",
    },
    {
        .name = "wraps-around-the-address-space",
        .desc = "ff ff ff ff ff ff ff ff  02 00 00 00  02 00  00 00",
        .text = "descriptor 0: 2 bytes at 0xffffffffffffffff cannot be "
                "reached",
    },
    {
        .name = "indirect-not-negotiated",
        .desc = "00 40 00 40 00 00 00 00  10 00 00 00  04 00  00 00",
        .text = "descriptor 0 is indirect, INDIRECT_DESC was not negotiated",
        .without = RAW_INDIRECT,
    },
    {
        .name = "indirect-and-next",
        .desc = "00 40 00 40 00 00 00 00  10 00 00 00  05 00  01 00",
        .text = "descriptor 0 is indirect and has a next",
    },
    {
        .name = "table-of-no-descriptors",
        .desc = "00 40 00 40 00 00 00 00  00 00 00 00  04 00  00 00",
        .text = "descriptor 0: indirect table of 0 bytes",
    },
    {
        .name = "table-of-part-of-a-descriptor",
        .desc = "00 40 00 40 00 00 00 00  18 00 00 00  04 00  00 00",
        .text = "descriptor 0: indirect table of 24 bytes",
    },
    {
        .name = "table-unmapped",
        .desc = "00 00 00 00 05 00 00 00  10 00 00 00  04 00  00 00",
        .text = "descriptor 0: 16 bytes at 0x500000000 cannot be reached",
    },
    {
        .name = "table-unmapped-at-its-end",
        .desc = "f0 6f 06 40 00 00 00 00  20 00 00 00  04 00  00 00",
        .text = "descriptor 0: 32 bytes at 0x40066ff0 cannot be reached",
    },
    {
        .name = "table-wraps-around-the-address-space",
        .desc = "f8 ff ff ff ff ff ff ff  10 00 00 00  04 00  00 00",
        .text = "descriptor 0: 16 bytes at 0xfffffffffffffff8 cannot be "
                "reached",
    },
    {
        .name = "indirect-in-a-table",
        .desc = "00 40 00 40 00 00 00 00  10 00 00 00  04 00  00 00",
        .table = "00 41 00 40 00 00 00 00  10 00 00 00  04 00  00 00",
        .text = "indirect descriptor 0 is indirect itself",
    },
    {
        .name = "next-past-an-indirect-table",
        .desc = "00 40 00 40 00 00 00 00  10 00 00 00  04 00  00 00",
        .table = "00 50 00 40 00 00 00 00  01 00 00 00  01 00  01 00",
        .text = "indirect descriptor 0: next is 1 of 1",
    },
    {
        .name = "loop-in-a-table",
        .desc = "00 40 00 40 00 00 00 00  20 00 00 00  04 00  00 00",
        .table = "00 50 00 40 00 00 00 00  01 00 00 00  01 00  01 00"
                 "00 50 00 40 00 00 00 00  01 00 00 00  01 00  00 00",
        .text = "buffer 0: loop among 2 indirect descriptors",
    },
    {
        .name = "loop-in-a-huge-table-without-bytes",
        .desc = "00 40 00 40 00 00 00 00  00 80 00 00  04 00  00 00",
        .table = "00 50 00 40 00 00 00 00  00 00 00 00  01 00  00 00",
        .text = "buffer 0 has more than " MAX_PIECES " pieces",
    },
    {
        .name = "table-readable-after-chained-writable",
        .desc = "00 50 00 40 00 00 00 00  01 00 00 00  03 00  01 00"
                "00 40 00 40 00 00 00 00  10 00 00 00  04 00  00 00",
        .table = "00 50 00 40 00 00 00 00  01 00 00 00  00 00  00 00",
        .text = "indirect descriptor 0 is readable after writable ones",
    },
    {
        .name = "unmapped-in-a-table",
        .desc = "00 40 00 40 00 00 00 00  10 00 00 00  04 00  00 00",
        .table = "00 00 00 00 05 00 00 00  01 00 00 00  00 00  00 00",
        .text = "indirect descriptor 0: 1 bytes at 0x500000000 cannot be "
                "reached",
    },
};

/* A ring of four, INDIRECT_DESC negotiated. addr, len, id, flags. */
static const Row packed_rows[] = {
    {
        .name = "list-longer-than-the-ring",
        .desc = "00 50 00 40 00 00 00 00  01 00 00 00  00 00  81 00"
                "00 50 00 40 00 00 00 00  01 00 00 00  00 00  81 00"
                "00 50 00 40 00 00 00 00  01 00 00 00  00 00  81 00"
                "00 50 00 40 00 00 00 00  01 00 00 00  00 00  81 00",
        .text = "descriptor 0 is one more than the ring's 4",
    },
    {
        .name = "list-not-available-to-its-end",
        .desc = "00 50 00 40 00 00 00 00  01 00 00 00  00 00  81 00"
                "00 50 00 40 00 00 00 00  01 00 00 00  00 00  80 80",
        .text = "descriptor 1 follows an available one and has flags 0x8080",
    },
    {
        .name = "readable-after-writable",
        .desc = "00 50 00 40 00 00 00 00  01 00 00 00  00 00  83 00"
                "00 50 00 40 00 00 00 00  01 00 00 00  00 00  80 00",
        .text = "descriptor 1 is readable after writable ones",
    },
    {
        .name = "unmapped",
        .desc = "00 00 00 00 05 00 00 00  01 00 00 00  00 00  80 00",
        .text = "descriptor 0: 1 bytes at 0x500000000 cannot be reached",
    },
    {
        .name = "indirect-not-negotiated",
        .desc = "00 40 00 40 00 00 00 00  10 00 00 00  00 00  84 00",
        .text = "descriptor 0 is indirect, INDIRECT_DESC was not negotiated",
        .without = RAW_INDIRECT,
    },
    {
        .name = "indirect-at-the-head-of-a-list",
        .desc = "00 40 00 40 00 00 00 00  10 00 00 00  00 00  85 00",
        .text = "descriptor 0 is indirect and in a list",
    },
    {
        .name = "indirect-at-the-end-of-a-list",
        .desc = "00 50 00 40 00 00 00 00  01 00 00 00  00 00  81 00"
                "00 40 00 40 00 00 00 00  10 00 00 00  00 00  84 00",
        .text = "descriptor 1 is indirect and in a list",
    },
    {
        .name = "table-of-no-descriptors",
        .desc = "00 40 00 40 00 00 00 00  00 00 00 00  00 00  84 00",
        .text = "descriptor 0: indirect table of 0 bytes",
    },
    {
        .name = "table-of-part-of-a-descriptor",
        .desc = "00 40 00 40 00 00 00 00  0f 00 00 00  00 00  84 00",
        .text = "descriptor 0: indirect table of 15 bytes",
    },
    {
        .name = "table-too-long",
        .desc = "00 40 00 40 00 00 00 00  10 40 00 00  00 00  84 00",
        .text = "descriptor 0: table of 1025 descriptors, at most " MAX_PIECES
                " are "
                "accepted",
    },
    {
        .name = "table-unmapped",
        .desc = "00 00 00 00 05 00 00 00  10 00 00 00  00 00  84 00",
        .text = "descriptor 0: 16 bytes at 0x500000000 cannot be reached",
    },
    {
        .name = "unmapped-in-a-table",
        .desc = "00 40 00 40 00 00 00 00  20 00 00 00  00 00  84 00",
        .table = "00 50 00 40 00 00 00 00  01 00 00 00  00 00  00 00"
                 "00 00 00 00 05 00 00 00  01 00 00 00  00 00  00 00",
        .text = "indirect descriptor 1: 1 bytes at 0x500000000 cannot be "
                "reached",
    },
    {
        .name = "readable-after-writable-in-a-table",
        .desc = "00 40 00 40 00 00 00 00  20 00 00 00  00 00  84 00",
        .table = "00 50 00 40 00 00 00 00  01 00 00 00  00 00  02 00"
                 "00 50 00 40 00 00 00 00  01 00 00 00  00 00  00 00",
        .text = "indirect descriptor 1 is readable after writable ones",
    },
};

static void check_row(RawRing *raw, const Row *row)
{
    uint32_t base = raw->config.base;

    raw->config.features &= ~row->without;
    raw_open(raw);
    raw_put(raw, RAW_DESC, row->desc ? row->desc : "");
    raw_put(raw, RAW_DATA, row->table ? row->table : "");
    raw_put(raw, RAW_DRIVER, row->driver ? row->driver : "");
    raw_pop_broken(raw, row->text);
    g_assert_cmphex(vhu_ring_base(raw->ring), ==, base);
    /* A broken ring says so again, even if the driver mends it. */
    memset(raw->guest->local, 0, RAW_DATA);
    raw_pop_broken(raw, row->text);
    raw_free(raw);
}

static void test_split_row(gconstpointer data)
{
    RawRing *raw = raw_new(RAW_BASIC | RAW_INDIRECT, 8, 0);

    raw_put(raw, RAW_DRIVER, "00 00  01 00  00 00");
    check_row(raw, data);
}

static void test_packed_row(gconstpointer data)
{
    check_row(raw_new(RAW_PACKED | RAW_INDIRECT, 4, FIRST), data);
}

/* ---- What takes more than one buffer, or more bytes than one writes ---- */

static void test_head_twice(void)
{
    RawRing *raw = raw_new(RAW_BASIC, 8, 0);

    raw_open(raw);
    raw_put(raw, RAW_DESC, "00 50 00 40 00 00 00 00  01 00 00 00  00 00");
    raw_put(raw, RAW_DRIVER, "00 00  02 00  00 00  00 00");
    raw_pop(raw);
    raw_pop_broken(raw, "available entry 1: descriptor 0 is in flight");
    raw_free(raw);
}

/* The index may move, but not past what is in flight. */
static void test_too_many_in_flight(void)
{
    RawRing *raw = raw_new(RAW_BASIC, 2, 0);

    raw_open(raw);
    raw_put(raw, RAW_DESC,
            "00 50 00 40 00 00 00 00  01 00 00 00  00 00  00 00"
            "00 50 00 40 00 00 00 00  01 00 00 00  00 00");
    raw_put(raw, RAW_DRIVER, "00 00  01 00  00 00  01 00");
    raw_pop(raw);
    raw_put(raw, RAW_DRIVER, "00 00  03 00");
    raw_pop_broken(raw, "available index 3 is 2 ahead with 1 in flight, the "
                        "ring has 2");
    raw_free(raw);
}

static void test_packed_too_many_in_flight(void)
{
    RawRing *raw = raw_new(RAW_PACKED, 1, FIRST);

    raw_open(raw);
    raw_put(raw, RAW_DESC,
            "00 50 00 40 00 00 00 00  01 00 00 00  00 00  80 00");
    raw_pop(raw);
    /* Available in the next lap, before the device used it in this one. */
    raw_put(raw, RAW_DESC + 14, "00 80");
    raw_pop_broken(raw, "descriptor 0 is one more than the ring's 1");
    raw_free(raw);
}

/* Descriptors of one byte each in a table at RAW_DATA. */
static void put_table(RawRing *raw, unsigned num)
{
    for (unsigned i = 0; i < num; i++) {
        uint8_t *desc = raw->guest->local + RAW_DATA + 16 * i;

        memcpy(desc, "\x00\xd0\x00\x40\0\0\0\0\x01\0\0\0\x01\0", 14);
        desc[12] = i + 1 < num;
        desc[14] = (uint8_t)(i + 1);
        desc[15] = (uint8_t)((i + 1) >> 8);
    }
}

static void test_pieces(unsigned num, const char *text)
{
    RawRing *raw = raw_new(RAW_BASIC | RAW_INDIRECT, 8, 0);
    uint32_t bytes = 16 * num;
    VhuElement *element;

    raw_open(raw);
    put_table(raw, num);
    raw_put(raw, RAW_DESC, "00 40 00 40 00 00 00 00  00 00 00 00  04 00");
    memcpy(raw->guest->local + RAW_DESC + 8, &bytes, sizeof(bytes));
    raw_put(raw, RAW_DRIVER, "00 00  01 00  00 00");
    if (text) {
        raw_pop_broken(raw, text);
    } else {
        element = raw_pop(raw);
        g_assert_cmpuint(element->num_out, ==, num);
        g_assert_cmpuint(element->out_bytes, ==, num);
    }
    raw_free(raw);
}

static void test_most_pieces(void)
{
    test_pieces(1024, NULL);
}

static void test_too_many_pieces(void)
{
    test_pieces(1025, "buffer 0 has more than 1024 pieces");
}

/* The last descriptor lies in two regions. */
static void test_pieces_of_regions(void)
{
    RawRing *raw = raw_new(RAW_BASIC | RAW_INDIRECT, 8, 0);

    raw_open(raw);
    put_table(raw, 1024);
    raw_put(raw, RAW_DATA + 16 * 1023,
            "ff 9f 01 40 00 00 00 00  02 00 00 00  00 00");
    raw_put(raw, RAW_DESC, "00 40 00 40 00 00 00 00  00 40 00 00  04 00");
    raw_put(raw, RAW_DRIVER, "00 00  01 00  00 00");
    raw_pop_broken(raw, "buffer 0 has more than 1024 pieces");
    raw_free(raw);
}

/* Five descriptors of up to 2^30 bytes, the last of @last. */
static void test_bytes(const char *last, bool good)
{
    RawRing *raw = raw_new(RAW_BASIC, 8, 0);
    RingGuest *big = guest_new(RAW_DATA, 1ULL << 30);

    raw_open(raw);
    vhu_ring_set_memory(raw->ring, big->memory, NULL);
    for (unsigned i = 0; i < 5; i++) {
        raw_put(raw, RAW_DESC + 16 * i,
                "00 40 00 40 00 00 00 00  00 00 00 40  03 00  01 00");
        raw_put(
            raw, RAW_DESC + 16 * i + 14,
            (const char *[]){"01 00", "02 00", "03 00", "04 00", "00 00"}[i]);
    }
    raw_put(raw, RAW_DESC + 16 * 4 + 8, last);
    raw_put(raw, RAW_DRIVER, "00 00  01 00  00 00");
    if (good) {
        g_assert_cmpuint(raw_pop(raw)->in_bytes, ==, 1ULL << 32);
    } else {
        raw_pop_broken(raw, "buffer 0 has more than 2^32 bytes");
    }
    raw_free(raw);
    guest_free(big);
}

static void test_most_bytes(void)
{
    test_bytes("00 00 00 00  02 00", true);
}

static void test_too_many_bytes(void)
{
    test_bytes("01 00 00 00  02 00", false);
}

static void add_rows(const char *layout, const Row *rows, unsigned num,
                     GTestDataFunc fn)
{
    for (unsigned i = 0; i < num; i++) {
        g_autofree char *path =
            g_strdup_printf("/ring/%s/%s-is-refused", layout, rows[i].name);

        g_test_add_data_func(path, &rows[i], fn);
    }
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    add_rows("split", split_rows, G_N_ELEMENTS(split_rows), test_split_row);
    add_rows("packed", packed_rows, G_N_ELEMENTS(packed_rows), test_packed_row);
    g_test_add_func("/ring/split/head-twice-is-refused", test_head_twice);
    g_test_add_func("/ring/split/too-many-in-flight-is-refused",
                    test_too_many_in_flight);
    g_test_add_func("/ring/packed/too-many-in-flight-is-refused",
                    test_packed_too_many_in_flight);
    g_test_add_func("/ring/split/most-pieces", test_most_pieces);
    g_test_add_func("/ring/split/too-many-pieces-is-refused",
                    test_too_many_pieces);
    g_test_add_func("/ring/split/too-many-pieces-of-regions-is-refused",
                    test_pieces_of_regions);
    g_test_add_func("/ring/split/most-bytes", test_most_bytes);
    g_test_add_func("/ring/split/too-many-bytes-is-refused",
                    test_too_many_bytes);
    return g_test_run();
}
