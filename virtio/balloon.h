/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Memory balloon device (virtio 1.2, section 5.5).
 */
#ifndef EMBER_BALLOON_H
#define EMBER_BALLOON_H

#include "virtio/device.h"
#include "vmm/config.h"
#include "vmm/metrics.h"

struct balloon;

int balloon_create(struct balloon **ret_device,
		   const struct balloon_config *config, struct metrics *metrics,
		   struct error *err) must_check;

struct virtio_device *balloon_virtio(struct balloon *device);

#endif
