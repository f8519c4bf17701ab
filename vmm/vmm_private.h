/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The parts of the vmm, for the files that make it up:
 *
 *   vmm.c         configuration, start, pause, the table of actions
 *   vmm_save.c    a snapshot of it
 *   vmm_load.c    a microVM from a snapshot
 *   vmm_memory.c  its memory as a whole
 *   vmm_entropy.c, vmm_balloon.c, vmm_hotplug.c  its single devices
 *
 * Thread: loop.
 */
#ifndef EMBER_VMM_PRIVATE_H
#define EMBER_VMM_PRIVATE_H

#include "snapshot/pair.h"
#include "virtio/balloon.h"
#include "virtio/entropy.h"
#include "virtio/mem.h"
#include "virtio/vsock.h"
#include "vmm/boot_source.h"
#include "vmm/drives.h"
#include "vmm/machine.h"
#include "vmm/mmds.h"
#include "vmm/nets.h"
#include "vmm/pmems.h"
#include "vmm/vmm.h"

#define VMM_ID_MAX 64
/* Lists, and the single devices: balloon, vsock, entropy, hotplug. */
#define VMM_DEVICES_MAX                                                        \
	(CONFIG_DRIVES_MAX + CONFIG_NETS_MAX + CONFIG_PMEMS_MAX + 4)

struct vmm {
	struct loop *loop;
	struct vmm_options options;
	char id[VMM_ID_MAX + 1];
	enum vmm_state state;
	bool confined;	 /* the loop thread has its filter */
	bool configured; /* something of a machine to boot was set */
	_Atomic int exit_code;

	struct machine_config machine_config;
	struct boot_source boot;
	struct drives *drives;
	struct nets *nets;
	struct vsock_config vsock_config;
	struct vsock *vsock; /* NULL: none */
	struct pmems *pmems;
	struct entropy_config entropy_config;
	struct entropy *entropy; /* NULL: none */
	struct balloon_config balloon_config;
	struct balloon *balloon; /* NULL: none */
	struct hotplug_config hotplug_config;
	struct mem_device *hotplug; /* NULL: none */
	struct serial_config serial_config;
	int serial_fd; /* where its output goes; -1: standard output */
	struct mmds *mmds;

	struct machine *machine;
	char *parent; /* state file it was loaded from; NULL: booted */
	/* Of the snapshot it was loaded from, and of the next it takes: the
	 * same until it succeeds. All zero: none, not drawn. */
	struct pair_id loaded, next;
	struct metrics metrics;
	struct loop_timer metrics_timer;
};

/* ---------------------------------------------------------- from vmm.c */

/* In the order in which the guest finds them. Their number. */
size_t vmm_list_devices(const struct vmm *vmm,
			struct virtio_device *devices[VMM_DEVICES_MAX]);

/* What the machine tells us. */
struct machine_events vmm_machine_events(struct vmm *vmm);

/* Takes the strings of @config, and the socket's path in the file system. */
int vmm_set_vsock(struct vmm *vmm, struct vsock_config *config,
		  struct error *err) must_check;

/* The machine is there: from now on it is running, or paused. */
void vmm_begin(struct vmm *vmm, enum vmm_state state);

/* Notes how long something took, in metrics and log. */
void vmm_record_latency(struct metric_store *store, const char *what,
			uint64_t start_ns);

/* ------------------------------- from vmm_entropy.c, vmm_balloon.c ... */

/* Replaces the device that is there. */
int vmm_set_entropy(struct vmm *vmm, const struct entropy_config *config,
		    struct error *err) must_check;
int vmm_set_balloon(struct vmm *vmm, const struct balloon_config *config,
		    struct error *err) must_check;
int vmm_set_hotplug(struct vmm *vmm, const struct hotplug_config *config,
		    struct error *err) must_check;

/* Entries of the table of actions. */
int act_set_entropy(struct vmm *vmm, struct vmm_action *action,
		    struct error *err) must_check;
int act_set_balloon(struct vmm *vmm, struct vmm_action *action,
		    struct error *err) must_check;
int act_resize_balloon(struct vmm *vmm, struct vmm_action *action,
		       struct error *err) must_check;
int act_set_balloon_interval(struct vmm *vmm, struct vmm_action *action,
			     struct error *err) must_check;
int act_get_balloon_stats(struct vmm *vmm, struct vmm_action *action,
			  struct error *err) must_check;
int act_start_hinting(struct vmm *vmm, struct vmm_action *action,
		      struct error *err) must_check;
int act_stop_hinting(struct vmm *vmm, struct vmm_action *action,
		     struct error *err) must_check;
int act_get_hinting(struct vmm *vmm, struct vmm_action *action,
		    struct error *err) must_check;
int act_set_hotplug(struct vmm *vmm, struct vmm_action *action,
		    struct error *err) must_check;
int act_resize_hotplug(struct vmm *vmm, struct vmm_action *action,
		       struct error *err) must_check;
int act_get_hotplug(struct vmm *vmm, struct vmm_action *action,
		    struct error *err) must_check;

/* ------------------------------------------------------- from vmm_save.c */

/* Of a paused microVM, which stays paused. */
int vmm_create_snapshot(struct vmm *vmm,
			const struct snapshot_create_config *config,
			struct error *err) must_check;

/* ------------------------------------------------------- from vmm_load.c */

/* Into a vmm that nothing was configured in. @metadata: borrowed, NULL: none.
 * After a failure the vmm is of no use any more. */
int vmm_load_snapshot(struct vmm *vmm,
		      const struct snapshot_load_config *config,
		      json_t *metadata, struct error *err) must_check;

/* ----------------------------------------------------- from vmm_memory.c */

/* Of a microVM that was started. */
void vmm_lend_memory(const struct vmm *vmm, struct vmm_lent *ret_lent);

/* The recording of the working set ends with the first connection that the
 * guest accepts; there is a socket device. */
void vmm_record_until_accept(struct vmm *vmm);

#endif
