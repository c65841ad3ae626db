/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Owns the tests of what a back end asks of the front end: shared objects and
 * shared memory; and of a front end that answers wrong.
 */
#include "tests/script.h"
#include "tests/toy.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

/* What the front end hears and answers. */
typedef struct Front {
    unsigned adds, removes, lookups, maps, unmaps;
    VhuUuid uuid;
    VhuShmemMap map;
    ino_t inode;
    int result;
    int fd;
} Front;

static int on_add(void *opaque, const VhuUuid *uuid)
{
    Front *front = opaque;

    front->adds++;
    front->uuid = *uuid;
    return front->result;
}

static int on_remove(void *opaque, const VhuUuid *uuid)
{
    Front *front = opaque;

    (void)uuid;
    front->removes++;
    return front->result;
}

static int on_lookup(void *opaque, const VhuUuid *uuid, int *fd)
{
    Front *front = opaque;

    (void)uuid;
    front->lookups++;
    *fd = front->fd < 0 ? -1 : dup(front->fd);
    return front->result;
}

static int on_map(void *opaque, const VhuShmemMap *map, int fd)
{
    Front *front = opaque;
    struct stat status;

    g_assert_cmpint(fstat(fd, &status), ==, 0);
    front->maps++;
    front->map = *map;
    front->inode = status.st_ino;
    return front->result;
}

static int on_unmap(void *opaque, const VhuShmemMap *map)
{
    Front *front = opaque;

    front->unmaps++;
    front->map = *map;
    return front->result;
}

static const VhuFrontendOps ops_of_front = {
    .shared_object_add = on_add,
    .shared_object_remove = on_remove,
    .shared_object_lookup = on_lookup,
    .shmem_map = on_map,
    .shmem_unmap = on_unmap,
};

/* What the device was told. */
typedef struct Told {
    unsigned calls;
    int result;
    int fd;
} Told;

static void on_told(void *opaque, int result, int fd)
{
    Told *told = opaque;

    told->calls++;
    told->result = result;
    told->fd = fd;
}

static bool is_told(void *opaque)
{
    return ((Told *)opaque)->calls > 0;
}

typedef struct Fixture {
    Toy *toy;
    Rig *rig;
    Front front;
    VhuFrontendOps ops;
} Fixture;

static void set_up(Fixture *f, gconstpointer data)
{
    RigConfig config = {.ops = &f->ops};

    (void)data;
    f->front = (Front){.fd = -1};
    f->ops = ops_of_front;
    f->ops.opaque = &f->front;
    f->toy = toy_new(NULL);
    f->rig = toy_rig(f->toy, &config);
}

static void tear_down(Fixture *f, gconstpointer data)
{
    (void)data;
    rig_free(f->rig);
    toy_free(f->toy);
}

/* ---- shared objects ---- */

static void test_object_is_added_and_removed(Fixture *f, gconstpointer data)
{
    Told told = {0};

    (void)data;
    g_assert_cmpint(
        vhu_connection_shared_object(toy_connection(f->toy),
                                     VHOST_USER_BACKEND_SHARED_OBJECT_ADD,
                                     &toy_uuid, on_told, &told),
        ==, 0);
    toy_until(f->toy, is_told, &told);
    g_assert_cmpint(told.result, ==, 0);
    g_assert_cmpuint(f->front.adds, ==, 1);
    g_assert_cmpmem(&f->front.uuid, 16, &toy_uuid, 16);

    told = (Told){0};
    f->front.result = -EPERM;
    g_assert_cmpint(
        vhu_connection_shared_object(toy_connection(f->toy),
                                     VHOST_USER_BACKEND_SHARED_OBJECT_REMOVE,
                                     &toy_uuid, on_told, &told),
        ==, 0);
    toy_until(f->toy, is_told, &told);
    g_assert_cmpint(told.result, ==, -EREMOTEIO);
    g_assert_cmpuint(f->front.removes, ==, 1);
}

static void test_object_is_looked_up(Fixture *f, gconstpointer data)
{
    Told told = {0};

    (void)data;
    f->front.fd = memfd_create("found", MFD_CLOEXEC);
    vhu_connection_shared_object(toy_connection(f->toy),
                                 VHOST_USER_BACKEND_SHARED_OBJECT_LOOKUP,
                                 &toy_uuid, on_told, &told);
    toy_until(f->toy, is_told, &told);
    g_assert_cmpint(told.result, ==, 0);
    g_assert_cmpint(told.fd, >=, 0);
    g_assert_cmpint(lseek(told.fd, 0, SEEK_END), ==, 0);
    close(told.fd);
    close(f->front.fd);

    told = (Told){0};
    f->front.fd = -1;
    f->front.result = -ENOENT;
    vhu_connection_shared_object(toy_connection(f->toy),
                                 VHOST_USER_BACKEND_SHARED_OBJECT_LOOKUP,
                                 &toy_uuid, on_told, &told);
    toy_until(f->toy, is_told, &told);
    g_assert_cmpint(told.result, ==, -EREMOTEIO);
    g_assert_cmpint(told.fd, ==, -1);
}

