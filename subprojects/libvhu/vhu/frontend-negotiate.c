/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Owns the way from a connected socket to ops->ready: a table of steps, one
 * request at a time because each depends on what the one before brought. On
 * a reconnection the last steps send again what the owner had set.
 */
#include "vhu/frontend-internal.h"

#include <errno.h>
#include <unistd.h>

#define BIT(name) VHU_PROTOCOL_BIT(name)

/* Whether the owner can do its part of a feature. */
static bool owner_serves(const VhuFrontend *session, unsigned bit)
{
    const VhuFrontendOps *ops = &session->ops;

    switch (bit) {
    case VHOST_USER_PROTOCOL_F_INBAND_NOTIFICATIONS:
        return ops->vring_call;
    case VHOST_USER_PROTOCOL_F_SHARED_OBJECT:
        return ops->shared_object_add && ops->shared_object_remove &&
               ops->shared_object_lookup;
    case VHOST_USER_PROTOCOL_F_SHMEM:
        return ops->shmem_map && ops->shmem_unmap;
    case VHOST_USER_PROTOCOL_F_GET_VRING_BASE_INFLIGHT:
        return session->config.suspends;
    default:
        return true;
    }
}

/* The largest legal set of what both sides do. */
static uint64_t choose_features(const VhuFrontend *session)
{
    uint64_t set =
        session->info.protocol_offered & ~session->config.protocol_masked;
    uint64_t before;

    for (unsigned bit = 0; bit < 64; bit++) {
        const VhuFeatureSpec *spec = vhu_feature_spec(bit);

        if (!spec || spec->frontend == VHU_SUPPORT_CODEC_ONLY ||
            !owner_serves(session, bit)) {
            set &= ~(1ULL << bit);
        }
    }
    do {
        before = set;
        for (unsigned bit = 0; bit < VHOST_USER_PROTOCOL_F_COUNT; bit++) {
            if (vhu_feature_spec(bit)->needs & ~set) {
                set &= ~(1ULL << bit);
            }
        }
    } while (set != before);
    return set;
}

static bool speaks_protocol_features(const VhuFrontend *session)
{
    return session->info.features_offered &
           (1ULL << VHOST_USER_F_PROTOCOL_FEATURES);
}

static int check_required(const VhuFrontend *session, uint64_t set,
                          VhuError *err)
{
    const uint64_t missing = session->config.protocol_required & ~set;

    if (!missing) {
        return 0;
    }
    return vhu_error_set(
        err, EOPNOTSUPP, VHOST_USER_GET_PROTOCOL_FEATURES,
        session->info.protocol_offered,
        "%s: needs %s, the back end offers protocol features 0x%llx",
        session->name,
        vhu_feature_spec((unsigned)__builtin_ctzll(missing))->name,
        (unsigned long long)session->info.protocol_offered);
}

/* ---- starting a step: 0: @then will come, 1: nothing to do, -errno ---- */

typedef int (*StartFn)(VhuFrontend *session, const VhuThen *then,
                       VhuError *err);

static int ask(VhuFrontend *session, uint32_t request, const VhuThen *then,
               VhuError *err)
{
    const VhuMessage msg = {.request = request};

    return vhu_frontend_post(session, &msg, then, err);
}

static int start_get_features(VhuFrontend *session, const VhuThen *then,
                              VhuError *err)
{
    return ask(session, VHOST_USER_GET_FEATURES, then, err);
}

static int start_get_protocol(VhuFrontend *session, const VhuThen *then,
                              VhuError *err)
{
    if (!speaks_protocol_features(session)) {
        session->info.protocol_offered = 0;
        return 1;
    }
    return ask(session, VHOST_USER_GET_PROTOCOL_FEATURES, then, err);
}

static int start_set_protocol(VhuFrontend *session, const VhuThen *then,
                              VhuError *err)
{
    VhuMessage msg = {.request = VHOST_USER_SET_PROTOCOL_FEATURES,
                      .kind = VHU_PAYLOAD_U64};
    const uint64_t set = choose_features(session);
    int rc = check_required(session, set, err);

    if (rc < 0 || !speaks_protocol_features(session)) {
        return rc < 0 ? rc : 1;
    }
    session->info.protocol_features = msg.payload.u64 = set;
    return vhu_frontend_post(session, &msg, then, err);
}

static int start_queue_num(VhuFrontend *session, const VhuThen *then,
                           VhuError *err)
{
    session->info.max_queues = 0;
    if (!vhu_frontend_has(session, VHOST_USER_PROTOCOL_F_MQ)) {
        return 1;
    }
    return ask(session, VHOST_USER_GET_QUEUE_NUM, then, err);
}

