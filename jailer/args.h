/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The jailer's command line, read with vmm/arguments.h. Everything after `--`
 * is the monitor's.
 */
#ifndef EMBER_JAILER_ARGS_H
#define EMBER_JAILER_ARGS_H

#include "jailer/tap.h"
#include "vmm/arguments.h"

/* How the binary gets into the jail. */
enum jail_exec_by {
	JAIL_EXEC_COPY, /* a copy that the microVM's user owns */
	JAIL_EXEC_LINK, /* a hard link, or a copy where that is not possible */
	JAIL_EXEC_BIND, /* the host's file itself, mounted read-only */
};

/* What --resource-limit asks for. */
struct jail_limits {
	bool has_fsize;
	uint64_t fsize;	  /* bytes */
	uint64_t no_file; /* descriptors */
};

/* Strings point into argv. NULL or 0: not given. */
struct jail_args {
	const char *id;
	const char *exec_file;
	uint64_t uid, gid; /* 32 bits */
	const char *chroot_base_dir;
	const char *netns;
	bool daemonize;
	bool new_pid_ns;
	struct argument_list cgroups; /* FILE=VALUE */
	uint64_t cgroup_version;      /* 1 or 2 */
	const char *parent_cgroup;
	struct argument_list resource_limits; /* fsize=BYTES, no-file=N */
	struct jail_limits limits;	      /* the same, as numbers */
	const char *exec_by_text;
	enum jail_exec_by exec_by;
	struct argument_list keep_fds; /* see keep */
	int keep[ARGUMENT_LIST_MAX];   /* ascending, from 3 on, open */
	bool late_cgroup;
	bool new_net_ns;
	bool new_user_ns;
	bool no_landlock;
	struct argument_list tap_list; /* see taps */
	struct tap_spec taps[ARGUMENT_LIST_MAX];
	bool cleanup;
	bool help;
	bool version;

	char *const *extra; /* what goes behind the monitor's own arguments */
	int extra_count;
};

/* Fills in @args with defaults and arguments, and checks what can be checked
 * without looking at the host. --help and --version end the checks. -EINVAL
 * with the reason in @err. */
int jail_args_parse(struct jail_args *args, int argc, char *const argv[],
		    struct error *err) must_check;

void jail_args_print_help(FILE *out);

#endif
