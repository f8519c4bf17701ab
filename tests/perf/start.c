/* SPDX-License-Identifier: Apache-2.0 */
/*
 * start EMBER GUEST RUNS: what a start costs, seen from outside.
 *
 * Each run executes the monitor, waits for its API to answer, configures a
 * guest of one vCPU and 128 MiB whose first act is a byte on COM1, starts it
 * and waits for that byte. Prints one line per figure, median and p10 of all
 * runs:
 *
 *   api_wall_us     exec to the answer of GET /
 *   api_cpu_us      CPU time of all the monitor's threads until then
 *   start_call_us   PUT InstanceStart to its answer
 *   first_byte_us   PUT InstanceStart to the guest's first byte
 *   rss_kib         resident memory beside guest RAM, after that byte
 *   dirty_kib       the private and dirty part of it
 *   phases boot     what there is to wait for from exec to first byte, one
 *                   after the other; who configures takes no time
 */
#include "tests/perf/perf.h"
#include "vmm/util.h"

#include <dirent.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <time.h>
#include <unistd.h>

#define GUEST_RAM_MIB 128

enum figure {
	API_WALL,
	API_CPU,
	START_CALL,
	FIRST_BYTE,
	RSS,
	DIRTY,
	FIGURES,
};

static const char *const names[FIGURES] = {
	"api_wall_us",	 "api_cpu_us", "start_call_us",
	"first_byte_us", "rss_kib",    "dirty_kib",
};

enum phase {
	SPAWN,
	UNTIL_MAIN,
	UNTIL_ANSWER,
	MACHINE_CONFIG,
	BOOT_SOURCE,
	INSTANCE_START,
	UNTIL_BYTE,
};

static const char *const phase_names[] = {
	[SPAWN] = "spawn_and_exec",
	[UNTIL_MAIN] = "libc_and_arguments",
	[UNTIL_ANSWER] = "API_up,_first_answer",
	[MACHINE_CONFIG] = "PATCH_machine-config",
	[BOOT_SOURCE] = "PUT_boot-source",
	[INSTANCE_START] = "InstanceStart",
	[UNTIL_BYTE] = "guest_to_first_byte",
	[UNTIL_BYTE + 1] = NULL,
};

/* CPU time of every thread. */
static double cpu_us(pid_t pid)
{
	char path[64];
	double total = 0;
	DIR *tasks;

	snprintf(path, sizeof(path), "/proc/%d/task", pid);
	tasks = opendir(path);
	if (!tasks)
		die(path);
	for (struct dirent *task = readdir(tasks); task; task = readdir(tasks))
		if (task->d_name[0] != '.')
			total += thread_cpu_us(pid, atoi(task->d_name));
	closedir(tasks);
	return total;
}

static double timed_request(struct monitor *monitor, const char *method,
			    const char *path, const char *body)
{
	uint64_t start = monotonic_ns();

	monitor_request(monitor, method, path, body);
	return since_us(start);
}

/* What monitor_configure does, by the clock. */
static void configure(struct monitor *monitor, const char *guest, double *us)
{
	char body[512];

	snprintf(body, sizeof(body), "{\"vcpu_count\":1,\"mem_size_mib\":%d}",
		 GUEST_RAM_MIB);
	us[MACHINE_CONFIG] =
		timed_request(monitor, "PATCH", "/machine-config", body);
	snprintf(body, sizeof(body), "{\"kernel_image_path\":\"%s\"}", guest);
	us[BOOT_SOURCE] = timed_request(monitor, "PUT", "/boot-source", body);
}

static void spawn(struct monitor *monitor, const char *ember, double *values)
{
	uint64_t start = monotonic_ns();

	monitor_spawn_api(monitor, ember, 0);
	monitor_connect(monitor, start);
	monitor_request(monitor, "GET", "/", "");
	values[API_WALL] = since_us(start);
}

static void configure_and_start(struct monitor *monitor, const char *guest,
				double *values, double *us)
{
	const struct timespec settle = {.tv_nsec = 20000000};
	uint64_t start;

	configure(monitor, guest, us);
	/* An orchestrator has other things to do between configuring and
	 * starting; what the monitor still has to tidy up is done by then. */
	nanosleep(&settle, NULL);
	start = monotonic_ns();
	monitor_send(monitor, "PUT", "/actions",
		     "{\"action_type\":\"InstanceStart\"}");
	wait_for_both(monitor, start, &values[START_CALL], &values[FIRST_BYTE]);
}

static void measure(const char *ember, const char *guest, double *values)
{
	double us[PERF_PHASES_MAX];
	struct monitor monitor;
	struct memory memory;

	spawn(&monitor, ember, values);
	values[API_CPU] = cpu_us(monitor.pid);
	configure_and_start(&monitor, guest, values, us);
	memory = memory_of(monitor.pid, GUEST_RAM_MIB * 1024);
	values[RSS] = memory.rss;
	values[DIRTY] = memory.dirty;
	monitor_kill(&monitor);
}

/* The monitor itself knows when it began to work. Metrics take memory, which
 * others need not have. */
static void measure_phases(const char *ember, const char *guest, double *us)
{
	static char text[65536];
	struct monitor monitor;
	double values[FIGURES];

	spawn(&monitor, ember, values);
	snprintf(text, sizeof(text), "{\"metrics_path\":\"%s\"}",
		 metrics_path());
	monitor_request(&monitor, "PUT", "/metrics", text);
	configure_and_start(&monitor, guest, values, us);
	monitor_metrics(&monitor, text, sizeof(text));
	us[SPAWN] = (double)(monitor.exec_ns - monitor.start_ns) / 1000;
	us[UNTIL_MAIN] =
		MAX(metric_in(text, "process_startup_time_us") - us[SPAWN], 0);
	us[UNTIL_ANSWER] = values[API_WALL] - us[SPAWN] - us[UNTIL_MAIN];
	us[INSTANCE_START] = MIN(values[START_CALL], values[FIRST_BYTE]);
	us[UNTIL_BYTE] = values[FIRST_BYTE] - us[INSTANCE_START];
	monitor_kill(&monitor);
}

int main(int argc, char *argv[])
{
	static double values[FIGURES][PERF_RUNS_MAX];
	static struct phases_of_run phases[PERF_RUNS_MAX];
	int runs = argc == 4 ? atoi(argv[3]) : 0;

	if (runs < 1 || runs > PERF_RUNS_MAX) {
		fprintf(stderr, "usage: start EMBER GUEST RUNS\n");
		return EXIT_FAILURE;
	}
	prctl(PR_SET_TIMERSLACK, 1);	  /* nanoseconds */
	for (int i = -1; i < runs; i++) { /* run -1 warms the caches */
		double run[FIGURES];

		measure(argv[1], argv[2], run);
		measure_phases(argv[1], argv[2], phases[MAX(i, 0)].us);
		for (size_t f = 0; f < FIGURES && i >= 0; f++)
			values[f][i] = run[f];
	}
	for (size_t f = 0; f < FIGURES; f++)
		print_figure(names[f], values[f], (size_t)runs);
	print_phases("boot", phase_names, phases, (size_t)runs);
	return EXIT_SUCCESS;
}
