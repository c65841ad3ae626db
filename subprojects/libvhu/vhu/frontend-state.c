/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Owns the transfer of a device's state through a pipe, without waiting:
 *
 *   IDLE --save, load--> OFFERED --reply: whose pipe--> MOVING
 *     ^                                                   | end of the data
 *     '------------- reply, then told <---- CHECK <-------'
 *
 * What the bytes mean is the device's; nothing here looks at them.
 */
#include "vhu/clock.h"
#include "vhu/frontend-internal.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <time.h>
#include <unistd.h>

#define CHUNK_BYTES (64u * 1024u)

/* vhost-user, "Device state transfer parameters". */
enum { DIRECTION_SAVE = 0, DIRECTION_LOAD = 1, PHASE_STOPPED = 0 };

/* Reply of SET_DEVICE_STATE_FD: our pipe is used, no fd came back. */
#define STATE_NO_FD 0x100u

static void close_port(VhuFrontend *session, VhuPort *port)
{
    vhu_frontend_watch(session, port, 0);
    if (port->fd >= 0) {
        close(port->fd);
    }
    *port = (VhuPort){.fd = -1};
}

/* ---- the end ---- */

static void finish(VhuFrontend *session, int result, const VhuError *err)
{
    VhuTransfer transfer = session->transfer;

    close_port(session, &session->transfer.port);
    session->transfer = (VhuTransfer){.port = {.fd = -1}};
    if (transfer.load) {
        vhu_then_call(&transfer.then, result, NULL, err);
    } else {
        transfer.fn(transfer.opaque, result, result < 0 ? NULL : transfer.data,
                    result < 0 ? 0 : transfer.bytes, err);
    }
    free(transfer.data);
}

void vhu_frontend_drop_transfer(VhuFrontend *session, const VhuError *err)
{
    if (session->transfer.stage != VHU_TRANSFER_IDLE) {
        finish(session, -err->code, err);
    }
}

static void check_done(void *opaque, int result, VhuMessage *reply,
                       const VhuError *err)
{
    VhuFrontend *session = opaque;
    const VhuTransfer *transfer = &session->transfer;
    VhuError why = *err;

    (void)reply;
    if (transfer->stage == VHU_TRANSFER_IDLE) {
        return;
    }
    if (result == 0 && transfer->cut) {
        result = vhu_error_set(&why, EREMOTEIO, VHOST_USER_CHECK_DEVICE_STATE,
                               transfer->sent,
                               "%s: the back end closed the pipe after %zu of "
                               "%zu bytes of device state",
                               session->name, transfer->sent, transfer->bytes);
    }
    finish(session, result, &why);
}

/* ---- moving ---- */

/* Milliseconds left of the transfer, for its next request. */
static int time_left(const VhuTransfer *transfer)
{
    const int64_t left = transfer->deadline_ms - vhu_now_ms();

    return left > 1 ? (int)left : 1;
}

static void check(VhuFrontend *session)
{
    const VhuMessage msg = {.request = VHOST_USER_CHECK_DEVICE_STATE};
    const VhuThen then = {.fn = check_done,
                          .opaque = session,
                          .timeout_ms = time_left(&session->transfer)};
    VhuError err = {0};
    int rc;

    close_port(session, &session->transfer.port);
    session->transfer.stage = VHU_TRANSFER_CHECK;
    rc = vhu_frontend_post(session, &msg, &then, &err);
    if (rc < 0) {
        finish(session, rc, &err);
    }
}

static void fail_transfer(VhuFrontend *session, int code, const char *what)
{
    VhuError err;

    vhu_error_set(&err, code, VHOST_USER_SET_DEVICE_STATE_FD,
                  session->transfer.bytes, "device state: %s: %s", what,
                  strerror(code));
    vhu_frontend_fail_named(session, &err);
}

static int grow(VhuTransfer *transfer)
{
    size_t room = transfer->room ? transfer->room * 2 : CHUNK_BYTES;
    uint8_t *data;

    if (transfer->bytes < transfer->room) {
        return 0;
    }
    if (transfer->bytes >= VHU_FRONTEND_MAX_STATE_BYTES) {
        return -EFBIG;
    }
    data = realloc(transfer->data, room);
    if (!data) {
        return -ENOMEM;
    }
    transfer->data = data;
    transfer->room = room;
    return 0;
}

