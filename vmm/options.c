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

#define AT(field) offsetof(struct options, field)

static const struct argument_row rows[] = {
	{"api-sock", ARGUMENT_TEXT, AT(api_sock), NULL,
	 "path of the API socket [/run/firecracker.socket]"},
	{"boot-timer", ARGUMENT_SWITCH, AT(boot_timer), NULL,
	 "add the boot timer device"},
	{"cgroup-fd", ARGUMENT_LIST, AT(cgroup_fd_list), NULL,
	 "cgroup.procs file to join by when the microVM is there"},
	{"clock-realtime", ARGUMENT_SWITCH, AT(clock_realtime), "restore",
	 "let the restored clock have gone on"},
	{"config-file", ARGUMENT_TEXT, AT(config_file), NULL,
	 "JSON file that configures the microVM, which is then started"},
	{"describe-snapshot", ARGUMENT_TEXT, AT(describe_snapshot), NULL,
	 "print what a snapshot's state file holds"},
	{"drive-override", ARGUMENT_LIST, AT(drive_overrides), "restore",
	 "ID=PATH: another file behind a restored drive"},
	{"emit-snapshot-phases", ARGUMENT_SWITCH, AT(emit_snapshot_phases),
	 "metrics-path", "add what snapshots spend their time on to metrics"},
	{"help", ARGUMENT_SWITCH, AT(help), NULL, "print this text"},
	{"http-api-max-payload-size", ARGUMENT_NUMBER, AT(max_payload), NULL,
	 "largest body of an API request in bytes [51200]"},
	{"id", ARGUMENT_TEXT, AT(id), NULL,
	 "name of the microVM [anonymous-instance]"},
	{"level", ARGUMENT_TEXT, AT(level), NULL,
	 "log level: Off, Error, Warn, Info, Debug, Trace [Info]"},
	{"log-path", ARGUMENT_TEXT, AT(log_path), NULL,
	 "file or FIFO for the log [standard output]"},
	{"metadata", ARGUMENT_TEXT, AT(metadata), NULL,
	 "JSON file with which the metadata service starts"},
	{"mmds-size-limit", ARGUMENT_NUMBER, AT(metadata_limit), NULL,
	 "largest metadata in bytes [as http-api-max-payload-size]"},
	{"mem", ARGUMENT_TEXT, AT(mem), "restore",
	 "memory file of the snapshot to restore"},
	{"memory-backing", ARGUMENT_TEXT, AT(memory_backing), NULL,
	 "guest memory: anonymous or memfd [anonymous]"},
	{"metrics-path", ARGUMENT_TEXT, AT(metrics_path), NULL,
	 "file or FIFO for metrics [none]"},
	{"module", ARGUMENT_TEXT, AT(module), NULL,
	 "log only from source files whose path begins so"},
	{"network-override", ARGUMENT_LIST, AT(network_overrides), "restore",
	 "ID=TAP: another tap behind a restored interface"},
	{"no-api", ARGUMENT_SWITCH, AT(no_api), NULL,
	 "serve no API; needs --config-file or --restore"},
	{"no-seccomp", ARGUMENT_SWITCH, AT(no_seccomp), NULL,
	 "install no system call filters"},
	{"parent-cpu-time-us", ARGUMENT_NUMBER, AT(parent_cpu_time_us), NULL,
	 "CPU time the parent spent on the start, in microseconds"},
	{"paused", ARGUMENT_SWITCH, AT(paused), "restore",
	 "leave the restored microVM paused"},
	{"pmem-override", ARGUMENT_LIST, AT(pmem_overrides), "restore",
	 "ID=PATH: another file behind restored persistent memory"},
	{"prefetch", ARGUMENT_TEXT, AT(prefetch), "working-set",
	 "how: beside or before the guest runs, or copy [beside]"},
	{"ready-fd", ARGUMENT_NUMBER, AT(ready_fd), NULL,
	 "descriptor that gets one line when the guest runs"},
	{"record-until", ARGUMENT_TEXT, AT(record_until_text),
	 "record-working-set",
	 "accept (of the first vsock connection) or request [accept]"},
	{"record-working-set", ARGUMENT_TEXT, AT(record_working_set), "restore",
	 "file for the pages that the restored microVM touches"},
	{"restore", ARGUMENT_TEXT, AT(restore), NULL,
	 "state file of a snapshot: runs what is in it"},
	{"seccomp-filter", ARGUMENT_TEXT, AT(seccomp_filter), NULL,
	 "file of ember-seccomp with other system call filters"},
	{"show-level", ARGUMENT_SWITCH, AT(show_level), NULL,
	 "put the level into log lines"},
	{"show-log-origin", ARGUMENT_SWITCH, AT(show_log_origin), NULL,
	 "put source file and line into log lines"},
	{"snapshot-version", ARGUMENT_SWITCH, AT(snapshot_version), NULL,
	 "print the version of the snapshot format"},
	{"start-time-cpu-us", ARGUMENT_NUMBER, AT(start_time_cpu_us), NULL,
	 "process CPU clock at the start, in microseconds"},
	{"start-time-us", ARGUMENT_NUMBER, AT(start_time_us), NULL,
	 "monotonic clock at the start, in microseconds"},
	{"track-dirty-pages", ARGUMENT_SWITCH, AT(track_dirty_pages), "restore",
	 "let diff snapshots of the restored microVM be exact"},
	{"uffd", ARGUMENT_TEXT, AT(uffd), "restore",
	 "socket of a page-fault handler, instead of --mem"},
	{"version", ARGUMENT_SWITCH, AT(version), NULL, "print the version"},
	{"vsock-override", ARGUMENT_TEXT, AT(vsock_override), "restore",
	 "another path for the restored host socket"},
	{"working-set", ARGUMENT_TEXT, AT(working_set), "restore",
	 "file with the pages to bring in ahead of time"},
};

