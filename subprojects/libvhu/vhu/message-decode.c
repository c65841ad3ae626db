/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Owns the way from received bytes to a typed message, field by field. Knows
 * no values' meaning: the rules on values, fds and gates are in message.c.
 */
#include "vhu/message.h"
#include "vhu/message-internal.h"

#include <errno.h>
#include <string.h>

/* The bytes not yet read. Reading past the end gives zeros. */
typedef struct Reader {
    const uint8_t *at;
    size_t left;
    bool xen; /* regions have the two fields of XEN_MMAP */
} Reader;

static void get_bytes(Reader *in, void *to, size_t size)
{
    if (size > in->left) {
        memset(to, 0, size);
        in->left = 0;
        return;
    }
    memcpy(to, in->at, size);
    in->at += size;
    in->left -= size;
}

static uint8_t get_u8(Reader *in)
{
    uint8_t value;

    get_bytes(in, &value, sizeof(value));
    return value;
}

static uint16_t get_u16(Reader *in)
{
    uint16_t value;

    get_bytes(in, &value, sizeof(value));
    return value;
}

static uint32_t get_u32(Reader *in)
{
    uint32_t value;

    get_bytes(in, &value, sizeof(value));
    return value;
}

static uint64_t get_u64(Reader *in)
{
    uint64_t value;

    get_bytes(in, &value, sizeof(value));
    return value;
}

static void decode_none(Reader *in, VhuMessage *msg)
{
    (void)in;
    (void)msg;
}

static void decode_u64(Reader *in, VhuMessage *msg)
{
    msg->payload.u64 = get_u64(in);
}

static void decode_state(Reader *in, VhuMessage *msg)
{
    VhuVringState *state = &msg->payload.state;

    state->index = get_u32(in);
    state->num = get_u32(in);
}

static void decode_addr(Reader *in, VhuMessage *msg)
{
    VhuVringAddr *addr = &msg->payload.addr;

    addr->index = get_u32(in);
    addr->flags = get_u32(in);
    addr->desc = get_u64(in);
    addr->used = get_u64(in);
    addr->avail = get_u64(in);
    addr->log = get_u64(in);
}

static void get_region(Reader *in, VhuMemRegion *region)
{
    region->guest_addr = get_u64(in);
    region->size = get_u64(in);
    region->user_addr = get_u64(in);
    region->mmap_offset = get_u64(in);
    region->xen_flags = in->xen ? get_u32(in) : 0;
    region->xen_domid = in->xen ? get_u32(in) : 0;
}

static void decode_table(Reader *in, VhuMessage *msg)
{
    VhuMemTable *table = &msg->payload.table;

    table->num_regions = get_u32(in);
    get_u32(in);
    for (uint32_t i = 0; i < table->num_regions && i < VHU_MAX_TABLE_REGIONS;
         i++) {
        get_region(in, &table->regions[i]);
    }
}

static void decode_region(Reader *in, VhuMessage *msg)
{
    get_u64(in);
    get_region(in, &msg->payload.region);
}

static void decode_log(Reader *in, VhuMessage *msg)
{
    msg->payload.log.size = get_u64(in);
    msg->payload.log.offset = get_u64(in);
}

static void decode_iotlb(Reader *in, VhuMessage *msg)
{
    VhuIotlbMsg *iotlb = &msg->payload.iotlb;

    iotlb->iova = get_u64(in);
    iotlb->size = get_u64(in);
    iotlb->user_addr = get_u64(in);
    iotlb->perm = get_u8(in);
    iotlb->type = get_u8(in);
}

static void decode_config(Reader *in, VhuMessage *msg)
{
    VhuConfigArea *config = &msg->payload.config;

    config->offset = get_u32(in);
    config->size = get_u32(in);
    config->flags = get_u32(in);
    config->data_bytes = (uint32_t)in->left;
    get_bytes(in, config->data, config->data_bytes);
}

static void decode_area(Reader *in, VhuMessage *msg)
{
    VhuVringArea *area = &msg->payload.area;

    area->index = get_u64(in);
    area->size = get_u64(in);
    area->offset = get_u64(in);
}

static void decode_inflight(Reader *in, VhuMessage *msg)
{
    VhuInflightArea *inflight = &msg->payload.inflight;

    inflight->mmap_size = get_u64(in);
    inflight->mmap_offset = get_u64(in);
    inflight->num_queues = get_u16(in);
    inflight->queue_size = get_u16(in);
}

static void decode_uuid(Reader *in, VhuMessage *msg)
{
    get_bytes(in, msg->payload.uuid.bytes, sizeof(msg->payload.uuid.bytes));
}

static void decode_transfer(Reader *in, VhuMessage *msg)
{
    msg->payload.transfer.direction = get_u32(in);
    msg->payload.transfer.phase = get_u32(in);
}

static void decode_shmem_config(Reader *in, VhuMessage *msg)
{
    VhuShmemConfig *config = &msg->payload.shmem_config;

    config->num_regions = get_u32(in);
    get_u32(in);
    for (uint32_t i = 0; i < VHU_SHMEM_REGIONS; i++) {
        config->sizes[i] = get_u64(in);
    }
}

static void decode_shmem_map(Reader *in, VhuMessage *msg)
{
    VhuShmemMap *map = &msg->payload.shmem_map;
    uint8_t padding[7];

    map->shmid = get_u8(in);
    get_bytes(in, padding, sizeof(padding));
    map->fd_offset = get_u64(in);
    map->shm_offset = get_u64(in);
    map->size = get_u64(in);
    map->flags = get_u64(in);
}

static void decode_opaque(Reader *in, VhuMessage *msg)
{
    VhuOpaque *opaque = &msg->payload.opaque;

    opaque->size = (uint32_t)in->left;
    get_bytes(in, opaque->data, opaque->size);
}

