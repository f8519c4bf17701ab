/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ember-jailer: makes a jail around a monitor and becomes that monitor.
 *
 * The jail is built in stages, each of which gives something up. Until exec
 * a failed stage ends the process with a sentence, and what the stages before
 * it made is taken away again. Nothing stays open but standard input, output,
 * error and what --keep-fd names.
 */
#include "jailer/descriptors.h"
#include "jailer/jail.h"
#include "vmm/vmm.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <time.h>

typedef int stage_fn(struct jail *jail, struct error *err);

/* The order matters: each line needs rights or paths that a later one gives up.
 */
static stage_fn *const stages[] = {
	jail_hold_signals,
	jail_plan,
	jail_enter_user_ns,
	jail_make_root,
	jail_place_exec_file,
	jail_join_netns,
	jail_make_net_ns,
	jail_make_cgroups,
	jail_enter_root, /* from here on paths are the jail's */
	jail_make_nodes,
	jail_make_taps,
	jail_fork,	   /* from here on it may be another process */
	jail_start_undoer, /* needs the rights that are given up next */
	jail_join_cgroups, /* late: their limits are not the jailer's */
	jail_restrict_access,
	jail_set_limits,
	jail_drop_privileges, /* from here on there is no way back */
	jail_heed_signals,    /* last: until now they can be undone */
	jail_exec,
};

static stage_fn *const cleanup_stages[] = {
	jail_plan,
	jail_clean_up,
};

static uint64_t now_us(clockid_t clock)
{
	struct timespec ts;

	clock_gettime(clock, &ts);
	return (uint64_t)ts.tv_sec * 1000000 + (uint64_t)ts.tv_nsec / 1000;
}

/* Or else errors would be written into what is opened first. */
static int open_standard_streams(struct error *err)
{
	for (int fd = STDIN_FILENO; fd <= STDERR_FILENO; fd++)
		if (fcntl(fd, F_GETFD) < 0 && open("/dev/null", O_RDWR) != fd)
			return error_set_os(err, errno,
					    "Cannot open /dev/null:");
	return 0;
}

static int fail(struct jail *jail, const struct error *err)
{
	if (jail->parent_fd >= 0) {
		jail_report(jail, err);
		_exit(EXIT_FAILURE);
	}
	jail_undo(jail);
	fprintf(stderr, "%s\nError: %s\n", err->text, err->text);
	jail_reset_signals(); /* does not return if one was held */
	return EXIT_FAILURE;
}

static int run(struct jail *jail, stage_fn *const stage[], size_t count)
{
	struct error err = {0};

	for (size_t i = 0; i < count; i++)
		if (stage[i](jail, &err))
			return fail(jail, &err);
	return EXIT_SUCCESS; /* of a cleanup: exec does not return */
}

int main(int argc, char *argv[])
{
	static struct jail jail = {.lock_fd = -1,
				   .root_fd = -1,
				   .binary_fd = -1,
				   .null_fd = -1,
				   .parent_fd = -1};
	struct error err = {0};

	jail.start_time_us = now_us(CLOCK_MONOTONIC);
	jail.start_time_cpu_us = now_us(CLOCK_PROCESS_CPUTIME_ID);
	/* What the parent had in its environment or open is not the monitor's,
	 * except for what it says is. */
	clearenv();
	if (open_standard_streams(&err) ||
	    jail_args_parse(&jail.args, argc, argv, &err) ||
	    descriptors_close(jail.args.keep, jail.args.keep_fds.count, &err))
		return fail(&jail, &err);
	if (jail.args.help || jail.args.version) {
		jail.args.help ? jail_args_print_help(stdout)
			       : (void)printf("Jailer v" VMM_API_LEVEL "\n\n");
		return EXIT_SUCCESS;
	}
	return jail.args.cleanup
		       ? run(&jail, cleanup_stages, ARRAY_SIZE(cleanup_stages))
		       : run(&jail, stages, ARRAY_SIZE(stages));
}
