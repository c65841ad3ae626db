/* SPDX-License-Identifier: BSD-3-Clause */
/* Owns the tests of vhu/memory: snapshots, what they refuse, translation. */
#include "vhu/memory.h"

#include "tests/shared-memory.h"

#include <errno.h>
#include <fcntl.h>

#define GUEST 0x100000u
#define USER  0x7f0000000000u
#define ROOM  8

/* One mapping of GUEST and USER, 4 pages. */
static VhuMemory *small_memory(void)
{
    VhuMemRegion region = shared_region(GUEST, USER, 4, 0);

    return shared_memory(&region, 1, shared_file(4), -1);
}

/* ---- Translation ---- */

static void test_addresses_reach_the_same_byte(void)
{
    VhuMemRegion regions[] = {
        shared_region(GUEST, USER, 4, 4 * PAGE),
        shared_region(0, USER - 0x1000000000, 4, 0),
    };
    VhuMemory *memory = shared_memory(regions, 2, shared_file(8), -1);
    VhuGuestAddr addr = 0;
    uint8_t *local;

    local = vhu_memory_guest_ptr(memory, GUEST + PAGE, PAGE);
    g_assert_nonnull(local);
    g_assert_cmpuint(local[0], ==, 6);
    g_assert_true(vhu_memory_user_ptr(memory, USER + PAGE, PAGE) == local);
    g_assert_cmpuint(vhu_memory_ptr_guest(memory, local + 5, &addr), ==,
                     3 * PAGE - 5);
    g_assert_cmphex(addr, ==, GUEST + PAGE + 5);
    local = vhu_memory_guest_ptr(memory, 3 * PAGE, PAGE);
    g_assert_nonnull(local);
    g_assert_cmpuint(local[PAGE - 1], ==, 4);
    g_assert_cmpuint(vhu_memory_ptr_guest(memory, &addr, &addr), ==, 0);
    vhu_memory_unref(memory);
}

static void test_a_pointer_is_good_for_all_of_its_range(void)
{
    static const struct {
        uint64_t offset; /* from the region's start */
        uint64_t size;
        bool inside;
    } rows[] = {
        {0, 0, true},
        {0, 1, true},
        {0, 4 * PAGE, true},
        {0, 4 * PAGE + 1, false},
        {4 * PAGE - 1, 1, true},
        {4 * PAGE - 1, 2, false},
        {4 * PAGE, 0, false},
        {4 * PAGE, 1, false},
        {(uint64_t)-1, 1, false},
        {(uint64_t)-1, 2, false},
        {1, UINT64_MAX, false},
        {1, UINT64_MAX - GUEST, false},
        {PAGE, UINT64_MAX - PAGE, false},
    };
    VhuMemory *memory = small_memory();
    uint8_t *local = vhu_memory_guest_ptr(memory, GUEST, 4 * PAGE);
    unsigned i;

    for (i = 0; i < G_N_ELEMENTS(rows); i++) {
        uint8_t *expected = rows[i].inside ? local + rows[i].offset : NULL;

        g_assert_true(vhu_memory_guest_ptr(memory, GUEST + rows[i].offset,
                                           rows[i].size) == expected);
        g_assert_true(vhu_memory_user_ptr(memory, USER + rows[i].offset,
                                          rows[i].size) == expected);
    }
    vhu_memory_unref(memory);
}