static const struct argument_table table = {rows, ARRAY_SIZE(rows)};

/* Where the microVM comes from, if it is not configured over the API. */
static int check_sources(const struct options *options, struct error *err)
{
	if (options->no_api && !options->config_file && !options->restore)
		return arguments_missing("config-file", err);
	if (options->config_file && options->restore)
		return arguments_excluded("config-file", "restore", err);
	if (options->mem && options->uffd)
		return arguments_excluded("mem", "uffd", err);
	if (options->restore && !options->mem && !options->uffd)
		return arguments_missing("mem", err);
	return 0;
}

static int check_filters(const struct options *options, struct error *err)
{
	return options->no_seccomp && options->seccomp_filter
		       ? arguments_excluded("no-seccomp", "seccomp-filter", err)
		       : 0;
}

/* Looked at before we open anything: under a number that nobody handed to us
 * there will be something of ours. The first three are the console. */
static int check_fd(const char *name, uint64_t fd, struct error *err)
{
	int flags = fd > STDERR_FILENO && fd <= INT_MAX
			    ? fcntl((int)fd, F_GETFL)
			    : -1;

	if (flags >= 0 && (flags & O_ACCMODE) != O_RDONLY)
		return 0;
	return error_set(err, EINVAL,
			 "'%lu' of argument '%s' is no descriptor to write "
			 "to, from 3 on, that was handed over.",
			 (unsigned long)fd, name);
}

/* A list has no more values than there can be cgroups. */
_Static_assert(ARGUMENT_LIST_MAX <= CGROUPS_MAX, "cgroups");

static int set_cgroups(struct options *options, struct error *err)
{
	struct cgroups *cgroups = &options->cgroups;

	for (size_t i = 0; i < options->cgroup_fd_list.count; i++) {
		const char *text = options->cgroup_fd_list.values[i];
		uint64_t fd;
		int ret = arguments_number_of("cgroup-fd", text, &fd, err);

		if (!ret)
			ret = check_fd("cgroup-fd", fd, err);
		if (ret)
			return ret;
		if (!cgroups_has((int)fd))
			return error_set(err, EINVAL,
					 "'%s' of argument 'cgroup-fd' is no "
					 "file of a cgroup.",
					 text);
		cgroups->fds[cgroups->count++] = (int)fd;
	}
	return 0;
}

#define WORDS_MAX 3

/* Options that take one of a few words. */
static const struct word_row {
	const char *name;
	size_t text, value; /* in struct options */
	struct argument_word words[WORDS_MAX + 1];
} word_rows[] = {
	{"memory-backing",
	 AT(memory_backing),
	 AT(backing),
	 {{"anonymous", GMEM_ANONYMOUS}, {"memfd", GMEM_MEMFD}}},
	{"prefetch",
	 AT(prefetch),
	 AT(prefetch_at),
	 {{"beside", PREFETCH_BESIDE},
	  {"before", PREFETCH_BEFORE},
	  {"copy", PREFETCH_COPY}}},
	{"record-until",
	 AT(record_until_text),
	 AT(record_until),
	 {{"accept", RECORD_UNTIL_ACCEPT}, {"request", RECORD_UNTIL_ASKED}}},
};

static int set_word(struct options *options, const struct word_row *row,
		    struct error *err)
{
	const char *text = *(const char **)((char *)options + row->text);

	return text ? arguments_word_of(row->name, text, row->words,
					(int *)((char *)options + row->value),
					err)
		    : 0;
}

static int set_words(struct options *options, struct error *err)
{
	int ret = 0;

	for (size_t i = 0; !ret && i < ARRAY_SIZE(word_rows); i++)
		ret = set_word(options, &word_rows[i], err);
	return ret;
}

int options_parse(struct options *options, int argc, char *const argv[],
		  struct error *err)
{
	struct arguments_seen seen;
	int ret;

	*options = (struct options){
		.api_sock = "/run/firecracker.socket",
		.id = "anonymous-instance",
		.max_payload = MAX_PAYLOAD_DEFAULT,
		.help = arguments_have(argc, argv, "--help") ||
			arguments_have(argc, argv, "-h"),
		.version = arguments_have(argc, argv, "--version"),
	};
	if (options->help || options->version)
		return 0;
	ret = arguments_parse(&table, options, argc, argv, &seen, err);
	if (!ret)
		ret = check_filters(options, err);
	if (!ret)
		ret = check_sources(options, err);
	if (!ret && arguments_saw(&table, &seen, "ready-fd"))
		ret = check_fd("ready-fd", options->ready_fd, err);
	if (!ret)
		ret = set_cgroups(options, err);
	options->has_metadata_limit =
		arguments_saw(&table, &seen, "mmds-size-limit");
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
	arguments_print_help(&table, out);
}
