/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Owns the tests of postcopy as a front-end session does it: what waits for
 * what, the bases of the back end, and their acknowledgement.
 */
#include "tests/session-files.h"
#include "tests/session.h"

#include <errno.h>

#define ACK(request) request " 05000000 08000000 00000000 00000000"

/* Protocol features: 3 REPLY_ACK, 8 PAGEFAULT, 15 CONFIGURE_MEM_SLOTS. */
#define SLOTS     0x8008u
#define PAGEFAULT 0x108u

/* LISTEN changes how replies to the table are read: it waits for what is
 * before it, and what is behind it waits for LISTEN. */
static void test_postcopy_takes_the_bases_and_acknowledges(void)
{
    const SessionFiles files = session_files();
    const VhuFrontendMemory memory = session_first(&files, 2);
    Outcome before, listen, after, end;
    Session s;

    session_start(&s, NULL, PAGEFAULT);
    vhu_frontend_set_memory(s.front, &memory, outcome_then(&before), NULL);
    vhu_frontend_ask(s.front, VHOST_USER_POSTCOPY_LISTEN, outcome_then(&listen),
                     NULL);
    vhu_frontend_set_memory(s.front, &memory, outcome_then(&after), NULL);
    vhu_frontend_ask(s.front, VHOST_USER_POSTCOPY_END, outcome_then(&end),
                     NULL);
    script_expect(&s.back, "05000000 09000000 48000000 02000000 00000000"
                  /**/ LOW AT("00000000") MIDDLE AT("00001000"));
    script_expect_silence(&s.back);
    script_send(&s.back, ACK("05000000"));
    script_expect(&s.back, "1d000000 09000000 00000000");
    script_expect_silence(&s.back);
    script_send(&s.back, ACK("1d000000"));

    /* Without need_reply, as the specification notes. */
    script_expect(&s.back, "05000000 01000000 48000000 02000000 00000000"
                  /**/ LOW AT("00000000") MIDDLE AT("00001000"));
    script_expect_silence(&s.back);
    script_send(&s.back, "05000000 05000000 48000000 02000000 00000000"
                         "00000000 00000000 00000a00 00000000 0000aa00 00550000"
                         "00000000 00000000"
                         "00001000 00000000 00001000 00000000 0000bb00 00550000"
                         "00001000 00000000");
    script_expect(&s.back, "05000000 01000000 08000000 00000000 00000000");
    script_expect(&s.back, "1e000000 01000000 00000000");
    session_until(&s, &after.calls, 1);
    g_assert_cmpint(before.result, ==, 0);
    g_assert_cmpint(listen.result, ==, 0);
    g_assert_cmphex(vhu_frontend_backend_addr(s.front, 0), ==, 0x550000aa0000);
    g_assert_cmphex(vhu_frontend_backend_addr(s.front, 1), ==, 0x550000bb0000);
    g_assert_cmphex(vhu_frontend_backend_addr(s.front, 2), ==, 0);
    script_send(&s.back, ACK("1e000000"));
    session_until(&s, &end.calls, 1);
    g_assert_cmpint(end.result, ==, 0);
    session_close(&s);
    session_close_files(&files);
}

static void test_postcopy_by_slots(void)
{
    const SessionFiles files = session_files();
    const VhuFrontendMemory memory = session_first(&files, 2);
    Outcome outcome;
    Session s;

    session_start(&s, NULL, PAGEFAULT | SLOTS);
    vhu_frontend_ask(s.front, VHOST_USER_POSTCOPY_LISTEN, NULL, NULL);
    script_expect(&s.back, "1d000000 09000000 00000000");
    script_send(&s.back, ACK("1d000000"));
    vhu_frontend_set_memory(s.front, &memory, outcome_then(&outcome), NULL);
    script_expect(&s.back, "25000000 01000000 28000000 00000000 00000000"
                  /**/ LOW AT("00000000"));
    script_expect_silence(&s.back);
    script_send(&s.back, "25000000 05000000 28000000 00000000 00000000"
                         "00000000 00000000 00000a00 00000000 0000aa00 00550000"
                         "00000000 00000000");
    script_expect(&s.back, "25000000 01000000 08000000 00000000 00000000");
    script_expect(&s.back, "25000000 01000000 28000000 00000000 00000000"
                  /**/ MIDDLE AT("00001000"));
    script_send(&s.back, "25000000 05000000 28000000 00000000 00000000"
                         "00001000 00000000 00001000 00000000 0000bb00 00550000"
                         "00001000 00000000");
    script_expect(&s.back, "25000000 01000000 08000000 00000000 00000000");
    session_until(&s, &outcome.calls, 1);
    g_assert_cmpint(outcome.result, ==, 0);
    g_assert_cmphex(vhu_frontend_backend_addr(s.front, 1), ==, 0x550000bb0000);
    session_close(&s);
    session_close_files(&files);
}

static void test_advise_without_fd_is_a_refusal(void)
{
    Outcome outcome;
    Session s;

    session_start(&s, NULL, PAGEFAULT);
    vhu_frontend_ask(s.front, VHOST_USER_POSTCOPY_ADVISE,
                     outcome_then(&outcome), NULL);
    script_expect(&s.back, "1c000000 01000000 00000000");
    script_send(&s.back, "1c000000 05000000 00000000");
    session_until(&s, &outcome.calls, 1);
    g_assert_cmpint(outcome.result, ==, -EREMOTEIO);
    session_close(&s);
}

#define TEST(name, fn) g_test_add_func("/frontend/" name, fn)

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    TEST("postcopy/takes-the-bases-and-acknowledges",
         test_postcopy_takes_the_bases_and_acknowledges);
    TEST("postcopy/by-slots", test_postcopy_by_slots);
    TEST("postcopy/advise-without-fd-is-a-refusal",
         test_advise_without_fd_is_a_refusal);
    return g_test_run();
}
