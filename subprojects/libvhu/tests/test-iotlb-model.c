/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Owns the tests of vhu/iotlb that make many changes: against a model with
 * one slot per byte of a small address space, and between threads.
 */
#include "tests/iotlb-world.h"

#include <errno.h>

#define MODEL_BYTES 512u

typedef struct Model {
    bool known[MODEL_BYTES];
    uint8_t perm[MODEL_BYTES];
    uint64_t user[MODEL_BYTES];
} Model;

static void model_change(Model *model, const VhuIotlbMsg *msg)
{
    uint64_t i;

    for (i = 0; i < msg->size; i++) {
        model->known[msg->iova + i] = msg->type == VHOST_IOTLB_UPDATE;
        model->perm[msg->iova + i] = msg->perm;
        model->user[msg->iova + i] = msg->user_addr + i;
    }
}

static int model_translate(const Model *model, const VhuRange *range,
                           uint64_t *where)
{
    uint64_t i;

    for (i = 0; i < range->size; i++) {
        *where = range->addr + i;
        if (!model->known[*where]) {
            return -EAGAIN;
        }
        if ((model->perm[*where] & range->perm) != range->perm) {
            return -EFAULT;
        }
    }
    return 0;
}

static void model_compare(const Model *model, const VhuTranslator *world,
                          const VhuRange *range)
{
    struct iovec iov[MODEL_BYTES];
    VhuIotlbMiss miss;
    uint64_t where = 0;
    uint64_t done = 0;
    int expected = model_translate(model, range, &where);
    int ret = vhu_translate(world, range, iov, MODEL_BYTES, &miss);
    size_t byte;
    int i;

    if (expected < 0) {
        g_assert_cmpint(ret, ==, expected);
        g_assert_cmphex(miss.iova, ==, where);
        g_assert_cmpuint(miss.perm, ==, range->perm);
        return;
    }
    for (i = 0; i < ret; i++) {
        for (byte = 0; byte < iov[i].iov_len; byte++) {
            where = model->user[range->addr + done++];
            g_assert_true((uint8_t *)iov[i].iov_base + byte ==
                          vhu_memory_user_ptr(world->memory, where, 1));
        }
    }
    g_assert_cmpuint(done, ==, range->size);
}

static void test_random_changes_agree_with_a_model(void)
{
    static Model model;
    VhuTranslator world = world_new();
    unsigned round;

    for (round = 0; round < 20000; round++) {
        uint64_t at = (uint64_t)g_test_rand_int_range(0, MODEL_BYTES);
        VhuIotlbMsg msg = {
            .iova = at,
            .size = (uint64_t)g_test_rand_int_range(
                1, (int)MIN(64, MODEL_BYTES - at) + 1),
            .user_addr = USER + (uint64_t)g_test_rand_int_range(
                                    0, 8 * PAGE - MODEL_BYTES),
            .perm = (uint8_t)g_test_rand_int_range(0, 4),
            .type = g_test_rand_int_range(0, 3) ? VHOST_IOTLB_UPDATE
                                                : VHOST_IOTLB_INVALIDATE,
        };
        VhuRange range = {
            .perm = (uint8_t)g_test_rand_int_range(1, 4),
        };

        g_assert_cmpint(vhu_iotlb_apply(world.iotlb, &msg, world.memory, NULL),
                        ==, 0);
        model_change(&model, &msg);
        range.addr = (uint64_t)g_test_rand_int_range(0, MODEL_BYTES);
        range.size = (uint64_t)g_test_rand_int_range(
            1, (int)(MODEL_BYTES - range.addr) + 1);
        model_compare(&model, &world, &range);
        range.size = 1;
        model_compare(&model, &world, &range);
    }
    world_free(&world);
}

/* ---- Threads ---- */

typedef struct Reader {
    VhuTranslator *world;
    uint8_t *low;  /* what page 0 may be */
    uint8_t *high; /* or this */
    gint stop;
    gint seen; /* translations made */
} Reader;

static gpointer reader_run(gpointer opaque)
{
    Reader *reader = opaque;
    VhuRange range = {.addr = 16, .size = 1, .perm = VHOST_ACCESS_RO};
    VhuIotlbMiss miss;
    struct iovec iov;
    uint8_t *ptr;

    while (!g_atomic_int_get(&reader->stop)) {
        g_assert_cmpint(vhu_translate(reader->world, &range, &iov, 1, &miss),
                        ==, 1);
        ptr = iov.iov_base;
        g_assert_true(ptr == reader->low || ptr == reader->high);
        g_atomic_int_inc(&reader->seen);
    }
    return NULL;
}

static void test_translations_see_one_update_or_the_other(void)
{
    VhuTranslator world = world_new();
    Reader reader = {.world = &world};
    GThread *thread;
    unsigned i;

    reader.low = vhu_memory_user_ptr(world.memory, USER + 16, 1);
    reader.high = vhu_memory_user_ptr(world.memory, USER + PAGE + 16, 1);
    update(&world, 0, PAGE, USER, VHOST_ACCESS_RW);
    thread = g_thread_new("reader", reader_run, &reader);
    for (i = 0; i < 20000 || g_atomic_int_get(&reader.seen) < 1000; i++) {
        update(&world, i % 32, PAGE - 32, USER + i % 2 * PAGE + i % 32,
               VHOST_ACCESS_RW);
    }
    g_atomic_int_set(&reader.stop, 1);
    g_thread_join(thread);
    world_free(&world);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/iotlb/random-changes-agree-with-a-model",
                    test_random_changes_agree_with_a_model);
    g_test_add_func("/iotlb/translations-see-one-update-or-the-other",
                    test_translations_see_one_update_or_the_other);
    return g_test_run();
}
