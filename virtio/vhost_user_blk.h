/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A block device (virtio 1.2, section 5.2) that another process serves
 * (virtio/vhost_user.h): requests, their data and interrupts go past this one.
 * Guest memory must be shared with that process, in a memfd. There are no rate
 * limits and no snapshots.
 */
#ifndef EMBER_VHOST_USER_BLK_H
#define EMBER_VHOST_USER_BLK_H

#include "virtio/device.h"
#include "vmm/config.h"
#include "vmm/metrics.h"

struct vhost_user_blk;

/* Connects to the back end at config->socket and asks it what it has. @config
 * is only read. Waits a second at most. -errno with a sentence. */
int vhost_user_blk_create(struct vhost_user_blk **ret_blk,
			  const struct drive_config *config,
			  struct vhost_user_block_metrics *metrics,
			  struct error *err) must_check;

struct virtio_device *vhost_user_blk_virtio(struct vhost_user_blk *blk);

/* Does the back end refuse to write? */
bool vhost_user_blk_read_only(const struct vhost_user_blk *blk);

/* PATCH: asks for the configuration space again and tells the driver. Loop
 * thread; takes the device lock; waits a second at most. The old one stays in
 * use if there is no answer. */
int vhost_user_blk_refresh(struct vhost_user_blk *blk,
			   struct error *err) must_check;

#endif
