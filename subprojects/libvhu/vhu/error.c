/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Owns the filling of VhuError. Knows no message and prints nothing.
 */
#include "vhu/error.h"

#include <stdio.h>
#include <string.h>

int vhu_error_set(VhuError *err, int code, uint32_t request, uint64_t value,
                  const char *fmt, ...)
{
    va_list args;

    if (err) {
        err->code = code;
        err->request = request;
        err->value = value;
        va_start(args, fmt);
        vsnprintf(err->text, sizeof(err->text), fmt, args);
        va_end(args);
    }
    return -code;
}

void vhu_error_prefix(VhuError *err, const char *fmt, ...)
{
    char rest[VHU_ERROR_TEXT_BYTES];
    va_list args;
    int used;

    if (!err) {
        return;
    }
    memcpy(rest, err->text, sizeof(rest));
    va_start(args, fmt);
    used = vsnprintf(err->text, sizeof(err->text), fmt, args);
    va_end(args);
    if (used >= 0 && (size_t)used < sizeof(err->text)) {
        snprintf(err->text + used, sizeof(err->text) - (size_t)used, "%.*s",
                 (int)(sizeof(err->text) - (size_t)used - 1), rest);
    }
}
