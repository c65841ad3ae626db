/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Owns the bytes of the back-end channel: every request of the back end, from
 * "Back-end message types" of the vhost-user specification, and every reply.
 */
#include "tests/message-vectors.h"

#define BIT(name) VHU_PROTOCOL_BIT(name)

#define WITH(features)                                                         \
    .wire = {.direction = VHU_FROM_BACKEND,                                    \
             .protocol_features = BIT(BACKEND_REQ) | (features)}
#define REQUEST(id, payload_kind)                                              \
    .want.request = VHOST_USER_BACKEND_##id, .want.flags = 0x1,                \
    .want.kind = VHU_PAYLOAD_##payload_kind
#define REPLY(id)                                                              \
    .want.request = VHOST_USER_BACKEND_##id, .want.flags = 0x5,                \
    .want.kind = VHU_PAYLOAD_U64
#define FDS(min, max) .fds_min = (min), .fds_max = (max)

#define UUID_BYTES                                                             \
    {                                                                          \
        {                                                                      \
            0x10, 0x21, 0x32, 0x43, 0x54, 0x65, 0x76, 0x87, 0x98, 0xa9, 0xba,  \
                0xcb, 0xdc, 0xed, 0xfe, 0x0f                                   \
        }                                                                      \
    }
#define UUID_HEX  " 10213243 5465 7687 98a9 bacbdcedfe0f"
#define UUID_TEXT "10213243-5465-7687-98a9-bacbdcedfe0f"

