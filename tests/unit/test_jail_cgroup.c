/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Cgroups over a tree of ordinary files: a host's mounts and this process's
 * cgroups are files of the test's. mkdirat is wrapped, so that a new directory
 * has the files that a kernel would put there.
 */
#include "jailer/cgroup.h"

#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

int __wrap_mkdirat(int dir_fd, const char *name, mode_t mode);
int __real_mkdirat(int dir_fd, const char *name, mode_t mode);

static const char *const kernel_files[] = {
	"tasks",      "cgroup.procs", "cgroup.subtree_control",
	"cpu.shares", "cpuset.cpus",  "cpuset.mems",
	"pids.max",   "memory.high"};

struct host {
	char path[32];
	char mounts[64], self[64];
	struct cgroup_host files;
	struct jail jail;
};

static void put(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

	assert_true(fd >= 0);
	assert_int_equal(write(fd, text, strlen(text)), strlen(text));
	close(fd);
}

/* A file below the host's directory. */
static const char *get(const struct host *host, const char *name)
{
	static char text[256];
	char path[256];
	ssize_t len;
	int fd;

	snprintf(path, sizeof(path), "%s/%s", host->path, name);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return "none";
	len = read(fd, text, sizeof(text) - 1);
	close(fd);
	text[len < 0 ? 0 : len] = '\0';
	return text;
}

static void set(const struct host *host, const char *name, const char *text)
{
	char path[256];

	snprintf(path, sizeof(path), "%s/%s", host->path, name);
	put(path, text);
}

int __wrap_mkdirat(int dir_fd, const char *name, mode_t mode)
{
	int ret = __real_mkdirat(dir_fd, name, mode);
	int fd = ret ? -1 : openat(dir_fd, name, O_RDONLY | O_DIRECTORY);

	for (size_t i = 0; fd >= 0 && i < ARRAY_SIZE(kernel_files); i++)
		close(openat(fd, kernel_files[i], O_WRONLY | O_CREAT, 0600));
	if (fd >= 0)
		close(fd);
	return ret;
}

static void make_mount(const struct host *host, const char *name)
{
	char path[256];

	snprintf(path, sizeof(path), "%s/%s", host->path, name);
	assert_int_equal(__wrap_mkdirat(AT_FDCWD, path, 0755), 0);
}

/* v1 with cpu and cpuacct together, a space in a path; v2 beside it. */
static void write_mounts(struct host *host)
{
	char text[512];

	snprintf(text, sizeof(text),
		 "tmpfs %s tmpfs rw,cpu 0 0\n"
		 "cgroup %s/cpu cgroup rw,nosuid,cpu,cpuacct 0 0\n"
		 "cgroup %s/cpuset cgroup rw,cpuset 0 0\n"
		 "cgroup %s/a\\040b cgroup rw,pids 0 0\n"
		 "cgroup2 %s/v2 cgroup2 rw 0 0\n",
		 host->path, host->path, host->path, host->path, host->path);
	put(host->mounts, text);
	put(host->self, "4:cpuset:/x\n3:cpu,cpuacct:/from/here\n0::/y\n");
}

static int set_up(void **state)
{
	struct host *host = calloc(1, sizeof(*host));

	assert_non_null(host);
	strcpy(host->path, "/tmp/ember-cgroup-XXXXXX");
	assert_non_null(mkdtemp(host->path));
	snprintf(host->mounts, sizeof(host->mounts), "%s/mounts", host->path);
	snprintf(host->self, sizeof(host->self), "%s/self", host->path);
	host->files = (struct cgroup_host){host->mounts, host->self};
	write_mounts(host);
	make_mount(host, "cpu");
	make_mount(host, "cpuset");
	make_mount(host, "a b");
	make_mount(host, "v2");
	set(host, "cpuset/cpuset.cpus", "0-3\n");
	set(host, "cpuset/cpuset.mems", "0\n");
	set(host, "v2/cgroup.controllers", "cpuset cpu memory pids\n");
	host->jail.exec_name = "ember";
	host->jail.args = (struct jail_args){.id = "vm", .cgroup_version = 1};
	*state = host;
	return 0;
}

static int remove_one(const char *path, const struct stat *st, int type,
		      struct FTW *ftw)
{
	(void)st;
	(void)type;
	(void)ftw;
	return remove(path);
}

