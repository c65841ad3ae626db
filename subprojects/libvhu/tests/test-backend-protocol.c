/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Owns the tests of what a back end negotiates, and of the requests that are
 * about the device as a whole: acknowledgements, status, reset, configuration
 * space, objects, shared memory, state.
 */
#include "tests/toy.h"

#include <errno.h>
#include <linux/vhost_types.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

/* ---- negotiation ---- */

static void test_offers_what_the_library_and_device_do(void)
{
    Toy *toy = toy_new(NULL);
    const uint64_t features = vhu_backend_features(toy_backend(toy));
    uint64_t never = 0;

    for (unsigned bit = 0; bit < VHOST_USER_PROTOCOL_F_COUNT; bit++) {
        if (vhu_feature_spec(bit)->backend == VHU_SUPPORT_CODEC_ONLY) {
            never |= RIG_BIT(bit);
        }
    }
    g_assert_cmphex(never & VHU_PROTOCOL_BIT(HOST_NOTIFIER), !=, 0);
    g_assert_cmphex(never & VHU_PROTOCOL_BIT(CROSS_ENDIAN), !=, 0);
    g_assert_cmphex(never & VHU_PROTOCOL_BIT(XEN_MMAP), !=, 0);
    g_assert_cmphex(vhu_backend_protocol_features(toy_backend(toy)) & never, ==,
                    0);
    g_assert_cmphex(features & RIG_BIT(VHOST_USER_F_PROTOCOL_FEATURES), !=, 0);
    g_assert_cmphex(features & RIG_BIT(VHOST_F_LOG_ALL), !=, 0);
    toy_free(toy);
}

static void test_number_of_queues(void)
{
    const ToyConfig config = {.num_queues = 5};
    Toy *toy = toy_new(&config);
    Rig *rig = toy_rig(toy, NULL);

    g_assert_cmpuint(rig_ask_u64(rig, VHOST_USER_GET_QUEUE_NUM), ==, 5);
    g_assert_cmpuint(vhu_frontend_info(rig_session(rig))->max_queues, ==, 5);
    rig_free(rig);
    toy_free(toy);
}

static void test_features_not_offered_are_refused(void)
{
    Toy *toy = toy_new(NULL);
    Rig *rig = toy_rig(toy, NULL);

    g_assert_cmpint(rig_call_u64(rig, VHOST_USER_SET_FEATURES, RIG_BIT(50)), ==,
                    -EREMOTEIO);
    g_assert_cmpint(rig_call_u64(rig, VHOST_USER_SET_PROTOCOL_FEATURES,
                                 VHU_PROTOCOL_BIT(REPLY_ACK) |
                                     VHU_PROTOCOL_BIT(HOST_NOTIFIER)),
                    ==, -EREMOTEIO);
    rig_start(rig);
    toy_round_trip(rig, 0, 10);
    rig_free(rig);
    toy_free(toy);
}

/* vhost-user, "In-band notifications": the connection is closed. */
static void test_inband_without_acks_ends_the_connection(void)
{
    Toy *toy = toy_new(NULL);
    Rig *rig = toy_rig(toy, NULL);

    g_assert_cmpint(rig_call_u64(rig, VHOST_USER_SET_PROTOCOL_FEATURES,
                                 VHU_PROTOCOL_BIT(INBAND_NOTIFICATIONS) |
                                     VHU_PROTOCOL_BIT(BACKEND_REQ)),
                    ==, -EREMOTEIO);
    rig_wait_closed(rig, NULL);
    toy_wait_ended(toy, 1);
    g_assert_cmpint(toy_last_end(toy)->code, ==, EINVAL);
    rig_free(rig);
    toy_free(toy);
}

static void test_device_may_refuse_a_connection(void)
{
    const ToyConfig config = {.refuses = true};
    Toy *toy = toy_new(&config);
    Rig *rig = rig_new(&(RigConfig){.loop = toy_loop(toy)});
    VhuError err = {0};

    g_assert_cmpint(rig_try_attach(rig, toy_connect(toy), &err), ==,
                    -ECONNRESET);
    g_assert_cmpuint(vhu_backend_num_alive(toy_backend(toy)), ==, 0);
    rig_free(rig);
    toy_free(toy);
}

/* ---- REPLY_ACK ---- */

