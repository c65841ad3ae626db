/* SPDX-License-Identifier: BSD-3-Clause */
/* Owns the tests of vhu/iotlb: updates, invalidations, translation. */
#include "tests/iotlb-world.h"

#include <errno.h>

#define ROOM 16

/* What vhu_translate said. */
typedef struct Answer {
    int ret;
    struct iovec iov[ROOM];
    VhuIotlbMiss miss;
} Answer;

static Answer translate(const VhuTranslator *world, uint64_t iova,
                        uint64_t size, uint8_t perm)
{
    VhuRange range = {.addr = iova, .size = size, .perm = perm};
    Answer answer = {0};

    answer.ret = vhu_translate(world, &range, answer.iov, ROOM, &answer.miss);
    return answer;
}

static uint8_t first_byte(const struct iovec *piece)
{
    return *(const uint8_t *)piece->iov_base;
}

/* What a byte's address is, or NULL with a miss or fault. */
static uint8_t *byte_at(const VhuTranslator *world, uint64_t iova, uint8_t perm)
{
    Answer answer = translate(world, iova, 1, perm);

    if (answer.ret < 0) {
        return NULL;
    }
    g_assert_cmpint(answer.ret, ==, 1);
    g_assert_cmpuint(answer.iov[0].iov_len, ==, 1);
    return answer.iov[0].iov_base;
}

static void test_without_one_addresses_are_physical(void)
{
    VhuTranslator world = world_new();
    VhuTranslator plain = {.memory = world.memory};
    Answer answer;

    answer = translate(&plain, GUEST_B + PAGE, PAGE, VHOST_ACCESS_RW);
    g_assert_cmpint(answer.ret, ==, 1);
    g_assert_cmpuint(first_byte(&answer.iov[0]), ==, 2);
    answer = translate(&plain, USER, 1, VHOST_ACCESS_RO);
    g_assert_cmpint(answer.ret, ==, -EFAULT);
    world_free(&world);
}

static void test_a_miss_names_what_is_lacking(void)
{
    VhuTranslator world = world_new();
    Answer answer;

    answer = translate(&world, 0x5010, 0x100, VHOST_ACCESS_WO);
    g_assert_cmpint(answer.ret, ==, -EAGAIN);
    g_assert_cmphex(answer.miss.iova, ==, 0x5010);
    g_assert_cmpuint(answer.miss.perm, ==, VHOST_ACCESS_WO);

    /* The first page comes; the second is what lacks then. */
    g_assert_cmpint(update(&world, 0x5000, PAGE, USER, VHOST_ACCESS_RW), ==, 0);
    answer = translate(&world, 0x5010, PAGE, VHOST_ACCESS_RO);
    g_assert_cmpint(answer.ret, ==, -EAGAIN);
    g_assert_cmphex(answer.miss.iova, ==, 0x6000);
    g_assert_cmpuint(answer.miss.perm, ==, VHOST_ACCESS_RO);

    answer = translate(&world, 0x5010, PAGE - 0x10, VHOST_ACCESS_RO);
    g_assert_cmpint(answer.ret, ==, 1);
    g_assert_cmpuint(answer.iov[0].iov_len, ==, PAGE - 0x10);
    g_assert_cmpuint(first_byte(&answer.iov[0]), ==, 5);
    answer = translate(&world, 0x4fff, 0, VHOST_ACCESS_RO);
    g_assert_cmpint(answer.ret, ==, 0);
    world_free(&world);
}

