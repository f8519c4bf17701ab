/* SPDX-License-Identifier: Apache-2.0 */
/* Other processes, ids, rights and namespaces. */
#include "tests/attacks/attack.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <linux/capability.h>
#include <linux/sched.h>
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

/* -------------------------------------------------- processes of one's own id
 */

static int trace(pid_t pid)
{
	if (ptrace(PTRACE_SEIZE, pid, NULL, NULL))
		return -errno;
	ptrace(PTRACE_INTERRUPT, pid, NULL, NULL);
	waitpid(pid, NULL, __WALL);
	return outcome(ptrace(PTRACE_DETACH, pid, NULL, NULL));
}

static int trace_outside(const struct target *target)
{
	return trace(target->outside);
}

static int trace_sibling(const struct target *target)
{
	return trace(target->sibling);
}

/* Victims are the same program, which is not position-independent. */
static int read_memory(pid_t pid)
{
	char stolen[sizeof(victims_secret)];
	struct iovec here = {stolen, sizeof(stolen)};
	struct iovec there = {victims_secret, sizeof(victims_secret)};

	return outcome(process_vm_readv(pid, &here, 1, &there, 1, 0));
}

static int read_outside(const struct target *target)
{
	return read_memory(target->outside);
}

static int read_sibling(const struct target *target)
{
	return read_memory(target->sibling);
}

static int signal_outside(const struct target *target)
{
	return outcome(kill(target->outside, 0));
}

static int signal_sibling(const struct target *target)
{
	return outcome(kill(target->sibling, 0));
}

static int signal_thread(const struct target *target)
{
	return outcome(
		syscall(SYS_tgkill, target->outside, target->outside, 0));
}

static int signal_by_descriptor(const struct target *target)
{
	int fd = (int)syscall(SYS_pidfd_open, target->outside, 0);

	if (fd < 0)
		return -errno;
	return outcome(syscall(SYS_pidfd_send_signal, fd, 0, NULL, 0));
}

/* Of the host, or of the PID namespace: then it is this program itself. */
static int signal_init(const struct target *target)
{
	(void)target;
	if (getppid() == 1)
		return NOT_HERE;
	return outcome(kill(1, 0));
}

static int steal_descriptor(const struct target *target)
{
	int fd = (int)syscall(SYS_pidfd_open, target->outside, 0);

	if (fd < 0)
		return -errno;
	return outcome(syscall(SYS_pidfd_getfd, fd, 1, 0));
}

static int limit_outside(const struct target *target)
{
	struct rlimit limit;

	return outcome(prlimit(target->outside, RLIMIT_NOFILE, NULL, &limit));
}

/* ------------------------------------------------------------- ids, rights */

static int become_root(const struct target *target)
{
	(void)target;
	return outcome(setresuid(0, 0, 0));
}

static int become_root_group(const struct target *target)
{
	(void)target;
	return outcome(setresgid(0, 0, 0));
}

static int take_groups(const struct target *target)
{
	const gid_t groups[] = {0};

	(void)target;
	return outcome(setgroups(1, groups));
}

static int take_capability(const struct target *target)
{
	struct __user_cap_header_struct header = {_LINUX_CAPABILITY_VERSION_3,
						  0};
	struct __user_cap_data_struct data[2] = {
		{.effective = 1 << CAP_SYS_ADMIN,
		 .permitted = 1 << CAP_SYS_ADMIN}};

	(void)target;
	return outcome(syscall(SYS_capset, &header, data));
}

static int inherit_capability(const struct target *target)
{
	struct __user_cap_header_struct header = {_LINUX_CAPABILITY_VERSION_3,
						  0};
	struct __user_cap_data_struct data[2];

	(void)target;
	if (syscall(SYS_capget, &header, data))
		return -errno;
	data[0].inheritable = 1 << CAP_SYS_ADMIN;
	if (syscall(SYS_capset, &header, data))
		return -errno;
	return outcome(prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE,
			     CAP_SYS_ADMIN, 0, 0));
}

/* A file of root's with the set-user-ID bit, left in the jail. It ends with
 * whether it became root. */
