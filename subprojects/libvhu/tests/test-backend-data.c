/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Owns the tests of the way of data through a back end: every way to lay a
 * ring, on the control thread and on data threads, several queues.
 */
#include "tests/toy.h"

static void test_round_trips(const RigConfig *config)
{
    RigConfig mine = *config;
    Toy *toy = toy_new(NULL);
    Rig *rig;

    mine.queue_size = 16;
    rig = toy_rig(toy, &mine);
    rig_start(rig);
    for (unsigned i = 0; i < 40; i++) {
        toy_round_trip(rig, 0, 1 + i * 337 % 5000);
    }
    rig_stop(rig);
    rig_free(rig);
    toy_free(toy);
}

static void test_full_queues_on_threads(const RigConfig *given)
{
    const ToyConfig config = {.num_queues = 3, .num_threads = 2};
    Toy *toy = toy_new(&config);
    RigConfig mine = *given;
    RigRequest *request;
    Rig *rig;

    mine.num_queues = 3;
    mine.queue_size = 16;
    rig = toy_rig(toy, &mine);
    rig_start(rig);
    for (unsigned i = 0; i < 100; i++) {
        for (unsigned queue = 0; queue < 3; queue++) {
            request = rig_request(rig, queue);
            rig_out(request, "0123456789", 10);
            rig_in(request, 10);
            if (rig_submit_quietly(request) < 0) {
                rig_request_free(request);
            }
            rig_kick(rig, queue, false);
        }
        request = rig_next_used(rig, -1, 0);
        if (request) {
            rig_request_free(request);
        }
    }
    while (rig_in_flight(rig)) {
        request = rig_next_used(rig, -1, 10000);
        g_assert_nonnull(request);
        g_assert_cmpuint(request->written, ==, 10);
        rig_request_free(request);
    }
    while ((request = rig_next_used(rig, -1, 0))) {
        rig_request_free(request);
    }
    rig_stop(rig);
    rig_free(rig);
    toy_free(toy);
}

/* QEMU on virtio-mmio: the buffer is asked for with the property queue-size,
 * and the rings have 1024 entries. */
static void test_inflight_for_larger_rings(const RigConfig *given)
{
    const ToyConfig config = {.num_queues = 2};
    Toy *toy = toy_new(&config);
    RigConfig mine = *given;
    Rig *rig;

    mine.num_queues = 2;
    mine.queue_size = 1024;
    mine.inflight = true;
    mine.inflight_size = 16;
    rig = toy_rig(toy, &mine);
    rig_start(rig);
    toy_hold(toy, true);
    for (unsigned i = 0; i < 200; i++) {
        toy_submit(rig, i % 2);
    }
    toy_wait_held(toy, 200);
    rig_disconnect(rig);
    toy_wait_ended(toy, 1);
    toy_hold(toy, false);
    rig_reattach(rig, toy_connect(toy));
    for (unsigned i = 0; i < 200; i++) {
        RigRequest *request = rig_next_used(rig, -1, 10000);

        g_assert_nonnull(request);
        toy_check(request);
    }
    g_assert_cmpuint(toy_resubmitted(toy), ==, 200);
    rig_stop(rig);
    rig_free(rig);
    toy_free(toy);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    rig_add_matrix("/backend/data/round-trips", test_round_trips);
    rig_add_matrix("/backend/data/full-queues-on-threads",
                   test_full_queues_on_threads);
    rig_add_matrix("/backend/data/inflight-for-larger-rings",
                   test_inflight_for_larger_rings);
    return g_test_run();
}
