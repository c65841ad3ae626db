/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Owns the tests of vhu/protocol: that the tables are whole and consistent.
 * The bytes of each row are tested in test-message.c.
 */
#include "vhu/protocol.h"

#include <errno.h>
#include <glib.h>
#include <string.h>

#define BIT(name) VHU_PROTOCOL_BIT(name)

/* The numbers as the specification gives them, by first and last. */
static void test_numbers_are_the_specifications(void)
{
    g_assert_cmpuint(vhu_message_end(VHU_FROM_FRONTEND), ==, 45);
    g_assert_cmpuint(vhu_message_end(VHU_FROM_BACKEND), ==, 11);
    g_assert_cmpstr(vhu_message_spec(VHU_FROM_FRONTEND, 15)->name, ==,
                    "VHOST_USER_GET_PROTOCOL_FEATURES");
    g_assert_cmpstr(vhu_message_spec(VHU_FROM_FRONTEND, 44)->name, ==,
                    "VHOST_USER_GET_SHMEM_CONFIG");
    g_assert_cmpstr(vhu_message_spec(VHU_FROM_BACKEND, 10)->name, ==,
                    "VHOST_USER_BACKEND_SHMEM_UNMAP");
    g_assert_cmpstr(vhu_feature_spec(20)->name, ==,
                    "VHOST_USER_PROTOCOL_F_GET_VRING_BASE_INFLIGHT");
    g_assert_cmpstr(vhu_feature_spec(22)->name, ==,
                    "VHOST_USER_PROTOCOL_F_SHMEM");
}

static void test_unknown_numbers_have_no_row(void)
{
    g_assert_null(vhu_message_spec(VHU_FROM_FRONTEND, 0));
    g_assert_null(vhu_message_spec(VHU_FROM_FRONTEND, 45));
    g_assert_null(vhu_message_spec(VHU_FROM_FRONTEND, UINT32_MAX));
    g_assert_null(vhu_message_spec(VHU_FROM_BACKEND, 11));
    g_assert_null(vhu_message_spec(VHU_DIRECTIONS, 1));
    g_assert_cmpuint(vhu_message_end(VHU_DIRECTIONS), ==, 0);
    g_assert_null(vhu_feature_spec(23));
    g_assert_cmpstr(vhu_payload_name(VHU_PAYLOAD_KINDS), ==, "unknown");
}

static void check_row(VhuDirection direction, uint32_t request)
{
    const VhuMessageSpec *spec = vhu_message_spec(direction, request);
    const char *prefix =
        direction == VHU_FROM_BACKEND ? "VHOST_USER_BACKEND_" : "VHOST_USER_";

    g_assert_nonnull(spec);
    g_assert_true(g_str_has_prefix(spec->name, prefix));
    g_assert_nonnull(spec->section);
    g_assert_cmpuint(spec->request_min, <=, spec->request_max);
    g_assert_cmpuint(spec->request_max, <=, VHU_MAX_PAYLOAD_BYTES);
    g_assert_cmpuint(spec->reply_min, <=, spec->reply_max);
    g_assert_cmpuint(spec->reply_max, <=, VHU_MAX_PAYLOAD_BYTES);
    g_assert_cmpuint(spec->request_fds_min, <=, spec->request_fds_max);
    g_assert_cmpuint(spec->request_fds_max, <=, VHU_MAX_FDS);
    g_assert_cmpuint(spec->reply_fds_min, <=, spec->reply_fds_max);
    g_assert_cmpuint(spec->reply_fds_max, <=, 1);
    if (spec->gate != VHU_NO_GATE) {
        g_assert_nonnull(vhu_feature_spec((unsigned)spec->gate));
    }
}

static void test_every_row_is_whole(void)
{
    for (int direction = 0; direction < VHU_DIRECTIONS; direction++) {
        for (uint32_t i = 1; i < vhu_message_end(direction); i++) {
            check_row(direction, i);
        }
    }
    for (unsigned bit = 0; bit < VHOST_USER_PROTOCOL_F_COUNT; bit++) {
        const VhuFeatureSpec *spec = vhu_feature_spec(bit);

        g_assert_true(g_str_has_prefix(spec->name, "VHOST_USER_PROTOCOL_F_"));
        g_assert_nonnull(spec->summary);
        g_assert_cmphex(spec->needs & (1ULL << bit), ==, 0);
    }
    for (int kind = 0; kind < VHU_PAYLOAD_KINDS; kind++) {
        g_assert_cmpstr(vhu_payload_name(kind), !=, "unknown");
    }
}

