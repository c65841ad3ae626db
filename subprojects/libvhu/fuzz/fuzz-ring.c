/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Owns the fuzz target of the device's side of a ring. An input is a header,
 * the bytes of ring, inflight region and tables, and then operations, some of
 * which let the driver write while the ring runs.
 */
#include "fuzz/fuzz.h"
#include "vhu/ring.h"

#include <errno.h>
#include <linux/vhost_types.h>
#include <linux/virtio_config.h>
#include <linux/virtio_ring.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

/* The header: kind, size, base in four bytes. */
#define HEADER_BYTES 6u

/* Of the kind. */
#define PACKED    0x01
#define INDIRECT  0x02
#define EVENT_IDX 0x04
#define IN_ORDER  0x08
#define INFLIGHT  0x10
#define IOTLB     0x20
#define LOGGED    0x40
#define ON_EMPTY  0x80

/* Where things are, from guest address 0. */
#define DRIVER_AT   128u
#define DEVICE_AT   160u
#define REGION_AT   256u
#define TABLES_AT   576u
#define IMAGE_BYTES 704u
#define MAX_SIZE    8u

/* Guest memory: three pages, the third in another mapping. With an IOTLB,
 * the second page is the third and the third is not there. */
#define PAGE         4096u
#define MEMORY_BYTES (3 * PAGE)

/* Operations: the low bits of a byte; the others are an argument. */
typedef enum Op {
    OP_POP,
    OP_PUSH,
    OP_FLUSH,
    OP_UNPOP,
    OP_SUSPEND,
    OP_NOTIFY,
    OP_WRITE,  /* then offset (two bytes) and value: the driver writes */
    OP_REOPEN, /* as after a crash */
} Op;

#define OP_MASK  7u
#define ARG_BITS 3u

const char fuzz_name[] = "ring";

static struct {
    uint8_t *memory; /* the driver's view */
    VhuMemory *snapshot;
    VhuIotlb *iotlb;
    VhuDirtyLog *log;
} guest;

typedef struct Run {
    VhuRingConfig config;
    uint8_t kind;
    VhuRing *ring;
    VhuElement *popped[MAX_SIZE];
    unsigned num_popped;
    bool can_unpop;
    bool broken;
} Run;

static void promise(bool kept)
{
    if (!kept) {
        abort();
    }
}

/* ---- The guest, made once ---- */

static void iotlb_add(uint64_t iova, uint64_t user, uint64_t size)
{
    VhuIotlbMsg msg = {
        .iova = iova,
        .size = size,
        .user_addr = user,
        .perm = VHOST_ACCESS_RW,
        .type = VHOST_IOTLB_UPDATE,
    };

    promise(vhu_iotlb_apply(guest.iotlb, &msg, guest.snapshot, NULL) == 0);
}

