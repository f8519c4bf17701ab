/* SPDX-License-Identifier: Apache-2.0 */
/*
 * restore EMBER GUEST RUNS: what it costs to run a copy of a snapshot, seen
 * from outside.
 *
 * A guest of one vCPU, 128 MiB and a drive is saved. Each run executes
 * `ember --restore` and waits for the guest's first byte, which is the first
 * thing it does as a copy; then for the API. In turn with it a program is
 * executed that does nothing but create the KVM objects that such a machine
 * has, and runs two instructions: the floor. One line per figure:
 *
 *   restore_first_byte_us  exec of the monitor to the guest's first byte
 *   restore_floor_us       the same for the bare program
 *   restore_ratio          of these two, of their 10th percentiles: on a busy
 *                          machine medians tell who else was running
 *   restore_api_us         exec of the monitor to the answer of GET /
 *   load_call_us           PUT /snapshot/load of a monitor that waits for it,
 * to its answer load_first_byte_us     ... to the guest's first byte
 *   restore_rss_kib        resident memory beside guest RAM, after that
 *   restore_dirty_kib      the private and dirty part of it
 *   restore_ram_dirty_kib  guest RAM that is the copy's own
 *   phases restore         what the time to the first byte consists of, as far
 *                          as the monitor and its metrics tell
 */
#include "tests/perf/floor.h"
#include "tests/perf/perf.h"
#include "vmm/util.h"

#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <time.h>
#include <unistd.h>

#define RAM_KIB (128 * 1024)

enum figure {
	FIRST_BYTE,
	FLOOR,
	API,
	LOAD_CALL,
	LOAD_BYTE,
	RSS,
	DIRTY,
	RAM_DIRTY,
	FIGURES,
};

static const char *const names[FIGURES] = {
	"restore_first_byte_us", "restore_floor_us",	  "restore_api_us",
	"load_call_us",		 "load_first_byte_us",	  "restore_rss_kib",
	"restore_dirty_kib",	 "restore_ram_dirty_kib",
};

enum phase { SPAWN, UNTIL_MAIN, LOAD };

/* From LOAD on they are metrics, with load_ before their names. */
static const char *const phase_names[] = {
	"spawn_and_exec",
	"libc_and_arguments",
	"state_file",
	"config",
	"vm",
	"memory",
	"working_set",
	"vcpus",
	"devices",
	"identity",
	"start",
	"guest_to_first_byte",
	NULL,
};
#define LAST (ARRAY_SIZE(phase_names) - 2)

/* The last phase is what the others leave of the whole. */
static void divide(struct monitor *monitor, double whole, double *us)
{
	static char text[65536];
	char name[64];

	monitor_metrics(monitor, text, sizeof(text));
	us[SPAWN] = (double)(monitor->exec_ns - monitor->start_ns) / 1000;
	us[UNTIL_MAIN] =
		MAX(metric_in(text, "process_startup_time_us") - us[SPAWN], 0);
	for (size_t i = LOAD; i < LAST; i++) {
		snprintf(name, sizeof(name), "load_%s", phase_names[i]);
		us[i] = metric_in(text, name);
	}
	us[LAST] = whole;
	for (size_t i = 0; i < LAST; i++)
		us[LAST] -= us[i];
}

static void measure_floor(const char *self, double *values)
{
	const char *const argv[] = {self, FLOOR_ARGUMENT, NULL};
	struct monitor monitor = {0};
	uint64_t start = monotonic_ns();

	monitor_spawn(&monitor, argv);
	monitor_byte(&monitor);
	values[FLOOR] = since_us(start);
	monitor_kill(&monitor);
}

static void spawn(struct monitor *monitor, const char *const argv[],
		  double *first_byte_us)
{
	uint64_t start = monotonic_ns();

	monitor_spawn(monitor, argv);
	if (monitor_byte(monitor) != 'c')
		die("that is not the byte of a copy");
	*first_byte_us = since_us(start);
	monitor_connect(monitor, start);
	monitor_request(monitor, "GET", "/", "");
}

