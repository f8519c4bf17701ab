/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A device as bytes of a snapshot: what all types share, the queues, then what
 * is the type's own.
 *
 * Loading believes nothing. What is shared is read into a structure of its own
 * and checked before the device changes; the queues are validated as when a
 * driver sets them up, and must stand where their rings in guest memory can be.
 * If a later step refuses, the device is reset.
 */
#include "snapshot/state.h"
#include "virtio/device.h"

#include <assert.h>
#include <errno.h>
#include <string.h>

#define INTERRUPT_BITS (VIRTIO_INTERRUPT_QUEUE | VIRTIO_INTERRUPT_CONFIG)

/* What is shared, as it is kept. */
struct shared {
	uint32_t id;
	uint16_t queue_count;
	uint8_t status;
	uint64_t features, driver_features;
	uint32_t config_generation, interrupt_status;
	uint16_t config_len;
	uint8_t config[VIRTIO_CONFIG_MAX];
};

static const struct state_field fields[] = {
	STATE_FIELD(struct shared, id),
	STATE_FIELD(struct shared, queue_count),
	STATE_FIELD(struct shared, status),
	STATE_FIELD(struct shared, features),
	STATE_FIELD(struct shared, driver_features),
	STATE_FIELD(struct shared, config_generation),
	STATE_FIELD(struct shared, interrupt_status),
	STATE_FIELD(struct shared, config_len),
	STATE_ARRAY(struct shared, config),
};

/* ------------------------------------------------------------------ saving */

static void save_shared(const struct virtio_device *dev,
			struct state_writer *writer)
{
	struct shared shared = {
		.id = dev->ops->id,
		.queue_count = dev->queue_count,
		.status = dev->status,
		.features = dev->features,
		.driver_features = dev->driver_features,
		.config_generation = dev->config_generation,
		.interrupt_status = atomic_load(&dev->interrupt_status),
		.config_len = (uint16_t)dev->config_len,
	};

	memcpy(shared.config, dev->config, sizeof(shared.config));
	state_put_fields(writer, &shared, fields, ARRAY_SIZE(fields));
}

void virtio_device_save(struct virtio_device *dev, struct state_writer *writer)
{
	pthread_mutex_lock(&dev->lock);
	virtio_device_settle(dev);
	if (dev->active && dev->ops->quiesce)
		dev->ops->quiesce(dev);
	save_shared(dev, writer);
	for (uint16_t q = 0; q < dev->queue_count; q++) {
		queue_save(&dev->queues[q], writer);
		if (dev->queues[q].active)
			queue_mark_dirty(&dev->queues[q]);
	}
	if (dev->ops->save)
		dev->ops->save(dev, writer);
	pthread_mutex_unlock(&dev->lock);
}

/* ---------------------------------------------------------------- checking */

/* How far initialisation may have come (3.1.1). */
static const uint8_t stages[] = {
	0,
	VIRTIO_STATUS_ACKNOWLEDGE,
	VIRTIO_STATUS_ACKNOWLEDGE | VIRTIO_STATUS_DRIVER,
	VIRTIO_STATUS_ACKNOWLEDGE | VIRTIO_STATUS_DRIVER |
		VIRTIO_STATUS_FEATURES_OK,
	VIRTIO_STATUS_ACKNOWLEDGE | VIRTIO_STATUS_DRIVER |
		VIRTIO_STATUS_FEATURES_OK | VIRTIO_STATUS_DRIVER_OK,
};

static bool status_legal(uint8_t status)
{
	uint8_t stage = (uint8_t)(status & ~VIRTIO_STATUS_FAILED);

	/* Only a device that was started can give up. */
	if (stage & VIRTIO_STATUS_DRIVER_OK)
		stage &= (uint8_t)~VIRTIO_STATUS_NEEDS_RESET;
	for (size_t i = 0; i < ARRAY_SIZE(stages); i++)
		if (stages[i] == stage)
			return true;
	return false;
}

static bool was_active(const struct shared *shared)
{
	return (shared->status & VIRTIO_STATUS_DRIVER_OK) &&
	       !(shared->status & VIRTIO_STATUS_NEEDS_RESET);
}

static int check_identity(const struct virtio_device *dev,
			  const struct shared *shared, struct error *err)
{
	const struct virtio_device_ops *ops = dev->ops;

	if (shared->id != ops->id)
		return error_set(err, EINVAL,
				 "the snapshot has a device of type %u there, "
				 "not of type %u",
				 shared->id, ops->id);
	if (shared->queue_count != dev->queue_count)
		return error_set(err, EINVAL, "it has %u queues, not %u",
				 dev->queue_count, shared->queue_count);
	return 0;
}

