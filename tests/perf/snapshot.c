/* SPDX-License-Identifier: Apache-2.0 */
/*
 * snapshot EMBER GUEST ROUNDS: what it costs to take snapshots of a guest with
 * 1 GiB of memory that tracks what it writes to.
 *
 * Each round the guest (tests/guests/dirty) writes to 57 MiB, and a diff is
 * taken, in turn into a new file and into the one that is there. Beside it the
 * same number of bytes is written to another file by a plain loop of pwritev,
 * and that again is in turn a new file and one that is there. Nothing is
 * synced. Then the guest writes to 100 MiB, and full snapshots are taken. One
 * line per figure:
 *
 *   diff_new_ms, diff_merge_ms  the request for a diff
 *   diff_pause_ms               the whole pause for a merged one: from the
 *                               request to pause to the answer that it resumed
 *   diff_kib                    blocks of the memory file of a new one
 *   loop_new_ms, loop_again_ms  the loop
 *   diff_new_ratio, diff_merge_ratio  of the medians
 *   full_ms                     the request for a full snapshot
 *   full_pause_ms               ... and the whole pause for it
 *   full_kib                    blocks of its memory file
 *   full_rss_growth_kib         how much more of the monitor is resident
 *                               afterwards, guest RAM and all
 */
#include "tests/perf/perf.h"
#include "vmm/util.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#define RAM_MIB 1024
#define DIFF_MIB 57
#define FULL_MIB 100
#define PIECE MIB(1)

enum figure {
	DIFF_NEW,
	DIFF_MERGE,
	LOOP_NEW,
	LOOP_AGAIN,
	DIFF_PAUSE,
	FULL,
	FULL_PAUSE,
	RSS_GROWTH,
	FIGURES,
};

static const char *const names[FIGURES] = {
	"diff_new_ms",	 "diff_merge_ms",	"loop_new_ms",
	"loop_again_ms", "diff_pause_ms",	"full_ms",
	"full_pause_ms", "full_rss_growth_kib",
};

struct bench {
	struct monitor monitor;
	char state[64], memory[64], plain[64];
	uint8_t *bytes; /* what the loop writes */
	long diff_kib;
	double values[FIGURES][PERF_RUNS_MAX];
};

static void write_memory(struct bench *bench, int mib)
{
	char text[32];
	int len = snprintf(text, sizeof(text), "%d\n", mib);

	if (write(bench->monitor.input, text, (size_t)len) != len)
		die("write");
	snprintf(text, sizeof(text), "dirty %d\n", mib);
	monitor_expect(&bench->monitor, text);
}

/* Milliseconds of a snapshot of the guest as it is; also of the guest's pause.
 */
static double take(struct bench *bench, const char *type, double *ret_pause)
{
	struct monitor *monitor = &bench->monitor;
	uint64_t paused = monotonic_ns(), start;
	char body[512];
	double us;

	monitor_request(monitor, "PATCH", "/vm", "{\"state\":\"Paused\"}");
	snprintf(body, sizeof(body),
		 "{\"snapshot_path\":\"%s\",\"mem_file_path\":\"%s\","
		 "\"snapshot_type\":\"%s\",\"sync\":false}",
		 bench->state, bench->memory, type);
	start = monotonic_ns();
	monitor_request(monitor, "PUT", "/snapshot/create", body);
	us = since_us(start);
	monitor_request(monitor, "PATCH", "/vm", "{\"state\":\"Resumed\"}");
	*ret_pause = since_us(paused) / 1e3;
	return us / 1e3;
}

/* Milliseconds of the loop. */
static double loop(struct bench *bench)
{
	uint64_t start = monotonic_ns();
	int fd = open(bench->plain, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
	double us;

	for (uint64_t off = 0; off < MIB(DIFF_MIB); off += PIECE) {
		struct iovec iov = {bench->bytes + off, PIECE};

		if (pwritev(fd, &iov, 1, (off_t)off) != (ssize_t)PIECE)
			die(bench->plain);
	}
	us = since_us(start);
	close(fd);
	return us / 1e3;
}

/* The kernel writes files back when it likes; before a measurement it has. */
static void settle(const char *path)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);

	if (fd < 0 || fsync(fd))
		die(path);
	close(fd);
}

static long file_kib(const char *path)
{
	struct stat st;

	if (stat(path, &st))
		die(path);
	return (long)st.st_blocks / 2;
}

