/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Owns the tests of a channel that sends, waits and traces: whole messages
 * whatever the socket takes, bounded queues, deadlines, no signal.
 */
#include "vhu/channel.h"
#include "tests/channel-rig.h"
#include "tests/message-vectors.h"

#include <errno.h>
#include <glib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#define ROOM (VHU_HEADER_BYTES + VHU_MAX_PAYLOAD_BYTES)

static const VhuWire frontend_wire = {.direction = VHU_FROM_FRONTEND};

/* The reply to GET_FEATURES. */
static const char *const features_hex =
    "01000000 05000000 08000000 0000007001000000";

static VhuMessage table_message(const int *fds)
{
    return (VhuMessage){
        .request = VHOST_USER_SET_MEM_TABLE,
        .kind = VHU_PAYLOAD_MEM_TABLE,
        .payload.table =
            {
                .num_regions = 2,
                .regions =
                    {
                        {.size = 0xf0000, .user_addr = 0x7fbbaae00000},
                        {.guest_addr = 0x100000,
                         .size = 0x3ff00000,
                         .user_addr = 0x7fbbaaf00000,
                         .mmap_offset = 0x100000},
                    },
            },
        .num_fds = 2,
        .fds = {fds[0], fds[1]},
    };
}

static VhuMessage num_message(uint32_t num)
{
    return (VhuMessage){
        .request = VHOST_USER_SET_VRING_NUM,
        .kind = VHU_PAYLOAD_VRING_STATE,
        .payload.state = {.index = 2, .num = num},
    };
}

/* The peer reads the table whole, its two fds with its first byte. */
static void expect_table(Rig *rig, const int *want_fds)
{
    uint8_t want[TABLE_BYTES];
    uint8_t bytes[TABLE_BYTES];
    int fds[VHU_MAX_FDS];
    uint32_t num_fds;

    hex_to_bytes(table_hex, want, sizeof(want));
    g_assert_cmpint(peer_receive(rig, bytes, 1, fds, &num_fds), ==, 1);
    g_assert_cmpuint(num_fds, ==, 2);
    for (unsigned i = 0; i < 2; i++) {
        g_assert_true(same_file(fds[i], want_fds[i]));
        close(fds[i]);
    }
    g_assert_cmpint(
        peer_receive(rig, bytes + 1, TABLE_BYTES - 1, NULL, &num_fds), ==,
        TABLE_BYTES - 1);
    g_assert_cmpmem(bytes, sizeof(bytes), want, sizeof(want));
}

static void expect_no_bytes(Rig *rig)
{
    uint8_t byte;

    g_assert_cmpint(peer_receive(rig, &byte, 1, NULL, NULL), ==, -1);
}

static void check_vector_is_sent(const Vector *vector)
{
    bool requester = !(vector->want.flags & VHU_FLAG_REPLY);
    Rig rig = rig_open(&vector->wire, requester);
    g_autofree VhuMessage *msg = g_memdup2(&vector->want, sizeof(*msg));
    uint8_t want[ROOM];
    uint8_t bytes[ROOM];
    int fds[VHU_MAX_FDS];
    uint32_t num_fds;
    int fd = spare_fd();
    VhuError err = {0};

    msg->num_fds = vector->fds_min;
    for (uint32_t i = 0; i < msg->num_fds; i++) {
        msg->fds[i] = fd;
    }
    vhu_channel_send(rig.channel, msg, &err);
    g_assert_cmpstr(err.text, ==, "");
    g_assert_false(vhu_channel_wants_write(rig.channel));
    g_assert_cmpmem(
        bytes, (size_t)peer_receive(&rig, bytes, sizeof(bytes), fds, &num_fds),
        want, vector_bytes(vector, want));
    g_assert_cmpuint(num_fds, ==, vector->fds_min);
    for (uint32_t i = 0; i < num_fds; i++) {
        g_assert_true(same_file(fds[i], fd));
        close(fds[i]);
    }
    close(fd);
    rig_close(&rig);
}

