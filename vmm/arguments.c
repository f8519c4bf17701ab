/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/arguments.h"

#include <ctype.h>
#include <errno.h>
#include <string.h>

static const struct argument_row *find(const struct argument_table *table,
				       const char *argument)
{
	if (strcmp(argument, "-h") == 0)
		argument = "--help";
	if (strncmp(argument, "--", 2) != 0)
		return NULL;
	for (size_t i = 0; i < table->count; i++)
		if (strcmp(table->rows[i].name, argument + 2) == 0)
			return &table->rows[i];
	return NULL;
}

static size_t row_index(const struct argument_table *table, const char *name)
{
	size_t index = 0;

	while (strcmp(table->rows[index].name, name) != 0)
		index++;
	return index;
}

int arguments_number(const char *text, uint64_t *ret)
{
	uint64_t number;
	char *end;

	if (!isdigit((unsigned char)text[0]))
		return -EINVAL;
	errno = 0;
	number = strtoull(text, &end, 10);
	if (errno || *end)
		return -EINVAL;
	*ret = number;
	return 0;
}

int arguments_number_of(const char *name, const char *text, uint64_t *ret,
			struct error *err)
{
	if (arguments_number(text, ret) == 0)
		return 0;
	return error_set(err, EINVAL, "'%s' of argument '%s' is not a number.",
			 text, name);
}

int arguments_word_of(const char *name, const char *text,
		      const struct argument_word words[], int *ret,
		      struct error *err)
{
	char known[128] = "";

	for (size_t i = 0; words[i].word; i++) {
		size_t len = strlen(known);

		if (strcmp(words[i].word, text) == 0) {
			*ret = words[i].value;
			return 0;
		}
		snprintf(known + len, sizeof(known) - len, "%s%s",
			 i ? ", " : "", words[i].word);
	}
	return error_set(err, EINVAL, "'%s' of argument '%s' is none of: %s.",
			 text, name, known);
}

static int append(struct argument_list *list, const struct argument_row *row,
		  const char *value, struct error *err)
{
	if (list->count == ARGUMENT_LIST_MAX)
		return error_set(err, EINVAL,
				 "The argument '%s' was provided more than %d "
				 "times.",
				 row->name, ARGUMENT_LIST_MAX);
	list->values[list->count++] = value;
	return 0;
}

static int store(void *target, const struct argument_row *row,
		 const char *value, struct error *err)
{
	void *field = (char *)target + row->offset;

	switch (row->kind) {
	case ARGUMENT_SWITCH:
		*(bool *)field = true;
		return 0;
	case ARGUMENT_TEXT:
		*(const char **)field = value;
		return 0;
	case ARGUMENT_LIST:
		return append(field, row, value, err);
	case ARGUMENT_NUMBER:
	default:
		return arguments_number_of(row->name, value, field, err);
	}
}

static int refuse_unknown(const char *argument, struct error *err)
{
	return error_set(err, EINVAL,
			 "Found argument '%s' which wasn't expected, or isn't "
			 "valid in this context.",
			 argument + (strncmp(argument, "--", 2) ? 0 : 2));
}

/* Takes the arguments one by one. */
static int take_all(const struct argument_table *table, void *target, int argc,
		    char *const argv[], struct arguments_seen *seen,
		    struct error *err)
{
	int i;

	for (i = 1; i < argc && strcmp(argv[i], "--") != 0; i++) {
		const struct argument_row *row = find(table, argv[i]);
		const char *value = NULL;
		int ret;

		if (!row)
			return refuse_unknown(argv[i], err);
		if (seen->rows[row - table->rows] && row->kind != ARGUMENT_LIST)
			return error_set(err, EINVAL,
					 "The argument '%s' was provided more "
					 "than once.",
					 row->name);
		seen->rows[row - table->rows] = true;
		if (row->kind != ARGUMENT_SWITCH) {
			if (i + 1 == argc || strncmp(argv[i + 1], "--", 2) == 0)
				return error_set(err, EINVAL,
						 "The argument '%s' requires "
						 "a value, but none was "
						 "supplied.",
						 row->name);
			value = argv[++i];
		}
		ret = store(target, row, value, err);
		if (ret)
			return ret;
	}
	seen->end = MIN(i + 1, argc);
	return 0;
}

static int check_needs(const struct argument_table *table,
		       const struct arguments_seen *seen, struct error *err)
{
	for (size_t i = 0; i < table->count; i++) {
		const char *needs = table->rows[i].needs;
		const char *name = table->rows[i].name;

		if (!needs)
			continue;
		if (strcmp(needs, ARGUMENT_REQUIRED) == 0) {
			if (!seen->rows[i])
				return arguments_missing(name, err);
		} else if (seen->rows[i] &&
			   !arguments_saw(table, seen, needs)) {
			return arguments_missing(needs, err);
		}
	}
	return 0;
}

int arguments_parse(const struct argument_table *table, void *target, int argc,
		    char *const argv[], struct arguments_seen *ret_seen,
		    struct error *err)
{
	struct arguments_seen seen = {.end = argc};
	int ret = take_all(table, target, argc, argv, &seen, err);

	if (!ret)
		ret = check_needs(table, &seen, err);
	*ret_seen = seen;
	return ret;
}

bool arguments_saw(const struct argument_table *table,
		   const struct arguments_seen *seen, const char *name)
{
	return seen->rows[row_index(table, name)];
}

bool arguments_have(int argc, char *const argv[], const char *argument)
{
	for (int i = 1; i < argc && strcmp(argv[i], "--") != 0; i++)
		if (!strcmp(argv[i], argument))
			return true;
	return false;
}

int arguments_missing(const char *name, struct error *err)
{
	return error_set(err, EINVAL, "Argument '%s' required, but not found.",
			 name);
}

int arguments_excluded(const char *a, const char *b, struct error *err)
{
	return error_set(err, EINVAL,
			 "Argument '%s' cannot be used together with argument "
			 "'%s'.",
			 b, a);
}

void arguments_print_help(const struct argument_table *table, FILE *out)
{
	for (size_t i = 0; i < table->count; i++)
		fprintf(out, "  --%-26s %s\n", table->rows[i].name,
			table->rows[i].help);
}
