/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Owns the one-line form of a message, for traces and for people.
 */
#include "vhu/message.h"
#include "vhu/message-internal.h"

#include <stdarg.h>
#include <stdio.h>

/* Bytes of a configuration space or an opaque payload that are shown. */
#define SHOWN_BYTES 32u

/* A line that is filled up and then stays as it is. */
typedef struct Line {
    char *text;
    size_t size;
    size_t used; /* or wanted: more than size if it was cut */
} Line;

__attribute__((format(printf, 2, 3))) static void add(Line *line,
                                                      const char *fmt, ...)
{
    va_list args;
    int wanted;

    if (line->used + 1 >= line->size) {
        return;
    }
    va_start(args, fmt);
    wanted =
        vsnprintf(line->text + line->used, line->size - line->used, fmt, args);
    va_end(args);
    if (wanted > 0) {
        line->used += (size_t)wanted;
    }
}

static void add_hex(Line *line, const char *name, uint64_t value)
{
    add(line, " %s=0x%llx", name, (unsigned long long)value);
}

static void add_number(Line *line, const char *name, uint64_t value)
{
    add(line, " %s=%llu", name, (unsigned long long)value);
}

static void add_bytes(Line *line, const char *name, const uint8_t *bytes,
                      uint32_t size)
{
    add(line, " %s=", name);
    for (uint32_t i = 0; i < size && i < SHOWN_BYTES; i++) {
        add(line, "%02x", bytes[i]);
    }
    if (size > SHOWN_BYTES) {
        add(line, "...");
    }
}

static void print_none(const VhuMessage *msg, Line *line)
{
    (void)msg;
    (void)line;
}

static void print_u64(const VhuMessage *msg, Line *line)
{
    add_hex(line, "u64", msg->payload.u64);
}

static void print_state(const VhuMessage *msg, Line *line)
{
    add_number(line, "index", msg->payload.state.index);
    add_number(line, "num", msg->payload.state.num);
}

static void print_addr(const VhuMessage *msg, Line *line)
{
    const VhuVringAddr *addr = &msg->payload.addr;

    add_number(line, "index", addr->index);
    add_hex(line, "flags", addr->flags);
    add_hex(line, "desc", addr->desc);
    add_hex(line, "used", addr->used);
    add_hex(line, "avail", addr->avail);
    add_hex(line, "log", addr->log);
}

static void print_index(uint64_t u64, Line *line)
{
    add_number(line, "index", u64 & VHU_VRING_INDEX_MASK);
    if (u64 & VHU_VRING_NO_FD) {
        add(line, " no-fd");
    }
}

static void print_vring_fd(const VhuMessage *msg, Line *line)
{
    print_index(msg->payload.u64, line);
}

static void add_region(Line *line, const VhuMemRegion *region)
{
    add(line, " {guest=0x%llx size=0x%llx user=0x%llx offset=0x%llx",
        (unsigned long long)region->guest_addr,
        (unsigned long long)region->size, (unsigned long long)region->user_addr,
        (unsigned long long)region->mmap_offset);
    if (region->xen_flags || region->xen_domid) {
        add(line, " xen=0x%x domid=%u", region->xen_flags, region->xen_domid);
    }
    add(line, "}");
}

static void print_table(const VhuMessage *msg, Line *line)
{
    const VhuMemTable *table = &msg->payload.table;

    add_number(line, "regions", table->num_regions);
    for (uint32_t i = 0; i < table->num_regions && i < VHU_MAX_TABLE_REGIONS;
         i++) {
        add_region(line, &table->regions[i]);
    }
}

static void print_region(const VhuMessage *msg, Line *line)
{
    add_region(line, &msg->payload.region);
}

static void print_log(const VhuMessage *msg, Line *line)
{
    add_hex(line, "size", msg->payload.log.size);
    add_hex(line, "offset", msg->payload.log.offset);
}

static void print_iotlb(const VhuMessage *msg, Line *line)
{
    static const char *const types[] = {
        "0", "miss", "update", "invalidate", "access-fail",
    };
    const VhuIotlbMsg *iotlb = &msg->payload.iotlb;

    if (iotlb->type < sizeof(types) / sizeof(types[0])) {
        add(line, " type=%s", types[iotlb->type]);
    } else {
        add_number(line, "type", iotlb->type);
    }
    add_hex(line, "iova", iotlb->iova);
    add_hex(line, "size", iotlb->size);
    add_hex(line, "user", iotlb->user_addr);
    add_number(line, "perm", iotlb->perm);
}

static void print_config(const VhuMessage *msg, Line *line)
{
    const VhuConfigArea *config = &msg->payload.config;

    add_number(line, "offset", config->offset);
    add_number(line, "size", config->size);
    add_hex(line, "flags", config->flags);
    add_bytes(line, "data", config->data,
              config->data_bytes < VHU_MAX_CONFIG_BYTES ? config->data_bytes
                                                        : VHU_MAX_CONFIG_BYTES);
}

