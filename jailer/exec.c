/* SPDX-License-Identifier: Apache-2.0 */
#include "jailer/jail.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>

/* Ours, with the NULL at the end. */
#define MONITOR_ARGS (10 + 2 * JAIL_CGROUPS_MAX)

static uint64_t cpu_us(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &ts);
	return (uint64_t)ts.tv_sec * 1000000 + (uint64_t)ts.tv_nsec / 1000;
}

/* With --late-cgroup: the files that are left open, and their numbers as
 * arguments. */
static void hand_over_cgroups(const struct jail *jail, char **argv,
			      size_t *count, char numbers[JAIL_CGROUPS_MAX][16])
{
	for (size_t i = 0; i < jail->cgroup_count; i++) {
		fcntl(jail->cgroup_fds[i], F_SETFD, 0);
		snprintf(numbers[i], sizeof(numbers[i]), "%d",
			 jail->cgroup_fds[i]);
		argv[(*count)++] = (char *)(uintptr_t) "--cgroup-fd";
		argv[(*count)++] = numbers[i];
	}
}

int jail_exec(struct jail *jail, struct error *err)
{
	char **argv = calloc((size_t)jail->args.extra_count + MONITOR_ARGS,
			     sizeof(*argv));
	char *const environment[] = {NULL};
	char cgroups[JAIL_CGROUPS_MAX][16];
	char path[NAME_MAX + 2], start[32], start_cpu[32], parent_cpu[32];
	size_t count = 0;
	int code;

	if (!argv)
		return error_set_os(err, ENOMEM, "No memory:");
	snprintf(path, sizeof(path), "/%s", jail->exec_name);
	snprintf(start, sizeof(start), "%lu", jail->start_time_us);
	snprintf(start_cpu, sizeof(start_cpu), "%lu", jail->start_time_cpu_us);
	snprintf(parent_cpu, sizeof(parent_cpu), "%lu", cpu_us());
	argv[count++] = path;
	argv[count++] = (char[]){"--id"};
	argv[count++] = (char *)(uintptr_t)jail->args.id;
	argv[count++] = (char[]){"--start-time-us"};
	argv[count++] = start;
	argv[count++] = (char[]){"--start-time-cpu-us"};
	argv[count++] = start_cpu;
	argv[count++] = (char[]){"--parent-cpu-time-us"};
	argv[count++] = parent_cpu;
	hand_over_cgroups(jail, argv, &count, cgroups);
	for (int i = 0; i < jail->args.extra_count; i++)
		argv[count++] = jail->args.extra[i];
	jail_reset_signals();
	jail_announce_exec(jail);
	execve(path, argv, environment);
	code = errno;
	free(argv);
	return error_set_os(err, code, "Failed to exec %s in the jail:", path);
}
