/* SPDX-License-Identifier: Apache-2.0 */
#include "virtio/mem.h"

#include <errno.h>

struct mem_device {
	struct virtio_device dev;
};

int mem_device_create(struct mem_device **ret_device,
		      const struct hotplug_config *config,
		      struct metrics *metrics, struct error *err)
{
	(void)ret_device;
	(void)config;
	(void)metrics;
	return error_set(err, ENOTSUP, "not yet");
}

struct virtio_device *mem_device_virtio(struct mem_device *device)
{
	return &device->dev;
}
