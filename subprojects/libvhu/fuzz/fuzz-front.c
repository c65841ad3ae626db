/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Owns the hostile side of the back end's fuzzer: a front end and a guest
 * that do what the input says, legal or nearly.
 */
#include "fuzz/fuzz-front.h"

#include "vhu/channel.h"
#include "vhu/inflight.h"

#include <fcntl.h>
#include <linux/vhost_types.h>
#include <linux/virtio_config.h>
#include <linux/virtio_ring.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

/* Past its end the input is zeroes. */
uint64_t fuzz_take(Input *in, size_t bytes)
{
    uint64_t value = 0;

    if (bytes > in->left) {
        bytes = in->left;
    }
    if (bytes) {
        memcpy(&value, in->data, bytes);
        in->data += bytes;
        in->left -= bytes;
    }
    return value;
}

static void drain(int fd)
{
    uint8_t bytes[4096];
    union {
        struct cmsghdr align;
        char room[CMSG_SPACE(VHU_MAX_FDS * sizeof(int))];
    } control;
    struct iovec iov = {.iov_base = bytes, .iov_len = sizeof(bytes)};
    struct msghdr msg = {.msg_iov = &iov, .msg_iovlen = 1};

    for (;;) {
        struct cmsghdr *cmsg;

        msg.msg_control = &control;
        msg.msg_controllen = sizeof(control);
        if (recvmsg(fd, &msg, MSG_DONTWAIT) <= 0) {
            return;
        }
        cmsg = CMSG_FIRSTHDR(&msg);
        for (size_t at = CMSG_LEN(0); cmsg && at < cmsg->cmsg_len;
             at += sizeof(int)) {
            int received;

            memcpy(&received, (uint8_t *)cmsg + at, sizeof(received));
            close(received);
        }
    }
}

static void turn(Front *front)
{
    vhu_loop_dispatch(front->loop, 0);
    drain(front->socket);
    if (front->requests >= 0) {
        drain(front->requests);
    }
}

static void connect_front(Front *front)
{
    int pair[2];

    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0,
                   pair) < 0) {
        return;
    }
    front->socket = pair[1];
    vhu_backend_serve(front->backend, pair[0], NULL, NULL);
}

/* An fd of the kind the input says; for the caller to close. */
static int make_fd(Front *front, unsigned kind)
{
    int pair[2];

    switch (kind % 4) {
    case 0:
        return fcntl(front->memory_fd, F_DUPFD_CLOEXEC, 0);
    case 1:
        return eventfd(kind & 8, EFD_CLOEXEC | EFD_NONBLOCK);
    case 2:
        if (pipe2(pair, O_CLOEXEC | O_NONBLOCK) < 0) {
            return -1;
        }
        close(pair[kind & 4 ? 0 : 1]);
        return pair[kind & 4 ? 1 : 0];
    default:
        if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0,
                       pair) < 0) {
            return -1;
        }
        if (front->requests >= 0) {
            close(front->requests);
        }
        front->requests = pair[1];
        return pair[0];
    }
}

static void send_bytes(int fd, const void *bytes, size_t size, const int *fds,
                       unsigned num_fds)
{
    union {
        struct cmsghdr align;
        char room[CMSG_SPACE(VHU_MAX_FDS * sizeof(int))];
    } control = {0};
    struct iovec iov = {.iov_base = (void *)bytes, .iov_len = size};
    struct msghdr msg = {.msg_iov = &iov, .msg_iovlen = 1};

    if (num_fds) {
        control.align.cmsg_level = SOL_SOCKET;
        control.align.cmsg_type = SCM_RIGHTS;
        control.align.cmsg_len = CMSG_LEN(num_fds * sizeof(int));
        memcpy(CMSG_DATA(&control.align), fds, num_fds * sizeof(int));
        msg.msg_control = &control;
        msg.msg_controllen = CMSG_SPACE(num_fds * sizeof(int));
    }
    /* A closed or full socket is one more thing that happens to it. */
    if (sendmsg(fd, &msg, MSG_NOSIGNAL | MSG_DONTWAIT) < 0) {
        return;
    }
}

