/* SPDX-License-Identifier: BSD-3-Clause */
/* Owns what nobody may leave in an inflight region: each row is bytes by hand
 * over a good one and the error they must come to. */
#include "tests/raw-inflight.h"

typedef struct Row {
    const char *name;
    struct {
        uint64_t at;
        const char *hex;
    } put[3]; /* over what is there */
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
    check_row(raw_split_new(), data);
}

static void test_packed_row(gconstpointer data)
{
    check_row(raw_packed_busy(), data);
}

/* Flags are read when the buffer is resubmitted, and checked then. */
static void test_packed_last_has_next(void)
{
    RawRing *raw = raw_packed_busy();

    raw_put(raw, ENTRY(0) + 18, "83 00");
    raw_open(raw);
    raw_pop_broken(raw, "inflight region: entry 0 ends a buffer and has a "
                        "next");
    raw_free(raw);
}

/* Addresses are checked then, too. */
static void test_packed_unmapped(void)
{
    RawRing *raw = raw_packed_busy();

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
    RawRing *raw = packed ? raw_packed_busy() : raw_split_new();

    raw_put(raw, packed ? ENTRY(1) + 8 : SPLIT(3), packed ? "08" : "01");
    raw_put(raw, packed ? ENTRY(2) + 8 : SPLIT(1), packed ? "08" : "01");
    raw_put(raw, RAW_DRIVER, packed ? "" : "00 00  09 00");
    raw_open(raw);
    g_assert_cmpuint(raw_pop(raw)->id, ==, packed ? 0x31 : 1);
    g_assert_cmpuint(raw_pop(raw)->id, ==, packed ? 0x32 : 3);
    raw_pop_none(raw);
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
    add_rows("split", split_rows, G_N_ELEMENTS(split_rows), test_split_row);
    add_rows("packed", packed_rows, G_N_ELEMENTS(packed_rows), test_packed_row);
    g_test_add_func("/inflight/packed/last-has-next",
                    test_packed_last_has_next);
    g_test_add_func("/inflight/packed/unmapped", test_packed_unmapped);
    g_test_add_data_func("/inflight/split/same-counters", GUINT_TO_POINTER(0),
                         test_same_counters);
    g_test_add_data_func("/inflight/packed/same-counters", GUINT_TO_POINTER(1),
                         test_same_counters);
    return g_test_run();
}
