/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Owns the tests of a front-end session's vrings, configuration space and
 * IOTLB: what goes over the wire, and how addresses are translated.
 */
#include "tests/session.h"

#include <errno.h>
#include <linux/vhost_types.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define ACK(request) request " 05000000 08000000 00000000 00000000"

#define REPLY_ACK (1u << 3)
#define CONFIG    (1u << 9)
#define GPA       (1u << 21)

#define VERSION_1 0x100000000u
#define PLATFORM  0x200000000u

/* One region: guest 0x10000000, user 0x7f0020000000, 1 MiB. */
static void set_memory(Session *s)
{
    const VhuMemRegion region = {.guest_addr = 0x10000000,
                                 .user_addr = 0x7f0020000000,
                                 .size = 0x100000};
    int fd = memfd_create("guest", MFD_CLOEXEC);
    const VhuFrontendMemory memory = {.regions = &region, .fds = &fd, .num = 1};

    g_assert_cmpint(vhu_frontend_set_memory(s->front, &memory, NULL, NULL), ==,
                    0);
    script_expect(&s->back, "05000000 09000000 28000000 01000000 00000000"
                            "00000010 00000000 00001000 00000000"
                            "00000020 007f0000 00000000 00000000");
    script_send(&s->back, ACK("05000000"));
    close(script_take_fd(&s->back));
    close(fd);
}

static void set_features(Session *s, uint64_t features)
{
    vhu_frontend_set_features(s->front, features, NULL, NULL);
    g_free(script_receive(&s->back, 20));
    script_send(&s->back, ACK("02000000"));
}

static bool same_file(int a, int b)
{
    struct stat first, second;

    g_assert_cmpint(fstat(a, &first), ==, 0);
    g_assert_cmpint(fstat(b, &second), ==, 0);
    return first.st_ino == second.st_ino;
}

/* Whether two eventfds count the same thing. */
static bool same_counter(int a, int b)
{
    const uint64_t one = 1;
    uint64_t count = 0;

    g_assert_cmpint(write(a, &one, sizeof(one)), ==, sizeof(one));
    return read(b, &count, sizeof(count)) == sizeof(count) && count == 1;
}

#define NUM  "08000000 09000000 08000000 03000000 40000000"
#define BASE "0a000000 09000000 08000000 03000000 07000000"
#define ADDR "09000000 09000000 28000000 03000000 00000000"
#define ERR  "0e000000 09000000 08000000 03000000 00000000"
#define CALL "0d000000 09000000 08000000 03000000 00000000"
#define KICK "0c000000 09000000 08000000 03000000 00000000"

static const VhuFrontendVring vring = {
    .size = 64,
    .base = 7,
    .desc = 0x10001000,
    .driver = 0x10002000,
    .device = 0x10003000,
    .kick = -1,
    .call = -1,
    .err = -1,
};

static void test_start_sends_all_of_a_vring(void)
{
    VhuFrontendVring mine = vring;
    int kick = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    int call = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    int err = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    Outcome outcome;
    Session s;
    int got;

    session_start(&s, NULL, REPLY_ACK);
    set_features(&s, VERSION_1);
    set_memory(&s);
    mine.kick = kick;
    mine.call = call;
    mine.err = err;
    g_assert_cmpint(vhu_frontend_start_vring(s.front, 3, &mine,
                                             outcome_then(&outcome), NULL),
                    ==, 0);
    /* User addresses: descriptor, used, available, log. */
    script_expect(&s.back, NUM BASE ADDR "00100020 007f0000 00300020 007f0000"
                                         "00200020 007f0000 00000000 00000000");
    script_expect(&s.back, ERR CALL KICK);
    got = script_take_fd(&s.back);
    g_assert_true(same_counter(got, err));
    close(got);
    got = script_take_fd(&s.back);
    g_assert_true(same_counter(got, call));
    close(got);
    got = script_take_fd(&s.back);
    g_assert_true(same_counter(got, kick));
    close(got);
    script_send(&s.back, ACK("08000000") ACK("0a000000") ACK("09000000")
                             ACK("0e000000") ACK("0d000000"));
    session_turn(&s);
    g_assert_cmpuint(outcome.calls, ==, 0);
    script_send(&s.back, ACK("0c000000"));
    session_until(&s, &outcome.calls, 1);
    g_assert_cmpint(outcome.result, ==, 0);
    session_close(&s);
    close(kick);
    close(call);
    close(err);
}

