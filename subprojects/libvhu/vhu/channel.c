/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Owns one socket and what is half received or half sent on it. Knows whole
 * messages and fds, not what they mean; who waits for the socket, and what is
 * done about an error, is the caller's.
 *
 * A message is read in three steps: its first byte, the rest of the header,
 * the payload. Linux hands out the fds of a sendmsg with the first byte that
 * is read of it, and a read may run from one sendmsg into the next: only a
 * read of one byte can tell fds that came with the first byte, where they
 * must be, from fds that came later. Nothing is read past the message, so
 * that the next one is decoded after this one has taken effect.
 *
 * To send, the caller's fds are lent to sendmsg; only what the socket does
 * not take at once is queued, with duplicates of the fds until they are out.
 */
#include "vhu/channel.h"
#include "vhu/channel-internal.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

/* Room for the fds of a message: one more would be cut off, and seen. */
typedef union Control {
    struct cmsghdr align;
    char bytes[CMSG_SPACE(VHU_MAX_FDS * sizeof(int))];
} Control;

static int check_socket(int fd, VhuError *err)
{
    int domain = 0;
    int type = 0;
    socklen_t size = sizeof(int);
    int flags;

    if (getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &domain, &size) < 0 ||
        getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &size) < 0) {
        return vhu_error_set(err, errno, 0, (uint64_t)fd, "fd %d: %s", fd,
                             strerror(errno));
    }
    if (domain != AF_UNIX || type != SOCK_STREAM) {
        return vhu_error_set(err, EPROTOTYPE, 0, (uint64_t)fd,
                             "fd %d is not a Unix stream socket", fd);
    }
    flags = fcntl(fd, F_GETFL);
    if (flags < 0 || fcntl(fd, F_SETFL, flags | O_NONBLOCK) < 0 ||
        fcntl(fd, F_SETFD, FD_CLOEXEC) < 0) {
        return vhu_error_set(err, errno, 0, (uint64_t)fd, "fd %d: %s", fd,
                             strerror(errno));
    }
    return 0;
}

VhuChannel *vhu_channel_new(int fd, VhuDirection direction, bool requester,
                            VhuError *err)
{
    VhuChannel *channel = NULL;

    if (!check_socket(fd, err)) {
        channel = calloc(1, sizeof(*channel));
        if (!channel) {
            vhu_error_set(err, ENOMEM, 0, 0, "no memory for a channel");
        }
    }
    if (!channel) {
        if (fd >= 0) {
            close(fd);
        }
        return NULL;
    }
    channel->fd = fd;
    channel->wire.direction = direction;
    channel->requester = requester;
    return channel;
}

void vhu_channel_close_fds(int *fds, uint32_t *num_fds)
{
    for (uint32_t i = 0; i < *num_fds; i++) {
        close(fds[i]);
    }
    *num_fds = 0;
}

void vhu_channel_free(VhuChannel *channel)
{
    if (!channel) {
        return;
    }
    vhu_channel_drop_queue(channel);
    vhu_channel_close_fds(channel->fds, &channel->num_fds);
    close(channel->fd);
    free(channel);
}

int vhu_channel_fd(const VhuChannel *channel)
{
    return channel->fd;
}

VhuWire *vhu_channel_wire(VhuChannel *channel)
{
    return &channel->wire;
}

void vhu_channel_set_trace(VhuChannel *channel, VhuTraceFn fn, void *opaque)
{
    channel->trace = fn;
    channel->trace_opaque = opaque;
}

/* Move the fds out of what recvmsg filled; returns how many. */
static uint32_t collect_fds(struct msghdr *header, int *fds)
{
    uint32_t num_fds = 0;

    for (struct cmsghdr *cmsg = CMSG_FIRSTHDR(header); cmsg;
         cmsg = CMSG_NXTHDR(header, cmsg)) {
        size_t bytes = cmsg->cmsg_len - CMSG_LEN(0);

        if (cmsg->cmsg_level == SOL_SOCKET && cmsg->cmsg_type == SCM_RIGHTS) {
            memcpy(fds + num_fds, CMSG_DATA(cmsg), bytes);
            num_fds += (uint32_t)(bytes / sizeof(int));
        }
    }
    return num_fds;
}

static int peer_closed(const VhuChannel *channel, VhuError *err)
{
    if (!channel->have) {
        return vhu_error_set(err, ECONNRESET, 0, 0,
                             "the peer closed the connection");
    }
    if (channel->have < VHU_HEADER_BYTES) {
        return vhu_error_set(err, ECONNRESET, 0, channel->have,
                             "the peer closed the connection inside a "
                             "message, after %u of %u header bytes",
                             channel->have, VHU_HEADER_BYTES);
    }
    return vhu_error_set(
        err, ECONNRESET, channel->header.request, channel->have,
        "the peer closed the connection inside a message, "
        "after %u of %u bytes",
        channel->have, VHU_HEADER_BYTES + channel->header.size);
}

/*
 * Keep the fds that came with a read, if they may: they are closed when the
 * channel is freed, or go out with the message.
 */
