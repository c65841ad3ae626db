/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Owns the tests of contrib/vhost-user-rng/quota. */
#include "contrib/vhost-user-rng/quota.h"

#include <glib.h>

static void test_unlimited_never_ends(void)
{
    Quota quota = {.max_bytes = QUOTA_UNLIMITED, .period_ms = 10};

    quota_take(&quota, UINT64_MAX - 1, 100);
    quota_take(&quota, UINT64_MAX - 1, 100);
    g_assert_cmpuint(quota_left(&quota, 100), ==, QUOTA_UNLIMITED);
}

static void test_period_begins_with_first_use(void)
{
    Quota quota = {.max_bytes = 100, .period_ms = 10};

    g_assert_cmpuint(quota_left(&quota, 1000), ==, 100);
    quota_take(&quota, 1, 1007);
    g_assert_cmpint(quota_end_ms(&quota), ==, 1017);
}

static void test_use_adds_up_within_a_period(void)
{
    Quota quota = {.max_bytes = 100, .period_ms = 10};

    quota_take(&quota, 30, 1000);
    g_assert_cmpuint(quota_left(&quota, 1000), ==, 70);
    quota_take(&quota, 70, 1009);
    g_assert_cmpuint(quota_left(&quota, 1009), ==, 0);
    g_assert_cmpint(quota_end_ms(&quota), ==, 1010);
}

static void test_new_period_is_whole_and_carries_nothing(void)
{
    Quota quota = {.max_bytes = 100, .period_ms = 10};

    quota_take(&quota, 10, 1000);
    g_assert_cmpuint(quota_left(&quota, 1010), ==, 100);
    quota_take(&quota, 100, 1050);
    g_assert_cmpuint(quota_left(&quota, 1059), ==, 0);
    g_assert_cmpint(quota_end_ms(&quota), ==, 1060);
    g_assert_cmpuint(quota_left(&quota, 1060), ==, 100);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/rng/quota/unlimited-never-ends",
                    test_unlimited_never_ends);
    g_test_add_func("/rng/quota/period-begins-with-first-use",
                    test_period_begins_with_first_use);
    g_test_add_func("/rng/quota/use-adds-up-within-a-period",
                    test_use_adds_up_within_a_period);
    g_test_add_func("/rng/quota/new-period-is-whole-and-carries-nothing",
                    test_new_period_is_whole_and_carries_nothing);
    return g_test_run();
}
