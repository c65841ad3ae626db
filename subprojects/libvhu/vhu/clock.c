/* SPDX-License-Identifier: BSD-3-Clause */
/* Owns the reading of the clock that deadlines are counted by. */
#include "vhu/clock.h"

#include <time.h>

int64_t vhu_now_ms(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}
