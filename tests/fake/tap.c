/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/fake/tap.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>

#define SOCKET_BUFFER KIB(512)

struct fake_tap fake_tap = {.peer = -1};

int tap_open(struct tap *tap, const char *name, struct error *err)
{
	const int size = SOCKET_BUFFER;
	int fds[2];

	if (strlen(name) > TAP_NAME_MAX)
		return error_set(err, EINVAL, "Invalid interface name");
	if (socketpair(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0,
		       fds))
		return error_set_os(err, errno, "No fake tap:");
	for (int i = 0; i < 2; i++)
		(void)setsockopt(fds[i], SOL_SOCKET, SO_SNDBUF, &size,
				 sizeof(size));
	strcpy(tap->name, name);
	tap->fd = fds[0];
	fake_tap = (struct fake_tap){.peer = fds[1]};
	return 0;
}

int tap_adopt(struct tap *tap, int fd, struct error *err)
{
	(void)tap;
	return error_set(err, EINVAL, "descriptor %d is not a tap", fd);
}

int tap_set_offloads(struct tap *tap, unsigned flags)
{
	(void)tap;
	fake_tap.offloads = flags;
	return -fake_tap.refuse_offloads;
}

void tap_close(struct tap *tap)
{
	close_fd(&tap->fd);
	close_fd(&fake_tap.peer);
}
