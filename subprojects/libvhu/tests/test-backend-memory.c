/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Owns the tests of guest memory as a back end sees it: regions that come and
 * go under running rings, addresses, and files that shrink.
 */
#include "tests/toy.h"

#include <errno.h>
#include <linux/vhost_types.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

static int change_region(Rig *rig, uint32_t request, const VhuMemRegion *region,
                         int fd)
{
    VhuMessage msg = {.request = request,
                      .kind = VHU_PAYLOAD_MEM_REGION,
                      .payload.region = *region};

    if (request == VHOST_USER_ADD_MEM_REG) {
        msg.num_fds = 1;
        msg.fds[0] = fd;
    }
    return rig_call(rig, &msg, NULL);
}

static int spare_memory(size_t bytes)
{
    int fd = memfd_create("spare", MFD_CLOEXEC);

    g_assert_cmpint(ftruncate(fd, (off_t)bytes), ==, 0);
    return fd;
}

/* ---- slots ---- */

static void test_509_slots(void)
{
    const RigConfig config = {
        .num_regions = 509, .memory_bytes = 509 * 8192, .queue_size = 16};
    const VhuMemRegion one_more = {.guest_addr = 0x700000000000,
                                   .user_addr = 0x700000000000,
                                   .size = 4096};
    int fd = spare_memory(4096);
    Toy *toy = toy_new(NULL);
    Rig *rig = toy_rig(toy, &config);

    g_assert_cmpuint(rig_ask_u64(rig, VHOST_USER_GET_MAX_MEM_SLOTS), ==, 509);
    rig_start(rig);
    for (int i = 0; i < 100; i++) {
        toy_round_trip(rig, 0, 30000);
    }
    g_assert_cmpint(change_region(rig, VHOST_USER_ADD_MEM_REG, &one_more, fd),
                    ==, -EREMOTEIO);
    toy_round_trip(rig, 0, 30000);
    close(fd);
    rig_free(rig);
    toy_free(toy);
}

static void test_regions_come_and_go_under_load(void)
{
    const ToyConfig threaded = {.num_threads = 1};
    const VhuMemRegion region = {.guest_addr = 0x100000000,
                                 .user_addr = 0x600000000000,
                                 .size = 0x10000};
    int fd = spare_memory(0x10000);
    Toy *toy = toy_new(&threaded);
    Rig *rig = toy_rig(toy, NULL);

    rig_start(rig);
    for (int i = 0; i < 50; i++) {
        RigRequest *request = toy_submit(rig, 0);

        g_assert_cmpint(change_region(rig, VHOST_USER_ADD_MEM_REG, &region, fd),
                        ==, 0);
        rig_wait(request);
        toy_check(request);
        request = toy_submit(rig, 0);
        g_assert_cmpint(change_region(rig, VHOST_USER_REM_MEM_REG, &region, -1),
                        ==, 0);
        rig_wait(request);
        toy_check(request);
    }
    close(fd);
    rig_free(rig);
    toy_free(toy);
}

/* A request in flight keeps the memory it points into. */
static void test_removed_region_serves_what_is_in_flight(void)
{
    const VhuMemRegion region = {
        .guest_addr = 0x100000000, .user_addr = 0x600000000000, .size = 0x1000};
    const ToyConfig holding = {.hold = true};
    int fd = spare_memory(0x1000);
    Toy *toy = toy_new(&holding);
    Rig *rig = toy_rig(toy, NULL);
    RigRequest *request = rig_request(rig, 0);
    char text[8] = "";

    rig_start(rig);
    g_assert_cmpint(change_region(rig, VHOST_USER_ADD_MEM_REG, &region, fd), ==,
                    0);
    rig_out(request, "abcdefg", 7);
    rig_in_at(request, 0x100000010, 7);
    rig_submit(request);
    toy_wait_held(toy, 1);
    g_assert_cmpint(change_region(rig, VHOST_USER_REM_MEM_REG, &region, -1), ==,
                    0);
    toy_release(toy);
    g_assert_cmpuint(rig_wait(request), ==, 7);
    g_assert_cmpint(pread(fd, text, 7, 0x10), ==, 7);
    g_assert_cmpstr(text, ==, "gfedcba");
    rig_request_free(request);

    /* The next one finds it gone. */
    request = rig_request(rig, 0);
    rig_out_at(request, 0x100000010, 7);
    rig_submit(request);
    toy_hold(toy, false);
    toy_wait_logged(toy, "queue 0 broken");
    close(fd);
    rig_free(rig);
    toy_free(toy);
}

