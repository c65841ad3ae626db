/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Owns the way from a typed message to the bytes to send, field by field, and
 * refuses a message that its row does not allow.
 */
#include "vhu/message.h"
#include "vhu/message-internal.h"

#include <errno.h>
#include <string.h>

/* Where the next byte goes; every payload is bounded before it is written. */
typedef struct Writer {
    uint8_t *at;
    bool xen; /* regions have the two fields of XEN_MMAP */
} Writer;

static void put_bytes(Writer *out, const void *from, size_t size)
{
    memcpy(out->at, from, size);
    out->at += size;
}

static void put_zeros(Writer *out, size_t size)
{
    memset(out->at, 0, size);
    out->at += size;
}

static void put_u8(Writer *out, uint8_t value)
{
    put_bytes(out, &value, sizeof(value));
}

static void put_u16(Writer *out, uint16_t value)
{
    put_bytes(out, &value, sizeof(value));
}

static void put_u32(Writer *out, uint32_t value)
{
    put_bytes(out, &value, sizeof(value));
}

static void put_u64(Writer *out, uint64_t value)
{
    put_bytes(out, &value, sizeof(value));
}

static void encode_none(const VhuMessage *msg, Writer *out)
{
    (void)msg;
    (void)out;
}

static void encode_u64(const VhuMessage *msg, Writer *out)
{
    put_u64(out, msg->payload.u64);
}

static void encode_state(const VhuMessage *msg, Writer *out)
{
    put_u32(out, msg->payload.state.index);
    put_u32(out, msg->payload.state.num);
}

static void encode_addr(const VhuMessage *msg, Writer *out)
{
    const VhuVringAddr *addr = &msg->payload.addr;

    put_u32(out, addr->index);
    put_u32(out, addr->flags);
    put_u64(out, addr->desc);
    put_u64(out, addr->used);
    put_u64(out, addr->avail);
    put_u64(out, addr->log);
}

static void put_region(const VhuMemRegion *region, Writer *out)
{
    put_u64(out, region->guest_addr);
    put_u64(out, region->size);
    put_u64(out, region->user_addr);
    put_u64(out, region->mmap_offset);
    if (out->xen) {
        put_u32(out, region->xen_flags);
        put_u32(out, region->xen_domid);
    }
}

static void encode_table(const VhuMessage *msg, Writer *out)
{
    const VhuMemTable *table = &msg->payload.table;

    put_u32(out, table->num_regions);
    put_zeros(out, 4);
    for (uint32_t i = 0; i < table->num_regions; i++) {
        put_region(&table->regions[i], out);
    }
}

static void encode_region(const VhuMessage *msg, Writer *out)
{
    put_zeros(out, 8);
    put_region(&msg->payload.region, out);
}

static void encode_log(const VhuMessage *msg, Writer *out)
{
    put_u64(out, msg->payload.log.size);
    put_u64(out, msg->payload.log.offset);
}

static void encode_iotlb(const VhuMessage *msg, Writer *out)
{
    const VhuIotlbMsg *iotlb = &msg->payload.iotlb;

    put_u64(out, iotlb->iova);
    put_u64(out, iotlb->size);
    put_u64(out, iotlb->user_addr);
    put_u8(out, iotlb->perm);
    put_u8(out, iotlb->type);
    put_zeros(out, 6);
}

static void encode_config(const VhuMessage *msg, Writer *out)
{
    const VhuConfigArea *config = &msg->payload.config;

    put_u32(out, config->offset);
    put_u32(out, config->size);
    put_u32(out, config->flags);
    put_bytes(out, config->data, config->data_bytes);
}

static void encode_area(const VhuMessage *msg, Writer *out)
{
    put_u64(out, msg->payload.area.index);
    put_u64(out, msg->payload.area.size);
    put_u64(out, msg->payload.area.offset);
}

/* Padded as a C struct is: the form every implementation takes. */
static void encode_inflight(const VhuMessage *msg, Writer *out)
{
    const VhuInflightArea *inflight = &msg->payload.inflight;

    put_u64(out, inflight->mmap_size);
    put_u64(out, inflight->mmap_offset);
    put_u16(out, inflight->num_queues);
    put_u16(out, inflight->queue_size);
    put_zeros(out, 4);
}

static void encode_uuid(const VhuMessage *msg, Writer *out)
{
    put_bytes(out, msg->payload.uuid.bytes, sizeof(msg->payload.uuid.bytes));
}

static void encode_transfer(const VhuMessage *msg, Writer *out)
{
    put_u32(out, msg->payload.transfer.direction);
    put_u32(out, msg->payload.transfer.phase);
}

static void encode_shmem_config(const VhuMessage *msg, Writer *out)
{
    const VhuShmemConfig *config = &msg->payload.shmem_config;

    put_u32(out, config->num_regions);
    put_zeros(out, 4);
    for (uint32_t i = 0; i < VHU_SHMEM_REGIONS; i++) {
        put_u64(out, config->sizes[i]);
    }
}

