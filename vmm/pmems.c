/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/pmems.h"

#include "virtio/pmem.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

static_assert(PMEM_ALIGN == MACHINE_WINDOW_ALIGN, "what is mapped is a window");

struct pmem_entry {
	struct pmem_config config;
	struct pmem *pmem;
	struct pmem_metrics metrics;
};

struct pmems {
	struct metrics *metrics;
	size_t count;
	struct pmem_entry *list[CONFIG_PMEMS_MAX];
};

int pmems_create(struct pmems **ret_pmems, struct metrics *metrics)
{
	struct pmems *pmems = calloc(1, sizeof(*pmems));

	if (!pmems)
		return -ENOMEM;
	pmems->metrics = metrics;
	*ret_pmems = pmems;
	return 0;
}

static void entry_destroy(struct pmems *pmems, struct pmem_entry *entry)
{
	metrics_remove_device(pmems->metrics, &entry->metrics);
	virtio_device_destroy(pmem_virtio(entry->pmem));
	pmem_config_release(&entry->config);
	free(entry);
}

void pmems_destroy(struct pmems *pmems)
{
	if (!pmems)
		return;
	for (size_t i = 0; i < pmems->count; i++)
		entry_destroy(pmems, pmems->list[i]);
	free(pmems);
}

/* Index of the device called @id, or the count. */
static size_t find(const struct pmems *pmems, const char *id)
{
	size_t i = 0;

	while (i < pmems->count && strcmp(pmems->list[i]->config.id, id) != 0)
		i++;
	return i;
}

/* Index of the root device, or the count. */
static size_t find_root(const struct pmems *pmems)
{
	size_t i = 0;

	while (i < pmems->count && !pmems->list[i]->config.root_device)
		i++;
	return i;
}

static int check(const struct pmems *pmems, const struct pmem_config *config,
		 bool drive_root, size_t slot, struct error *err)
{
	size_t root = find_root(pmems);

	if (config->root_device && drive_root)
		return error_set(err, EEXIST,
				 "Attempt to add pmem as a root device while "
				 "the root device defined as a block device");
	if (config->root_device && root != pmems->count && root != slot)
		return error_set(err, EEXIST,
				 "A root pmem device already exist");
	if (slot == CONFIG_PMEMS_MAX)
		return error_set(err, ENOSPC,
				 "More than %d pmem devices cannot be "
				 "configured",
				 CONFIG_PMEMS_MAX);
	return 0;
}

static int entry_create(struct pmem_entry **ret_entry,
			struct pmem_config *config, struct error *err)
{
	struct pmem_entry *entry = calloc(1, sizeof(*entry));
	int ret;

	if (!entry)
		return error_set_os(err, ENOMEM,
				    "Cannot create the pmem device:");
	ret = pmem_create(&entry->pmem, config, &entry->metrics, err);
	if (ret) {
		free(entry);
		return ret;
	}
	entry->config = *config;
	*config = (struct pmem_config){0};
	*ret_entry = entry;
	return 0;
}

int pmems_set(struct pmems *pmems, struct pmem_config *config, bool drive_root,
	      struct error *err)
{
	size_t slot = find(pmems, config->id);
	struct pmem_entry *entry = NULL;
	int ret = check(pmems, config, drive_root, slot, err);

	if (!ret)
		ret = entry_create(&entry, config, err);
	if (!entry)
		return ret;
	/* In the place of one of the same name, whose metrics it takes too. */
	ret = metrics_add_device(pmems->metrics, METRICS_PMEM, entry->config.id,
				 &entry->metrics);
	if (ret) {
		entry_destroy(pmems, entry);
		return error_set(err, -ret, "Too many devices have metrics");
	}
	if (slot < pmems->count)
		entry_destroy(pmems, pmems->list[slot]);
	else
		pmems->count++;
	pmems->list[slot] = entry;
	return 0;
}

int pmems_update(struct pmems *pmems, const struct pmem_update *update,
		 struct error *err)
{
	size_t slot = find(pmems, update->id);

	if (!update->has_rate_limiter)
		return 0; /* nothing is asked of anyone */
	if (slot == pmems->count)
		return error_set(err, ENOENT,
				 "Failed perform action on device: Device not "
				 "found");
	pmem_update_limiter(pmems->list[slot]->pmem, &update->rate_limiter);
	rate_limiter_config_update(
		&pmems->list[slot]->config.rate_limiter.values,
		&update->rate_limiter);
	return 0;
}

size_t pmems_count(const struct pmems *pmems)
{
	return pmems->count;
}

const struct pmem_config *pmems_config(const struct pmems *pmems, size_t i)
{
	return &pmems->list[i]->config;
}

struct virtio_device *pmems_device(const struct pmems *pmems, size_t i)
{
	return pmem_virtio(pmems->list[i]->pmem);
}

bool pmems_have_root(const struct pmems *pmems)
{
	return find_root(pmems) != pmems->count;
}

static void place(void *arg, uint64_t gpa)
{
	pmem_place(arg, gpa);
}

int pmems_open(struct pmems *pmems,
	       struct machine_window windows[CONFIG_PMEMS_MAX],
	       struct error *err)
{
	for (size_t i = 0; i < pmems->count; i++) {
		struct pmem_entry *entry = pmems->list[i];
		const struct pmem_file *file = pmem_file(entry->pmem);
		int ret = pmem_open(entry->pmem, entry->config.path_on_host,
				    entry->config.read_only, err);

		if (ret) {
			error_prefix(err, "Pmem device %s: ", entry->config.id);
			pmems_close(pmems);
			return ret;
		}
		windows[i] = (struct machine_window){
			.name = entry->config.id,
			.hva = file->hva,
			.len = file->len,
			.read_only = file->read_only,
			.placed = place,
			.arg = entry->pmem,
		};
	}
	return 0;
}

void pmems_close(struct pmems *pmems)
{
	for (size_t i = 0; i < pmems->count; i++)
		pmem_close(pmems->list[i]->pmem);
}

int pmems_append_root(const struct pmems *pmems, struct cmdline *cmdline,
		      struct error *err)
{
	size_t root = find_root(pmems);
	int ret;

	if (root == pmems->count)
		return 0;
	ret = cmdline_append(cmdline, err, "root=/dev/pmem%zu", root);
	if (ret)
		return ret;
	return cmdline_append(cmdline, err,
			      pmems->list[root]->config.read_only ? "ro"
								  : "rw");
}
