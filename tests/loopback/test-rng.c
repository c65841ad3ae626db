/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Owns the tests of vhost-user-rng as a process: a deterministic source is
 * compared byte for byte in every layout of ring. argv: vhost-user-rng.
 */
#include "tests/rig.h"

#include "vhu/clock.h"

#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define DEADLINE_MS   10000
#define PATTERN_BYTES (1024u * 1024u)
#define UNTOUCHED     0xa5 /* what rig_in fills with */

static const char *program;

/* Bytes no two places of which look alike. */
static uint8_t pattern(size_t at)
{
    const uint64_t mixed = (at + 1) * 0x9e3779b97f4a7c15ULL;

    return (uint8_t)(mixed >> 56);
}

static char *write_pattern(const char *folder, size_t bytes)
{
    g_autofree char *data = g_malloc(bytes);
    char *path = g_build_filename(folder, "source", NULL);

    for (size_t i = 0; i < bytes; i++) {
        data[i] = (char)pattern(i);
    }
    g_assert_true(g_file_set_contents(path, data, (gssize)bytes, NULL));
    return path;
}

/* A daemon whose source is in a folder of the test's own. */
typedef struct Fixture {
    char *folder;
    char *source;
    RigDaemon *daemon;
} Fixture;

static void set_up(Fixture *fix)
{
    fix->folder = g_dir_make_tmp("rng-XXXXXX", NULL);
    g_assert_nonnull(fix->folder);
}

static void spawn(Fixture *fix, const char *option)
{
    g_autofree char *source = g_strdup_printf("--source=%s", fix->source);
    const char *argv[] = {program, source, option, NULL};

    fix->daemon = rig_daemon_spawn(argv);
}

static void tear_down(Fixture *fix)
{
    rig_daemon_free(fix->daemon);
    if (fix->source) {
        unlink(fix->source);
    }
    g_assert_cmpint(rmdir(fix->folder), ==, 0);
    g_free(fix->source);
    g_free(fix->folder);
}

static Rig *connect_rig(Fixture *fix, const RigConfig *config)
{
    Rig *rig = rig_new(config);

    rig_connect(rig, rig_daemon_socket(fix->daemon));
    rig_start(rig);
    return rig;
}

/* A piece of a request, and where its bytes begin in the source. */
static void assert_pattern(const uint8_t *data, size_t bytes, size_t at)
{
    for (size_t i = 0; i < bytes; i++) {
        if (data[i] != pattern(at + i)) {
            g_error("byte %zu of %zu is 0x%02x, expected 0x%02x", i, bytes,
                    data[i], pattern(at + i));
        }
    }
}

static void assert_untouched(const uint8_t *data, size_t bytes)
{
    for (size_t i = 0; i < bytes; i++) {
        g_assert_cmpuint(data[i], ==, UNTOUCHED);
    }
}

/* ---- every layout ---- */

static void test_source_arrives_byte_for_byte(const RigConfig *config)
{
    /* Sizes of the pieces of one request after the other; 0 ends one. */
    static const uint16_t pieces[] = {
        1, 0, 64, 0, 4096, 0,    3, 5, 7,   0, 1,    1, 1,    1, 1,
        1, 1, 1,  0, 1,    4095, 2, 0, 513, 0, 9000, 1, 9000, 0};
    Fixture fix = {0};
    size_t at = 0;
    Rig *rig;

    set_up(&fix);
    fix.source = write_pattern(fix.folder, PATTERN_BYTES);
    spawn(&fix, NULL);
    rig = connect_rig(&fix, config);
    for (int round = 0; round < 20; round++) {
        for (gsize i = 0; i < G_N_ELEMENTS(pieces); i++) {
            RigRequest *request = rig_request(rig, 0);
            const uint16_t *sizes = &pieces[i];
            uint8_t *data[RIG_MAX_PIECES];
            unsigned num = 0;
            uint32_t total = 0;

            for (; pieces[i] != 0; i++) {
                data[num++] = rig_in(request, pieces[i]);
                total += pieces[i];
            }
            g_assert_cmpuint(rig_do(request), ==, total);
            for (unsigned j = 0; j < num; j++) {
                assert_pattern(data[j], sizes[j], at);
                at += sizes[j];
            }
            rig_request_free(request);
        }
    }
    rig_stop(rig);
    rig_free(rig);
    tear_down(&fix);
}

