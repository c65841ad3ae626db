/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Owns the rules of a message that need no bytes: which payloads its row and
 * the negotiated features allow, values, fds, gates, and when a reply is due.
 * Knows no byte order and no socket.
 */
#include "vhu/message.h"
#include "vhu/message-internal.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <linux/vhost_types.h>

#define NAME_PREFIX "VHOST_USER_"

#define REGION_BYTES     32u
#define REGION_XEN_BYTES 40u

const char *vhu_message_name(const VhuMessageSpec *spec)
{
    return spec->name + strlen(NAME_PREFIX);
}

const char *vhu_message_role(uint32_t flags)
{
    return flags & VHU_FLAG_REPLY ? "reply" : "request";
}

uint32_t vhu_region_bytes(const VhuWire *wire)
{
    return vhu_wire_has(wire, VHOST_USER_PROTOCOL_F_XEN_MMAP) ? REGION_XEN_BYTES
                                                              : REGION_BYTES;
}

bool vhu_shape_admits(const VhuShape *shape, uint32_t size)
{
    return size >= shape->min && size <= shape->max &&
           (size - shape->min) % shape->step == 0;
}

void vhu_shape_print(const VhuShape *shape, char *text, size_t size)
{
    if (shape->min == shape->max) {
        snprintf(text, size, "%u", shape->min);
    } else if (shape->max - shape->min == shape->step) {
        snprintf(text, size, "%u or %u", shape->min, shape->max);
    } else if (shape->step == 1) {
        snprintf(text, size, "%u to %u", shape->min, shape->max);
    } else {
        snprintf(text, size, "%u to %u by %u", shape->min, shape->max,
                 shape->step);
    }
}

/* Narrow a row's range to what the negotiated features leave of it. */
static VhuShape regular_shape(const VhuWire *wire, VhuPayload kind,
                              uint32_t min, uint32_t max)
{
    uint32_t region = vhu_region_bytes(wire);

    switch (kind) {
    case VHU_PAYLOAD_MEM_TABLE:
        return (VhuShape){kind, VHU_TABLE_HEAD_BYTES,
                          VHU_TABLE_HEAD_BYTES + VHU_MAX_TABLE_REGIONS * region,
                          region};
    case VHU_PAYLOAD_MEM_REGION:
        return (VhuShape){kind, VHU_REGION_HEAD_BYTES + region,
                          VHU_REGION_HEAD_BYTES + region, 1};
    case VHU_PAYLOAD_LOG:
        if (!vhu_wire_has(wire, VHOST_USER_PROTOCOL_F_LOG_SHMFD)) {
            return (VhuShape){VHU_PAYLOAD_U64, min, min, 1};
        }
        return (VhuShape){kind, max, max, 1};
    case VHU_PAYLOAD_CONFIG:
    case VHU_PAYLOAD_OPAQUE:
        return (VhuShape){kind, min, max, 1};
    default:
        /* Where a range is left, one size or the other. */
        return (VhuShape){kind, min, max, max > min ? max - min : 1};
    }
}

static unsigned request_shapes(const VhuWire *wire, const VhuMessageSpec *spec,
                               VhuShape *shapes)
{
    unsigned count = 0;

    shapes[count++] = regular_shape(wire, spec->request, spec->request_min,
                                    spec->request_max);
    if (spec->reply_rule == VHU_REPLY_POSTCOPY && wire->postcopy_listening) {
        /* "Empty": the front end acknowledges the bases it was told. */
        if (shapes[0].kind == VHU_PAYLOAD_MEM_TABLE) {
            shapes[0].min += shapes[0].step;
        }
        shapes[count++] = (VhuShape){VHU_PAYLOAD_U64, 0, 8, 8};
    }
    return count;
}

