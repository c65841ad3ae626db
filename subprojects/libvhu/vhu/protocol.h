/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The vhost-user protocol as data: every message and every protocol feature,
 * once. Codec, back end, front end, traces and the manual walk these tables;
 * nothing else in the tree declares the protocol.
 */
#ifndef VHU_PROTOCOL_H
#define VHU_PROTOCOL_H

#include "vhu/error.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Requests of the front end (vhost-user, "Front-end message types"). */
enum {
    VHOST_USER_GET_FEATURES = 1,
    VHOST_USER_SET_FEATURES = 2,
    VHOST_USER_SET_OWNER = 3,
    VHOST_USER_RESET_OWNER = 4,
    VHOST_USER_SET_MEM_TABLE = 5,
    VHOST_USER_SET_LOG_BASE = 6,
    VHOST_USER_SET_LOG_FD = 7,
    VHOST_USER_SET_VRING_NUM = 8,
    VHOST_USER_SET_VRING_ADDR = 9,
    VHOST_USER_SET_VRING_BASE = 10,
    VHOST_USER_GET_VRING_BASE = 11,
    VHOST_USER_SET_VRING_KICK = 12,
    VHOST_USER_SET_VRING_CALL = 13,
    VHOST_USER_SET_VRING_ERR = 14,
    VHOST_USER_GET_PROTOCOL_FEATURES = 15,
    VHOST_USER_SET_PROTOCOL_FEATURES = 16,
    VHOST_USER_GET_QUEUE_NUM = 17,
    VHOST_USER_SET_VRING_ENABLE = 18,
    VHOST_USER_SEND_RARP = 19,
    VHOST_USER_NET_SET_MTU = 20,
    VHOST_USER_SET_BACKEND_REQ_FD = 21,
    VHOST_USER_IOTLB_MSG = 22,
    VHOST_USER_SET_VRING_ENDIAN = 23,
    VHOST_USER_GET_CONFIG = 24,
    VHOST_USER_SET_CONFIG = 25,
    VHOST_USER_CREATE_CRYPTO_SESSION = 26,
    VHOST_USER_CLOSE_CRYPTO_SESSION = 27,
    VHOST_USER_POSTCOPY_ADVISE = 28,
    VHOST_USER_POSTCOPY_LISTEN = 29,
    VHOST_USER_POSTCOPY_END = 30,
    VHOST_USER_GET_INFLIGHT_FD = 31,
    VHOST_USER_SET_INFLIGHT_FD = 32,
    VHOST_USER_GPU_SET_SOCKET = 33,
    VHOST_USER_RESET_DEVICE = 34,
    VHOST_USER_VRING_KICK = 35,
    VHOST_USER_GET_MAX_MEM_SLOTS = 36,
    VHOST_USER_ADD_MEM_REG = 37,
    VHOST_USER_REM_MEM_REG = 38,
    VHOST_USER_SET_STATUS = 39,
    VHOST_USER_GET_STATUS = 40,
    VHOST_USER_GET_SHARED_OBJECT = 41,
    VHOST_USER_SET_DEVICE_STATE_FD = 42,
    VHOST_USER_CHECK_DEVICE_STATE = 43,
    VHOST_USER_GET_SHMEM_CONFIG = 44,
};

/* Requests of the back end (vhost-user, "Back-end message types"). */
enum {
    VHOST_USER_BACKEND_IOTLB_MSG = 1,
    VHOST_USER_BACKEND_CONFIG_CHANGE_MSG = 2,
    VHOST_USER_BACKEND_VRING_HOST_NOTIFIER_MSG = 3,
    VHOST_USER_BACKEND_VRING_CALL = 4,
    VHOST_USER_BACKEND_VRING_ERR = 5,
    VHOST_USER_BACKEND_SHARED_OBJECT_ADD = 6,
    VHOST_USER_BACKEND_SHARED_OBJECT_REMOVE = 7,
    VHOST_USER_BACKEND_SHARED_OBJECT_LOOKUP = 8,
    VHOST_USER_BACKEND_SHMEM_MAP = 9,
    VHOST_USER_BACKEND_SHMEM_UNMAP = 10,
};

/* Bit of the virtio features that offers protocol features. */
#define VHOST_USER_F_PROTOCOL_FEATURES 30

