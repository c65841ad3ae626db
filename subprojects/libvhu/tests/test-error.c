/* SPDX-License-Identifier: BSD-3-Clause */
/* Owns the tests of vhu/error. */
#include "vhu/error.h"

#include <errno.h>
#include <glib.h>
#include <string.h>

static void test_set_records_and_returns_negative(void)
{
    VhuError err = {0};

    g_assert_cmpint(vhu_error_set(&err, EINVAL, 5, 12, "%d bytes", 12), ==,
                    -EINVAL);
    g_assert_cmpint(err.code, ==, EINVAL);
    g_assert_cmpuint(err.request, ==, 5);
    g_assert_cmpuint(err.value, ==, 12);
    g_assert_cmpstr(err.text, ==, "12 bytes");
    g_assert_cmpint(vhu_error_set(NULL, EIO, 0, 0, "x"), ==, -EIO);
}

static void test_prefix_keeps_text_and_bounds(void)
{
    VhuError err = {0};
    char huge[2 * VHU_ERROR_TEXT_BYTES];

    vhu_error_set(&err, EINVAL, 0, 0, "bad index");
    vhu_error_prefix(&err, "queue %u: ", 3u);
    g_assert_cmpstr(err.text, ==, "queue 3: bad index");

    memset(huge, 'a', sizeof(huge) - 1);
    huge[sizeof(huge) - 1] = '\0';
    vhu_error_prefix(&err, "%s", huge);
    g_assert_cmpuint(strlen(err.text), ==, VHU_ERROR_TEXT_BYTES - 1);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/error/set-records-and-returns-negative",
                    test_set_records_and_returns_negative);
    g_test_add_func("/error/prefix-keeps-text-and-bounds",
                    test_prefix_keeps_text_and_bounds);
    return g_test_run();
}