static void encode_shmem_map(const VhuMessage *msg, Writer *out)
{
    const VhuShmemMap *map = &msg->payload.shmem_map;

    put_u8(out, map->shmid);
    put_zeros(out, 7);
    put_u64(out, map->fd_offset);
    put_u64(out, map->shm_offset);
    put_u64(out, map->size);
    put_u64(out, map->flags);
}

static void encode_opaque(const VhuMessage *msg, Writer *out)
{
    put_bytes(out, msg->payload.opaque.data, msg->payload.opaque.size);
}

typedef void (*EncodeFn)(const VhuMessage *msg, Writer *out);

static const EncodeFn encoders[VHU_PAYLOAD_KINDS] = {
    [VHU_PAYLOAD_NONE] = encode_none,
    [VHU_PAYLOAD_U64] = encode_u64,
    [VHU_PAYLOAD_VRING_STATE] = encode_state,
    [VHU_PAYLOAD_VRING_ADDR] = encode_addr,
    [VHU_PAYLOAD_VRING_FD] = encode_u64,
    [VHU_PAYLOAD_MEM_TABLE] = encode_table,
    [VHU_PAYLOAD_MEM_REGION] = encode_region,
    [VHU_PAYLOAD_LOG] = encode_log,
    [VHU_PAYLOAD_IOTLB] = encode_iotlb,
    [VHU_PAYLOAD_CONFIG] = encode_config,
    [VHU_PAYLOAD_VRING_AREA] = encode_area,
    [VHU_PAYLOAD_INFLIGHT] = encode_inflight,
    [VHU_PAYLOAD_UUID] = encode_uuid,
    [VHU_PAYLOAD_DEVICE_STATE] = encode_transfer,
    [VHU_PAYLOAD_SHMEM_CONFIG] = encode_shmem_config,
    [VHU_PAYLOAD_SHMEM_MAP] = encode_shmem_map,
    [VHU_PAYLOAD_OPAQUE] = encode_opaque,
};

/* Check kind and flags against the row; fills the legal form of that kind. */
static int check_form(const VhuWire *wire, const VhuMessage *msg,
                      VhuShape *shape, VhuError *err)
{
    const VhuMessageSpec *spec =
        vhu_message_spec(wire->direction, msg->request);
    const uint32_t known =
        VHU_FLAG_VERSION | VHU_FLAG_REPLY | VHU_FLAG_NEED_REPLY;
    VhuShape shapes[VHU_MAX_SHAPES];
    unsigned count;

    if (!spec) {
        return vhu_error_set(err, EINVAL, msg->request, msg->request,
                             "unknown request %u", msg->request);
    }
    if (msg->flags & ~known) {
        return vhu_error_set(err, EINVAL, msg->request, msg->flags,
                             "%s: flags 0x%x, known are 0x%x",
                             vhu_message_name(spec), msg->flags, known);
    }
    count = vhu_message_shapes(wire, spec, msg->flags & VHU_FLAG_REPLY, shapes);
    for (unsigned i = 0; i < count; i++) {
        if (shapes[i].kind == msg->kind) {
            *shape = shapes[i];
            return 0;
        }
    }
    return vhu_error_set(err, EINVAL, msg->request, msg->kind,
                         "%s %s: payload is %s, expected %s",
                         vhu_message_name(spec), vhu_message_role(msg->flags),
                         vhu_payload_name(msg->kind),
                         vhu_payload_name(shapes[0].kind));
}

int vhu_message_encode(const VhuWire *wire, const VhuMessage *msg,
                       uint8_t *bytes, VhuError *err)
{
    Writer head = {.at = bytes};
    Writer body = {
        .at = bytes + VHU_HEADER_BYTES,
        .xen = vhu_wire_has(wire, VHOST_USER_PROTOCOL_F_XEN_MMAP),
    };
    VhuShape shape;
    uint32_t size;
    int ret;

    ret = check_form(wire, msg, &shape, err);
    if (!ret) {
        ret = vhu_message_check(wire, msg, EINVAL, err);
    }
    if (ret) {
        return ret;
    }
    encoders[msg->kind](msg, &body);
    size = (uint32_t)(body.at - bytes) - VHU_HEADER_BYTES;
    if (!vhu_shape_admits(&shape, size)) {
        const VhuMessageSpec *spec =
            vhu_message_spec(wire->direction, msg->request);
        char expected[64];

        vhu_shape_print(&shape, expected, sizeof(expected));
        return vhu_error_set(err, EINVAL, msg->request, size,
                             "%s %s: %u bytes, expected %s",
                             vhu_message_name(spec),
                             vhu_message_role(msg->flags), size, expected);
    }
    put_u32(&head, msg->request);
    put_u32(&head, (msg->flags & ~VHU_FLAG_VERSIONS) | VHU_FLAG_VERSION);
    put_u32(&head, size);
    return (int)(VHU_HEADER_BYTES + size);
}
