/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/perf/perf.h"

#include "vmm/util.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
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
	/* posix_spawn does not change the strings, its type is older than
	 * const. */
	errno = posix_spawn(&monitor->pid, argv[0], &actions, NULL,
			    (char *const *)(uintptr_t)argv, environment);
	if (errno)
		die(argv[0]);
	posix_spawn_file_actions_destroy(&actions);
	close(out[1]);
	close(in[0]);
	monitor->console = out[0];
	monitor->input = in[1];
	monitor->socket = -1;
}

void monitor_spawn_api(struct monitor *monitor, const char *ember, int number)
{
	const char *const argv[] = {
		ember,	      "--api-sock", monitor->socket_path,
		"--log-path", "/dev/null",  NULL,
	};

	snprintf(monitor->socket_path, sizeof(monitor->socket_path),
		 "/tmp/ember-perf-%d-%d.sock", getpid(), number);
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

void monitor_request(struct monitor *monitor, const char *method,
		     const char *path, const char *body)
{
	char text[1024], answer[2048];
	int len = snprintf(text, sizeof(text),
			   "%s %s HTTP/1.1\r\nHost: x\r\nContent-Length: "
			   "%zu\r\n\r\n%s",
			   method, path, strlen(body), body);
	ssize_t got;

	if (write(monitor->socket, text, (size_t)len) != len)
		die("write");
	got = read(monitor->socket, answer, sizeof(answer) - 1);
	if (got < 12)
		die("no answer");
	answer[got] = '\0';
	if (answer[9] != '2') {
		fprintf(stderr, "%s: %s %s: %s\n",
			program_invocation_short_name, method, path, answer);
		exit(EXIT_FAILURE);
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

void monitor_kill(struct monitor *monitor)
{
	kill(monitor->pid, SIGKILL);
	waitpid(monitor->pid, NULL, 0);
	close_fd(&monitor->socket);
	close(monitor->console);
	close(monitor->input);
	unlink(monitor->socket_path);
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

	snprintf(template->dir, sizeof(template->dir), "/tmp/ember-XXXXXX");
	if (!mkdtemp(template->dir))
		die(template->dir);
	snprintf(template->state, sizeof(template->state), "%s/state",
		 template->dir);
	snprintf(template->memory, sizeof(template->memory), "%s/memory",
		 template->dir);
	snprintf(template->drive, sizeof(template->drive), "%s/drive",
		 template->dir);
	make_drive(template->drive);
	monitor_spawn_api(&monitor, ember, -1);
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

void template_remove(const struct template *template)
{
	unlink(template->state);
	unlink(template->memory);
	unlink(template->drive);
	rmdir(template->dir);
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

void print_figure(const char *name, double *values, size_t count)
{
	double middle = median(values, count);

	printf("%s %.0f p10 %.0f\n", name, middle, values[count / 10]);
	printf("samples %s", name);
	for (size_t i = 0; i < count; i++)
		printf(" %.0f", values[i]);
	printf("\n");
	fflush(stdout);
}
