/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Servers. The echo server holds thousands of connections in one process; the
 * others fork one process for each.
 */
#include "agent.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static unsigned number(const char *text)
{
	return (unsigned)strtoul(text, NULL, 10);
}

/* -------------------------------------------------------------------- echo */

struct echo {
	int fd;
	bool ended; /* nothing more comes */
	size_t off, len;
	char *data; /* what could not be sent yet */
};

#define ECHO_BUFFER 65536

static void echo_close(struct echo *echo)
{
	close(echo->fd);
	free(echo->data);
	free(echo);
}

static void echo_watch(int epoll, struct echo *echo)
{
	struct epoll_event event = {
		.events = echo->len ? EPOLLOUT : EPOLLIN,
		.data.ptr = echo,
	};

	epoll_ctl(epoll, EPOLL_CTL_MOD, echo->fd, &event);
}

/* False: the connection is over. */
static bool echo_flush(struct echo *echo)
{
	while (echo->len) {
		ssize_t n = write(echo->fd, echo->data + echo->off, echo->len);

		if (n < 0)
			return errno == EAGAIN;
		echo->off += (size_t)n;
		echo->len -= (size_t)n;
	}
	echo->off = 0;
	return true;
}

static void echo_serve(int epoll, struct echo *echo)
{
	bool had = echo->len;
	ssize_t n;

	if (!echo_flush(echo)) {
		echo_close(echo);
		return;
	}
	if (!echo->len) {
		n = read(echo->fd, echo->data, ECHO_BUFFER);
		if (n == 0 || (n < 0 && errno != EAGAIN)) {
			echo_close(echo);
			return;
		}
		echo->len = n > 0 ? (size_t)n : 0;
		if (!echo_flush(echo)) {
			echo_close(echo);
			return;
		}
	}
	if (had != (echo->len != 0))
		echo_watch(epoll, echo);
}

static void echo_accept(int epoll, int listener)
{
	struct epoll_event event = {.events = EPOLLIN};
	struct echo *echo = calloc(1, sizeof(*echo));

	if (!echo)
		agent_fail("memory");
	echo->data = malloc(ECHO_BUFFER);
	echo->fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
	if (echo->fd < 0 || !echo->data) {
		free(echo->data);
		free(echo);
		usleep(10000); /* who waits will be there then, too */
		return;
	}
	event.data.ptr = echo;
	epoll_ctl(epoll, EPOLL_CTL_ADD, echo->fd, &event);
}

int agent_echo(int argc, char **argv)
{
	int listener = agent_listen(number(argv[0]));
	struct epoll_event event = {.events = EPOLLIN}, events[64];
	int epoll = epoll_create1(EPOLL_CLOEXEC);

	(void)argc;
	epoll_ctl(epoll, EPOLL_CTL_ADD, listener, &event);
	for (;;) {
		int n = epoll_wait(epoll, events, 64, -1);

		for (int i = 0; i < n; i++)
			if (events[i].data.ptr)
				echo_serve(epoll, events[i].data.ptr);
			else
				echo_accept(epoll, listener);
	}
}

/* ---------------------------------------------------------- one process each
 */

/* Calls @serve in a process of its own for every connection. */
static int serve_forking(unsigned port, void (*serve)(int fd, void *arg),
			 void *arg)
{
	struct pollfd listener = {.fd = agent_listen(port), .events = POLLIN};

	signal(SIGCHLD, SIG_IGN);
	for (;;) {
		int fd;

		if (poll(&listener, 1, -1) < 0)
			continue;
		fd = accept4(listener.fd, NULL, NULL, SOCK_CLOEXEC);
		if (fd < 0)
			continue;
		if (fork() == 0) {
			close(listener.fd);
			signal(SIGCHLD, SIG_DFL);
			serve(fd, arg);
			exit(0);
		}
		close(fd);
	}
}

/*
 * exec: requests {le32 length, command}, answered by frames {u8 kind, le32
 * length, bytes}: kind 1 is output, kind 2 the exit status as le32, after which
 * the next request may come.
 */
#define COMMAND_MAX 65536

enum {
	FRAME_OUTPUT = 1,
	FRAME_EXIT = 2,
};

static void put32(uint8_t *to, uint32_t value)
{
	for (int i = 0; i < 4; i++)
		to[i] = (uint8_t)(value >> (8 * i));
}

static uint32_t get32(const uint8_t *from)
{
	return from[0] | (uint32_t)from[1] << 8 | (uint32_t)from[2] << 16 |
	       (uint32_t)from[3] << 24;
}

static bool send_frame(int fd, uint8_t kind, const void *data, uint32_t len)
{
	uint8_t head[5] = {kind};

	put32(head + 1, len);
	return agent_send(fd, head, sizeof(head)) && agent_send(fd, data, len);
}

