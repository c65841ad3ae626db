/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Owns a device that hangs as told, for the tests of how a daemon ends: its
 * requests are never answered, or its thread never comes back.
 */
#include "contrib/daemon/daemon.h"

#include <unistd.h>

enum { KEEP_ELEMENTS, BLOCK_THREAD };

typedef struct HungOptions {
    uint64_t threads;
    int how;
} HungOptions;

static const char *const hung_ways[] = {
    [KEEP_ELEMENTS] = "keep-elements",
    [BLOCK_THREAD] = "block-thread",
    NULL,
};

static const OptionRow hung_rows[] = {
    {
        .name = "threads",
        OPTION_FIELD(HungOptions, threads),
        .placeholder = "N",
        .help = "number of data threads",
        .max = 8,
    },
    {
        .name = "how",
        OPTION_FIELD(HungOptions, how),
        .placeholder = "WAY",
        .help = "how to hang",
        .choices = hung_ways,
    },
    {0},
};

static int hung_connect(VhuConnection *connection, void *device, void **state)
{
    (void)connection;
    *state = device;
    return 0;
}

static VhuProcess hung_queue_process(VhuQueue *queue, void *state)
{
    const HungOptions *options = state;
    VhuElement *element;

    while ((element = vhu_queue_pop(queue)) != NULL) {
        log_line(LOG_LEVEL_INFO, "hanging");
        while (options->how == BLOCK_THREAD) {
            pause();
        }
    }
    return VHU_PROCESS_DONE;
}

static void hung_queue_stop(VhuQueue *queue, void *state)
{
    (void)queue;
    (void)state;
    log_line(LOG_LEVEL_INFO, "asked to stop");
}

static const VhuDeviceOps hung_ops = {
    .connect = hung_connect,
    .queue_process = hung_queue_process,
    .queue_stop = hung_queue_stop,
};

static void *hung_open(const void *values, DaemonSetup *setup, GError **error)
{
    const HungOptions *options = values;

    (void)error;
    setup->info.ops = &hung_ops;
    setup->info.num_queues = 1;
    setup->num_threads = (unsigned)options->threads;
    return (void *)options;
}

static void hung_close(void *device)
{
    (void)device;
    log_line(LOG_LEVEL_INFO, "device closed");
}

static const DaemonDevice hung_device = {
    .name = "hung-daemon",
    .summary = "a device that hangs",
    .description = "For tests.",
    .type = "hung",
    .options = hung_rows,
    .values_bytes = sizeof(HungOptions),
    .open = hung_open,
    .close = hung_close,
};

int main(int argc, char **argv)
{
    return daemon_main(&hung_device, argc, argv);
}