static void test_full_ring_is_served_in_order(const RigConfig *config)
{
    Fixture fix = {0};
    size_t at = 0;
    Rig *rig;

    set_up(&fix);
    fix.source = write_pattern(fix.folder, PATTERN_BYTES);
    spawn(&fix, NULL);
    rig = connect_rig(&fix, config);
    for (int round = 0; round < 10; round++) {
        RigRequest *requests[64];
        uint8_t *data[64];
        unsigned num = 0;

        for (; num < 64; num++) {
            requests[num] = rig_request(rig, 0);
            data[num] = rig_in(requests[num], 100);
            if (rig_submit_quietly(requests[num]) < 0) {
                rig_request_free(requests[num]);
                break;
            }
        }
        g_assert_cmpuint(num, >=, 32);
        rig_kick(rig, 0, false);
        for (unsigned i = 0; i < num; i++) {
            g_assert_cmpuint(rig_wait(requests[i]), ==, 100);
            assert_pattern(data[i], 100, at);
            at += 100;
            rig_request_free(requests[i]);
        }
    }
    rig_stop(rig);
    rig_free(rig);
    tear_down(&fix);
}

static void test_held_request_survives_sigkill(const RigConfig *config)
{
    Fixture fix = {0};
    RigRequest *request;
    uint8_t *data;
    Rig *rig;
    int fd;

    set_up(&fix);
    fix.source = g_build_filename(fix.folder, "source", NULL);
    g_assert_cmpint(mkfifo(fix.source, 0600), ==, 0);
    spawn(&fix, NULL);
    rig = connect_rig(&fix, config);
    request = rig_request(rig, 0);
    data = rig_in(request, 4);
    rig_submit(request);
    rig_daemon_kill(fix.daemon);
    rig_wait_closed(rig, NULL);
    rig_daemon_respawn(fix.daemon);
    rig_reconnect(rig, rig_daemon_socket(fix.daemon));
    fd = open(fix.source, O_WRONLY | O_CLOEXEC);
    g_assert_cmpint(write(fd, "abcd", 4), ==, 4);
    g_assert_cmpuint(rig_wait(request), ==, 4);
    g_assert_cmpint(memcmp(data, "abcd", 4), ==, 0);
    close(fd);
    rig_request_free(request);
    rig_stop(rig);
    rig_free(rig);
    tear_down(&fix);
}

/* ---- one layout ---- */

static void test_kernel_fills_the_buffer(void)
{
    Fixture fix = {0};
    uint8_t *data[2];
    Rig *rig;

    set_up(&fix);
    fix.daemon = rig_daemon_spawn((const char *const[]){program, NULL});
    rig = connect_rig(&fix, &(RigConfig){0});
    for (int i = 0; i < 2; i++) {
        RigRequest *request = rig_request(rig, 0);

        rig_in(request, 256);
        data[i] = rig_in(request, 256);
        g_assert_cmpuint(rig_do(request), ==, 512);
        data[i] = g_memdup2(data[i], 256);
        rig_request_free(request);
    }
    g_assert_cmpint(memcmp(data[0], data[1], 256), !=, 0);
    g_free(data[0]);
    g_free(data[1]);
    rig_free(rig);
    tear_down(&fix);
}

