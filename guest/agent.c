/* SPDX-License-Identifier: Apache-2.0 */
#include "agent.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/vm_sockets.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#define BACKLOG 4096

void agent_fail(const char *what)
{
	perror(what);
	exit(1);
}

double agent_now(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

/* --------------------------------------------------------------- transport */

union address {
	struct sockaddr any;
	struct sockaddr_in in;
	struct sockaddr_vm vm;
	struct sockaddr_un un;
};

static socklen_t make_address(union address *address, unsigned cid,
			      unsigned port)
{
	const char *prefix = getenv("VSOCK_UNIX");
	const char *host = getenv("AGENT_TCP");

	memset(address, 0, sizeof(*address));
	if (prefix) {
		address->un.sun_family = AF_UNIX;
		snprintf(address->un.sun_path, sizeof(address->un.sun_path),
			 "%.90s_%u", prefix, port);
		return sizeof(address->un);
	}
	if (host) {
		address->in.sin_family = AF_INET;
		address->in.sin_port = htons((uint16_t)port);
		inet_pton(AF_INET, host, &address->in.sin_addr);
		return sizeof(address->in);
	}
	address->vm.svm_family = AF_VSOCK;
	address->vm.svm_cid = cid;
	address->vm.svm_port = port;
	return sizeof(address->vm);
}

int agent_listen(unsigned port)
{
	union address address;
	socklen_t len = make_address(&address, VMADDR_CID_ANY, port);
	int fd = socket(address.any.sa_family,
			SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

	if (fd < 0 || bind(fd, &address.any, len) || listen(fd, BACKLOG))
		agent_fail("listen");
	printf("ready %u\n", port);
	fflush(stdout);
	return fd;
}

int agent_connect(unsigned port)
{
	union address address;
	socklen_t len = make_address(&address, VMADDR_CID_HOST, port);
	int fd = socket(address.any.sa_family, SOCK_STREAM | SOCK_CLOEXEC, 0);

	if (fd < 0 || connect(fd, &address.any, len) == 0)
		return fd;
	close(fd);
	return -1;
}

/* -------------------------------------------------------------------- data */

bool agent_send(int fd, const void *data, size_t len)
{
	const char *from = data;

	while (len) {
		ssize_t n = write(fd, from, len);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return false;
		from += n;
		len -= (size_t)n;
	}
	return true;
}

bool agent_receive(int fd, void *data, size_t len)
{
	char *to = data;

	while (len) {
		ssize_t n = read(fd, to, len);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return false;
		to += n;
		len -= (size_t)n;
	}
	return true;
}

void agent_pattern(uint8_t *buf, size_t len, uint64_t off)
{
	for (size_t i = 0; i < len; i++) {
		uint64_t word =
			((off + i) / 8 + 1) * UINT64_C(0x9e3779b97f4a7c15);

		buf[i] = (uint8_t)(word >> (8 * ((off + i) % 8)));
	}
}

#define CHUNK 65536

/* The pattern repeats for nobody's eyes: made once for all of a chunk's
 * offsets, it would be a different test. So it is made each time. */
bool agent_send_pattern(int fd, uint64_t bytes)
{
	static uint8_t chunk[CHUNK];

	for (uint64_t off = 0; off < bytes; off += CHUNK) {
		size_t len =
			bytes - off < CHUNK ? (size_t)(bytes - off) : CHUNK;

		agent_pattern(chunk, len, off);
		if (!agent_send(fd, chunk, len))
			return false;
	}
	return true;
}

uint64_t agent_receive_pattern(int fd, uint64_t most, bool *ret_matched)
{
	static uint8_t chunk[CHUNK], wanted[CHUNK];
	uint64_t off = 0;
	ssize_t n;

	*ret_matched = true;
	while (off < most && (n = read(fd, chunk, sizeof(chunk))) != 0) {
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0) {
			*ret_matched = false;
			break;
		}
		agent_pattern(wanted, (size_t)n, off);
		if (memcmp(chunk, wanted, (size_t)n) != 0)
			*ret_matched = false;
		off += (uint64_t)n;
	}
	return off;
}

/* ---------------------------------------------------------------- commands */

static const struct {
	const char *name;
	int args;
	const char *usage;
	int (*run)(int argc, char **argv);
} commands[] = {
	{"echo", 1, "PORT: sends back what comes", agent_echo},
	{"exec", 1, "PORT: runs commands", agent_exec},
	{"function", 1, "PORT: answers lines with JSON", agent_function},
	{"source", 2, "PORT BYTES: sends the pattern to who connects",
	 agent_source},
	{"sink", 1, "PORT: receives the pattern, tells how it was", agent_sink},
	{"take", 2, "PORT BYTES: as sink, when so much has come", agent_take},
	{"connect-echo", 3, "PORT COUNT BYTES: that many connections at once",
	 agent_connect_echo},
	{"sequential", 2, "PORT COUNT: connections one after the other",
	 agent_sequential},
	{"ping", 2, "PORT COUNT: round trips of one byte", agent_ping},
	{"half-close", 1, "PORT: ends one direction, reads the other",
	 agent_half_close},
	{"push", 2, "PORT BYTES: sends the pattern to the host", agent_push},
	{"soak", 2, "PORT FILE: ticks and writes, tells how it stands",
	 agent_soak},
	{"disk", 3, "PATH DEPTH COUNT: reads so many blocks, so many at once",
	 agent_disk},
};

#define COMMAND_COUNT (sizeof(commands) / sizeof(commands[0]))

static int usage(void)
{
	fprintf(stderr, "usage: ember-agent COMMAND...\n");
	for (size_t i = 0; i < COMMAND_COUNT; i++)
		fprintf(stderr, "  %s %s\n", commands[i].name,
			commands[i].usage);
	return 2;
}

/* Thousands of connections want as many descriptors. */
static void raise_limits(void)
{
	struct rlimit limit = {16384, 16384};

	if (setrlimit(RLIMIT_NOFILE, &limit))
		perror("RLIMIT_NOFILE");
}

int main(int argc, char **argv)
{
	signal(SIGPIPE, SIG_IGN);
	raise_limits();
	for (size_t i = 0; argc > 1 && i < COMMAND_COUNT; i++)
		if (strcmp(commands[i].name, argv[1]) == 0 &&
		    argc - 2 == commands[i].args)
			return commands[i].run(argc - 2, argv + 2);
	return usage();
}
