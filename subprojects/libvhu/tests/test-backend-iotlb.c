/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Owns the tests of a back end behind an IOMMU: misses, updates, invalidation,
 * and rings whose pages lie scattered.
 */
#include "tests/toy.h"

#include <errno.h>
#include <linux/vhost_types.h>
#include <string.h>

#define PLATFORM RIG_BIT(VIRTIO_F_ACCESS_PLATFORM)

static int update(Rig *rig, const VhuIotlbMsg *msg)
{
    VhuWait wait;
    int rc = vhu_frontend_iotlb(rig_session(rig), msg, vhu_wait_then(&wait),
                                &wait.err);

    return rig_op(rig, rc, &wait);
}

/* Updates for one queue have all others look again; a miss that was told is
 * not told anew. */
static void test_a_miss_is_told_once(void)
{
    const ToyConfig four = {.num_queues = 4, .num_threads = 2};
    const RigConfig config = {.features = PLATFORM |
                                          RIG_BIT(VIRTIO_RING_F_INDIRECT_DESC),
                              .num_queues = 4};
    const unsigned pages = 16 << 8; /* of all of guest memory */
    Toy *toy = toy_new(&four);
    Rig *rig = toy_rig(toy, &config);

    rig_start(rig);
    for (unsigned i = 0; i < 20; i++) {
        toy_round_trip(rig, i % 4, 10000);
    }
    g_assert_cmpuint(rig_iotlb_misses(rig), >, 4);
    /* Each queue may miss a page while another's miss is under way. */
    g_assert_cmpuint(rig_iotlb_misses(rig), <, pages);
    g_assert_cmpuint(rig_iotlb_misses(rig), <, 4 * 80);
    rig_free(rig);
    toy_free(toy);
}

static void test_known_pages_are_not_missed(void)
{
    const RigConfig config = {.features = PLATFORM};
    Toy *toy = toy_new(NULL);
    Rig *rig = toy_rig(toy, &config);
    unsigned misses;

    rig_start(rig);
    toy_round_trip(rig, 0, 100);
    toy_round_trip(rig, 0, 100);
    misses = rig_iotlb_misses(rig);
    for (int i = 0; i < 50; i++) {
        toy_round_trip(rig, 0, 100);
    }
    g_assert_cmpuint(rig_iotlb_misses(rig), ==, misses);
    rig_free(rig);
    toy_free(toy);
}

static void test_invalidated_page_is_missed_again(void)
{
    const RigConfig config = {.features = PLATFORM};
    Toy *toy = toy_new(NULL);
    Rig *rig = toy_rig(toy, &config);
    uint8_t *room;
    RigRequest *request;
    unsigned misses;

    rig_start(rig);
    room = rig_alloc(rig, 4096);
    for (int i = 0; i < 3; i++) {
        misses = rig_iotlb_misses(rig);
        memcpy(room, "abcdef", 6);
        request = rig_request(rig, 0);
        rig_out_at(request, rig_addr(rig, room), 6);
        rig_in_at(request, rig_addr(rig, room), 6);
        g_assert_cmpuint(rig_do(request), ==, 6);
        g_assert_cmpmem(room, 6, "fedcba", 6);
        rig_request_free(request);
        g_assert_cmpuint(rig_iotlb_misses(rig), ==, misses + 1);
        rig_iotlb_invalidate(rig, rig_addr(rig, room), 4096);
    }
    rig_free(rig);
    toy_free(toy);
}

/* A guest that starts anew may give every address another meaning. */
static void test_entries_end_with_the_last_ring(void)
{
    const ToyConfig two = {.num_queues = 2};
    const RigConfig config = {.features = PLATFORM, .num_queues = 2};
    Toy *toy = toy_new(&two);
    Rig *rig = toy_rig(toy, &config);
    unsigned misses;

    rig_start(rig);
    toy_round_trip(rig, 1, 100);
    toy_round_trip(rig, 1, 100);
    rig_stop_queue(rig, 0);
    misses = rig_iotlb_misses(rig);
    toy_round_trip(rig, 1, 100);
    g_assert_cmpuint(rig_iotlb_misses(rig), ==, misses);
    rig_stop_queue(rig, 1);
    rig_start(rig);
    toy_round_trip(rig, 1, 100);
    g_assert_cmpuint(rig_iotlb_misses(rig), >, misses);
    rig_free(rig);
    toy_free(toy);
}

/* An address nobody maps keeps its own queue waiting, and no other. */
static void test_unanswered_miss_stalls_its_queue_only(void)
{
    const ToyConfig two = {.num_queues = 2};
    const RigConfig config = {.features = PLATFORM, .num_queues = 2};
    Toy *toy = toy_new(&two);
    Rig *rig = toy_rig(toy, &config);
    VhuIotlbMsg entry = {.iova = 0xdead0000,
                         .size = 0x1000,
                         .perm = VHOST_ACCESS_RW,
                         .type = VHOST_IOTLB_UPDATE};
    RigRequest *request;

    rig_start(rig);
    toy_round_trip(rig, 0, 10);
    request = rig_request(rig, 0);
    rig_out(request, "abc", 3);
    rig_in_at(request, 0xdead0000, 3);
    rig_submit(request);
    toy_idle(toy);
    g_assert_false(request->used);
    for (int i = 0; i < 10; i++) {
        toy_round_trip(rig, 1, 5000);
    }
    g_assert_false(request->used);

    /* And when it comes, late, it goes on. */
    entry.user_addr = rig_region(rig, 0).user_addr;
    g_assert_cmpint(update(rig, &entry), ==, 0);
    g_assert_cmpuint(rig_wait(request), ==, 3);
    rig_request_free(request);
    rig_free(rig);
    toy_free(toy);
}

