/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Owns the tests of vhu/postcopy. The back end is a process of its own, so
 * that what the test does with the userfaultfd it was sent, it does from
 * outside, as a front end.
 */
#include "vhu/postcopy.h"

#include "tests/shared-memory.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/wait.h>

#define DEADLINE_MS 10000
#define GUEST       0x100000u
#define USER        0x7f0000000000u
#define PAGES       4u
/* The region starts inside a page of the file and ends inside another. */
#define SKEW 0x200u

/* Runs in the back end's process; what it sends, the test reads. */
typedef void (*BackendFn)(uint8_t *local, int socket);

static bool skip_without_userfaultfd(void)
{
    VhuError err = {0};
    int uffd = vhu_postcopy_open(&err);

    if (uffd < 0) {
        g_test_skip(err.text);
        return true;
    }
    close(uffd);
    return false;
}

static void send_fd(int socket, int fd, uint64_t value)
{
    union {
        struct cmsghdr header;
        char room[CMSG_SPACE(sizeof(int))];
    } control = {0};
    struct iovec iov = {&value, sizeof(value)};
    struct msghdr msg = {
        .msg_iov = &iov,
        .msg_iovlen = 1,
        .msg_control = &control,
        .msg_controllen = sizeof(control),
    };
    struct cmsghdr *header = CMSG_FIRSTHDR(&msg);

    header->cmsg_level = SOL_SOCKET;
    header->cmsg_type = SCM_RIGHTS;
    header->cmsg_len = CMSG_LEN(sizeof(int));
    memcpy(CMSG_DATA(header), &fd, sizeof(fd));
    g_assert_cmpint(sendmsg(socket, &msg, 0), ==, sizeof(value));
}

static int receive_fd(int socket, uint64_t *value)
{
    union {
        struct cmsghdr header;
        char room[CMSG_SPACE(sizeof(int))];
    } control;
    struct iovec iov = {value, sizeof(*value)};
    struct msghdr msg = {
        .msg_iov = &iov,
        .msg_iovlen = 1,
        .msg_control = &control,
        .msg_controllen = sizeof(control),
    };
    struct cmsghdr *header;
    int fd = -1;

    g_assert_cmpint(recvmsg(socket, &msg, MSG_CMSG_CLOEXEC), ==,
                    sizeof(*value));
    header = CMSG_FIRSTHDR(&msg);
    g_assert_nonnull(header);
    memcpy(&fd, CMSG_DATA(header), sizeof(fd));
    return fd;
}

/* ---- The back end's side ---- */

static G_GNUC_NORETURN void backend_main(int file, int socket, BackendFn fn)
{
    VhuMemRegion region = shared_region(GUEST, USER, PAGES, SKEW);
    VhuMemory *memory = shared_memory(&region, 1, file, -1);
    VhuMemTable table = {.num_regions = 1, .regions = {region}};
    VhuError err = {0};
    int uffd = vhu_postcopy_open(&err);

    g_assert_cmpint(uffd, >=, 0);
    g_assert_cmpint(vhu_postcopy_register(uffd, memory, &err), ==, 0);
    g_assert_cmpint(vhu_postcopy_bases(memory, &table), ==, 0);
    send_fd(socket, uffd, table.regions[0].user_addr);
    fn(vhu_memory_guest_ptr(memory, GUEST, PAGES * PAGE), socket);
    vhu_postcopy_close(uffd, memory);
    vhu_memory_unref(memory);
    _exit(0);
}

/* A data thread that looks at a ring. */
static void touch_by_hand(uint8_t *local, int socket)
{
    uint8_t seen = local[PAGE];

    g_assert_cmpint(write(socket, &seen, 1), ==, 1);
    seen = local[PAGES * PAGE - 1];
    g_assert_cmpint(write(socket, &seen, 1), ==, 1);
}

/* A device that has the kernel read a file into guest memory. */
static void touch_by_kernel(uint8_t *local, int socket)
{
    int zero = open("/dev/zero", O_RDONLY);

    g_assert_cmpint(read(zero, local + PAGE, 16), ==, 16);
    g_assert_cmpint(write(socket, local + PAGE + 15, 2), ==, 2);
}

/* ---- The front end's side ---- */

