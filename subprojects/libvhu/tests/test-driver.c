/* SPDX-License-Identifier: BSD-3-Clause */
/* Owns the tests of the driver's side of a ring: the bytes it writes, and what
 * it makes of a device's, both by hand. */
#include "tests/raw-ring.h"

#include <errno.h>
#include <string.h>

/* A queue of four: descriptors at 0, then 64 each for the other two parts,
 * then tables of two descriptors. Packed rings have the same places. */
#define DRIVER 0x40u
#define DEVICE 0x80u
#define TABLES 0xc0u

typedef struct World {
    RawRing *raw; /* only for its memory */
    VhuDriverQueue *queue;
} World;

static World world_new(uint64_t features)
{
    World world = {.raw = raw_new(RAW_BASIC, 4, 0)};
    VhuDriverConfig config = {
        .size = 4,
        .features = features,
        .local = world.raw->guest->local,
        .addr = GUEST_BASE,
        .bytes = 0x400,
        .indirect_from = 2,
        .indirect_max = 2,
    };
    VhuGuestAddr addr[3];
    VhuError err = {0};

    world.queue = vhu_driver_new(&config, &err);
    g_assert_cmpstr(err.text, ==, "");
    vhu_driver_addrs(world.queue, &addr[0], &addr[1], &addr[2]);
    g_assert_cmphex(addr[0], ==, GUEST_BASE);
    g_assert_cmphex(addr[1], ==, GUEST_BASE + DRIVER);
    g_assert_cmphex(addr[2], ==, GUEST_BASE + DEVICE);
    return world;
}

static void world_free(World *world)
{
    vhu_driver_free(world->queue);
    raw_free(world->raw);
}

/* One piece read, @num_in of 0x10 bytes each written. */
static int add(World *world, uint32_t num_in, void *cookie)
{
    static const VhuPiece out = {GUEST_BASE + 0x4100, 8};
    static const VhuPiece in[] = {
        {GUEST_BASE + 0x5000, 0x10},
        {GUEST_BASE + 0x5100, 0x10},
        {GUEST_BASE + 0x5200, 0x10},
        {GUEST_BASE + 0x5300, 0x10},
    };

    return vhu_driver_add(world->queue, &(VhuDriverBuffer){
                                            .out = &out,
                                            .num_out = 1,
                                            .in = in,
                                            .num_in = num_in,
                                            .cookie = cookie,
                                        });
}

static void expect_used(World *world, void *cookie, uint32_t written)
{
    VhuDriverUsed used = {0};
    VhuError err = {0};

    g_assert_cmpint(vhu_driver_get(world->queue, &used, &err), ==, 1);
    g_assert_cmpstr(err.text, ==, "");
    g_assert_true(used.cookie == cookie);
    g_assert_cmpuint(used.written, ==, written);
}

static void expect_none(World *world)
{
    VhuDriverUsed used = {0};

    g_assert_cmpint(vhu_driver_get(world->queue, &used, NULL), ==, 0);
}

static void expect_nonsense(World *world, const char *text)
{
    VhuDriverUsed used = {0};
    VhuError err = {0};

    g_assert_cmpint(vhu_driver_get(world->queue, &used, &err), ==, -EPROTO);
    g_assert_cmpstr(err.text, ==, text);
}

/* ---- What it writes ---- */

static void test_split_bytes(void)
{
    World world = world_new(RAW_BASIC);

    g_assert_cmpint(add(&world, 2, "a"), ==, 0);
    raw_expect(world.raw, 0,
               "00 41 00 40 00 00 00 00  08 00 00 00  01 00  01 00"
               "00 50 00 40 00 00 00 00  10 00 00 00  03 00  02 00"
               "00 51 00 40 00 00 00 00  10 00 00 00  02 00  00 00");
    raw_expect(world.raw, DRIVER, "00 00  01 00  00 00");
    g_assert_cmpint(add(&world, 1, "b"), ==, -ENOSPC);
    g_assert_cmpint(add(&world, 0, "b"), ==, 0);
    raw_expect(world.raw, DRIVER, "00 00  02 00  00 00  03 00");
    g_assert_cmpint(add(&world, 4, "c"), ==, -EINVAL);
    g_assert_cmpuint(vhu_driver_in_flight(world.queue), ==, 2);
    world_free(&world);
}

