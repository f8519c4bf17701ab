/* SPDX-License-Identifier: Apache-2.0 */
#include "jailer/cgroup.h"

#include <errno.h>
#include <fcntl.h>
#include <mntent.h>
#include <stdio.h>
#include <string.h>

#define TEXT_MAX 4096
#define FILE_NAME_MAX 255

/* How often a directory is made anew that somebody removed meanwhile: another
 * jailer that failed, and took its own away. */
#define ATTEMPTS 5

static const struct cgroup_host this_host = {"/proc/self/mounts",
					     "/proc/self/cgroup"};

/* What v1 wants in a cpuset before it takes a process. */
static const char *const inherited_files[] = {"cpuset.cpus", "cpuset.mems"};

/* A jail's cgroups while they are made. */
struct maker {
	struct jail *jail;
	const struct cgroup_host *host;
	struct error *err;
	char enable[TEXT_MAX];	    /* v2: controllers, space-separated */
	int dirs[JAIL_CGROUPS_MAX]; /* beside jail->cgroup_fds */
};

int cgroup_parse_value(const char *text, struct cgroup_value *ret,
		       struct error *err)
{
	const char *equals = strchr(text, '=');
	size_t file_len = equals ? (size_t)(equals - text) : 0;
	size_t len = strcspn(text, ".=");

	if (!equals || !equals[1] || strchr(equals + 1, '='))
		return error_set(err, EINVAL,
				 "Invalid format for cgroups: '%s' is not "
				 "FILE=VALUE with one '='.",
				 text);
	if (file_len > FILE_NAME_MAX || memchr(text, '/', file_len) ||
	    len == 0 || text[len] != '.' || len + 1 == file_len)
		return error_set(err, EINVAL,
				 "Invalid file for cgroups: '%.*s' is not "
				 "CONTROLLER.NAME.",
				 (int)file_len, text);
	*ret = (struct cgroup_value){.value = equals + 1};
	memcpy(ret->file, text, file_len);
	memcpy(ret->controller, text, len);
	return 0;
}

int cgroup_check_parent(const char *parent, struct error *err)
{
	const char *at = parent;
	bool bad = *parent == '/';

	while (*at && !bad) {
		size_t len = strcspn(at, "/");

		bad = len > NAME_MAX || (len == 1 && at[0] == '.') ||
		      (len == 2 && memcmp(at, "..", 2) == 0);
		at += len;
		at += strspn(at, "/");
	}
	if (!bad)
		return 0;
	return error_set(err, EINVAL,
			 "Invalid parent cgroup: '%s' is not a relative path "
			 "without '.' and '..'.",
			 parent);
}

int cgroup_find_mount(const char *mounts, uint64_t version,
		      const char *controller, char *ret, struct error *err)
{
	FILE *file = setmntent(mounts, "re");
	char text[TEXT_MAX];
	struct mntent entry;
	bool found = false;

	if (!file)
		return error_set_os(err, errno, "Failed to open %s:", mounts);
	while (!found && getmntent_r(file, &entry, text, sizeof(text)))
		found = version == 2 ? !strcmp(entry.mnt_type, "cgroup2")
				     : !strcmp(entry.mnt_type, "cgroup") &&
					       hasmntopt(&entry, controller);
	if (found)
		snprintf(ret, PATH_MAX, "%s", entry.mnt_dir);
	endmntent(file);
	if (found)
		return 0;
	if (version == 2)
		return error_set(err, ENOENT,
				 "Cgroup v2 is not mounted on this host.");
	return error_set(err, ENOENT, "Controller %s is unavailable",
			 controller);
}

/* The first line of a file, which may be empty. */
static int read_line(int dir_fd, const char *name, char *ret, size_t size)
{
	AUTO_CLOSE int fd = openat(dir_fd, name, O_RDONLY | O_CLOEXEC);
	ssize_t len;

	if (fd < 0)
		return -errno;
	len = read(fd, ret, size - 1);
	if (len < 0)
		return -errno;
	ret[len] = '\0';
	ret[strcspn(ret, "\n")] = '\0';
	return 0;
}

static int write_text(int dir_fd, const char *name, const char *text)
{
	AUTO_CLOSE int fd = openat(dir_fd, name, O_WRONLY | O_CLOEXEC);

	if (fd < 0 || write(fd, text, strlen(text)) < 0)
		return -errno;
	return 0;
}

static bool has_word(const char *text, const char *word)
{
	size_t len = strlen(word);

	while (*text) {
		size_t n = strcspn(text, " ");

		if (n == len && memcmp(text, word, n) == 0)
			return true;
		text += n;
		text += strspn(text, " ");
	}
	return false;
}

