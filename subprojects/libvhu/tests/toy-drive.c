/* SPDX-License-Identifier: BSD-3-Clause */
/* Owns waiting for the toy, and what tests send through its queues. */
#include "tests/toy.h"
#include "vhu/clock.h"

#include <string.h>

#define WAIT_MS    10000
#define ECHO_BYTES 16u
/* With a feature masked a test is to fail, soon. */
#define MASKED_WAIT_MS 1000

#define IDLE_ROUNDS 20

/* ---- waiting ---- */

void toy_until(Toy *toy, RigCondition done, void *opaque)
{
    const bool masked =
        g_getenv("VHU_MASK_FRONTEND") || g_getenv("VHU_MASK_BACKEND");
    const int64_t deadline_ms =
        vhu_now_ms() + (masked ? MASKED_WAIT_MS : WAIT_MS);

    while (!done(opaque)) {
        const int64_t left = deadline_ms - vhu_now_ms();

        if (left <= 0) {
            g_error("the toy waited in vain");
        }
        vhu_loop_dispatch(toy_loop(toy), (int)MIN(left, 10));
    }
}

typedef struct Count {
    Toy *toy;
    unsigned num;
} Count;

static bool has_held(void *opaque)
{
    const Count *count = opaque;

    return toy_held(count->toy) == count->num;
}

void toy_wait_held(Toy *toy, unsigned num)
{
    Count count = {.toy = toy, .num = num};

    toy_until(toy, has_held, &count);
}

typedef struct Line {
    Toy *toy;
    const char *text;
} Line;

static bool has_logged(void *opaque)
{
    const Line *line = opaque;

    return toy_logged(line->toy, line->text);
}

void toy_wait_logged(Toy *toy, const char *text)
{
    Line line = {.toy = toy, .text = text};

    toy_until(toy, has_logged, &line);
}

void toy_idle(Toy *toy)
{
    for (int i = 0; i < IDLE_ROUNDS; i++) {
        vhu_loop_dispatch(toy_loop(toy), 1);
    }
}

static bool have_ended(void *opaque)
{
    const Count *count = opaque;

    return toy_num_ended(count->toy) >= count->num;
}

void toy_wait_ended(Toy *toy, unsigned num)
{
    Count count = {.toy = toy, .num = num};

    toy_until(toy, have_ended, &count);
}

static bool all_gone(void *opaque)
{
    return vhu_backend_num_alive(toy_backend(opaque)) == 0;
}

void toy_wait_gone(Toy *toy)
{
    toy_until(toy, all_gone, toy);
}

/* ---- driving it ---- */

Rig *toy_rig(Toy *toy, const RigConfig *config)
{
    RigConfig mine = config ? *config : (RigConfig){0};
    Rig *rig;

    mine.loop = toy_loop(toy);
    rig = rig_new(&mine);
    rig_attach(rig, toy_connect(toy));
    return rig;
}

static void check_reversed(const uint8_t *out, const uint8_t *in, size_t bytes)
{
    for (size_t i = 0; i < bytes; i++) {
        if (in[i] != out[bytes - 1 - i]) {
            g_error("byte %zu of %zu is %02x, expected %02x", i, bytes, in[i],
                    out[bytes - 1 - i]);
        }
    }
}

void toy_round_trip(Rig *rig, unsigned queue, size_t bytes)
{
    g_autofree uint8_t *data = g_malloc(bytes);
    RigRequest *request = rig_request(rig, queue);
    uint8_t *in;

    for (size_t i = 0; i < bytes; i++) {
        data[i] = (uint8_t)g_random_int();
    }
    rig_out(request, data, bytes);
    in = rig_in(request, bytes);
    g_assert_cmpuint(rig_do(request), ==, bytes);
    check_reversed(data, in, bytes);
    rig_request_free(request);
}

RigRequest *toy_add_quietly(Rig *rig, unsigned queue)
{
    RigRequest *request = rig_request(rig, queue);
    uint8_t data[ECHO_BYTES];

    for (size_t i = 0; i < sizeof(data); i++) {
        data[i] = (uint8_t)g_random_int();
    }
    rig_out(request, data, sizeof(data));
    rig_in(request, sizeof(data));
    g_assert_cmpint(rig_submit_quietly(request), ==, 0);
    return request;
}

RigRequest *toy_submit(Rig *rig, unsigned queue)
{
    RigRequest *request = toy_add_quietly(rig, queue);

    rig_kick(rig, queue, false);
    return request;
}

void toy_check(RigRequest *request)
{
    g_assert_true(request->used);
    g_assert_cmpuint(request->written, ==, ECHO_BYTES);
    check_reversed(request->out_data[0], request->in_data[0], ECHO_BYTES);
    rig_request_free(request);
}
