/* SPDX-License-Identifier: Apache-2.0 */
/*
 * filter EMBER CLONE EXITS RUNS: what the system call filters cost.
 *
 * A monitor with filters and one without (--no-seccomp) are started in turn, so
 * that others on the machine are in both, and their medians and 10th
 * percentiles are compared. CLONE and EXITS are tests/guests/clone and exits.
 * One line per figure:
 *
 *   filter_api_us         how much later the API answers, from the exec on
 *   filter_first_byte_us  ... and a restored guest says its first byte
 *   exit_us               an exit to user space and back, without filters
 *   filter_exit_ratio     the same with filters, in ratio to it: of their 10th
 *                         percentiles
 */
#include "tests/perf/perf.h"
#include "vmm/util.h"

#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>

#define EXITS 20000 /* tests/guests/exits.c */
#define ARGS_MAX 16

enum way { BARE, FILTERED, WAYS };

enum figure { API, FIRST_BYTE, EXIT, FIGURES };

/* Starts the monitor with the arguments up to NULL. */
static void spawn(struct monitor *monitor, const char *const args[],
		  enum way way)
{
	const char *argv[ARGS_MAX] = {NULL};
	size_t count = 0;

	while (args[count] && count < ARGS_MAX - 2) {
		argv[count] = args[count];
		count++;
	}
	if (way == BARE)
		argv[count] = "--no-seccomp";
	monitor_spawn(monitor, argv);
}

static void spawn_api(struct monitor *monitor, const char *ember, enum way way)
{
	const char *const args[] = {
		ember,	      "--api-sock", monitor->socket_path,
		"--log-path", "/dev/null",  NULL,
	};

	monitor_name_socket(monitor, 0);
	spawn(monitor, args, way);
}

static double api_us(const char *ember, enum way way)
{
	struct monitor monitor = {0};
	uint64_t start = monotonic_ns();
	double us;

	spawn_api(&monitor, ember, way);
	monitor_connect(&monitor, start);
	monitor_request(&monitor, "GET", "/", "");
	us = since_us(start);
	monitor_kill(&monitor);
	return us;
}

static double first_byte_us(const char *ember, const struct template *template,
			    enum way way)
{
	const char *const args[] = {
		ember,	     "--restore",      template->state,
		"--mem",     template->memory, "--log-path",
		"/dev/null", "--no-api",       NULL,
	};
	struct monitor monitor = {0};
	uint64_t start = monotonic_ns();
	double us;

	spawn(&monitor, args, way);
	if (monitor_byte(&monitor) != 'c')
		die("that is not the byte of a copy");
	us = since_us(start);
	monitor_kill(&monitor);
	return us;
}

static double exit_us(const char *ember, const char *guest, enum way way)
{
	struct monitor monitor = {0};
	uint64_t start;
	double us;

	spawn_api(&monitor, ember, way);
	monitor_connect(&monitor, monotonic_ns());
	monitor_configure(&monitor, guest, 64);
	monitor_request(&monitor, "PUT", "/actions",
			"{\"action_type\":\"InstanceStart\"}");
	monitor_expect(&monitor, "s");
	start = monotonic_ns();
	monitor_expect(&monitor, "e");
	us = since_us(start) / EXITS;
	monitor_kill(&monitor);
	return us;
}

/* Both sorted: how much more the one with filters takes. */
static void print_more(const char *name, double values[WAYS][PERF_RUNS_MAX],
		       size_t runs)
{
	for (enum way way = BARE; way < WAYS; way++)
		median(values[way], runs);
	printf("%s %.0f p10 %.0f\n", name,
	       values[FILTERED][runs / 2] - values[BARE][runs / 2],
	       values[FILTERED][runs / 10] - values[BARE][runs / 10]);
	fflush(stdout);
}

static void print_exits(double values[WAYS][PERF_RUNS_MAX], size_t runs)
{
	for (enum way way = BARE; way < WAYS; way++)
		median(values[way], runs);
	printf("exit_us %.1f p10 %.1f\n", values[BARE][runs / 2],
	       values[BARE][runs / 10]);
	printf("filter_exit_ratio %.2f\n",
	       values[FILTERED][runs / 10] / values[BARE][runs / 10]);
}

int main(int argc, char *argv[])
{
	static double values[FIGURES][WAYS][PERF_RUNS_MAX];
	size_t runs = argc == 5 ? (size_t)atoi(argv[4]) : 0;
	size_t exit_runs = (runs + 3) / 4;
	struct template template;

	if (runs < 1 || runs > PERF_RUNS_MAX) {
		fputs("usage: filter EMBER CLONE EXITS RUNS\n", stderr);
		return EXIT_FAILURE;
	}
	prctl(PR_SET_TIMERSLACK, 1); /* nanoseconds */
	template_make(&template, argv[1], argv[2]);
	api_us(argv[1], FILTERED); /* warms the caches */
	for (size_t run = 0; run < runs; run++)
		for (size_t i = BARE; i < WAYS; i++) {
			/* Who comes first is at a disadvantage. */
			enum way way = (enum way)((i + run) % WAYS);

			values[API][way][run] = api_us(argv[1], way);
			values[FIRST_BYTE][way][run] =
				first_byte_us(argv[1], &template, way);
			if (run < exit_runs)
				values[EXIT][way][run] =
					exit_us(argv[1], argv[3], way);
		}
	print_more("filter_api_us", values[API], runs);
	print_more("filter_first_byte_us", values[FIRST_BYTE], runs);
	print_exits(values[EXIT], exit_runs);
	return EXIT_SUCCESS;
}
