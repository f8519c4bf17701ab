/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The microVM's life: configured -> running <-> paused -> stopped.
 *
 * Everything a client can ask for is a struct vmm_action. Actions run one at a
 * time on the loop thread (vmm_act); the API thread hands them over with
 * vmm_submit and waits. Which states an action is legal in travels with it:
 * the router's table says it, vmm_act enforces it.
 */
#ifndef EMBER_VMM_H
#define EMBER_VMM_H

#include "vmm/cgroups.h"
#include "vmm/config.h"
#include "vmm/gmem.h"
#include "vmm/loop.h"
#include "vmm/metrics.h"

#include <jansson.h>

#define VMM_VERSION "0.1.0"
#define VMM_API_LEVEL "1.16.1" /* GET /version, vmm_version */

enum vmm_state {
	VMM_NOT_STARTED,
	VMM_RUNNING,
	VMM_PAUSED,
};

/* When an action is legal. */
enum vmm_when {
	VMM_PRE_BOOT = 1,
	VMM_POST_BOOT = 2,
	VMM_ALWAYS = 3,
};

struct recorder;
struct vmm;

/* What the API may look at, on the loop thread, during VMM_ACTION_VIEW. */
struct vmm_view {
	const char *id;
	enum vmm_state state;
	const struct machine_config *machine;
	const struct boot_source_config *boot;
	const struct drive_config *const *drives; /* root first */
	size_t drive_count;
	const struct net_config *const *nets;
	size_t net_count;
	const struct vsock_config *vsock; /* NULL: none */
	const struct pmem_config *const *pmems;
	size_t pmem_count;
	/* NULL: none */
	const struct entropy_config *entropy;
	const struct balloon_config *balloon;
	const struct hotplug_config *hotplug;
	const struct mmds_config *mmds; /* NULL: not configured */
};

/* What VMM_ACTION_LEND_MEMORY gives, for work that would keep the loop. The
 * borrower uses it until it answers its client, and lets go when
 * vmm_is_stopping. */
struct vmm_lent {
	struct gmem *mem;
	struct recorder *recorder; /* NULL: none */
	bool loaded;		   /* from a snapshot */
};

enum vmm_action_type {
	VMM_ACTION_VIEW,
	VMM_ACTION_SET_MACHINE,
	VMM_ACTION_SET_BOOT_SOURCE,
	VMM_ACTION_SET_DRIVE,
	VMM_ACTION_UPDATE_DRIVE,
	VMM_ACTION_SET_NET,
	VMM_ACTION_UPDATE_NET,
	VMM_ACTION_SET_VSOCK,
	VMM_ACTION_SET_PMEM,
	VMM_ACTION_UPDATE_PMEM,
	VMM_ACTION_SET_ENTROPY,
	VMM_ACTION_SET_SERIAL,
	VMM_ACTION_SET_BALLOON,
	VMM_ACTION_RESIZE_BALLOON,
	VMM_ACTION_SET_BALLOON_INTERVAL,
	VMM_ACTION_GET_BALLOON_STATS,
	VMM_ACTION_START_HINTING,
	VMM_ACTION_STOP_HINTING,
	VMM_ACTION_GET_HINTING,
	VMM_ACTION_SET_HOTPLUG,
	VMM_ACTION_RESIZE_HOTPLUG,
	VMM_ACTION_GET_HOTPLUG,
	VMM_ACTION_SET_MMDS_CONFIG,
	VMM_ACTION_PUT_METADATA,
	VMM_ACTION_PATCH_METADATA,
	VMM_ACTION_GET_METADATA,
	VMM_ACTION_SET_LOGGER,
	VMM_ACTION_SET_METRICS,
	VMM_ACTION_START,
	VMM_ACTION_PAUSE,
	VMM_ACTION_RESUME,
	VMM_ACTION_FLUSH_METRICS,
	VMM_ACTION_CTRL_ALT_DEL,
	VMM_ACTION_CREATE_SNAPSHOT,
	VMM_ACTION_LOAD_SNAPSHOT,
	VMM_ACTION_LEND_MEMORY,
};