/* What is not acceptable leaves the map as it was. */
static const struct {
    const char *name;
    VhuMemRegion region;
} bad_regions[] = {
    {"size-0", {.guest_addr = 0x100000000, .user_addr = 0x600000000000}},
    {"guest-overlap",
     {.guest_addr = RIG_GUEST_BASE + 0x1000,
      .user_addr = 0x600000000000,
      .size = 0x1000}},
    {"user-overlap",
     {.guest_addr = 0x100000000,
      .user_addr = RIG_USER_BASE + 0x1000,
      .size = 0x1000}},
    {"past-the-file",
     {.guest_addr = 0x100000000, .user_addr = 0x600000000000, .size = 0x3000}},
    {"offset-past-the-file",
     {.guest_addr = 0x100000000,
      .user_addr = 0x600000000000,
      .size = 0x1000,
      .mmap_offset = 0x2000}},
    {"overflow",
     {.guest_addr = 0xfffffffffffff000,
      .user_addr = 0x600000000000,
      .size = 0x2000}},
    {"offset-overflow",
     {.guest_addr = 0x100000000,
      .user_addr = 0x600000000000,
      .size = 0x1000,
      .mmap_offset = 0xfffffffffffff000}},
};

static void test_bad_region_is_refused(gconstpointer data)
{
    const VhuMemRegion *region = data;
    int fd = spare_memory(0x2000);
    Toy *toy = toy_new(NULL);
    Rig *rig = toy_rig(toy, NULL);

    rig_start(rig);
    g_assert_cmpint(change_region(rig, VHOST_USER_ADD_MEM_REG, region, fd), ==,
                    -EREMOTEIO);
    toy_round_trip(rig, 0, 100);
    close(fd);
    rig_free(rig);
    toy_free(toy);
}

/* ---- the table ---- */

static void test_table_is_replaced_under_a_running_ring(void)
{
    const RigConfig config = {.protocol_masked =
                                  VHU_PROTOCOL_BIT(CONFIGURE_MEM_SLOTS)};
    VhuMessage msg = {.request = VHOST_USER_SET_MEM_TABLE,
                      .kind = VHU_PAYLOAD_MEM_TABLE,
                      .num_fds = 2};
    int fd = spare_memory(0x1000);
    Toy *toy = toy_new(NULL);
    Rig *rig = toy_rig(toy, &config);

    rig_start(rig);
    toy_round_trip(rig, 0, 100);
    msg.payload.table.num_regions = 2;
    msg.payload.table.regions[0] = (VhuMemRegion){
        .guest_addr = 0x100000000, .user_addr = 0x600000000000, .size = 0x1000};
    msg.payload.table.regions[1] = rig_region(rig, 0);
    msg.fds[0] = fd;
    msg.fds[1] = rig_memory_fd(rig);
    g_assert_cmpint(rig_call(rig, &msg, NULL), ==, 0);
    toy_round_trip(rig, 0, 100);
    close(fd);
    rig_free(rig);
    toy_free(toy);
}

/* A ring whose memory went away waits for it to come back. */
static void test_ring_without_memory_stalls(void)
{
    Toy *toy = toy_new(NULL);
    Rig *rig = toy_rig(toy, NULL);
    VhuMemRegion region = rig_region(rig, 0);
    RigRequest *request;

    rig_start(rig);
    toy_round_trip(rig, 0, 100);
    g_assert_cmpint(change_region(rig, VHOST_USER_REM_MEM_REG, &region, -1), ==,
                    0);
    g_assert_true(toy_logged(toy, "queue 0 stalled"));
    request = toy_submit(rig, 0);
    toy_idle(toy);
    g_assert_false(request->used);
    g_assert_cmpint(
        change_region(rig, VHOST_USER_ADD_MEM_REG, &region, rig_memory_fd(rig)),
        ==, 0);
    rig_wait(request);
    toy_check(request);
    rig_free(rig);
    toy_free(toy);
}

/* ---- addresses ---- */

static void set_up_at(Rig *rig, const VhuVringAddr *addr)
{
    const VhuMessage msg = {.request = VHOST_USER_SET_VRING_ADDR,
                            .kind = VHU_PAYLOAD_VRING_ADDR,
                            .payload.addr = *addr};

    rig_setup_queue(rig, 0);
    g_assert_cmpint(rig_call(rig, &msg, NULL), ==, 0);
    rig_enable_queue(rig, 0, true);
    rig_kick(rig, 0, true);
    toy_round_trip(rig, 0, 100);
}

static void test_ring_addresses_are_guest_physical(void)
{
    const RigConfig config = {.timeout_ms = 3000};
    Toy *toy = toy_new(NULL);
    Rig *rig = toy_rig(toy, &config);
    VhuVringAddr addr = {0};

    vhu_driver_addrs(rig_queue(rig, 0), &addr.desc, &addr.avail, &addr.used);
    g_assert_cmphex(addr.desc, >=, RIG_GUEST_BASE);
    set_up_at(rig, &addr);
    rig_free(rig);
    toy_free(toy);
}

