/* SPDX-License-Identifier: Apache-2.0 */
/* Files, mounts and device nodes. */
#include "tests/attacks/attack.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/if_tun.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/swap.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <unistd.h>

static int read_file(int dir_fd, const char *path)
{
	int fd = openat(dir_fd, path, O_RDONLY | O_CLOEXEC);
	char byte;
	int ret = fd < 0 ? -errno : outcome(read(fd, &byte, 1));

	close(fd);
	return ret;
}

static int open_path(const struct target *target)
{
	return read_file(AT_FDCWD, target->secret);
}

static int open_dots(const struct target *target)
{
	char path[512];

	snprintf(path, sizeof(path), "/../../../../../../../../%s",
		 target->secret);
	return read_file(AT_FDCWD, path);
}

static int open_proc_root(const struct target *target)
{
	(void)target;
	return read_file(AT_FDCWD, "/proc/1/root/etc/passwd");
}

static int open_proc_memory(const struct target *target)
{
	char path[64];

	snprintf(path, sizeof(path), "/proc/%d/maps", target->outside);
	return read_file(AT_FDCWD, path);
}

static int open_kept(const struct target *target)
{
	if (target->kept_fd < 0)
		return NOT_HERE;
	return read_file(target->kept_fd, "secret");
}

static int write_kept(const struct target *target)
{
	int fd;

	if (target->kept_fd < 0)
		return NOT_HERE;
	fd = openat(target->kept_fd, "made", O_WRONLY | O_CREAT, 0600);
	if (fd < 0)
		return -errno;
	close(fd);
	return outcome(unlinkat(target->kept_fd, "made", 0));
}

/* The classic: a root below, a directory outside of it still open. */
static int leave_chroot(const struct target *target)
{
	char below[256];
	int fd = open("/", O_RDONLY | O_DIRECTORY);

	mkdir(in_scratch(target, "below", below), 0700);
	if (chroot(below))
		return -errno;
	if (fchdir(fd))
		return -errno;
	for (int i = 0; i < 32; i++)
		if (chdir(".."))
			return -errno;
	if (chroot("."))
		return -errno;
	return read_file(AT_FDCWD, target->secret);
}

static int go_to_kept(const struct target *target)
{
	if (target->kept_fd < 0)
		return NOT_HERE;
	if (fchdir(target->kept_fd))
		return -errno;
	return read_file(AT_FDCWD, "secret");
}

static int hard_link(const struct target *target)
{
	char path[256];

	if (linkat(AT_FDCWD, target->secret, AT_FDCWD,
		   in_scratch(target, "link", path), 0))
		return -errno;
	return outcome(unlink(path));
}

static int open_by_handle(const struct target *target)
{
	union {
		struct file_handle handle;
		char bytes[sizeof(struct file_handle) + MAX_HANDLE_SZ];
	} file = {.handle.handle_bytes = MAX_HANDLE_SZ};
	int mount_id;
	int fd = open(target->scratch, O_RDONLY | O_DIRECTORY);

	if (name_to_handle_at(AT_FDCWD, target->scratch, &file.handle,
			      &mount_id, 0))
		return errno == EOPNOTSUPP ? NOT_HERE : -errno;
	fd = open_by_handle_at(fd, &file.handle, O_RDONLY);
	return outcome(fd);
}

/* ----------------------------------------------------------------- mounts */

/* What could be mounted is unmounted again. */
static int try_mount(const struct target *target, const char *source,
		     const char *type, unsigned long flags)
{
	if (mount(source, target->scratch, type, flags, NULL))
		return -errno;
	return outcome(umount2(target->scratch, MNT_DETACH));
}

static int mount_proc(const struct target *target)
{
	return try_mount(target, "proc", "proc", 0);
}

static int mount_tmpfs(const struct target *target)
{
	return try_mount(target, "none", "tmpfs", 0);
}

static int mount_bind(const struct target *target)
{
	return try_mount(target, "/", NULL, MS_BIND);
}

static int mount_remount(const struct target *target)
{
	(void)target;
	return outcome(mount(NULL, "/", NULL, MS_REMOUNT | MS_BIND, NULL));
}

static int mount_by_descriptor(const struct target *target)
{
	(void)target;
	return outcome(open_tree(AT_FDCWD, "/", OPEN_TREE_CLONE));
}

static int mount_new_way(const struct target *target)
{
	(void)target;
	return outcome(fsopen("tmpfs", 0));
}

