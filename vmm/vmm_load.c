/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Theory of operation.
 *
 * A load is a save the other way round: the state file is read and checked, the
 * devices are made from their configuration as requests of the API would, with
 * other resources of the host where the request says so, memory is mapped, the
 * machine is put together (machine_restore), and last the guest is told that it
 * is somebody else now.
 */
#include "snapshot/config_state.h"
#include "snapshot/pair.h"
#include "snapshot/phases.h"
#include "vmm/vmm_private.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <string.h>
#include <unistd.h>

/* A snapshot on its way to a microVM. */
struct load {
	struct vmm *vmm;
	const struct snapshot_load_config *config;
	struct state_file file;
	uint64_t identity; /* of the state file */
	struct phases phases;
};

static int read_state(struct load *load, struct error *err)
{
	AUTO_CLOSE int fd = open(load->config->snapshot_path,
				 O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	int ret;

	if (fd < 0)
		return error_set_os(err, errno,
				    "Failed to get snapshot state from file: "
				    "Failed to open snapshot file:");
	load->identity = pair_identity(fd, "");
	ret = state_file_read(&load->file, fd, err);
	if (ret)
		error_prefix(err,
			     "Failed to get snapshot state from file: Failed "
			     "to load snapshot state from file: ");
	return ret;
}

static enum huge_pages pages_wanted(const struct load *load,
				    enum huge_pages saved)
{
	switch (load->config->huge_pages) {
	case SNAPSHOT_PAGES_NONE:
		return HUGE_PAGES_NONE;
	case SNAPSHOT_PAGES_TRANSPARENT:
		return HUGE_PAGES_TRANSPARENT;
	case SNAPSHOT_PAGES_2M:
		return HUGE_PAGES_2M;
	case SNAPSHOT_PAGES_SAME:
	default:
		return saved;
	}
}

/* The machine's configuration passes the validator of the API. */
static int load_machine_config(struct load *load, struct error *err)
{
	struct machine_update update = {
		.has_vcpu_count = true,
		.has_mem_size_mib = true,
		.has_smt = true,
		.has_track_dirty_pages = true,
		.has_huge_pages = true,
	};
	int ret = config_state_load_machine(&load->file, &update.values, err);

	if (ret)
		return ret;
	update.values.track_dirty_pages = load->config->track_dirty_pages;
	update.values.huge_pages = pages_wanted(load, update.values.huge_pages);
	return machine_config_update(&load->vmm->machine_config, &update, err);
}

/* Replaces what the request has something else for. */
static int override(const struct snapshot_overrides *overrides, const char *id,
		    char **target)
{
	const char *other = snapshot_override_for(overrides, id);
	char *copy;

	if (!other)
		return 0;
	copy = strdup(other);
	if (!copy)
		return -ENOMEM;
	free(*target);
	*target = copy;
	return 0;
}

/* Every override must be of something; that is so before any is opened. */
static int check_overrides(const struct load *load, struct error *err)
{
	const struct snapshot_overrides *nets = &load->config->nets;
	const struct snapshot_overrides *drives = &load->config->drives;
	const struct snapshot_overrides *pmems = &load->config->pmems;

	for (size_t i = 0; i < nets->count; i++)
		if (!config_state_has_net(&load->file, nets->list[i].id))
			return error_set(err, ENODEV,
					 "Unknown Network Device.");
	for (size_t i = 0; i < drives->count; i++)
		if (!config_state_has_drive(&load->file, drives->list[i].id))
			return error_set(err, ENODEV, "Unknown Drive: %s",
					 drives->list[i].id);
	for (size_t i = 0; i < pmems->count; i++)
		if (!config_state_has_pmem(&load->file, pmems->list[i].id))
			return error_set(err, ENODEV, "Unknown Pmem: %s",
					 pmems->list[i].id);
	return 0;
}

static int load_drives(struct load *load, struct error *err)
{
	bool found = true;
	int ret = 0;

	for (uint16_t i = 0; found && !ret; i++) {
		struct drive_config config = {0};

		ret = config_state_load_drive(&load->file, i, &config, &found,
					      err);
		if (!ret && found &&
		    override(&load->config->drives, config.drive_id,
			     &config.path_on_host))
			ret = error_set_os(err, ENOMEM, "No memory:");
		if (!ret && found)
			ret = drives_set(load->vmm->drives, &config, err);
		drive_config_release(&config);
	}
	return ret;
}

static int load_nets(struct load *load, struct error *err)
{
	bool found = true;
	int ret = 0;

	for (uint16_t i = 0; found && !ret; i++) {
		struct net_config config = {0};

		ret = config_state_load_net(&load->file, i, &config, &found,
					    err);
		if (!ret && found &&
		    override(&load->config->nets, config.iface_id,
			     &config.host_dev_name))
			ret = error_set_os(err, ENOMEM, "No memory:");
		if (!ret && found)
			ret = nets_set(load->vmm->nets, &config, err);
		net_config_release(&config);
	}
	return ret;
}

static int load_vsock(struct load *load, struct error *err)
{
	struct vsock_config config = {0};
	bool found = false;
	int ret = config_state_load_vsock(&load->file, &config, &found, err);

	if (!ret && load->config->vsock_uds_path) {
		free(config.uds_path);
		config.uds_path = strdup(load->config->vsock_uds_path);
		if (!found)
			ret = error_set(err, EINVAL, "Unknown Vsock Device.");
		else if (!config.uds_path)
			ret = error_set_os(err, ENOMEM, "No memory:");
	}
	if (!ret && found)
		ret = vmm_set_vsock(load->vmm, &config, err);
	vsock_config_release(&config);
	return ret;
}

static int load_pmems(struct load *load, struct error *err)
{
	bool found = true;
	int ret = 0;

	for (uint16_t i = 0; found && !ret; i++) {
		struct pmem_config config = {0};

		ret = config_state_load_pmem(&load->file, i, &config, &found,
					     err);
		if (!ret && found &&
		    override(&load->config->pmems, config.id,
			     &config.path_on_host))
			ret = error_set_os(err, ENOMEM, "No memory:");
		if (!ret && found)
			ret = pmems_set(load->vmm->pmems, &config,
					drives_have_root(load->vmm->drives),
					err);
		pmem_config_release(&config);
	}
	return ret;
}

static int load_entropy(struct load *load, struct error *err)
{
	struct entropy_config config = {0};
	bool found = false;
	int ret = config_state_load_entropy(&load->file, &config, &found, err);

	return ret || !found ? ret : vmm_set_entropy(load->vmm, &config, err);
}

static int load_balloon(struct load *load, struct error *err)
{
	struct balloon_config config = {0};
	bool found = false;
	int ret = config_state_load_balloon(&load->file, &config, &found, err);

	return ret || !found ? ret : vmm_set_balloon(load->vmm, &config, err);
}

static int load_hotplug(struct load *load, struct error *err)
{
	struct hotplug_config config = {0};
	bool found = false;
	int ret = config_state_load_hotplug(&load->file, &config, &found, err);

	return ret || !found ? ret : vmm_set_hotplug(load->vmm, &config, err);
}

static int load_mmds(struct load *load, json_t *metadata, struct error *err)
{
	struct mmds_config config = {0};
	struct mmds *mmds = load->vmm->mmds;
	bool found = false;
	int ret = config_state_load_mmds(&load->file, &config, &found, err);

	if (!ret && found)
		ret = mmds_configure(mmds, &config, load->vmm->nets, err);
	if (!ret && metadata && !mmds_config(mmds))
		ret = error_set(err, EINVAL,
				"The MMDS data store is not initialized.");
	if (!ret && metadata)
		ret = mmds_put(mmds, metadata, err);
	mmds_config_release(&config);
	return ret;
}

static bool records_until_accept(const struct load *load)
{
	return load->config->record_path &&
	       load->config->record_at == RECORD_UNTIL_ACCEPT;
}

static int check_recording(const struct load *load, struct error *err)
{
	if (records_until_accept(load) && !load->vmm->vsock)
		return error_set(
			err, ENODEV,
			"The working set cannot be recorded until the "
			"first vsock accept: there is no vsock device");
	return 0;
}

static int load_config(struct load *load, json_t *metadata, struct error *err)
{
	int ret = load_machine_config(load, err);

	if (!ret)
		ret = config_state_load_boot(&load->file,
					     &load->vmm->boot.config, err);
	if (!ret)
		ret = check_overrides(load, err);
	if (!ret)
		ret = load_drives(load, err);
	if (!ret)
		ret = load_nets(load, err);
	if (!ret)
		ret = load_pmems(load, err);
	if (!ret)
		ret = load_vsock(load, err);
	if (!ret)
		ret = load_entropy(load, err);
	if (!ret)
		ret = load_balloon(load, err);
	if (!ret)
		ret = load_hotplug(load, err);
	if (!ret)
		ret = check_recording(load, err);
	if (!ret)
		ret = load_mmds(load, metadata, err);
	return ret;
}

/* The memory is locked now, but if another snapshot took this one's place after
 * its state was read, it may be the other's. */
static int check_identity(const struct load *load, struct error *err)
{
	uint64_t now = pair_identity(AT_FDCWD, load->config->snapshot_path);

	if (!now || now == load->identity)
		return 0;
	return error_set(err, ESTALE,
			 "Another snapshot took the place of %s while it was "
			 "being loaded",
			 load->config->snapshot_path);
}

static int restore_machine(struct load *load, struct error *err)
{
	struct vmm *vmm = load->vmm;
	struct virtio_device *devices[VMM_DEVICES_MAX];
	struct machine_window windows[CONFIG_PMEMS_MAX];
	const struct machine_request request = {
		.config = &vmm->machine_config,
		.boot_timer = vmm->options.boot_timer,
		.kernel_fd = -1,
		.initrd_fd = -1,
		.devices = devices,
		.device_count = vmm_list_devices(vmm, devices),
		.windows = windows,
		.window_count = pmems_count(vmm->pmems),
		.hotplug = vmm->hotplug,
		.loop = vmm->loop,
		.metrics = &vmm->metrics,
		.events = vmm_machine_events(vmm),
		.serial_fd = vmm->serial_fd,
		.serial_limit = &vmm->serial_config.rate_limiter,
		.filters = vmm->options.filters,
	};
	const struct machine_snapshot snapshot = {
		.state = &load->file,
		.uffd = load->config->has_backend &&
			load->config->backend == MEMORY_BACKEND_UFFD,
		.memory_path = load->config->backend_path,
		.working_set_path = load->config->working_set_path,
		.prefetch = load->config->prefetch,
		.record_path = load->config->record_path,
		.clock_realtime = load->config->clock_realtime,
		.phases = &load->phases,
	};
	int ret = pmems_open(vmm->pmems, windows, err);

	if (!ret && !vmm->machine)
		ret = machine_create(&vmm->machine, err);
	if (!ret)
		ret = mmds_start(vmm->mmds, vmm->loop, vmm->nets, err);
	PHASE_END(&load->phases, load_vm);
	if (!ret)
		ret = machine_restore(vmm->machine, &request, &snapshot, err);
	if (!ret)
		ret = check_identity(load, err);
	if (!ret && records_until_accept(load))
		vmm_record_until_accept(vmm);
	return ret;
}

/* The snapshot that was loaded is the parent of those taken from now on. */
static int note_parent(struct load *load, struct error *err)
{
	struct vmm *vmm = load->vmm;
	struct snapshot_pair pair;
	int ret = pair_load(&load->file, &pair, err);

	if (ret)
		return ret;
	vmm->loaded = pair.id;
	vmm->parent = strdup(load->config->snapshot_path);
	return vmm->parent ? 0 : error_set_os(err, ENOMEM, "No memory:");
}

static int load_all(struct load *load, json_t *metadata, struct error *err)
{
	bool run = load->config->resume_vm;
	int ret = read_state(load, err);

	PHASE_END(&load->phases, load_state_file);
	if (!ret)
		ret = load_config(load, metadata, err);
	PHASE_END(&load->phases, load_config);
	if (!ret)
		ret = restore_machine(load, err);
	if (!ret)
		ret = note_parent(load, err);
	if (!ret)
		ret = cgroups_join(&load->vmm->options.cgroups, err);
	if (!ret)
		ret = machine_run(load->vmm->machine, run, err);
	PHASE_END(&load->phases, load_start);
	/* The guest first: a new thread waits on this processor if there is no
	 * other idle one, and what we have left to do can wait. */
	if (!ret && run)
		sched_yield();
	if (!ret)
		vmm_begin(load->vmm, run ? VMM_RUNNING : VMM_PAUSED);
	return ret;
}

int vmm_load_snapshot(struct vmm *vmm,
		      const struct snapshot_load_config *config,
		      json_t *metadata, struct error *err)
{
	struct load load = {.vmm = vmm, .config = config};
	uint64_t start = monotonic_ns();
	int ret;

	phases_begin(&load.phases, &vmm->metrics.snapshot_phases_us);
	ret = load_all(&load, metadata, err);
	state_file_release(&load.file);
	if (ret) {
		/* Nothing of ours shall be in the way of who tries again. */
		if (vmm->vsock)
			unlink(vmm->vsock_config.uds_path);
		error_prefix(err, "Failed to restore from snapshot: ");
		return ret;
	}
	log_info("Snapshot phases in us: %s.", load.phases.text);
	vmm_record_latency(&vmm->metrics.latencies_us.vmm_load_snapshot,
			   "load snapshot", start);
	return 0;
}
