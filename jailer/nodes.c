/* SPDX-License-Identifier: Apache-2.0 */
/*
 * All by descriptors of directories that were entered without following links:
 * whoever had this jail before may have left anything here. The directories
 * change hands last, so that their new owner cannot exchange a node.
 */
#include "jailer/jail.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#define MISC_MAJOR 10

enum directory { ROOT, DEV, NET, RUN, DIRECTORIES };

static const struct {
	const char *path, *name;
	enum directory parent;
} directories[DIRECTORIES] = {
	[ROOT] = {"/", "/", ROOT},
	[DEV] = {"/dev", "dev", ROOT},
	[NET] = {"/dev/net", "net", DEV},
	[RUN] = {"/run", "run", ROOT},
};

struct node {
	enum directory directory;
	const char *path, *name;
	unsigned int major, minor;
	const char *without; /* what is missing without it; NULL: needed */
};

static const struct node nodes[] = {
	{DEV, "/dev/kvm", "kvm", MISC_MAJOR, 232, NULL},
	{NET, "/dev/net/tun", "tun", MISC_MAJOR, 200, NULL},
	{DEV, "/dev/urandom", "urandom", 1, 9,
	 "MMDS version 2 will not be available."},
};

static int open_directories(struct jail *jail, int fds[], struct error *err)
{
	int ret = 0;

	fds[ROOT] = open("/", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fds[ROOT] < 0)
		return error_set_os(err, errno, "Failed to open the jail's /:");
	for (size_t i = DEV; !ret && i < DIRECTORIES; i++) {
		ret = undo_mkdir(&jail->undo, fds[directories[i].parent],
				 directories[i].name, 0700, &fds[i]);
		if (ret)
			error_set_os(
				err, -ret,
				"Failed to create directory %s in the jail:",
				directories[i].path);
	}
	return ret;
}

/* An earlier owner of the directory who is still about may have put something
 * else in the node's place, even the binary that all jails have a link to. */
static int give_node(struct jail *jail, int dir_fd, const struct node *node)
{
	AUTO_CLOSE int fd =
		openat(dir_fd, node->name, O_PATH | O_NOFOLLOW | O_CLOEXEC);
	struct stat st;

	if (fd < 0 || fstat(fd, &st))
		return -errno;
	if (!S_ISCHR(st.st_mode) ||
	    st.st_rdev != makedev(node->major, node->minor))
		return -EEXIST;
	if (fchownat(fd, "", (uid_t)jail->args.uid, (gid_t)jail->args.gid,
		     AT_EMPTY_PATH))
		return -errno;
	return 0;
}

static int make_node(struct jail *jail, int dir_fd, const struct node *node)
{
	int ret;

	if (jail->args.new_user_ns)
		return userns_bind_node(jail, dir_fd, node->path, node->name);
	if (mknodat(dir_fd, node->name, S_IFCHR | 0600,
		    makedev(node->major, node->minor)))
		return -errno;
	ret = undo_note(&jail->undo, UNDO_FILE, dir_fd, node->name);
	if (ret)
		unlinkat(dir_fd, node->name, 0);
	return ret ? ret : give_node(jail, dir_fd, node);
}

static int place_node(struct jail *jail, const int fds[],
		      const struct node *node, struct error *err)
{
	int ret = make_node(jail, fds[node->directory], node);

	if (ret && node->without) {
		fprintf(stderr, "Warning! Could not create %s (%s). %s\n",
			node->path, os_error_text(-ret), node->without);
		return 0;
	}
	if (ret)
		return error_set_os(
			err, -ret,
			"Failed to create %s in the jail:", node->path);
	return 0;
}

/* What it was before is noted: it may have been there before this jail. */
static int give_away(struct jail *jail, int fd, const char *path,
		     struct error *err)
{
	uid_t uid = (uid_t)jail->args.uid;
	gid_t gid = (gid_t)jail->args.gid;
	struct stat st;
	int ret =
		fstat(fd, &st) ? -errno : undo_note_owner(&jail->undo, fd, &st);

	if (!ret && (st.st_mode & 07777) != 0700 && fchmod(fd, 0700))
		ret = -errno;
	if (!ret && fchown(fd, uid, gid))
		ret = -errno;
	if (ret)
		return error_set_os(
			err, -ret, "Failed to give away %s of the jail:", path);
	return 0;
}

static int fill(struct jail *jail, int fds[], struct error *err)
{
	const struct node uffd = {DEV,
				  "/dev/userfaultfd",
				  "userfaultfd",
				  MISC_MAJOR,
				  (unsigned int)jail->uffd_minor,
				  NULL};
	int ret = open_directories(jail, fds, err);

	for (size_t i = 0; !ret && i < ARRAY_SIZE(nodes); i++)
		ret = place_node(jail, fds, &nodes[i], err);
	if (!ret && jail->uffd_minor >= 0)
		ret = place_node(jail, fds, &uffd, err);
	for (size_t i = ROOT; !ret && i < DIRECTORIES; i++)
		ret = give_away(jail, fds[i], directories[i].path, err);
	return ret;
}

int jail_make_nodes(struct jail *jail, struct error *err)
{
	int fds[DIRECTORIES] = {-1, -1, -1, -1};
	mode_t mask = umask(0); /* modes are what the tables say */
	int ret = fill(jail, fds, err);

	umask(mask);
	for (size_t i = ROOT; i < DIRECTORIES; i++)
		close_fd(&fds[i]);
	return ret;
}
