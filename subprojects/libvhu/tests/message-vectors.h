/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The witness of the wire format: messages as bytes written by hand from the
 * specification, beside what they mean. Never made by our own encoder.
 */
#ifndef MESSAGE_VECTORS_H
#define MESSAGE_VECTORS_H

#include "vhu/message.h"

typedef struct Vector {
    VhuWire wire;      /* direction, and what has to be negotiated */
    const char *bytes; /* header and payload in hex, blanks between fields */
    VhuMessage want;   /* what they mean; no fds */
    const char *sizes; /* legal payload sizes, "0 8 12-20 24-40/8"; NULL: its */
    uint8_t fds_min;   /* how many fds it may carry */
    uint8_t fds_max;
    bool decode_only;  /* tolerated, never sent by us */
    const char *print; /* its line in a trace, without " fds=[...]" */
} Vector;

/* The requests of the front end, the replies to them, the back-end channel,
 * and what another front end was seen to send. */
extern const Vector request_vectors[];
extern const unsigned request_vectors_count;
extern const Vector reply_vectors[];
extern const unsigned reply_vectors_count;
extern const Vector backend_vectors[];
extern const unsigned backend_vectors_count;
extern const Vector qemu_vectors[];
extern const unsigned qemu_vectors_count;

/** The vector of this number, through all lists; NULL past the end. */
const Vector *message_vector(unsigned number);

/**
 * Turn hex into bytes; blanks are skipped.
 * @bytes: room for @room bytes; more in @hex fails the test
 * Returns how many.
 */
size_t hex_to_bytes(const char *hex, uint8_t *bytes, size_t room);

/** The bytes of a vector; @bytes has room for a whole message. */
size_t vector_bytes(const Vector *vector, uint8_t *bytes);

#endif
