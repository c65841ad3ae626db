/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Owns the tests of how vhu/memory maps a region: what it refuses and says
 * then, alignment, huge pages, other kinds of fds.
 */
#include "vhu/memory.h"

#include "tests/shared-memory.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/eventfd.h>

#define GUEST 0x100000u
#define USER  0x7f0000000000u
#define PAGES 4u

/* Add a region to memory that has one at GUEST and USER. */
static VhuMemory *try_region(const VhuMemRegion *region, int fd, VhuError *err)
{
    VhuMemRegion first = shared_region(GUEST, USER, PAGES, 0);
    VhuMemory *before = shared_memory(&first, 1, shared_file(PAGES), -1);
    VhuMemory *after = vhu_memory_with_region(before, region, fd, err);

    vhu_memory_unref(before);
    return after;
}

static void test_regions_that_cannot_be_are_refused(void)
{
    /* guest, size, user, offset: and what the text must name. */
    static const struct {
        VhuMemRegion region;
        const char *names;
    } rows[] = {
        {{0, 0, 0, 0, 0, 0}, "size is 0"},
        /* Overlaps in guest addresses: at the start, inside, at the end. */
        {{GUEST - PAGE, PAGE + 1, 0, 0, 0, 0}, "0xff000-0x100000"},
        {{GUEST + 1, 1, 0, 0, 0, 0}, "guest addresses"},
        {{GUEST + PAGES * PAGE - 1, 2, 0, 0, 0, 0}, "0x103fff-0x104000"},
        {{GUEST, PAGES * PAGE, 0, 0, 0, 0}, "0x100000-0x103fff"},
        /* The same in user addresses. */
        {{0, PAGE + 1, USER - PAGE, 0, 0, 0}, "user addresses"},
        {{0, 1, USER + PAGES * PAGE - 1, 0, 0, 0}, "0x7f0000003fff"},
        /* Overflows. */
        {{UINT64_MAX - 2, 4, 0, 0, 0, 0}, "0xfffffffffffffffd"},
        {{0, 4, UINT64_MAX - 2, 0, 0, 0}, "0xfffffffffffffffd"},
        {{0, 4, 0, UINT64_MAX - 2, 0, 0}, "0xfffffffffffffffd"},
        {{0, 1, 0, INT64_MAX, 0, 0}, "0x7fffffffffffffff"},
        {{0, UINT64_MAX, 0, 0, 0, 0}, "0xffffffffffffffff"},
        {{0, UINT64_MAX, 0, 1, 0, 0}, "0xffffffffffffffff"},
        /* Past the end of the file. */
        {{0, PAGES * PAGE + 1, 0, 0, 0, 0}, "file of 0x4000 bytes"},
        {{0, PAGE + 1, 0, 3 * PAGE, 0, 0}, "offset 0x3000 plus size 0x1001"},
        {{0, 1, 0, PAGES * PAGE, 0, 0}, "offset 0x4000"},
        {{0, 1ull << 62, 0, 0, 0, 0}, "0x4000000000000000"},
    };
    int fd = shared_file(PAGES);
    unsigned i;

    for (i = 0; i < G_N_ELEMENTS(rows); i++) {
        VhuError err = {0};

        g_assert_null(try_region(&rows[i].region, fd, &err));
        g_assert_cmpint(err.code, ==, EINVAL);
        g_assert_cmpuint(err.request, ==, VHOST_USER_ADD_MEM_REG);
        if (!strstr(err.text, rows[i].names)) {
            g_test_message("row %u: '%s'", i, err.text);
            g_test_fail();
        }
    }
    close(fd);
}

