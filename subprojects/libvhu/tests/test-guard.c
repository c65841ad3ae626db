/* SPDX-License-Identifier: BSD-3-Clause */
/* Owns the tests of the SIGBUS guard, through the mappings it guards. */
#include "vhu/dirty.h"

#include "tests/guard-world.h"
#include "tests/own-process.h"

#include <errno.h>

#define DEADLINE_MS 10000

typedef struct Hammer {
    World *world;
    gint passes; /* over all pages, finished */
} Hammer;

/* Ends one whole pass after the loss was seen. */
static gpointer hammer_run(gpointer opaque)
{
    Hammer *hammer = opaque;
    bool lost;
    unsigned i;

    do {
        lost = vhu_memory_lost(hammer->world->memory);
        for (i = 0; i < PAGES; i++) {
            hammer->world->local[i * PAGE] ^= 1;
        }
        g_atomic_int_inc(&hammer->passes);
    } while (!lost);
    return NULL;
}

static void truncation_under_load_loses_the_region(void)
{
    World world = world_new();
    Hammer hammer = {.world = &world};
    GThread *thread = g_thread_new("hammer", hammer_run, &hammer);
    uint8_t byte = 0;

    while (g_atomic_int_get(&hammer.passes) < 3) {
        g_thread_yield();
    }
    g_assert_false(vhu_memory_lost(world.memory));
    g_assert_false(is_readable(world.lost_fd, 0));
    g_assert_cmpint(ftruncate(world.file, PAGE), ==, 0);
    g_assert_true(is_readable(world.lost_fd, DEADLINE_MS));
    g_assert_true(vhu_memory_lost(world.memory));
    g_thread_join(thread);

    /* Lost pages read as zero, but for what we wrote there since. */
    g_assert_cmpuint(world.local[PAGE + 1], ==, 0);
    g_assert_cmpuint(world.local[PAGES * PAGE - 1], ==, 0);
    /* The page that is left is still the file's. */
    world.local[1] = 0x77;
    g_assert_cmpint(pread(world.file, &byte, 1, 1), ==, 1);
    g_assert_cmphex(byte, ==, 0x77);
    world_free(&world);
}

static void one_loss_is_told_once(void)
{
    World world = world_new();
    eventfd_t count = 0;
    unsigned i;

    g_assert_cmpint(ftruncate(world.file, 0), ==, 0);
    /* From the end, so that each page faults. */
    for (i = PAGES; i-- > 0;) {
        g_assert_cmpuint(world.local[i * PAGE], ==, 0);
    }
    g_assert_cmpint(eventfd_read(world.lost_fd, &count), ==, 0);
    g_assert_cmpuint(count, ==, 1);
    world_free(&world);
}

static void an_eventfd_that_is_full_is_left_alone(void)
{
    World world = world_new();
    volatile int *error = &errno; /* read anew after the fault */

    g_assert_cmpint(eventfd_write(world.lost_fd, UINT64_MAX - 1), ==, 0);
    g_assert_cmpint(ftruncate(world.file, 0), ==, 0);
    *error = EXDEV;
    g_assert_cmpuint(world.local[0], ==, 0);
    g_assert_cmpint(*error, ==, EXDEV);
    g_assert_true(is_readable(world.lost_fd, 0));
    world_free(&world);
}

static void one_access_replaces_all_that_follows(void)
{
    World world = world_new();
    uint8_t byte = 0xff;

    g_assert_cmpint(ftruncate(world.file, PAGE), ==, 0);
    g_assert_cmpuint(world.local[2 * PAGE], ==, 0);
    /* What follows is ours, even if the file comes back. */
    g_assert_cmpint(ftruncate(world.file, PAGES * PAGE), ==, 0);
    world.local[PAGES * PAGE - 1] = 0x55;
    world.local[PAGE] = 0x66;
    g_assert_cmpint(pread(world.file, &byte, 1, PAGES * PAGE - 1), ==, 1);
    g_assert_cmphex(byte, ==, 0);
    g_assert_cmpint(pread(world.file, &byte, 1, PAGE), ==, 1);
    g_assert_cmphex(byte, ==, 0x66);
    world_free(&world);
}

static void only_the_truncated_file_is_lost(void)
{
    World first = world_new();
    World second = world_new();

    g_assert_cmpint(ftruncate(second.file, 0), ==, 0);
    g_assert_cmpuint(first.local[0], ==, 1);
    g_assert_cmpuint(second.local[0], ==, 0);
    g_assert_cmpuint(first.local[PAGE], ==, 2);
    g_assert_false(vhu_memory_lost(first.memory));
    g_assert_true(vhu_memory_lost(second.memory));
    g_assert_false(is_readable(first.lost_fd, 0));
    g_assert_true(is_readable(second.lost_fd, 0));
    world_free(&second);
    world_free(&first);
}

