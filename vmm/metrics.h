/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Counters, and the JSON line they are written as (one object per flush).
 *
 * A module owns a struct of counters and adds to it from any thread. Most
 * values are written as the difference since the last successful flush;
 * "stored" ones (latencies, start-up times) as they are. The names, their order
 * and where each value lives are one const table in metrics.c.
 */
#ifndef EMBER_METRICS_H
#define EMBER_METRICS_H

#include "vmm/config.h"

#include <stdatomic.h>

/* A counter written as the difference since the last flush. */
struct metric {
	_Atomic uint64_t value;
	uint64_t seen, flushed; /* loop thread only; see metrics.c */
};

/* A value written as it is. */
struct metric_store {
	_Atomic uint64_t value;
};

/* Latencies in microseconds; the sum is written as a difference. */
struct metric_agg {
	_Atomic uint64_t min_us, max_us; /* since the start */
	struct metric sum_us;
};

struct api_server_metrics {
	struct metric_store process_startup_time_us;
	struct metric_store process_startup_time_cpu_us;
};

struct block_metrics {
	struct metric activate_fails, cfg_fails, no_avail_buffer, event_fails,
		execute_fails, invalid_reqs_count, flush_count,
		queue_event_count, rate_limiter_event_count, update_count,
		update_fails, read_bytes, write_bytes, read_count, write_count,
		rate_limiter_throttled_events, io_engine_throttled_events,
		remaining_reqs_count;
	struct metric_agg read_agg, write_agg;
};

struct vhost_user_block_metrics {
	struct metric activate_fails, cfg_fails;
	struct metric_store init_time_us, activate_time_us,
		config_change_time_us;
};

struct net_metrics {
	struct metric activate_fails, cfg_fails, no_rx_avail_buffer,
		no_tx_avail_buffer, event_fails, rx_queue_event_count,
		rx_event_rate_limiter_count, rx_rate_limiter_throttled,
		rx_tap_event_count, rx_bytes_count, rx_packets_count, rx_fails,
		rx_count, tap_read_fails, tap_write_fails, tx_bytes_count,
		tx_malformed_frames, tx_fails, tx_count, tx_packets_count,
		tx_queue_event_count, tx_rate_limiter_event_count,
		tx_rate_limiter_throttled, tx_spoofed_mac_count,
		tx_remaining_reqs_count;
	struct metric_agg tap_write_agg;
};

struct pmem_metrics {
	struct metric activate_fails, cfg_fails, event_fails, queue_event_count,
		rate_limiter_throttled_events, rate_limiter_event_count;
};

struct vsock_metrics {
	struct metric activate_fails, cfg_fails, rx_queue_event_fails,
		tx_queue_event_fails, ev_queue_event_fails, muxer_event_fails,
		conn_event_fails, rx_queue_event_count, tx_queue_event_count,
		rx_bytes_count, tx_bytes_count, rx_packets_count,
		tx_packets_count, conns_added, conns_killed, conns_removed,
		killq_resync, tx_flush_fails, tx_write_fails, rx_read_fails;
};

struct entropy_metrics {
	struct metric activate_fails, entropy_event_fails, entropy_event_count,
		entropy_bytes, host_rng_fails, entropy_rate_limiter_throttled,
		rate_limiter_event_count;
};

struct balloon_metrics {
	struct metric activate_fails, inflate_count, stats_updates_count,
		stats_update_fails, deflate_count, event_fails,
		free_page_report_count, free_page_report_freed,
		free_page_report_fails, free_page_hint_count,
		free_page_hint_freed, free_page_hint_fails;
};

struct mmds_metrics {
	struct metric rx_accepted, rx_accepted_err, rx_accepted_unusual,
		rx_bad_eth, rx_invalid_token, rx_no_token, rx_count, tx_bytes,
		tx_count, tx_errors, tx_frames, connections_created,
		connections_destroyed;
};

struct get_api_metrics {
	struct metric instance_info_count, machine_cfg_count, mmds_count,
		vmm_version_count, hotplug_memory_count;
};

struct request_metric {
	struct metric count, fails;
};

struct put_api_metrics {
	struct request_metric actions, boot_source, drive, logger, machine_cfg,
		cpu_cfg, metrics, network, mmds, vsock, pmem, serial,
		hotplug_memory;
};

struct patch_api_metrics {
	struct request_metric drive, network, machine_cfg, mmds, hotplug_memory,
		pmem;
};

struct i8042_metrics {
	struct metric error_count, missed_read_count, missed_write_count,
		read_count, reset_count, write_count;
};

struct uart_metrics {
	struct metric error_count, flush_count, missed_read_count,
		missed_write_count, read_count, write_count,
		rate_limiter_dropped_bytes;
};

struct latency_metrics {
	struct metric_store full_create_snapshot, diff_create_snapshot,
		load_snapshot, pause_vm, resume_vm, vmm_full_create_snapshot,
		vmm_diff_create_snapshot, vmm_load_snapshot, vmm_pause_vm,
		vmm_resume_vm;
};

