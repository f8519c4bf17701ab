/* SPDX-License-Identifier: Apache-2.0 */
#include "jailer/jail.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/nsfs.h>
#include <sched.h>
#include <sys/ioctl.h>

/* Symbolic links are fine: the path is the operator's. Not waiting: it might
 * lead to a FIFO by mistake. */
int jail_join_netns(struct jail *jail, struct error *err)
{
	const char *path = jail->args.netns;
	AUTO_CLOSE int fd = -1;

	if (!path)
		return 0;
	fd = open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
	if (fd < 0)
		return error_set_os(
			err, errno,
			"Failed to open network namespace %s:", path);
	if (ioctl(fd, NS_GET_NSTYPE) != CLONE_NEWNET)
		return error_set(err, EINVAL, "%s is not a network namespace",
				 path);
	if (setns(fd, CLONE_NEWNET))
		return error_set_os(
			err, errno,
			"Failed to join network namespace %s:", path);
	return 0;
}