static void measure(const char *ember, const struct template *template,
		    double *values)
{
	const char *argv[] = TEMPLATE_ARGV(ember, template);
	uint64_t start = monotonic_ns();
	struct monitor monitor;
	struct memory memory;

	monitor_name_socket(&monitor, 0);
	argv[TEMPLATE_ARGV_SOCKET] = monitor.socket_path;
	spawn(&monitor, argv, &values[FIRST_BYTE]);
	values[API] = since_us(start);
	memory = memory_of(monitor.pid, RAM_KIB);
	values[RSS] = memory.rss;
	values[DIRTY] = memory.dirty;
	values[RAM_DIRTY] = memory.ram_dirty;
	monitor_kill(&monitor);
}

/* What those do who have monitors ready, or know only the API. The byte may
 * come before the answer. */
static void measure_load(const char *ember, const struct template *template,
			 double *values)
{
	const struct timespec settle = {.tv_nsec = 10000000};
	struct monitor monitor;
	char body[512];
	uint64_t start;

	monitor_spawn_api(&monitor, ember, 0);
	monitor_connect(&monitor, monotonic_ns());
	monitor_request(&monitor, "GET", "/", "");
	nanosleep(&settle, NULL);
	snprintf(body, sizeof(body),
		 "{\"snapshot_path\":\"%s\",\"resume_vm\":true,"
		 "\"mem_backend\":{\"backend_type\":\"File\","
		 "\"backend_path\":\"%s\"}}",
		 template->state, template->memory);
	start = monotonic_ns();
	monitor_send(&monitor, "PUT", "/snapshot/load", body);
	wait_for_both(&monitor, start, &values[LOAD_CALL], &values[LOAD_BYTE]);
	monitor_kill(&monitor);
}

/* Metrics have to be opened before: a few microseconds that others need not
 * wait for. */
static void measure_phases(const char *ember, const struct template *template,
			   double *us)
{
	struct monitor monitor;
	char start_us[24];
	const char *const argv[] = {
		ember,
		"--restore",
		template->state,
		"--mem",
		template->memory,
		"--log-path",
		"/dev/null",
		"--metrics-path",
		metrics_path(),
		"--emit-snapshot-phases",
		"--start-time-us",
		start_us,
		"--api-sock",
		monitor.socket_path,
		NULL,
	};
	double whole;

	monitor_name_socket(&monitor, 0);
	snprintf(start_us, sizeof(start_us), "%lu",
		 (unsigned long)(monotonic_ns() / 1000));
	spawn(&monitor, argv, &whole);
	divide(&monitor, whole, us);
	monitor_kill(&monitor);
}

int main(int argc, char *argv[])
{
	static double values[FIGURES][PERF_RUNS_MAX];
	static struct phases_of_run phases[PERF_RUNS_MAX];
	int runs = argc == 4 ? atoi(argv[3]) : 0;
	struct template template;

	if (argc == 2 && strcmp(argv[1], FLOOR_ARGUMENT) == 0)
		return floor_run();
	if (runs < 1 || runs > PERF_RUNS_MAX) {
		fprintf(stderr, "usage: restore EMBER GUEST RUNS\n");
		return EXIT_FAILURE;
	}
	prctl(PR_SET_TIMERSLACK, 1); /* nanoseconds */
	template_make(&template, argv[1], argv[2]);
	for (int i = -1; i < runs; i++) { /* run -1 warms the caches */
		double run[FIGURES];

		measure_floor(argv[0], run);
		measure(argv[1], &template, run);
		measure_load(argv[1], &template, run);
		measure_phases(argv[1], &template, phases[MAX(i, 0)].us);
		for (size_t f = 0; f < FIGURES && i >= 0; f++)
			values[f][i] = run[f];
	}
	for (size_t f = 0; f < FIGURES; f++)
		print_figure(names[f], values[f], (size_t)runs);
	/* Sorted by now. */
	printf("restore_ratio %.2f\n",
	       values[FIRST_BYTE][runs / 10] / values[FLOOR][runs / 10]);
	print_phases("restore", phase_names, phases, (size_t)runs);
	return EXIT_SUCCESS;
}
