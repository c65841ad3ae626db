/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Owns the tests of requests that outlive a back end: the inflight buffer, what
 * a new back end makes of it, and rings that stop without draining. A crash is
 * a device that hangs and is left behind: nothing of it runs any more.
 */
#include "tests/toy.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define REQUESTS 6

#define PACKED RIG_BIT(VIRTIO_F_RING_PACKED)
#define MIXED                                                                  \
    (RIG_BIT(VIRTIO_RING_F_INDIRECT_DESC) | RIG_BIT(VIRTIO_RING_F_EVENT_IDX))

static const ToyConfig hangs = {.hold = true, .stop = TOY_STOP_HANG};

static Toy *heir_of(Toy *dead)
{
    return toy_new(&(ToyConfig){.loop = toy_loop(dead)});
}

static Rig *tracked_rig(Toy *toy, uint64_t features)
{
    return toy_rig(toy, &(RigConfig){.features = features, .inflight = true});
}

static void expect_used(Rig *rig, RigRequest *request)
{
    g_assert_true(rig_next_used(rig, 0, rig_config(rig)->timeout_ms) ==
                  request);
    toy_check(request);
}

/* ---- a crash ---- */

/* The second of six was answered. The heir gets the others in the order the
 * dead had popped them, then what is new, and nobody gets anything twice. */
static void test_heir_resubmits_in_order(gconstpointer data)
{
    RigRequest *requests[REQUESTS + 1];
    Toy *dead = toy_new(&hangs);
    Toy *heir = heir_of(dead);
    Rig *rig = tracked_rig(dead, (uintptr_t)data);

    rig_start(rig);
    for (unsigned i = 0; i < REQUESTS; i++) {
        requests[i] = toy_submit(rig, 0);
    }
    toy_wait_held(dead, REQUESTS);
    toy_release_one(dead, 1);
    expect_used(rig, requests[1]);

    rig_disconnect(rig);
    requests[REQUESTS] = toy_add_quietly(rig, 0);
    rig_reattach(rig, toy_connect(heir));
    for (unsigned i = 0; i <= REQUESTS; i++) {
        if (i != 1) {
            expect_used(rig, requests[i]);
        }
    }
    g_assert_cmpuint(toy_resubmitted(heir), ==, REQUESTS - 1);
    g_assert_cmpuint(toy_served(heir), ==, REQUESTS);
    g_assert_cmpuint(rig_in_flight(rig), ==, 0);
    toy_round_trip(rig, 0, 100);
    rig_stop(rig);
    rig_free(rig);
    toy_free(dead);
    toy_free(heir);
}

/* A second crash right after the first: what was resubmitted and not
 * answered is resubmitted again. */
static void test_crash_after_a_crash(gconstpointer data)
{
    RigRequest *requests[REQUESTS];
    Toy *first = toy_new(&hangs);
    Toy *second = toy_new(&(ToyConfig){
        .hold = true, .stop = TOY_STOP_HANG, .loop = toy_loop(first)});
    Toy *third = heir_of(first);
    Rig *rig = tracked_rig(first, (uintptr_t)data);

    rig_start(rig);
    for (unsigned i = 0; i < REQUESTS; i++) {
        requests[i] = toy_submit(rig, 0);
    }
    toy_wait_held(first, REQUESTS);
    rig_disconnect(rig);
    rig_reattach(rig, toy_connect(second));
    toy_wait_held(second, REQUESTS);
    g_assert_cmpuint(toy_resubmitted(second), ==, 0); /* none answered */
    toy_release_one(second, 0);
    expect_used(rig, requests[0]);
    rig_disconnect(rig);
    rig_reattach(rig, toy_connect(third));
    for (unsigned i = 1; i < REQUESTS; i++) {
        expect_used(rig, requests[i]);
    }
    g_assert_cmpuint(toy_resubmitted(third), ==, REQUESTS - 1);
    toy_round_trip(rig, 0, 100);
    rig_free(rig);
    toy_free(third);
    toy_free(second);
    toy_free(first);
}

/* Around the end of the ring many times, with a crash in each round. */
static void test_crashes_around_the_ring(gconstpointer data)
{
    const RigConfig config = {
        .features = (uintptr_t)data, .inflight = true, .queue_size = 8};
    Toy *toys[8];
    Rig *rig;

    toys[0] = toy_new(&hangs);
    rig = toy_rig(toys[0], &config);
    rig_start(rig);
    for (unsigned round = 1; round < G_N_ELEMENTS(toys); round++) {
        RigRequest *requests[3];

        for (unsigned i = 0; i < 3; i++) {
            requests[i] = toy_submit(rig, 0);
        }
        toy_wait_held(toys[round - 1], 3);
        rig_disconnect(rig);
        toys[round] = heir_of(toys[0]);
        rig_reattach(rig, toy_connect(toys[round]));
        for (unsigned i = 0; i < 3; i++) {
            expect_used(rig, requests[i]);
        }
        toy_round_trip(rig, 0, 64);
        toy_hold(toys[round], true);
    }
    rig_free(rig);
    for (unsigned i = G_N_ELEMENTS(toys); i-- > 0;) {
        toy_free(toys[i]);
    }
}