/* Strings inside stay the caller's until the action succeeded; the vmm then
 * has taken those it needs and left NULL, so releasing after either is right.
 */
struct vmm_action {
	enum vmm_action_type type;
	enum vmm_when when;
	union {
		struct {
			void (*fn)(const struct vmm_view *view, void *arg);
			void *arg;
		} view;
		struct machine_update machine;
		struct boot_source_config boot;
		struct drive_config drive;
		struct drive_update drive_update;
		struct net_config net;
		struct net_update net_update;
		struct vsock_config vsock;
		struct pmem_config pmem;
		struct pmem_update pmem_update;
		struct entropy_config entropy;
		struct serial_config serial;
		struct balloon_config balloon;
		struct hotplug_config hotplug;
		struct hotplug_status hotplug_status; /* GET_HOTPLUG: out */
		uint64_t size_mib;   /* RESIZE_BALLOON, RESIZE_HOTPLUG */
		uint64_t interval_s; /* SET_BALLOON_INTERVAL */
		bool acknowledge;    /* START_HINTING: DONE when finished */
		struct balloon_stats balloon_stats; /* GET_BALLOON_STATS */
		struct hinting_status hinting;	    /* GET_HINTING */
		struct mmds_config mmds;
		json_t *metadata; /* borrowed; GET: a new reference or NULL */
		struct log_config logger;
		struct metrics_config metrics;
		struct snapshot_create_config snapshot_create;
		struct {
			struct snapshot_load_config *config;
			json_t *metadata; /* borrowed; NULL: none */
		} snapshot_load;
		struct vmm_lent lent;
	};
};

struct vmm_options {
	const char *id; /* copied */
	bool boot_timer;
	enum gmem_backing memory_backing;
	size_t metadata_limit;		       /* bytes of JSON text */
	const struct seccomp_filters *filters; /* borrowed; NULL: none */
	int ready_fd;		/* gets a line when the guest runs; 0: none */
	struct cgroups cgroups; /* to join before it does */
	uint64_t start_time_us; /* 0: not given (--start-time-us) */
	uint64_t start_time_cpu_us; /* 0: not given */
	uint64_t parent_cpu_time_us;
};

int vmm_create(struct vmm **ret_vmm, struct loop *loop,
	       const struct vmm_options *options, struct error *err) must_check;

/* After loop_run, before the threads that have memory lent are waited for: the
 * guest stops for good, and nothing waits for its memory any more. Accepts
 * NULL. */
void vmm_quiesce(struct vmm *vmm);

/* Stops vCPUs, flushes metrics, releases. Accepts NULL. */
void vmm_destroy(struct vmm *vmm);

/* Runs one action now. Thread: loop (or main before loop_run). Returns 0 or
 * -errno with the fault message in @err. */
int vmm_act(struct vmm *vmm, struct vmm_action *action,
	    struct error *err) must_check;

/* The same from another thread; -ESHUTDOWN when the VM is going away. */
int vmm_submit(struct vmm *vmm, struct vmm_action *action,
	       struct error *err) must_check;

/*
 * Once there is a machine, holds the calling thread, which is the loop's, to
 * its filter for good; until then a start may fail and be tried again, and
 * nothing happens. Before the loop runs and after every action. A thread
 * without its filter is the end of the process. -errno with a sentence.
 */
int vmm_confine(struct vmm *vmm, struct error *err) must_check;

/* Counters of this microVM; any thread may add to them. */
struct metrics *vmm_metrics(struct vmm *vmm);

/* The end has been asked for. Any thread. */
bool vmm_is_stopping(const struct vmm *vmm);

/* Exit code of the process once loop_run has returned. */
int vmm_exit_code(const struct vmm *vmm);

/* Ends the process in order: any thread, the first call's code counts. */
void vmm_stop(struct vmm *vmm, int exit_code, const char *reason);

#endif