static void close_all(struct jail *jail)
{
	for (size_t i = 0; i < jail->cgroup_count; i++) {
		close_fd(&jail->cgroup_fds[i]);
		close_fd(&jail->cgroup_homes[i]);
	}
	for (size_t i = 0; i < jail->undo.count; i++)
		close_fd(&jail->undo.entries[i].fd);
}

static int tear_down(void **state)
{
	struct host *host = *state;

	close_all(&host->jail);
	nftw(host->path, remove_one, 8, FTW_DEPTH | FTW_PHYS);
	free(host);
	return 0;
}

static void ask(struct host *host, const char *value)
{
	struct argument_list *list = &host->jail.args.cgroups;

	list->values[list->count++] = value;
}

static int make(struct host *host, struct error *err)
{
	return cgroup_make_all(&host->jail, &host->files, err);
}

static void test_parse_value_takes_it_apart(void **state)
{
	struct cgroup_value value;

	(void)state;
	assert_int_equal(
		cgroup_parse_value("cpu.cfs.quota_us=10 20", &value, NULL), 0);
	assert_string_equal(value.file, "cpu.cfs.quota_us");
	assert_string_equal(value.controller, "cpu");
	assert_string_equal(value.value, "10 20");
}

static void test_parse_value_refuses_what_is_none(void **state)
{
	static const char *const bad[] = {
		"",	     "=",	 "=1",	   "cpu.shares", "cpu.shares=",
		"cpu=1",     ".cpu=1",	 "cpu.=1", "cpu.x=1=2",	 "/cpu.x=1",
		"cpu.x/y=1", "../x.y=1", "..=1",   "cpu.x==",	 "cpu=x.y",
	};
	struct cgroup_value value;

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
		assert_int_equal(cgroup_parse_value(bad[i], &value, NULL),
				 -EINVAL);
}

static void test_parse_value_limits_the_name(void **state)
{
	char text[NAME_MAX + 8] = "c.";
	struct cgroup_value value;

	(void)state;
	memset(text + 2, 'x', NAME_MAX - 2);
	strcpy(text + NAME_MAX, "=1");
	assert_int_equal(cgroup_parse_value(text, &value, NULL), 0);
	assert_int_equal(strlen(value.file), NAME_MAX);
	strcpy(text + NAME_MAX, "x=1");
	assert_int_equal(cgroup_parse_value(text, &value, NULL), -EINVAL);
}

static void test_check_parent_stays_below(void **state)
{
	static const char *const good[] = {"a",	  "a/b",   "a//b/",
					   "...", ".a/b.", ""};
	static const char *const bad[] = {"/",	  "/a",	   ".",	   "..",
					  "a/..", "a/./b", "../a", "a//.."};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(good); i++)
		assert_int_equal(cgroup_check_parent(good[i], NULL), 0);
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
		assert_int_equal(cgroup_check_parent(bad[i], NULL), -EINVAL);
}

static void test_find_mount_by_controller_and_version(void **state)
{
	struct host *host = *state;
	char mount[PATH_MAX], want[64];
	struct error err = {0};

	assert_int_equal(
		cgroup_find_mount(host->mounts, 1, "cpuacct", mount, NULL), 0);
	snprintf(want, sizeof(want), "%s/cpu", host->path);
	assert_string_equal(mount, want);
	assert_int_equal(
		cgroup_find_mount(host->mounts, 1, "pids", mount, NULL), 0);
	snprintf(want, sizeof(want), "%s/a b", host->path);
	assert_string_equal(mount, want);
	assert_int_equal(cgroup_find_mount(host->mounts, 2, NULL, mount, NULL),
			 0);
	snprintf(want, sizeof(want), "%s/v2", host->path);
	assert_string_equal(mount, want);
	assert_int_equal(cgroup_find_mount(host->mounts, 1, "cp", mount, &err),
			 -ENOENT);
	assert_string_equal(err.text, "Controller cp is unavailable");
	put(host->mounts, "");
	assert_int_equal(cgroup_find_mount(host->mounts, 2, NULL, mount, &err),
			 -ENOENT);
	assert_string_equal(err.text, "Cgroup v2 is not mounted on this host.");
}

