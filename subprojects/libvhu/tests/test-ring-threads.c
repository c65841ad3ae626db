/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Owns the race between driver and device, each on a thread that sleeps until
 * it is notified: a notification that is due and not sent ends in a timeout,
 * a buffer seen before its bytes in a wrong byte.
 */
#include "tests/ring-guest.h"

#include <poll.h>
#include <pthread.h>
#include <sys/eventfd.h>
#include <unistd.h>

#define NUM_BUFFERS 40000u
#define IN_FLIGHT   24u
#define DEADLINE_MS 20000

typedef struct World {
    uint64_t features;
    uint32_t size;
    RingGuest *guest;
    VhuDriverQueue *queue;
    VhuRing *ring;
    uint64_t data_at;
    int kick;
    int call;
    unsigned kicks; /* sent */
    unsigned calls;
} World;

/* Sleep until notified. */
static void wait_for(int fd)
{
    struct pollfd poll_fd = {.fd = fd, .events = POLLIN};
    uint64_t count;

    g_assert_cmpint(poll(&poll_fd, 1, DEADLINE_MS), ==, 1);
    g_assert_cmpint(read(fd, &count, sizeof(count)), ==, sizeof(count));
}

static void notify(int fd, unsigned *count)
{
    uint64_t one = 1;

    g_assert_cmpint(write(fd, &one, sizeof(one)), ==, sizeof(one));
    ++*count;
}

/* The device: give back each buffer's number, plus one. */
static void *device(void *opaque)
{
    World *world = opaque;
    unsigned done = 0;
    VhuElement *element;
    uint32_t number;
    bool more;

    while (done < NUM_BUFFERS) {
        vhu_ring_set_notify(world->ring, false);
        while (vhu_ring_pop(world->ring, &element, NULL) == 1) {
            g_assert_cmpuint(vhu_element_read(element, 0, &number, 4), ==, 4);
            g_assert_cmpuint(number, ==, done);
            number++;
            g_assert_cmpuint(vhu_element_write(element, 0, &number, 4), ==, 4);
            vhu_ring_push(world->ring, element, 4);
            done++;
            if (done % 3 == 0 && vhu_ring_flush(world->ring)) {
                notify(world->call, &world->calls);
            }
        }
        if (vhu_ring_flush(world->ring)) {
            notify(world->call, &world->calls);
        }
        more = vhu_ring_set_notify(world->ring, true);
        if (!more && done < NUM_BUFFERS) {
            wait_for(world->kick);
        }
    }
    return NULL;
}

static void add(World *world, uint32_t number)
{
    uint64_t at = world->data_at + 8 * (number % IN_FLIGHT);
    uint32_t *data = (uint32_t *)(void *)(world->guest->local + at);
    VhuPiece out = {GUEST_BASE + at, 4};
    VhuPiece in = {GUEST_BASE + at + 4, 4};
    VhuDriverBuffer buffer = {
        .out = &out,
        .num_out = 1,
        .in = &in,
        .num_in = 1,
        .cookie = data,
    };

    data[0] = number;
    data[1] = 0;
    g_assert_cmpint(vhu_driver_add(world->queue, &buffer), ==, 0);
}

static void kick(World *world)
{
    if (vhu_driver_should_kick(world->queue)) {
        notify(world->kick, &world->kicks);
    }
}

/* The driver: keep some in flight; buffers come back in order. */
static void drive(World *world)
{
    unsigned added = 0;
    unsigned got = 0;
    VhuDriverUsed used;
    VhuError err = {0};
    uint32_t *data;
    int ret;

    while (got < NUM_BUFFERS) {
        while (added < NUM_BUFFERS && added - got < IN_FLIGHT) {
            add(world, added++);
            if (added % 2 == 0) {
                kick(world);
            }
        }
        kick(world);
        vhu_driver_set_notify(world->queue, false);
        while ((ret = vhu_driver_get(world->queue, &used, &err)) == 1) {
            data = used.cookie;
            g_assert_cmpuint(used.written, ==, 4);
            g_assert_cmpuint(data[0], ==, got);
            g_assert_cmpuint(data[1], ==, got + 1);
            got++;
        }
        g_assert_cmpstr(err.text, ==, "");
        g_assert_cmpint(ret, ==, 0);
        if (!vhu_driver_set_notify(world->queue, true) &&
            (added == NUM_BUFFERS || added - got == IN_FLIGHT) &&
            got < NUM_BUFFERS) {
            wait_for(world->call);
        }
    }
}

static void test_race(gconstpointer data)
{
    uint64_t features = guest_features(GPOINTER_TO_UINT(data));
    World world = {.features = features};
    VhuDriverConfig config = {
        .size = features & BIT(VIRTIO_F_RING_PACKED) ? 50 : 64,
        .features = features,
        .addr = GUEST_BASE,
        .indirect_from = 2,
        .indirect_max = 2,
    };
    VhuRingConfig ring = {
        .size = config.size,
        .features = features,
        .base = guest_first_base(features),
    };
    pthread_t thread;

    config.bytes = vhu_driver_bytes(&config);
    world.guest = guest_new(config.bytes, 8 * IN_FLIGHT);
    world.data_at = guest_data_at(config.bytes);
    config.local = world.guest->local;
    world.queue = vhu_driver_new(&config, NULL);
    world.ring = guest_ring_new(world.guest, world.queue, ring);
    world.kick = eventfd(0, EFD_CLOEXEC);
    world.call = eventfd(0, EFD_CLOEXEC);
    g_assert_cmpint(pthread_create(&thread, NULL, device, &world), ==, 0);
    drive(&world);
    g_assert_cmpint(pthread_join(thread, NULL), ==, 0);
    g_test_message("%u buffers, %u kicks, %u calls", NUM_BUFFERS, world.kicks,
                   world.calls);
    vhu_ring_free(world.ring);
    vhu_driver_free(world.queue);
    guest_free(world.guest);
    close(world.kick);
    close(world.call);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    for (unsigned i = 0; i < 16; i++) {
        g_autofree char *name = guest_features_name(guest_features(i));
        g_autofree char *path = g_strdup_printf("/ring/race/%s", name);

        g_test_add_data_func(path, GUINT_TO_POINTER(i), test_race);
    }
    return g_test_run();
}
