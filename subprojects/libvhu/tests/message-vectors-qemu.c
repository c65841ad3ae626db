/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Owns bytes recorded from another front end: QEMU 7.2 (Debian 12) with a
 * vhost-user-blk-pci of one or two queues and 256 MiB from a memfd, started,
 * stopped and migrated by a Linux guest; where told, behind a virtual IOMMU.
 */
#include "tests/message-vectors.h"

#define BIT(name) VHU_PROTOCOL_BIT(name)

#define REQUEST(id, bits, payload_kind)                                        \
    .want.request = VHOST_USER_##id, .want.flags = (bits),                     \
    .want.kind = VHU_PAYLOAD_##payload_kind
#define WITH(features) .wire.protocol_features = (features)
#define FDS(min, max)  .fds_min = (min), .fds_max = (max)

#define ZEROS_19 "00000000000000000000000000000000000000"

const Vector qemu_vectors[] = {
    {
        WITH(BIT(REPLY_ACK) | BIT(BACKEND_REQ)),
        REQUEST(SET_BACKEND_REQ_FD, 0x9, NONE),
        .bytes = "150000000900000000000000",
        FDS(1, 1),
        .print = "SET_BACKEND_REQ_FD need-reply",
    },
    {
        /* 57 bytes: up to write zeroes, which this QEMU leaves out. */
        WITH(BIT(CONFIG)),
        REQUEST(GET_CONFIG, 0x1, CONFIG),
        .bytes =
            "180000000100000045000000000000003900000000000000" ZEROS_19 ZEROS_19
                ZEROS_19,
        .want.payload.config = {.size = 57, .data_bytes = 57},
        .sizes = "12-4108",
        .print = "GET_CONFIG offset=0 size=57 flags=0x0 data=0000000000000000"
                 "000000000000000000000000000000000000000000000000...",
    },
    {
        WITH(BIT(STATUS)),
        REQUEST(SET_STATUS, 0x1, U64),
        .bytes = "2700000001000000080000000700000000000000",
        .want.payload.u64 = 7,
        .print = "SET_STATUS u64=0x7",
    },
    {
        /* With the padding of a C struct; it refuses a reply without. */
        WITH(BIT(INFLIGHT_SHMFD)),
        REQUEST(GET_INFLIGHT_FD, 0x1, INFLIGHT),
        .bytes = "1f0000000100000018000000000000000000000000000000000000000200"
                 "800000000000",
        .want.payload.inflight = {.num_queues = 2, .queue_size = 128},
        .sizes = "20 24",
        .print = "GET_INFLIGHT_FD size=0x0 offset=0x0 queues=2 queue-size=128",
    },
    {
        WITH(BIT(INFLIGHT_SHMFD)),
        REQUEST(SET_INFLIGHT_FD, 0x1, INFLIGHT),
        .bytes = "200000000100000018000000001000000000000000000000000000000200"
                 "800000000000",
        .want.payload.inflight = {.mmap_size = 4096,
                                  .num_queues = 2,
                                  .queue_size = 128},
        .sizes = "20 24",
        FDS(1, 1),
        .print = "SET_INFLIGHT_FD size=0x1000 offset=0x0 queues=2"
                 " queue-size=128",
    },
    {
        WITH(BIT(REPLY_ACK)),
        REQUEST(SET_MEM_TABLE, 0x9, MEM_TABLE),
        .bytes =
            "05000000090000002800000001000000000000000000000000000000000000"
            "100000000000f0ff63677f00000000000000000000",
        .want.payload.table = {.num_regions = 1,
                               .regions = {{.size = 0x10000000,
                                            .user_addr = 0x7f6763fff000}}},
        .sizes = "8-264/32",
        FDS(1, 1),
        .print = "SET_MEM_TABLE need-reply regions=1 {guest=0x0"
                 " size=0x10000000 user=0x7f6763fff000 offset=0x0}",
    },
    {
        WITH(BIT(REPLY_ACK) | BIT(CONFIGURE_MEM_SLOTS)),
        REQUEST(ADD_MEM_REG, 0x9, MEM_REGION),
        .bytes =
            "25000000090000002800000000000000000000000000000000000000000000"
            "100000000000f0ffebf47f00000000000000000000",
        .want.payload.region = {.size = 0x10000000,
                                .user_addr = 0x7ff4ebfff000},
        FDS(1, 1),
        .print = "ADD_MEM_REG need-reply {guest=0x0 size=0x10000000"
                 " user=0x7ff4ebfff000 offset=0x0}",
    },
    {
        REQUEST(SET_VRING_NUM, 0x1, VRING_STATE),
        .bytes = "0800000001000000080000000000000080000000",
        .want.payload.state = {.num = 128},
        .print = "SET_VRING_NUM index=0 num=128",
    },
    {
        /* User addresses, and a log address although it logs nothing. */
        REQUEST(SET_VRING_ADDR, 0x1, VRING_ADDR),
        .bytes =
            "090000000100000028000000000000000000000000c0fd73677f000000d0fd"
            "73677f000000c8fd73677f000000e0fd0f00000000",
        .want.payload.addr = {.desc = 0x7f6773fdc000,
                              .used = 0x7f6773fdd000,
                              .avail = 0x7f6773fdc800,
                              .log = 0xffde000},
        .print = "SET_VRING_ADDR index=0 flags=0x0 desc=0x7f6773fdc000"
                 " used=0x7f6773fdd000 avail=0x7f6773fdc800 log=0xffde000",
    },
    {
        /* While it migrates. */
        WITH(BIT(REPLY_ACK)),
        REQUEST(SET_VRING_ADDR, 0x9, VRING_ADDR),
        .bytes =
            "090000000900000028000000000000000100000000c0fd73677f000000d0fd"
            "73677f000000c8fd73677f000000e0fd0f00000000",
        .want.payload.addr = {.flags = 1,
                              .desc = 0x7f6773fdc000,
                              .used = 0x7f6773fdd000,
                              .avail = 0x7f6773fdc800,
                              .log = 0xffde000},
        .print = "SET_VRING_ADDR need-reply index=0 flags=0x1"
                 " desc=0x7f6773fdc000 used=0x7f6773fdd000"
                 " avail=0x7f6773fdc800 log=0xffde000",
    },
    {
        WITH(BIT(LOG_SHMFD)),
        REQUEST(SET_LOG_BASE, 0x1, LOG),
        .bytes = "06000000010000001000000000200000000000000000000000000000",
        .want.payload.log = {.size = 8192},
        FDS(1, 1),
        .print = "SET_LOG_BASE size=0x2000 offset=0x0",
    },
    {
        /* Behind an IOMMU: what stands in the padding is of no account. */
        WITH(BIT(REPLY_ACK)),
        REQUEST(IOTLB_MSG, 0x9, IOTLB),
        .bytes =
            "16000000090000002000000000e0fd0f00000000001000000000000000d0fd"
            "ef217f000003025565ac333649",
        .want.payload.iotlb = {.iova = 0xffde000,
                               .size = 0x1000,
                               .user_addr = 0x7f21effdd000,
                               .perm = 3,
                               .type = 2},
        .decode_only = true,
        .print = "IOTLB_MSG need-reply type=update iova=0xffde000 size=0x1000"
                 " user=0x7f21effdd000 perm=3",
    },
    {
        REQUEST(GET_VRING_BASE, 0x1, VRING_STATE),
        .bytes = "0b00000001000000080000000000000000000000",
        .print = "GET_VRING_BASE index=0 num=0",
    },
};

const unsigned qemu_vectors_count =
    sizeof(qemu_vectors) / sizeof(qemu_vectors[0]);
