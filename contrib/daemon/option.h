/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Options as data: a table of rows is the one place where an option is
 * declared. Parsing and its errors, --help, the manual page and the README's
 * list are all made from it.
 */
#ifndef CONTRIB_DAEMON_OPTION_H
#define CONTRIB_DAEMON_OPTION_H

#include <glib.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

typedef enum OptionKind {
    OPTION_FLAG,   /* bool: false, true if given */
    OPTION_STRING, /* char *: bytes as given, paths too; never empty */
    OPTION_U64,    /* uint64_t: decimal or 0x..., suffix k M G T (1024^n) */
    OPTION_MODE,   /* mode_t: octal permission bits */
    OPTION_CHOICE, /* int: index into choices */
} OptionKind;

/* Default of a number that has none: its field holds this until given. */
#define OPTION_UNSET UINT64_MAX

/* Where a row's value goes; the kind follows from the field's type. */
#define OPTION_FIELD(type, field)                                              \
    .kind = _Generic(((type *)NULL)->field,                                    \
                     bool: OPTION_FLAG,                                        \
                     char *: OPTION_STRING,                                    \
                     uint64_t: OPTION_U64,                                     \
                     mode_t: OPTION_MODE,                                      \
                     int: OPTION_CHOICE),                                      \
    .offset = offsetof(type, field)

/* One option. A table of them ends with a row without name. */
typedef struct OptionRow {
    const char *name;           /* long form, without dashes */
    char letter;                /* short form, 0: none */
    bool required;              /* must be given */
    bool hidden;                /* neither in --help nor in the manual */
    OptionKind kind;            /* both by OPTION_FIELD */
    size_t offset;              /* of the field in the values */
    const char *placeholder;    /* "PATH"; flags: none */
    const char *help;           /* "serve FILE instead of ..."; no full stop */
    const char *details;        /* sentences for the manual only, or NULL */
    const char *unset_text;     /* what holds when not given, or NULL */
    const char *default_string; /* STRING, may be NULL */
    uint64_t default_number;    /* U64, MODE, CHOICE; OPTION_UNSET: none */
    uint64_t min;               /* U64, with max */
    uint64_t max;               /* U64; 0: any number */
    const char *const *choices; /* CHOICE: names, ended by NULL */
} OptionRow;

/* Rows with the struct their values go to. */
typedef struct OptionTable {
    const OptionRow *rows;
    void *values; /* strings in it are owned by the table: option_clear */
} OptionTable;

#define OPTION_ERROR (option_error_quark())

/** The domain of errors about options and what they ask for; one code, 0.
 * Any thread. */
GQuark option_error_quark(void);

/**
 * Fill an error about the value of an option: "--NAME=VALUE: text".
 * @error: may be NULL
 * @name:  the option's, without dashes
 * @value: as given; NULL: "--NAME: text"
 * Control thread.
 */
void option_set_error(GError **error, const char *name, const char *value,
                      const char *fmt, ...) G_GNUC_PRINTF(4, 5);

/**
 * Set the fields of all rows to their defaults.
 * @tables: @num of them; values zeroed or uninitialised
 * Control thread.
 */
void option_set_defaults(const OptionTable *tables, unsigned num);

/**
 * Parse a command line into the values.
 * @tables: @num of them, with defaults set; names and letters are unique
 * @argv:   @argc words; not changed. An option given again replaces the
 *          earlier value
 * @error:  names option and value: unknown option, missing or unwanted value,
 *          a number malformed or out of range, a word that is no option
 * Returns false with @error. Whether required options were given is left to
 * option_check_required, so that --help needs none. Control thread.
 */
bool option_parse(const OptionTable *tables, unsigned num, int argc,
                  char *const *argv, GError **error);

/** Check that all required options were given: have no default left.
 * Returns false with @error naming the first. Control thread. */
bool option_check_required(const OptionTable *tables, unsigned num,
                           GError **error);

/** Free the strings of the values. Control thread. */
void option_clear(const OptionTable *tables, unsigned num);

/**
 * The default and the range of a row in words: "default: 10; 1 to 65536", or
 * NULL if it has none. Caller frees. Any thread.
 */
char *option_limits_text(const OptionRow *row);

#endif
