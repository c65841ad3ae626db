/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The other side of a vhost-user socket, played by the test: bytes written by
 * hand in hex ("01000000 05000000 ..."), numbers little endian, with fds.
 */
#ifndef VHU_TESTS_SCRIPT_H
#define VHU_TESTS_SCRIPT_H

#include <glib.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define SCRIPT_MAX_FDS 64

typedef struct Script {
    int fd;
    void (*turn)(void *opaque); /* lets the other side work, waits a little */
    void *opaque;
    int fds[SCRIPT_MAX_FDS]; /* received and not taken */
    unsigned num_fds;
} Script;

/** Play on a connected socket. @fd: owned by the script. */
void script_open(Script *script, int fd, void (*turn)(void *opaque),
                 void *opaque);

/** Close the socket and the fds not taken. Harmless when closed. */
void script_close(Script *script);

/** Send bytes. */
void script_send(Script *script, const char *hex);

/** Send bytes, and fds with the first of them. */
void script_send_fds(Script *script, const char *hex, const int *fds,
                     unsigned num_fds);

/** Receive exactly these bytes within 10 s. */
void script_expect(Script *script, const char *hex);

/** Receive that many bytes. Returns them; g_free it. */
uint8_t *script_receive(Script *script, size_t bytes);

/** Take the oldest fd that was received; the caller closes it. */
int script_take_fd(Script *script);

/** Check that nothing more was sent, after turning a few times. */
void script_expect_silence(Script *script);

/** Wait until the other side has closed the socket, without a word. */
void script_expect_end(Script *script);

#endif
