/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Owns the life of a rig: making it, connecting it, and turning everything
 * while a test waits.
 */
#include "tests/rig.h"

#include "tests/rig-internal.h"
#include "vhu/clock.h"

#include <errno.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#define DEFAULT_QUEUE_SIZE 64
#define DEFAULT_TIMEOUT_MS 10000
#define DEFAULT_IOTLB      4096
/* With a feature masked a test is to fail, soon. */
#define MASKED_TIMEOUT_MS 1000
/* How often a rig looks at its rings when it asked for no calls. */
#define POLLING_MS 1

void rig_fail(const char *fmt, ...)
{
    char text[512];
    va_list args;

    va_start(args, fmt);
    g_vsnprintf(text, sizeof(text), fmt, args);
    va_end(args);
    g_error("%s", text);
}

void rig_check(int rc, const VhuError *err, const char *what)
{
    if (rc < 0) {
        rig_fail("%s: %s", what,
                 err && err->code ? err->text : g_strerror(-rc));
    }
}

/* ---- life ---- */

static void on_session(void *opaque, uint32_t events)
{
    (void)events;
    vhu_frontend_dispatch(((Rig *)opaque)->session);
}

static void on_call(void *opaque, uint32_t events)
{
    RigQueue *queue = opaque;
    uint64_t count;

    (void)events;
    if (read(queue->call, &count, sizeof(count)) == sizeof(count)) {
        queue->calls += count;
        rig_harvest(queue);
    }
}

static void make_queue(Rig *rig, unsigned index)
{
    RigQueue *queue = &rig->queues[index];

    queue->rig = rig;
    queue->index = index;
    queue->kick = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    queue->call = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    queue->err = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    queue->watch =
        vhu_loop_watch(rig->loop, queue->call, EPOLLIN, on_call, queue);
    g_assert_nonnull(queue->watch);
}

Rig *rig_new(const RigConfig *config)
{
    Rig *rig = g_new0(Rig, 1);
    VhuError err = {0};

    rig->config = *config;
    rig->config.num_queues = MAX(config->num_queues, 1);
    if (!config->queue_size) {
        rig->config.queue_size = DEFAULT_QUEUE_SIZE;
    }
    if (!config->timeout_ms) {
        rig->config.timeout_ms = DEFAULT_TIMEOUT_MS;
    }
    if (g_getenv("VHU_MASK_FRONTEND") || g_getenv("VHU_MASK_BACKEND")) {
        rig->config.timeout_ms = MASKED_TIMEOUT_MS;
    }
    if (!config->iotlb_bytes) {
        rig->config.iotlb_bytes = DEFAULT_IOTLB;
    }
    rig->serve_misses = true;
    g_queue_init(&rig->used);
    rig->requests = g_hash_table_new_full(NULL, NULL, g_free, NULL);
    rig->loop = config->loop;
    if (!rig->loop) {
        rig->own_loop = true;
        rig->loop = vhu_loop_new(&err);
        rig_check(rig->loop ? 0 : -err.code, &err, "loop");
    }
    rig_memory_init(rig);
    rig->session = rig_make_session(rig);
    rig->session_watch = vhu_loop_watch(
        rig->loop, vhu_frontend_fd(rig->session), EPOLLIN, on_session, rig);
    g_assert_nonnull(rig->session_watch);
    rig->queues = g_new0(RigQueue, rig->config.num_queues);
    for (unsigned i = 0; i < rig->config.num_queues; i++) {
        make_queue(rig, i);
    }
    return rig;
}

void rig_free(Rig *rig)
{
    if (!rig) {
        return;
    }
    vhu_watch_free(rig->session_watch);
    vhu_frontend_free(rig->session);
    for (unsigned i = 0; i < rig->config.num_queues; i++) {
        RigQueue *queue = &rig->queues[i];

        vhu_watch_free(queue->watch);
        vhu_driver_free(queue->driver);
        close(queue->kick);
        close(queue->call);
        close(queue->err);
    }
    g_free(rig->queues);
    g_queue_clear(&rig->used);
    g_hash_table_unref(rig->requests);
    rig_memory_clear(rig);
    if (rig->own_loop) {
        vhu_loop_free(rig->loop);
    }
    g_free(rig);
}

