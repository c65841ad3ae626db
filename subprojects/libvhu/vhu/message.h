/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The codec: bytes to typed message and back, all validation, and printing.
 * Pure functions; no socket, no policy, no allocation.
 */
#ifndef VHU_MESSAGE_H
#define VHU_MESSAGE_H

#include "vhu/protocol.h"

typedef struct VhuVringState {
    uint32_t index;
    uint32_t num;
} VhuVringState;

typedef struct VhuVringAddr {
    uint32_t index;
    uint32_t flags; /* bit 0: VHOST_VRING_F_LOG */
    uint64_t desc;
    uint64_t used;
    uint64_t avail;
    uint64_t log;
} VhuVringAddr;

typedef struct VhuMemRegion {
    uint64_t guest_addr;
    uint64_t size; /* bytes */
    uint64_t user_addr;
    uint64_t mmap_offset; /* bytes into the fd */
    uint32_t xen_flags;   /* only on the wire with XEN_MMAP */
    uint32_t xen_domid;
} VhuMemRegion;

typedef struct VhuMemTable {
    uint32_t num_regions;
    VhuMemRegion regions[VHU_MAX_TABLE_REGIONS];
} VhuMemTable;

typedef struct VhuLogArea {
    uint64_t size; /* bytes */
    uint64_t offset;
} VhuLogArea;

typedef struct VhuIotlbMsg {
    uint64_t iova;
    uint64_t size; /* bytes */
    uint64_t user_addr;
    uint8_t perm; /* VHOST_ACCESS_* */
    uint8_t type; /* VHOST_IOTLB_* */
} VhuIotlbMsg;

typedef struct VhuConfigArea {
    uint32_t offset;
    uint32_t size; /* bytes asked for or carried */
    uint32_t flags;
    uint32_t data_bytes; /* carried in data: size, or 0 */
    uint8_t data[VHU_MAX_CONFIG_BYTES];
} VhuConfigArea;

typedef struct VhuVringArea {
    uint64_t index; /* bits 0-7 the vring, bit 8: no fd */
    uint64_t size;
    uint64_t offset;
} VhuVringArea;

typedef struct VhuInflightArea {
    uint64_t mmap_size;
    uint64_t mmap_offset;
    uint16_t num_queues;
    uint16_t queue_size;
} VhuInflightArea;

typedef struct VhuUuid {
    uint8_t bytes[16];
} VhuUuid;

typedef struct VhuStateTransfer {
    uint32_t direction; /* 0 save, 1 load */
    uint32_t phase;     /* 0 stopped */
} VhuStateTransfer;

typedef struct VhuShmemConfig {
    uint32_t num_regions;
    uint64_t sizes[VHU_SHMEM_REGIONS]; /* bytes, by shmid; 0: absent */
} VhuShmemConfig;

typedef struct VhuShmemMap {
    uint8_t shmid;
    uint64_t fd_offset;
    uint64_t shm_offset;
    uint64_t size;  /* bytes */
    uint64_t flags; /* bit 0: writable */
} VhuShmemMap;

typedef struct VhuOpaque {
    uint32_t size;
    uint8_t data[VHU_MAX_PAYLOAD_BYTES];
} VhuOpaque;

/* Bits of a VHU_PAYLOAD_VRING_FD. */
#define VHU_VRING_INDEX_MASK 0xffu
#define VHU_VRING_NO_FD      0x100u

typedef struct VhuMessage {
    uint32_t request;
    uint32_t flags;  /* VHU_FLAG_* */
    VhuPayload kind; /* which field of payload is valid */
    union {
        uint64_t u64;
        VhuVringState state;
        VhuVringAddr addr;
        VhuMemTable table;
        VhuMemRegion region;
        VhuLogArea log;
        VhuIotlbMsg iotlb;
        VhuConfigArea config;
        VhuVringArea area;
        VhuInflightArea inflight;
        VhuUuid uuid;
        VhuStateTransfer transfer;
        VhuShmemConfig shmem_config;
        VhuShmemMap shmem_map;
        VhuOpaque opaque;
    } payload;
    uint32_t num_fds;
    int fds[VHU_MAX_FDS]; /* owned by whoever holds the message */
} VhuMessage;

typedef struct VhuHeader {
    uint32_t request;
    uint32_t flags;
    uint32_t size; /* payload bytes */
} VhuHeader;

/* What a connection has negotiated, as far as it changes the wire format. */
typedef struct VhuWire {
    VhuDirection direction; /* who sends requests on this socket */
    uint64_t protocol_features;
    bool postcopy_listening;
} VhuWire;