/* The same back end still has the requests of the connection that was lost:
 * it must not carry them out once more beside themselves. */
static void test_ring_waits_for_the_lost_connection(void)
{
    Toy *toy = toy_new(&hangs);
    Rig *rig = tracked_rig(toy, 0);
    RigRequest *request;

    rig_start(rig);
    request = toy_submit(rig, 0);
    toy_wait_held(toy, 1);
    rig_disconnect(rig);
    toy_wait_ended(toy, 1);
    g_assert_cmpuint(vhu_backend_num_alive(toy_backend(toy)), ==, 1);
    toy_release_soon(toy);
    rig_reattach(rig, toy_connect(toy));
    g_assert_true(
        toy_logged(toy, "queue 0 waits for a lost connection to drain"));
    toy_wait_held(toy, 1);
    g_assert_false(request->used);
    toy_release(toy);
    expect_used(rig, request);
    g_assert_cmpuint(toy_resubmitted(toy), ==, 1);
    rig_free(rig);
    toy_free(toy);
}

/* ---- a kick that was lost ---- */

/* Set up and enabled, and never kicked. */
static void expect_used_without_a_kick(Rig *rig, RigRequest *request)
{
    uint64_t count;

    while (read(rig_kick_fd(rig, 0), &count, sizeof(count)) > 0) {
        g_test_message("an old kick is left");
    }
    rig_setup_queue(rig, 0);
    rig_enable_queue(rig, 0, true);
    expect_used(rig, request);
}

/* The kick may have gone to the back end the ring ran in before. */
static void test_ring_that_ran_needs_no_kick(gconstpointer data)
{
    const RigConfig config = {.features = (uintptr_t)data};
    Toy *first = toy_new(NULL);
    Toy *heir = heir_of(first);
    Rig *rig = toy_rig(first, &config);
    RigRequest *request;

    rig_start(rig);
    toy_round_trip(rig, 0, 100);
    rig_stop(rig);
    rig_disconnect(rig);
    request = toy_add_quietly(rig, 0);
    rig_reattach(rig, toy_connect(heir));
    expect_used_without_a_kick(rig, request);
    rig_free(rig);
    toy_free(heir);
    toy_free(first);
}

/* With a buffer a ring may have run, whatever its base. */
static void test_ring_with_a_buffer_needs_no_kick(gconstpointer data)
{
    Toy *toy = toy_new(NULL);
    Rig *rig = tracked_rig(toy, (uintptr_t)data);

    expect_used_without_a_kick(rig, toy_add_quietly(rig, 0));
    rig_free(rig);
    toy_free(toy);
}

/* ---- stopping without draining ---- */

static void test_stop_suspends_requests(gconstpointer data)
{
    const ToyConfig suspends = {.hold = true, .stop = TOY_STOP_SUSPEND};
    const RigConfig config = {
        .features = (uintptr_t)data, .inflight = true, .suspends = true};
    RigRequest *requests[REQUESTS];
    Toy *toy = toy_new(&suspends);
    Rig *rig = toy_rig(toy, &config);

    rig_start(rig);
    for (unsigned i = 0; i < REQUESTS; i++) {
        requests[i] = toy_submit(rig, 0);
    }
    toy_wait_held(toy, REQUESTS);
    rig_stop(rig);
    g_assert_cmpuint(rig_in_flight(rig), ==, REQUESTS);
    g_assert_cmpuint(toy_held(toy), ==, 0);
    g_assert_cmpuint(toy_served(toy), ==, 0);

    toy_hold(toy, false);
    rig_start(rig);
    for (unsigned i = 0; i < REQUESTS; i++) {
        expect_used(rig, requests[i]);
    }
    g_assert_cmpuint(toy_resubmitted(toy), ==, REQUESTS);
    toy_round_trip(rig, 0, 100);
    rig_free(rig);
    toy_free(toy);
}