typedef struct World {
    int socket;
    pid_t child;
    int uffd;
    uint8_t *view;    /* ours of the file */
    uint64_t base;    /* the back end's of GUEST */
    size_t view_size; /* bytes */
} World;

static World world_new(BackendFn fn)
{
    int file = memfd_create("guest", MFD_CLOEXEC);
    World world = {.view_size = (PAGES + 1) * PAGE};
    int pair[2];

    g_assert_cmpint(ftruncate(file, (off_t)world.view_size), ==, 0);
    g_assert_cmpint(socketpair(AF_UNIX, SOCK_STREAM, 0, pair), ==, 0);
    world.child = fork();
    if (world.child == 0) {
        close(pair[0]);
        backend_main(file, pair[1], fn);
    }
    close(pair[1]);
    world.socket = pair[0];
    world.view = mmap(NULL, world.view_size, PROT_READ, MAP_SHARED, file, 0);
    g_assert_true(world.view != MAP_FAILED);
    close(file);
    world.uffd = receive_fd(world.socket, &world.base);
    return world;
}

static void world_free(World *world)
{
    int status;

    g_assert_cmpint(waitpid(world->child, &status, 0), ==, world->child);
    g_assert_cmpint(status, ==, 0);
    munmap(world->view, world->view_size);
    close(world->uffd);
    close(world->socket);
}

static void wait_readable(int fd)
{
    struct pollfd pollfd = {.fd = fd, .events = POLLIN};

    g_assert_cmpint(poll(&pollfd, 1, DEADLINE_MS), ==, 1);
    g_assert_true(pollfd.revents & POLLIN);
}

static bool is_readable(int fd)
{
    struct pollfd pollfd = {.fd = fd, .events = POLLIN};

    return poll(&pollfd, 1, 0) == 1;
}

/* The page the back end waits for. */
static uint64_t wait_fault(const World *world)
{
    struct uffd_msg msg;

    wait_readable(world->uffd);
    g_assert_cmpint(read(world->uffd, &msg, sizeof(msg)), ==, sizeof(msg));
    g_assert_cmpuint(msg.event, ==, UFFD_EVENT_PAGEFAULT);
    return msg.arg.pagefault.address & ~(uint64_t)(PAGE - 1);
}

static void serve(const World *world, uint64_t page, uint8_t content)
{
    g_autofree uint8_t *bytes = g_malloc(2 * PAGE);
    uint8_t *aligned =
        (uint8_t *)(((uintptr_t)bytes + PAGE - 1) & ~(uintptr_t)(PAGE - 1));
    struct uffdio_copy copy = {
        .dst = page,
        .src = (uintptr_t)aligned,
        .len = PAGE,
    };

    memset(aligned, content, PAGE);
    g_assert_cmpint(ioctl(world->uffd, UFFDIO_COPY, &copy), ==, 0);
}

static void test_a_missing_page_waits_for_the_front_end(void)
{
    uint8_t seen = 0;
    uint64_t page;
    World world;

    if (skip_without_userfaultfd()) {
        return;
    }
    world = world_new(touch_by_hand);
    page = wait_fault(&world);
    g_assert_cmphex(page, ==, world.base - SKEW + PAGE);
    g_assert_false(is_readable(world.socket));
    serve(&world, page, 0xab);
    wait_readable(world.socket);
    g_assert_cmpint(read(world.socket, &seen, 1), ==, 1);
    g_assert_cmphex(seen, ==, 0xab);

    /* The last byte, in a page that is only partly the region's. */
    page = wait_fault(&world);
    g_assert_cmphex(page, ==, world.base - SKEW + PAGES * PAGE);
    serve(&world, page, 0xcd);
    wait_readable(world.socket);
    g_assert_cmpint(read(world.socket, &seen, 1), ==, 1);
    g_assert_cmphex(seen, ==, 0xcd);
    g_assert_cmphex(world.view[PAGE], ==, 0xab);
    g_assert_cmphex(world.view[PAGES * PAGE], ==, 0xcd);
    world_free(&world);
}

