/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Owns the sending half of a channel: checks, the queue and its limits. Why
 * it is built so is told at the top of channel.c.
 */
#include "vhu/channel.h"
#include "vhu/channel-internal.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

static void free_outgoing(VhuOutgoing *outgoing)
{
    vhu_channel_close_fds(outgoing->fds, &outgoing->num_fds);
    free(outgoing);
}

/* Unlink the oldest and free it. */
static void drop_first(VhuChannel *channel)
{
    VhuOutgoing *first = channel->queue;

    channel->queued_bytes -= first->size - first->sent;
    channel->queued_fds -= first->num_fds;
    channel->queue = first->next;
    free_outgoing(first);
}

void vhu_channel_drop_queue(VhuChannel *channel)
{
    while (channel->queue) {
        drop_first(channel);
    }
}

/* Remember that nothing can be sent any more; returns -errno. */
static int sending_failed(VhuChannel *channel, int code)
{
    vhu_channel_drop_queue(channel);
    if (code == EPIPE || code == ECONNRESET || code == ENOTCONN) {
        return vhu_error_set(&channel->send_err, EPIPE, 0, 0,
                             "the peer no longer receives");
    }
    return vhu_error_set(&channel->send_err, code, 0, 0,
                         "sending a message: %s", strerror(code));
}

/*
 * Send bytes, and fds with the first of them. Returns how many bytes went
 * out, 0 if the socket is full, or -errno with channel->send_err filled.
 */
static int send_some(VhuChannel *channel, const uint8_t *bytes, uint32_t size,
                     const int *fds, uint32_t num_fds)
{
    union {
        struct cmsghdr align;
        char bytes[CMSG_SPACE(VHU_MAX_FDS * sizeof(int))];
    } control = {0};
    struct iovec iov = {.iov_base = (void *)bytes, .iov_len = size};
    struct msghdr header = {.msg_iov = &iov, .msg_iovlen = 1};
    ssize_t count;

    if (num_fds) {
        struct cmsghdr *cmsg = &control.align;

        header.msg_control = control.bytes;
        header.msg_controllen = CMSG_SPACE(num_fds * sizeof(int));
        cmsg->cmsg_level = SOL_SOCKET;
        cmsg->cmsg_type = SCM_RIGHTS;
        cmsg->cmsg_len = CMSG_LEN(num_fds * sizeof(int));
        memcpy(CMSG_DATA(cmsg), fds, num_fds * sizeof(int));
    }
    do {
        count = sendmsg(channel->fd, &header, MSG_NOSIGNAL | MSG_DONTWAIT);
    } while (count < 0 && errno == EINTR);
    if (count >= 0) {
        return (int)count;
    }
    if (errno == EAGAIN || errno == EWOULDBLOCK) {
        return 0;
    }
    return sending_failed(channel, errno);
}

/* Send one queued message as far as possible: as send_some. */
static int send_first(VhuChannel *channel)
{
    VhuOutgoing *first = channel->queue;
    int count =
        send_some(channel, first->bytes + first->sent,
                  first->size - first->sent, first->fds, first->num_fds);

    if (count > 0) {
        first->sent += (uint32_t)count;
        channel->queued_bytes -= (uint32_t)count;
        channel->queued_fds -= first->num_fds;
        vhu_channel_close_fds(first->fds, &first->num_fds);
        if (first->sent == first->size) {
            drop_first(channel);
        }
    }
    return count;
}

int vhu_channel_flush(VhuChannel *channel, VhuError *err)
{
    int count = -channel->send_err.code;

    while (count >= 0 && channel->queue) {
        count = send_first(channel);
        if (count == 0) {
            return 1;
        }
    }
    if (count < 0) {
        if (err) {
            *err = channel->send_err;
        }
        return count;
    }
    return 0;
}

bool vhu_channel_wants_write(const VhuChannel *channel)
{
    return channel->queue != NULL;
}

