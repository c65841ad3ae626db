/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Owns the tests of a channel that receives: whole messages however they
 * arrive, and an error, told and leaking nothing, for whatever else does.
 */
#include "vhu/channel.h"
#include "tests/channel-rig.h"
#include "tests/message-vectors.h"

#include <errno.h>
#include <fcntl.h>
#include <glib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define ROOM (VHU_HEADER_BYTES + VHU_MAX_PAYLOAD_BYTES)

static const VhuWire frontend_wire = {.direction = VHU_FROM_FRONTEND};

/* SET_VRING_NUM of queue 2 to 256. */
static const char *const num_hex = "08000000 01000000 08000000 02000000"
                                   " 00010000";

#define NUM_BYTES 20u

static void expect_nothing(Rig *rig)
{
    VhuMessage msg;
    VhuError err = {0};

    g_assert_cmpint(vhu_channel_receive(rig->channel, &msg, &err), ==, 0);
    g_assert_cmpuint(msg.num_fds, ==, 0);
}

/* The error, twice: a dead channel repeats it. */
static void expect_error(Rig *rig, int code, const char *text)
{
    for (int i = 0; i < 2; i++) {
        VhuMessage msg;
        VhuError err = {0};

        g_assert_cmpint(vhu_channel_receive(rig->channel, &msg, &err), ==,
                        -code);
        g_assert_cmpstr(err.text, ==, text);
        g_assert_cmpint(err.code, ==, code);
        g_assert_cmpuint(msg.num_fds, ==, 0);
        g_assert_cmpint(vhu_channel_receive(rig->channel, &msg, NULL), ==,
                        -code);
    }
}

static void expect_table(Rig *rig, const int *fds)
{
    VhuMessage msg;
    VhuError err = {0};

    vhu_channel_receive(rig->channel, &msg, &err);
    g_assert_cmpstr(err.text, ==, "");
    g_assert_cmpuint(msg.request, ==, VHOST_USER_SET_MEM_TABLE);
    g_assert_cmpuint(msg.payload.table.num_regions, ==, 2);
    g_assert_cmphex(msg.payload.table.regions[1].mmap_offset, ==, 0x100000);
    g_assert_cmpuint(msg.num_fds, ==, 2);
    for (unsigned i = 0; i < 2; i++) {
        g_assert_true(same_file(msg.fds[i], fds[i]));
        g_assert_cmpint(fcntl(msg.fds[i], F_GETFD) & FD_CLOEXEC, !=, 0);
    }
    vhu_message_close_fds(&msg);
}

static void expect_num(Rig *rig)
{
    VhuMessage msg;
    VhuError err = {0};

    vhu_channel_receive(rig->channel, &msg, &err);
    g_assert_cmpstr(err.text, ==, "");
    g_assert_cmpuint(msg.request, ==, VHOST_USER_SET_VRING_NUM);
    g_assert_cmpuint(msg.payload.state.num, ==, 256);
    g_assert_cmpuint(msg.num_fds, ==, 0);
}

static void check_vector_byte_by_byte(const Vector *vector)
{
    bool requester = vector->want.flags & VHU_FLAG_REPLY;
    Rig rig = rig_open(&vector->wire, requester);
    g_autofree VhuMessage *msg = g_new0(VhuMessage, 1);
    uint8_t bytes[ROOM];
    size_t size = vector_bytes(vector, bytes);
    int fd = spare_fd();
    int fds[VHU_MAX_FDS];
    VhuError err = {0};

    for (unsigned i = 0; i < vector->fds_min; i++) {
        fds[i] = fd;
    }
    peer_send(&rig, bytes, 1, fds, vector->fds_min);
    for (size_t i = 1; i < size; i++) {
        expect_nothing(&rig);
        peer_send(&rig, bytes + i, 1, NULL, 0);
    }
    g_assert_cmpint(vhu_channel_receive(rig.channel, msg, &err), ==, 1);
    g_assert_cmpstr(err.text, ==, "");
    g_assert_cmpuint(msg->num_fds, ==, vector->fds_min);
    vhu_message_close_fds(msg);
    memset(msg->fds, 0, sizeof(msg->fds));
    g_assert_cmpmem(msg, sizeof(*msg), &vector->want, sizeof(*msg));
    expect_nothing(&rig);
    close(fd);
    rig_close(&rig);
}

static void test_every_message_arrives_byte_by_byte(void)
{
    const Vector *vector;

    for (unsigned i = 0; (vector = message_vector(i)); i++) {
        g_test_message("%s", vector->print);
        check_vector_byte_by_byte(vector);
    }
}