static void test_a_range_crosses_entries_and_regions(void)
{
    VhuTranslator world = world_new();
    Answer answer;
    VhuRange range = {0x1000, 4 * PAGE, VHOST_ACCESS_RO};

    /* User pages 3, 4 (the other region), 5 by one entry each, then 1. */
    update(&world, 0x1000, PAGE, USER + 3 * PAGE, VHOST_ACCESS_RW);
    update(&world, 0x2000, PAGE, USER + 4 * PAGE, VHOST_ACCESS_RO);
    update(&world, 0x3000, PAGE, USER + 5 * PAGE, VHOST_ACCESS_RW);
    update(&world, 0x4000, PAGE, USER + 1 * PAGE, VHOST_ACCESS_RW);

    /* Neighbouring entries in one region are one piece. */
    answer = translate(&world, 0x1800, 3 * PAGE, VHOST_ACCESS_RO);
    g_assert_cmpint(answer.ret, ==, 3);
    g_assert_cmpuint(answer.iov[0].iov_len, ==, PAGE / 2);
    g_assert_cmpuint(first_byte(&answer.iov[0]), ==, 8);
    g_assert_cmpuint(answer.iov[1].iov_len, ==, 2 * PAGE);
    g_assert_cmpuint(first_byte(&answer.iov[1]), ==, 1);
    g_assert_cmpuint(answer.iov[2].iov_len, ==, PAGE / 2);
    g_assert_cmpuint(first_byte(&answer.iov[2]), ==, 6);

    g_assert_cmpint(vhu_translate(&world, &range, answer.iov, 3, &answer.miss),
                    ==, 3);
    g_assert_cmpint(vhu_translate(&world, &range, answer.iov, 2, &answer.miss),
                    ==, -E2BIG);
    g_assert_cmpint(vhu_translate(&world, &range, answer.iov, 1, &answer.miss),
                    ==, -E2BIG);
    world_free(&world);
}

static void test_permissions_are_held(void)
{
    /* perm of the entry, perm asked for, allowed */
    static const struct {
        uint8_t has;
        uint8_t wants;
        bool allowed;
    } rows[] = {
        {0, VHOST_ACCESS_RO, false},
        {VHOST_ACCESS_RO, VHOST_ACCESS_RO, true},
        {VHOST_ACCESS_RO, VHOST_ACCESS_WO, false},
        {VHOST_ACCESS_RO, VHOST_ACCESS_RW, false},
        {VHOST_ACCESS_WO, VHOST_ACCESS_RO, false},
        {VHOST_ACCESS_WO, VHOST_ACCESS_WO, true},
        {VHOST_ACCESS_WO, VHOST_ACCESS_RW, false},
        {VHOST_ACCESS_RW, VHOST_ACCESS_RO, true},
        {VHOST_ACCESS_RW, VHOST_ACCESS_RW, true},
    };
    VhuTranslator world = world_new();
    Answer answer;
    unsigned i;

    update(&world, 0, PAGE, USER, VHOST_ACCESS_RW);
    for (i = 0; i < G_N_ELEMENTS(rows); i++) {
        g_assert_cmpint(update(&world, PAGE, PAGE, USER + PAGE, rows[i].has),
                        ==, 0);
        answer = translate(&world, PAGE - 1, 2, rows[i].wants);
        g_assert_cmpint(answer.ret, ==, rows[i].allowed ? 1 : -EFAULT);
        /* What an access failure message tells. */
        g_assert_cmpuint(answer.miss.perm, ==,
                         rows[i].allowed ? 0 : rows[i].wants);
        g_assert_cmphex(answer.miss.iova, ==, rows[i].allowed ? 0 : PAGE);
    }
    world_free(&world);
}

static void test_an_update_replaces_what_it_overlaps(void)
{
    VhuTranslator world = world_new();
    uint8_t *old = NULL;

    update(&world, 0, 4 * PAGE, USER, VHOST_ACCESS_RW);
    old = byte_at(&world, 0, VHOST_ACCESS_RW);
    g_assert_cmpuint(*old, ==, 5);
    update(&world, PAGE + 1, PAGE, USER + 4 * PAGE, VHOST_ACCESS_RO);

    g_assert_true(byte_at(&world, PAGE, VHOST_ACCESS_RW) == old + PAGE);
    g_assert_cmpuint(*byte_at(&world, PAGE + 1, VHOST_ACCESS_RO), ==, 1);
    g_assert_null(byte_at(&world, PAGE + 1, VHOST_ACCESS_WO));
    g_assert_null(byte_at(&world, 2 * PAGE, VHOST_ACCESS_WO));
    g_assert_true(byte_at(&world, 2 * PAGE + 1, VHOST_ACCESS_RW) ==
                  old + 2 * PAGE + 1);
    world_free(&world);
}

