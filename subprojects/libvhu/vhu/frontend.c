/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Owns the life of a front-end session: its sockets, the one fd its owner
 * watches, and a round of work. Knows no request by name.
 *
 * The fd is an epoll of the socket, the back-end channel, the pipe of a state
 * transfer, and a timer that is set to the earliest deadline, or to now when
 * work is left that no fd tells of. A round takes replies, serves the back
 * end, moves state, sends, looks for deadlines, and last carries out a
 * failure; a callback may start anything, end the connection, or start a
 * round inside this one, so nothing is held across one.
 */
#include "vhu/frontend.h"

#include "vhu/clock.h"
#include "vhu/frontend-internal.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <sys/un.h>
#include <unistd.h>

#define MS_PER_S  1000
#define NS_PER_MS 1000000L

VhuThen vhu_then_copy(const VhuThen *then)
{
    return then ? *then : (VhuThen){0};
}

void vhu_then_call(const VhuThen *then, int result, VhuMessage *reply,
                   const VhuError *err)
{
    static const VhuError none;

    if (then->fn) {
        then->fn(then->opaque, result, reply, err ? err : &none);
    }
}

/* ---- the timer and the epoll ---- */

static void set_timer(VhuFrontend *session, int64_t when_ms)
{
    struct itimerspec spec = {0};

    if (session->armed_ms == when_ms) {
        return;
    }
    session->armed_ms = when_ms;
    if (when_ms >= 0) {
        spec.it_value.tv_sec = (time_t)(when_ms / MS_PER_S);
        spec.it_value.tv_nsec = (long)(when_ms % MS_PER_S) * NS_PER_MS;
        if (!spec.it_value.tv_sec && !spec.it_value.tv_nsec) {
            spec.it_value.tv_nsec = 1; /* all zero would unset it */
        }
    }
    timerfd_settime(session->timer_fd, TFD_TIMER_ABSTIME, &spec, NULL);
}

int64_t vhu_frontend_deadline_ms(const VhuFrontend *session)
{
    int64_t first = -1;

    for (const VhuCall *call = session->calls; call; call = call->next) {
        if (first < 0 || call->deadline_ms < first) {
            first = call->deadline_ms;
        }
    }
    if (session->transfer.stage == VHU_TRANSFER_MOVING &&
        (first < 0 || session->transfer.deadline_ms < first)) {
        first = session->transfer.deadline_ms;
    }
    return first;
}

void vhu_frontend_arm(VhuFrontend *session)
{
    set_timer(session, session->wake ? 0 : vhu_frontend_deadline_ms(session));
}

void vhu_frontend_wake(VhuFrontend *session)
{
    session->wake = true;
    set_timer(session, 0);
}

static void drain_timer(VhuFrontend *session)
{
    uint64_t count;

    if (read(session->timer_fd, &count, sizeof(count)) > 0) {
        session->armed_ms = -1;
    }
}

int vhu_frontend_watch(VhuFrontend *session, VhuPort *port, uint32_t events)
{
    struct epoll_event event = {.events = events};
    int op = EPOLL_CTL_MOD;

    if (port->fd < 0 || port->events == events || port->always) {
        return 0;
    }
    if (!events) {
        op = EPOLL_CTL_DEL;
    } else if (!port->events) {
        op = EPOLL_CTL_ADD;
    }
    if (epoll_ctl(session->epoll_fd, op, port->fd, &event) < 0) {
        return -errno;
    }
    port->events = events;
    return 0;
}

/* ---- life ---- */

static VhuFrontend *session_alloc(const VhuFrontendConfig *config,
                                  const VhuFrontendOps *ops)
{
    VhuFrontend *session = calloc(1, sizeof(*session));

    if (!session) {
        return NULL;
    }
    session->config = *config;
    if (session->config.timeout_ms <= 0) {
        session->config.timeout_ms = VHU_FRONTEND_TIMEOUT_MS;
    }
    if (ops) {
        session->ops = *ops;
    }
    session->calls_end = &session->calls;
    session->armed_ms = -1;
    session->port.fd = session->back_port.fd = -1;
    session->transfer.port.fd = -1;
    session->log.fd = session->inflight.fd = -1;
    session->name = strdup(config->name ? config->name : "vhost-user");
    session->config.name = session->name;
    session->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    session->timer_fd =
        timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
    return session;
}

VhuFrontend *vhu_frontend_new(const VhuFrontendConfig *config,
                              const VhuFrontendOps *ops, VhuError *err)
{
    VhuFrontend *session = session_alloc(config, ops);
    struct epoll_event event = {.events = EPOLLIN};

    if (!session || !session->name || session->epoll_fd < 0 ||
        session->timer_fd < 0 ||
        epoll_ctl(session->epoll_fd, EPOLL_CTL_ADD, session->timer_fd, &event) <
            0) {
        vhu_error_set(err, errno, 0, 0, "front-end session: %s",
                      strerror(errno));
        vhu_frontend_free(session);
        return NULL;
    }
    return session;
}

void vhu_frontend_free(VhuFrontend *session)
{
    if (!session) {
        return;
    }
    vhu_frontend_close(session, NULL);
    vhu_frontend_forget(session);
    if (session->timer_fd >= 0) {
        close(session->timer_fd);
    }
    if (session->epoll_fd >= 0) {
        close(session->epoll_fd);
    }
    free(session->name);
    free(session);
}