static void test_make_v1_one_cgroup_per_hierarchy(void **state)
{
	struct host *host = *state;

	ask(host, "cpu.shares=7");
	ask(host, "pids.max=9");
	ask(host, "cpu.shares=8");
	assert_int_equal(make(host, NULL), 0);
	assert_int_equal(host->jail.cgroup_count, 2);
	assert_string_equal(get(host, "cpu/ember/vm/cpu.shares"), "8");
	assert_string_equal(get(host, "a b/ember/vm/pids.max"), "9");
	assert_string_equal(get(host, "cpu/ember/cpu.shares"), "");
}

static void test_make_v1_cpuset_inherits_at_each_level(void **state)
{
	struct host *host = *state;

	host->jail.args.parent_cgroup = "p//q/";
	ask(host, "cpuset.cpus=2");
	assert_int_equal(make(host, NULL), 0);
	assert_string_equal(get(host, "cpuset/p/cpuset.cpus"), "0-3");
	assert_string_equal(get(host, "cpuset/p/q/cpuset.mems"), "0");
	assert_string_equal(get(host, "cpuset/p/q/vm/cpuset.mems"), "0");
	/* Written over in place here, where a kernel sets it anew. */
	assert_string_equal(get(host, "cpuset/p/q/vm/cpuset.cpus"), "2-3");
}

static void test_make_v1_cpuset_with_values_keeps_them(void **state)
{
	struct host *host = *state;

	make_mount(host, "cpuset/ember");
	set(host, "cpuset/ember/cpuset.cpus", "1\n");
	ask(host, "cpuset.mems=0");
	assert_int_equal(make(host, NULL), 0);
	assert_string_equal(get(host, "cpuset/ember/cpuset.cpus"), "1\n");
	assert_string_equal(get(host, "cpuset/ember/vm/cpuset.cpus"), "1");
}

static void test_make_v1_without_values_makes_nothing(void **state)
{
	struct host *host = *state;

	host->jail.args.parent_cgroup = "p";
	assert_int_equal(make(host, NULL), 0);
	assert_int_equal(host->jail.cgroup_count, 0);
	assert_string_equal(get(host, "cpu/p/tasks"), "none");
}

static void test_make_bad_file_says_which(void **state)
{
	struct host *host = *state;
	struct error err = {0};
	char want[256];

	ask(host, "cpu.nonesuch=1");
	assert_int_equal(make(host, &err), -ENOENT);
	snprintf(want, sizeof(want),
		 "Failed to write '1' to %s/cpu/ember/vm/cpu.nonesuch: No such "
		 "file or directory (os error 2)",
		 host->path);
	assert_string_equal(err.text, want);
}

static void test_make_v2_enables_controllers_above(void **state)
{
	struct host *host = *state;

	host->jail.args.cgroup_version = 2;
	host->jail.args.parent_cgroup = "p/q";
	set(host, "v2/cgroup.subtree_control", "memory\n");
	ask(host, "memory.high=max");
	ask(host, "pids.max=3");
	assert_int_equal(make(host, NULL), 0);
	assert_int_equal(host->jail.cgroup_count, 1);
	/* The kernel's file is a list; this one has what was written last. */
	assert_string_equal(get(host, "v2/cgroup.subtree_control"), "+pidsy\n");
	assert_string_equal(get(host, "v2/p/cgroup.subtree_control"),
			    "+memory +pids");
	assert_string_equal(get(host, "v2/p/q/cgroup.subtree_control"),
			    "+memory +pids");
	assert_string_equal(get(host, "v2/p/q/vm/cgroup.subtree_control"), "");
	assert_string_equal(get(host, "v2/p/q/vm/pids.max"), "3");
}

static void test_make_v2_controller_must_be_there(void **state)
{
	struct host *host = *state;
	struct error err = {0};

	host->jail.args.cgroup_version = 2;
	ask(host, "pids.max=3");
	ask(host, "io.weight=3");
	assert_int_equal(make(host, &err), -ENOENT);
	assert_string_equal(err.text, "Controller io is unavailable");
	assert_string_equal(get(host, "v2/ember/cgroup.procs"), "none");
}

