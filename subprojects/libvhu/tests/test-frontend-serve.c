/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Owns the tests of the back-end channel of a front-end session: requests of
 * the back end, their answers, and what ends the session.
 */
#include "tests/session.h"

#include <errno.h>
#include <linux/vhost_types.h>
#include <poll.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define YES(request) request " 05000000 08000000 00000000 00000000"
#define NO(request)  request " 05000000 08000000 01000000 00000000"

/* REPLY_ACK, BACKEND_REQ, CONFIG, BACKEND_SEND_FD, INBAND_NOTIFICATIONS,
 * SHARED_OBJECT, SHMEM */
#define ALL 0x444628u

/* What the owner heard last, and what it answers. */
static struct {
    unsigned calls;
    int result;
    uint64_t value;
    uint8_t perm;
    int fd;
    VhuUuid uuid;
    VhuShmemMap map;
    ino_t inode;
} heard;

static int on_miss(void *opaque, VhuGuestAddr iova, uint8_t perm)
{
    const VhuIotlbMsg update = {.iova = iova,
                                .size = 0x1000,
                                .user_addr = 0x7f0000000000,
                                .perm = perm,
                                .type = VHOST_IOTLB_UPDATE};
    Session *s = opaque;

    heard.calls++;
    heard.value = iova;
    heard.perm = perm;
    return heard.result ? heard.result
                        : vhu_frontend_iotlb(s->front, &update, NULL, NULL);
}

static int on_fault(void *opaque, VhuGuestAddr iova, uint8_t perm)
{
    (void)opaque;
    heard.calls++;
    heard.value = iova;
    heard.perm = perm;
    return 0;
}

static int on_config(void *opaque)
{
    (void)opaque;
    heard.calls++;
    return heard.result;
}

static int on_call(void *opaque, uint32_t index)
{
    (void)opaque;
    heard.calls++;
    heard.value = index;
    return heard.result;
}

static int on_object(void *opaque, const VhuUuid *uuid)
{
    (void)opaque;
    heard.calls++;
    heard.uuid = *uuid;
    return heard.result;
}

static int on_lookup(void *opaque, const VhuUuid *uuid, int *fd)
{
    (void)opaque;
    heard.calls++;
    heard.uuid = *uuid;
    *fd = heard.fd;
    return heard.result;
}

static int on_map(void *opaque, const VhuShmemMap *map, int fd)
{
    struct stat status;

    (void)opaque;
    heard.calls++;
    heard.map = *map;
    g_assert_cmpint(fstat(fd, &status), ==, 0);
    heard.inode = status.st_ino;
    return heard.result;
}

static int on_unmap(void *opaque, const VhuShmemMap *map)
{
    heard.map = *map;
    return on_config(opaque);
}

static const VhuFrontendOps all_ops = {
    .iotlb_miss = on_miss,
    .iotlb_fault = on_fault,
    .config_changed = on_config,
    .vring_call = on_call,
    .vring_err = on_call,
    .shared_object_add = on_object,
    .shared_object_remove = on_object,
    .shared_object_lookup = on_lookup,
    .shmem_map = on_map,
    .shmem_unmap = on_unmap,
};

static void start(Session *s)
{
    memset(&heard, 0, sizeof(heard));
    heard.fd = -1;
    session_start(s, &all_ops, ALL);
}

/* ---- each request ---- */

static void test_config_change(void)
{
    Session s;

    start(&s);
    script_send(&s.channel, "02000000 09000000 00000000");
    script_expect(&s.channel, YES("02000000"));
    g_assert_cmpuint(heard.calls, ==, 1);
    heard.result = -EIO;
    script_send(&s.channel, "02000000 09000000 00000000");
    script_expect(&s.channel, NO("02000000"));

    /* Not asked for an answer: heard, not answered. */
    script_send(&s.channel, "02000000 01000000 00000000");
    script_expect_silence(&s.channel);
    g_assert_cmpuint(heard.calls, ==, 3);
    g_assert_cmpuint(vhu_frontend_info(s.front)->counters.backend_requests, ==,
                     3);
    session_close(&s);
}

