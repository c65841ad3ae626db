/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Owns the proof that a back end may be killed anywhere: while it works on a
 * ring with an inflight region, what shared memory holds after every single
 * store is kept, which is what a SIGKILL there would leave behind. Each copy is
 * recovered, and the buffers popped from it must be those the driver still has
 * out, each once, in its order. The recovery itself is killed everywhere, too.
 */
#include "tests/ring-guest.h"
#include "tests/store-trace.h"
#include "tests/tiny-driver.h"

#include <string.h>

#define LEVELS      2u
#define MEMORY_SIZE 8192u /* ring and region */
#define MAX_STORES  2048u
#define DEEPER      5u /* one kill in so many is recovered under fire */

/* One scenario; guests[i] is what level i works on, the last what is checked.
 */
typedef struct World {
    uint64_t features;
    uint32_t size;
    RingGuest *guests[LEVELS + 1];
    StoreTrace traces[LEVELS];
    uint64_t region_at;
    uint64_t state_bytes; /* of ring and region, from the beginning */
    TinyDriver driver;
    uint32_t base;   /* as the front end gave it at first */
    unsigned points; /* kill points checked */
} World;

static VhuRing *open_ring(const World *world, const RingGuest *guest)
{
    const TinyDriver *driver = &world->driver;
    VhuRingConfig config = {
        .size = world->size,
        .features = world->features,
        .base = world->base,
        .inflight_size = (uint16_t)world->size,
    };
    uint8_t *state = guest_device_ptr(guest, GUEST_BASE, MEMORY_SIZE);
    VhuError err = {0};
    VhuRing *ring;

    config.desc = state;
    config.driver = state + driver->driver_at;
    config.device = state + driver->device_at;
    config.inflight = state + world->region_at;
    ring = vhu_ring_new(&config, &err);
    g_assert_cmpstr(err.text, ==, "");
    g_assert_nonnull(ring);
    vhu_ring_set_memory(ring, guest->memory, NULL);
    return ring;
}

/* ---- What is left behind ---- */

/* Pop everything: it must be what the driver has out, in order. */
static unsigned pop_all(VhuRing *ring, VhuElement **elements,
                        const TinyDriver *driver)
{
    VhuError err = {0};
    unsigned num = 0;
    unsigned buffer;
    int ret;

    while ((ret = vhu_ring_pop(ring, &elements[num], &err)) > 0) {
        g_assert_cmpuint(num, <, driver->num_out);
        buffer = tiny_buffer(driver, elements[num]->id);
        g_assert_cmpuint(buffer, ==, driver->order[num]);
        g_assert_cmpuint(elements[num]->num_out, ==, 1);
        g_assert_cmpuint(elements[num]->num_in, ==,
                         driver->num_descs[buffer] - 1);
        num++;
    }
    g_assert_cmpstr(err.text, ==, "");
    g_assert_cmpint(ret, ==, 0);
    g_assert_cmpuint(num, ==, driver->num_out);
    return num;
}

/* Recover a copy and see that all that is out comes back, once.
 * @busy: the driver goes on before the recovery. */
static void check_recovery(const World *world, bool busy, GRand *rand)
{
    RingGuest *guest = world->guests[LEVELS];
    TinyDriver driver = world->driver;
    VhuElement *elements[TINY_MAX_BUFFERS + 1];
    VhuRing *ring;
    unsigned num;
    unsigned pick;

    tiny_reap(&driver, guest->local);
    for (unsigned i = 0; busy && i < TINY_MAX_BUFFERS; i++) {
        tiny_add(&driver, guest->local, i,
                 (unsigned)g_rand_int_range(rand, 1, 4));
    }
    ring = open_ring(world, guest);
    num = pop_all(ring, elements, &driver);
    while (num > 0) {
        pick = (unsigned)g_rand_int_range(rand, 0, (int)num);
        vhu_ring_push(ring, elements[pick], 0);
        elements[pick] = elements[--num];
        if (g_rand_boolean(rand)) {
            vhu_ring_flush(ring);
            tiny_reap(&driver, guest->local);
        }
    }
    vhu_ring_flush(ring);
    tiny_reap(&driver, guest->local);
    g_assert_cmpuint(driver.num_out, ==, 0);
    g_assert_cmphex(vhu_ring_base(ring), ==, tiny_base(&driver));
    vhu_ring_free(ring);
}

/* ---- The back end that is killed ---- */

/* Pop one, or think better of it. Returns how many were popped. */
static unsigned take_one(VhuRing *ring, VhuElement **element, GRand *rand)
{
    if (vhu_ring_pop(ring, element, NULL) <= 0) {
        return 0;
    }
    if (g_rand_int_range(rand, 0, 4) == 0) {
        vhu_ring_unpop(ring, *element);
        return 0;
    }
    return 1;
}

/* Something to be killed in. */
static void work(const World *world, const RingGuest *guest, unsigned num_ops,
                 GRand *rand)
{
    VhuElement *popped[TINY_MAX_BUFFERS + 1];
    VhuRing *ring = open_ring(world, guest);
    unsigned num = 0;
    unsigned pick;
    int what;

    for (unsigned i = 0; i < num_ops; i++) {
        what = g_rand_int_range(rand, 0, 4);
        if (what < 2) {
            num += take_one(ring, &popped[num], rand);
        } else if (what == 2 && num > 0) {
            pick = (unsigned)g_rand_int_range(rand, 0, (int)num);
            vhu_ring_push(ring, popped[pick], 0);
            memmove(&popped[pick], &popped[pick + 1],
                    (--num - pick) * sizeof(popped[0]));
        } else {
            vhu_ring_flush(ring);
        }
    }
    vhu_ring_free(ring);
}