static void test_readable_pieces_are_ignored(void)
{
    static const char text[] = "not for you";
    Fixture fix = {0};
    RigRequest *request;
    uint8_t *data;
    Rig *rig;

    set_up(&fix);
    fix.source = write_pattern(fix.folder, 100);
    spawn(&fix, NULL);
    rig = connect_rig(&fix, &(RigConfig){0});
    request = rig_request(rig, 0);
    rig_out(request, text, sizeof(text));
    data = rig_in(request, 10);
    g_assert_cmpuint(rig_do(request), ==, 10);
    assert_pattern(data, 10, 0);
    rig_request_free(request);

    request = rig_request(rig, 0);
    rig_out(request, text, sizeof(text));
    g_assert_cmpuint(rig_do(request), ==, 0);
    rig_request_free(request);
    rig_free(rig);
    tear_down(&fix);
}

static void test_long_request_gets_64_kib(void)
{
    Fixture fix = {0};
    RigRequest *request;
    uint8_t *data;
    Rig *rig;

    set_up(&fix);
    fix.source = write_pattern(fix.folder, PATTERN_BYTES);
    spawn(&fix, NULL);
    rig = connect_rig(&fix, &(RigConfig){0});
    request = rig_request(rig, 0);
    data = rig_in(request, 200000);
    g_assert_cmpuint(rig_do(request), ==, 65536);
    assert_pattern(data, 65536, 0);
    assert_untouched(data + 65536, 200000 - 65536);
    rig_request_free(request);
    rig_free(rig);
    tear_down(&fix);
}

static void test_end_of_source_gives_the_exact_length(void)
{
    Fixture fix = {0};
    RigRequest *first;
    RigRequest *second;
    uint8_t *data;
    Rig *rig;
    int fd;

    set_up(&fix);
    fix.source = write_pattern(fix.folder, 10);
    spawn(&fix, NULL);
    rig = connect_rig(&fix, &(RigConfig){0});
    first = rig_request(rig, 0);
    data = rig_in(first, 7);
    rig_in(first, 57);
    g_assert_cmpuint(rig_do(first), ==, 10);
    assert_pattern(data, 7, 0);
    rig_request_free(first);

    second = rig_request(rig, 0);
    data = rig_in(second, 3);
    rig_submit(second);
    rig_daemon_expect_error(fix.daemon, "end of file; requests wait");
    g_assert_false(second->used);
    fd = open(fix.source, O_WRONLY | O_APPEND | O_CLOEXEC);
    g_assert_cmpint(write(fd, "new", 3), ==, 3);
    close(fd);
    g_assert_cmpuint(rig_wait(second), ==, 3);
    g_assert_cmpint(memcmp(data, "new", 3), ==, 0);
    rig_request_free(second);
    rig_free(rig);
    tear_down(&fix);
}

static void test_queue_stops_while_requests_wait(void)
{
    Fixture fix = {0};
    RigRequest *requests[3];
    uint8_t *data[3];
    Rig *rig;
    int fd;

    set_up(&fix);
    fix.source = g_build_filename(fix.folder, "source", NULL);
    g_assert_cmpint(mkfifo(fix.source, 0600), ==, 0);
    spawn(&fix, NULL);
    rig = connect_rig(&fix, &(RigConfig){0});
    for (int i = 0; i < 3; i++) {
        requests[i] = rig_request(rig, 0);
        data[i] = rig_in(requests[i], 2);
        rig_submit(requests[i]);
    }
    /* None was taken: the base still is 0, and all are there afterwards. */
    g_assert_cmpuint(rig_stop_queue(rig, 0), ==, 0);
    rig_start(rig);
    fd = open(fix.source, O_WRONLY | O_CLOEXEC);
    g_assert_cmpint(write(fd, "abcdef", 6), ==, 6);
    for (int i = 0; i < 3; i++) {
        g_assert_cmpuint(rig_wait(requests[i]), ==, 2);
        g_assert_cmpint(memcmp(data[i], &"abcdef"[2 * i], 2), ==, 0);
        rig_request_free(requests[i]);
    }
    close(fd);
    rig_free(rig);
    tear_down(&fix);
}

