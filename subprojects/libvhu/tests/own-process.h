/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Owns the running of a test in a process of its own: signal handlers belong
 * to a process, and some tests are about how it ends.
 */
#ifndef TESTS_OWN_PROCESS_H
#define TESTS_OWN_PROCESS_H

#include <glib.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

typedef struct ProcessTest {
    const char *path;  /* "/area/behaviour" */
    void (*run)(void); /* what the process does */
    int signal;        /* that must end it; 0: it must exit */
    int code;          /* it must exit with */
} ProcessTest;

static inline void process_test_run(gconstpointer opaque)
{
    const struct rlimit no_core = {0, 0};
    const ProcessTest *test = opaque;
    pid_t child = fork();
    int status;

    g_assert_cmpint(child, >=, 0);
    if (child == 0) {
        setrlimit(RLIMIT_CORE, &no_core);
        /* Whatever a sanitizer put there is not the process's default. */
        signal(SIGBUS, SIG_DFL);
        test->run();
        _exit(0);
    }
    g_assert_cmpint(waitpid(child, &status, 0), ==, child);
    if (test->signal) {
        g_assert_true(WIFSIGNALED(status));
        g_assert_cmpint(WTERMSIG(status), ==, test->signal);
    } else {
        g_assert_true(WIFEXITED(status));
        g_assert_cmpint(WEXITSTATUS(status), ==, test->code);
    }
}

static inline void process_tests_add(const ProcessTest *tests, unsigned num)
{
    unsigned i;

    for (i = 0; i < num; i++) {
        g_test_add_data_func(tests[i].path, &tests[i], process_test_run);
    }
}

#endif