/* The other way: the front end fetches what the device exports. */
static void test_object_of_the_device_is_fetched(Fixture *f, gconstpointer data)
{
    const VhuUuid other = {.bytes = {9}};
    char text[64] = "";
    VhuWait wait;
    int rc, fd;

    (void)data;
    rc = vhu_frontend_get_shared_object(rig_session(f->rig), &toy_uuid,
                                        vhu_wait_then(&wait), &wait.err);
    g_assert_cmpint(rig_op(f->rig, rc, &wait), ==, 0);
    fd = vhu_message_take_fd(&wait.reply, 0);
    g_assert_cmpint(pread(fd, text, sizeof(text), 0), ==, strlen(TOY_OBJECT));
    g_assert_cmpstr(text, ==, TOY_OBJECT);
    close(fd);
    rc = vhu_frontend_get_shared_object(rig_session(f->rig), &other,
                                        vhu_wait_then(&wait), &wait.err);
    g_assert_cmpint(rig_op(f->rig, rc, &wait), ==, -EREMOTEIO);
}

/* ---- shared memory ---- */

static void test_shmem_config(Fixture *f, gconstpointer data)
{
    const VhuMessage ask = {.request = VHOST_USER_GET_SHMEM_CONFIG};
    VhuMessage reply;

    (void)data;
    g_assert_cmpint(rig_call(f->rig, &ask, &reply), ==, 0);
    g_assert_cmpint(reply.kind, ==, VHU_PAYLOAD_SHMEM_CONFIG);
    g_assert_cmpuint(reply.payload.shmem_config.num_regions, ==, 2);
    g_assert_cmphex(reply.payload.shmem_config.sizes[0], ==, 0x10000);
    g_assert_cmphex(reply.payload.shmem_config.sizes[1], ==, 0);
    g_assert_cmphex(reply.payload.shmem_config.sizes[3], ==, 0x100000);
}

static void test_shmem_is_mapped_and_unmapped(Fixture *f, gconstpointer data)
{
    const VhuShmemMap map = {.shmid = 3,
                             .fd_offset = 0x1000,
                             .shm_offset = 0x2000,
                             .size = 0x3000,
                             .flags = 1};
    int file = memfd_create("window", MFD_CLOEXEC);
    struct stat status;
    Told told = {0};

    (void)data;
    g_assert_cmpint(vhu_connection_shmem(toy_connection(f->toy), &map, file,
                                         on_told, &told),
                    ==, 0);
    toy_until(f->toy, is_told, &told);
    g_assert_cmpint(told.result, ==, 0);
    g_assert_cmpint(fstat(file, &status), ==, 0);
    g_assert_cmpuint(f->front.inode, ==, status.st_ino);
    g_assert_cmpuint(f->front.map.shmid, ==, 3);
    g_assert_cmphex(f->front.map.fd_offset, ==, 0x1000);
    g_assert_cmphex(f->front.map.shm_offset, ==, 0x2000);
    g_assert_cmphex(f->front.map.size, ==, 0x3000);
    g_assert_cmphex(f->front.map.flags, ==, 1);

    told = (Told){0};
    f->front.result = -EINVAL;
    vhu_connection_shmem(toy_connection(f->toy), &map, -1, on_told, &told);
    toy_until(f->toy, is_told, &told);
    g_assert_cmpuint(f->front.unmaps, ==, 1);
    g_assert_cmpint(told.result, ==, -EREMOTEIO);
    close(file);
}

/* ---- a front end that answers wrong ---- */

/* A front end played by the test, as far as its back-end channel. */
typedef struct Played {
    Toy *toy;
    Script front;
    Script channel;
} Played;

static void turn_toy(void *opaque)
{
    vhu_loop_dispatch(toy_loop(opaque), 5);
}

static void play(Played *p)
{
    int mine, theirs;

    p->toy = toy_new(NULL);
    script_open(&p->front, toy_connect(p->toy), turn_toy, p->toy);
    mine = rig_socketpair(&theirs);
    script_open(&p->channel, mine, turn_toy, p->toy);
    /* REPLY_ACK, BACKEND_REQ, BACKEND_SEND_FD, SHARED_OBJECT */
    script_send(&p->front, "10000000 01000000 08000000 28040400 00000000");
    script_send_fds(&p->front, "15000000 09000000 00000000", &theirs, 1);
    script_expect(&p->front, "15000000 05000000 08000000 00000000 00000000");
    close(theirs);
}

static void end(Played *p)
{
    script_close(&p->front);
    script_close(&p->channel);
    toy_free(p->toy);
}

#define LOOKUP "08000000 01000000 10000000 544f5901 00000000 00000000 00000000"