static void test_dry_source_holds_up_no_message(void)
{
    Fixture fix = {0};
    RigRequest *waiting;
    RigRequest *second;
    uint8_t *data[2];
    Rig *rig;
    Rig *other;
    int fd;

    set_up(&fix);
    fix.source = g_build_filename(fix.folder, "source", NULL);
    g_assert_cmpint(mkfifo(fix.source, 0600), ==, 0);
    spawn(&fix, NULL);
    rig = connect_rig(&fix, &(RigConfig){0});
    waiting = rig_request(rig, 0);
    data[0] = rig_in(waiting, 4);
    rig_submit(waiting);
    other = connect_rig(&fix, &(RigConfig){0});
    second = rig_request(other, 0);
    data[1] = rig_in(second, 4);
    rig_submit(second);
    g_assert_cmpuint(rig_ask_u64(rig, VHOST_USER_GET_FEATURES), !=, 0);
    g_assert_cmpuint(rig_ask_u64(other, VHOST_USER_GET_FEATURES), !=, 0);
    fd = open(fix.source, O_WRONLY | O_CLOEXEC);
    g_assert_cmpint(write(fd, "abcdefgh", 8), ==, 8);
    g_assert_cmpuint(rig_wait(waiting), ==, 4);
    g_assert_cmpuint(rig_wait(second), ==, 4);
    g_assert_cmpint(memcmp(data[0], "abcd", 4), ==, 0);
    g_assert_cmpint(memcmp(data[1], "efgh", 4), ==, 0);
    close(fd);
    rig_request_free(waiting);
    rig_request_free(second);
    rig_free(rig);
    rig_free(other);
    tear_down(&fix);
}

static void test_wild_address_breaks_its_queue_only(void)
{
    Fixture fix = {0};
    RigRequest *request;
    uint8_t *data;
    Rig *good;
    Rig *bad;

    set_up(&fix);
    fix.source = write_pattern(fix.folder, 100);
    spawn(&fix, NULL);
    good = connect_rig(&fix, &(RigConfig){0});
    bad = connect_rig(&fix, &(RigConfig){0});
    request = rig_request(bad, 0);
    rig_in_at(request, 0xdead0000000ULL, 4096);
    rig_submit(request);
    rig_daemon_expect_error(fix.daemon, "error: connection 2: queue 0");
    g_assert_cmpuint(rig_ask_u64(bad, VHOST_USER_GET_FEATURES), !=, 0);
    rig_free(bad);

    request = rig_request(good, 0);
    data = rig_in(request, 10);
    g_assert_cmpuint(rig_do(request), ==, 10);
    assert_pattern(data, 10, 0);
    rig_request_free(request);
    rig_free(good);
    tear_down(&fix);
}

/* ---- the quota ---- */

enum { QUOTA_BYTES = 100, PERIOD_MS = 50 };

/* At @now_ms no more can have been handed out, whatever was delayed where:
 * the first period did not begin before @start_ms. */
static uint64_t most_bytes(int64_t start_ms, int64_t now_ms)
{
    return (uint64_t)((now_ms - start_ms) / PERIOD_MS + 1) * QUOTA_BYTES;
}

static void test_quota_is_kept_by_all_together(void)
{
    const char *argv[] = {program, "--max-bytes=100", "--period-ms=50", NULL};
    Fixture fix = {0};
    uint64_t total[2] = {0};
    int64_t start_ms;
    Rig *rigs[2];

    set_up(&fix);
    fix.daemon = rig_daemon_spawn(argv);
    start_ms = vhu_now_ms();
    for (int i = 0; i < 2; i++) {
        rigs[i] = connect_rig(&fix, &(RigConfig){0});
    }
    while (total[0] + total[1] < 20 * QUOTA_BYTES) {
        RigRequest *requests[2];

        for (int i = 0; i < 2; i++) {
            requests[i] = rig_request(rigs[i], 0);
            rig_in(requests[i], 60);
            rig_submit(requests[i]);
        }
        for (int i = 0; i < 2; i++) {
            const uint32_t got = rig_wait(requests[i]);

            g_assert_cmpuint(got, >=, 1);
            total[i] += got;
            g_assert_cmpuint(total[0] + total[1], <=,
                             most_bytes(start_ms, vhu_now_ms()));
            rig_request_free(requests[i]);
        }
    }
    /* Neither was starved. */
    g_assert_cmpuint(total[0], >=, 3 * QUOTA_BYTES);
    g_assert_cmpuint(total[1], >=, 3 * QUOTA_BYTES);
    rig_free(rigs[0]);
    rig_free(rigs[1]);
    tear_down(&fix);
}