/* The ring itself can be stopped while its parts are missing. */
static void test_ring_that_was_never_mapped_stops(void)
{
    const RigConfig config = {.features = PLATFORM};
    Toy *toy = toy_new(NULL);
    Rig *rig = toy_rig(toy, &config);

    rig_iotlb_serve(rig, false);
    rig_start(rig);
    toy_idle(toy);
    g_assert_cmpuint(rig_iotlb_misses(rig), ==, 1);
    g_assert_cmphex(rig_stop_queue(rig, 0), ==, 0);
    rig_iotlb_serve(rig, true);
    rig_start(rig);
    toy_round_trip(rig, 0, 10);
    rig_free(rig);
    toy_free(toy);
}

/* A table of 1024 descriptors is four pages, which lie in two regions each. */
static void test_ring_of_scattered_pages(void)
{
    const uint64_t layouts[] = {0, RIG_BIT(VIRTIO_F_RING_PACKED)};

    for (unsigned i = 0; i < G_N_ELEMENTS(layouts); i++) {
        const RigConfig config = {.features = PLATFORM | layouts[i],
                                  .queue_size = 1024,
                                  .num_regions = 128,
                                  .memory_bytes = 128 * 8192};
        Toy *toy = toy_new(NULL);
        Rig *rig = toy_rig(toy, &config);

        rig_start(rig);
        for (int round = 0; round < 1100; round++) {
            toy_round_trip(rig, 0, 16);
        }
        rig_stop(rig);
        rig_free(rig);
        toy_free(toy);
    }
}

static void test_entry_outside_memory_is_refused(void)
{
    const RigConfig config = {.features = PLATFORM};
    VhuIotlbMsg entry = {.iova = 0x1000,
                         .size = 0x1000,
                         .user_addr = 0x1000,
                         .perm = VHOST_ACCESS_RW,
                         .type = VHOST_IOTLB_UPDATE};
    Toy *toy = toy_new(NULL);
    Rig *rig = toy_rig(toy, &config);

    g_assert_cmpint(update(rig, &entry), ==, -EREMOTEIO);
    entry.user_addr =
        rig_region(rig, 0).user_addr + rig_region_bytes(rig) - 0x800;
    g_assert_cmpint(update(rig, &entry), ==, -EREMOTEIO);
    entry.user_addr = rig_region(rig, 0).user_addr;
    entry.size = 0;
    g_assert_cmpint(update(rig, &entry), ==, -EREMOTEIO);
    entry.size = 0x1000;
    g_assert_cmpint(update(rig, &entry), ==, 0);
    rig_free(rig);
    toy_free(toy);
}

/* What an entry does not permit is not done. */
static void test_permissions_are_kept(void)
{
    const RigConfig config = {.features = PLATFORM};
    Toy *toy = toy_new(NULL);
    Rig *rig = toy_rig(toy, &config);
    const VhuIotlbMsg read_only = {.iova = 0xdead0000,
                                   .size = 0x1000,
                                   .user_addr =
                                       rig_region(rig, 0).user_addr + 0x8000,
                                   .perm = VHOST_ACCESS_RO,
                                   .type = VHOST_IOTLB_UPDATE};
    const uint8_t before = *(uint8_t *)rig_local(rig, RIG_GUEST_BASE + 0x8000);
    RigRequest *request;

    rig_start(rig);
    toy_round_trip(rig, 0, 10);
    g_assert_cmpint(update(rig, &read_only), ==, 0);
    request = rig_request(rig, 0);
    rig_out(request, "\xff", 1);
    rig_in_at(request, 0xdead0000, 1);
    rig_submit(request);
    toy_idle(toy);
    g_assert_false(request->used);
    g_assert_cmphex(*(uint8_t *)rig_local(rig, RIG_GUEST_BASE + 0x8000), ==,
                    before);
    rig_free(rig);
    toy_free(toy);
}

static void test_message_without_the_feature_ends_the_connection(void)
{
    const VhuIotlbMsg entry = {.iova = 0x1000,
                               .size = 0x1000,
                               .user_addr = RIG_USER_BASE,
                               .perm = VHOST_ACCESS_RW,
                               .type = VHOST_IOTLB_UPDATE};
    Toy *toy = toy_new(NULL);
    Rig *rig = toy_rig(toy, NULL);

    g_assert_cmpint(update(rig, &entry), ==, -ECONNRESET);
    toy_wait_ended(toy, 1);
    g_assert_cmpint(toy_last_end(toy)->code, ==, EPROTO);
    rig_free(rig);
    toy_free(toy);
}

#define TEST(name, fn) g_test_add_func("/backend/iotlb/" name, fn)

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    TEST("entry/ends-with-the-last-ring", test_entries_end_with_the_last_ring);
    TEST("miss/is-told-once", test_a_miss_is_told_once);
    TEST("miss/not-of-known-pages", test_known_pages_are_not_missed);
    TEST("miss/again-after-invalidation",
         test_invalidated_page_is_missed_again);
    TEST("miss/unanswered-stalls-its-queue-only",
         test_unanswered_miss_stalls_its_queue_only);
    TEST("ring/never-mapped-stops", test_ring_that_was_never_mapped_stops);
    TEST("ring/of-scattered-pages", test_ring_of_scattered_pages);
    TEST("entry/outside-memory-is-refused",
         test_entry_outside_memory_is_refused);
    TEST("entry/permissions-are-kept", test_permissions_are_kept);
    TEST("without-the-feature-ends-the-connection",
         test_message_without_the_feature_ends_the_connection);
    return g_test_run();
}
