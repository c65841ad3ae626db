/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Owns the tests of vhost-user-template as a process: what is sent comes back,
 * and configuration space says how. argv: vhost-user-template.
 */
#include "tests/rig.h"

#include "vhu/clock.h"

#include <errno.h>
#include <string.h>

#define DEADLINE_MS 10000

static const char *program;

typedef struct Served {
    RigDaemon *daemon;
    Rig *rig;
} Served;

static Served serve(const RigConfig *config, const char *option)
{
    const char *argv[] = {program, option, NULL};
    Served served = {.daemon = rig_daemon_spawn(argv), .rig = rig_new(config)};

    rig_connect(served.rig, rig_daemon_socket(served.daemon));
    rig_start(served.rig);
    return served;
}

static void end(Served *served)
{
    rig_free(served->rig);
    rig_daemon_free(served->daemon);
}

static void set_reverse(Rig *rig, uint8_t value)
{
    g_assert_cmpint(rig_set_config(rig, 4, &value, 1), ==, 0);
}

static void test_text_comes_back(const RigConfig *config)
{
    Served served = serve(config, NULL);

    for (int reverse = 0; reverse < 2; reverse++) {
        RigRequest *request = rig_request(served.rig, 0);
        const char *wanted = reverse ? "gfedcba" : "abcdefg";
        uint8_t *front;
        uint8_t *back;

        if (reverse) {
            set_reverse(served.rig, 1);
        }
        rig_out(request, "abc", 3);
        rig_out(request, "defg", 4);
        front = rig_in(request, 2);
        back = rig_in(request, 100);
        g_assert_cmpuint(rig_do(request), ==, 7);
        g_assert_cmpint(memcmp(front, wanted, 2), ==, 0);
        g_assert_cmpint(memcmp(back, wanted + 2, 5), ==, 0);
        g_assert_cmpuint(back[5], ==, 0xa5);
        rig_request_free(request);
    }
    rig_stop(served.rig);
    end(&served);
}

static void test_limit_is_kept_and_shown(void)
{
    Served served = serve(&(RigConfig){0}, "--max-bytes=3");
    RigRequest *request = rig_request(served.rig, 0);
    uint8_t config[5];
    uint8_t *data;

    rig_get_config(served.rig, 0, config, sizeof(config));
    g_assert_cmpint(memcmp(config, "\x03\0\0\0\0", 5), ==, 0);
    rig_out(request, "abcdefg", 7);
    data = rig_in(request, 7);
    g_assert_cmpuint(rig_do(request), ==, 3);
    g_assert_cmpint(memcmp(data, "abc\xa5", 4), ==, 0);
    rig_request_free(request);
    end(&served);
}

static void test_shorter_side_counts(void)
{
    Served served = serve(&(RigConfig){0}, NULL);
    RigRequest *request = rig_request(served.rig, 0);

    rig_out(request, "abcdefg", 7);
    rig_in(request, 2);
    g_assert_cmpuint(rig_do(request), ==, 2);
    rig_request_free(request);
    request = rig_request(served.rig, 0);
    rig_in(request, 2);
    g_assert_cmpuint(rig_do(request), ==, 0);
    rig_request_free(request);
    end(&served);
}

static void test_wrong_configuration_is_refused_whole(void)
{
    static const uint8_t cases[][5] = {
        {0, 0x10, 0, 0, 2}, /* neither 0 nor 1 */
        {1, 0x10, 0, 0, 1}, /* the limit is read-only */
    };
    Served served = serve(&(RigConfig){0}, NULL);
    uint8_t config[5];

    for (gsize i = 0; i < G_N_ELEMENTS(cases); i++) {
        g_assert_cmpint(rig_set_config(served.rig, 0, cases[i], 5), ==,
                        -EREMOTEIO);
        rig_get_config(served.rig, 0, config, sizeof(config));
        g_assert_cmpint(memcmp(config, "\0\x10\0\0\0", 5), ==, 0);
    }
    end(&served);
}

static void test_whole_space_may_be_written(void)
{
    Served served = serve(&(RigConfig){0}, NULL);
    uint8_t config[5];

    g_assert_cmpint(rig_set_config(served.rig, 0, "\0\x10\0\0\1", 5), ==, 0);
    rig_get_config(served.rig, 0, config, sizeof(config));
    g_assert_cmpint(memcmp(config, "\0\x10\0\0\1", 5), ==, 0);
    end(&served);
}

