/* SPDX-License-Identifier: BSD-3-Clause */
/* The one clock of deadlines. */
#ifndef VHU_CLOCK_H
#define VHU_CLOCK_H

#include "vhu/error.h"

/** CLOCK_MONOTONIC now, in milliseconds. Any thread. */
VHU_API int64_t vhu_now_ms(void);

#endif
