/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What the files of the codec share: which payloads a request or reply may
 * have on a given wire, and the rules on values.
 */
#ifndef VHU_MESSAGE_INTERNAL_H
#define VHU_MESSAGE_INTERNAL_H

#include "vhu/message.h"

/** Whether a protocol feature is negotiated. */
static inline bool vhu_wire_has(const VhuWire *wire, unsigned bit)
{
    return wire->protocol_features & (1ULL << bit);
}

/* A legal form of a payload: its kind, and bytes from min to max by step. */
typedef struct VhuShape {
    VhuPayload kind;
    uint32_t min;
    uint32_t max;
    uint32_t step;
} VhuShape;

#define VHU_MAX_SHAPES 3

/* What stands before the regions of a table, and before a single region. */
#define VHU_TABLE_HEAD_BYTES  8u
#define VHU_REGION_HEAD_BYTES 8u

/**
 * List the legal forms of a payload, the regular one first.
 * @wire:   the socket's direction and features
 * @spec:   the request's row
 * @reply:  of its reply, not of the request
 * @shapes: room for VHU_MAX_SHAPES
 * Returns how many. Any thread.
 */
unsigned vhu_message_shapes(const VhuWire *wire, const VhuMessageSpec *spec,
                            bool reply, VhuShape *shapes);

/** Whether a payload of @size bytes has this form. */
bool vhu_shape_admits(const VhuShape *shape, uint32_t size);

/** Write the sizes a form allows: "8", "20 or 24", "8 to 264 by 32". */
void vhu_shape_print(const VhuShape *shape, char *text, size_t size);

/**
 * Bytes of one memory region on the wire: XEN_MMAP makes it longer.
 */
uint32_t vhu_region_bytes(const VhuWire *wire);

/**
 * Check the values of a message against the specification's limits.
 * @wire: the socket's direction and features
 * @msg:  request, flags, kind and payload set; sizes match the kind
 * @code: errno value to return, positive
 * @err:  names the field; may be NULL
 * Returns 0 or -@code. Any thread. vhost-user, "Payload".
 */
int vhu_message_check(const VhuWire *wire, const VhuMessage *msg, int code,
                      VhuError *err);

/**
 * Name of a request for messages: "GET_CONFIG", "BACKEND_IOTLB_MSG".
 */
const char *vhu_message_name(const VhuMessageSpec *spec);

/** "reply" or "request". */
const char *vhu_message_role(uint32_t flags);

#endif
