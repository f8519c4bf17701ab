/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/drives.h"

#include "virtio/block.h"
#include "virtio/block_ring.h"
#include "virtio/vhost_user_blk.h"

#include <errno.h>
#include <string.h>

#define CANNOT_CREATE "Unable to create the virtio block device: "

struct drive {
	struct drive_config config;
	/* One of them: what serves it here, or who does elsewhere. */
	struct block *block;
	struct vhost_user_blk *vhost_user;
	struct block_metrics metrics;
	struct vhost_user_block_metrics vhost_user_metrics;
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

static struct virtio_device *device_of(const struct drive *drive)
{
	return drive->vhost_user ? vhost_user_blk_virtio(drive->vhost_user)
				 : block_virtio(drive->block);
}

/* What metrics know it by. */
static void *counters_of(struct drive *drive)
{
	return drive->vhost_user ? (void *)&drive->vhost_user_metrics
				 : (void *)&drive->metrics;
}

static void drive_destroy(struct drive *drive)
{
	if (!drive)
		return;
	if (drive->vhost_user || drive->block)
		virtio_device_destroy(device_of(drive));
	drive_config_release(&drive->config);
	free(drive);
}

void drives_destroy(struct drives *drives)
{
	if (!drives)
		return;
	for (size_t i = 0; i < drives->count; i++) {
		metrics_remove_device(drives->metrics,
				      counters_of(drives->list[i]));
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

/* A socket says who serves it, and with it go neither a file nor anything that
 * is done with one. */
static bool backend_valid(const struct drive_config *config)
{
	return !config->socket ||
	       !(config->path_on_host || config->has_is_read_only ||
		 config->has_io_engine || config->has_rate_limiter);
}

static int check(const struct drives *drives, const struct drive_config *config,
		 size_t slot, struct error *err)
{
	if (!backend_valid(config))
		return error_set(err, EINVAL,
				 CANNOT_CREATE "Invalid block config.");
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
			return error_prefix(err, CANNOT_CREATE);
	}
	return block_use_ring(drive->block, drives->ring, err);
}

static int create_device(struct drives *drives, struct drive *drive,
			 const struct drive_config *config, struct error *err)
{
	int ret;

	if (config->socket) {
		ret = vhost_user_blk_create(&drive->vhost_user, config,
					    &drive->vhost_user_metrics, err);
		return ret ? error_prefix(err, CANNOT_CREATE) : 0;
	}
	ret = block_create(&drive->block, config, &drive->metrics, err);
	if (!ret && config->io_engine == IO_ENGINE_ASYNC)
		ret = use_ring(drives, drive, err);
	return ret;
}

/* Takes @config only if all went well. */
static int drive_create(struct drives *drives, struct drive **ret_drive,
			struct drive_config *config, struct error *err)
{
	struct drive *drive = calloc(1, sizeof(*drive));
	int ret;

	if (!drive)
		return error_set_os(err, ENOMEM, "Cannot create the drive:");
	ret = create_device(drives, drive, config, err);
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

	metrics_remove_device(drives->metrics, counters_of(drive));
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

/* Back ends mostly have one client at a time: they have to be left to be asked
 * again. */
static bool same_socket(const struct drives *drives, size_t slot,
			const struct drive_config *config)
{
	const char *old =
		slot < drives->count ? drives->list[slot]->config.socket : NULL;

	return old && config->socket && strcmp(old, config->socket) == 0;
}

int drives_set(struct drives *drives, struct drive_config *config,
	       struct error *err)
{
	size_t slot = find(drives, config->drive_id);
	struct drive *drive = NULL;
	bool replaces = slot < drives->count;
	int ret = check(drives, config, slot, err);

	if (ret)
		return ret;
	if (same_socket(drives, slot, config)) {
		remove_at(drives, slot);
		replaces = false;
	}
	ret = drive_create(drives, &drive, config, err);
	if (!drive)
		return ret;
	if (replaces)
		remove_at(drives, slot);
	if (drive->config.is_root_device)
		slot = 0;
	insert_at(drives, slot, drive);
	ret = metrics_add_device(drives->metrics,
				 drive->vhost_user ? METRICS_VHOST_USER_BLOCK
						   : METRICS_BLOCK,
				 drive->config.drive_id, counters_of(drive));
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
	bool refreshes = !update->path_on_host && !update->has_rate_limiter;
	int ret = 0;

	if (refreshes != !!drive->vhost_user)
		return error_set(err, EINVAL,
				 "Running method expected different backend.");
	if (refreshes)
		return vhost_user_blk_refresh(drive->vhost_user, err);
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
	return device_of(drives->list[i]);
}

const char *drives_vhost_user(const struct drives *drives, size_t i)
{
	const struct drive *drive = drives->list[i];

	return drive->vhost_user ? drive->config.drive_id : NULL;
}

static bool is_read_only(const struct drive *drive)
{
	return drive->vhost_user ? vhost_user_blk_read_only(drive->vhost_user)
				 : drive->config.is_read_only;
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
	return cmdline_append(cmdline, err,
			      is_read_only(drives->list[0]) ? "ro" : "rw");
}