static unsigned reply_shapes(const VhuWire *wire, const VhuMessageSpec *spec,
                             VhuShape *shapes)
{
    static const VhuShape u64 = {VHU_PAYLOAD_U64, 8, 8, 1};
    unsigned count = 0;

    switch (spec->reply_rule) {
    case VHU_REPLY_ON_ACK:
        shapes[count++] = u64;
        return count;
    case VHU_REPLY_LOG_BASE:
        if (!vhu_wire_has(wire, VHOST_USER_PROTOCOL_F_LOG_SHMFD)) {
            shapes[count++] = u64;
            return count;
        }
        break;
    case VHU_REPLY_POSTCOPY:
        if (!wire->postcopy_listening) {
            shapes[count++] = u64;
            return count;
        }
        break;
    case VHU_REPLY_ALWAYS:
        break;
    }
    shapes[count++] =
        regular_shape(wire, spec->reply, spec->reply_min, spec->reply_max);
    if (shapes[0].kind == VHU_PAYLOAD_MEM_TABLE) {
        shapes[0].min += shapes[0].step;
    }
    if (!vhu_shape_admits(&shapes[0], u64.min)) {
        shapes[count++] = u64;
    }
    if (shapes[0].kind == VHU_PAYLOAD_CONFIG) {
        shapes[count++] = (VhuShape){VHU_PAYLOAD_NONE, 0, 0, 1};
    }
    return count;
}

unsigned vhu_message_shapes(const VhuWire *wire, const VhuMessageSpec *spec,
                            bool reply, VhuShape *shapes)
{
    return reply ? reply_shapes(wire, spec, shapes)
                 : request_shapes(wire, spec, shapes);
}

/* Largest num of a vring state, where the specification limits it. */
static uint32_t state_num_max(const VhuWire *wire, const VhuMessage *msg)
{
    if (wire->direction == VHU_FROM_BACKEND) {
        return 0;
    }
    switch (msg->request) {
    case VHOST_USER_GET_VRING_BASE:
        return msg->flags & VHU_FLAG_REPLY ? UINT32_MAX : 0;
    case VHOST_USER_VRING_KICK:
        return 0;
    case VHOST_USER_SET_VRING_ENABLE:
    case VHOST_USER_SET_VRING_ENDIAN:
        return 1;
    default:
        return UINT32_MAX;
    }
}

/* A field and its largest legal value. */
typedef struct Limit {
    const char *field;
    uint64_t value;
    uint64_t max;
} Limit;

/* List the limited fields of a message; returns how many. */
static unsigned limits_of(const VhuWire *wire, const VhuMessage *msg,
                          Limit *limits)
{
    const uint64_t queue = VHU_MAX_QUEUES - 1;

    switch (msg->kind) {
    case VHU_PAYLOAD_VRING_STATE:
        limits[0] = (Limit){"index", msg->payload.state.index, queue};
        limits[1] =
            (Limit){"num", msg->payload.state.num, state_num_max(wire, msg)};
        return 2;
    case VHU_PAYLOAD_VRING_ADDR:
        limits[0] = (Limit){"index", msg->payload.addr.index, queue};
        limits[1] =
            (Limit){"flags", msg->payload.addr.flags, 1u << VHOST_VRING_F_LOG};
        return 2;
    case VHU_PAYLOAD_VRING_FD:
        limits[0] = (Limit){"u64", msg->payload.u64,
                            VHU_VRING_INDEX_MASK | VHU_VRING_NO_FD};
        return 1;
    case VHU_PAYLOAD_VRING_AREA:
        limits[0] = (Limit){"u64", msg->payload.area.index,
                            VHU_VRING_INDEX_MASK | VHU_VRING_NO_FD};
        return 1;
    case VHU_PAYLOAD_MEM_TABLE:
        limits[0] = (Limit){"num regions", msg->payload.table.num_regions,
                            VHU_MAX_TABLE_REGIONS};
        return 1;
    case VHU_PAYLOAD_IOTLB:
        limits[0] =
            (Limit){"permissions", msg->payload.iotlb.perm, VHOST_ACCESS_RW};
        return 1;
    case VHU_PAYLOAD_CONFIG:
        limits[0] =
            (Limit){"size", msg->payload.config.size, VHU_MAX_CONFIG_BYTES};
        limits[1] = (Limit){"offset", msg->payload.config.offset,
                            VHU_MAX_CONFIG_BYTES - msg->payload.config.size};
        return 2;
    case VHU_PAYLOAD_SHMEM_CONFIG:
        limits[0] =
            (Limit){"num regions", msg->payload.shmem_config.num_regions,
                    VHU_SHMEM_REGIONS};
        return 1;
    case VHU_PAYLOAD_OPAQUE:
        limits[0] =
            (Limit){"bytes", msg->payload.opaque.size, VHU_MAX_PAYLOAD_BYTES};
        return 1;
    default:
        return 0;
    }
}

