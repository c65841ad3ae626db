/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Owns the options of vhost-user-rng. The device is in rng.c. */
#include "contrib/vhost-user-rng/quota.h"
#include "contrib/vhost-user-rng/rng.h"

/* Longest period: an hour. */
#define MAX_PERIOD_MS 3600000

G_STATIC_ASSERT(OPTION_UNSET == QUOTA_UNLIMITED);

static const OptionRow rng_rows[] = {
    {
        .name = "source",
        OPTION_FIELD(RngOptions, source),
        .placeholder = "FILE",
        .help = "read the bytes from FILE",
        .details =
            "A device, a FIFO or a plain file. All connections share it: no "
            "byte is handed out twice. While it has nothing to read, requests "
            "wait; at the end of a plain file they wait for it to grow.",
        .unset_text = "the kernel's random number generator",
    },
    {
        .name = "max-bytes",
        .letter = 'm',
        OPTION_FIELD(RngOptions, max_bytes),
        .placeholder = "BYTES",
        .help = "hand out at most BYTES in a period",
        .details = "All connections together. A request gets what is left of "
                   "it, or waits for the next period.",
        .unset_text = "no limit",
        .default_number = OPTION_UNSET,
        .min = 1,
    },
    {
        .name = "period-ms",
        .letter = 'p',
        OPTION_FIELD(RngOptions, period_ms),
        .placeholder = "MS",
        .help = "length of the period of --max-bytes in milliseconds",
        .default_number = 1000,
        .min = 1,
        .max = MAX_PERIOD_MS,
    },
    {0},
};

static const DaemonExample rng_examples[] = {
    {
        .text = "Serve the kernel's random numbers, 1 KiB per second for all "
                "guests together:",
        .command = "vhost-user-rng --socket-path=/run/rng.sock --max-bytes=1k",
    },
    {
        .text = "Serve a hardware generator:",
        .command = "vhost-user-rng --socket-path=/run/rng.sock "
                   "--source=/dev/hwrng",
    },
    {0},
};

static const DaemonDevice rng_device = {
    .name = "vhost-user-rng",
    .summary = "entropy for virtual machines, over vhost-user",
    .description =
        "Serves the virtio entropy device to any number of virtual machines. "
        "Each request is filled with random bytes, from the kernel or from a "
        "file, as far as there are any; the driver is told the exact number.\n"
        "\n"
        "Requests that cannot be served yet stay on their queue and never "
        "keep the daemon from serving others or from ending.",
    .type = "rng",
    .options = rng_rows,
    .values_bytes = sizeof(RngOptions),
    .examples = rng_examples,
    .open = rng_open,
    .close = rng_close,
};

int main(int argc, char **argv)
{
    return daemon_main(&rng_device, argc, argv);
}