static void test_the_kernel_waits_for_the_front_end_too(void)
{
    uint8_t seen[2] = {0};
    uint64_t page;
    World world;

    if (skip_without_userfaultfd()) {
        return;
    }
    world = world_new(touch_by_kernel);
    page = wait_fault(&world);
    g_assert_cmphex(page, ==, world.base - SKEW + PAGE);
    g_assert_false(is_readable(world.socket));
    serve(&world, page, 0xef);
    wait_readable(world.socket);
    g_assert_cmpint(recv(world.socket, seen, 2, MSG_WAITALL), ==, 2);
    /* The device's write came after the page, and only where it went. */
    g_assert_cmphex(seen[0], ==, 0x00);
    g_assert_cmphex(seen[1], ==, 0xef);
    world_free(&world);
}

static void test_bases_are_local_addresses(void)
{
    VhuMemRegion regions[] = {
        shared_region(GUEST, USER, 2, SKEW),
        shared_region(0, USER + 2 * PAGE, 1, 0),
    };
    VhuMemory *memory = shared_memory(regions, 2, shared_file(3), -1);
    VhuMemTable table = {.num_regions = 2, .regions = {regions[1], regions[0]}};

    g_assert_cmpint(vhu_postcopy_bases(memory, &table), ==, 0);
    g_assert_cmphex(table.regions[0].user_addr, ==,
                    (uintptr_t)vhu_memory_guest_ptr(memory, 0, 1));
    g_assert_cmphex(table.regions[1].user_addr, ==,
                    (uintptr_t)vhu_memory_guest_ptr(memory, GUEST, 1));
    g_assert_cmphex(table.regions[1].user_addr % PAGE, ==, SKEW);
    vhu_memory_unref(memory);
}

static void test_bases_of_an_unknown_region_are_refused(void)
{
    VhuMemRegion region = shared_region(GUEST, USER, 2, 0);
    VhuMemory *memory = shared_memory(&region, 1, shared_file(2), -1);
    VhuMemTable table = {.num_regions = 2, .regions = {region, region}};
    VhuMemRegion *wrong = &table.regions[1];

    wrong->guest_addr += PAGE;
    g_assert_cmpint(vhu_postcopy_bases(memory, &table), ==, -ENOENT);
    *wrong = region;
    wrong->user_addr += PAGE;
    g_assert_cmpint(vhu_postcopy_bases(memory, &table), ==, -ENOENT);
    *wrong = region;
    wrong->size += PAGE;
    g_assert_cmpint(vhu_postcopy_bases(memory, &table), ==, -ENOENT);
    /* Nothing was replaced by halves. */
    g_assert_cmphex(table.regions[0].user_addr, ==, USER);
    table.num_regions = VHU_MAX_TABLE_REGIONS + 1;
    g_assert_cmpint(vhu_postcopy_bases(memory, &table), ==, -EINVAL);
    vhu_memory_unref(memory);
}

static void test_huge_pages_are_registered_whole(void)
{
    uint64_t page_bytes = 0;
    int file = shared_huge_file(&page_bytes);
    VhuMemRegion region = {.mmap_offset = SKEW, .size = PAGE};
    VhuMemory *memory;
    VhuError err = {0};
    int uffd;

    if (file < 0) {
        g_test_skip("this kernel has no hugetlbfs");
        return;
    }
    if (skip_without_userfaultfd()) {
        close(file);
        return;
    }
    memory = shared_memory(&region, 1, file, -1);
    uffd = vhu_postcopy_open(NULL);
    g_assert_cmpint(vhu_postcopy_register(uffd, memory, &err), ==, 0);
    g_assert_cmpstr(err.text, ==, "");
    vhu_postcopy_close(uffd, memory);
    vhu_memory_unref(memory);
}

static void test_registering_with_another_fd_is_refused(void)
{
    VhuMemRegion region = shared_region(GUEST, USER, 2, 0);
    VhuMemory *memory = shared_memory(&region, 1, shared_file(2), -1);
    int other = memfd_create("other", MFD_CLOEXEC);
    VhuError err = {0};

    g_assert_cmpint(vhu_postcopy_register(other, memory, &err), ==, -ENOTTY);
    g_assert_cmpint(err.code, ==, ENOTTY);
    g_assert_nonnull(strstr(err.text, "0x100000"));
    close(other);
    vhu_memory_unref(memory);
}

/* ---- The end of it ---- */

/* By a system call, which tells a tool that runs threads in turns that this
 * one may wait. */