/* Returns whether there may be more at once. */
static bool receive_some(VhuFrontend *session)
{
    VhuTransfer *transfer = &session->transfer;
    int rc = grow(transfer);
    ssize_t got;

    if (rc < 0) {
        fail_transfer(session, -rc, "receiving");
        return false;
    }
    got = read(transfer->port.fd, transfer->data + transfer->bytes,
               transfer->room - transfer->bytes);
    if (got > 0) {
        transfer->bytes += (size_t)got;
        return true;
    }
    if (got == 0) {
        check(session);
    } else if (errno == EINTR) {
        return true;
    } else if (errno != EAGAIN) {
        fail_transfer(session, errno, "receiving");
    }
    return false;
}

/* write() to a pipe nobody reads any more, without the signal. */
static ssize_t write_quietly(int fd, const void *data, size_t bytes)
{
    const struct timespec now = {0};
    sigset_t pipe_only, pending, before;
    bool was_pending;
    ssize_t done;
    int code;

    sigemptyset(&pipe_only);
    sigaddset(&pipe_only, SIGPIPE);
    sigpending(&pending);
    was_pending = sigismember(&pending, SIGPIPE);
    pthread_sigmask(SIG_BLOCK, &pipe_only, &before);
    done = write(fd, data, bytes);
    code = errno;
    if (done < 0 && code == EPIPE && !was_pending) {
        while (sigtimedwait(&pipe_only, NULL, &now) < 0 && errno == EINTR) {
        }
    }
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    errno = code;
    return done;
}

static bool send_some(VhuFrontend *session)
{
    VhuTransfer *transfer = &session->transfer;
    ssize_t done;

    if (transfer->sent == transfer->bytes) {
        check(session);
        return false;
    }
    done = write_quietly(transfer->port.fd, transfer->data + transfer->sent,
                         transfer->bytes - transfer->sent);
    if (done >= 0) {
        transfer->sent += (size_t)done;
        return true;
    }
    if (errno == EPIPE) {
        /* It knows why: CHECK_DEVICE_STATE asks. */
        transfer->cut = true;
        check(session);
    } else if (errno == EINTR) {
        return true;
    } else if (errno != EAGAIN) {
        fail_transfer(session, errno, "sending");
    }
    return false;
}

static void expire(VhuFrontend *session)
{
    const VhuTransfer *transfer = &session->transfer;
    const int64_t now_ms = vhu_now_ms();
    VhuError err;

    if (transfer->stage != VHU_TRANSFER_MOVING ||
        transfer->deadline_ms > now_ms) {
        return;
    }
    session->info.counters.timeouts++;
    vhu_error_set(&err, ETIMEDOUT, VHOST_USER_SET_DEVICE_STATE_FD,
                  transfer->bytes,
                  "device state not transferred within %lld ms (%zu bytes "
                  "so far)",
                  (long long)(now_ms - transfer->started_ms),
                  transfer->load ? transfer->sent : transfer->bytes);
    vhu_frontend_fail_named(session, &err);
}

void vhu_frontend_transfer(VhuFrontend *session)
{
    bool more = true;

    for (int i = 0; i < VHU_FRONTEND_BUDGET && more; i++) {
        if (session->transfer.stage != VHU_TRANSFER_MOVING ||
            session->failed.code) {
            return;
        }
        more =
            session->transfer.load ? send_some(session) : receive_some(session);
    }
    if (more || session->transfer.port.always) {
        vhu_frontend_wake(session);
    }
    expire(session);
}

/* ---- the start ---- */

static int watch_pipe(VhuFrontend *session)
{
    VhuPort *port = &session->transfer.port;
    int flags = fcntl(port->fd, F_GETFL);
    int rc;

    if (flags < 0 || fcntl(port->fd, F_SETFL, flags | O_NONBLOCK) < 0) {
        return -errno;
    }
    rc = vhu_frontend_watch(session, port,
                            session->transfer.load ? EPOLLOUT : EPOLLIN);
    /* A regular file is never waited for. */
    port->always = rc == -EPERM;
    return port->always ? 0 : rc;
}