VhuFrontend *rig_session(Rig *rig)
{
    return rig->session;
}

VhuDriverQueue *rig_queue(Rig *rig, unsigned index)
{
    return rig->queues[index].driver;
}

const RigConfig *rig_config(const Rig *rig)
{
    return &rig->config;
}

uint64_t rig_features(const Rig *rig)
{
    return rig->features;
}

int rig_kick_fd(Rig *rig, unsigned index)
{
    return rig->queues[index].kick;
}

int rig_call_fd(Rig *rig, unsigned index)
{
    return rig->queues[index].call;
}

int rig_err_fd(Rig *rig, unsigned index)
{
    return rig->queues[index].err;
}

/* ---- waiting ---- */

bool rig_until(Rig *rig, RigCondition done, void *opaque, int timeout_ms)
{
    const int64_t deadline_ms = vhu_now_ms() + timeout_ms;

    while (!done(opaque)) {
        int64_t left = deadline_ms - vhu_now_ms();

        if (left < 0) {
            return false;
        }
        if (rig->config.polling) {
            left = MIN(left, POLLING_MS);
        }
        vhu_loop_dispatch(rig->loop, (int)left);
        for (unsigned i = 0; rig->config.polling && i < rig->config.num_queues;
             i++) {
            rig_harvest(&rig->queues[i]);
        }
    }
    return true;
}

static bool wait_is_done(void *opaque)
{
    return ((VhuWait *)opaque)->done;
}

int rig_op(Rig *rig, int started, VhuWait *wait)
{
    if (started < 0) {
        return started;
    }
    /* The session's own deadline comes first; this one is for its bugs. */
    if (!rig_until(rig, wait_is_done, wait, 2 * rig->config.timeout_ms)) {
        rig_fail("the session forgot a request");
    }
    return wait->result;
}

int rig_call(Rig *rig, const VhuMessage *msg, VhuMessage *reply)
{
    VhuWait wait;
    int rc = vhu_frontend_request(rig->session, msg, vhu_wait_then(&wait),
                                  &wait.err);

    rc = rig_op(rig, rc, &wait);
    if (reply) {
        *reply = wait.reply;
    } else {
        vhu_wait_clear(&wait);
    }
    return rc;
}

int rig_call_u64(Rig *rig, uint32_t request, uint64_t value)
{
    VhuMessage msg = {.request = request, .kind = VHU_PAYLOAD_U64};

    msg.payload.u64 = value;
    return rig_call(rig, &msg, NULL);
}

uint64_t rig_ask_u64(Rig *rig, uint32_t request)
{
    const VhuMessage msg = {.request = request};
    VhuMessage reply;
    int rc = rig_call(rig, &msg, &reply);

    if (rc < 0 || reply.kind != VHU_PAYLOAD_U64) {
        rig_fail("request %u: no u64 in reply: %s", request, g_strerror(-rc));
    }
    return reply.payload.u64;
}

/* ---- connecting ---- */

int rig_socketpair(int *peer)
{
    int pair[2];

    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0) {
        rig_fail("socketpair: %s", g_strerror(errno));
    }
    *peer = pair[1];
    return pair[0];
}

static bool is_settled(void *opaque)
{
    const Rig *rig = opaque;

    return rig->ready || rig->closed;
}

static int wait_ready(Rig *rig, VhuError *err)
{
    if (!rig_until(rig, is_settled, rig, 2 * rig->config.timeout_ms)) {
        rig_fail("the session forgot to negotiate");
    }
    if (rig->closed && err) {
        *err = rig->why;
    }
    return rig->closed ? -rig->why.code : 0;
}

static int set_features(Rig *rig, VhuError *err)
{
    const uint64_t offered = vhu_frontend_info(rig->session)->features_offered;
    VhuWait wait;
    int rc;

    rig->features = rig->config.features;
    if (!rig->config.legacy) {
        rig->features |= RIG_BIT(VIRTIO_F_VERSION_1);
    }
    if (rig->features & ~offered) {
        rig_fail("features 0x%" G_GINT64_MODIFIER "x are not offered",
                 rig->features & ~offered);
    }
    if (rig->config.without_protocol_features) {
        return rig_call_u64(rig, VHOST_USER_SET_FEATURES, rig->features);
    }
    rc = vhu_frontend_set_features(rig->session, rig->features,
                                   vhu_wait_then(&wait), &wait.err);
    rc = rig_op(rig, rc, &wait);
    if (rc < 0) {
        *err = wait.err;
    }
    return rc;
}

