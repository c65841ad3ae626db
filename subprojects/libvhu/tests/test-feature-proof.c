/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Owns the proof that what is offered is done: each protocol feature that our
 * back end or front end offers names a test, which succeeds, and fails when
 * the feature is masked on that side. A feature that names none fails here,
 * and so does one that names a test and is not offered.
 *
 * The argument is the folder of the test programs.
 */
#include "vhu/protocol.h"

#include <glib.h>
#include <string.h>
#include <sys/resource.h>

typedef enum Side {
    BACK_END,
    FRONT_END,
    SIDES,
} Side;

static const struct {
    const char *name;
    const char *variable; /* masks a bit, see toy.h and rig.h */
} sides[SIDES] = {
    [BACK_END] = {"back-end", "VHU_MASK_BACKEND"},
    [FRONT_END] = {"front-end", "VHU_MASK_FRONTEND"},
};

typedef struct Proof {
    const char *program;
    const char *test;
} Proof;

/* Both sides take part in each of these. */
#define BOTH_SIDES(bit, file, path)                                            \
    [VHOST_USER_PROTOCOL_F_##                                                  \
        bit] = {{"test-vhu-backend-" file, "/backend/" file "/" path},         \
                {"test-vhu-backend-" file, "/backend/" file "/" path}}

static const Proof proofs[VHOST_USER_PROTOCOL_F_COUNT][SIDES] = {
    BOTH_SIDES(MQ, "protocol", "number-of-queues"),
    BOTH_SIDES(LOG_SHMFD, "log", "split/data-is-marked"),
    BOTH_SIDES(RARP, "protocol", "rarp"),
    BOTH_SIDES(REPLY_ACK, "protocol", "features-not-offered-are-refused"),
    BOTH_SIDES(MTU, "protocol", "mtu"),
    BOTH_SIDES(BACKEND_REQ, "protocol", "config/change-is-told"),
    BOTH_SIDES(PAGEFAULT, "postcopy", "missing-page-is-fetched/by-table"),
    BOTH_SIDES(CONFIG, "protocol", "config/is-read"),
    BOTH_SIDES(BACKEND_SEND_FD, "channel", "shmem/is-mapped-and-unmapped"),
    BOTH_SIDES(INFLIGHT_SHMFD, "inflight", "heir-resubmits-in-order/split"),
    BOTH_SIDES(RESET_DEVICE, "protocol", "reset-device"),
    BOTH_SIDES(INBAND_NOTIFICATIONS, "inband", "kick-and-call"),
    BOTH_SIDES(CONFIGURE_MEM_SLOTS, "memory", "slots/509"),
    BOTH_SIDES(STATUS, "protocol", "status/is-kept-and-told"),
    BOTH_SIDES(SHARED_OBJECT, "channel", "object/is-looked-up"),
    BOTH_SIDES(DEVICE_STATE, "state", "moves-to-another-back-end"),
    BOTH_SIDES(GET_VRING_BASE_INFLIGHT, "inflight",
               "stop-suspends-requests/split"),
    BOTH_SIDES(GPA_ADDRESSES, "memory", "addresses/guest-physical"),
    BOTH_SIDES(SHMEM, "channel", "shmem/config"),
};

static const char *folder;

typedef enum Verdict {
    SUCCEEDED,
    FAILED,
    SKIPPED,
    NOT_FOUND, /* the program has no such test */
} Verdict;

/* A test that fails aborts: nobody wants its core. */
static void set_up_child(gpointer data)
{
    const struct rlimit none = {0};

    (void)data;
    setrlimit(RLIMIT_CORE, &none);
}

static Verdict run(const Proof *proof, const char *variable, unsigned bit)
{
    g_autofree char *program = g_build_filename(folder, proof->program, NULL);
    g_autofree char *value = g_strdup_printf("%u", bit);
    g_autofree char *line = g_strdup_printf("ok 1 %s\n", proof->test);
    g_autofree char *skip = g_strdup_printf("ok 1 %s # SKIP", proof->test);
    char *argv[] = {program, (char *)"--tap", (char *)"-p", (char *)proof->test,
                    NULL};
    g_auto(GStrv) environment = g_get_environ();
    g_autofree char *out = NULL;
    g_autofree char *err = NULL;
    g_autoptr(GError) error = NULL;
    int status = 0;

    if (variable) {
        environment = g_environ_setenv(environment, variable, value, TRUE);
    }
    if (!g_spawn_sync(NULL, argv, environment, G_SPAWN_DEFAULT, set_up_child,
                      NULL, &out, &err, &status, &error)) {
        g_error("%s", error->message);
    }
    if (!g_spawn_check_wait_status(status, NULL)) {
        g_test_message("%s", strlen(err) ? err : out);
        return FAILED;
    }
    if (strstr(out, skip)) {
        return SKIPPED;
    }
    return strstr(out, line) ? SUCCEEDED : NOT_FOUND;
}

typedef struct Case {
    unsigned bit;
    Side side;
} Case;

static void test_proof(gconstpointer data)
{
    const Case *test = data;
    const VhuFeatureSpec *spec = vhu_feature_spec(test->bit);
    const Proof *proof = &proofs[test->bit][test->side];
    const VhuSupport support =
        test->side == BACK_END ? spec->backend : spec->frontend;
    Verdict verdict;

    if (support == VHU_SUPPORT_CODEC_ONLY) {
        if (proof->test) {
            g_error("%s is not offered and names a test", spec->name);
        }
        return;
    }
    if (!proof->test) {
        g_error("%s is offered and names no test", spec->name);
    }
    verdict = run(proof, NULL, 0);
    if (verdict == SKIPPED) {
        g_test_skip("its test cannot run here");
        return;
    }
    if (verdict != SUCCEEDED) {
        g_error("%s: %s %s", spec->name, proof->test,
                verdict == FAILED ? "fails" : "does not exist");
    }
    if (run(proof, sides[test->side].variable, test->bit) != FAILED) {
        g_error("%s: %s succeeds without it", spec->name, proof->test);
    }
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    if (argc != 2) {
        g_error("usage: %s FOLDER", argv[0]);
    }
    folder = argv[1];
    for (unsigned bit = 0; bit < VHOST_USER_PROTOCOL_F_COUNT; bit++) {
        for (unsigned side = 0; side < SIDES; side++) {
            g_autofree char *path = g_strdup_printf(
                "/proof/%s/%s", sides[side].name, vhu_feature_spec(bit)->name);
            Case *test = g_new(Case, 1);

            *test = (Case){.bit = bit, .side = side};
            g_test_add_data_func_full(path, test, test_proof, g_free);
        }
    }
    return g_test_run();
}
