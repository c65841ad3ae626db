/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Owns the transfer of device state over the fd of SET_DEVICE_STATE_FD, on
 * the control thread's loop, without waiting: the state is a byte string that
 * goes out, or comes in until end of file. CHECK_DEVICE_STATE is answered
 * when it is through.
 */
#include "vhu/backend-internal.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

/* State larger than this is refused: no device here has nearly as much. */
#define MAX_STATE_BYTES (256u * 1024u * 1024u)
#define CHUNK_BYTES     (64u * 1024u)

enum {
    DIRECTION_SAVE = 0,
    DIRECTION_LOAD = 1,
};

static void forget_buffer(VhuTransfer *transfer)
{
    free(transfer->buffer.data);
    transfer->buffer = (VhuBuffer){0};
    transfer->done = 0;
}

static void close_transfer(VhuTransfer *transfer)
{
    vhu_watch_free(transfer->watch);
    transfer->watch = NULL;
    if (transfer->fd >= 0) {
        close(transfer->fd);
    }
    transfer->fd = -1;
    forget_buffer(transfer);
}

static void end(VhuConnection *connection, int result)
{
    VhuTransfer *transfer = &connection->transfer;

    transfer->result = result;
    if (result < 0) {
        vhu_connection_log(connection, VHU_LOG_ERROR, "%s device state: %s",
                           transfer->saving ? "saving" : "loading",
                           strerror(-result));
    }
    close_transfer(transfer);
    if (transfer->check_waits) {
        transfer->check_waits = false;
        connection->pending--;
        vhu_connection_unhold(connection);
    }
}

void vhu_transfer_abort(VhuConnection *connection)
{
    VhuTransfer *transfer = &connection->transfer;

    close_transfer(transfer);
    if (transfer->check_waits) {
        transfer->check_waits = false;
        connection->pending--;
    }
}

/* ---- moving bytes ---- */

static ssize_t put_bytes(const VhuTransfer *transfer, const void *data,
                         size_t bytes)
{
    return transfer->socket
               ? send(transfer->fd, data, bytes, MSG_DONTWAIT | MSG_NOSIGNAL)
               : write(transfer->fd, data, bytes);
}

static ssize_t get_bytes(const VhuTransfer *transfer, void *data, size_t bytes)
{
    return transfer->socket ? recv(transfer->fd, data, bytes, MSG_DONTWAIT)
                            : read(transfer->fd, data, bytes);
}

static void send_some(VhuConnection *connection)
{
    VhuTransfer *transfer = &connection->transfer;
    const VhuBuffer *buffer = &transfer->buffer;

    while (transfer->done < buffer->bytes) {
        ssize_t sent = put_bytes(transfer, buffer->data + transfer->done,
                                 buffer->bytes - transfer->done);

        if (sent < 0 && (errno == EAGAIN || errno == EINTR)) {
            return;
        }
        if (sent < 0) {
            end(connection, -errno);
            return;
        }
        transfer->done += (size_t)sent;
    }
    end(connection, 0);
}

static void finish_load(VhuConnection *connection)
{
    const VhuBuffer *buffer = &connection->transfer.buffer;

    end(connection, connection->backend->info.ops->load(
                        connection->state, buffer->data, buffer->bytes));
}

static void receive_some(VhuConnection *connection)
{
    VhuTransfer *transfer = &connection->transfer;
    uint8_t chunk[CHUNK_BYTES];
    ssize_t got = get_bytes(transfer, chunk, sizeof(chunk));

    if (got < 0 && (errno == EAGAIN || errno == EINTR)) {
        return;
    }
    if (got < 0) {
        end(connection, -errno);
    } else if (got == 0) {
        finish_load(connection);
    } else if (transfer->buffer.bytes + (size_t)got > MAX_STATE_BYTES) {
        end(connection, -EFBIG);
    } else if (vhu_buffer_append(&transfer->buffer, chunk, (size_t)got) < 0) {
        end(connection, -ENOMEM);
    }
}

static void on_ready(void *opaque, uint32_t events)
{
    VhuConnection *connection = opaque;

    (void)events;
    if (connection->transfer.saving) {
        send_some(connection);
    } else {
        receive_some(connection);
    }
}

/* ---- requests ---- */

