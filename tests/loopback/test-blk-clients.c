/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Owns the tests of vhost-user-blk with several front ends, at a time and one
 * after another: a disk that hangs for one holds up no other, and what a
 * front end leaves behind is nothing.
 */
#include "tests/loopback/blk-rig.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <poll.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#define OK VIRTIO_BLK_S_OK

/* ---- a disk that hangs ---- */

/*
 * A write to the image takes its data from a page that is not there: the
 * kernel waits for it with the file locked, and everybody else's writes wait
 * for the lock. Reads of what is cached go on.
 */
typedef struct Hang {
    int fd;   /* of the image */
    int uffd; /* who supplies the page */
    void *page;
    GThread *thread;
} Hang;

static gpointer write_page(gpointer data)
{
    Hang *hang = data;

    g_assert_cmpint(pwrite(hang->fd, hang->page, 4096, 0), ==, 4096);
    return NULL;
}

static bool open_uffd(Hang *hang)
{
    struct uffdio_api api = {.api = UFFD_API};
    struct uffdio_register range = {.mode = UFFDIO_REGISTER_MODE_MISSING};

    hang->uffd = (int)syscall(SYS_userfaultfd, O_CLOEXEC);
    if (hang->uffd < 0) {
        return false;
    }
    hang->page = mmap(NULL, 4096, PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    range.range.start = (uintptr_t)hang->page;
    range.range.len = 4096;
    g_assert_no_errno(ioctl(hang->uffd, UFFDIO_API, &api));
    g_assert_no_errno(ioctl(hang->uffd, UFFDIO_REGISTER, &range));
    return true;
}

/* Returns false, and says so, where it cannot be done. */
static bool hang_begin(Hang *hang, const BlkRig *blk)
{
    struct pollfd ready = {.events = POLLIN};
    struct uffd_msg msg;

    hang->fd = blk->fd;
    if (!open_uffd(hang)) {
        g_test_skip("no userfaultfd for what the kernel touches");
        return false;
    }
    hang->thread = g_thread_new("hang", write_page, hang);
    ready.fd = hang->uffd;
    g_assert_cmpint(poll(&ready, 1, BLK_DEADLINE_MS), ==, 1);
    /* It is asked for the page: now it holds the lock. */
    g_assert_cmpint(read(hang->uffd, &msg, sizeof(msg)), ==, sizeof(msg));
    g_assert_cmpint(msg.event, ==, UFFD_EVENT_PAGEFAULT);
    return true;
}

static void hang_end(Hang *hang)
{
    struct uffdio_zeropage zero = {
        .range = {.start = (uintptr_t)hang->page, .len = 4096},
    };

    g_assert_no_errno(ioctl(hang->uffd, UFFDIO_ZEROPAGE, &zero));
    g_thread_join(hang->thread);
    close(hang->uffd);
    munmap(hang->page, 4096);
}

static BlkJob *submit_write(Rig *rig, uint64_t sector)
{
    BlkJobConfig config = {
        .type = VIRTIO_BLK_T_OUT,
        .sector = sector,
        .out_bytes = 4096,
    };
    BlkJob *job = blk_job_new(rig, &config);

    rig_submit(job->request);
    return job;
}

static void check_served(Rig *rig)
{
    uint8_t data[4096];
    uint64_t capacity;

    for (unsigned i = 0; i < 50; i++) {
        g_assert_cmphex(blk_read(rig, 8 * i, data, sizeof(data)), ==, OK);
    }
    rig_get_config(rig, 0, &capacity, sizeof(capacity));
}

/* So that reads need not wait for the disk. */
static void warm_cache(const BlkRig *blk)
{
    g_autofree uint8_t *data = g_malloc0(BLK_IMAGE_BYTES);

    g_assert_cmpint(pwrite(blk->fd, data, BLK_IMAGE_BYTES, 0), ==,
                    BLK_IMAGE_BYTES);
}

static const char *const uring[] = {"--num-queues=2", NULL};
static const char *const threads[] = {"--num-queues=2", "--aio=threads", NULL};

/* More writes hang than there are workers for a queue. */
#define NUM_HUNG 12u

static void test_hung_disk_holds_up_one_front_end(gconstpointer options)
{
    BlkRigConfig config = {.options = options};
    BlkRig *blk = blk_rig_new(&config);
    Rig *other = rig_new(&config.rig);
    BlkJob *jobs[NUM_HUNG];
    VhuWait stop;
    Hang hang;

    warm_cache(blk);
    rig_connect(other, rig_daemon_socket(blk->daemon));
    rig_start(other);
    if (hang_begin(&hang, blk)) {
        for (unsigned i = 0; i < NUM_HUNG; i++) {
            jobs[i] = submit_write(blk->rig, 8 * i);
        }
        check_served(other);
        /* Stopping the queue waits for its writes, and for nobody else's. */
        g_assert_cmpint(vhu_frontend_stop_vring(rig_session(blk->rig), 0,
                                                vhu_wait_then(&stop), NULL),
                        ==, 0);
        check_served(other);
        g_assert_false(stop.done);
        hang_end(&hang);
        g_assert_cmpint(rig_op(blk->rig, 0, &stop), ==, 0);
        for (unsigned i = 0; i < NUM_HUNG; i++) {
            g_assert_cmpuint(rig_wait(jobs[i]->request), ==, 1);
            g_assert_cmphex(blk_job_status(jobs[i]), ==, OK);
            blk_job_free(jobs[i]);
        }
        vhu_wait_clear(&stop);
    }
    rig_free(other);
    rig_free(blk->rig);
    blk->rig = NULL;
    blk_rig_free(blk);
}

static void test_hung_disk_of_a_lost_front_end(gconstpointer options)
{
    BlkRigConfig config = {.options = options};
    BlkRig *blk = blk_rig_new(&config);
    Rig *other = rig_new(&config.rig);
    BlkJob *job = NULL;
    Hang hang;

    warm_cache(blk);
    rig_connect(other, rig_daemon_socket(blk->daemon));
    rig_start(other);
    if (hang_begin(&hang, blk)) {
        job = submit_write(blk->rig, 0);
        check_served(other);
        rig_disconnect(blk->rig);
        check_served(other);
        hang_end(&hang);
    }
    check_served(other);
    rig_free(other);
    rig_free(blk->rig);
    blk_job_forget(job);
    blk->rig = NULL;
    blk_rig_free(blk);
}

/* ---- one after another ---- */

#define CONNECTIONS 1000u
/* The first ones fill allocators and caches. */
#define WARM_UP        100u
#define MAX_GROWTH_KIB 512u

/* A front end that does some I/O, and goes in one way or another. */
static void come_and_go(const BlkRig *blk, unsigned number)
{
    RigConfig config = {
        .features = number % 3 == 0 ? RIG_BIT(VIRTIO_F_RING_PACKED) : 0,
        .inflight = number % 2 == 0,
        .memory_bytes = 1024 * 1024,
        .num_queues = 2,
    };
    Rig *rig = rig_new(&config);
    uint8_t data[4096] = {0};
    BlkJob *job = NULL;

    rig_connect(rig, rig_daemon_socket(blk->daemon));
    rig_start(rig);
    g_assert_cmphex(blk_write(rig, number % 512, data, sizeof(data)), ==, OK);
    g_assert_cmphex(blk_read(rig, number % 512, data, sizeof(data)), ==, OK);
    if (number % 5 == 0) {
        rig_stop(rig);
    } else {
        /* Gone in the middle of a request. */
        job = submit_write(rig, 8);
        rig_disconnect(rig);
    }
    rig_free(rig);
    blk_job_forget(job);
}

/* How often to look again at what tells of no change. */
#define LOOK_MS 2

/* Those of connections that still drain are not counted. */
static unsigned settled_fds(const BlkRig *blk, unsigned expected)
{
    pid_t pid = rig_daemon_pid(blk->daemon);
    int64_t deadline = g_get_monotonic_time() + BLK_DEADLINE_MS * 1000;
    unsigned num;

    while ((num = rig_count_fds(pid)) > expected &&
           g_get_monotonic_time() < deadline) {
        poll(NULL, 0, LOOK_MS);
    }
    return num;
}

/* Under AddressSanitizer, a daemon that gives freed memory back at once. */
static void without_quarantine(void)
{
    const char *options = g_getenv("ASAN_OPTIONS");
    g_autofree char *all = g_strconcat(options == NULL ? "" : options,
                                       ":quarantine_size_mb=0", NULL);

    g_setenv("ASAN_OPTIONS", all, true);
}

static void test_connections_leak_nothing(gconstpointer options)
{
    BlkRigConfig config = {.options = options};
    BlkRig *blk = blk_rig_new_daemon(&config);
    pid_t pid = rig_daemon_pid(blk->daemon);
    unsigned fds = rig_count_fds(pid);
    unsigned left;
    unsigned kib;

    for (unsigned i = 0; i < WARM_UP; i++) {
        come_and_go(blk, i);
    }
    kib = rig_anonymous_kib(pid);
    for (unsigned i = 0; i < CONNECTIONS; i++) {
        come_and_go(blk, i);
    }
    left = settled_fds(blk, fds);
    g_test_message("result: blk after %u connections: fds %u, at first %u; "
                   "anonymous memory %u KiB, after %u connections %u KiB",
                   CONNECTIONS, left, fds, rig_anonymous_kib(pid), WARM_UP,
                   kib);
    g_assert_cmpuint(left, ==, fds);
    g_assert_cmpuint(rig_anonymous_kib(pid), <=, kib + MAX_GROWTH_KIB);
    blk_rig_free(blk);
}

static void add_both(const char *name, GTestDataFunc fn)
{
    g_autofree char *first = g_strdup_printf("/blk/%s", name);
    g_autofree char *second = g_strdup_printf("/blk/threads/%s", name);

    g_test_add_data_func(first, uring, fn);
    g_test_add_data_func(second, threads, fn);
}

int main(int argc, char **argv)
{
    blk_test_init(&argc, &argv);
    without_quarantine();
    add_both("hung-disk-holds-up-one-front-end",
             test_hung_disk_holds_up_one_front_end);
    add_both("hung-disk-of-a-lost-front-end",
             test_hung_disk_of_a_lost_front_end);
    add_both("connections-leak-nothing", test_connections_leak_nothing);
    return g_test_run();
}
