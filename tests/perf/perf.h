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

/* What a time can consist of. */
#define PERF_PHASES_MAX 16

struct monitor {
	pid_t pid;
	int console; /* its standard output */
	int input;   /* its standard input */
	int socket;  /* a connection to its API; -1: none */
	/* When it was told to start, and when its exec had begun to replace
	 * what called it: so long posix_spawn takes. */
	uint64_t start_ns, exec_ns;
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
	char state[64], memory[64], drive[64];
};

/* One run's phases in order, in microseconds. */
struct phases_of_run {
	double total, us[PERF_PHASES_MAX];
};

_Noreturn void die(const char *what);

double since_us(uint64_t start_ns);

/* A directory for all that a program makes; it ends with it. */
const char *scratch_dir(void);

/* Executes argv[0] with pipes for input and output. */
void monitor_spawn(struct monitor *monitor, const char *const argv[]);

/* A path for its API that is unique to @number. */
void monitor_name_socket(struct monitor *monitor, size_t number);

/* With an API at such a path, and @ember's log thrown away. */
void monitor_spawn_api(struct monitor *monitor, const char *ember,
		       size_t number);

/* The API appears when it appears: tries until it does, at most 5 s. */
void monitor_connect(struct monitor *monitor, uint64_t start_ns);

/* Sends a request. */
void monitor_send(struct monitor *monitor, const char *method, const char *path,
		  const char *body);

/* Waits for the answer and the guest's next byte, in whatever order they come:
 * microseconds from @start_ns to each. */
void wait_for_both(struct monitor *monitor, uint64_t start_ns,
		   double *ret_answer_us, double *ret_byte_us);

/* Sends a request and reads the answer, which must be a 2xx. */
void monitor_request(struct monitor *monitor, const char *method,
		     const char *path, const char *body);

/* Reads an answer from a connection, which must be a 2xx and can be the first
 * of several. */
void answer_read(int socket);

/* Waits until the guest has said @text, all of what it says until then. */
void monitor_expect(struct monitor *monitor, const char *text);

/* Waits for the guest's next byte, at most 5 s. */
char monitor_byte(struct monitor *monitor);

/* Configures one vCPU, @mib of memory and the guest's program. */
void monitor_configure(struct monitor *monitor, const char *guest, int mib);

/* Where a monitor can put its metrics; one at a time. */
const char *metrics_path(void);

/* Has it write what its metrics hold now, all sections, into @text. */
void monitor_metrics(struct monitor *monitor, char *text, size_t size);

/* The first number with that name in it; 0 if there is none. */
double metric_in(const char *text, const char *name);

/* Sends a signal, if it is not 0, and waits until the process is gone with all
 * that it held: microseconds. Releases what the monitor has here. */
double monitor_end(struct monitor *monitor, int signal);

void monitor_kill(struct monitor *monitor);

/* All at once, so that none waits for another's end. */
void monitors_kill(struct monitor monitors[], size_t count);

/* CPU time of a thread in microseconds; 0 if there is no such thread. */
double thread_cpu_us(pid_t pid, pid_t tid);

/* @ram_kib: at least so large are the mappings that are guest RAM. */
struct memory memory_of(pid_t pid, unsigned long ram_kib);

/* Runs @guest, tests/guests/clone, with 128 MiB and a drive, until it waits to
 * be a copy, and takes a snapshot. */
void template_make(struct template *template, const char *ember,
		   const char *guest);

/* How a copy of it is run, for monitor_spawn. */
#define TEMPLATE_ARGV(ember, template)                                         \
	{                                                                      \
		ember, "--restore", (template)->state, "--mem",                \
			(template)->memory, "--log-path", "/dev/null",         \
			"--api-sock", NULL, NULL                               \
	}
#define TEMPLATE_ARGV_SOCKET 8 /* where the socket's path goes */

/* `NAME MEDIAN p10 VALUE`, and the values as samples; sorts them. */
void print_figure(const char *name, double *values, size_t count);

/* `samples NAME VALUE...` of sorted values, at most a few hundred of them. */
void print_samples(const char *name, const double *values, size_t count);

/* `phases NAME PHASE=VALUE...`: what the faster quarter of all runs spends its
 * time on, but for the twentieth that is fastest: whoever is interrupted says
 * nothing about phases. These are means, which add up. Sorts the runs. */
void print_phases(const char *name, const char *const phases[],
		  struct phases_of_run *runs, size_t count);

/* The median; sorts the values. */
double median(double *values, size_t count);

#endif