static void test_a_range_over_adjacent_regions_is_pieces(void)
{
    /* Guest: 1 2 3 . 4; user: 4 1 . 3 2 */
    VhuMemRegion regions[] = {
        shared_region(GUEST, USER + PAGE, 1, 0),
        shared_region(GUEST + PAGE, USER + 4 * PAGE, 1, PAGE),
        shared_region(GUEST + 2 * PAGE, USER + 3 * PAGE, 1, 2 * PAGE),
        shared_region(GUEST + 4 * PAGE, USER, 1, 3 * PAGE),
    };
    VhuMemory *memory = shared_memory(regions, 4, shared_file(4), -1);
    struct iovec iov[ROOM];

    g_assert_cmpint(
        vhu_memory_guest_iov(memory, GUEST + 16, 2 * PAGE, iov, ROOM), ==, 3);
    g_assert_cmpuint(iov[0].iov_len, ==, PAGE - 16);
    g_assert_true(iov[0].iov_base ==
                  vhu_memory_guest_ptr(memory, GUEST + 16, 1));
    g_assert_cmpuint(iov[1].iov_len, ==, PAGE);
    g_assert_cmpuint(*(uint8_t *)iov[1].iov_base, ==, 2);
    g_assert_cmpuint(iov[2].iov_len, ==, 16);
    g_assert_cmpuint(*(uint8_t *)iov[2].iov_base, ==, 3);

    g_assert_cmpint(
        vhu_memory_user_iov(memory, USER + 3 * PAGE, 2 * PAGE, iov, ROOM), ==,
        2);
    g_assert_cmpuint(*(uint8_t *)iov[0].iov_base, ==, 3);
    g_assert_cmpuint(*(uint8_t *)iov[1].iov_base, ==, 2);

    g_assert_cmpint(vhu_memory_guest_iov(memory, GUEST, 3 * PAGE, iov, 3), ==,
                    3);
    g_assert_cmpint(vhu_memory_guest_iov(memory, GUEST, 3 * PAGE, iov, 2), ==,
                    -E2BIG);
    g_assert_cmpint(vhu_memory_guest_iov(memory, GUEST, 3 * PAGE, iov, 0), ==,
                    -E2BIG);
    vhu_memory_unref(memory);
}

/* Regions of a few bytes, in guest and user addresses the same: a hole at 0,
 * one at 9. */
static const uint64_t tiny_starts[] = {1, 4, 5, 10, 12};
static const uint64_t tiny_sizes[] = {3, 1, 4, 2, 1};

#define TINY_END 16u

static void check_range(const VhuMemory *memory, uint64_t addr, uint64_t size)
{
    uint8_t *expected[TINY_END] = {NULL};
    struct iovec iov[ROOM];
    bool whole = true;
    unsigned done = 0;
    uint64_t i;
    int ret = vhu_memory_guest_iov(memory, addr, size, iov, ROOM);

    for (i = 0; i < size; i++) {
        expected[i] = vhu_memory_guest_ptr(memory, addr + i, 1);
        whole = whole && expected[i];
    }
    if (!whole) {
        g_assert_cmpint(ret, ==, -EFAULT);
        return;
    }
    g_assert_cmpint(ret, >=, 0);
    for (i = 0; i < (uint64_t)ret; i++) {
        g_assert_true(iov[i].iov_base == expected[done]);
        done += (unsigned)iov[i].iov_len;
    }
    g_assert_cmpuint(done, ==, size);
}

static void test_pieces_are_exactly_the_range(void)
{
    VhuMemRegion regions[G_N_ELEMENTS(tiny_starts)];
    VhuMemory *memory;
    uint64_t addr;
    uint64_t size;
    unsigned i;

    for (i = 0; i < G_N_ELEMENTS(regions); i++) {
        regions[i] = (VhuMemRegion){
            .guest_addr = tiny_starts[i],
            .user_addr = tiny_starts[i],
            .size = tiny_sizes[i],
            .mmap_offset = i * PAGE,
        };
    }
    memory = shared_memory(regions, G_N_ELEMENTS(regions),
                           shared_file(G_N_ELEMENTS(regions)), -1);
    for (addr = 0; addr < TINY_END; addr++) {
        for (size = 0; size <= TINY_END - addr; size++) {
            check_range(memory, addr, size);
        }
    }
    vhu_memory_unref(memory);
}

static void test_a_range_with_a_hole_is_no_range(void)
{
    VhuMemRegion regions[] = {
        shared_region(GUEST, USER, 1, 0),
        shared_region(GUEST + 2 * PAGE, USER + 2 * PAGE, 1, PAGE),
    };
    VhuMemory *memory = shared_memory(regions, 2, shared_file(2), -1);
    struct iovec iov[ROOM];

    g_assert_cmpint(vhu_memory_guest_iov(memory, GUEST, 3 * PAGE, iov, ROOM),
                    ==, -EFAULT);
    g_assert_cmpint(vhu_memory_user_iov(memory, USER, PAGE + 1, iov, ROOM), ==,
                    -EFAULT);
    g_assert_cmpint(vhu_memory_guest_iov(memory, GUEST, UINT64_MAX, iov, ROOM),
                    ==, -EFAULT);
    g_assert_cmpint(vhu_memory_guest_iov(memory, 0, 0, iov, ROOM), ==, 0);
    vhu_memory_unref(memory);
}