/* The update goes out on the one socket before the answer on the other. */
static void test_iotlb_miss(void)
{
    Session s;

    start(&s);
    script_send(&s.channel, "01000000 09000000 20000000"
                            "00500000 00000000 00000000 00000000"
                            "00000000 00000000 02010000 00000000");
    session_until(&s, &heard.calls, 1);
    script_expect(&s.back, "16000000 01000000 20000000"
                           "00500000 00000000 00100000 00000000"
                           "00000000 007f0000 02020000 00000000");
    script_expect(&s.channel, YES("01000000"));
    g_assert_cmphex(heard.value, ==, 0x5000);
    g_assert_cmpuint(heard.perm, ==, VHOST_ACCESS_WO);
    g_assert_cmpuint(vhu_frontend_info(s.front)->counters.iotlb_misses, ==, 1);
    session_close(&s);
}

static void test_iotlb_fault(void)
{
    Session s;

    start(&s);
    script_send(&s.channel, "01000000 09000000 20000000"
                            "00600000 00000000 00000000 00000000"
                            "00000000 00000000 01040000 00000000");
    script_expect(&s.channel, YES("01000000"));
    g_assert_cmphex(heard.value, ==, 0x6000);
    g_assert_cmpuint(heard.perm, ==, VHOST_ACCESS_RO);
    g_assert_cmpuint(vhu_frontend_info(s.front)->counters.iotlb_misses, ==, 0);
    session_close(&s);
}

static void test_inband_call_and_err(void)
{
    Session s;

    start(&s);
    script_send(&s.channel, "04000000 09000000 08000000 05000000 00000000");
    script_expect(&s.channel, YES("04000000"));
    g_assert_cmpuint(heard.value, ==, 5);
    script_send(&s.channel, "05000000 09000000 08000000 06000000 00000000");
    script_expect(&s.channel, YES("05000000"));
    g_assert_cmpuint(heard.value, ==, 6);
    session_close(&s);
}

#define UUID "00010203 04050607 08090a0b 0c0d0e0f"

static void test_shared_objects(void)
{
    Session s;
    int got;

    start(&s);
    script_send(&s.channel, "06000000 09000000 10000000" UUID);
    script_expect(&s.channel, YES("06000000"));
    g_assert_cmpuint(heard.uuid.bytes[15], ==, 15);
    script_send(&s.channel, "07000000 09000000 10000000" UUID);
    script_expect(&s.channel, YES("07000000"));
    g_assert_cmpuint(heard.calls, ==, 2);

    /* A lookup is answered whether it asks for it or not. */
    heard.fd = memfd_create("object", MFD_CLOEXEC);
    script_send(&s.channel, "08000000 01000000 10000000" UUID);
    script_expect(&s.channel, YES("08000000"));
    got = script_take_fd(&s.channel);
    g_assert_cmpint(lseek(got, 0, SEEK_END), ==, 0);
    close(got);
    heard.fd = -1;
    heard.result = -ENOENT;
    script_send(&s.channel, "08000000 01000000 10000000" UUID);
    script_expect(&s.channel, NO("08000000"));
    g_assert_cmpuint(s.channel.num_fds, ==, 0);
    session_close(&s);
}

static void test_shmem(void)
{
    int file = memfd_create("window", MFD_CLOEXEC);
    struct stat status;
    Session s;

    start(&s);
    script_send_fds(&s.channel,
                    "09000000 09000000 28000000 02000000 00000000"
                    "00100000 00000000 00200000 00000000"
                    "00300000 00000000 01000000 00000000",
                    &file, 1);
    script_expect(&s.channel, YES("09000000"));
    g_assert_cmpint(fstat(file, &status), ==, 0);
    g_assert_cmpuint(heard.inode, ==, status.st_ino);
    g_assert_cmpuint(heard.map.shmid, ==, 2);
    g_assert_cmphex(heard.map.fd_offset, ==, 0x1000);
    g_assert_cmphex(heard.map.shm_offset, ==, 0x2000);
    g_assert_cmphex(heard.map.size, ==, 0x3000);
    g_assert_cmphex(heard.map.flags, ==, 1);
    heard.result = -EEXIST;
    script_send(&s.channel, "0a000000 09000000 28000000 02000000 00000000"
                            "00000000 00000000 00200000 00000000"
                            "00300000 00000000 00000000 00000000");
    script_expect(&s.channel, NO("0a000000"));
    session_close(&s);
    close(file);
}

/* ---- answers that come later ---- */