static int start_mem_slots(VhuFrontend *session, const VhuThen *then,
                           VhuError *err)
{
    session->info.max_mem_slots = VHU_MAX_TABLE_REGIONS;
    if (!vhu_frontend_has(session, VHOST_USER_PROTOCOL_F_CONFIGURE_MEM_SLOTS)) {
        return 1;
    }
    return ask(session, VHOST_USER_GET_MAX_MEM_SLOTS, then, err);
}

static int start_backend_channel(VhuFrontend *session, const VhuThen *then,
                                 VhuError *err)
{
    VhuMessage msg = {.request = VHOST_USER_SET_BACKEND_REQ_FD, .num_fds = 1};
    int rc;

    if (!vhu_frontend_has(session, VHOST_USER_PROTOCOL_F_BACKEND_REQ)) {
        return 1;
    }
    rc = vhu_frontend_open_back(session, &msg.fds[0], err);
    if (rc < 0) {
        return rc;
    }
    rc = vhu_frontend_post(session, &msg, then, err);
    close(msg.fds[0]);
    return rc;
}

static int start_owner(VhuFrontend *session, const VhuThen *then, VhuError *err)
{
    return ask(session, VHOST_USER_SET_OWNER, then, err);
}

/* ---- what a step brought ---- */

static int take_features(VhuFrontend *session, const VhuMessage *reply,
                         VhuError *err)
{
    const uint64_t lost = session->info.features & ~reply->payload.u64;

    session->info.features_offered = reply->payload.u64;
    if (!session->features_set || !lost) {
        return 0;
    }
    return vhu_error_set(err, EOPNOTSUPP, VHOST_USER_GET_FEATURES,
                         reply->payload.u64,
                         "%s: the back end came back without features 0x%llx "
                         "that are in use",
                         session->name, (unsigned long long)lost);
}

static int take_protocol(VhuFrontend *session, const VhuMessage *reply,
                         VhuError *err)
{
    (void)err;
    session->info.protocol_offered = reply->payload.u64;
    return 0;
}

static int take_queue_num(VhuFrontend *session, const VhuMessage *reply,
                          VhuError *err)
{
    session->info.max_queues = reply->payload.u64;
    if (reply->payload.u64) {
        return 0;
    }
    return vhu_error_set(err, EPROTO, VHOST_USER_GET_QUEUE_NUM, 0,
                         "%s: the back end has 0 queues", session->name);
}

static int take_mem_slots(VhuFrontend *session, const VhuMessage *reply,
                          VhuError *err)
{
    (void)err;
    session->info.max_mem_slots = reply->payload.u64;
    return 0;
}

static const struct {
    StartFn start;
    int (*take)(VhuFrontend *session, const VhuMessage *reply, VhuError *err);
    bool again; /* only on a reconnection */
} steps[] = {
    {.start = start_get_features, .take = take_features},
    {.start = start_get_protocol, .take = take_protocol},
    {.start = start_set_protocol},
    {.start = start_queue_num, .take = take_queue_num},
    {.start = start_mem_slots, .take = take_mem_slots},
    {.start = start_backend_channel},
    {.start = start_owner},
    {.start = vhu_frontend_resend_features, .again = true},
    {.start = vhu_frontend_resend_inflight, .again = true},
    {.start = vhu_frontend_resend_log, .again = true},
    {.start = vhu_frontend_resend_memory, .again = true},
};

#define NUM_STEPS (sizeof(steps) / sizeof(steps[0]))

static void run_steps(VhuFrontend *session);

static void step_done(void *opaque, int result, VhuMessage *reply,
                      const VhuError *err)
{
    VhuFrontend *session = opaque;
    VhuError why = *err;

    if (result == 0 && steps[session->step].take) {
        result = steps[session->step].take(session, reply, &why);
    }
    if (result < 0) {
        vhu_frontend_fail(session, &why);
        return;
    }
    session->step++;
    run_steps(session);
}

static void finish(VhuFrontend *session)
{
    const bool again = session->again;

    session->again = true;
    session->info.phase = VHU_FRONTEND_READY;
    if (session->ops.ready) {
        session->ops.ready(session->ops.opaque, again);
    }
}

static bool applies(const VhuFrontend *session, unsigned step)
{
    return !steps[step].again || session->again;
}

static void run_steps(VhuFrontend *session)
{
    const VhuThen then = {.fn = step_done, .opaque = session};
    VhuError err = {0};
    int rc = 1;

    session->negotiation = true;
    while (session->step < NUM_STEPS) {
        if (applies(session, session->step)) {
            rc = steps[session->step].start(session, &then, &err);
        }
        if (rc != 1) {
            break;
        }
        session->step++;
    }
    session->negotiation = false;
    if (rc < 0) {
        vhu_frontend_fail(session, &err);
    } else if (rc == 1) {
        finish(session);
    }
}

void vhu_frontend_negotiate(VhuFrontend *session)
{
    session->step = 0;
    run_steps(session);
}
