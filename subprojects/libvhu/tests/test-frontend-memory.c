/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Owns the tests of what a front-end session keeps: features, memory, log,
 * inflight buffer; that it goes out right, and again after a reconnection.
 */
#include "tests/session-files.h"
#include "tests/session.h"

#include <errno.h>
#include <sys/mman.h>
#include <unistd.h>

#define ACK(request) request " 05000000 08000000 00000000 00000000"

/* Protocol features: 1 LOG_SHMFD, 3 REPLY_ACK, 8 PAGEFAULT, 12
 * INFLIGHT_SHMFD, 15 CONFIGURE_MEM_SLOTS. */
#define TABLES 0x110au
#define SLOTS  0x8008u

#define ADD(region)    "25000000 09000000 28000000 00000000 00000000" region
#define REMOVE(region) "26000000 09000000 28000000 00000000 00000000" region

/* ---- memory ---- */

static void test_table(void)
{
    const SessionFiles files = session_files();
    const VhuFrontendMemory memory = session_first(&files, 3);
    Outcome outcome;
    Session s;

    session_start(&s, NULL, 1 << 3);
    g_assert_cmpint(
        vhu_frontend_set_memory(s.front, &memory, outcome_then(&outcome), NULL),
        ==, 0);
    script_expect(&s.back, "05000000 09000000 68000000 03000000 00000000"
                  /**/ LOW AT("00000000") MIDDLE AT("00001000")
                      HIGH AT("00000000"));
    session_expect_file(&s.back, files.fds[0]);
    session_expect_file(&s.back, files.fds[1]);
    session_expect_file(&s.back, files.fds[2]);
    script_send(&s.back, ACK("05000000"));
    session_until(&s, &outcome.calls, 1);
    g_assert_cmpint(outcome.result, ==, 0);
    session_close(&s);
    session_close_files(&files);
}

static void test_slots_send_what_differs(void)
{
    const SessionFiles files = session_files();
    const VhuFrontendMemory two = session_first(&files, 2);
    const VhuFrontendMemory others = {
        .regions = files.regions + 1, .fds = files.fds + 1, .num = 2};
    Outcome outcome;
    Session s;

    session_start(&s, NULL, SLOTS);
    vhu_frontend_set_memory(s.front, &two, outcome_then(&outcome), NULL);
    script_expect(&s.back, ADD(LOW) AT("00000000"));
    script_expect(&s.back, ADD(MIDDLE) AT("00001000"));
    session_expect_file(&s.back, files.fds[0]);
    session_expect_file(&s.back, files.fds[1]);
    script_send(&s.back, ACK("25000000") ACK("25000000"));
    session_until(&s, &outcome.calls, 1);
    g_assert_cmpint(outcome.result, ==, 0);

    vhu_frontend_set_memory(s.front, &others, outcome_then(&outcome), NULL);
    script_expect(&s.back, REMOVE(LOW) AT("00000000"));
    script_expect(&s.back, ADD(HIGH) AT("00000000"));
    session_expect_file(&s.back, files.fds[2]);
    g_assert_cmpuint(s.back.num_fds, ==, 0);
    script_send(&s.back, ACK("26000000"));
    g_assert_cmpuint(outcome.calls, ==, 0);
    script_send(&s.back, ACK("25000000"));
    session_until(&s, &outcome.calls, 1);

    /* Nothing differs: nothing is sent, and it ends all the same. */
    vhu_frontend_set_memory(s.front, &others, outcome_then(&outcome), NULL);
    g_assert_cmpuint(outcome.calls, ==, 0);
    session_until(&s, &outcome.calls, 1);
    g_assert_cmpint(outcome.result, ==, 0);
    script_expect_silence(&s.back);
    session_close(&s);
    session_close_files(&files);
}

/* The same addresses of another file are another region. */
static void test_another_file_is_another_region(void)
{
    SessionFiles files = session_files();
    VhuFrontendMemory memory = session_first(&files, 1);
    Session s;

    session_start(&s, NULL, SLOTS);
    vhu_frontend_set_memory(s.front, &memory, NULL, NULL);
    script_expect(&s.back, ADD(LOW) AT("00000000"));
    memory.fds = &files.fds[2];
    vhu_frontend_set_memory(s.front, &memory, NULL, NULL);
    script_expect(&s.back, REMOVE(LOW) AT("00000000"));
    script_expect(&s.back, ADD(LOW) AT("00000000"));
    session_close(&s);
    session_close_files(&files);
}

