/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Command lines, as monitor and jailer have them: `--name value` pairs and
 * switches in any order, each at most once unless it is a list; `--` ends
 * them. What there is says a const table, from which the help text is made too.
 *
 * Values are stored into a struct of the caller's; strings point into argv.
 */
#ifndef EMBER_ARGUMENTS_H
#define EMBER_ARGUMENTS_H

#include "vmm/error.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#define ARGUMENT_LIST_MAX 64
#define ARGUMENT_ROWS_MAX 64

/* The values of an argument that may be repeated. */
struct argument_list {
	const char *values[ARGUMENT_LIST_MAX];
	size_t count;
};

/* As `needs`: the argument itself must be there. */
#define ARGUMENT_REQUIRED ""

enum argument_kind {
	ARGUMENT_SWITCH, /* bool */
	ARGUMENT_TEXT,	 /* const char * */
	ARGUMENT_NUMBER, /* uint64_t */
	ARGUMENT_LIST,	 /* struct argument_list */
};

struct argument_row {
	const char *name;
	enum argument_kind kind;
	size_t offset;	   /* in the struct that is filled in */
	const char *needs; /* argument that must be there too, or NULL */
	const char *help;
};

struct argument_table {
	const struct argument_row *rows;
	size_t count; /* at most ARGUMENT_ROWS_MAX */
};

/* Which rows were given. */
struct arguments_seen {
	bool rows[ARGUMENT_ROWS_MAX];
	int end; /* index in argv of what follows `--`, or argc */
};

/* Fills in what @target is: a struct that the rows' offsets are of, with its
 * defaults set. -EINVAL with the reason in @err. */
int arguments_parse(const struct argument_table *table, void *target, int argc,
		    char *const argv[], struct arguments_seen *ret_seen,
		    struct error *err) must_check;

/* The value of a number: decimal digits and nothing else, 64 bits. -EINVAL. */
int arguments_number(const char *text, uint64_t *ret) must_check;

/* The same for the argument @name, with a sentence. */
int arguments_number_of(const char *name, const char *text, uint64_t *ret,
			struct error *err) must_check;

/* One of a few words, and what it stands for. */
struct argument_word {
	const char *word; /* NULL ends a list of them */
	int value;
};

/* What @text, the value of the argument @name, stands for. -EINVAL with a
 * sentence that names all words. */
int arguments_word_of(const char *name, const char *text,
		      const struct argument_word words[], int *ret,
		      struct error *err) must_check;

/* Whether @name, which is in the table, was given. */
bool arguments_saw(const struct argument_table *table,
		   const struct arguments_seen *seen, const char *name);

/* Whether a switch stands anywhere before `--`, whatever else is wrong:
 * --help and --version count before all checks. */
bool arguments_have(int argc, char *const argv[], const char *argument);

/* Sentences for checks of the caller's own; they return -EINVAL. */
int arguments_missing(const char *name, struct error *err);
int arguments_excluded(const char *a, const char *b, struct error *err);

/* One line per row. */
void arguments_print_help(const struct argument_table *table, FILE *out);

#endif
