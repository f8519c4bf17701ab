/* SPDX-License-Identifier: Apache-2.0 */
#include "jailer/args.h"

#include "vmm/options.h"

#include <errno.h>

#define AT(field) offsetof(struct jail_args, field)

static const struct argument_row rows[] = {
	{"cgroup", ARGUMENT_LIST, AT(cgroups), NULL,
	 "FILE=VALUE: a value for a file of the microVM's cgroup"},
	{"cgroup-version", ARGUMENT_NUMBER, AT(cgroup_version), NULL,
	 "1 or 2 [1]"},
	{"chroot-base-dir", ARGUMENT_TEXT, AT(chroot_base_dir), NULL,
	 "directory that all jails are in [/srv/jailer]"},
	{"daemonize", ARGUMENT_SWITCH, AT(daemonize), NULL,
	 "go into the background, with /dev/null as terminal"},
	{"exec-file", ARGUMENT_TEXT, AT(exec_file), ARGUMENT_REQUIRED,
	 "the monitor's binary"},
	{"gid", ARGUMENT_NUMBER, AT(gid), ARGUMENT_REQUIRED, "group to run as"},
	{"help", ARGUMENT_SWITCH, AT(help), NULL, "print this text"},
	{"id", ARGUMENT_TEXT, AT(id), ARGUMENT_REQUIRED,
	 "name of the microVM and of its jail"},
	{"netns", ARGUMENT_TEXT, AT(netns), NULL,
	 "path of a network namespace to join"},
	{"new-pid-ns", ARGUMENT_SWITCH, AT(new_pid_ns), NULL,
	 "run as first process of a new PID namespace"},
	{"parent-cgroup", ARGUMENT_TEXT, AT(parent_cgroup), NULL,
	 "cgroup to make the microVM's below [name of the binary]"},
	{"resource-limit", ARGUMENT_LIST, AT(resource_limits), NULL,
	 "fsize=BYTES or no-file=N [no-file=2048]"},
	{"uid", ARGUMENT_NUMBER, AT(uid), ARGUMENT_REQUIRED, "user to run as"},
	{"version", ARGUMENT_SWITCH, AT(version), NULL, "print the version"},
};

static const struct argument_table table = {rows, ARRAY_SIZE(rows)};

static int check_ids(const struct jail_args *args, struct error *err)
{
	if (args->uid > UINT32_MAX || args->gid > UINT32_MAX)
		return error_set(err, EINVAL,
				 "uid and gid are numbers of 32 bits.");
	return options_check_id(args->id, err);
}

int jail_args_parse(struct jail_args *args, int argc, char *const argv[],
		    struct error *err)
{
	struct arguments_seen seen;
	int ret;

	*args = (struct jail_args){
		.chroot_base_dir = "/srv/jailer",
		.cgroup_version = 1,
		.help = arguments_have(argc, argv, "--help") ||
			arguments_have(argc, argv, "-h"),
		.version = arguments_have(argc, argv, "--version"),
	};
	if (args->help || args->version)
		return 0;
	ret = arguments_parse(&table, args, argc, argv, &seen, err);
	args->extra = argv + seen.end;
	args->extra_count = argc - seen.end;
	return ret ? ret : check_ids(args, err);
}

void jail_args_print_help(FILE *out)
{
	fputs("ember-jailer: runs a monitor in a jail\n\n"
	      "Usage: ember-jailer [options] [-- options of the monitor]\n\n",
	      out);
	arguments_print_help(&table, out);
}