/* Header fields, payload, fd kinds: all from the input. */
static void send_any(Front *front, int fd)
{
    struct {
        uint32_t header[3];
        uint8_t payload[256];
    } msg = {0};
    const unsigned what = (unsigned)fuzz_take(&front->in, 1);
    unsigned num_fds = (unsigned)fuzz_take(&front->in, 1) % 4;
    int fds[4];

    msg.header[0] = what % 46;
    msg.header[1] = VHU_FLAG_VERSION | (what >= 128 ? VHU_FLAG_NEED_REPLY : 0);
    msg.header[2] = (uint32_t)fuzz_take(&front->in, 1);
    for (unsigned i = 0; i < msg.header[2]; i++) {
        msg.payload[i] = (uint8_t)fuzz_take(&front->in, 1);
    }
    for (unsigned i = 0; i < num_fds; i++) {
        fds[i] = make_fd(front, (unsigned)fuzz_take(&front->in, 1));
    }
    if (fd >= 0) {
        send_bytes(fd, &msg, 12 + msg.header[2], fds, num_fds);
    }
    for (unsigned i = 0; i < num_fds; i++) {
        close(fds[i]);
    }
}

static void send_legal(Front *front, VhuMessage *msg)
{
    const VhuWire wire = {.direction = VHU_FROM_FRONTEND,
                          .protocol_features = VHU_PROTOCOL_BIT(LOG_SHMFD)};
    uint8_t bytes[VHU_HEADER_BYTES + VHU_MAX_PAYLOAD_BYTES];
    int size;

    msg->flags |= VHU_FLAG_VERSION;
    size = vhu_message_encode(&wire, msg, bytes, NULL);
    if (size > 0) {
        send_bytes(front->socket, bytes, (size_t)size, msg->fds, msg->num_fds);
    }
}

static void send_u64(Front *front, uint32_t request, uint64_t value)
{
    VhuMessage msg = {
        .request = request, .kind = VHU_PAYLOAD_U64, .payload.u64 = value};

    send_legal(front, &msg);
}

static void negotiate(Front *front)
{
    const uint64_t wish = fuzz_take(&front->in, 8);
    const uint64_t protocol = fuzz_take(&front->in, 4);

    send_u64(front, VHOST_USER_SET_PROTOCOL_FEATURES,
             protocol & vhu_backend_protocol_features(front->backend));
    send_u64(front, VHOST_USER_SET_FEATURES,
             (wish & vhu_backend_features(front->backend)) |
                 1ULL << VIRTIO_F_VERSION_1);
    front->packed = wish >> VIRTIO_F_RING_PACKED & 1;
    front->ring_base = !(wish >> VIRTIO_F_ACCESS_PLATFORM & 1) &&
                               protocol & VHU_PROTOCOL_BIT(GPA_ADDRESSES)
                           ? 0
                           : FUZZ_USER_BASE;
}

static void share_memory(Front *front)
{
    VhuMessage msg = {
        .request = VHOST_USER_SET_MEM_TABLE,
        .kind = VHU_PAYLOAD_MEM_TABLE,
        .payload.table = {.num_regions = 1,
                          .regions = {{.size = FUZZ_MEMORY_BYTES,
                                       .user_addr = FUZZ_USER_BASE}}},
        .num_fds = 1,
        .fds = {front->memory_fd},
    };

    send_legal(front, &msg);
}

static void send_state(Front *front, uint32_t request, uint32_t index,
                       uint32_t num)
{
    VhuMessage msg = {.request = request,
                      .kind = VHU_PAYLOAD_VRING_STATE,
                      .payload.state = {.index = index, .num = num}};

    send_legal(front, &msg);
}