static int check_iotlb_type(const VhuWire *wire, const VhuMessage *msg,
                            int code, VhuError *err)
{
    uint8_t type = msg->payload.iotlb.type;
    bool from_frontend = wire->direction == VHU_FROM_FRONTEND;
    bool legal =
        from_frontend
            ? type == VHOST_IOTLB_UPDATE || type == VHOST_IOTLB_INVALIDATE
            : type == VHOST_IOTLB_MISS || type == VHOST_IOTLB_ACCESS_FAIL;

    if (legal) {
        return 0;
    }
    return vhu_error_set(err, code, msg->request, type,
                         "%s: type %u, expected %s",
                         from_frontend ? "IOTLB_MSG" : "BACKEND_IOTLB_MSG",
                         type, from_frontend ? "2 or 3" : "1 or 4");
}

/* SET_CONFIG brings its bytes; a request or an error reply may leave them. */
static int check_config_bytes(const VhuMessage *msg, int code, VhuError *err)
{
    const VhuConfigArea *config = &msg->payload.config;

    if (config->data_bytes == config->size ||
        (config->data_bytes == 0 && msg->request == VHOST_USER_GET_CONFIG)) {
        return 0;
    }
    return vhu_error_set(
        err, code, msg->request, config->size,
        "%s %s: size %u, %u bytes follow",
        msg->request == VHOST_USER_GET_CONFIG ? "GET_CONFIG" : "SET_CONFIG",
        vhu_message_role(msg->flags), config->size, config->data_bytes);
}

int vhu_message_check(const VhuWire *wire, const VhuMessage *msg, int code,
                      VhuError *err)
{
    const VhuMessageSpec *spec =
        vhu_message_spec(wire->direction, msg->request);
    Limit limits[2];
    unsigned count = limits_of(wire, msg, limits);

    for (unsigned i = 0; i < count; i++) {
        if (limits[i].value > limits[i].max) {
            return vhu_error_set(err, code, msg->request, limits[i].value,
                                 "%s %s: %s %llu, at most %llu",
                                 vhu_message_name(spec),
                                 vhu_message_role(msg->flags), limits[i].field,
                                 (unsigned long long)limits[i].value,
                                 (unsigned long long)limits[i].max);
        }
    }
    if (msg->kind == VHU_PAYLOAD_MEM_TABLE && wire->postcopy_listening &&
        msg->payload.table.num_regions == 0) {
        /* It would read as the front end's acknowledgement. */
        return vhu_error_set(err, code, msg->request, 0,
                             "SET_MEM_TABLE %s: 0 regions while postcopy "
                             "listens, at least 1",
                             vhu_message_role(msg->flags));
    }
    if (msg->kind == VHU_PAYLOAD_IOTLB) {
        return check_iotlb_type(wire, msg, code, err);
    }
    if (msg->kind == VHU_PAYLOAD_CONFIG) {
        return check_config_bytes(msg, code, err);
    }
    return 0;
}

/* How many fds a message may carry, by its row and its payload. */
static void fds_range(const VhuMessageSpec *spec, const VhuShape *regular,
                      const VhuMessage *msg, uint32_t *min, uint32_t *max)
{
    bool reply = msg->flags & VHU_FLAG_REPLY;
    uint64_t u64 = msg->payload.u64;

    *min = reply ? spec->reply_fds_min : spec->request_fds_min;
    *max = reply ? spec->reply_fds_max : spec->request_fds_max;
    if (msg->kind != regular->kind) {
        /* An error reply, or an acknowledgement in postcopy. */
        *min = *max = 0;
        return;
    }
    switch (msg->kind) {
    case VHU_PAYLOAD_MEM_TABLE:
        *min = *max = reply ? 0 : msg->payload.table.num_regions;
        break;
    case VHU_PAYLOAD_VRING_FD:
        *min = *max = u64 & VHU_VRING_NO_FD ? 0 : 1;
        break;
    case VHU_PAYLOAD_VRING_AREA:
        *min = *max = msg->payload.area.index & VHU_VRING_NO_FD ? 0 : 1;
        break;
    case VHU_PAYLOAD_LOG:
        *min = *max;
        break;
    case VHU_PAYLOAD_INFLIGHT:
        *min = msg->payload.inflight.mmap_size ? *max : *min;
        break;
    case VHU_PAYLOAD_U64:
        if (msg->request == VHOST_USER_SET_DEVICE_STATE_FD && reply) {
            *min = u64 == 0;
            *max = u64 == 0;
        } else if (!reply || u64) {
            *min = *max = 0;
        }
        break;
    default:
        break;
    }
}