/* Those of the last snapshot that was taken, and of the one that was loaded, in
 * the order in which they happen. */
struct snapshot_phase_metrics {
	struct metric_store create_files, create_state, create_state_file,
		create_dirty_log, create_scan, create_write, create_sync,
		create_publish;
	struct metric_store load_state_file, load_config, load_vm, load_memory,
		load_working_set, load_vcpus, load_devices, load_identity,
		load_start;
};

struct logger_metrics {
	struct metric missed_metrics_count, metrics_fails, missed_log_count,
		rate_limited_log_count;
};

struct signal_metrics {
	struct metric_store sigbus, sigsegv, sigxfsz, sigxcpu, sigpipe, sighup,
		sigill;
};

struct vcpu_metrics {
	struct metric exit_io_in, exit_io_out, exit_mmio_read, exit_mmio_write,
		failures, kvmclock_ctrl_fails;
	struct metric_agg exit_io_in_agg, exit_io_out_agg, exit_mmio_read_agg,
		exit_mmio_write_agg;
};

struct hotplug_metrics {
	struct metric activate_fails, queue_event_fails, queue_event_count,
		plug_count, plug_bytes, plug_fails, unplug_count, unplug_bytes,
		unplug_fails, unplug_discard_fails, state_count, state_fails,
		unplug_all_count, unplug_all_fails;
	struct metric_agg plug_agg, unplug_agg, state_agg, unplug_all_agg;
};

struct interrupt_metrics {
	struct metric triggers, config_updates;
};

/* Devices of which there may be several. */
enum metrics_device_kind {
	METRICS_BLOCK,
	METRICS_NET,
	METRICS_PMEM,
	METRICS_VHOST_USER_BLOCK, /* there is no sum of these */
	METRICS_DEVICE_KINDS,
};

#define METRICS_DEVICES_MAX                                                    \
	(CONFIG_DRIVES_MAX + CONFIG_NETS_MAX + CONFIG_PMEMS_MAX)

/* One device's own section, `block_<id>`; also summed into `block`. */
struct metrics_device {
	char key[80];
	enum metrics_device_kind kind;
	void *counters; /* struct block_metrics, net_metrics ... */
};

struct metrics {
	struct api_server_metrics api_server;
	struct metric deprecated_http_api_calls;
	struct get_api_metrics get_api;
	struct put_api_metrics put_api;
	struct patch_api_metrics patch_api;
	struct i8042_metrics i8042;
	struct uart_metrics uart;
	struct latency_metrics latencies_us;
	struct snapshot_phase_metrics snapshot_phases_us;
	struct logger_metrics logger;
	struct metric_store seccomp_num_faults;
	struct signal_metrics signals;
	struct vcpu_metrics vcpu;
	struct metric_store vmm_panic_count;
	struct interrupt_metrics interrupts;
	struct vsock_metrics vsock;
	struct entropy_metrics entropy;
	struct balloon_metrics balloon;
	struct mmds_metrics mmds;
	struct hotplug_metrics hotplug;

	struct metrics_device devices[METRICS_DEVICES_MAX];
	size_t device_count;

	/* private to metrics.c */
	int fd; /* -1 until configured */
	bool configured, emit_id, emit_snapshot_phases;
	char id[65];
	char *properties_json;
	char *lines; /* two: one for metrics_flush_last alone */
};

static inline void metric_add(struct metric *metric, uint64_t n)
{
	atomic_fetch_add_explicit(&metric->value, n, memory_order_relaxed);
}

static inline void metric_inc(struct metric *metric)
{
	metric_add(metric, 1);
}

static inline void metric_set(struct metric_store *store, uint64_t value)
{
	atomic_store_explicit(&store->value, value, memory_order_relaxed);
}

void metric_agg_record(struct metric_agg *agg, uint64_t us);

void metrics_init(struct metrics *metrics, const char *id);
void metrics_release(struct metrics *metrics);

/* Opens the target (once: a second call is refused) and takes the properties,
 * of which there may be 4096 bytes. Loop thread. */
int metrics_configure(struct metrics *metrics, struct metrics_config *config,
		      struct error *err) must_check;

/* Writes one line. 0 also when no target is set, or when it is a FIFO without
 * room (counted as missed); -errno otherwise. Counters keep the differences
 * that were not written. Loop thread. */
int metrics_flush(struct metrics *metrics) must_check;

/* The same when a signal ends the process, from whatever it interrupts, also
 * metrics_flush. Any thread. */
int metrics_flush_last(struct metrics *metrics) must_check;

/* Adds `<kind>_<id>`; replaces one of the same id. -ENOSPC when full. */
int metrics_add_device(struct metrics *metrics, enum metrics_device_kind kind,
		       const char *id, void *counters) must_check;
void metrics_remove_device(struct metrics *metrics, const void *counters);

#endif