static void test_split_indirect_bytes(void)
{
    World world = world_new(RAW_BASIC | RAW_INDIRECT);

    g_assert_cmpint(add(&world, 1, "a"), ==, 0);
    raw_expect(world.raw, 0,
               "c0 00 00 40 00 00 00 00  20 00 00 00  04 00  00 00");
    raw_expect(world.raw, TABLES,
               "00 41 00 40 00 00 00 00  08 00 00 00  01 00  01 00"
               "00 50 00 40 00 00 00 00  10 00 00 00  02 00  00 00");
    /* Tables are short of room for three. */
    g_assert_cmpint(add(&world, 2, "b"), ==, 0);
    raw_expect(world.raw, 16, "00 41 00 40 00 00 00 00  08 00 00 00  01 00");
    world_free(&world);
}

static void test_packed_bytes(void)
{
    World world = world_new(RAW_PACKED);

    g_assert_cmpint(add(&world, 2, "a"), ==, 0);
    raw_expect(world.raw, 0,
               "00 41 00 40 00 00 00 00  08 00 00 00  00 00  81 00"
               "00 50 00 40 00 00 00 00  10 00 00 00  00 00  83 00"
               "00 51 00 40 00 00 00 00  10 00 00 00  00 00  82 00");
    /* The device used it; the next list is of both laps. */
    raw_put(world.raw, 8, "07 00 00 00  00 00  82 80");
    expect_used(&world, "a", 7);
    g_assert_cmpint(add(&world, 1, "b"), ==, 0);
    raw_expect(world.raw, 48,
               "00 41 00 40 00 00 00 00  08 00 00 00  00 00  81 00");
    raw_expect(world.raw, 0,
               "00 50 00 40 00 00 00 00  10 00 00 00  00 00  02 80");
    g_assert_cmpint(add(&world, 2, "c"), ==, -ENOSPC);
    world_free(&world);
}

static void test_packed_indirect_bytes(void)
{
    World world = world_new(RAW_PACKED | RAW_INDIRECT);

    g_assert_cmpint(add(&world, 1, "a"), ==, 0);
    raw_expect(world.raw, 0,
               "c0 00 00 40 00 00 00 00  20 00 00 00  00 00  84 00");
    raw_expect(world.raw, TABLES,
               "00 41 00 40 00 00 00 00  08 00 00 00  00 00  00 00"
               "00 50 00 40 00 00 00 00  10 00 00 00  00 00  02 00");
    world_free(&world);
}

/* In order, descriptors are taken in ring order, over the end. */
static void test_split_in_order_bytes(void)
{
    World world = world_new(RAW_BASIC | RAW_IN_ORDER);

    g_assert_cmpint(add(&world, 2, "a"), ==, 0);
    raw_put(world.raw, DEVICE, "00 00  01 00  00 00 00 00  00 00 00 00");
    expect_used(&world, "a", 0);
    g_assert_cmpint(add(&world, 1, "b"), ==, 0);
    raw_expect(world.raw, DRIVER, "00 00  02 00  00 00  03 00");
    raw_expect(world.raw, 48 + 12, "01 00  00 00");
    raw_expect(world.raw, 12, "02 00");
    world_free(&world);
}

static void test_split_events(void)
{
    World world = world_new(RAW_BASIC | RAW_EVENT);

    g_assert_false(vhu_driver_set_notify(world.queue, true));
    raw_expect(world.raw, DRIVER + 4 + 8, "00 00");
    g_assert_cmpint(add(&world, 0, "a"), ==, 0);
    g_assert_true(vhu_driver_should_kick(world.queue));
    g_assert_false(vhu_driver_should_kick(world.queue));
    g_assert_cmpint(add(&world, 0, "b"), ==, 0);
    g_assert_false(vhu_driver_should_kick(world.queue));
    /* flags mean nothing; avail_event does. */
    raw_put(world.raw, DEVICE, "01 00  01 00  00 00 00 00  00 00 00 00");
    raw_put(world.raw, DEVICE + 4 + 32, "02 00");
    g_assert_true(vhu_driver_set_notify(world.queue, true));
    expect_used(&world, "a", 0);
    g_assert_false(vhu_driver_set_notify(world.queue, true));
    raw_expect(world.raw, DRIVER, "00 00");
    raw_expect(world.raw, DRIVER + 4 + 8, "01 00");
    g_assert_cmpint(add(&world, 0, "c"), ==, 0);
    g_assert_true(vhu_driver_should_kick(world.queue));
    world_free(&world);
}

