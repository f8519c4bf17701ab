/* SPDX-License-Identifier: Apache-2.0 */
#include "virtio/balloon.h"

#include <errno.h>

struct balloon {
	struct virtio_device dev;
};

int balloon_create(struct balloon **ret_device,
		   const struct balloon_config *config, struct metrics *metrics,
		   struct error *err)
{
	(void)ret_device;
	(void)config;
	(void)metrics;
	return error_set(err, ENOTSUP, "not yet");
}

struct virtio_device *balloon_virtio(struct balloon *device)
{
	return &device->dev;
}
