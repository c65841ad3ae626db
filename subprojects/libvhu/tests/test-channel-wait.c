/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Owns the tests of a channel that waits, traces, or has lost its peer.
 */
#include "vhu/channel.h"
#include "tests/channel-rig.h"
#include "tests/message-vectors.h"

#include <errno.h>
#include <glib.h>
#include <sys/socket.h>
#include <unistd.h>

static const VhuWire frontend_wire = {.direction = VHU_FROM_FRONTEND};

/* The reply to GET_FEATURES. */
static const char *const features_hex =
    "01000000 05000000 08000000 0000007001000000";

static void reply_features(const Rig *rig)
{
    uint8_t bytes[20];

    peer_send(rig, bytes, hex_to_bytes(features_hex, bytes, sizeof(bytes)),
              NULL, 0);
}

/* Were there a SIGPIPE, this program would be gone. */
static void test_a_gone_peer_is_an_error_and_no_signal(void)
{
    Rig rig = rig_open(&frontend_wire, true);
    VhuMessage msg = {.request = VHOST_USER_SET_OWNER};
    VhuMessage reply;
    VhuError err = {0};

    reply_features(&rig);
    close(rig.peer);
    rig.peer = -1;
    for (int i = 0; i < 2; i++) {
        err = (VhuError){0};
        g_assert_cmpint(vhu_channel_send(rig.channel, &msg, &err), ==, -EPIPE);
        g_assert_cmpstr(err.text, ==, "the peer no longer receives");
    }
    g_assert_cmpint(vhu_channel_flush(rig.channel, NULL), ==, -EPIPE);
    /* What it sent before it went is not lost. */
    g_assert_cmpint(vhu_channel_wait(rig.channel, -1, &reply, NULL), ==, 0);
    g_assert_cmphex(reply.payload.u64, ==, 0x170000000);
    err = (VhuError){0};
    g_assert_cmpint(vhu_channel_wait(rig.channel, -1, &reply, &err), ==,
                    -EPIPE);
    g_assert_cmpstr(err.text, ==, "the peer no longer receives");
    rig_close(&rig);
}

/* It may still talk: waiting for it must not last until the deadline. */
static void test_wait_ends_when_the_peer_stops_receiving(void)
{
    Rig rig = rig_open(&frontend_wire, true);
    VhuMessage msg = {.request = VHOST_USER_GET_FEATURES};

    g_assert_cmpint(shutdown(rig.peer, SHUT_RD), ==, 0);
    g_assert_cmpint(vhu_channel_send(rig.channel, &msg, NULL), ==, -EPIPE);
    g_assert_cmpint(vhu_channel_wait(rig.channel, -1, &msg, NULL), ==, -EPIPE);
    rig_close(&rig);
}

static void test_wait_ends_at_its_deadline(void)
{
    Rig rig = rig_open(&frontend_wire, true);
    uint8_t bytes[5] = {VHOST_USER_GET_FEATURES, 0, 0, 0, 5};
    VhuMessage msg;
    VhuError err = {0};
    int64_t start = vhu_now_ms();

    peer_send(&rig, bytes, sizeof(bytes), NULL, 0);
    g_assert_cmpint(vhu_channel_wait(rig.channel, start + 30, &msg, &err), ==,
                    -ETIMEDOUT);
    g_assert_cmpstr(err.text, ==, "no message in time, 5 bytes of one came");
    g_assert_cmpint(vhu_now_ms(), >=, start + 30);
    /* The channel lives: the rest of the message may still come. */
    g_assert_cmpint(vhu_channel_wait(rig.channel, 0, &msg, NULL), ==,
                    -ETIMEDOUT);
    g_assert_cmpint(vhu_channel_receive(rig.channel, &msg, NULL), ==, 0);
    rig_close(&rig);
}

static gpointer answer_byte_by_byte(gpointer opaque)
{
    const Rig *rig = opaque;
    uint8_t bytes[20];
    uint8_t request[12];
    size_t size = hex_to_bytes(features_hex, bytes, sizeof(bytes));

    g_assert_cmpint(read(rig->peer, request, sizeof(request)), ==, 12);
    for (size_t i = 0; i < size; i++) {
        peer_send(rig, bytes + i, 1, NULL, 0);
    }
    return NULL;
}

