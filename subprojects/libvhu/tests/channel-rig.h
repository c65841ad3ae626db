/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A channel whose peer is the test itself, byte by byte, and faults between
 * the channel and the kernel: sendmsg and recvmsg of this program are ours.
 */
#ifndef CHANNEL_RIG_H
#define CHANNEL_RIG_H

#include "vhu/channel.h"

#include <sys/types.h>

typedef struct Rig {
    VhuChannel *channel;
    int peer;           /* the other end, blocking */
    unsigned fds_first; /* open in this process before the rig */
} Rig;

/* What the next calls do; reset with each rig. Sizes of 0: no limit. */
typedef struct Faults {
    size_t receive_most; /* bytes a recvmsg returns at most */
    size_t send_most;    /* bytes a sendmsg takes at most */
    bool send_limited;   /* then after send_budget bytes the socket is full */
    size_t send_budget;
    unsigned refusals;   /* sendmsg calls that find the socket full */
    unsigned interrupts; /* calls that fail with EINTR, both ways */
    int send_errno;      /* every sendmsg fails with it */
} Faults;

extern Faults faults;

/* SET_MEM_TABLE of two regions, in hex: 84 bytes, to go with two fds. */
#define TABLE_BYTES 84u
extern const char table_hex[];

/** Open a channel; @requester as of vhu_channel_new. */
Rig rig_open(const VhuWire *wire, bool requester);

/** Free channel and peer, and check that no fd of theirs is left. */
void rig_close(Rig *rig);

/** Fds open in this process. */
unsigned open_fds(void);

/** An fd of its own to pass around, closed by the caller. */
int spare_fd(void);

/** Close two fds. */
void close_both(const int *fds);

/** Whether two fds are of the same file. */
bool same_file(int fd, int other);

/** The peer sends bytes and, with the first, fds; all of it must go out. */
void peer_send(const Rig *rig, const void *bytes, size_t size, const int *fds,
               uint32_t num_fds);

/**
 * The peer receives at most @size bytes with their fds.
 * @fds: room for VHU_MAX_FDS; NULL: none may come
 * Returns the bytes, 0 if the channel is closed, -1 if none is there.
 */
ssize_t peer_receive(const Rig *rig, void *bytes, size_t size, int *fds,
                     uint32_t *num_fds);

#endif