static void test_deferred_answer_keeps_the_order(void)
{
    Session s;

    start(&s);
    heard.result = -EINPROGRESS;
    script_send(&s.channel, "08000000 01000000 10000000" UUID);
    script_send(&s.channel, "02000000 09000000 00000000");
    session_until(&s, &heard.calls, 1);
    script_expect_silence(&s.channel);
    g_assert_cmpuint(heard.calls, ==, 1);
    heard.result = 0;
    g_assert_cmpint(
        vhu_frontend_answer(s.front, 0, memfd_create("object", MFD_CLOEXEC)),
        ==, 0);
    script_expect(&s.channel, YES("08000000") YES("02000000"));
    close(script_take_fd(&s.channel));
    g_assert_cmpint(vhu_frontend_answer(s.front, 0, -1), ==, -ENOENT);
    session_close(&s);
}

/* While one waits, another that is there must not keep the owner awake. */
static void test_session_is_idle_while_an_answer_is_due(void)
{
    struct pollfd fd = {.events = POLLIN};
    Session s;

    start(&s);
    heard.result = -EINPROGRESS;
    script_send(&s.channel, "02000000 09000000 00000000");
    script_send(&s.channel, "02000000 09000000 00000000");
    session_until(&s, &heard.calls, 1);
    for (int i = 0; i < 5; i++) {
        vhu_frontend_dispatch(s.front);
    }
    fd.fd = vhu_frontend_fd(s.front);
    g_assert_cmpint(poll(&fd, 1, 0), ==, 0);
    session_close(&s);
}

/* An answer that comes too late goes nowhere, and leaks no fd. */
static void test_deferred_answer_after_the_end(void)
{
    Session s;

    start(&s);
    heard.result = -EINPROGRESS;
    script_send(&s.channel, "02000000 09000000 00000000");
    session_until(&s, &heard.calls, 1);
    script_close(&s.back);
    script_close(&s.channel);
    session_until(&s, &s.closed, 1);
    g_assert_cmpint(vhu_frontend_answer(s.front, 0, dup(0)), ==, -ENOENT);
    session_close(&s);
}

static void test_many_requests_are_all_served(void)
{
    g_autoptr(GString) hex = g_string_new(NULL);
    Session s;

    start(&s);
    for (int i = 0; i < 200; i++) {
        g_string_append(hex, "02000000 01000000 00000000");
    }
    script_send(&s.channel, hex->str);
    session_until(&s, &heard.calls, 200);
    session_close(&s);
}

/* ---- what is wrong ---- */

typedef struct Wrong {
    const char *name;
    uint64_t protocol;
    const char *bytes;
    const char *text;
} Wrong;

/* clang-format off */
static const Wrong wrongs[] = {
    {.name = "without-its-feature", .protocol = 0x28,
     .bytes = "0a000000 09000000 28000000 02000000 00000000"
              "00000000 00000000 00200000 00000000"
              "00300000 00000000 00000000 00000000",
     .text = "BACKEND_SHMEM_UNMAP needs VHOST_USER_PROTOCOL_F_SHMEM"},
    {.name = "host-notifier", .protocol = ALL,
     .bytes = "03000000 09000000 18000000 00010000 00000000"
              "00100000 00000000 00000000 00000000",
     .text = "VHOST_USER_PROTOCOL_F_HOST_NOTIFIER"},
    {.name = "map-without-fd", .protocol = ALL,
     .bytes = "09000000 09000000 28000000 02000000 00000000"
              "00000000 00000000 00200000 00000000"
              "00300000 00000000 00000000 00000000",
     .text = "fds"},
    {.name = "unknown-number", .protocol = ALL,
     .bytes = "63000000 09000000 00000000",
     .text = "99"},
    {.name = "a-reply", .protocol = ALL,
     .bytes = "02000000 05000000 08000000 00000000 00000000",
     .text = "back-end channel"},
    {.name = "too-long", .protocol = ALL,
     .bytes = "02000000 01000000 08000000 00000000 00000000",
     .text = "back-end channel"},
    {.name = "iotlb-update", .protocol = ALL,
     .bytes = "01000000 09000000 20000000 00600000 00000000 00000000 00000000"
              "00000000 00000000 01020000 00000000",
     .text = "type 2"},
};
/* clang-format on */

static void test_wrong_request_ends_the_session(gconstpointer data)
{
    const Wrong *wrong = data;
    Outcome outcome;
    Session s;

    memset(&heard, 0, sizeof(heard));
    session_start(&s, &all_ops, wrong->protocol);
    vhu_frontend_ask(s.front, VHOST_USER_GET_FEATURES, outcome_then(&outcome),
                     NULL);
    script_send(&s.channel, wrong->bytes);
    session_until(&s, &s.closed, 1);
    g_assert_cmpint(s.why.code, ==, EPROTO);
    if (!g_str_has_prefix(s.why.text, "front 'f0': back-end channel: ") ||
        !strstr(s.why.text, wrong->text)) {
        g_error("'%s' lacks '%s'", s.why.text, wrong->text);
    }
    g_assert_cmpint(outcome.result, ==, -EPROTO);
    g_assert_cmpuint(heard.calls, ==, 0);
    session_close(&s);
}

