/* SPDX-License-Identifier: Apache-2.0 */
#include "api/wire.h"

#include <errno.h>
#include <poll.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

/* A client gets this long to make room for its answer. */
#define SEND_TIMEOUT_MS 1000

#define CONNECTION "Connection:"

/* Lines of the library's head that are replaced. */
static const char *const dropped[] = {"Server:", CONNECTION, "Date:"};

static bool starts_with(const char *line, const char *prefix)
{
	return strncasecmp(line, prefix, strlen(prefix)) == 0;
}

static bool is_dropped(const char *line)
{
	for (size_t i = 0; i < sizeof(dropped) / sizeof(dropped[0]); i++)
		if (starts_with(line, dropped[i]))
			return true;
	return false;
}

static const char *end_of_line(const char *line, const char *end)
{
	const char *lf = memchr(line, '\n', (size_t)(end - line));

	return lf ? lf + 1 : end;
}

/* Does the head of [head, end) say that the connection will be closed? */
static bool closes(const char *head, const char *end)
{
	for (const char *line = head; line < end; line = end_of_line(line, end))
		if (starts_with(line, CONNECTION " close"))
			return true;
	return false;
}

size_t api_wire_rewrite(const char *head, size_t len, char *out, size_t size)
{
	const char *end = head + len;
	const char *line = end_of_line(head, end);
	size_t done;
	int n;

	if (len < 13 || strncmp(head, "HTTP/1.", 7) != 0)
		return 0;
	/* `HTTP/1.1 204 ` and no reason phrase */
	n = snprintf(out, size,
		     "HTTP/1.1 %.3s \r\nServer: Firecracker API\r\n" CONNECTION
		     " %s\r\n",
		     head + 9, closes(line, end) ? "close" : "keep-alive");
	if (n < 0 || (size_t)n >= size)
		return 0;
	done = (size_t)n;
	while (line < end) {
		const char *next = end_of_line(line, end);
		size_t line_len = (size_t)(next - line);

		if (!is_dropped(line)) {
			if (line_len > size - done)
				return 0;
			memcpy(out + done, line, line_len);
			done += line_len;
		}
		line = next;
	}
	return done;
}

static bool wait_writable(int fd)
{
	struct pollfd pfd = {.fd = fd, .events = POLLOUT};

	return poll(&pfd, 1, SEND_TIMEOUT_MS) == 1;
}

/* Sends everything. In nearly every case that is one call; a client that has
 * let its socket fill up gets a moment, then it is given up. */
static int send_all(int fd, struct iovec *iov, size_t count)
{
	struct msghdr msg = {.msg_iov = iov, .msg_iovlen = count};

	while (msg.msg_iovlen) {
		ssize_t n = sendmsg(fd, &msg, MSG_NOSIGNAL | MSG_DONTWAIT);

		if (n < 0 && errno == EAGAIN && wait_writable(fd))
			continue;
		if (n < 0)
			return -1;
		while (msg.msg_iovlen && (size_t)n >= msg.msg_iov->iov_len) {
			n -= (ssize_t)msg.msg_iov->iov_len;
			msg.msg_iov++;
			msg.msg_iovlen--;
		}
		if (msg.msg_iovlen) {
			msg.msg_iov->iov_base =
				(char *)msg.msg_iov->iov_base + n;
			msg.msg_iov->iov_len -= (size_t)n;
		}
	}
	return 0;
}

/* Length of the head at the start of @buf, 0 if there is none. */
static size_t head_length(const char *buf, size_t len)
{
	const char *blank = memmem(buf, len, "\r\n\r\n", 4);

	return blank ? (size_t)(blank - buf) + 4 : 0;
}

ssize_t api_wire_sendmsg(int fd, const struct msghdr *msg, int flags)
{
	enum { IOV_MAX_HERE = 8 };
	struct iovec iov[IOV_MAX_HERE + 1];
	char head[API_WIRE_HEAD_MAX];
	size_t total = 0, head_len, new_len;

	(void)flags;
	if (msg->msg_iovlen == 0 || msg->msg_iovlen > IOV_MAX_HERE) {
		errno = EINVAL;
		return -1;
	}
	for (size_t i = 0; i < msg->msg_iovlen; i++) {
		iov[i + 1] = msg->msg_iov[i];
		total += msg->msg_iov[i].iov_len;
	}
	head_len = head_length(iov[1].iov_base, iov[1].iov_len);
	new_len = head_len ? api_wire_rewrite(iov[1].iov_base, head_len, head,
					      sizeof(head))
			   : 0;
	iov[0].iov_base = head;
	iov[0].iov_len = new_len;
	if (new_len) {
		iov[1].iov_base = (char *)iov[1].iov_base + head_len;
		iov[1].iov_len -= head_len;
	}
	if (send_all(fd, iov, msg->msg_iovlen + 1)) {
		errno = ECONNRESET; /* the library shall close, not retry */
		return -1;
	}
	return (ssize_t)total;
}

ssize_t api_wire_writev(int fd, const struct iovec *iov, int count)
{
	const struct msghdr msg = {
		.msg_iov = (struct iovec *)(uintptr_t)iov,
		.msg_iovlen = (size_t)count,
	};

	return api_wire_sendmsg(fd, &msg, 0);
}

ssize_t api_wire_send(int fd, const void *buf, size_t len, int flags)
{
	const struct iovec iov = {
		.iov_base = (void *)(uintptr_t)buf,
		.iov_len = len,
	};

	(void)flags;
	return api_wire_writev(fd, &iov, 1);
}
