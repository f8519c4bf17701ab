/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The drives of a microVM: what the client configured, with the open block
 * device behind each. The root drive always comes first. Thread: loop.
 */
#ifndef EMBER_DRIVES_H
#define EMBER_DRIVES_H

#include "vmm/cmdline.h"
#include "vmm/config.h"
#include "vmm/metrics.h"

struct drives;
struct virtio_device;

int drives_create(struct drives **ret_drives,
		  struct metrics *metrics) must_check;

/* The machine the devices were attached to must be gone. Accepts NULL. */
void drives_destroy(struct drives *drives);

/* Adds or replaces a drive: opens its file, takes the strings of @config. On
 * failure what was there stays, but for a drive with the same socket: its back
 * end has to be left before it can be asked again. */
int drives_set(struct drives *drives, struct drive_config *config,
	       struct error *err) must_check;

/* Applies a change to a drive of a started microVM; takes @update's path. */
int drives_update(struct drives *drives, struct drive_update *update,
		  struct error *err) must_check;

size_t drives_count(const struct drives *drives);
const struct drive_config *drives_config(const struct drives *drives, size_t i);
struct virtio_device *drives_device(const struct drives *drives, size_t i);
bool drives_have_root(const struct drives *drives);

/* The id of drive @i if another process serves it; else NULL. Such drives want
 * guest memory in a memfd, and cannot be saved. */
const char *drives_vhost_user(const struct drives *drives, size_t i);

/* Adds `root=... ro|rw` when there is a root drive. */
int drives_append_root(const struct drives *drives, struct cmdline *cmdline,
		       struct error *err) must_check;

#endif
