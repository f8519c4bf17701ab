/* SPDX-License-Identifier: Apache-2.0 */
/*
 * until WORD PROGRAM ARGUMENT...: how long a program takes from its exec until
 * it has printed WORD. Prints that in microseconds and kills the program; no
 * interpreter is in the way.
 */
#include "vmm/util.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>

#define TIMEOUT_MS 10000

static _Noreturn void die(const char *what)
{
	fprintf(stderr, "until: %s: %s\n", what, strerror(errno));
	exit(EXIT_FAILURE);
}

static pid_t spawn(char *argv[], int output)
{
	char path[8] = "PATH=/";
	char *const environment[] = {path, NULL};
	posix_spawn_file_actions_t actions;
	pid_t pid;

	posix_spawn_file_actions_init(&actions);
	posix_spawn_file_actions_addopen(&actions, STDIN_FILENO, "/dev/null", 0,
					 0);
	posix_spawn_file_actions_adddup2(&actions, output, STDOUT_FILENO);
	errno = posix_spawn(&pid, argv[0], &actions, NULL, argv, environment);
	if (errno)
		die(argv[0]);
	posix_spawn_file_actions_destroy(&actions);
	return pid;
}

/* False: the program ended, or said nothing for too long. */
static bool wait_for(const char *word, int fd)
{
	struct pollfd poll_fd = {.fd = fd, .events = POLLIN};
	char text[4096];
	size_t len = 0;

	while (len < sizeof(text) - 1 && poll(&poll_fd, 1, TIMEOUT_MS) > 0) {
		ssize_t n = read(fd, text + len, sizeof(text) - 1 - len);

		if (n <= 0)
			break;
		len += (size_t)n;
		text[len] = '\0';
		if (strstr(text, word))
			return true;
	}
	return false;
}

int main(int argc, char *argv[])
{
	uint64_t start, end;
	int ends[2];
	bool seen;
	pid_t pid;

	if (argc < 3) {
		fputs("usage: until WORD PROGRAM ARGUMENT...\n", stderr);
		return EXIT_FAILURE;
	}
	if (pipe2(ends, O_CLOEXEC))
		die("pipe");
	prctl(PR_SET_TIMERSLACK, 1);
	start = monotonic_ns();
	pid = spawn(argv + 2, ends[1]);
	close(ends[1]);
	seen = wait_for(argv[1], ends[0]);
	end = monotonic_ns();
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
	if (!seen) {
		fprintf(stderr, "until: '%s' was not said\n", argv[1]);
		return EXIT_FAILURE;
	}
	printf("%ju\n", (uintmax_t)((end - start) / 1000));
	return EXIT_SUCCESS;
}