static void only_who_touches_a_shared_file_loses_it(void)
{
    World first = world_new();
    World second = world_of(dup(first.file), PAGES);

    g_assert_cmpint(ftruncate(first.file, 0), ==, 0);
    first.local[5 * PAGE] = 1;
    g_assert_true(vhu_memory_lost(first.memory));
    g_assert_false(vhu_memory_lost(second.memory));
    g_assert_false(is_readable(second.lost_fd, 0));
    second.local[0] = 1;
    g_assert_true(vhu_memory_lost(second.memory));
    g_assert_true(is_readable(second.lost_fd, 0));
    world_free(&second);
    world_free(&first);
}

static void a_lost_region_is_not_carried_over(void)
{
    VhuMemTable table = {
        .num_regions = 1,
        .regions = {shared_region(0, 0x7f0000000000, PAGES, 0)},
    };
    World world = world_new();
    VhuMemory *after;

    g_assert_cmpint(ftruncate(world.file, 0), ==, 0);
    g_assert_cmpuint(world.local[0], ==, 0);
    g_assert_cmpint(ftruncate(world.file, PAGES * PAGE), ==, 0);
    after = vhu_memory_with_table(world.memory, &table, &world.file, NULL);
    g_assert_nonnull(after);
    g_assert_false(vhu_memory_lost(after));
    g_assert_true(vhu_memory_lost(world.memory));
    *(uint8_t *)vhu_memory_guest_ptr(after, 0, 1) = 0x42;
    g_assert_cmpuint(world.local[0], ==, 0);
    vhu_memory_unref(after);
    world_free(&world);
}

static void snapshots_that_follow_tell_the_same_eventfd(void)
{
    VhuMemTable table = {
        .num_regions = 1,
        .regions = {shared_region(0, 0, 1, 0)},
    };
    VhuMemRegion more = shared_region(PAGE, PAGE, 1, 0);
    World world = world_new();
    int file = shared_file(1);
    VhuMemory *second;
    VhuMemory *third;

    second = vhu_memory_with_table(world.memory, &table, &world.file, NULL);
    third = vhu_memory_with_region(second, &more, file, NULL);
    g_assert_nonnull(third);
    g_assert_cmpint(ftruncate(file, 0), ==, 0);
    g_assert_cmpuint(*(uint8_t *)vhu_memory_guest_ptr(third, PAGE, 1), ==, 0);
    g_assert_true(is_readable(world.lost_fd, 0));
    g_assert_true(vhu_memory_lost(third));
    g_assert_false(vhu_memory_lost(second));
    vhu_memory_unref(second);
    vhu_memory_unref(third);
    close(file);
    world_free(&world);
}

static void a_region_added_later_tells_the_same_eventfd(void)
{
    VhuMemRegion more = shared_region(PAGES * PAGE, 0, 1, 0);
    VhuMemRegion last = shared_region((PAGES + 1) * PAGE, PAGE, 1, 0);
    World world = world_new();
    int file = shared_file(1);
    VhuMemory *second =
        vhu_memory_with_region(world.memory, &more, world.file, NULL);
    VhuMemory *third = vhu_memory_with_region(second, &last, file, NULL);
    uint8_t *local = vhu_memory_guest_ptr(third, last.guest_addr, 1);

    g_assert_cmpint(ftruncate(file, 0), ==, 0);
    g_assert_cmpuint(*local, ==, 0);
    g_assert_true(is_readable(world.lost_fd, 0));
    vhu_memory_unref(second);
    vhu_memory_unref(third);
    close(file);
    world_free(&world);
}

static void a_lost_dirty_log_is_told(void)
{
    VhuLogArea area = {.size = PAGE - 16, .offset = 16};
    int lost_fd = eventfd(0, EFD_CLOEXEC);
    int file = shared_file(1);
    VhuDirtyLog *log = vhu_dirty_new(file, &area, lost_fd, NULL);

    vhu_memory_guard_install();
    g_assert_nonnull(log);
    g_assert_cmpint(ftruncate(file, 0), ==, 0);
    g_assert_true(vhu_dirty_mark(log, 0, 1));
    g_assert_true(is_readable(lost_fd, 0));
    vhu_dirty_unref(log);
    close(file);
    close(lost_fd);
}

