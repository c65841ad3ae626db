/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Owns the shapes in which a daemon's tables are printed. Decides nothing:
 * every word comes from the rows, but for headings and what is true of all
 * daemons (exit status).
 */
#include "contrib/daemon/manual.h"

#include <string.h>

#define HELP_COLUMNS 80
#define HELP_INDENT  26

static const char exit_status[] =
    "0 after SIGTERM, SIGINT or SIGHUP, and when the one connection asked for "
    "has ended; 1 if something cannot be had (a file, a socket) or the one "
    "connection ended by an error; 2 for a wrong command line.";

/* "help (limits). Details": what is said about an option in a manual. */
static char *row_sentences(const OptionRow *row)
{
    g_autofree char *limits = option_limits_text(row);
    char *text = g_strdup_printf("%s%s%s%s.%s%s", row->help, limits ? " (" : "",
                                 limits ? limits : "", limits ? ")" : "",
                                 row->details ? " " : "",
                                 row->details ? row->details : "");

    text[0] = g_ascii_toupper(text[0]);
    return text;
}

/* ---- --help ---- */

/* Append words, broken at HELP_COLUMNS; continuation lines are indented. */
static void append_wrapped(GString *out, const char *text, int indent,
                           int column)
{
    g_auto(GStrv) words = g_strsplit(text, " ", -1);

    for (char **word = words; *word; word++) {
        const int len = (int)g_utf8_strlen(*word, -1);

        if (column + 1 + len > HELP_COLUMNS - 1 && column > indent) {
            g_string_append_printf(out, "\n%*s", indent, "");
            column = indent;
        } else if (word != words) {
            g_string_append_c(out, ' ');
            column++;
        }
        g_string_append(out, *word);
        column += len;
    }
    g_string_append_c(out, '\n');
}

static void append_help_row(GString *out, const OptionRow *row)
{
    g_autofree char *limits = option_limits_text(row);
    g_autofree char *text = limits
                                ? g_strdup_printf("%s (%s)", row->help, limits)
                                : g_strdup(row->help);
    g_autofree char *letter =
        row->letter ? g_strdup_printf("-%c, ", row->letter) : g_strdup("");
    g_autofree char *name = g_strdup_printf(
        "  %4s--%s%s%s", letter, row->name, row->placeholder ? "=" : "",
        row->placeholder ? row->placeholder : "");
    int column = (int)strlen(name);

    g_string_append(out, name);
    if (column + 2 > HELP_INDENT) {
        g_string_append_c(out, '\n');
        column = 0;
    }
    g_string_append_printf(out, "%*s", HELP_INDENT - column, "");
    append_wrapped(out, text, HELP_INDENT, HELP_INDENT);
}

static void append_help_rows(GString *out, const char *title,
                             const OptionRow *rows)
{
    g_string_append_printf(out, "\n%s:\n", title);
    for (; rows->name; rows++) {
        if (!rows->hidden) {
            append_help_row(out, rows);
        }
    }
}

char *manual_help(const DaemonDevice *device, const OptionRow *common)
{
    g_autofree char *summary = g_strdup(device->summary);
    GString *out = g_string_new(NULL);

    summary[0] = g_ascii_toupper(summary[0]);
    g_string_append_printf(out, "Usage: %s [OPTION]...\n%s.\n", device->name,
                           summary);
    if (device->options->name) {
        append_help_rows(out, "Options of this device", device->options);
    }
    append_help_rows(out, "Options of every daemon", common);
    g_string_append_printf(out,
                           "\nNumbers take the suffixes k, M, G and T. "
                           "Manual: man %s\n",
                           device->name);
    return g_string_free(out, FALSE);
}

/* ---- manual page ---- */

static void append_roff(GString *out, const char *text)
{
    for (bool at_start = true; *text; text++) {
        if (*text == '\\') {
            g_string_append(out, "\\e");
        } else if (*text == '-') {
            g_string_append(out, "\\-");
        } else if (at_start && (*text == '.' || *text == '\'')) {
            g_string_append_printf(out, "\\&%c", *text);
        } else {
            g_string_append_c(out, *text);
        }
        at_start = *text == '\n';
    }
}

static void append_roff_line(GString *out, const char *before, const char *text,
                             const char *after)
{
    g_string_append(out, before);
    append_roff(out, text);
    g_string_append(out, after);
}

static void append_man_row(GString *out, const OptionRow *row)
{
    g_autofree char *text = row_sentences(row);

    g_string_append(out, ".TP\n");
    if (row->letter) {
        g_string_append_printf(out, "\\fB\\-%c\\fR", row->letter);
        if (row->placeholder) {
            append_roff_line(out, " \\fI", row->placeholder, "\\fR");
        }
        g_string_append(out, ", ");
    }
    append_roff_line(out, "\\fB\\-\\-", row->name, "\\fR");
    if (row->placeholder) {
        append_roff_line(out, "=\\fI", row->placeholder, "\\fR");
    }
    append_roff_line(out, "\n", text, "\n");
}

