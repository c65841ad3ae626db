/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Owns the tests of every way a request of a front-end session can end, and
 * what that means for the others and the connection.
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

typedef struct Ending {
    const char *name;
    const char *reply; /* to GET_CONFIG of 8 bytes at 4 */
    int result;
    bool goes_on;
    const char *text;
} Ending;

/* clang-format off */
static const Ending endings[] = {
    {.name = "answered",
     .reply = "18000000 05000000 14000000 04000000 08000000 00000000"
              "01020304 05060708",
     .result = 0, .goes_on = true, .text = ""},
    /* An error: no payload at all, or an area of size 0. */
    {.name = "no-payload-refuses",
     .reply = "18000000 05000000 00000000",
     .result = -EREMOTEIO, .goes_on = true,
     .text = "f: GET_CONFIG of 8 bytes at 4 refused by the back end"},
    {.name = "area-of-0-bytes-refuses",
     .reply = "18000000 05000000 0c000000 04000000 00000000 00000000",
     .result = -EREMOTEIO, .goes_on = true,
     .text = "f: GET_CONFIG of 8 bytes at 4 refused by the back end"},
    /* Other sizes than were asked for. */
    {.name = "shorter-than-asked",
     .reply = "18000000 05000000 10000000 04000000 04000000 00000000 01020304",
     .result = -EBADMSG,
     .text = "f: GET_CONFIG reply is 4 bytes at 4, expected 8 at 4"},
    {.name = "other-offset",
     .reply = "18000000 05000000 14000000 00000000 08000000 00000000"
              "01020304 05060708",
     .result = -EBADMSG,
     .text = "f: GET_CONFIG reply is 8 bytes at 0, expected 8 at 4"},
    /* Malformed by itself: says 8, brings 4; size beyond all. */
    {.name = "fewer-bytes-than-it-says",
     .reply = "18000000 05000000 10000000 04000000 08000000 00000000 01020304",
     .result = -EBADMSG, .text = "GET_CONFIG"},
    {.name = "size-beyond-all",
     .reply = "18000000 05000000 ffffff7f",
     .result = -EBADMSG, .text = "GET_CONFIG"},
    /* No reply flag; version 2; a request nobody knows. */
    {.name = "no-reply-flag",
     .reply = "18000000 01000000 00000000", .result = -EBADMSG, .text = "f: "},
    {.name = "version-2",
     .reply = "18000000 06000000 00000000", .result = -EBADMSG, .text = "f: "},
    {.name = "unknown-number",
     .reply = "e7030000 05000000 00000000", .result = -EBADMSG, .text = "999"},
    /* The reply to something else. */
    {.name = "reply-to-another-request",
     .reply = "01000000 05000000 08000000 00000000 00000000",
     .result = -EPROTO,
     .text = "f: GET_CONFIG was answered by a reply to GET_FEATURES"},
    /* Gone, between two messages and inside one. */
    {.name = "gone-between-messages",
     .reply = NULL, .result = -ECONNRESET, .text = "f: "},
    {.name = "gone-inside-a-message",
     .reply = "18000000 05", .result = -ECONNRESET, .text = "inside a message"},
};
/* clang-format on */

static void test_ending(gconstpointer data)
{
    const Ending *ending = data;
    const VhuFrontendConfig config = {.name = "f"};
    Outcome first, second;
    Session s;

    session_open_config(&s, NULL, &config);
    session_negotiate(&s, SESSION_USUAL);
    session_until(&s, &s.ready, 1);
    vhu_frontend_get_config(s.front, 4, 8, outcome_then(&first), NULL);
    vhu_frontend_ask(s.front, VHOST_USER_SET_OWNER, outcome_then(&second),
                     NULL);
    script_expect(&s.back, "18000000 01000000 14000000 04000000 08000000"
                           "00000000 00000000 00000000"
                           "03000000 09000000 00000000");
    if (ending->reply) {
        script_send(&s.back, ending->reply);
    }
    if (ending->goes_on) {
        script_send(&s.back, ACK("03000000"));
    } else if (ending->result == -ECONNRESET) {
        script_close(&s.back);
    }
    session_until(&s, &second.calls, 1);
    g_assert_cmpuint(first.calls, ==, 1);
    g_assert_cmpint(first.result, ==, ending->result);
    g_assert_cmpint(first.err.code, ==, -ending->result);
    g_assert_cmpint(second.result, ==, ending->goes_on ? 0 : ending->result);
    assert_contains(first.err.text, ending->text);
    g_assert_cmpuint(s.closed, ==, ending->goes_on ? 0 : 1);
    session_close(&s);
}

