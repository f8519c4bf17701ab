/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The persistent memory devices of a microVM: what the client configured, with
 * the device behind each. Files are opened when the machine is built. Thread:
 * loop.
 */
#ifndef EMBER_PMEMS_H
#define EMBER_PMEMS_H

#include "vmm/cmdline.h"
#include "vmm/config.h"
#include "vmm/metrics.h"

struct pmems;
struct virtio_device;

int pmems_create(struct pmems **ret_pmems, struct metrics *metrics) must_check;

/* The machine the devices were attached to must be gone. Accepts NULL. */
void pmems_destroy(struct pmems *pmems);

/* Adds or replaces a device; takes the strings of @config. On failure what was
 * there stays. */
int pmems_set(struct pmems *pmems, struct pmem_config *config,
	      struct error *err) must_check;

/* Applies a change to a device of a started microVM. */
int pmems_update(struct pmems *pmems, struct pmem_update *update,
		 struct error *err) must_check;

size_t pmems_count(const struct pmems *pmems);
const struct pmem_config *pmems_config(const struct pmems *pmems, size_t i);
struct virtio_device *pmems_device(const struct pmems *pmems, size_t i);
bool pmems_have_root(const struct pmems *pmems);

/* Adds `root=... ro|rw` when there is a root device. */
int pmems_append_root(const struct pmems *pmems, struct cmdline *cmdline,
		      struct error *err) must_check;

#endif