static void test_no_fd_is_said_so(void)
{
    Session s;

    session_start(&s, NULL, REPLY_ACK);
    set_features(&s, VERSION_1);
    set_memory(&s);
    vhu_frontend_start_vring(s.front, 3, &vring, NULL, NULL);
    script_expect(&s.back, NUM BASE ADDR "00100020 007f0000 00300020 007f0000"
                                         "00200020 007f0000 00000000 00000000");
    script_expect(&s.back, "0d000000 09000000 08000000 03010000 00000000"
                           "0c000000 09000000 08000000 03010000 00000000");
    g_assert_cmpuint(s.back.num_fds, ==, 0);
    session_close(&s);
}

static void test_guest_addresses_go_as_they_are(void)
{
    Session s;

    session_start(&s, NULL, REPLY_ACK | GPA);
    set_features(&s, VERSION_1);
    vhu_frontend_start_vring(s.front, 3, &vring, NULL, NULL);
    script_expect(&s.back, NUM BASE ADDR "00100010 00000000 00300010 00000000"
                                         "00200010 00000000 00000000 00000000");
    session_close(&s);
}

static void test_iovas_go_as_they_are(void)
{
    VhuFrontendVring mine = vring;
    Session s;

    session_start(&s, NULL, REPLY_ACK);
    set_features(&s, VERSION_1 | PLATFORM);
    mine.desc = 0xabcd00001000;
    vhu_frontend_start_vring(s.front, 3, &mine, NULL, NULL);
    script_expect(&s.back, NUM BASE ADDR "00100000 cdab0000 00300010 00000000"
                                         "00200010 00000000 00000000 00000000");
    session_close(&s);
}

/* A split ring of 64 has a used ring of 518 bytes. */
static void test_address_outside_memory_is_told(void)
{
    VhuFrontendVring mine = vring;
    VhuError err = {0};
    Session s;

    session_start(&s, NULL, REPLY_ACK);
    set_features(&s, VERSION_1);
    set_memory(&s);
    mine.device = 0x10100000 - 516;
    g_assert_cmpint(vhu_frontend_start_vring(s.front, 3, &mine, NULL, &err), ==,
                    -EFAULT);
    g_assert_cmpstr(err.text, ==,
                    "front 'f0': vring 3 at 0x10001000, 0x10002000, "
                    "0x100ffdfc is not in guest memory");
    g_assert_cmpint(vhu_frontend_start_vring(s.front, 256, &vring, NULL, &err),
                    ==, -EINVAL);
    script_expect_silence(&s.back);
    mine.device = 0x10100000 - 520;
    g_assert_cmpint(vhu_frontend_start_vring(s.front, 3, &mine, NULL, &err), ==,
                    0);
    session_close(&s);
}

static void test_logging_is_switched_by_the_address(void)
{
    VhuFrontendVring mine = vring;
    Session s;

    session_start(&s, NULL, REPLY_ACK | GPA);
    set_features(&s, VERSION_1);
    mine.log_used = true;
    mine.log_addr = 0x10003000;
    vhu_frontend_set_vring_addr(s.front, 3, &mine, NULL, NULL);
    script_expect(&s.back, "09000000 09000000 28000000 03000000 01000000"
                           "00100010 00000000 00300010 00000000"
                           "00200010 00000000 00300010 00000000");
    session_close(&s);
}

