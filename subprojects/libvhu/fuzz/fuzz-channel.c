/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Owns the fuzz target of a channel that receives. An input is a byte of
 * state, then pieces that the peer sends one by one: a byte of length, a byte
 * of fds, and so many bytes. Whatever comes, no fd may be left.
 */
#include "fuzz/fuzz.h"
#include "vhu/channel.h"
#include "tests/message-vectors.h"

#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

/* Of the first byte; the rest are protocol features that change the wire. */
#define FROM_BACKEND 0x01
#define REQUESTER    0x02
#define LISTENING    0x04
#define LOG_SHMFD    0x08
#define XEN_MMAP     0x10

/* More than a message may carry, so that some are too many. */
#define MOST_FDS 10u

const char fuzz_name[] = "channel";

static void promise(bool kept)
{
    if (!kept) {
        abort();
    }
}

/* The lowest fd that is free: the same again if none was left open. */
static int lowest_free_fd(void)
{
    int fd = dup(STDERR_FILENO);

    promise(fd >= 0);
    close(fd);
    return fd;
}

static void send_piece(int peer, const uint8_t *bytes, size_t size,
                       unsigned num_fds)
{
    union {
        struct cmsghdr align;
        char bytes[CMSG_SPACE(MOST_FDS * sizeof(int))];
    } control = {0};
    struct iovec iov = {.iov_base = (void *)bytes, .iov_len = size};
    struct msghdr header = {.msg_iov = &iov, .msg_iovlen = 1};

    if (num_fds) {
        struct cmsghdr *cmsg = &control.align;
        int *fds = (int *)CMSG_DATA(cmsg);

        header.msg_control = control.bytes;
        header.msg_controllen = CMSG_SPACE(num_fds * sizeof(int));
        cmsg->cmsg_level = SOL_SOCKET;
        cmsg->cmsg_type = SCM_RIGHTS;
        cmsg->cmsg_len = CMSG_LEN(num_fds * sizeof(int));
        for (unsigned i = 0; i < num_fds; i++) {
            fds[i] = STDERR_FILENO;
        }
    }
    promise(sendmsg(peer, &header, MSG_NOSIGNAL) == (ssize_t)size);
}

/* Take what came; returns false when the channel is dead. */
static bool drain(VhuChannel *channel)
{
    VhuMessage msg;
    VhuError err = {0};
    int ret;

    while ((ret = vhu_channel_receive(channel, &msg, &err)) > 0) {
        promise(vhu_fds_check(vhu_channel_wire(channel), &msg, NULL) == 0);
        vhu_message_close_fds(&msg);
    }
    promise(msg.num_fds == 0);
    promise(ret == 0 || (err.code == -ret && err.text[0]));
    return ret == 0;
}

static VhuChannel *open_channel(uint8_t state, int fd)
{
    VhuDirection direction =
        state & FROM_BACKEND ? VHU_FROM_BACKEND : VHU_FROM_FRONTEND;
    VhuChannel *channel =
        vhu_channel_new(fd, direction, state & REQUESTER, NULL);

    promise(channel);
    vhu_channel_wire(channel)->postcopy_listening = state & LISTENING;
    vhu_channel_wire(channel)->protocol_features =
        (state & LOG_SHMFD ? VHU_PROTOCOL_BIT(LOG_SHMFD) : 0) |
        (state & XEN_MMAP ? VHU_PROTOCOL_BIT(XEN_MMAP) : 0);
    return channel;
}

void fuzz_one(const uint8_t *bytes, size_t size)
{
    int first = lowest_free_fd();
    size_t at = 1;
    bool alive = true;
    VhuChannel *channel;
    int pair[2];

    if (size < 1) {
        return;
    }
    promise(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) == 0);
    channel = open_channel(bytes[0], pair[0]);
    while (alive && at + 2 < size) {
        size_t length = bytes[at] ? bytes[at] : 1;
        unsigned num_fds = bytes[at + 1] % (MOST_FDS + 1);

        at += 2;
        if (length > size - at) {
            length = size - at;
        }
        send_piece(pair[1], bytes + at, length, num_fds);
        at += length;
        alive = drain(channel);
    }
    close(pair[1]);
    promise(!drain(channel));
    vhu_channel_free(channel);
    promise(lowest_free_fd() == first);
}

static uint8_t state_of(const Vector *vector)
{
    uint64_t features = vector->wire.protocol_features;

    return (uint8_t)((vector->wire.direction == VHU_FROM_BACKEND ? FROM_BACKEND
                                                                 : 0) |
                     (vector->want.flags & VHU_FLAG_REPLY ? REQUESTER : 0) |
                     (vector->wire.postcopy_listening ? LISTENING : 0) |
                     (features & VHU_PROTOCOL_BIT(LOG_SHMFD) ? LOG_SHMFD : 0) |
                     (features & VHU_PROTOCOL_BIT(XEN_MMAP) ? XEN_MMAP : 0));
}

size_t fuzz_seed(unsigned number, uint8_t *bytes)
{
    uint8_t message[VHU_HEADER_BYTES + VHU_MAX_PAYLOAD_BYTES];
    const Vector *vector = message_vector(number);
    size_t used = 1;
    size_t size;

    if (!vector) {
        return 0;
    }
    size = vector_bytes(vector, message);
    bytes[0] = state_of(vector);
    for (size_t at = 0; at < size;) {
        size_t length = size - at < 255 ? size - at : 255;

        bytes[used] = (uint8_t)length;
        bytes[used + 1] = at == 0 ? vector->fds_min : 0;
        memcpy(bytes + used + 2, message + at, length);
        used += 2 + length;
        at += length;
    }
    return used;
}