static void append_word(char *text, const char *prefix, const char *word)
{
	size_t len = strlen(text);

	snprintf(text + len, TEXT_MAX - len, "%s%s%s", len ? " " : "", prefix,
		 word);
}

/* v2: gives the cgroups below a directory the controllers. */
static int enable_controllers(struct maker *maker, int fd, const char *path)
{
	char words[TEXT_MAX], have[TEXT_MAX], change[TEXT_MAX] = "";
	char *save = NULL;
	int ret = read_line(fd, "cgroup.subtree_control", have, sizeof(have));

	snprintf(words, sizeof(words), "%s", maker->enable);
	for (char *word = strtok_r(words, " ", &save); word;
	     word = strtok_r(NULL, " ", &save))
		if (!ret && !has_word(have, word))
			append_word(change, "+", word);
	if (!ret && *change)
		ret = write_text(fd, "cgroup.subtree_control", change);
	if (ret)
		return error_set_os(maker->err, -ret,
				    "Failed to write '%s' to "
				    "%s/cgroup.subtree_control:",
				    change, path);
	return 0;
}

/* v1: what is empty in a new cpuset is taken from the one above. */
static int inherit(struct maker *maker, int from, int to, const char *path)
{
	for (size_t i = 0; i < ARRAY_SIZE(inherited_files); i++) {
		const char *name = inherited_files[i];
		char value[TEXT_MAX] = "";
		int ret = read_line(to, name, value, sizeof(value));

		if (ret == -ENOENT)
			return 0; /* not the hierarchy of cpuset */
		if (!ret && *value)
			continue;
		if (!ret)
			ret = read_line(from, name, value, sizeof(value));
		if (!ret && *value)
			ret = write_text(to, name, value);
		if (ret)
			return error_set_os(maker->err, -ret,
					    "Failed to inherit %s/%s:", path,
					    name);
	}
	return 0;
}

/* One step down: *@fd and @path become those of the directory below. */
static int descend(struct maker *maker, int *fd, char *path, const char *name)
{
	bool v2 = maker->jail->args.cgroup_version == 2;
	size_t len = strlen(path);
	AUTO_CLOSE int next = -1;
	int ret = v2 ? enable_controllers(maker, *fd, path) : 0;

	if (ret)
		return ret;
	snprintf(path + len, PATH_MAX - len, "/%s", name);
	ret = undo_mkdir(&maker->jail->undo, *fd, name, 0755, &next);
	if (ret)
		return error_set_os(maker->err, -ret,
				    "Failed to create cgroup %s:", path);
	ret = v2 ? 0 : inherit(maker, *fd, next, path);
	if (ret)
		return ret;
	close(*fd);
	*fd = take_fd(&next);
	return 0;
}

static const char *parent_of(const struct jail *jail)
{
	return jail->args.parent_cgroup ? jail->args.parent_cgroup
					: jail->exec_name;
}

