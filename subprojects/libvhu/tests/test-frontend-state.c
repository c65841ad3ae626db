/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Owns the tests of device state through a front-end session: both ways, whose
 * pipe it is, more than a pipe holds, and everything that goes wrong.
 */
#include "tests/session.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

/* REPLY_ACK, DEVICE_STATE */
#define STATE 0x80008u
/* More than a pipe holds. */
#define LONG_BYTES (300u * 1024u)

#define SAVE  "2a000000 01000000 08000000 00000000 00000000"
#define LOAD  "2a000000 01000000 08000000 01000000 00000000"
#define OURS  "2a000000 05000000 08000000 00010000 00000000"
#define CHECK "2b000000 01000000 00000000"
#define YES   "2b000000 05000000 08000000 00000000 00000000"
#define NO    "2b000000 05000000 08000000 01000000 00000000"

typedef struct Saved {
    unsigned calls;
    int result;
    uint8_t *data;
    size_t bytes;
    VhuError err;
} Saved;

static void on_saved(void *opaque, int result, const uint8_t *data,
                     size_t bytes, const VhuError *err)
{
    Saved *saved = opaque;

    saved->calls++;
    saved->result = result;
    saved->bytes = bytes;
    saved->err = *err;
    saved->data = g_malloc(bytes + 1);
    if (bytes) {
        memcpy(saved->data, data, bytes);
    }
}

static uint8_t *pattern(size_t bytes)
{
    uint8_t *data = g_malloc(bytes);

    for (size_t i = 0; i < bytes; i++) {
        data[i] = (uint8_t)(i * 7 + i / 256);
    }
    return data;
}

/* Write all of it while the session reads. */
static void write_all(Session *s, int fd, const uint8_t *data, size_t bytes)
{
    size_t done = 0;

    while (done < bytes) {
        ssize_t put = write(fd, data + done, MIN(bytes - done, 4096));

        g_assert_cmpint(put, >, 0);
        done += (size_t)put;
        session_turn(s);
    }
}

static void test_save(void)
{
    g_autofree uint8_t *data = pattern(LONG_BYTES);
    Saved saved = {0};
    Session s;
    int pipe_end;

    session_start(&s, NULL, STATE);
    g_assert_cmpint(vhu_frontend_save_state(s.front, 0, on_saved, &saved, NULL),
                    ==, 0);
    g_assert_cmpint(vhu_frontend_save_state(s.front, 0, on_saved, &saved, NULL),
                    ==, -EBUSY);
    script_expect(&s.back, SAVE);
    pipe_end = script_take_fd(&s.back);
    script_send(&s.back, OURS);
    write_all(&s, pipe_end, data, LONG_BYTES);
    script_expect_silence(&s.back);
    close(pipe_end);
    script_expect(&s.back, CHECK);
    g_assert_cmpuint(saved.calls, ==, 0);
    script_send(&s.back, YES);
    session_until(&s, &saved.calls, 1);
    g_assert_cmpint(saved.result, ==, 0);
    g_assert_cmpmem(saved.data, saved.bytes, data, LONG_BYTES);
    g_free(saved.data);
    session_close(&s);
}

static void test_save_of_nothing(void)
{
    Saved saved = {0};
    Session s;

    session_start(&s, NULL, STATE);
    vhu_frontend_save_state(s.front, 0, on_saved, &saved, NULL);
    script_expect(&s.back, SAVE);
    close(script_take_fd(&s.back));
    script_send(&s.back, OURS);
    script_expect(&s.back, CHECK);
    script_send(&s.back, YES);
    session_until(&s, &saved.calls, 1);
    g_assert_cmpint(saved.result, ==, 0);
    g_assert_cmpuint(saved.bytes, ==, 0);
    g_free(saved.data);
    session_close(&s);
}

/* The back end may bring a channel of its own: here a file, which epoll does
 * not take. */
static void test_save_from_a_file_of_the_back_end(void)
{
    g_autofree uint8_t *data = pattern(LONG_BYTES);
    Saved saved = {0};
    Session s;
    int file;

    session_start(&s, NULL, STATE);
    file = memfd_create("state", MFD_CLOEXEC);
    g_assert_cmpint(write(file, data, LONG_BYTES), ==, LONG_BYTES);
    lseek(file, 0, SEEK_SET);
    vhu_frontend_save_state(s.front, 0, on_saved, &saved, NULL);
    script_expect(&s.back, SAVE);
    script_send_fds(&s.back, "2a000000 05000000 08000000 00000000 00000000",
                    &file, 1);
    close(file);
    script_expect(&s.back, CHECK);
    script_send(&s.back, YES);
    session_until(&s, &saved.calls, 1);
    g_assert_cmpint(saved.result, ==, 0);
    g_assert_cmpmem(saved.data, saved.bytes, data, LONG_BYTES);
    g_free(saved.data);
    session_close(&s);
}

static void test_save_that_the_check_refuses(void)
{
    Saved saved = {0};
    Session s;

    session_start(&s, NULL, STATE);
    vhu_frontend_save_state(s.front, 0, on_saved, &saved, NULL);
    script_expect(&s.back, SAVE);
    close(script_take_fd(&s.back));
    script_send(&s.back, OURS NO);
    session_until(&s, &s.closed, 1);
    g_assert_cmpint(s.why.code, ==, EPROTO); /* before it was asked */
    g_assert_cmpint(saved.result, ==, -EPROTO);
    g_free(saved.data);
    session_close(&s);

    saved = (Saved){0};
    session_start(&s, NULL, STATE);
    vhu_frontend_save_state(s.front, 0, on_saved, &saved, NULL);
    script_expect(&s.back, SAVE);
    close(script_take_fd(&s.back));
    script_send(&s.back, OURS);
    script_expect(&s.back, CHECK);
    script_send(&s.back, NO);
    session_until(&s, &saved.calls, 1);
    g_assert_cmpint(saved.result, ==, -EREMOTEIO);
    g_assert_cmpuint(saved.bytes, ==, 0);
    g_assert_cmpuint(s.closed, ==, 0);
    g_free(saved.data);
    session_close(&s);
}