int vhu_fds_check(const VhuWire *wire, const VhuMessage *msg, VhuError *err)
{
    const VhuMessageSpec *spec =
        vhu_message_spec(wire->direction, msg->request);
    VhuShape shapes[VHU_MAX_SHAPES];
    uint32_t min;
    uint32_t max;

    if (!spec) {
        return vhu_error_set(err, EPROTO, msg->request, msg->request,
                             "unknown request %u", msg->request);
    }
    vhu_message_shapes(wire, spec, msg->flags & VHU_FLAG_REPLY, shapes);
    fds_range(spec, &shapes[0], msg, &min, &max);
    if (msg->num_fds >= min && msg->num_fds <= max) {
        return 0;
    }
    if (min == max) {
        return vhu_error_set(err, EPROTO, msg->request, msg->num_fds,
                             "%s %s: %u fds, expected %u",
                             vhu_message_name(spec),
                             vhu_message_role(msg->flags), msg->num_fds, min);
    }
    return vhu_error_set(err, EPROTO, msg->request, msg->num_fds,
                         "%s %s: %u fds, expected %u to %u",
                         vhu_message_name(spec), vhu_message_role(msg->flags),
                         msg->num_fds, min, max);
}

int vhu_message_gated(const VhuWire *wire, uint32_t request, VhuError *err)
{
    const VhuMessageSpec *spec = vhu_message_spec(wire->direction, request);

    if (!spec) {
        return vhu_error_set(err, EPROTO, request, request,
                             "unknown request %u", request);
    }
    if (spec->gate == VHU_NO_GATE || vhu_wire_has(wire, (unsigned)spec->gate)) {
        return 0;
    }
    return vhu_error_set(err, EPROTO, request, wire->protocol_features,
                         "%s needs %s, negotiated are 0x%llx",
                         vhu_message_name(spec),
                         vhu_feature_spec((unsigned)spec->gate)->name,
                         (unsigned long long)wire->protocol_features);
}

bool vhu_reply_due(const VhuWire *wire, const VhuMessage *msg)
{
    const VhuMessageSpec *spec =
        vhu_message_spec(wire->direction, msg->request);
    bool acked = vhu_wire_has(wire, VHOST_USER_PROTOCOL_F_REPLY_ACK) &&
                 (msg->flags & VHU_FLAG_NEED_REPLY);

    if (!spec || (msg->flags & VHU_FLAG_REPLY)) {
        return false;
    }
    switch (spec->reply_rule) {
    case VHU_REPLY_ALWAYS:
        return true;
    case VHU_REPLY_LOG_BASE:
        return acked || vhu_wire_has(wire, VHOST_USER_PROTOCOL_F_LOG_SHMFD);
    case VHU_REPLY_POSTCOPY:
        /* The front end's acknowledgement ends the exchange. */
        return acked ||
               (wire->postcopy_listening && msg->kind == spec->request);
    case VHU_REPLY_ON_ACK:
        return acked;
    }
    return false;
}

void vhu_message_close_fds(VhuMessage *msg)
{
    for (uint32_t i = 0; i < msg->num_fds; i++) {
        int fd = vhu_message_take_fd(msg, i);

        if (fd >= 0) {
            close(fd);
        }
    }
    msg->num_fds = 0;
}

int vhu_message_take_fd(VhuMessage *msg, uint32_t index)
{
    int fd = -1;

    if (index < msg->num_fds && index < VHU_MAX_FDS) {
        fd = msg->fds[index];
        msg->fds[index] = -1;
    }
    return fd;
}