static void test_the_end_of_the_address_space_is_reached(void)
{
    VhuMemRegion regions[] = {
        shared_region(UINT64_MAX - PAGE + 1, UINT64_MAX - 2 * PAGE + 1, 1, 0),
        shared_region(UINT64_MAX - 2 * PAGE + 1, UINT64_MAX - PAGE + 1, 1,
                      PAGE),
        shared_region(0, 0, 1, 2 * PAGE),
    };
    VhuMemory *memory = shared_memory(regions, 3, shared_file(3), -1);
    struct iovec iov[ROOM];
    uint8_t *local;

    local = vhu_memory_guest_ptr(memory, UINT64_MAX, 1);
    g_assert_nonnull(local);
    g_assert_cmpuint(*local, ==, 1);
    g_assert_null(vhu_memory_guest_ptr(memory, UINT64_MAX, 2));
    g_assert_cmpint(
        vhu_memory_guest_iov(memory, UINT64_MAX - PAGE, PAGE + 1, iov, ROOM),
        ==, 2);
    /* Nor does a range go on at 0. */
    g_assert_cmpint(vhu_memory_guest_iov(memory, UINT64_MAX, 2, iov, ROOM), ==,
                    -EFAULT);
    vhu_memory_unref(memory);
}

static void test_no_region_holds_nothing(void)
{
    VhuMemory *memory = vhu_memory_new(-1);
    struct iovec iov[ROOM];
    VhuGuestAddr addr;

    g_assert_cmpuint(vhu_memory_num_regions(memory), ==, 0);
    g_assert_null(vhu_memory_guest_ptr(memory, 0, 0));
    g_assert_null(vhu_memory_user_ptr(memory, 0, 1));
    g_assert_cmpuint(vhu_memory_ptr_guest(memory, iov, &addr), ==, 0);
    g_assert_cmpint(vhu_memory_guest_iov(memory, 0, 1, iov, ROOM), ==, -EFAULT);
    g_assert_false(vhu_memory_lost(memory));
    vhu_memory_unref(memory);
    vhu_memory_unref(NULL);
}

/* ---- Many slots ---- */

/* Slot i: one page of the file, guest and user addresses in other orders. */
static VhuMemRegion slot_region(unsigned i)
{
    unsigned mixed = i * 101u % VHU_MAX_MEM_SLOTS;

    return shared_region(GUEST + 2ull * PAGE * mixed, USER - 3ull * PAGE * i, 1,
                         (uint64_t)i * PAGE);
}

static VhuMemory *replace(VhuMemory *before, VhuMemory *after)
{
    g_assert_nonnull(after);
    vhu_memory_unref(before);
    return after;
}

/* Exactly these slots are found, by either address, in their full size. */
static void check_slots(const VhuMemory *memory, const bool *present)
{
    unsigned i;

    for (i = 0; i < VHU_MAX_MEM_SLOTS; i++) {
        VhuMemRegion region = slot_region(i);
        uint8_t *local = vhu_memory_guest_ptr(memory, region.guest_addr, PAGE);
        VhuGuestAddr addr = 0;

        g_assert_cmpint(local != NULL, ==, present[i]);
        g_assert_true(vhu_memory_user_ptr(memory, region.user_addr, PAGE) ==
                      local);
        g_assert_null(
            vhu_memory_guest_ptr(memory, region.guest_addr + PAGE, 1));
        if (!local) {
            continue;
        }
        g_assert_cmpuint(local[PAGE - 1], ==, (uint8_t)(i + 1));
        g_assert_cmpuint(vhu_memory_ptr_guest(memory, local + 7, &addr), ==,
                         PAGE - 7);
        g_assert_cmphex(addr, ==, region.guest_addr + 7);
    }
}