static void test_names_are_unique(void)
{
    g_autoptr(GHashTable) seen = g_hash_table_new(g_str_hash, g_str_equal);

    for (int direction = 0; direction < VHU_DIRECTIONS; direction++) {
        for (uint32_t i = 1; i < vhu_message_end(direction); i++) {
            gpointer name = (gpointer)vhu_message_spec(direction, i)->name;

            g_assert_true(g_hash_table_add(seen, name));
        }
    }
    for (unsigned bit = 0; bit < VHOST_USER_PROTOCOL_F_COUNT; bit++) {
        g_assert_true(
            g_hash_table_add(seen, (gpointer)vhu_feature_spec(bit)->name));
    }
}

/* vhost-user, "Communication": what always gets its own reply. */
static void test_reply_rules_are_the_specifications(void)
{
    static const uint32_t answered[] = {1,  11, 15, 17, 22, 24, 26, 28,
                                        30, 31, 36, 40, 41, 42, 43, 44};
    unsigned at = 0;

    for (uint32_t i = 1; i < vhu_message_end(VHU_FROM_FRONTEND); i++) {
        VhuReplyRule rule = vhu_message_spec(VHU_FROM_FRONTEND, i)->reply_rule;
        VhuReplyRule want = VHU_REPLY_ON_ACK;

        if (at < G_N_ELEMENTS(answered) && answered[at] == i) {
            want = VHU_REPLY_ALWAYS;
            at++;
        } else if (i == 6) {
            want = VHU_REPLY_LOG_BASE;
        } else if (i == 5 || i == 37) {
            want = VHU_REPLY_POSTCOPY;
        }
        g_assert_cmpint(rule, ==, want);
    }
    for (uint32_t i = 1; i < vhu_message_end(VHU_FROM_BACKEND); i++) {
        g_assert_cmpint(vhu_message_spec(VHU_FROM_BACKEND, i)->reply_rule, ==,
                        i == 8 ? VHU_REPLY_ALWAYS : VHU_REPLY_ON_ACK);
    }
}

static void test_what_is_not_done_is_codec_only(void)
{
    const uint64_t never = BIT(CROSS_ENDIAN) | BIT(CRYPTO_SESSION) |
                           BIT(HOST_NOTIFIER) | BIT(XEN_MMAP);

    for (unsigned bit = 0; bit < VHOST_USER_PROTOCOL_F_COUNT; bit++) {
        const VhuFeatureSpec *spec = vhu_feature_spec(bit);
        bool want = never & (1ULL << bit);

        g_assert_cmpint(spec->backend == VHU_SUPPORT_CODEC_ONLY, ==, want);
        g_assert_cmpint(spec->frontend == VHU_SUPPORT_CODEC_ONLY, ==, want);
    }
}

static void test_a_feature_without_its_need_is_refused(void)
{
    const uint64_t inband = BIT(INBAND_NOTIFICATIONS);
    VhuError err = {0};

    g_assert_cmpint(vhu_features_check(0, &err), ==, 0);
    g_assert_cmpint(
        vhu_features_check(inband | BIT(BACKEND_REQ) | BIT(REPLY_ACK), &err),
        ==, 0);
    g_assert_cmpint(vhu_features_check(inband | BIT(BACKEND_REQ), &err), ==,
                    -EINVAL);
    g_assert_cmpstr(err.text, ==,
                    "protocol features 0x4020: "
                    "VHOST_USER_PROTOCOL_F_INBAND_NOTIFICATIONS needs "
                    "VHOST_USER_PROTOCOL_F_REPLY_ACK");
    g_assert_cmphex(err.value, ==, 0x4020);
    g_assert_cmpint(vhu_features_check(inband | BIT(REPLY_ACK), NULL), ==,
                    -EINVAL);
    g_assert_cmpint(vhu_features_check(BIT(GET_VRING_BASE_INFLIGHT), &err), ==,
                    -EINVAL);
    g_assert_nonnull(strstr(err.text, "VHOST_USER_PROTOCOL_F_INFLIGHT_SHMFD"));
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/protocol/numbers-are-the-specifications",
                    test_numbers_are_the_specifications);
    g_test_add_func("/protocol/unknown-numbers-have-no-row",
                    test_unknown_numbers_have_no_row);
    g_test_add_func("/protocol/every-row-is-whole", test_every_row_is_whole);
    g_test_add_func("/protocol/names-are-unique", test_names_are_unique);
    g_test_add_func("/protocol/reply-rules-are-the-specifications",
                    test_reply_rules_are_the_specifications);
    g_test_add_func("/protocol/what-is-not-done-is-codec-only",
                    test_what_is_not_done_is_codec_only);
    g_test_add_func("/protocol/a-feature-without-its-need-is-refused",
                    test_a_feature_without_its_need_is_refused);
    return g_test_run();
}