static void test_regions_that_just_fit_are_mapped(void)
{
    static const VhuMemRegion rows[] = {
        {GUEST - PAGE, PAGE, USER - PAGE, 0, 0, 0},
        {GUEST + PAGES * PAGE, 1, USER + PAGES * PAGE, 0, 0, 0},
        {0, PAGES * PAGE, 0, 0, 0, 0},
        {0, PAGE, 0, 3 * PAGE, 0, 0},
        {0, 1, 0, PAGES * PAGE - 1, 0, 0},
        {UINT64_MAX - 3, 4, 0, 0, 0, 0},
        {0, 4, UINT64_MAX - 3, 0, 0, 0},
    };
    int fd = shared_file(PAGES);
    unsigned i;

    for (i = 0; i < G_N_ELEMENTS(rows); i++) {
        VhuError err = {0};
        VhuMemory *memory = try_region(&rows[i], fd, &err);
        uint8_t *local;

        g_assert_cmpstr(err.text, ==, "");
        g_assert_nonnull(memory);
        local = vhu_memory_guest_ptr(memory, rows[i].guest_addr, rows[i].size);
        g_assert_nonnull(local);
        g_assert_cmpuint(local[0], ==, rows[i].mmap_offset / PAGE + 1);
        g_assert_cmpuint(local[rows[i].size - 1], ==,
                         (rows[i].mmap_offset + rows[i].size - 1) / PAGE + 1);
        vhu_memory_unref(memory);
    }
    close(fd);
}

static void test_a_table_is_refused_whole(void)
{
    VhuMemTable table = {
        .num_regions = 2,
        .regions =
            {
                shared_region(0, 0, 1, 0),
                shared_region(PAGE, PAGE, PAGES, 1),
            },
    };
    VhuMemory *before = vhu_memory_new(-1);
    int fd = shared_file(PAGES);
    int fds[VHU_MAX_TABLE_REGIONS + 1] = {fd, fd};
    VhuError err = {0};

    g_assert_null(vhu_memory_with_table(before, &table, fds, &err));
    g_assert_cmpint(err.code, ==, EINVAL);
    g_assert_cmpuint(err.request, ==, VHOST_USER_SET_MEM_TABLE);
    g_assert_nonnull(strstr(err.text, "guest address 0x1000, size 0x4000"));

    table.regions[1] = shared_region(0, PAGE, 1, 0);
    g_assert_null(vhu_memory_with_table(before, &table, fds, &err));
    g_assert_nonnull(strstr(err.text, "0x0-0xfff and 0x0-0xfff"));

    table.num_regions = VHU_MAX_TABLE_REGIONS + 1;
    g_assert_null(vhu_memory_with_table(before, &table, fds, &err));
    g_assert_nonnull(strstr(err.text, "9 regions"));
    g_assert_null(vhu_memory_with_table(before, &table, fds, NULL));
    g_assert_cmpuint(vhu_memory_num_regions(before), ==, 0);
    vhu_memory_unref(before);
    close(fd);
}

static void test_an_offset_inside_a_page_is_honoured(void)
{
    VhuMemRegion region = {
        .guest_addr = 0x234,
        .size = PAGE,
        .mmap_offset = PAGE + 0x234,
    };
    VhuMemory *memory = shared_memory(&region, 1, shared_file(PAGES), -1);
    uint8_t *local = vhu_memory_guest_ptr(memory, 0x234, PAGE);

    g_assert_nonnull(local);
    g_assert_cmphex((uintptr_t)local % PAGE, ==, 0x234);
    g_assert_cmpuint(local[0], ==, 2);
    g_assert_cmpuint(local[PAGE - 0x235], ==, 2);
    g_assert_cmpuint(local[PAGE - 0x234], ==, 3);
    /* What shares its pages is not its. */
    g_assert_null(vhu_memory_guest_ptr(memory, 0x233, 1));
    g_assert_null(vhu_memory_guest_ptr(memory, 0x234 + PAGE, 1));
    vhu_memory_unref(memory);
}