static void test_request_over_the_quota_gets_what_is_left(void)
{
    const char *argv[] = {program, "--max-bytes=100", "--period-ms=3600000",
                          NULL};
    Fixture fix = {0};
    RigRequest *request;
    uint8_t *data;
    Rig *rig;

    set_up(&fix);
    fix.daemon = rig_daemon_spawn(argv);
    rig = connect_rig(&fix, &(RigConfig){0});
    request = rig_request(rig, 0);
    rig_in(request, 70);
    g_assert_cmpuint(rig_do(request), ==, 70);
    rig_request_free(request);
    request = rig_request(rig, 0);
    data = rig_in(request, 70);
    g_assert_cmpuint(rig_do(request), ==, 30);
    assert_untouched(data + 30, 40);
    rig_request_free(request);

    request = rig_request(rig, 0);
    rig_in(request, 1);
    rig_submit(request);
    /* The period lasts an hour; the queue stops at once, nothing taken. */
    g_assert_cmpuint(rig_stop_queue(rig, 0), ==, 2);
    g_assert_null(rig_next_used(rig, 0, 0));
    rig_free(rig);
    tear_down(&fix);
}

static void test_missing_source_ends_before_listening(void)
{
    const char *argv[] = {program, "--socket-path=/nonexistent/s",
                          "--source=/nonexistent/file", NULL};
    RigDaemon *daemon = rig_daemon_run(argv);

    g_assert_cmpint(rig_daemon_wait(daemon, DEADLINE_MS), ==, 1);
    rig_daemon_expect_error(
        daemon, "--source=/nonexistent/file: No such file or directory");
    rig_daemon_free(daemon);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_assert_cmpint(argc, ==, 2);
    program = argv[1];
    rig_add_matrix("/rng/source-arrives-byte-for-byte",
                   test_source_arrives_byte_for_byte);
    rig_add_matrix("/rng/full-ring-is-served-in-order",
                   test_full_ring_is_served_in_order);
    rig_add_matrix("/rng/held-request-survives-sigkill",
                   test_held_request_survives_sigkill);
    g_test_add_func("/rng/kernel-fills-the-buffer",
                    test_kernel_fills_the_buffer);
    g_test_add_func("/rng/readable-pieces-are-ignored",
                    test_readable_pieces_are_ignored);
    g_test_add_func("/rng/long-request-gets-64-kib",
                    test_long_request_gets_64_kib);
    g_test_add_func("/rng/end-of-source-gives-the-exact-length",
                    test_end_of_source_gives_the_exact_length);
    g_test_add_func("/rng/queue-stops-while-requests-wait",
                    test_queue_stops_while_requests_wait);
    g_test_add_func("/rng/dry-source-holds-up-no-message",
                    test_dry_source_holds_up_no_message);
    g_test_add_func("/rng/wild-address-breaks-its-queue-only",
                    test_wild_address_breaks_its_queue_only);
    g_test_add_func("/rng/quota-is-kept-by-all-together",
                    test_quota_is_kept_by_all_together);
    g_test_add_func("/rng/request-over-the-quota-gets-what-is-left",
                    test_request_over_the_quota_gets_what_is_left);
    g_test_add_func("/rng/missing-source-ends-before-listening",
                    test_missing_source_ends_before_listening);
    return g_test_run();
}
