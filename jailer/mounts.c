/* SPDX-License-Identifier: Apache-2.0 */
#include "jailer/jail.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>

#define OLD_ROOT "old_root"

static int failed(const char *step, const char *path, struct error *err)
{
	return error_set_os(err, errno, "Failed to %s %s:", step, path);
}

/* pivot_root wants a mount point: the jail's root is bound onto itself, with
 * what is mounted below it. */
static int change_root(struct jail *jail, struct error *err)
{
	const char *path = jail->root_path;

	if (mount(path, path, NULL, MS_BIND | MS_REC, NULL))
		return failed("bind-mount", path, err);
	if (chdir(path))
		return failed("change to", path, err);
	if (mkdirat(AT_FDCWD, OLD_ROOT, 0700) && errno != EEXIST)
		return failed("create " OLD_ROOT " in", path, err);
	if (syscall(SYS_pivot_root, ".", OLD_ROOT))
		return failed("pivot_root to", path, err);
	if (chdir("/"))
		return failed("change to", "/", err);
	if (umount2(OLD_ROOT, MNT_DETACH))
		return failed("unmount", OLD_ROOT, err);
	if (rmdir(OLD_ROOT))
		return failed("remove", OLD_ROOT, err);
	return 0;
}

int jail_enter_root(struct jail *jail, struct error *err)
{
	int ret;

	if (jail->args.daemonize) {
		jail->null_fd = open("/dev/null", O_RDWR | O_CLOEXEC);
		if (jail->null_fd < 0)
			return failed("open", "/dev/null", err);
	}
	if (unshare(CLONE_NEWNS))
		return failed("unshare", "the mount namespace", err);
	/* What the jail mounts must not reach the host. */
	if (mount(NULL, "/", NULL, MS_SLAVE | MS_REC, NULL))
		return failed("make a slave mount of", "/", err);
	ret = jail_hold_nodes(jail, err);
	return ret ? ret : change_root(jail, err);
}