const Vector backend_vectors[] = {
    {
        WITH(0),
        REQUEST(IOTLB_MSG, IOTLB),
        .bytes = "01000000 01000000 20000000 0000004000000000"
                 " 0000000000000000 0000000000000000 01 01 000000000000",
        .want.payload.iotlb = {.iova = 0x40000000, .perm = 1, .type = 1},
        .print = "BACKEND_IOTLB_MSG type=miss iova=0x40000000 size=0x0"
                 " user=0x0 perm=1",
    },
    {
        WITH(0),
        REQUEST(IOTLB_MSG, IOTLB),
        .bytes = "01000000 01000000 20000000 0000004000000000"
                 " 0010000000000000 0000000000000000 02 04 000000000000",
        .want.payload
            .iotlb = {.iova = 0x40000000, .size = 0x1000, .perm = 2, .type = 4},
        .print = "BACKEND_IOTLB_MSG type=access-fail iova=0x40000000"
                 " size=0x1000 user=0x0 perm=2",
    },
    {
        WITH(0),
        REPLY(IOTLB_MSG),
        .bytes = "01000000 05000000 08000000 0000000000000000",
        .print = "BACKEND_IOTLB_MSG reply u64=0x0",
    },
    {
        WITH(BIT(CONFIG)),
        REQUEST(CONFIG_CHANGE_MSG, NONE),
        .bytes = "02000000 01000000 00000000",
        .print = "BACKEND_CONFIG_CHANGE_MSG",
    },
    {
        WITH(BIT(CONFIG)),
        REPLY(CONFIG_CHANGE_MSG),
        .bytes = "02000000 05000000 08000000 0100000000000000",
        .want.payload.u64 = 1,
        .print = "BACKEND_CONFIG_CHANGE_MSG reply u64=0x1",
    },
    {
        WITH(BIT(HOST_NOTIFIER)),
        REQUEST(VRING_HOST_NOTIFIER_MSG, VRING_AREA),
        .bytes = "03000000 01000000 18000000 0200000000000000"
                 " 0010000000000000 0030000000000000",
        .want.payload.area = {.index = 2, .size = 0x1000, .offset = 0x3000},
        FDS(1, 1),
        .print = "BACKEND_VRING_HOST_NOTIFIER_MSG index=2 size=0x1000"
                 " offset=0x3000",
    },
    {
        WITH(BIT(HOST_NOTIFIER)),
        REQUEST(VRING_HOST_NOTIFIER_MSG, VRING_AREA),
        .bytes = "03000000 01000000 18000000 0201000000000000"
                 " 0000000000000000 0000000000000000",
        .want.payload.area = {.index = 0x102},
        .print = "BACKEND_VRING_HOST_NOTIFIER_MSG index=2 no-fd size=0x0"
                 " offset=0x0",
    },
    {
        WITH(BIT(HOST_NOTIFIER)),
        REPLY(VRING_HOST_NOTIFIER_MSG),
        .bytes = "03000000 05000000 08000000 0000000000000000",
        .print = "BACKEND_VRING_HOST_NOTIFIER_MSG reply u64=0x0",
    },
    {
        WITH(BIT(INBAND_NOTIFICATIONS)),
        REQUEST(VRING_CALL, VRING_STATE),
        .bytes = "04000000 01000000 08000000 07000000 00000000",
        .want.payload.state = {.index = 7},
        .print = "BACKEND_VRING_CALL index=7 num=0",
    },
    {
        WITH(BIT(INBAND_NOTIFICATIONS)),
        REPLY(VRING_CALL),
        .bytes = "04000000 05000000 08000000 0000000000000000",
        .print = "BACKEND_VRING_CALL reply u64=0x0",
    },
    {
        WITH(BIT(INBAND_NOTIFICATIONS)),
        REQUEST(VRING_ERR, VRING_STATE),
        .bytes = "05000000 01000000 08000000 01000000 00000000",
        .want.payload.state = {.index = 1},
        .print = "BACKEND_VRING_ERR index=1 num=0",
    },
    {
        WITH(BIT(INBAND_NOTIFICATIONS)),
        REPLY(VRING_ERR),
        .bytes = "05000000 05000000 08000000 0000000000000000",
        .print = "BACKEND_VRING_ERR reply u64=0x0",
    },
    {
        WITH(BIT(SHARED_OBJECT)),
        REQUEST(SHARED_OBJECT_ADD, UUID),
        .bytes = "06000000 01000000 10000000" UUID_HEX,
        .want.payload.uuid = UUID_BYTES,
        .print = "BACKEND_SHARED_OBJECT_ADD uuid=" UUID_TEXT,
    },
    {
        WITH(BIT(SHARED_OBJECT)),
        REPLY(SHARED_OBJECT_ADD),
        .bytes = "06000000 05000000 08000000 0000000000000000",
        .print = "BACKEND_SHARED_OBJECT_ADD reply u64=0x0",
    },
    {
        WITH(BIT(SHARED_OBJECT)),
        REQUEST(SHARED_OBJECT_REMOVE, UUID),
        .bytes = "07000000 01000000 10000000" UUID_HEX,
        .want.payload.uuid = UUID_BYTES,
        .print = "BACKEND_SHARED_OBJECT_REMOVE uuid=" UUID_TEXT,
    },
    {
        WITH(BIT(SHARED_OBJECT)),
        REPLY(SHARED_OBJECT_REMOVE),
        .bytes = "07000000 05000000 08000000 0000000000000000",
        .print = "BACKEND_SHARED_OBJECT_REMOVE reply u64=0x0",
    },
    {
        WITH(BIT(SHARED_OBJECT)),
        REQUEST(SHARED_OBJECT_LOOKUP, UUID),
        .bytes = "08000000 01000000 10000000" UUID_HEX,
        .want.payload.uuid = UUID_BYTES,
        .print = "BACKEND_SHARED_OBJECT_LOOKUP uuid=" UUID_TEXT,
    },
    {
        WITH(BIT(SHARED_OBJECT)),
        REPLY(SHARED_OBJECT_LOOKUP),
        .bytes = "08000000 05000000 08000000 0000000000000000",
        FDS(0, 1),
        .print = "BACKEND_SHARED_OBJECT_LOOKUP reply u64=0x0",
    },
    {
        WITH(BIT(SHARED_OBJECT)),
        REPLY(SHARED_OBJECT_LOOKUP),
        .bytes = "08000000 05000000 08000000 0001000000000000",
        .want.payload.u64 = 0x100,
        .print = "BACKEND_SHARED_OBJECT_LOOKUP reply u64=0x100",
    },
    {
        WITH(BIT(SHMEM)),
        REQUEST(SHMEM_MAP, SHMEM_MAP),
        .bytes = "09000000 01000000 28000000 03 00000000000000"
                 " 0010000000000000 0000200000000000"
                 " 0000300000000000 0100000000000000",
        .want.payload.shmem_map =
            {
                .shmid = 3,
                .fd_offset = 0x1000,
                .shm_offset = 0x200000,
                .size = 0x300000,
                .flags = 1,
            },
        FDS(1, 1),
        .print = "BACKEND_SHMEM_MAP shmid=3 fd-offset=0x1000"
                 " shm-offset=0x200000 size=0x300000 flags=0x1",
    },
    {
        WITH(BIT(SHMEM)),
        REPLY(SHMEM_MAP),
        .bytes = "09000000 05000000 08000000 0000000000000000",
        .print = "BACKEND_SHMEM_MAP reply u64=0x0",
    },
    {
        WITH(BIT(SHMEM)),
        REQUEST(SHMEM_UNMAP, SHMEM_MAP),
        .bytes = "0a000000 01000000 28000000 03 00000000000000"
                 " 0000000000000000 0000200000000000"
                 " 0000300000000000 0000000000000000",
        .want.payload.shmem_map = {.shmid = 3,
                                   .shm_offset = 0x200000,
                                   .size = 0x300000},
        .print = "BACKEND_SHMEM_UNMAP shmid=3 fd-offset=0x0"
                 " shm-offset=0x200000 size=0x300000 flags=0x0",
    },
    {
        WITH(BIT(SHMEM)),
        REPLY(SHMEM_UNMAP),
        .bytes = "0a000000 05000000 08000000 1600000000000000",
        .want.payload.u64 = 22,
        .print = "BACKEND_SHMEM_UNMAP reply u64=0x16",
    },
};

const unsigned backend_vectors_count =
    sizeof(backend_vectors) / sizeof(backend_vectors[0]);
