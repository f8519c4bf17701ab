/* SPDX-License-Identifier: Apache-2.0 */
#include "jailer/args.h"

#include "jailer/descriptors.h"
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
	{"keep-fd", ARGUMENT_LIST, AT(keep_fds), NULL,
	 "descriptor to leave open for the monitor"},
	{"late-cgroup", ARGUMENT_SWITCH, AT(late_cgroup), NULL,
	 "let the monitor join its cgroups when its microVM is there"},
	{"netns", ARGUMENT_TEXT, AT(netns), NULL,
	 "path of a network namespace to join"},
	{"new-net-ns", ARGUMENT_SWITCH, AT(new_net_ns), NULL,
	 "run in a network namespace of its own"},
	{"new-pid-ns", ARGUMENT_SWITCH, AT(new_pid_ns), NULL,
	 "run as first process of a new PID namespace"},
	{"new-user-ns", ARGUMENT_SWITCH, AT(new_user_ns), NULL,
	 "need no root: uid and gid are the caller's, seen from inside"},
	{"no-landlock", ARGUMENT_SWITCH, AT(no_landlock), NULL,
	 "restrict no access by Landlock"},
	{"parent-cgroup", ARGUMENT_TEXT, AT(parent_cgroup), NULL,
	 "cgroup to make the microVM's below [name of the binary]"},
	{"resource-limit", ARGUMENT_LIST, AT(resource_limits), NULL,
	 "fsize=BYTES or no-file=N [no-file=2048]"},
	{"tap", ARGUMENT_LIST, AT(tap_list), NULL,
	 "NAME[,addr=ADDRESS/PREFIX][,mac=MAC][,mtu=N]: a tap to make"},
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

/* Where the network comes from. Only who owns a network namespace can make
 * taps in it. */
static int check_network(const struct jail_args *args, struct error *err)
{
	if (args->netns && args->new_net_ns)
		return arguments_excluded("netns", "new-net-ns", err);
	if (args->netns && args->new_user_ns)
		return arguments_excluded("netns", "new-user-ns", err);
	if (args->new_user_ns && args->tap_list.count > 0 && !args->new_net_ns)
		return arguments_missing("new-net-ns", err);
	return 0;
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
	if (!ret)
		ret = check_ids(args, err);
	if (!ret)
		ret = check_network(args, err);
	if (!ret)
		ret = descriptors_parse(&args->keep_fds, args->keep, err);
	return ret ? ret : tap_specs_parse(args->taps, &args->tap_list, err);
}

void jail_args_print_help(FILE *out)
{
	fputs("ember-jailer: runs a monitor in a jail\n\n"
	      "Usage: ember-jailer [options] [-- options of the monitor]\n\n",
	      out);
	arguments_print_help(&table, out);
}
