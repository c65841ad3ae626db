/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Owns the tests of the front-end session's core: negotiation, the order of
 * requests and replies, blocking calls.
 */
#include "tests/session.h"

#include "vhu/clock.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

#define ACK(request) request " 05000000 08000000 00000000 00000000"

static void assert_contains(const char *text, const char *part)
{
    if (!strstr(text, part)) {
        g_error("'%s' lacks '%s'", text, part);
    }
}

/* ---- negotiation ---- */

static void test_negotiates_in_order(void)
{
    const VhuFrontendInfo *info;
    Session s;

    session_start(&s, NULL, SESSION_USUAL);
    info = vhu_frontend_info(s.front);
    g_assert_cmpint(info->phase, ==, VHU_FRONTEND_READY);
    g_assert_cmphex(info->features_offered, ==, 0x744000000);
    g_assert_cmphex(info->protocol_offered, ==, SESSION_USUAL);
    g_assert_cmphex(info->protocol_features, ==, SESSION_USUAL);
    g_assert_cmpuint(info->max_queues, ==, 4);
    g_assert_cmpuint(info->max_mem_slots, ==, 32);
    g_assert_false(s.again);
    session_close(&s);
}

static void test_back_end_without_protocol_features(void)
{
    const VhuFrontendInfo *info;
    Session s;

    session_start(&s, NULL, 0);
    info = vhu_frontend_info(s.front);
    g_assert_cmphex(info->protocol_features, ==, 0);
    g_assert_cmpuint(info->max_queues, ==, 0);
    g_assert_cmpuint(info->max_mem_slots, ==, 8);
    session_close(&s);
}

/* Bits 14 (no op for calls), 17, 20 (not asked for), 22 and 63 are offered
 * and dropped, as is 3, which is masked. */
static void test_takes_what_both_sides_do(void)
{
    const VhuFrontendConfig config = {.name = "f", .protocol_masked = 0x8};
    Session s;

    session_open_config(&s, NULL, &config);
    script_expect(&s.back, "01000000 01000000 00000000");
    script_send(&s.back, "01000000 05000000 08000000 00000044 07000000");
    script_expect(&s.back, "0f000000 01000000 00000000");
    script_send(&s.back, "0f000000 05000000 08000000 08425200 00000080");
    script_expect(&s.back, "10000000 01000000 08000000 00020000 00000000");
    script_expect(&s.back, "03000000 01000000 00000000");
    session_until(&s, &s.ready, 1);
    session_close(&s);
}

static int ignore_call(void *opaque, uint32_t index)
{
    (void)opaque;
    (void)index;
    return 0;
}

/* INBAND_NOTIFICATIONS needs BACKEND_REQ and REPLY_ACK: here the latter is
 * not offered. */
static void test_drops_a_feature_that_lacks_another(void)
{
    const VhuFrontendOps ops = {.vring_call = ignore_call};
    Session s;

    session_open(&s, &ops, 0);
    script_expect(&s.back, "01000000 01000000 00000000");
    script_send(&s.back, "01000000 05000000 08000000 00000044 07000000");
    script_expect(&s.back, "0f000000 01000000 00000000");
    script_send(&s.back, "0f000000 05000000 08000000 00420000 00000000");
    script_expect(&s.back, "10000000 01000000 08000000 00020000 00000000");
    session_close(&s);
}

static void test_missing_required_feature_is_told(void)
{
    const VhuFrontendConfig config = {.name = "vhost-user-blk 'disk0'",
                                      .protocol_required = 1ull << 9};
    Session s;

    session_open_config(&s, NULL, &config);
    script_expect(&s.back, "01000000 01000000 00000000");
    script_send(&s.back, "01000000 05000000 08000000 00000044 07000000");
    script_expect(&s.back, "0f000000 01000000 00000000");
    script_send(&s.back, "0f000000 05000000 08000000 08000000 00000000");
    session_until(&s, &s.closed, 1);
    g_assert_cmpint(s.why.code, ==, EOPNOTSUPP);
    g_assert_cmpstr(s.why.text, ==,
                    "vhost-user-blk 'disk0': needs "
                    "VHOST_USER_PROTOCOL_F_CONFIG, the back end offers "
                    "protocol features 0x8");
    g_assert_cmpuint(s.ready, ==, 0);
    session_close(&s);
}

