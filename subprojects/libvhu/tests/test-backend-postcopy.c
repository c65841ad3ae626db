/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Owns the tests of postcopy in a back end: pages that have not arrived yet
 * are asked for through the userfaultfd it hands out, and the device goes on
 * once they are there. Skipped where the system has no userfaultfd for us.
 */
#include "tests/script.h"
#include "tests/toy.h"
#include "vhu/postcopy.h"

#include <errno.h>
#include <linux/userfaultfd.h>
#include <poll.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#define PAGE 4096u

/* Only with data threads is PAGEFAULT offered. */
static const ToyConfig threaded = {.num_threads = 1};

static bool skipped(void)
{
    if (vhu_postcopy_available()) {
        return false;
    }
    g_test_skip("no userfaultfd for shared memory here");
    return true;
}

static int ask(Rig *rig, uint32_t request)
{
    const VhuMessage msg = {.request = request};

    return rig_call(rig, &msg, NULL);
}

static int advise(Rig *rig)
{
    const VhuMessage msg = {.request = VHOST_USER_POSTCOPY_ADVISE};
    VhuMessage reply;

    g_assert_cmpint(rig_call(rig, &msg, &reply), ==, 0);
    g_assert_cmpuint(reply.num_fds, ==, 1);
    return reply.fds[0];
}

/* Tell of the memory while postcopy listens. */
static void send_memory(Rig *rig)
{
    VhuMemRegion regions[8];
    int fds[8];
    VhuFrontendMemory memory = {
        .regions = regions, .fds = fds, .num = rig_config(rig)->num_regions};
    VhuWait wait;
    int rc;

    memory.num = MAX(memory.num, 1);
    for (uint32_t i = 0; i < memory.num; i++) {
        regions[i] = rig_region(rig, i);
        fds[i] = rig_memory_fd(rig);
    }
    rc = vhu_frontend_set_memory(rig_session(rig), &memory,
                                 vhu_wait_then(&wait), &wait.err);
    g_assert_cmpint(rig_op(rig, rc, &wait), ==, 0);
}

/* Serve one fault: a page of @fill. Returns where the back end faulted. */
static uint64_t serve_fault(int uffd, uint8_t fill)
{
    struct pollfd poll_fd = {.fd = uffd, .events = POLLIN};
    uint8_t page[PAGE];
    struct uffd_msg msg;
    struct uffdio_copy copy = {.src = (uintptr_t)page, .len = PAGE};

    memset(page, fill, sizeof(page));
    g_assert_cmpint(poll(&poll_fd, 1, 10000), ==, 1);
    g_assert_cmpint(read(uffd, &msg, sizeof(msg)), ==, sizeof(msg));
    g_assert_cmpint(msg.event, ==, UFFD_EVENT_PAGEFAULT);
    copy.dst = msg.arg.pagefault.address & ~(uint64_t)(PAGE - 1);
    g_assert_cmpint(ioctl(uffd, UFFDIO_COPY, &copy), ==, 0);
    return msg.arg.pagefault.address;
}

/* As a destination does: everything is told while it listens. Returns the
 * userfaultfd. */
static int begin(Rig *rig)
{
    int uffd = advise(rig);

    g_assert_cmpint(ask(rig, VHOST_USER_POSTCOPY_LISTEN), ==, 0);
    if (vhu_frontend_has(rig_session(rig),
                         VHOST_USER_PROTOCOL_F_CONFIGURE_MEM_SLOTS)) {
        const VhuFrontendMemory none = {0};
        VhuWait wait;
        int rc = vhu_frontend_set_memory(rig_session(rig), &none,
                                         vhu_wait_then(&wait), &wait.err);

        g_assert_cmpint(rig_op(rig, rc, &wait), ==, 0);
    }
    send_memory(rig);
    return uffd;
}

/* Have the device return four bytes of a page. Returns where they are. */
static RigRequest *fetch(Rig *rig, VhuGuestAddr page)
{
    RigRequest *request = rig_request(rig, 0);

    rig_out_at(request, page + 0x10, 4);
    rig_in(request, 4);
    rig_submit(request);
    return request;
}

static void check_fetched(RigRequest *request, const char *bytes)
{
    g_assert_cmpuint(rig_wait(request), ==, 4);
    g_assert_cmpmem(request->in_data[0], 4, bytes, 4);
    rig_request_free(request);
}

/* A device on its own thread reads a page that has not arrived. */
static void fault_and_go_on(const RigConfig *config)
{
    RigRequest *request;
    uint64_t where, base;
    VhuGuestAddr last;
    Toy *toy;
    Rig *rig;
    int uffd;

    if (skipped()) {
        return;
    }
    if (rig_is_valgrind()) {
        g_test_skip("a fault would hold the thread that serves it");
        return;
    }
    toy = toy_new(&threaded);
    rig = toy_rig(toy, config);
    rig_start(rig);
    toy_round_trip(rig, 0, 100);
    rig_stop(rig);
    uffd = begin(rig);
    base = vhu_frontend_backend_addr(rig_session(rig), 0);
    g_assert_cmphex(base, !=, 0);

    last = RIG_GUEST_BASE + rig_memory_bytes(rig) - PAGE;
    rig_start(rig);
    request = fetch(rig, last);
    where = serve_fault(uffd, 0x77);
    g_assert_cmphex(where & ~(uint64_t)(PAGE - 1), ==,
                    base + rig_memory_bytes(rig) - PAGE);
    check_fetched(request, "\x77\x77\x77\x77");

    /* At the end what is missing is zero, and nobody waits for it. */
    g_assert_cmpint(ask(rig, VHOST_USER_POSTCOPY_END), ==, 0);
    close(uffd);
    check_fetched(fetch(rig, last - PAGE), "\0\0\0\0");
    rig_free(rig);
    toy_free(toy);
}

