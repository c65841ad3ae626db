/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Owns the bytes of every front-end request, from "Front-end message types"
 * of the vhost-user specification. Little endian: the vectors are of x86-64.
 */
#include "tests/message-vectors.h"

#define BIT(name) VHU_PROTOCOL_BIT(name)

#define REQUEST(id, payload_kind)                                              \
    .want.request = VHOST_USER_##id, .want.flags = 0x1,                        \
    .want.kind = VHU_PAYLOAD_##payload_kind
#define WITH(features) .wire.protocol_features = (features)
#define LISTENING      .wire.postcopy_listening = true
#define FDS(min, max)  .fds_min = (min), .fds_max = (max)

/* No payload, no fds. */
#define PLAIN(id, hex)                                                         \
    {                                                                          \
        REQUEST(id, NONE), .bytes = hex, .print = #id                          \
    }

const Vector request_vectors[] = {
    PLAIN(GET_FEATURES, "01000000 01000000 00000000"),
    {
        REQUEST(SET_FEATURES, U64),
        .bytes = "02000000 01000000 08000000 0000007001000000",
        .want.payload.u64 = 0x170000000,
        .print = "SET_FEATURES u64=0x170000000",
    },
    {
        .want = {.request = VHOST_USER_SET_FEATURES,
                 .flags = 0x9,
                 .kind = VHU_PAYLOAD_U64,
                 .payload.u64 = 1},
        .bytes = "02000000 09000000 08000000 0100000000000000",
        .print = "SET_FEATURES need-reply u64=0x1",
    },
    PLAIN(SET_OWNER, "03000000 01000000 00000000"),
    PLAIN(RESET_OWNER, "04000000 01000000 00000000"),
    {
        REQUEST(SET_MEM_TABLE, MEM_TABLE),
        .bytes = "05000000 01000000 48000000 02000000 00000000"
                 " 0000000000000000 00000f0000000000"
                 " 0000e0aabb7f0000 0000000000000000"
                 " 0000100000000000 0000f03f00000000"
                 " 0000f0aabb7f0000 0000100000000000",
        .want.payload.table =
            {
                .num_regions = 2,
                .regions =
                    {
                        {.guest_addr = 0,
                         .size = 0xf0000,
                         .user_addr = 0x7fbbaae00000},
                        {.guest_addr = 0x100000,
                         .size = 0x3ff00000,
                         .user_addr = 0x7fbbaaf00000,
                         .mmap_offset = 0x100000},
                    },
            },
        .sizes = "8-264/32",
        FDS(2, 2),
        .print = "SET_MEM_TABLE regions=2"
                 " {guest=0x0 size=0xf0000 user=0x7fbbaae00000 offset=0x0}"
                 " {guest=0x100000 size=0x3ff00000 user=0x7fbbaaf00000"
                 " offset=0x100000}",
    },
    {
        REQUEST(SET_MEM_TABLE, MEM_TABLE),
        .bytes = "05000000 01000000 08000000 00000000 00000000",
        .sizes = "8-264/32",
        .print = "SET_MEM_TABLE regions=0",
    },
    {
        /* The region array may be longer than the number of regions. */
        REQUEST(SET_MEM_TABLE, MEM_TABLE),
        .bytes = "05000000 01000000 48000000 01000000 00000000"
                 " 0000004000000000 0010000000000000"
                 " 0000000000100000 0020000000000000"
                 " ffffffffffffffff ffffffffffffffff"
                 " ffffffffffffffff ffffffffffffffff",
        .want.payload.table =
            {
                .num_regions = 1,
                .regions = {{.guest_addr = 0x40000000,
                             .size = 0x1000,
                             .user_addr = 0x100000000000,
                             .mmap_offset = 0x2000}},
            },
        .sizes = "8-264/32",
        FDS(1, 1),
        .decode_only = true,
        .print = "SET_MEM_TABLE regions=1 {guest=0x40000000 size=0x1000"
                 " user=0x100000000000 offset=0x2000}",
    },
    {
        WITH(BIT(XEN_MMAP)),
        REQUEST(SET_MEM_TABLE, MEM_TABLE),
        .bytes = "05000000 01000000 30000000 01000000 00000000"
                 " 0000004000000000 0010000000000000"
                 " 0000000000100000 0020000000000000 02010000 07000000",
        .want.payload.table =
            {
                .num_regions = 1,
                .regions = {{.guest_addr = 0x40000000,
                             .size = 0x1000,
                             .user_addr = 0x100000000000,
                             .mmap_offset = 0x2000,
                             .xen_flags = 0x102,
                             .xen_domid = 7}},
            },
        .sizes = "8-328/40",
        FDS(1, 1),
        .print = "SET_MEM_TABLE regions=1 {guest=0x40000000 size=0x1000"
                 " user=0x100000000000 offset=0x2000 xen=0x102 domid=7}",
    },
    {
        /* In postcopy, the acknowledgement of the bases: "empty". */
        LISTENING,
        REQUEST(SET_MEM_TABLE, U64),
        .bytes = "05000000 01000000 08000000 0000000000000000",
        .sizes = "0 8 40-264/32",
        .print = "SET_MEM_TABLE u64=0x0",
    },
    {
        LISTENING,
        REQUEST(SET_MEM_TABLE, U64),
        .bytes = "05000000 01000000 00000000",
        .sizes = "0 8 40-264/32",
        .decode_only = true,
        .print = "SET_MEM_TABLE u64=0x0",
    },
    {
        REQUEST(SET_LOG_BASE, U64),
        .bytes = "06000000 01000000 08000000 00a0bbccdd7f0000",
        .want.payload.u64 = 0x7fddccbba000,
        .print = "SET_LOG_BASE u64=0x7fddccbba000",
    },
    {
        WITH(BIT(LOG_SHMFD)),
        REQUEST(SET_LOG_BASE, LOG),
        .bytes = "06000000 01000000 10000000"
                 " 0080000000000000 0010000000000000",
        .want.payload.log = {.size = 0x8000, .offset = 0x1000},
        FDS(1, 1),
        .print = "SET_LOG_BASE size=0x8000 offset=0x1000",
    },
    {
        REQUEST(SET_LOG_FD, NONE),
        .bytes = "07000000 01000000 00000000",
        FDS(1, 1),
        .print = "SET_LOG_FD",
    },
    {
        REQUEST(SET_VRING_NUM, VRING_STATE),
        .bytes = "08000000 01000000 08000000 02000000 00010000",
        .want.payload.state = {.index = 2, .num = 256},
        .print = "SET_VRING_NUM index=2 num=256",
    },
    {
        REQUEST(SET_VRING_ADDR, VRING_ADDR),
        .bytes = "09000000 01000000 28000000 ff000000 01000000"
                 " 0010000001000000 0020000002000000"
                 " 0030000003000000 0040000004000000",
        .want.payload.addr =
            {
                .index = 255,
                .flags = 1,
                .desc = 0x100001000,
                .used = 0x200002000,
                .avail = 0x300003000,
                .log = 0x400004000,
            },
        .print = "SET_VRING_ADDR index=255 flags=0x1 desc=0x100001000"
                 " used=0x200002000 avail=0x300003000 log=0x400004000",
    },
    {
        /* Packed: avail index 5 with wrap counter, used index 3 without. */
        REQUEST(SET_VRING_BASE, VRING_STATE),
        .bytes = "0a000000 01000000 08000000 01000000 05800300",
        .want.payload.state = {.index = 1, .num = 0x00038005},
        .print = "SET_VRING_BASE index=1 num=229381",
    },
    {
        REQUEST(GET_VRING_BASE, VRING_STATE),
        .bytes = "0b000000 01000000 08000000 03000000 00000000",
        .want.payload.state = {.index = 3},
        .print = "GET_VRING_BASE index=3 num=0",
    },
    {
        REQUEST(SET_VRING_KICK, VRING_FD),
        .bytes = "0c000000 01000000 08000000 0400000000000000",
        .want.payload.u64 = 4,
        FDS(1, 1),
        .print = "SET_VRING_KICK index=4",
    },
    {
        REQUEST(SET_VRING_KICK, VRING_FD),
        .bytes = "0c000000 01000000 08000000 0401000000000000",
        .want.payload.u64 = 0x104,
        .print = "SET_VRING_KICK index=4 no-fd",
    },
    {
        REQUEST(SET_VRING_CALL, VRING_FD),
        .bytes = "0d000000 01000000 08000000 ff00000000000000",
        .want.payload.u64 = 255,
        FDS(1, 1),
        .print = "SET_VRING_CALL index=255",
    },
    {
        REQUEST(SET_VRING_ERR, VRING_FD),
        .bytes = "0e000000 01000000 08000000 0001000000000000",
        .want.payload.u64 = 0x100,
        .print = "SET_VRING_ERR index=0 no-fd",
    },
    PLAIN(GET_PROTOCOL_FEATURES, "0f000000 01000000 00000000"),
    {
        REQUEST(SET_PROTOCOL_FEATURES, U64),
        .bytes = "10000000 01000000 08000000 2b92000000000000",
        .want.payload.u64 = 0x922b,
        .print = "SET_PROTOCOL_FEATURES u64=0x922b",
    },
    PLAIN(GET_QUEUE_NUM, "11000000 01000000 00000000"),
    {
        REQUEST(SET_VRING_ENABLE, VRING_STATE),
        .bytes = "12000000 01000000 08000000 06000000 01000000",
        .want.payload.state = {.index = 6, .num = 1},
        .print = "SET_VRING_ENABLE index=6 num=1",
    },
    {
        WITH(BIT(RARP)),
        REQUEST(SEND_RARP, U64),
        .bytes = "13000000 01000000 08000000 5254001234560000",
        .want.payload.u64 = 0x563412005452,
        .print = "SEND_RARP u64=0x563412005452",
    },
    {
        WITH(BIT(MTU)),
        REQUEST(NET_SET_MTU, U64),
        .bytes = "14000000 01000000 08000000 dc05000000000000",
        .want.payload.u64 = 1500,
        .print = "NET_SET_MTU u64=0x5dc",
    },
    {
        WITH(BIT(BACKEND_REQ)),
        REQUEST(SET_BACKEND_REQ_FD, NONE),
        .bytes = "15000000 01000000 00000000",
        FDS(1, 1),
        .print = "SET_BACKEND_REQ_FD",
    },
    {
        REQUEST(IOTLB_MSG, IOTLB),
        .bytes = "16000000 01000000 20000000 0010000000000000"
                 " 0020000000000000 00300000aa7f0000 03 02 000000000000",
        .want.payload.iotlb =
            {
                .iova = 0x1000,
                .size = 0x2000,
                .user_addr = 0x7faa00003000,
                .perm = 3,
                .type = 2,
            },
        .print = "IOTLB_MSG type=update iova=0x1000 size=0x2000"
                 " user=0x7faa00003000 perm=3",
    },
    {
        WITH(BIT(CROSS_ENDIAN)),
        REQUEST(SET_VRING_ENDIAN, VRING_STATE),
        .bytes = "17000000 01000000 08000000 00000000 01000000",
        .want.payload.state = {.index = 0, .num = 1},
        .print = "SET_VRING_ENDIAN index=0 num=1",
    },
    {
        WITH(BIT(CONFIG)),
        REQUEST(GET_CONFIG, CONFIG),
        .bytes = "18000000 01000000 10000000 08000000 04000000 00000000"
                 " 00000000",
        .want.payload.config = {.offset = 8, .size = 4, .data_bytes = 4},
        .sizes = "12-4108",
        .print = "GET_CONFIG offset=8 size=4 flags=0x0 data=00000000",
    },
    {
        /* What to ask for is in the header of the space: no room needed. */
        WITH(BIT(CONFIG)),
        REQUEST(GET_CONFIG, CONFIG),
        .bytes = "18000000 01000000 0c000000 00000000 3c000000 00000000",
        .want.payload.config = {.size = 60},
        .sizes = "12-4108",
        .print = "GET_CONFIG offset=0 size=60 flags=0x0 data=",
    },
    {
        WITH(BIT(CONFIG)),
        REQUEST(SET_CONFIG, CONFIG),
        .bytes = "19000000 01000000 0e000000 20000000 02000000 01000000"
                 " a55a",
        .want.payload.config = {.offset = 32,
                                .size = 2,
                                .flags = 1,
                                .data_bytes = 2,
                                .data = {0xa5, 0x5a}},
        .sizes = "12-4108",
        .print = "SET_CONFIG offset=32 size=2 flags=0x1 data=a55a",
    },
    {
        WITH(BIT(CRYPTO_SESSION)),
        REQUEST(CREATE_CRYPTO_SESSION, OPAQUE),
        .bytes = "1a000000 01000000 06000000 010203040506",
        .want.payload.opaque = {.size = 6, .data = {1, 2, 3, 4, 5, 6}},
        .sizes = "1-4108",
        .print = "CREATE_CRYPTO_SESSION bytes=6 data=010203040506",
    },
    {
        WITH(BIT(CRYPTO_SESSION)),
        REQUEST(CLOSE_CRYPTO_SESSION, U64),
        .bytes = "1b000000 01000000 08000000 0900000000000000",
        .want.payload.u64 = 9,
        .print = "CLOSE_CRYPTO_SESSION u64=0x9",
    },
    PLAIN(POSTCOPY_ADVISE, "1c000000 01000000 00000000"),
    PLAIN(POSTCOPY_LISTEN, "1d000000 01000000 00000000"),
    PLAIN(POSTCOPY_END, "1e000000 01000000 00000000"),
    {
        WITH(BIT(INFLIGHT_SHMFD)),
        REQUEST(GET_INFLIGHT_FD, INFLIGHT),
        .bytes = "1f000000 01000000 18000000 0000000000000000"
                 " 0000000000000000 0400 8000 00000000",
        .want.payload.inflight = {.num_queues = 4, .queue_size = 128},
        .sizes = "20 24",
        .print = "GET_INFLIGHT_FD size=0x0 offset=0x0 queues=4"
                 " queue-size=128",
    },
    {
        WITH(BIT(INFLIGHT_SHMFD)),
        REQUEST(SET_INFLIGHT_FD, INFLIGHT),
        .bytes = "20000000 01000000 18000000 4020000000000000"
                 " 0010000000000000 0400 8000 00000000",
        .want.payload.inflight = {.mmap_size = 0x2040,
                                  .mmap_offset = 0x1000,
                                  .num_queues = 4,
                                  .queue_size = 128},
        .sizes = "20 24",
        FDS(1, 1),
        .print = "SET_INFLIGHT_FD size=0x2040 offset=0x1000 queues=4"
                 " queue-size=128",
    },
    {
        /* The fields alone, without the padding of a C struct. */
        WITH(BIT(INFLIGHT_SHMFD)),
        REQUEST(SET_INFLIGHT_FD, INFLIGHT),
        .bytes = "20000000 01000000 14000000 4020000000000000"
                 " 0010000000000000 0100 0001",
        .want.payload.inflight = {.mmap_size = 0x2040,
                                  .mmap_offset = 0x1000,
                                  .num_queues = 1,
                                  .queue_size = 256},
        .sizes = "20 24",
        FDS(1, 1),
        .decode_only = true,
        .print = "SET_INFLIGHT_FD size=0x2040 offset=0x1000 queues=1"
                 " queue-size=256",
    },
    {
        REQUEST(GPU_SET_SOCKET, NONE),
        .bytes = "21000000 01000000 00000000",
        FDS(1, 1),
        .print = "GPU_SET_SOCKET",
    },
    PLAIN(RESET_DEVICE, "22000000 01000000 00000000"),
    {
        WITH(BIT(INBAND_NOTIFICATIONS)),
        REQUEST(VRING_KICK, VRING_STATE),
        .bytes = "23000000 01000000 08000000 05000000 00000000",
        .want.payload.state = {.index = 5},
        .print = "VRING_KICK index=5 num=0",
    },
    PLAIN(GET_MAX_MEM_SLOTS, "24000000 01000000 00000000"),
    {
        WITH(BIT(CONFIGURE_MEM_SLOTS)),
        REQUEST(ADD_MEM_REG, MEM_REGION),
        .bytes = "25000000 01000000 28000000 0000000000000000"
                 " 0000004000000000 0000001000000000"
                 " 0000000000100000 0010000000000000",
        .want.payload.region = {.guest_addr = 0x40000000,
                                .size = 0x10000000,
                                .user_addr = 0x100000000000,
                                .mmap_offset = 0x1000},
        FDS(1, 1),
        .print = "ADD_MEM_REG {guest=0x40000000 size=0x10000000"
                 " user=0x100000000000 offset=0x1000}",
    },
    {
        WITH(BIT(CONFIGURE_MEM_SLOTS) | BIT(XEN_MMAP)),
        REQUEST(ADD_MEM_REG, MEM_REGION),
        .bytes = "25000000 01000000 30000000 0000000000000000"
                 " 0000004000000000 0000001000000000"
                 " 0000000000100000 0010000000000000 01000000 09000000",
        .want.payload.region = {.guest_addr = 0x40000000,
                                .size = 0x10000000,
                                .user_addr = 0x100000000000,
                                .mmap_offset = 0x1000,
                                .xen_flags = 1,
                                .xen_domid = 9},
        FDS(1, 1),
        .print = "ADD_MEM_REG {guest=0x40000000 size=0x10000000"
                 " user=0x100000000000 offset=0x1000 xen=0x1 domid=9}",
    },
    {
        WITH(BIT(CONFIGURE_MEM_SLOTS)),
        LISTENING,
        REQUEST(ADD_MEM_REG, U64),
        .bytes = "25000000 01000000 08000000 0000000000000000",
        .sizes = "0 8 40",
        .print = "ADD_MEM_REG u64=0x0",
    },
    {
        WITH(BIT(CONFIGURE_MEM_SLOTS)),
        REQUEST(REM_MEM_REG, MEM_REGION),
        .bytes = "26000000 01000000 28000000 0000000000000000"
                 " 0000004000000000 0000001000000000"
                 " 0000000000100000 0000000000000000",
        .want.payload.region = {.guest_addr = 0x40000000,
                                .size = 0x10000000,
                                .user_addr = 0x100000000000},
        FDS(0, 1),
        .print = "REM_MEM_REG {guest=0x40000000 size=0x10000000"
                 " user=0x100000000000 offset=0x0}",
    },
    {
        WITH(BIT(STATUS)),
        REQUEST(SET_STATUS, U64),
        .bytes = "27000000 01000000 08000000 0f00000000000000",
        .want.payload.u64 = 15,
        .print = "SET_STATUS u64=0xf",
    },
    PLAIN(GET_STATUS, "28000000 01000000 00000000"),
    {
        WITH(BIT(SHARED_OBJECT)),
        REQUEST(GET_SHARED_OBJECT, UUID),
        .bytes = "29000000 01000000 10000000"
                 " 00112233 4455 6677 8899 aabbccddeeff",
        .want.payload.uuid = {{0x00, 0x11, 0x22, 0x33, 0x44, 0x55, 0x66, 0x77,
                               0x88, 0x99, 0xaa, 0xbb, 0xcc, 0xdd, 0xee, 0xff}},
        .sizes = "0 16",
        .print = "GET_SHARED_OBJECT uuid=00112233-4455-6677-8899-aabbccddeeff",
    },
    {
        WITH(BIT(SHARED_OBJECT)),
        REQUEST(GET_SHARED_OBJECT, UUID),
        .bytes = "29000000 01000000 00000000",
        .sizes = "0 16",
        .decode_only = true,
        .print = "GET_SHARED_OBJECT uuid=00000000-0000-0000-0000-000000000000",
    },
    {
        WITH(BIT(DEVICE_STATE)),
        REQUEST(SET_DEVICE_STATE_FD, DEVICE_STATE),
        .bytes = "2a000000 01000000 08000000 01000000 00000000",
        .want.payload.transfer = {.direction = 1, .phase = 0},
        FDS(1, 1),
        .print = "SET_DEVICE_STATE_FD direction=1 phase=0",
    },
    PLAIN(CHECK_DEVICE_STATE, "2b000000 01000000 00000000"),
    PLAIN(GET_SHMEM_CONFIG, "2c000000 01000000 00000000"),
};

const unsigned request_vectors_count =
    sizeof(request_vectors) / sizeof(request_vectors[0]);