/* Requests that change nothing the next one could miss; each must be answered
 * because it asked for it. */
static const struct {
    VhuMessage msg;
    const char *fd; /* "r": one end of a pipe, "s": a socket, "m": memory */
    int result;
} acked[] = {
    {.msg = {.request = VHOST_USER_SET_FEATURES,
             .kind = VHU_PAYLOAD_U64,
             .payload.u64 = 0x140000000}},
    {.msg = {.request = VHOST_USER_SET_OWNER}},
    {.msg = {.request = VHOST_USER_RESET_OWNER}},
    {.msg = {.request = VHOST_USER_SET_MEM_TABLE,
             .kind = VHU_PAYLOAD_MEM_TABLE,
             .payload.table = {.num_regions = 1,
                               .regions = {{.guest_addr = 0x1000,
                                            .user_addr = 0x1000,
                                            .size = 0x1000}}}},
     .fd = "m"},
    {.msg = {.request = VHOST_USER_SET_MEM_TABLE,
             .kind = VHU_PAYLOAD_MEM_TABLE,
             .payload.table = {.num_regions = 1,
                               .regions = {{.guest_addr = 0x1000,
                                            .user_addr = 0x1000,
                                            .size = 0}}}},
     .fd = "m",
     .result = -EREMOTEIO},
    {.msg = {.request = VHOST_USER_SET_LOG_FD}, .fd = "r"},
    {.msg = {.request = VHOST_USER_SET_VRING_NUM,
             .kind = VHU_PAYLOAD_VRING_STATE,
             .payload.state = {.num = 8}}},
    {.msg = {.request = VHOST_USER_SET_VRING_ADDR,
             .kind = VHU_PAYLOAD_VRING_ADDR}},
    {.msg = {.request = VHOST_USER_SET_VRING_BASE,
             .kind = VHU_PAYLOAD_VRING_STATE}},
    {.msg = {.request = VHOST_USER_SET_VRING_KICK,
             .kind = VHU_PAYLOAD_VRING_FD,
             .payload.u64 = VHU_VRING_NO_FD}},
    {.msg = {.request = VHOST_USER_SET_VRING_CALL,
             .kind = VHU_PAYLOAD_VRING_FD,
             .payload.u64 = VHU_VRING_NO_FD}},
    {.msg = {.request = VHOST_USER_SET_VRING_ERR,
             .kind = VHU_PAYLOAD_VRING_FD,
             .payload.u64 = VHU_VRING_NO_FD}},
    {.msg = {.request = VHOST_USER_SET_VRING_ENABLE,
             .kind = VHU_PAYLOAD_VRING_STATE,
             .payload.state = {.num = 1}}},
    {.msg = {.request = VHOST_USER_SEND_RARP,
             .kind = VHU_PAYLOAD_U64,
             .payload.u64 = 0x665544332211}},
    {.msg = {.request = VHOST_USER_NET_SET_MTU,
             .kind = VHU_PAYLOAD_U64,
             .payload.u64 = 1500}},
    {.msg = {.request = VHOST_USER_NET_SET_MTU,
             .kind = VHU_PAYLOAD_U64,
             .payload.u64 = 60},
     .result = -EREMOTEIO},
    {.msg = {.request = VHOST_USER_SET_BACKEND_REQ_FD}, .fd = "s"},
    {.msg = {.request = VHOST_USER_SET_BACKEND_REQ_FD},
     .fd = "r",
     .result = -EREMOTEIO},
    {.msg = {.request = VHOST_USER_SET_CONFIG,
             .kind = VHU_PAYLOAD_CONFIG,
             .payload.config = {.offset = 40, .size = 1, .data_bytes = 1}}},
    {.msg = {.request = VHOST_USER_SET_CONFIG,
             .kind = VHU_PAYLOAD_CONFIG,
             .payload.config = {.offset = 0, .size = 1, .data_bytes = 1}},
     .result = -EREMOTEIO},
    {.msg = {.request = VHOST_USER_POSTCOPY_LISTEN}, .result = -EREMOTEIO},
    {.msg = {.request = VHOST_USER_SET_INFLIGHT_FD,
             .kind = VHU_PAYLOAD_INFLIGHT,
             .payload.inflight = {.mmap_size = 0x100000,
                                  .num_queues = 1,
                                  .queue_size = 64}},
     .fd = "m",
     .result = -EREMOTEIO},
    {.msg = {.request = VHOST_USER_GPU_SET_SOCKET},
     .fd = "s",
     .result = -EREMOTEIO},
    {.msg = {.request = VHOST_USER_RESET_DEVICE}},
    {.msg = {.request = VHOST_USER_ADD_MEM_REG,
             .kind = VHU_PAYLOAD_MEM_REGION,
             .payload.region = {.guest_addr = 0x800000000,
                                .user_addr = 0x800000000,
                                .size = 0x1000}},
     .fd = "m"},
    {.msg = {.request = VHOST_USER_REM_MEM_REG,
             .kind = VHU_PAYLOAD_MEM_REGION,
             .payload.region = {.guest_addr = 0x900000000,
                                .user_addr = 0x900000000,
                                .size = 0x1000}},
     .result = -EREMOTEIO},
    {.msg = {.request = VHOST_USER_SET_STATUS,
             .kind = VHU_PAYLOAD_U64,
             .payload.u64 = 1}},
    {.msg = {.request = VHOST_USER_SET_STATUS,
             .kind = VHU_PAYLOAD_U64,
             .payload.u64 = 0x100},
     .result = -EREMOTEIO},
};