static void start_ring(Front *front)
{
    const uint32_t index = (uint32_t)fuzz_take(&front->in, 1) % FUZZ_NUM_QUEUES;
    const uint64_t at = front->ring_base + index * 4096u;
    VhuMessage addr = {.request = VHOST_USER_SET_VRING_ADDR,
                       .kind = VHU_PAYLOAD_VRING_ADDR,
                       .payload.addr = {.index = index,
                                        .flags = fuzz_take(&front->in, 1) & 1,
                                        .desc = at,
                                        .avail = at + 1024,
                                        .used = at + 2048}};
    VhuMessage kick = {.request = VHOST_USER_SET_VRING_KICK,
                       .kind = VHU_PAYLOAD_VRING_FD,
                       .payload.u64 = index,
                       .num_fds = 1,
                       .fds = {front->kick_fds[index]}};

    front->rings[index] =
        (FuzzRing){.size = 1u << (fuzz_take(&front->in, 1) % 7), .wrap = true};
    send_state(front, VHOST_USER_SET_VRING_NUM, index,
               front->rings[index].size);
    send_state(front, VHOST_USER_SET_VRING_BASE, index,
               (front->packed ? 0x80008000u : 0) ^
                   (uint32_t)fuzz_take(&front->in, 1));
    send_legal(front, &addr);
    send_legal(front, &kick);
    send_state(front, VHOST_USER_SET_VRING_ENABLE, index, 1);
}

static void write_memory(Front *front)
{
    const unsigned at =
        (unsigned)fuzz_take(&front->in, 2) % (FUZZ_MEMORY_BYTES - 16);
    const uint64_t value = fuzz_take(&front->in, 8);
    const struct iovec iov = {.iov_base = (void *)&value,
                              .iov_len = sizeof(value)};

    /* Through the file, not the mapping: it may have been truncated. */
    if (pwritev(front->memory_fd, &iov, 1, at) < 0) {
        return;
    }
}

static void kick_queue(Front *front)
{
    const uint64_t one = 1;

    if (write(front->kick_fds[fuzz_take(&front->in, 1) % FUZZ_NUM_QUEUES], &one,
              sizeof(one)) < 0) {
        return;
    }
}

static void reconnect(Front *front)
{
    close(front->socket);
    connect_front(front);
}

static void truncate_memory(Front *front)
{
    if (ftruncate(front->memory_fd, (off_t)fuzz_take(&front->in, 2)) < 0) {
        return;
    }
}

static void send_message(Front *front)
{
    send_any(front, front->socket);
}

static void answer_request(Front *front)
{
    send_any(front, front->requests);
}

/* ---- what a guest's driver would do, nearly ---- */

static void put(Front *front, uint64_t at, const void *data, size_t bytes)
{
    if (pwrite(front->memory_fd, data, bytes, (off_t)at) < 0) {
        return;
    }
}

typedef struct FuzzDesc {
    uint64_t addr;
    uint32_t len;
    uint16_t flags_or_id; /* split: flags, next; packed: id, flags */
    uint16_t next_or_flags;
} FuzzDesc;

/* Mostly inside memory; of any flags, mostly sensible ones. */
static FuzzDesc make_desc(Front *front, bool more, uint16_t *flags)
{
    const unsigned odd = (unsigned)fuzz_take(&front->in, 1);

    *flags = (more ? VRING_DESC_F_NEXT : 0) |
             (odd & 1 ? VRING_DESC_F_WRITE : 0) |
             (odd > 240 ? VRING_DESC_F_INDIRECT : 0);
    return (FuzzDesc){
        .addr = fuzz_take(&front->in, 2) +
                (odd & 2 ? 0 : FUZZ_USER_BASE * (odd >> 2 & 1)),
        .len = (uint32_t)fuzz_take(&front->in, 1) * (odd & 8 ? 16 : 1),
    };
}

