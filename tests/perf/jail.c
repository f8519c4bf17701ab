/* SPDX-License-Identifier: Apache-2.0 */
/*
 * jail EMBER JAILER GUEST RUNS: what a jail costs, seen from outside.
 *
 * The jailer executes a copy of this program, made as long as the monitor,
 * which tells the time at the beginning of main and ends. In turn with it that
 * copy is executed without a jail. Then as many jails as JAILS are made at
 * once, and a snapshot is restored in a jail and, in turn, without one, filters
 * on in both. One line per figure, median and p10 of all runs:
 *
 *   bare_entry_us    spawn to main, without a jail
 *   jail_entry_us    spawn of the jailer to main in the jail
 *   jail_link_entry_us, jail_bind_entry_us  the same with --exec-by, if the
 *                    jailer has that
 *   jails_copy_entry_us, jails_bind_entry_us  of each among JAILS at once
 *   jails_copy_p99_us, jails_bind_p99_us      what a hundredth of them exceeds
 *   jail_mounts_entry_us  jail_entry_us on a host with MOUNTS mounts more
 *   bare_restore_us  exec of the monitor to the guest's first byte
 *   jail_restore_us  spawn of the jailer to that
 *   jail_restore_more_us  the difference
 *   jails_restore_us, jails_restore_p99_us  jail_restore_us of each among JAILS
 *                    at once
 *   jails_restored_per_s  ... what that is as a rate
 */
#include "tests/perf/perf.h"
#include "vmm/util.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <unistd.h>

#define JAILS 100
#define MOUNTS 500
#define JAIL_UID 20000
#define JAIL_UID_TEXT "20000"
#define ARGS_MAX 40

struct bench {
	const char *ember, *jailer;
	char base[48];	  /* of all jails */
	char program[64]; /* what tells the time */
	unsigned int next_id;
	struct template template;
};

/* A command line under construction. */
struct command {
	const char *argv[ARGS_MAX];
	size_t count;
	char id[16];
};

static const char *base_name(const char *path)
{
	const char *slash = strrchr(path, '/');

	return slash ? slash + 1 : path;
}

static void add(struct command *command, const char *const words[])
{
	while (*words && command->count < ARGS_MAX - 1)
		command->argv[command->count++] = *words++;
}

/* Each jail has a number of its own. */
static void jail_command(struct bench *bench, struct command *command,
			 const char *program, const char *exec_by)
{
	const char *const words[] = {
		bench->jailer, "--id",
		command->id,   "--uid",
		JAIL_UID_TEXT, "--gid",
		JAIL_UID_TEXT, "--exec-file",
		program,       "--chroot-base-dir",
		bench->base,   NULL,
	};
	const char *const how[] = {"--exec-by", exec_by, NULL};

	*command = (struct command){0};
	snprintf(command->id, sizeof(command->id), "j%u", bench->next_id++);
	add(command, words);
	if (exec_by)
		add(command, how);
}

/* ------------------------------------------------------------ until main */

/* Microseconds from @start_ns to the time that the program tells. */
static double entry_us(struct monitor *monitor, uint64_t start_ns)
{
	uint64_t told;

	if (read(monitor->console, &told, sizeof(told)) != sizeof(told))
		die("the program told no time");
	monitor_kill(monitor);
	return (double)(told - start_ns) / 1000.0;
}

static double bare_entry(struct bench *bench)
{
	const char *const argv[] = {bench->program, "--id", NULL};
	struct monitor monitor = {0};
	uint64_t start = monotonic_ns();

	monitor_spawn(&monitor, argv);
	return entry_us(&monitor, start);
}

static double jail_entry(struct bench *bench, const char *exec_by)
{
	struct monitor monitor = {0};
	struct command command;
	uint64_t start;

	jail_command(bench, &command, bench->program, exec_by);
	start = monotonic_ns();
	monitor_spawn(&monitor, command.argv);
	return entry_us(&monitor, start);
}

static void measure_one(struct bench *bench, const char *const ways[],
			size_t way_count, size_t runs)
{
	static double bare[PERF_RUNS_MAX], jailed[3][PERF_RUNS_MAX];

	bare_entry(bench); /* warms the caches */
	for (size_t run = 0; run < runs; run++) {
		bare[run] = bare_entry(bench);
		for (size_t way = 0; way < way_count; way++)
			jailed[way][run] = jail_entry(bench, ways[way]);
	}
	print_figure("bare_entry_us", bare, runs);
	for (size_t way = 0; way < way_count; way++) {
		char name[32];

		snprintf(name, sizeof(name), "jail_%s%sentry_us",
			 way ? ways[way] : "", way ? "_" : "");
		print_figure(name, jailed[way], runs);
	}
}