int vhu_frontend_fd(const VhuFrontend *session)
{
    return session->epoll_fd;
}

const VhuFrontendInfo *vhu_frontend_info(const VhuFrontend *session)
{
    return &session->info;
}

bool vhu_frontend_has(const VhuFrontend *session, unsigned bit)
{
    return session->info.protocol_features & (1ULL << bit);
}

int vhu_frontend_usable(VhuFrontend *session, VhuError *err)
{
    if (session->channel && !session->failed.code &&
        (session->info.phase == VHU_FRONTEND_READY || session->negotiation)) {
        return 0;
    }
    return vhu_error_set(err, ENOTCONN, 0, 0, "%s: %s", session->name,
                         session->channel && !session->failed.code
                             ? "not negotiated yet"
                             : "not connected");
}

/* ---- the connection ---- */

int vhu_frontend_attach(VhuFrontend *session, int fd, VhuError *err)
{
    VhuError why = {0};
    int rc;

    if (session->channel) {
        close(fd);
        return vhu_error_set(err, EISCONN, 0, 0, "%s: already connected",
                             session->name);
    }
    session->channel = vhu_channel_new(fd, VHU_FROM_FRONTEND, true, &why);
    if (!session->channel) {
        return vhu_error_set(err, why.code, 0, why.value, "%s: %s",
                             session->name, why.text);
    }
    vhu_channel_set_trace(session->channel, session->ops.trace,
                          session->ops.opaque);
    session->port = (VhuPort){.fd = vhu_channel_fd(session->channel)};
    rc = vhu_frontend_watch(session, &session->port, EPOLLIN);
    if (rc < 0) {
        vhu_channel_free(session->channel);
        session->channel = NULL;
        return vhu_error_set(err, -rc, 0, 0, "%s: epoll: %s", session->name,
                             strerror(-rc));
    }
    session->failed = (VhuError){0};
    session->info.counters.connections++;
    session->info.phase = VHU_FRONTEND_NEGOTIATING;
    vhu_frontend_negotiate(session);
    return 0;
}

int vhu_frontend_connect(VhuFrontend *session, const char *path, VhuError *err)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    int code;
    int fd;

    if (strlen(path) >= sizeof(address.sun_path)) {
        return vhu_error_set(err, ENAMETOOLONG, 0, strlen(path),
                             "%s: socket path '%s' is %zu bytes, at most %zu",
                             session->name, path, strlen(path),
                             sizeof(address.sun_path) - 1);
    }
    memcpy(address.sun_path, path, strlen(path));
    fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0 ||
        connect(fd, (struct sockaddr *)&address, sizeof(address)) < 0) {
        code = errno;
        if (fd >= 0) {
            close(fd);
        }
        return vhu_error_set(err, code, 0, 0, "%s: connecting to '%s': %s",
                             session->name, path, strerror(code));
    }
    return vhu_frontend_attach(session, fd, err);
}

void vhu_frontend_fail(VhuFrontend *session, const VhuError *err)
{
    if (!session->channel || session->failed.code) {
        return;
    }
    session->failed = *err;
    if (err->code == EPIPE) {
        session->failed.code = ECONNRESET;
    }
    vhu_frontend_wake(session);
}

void vhu_frontend_fail_named(VhuFrontend *session, const VhuError *err)
{
    VhuError named = *err;

    vhu_error_prefix(&named, "%s: ", session->name);
    vhu_frontend_fail(session, &named);
}

/* From here on the owner may attach a new socket. */
static void detach(VhuFrontend *session, const VhuError *why)
{
    VhuCall *calls = session->calls;

    session->calls = session->unsent = NULL;
    session->calls_end = &session->calls;
    session->info.phase = VHU_FRONTEND_DETACHED;
    session->info.protocol_features = 0;
    vhu_frontend_close_back(session);
    vhu_frontend_watch(session, &session->port, 0);
    session->port.fd = -1;
    vhu_channel_free(session->channel);
    session->channel = NULL;
    vhu_frontend_untell(session);
    vhu_frontend_drop_calls(session, calls, why);
    vhu_frontend_drop_transfer(session, why);
    vhu_frontend_arm(session);
    if (session->ops.closed) {
        session->ops.closed(session->ops.opaque, why);
    }
}

void vhu_frontend_close(VhuFrontend *session, const VhuError *why)
{
    VhuError reason;

    if (!session->channel) {
        return;
    }
    if (why && why->code) {
        reason = *why;
        vhu_error_prefix(&reason, "%s: closed: ", session->name);
    } else {
        vhu_error_set(&reason, ECANCELED, 0, 0, "%s: closed", session->name);
    }
    reason.code = ECANCELED;
    detach(session, &reason);
}

static void carry_out_failure(VhuFrontend *session)
{
    const VhuError why = session->failed;

    if (session->channel && why.code) {
        if (why.code == EPROTO || why.code == EBADMSG) {
            session->info.counters.protocol_errors++;
        }
        detach(session, &why);
    }
}

void vhu_frontend_dispatch(VhuFrontend *session)
{
    drain_timer(session);
    session->wake = false;
    vhu_frontend_pull(session);
    vhu_frontend_serve(session);
    vhu_frontend_transfer(session);
    vhu_frontend_push(session);
    vhu_frontend_expire(session, vhu_now_ms());
    carry_out_failure(session);
    vhu_frontend_arm(session);
}
