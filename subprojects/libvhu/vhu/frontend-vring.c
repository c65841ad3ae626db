/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Owns the operations of a front-end session that nothing is kept of: vrings,
 * configuration space, IOTLB, shared objects, and any other request.
 */
#include "vhu/frontend-internal.h"
#include "vhu/ring.h"

#include <errno.h>
#include <string.h>

#include <linux/vhost_types.h>
#include <linux/virtio_config.h>

/* Requests of one start: NUM, BASE, ADDR, ERR, CALL, KICK. */
#define START_REQUESTS 6

int vhu_frontend_request(VhuFrontend *session, const VhuMessage *msg,
                         const VhuThen *then, VhuError *err)
{
    return vhu_frontend_post(session, msg, then, err);
}

int vhu_frontend_ask(VhuFrontend *session, uint32_t request,
                     const VhuThen *then, VhuError *err)
{
    const VhuMessage msg = {.request = request};

    return vhu_frontend_post(session, &msg, then, err);
}

int vhu_frontend_ask_u64(VhuFrontend *session, uint32_t request, uint64_t value,
                         const VhuThen *then, VhuError *err)
{
    VhuMessage msg = {.request = request, .kind = VHU_PAYLOAD_U64};

    msg.payload.u64 = value;
    return vhu_frontend_post(session, &msg, then, err);
}

/* ---- vrings ---- */

static VhuMessage state_message(uint32_t request, uint32_t index, uint32_t num)
{
    VhuMessage msg = {.request = request, .kind = VHU_PAYLOAD_VRING_STATE};

    msg.payload.state.index = index;
    msg.payload.state.num = num;
    return msg;
}

static VhuMessage fd_message(uint32_t request, uint32_t index, int fd)
{
    VhuMessage msg = {.request = request, .kind = VHU_PAYLOAD_VRING_FD};

    msg.payload.u64 = index;
    if (fd >= 0) {
        msg.num_fds = 1;
        msg.fds[0] = fd;
    } else {
        msg.payload.u64 |= VHU_VRING_NO_FD;
    }
    return msg;
}

/* vhost-user, "A vring address description": an IOVA, a guest physical or a
 * user address, by what is negotiated. */
static bool addresses_go_as_they_are(const VhuFrontend *session)
{
    return (session->info.features & (1ULL << VIRTIO_F_ACCESS_PLATFORM)) ||
           vhu_frontend_has(session, VHOST_USER_PROTOCOL_F_GPA_ADDRESSES);
}

static int translate(VhuFrontend *session, const VhuFrontendVring *vring,
                     VhuVringAddr *addr)
{
    uint64_t desc, driver, device;

    if (addresses_go_as_they_are(session)) {
        addr->desc = vring->desc;
        addr->avail = vring->driver;
        addr->used = vring->device;
        return 0;
    }
    vhu_ring_bytes(session->info.features, vring->size, &desc, &driver,
                   &device);
    if (vhu_frontend_user_addr(session, vring->desc, desc, &addr->desc) < 0 ||
        vhu_frontend_user_addr(session, vring->driver, driver, &addr->avail) <
            0 ||
        vhu_frontend_user_addr(session, vring->device, device, &addr->used) <
            0) {
        return -EFAULT;
    }
    return 0;
}

static int addr_message(VhuFrontend *session, uint32_t index,
                        const VhuFrontendVring *vring, VhuMessage *msg,
                        VhuError *err)
{
    VhuVringAddr *addr = &msg->payload.addr;

    *msg = (VhuMessage){.request = VHOST_USER_SET_VRING_ADDR,
                        .kind = VHU_PAYLOAD_VRING_ADDR};
    addr->index = index;
    addr->flags = vring->log_used ? 1u << VHOST_VRING_F_LOG : 0;
    addr->log = vring->log_addr;
    if (translate(session, vring, addr) == 0) {
        return 0;
    }
    return vhu_error_set(err, EFAULT, msg->request, vring->desc,
                         "%s: vring %u at 0x%llx, 0x%llx, 0x%llx is not in "
                         "guest memory",
                         session->name, index, (unsigned long long)vring->desc,
                         (unsigned long long)vring->driver,
                         (unsigned long long)vring->device);
}

static int check_index(VhuFrontend *session, uint32_t index, VhuError *err)
{
    if (index < VHU_MAX_QUEUES) {
        return 0;
    }
    return vhu_error_set(err, EINVAL, 0, index, "%s: vring %u, at most %u",
                         session->name, index, VHU_MAX_QUEUES - 1);
}