static int run_setuid(const struct target *target)
{
	char path[256];
	char *argv[] = {(char[]){"suid"}, (char[]){"--role"}, (char[]){"root?"},
			NULL};
	char *none[] = {NULL};
	int status;
	pid_t pid;

	if (access(in_scratch(target, "suid", path), X_OK) && errno == ENOENT)
		return NOT_HERE;
	pid = fork();
	if (pid < 0)
		return -errno;
	if (pid == 0) {
		execve(path, argv, none);
		_exit(EPERM);
	}
	if (waitpid(pid, &status, 0) != pid || !WIFEXITED(status))
		return -ECHILD;
	return -WEXITSTATUS(status);
}

static int give_privileges_back(const struct target *target)
{
	(void)target;
	if (prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) == 0)
		return 0;
	return outcome(prctl(PR_SET_NO_NEW_PRIVS, 0, 0, 0, 0));
}

static int raise_limit(const struct target *target)
{
	struct rlimit limit;

	(void)target;
	if (getrlimit(RLIMIT_NOFILE, &limit))
		return -errno;
	limit.rlim_max++;
	return outcome(setrlimit(RLIMIT_NOFILE, &limit));
}

static int raise_priority(const struct target *target)
{
	(void)target;
	return outcome(setpriority(PRIO_PROCESS, 0, -20));
}

static int be_real_time(const struct target *target)
{
	const struct sched_param param = {.sched_priority = 1};

	(void)target;
	return outcome(sched_setscheduler(0, SCHED_FIFO, &param));
}

/* Standard streams, and what was handed over on purpose, are all there is. */
static int find_descriptor(const struct target *target)
{
	for (int fd = 3; fd < 4096; fd++)
		if (fd != target->kept_fd && fcntl(fd, F_GETFD) >= 0)
			return 0;
	return -EBADF;
}

static int find_environment(const struct target *target)
{
	(void)target;
	return environ && environ[0] ? 0 : -ENOENT;
}

/* -------------------------------------------------------------- namespaces */

#define NEW_NAMESPACE(name, flag)                                              \
	static int name(const struct target *target)                           \
	{                                                                      \
		(void)target;                                                  \
		return outcome(unshare(flag));                                 \
	}

NEW_NAMESPACE(new_user_ns, CLONE_NEWUSER)
NEW_NAMESPACE(new_mount_ns, CLONE_NEWNS)
NEW_NAMESPACE(new_net_ns, CLONE_NEWNET)
NEW_NAMESPACE(new_pid_ns, CLONE_NEWPID)
NEW_NAMESPACE(new_ipc_ns, CLONE_NEWIPC)
NEW_NAMESPACE(new_uts_ns, CLONE_NEWUTS)
NEW_NAMESPACE(new_cgroup_ns, CLONE_NEWCGROUP)
NEW_NAMESPACE(new_time_ns, CLONE_NEWTIME)

/* Ends the child of a clone that worked. */
static int cloned(long pid)
{
	if (pid == 0)
		_exit(0);
	if (pid > 0)
		waitpid((pid_t)pid, NULL, __WALL);
	return outcome(pid);
}

static int clone_user_ns(const struct target *target)
{
	(void)target;
	return cloned(syscall(SYS_clone, CLONE_NEWUSER | SIGCHLD, 0, 0, 0, 0));
}

static int clone_mount_ns(const struct target *target)
{
	(void)target;
	return cloned(syscall(SYS_clone, CLONE_NEWNS | SIGCHLD, 0, 0, 0, 0));
}

static int clone3_user_ns(const struct target *target)
{
	struct clone_args args = {.flags = CLONE_NEWUSER,
				  .exit_signal = SIGCHLD};

	(void)target;
	return cloned(syscall(SYS_clone3, &args, sizeof(args)));
}

static int clone3_process(const struct target *target)
{
	struct clone_args args = {.exit_signal = SIGCHLD};

	(void)target;
	return cloned(syscall(SYS_clone3, &args, sizeof(args)));
}

static int clone_process(const struct target *target)
{
	(void)target;
	return cloned(syscall(SYS_clone, SIGCHLD, 0, 0, 0, 0));
}

static int join_mount_ns(const struct target *target)
{
	int fd = (int)syscall(SYS_pidfd_open, target->outside, 0);

	return fd < 0 ? -errno : outcome(setns(fd, CLONE_NEWNS));
}

static int join_net_ns(const struct target *target)
{
	int fd = (int)syscall(SYS_pidfd_open, target->outside, 0);

	return fd < 0 ? -errno : outcome(setns(fd, CLONE_NEWNET));
}

