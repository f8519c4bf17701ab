/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The monitor's command line, read with vmm/arguments.h.
 */
#ifndef EMBER_OPTIONS_H
#define EMBER_OPTIONS_H

#include "vmm/arguments.h"
#include "vmm/cgroups.h"
#include "vmm/config.h"
#include "vmm/error.h"
#include "vmm/gmem.h"
#include "vmm/log.h"

#include <stdbool.h>
#include <stdio.h>

/* Strings point into argv. NULL or 0: not given. */
struct options {
	const char *api_sock;
	const char *id;
	const char *config_file;
	const char *log_path;
	const char *level;
	const char *module;
	const char *metrics_path;
	bool emit_snapshot_phases;
	const char *metadata;
	bool no_api;
	bool no_seccomp;
	const char *seccomp_filter;
	bool boot_timer;
	bool show_level;
	bool show_log_origin;
	bool version;
	bool help;
	uint64_t max_payload;
	bool has_metadata_limit;
	uint64_t metadata_limit; /* max_payload if it was not given */
	uint64_t start_time_us;
	uint64_t start_time_cpu_us;
	uint64_t parent_cpu_time_us;
	const char *describe_snapshot;
	bool snapshot_version;

	/* A microVM from a snapshot. */
	const char *restore;
	const char *mem, *uffd; /* one of them */
	const char *vsock_override;
	const char *working_set;
	const char *prefetch; /* as given; see prefetch_at */
	enum snapshot_prefetch prefetch_at;
	const char *record_working_set;
	const char *record_until_text; /* as given; see record_until */
	enum snapshot_record record_until;
	struct argument_list drive_overrides, network_overrides,
		pmem_overrides; /* ID=TARGET */
	bool paused;
	bool clock_realtime;
	bool track_dirty_pages;
	uint64_t ready_fd;		     /* open for writing */
	struct argument_list cgroup_fd_list; /* see cgroups */
	struct cgroups cgroups;

	const char *memory_backing; /* as given; see backing */
	enum gmem_backing backing;
};

/* Fills in @options with defaults and arguments. --help and --version end the
 * checks. -EINVAL with the reason in @err. */
int options_parse(struct options *options, int argc, char *const argv[],
		  struct error *err) must_check;

/* The instance id: 1 to 64 letters, digits and '-'. */
int options_check_id(const char *id, struct error *err) must_check;

void options_print_help(FILE *out);

#endif