static void offer_split(Front *front, unsigned index, unsigned num)
{
    FuzzRing *ring = &front->rings[index];
    const uint64_t at = index * 4096u;
    const uint16_t head = ring->avail % ring->size;
    uint16_t flags;

    for (unsigned i = 0; i < num; i++) {
        const uint16_t slot = (head + i) % ring->size;
        FuzzDesc desc = make_desc(front, i + 1 < num, &flags);

        desc.flags_or_id = flags;
        desc.next_or_flags = (slot + 1) % ring->size;
        put(front, at + slot * sizeof(desc), &desc, sizeof(desc));
    }
    put(front, at + 1024 + 4 + head * 2u, &head, sizeof(head));
    ring->avail++;
    put(front, at + 1024 + 2, &ring->avail, sizeof(ring->avail));
}

static void offer_packed(Front *front, unsigned index, unsigned num)
{
    FuzzRing *ring = &front->rings[index];
    uint16_t flags;

    for (unsigned i = 0; i < num; i++) {
        FuzzDesc desc = make_desc(front, i + 1 < num, &flags);

        desc.flags_or_id = ring->avail;
        desc.next_or_flags =
            flags | (uint16_t)(1u << (ring->wrap ? VRING_PACKED_DESC_F_AVAIL
                                                 : VRING_PACKED_DESC_F_USED));
        put(front, index * 4096u + ring->avail * sizeof(desc), &desc,
            sizeof(desc));
        if (++ring->avail == ring->size) {
            ring->avail = 0;
            ring->wrap = !ring->wrap;
        }
    }
}

static void offer_buffer(Front *front)
{
    const unsigned index = (unsigned)fuzz_take(&front->in, 1) % FUZZ_NUM_QUEUES;
    const unsigned num = 1 + (unsigned)fuzz_take(&front->in, 1) % 4;
    const uint64_t one = 1;

    if (front->rings[index].size == 0) {
        return;
    }
    if (front->packed) {
        offer_packed(front, index, num);
    } else {
        offer_split(front, index, num);
    }
    if (write(front->kick_fds[index], &one, sizeof(one)) < 0) {
        return;
    }
}

/* ---- shared buffers and channels ---- */

static int filled_memfd(Front *front, size_t bytes)
{
    const int fd = memfd_create("fuzz", MFD_CLOEXEC);
    const unsigned num = (unsigned)fuzz_take(&front->in, 1) % 8;

    if (ftruncate(fd, (off_t)bytes) < 0) {
        return fd;
    }
    for (unsigned i = 0; i < num; i++) {
        const uint64_t value = fuzz_take(&front->in, 2);

        if (pwrite(fd, &value, 2,
                   (off_t)(fuzz_take(&front->in, 2) % (bytes - 2))) < 0) {
            return fd;
        }
    }
    return fd;
}

static void set_inflight(Front *front)
{
    const uint64_t bytes =
        FUZZ_NUM_QUEUES * vhu_inflight_queue_bytes(front->packed, 64);
    VhuMessage msg = {
        .request = VHOST_USER_SET_INFLIGHT_FD,
        .kind = VHU_PAYLOAD_INFLIGHT,
        .payload.inflight = {.mmap_size = bytes,
                             .num_queues = FUZZ_NUM_QUEUES,
                             .queue_size = 64},
        .num_fds = 1,
        .fds = {filled_memfd(front, bytes)},
    };

    send_legal(front, &msg);
    close(msg.fds[0]);
}

static void set_log(Front *front)
{
    VhuMessage msg = {
        .request = VHOST_USER_SET_LOG_BASE,
        .kind = VHU_PAYLOAD_LOG,
        .payload.log = {.size = 64},
        .num_fds = 1,
        .fds = {filled_memfd(front, 64)},
    };

    send_legal(front, &msg);
    close(msg.fds[0]);
}

