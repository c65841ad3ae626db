/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Owns a device to copy: it gives back what it is sent, reversed if the driver
 * says so. docs/devel/writing-a-back-end.rst goes through it. */
#include "contrib/daemon/daemon.h"

#include <errno.h>
#include <string.h>

/* tutorial: state */
typedef struct TemplateOptions {
    uint64_t max_bytes;
} TemplateOptions;

typedef struct TemplateConfig {
    uint32_t max_bytes; /* per request, read-only, little-endian */
    uint8_t reverse;    /* 0 or 1, written by the driver */
} __attribute__((packed)) TemplateConfig;

typedef struct Template { /* one front end */
    const TemplateOptions *options;
    bool reverse;
} Template;

/* tutorial: connect */
static int template_connect(VhuConnection *connection, void *device,
                            void **state)
{
    Template *tmpl = g_new0(Template, 1);

    (void)connection;
    tmpl->options = device;
    *state = tmpl;
    return 0;
}

static void template_reset(void *state)
{
    ((Template *)state)->reverse = false;
}

/* tutorial: config */
static TemplateConfig template_config(const Template *tmpl)
{
    return (TemplateConfig){
        .max_bytes = GUINT32_TO_LE((uint32_t)tmpl->options->max_bytes),
        .reverse = tmpl->reverse,
    };
}

static int template_get_config(void *state, uint32_t offset, void *data,
                               uint32_t size)
{
    const TemplateConfig config = template_config(state);

    memcpy(data, (const uint8_t *)&config + offset, size);
    return 0;
}

static int template_set_config(void *state, uint32_t offset, const void *data,
                               uint32_t size, bool migration)
{
    const TemplateConfig before = template_config(state);
    TemplateConfig config = before;

    (void)migration;
    memcpy((uint8_t *)&config + offset, data, size);
    if (config.max_bytes != before.max_bytes || config.reverse > 1) {
        return -EINVAL;
    }
    ((Template *)state)->reverse = config.reverse == 1;
    return 0;
}

/* tutorial: queue */
static uint32_t template_serve(const Template *tmpl, const VhuElement *element)
{
    const uint64_t size = MIN(MIN(element->out_bytes, element->in_bytes),
                              tmpl->options->max_bytes);
    g_autofree uint8_t *bytes = g_malloc(size);

    vhu_element_read(element, 0, bytes, size);
    for (uint64_t i = 0; tmpl->reverse && i < size / 2; i++) {
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
    .description = "Gives back what it is sent, reversed if asked to.",
    .type = "template",
    .options = template_rows,
    .values_bytes = sizeof(TemplateOptions),
    .open = template_open,
};

int main(int argc, char **argv)
{
    return daemon_main(&template_device, argc, argv);
}
