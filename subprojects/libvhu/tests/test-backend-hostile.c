/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Owns the tests of front ends that break the protocol, byte by byte: what
 * cannot be answered ends that connection, all fds go with it, and others are
 * served as before. And of those that read late, or die at a bad moment.
 */
#include "tests/script.h"
#include "tests/toy.h"

#include <errno.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

typedef struct Hostile {
    const char *name;
    const char *bytes;
    unsigned num_fds; /* sent with the first byte */
    int code;         /* the connection ends with; 0: it goes on */
} Hostile;

/* Protocol features of the tests: REPLY_ACK, CONFIG, INFLIGHT_SHMFD,
 * CONFIGURE_MEM_SLOTS. */
#define FEATURES "10000000 01000000 08000000 08920000 00000000"

/* clang-format off */
static const Hostile hostile[] = {
    /* The header. */
    {"request-0", "00000000 01000000 00000000", 0, EPROTO},
    {"request-45", "2d000000 01000000 00000000", 0, EPROTO},
    {"request-beyond-all", "ffffffff 01000000 00000000", 0, EPROTO},
    {"version-0", "01000000 00000000 00000000", 0, EPROTO},
    {"version-2", "01000000 02000000 00000000", 0, EPROTO},
    {"reply-flag", "01000000 05000000 00000000", 0, EPROTO},
    {"payload-where-none-is-due", "01000000 01000000 08000000"
     "00000000 00000000", 0, EPROTO},
    {"no-payload-where-one-is-due", "02000000 01000000 00000000", 0, EPROTO},
    {"payload-of-4-gigabytes", "19000000 01000000 ffffffff", 0, EPROTO},
    {"payload-one-too-long", "19000000 01000000 0d100000", 0, EPROTO},

    /* Fds. */
    {"fd-where-none-is-due", "01000000 01000000 00000000", 1, EPROTO},
    {"no-fd-where-one-is-due", "07000000 01000000 00000000", 0, EPROTO},
    {"nine-fds", "05000000 01000000 08000000 00000000 00000000", 9, EPROTO},
    {"kick-with-fd-and-no-fd-flag", "0c000000 01000000 08000000"
     "00010000 00000000", 1, EPROTO},
    {"kick-without-either", "0c000000 01000000 08000000 00000000 00000000", 0,
     EPROTO},
    {"table-with-too-few-fds", "05000000 09000000 48000000 02000000 00000000"
     "00000000 00000000 00100000 00000000 00000000 00000000 00000000 00000000"
     "00100000 00000000 00100000 00000000 00100000 00000000 00000000 00000000",
     1, EPROTO},

    /* Payloads. */
    {"table-of-nine", "05000000 09000000 08000000 09000000 00000000", 0,
     EPROTO},
    {"table-that-lies", "05000000 09000000 28000000 02000000 00000000"
     "00000000 00000000 00100000 00000000 00000000 00000000 00000000 00000000",
     2, EPROTO},
    {"config-that-lies", "18000000 01000000 10000000"
     "00000000 08000000 00000000 00000000", 0, EPROTO},
    {"config-past-all", "18000000 01000000 0c000000"
     "ffffffff 01000000 00000000", 0, EPROTO},
    {"vring-256", "08000000 09000000 08000000 00010000 40000000", 0, EPROTO},
    {"enable-2", "12000000 09000000 08000000 00000000 02000000", 0, EPROTO},
    {"base-asked-with-num", "0b000000 01000000 08000000 00000000 01000000", 0,
     EPROTO},
    {"address-with-unknown-flags", "09000000 09000000 28000000"
     "00000000 02000000 00000000 00000000 00000000 00000000"
     "00000000 00000000 00000000 00000000", 0, EPROTO},
    {"kick-with-unknown-bits", "0c000000 09000000 08000000 00030000 00000000",
     0, EPROTO},

    /* What was not negotiated: refused if there is a way to, else the end. */
    {"status-without-its-feature", "28000000 01000000 00000000", 0, EPROTO},
    {"state-without-its-feature", "2b000000 01000000 00000000", 0, EPROTO},
    {"crypto-session", "1b000000 01000000 08000000 00000000 00000000", 0,
     EPROTO},
    {"endianness", "17000000 01000000 08000000 00000000 00000000", 0, EPROTO},

    /* Legal, and refused without a way to say so. */
    {"features-not-offered", "02000000 01000000 08000000 00000000 00000080", 0,
     EINVAL},
    {"kick-of-a-ring-without-size", "0c000000 01000000 08000000"
     "00010000 00000000", 0, EINVAL},
    {"inflight-of-no-queues", "1f000000 01000000 14000000"
     "00000000 00000000 00000000 00000000 00004000", 0, EINVAL},

    /* Legal, and answered. */
    {"end-of-postcopy-without-its-feature", "1e000000 01000000 00000000", 0,
     EPROTO},
    {"config-past-the-device's-is-zeroes", "18000000 01000000 0c000000"
     "fe0f0000 01000000 00000000", 0, 0},
};
/* clang-format on */

