/* SPDX-License-Identifier: Apache-2.0 */
#include "jailer/jail.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

/* Where a path leads; it must be of type @type (S_IFREG, S_IFDIR). */
static int canonicalize(const char *path, mode_t type, char *ret,
			struct error *err)
{
	struct stat st;

	if (!realpath(path, ret))
		return error_set_os(err, errno,
				    "Failed to canonicalize path %s:", path);
	if (stat(ret, &st))
		return error_set_os(err, errno, "Failed to look at %s:", ret);
	if ((st.st_mode & S_IFMT) != type)
		return error_set(err, EINVAL, "%s is not a %s", path,
				 type == S_IFREG ? "file" : "directory");
	return 0;
}

/* The minor number of a driver in /proc/misc, or -1. */
static int find_misc_minor(const char *driver)
{
	FILE *file = fopen("/proc/misc", "re");
	char line[128], name[64];
	int minor = -1, found = -1;

	while (file && found < 0 && fgets(line, sizeof(line), file)) {
		char *end;

		minor = (int)strtol(line, &end, 10);
		snprintf(name, sizeof(name), "%s", end + strspn(end, " "));
		name[strcspn(name, "\n")] = '\0';
		if (strcmp(name, driver) == 0)
			found = minor;
	}
	if (file)
		fclose(file);
	return found;
}

/* In a user namespace of its own, 0 is but a name of the caller's. */
static void warn_of_root(const struct jail_args *args)
{
	if (args->cleanup || args->new_user_ns)
		return;
	if (args->uid == 0 || args->gid == 0)
		fprintf(stderr,
			"Warning! The microVM runs as uid %lu, gid %lu: zero "
			"is root, to whom the host's files belong.\n",
			args->uid, args->gid);
}

/* The files of cgroups were opened by root: they take any process that the
 * monitor has a number for. */
static void warn_of_late_cgroup(const struct jail_args *args)
{
	if (args->late_cgroup && !args->new_pid_ns && !args->cleanup)
		fputs("Warning! Until its microVM is there, a monitor with "
		      "--late-cgroup and without --new-pid-ns could move "
		      "processes of the host into its cgroups.\n",
		      stderr);
}

int jail_plan(struct jail *jail, struct error *err)
{
	const struct jail_args *args = &jail->args;
	int ret = canonicalize(args->exec_file, S_IFREG, jail->exec_path, err);
	const char *base = jail->base_path;
	int len;

	if (ret)
		return ret;
	jail->exec_name = strrchr(jail->exec_path, '/') + 1;
	ret = canonicalize(args->chroot_base_dir, S_IFDIR, jail->base_path,
			   err);
	if (ret)
		return ret;
	/* Without a second slash behind /: cleanup.c compares the path. */
	len = snprintf(jail->root_path, sizeof(jail->root_path),
		       "%s/%s/%s/root", strcmp(base, "/") ? base : "",
		       jail->exec_name, args->id);
	if (len >= (int)sizeof(jail->root_path))
		return error_set_os(err, ENAMETOOLONG,
				    "The jail's path is too long:");
	snprintf(jail->pid_file_name, sizeof(jail->pid_file_name), "%s.pid",
		 jail->exec_name);
	jail->uffd_minor = find_misc_minor("userfaultfd");
	warn_of_root(args);
	warn_of_late_cgroup(args);
	return 0;
}