static void append_man_rows(GString *out, const OptionRow *rows)
{
    for (; rows->name; rows++) {
        if (!rows->hidden) {
            append_man_row(out, rows);
        }
    }
}

static void append_man_paragraphs(GString *out, const char *text)
{
    g_auto(GStrv) paragraphs = g_strsplit(text, "\n\n", -1);

    for (char **paragraph = paragraphs; *paragraph; paragraph++) {
        append_roff_line(out, ".PP\n", *paragraph, "\n");
    }
}

static void append_man_examples(GString *out, const DaemonExample *example)
{
    if (!example || !example->text) {
        return;
    }
    g_string_append(out, ".SH EXAMPLES\n");
    for (; example->text; example++) {
        append_roff_line(out, ".PP\n", example->text, "\n.PP\n.RS 4\n.nf\n");
        append_roff_line(out, "", example->command, "\n.fi\n.RE\n");
    }
}

char *manual_man(const DaemonDevice *device, const OptionRow *common)
{
    g_autofree char *title = g_ascii_strup(device->name, -1);
    GString *out = g_string_new(NULL);

    append_roff_line(out, ".TH \"", title, "\" 1 \"\" ");
    append_roff_line(out, "\"qemu\\-vhost\\-user ", DAEMON_VERSION,
                     "\" \"vhost\\-user back ends\"\n.SH NAME\n");
    append_roff(out, device->name);
    append_roff_line(out, " \\- ", device->summary, "\n.SH SYNOPSIS\n");
    append_roff_line(out, ".B ", device->name, "\n.RI [ OPTION ]...\n");
    g_string_append(out, ".SH DESCRIPTION\n");
    append_man_paragraphs(out, device->description);
    g_string_append(out, ".SH OPTIONS\n");
    if (device->options->name) {
        g_string_append(out, ".SS Options of this device\n");
        append_man_rows(out, device->options);
    }
    g_string_append(out, ".SS Options of every daemon\n");
    append_man_rows(out, common);
    append_roff_line(out, ".SH \"EXIT STATUS\"\n", exit_status, "\n");
    append_man_examples(out, device->examples);
    return g_string_free(out, FALSE);
}

/* ---- the rest ---- */

/* A word of running text: the name of an option is literal. */
static void append_rst_word(GString *out, const char *word)
{
    const size_t len = strspn(word, "-abcdefghijklmnopqrstuvwxyz0123456789=");

    if (g_str_has_prefix(word, "--")) {
        g_string_append_printf(out, "``%.*s``%s", (int)len, word, word + len);
    } else {
        g_string_append(out, word);
    }
}

static char *rst_sentences(const OptionRow *row)
{
    g_autofree char *text = row_sentences(row);
    g_auto(GStrv) words = g_strsplit(text, " ", -1);
    GString *out = g_string_new(NULL);

    for (char **word = words; *word; word++) {
        if (word != words) {
            g_string_append_c(out, ' ');
        }
        append_rst_word(out, *word);
    }
    return g_string_free(out, FALSE);
}

char *manual_rst(const OptionRow *rows)
{
    GString *out = g_string_new(NULL);

    for (; rows->name; rows++) {
        g_autofree char *text = rst_sentences(rows);
        const char *argument = rows->placeholder ? rows->placeholder : "";

        if (rows->hidden) {
            continue;
        }
        g_string_append_printf(out, "``--%s%s%s``", rows->name,
                               *argument ? "=" : "", argument);
        if (rows->letter) {
            g_string_append_printf(out, ", ``-%c%s%s``", rows->letter,
                                   *argument ? " " : "", argument);
        }
        g_string_append(out, "\n    ");
        append_wrapped(out, text, 4, 4);
        g_string_append_c(out, '\n');
    }
    return g_string_free(out, FALSE);
}

char *manual_capabilities(const DaemonDevice *device)
{
    GString *out = g_string_new(NULL);
    const char *const *feature = device->features;

    g_string_append_printf(out, "{\n  \"type\": \"%s\"", device->type);
    if (feature && *feature) {
        g_string_append(out, ",\n  \"features\": [");
        for (; *feature; feature++) {
            g_string_append_printf(out, "%s\n    \"%s\"",
                                   feature == device->features ? "" : ",",
                                   *feature);
        }
        g_string_append(out, "\n  ]");
    }
    g_string_append(out, "\n}\n");
    return g_string_free(out, FALSE);
}
