/* SPDX-License-Identifier: Apache-2.0 */
#include "jailer/jail.h"

#include <errno.h>
#include <linux/capability.h>
#include <linux/keyctl.h>
#include <sys/prctl.h>
#include <sys/syscall.h>

static int drop_capabilities(void)
{
	struct __user_cap_header_struct header = {_LINUX_CAPABILITY_VERSION_3,
						  0};
	struct __user_cap_data_struct none[2] = {0};

	return syscall(SYS_capset, &header, none) ? -errno : 0;
}

/* The bounding set is what an exec as uid 0 would get back. Its end is where
 * the kernel says EINVAL. */
static int empty_bounding_set(void)
{
	for (unsigned long cap = 0; cap < 64; cap++)
		if (prctl(PR_CAPBSET_DROP, cap, 0, 0, 0))
			return errno == EINVAL ? 0 : -errno;
	return 0;
}

/* Keys of the caller's session would be the monitor's to use, whoever it is. A
 * new session has none; a kernel without keys, or a container that lets nobody
 * near them, needs none. */
static int leave_keys(void)
{
	if (syscall(SYS_keyctl, KEYCTL_JOIN_SESSION_KEYRING, NULL) < 0 &&
	    errno != ENOSYS && errno != EPERM)
		return -errno;
	return 0;
}

/* Of this thread alone (see undoer.c), hence not by the C library. */
static int become(long call, unsigned int id)
{
	return syscall(call, id, id, id) ? -1 : 0;
}

/*
 * The undoer has rights, and this thread's memory, which other processes of the
 * new user must not reach by a debugger's ways. Whoever lacks capabilities that
 * a thread has cannot trace it, so they are kept until the memory is shut for
 * everybody. The exec ends both.
 */
static void keep_capabilities(void)
{
	/* Where the caller locked that, the kernel's fs.suid_dumpable, which is
	 * 0 unless somebody debugs, shuts the memory with the change of ids. */
	if (prctl(PR_SET_KEEPCAPS, 1, 0, 0, 0))
		return;
}

static int shut_memory(void)
{
	return prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) ? -errno : 0;
}

int jail_drop_privileges(struct jail *jail, struct error *err)
{
	gid_t gid = (gid_t)jail->args.gid;
	uid_t uid = (uid_t)jail->args.uid;
	int ret = empty_bounding_set();

	if (ret)
		return error_set_os(err, -ret,
				    "Failed to empty the bounding set:");
	ret = leave_keys();
	if (ret)
		return error_set_os(err, -ret,
				    "Failed to leave the session's keys:");
	/* In a user namespace of an ordinary user's, groups are the caller's
	 * for good: the kernel has setgroups denied there. */
	if (!jail->args.new_user_ns && syscall(SYS_setgroups, 0, NULL))
		return error_set_os(err, errno, "Failed to drop groups:");
	keep_capabilities();
	if (become(SYS_setresgid, gid))
		return error_set_os(err, errno,
				    "Failed to become group %u:", gid);
	if (become(SYS_setresuid, uid))
		return error_set_os(err, errno,
				    "Failed to become user %u:", uid);
	ret = shut_memory();
	if (!ret)
		ret = drop_capabilities();
	if (!ret && prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))
		ret = -errno;
	if (ret)
		return error_set_os(err, -ret, "Failed to drop capabilities:");
	return 0;
}