static void test_every_message_is_sent(void)
{
    const Vector *vector;

    for (unsigned i = 0; (vector = message_vector(i)); i++) {
        if (!vector->decode_only) {
            g_test_message("%s", vector->print);
            check_vector_is_sent(vector);
        }
    }
}

static void test_a_full_socket_may_cut_anywhere(void)
{
    int fds[2] = {spare_fd(), spare_fd()};
    VhuMessage msg = table_message(fds);

    for (size_t cut = 0; cut < TABLE_BYTES; cut++) {
        Rig rig = rig_open(&frontend_wire, true);

        faults.send_limited = true;
        faults.send_budget = cut;
        g_assert_cmpint(vhu_channel_send(rig.channel, &msg, NULL), ==, 0);
        g_assert_true(vhu_channel_wants_write(rig.channel));
        g_assert_cmpint(vhu_channel_flush(rig.channel, NULL), ==, 1);
        faults.send_limited = false;
        faults.interrupts = 2;
        g_assert_cmpint(vhu_channel_flush(rig.channel, NULL), ==, 0);
        g_assert_false(vhu_channel_wants_write(rig.channel));
        expect_table(&rig, fds);
        expect_no_bytes(&rig);
        rig_close(&rig);
    }
    close_both(fds);
}

static void test_short_and_interrupted_writes_are_continued(void)
{
    int fds[2] = {spare_fd(), spare_fd()};
    VhuMessage msg = table_message(fds);

    for (size_t most = 1; most < TABLE_BYTES; most++) {
        Rig rig = rig_open(&frontend_wire, true);

        faults.send_most = most;
        faults.interrupts = 3;
        g_assert_cmpint(vhu_channel_send(rig.channel, &msg, NULL), ==, 0);
        g_assert_cmpint(vhu_channel_flush(rig.channel, NULL), ==, 0);
        expect_table(&rig, fds);
        expect_no_bytes(&rig);
        rig_close(&rig);
    }
    close_both(fds);
}

static void test_queued_fds_outlive_the_callers(void)
{
    Rig rig = rig_open(&frontend_wire, true);
    int fds[2] = {spare_fd(), spare_fd()};
    int witness[2] = {dup(fds[0]), dup(fds[1])};
    VhuMessage msg = table_message(fds);

    faults.send_limited = true;
    g_assert_cmpint(vhu_channel_send(rig.channel, &msg, NULL), ==, 0);
    g_assert_cmpint(vhu_channel_send(rig.channel, &msg, NULL), ==, 0);
    close_both(fds);
    faults.send_limited = false;
    g_assert_cmpint(vhu_channel_flush(rig.channel, NULL), ==, 0);
    expect_table(&rig, witness);
    expect_table(&rig, witness);
    close_both(witness);
    rig_close(&rig);
}

static void test_what_is_queued_can_be_dropped(void)
{
    Rig rig = rig_open(&frontend_wire, true);
    int fds[2] = {spare_fd(), spare_fd()};
    VhuMessage msg = table_message(fds);

    faults.send_limited = true;
    faults.send_budget = TABLE_BYTES + 1;
    for (int i = 0; i < 20; i++) {
        g_assert_cmpint(vhu_channel_send(rig.channel, &msg, NULL), ==, 0);
    }
    close_both(fds);
    rig_close(&rig);
}

