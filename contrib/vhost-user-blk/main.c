/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Owns the options of vhost-user-blk and what they become: an image, a store
 * and a device. Serves nothing itself.
 */
#include "contrib/daemon/daemon.h"
#include "contrib/vhost-user-blk/blk.h"

#include <signal.h>
#include <string.h>

/* Rings of any size up to this one are accepted unless --queue-size says
 * otherwise, and requests are made for the usual size of a front end's. */
#define ANY_QUEUE_SIZE   1024u
#define USUAL_QUEUE_SIZE 128u
#define MAX_QUEUES       64u
#define FORMER_DAEMON_MS 5000
/* Header and status of a request are pieces too. */
#define PIECES_BESIDE_DATA 2u

typedef struct Values {
    char *blk_file;
    char *serial;
    bool read_only;
    bool direct;
    bool no_lock;
    uint64_t num_queues;
    uint64_t queue_size;
    uint64_t block_size;
    int aio;
} Values;

enum { AIO_AUTO, AIO_IO_URING, AIO_THREADS };
static const char *const aio_names[] = {"auto", "io_uring", "threads", NULL};

static const OptionRow rows[] = {
    {
        .name = "blk-file",
        .letter = 'b',
        .required = true,
        OPTION_FIELD(Values, blk_file),
        .placeholder = "PATH",
        .help = "serve this raw file or block device",
        .details = "Its size is looked at every second; guests are told when "
                   "it has changed. It is locked against other daemons.",
    },
    {
        .name = "read-only",
        .letter = 'r',
        OPTION_FIELD(Values, read_only),
        .help = "refuse every write",
        .details = "The image is opened for reading only.",
    },
    {
        .name = "num-queues",
        OPTION_FIELD(Values, num_queues),
        .placeholder = "N",
        .help = "queues a guest may use",
        .details = "They are served by one thread each, but by no more threads "
                   "than there are processors.",
        .default_number = 1,
        .min = 1,
        .max = MAX_QUEUES,
    },
    {
        .name = "queue-size",
        OPTION_FIELD(Values, queue_size),
        .placeholder = "N",
        .help = "entries of a queue, as the front end is configured",
        .details = "Larger rings are refused, and guests are told to make "
                   "requests of at most N - 2 pieces.",
        .unset_text = "up to 1024, and requests of 126 pieces",
        .default_number = OPTION_UNSET,
        .min = 4,
        .max = ANY_QUEUE_SIZE,
    },
    {
        .name = "direct",
        OPTION_FIELD(Values, direct),
        .help = "do not use the host's page cache (O_DIRECT)",
    },
    {
        .name = "block-size",
        OPTION_FIELD(Values, block_size),
        .placeholder = "BYTES",
        .help = "logical block size guests see, a power of two",
        .unset_text = "512, of a block device its own",
        .default_number = OPTION_UNSET,
        .min = BLK_SECTOR_BYTES,
        .max = BLK_MAX_BLOCK_BYTES,
    },
    {
        .name = "serial",
        OPTION_FIELD(Values, serial),
        .placeholder = "TEXT",
        .help = "serial number guests see, at most 20 characters of ASCII",
        .unset_text = "none",
    },
    {
        .name = "aio",
        OPTION_FIELD(Values, aio),
        .placeholder = "KIND",
        .help = "how I/O is done",
        .details = "auto takes io_uring where the host allows it, else worker "
                   "threads.",
        .choices = aio_names,
    },
    {
        .name = "no-lock",
        OPTION_FIELD(Values, no_lock),
        .help = "do not lock the image",
        .details = "For guests that share a disk on purpose. Without the lock "
                   "a daemon that is restarted after a crash does not wait "
                   "for the last I/O of the one before it.",
    },
    {0},
};

static bool check_serial(const Values *values, GError **error)
{
    size_t length = values->serial == NULL ? 0 : strlen(values->serial);

    if (length > VIRTIO_BLK_ID_BYTES) {
        option_set_error(error, "serial", values->serial,
                         "%zu characters, at most %d", length,
                         VIRTIO_BLK_ID_BYTES);
        return false;
    }
    for (size_t i = 0; i < length; i++) {
        if (!g_ascii_isprint(values->serial[i])) {
            option_set_error(error, "serial", values->serial,
                             "not printable ASCII");
            return false;
        }
    }
    return true;
}

