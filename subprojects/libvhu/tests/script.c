/* SPDX-License-Identifier: BSD-3-Clause */
/* Owns the hand-played side of a socket. Knows bytes and fds, no messages. */
#include "tests/script.h"

#include "vhu/clock.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define WAIT_MS       10000
#define SILENT_ROUNDS 5

void script_open(Script *script, int fd, void (*turn)(void *opaque),
                 void *opaque)
{
    *script = (Script){.fd = fd, .turn = turn, .opaque = opaque};
}

void script_close(Script *script)
{
    if (script->fd >= 0) {
        close(script->fd);
    }
    script->fd = -1;
    while (script->num_fds) {
        close(script_take_fd(script));
    }
}

int script_take_fd(Script *script)
{
    int fd;

    g_assert_cmpuint(script->num_fds, >, 0);
    fd = script->fds[0];
    script->num_fds--;
    memmove(script->fds, script->fds + 1, script->num_fds * sizeof(int));
    return fd;
}

static GByteArray *from_hex(const char *hex)
{
    GByteArray *bytes = g_byte_array_new();

    while (*hex) {
        uint8_t byte;

        if (*hex == ' ') {
            hex++;
            continue;
        }
        g_assert_true(g_ascii_isxdigit(hex[0]) && g_ascii_isxdigit(hex[1]));
        byte = (uint8_t)(g_ascii_xdigit_value(hex[0]) << 4 |
                         g_ascii_xdigit_value(hex[1]));
        g_byte_array_append(bytes, &byte, 1);
        hex += 2;
    }
    return bytes;
}

static char *to_hex(const uint8_t *bytes, size_t size)
{
    GString *text = g_string_new(NULL);

    for (size_t i = 0; i < size; i++) {
        g_string_append_printf(text, "%s%02x", i && i % 4 == 0 ? " " : "",
                               bytes[i]);
    }
    return g_string_free(text, FALSE);
}

void script_send_fds(Script *script, const char *hex, const int *fds,
                     unsigned num_fds)
{
    g_autoptr(GByteArray) bytes = from_hex(hex);
    struct iovec iov = {.iov_base = bytes->data, .iov_len = bytes->len};
    char control[CMSG_SPACE(SCRIPT_MAX_FDS * sizeof(int))] = {0};
    struct msghdr msg = {.msg_iov = &iov, .msg_iovlen = 1};

    if (num_fds) {
        struct cmsghdr *cmsg = (struct cmsghdr *)control;

        msg.msg_control = control;
        msg.msg_controllen = CMSG_SPACE(num_fds * sizeof(int));
        cmsg->cmsg_level = SOL_SOCKET;
        cmsg->cmsg_type = SCM_RIGHTS;
        cmsg->cmsg_len = CMSG_LEN(num_fds * sizeof(int));
        memcpy(CMSG_DATA(cmsg), fds, num_fds * sizeof(int));
    }
    g_assert_cmpint(sendmsg(script->fd, &msg, MSG_NOSIGNAL), ==, bytes->len);
}

void script_send(Script *script, const char *hex)
{
    script_send_fds(script, hex, NULL, 0);
}

static void keep_fds(Script *script, struct msghdr *msg)
{
    for (struct cmsghdr *cmsg = CMSG_FIRSTHDR(msg); cmsg;
         cmsg = CMSG_NXTHDR(msg, cmsg)) {
        const unsigned num =
            (unsigned)((cmsg->cmsg_len - CMSG_LEN(0)) / sizeof(int));

        g_assert_cmpint(cmsg->cmsg_type, ==, SCM_RIGHTS);
        g_assert_cmpuint(script->num_fds + num, <=, SCRIPT_MAX_FDS);
        memcpy(script->fds + script->num_fds, CMSG_DATA(cmsg),
               num * sizeof(int));
        script->num_fds += num;
    }
}

/* As recvmsg, without waiting. */
static ssize_t receive_some(Script *script, uint8_t *data, size_t room)
{
    char control[CMSG_SPACE(SCRIPT_MAX_FDS * sizeof(int))];
    struct iovec iov = {.iov_base = data, .iov_len = room};
    struct msghdr msg = {.msg_iov = &iov,
                         .msg_iovlen = 1,
                         .msg_control = control,
                         .msg_controllen = sizeof(control)};
    ssize_t got = recvmsg(script->fd, &msg, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);

    if (got > 0) {
        keep_fds(script, &msg);
    }
    return got;
}

uint8_t *script_receive(Script *script, size_t bytes)
{
    const int64_t deadline_ms = vhu_now_ms() + WAIT_MS;
    uint8_t *data = g_malloc0(bytes + 1);
    size_t have = 0;

    while (have < bytes) {
        ssize_t got = receive_some(script, data + have, bytes - have);

        if (got == 0 || vhu_now_ms() > deadline_ms) {
            g_autofree char *hex = to_hex(data, have);

            g_error("%s after %zu of %zu bytes: %s",
                    got == 0 ? "closed" : "nothing more", have, bytes, hex);
        }
        if (got > 0) {
            have += (size_t)got;
        } else {
            script->turn(script->opaque);
        }
    }
    return data;
}

void script_expect(Script *script, const char *hex)
{
    g_autoptr(GByteArray) wanted = from_hex(hex);
    g_autofree uint8_t *data = script_receive(script, wanted->len);
    g_autofree char *got = to_hex(data, wanted->len);
    g_autofree char *expected = to_hex(wanted->data, wanted->len);

    g_assert_cmpstr(got, ==, expected);
}

void script_expect_silence(Script *script)
{
    uint8_t byte;

    for (int i = 0; i < SILENT_ROUNDS; i++) {
        script->turn(script->opaque);
    }
    g_assert_cmpint(receive_some(script, &byte, 1), <, 0);
    g_assert_cmpint(errno, ==, EAGAIN);
}

void script_expect_end(Script *script)
{
    const int64_t deadline_ms = vhu_now_ms() + WAIT_MS;
    uint8_t byte;
    ssize_t got;

    while ((got = receive_some(script, &byte, 1)) < 0 && errno == EAGAIN) {
        g_assert_cmpint(vhu_now_ms(), <, deadline_ms);
        script->turn(script->opaque);
    }
    if (got > 0) {
        g_error("a byte 0x%02x instead of the end", byte);
    }
}
