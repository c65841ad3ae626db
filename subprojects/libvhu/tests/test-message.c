/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Owns the tests of the codec. The bytes are in message-vectors-*.c; here they
 * are decoded, encoded, printed, and everything near them is refused.
 */
#include "vhu/message.h"
#include "tests/message-vectors.h"

#include <errno.h>
#include <fcntl.h>
#include <glib.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define BIT(name) VHU_PROTOCOL_BIT(name)

#define ROOM (VHU_HEADER_BYTES + VHU_MAX_PAYLOAD_BYTES)

/* Larger than any payload: where the walk through the sizes ends. */
#define SIZES_END (VHU_MAX_PAYLOAD_BYTES + 64)

static int decode(const VhuWire *wire, const uint8_t *bytes, bool reply,
                  VhuMessage *msg, VhuError *err)
{
    VhuHeader header;
    int ret = vhu_header_decode(wire, bytes, reply, &header, err);

    return ret ? ret
               : vhu_payload_decode(wire, &header, bytes + VHU_HEADER_BYTES,
                                    msg, err);
}

static bool is_reply(const Vector *vector)
{
    return vector->want.flags & VHU_FLAG_REPLY;
}

static void test_vectors_decode(void)
{
    const Vector *vector;

    for (unsigned i = 0; (vector = message_vector(i)); i++) {
        g_autofree VhuMessage *msg = g_new0(VhuMessage, 1);
        uint8_t bytes[ROOM];
        VhuError err = {0};

        g_test_message("%s", vector->print);
        vector_bytes(vector, bytes);
        decode(&vector->wire, bytes, is_reply(vector), msg, &err);
        g_assert_cmpstr(err.text, ==, "");
        g_assert_cmpint(msg->kind, ==, vector->want.kind);
        g_assert_cmpmem(msg, sizeof(*msg), &vector->want, sizeof(*msg));
    }
}

static void test_vectors_encode(void)
{
    const Vector *vector;

    for (unsigned i = 0; (vector = message_vector(i)); i++) {
        uint8_t want[ROOM];
        uint8_t bytes[ROOM];
        VhuError err = {0};
        int size;

        if (vector->decode_only) {
            continue;
        }
        g_test_message("%s", vector->print);
        size = vhu_message_encode(&vector->wire, &vector->want, bytes, &err);
        g_assert_cmpstr(err.text, ==, "");
        g_assert_cmpmem(bytes, (size_t)size, want, vector_bytes(vector, want));
    }
}

static void test_vectors_print(void)
{
    const Vector *vector;

    for (unsigned i = 0; (vector = message_vector(i)); i++) {
        g_autofree char *want = g_strconcat(vector->print, " fds=[]", NULL);
        char text[1024];

        g_assert_cmpstr(
            vhu_message_print(&vector->wire, &vector->want, text, sizeof(text)),
            ==, want);
    }
}

static bool has_vector(VhuDirection direction, uint32_t request, bool reply)
{
    const Vector *vector;

    for (unsigned i = 0; (vector = message_vector(i)); i++) {
        if (vector->wire.direction == direction &&
            vector->want.request == request && is_reply(vector) == reply &&
            !vector->decode_only) {
            return true;
        }
    }
    return false;
}

static void test_every_row_has_vectors(void)
{
    for (int direction = 0; direction < VHU_DIRECTIONS; direction++) {
        for (uint32_t i = 1; i < vhu_message_end(direction); i++) {
            g_test_message("%s", vhu_message_spec(direction, i)->name);
            g_assert_true(has_vector(direction, i, false));
            g_assert_true(has_vector(direction, i, true));
        }
    }
}

/* Whether a list like "0 8 12-20 24-40/8" contains a size. */
static bool list_has(const char *list, uint32_t size)
{
    while (*list) {
        char *at;
        unsigned long min = strtoul(list, &at, 10);
        unsigned long max = *at == '-' ? strtoul(at + 1, &at, 10) : min;
        unsigned long step = *at == '/' ? strtoul(at + 1, &at, 10) : 1;

        if (size >= min && size <= max && (size - min) % step == 0) {
            return true;
        }
        list = *at ? at + 1 : at;
    }
    return false;
}