/* Protocol feature bits (vhost-user, "Protocol features"). */
enum {
    VHOST_USER_PROTOCOL_F_MQ = 0,
    VHOST_USER_PROTOCOL_F_LOG_SHMFD = 1,
    VHOST_USER_PROTOCOL_F_RARP = 2,
    VHOST_USER_PROTOCOL_F_REPLY_ACK = 3,
    VHOST_USER_PROTOCOL_F_MTU = 4,
    VHOST_USER_PROTOCOL_F_BACKEND_REQ = 5,
    VHOST_USER_PROTOCOL_F_CROSS_ENDIAN = 6,
    VHOST_USER_PROTOCOL_F_CRYPTO_SESSION = 7,
    VHOST_USER_PROTOCOL_F_PAGEFAULT = 8,
    VHOST_USER_PROTOCOL_F_CONFIG = 9,
    VHOST_USER_PROTOCOL_F_BACKEND_SEND_FD = 10,
    VHOST_USER_PROTOCOL_F_HOST_NOTIFIER = 11,
    VHOST_USER_PROTOCOL_F_INFLIGHT_SHMFD = 12,
    VHOST_USER_PROTOCOL_F_RESET_DEVICE = 13,
    VHOST_USER_PROTOCOL_F_INBAND_NOTIFICATIONS = 14,
    VHOST_USER_PROTOCOL_F_CONFIGURE_MEM_SLOTS = 15,
    VHOST_USER_PROTOCOL_F_STATUS = 16,
    VHOST_USER_PROTOCOL_F_XEN_MMAP = 17,
    VHOST_USER_PROTOCOL_F_SHARED_OBJECT = 18,
    VHOST_USER_PROTOCOL_F_DEVICE_STATE = 19,
    VHOST_USER_PROTOCOL_F_GET_VRING_BASE_INFLIGHT = 20,
    VHOST_USER_PROTOCOL_F_GPA_ADDRESSES = 21,
    VHOST_USER_PROTOCOL_F_SHMEM = 22,
    VHOST_USER_PROTOCOL_F_COUNT = 23,
};

#define VHU_PROTOCOL_BIT(name) (1ULL << VHOST_USER_PROTOCOL_F_##name)

/* Flags of the message header. */
#define VHU_HEADER_BYTES    12u
#define VHU_FLAG_VERSION    0x1u
#define VHU_FLAG_VERSIONS   0x3u /* the bits the version takes */
#define VHU_FLAG_REPLY      0x4u
#define VHU_FLAG_NEED_REPLY 0x8u

/* Limits. */
#define VHU_MAX_FDS           8u   /* per message, the protocol's number */
#define VHU_MAX_TABLE_REGIONS 8u   /* regions of one SET_MEM_TABLE */
#define VHU_MAX_MEM_SLOTS     509u /* answered to GET_MAX_MEM_SLOTS */
#define VHU_MAX_CONFIG_BYTES  4096u
#define VHU_MAX_QUEUES        256u /* the index of KICK and CALL has 8 bits */
#define VHU_SHMEM_REGIONS     256u
#define VHU_MAX_PAYLOAD_BYTES (VHU_MAX_CONFIG_BYTES + 12u)

typedef enum VhuDirection {
    VHU_FROM_FRONTEND, /* requests 1-44, and the replies to them */
    VHU_FROM_BACKEND,  /* requests 1-10 of the back-end channel, and replies */
    VHU_DIRECTIONS,
} VhuDirection;