static void test_missing_page_is_fetched_by_table(void)
{
    fault_and_go_on(
        &(RigConfig){.protocol_masked = VHU_PROTOCOL_BIT(CONFIGURE_MEM_SLOTS)});
}

static void test_missing_page_is_fetched_by_slots(void)
{
    fault_and_go_on(&(RigConfig){0});
}

static void test_listen_needs_advice(void)
{
    Toy *toy;
    Rig *rig;

    if (skipped()) {
        return;
    }
    toy = toy_new(&threaded);
    rig = toy_rig(toy, NULL);
    g_assert_cmpint(ask(rig, VHOST_USER_POSTCOPY_LISTEN), ==, -EREMOTEIO);
    g_assert_cmpint(ask(rig, VHOST_USER_POSTCOPY_END), ==, 0);
    rig_start(rig);
    toy_round_trip(rig, 0, 100);
    rig_free(rig);
    toy_free(toy);
}

static void test_end_allows_another_round(void)
{
    Toy *toy;
    Rig *rig;

    if (skipped()) {
        return;
    }
    toy = toy_new(&threaded);
    rig = toy_rig(toy, NULL);
    for (int i = 0; i < 3; i++) {
        close(advise(rig));
        g_assert_cmpint(ask(rig, VHOST_USER_POSTCOPY_LISTEN), ==, 0);
        g_assert_cmpint(ask(rig, VHOST_USER_POSTCOPY_END), ==, 0);
    }
    rig_start(rig);
    toy_round_trip(rig, 0, 100);
    rig_free(rig);
    toy_free(toy);
}

/* ---- acknowledgements nobody asked for, byte by byte ---- */

static void turn_toy(void *opaque)
{
    vhu_loop_dispatch(toy_loop(opaque), 5);
}

#define ACK(request) request " 05000000 08000000 00000000 00000000"

static void listen_by_hand(Script *front)
{
    /* REPLY_ACK, PAGEFAULT, CONFIGURE_MEM_SLOTS */
    script_send(front, "10000000 01000000 08000000 08810000 00000000");
    script_send(front, "1c000000 01000000 00000000");
    script_expect(front, "1c000000 05000000 00000000");
    close(script_take_fd(front));
    script_send(front, "1d000000 09000000 00000000");
    script_expect(front, ACK("1d000000"));
}

static const struct {
    const char *name;
    const char *bytes;
} stray[] = {
    {"table-of-8-bytes", "05000000 01000000 08000000 05000000 00000000"},
    {"table-of-0-bytes", "05000000 01000000 00000000"},
    {"region-of-8-bytes", "25000000 01000000 08000000 05000000 00000000"},
    {"region-of-0-bytes", "25000000 01000000 00000000"},
};

/* Taken for what they are, or for an error: never for a table. */
static void test_stray_acknowledgement(gconstpointer data)
{
    Script front;
    Toy *toy;
    Rig *other;

    if (skipped()) {
        return;
    }
    toy = toy_new(&threaded);
    other = toy_rig(toy, NULL);
    script_open(&front, toy_connect(toy), turn_toy, toy);
    listen_by_hand(&front);
    script_send(&front, data);
    toy_idle(toy);
    rig_start(other);
    toy_round_trip(other, 0, 100);
    script_close(&front);
    toy_wait_ended(toy, 1);
    rig_free(other);
    toy_free(toy);
}

/* The acknowledgement of a region, as the session and QEMU send it. */
static void test_region_is_acknowledged(void)
{
    int fd = memfd_create("guest", MFD_CLOEXEC);
    uint8_t *reply;
    Script front;
    Toy *toy;

    g_assert_cmpint(ftruncate(fd, 0x1000), ==, 0);
    if (skipped()) {
        close(fd);
        return;
    }
    toy = toy_new(&threaded);
    script_open(&front, toy_connect(toy), turn_toy, toy);
    listen_by_hand(&front);
    script_send_fds(&front,
                    "25000000 01000000 28000000 00000000 00000000"
                    "00000040 00000000 00100000 00000000"
                    "00000050 00000000 00000000 00000000",
                    &fd, 1);
    reply = script_receive(&front, 12 + 40);
    g_assert_cmpmem(reply, 12, "\x25\0\0\0\x05\0\0\0\x28\0\0\0", 12);
    g_free(reply);
    script_send(&front, "25000000 01000000 08000000 00000000 00000000");
    script_send(&front, "01000000 01000000 00000000");
    reply = script_receive(&front, 20);
    g_assert_cmpmem(reply, 12, "\x01\0\0\0\x05\0\0\0\x08\0\0\0", 12);
    g_free(reply);
    g_assert_cmpuint(toy_num_ended(toy), ==, 0);
    script_close(&front);
    close(fd);
    toy_free(toy);
}

#define PATH           "/backend/postcopy/"
#define TEST(name, fn) g_test_add_func(PATH name, fn)

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    TEST("missing-page-is-fetched/by-table",
         test_missing_page_is_fetched_by_table);
    TEST("missing-page-is-fetched/by-slots",
         test_missing_page_is_fetched_by_slots);
    TEST("listen-needs-advice", test_listen_needs_advice);
    TEST("end-allows-another-round", test_end_allows_another_round);
    TEST("region-is-acknowledged", test_region_is_acknowledged);
    for (unsigned i = 0; i < G_N_ELEMENTS(stray); i++) {
        g_autofree char *path = g_strdup_printf(PATH "stray/%s", stray[i].name);

        g_test_add_data_func(path, stray[i].bytes, test_stray_acknowledgement);
    }
    return g_test_run();
}
