/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Owns the first test of the back end: one connection, message by message,
 * with nothing of ours on the front end's side but channel and driver rings.
 */
#include "vhu/backend.h"

#include "vhu/driver.h"

#include <errno.h>
#include <glib.h>
#include <linux/virtio_config.h>
#include <linux/virtio_ring.h>
#include <poll.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#define MEMORY_BYTES (1u << 20)
#define GUEST_BASE   0x40000000ULL
#define USER_BASE    0x7f0000000000ULL
#define RING_BYTES   (64u * 1024u)
#define OUT_OFFSET   RING_BYTES
#define IN_OFFSET    (RING_BYTES + 4096u)
#define DEADLINE_MS  5000

#define FEATURE(bit) (1ULL << (bit))

typedef struct Fixture {
    VhuLoop *loop;
    VhuThread *thread;
    VhuBackend *backend;
    VhuChannel *front;
    int memory_fd;
    uint8_t *memory;
    VhuDriverQueue *driver;
    int kick_fd;
    int call_fd;
} Fixture;

/* The device writes the out bytes back in reverse order. */
static VhuProcess reverse(VhuQueue *queue, void *state)
{
    VhuElement *element;

    (void)state;
    while ((element = vhu_queue_pop(queue))) {
        uint8_t data[64];
        const size_t size = vhu_element_read(element, 0, data, sizeof(data));

        for (size_t i = 0; i < size / 2; i++) {
            const uint8_t swap = data[i];

            data[i] = data[size - 1 - i];
            data[size - 1 - i] = swap;
        }
        vhu_queue_push(queue, element,
                       (uint32_t)vhu_element_write(element, 0, data, size));
    }
    return VHU_PROCESS_DONE;
}

static const VhuDeviceOps reverse_ops = {.queue_process = reverse};

static void log_line(void *opaque, VhuLevel level, const char *text)
{
    (void)opaque;
    g_test_message("%d: %s", level, text);
}

static void set_up(Fixture *f, gconstpointer data)
{
    const bool threaded = GPOINTER_TO_INT(data);
    const VhuDeviceInfo info = {
        .name = "reverse", .num_queues = 1, .ops = &reverse_ops};
    const VhuBackendEvents events = {.log = log_line};
    VhuLoop *loops[1];
    int pair[2];

    f->loop = vhu_loop_new(NULL);
    f->backend = vhu_backend_new(f->loop, &info, NULL, &events, NULL);
    g_assert_nonnull(f->backend);
    if (threaded) {
        f->thread = vhu_thread_new("data", NULL);
        loops[0] = vhu_thread_loop(f->thread);
        g_assert_cmpint(vhu_backend_set_threads(f->backend, loops, 1), ==, 0);
    }
    g_assert_cmpint(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair),
                    ==, 0);
    g_assert_cmpint(vhu_backend_serve(f->backend, pair[0], NULL, NULL), ==, 0);
    f->front = vhu_channel_new(pair[1], VHU_FROM_FRONTEND, true, NULL);
    f->memory_fd = memfd_create("guest", MFD_CLOEXEC);
    g_assert_cmpint(ftruncate(f->memory_fd, MEMORY_BYTES), ==, 0);
    f->memory = mmap(NULL, MEMORY_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED,
                     f->memory_fd, 0);
    f->kick_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    f->call_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
}

static void turn(Fixture *f)
{
    g_assert_cmpint(vhu_loop_dispatch(f->loop, 5), >=, 0);
}

static void tear_down(Fixture *f, gconstpointer data)
{
    (void)data;
    vhu_channel_free(f->front);
    while (vhu_backend_num_alive(f->backend) > 0) {
        turn(f);
    }
    vhu_thread_free(f->thread);
    vhu_backend_free(f->backend);
    vhu_loop_free(f->loop);
    vhu_driver_free(f->driver);
    munmap(f->memory, MEMORY_BYTES);
    close(f->memory_fd);
    close(f->kick_fd);
    close(f->call_fd);
}

static void send_message(Fixture *f, VhuMessage msg)
{
    msg.flags |= VHU_FLAG_VERSION;
    g_assert_cmpint(vhu_channel_send(f->front, &msg, NULL), ==, 0);
}

/* The reply, which must come within the deadline. */
static VhuMessage await_reply(Fixture *f, uint32_t request)
{
    const int64_t deadline = vhu_now_ms() + DEADLINE_MS;
    VhuMessage msg;
    int ret = 0;

    while (ret == 0) {
        g_assert_cmpint(vhu_now_ms(), <, deadline);
        turn(f);
        ret = vhu_channel_receive(f->front, &msg, NULL);
    }
    g_assert_cmpint(ret, ==, 1);
    g_assert_cmpuint(msg.request, ==, request);
    return msg;
}

