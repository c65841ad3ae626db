/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Owns the requests of a front-end session from asking to the end: the queue,
 * when each may be sent, which reply is whose, deadlines. What a reply says is
 * frontend-reply.c's.
 *
 * The queue holds all requests not completed, oldest first: those sent, then
 * those not. Replies come in order, so a reply belongs to the first request
 * that is due one; requests without a reply complete when all before them
 * have. POSTCOPY_LISTEN and POSTCOPY_END change how replies are read, and a
 * memory message while postcopy listens is answered twice, so that each of
 * these travels alone: it is sent when nothing is before it, and what is
 * behind it waits until it is complete. Behind GET_INFLIGHT_FD they wait too:
 * its buffer goes back before anything else is said.
 */
#include "vhu/clock.h"
#include "vhu/frontend-internal.h"
#include "vhu/message-internal.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

const char *vhu_request_name(uint32_t request)
{
    const VhuMessageSpec *spec = vhu_message_spec(VHU_FROM_FRONTEND, request);

    return spec ? vhu_message_name(spec) : "unknown request";
}

static VhuWire *wire_of(VhuFrontend *session)
{
    return vhu_channel_wire(session->channel);
}

/* ---- asking ---- */

int vhu_frontend_room(const VhuFrontend *session, uint32_t num, VhuError *err)
{
    if (session->info.pending + num <= VHU_FRONTEND_MAX_PENDING) {
        return 0;
    }
    return vhu_error_set(err, ENOBUFS, 0, session->info.pending,
                         "%s: %u requests pending, %u more are too many",
                         session->name, session->info.pending, num);
}

/* Whether the codec would send it: better told now than when its turn
 * comes. */
static int check_legal(VhuFrontend *session, const VhuMessage *msg,
                       VhuError *err)
{
    uint8_t bytes[VHU_HEADER_BYTES + VHU_MAX_PAYLOAD_BYTES];
    const VhuWire *wire = wire_of(session);

    if (vhu_message_encode(wire, msg, bytes, err) >= 0 &&
        vhu_fds_check(wire, msg, err) == 0) {
        return 0;
    }
    vhu_error_prefix(err, "%s: ", session->name);
    if (err) {
        err->code = EINVAL;
    }
    return -EINVAL;
}

/* Errors before anything is queued. */
static int check_request(VhuFrontend *session, const VhuMessage *msg,
                         VhuError *err)
{
    int rc = vhu_frontend_usable(session, err);

    if (rc < 0) {
        return rc;
    }
    if (!vhu_message_spec(VHU_FROM_FRONTEND, msg->request)) {
        return vhu_error_set(err, EINVAL, msg->request, msg->request,
                             "%s: unknown request %u", session->name,
                             msg->request);
    }
    if (vhu_message_gated(wire_of(session), msg->request, err) < 0) {
        vhu_error_prefix(err, "%s: ", session->name);
        if (err) {
            err->code = EOPNOTSUPP;
        }
        return -EOPNOTSUPP;
    }
    rc = vhu_frontend_room(session, 1, err);
    return rc < 0 ? rc : check_legal(session, msg, err);
}

static int duplicate_fds(VhuMessage *msg, VhuError *err)
{
    for (uint32_t i = 0; i < msg->num_fds; i++) {
        int fd = fcntl(msg->fds[i], F_DUPFD_CLOEXEC, 0);

        if (fd < 0) {
            const int code = errno;

            msg->num_fds = i;
            vhu_message_close_fds(msg);
            return vhu_error_set(
                err, code, msg->request, (uint64_t)i, "%s: fd %u: %s",
                vhu_request_name(msg->request), i, strerror(code));
        }
        msg->fds[i] = fd;
    }
    return 0;
}

static VhuCall *call_new(VhuFrontend *session, const VhuThen *then,
                         VhuError *err)
{
    const int timeout_ms = then && then->timeout_ms > 0
                               ? then->timeout_ms
                               : session->config.timeout_ms;
    VhuCall *call = calloc(1, sizeof(*call));

    if (!call) {
        vhu_error_set(err, ENOMEM, 0, 0, "%s: out of memory", session->name);
        return NULL;
    }
    call->started_ms = vhu_now_ms();
    call->deadline_ms = call->started_ms + timeout_ms;
    call->fn = then ? then->fn : NULL;
    call->opaque = then ? then->opaque : NULL;
    call->no_ack = then && then->no_ack;
    return call;
}

static void enqueue(VhuFrontend *session, VhuCall *call)
{
    if (session->urgent && session->calls == session->unsent) {
        call->next = session->calls;
        session->calls = session->unsent = call;
        if (!call->next) {
            session->calls_end = &call->next;
        }
    } else {
        *session->calls_end = call;
        session->calls_end = &call->next;
        session->unsent = session->unsent ? session->unsent : call;
    }
    session->info.pending++;
    vhu_frontend_push(session);
    vhu_frontend_arm(session);
}