static void test_one_refused_region_refuses_all(void)
{
    const SessionFiles files = session_files();
    const VhuFrontendMemory memory = session_first(&files, 3);
    Outcome outcome;
    Session s;

    session_start(&s, NULL, SLOTS);
    vhu_frontend_set_memory(s.front, &memory, outcome_then(&outcome), NULL);
    script_expect(&s.back, ADD(LOW) AT("00000000"));
    script_send(&s.back, ACK("25000000"));
    script_send(&s.back, "25000000 05000000 08000000 01000000 00000000");
    script_send(&s.back, ACK("25000000"));
    session_until(&s, &outcome.calls, 1);
    g_assert_cmpint(outcome.result, ==, -EREMOTEIO);
    g_assert_false(outcome.had_reply);
    session_close(&s);
    session_close_files(&files);
}

static void test_too_many_regions_are_told(void)
{
    VhuMemRegion regions[33] = {{0}};
    int fds[33];
    VhuFrontendMemory memory = {.regions = regions, .fds = fds, .num = 33};
    VhuError err = {0};
    Session s;

    for (int i = 0; i < 33; i++) {
        fds[i] = 0;
    }
    session_start(&s, NULL, SLOTS);
    g_assert_cmpint(vhu_frontend_set_memory(s.front, &memory, NULL, &err), ==,
                    -ENOSPC);
    g_assert_cmpstr(err.text, ==,
                    "front 'f0': 33 memory regions, the back end takes 32");
    session_close(&s);

    session_start(&s, NULL, 1 << 3);
    memory.num = 9;
    g_assert_cmpint(vhu_frontend_set_memory(s.front, &memory, NULL, &err), ==,
                    -ENOSPC);
    session_close(&s);
}

/* ---- inflight ---- */

#define BUFFER "00200000 00000000 00000000 00000000 02000000"

/* What is asked after it waits until the buffer is back at the back end. */
static void test_inflight_goes_back_before_anything_else(void)
{
    int buffer = memfd_create("inflight", MFD_CLOEXEC);
    VhuInflightArea area = {0};
    Outcome inflight, features;
    Session s;

    session_start(&s, NULL, TABLES);
    vhu_frontend_set_inflight(s.front, 2, 256, outcome_then(&inflight), NULL);
    g_assert_cmpint(vhu_frontend_set_inflight(s.front, 2, 256, NULL, NULL), ==,
                    -EBUSY);
    vhu_frontend_ask(s.front, VHOST_USER_GET_FEATURES, outcome_then(&features),
                     NULL);
    script_expect(&s.back, "1f000000 01000000 18000000 00000000 00000000"
                           "00000000 00000000 02000001 00000000");
    script_expect_silence(&s.back);
    script_send_fds(&s.back,
                    "1f000000 05000000 14000000 00200000 00000000"
                    "00000000 00000000 02000001",
                    &buffer, 1);
    script_expect(&s.back, "20000000 09000000 18000000 00200000 00000000"
                           "00000000 00000000 02000001 00000000");
    script_expect(&s.back, "01000000 01000000 00000000");
    session_expect_file(&s.back, buffer);
    g_assert_cmpuint(inflight.calls, ==, 0);
    script_send(&s.back, ACK("20000000") ACK("01000000"));
    session_until(&s, &features.calls, 1);
    g_assert_cmpint(inflight.result, ==, 0);
    g_assert_cmpint(vhu_frontend_inflight(s.front, &area), >=, 0);
    g_assert_cmpuint(area.mmap_size, ==, 0x2000);
    g_assert_cmpuint(area.num_queues, ==, 2);
    session_close(&s);
    close(buffer);
}

