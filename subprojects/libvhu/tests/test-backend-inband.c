/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Owns the tests of kicks, calls and errors as messages: vhost-user, "In-band
 * notifications".
 */
#include "tests/toy.h"

static void test_inband_kick_and_call(void)
{
    const RigConfig config = {.inband = true, .num_queues = 2};
    const ToyConfig two = {.num_queues = 2, .num_threads = 1};
    Toy *toy = toy_new(&two);
    Rig *rig = toy_rig(toy, &config);

    rig_start(rig);
    for (int i = 0; i < 20; i++) {
        toy_round_trip(rig, (unsigned)i % 2, 100);
    }
    g_assert_cmpuint(rig_calls(rig, 0), >=, 10);
    g_assert_cmpuint(rig_calls(rig, 1), >=, 10);
    rig_stop(rig);
    rig_free(rig);
    toy_free(toy);
}

/* An event fd is preferred over messages, where there is one. */
static void test_eventfd_goes_before_messages(void)
{
    const RigConfig config = {.inband = true};
    Toy *toy = toy_new(NULL);
    Rig *rig = toy_rig(toy, &config);
    const VhuFrontendCounters *counters;
    uint64_t messages, calls;
    VhuMessage set_call;

    rig_start(rig);
    toy_round_trip(rig, 0, 10);
    counters = &vhu_frontend_info(rig_session(rig))->counters;
    messages = counters->backend_requests;
    calls = rig_calls(rig, 0);
    g_assert_cmpuint(messages, >=, 1);
    set_call = (VhuMessage){.request = VHOST_USER_SET_VRING_CALL,
                            .kind = VHU_PAYLOAD_VRING_FD,
                            .num_fds = 1,
                            .fds = {rig_call_fd(rig, 0)}};
    g_assert_cmpint(rig_call(rig, &set_call, NULL), ==, 0);
    toy_round_trip(rig, 0, 10);
    g_assert_cmpuint(rig_calls(rig, 0), ==, calls + 1);
    g_assert_cmpuint(counters->backend_requests, ==, messages);
    rig_free(rig);
    toy_free(toy);
}

static unsigned broken_rings;

static int on_vring_err(void *opaque, uint32_t index)
{
    (void)opaque;
    broken_rings += 1 + index;
    return 0;
}

static bool ring_broke(void *opaque)
{
    (void)opaque;
    return broken_rings == 2;
}

static void test_inband_error(void)
{
    const ToyConfig two = {.num_queues = 2};
    VhuFrontendOps ops = {.vring_err = on_vring_err};
    const RigConfig config = {.inband = true, .num_queues = 2, .ops = &ops};
    Toy *toy = toy_new(&two);
    Rig *rig = toy_rig(toy, &config);
    RigRequest *bad;

    rig_start(rig);
    bad = rig_request(rig, 1);
    rig_out_at(bad, 0x10, 16);
    rig_submit_quietly(bad);
    rig_kick(rig, 1, true);
    toy_until(toy, ring_broke, NULL);
    rig_free(rig);
    toy_free(toy);
}

#define TEST(name, fn) g_test_add_func("/backend/inband/" name, fn)

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    TEST("kick-and-call", test_inband_kick_and_call);
    TEST("eventfd-goes-before-messages", test_eventfd_goes_before_messages);
    TEST("error", test_inband_error);
    return g_test_run();
}
