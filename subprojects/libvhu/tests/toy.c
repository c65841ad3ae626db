/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Owns the device of the back end's tests, but for its queues. Its ops may run
 * on any thread, so what they write is behind a lock.
 */
#include "tests/toy.h"

#include "tests/toy-internal.h"

#include <errno.h>
#include <pthread.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

const VhuUuid toy_uuid = {.bytes = {0x54, 0x4f, 0x59, 1}};

void toy_note(Toy *toy, const char *fmt, ...)
{
    va_list args;

    pthread_mutex_lock(&toy->lock);
    if (toy->events->len) {
        g_string_append_c(toy->events, ' ');
    }
    va_start(args, fmt);
    g_string_append_vprintf(toy->events, fmt, args);
    va_end(args);
    pthread_mutex_unlock(&toy->lock);
}

/* ---- the rest of the device ---- */

static int on_connect(VhuConnection *connection, void *device, void **state)
{
    Toy *toy = device;
    ToyConnection *made;

    if (toy->config.refuses) {
        return -EBUSY;
    }
    made = g_atomic_rc_box_new0(ToyConnection);
    made->toy = toy;
    made->connection = connection;
    made->queues = g_new0(ToyQueue, toy->config.num_queues);
    for (unsigned i = 0; i < toy->config.num_queues; i++) {
        g_queue_init(&made->queues[i].held);
    }
    g_ptr_array_add(toy->connections, made);
    toy_note(toy, "connect");
    *state = made;
    return 0;
}

void toy_free_connection(gpointer data)
{
    g_free(((ToyConnection *)data)->queues);
}

static void on_disconnect(void *state)
{
    ToyConnection *connection = state;

    toy_note(connection->toy, "disconnect");
    g_ptr_array_remove(connection->toy->connections, connection);
    g_atomic_rc_box_release_full(connection, toy_free_connection);
}

static int get_config(void *state, uint32_t offset, void *data, uint32_t size)
{
    memcpy(data, ((ToyConnection *)state)->toy->space + offset, size);
    return 0;
}

static int set_config(void *state, uint32_t offset, const void *data,
                      uint32_t size, bool migration)
{
    if (offset < TOY_CONFIG_WRITABLE && !migration) {
        return -EINVAL;
    }
    memcpy(((ToyConnection *)state)->toy->space + offset, data, size);
    return 0;
}

static void on_reset(void *state)
{
    toy_note(((ToyConnection *)state)->toy, "reset");
}

static void set_status(void *state, uint8_t status)
{
    toy_note(((ToyConnection *)state)->toy, "status 0x%x", status);
}

static int save(void *state, VhuBuffer *buffer)
{
    uint8_t *data = g_malloc(TOY_STATE_BYTES);
    int rc;

    memset(data, ((ToyConnection *)state)->toy->state, TOY_STATE_BYTES);
    rc = vhu_buffer_append(buffer, data, TOY_STATE_BYTES);
    g_free(data);
    return rc;
}

static int load(void *state, const uint8_t *data, size_t bytes)
{
    if (bytes != TOY_STATE_BYTES || data[0] != data[bytes - 1]) {
        return -EINVAL;
    }
    ((ToyConnection *)state)->toy->state = data[0];
    return 0;
}

static int get_shared_object(void *state, const VhuUuid *uuid)
{
    const Toy *toy = ((ToyConnection *)state)->toy;

    return memcmp(uuid, &toy_uuid, sizeof(*uuid)) == 0 ? dup(toy->object) : -1;
}

static void get_shmem_config(void *state, uint64_t sizes[VHU_SHMEM_REGIONS])
{
    (void)state;
    sizes[0] = 0x10000;
    sizes[3] = 0x100000;
}

static int set_mtu(void *state, uint64_t mtu)
{
    toy_note(((ToyConnection *)state)->toy, "mtu %u", (unsigned)mtu);
    return mtu < 68 ? -EINVAL : 0;
}

static int send_rarp(void *state, const uint8_t mac[6])
{
    toy_note(((ToyConnection *)state)->toy,
             "rarp %02x:%02x:%02x:%02x:%02x:%02x", mac[0], mac[1], mac[2],
             mac[3], mac[4], mac[5]);
    return 0;
}

#define TOY_OPS                                                                \
    .connect = on_connect, .disconnect = on_disconnect,                        \
    .get_config = get_config, .set_config = set_config, .reset = on_reset,     \
    .set_status = set_status, .queue_start = toy_queue_start,                  \
    .queue_process = toy_process, .queue_stop = toy_queue_stop,                \
    .queue_stopped = toy_queue_stopped, .save = save, .load = load,            \
    .get_shared_object = get_shared_object,                                    \
    .get_shmem_config = get_shmem_config, .set_mtu = set_mtu,                  \
    .send_rarp = send_rarp

static const VhuDeviceOps ops = {TOY_OPS};
static const VhuDeviceOps dropping_ops = {
    TOY_OPS,
    .queue_process_disabled = toy_drop,
};

/* ---- what the library says ---- */

static void on_log(void *opaque, VhuLevel level, const char *text)
{
    Toy *toy = opaque;

    g_test_message("%d: %s", level, text);
    pthread_mutex_lock(&toy->lock);
    g_string_append_printf(toy->log, "%s\n", text);
    pthread_mutex_unlock(&toy->lock);
}

static void on_disconnected(void *opaque, VhuConnection *connection,
                            const VhuError *err)
{
    Toy *toy = opaque;

    (void)connection;
    toy->ended++;
    toy->last_end = *err;
}

/* ---- life ---- */

static void release_now(void *opaque)
{
    toy_release(opaque);
}

static uint64_t masked_by_environment(void)
{
    const char *bit = g_getenv("VHU_MASK_BACKEND");

    return bit ? 1ULL << g_ascii_strtoull(bit, NULL, 10) : 0;
}