/* Without the feature, or without a buffer, a stop completes everything. */
static void stop_completes(const RigConfig *config)
{
    const ToyConfig suspends = {.hold = true, .stop = TOY_STOP_SUSPEND};
    Toy *toy = toy_new(&suspends);
    Rig *rig = toy_rig(toy, config);
    RigRequest *request;

    rig_start(rig);
    request = toy_submit(rig, 0);
    toy_wait_held(toy, 1);
    rig_stop(rig);
    g_assert_true(request->used);
    toy_check(request);
    rig_free(rig);
    toy_free(toy);
}

static void test_stop_completes_without_the_feature(void)
{
    stop_completes(&(RigConfig){.inflight = true});
}

static void test_stop_completes_without_a_buffer(void)
{
    stop_completes(&(RigConfig){.suspends = true});
}

/* An heir that is stopped before it could take all it inherited: without the
 * feature that is completed too, and what is new is not begun. */
static void test_stop_completes_what_was_inherited(gconstpointer data)
{
    enum {
        INHERITED = 24,
    };
    RigRequest *requests[INHERITED];
    RigRequest *fresh;
    Toy *dead = toy_new(&hangs);
    Toy *heir =
        toy_new(&(ToyConfig){.one_by_one = true, .loop = toy_loop(dead)});
    Rig *rig = tracked_rig(dead, (uintptr_t)data);

    rig_start(rig);
    for (unsigned i = 0; i < INHERITED; i++) {
        requests[i] = toy_submit(rig, 0);
    }
    toy_wait_held(dead, INHERITED);
    rig_disconnect(rig);
    fresh = rig_request(rig, 0);
    rig_out(fresh, "0123456789abcde", 16);
    rig_in(fresh, 16);
    g_assert_cmpint(rig_submit_quietly(fresh), ==, 0);
    rig_reattach(rig, toy_connect(heir));
    rig_stop(rig);
    for (unsigned i = 0; i < INHERITED; i++) {
        g_assert_true(requests[i]->used);
        toy_check(requests[i]);
    }
    g_assert_cmpuint(toy_resubmitted(heir), ==, INHERITED);
    g_assert_false(fresh->used);
    rig_start(rig);
    expect_used(rig, fresh);
    rig_free(rig);
    toy_free(dead);
    toy_free(heir);
}

/* ---- the buffer ---- */

static int send_buffer(Rig *rig, int fd, const VhuInflightArea *area)
{
    const VhuMessage msg = {.request = VHOST_USER_SET_INFLIGHT_FD,
                            .kind = VHU_PAYLOAD_INFLIGHT,
                            .payload.inflight = *area,
                            .num_fds = 1,
                            .fds = {fd}};

    return rig_call(rig, &msg, NULL);
}

static void test_buffer_is_of_the_right_size(void)
{
    const ToyConfig two = {.num_queues = 2};
    const RigConfig config = {
        .num_queues = 2, .queue_size = 128, .inflight = true};
    Toy *toy = toy_new(&two);
    Rig *rig = toy_rig(toy, &config);
    VhuInflightArea area;
    int fd = vhu_frontend_inflight(rig_session(rig), &area);

    g_assert_cmpint(fd, >=, 0);
    g_assert_cmpuint(area.num_queues, ==, 2);
    g_assert_cmpuint(area.queue_size, ==, 128);
    /* QueueRegionSplit: 16 bytes, and 16 for each descriptor. */
    g_assert_cmpuint(area.mmap_size, >=, 2 * (16 + 128 * 16));
    g_assert_cmpint(lseek(fd, 0, SEEK_END), >=,
                    area.mmap_offset + area.mmap_size);
    rig_free(rig);
    toy_free(toy);
}

static void test_bad_buffer_is_refused(void)
{
    Toy *toy = toy_new(NULL);
    Rig *rig = tracked_rig(toy, 0);
    VhuInflightArea good, bad;
    int fd = vhu_frontend_inflight(rig_session(rig), &good);

    bad = good;
    bad.mmap_size += 1 << 20;
    g_assert_cmpint(send_buffer(rig, fd, &bad), ==, -EREMOTEIO);
    bad = good;
    bad.mmap_offset = UINT64_MAX - 16;
    g_assert_cmpint(send_buffer(rig, fd, &bad), ==, -EREMOTEIO);
    bad = good;
    bad.queue_size = 0;
    g_assert_cmpint(send_buffer(rig, fd, &bad), ==, -EREMOTEIO);
    bad = good;
    bad.num_queues = 4096;
    g_assert_cmpint(send_buffer(rig, fd, &bad), ==, -EREMOTEIO);
    g_assert_cmpint(send_buffer(rig, fd, &good), ==, 0);

    /* Under a ring that is set up it may not change. */
    rig_start(rig);
    g_assert_cmpint(send_buffer(rig, fd, &good), ==, -EREMOTEIO);
    toy_round_trip(rig, 0, 100);
    rig_free(rig);
    toy_free(toy);
}