int vhu_frontend_post(VhuFrontend *session, const VhuMessage *msg,
                      const VhuThen *then, VhuError *err)
{
    int rc = check_request(session, msg, err);
    VhuCall *call;

    if (rc < 0) {
        return rc;
    }
    call = call_new(session, then, err);
    if (!call) {
        return -ENOMEM;
    }
    call->msg = *msg;
    call->msg.flags = VHU_FLAG_VERSION;
    rc = duplicate_fds(&call->msg, err);
    if (rc < 0) {
        free(call);
        vhu_error_prefix(err, "%s: ", session->name);
        return rc;
    }
    enqueue(session, call);
    return 0;
}

int vhu_frontend_post_urgent(VhuFrontend *session, const VhuMessage *msg,
                             const VhuThen *then, VhuError *err)
{
    int rc;

    session->urgent = true;
    rc = vhu_frontend_post(session, msg, then, err);
    session->urgent = false;
    return rc;
}

int vhu_frontend_post_nothing(VhuFrontend *session, const VhuThen *then,
                              VhuError *err)
{
    VhuCall *call = call_new(session, then, err);

    if (!call) {
        return -ENOMEM;
    }
    enqueue(session, call);
    return 0;
}

/* ---- sending ---- */

static bool travels_alone(VhuFrontend *session, const VhuCall *call)
{
    const VhuMessageSpec *spec =
        vhu_message_spec(VHU_FROM_FRONTEND, call->msg.request);

    return call->msg.request == VHOST_USER_POSTCOPY_LISTEN ||
           call->msg.request == VHOST_USER_POSTCOPY_END ||
           (spec && spec->reply_rule == VHU_REPLY_POSTCOPY &&
            wire_of(session)->postcopy_listening);
}

static bool may_send(VhuFrontend *session)
{
    VhuCall *call = session->unsent;

    return call && !session->failed.code && !session->holder &&
           !vhu_channel_wants_write(session->channel) &&
           (call == session->calls || !travels_alone(session, call));
}

/* need_reply asks for nothing where a reply comes anyway. */
static bool wants_ack(const VhuWire *wire, const VhuCall *call)
{
    const VhuMessageSpec *spec =
        vhu_message_spec(VHU_FROM_FRONTEND, call->msg.request);

    if (call->no_ack || !vhu_wire_has(wire, VHOST_USER_PROTOCOL_F_REPLY_ACK)) {
        return false;
    }
    switch (spec->reply_rule) {
    case VHU_REPLY_ON_ACK:
        return true;
    case VHU_REPLY_POSTCOPY:
        return !wire->postcopy_listening;
    case VHU_REPLY_LOG_BASE:
        return !vhu_wire_has(wire, VHOST_USER_PROTOCOL_F_LOG_SHMFD);
    case VHU_REPLY_ALWAYS:
        return false;
    }
    return false;
}

/* What a request changes for all that is sent after it. */
static void apply_to_wire(VhuFrontend *session, const VhuMessage *msg)
{
    VhuWire *wire = wire_of(session);

    switch (msg->request) {
    case VHOST_USER_SET_PROTOCOL_FEATURES:
        wire->protocol_features = msg->payload.u64;
        break;
    case VHOST_USER_POSTCOPY_LISTEN:
        wire->postcopy_listening = true;
        break;
    case VHOST_USER_POSTCOPY_END:
        wire->postcopy_listening = false;
        break;
    default:
        break;
    }
}

static int send_call(VhuFrontend *session, VhuCall *call, VhuError *err)
{
    const VhuWire *wire = wire_of(session);
    int rc = 0;

    if (call->msg.request) {
        if (wants_ack(wire, call)) {
            call->msg.flags |= VHU_FLAG_NEED_REPLY;
        }
        rc = vhu_channel_send(session->channel, &call->msg, err);
        if (rc < 0) {
            return rc;
        }
        session->info.counters.requests++;
        call->reply_due = vhu_reply_due(wire, &call->msg);
        if (travels_alone(session, call) ||
            call->msg.request == VHOST_USER_GET_INFLIGHT_FD) {
            session->holder = call;
        }
        apply_to_wire(session, &call->msg);
        vhu_message_close_fds(&call->msg);
    }
    call->sent = true;
    session->unsent = call->next;
    if (!call->reply_due) {
        vhu_frontend_wake(session);
    }
    return rc;
}

void vhu_frontend_push(VhuFrontend *session)
{
    VhuError err = {0};
    uint32_t events;

    if (!session->channel || session->failed.code) {
        return;
    }
    if (vhu_channel_wants_write(session->channel) &&
        vhu_channel_flush(session->channel, &err) < 0) {
        vhu_frontend_fail_named(session, &err);
        return;
    }
    while (may_send(session)) {
        if (send_call(session, session->unsent, &err) < 0) {
            vhu_frontend_fail_named(session, &err);
            return;
        }
    }
    events = EPOLLIN;
    if (vhu_channel_wants_write(session->channel)) {
        events |= EPOLLOUT;
    }
    vhu_frontend_watch(session, &session->port, events);
}

