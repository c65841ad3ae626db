/* SPDX-License-Identifier: BSD-3-Clause */
/* Owns the tests of vhu/memory: snapshots, what they refuse, lookup. */
#include "vhu/memory.h"

#include "tests/shared-memory.h"

/* ---- Translation ---- */

static void test_addresses_reach_the_same_byte(void)
{
    g_autofree VhuMemTable *table = g_new0(VhuMemTable, 1);
    int fd = shared_file(8);
    int fds[2] = {fd, fd};
    VhuMemory *empty = vhu_memory_new(-1);
    VhuGuestAddr addr = 0;
    VhuMemory *memory;
    uint8_t *local;

    table->num_regions = 2;
    table->regions[0] = shared_region(0x100000, 0x7f0000000000, 4, 4 * PAGE);
    table->regions[1] = shared_region(0, 0x7e0000000000, 4, 0);
    memory = vhu_memory_with_table(empty, table, fds, NULL);
    g_assert_nonnull(memory);
    close(fd);

    local = vhu_memory_guest_ptr(memory, 0x100000 + PAGE, PAGE);
    g_assert_nonnull(local);
    g_assert_cmpuint(local[0], ==, 6);
    g_assert_true(vhu_memory_user_ptr(memory, 0x7f0000000000 + PAGE, PAGE) ==
                  local);
    g_assert_cmpuint(vhu_memory_ptr_guest(memory, local + 5, &addr), ==,
                     3 * PAGE - 5);
    g_assert_cmphex(addr, ==, 0x100000 + PAGE + 5);
    local = vhu_memory_guest_ptr(memory, 3 * PAGE, PAGE);
    g_assert_nonnull(local);
    g_assert_cmpuint(local[PAGE - 1], ==, 4);
    vhu_memory_unref(memory);
    vhu_memory_unref(empty);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/memory/addresses-reach-the-same-byte",
                    test_addresses_reach_the_same_byte);
    return g_test_run();
}
