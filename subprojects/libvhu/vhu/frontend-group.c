/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Owns groups of requests that end together: the owner asked for one thing
 * (a vring started, memory set) that takes several messages. Knows nothing of
 * sockets; its requests travel like all others.
 */
#include "vhu/frontend-internal.h"

#include <errno.h>
#include <stdlib.h>

struct VhuGroup {
    VhuFrontend *session;
    VhuThen then;
    uint32_t left; /* posted and not completed */
    VhuError err;  /* the first */
};

int vhu_group_new(VhuFrontend *session, uint32_t num, const VhuThen *then,
                  VhuGroup **out, VhuError *err)
{
    VhuGroup *group;
    int rc = vhu_frontend_usable(session, err);

    if (rc == 0) {
        rc = vhu_frontend_room(session, num, err);
    }
    if (rc < 0) {
        return rc;
    }
    group = calloc(1, sizeof(*group));
    if (!group) {
        return vhu_error_set(err, ENOMEM, 0, 0, "%s: out of memory",
                             session->name);
    }
    group->session = session;
    group->then = vhu_then_copy(then);
    *out = group;
    return 0;
}

static void group_done(void *opaque, int result, VhuMessage *reply,
                       const VhuError *err)
{
    VhuGroup *group = opaque;
    const VhuThen then = group->then;
    VhuError first;

    if (result < 0 && !group->err.code) {
        group->err = *err;
    }
    if (--group->left) {
        return;
    }
    first = group->err;
    free(group);
    vhu_then_call(&then, -first.code, first.code ? NULL : reply, &first);
}

void vhu_group_post(VhuGroup *group, const VhuMessage *msg)
{
    VhuThen then = group->then;

    if (group->err.code) {
        return;
    }
    then.fn = group_done;
    then.opaque = group;
    if (vhu_frontend_post(group->session, msg, &then, &group->err) == 0) {
        group->left++;
    }
}

int vhu_group_close(VhuGroup *group, VhuError *err)
{
    int rc = -group->err.code;

    if (group->left) {
        return 0;
    }
    if (rc < 0) {
        if (err) {
            *err = group->err;
        }
    } else {
        rc = vhu_frontend_post_nothing(group->session, &group->then, err);
    }
    free(group);
    return rc;
}
