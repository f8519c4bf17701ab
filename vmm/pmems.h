/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The persistent memory devices of a microVM: what the client configured, with
 * the device behind each, in the order in which they were configured: the first
 * is the guest's /dev/pmem0. Files are opened when the machine is built.
 * Thread: loop.
 */
#ifndef EMBER_PMEMS_H
#define EMBER_PMEMS_H

#include "vmm/cmdline.h"
#include "vmm/config.h"
#include "vmm/machine.h"
#include "vmm/metrics.h"

struct pmems;

int pmems_create(struct pmems **ret_pmems, struct metrics *metrics) must_check;

/* The machine the devices were attached to must be gone. Accepts NULL. */
void pmems_destroy(struct pmems *pmems);

/* Adds or replaces a device; takes the strings of @config. @drive_root: there
 * is a root drive. On failure what was there stays. */
int pmems_set(struct pmems *pmems, struct pmem_config *config, bool drive_root,
	      struct error *err) must_check;

/* Applies a change to a device of a started microVM. */
int pmems_update(struct pmems *pmems, const struct pmem_update *update,
		 struct error *err) must_check;

size_t pmems_count(const struct pmems *pmems);
const struct pmem_config *pmems_config(const struct pmems *pmems, size_t i);
struct virtio_device *pmems_device(const struct pmems *pmems, size_t i);
bool pmems_have_root(const struct pmems *pmems);

/* Opens and maps all files, for a machine that is about to be built, and says
 * what it shall show the guest: pmems_count windows, which borrow from @pmems.
 * After a failure nothing is open. */
int pmems_open(struct pmems *pmems,
	       struct machine_window windows[CONFIG_PMEMS_MAX],
	       struct error *err) must_check;

/* That machine is gone. */
void pmems_close(struct pmems *pmems);

/* Adds `root=... ro|rw` when there is a root device. */
int pmems_append_root(const struct pmems *pmems, struct cmdline *cmdline,
		      struct error *err) must_check;

#endif