/* Queue bytes, and duplicates of fds. */
static int enqueue(VhuChannel *channel, const uint8_t *bytes, uint32_t size,
                   const VhuMessage *fds_of, VhuError *err)
{
    VhuOutgoing *outgoing = malloc(sizeof(*outgoing) + size);
    int ret;

    if (!outgoing) {
        return vhu_error_set(err, ENOMEM, 0, size,
                             "no memory to queue %u bytes", size);
    }
    *outgoing = (VhuOutgoing){.size = size};
    memcpy(outgoing->bytes, bytes, size);
    for (uint32_t i = 0; fds_of && i < fds_of->num_fds; i++) {
        int fd = fcntl(fds_of->fds[i], F_DUPFD_CLOEXEC, 0);

        if (fd < 0) {
            ret = vhu_error_set(err, errno, fds_of->request, i,
                                "duplicating fd %d: %s", fds_of->fds[i],
                                strerror(errno));
            free_outgoing(outgoing);
            return ret;
        }
        outgoing->fds[outgoing->num_fds++] = fd;
    }
    if (channel->queue) {
        channel->queue_last->next = outgoing;
    } else {
        channel->queue = outgoing;
    }
    channel->queue_last = outgoing;
    channel->queued_bytes += size;
    channel->queued_fds += outgoing->num_fds;
    return 0;
}

/* Check that the message is legal here, and encode it: bytes, or -EINVAL. */
static int prepare(const VhuChannel *channel, const VhuMessage *msg,
                   uint8_t *bytes, VhuError *err)
{
    bool reply = msg->flags & VHU_FLAG_REPLY;
    int size;

    if (reply == channel->requester) {
        return vhu_error_set(err, EINVAL, msg->request, msg->flags,
                             "request %u: a %s is not ours to send",
                             msg->request, reply ? "reply" : "request");
    }
    size = vhu_message_encode(&channel->wire, msg, bytes, err);
    if (size < 0) {
        return size;
    }
    if (vhu_fds_check(&channel->wire, msg, err)) {
        if (err) {
            err->code = EINVAL;
        }
        return -EINVAL;
    }
    for (uint32_t i = 0; i < msg->num_fds; i++) {
        if (msg->fds[i] < 0) {
            return vhu_error_set(err, EINVAL, msg->request,
                                 (uint64_t)msg->fds[i],
                                 "request %u: fd %u of %u is %d", msg->request,
                                 i, msg->num_fds, msg->fds[i]);
        }
    }
    return size;
}

/* Send now what the socket takes, and queue the rest. */
static int send_or_queue(VhuChannel *channel, const uint8_t *bytes,
                         uint32_t size, const VhuMessage *msg, VhuError *err)
{
    int count = vhu_channel_flush(channel, err);

    if (count < 0) {
        return count;
    }
    if (channel->queued_bytes + size > VHU_CHANNEL_QUEUE_BYTES ||
        channel->queued_fds + msg->num_fds > VHU_CHANNEL_QUEUE_FDS) {
        return vhu_error_set(err, ENOBUFS, msg->request, channel->queued_bytes,
                             "the peer does not read: %u bytes and %u fds are "
                             "queued",
                             channel->queued_bytes, channel->queued_fds);
    }
    if (channel->queue) {
        return enqueue(channel, bytes, size, msg, err);
    }
    count = send_some(channel, bytes, size, msg->fds, msg->num_fds);
    if (count == 0) {
        return enqueue(channel, bytes, size, msg, err);
    }
    if (count > 0 && (uint32_t)count < size &&
        enqueue(channel, bytes + count, size - (uint32_t)count, NULL, err)) {
        /* Half a message is out: nothing can follow it. */
        count = sending_failed(channel, ENOMEM);
    }
    if (count < 0) {
        if (err) {
            *err = channel->send_err;
        }
        return count;
    }
    return 0;
}

int vhu_channel_send(VhuChannel *channel, const VhuMessage *msg, VhuError *err)
{
    uint8_t bytes[VHU_HEADER_BYTES + VHU_MAX_PAYLOAD_BYTES];
    int ret;

    if (channel->receive_err.code) {
        return vhu_error_set(err, EPIPE, msg->request, 0, "%s",
                             channel->receive_err.text);
    }
    ret = prepare(channel, msg, bytes, err);
    if (ret < 0) {
        return ret;
    }
    ret = send_or_queue(channel, bytes, (uint32_t)ret, msg, err);
    if (!ret && channel->trace) {
        channel->trace(channel->trace_opaque, true, &channel->wire, msg);
    }
    return ret;
}
