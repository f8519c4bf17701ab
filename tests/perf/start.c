/* SPDX-License-Identifier: Apache-2.0 */
/*
 * start EMBER GUEST RUNS: what a start costs, seen from outside.
 *
 * Each run executes the monitor, waits for its API to answer, configures a
 * guest of one vCPU and 128 MiB whose first act is a byte on COM1, starts it
 * and waits for that byte. Prints one line per figure, the median of all runs:
 *
 *   api_wall_us     exec to the answer of GET /
 *   api_cpu_us      CPU time of all the monitor's threads until then
 *   start_call_us   PUT InstanceStart to its answer
 *   first_byte_us   PUT InstanceStart to the guest's first byte
 *   rss_kib         resident memory beside guest RAM, after that byte
 *   dirty_kib       the private and dirty part of it
 */
#include "vmm/util.h"

#include <dirent.h>
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>

#define RUNS_MAX 1000
#define GUEST_RAM_KIB (128 * 1024)

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

struct run {
	const char *ember, *guest;
	char socket_path[64];
	pid_t pid;
	int socket, console;
	double values[FIGURES];
};

static _Noreturn void die(const char *what)
{
	fprintf(stderr, "start: %s: %s\n", what, strerror(errno));
	exit(EXIT_FAILURE);
}

static double since_us(uint64_t start_ns)
{
	return (double)(monotonic_ns() - start_ns) / 1000.0;
}

static void spawn_monitor(struct run *run)
{
	char path[8] = "PATH=/";
	char *const environment[] = {path, NULL};
	char *const argv[] = {
		strdup(run->ember),
		strdup("--api-sock"),
		strdup(run->socket_path),
		strdup("--no-seccomp"),
		strdup("--log-path"),
		strdup("/dev/null"),
		NULL,
	};
	posix_spawn_file_actions_t actions;
	int ends[2];

	if (pipe(ends))
		die("pipe");
	posix_spawn_file_actions_init(&actions);
	posix_spawn_file_actions_addopen(&actions, STDIN_FILENO, "/dev/null", 0,
					 0);
	posix_spawn_file_actions_adddup2(&actions, ends[1], STDOUT_FILENO);
	posix_spawn_file_actions_addclose(&actions, ends[0]);
	posix_spawn_file_actions_addclose(&actions, ends[1]);
	errno = posix_spawn(&run->pid, run->ember, &actions, NULL, argv,
			    environment);
	if (errno)
		die(run->ember);
	posix_spawn_file_actions_destroy(&actions);
	for (size_t i = 0; argv[i]; i++)
		free(argv[i]);
	close(ends[1]);
	run->console = ends[0];
}

/* The API appears when it appears: try until it does, at most 5 s. The naps in
 * between leave the processor to the monitor, should both be on the same one.
 */
static void connect_api(struct run *run, uint64_t start_ns)
{
	const struct timespec nap = {.tv_nsec = 10000};
	struct sockaddr_un addr = {.sun_family = AF_UNIX};

	snprintf(addr.sun_path, sizeof(addr.sun_path), "%s", run->socket_path);
	run->socket = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	while (connect(run->socket, (struct sockaddr *)&addr, sizeof(addr)))
		if (since_us(start_ns) > 5e6 || nanosleep(&nap, NULL))
			die("connect");
}

/* Sends a request and reads the answer; anything but 2xx ends the program. */
static void request(struct run *run, const char *method, const char *path,
		    const char *body)
{
	char text[1024], answer[2048];
	int len = snprintf(text, sizeof(text),
			   "%s %s HTTP/1.1\r\nHost: x\r\nContent-Length: "
			   "%zu\r\n\r\n%s",
			   method, path, strlen(body), body);
	ssize_t got;

	if (write(run->socket, text, (size_t)len) != len)
		die("write");
	got = read(run->socket, answer, sizeof(answer) - 1);
	if (got < 12)
		die("no answer");
	answer[got] = '\0';
	if (answer[9] != '2') {
		fprintf(stderr, "start: %s %s: %s\n", method, path, answer);
		exit(EXIT_FAILURE);
	}
}

/* CPU time of every thread in microseconds; schedstat counts nanoseconds. */
static double cpu_us(pid_t pid)
{
	char path[300];
	double total = 0;
	DIR *tasks;

	snprintf(path, sizeof(path), "/proc/%d/task", pid);
	tasks = opendir(path);
	if (!tasks)
		die(path);
	for (struct dirent *task = readdir(tasks); task;
	     task = readdir(tasks)) {
		unsigned long long ns = 0;
		FILE *stat;

		if (task->d_name[0] == '.')
			continue;
		snprintf(path, sizeof(path), "/proc/%d/task/%s/schedstat", pid,
			 task->d_name);
		stat = fopen(path, "r");
		if (stat && fscanf(stat, "%llu", &ns) == 1)
			total += (double)ns / 1000.0;
		if (stat)
			fclose(stat);
	}
	closedir(tasks);
	return total;
}