static void test_enable_stop_and_kick(void)
{
    Outcome stop;
    Session s;

    session_start(&s, NULL, REPLY_ACK);
    vhu_frontend_enable_vring(s.front, 1, true, NULL, NULL);
    script_expect(&s.back, "12000000 09000000 08000000 01000000 01000000");
    script_send(&s.back, ACK("12000000"));
    vhu_frontend_enable_vring(s.front, 1, false, NULL, NULL);
    script_expect(&s.back, "12000000 09000000 08000000 01000000 00000000");
    script_send(&s.back, ACK("12000000"));
    vhu_frontend_stop_vring(s.front, 1, outcome_then(&stop), NULL);
    script_expect(&s.back, "0b000000 01000000 08000000 01000000 00000000");
    script_send(&s.back, "0b000000 05000000 08000000 01000000 34128080");
    session_until(&s, &stop.calls, 1);
    g_assert_cmphex(stop.u64, ==, 0x8080123400000001);
    g_assert_cmpint(vhu_frontend_kick_vring(s.front, 1, NULL, NULL), ==,
                    -EOPNOTSUPP);
    session_close(&s);
}

static void test_base_of_another_vring_is_wrong(void)
{
    Outcome stop;
    Session s;

    session_start(&s, NULL, REPLY_ACK);
    vhu_frontend_stop_vring(s.front, 1, outcome_then(&stop), NULL);
    script_send(&s.back, "0b000000 05000000 08000000 02000000 00000000");
    session_until(&s, &stop.calls, 1);
    g_assert_cmpint(stop.result, ==, -EPROTO);
    g_assert_cmpstr(stop.err.text, ==,
                    "front 'f0': GET_VRING_BASE reply is about vring 2, "
                    "expected 1");
    session_close(&s);
}

static void test_single_fds(void)
{
    int call = memfd_create("call", MFD_CLOEXEC);
    Session s;
    int got;

    session_start(&s, NULL, REPLY_ACK);
    vhu_frontend_set_vring_fd(s.front, VHOST_USER_SET_VRING_CALL, 200, call,
                              NULL);
    script_expect(&s.back, "0d000000 09000000 08000000 c8000000 00000000");
    got = script_take_fd(&s.back);
    g_assert_true(same_file(got, call));
    close(got);
    vhu_frontend_set_vring_fd(s.front, VHOST_USER_SET_VRING_ERR, 200, -1, NULL);
    script_expect(&s.back, "0e000000 09000000 08000000 c8010000 00000000");
    session_close(&s);
    close(call);
}

/* ---- configuration space ---- */

static void test_set_config(void)
{
    const VhuConfigArea area = {
        .offset = 32, .size = 2, .flags = 1, .data = {0xaa, 0xbb}};
    Outcome outcome;
    Session s;

    session_start(&s, NULL, REPLY_ACK | CONFIG);
    vhu_frontend_set_config(s.front, &area, outcome_then(&outcome), NULL);
    script_expect(&s.back, "19000000 09000000 0e000000"
                           "20000000 02000000 01000000 aabb");
    script_send(&s.back, ACK("19000000"));
    session_until(&s, &outcome.calls, 1);
    g_assert_cmpint(outcome.result, ==, 0);
    session_close(&s);
}

static void test_status_is_no_refusal(void)
{
    Outcome outcome;
    Session s;

    session_start(&s, NULL, REPLY_ACK | 1 << 16);
    vhu_frontend_ask(s.front, VHOST_USER_GET_STATUS, outcome_then(&outcome),
                     NULL);
    script_send(&s.back, "28000000 05000000 08000000 4f000000 00000000");
    session_until(&s, &outcome.calls, 1);
    g_assert_cmpint(outcome.result, ==, 0);
    g_assert_cmpuint(outcome.u64, ==, 0x4f);
    session_close(&s);
}

/* ---- IOTLB, shared objects ---- */