static void test_a_message_may_be_cut_anywhere(void)
{
    Rig rig = rig_open(&frontend_wire, false);
    int fds[2] = {spare_fd(), spare_fd()};
    uint8_t bytes[TABLE_BYTES];

    hex_to_bytes(table_hex, bytes, sizeof(bytes));
    for (size_t cut = 1; cut < sizeof(bytes); cut++) {
        peer_send(&rig, bytes, cut, fds, 2);
        expect_nothing(&rig);
        peer_send(&rig, bytes + cut, sizeof(bytes) - cut, NULL, 0);
        expect_table(&rig, fds);
    }
    close_both(fds);
    rig_close(&rig);
}

static void test_messages_in_one_piece_are_told_apart(void)
{
    Rig rig = rig_open(&frontend_wire, false);
    int fds[2] = {spare_fd(), spare_fd()};
    uint8_t bytes[TABLE_BYTES + NUM_BYTES];

    hex_to_bytes(table_hex, bytes, TABLE_BYTES);
    hex_to_bytes(num_hex, bytes + TABLE_BYTES, NUM_BYTES);
    peer_send(&rig, bytes, sizeof(bytes), fds, 2);
    peer_send(&rig, bytes, TABLE_BYTES, fds, 2);
    expect_table(&rig, fds);
    expect_num(&rig);
    expect_table(&rig, fds);
    expect_nothing(&rig);
    close_both(fds);
    rig_close(&rig);
}

static void test_short_and_interrupted_reads_are_continued(void)
{
    Rig rig = rig_open(&frontend_wire, false);
    int fds[2] = {spare_fd(), spare_fd()};
    uint8_t bytes[TABLE_BYTES];

    hex_to_bytes(table_hex, bytes, sizeof(bytes));
    for (size_t most = 1; most <= sizeof(bytes); most++) {
        peer_send(&rig, bytes, sizeof(bytes), fds, 2);
        faults.receive_most = most;
        faults.interrupts = 3;
        expect_table(&rig, fds);
        g_assert_cmpuint(faults.interrupts, ==, 0);
    }
    close_both(fds);
    rig_close(&rig);
}

static void test_what_was_negotiated_holds_for_the_next_message(void)
{
    /* SET_PROTOCOL_FEATURES with LOG_SHMFD, then the SET_LOG_BASE of it. */
    static const char *const set_hex =
        "10000000 01000000 08000000 0200000000000000";
    static const char *const log_hex =
        "06000000 01000000 10000000 0080000000000000 0010000000000000";
    Rig rig = rig_open(&frontend_wire, false);
    int fd = spare_fd();
    uint8_t bytes[28];
    VhuMessage msg;

    peer_send(&rig, bytes, hex_to_bytes(set_hex, bytes, sizeof(bytes)), NULL,
              0);
    peer_send(&rig, bytes, hex_to_bytes(log_hex, bytes, sizeof(bytes)), &fd, 1);
    g_assert_cmpint(vhu_channel_receive(rig.channel, &msg, NULL), ==, 1);
    vhu_channel_wire(rig.channel)->protocol_features = msg.payload.u64;
    g_assert_cmpint(vhu_channel_receive(rig.channel, &msg, NULL), ==, 1);
    g_assert_cmpint(msg.kind, ==, VHU_PAYLOAD_LOG);
    vhu_message_close_fds(&msg);
    close(fd);
    rig_close(&rig);
}

static void test_fds_after_the_first_byte_are_refused(void)
{
    uint8_t bytes[TABLE_BYTES];

    hex_to_bytes(table_hex, bytes, sizeof(bytes));
    for (size_t cut = 1; cut < sizeof(bytes); cut++) {
        Rig rig = rig_open(&frontend_wire, false);
        g_autofree char *text = NULL;
        int fds[2] = {spare_fd(), spare_fd()};
        /* Reads stop at the end of the header, and before fds. */
        size_t at = cut < VHU_HEADER_BYTES ? 1 : VHU_HEADER_BYTES;

        text = g_strdup_printf(
            "2 fds after byte %zu of a message, expected with the first", at);
        peer_send(&rig, bytes, cut, NULL, 0);
        peer_send(&rig, bytes + cut, sizeof(bytes) - cut, fds, 2);
        expect_error(&rig, EPROTO, text);
        close_both(fds);
        rig_close(&rig);
    }
}

static void test_more_fds_inside_a_message_are_refused(void)
{
    Rig rig = rig_open(&frontend_wire, false);
    int fds[8];
    uint8_t bytes[TABLE_BYTES];

    hex_to_bytes(table_hex, bytes, sizeof(bytes));
    for (unsigned i = 0; i < 8; i++) {
        fds[i] = spare_fd();
    }
    peer_send(&rig, bytes, 30, fds, 2);
    expect_nothing(&rig);
    peer_send(&rig, bytes + 30, sizeof(bytes) - 30, fds, 8);
    expect_error(&rig, EPROTO,
                 "8 fds after byte 30 of a message, expected with the first");
    for (unsigned i = 0; i < 8; i++) {
        close(fds[i]);
    }
    rig_close(&rig);
}

