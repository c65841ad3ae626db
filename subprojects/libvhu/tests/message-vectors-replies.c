/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Owns the bytes of every reply to the front end: those with a payload of
 * their own, the acknowledgements of REPLY_ACK, and error replies.
 */
#include "tests/message-vectors.h"

#define BIT(name) VHU_PROTOCOL_BIT(name)

#define REPLY(id, payload_kind)                                                \
    .want.request = VHOST_USER_##id, .want.flags = 0x5,                        \
    .want.kind = VHU_PAYLOAD_##payload_kind
#define WITH(features) .wire.protocol_features = (features)
#define LISTENING      .wire.postcopy_listening = true
#define FDS(min, max)  .fds_min = (min), .fds_max = (max)

/* Sizes of the shared memory regions 4 to 255, none of which is there. */
#define ABSENT     " 0000000000000000"
#define ABSENT_7   ABSENT ABSENT ABSENT ABSENT ABSENT ABSENT ABSENT
#define ABSENT_21  ABSENT_7 ABSENT_7 ABSENT_7
#define ABSENT_63  ABSENT_21 ABSENT_21 ABSENT_21
#define ABSENT_126 ABSENT_63 ABSENT_63
#define ABSENT_252 ABSENT_126 ABSENT_126

/* With REPLY_ACK: zero for success, anything else for failure. */
#define ACK(id, hex)                                                           \
    {                                                                          \
        WITH(BIT(REPLY_ACK)), REPLY(id, U64),                                  \
            .want.payload.u64 = 1, .bytes = hex, .print = #id " reply u64=0x1" \
    }