static void measure_many(struct bench *bench, const char *exec_by)
{
	static struct monitor monitors[JAILS];
	static struct command commands[JAILS];
	static uint64_t start[JAILS];
	static double values[JAILS];
	const char *way = exec_by ? exec_by : "copy";
	char name[32];

	for (size_t i = 0; i < JAILS; i++)
		jail_command(bench, &commands[i], bench->program, exec_by);
	for (size_t i = 0; i < JAILS; i++) {
		start[i] = monotonic_ns();
		monitor_spawn(&monitors[i], commands[i].argv);
	}
	for (size_t i = 0; i < JAILS; i++)
		values[i] = entry_us(&monitors[i], start[i]);
	snprintf(name, sizeof(name), "jails_%s_entry_us", way);
	print_figure(name, values, JAILS);
	printf("jails_%s_p99_us %.0f\n", way, values[JAILS * 99 / 100]);
}

/* Each mount namespace begins as a copy of its parent's. */
static void measure_mounts(struct bench *bench, size_t runs)
{
	static double values[PERF_RUNS_MAX];
	char dir[64];

	snprintf(dir, sizeof(dir), "%s.mounts", bench->base);
	if (mkdir(dir, 0700))
		die(dir);
	for (size_t i = 0; i < MOUNTS; i++)
		if (mount("none", dir, "tmpfs", 0, NULL))
			die(dir);
	for (size_t run = 0; run < runs; run++)
		values[run] = jail_entry(bench, NULL);
	for (size_t i = 0; i < MOUNTS; i++)
		umount2(dir, MNT_DETACH);
	rmdir(dir);
	print_figure("jail_mounts_entry_us", values, runs);
}

/* ---------------------------------------------------------------- restoring */

static double first_byte_us(const char *const argv[])
{
	struct monitor monitor = {0};
	uint64_t start = monotonic_ns();
	double us;

	monitor_spawn(&monitor, argv);
	if (monitor_byte(&monitor) != 'c')
		die("that is not the byte of a copy");
	us = since_us(start);
	monitor_kill(&monitor);
	return us;
}

static double bare_restore(struct bench *bench)
{
	const char *const argv[] = {
		bench->ember,
		"--restore",
		bench->template.state,
		"--mem",
		bench->template.memory,
		"--log-path",
		"/dev/null",
		"--no-api",
		NULL,
	};

	return first_byte_us(argv);
}

/* What an orchestrator does before it runs the jailer: the jail's root with
 * the snapshot's files in it, which all jails share. */
static void furnish(struct bench *bench, const char *id)
{
	const char *const files[][2] = {
		{bench->template.state, "state"},
		{bench->template.memory, "memory"},
		{bench->template.drive, "drive"},
	};
	const char *const parts[] = {base_name(bench->ember), id, "root"};
	char path[256];
	size_t len = (size_t)snprintf(path, sizeof(path), "%s", bench->base);

	for (size_t i = 0; i < ARRAY_SIZE(parts); i++) {
		len += (size_t)snprintf(path + len, sizeof(path) - len, "/%s",
					parts[i]);
		if (mkdir(path, 0755) && errno != EEXIST)
			die(path);
	}
	for (size_t i = 0; i < ARRAY_SIZE(files); i++) {
		snprintf(path + len, sizeof(path) - len, "/%s", files[i][1]);
		if (link(files[i][0], path))
			die(path);
	}
}

static void restore_command(struct bench *bench, struct command *command,
			    const char *exec_by)
{
	const char *const args[] = {
		"--",	   "--restore",	       "/state",   "--mem",
		"/memory", "--drive-override", "d=/drive", "--log-path",
		"/log",	   "--no-api",	       NULL,
	};

	jail_command(bench, command, bench->ember, exec_by);
	furnish(bench, command->id);
	add(command, args);
}

static double jail_restore(struct bench *bench, const char *exec_by)
{
	struct command command;

	restore_command(bench, &command, exec_by);
	return first_byte_us(command.argv);
}

/* Notes of each when its byte came, in whatever order they come. */
static void wait_for_all(struct monitor *monitors, double *us)
{
	struct pollfd fds[JAILS];
	size_t left = JAILS;

	for (size_t i = 0; i < JAILS; i++)
		fds[i] = (struct pollfd){monitors[i].console, POLLIN, 0};
	while (left > 0) {
		if (poll(fds, JAILS, 10000) <= 0)
			die("a guest said nothing");
		for (size_t i = 0; i < JAILS; i++) {
			if (!fds[i].revents)
				continue;
			us[i] = since_us(monitors[i].start_ns);
			if (monitor_byte(&monitors[i]) != 'c')
				die("that is not the byte of a copy");
			fds[i].fd = -1;
			left--;
		}
	}
}

