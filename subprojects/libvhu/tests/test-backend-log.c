/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Owns the tests of the dirty log: exactly the pages that were written are
 * marked, as vhost-user, "Migration" has it.
 */
#include "tests/toy.h"

#include <errno.h>
#include <linux/vhost_types.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <unistd.h>

#define PAGE       4096u
#define LOG_OFFSET 0x1000u
/* A bit for each page below the end of guest memory. */
#define LOG_BYTES ((RIG_GUEST_BASE + (32u << 20)) / PAGE / 8)

typedef struct Fixture {
    Toy *toy;
    Rig *rig;
    int fd;
    uint8_t *bitmap;
} Fixture;

static void set_up(Fixture *f, gconstpointer data)
{
    const RigConfig config = {.features = (uintptr_t)data};

    f->toy = toy_new(NULL);
    f->rig = toy_rig(f->toy, &config);
    f->fd = memfd_create("log", MFD_CLOEXEC);
    g_assert_cmpint(ftruncate(f->fd, LOG_OFFSET + LOG_BYTES), ==, 0);
    f->bitmap = (uint8_t *)mmap(NULL, LOG_OFFSET + LOG_BYTES,
                                PROT_READ | PROT_WRITE, MAP_SHARED, f->fd, 0) +
                LOG_OFFSET;
}

static void tear_down(Fixture *f, gconstpointer data)
{
    (void)data;
    rig_free(f->rig);
    toy_free(f->toy);
    munmap(f->bitmap - LOG_OFFSET, LOG_OFFSET + LOG_BYTES);
    close(f->fd);
}

static void set_log(Fixture *f)
{
    const VhuLogArea area = {.size = LOG_BYTES, .offset = LOG_OFFSET};
    VhuWait wait;
    int rc = vhu_frontend_set_log(rig_session(f->rig), f->fd, &area,
                                  vhu_wait_then(&wait), &wait.err);

    g_assert_cmpint(rig_op(f->rig, rc, &wait), ==, 0);
}

static void log_all(Fixture *f, bool on)
{
    const uint64_t features =
        rig_features(f->rig) | RIG_BIT(VHOST_USER_F_PROTOCOL_FEATURES);

    g_assert_cmpint(
        rig_call_u64(f->rig, VHOST_USER_SET_FEATURES,
                     on ? features | RIG_BIT(VHOST_F_LOG_ALL) : features),
        ==, 0);
}

/* SET_VRING_ADDR with VHOST_VRING_F_LOG, while the ring runs. */
static void log_used_ring(Fixture *f, bool on, VhuGuestAddr log_addr)
{
    VhuFrontendVring vring = {.size = rig_config(f->rig)->queue_size,
                              .log_used = on,
                              .log_addr = log_addr};
    VhuWait wait;
    int rc;

    vhu_driver_addrs(rig_queue(f->rig, 0), &vring.desc, &vring.driver,
                     &vring.device);
    rc = vhu_frontend_set_vring_addr(rig_session(f->rig), 0, &vring,
                                     vhu_wait_then(&wait), &wait.err);
    g_assert_cmpint(rig_op(f->rig, rc, &wait), ==, 0);
}

static bool is_marked(const Fixture *f, VhuGuestAddr addr)
{
    const uint64_t page = addr / PAGE;

    return f->bitmap[page / 8] & (1u << (page % 8));
}

static unsigned count_marked(const Fixture *f)
{
    unsigned num = 0;

    for (size_t i = 0; i < LOG_BYTES; i++) {
        num += (unsigned)__builtin_popcount(f->bitmap[i]);
    }
    return num;
}

static void clear_log(Fixture *f)
{
    memset(f->bitmap, 0, LOG_BYTES);
}

/* A request whose device-writable part is this many bytes from the middle of a
 * page on. Returns where it begins. */
static VhuGuestAddr write_through(Fixture *f, size_t bytes)
{
    RigRequest *request = rig_request(f->rig, 0);
    uint8_t *room = rig_alloc(f->rig, 4 * PAGE);
    g_autofree uint8_t *data = g_malloc0(bytes);
    const VhuGuestAddr addr = rig_guest_addr(f->rig, room) + PAGE / 2;

    rig_out(request, data, bytes);
    rig_in_at(request, addr, (uint32_t)bytes);
    g_assert_cmpuint(rig_do(request), ==, bytes);
    rig_request_free(request);
    return addr;
}

