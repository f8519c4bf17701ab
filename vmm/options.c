/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/options.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <string.h>
#include <unistd.h>

#define ID_LENGTH_MAX 64
#define MAX_PAYLOAD_DEFAULT 51200

enum kind {
	KIND_SWITCH, /* bool */
	KIND_TEXT,   /* const char * */
	KIND_NUMBER, /* uint64_t */
	KIND_LIST,   /* struct option_list: may be repeated */
};

struct option_row {
	const char *name;
	enum kind kind;
	size_t offset;	   /* in struct options */
	const char *needs; /* option that must be there too, or NULL */
	const char *help;
};

#define AT(field) offsetof(struct options, field)

static const struct option_row rows[] = {
	{"api-sock", KIND_TEXT, AT(api_sock), NULL,
	 "path of the API socket [/run/firecracker.socket]"},
	{"boot-timer", KIND_SWITCH, AT(boot_timer), NULL,
	 "add the boot timer device"},
	{"clock-realtime", KIND_SWITCH, AT(clock_realtime), "restore",
	 "let the restored clock have gone on"},
	{"config-file", KIND_TEXT, AT(config_file), NULL,
	 "JSON file that configures the microVM, which is then started"},
	{"describe-snapshot", KIND_TEXT, AT(describe_snapshot), NULL,
	 "print what a snapshot's state file holds"},
	{"drive-override", KIND_LIST, AT(drive_overrides), "restore",
	 "ID=PATH: another file behind a restored drive"},
	{"emit-snapshot-phases", KIND_SWITCH, AT(emit_snapshot_phases),
	 "metrics-path", "add what snapshots spend their time on to metrics"},
	{"help", KIND_SWITCH, AT(help), NULL, "print this text"},
	{"http-api-max-payload-size", KIND_NUMBER, AT(max_payload), NULL,
	 "largest body of an API request in bytes [51200]"},
	{"id", KIND_TEXT, AT(id), NULL,
	 "name of the microVM [anonymous-instance]"},
	{"level", KIND_TEXT, AT(level), NULL,
	 "log level: Off, Error, Warn, Info, Debug, Trace [Info]"},
	{"log-path", KIND_TEXT, AT(log_path), NULL,
	 "file or FIFO for the log [standard output]"},
	{"metadata", KIND_TEXT, AT(metadata), NULL,
	 "JSON file with which the metadata service starts"},
	{"mmds-size-limit", KIND_NUMBER, AT(metadata_limit), NULL,
	 "largest metadata in bytes [as http-api-max-payload-size]"},
	{"mem", KIND_TEXT, AT(mem), "restore",
	 "memory file of the snapshot to restore"},
	{"memory-backing", KIND_TEXT, AT(memory_backing), NULL,
	 "guest memory: anonymous or memfd [anonymous]"},
	{"metrics-path", KIND_TEXT, AT(metrics_path), NULL,
	 "file or FIFO for metrics [none]"},
	{"module", KIND_TEXT, AT(module), NULL,
	 "log only from source files whose path begins so"},
	{"network-override", KIND_LIST, AT(network_overrides), "restore",
	 "ID=TAP: another tap behind a restored interface"},
	{"no-api", KIND_SWITCH, AT(no_api), NULL,
	 "serve no API; needs --config-file or --restore"},
	{"no-seccomp", KIND_SWITCH, AT(no_seccomp), NULL,
	 "install no system call filters"},
	{"parent-cpu-time-us", KIND_NUMBER, AT(parent_cpu_time_us), NULL,
	 "CPU time the parent spent on the start, in microseconds"},
	{"paused", KIND_SWITCH, AT(paused), "restore",
	 "leave the restored microVM paused"},
	{"prefetch", KIND_TEXT, AT(prefetch), "working-set",
	 "how: beside or before the guest runs, or copy [beside]"},
	{"ready-fd", KIND_NUMBER, AT(ready_fd), NULL,
	 "descriptor that gets one line when the guest runs"},
	{"record-until", KIND_TEXT, AT(record_until_text), "record-working-set",
	 "accept (of the first vsock connection) or request [accept]"},
	{"record-working-set", KIND_TEXT, AT(record_working_set), "restore",
	 "file for the pages that the restored microVM touches"},
	{"restore", KIND_TEXT, AT(restore), NULL,
	 "state file of a snapshot: runs what is in it"},
	{"show-level", KIND_SWITCH, AT(show_level), NULL,
	 "put the level into log lines"},
	{"show-log-origin", KIND_SWITCH, AT(show_log_origin), NULL,
	 "put source file and line into log lines"},
	{"snapshot-version", KIND_SWITCH, AT(snapshot_version), NULL,
	 "print the version of the snapshot format"},
	{"start-time-cpu-us", KIND_NUMBER, AT(start_time_cpu_us), NULL,
	 "process CPU clock at the start, in microseconds"},
	{"start-time-us", KIND_NUMBER, AT(start_time_us), NULL,
	 "monotonic clock at the start, in microseconds"},
	{"track-dirty-pages", KIND_SWITCH, AT(track_dirty_pages), "restore",
	 "let diff snapshots of the restored microVM be exact"},
	{"uffd", KIND_TEXT, AT(uffd), "restore",
	 "socket of a page-fault handler, instead of --mem"},
	{"version", KIND_SWITCH, AT(version), NULL, "print the version"},
	{"vsock-override", KIND_TEXT, AT(vsock_override), "restore",
	 "another path for the restored host socket"},
	{"working-set", KIND_TEXT, AT(working_set), "restore",
	 "file with the pages to bring in ahead of time"},
};

