/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Entropy device (virtio 1.2, section 5.4).
 */
#ifndef EMBER_ENTROPY_H
#define EMBER_ENTROPY_H

#include "virtio/device.h"
#include "vmm/config.h"
#include "vmm/metrics.h"

struct entropy;

int entropy_create(struct entropy **ret_device,
		   const struct entropy_config *config, struct metrics *metrics,
		   struct error *err) must_check;

struct virtio_device *entropy_virtio(struct entropy *device);

#endif