/* A peer that stops reading: real socket buffers, then the queue, then no. */
static void test_the_queue_is_bounded_and_keeps_its_order(void)
{
    Rig rig = rig_open(&frontend_wire, true);
    VhuMessage msg = num_message(0);
    VhuError err = {0};
    uint8_t bytes[20];
    uint32_t count = 0;

    while (vhu_channel_send(rig.channel, &msg, &err) == 0) {
        msg.payload.state.num = ++count;
        g_assert_cmpuint(count, <, 1000000);
    }
    g_assert_cmpint(err.code, ==, ENOBUFS);
    g_assert_cmpuint(err.value, ==, VHU_CHANNEL_QUEUE_BYTES / 20 * 20);
    g_assert_nonnull(strstr(err.text, "the peer does not read: 262140 bytes"));
    g_assert_cmpint(vhu_channel_send(rig.channel, &msg, NULL), ==, -ENOBUFS);

    for (uint32_t i = 0; i < count; i++) {
        uint32_t num;

        if (peer_receive(&rig, bytes, 20, NULL, NULL) < 0) {
            g_assert_cmpint(vhu_channel_flush(rig.channel, NULL), >=, 0);
            g_assert_cmpint(peer_receive(&rig, bytes, 20, NULL, NULL), ==, 20);
        }
        memcpy(&num, bytes + 16, sizeof(num));
        g_assert_cmpuint(num, ==, i);
    }
    g_assert_false(vhu_channel_wants_write(rig.channel));
    g_assert_cmpint(vhu_channel_send(rig.channel, &msg, NULL), ==, 0);
    rig_close(&rig);
}

static void test_queued_fds_are_bounded(void)
{
    const struct rlimit enough = {.rlim_cur = 4096, .rlim_max = 4096};
    struct rlimit before;
    Rig rig;
    int fds[2];
    VhuMessage msg;
    VhuError err = {0};
    unsigned count = 0;

    g_assert_cmpint(getrlimit(RLIMIT_NOFILE, &before), ==, 0);
    if (before.rlim_max < enough.rlim_cur) {
        g_test_skip("fewer than 4096 fds are allowed here");
        return;
    }
    g_assert_cmpint(
        setrlimit(RLIMIT_NOFILE, &(struct rlimit){.rlim_cur = enough.rlim_cur,
                                                  .rlim_max = before.rlim_max}),
        ==, 0);
    rig = rig_open(&frontend_wire, true);
    fds[0] = spare_fd();
    fds[1] = spare_fd();
    msg = table_message(fds);
    faults.send_limited = true;
    while (vhu_channel_send(rig.channel, &msg, &err) == 0) {
        count++;
        g_assert_cmpuint(count, <, 4096);
    }
    g_assert_cmpint(err.code, ==, ENOBUFS);
    g_assert_cmpuint(count * 2, ==, VHU_CHANNEL_QUEUE_FDS);
    g_assert_nonnull(strstr(err.text, "1024 fds are queued"));
    close_both(fds);
    rig_close(&rig);
    g_assert_cmpint(setrlimit(RLIMIT_NOFILE, &before), ==, 0);
}

static void test_without_room_for_duplicates_nothing_is_queued(void)
{
    Rig rig = rig_open(&frontend_wire, true);
    int fds[2] = {spare_fd(), spare_fd()};
    VhuMessage msg = table_message(fds);
    struct rlimit before;
    struct rlimit now;
    VhuError err = {0};

    faults.send_limited = true;
    g_assert_cmpint(getrlimit(RLIMIT_NOFILE, &before), ==, 0);
    now = before;
    /* Room for one of the two. */
    now.rlim_cur = (rlim_t)fds[1] + 2;
    g_assert_cmpint(setrlimit(RLIMIT_NOFILE, &now), ==, 0);
    g_assert_cmpint(vhu_channel_send(rig.channel, &msg, &err), ==, -EMFILE);
    g_assert_cmpint(setrlimit(RLIMIT_NOFILE, &before), ==, 0);
    g_assert_nonnull(strstr(err.text, "duplicating fd "));
    g_assert_false(vhu_channel_wants_write(rig.channel));
    close_both(fds);
    rig_close(&rig);
}

static void check_refused(Rig *rig, const VhuMessage *msg, const char *text)
{
    VhuMessage ok = num_message(1);
    VhuError err = {0};
    uint8_t bytes[21];

    g_assert_cmpint(vhu_channel_send(rig->channel, msg, &err), ==, -EINVAL);
    g_assert_cmpint(err.code, ==, EINVAL);
    g_assert_cmpstr(err.text, ==, text);
    expect_no_bytes(rig);
    g_assert_cmpint(vhu_channel_send(rig->channel, &ok, NULL), ==, 0);
    g_assert_cmpint(peer_receive(rig, bytes, sizeof(bytes), NULL, NULL), ==,
                    20);
}