static void test_an_invalidation_cuts(void)
{
    VhuTranslator world = world_new();
    uint8_t *old;

    update(&world, 0x1000, 2 * PAGE, USER, VHOST_ACCESS_RW);
    update(&world, 0x3000, 2 * PAGE, USER + 2 * PAGE, VHOST_ACCESS_RW);
    old = byte_at(&world, 0x1000, VHOST_ACCESS_RW);
    g_assert_cmpint(invalidate(&world, 0x2ff0, 0x20), ==, 0);

    g_assert_true(byte_at(&world, 0x2fef, VHOST_ACCESS_RO) == old + 0x1fef);
    g_assert_null(byte_at(&world, 0x2ff0, VHOST_ACCESS_RO));
    g_assert_null(byte_at(&world, 0x300f, VHOST_ACCESS_RO));
    g_assert_true(byte_at(&world, 0x3010, VHOST_ACCESS_RO) == old + 0x2010);

    /* All of the address space, and an empty one after it. */
    g_assert_cmpint(invalidate(&world, 0, UINT64_MAX), ==, 0);
    g_assert_null(byte_at(&world, 0x1000, VHOST_ACCESS_RO));
    g_assert_null(byte_at(&world, 0x4fff, VHOST_ACCESS_RO));
    g_assert_cmpint(invalidate(&world, 0, UINT64_MAX), ==, 0);
    world_free(&world);
}

static void test_the_end_of_the_address_space_is_reached(void)
{
    VhuTranslator world = world_new();
    Answer answer;

    g_assert_cmpint(
        update(&world, UINT64_MAX - PAGE + 1, PAGE, USER, VHOST_ACCESS_RW), ==,
        0);
    answer = translate(&world, UINT64_MAX - 7, 8, VHOST_ACCESS_RW);
    g_assert_cmpint(answer.ret, ==, 1);
    answer = translate(&world, UINT64_MAX - 7, 9, VHOST_ACCESS_RW);
    g_assert_cmpint(answer.ret, ==, -EFAULT);
    g_assert_cmpint(invalidate(&world, UINT64_MAX, 1), ==, 0);
    g_assert_null(byte_at(&world, UINT64_MAX, VHOST_ACCESS_RW));
    g_assert_nonnull(byte_at(&world, UINT64_MAX - 1, VHOST_ACCESS_RW));
    world_free(&world);
}

static void test_invalid_messages_are_refused(void)
{
    static const VhuIotlbMsg rows[] = {
        {.iova = 0, .size = 0, .user_addr = USER, .perm = 3, .type = 2},
        {.iova = 0, .size = 0, .type = 3},
        {.iova = 0, .size = PAGE, .user_addr = USER, .perm = 4, .type = 2},
        {.iova = 0, .size = PAGE, .user_addr = USER, .perm = 3, .type = 0},
        {.iova = 0, .size = PAGE, .user_addr = USER, .perm = 3, .type = 1},
        {.iova = 0, .size = PAGE, .user_addr = USER, .perm = 3, .type = 4},
        {.iova = 0, .size = PAGE, .user_addr = USER, .perm = 3, .type = 5},
        {.iova = UINT64_MAX, .size = 2, .user_addr = USER, .type = 2},
        {.iova = UINT64_MAX, .size = 2, .type = 3},
        /* Not within the regions: before, past the end, an overflow. */
        {.size = 2, .user_addr = USER - 1, .perm = 3, .type = 2},
        {.size = 2, .user_addr = USER + 8 * PAGE - 1, .perm = 3, .type = 2},
        {.size = 8 * PAGE + 1, .user_addr = USER, .perm = 3, .type = 2},
        {.size = UINT64_MAX, .user_addr = USER, .perm = 3, .type = 2},
    };
    VhuTranslator world = world_new();
    unsigned i;

    for (i = 0; i < G_N_ELEMENTS(rows); i++) {
        VhuError err = {0};

        g_assert_cmpint(
            vhu_iotlb_apply(world.iotlb, &rows[i], world.memory, &err), ==,
            -EINVAL);
        g_assert_cmpint(err.code, ==, EINVAL);
        g_assert_cmpuint(err.request, ==, VHOST_USER_IOTLB_MSG);
        g_assert_cmpstr(err.text, !=, "");
    }
    g_assert_cmpuint(vhu_iotlb_generation(world.iotlb), ==, 0);
    g_assert_cmpint(update(&world, 0, 8 * PAGE, USER, VHOST_ACCESS_RW), ==, 0);
    world_free(&world);
}

