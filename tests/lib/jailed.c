/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A program to be jailed: tells what it sees, one `KEY VALUE` per line. Static,
 * because there are no libraries in a jail.
 *
 *     jailed ... [--to FILE] [--wait | --pause] [--code N]
 *
 * --to: the report goes there instead of to standard output. --wait: until
 * standard input ends. --pause: for ever. --code: the exit code. What else
 * there is on the command line it only tells.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <linux/keyctl.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#define FDS 4096
#define SIGNALS 64

static void tell_words(FILE *out, const char *key, char **words)
{
	for (; *words; words++)
		fprintf(out, "%s %s\n", key, *words);
}

static void tell_ids(FILE *out)
{
	uid_t r, e, s;
	gid_t groups[64];
	int count = getgroups(64, groups);

	getresuid(&r, &e, &s);
	fprintf(out, "uids %u %u %u\n", r, e, s);
	getresgid(&r, &e, &s);
	fprintf(out, "gids %u %u %u\n", r, e, s);
	for (int i = 0; i < count; i++)
		fprintf(out, "group %u\n", groups[i]);
	fprintf(out, "pid %d\nppid %d\nsid %d\npgid %d\n", getpid(), getppid(),
		getsid(0), getpgrp());
}

static void tell_capabilities(FILE *out)
{
	struct __user_cap_header_struct header = {_LINUX_CAPABILITY_VERSION_3,
						  0};
	struct __user_cap_data_struct caps[2] = {0};
	int bounding = 0;

	syscall(SYS_capget, &header, caps);
	for (unsigned long cap = 0; cap < 64; cap++)
		bounding += prctl(PR_CAPBSET_READ, cap, 0, 0, 0) == 1;
	fprintf(out, "caps %x%08x %x%08x %x%08x\n", caps[1].effective,
		caps[0].effective, caps[1].permitted, caps[0].permitted,
		caps[1].inheritable, caps[0].inheritable);
	fprintf(out, "bounding %d\nno_new_privs %d\n", bounding,
		prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0));
}

/* Whether the session's keyring can be searched, and what is found in it. */
static void tell_keys(FILE *out)
{
	long key = syscall(SYS_keyctl, KEYCTL_SEARCH, KEY_SPEC_SESSION_KEYRING,
			   "user", "ember-test", 0);

	fprintf(out, "key %s\n", key < 0 ? strerror(errno) : "found");
}

static void tell_fds(FILE *out)
{
	struct stat st;

	for (int fd = 0; fd < FDS; fd++)
		if (fd != fileno(out) || fd <= STDERR_FILENO)
			if (fstat(fd, &st) == 0)
				fprintf(out, "fd %d %o %u:%u\n", fd,
					st.st_mode & S_IFMT, major(st.st_rdev),
					minor(st.st_rdev));
}

static void tell_limits(FILE *out)
{
	struct rlimit files, size;
	mode_t mask = umask(0);

	umask(mask);
	getrlimit(RLIMIT_NOFILE, &files);
	getrlimit(RLIMIT_FSIZE, &size);
	fprintf(out, "nofile %lu %lu\nfsize %lu %lu\numask %o\n",
		files.rlim_cur, files.rlim_max, size.rlim_cur, size.rlim_max,
		mask);
}

static void tell_signals(FILE *out)
{
	sigset_t blocked;

	sigprocmask(SIG_SETMASK, NULL, &blocked);
	for (int sig = 1; sig < SIGNALS; sig++) {
		struct sigaction action = {0};

		sigaction(sig, NULL, &action);
		if (sigismember(&blocked, sig))
			fprintf(out, "blocked %d\n", sig);
		if (action.sa_handler == SIG_IGN)
			fprintf(out, "ignored %d\n", sig);
	}
}

/* The files of the jail, by what this user can find. */
static void tell_files(FILE *out, const char *path)
{
	DIR *dir = opendir(*path ? path : "/");
	struct dirent *entry;

	while (dir && (entry = readdir(dir))) {
		char below[4096];
		struct stat st;

		if (!strcmp(entry->d_name, ".") || !strcmp(entry->d_name, ".."))
			continue;
		snprintf(below, sizeof(below), "%s/%s", path, entry->d_name);
		if (lstat(below, &st))
			continue;
		fprintf(out, "file %s\n", below);
		if (S_ISDIR(st.st_mode))
			tell_files(out, below);
	}
	if (dir)
		closedir(dir);
}

static void tell_open(FILE *out, const char *path, int flags)
{
	int fd = open(path, flags | O_NONBLOCK);

	fprintf(out, "open %s %s\n", path, fd < 0 ? strerror(errno) : "ok");
	if (fd >= 0)
		close(fd);
}

static void tell_all(FILE *out, char **argv, char **environment)
{
	char cwd[4096];

	tell_fds(out);
	tell_words(out, "arg", argv);
	tell_words(out, "env", environment);
	fprintf(out, "cwd %s\n", getcwd(cwd, sizeof(cwd)) ? cwd : "none");
	tell_ids(out);
	tell_capabilities(out);
	tell_keys(out);
	tell_limits(out);
	tell_signals(out);
	tell_open(out, "/dev/kvm", O_RDWR);
	tell_open(out, "/dev/net/tun", O_RDWR);
	tell_open(out, "/dev/urandom", O_RDONLY);
	tell_open(out, argv[0], O_WRONLY);
	tell_files(out, "");
	fprintf(out, "end\n");
}

int main(int argc, char *argv[], char *environment[])
{
	bool wait = false, idle = false;
	FILE *out = stdout;
	int code = 0;
	char byte;

	for (int i = 1; i < argc; i++) {
		if (!strcmp(argv[i], "--to") && i + 1 < argc)
			out = fopen(argv[++i], "w");
		else if (!strcmp(argv[i], "--code") && i + 1 < argc)
			code = (int)strtol(argv[++i], NULL, 10);
		else if (!strcmp(argv[i], "--wait"))
			wait = true;
		else if (!strcmp(argv[i], "--pause"))
			idle = true;
	}
	if (!out)
		return 99;
	tell_all(out, argv, environment);
	fclose(out);
	while (wait && read(STDIN_FILENO, &byte, 1) == 1)
		continue;
	while (idle)
		pause();
	return code;
}
