/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Theory of operation.
 *
 * A snapshot is two files. The memory file is guest RAM, byte for byte; it is
 * what clones map. The state file is everything else: what was configured, the
 * vCPUs, KVM's own devices, ours. Both are opened first, since that is where
 * most of what can go wrong does. The state is made in our memory and written
 * under another name, then memory is written, and when all is there the state
 * file gets its place: from then on the new snapshot is found, and the old one
 * until then (pair.h).
 *
 * A load is the other way round: the state file is read and checked, the
 * devices are made from their configuration as requests of the API would, with
 * other resources of the host where the request says so, memory is mapped, the
 * machine is put together (machine_restore), and last the guest is told that it
 * is somebody else now.
 */
#include "snapshot/config_state.h"
#include "snapshot/describe.h"
#include "snapshot/memory_file.h"
#include "snapshot/phases.h"
#include "vmm/vmm_private.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define STATE_WHAT "snapshot backing file"

/* ------------------------------------------------------------------- create */

static void save_meta(struct vmm *vmm, struct state_writer *writer)
{
	static char version[] = VMM_VERSION;
	const struct snapshot_meta meta = {
		.version = version,
		.id = vmm->id,
		.time = (uint64_t)time(NULL),
		.parent = vmm->parent,
	};

	snapshot_meta_save(writer, &meta);
}

static void save_config(struct vmm *vmm, struct state_writer *writer)
{
	config_state_save_machine(writer, &vmm->machine_config);
	config_state_save_boot(writer, &vmm->boot.config);
	for (size_t i = 0; i < drives_count(vmm->drives); i++)
		config_state_save_drive(writer, (uint16_t)i,
					drives_config(vmm->drives, i));
	for (size_t i = 0; i < nets_count(vmm->nets); i++)
		config_state_save_net(writer, (uint16_t)i,
				      nets_config(vmm->nets, i));
	if (vmm->vsock)
		config_state_save_vsock(writer, &vmm->vsock_config);
	if (mmds_config(vmm->mmds))
		config_state_save_mmds(writer, mmds_config(vmm->mmds));
}

/* A snapshot on its way to its files. */
struct creation {
	struct vmm *vmm;
	const struct snapshot_create_config *config;
	struct state_writer writer;
	struct new_file state_file;
	struct memory_file *memory; /* NULL: memory is in a memfd */
	struct phases phases;
};

static int save_pair(struct creation *creation, struct error *err)
{
	struct snapshot_pair pair = {.name = ""};
	int ret = 0;

	if (creation->memory)
		ret = memory_file_pair(creation->memory, &pair, err);
	if (!ret)
		pair_save(&creation->writer, &pair);
	return ret;
}

static int save_state(struct creation *creation, struct error *err)
{
	struct vmm *vmm = creation->vmm;
	struct state_writer *writer = &creation->writer;
	int ret;

	save_meta(vmm, writer);
	save_config(vmm, writer);
	ret = save_pair(creation, err);
	if (!ret)
		ret = machine_save(vmm->machine, writer, err);
	if (!ret && state_writer_finish(writer))
		ret = error_set(err, EFBIG, "It does not fit into %lu bytes.",
				(unsigned long)STATE_SIZE_MAX);
	if (ret)
		error_prefix(err, "Cannot save the microVM state: ");
	PHASE_END(&creation->phases, create_state);
	return ret;
}

static int write_state_file(struct creation *creation, struct error *err)
{
	struct new_file *file = &creation->state_file;
	int ret = new_file_write(file, creation->writer.bytes,
				 creation->writer.len, err);

	if (!ret && creation->config->sync)
		ret = new_file_sync(file, err);
	PHASE_END(&creation->phases, create_state_file);
	return ret;
}

static int open_memory(struct creation *creation, struct error *err)
{
	const struct snapshot_create_config *config = creation->config;
	struct vmm *vmm = creation->vmm;
	struct memory_file_request request = {
		.path = config->mem_file_path,
		.kind = config->type == SNAPSHOT_DIFF ? MEMORY_DIFF
						      : MEMORY_FULL,
		.sync = config->sync,
		.known = {vmm->loaded, vmm->next},
	};

	if (!config->mem_file_path) {
		if (gmem_backing(machine_memory(vmm->machine)) == GMEM_MEMFD)
			return 0;
		return error_set(
			err, EINVAL,
			"missing field `mem_file_path`: only memory in "
			"a memfd outlives the snapshot");
	}
	if (pair_id_none(&vmm->next))
		pair_draw_id(&vmm->next);
	request.id = vmm->next;
	return machine_open_memory_file(vmm->machine, &request,
					&creation->memory, err);
}

/* One file cannot be both. */
static int check_places(const struct creation *creation, struct error *err)
{
	const char *path = creation->config->mem_file_path;
	AUTO_FREE char *place = path ? new_file_place(path) : NULL;

	if (!place || strcmp(place, creation->state_file.path) != 0)
		return 0;
	return error_set(err, EINVAL,
			 "`snapshot_path` and `mem_file_path` are the same "
			 "file, %s",
			 path);
}