static void start_threads(Toy *toy)
{
    VhuLoop *loops[TOY_MAX_THREADS];

    g_assert_cmpuint(toy->config.num_threads, <=, TOY_MAX_THREADS);
    for (unsigned i = 0; i < toy->config.num_threads; i++) {
        toy->threads[i] = vhu_thread_new("toy", NULL);
        g_assert_nonnull(toy->threads[i]);
        loops[i] = vhu_thread_loop(toy->threads[i]);
    }
    g_assert_cmpint(
        vhu_backend_set_threads(toy->backend, loops, toy->config.num_threads),
        ==, 0);
}

Toy *toy_new(const ToyConfig *config)
{
    const VhuBackendEvents events = {.disconnected = on_disconnected,
                                     .log = on_log};
    VhuBackendEvents mine = events;
    VhuError err = {0};
    VhuDeviceInfo info;
    Toy *toy = g_new0(Toy, 1);

    if (config) {
        toy->config = *config;
    }
    toy->config.num_queues = MAX(toy->config.num_queues, 1);
    toy->hold = toy->config.hold;
    toy->connections = g_ptr_array_new();
    toy->events = g_string_new(NULL);
    toy->log = g_string_new(NULL);
    pthread_mutex_init(&toy->lock, NULL);
    toy->object = memfd_create("object", MFD_CLOEXEC);
    g_assert_cmpint(write(toy->object, TOY_OBJECT, strlen(TOY_OBJECT)), ==,
                    strlen(TOY_OBJECT));
    for (unsigned i = 0; i < TOY_CONFIG_BYTES; i++) {
        toy->space[i] = (uint8_t)(i * 3 + 1);
    }
    info = (VhuDeviceInfo){
        .name = "toy",
        .ops = toy->config.drops_when_disabled ? &dropping_ops : &ops,
        .protocol_masked =
            toy->config.protocol_masked | masked_by_environment(),
        .num_queues = toy->config.num_queues,
        .max_queue_size = toy->config.max_queue_size,
        .config_bytes = TOY_CONFIG_BYTES,
    };
    mine.opaque = toy;
    toy->loop = toy->config.loop;
    if (!toy->loop) {
        toy->loop = vhu_loop_new(&err);
        g_assert_cmpstr(err.text, ==, "");
    }
    toy->soon = vhu_loop_timer(toy->loop, release_now, toy);
    toy->backend = vhu_backend_new(toy->loop, &info, toy, &mine, &err);
    g_assert_cmpstr(err.text, ==, "");
    start_threads(toy);
    return toy;
}

void toy_free(Toy *toy)
{
    if (!toy) {
        return;
    }
    toy_hold(toy, false);
    vhu_backend_close_all(toy->backend);
    toy_release(toy);
    toy_wait_gone(toy);
    for (unsigned i = 0; i < toy->config.num_threads; i++) {
        vhu_thread_free(toy->threads[i]);
    }
    vhu_backend_free(toy->backend);
    vhu_timer_free(toy->soon);
    if (!toy->config.loop) {
        vhu_loop_free(toy->loop);
    }
    close(toy->object);
    g_ptr_array_unref(toy->connections);
    g_string_free(toy->events, TRUE);
    g_string_free(toy->log, TRUE);
    g_free(toy->events_taken);
    pthread_mutex_destroy(&toy->lock);
    g_free(toy);
}

VhuLoop *toy_loop(Toy *toy)
{
    return toy->loop;
}

VhuBackend *toy_backend(Toy *toy)
{
    return toy->backend;
}

int toy_connect(Toy *toy)
{
    int peer;
    int mine = rig_socketpair(&peer);

    /* One that is refused is closed: the front end sees that. */
    vhu_backend_serve(toy->backend, mine, NULL, NULL);
    return peer;
}

VhuConnection *toy_connection(Toy *toy)
{
    const ToyConnection *newest;

    g_assert_cmpuint(toy->connections->len, >, 0);
    newest = g_ptr_array_index(toy->connections, toy->connections->len - 1);
    return newest->connection;
}

/* ---- looking at it ---- */

unsigned toy_served(Toy *toy)
{
    return (unsigned)g_atomic_int_get(&toy->served);
}

unsigned toy_resubmitted(Toy *toy)
{
    return (unsigned)g_atomic_int_get(&toy->resubmitted);
}

const char *toy_events(Toy *toy)
{
    pthread_mutex_lock(&toy->lock);
    g_free(toy->events_taken);
    toy->events_taken = g_strdup(toy->events->str);
    g_string_truncate(toy->events, 0);
    pthread_mutex_unlock(&toy->lock);
    return toy->events_taken;
}

bool toy_logged(Toy *toy, const char *text)
{
    bool found;

    pthread_mutex_lock(&toy->lock);
    found = strstr(toy->log->str, text);
    pthread_mutex_unlock(&toy->lock);
    return found;
}

unsigned toy_num_ended(Toy *toy)
{
    return toy->ended;
}

const VhuError *toy_last_end(Toy *toy)
{
    return &toy->last_end;
}

uint8_t *toy_config_space(Toy *toy)
{
    return toy->space;
}

int toy_change_config(Toy *toy)
{
    int first = 0;

    toy->space[0]++;
    for (unsigned i = 0; i < toy->connections->len; i++) {
        const ToyConnection *connection =
            g_ptr_array_index(toy->connections, i);
        int rc = vhu_connection_config_changed(connection->connection);

        first = i == 0 ? rc : first;
    }
    return first;
}

void toy_set_state(Toy *toy, uint8_t value)
{
    toy->state = value;
}

uint8_t toy_state(Toy *toy)
{
    return toy->state;
}
