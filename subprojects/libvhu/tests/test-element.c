/* SPDX-License-Identifier: BSD-3-Clause */
/* Owns the tests of copying to and from an element's pieces. */
#include "vhu/ring.h"

#include <glib.h>
#include <string.h>

static char text[] = "abcdefghij";

/* "ab", nothing, "cdef", "g". */
static struct iovec pieces[] = {
    {text, 2},
    {text + 9, 0},
    {text + 2, 4},
    {text + 6, 1},
};

static void test_read(void)
{
    static const struct {
        uint64_t offset;
        size_t size;
        const char *expected;
    } rows[] = {
        {0, 7, "abcdefg"}, {0, 100, "abcdefg"}, {1, 2, "bc"},
        {2, 4, "cdef"},    {5, 2, "fg"},        {6, 9, "g"},
        {7, 1, ""},        {UINT64_MAX, 1, ""}, {0, 0, ""},
    };
    VhuElement element = {.out = pieces, .num_out = G_N_ELEMENTS(pieces)};

    for (unsigned i = 0; i < G_N_ELEMENTS(rows); i++) {
        char bytes[16] = "";

        g_assert_cmpuint(
            vhu_element_read(&element, rows[i].offset, bytes, rows[i].size), ==,
            strlen(rows[i].expected));
        g_assert_cmpstr(bytes, ==, rows[i].expected);
    }
}

static void test_write(void)
{
    char room[] = "..........";
    struct iovec in[] = {{room + 1, 2}, {room + 5, 3}};
    VhuElement element = {.in = in, .num_in = G_N_ELEMENTS(in)};

    g_assert_cmpuint(vhu_element_write(&element, 1, "123", 3), ==, 3);
    g_assert_cmpstr(room, ==, "..1..23...");
    g_assert_cmpuint(vhu_element_write(&element, 4, "xyz", 3), ==, 1);
    g_assert_cmpstr(room, ==, "..1..23x..");
    g_assert_cmpuint(vhu_element_write(&element, 5, "xyz", 3), ==, 0);
    g_assert_cmpstr(room, ==, "..1..23x..");
}

static void test_slice(void)
{
    static const struct {
        uint64_t offset;
        uint64_t size;
        const char *expected; /* pieces with bars between */
    } rows[] = {
        {0, 7, "ab|cdef|g"}, {0, UINT64_MAX, "ab|cdef|g"},
        {1, 1, "b"},         {1, 2, "b|c"},
        {3, 2, "de"},        {2, 5, "cdef|g"},
        {4, 0, ""},          {7, 1, ""},
    };
    struct iovec out[G_N_ELEMENTS(pieces)];

    for (unsigned i = 0; i < G_N_ELEMENTS(rows); i++) {
        g_autoptr(GString) got = g_string_new(NULL);
        uint32_t num = vhu_iov_slice(pieces, G_N_ELEMENTS(pieces),
                                     rows[i].offset, rows[i].size, out);

        for (uint32_t j = 0; j < num; j++) {
            g_string_append(got, j ? "|" : "");
            g_string_append_len(got, out[j].iov_base, (gssize)out[j].iov_len);
        }
        g_assert_cmpstr(got->str, ==, rows[i].expected);
    }
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/element/read", test_read);
    g_test_add_func("/element/write", test_write);
    g_test_add_func("/element/slice", test_slice);
    return g_test_run();
}
