/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Owns the tests of ring states in the back end: started or stopped, enabled
 * or disabled, as vhost-user, "Ring states" has them.
 */
#include "tests/toy.h"

#include <string.h>
#include <unistd.h>

/* ---- started and stopped ---- */

static void test_a_kick_starts_a_ring(void)
{
    Toy *toy = toy_new(NULL);
    Rig *rig = toy_rig(toy, NULL);
    RigRequest *request;

    g_assert_cmpstr(toy_events(toy), ==, "connect");
    rig_setup_queue(rig, 0);
    rig_enable_queue(rig, 0, true);
    request = toy_add_quietly(rig, 0);
    toy_idle(toy);
    g_assert_cmpstr(toy_events(toy), ==, "");
    g_assert_false(request->used);

    rig_kick(rig, 0, true);
    rig_wait(request);
    g_assert_cmpstr(toy_events(toy), ==, "start 0");
    rig_request_free(request);
    rig_free(rig);
    toy_free(toy);
}

static void test_a_stopped_ring_is_left_alone(void)
{
    Toy *toy = toy_new(NULL);
    Rig *rig = toy_rig(toy, NULL);
    RigRequest *request;

    rig_start(rig);
    toy_round_trip(rig, 0, 10);
    rig_stop(rig);
    g_assert_cmpstr(toy_events(toy), ==, "connect start 0 stopped 0");
    request = toy_add_quietly(rig, 0);
    rig_kick(rig, 0, true);
    toy_idle(toy);
    g_assert_cmpstr(toy_events(toy), ==, "");
    g_assert_false(request->used);

    /* Set up again and kicked, it is taken. */
    rig_setup_queue(rig, 0);
    rig_kick(rig, 0, true);
    rig_wait(request);
    rig_request_free(request);
    rig_free(rig);
    toy_free(toy);
}

static void test_a_stopped_ring_stays_enabled(void)
{
    Toy *toy = toy_new(NULL);
    Rig *rig = toy_rig(toy, NULL);
    RigRequest *request;

    rig_start(rig);
    rig_stop(rig);
    rig_setup_queue(rig, 0);
    request = toy_submit(rig, 0);
    rig_kick(rig, 0, true);
    rig_wait(request);
    toy_check(request);
    rig_free(rig);
    toy_free(toy);
}

static void test_enable_is_tracked_while_stopped(void)
{
    Toy *toy = toy_new(NULL);
    Rig *rig = toy_rig(toy, NULL);
    RigRequest *request;

    rig_enable_queue(rig, 0, true);
    rig_enable_queue(rig, 0, false);
    rig_setup_queue(rig, 0);
    request = toy_add_quietly(rig, 0);
    rig_kick(rig, 0, true);
    toy_idle(toy);
    g_assert_false(request->used);
    rig_enable_queue(rig, 0, true);
    rig_wait(request);
    rig_request_free(request);
    rig_free(rig);
    toy_free(toy);
}

static void test_kick_before_enable(void)
{
    Toy *toy = toy_new(NULL);
    Rig *rig = toy_rig(toy, NULL);
    RigRequest *request;

    rig_setup_queue(rig, 0);
    request = toy_add_quietly(rig, 0);
    rig_kick(rig, 0, true);
    toy_idle(toy);
    g_assert_cmpstr(toy_events(toy), ==, "connect start 0");
    g_assert_false(request->used);

    /* No second kick is needed. */
    rig_enable_queue(rig, 0, true);
    rig_wait(request);
    rig_request_free(request);
    rig_free(rig);
    toy_free(toy);
}

/* A driver that adds one more each time the device has taken the last. */
typedef struct Quick {
    Rig *rig;
    RigRequest *requests[40];
    unsigned num;
} Quick;

static void add_one_more(void *opaque)
{
    Quick *quick = opaque;

    if (quick->num < G_N_ELEMENTS(quick->requests)) {
        quick->requests[quick->num++] = toy_add_quietly(quick->rig, 0);
    }
}

/* Until then the driver was told not to kick. */
static void test_ring_is_looked_at_until_it_is_empty(void)
{
    Quick quick = {0};
    const ToyConfig config = {.emptied = add_one_more, .opaque = &quick};
    Toy *toy = toy_new(&config);

    quick.rig = toy_rig(toy, NULL);
    rig_setup_queue(quick.rig, 0);
    rig_enable_queue(quick.rig, 0, true);
    add_one_more(&quick);
    rig_kick(quick.rig, 0, true);
    for (unsigned i = 0; i < G_N_ELEMENTS(quick.requests); i++) {
        g_assert_cmpuint(quick.num, >, i);
        rig_wait(quick.requests[i]);
        toy_check(quick.requests[i]);
    }
    g_assert_cmpuint(toy_served(toy), ==, G_N_ELEMENTS(quick.requests));
    rig_free(quick.rig);
    toy_free(toy);
}

