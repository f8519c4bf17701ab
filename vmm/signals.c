/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/signals.h"

#include "vmm/log.h"
#include "vmm/seccomp.h"
#include "vmm/serial.h"

#include <errno.h>
#include <linux/audit.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/prctl.h>

/*
 * The fatal-signal block: handlers have no argument to reach the microVM by.
 * Written once, before any handler can run.
 */
static struct {
	struct metrics *metrics;
	struct loop_source pipe_source;
} block;

static const struct {
	int signum;
	int exit_code;
	size_t counter; /* offset in struct signal_metrics, or NO_COUNTER */
} fatal_signals[] = {
#define NO_COUNTER SIZE_MAX
	{SIGSYS, 148, NO_COUNTER},
	{SIGBUS, 149, offsetof(struct signal_metrics, sigbus)},
	{SIGSEGV, 150, offsetof(struct signal_metrics, sigsegv)},
	{SIGXFSZ, 151, offsetof(struct signal_metrics, sigxfsz)},
	{SIGXCPU, 154, offsetof(struct signal_metrics, sigxcpu)},
	{SIGHUP, 156, offsetof(struct signal_metrics, sighup)},
	{SIGILL, 157, offsetof(struct signal_metrics, sigill)},
};

/* A SIGSYS that seccomp did not raise (si_code 1) is somebody's kill. */
#define SI_CODE_SECCOMP 1
#define EXIT_UNEXPECTED 2

static void count(size_t offset)
{
	struct metric_store *counter;

	if (offset == NO_COUNTER)
		return;
	counter = (void *)((char *)&block.metrics->signals + offset);
	atomic_fetch_add(&counter->value, 1);
}

static void report_violation(const siginfo_t *info)
{
	const bool ours = info->si_arch == AUDIT_ARCH_X86_64;
	char thread[16] = "";
	char line[128];

	metric_set(&block.metrics->seccomp_num_faults, 1);
	snprintf(line, sizeof(line),
		 "Shutting down VM after intercepting a bad syscall (%d).\n",
		 info->si_syscall);
	log_write_raw(line);
	prctl(PR_GET_NAME, thread);
	snprintf(line, sizeof(line),
		 "Thread %s made the system call %s, which its filter does not "
		 "allow.\n",
		 thread,
		 ours ? seccomp_call_name(info->si_syscall)
		      : "of another architecture");
	log_write_raw(line);
}

/*
 * Not all of this is on the list of async-signal-safe functions; the process
 * is lost anyway, and metrics_flush_last neither allocates nor locks.
 * SA_RESETHAND makes a fault in here final instead of endless.
 */
static void on_fatal(int signum, siginfo_t *info, void *context)
{
	char line[128];
	int exit_code = EXIT_FAILURE;

	(void)context;
	for (size_t i = 0; i < ARRAY_SIZE(fatal_signals); i++) {
		if (fatal_signals[i].signum != signum)
			continue;
		exit_code = fatal_signals[i].exit_code;
		count(fatal_signals[i].counter);
	}
	snprintf(line, sizeof(line),
		 "Shutting down VM after intercepting signal %d, code %d.\n",
		 signum, info->si_code);
	log_write_raw(line);
	if (signum == SIGSYS && info->si_code != SI_CODE_SECCOMP) {
		exit_code = EXIT_UNEXPECTED;
	} else if (signum == SIGSYS) {
		report_violation(info);
	}
	if (metrics_flush_last(block.metrics))
		log_write_raw("Cannot write metrics.\n");
	snprintf(line, sizeof(line),
		 "Firecracker exiting with error. exit_code=%d\n", exit_code);
	log_write_raw(line);
	serial_restore_terminal();
	_exit(exit_code);
}

/* The interrupted code may hold the log's lock: the loop writes the line. */
static void on_pipe(int signum)
{
	const uint64_t one = 1;
	int saved = errno;

	(void)signum;
	atomic_fetch_add(&block.metrics->signals.sigpipe.value, 1);
	if (write(block.pipe_source.fd, &one, sizeof(one)) < 0)
		errno = saved; /* a line is due already */
	errno = saved;
}

static void log_pipe(struct loop_source *source, uint32_t events)
{
	uint64_t times;

	(void)events;
	if (read(source->fd, &times, sizeof(times)) == sizeof(times))
		log_guest_at(LOG_LEVEL_ERROR, "Received signal %d, %lu times.",
			     SIGPIPE, (unsigned long)times);
}

static int watch_pipe(struct loop *loop)
{
	struct sigaction action = {.sa_handler = on_pipe,
				   .sa_flags = SA_RESTART};
	int fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	int ret;

	if (fd < 0)
		return -errno;
	block.pipe_source = (struct loop_source){
		.fd = fd,
		.events = EPOLLIN,
		.class = LOOP_CONTROL,
		.fn = log_pipe,
	};
	ret = loop_add(loop, &block.pipe_source);
	if (ret)
		return ret;
	return sigaction(SIGPIPE, &action, NULL) ? -errno : 0;
}

int signals_install(struct loop *loop, struct metrics *metrics)
{
	struct sigaction fatal = {
		.sa_sigaction = on_fatal,
		.sa_flags = SA_SIGINFO | (int)SA_RESETHAND,
	};

	block.metrics = metrics;
	for (size_t i = 0; i < ARRAY_SIZE(fatal_signals); i++)
		if (sigaction(fatal_signals[i].signum, &fatal, NULL))
			return -errno;
	return watch_pipe(loop);
}
