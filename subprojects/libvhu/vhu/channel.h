/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * One vhost-user socket: whole messages with their fds, in either role. The
 * socket is non-blocking; what cannot be sent at once is queued, bounded.
 */
#ifndef VHU_CHANNEL_H
#define VHU_CHANNEL_H

#include "vhu/clock.h"
#include "vhu/message.h"

typedef struct VhuChannel VhuChannel;

/* What a channel queues for a peer that does not read; then it is an error. */
#define VHU_CHANNEL_QUEUE_BYTES (256u * 1024u)
#define VHU_CHANNEL_QUEUE_FDS   64u

/* Called with every whole message that passes (sent: true if by us). */
typedef void (*VhuTraceFn)(void *opaque, bool sent, const VhuWire *wire,
                           const VhuMessage *msg);

/**
 * Make a channel of a connected stream socket.
 * @fd:        the socket; the channel owns it from here on, even on failure;
 *             set non-blocking and close-on-exec
 * @direction: who sends the requests on this socket
 * @requester: true if that is us (we receive replies)
 * @err:       may be NULL
 * Returns the channel, or NULL. Any thread; a channel is used by one thread
 * at a time.
 */
VHU_API VhuChannel *vhu_channel_new(int fd, VhuDirection direction,
                                    bool requester, VhuError *err);

/**
 * Close the socket, drop what is queued or half received with its fds.
 * @channel: may be NULL
 */
VHU_API void vhu_channel_free(VhuChannel *channel);

/** The socket, borrowed. */
VHU_API int vhu_channel_fd(const VhuChannel *channel);

/** The wire parameters, to be updated as features are negotiated. */
VHU_API VhuWire *vhu_channel_wire(VhuChannel *channel);

/** Install a trace of whole messages; @fn NULL: none. */
VHU_API void vhu_channel_set_trace(VhuChannel *channel, VhuTraceFn fn,
                                   void *opaque);

/**
 * Receive one whole message if it is there.
 * @channel: the channel
 * @msg:     filled; its fds belong to the caller (close-on-exec)
 * @err:     may be NULL
 * Returns 1 with a message, 0 if none is complete yet, -ECONNRESET if the
 * peer closed (text says whether inside a message), -EPROTO for a message
 * that is not legal (fds anywhere but with the first byte, too many, payload
 * malformed), another -errno of recvmsg. After an error the channel is dead
 * and repeats it; no fd is leaked.
 * vhost-user, "Communication".
 */
VHU_API int vhu_channel_receive(VhuChannel *channel, VhuMessage *msg,
                                VhuError *err);

/**
 * Send one whole message; it may go out partly now, the rest when
 * vhu_channel_flush is called.
 * @channel: the channel
 * @msg:     fds are duplicated as needed: the caller keeps its own
 * @err:     may be NULL
 * Returns 0; -EINVAL if the message is not legal, or -ENOBUFS if the peer
 * does not read and the queue is full: nothing is sent and the channel stays
 * as it is; -EPIPE if the peer is gone or receiving has failed, or another
 * -errno of sendmsg: every later send fails alike, but what the peer sent
 * before can still be received.
 */
VHU_API int vhu_channel_send(VhuChannel *channel, const VhuMessage *msg,
                             VhuError *err);

/**
 * Send what is queued.
 * Returns 0 if all went out, 1 if some is left (wait for the socket to be
 * writable), or -errno.
 */
VHU_API int vhu_channel_flush(VhuChannel *channel, VhuError *err);

/** Whether something is queued: then wait for the socket to be writable. */
VHU_API bool vhu_channel_wants_write(const VhuChannel *channel);

/**
 * Like vhu_channel_receive, but wait.
 * @deadline_ms: CLOCK_MONOTONIC, milliseconds; -1: for ever
 * Returns 0 with a message, -ETIMEDOUT, or as vhu_channel_receive. Also
 * flushes. For tools and tests: it blocks.
 */
VHU_API int vhu_channel_wait(VhuChannel *channel, int64_t deadline_ms,
                             VhuMessage *msg, VhuError *err);

#endif
