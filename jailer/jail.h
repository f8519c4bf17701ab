/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A jail while it is built: what was asked for, what follows from that, and
 * what has been made so far. main.c owns it and passes it through the stages,
 * each of which is one function of one file. There is one thread, but for
 * undoer.c's, which does nothing until a stage has failed.
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
#include <pthread.h>
#include <semaphore.h>
#include <sys/types.h>

/* Device nodes that a jail without root has from the host. */
#define USERNS_NODES 4

#define JAIL_CGROUPS_MAX 16

struct jail {
	struct jail_args args;

	/* The plan: pure consequences of the arguments. */
	char exec_path[PATH_MAX];	  /* canonical */
	const char *exec_name;		  /* its last component */
	char base_path[PATH_MAX];	  /* canonical */
	char root_path[PATH_MAX];	  /* BASE/EXEC_NAME/ID/root */
	char pid_file_name[NAME_MAX + 8]; /* EXEC_NAME.pid */
	int uffd_minor;			  /* of /dev/userfaultfd, or -1 */

	/* Open while the jail is built, -1 otherwise; all CLOEXEC. */
	int lock_fd;   /* directory ID, locked against others of our kind */
	int root_fd;   /* the jail's root, also after pivot_root */
	int binary_fd; /* the binary of the host, for --exec-by bind */
	int null_fd;   /* /dev/null of the host, for --daemonize */
	int parent_fd; /* in a child: to the process that waits for exec */

	/* The cgroups that were made: the files that take a PID, those of
	 * where the process is now, and the directories' paths. */
	int cgroup_fds[JAIL_CGROUPS_MAX];
	int cgroup_homes[JAIL_CGROUPS_MAX]; /* -1: not known */
	char cgroup_paths[JAIL_CGROUPS_MAX][PATH_MAX];
	size_t cgroup_count;
	int host_nodes[USERNS_NODES]; /* mounts of the host's, --new-user-ns */

	struct undo undo;
	struct {
		bool there;
		sem_t asked, done;
	} undoer;

	/* When it began, for the monitor's start-up metrics. */
	uint64_t start_time_us;	    /* CLOCK_MONOTONIC */
	uint64_t start_time_cpu_us; /* CLOCK_PROCESS_CPUTIME_ID */
};

/* jailer/signals.c: signals that would end this process are held from the first
 * to the last stage, where one that came is -EINTR; the mask and the handling
 * of signals are then as in a new process. A held one takes effect by that. */
int jail_hold_signals(struct jail *jail, struct error *err) must_check;
int jail_heed_signals(struct jail *jail, struct error *err) must_check;
void jail_reset_signals(void);

/* jailer/plan.c: what follows from the arguments, checked against the host's
 * files; nothing is made yet. */
int jail_plan(struct jail *jail, struct error *err) must_check;

/* jailer/root.c: the directories down to the jail's root, and the binary in
 * it. Opens lock_fd and root_fd. */
int jail_make_root(struct jail *jail, struct error *err) must_check;
int jail_place_exec_file(struct jail *jail, struct error *err) must_check;

/* jailer/userns.c: with --new-user-ns, a user namespace in which this process
 * may do what follows; ids inside are --uid and --gid, outside the caller's. */
int jail_enter_user_ns(struct jail *jail, struct error *err) must_check;

/* Device nodes cannot be made there: the host's are held as mounts while they
 * can be seen, and each is bound to a file when the jail has a /dev. One that
 * the host lacks, and that is not needed, is left out. -errno. */
int userns_bind_node(struct jail *jail, int dir_fd, const char *path,
		     const char *name) must_check;

/* jailer/netns.c: the network namespace of --netns. */
int jail_join_netns(struct jail *jail, struct error *err) must_check;

/* jailer/cgroup.c: makes the cgroups, sets their values, and fills in
 * cgroup_fds; moves this process there, and closes them, unless that is left
 * to the monitor; for --cleanup, removes the jail's own again. */
int jail_make_cgroups(struct jail *jail, struct error *err) must_check;
int jail_join_cgroups(struct jail *jail, struct error *err) must_check;
int jail_remove_cgroups(const struct jail *jail, struct error *err) must_check;

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
 * before limits (it needs descriptors) and while it may: with rights, or after
 * no_new_privs. */
int jail_restrict_access(struct jail *jail, struct error *err) must_check;

/* jailer/process.c: background, PID namespace and pid file. Where that takes
 * another process, only the new one comes back from it; the one that the caller
 * started waits for the exec and ends with 0, or comes back with the reason why
 * there was none. */
int jail_fork(struct jail *jail, struct error *err) must_check;

/* jailer/process.c: what a child tells that process: an error, or that exec is
 * next. */
void jail_report(const struct jail *jail, const struct error *err);
void jail_announce_exec(const struct jail *jail);

/* jailer/undoer.c: keeps a way to undo after privileges were dropped; undoes.
 */
int jail_start_undoer(struct jail *jail, struct error *err) must_check;
void jail_undo(struct jail *jail);

/* jailer/rlimit.c: resource limits. */
int jail_set_limits(struct jail *jail, struct error *err) must_check;

/* jailer/creds.c: groups, ids, capabilities; no way back. */
int jail_drop_privileges(struct jail *jail, struct error *err) must_check;

/* jailer/exec.c: the monitor, with its arguments. */
int jail_exec(struct jail *jail, struct error *err) must_check;

/* jailer/cleanup.c: removes what is left of a jail that nobody lives in. */
int jail_clean_up(struct jail *jail, struct error *err) must_check;

#endif
