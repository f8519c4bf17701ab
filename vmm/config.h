/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a client configures, as plain data: no JSON, no file descriptors, no
 * behaviour beyond defaults, validation and release. Strings are owned by the
 * struct that holds them; NULL means absent.
 */
#ifndef EMBER_CONFIG_H
#define EMBER_CONFIG_H

#include "vmm/error.h"
#include "vmm/log.h"

#include <stdbool.h>

#define CONFIG_VCPUS_MAX 32
#define CONFIG_DRIVES_MAX 32
#define CONFIG_NETS_MAX 32
#define CONFIG_PMEMS_MAX 32

enum huge_pages {
	HUGE_PAGES_NONE,
	HUGE_PAGES_TRANSPARENT,
	HUGE_PAGES_2M,
};

enum cpu_template {
	CPU_TEMPLATE_NONE,
	CPU_TEMPLATE_C3,
	CPU_TEMPLATE_T2,
	CPU_TEMPLATE_T2S,
	CPU_TEMPLATE_T2CL,
	CPU_TEMPLATE_T2A,
};

struct machine_config {
	uint64_t vcpu_count;
	uint64_t mem_size_mib;
	bool smt;
	bool track_dirty_pages;
	enum huge_pages huge_pages;
	enum cpu_template cpu_template;
};

/* A PUT (all flags of optional fields resolved to defaults, except that an
 * absent cpu_template keeps the old one) or a PATCH: only fields whose flag is
 * set are applied. */
struct machine_update {
	struct machine_config values;
	bool has_vcpu_count, has_mem_size_mib, has_smt, has_track_dirty_pages,
		has_huge_pages, has_cpu_template;
};

struct boot_source_config {
	char *kernel_image_path;
	char *initrd_path;
	char *boot_args; /* NULL: the default command line */
};

enum cache_type {
	CACHE_UNSAFE,
	CACHE_WRITEBACK,
};

enum io_engine {
	IO_ENGINE_SYNC,
	IO_ENGINE_ASYNC,
};

/* size tokens, refilled within refill_time_ms; 0 in either: no bucket. */
struct token_bucket_config {
	uint64_t size;
	uint64_t one_time_burst;
	uint64_t refill_time_ms;
};

struct rate_limiter_config {
	struct token_bucket_config bandwidth; /* bytes */
	struct token_bucket_config ops;
};

/* What a request says about a limiter: buckets it does not name stay. */
struct rate_limiter_update {
	struct rate_limiter_config values;
	bool has_bandwidth, has_ops;
};

struct drive_config {
	char *drive_id;
	char *path_on_host;
	char *partuuid;
	char *socket; /* vhost-user */
	bool is_root_device;
	bool is_read_only;
	enum cache_type cache_type;
	enum io_engine io_engine;
	bool has_discard, discard; /* not said: true */
	struct rate_limiter_update rate_limiter;
	/* They were given: with a socket they must not be. */
	bool has_is_read_only, has_io_engine, has_rate_limiter;
};

struct drive_update {
	char *drive_id;
	char *path_on_host; /* NULL: unchanged */
	bool has_rate_limiter;
	struct rate_limiter_update rate_limiter;
};

struct pmem_config {
	char *id;
	char *path_on_host;
	bool root_device;
	bool read_only;
	struct rate_limiter_update rate_limiter;
};

struct pmem_update {
	char *id;
	bool has_rate_limiter;
	struct rate_limiter_update rate_limiter;
};

struct entropy_config {
	struct rate_limiter_update rate_limiter;
};

struct balloon_config {
	uint64_t amount_mib;
	bool deflate_on_oom;
	uint64_t stats_polling_interval_s; /* 0: no statistics */
	bool free_page_hinting;
	bool free_page_reporting;
};

#define BALLOON_STATS_MAX 16

/* What a guest says of its memory; values by tag (virtio 1.2, 5.5.6.4). */
struct balloon_stats {
	uint64_t target_pages, actual_pages; /* of 4 KiB */
	uint32_t known; /* bits: values that it ever gave */
	uint64_t values[BALLOON_STATS_MAX];
};

/* Which run of hints the host wants, and the guest is at. */
struct hinting_status {
	uint32_t host_cmd, guest_cmd;
	bool has_guest_cmd;
};

/* Memory that comes and goes while the guest runs (virtio-mem). */
struct hotplug_config {
	uint64_t total_size_mib;
	uint64_t block_size_mib;
	uint64_t slot_size_mib;
};

#define HOTPLUG_BLOCK_DEFAULT_MIB 2
#define HOTPLUG_SLOT_DEFAULT_MIB 128

/* As GET /hotplug/memory has it. */
struct hotplug_status {
	struct hotplug_config config;
	uint64_t plugged_size_mib;
	uint64_t requested_size_mib;
};

struct serial_config {
	char *out_path; /* NULL: standard output */
	struct token_bucket_config rate_limiter;
};

#define MAC_LEN 6

struct net_config {
	char *iface_id;
	char *host_dev_name; /* the tap's name */
	bool has_guest_mac;
	uint8_t guest_mac[MAC_LEN];
	uint64_t mtu; /* 0: not announced */
	bool has_tap_fd;
	uint64_t tap_fd; /* a tap this process inherited, instead of a name */
	bool vhost;
	struct rate_limiter_update rx_rate_limiter, tx_rate_limiter;
};