static const struct option_row *find(const char *argument)
{
	if (strcmp(argument, "-h") == 0)
		argument = "--help";
	if (strncmp(argument, "--", 2) != 0)
		return NULL;
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++)
		if (strcmp(rows[i].name, argument + 2) == 0)
			return &rows[i];
	return NULL;
}

static int parse_number(const char *text, uint64_t *ret)
{
	char *end;

	if (!isdigit((unsigned char)text[0]))
		return -EINVAL;
	errno = 0;
	*ret = strtoull(text, &end, 10);
	return errno || *end ? -EINVAL : 0;
}

static int append(struct option_list *list, const struct option_row *row,
		  const char *value, struct error *err)
{
	if (list->count == OPTION_LIST_MAX)
		return error_set(err, EINVAL,
				 "The argument '%s' was provided more than %d "
				 "times.",
				 row->name, OPTION_LIST_MAX);
	list->values[list->count++] = value;
	return 0;
}

static int store(struct options *options, const struct option_row *row,
		 const char *value, struct error *err)
{
	void *field = (char *)options + row->offset;

	switch (row->kind) {
	case KIND_SWITCH:
		*(bool *)field = true;
		return 0;
	case KIND_TEXT:
		*(const char **)field = value;
		return 0;
	case KIND_LIST:
		return append(field, row, value, err);
	case KIND_NUMBER:
	default:
		if (parse_number(value, field))
			return error_set(err, EINVAL,
					 "'%s' of argument '%s' is not a "
					 "number.",
					 value, row->name);
		return 0;
	}
}

/* Takes the arguments one by one; @seen has a flag per row. */
static int parse_all(struct options *options, int argc, char *const argv[],
		     bool *seen, struct error *err)
{
	for (int i = 1; i < argc && strcmp(argv[i], "--") != 0; i++) {
		const struct option_row *row = find(argv[i]);
		const char *value = NULL;
		int ret;

		if (!row)
			return error_set(
				err, EINVAL,
				"Found argument '%s' which wasn't "
				"expected, or isn't valid in this "
				"context.",
				argv[i] + (strncmp(argv[i], "--", 2) ? 0 : 2));
		if (seen[row - rows] && row->kind != KIND_LIST)
			return error_set(err, EINVAL,
					 "The argument '%s' was provided more "
					 "than once.",
					 row->name);
		seen[row - rows] = true;
		if (row->kind != KIND_SWITCH) {
			if (i + 1 == argc || strncmp(argv[i + 1], "--", 2) == 0)
				return error_set(err, EINVAL,
						 "The argument '%s' requires "
						 "a value, but none was "
						 "supplied.",
						 row->name);
			value = argv[++i];
		}
		ret = store(options, row, value, err);
		if (ret)
			return ret;
	}
	return 0;
}

static int check_needs(const bool *seen, struct error *err)
{
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		size_t needed = 0;

		if (!seen[i] || !rows[i].needs)
			continue;
		while (strcmp(rows[needed].name, rows[i].needs) != 0)
			needed++;
		if (!seen[needed])
			return error_set(err, EINVAL,
					 "Argument '%s' required, but not "
					 "found.",
					 rows[needed].name);
	}
	return 0;
}

static int missing(const char *name, struct error *err)
{
	return error_set(err, EINVAL, "Argument '%s' required, but not found.",
			 name);
}

static int excluded(const char *a, const char *b, struct error *err)
{
	return error_set(err, EINVAL,
			 "Argument '%s' cannot be used together with argument "
			 "'%s'.",
			 b, a);
}

/* Where the microVM comes from, if it is not configured over the API. */
static int check_sources(const struct options *options, struct error *err)
{
	if (options->no_api && !options->config_file && !options->restore)
		return missing("config-file", err);
	if (options->config_file && options->restore)
		return excluded("config-file", "restore", err);
	if (options->mem && options->uffd)
		return excluded("mem", "uffd", err);
	if (options->restore && !options->mem && !options->uffd)
		return missing("mem", err);
	return 0;
}