static void print_area(const VhuMessage *msg, Line *line)
{
    print_index(msg->payload.area.index, line);
    add_hex(line, "size", msg->payload.area.size);
    add_hex(line, "offset", msg->payload.area.offset);
}

static void print_inflight(const VhuMessage *msg, Line *line)
{
    const VhuInflightArea *inflight = &msg->payload.inflight;

    add_hex(line, "size", inflight->mmap_size);
    add_hex(line, "offset", inflight->mmap_offset);
    add_number(line, "queues", inflight->num_queues);
    add_number(line, "queue-size", inflight->queue_size);
}

static void print_uuid(const VhuMessage *msg, Line *line)
{
    const uint8_t *bytes = msg->payload.uuid.bytes;

    add(line, " uuid=");
    for (unsigned i = 0; i < sizeof(msg->payload.uuid.bytes); i++) {
        bool dash = i == 4 || i == 6 || i == 8 || i == 10;

        add(line, "%s%02x", dash ? "-" : "", bytes[i]);
    }
}

static void print_transfer(const VhuMessage *msg, Line *line)
{
    add_number(line, "direction", msg->payload.transfer.direction);
    add_number(line, "phase", msg->payload.transfer.phase);
}

static void print_shmem_config(const VhuMessage *msg, Line *line)
{
    const VhuShmemConfig *config = &msg->payload.shmem_config;

    add_number(line, "regions", config->num_regions);
    for (uint32_t i = 0; i < VHU_SHMEM_REGIONS; i++) {
        if (config->sizes[i]) {
            add(line, " %u:0x%llx", i, (unsigned long long)config->sizes[i]);
        }
    }
}

static void print_shmem_map(const VhuMessage *msg, Line *line)
{
    const VhuShmemMap *map = &msg->payload.shmem_map;

    add_number(line, "shmid", map->shmid);
    add_hex(line, "fd-offset", map->fd_offset);
    add_hex(line, "shm-offset", map->shm_offset);
    add_hex(line, "size", map->size);
    add_hex(line, "flags", map->flags);
}

static void print_opaque(const VhuMessage *msg, Line *line)
{
    const VhuOpaque *opaque = &msg->payload.opaque;

    add_number(line, "bytes", opaque->size);
    add_bytes(line, "data", opaque->data,
              opaque->size < VHU_MAX_PAYLOAD_BYTES ? opaque->size
                                                   : VHU_MAX_PAYLOAD_BYTES);
}

typedef void (*PrintFn)(const VhuMessage *msg, Line *line);

static const PrintFn printers[VHU_PAYLOAD_KINDS] = {
    [VHU_PAYLOAD_NONE] = print_none,
    [VHU_PAYLOAD_U64] = print_u64,
    [VHU_PAYLOAD_VRING_STATE] = print_state,
    [VHU_PAYLOAD_VRING_ADDR] = print_addr,
    [VHU_PAYLOAD_VRING_FD] = print_vring_fd,
    [VHU_PAYLOAD_MEM_TABLE] = print_table,
    [VHU_PAYLOAD_MEM_REGION] = print_region,
    [VHU_PAYLOAD_LOG] = print_log,
    [VHU_PAYLOAD_IOTLB] = print_iotlb,
    [VHU_PAYLOAD_CONFIG] = print_config,
    [VHU_PAYLOAD_VRING_AREA] = print_area,
    [VHU_PAYLOAD_INFLIGHT] = print_inflight,
    [VHU_PAYLOAD_UUID] = print_uuid,
    [VHU_PAYLOAD_DEVICE_STATE] = print_transfer,
    [VHU_PAYLOAD_SHMEM_CONFIG] = print_shmem_config,
    [VHU_PAYLOAD_SHMEM_MAP] = print_shmem_map,
    [VHU_PAYLOAD_OPAQUE] = print_opaque,
};

char *vhu_message_print(const VhuWire *wire, const VhuMessage *msg, char *text,
                        size_t size)
{
    const VhuMessageSpec *spec =
        vhu_message_spec(wire->direction, msg->request);
    Line line = {.text = text, .size = size};

    if (size) {
        text[0] = '\0';
    }
    if (spec) {
        add(&line, "%s", vhu_message_name(spec));
    } else {
        add(&line, "request %u", msg->request);
    }
    if (msg->flags & VHU_FLAG_REPLY) {
        add(&line, " reply");
    }
    if (msg->flags & VHU_FLAG_NEED_REPLY) {
        add(&line, " need-reply");
    }
    if ((unsigned)msg->kind < VHU_PAYLOAD_KINDS) {
        printers[msg->kind](msg, &line);
    }
    add(&line, " fds=[");
    for (uint32_t i = 0; i < msg->num_fds && i < VHU_MAX_FDS; i++) {
        add(&line, "%s%d", i ? "," : "", msg->fds[i]);
    }
    add(&line, "]");
    return text;
}