/* Rows not in the list above: never offered, or with a reply of their own. */
static bool needs_no_ack_test(uint32_t request)
{
    const VhuMessageSpec *spec = vhu_message_spec(VHU_FROM_FRONTEND, request);

    return !spec || spec->reply_rule == VHU_REPLY_ALWAYS ||
           spec->reply_rule == VHU_REPLY_LOG_BASE ||
           (spec->gate != VHU_NO_GATE &&
            vhu_feature_spec((unsigned)spec->gate)->backend ==
                VHU_SUPPORT_CODEC_ONLY) ||
           request == VHOST_USER_SET_PROTOCOL_FEATURES ||
           request == VHOST_USER_VRING_KICK;
}

static void test_every_request_is_acknowledged(void)
{
    bool tried[VHOST_USER_GET_SHMEM_CONFIG + 1] = {false};

    for (unsigned i = 0; i < G_N_ELEMENTS(acked); i++) {
        Toy *toy = toy_new(&(ToyConfig){.num_threads = 1});
        Rig *rig = toy_rig(toy, NULL);
        VhuMessage msg = acked[i].msg;
        int fds[2] = {-1, -1};

        tried[msg.request] = true;
        if (acked[i].fd) {
            if (*acked[i].fd == 's') {
                fds[0] = rig_socketpair(&fds[1]);
            } else if (*acked[i].fd == 'm') {
                fds[0] = memfd_create("m", MFD_CLOEXEC);
                g_assert_cmpint(ftruncate(fds[0], 0x1000), ==, 0);
            } else {
                g_assert_cmpint(pipe(fds), ==, 0);
            }
            msg.num_fds = 1;
            msg.fds[0] = fds[0];
        }
        if (msg.request == VHOST_USER_SET_VRING_KICK) {
            rig_setup_queue(rig, 0);
        }
        g_test_message("%s",
                       vhu_message_spec(VHU_FROM_FRONTEND, msg.request)->name);
        g_assert_cmpint(rig_call(rig, &msg, NULL), ==, acked[i].result);
        g_assert_cmpuint(toy_num_ended(toy), ==, 0);
        rig_free(rig);
        toy_free(toy);
        close(fds[0]);
        close(fds[1]);
    }
    for (uint32_t i = 0; i < G_N_ELEMENTS(tried); i++) {
        if (!tried[i] && !needs_no_ack_test(i)) {
            g_error("request %u is not tried", i);
        }
    }
}

/* ---- status and reset ---- */

static void test_status_is_kept_and_told(void)
{
    Toy *toy = toy_new(NULL);
    Rig *rig = toy_rig(toy, NULL);

    g_assert_cmpuint(rig_ask_u64(rig, VHOST_USER_GET_STATUS), ==, 0);
    toy_events(toy);
    g_assert_cmpint(rig_call_u64(rig, VHOST_USER_SET_STATUS, 0xb), ==, 0);
    g_assert_cmpuint(rig_ask_u64(rig, VHOST_USER_GET_STATUS), ==, 0xb);
    g_assert_cmpstr(toy_events(toy), ==, "status 0xb");
    rig_free(rig);
    toy_free(toy);
}

