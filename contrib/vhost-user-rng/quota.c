/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Owns the counting of bytes per period. Knows no clock and no source. */
#include "contrib/vhost-user-rng/quota.h"

uint64_t quota_left(const Quota *quota, int64_t now_ms)
{
    if (quota->max_bytes == QUOTA_UNLIMITED || now_ms >= quota->end_ms) {
        return quota->max_bytes;
    }
    return quota->max_bytes - quota->used;
}

void quota_take(Quota *quota, uint64_t bytes, int64_t now_ms)
{
    if (quota->max_bytes == QUOTA_UNLIMITED) {
        return;
    }
    if (now_ms >= quota->end_ms) {
        quota->end_ms = now_ms + quota->period_ms;
        quota->used = 0;
    }
    quota->used += bytes;
}

int64_t quota_end_ms(const Quota *quota)
{
    return quota->end_ms;
}