static void test_ring_addresses_are_the_front_ends(void)
{
    const RigConfig config = {
        .protocol_masked = VHU_PROTOCOL_BIT(GPA_ADDRESSES), .timeout_ms = 3000};
    const uint64_t distance = RIG_USER_BASE - RIG_GUEST_BASE;
    Toy *toy = toy_new(NULL);
    Rig *rig = toy_rig(toy, &config);
    VhuVringAddr addr = {0};

    vhu_driver_addrs(rig_queue(rig, 0), &addr.desc, &addr.avail, &addr.used);
    addr.desc += distance;
    addr.avail += distance;
    addr.used += distance;
    set_up_at(rig, &addr);
    rig_free(rig);
    toy_free(toy);
}

static void test_buffer_that_crosses_regions(void)
{
    const RigConfig config = {.num_regions = 4, .memory_bytes = 4 << 20};
    Toy *toy = toy_new(NULL);
    Rig *rig = toy_rig(toy, &config);
    const VhuGuestAddr edge = RIG_GUEST_BASE + 2 * rig_region_bytes(rig);
    RigRequest *request = rig_request(rig, 0);

    memcpy(rig_local(rig, edge - 4), "01234567", 8);
    rig_start(rig);
    rig_out_at(request, edge - 4, 8);
    rig_in_at(request, edge + rig_region_bytes(rig) - 3, 8);
    g_assert_cmpuint(rig_do(request), ==, 8);
    g_assert_cmpmem(rig_local(rig, edge + rig_region_bytes(rig) - 3), 8,
                    "76543210", 8);
    rig_request_free(request);
    rig_free(rig);
    toy_free(toy);
}

/* ---- files that shrink ---- */

static void truncate_under(const ToyConfig *config)
{
    RigRequest *requests[16];
    Toy *toy = toy_new(config);
    Rig *healthy = toy_rig(toy, NULL);
    Rig *victim = toy_rig(toy, NULL);
    VhuError err = {0};

    rig_start(healthy);
    rig_start(victim);
    for (unsigned i = 0; i < G_N_ELEMENTS(requests); i++) {
        requests[i] = toy_submit(victim, 0);
    }
    toy_wait_held(toy, G_N_ELEMENTS(requests));
    rig_truncate_memory(victim);
    toy_release(toy); /* reads and writes what is no more */
    toy_hold(toy, false);
    rig_wait_closed(victim, &err);
    toy_wait_ended(toy, 1);
    g_assert_cmpint(toy_last_end(toy)->code, ==, EFAULT);
    g_assert_true(toy_logged(toy, "truncated"));
    for (int i = 0; i < 20; i++) {
        toy_round_trip(healthy, 0, 1000);
    }
    g_assert_cmpuint(toy_num_ended(toy), ==, 1);
    rig_free(victim);
    rig_free(healthy);
    toy_free(toy);
}

static void test_truncated_memory_ends_that_connection(void)
{
    truncate_under(&(ToyConfig){.hold = true});
}

static void test_truncated_memory_under_a_data_thread(void)
{
    truncate_under(&(ToyConfig){.hold = true, .num_threads = 2});
}

/* Between requests, found when the ring is looked at. */
static void test_truncated_ring(void)
{
    Toy *toy = toy_new(NULL);
    Rig *rig = toy_rig(toy, NULL);
    const uint64_t one = 1;

    rig_start(rig);
    toy_round_trip(rig, 0, 100);
    rig_truncate_memory(rig);
    g_assert_cmpint(write(rig_kick_fd(rig, 0), &one, sizeof(one)), ==,
                    sizeof(one));
    rig_wait_closed(rig, NULL);
    toy_wait_ended(toy, 1);
    g_assert_cmpint(toy_last_end(toy)->code, ==, EFAULT);
    rig_free(rig);
    toy_free(toy);
}

#define PATH           "/backend/memory/"
#define TEST(name, fn) g_test_add_func(PATH name, fn)

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    TEST("slots/509", test_509_slots);
    TEST("slots/come-and-go-under-load", test_regions_come_and_go_under_load);
    TEST("slots/removed-one-serves-what-is-in-flight",
         test_removed_region_serves_what_is_in_flight);
    for (unsigned i = 0; i < G_N_ELEMENTS(bad_regions); i++) {
        g_autofree char *path =
            g_strdup_printf(PATH "slots/bad/%s", bad_regions[i].name);

        g_test_add_data_func(path, &bad_regions[i].region,
                             test_bad_region_is_refused);
    }
    TEST("table/is-replaced-under-a-running-ring",
         test_table_is_replaced_under_a_running_ring);
    TEST("ring-without-memory-stalls", test_ring_without_memory_stalls);
    TEST("addresses/guest-physical", test_ring_addresses_are_guest_physical);
    TEST("addresses/front-end's", test_ring_addresses_are_the_front_ends);
    TEST("buffer-that-crosses-regions", test_buffer_that_crosses_regions);
    TEST("truncated/ends-that-connection",
         test_truncated_memory_ends_that_connection);
    TEST("truncated/under-a-data-thread",
         test_truncated_memory_under_a_data_thread);
    TEST("truncated/ring", test_truncated_ring);
    return g_test_run();
}
