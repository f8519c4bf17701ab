/* SPDX-License-Identifier: Apache-2.0 */
#include "virtio/entropy.h"

#include <errno.h>

struct entropy {
	struct virtio_device dev;
};

int entropy_create(struct entropy **ret_device,
		   const struct entropy_config *config, struct metrics *metrics,
		   struct error *err)
{
	(void)ret_device;
	(void)config;
	(void)metrics;
	return error_set(err, ENOTSUP, "not yet");
}

struct virtio_device *entropy_virtio(struct entropy *device)
{
	return &device->dev;
}