/* Looked at before we open anything: under a number that nobody handed to us
 * there will be something of ours. The first three are the console. */
static int check_ready_fd(uint64_t fd, struct error *err)
{
	int flags = fd > STDERR_FILENO && fd <= INT_MAX
			    ? fcntl((int)fd, F_GETFL)
			    : -1;

	if (flags >= 0 && (flags & O_ACCMODE) != O_RDONLY)
		return 0;
	return error_set(err, EINVAL,
			 "'%lu' of argument 'ready-fd' is no descriptor to "
			 "write to, from 3 on, that was handed over.",
			 (unsigned long)fd);
}

/* Options that take one of a few words. */
struct word {
	const char *word;
	int value;
};

#define WORDS_MAX 3

static const struct word_row {
	const char *name;
	size_t text, value; /* in struct options */
	const char *known;
	struct word words[WORDS_MAX];
} word_rows[] = {
	{"memory-backing",
	 AT(memory_backing),
	 AT(backing),
	 "anonymous, memfd",
	 {{"anonymous", GMEM_ANONYMOUS}, {"memfd", GMEM_MEMFD}}},
	{"prefetch",
	 AT(prefetch),
	 AT(prefetch_at),
	 "beside, before, copy",
	 {{"before", PREFETCH_BEFORE},
	  {"beside", PREFETCH_BESIDE},
	  {"copy", PREFETCH_COPY}}},
	{"record-until",
	 AT(record_until_text),
	 AT(record_until),
	 "accept, request",
	 {{"accept", RECORD_UNTIL_ACCEPT}, {"request", RECORD_UNTIL_ASKED}}},
};

static int set_word(struct options *options, const struct word_row *row,
		    struct error *err)
{
	const char *text = *(const char **)((char *)options + row->text);

	for (size_t i = 0; text && i < WORDS_MAX && row->words[i].word; i++)
		if (strcmp(row->words[i].word, text) == 0) {
			*(int *)((char *)options + row->value) =
				row->words[i].value;
			return 0;
		}
	if (!text)
		return 0;
	return error_set(err, EINVAL, "'%s' of argument '%s' is none of: %s.",
			 text, row->name, row->known);
}

static int set_words(struct options *options, struct error *err)
{
	int ret = 0;

	for (size_t i = 0; !ret && i < ARRAY_SIZE(word_rows); i++)
		ret = set_word(options, &word_rows[i], err);
	return ret;
}

/* --help and --version count wherever they stand, whatever else is wrong. */
static bool wants_information(struct options *options, int argc,
			      char *const argv[])
{
	for (int i = 1; i < argc && strcmp(argv[i], "--") != 0; i++) {
		if (!strcmp(argv[i], "--help") || !strcmp(argv[i], "-h"))
			options->help = true;
		if (!strcmp(argv[i], "--version"))
			options->version = true;
	}
	return options->help || options->version;
}

int options_parse(struct options *options, int argc, char *const argv[],
		  struct error *err)
{
	bool seen[ARRAY_SIZE(rows)] = {false};
	int ret;

	*options = (struct options){
		.api_sock = "/run/firecracker.socket",
		.id = "anonymous-instance",
		.max_payload = MAX_PAYLOAD_DEFAULT,
	};
	if (wants_information(options, argc, argv))
		return 0;
	ret = parse_all(options, argc, argv, seen, err);
	if (!ret)
		ret = check_needs(seen, err);
	if (!ret)
		ret = check_sources(options, err);
	if (!ret && seen[find("--ready-fd") - rows])
		ret = check_ready_fd(options->ready_fd, err);
	options->has_metadata_limit = seen[find("--mmds-size-limit") - rows];
	if (!options->has_metadata_limit)
		options->metadata_limit = options->max_payload;
	return ret ? ret : set_words(options, err);
}

int options_check_id(const char *id, struct error *err)
{
	size_t len = strlen(id);

	if (len == 0 || len > ID_LENGTH_MAX)
		return error_set(err, EINVAL,
				 "Invalid instance ID: Invalid len (%zu);  the "
				 "length must be between 1 and 64",
				 len);
	for (size_t i = 0; i < len; i++)
		if (!isalnum((unsigned char)id[i]) && id[i] != '-')
			return error_set(err, EINVAL,
					 "Invalid instance ID: Invalid char "
					 "(%c) at position %zu",
					 id[i], i);
	return 0;
}

void options_print_help(FILE *out)
{
	fputs("ember: a microVM monitor\n\nUsage: ember [options]\n\n", out);
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++)
		fprintf(out, "  --%-26s %s\n", rows[i].name, rows[i].help);
}
