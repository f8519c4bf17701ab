/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/cgroups.h"

#include <errno.h>
#include <linux/magic.h>
#include <sys/vfs.h>
#include <unistd.h>

bool cgroups_has(int fd)
{
	struct statfs fs;

	if (fstatfs(fd, &fs))
		return false;
	return fs.f_type == CGROUP_SUPER_MAGIC ||
	       fs.f_type == CGROUP2_SUPER_MAGIC;
}

int cgroups_join(struct cgroups *cgroups, struct error *err)
{
	for (; cgroups->count > 0; cgroups->count--) {
		int *fd = &cgroups->fds[cgroups->count - 1];

		/* 0: whoever writes it, in whatever PID namespace. */
		if (write(*fd, "0", 1) < 0)
			return error_set_os(err, errno,
					    "The microVM cannot be moved into "
					    "its cgroup:");
		close_fd(fd);
	}
	return 0;
}