static void test_split_flags(void)
{
    World world = world_new(RAW_BASIC);

    vhu_driver_set_notify(world.queue, false);
    raw_expect(world.raw, DRIVER, "01 00");
    vhu_driver_set_notify(world.queue, true);
    raw_expect(world.raw, DRIVER, "00 00");
    g_assert_cmpint(add(&world, 0, "a"), ==, 0);
    raw_put(world.raw, DEVICE, "01 00");
    g_assert_false(vhu_driver_should_kick(world.queue));
    g_assert_cmpint(add(&world, 0, "b"), ==, 0);
    raw_put(world.raw, DEVICE, "00 00");
    g_assert_true(vhu_driver_should_kick(world.queue));
    world_free(&world);
}

static void test_packed_events(void)
{
    World world = world_new(RAW_PACKED | RAW_EVENT);

    g_assert_false(vhu_driver_set_notify(world.queue, true));
    raw_expect(world.raw, DRIVER, "00 80  02 00");
    vhu_driver_set_notify(world.queue, false);
    raw_expect(world.raw, DRIVER + 2, "01 00");
    g_assert_cmpint(add(&world, 0, "a"), ==, 0);
    g_assert_true(vhu_driver_should_kick(world.queue));
    raw_put(world.raw, DEVICE, "00 00  01 00");
    g_assert_cmpint(add(&world, 0, "b"), ==, 0);
    g_assert_false(vhu_driver_should_kick(world.queue));
    raw_put(world.raw, DEVICE, "03 80  02 00");
    g_assert_cmpint(add(&world, 0, "c"), ==, 0);
    g_assert_false(vhu_driver_should_kick(world.queue));
    g_assert_cmpint(add(&world, 0, "d"), ==, 0);
    g_assert_true(vhu_driver_should_kick(world.queue));
    world_free(&world);
}

/* ---- What it reads ---- */

static void test_split_used(void)
{
    World world = world_new(RAW_BASIC);

    g_assert_cmpint(add(&world, 1, "a"), ==, 0);
    g_assert_cmpint(add(&world, 1, "b"), ==, 0);
    expect_none(&world);
    raw_put(world.raw, DEVICE,
            "00 00  02 00  02 00 00 00  10 00 00 00"
            "00 00 00 00  00 00 00 00");
    expect_used(&world, "b", 0x10);
    expect_used(&world, "a", 0);
    expect_none(&world);
    g_assert_cmpuint(vhu_driver_base(world.queue), ==, 2);
    world_free(&world);
}

static const struct {
    const char *name;
    uint64_t features;
    struct {
        uint64_t at;
        const char *hex;
    } put;
    const char *text;
} nonsense[] = {
    {
        .name = "split/index-too-far",
        .put = {DEVICE, "00 00  03 00"},
        .text = "used index is 3 ahead, 2 buffers are in flight",
    },
    {
        .name = "split/head-past-the-ring",
        .put = {DEVICE, "00 00  01 00  04 00 00 00"},
        .text = "used buffer 4 is not in flight",
    },
    {
        .name = "split/not-a-head",
        .put = {DEVICE, "00 00  01 00  01 00 00 00"},
        .text = "used buffer 1 is not in flight",
    },
    {
        .name = "split/too-much-written",
        .put = {DEVICE, "00 00  01 00  00 00 00 00  11 00 00 00"},
        .text = "used buffer 0: 17 bytes written, it has 16",
    },
    {
        .name = "split/out-of-order",
        .features = RAW_IN_ORDER,
        .put = {DEVICE, "00 00  01 00  02 00 00 00"},
        .text = "used buffer 2 is not next in order",
    },
    {
        .name = "packed/id-past-the-ring",
        .features = RAW_PACKED,
        .put = {8, "00 00 00 00  04 00  80 80"},
        .text = "used buffer 4 is not in flight",
    },
    {
        .name = "packed/id-not-in-flight",
        .features = RAW_PACKED,
        .put = {8, "00 00 00 00  02 00  80 80"},
        .text = "used buffer 2 is not in flight",
    },
    {
        .name = "packed/too-much-written",
        .features = RAW_PACKED,
        .put = {8, "11 00 00 00  01 00  82 80"},
        .text = "used buffer 1: 17 bytes written, it has 16",
    },
};

static void test_nonsense(gconstpointer data)
{
    unsigned i = GPOINTER_TO_UINT(data);
    World world = world_new(RAW_BASIC | nonsense[i].features);

    g_assert_cmpint(add(&world, 1, "a"), ==, 0);
    g_assert_cmpint(add(&world, 1, "b"), ==, 0);
    expect_none(&world);
    raw_put(world.raw, nonsense[i].put.at, nonsense[i].put.hex);
    expect_nonsense(&world, nonsense[i].text);
    world_free(&world);
}