/* ---- completing ---- */

static VhuCall *take_first(VhuFrontend *session)
{
    VhuCall *call = session->calls;

    session->calls = call->next;
    if (!session->calls) {
        session->calls_end = &session->calls;
    }
    return call;
}

static void complete(VhuFrontend *session, VhuCall *call, int result,
                     VhuMessage *reply, const VhuError *err)
{
    const VhuThen then = {.fn = call->fn, .opaque = call->opaque};

    if (session->holder == call) {
        session->holder = NULL;
    }
    vhu_message_close_fds(&call->msg);
    free(call);
    session->info.pending--;
    vhu_then_call(&then, result, reply, err);
}

/* Complete the requests at the head that are due no reply. */
static void complete_unanswered(VhuFrontend *session)
{
    while (session->calls && session->calls->sent &&
           !session->calls->reply_due && !session->failed.code) {
        complete(session, take_first(session), 0, NULL, NULL);
    }
}

static void count_reply(VhuFrontend *session, const VhuCall *call)
{
    VhuFrontendCounters *counters = &session->info.counters;
    const int64_t took_ms = vhu_now_ms() - call->started_ms;

    counters->replies++;
    if (!counters->slowest_request || took_ms > counters->slowest_ms) {
        counters->slowest_ms = took_ms;
        counters->slowest_request = call->msg.request;
    }
}

static void fail_unexpected(VhuFrontend *session, uint32_t request)
{
    VhuError err;
    const VhuCall *due = session->calls;

    if (due && due->sent) {
        vhu_error_set(
            &err, EPROTO, request, request, "%s was answered by a reply to %s",
            vhu_request_name(due->msg.request), vhu_request_name(request));
    } else {
        vhu_error_set(&err, EPROTO, request, request,
                      "reply to %s, which was not asked",
                      vhu_request_name(request));
    }
    vhu_frontend_fail_named(session, &err);
}

static void take_reply(VhuFrontend *session, VhuMessage *reply)
{
    VhuCall *call = session->calls;
    VhuError err = {0};
    int rc;

    if (!call || !call->sent || call->msg.request != reply->request) {
        fail_unexpected(session, reply->request);
        return;
    }
    rc = vhu_reply_judge(&call->msg, reply, &err);
    if (rc < 0 && rc != -EREMOTEIO) {
        vhu_frontend_fail_named(session, &err);
        return;
    }
    count_reply(session, call);
    if (rc < 0) {
        session->info.counters.refused++;
        vhu_error_prefix(&err, "%s: ", session->name);
    } else if (wire_of(session)->postcopy_listening) {
        vhu_frontend_take_bases(session, reply);
    }
    complete(session, take_first(session), rc, reply, &err);
}

void vhu_frontend_pull(VhuFrontend *session)
{
    complete_unanswered(session);
    for (int i = 0; i < VHU_FRONTEND_BUDGET; i++) {
        VhuError err = {0};
        VhuMessage reply;
        int rc;

        /* A peer that is gone may have answered before it went. */
        if (!session->channel ||
            (session->failed.code && session->failed.code != ECONNRESET)) {
            return;
        }
        rc = vhu_channel_receive(session->channel, &reply, &err);
        if (rc == 0) {
            return;
        }
        if (rc < 0) {
            /* The codec's word for what it cannot read. */
            err.code = err.code == EPROTO ? EBADMSG : err.code;
            vhu_frontend_fail_named(session, &err);
            return;
        }
        take_reply(session, &reply);
        vhu_message_close_fds(&reply);
        complete_unanswered(session);
        vhu_frontend_push(session);
    }
    vhu_frontend_wake(session);
}

void vhu_frontend_expire(VhuFrontend *session, int64_t now_ms)
{
    for (const VhuCall *call = session->calls; call; call = call->next) {
        VhuError err;

        if (call->deadline_ms > now_ms) {
            continue;
        }
        session->info.counters.timeouts++;
        vhu_error_set(&err, ETIMEDOUT, call->msg.request,
                      (uint64_t)(now_ms - call->started_ms),
                      call->sent ? "%s not answered within %lld ms"
                                 : "%s could not be sent within %lld ms",
                      vhu_request_name(call->msg.request),
                      (long long)(now_ms - call->started_ms));
        vhu_frontend_fail_named(session, &err);
        return;
    }
}

void vhu_frontend_drop_calls(VhuFrontend *session, VhuCall *calls,
                             const VhuError *err)
{
    while (calls) {
        VhuCall *next = calls->next;

        complete(session, calls, -err->code, NULL, err);
        calls = next;
    }
}