/* ---- Killing it ---- */

/* Whatever a kill leaves at one of the stores of @num_ops operations. */
static void kill_everywhere(World *world, unsigned level, unsigned num_ops,
                            GRand *rand)
{
    StoreTrace *trace = &world->traces[level];
    RingGuest *checked = world->guests[LEVELS];
    uint8_t *state;

    store_trace_begin(
        trace, guest_device_ptr(world->guests[level], GUEST_BASE, MEMORY_SIZE),
        MEMORY_SIZE);
    work(world, world->guests[level], num_ops, rand);
    store_trace_end(trace);
    for (unsigned i = 0; i < trace->num; i++) {
        state = trace->copies + i * world->state_bytes;
        for (unsigned busy = 0; busy < 2; busy++) {
            memcpy(checked->local, state, world->state_bytes);
            check_recovery(world, busy, rand);
        }
        world->points++;
        if (level + 1 < LEVELS && i % DEEPER == 0) {
            memcpy(world->guests[level + 1]->local, state, world->state_bytes);
            kill_everywhere(world, level + 1, 4, rand);
        }
    }
}

/* ---- Scenarios ---- */

static void world_init(World *world, uint64_t features, uint32_t size)
{
    bool packed = features & BIT(VIRTIO_F_RING_PACKED);
    TinyDriver *driver = &world->driver;
    uint64_t desc;
    uint64_t avail;
    uint64_t used;

    vhu_ring_bytes(features, size, &desc, &avail, &used);
    *world = (World){.features = features, .size = size};
    *driver = (TinyDriver){
        .packed = packed,
        .in_order = features & BIT(VIRTIO_F_IN_ORDER),
        .size = size,
        .data = GUEST_BASE + MEMORY_SIZE,
        .driver_at = desc,
        .device_at = (desc + avail + 3) / 4 * 4,
    };
    world->region_at = (driver->device_at + used + 63) / 64 * 64;
    world->state_bytes =
        world->region_at + vhu_inflight_queue_bytes(packed, (uint16_t)size);
    g_assert_cmpuint(world->state_bytes, <=, MEMORY_SIZE);
    for (unsigned i = 0; i <= LEVELS; i++) {
        world->guests[i] = guest_new(MEMORY_SIZE, 64 * TINY_MAX_BUFFERS);
    }
    for (unsigned i = 0; i < LEVELS; i++) {
        store_trace_init(&world->traces[i], world->state_bytes, MAX_STORES);
    }
}

static void world_clear(World *world)
{
    for (unsigned i = 0; i <= LEVELS; i++) {
        guest_free(world->guests[i]);
    }
    for (unsigned i = 0; i < LEVELS; i++) {
        store_trace_clear(&world->traces[i]);
    }
}

/* Some buffers are in flight already, some are available. */
static void world_begin(World *world, uint16_t at, GRand *rand)
{
    uint8_t *memory = world->guests[0]->local;
    unsigned rounds = (unsigned)g_rand_int_range(rand, 0, 3);

    memset(memory, 0, world->state_bytes);
    tiny_init(&world->driver, memory, at);
    world->base = tiny_base(&world->driver);
    for (unsigned round = 0; round <= rounds; round++) {
        for (unsigned i = 0; i < TINY_MAX_BUFFERS; i++) {
            if (g_rand_boolean(rand)) {
                tiny_add(&world->driver, memory, i,
                         (unsigned)g_rand_int_range(rand, 1, 4));
            }
        }
        if (round < rounds) {
            work(world, world->guests[0], 30, rand);
            tiny_reap(&world->driver, memory);
        }
    }
}

static const struct {
    const char *name;
    unsigned combination; /* as of guest_features */
    uint32_t size;
    uint16_t at[3]; /* positions to begin at */
} scenarios[] = {
    {"split", 0, 64, {0, 65530, 60}},
    {"split+in-order", 8, 64, {0, 65530, 60}},
    {"packed", 1, 11, {0x8000, 9, 0x8000 | 7}},
    {"packed+in-order", 9, 13, {0x8000, 9, 0x8000 | 7}},
    /* One buffer can take the whole ring: positions do not change. */
    {"packed-of-three", 1, 3, {0x8000, 1, 0x8000 | 2}},
};

static void test_kill(gconstpointer data)
{
    unsigned i = GPOINTER_TO_UINT(data);
    GRand *rand = g_rand_new_with_seed((uint32_t)g_test_rand_int());
    unsigned rounds = g_test_slow() ? 500 : 12;
    World world;

    if (!store_trace_works()) {
        g_test_skip("single stores cannot be traced here");
        g_rand_free(rand);
        return;
    }
    world_init(&world, guest_features(scenarios[i].combination),
               scenarios[i].size);
    for (unsigned round = 0; round < rounds; round++) {
        for (unsigned j = 0; j < G_N_ELEMENTS(scenarios[i].at); j++) {
            world_begin(&world, scenarios[i].at[j], rand);
            kill_everywhere(&world, 0, 40, rand);
        }
    }
    g_test_message("result: ring-kill %s points: %u", scenarios[i].name,
                   world.points);
    g_assert_cmpuint(world.points, >, 1000);
    world_clear(&world);
    g_rand_free(rand);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    for (unsigned i = 0; i < G_N_ELEMENTS(scenarios); i++) {
        g_autofree char *path =
            g_strdup_printf("/ring/kill/%s", scenarios[i].name);

        g_test_add_data_func(path, GUINT_TO_POINTER(i), test_kill);
    }
    return g_test_run();
}
