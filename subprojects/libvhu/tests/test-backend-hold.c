/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Owns the tests that no front end holds up a loop that serves others, or
 * brings the back end out of step: full counters, bases of rings that never
 * ran, device state and rings at once, channels that are replaced.
 */
#include "tests/toy.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/vhost_types.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <unistd.h>

#define PACKED RIG_BIT(VIRTIO_F_RING_PACKED)

/* An eventfd whose next write would block. */
static int full_eventfd(void)
{
    const uint64_t most = UINT64_MAX - 1;
    const int fd = eventfd(0, EFD_CLOEXEC);

    g_assert_cmpint(write(fd, &most, sizeof(most)), ==, sizeof(most));
    return fd;
}

static void set_blocking(int fd)
{
    const int flags = fcntl(fd, F_GETFL);

    g_assert_cmpint(fcntl(fd, F_SETFL, flags & ~O_NONBLOCK), ==, 0);
}

static int send_fd(Rig *rig, uint32_t request, VhuPayload kind, int fd)
{
    const VhuMessage msg = {
        .request = request, .kind = kind, .num_fds = 1, .fds = {fd}};

    return rig_call(rig, &msg, NULL);
}

/* What is used is seen in the ring; the call is lost, and nothing else. */
static void test_full_call_fd_blocks_nobody(void)
{
    Toy *toy = toy_new(NULL);
    Rig *rig = toy_rig(toy, NULL);
    Rig *other = toy_rig(toy, NULL);
    const int fd = full_eventfd();
    RigRequest *request;

    rig_start(rig);
    rig_start(other);
    g_assert_cmpint(
        send_fd(rig, VHOST_USER_SET_VRING_CALL, VHU_PAYLOAD_VRING_FD, fd), ==,
        0);
    set_blocking(fd);
    request = toy_submit(rig, 0);
    toy_round_trip(other, 0, 100);
    rig_stop(rig);
    g_assert_true(request->used);
    rig_free(rig);
    rig_free(other);
    toy_free(toy);
    close(fd);
}

static void test_full_log_fd_blocks_nobody(void)
{
    const VhuMessage features = {
        .request = VHOST_USER_SET_FEATURES,
        .kind = VHU_PAYLOAD_U64,
        .payload.u64 = RIG_BIT(VIRTIO_F_VERSION_1) | RIG_BIT(VHOST_F_LOG_ALL) |
                       RIG_BIT(VHOST_USER_F_PROTOCOL_FEATURES),
    };
    Toy *toy = toy_new(NULL);
    Rig *rig = toy_rig(toy, NULL);
    const int fd = full_eventfd();
    const int log = memfd_create("log", MFD_CLOEXEC);
    const VhuMessage base = {
        .request = VHOST_USER_SET_LOG_BASE,
        .kind = VHU_PAYLOAD_LOG,
        .payload.log = {.size = 1 << 20},
        .num_fds = 1,
        .fds = {log},
    };
    VhuMessage reply;

    g_assert_cmpint(ftruncate(log, 1 << 20), ==, 0);
    rig_start(rig);
    g_assert_cmpint(rig_call(rig, &base, &reply), ==, 0);
    vhu_message_close_fds(&reply);
    g_assert_cmpint(send_fd(rig, VHOST_USER_SET_LOG_FD, VHU_PAYLOAD_NONE, fd),
                    ==, 0);
    g_assert_cmpint(rig_call(rig, &features, NULL), ==, 0);
    set_blocking(fd);
    toy_round_trip(rig, 0, 100);
    rig_free(rig);
    toy_free(toy);
    close(fd);
    close(log);
}

static uint32_t get_base(Rig *rig)
{
    const VhuMessage msg = {
        .request = VHOST_USER_GET_VRING_BASE,
        .kind = VHU_PAYLOAD_VRING_STATE,
    };
    VhuMessage reply;

    g_assert_cmpint(rig_call(rig, &msg, &reply), ==, 0);
    return reply.payload.state.num;
}

/* Both positions of a packed ring start at 0 with wrap counters of 1. */
static void test_base_of_a_ring_that_never_ran(void)
{
    const RigConfig packed = {.features = PACKED};
    Toy *toy = toy_new(NULL);
    Rig *rig = toy_rig(toy, &packed);
    Rig *split = toy_rig(toy, NULL);

    g_assert_cmphex(get_base(rig), ==, 0x80008000u);
    g_assert_cmphex(get_base(split), ==, 0);
    rig_start(rig);
    toy_round_trip(rig, 0, 100);
    rig_free(rig);
    rig_free(split);
    toy_free(toy);
}

static void test_base_after_a_reset(void)
{
    const VhuMessage reset = {.request = VHOST_USER_RESET_DEVICE};
    const RigConfig packed = {.features = PACKED};
    Toy *toy = toy_new(NULL);
    Rig *rig = toy_rig(toy, &packed);

    rig_start(rig);
    toy_round_trip(rig, 0, 100);
    g_assert_cmpint(rig_call(rig, &reset, NULL), ==, 0);
    g_assert_cmphex(get_base(rig), ==, 0x80008000u);
    rig_free(rig);
    toy_free(toy);
}