static void turn_toy(void *opaque)
{
    vhu_loop_dispatch(toy_loop(opaque), 2);
}

static void test_hostile(gconstpointer data)
{
    const Hostile *test = data;
    int fds[16];
    unsigned before;
    Script front;
    Rig *rig;
    Toy *toy = toy_new(NULL);

    rig = toy_rig(toy, NULL);
    rig_start(rig);
    toy_round_trip(rig, 0, 100);
    toy_idle(toy);
    before = rig_count_fds(0);

    script_open(&front, toy_connect(toy), turn_toy, toy);
    script_send(&front, FEATURES);
    for (unsigned i = 0; i < test->num_fds; i++) {
        fds[i] = memfd_create("spare", MFD_CLOEXEC);
    }
    script_send_fds(&front, test->bytes, fds, test->num_fds);
    for (unsigned i = 0; i < test->num_fds; i++) {
        close(fds[i]);
    }
    if (test->code) {
        script_expect_end(&front);
        toy_wait_ended(toy, 1);
        g_assert_cmpint(toy_last_end(toy)->code, ==, test->code);
        g_assert_cmpstr(toy_last_end(toy)->text, !=, "");
    } else {
        toy_idle(toy);
        g_assert_cmpuint(toy_num_ended(toy), ==, 0);
    }
    script_close(&front);
    toy_wait_ended(toy, 1);
    toy_round_trip(rig, 0, 100);
    toy_idle(toy);
    g_assert_cmpuint(rig_count_fds(0), ==, before);
    rig_free(rig);
    toy_free(toy);
}

/* ---- not all at once, or not at all ---- */

static void test_message_byte_by_byte(void)
{
    const char *const bytes[] = {"01", "00", "00", "00", "01", "00",
                                 "00", "00", "00", "00", "00", "00"};
    Toy *toy = toy_new(NULL);
    Script front;

    script_open(&front, toy_connect(toy), turn_toy, toy);
    for (int round = 0; round < 3; round++) {
        for (unsigned i = 0; i < G_N_ELEMENTS(bytes); i++) {
            script_send(&front, bytes[i]);
            toy_idle(toy);
        }
        g_free(script_receive(&front, 20));
    }
    script_close(&front);
    toy_free(toy);
}

/* An fd with any byte but the first is not the message's. */
static void test_fd_with_a_later_byte(void)
{
    int fd = memfd_create("spare", MFD_CLOEXEC);
    Toy *toy = toy_new(NULL);
    unsigned before = rig_count_fds(0);
    Script front;

    script_open(&front, toy_connect(toy), turn_toy, toy);
    script_send(&front, "07");
    script_send_fds(&front, "000000 01000000 00000000", &fd, 1);
    toy_wait_ended(toy, 1);
    g_assert_cmpint(toy_last_end(toy)->code, ==, EPROTO);
    script_close(&front);
    toy_idle(toy);
    g_assert_cmpuint(rig_count_fds(0), ==, before);
    close(fd);
    toy_free(toy);
}

/* Gone in the middle of each message, at each byte, with an fd on the way. */
static void test_gone_inside_a_message(void)
{
    const char *const message =
        "050000000100000028000000010000000000000000000000"
        "000000000010000000000000000000000000000000000000";
    Toy *toy = toy_new(NULL);
    unsigned before = rig_count_fds(0);
    unsigned ended = 0;

    for (size_t bytes = 1; bytes < strlen(message) / 2; bytes++) {
        g_autofree char *part = g_strndup(message, 2 * bytes);
        int fd = memfd_create("spare", MFD_CLOEXEC);
        Script front;

        script_open(&front, toy_connect(toy), turn_toy, toy);
        script_send_fds(&front, part, &fd, 1);
        close(fd);
        if (bytes % 3 == 0) {
            turn_toy(toy);
        }
        script_close(&front);
        toy_wait_ended(toy, ++ended);
    }
    toy_idle(toy);
    g_assert_cmpuint(rig_count_fds(0), ==, before);
    toy_free(toy);
}

/* A front end that asks and never reads is cut off, or at least held: what it
 * can make us keep is bounded. */
