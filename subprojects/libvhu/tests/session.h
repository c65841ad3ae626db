/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A front-end session under test, with the back end played by the test.
 * Owners' callbacks are written down.
 */
#ifndef VHU_TESTS_SESSION_H
#define VHU_TESTS_SESSION_H

#include "tests/script.h"
#include "vhu/frontend.h"

/* What the back end of session_negotiate offers: bits 0 MQ, 3 REPLY_ACK,
 * 5 BACKEND_REQ, 9 CONFIG, 15 CONFIGURE_MEM_SLOTS. */
#define SESSION_USUAL 0x8229u

typedef struct Session {
    VhuFrontend *front;
    Script back;    /* the back end's end of the socket */
    Script channel; /* its end of the back-end channel; fd -1: none */
    unsigned ready;
    bool again;
    unsigned closed;
    VhuError why;
    unsigned fds_before;
} Session;

/** Make the session and attach it to a script. @ops: what is not ready,
 * closed and opaque is taken over; opaque is the Session. May be NULL.
 * @timeout_ms: of requests, 0: the default. */
void session_open(Session *session, const VhuFrontendOps *ops, int timeout_ms);

/** The same with everything of the configuration. */
void session_open_config(Session *session, const VhuFrontendOps *ops,
                         const VhuFrontendConfig *config);

/** A new socket for the session: attach, and play. */
void session_attach(Session *session);

/** Negotiate byte by byte, to the end of SET_OWNER. @protocol: offered, at
 * most SESSION_USUAL and bits that need no message; 0: no protocol features
 * at all. */
void session_negotiate(Session *session, uint64_t protocol);

/** Open, negotiate, and wait until it is ready. */
void session_start(Session *session, const VhuFrontendOps *ops,
                   uint64_t protocol);

/** Free everything and check that no fd is left. */
void session_close(Session *session);

/** Turn the session until @count is @num; fails the test after 10 s. */
void session_until(Session *session, const unsigned *count, unsigned num);

/** Turn once, waiting a little. */
void session_turn(void *session);

/* An operation's end, written down. */
typedef struct Outcome {
    VhuThen then;
    unsigned calls;
    int result;
    bool had_reply;
    VhuPayload kind;
    uint64_t u64;
    VhuError err;
    unsigned order; /* among all outcomes of the process, from 1 */
} Outcome;

/** Prepare one. Returns what to give to the operation. */
const VhuThen *outcome_then(Outcome *outcome);

#endif
