/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What went wrong, for whom to tell: every fallible function of the library
 * returns 0 (or a count) on success and -errno on failure, and then fills the
 * VhuError its caller owns.
 */
#ifndef VHU_ERROR_H
#define VHU_ERROR_H

#include <stdarg.h>
#include <stdint.h>

#ifndef VHU_API
#define VHU_API __attribute__((visibility("default")))
#endif

#define VHU_ERROR_TEXT_BYTES 256

typedef struct VhuError {
    int code;         /* errno value, positive; 0: no error recorded */
    uint32_t request; /* message it is about, 0: none */
    uint64_t value;   /* the offending value, as received */
    char text[VHU_ERROR_TEXT_BYTES]; /* one line, no newline, always ended */
} VhuError;

/**
 * Record an error.
 * @err:     where, owned by the caller; may be NULL (only the code returns)
 * @code:    errno value, positive
 * @request: the message it is about, or 0
 * @value:   the offending value, or 0
 * @fmt:     text naming the object and the numbers
 * Returns -@code, so that a caller can "return vhu_error_set(...)".
 * Any thread; @err must not be shared.
 */
VHU_API int vhu_error_set(VhuError *err, int code, uint32_t request,
                          uint64_t value, const char *fmt, ...)
    __attribute__((format(printf, 5, 6)));

/**
 * Put a prefix ("queue 3: ") in front of a recorded error's text.
 * @err: the error; may be NULL. Nothing else of it changes.
 * Any thread.
 */
VHU_API void vhu_error_prefix(VhuError *err, const char *fmt, ...)
    __attribute__((format(printf, 2, 3)));

#endif
