/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Entropy device (virtio 1.2, section 5.4): fills the driver's buffers with
 * random bytes of the host's kernel, on the loop thread. No features, no
 * configuration space.
 */
#ifndef EMBER_ENTROPY_H
#define EMBER_ENTROPY_H

#include "virtio/device.h"
#include "vmm/config.h"
#include "vmm/metrics.h"

struct entropy;

/* @config is only read. -ENOMEM with a sentence. */
int entropy_create(struct entropy **ret_device,
		   const struct entropy_config *config, struct metrics *metrics,
		   struct error *err) must_check;

struct virtio_device *entropy_virtio(struct entropy *device);

#endif
