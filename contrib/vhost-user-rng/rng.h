/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The entropy device: fills buffers from a source, within a quota. */
#ifndef CONTRIB_VHOST_USER_RNG_RNG_H
#define CONTRIB_VHOST_USER_RNG_RNG_H

#include "contrib/daemon/daemon.h"

/* Values of the options. */
typedef struct RngOptions {
    char *source; /* NULL: the kernel */
    uint64_t max_bytes;
    uint64_t period_ms;
} RngOptions;

/**
 * Open the source, as DaemonDevice.open; everything runs on the control
 * thread. @values: a RngOptions. VIRTIO 1.4, "Entropy Device".
 */
void *rng_open(const void *values, DaemonSetup *setup, GError **error);

/** As DaemonDevice.close. */
void rng_close(void *device);

#endif
