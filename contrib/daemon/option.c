/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Owns the parsing of a command line into the fields that option tables name,
 * and what is said about a wrong one. Knows no option by name; the printing
 * of tables is in manual.c. GOption splits the command line into options and
 * values, everything about the values is decided here.
 */
#include "contrib/daemon/option.h"

#include <errno.h>
#include <string.h>

/* Permission bits a mode may have: no set-id, no sticky. */
#define MODE_BITS 0777u

typedef struct OptionParse {
    const OptionTable *tables;
    unsigned num;
} OptionParse;

G_DEFINE_QUARK(option - error - quark, option_error)

static void *field(const OptionTable *table, const OptionRow *row)
{
    return (char *)table->values + row->offset;
}

void option_set_error(GError **error, const char *name, const char *value,
                      const char *fmt, ...)
{
    g_autofree char *text = NULL;
    va_list args;

    va_start(args, fmt);
    text = g_strdup_vprintf(fmt, args);
    va_end(args);
    g_set_error(error, OPTION_ERROR, 0, "--%s%s%s: %s", name, value ? "=" : "",
                value ? value : "", text);
}

static void set_number(const OptionTable *table, const OptionRow *row,
                       uint64_t number)
{
    if (row->kind == OPTION_U64) {
        *(uint64_t *)field(table, row) = number;
    } else if (row->kind == OPTION_MODE) {
        *(mode_t *)field(table, row) = (mode_t)number;
    } else {
        *(int *)field(table, row) = (int)number;
    }
}

static void set_string(const OptionTable *table, const OptionRow *row,
                       const char *text)
{
    *(char **)field(table, row) = g_strdup(text);
}

void option_set_defaults(const OptionTable *tables, unsigned num)
{
    for (unsigned i = 0; i < num; i++) {
        for (const OptionRow *row = tables[i].rows; row->name; row++) {
            if (row->kind == OPTION_FLAG) {
                *(bool *)field(&tables[i], row) = false;
            } else if (row->kind == OPTION_STRING) {
                set_string(&tables[i], row, row->default_string);
            } else {
                set_number(&tables[i], row, row->default_number);
            }
        }
    }
}

void option_clear(const OptionTable *tables, unsigned num)
{
    for (unsigned i = 0; i < num; i++) {
        for (const OptionRow *row = tables[i].rows; row->name; row++) {
            if (row->kind == OPTION_STRING) {
                g_clear_pointer((char **)field(&tables[i], row), g_free);
            }
        }
    }
}

/* Bits to shift by for a suffix letter, -1 if it is none. */
static int suffix_shift(char letter)
{
    static const char letters[] = "KMGT";
    const char *found =
        letter ? strchr(letters, g_ascii_toupper(letter)) : NULL;

    return found ? 10 * (int)(found - letters + 1) : -1;
}

/* strtoull that takes no sign, no blanks and no octal by surprise. */
static bool scan_number(const char *text, uint64_t *number, const char **end)
{
    const bool hex = text[0] == '0' && (text[1] | 0x20) == 'x';
    const char *digits = hex ? text + 2 : text;
    char *after = NULL;

    if (!(hex ? g_ascii_isxdigit(*digits) : g_ascii_isdigit(*digits))) {
        return false;
    }
    errno = 0;
    *number = g_ascii_strtoull(digits, &after, hex ? 16 : 10);
    *end = after;
    return errno == 0;
}

static bool parse_u64(const OptionRow *row, const char *text, uint64_t *number,
                      GError **error)
{
    const char *end = NULL;
    int shift;

    if (!scan_number(text, number, &end)) {
        option_set_error(error, row->name, text,
                         end ? "too large" : "not a number");
        return false;
    }
    if (*end) {
        shift = suffix_shift(*end);
        if (shift < 0 || end[1]) {
            option_set_error(error, row->name, text,
                             "not a number (suffixes are k, M, G and T)");
            return false;
        }
        if (*number > UINT64_MAX >> shift) {
            option_set_error(error, row->name, text, "too large");
            return false;
        }
        *number <<= shift;
    }
    if (*number < row->min || (row->max && *number > row->max)) {
        if (row->max) {
            option_set_error(error, row->name, text,
                             "must be %" G_GUINT64_FORMAT
                             " to %" G_GUINT64_FORMAT,
                             row->min, row->max);
        } else {
            option_set_error(error, row->name, text,
                             "must be at least %" G_GUINT64_FORMAT, row->min);
        }
        return false;
    }
    return true;
}

