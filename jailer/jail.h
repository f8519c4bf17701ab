/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A jail while it is built: what was asked for, what follows from that, and
 * what has been made so far. One thread, one process; main.c owns it and passes
 * it through the stages, each of which is one function of one file.
 *
 * A stage returns 0, or -errno with a sentence in @err that names the step, the
 * path and the reason. What it makes outside this process it notes in @undo, so
 * that a later failure takes it away again.
 */
#ifndef EMBER_JAILER_JAIL_H
#define EMBER_JAILER_JAIL_H

#include "jailer/args.h"
#include "jailer/undo.h"
#include "vmm/error.h"

#include <limits.h>
#include <sys/types.h>

/* Device nodes that a jail without root has from the host. */
#define USERNS_NODES 4

struct jail {
	struct jail_args args;

	/* The plan: pure consequences of the arguments. */
	char exec_path[PATH_MAX];	  /* canonical */
	const char *exec_name;		  /* its last component */
	char root_path[PATH_MAX];	  /* BASE/EXEC_NAME/ID/root */
	char pid_file_name[NAME_MAX + 8]; /* EXEC_NAME.pid */

	/* Open while the jail is built, -1 otherwise; all CLOEXEC. */
	int root_fd; /* O_PATH: the jail's root, also after pivot_root */
	int null_fd; /* /dev/null of the host, for --daemonize */
	int host_nodes[USERNS_NODES]; /* mounts of the host's, --new-user-ns */

	struct undo undo;

	/* When it began, for the monitor's start-up metrics. */
	uint64_t start_time_us;	    /* CLOCK_MONOTONIC */
	uint64_t start_time_cpu_us; /* CLOCK_PROCESS_CPUTIME_ID */
};

/* jailer/plan.c: what follows from the arguments, checked against the host's
 * files; nothing is made yet. */
int jail_plan(struct jail *jail, struct error *err) must_check;

/* jailer/root.c: the directories down to the jail's root, and the binary in
 * it. Opens root_fd. */
int jail_make_root(struct jail *jail, struct error *err) must_check;
int jail_place_exec_file(struct jail *jail, struct error *err) must_check;

/* jailer/userns.c: with --new-user-ns, a user namespace in which this process
 * may do what follows; ids inside are --uid and --gid, outside the caller's. */
int jail_enter_user_ns(struct jail *jail, struct error *err) must_check;

/* Device nodes cannot be made there. The host's are held as mounts while they
 * can be seen (after the mount namespace was made), and bound to files of the
 * jail's when it has a /dev. */
int jail_hold_nodes(struct jail *jail, struct error *err) must_check;
int jail_bind_nodes(struct jail *jail, struct error *err) must_check;

/* jailer/mounts.c: a mount namespace whose root is the jail's. Afterwards paths
 * mean the inside. */
int jail_enter_root(struct jail *jail, struct error *err) must_check;

/* jailer/nodes.c: /dev, /run and the device nodes, inside. */
int jail_make_nodes(struct jail *jail, struct error *err) must_check;

/* jailer/tap.c: --new-net-ns and --tap. Taps are made through the jail's own
 * /dev/net/tun, in the network namespace that the jail is in by then. */
int jail_make_net_ns(struct jail *jail, struct error *err) must_check;
int jail_make_taps(struct jail *jail, struct error *err) must_check;

/* jailer/landlock.c: what the kernel's Landlock can withhold, if it has it;
 * after no_new_privs. */
int jail_restrict_access(struct jail *jail, struct error *err) must_check;

/* jailer/process.c: background, PID namespace, pid file, exec. */
int jail_daemonize(struct jail *jail, struct error *err) must_check;
int jail_enter_pid_ns(struct jail *jail, struct error *err) must_check;
int jail_exec(struct jail *jail, struct error *err) must_check;

/* jailer/creds.c: groups, ids, capabilities; no way back. */
int jail_drop_privileges(struct jail *jail, struct error *err) must_check;

#endif