/**
 * Decode and check a message header.
 * @wire:  the socket's direction and features
 * @bytes: VHU_HEADER_BYTES received bytes
 * @reply: true: a reply is expected, false: a request
 * @out:   filled on success
 * @err:   may be NULL
 * Returns 0, or -EPROTO: unknown request, version other than 1, reply flag
 * other than expected, or a size that the request's row does not allow (so
 * that no payload byte of it need be read).
 * A request that is known but whose gate is not negotiated decodes: to refuse
 * it is policy (vhu_message_gated).
 * Any thread. vhost-user, "Header".
 */
VHU_API int vhu_header_decode(const VhuWire *wire, const uint8_t *bytes,
                              bool reply, VhuHeader *out, VhuError *err);

/**
 * Decode and check a payload whose header was decoded.
 * @wire:    the socket's direction and features
 * @header:  as vhu_header_decode filled it
 * @bytes:   header->size received bytes
 * @msg:     filled on success except fds and num_fds, which are left alone
 * @err:     may be NULL
 * The kind is that of the row, and else says what came instead:
 *   U64   SET_LOG_BASE without LOG_SHMFD; an error reply where the row has
 *         another payload; while postcopy listens, the "empty" SET_MEM_TABLE
 *         or ADD_MEM_REG by which the front end acknowledges the bases
 *   NONE  the error reply to GET_CONFIG
 * A GET_SHARED_OBJECT without its UUID decodes as the nil UUID; a CONFIG
 * whose bytes are absent has data_bytes 0.
 * Returns 0, or -EPROTO with the offending field named: region counts and
 * sizes, CONFIG sizes that disagree, index out of range, non-zero reserved
 * bits the specification wants zero. What a reply can refuse (addresses,
 * overlaps, unknown transfer phases or mapping flags) is left to the caller.
 * Any thread. vhost-user, "Payload".
 */
VHU_API int vhu_payload_decode(const VhuWire *wire, const VhuHeader *header,
                               const uint8_t *bytes, VhuMessage *msg,
                               VhuError *err);

/**
 * Check how many fds came with a decoded message.
 * @wire: the socket's direction and features
 * @msg:  the message with num_fds set
 * @err:  may be NULL
 * Returns 0, or -EPROTO with both numbers. A VHU_PAYLOAD_VRING_FD must have
 * exactly one fd or the no-fd bit, a table as many as regions.
 * Any thread. vhost-user, "Communication".
 */
VHU_API int vhu_fds_check(const VhuWire *wire, const VhuMessage *msg,
                          VhuError *err);

/**
 * Encode header and payload.
 * @wire:  the socket's direction and features
 * @msg:   the message; kind must be one that vhu_payload_decode would give;
 *         the version is put into the flags
 * @bytes: room for VHU_HEADER_BYTES + VHU_MAX_PAYLOAD_BYTES
 * @err:   may be NULL
 * Returns the number of bytes, or -EINVAL for a message that is not legal.
 * Any thread. vhost-user, "Message Specification".
 */
VHU_API int vhu_message_encode(const VhuWire *wire, const VhuMessage *msg,
                               uint8_t *bytes, VhuError *err);

/**
 * Whether a request may be used with the negotiated features.
 * @wire: the socket's direction and features
 * @request: its number
 * @err:  names the missing feature; may be NULL
 * Returns 0, or -EPROTO. Any thread.
 */
VHU_API int vhu_message_gated(const VhuWire *wire, uint32_t request,
                              VhuError *err);

/**
 * Whether a request must be answered with a reply.
 * @wire: the socket's direction and features
 * @msg:  the decoded request
 * Returns true if a reply is due (by its row, or REPLY_ACK and need_reply).
 * Any thread. vhost-user, "VHOST_USER_PROTOCOL_F_REPLY_ACK".
 */
VHU_API bool vhu_reply_due(const VhuWire *wire, const VhuMessage *msg);

/**
 * Print a message on one line, decoded, for traces:
 * "SET_VRING_ADDR index=0 flags=0x0 desc=0x7f.. fds=[]".
 * @wire: the socket's direction and features
 * @msg:  the message
 * @text: room for @size bytes, always ended
 * Returns text. Any thread.
 */
VHU_API char *vhu_message_print(const VhuWire *wire, const VhuMessage *msg,
                                char *text, size_t size);

/**
 * Close the fds a message still holds and set num_fds to 0.
 * Any thread.
 */
VHU_API void vhu_message_close_fds(VhuMessage *msg);

/**
 * Take an fd out of a message: the caller owns it.
 * @index: below num_fds; the slot is set to -1
 * Returns the fd, or -1 if it was not there or taken before. Any thread.
 */
VHU_API int vhu_message_take_fd(VhuMessage *msg, uint32_t index);

#endif
