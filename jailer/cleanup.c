/* SPDX-License-Identifier: Apache-2.0 */
/*
 * --cleanup: takes a jail's directory, cgroups and taps away when nobody lives
 * there.
 *
 * The microVM's user owned all of the jail and may have left anything in it:
 * links, FIFOs, directories nested deeper than descriptors or the stack would
 * reach. So nothing is opened but directories, no link is followed, and instead
 * of recursion each directory is moved up beside the jail's root and is then
 * only one level away. Mounts are the operator's, and are not crossed.
 */
#include "jailer/jail.h"

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <mntent.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/syscall.h>

#define DIRECTORY_FLAGS (O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC)

/* BASE/EXEC_NAME/ID while it is taken away. */
struct site {
	const struct jail *jail;
	char path[PATH_MAX];
	int parent_fd; /* EXEC_NAME */
	int fd;	       /* ID, locked */
	unsigned long moved;
	struct error *err;
};

static int failed(const struct site *site, const char *step, const char *name)
{
	return error_set_os(site->err, errno, "Failed to %s %s of %s:", step,
			    name, site->path);
}

/* No mount point may be in the jail: what is mounted there is not the jail's.
 */
static int refuse_mounts(const struct site *site)
{
	FILE *file = setmntent("/proc/self/mounts", "re");
	char text[PATH_MAX * 2];
	size_t len = strlen(site->path);
	struct mntent entry;
	int ret = 0;

	if (!file)
		return failed(site, "look for mounts", "in a part");
	while (!ret && getmntent_r(file, &entry, text, sizeof(text)))
		if (!strncmp(entry.mnt_dir, site->path, len) &&
		    (entry.mnt_dir[len] == '/' || !entry.mnt_dir[len]))
			ret = error_set(site->err, EBUSY,
					"%s is a mount point: unmount it "
					"first.",
					entry.mnt_dir);
	endmntent(file);
	return ret;
}

/* Whether the root of a process is that of the jail. */
static bool lives_in(int proc_fd, const char *pid, const struct stat *root)
{
	char path[NAME_MAX + 8];
	struct stat st;

	snprintf(path, sizeof(path), "%s/root", pid);
	return fstatat(proc_fd, path, &st, 0) == 0 &&
	       st.st_dev == root->st_dev && st.st_ino == root->st_ino;
}

/* The pid file is not asked: its directory is the microVM's own. */
static int refuse_inhabitants(const struct site *site)
{
	DIR *proc = opendir("/proc");
	struct dirent *entry;
	struct stat root;
	int ret = 0;

	if (!proc)
		return failed(site, "look for processes", "in a part");
	if (fstatat(site->fd, "root", &root, AT_SYMLINK_NOFOLLOW) == 0)
		while (!ret && (entry = readdir(proc)))
			if (isdigit((unsigned char)entry->d_name[0]) &&
			    lives_in(dirfd(proc), entry->d_name, &root))
				ret = error_set(site->err, EBUSY,
						"Process %s runs in %s/root.",
						entry->d_name, site->path);
	closedir(proc);
	return ret;
}

/* An ordinary user who was the tenant too may have locked itself out. */
static void unlock(int dir_fd, const char *name)
{
	if (geteuid() != 0 && fchmodat(dir_fd, name, 0700, 0))
		return; /* what is done with it next says why */
}

/* Puts a directory into the jail's own one, under a name that is free there. */
static int move_up(struct site *site, int dir_fd, const char *name)
{
	char new_name[32];

	unlock(dir_fd, name);
	do {
		snprintf(new_name, sizeof(new_name), ".removed-%lu",
			 site->moved++);
		if (renameat2(dir_fd, name, site->fd, new_name,
			      RENAME_NOREPLACE) == 0)
			return 0;
	} while (errno == EEXIST);
	return failed(site, "move", name);
}

/* Empties a directory: files go, directories that are not empty move up. */
static int empty(struct site *site, int fd)
{
	DIR *dir = fdopendir(fd);
	struct dirent *entry;
	int ret = 0;

	if (!dir) {
		close(fd);
		return failed(site, "read", "a directory");
	}
	while (!ret && (entry = readdir(dir))) {
		const char *name = entry->d_name;

		if (!strcmp(name, ".") || !strcmp(name, ".."))
			continue;
		if (unlinkat(dirfd(dir), name, 0) == 0 ||
		    unlinkat(dirfd(dir), name, AT_REMOVEDIR) == 0)
			continue;
		ret = errno == ENOTEMPTY ? move_up(site, dirfd(dir), name)
					 : failed(site, "remove", name);
	}
	closedir(dir);
	return ret;
}

