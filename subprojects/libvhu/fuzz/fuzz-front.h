/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What the two halves of the back end's fuzzer share: the device served
 * (fuzz-backend.c) and the front end with its guest (fuzz-front.c).
 */
#ifndef VHU_FUZZ_FRONT_H
#define VHU_FUZZ_FRONT_H

#include "vhu/backend.h"

#define FUZZ_MEMORY_BYTES (64u * 1024u)
#define FUZZ_USER_BASE    0x10000000ULL
#define FUZZ_NUM_QUEUES   2u
#define FUZZ_QUEUE_SIZE   64u

/* The first byte of each step of a program, modulo their number. */
enum {
    FRONT_MESSAGE,
    FRONT_NEGOTIATE,
    FRONT_SHARE_MEMORY,
    FRONT_START_RING,
    FRONT_OFFER,
    FRONT_WRITE_MEMORY,
    FRONT_KICK,
    FRONT_STOP_RING,
    FRONT_SET_INFLIGHT,
    FRONT_SET_LOG,
    FRONT_UPDATE_IOTLB,
    FRONT_OPEN_REQUESTS,
    FRONT_MOVE_STATE,
    FRONT_ANSWER,
    FRONT_TRUNCATE,
    FRONT_RECONNECT,
    FRONT_ACTIONS,
};

typedef struct Input {
    const uint8_t *data;
    size_t left;
} Input;

/* Where the guest's driver stands in a ring. */
typedef struct FuzzRing {
    uint32_t size;
    uint16_t avail; /* split: index; packed: position */
    bool wrap;
} FuzzRing;

typedef struct Front {
    Input in;
    VhuLoop *loop;
    VhuBackend *backend;
    int socket;   /* our end of the connection */
    int requests; /* our end of the back-end channel, or -1 */
    int memory_fd;
    int kick_fds[FUZZ_NUM_QUEUES];
    FuzzRing rings[FUZZ_NUM_QUEUES];
    bool packed;
    uint64_t ring_base; /* in the address space SET_VRING_ADDR has */
} Front;

/** The next @bytes (at most 8) of the input; past its end zeroes. */
uint64_t fuzz_take(Input *in, size_t bytes);

/** Make memory and kicks, and connect. */
void front_set_up(Front *front);

/** Close everything. */
void front_tear_down(Front *front);

/** Do one thing the input says, and let the back end react. */
void front_act(Front *front);

#endif