static void test_reset_forgets(void)
{
    const VhuMessage reset = {.request = VHOST_USER_RESET_DEVICE};
    Served served = serve(&(RigConfig){0}, NULL);
    uint8_t reverse = 9;

    set_reverse(served.rig, 1);
    g_assert_cmpint(rig_call(served.rig, &reset, NULL), ==, 0);
    rig_get_config(served.rig, 4, &reverse, 1);
    g_assert_cmpuint(reverse, ==, 0);
    end(&served);
}

static void test_front_ends_do_not_share_state(void)
{
    Served served = serve(&(RigConfig){0}, NULL);
    Rig *other = rig_new(&(RigConfig){0});
    uint8_t reverse = 9;

    set_reverse(served.rig, 1);
    rig_connect(other, rig_daemon_socket(served.daemon));
    rig_get_config(other, 4, &reverse, 1);
    g_assert_cmpuint(reverse, ==, 0);
    rig_free(other);
    end(&served);
}

/* One front end from beginning to end. */
static void live(const char *socket)
{
    const RigConfig config = {.num_regions = 4, .memory_bytes = 1 << 20};
    Rig *rig = rig_new(&config);
    RigRequest *request;

    rig_connect(rig, socket);
    rig_start(rig);
    request = rig_request(rig, 0);
    rig_out(request, "abc", 3);
    rig_in(request, 3);
    g_assert_cmpuint(rig_do(request), ==, 3);
    rig_request_free(request);
    rig_free(rig);
}

/* The daemon may still be closing what was left; each message of ours gives it
 * a turn. */
static void await_fds(const Served *served, unsigned fds)
{
    const int64_t deadline_ms = vhu_now_ms() + DEADLINE_MS;

    while (rig_count_fds(rig_daemon_pid(served->daemon)) != fds) {
        g_assert_cmpint(vhu_now_ms(), <, deadline_ms);
        rig_ask_u64(served->rig, VHOST_USER_GET_FEATURES);
    }
}

/* The address sanitizer keeps what was freed for a while. */
static void bound_quarantine(void)
{
    const char *options = g_getenv("ASAN_OPTIONS");
    g_autofree char *bounded =
        g_strdup_printf("%s:quarantine_size_mb=1", options ? options : "");

    g_setenv("ASAN_OPTIONS", bounded, TRUE);
}

static void test_a_thousand_connections_leak_nothing(void)
{
    Served served = serve(&(RigConfig){0}, NULL);
    const char *socket = rig_daemon_socket(served.daemon);
    const pid_t pid = rig_daemon_pid(served.daemon);
    const unsigned fds = rig_count_fds(pid);
    unsigned before_kib;
    unsigned after_kib;

    for (int i = 0; i < 100; i++) {
        live(socket);
    }
    await_fds(&served, fds);
    before_kib = rig_anonymous_kib(pid);
    for (int i = 0; i < 1000; i++) {
        live(socket);
    }
    await_fds(&served, fds);
    after_kib = rig_anonymous_kib(pid);
    g_test_message("result: 1000 connections, growth in KiB: %d",
                   (int)after_kib - (int)before_kib);
    g_assert_cmpuint(after_kib, <=, before_kib + 64);
    end(&served);
}

int main(int argc, char **argv)
{
    bound_quarantine();
    g_test_init(&argc, &argv, NULL);
    g_assert_cmpint(argc, ==, 2);
    program = argv[1];
    rig_add_matrix("/template/text-comes-back", test_text_comes_back);
    g_test_add_func("/template/limit-is-kept-and-shown",
                    test_limit_is_kept_and_shown);
    g_test_add_func("/template/shorter-side-counts", test_shorter_side_counts);
    g_test_add_func("/template/wrong-configuration-is-refused-whole",
                    test_wrong_configuration_is_refused_whole);
    g_test_add_func("/template/whole-space-may-be-written",
                    test_whole_space_may_be_written);
    g_test_add_func("/template/reset-forgets", test_reset_forgets);
    g_test_add_func("/template/front-ends-do-not-share-state",
                    test_front_ends_do_not_share_state);
    g_test_add_func("/template/a-thousand-connections-leak-nothing",
                    test_a_thousand_connections_leak_nothing);
    return g_test_run();
}
