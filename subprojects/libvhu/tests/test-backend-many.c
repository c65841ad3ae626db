/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Owns the tests of many connections to one back end: none holds another, and
 * none leaves anything behind.
 */
#include "tests/toy.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

#define CONNECTIONS 1000

/* ---- one hangs, another is served ---- */

static void hang_one(unsigned num_threads)
{
    const ToyConfig config = {
        .hold = true, .stop = TOY_STOP_HANG, .num_threads = num_threads};
    Toy *toy = toy_new(&config);
    Rig *hung = toy_rig(toy, NULL);
    Rig *served = toy_rig(toy, NULL);
    RigRequest *request;
    VhuWait wait;
    int rc;

    rig_start(hung);
    rig_start(served);
    request = toy_submit(hung, 0);
    toy_wait_held(toy, 1);
    toy_hold(toy, false);
    /* The control thread has a stop to answer, and cannot. */
    rc = vhu_frontend_stop_vring(rig_session(hung), 0, vhu_wait_then(&wait),
                                 &wait.err);
    for (int i = 0; i < 50; i++) {
        toy_round_trip(served, 0, 1000);
    }
    rig_stop(served);
    rig_start(served);
    toy_round_trip(served, 0, 1000);
    g_assert_false(wait.done);
    toy_release(toy);
    g_assert_cmpint(rig_op(hung, rc, &wait), ==, 0);
    g_assert_true(rig_next_used(hung, 0, 10000) == request);
    toy_check(request);
    rig_free(hung);
    rig_free(served);
    toy_free(toy);
}

static void test_hung_device_holds_its_connection_only(void)
{
    hang_one(0);
}

static void test_hung_device_on_a_thread(void)
{
    hang_one(1);
}

/* A connection that is lost while its device hangs is kept until all is
 * back, and then goes without a trace. */
static void test_lost_connection_drains(void)
{
    const ToyConfig config = {.hold = true, .stop = TOY_STOP_HANG};
    Toy *toy = toy_new(&config);
    Rig *lost = toy_rig(toy, NULL);

    rig_start(lost);
    toy_submit(lost, 0);
    toy_wait_held(toy, 1);
    toy_events(toy);
    rig_free(lost);
    toy_wait_ended(toy, 1);
    toy_idle(toy);
    g_assert_cmpuint(vhu_backend_num_connections(toy_backend(toy)), ==, 0);
    g_assert_cmpuint(vhu_backend_num_alive(toy_backend(toy)), ==, 1);
    g_assert_cmpstr(toy_events(toy), ==, "stop 0");
    toy_release(toy);
    toy_idle(toy);
    g_assert_cmpuint(vhu_backend_num_alive(toy_backend(toy)), ==, 0);
    g_assert_cmpstr(toy_events(toy), ==, "stopped 0 disconnect");
    toy_free(toy);
}

static void test_close_all_under_load(void)
{
    const ToyConfig config = {.num_queues = 2, .num_threads = 2};
    Toy *toy = toy_new(&config);
    Rig *rigs[4];

    for (unsigned i = 0; i < G_N_ELEMENTS(rigs); i++) {
        rigs[i] = toy_rig(toy, &(RigConfig){.num_queues = 2});
        rig_start(rigs[i]);
        for (unsigned n = 0; n < 20; n++) {
            toy_submit(rigs[i], n % 2);
        }
    }
    vhu_backend_close_all(toy_backend(toy));
    for (unsigned i = 0; i < G_N_ELEMENTS(rigs); i++) {
        rig_wait_closed(rigs[i], NULL);
        rig_free(rigs[i]);
    }
    toy_wait_ended(toy, G_N_ELEMENTS(rigs));
    toy_free(toy);
}

/* ---- nothing is left behind ---- */

typedef struct Held {
    unsigned fds;
    unsigned kib;
} Held;

static Held measure(Toy *toy)
{
    toy_idle(toy);
    return (Held){.fds = rig_count_fds(0), .kib = rig_anonymous_kib(0)};
}