static void test_more_than_eight_fds_are_refused(void)
{
    uint8_t bytes[TABLE_BYTES];
    int fds[64];

    hex_to_bytes(table_hex, bytes, sizeof(bytes));
    for (uint32_t count = 9; count <= 64; count++) {
        Rig rig = rig_open(&frontend_wire, false);
        int fd = spare_fd();

        for (uint32_t i = 0; i < count; i++) {
            fds[i] = fd;
        }
        peer_send(&rig, bytes, sizeof(bytes), fds, count);
        expect_error(&rig, EPROTO,
                     "more than 8 fds with a message, or no room for them in "
                     "this process");
        close(fd);
        rig_close(&rig);
    }
}

static void test_a_wrong_number_of_fds_is_refused(void)
{
    Rig rig = rig_open(&frontend_wire, false);
    uint8_t bytes[NUM_BYTES];
    int fd = spare_fd();
    unsigned before = open_fds();

    hex_to_bytes(num_hex, bytes, sizeof(bytes));
    peer_send(&rig, bytes, sizeof(bytes), &fd, 1);
    expect_error(&rig, EPROTO, "SET_VRING_NUM request: 1 fds, expected 0");
    g_assert_cmpuint(open_fds(), ==, before);
    close(fd);
    rig_close(&rig);
}

static void test_a_half_message_with_fds_can_be_dropped(void)
{
    uint8_t bytes[TABLE_BYTES];
    int fds[2] = {spare_fd(), spare_fd()};

    hex_to_bytes(table_hex, bytes, sizeof(bytes));
    for (size_t cut = 1; cut < sizeof(bytes); cut++) {
        Rig rig = rig_open(&frontend_wire, false);

        peer_send(&rig, bytes, cut, fds, 2);
        expect_nothing(&rig);
        rig_close(&rig);
    }
    close_both(fds);
}

static void test_a_bad_header_is_refused_without_its_payload(void)
{
    Rig rig = rig_open(&frontend_wire, false);
    VhuMessage msg = {.request = VHOST_USER_GET_FEATURES,
                      .flags = VHU_FLAG_REPLY,
                      .kind = VHU_PAYLOAD_U64};
    uint8_t bytes[VHU_HEADER_BYTES];
    VhuError err = {0};

    hex_to_bytes("08000000 01000000 ffffffff", bytes, sizeof(bytes));
    peer_send(&rig, bytes, sizeof(bytes), NULL, 0);
    expect_error(&rig, EPROTO,
                 "SET_VRING_NUM request is 4294967295 bytes, expected 8");
    g_assert_cmpint(vhu_channel_send(rig.channel, &msg, &err), ==, -EPIPE);
    g_assert_cmpstr(err.text, ==,
                    "SET_VRING_NUM request is 4294967295 bytes, expected 8");
    rig_close(&rig);
}

static void test_a_bad_payload_is_refused_and_its_fds_closed(void)
{
    Rig rig = rig_open(&frontend_wire, false);
    int fds[2] = {spare_fd(), spare_fd()};
    uint8_t bytes[TABLE_BYTES];

    hex_to_bytes(table_hex, bytes, sizeof(bytes));
    bytes[VHU_HEADER_BYTES] = 3;
    peer_send(&rig, bytes, sizeof(bytes), fds, 2);
    expect_error(&rig, EPROTO,
                 "SET_MEM_TABLE request: 3 regions, 72 bytes hold 2");
    close_both(fds);
    rig_close(&rig);
}

static void test_a_reply_is_no_request(void)
{
    Rig rig = rig_open(&frontend_wire, true);
    uint8_t bytes[NUM_BYTES];

    hex_to_bytes(num_hex, bytes, sizeof(bytes));
    peer_send(&rig, bytes, sizeof(bytes), NULL, 0);
    expect_error(&rig, EPROTO,
                 "SET_VRING_NUM: flags 0x1 are of a request, expected a "
                 "reply");
    rig_close(&rig);
}

static void test_the_end_of_the_peer_is_told(void)
{
    uint8_t bytes[TABLE_BYTES];
    int fds[2] = {spare_fd(), spare_fd()};

    hex_to_bytes(table_hex, bytes, sizeof(bytes));
    for (size_t cut = 0; cut < sizeof(bytes); cut++) {
        Rig rig = rig_open(&frontend_wire, false);
        g_autofree char *text = NULL;

        if (cut == 0) {
            text = g_strdup("the peer closed the connection");
        } else {
            text = g_strdup_printf(
                "the peer closed the connection inside a message, after %zu "
                "of %s bytes",
                cut, cut < VHU_HEADER_BYTES ? "12 header" : "84");
            peer_send(&rig, bytes, cut, fds, 2);
        }
        close(rig.peer);
        rig.peer = -1;
        expect_error(&rig, ECONNRESET, text);
        rig_close(&rig);
    }
    close_both(fds);
}

