/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Owns the tests of requests about single vrings: bases, stopping with
 * requests out, event fds that change, what is refused, and rings that break.
 */
#include "tests/toy.h"

#include <errno.h>
#include <linux/vhost_types.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#define INDEX_PAST_ALL 1u

static bool is_used(void *opaque)
{
    return ((RigRequest *)opaque)->used;
}

/* ---- the base ---- */

static void check_base(uint64_t features, uint32_t fresh, uint32_t after_three,
                       uint32_t wrapped)
{
    const RigConfig config = {.features = features, .queue_size = 4};
    Toy *toy = toy_new(NULL);
    Rig *rig = toy_rig(toy, &config);

    rig_start(rig);
    g_assert_cmphex(rig_stop_queue(rig, 0), ==, fresh);
    rig_start(rig);
    for (int i = 0; i < 3; i++) {
        RigRequest *request = rig_request(rig, 0);

        rig_out(request, "x", 1);
        rig_do(request);
        rig_request_free(request);
    }
    g_assert_cmphex(rig_stop_queue(rig, 0), ==, after_three);
    rig_start(rig);
    for (int i = 0; i < 3; i++) {
        RigRequest *request = rig_request(rig, 0);

        rig_out(request, "x", 1);
        rig_do(request);
        rig_request_free(request);
    }
    g_assert_cmphex(rig_stop_queue(rig, 0), ==, wrapped);
    rig_free(rig);
    toy_free(toy);
}

/* A free-running index that does not wrap at the size of the ring. */
static void test_base_of_a_split_ring(void)
{
    check_base(0, 0, 3, 6);
}

/* Available index 0-14, its wrap counter 15; the same for used above. */
static void test_base_of_a_packed_ring(void)
{
    check_base(RIG_BIT(VIRTIO_F_RING_PACKED), 0x80008000, 0x80038003,
               0x00020002);
}

static void test_base_of_a_ring_that_never_ran(void)
{
    const VhuMessage base = {.request = VHOST_USER_SET_VRING_BASE,
                             .kind = VHU_PAYLOAD_VRING_STATE,
                             .payload.state = {.index = 0, .num = 0x1234}};
    Toy *toy = toy_new(NULL);
    Rig *rig = toy_rig(toy, NULL);

    g_assert_cmpint(rig_call(rig, &base, NULL), ==, 0);
    g_assert_cmphex(rig_stop_queue(rig, 0), ==, 0x1234);
    rig_setup_queue(rig, 0);
    g_assert_cmphex(rig_stop_queue(rig, 0), ==, 0x1234);
    rig_free(rig);
    toy_free(toy);
}

/* ---- stopping with requests out ---- */

static void stop_with_three_held(const ToyConfig *config)
{
    RigRequest *requests[3];
    Toy *toy = toy_new(config);
    Rig *rig = toy_rig(toy, NULL);

    rig_start(rig);
    for (int i = 0; i < 3; i++) {
        requests[i] = toy_submit(rig, 0);
    }
    toy_wait_held(toy, 3);
    g_assert_cmpstr(toy_events(toy), ==, "connect start 0");
    g_assert_cmphex(rig_stop_queue(rig, 0), ==, 3);
    g_assert_cmpstr(toy_events(toy), ==, "stop 0 stopped 0");
    for (int i = 0; i < 3; i++) {
        toy_check(requests[i]);
    }
    rig_free(rig);
    toy_free(toy);
}

static void test_stop_waits_for_requests(void)
{
    stop_with_three_held(&(ToyConfig){.hold = true});
}

static void test_stop_waits_for_requests_on_a_thread(void)
{
    stop_with_three_held(&(ToyConfig){.hold = true, .num_threads = 1});
}

/* The reply comes with the last request, not before. */
static void test_stop_of_a_device_that_hangs(void)
{
    const ToyConfig config = {.hold = true, .stop = TOY_STOP_HANG};
    Toy *toy = toy_new(&config);
    Rig *rig = toy_rig(toy, NULL);
    RigRequest *request;
    VhuWait wait;
    int rc;

    rig_start(rig);
    request = toy_submit(rig, 0);
    toy_wait_held(toy, 1);
    rc = vhu_frontend_stop_vring(rig_session(rig), 0, vhu_wait_then(&wait),
                                 NULL);
    toy_idle(toy);
    g_assert_false(wait.done);
    toy_release(toy);
    g_assert_cmpint(rig_op(rig, rc, &wait), ==, 0);
    g_assert_cmpuint(wait.reply.payload.state.num, ==, 1);
    toy_until(toy, is_used, request);
    toy_check(request);
    rig_free(rig);
    toy_free(toy);
}

/* ---- changes on the fly ---- */

