/* SPDX-License-Identifier: BSD-3-Clause */
/* Owns the tests of device state that leaves or enters a back end. */
#include "tests/toy.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

typedef struct Saved {
    unsigned calls;
    int result;
    uint8_t *data;
    size_t bytes;
} Saved;

static void on_saved(void *opaque, int result, const uint8_t *data,
                     size_t bytes, const VhuError *err)
{
    Saved *saved = opaque;

    (void)err;
    saved->calls++;
    saved->result = result;
    saved->bytes = bytes;
    saved->data = g_malloc(bytes + 1);
    if (bytes) {
        memcpy(saved->data, data, bytes);
    }
}

static bool is_saved(void *opaque)
{
    return ((Saved *)opaque)->calls > 0;
}

static Saved save(Toy *toy, Rig *rig)
{
    Saved saved = {0};
    VhuError err = {0};

    if (vhu_frontend_save_state(rig_session(rig), 0, on_saved, &saved, &err) <
        0) {
        g_error("%s", err.text);
    }
    toy_until(toy, is_saved, &saved);
    return saved;
}

static int load(Rig *rig, const void *data, size_t bytes)
{
    const VhuStateData state = {.data = data, .bytes = bytes};
    VhuWait wait;
    int rc = vhu_frontend_load_state(rig_session(rig), &state,
                                     vhu_wait_then(&wait), &wait.err);

    return rig_op(rig, rc, &wait);
}

/* More than a pipe holds, from one back end to another. */
static void test_state_moves_to_another_back_end(void)
{
    Toy *source = toy_new(NULL);
    Toy *destination = toy_new(NULL);
    Rig *from = toy_rig(source, NULL);
    Rig *to = toy_rig(destination, NULL);
    Saved saved;

    toy_set_state(source, 0x5a);
    rig_start(from);
    toy_round_trip(from, 0, 10);
    rig_stop(from);
    saved = save(source, from);
    g_assert_cmpint(saved.result, ==, 0);
    g_assert_cmpuint(saved.bytes, ==, TOY_STATE_BYTES);
    g_assert_cmpint(load(to, saved.data, saved.bytes), ==, 0);
    g_assert_cmphex(toy_state(destination), ==, 0x5a);

    /* Both go on. */
    rig_start(to);
    toy_round_trip(to, 0, 10);
    rig_start(from);
    toy_round_trip(from, 0, 10);
    g_free(saved.data);
    rig_free(from);
    rig_free(to);
    toy_free(source);
    toy_free(destination);
}

static void test_bad_state_is_refused_by_the_check(void)
{
    Toy *toy = toy_new(NULL);
    Rig *rig = toy_rig(toy, NULL);

    toy_set_state(toy, 7);
    g_assert_cmpint(load(rig, "nonsense", 8), ==, -EREMOTEIO);
    g_assert_cmpint(load(rig, "", 0), ==, -EREMOTEIO);
    g_assert_cmpuint(toy_state(toy), ==, 7);
    g_assert_cmpuint(toy_num_ended(toy), ==, 0);
    rig_free(rig);
    toy_free(toy);
}

static void test_running_ring_forbids_a_transfer(void)
{
    Toy *toy = toy_new(NULL);
    Rig *rig = toy_rig(toy, NULL);
    Saved saved;

    rig_start(rig);
    toy_round_trip(rig, 0, 10);
    saved = save(toy, rig);
    g_assert_cmpint(saved.result, ==, -EREMOTEIO);
    g_free(saved.data);
    g_assert_cmpint(load(rig, "x", 1), ==, -EREMOTEIO);
    toy_round_trip(rig, 0, 10);
    rig_free(rig);
    toy_free(toy);
}

/* Raw: direction and phase beyond what there is. */
static uint64_t start_transfer(Rig *rig, uint32_t direction, uint32_t phase,
                               int fd)
{
    const VhuMessage msg = {
        .request = VHOST_USER_SET_DEVICE_STATE_FD,
        .kind = VHU_PAYLOAD_DEVICE_STATE,
        .payload.transfer = {.direction = direction, .phase = phase},
        .num_fds = 1,
        .fds = {fd}};
    VhuMessage reply;

    rig_call(rig, &msg, &reply);
    g_assert_cmpint(reply.kind, ==, VHU_PAYLOAD_U64);
    return reply.payload.u64;
}

static void test_unknown_direction_and_phase_are_refused(void)
{
    Toy *toy = toy_new(NULL);
    Rig *rig = toy_rig(toy, NULL);
    int ends[2];

    g_assert_cmpint(pipe2(ends, O_CLOEXEC), ==, 0);
    /* Bits 0-7: an error; bit 8: no fd comes back. */
    g_assert_cmphex(start_transfer(rig, 2, 0, ends[0]), ==, 0x101);
    g_assert_cmphex(start_transfer(rig, 0, 1, ends[0]), ==, 0x101);
    g_assert_cmphex(start_transfer(rig, 1, 0, ends[0]), ==, 0x100);
    /* One at a time. */
    g_assert_cmphex(start_transfer(rig, 1, 0, ends[0]), ==, 0x101);
    close(ends[0]);
    close(ends[1]);
    rig_free(rig);
    toy_free(toy);
}