static void update_iotlb(Front *front)
{
    const uint64_t page = fuzz_take(&front->in, 1) % 16 * 4096;
    VhuMessage msg = {
        .request = VHOST_USER_IOTLB_MSG,
        .kind = VHU_PAYLOAD_IOTLB,
        .payload.iotlb = {.iova = page + FUZZ_USER_BASE *
                                             (fuzz_take(&front->in, 1) & 1),
                          .size = 4096 * (1 + fuzz_take(&front->in, 1) % 4),
                          .user_addr = FUZZ_USER_BASE +
                                       fuzz_take(&front->in, 1) % 16 * 4096,
                          .perm = VHOST_ACCESS_RW,
                          .type = VHOST_IOTLB_UPDATE},
    };

    send_legal(front, &msg);
}

static void open_requests(Front *front)
{
    VhuMessage msg = {
        .request = VHOST_USER_SET_BACKEND_REQ_FD,
        .num_fds = 1,
        .fds = {make_fd(front, 3)},
    };

    send_legal(front, &msg);
    close(msg.fds[0]);
}

static void move_state(Front *front)
{
    const unsigned load = (unsigned)fuzz_take(&front->in, 1) & 1;
    uint8_t state[16] = {0};
    int ends[2];
    VhuMessage msg = {
        .request = VHOST_USER_SET_DEVICE_STATE_FD,
        .kind = VHU_PAYLOAD_DEVICE_STATE,
        .payload.transfer = {.direction = load},
        .num_fds = 1,
    };

    if (pipe2(ends, O_CLOEXEC | O_NONBLOCK) < 0) {
        return;
    }
    msg.fds[0] = ends[load ? 0 : 1];
    if (load && write(ends[1], state, fuzz_take(&front->in, 1) % 17) < 0) {
        state[0] = 0;
    }
    send_legal(front, &msg);
    close(ends[0]);
    close(ends[1]);
}

static void stop_ring(Front *front)
{
    send_state(front, VHOST_USER_GET_VRING_BASE,
               (uint32_t)fuzz_take(&front->in, 1) % FUZZ_NUM_QUEUES, 0);
}

/* ---- acting ---- */

static void (*const actions[FRONT_ACTIONS])(Front *front) = {
    [FRONT_MESSAGE] = send_message,      [FRONT_NEGOTIATE] = negotiate,
    [FRONT_SHARE_MEMORY] = share_memory, [FRONT_START_RING] = start_ring,
    [FRONT_OFFER] = offer_buffer,        [FRONT_WRITE_MEMORY] = write_memory,
    [FRONT_KICK] = kick_queue,           [FRONT_STOP_RING] = stop_ring,
    [FRONT_SET_INFLIGHT] = set_inflight, [FRONT_SET_LOG] = set_log,
    [FRONT_UPDATE_IOTLB] = update_iotlb, [FRONT_OPEN_REQUESTS] = open_requests,
    [FRONT_MOVE_STATE] = move_state,     [FRONT_ANSWER] = answer_request,
    [FRONT_TRUNCATE] = truncate_memory,  [FRONT_RECONNECT] = reconnect,
};

void front_act(Front *front)
{
    actions[fuzz_take(&front->in, 1) % FRONT_ACTIONS](front);
    turn(front);
}

void front_set_up(Front *front)
{
    front->requests = -1;
    front->memory_fd = memfd_create("fuzz", MFD_CLOEXEC);
    if (ftruncate(front->memory_fd, FUZZ_MEMORY_BYTES) < 0) {
        return;
    }
    for (unsigned i = 0; i < FUZZ_NUM_QUEUES; i++) {
        front->kick_fds[i] = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    }
    connect_front(front);
}

void front_tear_down(Front *front)
{
    close(front->socket);
    close(front->memory_fd);
    if (front->requests >= 0) {
        close(front->requests);
    }
    for (unsigned i = 0; i < FUZZ_NUM_QUEUES; i++) {
        close(front->kick_fds[i]);
    }
}