static void set_fd(Rig *rig, uint32_t request, int fd)
{
    VhuMessage msg = {.request = request,
                      .kind = VHU_PAYLOAD_VRING_FD,
                      .payload.u64 = fd < 0 ? VHU_VRING_NO_FD : 0,
                      .num_fds = fd >= 0,
                      .fds = {fd}};

    g_assert_cmpint(rig_call(rig, &msg, NULL), ==, 0);
}

static void test_kick_and_call_change_while_it_runs(void)
{
    int kick_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    int call_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    Toy *toy = toy_new(NULL);
    Rig *rig = toy_rig(toy, NULL);
    const uint64_t one = 1;
    RigRequest *request;
    uint64_t count = 0;

    rig_start(rig);
    set_fd(rig, VHOST_USER_SET_VRING_KICK, kick_fd);
    set_fd(rig, VHOST_USER_SET_VRING_CALL, call_fd);
    request = toy_add_quietly(rig, 0);
    g_assert_cmpint(write(kick_fd, &one, sizeof(one)), ==, sizeof(one));
    toy_idle(toy);
    g_assert_cmpuint(toy_served(toy), ==, 1);
    g_assert_cmpint(read(call_fd, &count, sizeof(count)), ==, sizeof(count));
    g_assert_cmpuint(count, ==, 1);
    g_assert_cmpuint(rig_calls(rig, 0), ==, 0);

    /* Back to the old one: the driver hears of both. */
    set_fd(rig, VHOST_USER_SET_VRING_CALL, rig_call_fd(rig, 0));
    set_fd(rig, VHOST_USER_SET_VRING_KICK, rig_kick_fd(rig, 0));
    toy_round_trip(rig, 0, 10);
    g_assert_true(request->used);
    rig_request_free(request);
    rig_free(rig);
    close(kick_fd);
    close(call_fd);
    toy_free(toy);
}

/* Without a kick fd the back end looks at the ring by itself. */
static void test_ring_without_kick_fd_is_polled(void)
{
    Toy *toy = toy_new(NULL);
    Rig *rig = toy_rig(toy, NULL);
    RigRequest *request;

    rig_setup_queue(rig, 0);
    rig_enable_queue(rig, 0, true);
    set_fd(rig, VHOST_USER_SET_VRING_KICK, -1);
    request = toy_add_quietly(rig, 0);
    rig_wait(request);
    rig_request_free(request);
    request = toy_add_quietly(rig, 0);
    rig_wait(request);
    rig_request_free(request);
    rig_free(rig);
    toy_free(toy);
}

/* ---- what is refused, and leaves the connection as it was ---- */

typedef struct Refused {
    const char *name;
    uint32_t request;
    VhuPayload kind;
    uint32_t index;
    uint32_t num;
    bool while_running;
} Refused;

static const Refused refused[] = {
    {"size-0", VHOST_USER_SET_VRING_NUM, VHU_PAYLOAD_VRING_STATE, 0, 0, false},
    {"size-above-the-device's", VHOST_USER_SET_VRING_NUM,
     VHU_PAYLOAD_VRING_STATE, 0, 129, false},
    {"size-of-no-vring", VHOST_USER_SET_VRING_NUM, VHU_PAYLOAD_VRING_STATE,
     INDEX_PAST_ALL, 64, false},
    {"size-while-it-runs", VHOST_USER_SET_VRING_NUM, VHU_PAYLOAD_VRING_STATE, 0,
     64, true},
    {"base-of-no-vring", VHOST_USER_SET_VRING_BASE, VHU_PAYLOAD_VRING_STATE,
     INDEX_PAST_ALL, 0, false},
    {"base-while-it-runs", VHOST_USER_SET_VRING_BASE, VHU_PAYLOAD_VRING_STATE,
     0, 0, true},
    {"base-over-16-bits", VHOST_USER_SET_VRING_BASE, VHU_PAYLOAD_VRING_STATE, 0,
     0x10000, false},
    {"address-of-no-vring", VHOST_USER_SET_VRING_ADDR, VHU_PAYLOAD_VRING_ADDR,
     INDEX_PAST_ALL, 0, false},
    {"enable-of-no-vring", VHOST_USER_SET_VRING_ENABLE, VHU_PAYLOAD_VRING_STATE,
     INDEX_PAST_ALL, 1, false},
    {"kick-of-no-vring", VHOST_USER_SET_VRING_KICK, VHU_PAYLOAD_VRING_FD,
     INDEX_PAST_ALL | VHU_VRING_NO_FD, 0, false},
    {"kick-without-size", VHOST_USER_SET_VRING_KICK, VHU_PAYLOAD_VRING_FD,
     VHU_VRING_NO_FD, 0, false},
    {"call-of-no-vring", VHOST_USER_SET_VRING_CALL, VHU_PAYLOAD_VRING_FD,
     INDEX_PAST_ALL | VHU_VRING_NO_FD, 0, false},
    {"err-of-no-vring", VHOST_USER_SET_VRING_ERR, VHU_PAYLOAD_VRING_FD,
     INDEX_PAST_ALL | VHU_VRING_NO_FD, 0, false},
};

