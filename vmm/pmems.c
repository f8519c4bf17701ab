/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/pmems.h"

#include <errno.h>
#include <stdlib.h>

struct pmems {
	size_t count;
};

int pmems_create(struct pmems **ret_pmems, struct metrics *metrics)
{
	(void)metrics;
	*ret_pmems = calloc(1, sizeof(**ret_pmems));
	return *ret_pmems ? 0 : -ENOMEM;
}

void pmems_destroy(struct pmems *pmems)
{
	free(pmems);
}

int pmems_set(struct pmems *pmems, struct pmem_config *config,
	      struct error *err)
{
	(void)pmems;
	(void)config;
	return error_set(err, ENOTSUP, "not yet");
}

int pmems_update(struct pmems *pmems, struct pmem_update *update,
		 struct error *err)
{
	(void)pmems;
	(void)update;
	return error_set(err, ENOTSUP, "not yet");
}

size_t pmems_count(const struct pmems *pmems)
{
	return pmems->count;
}

const struct pmem_config *pmems_config(const struct pmems *pmems, size_t i)
{
	(void)pmems;
	(void)i;
	return NULL;
}

struct virtio_device *pmems_device(const struct pmems *pmems, size_t i)
{
	(void)pmems;
	(void)i;
	return NULL;
}

bool pmems_have_root(const struct pmems *pmems)
{
	(void)pmems;
	return false;
}

int pmems_append_root(const struct pmems *pmems, struct cmdline *cmdline,
		      struct error *err)
{
	(void)pmems;
	(void)cmdline;
	(void)err;
	return 0;
}
