/* SPDX-License-Identifier: Apache-2.0 */
#include "jailer/jail.h"

#include <errno.h>
#include <sys/resource.h>

/* Soft and hard at once. */
static int set(const char *name, int resource, uint64_t value,
	       struct error *err)
{
	const struct rlimit limit = {value, value};
	struct rlimit old = {0};

	if (setrlimit((__rlimit_resource_t)resource, &limit) == 0)
		return 0;
	/* Before errno is lost: the hard limit is the usual reason. */
	value = (uint64_t)errno;
	getrlimit((__rlimit_resource_t)resource, &old);
	return error_set_os(err, (int)value,
			    "Failed to set the limit %s to %lu, with a hard "
			    "limit of %lu:",
			    name, (unsigned long)limit.rlim_max,
			    (unsigned long)old.rlim_max);
}

/* Late, so that what the jailer itself opens and writes is not counted. */
int jail_set_limits(struct jail *jail, struct error *err)
{
	const struct jail_limits *limits = &jail->args.limits;
	int ret = 0;

	if (limits->has_fsize)
		ret = set("fsize", RLIMIT_FSIZE, limits->fsize, err);
	return ret ? ret : set("no-file", RLIMIT_NOFILE, limits->no_file, err);
}