static int check_legal(const VhuConnection *connection, const VhuMessage *msg,
                       VhuError *err)
{
    const VhuStateTransfer *wish = &msg->payload.transfer;

    if (wish->direction > DIRECTION_LOAD || wish->phase != 0) {
        return vhu_error_set(err, EINVAL, msg->request, wish->direction,
                             "device state: direction %u, phase %u, expected "
                             "0 or 1, and 0",
                             wish->direction, wish->phase);
    }
    for (unsigned i = 0; i < connection->backend->info.num_queues; i++) {
        if (connection->queues[i].set.armed) {
            return vhu_error_set(err, EBUSY, msg->request, i,
                                 "device state while vring %u is not stopped",
                                 i);
        }
    }
    if (connection->transfer.fd >= 0) {
        return vhu_error_set(err, EBUSY, msg->request, 0,
                             "device state while a transfer is under way");
    }
    return 0;
}

/*
 * The front end shares the open file and could make it blocking again: a pipe
 * is opened anew for ourselves, a socket is told with every transfer.
 */
static int take_channel(VhuTransfer *transfer, int fd)
{
    char path[32];
    int type;
    socklen_t size = sizeof(type);

    if (getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &size) == 0) {
        transfer->fd = fd;
        transfer->socket = true;
        return 0;
    }
    snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
    transfer->socket = false;
    transfer->fd = open(path, (transfer->saving ? O_WRONLY : O_RDONLY) |
                                  O_NONBLOCK | O_CLOEXEC);
    if (transfer->fd < 0) {
        const int code = errno;

        close(fd);
        return -code;
    }
    close(fd);
    return 0;
}

static int watch_transfer(VhuConnection *connection, VhuError *err)
{
    VhuTransfer *transfer = &connection->transfer;

    transfer->watch = vhu_loop_watch(connection->backend->control, transfer->fd,
                                     transfer->saving ? EPOLLOUT : EPOLLIN,
                                     on_ready, connection);
    if (!transfer->watch) {
        return vhu_error_set(err, errno, VHOST_USER_SET_DEVICE_STATE_FD, 0,
                             "device state fd is no pipe or socket: %s",
                             strerror(errno));
    }
    return 0;
}

static int begin(VhuConnection *connection, VhuMessage *msg, VhuError *err)
{
    VhuTransfer *transfer = &connection->transfer;
    int ret = check_legal(connection, msg, err);

    if (ret < 0) {
        return ret;
    }
    transfer->result = -ECANCELED; /* until it has begun */
    transfer->saving = msg->payload.transfer.direction == DIRECTION_SAVE;
    if (transfer->saving) {
        ret = connection->backend->info.ops->save(connection->state,
                                                  &transfer->buffer);
    }
    if (ret < 0) {
        forget_buffer(transfer);
        return vhu_error_set(err, -ret, msg->request, 0,
                             "device state cannot be saved: %s",
                             strerror(-ret));
    }
    ret = take_channel(transfer, vhu_message_take_fd(msg, 0));
    if (ret < 0) {
        forget_buffer(transfer);
        return vhu_error_set(err, -ret, msg->request, 0,
                             "device state fd is no pipe or socket: %s",
                             strerror(-ret));
    }
    ret = watch_transfer(connection, err);
    if (ret < 0) {
        close_transfer(transfer);
    } else {
        transfer->result = 0;
    }
    return ret;
}

int vhu_transfer_start(VhuConnection *connection, VhuMessage *msg,
                       VhuMessage *reply, VhuError *err)
{
    /* Bit 8: no fd comes back, the front end's own is used. */
    reply->kind = VHU_PAYLOAD_U64;
    reply->payload.u64 = VHU_VRING_NO_FD;
    if (begin(connection, msg, err) < 0) {
        reply->payload.u64 |= 1;
        vhu_connection_log(connection, VHU_LOG_WARN,
                           "SET_DEVICE_STATE_FD refused: %s", err->text);
    }
    return 0;
}

static int finish_check(VhuConnection *connection, VhuMessage *reply,
                        VhuError *err)
{
    (void)err;
    reply->kind = VHU_PAYLOAD_U64;
    reply->payload.u64 = connection->transfer.result < 0;
    return 0;
}

int vhu_transfer_check(VhuConnection *connection, VhuMessage *msg,
                       VhuMessage *reply, VhuError *err)
{
    (void)msg;
    if (connection->transfer.fd < 0) {
        return finish_check(connection, reply, err);
    }
    connection->transfer.check_waits = true;
    connection->pending++;
    return vhu_connection_wait(connection, finish_check);
}
