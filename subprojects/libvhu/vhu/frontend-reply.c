/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Owns what a reply says about its request: done, refused, or not what was
 * asked. The codec has checked the reply by itself; here the two are held
 * side by side.
 */
#include "vhu/frontend-internal.h"

#include <errno.h>

/* SET_DEVICE_STATE_FD: bits 0-7 of the reply are the error. */
#define STATE_ERROR_MASK 0xffu

static int refused(const VhuMessage *msg, uint64_t value, VhuError *err)
{
    return vhu_error_set(err, EREMOTEIO, msg->request, value,
                         "%s refused by the back end (%llu)",
                         vhu_request_name(msg->request),
                         (unsigned long long)value);
}

static int missing_fd(const VhuMessage *msg, const VhuMessage *reply,
                      VhuError *err)
{
    if (reply->num_fds) {
        return 0;
    }
    return vhu_error_set(err, EREMOTEIO, msg->request, 0,
                         "%s refused by the back end: no fd in the reply",
                         vhu_request_name(msg->request));
}

static int judge_u64(const VhuMessage *msg, const VhuMessage *reply,
                     VhuError *err)
{
    return reply->payload.u64 ? refused(msg, reply->payload.u64, err) : 0;
}

static int judge_state_fd(const VhuMessage *msg, const VhuMessage *reply,
                          VhuError *err)
{
    return reply->payload.u64 & STATE_ERROR_MASK
               ? refused(msg, reply->payload.u64, err)
               : 0;
}

/* vhost-user, "VHOST_USER_GET_CONFIG": the sizes must match; an empty one is
 * an error. */
static int judge_config(const VhuMessage *msg, const VhuMessage *reply,
                        VhuError *err)
{
    const VhuConfigArea *asked = &msg->payload.config;
    const VhuConfigArea *told = &reply->payload.config;

    if (reply->kind != VHU_PAYLOAD_CONFIG || !told->data_bytes) {
        return vhu_error_set(err, EREMOTEIO, msg->request, asked->size,
                             "GET_CONFIG of %u bytes at %u refused by the "
                             "back end",
                             asked->size, asked->offset);
    }
    if (told->size != asked->size || told->offset != asked->offset) {
        return vhu_error_set(err, EBADMSG, msg->request, told->size,
                             "GET_CONFIG reply is %u bytes at %u, expected "
                             "%u at %u",
                             told->size, told->offset, asked->size,
                             asked->offset);
    }
    return 0;
}

static int judge_base(const VhuMessage *msg, const VhuMessage *reply,
                      VhuError *err)
{
    const uint32_t asked = msg->payload.state.index;
    const uint32_t told = reply->payload.state.index;

    if (told == asked) {
        return 0;
    }
    return vhu_error_set(err, EPROTO, msg->request, told,
                         "GET_VRING_BASE reply is about vring %u, expected %u",
                         told, asked);
}

static int judge_inflight(const VhuMessage *msg, const VhuMessage *reply,
                          VhuError *err)
{
    if (!reply->payload.inflight.mmap_size) {
        return vhu_error_set(err, EREMOTEIO, msg->request, 0,
                             "GET_INFLIGHT_FD refused by the back end: "
                             "0 bytes");
    }
    return missing_fd(msg, reply, err);
}

/* Requests whose regular reply can be a refusal, or wrong. */
static int (*const judges[])(const VhuMessage *msg, const VhuMessage *reply,
                             VhuError *err) = {
    [VHOST_USER_GET_VRING_BASE] = judge_base,
    [VHOST_USER_SET_LOG_BASE] = judge_u64,
    [VHOST_USER_IOTLB_MSG] = judge_u64,
    [VHOST_USER_GET_CONFIG] = judge_config,
    [VHOST_USER_POSTCOPY_ADVISE] = missing_fd,
    [VHOST_USER_POSTCOPY_END] = judge_u64,
    [VHOST_USER_GET_INFLIGHT_FD] = judge_inflight,
    [VHOST_USER_GET_SHARED_OBJECT] = missing_fd,
    [VHOST_USER_SET_DEVICE_STATE_FD] = judge_state_fd,
    [VHOST_USER_CHECK_DEVICE_STATE] = judge_u64,
};

int vhu_reply_judge(const VhuMessage *msg, const VhuMessage *reply,
                    VhuError *err)
{
    const VhuMessageSpec *spec =
        vhu_message_spec(VHU_FROM_FRONTEND, msg->request);

    /* An acknowledgement, or an error where the row has more than a u64. */
    if (reply->kind == VHU_PAYLOAD_U64 &&
        (spec->reply_rule == VHU_REPLY_ON_ACK ||
         spec->reply != VHU_PAYLOAD_U64)) {
        return judge_u64(msg, reply, err);
    }
    if (msg->request < sizeof(judges) / sizeof(judges[0]) &&
        judges[msg->request]) {
        return judges[msg->request](msg, reply, err);
    }
    return 0;
}