static bool parse_mode(const OptionRow *row, const char *text, uint64_t *number,
                       GError **error)
{
    const size_t len = strlen(text);

    if (len == 0 || strspn(text, "01234567") != len) {
        option_set_error(error, row->name, text, "not an octal number");
        return false;
    }
    errno = 0;
    *number = g_ascii_strtoull(text, NULL, 8);
    if (errno != 0 || *number > MODE_BITS) {
        option_set_error(error, row->name, text, "must be 0 to 0777");
        return false;
    }
    return true;
}

static bool parse_choice(const OptionRow *row, const char *text,
                         uint64_t *number, GError **error)
{
    g_autofree char *all = NULL;

    for (unsigned i = 0; row->choices[i]; i++) {
        if (strcmp(row->choices[i], text) == 0) {
            *number = i;
            return true;
        }
    }
    all = g_strjoinv(", ", (char **)row->choices);
    option_set_error(error, row->name, text, "must be one of %s", all);
    return false;
}

static bool parse_value(const OptionTable *table, const OptionRow *row,
                        const char *text, GError **error)
{
    static bool (*const parse[])(const OptionRow *, const char *, uint64_t *,
                                 GError **) = {
        [OPTION_U64] = parse_u64,
        [OPTION_MODE] = parse_mode,
        [OPTION_CHOICE] = parse_choice,
    };
    uint64_t number;

    if (row->kind == OPTION_FLAG) {
        *(bool *)field(table, row) = true;
        return true;
    }
    if (row->kind == OPTION_STRING) {
        if (!*text) {
            option_set_error(error, row->name, text, "must not be empty");
            return false;
        }
        g_free(*(char **)field(table, row));
        set_string(table, row, text);
        return true;
    }
    if (!parse[row->kind](row, text, &number, error)) {
        return false;
    }
    set_number(table, row, number);
    return true;
}

/* What GOption calls the option: "--name" or "-n". */
static bool is_called(const OptionRow *row, const char *called)
{
    if (called[1] == '-') {
        return strcmp(row->name, called + 2) == 0;
    }
    return row->letter && row->letter == called[1];
}

static gboolean on_option(const char *called, const char *text, gpointer data,
                          GError **error)
{
    const OptionParse *parse = data;

    for (unsigned i = 0; i < parse->num; i++) {
        for (const OptionRow *row = parse->tables[i].rows; row->name; row++) {
            if (is_called(row, called)) {
                return parse_value(&parse->tables[i], row, text, error);
            }
        }
    }
    option_set_error(error, called + strspn(called, "-"), text, "unknown");
    return FALSE;
}

static GOptionEntry *make_entries(const OptionTable *tables, unsigned num)
{
    GArray *entries = g_array_new(TRUE, TRUE, sizeof(GOptionEntry));

    for (unsigned i = 0; i < num; i++) {
        for (const OptionRow *row = tables[i].rows; row->name; row++) {
            GOptionEntry entry = {
                .long_name = row->name,
                .short_name = row->letter,
                .flags = row->kind == OPTION_FLAG ? G_OPTION_FLAG_NO_ARG
                                                  : G_OPTION_FLAG_FILENAME,
                .arg = G_OPTION_ARG_CALLBACK,
                .arg_data = (gpointer)on_option,
            };

            g_array_append_val(entries, entry);
        }
    }
    return (GOptionEntry *)g_array_free(entries, FALSE);
}

/* The flag of these tables that a word "--flag=value" names, or NULL. */
static const OptionRow *flag_with_value(const OptionTable *table,
                                        const char *word)
{
    const char *equals = strchr(word, '=');

    if (!equals || !g_str_has_prefix(word, "--")) {
        return NULL;
    }
    for (const OptionRow *row = table->rows; row->name; row++) {
        const size_t len = strlen(row->name);

        if (row->kind == OPTION_FLAG && len == (size_t)(equals - word - 2) &&
            strncmp(row->name, word + 2, len) == 0) {
            return row;
        }
    }
    return NULL;
}

