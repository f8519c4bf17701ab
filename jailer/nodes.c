/* SPDX-License-Identifier: Apache-2.0 */
#include "jailer/jail.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

static const char *const directories[] = {"/", "/dev", "/dev/net", "/run"};

static const struct {
	const char *path;
	unsigned int major, minor;
} nodes[] = {
	{"/dev/kvm", 10, 232},
	{"/dev/net/tun", 10, 200},
	{"/dev/urandom", 1, 9},
};

static int give_away(const struct jail *jail, const char *path, mode_t mode)
{
	if (chmod(path, mode) ||
	    lchown(path, (uid_t)jail->args.uid, (gid_t)jail->args.gid))
		return -errno;
	return 0;
}

static int make_directory(struct jail *jail, const char *path,
			  struct error *err)
{
	int ret = 0;

	if (mkdir(path, 0700) && errno != EEXIST)
		ret = -errno;
	if (!ret)
		ret = give_away(jail, path, 0700);
	if (ret)
		return error_set_os(
			err, -ret,
			"Failed to create directory %s in the jail:", path);
	return 0;
}

int jail_make_nodes(struct jail *jail, struct error *err)
{
	int ret = 0;

	for (size_t i = 0; !ret && i < ARRAY_SIZE(directories); i++)
		ret = make_directory(jail, directories[i], err);
	if (!ret && jail->args.new_user_ns)
		return jail_bind_nodes(jail, err);
	for (size_t i = 0; !ret && i < ARRAY_SIZE(nodes); i++) {
		if (mknod(nodes[i].path, S_IFCHR | 0600,
			  makedev(nodes[i].major, nodes[i].minor)))
			ret = -errno;
		if (!ret)
			ret = give_away(jail, nodes[i].path, 0600);
		if (ret)
			error_set_os(err, -ret,
				     "Failed to create %s in the jail:",
				     nodes[i].path);
	}
	return ret;
}
