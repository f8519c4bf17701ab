/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/perf/perf.h"

#include "vmm/util.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define TIMEOUT_MS 30000
#define SAMPLES_MAX 400
#define SCRATCH "/tmp/ember-perf-XXXXXX"
#define SOCKETS "/dev/shm/ember-perf-XXXXXX"

_Noreturn void die(const char *what)
{
	fprintf(stderr, "%s: %s: %s\n", program_invocation_short_name, what,
		strerror(errno));
	exit(EXIT_FAILURE);
}

double since_us(uint64_t start_ns)
{
	return (double)(monotonic_ns() - start_ns) / 1000.0;
}

/* ------------------------------------------------------------------ scratch */

static char scratch[sizeof(SCRATCH)], sockets[sizeof(SOCKETS)];

static int remove_one(const char *path, const struct stat *st, int kind,
		      struct FTW *at)
{
	(void)st;
	(void)kind;
	(void)at;
	return remove(path);
}

static void remove_tree(const char *path)
{
	nftw(path, remove_one, 8, FTW_DEPTH | FTW_PHYS | FTW_MOUNT);
}

static void remove_scratch(void)
{
	remove_tree(scratch);
}

static void remove_sockets(void)
{
	remove_tree(sockets);
}

/* Programs that fail leave through exit, too. */
const char *scratch_dir(void)
{
	if (scratch[0])
		return scratch;
	snprintf(scratch, sizeof(scratch), "%s", SCRATCH);
	if (!mkdtemp(scratch) || atexit(remove_scratch))
		die(scratch);
	return scratch;
}

/* In memory, as hosts have theirs (/run). On ext4 a new one takes 0.1 ms where
 * others were removed not long ago: their numbers are left alone for a while.
 */
static const char *socket_dir(void)
{
	if (sockets[0])
		return sockets;
	snprintf(sockets, sizeof(sockets), "%s", SOCKETS);
	if (!mkdtemp(sockets))
		snprintf(sockets, sizeof(sockets), "%s", scratch_dir());
	else if (atexit(remove_sockets))
		die(sockets);
	return sockets;
}

/* ----------------------------------------------------------------- monitors */

void monitor_spawn(struct monitor *monitor, const char *const argv[])
{
	char path[8] = "PATH=/";
	char *const environment[] = {path, NULL};
	posix_spawn_file_actions_t actions;
	int out[2], in[2];

	if (pipe2(out, O_CLOEXEC) || pipe2(in, O_CLOEXEC))
		die("pipe");
	posix_spawn_file_actions_init(&actions);
	posix_spawn_file_actions_adddup2(&actions, in[0], STDIN_FILENO);
	posix_spawn_file_actions_adddup2(&actions, out[1], STDOUT_FILENO);
	monitor->start_ns = monotonic_ns();
	/* posix_spawn does not change the strings, its type is older than
	 * const. */
	errno = posix_spawn(&monitor->pid, argv[0], &actions, NULL,
			    (char *const *)(uintptr_t)argv, environment);
	if (errno)
		die(argv[0]);
	monitor->exec_ns = monotonic_ns();
	posix_spawn_file_actions_destroy(&actions);
	close(out[1]);
	close(in[0]);
	monitor->console = out[0];
	monitor->input = in[1];
	monitor->socket = -1;
}

void monitor_name_socket(struct monitor *monitor, size_t number)
{
	snprintf(monitor->socket_path, sizeof(monitor->socket_path),
		 "%s/%zu.sock", socket_dir(), number);
}

void monitor_spawn_api(struct monitor *monitor, const char *ember,
		       size_t number)
{
	char start_us[24];
	const char *const argv[] = {
		ember,	      "--api-sock", monitor->socket_path,
		"--log-path", "/dev/null",  "--start-time-us",
		start_us,     NULL,
	};

	monitor_name_socket(monitor, number);
	snprintf(start_us, sizeof(start_us), "%lu",
		 (unsigned long)(monotonic_ns() / 1000));
	monitor_spawn(monitor, argv);
}

/* The naps in between leave the processor to the monitor, should both be on the
 * same one. */
void monitor_connect(struct monitor *monitor, uint64_t start_ns)
{
	const struct timespec nap = {.tv_nsec = 10000};
	struct sockaddr_un addr = {.sun_family = AF_UNIX};

	snprintf(addr.sun_path, sizeof(addr.sun_path), "%s",
		 monitor->socket_path);
	monitor->socket = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	while (connect(monitor->socket, (struct sockaddr *)&addr, sizeof(addr)))
		if (since_us(start_ns) > 5e6 || nanosleep(&nap, NULL))
			die("connect");
}

/* How long the answer is of which @text is the beginning; 0: not known yet. */
static size_t answer_len(const char *text)
{
	const char *body = strstr(text, "\r\n\r\n");
	const char *length = strcasestr(text, "\r\nContent-Length:");

	if (!body)
		return 0;
	body += 4;
	return (size_t)(body - text) +
	       (length && length < body ? strtoul(length + 17, NULL, 10) : 0);
}