static void test_non_zero_ack_is_a_refusal(void)
{
    Outcome outcome;
    Session s;

    session_start(&s, NULL, SESSION_USUAL);
    vhu_frontend_ask(s.front, VHOST_USER_SET_OWNER, outcome_then(&outcome),
                     NULL);
    script_expect(&s.back, "03000000 09000000 00000000");
    script_send(&s.back, "03000000 05000000 08000000 07000000 00000000");
    session_until(&s, &outcome.calls, 1);
    g_assert_cmpint(outcome.result, ==, -EREMOTEIO);
    g_assert_cmpuint(outcome.err.value, ==, 7);
    g_assert_cmpuint(outcome.err.request, ==, VHOST_USER_SET_OWNER);
    g_assert_cmpstr(outcome.err.text, ==,
                    "front 'f0': SET_OWNER refused by the back end (7)");
    g_assert_cmpuint(s.closed, ==, 0);
    g_assert_cmpuint(vhu_frontend_info(s.front)->counters.refused, ==, 1);
    session_close(&s);
}

static void test_unasked_reply_ends_the_connection(void)
{
    Session s;

    session_start(&s, NULL, SESSION_USUAL);
    script_send(&s.back, ACK("03000000"));
    session_until(&s, &s.closed, 1);
    g_assert_cmpint(s.why.code, ==, EPROTO);
    g_assert_cmpstr(s.why.text, ==,
                    "front 'f0': reply to SET_OWNER, which was not asked");
    g_assert_cmpuint(vhu_frontend_info(s.front)->counters.protocol_errors, ==,
                     1);
    session_close(&s);
}

/* A reply to a request that is queued and not sent is none either. */
static void test_reply_before_the_request_is_wrong(void)
{
    Session s;

    session_start(&s, NULL, 1 << 12 | 1 << 3);
    vhu_frontend_set_inflight(s.front, 1, 64, NULL, NULL);
    vhu_frontend_ask(s.front, VHOST_USER_GET_FEATURES, NULL, NULL);
    script_send(&s.back, ACK("01000000"));
    session_until(&s, &s.closed, 1);
    g_assert_cmpint(s.why.code, ==, EPROTO);
    session_close(&s);
}

static void test_deadline_names_request_peer_and_time(void)
{
    const int64_t start_ms = vhu_now_ms();
    Outcome patient, outcome;
    Session s;

    session_start(&s, NULL, SESSION_USUAL);
    outcome_then(&patient);
    patient.then.timeout_ms = 60000;
    vhu_frontend_ask(s.front, VHOST_USER_GET_FEATURES, &patient.then, NULL);
    outcome_then(&outcome);
    outcome.then.timeout_ms = 50;
    vhu_frontend_stop_vring(s.front, 2, &outcome.then, NULL);
    g_assert_cmpint(vhu_frontend_deadline_ms(s.front), >=, start_ms + 50);
    g_assert_cmpint(vhu_frontend_deadline_ms(s.front), <, start_ms + 5000);
    session_until(&s, &outcome.calls, 1);
    g_assert_cmpint(vhu_now_ms(), >=, start_ms + 50);
    g_assert_cmpint(outcome.result, ==, -ETIMEDOUT);
    g_assert_cmpuint(outcome.err.request, ==, VHOST_USER_GET_VRING_BASE);
    g_assert_cmpuint(outcome.err.value, >=, 50);
    assert_contains(outcome.err.text,
                    "front 'f0': GET_VRING_BASE not answered within ");
    g_assert_cmpint(patient.result, ==, -ETIMEDOUT);
    g_assert_cmpuint(s.closed, ==, 1);
    g_assert_cmpuint(vhu_frontend_info(s.front)->counters.timeouts, ==, 1);
    g_assert_cmpint(vhu_frontend_deadline_ms(s.front), ==, -1);
    script_expect(&s.back, "01000000 01000000 00000000"
                           "0b000000 01000000 08000000 02000000 00000000");
    script_expect_end(&s.back);
    session_close(&s);
}