static void test_every_slot_is_found(void)
{
    VhuMemRegion more = shared_region(0, 0, 1, 0);
    VhuMemory *memory = vhu_memory_new(-1);
    bool present[VHU_MAX_MEM_SLOTS] = {false};
    int fd = shared_file(VHU_MAX_MEM_SLOTS);
    VhuError err = {0};
    VhuMemRegion region;
    unsigned i;

    for (i = 0; i < VHU_MAX_MEM_SLOTS; i++) {
        region = slot_region(i);
        memory =
            replace(memory, vhu_memory_with_region(memory, &region, fd, NULL));
        present[i] = true;
        if (i % 100 < 3) {
            check_slots(memory, present);
        }
    }
    check_slots(memory, present);
    g_assert_cmpuint(vhu_memory_num_regions(memory), ==, 509);

    g_assert_null(vhu_memory_with_region(memory, &more, fd, &err));
    g_assert_cmpint(err.code, ==, ENOSPC);
    g_assert_cmpuint(err.request, ==, VHOST_USER_ADD_MEM_REG);
    g_assert_nonnull(strstr(err.text, "509"));

    for (i = 0; i < VHU_MAX_MEM_SLOTS; i += 2) {
        region = slot_region(i);
        memory =
            replace(memory, vhu_memory_without_region(memory, &region, NULL));
        present[i] = false;
    }
    check_slots(memory, present);
    vhu_memory_unref(memory);
    close(fd);
}

/* ---- Changes ---- */

static void test_a_snapshot_is_not_changed(void)
{
    VhuMemRegion first = shared_region(GUEST, USER, 4, 0);
    VhuMemRegion second = shared_region(0, 0, 1, 0);
    int fd = shared_file(1);
    VhuMemory *before = small_memory();
    uint8_t *local = vhu_memory_guest_ptr(before, GUEST, 1);
    VhuMemory *added = vhu_memory_with_region(before, &second, fd, NULL);
    VhuMemory *removed = vhu_memory_without_region(added, &first, NULL);

    close(fd);
    g_assert_cmpuint(vhu_memory_num_regions(before), ==, 1);
    g_assert_null(vhu_memory_guest_ptr(before, 0, 1));
    g_assert_cmpuint(vhu_memory_num_regions(added), ==, 2);
    g_assert_true(vhu_memory_guest_ptr(added, GUEST, 1) == local);
    g_assert_cmpuint(vhu_memory_num_regions(removed), ==, 1);
    g_assert_null(vhu_memory_guest_ptr(removed, GUEST, 1));
    g_assert_cmpuint(*(uint8_t *)vhu_memory_guest_ptr(removed, 0, 1), ==, 1);

    /* What one of them holds stays mapped. */
    vhu_memory_unref(added);
    vhu_memory_unref(removed);
    g_assert_cmpuint(*local, ==, 1);
    vhu_memory_unref(before);
}

static bool is_mapped(void *local)
{
    unsigned char resident;
    int ret = mincore((void *)((uintptr_t)local & ~(uintptr_t)(PAGE - 1)), PAGE,
                      &resident);

    g_assert_true(ret == 0 || errno == ENOMEM);
    return ret == 0;
}

static void test_the_last_reference_unmaps(void)
{
    VhuMemRegion region = shared_region(GUEST, USER, 4, 0);
    VhuMemory *before = small_memory();
    VhuMemory *held = vhu_memory_ref(before);
    VhuMemory *after = vhu_memory_without_region(before, &region, NULL);
    uint8_t *local = vhu_memory_guest_ptr(before, GUEST, 1);

    vhu_memory_unref(before);
    g_assert_true(is_mapped(local));
    g_assert_cmpuint(*(uint8_t *)vhu_memory_guest_ptr(held, GUEST, 1), ==, 1);
    vhu_memory_unref(held);
    g_assert_false(is_mapped(local));
    g_assert_false(is_mapped(local + 3 * PAGE));
    vhu_memory_unref(after);
}

static void test_a_table_carries_over_what_is_equal(void)
{
    VhuMemTable table = {
        .num_regions = 4,
        .regions =
            {
                shared_region(GUEST, USER, 1, 0),
                shared_region(GUEST + PAGE, USER + PAGE, 1, PAGE),
                shared_region(GUEST + 2 * PAGE, USER + 2 * PAGE, 1, 2 * PAGE),
                shared_region(GUEST + 3 * PAGE, USER + 3 * PAGE, 1, 3 * PAGE),
            },
    };
    int fd = shared_file(6);
    int other = shared_file(6);
    int fds[] = {fd, fd, fd, fd};
    VhuMemory *empty = vhu_memory_new(-1);
    VhuMemory *before = vhu_memory_with_table(empty, &table, fds, NULL);
    VhuMemory *after;
    unsigned i;

    g_assert_nonnull(before);
    fds[0] = dup(fd); /* another number, the same file */
    fds[1] = other;
    table.regions[2].mmap_offset = 4 * PAGE;
    table.regions[3].user_addr = USER + 5 * PAGE;
    after = vhu_memory_with_table(before, &table, fds, NULL);
    g_assert_nonnull(after);
    for (i = 0; i < 4; i++) {
        uint8_t *was = vhu_memory_guest_ptr(before, GUEST + i * PAGE, 1);
        uint8_t *is = vhu_memory_guest_ptr(after, GUEST + i * PAGE, 1);

        g_assert_cmpint(was == is, ==, i == 0);
        g_assert_cmpuint(*is, ==, i == 2 ? 5 : i + 1);
    }
    vhu_memory_unref(before);
    g_assert_cmpuint(*(uint8_t *)vhu_memory_guest_ptr(after, GUEST, 1), ==, 1);
    g_assert_cmpuint(*(uint8_t *)vhu_memory_user_ptr(after, USER + 5 * PAGE, 1),
                     ==, 4);
    vhu_memory_unref(after);
    vhu_memory_unref(empty);
    close(fds[0]);
    close(fd);
    close(other);
}

