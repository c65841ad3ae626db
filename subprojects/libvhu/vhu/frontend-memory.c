/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Owns what a front-end session keeps for the back end that comes after a
 * lost one: features, guest memory, dirty log, inflight buffer; and setting
 * them. Never maps or touches any of it.
 */
#include "vhu/frontend-internal.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static void close_kept(int *fd)
{
    if (*fd >= 0) {
        close(*fd);
    }
    *fd = -1;
}

static int keep_fd(VhuFrontend *session, int fd, int *kept, VhuError *err)
{
    int copy = fcntl(fd, F_DUPFD_CLOEXEC, 0);

    if (copy < 0) {
        const int code = errno;

        return vhu_error_set(err, code, 0, 0, "%s: fd %d: %s", session->name,
                             fd, strerror(code));
    }
    close_kept(kept);
    *kept = copy;
    return 0;
}

/* ---- features ---- */

static int send_features(VhuFrontend *session, const VhuThen *then,
                         VhuError *err)
{
    VhuMessage msg = {.request = VHOST_USER_SET_FEATURES,
                      .kind = VHU_PAYLOAD_U64};

    msg.payload.u64 = session->info.features;
    return vhu_frontend_post(session, &msg, then, err);
}

int vhu_frontend_set_features(VhuFrontend *session, uint64_t features,
                              const VhuThen *then, VhuError *err)
{
    const uint64_t offered = session->info.features_offered;
    int rc = vhu_frontend_usable(session, err);

    if (rc < 0) {
        return rc;
    }
    if (features & ~offered) {
        return vhu_error_set(err, EINVAL, VHOST_USER_SET_FEATURES, features,
                             "%s: features 0x%llx are not offered",
                             session->name,
                             (unsigned long long)(features & ~offered));
    }
    session->features_set = true;
    session->info.features =
        features | (offered & (1ULL << VHOST_USER_F_PROTOCOL_FEATURES));
    return send_features(session, then, err);
}

int vhu_frontend_resend_features(VhuFrontend *session, const VhuThen *then,
                                 VhuError *err)
{
    return session->features_set ? send_features(session, then, err) : 1;
}

/* ---- memory ---- */

static void free_shares(VhuShares *shares)
{
    for (uint32_t i = 0; i < shares->num; i++) {
        close_kept(&shares->list[i].fd);
    }
    free(shares->list);
    *shares = (VhuShares){0};
}

static bool share_is(const VhuShare *a, const VhuShare *b)
{
    return a->region.guest_addr == b->region.guest_addr &&
           a->region.user_addr == b->region.user_addr &&
           a->region.size == b->region.size &&
           a->region.mmap_offset == b->region.mmap_offset &&
           a->device == b->device && a->inode == b->inode;
}

static bool shares_have(const VhuShares *shares, const VhuShare *share)
{
    for (uint32_t i = 0; i < shares->num; i++) {
        if (share_is(&shares->list[i], share)) {
            return true;
        }
    }
    return false;
}

static int share_open(VhuShare *share, const VhuMemRegion *region, int fd)
{
    struct stat status;

    share->region = *region;
    share->fd = fcntl(fd, F_DUPFD_CLOEXEC, 0);
    if (share->fd < 0 || fstat(share->fd, &status) < 0) {
        return -errno;
    }
    share->device = status.st_dev;
    share->inode = status.st_ino;
    return 0;
}

static int copy_memory(VhuFrontend *session, const VhuFrontendMemory *memory,
                       VhuShares *shares, VhuError *err)
{
    int rc = 0;

    if (memory->num > session->info.max_mem_slots) {
        return vhu_error_set(err, ENOSPC, 0, memory->num,
                             "%s: %u memory regions, the back end takes %llu",
                             session->name, memory->num,
                             (unsigned long long)session->info.max_mem_slots);
    }
    shares->list = calloc(memory->num + 1, sizeof(*shares->list));
    if (!shares->list) {
        return vhu_error_set(err, ENOMEM, 0, 0, "%s: out of memory",
                             session->name);
    }
    for (; shares->num < memory->num && rc == 0; shares->num++) {
        rc =
            share_open(&shares->list[shares->num],
                       &memory->regions[shares->num], memory->fds[shares->num]);
    }
    if (rc < 0) {
        free_shares(shares);
        return vhu_error_set(err, -rc, 0, 0, "%s: memory region: %s",
                             session->name, strerror(-rc));
    }
    return 0;
}

/* Remember what the back end has been told; without fds. */
static void note_told(VhuFrontend *session)
{
    VhuShare *list = calloc(session->memory.num + 1, sizeof(*list));

    free_shares(&session->told);
    if (!list) {
        return; /* the next change then sends everything anew */
    }
    session->told = (VhuShares){.list = list, .num = session->memory.num};
    for (uint32_t i = 0; i < session->memory.num; i++) {
        list[i] = session->memory.list[i];
        list[i].fd = -1;
    }
}