static gpointer touch_thread(gpointer opaque)
{
    int zero = open("/dev/zero", O_RDONLY);
    ssize_t ret = read(zero, opaque, 1);

    close(zero);
    return GINT_TO_POINTER((int)ret);
}

/* One missing page, and a thread that waits for it. */
typedef struct Waiter {
    VhuMemory *memory;
    GThread *thread;
    int uffd;
} Waiter;

static Waiter waiter_new(void)
{
    VhuMemRegion region = shared_region(GUEST, USER, 2, 0);
    int file = memfd_create("guest", MFD_CLOEXEC);
    Waiter waiter;

    g_assert_cmpint(ftruncate(file, 2 * PAGE), ==, 0);
    waiter.memory = shared_memory(&region, 1, file, -1);
    waiter.uffd = vhu_postcopy_open(NULL);
    g_assert_cmpint(vhu_postcopy_register(waiter.uffd, waiter.memory, NULL), ==,
                    0);
    /* A region that was there before is registered again with each new one. */
    g_assert_cmpint(vhu_postcopy_register(waiter.uffd, waiter.memory, NULL), ==,
                    0);
    waiter.thread = g_thread_new("touch", touch_thread,
                                 vhu_memory_guest_ptr(waiter.memory, GUEST, 1));
    wait_readable(waiter.uffd);
    return waiter;
}

static void waiter_join(Waiter *waiter)
{
    g_assert_cmpint(GPOINTER_TO_INT(g_thread_join(waiter->thread)), ==, 1);
    g_assert_cmpuint(
        *(uint8_t *)vhu_memory_guest_ptr(waiter->memory, GUEST + 1, 1), ==, 0);
}

static void test_the_end_wakes_who_waits(void)
{
    Waiter waiter;
    int copy;

    if (skip_without_userfaultfd()) {
        return;
    }
    waiter = waiter_new();
    copy = dup(waiter.uffd); /* as the front end has one */
    vhu_postcopy_close(waiter.uffd, waiter.memory);
    waiter_join(&waiter);
    /* And nobody waits any more. */
    g_assert_cmpuint(
        *(uint8_t *)vhu_memory_guest_ptr(waiter.memory, GUEST + PAGE, 1), ==,
        0);
    close(copy);
    vhu_memory_unref(waiter.memory);
}

static void test_the_last_copy_wakes_who_waits(void)
{
    Waiter waiter;

    if (skip_without_userfaultfd()) {
        return;
    }
    waiter = waiter_new();
    vhu_postcopy_close(waiter.uffd, NULL);
    waiter_join(&waiter);
    vhu_memory_unref(waiter.memory);
    vhu_postcopy_close(-1, NULL);
}

static void test_available_is_what_open_says(void)
{
    int uffd = vhu_postcopy_open(NULL);

    g_assert_cmpint(vhu_postcopy_available(), ==, uffd >= 0);
    if (uffd >= 0) {
        g_assert_cmpint(fcntl(uffd, F_GETFD), ==, FD_CLOEXEC);
        g_assert_cmpint(fcntl(uffd, F_GETFL) & O_NONBLOCK, ==, O_NONBLOCK);
        close(uffd);
    }
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/postcopy/available-is-what-open-says",
                    test_available_is_what_open_says);
    g_test_add_func("/postcopy/a-missing-page-waits-for-the-front-end",
                    test_a_missing_page_waits_for_the_front_end);
    g_test_add_func("/postcopy/the-kernel-waits-for-the-front-end-too",
                    test_the_kernel_waits_for_the_front_end_too);
    g_test_add_func("/postcopy/bases-are-local-addresses",
                    test_bases_are_local_addresses);
    g_test_add_func("/postcopy/bases-of-an-unknown-region-are-refused",
                    test_bases_of_an_unknown_region_are_refused);
    g_test_add_func("/postcopy/huge-pages-are-registered-whole",
                    test_huge_pages_are_registered_whole);
    g_test_add_func("/postcopy/registering-with-another-fd-is-refused",
                    test_registering_with_another_fd_is_refused);
    g_test_add_func("/postcopy/the-end-wakes-who-waits",
                    test_the_end_wakes_who_waits);
    g_test_add_func("/postcopy/the-last-copy-wakes-who-waits",
                    test_the_last_copy_wakes_who_waits);
    return g_test_run();
}