/* What a payload holds; the field of VhuMessage.payload in brackets. */
typedef enum VhuPayload {
    VHU_PAYLOAD_NONE,
    VHU_PAYLOAD_U64,          /* [u64] */
    VHU_PAYLOAD_VRING_STATE,  /* [state] index, num */
    VHU_PAYLOAD_VRING_ADDR,   /* [addr] */
    VHU_PAYLOAD_VRING_FD,     /* [u64] index, bit 8: no fd follows */
    VHU_PAYLOAD_MEM_TABLE,    /* [table] up to 8 regions */
    VHU_PAYLOAD_MEM_REGION,   /* [region] padding, one region */
    VHU_PAYLOAD_LOG,          /* [log]; a bare u64 without LOG_SHMFD */
    VHU_PAYLOAD_IOTLB,        /* [iotlb] */
    VHU_PAYLOAD_CONFIG,       /* [config] */
    VHU_PAYLOAD_VRING_AREA,   /* [area] */
    VHU_PAYLOAD_INFLIGHT,     /* [inflight] */
    VHU_PAYLOAD_UUID,         /* [uuid] */
    VHU_PAYLOAD_DEVICE_STATE, /* [transfer] direction, phase */
    VHU_PAYLOAD_SHMEM_CONFIG, /* [shmem_config] */
    VHU_PAYLOAD_SHMEM_MAP,    /* [shmem_map] */
    VHU_PAYLOAD_OPAQUE,       /* [opaque] crypto session description */
    VHU_PAYLOAD_KINDS,
} VhuPayload;

/* When a request is answered. */
typedef enum VhuReplyRule {
    VHU_REPLY_ON_ACK,   /* with a u64 if REPLY_ACK and need_reply say so */
    VHU_REPLY_ALWAYS,   /* with the reply payload of its row */
    VHU_REPLY_LOG_BASE, /* always if LOG_SHMFD, else on ack */
    VHU_REPLY_POSTCOPY, /* with the row's payload while postcopy listens */
} VhuReplyRule;

/* Gate of a row that needs no protocol feature. */
#define VHU_NO_GATE (-1)

typedef struct VhuMessageSpec {
    const char *name;     /* as the specification spells it */
    const char *section;  /* where to read it: heading, or struct */
    VhuPayload request;   /* kind of the request's payload */
    VhuPayload reply;     /* kind of the reply's payload, if one is due */
    uint16_t request_min; /* payload bytes, smallest legal */
    uint16_t request_max; /* payload bytes, largest legal */
    uint16_t reply_min;   /* the same of the reply */
    uint16_t reply_max;
    uint8_t request_fds_min;
    uint8_t request_fds_max;
    uint8_t reply_fds_min;
    uint8_t reply_fds_max;
    VhuReplyRule reply_rule;
    int8_t gate; /* protocol feature bit, or VHU_NO_GATE */
} VhuMessageSpec;

/* Which side does what a protocol feature asks: for manual and tests. */
typedef enum VhuSupport {
    VHU_SUPPORT_CODEC_ONLY, /* in table and codec, never offered */
    VHU_SUPPORT_OFFERED,    /* implemented here */
    VHU_SUPPORT_DEVICE,     /* offered when the device's ops ask for it */
} VhuSupport;

typedef struct VhuFeatureSpec {
    const char *name;    /* "VHOST_USER_PROTOCOL_F_MQ" */
    const char *summary; /* half a line for the manual */
    VhuSupport backend;  /* our back end */
    VhuSupport frontend; /* our front-end session */
    uint64_t needs;      /* protocol bits it is only legal with */
} VhuFeatureSpec;

/**
 * The row of a request.
 * @direction: who sends the request
 * @request:   its number
 * Returns the row, valid for ever, or NULL for a number that is not ours.
 * Any thread. vhost-user, "Front-end message types", "Back-end message types".
 */
VHU_API const VhuMessageSpec *vhu_message_spec(VhuDirection direction,
                                               uint32_t request);

/**
 * One more than the largest request number of a direction, for walking it.
 * Any thread.
 */
VHU_API uint32_t vhu_message_end(VhuDirection direction);

/**
 * The row of a protocol feature.
 * @bit: 0 to VHOST_USER_PROTOCOL_F_COUNT - 1
 * Returns the row, or NULL past the end.
 * Any thread. vhost-user, "Protocol features".
 */
VHU_API const VhuFeatureSpec *vhu_feature_spec(unsigned bit);

/**
 * Check a set of protocol features for bits that need others.
 * @features: the set
 * @err:      names the bit and what it lacks; may be NULL
 * Returns 0, or -EINVAL. Any thread. vhost-user, "In-band notifications" and
 * the text of each feature.
 */
VHU_API int vhu_features_check(uint64_t features, VhuError *err);

/**
 * Name of a payload kind, "vring state description"; never NULL.
 * Any thread. vhost-user, "Payload".
 */
VHU_API const char *vhu_payload_name(VhuPayload kind);

#endif
