/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Owns the rows: one per message and per protocol feature, and the look-ups.
 * Knows neither bytes nor sockets. Where a range cannot say which sizes are
 * legal (regions, CONFIG, postcopy, error replies), the codec narrows it.
 */
#include "vhu/protocol.h"

#include <errno.h>

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

/* Payload bytes of each kind, smallest and largest. */
#define NONE_MIN         0u
#define NONE_MAX         0u
#define U64_MIN          8u
#define U64_MAX          8u
#define VRING_STATE_MIN  8u
#define VRING_STATE_MAX  8u
#define VRING_ADDR_MIN   40u
#define VRING_ADDR_MAX   40u
#define VRING_FD_MIN     8u
#define VRING_FD_MAX     8u
#define MEM_TABLE_MIN    8u
#define MEM_TABLE_MAX    (8u + VHU_MAX_TABLE_REGIONS * 40u) /* XEN_MMAP */
#define MEM_REGION_MIN   40u
#define MEM_REGION_MAX   48u /* XEN_MMAP */
#define LOG_MIN          8u  /* without LOG_SHMFD: an address */
#define LOG_MAX          16u
#define IOTLB_MIN        32u /* struct vhost_iotlb_msg, padded */
#define IOTLB_MAX        32u
#define CONFIG_MIN       12u
#define CONFIG_MAX       (12u + VHU_MAX_CONFIG_BYTES)
#define VRING_AREA_MIN   24u
#define VRING_AREA_MAX   24u
#define INFLIGHT_MIN     20u /* the fields */
#define INFLIGHT_MAX     24u /* as a C struct pads them: QEMU's form */
#define UUID_MIN         16u
#define UUID_MAX         16u
#define DEVICE_STATE_MIN 8u
#define DEVICE_STATE_MAX 8u
#define SHMEM_CONFIG_MIN (8u + 8u * VHU_SHMEM_REGIONS)
#define SHMEM_CONFIG_MAX SHMEM_CONFIG_MIN
#define SHMEM_MAP_MIN    40u
#define SHMEM_MAP_MAX    40u
#define OPAQUE_MIN       1u
#define OPAQUE_MAX       VHU_MAX_PAYLOAD_BYTES