static void fill_buffer(Rig *rig, uint8_t value)
{
    VhuInflightArea area;
    int fd = vhu_frontend_inflight(rig_session(rig), &area);
    uint8_t *map = mmap(NULL, area.mmap_offset + area.mmap_size,
                        PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);

    g_assert_true(map != MAP_FAILED);
    memset(map + area.mmap_offset, value, area.mmap_size);
    munmap(map, area.mmap_offset + area.mmap_size);
}

/* A front end may write anything there: the ring is broken, no more. */
static void test_nonsense_in_the_buffer_breaks_the_ring(gconstpointer data)
{
    Toy *toy = toy_new(NULL);
    Rig *rig = tracked_rig(toy, (uintptr_t)data);

    fill_buffer(rig, 0xff);
    rig_start(rig);
    toy_wait_logged(toy, "queue 0 broken");
    g_assert_cmpuint(toy_num_ended(toy), ==, 0);

    /* Stopped, and with a clean buffer, it runs. */
    rig_stop(rig);
    fill_buffer(rig, 0);
    rig_forget_queues(rig);
    rig_start(rig);
    toy_round_trip(rig, 0, 100);
    rig_free(rig);
    toy_free(toy);
}

/* A buffer of the front end's own, that it truncates. */
static void test_truncated_buffer_ends_the_connection(void)
{
    Toy *toy = toy_new(NULL);
    Rig *rig = tracked_rig(toy, 0);
    int fd = memfd_create("inflight", MFD_CLOEXEC);
    VhuInflightArea area;

    vhu_frontend_inflight(rig_session(rig), &area);
    g_assert_cmpint(ftruncate(fd, (off_t)(area.mmap_offset + area.mmap_size)),
                    ==, 0);
    g_assert_cmpint(send_buffer(rig, fd, &area), ==, 0);
    rig_start(rig);
    toy_round_trip(rig, 0, 100);
    g_assert_cmpint(ftruncate(fd, 0), ==, 0);
    toy_submit(rig, 0);
    rig_wait_closed(rig, NULL);
    toy_wait_ended(toy, 1);
    g_assert_cmpint(toy_last_end(toy)->code, ==, EFAULT);
    close(fd);
    rig_free(rig);
    toy_free(toy);
}

static void add_for_layouts(const char *name, GTestDataFunc fn)
{
    static const struct {
        const char *name;
        uint64_t features;
    } layouts[] = {
        {"split", 0},
        {"packed", PACKED},
        {"split+indirect+event-idx", MIXED},
        {"packed+indirect+event-idx", PACKED | MIXED},
    };

    for (unsigned i = 0; i < G_N_ELEMENTS(layouts); i++) {
        g_autofree char *path =
            g_strdup_printf("/backend/inflight/%s/%s", name, layouts[i].name);

        g_test_add_data_func(path, (gconstpointer)layouts[i].features, fn);
    }
}

#define TEST(name, fn) g_test_add_func("/backend/inflight/" name, fn)

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    add_for_layouts("heir-resubmits-in-order", test_heir_resubmits_in_order);
    add_for_layouts("crash-after-a-crash", test_crash_after_a_crash);
    add_for_layouts("crashes-around-the-ring", test_crashes_around_the_ring);
    TEST("ring-waits-for-the-lost-connection",
         test_ring_waits_for_the_lost_connection);
    add_for_layouts("no-kick/of-a-ring-that-ran",
                    test_ring_that_ran_needs_no_kick);
    add_for_layouts("no-kick/of-a-ring-with-a-buffer",
                    test_ring_with_a_buffer_needs_no_kick);
    add_for_layouts("stop-suspends-requests", test_stop_suspends_requests);
    TEST("stop-completes/without-the-feature",
         test_stop_completes_without_the_feature);
    add_for_layouts("stop-completes/what-was-inherited",
                    test_stop_completes_what_was_inherited);
    TEST("stop-completes/without-a-buffer",
         test_stop_completes_without_a_buffer);
    TEST("buffer/is-of-the-right-size", test_buffer_is_of_the_right_size);
    TEST("buffer/bad-one-is-refused", test_bad_buffer_is_refused);
    add_for_layouts("buffer/nonsense-breaks-the-ring",
                    test_nonsense_in_the_buffer_breaks_the_ring);
    TEST("buffer/truncated-ends-the-connection",
         test_truncated_buffer_ends_the_connection);
    return g_test_run();
}