/* ---- enabled and disabled ---- */

static void test_disabled_ring_waits(void)
{
    Toy *toy = toy_new(NULL);
    Rig *rig = toy_rig(toy, NULL);
    RigRequest *request;

    rig_start(rig);
    toy_round_trip(rig, 0, 10);
    rig_enable_queue(rig, 0, false);
    request = toy_add_quietly(rig, 0);
    rig_kick(rig, 0, true);
    toy_idle(toy);
    g_assert_false(request->used);
    rig_enable_queue(rig, 0, true);
    g_assert_cmpuint(rig_wait(request), ==, 16);
    rig_request_free(request);
    rig_free(rig);
    toy_free(toy);
}

/* A device that must not let a disabled ring fill up processes it without
 * side effects. */
static void test_disabled_ring_is_drained_without_effect(void)
{
    const ToyConfig config = {.drops_when_disabled = true};
    Toy *toy = toy_new(&config);
    Rig *rig = toy_rig(toy, NULL);
    RigRequest *request;

    rig_setup_queue(rig, 0);
    request = toy_add_quietly(rig, 0);
    rig_kick(rig, 0, true);
    g_assert_cmpuint(rig_wait(request), ==, 0);
    g_assert_cmpuint(toy_served(toy), ==, 0);
    rig_request_free(request);
    rig_enable_queue(rig, 0, true);
    toy_round_trip(rig, 0, 10);
    rig_free(rig);
    toy_free(toy);
}

static void test_set_features_without_bit_30_enables(void)
{
    const RigConfig config = {.without_protocol_features = true};
    Toy *toy = toy_new(NULL);
    Rig *rig = toy_rig(toy, &config);
    RigRequest *request;

    rig_setup_queue(rig, 0);
    request = toy_add_quietly(rig, 0);
    rig_kick(rig, 0, true);
    g_assert_cmpuint(rig_wait(request), ==, 16);
    rig_request_free(request);
    rig_free(rig);
    toy_free(toy);
}

static void test_set_features_with_bit_30_does_not(void)
{
    Toy *toy = toy_new(NULL);
    Rig *rig = toy_rig(toy, NULL);
    RigRequest *request;

    rig_setup_queue(rig, 0);
    request = toy_add_quietly(rig, 0);
    rig_kick(rig, 0, true);
    g_assert_cmpint(rig_call_u64(rig, VHOST_USER_SET_FEATURES,
                                 rig_features(rig) |
                                     RIG_BIT(VHOST_USER_F_PROTOCOL_FEATURES)),
                    ==, 0);
    toy_idle(toy);
    g_assert_false(request->used);
    rig_enable_queue(rig, 0, true);
    rig_wait(request);
    rig_request_free(request);
    rig_free(rig);
    toy_free(toy);
}

static void test_reset_owner_disables(void)
{
    const VhuMessage reset_owner = {.request = VHOST_USER_RESET_OWNER};
    Toy *toy = toy_new(NULL);
    Rig *rig = toy_rig(toy, NULL);
    RigRequest *request;

    rig_start(rig);
    g_assert_cmpint(rig_call(rig, &reset_owner, NULL), ==, 0);
    request = toy_add_quietly(rig, 0);
    rig_kick(rig, 0, true);
    toy_idle(toy);
    g_assert_false(request->used);
    rig_enable_queue(rig, 0, true);
    rig_wait(request);
    rig_request_free(request);
    rig_free(rig);
    toy_free(toy);
}

#define TEST(name, fn) g_test_add_func("/backend/rings/" name, fn)

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    TEST("a-kick-starts-a-ring", test_a_kick_starts_a_ring);
    TEST("a-stopped-ring-is-left-alone", test_a_stopped_ring_is_left_alone);
    TEST("a-stopped-ring-stays-enabled", test_a_stopped_ring_stays_enabled);
    TEST("enable-is-tracked-while-stopped",
         test_enable_is_tracked_while_stopped);
    TEST("kick-before-enable", test_kick_before_enable);
    TEST("is-looked-at-until-it-is-empty",
         test_ring_is_looked_at_until_it_is_empty);
    TEST("disabled-ring-waits", test_disabled_ring_waits);
    TEST("disabled-ring-is-drained-without-effect",
         test_disabled_ring_is_drained_without_effect);
    TEST("set-features-without-bit-30-enables",
         test_set_features_without_bit_30_enables);
    TEST("set-features-with-bit-30-does-not",
         test_set_features_with_bit_30_does_not);
    TEST("reset-owner-disables", test_reset_owner_disables);
    return g_test_run();
}