static void check_size(const Vector *vector, const char *list, uint32_t size)
{
    uint8_t bytes[ROOM];
    VhuHeader header;
    VhuError err = {0};
    int ret;

    vector_bytes(vector, bytes);
    memcpy(bytes + 8, &size, sizeof(size));
    ret = vhu_header_decode(&vector->wire, bytes, is_reply(vector), &header,
                            &err);
    if (list_has(list, size)) {
        g_assert_cmpstr(err.text, ==, "");
        g_assert_cmpint(ret, ==, 0);
        g_assert_cmpuint(header.size, ==, size);
    } else {
        g_autofree char *want =
            g_strdup_printf(" is %u bytes, expected ", size);

        g_assert_cmpint(ret, ==, -EPROTO);
        g_assert_nonnull(strstr(err.text, want));
        g_assert_cmpuint(err.value, ==, size);
        g_assert_cmpuint(err.request, ==, vector->want.request);
    }
}

static void test_only_the_listed_sizes_are_taken(void)
{
    const Vector *vector;

    for (unsigned i = 0; (vector = message_vector(i)); i++) {
        g_autofree char *list = g_strdup(vector->sizes);

        if (!list) {
            uint8_t bytes[ROOM];

            list = g_strdup_printf("%zu", vector_bytes(vector, bytes) -
                                              VHU_HEADER_BYTES);
        }
        g_test_message("%s: %s", vector->print, list);
        for (uint32_t size = 0; size < SIZES_END; size++) {
            check_size(vector, list, size);
        }
        check_size(vector, list, UINT32_MAX);
    }
}

static void test_only_the_listed_fd_counts_are_taken(void)
{
    const Vector *vector;

    for (unsigned i = 0; (vector = message_vector(i)); i++) {
        g_autofree VhuMessage *msg = g_memdup2(&vector->want, sizeof(*msg));

        g_test_message("%s", vector->print);
        for (msg->num_fds = 0; msg->num_fds <= VHU_MAX_FDS + 1;
             msg->num_fds++) {
            VhuError err = {0};
            int ret = vhu_fds_check(&vector->wire, msg, &err);

            if (msg->num_fds >= vector->fds_min &&
                msg->num_fds <= vector->fds_max) {
                g_assert_cmpstr(err.text, ==, "");
                g_assert_cmpint(ret, ==, 0);
            } else {
                g_autofree char *want = g_strdup_printf(
                    ": %u fds, expected %u", msg->num_fds, vector->fds_min);

                g_assert_cmpint(ret, ==, -EPROTO);
                g_assert_nonnull(strstr(err.text, want));
                g_assert_cmpuint(err.value, ==, msg->num_fds);
            }
        }
    }
}

static void check_flags(const Vector *vector, uint32_t flags, const char *want)
{
    uint8_t bytes[ROOM];
    VhuMessage msg;
    VhuError err = {0};

    vector_bytes(vector, bytes);
    memcpy(bytes + 4, &flags, sizeof(flags));
    g_assert_cmpint(decode(&vector->wire, bytes, is_reply(vector), &msg, &err),
                    ==, -EPROTO);
    g_assert_nonnull(strstr(err.text, want));
    g_assert_cmphex(err.value, ==, flags);
}

static void test_wrong_flags_are_refused(void)
{
    const Vector *vector;

    for (unsigned i = 0; (vector = message_vector(i)); i++) {
        uint32_t flags = vector->want.flags;

        check_flags(vector, flags & ~3u, ": version 0, expected 1");
        check_flags(vector, (flags & ~3u) | 2, ": version 2, expected 1");
        check_flags(vector, flags | 3, ": version 3, expected 1");
        check_flags(vector, flags | 0x10, ", known are 0xf");
        check_flags(vector, flags | 0x80000000, ", known are 0xf");
        check_flags(vector, flags ^ VHU_FLAG_REPLY,
                    is_reply(vector) ? " are of a request, expected a reply"
                                     : " are of a reply, expected a request");
    }
}