static uint64_t ask_u64(Fixture *f, uint32_t request)
{
    send_message(f, (VhuMessage){.request = request});
    return await_reply(f, request).payload.u64;
}

static void set_u64(Fixture *f, uint32_t request, uint64_t value)
{
    send_message(f, (VhuMessage){.request = request,
                                 .kind = VHU_PAYLOAD_U64,
                                 .payload.u64 = value});
}

static void set_state(Fixture *f, uint32_t request, uint32_t num)
{
    send_message(f, (VhuMessage){.request = request,
                                 .kind = VHU_PAYLOAD_VRING_STATE,
                                 .payload.state = {.index = 0, .num = num}});
}

static void set_event_fd(Fixture *f, uint32_t request, int fd)
{
    send_message(f, (VhuMessage){.request = request,
                                 .kind = VHU_PAYLOAD_VRING_FD,
                                 .num_fds = 1,
                                 .fds = {fd}});
}

static void set_memory(Fixture *f)
{
    const VhuMemRegion region = {
        .guest_addr = GUEST_BASE, .size = MEMORY_BYTES, .user_addr = USER_BASE};
    VhuMessage msg = {
        .request = VHOST_USER_SET_MEM_TABLE,
        .kind = VHU_PAYLOAD_MEM_TABLE,
        .payload.table = {.num_regions = 1, .regions = {region}},
        .num_fds = 1,
        .fds = {f->memory_fd},
    };

    send_message(f, msg);
}

static void make_driver(Fixture *f, uint64_t features)
{
    const VhuDriverConfig config = {
        .size = 8,
        .features = features,
        .local = f->memory,
        .addr = GUEST_BASE,
        .bytes = RING_BYTES,
    };

    f->driver = vhu_driver_new(&config, NULL);
    g_assert_nonnull(f->driver);
}

static void start_ring(Fixture *f, uint64_t features)
{
    const uint64_t offset = USER_BASE - GUEST_BASE;
    VhuVringAddr addr = {.index = 0};

    make_driver(f, features);
    vhu_driver_addrs(f->driver, &addr.desc, &addr.avail, &addr.used);
    addr.desc += offset;
    addr.avail += offset;
    addr.used += offset;
    set_state(f, VHOST_USER_SET_VRING_NUM, 8);
    set_state(f, VHOST_USER_SET_VRING_BASE, vhu_driver_base(f->driver));
    send_message(f, (VhuMessage){.request = VHOST_USER_SET_VRING_ADDR,
                                 .kind = VHU_PAYLOAD_VRING_ADDR,
                                 .payload.addr = addr});
    set_event_fd(f, VHOST_USER_SET_VRING_CALL, f->call_fd);
    set_event_fd(f, VHOST_USER_SET_VRING_KICK, f->kick_fd);
}

static void negotiate(Fixture *f, uint64_t features)
{
    const uint64_t offered = ask_u64(f, VHOST_USER_GET_FEATURES);

    g_assert_cmphex(offered & features, ==, features);
    set_u64(f, VHOST_USER_SET_FEATURES, features);
}

/* Make @text available; its reverse is due at the second address. */
static void add_buffer(Fixture *f, const char *text)
{
    const uint32_t size = (uint32_t)strlen(text);
    const VhuPiece out = {.addr = GUEST_BASE + OUT_OFFSET, .bytes = size};
    const VhuPiece in = {.addr = GUEST_BASE + IN_OFFSET, .bytes = size};
    const VhuDriverBuffer buffer = {
        .out = &out, .num_out = 1, .in = &in, .num_in = 1, .cookie = f};

    memcpy(f->memory + OUT_OFFSET, text, size);
    memset(f->memory + IN_OFFSET, 0, size + 1);
    g_assert_cmpint(vhu_driver_add(f->driver, &buffer), ==, 0);
}

static void kick(Fixture *f)
{
    const uint64_t one = 1;

    g_assert_cmpint(write(f->kick_fd, &one, sizeof(one)), ==, 8);
}

static void await_used(Fixture *f, const char *expected)
{
    const int64_t deadline = vhu_now_ms() + DEADLINE_MS;
    VhuDriverUsed used;
    int ret = 0;

    while (ret == 0) {
        g_assert_cmpint(vhu_now_ms(), <, deadline);
        turn(f);
        ret = vhu_driver_get(f->driver, &used, NULL);
    }
    g_assert_cmpint(ret, ==, 1);
    g_assert_cmpuint(used.written, ==, strlen(expected));
    g_assert_cmpstr((char *)f->memory + IN_OFFSET, ==, expected);
}