static void post_region(VhuGroup *group, uint32_t request,
                        const VhuShare *share)
{
    VhuMessage msg = {.request = request, .kind = VHU_PAYLOAD_MEM_REGION};

    msg.payload.region = share->region;
    if (request == VHOST_USER_ADD_MEM_REG) {
        msg.num_fds = 1;
        msg.fds[0] = share->fd;
    }
    vhu_group_post(group, &msg);
}

static int send_regions(VhuFrontend *session, const VhuThen *then,
                        VhuError *err)
{
    const VhuShares *now = &session->memory;
    const VhuShares *told = &session->told;
    VhuGroup *group;
    int rc = vhu_group_new(session, now->num + told->num, then, &group, err);

    if (rc < 0) {
        return rc;
    }
    for (uint32_t i = 0; i < told->num; i++) {
        if (!shares_have(now, &told->list[i])) {
            post_region(group, VHOST_USER_REM_MEM_REG, &told->list[i]);
        }
    }
    for (uint32_t i = 0; i < now->num; i++) {
        if (!shares_have(told, &now->list[i])) {
            post_region(group, VHOST_USER_ADD_MEM_REG, &now->list[i]);
        }
    }
    return vhu_group_close(group, err);
}

static int send_table(VhuFrontend *session, const VhuThen *then, VhuError *err)
{
    VhuMessage msg = {.request = VHOST_USER_SET_MEM_TABLE,
                      .kind = VHU_PAYLOAD_MEM_TABLE};
    const VhuShares *now = &session->memory;

    msg.payload.table.num_regions = msg.num_fds = now->num;
    for (uint32_t i = 0; i < now->num; i++) {
        msg.payload.table.regions[i] = now->list[i].region;
        msg.fds[i] = now->list[i].fd;
    }
    return vhu_frontend_post(session, &msg, then, err);
}

static int send_memory(VhuFrontend *session, const VhuThen *then, VhuError *err)
{
    const bool slots =
        vhu_frontend_has(session, VHOST_USER_PROTOCOL_F_CONFIGURE_MEM_SLOTS);
    int rc = slots ? send_regions(session, then, err)
                   : send_table(session, then, err);

    note_told(session);
    return rc;
}

int vhu_frontend_set_memory(VhuFrontend *session,
                            const VhuFrontendMemory *memory,
                            const VhuThen *then, VhuError *err)
{
    VhuShares shares = {0};
    int rc = vhu_frontend_usable(session, err);

    if (rc == 0) {
        rc = copy_memory(session, memory, &shares, err);
    }
    if (rc < 0) {
        return rc;
    }
    free_shares(&session->memory);
    session->memory = shares;
    return send_memory(session, then, err);
}

int vhu_frontend_resend_memory(VhuFrontend *session, const VhuThen *then,
                               VhuError *err)
{
    if (session->memory.num > session->info.max_mem_slots) {
        return vhu_error_set(err, ENOSPC, 0, session->memory.num,
                             "%s: %u memory regions, the back end now takes "
                             "%llu",
                             session->name, session->memory.num,
                             (unsigned long long)session->info.max_mem_slots);
    }
    return session->memory.num ? send_memory(session, then, err) : 1;
}

void vhu_frontend_untell(VhuFrontend *session)
{
    free_shares(&session->told);
    session->inflight.asking = false;
    for (uint32_t i = 0; i < session->memory.num; i++) {
        session->memory.list[i].backend_addr = 0;
    }
}

int vhu_frontend_user_addr(const VhuFrontend *session, VhuGuestAddr addr,
                           uint64_t size, VhuUserAddr *out)
{
    for (uint32_t i = 0; i < session->memory.num; i++) {
        const VhuMemRegion *region = &session->memory.list[i].region;
        const uint64_t offset = addr - region->guest_addr;

        if (addr >= region->guest_addr && offset < region->size &&
            size <= region->size - offset) {
            *out = region->user_addr + offset;
            return 0;
        }
    }
    return -EFAULT;
}

/* ---- postcopy ---- */

static void take_base(VhuFrontend *session, const VhuMemRegion *told)
{
    for (uint32_t i = 0; i < session->memory.num; i++) {
        VhuShare *share = &session->memory.list[i];

        if (share->region.guest_addr == told->guest_addr &&
            share->region.size == told->size) {
            share->backend_addr = told->user_addr;
        }
    }
}

void vhu_frontend_take_bases(VhuFrontend *session, const VhuMessage *reply)
{
    VhuMessage ack = {.request = reply->request,
                      .flags = VHU_FLAG_VERSION,
                      .kind = VHU_PAYLOAD_U64};
    VhuError err = {0};

    if (reply->kind == VHU_PAYLOAD_MEM_REGION) {
        take_base(session, &reply->payload.region);
    } else if (reply->kind == VHU_PAYLOAD_MEM_TABLE) {
        for (uint32_t i = 0; i < reply->payload.table.num_regions; i++) {
            take_base(session, &reply->payload.table.regions[i]);
        }
    } else {
        return;
    }
    if (vhu_channel_send(session->channel, &ack, &err) < 0) {
        vhu_frontend_fail_named(session, &err);
    }
}

