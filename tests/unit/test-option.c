/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Owns the tests of contrib/daemon/option: what a command line becomes, and
 * what is said about a wrong one. */
#include "contrib/daemon/option.h"

#include <string.h>

typedef struct Values {
    bool loud;
    char *file;
    char *name;
    uint64_t size;
    uint64_t limit;
    mode_t mode;
    int colour;
} Values;

enum { RED, GREEN };

static const char *const colours[] = {[RED] = "red", [GREEN] = "green", NULL};

static const OptionRow rows[] = {
    {
        .name = "loud",
        .letter = 'l',
        OPTION_FIELD(Values, loud),
        .help = "be loud",
    },
    {
        .name = "file",
        .letter = 'b',
        .required = true,
        OPTION_FIELD(Values, file),
        .placeholder = "PATH",
        .help = "the file",
    },
    {
        .name = "name",
        OPTION_FIELD(Values, name),
        .placeholder = "NAME",
        .help = "the name",
        .default_string = "nobody",
    },
    {
        .name = "size",
        OPTION_FIELD(Values, size),
        .placeholder = "BYTES",
        .help = "the size",
        .default_number = 64,
        .min = 2,
        .max = 1ULL << 40,
    },
    {
        .name = "limit",
        OPTION_FIELD(Values, limit),
        .placeholder = "N",
        .help = "the limit",
        .default_number = OPTION_UNSET,
        .min = 1,
    },
    {
        .name = "mode",
        OPTION_FIELD(Values, mode),
        .placeholder = "MODE",
        .help = "the mode",
        .default_number = 0640,
    },
    {
        .name = "colour",
        OPTION_FIELD(Values, colour),
        .placeholder = "COLOUR",
        .help = "the colour",
        .choices = colours,
        .default_number = GREEN,
    },
    {0},
};

static Values values;
static const OptionTable table = {.rows = rows, .values = &values};

/* Parse words after the program's name; the message of the error, or NULL. */
static char *parse(const char *const *words)
{
    g_autoptr(GError) error = NULL;
    char *argv[10] = {(char *)"prog"};
    int argc = 1;
    bool ok;

    while (words[argc - 1]) {
        argv[argc] = (char *)words[argc - 1];
        argc++;
    }
    option_clear(&table, 1);
    option_set_defaults(&table, 1);
    ok = option_parse(&table, 1, argc, argv, &error);
    g_assert_cmpint(ok, ==, error == NULL);
    return error ? g_strdup(error->message) : NULL;
}

#define PARSE(...) parse((const char *const[]){__VA_ARGS__, NULL})

static void assert_refused(const char *word, const char *message)
{
    g_autofree char *got = PARSE(word);

    g_assert_cmpstr(got, ==, message);
}

static void test_defaults_hold_without_words(void)
{
    g_assert_null(parse((const char *const[]){NULL}));
    g_assert_false(values.loud);
    g_assert_null(values.file);
    g_assert_cmpstr(values.name, ==, "nobody");
    g_assert_cmpuint(values.size, ==, 64);
    g_assert_cmpuint(values.limit, ==, OPTION_UNSET);
    g_assert_cmpuint(values.mode, ==, 0640);
    g_assert_cmpint(values.colour, ==, GREEN);
}

static void test_every_kind_is_parsed(void)
{
    g_assert_null(PARSE("--loud", "--file=/a b", "--name", "x", "--size=4096",
                        "--limit=7", "--mode=600", "--colour=red"));
    g_assert_true(values.loud);
    g_assert_cmpstr(values.file, ==, "/a b");
    g_assert_cmpstr(values.name, ==, "x");
    g_assert_cmpuint(values.size, ==, 4096);
    g_assert_cmpuint(values.limit, ==, 7);
    g_assert_cmpuint(values.mode, ==, 0600);
    g_assert_cmpint(values.colour, ==, RED);
}

static void test_letters_are_parsed(void)
{
    g_assert_null(PARSE("-l", "-b", "f"));
    g_assert_true(values.loud);
    g_assert_cmpstr(values.file, ==, "f");
}

static void test_bytes_of_a_path_are_kept(void)
{
    g_assert_null(PARSE("--file=/\xff\xfe"));
    g_assert_cmpstr(values.file, ==, "/\xff\xfe");
}

static void test_last_of_two_counts(void)
{
    g_assert_null(PARSE("--name=a", "--size=5", "--name=b", "--size=6"));
    g_assert_cmpstr(values.name, ==, "b");
    g_assert_cmpuint(values.size, ==, 6);
}

static void test_numbers_take_hex_and_suffixes(void)
{
    static const struct {
        const char *word;
        uint64_t value;
    } cases[] = {
        {"--size=0x10", 16},          {"--size=1k", 1024},
        {"--size=1K", 1024},          {"--size=3M", 3145728},
        {"--size=2g", 2147483648ULL}, {"--size=1T", 1ULL << 40},
        {"--size=010", 10},           {"--limit=18446744073709551614", -2ULL},
    };

    for (gsize i = 0; i < G_N_ELEMENTS(cases); i++) {
        g_assert_null(PARSE(cases[i].word));
        g_assert_cmpuint(g_str_has_prefix(cases[i].word, "--size")
                             ? values.size
                             : values.limit,
                         ==, cases[i].value);
    }
}

