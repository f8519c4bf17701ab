/* SPDX-License-Identifier: Apache-2.0 */
/*
 * teardown EMBER GUEST RUNS: how long a microVM takes to end.
 *
 * A guest (tests/guests/dirty) with one vCPU runs, waits for input, and is
 * ended in turn in several ways. The end is when the process can be waited for:
 * its memory is free and its KVM objects are gone. One line per figure, median
 * and p10 of all runs:
 *
 *   teardown_us          SIGTERM, of a guest that has hardly touched memory
 *   teardown_touched_us  ... that has written to 128 MiB
 *   teardown_kill_us     SIGKILL, the same guest
 *   teardown_reset_us    the guest resets its machine: from the word that makes
 *                        it do so
 */
#include "tests/perf/perf.h"
#include "vmm/util.h"

#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <time.h>
#include <unistd.h>

#define RAM_MIB 160
#define TOUCHED_MIB "128"

enum figure { TERM, TERM_TOUCHED, KILL_TOUCHED, RESET_TOUCHED, FIGURES };

static const char *const names[FIGURES] = {
	"teardown_us",
	"teardown_touched_us",
	"teardown_kill_us",
	"teardown_reset_us",
};

static void type(struct monitor *monitor, const char *line)
{
	if (write(monitor->input, line, strlen(line)) < 0)
		die("write");
}

static double measure(const char *ember, const char *guest, enum figure figure)
{
	/* KVM takes longer to end a machine whose last change is less than some
	 * ticks ago; hardly anybody has such. */
	const struct timespec age = {.tv_nsec = 30000000};
	struct monitor monitor;

	monitor_spawn_api(&monitor, ember, 0);
	monitor_connect(&monitor, monotonic_ns());
	monitor_configure(&monitor, guest, RAM_MIB);
	monitor_request(&monitor, "PUT", "/actions",
			"{\"action_type\":\"InstanceStart\"}");
	monitor_expect(&monitor, "ready\n");
	if (figure != TERM) {
		type(&monitor, TOUCHED_MIB "\n");
		monitor_expect(&monitor, "dirty " TOUCHED_MIB "\n");
	}
	nanosleep(&age, NULL);
	if (figure != RESET_TOUCHED)
		return monitor_end(&monitor,
				   figure == KILL_TOUCHED ? SIGKILL : SIGTERM);
	type(&monitor, "0\n");
	return monitor_end(&monitor, 0);
}

int main(int argc, char *argv[])
{
	static double values[FIGURES][PERF_RUNS_MAX];
	size_t runs = argc == 4 ? (size_t)atoi(argv[3]) : 0;

	if (runs < 1 || runs > PERF_RUNS_MAX) {
		fputs("usage: teardown EMBER GUEST RUNS\n", stderr);
		return EXIT_FAILURE;
	}
	prctl(PR_SET_TIMERSLACK, 1);	 /* nanoseconds */
	measure(argv[1], argv[2], TERM); /* warms the caches */
	for (size_t run = 0; run < runs; run++)
		for (enum figure f = TERM; f < FIGURES; f++)
			values[f][run] = measure(argv[1], argv[2], f);
	for (enum figure f = TERM; f < FIGURES; f++)
		print_figure(names[f], values[f], runs);
	return EXIT_SUCCESS;
}
