/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Owns the tests of how a daemon with a connection ends: under load, and with
 * a device that hangs. argv: vhost-user-rng, hung-daemon.
 */
#include "contrib/daemon/signals.h"
#include "tests/rig.h"
#include "vhu/clock.h"

#include <signal.h>
#include <unistd.h>

#define DEADLINE_MS 10000

static const char *rng_program;
static const char *hung_program;

typedef struct Served {
    RigDaemon *daemon;
    Rig *rig;
} Served;

static Served serve(const char *const *argv)
{
    Served served = {
        .daemon = rig_daemon_spawn(argv),
        .rig = rig_new(&(RigConfig){0}),
    };

    rig_connect(served.rig, rig_daemon_socket(served.daemon));
    rig_start(served.rig);
    return served;
}

static void assert_ends_clean(Served *served)
{
    g_assert_cmpint(rig_daemon_wait(served->daemon, DEADLINE_MS), ==, 0);
    g_assert_cmpint(access(rig_daemon_socket(served->daemon), F_OK), <, 0);
}

static void end(Served *served)
{
    rig_free(served->rig);
    rig_daemon_free(served->daemon);
}

static void submit(Served *served)
{
    RigRequest *request = rig_request(served->rig, 0);

    rig_in(request, 4096);
    rig_submit(request);
}

/* The device has a request and hangs. */
static void hang(Served *served)
{
    submit(served);
    rig_daemon_expect_error(served->daemon, "hanging");
}

static void test_sigterm_under_load(void)
{
    Served served = serve((const char *const[]){rng_program, NULL});
    unsigned used = 0;

    for (unsigned i = 0; i < 64; i++) {
        submit(&served);
    }
    while (used < 1000) {
        RigRequest *request = rig_next_used(served.rig, 0, DEADLINE_MS);

        g_assert_nonnull(request);
        used++;
        rig_request_free(request);
        submit(&served);
    }
    rig_daemon_signal(served.daemon, SIGTERM);
    assert_ends_clean(&served);
    end(&served);
}

static void test_hung_requests_do_not_hold_it(gconstpointer threads)
{
    Served served = serve((const char *const[]){hung_program, threads, NULL});

    hang(&served);
    rig_daemon_signal(served.daemon, SIGTERM);
    /* Nobody can connect while it waits for the device. */
    rig_daemon_expect_error(served.daemon, "ending: Terminated");
    g_assert_cmpint(access(rig_daemon_socket(served.daemon), F_OK), <, 0);
    assert_ends_clean(&served);
    rig_daemon_expect_error(served.daemon, "asked to stop");
    rig_daemon_expect_error(served.daemon, "did not drain");
    end(&served);
}

static void test_hung_thread_does_not_hold_it(gconstpointer threads)
{
    Served served = serve((const char *const[]){hung_program, threads,
                                                "--how=block-thread", NULL});

    hang(&served);
    rig_daemon_signal(served.daemon, SIGTERM);
    assert_ends_clean(&served);
    end(&served);
}

static void test_second_signal_ends_at_once(void)
{
    Served served =
        serve((const char *const[]){hung_program, "--how=block-thread", NULL});
    int64_t start_ms;

    hang(&served);
    start_ms = vhu_now_ms();
    rig_daemon_signal(served.daemon, SIGTERM);
    rig_daemon_signal(served.daemon, SIGINT);
    assert_ends_clean(&served);
    /* After the first alone it would have had this time. */
    g_assert_cmpint(vhu_now_ms() - start_ms, <,
                    SIGNALS_PATIENCE_SECONDS * 1000);
    end(&served);
}

static void test_hung_connection_does_not_hold_another(void)
{
    Served served =
        serve((const char *const[]){hung_program, "--threads=2", NULL});
    Rig *other = rig_new(&(RigConfig){0});

    hang(&served);
    rig_connect(other, rig_daemon_socket(served.daemon));
    rig_start(other);
    rig_stop(other);
    rig_free(other);
    rig_daemon_signal(served.daemon, SIGTERM);
    assert_ends_clean(&served);
    end(&served);
}

static void test_idle_device_is_closed(void)
{
    Served served =
        serve((const char *const[]){hung_program, "--threads=2", NULL});

    rig_daemon_signal(served.daemon, SIGTERM);
    assert_ends_clean(&served);
    rig_daemon_expect_error(served.daemon, "device closed");
    end(&served);
}

static void test_once_ends_with_its_front_end(void)
{
    Served served = serve((const char *const[]){rng_program, "--once", NULL});

    rig_disconnect(served.rig);
    assert_ends_clean(&served);
    end(&served);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_assert_cmpint(argc, ==, 3);
    rng_program = argv[1];
    hung_program = argv[2];
    g_test_add_func("/daemon/end/sigterm-under-load", test_sigterm_under_load);
    g_test_add_data_func("/daemon/end/hung-requests-do-not-hold-it",
                         "--threads=0", test_hung_requests_do_not_hold_it);
    g_test_add_data_func("/daemon/end/hung-requests-of-a-thread-do-not-hold-it",
                         "--threads=1", test_hung_requests_do_not_hold_it);
    g_test_add_data_func("/daemon/end/hung-control-thread-does-not-hold-it",
                         "--threads=0", test_hung_thread_does_not_hold_it);
    g_test_add_data_func("/daemon/end/hung-data-thread-does-not-hold-it",
                         "--threads=1", test_hung_thread_does_not_hold_it);
    g_test_add_func("/daemon/end/second-signal-ends-at-once",
                    test_second_signal_ends_at_once);
    g_test_add_func("/daemon/end/hung-connection-does-not-hold-another",
                    test_hung_connection_does_not_hold_another);
    g_test_add_func("/daemon/end/idle-device-is-closed",
                    test_idle_device_is_closed);
    g_test_add_func("/daemon/end/once-ends-with-its-front-end",
                    test_once_ends_with_its_front_end);
    return g_test_run();
}
