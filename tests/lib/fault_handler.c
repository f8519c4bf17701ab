/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fault_handler SOCKET MEMORY_FILE [AHEAD]: a page-fault handler for any number
 * of microVMs one after the other or at once, a process for each. Fills as many
 * pages as AHEAD says behind the one that was asked for. Says `ready` on its
 * standard output when it listens, `microvm PID: MESSAGE` for each that comes,
 * and `microvm PID: gone after N faults, M removals` at its end.
 */
#include "tests/fake/fault_handler.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <unistd.h>

static int serve(struct fault_handler *handler)
{
	struct ucred peer = {0};
	socklen_t len = sizeof(peer);
	int ret;

	if (getsockopt(handler->stream, SOL_SOCKET, SO_PEERCRED, &peer, &len))
		return 1;
	printf("microvm %d: %s\n", peer.pid, handler->message);
	ret = fault_handler_serve(handler);
	if (ret)
		fprintf(stderr, "fault_handler: %s\n", strerror(-ret));
	printf("microvm %d: gone after %ju faults, %ju removals\n", peer.pid,
	       (uintmax_t)handler->served, (uintmax_t)handler->removes);
	return ret ? 1 : 0;
}

int main(int argc, char **argv)
{
	int listener, memory;

	setvbuf(stdout, NULL, _IOLBF, 0);
	signal(SIGCHLD, SIG_IGN);
	if (argc != 3 && argc != 4) {
		fputs("usage: fault_handler SOCKET MEMORY_FILE [AHEAD]\n",
		      stderr);
		return 2;
	}
	listener = fault_handler_listen(argv[1]);
	memory = open(argv[2], O_RDONLY | O_CLOEXEC);
	if (listener < 0 || memory < 0) {
		perror("fault_handler");
		return 1;
	}
	puts("ready");
	for (;;) {
		struct fault_handler handler;
		int ret = fault_handler_accept(&handler, listener, memory);

		if (ret) {
			fprintf(stderr, "fault_handler: %s\n", strerror(-ret));
			continue;
		}
		if (argc == 4)
			handler.ahead = strtoul(argv[3], NULL, 10);
		if (fork() == 0) {
			prctl(PR_SET_PDEATHSIG, SIGKILL);
			return serve(&handler);
		}
		fault_handler_release(&handler);
	}
}