static void measure_diffs(struct bench *bench, int round)
{
	double pause;

	unlink(bench->memory);
	unlink(bench->plain);
	write_memory(bench, DIFF_MIB);
	bench->values[DIFF_NEW][round] = take(bench, "Diff", &pause);
	bench->values[LOOP_NEW][round] = loop(bench);
	settle(bench->memory);
	settle(bench->plain);
	bench->diff_kib = file_kib(bench->memory);
	write_memory(bench, DIFF_MIB);
	bench->values[DIFF_MERGE][round] =
		take(bench, "Diff", &bench->values[DIFF_PAUSE][round]);
	bench->values[LOOP_AGAIN][round] = loop(bench);
	settle(bench->memory);
	settle(bench->plain);
}

static double resident(const struct bench *bench)
{
	struct memory memory = memory_of(bench->monitor.pid, RAM_MIB * 1024);

	return memory.rss + memory.ram_rss;
}

static void measure_full(struct bench *bench, int round)
{
	double before;

	unlink(bench->memory);
	before = resident(bench);
	bench->values[FULL][round] =
		take(bench, "Full", &bench->values[FULL_PAUSE][round]);
	bench->values[RSS_GROWTH][round] = resident(bench) - before;
	settle(bench->memory);
}

static void set_up(struct bench *bench, const char *ember, const char *guest)
{
	const char *dir = scratch_dir();
	double pause;

	snprintf(bench->state, sizeof(bench->state), "%s/state", dir);
	snprintf(bench->memory, sizeof(bench->memory), "%s/memory", dir);
	snprintf(bench->plain, sizeof(bench->plain), "%s/plain", dir);
	bench->bytes = malloc(MIB(DIFF_MIB));
	if (!bench->bytes)
		die("malloc");
	memset(bench->bytes, 1, MIB(DIFF_MIB));
	monitor_spawn_api(&bench->monitor, ember, 0);
	monitor_connect(&bench->monitor, monotonic_ns());
	monitor_request(&bench->monitor, "PUT", "/machine-config",
			"{\"vcpu_count\":1,\"mem_size_mib\":128,"
			"\"track_dirty_pages\":true}");
	monitor_configure(&bench->monitor, guest, RAM_MIB);
	monitor_request(&bench->monitor, "PUT", "/actions",
			"{\"action_type\":\"InstanceStart\"}");
	monitor_expect(&bench->monitor, "ready\n");
	/* The first diff is everything. */
	write_memory(bench, DIFF_MIB);
	take(bench, "Diff", &pause);
}

static void print_ms(const struct bench *bench, enum figure figure, int rounds)
{
	static double values[PERF_RUNS_MAX];
	double middle;

	memcpy(values, bench->values[figure], sizeof(values));
	middle = median(values, (size_t)rounds);
	printf("%s %.1f p10 %.1f\n", names[figure], middle,
	       values[rounds / 10]);
}

static void print_ratio(struct bench *bench, const char *name, enum figure a,
			enum figure b, int rounds)
{
	printf("%s %.2f\n", name,
	       median(bench->values[a], (size_t)rounds) /
		       median(bench->values[b], (size_t)rounds));
}

int main(int argc, char *argv[])
{
	static struct bench bench;
	int rounds = argc == 4 ? atoi(argv[3]) : 0;
	long full_kib;

	if (rounds < 1 || rounds > PERF_RUNS_MAX) {
		fprintf(stderr, "usage: snapshot EMBER GUEST ROUNDS\n");
		return EXIT_FAILURE;
	}
	set_up(&bench, argv[1], argv[2]);
	for (int i = 0; i < rounds; i++)
		measure_diffs(&bench, i);
	write_memory(&bench, FULL_MIB);
	for (int i = 0; i < rounds; i++)
		measure_full(&bench, i);
	full_kib = file_kib(bench.memory);
	monitor_kill(&bench.monitor);
	for (int figure = 0; figure < FIGURES; figure++)
		print_ms(&bench, (enum figure)figure, rounds);
	print_ratio(&bench, "diff_new_ratio", DIFF_NEW, LOOP_NEW, rounds);
	print_ratio(&bench, "diff_merge_ratio", DIFF_MERGE, LOOP_AGAIN, rounds);
	printf("diff_kib %ld\n", bench.diff_kib);
	printf("full_kib %ld\n", full_kib);
	return EXIT_SUCCESS;
}