static void test_a_seal_against_shrinking_is_noticed(void)
{
    static const struct {
        unsigned seals;
        bool shrinkable;
    } rows[] = {
        {0, true},
        {F_SEAL_GROW, true},
        {F_SEAL_SHRINK, false},
        {F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL, false},
    };
    VhuMemRegion region = shared_region(0, 0, 1, 0);
    unsigned i;

    for (i = 0; i < G_N_ELEMENTS(rows); i++) {
        int fd = shared_file(1);
        VhuMemory *memory;

        g_assert_cmpint(fcntl(fd, F_ADD_SEALS, rows[i].seals), ==, 0);
        memory = shared_memory(&region, 1, fd, -1);
        g_assert_cmpint(vhu_memory_region(memory, 0).shrinkable, ==,
                        rows[i].shrinkable);
        vhu_memory_unref(memory);
    }
}

/* The VmFlags line of the kernel's account of a mapping. */
static char *mapping_flags(const void *local)
{
    g_autofree char *smaps = NULL;
    g_auto(GStrv) lines = NULL;
    g_autofree char *start = NULL;
    unsigned i = 0;

    start = g_strdup_printf("%08lx-", (unsigned long)(uintptr_t)local);
    g_assert_true(g_file_get_contents("/proc/self/smaps", &smaps, NULL, NULL));
    lines = g_strsplit(smaps, "\n", -1);
    while (lines[i] && !g_str_has_prefix(lines[i], start)) {
        i++;
    }
    while (lines[i] && !g_str_has_prefix(lines[i], "VmFlags:")) {
        i++;
    }
    g_assert_nonnull(lines[i]);
    return g_strdup(lines[i]);
}

static void test_a_mapping_reserves_and_dumps_nothing(void)
{
    VhuMemRegion region = shared_region(0, 0, 1, 0);
    VhuMemory *memory = shared_memory(&region, 1, shared_file(1), -1);
    g_autofree char *flags = mapping_flags(vhu_memory_guest_ptr(memory, 0, 1));

    g_assert_nonnull(strstr(flags, " sh")); /* shared */
    g_assert_nonnull(strstr(flags, " nr")); /* no swap reserved */
    g_assert_nonnull(strstr(flags, " dd")); /* not dumped */
    vhu_memory_unref(memory);
}

static void test_facts_are_told(void)
{
    VhuMemRegion region = shared_region(GUEST, USER, 2, PAGE);
    VhuMemory *memory = shared_memory(&region, 1, shared_file(3), -1);
    VhuRegionInfo info = vhu_memory_region(memory, 0);

    g_assert_cmphex(info.guest_addr, ==, GUEST);
    g_assert_cmphex(info.user_addr, ==, USER);
    g_assert_cmphex(info.size, ==, 2 * PAGE);
    g_assert_true(info.local == vhu_memory_guest_ptr(memory, GUEST, 1));
    g_assert_cmpuint(info.page_bytes, ==, (uint64_t)sysconf(_SC_PAGESIZE));
    vhu_memory_unref(memory);
}

static void test_huge_pages_are_mapped_whole(void)
{
    uint64_t page_bytes = 0;
    int fd = shared_huge_file(&page_bytes);
    VhuMemRegion region = {.guest_addr = GUEST};
    g_autofree char *maps = NULL;
    VhuMemory *memory;
    uint8_t *local;

    if (fd < 0) {
        g_test_skip("this kernel has no hugetlbfs");
        return;
    }
    /* Neither its offset nor its size are multiples of a huge page. */
    region.mmap_offset = page_bytes / 2 + 0x234;
    region.size = page_bytes / 4;
    memory = shared_memory(&region, 1, fd, -1);
    g_assert_cmpuint(vhu_memory_region(memory, 0).page_bytes, ==, page_bytes);
    local = vhu_memory_guest_ptr(memory, GUEST, region.size);
    g_assert_cmphex((uintptr_t)local % page_bytes, ==, region.mmap_offset);
    vhu_memory_unref(memory);
    /* A length not rounded to huge pages could not be unmapped. */
    g_assert_true(g_file_get_contents("/proc/self/maps", &maps, NULL, NULL));
    g_assert_null(strstr(maps, "memfd:huge"));
}

