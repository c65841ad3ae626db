/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Owns the tests of vhost-user-blk where io_uring is forbidden. A system call
 * filter forbids it to this process and its children, for good: other tests
 * have no place here.
 */
#include "tests/loopback/blk-rig.h"

#include <errno.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>

static bool forbid_io_uring(void)
{
    struct sock_filter code[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_io_uring_setup, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    struct sock_fprog program = {.len = G_N_ELEMENTS(code), .filter = code};

    return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 &&
           prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) == 0;
}

/* What a daemon says that is to have io_uring and nothing else. */
static char *ask_for_io_uring(void)
{
    const char *const argv[] = {blk_program(), "--socket-path=/nowhere/socket",
                                "--blk-file=/nowhere", "--aio=io_uring", NULL};
    RigDaemon *daemon = rig_daemon_run(argv);
    char *errors;

    g_assert_cmpint(rig_daemon_wait(daemon, BLK_DEADLINE_MS), ==, 1);
    errors = g_strdup(rig_daemon_errors(daemon));
    rig_daemon_free(daemon);
    return errors;
}

static void test_threads_take_over(void)
{
    g_autofree char *errors = ask_for_io_uring();
    BlkRigConfig config = {.rig = {.features = RIG_BIT(VIRTIO_BLK_F_FLUSH)}};
    BlkRig *blk = blk_rig_new(&config);
    uint8_t data[4096];
    uint8_t back[sizeof(data)];

    blk_fill(data, sizeof(data), 0, 1);
    g_assert_cmphex(blk_write(blk->rig, 0, data, sizeof(data)), ==,
                    VIRTIO_BLK_S_OK);
    g_assert_cmphex(blk_flush(blk->rig), ==, VIRTIO_BLK_S_OK);
    g_assert_cmphex(blk_read(blk->rig, 0, back, sizeof(back)), ==,
                    VIRTIO_BLK_S_OK);
    g_assert_cmpmem(back, sizeof(back), data, sizeof(data));
    if (strstr(errors, "not built in") == NULL) {
        rig_daemon_expect_error(blk->daemon, "io_uring is not to be had");
    }
    blk_rig_free(blk);
}

static void test_asking_for_it_ends_the_daemon(void)
{
    g_autofree char *errors = ask_for_io_uring();

    g_assert_nonnull(strstr(errors, "--aio=io_uring: "));
}

static void test_skipped(void)
{
    g_test_skip("no system call filters here");
}

int main(int argc, char **argv)
{
    blk_test_init(&argc, &argv);
    if (!forbid_io_uring()) {
        g_test_add_func("/blk/io-uring-forbidden", test_skipped);
        return g_test_run();
    }
    g_test_add_func("/blk/io-uring-forbidden/threads-take-over",
                    test_threads_take_over);
    g_test_add_func("/blk/io-uring-forbidden/asking-for-it-ends-the-daemon",
                    test_asking_for_it_ends_the_daemon);
    return g_test_run();
}
