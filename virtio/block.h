/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Block device (virtio 1.2, section 5.2) over a file: requests IN, OUT, FLUSH,
 * GET_ID, DISCARD and WRITE_ZEROES, done on the loop thread (io_engine "Sync")
 * or by the kernel beside it ("Async"). The file is opened when the drive is
 * configured, not when the VM starts.
 */
#ifndef EMBER_BLOCK_H
#define EMBER_BLOCK_H

#include "virtio/device.h"
#include "vmm/config.h"
#include "vmm/metrics.h"

struct block;
struct block_ring;

/* Opens config->path_on_host (no O_CREAT; refuses what is neither a regular
 * file nor a block device) and builds the device. @config is only read. */
int block_create(struct block **ret_block, const struct drive_config *config,
		 struct block_metrics *metrics, struct error *err) must_check;

struct virtio_device *block_virtio(struct block *block);

/* Has @ring do the I/O of a new device, which it must outlive. Without one it
 * is "Sync", whatever the configuration says. */
int block_use_ring(struct block *block, struct block_ring *ring,
		   struct error *err) must_check;

/* PATCH: other backing file, same device. Loop thread; takes the device lock,
 * and waits for what is in flight. The old file stays in use when the new one
 * cannot be opened. */
int block_set_path(struct block *block, const char *path,
		   struct error *err) must_check;

/* PATCH: other limits. Loop thread; takes the device lock. */
void block_update_limiter(struct block *block,
			  const struct rate_limiter_update *update);

#endif
