/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Owns the one race that notifications hang on: one side shows something and
 * then looks whether the other wants to know, while the other says it wants
 * to know and then looks whether something was shown. At least one of them
 * must see the other; without a full fence on both sides neither may.
 */
#include "tests/ring-guest.h"

#include <pthread.h>
#include <sched.h>

#define ROUNDS 30000u
#define SPINS  200u
#define JITTER 5u /* turns of an idle loop */

typedef struct World {
    VhuDriverQueue *queue;
    VhuRing *ring;
    VhuPiece piece;
    bool used; /* race over used buffers, not available ones */
    unsigned turn[2];
    bool told; /* the side that shows would notify */
    bool seen; /* the side that waits looked and saw */
    int lead;  /* how much the side that shows was early, to meet the moment */
    VhuElement *element;
} World;

/* Both threads leave at the same moment. */
static void meet(World *world, unsigned self, unsigned turn)
{
    unsigned spins = 0;

    __atomic_store_n(&world->turn[self], turn, __ATOMIC_SEQ_CST);
    while (__atomic_load_n(&world->turn[!self], __ATOMIC_SEQ_CST) < turn) {
        if (++spins % SPINS == 0) {
            sched_yield();
        }
    }
}

/* Begin a round; self is held back by the lead it has, give or take. */
static void begin(World *world, unsigned self, unsigned round)
{
    int lead = self ? -world->lead : world->lead;
    volatile int delay = lead + (int)(round % JITTER);

    meet(world, self, 2 * round - 1);
    while (delay > 0) {
        delay--;
    }
}

static void add(World *world)
{
    VhuDriverBuffer buffer = {.out = &world->piece, .num_out = 1};

    g_assert_cmpint(vhu_driver_add(world->queue, &buffer), ==, 0);
}

static void *show(void *opaque)
{
    World *world = opaque;

    for (unsigned round = 1; round <= ROUNDS; round++) {
        begin(world, 0, round);
        if (world->used) {
            vhu_ring_push(world->ring, world->element, 0);
            world->told = vhu_ring_flush(world->ring);
        } else {
            add(world);
            world->told = vhu_driver_should_kick(world->queue);
        }
        meet(world, 0, 2 * round);
    }
    return NULL;
}

/* Whatever the race left, bring the ring back to empty. */
static void settle(World *world)
{
    VhuDriverUsed used;

    if (!world->used) {
        g_assert_cmpint(vhu_ring_pop(world->ring, &world->element, NULL), ==,
                        1);
        vhu_ring_push(world->ring, world->element, 0);
        vhu_ring_flush(world->ring);
    }
    g_assert_cmpint(vhu_driver_get(world->queue, &used, NULL), ==, 1);
}

static void wait_side(World *world)
{
    unsigned missed = 0;
    unsigned both = 0;

    for (unsigned round = 1; round <= ROUNDS; round++) {
        if (world->used) {
            add(world);
            g_assert_cmpint(vhu_ring_pop(world->ring, &world->element, NULL),
                            ==, 1);
            vhu_driver_set_notify(world->queue, false);
        } else {
            vhu_ring_set_notify(world->ring, false);
        }
        begin(world, 1, round);
        if (world->used) {
            world->seen = vhu_driver_set_notify(world->queue, true);
        } else {
            world->seen = vhu_ring_set_notify(world->ring, true);
        }
        meet(world, 1, 2 * round);
        missed += !world->told && !world->seen;
        both += world->told && world->seen;
        world->lead += world->seen - world->told;
        settle(world);
    }
    g_test_message("%u of %u saw each other", both, ROUNDS);
    g_assert_cmpuint(missed, ==, 0);
}

static void test_fence(gconstpointer data)
{
    unsigned what = GPOINTER_TO_UINT(data);
    uint64_t features = guest_features(what & 7);
    World world = {.used = what & 8};
    VhuDriverConfig config = {
        .size = 4,
        .features = features,
        .addr = GUEST_BASE,
    };
    VhuRingConfig ring = {
        .size = config.size,
        .features = features,
        .base = guest_first_base(features),
    };
    RingGuest *guest;
    pthread_t thread;

    config.bytes = vhu_driver_bytes(&config);
    guest = guest_new(config.bytes, 64);
    world.piece.addr = GUEST_BASE + guest_data_at(config.bytes);
    world.piece.bytes = 8;
    config.local = guest->local;
    world.queue = vhu_driver_new(&config, NULL);
    world.ring = guest_ring_new(guest, world.queue, ring);
    g_assert_cmpint(pthread_create(&thread, NULL, show, &world), ==, 0);
    wait_side(&world);
    g_assert_cmpint(pthread_join(thread, NULL), ==, 0);
    vhu_ring_free(world.ring);
    vhu_driver_free(world.queue);
    guest_free(guest);
}

int main(int argc, char **argv)
{
    /* PACKED, EVENT_IDX as of guest_features; 8: used buffers. */
    static const unsigned cases[] = {0, 1, 4, 5, 8, 9, 12, 13};

    g_test_init(&argc, &argv, NULL);
    for (unsigned i = 0; i < G_N_ELEMENTS(cases); i++) {
        g_autofree char *name =
            guest_features_name(guest_features(cases[i] & 7));
        g_autofree char *path = g_strdup_printf(
            "/ring/fence/%s/%s", cases[i] & 8 ? "used" : "available", name);

        g_test_add_data_func(path, GUINT_TO_POINTER(cases[i]), test_fence);
    }
    return g_test_run();
}