/* Sums smaps over all mappings but guest RAM, told by its size. */
static void read_memory(struct run *run)
{
	char path[64], line[512];
	unsigned long size = 0, value;
	FILE *smaps;

	snprintf(path, sizeof(path), "/proc/%d/smaps", run->pid);
	smaps = fopen(path, "r");
	if (!smaps)
		die(path);
	while (fgets(line, sizeof(line), smaps)) {
		if (sscanf(line, "Size: %lu", &value) == 1)
			size = value;
		if (size >= GUEST_RAM_KIB)
			continue;
		if (sscanf(line, "Rss: %lu", &value) == 1)
			run->values[RSS] += (double)value;
		if (sscanf(line, "Private_Dirty: %lu", &value) == 1)
			run->values[DIRTY] += (double)value;
	}
	fclose(smaps);
}

static void start_guest(struct run *run)
{
	const char *body = "{\"action_type\":\"InstanceStart\"}";
	char text[256], byte, answer[512];
	int len = snprintf(text, sizeof(text),
			   "PUT /actions HTTP/1.1\r\nContent-Length: "
			   "%zu\r\n\r\n%s",
			   strlen(body), body);
	struct pollfd fds[] = {{.fd = run->socket, .events = POLLIN},
			       {.fd = run->console, .events = POLLIN}};
	uint64_t start = monotonic_ns();

	if (write(run->socket, text, (size_t)len) != len)
		die("write");
	while (fds[0].fd >= 0 || fds[1].fd >= 0) {
		if (poll(fds, 2, 5000) <= 0)
			die("no first byte");
		if (fds[0].revents) {
			run->values[START_CALL] = since_us(start);
			if (read(fds[0].fd, answer, sizeof(answer)) < 12 ||
			    answer[9] != '2')
				die("InstanceStart refused");
			fds[0].fd = -1;
		}
		if (fds[1].revents) {
			run->values[FIRST_BYTE] = since_us(start);
			if (read(fds[1].fd, &byte, 1) != 1)
				die("the guest said nothing");
			fds[1].fd = -1;
		}
	}
}

static void measure(struct run *run)
{
	const struct timespec settle = {.tv_nsec = 20000000};
	char body[512];
	uint64_t start = monotonic_ns();

	spawn_monitor(run);
	connect_api(run, start);
	request(run, "GET", "/", "");
	run->values[API_WALL] = since_us(start);
	run->values[API_CPU] = cpu_us(run->pid);
	request(run, "PUT", "/machine-config",
		"{\"vcpu_count\":1,\"mem_size_mib\":128}");
	snprintf(body, sizeof(body), "{\"kernel_image_path\":\"%s\"}",
		 run->guest);
	request(run, "PUT", "/boot-source", body);
	/* An orchestrator has other things to do between configuring and
	 * starting; what the monitor still has to tidy up is done by then. */
	nanosleep(&settle, NULL);
	start_guest(run);
	read_memory(run);
	kill(run->pid, SIGKILL);
	waitpid(run->pid, NULL, 0);
	close(run->socket);
	close(run->console);
	unlink(run->socket_path);
}

static int by_value(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

int main(int argc, char *argv[])
{
	static double values[FIGURES][RUNS_MAX];
	int runs = argc == 4 ? atoi(argv[3]) : 0;

	if (runs < 1 || runs > RUNS_MAX) {
		fprintf(stderr, "usage: start EMBER GUEST RUNS\n");
		return EXIT_FAILURE;
	}
	prctl(PR_SET_TIMERSLACK, 1);	  /* nanoseconds */
	for (int i = -1; i < runs; i++) { /* run -1 warms the caches */
		struct run run = {.ember = argv[1], .guest = argv[2]};

		snprintf(run.socket_path, sizeof(run.socket_path),
			 "/tmp/ember-perf-%d-%d.sock", getpid(), i);
		measure(&run);
		for (size_t f = 0; f < FIGURES && i >= 0; f++)
			values[f][i] = run.values[f];
	}
	for (size_t f = 0; f < FIGURES; f++) {
		qsort(values[f], (size_t)runs, sizeof(double), by_value);
		printf("%s %.0f\n", names[f], values[f][runs / 2]);
	}
	return EXIT_SUCCESS;
}