static void test_nothing_may_be_asked_before_ready(void)
{
    VhuError err = {0};
    Outcome outcome;
    Session s;

    session_open(&s, NULL, 0);
    g_assert_cmpint(vhu_frontend_ask(s.front, VHOST_USER_GET_FEATURES,
                                     outcome_then(&outcome), &err),
                    ==, -ENOTCONN);
    g_assert_cmpstr(err.text, ==, "front 'f0': not negotiated yet");
    vhu_frontend_close(s.front, NULL);
    g_assert_cmpint(vhu_frontend_ask(s.front, VHOST_USER_GET_FEATURES,
                                     outcome_then(&outcome), &err),
                    ==, -ENOTCONN);
    g_assert_cmpstr(err.text, ==, "front 'f0': not connected");
    g_assert_cmpuint(outcome.calls, ==, 0);
    session_close(&s);
}

/* ---- order ---- */

static void test_requests_are_pipelined(void)
{
    Outcome status, set, features;
    Session s;

    session_start(&s, NULL, SESSION_USUAL | 1 << 16);
    vhu_frontend_ask(s.front, VHOST_USER_GET_STATUS, outcome_then(&status),
                     NULL);
    vhu_frontend_ask_u64(s.front, VHOST_USER_SET_STATUS, 0xf,
                         outcome_then(&set), NULL);
    vhu_frontend_ask(s.front, VHOST_USER_GET_FEATURES, outcome_then(&features),
                     NULL);
    g_assert_cmpuint(vhu_frontend_info(s.front)->pending, ==, 3);
    script_expect(&s.back, "28000000 01000000 00000000");
    script_expect(&s.back, "27000000 09000000 08000000 0f000000 00000000");
    script_expect(&s.back, "01000000 01000000 00000000");
    g_assert_cmpuint(status.calls + set.calls + features.calls, ==, 0);

    script_send(&s.back, "28000000 05000000 08000000 0b000000 00000000" ACK(
                             "27000000") ACK("01000000"));
    session_until(&s, &features.calls, 1);
    g_assert_cmpuint(status.u64, ==, 0xb);
    g_assert_cmpint(set.result, ==, 0);
    g_assert_cmpuint(status.order, <, set.order);
    g_assert_cmpuint(set.order, <, features.order);
    g_assert_cmpuint(vhu_frontend_info(s.front)->pending, ==, 0);
    session_close(&s);
}

/* Without REPLY_ACK a request without reply is done once it is sent, but not
 * before those that were asked before it. */
static void test_unanswered_requests_end_in_their_turn(void)
{
    Outcome features, owner;
    Session s;

    session_start(&s, NULL, 1 << 9);
    vhu_frontend_ask(s.front, VHOST_USER_GET_FEATURES, outcome_then(&features),
                     NULL);
    vhu_frontend_ask(s.front, VHOST_USER_SET_OWNER, outcome_then(&owner), NULL);
    script_expect(&s.back, "01000000 01000000 00000000"
                           "03000000 01000000 00000000");
    session_turn(&s);
    g_assert_cmpuint(owner.calls, ==, 0);
    script_send(&s.back, ACK("01000000"));
    session_until(&s, &owner.calls, 1);
    g_assert_cmpuint(features.order, <, owner.order);
    g_assert_false(owner.had_reply);
    session_close(&s);
}

static void test_no_callback_from_inside_an_operation(void)
{
    Outcome outcome;
    Session s;

    session_start(&s, NULL, 1 << 9);
    outcome_then(&outcome);
    outcome.then.timeout_ms = 60000; /* it does not wait for that */
    g_assert_cmpint(
        vhu_frontend_ask(s.front, VHOST_USER_SET_OWNER, &outcome.then, NULL),
        ==, 0);
    g_assert_cmpuint(outcome.calls, ==, 0);
    session_until(&s, &outcome.calls, 1);
    session_close(&s);
}

/* More than a socket's buffer of requests, then read: none is lost, none
 * overtakes another, and the session goes on. */
static void test_slow_reader_gets_everything(void)
{
    enum { REQUESTS = 4000 };
    const VhuConfigArea area = {.size = 4096};
    Outcome last;
    Session s;

    session_start(&s, NULL, 1 << 9);
    outcome_then(&last);
    for (unsigned i = 0; i < REQUESTS; i++) {
        const VhuThen *then = i == REQUESTS - 1 ? &last.then : NULL;
        VhuConfigArea mine = area;

        memcpy(mine.data, &i, sizeof(i));
        g_assert_cmpint(vhu_frontend_set_config(s.front, &mine, then, NULL), ==,
                        0);
    }
    g_assert_cmpuint(vhu_frontend_info(s.front)->counters.requests, <,
                     REQUESTS);
    for (unsigned i = 0; i < REQUESTS; i++) {
        g_autofree uint8_t *bytes =
            script_receive(&s.back, 12 + 12 + area.size);

        g_assert_cmpmem(bytes + 24, sizeof(i), &i, sizeof(i));
    }
    session_until(&s, &last.calls, 1);
    g_assert_cmpint(last.result, ==, 0);
    session_close(&s);
}