VhuUserAddr vhu_frontend_backend_addr(const VhuFrontend *session,
                                      uint32_t index)
{
    return index < session->memory.num
               ? session->memory.list[index].backend_addr
               : 0;
}

/* ---- dirty log ---- */

static int send_log(VhuFrontend *session, const VhuThen *then, VhuError *err)
{
    VhuMessage msg = {.request = VHOST_USER_SET_LOG_BASE,
                      .kind = VHU_PAYLOAD_LOG,
                      .num_fds = 1,
                      .fds = {session->log.fd}};

    msg.payload.log = session->log.area;
    return vhu_frontend_post(session, &msg, then, err);
}

int vhu_frontend_set_log(VhuFrontend *session, int fd, const VhuLogArea *area,
                         const VhuThen *then, VhuError *err)
{
    int rc = vhu_frontend_usable(session, err);

    if (rc < 0) {
        return rc;
    }
    if (!vhu_frontend_has(session, VHOST_USER_PROTOCOL_F_LOG_SHMFD)) {
        return vhu_error_set(err, EOPNOTSUPP, VHOST_USER_SET_LOG_BASE, 0,
                             "%s: the back end lacks LOG_SHMFD", session->name);
    }
    rc = keep_fd(session, fd, &session->log.fd, err);
    if (rc < 0) {
        return rc;
    }
    session->log.area = *area;
    return send_log(session, then, err);
}

int vhu_frontend_resend_log(VhuFrontend *session, const VhuThen *then,
                            VhuError *err)
{
    return session->log.fd >= 0 ? send_log(session, then, err) : 1;
}

/* ---- inflight buffer ---- */

static VhuMessage inflight_message(const VhuFrontend *session)
{
    VhuMessage msg = {.request = VHOST_USER_SET_INFLIGHT_FD,
                      .kind = VHU_PAYLOAD_INFLIGHT,
                      .num_fds = 1,
                      .fds = {session->inflight.fd}};

    msg.payload.inflight = session->inflight.area;
    return msg;
}

static int send_inflight(VhuFrontend *session, const VhuThen *then,
                         VhuError *err)
{
    const VhuMessage msg = inflight_message(session);

    return vhu_frontend_post(session, &msg, then, err);
}

static void inflight_came(void *opaque, int result, VhuMessage *reply,
                          const VhuError *err)
{
    VhuFrontend *session = opaque;
    const VhuThen then = session->inflight.then;
    VhuError why = {0};
    VhuMessage msg;

    session->inflight.asking = false;
    if (result < 0) {
        vhu_then_call(&then, result, reply, err);
        return;
    }
    close_kept(&session->inflight.fd);
    session->inflight.fd = vhu_message_take_fd(reply, 0);
    session->inflight.area = reply->payload.inflight;
    msg = inflight_message(session);
    result = vhu_frontend_post_urgent(session, &msg, &then, &why);
    if (result < 0) {
        vhu_then_call(&then, result, NULL, &why);
    }
}

int vhu_frontend_set_inflight(VhuFrontend *session, uint16_t num_queues,
                              uint16_t queue_size, const VhuThen *then,
                              VhuError *err)
{
    VhuMessage msg = {.request = VHOST_USER_GET_INFLIGHT_FD,
                      .kind = VHU_PAYLOAD_INFLIGHT};
    VhuThen got = vhu_then_copy(then);
    int rc;

    if (session->inflight.asking) {
        return vhu_error_set(err, EBUSY, msg.request, 0,
                             "%s: GET_INFLIGHT_FD runs already", session->name);
    }
    if (session->inflight.fd >= 0) {
        return send_inflight(session, then, err);
    }
    msg.payload.inflight.num_queues = num_queues;
    msg.payload.inflight.queue_size = queue_size;
    session->inflight.then = got;
    got.fn = inflight_came;
    got.opaque = session;
    rc = vhu_frontend_post(session, &msg, &got, err);
    session->inflight.asking = rc == 0;
    return rc;
}

int vhu_frontend_resend_inflight(VhuFrontend *session, const VhuThen *then,
                                 VhuError *err)
{
    return session->inflight.fd >= 0 ? send_inflight(session, then, err) : 1;
}

int vhu_frontend_inflight(const VhuFrontend *session, VhuInflightArea *area)
{
    if (session->inflight.fd >= 0 && area) {
        *area = session->inflight.area;
    }
    return session->inflight.fd;
}

int vhu_frontend_keep_inflight(VhuFrontend *session, int fd,
                               const VhuInflightArea *area, VhuError *err)
{
    int rc = keep_fd(session, fd, &session->inflight.fd, err);

    if (rc == 0) {
        session->inflight.area = *area;
    }
    return rc;
}

void vhu_frontend_drop_inflight(VhuFrontend *session)
{
    close_kept(&session->inflight.fd);
}

void vhu_frontend_forget(VhuFrontend *session)
{
    free_shares(&session->memory);
    free_shares(&session->told);
    close_kept(&session->log.fd);
    close_kept(&session->inflight.fd);
}
