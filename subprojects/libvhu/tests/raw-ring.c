/* SPDX-License-Identifier: BSD-3-Clause */
/* Owns rings over bytes written by hand. Knows no layout. */
#include "tests/raw-ring.h"

#include <errno.h>
#include <linux/vhost_types.h>
#include <string.h>

#define DATA_BYTES 0x40000u
#define PAGE_BYTES 0x1000u

RawRing *raw_new(uint64_t features, uint32_t size, uint32_t base)
{
    RawRing *raw = g_new0(RawRing, 1);
    uint8_t *ring;

    raw->guest = guest_new(RAW_DATA, DATA_BYTES);
    ring = guest_device_ptr(raw->guest, GUEST_BASE, RAW_DATA);
    raw->config = (VhuRingConfig){
        .size = size,
        .features = features,
        .desc = ring + RAW_DESC,
        .driver = ring + RAW_DRIVER,
        .device = ring + RAW_DEVICE,
        .base = base,
    };
    return raw;
}

void raw_free(RawRing *raw)
{
    vhu_ring_free(raw->ring);
    guest_free(raw->guest);
    g_free(raw);
}

void raw_track(RawRing *raw, uint16_t entries)
{
    raw->config.inflight = (uint8_t *)raw->config.desc + RAW_INFLIGHT;
    raw->config.inflight_size = entries;
}

char *raw_try_open(RawRing *raw)
{
    VhuError err = {0};

    vhu_ring_free(raw->ring);
    raw->ring = vhu_ring_new(&raw->config, &err);
    g_assert_cmpint(raw->ring != NULL, ==, err.code == 0);
    if (raw->ring) {
        vhu_ring_set_memory(raw->ring, raw->guest->memory, NULL);
    }
    return g_strdup(err.text);
}

void raw_open(RawRing *raw)
{
    g_autofree char *text = raw_try_open(raw);

    g_assert_cmpstr(text, ==, "");
}

/* Bytes of hex digits, spaces ignored. Returns how many. */
static size_t parse_hex(const char *hex, uint8_t *bytes, size_t room)
{
    size_t num = 0;

    while (*(hex += strspn(hex, " "))) {
        g_assert_true(g_ascii_isxdigit(hex[0]) && g_ascii_isxdigit(hex[1]));
        g_assert_cmpuint(num, <, room);
        bytes[num++] = (uint8_t)(g_ascii_xdigit_value(hex[0]) << 4 |
                                 g_ascii_xdigit_value(hex[1]));
        hex += 2;
    }
    return num;
}

void raw_put(RawRing *raw, uint64_t at, const char *hex)
{
    uint8_t bytes[512];
    size_t num = parse_hex(hex, bytes, sizeof(bytes));

    memcpy(raw->guest->local + at, bytes, num);
}

void raw_expect(const RawRing *raw, uint64_t at, const char *hex)
{
    uint8_t bytes[512];
    size_t num = parse_hex(hex, bytes, sizeof(bytes));

    g_assert_cmpmem(raw->guest->local + at, num, bytes, num);
}

VhuElement *raw_pop(RawRing *raw)
{
    VhuElement *element = NULL;
    VhuError err = {0};

    g_assert_cmpint(vhu_ring_pop(raw->ring, &element, &err), ==, 1);
    g_assert_cmpstr(err.text, ==, "");
    return element;
}

void raw_pop_none(RawRing *raw)
{
    VhuElement *element = NULL;
    VhuError err = {0};

    g_assert_false(vhu_ring_has_work(raw->ring));
    g_assert_cmpint(vhu_ring_pop(raw->ring, &element, &err), ==, 0);
    g_assert_cmpint(err.code, ==, 0);
}

void raw_pop_broken(RawRing *raw, const char *text)
{
    VhuElement *element = NULL;
    VhuError err = {0};

    g_assert_true(vhu_ring_has_work(raw->ring));
    g_assert_cmpint(vhu_ring_pop(raw->ring, &element, &err), ==, -EPROTO);
    g_assert_cmpstr(err.text, ==, text);
    g_assert_cmpint(err.code, ==, EPROTO);
    g_assert_null(element);
}

void raw_add_page(const RawRing *raw, VhuIotlb *iotlb, uint64_t iova,
                  uint64_t offset, uint8_t perm)
{
    VhuIotlbMsg msg = {
        .iova = iova,
        .size = PAGE_BYTES,
        .perm = perm,
        .type = VHOST_IOTLB_UPDATE,
    };
    VhuMemory *memory = raw->guest->memory;

    /* Regions are apart in the front end's addresses. */
    for (uint32_t i = 0; i < vhu_memory_num_regions(memory); i++) {
        VhuRegionInfo region = vhu_memory_region(memory, i);
        uint64_t into = GUEST_BASE + offset - region.guest_addr;

        if (into < region.size) {
            msg.user_addr = region.user_addr + into;
        }
    }
    g_assert_cmpint(vhu_iotlb_apply(iotlb, &msg, memory, NULL), ==, 0);
}

static void print_pieces(const RawRing *raw, GString *text,
                         const struct iovec *iov, uint32_t num)
{
    VhuGuestAddr addr = 0;

    for (uint32_t i = 0; i < num; i++) {
        g_assert_cmpuint(
            vhu_memory_ptr_guest(raw->guest->memory, iov[i].iov_base, &addr),
            >=, iov[i].iov_len);
        g_string_append_printf(text, "%" G_GINT64_MODIFIER "x+%zx ",
                               (guint64)addr, iov[i].iov_len);
    }
}

void raw_expect_pieces(const RawRing *raw, const VhuElement *element,
                       const char *pieces)
{
    g_autoptr(GString) text = g_string_new(NULL);

    print_pieces(raw, text, element->out, element->num_out);
    g_string_append(text, "| ");
    print_pieces(raw, text, element->in, element->num_in);
    g_string_truncate(text, text->len - 1);
    g_assert_cmpstr(text->str, ==, pieces);
}
