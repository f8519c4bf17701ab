/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Work that shows afterwards whether anything was lost: a thread on every CPU
 * that sleeps and looks at the clock, and one that writes numbered blocks to a
 * file. Who connects gets a line of JSON that says how it stands.
 */
#include "agent.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define CPUS_MAX 8
#define PERIOD_NS 10000000
#define BLOCK 4096
/* Blocks come to stand at their number modulo this. */
#define SLOTS 8192
#define WRITE_PAUSE_US 2000

struct ticker {
	unsigned cpu;
	_Atomic uint64_t ticks;
	_Atomic uint64_t late_ns; /* the worst since somebody asked */
};

static struct ticker tickers[CPUS_MAX];
static unsigned cpu_count;

static _Atomic uint64_t newest_ns; /* seen by any thread */
static _Atomic uint64_t went_back; /* how often the clock did */

static _Atomic uint64_t durable; /* blocks that are on the disk */
static _Atomic uint64_t disk_errors;

static uint64_t read_clock(clockid_t id)
{
	struct timespec now;

	clock_gettime(id, &now);
	return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

/* ------------------------------------------------------------------- clocks */

/* What any CPU has seen before must not be later than what this one sees. */
static uint64_t look_at_clock(void)
{
	uint64_t before = newest_ns;
	uint64_t now = read_clock(CLOCK_MONOTONIC);

	if (now < before)
		went_back++;
	while (now > before &&
	       !__atomic_compare_exchange_n(&newest_ns, &before, now, false,
					    __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST))
		;
	return now;
}

static void stay_on(unsigned cpu)
{
	cpu_set_t set;

	CPU_ZERO(&set);
	CPU_SET(cpu, &set);
	if (sched_setaffinity(0, sizeof(set), &set))
		agent_fail("sched_setaffinity");
}

static void *tick(void *arg)
{
	const struct timespec period = {.tv_nsec = PERIOD_NS};
	struct ticker *ticker = arg;

	stay_on(ticker->cpu);
	for (;;) {
		uint64_t start = look_at_clock(), late;

		nanosleep(&period, NULL);
		late = look_at_clock() - start - PERIOD_NS;
		if (late > ticker->late_ns)
			ticker->late_ns = late;
		ticker->ticks++;
	}
	return NULL;
}

/* --------------------------------------------------------------------- disk */

static off_t slot(uint64_t number)
{
	return (off_t)(number % SLOTS) * BLOCK;
}

static void fill(uint64_t *block, uint64_t number)
{
	for (size_t i = 0; i < BLOCK / sizeof(*block); i++)
		block[i] = number;
}

static bool write_block(int fd, uint64_t *block, uint64_t number)
{
	fill(block, number);
	return pwrite(fd, block, BLOCK, slot(number)) == BLOCK &&
	       fdatasync(fd) == 0;
}

static bool read_block(int fd, uint64_t *block, uint64_t number)
{
	if (pread(fd, block, BLOCK, slot(number)) != BLOCK)
		return false;
	for (size_t i = 0; i < BLOCK / sizeof(*block); i++)
		if (block[i] != number)
			return false;
	return true;
}

/* Numbers count from 1. Each block is read back when a few more have come. */
static void *write_blocks(void *arg)
{
	int fd = open(arg, O_RDWR | O_CREAT | O_DIRECT | O_CLOEXEC, 0600);
	void *block;

	if (fd < 0 || posix_memalign(&block, BLOCK, BLOCK))
		agent_fail(arg);
	for (uint64_t number = 1;; number++) {
		if (!write_block(fd, block, number))
			disk_errors++;
		durable = number;
		if (number > 8 && !read_block(fd, block, number - 8))
			disk_errors++;
		usleep(WRITE_PAUSE_US);
	}
	return NULL;
}

/* ------------------------------------------------------------------- report */

static void report(FILE *out)
{
	fputs("{\"ticks\":[", out);
	for (unsigned i = 0; i < cpu_count; i++)
		fprintf(out, "%s%lu", i ? "," : "",
			(unsigned long)tickers[i].ticks);
	fputs("],\"late_ms\":[", out);
	for (unsigned i = 0; i < cpu_count; i++) {
		uint64_t late = __atomic_exchange_n(&tickers[i].late_ns, 0,
						    __ATOMIC_RELAXED);

		fprintf(out, "%s%lu", i ? "," : "",
			(unsigned long)(late / 1000000));
	}
	fprintf(out,
		"],\"went_back\":%lu,\"durable\":%lu,\"disk_errors\":%lu,"
		"\"monotonic_ns\":%lu,\"realtime_ns\":%lu}\n",
		(unsigned long)went_back, (unsigned long)durable,
		(unsigned long)disk_errors, (unsigned long)look_at_clock(),
		(unsigned long)read_clock(CLOCK_REALTIME));
}

static void serve(unsigned port)
{
	struct pollfd listener = {.fd = agent_listen(port), .events = POLLIN};

	for (;;) {
		FILE *out;
		int fd = -1;

		if (poll(&listener, 1, -1) > 0)
			fd = accept4(listener.fd, NULL, NULL, SOCK_CLOEXEC);
		if (fd < 0)
			continue;
		out = fdopen(fd, "w");
		if (out) {
			report(out);
			fclose(out);
		} else {
			close(fd);
		}
	}
}

static void start(void *(*run)(void *), void *arg)
{
	pthread_t thread;

	if (pthread_create(&thread, NULL, run, arg))
		agent_fail("pthread_create");
}

int agent_soak(int argc, char **argv)
{
	long online = sysconf(_SC_NPROCESSORS_ONLN);

	(void)argc;
	cpu_count = (unsigned)(online < CPUS_MAX ? online : CPUS_MAX);
	for (unsigned i = 0; i < cpu_count; i++) {
		tickers[i].cpu = i;
		start(tick, &tickers[i]);
	}
	start(write_blocks, argv[1]);
	serve((unsigned)strtoul(argv[0], NULL, 10));
	return 0;
}