/* Not one that was mounted there after all, since refuse_mounts looked. */
static int open_directory(const struct site *site, const char *name)
{
	const struct open_how how = {.flags = DIRECTORY_FLAGS,
				     .resolve = RESOLVE_NO_XDEV |
						RESOLVE_NO_SYMLINKS};

	unlock(site->fd, name);
	return (int)syscall(SYS_openat2, site->fd, name, &how, sizeof(how));
}

/* A directory of the jail's own one, which is gone afterwards. */
static int remove_directory(struct site *site, const char *name)
{
	int fd = open_directory(site, name);
	int ret = fd < 0 ? failed(site, "open", name) : empty(site, fd);

	if (!ret && unlinkat(site->fd, name, AT_REMOVEDIR))
		ret = failed(site, "remove", name);
	return ret;
}

/* One pass over the jail's own directory; *@found: how much there was. More
 * may have been moved to it meanwhile. */
static int remove_once(struct site *site, size_t *found)
{
	DIR *dir = fdopendir(openat(site->fd, ".", DIRECTORY_FLAGS));
	struct dirent *entry;
	int ret = 0;

	if (!dir)
		return failed(site, "read", "the directory");
	while (!ret && (entry = readdir(dir))) {
		const char *name = entry->d_name;

		if (!strcmp(name, ".") || !strcmp(name, ".."))
			continue;
		(*found)++;
		if (unlinkat(site->fd, name, 0) == 0)
			continue;
		ret = errno == EISDIR ? remove_directory(site, name)
				      : failed(site, "remove", name);
	}
	closedir(dir);
	return ret;
}

static int remove_files(struct site *site)
{
	size_t found;
	int ret;

	do {
		found = 0;
		ret = remove_once(site, &found);
	} while (!ret && found);
	if (!ret &&
	    unlinkat(site->parent_fd, site->jail->args.id, AT_REMOVEDIR))
		ret = failed(site, "remove", "the directory");
	return ret;
}

/* 0 with site->fd < 0 if there is no such jail. */
static int open_site(struct site *site)
{
	const struct jail *jail = site->jail;
	AUTO_CLOSE int base = open(jail->base_path, DIRECTORY_FLAGS);

	snprintf(site->path, sizeof(site->path), "%.*s",
		 (int)(strlen(jail->root_path) - strlen("/root")),
		 jail->root_path);
	if (base < 0)
		return failed(site, "open", "the base directory");
	site->parent_fd = openat(base, jail->exec_name, DIRECTORY_FLAGS);
	if (site->parent_fd >= 0)
		site->fd =
			openat(site->parent_fd, jail->args.id, DIRECTORY_FLAGS);
	if (site->fd < 0)
		return errno == ENOENT ? 0
				       : failed(site, "open", "the directory");
	if (flock(site->fd, LOCK_EX | LOCK_NB))
		return error_set_os(
			site->err, errno,
			"Another jailer is at work in %s:", jail->root_path);
	return 0;
}

/* Those that outlive the monitor: a namespace of its own took its taps along,
 * and so did one that is no longer there. */
static int remove_taps(struct jail *jail, struct error *err)
{
	const struct jail_args *args = &jail->args;
	int ret;

	if (args->tap_list.count == 0 || args->new_net_ns)
		return 0;
	if (args->netns && access(args->netns, F_OK) && errno == ENOENT)
		return 0;
	ret = jail_join_netns(jail, err);
	for (size_t i = 0; !ret && i < args->tap_list.count; i++)
		if (if_nametoindex(args->taps[i].name))
			tap_remove(args->taps[i].name);
	return ret;
}

int jail_clean_up(struct jail *jail, struct error *err)
{
	struct site site = {
		.jail = jail, .parent_fd = -1, .fd = -1, .err = err};
	int ret = open_site(&site);

	if (!ret && site.fd >= 0)
		ret = refuse_mounts(&site);
	if (!ret && site.fd >= 0)
		ret = refuse_inhabitants(&site);
	if (!ret)
		ret = jail_remove_cgroups(jail, err);
	/* Without the jail a tap of the name may be another one's by now. */
	if (!ret && site.fd >= 0)
		ret = remove_taps(jail, err);
	if (!ret && site.fd >= 0)
		ret = remove_files(&site);
	close_fd(&site.fd);
	close_fd(&site.parent_fd);
	return ret;
}