#define SAME_USER (LANDLOCK_1 | PIDNS | USERNS)
#define SIGNAL (LANDLOCK_6 | PIDNS)

static const struct attack attacks[] = {
	/* Nothing but walls between two processes of one user. */
	{"ptrace outside", trace_outside, SAME_USER, 0, {EPERM, ESRCH}},
	{"ptrace a sibling", trace_sibling, SAME_USER, 0, {EPERM, ESRCH}},
	{"read memory outside", read_outside, SAME_USER, 0, {EPERM, ESRCH}},
	{"read a sibling's memory", read_sibling, SAME_USER, 0, {EPERM, ESRCH}},
	{"steal a descriptor", steal_descriptor, SAME_USER, 0, {EPERM, ESRCH}},
	{"signal outside", signal_outside, SIGNAL, 0, {EPERM, ESRCH}},
	{"signal a sibling", signal_sibling, SIGNAL, 0, {EPERM, ESRCH}},
	{"signal a thread", signal_thread, SIGNAL, 0, {EPERM, ESRCH}},
	{"signal by pidfd", signal_by_descriptor, SIGNAL, 0, {EPERM, ESRCH}},
	{"read limits outside",
	 limit_outside,
	 PIDNS | FILTER,
	 HOST_DECIDES,
	 {ESRCH}},
	{"signal process 1", signal_init, JAIL, 0, {EPERM}},
	/* Nothing is left, and nothing comes back. */
	{"setresuid 0", become_root, JAIL, 0, {EPERM, EINVAL}},
	{"setresgid 0", become_root_group, JAIL, 0, {EPERM, EINVAL}},
	{"setgroups", take_groups, JAIL, 0, {EPERM}},
	{"capset", take_capability, JAIL, 0, {EPERM}},
	{"ambient capability", inherit_capability, JAIL, 0, {EPERM}},
	{"run a setuid program", run_setuid, JAIL, 0, {EPERM, EACCES}},
	{"undo no_new_privs", give_privileges_back, JAIL, 0, {EINVAL}},
	{"raise a limit", raise_limit, JAIL, HOST_DECIDES, {EPERM}},
	{"raise the priority", raise_priority, JAIL, 0, {EPERM, EACCES}},
	{"real-time scheduling", be_real_time, JAIL, HOST_DECIDES, {EPERM}},
	{"find an inherited descriptor", find_descriptor, JAIL, 0, {EBADF}},
	{"find an environment", find_environment, JAIL, 0, {ENOENT}},
	/* A user namespace gives rights over what is new in it: where the
	 * kernel lets everybody make one, only a jail in one of its own, where
	 * their number is 0, or the filter says no. */
	{"user namespace",
	 new_user_ns,
	 USERNS | FILTER,
	 HOST_DECIDES,
	 {ENOSPC}},
	{"clone: user namespace",
	 clone_user_ns,
	 USERNS | FILTER,
	 HOST_DECIDES,
	 {ENOSPC}},
	{"clone3: user namespace",
	 clone3_user_ns,
	 USERNS | FILTER,
	 HOST_DECIDES,
	 {ENOSPC}},
	{"mount namespace", new_mount_ns, JAIL, 0, {EPERM}},
	{"clone: mount namespace", clone_mount_ns, JAIL, 0, {EPERM}},
	{"network namespace", new_net_ns, JAIL, 0, {EPERM}},
	{"PID namespace", new_pid_ns, JAIL, 0, {EPERM}},
	{"IPC namespace", new_ipc_ns, JAIL, 0, {EPERM}},
	{"UTS namespace", new_uts_ns, JAIL, 0, {EPERM}},
	{"cgroup namespace", new_cgroup_ns, JAIL, 0, {EPERM}},
	{"time namespace", new_time_ns, JAIL, 0, {EPERM}},
	{"join a mount namespace", join_mount_ns, JAIL, 0, {EPERM, ESRCH}},
	{"join a network namespace", join_net_ns, JAIL, 0, {EPERM, ESRCH}},
	{"clone a process", clone_process, FILTER, 0, {0}},
	{"clone3 a process", clone3_process, FILTER, 0, {0}},
};

const struct attack_table process_attacks = {
	attacks, sizeof(attacks) / sizeof(attacks[0])};
