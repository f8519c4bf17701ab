/* SPDX-License-Identifier: Apache-2.0 */
/*
 * until WORD PROGRAM ARGUMENT...: how long a program takes from its exec until
 * it has printed WORD. Prints that in microseconds and kills the program; no
 * interpreter is in the way.
 */
#include "tests/perf/perf.h"
#include "vmm/util.h"

#include <stdio.h>
#include <sys/prctl.h>

int main(int argc, char *argv[])
{
	struct monitor monitor = {0};
	uint64_t start;

	if (argc < 3) {
		fputs("usage: until WORD PROGRAM ARGUMENT...\n", stderr);
		return EXIT_FAILURE;
	}
	prctl(PR_SET_TIMERSLACK, 1);
	start = monotonic_ns();
	monitor_spawn(&monitor, (const char *const *)argv + 2);
	monitor_expect(&monitor, argv[1]);
	printf("%.0f\n", since_us(start));
	monitor_kill(&monitor);
	return EXIT_SUCCESS;
}