static void test_huge_pages_hold_what_is_written(void)
{
    uint64_t page_bytes = 0;
    int fd = shared_huge_file(&page_bytes);
    VhuMemRegion region = {.mmap_offset = 0x1234, .size = 0x1000};
    VhuMemory *memory;
    uint8_t *view;

    if (fd < 0 || fallocate(fd, 0, 0, (off_t)page_bytes) < 0) {
        g_test_skip("no huge page to be had here (vm.nr_hugepages)");
        return;
    }
    memory = shared_memory(&region, 1, dup(fd), -1);
    view = mmap(NULL, page_bytes, PROT_READ, MAP_SHARED, fd, 0);
    *(uint8_t *)vhu_memory_guest_ptr(memory, 0x765, 1) = 0x42;
    g_assert_cmphex(view[0x1234 + 0x765], ==, 0x42);
    munmap(view, page_bytes);
    vhu_memory_unref(memory);
    close(fd);
}

/* ---- Other kinds of fds ---- */

static void test_a_device_is_mapped_without_a_size(void)
{
    VhuMemRegion region = shared_region(0, 0, 2, 0);
    VhuMemory *memory =
        shared_memory(&region, 1, open("/dev/zero", O_RDWR | O_CLOEXEC), -1);
    uint8_t *local = vhu_memory_guest_ptr(memory, 0, 2 * PAGE);

    local[2 * PAGE - 1] = 1;
    g_assert_true(vhu_memory_region(memory, 0).shrinkable);
    vhu_memory_unref(memory);
}

static void test_what_cannot_be_mapped_is_refused(void)
{
    VhuMemRegion region = shared_region(0, 0, 1, 0);
    int empty = memfd_create("empty", MFD_CLOEXEC);
    int readonly = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);
    VhuError err = {0};
    int event = eventfd(0, EFD_CLOEXEC);

    g_assert_null(try_region(&region, event, &err));
    g_assert_cmpint(err.code, ==, ENODEV);
    g_assert_null(try_region(&region, readonly, &err));
    g_assert_cmpint(err.code, ==, EACCES);
    g_assert_null(try_region(&region, empty, &err));
    g_assert_cmpint(err.code, ==, EINVAL);
    g_assert_null(try_region(&region, -1, &err));
    g_assert_cmpint(err.code, ==, EBADF);
    close(event);
    close(readonly);
    close(empty);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/mapping/regions-that-cannot-be-are-refused",
                    test_regions_that_cannot_be_are_refused);
    g_test_add_func("/mapping/regions-that-just-fit-are-mapped",
                    test_regions_that_just_fit_are_mapped);
    g_test_add_func("/mapping/a-table-is-refused-whole",
                    test_a_table_is_refused_whole);
    g_test_add_func("/mapping/an-offset-inside-a-page-is-honoured",
                    test_an_offset_inside_a_page_is_honoured);
    g_test_add_func("/mapping/a-seal-against-shrinking-is-noticed",
                    test_a_seal_against_shrinking_is_noticed);
    g_test_add_func("/mapping/a-mapping-reserves-and-dumps-nothing",
                    test_a_mapping_reserves_and_dumps_nothing);
    g_test_add_func("/mapping/facts-are-told", test_facts_are_told);
    g_test_add_func("/mapping/huge-pages-are-mapped-whole",
                    test_huge_pages_are_mapped_whole);
    g_test_add_func("/mapping/huge-pages-hold-what-is-written",
                    test_huge_pages_hold_what_is_written);
    g_test_add_func("/mapping/a-device-is-mapped-without-a-size",
                    test_a_device_is_mapped_without_a_size);
    g_test_add_func("/mapping/what-cannot-be-mapped-is-refused",
                    test_what_cannot_be_mapped_is_refused);
    return g_test_run();
}