struct net_update {
	char *iface_id;
	bool has_rx_rate_limiter, has_tx_rate_limiter;
	struct rate_limiter_update rx_rate_limiter, tx_rate_limiter;
};

#define VSOCK_CONNECTIONS_DEFAULT 16384
#define VSOCK_CONNECTIONS_MAX 1048576

struct vsock_config {
	uint64_t guest_cid;
	char *uds_path;
	char *vsock_id;		  /* of no use any more */
	uint64_t max_connections; /* 0: VSOCK_CONNECTIONS_DEFAULT */
};

enum mmds_version {
	MMDS_V1,
	MMDS_V2,
};

/* Where guests find the metadata service, and through which interfaces. */
struct mmds_config {
	enum mmds_version version;
	bool imds_compat;
	bool has_ipv4_address;
	uint32_t ipv4_address; /* host byte order */
	char **interfaces;     /* count strings */
	size_t interface_count;
};

enum snapshot_type {
	SNAPSHOT_FULL,
	SNAPSHOT_DIFF,
};

struct snapshot_create_config {
	char *snapshot_path;
	char *mem_file_path; /* NULL: memory stays where it is, in a memfd */
	enum snapshot_type type;
	bool sync;
};

enum memory_backend {
	MEMORY_BACKEND_FILE,
	MEMORY_BACKEND_UFFD, /* path: socket of a page-fault handler */
};

enum snapshot_pages {
	SNAPSHOT_PAGES_SAME, /* as the snapshot says */
	SNAPSHOT_PAGES_NONE,
	SNAPSHOT_PAGES_TRANSPARENT,
	SNAPSHOT_PAGES_2M,
};

/* When the recorded working set is put in place. */
enum snapshot_prefetch {
	PREFETCH_BESIDE, /* vCPUs run meanwhile */
	PREFETCH_BEFORE, /* all of it before they do */
	PREFETCH_COPY,	 /* before they do, into huge pages of its own */
};

/* When the recording of a working set ends. */
enum snapshot_record {
	RECORD_UNTIL_ACCEPT, /* a guest accepts a connection of a host */
	RECORD_UNTIL_ASKED,  /* PUT /vm/working-set */
};

/* Another resource of the host for device @id. */
struct snapshot_override {
	char *id;
	char *target;
};

struct snapshot_overrides {
	struct snapshot_override *list;
	size_t count;
};

struct snapshot_load_config {
	char *snapshot_path;
	bool has_backend;
	enum memory_backend backend;
	char *backend_path;
	char *mem_file_path; /* the old way to say MEMORY_BACKEND_FILE */
	bool track_dirty_pages, enable_diff_snapshots;
	bool resume_vm;
	bool clock_realtime;
	enum snapshot_pages huge_pages;
	struct snapshot_overrides nets;	  /* names of taps */
	struct snapshot_overrides drives; /* paths */
	struct snapshot_overrides pmems;  /* paths */
	char *vsock_uds_path;		  /* NULL: as the snapshot says */
	char *working_set_path;		  /* NULL: none */
	bool has_prefetch;		  /* it was said */
	enum snapshot_prefetch prefetch;
	char *record_path; /* NULL: nothing is recorded */
	enum snapshot_record record_at;
};

struct metrics_config {
	char *path;
	bool emit_id;
	bool emit_snapshot_phases;
	/* `"key":"value"` pairs, already JSON text, or NULL */
	char *properties_json;
};

extern const struct machine_config machine_config_default;

/* Applies @update to @config if the result is valid; otherwise leaves it. */
int machine_config_update(struct machine_config *config,
			  const struct machine_update *update,
			  struct error *err) must_check;

/* May the guest give back what it does not need? */
bool drive_config_discards(const struct drive_config *config);

/* Are the sizes such as a memory device can have? */
int hotplug_config_check(const struct hotplug_config *config,
			 struct error *err) must_check;

/* Does it limit anything? One that does not is as good as none. */
bool token_bucket_config_limits(const struct token_bucket_config *config);
bool rate_limiter_config_limits(const struct rate_limiter_config *config);

/* A limiter as a client would describe it after @update. */
void rate_limiter_config_update(struct rate_limiter_config *config,
				const struct rate_limiter_update *update);

/* Frees the strings; the struct may be reused after zeroing. */
void boot_source_config_release(struct boot_source_config *config);
void drive_config_release(struct drive_config *config);
void drive_update_release(struct drive_update *update);
void pmem_config_release(struct pmem_config *config);
void pmem_update_release(struct pmem_update *update);
void serial_config_release(struct serial_config *config);
void net_config_release(struct net_config *config);
void net_update_release(struct net_update *update);
void vsock_config_release(struct vsock_config *config);
void mmds_config_release(struct mmds_config *config);
void log_config_release(struct log_config *config);
void metrics_config_release(struct metrics_config *config);
void snapshot_create_config_release(struct snapshot_create_config *config);
void snapshot_overrides_release(struct snapshot_overrides *overrides);
void snapshot_load_config_release(struct snapshot_load_config *config);

/* The last one for @id; NULL: there is none. */
const char *snapshot_override_for(const struct snapshot_overrides *overrides,
				  const char *id);

#endif
