/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Owns the fuzz target of the codec. An input is the state of the connection
 * (four bytes), then header and payload as received. Whatever is decoded must
 * print, and encode to bytes that decode and encode to the same again.
 */
#include "fuzz/fuzz.h"
#include "vhu/message.h"
#include "tests/message-vectors.h"

#include <stdlib.h>
#include <string.h>

#define ROOM (VHU_HEADER_BYTES + VHU_MAX_PAYLOAD_BYTES)

/* Of the first byte. */
#define FROM_BACKEND 0x01
#define LISTENING    0x02

#define STATE_BYTES 4u

const char fuzz_name[] = "message";

static void promise(bool kept)
{
    if (!kept) {
        abort();
    }
}

/* Decode from copies of just the right size, where a sanitizer sees more. */
static int decode(const VhuWire *wire, const uint8_t *bytes, size_t size,
                  VhuMessage *msg)
{
    VhuHeader header;
    VhuError err;
    uint8_t *copy;
    uint32_t flags;
    int ret;

    if (size < VHU_HEADER_BYTES) {
        return -1;
    }
    memcpy(&flags, bytes + 4, sizeof(flags));
    copy = malloc(VHU_HEADER_BYTES);
    promise(copy);
    memcpy(copy, bytes, VHU_HEADER_BYTES);
    ret = vhu_header_decode(wire, copy, flags & VHU_FLAG_REPLY, &header, &err);
    free(copy);
    if (ret) {
        return ret;
    }
    promise(header.size <= VHU_MAX_PAYLOAD_BYTES);
    if (header.size > size - VHU_HEADER_BYTES) {
        return -1;
    }
    copy = malloc(header.size + (header.size == 0));
    promise(copy);
    memcpy(copy, bytes + VHU_HEADER_BYTES, header.size);
    ret = vhu_payload_decode(wire, &header, copy, msg, &err);
    free(copy);
    return ret;
}

static void check_printing(const VhuWire *wire, const VhuMessage *msg)
{
    char text[256];

    for (size_t room = sizeof(text); room > 1; room /= 2) {
        text[room - 1] = '#';
        vhu_message_print(wire, msg, text, room);
        promise(memchr(text, '\0', room));
    }
}

static void check_encoding(const VhuWire *wire, const VhuMessage *msg)
{
    uint8_t bytes[ROOM];
    uint8_t again[ROOM];
    VhuMessage twin;
    VhuError err;
    int size = vhu_message_encode(wire, msg, bytes, &err);

    promise(size >= (int)VHU_HEADER_BYTES);
    promise(decode(wire, bytes, (size_t)size, &twin) == 0);
    promise(vhu_message_encode(wire, &twin, again, &err) == size);
    promise(memcmp(bytes, again, (size_t)size) == 0);
}

void fuzz_one(const uint8_t *bytes, size_t size)
{
    VhuMessage msg;
    VhuError err;
    VhuWire wire;

    if (size < STATE_BYTES) {
        return;
    }
    wire = (VhuWire){
        .direction =
            bytes[0] & FROM_BACKEND ? VHU_FROM_BACKEND : VHU_FROM_FRONTEND,
        .postcopy_listening = bytes[0] & LISTENING,
        .protocol_features = (uint64_t)bytes[1] | (uint64_t)bytes[2] << 8 |
                             (uint64_t)bytes[3] << 16,
    };
    if (decode(&wire, bytes + STATE_BYTES, size - STATE_BYTES, &msg)) {
        return;
    }
    for (msg.num_fds = 0; msg.num_fds < VHU_MAX_FDS; msg.num_fds++) {
        msg.fds[msg.num_fds] = -1;
        vhu_fds_check(&wire, &msg, &err);
    }
    vhu_message_gated(&wire, msg.request, &err);
    promise(!vhu_reply_due(&wire, &msg) || !(msg.flags & VHU_FLAG_REPLY));
    check_printing(&wire, &msg);
    check_encoding(&wire, &msg);
}

size_t fuzz_seed(unsigned number, uint8_t *bytes)
{
    const Vector *vector = message_vector(number);
    uint64_t features;

    if (!vector) {
        return 0;
    }
    features = vector->wire.protocol_features;
    bytes[0] = (vector->wire.direction == VHU_FROM_BACKEND ? FROM_BACKEND : 0) |
               (vector->wire.postcopy_listening ? LISTENING : 0);
    for (unsigned i = 1; i < STATE_BYTES; i++) {
        bytes[i] = (uint8_t)(features >> (8 * (i - 1)));
    }
    return STATE_BYTES + vector_bytes(vector, bytes + STATE_BYTES);
}
