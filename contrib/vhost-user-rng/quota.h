/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A number of bytes per period; time is handed in. */
#ifndef CONTRIB_VHOST_USER_RNG_QUOTA_H
#define CONTRIB_VHOST_USER_RNG_QUOTA_H

#include <stdint.h>

/* Of a quota without limit. */
#define QUOTA_UNLIMITED UINT64_MAX

/* A period begins with the first use after the one before has ended. Zero but
 * for the first two before first use. */
typedef struct Quota {
    uint64_t max_bytes; /* per period, at least 1; or QUOTA_UNLIMITED */
    int64_t period_ms;  /* at least 1 */
    int64_t end_ms;     /* of the current period */
    uint64_t used;      /* in the current period */
} Quota;

/** Bytes that may still be used at @now_ms. */
uint64_t quota_left(const Quota *quota, int64_t now_ms);

/** Take bytes, at most what is left. */
void quota_take(Quota *quota, uint64_t bytes, int64_t now_ms);

/** When the current period ends. */
int64_t quota_end_ms(const Quota *quota);

#endif