static void test_every_change_counts(void)
{
    VhuTranslator world = world_new();

    g_assert_cmpuint(vhu_iotlb_generation(world.iotlb), ==, 0);
    update(&world, 0, PAGE, USER, VHOST_ACCESS_RW);
    g_assert_cmpuint(vhu_iotlb_generation(world.iotlb), ==, 1);
    invalidate(&world, 0, PAGE);
    g_assert_cmpuint(vhu_iotlb_generation(world.iotlb), ==, 2);
    world_free(&world);
}

static void test_the_oldest_is_evicted(void)
{
    VhuTranslator world = world_new();
    uint64_t i;

    for (i = 0; i < VHU_IOTLB_ENTRIES; i++) {
        g_assert_cmpint(
            update(&world, 2 * i * PAGE, PAGE, USER, VHOST_ACCESS_RW), ==, 0);
    }
    g_assert_nonnull(byte_at(&world, 0, VHOST_ACCESS_RO));
    /* Updated again, the first is the youngest. */
    update(&world, 0, PAGE, USER, VHOST_ACCESS_RW);
    g_assert_nonnull(byte_at(&world, 2 * PAGE, VHOST_ACCESS_RO));

    update(&world, 2 * i * PAGE, PAGE, USER, VHOST_ACCESS_RW);
    g_assert_nonnull(byte_at(&world, 0, VHOST_ACCESS_RO));
    g_assert_null(byte_at(&world, 2 * PAGE, VHOST_ACCESS_RO));
    g_assert_nonnull(byte_at(&world, 4 * PAGE, VHOST_ACCESS_RO));
    g_assert_nonnull(byte_at(&world, 2 * i * PAGE, VHOST_ACCESS_RO));

    /* A hole makes two of one: as old as it was. */
    invalidate(&world, 6 * PAGE + 16, 16);
    g_assert_null(byte_at(&world, 4 * PAGE, VHOST_ACCESS_RO));
    g_assert_nonnull(byte_at(&world, 6 * PAGE, VHOST_ACCESS_RO));
    g_assert_nonnull(byte_at(&world, 6 * PAGE + 32, VHOST_ACCESS_RO));
    update(&world, PAGE, 1, USER, VHOST_ACCESS_RW);
    update(&world, 3 * PAGE, 1, USER, VHOST_ACCESS_RW);
    g_assert_null(byte_at(&world, 6 * PAGE, VHOST_ACCESS_RO));
    g_assert_null(byte_at(&world, 6 * PAGE + 32, VHOST_ACCESS_RO));
    g_assert_nonnull(byte_at(&world, 8 * PAGE, VHOST_ACCESS_RO));
    world_free(&world);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/iotlb/without-one-addresses-are-physical",
                    test_without_one_addresses_are_physical);
    g_test_add_func("/iotlb/a-miss-names-what-is-lacking",
                    test_a_miss_names_what_is_lacking);
    g_test_add_func("/iotlb/a-range-crosses-entries-and-regions",
                    test_a_range_crosses_entries_and_regions);
    g_test_add_func("/iotlb/permissions-are-held", test_permissions_are_held);
    g_test_add_func("/iotlb/an-update-replaces-what-it-overlaps",
                    test_an_update_replaces_what_it_overlaps);
    g_test_add_func("/iotlb/an-invalidation-cuts", test_an_invalidation_cuts);
    g_test_add_func("/iotlb/the-end-of-the-address-space-is-reached",
                    test_the_end_of_the_address_space_is_reached);
    g_test_add_func("/iotlb/invalid-messages-are-refused",
                    test_invalid_messages_are_refused);
    g_test_add_func("/iotlb/every-change-counts", test_every_change_counts);
    g_test_add_func("/iotlb/the-oldest-is-evicted", test_the_oldest_is_evicted);
    return g_test_run();
}
