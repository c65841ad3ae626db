/* SPDX-License-Identifier: BSD-3-Clause */
/* Owns the tests of vhu/dirty: which bits are set, and that none is lost. */
#include "vhu/dirty.h"

#include "tests/shared-memory.h"

#include <errno.h>
#include <pthread.h>
#include <sched.h>

/* A log of some bytes in a file, between bytes that are not its own. */
typedef struct World {
    VhuDirtyLog *log;
    uint8_t *file; /* our view of the whole file */
    uint8_t *bits; /* our view of the log */
} World;

#define LOG_OFFSET 4100u
#define LOG_BYTES  16u
#define FILE_BYTES (2u * PAGE)

static World world_new(void)
{
    VhuLogArea area = {.size = LOG_BYTES, .offset = LOG_OFFSET};
    VhuError err = {0};
    World world;
    int fd = memfd_create("log", MFD_CLOEXEC);

    g_assert_cmpint(ftruncate(fd, FILE_BYTES), ==, 0);
    world.file =
        mmap(NULL, FILE_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    g_assert_true(world.file != MAP_FAILED);
    world.bits = world.file + LOG_OFFSET;
    world.log = vhu_dirty_new(fd, &area, -1, &err);
    g_assert_cmpstr(err.text, ==, "");
    close(fd);
    return world;
}

/* Also holds that nothing beside the log was written. */
static void world_free(World *world)
{
    unsigned i;

    for (i = 0; i < FILE_BYTES; i++) {
        if (i < LOG_OFFSET || i >= LOG_OFFSET + LOG_BYTES) {
            g_assert_cmpuint(world->file[i], ==, 0);
        }
    }
    vhu_dirty_unref(world->log);
    munmap(world->file, FILE_BYTES);
}

static void test_bits_are_where_the_specification_says(void)
{
    /* log[page / 8] |= 1 << page % 8, page = addr / 0x1000, by hand. */
    static const struct {
        uint64_t addr;
        uint64_t size;
        uint8_t expected[LOG_BYTES];
    } rows[] = {
        {0x0, 1, {0x01}},
        {0x0, 0x1000, {0x01}},
        {0x0, 0x1001, {0x03}},
        {0xfff, 1, {0x01}},
        {0xfff, 2, {0x03}},
        {0x1000, 1, {0x02}},
        {0x7abc, 1, {0x80}},
        {0x7fff, 2, {0x80, 0x01}},
        {0x8000, 1, {0x00, 0x01}},
        {0x3000, 0x2000, {0x18}},
        {0x6000, 0xb000, {0xc0, 0xff, 0x01}},
        {0x0, 0x10000, {0xff, 0xff}},
        {0x1fff, 0x8002, {0xfe, 0x07}},
        {0x5000, 0, {0}},
        {0x7f000, 0x1000, {[15] = 0x80}},
    };
    unsigned i;

    for (i = 0; i < G_N_ELEMENTS(rows); i++) {
        World world = world_new();

        g_assert_true(vhu_dirty_mark(world.log, rows[i].addr, rows[i].size));
        g_assert_cmpmem(world.bits, LOG_BYTES, rows[i].expected, LOG_BYTES);
        world_free(&world);
    }
}

static void test_marked_pages_stay_marked(void)
{
    static const uint8_t expected[] = {0x8d};
    World world = world_new();

    world.bits[0] = 0x81;
    g_assert_true(vhu_dirty_mark(world.log, 0x2000, 0x2000));
    g_assert_cmpmem(world.bits, 1, expected, 1);
    g_assert_true(vhu_dirty_mark(world.log, 0x2000, 0x1000));
    g_assert_cmpmem(world.bits, 1, expected, 1);
    world_free(&world);
}

static void test_past_the_end_is_told_and_the_rest_marked(void)
{
    static const struct {
        uint64_t addr;
        uint64_t size;
        uint8_t last; /* byte of the log */
    } rows[] = {
        {0x80000, 1, 0x00},
        {0x7ffff, 2, 0x80},
        {0x7e000, 0x2001, 0xc0},
        {0x7e000, UINT64_MAX, 0xc0},
        {UINT64_MAX, 1, 0x00},
        {UINT64_MAX, 2, 0x00},
        {UINT64_MAX - 0xfff, UINT64_MAX, 0x00},
    };
    unsigned i;

    for (i = 0; i < G_N_ELEMENTS(rows); i++) {
        World world = world_new();

        g_assert_false(vhu_dirty_mark(world.log, rows[i].addr, rows[i].size));
        g_assert_cmphex(world.bits[LOG_BYTES - 1], ==, rows[i].last);
        g_assert_cmphex(world.bits[0], ==, 0);
        world_free(&world);
    }
}

static void test_an_area_outside_the_file_is_refused(void)
{
    static const VhuLogArea rows[] = {
        {.size = 0, .offset = 0},
        {.size = FILE_BYTES + 1, .offset = 0},
        {.size = 1, .offset = FILE_BYTES},
        {.size = FILE_BYTES, .offset = 1},
        {.size = UINT64_MAX, .offset = 1},
        {.size = 2, .offset = UINT64_MAX},
        {.size = 1, .offset = INT64_MAX},
    };
    int fd = memfd_create("log", MFD_CLOEXEC);
    unsigned i;

    g_assert_cmpint(ftruncate(fd, FILE_BYTES), ==, 0);
    for (i = 0; i < G_N_ELEMENTS(rows); i++) {
        VhuError err = {0};

        g_assert_null(vhu_dirty_new(fd, &rows[i], -1, &err));
        g_assert_cmpint(err.code, ==, EINVAL);
        g_assert_cmpuint(err.request, ==, VHOST_USER_SET_LOG_BASE);
        g_assert_true(g_str_has_prefix(err.text, "dirty log: "));
        if (rows[i].size == 0) {
            g_assert_cmpstr(err.text, ==, "dirty log: size is 0");
        }
    }
    close(fd);
}

static void test_local_memory_is_marked_by_its_guest_address(void)
{
    VhuMemRegion regions[] = {
        shared_region(0x3000, 0x10000, 2, 0),
        shared_region(0x10000, 0x20000, 1, 2 * PAGE),
    };
    VhuMemory *memory = shared_memory(regions, 2, shared_file(3), -1);
    uint8_t *first = vhu_memory_guest_ptr(memory, 0x3000, 1);
    uint8_t *second = vhu_memory_guest_ptr(memory, 0x10000, 1);
    World world = world_new();

    g_assert_true(vhu_dirty_mark_local(world.log, memory, first + PAGE - 1, 2));
    g_assert_cmphex(world.bits[0], ==, 0x18);
    g_assert_true(vhu_dirty_mark_local(world.log, memory, second, PAGE));
    g_assert_cmphex(world.bits[2], ==, 0x01);

    g_assert_false(vhu_dirty_mark_local(world.log, memory, &world, 1));
    g_assert_true(vhu_dirty_mark_local(world.log, memory, &world, 0));
    vhu_memory_unref(memory);
    world_free(&world);
}

/* Where two one-page regions touch here, or NULL. */
static uint8_t *border_of(const VhuMemory *memory)
{
    uint8_t *first = vhu_memory_region(memory, 0).local;
    uint8_t *second = vhu_memory_region(memory, 1).local;

    return second == first + PAGE || first == second + PAGE ? MAX(first, second)
                                                            : NULL;
}

static void test_a_local_range_across_regions_is_two_guest_ranges(void)
{
    /* Both in the log; either one beyond it. */
    static const struct {
        uint64_t guest[2];
        uint8_t expected[3];
        bool inside;
    } rows[] = {
        {{0x3000, 0x10000}, {0x08, 0x00, 0x01}, true},
        {{0x3000, 0x80000}, {0x08, 0x00, 0x00}, false},
        {{0x80000, 0x10000}, {0x00, 0x00, 0x01}, false},
    };
    unsigned i;

    for (i = 0; i < G_N_ELEMENTS(rows); i++) {
        VhuMemRegion regions[] = {
            shared_region(rows[i].guest[0], 0x10000, 1, 0),
            shared_region(rows[i].guest[1], 0x20000, 1, PAGE),
        };
        VhuMemory *memory = shared_memory(regions, 2, shared_file(2), -1);
        uint8_t *border = border_of(memory);
        World world = world_new();

        if (border) {
            g_assert_true(vhu_dirty_mark_local(world.log, memory, border - 1,
                                               2) == rows[i].inside);
            g_assert_cmpmem(world.bits, 3, rows[i].expected, 3);
        } else {
            g_test_skip("the kernel did not map two regions side by side");
        }
        vhu_memory_unref(memory);
        world_free(&world);
    }
}

static void test_a_reference_keeps_the_log(void)
{
    World world = world_new();
    VhuDirtyLog *held = vhu_dirty_ref(world.log);

    vhu_dirty_unref(world.log);
    g_assert_true(vhu_dirty_mark(held, 0, 1));
    g_assert_cmphex(world.bits[0], ==, 0x01);
    vhu_dirty_unref(NULL);
    world_free(&world);
}

/* ---- Several markers, and a front end that takes bits meanwhile ---- */

#define MARKERS 2u
#define MARKS   200000u

typedef struct Marker {
    VhuDirtyLog *log;
    uint8_t *byte;  /* of the log, shared by all markers */
    unsigned page;  /* its own */
    unsigned marks; /* that were there when looked at */
    pthread_barrier_t *start;
} Marker;

static gpointer marker_run(gpointer opaque)
{
    Marker *marker = opaque;
    uint8_t bit = (uint8_t)(1u << marker->page);
    unsigned i;

    pthread_barrier_wait(marker->start);
    for (i = 0; i < MARKS; i++) {
        vhu_dirty_mark(marker->log, marker->page * VHU_LOG_PAGE_BYTES, 1);
        /* Nobody else takes this bit. */
        marker->marks +=
            !!(__atomic_fetch_and(marker->byte, ~bit, __ATOMIC_SEQ_CST) & bit);
    }
    return NULL;
}

static void test_markers_of_one_byte_lose_no_mark(void)
{
    World world = world_new();
    pthread_barrier_t start;
    Marker markers[MARKERS];
    GThread *threads[MARKERS];
    unsigned i;

    pthread_barrier_init(&start, NULL, MARKERS);
    for (i = 0; i < MARKERS; i++) {
        markers[i] = (Marker){world.log, &world.bits[0], i, 0, &start};
        threads[i] = g_thread_new("marker", marker_run, &markers[i]);
    }
    for (i = 0; i < MARKERS; i++) {
        g_thread_join(threads[i]);
        g_assert_cmpuint(markers[i].marks, ==, MARKS);
    }
    pthread_barrier_destroy(&start);
    world_free(&world);
}

#define ROUNDS 20000u

typedef struct Race {
    VhuDirtyLog *log;
    gint go;       /* round begun by the one that takes */
    gint done;     /* round ended by the one that writes */
    unsigned data; /* the guest page that is marked */
} Race;

/* Both sides must run at once for the race: no wait that sleeps. */
static void race_meet(gint *at, unsigned round)
{
    while (g_atomic_int_get(at) != (gint)round) {
        sched_yield();
    }
}

static gpointer race_write(gpointer opaque)
{
    Race *race = opaque;
    unsigned round;

    for (round = 1; round <= ROUNDS; round++) {
        race_meet(&race->go, round);
        vhu_dirty_mark(race->log, 0, 1);
        __atomic_store_n(&race->data, round, __ATOMIC_RELAXED);
        vhu_dirty_mark(race->log, 0, 1);
        g_atomic_int_set(&race->done, (gint)round);
    }
    return NULL;
}

/* As the front end does it: take the bit, then read the page. */
static void race_take(Race *race, uint8_t *bits, unsigned *seen)
{
    if (__atomic_exchange_n(bits, 0, __ATOMIC_SEQ_CST)) {
        *seen = __atomic_load_n(&race->data, __ATOMIC_RELAXED);
    }
}

static void test_a_mark_over_a_mark_is_seen_by_who_takes_it(void)
{
    World world = world_new();
    Race race = {.log = world.log};
    unsigned seen = 0;
    GThread *thread = g_thread_new("writer", race_write, &race);
    unsigned round;

    for (round = 1; round <= ROUNDS; round++) {
        g_atomic_int_set(&race.go, (gint)round);
        do {
            race_take(&race, &world.bits[0], &seen);
        } while (g_atomic_int_get(&race.done) != (gint)round);
        race_take(&race, &world.bits[0], &seen);
        g_assert_cmpuint(seen, ==, round);
    }
    g_thread_join(thread);
    world_free(&world);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/dirty/bits-are-where-the-specification-says",
                    test_bits_are_where_the_specification_says);
    g_test_add_func("/dirty/marked-pages-stay-marked",
                    test_marked_pages_stay_marked);
    g_test_add_func("/dirty/past-the-end-is-told-and-the-rest-marked",
                    test_past_the_end_is_told_and_the_rest_marked);
    g_test_add_func("/dirty/an-area-outside-the-file-is-refused",
                    test_an_area_outside_the_file_is_refused);
    g_test_add_func("/dirty/local-memory-is-marked-by-its-guest-address",
                    test_local_memory_is_marked_by_its_guest_address);
    g_test_add_func("/dirty/a-local-range-across-regions-is-two-guest-ranges",
                    test_a_local_range_across_regions_is_two_guest_ranges);
    g_test_add_func("/dirty/a-reference-keeps-the-log",
                    test_a_reference_keeps_the_log);
    g_test_add_func("/dirty/markers-of-one-byte-lose-no-mark",
                    test_markers_of_one_byte_lose_no_mark);
    g_test_add_func("/dirty/a-mark-over-a-mark-is-seen-by-who-takes-it",
                    test_a_mark_over_a_mark_is_seen_by_who_takes_it);
    return g_test_run();
}