static void test_pending_requests_are_bounded(void)
{
    VhuError err = {0};
    Session s;
    int rc = 0;
    unsigned i;

    session_start(&s, NULL, SESSION_USUAL);
    for (i = 0; rc == 0; i++) {
        rc = vhu_frontend_ask(s.front, VHOST_USER_SET_OWNER, NULL, &err);
    }
    g_assert_cmpint(rc, ==, -ENOBUFS);
    g_assert_cmpuint(i, ==, VHU_FRONTEND_MAX_PENDING + 1);
    session_close(&s);
}

static void test_silent_back_end_ends_negotiation(void)
{
    Session s;

    session_open(&s, NULL, 30);
    session_until(&s, &s.closed, 1);
    g_assert_cmpint(s.why.code, ==, ETIMEDOUT);
    assert_contains(s.why.text,
                    "front 'f0': GET_FEATURES not answered within ");
    g_assert_cmpuint(s.ready, ==, 0);
    session_close(&s);
}

/* ---- blocking calls ---- */

static void test_connect_fails_with_a_reason(void)
{
    const VhuFrontendConfig config = {.name = "f"};
    VhuFrontend *front = vhu_frontend_new(&config, NULL, NULL);
    g_autofree char *long_path = g_strnfill(200, 'x');
    VhuError err = {0};

    g_assert_cmpint(vhu_frontend_connect(front, "/nonexistent/socket", &err),
                    ==, -ENOENT);
    assert_contains(err.text, "f: connecting to '/nonexistent/socket': ");
    g_assert_cmpint(vhu_frontend_connect(front, long_path, &err), ==,
                    -ENAMETOOLONG);
    g_assert_cmpint(vhu_frontend_wait_ready(front, &err), ==, -ENOTCONN);
    vhu_frontend_free(front);
}

static gpointer answer_thread(gpointer data)
{
    Script *back = data;

    script_expect(back, "01000000 01000000 00000000");
    script_send(back, "01000000 05000000 08000000 00000004 01000000");
    script_expect(back, "03000000 01000000 00000000");
    script_expect(back, "01000000 01000000 00000000");
    script_send(back, "01000000 05000000 08000000 2a000000 00000000");
    script_expect(back, "01000000 01000000 00000000");
    script_close(back);
    return NULL;
}

static void doze(void *opaque)
{
    (void)opaque;
    g_thread_yield();
}

static void test_blocking_calls_wait(void)
{
    const VhuMessage request = {.request = VHOST_USER_GET_FEATURES};
    VhuError err = {0};
    VhuMessage reply;
    GThread *thread;
    Session s;

    session_open(&s, NULL, 0);
    s.back.turn = doze;
    thread = g_thread_new("back end", answer_thread, &s.back);
    g_assert_cmpint(vhu_frontend_wait_ready(s.front, &err), ==, 0);
    g_assert_cmpint(vhu_frontend_call(s.front, &request, &reply, &err), ==, 0);
    g_assert_cmpuint(reply.payload.u64, ==, 42);
    g_assert_cmpint(vhu_frontend_call(s.front, &request, NULL, &err), ==,
                    -ECONNRESET);
    g_assert_cmpint(err.code, ==, ECONNRESET);
    g_thread_join(thread);
    session_close(&s);
}

#define ADD(name, fn) g_test_add_func("/frontend/" name, fn)

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    ADD("negotiation/in-order", test_negotiates_in_order);
    ADD("negotiation/without-protocol-features",
        test_back_end_without_protocol_features);
    ADD("negotiation/takes-what-both-sides-do", test_takes_what_both_sides_do);
    ADD("negotiation/drops-a-feature-that-lacks-another",
        test_drops_a_feature_that_lacks_another);
    ADD("negotiation/missing-required-feature-is-told",
        test_missing_required_feature_is_told);
    ADD("negotiation/nothing-may-be-asked-before",
        test_nothing_may_be_asked_before_ready);
    ADD("negotiation/silent-back-end-ends-it",
        test_silent_back_end_ends_negotiation);
    ADD("order/requests-are-pipelined", test_requests_are_pipelined);
    ADD("order/unanswered-requests-end-in-their-turn",
        test_unanswered_requests_end_in_their_turn);
    ADD("order/no-callback-from-inside-an-operation",
        test_no_callback_from_inside_an_operation);
    ADD("order/slow-reader-gets-everything", test_slow_reader_gets_everything);
    ADD("order/pending-requests-are-bounded",
        test_pending_requests_are_bounded);
    ADD("blocking/connect-fails-with-a-reason",
        test_connect_fails_with_a_reason);
    ADD("blocking/calls-wait", test_blocking_calls_wait);
    return g_test_run();
}
