/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Persistent memory device (virtio 1.2, section 5.19): a file of the host's
 * that the guest has as memory, and a queue on which it asks for what it wrote
 * to be made durable.
 *
 * Life: created when configured; its file is opened and mapped when the machine
 * is built, which places it in the guest's addresses; the machine is gone
 * before it is destroyed. Thread: loop.
 */
#ifndef EMBER_PMEM_H
#define EMBER_PMEM_H

#include "virtio/device.h"
#include "virtio/pmem_file.h"
#include "vmm/config.h"
#include "vmm/metrics.h"

struct pmem;

/* @config is only read, and not kept. -ENOMEM. */
int pmem_create(struct pmem **ret_pmem, const struct pmem_config *config,
		struct pmem_metrics *metrics, struct error *err) must_check;

struct virtio_device *pmem_virtio(struct pmem *pmem);

/* Opens and maps the file, which pmem_file lends; closed before by pmem_close
 * or new. Not while a machine has it. -errno with a sentence. */
int pmem_open(struct pmem *pmem, const char *path, bool read_only,
	      struct error *err) must_check;
void pmem_close(struct pmem *pmem);
const struct pmem_file *pmem_file(const struct pmem *pmem);

/* Where the guest finds it: before the device is attached. */
void pmem_place(struct pmem *pmem, uint64_t gpa);

/* PATCH: other limits. Takes the device lock. */
void pmem_update_limiter(struct pmem *pmem,
			 const struct rate_limiter_update *update);

#endif
