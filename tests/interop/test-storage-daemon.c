/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Owns the check of our front-end session and driver rings against a back end
 * that was not written here: the vhost-user-blk export of Debian's
 * qemu-storage-daemon. What was written is read back, and compared with the
 * image file.
 */
#include "tests/loopback/blk-rig.h"

#include "vhu/clock.h"

#include <endian.h>
#include <glib/gstdio.h>
#include <signal.h>
#include <string.h>
#include <unistd.h>

#define PROGRAM      "qemu-storage-daemon"
#define IMAGE_BYTES  (1024u * 1024)
#define NUM_SECTORS  (IMAGE_BYTES / BLK_SECTOR)
#define MOST_SECTORS 16u
#define NUM_REQUESTS 400u
#define NUM_QUEUES   2u

typedef struct Export {
    char *folder;
    char *image;
    char *socket;
    char *pid_file;
    Rig *rig;
    uint8_t *shadow; /* what the image must hold */
} Export;

static void run(const char *const *argv)
{
    g_autoptr(GError) error = NULL;
    g_autofree char *text = NULL;
    int status = 0;

    if (!g_spawn_sync(NULL, (char **)argv, NULL, G_SPAWN_SEARCH_PATH, NULL,
                      NULL, NULL, &text, &status, &error)) {
        g_error("%s: %s", argv[0], error->message);
    }
    if (!g_spawn_check_wait_status(status, &error)) {
        g_error("%s: %s: %s", argv[0], error->message, text);
    }
}

/* It returns once the export listens, so that nothing has to be waited for. */
static void start_daemon(const Export *export)
{
    g_autofree char *blockdev = g_strdup_printf(
        "driver=file,node-name=disk,discard=unmap,filename=%s", export->image);
    g_autofree char *server = g_strdup_printf(
        "type=vhost-user-blk,id=export,node-name=disk,writable=on,"
        "num-queues=%u,addr.type=unix,addr.path=%s",
        NUM_QUEUES, export->socket);
    const char *const argv[] = {PROGRAM,          "--blockdev",  blockdev,
                                "--export",       server,        "--pidfile",
                                export->pid_file, "--daemonize", NULL};

    run(argv);
}

static void stop_daemon(const Export *export)
{
    g_autofree char *text = NULL;
    const int64_t deadline = vhu_now_ms() + BLK_DEADLINE_MS;
    guint64 pid = 0;

    g_assert_true(g_file_get_contents(export->pid_file, &text, NULL, NULL));
    g_assert_true(g_ascii_string_to_unsigned(g_strchomp(text), 10, 1, INT32_MAX,
                                             &pid, NULL));
    g_assert_cmpint(kill((pid_t)pid, SIGTERM), ==, 0);
    /* It removes the file as it ends. */
    while (g_file_test(export->pid_file, G_FILE_TEST_EXISTS)) {
        g_assert_cmpint(vhu_now_ms(), <, deadline);
        g_thread_yield();
    }
}

static Export *export_new(const RigConfig *config)
{
    Export *export = g_new0(Export, 1);

    export->folder = g_dir_make_tmp("vhu-interop-XXXXXX", NULL);
    g_assert_nonnull(export->folder);
    export->image = g_build_filename(export->folder, "image", NULL);
    export->socket = g_build_filename(export->folder, "socket", NULL);
    export->pid_file = g_build_filename(export->folder, "pid", NULL);
    export->shadow = g_malloc0(IMAGE_BYTES);
    g_assert_true(g_file_set_contents(export->image, (char *)export->shadow,
                                      IMAGE_BYTES, NULL));
    start_daemon(export);
    export->rig = rig_new(config);
    rig_connect(export->rig, export->socket);
    rig_start(export->rig);
    return export;
}

static void assert_image(const Export *export)
{
    g_autofree char *data = NULL;
    gsize bytes = 0;

    g_assert_true(g_file_get_contents(export->image, &data, &bytes, NULL));
    g_assert_cmpmem(data, bytes, export->shadow, IMAGE_BYTES);
}

static void export_free(Export *export)
{
    rig_free(export->rig);
    stop_daemon(export);
    g_unlink(export->image);
    g_unlink(export->socket);
    g_rmdir(export->folder);
    g_free(export->folder);
    g_free(export->image);
    g_free(export->socket);
    g_free(export->pid_file);
    g_free(export->shadow);
    g_free(export);
}

static RigConfig rig_config_of(uint64_t features)
{
    return (RigConfig){
        .features =
            features | RIG_BIT(VIRTIO_BLK_F_MQ) | RIG_BIT(VIRTIO_BLK_F_FLUSH) |
            RIG_BIT(VIRTIO_BLK_F_DISCARD) | RIG_BIT(VIRTIO_BLK_F_WRITE_ZEROES),
        .num_queues = NUM_QUEUES,
    };
}