static void test_refused(gconstpointer data)
{
    const Refused *test = data;
    const ToyConfig config = {.max_queue_size = 128};
    Toy *toy = toy_new(&config);
    Rig *rig = toy_rig(toy, NULL);
    VhuMessage msg = {.request = test->request, .kind = test->kind};

    switch (test->kind) {
    case VHU_PAYLOAD_VRING_STATE:
        msg.payload.state.index = test->index;
        msg.payload.state.num = test->num;
        break;
    case VHU_PAYLOAD_VRING_ADDR:
        msg.payload.addr.index = test->index;
        break;
    default:
        msg.payload.u64 = test->index;
        break;
    }
    if (test->while_running) {
        rig_start(rig);
    }
    g_assert_cmpint(rig_call(rig, &msg, NULL), ==, -EREMOTEIO);
    if (!test->while_running) {
        rig_start(rig);
    }
    toy_round_trip(rig, 0, 10);
    rig_free(rig);
    toy_free(toy);
}

/* Without need_reply there is no way to refuse but to leave. */
static void test_refusal_without_ack_ends_the_connection(void)
{
    const RigConfig config = {.protocol_masked = VHU_PROTOCOL_BIT(REPLY_ACK)};
    const VhuMessage msg = {.request = VHOST_USER_SET_VRING_NUM,
                            .kind = VHU_PAYLOAD_VRING_STATE,
                            .payload.state = {.index = INDEX_PAST_ALL}};
    Toy *toy = toy_new(NULL);
    Rig *rig = toy_rig(toy, &config);

    g_assert_cmpint(rig_call(rig, &msg, NULL), ==, 0);
    rig_wait_closed(rig, NULL);
    toy_wait_ended(toy, 1);
    g_assert_cmpint(toy_last_end(toy)->code, ==, EINVAL);
    g_assert_cmpuint(toy_last_end(toy)->request, ==, VHOST_USER_SET_VRING_NUM);
    rig_free(rig);
    toy_free(toy);
}

/* ---- broken rings ---- */

static void make_it_break(Rig *rig, unsigned queue)
{
    RigRequest *bad = rig_request(rig, queue);

    /* Nothing is mapped there. The request is never given back: it stays
     * with the ring until that is laid out anew. */
    rig_out_at(bad, 0x10, 16);
    rig_submit_quietly(bad);
    rig_kick(rig, queue, true);
}

static bool err_came(void *opaque)
{
    uint64_t count;

    return read(rig_err_fd(opaque, 0), &count, sizeof(count)) == sizeof(count);
}

static void test_broken_ring_is_told_and_stays_alone(void)
{
    const ToyConfig config = {.num_queues = 2};
    const RigConfig two = {.num_queues = 2};
    Toy *toy = toy_new(&config);
    Rig *rig = toy_rig(toy, &two);

    rig_start(rig);
    make_it_break(rig, 0);
    toy_until(toy, err_came, rig);
    g_assert_true(toy_logged(toy, "queue 0 broken: "));
    toy_round_trip(rig, 1, 10);
    g_assert_cmphex(rig_ask_u64(rig, VHOST_USER_GET_STATUS) &
                        VIRTIO_CONFIG_S_NEEDS_RESET,
                    ==, VIRTIO_CONFIG_S_NEEDS_RESET);
    g_assert_cmpuint(toy_num_ended(toy), ==, 0);
    rig_free(rig);
    toy_free(toy);
}

#define TEST(name, fn) g_test_add_func("/backend/vring/" name, fn)

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    TEST("base/split", test_base_of_a_split_ring);
    TEST("base/packed", test_base_of_a_packed_ring);
    TEST("base/never-ran", test_base_of_a_ring_that_never_ran);
    TEST("stop/waits-for-requests", test_stop_waits_for_requests);
    TEST("stop/waits-for-requests-on-a-thread",
         test_stop_waits_for_requests_on_a_thread);
    TEST("stop/of-a-device-that-hangs", test_stop_of_a_device_that_hangs);
    TEST("kick-and-call-change-while-it-runs",
         test_kick_and_call_change_while_it_runs);
    TEST("without-kick-fd-is-polled", test_ring_without_kick_fd_is_polled);
    TEST("refused/without-ack-ends-the-connection",
         test_refusal_without_ack_ends_the_connection);
    TEST("broken-ring-is-told-and-stays-alone",
         test_broken_ring_is_told_and_stays_alone);
    for (unsigned i = 0; i < G_N_ELEMENTS(refused); i++) {
        g_autofree char *path =
            g_strdup_printf("/backend/vring/refused/%s", refused[i].name);

        g_test_add_data_func(path, &refused[i], test_refused);
    }
    return g_test_run();
}