/* Where there is no right to do so, it does not matter what is mounted. */
static int unmount(const struct target *target)
{
	mount("/", target->scratch, NULL, MS_BIND, NULL);
	return outcome(umount2(target->scratch, MNT_DETACH));
}

static int pivot(const struct target *target)
{
	if (chdir(target->scratch))
		return -errno;
	return outcome(syscall(SYS_pivot_root, ".", "."));
}

static int change_root(const struct target *target)
{
	return outcome(chroot(target->scratch));
}

/* ---------------------------------------------------------------- devices */

static int make_node(const struct target *target, mode_t type, dev_t device)
{
	char path[256];

	if (mknod(in_scratch(target, "node", path), type | 0600, device))
		return -errno;
	return outcome(unlink(path));
}

static int make_char_node(const struct target *target)
{
	return make_node(target, S_IFCHR, makedev(1, 1)); /* memory */
}

static int make_block_node(const struct target *target)
{
	return make_node(target, S_IFBLK, makedev(8, 0)); /* a disk */
}

/* Of another device than the monitor needs, and of another user. */
static int open_foreign_node(const struct target *target)
{
	char path[256];
	int fd = open(in_scratch(target, "kmsg", path), O_RDONLY | O_NONBLOCK);

	return fd < 0 && errno == ENOENT ? NOT_HERE : outcome(fd);
}

/* Somebody left a device where everybody can open it. */
static int speak_to_stray_node(const struct target *target)
{
	unsigned int features;
	char path[256];
	int fd = open(in_scratch(target, "tun", path), O_RDWR);

	if (fd < 0)
		return errno == ENOENT ? NOT_HERE : -errno;
	return outcome(ioctl(fd, TUNGETFEATURES, &features));
}

static int swap(const struct target *target)
{
	char path[256];

	return outcome(swapon(in_scratch(target, "none", path), 0));
}

static int account(const struct target *target)
{
	char path[256];
	int fd = open(in_scratch(target, "acct", path), O_WRONLY | O_CREAT,
		      0600);

	close(fd);
	if (acct(path))
		return -errno;
	return outcome(acct(NULL));
}

static const struct attack attacks[] = {
	/* Paths mean the inside, and there is no /proc. */
	{"open a file of the host", open_path, JAIL, 0, {ENOENT}},
	{"open it by many ..", open_dots, JAIL, 0, {ENOENT}},
	{"open /proc/1/root", open_proc_root, JAIL, 0, {ENOENT}},
	{"read another process in /proc", open_proc_memory, JAIL, 0, {ENOENT}},
	{"make a hard link to it", hard_link, JAIL, 0, {ENOENT}},
	{"leave a chroot", leave_chroot, JAIL, 0, {EPERM}},
	{"open a file by its handle", open_by_handle, JAIL, 0, {EPERM}},
	/* A directory that should not have been handed over. */
	{"open in a directory outside", open_kept, LANDLOCK_1, 0, {EACCES}},
	{"change to a directory outside", go_to_kept, LANDLOCK_1, 0, {EACCES}},
	{"write to a directory outside", write_kept, LANDLOCK_1, 0, {EACCES}},
	{"mount /proc", mount_proc, JAIL, 0, {EPERM}},
	{"mount a tmpfs", mount_tmpfs, JAIL, 0, {EPERM}},
	{"mount / elsewhere", mount_bind, JAIL, 0, {EPERM}},
	{"remount /", mount_remount, JAIL, 0, {EPERM}},
	{"clone a mount", mount_by_descriptor, JAIL, 0, {EPERM}},
	{"open a file system", mount_new_way, JAIL, 0, {EPERM}},
	{"unmount", unmount, JAIL, 0, {EPERM}},
	{"pivot_root", pivot, JAIL, ONLY_JAILED, {EPERM}},
	{"chroot", change_root, JAIL, 0, {EPERM}},
	{"make a node of memory", make_char_node, JAIL, 0, {EPERM, EACCES}},
	{"make a node of a disk", make_block_node, JAIL, 0, {EPERM, EACCES}},
	{"open another's node", open_foreign_node, JAIL, 0, {EACCES}},
	{"ioctl outside /dev", speak_to_stray_node, LANDLOCK_5, 0, {EACCES}},
	{"swapon", swap, JAIL, ONLY_JAILED, {EPERM}},
	{"acct", account, JAIL, HOST_DECIDES, {EPERM, ENOSYS}},
};

const struct attack_table file_attacks = {attacks,
					  sizeof(attacks) / sizeof(attacks[0])};
