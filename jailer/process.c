/* SPDX-License-Identifier: Apache-2.0 */
/*
 * --daemonize and --new-pid-ns make other processes. The one that the caller
 * started stays until one of them has become the monitor: it writes the pid
 * file, knows what to undo, and has the exit code that the caller sees. On one
 * socket pair it hears and says:
 *
 *     READY       from the child; the kernel adds its PID as we see it
 *     GO          to the child: the pid file is complete
 *     EXEC        from the child, right before the exec that closes the socket
 *     an error    from either, instead of any of theirs
 */
#include "jailer/jail.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>

#define READY 'r'
#define GO 'g'
#define EXEC 'e'

static int write_pid_file(struct jail *jail, pid_t pid, struct error *err)
{
	AUTO_CLOSE int fd = -1;
	int ret = undo_create(&jail->undo, jail->root_fd, jail->pid_file_name,
			      0644, &fd);

	if (!ret && dprintf(fd, "%d", pid) < 0)
		ret = -errno;
	if (ret)
		return error_set_os(err, -ret,
				    "Failed to write %s/%s:", jail->root_path,
				    jail->pid_file_name);
	return 0;
}

static int cannot(const char *step, struct error *err)
{
	return error_set_os(err, errno, "Failed to %s:", step);
}

/* The next message is to be @word: 0, and the sender in *@ret_pid. Otherwise it
 * is an error, or the end. */
static int hear(int fd, char word, pid_t *ret_pid, struct error *err)
{
	union {
		struct cmsghdr header;
		char space[CMSG_SPACE(sizeof(struct ucred))];
	} control;
	union {
		struct error err;
		char word;
	} said;
	struct iovec iov = {&said, sizeof(said)};
	struct msghdr msg = {.msg_iov = &iov,
			     .msg_iovlen = 1,
			     .msg_control = &control,
			     .msg_controllen = sizeof(control)};
	ssize_t n = recvmsg(fd, &msg, MSG_CMSG_CLOEXEC);
	struct cmsghdr *added = n > 0 ? CMSG_FIRSTHDR(&msg) : NULL;
	struct ucred sender;

	if (n == (ssize_t)sizeof(said)) {
		*err = said.err;
		return -said.err.code;
	}
	if (n != 1 || said.word != word || !added ||
	    added->cmsg_type != SCM_CREDENTIALS)
		return error_set(
			err, ECHILD,
			"The child ended before it became the monitor.");
	memcpy(&sender, CMSG_DATA(added), sizeof(sender));
	*ret_pid = sender.pid;
	return 0;
}

static int tell(int fd, const void *text, size_t size)
{
	return send(fd, text, size, MSG_NOSIGNAL) < 0 ? -errno : 0;
}

void jail_report(const struct jail *jail, const struct error *err)
{
	/* A parent that is gone cannot be told. */
	if (tell(jail->parent_fd, err, sizeof(*err)))
		return;
}

void jail_announce_exec(const struct jail *jail)
{
	const char word = EXEC;

	if (jail->parent_fd >= 0 && tell(jail->parent_fd, &word, 1))
		return; /* as above */
}

/* After the announcement nothing is heard: the exec closed the socket. Or the
 * reason is, why there was none. */
static int await_exec(int fd, struct error *err)
{
	struct error other;
	pid_t child;
	int ret = hear(fd, EXEC, &child, err);

	if (ret || recv(fd, &other, sizeof(other), 0) <= 0)
		return ret;
	*err = other;
	return -other.code;
}

/* The process that the caller started. @made: the child, or the one in the
 * middle. */
static int watch(struct jail *jail, int *fd, pid_t made, struct error *err)
{
	const char go = GO;
	pid_t child = -1;
	int ret = hear(*fd, READY, &child, err);

	if (!ret)
		ret = write_pid_file(jail, child, err);
	if (!ret)
		ret = jail_heed_signals(jail, err);
	if (!ret && tell(*fd, &go, 1))
		ret = error_set(err, ECHILD,
				"The child ended before its time.");
	if (!ret)
		ret = await_exec(*fd, err);
	/* Not by exit: a leak check would make a thread, in a PID namespace
	 * whose first process may have ended. */
	if (!ret)
		_exit(EXIT_SUCCESS);
	/* What is undone next nobody may use; who waits for GO ends now. */
	close_fd(fd);
	waitpid(made, NULL, 0);
	if (child > 0 && child != made)
		waitpid(child, NULL, 0);
	return ret;
}

/* The process that is to become the monitor; @fd is its end. */
static int be_child(struct jail *jail, bool session, struct error *err)
{
	char word = READY;

	if (tell(jail->parent_fd, &word, 1) ||
	    recv(jail->parent_fd, &word, 1, 0) != 1)
		_exit(EXIT_FAILURE); /* the parent knows why */
	if (session && setsid() < 0)
		return cannot("begin a session", err);
	for (int fd = 0; jail->null_fd >= 0 && fd <= STDERR_FILENO; fd++)
		if (dup2(jail->null_fd, fd) < 0)
			return cannot("put /dev/null in place", err);
	return 0;
}

/* As fork; the child is the first of a PID namespace if there is to be one. */
static pid_t fork_child(const struct jail *jail)
{
	if (jail->args.new_pid_ns && unshare(CLONE_NEWPID))
		return -1;
	return fork();
}

/* In the middle: a session without a terminal, whose leader ends, so that it
 * never gets one. */
static int be_middle(struct jail *jail, struct error *err)
{
	pid_t child;

	if (setsid() < 0)
		return cannot("begin a session", err);
	child = fork_child(jail);
	if (child < 0)
		return cannot("make a process", err);
	if (child == 0)
		return be_child(jail, false, err);
	_exit(EXIT_SUCCESS);
}

/* One process after the other is made; @ends: ours, and theirs. */
static int fork_all(struct jail *jail, int ends[2], struct error *err)
{
	bool leader = getsid(0) == getpid();
	bool middle = jail->args.daemonize;
	pid_t pid;

	/* The child is to be waited for, also when the middle one is gone. */
	if (middle && prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0))
		return cannot("adopt the child", err);
	pid = middle ? fork() : fork_child(jail);
	if (pid < 0)
		return cannot("make a process", err);
	if (pid > 0) {
		close_fd(&ends[1]);
		return watch(jail, &ends[0], pid, err);
	}
	close_fd(&ends[0]);
	jail->parent_fd = take_fd(&ends[1]);
	return middle ? be_middle(jail, err) : be_child(jail, leader, err);
}

int jail_fork(struct jail *jail, struct error *err)
{
	const int on = 1;
	int ends[2];
	int ret;

	if (!jail->args.daemonize && !jail->args.new_pid_ns)
		return write_pid_file(jail, getpid(), err);
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends))
		return cannot("make a socket pair", err);
	if (setsockopt(ends[0], SOL_SOCKET, SO_PASSCRED, &on, sizeof(on)))
		ret = cannot("ask for senders", err);
	else
		ret = fork_all(jail, ends, err);
	close_fd(&ends[0]);
	close_fd(&ends[1]);
	return ret;
}