int vhu_frontend_start_vring(VhuFrontend *session, uint32_t index,
                             const VhuFrontendVring *vring, const VhuThen *then,
                             VhuError *err)
{
    VhuMessage messages[START_REQUESTS];
    unsigned count = 0;
    VhuGroup *group;
    int rc = check_index(session, index, err);

    messages[count++] =
        state_message(VHOST_USER_SET_VRING_NUM, index, vring->size);
    messages[count++] =
        state_message(VHOST_USER_SET_VRING_BASE, index, vring->base);
    if (rc == 0) {
        rc = addr_message(session, index, vring, &messages[count++], err);
    }
    if (rc == 0) {
        rc = vhu_group_new(session, START_REQUESTS, then, &group, err);
    }
    if (rc < 0) {
        return rc;
    }
    if (vring->err >= 0) {
        messages[count++] =
            fd_message(VHOST_USER_SET_VRING_ERR, index, vring->err);
    }
    messages[count++] =
        fd_message(VHOST_USER_SET_VRING_CALL, index, vring->call);
    messages[count++] =
        fd_message(VHOST_USER_SET_VRING_KICK, index, vring->kick);
    for (unsigned i = 0; i < count; i++) {
        vhu_group_post(group, &messages[i]);
    }
    return vhu_group_close(group, err);
}

int vhu_frontend_set_vring_addr(VhuFrontend *session, uint32_t index,
                                const VhuFrontendVring *vring,
                                const VhuThen *then, VhuError *err)
{
    VhuMessage msg;
    int rc = addr_message(session, index, vring, &msg, err);

    return rc < 0 ? rc : vhu_frontend_post(session, &msg, then, err);
}

int vhu_frontend_enable_vring(VhuFrontend *session, uint32_t index, bool enable,
                              const VhuThen *then, VhuError *err)
{
    const VhuMessage msg =
        state_message(VHOST_USER_SET_VRING_ENABLE, index, enable);

    return vhu_frontend_post(session, &msg, then, err);
}

int vhu_frontend_stop_vring(VhuFrontend *session, uint32_t index,
                            const VhuThen *then, VhuError *err)
{
    const VhuMessage msg = state_message(VHOST_USER_GET_VRING_BASE, index, 0);

    return vhu_frontend_post(session, &msg, then, err);
}

int vhu_frontend_set_vring_fd(VhuFrontend *session, uint32_t request,
                              uint32_t index, int fd, VhuError *err)
{
    const VhuMessage msg = fd_message(request, index, fd);
    int rc = check_index(session, index, err);

    return rc < 0 ? rc : vhu_frontend_post(session, &msg, NULL, err);
}

int vhu_frontend_kick_vring(VhuFrontend *session, uint32_t index,
                            const VhuThen *then, VhuError *err)
{
    const VhuMessage msg = state_message(VHOST_USER_VRING_KICK, index, 0);

    return vhu_frontend_post(session, &msg, then, err);
}

/* ---- configuration space ---- */

int vhu_frontend_get_config(VhuFrontend *session, uint32_t offset,
                            uint32_t size, const VhuThen *then, VhuError *err)
{
    VhuMessage msg = {.request = VHOST_USER_GET_CONFIG,
                      .kind = VHU_PAYLOAD_CONFIG};
    VhuConfigArea *area = &msg.payload.config;

    if (!size || size > VHU_MAX_CONFIG_BYTES) {
        return vhu_error_set(err, EINVAL, msg.request, size,
                             "%s: GET_CONFIG of %u bytes, expected 1 to %u",
                             session->name, size, VHU_MAX_CONFIG_BYTES);
    }
    area->offset = offset;
    area->size = size;
    area->data_bytes = size; /* the reply must have the request's size */
    return vhu_frontend_post(session, &msg, then, err);
}

int vhu_frontend_set_config(VhuFrontend *session, const VhuConfigArea *area,
                            const VhuThen *then, VhuError *err)
{
    VhuMessage msg = {.request = VHOST_USER_SET_CONFIG,
                      .kind = VHU_PAYLOAD_CONFIG};

    if (!area->size || area->size > VHU_MAX_CONFIG_BYTES) {
        return vhu_error_set(err, EINVAL, msg.request, area->size,
                             "%s: SET_CONFIG of %u bytes, expected 1 to %u",
                             session->name, area->size, VHU_MAX_CONFIG_BYTES);
    }
    msg.payload.config = *area;
    msg.payload.config.data_bytes = area->size;
    return vhu_frontend_post(session, &msg, then, err);
}

/* ---- IOTLB, shared objects ---- */

int vhu_frontend_iotlb(VhuFrontend *session, const VhuIotlbMsg *iotlb,
                       const VhuThen *then, VhuError *err)
{
    VhuMessage msg = {.request = VHOST_USER_IOTLB_MSG,
                      .kind = VHU_PAYLOAD_IOTLB};

    msg.payload.iotlb = *iotlb;
    return vhu_frontend_post(session, &msg, then, err);
}

int vhu_frontend_get_shared_object(VhuFrontend *session, const VhuUuid *uuid,
                                   const VhuThen *then, VhuError *err)
{
    VhuMessage msg = {.request = VHOST_USER_GET_SHARED_OBJECT,
                      .kind = VHU_PAYLOAD_UUID};

    msg.payload.uuid = *uuid;
    return vhu_frontend_post(session, &msg, then, err);
}
