/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/drives.h"

#include "virtio/block.h"
#include "virtio/block_ring.h"

#include <errno.h>
#include <string.h>

struct drive {
	struct drive_config config;
	struct block *block;
	struct block_metrics metrics;
};

struct drives {
	struct metrics *metrics;
	struct block_ring *ring; /* NULL: no drive was Async so far */
	size_t count;
	struct drive *list[CONFIG_DRIVES_MAX]; /* the root drive first */
};

int drives_create(struct drives **ret_drives, struct metrics *metrics)
{
	struct drives *drives = calloc(1, sizeof(*drives));

	if (!drives)
		return -ENOMEM;
	drives->metrics = metrics;
	*ret_drives = drives;
	return 0;
}

static void drive_destroy(struct drive *drive)
{
	if (!drive)
		return;
	if (drive->block)
		virtio_device_destroy(block_virtio(drive->block));
	drive_config_release(&drive->config);
	free(drive);
}

void drives_destroy(struct drives *drives)
{
	if (!drives)
		return;
	for (size_t i = 0; i < drives->count; i++) {
		metrics_remove_device(drives->metrics,
				      &drives->list[i]->metrics);
		drive_destroy(drives->list[i]);
	}
	block_ring_destroy(drives->ring);
	free(drives);
}

/* Index of the drive called @id, or the count. */
static size_t find(const struct drives *drives, const char *id)
{
	size_t i = 0;

	while (i < drives->count &&
	       strcmp(drives->list[i]->config.drive_id, id) != 0)
		i++;
	return i;
}

bool drives_have_root(const struct drives *drives)
{
	return drives->count && drives->list[0]->config.is_root_device;
}

static int check(const struct drives *drives, const struct drive_config *config,
		 size_t slot, struct error *err)
{
	if (config->is_root_device && drives_have_root(drives) && slot != 0)
		return error_set(err, EEXIST,
				 "A root block device already exists!");
	if (slot == CONFIG_DRIVES_MAX)
		return error_set(err, ENOSPC,
				 "More than %d drives cannot be configured",
				 CONFIG_DRIVES_MAX);
	return 0;
}

/* The first drive that is Async brings the ring. Here, not at the start, a host
 * without io_uring is told from one with it, and this is nobody's hurry. */
static int use_ring(struct drives *drives, const struct drive *drive,
		    struct error *err)
{
	int ret;

	if (!drives->ring) {
		ret = block_ring_create(&drives->ring, err);
		if (ret)
			return error_prefix(err, "Unable to create the virtio "
						 "block device: ");
	}
	return block_use_ring(drive->block, drives->ring, err);
}

/* Takes @config only if all went well. */
static int drive_create(struct drives *drives, struct drive **ret_drive,
			struct drive_config *config, struct error *err)
{
	struct drive *drive = calloc(1, sizeof(*drive));
	int ret;

	if (!drive)
		return error_set_os(err, ENOMEM, "Cannot create the drive:");
	ret = block_create(&drive->block, config, &drive->metrics, err);
	if (!ret && config->io_engine == IO_ENGINE_ASYNC)
		ret = use_ring(drives, drive, err);
	if (ret) {
		drive_destroy(drive);
		return ret;
	}
	drive->config = *config;
	*config = (struct drive_config){0};
	*ret_drive = drive;
	return 0;
}

static void remove_at(struct drives *drives, size_t slot)
{
	struct drive *drive = drives->list[slot];

	metrics_remove_device(drives->metrics, &drive->metrics);
	drive_destroy(drive);
	drives->count--;
	memmove(&drives->list[slot], &drives->list[slot + 1],
		(drives->count - slot) * sizeof(drives->list[0]));
}

static void insert_at(struct drives *drives, size_t slot, struct drive *drive)
{
	memmove(&drives->list[slot + 1], &drives->list[slot],
		(drives->count - slot) * sizeof(drives->list[0]));
	drives->list[slot] = drive;
	drives->count++;
}

int drives_set(struct drives *drives, struct drive_config *config,
	       struct error *err)
{
	size_t slot = find(drives, config->drive_id);
	struct drive *drive = NULL;
	int ret = check(drives, config, slot, err);

	if (ret)
		return ret;
	ret = drive_create(drives, &drive, config, err);
	if (!drive)
		return ret;
	if (slot < drives->count)
		remove_at(drives, slot);
	if (drive->config.is_root_device)
		slot = 0;
	insert_at(drives, slot, drive);
	ret = metrics_add_device(drives->metrics, METRICS_BLOCK,
				 drive->config.drive_id, &drive->metrics);
	if (ret) {
		remove_at(drives, slot);
		return error_set(err, -ret, "Too many drives have metrics");
	}
	return 0;
}

static void apply_limits(struct drive *drive,
			 const struct rate_limiter_update *update)
{
	block_update_limiter(drive->block, update);
	rate_limiter_config_update(&drive->config.rate_limiter.values, update);
}

static int apply_update(struct drive *drive, struct drive_update *update,
			struct error *err)
{
	int ret = 0;

	if (!update->path_on_host && !update->has_rate_limiter)
		return error_set(err, EINVAL,
				 "Running method expected different backend.");
	if (update->path_on_host)
		ret = block_set_path(drive->block, update->path_on_host, err);
	if (ret)
		return ret;
	if (update->path_on_host) {
		free(drive->config.path_on_host);
		drive->config.path_on_host = take_ptr(update->path_on_host);
	}
	if (update->has_rate_limiter)
		apply_limits(drive, &update->rate_limiter);
	return 0;
}

int drives_update(struct drives *drives, struct drive_update *update,
		  struct error *err)
{
	size_t slot = find(drives, update->drive_id);
	int ret;

	if (slot == drives->count)
		return error_set(err, ENOENT,
				 "Unable to patch the block device: Failed "
				 "perform action on device: Device not found "
				 "Please verify the request arguments.");
	ret = apply_update(drives->list[slot], update, err);
	if (ret) {
		metric_inc(&drives->list[slot]->metrics.update_fails);
		error_prefix(err, "Unable to patch the block device: ");
		return ret;
	}
	metric_inc(&drives->list[slot]->metrics.update_count);
	return 0;
}

size_t drives_count(const struct drives *drives)
{
	return drives->count;
}

const struct drive_config *drives_config(const struct drives *drives, size_t i)
{
	return &drives->list[i]->config;
}

struct virtio_device *drives_device(const struct drives *drives, size_t i)
{
	return block_virtio(drives->list[i]->block);
}

int drives_append_root(const struct drives *drives, struct cmdline *cmdline,
		       struct error *err)
{
	const struct drive_config *root;
	int ret;

	if (!drives_have_root(drives))
		return 0;
	root = &drives->list[0]->config;
	if (root->partuuid)
		ret = cmdline_append(cmdline, err, "root=PARTUUID=%s",
				     root->partuuid);
	else
		ret = cmdline_append(cmdline, err, "root=/dev/vda");
	if (ret)
		return ret;
	return cmdline_append(cmdline, err, root->is_read_only ? "ro" : "rw");
}
