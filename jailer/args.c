/* SPDX-License-Identifier: Apache-2.0 */
#include "jailer/args.h"

#include "jailer/cgroup.h"
#include "jailer/descriptors.h"
#include "vmm/options.h"

#include <errno.h>
#include <string.h>

#define NO_FILE_DEFAULT 2048

#define AT(field) offsetof(struct jail_args, field)

static const struct argument_row rows[] = {
	{"cgroup", ARGUMENT_LIST, AT(cgroups), NULL,
	 "FILE=VALUE: a value for a file of the microVM's cgroup"},
	{"cgroup-version", ARGUMENT_NUMBER, AT(cgroup_version), NULL,
	 "1 or 2 [1]"},
	{"chroot-base-dir", ARGUMENT_TEXT, AT(chroot_base_dir), NULL,
	 "directory that all jails are in [/srv/jailer]"},
	{"cleanup", ARGUMENT_SWITCH, AT(cleanup), NULL,
	 "start nothing: remove the jail that these arguments made"},
	{"daemonize", ARGUMENT_SWITCH, AT(daemonize), NULL,
	 "go into the background, with /dev/null as terminal"},
	{"exec-by", ARGUMENT_TEXT, AT(exec_by_text), NULL,
	 "how the binary gets into the jail: copy, link or bind [copy]"},
	{"exec-file", ARGUMENT_TEXT, AT(exec_file), ARGUMENT_REQUIRED,
	 "the monitor's binary"},
	{"gid", ARGUMENT_NUMBER, AT(gid), NULL, "group to run as"},
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
	{"uid", ARGUMENT_NUMBER, AT(uid), NULL, "user to run as"},
	{"version", ARGUMENT_SWITCH, AT(version), NULL, "print the version"},
};

static const struct argument_table table = {rows, ARRAY_SIZE(rows)};

/* The last number of 32 bits means "as it is" to the calls that set ids, so
 * that a process would stay root. */
static int check_number(const char *name, uint64_t id, struct error *err)
{
	if (id < UINT32_MAX)
		return 0;
	return error_set(err, EINVAL,
			 "'%lu' of argument '%s' is not below 4294967295.", id,
			 name);
}

/* Both must be there, except that a jail goes away without them. */
static int check_ids(const struct jail_args *args,
		     const struct arguments_seen *seen, struct error *err)
{
	int ret;

	if (!args->cleanup && !arguments_saw(&table, seen, "uid"))
		return arguments_missing("uid", err);
	if (!args->cleanup && !arguments_saw(&table, seen, "gid"))
		return arguments_missing("gid", err);
	ret = check_number("uid", args->uid, err);
	return ret ? ret : check_number("gid", args->gid, err);
}

static int check_cgroups(const struct jail_args *args, struct error *err)
{
	int ret = 0;

	if (args->cgroup_version != 1 && args->cgroup_version != 2)
		return error_set(err, EINVAL,
				 "Invalid cgroup version %lu: there are 1 and "
				 "2.",
				 args->cgroup_version);
	if (args->late_cgroup && args->cgroups.count == 0 &&
	    !(args->cgroup_version == 2 && args->parent_cgroup))
		return arguments_missing("cgroup", err);
	if (args->parent_cgroup)
		ret = cgroup_check_parent(args->parent_cgroup, err);
	for (size_t i = 0; !ret && i < args->cgroups.count; i++) {
		struct cgroup_value value;

		ret = cgroup_parse_value(args->cgroups.values[i], &value, err);
	}
	return ret;
}

static int set_limit(struct jail_limits *limits, const char *text,
		     struct error *err)
{
	const char *value = strchr(text, '=');
	size_t len = value ? (size_t)(value - text) : 0;
	uint64_t *number = NULL;

	if (len == strlen("fsize") && !memcmp(text, "fsize", len))
		number = &limits->fsize;
	else if (len == strlen("no-file") && !memcmp(text, "no-file", len))
		number = &limits->no_file;
	if (!number || arguments_number(value + 1, number))
		return error_set(err, EINVAL,
				 "Invalid format for resources: '%s' is "
				 "neither fsize=BYTES nor no-file=NUMBER.",
				 text);
	limits->has_fsize |= number == &limits->fsize;
	return 0;
}

static int set_limits(struct jail_args *args, struct error *err)
{
	int ret = 0;

	args->limits.no_file = NO_FILE_DEFAULT;
	for (size_t i = 0; !ret && i < args->resource_limits.count; i++)
		ret = set_limit(&args->limits, args->resource_limits.values[i],
				err);
	return ret;
}

static int set_exec_by(struct jail_args *args, struct error *err)
{
	static const struct argument_word words[] = {
		{"copy", JAIL_EXEC_COPY},
		{"link", JAIL_EXEC_LINK},
		{"bind", JAIL_EXEC_BIND},
		{NULL, 0},
	};
	int value = JAIL_EXEC_COPY;
	int ret = args->exec_by_text
			  ? arguments_word_of("exec-by", args->exec_by_text,
					      words, &value, err)
			  : 0;

	args->exec_by = (enum jail_exec_by)value;
	return ret;
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
		ret = options_check_id(args->id, err);
	if (!ret)
		ret = check_ids(args, &seen, err);
	if (!ret)
		ret = check_cgroups(args, err);
	if (!ret)
		ret = set_limits(args, err);
	if (!ret)
		ret = set_exec_by(args, err);
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
