/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A jail without root. An ordinary user may make a user namespace, and in it
 * has the rights that the other stages need; outside it stays who it was. Two
 * ids exist in there, the caller's, under the names --uid and --gid: nothing
 * can be given to anyone else, and what the caller cannot open outside cannot
 * be opened inside.
 */
#include "jailer/jail.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>

/* In this order: groups must be denied before a user may map one. */
static int write_proc(const char *path, const char *text)
{
	AUTO_CLOSE int fd = open(path, O_WRONLY | O_CLOEXEC);

	if (fd < 0 || write(fd, text, strlen(text)) < 0)
		return -errno;
	return 0;
}

static int map_ids(const struct jail_args *args, uid_t uid, gid_t gid)
{
	char map[64];
	int ret = write_proc("/proc/self/setgroups", "deny");

	if (ret)
		return ret;
	snprintf(map, sizeof(map), "%u %u 1", (unsigned int)args->uid, uid);
	ret = write_proc("/proc/self/uid_map", map);
	if (ret)
		return ret;
	snprintf(map, sizeof(map), "%u %u 1", (unsigned int)args->gid, gid);
	return write_proc("/proc/self/gid_map", map);
}

/*
 * The monitor could make user namespaces below this one, and have the rights in
 * them that attacks on the kernel begin with. The number is this namespace's
 * own. Where /proc cannot be written (in containers), the filters of the
 * monitor have to do.
 */
static void forbid_more(void)
{
	int ignored = write_proc("/proc/sys/user/max_user_namespaces", "0");

	(void)ignored;
}

/* ------------------------------------------------------------ device nodes */

static const struct {
	const char *path;
	int access;
	bool optional;		 /* without it something else does not work: */
	const char *consequence; /* NULL: nobody needs to be told */
} nodes[USERNS_NODES] = {
	{"/dev/kvm", R_OK | W_OK, false, NULL},
	{"/dev/net/tun", R_OK | W_OK, true,
	 "the microVM can have no network interface"},
	{"/dev/urandom", R_OK, true, "MMDS version 2 will not be available"},
	{"/dev/userfaultfd", R_OK | W_OK, true,
	 "page faults of restored memory cannot be handled outside"},
};

/* Not to be had: the end for what is needed, a warning for the rest. Kernels
 * without /dev/userfaultfd are no cause for one. */
static int lack(size_t node, int code, struct error *err)
{
	const char *path = nodes[node].path;

	if (!nodes[node].optional)
		return error_set_os(
			err, code,
			"This user cannot open %s of the host:", path);
	if (code != ENOENT || strcmp(path, "/dev/userfaultfd") != 0)
		fprintf(stderr, "Warning! Cannot open %s: %s. Hence %s.\n",
			path, os_error_text(code), nodes[node].consequence);
	return 0;
}

static int hold_nodes(struct jail *jail, struct error *err)
{
	int ret = 0;

	for (size_t i = 0; i < USERNS_NODES; i++)
		jail->host_nodes[i] = -1;
	for (size_t i = 0; !ret && i < USERNS_NODES; i++) {
		const char *path = nodes[i].path;

		if (faccessat(AT_FDCWD, path, nodes[i].access, AT_EACCESS)) {
			ret = lack(i, errno, err);
			continue;
		}
		jail->host_nodes[i] = open_tree(
			AT_FDCWD, path, OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC);
		if (jail->host_nodes[i] < 0)
			ret = error_set_os(
				err, errno,
				"Failed to hold %s of the host:", path);
	}
	return ret;
}

static int *find_held(struct jail *jail, const char *path)
{
	for (size_t i = 0; i < USERNS_NODES; i++)
		if (strcmp(nodes[i].path, path) == 0)
			return &jail->host_nodes[i];
	return NULL;
}

/* Onto a file made for it: one that is there already is somebody else's. */
int userns_bind_node(struct jail *jail, int dir_fd, const char *path,
		     const char *name)
{
	int *held = find_held(jail, path);
	AUTO_CLOSE int file = -1;
	int ret;

	if (!held || *held < 0)
		return 0;
	ret = undo_create(&jail->undo, dir_fd, name, 0600, &file);
	if (ret)
		return ret;
	if (move_mount(*held, "", file, "",
		       MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_EMPTY_PATH))
		return -errno;
	close_fd(held);
	return undo_note(&jail->undo, UNDO_MOUNT, -1, path);
}

/* ------------------------------------------------------------------ stage */

int jail_enter_user_ns(struct jail *jail, struct error *err)
{
	uid_t uid = geteuid();
	gid_t gid = getegid();
	int ret;

	if (!jail->args.new_user_ns)
		return 0;
	if (uid == 0)
		fputs("Warning! The caller of --new-user-ns is root, and so is "
		      "the monitor when it gets out of the jail.\n",
		      stderr);
	/* With mounts of its own: those of others cannot be copied from. */
	if (unshare(CLONE_NEWUSER | CLONE_NEWNS))
		return error_set_os(err, errno,
				    "Failed to make a user namespace:");
	ret = map_ids(&jail->args, uid, gid);
	if (ret)
		return error_set_os(err, -ret,
				    "Failed to map ids %u and %u in the user "
				    "namespace:",
				    (unsigned int)jail->args.uid,
				    (unsigned int)jail->args.gid);
	forbid_more();
	return hold_nodes(jail, err);
}
