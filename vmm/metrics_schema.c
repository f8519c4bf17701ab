/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The tables of metrics: a section is a name and a list of fields, a field is a
 * name, a kind and an offset. Sections of devices that do not exist here yet
 * have fields without storage: nothing was counted, so they are zero, and
 * clients that check the schema find what they look for.
 */
#include "vmm/metrics_schema.h"

/* Zero; does not compile if the zero at the end has no place. */
#define FITS(text) (0 * sizeof(char[sizeof(text) <= FIELD_NAME_SIZE ? 1 : -1]))

/* clang-format takes a `#` behind a brace for a directive. */
#define FIELD(text, kind, offset)                                              \
	{                                                                      \
		text, kind, (offset) + FITS(text)                              \
	}

/* One row per field; the struct's member has the field's name. */
#define C(type, name) FIELD(#name, COUNT, offsetof(struct type, name))
#define S(type, name) FIELD(#name, STORE, offsetof(struct type, name))
#define G(type, name) FIELD(#name, AGG, offsetof(struct type, name))
#define Z(name) FIELD(#name, ABSENT, 0)
#define ZG(name) FIELD(#name, NO_AGG, 0)

static const struct field api_server_fields[] = {
	S(api_server_metrics, process_startup_time_us),
	S(api_server_metrics, process_startup_time_cpu_us),
};

#define BALLOON(name) C(balloon_metrics, name)
static const struct field balloon_fields[] = {
	BALLOON(activate_fails),	 BALLOON(inflate_count),
	BALLOON(stats_updates_count),	 BALLOON(stats_update_fails),
	BALLOON(deflate_count),		 BALLOON(event_fails),
	BALLOON(free_page_report_count), BALLOON(free_page_report_freed),
	BALLOON(free_page_report_fails), BALLOON(free_page_hint_count),
	BALLOON(free_page_hint_freed),	 BALLOON(free_page_hint_fails),
};

#define B(name) C(block_metrics, name)
static const struct field block_fields[] = {
	B(activate_fails),
	B(cfg_fails),
	B(no_avail_buffer),
	B(event_fails),
	B(execute_fails),
	B(invalid_reqs_count),
	B(flush_count),
	B(queue_event_count),
	B(rate_limiter_event_count),
	B(update_count),
	B(update_fails),
	B(read_bytes),
	B(write_bytes),
	B(read_count),
	B(write_count),
	B(rate_limiter_throttled_events),
	B(io_engine_throttled_events),
	B(remaining_reqs_count),
	G(block_metrics, read_agg),
	G(block_metrics, write_agg),
};

static const struct field vhost_user_block_fields[] = {
	C(vhost_user_block_metrics, activate_fails),
	C(vhost_user_block_metrics, cfg_fails),
	S(vhost_user_block_metrics, init_time_us),
	S(vhost_user_block_metrics, activate_time_us),
	S(vhost_user_block_metrics, config_change_time_us),
};

static const struct field deprecated_fields[] = {
	FIELD("deprecated_http_api_calls", COUNT, 0),
};

static const struct field get_api_fields[] = {
	C(get_api_metrics, instance_info_count),
	C(get_api_metrics, machine_cfg_count),
	C(get_api_metrics, mmds_count),
	C(get_api_metrics, vmm_version_count),
	C(get_api_metrics, hotplug_memory_count),
};