/* Each way to leave: after a clean stop, in the middle of everything, before
 * anything. */
static void connect_once(Toy *toy, unsigned way)
{
    const RigConfig config = {
        .features = way % 2 ? RIG_BIT(VIRTIO_F_RING_PACKED) : 0,
        .queue_size = 16,
        .memory_bytes = 1 << 20,
        .num_regions = 3,
        .inflight = way % 3 == 0,
    };
    Rig *rig;

    if (way % 5 == 4) {
        close(toy_connect(toy));
        return;
    }
    rig = toy_rig(toy, &config);
    rig_start(rig);
    toy_round_trip(rig, 0, 100);
    if (way % 5 == 0) {
        rig_stop(rig);
    } else {
        toy_submit(rig, 0);
    }
    rig_free(rig);
}

static void connect_many(const ToyConfig *config)
{
    Toy *toy = toy_new(config);
    Held before, after;

    for (unsigned i = 0; i < 100; i++) { /* what is made once */
        connect_once(toy, i);
        toy_wait_ended(toy, i + 1);
    }
    before = measure(toy);
    for (unsigned i = 0; i < CONNECTIONS; i++) {
        connect_once(toy, i);
        toy_wait_ended(toy, 100 + i + 1);
        if (i % 50 == 0) {
            toy_events(toy);
        }
    }
    after = measure(toy);
    g_assert_cmpuint(vhu_backend_num_alive(toy_backend(toy)), ==, 0);
    g_assert_cmpuint(after.fds, ==, before.fds);
    g_test_message("result: fds left by %u connections%s: %d", CONNECTIONS,
                   config ? " on threads" : "",
                   (int)after.fds - (int)before.fds);
    g_test_message("result: KiB left by %u connections%s: %d", CONNECTIONS,
                   config ? " on threads" : "",
                   (int)after.kib - (int)before.kib);
    /* The least a connection could leak of memory is far above this. */
    if (rig_memory_is_plain()) {
        g_assert_cmpuint(after.kib, <, before.kib + 1024);
    }
    toy_free(toy);
}

static void test_1000_connections_leak_nothing(void)
{
    connect_many(NULL);
}

static void test_1000_connections_on_threads_leak_nothing(void)
{
    connect_many(&(ToyConfig){.num_threads = 2});
}

static void test_50_at_once(void)
{
    const ToyConfig config = {.num_threads = 2};
    Toy *toy = toy_new(&config);
    Rig *rigs[50];
    Held before = measure(toy), after;

    for (unsigned i = 0; i < G_N_ELEMENTS(rigs); i++) {
        rigs[i] = toy_rig(toy, &(RigConfig){.memory_bytes = 1 << 20});
        rig_start(rigs[i]);
    }
    for (unsigned round = 0; round < 5; round++) {
        for (unsigned i = 0; i < G_N_ELEMENTS(rigs); i++) {
            toy_round_trip(rigs[i], 0, 500);
        }
    }
    g_assert_cmpuint(vhu_backend_num_connections(toy_backend(toy)), ==,
                     G_N_ELEMENTS(rigs));
    for (unsigned i = 0; i < G_N_ELEMENTS(rigs); i++) {
        rig_free(rigs[i]);
    }
    toy_wait_ended(toy, G_N_ELEMENTS(rigs));
    after = measure(toy);
    g_assert_cmpuint(after.fds, ==, before.fds);
    toy_free(toy);
}

#define TEST(name, fn) g_test_add_func("/backend/many/" name, fn)

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    TEST("hung-device/holds-its-connection-only",
         test_hung_device_holds_its_connection_only);
    TEST("hung-device/on-a-thread", test_hung_device_on_a_thread);
    TEST("lost-connection-drains", test_lost_connection_drains);
    TEST("close-all-under-load", test_close_all_under_load);
    TEST("1000-leak-nothing", test_1000_connections_leak_nothing);
    TEST("1000-on-threads-leak-nothing",
         test_1000_connections_on_threads_leak_nothing);
    TEST("50-at-once", test_50_at_once);
    return g_test_run();
}
