/* SPDX-License-Identifier: Apache-2.0 */
#include "virtio/device.h"

#include "vmm/log.h"

#include <assert.h>
#include <errno.h>
#include <string.h>

void virtio_device_init(struct virtio_device *dev,
			const struct virtio_device_ops *ops, uint64_t features,
			const void *config, size_t config_len)
{
	assert(config_len <= VIRTIO_CONFIG_MAX);
	assert(ops->queue_count <= VIRTIO_QUEUES_MAX);
	dev->ops = ops;
	dev->queue_count = ops->queue_count;
	dev->features = features | BIT(VIRTIO_F_VERSION_1);
	dev->config_len = config_len;
	memcpy(dev->config, config, config_len);
	dev->irq.fd = -1;
	pthread_mutex_init(&dev->lock, NULL);
	pthread_mutex_init(&dev->irq_lock, NULL);
	for (uint16_t q = 0; q < ops->queue_count; q++)
		queue_init(&dev->queues[q], QUEUE_SIZE_MAX);
}

void virtio_device_destroy(struct virtio_device *dev)
{
	if (!dev)
		return;
	pthread_mutex_destroy(&dev->lock);
	pthread_mutex_destroy(&dev->irq_lock);
	dev->ops->destroy(dev);
}

bool virtio_device_negotiated(const struct virtio_device *dev, unsigned bit)
{
	return dev->driver_features & BIT(bit);
}

uint16_t virtio_device_queues_used(const struct virtio_device *dev)
{
	return dev->ops->queues_used ? dev->ops->queues_used(dev)
				     : dev->queue_count;
}

void virtio_device_read_config(const struct virtio_device *dev, size_t off,
			       uint8_t *data, size_t len)
{
	for (size_t i = 0; i < len; i++)
		data[i] = off + i < dev->config_len ? dev->config[off + i] : 0;
}

/*
 * The line is up while the status is not zero. So what comes before the driver
 * has acknowledged the last interrupt makes no new one: the driver looks at its
 * queues after the acknowledgement (4.2.2.1), and will find it.
 */
static void interrupt(struct virtio_device *dev, uint32_t bits)
{
	pthread_mutex_lock(&dev->irq_lock);
	if (!atomic_fetch_or(&dev->interrupt_status, bits) || !dev->irq.kvm)
		irq_line_raise(&dev->irq);
	pthread_mutex_unlock(&dev->irq_lock);
}

void virtio_device_acknowledge(struct virtio_device *dev, uint32_t bits)
{
	pthread_mutex_lock(&dev->irq_lock);
	irq_line_lower(&dev->irq);
	if (atomic_fetch_and(&dev->interrupt_status, ~bits) & ~bits &&
	    dev->irq.kvm)
		irq_line_raise(&dev->irq); /* an edge for what is left */
	pthread_mutex_unlock(&dev->irq_lock);
}

/* Where others make the interrupts, nobody knows whether one was lost. */
void virtio_device_interrupt_again(struct virtio_device *dev)
{
	pthread_mutex_lock(&dev->irq_lock);
	if (atomic_load(&dev->interrupt_status)) {
		irq_line_lower(&dev->irq);
		irq_line_raise(&dev->irq);
	} else if (atomic_load(&dev->interrupt_always)) {
		irq_line_trigger(&dev->irq);
	}
	pthread_mutex_unlock(&dev->irq_lock);
}

void virtio_device_needs_reset(struct virtio_device *dev, const char *why)
{
	log_guest("%s: needs reset: %s", dev->ops->name, why);
	dev->status |= VIRTIO_STATUS_NEEDS_RESET;
	dev->active = false;
	dev->unsettled = true;
	virtio_device_settle_soon(dev);
	interrupt(dev, VIRTIO_INTERRUPT_CONFIG);
}

static int activate_queues(struct virtio_device *dev, struct error *err)
{
	bool event_idx = virtio_device_negotiated(dev, VIRTIO_F_EVENT_IDX);

	for (uint16_t q = 0; q < virtio_device_queues_used(dev); q++) {
		int ret;

		if (!dev->queues[q].ready)
			return error_set(err, EINVAL, "queue %u is not ready",
					 q);
		ret = queue_activate(&dev->queues[q], dev->mem, event_idx, err);
		if (ret)
			return ret;
	}
	return 0;
}

void virtio_device_activate(struct virtio_device *dev)
{
	struct error err = {0};

	if (activate_queues(dev, &err)) {
		virtio_device_needs_reset(dev, err.text);
		return;
	}
	if (dev->ops->activate(dev)) {
		virtio_device_needs_reset(dev, "it cannot be activated");
		return;
	}
	dev->active = true;
	dev->unsettled = true;
}

void virtio_device_reset(struct virtio_device *dev)
{
	if (dev->active)
		dev->ops->reset(dev);
	dev->unsettled = true;
	for (uint16_t q = 0; q < dev->queue_count; q++)
		queue_reset(&dev->queues[q]);
	dev->active = false;
	dev->status = 0;
	dev->driver_features = 0;
	virtio_device_acknowledge(dev, UINT32_MAX);
}

void virtio_device_settle(struct virtio_device *dev)
{
	if (!dev->unsettled)
		return;
	dev->unsettled = false;
	if (dev->ops->settle)
		dev->ops->settle(dev);
}

/* As if queue 0 had been kicked. */
void virtio_device_settle_soon(struct virtio_device *dev)
{
	const struct loop_source *wake = dev->wake ? dev->wake : dev->kicks[0];
	const uint64_t one = 1;

	if (dev->unsettled && dev->ops->settle && wake &&
	    write(wake->fd, &one, sizeof(one)) < 0)
		log_error("%s: cannot wake the loop", dev->ops->name);
}

void virtio_device_hold(struct virtio_device *dev, bool on)
{
	pthread_mutex_lock(&dev->lock);
	dev->held = on;
	if (dev->active && dev->ops->hold)
		dev->ops->hold(dev, on);
	pthread_mutex_unlock(&dev->lock);
}

bool virtio_device_queue_event(struct virtio_device *dev, uint16_t q)
{
	virtio_device_settle(dev);
	return dev->active && q < virtio_device_queues_used(dev) &&
	       dev->ops->queue_event(dev, q);
}

void virtio_device_notify_used(struct virtio_device *dev, uint16_t q)
{
	if (queue_interrupt_wanted(&dev->queues[q]))
		interrupt(dev, VIRTIO_INTERRUPT_QUEUE);
}

void virtio_device_notify_queues(struct virtio_device *dev, uint64_t queues)
{
	bool wanted = false;

	for (uint16_t q = 0; q < dev->queue_count; q++)
		if (queues & BIT(q))
			wanted |= queue_interrupt_wanted(&dev->queues[q]);
	if (wanted)
		interrupt(dev, VIRTIO_INTERRUPT_QUEUE);
}

void virtio_device_set_config(struct virtio_device *dev, const void *config,
			      size_t len)
{
	assert(len == dev->config_len);
	memcpy(dev->config, config, len);
	dev->config_generation++;
	if (dev->active)
		interrupt(dev, VIRTIO_INTERRUPT_CONFIG);
}
