/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/terminal.h"

#include <errno.h>
#include <stdatomic.h>
#include <termios.h>

/* The terminal as it was before it was made raw; a signal handler has to find
 * it. */
static struct {
	int fd;
	struct termios attributes;
	_Atomic bool changed;
} terminal;

bool terminal_is_background(int fd)
{
	pid_t foreground = tcgetpgrp(fd);

	return foreground >= 0 && foreground != getpgrp();
}

int terminal_make_raw(int fd)
{
	struct termios raw;

	if (tcgetattr(fd, &terminal.attributes))
		return -errno;
	raw = terminal.attributes;
	cfmakeraw(&raw);
	if (tcsetattr(fd, TCSANOW, &raw))
		return -errno;
	terminal.fd = fd;
	atomic_store(&terminal.changed, true);
	return 0;
}

void terminal_restore(void)
{
	if (atomic_exchange(&terminal.changed, false))
		tcsetattr(terminal.fd, TCSANOW, &terminal.attributes);
}