/* What is not negotiated is not sent; what is not legal neither. */
static void test_refuses_to_send_what_is_wrong(void)
{
    const VhuMessage no_fd = {.request = VHOST_USER_SET_LOG_FD};
    const VhuMessage unknown = {.request = 77};
    VhuError err = {0};
    Session s;

    session_start(&s, NULL, SESSION_USUAL);
    g_assert_cmpint(
        vhu_frontend_ask(s.front, VHOST_USER_GET_STATUS, NULL, &err), ==,
        -EOPNOTSUPP);
    assert_contains(err.text, "VHOST_USER_PROTOCOL_F_STATUS");
    g_assert_cmpint(err.code, ==, EOPNOTSUPP);
    g_assert_cmpint(vhu_frontend_request(s.front, &no_fd, NULL, &err), ==,
                    -EINVAL);
    g_assert_cmpint(vhu_frontend_request(s.front, &unknown, NULL, &err), ==,
                    -EINVAL);
    g_assert_cmpint(vhu_frontend_get_config(s.front, 0, 0, NULL, &err), ==,
                    -EINVAL);
    g_assert_cmpint(vhu_frontend_get_config(s.front, 0, 4097, NULL, &err), ==,
                    -EINVAL);
    script_expect_silence(&s.back);
    session_close(&s);
}

/* ---- closing ---- */

static void test_close_ends_what_is_pending(void)
{
    VhuError why = {.code = EINVAL, .text = "unplugged"};
    Outcome outcome;
    Session s;

    session_start(&s, NULL, SESSION_USUAL);
    vhu_frontend_ask(s.front, VHOST_USER_GET_FEATURES, outcome_then(&outcome),
                     NULL);
    vhu_frontend_close(s.front, &why);
    g_assert_cmpint(outcome.result, ==, -ECANCELED);
    g_assert_cmpstr(outcome.err.text, ==, "front 'f0': closed: unplugged");
    g_assert_cmpuint(s.closed, ==, 1);
    g_assert_cmpint(s.why.code, ==, ECANCELED);
    session_close(&s);
}

static void close_session(void *opaque, int result, VhuMessage *reply,
                          const VhuError *err)
{
    (void)result;
    (void)reply;
    (void)err;
    vhu_frontend_close(opaque, NULL);
}

static void test_close_from_a_callback(void)
{
    Outcome outcome;
    Session s;
    VhuThen then;

    session_start(&s, NULL, SESSION_USUAL);
    then = (VhuThen){.fn = close_session, .opaque = s.front};
    vhu_frontend_ask(s.front, VHOST_USER_GET_FEATURES, &then, NULL);
    vhu_frontend_ask(s.front, VHOST_USER_SET_OWNER, outcome_then(&outcome),
                     NULL);
    script_send(&s.back, ACK("01000000") ACK("03000000"));
    session_until(&s, &s.closed, 1);
    g_assert_cmpint(outcome.result, ==, -ECANCELED);
    session_close(&s);
}

static void test_a_second_socket_is_refused(void)
{
    VhuError err = {0};
    Session s;
    int ends[2];

    session_start(&s, NULL, SESSION_USUAL);
    g_assert_cmpint(pipe(ends), ==, 0);
    g_assert_cmpint(vhu_frontend_attach(s.front, ends[0], &err), ==, -EISCONN);
    close(ends[1]);
    vhu_frontend_close(s.front, NULL);

    /* And something that is no socket, too. */
    g_assert_cmpint(pipe(ends), ==, 0);
    g_assert_cmpint(vhu_frontend_attach(s.front, ends[0], &err), <, 0);
    close(ends[1]);
    session_close(&s);
}

#define ADD(name, fn) g_test_add_func("/frontend/" name, fn)

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    for (unsigned i = 0; i < G_N_ELEMENTS(endings); i++) {
        g_autofree char *path =
            g_strdup_printf("/frontend/ending/%s", endings[i].name);

        g_test_add_data_func(path, &endings[i], test_ending);
    }
    ADD("ending/non-zero-ack-is-a-refusal", test_non_zero_ack_is_a_refusal);
    ADD("ending/unasked-reply", test_unasked_reply_ends_the_connection);
    ADD("ending/reply-before-the-request",
        test_reply_before_the_request_is_wrong);
    ADD("ending/deadline-names-request-peer-and-time",
        test_deadline_names_request_peer_and_time);
    ADD("ending/refuses-to-send-what-is-wrong",
        test_refuses_to_send_what_is_wrong);
    ADD("closing/ends-what-is-pending", test_close_ends_what_is_pending);
    ADD("closing/from-a-callback", test_close_from_a_callback);
    ADD("closing/a-second-socket-is-refused", test_a_second_socket_is_refused);
    return g_test_run();
}
