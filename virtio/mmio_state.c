/* SPDX-License-Identifier: Apache-2.0 */
/* A device on its bus as a section of a snapshot: where it is, then what it is.
 */
#include "snapshot/state.h"
#include "virtio/mmio_transport.h"
#include "vmm/log.h"

#include <errno.h>

#define SECTION STATE_TAG('V', 'D', 'E', 'V')
#define SECTION_VERSION 1

static const struct state_field fields[] = {
	STATE_FIELD(struct virtio_mmio, base),
	STATE_FIELD(struct virtio_mmio, gsi),
	STATE_FIELD(struct virtio_mmio, device_features_sel),
	STATE_FIELD(struct virtio_mmio, driver_features_sel),
	STATE_FIELD(struct virtio_mmio, queue_sel),
};

void virtio_mmio_save(struct virtio_mmio *mmio, struct state_writer *writer,
		      uint16_t instance)
{
	state_begin(writer, SECTION, SECTION_VERSION, instance);
	state_put_fields(writer, mmio, fields, ARRAY_SIZE(fields));
	virtio_device_save(mmio->dev, writer);
	state_end(writer);
}

bool virtio_mmio_is_saved(const struct state_file *file, uint16_t instance)
{
	struct state_reader reader;

	return state_find(file, SECTION, instance, &reader);
}

/* The guest knows the device by these. */
static int check_place(const struct virtio_mmio *mmio,
		       const struct virtio_mmio *saved, struct error *err)
{
	if (saved->base == mmio->base && saved->gsi == mmio->gsi)
		return 0;
	return error_set(err, EINVAL,
			 "it is at %#lx with interrupt %u, in the snapshot at "
			 "%#lx with %u",
			 (unsigned long)mmio->base, mmio->gsi,
			 (unsigned long)saved->base, saved->gsi);
}

int virtio_mmio_load(struct virtio_mmio *mmio, const struct state_file *file,
		     uint16_t instance, struct error *err)
{
	struct virtio_mmio saved = {0};
	struct state_reader reader;
	int ret = state_need(file, SECTION, instance, SECTION_VERSION, &reader,
			     err);

	if (ret)
		return ret;
	state_get_fields(&reader, &saved, fields, ARRAY_SIZE(fields));
	ret = reader.failed ? state_reader_end(&reader, err)
			    : check_place(mmio, &saved, err);
	if (!ret)
		ret = virtio_device_load(mmio->dev, &reader, err);
	if (ret) {
		error_prefix(err, "Device %u (%s): ", instance,
			     mmio->dev->ops->name);
		return ret;
	}
	mmio->device_features_sel = saved.device_features_sel;
	mmio->driver_features_sel = saved.driver_features_sel;
	mmio->queue_sel = saved.queue_sel;
	return 0;
}

void virtio_mmio_rekick(struct virtio_mmio *mmio)
{
	struct virtio_device *dev = mmio->dev;
	const uint64_t one = 1;

	pthread_mutex_lock(&dev->lock);
	for (uint16_t q = 0; q < dev->queue_count && dev->active; q++)
		if (write(mmio->kicks[q].source.fd, &one, sizeof(one)) < 0)
			log_error("%s: cannot kick queue %u", dev->ops->name,
				  q);
	pthread_mutex_unlock(&dev->lock);
	virtio_device_interrupt_again(dev);
}