static void offer_done(void *opaque, int result, VhuMessage *reply,
                       const VhuError *err)
{
    VhuFrontend *session = opaque;
    VhuTransfer *transfer = &session->transfer;
    int rc;

    if (transfer->stage == VHU_TRANSFER_IDLE) {
        return;
    }
    if (result < 0) {
        finish(session, result, err);
        return;
    }
    if (!(reply->payload.u64 & STATE_NO_FD)) {
        close_port(session, &transfer->port);
        transfer->port.fd = vhu_message_take_fd(reply, 0);
    }
    transfer->stage = VHU_TRANSFER_MOVING;
    rc = watch_pipe(session);
    if (rc < 0) {
        fail_transfer(session, -rc, "its pipe");
    }
    vhu_frontend_wake(session);
}

static int begin(VhuFrontend *session, int timeout_ms, bool load, VhuError *err)
{
    VhuTransfer *transfer = &session->transfer;
    VhuThen then = {.fn = offer_done, .opaque = session};
    VhuMessage msg = {.request = VHOST_USER_SET_DEVICE_STATE_FD,
                      .kind = VHU_PAYLOAD_DEVICE_STATE,
                      .num_fds = 1};
    int ends[2];
    int rc;

    if (pipe2(ends, O_CLOEXEC) < 0) {
        const int code = errno;

        return vhu_error_set(err, code, msg.request, 0, "%s: pipe: %s",
                             session->name, strerror(code));
    }
    transfer->load = load;
    transfer->port = (VhuPort){.fd = ends[load ? 1 : 0]};
    transfer->started_ms = vhu_now_ms();
    then.timeout_ms = timeout_ms > 0 ? timeout_ms : session->config.timeout_ms;
    transfer->deadline_ms = transfer->started_ms + then.timeout_ms;
    msg.fds[0] = ends[load ? 0 : 1];
    msg.payload.transfer.direction = load ? DIRECTION_LOAD : DIRECTION_SAVE;
    msg.payload.transfer.phase = PHASE_STOPPED;
    rc = vhu_frontend_post(session, &msg, &then, err);
    close(msg.fds[0]);
    if (rc < 0) {
        close_port(session, &transfer->port);
        return rc;
    }
    transfer->stage = VHU_TRANSFER_OFFERED;
    return 0;
}

static int check_idle(VhuFrontend *session, VhuError *err)
{
    if (session->transfer.stage == VHU_TRANSFER_IDLE) {
        return 0;
    }
    return vhu_error_set(err, EBUSY, VHOST_USER_SET_DEVICE_STATE_FD, 0,
                         "%s: a state transfer is running", session->name);
}

int vhu_frontend_save_state(VhuFrontend *session, int timeout_ms, VhuStateFn fn,
                            void *opaque, VhuError *err)
{
    int rc = check_idle(session, err);

    if (rc == 0) {
        rc = begin(session, timeout_ms, false, err);
    }
    if (rc == 0) {
        session->transfer.fn = fn;
        session->transfer.opaque = opaque;
    }
    return rc;
}

int vhu_frontend_load_state(VhuFrontend *session, const VhuStateData *state,
                            const VhuThen *then, VhuError *err)
{
    uint8_t *copy;
    int rc = check_idle(session, err);

    if (rc < 0) {
        return rc;
    }
    copy = malloc(state->bytes + 1);
    if (!copy) {
        return vhu_error_set(err, ENOMEM, 0, state->bytes,
                             "%s: %zu bytes of device state: out of memory",
                             session->name, state->bytes);
    }
    if (state->bytes) {
        memcpy(copy, state->data, state->bytes);
    }
    rc = begin(session, then ? then->timeout_ms : 0, true, err);
    if (rc < 0) {
        free(copy);
        return rc;
    }
    session->transfer.data = copy;
    session->transfer.bytes = state->bytes;
    session->transfer.then = vhu_then_copy(then);
    return 0;
}