static int set_memory(Rig *rig, VhuError *err)
{
    const VhuFrontendMemory memory = {.regions = rig->memory.regions,
                                      .fds = rig->memory.fds,
                                      .num = rig->memory.num_regions};
    VhuWait wait;
    int rc = vhu_frontend_set_memory(rig->session, &memory,
                                     vhu_wait_then(&wait), &wait.err);

    rc = rig_op(rig, rc, &wait);
    if (rc < 0) {
        *err = wait.err;
    }
    return rc;
}

static int set_inflight(Rig *rig, VhuError *err)
{
    const uint32_t size = rig->config.inflight_size ? rig->config.inflight_size
                                                    : rig->config.queue_size;
    VhuWait wait;
    int rc = vhu_frontend_set_inflight(
        rig->session, (uint16_t)rig->config.num_queues, (uint16_t)size,
        vhu_wait_then(&wait), &wait.err);

    rc = rig_op(rig, rc, &wait);
    if (rc < 0) {
        *err = wait.err;
    }
    return rc;
}

static int attach(Rig *rig, int fd, VhuError *err)
{
    int rc;

    rig->ready = rig->closed = false;
    rig->why = (VhuError){0};
    rc = vhu_frontend_attach(rig->session, fd, err);
    return rc < 0 ? rc : wait_ready(rig, err);
}

int rig_try_attach(Rig *rig, int fd, VhuError *err)
{
    VhuError why = {0};
    int rc = attach(rig, fd, &why);

    if (rc == 0) {
        rc = set_features(rig, &why);
    }
    if (rc == 0 && rig->config.inflight) {
        rc = set_inflight(rig, &why);
    }
    if (rc == 0) {
        rc = set_memory(rig, &why);
    }
    for (unsigned i = 0; rc == 0 && i < rig->config.num_queues; i++) {
        if (!rig->queues[i].driver) {
            rig_make_driver(&rig->queues[i]);
        }
    }
    if (err) {
        *err = why;
    }
    return rc;
}

void rig_attach(Rig *rig, int fd)
{
    VhuError err = {0};

    rig_check(rig_try_attach(rig, fd, &err), &err, "connecting");
}

/* A blocking connect: the daemon accepts when it comes to it. */
static int connect_to(const char *path)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

    g_assert_cmpuint(strlen(path), <, sizeof(address.sun_path));
    memcpy(address.sun_path, path, strlen(path));
    if (fd < 0 ||
        connect(fd, (struct sockaddr *)&address, sizeof(address)) < 0) {
        rig_fail("%s: %s", path, g_strerror(errno));
    }
    return fd;
}

void rig_connect(Rig *rig, const char *path)
{
    rig_attach(rig, connect_to(path));
}

void rig_reattach(Rig *rig, int fd)
{
    VhuError err = {0};

    rig_check(attach(rig, fd, &err), &err, "connecting again");
    if (rig->config.without_protocol_features) {
        /* Behind the session's back, as in rig_attach. */
        rig_check(set_features(rig, &err), &err, "SET_FEATURES");
    }
    for (unsigned i = 0; i < rig->config.num_queues; i++) {
        if (rig->queues[i].running) {
            rig_start_queue(rig, i);
        }
    }
}

void rig_reconnect(Rig *rig, const char *path)
{
    rig_reattach(rig, connect_to(path));
}

void rig_disconnect(Rig *rig)
{
    vhu_frontend_close(rig->session, NULL);
}

static bool is_closed(void *opaque)
{
    return ((Rig *)opaque)->closed;
}

void rig_wait_closed(Rig *rig, VhuError *err)
{
    if (!rig_until(rig, is_closed, rig, rig->config.timeout_ms)) {
        rig_fail("the back end did not close the connection");
    }
    if (err) {
        *err = rig->why;
    }
}