static void test_an_illegal_message_is_refused_and_leaves_no_trace(void)
{
    Rig rig = rig_open(&frontend_wire, true);
    int fds[2] = {spare_fd(), -1};
    VhuMessage msg = table_message(fds);

    check_refused(&rig, &msg, "request 5: fd 1 of 2 is -1");
    msg.num_fds = 1;
    check_refused(&rig, &msg, "SET_MEM_TABLE request: 1 fds, expected 2");
    msg = num_message(1);
    msg.payload.state.index = 256;
    check_refused(&rig, &msg, "SET_VRING_NUM request: index 256, at most 255");
    msg = (VhuMessage){.request = VHOST_USER_GET_FEATURES,
                       .flags = VHU_FLAG_REPLY,
                       .kind = VHU_PAYLOAD_U64};
    check_refused(&rig, &msg, "request 1: a reply is not ours to send");
    close(fds[0]);
    rig_close(&rig);

    rig = rig_open(&frontend_wire, false);
    msg = num_message(1);
    g_assert_cmpint(vhu_channel_send(rig.channel, &msg, NULL), ==, -EINVAL);
    rig_close(&rig);
}

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
    VhuMessage msg = num_message(1);
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

static void test_a_failed_socket_drops_the_queue(void)
{
    Rig rig = rig_open(&frontend_wire, true);
    int fds[2] = {spare_fd(), spare_fd()};
    VhuMessage msg = table_message(fds);
    VhuError err = {0};

    faults.send_limited = true;
    faults.send_budget = 7;
    g_assert_cmpint(vhu_channel_send(rig.channel, &msg, NULL), ==, 0);
    g_assert_cmpint(vhu_channel_send(rig.channel, &msg, NULL), ==, 0);
    faults.send_errno = ENOMEM;
    g_assert_cmpint(vhu_channel_flush(rig.channel, &err), ==, -ENOMEM);
    g_assert_cmpstr(err.text, ==, "sending a message: Cannot allocate memory");
    g_assert_false(vhu_channel_wants_write(rig.channel));
    faults = (Faults){0};
    /* Half a message is out: nothing may follow it. */
    g_assert_cmpint(vhu_channel_send(rig.channel, &msg, NULL), ==, -ENOMEM);
    close_both(fds);
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

#define ADD(name, fn) g_test_add_func("/channel/send/" name, fn)

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    ADD("every-message-is-sent", test_every_message_is_sent);
    ADD("a-full-socket-may-cut-anywhere", test_a_full_socket_may_cut_anywhere);
    ADD("short-and-interrupted-writes-are-continued",
        test_short_and_interrupted_writes_are_continued);
    ADD("queued-fds-outlive-the-callers", test_queued_fds_outlive_the_callers);
    ADD("what-is-queued-can-be-dropped", test_what_is_queued_can_be_dropped);
    ADD("the-queue-is-bounded-and-keeps-its-order",
        test_the_queue_is_bounded_and_keeps_its_order);
    ADD("queued-fds-are-bounded", test_queued_fds_are_bounded);
    ADD("without-room-for-duplicates-nothing-is-queued",
        test_without_room_for_duplicates_nothing_is_queued);
    ADD("an-illegal-message-is-refused-and-leaves-no-trace",
        test_an_illegal_message_is_refused_and_leaves_no_trace);
    ADD("a-gone-peer-is-an-error-and-no-signal",
        test_a_gone_peer_is_an_error_and_no_signal);
    ADD("a-failed-socket-drops-the-queue",
        test_a_failed_socket_drops_the_queue);
    ADD("wait-ends-at-its-deadline", test_wait_ends_at_its_deadline);
    ADD("wait-sends-what-is-queued-and-takes-the-reply",
        test_wait_sends_what_is_queued_and_takes_the_reply);
    ADD("the-trace-sees-whole-messages-only",
        test_the_trace_sees_whole_messages_only);
    return g_test_run();
}