static void test_front_end_that_never_reads(void)
{
    Toy *toy = toy_new(NULL);
    Rig *rig = toy_rig(toy, NULL);
    unsigned before_kib;
    Script front;
    ssize_t sent = 1;

    rig_start(rig);
    script_open(&front, toy_connect(toy), turn_toy, toy);
    before_kib = rig_anonymous_kib(0);
    for (int i = 0; i < 2000 && sent > 0; i++) {
        uint8_t bytes[12] = {1, 0, 0, 0, 1};

        for (int j = 0; j < 100 && sent > 0; j++) {
            sent = send(front.fd, bytes, sizeof(bytes),
                        MSG_DONTWAIT | MSG_NOSIGNAL);
        }
        vhu_loop_dispatch(toy_loop(toy), 0);
    }
    g_assert_cmpint(sent, <, 0);
    if (rig_memory_is_plain()) {
        g_assert_cmpuint(rig_anonymous_kib(0), <, before_kib + 4096);
    }
    toy_round_trip(rig, 0, 100);
    script_close(&front);
    toy_wait_ended(toy, 1);
    rig_free(rig);
    toy_free(toy);
}

#define FEATURES_REPLY_BYTES 20u

/* Bytes that are there to be read. */
static size_t readable(const Script *front)
{
    int bytes;

    g_assert_cmpint(ioctl(front->fd, FIONREAD, &bytes), ==, 0);
    return (size_t)bytes;
}

/* Ask for features, and let the back end answer as far as it can. */
static void ask(Toy *toy, Script *front)
{
    script_send(front, "01000000 01000000 00000000");
    turn_toy(toy);
}

/* Replies the socket does not take are kept until it does. */
static void test_front_end_that_reads_late(void)
{
    Toy *toy = toy_new(NULL);
    g_autofree uint8_t *replies = NULL;
    size_t asked = 0;
    Script front;

    script_open(&front, toy_connect(toy), turn_toy, toy);
    while (readable(&front) == asked * FEATURES_REPLY_BYTES) {
        ask(toy, &front);
        asked++;
    }
    for (int i = 0; i < 50; i++) {
        ask(toy, &front);
        asked++;
    }
    toy_idle(toy);
    g_assert_cmpuint(readable(&front), <, asked * FEATURES_REPLY_BYTES);

    replies = script_receive(&front, asked * FEATURES_REPLY_BYTES);
    for (size_t i = 1; i < asked; i++) {
        g_assert_cmpmem(replies, FEATURES_REPLY_BYTES,
                        replies + i * FEATURES_REPLY_BYTES,
                        FEATURES_REPLY_BYTES);
    }
    script_expect_silence(&front);
    g_assert_cmpuint(toy_num_ended(toy), ==, 0);
    script_close(&front);
    toy_free(toy);
}

/* Its end is noticed at once, though nothing of it is read meanwhile; what
 * the device holds keeps the rest until it is back. */
static void test_front_end_that_dies_while_a_ring_stops(void)
{
    const ToyConfig config = {.hold = true, .stop = TOY_STOP_HANG};
    Toy *toy = toy_new(&config);
    Rig *rig = toy_rig(toy, NULL);
    VhuWait wait;

    rig_start(rig);
    toy_submit(rig, 0);
    toy_wait_held(toy, 1);
    g_assert_cmpint(vhu_frontend_stop_vring(rig_session(rig), 0,
                                            vhu_wait_then(&wait), &wait.err),
                    ==, 0);
    toy_idle(toy);
    g_assert_false(wait.done);
    g_assert_cmpuint(toy_num_ended(toy), ==, 0);
    rig_disconnect(rig);
    toy_wait_ended(toy, 1);
    g_assert_cmpint(toy_last_end(toy)->code, ==, 0);
    g_assert_cmpuint(toy_held(toy), ==, 1);
    g_assert_cmpuint(vhu_backend_num_alive(toy_backend(toy)), ==, 1);
    toy_release(toy);
    toy_wait_gone(toy);
    rig_free(rig);
    toy_free(toy);
}

#define PATH           "/backend/hostile/"
#define TEST(name, fn) g_test_add_func(PATH name, fn)

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    for (unsigned i = 0; i < G_N_ELEMENTS(hostile); i++) {
        g_autofree char *path =
            g_strdup_printf(PATH "message/%s", hostile[i].name);

        g_test_add_data_func(path, &hostile[i], test_hostile);
    }
    TEST("message-byte-by-byte", test_message_byte_by_byte);
    TEST("fd-with-a-later-byte", test_fd_with_a_later_byte);
    TEST("gone-inside-a-message", test_gone_inside_a_message);
    TEST("front-end-that-never-reads", test_front_end_that_never_reads);
    TEST("front-end-that-reads-late", test_front_end_that_reads_late);
    TEST("front-end-that-dies-while-a-ring-stops",
         test_front_end_that_dies_while_a_ring_stops);
    return g_test_run();
}