static void guest_init(void)
{
    static VhuMemTable table = {
        .num_regions = 2,
        .regions =
            {
                {.size = 2 * PAGE, .user_addr = 0x70000000},
                {.guest_addr = 2 * PAGE,
                 .size = PAGE,
                 .user_addr = 0x60000000,
                 .mmap_offset = 2 * PAGE},
            },
    };
    VhuLogArea area = {.size = PAGE};
    VhuMemory *none = vhu_memory_new(-1);
    int fd = memfd_create("guest", MFD_CLOEXEC);
    int fds[] = {fd, fd};

    if (guest.memory) {
        vhu_memory_unref(none);
        close(fd);
        return;
    }
    promise(ftruncate(fd, MEMORY_BYTES) == 0);
    guest.memory =
        mmap(NULL, MEMORY_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    promise(guest.memory != MAP_FAILED);
    guest.snapshot = vhu_memory_with_table(none, &table, fds, NULL);
    guest.log = vhu_dirty_new(fd, &area, -1, NULL);
    guest.iotlb = vhu_iotlb_new();
    promise(guest.snapshot && guest.log && guest.iotlb);
    iotlb_add(0, 0x70000000, PAGE);
    iotlb_add(PAGE, 0x60000000, PAGE);
    vhu_memory_unref(none);
    close(fd);
}

/* ---- What an element must be ---- */

static uint64_t check_pieces(const struct iovec *iov, uint32_t num)
{
    uint64_t sum = 0;
    VhuGuestAddr addr;

    for (uint32_t i = 0; i < num; i++) {
        promise(iov[i].iov_len > 0);
        promise(vhu_memory_ptr_guest(guest.snapshot, iov[i].iov_base, &addr) >=
                iov[i].iov_len);
        sum += iov[i].iov_len;
    }
    return sum;
}

static void check_element(const Run *run, const VhuElement *element)
{
    promise(element->num_out + element->num_in <= VHU_MAX_PIECES);
    promise(check_pieces(element->out, element->num_out) == element->out_bytes);
    promise(check_pieces(element->in, element->num_in) == element->in_bytes);
    promise(element->memory == guest.snapshot);
    for (unsigned i = 0; i < run->num_popped; i++) {
        promise(element != run->popped[i]);
        promise((run->kind & PACKED) || element->id != run->popped[i]->id);
    }
}

/* ---- Operations ---- */

static void open_ring(Run *run)
{
    VhuError err = {0};

    vhu_ring_free(run->ring);
    run->ring = vhu_ring_new(&run->config, &err);
    promise(!run->ring == !!err.code && !err.code == !err.text[0]);
    run->num_popped = 0;
    run->can_unpop = false;
    run->broken = false;
    if (!run->ring) {
        return;
    }
    vhu_ring_set_memory(run->ring, guest.snapshot,
                        run->kind & IOTLB ? guest.iotlb : NULL);
    if (run->kind & LOGGED) {
        vhu_ring_set_log(run->ring, guest.log, true, PAGE - 8);
    }
}

static void pop(Run *run)
{
    uint32_t base = vhu_ring_base(run->ring);
    bool work = vhu_ring_has_work(run->ring);
    VhuElement *element = NULL;
    VhuError err = {0};
    int ret = vhu_ring_pop(run->ring, &element, &err);

    promise(ret == 1 || ret == 0 || ret == -EAGAIN || ret == -EPROTO);
    promise(work || ret == 0);
    promise(!run->broken || ret == -EPROTO);
    run->broken = ret == -EPROTO;
    promise(run->broken == (err.code == EPROTO) &&
            run->broken == !!err.text[0]);
    if (ret < 1) {
        promise(vhu_ring_base(run->ring) == base);
        promise(ret != -EAGAIN || (run->kind & IOTLB));
        return;
    }
    promise(run->num_popped < run->config.size);
    check_element(run, element);
    run->popped[run->num_popped++] = element;
    run->can_unpop = true;
}

static VhuElement *take_popped(Run *run, unsigned arg)
{
    unsigned i = arg % run->num_popped;
    VhuElement *element = run->popped[i];

    run->num_popped--;
    memmove(&run->popped[i], &run->popped[i + 1],
            (run->num_popped - i) * sizeof(run->popped[0]));
    run->can_unpop = false;
    return element;
}

/* Use the buffer: what is written may be the ring itself. */
static void push(Run *run, unsigned arg)
{
    VhuElement *element = take_popped(run, arg);
    uint8_t bytes[64];
    size_t size = vhu_element_read(element, arg, bytes, sizeof(bytes));

    size = vhu_element_write(element, 0, bytes, size);
    vhu_ring_push(run->ring, element, (uint32_t)size);
}

static void do_op(Run *run, Op op, unsigned arg)
{
    switch (op) {
    case OP_POP:
        pop(run);
        break;
    case OP_PUSH:
        if (run->num_popped > 0) {
            push(run, arg);
        }
        break;
    case OP_FLUSH:
        vhu_ring_flush(run->ring);
        break;
    case OP_UNPOP:
        if (run->can_unpop) {
            vhu_ring_unpop(run->ring, take_popped(run, run->num_popped - 1));
        }
        break;
    case OP_SUSPEND:
        if (run->num_popped > 0) {
            vhu_ring_suspend(run->ring, take_popped(run, arg));
        }
        break;
    case OP_NOTIFY:
        vhu_ring_set_notify(run->ring, arg & 1);
        break;
    case OP_WRITE:
        break;
    case OP_REOPEN:
        run->config.base = vhu_ring_base(run->ring);
        open_ring(run);
        break;
    }
}

/* Packed: what is in flight is no more than the ring has descriptors. */
static void check_base(const Run *run)
{
    uint32_t base = vhu_ring_base(run->ring);
    uint32_t avail = base & 0x7fff;
    uint32_t used = base >> 16 & 0x7fff;

    if (run->kind & PACKED) {
        avail += !(base >> 15 & 1) != !(base >> 31) ? run->config.size : 0;
        promise(avail - used <= run->config.size);
    }
}

static void run_ops(Run *run, const uint8_t *bytes, size_t size)
{
    size_t at = 0;

    while (at < size && run->ring) {
        Op op = bytes[at] & OP_MASK;
        unsigned arg = bytes[at] >> ARG_BITS;

        at++;
        if (op == OP_WRITE && at + 3 <= size) {
            unsigned offset = bytes[at] | (unsigned)bytes[at + 1] << 8;

            guest.memory[offset % MEMORY_BYTES] = bytes[at + 2];
            at += 3;
        }
        do_op(run, op, arg);
        if (run->ring) {
            promise(vhu_ring_in_flight(run->ring) <= run->config.size);
            check_base(run);
        }
    }
}

/* Everything is given back: the ring has drained, and its base is one. */
static void finish(Run *run)
{
    while (run->num_popped > 0) {
        push(run, 0);
    }
    vhu_ring_flush(run->ring);
    promise(vhu_ring_in_flight(run->ring) == 0);
    vhu_ring_free(run->ring);
}

static uint64_t features_of(uint8_t kind)
{
    static const unsigned bits[8] = {
        VIRTIO_F_RING_PACKED,    VIRTIO_RING_F_INDIRECT_DESC,
        VIRTIO_RING_F_EVENT_IDX, VIRTIO_F_IN_ORDER,
        VIRTIO_F_VERSION_1,      VIRTIO_F_ACCESS_PLATFORM,
        VIRTIO_F_VERSION_1,      VIRTIO_F_NOTIFY_ON_EMPTY,
    };
    uint64_t features = 0;

    for (unsigned i = 0; i < 8; i++) {
        features |= kind >> i & 1 ? 1ULL << bits[i] : 0;
    }
    return features;
}

void fuzz_one(const uint8_t *bytes, size_t size)
{
    Run run = {0};
    uint8_t *ring;
    size_t image;

    guest_init();
    if (size < HEADER_BYTES) {
        return;
    }
    run.kind = bytes[0];
    ring = vhu_memory_guest_ptr(guest.snapshot, 0, 2 * PAGE);
    run.config = (VhuRingConfig){
        .size =
            run.kind & PACKED ? 1 + bytes[1] % MAX_SIZE : 1u << bytes[1] % 4,
        .features = features_of(run.kind),
        .desc = ring,
        .driver = ring + DRIVER_AT,
        .device = ring + DEVICE_AT,
        .inflight = run.kind & INFLIGHT ? ring + REGION_AT : NULL,
        .inflight_size = MAX_SIZE,
        .request_bytes = 8,
    };
    memcpy(&run.config.base, bytes + 2, sizeof(run.config.base));
    bytes += HEADER_BYTES;
    size -= HEADER_BYTES;
    image = size < IMAGE_BYTES ? size : IMAGE_BYTES;
    memset(guest.memory, 0, MEMORY_BYTES);
    memcpy(guest.memory, bytes, image);
    open_ring(&run);
    run_ops(&run, bytes + image, size - image);
    if (run.ring) {
        finish(&run);
    }
}

/* ---- Seeds ---- */

typedef struct Seed {
    const char *header;
    struct {
        unsigned at;
        const char *hex;
    } put[4];
    const char *ops;
} Seed;

static const Seed seeds[] = {
    /* Split: a chain of two and a single one. */
    {
        .header = "00 02 00 00 00 00",
        .put = {{0, "00 10 00 00 00 00 00 00 10 00 00 00 01 00 01 00"
                    "f0 1f 00 00 00 00 00 00 20 00 00 00 02 00 00 00"
                    "00 12 00 00 00 00 00 00 08 00 00 00 00 00 00 00"},
                {DRIVER_AT, "00 00 02 00 00 00 02 00"}},
        .ops = "0d 00 00 09 02 01 02 05 07 06 82 00 03 00",
    },
    /* Split, in order, event index, indirect, tracked, logged. */
    {
        .header = "5e 03 00 00 00 00",
        .put = {{0, "40 02 00 00 00 00 00 00 20 00 00 00 04 00 00 00"
                    "00 10 00 00 00 00 00 00 10 00 00 00 01 00 02 00"
                    "50 02 00 00 00 00 00 00 10 00 00 00 04 00 00 00"},
                {DRIVER_AT, "00 00 02 00 00 00 01 00"},
                {TABLES_AT, "00 11 00 00 00 00 00 00 04 00 00 00 01 00 01 00"
                            "00 13 00 00 00 00 00 00 04 00 00 00 02 00"}},
        .ops = "00 00 09 02 03 07 00 01 02 04 07 00 00",
    },
    /* Split, with an IOTLB that lacks the last page, and a region with one in
     * flight and an unfinished batch. */
    {
        .header = "30 02 00 00 00 00",
        .put = {{0, "00 10 00 00 00 00 00 00 10 00 00 00 02 00 00 00"
                    "00 20 00 00 00 00 00 00 10 00 00 00 02 00 00 00"},
                {DRIVER_AT, "00 00 03 00 00 00 02 00 01 00"},
                {DEVICE_AT, "00 00 01 00 02 00 00 00"},
                {REGION_AT, "00 00 00 00 00 00 00 00 01 00 08 00 02 00 00 00"
                            "01 00 00 00 00 00 00 00 02 00 00 00 00 00 00 00"
                            "00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00"
                            "01 00 00 00 00 00 00 00 01"}},
        .ops = "00 00 01 02 07 00",
    },
    /* Packed: a list of two that wraps, and a table. */
    {
        .header = "07 02 02 80 02 80",
        .put = {{0, "f0 1f 00 00 00 00 00 00 20 00 00 00 05 00 02 80"
                    "40 02 00 00 00 00 00 00 20 00 00 00 06 00 04 80"
                    "00 10 00 00 00 00 00 00 10 00 00 00 05 00 81 00"},
                {DRIVER_AT, "00 80 02 00"},
                {TABLES_AT, "00 11 00 00 00 00 00 00 04 00 00 00 00 00 00 00"
                            "00 13 00 00 00 00 00 00 04 00 00 00 00 00 02 00"}},
        .ops = "0d 00 00 09 02 01 02 05 07 03 00",
    },
    /* Packed, in order, tracked, from new; a crash in between. */
    {
        .header = "d9 03 00 80 00 80",
        .put = {{0, "00 10 00 00 00 00 00 00 10 00 00 00 01 00 81 00"
                    "00 11 00 00 00 00 00 00 10 00 00 00 01 00 82 00"
                    "00 12 00 00 00 00 00 00 10 00 00 00 02 00 82 00"}},
        .ops = "00 00 09 02 07 00 00 03 01 02 07 00 04",
    },
    /* Packed, tracked: one in flight, one half used. */
    {
        .header = "11 01 00 80 00 80",
        .put = {{0, "00 10 00 00 00 00 00 00 10 00 00 00 01 00 82 80"
                    "00 11 00 00 00 00 00 00 10 00 00 00 02 00 82 00"},
                {REGION_AT, "00 00 00 00 00 00 00 00 01 00 02 00 00 00 02 00"
                            "01 00 00 00 01 01 00 00 00 00 00 00 00 00 00 00"
                            "01 00 02 00 00 00 01 00 00 00 00 00 00 00 00 00"
                            "01 00 82 00 10 00 00 00 00 10 00 00 00 00 00 00"
                            "01 00 02 00 01 00 01 00 01 00 00 00 00 00 00 00"
                            "02 00 82 00 10 00 00 00 00 11 00 00 00 00"}},
        .ops = "00 01 02 07 00",
    },
    /* Packed: all is in flight, and the driver makes more available. */
    {
        .header = "01 01 00 80 00 80",
        .put = {{0, "00 10 00 00 00 00 00 00 10 00 00 00 01 00 81 00"
                    "00 11 00 00 00 00 00 00 10 00 00 00 01 00 80 00"}},
        .ops = "00 06 0f 00 80 06 0e 00 00 00 01 02",
    },
    /* Packed: a region of four entries for a ring of two, both in flight. */
    {
        .header = "11 01 00 80 00 80",
        .put = {{REGION_AT, "00 00 00 00 00 00 00 00 01 00 04 00 01 00 01 00"
                            "01 00 01 00 01 01 00 00 00 00 00 00 00 00 00 00"
                            "01 00 02 00 02 00 02 00 00 00 00 00 00 00 00 00"
                            "00 00 81 00 10 00 00 00 00 10 00 00 00 00 00 00"
                            "00 00 03 00 00 00 00 00 00 00 00 00 00 00 00 00"
                            "00 00 80 00 10 00 00 00 00 10 00 00 00 00 00 00"
                            "00 00 01 00 00 00 00 00 00 00 00 00 00 00 00 00"
                            "07 00 82 00 10 00 00 00 00 10 00 00 00 00 00 00"
                            "00 00 04 00"}},
        .ops = "00 03 00 07 00 01 02 04 07",
    },
};

static size_t put_hex(uint8_t *bytes, const char *hex)
{
    size_t num = 0;

    while (hex && *(hex += strspn(hex, " "))) {
        promise(sscanf(hex, "%2hhx", &bytes[num++]) == 1);
        hex += 2;
    }
    return num;
}

size_t fuzz_seed(unsigned number, uint8_t *bytes)
{
    const Seed *seed = &seeds[number];

    if (number >= sizeof(seeds) / sizeof(seeds[0])) {
        return 0;
    }
    memset(bytes, 0, HEADER_BYTES + IMAGE_BYTES);
    put_hex(bytes, seed->header);
    for (unsigned i = 0; i < sizeof(seed->put) / sizeof(seed->put[0]); i++) {
        put_hex(bytes + HEADER_BYTES + seed->put[i].at, seed->put[i].hex);
    }
    return HEADER_BYTES + IMAGE_BYTES +
           put_hex(bytes + HEADER_BYTES + IMAGE_BYTES, seed->ops);
}