/* What was negotiated was on offer (2.2), then and now. */
static int check_features(const struct virtio_device *dev,
			  const struct shared *shared, struct error *err)
{
	uint64_t driver = shared->driver_features;
	uint64_t missing = shared->features & ~dev->features;

	if (missing)
		return error_set(err, EINVAL,
				 "features %#lx of the snapshot are not "
				 "offered here",
				 (unsigned long)missing);
	if (!(shared->status & VIRTIO_STATUS_FEATURES_OK))
		return 0; /* what the driver wrote was not looked at yet */
	if (driver & ~shared->features)
		return error_set(err, EINVAL,
				 "the driver accepted features %#lx, which "
				 "were not offered",
				 (unsigned long)(driver & ~shared->features));
	if (!(driver & BIT(VIRTIO_F_VERSION_1)))
		return error_set(err, EINVAL,
				 "the driver did not accept VERSION_1");
	return 0;
}

static int check_status(const struct shared *shared, struct error *err)
{
	if (!status_legal(shared->status))
		return error_set(err, EINVAL, "status %#x is not possible",
				 shared->status);
	if (shared->interrupt_status & ~(uint32_t)INTERRUPT_BITS)
		return error_set(err, EINVAL,
				 "interrupt status %#x is not possible",
				 shared->interrupt_status);
	return 0;
}

static bool config_same(const struct virtio_device *dev,
			const struct shared *shared)
{
	return !memcmp(shared->config, dev->config, sizeof(dev->config));
}

static int check_config(const struct virtio_device *dev,
			const struct shared *shared, struct error *err)
{
	if (shared->config_len != dev->config_len)
		return error_set(err, EINVAL,
				 "its config space has %zu bytes, not %u",
				 dev->config_len, shared->config_len);
	if (dev->ops->config_fixed && !config_same(dev, shared))
		return error_set(err, EINVAL,
				 "%s must be the same as in the snapshot",
				 dev->ops->config_fixed);
	return 0;
}

static int load_shared(const struct virtio_device *dev, struct shared *shared,
		       struct state_reader *reader, struct error *err)
{
	int ret;

	state_get_fields(reader, shared, fields, ARRAY_SIZE(fields));
	if (reader->failed)
		return state_reader_end(reader, err);
	ret = check_identity(dev, shared, err);
	if (!ret)
		ret = check_features(dev, shared, err);
	if (!ret)
		ret = check_status(shared, err);
	return ret ? ret : check_config(dev, shared, err);
}

/* ---------------------------------------------------------------- applying */

/* The driver reads the new one when it is told (4.2.2.1). */
static void apply_config(struct virtio_device *dev, const struct shared *shared)
{
	if (config_same(dev, shared))
		return;
	if (dev->ops->config_write) {
		memcpy(dev->config, shared->config, dev->config_len);
		return;
	}
	dev->config_generation++;
	if (was_active(shared))
		atomic_fetch_or(&dev->interrupt_status,
				VIRTIO_INTERRUPT_CONFIG);
}

static void apply_shared(struct virtio_device *dev, const struct shared *shared)
{
	dev->driver_features = shared->driver_features;
	dev->status = shared->status;
	dev->config_generation = shared->config_generation;
	atomic_store(&dev->interrupt_status, shared->interrupt_status);
	apply_config(dev, shared);
}

static int resume_queues(struct virtio_device *dev, struct error *err)
{
	bool event_idx = virtio_device_negotiated(dev, VIRTIO_F_EVENT_IDX);

	for (uint16_t q = 0; q < virtio_device_queues_used(dev); q++) {
		int ret = dev->queues[q].ready
				  ? queue_resume(&dev->queues[q], dev->mem,
						 event_idx, err)
				  : error_set(err, EINVAL, "it is not ready");

		if (ret) {
			error_prefix(err, "queue %u: ", q);
			return ret;
		}
	}
	return 0;
}

static int start(struct virtio_device *dev, struct error *err)
{
	int ret = resume_queues(dev, err);

	if (ret)
		return ret;
	ret = dev->ops->activate(dev);
	if (ret)
		return error_set_os(err, -ret, "it cannot be activated:");
	dev->active = true;
	dev->unsettled = true;
	virtio_device_settle(dev);
	return 0;
}

static int load(struct virtio_device *dev, struct state_reader *reader,
		struct error *err)
{
	struct shared shared = {0};
	int ret = load_shared(dev, &shared, reader, err);
	bool active = was_active(&shared);

	if (ret)
		return ret;
	for (uint16_t q = 0; q < dev->queue_count; q++)
		queue_load(&dev->queues[q], reader, active);
	if (reader->failed)
		return state_reader_end(reader, err);
	apply_shared(dev, &shared);
	if (active)
		ret = start(dev, err);
	if (!ret && dev->ops->load)
		ret = dev->ops->load(dev, reader, err);
	return ret ? ret : state_reader_end(reader, err);
}

int virtio_device_load(struct virtio_device *dev, struct state_reader *reader,
		       struct error *err)
{
	int ret;

	assert(!dev->active && dev->mem && dev->loop);
	pthread_mutex_lock(&dev->lock);
	dev->held = true;
	ret = load(dev, reader, err);
	if (ret) {
		virtio_device_reset(dev);
		virtio_device_settle(dev);
	}
	pthread_mutex_unlock(&dev->lock);
	return ret;
}