static void test_data_is_marked(Fixture *f, gconstpointer data)
{
    VhuGuestAddr addr;

    (void)data;
    rig_start(f->rig);
    set_log(f);
    write_through(f, 10);
    g_assert_cmpuint(count_marked(f), ==, 0); /* not without LOG_ALL */
    log_all(f, true);
    addr = write_through(f, 10);
    g_assert_true(is_marked(f, addr));
    g_assert_cmpuint(count_marked(f), ==, 1);

    /* To the last byte, and not further. */
    clear_log(f);
    addr = write_through(f, PAGE / 2);
    g_assert_true(is_marked(f, addr));
    g_assert_cmpuint(count_marked(f), ==, 1);
    clear_log(f);
    addr = write_through(f, PAGE / 2 + 1);
    g_assert_true(is_marked(f, addr));
    g_assert_true(is_marked(f, addr + PAGE / 2));
    g_assert_cmpuint(count_marked(f), ==, 2);

    clear_log(f);
    log_all(f, false);
    write_through(f, 10);
    g_assert_cmpuint(count_marked(f), ==, 0);
}

/* Where the used ring is logged is its own address, which need not be one of
 * guest memory. A packed ring has no used ring: its descriptor ring is written
 * to, and logged where it is, and its event area where the address says. */
static void test_used_ring_is_marked_where_it_says(Fixture *f,
                                                   gconstpointer data)
{
    const VhuGuestAddr elsewhere = 0x123000;
    VhuGuestAddr addr, desc, avail, used;

    rig_start(f->rig);
    set_log(f);
    log_all(f, true);
    log_used_ring(f, true, elsewhere);
    vhu_driver_addrs(rig_queue(f->rig, 0), &desc, &avail, &used);
    addr = write_through(f, 10);
    g_assert_true(is_marked(f, addr));
    g_assert_true(is_marked(f, elsewhere));
    g_assert_cmpint(is_marked(f, desc), ==, data != NULL);
    g_assert_cmpuint(count_marked(f), ==, data ? 3 : 2);

    log_used_ring(f, false, 0);
    clear_log(f);
    addr = write_through(f, 10);
    g_assert_true(is_marked(f, addr));
    g_assert_cmpuint(count_marked(f), ==, 1);
}

static void test_requests_of_before_are_marked_too(Fixture *f,
                                                   gconstpointer data)
{
    RigRequest *request;

    (void)data;
    rig_start(f->rig);
    toy_hold(f->toy, true);
    request = toy_submit(f->rig, 0);
    toy_wait_held(f->toy, 1);
    set_log(f);
    log_all(f, true);
    toy_release(f->toy);
    rig_wait(request);
    g_assert_true(is_marked(f, rig_guest_addr(f->rig, request->in_data[0])));
    toy_check(request);
}

static void test_log_eventfd_is_signalled(Fixture *f, gconstpointer data)
{
    int fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    const VhuMessage msg = {
        .request = VHOST_USER_SET_LOG_FD, .num_fds = 1, .fds = {fd}};
    uint64_t count = 0;

    (void)data;
    rig_start(f->rig);
    set_log(f);
    g_assert_cmpint(rig_call(f->rig, &msg, NULL), ==, 0);
    log_all(f, true);
    write_through(f, 10);
    g_assert_cmpint(read(fd, &count, sizeof(count)), ==, sizeof(count));
    g_assert_cmpuint(count, >=, 1);
    close(fd);
}

/* A log that is too small for its own file, or for nothing. */
static void test_bad_log_is_refused(Fixture *f, gconstpointer data)
{
    static const VhuLogArea bad[] = {
        {.size = 0, .offset = 0},
        {.size = LOG_BYTES, .offset = LOG_OFFSET + 1},
        {.size = 1, .offset = UINT64_MAX},
        {.size = UINT64_MAX, .offset = 0},
    };

    (void)data;
    for (unsigned i = 0; i < G_N_ELEMENTS(bad); i++) {
        Rig *rig = toy_rig(f->toy, NULL);
        VhuWait wait;
        int rc = vhu_frontend_set_log(rig_session(rig), f->fd, &bad[i],
                                      vhu_wait_then(&wait), &wait.err);

        g_assert_cmpint(rig_op(rig, rc, &wait), <, 0);
        rig_free(rig);
    }
}

#define PACKED ((gconstpointer)RIG_BIT(VIRTIO_F_RING_PACKED))
#define TEST(name, layout, fn)                                                 \
    g_test_add("/backend/log/" name, Fixture, layout, set_up, fn, tear_down)

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    TEST("split/data-is-marked", NULL, test_data_is_marked);
    TEST("packed/data-is-marked", PACKED, test_data_is_marked);
    TEST("split/used-ring-is-marked-where-it-says", NULL,
         test_used_ring_is_marked_where_it_says);
    TEST("packed/used-ring-is-marked-where-it-says", PACKED,
         test_used_ring_is_marked_where_it_says);
    TEST("requests-of-before-are-marked-too", NULL,
         test_requests_of_before_are_marked_too);
    TEST("eventfd-is-signalled", NULL, test_log_eventfd_is_signalled);
    TEST("bad-one-is-refused", NULL, test_bad_log_is_refused);
    return g_test_run();
}