/* From the mount down to the jail's directory; @path says how far it came. */
static int walk(struct maker *maker, const char *mount, char *path, int *ret_fd)
{
	char parent[PATH_MAX];
	char *save = NULL;
	AUTO_CLOSE int fd = open(mount, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	int ret = 0;

	if (fd < 0)
		return error_set_os(maker->err, errno,
				    "Failed to open %s:", mount);
	snprintf(path, PATH_MAX, "%s", mount);
	snprintf(parent, sizeof(parent), "%s", parent_of(maker->jail));
	for (char *name = strtok_r(parent, "/", &save); !ret && name;
	     name = strtok_r(NULL, "/", &save))
		ret = descend(maker, &fd, path, name);
	if (!ret)
		ret = descend(maker, &fd, path, maker->jail->args.id);
	if (!ret)
		*ret_fd = take_fd(&fd);
	return ret;
}

/* Where this process is in a hierarchy, from lines ID:CONTROLLERS:PATH. */
static bool find_home(const char *self, const char *controller, char *ret)
{
	FILE *file = fopen(self, "re");
	char line[TEXT_MAX];
	bool found = false;

	while (file && !found && fgets(line, sizeof(line), file)) {
		char *names = strchr(line, ':');
		char *path = names ? strchr(names + 1, ':') : NULL;

		if (!path)
			continue;
		*path++ = '\0';
		path[strcspn(path, "\n")] = '\0';
		for (char *c = names + 1; *c; c++)
			*c = *c == ',' ? ' ' : *c;
		found = controller ? has_word(names + 1, controller)
				   : !names[1];
		if (found)
			snprintf(ret, PATH_MAX, "%s", path);
	}
	if (file)
		fclose(file);
	return found;
}

/* The file through which this process gets back to where it is now; the
 * hierarchy's root will do where that cannot be found. -1: neither. */
static int open_home(const struct cgroup_host *host, const char *mount,
		     const char *controller, const char *procs)
{
	char home[PATH_MAX] = "", path[PATH_MAX * 2 + 32];
	int fd = -1;

	if (find_home(host->self, controller, home) && !strstr(home, "..")) {
		snprintf(path, sizeof(path), "%s%s/%s", mount, home, procs);
		fd = open(path, O_WRONLY | O_CLOEXEC);
	}
	if (fd < 0) {
		snprintf(path, sizeof(path), "%s/%s", mount, procs);
		fd = open(path, O_WRONLY | O_CLOEXEC);
	}
	return fd;
}

/* Notes a cgroup that the process is to join. @controller: NULL with v2. */
static int add(struct maker *maker, int dir_fd, const char *path,
	       const char *mount, const char *controller)
{
	struct jail *jail = maker->jail;
	/* The one moves a thread, the other a process with its threads. */
	bool one = controller && !jail->args.late_cgroup;
	const char *procs = one ? "tasks" : "cgroup.procs";
	size_t at = jail->cgroup_count;
	int fd = openat(dir_fd, procs, O_WRONLY | O_CLOEXEC);

	if (fd < 0)
		return error_set_os(maker->err, errno,
				    "Failed to open %s/%s:", path, procs);
	maker->dirs[at] = dir_fd;
	jail->cgroup_fds[at] = fd;
	jail->cgroup_homes[at] =
		open_home(maker->host, mount, controller, procs);
	snprintf(jail->cgroup_paths[at], PATH_MAX, "%s", path);
	jail->cgroup_count++;
	return 0;
}

/* The index of the cgroup that a controller's values belong to, in *@ret_at. */
static int place(struct maker *maker, const char *controller, size_t *ret_at)
{
	struct jail *jail = maker->jail;
	bool v2 = jail->args.cgroup_version == 2;
	char mount[PATH_MAX] = "", path[PATH_MAX] = "";
	int ret = cgroup_find_mount(maker->host->mounts,
				    jail->args.cgroup_version, controller,
				    mount, maker->err);
	AUTO_CLOSE int fd = -1;
	size_t len = strlen(mount);

	/* Values of controllers that share a mount share the cgroup. */
	for (size_t i = 0; !ret && i < jail->cgroup_count; i++)
		if (strncmp(jail->cgroup_paths[i], mount, len) == 0 &&
		    jail->cgroup_paths[i][len] == '/') {
			*ret_at = i;
			return 0;
		}
	if (!ret && jail->cgroup_count == JAIL_CGROUPS_MAX)
		return error_set(maker->err, ENOSPC,
				 "A jail has at most %d cgroups.",
				 JAIL_CGROUPS_MAX);
	if (!ret)
		ret = walk(maker, mount, path, &fd);
	for (int i = 1; ret == -ENOENT && i < ATTEMPTS && *path; i++)
		ret = walk(maker, mount, path, &fd);
	if (!ret)
		ret = add(maker, fd, path, mount, v2 ? NULL : controller);
	if (ret)
		return ret;
	take_fd(&fd);
	*ret_at = jail->cgroup_count - 1;
	return 0;
}

static int set_value(struct maker *maker, const char *text)
{
	struct cgroup_value value;
	size_t at = 0;
	int ret = cgroup_parse_value(text, &value, maker->err);

	if (!ret)
		ret = place(maker, value.controller, &at);
	if (ret)
		return ret;
	ret = write_text(maker->dirs[at], value.file, value.value);
	if (ret)
		return error_set_os(
			maker->err, -ret,
			"Failed to write '%s' to %s/%s:", value.value,
			maker->jail->cgroup_paths[at], value.file);
	return 0;
}

/* v2: which controllers the values need; the host must have them. */
static int list_controllers(struct maker *maker)
{
	const struct argument_list *values = &maker->jail->args.cgroups;
	char mount[PATH_MAX], have[TEXT_MAX] = "";
	int ret = cgroup_find_mount(maker->host->mounts, 2, NULL, mount,
				    maker->err);
	AUTO_CLOSE int fd = -1;

	if (ret)
		return ret;
	fd = open(mount, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	ret = fd < 0 ? -errno
		     : read_line(fd, "cgroup.controllers", have, sizeof(have));
	if (ret)
		return error_set_os(
			maker->err, -ret,
			"Failed to read %s/cgroup.controllers:", mount);
	for (size_t i = 0; !ret && i < values->count; i++) {
		struct cgroup_value value = {0};

		ret = cgroup_parse_value(values->values[i], &value, maker->err);
		if (!ret && !has_word(have, value.controller))
			return error_set(maker->err, ENOENT,
					 "Controller %s is unavailable",
					 value.controller);
		if (!ret && !has_word(maker->enable, value.controller))
			append_word(maker->enable, "", value.controller);
	}
	return ret;
}

/* v2 with a parent and no values: that cgroup itself, if there is one. */
static int use_parent(struct maker *maker)
{
	char mount[PATH_MAX], path[PATH_MAX * 2];
	int ret = cgroup_find_mount(maker->host->mounts, 2, NULL, mount,
				    maker->err);
	AUTO_CLOSE int fd = -1;

	if (ret)
		return ret;
	snprintf(path, sizeof(path), "%s/%s", mount,
		 maker->jail->args.parent_cgroup);
	fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0 && errno == ENOENT)
		return 0;
	if (fd < 0)
		return error_set_os(maker->err, errno,
				    "Failed to open %s:", path);
	ret = add(maker, fd, path, mount, NULL);
	if (!ret)
		take_fd(&fd);
	return ret;
}

int cgroup_make_all(struct jail *jail, const struct cgroup_host *host,
		    struct error *err)
{
	struct maker maker = {.jail = jail, .host = host, .err = err};
	const struct argument_list *values = &jail->args.cgroups;
	int ret = 0;

	if (values->count && jail->args.cgroup_version == 2)
		ret = list_controllers(&maker);
	for (size_t i = 0; !ret && i < values->count; i++)
		ret = set_value(&maker, values->values[i]);
	if (!values->count && jail->args.cgroup_version == 2 &&
	    jail->args.parent_cgroup)
		ret = use_parent(&maker);
	for (size_t i = 0; i < jail->cgroup_count; i++)
		close(maker.dirs[i]);
	return ret;
}

int jail_make_cgroups(struct jail *jail, struct error *err)
{
	return cgroup_make_all(jail, &this_host, err);
}

static int refuse_join(const char *path, int code, struct error *err)
{
	return error_set(err, code,
			 "Failed to move process to cgroup (%s): %s (os error "
			 "%d).%s",
			 path, os_error_text(code), code,
			 code != EBUSY
				 ? ""
				 : "\nHint: a cgroup that gives controllers to "
				   "others below it takes no process itself. "
				   "With --cgroup the microVM gets one of its "
				   "own below this.");
}

int jail_join_cgroups(struct jail *jail, struct error *err)
{
	if (jail->args.late_cgroup)
		return 0; /* jail_exec hands them over */
	for (size_t i = 0; i < jail->cgroup_count; i++) {
		int ret = 0;

		if (jail->cgroup_homes[i] >= 0)
			ret = undo_note(&jail->undo, UNDO_CGROUP,
					jail->cgroup_homes[i], "");
		if (!ret && write(jail->cgroup_fds[i], "0", 1) < 0)
			ret = -errno;
		if (ret)
			return refuse_join(jail->cgroup_paths[i], -ret, err);
		close_fd(&jail->cgroup_fds[i]);
		close_fd(&jail->cgroup_homes[i]);
	}
	jail->cgroup_count = 0;
	return 0;
}

static int remove_one(const struct jail *jail, const char *mount,
		      struct error *err)
{
	char path[PATH_MAX * 2];

	snprintf(path, sizeof(path), "%s/%s/%s", mount, parent_of(jail),
		 jail->args.id);
	if (rmdir(path) == 0 || errno == ENOENT)
		return 0;
	return error_set_os(err, errno, "Failed to remove cgroup %s:", path);
}

int cgroup_remove_all(const struct jail *jail, const struct cgroup_host *host,
		      struct error *err)
{
	const struct argument_list *values = &jail->args.cgroups;
	int ret = 0;

	for (size_t i = 0; !ret && i < values->count; i++) {
		struct cgroup_value value;
		char mount[PATH_MAX];

		ret = cgroup_parse_value(values->values[i], &value, err);
		if (!ret)
			ret = cgroup_find_mount(host->mounts,
						jail->args.cgroup_version,
						value.controller, mount, err);
		if (!ret)
			ret = remove_one(jail, mount, err);
	}
	return ret;
}

int jail_remove_cgroups(const struct jail *jail, struct error *err)
{
	return cgroup_remove_all(jail, &this_host, err);
}