static void measure_many_restores(struct bench *bench, const char *exec_by)
{
	static struct monitor monitors[JAILS];
	static struct command commands[JAILS];
	static double values[JAILS];
	uint64_t start;
	double rate;

	for (size_t i = 0; i < JAILS; i++)
		restore_command(bench, &commands[i], exec_by);
	start = monotonic_ns();
	for (size_t i = 0; i < JAILS; i++)
		monitor_spawn(&monitors[i], commands[i].argv);
	wait_for_all(monitors, values);
	rate = JAILS / since_us(start) * 1e6;
	monitors_kill(monitors, JAILS);
	print_figure("jails_restore_us", values, JAILS);
	printf("jails_restore_p99_us %.0f\n", values[JAILS * 99 / 100]);
	printf("jails_restored_per_s %.0f\n", rate);
	fflush(stdout);
}

static void measure_restore(struct bench *bench, const char *guest,
			    const char *exec_by, size_t runs)
{
	static double bare[PERF_RUNS_MAX], jailed[PERF_RUNS_MAX];

	template_make(&bench->template, bench->ember, guest);
	if (chown(bench->template.state, JAIL_UID, JAIL_UID) ||
	    chown(bench->template.memory, JAIL_UID, JAIL_UID) ||
	    chown(bench->template.drive, JAIL_UID, JAIL_UID))
		die("chown");
	bare_restore(bench);
	for (size_t run = 0; run < runs; run++) {
		bare[run] = bare_restore(bench);
		jailed[run] = jail_restore(bench, exec_by);
	}
	print_figure("bare_restore_us", bare, runs);
	print_figure("jail_restore_us", jailed, runs);
	printf("jail_restore_more_us %.0f p10 %.0f\n",
	       jailed[runs / 2] - bare[runs / 2],
	       jailed[runs / 10] - bare[runs / 10]);
	measure_many_restores(bench, exec_by);
}

/* -------------------------------------------------------------------- files */

/* Static programs do not mind what stands behind their end. */
static void make_program(struct bench *bench, const char *self)
{
	int from = open(self, O_RDONLY | O_CLOEXEC), to;
	struct stat own, ember;

	snprintf(bench->program, sizeof(bench->program), "%s.program",
		 bench->base);
	to = open(bench->program, O_WRONLY | O_CREAT | O_CLOEXEC, 0755);
	if (from < 0 || to < 0 || fstat(from, &own) ||
	    stat(bench->ember, &ember))
		die(bench->program);
	if (sendfile(to, from, NULL, (size_t)own.st_size) != own.st_size ||
	    ftruncate(to, MAX(own.st_size, ember.st_size)) || close(to))
		die(bench->program);
	close(from);
}

/* Whether the jailer has other ways to the binary than copying it. */
static bool has_exec_by(const char *jailer)
{
	const char *const argv[] = {jailer, "--help", NULL};
	struct monitor monitor = {0};
	char text[16384];
	size_t len = 0;
	ssize_t got;

	monitor_spawn(&monitor, argv);
	do {
		got = read(monitor.console, text + len, sizeof(text) - 1 - len);
		len += got > 0 ? (size_t)got : 0;
	} while (got > 0);
	text[len] = '\0';
	monitor_kill(&monitor);
	return strstr(text, "--exec-by") != NULL;
}

int main(int argc, char *argv[])
{
	static struct bench bench;
	const char *const ways[] = {NULL, "link", "bind"};
	uint64_t now = monotonic_ns();
	size_t runs = argc == 5 ? (size_t)atoi(argv[4]) : 0;
	bool more;

	if (argc > 1 && strcmp(argv[1], "--id") == 0)
		return write(STDOUT_FILENO, &now, sizeof(now)) != sizeof(now);
	if (runs < 1 || runs > PERF_RUNS_MAX) {
		fputs("usage: jail EMBER JAILER GUEST RUNS\n", stderr);
		return EXIT_FAILURE;
	}
	prctl(PR_SET_TIMERSLACK, 1); /* nanoseconds */
	bench.ember = argv[1];
	bench.jailer = argv[2];
	snprintf(bench.base, sizeof(bench.base), "%s/jails", scratch_dir());
	if (mkdir(bench.base, 0755))
		die(bench.base);
	make_program(&bench, argv[0]);
	more = has_exec_by(bench.jailer);
	measure_one(&bench, ways, more ? ARRAY_SIZE(ways) : 1, runs);
	measure_many(&bench, NULL);
	if (more)
		measure_many(&bench, "bind");
	measure_mounts(&bench, runs);
	measure_restore(&bench, argv[3], more ? "bind" : NULL, runs);
	return EXIT_SUCCESS;
}