static void test_refused_transfer(void)
{
    Saved saved = {0};
    Session s;

    session_start(&s, NULL, STATE);
    vhu_frontend_save_state(s.front, 0, on_saved, &saved, NULL);
    script_expect(&s.back, SAVE);
    script_send(&s.back, "2a000000 05000000 08000000 05010000 00000000");
    session_until(&s, &saved.calls, 1);
    g_assert_cmpint(saved.result, ==, -EREMOTEIO);
    g_free(saved.data);

    /* And the next one may begin. */
    saved = (Saved){0};
    g_assert_cmpint(vhu_frontend_save_state(s.front, 0, on_saved, &saved, NULL),
                    ==, 0);
    vhu_frontend_close(s.front, NULL);
    g_assert_cmpint(saved.result, ==, -ECANCELED);
    g_free(saved.data);
    session_close(&s);
}

/* A back end that keeps the pipe open does not keep us for ever. */
static void test_stuck_transfer_ends_by_its_deadline(void)
{
    Saved saved = {0};
    Session s;
    int pipe_end;

    session_start(&s, NULL, STATE);
    vhu_frontend_save_state(s.front, 60, on_saved, &saved, NULL);
    script_expect(&s.back, SAVE);
    pipe_end = script_take_fd(&s.back);
    script_send(&s.back, OURS);
    write_all(&s, pipe_end, (const uint8_t *)"abc", 3);
    session_until(&s, &s.closed, 1);
    g_assert_cmpint(saved.result, ==, -ETIMEDOUT);
    g_assert_nonnull(strstr(saved.err.text, "(3 bytes so far)"));
    g_assert_true(g_str_has_prefix(
        saved.err.text, "front 'f0': device state not transferred within "));
    g_free(saved.data);
    close(pipe_end);
    session_close(&s);
}

static void test_lost_back_end_ends_the_transfer(void)
{
    Saved saved = {0};
    Session s;

    session_start(&s, NULL, STATE);
    vhu_frontend_save_state(s.front, 0, on_saved, &saved, NULL);
    script_expect(&s.back, SAVE);
    script_send(&s.back, OURS);
    session_turn(&s);
    script_close(&s.back);
    session_until(&s, &saved.calls, 1);
    g_assert_cmpint(saved.result, ==, -ECONNRESET);
    g_free(saved.data);
    session_close(&s);
}

/* ---- the other way ---- */

static void load(Session *s, const uint8_t *data, size_t bytes,
                 Outcome *outcome)
{
    const VhuStateData state = {.data = data, .bytes = bytes};

    g_assert_cmpint(
        vhu_frontend_load_state(s->front, &state, outcome_then(outcome), NULL),
        ==, 0);
    script_expect(&s->back, LOAD);
}

static void test_load(void)
{
    g_autofree uint8_t *data = pattern(LONG_BYTES);
    g_autofree uint8_t *got = g_malloc(LONG_BYTES + 4096);
    Outcome outcome;
    size_t have = 0;
    Session s;
    ssize_t n;
    int pipe_end;

    session_start(&s, NULL, STATE);
    load(&s, data, LONG_BYTES, &outcome);
    pipe_end = script_take_fd(&s.back);
    script_send(&s.back, OURS);
    session_turn(&s);
    while ((n = read(pipe_end, got + have, 4096)) > 0) {
        have += (size_t)n;
        session_turn(&s);
    }
    g_assert_cmpmem(got, have, data, LONG_BYTES);
    script_expect(&s.back, CHECK);
    script_send(&s.back, YES);
    session_until(&s, &outcome.calls, 1);
    g_assert_cmpint(outcome.result, ==, 0);
    close(pipe_end);
    session_close(&s);
}

/* The back end stops reading: no signal, and it is asked why. */
static void test_load_that_is_cut_short(void)
{
    g_autofree uint8_t *data = pattern(LONG_BYTES);
    Outcome outcome;
    Session s;

    session_start(&s, NULL, STATE);
    load(&s, data, LONG_BYTES, &outcome);
    script_send(&s.back, OURS);
    session_turn(&s);
    close(script_take_fd(&s.back));
    script_expect(&s.back, CHECK);
    script_send(&s.back, YES);
    session_until(&s, &outcome.calls, 1);
    g_assert_cmpint(outcome.result, ==, -EREMOTEIO);
    g_assert_nonnull(strstr(outcome.err.text, "closed the pipe after "));
    session_close(&s);
}

#define TEST(name, fn) g_test_add_func("/frontend/state/" name, fn)

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    TEST("save", test_save);
    TEST("save-of-nothing", test_save_of_nothing);
    TEST("save-from-a-file-of-the-back-end",
         test_save_from_a_file_of_the_back_end);
    TEST("save-that-the-check-refuses", test_save_that_the_check_refuses);
    TEST("refused-transfer", test_refused_transfer);
    TEST("stuck-transfer-ends-by-its-deadline",
         test_stuck_transfer_ends_by_its_deadline);
    TEST("lost-back-end-ends-the-transfer",
         test_lost_back_end_ends_the_transfer);
    TEST("load", test_load);
    TEST("load-that-is-cut-short", test_load_that_is_cut_short);
    return g_test_run();
}