/* Closing the channel alone is no fault: there is no more to say. */
static void test_closed_channel_leaves_the_session(void)
{
    Outcome outcome;
    Session s;

    start(&s);
    script_close(&s.channel);
    session_turn(&s);
    vhu_frontend_ask(s.front, VHOST_USER_GET_FEATURES, outcome_then(&outcome),
                     NULL);
    script_expect(&s.back, "01000000 01000000 00000000");
    script_send(&s.back, "01000000 05000000 08000000 00000000 00000000");
    session_until(&s, &outcome.calls, 1);
    g_assert_cmpint(outcome.result, ==, 0);
    g_assert_cmpuint(s.closed, ==, 0);
    session_close(&s);
}

static void test_fd_without_its_feature_ends_the_session(void)
{
    const int fd = 0;
    Session s;

    memset(&heard, 0, sizeof(heard));
    session_start(&s, &all_ops, ALL & ~(1u << 10));
    script_send_fds(&s.channel,
                    "09000000 09000000 28000000 02000000 00000000"
                    "00100000 00000000 00200000 00000000"
                    "00300000 00000000 01000000 00000000",
                    &fd, 1);
    session_until(&s, &s.closed, 1);
    g_assert_cmpint(s.why.code, ==, EPROTO);
    g_assert_cmpstr(s.why.text, ==,
                    "front 'f0': back-end channel: 1 fds without "
                    "VHOST_USER_PROTOCOL_F_BACKEND_SEND_FD");
    g_assert_cmpuint(heard.calls, ==, 0);
    session_close(&s);
}

/* One that asks and never reads the answers is stopped, and heard again once
 * it reads: what it can make us queue is bounded. */
static void test_unread_answers_stop_the_channel(void)
{
    enum { REQUESTS = 20000 };
    g_autoptr(GString) hex = g_string_new(NULL);
    unsigned sent = 0;
    unsigned stuck;
    Session s;

    start(&s);
    for (int i = 0; i < 100; i++) {
        g_string_append(hex, "02000000 09000000 00000000");
    }
    do {
        stuck = heard.calls;
        for (int i = 0; i < 5 && sent < REQUESTS; i++) {
            script_send(&s.channel, hex->str);
            sent += 100;
        }
        for (int i = 0; i < 20; i++) {
            vhu_frontend_dispatch(s.front);
        }
    } while (heard.calls > stuck);
    g_assert_cmpuint(heard.calls, <, sent);
    for (unsigned i = 0; i < sent; i++) {
        script_expect(&s.channel, YES("02000000"));
    }
    g_assert_cmpuint(heard.calls, ==, sent);
    g_assert_cmpuint(s.closed, ==, 0);
    session_close(&s);
}

#define TEST(name, fn) g_test_add_func("/frontend/serve/" name, fn)

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    TEST("config-change", test_config_change);
    TEST("iotlb-miss", test_iotlb_miss);
    TEST("iotlb-fault", test_iotlb_fault);
    TEST("inband-call-and-err", test_inband_call_and_err);
    TEST("shared-objects", test_shared_objects);
    TEST("shmem", test_shmem);
    TEST("deferred-answer-keeps-the-order",
         test_deferred_answer_keeps_the_order);
    TEST("idle-while-an-answer-is-due",
         test_session_is_idle_while_an_answer_is_due);
    TEST("deferred-answer-after-the-end", test_deferred_answer_after_the_end);
    TEST("many-requests-are-all-served", test_many_requests_are_all_served);
    TEST("closed-channel-leaves-the-session",
         test_closed_channel_leaves_the_session);
    TEST("wrong/fd-without-its-feature",
         test_fd_without_its_feature_ends_the_session);
    TEST("unread-answers-stop-the-channel",
         test_unread_answers_stop_the_channel);
    for (unsigned i = 0; i < G_N_ELEMENTS(wrongs); i++) {
        g_autofree char *path =
            g_strdup_printf("/frontend/serve/wrong/%s", wrongs[i].name);

        g_test_add_data_func(path, &wrongs[i],
                             test_wrong_request_ends_the_session);
    }
    return g_test_run();
}