typedef void (*DecodeFn)(Reader *in, VhuMessage *msg);

static const DecodeFn decoders[VHU_PAYLOAD_KINDS] = {
    [VHU_PAYLOAD_NONE] = decode_none,
    [VHU_PAYLOAD_U64] = decode_u64,
    [VHU_PAYLOAD_VRING_STATE] = decode_state,
    [VHU_PAYLOAD_VRING_ADDR] = decode_addr,
    [VHU_PAYLOAD_VRING_FD] = decode_u64,
    [VHU_PAYLOAD_MEM_TABLE] = decode_table,
    [VHU_PAYLOAD_MEM_REGION] = decode_region,
    [VHU_PAYLOAD_LOG] = decode_log,
    [VHU_PAYLOAD_IOTLB] = decode_iotlb,
    [VHU_PAYLOAD_CONFIG] = decode_config,
    [VHU_PAYLOAD_VRING_AREA] = decode_area,
    [VHU_PAYLOAD_INFLIGHT] = decode_inflight,
    [VHU_PAYLOAD_UUID] = decode_uuid,
    [VHU_PAYLOAD_DEVICE_STATE] = decode_transfer,
    [VHU_PAYLOAD_SHMEM_CONFIG] = decode_shmem_config,
    [VHU_PAYLOAD_SHMEM_MAP] = decode_shmem_map,
    [VHU_PAYLOAD_OPAQUE] = decode_opaque,
};

/* The first legal form of this size, or NULL with the regular one named. */
static const VhuShape *find_shape(const VhuWire *wire, const VhuHeader *header,
                                  VhuShape *shapes, VhuError *err)
{
    const VhuMessageSpec *spec =
        vhu_message_spec(wire->direction, header->request);
    unsigned count =
        vhu_message_shapes(wire, spec, header->flags & VHU_FLAG_REPLY, shapes);
    char expected[64];

    for (unsigned i = 0; i < count; i++) {
        if (vhu_shape_admits(&shapes[i], header->size)) {
            return &shapes[i];
        }
    }
    vhu_shape_print(&shapes[0], expected, sizeof(expected));
    vhu_error_set(err, EPROTO, header->request, header->size,
                  "%s %s is %u bytes, expected %s", vhu_message_name(spec),
                  vhu_message_role(header->flags), header->size, expected);
    return NULL;
}

static int check_flags(const VhuHeader *header, const char *name, bool reply,
                       VhuError *err)
{
    const uint32_t known =
        VHU_FLAG_VERSIONS | VHU_FLAG_REPLY | VHU_FLAG_NEED_REPLY;
    uint32_t version = header->flags & VHU_FLAG_VERSIONS;

    if (version != VHU_FLAG_VERSION) {
        return vhu_error_set(err, EPROTO, header->request, header->flags,
                             "%s: version %u, expected %u", name, version,
                             VHU_FLAG_VERSION);
    }
    if (header->flags & ~known) {
        return vhu_error_set(err, EPROTO, header->request, header->flags,
                             "%s: flags 0x%x, known are 0x%x", name,
                             header->flags, known);
    }
    if (!!(header->flags & VHU_FLAG_REPLY) != reply) {
        return vhu_error_set(err, EPROTO, header->request, header->flags,
                             "%s: flags 0x%x are of a %s, expected a %s", name,
                             header->flags, vhu_message_role(header->flags),
                             reply ? "reply" : "request");
    }
    return 0;
}

int vhu_header_decode(const VhuWire *wire, const uint8_t *bytes, bool reply,
                      VhuHeader *out, VhuError *err)
{
    Reader in = {.at = bytes, .left = VHU_HEADER_BYTES};
    VhuShape shapes[VHU_MAX_SHAPES];
    const VhuMessageSpec *spec;
    int ret;

    out->request = get_u32(&in);
    out->flags = get_u32(&in);
    out->size = get_u32(&in);
    spec = vhu_message_spec(wire->direction, out->request);
    if (!spec) {
        return vhu_error_set(
            err, EPROTO, out->request, out->request, "unknown %s request %u",
            wire->direction == VHU_FROM_FRONTEND ? "front-end" : "back-end",
            out->request);
    }
    ret = check_flags(out, vhu_message_name(spec), reply, err);
    if (ret) {
        return ret;
    }
    return find_shape(wire, out, shapes, err) ? 0 : -EPROTO;
}

int vhu_payload_decode(const VhuWire *wire, const VhuHeader *header,
                       const uint8_t *bytes, VhuMessage *msg, VhuError *err)
{
    Reader in = {
        .at = bytes,
        .left = header->size,
        .xen = vhu_wire_has(wire, VHOST_USER_PROTOCOL_F_XEN_MMAP),
    };
    VhuShape shapes[VHU_MAX_SHAPES];
    const VhuShape *shape = find_shape(wire, header, shapes, err);

    if (!shape) {
        return -EPROTO;
    }
    msg->request = header->request;
    msg->flags = header->flags;
    msg->kind = shape->kind;
    decoders[shape->kind](&in, msg);
    if (shape->kind == VHU_PAYLOAD_MEM_TABLE) {
        uint32_t room =
            (header->size - VHU_TABLE_HEAD_BYTES) / vhu_region_bytes(wire);

        if (msg->payload.table.num_regions > room) {
            return vhu_error_set(
                err, EPROTO, header->request, msg->payload.table.num_regions,
                "SET_MEM_TABLE %s: %u regions, %u bytes hold "
                "%u",
                vhu_message_role(header->flags), msg->payload.table.num_regions,
                header->size, room);
        }
    }
    return vhu_message_check(wire, msg, EPROTO, err);
}
