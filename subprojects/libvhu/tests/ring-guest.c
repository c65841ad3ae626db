/* SPDX-License-Identifier: BSD-3-Clause */
/* Owns the guest of the ring tests. Knows no expectations. */
#include "tests/ring-guest.h"

#include "tests/shared-memory.h"

static uint64_t page_up(uint64_t bytes)
{
    return (bytes + PAGE - 1) / PAGE * PAGE;
}

uint64_t guest_data_at(uint64_t ring_bytes)
{
    return page_up(ring_bytes);
}

RingGuest *guest_new(uint64_t ring_bytes, uint64_t data_bytes)
{
    RingGuest *guest = g_new0(RingGuest, 1);
    uint64_t data_pages = page_up(data_bytes) / PAGE;
    uint64_t pages[4] = {
        page_up(ring_bytes) / PAGE,
        data_pages / 3 + 1,
        data_pages / 5 + 1,
        data_pages,
    };
    VhuMemRegion regions[4];
    uint64_t at = 0;
    int fd;

    for (unsigned i = 0; i < 4; i++) {
        regions[i] =
            shared_region(GUEST_BASE + at, GUEST_USER + 3 * at, pages[i], at);
        at += pages[i] * PAGE;
    }
    guest->bytes = at;
    fd = memfd_create("guest", MFD_CLOEXEC);
    g_assert_cmpint(fd, >=, 0);
    g_assert_cmpint(ftruncate(fd, (off_t)at), ==, 0);
    guest->local = mmap(NULL, at, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    g_assert_true(guest->local != MAP_FAILED);
    guest->memory = shared_memory(regions, 4, fd, -1);
    return guest;
}

void guest_free(RingGuest *guest)
{
    vhu_memory_unref(guest->memory);
    munmap(guest->local, guest->bytes);
    g_free(guest);
}

void *guest_device_ptr(const RingGuest *guest, VhuGuestAddr addr,
                       uint64_t bytes)
{
    void *local = vhu_memory_guest_ptr(guest->memory, addr, bytes);

    g_assert_nonnull(local);
    return local;
}

static const struct {
    unsigned bit;
    const char *name;
} names[] = {
    {VIRTIO_F_RING_PACKED, "packed"},
    {VIRTIO_RING_F_INDIRECT_DESC, "indirect"},
    {VIRTIO_RING_F_EVENT_IDX, "event-idx"},
    {VIRTIO_F_IN_ORDER, "in-order"},
};

uint64_t guest_features(unsigned combination)
{
    uint64_t features = BIT(VIRTIO_F_VERSION_1);

    for (unsigned i = 0; i < G_N_ELEMENTS(names); i++) {
        if (combination & BIT(i)) {
            features |= BIT(names[i].bit);
        }
    }
    return features;
}

char *guest_features_name(uint64_t features)
{
    GString *name = g_string_new(NULL);

    if (!(features & BIT(VIRTIO_F_RING_PACKED))) {
        g_string_append(name, "split");
    }
    for (unsigned i = 0; i < G_N_ELEMENTS(names); i++) {
        if (features & BIT(names[i].bit)) {
            g_string_append_printf(name, "%s%s", name->len ? "+" : "",
                                   names[i].name);
        }
    }
    return g_string_free(name, FALSE);
}

uint32_t guest_first_base(uint64_t features)
{
    return features & BIT(VIRTIO_F_RING_PACKED) ? 0x80008000u : 0;
}

VhuRing *guest_ring_new(const RingGuest *guest, const VhuDriverQueue *queue,
                        VhuRingConfig config)
{
    VhuGuestAddr addr[3];
    uint64_t bytes[3];
    VhuError err = {0};
    VhuRing *ring;

    vhu_driver_addrs(queue, &addr[0], &addr[1], &addr[2]);
    vhu_ring_bytes(config.features, config.size, &bytes[0], &bytes[1],
                   &bytes[2]);
    config.desc = guest_device_ptr(guest, addr[0], bytes[0]);
    config.driver = guest_device_ptr(guest, addr[1], bytes[1]);
    config.device = guest_device_ptr(guest, addr[2], bytes[2]);
    ring = vhu_ring_new(&config, &err);
    g_assert_cmpstr(err.text, ==, "");
    g_assert_nonnull(ring);
    vhu_ring_set_memory(ring, guest->memory, NULL);
    return ring;
}