static pid_t start_command(const char *command, int *ret_output)
{
	int pipes[2];
	pid_t pid;

	if (pipe(pipes))
		agent_fail("pipe");
	pid = fork();
	if (pid == 0) {
		setpgid(0, 0);
		dup2(pipes[1], STDOUT_FILENO);
		dup2(pipes[1], STDERR_FILENO);
		close(pipes[0]);
		close(pipes[1]);
		signal(SIGPIPE, SIG_DFL);
		execl("/bin/sh", "sh", "-c", command, (char *)NULL);
		_exit(127);
	}
	close(pipes[1]);
	*ret_output = pipes[0];
	return pid;
}

/* Passes output on until its end. False when the client has gone. */
static bool pass_output(int fd, int output)
{
	struct pollfd polled[] = {
		{.fd = output, .events = POLLIN},
		{.fd = fd, .events = POLLRDHUP},
	};
	char data[4096];

	for (;;) {
		ssize_t n;

		poll(polled, 2, -1);
		if (polled[1].revents & (POLLHUP | POLLERR))
			return false;
		/* It asks no more, but still listens. */
		if (polled[1].revents & POLLRDHUP)
			polled[1].events = 0;
		if (!(polled[0].revents & (POLLIN | POLLHUP)))
			continue;
		n = read(output, data, sizeof(data));
		if (n <= 0)
			return true;
		if (!send_frame(fd, FRAME_OUTPUT, data, (uint32_t)n))
			return false;
	}
}

static bool run_command(int fd, const char *command)
{
	uint8_t status[4];
	int output, result;
	pid_t pid = start_command(command, &output);
	bool alive = pass_output(fd, output);

	if (!alive)
		kill(-pid, SIGKILL);
	close(output);
	waitpid(pid, &result, 0);
	put32(status, WIFEXITED(result) ? (uint32_t)WEXITSTATUS(result)
					: 128 + (uint32_t)WTERMSIG(result));
	return alive && send_frame(fd, FRAME_EXIT, status, sizeof(status));
}

static void serve_exec(int fd, void *arg)
{
	char *command = malloc(COMMAND_MAX + 1);
	uint8_t head[4];

	(void)arg;
	while (command && agent_receive(fd, head, sizeof(head))) {
		uint32_t len = get32(head);

		if (len > COMMAND_MAX || !agent_receive(fd, command, len))
			break;
		command[len] = '\0';
		if (!run_command(fd, command))
			break;
	}
	free(command);
}

int agent_exec(int argc, char **argv)
{
	(void)argc;
	return serve_forking(number(argv[0]), serve_exec, NULL);
}

/* function: one line in, one line of JSON out; what a small service does. */
static void answer_line(FILE *stream, const char *line)
{
	struct timespec now;

	clock_gettime(CLOCK_BOOTTIME, &now);
	fprintf(stream, "{\"uptime_ms\":%ld,\"length\":%zu,\"reversed\":\"",
		(long)now.tv_sec * 1000 + now.tv_nsec / 1000000, strlen(line));
	for (size_t i = strlen(line); i--;) {
		unsigned char c = (unsigned char)line[i];

		if (c < 0x20 || c == '"' || c == '\\' || c >= 0x7f)
			fprintf(stream, "\\u%04x", c);
		else
			fputc(c, stream);
	}
	fputs("\"}\n", stream);
	fflush(stream);
}

static void serve_function(int fd, void *arg)
{
	FILE *in = fdopen(fd, "r"), *out = fdopen(dup(fd), "w");
	char line[4096];

	(void)arg;
	while (in && out && fgets(line, sizeof(line), in)) {
		line[strcspn(line, "\n")] = '\0';
		answer_line(out, line);
	}
}

int agent_function(int argc, char **argv)
{
	(void)argc;
	return serve_forking(number(argv[0]), serve_function, NULL);
}

/* ------------------------------------------------------------ source and sink
 */

static void serve_source(int fd, void *arg)
{
	char rest[256];

	if (agent_send_pattern(fd, *(const uint64_t *)arg))
		shutdown(fd, SHUT_WR);
	while (read(fd, rest, sizeof(rest)) > 0)
		;
}

int agent_source(int argc, char **argv)
{
	uint64_t bytes = strtoull(argv[1], NULL, 10);

	(void)argc;
	return serve_forking(number(argv[0]), serve_source, &bytes);
}

/* The verdict: a line with the number of bytes and whether they were right. */
static void serve_sink(int fd, void *arg)
{
	bool matched;
	uint64_t bytes =
		agent_receive_pattern(fd, *(const uint64_t *)arg, &matched);
	char text[64];
	int len = snprintf(text, sizeof(text), "%lu %d\n", (unsigned long)bytes,
			   matched);

	agent_send(fd, text, (size_t)len);
}

int agent_sink(int argc, char **argv)
{
	uint64_t all = UINT64_MAX;

	(void)argc;
	return serve_forking(number(argv[0]), serve_sink, &all);
}

/* For whoever cannot end one direction of a connection. */
int agent_take(int argc, char **argv)
{
	uint64_t bytes = strtoull(argv[1], NULL, 10);

	(void)argc;
	return serve_forking(number(argv[0]), serve_sink, &bytes);
}
