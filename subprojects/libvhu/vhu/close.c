/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Owns the end of a connection. Order: the socket is closed, so that the
 * front end knows; every queue is told to stop and to drop what comes back;
 * once all elements are back, the device forgets the connection; then memory
 * is unmapped and the rest freed. A device that hangs keeps only its own dead
 * connection alive.
 */
#include "vhu/backend-internal.h"

#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

void vhu_fd_close(int *fd)
{
    if (*fd >= 0) {
        close(*fd);
    }
    *fd = -1;
}

static void cut_sockets(VhuConnection *connection)
{
    vhu_watch_free(connection->watch);
    vhu_watch_free(connection->lost_watch);
    connection->watch = NULL;
    connection->lost_watch = NULL;
    vhu_message_close_fds(&connection->request);
    vhu_message_close_fds(&connection->reply);
    vhu_requests_close(connection);
    vhu_transfer_abort(connection);
    /* A queue that waits for a page could never be stopped. */
    vhu_postcopy_close(connection->uffd, connection->memory);
    connection->uffd = -1;
    vhu_channel_free(connection->channel);
    connection->channel = NULL;
}

static void tell_owner(VhuConnection *connection)
{
    const VhuBackendEvents *events = &connection->backend->events;

    if (connection->why.code) {
        vhu_connection_log(connection, VHU_LOG_ERROR, "closed: %s",
                           connection->why.text);
    } else {
        vhu_connection_log(connection, VHU_LOG_INFO, "disconnected");
    }
    if (events->disconnected) {
        events->disconnected(events->opaque, connection, &connection->why);
    }
}

/* Runs from the loop, so that whoever closed the connection may still look
 * at it, and so that callbacks on the stack are gone. */
static void end(void *opaque)
{
    VhuConnection *connection = opaque;

    vhu_connection_drained(connection);
    cut_sockets(connection);
    tell_owner(connection);
    if (vhu_queues_send_stop(connection, true) < 0) {
        vhu_connection_log(connection, VHU_LOG_ERROR,
                           "out of memory: queues cannot be stopped");
    }
    connection->pending--; /* of vhu_connection_close */
    vhu_connection_try_free(connection);
}

void vhu_connection_close(VhuConnection *connection, const VhuError *err)
{
    if (connection->closing) {
        return;
    }
    connection->closing = true;
    if (err) {
        connection->why = *err;
    }
    vhu_watch_set_events(connection->watch, 0);
    connection->pending++;
    if (vhu_loop_post(connection->backend->control, end, connection) < 0) {
        end(connection);
    }
}

void vhu_connection_try_free(VhuConnection *connection)
{
    VhuBackend *backend = connection->backend;
    const VhuDeviceOps *ops = backend->info.ops;

    if (connection->pending > 0) {
        return;
    }
    if (connection->connected && ops->disconnect) {
        ops->disconnect(connection->state);
    }
    if (connection->prev) {
        vhu_backend_forget(backend, connection);
    }
    if (connection->channel) {
        cut_sockets(connection);
    }
    for (unsigned i = 0; connection->queues && i < backend->info.num_queues;
         i++) {
        vhu_queue_destroy(&connection->queues[i]);
    }
    free(connection->queues);
    vhu_inflight_unref(connection->inflight);
    vhu_dirty_unref(connection->log);
    vhu_iotlb_free(connection->iotlb);
    vhu_memory_unref(connection->memory);
    vhu_fd_close(&connection->lost_fd);
    vhu_fd_close(&connection->log_fd);
    free(connection);
}
