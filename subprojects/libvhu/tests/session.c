/* SPDX-License-Identifier: BSD-3-Clause */
/* Owns the session of the front end's tests and its negotiation in bytes. */
#include "tests/session.h"

#include "tests/rig.h"
#include "vhu/clock.h"

#include <poll.h>
#include <unistd.h>

#define WAIT_MS 10000
#define TURN_MS 5

void session_turn(void *opaque)
{
    Session *session = opaque;
    struct pollfd fd = {.fd = vhu_frontend_fd(session->front),
                        .events = POLLIN};

    if (poll(&fd, 1, TURN_MS) == 1) {
        vhu_frontend_dispatch(session->front);
    }
}

void session_until(Session *session, const unsigned *count, unsigned num)
{
    const int64_t deadline_ms = vhu_now_ms() + WAIT_MS;

    while (*count < num) {
        g_assert_cmpint(vhu_now_ms(), <, deadline_ms);
        session_turn(session);
    }
    g_assert_cmpuint(*count, ==, num);
}

static void on_ready(void *opaque, bool again)
{
    Session *session = opaque;

    session->ready++;
    session->again = again;
}

static void on_closed(void *opaque, const VhuError *err)
{
    Session *session = opaque;

    session->closed++;
    session->why = *err;
}

void session_open_config(Session *session, const VhuFrontendOps *ops,
                         const VhuFrontendConfig *config)
{
    VhuFrontendOps mine = ops ? *ops : (VhuFrontendOps){0};
    VhuError err = {0};

    *session = (Session){.fds_before = rig_count_fds(0)};
    session->channel.fd = -1;
    mine.ready = on_ready;
    mine.closed = on_closed;
    mine.opaque = session;
    session->front = vhu_frontend_new(config, &mine, &err);
    g_assert_cmpstr(err.text, ==, "");
    session->back.fd = -1;
    session_attach(session);
}

void session_open(Session *session, const VhuFrontendOps *ops, int timeout_ms)
{
    const VhuFrontendConfig config = {.name = "front 'f0'",
                                      .timeout_ms = timeout_ms};

    session_open_config(session, ops, &config);
}

void session_attach(Session *session)
{
    VhuError err = {0};
    int peer;
    int fd = rig_socketpair(&peer);

    script_close(&session->back);
    script_close(&session->channel);
    script_open(&session->back, peer, session_turn, session);
    g_assert_cmpint(vhu_frontend_attach(session->front, fd, &err), ==, 0);
}

void session_negotiate(Session *session, uint64_t protocol)
{
    Script *back = &session->back;
    g_autofree char *set = NULL;
    const bool acks = protocol & 0x8;
    uint64_t le = GUINT64_TO_LE(protocol);
    GString *hex = g_string_new(NULL);

    for (unsigned i = 0; i < sizeof(le); i++) {
        g_string_append_printf(hex, "%02x", ((uint8_t *)&le)[i]);
    }
    set = g_string_free(hex, FALSE);

    script_expect(back, "01000000 01000000 00000000");
    if (protocol) {
        /* VERSION_1, LOG_ALL, ACCESS_PLATFORM, RING_PACKED, bit 30 */
        script_send(back, "01000000 05000000 08000000 00000044 07000000");
        script_expect(back, "0f000000 01000000 00000000");
        script_send(back, "0f000000 05000000 08000000");
        script_send(back, set);
        script_expect(back, "10000000 01000000 08000000");
        script_expect(back, set);
    } else {
        script_send(back, "01000000 05000000 08000000 00000004 07000000");
    }
    if (protocol & 0x1) {
        script_expect(back, "11000000 01000000 00000000");
        script_send(back, "11000000 05000000 08000000 04000000 00000000");
    }
    if (protocol & 0x8000) {
        script_expect(back, "24000000 01000000 00000000");
        script_send(back, "24000000 05000000 08000000 20000000 00000000");
    }
    if (protocol & 0x20) {
        script_expect(back, acks ? "15000000 09000000 00000000"
                                 : "15000000 01000000 00000000");
        script_open(&session->channel, script_take_fd(back), session_turn,
                    session);
        if (acks) {
            script_send(back, "15000000 05000000 08000000 00000000 00000000");
        }
    }
    script_expect(back, acks ? "03000000 09000000 00000000"
                             : "03000000 01000000 00000000");
    if (acks) {
        script_send(back, "03000000 05000000 08000000 00000000 00000000");
    }
}

void session_start(Session *session, const VhuFrontendOps *ops,
                   uint64_t protocol)
{
    session_open(session, ops, 0);
    session_negotiate(session, protocol);
    session_until(session, &session->ready, 1);
}

void session_close(Session *session)
{
    vhu_frontend_free(session->front);
    script_close(&session->back);
    script_close(&session->channel);
    g_assert_cmpuint(rig_count_fds(0), ==, session->fds_before);
}

static void outcome_done(void *opaque, int result, VhuMessage *reply,
                         const VhuError *err)
{
    static unsigned order;
    Outcome *outcome = opaque;

    outcome->calls++;
    outcome->result = result;
    outcome->err = *err;
    outcome->order = ++order;
    if (reply) {
        outcome->had_reply = true;
        outcome->kind = reply->kind;
        outcome->u64 = reply->payload.u64;
    }
}

const VhuThen *outcome_then(Outcome *outcome)
{
    *outcome = (Outcome){.then = {.fn = outcome_done, .opaque = outcome}};
    return &outcome->then;
}
