/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Owns the tests of a channel that sends: whole messages whatever the socket
 * takes, a bounded queue, and nothing illegal.
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

/* As above, but from the queue. */
static void test_a_queued_message_may_be_cut_anywhere(void)
{
    int fds[2] = {spare_fd(), spare_fd()};
    VhuMessage msg = table_message(fds);

    for (size_t cut = 1; cut < TABLE_BYTES; cut++) {
        Rig rig = rig_open(&frontend_wire, true);

        faults.send_limited = true;
        g_assert_cmpint(vhu_channel_send(rig.channel, &msg, NULL), ==, 0);
        faults.send_budget = cut;
        g_assert_cmpint(vhu_channel_flush(rig.channel, NULL), ==, 1);
        faults.send_limited = false;
        g_assert_cmpint(vhu_channel_flush(rig.channel, NULL), ==, 0);
        expect_table(&rig, fds);
        expect_no_bytes(&rig);
        rig_close(&rig);
    }
    close_both(fds);
}

static void test_nothing_overtakes_the_queue(void)
{
    Rig rig = rig_open(&frontend_wire, true);
    uint8_t bytes[20];

    for (uint32_t i = 1; i <= 2; i++) {
        VhuMessage msg = num_message(i);

        faults.refusals = 1;
        g_assert_cmpint(vhu_channel_send(rig.channel, &msg, NULL), ==, 0);
    }
    g_assert_cmpint(vhu_channel_flush(rig.channel, NULL), ==, 0);
    for (uint8_t i = 1; i <= 2; i++) {
        g_assert_cmpint(peer_receive(&rig, bytes, 20, NULL, NULL), ==, 20);
        g_assert_cmpuint(bytes[16], ==, i);
    }
    rig_close(&rig);
}

static void test_what_went_out_no_longer_counts(void)
{
    Rig rig = rig_open(&frontend_wire, true);
    int fds[2] = {spare_fd(), spare_fd()};
    VhuMessage msg = table_message(fds);

    for (unsigned i = 0; i < VHU_CHANNEL_QUEUE_BYTES / TABLE_BYTES; i++) {
        VhuError err = {0};

        faults.refusals = 1;
        vhu_channel_send(rig.channel, &msg, &err);
        g_assert_cmpstr(err.text, ==, "");
        g_assert_cmpint(vhu_channel_flush(rig.channel, NULL), ==, 0);
        expect_table(&rig, fds);
    }
    faults.refusals = 1;
    g_assert_cmpint(vhu_channel_send(rig.channel, &msg, NULL), ==, 0);
    close_both(fds);
    rig_close(&rig);
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
    g_assert_nonnull(strstr(err.text, "64 fds are queued"));
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

#define ADD(name, fn) g_test_add_func("/channel/send/" name, fn)

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    ADD("every-message-is-sent", test_every_message_is_sent);
    ADD("a-full-socket-may-cut-anywhere", test_a_full_socket_may_cut_anywhere);
    ADD("a-queued-message-may-be-cut-anywhere",
        test_a_queued_message_may_be_cut_anywhere);
    ADD("nothing-overtakes-the-queue", test_nothing_overtakes_the_queue);
    ADD("what-went-out-no-longer-counts", test_what_went_out_no_longer_counts);
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
    ADD("a-failed-socket-drops-the-queue",
        test_a_failed_socket_drops_the_queue);
    return g_test_run();
}
