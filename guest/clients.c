/* SPDX-License-Identifier: Apache-2.0 */
/* Connections from the guest to the host. */
#include "agent.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static unsigned number(const char *text)
{
	return (unsigned)strtoul(text, NULL, 10);
}

static int connect_or_fail(unsigned port)
{
	int fd = agent_connect(port);

	if (fd < 0)
		agent_fail("connect");
	return fd;
}

/* Sends the pattern and wants it back. */
static bool echo_once(int fd, size_t len)
{
	uint8_t *sent = malloc(len), *got = malloc(len);
	bool good = sent && got;

	if (good) {
		agent_pattern(sent, len, 0);
		good = agent_send(fd, sent, len) &&
		       agent_receive(fd, got, len) &&
		       memcmp(sent, got, len) == 0;
	}
	free(sent);
	free(got);
	return good;
}

/* All are open before the first is used, and used before the first closes. */
int agent_connect_echo(int argc, char **argv)
{
	unsigned port = number(argv[0]), count = number(argv[1]);
	size_t len = strtoul(argv[2], NULL, 10);
	int *fds = calloc(count + 1, sizeof(*fds));
	double start = agent_now();
	unsigned good = 0;

	(void)argc;
	if (!fds)
		agent_fail("memory");
	for (unsigned i = 0; i < count; i++)
		fds[i] = agent_connect(port);
	for (unsigned i = 0; i < count; i++)
		good += fds[i] >= 0 && echo_once(fds[i], len);
	for (unsigned i = 0; i < count; i++)
		if (fds[i] >= 0)
			close(fds[i]);
	printf("connections %u good %u seconds %.3f\n", count, good,
	       agent_now() - start);
	free(fds);
	return good != count;
}

int agent_sequential(int argc, char **argv)
{
	unsigned port = number(argv[0]), count = number(argv[1]), good = 0;
	double start = agent_now();

	(void)argc;
	for (unsigned i = 0; i < count; i++) {
		int fd = agent_connect(port);

		good += fd >= 0 && echo_once(fd, 1);
		if (fd >= 0)
			close(fd);
	}
	printf("sequential %u good %u seconds %.3f\n", count, good,
	       agent_now() - start);
	return good != count;
}

int agent_ping(int argc, char **argv)
{
	int fd = connect_or_fail(number(argv[0]));
	unsigned count = number(argv[1]);
	double start = agent_now();
	bool good = true;

	(void)argc;
	for (unsigned i = 0; i < count && good; i++)
		good = echo_once(fd, 1);
	printf("round-trips %u us %.1f\n", count,
	       (agent_now() - start) * 1e6 / count);
	return !good;
}

static void print_rest(int fd)
{
	char data[4096];
	ssize_t n;

	while ((n = read(fd, data, sizeof(data))) > 0)
		fwrite(data, 1, (size_t)n, stdout);
}

int agent_half_close(int argc, char **argv)
{
	int fd = connect_or_fail(number(argv[0]));

	(void)argc;
	if (!agent_send(fd, "ping\n", 5))
		return 1;
	shutdown(fd, SHUT_WR);
	print_rest(fd);
	return 0;
}

int agent_push(int argc, char **argv)
{
	int fd = connect_or_fail(number(argv[0]));
	double start = agent_now();

	(void)argc;
	if (!agent_send_pattern(fd, strtoull(argv[1], NULL, 10)))
		return 1;
	shutdown(fd, SHUT_WR);
	print_rest(fd);
	printf("pushed %s seconds %.3f\n", argv[1], agent_now() - start);
	return 0;
}