static void await_call(Fixture *f)
{
    struct pollfd call = {.fd = f->call_fd, .events = POLLIN};
    uint64_t count;

    g_assert_cmpint(poll(&call, 1, DEADLINE_MS), ==, 1);
    g_assert_cmpint(read(f->call_fd, &count, sizeof(count)), ==, 8);
}

static uint32_t stop_ring(Fixture *f)
{
    set_state(f, VHOST_USER_GET_VRING_BASE, 0);
    return await_reply(f, VHOST_USER_GET_VRING_BASE).payload.state.num;
}

/* Legacy negotiation: no protocol features, so rings are enabled. */
static void run_ring(Fixture *f, uint64_t features, uint32_t base_after_two)
{
    negotiate(f, features);
    set_memory(f);
    start_ring(f, features);
    add_buffer(f, "stressed");
    kick(f);
    await_used(f, "desserts");
    await_call(f);
    add_buffer(f, "drawer");
    kick(f);
    await_used(f, "reward");
    g_assert_cmphex(stop_ring(f), ==, base_after_two);
}

static void test_split_ring_runs(Fixture *f, gconstpointer data)
{
    (void)data;
    run_ring(f, FEATURE(VIRTIO_F_VERSION_1), 2);
}

/* Each buffer takes two descriptors; both wrap counters are still 1. */
static void test_packed_ring_runs(Fixture *f, gconstpointer data)
{
    (void)data;
    run_ring(f, FEATURE(VIRTIO_F_VERSION_1) | FEATURE(VIRTIO_F_RING_PACKED),
             0x80048004u);
}

static void test_no_kick_no_processing(Fixture *f, gconstpointer data)
{
    VhuDriverUsed used;

    (void)data;
    negotiate(f, FEATURE(VIRTIO_F_VERSION_1));
    set_memory(f);
    start_ring(f, FEATURE(VIRTIO_F_VERSION_1));
    add_buffer(f, "stressed");
    g_assert_cmpuint(ask_u64(f, VHOST_USER_GET_FEATURES), !=, 0);
    g_assert_cmpint(vhu_driver_get(f->driver, &used, NULL), ==, 0);
    g_assert_cmpuint(stop_ring(f), ==, 0);
    g_assert_cmpint(vhu_driver_get(f->driver, &used, NULL), ==, 0);
}

/* What is written into a pipe nobody reads must not end the process. */
static void test_call_fd_may_be_a_dead_pipe(Fixture *f, gconstpointer data)
{
    int ends[2];

    (void)data;
    g_assert_cmpint(pipe(ends), ==, 0);
    close(ends[0]);
    negotiate(f, FEATURE(VIRTIO_F_VERSION_1));
    set_memory(f);
    start_ring(f, FEATURE(VIRTIO_F_VERSION_1));
    set_event_fd(f, VHOST_USER_SET_VRING_CALL, ends[1]);
    close(ends[1]);
    add_buffer(f, "stressed");
    kick(f);
    await_used(f, "desserts");
    g_assert_cmpuint(stop_ring(f), ==, 1);
}

static void test_unoffered_feature_ends_connection(Fixture *f,
                                                   gconstpointer data)
{
    VhuMessage msg;
    VhuError err = {0};
    int ret = 0;

    (void)data;
    set_u64(f, VHOST_USER_SET_FEATURES, 1ULL << 63);
    while (ret == 0) {
        turn(f);
        ret = vhu_channel_receive(f->front, &msg, &err);
    }
    g_assert_cmpint(ret, ==, -ECONNRESET);
    g_assert_cmpuint(vhu_backend_num_connections(f->backend), ==, 0);
}

int main(int argc, char **argv)
{
    static const struct {
        const char *name;
        void (*fn)(Fixture *f, gconstpointer data);
    } tests[] = {
        {"split-ring-runs", test_split_ring_runs},
        {"packed-ring-runs", test_packed_ring_runs},
        {"no-kick-no-processing", test_no_kick_no_processing},
        {"call-fd-may-be-a-dead-pipe", test_call_fd_may_be_a_dead_pipe},
        {"unoffered-feature-ends-connection",
         test_unoffered_feature_ends_connection},
    };

    g_test_init(&argc, &argv, NULL);
    for (size_t i = 0; i < G_N_ELEMENTS(tests); i++) {
        for (int threaded = 0; threaded < 2; threaded++) {
            g_autofree char *path =
                g_strdup_printf("/backend/%s/%s",
                                threaded ? "thread" : "control", tests[i].name);

            g_test_add(path, Fixture, GINT_TO_POINTER(threaded), set_up,
                       tests[i].fn, tear_down);
        }
    }
    return g_test_run();
}
