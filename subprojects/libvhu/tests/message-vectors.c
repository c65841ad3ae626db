/* SPDX-License-Identifier: BSD-3-Clause */
/* Owns the walk through the vectors and the reading of their hex. */
#include "tests/message-vectors.h"

#include <glib.h>

const Vector *message_vector(unsigned number)
{
    const struct {
        const Vector *vectors;
        unsigned count;
    } lists[] = {
        {request_vectors, request_vectors_count},
        {reply_vectors, reply_vectors_count},
        {backend_vectors, backend_vectors_count},
        {qemu_vectors, qemu_vectors_count},
    };

    for (unsigned i = 0; i < G_N_ELEMENTS(lists); i++) {
        if (number < lists[i].count) {
            return &lists[i].vectors[number];
        }
        number -= lists[i].count;
    }
    return NULL;
}

size_t hex_to_bytes(const char *hex, uint8_t *bytes, size_t room)
{
    size_t count = 0;

    while (*hex) {
        if (*hex == ' ') {
            hex++;
            continue;
        }
        g_assert_true(g_ascii_isxdigit(hex[0]) && g_ascii_isxdigit(hex[1]));
        g_assert_cmpuint(count, <, room);
        bytes[count++] = (uint8_t)(g_ascii_xdigit_value(hex[0]) << 4 |
                                   g_ascii_xdigit_value(hex[1]));
        hex += 2;
    }
    return count;
}

size_t vector_bytes(const Vector *vector, uint8_t *bytes)
{
    return hex_to_bytes(vector->bytes, bytes,
                        VHU_HEADER_BYTES + VHU_MAX_PAYLOAD_BYTES);
}
