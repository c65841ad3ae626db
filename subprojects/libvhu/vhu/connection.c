/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Owns a connection's life as messages see it: reading, dispatching, replies,
 * and waiting for queues in between. Ending one is in close.c, what the
 * requests do in handle-*.c.
 */
#include "vhu/backend-internal.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

/* Messages handled in one round, so that no front end starves the others. */
#define MESSAGES_PER_ROUND 32

/* What a refused request is answered with; any value but 0 would do. */
#define REFUSED 1

void vhu_connection_log(const VhuConnection *connection, VhuLevel level,
                        const char *fmt, ...)
{
    char text[VHU_ERROR_TEXT_BYTES + 64];
    int used = snprintf(text, sizeof(text), "connection %u: ", connection->id);
    va_list args;

    va_start(args, fmt);
    vsnprintf(text + used, sizeof(text) - (size_t)used, fmt, args);
    va_end(args);
    vhu_backend_log(connection->backend, level, text);
}

uint64_t vhu_connection_protocol(const VhuConnection *connection)
{
    return vhu_channel_wire(connection->channel)->protocol_features;
}

bool vhu_connection_has(const VhuConnection *connection, unsigned bit)
{
    return !connection->closing &&
           (vhu_connection_protocol(connection) & VHU_FEATURE(bit));
}

void *vhu_connection_state(const VhuConnection *connection)
{
    return connection->state;
}

unsigned vhu_connection_id(const VhuConnection *connection)
{
    return connection->id;
}

uint64_t vhu_connection_features(const VhuConnection *connection)
{
    return connection->features;
}

VhuQueue *vhu_connection_queue(VhuConnection *connection, unsigned index)
{
    return index < connection->backend->info.num_queues
               ? &connection->queues[index]
               : NULL;
}

/* ---- replies ---- */

static void send_reply(VhuConnection *connection)
{
    VhuMessage *reply = &connection->reply;
    VhuError err = {0};

    reply->request = connection->request.request;
    reply->flags = VHU_FLAG_VERSION | VHU_FLAG_REPLY;
    if (vhu_channel_send(connection->channel, reply, &err) < 0) {
        vhu_connection_close(connection, &err);
    }
    vhu_message_close_fds(reply);
}

/* Answer the request at hand, if an answer is due. @result: 0 or -errno. */
static void finish_request(VhuConnection *connection, int result,
                           const VhuError *err)
{
    VhuMessage *request = &connection->request;
    const VhuWire *wire = vhu_channel_wire(connection->channel);
    const VhuMessageSpec *spec =
        vhu_message_spec(VHU_FROM_FRONTEND, request->request);
    const bool own_reply = connection->reply.kind != VHU_PAYLOAD_NONE ||
                           spec->reply_rule == VHU_REPLY_ALWAYS;

    vhu_message_close_fds(request);
    if (result < 0) {
        vhu_message_close_fds(&connection->reply);
        if (own_reply || !vhu_reply_due(wire, request)) {
            vhu_connection_close(connection, err);
            return;
        }
        vhu_connection_log(connection, VHU_LOG_WARN, "%s refused: %s",
                           spec->name, err->text);
    }
    if (!vhu_reply_due(wire, request)) {
        vhu_message_close_fds(&connection->reply);
        return;
    }
    if (!own_reply) {
        connection->reply.kind = VHU_PAYLOAD_U64;
        connection->reply.payload.u64 = result < 0 ? REFUSED : 0;
    }
    send_reply(connection);
}

/* ---- waiting for queues ---- */

int vhu_connection_wait(VhuConnection *connection, VhuResumeFn resume)
{
    connection->busy = true;
    connection->resume = resume;
    return VHU_HANDLE_LATER;
}

/* The watch follows: read unless busy, write while something is queued. */
static void update_watch(VhuConnection *connection)
{
    uint32_t events = connection->busy ? 0 : EPOLLIN;

    if (connection->closing) {
        return;
    }
    if (vhu_channel_wants_write(connection->channel)) {
        events |= EPOLLOUT;
    }
    vhu_watch_set_events(connection->watch, events);
}

void vhu_connection_unhold(VhuConnection *connection)
{
    VhuError err = {0};
    int result = 0;

    if (connection->pending > 0) {
        return;
    }
    if (connection->closing) {
        vhu_connection_try_free(connection);
        return;
    }
    if (!connection->busy) {
        return;
    }
    connection->busy = false;
    if (connection->resume) {
        result = connection->resume(connection, &connection->reply, &err);
        if (result == VHU_HANDLE_LATER) {
            vhu_connection_unhold(connection);
            return;
        }
    }
    finish_request(connection, result, &err);
    update_watch(connection);
}

/* ---- messages ---- */

static VhuHandler find_handler(uint32_t request)
{
    if (vhu_setup_handlers[request]) {
        return vhu_setup_handlers[request];
    }
    if (vhu_memory_handlers[request]) {
        return vhu_memory_handlers[request];
    }
    return vhu_vring_handlers[request];
}