/* A message: heading of the specification, gate, request, reply. */
#define ROW(id, heading, ...)                                                  \
    [id] = {.name = #id, .section = heading, __VA_ARGS__}
#define GATE(feature) .gate = VHOST_USER_PROTOCOL_F_##feature
#define UNGATED       .gate = VHU_NO_GATE
#define REQUEST_SIZED(payload, min, max)                                       \
    .request = VHU_PAYLOAD_##payload, .request_min = (min), .request_max = (max)
#define REQUEST(payload)      REQUEST_SIZED(payload, payload##_MIN, payload##_MAX)
#define NO_PAYLOAD            REQUEST(NONE)
#define REQUEST_FDS(min, max) .request_fds_min = (min), .request_fds_max = (max)
#define REPLY_SIZED(rule, payload, min, max)                                   \
    .reply_rule = VHU_REPLY_##rule, .reply = VHU_PAYLOAD_##payload,            \
    .reply_min = (min), .reply_max = (max)
#define REPLY(rule, payload)                                                   \
    REPLY_SIZED(rule, payload, payload##_MIN, payload##_MAX)
#define ANSWERED(payload)   REPLY(ALWAYS, payload)
#define ACKED               REPLY(ON_ACK, U64)
#define REPLY_FDS(min, max) .reply_fds_min = (min), .reply_fds_max = (max)

/* A protocol feature: half a line on it, who supports it, what it needs. */
#define FEATURE(id, text, support, bits)                                       \
    [id] = {.name = #id, .summary = text, .needs = (bits), support}
#define SUPPORT(back, front)                                                   \
    .backend = VHU_SUPPORT_##back, .frontend = VHU_SUPPORT_##front
#define BOTH       SUPPORT(OFFERED, OFFERED)
#define BY_DEVICE  SUPPORT(DEVICE, OFFERED)
#define CODEC_ONLY SUPPORT(CODEC_ONLY, CODEC_ONLY)

/* Headings of the vhost-user specification. */
#define HEAD_COMMUNICATION   "Communication"
#define HEAD_RING_STATES     "Ring states"
#define HEAD_MULTIQUEUE      "Multiple queue support"
#define HEAD_MIGRATION       "Migration"
#define HEAD_STATE           "Migrating back-end state"
#define HEAD_MEMORY          "Memory access"
#define HEAD_IOMMU           "IOMMU support"
#define HEAD_BACKEND_CHANNEL "Back-end communication"
#define HEAD_INFLIGHT        "Inflight I/O tracking"
#define HEAD_INBAND          "In-band notifications"
#define HEAD_FRONTEND        "Front-end message types"
#define HEAD_BACKEND         "Back-end message types"

static const VhuMessageSpec frontend_messages[] = {
    ROW(VHOST_USER_GET_FEATURES, HEAD_COMMUNICATION, UNGATED, NO_PAYLOAD,
        ANSWERED(U64)),
    ROW(VHOST_USER_SET_FEATURES, HEAD_COMMUNICATION, UNGATED, REQUEST(U64),
        ACKED),
    ROW(VHOST_USER_SET_OWNER, HEAD_FRONTEND, UNGATED, NO_PAYLOAD, ACKED),
    ROW(VHOST_USER_RESET_OWNER, HEAD_FRONTEND, UNGATED, NO_PAYLOAD, ACKED),
    ROW(VHOST_USER_SET_MEM_TABLE, HEAD_MEMORY, UNGATED, REQUEST(MEM_TABLE),
        REQUEST_FDS(0, VHU_MAX_TABLE_REGIONS), REPLY(POSTCOPY, MEM_TABLE)),
    /* The specification names no payload of the reply: some send none. */
    ROW(VHOST_USER_SET_LOG_BASE, HEAD_MIGRATION, UNGATED, REQUEST(LOG),
        REQUEST_FDS(0, 1), REPLY_SIZED(LOG_BASE, U64, 0, U64_MAX)),
    ROW(VHOST_USER_SET_LOG_FD, HEAD_MIGRATION, UNGATED, NO_PAYLOAD,
        REQUEST_FDS(1, 1), ACKED),
    ROW(VHOST_USER_SET_VRING_NUM, HEAD_FRONTEND, UNGATED, REQUEST(VRING_STATE),
        ACKED),
    ROW(VHOST_USER_SET_VRING_ADDR, HEAD_FRONTEND, UNGATED, REQUEST(VRING_ADDR),
        ACKED),
    ROW(VHOST_USER_SET_VRING_BASE, HEAD_FRONTEND, UNGATED, REQUEST(VRING_STATE),
        ACKED),
    ROW(VHOST_USER_GET_VRING_BASE, HEAD_RING_STATES, UNGATED,
        REQUEST(VRING_STATE), ANSWERED(VRING_STATE)),
    ROW(VHOST_USER_SET_VRING_KICK, HEAD_RING_STATES, UNGATED, REQUEST(VRING_FD),
        REQUEST_FDS(0, 1), ACKED),
    ROW(VHOST_USER_SET_VRING_CALL, HEAD_FRONTEND, UNGATED, REQUEST(VRING_FD),
        REQUEST_FDS(0, 1), ACKED),
    ROW(VHOST_USER_SET_VRING_ERR, HEAD_FRONTEND, UNGATED, REQUEST(VRING_FD),
        REQUEST_FDS(0, 1), ACKED),
    ROW(VHOST_USER_GET_PROTOCOL_FEATURES, HEAD_COMMUNICATION, UNGATED,
        NO_PAYLOAD, ANSWERED(U64)),
    ROW(VHOST_USER_SET_PROTOCOL_FEATURES, HEAD_COMMUNICATION, UNGATED,
        REQUEST(U64), ACKED),
    ROW(VHOST_USER_GET_QUEUE_NUM, HEAD_MULTIQUEUE, GATE(MQ), NO_PAYLOAD,
        ANSWERED(U64)),
    ROW(VHOST_USER_SET_VRING_ENABLE, HEAD_RING_STATES, UNGATED,
        REQUEST(VRING_STATE), ACKED),
    ROW(VHOST_USER_SEND_RARP, HEAD_FRONTEND, GATE(RARP), REQUEST(U64), ACKED),
    ROW(VHOST_USER_NET_SET_MTU, HEAD_FRONTEND, GATE(MTU), REQUEST(U64), ACKED),
    ROW(VHOST_USER_SET_BACKEND_REQ_FD, HEAD_BACKEND_CHANNEL, GATE(BACKEND_REQ),
        NO_PAYLOAD, REQUEST_FDS(1, 1), ACKED),
    ROW(VHOST_USER_IOTLB_MSG, HEAD_IOMMU, UNGATED, REQUEST(IOTLB),
        ANSWERED(U64)),
    ROW(VHOST_USER_SET_VRING_ENDIAN, HEAD_FRONTEND, GATE(CROSS_ENDIAN),
        REQUEST(VRING_STATE), ACKED),
    ROW(VHOST_USER_GET_CONFIG, HEAD_FRONTEND, GATE(CONFIG), REQUEST(CONFIG),
        ANSWERED(CONFIG)),
    ROW(VHOST_USER_SET_CONFIG, HEAD_FRONTEND, GATE(CONFIG), REQUEST(CONFIG),
        ACKED),
    ROW(VHOST_USER_CREATE_CRYPTO_SESSION, HEAD_FRONTEND, GATE(CRYPTO_SESSION),
        REQUEST(OPAQUE), ANSWERED(OPAQUE)),
    ROW(VHOST_USER_CLOSE_CRYPTO_SESSION, HEAD_FRONTEND, GATE(CRYPTO_SESSION),
        REQUEST(U64), ACKED),
    ROW(VHOST_USER_POSTCOPY_ADVISE, HEAD_MIGRATION, GATE(PAGEFAULT), NO_PAYLOAD,
        ANSWERED(NONE), REPLY_FDS(0, 1)),
    ROW(VHOST_USER_POSTCOPY_LISTEN, HEAD_MIGRATION, GATE(PAGEFAULT), NO_PAYLOAD,
        ACKED),
    ROW(VHOST_USER_POSTCOPY_END, HEAD_MIGRATION, GATE(PAGEFAULT), NO_PAYLOAD,
        ANSWERED(U64)),
    ROW(VHOST_USER_GET_INFLIGHT_FD, HEAD_INFLIGHT, GATE(INFLIGHT_SHMFD),
        REQUEST(INFLIGHT), ANSWERED(INFLIGHT), REPLY_FDS(0, 1)),
    ROW(VHOST_USER_SET_INFLIGHT_FD, HEAD_INFLIGHT, GATE(INFLIGHT_SHMFD),
        REQUEST(INFLIGHT), REQUEST_FDS(1, 1), ACKED),
    ROW(VHOST_USER_GPU_SET_SOCKET, HEAD_FRONTEND, UNGATED, NO_PAYLOAD,
        REQUEST_FDS(1, 1), ACKED),
    ROW(VHOST_USER_RESET_DEVICE, HEAD_FRONTEND, GATE(RESET_DEVICE), NO_PAYLOAD,
        ACKED),
    ROW(VHOST_USER_VRING_KICK, HEAD_INBAND, GATE(INBAND_NOTIFICATIONS),
        REQUEST(VRING_STATE), ACKED),
    ROW(VHOST_USER_GET_MAX_MEM_SLOTS, HEAD_FRONTEND, GATE(CONFIGURE_MEM_SLOTS),
        NO_PAYLOAD, ANSWERED(U64)),
    ROW(VHOST_USER_ADD_MEM_REG, HEAD_FRONTEND, GATE(CONFIGURE_MEM_SLOTS),
        REQUEST(MEM_REGION), REQUEST_FDS(1, 1), REPLY(POSTCOPY, MEM_REGION)),
    ROW(VHOST_USER_REM_MEM_REG, HEAD_FRONTEND, GATE(CONFIGURE_MEM_SLOTS),
        REQUEST(MEM_REGION), REQUEST_FDS(0, 1), ACKED),
    ROW(VHOST_USER_SET_STATUS, HEAD_FRONTEND, GATE(STATUS), REQUEST(U64),
        ACKED),
    ROW(VHOST_USER_GET_STATUS, HEAD_FRONTEND, GATE(STATUS), NO_PAYLOAD,
        ANSWERED(U64)),
    /* Some front ends send no UUID, some back ends echo it. */
    ROW(VHOST_USER_GET_SHARED_OBJECT, HEAD_FRONTEND, GATE(SHARED_OBJECT),
        REQUEST_SIZED(UUID, 0, UUID_MAX),
        REPLY_SIZED(ALWAYS, NONE, 0, UUID_MAX), REPLY_FDS(0, 1)),
    ROW(VHOST_USER_SET_DEVICE_STATE_FD, HEAD_STATE, GATE(DEVICE_STATE),
        REQUEST(DEVICE_STATE), REQUEST_FDS(1, 1), ANSWERED(U64),
        REPLY_FDS(0, 1)),
    ROW(VHOST_USER_CHECK_DEVICE_STATE, HEAD_STATE, GATE(DEVICE_STATE),
        NO_PAYLOAD, ANSWERED(U64)),
    ROW(VHOST_USER_GET_SHMEM_CONFIG, HEAD_FRONTEND, GATE(SHMEM), NO_PAYLOAD,
        ANSWERED(SHMEM_CONFIG)),
};

static const VhuMessageSpec backend_messages[] = {
    ROW(VHOST_USER_BACKEND_IOTLB_MSG, HEAD_IOMMU, GATE(BACKEND_REQ),
        REQUEST(IOTLB), ACKED),
    ROW(VHOST_USER_BACKEND_CONFIG_CHANGE_MSG, HEAD_BACKEND, GATE(CONFIG),
        NO_PAYLOAD, ACKED),
    ROW(VHOST_USER_BACKEND_VRING_HOST_NOTIFIER_MSG, HEAD_BACKEND,
        GATE(HOST_NOTIFIER), REQUEST(VRING_AREA), REQUEST_FDS(0, 1), ACKED),
    ROW(VHOST_USER_BACKEND_VRING_CALL, HEAD_INBAND, GATE(INBAND_NOTIFICATIONS),
        REQUEST(VRING_STATE), ACKED),
    ROW(VHOST_USER_BACKEND_VRING_ERR, HEAD_INBAND, GATE(INBAND_NOTIFICATIONS),
        REQUEST(VRING_STATE), ACKED),
    ROW(VHOST_USER_BACKEND_SHARED_OBJECT_ADD, HEAD_BACKEND, GATE(SHARED_OBJECT),
        REQUEST(UUID), ACKED),
    ROW(VHOST_USER_BACKEND_SHARED_OBJECT_REMOVE, HEAD_BACKEND,
        GATE(SHARED_OBJECT), REQUEST(UUID), ACKED),
    ROW(VHOST_USER_BACKEND_SHARED_OBJECT_LOOKUP, HEAD_BACKEND,
        GATE(SHARED_OBJECT), REQUEST(UUID), ANSWERED(U64), REPLY_FDS(0, 1)),
    ROW(VHOST_USER_BACKEND_SHMEM_MAP, HEAD_BACKEND, GATE(SHMEM),
        REQUEST(SHMEM_MAP), REQUEST_FDS(1, 1), ACKED),
    ROW(VHOST_USER_BACKEND_SHMEM_UNMAP, HEAD_BACKEND, GATE(SHMEM),
        REQUEST(SHMEM_MAP), ACKED),
};

static const VhuFeatureSpec features[VHOST_USER_PROTOCOL_F_COUNT] = {
    FEATURE(VHOST_USER_PROTOCOL_F_MQ, "several queues, and how many", BOTH, 0),
    FEATURE(VHOST_USER_PROTOCOL_F_LOG_SHMFD, "dirty log in shared memory", BOTH,
            0),
    FEATURE(VHOST_USER_PROTOCOL_F_RARP, "announce the guest after migration",
            BY_DEVICE, 0),
    FEATURE(VHOST_USER_PROTOCOL_F_REPLY_ACK,
            "acknowledge any request on demand", BOTH, 0),
    FEATURE(VHOST_USER_PROTOCOL_F_MTU, "tell the back end the MTU", BY_DEVICE,
            0),
    FEATURE(VHOST_USER_PROTOCOL_F_BACKEND_REQ, "requests of the back end", BOTH,
            0),
    FEATURE(VHOST_USER_PROTOCOL_F_CROSS_ENDIAN, "endianness of legacy rings",
            CODEC_ONLY, 0),
    FEATURE(VHOST_USER_PROTOCOL_F_CRYPTO_SESSION, "sessions of crypto devices",
            CODEC_ONLY, 0),
    FEATURE(VHOST_USER_PROTOCOL_F_PAGEFAULT, "postcopy migration", BOTH, 0),
    FEATURE(VHOST_USER_PROTOCOL_F_CONFIG, "configuration space in the back end",
            BY_DEVICE, 0),
    FEATURE(VHOST_USER_PROTOCOL_F_BACKEND_SEND_FD,
            "fds with requests of the back end", BOTH, 0),
    FEATURE(VHOST_USER_PROTOCOL_F_HOST_NOTIFIER,
            "doorbells of a hardware queue", CODEC_ONLY, 0),
    FEATURE(VHOST_USER_PROTOCOL_F_INFLIGHT_SHMFD,
            "requests in flight survive a crash", BOTH, 0),
    FEATURE(VHOST_USER_PROTOCOL_F_RESET_DEVICE, "reset without reconnecting",
            BOTH, 0),
    FEATURE(VHOST_USER_PROTOCOL_F_INBAND_NOTIFICATIONS,
            "kicks and calls as messages", BOTH,
            VHU_PROTOCOL_BIT(BACKEND_REQ) | VHU_PROTOCOL_BIT(REPLY_ACK)),
    FEATURE(VHOST_USER_PROTOCOL_F_CONFIGURE_MEM_SLOTS,
            "memory regions added and removed singly", BOTH, 0),
    FEATURE(VHOST_USER_PROTOCOL_F_STATUS, "device status passed on", BOTH, 0),
    FEATURE(VHOST_USER_PROTOCOL_F_XEN_MMAP, "memory of Xen guests", CODEC_ONLY,
            0),
    FEATURE(VHOST_USER_PROTOCOL_F_SHARED_OBJECT,
            "dma-bufs shared between devices", BY_DEVICE, 0),
    FEATURE(VHOST_USER_PROTOCOL_F_DEVICE_STATE,
            "state of the device in the migration stream", BY_DEVICE, 0),
    FEATURE(VHOST_USER_PROTOCOL_F_GET_VRING_BASE_INFLIGHT,
            "stop a ring without draining it", BOTH,
            VHU_PROTOCOL_BIT(INFLIGHT_SHMFD)),
    FEATURE(VHOST_USER_PROTOCOL_F_GPA_ADDRESSES,
            "ring addresses are guest physical", BOTH, 0),
    FEATURE(VHOST_USER_PROTOCOL_F_SHMEM, "shared memory regions of the device",
            BY_DEVICE, 0),
};

static const struct {
    const VhuMessageSpec *rows;
    uint32_t end;
} messages[VHU_DIRECTIONS] = {
    [VHU_FROM_FRONTEND] = {frontend_messages, COUNT(frontend_messages)},
    [VHU_FROM_BACKEND] = {backend_messages, COUNT(backend_messages)},
};

static const char *const payload_names[VHU_PAYLOAD_KINDS] = {
    [VHU_PAYLOAD_NONE] = "no payload",
    [VHU_PAYLOAD_U64] = "u64",
    [VHU_PAYLOAD_VRING_STATE] = "vring state description",
    [VHU_PAYLOAD_VRING_ADDR] = "vring address description",
    [VHU_PAYLOAD_VRING_FD] = "u64 vring index and no-fd flag",
    [VHU_PAYLOAD_MEM_TABLE] = "multiple memory regions description",
    [VHU_PAYLOAD_MEM_REGION] = "single memory region description",
    [VHU_PAYLOAD_LOG] = "log description",
    [VHU_PAYLOAD_IOTLB] = "IOTLB message",
    [VHU_PAYLOAD_CONFIG] = "virtio device config space",
    [VHU_PAYLOAD_VRING_AREA] = "vring area description",
    [VHU_PAYLOAD_INFLIGHT] = "inflight description",
    [VHU_PAYLOAD_UUID] = "UUID",
    [VHU_PAYLOAD_DEVICE_STATE] = "device state transfer parameters",
    [VHU_PAYLOAD_SHMEM_CONFIG] = "shared memory regions description",
    [VHU_PAYLOAD_SHMEM_MAP] = "shared memory mapping description",
    [VHU_PAYLOAD_OPAQUE] = "crypto session description",
};

const VhuMessageSpec *vhu_message_spec(VhuDirection direction, uint32_t request)
{
    if ((unsigned)direction >= VHU_DIRECTIONS ||
        request >= messages[direction].end ||
        !messages[direction].rows[request].name) {
        return NULL;
    }
    return &messages[direction].rows[request];
}

uint32_t vhu_message_end(VhuDirection direction)
{
    return (unsigned)direction < VHU_DIRECTIONS ? messages[direction].end : 0;
}

const VhuFeatureSpec *vhu_feature_spec(unsigned bit)
{
    return bit < COUNT(features) ? &features[bit] : NULL;
}

int vhu_features_check(uint64_t set, VhuError *err)
{
    for (unsigned bit = 0; bit < COUNT(features); bit++) {
        uint64_t missing = features[bit].needs & ~set;

        if ((set & (1ULL << bit)) && missing) {
            return vhu_error_set(err, EINVAL, 0, set,
                                 "protocol features 0x%llx: %s needs %s",
                                 (unsigned long long)set, features[bit].name,
                                 features[__builtin_ctzll(missing)].name);
        }
    }
    return 0;
}

const char *vhu_payload_name(VhuPayload kind)
{
    return (unsigned)kind < VHU_PAYLOAD_KINDS ? payload_names[kind] : "unknown";
}
