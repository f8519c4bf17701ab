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

int jail_plan(struct jail *jail, struct error *err)
{
	const struct jail_args *args = &jail->args;
	char base[PATH_MAX];
	int ret = canonicalize(args->exec_file, S_IFREG, jail->exec_path, err);
	int len;

	if (ret)
		return ret;
	jail->exec_name = strrchr(jail->exec_path, '/') + 1;
	ret = canonicalize(args->chroot_base_dir, S_IFDIR, base, err);
	if (ret)
		return ret;
	len = snprintf(jail->root_path, sizeof(jail->root_path),
		       "%s/%s/%s/root", base, jail->exec_name, args->id);
	if (len >= (int)sizeof(jail->root_path))
		return error_set_os(err, ENAMETOOLONG,
				    "The jail's path is too long:");
	snprintf(jail->pid_file_name, sizeof(jail->pid_file_name), "%s.pid",
		 jail->exec_name);
	return 0;
}
