/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Owns a device to copy: it gives back what it is sent, reversed if the driver
 * says so in configuration space. docs/devel/writing-a-back-end.rst explains
 * it part by part.
 */
#include "contrib/daemon/daemon.h"

#include <errno.h>
#include <string.h>

/* tutorial: state */
typedef struct TemplateOptions {
    uint64_t max_bytes;
} TemplateOptions;

/* Configuration space; little-endian. */
typedef struct TemplateConfig {
    uint32_t max_bytes; /* per request, read-only */
    uint8_t reverse;    /* 0 or 1, written by the driver */
} __attribute__((packed)) TemplateConfig;

/* One front end. */
typedef struct Template {
    const TemplateOptions *options;
    bool reverse;
} Template;

/* tutorial: connect */
static int template_connect(VhuConnection *connection, void *device,
                            void **state)
{
    Template *template = g_new0(Template, 1);

    (void)connection;
    template->options = device;
    *state = template;
    return 0;
}

static void template_reset(void *state)
{
    Template *template = state;

    template->reverse = false;
}

/* tutorial: config */
static int template_get_config(void *state, uint32_t offset, void *data,
                               uint32_t size)
{
    const Template *template = state;
    const TemplateConfig config = {
        .max_bytes = GUINT32_TO_LE((uint32_t) template->options->max_bytes),
        .reverse = template->reverse,
    };

    memcpy(data, (const uint8_t *)&config + offset, size);
    return 0;
}

static int template_set_config(void *state, uint32_t offset, const void *data,
                               uint32_t size, bool migration)
{
    Template *template = state;
    const uint8_t *value = data;

    (void)migration;
    if (offset != offsetof(TemplateConfig, reverse) || size != 1 ||
        *value > 1) {
        return -EINVAL;
    }
    template->reverse = *value == 1;
    return 0;
}

/* tutorial: queue */
static uint32_t template_serve(const Template *template,
                               const VhuElement *element)
{
    const uint64_t size = MIN(MIN(element->out_bytes, element->in_bytes),
                              template->options->max_bytes);
    g_autofree uint8_t *bytes = g_malloc(size);

    vhu_element_read(element, 0, bytes, size);
    for (uint64_t i = 0; template->reverse && i < size / 2; i++) {
        const uint8_t byte = bytes[i];

        bytes[i] = bytes[size - 1 - i];
        bytes[size - 1 - i] = byte;
    }
    return (uint32_t)vhu_element_write(element, 0, bytes, size);
}

static VhuProcess template_queue_process(VhuQueue *queue, void *state)
{
    VhuElement *element;

    while ((element = vhu_queue_pop(queue)) != NULL) {
        vhu_queue_push(queue, element, template_serve(state, element));
    }
    return VHU_PROCESS_DONE;
}

static const VhuDeviceOps template_ops = {
    .connect = template_connect,
    .disconnect = g_free,
    .get_config = template_get_config,
    .set_config = template_set_config,
    .reset = template_reset,
    .queue_process = template_queue_process,
};

/* tutorial: daemon */
static const OptionRow template_rows[] = {
    {
        .name = "max-bytes",
        OPTION_FIELD(TemplateOptions, max_bytes),
        .placeholder = "BYTES",
        .help = "give back at most BYTES of a request",
        .default_number = 4096,
        .min = 1,
        .max = 65536,
    },
    {0},
};

static void *template_open(const void *values, DaemonSetup *setup,
                           GError **error)
{
    (void)error;
    setup->info.ops = &template_ops;
    setup->info.num_queues = 1;
    setup->info.config_bytes = sizeof(TemplateConfig);
    return (void *)values;
}

static const DaemonDevice template_device = {
    .name = "vhost-user-template",
    .summary = "a device to copy, over vhost-user",
    .description = "Gives back what it is sent.",
    .type = "template",
    .options = template_rows,
    .values_bytes = sizeof(TemplateOptions),
    .open = template_open,
};

/* tutorial: main */
int main(int argc, char **argv)
{
    return daemon_main(&template_device, argc, argv);
}