static void test_iotlb_update_and_invalidate(void)
{
    const VhuIotlbMsg update = {.iova = 0x1000,
                                .size = 0x2000,
                                .user_addr = 0x7f0020000000,
                                .perm = VHOST_ACCESS_RW,
                                .type = VHOST_IOTLB_UPDATE};
    const VhuIotlbMsg invalidate = {
        .iova = 0x1000, .size = 0x1000, .type = VHOST_IOTLB_INVALIDATE};
    Outcome first, second;
    Session s;

    session_start(&s, NULL, REPLY_ACK);
    vhu_frontend_iotlb(s.front, &update, outcome_then(&first), NULL);
    script_expect(&s.back, "16000000 01000000 20000000"
                           "00100000 00000000 00200000 00000000"
                           "00000020 007f0000 03020000 00000000");
    vhu_frontend_iotlb(s.front, &invalidate, outcome_then(&second), NULL);
    script_expect(&s.back, "16000000 01000000 20000000"
                           "00100000 00000000 00100000 00000000"
                           "00000000 00000000 00030000 00000000");
    script_send(&s.back, ACK("16000000"));
    script_send(&s.back, "16000000 05000000 08000000 01000000 00000000");
    session_until(&s, &second.calls, 1);
    g_assert_cmpint(first.result, ==, 0);
    g_assert_cmpint(second.result, ==, -EREMOTEIO);
    session_close(&s);
}

static int no_object(void *opaque, const VhuUuid *uuid)
{
    (void)opaque;
    (void)uuid;
    return 0;
}

static int no_lookup(void *opaque, const VhuUuid *uuid, int *fd)
{
    (void)opaque;
    (void)uuid;
    (void)fd;
    return -ENOENT;
}

static void test_shared_object(void)
{
    const VhuFrontendOps ops = {.shared_object_add = no_object,
                                .shared_object_remove = no_object,
                                .shared_object_lookup = no_lookup};
    const VhuUuid uuid = {
        .bytes = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15}};
    int object = memfd_create("object", MFD_CLOEXEC);
    Outcome found, unknown;
    Session s;

    session_start(&s, &ops, REPLY_ACK | 1 << 18);
    vhu_frontend_get_shared_object(s.front, &uuid, outcome_then(&found), NULL);
    vhu_frontend_get_shared_object(s.front, &uuid, outcome_then(&unknown),
                                   NULL);
    script_expect(&s.back, "29000000 01000000 10000000"
                           "00010203 04050607 08090a0b 0c0d0e0f");
    script_send_fds(&s.back, "29000000 05000000 00000000", &object, 1);
    script_send(&s.back, "29000000 05000000 00000000");
    session_until(&s, &unknown.calls, 1);
    g_assert_cmpint(found.result, ==, 0);
    g_assert_cmpint(unknown.result, ==, -EREMOTEIO);
    session_close(&s);
    close(object);
}

#define TEST(name, fn) g_test_add_func("/frontend/" name, fn)

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    TEST("vring/start-sends-all-of-it", test_start_sends_all_of_a_vring);
    TEST("vring/no-fd-is-said-so", test_no_fd_is_said_so);
    TEST("vring/guest-addresses-go-as-they-are",
         test_guest_addresses_go_as_they_are);
    TEST("vring/iovas-go-as-they-are", test_iovas_go_as_they_are);
    TEST("vring/address-outside-memory-is-told",
         test_address_outside_memory_is_told);
    TEST("vring/logging-is-switched-by-the-address",
         test_logging_is_switched_by_the_address);
    TEST("vring/enable-stop-and-kick", test_enable_stop_and_kick);
    TEST("vring/base-of-another-vring-is-wrong",
         test_base_of_another_vring_is_wrong);
    TEST("vring/single-fds", test_single_fds);
    TEST("config/set", test_set_config);
    TEST("status/is-no-refusal", test_status_is_no_refusal);
    TEST("iotlb/update-and-invalidate", test_iotlb_update_and_invalidate);
    TEST("shared-object/found-and-unknown", test_shared_object);
    return g_test_run();
}