static void test_a_gated_request_needs_its_feature(void)
{
    VhuError err = {0};

    for (int direction = 0; direction < VHU_DIRECTIONS; direction++) {
        for (uint32_t i = 1; i < vhu_message_end(direction); i++) {
            int gate = vhu_message_spec(direction, i)->gate;
            uint64_t bit = gate == VHU_NO_GATE ? 0 : 1ULL << gate;
            VhuWire wire = {.direction = direction, .protocol_features = bit};

            g_assert_cmpint(vhu_message_gated(&wire, i, NULL), ==, 0);
            wire.protocol_features = ~bit;
            g_assert_cmpint(vhu_message_gated(&wire, i, &err), ==,
                            bit ? -EPROTO : 0);
        }
    }
    g_assert_cmpint(vhu_message_gated(&(VhuWire){.protocol_features = 0x2f},
                                      VHOST_USER_GET_CONFIG, &err),
                    ==, -EPROTO);
    g_assert_cmpstr(err.text, ==,
                    "GET_CONFIG needs VHOST_USER_PROTOCOL_F_CONFIG, "
                    "negotiated are 0x2f");
    g_assert_cmpint(vhu_message_gated(&(VhuWire){0}, 45, &err), ==, -EPROTO);
}

static void test_reply_is_due_by_row_or_on_request(void)
{
    static const struct {
        uint32_t request;
        uint32_t flags;
        VhuPayload kind;
        uint64_t features;
        bool listening;
        bool due;
    } rows[] = {
        {VHOST_USER_GET_FEATURES, 1, VHU_PAYLOAD_NONE, 0, false, true},
        {VHOST_USER_GET_FEATURES, 5, VHU_PAYLOAD_U64, 0, false, false},
        {VHOST_USER_SET_OWNER, 1, VHU_PAYLOAD_NONE, BIT(REPLY_ACK), false,
         false},
        {VHOST_USER_SET_OWNER, 9, VHU_PAYLOAD_NONE, 0, false, false},
        {VHOST_USER_SET_OWNER, 9, VHU_PAYLOAD_NONE, BIT(REPLY_ACK), false,
         true},
        {VHOST_USER_SET_LOG_BASE, 1, VHU_PAYLOAD_U64, 0, false, false},
        {VHOST_USER_SET_LOG_BASE, 9, VHU_PAYLOAD_U64, BIT(REPLY_ACK), false,
         true},
        {VHOST_USER_SET_LOG_BASE, 1, VHU_PAYLOAD_LOG, BIT(LOG_SHMFD), false,
         true},
        {VHOST_USER_SET_MEM_TABLE, 1, VHU_PAYLOAD_MEM_TABLE, 0, false, false},
        {VHOST_USER_SET_MEM_TABLE, 1, VHU_PAYLOAD_MEM_TABLE, 0, true, true},
        {VHOST_USER_SET_MEM_TABLE, 1, VHU_PAYLOAD_U64, 0, true, false},
        {VHOST_USER_ADD_MEM_REG, 1, VHU_PAYLOAD_MEM_REGION, 0, true, true},
        {VHOST_USER_ADD_MEM_REG, 9, VHU_PAYLOAD_MEM_REGION, BIT(REPLY_ACK),
         false, true},
        {VHOST_USER_IOTLB_MSG, 1, VHU_PAYLOAD_IOTLB, 0, false, true},
        {45, 9, VHU_PAYLOAD_NONE, BIT(REPLY_ACK), false, false},
    };

    for (unsigned i = 0; i < G_N_ELEMENTS(rows); i++) {
        VhuWire wire = {.protocol_features = rows[i].features,
                        .postcopy_listening = rows[i].listening};
        VhuMessage msg = {.request = rows[i].request,
                          .flags = rows[i].flags,
                          .kind = rows[i].kind};

        g_test_message("row %u", i);
        g_assert_cmpint(vhu_reply_due(&wire, &msg), ==, rows[i].due);
    }
}