static int dispatch(VhuConnection *connection, VhuError *err)
{
    VhuMessage *msg = &connection->request;
    VhuHandler handler = find_handler(msg->request);
    int ret = vhu_message_gated(vhu_channel_wire(connection->channel),
                                msg->request, err);

    if (ret < 0) {
        return ret;
    }
    if (!handler) {
        return vhu_error_set(
            err, ENOTSUP, msg->request, 0, "%s is not supported",
            vhu_message_spec(VHU_FROM_FRONTEND, msg->request)->name);
    }
    return handler(connection, msg, &connection->reply, err);
}

static void clear_reply(VhuMessage *reply)
{
    reply->kind = VHU_PAYLOAD_NONE;
    reply->num_fds = 0;
}

static void handle_message(VhuConnection *connection)
{
    VhuError err = {0};
    int ret;

    clear_reply(&connection->reply);
    ret = dispatch(connection, &err);
    if (ret == VHU_HANDLE_LATER) {
        vhu_connection_unhold(connection);
    } else {
        finish_request(connection, ret, &err);
    }
}

static void on_readable(VhuConnection *connection)
{
    for (int i = 0; i < MESSAGES_PER_ROUND; i++) {
        VhuError err = {0};
        int ret;

        if (connection->busy || connection->closing) {
            return;
        }
        ret = vhu_channel_receive(connection->channel, &connection->request,
                                  &err);
        if (ret == 0) {
            return;
        }
        if (ret < 0) {
            vhu_connection_close(connection, ret == -ECONNRESET ? NULL : &err);
            return;
        }
        handle_message(connection);
    }
}

static void on_socket(void *opaque, uint32_t events)
{
    VhuConnection *connection = opaque;
    VhuError err = {0};

    if ((events & EPOLLOUT) &&
        vhu_channel_flush(connection->channel, &err) < 0) {
        vhu_connection_close(connection, &err);
        return;
    }
    if (connection->busy && (events & (EPOLLHUP | EPOLLERR))) {
        vhu_connection_close(connection, NULL);
        return;
    }
    if (events & ~(uint32_t)EPOLLOUT) {
        on_readable(connection);
    }
    update_watch(connection);
}

static void on_lost(void *opaque, uint32_t events)
{
    VhuConnection *connection = opaque;
    VhuError err;

    (void)events;
    vhu_error_set(&err, EFAULT, 0, 0,
                  "memory the front end shares was truncated");
    vhu_connection_close(connection, &err);
}

/* ---- making one ---- */

static int set_up_queues(VhuConnection *connection)
{
    const unsigned num = connection->backend->info.num_queues;

    connection->queues = calloc(num, sizeof(*connection->queues));
    if (!connection->queues) {
        return -ENOMEM;
    }
    for (unsigned i = 0; i < num; i++) {
        if (vhu_queue_init(&connection->queues[i], connection, i) < 0) {
            return -ENOMEM;
        }
    }
    return 0;
}

static int set_up(VhuConnection *connection, VhuError *err)
{
    VhuLoop *loop = connection->backend->control;

    connection->lost_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (connection->lost_fd < 0) {
        return vhu_error_set(err, errno, 0, 0, "eventfd: %s", strerror(errno));
    }
    connection->memory = vhu_memory_new(connection->lost_fd);
    connection->iotlb = vhu_iotlb_new();
    if (!connection->memory || !connection->iotlb ||
        set_up_queues(connection) < 0) {
        return vhu_error_set(err, ENOMEM, 0, 0, "connection: out of memory");
    }
    connection->lost_watch =
        vhu_loop_watch(loop, connection->lost_fd, EPOLLIN, on_lost, connection);
    connection->watch =
        vhu_loop_watch(loop, vhu_channel_fd(connection->channel), EPOLLIN,
                       on_socket, connection);
    if (!connection->lost_watch || !connection->watch) {
        return vhu_error_set(err, errno, 0, 0, "connection: cannot watch: %s",
                             strerror(errno));
    }
    return 0;
}

static int connect_device(VhuConnection *connection, VhuError *err)
{
    VhuBackend *backend = connection->backend;
    const VhuDeviceOps *ops = backend->info.ops;
    int ret = 0;

    if (ops->connect) {
        ret = ops->connect(connection, backend->device, &connection->state);
    }
    if (ret < 0) {
        return vhu_error_set(err, -ret, 0, 0, "device refused connection: %s",
                             strerror(-ret));
    }
    connection->connected = true;
    return 0;
}

VhuConnection *vhu_connection_new(VhuBackend *backend, int fd, VhuError *err)
{
    VhuConnection *connection = calloc(1, sizeof(*connection));

    if (!connection) {
        close(fd);
        vhu_error_set(err, ENOMEM, 0, 0, "connection: out of memory");
        return NULL;
    }
    connection->backend = backend;
    connection->id = ++backend->last_id;
    connection->lost_fd = -1;
    connection->log_fd = -1;
    connection->uffd = -1;
    connection->transfer.fd = -1;
    connection->asked_end = &connection->asked;
    connection->channel = vhu_channel_new(fd, VHU_FROM_FRONTEND, false, err);
    if (!connection->channel || set_up(connection, err) < 0 ||
        connect_device(connection, err) < 0) {
        connection->closing = true;
        vhu_connection_try_free(connection);
        return NULL;
    }
    vhu_channel_set_trace(connection->channel, backend->events.trace,
                          backend->events.opaque);
    return connection;
}