static int keep_fds(VhuChannel *channel, struct msghdr *header)
{
    int fds[VHU_MAX_FDS];
    uint32_t num_fds = collect_fds(header, fds);
    VhuError *err = &channel->receive_err;
    int ret = 0;

    if (header->msg_flags & MSG_CTRUNC) {
        ret = vhu_error_set(err, EPROTO, 0, num_fds,
                            "more than %u fds with a message, or no room for "
                            "them in this process",
                            num_fds);
    } else if (num_fds && channel->have) {
        ret = vhu_error_set(err, EPROTO, 0, num_fds,
                            "%u fds after byte %u of a message, expected with "
                            "the first",
                            num_fds, channel->have);
    }
    if (ret) {
        vhu_channel_close_fds(fds, &num_fds);
    } else if (num_fds) {
        memcpy(channel->fds, fds, num_fds * sizeof(int));
        channel->num_fds = num_fds;
    }
    return ret;
}

/*
 * Read on until @want bytes of the message are there. Returns 1 then, 0 if
 * the socket has no more now, or -errno with channel->receive_err filled.
 */
static int read_until(VhuChannel *channel, uint32_t want)
{
    while (channel->have < want) {
        Control control;
        struct iovec iov = {
            .iov_base = channel->bytes + channel->have,
            .iov_len = want - channel->have,
        };
        struct msghdr header = {
            .msg_iov = &iov,
            .msg_iovlen = 1,
            .msg_control = control.bytes,
            .msg_controllen = sizeof(control.bytes),
        };
        ssize_t count;
        int ret;

        count = recvmsg(channel->fd, &header, MSG_CMSG_CLOEXEC | MSG_DONTWAIT);
        if (count < 0 && errno == EINTR) {
            continue;
        }
        if (count < 0 && (errno == EAGAIN || errno == EWOULDBLOCK)) {
            return 0;
        }
        if (count == 0 || (count < 0 && errno == ECONNRESET)) {
            return peer_closed(channel, &channel->receive_err);
        }
        if (count < 0) {
            return vhu_error_set(&channel->receive_err, errno, 0, 0,
                                 "receiving a message: %s", strerror(errno));
        }
        ret = keep_fds(channel, &header);
        if (ret) {
            return ret;
        }
        channel->have += (uint32_t)count;
    }
    return 1;
}

/* Read what is there of the next message; as read_until. */
static int read_message(VhuChannel *channel)
{
    int ret;

    ret = read_until(channel, 1);
    if (ret <= 0) {
        return ret;
    }
    if (channel->have < VHU_HEADER_BYTES) {
        ret = read_until(channel, VHU_HEADER_BYTES);
        if (ret <= 0) {
            return ret;
        }
        ret = vhu_header_decode(&channel->wire, channel->bytes,
                                channel->requester, &channel->header,
                                &channel->receive_err);
        if (ret) {
            return ret;
        }
    }
    return read_until(channel, VHU_HEADER_BYTES + channel->header.size);
}

/* Decode the message that is there, and hand over its fds. */
static int take_message(VhuChannel *channel, VhuMessage *msg)
{
    VhuError *err = &channel->receive_err;
    int ret;

    ret = vhu_payload_decode(&channel->wire, &channel->header,
                             channel->bytes + VHU_HEADER_BYTES, msg, err);
    if (ret) {
        return ret;
    }
    memcpy(msg->fds, channel->fds, sizeof(msg->fds));
    msg->num_fds = channel->num_fds;
    ret = vhu_fds_check(&channel->wire, msg, err);
    if (ret) {
        msg->num_fds = 0;
        return ret;
    }
    channel->num_fds = 0;
    channel->have = 0;
    return 1;
}

int vhu_channel_receive(VhuChannel *channel, VhuMessage *msg, VhuError *err)
{
    int ret = -channel->receive_err.code;

    msg->num_fds = 0;
    if (!ret) {
        ret = read_message(channel);
        if (ret > 0) {
            ret = take_message(channel, msg);
        }
    }
    if (ret < 0) {
        vhu_channel_close_fds(channel->fds, &channel->num_fds);
        if (err) {
            *err = channel->receive_err;
        }
    } else if (ret > 0 && channel->trace) {
        channel->trace(channel->trace_opaque, false, &channel->wire, msg);
    }
    return ret;
}

/* Milliseconds to poll for: -1 for ever, 0 if the deadline has passed. */
static int poll_timeout(int64_t deadline_ms)
{
    int64_t left;

    if (deadline_ms < 0) {
        return -1;
    }
    left = deadline_ms - vhu_now_ms();
    return left <= 0 ? 0 : left > INT_MAX ? INT_MAX : (int)left;
}

int vhu_channel_wait(VhuChannel *channel, int64_t deadline_ms, VhuMessage *msg,
                     VhuError *err)
{
    while (true) {
        struct pollfd pollfd = {.fd = channel->fd, .events = POLLIN};
        int timeout = poll_timeout(deadline_ms);
        VhuError flush_err;
        int flushed = vhu_channel_flush(channel, &flush_err);
        int ret;

        /* A peer that no longer reads may have answered before. */
        ret = vhu_channel_receive(channel, msg, err);
        if (ret > 0) {
            return 0;
        }
        if (flushed < 0) {
            if (err) {
                *err = flush_err;
            }
            return flushed;
        }
        if (ret < 0) {
            return ret;
        }
        if (timeout == 0) {
            return vhu_error_set(err, ETIMEDOUT, 0, channel->have,
                                 "no message in time, %u bytes of one came",
                                 channel->have);
        }
        if (flushed) {
            pollfd.events |= POLLOUT;
        }
        if (poll(&pollfd, 1, timeout) < 0 && errno != EINTR) {
            return vhu_error_set(err, errno, 0, 0, "waiting for a message: %s",
                                 strerror(errno));
        }
    }
}