static void test_print_ends_in_any_room(void)
{
    const Vector *vector;
    char text[1024];

    for (unsigned i = 0; (vector = message_vector(i)); i++) {
        g_autofree char *want = g_strconcat(vector->print, " fds=[]", NULL);

        for (size_t room = 1; room <= strlen(want) + 1; room++) {
            memset(text, '#', sizeof(text) - 1);
            text[sizeof(text) - 1] = '\0';
            vhu_message_print(&vector->wire, &vector->want, text, room);
            g_assert_cmpuint(strlen(text), ==, room - 1);
            g_assert_true(g_str_has_prefix(want, text));
            g_assert_cmpuint(strspn(text + room, "#"), ==,
                             sizeof(text) - 1 - room);
        }
        text[0] = '#';
        vhu_message_print(&vector->wire, &vector->want, text, 0);
        g_assert_cmpint(text[0], ==, '#');
    }
}

static void test_print_shows_fds_and_cuts_long_data(void)
{
    VhuWire wire = {.direction = VHU_FROM_FRONTEND};
    VhuMessage msg = {
        .request = VHOST_USER_SET_CONFIG,
        .kind = VHU_PAYLOAD_CONFIG,
        .payload.config = {.size = 33, .data_bytes = 33, .data = {0xab}},
        .num_fds = 2,
        .fds = {7, -1},
    };
    char text[256];

    g_assert_cmpstr(
        vhu_message_print(&wire, &msg, text, sizeof(text)), ==,
        "SET_CONFIG offset=0 size=33 flags=0x0 data=ab0000000000000000000000"
        "0000000000000000000000000000000000000000... fds=[7,-1]");
    msg = (VhuMessage){.request = 99};
    g_assert_cmpstr(vhu_message_print(&wire, &msg, text, sizeof(text)), ==,
                    "request 99 fds=[]");
}

static bool is_open(int fd)
{
    return fcntl(fd, F_GETFD) >= 0;
}

static void test_fds_are_taken_once_and_the_rest_closed(void)
{
    VhuMessage msg = {.num_fds = 2};
    int first;
    int second;

    g_assert_cmpint(pipe2(msg.fds, O_CLOEXEC), ==, 0);
    first = msg.fds[0];
    second = msg.fds[1];
    g_assert_cmpint(vhu_message_take_fd(&msg, 0), ==, first);
    g_assert_cmpint(vhu_message_take_fd(&msg, 0), ==, -1);
    g_assert_cmpint(vhu_message_take_fd(&msg, 2), ==, -1);
    vhu_message_close_fds(&msg);
    g_assert_cmpuint(msg.num_fds, ==, 0);
    g_assert_true(is_open(first));
    g_assert_false(is_open(second));
    close(first);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/message/vectors-decode", test_vectors_decode);
    g_test_add_func("/message/vectors-encode", test_vectors_encode);
    g_test_add_func("/message/vectors-print", test_vectors_print);
    g_test_add_func("/message/every-row-has-vectors",
                    test_every_row_has_vectors);
    g_test_add_func("/message/only-the-listed-sizes-are-taken",
                    test_only_the_listed_sizes_are_taken);
    g_test_add_func("/message/only-the-listed-fd-counts-are-taken",
                    test_only_the_listed_fd_counts_are_taken);
    g_test_add_func("/message/wrong-flags-are-refused",
                    test_wrong_flags_are_refused);
    g_test_add_func("/message/a-gated-request-needs-its-feature",
                    test_a_gated_request_needs_its_feature);
    g_test_add_func("/message/reply-is-due-by-row-or-on-request",
                    test_reply_is_due_by_row_or_on_request);
    g_test_add_func("/message/print-ends-in-any-room",
                    test_print_ends_in_any_room);
    g_test_add_func("/message/print-shows-fds-and-cuts-long-data",
                    test_print_shows_fds_and_cuts_long_data);
    g_test_add_func("/message/fds-are-taken-once-and-the-rest-closed",
                    test_fds_are_taken_once_and_the_rest_closed);
    return g_test_run();
}