static void test_status_0_resets(void)
{
    Toy *toy = toy_new(NULL);
    Rig *rig = toy_rig(toy, NULL);

    rig_start(rig);
    toy_round_trip(rig, 0, 10);
    rig_call_u64(rig, VHOST_USER_SET_STATUS, 0xf);
    toy_events(toy);
    g_assert_cmpint(rig_call_u64(rig, VHOST_USER_SET_STATUS, 0), ==, 0);
    g_assert_cmpstr(toy_events(toy), ==, "stopped 0 reset");
    g_assert_cmpuint(rig_ask_u64(rig, VHOST_USER_GET_STATUS), ==, 0);
    rig_free(rig);
    toy_free(toy);
}

/* Rings stop and are disabled, the device forgets, the connection stays. */
static void test_reset_device(void)
{
    const VhuMessage reset = {.request = VHOST_USER_RESET_DEVICE};
    const ToyConfig config = {.hold = true};
    Toy *toy = toy_new(&config);
    Rig *rig = toy_rig(toy, NULL);
    const uint64_t one = 1;
    RigRequest *request;

    rig_start(rig);
    request = toy_submit(rig, 0);
    toy_wait_held(toy, 1);
    toy_events(toy);
    g_assert_cmpint(rig_call(rig, &reset, NULL), ==, 0);
    g_assert_cmpstr(toy_events(toy), ==, "stop 0 stopped 0 reset");
    g_assert_cmpuint(toy_num_ended(toy), ==, 0);
    rig_wait(request);
    rig_request_free(request);

    toy_hold(toy, false);
    rig_forget_queues(rig);
    rig_setup_queue(rig, 0);
    request = toy_submit(rig, 0);
    g_assert_cmpint(write(rig_kick_fd(rig, 0), &one, sizeof(one)), ==,
                    sizeof(one));
    toy_idle(toy);
    g_assert_false(request->used); /* disabled by the reset */
    rig_enable_queue(rig, 0, true);
    rig_wait(request);
    toy_check(request);
    rig_free(rig);
    toy_free(toy);
}

/* ---- configuration space ---- */

static void test_config_is_read(void)
{
    Toy *toy = toy_new(NULL);
    Rig *rig = toy_rig(toy, NULL);
    uint8_t data[TOY_CONFIG_BYTES + 8];

    rig_get_config(rig, 0, data, TOY_CONFIG_BYTES);
    g_assert_cmpmem(data, TOY_CONFIG_BYTES, toy_config_space(toy),
                    TOY_CONFIG_BYTES);
    rig_get_config(rig, 17, data, 3);
    g_assert_cmpmem(data, 3, toy_config_space(toy) + 17, 3);

    /* Past the end there are zeroes: a front end may know a longer space. */
    rig_get_config(rig, TOY_CONFIG_BYTES - 2, data, 8);
    g_assert_cmpmem(data, 2, toy_config_space(toy) + TOY_CONFIG_BYTES - 2, 2);
    g_assert_cmpmem(data + 2, 6, "\0\0\0\0\0\0", 6);
    rig_free(rig);
    toy_free(toy);
}

static void test_config_is_written_where_it_may(void)
{
    const uint8_t data[2] = {0xaa, 0xbb};
    VhuMessage migration = {
        .request = VHOST_USER_SET_CONFIG,
        .kind = VHU_PAYLOAD_CONFIG,
        .payload.config = {.size = 1, .data_bytes = 1, .data = {0x77}}};
    Toy *toy = toy_new(NULL);
    Rig *rig = toy_rig(toy, NULL);
    const uint8_t first = toy_config_space(toy)[0];

    g_assert_cmpint(rig_set_config(rig, 40, data, 2), ==, 0);
    g_assert_cmpmem(toy_config_space(toy) + 40, 2, data, 2);
    g_assert_cmpint(rig_set_config(rig, 0, data, 2), ==, -EREMOTEIO);
    g_assert_cmpuint(toy_config_space(toy)[0], ==, first);
    g_assert_cmpint(rig_set_config(rig, TOY_CONFIG_BYTES - 1, data, 2), ==,
                    -EREMOTEIO);

    /* A migration writes what the driver may not. */
    migration.payload.config.flags = 1;
    g_assert_cmpint(rig_call(rig, &migration, NULL), ==, 0);
    g_assert_cmpuint(toy_config_space(toy)[0], ==, 0x77);
    rig_free(rig);
    toy_free(toy);
}