#define R(type, name)                                                          \
	FIELD(#name "_count", COUNT, offsetof(struct type, name.count)),       \
		FIELD(#name "_fails", COUNT,                                   \
		      offsetof(struct type, name.fails))
static const struct field put_api_fields[] = {
	R(put_api_metrics, actions),	    R(put_api_metrics, boot_source),
	R(put_api_metrics, drive),	    R(put_api_metrics, logger),
	R(put_api_metrics, machine_cfg),    R(put_api_metrics, cpu_cfg),
	R(put_api_metrics, metrics),	    R(put_api_metrics, network),
	R(put_api_metrics, mmds),	    R(put_api_metrics, vsock),
	R(put_api_metrics, pmem),	    R(put_api_metrics, serial),
	R(put_api_metrics, hotplug_memory),
};

static const struct field patch_api_fields[] = {
	R(patch_api_metrics, drive),	      R(patch_api_metrics, network),
	R(patch_api_metrics, machine_cfg),    R(patch_api_metrics, mmds),
	R(patch_api_metrics, hotplug_memory), R(patch_api_metrics, pmem),
};

static const struct field i8042_fields[] = {
	C(i8042_metrics, error_count),
	C(i8042_metrics, missed_read_count),
	C(i8042_metrics, missed_write_count),
	C(i8042_metrics, read_count),
	C(i8042_metrics, reset_count),
	C(i8042_metrics, write_count),
};

static const struct field uart_fields[] = {
	C(uart_metrics, error_count),
	C(uart_metrics, flush_count),
	C(uart_metrics, missed_read_count),
	C(uart_metrics, missed_write_count),
	C(uart_metrics, read_count),
	C(uart_metrics, write_count),
	C(uart_metrics, rate_limiter_dropped_bytes),
};

#define L(name) S(latency_metrics, name)
static const struct field latency_fields[] = {
	L(full_create_snapshot),
	L(diff_create_snapshot),
	L(load_snapshot),
	L(pause_vm),
	L(resume_vm),
	L(vmm_full_create_snapshot),
	L(vmm_diff_create_snapshot),
	L(vmm_load_snapshot),
	L(vmm_pause_vm),
	L(vmm_resume_vm),
};

#define P(name) S(snapshot_phase_metrics, name)
static const struct field phase_fields[] = {
	P(create_files),     P(create_state),	P(create_state_file),
	P(create_dirty_log), P(create_scan),	P(create_write),
	P(create_sync),	     P(create_publish), P(load_state_file),
	P(load_config),	     P(load_vm),	P(load_memory),
	P(load_working_set), P(load_vcpus),	P(load_devices),
	P(load_identity),    P(load_start),
};

static const struct field logger_fields[] = {
	C(logger_metrics, missed_metrics_count),
	C(logger_metrics, metrics_fails),
	C(logger_metrics, missed_log_count),
	C(logger_metrics, rate_limited_log_count),
};

static const struct field mmds_fields[] = {
	C(mmds_metrics, rx_accepted),
	C(mmds_metrics, rx_accepted_err),
	C(mmds_metrics, rx_accepted_unusual),
	C(mmds_metrics, rx_bad_eth),
	C(mmds_metrics, rx_invalid_token),
	C(mmds_metrics, rx_no_token),
	C(mmds_metrics, rx_count),
	C(mmds_metrics, tx_bytes),
	C(mmds_metrics, tx_count),
	C(mmds_metrics, tx_errors),
	C(mmds_metrics, tx_frames),
	C(mmds_metrics, connections_created),
	C(mmds_metrics, connections_destroyed),
};

static const struct field net_fields[] = {
	C(net_metrics, activate_fails),
	C(net_metrics, cfg_fails),
	C(net_metrics, no_rx_avail_buffer),
	C(net_metrics, no_tx_avail_buffer),
	C(net_metrics, event_fails),
	C(net_metrics, rx_queue_event_count),
	C(net_metrics, rx_event_rate_limiter_count),
	C(net_metrics, rx_rate_limiter_throttled),
	C(net_metrics, rx_tap_event_count),
	C(net_metrics, rx_bytes_count),
	C(net_metrics, rx_packets_count),
	C(net_metrics, rx_fails),
	C(net_metrics, rx_count),
	C(net_metrics, tap_read_fails),
	C(net_metrics, tap_write_fails),
	C(net_metrics, tx_bytes_count),
	C(net_metrics, tx_malformed_frames),
	C(net_metrics, tx_fails),
	C(net_metrics, tx_count),
	C(net_metrics, tx_packets_count),
	C(net_metrics, tx_queue_event_count),
	C(net_metrics, tx_rate_limiter_event_count),
	C(net_metrics, tx_rate_limiter_throttled),
	C(net_metrics, tx_spoofed_mac_count),
	C(net_metrics, tx_remaining_reqs_count),
	G(net_metrics, tap_write_agg),
};

static const struct field seccomp_fields[] = {
	{"num_faults", STORE, 0},
};

static const struct field signal_fields[] = {
	S(signal_metrics, sigbus),  S(signal_metrics, sigsegv),
	S(signal_metrics, sigxfsz), S(signal_metrics, sigxcpu),
	S(signal_metrics, sigpipe), S(signal_metrics, sighup),
	S(signal_metrics, sigill),
};

static const struct field vcpu_fields[] = {
	C(vcpu_metrics, exit_io_in),
	C(vcpu_metrics, exit_io_out),
	C(vcpu_metrics, exit_mmio_read),
	C(vcpu_metrics, exit_mmio_write),
	C(vcpu_metrics, failures),
	C(vcpu_metrics, kvmclock_ctrl_fails),
	G(vcpu_metrics, exit_io_in_agg),
	G(vcpu_metrics, exit_io_out_agg),
	G(vcpu_metrics, exit_mmio_read_agg),
	G(vcpu_metrics, exit_mmio_write_agg),
};

static const struct field vmm_fields[] = {
	{"panic_count", STORE, 0},
};

static const struct field vsock_fields[] = {
	C(vsock_metrics, activate_fails),
	C(vsock_metrics, cfg_fails),
	C(vsock_metrics, rx_queue_event_fails),
	C(vsock_metrics, tx_queue_event_fails),
	C(vsock_metrics, ev_queue_event_fails),
	C(vsock_metrics, muxer_event_fails),
	C(vsock_metrics, conn_event_fails),
	C(vsock_metrics, rx_queue_event_count),
	C(vsock_metrics, tx_queue_event_count),
	C(vsock_metrics, rx_bytes_count),
	C(vsock_metrics, tx_bytes_count),
	C(vsock_metrics, rx_packets_count),
	C(vsock_metrics, tx_packets_count),
	C(vsock_metrics, conns_added),
	C(vsock_metrics, conns_killed),
	C(vsock_metrics, conns_removed),
	C(vsock_metrics, killq_resync),
	C(vsock_metrics, tx_flush_fails),
	C(vsock_metrics, tx_write_fails),
	C(vsock_metrics, rx_read_fails),
};

static const struct field entropy_fields[] = {
	C(entropy_metrics, activate_fails),
	C(entropy_metrics, entropy_event_fails),
	C(entropy_metrics, entropy_event_count),
	C(entropy_metrics, entropy_bytes),
	C(entropy_metrics, host_rng_fails),
	C(entropy_metrics, entropy_rate_limiter_throttled),
	C(entropy_metrics, rate_limiter_event_count),
};

static const struct field interrupt_fields[] = {
	C(interrupt_metrics, triggers),
	C(interrupt_metrics, config_updates),
};

static const struct field pmem_fields[] = {
	C(pmem_metrics, activate_fails),
	C(pmem_metrics, cfg_fails),
	C(pmem_metrics, event_fails),
	C(pmem_metrics, queue_event_count),
	C(pmem_metrics, rate_limiter_throttled_events),
	C(pmem_metrics, rate_limiter_event_count),
};

static const struct field hotplug_fields[] = {
	C(hotplug_metrics, activate_fails),
	C(hotplug_metrics, queue_event_fails),
	C(hotplug_metrics, queue_event_count),
	C(hotplug_metrics, plug_count),
	C(hotplug_metrics, plug_bytes),
	C(hotplug_metrics, plug_fails),
	G(hotplug_metrics, plug_agg),
	C(hotplug_metrics, unplug_count),
	C(hotplug_metrics, unplug_bytes),
	C(hotplug_metrics, unplug_fails),
	G(hotplug_metrics, unplug_agg),
	C(hotplug_metrics, unplug_discard_fails),
	C(hotplug_metrics, state_count),
	C(hotplug_metrics, state_fails),
	G(hotplug_metrics, state_agg),
	C(hotplug_metrics, unplug_all_count),
	C(hotplug_metrics, unplug_all_fails),
	G(hotplug_metrics, unplug_all_agg),
};

#define SECTION(name, member, fields)                                          \
	{                                                                      \
		name, offsetof(struct metrics, member), fields,                \
			ARRAY_SIZE(fields)                                     \
	}
#define ABSENT_SECTION(name, fields)                                           \
	{                                                                      \
		name, 0, fields, ARRAY_SIZE(fields)                            \
	}

const struct section metrics_phase_section =
	SECTION("snapshot_phases_us", snapshot_phases_us, phase_fields);

const struct section metrics_device_sections[] = {
	[METRICS_BLOCK] = {"block", 0, block_fields, ARRAY_SIZE(block_fields)},
	[METRICS_NET] = {"net", 0, net_fields, ARRAY_SIZE(net_fields)},
	[METRICS_PMEM] = {"pmem", 0, pmem_fields, ARRAY_SIZE(pmem_fields)},
	[METRICS_VHOST_USER_BLOCK] = {"vhost_user_block", 0,
				      vhost_user_block_fields,
				      ARRAY_SIZE(vhost_user_block_fields)},
};

const struct section metrics_sections[] = {
	SECTION("api_server", api_server, api_server_fields),
	SECTION("balloon", balloon, balloon_fields),
	SECTION("deprecated_api", deprecated_http_api_calls, deprecated_fields),
	SECTION("get_api_requests", get_api, get_api_fields),
	SECTION("put_api_requests", put_api, put_api_fields),
	SECTION("patch_api_requests", patch_api, patch_api_fields),
	SECTION("i8042", i8042, i8042_fields),
	SECTION("uart", uart, uart_fields),
	SECTION("latencies_us", latencies_us, latency_fields),
	SECTION("logger", logger, logger_fields),
	SECTION("mmds", mmds, mmds_fields),
	SECTION("seccomp", seccomp_num_faults, seccomp_fields),
	SECTION("signals", signals, signal_fields),
	SECTION("vcpu", vcpu, vcpu_fields),
	SECTION("vmm", vmm_panic_count, vmm_fields),
	SECTION("vsock", vsock, vsock_fields),
	SECTION("entropy", entropy, entropy_fields),
	SECTION("interrupts", interrupts, interrupt_fields),
	SECTION("memory_hotplug", hotplug, hotplug_fields),
};

const size_t metrics_section_count = ARRAY_SIZE(metrics_sections);
