/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ember-seccomp: makes the files of filters that `ember --seccomp-filter` takes
 * (docs/seccomp.md). The build makes the built-in one with it.
 */
#include "vmm/seccomp_compile.h"
#include "vmm/seccomp_json.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>

static int write_file(const char *path, const struct seccomp_file *file,
		      struct error *err)
{
	AUTO_CLOSE int fd =
		open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
	ssize_t n;

	if (fd < 0)
		return error_set_os(err, errno, "%s:", path);
	n = write(fd, file->bytes, file->len);
	if (n != (ssize_t)file->len)
		return error_set_os(err, n < 0 ? errno : ENOSPC, "%s:", path);
	return 0;
}

static int compile_to(const struct rule_set *set, const char *path,
		      struct error *err)
{
	struct seccomp_file file = {0};
	int ret = seccomp_compile(set, &file, err);

	if (!ret)
		ret = write_file(path, &file, err);
	free(file.bytes);
	return ret;
}

static int compile_json(const char *from, const char *to, struct error *err)
{
	json_error_t why;
	json_t *json = json_load_file(from, JSON_REJECT_DUPLICATES, &why);
	struct rule_set set = {0};
	int ret;

	if (!json)
		return error_set(err, EINVAL, "%s:%d:%d: %s", from, why.line,
				 why.column, why.text);
	ret = rules_from_json(&set, json, err);
	if (!ret)
		ret = compile_to(&set, to, err);
	if (ret)
		error_prefix(err, "%s: ", from);
	rules_release(&set);
	json_decref(json);
	return ret;
}

/* The default rules, compiled to @to or (NULL) printed. */
static int use_default(const char *to, struct error *err)
{
	struct rule_set set = {0};
	int ret = rules_default(&set);

	if (ret)
		return error_set_os(err, -ret, "No memory:");
	if (to)
		ret = compile_to(&set, to, err);
	else if (rules_print(&set, stdout))
		ret = error_set(err, EIO, "The rules cannot be written.");
	rules_release(&set);
	return ret;
}

static int list_calls(const char *to, struct error *err)
{
	struct seccomp_file file = {0};
	int ret = seccomp_list_calls(&file);

	if (ret)
		return error_set_os(err, -ret, "No memory:");
	ret = write_file(to, &file, err);
	free(file.bytes);
	return ret;
}

static int usage(FILE *out)
{
	fputs("ember-seccomp: makes system call filters for ember\n\n"
	      "  ember-seccomp compile RULES.json FILE   from rules of your "
	      "own\n"
	      "  ember-seccomp compile --default FILE    what is built in\n"
	      "  ember-seccomp print                     the default rules, "
	      "as JSON\n"
	      "  ember-seccomp calls FILE                names of system "
	      "calls, "
	      "for the build\n",
	      out);
	return out == stdout ? EXIT_SUCCESS : EXIT_FAILURE;
}

int main(int argc, char *argv[])
{
	const char *command = argc > 1 ? argv[1] : "";
	struct error err = {0};
	int ret;

	if (strcmp(command, "--help") == 0)
		return usage(stdout);
	if (strcmp(command, "compile") == 0 && argc == 4)
		ret = strcmp(argv[2], "--default") == 0
			      ? use_default(argv[3], &err)
			      : compile_json(argv[2], argv[3], &err);
	else if (strcmp(command, "print") == 0 && argc == 2)
		ret = use_default(NULL, &err);
	else if (strcmp(command, "calls") == 0 && argc == 3)
		ret = list_calls(argv[2], &err);
	else
		return usage(stderr);
	if (ret)
		fprintf(stderr, "ember-seccomp: %s\n", err.text);
	return ret ? EXIT_FAILURE : EXIT_SUCCESS;
}