static void test_make_v2_parent_alone_is_used_if_it_is_there(void **state)
{
	struct host *host = *state;
	char want[64];

	host->jail.args.cgroup_version = 2;
	host->jail.args.parent_cgroup = "p";
	assert_int_equal(make(host, NULL), 0);
	assert_int_equal(host->jail.cgroup_count, 0);
	make_mount(host, "v2/p");
	assert_int_equal(make(host, NULL), 0);
	assert_int_equal(host->jail.cgroup_count, 1);
	snprintf(want, sizeof(want), "%s/v2/p", host->path);
	assert_string_equal(host->jail.cgroup_paths[0], want);
	assert_string_equal(get(host, "v2/p/vm/cgroup.procs"), "none");
}

static void test_join_writes_and_undo_goes_home(void **state)
{
	struct host *host = *state;
	char me[32];

	snprintf(me, sizeof(me), "%d", getpid());
	make_mount(host, "cpu/from");
	make_mount(host, "cpu/from/here");
	ask(host, "cpu.shares=7");
	ask(host, "pids.max=7");
	assert_int_equal(make(host, NULL), 0);
	assert_int_equal(jail_join_cgroups(&host->jail, NULL), 0);
	assert_int_equal(host->jail.cgroup_count, 0);
	assert_string_equal(get(host, "cpu/ember/vm/tasks"), "0");
	assert_string_equal(get(host, "a b/ember/vm/tasks"), "0");
	undo_run(&host->jail.undo);
	assert_string_equal(get(host, "cpu/from/here/tasks"), me);
	assert_string_equal(get(host, "a b/tasks"), me);
}

static void test_join_refused_names_the_cgroup(void **state)
{
	struct host *host = *state;
	struct error err = {0};
	char want[128];

	host->jail.cgroup_count = 1;
	host->jail.cgroup_fds[0] = open("/dev/full", O_WRONLY | O_CLOEXEC);
	host->jail.cgroup_homes[0] = -1;
	snprintf(host->jail.cgroup_paths[0], PATH_MAX, "%s/v2/p", host->path);
	assert_int_equal(jail_join_cgroups(&host->jail, &err), -ENOSPC);
	snprintf(want, sizeof(want),
		 "Failed to move process to cgroup (%s/v2/p): No space left on "
		 "device (os error 28).",
		 host->path);
	assert_string_equal(err.text, want);
}

static void test_remove_all_takes_the_jail_s_own(void **state)
{
	struct host *host = *state;
	char path[128];
	struct error err = {0};

	ask(host, "cpu.shares=7");
	assert_int_equal(cgroup_remove_all(&host->jail, &host->files, NULL), 0);
	snprintf(path, sizeof(path), "%s/cpu/ember", host->path);
	assert_int_equal(mkdir(path, 0755), 0);
	snprintf(path, sizeof(path), "%s/cpu/ember/vm", host->path);
	assert_int_equal(mkdir(path, 0755), 0);
	assert_int_equal(cgroup_remove_all(&host->jail, &host->files, NULL), 0);
	assert_int_equal(access(path, F_OK), -1);
	make_mount(host, "cpu/ember/vm"); /* full of files here */
	assert_int_equal(cgroup_remove_all(&host->jail, &host->files, &err),
			 -ENOTEMPTY);
	assert_non_null(strstr(err.text, "Failed to remove cgroup "));
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_parse_value_takes_it_apart),
		cmocka_unit_test(test_parse_value_refuses_what_is_none),
		cmocka_unit_test(test_parse_value_limits_the_name),
		cmocka_unit_test(test_check_parent_stays_below),
		TEST(test_find_mount_by_controller_and_version),
		TEST(test_make_v1_one_cgroup_per_hierarchy),
		TEST(test_make_v1_cpuset_inherits_at_each_level),
		TEST(test_make_v1_cpuset_with_values_keeps_them),
		TEST(test_make_v1_without_values_makes_nothing),
		TEST(test_make_bad_file_says_which),
		TEST(test_make_v2_enables_controllers_above),
		TEST(test_make_v2_controller_must_be_there),
		TEST(test_make_v2_parent_alone_is_used_if_it_is_there),
		TEST(test_join_writes_and_undo_goes_home),
		TEST(test_join_refused_names_the_cgroup),
		TEST(test_remove_all_takes_the_jail_s_own),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
