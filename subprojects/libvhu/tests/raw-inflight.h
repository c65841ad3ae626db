/* SPDX-License-Identifier: BSD-3-Clause */
/* Owns inflight regions as a back end leaves them behind, for tests. */
#ifndef TESTS_RAW_INFLIGHT_H
#define TESTS_RAW_INFLIGHT_H

#include "tests/raw-ring.h"

/* Entries of a region. */
#define SPLIT(i) (RAW_INFLIGHT + 16 + 16 * (i))
#define ENTRY(i) (RAW_INFLIGHT + 32 + 32 * (i))

/* A split ring of four, the used index is at 7. */
static inline RawRing *raw_split_new(void)
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

/* A packed ring of four, all free, positions at 1 of wrap counter 1. */
static inline RawRing *raw_packed_new(void)
{
    RawRing *raw = raw_new(RAW_PACKED, 4, 0x80008000);

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
static inline RawRing *raw_packed_busy(void)
{
    RawRing *raw = raw_packed_new();

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

#endif