/* One random write or read somewhere, on any queue. */
static void do_random(Export *export, unsigned version)
{
    uint8_t data[MOST_SECTORS * BLK_SECTOR];
    const unsigned num = 1 + g_test_rand_int_range(0, MOST_SECTORS);
    const uint64_t sector =
        (uint64_t)g_test_rand_int_range(0, NUM_SECTORS - num);
    BlkJobConfig job = {
        .queue = (unsigned)g_test_rand_int_range(0, NUM_QUEUES),
        .type = VIRTIO_BLK_T_OUT,
        .sector = sector,
        .data = data,
        .out_bytes = num * BLK_SECTOR,
    };

    if (g_test_rand_bit()) {
        blk_fill(data, sizeof(data), sector, version);
        memcpy(export->shadow + sector * BLK_SECTOR, data, num * BLK_SECTOR);
        g_assert_cmpuint(blk_do(export->rig, &job), ==, VIRTIO_BLK_S_OK);
    } else {
        g_assert_cmpuint(blk_read(export->rig, sector, data, num * BLK_SECTOR),
                         ==, VIRTIO_BLK_S_OK);
        g_assert_cmpmem(data, num * BLK_SECTOR,
                        export->shadow + sector * BLK_SECTOR, num * BLK_SECTOR);
    }
}

static void test_random_requests_agree(gconstpointer data)
{
    const uint64_t *features = data;
    const RigConfig config = rig_config_of(*features);
    Export *export = export_new(&config);

    for (unsigned i = 0; i < NUM_REQUESTS; i++) {
        do_random(export, i);
    }
    g_assert_cmpuint(blk_flush(export->rig), ==, VIRTIO_BLK_S_OK);
    assert_image(export);
    export_free(export);
}

static void test_queues_stop_and_start_again(void)
{
    const RigConfig config = rig_config_of(0);
    Export *export = export_new(&config);

    for (unsigned round = 0; round < 4; round++) {
        for (unsigned i = 0; i < 10; i++) {
            do_random(export, round);
        }
        rig_stop(export->rig);
        rig_start(export->rig);
    }
    g_assert_cmpuint(blk_flush(export->rig), ==, VIRTIO_BLK_S_OK);
    assert_image(export);
    export_free(export);
}

static void test_session_connects_again(void)
{
    const RigConfig config = rig_config_of(0);
    Export *export = export_new(&config);

    for (unsigned round = 0; round < 3; round++) {
        do_random(export, round);
        rig_stop(export->rig);
        rig_disconnect(export->rig);
        rig_reconnect(export->rig, export->socket);
        rig_start(export->rig);
    }
    g_assert_cmpuint(blk_flush(export->rig), ==, VIRTIO_BLK_S_OK);
    assert_image(export);
    export_free(export);
}

static void test_zeroes_are_written(void)
{
    const struct virtio_blk_discard_write_zeroes segment = {
        .sector = htole64(8), .num_sectors = htole32(16)};
    const RigConfig config = rig_config_of(0);
    Export *export = export_new(&config);
    uint8_t data[MOST_SECTORS * BLK_SECTOR];

    blk_fill(data, sizeof(data), 0, 1);
    memcpy(export->shadow, data, sizeof(data));
    g_assert_cmpuint(blk_write(export->rig, 0, data, sizeof(data)), ==,
                     VIRTIO_BLK_S_OK);
    g_assert_cmpuint(
        blk_segments(export->rig, VIRTIO_BLK_T_WRITE_ZEROES, &segment, 1), ==,
        VIRTIO_BLK_S_OK);
    memset(export->shadow + 8 * BLK_SECTOR, 0, 16 * BLK_SECTOR);
    g_assert_cmpuint(blk_flush(export->rig), ==, VIRTIO_BLK_S_OK);
    assert_image(export);
    export_free(export);
}

static void test_configuration_tells_capacity(void)
{
    const RigConfig config = rig_config_of(0);
    Export *export = export_new(&config);
    uint64_t capacity;

    rig_get_config(export->rig, 0, &capacity, sizeof(capacity));
    g_assert_cmpuint(le64toh(capacity), ==, NUM_SECTORS);
    export_free(export);
}

static void skip(void)
{
    g_test_skip(PROGRAM " is not installed");
}

int main(int argc, char **argv)
{
    static const struct {
        const char *path;
        uint64_t features;
    } rings[] = {
        {"/interop/storage-daemon/random-requests-agree/split", 0},
        {"/interop/storage-daemon/random-requests-agree/indirect",
         RIG_BIT(VIRTIO_RING_F_INDIRECT_DESC)},
        {"/interop/storage-daemon/random-requests-agree/event-idx",
         RIG_BIT(VIRTIO_RING_F_EVENT_IDX)},
        {"/interop/storage-daemon/random-requests-agree/indirect+event-idx",
         RIG_BIT(VIRTIO_RING_F_INDIRECT_DESC) |
             RIG_BIT(VIRTIO_RING_F_EVENT_IDX)},
    };
    static const struct {
        const char *path;
        void (*fn)(void);
    } tests[] = {
        {"/interop/storage-daemon/configuration-tells-capacity",
         test_configuration_tells_capacity},
        {"/interop/storage-daemon/zeroes-are-written", test_zeroes_are_written},
        {"/interop/storage-daemon/queues-stop-and-start-again",
         test_queues_stop_and_start_again},
        {"/interop/storage-daemon/session-connects-again",
         test_session_connects_again},
    };
    g_autofree char *found = g_find_program_in_path(PROGRAM);

    g_test_init(&argc, &argv, NULL);
    for (size_t i = 0; found && i < G_N_ELEMENTS(rings); i++) {
        g_test_add_data_func(rings[i].path, &rings[i].features,
                             test_random_requests_agree);
    }
    for (size_t i = 0; i < G_N_ELEMENTS(tests); i++) {
        g_test_add_func(tests[i].path, found ? tests[i].fn : skip);
    }
    return g_test_run();
}
