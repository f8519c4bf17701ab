/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The cgroups of a jail: what jail_make_cgroups and jail_join_cgroups (jail.h)
 * are made of, apart from the host's own files, so that both can be tried on
 * others.
 *
 * With cgroup v1 a jail has a cgroup in each hierarchy that a value is for,
 * with v2 one in the only hierarchy: MOUNT/PARENT/ID. Missing directories are
 * made; those of v1's cpuset inherit what is empty in them, without which they
 * take no process; those above a v2 cgroup have the controllers enabled.
 */
#ifndef EMBER_JAILER_CGROUP_H
#define EMBER_JAILER_CGROUP_H

#include "jailer/jail.h"

/* FILE=VALUE of a --cgroup argument, where FILE is CONTROLLER.REST. */
struct cgroup_value {
	char file[NAME_MAX + 1];
	char controller[NAME_MAX + 1];
	const char *value; /* the end of the argument */
};

/* -EINVAL with a sentence for what is none. */
int cgroup_parse_value(const char *text, struct cgroup_value *ret,
		       struct error *err) must_check;

/* Whether a --parent-cgroup stays below where it belongs. -EINVAL. */
int cgroup_check_parent(const char *parent, struct error *err) must_check;

/* Where the host says what there is. */
struct cgroup_host {
	const char *mounts; /* as /proc/mounts */
	const char *self;   /* as /proc/self/cgroup */
};

/* As jail_make_cgroups. */
int cgroup_make_all(struct jail *jail, const struct cgroup_host *host,
		    struct error *err) must_check;

/* Where a hierarchy is mounted: that of a controller with v1, the only one with
 * v2. @ret has PATH_MAX bytes. */
int cgroup_find_mount(const char *mounts, uint64_t version,
		      const char *controller, char *ret,
		      struct error *err) must_check;

/* Removes the jail's own directory, not its parents, from each hierarchy. What
 * is not there is fine; -EBUSY while processes are in it. */
int cgroup_remove_all(const struct jail *jail, const struct cgroup_host *host,
		      struct error *err) must_check;

#endif
