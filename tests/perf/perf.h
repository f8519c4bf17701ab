/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the measuring programs have in common: a monitor seen from outside, its
 * memory, a snapshot to restore, and how figures are printed. Whatever goes
 * wrong ends the program.
 */
#ifndef EMBER_PERF_H
#define EMBER_PERF_H

#include <stdint.h>
#include <sys/types.h>

#define PERF_RUNS_MAX 1000

struct monitor {
	pid_t pid;
	int console; /* its standard output */
	int input;   /* its standard input */
	int socket;  /* a connection to its API; -1: none */
	char socket_path[64];
};

/* In KiB. */
struct memory {
	double rss, dirty;	   /* all but guest RAM */
	double ram_rss, ram_dirty; /* guest RAM, which is told by its size */
	double pss;		   /* of all: a n-th of what n share */
};

/* A snapshot in a directory of its own. */
struct template
{
	char dir[32], state[64], memory[64], drive[64];
};

_Noreturn void die(const char *what);

double since_us(uint64_t start_ns);

/* Executes argv[0] with pipes for input and output. */
void monitor_spawn(struct monitor *monitor, const char *const argv[]);

/* With an API at a path that is unique to @number, and @ember's log thrown
 * away. */
void monitor_spawn_api(struct monitor *monitor, const char *ember, int number);

/* The API appears when it appears: tries until it does, at most 5 s. */
void monitor_connect(struct monitor *monitor, uint64_t start_ns);

/* Sends a request and reads the answer, which must be a 2xx. */
void monitor_request(struct monitor *monitor, const char *method,
		     const char *path, const char *body);

/* Waits until the guest has said @text, all of what it says until then. */
void monitor_expect(struct monitor *monitor, const char *text);

/* Waits for the guest's next byte, at most 5 s. */
char monitor_byte(struct monitor *monitor);

/* Configures one vCPU, @mib of memory and the guest's program. */
void monitor_configure(struct monitor *monitor, const char *guest, int mib);

void monitor_kill(struct monitor *monitor);

/* @ram_kib: at least so large are the mappings that are guest RAM. */
struct memory memory_of(pid_t pid, unsigned long ram_kib);

/* Runs @guest, tests/guests/clone, with 128 MiB and a drive, until it waits to
 * be a copy, and takes a snapshot. */
void template_make(struct template *template, const char *ember,
		   const char *guest);
void template_remove(const struct template *template);

/* How a copy of it is run, for monitor_spawn. */
#define TEMPLATE_ARGV(ember, template)                                         \
	{                                                                      \
		ember, "--restore", (template)->state, "--mem",                \
			(template)->memory, "--log-path", "/dev/null",         \
			"--api-sock", NULL, NULL                               \
	}
#define TEMPLATE_ARGV_SOCKET 8 /* where the socket's path goes */

/* `NAME MEDIAN p10 VALUE`; sorts the values. */
void print_figure(const char *name, double *values, size_t count);

/* The median; sorts the values. */
double median(double *values, size_t count);

#endif