/* A front end that closes its end of the pipe ends the transfer, not the
 * process. */
static void test_abandoned_pipe(void)
{
    const VhuMessage check = {.request = VHOST_USER_CHECK_DEVICE_STATE};
    Toy *toy = toy_new(NULL);
    Rig *rig = toy_rig(toy, NULL);
    int ends[2];

    g_assert_cmpint(pipe2(ends, O_CLOEXEC), ==, 0);
    g_assert_cmphex(start_transfer(rig, 0, 0, ends[1]), ==, 0x100);
    close(ends[0]);
    close(ends[1]);
    g_assert_cmpint(rig_call(rig, &check, NULL), ==, -EREMOTEIO);
    rig_start(rig);
    toy_round_trip(rig, 0, 10);
    rig_free(rig);
    toy_free(toy);
}

/* CHECK_DEVICE_STATE is answered when the transfer is through. */
static void test_check_waits_for_the_transfer(void)
{
    const VhuMessage check = {.request = VHOST_USER_CHECK_DEVICE_STATE};
    g_autofree uint8_t *state = g_malloc0(TOY_STATE_BYTES);
    size_t done = 0;
    Toy *toy = toy_new(NULL);
    Rig *rig = toy_rig(toy, NULL);
    VhuWait wait;
    int ends[2];
    int rc;

    memset(state, 0x33, TOY_STATE_BYTES);
    g_assert_cmpint(pipe2(ends, O_CLOEXEC), ==, 0);
    g_assert_cmphex(start_transfer(rig, 1, 0, ends[0]), ==, 0x100);
    close(ends[0]);
    rc = vhu_frontend_request(rig_session(rig), &check, vhu_wait_then(&wait),
                              &wait.err);
    while (done < TOY_STATE_BYTES) {
        ssize_t put =
            write(ends[1], state + done, MIN(TOY_STATE_BYTES - done, 4096));

        g_assert_cmpint(put, >, 0);
        done += (size_t)put;
        vhu_loop_dispatch(toy_loop(toy), 0);
        g_assert_false(wait.done);
    }
    close(ends[1]);
    g_assert_cmpint(rig_op(rig, rc, &wait), ==, 0);
    g_assert_cmphex(toy_state(toy), ==, 0x33);
    rig_free(rig);
    toy_free(toy);
}

static void test_lost_front_end_ends_the_transfer(void)
{
    Toy *toy = toy_new(NULL);
    Rig *rig = toy_rig(toy, NULL);
    int ends[2];

    g_assert_cmpint(pipe2(ends, O_CLOEXEC), ==, 0);
    g_assert_cmphex(start_transfer(rig, 0, 0, ends[1]), ==, 0x100);
    rig_disconnect(rig);
    toy_wait_ended(toy, 1);
    close(ends[0]);
    close(ends[1]);
    rig_free(rig);
    toy_free(toy);
}

/* What the check waits for never comes: its connection goes all the same. */
static void test_lost_front_end_ends_the_check(void)
{
    const VhuMessage check = {.request = VHOST_USER_CHECK_DEVICE_STATE};
    Toy *toy = toy_new(NULL);
    Rig *rig = toy_rig(toy, NULL);
    VhuWait wait;
    int ends[2];

    g_assert_cmpint(pipe2(ends, O_CLOEXEC), ==, 0);
    g_assert_cmphex(start_transfer(rig, 1, 0, ends[0]), ==, 0x100);
    g_assert_cmpint(vhu_frontend_request(rig_session(rig), &check,
                                         vhu_wait_then(&wait), &wait.err),
                    ==, 0);
    toy_idle(toy);
    g_assert_false(wait.done);
    rig_disconnect(rig);
    toy_wait_gone(toy);
    g_assert_cmpuint(toy_num_ended(toy), ==, 1);
    g_assert_true(wait.done);
    close(ends[0]);
    close(ends[1]);
    rig_free(rig);
    toy_free(toy);
}

#define TEST(name, fn) g_test_add_func("/backend/state/" name, fn)

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    TEST("moves-to-another-back-end", test_state_moves_to_another_back_end);
    TEST("bad-one-is-refused-by-the-check",
         test_bad_state_is_refused_by_the_check);
    TEST("running-ring-forbids-a-transfer",
         test_running_ring_forbids_a_transfer);
    TEST("unknown-direction-and-phase-are-refused",
         test_unknown_direction_and_phase_are_refused);
    TEST("abandoned-pipe", test_abandoned_pipe);
    TEST("check-waits-for-the-transfer", test_check_waits_for_the_transfer);
    TEST("lost-front-end-ends-the-transfer",
         test_lost_front_end_ends_the_transfer);
    TEST("lost-front-end-ends-the-check", test_lost_front_end_ends_the_check);
    return g_test_run();
}
