/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Owns the randomised runs of the driver's side of a ring against the
 * device's, judged by ring-model.c.
 *
 * `--seed=S`, as GTest prints it, repeats a run.
 */
#include "tests/ring-model.h"

#include <inttypes.h>

#define NUM_OPS 6000u

typedef void (*Prepare)(Model *model);

/* Returns how far the used position came. */
static uint64_t run(uint64_t features, uint32_t size, uint32_t num_ops,
                    Prepare prepare)
{
    uint32_t seed = (uint32_t)g_test_rand_int();
    Model *model = model_new(features, size, seed);
    uint64_t used;

    g_test_message("size %u, seed %u", size, seed);
    if (prepare) {
        prepare(model);
    }
    for (uint32_t i = 0; i < num_ops; i++) {
        if (i % (4 * size + 500) == 0) {
            model->add_bias = 1 + (unsigned)g_rand_int_range(model->rand, 0, 7);
        }
        model_op(model);
    }
    /* Everything comes back in the end. */
    while (model->idle.length < size) {
        model_pop(model);
        model_push(model);
        model_flush(model);
        model_get(model);
    }
    g_assert_cmpuint(model->got, ==, model->added);
    used = model->used;
    model_free(model);
    return used;
}

static void test_random(gconstpointer data)
{
    static const uint32_t split_sizes[] = {1, 2, 4, 16, 64, 256};
    static const uint32_t packed_sizes[] = {1, 2, 3, 7, 16, 100, 255};
    uint64_t features = guest_features(GPOINTER_TO_UINT(data));
    g_autofree char *name = guest_features_name(features);
    bool packed = features & BIT(VIRTIO_F_RING_PACKED);
    const uint32_t *sizes = packed ? packed_sizes : split_sizes;
    unsigned num =
        packed ? G_N_ELEMENTS(packed_sizes) : G_N_ELEMENTS(split_sizes);
    unsigned rounds = g_test_slow() ? 200 : 1;
    uint64_t used = 0;

    for (unsigned i = 0; i < rounds * num; i++) {
        used += run(features, sizes[i % num], NUM_OPS, NULL);
    }
    g_test_message("result: ring-model %s operations: %u, used: %" PRIu64, name,
                   rounds * num * NUM_OPS, used);
}

static void test_notify_on_empty(void)
{
    run(guest_features(0) | BIT(VIRTIO_F_NOTIFY_ON_EMPTY), 16, NUM_OPS, NULL);
    run(guest_features(4) | BIT(VIRTIO_F_NOTIFY_ON_EMPTY), 16, NUM_OPS, NULL);
}

/* One buffer after the other, until the index is about to wrap. */
static void near_the_wrap(Model *model)
{
    while (model->used < 65500) {
        model_add(model);
        model_pop(model);
        model_push(model);
        model_flush(model);
        model_get(model);
    }
}

static void test_index_wraps(gconstpointer data)
{
    uint64_t features = guest_features(GPOINTER_TO_UINT(data));

    g_assert_cmpuint(run(features, 4, NUM_OPS, near_the_wrap), >, 65536);
    g_assert_cmpuint(run(features, 64, NUM_OPS, near_the_wrap), >, 65536);
}

/* Every descriptor is out: indices differ by as much as they can. */
static void filled(Model *model)
{
    while (model->free_descs >= MODEL_MAX_PIECES && model->idle.length > 0) {
        model_add(model);
    }
    while (model->available.length > 0) {
        model_pop(model);
    }
    while (model->num_popped > model->size / 4) {
        model_push(model);
    }
    model_flush(model);
}

static void test_largest(gconstpointer data)
{
    uint64_t features = guest_features(GPOINTER_TO_UINT(data));

    g_assert_cmpuint(run(features, 32768, 200000, filled), >, 32768);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    for (unsigned i = 0; i < 16; i++) {
        g_autofree char *name = guest_features_name(guest_features(i));
        g_autofree char *path = g_strdup_printf("/ring/model/%s", name);

        g_test_add_data_func(path, GUINT_TO_POINTER(i), test_random);
    }
    g_test_add_func("/ring/model/notify-on-empty", test_notify_on_empty);
    g_test_add_data_func("/ring/model/index-wraps", GUINT_TO_POINTER(0),
                         test_index_wraps);
    g_test_add_data_func("/ring/model/index-wraps+event-idx",
                         GUINT_TO_POINTER(4), test_index_wraps);
    g_test_add_data_func("/ring/model/split-of-32768", GUINT_TO_POINTER(6),
                         test_largest);
    g_test_add_data_func("/ring/model/packed-of-32768", GUINT_TO_POINTER(7),
                         test_largest);
    return g_test_run();
}
