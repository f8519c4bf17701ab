/* SPDX-License-Identifier: Apache-2.0 */
/*
 * inject PID TID NUMBER [ARGUMENT...]: makes a thread of another program make a
 * system call that it never meant to make. Says `returned VALUE` and lets the
 * thread go on as if nothing had happened, or `signal N` (SIGSYS of a filter)
 * and lets it die of that.
 */
#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/user.h>
#include <sys/wait.h>

#define ARGUMENTS 6

static int die(const char *what)
{
	fprintf(stderr, "inject: %s: %s\n", what, strerror(errno));
	return 1;
}

/* An instruction 0f 05 of the program's own text; 0: there is none. */
static uint64_t find_instruction(pid_t pid)
{
	char path[64], line[512], perms[8];
	uint64_t start, end, found = 0;
	FILE *maps, *memory;

	snprintf(path, sizeof(path), "/proc/%d/maps", pid);
	maps = fopen(path, "r");
	snprintf(path, sizeof(path), "/proc/%d/mem", pid);
	memory = fopen(path, "r");
	while (maps && memory && !found && fgets(line, sizeof(line), maps)) {
		int byte, last = 0;

		if (sscanf(line, "%" SCNx64 "-%" SCNx64 " %7s", &start, &end,
			   perms) != 3 ||
		    !strchr(perms, 'x') || fseeko(memory, (off_t)start, 0))
			continue;
		while (!found && start < end && (byte = fgetc(memory)) != EOF) {
			if (last == 0x0f && byte == 0x05)
				found = start - 1;
			last = byte;
			start++;
		}
	}
	if (maps)
		fclose(maps);
	if (memory)
		fclose(memory);
	return found;
}

/* The stop that comes next; its signal, or -1. */
static int next_stop(pid_t tid)
{
	int status;

	if (waitpid(tid, &status, __WALL) != tid || !WIFSTOPPED(status))
		return -1;
	return WSTOPSIG(status);
}

static int stop(pid_t tid)
{
	if (ptrace(PTRACE_SEIZE, tid, NULL, PTRACE_O_TRACESYSGOOD) ||
	    ptrace(PTRACE_INTERRUPT, tid, NULL, NULL))
		return -1;
	return next_stop(tid);
}

static void prepare(struct user_regs_struct *regs, uint64_t at, char **words)
{
	unsigned long long *const arguments[ARGUMENTS] = {
		&regs->rdi, &regs->rsi, &regs->rdx,
		&regs->r10, &regs->r8,	&regs->r9,
	};

	regs->rip = at;
	regs->rax = strtoull(*words++, NULL, 0);
	/* The call that was interrupted must not be restarted in this place. */
	regs->orig_rax = ~0ull;
	for (int i = 0; i < ARGUMENTS; i++)
		*arguments[i] = *words ? strtoull(*words++, NULL, 0) : 0;
}

/* The thread is to die of SIGSYS, as soon as it runs. */
static bool is_condemned(pid_t tid)
{
	char path[64], line[128];
	uint64_t pending = 0;
	FILE *status;

	snprintf(path, sizeof(path), "/proc/%d/status", tid);
	status = fopen(path, "r");
	while (status && fgets(line, sizeof(line), status))
		if (sscanf(line, "SigPnd: %" SCNx64, &pending) == 1)
			break;
	if (status)
		fclose(status);
	return pending >> (SIGSYS - 1) & 1;
}

/* To where the call begins, then to where it has ended. */
static int make_call(pid_t tid)
{
	for (int i = 0; i < 2; i++)
		if (ptrace(PTRACE_SYSCALL, tid, NULL, NULL) ||
		    next_stop(tid) != (SIGTRAP | 0x80))
			return -1;
	return 0;
}

static int inject(pid_t tid, uint64_t at, char **words)
{
	struct user_regs_struct before, regs;

	if (ptrace(PTRACE_GETREGS, tid, NULL, &before))
		return die("registers");
	regs = before;
	prepare(&regs, at, words);
	if (ptrace(PTRACE_SETREGS, tid, NULL, &regs))
		return die("registers");
	if (make_call(tid) || ptrace(PTRACE_GETREGS, tid, NULL, &regs))
		return die("the call");
	if (is_condemned(tid)) {
		printf("signal %d\n", SIGSYS);
	} else {
		printf("returned %lld\n", (long long)regs.rax);
		if (ptrace(PTRACE_SETREGS, tid, NULL, &before))
			return die("registers");
	}
	return ptrace(PTRACE_DETACH, tid, NULL, NULL) ? die("detach") : 0;
}

int main(int argc, char **argv)
{
	pid_t tid;
	uint64_t at;

	if (argc < 4 || argc > 4 + ARGUMENTS) {
		fputs("usage: inject PID TID NUMBER [ARGUMENT...]\n", stderr);
		return 2;
	}
	tid = atoi(argv[2]);
	at = find_instruction(atoi(argv[1]));
	if (!at)
		return die("no system call instruction");
	if (stop(tid) < 0)
		return die("cannot stop it");
	return inject(tid, at, argv + 3);
}