void answer_read(int socket)
{
	char text[16384];
	size_t len = 0, whole = 0;

	while (!whole || len < whole) {
		ssize_t got = read(socket, text + len, sizeof(text) - 1 - len);

		if (got <= 0)
			die("no answer");
		len += (size_t)got;
		text[len] = '\0';
		whole = answer_len(text);
	}
	if (text[9] != '2') {
		fprintf(stderr, "%s: %s\n", program_invocation_short_name,
			text);
		exit(EXIT_FAILURE);
	}
}

void monitor_send(struct monitor *monitor, const char *method, const char *path,
		  const char *body)
{
	char text[1024];
	int len = snprintf(text, sizeof(text),
			   "%s %s HTTP/1.1\r\nHost: x\r\nContent-Length: "
			   "%zu\r\n\r\n%s",
			   method, path, strlen(body), body);

	if (write(monitor->socket, text, (size_t)len) != len)
		die("write");
}

void monitor_request(struct monitor *monitor, const char *method,
		     const char *path, const char *body)
{
	monitor_send(monitor, method, path, body);
	answer_read(monitor->socket);
}

void wait_for_both(struct monitor *monitor, uint64_t start_ns,
		   double *ret_answer_us, double *ret_byte_us)
{
	struct pollfd fds[] = {{.fd = monitor->socket, .events = POLLIN},
			       {.fd = monitor->console, .events = POLLIN}};

	while (fds[0].fd >= 0 || fds[1].fd >= 0) {
		if (poll(fds, 2, TIMEOUT_MS) <= 0)
			die("no answer, or no byte");
		if (fds[0].revents) {
			*ret_answer_us = since_us(start_ns);
			answer_read(monitor->socket);
			fds[0].fd = -1;
		}
		if (fds[1].revents) {
			*ret_byte_us = since_us(start_ns);
			monitor_byte(monitor);
			fds[1].fd = -1;
		}
	}
}

char monitor_byte(struct monitor *monitor)
{
	struct pollfd fd = {.fd = monitor->console, .events = POLLIN};
	char byte;

	if (poll(&fd, 1, TIMEOUT_MS) <= 0 ||
	    read(monitor->console, &byte, 1) != 1)
		die("the guest said nothing");
	return byte;
}

void monitor_expect(struct monitor *monitor, const char *text)
{
	size_t len = strlen(text), seen = 0;
	char last[64] = {0};

	assert(len <= sizeof(last));
	while (seen < len || memcmp(last, text, len) != 0) {
		if (seen == len)
			memmove(last, last + 1, --seen);
		last[seen++] = monitor_byte(monitor);
	}
}

void monitor_configure(struct monitor *monitor, const char *guest, int mib)
{
	char body[512];

	snprintf(body, sizeof(body), "{\"vcpu_count\":1,\"mem_size_mib\":%d}",
		 mib);
	monitor_request(monitor, "PATCH", "/machine-config", body);
	snprintf(body, sizeof(body), "{\"kernel_image_path\":\"%s\"}", guest);
	monitor_request(monitor, "PUT", "/boot-source", body);
}

const char *metrics_path(void)
{
	static char path[64];
	int fd;

	snprintf(path, sizeof(path), "%s/metrics", scratch_dir());
	fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	if (fd < 0 || close(fd))
		die(path);
	return path;
}

void monitor_metrics(struct monitor *monitor, char *text, size_t size)
{
	char path[64];
	ssize_t got;
	int fd;

	monitor_request(monitor, "PUT", "/actions",
			"{\"action_type\":\"FlushMetrics\"}");
	snprintf(path, sizeof(path), "%s/metrics", scratch_dir());
	fd = open(path, O_RDONLY | O_CLOEXEC);
	got = fd < 0 ? -1 : read(fd, text, size - 1);
	if (got <= 0)
		die(path);
	text[got] = '\0';
	close(fd);
}

double metric_in(const char *text, const char *name)
{
	char key[64];
	const char *at;

	snprintf(key, sizeof(key), "\"%s\":", name);
	at = strstr(text, key);
	return at ? strtod(at + strlen(key), NULL) : 0;
}

static void release(struct monitor *monitor)
{
	close_fd(&monitor->socket);
	close(monitor->console);
	close(monitor->input);
	unlink(monitor->socket_path);
}

/* A process can be waited for after its memory and its descriptors, KVM's
 * objects with them, were released. */
double monitor_end(struct monitor *monitor, int signal)
{
	uint64_t start = monotonic_ns();
	double us;

	if (signal)
		kill(monitor->pid, signal);
	if (waitpid(monitor->pid, NULL, 0) != monitor->pid)
		die("waitpid");
	us = since_us(start);
	release(monitor);
	return us;
}

void monitor_kill(struct monitor *monitor)
{
	monitor_end(monitor, SIGKILL);
}

void monitors_kill(struct monitor monitors[], size_t count)
{
	for (size_t i = 0; i < count; i++)
		kill(monitors[i].pid, SIGKILL);
	for (size_t i = 0; i < count; i++)
		monitor_end(&monitors[i], 0);
}