static void test_a_file_that_shrank_is_not_carried_over(void)
{
    VhuMemTable table = {
        .num_regions = 1,
        .regions = {shared_region(GUEST, USER, 4, 0)},
    };
    int fd = shared_file(4);
    VhuMemory *before = shared_memory(table.regions, 1, dup(fd), -1);
    VhuError err = {0};

    g_assert_cmpint(ftruncate(fd, 3 * PAGE), ==, 0);
    g_assert_null(vhu_memory_with_table(before, &table, &fd, &err));
    g_assert_cmpint(err.code, ==, EINVAL);
    g_assert_nonnull(strstr(err.text, "0x3000"));
    vhu_memory_unref(before);
    close(fd);
}

static void test_only_a_known_region_is_removed(void)
{
    VhuMemRegion region = shared_region(GUEST, USER, 4, 0);
    VhuMemory *memory = small_memory();
    VhuMemRegion wrong[] = {region, region, region};
    VhuMemory *after;
    unsigned i;

    wrong[0].guest_addr++;
    wrong[1].user_addr++;
    wrong[2].size++;
    for (i = 0; i < G_N_ELEMENTS(wrong); i++) {
        VhuError err = {0};

        g_assert_null(vhu_memory_without_region(memory, &wrong[i], &err));
        g_assert_cmpint(err.code, ==, ENOENT);
        g_assert_cmpuint(err.request, ==, VHOST_USER_REM_MEM_REG);
    }
    /* The offset does not matter: the specification names three fields. */
    region.mmap_offset = 5;
    after = vhu_memory_without_region(memory, &region, NULL);
    g_assert_nonnull(after);
    g_assert_cmpuint(vhu_memory_num_regions(after), ==, 0);
    vhu_memory_unref(after);
    vhu_memory_unref(memory);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/memory/addresses-reach-the-same-byte",
                    test_addresses_reach_the_same_byte);
    g_test_add_func("/memory/a-pointer-is-good-for-all-of-its-range",
                    test_a_pointer_is_good_for_all_of_its_range);
    g_test_add_func("/memory/a-range-over-adjacent-regions-is-pieces",
                    test_a_range_over_adjacent_regions_is_pieces);
    g_test_add_func("/memory/pieces-are-exactly-the-range",
                    test_pieces_are_exactly_the_range);
    g_test_add_func("/memory/a-range-with-a-hole-is-no-range",
                    test_a_range_with_a_hole_is_no_range);
    g_test_add_func("/memory/the-end-of-the-address-space-is-reached",
                    test_the_end_of_the_address_space_is_reached);
    g_test_add_func("/memory/no-region-holds-nothing",
                    test_no_region_holds_nothing);
    g_test_add_func("/memory/every-slot-is-found", test_every_slot_is_found);
    g_test_add_func("/memory/a-snapshot-is-not-changed",
                    test_a_snapshot_is_not_changed);
    g_test_add_func("/memory/the-last-reference-unmaps",
                    test_the_last_reference_unmaps);
    g_test_add_func("/memory/a-table-carries-over-what-is-equal",
                    test_a_table_carries_over_what_is_equal);
    g_test_add_func("/memory/a-file-that-shrank-is-not-carried-over",
                    test_a_file_that_shrank_is_not_carried_over);
    g_test_add_func("/memory/only-a-known-region-is-removed",
                    test_only_a_known_region_is_removed);
    return g_test_run();
}