/* GOption drops the value of "--flag=value" without a word. */
static bool check_flags_bare(const OptionTable *tables, unsigned num,
                             char *const *argv, GError **error)
{
    for (char *const *word = argv; *word && strcmp(*word, "--") != 0; word++) {
        for (unsigned i = 0; i < num; i++) {
            const OptionRow *row = flag_with_value(&tables[i], *word);

            if (row) {
                option_set_error(error, row->name, strchr(*word, '=') + 1,
                                 "takes no value");
                return false;
            }
        }
    }
    return true;
}

bool option_parse(const OptionTable *tables, unsigned num, int argc,
                  char *const *argv, GError **error)
{
    OptionParse parse = {.tables = tables, .num = num};
    g_autofree GOptionEntry *entries = make_entries(tables, num);
    g_autoptr(GOptionContext) context = g_option_context_new(NULL);
    g_auto(GStrv) words = g_new0(char *, (gsize)argc + 1);
    GOptionGroup *group = g_option_group_new("main", "", "", &parse, NULL);

    for (int i = 0; i < argc; i++) {
        words[i] = g_strdup(argv[i]);
    }
    g_option_context_set_help_enabled(context, FALSE);
    g_option_group_add_entries(group, entries);
    g_option_context_set_main_group(context, group);
    if (!check_flags_bare(tables, num, words, error) ||
        !g_option_context_parse_strv(context, &words, error)) {
        return false;
    }
    for (char **word = words + 1; words[0] && *word; word++) {
        if (strcmp(*word, "--") != 0) {
            g_set_error(error, OPTION_ERROR, 0, "'%s' is no option", *word);
            return false;
        }
    }
    return true;
}

static bool is_given(const OptionTable *table, const OptionRow *row)
{
    switch (row->kind) {
    case OPTION_FLAG:
        return *(bool *)field(table, row);
    case OPTION_STRING:
        return *(char **)field(table, row) != NULL;
    case OPTION_U64:
        return *(uint64_t *)field(table, row) != OPTION_UNSET;
    case OPTION_MODE:
        return *(mode_t *)field(table, row) != (mode_t)OPTION_UNSET;
    case OPTION_CHOICE:
        return *(int *)field(table, row) != (int)OPTION_UNSET;
    }
    return false;
}

bool option_check_required(const OptionTable *tables, unsigned num,
                           GError **error)
{
    for (unsigned i = 0; i < num; i++) {
        for (const OptionRow *row = tables[i].rows; row->name; row++) {
            if (row->required && !is_given(&tables[i], row)) {
                option_set_error(error, row->name, row->placeholder,
                                 "is required");
                return false;
            }
        }
    }
    return true;
}

static char *default_text(const OptionRow *row)
{
    if (row->unset_text) {
        return g_strdup(row->unset_text);
    }
    if (row->kind == OPTION_STRING) {
        return g_strdup(row->default_string);
    }
    if (row->kind == OPTION_FLAG || row->default_number == OPTION_UNSET) {
        return NULL;
    }
    if (row->kind == OPTION_CHOICE) {
        return g_strdup(row->choices[row->default_number]);
    }
    return g_strdup_printf(row->kind == OPTION_MODE ? "%04" G_GINT64_MODIFIER
                                                      "o"
                                                    : "%" G_GUINT64_FORMAT,
                           row->default_number);
}

char *option_limits_text(const OptionRow *row)
{
    g_autofree char *standard = default_text(row);
    g_autoptr(GString) text = g_string_new(NULL);

    if (row->kind == OPTION_CHOICE) {
        g_autofree char *all = g_strjoinv(", ", (char **)row->choices);

        g_string_append(text, all);
    } else if (row->kind == OPTION_U64 && row->max) {
        g_string_append_printf(text,
                               "%" G_GUINT64_FORMAT " to %" G_GUINT64_FORMAT,
                               row->min, row->max);
    }
    if (standard) {
        g_string_append_printf(text, "%sdefault: %s", text->len ? "; " : "",
                               standard);
    }
    return text->len ? g_string_free(g_steal_pointer(&text), FALSE) : NULL;
}