static int begin_transfer(Rig *rig, uint32_t direction, int fd,
                          uint64_t *answer)
{
    const VhuMessage msg = {
        .request = VHOST_USER_SET_DEVICE_STATE_FD,
        .kind = VHU_PAYLOAD_DEVICE_STATE,
        .payload.transfer = {.direction = direction},
        .num_fds = 1,
        .fds = {fd},
    };
    VhuMessage reply = {0};
    const int rc = rig_call(rig, &msg, &reply);

    *answer = reply.payload.u64;
    return rc;
}

static void test_no_ring_starts_while_state_is_loaded(void)
{
    Toy *toy = toy_new(NULL);
    Rig *rig = toy_rig(toy, NULL);
    uint64_t answer;
    int ends[2];

    g_assert_cmpint(pipe2(ends, O_CLOEXEC), ==, 0);
    rig_setup_queue(rig, 0);
    rig_stop_queue(rig, 0);
    g_assert_cmpint(begin_transfer(rig, 1, ends[0], &answer), ==, 0);
    g_assert_cmphex(answer, ==, VHU_VRING_NO_FD);
    g_assert_cmpint(send_fd(rig, VHOST_USER_SET_VRING_KICK,
                            VHU_PAYLOAD_VRING_FD, rig_kick_fd(rig, 0)),
                    ==, -EREMOTEIO);
    close(ends[0]);
    close(ends[1]);
    rig_free(rig);
    toy_free(toy);
}

static void test_check_tells_of_a_refused_transfer(void)
{
    Toy *toy = toy_new(NULL);
    Rig *rig = toy_rig(toy, NULL);
    const int file = memfd_create("state", MFD_CLOEXEC);
    const VhuMessage check = {.request = VHOST_USER_CHECK_DEVICE_STATE};
    uint64_t answer;

    begin_transfer(rig, 0, file, &answer);
    g_assert_cmphex(answer & 0xff, !=, 0);
    g_assert_cmpint(rig_call(rig, &check, NULL), ==, -EREMOTEIO);
    close(file);
    rig_free(rig);
    toy_free(toy);
}

/* A front end that reads a little of the state and then makes the pipe
 * blocking again. */
static void test_blocking_state_pipe_blocks_nobody(void)
{
    Toy *toy = toy_new(NULL);
    Rig *rig = toy_rig(toy, NULL);
    Rig *other = toy_rig(toy, NULL);
    uint8_t page[4096] = {0};
    uint64_t answer;
    int ends[2];

    g_assert_cmpint(pipe2(ends, O_CLOEXEC | O_NONBLOCK), ==, 0);
    while (write(ends[1], page, sizeof(page)) > 0) {
    }
    g_assert_cmpint(begin_transfer(rig, 0, ends[1], &answer), ==, 0);
    set_blocking(ends[1]);
    g_assert_cmpint(read(ends[0], page, sizeof(page)), ==, sizeof(page));
    rig_start(other);
    toy_round_trip(other, 0, 100);
    close(ends[0]);
    close(ends[1]);
    rig_free(rig);
    rig_free(other);
    toy_free(toy);
}

/* Another front end's dead connection is none of its business. */
static void test_strangers_do_not_wait_for_each_other(void)
{
    Toy *toy = toy_new(&(ToyConfig){.hold = true, .stop = TOY_STOP_HANG});
    Rig *dead = toy_rig(toy, NULL);
    Rig *rig = toy_rig(toy, &(RigConfig){.inflight = true});

    rig_start(dead);
    rig_start(rig);
    toy_hold(toy, false);
    toy_round_trip(rig, 0, 100);
    rig_disconnect(rig);
    toy_hold(toy, true);
    toy_submit(dead, 0);
    toy_wait_held(toy, 1);
    rig_disconnect(dead);
    toy_hold(toy, false);
    rig_reattach(rig, toy_connect(toy));
    toy_round_trip(rig, 0, 100);
    toy_release(toy);
    rig_free(dead);
    rig_free(rig);
    toy_free(toy);
}

int main(int argc, char **argv)
{
    static const struct {
        const char *path;
        void (*fn)(void);
    } tests[] = {
        {"/backend/hold/full-call-fd-blocks-nobody",
         test_full_call_fd_blocks_nobody},
        {"/backend/hold/full-log-fd-blocks-nobody",
         test_full_log_fd_blocks_nobody},
        {"/backend/hold/blocking-state-pipe-blocks-nobody",
         test_blocking_state_pipe_blocks_nobody},
        {"/backend/hold/strangers-do-not-wait-for-each-other",
         test_strangers_do_not_wait_for_each_other},
        {"/backend/base/of-a-ring-that-never-ran",
         test_base_of_a_ring_that_never_ran},
        {"/backend/base/after-a-reset", test_base_after_a_reset},
        {"/backend/state/no-ring-starts-while-it-is-loaded",
         test_no_ring_starts_while_state_is_loaded},
        {"/backend/state/check-tells-of-a-refused-transfer",
         test_check_tells_of_a_refused_transfer},
    };

    g_test_init(&argc, &argv, NULL);
    for (size_t i = 0; i < G_N_ELEMENTS(tests); i++) {
        g_test_add_func(tests[i].path, tests[i].fn);
    }
    return g_test_run();
}