static void test_refused_inflight_is_told(void)
{
    Outcome outcome;
    Session s;

    session_start(&s, NULL, TABLES);
    vhu_frontend_set_inflight(s.front, 2, 256, outcome_then(&outcome), NULL);
    script_send(&s.back, "1f000000 05000000 14000000 00000000 00000000"
                         "00000000 00000000 02000001");
    session_until(&s, &outcome.calls, 1);
    g_assert_cmpint(outcome.result, ==, -EREMOTEIO);
    g_assert_cmpint(vhu_frontend_inflight(s.front, NULL), ==, -1);
    session_close(&s);
}

/* ---- a reconnection ---- */

static void set_everything(Session *s, const SessionFiles *files, int log,
                           int buffer)
{
    const VhuFrontendMemory memory = session_first(files, 2);
    const VhuLogArea area = {.size = 0x1000, .offset = 0x10};
    Outcome outcome;

    vhu_frontend_set_features(s->front, 0x504000000, NULL, NULL);
    script_expect(&s->back, "02000000 09000000 08000000 00000044 05000000");
    vhu_frontend_set_inflight(s->front, 2, 256, NULL, NULL);
    script_expect(&s->back, "1f000000 01000000 18000000 00000000 00000000"
                            "00000000 00000000 02000001 00000000");
    script_send(&s->back, ACK("02000000"));
    script_send_fds(&s->back,
                    "1f000000 05000000 14000000 00200000 00000000"
                    "00000000 00000000 02000001",
                    &buffer, 1);
    script_expect(&s->back, "20000000 09000000 18000000 00200000 00000000"
                            "00000000 00000000 02000001 00000000");
    vhu_frontend_set_log(s->front, log, &area, NULL, NULL);
    script_expect(&s->back, "06000000 01000000 10000000 00100000 00000000"
                            "10000000 00000000");
    vhu_frontend_set_memory(s->front, &memory, outcome_then(&outcome), NULL);
    script_expect(&s->back, "05000000 09000000 48000000 02000000 00000000"
                  /**/ LOW AT("00000000") MIDDLE AT("00001000"));
    script_send(&s->back, ACK("20000000") ACK("06000000") ACK("05000000"));
    session_until(s, &outcome.calls, 1);
    g_assert_cmpint(outcome.result, ==, 0);
}

static void test_reconnection_sends_everything_again(void)
{
    const SessionFiles files = session_files();
    int log = memfd_create("log", MFD_CLOEXEC);
    int buffer = memfd_create("inflight", MFD_CLOEXEC);
    Session s;

    session_start(&s, NULL, TABLES);
    set_everything(&s, &files, log, buffer);
    script_close(&s.back);
    session_until(&s, &s.closed, 1);
    g_assert_cmpint(s.why.code, ==, ECONNRESET);

    session_attach(&s);
    session_negotiate(&s, TABLES);
    script_expect(&s.back, "02000000 09000000 08000000 00000044 05000000");
    script_send(&s.back, ACK("02000000"));
    script_expect(&s.back, "20000000 09000000 18000000 00200000 00000000"
                           "00000000 00000000 02000001 00000000");
    session_expect_file(&s.back, buffer);
    script_send(&s.back, ACK("20000000"));
    script_expect(&s.back, "06000000 01000000 10000000 00100000 00000000"
                           "10000000 00000000");
    session_expect_file(&s.back, log);
    script_send(&s.back, ACK("06000000"));
    script_expect(&s.back, "05000000 09000000 48000000 02000000 00000000"
                  /**/ LOW AT("00000000") MIDDLE AT("00001000"));
    g_assert_cmpuint(s.ready, ==, 1);
    script_send(&s.back, ACK("05000000"));
    session_until(&s, &s.ready, 2);
    g_assert_true(s.again);
    g_assert_cmpuint(vhu_frontend_info(s.front)->counters.connections, ==, 2);
    session_close(&s);
    session_close_files(&files);
    close(log);
    close(buffer);
}

