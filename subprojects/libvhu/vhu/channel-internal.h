/* SPDX-License-Identifier: BSD-3-Clause */
/* What the two halves of a channel share. */
#ifndef VHU_CHANNEL_INTERNAL_H
#define VHU_CHANNEL_INTERNAL_H

#include "vhu/channel.h"

/* A message, or the rest of one, that the socket did not take yet. */
typedef struct VhuOutgoing {
    struct VhuOutgoing *next;
    uint32_t size; /* bytes */
    uint32_t sent; /* of them; the fds go with the first */
    uint32_t num_fds;
    int fds[VHU_MAX_FDS]; /* duplicates, ours */
    uint8_t bytes[];
} VhuOutgoing;

struct VhuChannel {
    int fd;
    bool requester;
    VhuWire wire;
    VhuTraceFn trace;
    void *trace_opaque;

    /* The message being received. */
    VhuHeader header; /* once have reached VHU_HEADER_BYTES */
    uint32_t have;    /* bytes of it */
    uint32_t num_fds; /* that came with its first byte */
    int fds[VHU_MAX_FDS];
    uint8_t bytes[VHU_HEADER_BYTES + VHU_MAX_PAYLOAD_BYTES];

    /* What is still to be sent, oldest first. */
    VhuOutgoing *queue;
    VhuOutgoing *queue_last; /* while there is a queue */
    uint32_t queued_bytes;
    uint32_t queued_fds;

    /* The errors that ended it, code 0: none. */
    VhuError receive_err;
    VhuError send_err;
};

/** Close fds and forget them. */
void vhu_channel_close_fds(int *fds, uint32_t *num_fds);

/** Free what is queued with its fds. */
void vhu_channel_drop_queue(VhuChannel *channel);

#endif