/* Without WRITE, the length is no length. */
static void test_packed_nothing_written(void)
{
    World world = world_new(RAW_PACKED);

    g_assert_cmpint(add(&world, 1, "a"), ==, 0);
    raw_put(world.raw, 8, "ff ff 00 00  00 00  80 80");
    expect_used(&world, "a", 0);
    world_free(&world);
}

/* A device may write one entry for several buffers, those before the last
 * being used completely. */
static void test_split_in_order_batch(void)
{
    World world = world_new(RAW_BASIC | RAW_IN_ORDER);

    g_assert_cmpint(add(&world, 1, "a"), ==, 0);
    g_assert_cmpint(add(&world, 0, "b"), ==, 0);
    g_assert_cmpint(add(&world, 0, "c"), ==, 0);
    raw_put(world.raw, DEVICE, "00 00  02 00  02 00 00 00  00 00 00 00");
    expect_used(&world, "a", 0x10);
    expect_used(&world, "b", 0);
    expect_none(&world);
    /* The next entry is where it would be with one for each. */
    raw_put(world.raw, DEVICE, "00 00  03 00");
    raw_put(world.raw, DEVICE + 4 + 2 * 8, "03 00 00 00  00 00 00 00");
    expect_used(&world, "c", 0);
    world_free(&world);
}

static void test_packed_in_order_batch(void)
{
    World world = world_new(RAW_PACKED | RAW_IN_ORDER);

    g_assert_cmpint(add(&world, 1, "a"), ==, 0);
    g_assert_cmpint(add(&world, 0, "b"), ==, 0);
    g_assert_cmpint(add(&world, 0, "c"), ==, 0);
    raw_put(world.raw, 8, "00 00 00 00  01 00  80 80");
    expect_used(&world, "a", 0x10);
    g_assert_true(vhu_driver_set_notify(world.queue, true));
    expect_used(&world, "b", 0);
    expect_none(&world);
    raw_put(world.raw, 48 + 8, "00 00 00 00  02 00  80 80");
    expect_used(&world, "c", 0);
    g_assert_cmphex(vhu_driver_base(world.queue), ==, 0);
    world_free(&world);
}

static void test_config_refused(void)
{
    VhuDriverConfig good = {
        .size = 4,
        .features = RAW_BASIC,
        .local = (uint8_t *)64,
        .addr = GUEST_BASE,
        .bytes = 0x400,
    };
    VhuDriverConfig bad[] = {good, good, good, good, good};

    bad[0].size = 0;
    bad[1].size = 3;
    bad[2].bytes = 0xbf;
    bad[3].local += 32;
    bad[4].addr += 32;
    for (unsigned i = 0; i < G_N_ELEMENTS(bad); i++) {
        VhuError err = {0};

        g_assert_null(vhu_driver_new(&bad[i], &err));
        g_assert_cmpint(err.code, ==, EINVAL);
        g_assert_cmpstr(err.text, !=, "");
    }
    g_assert_cmpuint(vhu_driver_bytes(&good), ==, 0xc0);
    good.features |= RAW_INDIRECT;
    good.indirect_from = 1;
    g_assert_cmpuint(vhu_driver_bytes(&good), ==, 0xc0 + 4 * 128 * 16);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/driver/split/bytes", test_split_bytes);
    g_test_add_func("/driver/split/indirect-bytes", test_split_indirect_bytes);
    g_test_add_func("/driver/split/in-order-bytes", test_split_in_order_bytes);
    g_test_add_func("/driver/split/events", test_split_events);
    g_test_add_func("/driver/split/flags", test_split_flags);
    g_test_add_func("/driver/split/used", test_split_used);
    g_test_add_func("/driver/split/in-order-batch", test_split_in_order_batch);
    g_test_add_func("/driver/packed/bytes", test_packed_bytes);
    g_test_add_func("/driver/packed/indirect-bytes",
                    test_packed_indirect_bytes);
    g_test_add_func("/driver/packed/events", test_packed_events);
    g_test_add_func("/driver/packed/nothing-written",
                    test_packed_nothing_written);
    g_test_add_func("/driver/packed/in-order-batch",
                    test_packed_in_order_batch);
    for (unsigned i = 0; i < G_N_ELEMENTS(nonsense); i++) {
        g_autofree char *path =
            g_strdup_printf("/driver/%s-is-refused", nonsense[i].name);

        g_test_add_data_func(path, GUINT_TO_POINTER(i), test_nonsense);
    }
    g_test_add_func("/driver/config-refused", test_config_refused);
    return g_test_run();
}
