/* SPDX-License-Identifier: Apache-2.0 */
/*
 * disk EMBER GUEST ROUNDS: what a block device carries, one request at a time,
 * and what it costs the monitor's loop (Async has workers beside); of a file of
 * 64 MiB in the page cache.
 *
 * The guest (tests/guests/load) may be interpreted, so that its own part is
 * large: compare engines, or what is measured in the same run. One line per
 * figure, the median of all rounds; each the same with async for sync:
 *
 *   disk_sync_read_per_s, disk_sync_write_per_s      requests of 4 KiB
 *   disk_sync_read_cpu_us, disk_sync_write_cpu_us    the loop's CPU for each
 *   disk_sync_read_mib_per_s, disk_sync_write_mib_per_s  by requests of 1 MiB
 *
 * disk_async_read_per_s, disk_async_write_per_s, disk_async_read_cpu_us,
 * disk_async_write_cpu_us, disk_async_read_mib_per_s,
 * disk_async_write_mib_per_s
 */
#include "tests/perf/perf.h"
#include "vmm/util.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <unistd.h>

#define SMALL 400 /* tests/guests/load.c */
#define LARGE 64
#define DISK MIB(64)

enum engine { SYNC, ASYNC, ENGINES };

struct order {
	char letter;
	unsigned int count;
	const char *rate[ENGINES], *cpu[ENGINES]; /* names of figures */
};

static const struct order orders[] = {
	{'r',
	 SMALL,
	 {"disk_sync_read_per_s", "disk_async_read_per_s"},
	 {"disk_sync_read_cpu_us", "disk_async_read_cpu_us"}},
	{'w',
	 SMALL,
	 {"disk_sync_write_per_s", "disk_async_write_per_s"},
	 {"disk_sync_write_cpu_us", "disk_async_write_cpu_us"}},
	{'R',
	 LARGE,
	 {"disk_sync_read_mib_per_s", "disk_async_read_mib_per_s"},
	 {NULL}},
	{'W',
	 LARGE,
	 {"disk_sync_write_mib_per_s", "disk_async_write_mib_per_s"},
	 {NULL}},
};

/* One with each engine, and what was measured of each order. */
struct subject {
	struct monitor monitor;
	double rate[ARRAY_SIZE(orders)][PERF_RUNS_MAX];
	double cpu[ARRAY_SIZE(orders)][PERF_RUNS_MAX];
};

static const char *const engine_names[ENGINES] = {"Sync", "Async"};

static const char *make_disk(size_t number)
{
	static char path[64];
	char *bytes = malloc(MIB(1));
	int fd;

	snprintf(path, sizeof(path), "%s/disk%zu", scratch_dir(), number);
	fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	if (fd < 0 || !bytes)
		die(path);
	memset(bytes, 1, MIB(1));
	for (uint64_t off = 0; off < DISK; off += MIB(1))
		if (write(fd, bytes, MIB(1)) != (ssize_t)MIB(1))
			die(path);
	/* Who writes to what is being written back waits. */
	if (fsync(fd) || close(fd))
		die(path);
	free(bytes);
	return path;
}

static void start(struct monitor *monitor, const char *ember, const char *guest,
		  const char *engine, size_t number)
{
	char body[256];

	monitor_spawn_api(monitor, ember, number);
	monitor_connect(monitor, monotonic_ns());
	monitor_configure(monitor, guest, 64);
	snprintf(body, sizeof(body),
		 "{\"drive_id\":\"d\",\"path_on_host\":\"%s\","
		 "\"is_root_device\":false,\"io_engine\":\"%s\"}",
		 make_disk(number), engine);
	monitor_request(monitor, "PUT", "/drives/d", body);
	monitor_request(monitor, "PUT", "/actions",
			"{\"action_type\":\"InstanceStart\"}");
	monitor_expect(monitor, "ready\n");
}

static void run_order(struct monitor *monitor, const struct order *order,
		      double *ret_rate, double *ret_cpu)
{
	double cpu = thread_cpu_us(monitor->pid, monitor->pid);
	uint64_t start_ns = monotonic_ns();

	if (write(monitor->input, &order->letter, 1) != 1)
		die("write");
	monitor_expect(monitor, "done\n");
	*ret_rate = order->count / since_us(start_ns) * 1e6;
	*ret_cpu = (thread_cpu_us(monitor->pid, monitor->pid) - cpu) /
		   order->count;
}

static void measure(struct subject *subject, size_t round)
{
	for (size_t i = 0; i < ARRAY_SIZE(orders); i++)
		run_order(&subject->monitor, &orders[i],
			  &subject->rate[i][round], &subject->cpu[i][round]);
}

/* Of a rate, too, p10 is what a tenth of all rounds does better than. */
static void print_subject(struct subject *subject, enum engine engine,
			  size_t rounds)
{
	for (size_t i = 0; i < ARRAY_SIZE(orders); i++) {
		double *rate = subject->rate[i], *cpu = subject->cpu[i];
		double middle = median(rate, rounds);

		printf("%s %.0f p10 %.0f\n", orders[i].rate[engine], middle,
		       rate[rounds - 1 - rounds / 10]);
		if (!orders[i].cpu[engine])
			continue;
		middle = median(cpu, rounds);
		printf("%s %.1f p10 %.1f\n", orders[i].cpu[engine], middle,
		       cpu[rounds / 10]);
	}
	fflush(stdout);
}

int main(int argc, char *argv[])
{
	static struct subject subjects[ENGINES];
	size_t rounds = argc == 4 ? (size_t)atoi(argv[3]) : 0;

	if (rounds < 1 || rounds > PERF_RUNS_MAX) {
		fputs("usage: disk EMBER GUEST ROUNDS\n", stderr);
		return EXIT_FAILURE;
	}
	prctl(PR_SET_TIMERSLACK, 1); /* nanoseconds */
	for (enum engine engine = SYNC; engine < ENGINES; engine++)
		start(&subjects[engine].monitor, argv[1], argv[2],
		      engine_names[engine], engine);
	/* In turn, so that others on the machine are in both, and neither is
	 * always first. */
	for (size_t round = 0; round < rounds; round++)
		for (size_t i = 0; i < ENGINES; i++)
			measure(&subjects[(i + round) % ENGINES], round);
	for (enum engine engine = SYNC; engine < ENGINES; engine++) {
		monitor_kill(&subjects[engine].monitor);
		print_subject(&subjects[engine], engine, rounds);
	}
	return EXIT_SUCCESS;
}