/* A new back end knows of no region, whatever the old one had been told. */
static void test_reconnection_adds_all_slots_again(void)
{
    const SessionFiles files = session_files();
    const VhuFrontendMemory two = session_first(&files, 2);
    Outcome outcome;
    Session s;

    session_start(&s, NULL, SLOTS);
    vhu_frontend_set_memory(s.front, &two, outcome_then(&outcome), NULL);
    script_send(&s.back, ACK("25000000") ACK("25000000"));
    session_until(&s, &outcome.calls, 1);
    script_close(&s.back);
    session_until(&s, &s.closed, 1);
    session_attach(&s);
    session_negotiate(&s, SLOTS);
    script_expect(&s.back, ADD(LOW) AT("00000000"));
    script_expect(&s.back, ADD(MIDDLE) AT("00001000"));
    script_send(&s.back, ACK("25000000") ACK("25000000"));
    session_until(&s, &s.ready, 2);
    session_close(&s);
    session_close_files(&files);
}

/* A buffer that was dropped, after a reset, is not sent again. */
static void test_dropped_inflight_stays_dropped(void)
{
    const SessionFiles files = session_files();
    int log = memfd_create("log", MFD_CLOEXEC);
    int buffer = memfd_create("inflight", MFD_CLOEXEC);
    Session s;

    session_start(&s, NULL, TABLES);
    set_everything(&s, &files, log, buffer);
    vhu_frontend_drop_inflight(s.front);
    script_close(&s.back);
    session_until(&s, &s.closed, 1);
    session_attach(&s);
    session_negotiate(&s, TABLES);
    script_expect(&s.back, "02000000 09000000 08000000 00000044 05000000");
    script_send(&s.back, ACK("02000000"));
    script_expect(&s.back, "06000000 01000000 10000000");
    session_close(&s);
    session_close_files(&files);
    close(log);
    close(buffer);
}

static void test_back_end_that_lost_a_feature_is_refused(void)
{
    Session s;

    session_start(&s, NULL, TABLES);
    vhu_frontend_set_features(s.front, 0x500000000, NULL, NULL);
    script_close(&s.back);
    session_until(&s, &s.closed, 1);
    session_attach(&s);
    script_expect(&s.back, "01000000 01000000 00000000");
    script_send(&s.back, "01000000 05000000 08000000 00000044 01000000");
    session_until(&s, &s.closed, 2);
    g_assert_cmpint(s.why.code, ==, EOPNOTSUPP);
    g_assert_cmpstr(s.why.text, ==,
                    "front 'f0': the back end came back without features "
                    "0x400000000 that are in use");
    session_close(&s);
}

static void test_only_offered_features_are_set(void)
{
    VhuError err = {0};
    Session s;

    session_start(&s, NULL, TABLES);
    g_assert_cmpint(vhu_frontend_set_features(s.front, 0x100000001, NULL, &err),
                    ==, -EINVAL);
    g_assert_cmpstr(err.text, ==, "front 'f0': features 0x1 are not offered");
    session_close(&s);

    /* Without protocol features bit 30 is not made up. */
    session_start(&s, NULL, 0);
    vhu_frontend_set_features(s.front, 0x100000000, NULL, NULL);
    script_expect(&s.back, "02000000 01000000 08000000 00000000 01000000");
    session_close(&s);
}

#define TEST(name, fn) g_test_add_func("/frontend/" name, fn)

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    TEST("memory/table", test_table);
    TEST("memory/slots-send-what-differs", test_slots_send_what_differs);
    TEST("memory/another-file-is-another-region",
         test_another_file_is_another_region);
    TEST("memory/one-refused-region-refuses-all",
         test_one_refused_region_refuses_all);
    TEST("memory/too-many-regions-are-told", test_too_many_regions_are_told);
    TEST("inflight/goes-back-before-anything-else",
         test_inflight_goes_back_before_anything_else);
    TEST("inflight/refused-is-told", test_refused_inflight_is_told);
    TEST("again/sends-everything", test_reconnection_sends_everything_again);
    TEST("again/adds-all-slots", test_reconnection_adds_all_slots_again);
    TEST("again/dropped-inflight-stays-dropped",
         test_dropped_inflight_stays_dropped);
    TEST("again/back-end-that-lost-a-feature-is-refused",
         test_back_end_that_lost_a_feature_is_refused);
    TEST("features/only-offered-are-set", test_only_offered_features_are_set);
    return g_test_run();
}