static int open_files(struct creation *creation, struct error *err)
{
	int ret =
		new_file_open(&creation->state_file,
			      creation->config->snapshot_path, STATE_WHAT, err);

	if (!ret)
		ret = check_places(creation, err);
	if (ret)
		return ret;
	ret = open_memory(creation, err);
	if (ret)
		error_prefix(err, "Cannot write the guest memory: ");
	PHASE_END(&creation->phases, create_files);
	return ret;
}

static int fill_memory(struct creation *creation, struct error *err)
{
	int ret = 0;

	if (creation->memory)
		ret = machine_fill_memory_file(creation->vmm->machine,
					       creation->memory,
					       &creation->phases, err);
	if (ret)
		error_prefix(err, "Cannot write the guest memory: ");
	return ret;
}

/* Two new names in one directory reach the disk together, and in order. */
static bool needs_sync(const struct creation *creation)
{
	return creation->config->sync &&
	       !(creation->memory &&
		 memory_file_is_beside(creation->memory,
				       creation->state_file.path));
}

/* From when the state file is in its place it is this snapshot that is found,
 * whatever its memory file is called (pair.h). */
static int commit(struct creation *creation, struct error *err)
{
	struct vmm *vmm = creation->vmm;
	int ret = new_file_commit(&creation->state_file, needs_sync(creation),
				  err);
	int memory = 0;

	if (ret && !new_file_placed(&creation->state_file))
		return ret;
	if (creation->memory)
		memory = memory_file_commit(creation->memory, ret ? NULL : err);
	if (memory) /* its mark may still be there */
		vmm->loaded = vmm->next;
	vmm->next = (struct pair_id){0};
	PHASE_END(&creation->phases, create_publish);
	return ret ? ret : memory;
}

static int create(struct creation *creation, struct error *err)
{
	int ret = open_files(creation, err);

	if (!ret)
		ret = save_state(creation, err);
	if (!ret)
		ret = write_state_file(creation, err);
	if (!ret)
		ret = fill_memory(creation, err);
	if (!ret)
		ret = commit(creation, err);
	machine_end_snapshot(creation->vmm->machine, !ret);
	return ret;
}

int vmm_create_snapshot(struct vmm *vmm,
			const struct snapshot_create_config *config,
			struct error *err)
{
	bool diff = config->type == SNAPSHOT_DIFF;
	struct latency_metrics *latencies = &vmm->metrics.latencies_us;
	uint64_t start = monotonic_ns();
	struct creation creation = {
		.vmm = vmm,
		.config = config,
		.state_file.fd = -1,
	};
	int ret;

	if (vmm->state != VMM_PAUSED)
		return error_set(err, EBUSY,
				 "Cannot save the microVM state: Operation not "
				 "allowed: save/restore unavailable while "
				 "running");
	phases_begin(&creation.phases, &vmm->metrics.snapshot_phases_us);
	state_writer_init(&creation.writer);
	ret = create(&creation, err);
	state_writer_release(&creation.writer);
	memory_file_close(creation.memory);
	new_file_release(&creation.state_file);
	if (ret)
		return ret;
	log_info("Snapshot phases in us: %s.", creation.phases.text);
	vmm_record_latency(
		diff ? &latencies->vmm_diff_create_snapshot
		     : &latencies->vmm_full_create_snapshot,
		diff ? "create diff snapshot" : "create full snapshot", start);
	return 0;
}

/* --------------------------------------------------------------------- load */

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
	return 1;
}

/* Every override must be of something; that is so before any is opened. */
static int check_overrides(const struct load *load, struct error *err)
{
	const struct snapshot_overrides *nets = &load->config->nets;
	const struct snapshot_overrides *drives = &load->config->drives;

	for (size_t i = 0; i < nets->count; i++)
		if (!config_state_has_net(&load->file, nets->list[i].id))
			return error_set(err, ENODEV,
					 "Unknown Network Device.");
	for (size_t i = 0; i < drives->count; i++)
		if (!config_state_has_drive(&load->file, drives->list[i].id))
			return error_set(err, ENODEV, "Unknown Drive: %s",
					 drives->list[i].id);
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
			     &config.path_on_host) < 0)
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
			     &config.host_dev_name) < 0)
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
		ret = load_vsock(load, err);
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
	const struct machine_request request = {
		.config = &vmm->machine_config,
		.boot_timer = vmm->options.boot_timer,
		.kernel_fd = -1,
		.initrd_fd = -1,
		.devices = devices,
		.device_count = vmm_list_devices(vmm, devices),
		.loop = vmm->loop,
		.metrics = &vmm->metrics,
		.events = vmm_machine_events(vmm),
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
	int ret = 0;

	if (!vmm->machine)
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
