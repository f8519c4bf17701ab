/* SPDX-License-Identifier: Apache-2.0 */
/*
 * kill_at PID N: kills a process, with SIGKILL, when its first thread is about
 * to make its Nth system call, so that this one is not made. Waiting for events
 * and talking to KVM do not count. Says `ready` when it watches, `killed in
 * NUMBER` when it has done it. Whoever ends this program lets the process go.
 */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/wait.h>

/* The number of a call that is about to be made and counts; -1: none. */
static long entered(pid_t pid)
{
	struct __ptrace_syscall_info info;
	long number;

	if (ptrace(PTRACE_GET_SYSCALL_INFO, pid, sizeof(info), &info) <= 0 ||
	    info.op != PTRACE_SYSCALL_INFO_ENTRY)
		return -1;
	number = (long)info.entry.nr;
	if (number == SYS_epoll_wait || number == SYS_epoll_pwait ||
	    number == SYS_futex || number == SYS_ioctl)
		return -1;
	return number;
}

static int watch(pid_t pid, unsigned long left)
{
	int status, signal;

	for (;;) {
		if (waitpid(pid, &status, __WALL) != pid || !WIFSTOPPED(status))
			return 1;
		signal = WSTOPSIG(status);
		if (signal == (SIGTRAP | 0x80)) {
			long number = entered(pid);

			if (number >= 0 && --left == 0) {
				printf("killed in %ld\n", number);
				return kill(pid, SIGKILL);
			}
		}
		/* Stops of ptrace's own are no signals to hand on. */
		if (signal == (SIGTRAP | 0x80) || status >> 16)
			signal = 0;
		if (ptrace(PTRACE_SYSCALL, pid, NULL, signal))
			return 1;
	}
}

int main(int argc, char **argv)
{
	pid_t pid;

	setvbuf(stdout, NULL, _IOLBF, 0);
	if (argc != 3) {
		fputs("usage: kill_at PID N\n", stderr);
		return 2;
	}
	pid = atoi(argv[1]);
	if (ptrace(PTRACE_SEIZE, pid, NULL, PTRACE_O_TRACESYSGOOD) ||
	    ptrace(PTRACE_INTERRUPT, pid, NULL, NULL)) {
		perror("kill_at");
		return 1;
	}
	puts("ready");
	return watch(pid, strtoul(argv[2], NULL, 10));
}