static void test_wrong_numbers_name_option_and_value(void)
{
    static const char *const cases[][2] = {
        {"--size=", "--size=: not a number"},
        {"--size=abc", "--size=abc: not a number"},
        {"--size=-3", "--size=-3: not a number"},
        {"--size=+3", "--size=+3: not a number"},
        {"--size= 3", "--size= 3: not a number"},
        {"--size=0x", "--size=0x: not a number"},
        {"--size=3q", "--size=3q: not a number (suffixes are k, M, G and T)"},
        {"--size=3kB", "--size=3kB: not a number (suffixes are k, M, G and T)"},
        {"--size=1", "--size=1: must be 2 to 1099511627776"},
        {"--size=2T", "--size=2T: must be 2 to 1099511627776"},
        {"--limit=0", "--limit=0: must be at least 1"},
        {"--limit=18446744073709551616",
         "--limit=18446744073709551616: too large"},
        {"--limit=16777216T", "--limit=16777216T: too large"},
    };

    for (gsize i = 0; i < G_N_ELEMENTS(cases); i++) {
        assert_refused(cases[i][0], cases[i][1]);
    }
}

static void test_wrong_modes_are_refused(void)
{
    assert_refused("--mode=", "--mode=: not an octal number");
    assert_refused("--mode=68", "--mode=68: not an octal number");
    assert_refused("--mode=rw", "--mode=rw: not an octal number");
    assert_refused("--mode=1777", "--mode=1777: must be 0 to 0777");
}

static void test_wrong_choice_lists_the_right_ones(void)
{
    assert_refused("--colour=blue", "--colour=blue: must be one of red, green");
}

static void test_empty_string_is_refused(void)
{
    assert_refused("--file=", "--file=: must not be empty");
}

static void test_value_for_a_flag_is_refused(void)
{
    assert_refused("--loud=no", "--loud=no: takes no value");
}

static void test_unknown_words_are_named(void)
{
    g_autofree char *unknown = PARSE("--quiet=1");
    g_autofree char *stray = PARSE("--loud", "disk.img");
    g_autofree char *missing = PARSE("--file");

    g_assert_nonnull(strstr(unknown, "--quiet"));
    g_assert_cmpstr(stray, ==, "'disk.img' is no option");
    g_assert_nonnull(strstr(missing, "--file"));
}

static void test_required_option_is_asked_for(void)
{
    g_autoptr(GError) error = NULL;

    g_assert_null(PARSE("--loud"));
    g_assert_false(option_check_required(&table, 1, &error));
    g_assert_cmpstr(error->message, ==, "--file=PATH: is required");
    g_assert_null(PARSE("--file=x"));
    g_assert_true(option_check_required(&table, 1, NULL));
}

static void test_limits_are_put_in_words(void)
{
    static const char *const texts[] = {
        NULL,
        NULL,
        "default: nobody",
        "2 to 1099511627776; default: 64",
        NULL,
        "default: 0640",
        "red, green; default: green",
    };

    for (gsize i = 0; i < G_N_ELEMENTS(texts); i++) {
        g_autofree char *text = option_limits_text(&rows[i]);

        g_assert_cmpstr(text, ==, texts[i]);
    }
}

int main(int argc, char **argv)
{
    int status;

    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/option/defaults-hold-without-words",
                    test_defaults_hold_without_words);
    g_test_add_func("/option/every-kind-is-parsed", test_every_kind_is_parsed);
    g_test_add_func("/option/letters-are-parsed", test_letters_are_parsed);
    g_test_add_func("/option/bytes-of-a-path-are-kept",
                    test_bytes_of_a_path_are_kept);
    g_test_add_func("/option/last-of-two-counts", test_last_of_two_counts);
    g_test_add_func("/option/numbers-take-hex-and-suffixes",
                    test_numbers_take_hex_and_suffixes);
    g_test_add_func("/option/wrong-numbers-name-option-and-value",
                    test_wrong_numbers_name_option_and_value);
    g_test_add_func("/option/wrong-modes-are-refused",
                    test_wrong_modes_are_refused);
    g_test_add_func("/option/wrong-choice-lists-the-right-ones",
                    test_wrong_choice_lists_the_right_ones);
    g_test_add_func("/option/empty-string-is-refused",
                    test_empty_string_is_refused);
    g_test_add_func("/option/value-for-a-flag-is-refused",
                    test_value_for_a_flag_is_refused);
    g_test_add_func("/option/unknown-words-are-named",
                    test_unknown_words_are_named);
    g_test_add_func("/option/required-option-is-asked-for",
                    test_required_option_is_asked_for);
    g_test_add_func("/option/limits-are-put-in-words",
                    test_limits_are_put_in_words);
    status = g_test_run();
    option_clear(&table, 1);
    return status;
}