static void test_config_change_is_told(void)
{
    Toy *toy = toy_new(NULL);
    Rig *rig = toy_rig(toy, NULL);
    const unsigned seen = rig_config_changes(rig);

    rig_start(rig);
    toy_idle(toy);
    g_assert_cmpint(toy_change_config(toy), ==, 0);
    rig_wait_config_change(rig, seen);
    g_assert_cmpint(toy_change_config(toy), ==, 0);
    rig_wait_config_change(rig, seen + 1);
    rig_free(rig);
    toy_free(toy);
}

/* vhost-user, "Suspended device state": no messages while all rings are
 * stopped. */
static void test_suspended_device_keeps_a_change_to_itself(void)
{
    Toy *toy = toy_new(NULL);
    Rig *rig = toy_rig(toy, NULL);

    rig_start(rig);
    toy_round_trip(rig, 0, 10);
    rig_stop(rig);
    g_assert_cmpint(toy_change_config(toy), ==, 0);
    toy_idle(toy);
    g_assert_cmpuint(rig_config_changes(rig), ==, 0);
    rig_start(rig);
    rig_wait_config_change(rig, 0);
    rig_free(rig);
    toy_free(toy);
}

static void test_config_change_needs_a_channel(void)
{
    const RigConfig config = {.protocol_masked = VHU_PROTOCOL_BIT(BACKEND_REQ)};
    Toy *toy = toy_new(NULL);
    Rig *rig = toy_rig(toy, &config);

    rig_start(rig);
    g_assert_cmpint(toy_change_config(toy), ==, -ENOTSUP);
    rig_free(rig);
    toy_free(toy);
}

/* ---- single devices' requests ---- */

static void test_mtu(void)
{
    Toy *toy = toy_new(NULL);
    Rig *rig = toy_rig(toy, NULL);

    toy_events(toy);
    g_assert_cmpint(rig_call_u64(rig, VHOST_USER_NET_SET_MTU, 9000), ==, 0);
    g_assert_cmpstr(toy_events(toy), ==, "mtu 9000");
    g_assert_cmpint(rig_call_u64(rig, VHOST_USER_NET_SET_MTU, 60), ==,
                    -EREMOTEIO);
    rig_free(rig);
    toy_free(toy);
}

/* The first six bytes of the payload are the address. */
static void test_rarp(void)
{
    Toy *toy = toy_new(NULL);
    Rig *rig = toy_rig(toy, NULL);

    toy_events(toy);
    g_assert_cmpint(rig_call_u64(rig, VHOST_USER_SEND_RARP, 0x665544332211), ==,
                    0);
    g_assert_cmpstr(toy_events(toy), ==, "rarp 11:22:33:44:55:66");
    rig_free(rig);
    toy_free(toy);
}

#define TEST(name, fn) g_test_add_func("/backend/protocol/" name, fn)

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    TEST("offers-what-library-and-device-do",
         test_offers_what_the_library_and_device_do);
    TEST("number-of-queues", test_number_of_queues);
    TEST("features-not-offered-are-refused",
         test_features_not_offered_are_refused);
    TEST("inband-without-acks-ends-the-connection",
         test_inband_without_acks_ends_the_connection);
    TEST("device-may-refuse-a-connection", test_device_may_refuse_a_connection);
    TEST("every-request-is-acknowledged", test_every_request_is_acknowledged);
    TEST("status/is-kept-and-told", test_status_is_kept_and_told);
    TEST("status/0-resets", test_status_0_resets);
    TEST("reset-device", test_reset_device);
    TEST("config/is-read", test_config_is_read);
    TEST("config/is-written-where-it-may", test_config_is_written_where_it_may);
    TEST("config/change-is-told", test_config_change_is_told);
    TEST("config/suspended-device-keeps-a-change-to-itself",
         test_suspended_device_keeps_a_change_to_itself);
    TEST("config/change-needs-a-channel", test_config_change_needs_a_channel);
    TEST("mtu", test_mtu);
    TEST("rarp", test_rarp);
    return g_test_run();
}
