/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Owns the tests of contrib/daemon/log: what is written to standard error. */
#include "contrib/daemon/log.h"

#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

static int memory = -1;
static int real_stderr = -1;

/* From here on standard error is kept. */
static void capture(LogLevel level)
{
    memory = memfd_create("stderr", MFD_CLOEXEC);
    real_stderr = fcntl(STDERR_FILENO, F_DUPFD_CLOEXEC, 3);
    g_assert_cmpint(dup2(memory, STDERR_FILENO), ==, STDERR_FILENO);
    log_init("prog", level);
}

/* What was written since capture(). */
static char *captured(void)
{
    const off_t size = lseek(memory, 0, SEEK_END);
    char *text = g_malloc0((gsize)size + 1);

    dup2(real_stderr, STDERR_FILENO);
    close(real_stderr);
    g_assert_cmpint(pread(memory, text, (gsize)size, 0), ==, size);
    close(memory);
    return text;
}

static unsigned count(const char *text, const char *word)
{
    unsigned num = 0;

    for (text = strstr(text, word); text; text = strstr(text + 1, word)) {
        num++;
    }
    return num;
}

static void test_line_names_program_and_level(void)
{
    g_autofree char *text = NULL;

    capture(LOG_LEVEL_TRACE);
    log_line(LOG_LEVEL_ERROR, "a %d", 1);
    log_line(LOG_LEVEL_WARNING, "b");
    log_line(LOG_LEVEL_INFO, "connection 1: c");
    log_line(LOG_LEVEL_DEBUG, "d");
    log_line(LOG_LEVEL_TRACE, "e");
    text = captured();
    g_assert_cmpstr(text, ==,
                    "prog: error: a 1\n"
                    "prog: warning: b\n"
                    "prog: connection 1: c\n"
                    "prog: debug: d\n"
                    "prog: trace: e\n");
}

static void test_higher_levels_are_silent(void)
{
    g_autofree char *text = NULL;

    capture(LOG_LEVEL_WARNING);
    log_line(LOG_LEVEL_INFO, "no");
    log_line(LOG_LEVEL_TRACE, "no");
    log_line(LOG_LEVEL_WARNING, "yes");
    text = captured();
    g_assert_cmpstr(text, ==, "prog: warning: yes\n");
}

static void test_control_characters_are_masked(void)
{
    g_autofree char *text = NULL;

    capture(LOG_LEVEL_INFO);
    log_line(LOG_LEVEL_INFO, "%s", "a\nb\x1b[2J\x7f");
    text = captured();
    g_assert_cmpstr(text, ==, "prog: a?b?[2J?\n");
}

static void test_long_line_is_cut_and_ended(void)
{
    g_autofree char *huge = g_strnfill(10000, 'x');
    g_autofree char *text = NULL;

    capture(LOG_LEVEL_INFO);
    log_line(LOG_LEVEL_INFO, "%s", huge);
    text = captured();
    g_assert_cmpuint(strlen(text), ==, 2047);
    g_assert_true(g_str_has_suffix(text, "x\n"));
}

static void test_flood_is_counted(void)
{
    g_autofree char *text = NULL;

    capture(LOG_LEVEL_INFO);
    for (unsigned i = 0; i < LOG_BURST + 100; i++) {
        log_line(LOG_LEVEL_WARNING, "connection %u: is odd", i);
    }
    log_line(LOG_LEVEL_WARNING, "something else");
    log_flush();
    text = captured();
    g_assert_cmpuint(count(text, "is odd"), ==, LOG_BURST + 1);
    g_assert_cmpuint(
        count(text,
              "prog: warning: 100 more like this: connection 131: is odd\n"),
        ==, 1);
    g_assert_cmpuint(count(text, "something else"), ==, 1);
}

static void test_nothing_held_back_is_not_counted(void)
{
    g_autofree char *text = NULL;

    capture(LOG_LEVEL_INFO);
    for (unsigned i = 0; i < LOG_BURST; i++) {
        log_line(LOG_LEVEL_INFO, "line %u", i);
    }
    log_flush();
    text = captured();
    g_assert_cmpuint(count(text, "\n"), ==, LOG_BURST);
}

static void test_many_shapes_stay_complete(void)
{
    g_autofree char *text = NULL;

    capture(LOG_LEVEL_INFO);
    for (unsigned i = 0; i < 1000; i++) {
        log_line(LOG_LEVEL_INFO, "%c%c", 'a' + i % 26, 'a' + i / 26 % 26);
    }
    log_flush();
    text = captured();
    g_assert_cmpuint(count(text, "\n"), ==, 1000);
}

static void test_debug_is_never_held_back(void)
{
    g_autofree char *text = NULL;

    capture(LOG_LEVEL_DEBUG);
    for (unsigned i = 0; i < 1000; i++) {
        log_line(LOG_LEVEL_DEBUG, "step %u", i);
    }
    text = captured();
    g_assert_cmpuint(count(text, "\n"), ==, 1000);
}

static void test_full_pipe_stops_nobody(void)
{
    char *line = g_strnfill(999, 'x');
    g_autofree char *text = g_malloc0(1 << 20);
    gsize got = 0;
    int pair[2];
    int real = fcntl(STDERR_FILENO, F_DUPFD_CLOEXEC, 3);

    g_assert_cmpint(pipe2(pair, O_CLOEXEC), ==, 0);
    dup2(pair[1], STDERR_FILENO);
    log_init("prog", LOG_LEVEL_DEBUG);
    for (unsigned i = 0; i < 1000; i++) {
        log_line(LOG_LEVEL_DEBUG, "%s", line);
    }
    g_assert_cmpint(fcntl(pair[0], F_SETFL, O_NONBLOCK), ==, 0);
    for (ssize_t part; (part = read(pair[0], text + got, 1000)) > 0;) {
        got += (gsize)part;
    }
    log_line(LOG_LEVEL_DEBUG, "after");
    dup2(real, STDERR_FILENO);
    close(real);
    g_assert_cmpint(read(pair[0], text, 1000), >, 0);
    g_assert_true(g_str_has_prefix(text, "prog: warning: "));
    g_assert_cmpuint(count(text, " lines could not be written\n"
                                 "prog: debug: after\n"),
                     ==, 1);
    close(pair[0]);
    close(pair[1]);
    g_free(line);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/log/line-names-program-and-level",
                    test_line_names_program_and_level);
    g_test_add_func("/log/higher-levels-are-silent",
                    test_higher_levels_are_silent);
    g_test_add_func("/log/control-characters-are-masked",
                    test_control_characters_are_masked);
    g_test_add_func("/log/long-line-is-cut-and-ended",
                    test_long_line_is_cut_and_ended);
    g_test_add_func("/log/flood-is-counted", test_flood_is_counted);
    g_test_add_func("/log/nothing-held-back-is-not-counted",
                    test_nothing_held_back_is_not_counted);
    g_test_add_func("/log/many-shapes-stay-complete",
                    test_many_shapes_stay_complete);
    g_test_add_func("/log/debug-is-never-held-back",
                    test_debug_is_never_held_back);
    g_test_add_func("/log/full-pipe-stops-nobody", test_full_pipe_stops_nobody);
    return g_test_run();
}