static void test_wait_sends_what_is_queued_and_takes_the_reply(void)
{
    Rig rig = rig_open(&frontend_wire, true);
    GThread *peer = g_thread_new("peer", answer_byte_by_byte, &rig);
    VhuMessage request = {.request = VHOST_USER_GET_FEATURES};
    VhuMessage msg;
    VhuError err = {0};

    faults.send_limited = true;
    g_assert_cmpint(vhu_channel_send(rig.channel, &request, NULL), ==, 0);
    g_assert_true(vhu_channel_wants_write(rig.channel));
    faults.send_limited = false;
    vhu_channel_wait(rig.channel, vhu_now_ms() + 10000, &msg, &err);
    g_assert_cmpstr(err.text, ==, "");
    g_assert_cmphex(msg.payload.u64, ==, 0x170000000);
    g_thread_join(peer);
    rig_close(&rig);
}

/* What the peer of the next test has to read before it answers. */
typedef struct Backlog {
    Rig rig;
    size_t bytes;
} Backlog;

static gpointer read_all_then_answer(gpointer opaque)
{
    Backlog *backlog = opaque;
    uint8_t bytes[4096];

    while (backlog->bytes) {
        ssize_t count =
            read(backlog->rig.peer, bytes, MIN(backlog->bytes, sizeof(bytes)));

        g_assert_cmpint(count, >, 0);
        backlog->bytes -= (size_t)count;
    }
    reply_features(&backlog->rig);
    return NULL;
}

static void test_wait_goes_on_sending_a_long_queue(void)
{
    Backlog backlog = {.rig = rig_open(&frontend_wire, true)};
    VhuChannel *channel = backlog.rig.channel;
    VhuMessage request = {.request = VHOST_USER_GET_FEATURES};
    VhuMessage msg;
    VhuError err = {0};
    GThread *peer;

    while (vhu_channel_send(channel, &request, NULL) == 0) {
        backlog.bytes += VHU_HEADER_BYTES;
    }
    peer = g_thread_new("peer", read_all_then_answer, &backlog);
    vhu_channel_wait(channel, vhu_now_ms() + 10000, &msg, &err);
    g_assert_cmpstr(err.text, ==, "");
    g_assert_false(vhu_channel_wants_write(channel));
    g_thread_join(peer);
    rig_close(&backlog.rig);
}

static void append_trace(void *opaque, bool sent, const VhuWire *wire,
                         const VhuMessage *msg)
{
    char text[128];

    g_string_append_printf(opaque, "%c%s\n", sent ? '>' : '<',
                           vhu_message_print(wire, msg, text, sizeof(text)));
}

static void test_the_trace_sees_whole_messages_only(void)
{
    Rig rig = rig_open(&frontend_wire, true);
    g_autoptr(GString) lines = g_string_new(NULL);
    VhuMessage msg = {.request = VHOST_USER_GET_FEATURES};
    uint8_t byte = VHOST_USER_GET_FEATURES;

    vhu_channel_set_trace(rig.channel, append_trace, lines);
    g_assert_cmpint(vhu_channel_send(rig.channel, &msg, NULL), ==, 0);
    reply_features(&rig);
    g_assert_cmpint(vhu_channel_receive(rig.channel, &msg, NULL), ==, 1);
    peer_send(&rig, &byte, 1, NULL, 0);
    g_assert_cmpint(vhu_channel_receive(rig.channel, &msg, NULL), ==, 0);
    msg.request = 45;
    g_assert_cmpint(vhu_channel_send(rig.channel, &msg, NULL), ==, -EINVAL);
    g_assert_cmpstr(lines->str, ==,
                    ">GET_FEATURES fds=[]\n"
                    "<GET_FEATURES reply u64=0x170000000 fds=[]\n");
    rig_close(&rig);
}

#define ADD(name, fn) g_test_add_func("/channel/" name, fn)

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    ADD("a-gone-peer-is-an-error-and-no-signal",
        test_a_gone_peer_is_an_error_and_no_signal);
    ADD("wait/ends-when-the-peer-stops-receiving",
        test_wait_ends_when_the_peer_stops_receiving);
    ADD("wait/ends-at-its-deadline", test_wait_ends_at_its_deadline);
    ADD("wait/sends-what-is-queued-and-takes-the-reply",
        test_wait_sends_what_is_queued_and_takes_the_reply);
    ADD("wait/goes-on-sending-a-long-queue",
        test_wait_goes_on_sending_a_long_queue);
    ADD("the-trace-sees-whole-messages-only",
        test_the_trace_sees_whole_messages_only);
    return g_test_run();
}