/* Linux then answers a read with ECONNRESET instead of an end of file. */
static void test_a_peer_that_did_not_read_closes_too(void)
{
    Rig rig = rig_open(&frontend_wire, true);
    VhuMessage msg = {.request = VHOST_USER_GET_FEATURES};

    g_assert_cmpint(vhu_channel_send(rig.channel, &msg, NULL), ==, 0);
    close(rig.peer);
    rig.peer = -1;
    expect_error(&rig, ECONNRESET, "the peer closed the connection");
    rig_close(&rig);
}

static void check_no_channel(int fd, const char *text)
{
    g_autofree char *want = g_strdup_printf("fd %d%s", fd, text);
    unsigned before = open_fds();
    VhuError err = {0};

    g_assert_null(vhu_channel_new(fd, VHU_FROM_FRONTEND, true, &err));
    g_assert_cmpstr(err.text, ==, want);
    g_assert_cmpuint(open_fds(), ==, before - 1);
}

static void test_only_a_unix_stream_socket_is_taken(void)
{
    check_no_channel(spare_fd(), ": Socket operation on non-socket");
    check_no_channel(socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0),
                     " is not a Unix stream socket");
    check_no_channel(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0),
                     " is not a Unix stream socket");
    g_assert_null(vhu_channel_new(-1, VHU_FROM_FRONTEND, true, NULL));
    vhu_channel_free(NULL);
}

static void test_the_socket_is_not_inherited_and_never_blocks(void)
{
    unsigned before = open_fds();
    int pair[2];
    VhuChannel *channel;

    g_assert_cmpint(socketpair(AF_UNIX, SOCK_STREAM, 0, pair), ==, 0);
    channel = vhu_channel_new(pair[0], VHU_FROM_FRONTEND, true, NULL);
    g_assert_cmpint(vhu_channel_fd(channel), ==, pair[0]);
    g_assert_cmpint(fcntl(pair[0], F_GETFD) & FD_CLOEXEC, !=, 0);
    g_assert_cmpint(fcntl(pair[0], F_GETFL) & O_NONBLOCK, !=, 0);
    vhu_channel_free(channel);
    close(pair[1]);
    g_assert_cmpuint(open_fds(), ==, before);
}

#define ADD(name, fn) g_test_add_func("/channel/receive/" name, fn)

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    ADD("every-message-arrives-byte-by-byte",
        test_every_message_arrives_byte_by_byte);
    ADD("a-message-may-be-cut-anywhere", test_a_message_may_be_cut_anywhere);
    ADD("messages-in-one-piece-are-told-apart",
        test_messages_in_one_piece_are_told_apart);
    ADD("short-and-interrupted-reads-are-continued",
        test_short_and_interrupted_reads_are_continued);
    ADD("what-was-negotiated-holds-for-the-next-message",
        test_what_was_negotiated_holds_for_the_next_message);
    ADD("fds-after-the-first-byte-are-refused",
        test_fds_after_the_first_byte_are_refused);
    ADD("more-fds-inside-a-message-are-refused",
        test_more_fds_inside_a_message_are_refused);
    ADD("more-than-eight-fds-are-refused",
        test_more_than_eight_fds_are_refused);
    ADD("a-wrong-number-of-fds-is-refused",
        test_a_wrong_number_of_fds_is_refused);
    ADD("a-half-message-with-fds-can-be-dropped",
        test_a_half_message_with_fds_can_be_dropped);
    ADD("a-bad-header-is-refused-without-its-payload",
        test_a_bad_header_is_refused_without_its_payload);
    ADD("a-bad-payload-is-refused-and-its-fds-closed",
        test_a_bad_payload_is_refused_and_its_fds_closed);
    ADD("a-reply-is-no-request", test_a_reply_is_no_request);
    ADD("the-end-of-the-peer-is-told", test_the_end_of_the_peer_is_told);
    ADD("a-peer-that-did-not-read-closes-too",
        test_a_peer_that_did_not_read_closes_too);
    ADD("only-a-unix-stream-socket-is-taken",
        test_only_a_unix_stream_socket_is_taken);
    ADD("the-socket-is-not-inherited-and-never-blocks",
        test_the_socket_is_not_inherited_and_never_blocks);
    return g_test_run();
}