/* schedstat counts nanoseconds. */
double thread_cpu_us(pid_t pid, pid_t tid)
{
	unsigned long long ns = 0;
	char path[64];
	FILE *stat;

	snprintf(path, sizeof(path), "/proc/%d/task/%d/schedstat", pid, tid);
	stat = fopen(path, "r");
	if (!stat)
		return 0;
	if (fscanf(stat, "%llu", &ns) != 1)
		ns = 0;
	fclose(stat);
	return (double)ns / 1000.0;
}

/* ------------------------------------------------------------------- memory */

struct memory memory_of(pid_t pid, unsigned long ram_kib)
{
	struct memory memory = {0};
	char path[64], line[512];
	unsigned long size = 0, value;
	FILE *smaps;

	snprintf(path, sizeof(path), "/proc/%d/smaps", pid);
	smaps = fopen(path, "r");
	if (!smaps)
		die(path);
	while (fgets(line, sizeof(line), smaps)) {
		bool ram;

		if (sscanf(line, "Size: %lu", &value) == 1)
			size = value;
		ram = size >= ram_kib;
		if (sscanf(line, "Pss: %lu", &value) == 1)
			memory.pss += (double)value;
		if (sscanf(line, "Rss: %lu", &value) == 1)
			*(ram ? &memory.ram_rss : &memory.rss) += (double)value;
		if (sscanf(line, "Private_Dirty: %lu", &value) == 1)
			*(ram ? &memory.ram_dirty : &memory.dirty) +=
				(double)value;
	}
	fclose(smaps);
	return memory;
}

/* ---------------------------------------------------------------- templates */

static void make_drive(const char *path)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);

	if (fd < 0 || ftruncate(fd, MIB(1)) || close(fd))
		die(path);
}

void template_make(struct template *template, const char *ember,
		   const char *guest)
{
	struct monitor monitor;
	char body[512];

	snprintf(template->state, sizeof(template->state), "%s/state",
		 scratch_dir());
	snprintf(template->memory, sizeof(template->memory), "%s/memory",
		 scratch_dir());
	snprintf(template->drive, sizeof(template->drive), "%s/drive",
		 scratch_dir());
	make_drive(template->drive);
	monitor_spawn_api(&monitor, ember, PERF_RUNS_MAX + 1);
	monitor_connect(&monitor, monotonic_ns());
	monitor_configure(&monitor, guest, 128);
	snprintf(body, sizeof(body),
		 "{\"drive_id\":\"d\",\"path_on_host\":\"%s\","
		 "\"is_root_device\":false}",
		 template->drive);
	monitor_request(&monitor, "PUT", "/drives/d", body);
	monitor_request(&monitor, "PUT", "/actions",
			"{\"action_type\":\"InstanceStart\"}");
	monitor_expect(&monitor, "ready\n");
	monitor_request(&monitor, "PATCH", "/vm", "{\"state\":\"Paused\"}");
	snprintf(body, sizeof(body),
		 "{\"snapshot_path\":\"%s\",\"mem_file_path\":\"%s\"}",
		 template->state, template->memory);
	monitor_request(&monitor, "PUT", "/snapshot/create", body);
	monitor_kill(&monitor);
}

/* ------------------------------------------------------------------ figures */

static int by_value(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

double median(double *values, size_t count)
{
	qsort(values, count, sizeof(*values), by_value);
	return values[count / 2];
}

void print_samples(const char *name, const double *values, size_t count)
{
	size_t shown = MIN(count, (size_t)SAMPLES_MAX);

	printf("samples %s", name);
	for (size_t i = 0; i < shown; i++)
		printf(" %.0f", values[i * count / shown]);
	printf("\n");
	fflush(stdout);
}

void print_figure(const char *name, double *values, size_t count)
{
	double middle = median(values, count);

	printf("%s %.0f p10 %.0f\n", name, middle, values[count / 10]);
	print_samples(name, values, count);
}

static int by_total(const void *a, const void *b)
{
	const struct phases_of_run *x = a, *y = b;

	return (x->total > y->total) - (x->total < y->total);
}

static void add_up(struct phases_of_run *run, size_t phases)
{
	run->total = 0;
	for (size_t i = 0; i < phases; i++)
		run->total += run->us[i];
}

void print_phases(const char *name, const char *const phases[],
		  struct phases_of_run *runs, size_t count)
{
	size_t first = count / 20, end = count / 4 + 1, phase_count = 0;

	while (phases[phase_count])
		phase_count++;
	for (size_t i = 0; i < count; i++)
		add_up(&runs[i], phase_count);
	qsort(runs, count, sizeof(*runs), by_total);
	printf("phases %s", name);
	for (size_t phase = 0; phase < phase_count; phase++) {
		double sum = 0;

		for (size_t i = first; i < end; i++)
			sum += runs[i].us[phase];
		printf(" %s=%.0f", phases[phase], sum / (double)(end - first));
	}
	printf("\n");
	fflush(stdout);
}
