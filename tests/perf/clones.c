/* SPDX-License-Identifier: Apache-2.0 */
/*
 * clones EMBER GUEST COUNT [ROUNDS]: as many copies of one snapshot at once.
 *
 * All are executed one after the other without waiting, then the first byte of
 * each is waited for. They are all alive when their memory is looked at, in the
 * last round. One line per figure, times as medians of all rounds:
 *
 *   clones_up_ms         the first exec to the last guest's byte
 *   clones_per_s         what that is as a rate
 *   clones_down_ms       SIGKILL of all to the end of the last
 *   clone_dirty_kib      private and dirty, beside guest RAM: the median ...
 *   clone_dirty_max_kib  ... and the largest
 *   clone_ram_dirty_kib  the same of guest RAM: what the guest wrote to
 *   clone_pss_kib        a copy's share of everything, pages shared by n
 *                        processes counted as a n-th
 */
#include "tests/perf/perf.h"
#include "vmm/util.h"

#include <stdio.h>
#include <string.h>
#include <sys/resource.h>

#define RAM_KIB (128 * 1024)
#define CLONES_MAX PERF_RUNS_MAX
#define ROUNDS_MAX 100

struct clones {
	struct monitor monitors[CLONES_MAX];
	double dirty[CLONES_MAX], ram_dirty[CLONES_MAX], pss[CLONES_MAX];
	size_t count;
	double up_ms[ROUNDS_MAX], per_s[ROUNDS_MAX], down_ms[ROUNDS_MAX];
};

static void spawn(const char *ember, const struct template *template,
		  struct monitor *monitor, size_t number)
{
	const char *argv[] = TEMPLATE_ARGV(ember, template);

	monitor_name_socket(monitor, number);
	argv[TEMPLATE_ARGV_SOCKET] = monitor->socket_path;
	monitor_spawn(monitor, argv);
}

static void start_all(struct clones *clones, const char *ember,
		      const struct template *template, size_t round)
{
	uint64_t start = monotonic_ns();
	double us;

	for (size_t i = 0; i < clones->count; i++)
		spawn(ember, template, &clones->monitors[i], i);
	for (size_t i = 0; i < clones->count; i++)
		if (monitor_byte(&clones->monitors[i]) != 'c')
			die("that is not the byte of a copy");
	us = since_us(start);
	clones->up_ms[round] = us / 1e3;
	clones->per_s[round] = (double)clones->count / us * 1e6;
}

static void end_all(struct clones *clones, size_t round)
{
	uint64_t start = monotonic_ns();

	monitors_kill(clones->monitors, clones->count);
	clones->down_ms[round] = since_us(start) / 1e3;
}

static void print_ms(const char *name, double *ms, size_t rounds)
{
	double middle = median(ms, rounds);

	printf("%s %.1f p10 %.1f\n", name, middle, ms[rounds / 10]);
}

/* p10 of a rate is what a tenth of the rounds does better than. */
static void print_times(struct clones *clones, size_t rounds)
{
	double middle = median(clones->per_s, rounds);

	print_ms("clones_up_ms", clones->up_ms, rounds);
	printf("clones_per_s %.0f p10 %.0f\n", middle,
	       clones->per_s[rounds - 1 - rounds / 10]);
	print_ms("clones_down_ms", clones->down_ms, rounds);
}

static void look_at_memory(struct clones *clones)
{
	size_t n = clones->count;

	/* What each does after its first byte is done when it answers. */
	for (size_t i = 0; i < n; i++) {
		monitor_connect(&clones->monitors[i], monotonic_ns());
		monitor_request(&clones->monitors[i], "GET", "/", "");
	}
	for (size_t i = 0; i < n; i++) {
		struct memory memory =
			memory_of(clones->monitors[i].pid, RAM_KIB);

		clones->dirty[i] = memory.dirty;
		clones->ram_dirty[i] = memory.ram_dirty;
		clones->pss[i] = memory.pss;
	}
	print_figure("clone_dirty_kib", clones->dirty, n);
	printf("clone_dirty_max_kib %.0f\n", clones->dirty[n - 1]);
	print_figure("clone_ram_dirty_kib", clones->ram_dirty, n);
	print_figure("clone_pss_kib", clones->pss, n);
}

/* Each monitor has three descriptors here. */
static void raise_fd_limit(void)
{
	struct rlimit limit;

	if (getrlimit(RLIMIT_NOFILE, &limit))
		die("getrlimit");
	limit.rlim_cur = limit.rlim_max;
	if (setrlimit(RLIMIT_NOFILE, &limit))
		die("setrlimit");
}

int main(int argc, char *argv[])
{
	static struct clones clones;
	struct template template;
	size_t rounds = argc == 5 ? (size_t)atoi(argv[4]) : 1;

	clones.count = argc >= 4 ? (size_t)atoi(argv[3]) : 0;
	if (clones.count < 1 || clones.count > CLONES_MAX || rounds < 1 ||
	    rounds > ROUNDS_MAX) {
		fprintf(stderr, "usage: clones EMBER GUEST COUNT [ROUNDS]\n");
		return EXIT_FAILURE;
	}
	raise_fd_limit();
	template_make(&template, argv[1], argv[2]);
	for (size_t round = 0; round < rounds; round++) {
		start_all(&clones, argv[1], &template, round);
		if (round == rounds - 1)
			look_at_memory(&clones);
		end_all(&clones, round);
	}
	print_times(&clones, rounds);
	return EXIT_SUCCESS;
}