static const struct {
    const char *name;
    const char *bytes;
} wrong_answers[] = {
    {"another-number", "06000000 05000000 08000000 00000000 00000000"},
    {"not-asked-twice", "08000000 05000000 08000000 01000000 00000000"
                        "08000000 05000000 08000000 01000000 00000000"},
    {"no-reply-flag", "08000000 01000000 08000000 01000000 00000000"},
    {"too-short", "08000000 05000000 04000000 00000000"},
    {"unknown", "0b000000 05000000 08000000 00000000 00000000"},
};

static void test_wrong_answer_ends_the_connection(gconstpointer data)
{
    const char *bytes = data;
    Told told = {0};
    Played p;

    play(&p);
    vhu_connection_shared_object(toy_connection(p.toy),
                                 VHOST_USER_BACKEND_SHARED_OBJECT_LOOKUP,
                                 &toy_uuid, on_told, &told);
    script_expect(&p.channel, LOOKUP);
    script_send(&p.channel, bytes);
    toy_wait_ended(p.toy, 1);
    g_assert_cmpint(toy_last_end(p.toy)->code, ==, EPROTO);
    g_assert_cmpuint(told.calls, ==, 1);
    g_assert_cmpint(told.result, <, 0);
    script_expect_end(&p.front);
    end(&p);
}

/* Whoever asked is told, and the connection lives. */
static void test_closed_channel_ends_what_was_asked(void)
{
    Told told = {0};
    Played p;

    play(&p);
    vhu_connection_shared_object(toy_connection(p.toy),
                                 VHOST_USER_BACKEND_SHARED_OBJECT_LOOKUP,
                                 &toy_uuid, on_told, &told);
    script_expect(&p.channel, LOOKUP);
    script_close(&p.channel);
    toy_until(p.toy, is_told, &told);
    g_assert_cmpint(told.result, ==, -ECONNRESET);
    g_assert_cmpint(
        vhu_connection_shared_object(toy_connection(p.toy),
                                     VHOST_USER_BACKEND_SHARED_OBJECT_LOOKUP,
                                     &toy_uuid, on_told, &told),
        ==, -ENOTSUP);
    script_send(&p.front, "01000000 01000000 00000000");
    g_free(script_receive(&p.front, 20));
    g_assert_cmpuint(toy_num_ended(p.toy), ==, 0);
    end(&p);
}

/* A front end that reads what it is asked and never answers is given up
 * before what is remembered for it fills memory. */
static void test_silent_front_end_is_given_up(void)
{
    Told told = {0};
    unsigned asked = 0;
    int ret = 0;
    Played p;

    play(&p);
    while (ret == 0) {
        ret = vhu_connection_shared_object(
            toy_connection(p.toy), VHOST_USER_BACKEND_SHARED_OBJECT_LOOKUP,
            &toy_uuid, on_told, &told);
        if (ret == 0) {
            script_expect(&p.channel, LOOKUP);
            asked++;
        }
        g_assert_cmpuint(asked, <, 100000);
    }
    g_assert_cmpint(ret, ==, -EPIPE);
    g_assert_cmpuint(asked, ==, 4096);
    toy_wait_ended(p.toy, 1);
    g_assert_cmpint(toy_last_end(p.toy)->code, ==, ENOBUFS);
    g_assert_cmpuint(told.calls, ==, asked);
    g_assert_cmpint(told.result, ==, -ECONNRESET);
    end(&p);
}

static void test_object_needs_its_feature(void)
{
    Toy *toy = toy_new(NULL);
    Rig *rig = toy_rig(toy, NULL);

    g_assert_cmpint(
        vhu_connection_shared_object(toy_connection(toy),
                                     VHOST_USER_BACKEND_SHARED_OBJECT_ADD,
                                     &toy_uuid, NULL, NULL),
        ==, -ENOTSUP);
    rig_free(rig);
    toy_free(toy);
}

#define PATH           "/backend/channel/"
#define TEST(name, fn) g_test_add_func(PATH name, fn)
#define WITH_FRONT(name, fn)                                                   \
    g_test_add(PATH name, Fixture, NULL, set_up, fn, tear_down)

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    WITH_FRONT("object/is-added-and-removed", test_object_is_added_and_removed);
    WITH_FRONT("object/is-looked-up", test_object_is_looked_up);
    WITH_FRONT("object/of-the-device-is-fetched",
               test_object_of_the_device_is_fetched);
    TEST("object/needs-its-feature", test_object_needs_its_feature);
    WITH_FRONT("shmem/config", test_shmem_config);
    WITH_FRONT("shmem/is-mapped-and-unmapped",
               test_shmem_is_mapped_and_unmapped);
    for (unsigned i = 0; i < G_N_ELEMENTS(wrong_answers); i++) {
        g_autofree char *path =
            g_strdup_printf(PATH "wrong-answer/%s", wrong_answers[i].name);

        g_test_add_data_func(path, wrong_answers[i].bytes,
                             test_wrong_answer_ends_the_connection);
    }
    TEST("silent-front-end-is-given-up", test_silent_front_end_is_given_up);
    TEST("closed-channel-ends-what-was-asked",
         test_closed_channel_ends_what_was_asked);
    return g_test_run();
}
