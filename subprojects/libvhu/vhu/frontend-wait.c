/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Owns the blocking calls over a front-end session, for tools and tests: each
 * turns the session until what it waits for has happened. The session's
 * deadlines see to it that it does.
 */
#include "vhu/frontend-internal.h"

#include <errno.h>
#include <poll.h>
#include <string.h>

static void wait_done(void *opaque, int result, VhuMessage *reply,
                      const VhuError *err)
{
    VhuWait *wait = opaque;

    wait->done = true;
    wait->result = result;
    wait->err = *err;
    if (reply) {
        wait->reply = *reply;
        reply->num_fds = 0; /* the caller's now */
    }
}

const VhuThen *vhu_wait_then(VhuWait *wait)
{
    *wait = (VhuWait){.then = {.fn = wait_done, .opaque = wait}};
    return &wait->then;
}

static int turn(VhuFrontend *session, VhuError *err)
{
    struct pollfd fd = {.fd = vhu_frontend_fd(session), .events = POLLIN};

    if (poll(&fd, 1, -1) < 0 && errno != EINTR) {
        const int code = errno;

        return vhu_error_set(err, code, 0, 0, "%s: poll: %s", session->name,
                             strerror(code));
    }
    vhu_frontend_dispatch(session);
    return 0;
}

int vhu_frontend_wait(VhuFrontend *session, int started, VhuWait *wait,
                      VhuError *err)
{
    while (started >= 0 && !wait->done) {
        started = turn(session, err);
    }
    if (started < 0) {
        return started;
    }
    if (err && wait->result < 0) {
        *err = wait->err;
    }
    return wait->result;
}

int vhu_frontend_wait_ready(VhuFrontend *session, VhuError *err)
{
    int rc = 0;

    while (rc == 0 && session->info.phase == VHU_FRONTEND_NEGOTIATING) {
        rc = turn(session, err);
    }
    if (rc < 0 || session->info.phase == VHU_FRONTEND_READY) {
        return rc;
    }
    if (!session->failed.code) {
        return vhu_error_set(err, ENOTCONN, 0, 0, "%s: not connected",
                             session->name);
    }
    if (err) {
        *err = session->failed;
    }
    return -session->failed.code;
}

void vhu_wait_clear(VhuWait *wait)
{
    vhu_message_close_fds(&wait->reply);
}

int vhu_frontend_call(VhuFrontend *session, const VhuMessage *request,
                      VhuMessage *reply, VhuError *err)
{
    VhuWait wait;
    int rc = vhu_frontend_request(session, request, vhu_wait_then(&wait), err);

    rc = vhu_frontend_wait(session, rc, &wait, err);
    if (reply) {
        *reply = wait.reply;
    } else {
        vhu_wait_clear(&wait);
    }
    return rc;
}