static void a_lost_huge_page_is_replaced_whole(void)
{
    uint64_t page_bytes = 0;
    int file = shared_huge_file(&page_bytes);
    VhuMemRegion region = {.size = page_bytes};
    VhuMemory *memory = shared_memory(&region, 1, dup(file), -1);
    uint8_t *local = vhu_memory_guest_ptr(memory, 0, page_bytes);

    vhu_memory_guard_install();
    g_assert_cmpint(ftruncate(file, 0), ==, 0);
    /* Not only the 4096 bytes around the fault can be replaced. */
    local[page_bytes / 2] = 1;
    g_assert_true(vhu_memory_lost(memory));
    local[page_bytes - 1] = 1;
    local[0] = 1;
    vhu_memory_unref(memory);
    close(file);
}

/* ---- The table of mappings ---- */

static void every_one_of_many_mappings_is_guarded(void)
{
    World worlds[300];
    unsigned i;

    for (i = 0; i < G_N_ELEMENTS(worlds); i++) {
        worlds[i] = world_new();
    }
    /* Free some in the middle and take their places again. */
    for (i = 50; i < 150; i++) {
        world_free(&worlds[i]);
        worlds[i] = world_new();
    }
    for (i = 0; i < G_N_ELEMENTS(worlds); i++) {
        g_assert_false(vhu_memory_lost(worlds[i].memory));
        g_assert_cmpint(ftruncate(worlds[i].file, 0), ==, 0);
        g_assert_cmpuint(worlds[i].local[(PAGES - 1) * PAGE], ==, 0);
        g_assert_true(vhu_memory_lost(worlds[i].memory));
    }
    for (i = 0; i < G_N_ELEMENTS(worlds); i++) {
        world_free(&worlds[i]);
    }
}

/* Until told to stop, mappings that come and go. */
static gpointer churn_run(gpointer opaque)
{
    gint *stop = opaque;

    while (!g_atomic_int_get(stop)) {
        World world = world_of(shared_file(2), 2);

        g_assert_false(vhu_memory_lost(world.memory));
        world_free(&world);
    }
    return NULL;
}

static void a_fault_is_caught_while_others_come_and_go(void)
{
    gint stop = 0;
    GThread *thread = g_thread_new("churn", churn_run, &stop);
    unsigned i;

    for (i = 0; i < 1000; i++) {
        World world = world_new();

        g_assert_cmpint(ftruncate(world.file, 0), ==, 0);
        g_assert_cmpuint(world.local[PAGE], ==, 0);
        g_assert_true(vhu_memory_lost(world.memory));
        g_assert_true(is_readable(world.lost_fd, 0));
        world_free(&world);
    }
    g_atomic_int_set(&stop, 1);
    g_thread_join(thread);
}

static const ProcessTest tests[] = {
    {.path = "/guard/truncation-under-load-loses-the-region",
     .run = truncation_under_load_loses_the_region},
    {.path = "/guard/one-loss-is-told-once", .run = one_loss_is_told_once},
    {.path = "/guard/an-eventfd-that-is-full-is-left-alone",
     .run = an_eventfd_that_is_full_is_left_alone},
    {.path = "/guard/one-access-replaces-all-that-follows",
     .run = one_access_replaces_all_that_follows},
    {.path = "/guard/only-the-truncated-file-is-lost",
     .run = only_the_truncated_file_is_lost},
    {.path = "/guard/only-who-touches-a-shared-file-loses-it",
     .run = only_who_touches_a_shared_file_loses_it},
    {.path = "/guard/a-lost-region-is-not-carried-over",
     .run = a_lost_region_is_not_carried_over},
    {.path = "/guard/snapshots-that-follow-tell-the-same-eventfd",
     .run = snapshots_that_follow_tell_the_same_eventfd},
    {.path = "/guard/a-region-added-later-tells-the-same-eventfd",
     .run = a_region_added_later_tells_the_same_eventfd},
    {.path = "/guard/a-lost-dirty-log-is-told",
     .run = a_lost_dirty_log_is_told},
    {.path = "/guard/every-one-of-many-mappings-is-guarded",
     .run = every_one_of_many_mappings_is_guarded},
    {.path = "/guard/a-fault-is-caught-while-others-come-and-go",
     .run = a_fault_is_caught_while_others_come_and_go},
};

static const ProcessTest huge_test = {
    .path = "/guard/a-lost-huge-page-is-replaced-whole",
    .run = a_lost_huge_page_is_replaced_whole,
};

static void test_huge_page(gconstpointer opaque)
{
    uint64_t page_bytes;
    int file = shared_huge_file(&page_bytes);

    if (file < 0) {
        g_test_skip("this kernel has no hugetlbfs");
        return;
    }
    close(file);
    process_test_run(opaque);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    process_tests_add(tests, G_N_ELEMENTS(tests));
    g_test_add_data_func(huge_test.path, &huge_test, test_huge_page);
    return g_test_run();
}
