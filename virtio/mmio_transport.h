/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A transport from the inside, for the files that make it up:
 *
 *   mmio.c        registers, kicks, life cycle
 *   mmio_state.c  snapshots
 *
 * The selectors are guarded by the device's lock.
 */
#ifndef EMBER_MMIO_TRANSPORT_H
#define EMBER_MMIO_TRANSPORT_H

#include "virtio/mmio.h"

struct mmio_kick {
	struct loop_source source;
	struct virtio_mmio *mmio;
	uint16_t queue;
};

struct virtio_mmio {
	struct virtio_device *dev; /* borrowed */
	uint64_t base;
	uint32_t gsi;
	uint32_t device_features_sel, driver_features_sel, queue_sel;
	struct mmio_kick kicks[VIRTIO_QUEUES_MAX];
};

#endif