const Vector reply_vectors[] = {
    {
        REPLY(GET_FEATURES, U64),
        .bytes = "01000000 05000000 08000000 0000007001000000",
        .want.payload.u64 = 0x170000000,
        .print = "GET_FEATURES reply u64=0x170000000",
    },
    {
        REPLY(SET_FEATURES, U64),
        .bytes = "02000000 05000000 08000000 0000000000000000",
        .print = "SET_FEATURES reply u64=0x0",
    },
    {
        /* Some back ends leave the need_reply flag of the request set. */
        .want = {.request = VHOST_USER_SET_FEATURES,
                 .flags = 0xd,
                 .kind = VHU_PAYLOAD_U64},
        .bytes = "02000000 0d000000 08000000 0000000000000000",
        .print = "SET_FEATURES reply need-reply u64=0x0",
    },
    ACK(SET_OWNER, "03000000 05000000 08000000 0100000000000000"),
    ACK(RESET_OWNER, "04000000 05000000 08000000 0100000000000000"),
    ACK(SET_MEM_TABLE, "05000000 05000000 08000000 0100000000000000"),
    {
        /* In postcopy, where the back end has mapped the regions. */
        LISTENING,
        REPLY(SET_MEM_TABLE, MEM_TABLE),
        .bytes = "05000000 05000000 28000000 01000000 00000000"
                 " 0000004000000000 0010000000000000"
                 " 00005544ff7f0000 0000000000000000",
        .want.payload.table =
            {
                .num_regions = 1,
                .regions = {{.guest_addr = 0x40000000,
                             .size = 0x1000,
                             .user_addr = 0x7fff44550000}},
            },
        .sizes = "8 40-264/32",
        .print = "SET_MEM_TABLE reply regions=1 {guest=0x40000000 size=0x1000"
                 " user=0x7fff44550000 offset=0x0}",
    },
    {
        LISTENING,
        REPLY(SET_MEM_TABLE, U64),
        .bytes = "05000000 05000000 08000000 1600000000000000",
        .want.payload.u64 = 22,
        .sizes = "8 40-264/32",
        .print = "SET_MEM_TABLE reply u64=0x16",
    },
    ACK(SET_LOG_BASE, "06000000 05000000 08000000 0100000000000000"),
    {
        WITH(BIT(LOG_SHMFD)),
        REPLY(SET_LOG_BASE, U64),
        .bytes = "06000000 05000000 08000000 0000000000000000",
        .sizes = "0 8",
        .print = "SET_LOG_BASE reply u64=0x0",
    },
    {
        WITH(BIT(LOG_SHMFD)),
        REPLY(SET_LOG_BASE, U64),
        .bytes = "06000000 05000000 00000000",
        .sizes = "0 8",
        .decode_only = true,
        .print = "SET_LOG_BASE reply u64=0x0",
    },
    ACK(SET_LOG_FD, "07000000 05000000 08000000 0100000000000000"),
    ACK(SET_VRING_NUM, "08000000 05000000 08000000 0100000000000000"),
    ACK(SET_VRING_ADDR, "09000000 05000000 08000000 0100000000000000"),
    ACK(SET_VRING_BASE, "0a000000 05000000 08000000 0100000000000000"),
    {
        REPLY(GET_VRING_BASE, VRING_STATE),
        .bytes = "0b000000 05000000 08000000 03000000 34120000",
        .want.payload.state = {.index = 3, .num = 0x1234},
        .print = "GET_VRING_BASE reply index=3 num=4660",
    },
    ACK(SET_VRING_KICK, "0c000000 05000000 08000000 0100000000000000"),
    ACK(SET_VRING_CALL, "0d000000 05000000 08000000 0100000000000000"),
    ACK(SET_VRING_ERR, "0e000000 05000000 08000000 0100000000000000"),
    {
        REPLY(GET_PROTOCOL_FEATURES, U64),
        .bytes = "0f000000 05000000 08000000 2b92000000000000",
        .want.payload.u64 = 0x922b,
        .print = "GET_PROTOCOL_FEATURES reply u64=0x922b",
    },
    ACK(SET_PROTOCOL_FEATURES, "10000000 05000000 08000000 0100000000000000"),
    {
        WITH(BIT(MQ)),
        REPLY(GET_QUEUE_NUM, U64),
        .bytes = "11000000 05000000 08000000 1000000000000000",
        .want.payload.u64 = 16,
        .print = "GET_QUEUE_NUM reply u64=0x10",
    },
    ACK(SET_VRING_ENABLE, "12000000 05000000 08000000 0100000000000000"),
    ACK(SEND_RARP, "13000000 05000000 08000000 0100000000000000"),
    ACK(NET_SET_MTU, "14000000 05000000 08000000 0100000000000000"),
    ACK(SET_BACKEND_REQ_FD, "15000000 05000000 08000000 0100000000000000"),
    {
        REPLY(IOTLB_MSG, U64),
        .bytes = "16000000 05000000 08000000 0000000000000000",
        .print = "IOTLB_MSG reply u64=0x0",
    },
    ACK(SET_VRING_ENDIAN, "17000000 05000000 08000000 0100000000000000"),
    {
        WITH(BIT(CONFIG)),
        REPLY(GET_CONFIG, CONFIG),
        .bytes = "18000000 05000000 10000000 08000000 04000000 00000000"
                 " 78563412",
        .want.payload.config = {.offset = 8,
                                .size = 4,
                                .data_bytes = 4,
                                .data = {0x78, 0x56, 0x34, 0x12}},
        .sizes = "0 8 12-4108",
        .print = "GET_CONFIG reply offset=8 size=4 flags=0x0 data=78563412",
    },
    {
        /* "zero length of payload to indicate an error" */
        WITH(BIT(CONFIG)),
        REPLY(GET_CONFIG, NONE),
        .bytes = "18000000 05000000 00000000",
        .sizes = "0 8 12-4108",
        .print = "GET_CONFIG reply",
    },
    {
        WITH(BIT(CONFIG)),
        REPLY(GET_CONFIG, CONFIG),
        .bytes = "18000000 05000000 0c000000 00000000 3c000000 00000000",
        .want.payload.config = {.size = 60},
        .sizes = "0 8 12-4108",
        .print = "GET_CONFIG reply offset=0 size=60 flags=0x0 data=",
    },
    {
        WITH(BIT(CONFIG)),
        REPLY(GET_CONFIG, U64),
        .bytes = "18000000 05000000 08000000 0100000000000000",
        .want.payload.u64 = 1,
        .sizes = "0 8 12-4108",
        .print = "GET_CONFIG reply u64=0x1",
    },
    ACK(SET_CONFIG, "19000000 05000000 08000000 0100000000000000"),
    {
        WITH(BIT(CRYPTO_SESSION)),
        REPLY(CREATE_CRYPTO_SESSION, OPAQUE),
        .bytes = "1a000000 05000000 06000000 060504030201",
        .want.payload.opaque = {.size = 6, .data = {6, 5, 4, 3, 2, 1}},
        .sizes = "1-4108",
        .print = "CREATE_CRYPTO_SESSION reply bytes=6 data=060504030201",
    },
    ACK(CLOSE_CRYPTO_SESSION, "1b000000 05000000 08000000 0100000000000000"),
    {
        WITH(BIT(PAGEFAULT)),
        REPLY(POSTCOPY_ADVISE, NONE),
        .bytes = "1c000000 05000000 00000000",
        .sizes = "0 8",
        FDS(0, 1),
        .print = "POSTCOPY_ADVISE reply",
    },
    {
        WITH(BIT(PAGEFAULT)),
        REPLY(POSTCOPY_ADVISE, U64),
        .bytes = "1c000000 05000000 08000000 2600000000000000",
        .want.payload.u64 = 38,
        .sizes = "0 8",
        .print = "POSTCOPY_ADVISE reply u64=0x26",
    },
    ACK(POSTCOPY_LISTEN, "1d000000 05000000 08000000 0100000000000000"),
    {
        WITH(BIT(PAGEFAULT)),
        REPLY(POSTCOPY_END, U64),
        .bytes = "1e000000 05000000 08000000 0000000000000000",
        .print = "POSTCOPY_END reply u64=0x0",
    },
    {
        WITH(BIT(INFLIGHT_SHMFD)),
        REPLY(GET_INFLIGHT_FD, INFLIGHT),
        .bytes = "1f000000 05000000 18000000 4020000000000000"
                 " 0010000000000000 0400 8000 00000000",
        .want.payload.inflight = {.mmap_size = 0x2040,
                                  .mmap_offset = 0x1000,
                                  .num_queues = 4,
                                  .queue_size = 128},
        .sizes = "8 20 24",
        FDS(1, 1),
        .print = "GET_INFLIGHT_FD reply size=0x2040 offset=0x1000 queues=4"
                 " queue-size=128",
    },
    {
        /* Nothing to track: the back end gives no buffer. */
        WITH(BIT(INFLIGHT_SHMFD)),
        REPLY(GET_INFLIGHT_FD, INFLIGHT),
        .bytes = "1f000000 05000000 18000000 0000000000000000"
                 " 0000000000000000 0000 0000 00000000",
        .sizes = "8 20 24",
        FDS(0, 1),
        .print = "GET_INFLIGHT_FD reply size=0x0 offset=0x0 queues=0"
                 " queue-size=0",
    },
    {
        WITH(BIT(INFLIGHT_SHMFD)),
        REPLY(GET_INFLIGHT_FD, U64),
        .bytes = "1f000000 05000000 08000000 0c00000000000000",
        .want.payload.u64 = 12,
        .sizes = "8 20 24",
        .print = "GET_INFLIGHT_FD reply u64=0xc",
    },
    {
        /* No buffer, whatever the number says. */
        WITH(BIT(INFLIGHT_SHMFD)),
        REPLY(GET_INFLIGHT_FD, U64),
        .bytes = "1f000000 05000000 08000000 0000000000000000",
        .sizes = "8 20 24",
        .print = "GET_INFLIGHT_FD reply u64=0x0",
    },
    ACK(SET_INFLIGHT_FD, "20000000 05000000 08000000 0100000000000000"),
    ACK(GPU_SET_SOCKET, "21000000 05000000 08000000 0100000000000000"),
    ACK(RESET_DEVICE, "22000000 05000000 08000000 0100000000000000"),
    ACK(VRING_KICK, "23000000 05000000 08000000 0100000000000000"),
    {
        WITH(BIT(CONFIGURE_MEM_SLOTS)),
        REPLY(GET_MAX_MEM_SLOTS, U64),
        .bytes = "24000000 05000000 08000000 fd01000000000000",
        .want.payload.u64 = 509,
        .print = "GET_MAX_MEM_SLOTS reply u64=0x1fd",
    },
    ACK(ADD_MEM_REG, "25000000 05000000 08000000 0100000000000000"),
    {
        WITH(BIT(CONFIGURE_MEM_SLOTS)),
        LISTENING,
        REPLY(ADD_MEM_REG, MEM_REGION),
        .bytes = "25000000 05000000 28000000 0000000000000000"
                 " 0000004000000000 0000001000000000"
                 " 00005544ff7f0000 0010000000000000",
        .want.payload.region = {.guest_addr = 0x40000000,
                                .size = 0x10000000,
                                .user_addr = 0x7fff44550000,
                                .mmap_offset = 0x1000},
        .sizes = "8 40",
        .print = "ADD_MEM_REG reply {guest=0x40000000 size=0x10000000"
                 " user=0x7fff44550000 offset=0x1000}",
    },
    ACK(REM_MEM_REG, "26000000 05000000 08000000 0100000000000000"),
    ACK(SET_STATUS, "27000000 05000000 08000000 0100000000000000"),
    {
        WITH(BIT(STATUS)),
        REPLY(GET_STATUS, U64),
        .bytes = "28000000 05000000 08000000 0b00000000000000",
        .want.payload.u64 = 11,
        .print = "GET_STATUS reply u64=0xb",
    },
    {
        WITH(BIT(SHARED_OBJECT)),
        REPLY(GET_SHARED_OBJECT, NONE),
        .bytes = "29000000 05000000 00000000",
        .sizes = "0 8 16",
        FDS(0, 1),
        .print = "GET_SHARED_OBJECT reply",
    },
    {
        /* The UUID echoed: it says nothing new. */
        WITH(BIT(SHARED_OBJECT)),
        REPLY(GET_SHARED_OBJECT, NONE),
        .bytes = "29000000 05000000 10000000 00112233445566778899aabbccddeeff",
        .sizes = "0 8 16",
        FDS(0, 1),
        .decode_only = true,
        .print = "GET_SHARED_OBJECT reply",
    },
    {
        WITH(BIT(DEVICE_STATE)),
        REPLY(SET_DEVICE_STATE_FD, U64),
        .bytes = "2a000000 05000000 08000000 0001000000000000",
        .want.payload.u64 = 0x100,
        .print = "SET_DEVICE_STATE_FD reply u64=0x100",
    },
    {
        WITH(BIT(DEVICE_STATE)),
        REPLY(SET_DEVICE_STATE_FD, U64),
        .bytes = "2a000000 05000000 08000000 0000000000000000",
        FDS(1, 1),
        .print = "SET_DEVICE_STATE_FD reply u64=0x0",
    },
    {
        WITH(BIT(DEVICE_STATE)),
        REPLY(SET_DEVICE_STATE_FD, U64),
        .bytes = "2a000000 05000000 08000000 0100000000000000",
        .want.payload.u64 = 1,
        .print = "SET_DEVICE_STATE_FD reply u64=0x1",
    },
    {
        WITH(BIT(DEVICE_STATE)),
        REPLY(CHECK_DEVICE_STATE, U64),
        .bytes = "2b000000 05000000 08000000 0500000000000000",
        .want.payload.u64 = 5,
        .print = "CHECK_DEVICE_STATE reply u64=0x5",
    },
    {
        /* Regions 1 and 3 of 256; the rest are absent. */
        WITH(BIT(SHMEM)),
        REPLY(GET_SHMEM_CONFIG, SHMEM_CONFIG),
        .bytes = "2c000000 05000000 08080000 02000000 00000000"
                 " 0000000000000000 0000100000000000"
                 " 0000000000000000 0000000001000000" ABSENT_252,
        .want.payload.shmem_config = {.num_regions = 2,
                                      .sizes = {0, 0x100000, 0, 0x100000000}},
        .sizes = "8 2056",
        .print = "GET_SHMEM_CONFIG reply regions=2 1:0x100000 3:0x100000000",
    },
};

const unsigned reply_vectors_count =
    sizeof(reply_vectors) / sizeof(reply_vectors[0]);
