/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Memory device, virtio-mem (virtio 1.2, section 5.15).
 */
#ifndef EMBER_MEM_H
#define EMBER_MEM_H

#include "virtio/device.h"
#include "vmm/config.h"
#include "vmm/metrics.h"

struct mem_device;

int mem_device_create(struct mem_device **ret_device,
		      const struct hotplug_config *config,
		      struct metrics *metrics, struct error *err) must_check;

struct virtio_device *mem_device_virtio(struct mem_device *device);

#endif