static bool check_block_size(const Values *values, GError **error)
{
    uint64_t size = values->block_size;
    g_autofree char *text = NULL;

    if (size == OPTION_UNSET || (size & (size - 1)) == 0) {
        return true;
    }
    text = g_strdup_printf("%" G_GUINT64_FORMAT, size);
    option_set_error(error, "block-size", text, "not a power of two");
    return false;
}

static bool blk_check(const void *opaque, GError **error)
{
    return check_serial(opaque, error) && check_block_size(opaque, error);
}

/* The first store that works and is asked for. */
static const BlkStoreOps *choose_store(const Values *values, GError **error)
{
    const char *wanted = aio_names[values->aio];
    const char *why = "not built in";

    for (unsigned i = 0; blk_stores[i] != NULL; i++) {
        int result;

        if (values->aio != AIO_AUTO &&
            strcmp(blk_stores[i]->name, wanted) != 0) {
            continue;
        }
        result = blk_stores[i]->probe();
        if (result == 0) {
            return blk_stores[i];
        }
        why = g_strerror(-result);
        if (values->aio == AIO_AUTO) {
            log_line(LOG_LEVEL_WARNING, "%s is not to be had: %s",
                     blk_stores[i]->name, why);
        }
    }
    option_set_error(error, "aio", wanted, "%s", why);
    return NULL;
}

static unsigned count_threads(const Values *values)
{
    return MIN((unsigned)values->num_queues, g_get_num_processors());
}

static void *blk_open(const void *opaque, DaemonSetup *setup, GError **error)
{
    const Values *values = opaque;
    BlkImageConfig image = {
        .path = values->blk_file,
        .read_only = values->read_only,
        .direct = values->direct,
        .without_lock = values->no_lock,
        .lock_wait_ms = FORMER_DAEMON_MS,
    };
    BlkDeviceConfig config = {
        .control = setup->control,
        .num_queues = (uint16_t)values->num_queues,
    };
    BlkDevice *device;
    bool any_size = values->queue_size == OPTION_UNSET;

    if (values->block_size != OPTION_UNSET) {
        image.block_bytes = (uint32_t)values->block_size;
    }
    if (values->serial != NULL) {
        memcpy(config.serial, values->serial, strlen(values->serial));
    }
    config.queue_size = any_size ? ANY_QUEUE_SIZE : values->queue_size;
    config.seg_max =
        (any_size ? USUAL_QUEUE_SIZE : values->queue_size) - PIECES_BESIDE_DATA;
    config.store = choose_store(values, error);
    if (config.store == NULL) {
        return NULL;
    }
    config.image = blk_image_open(&image, error);
    if (config.image == NULL) {
        return NULL;
    }
    /* A limit on file sizes is an error of the write, not our end. */
    signal(SIGXFSZ, SIG_IGN);
    setup->num_threads = count_threads(values);
    device = blk_device_new(&config);
    blk_device_describe(device, &setup->info);
    return device;
}

static void blk_close(void *device)
{
    blk_device_free(device);
}

static const char *const features[] = {"read-only", "blk-file", NULL};

static const DaemonExample examples[] = {
    {
        .text = "A disk for a guest, with two queues:",
        .command = "vhost-user-blk --socket-path=/tmp/blk.sock "
                   "--blk-file=disk.img --num-queues=2",
    },
    {
        .text = "The guest that uses it:",
        .command =
            "qemu-system-x86_64 -m 1G \\\n"
            "    -object memory-backend-memfd,id=mem,size=1G,share=on \\\n"
            "    -machine q35,memory-backend=mem \\\n"
            "    -chardev socket,id=blk,path=/tmp/blk.sock \\\n"
            "    -device vhost-user-blk-pci,chardev=blk,num-queues=2",
    },
    {0},
};

static const DaemonDevice blk_daemon = {
    .name = "vhost-user-blk",
    .summary = "a disk for guests",
    .description =
        "vhost-user-blk serves a raw file or a block device as a virtio disk "
        "to the front end that connects to its socket.\n\n"
        "Writes are cached by the host until the guest flushes; a guest that "
        "cannot flush, or that turned its write cache off, gets every write "
        "stable. Discards give space back to the host.\n\n"
        "I/O is asynchronous. Requests in flight when the daemon is killed are "
        "done again by the next one if the front end keeps an inflight "
        "buffer; the lock on the image makes that one wait until no I/O of "
        "the former is left.",
    .type = "block",
    .features = features,
    .options = rows,
    .values_bytes = sizeof(Values),
    .examples = examples,
    .check = blk_check,
    .open = blk_open,
    .close = blk_close,
};

int main(int argc, char **argv)
{
    return daemon_main(&blk_daemon, argc, argv);
}
