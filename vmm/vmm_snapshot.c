/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Theory of operation.
 *
 * A snapshot is two files. The memory file is guest RAM, byte for byte; it is
 * what clones map. The state file is everything else: what was configured, the
 * vCPUs, KVM's own devices, ours. It is made in our memory first, since that
 * takes the time of some system calls, then memory is written, and last the
 * state file appears under its name: whoever finds it finds a whole snapshot.
 *
 * A load is the other way round: the state file is read and checked, the
 * devices are made from their configuration as requests of the API would, with
 * other resources of the host where the request says so, memory is mapped, the
 * machine is put together (machine_restore), and last the guest is told that it
 * is somebody else now.
 */
#include "snapshot/config_state.h"
#include "snapshot/describe.h"
#include "vmm/vmm_private.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

/* ------------------------------------------------------------------ phases */

/* How long each part took, for the log. */
struct phases {
	uint64_t last_ns;
	size_t len;
	char text[256];
};

static void phases_begin(struct phases *phases)
{
	*phases = (struct phases){.last_ns = monotonic_ns()};
}

static void phases_note(struct phases *phases, const char *name)
{
	uint64_t now = monotonic_ns();
	int n = snprintf(phases->text + phases->len,
			 sizeof(phases->text) - phases->len, "%s%s %lu",
			 phases->len ? ", " : "", name,
			 (unsigned long)((now - phases->last_ns) / 1000));

	phases->last_ns = now;
	if (n > 0 && (size_t)n < sizeof(phases->text) - phases->len)
		phases->len += (size_t)n;
}

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

static int save_state(struct vmm *vmm, struct state_writer *writer,
		      struct error *err)
{
	int ret;

	save_meta(vmm, writer);
	save_config(vmm, writer);
	ret = machine_save(vmm->machine, writer, err);
	if (ret)
		return ret;
	ret = state_writer_finish(writer);
	if (ret)
		return error_set_os(err, -ret, "Cannot keep the state:");
	return 0;
}

static int write_all(int fd, const uint8_t *bytes, size_t len)
{
	while (len) {
		ssize_t n = write(fd, bytes, len);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		bytes += n;
		len -= (size_t)n;
	}
	return 0;
}

/* The state file under another name until it is complete. */
struct pending_file {
	char path[4096];
	const char *target;
};

static int write_pending(struct pending_file *file,
			 const struct state_writer *writer, bool sync,
			 struct error *err)
{
	AUTO_CLOSE int fd = -1;
	int len = snprintf(file->path, sizeof(file->path), "%s.%d.tmp",
			   file->target, (int)getpid());
	int ret;

	if (len < 0 || (size_t)len >= sizeof(file->path))
		return error_set_os(err, ENAMETOOLONG,
				    "Cannot perform open on the snapshot "
				    "backing file:");
	fd = open(file->path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	if (fd < 0)
		return error_set_os(err, errno,
				    "Cannot perform open on the snapshot "
				    "backing file:");
	ret = write_all(fd, writer->bytes, writer->len);
	if (!ret && sync && fsync(fd))
		ret = -errno;
	if (!ret)
		return 0;
	unlink(file->path);
	return error_set_os(err, -ret,
			    "Cannot perform write on the snapshot backing "
			    "file:");
}

static int publish(const struct pending_file *file, struct error *err)
{
	int code;

	if (rename(file->path, file->target) == 0)
		return 0;
	code = errno;
	unlink(file->path);
	return error_set_os(err, code,
			    "Cannot perform rename on the snapshot backing "
			    "file:");
}

static int write_memory(struct vmm *vmm,
			const struct snapshot_create_config *config,
			struct error *err)
{
	int ret;

	if (!config->mem_file_path) {
		if (vmm->options.memory_backing == GMEM_MEMFD)
			return 0;
		return error_set(
			err, EINVAL,
			"missing field `mem_file_path`: only memory in "
			"a memfd outlives the snapshot");
	}
	ret = machine_write_memory(vmm->machine, config->mem_file_path,
				   config->type == SNAPSHOT_DIFF, config->sync,
				   err);
	if (ret)
		error_prefix(err, "Cannot write the guest memory: ");
	return ret;
}

static int create(struct vmm *vmm, const struct snapshot_create_config *config,
		  struct state_writer *writer, struct phases *phases,
		  struct error *err)
{
	struct pending_file file = {.target = config->snapshot_path};
	int ret = save_state(vmm, writer, err);

	if (ret) {
		error_prefix(err, "Cannot save the microVM state: ");
		return ret;
	}
	phases_note(phases, "state");
	ret = write_pending(&file, writer, config->sync, err);
	if (ret)
		return ret;
	phases_note(phases, "state file");
	ret = write_memory(vmm, config, err);
	if (ret) {
		unlink(file.path);
		return ret;
	}
	phases_note(phases, "memory file");
	return publish(&file, err);
}

int vmm_create_snapshot(struct vmm *vmm,
			const struct snapshot_create_config *config,
			struct error *err)
{
	bool diff = config->type == SNAPSHOT_DIFF;
	struct latency_metrics *latencies = &vmm->metrics.latencies_us;
	uint64_t start = monotonic_ns();
	struct state_writer writer;
	struct phases phases;
	int ret;

	if (vmm->state != VMM_PAUSED)
		return error_set(err, EBUSY,
				 "Cannot save the microVM state: Operation not "
				 "allowed: save/restore unavailable while "
				 "running");
	phases_begin(&phases);
	state_writer_init(&writer);
	ret = create(vmm, config, &writer, &phases, err);
	state_writer_release(&writer);
	if (ret)
		return ret;
	log_info("Snapshot phases in us: %s.", phases.text);
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
	if (!ret && metadata)
		ret = mmds_put(mmds, metadata, err);
	mmds_config_release(&config);
	return ret;
}

/* Every override must be of something. */
static int check_overrides(const struct load *load, struct error *err)
{
	const struct vmm *vmm = load->vmm;

	for (size_t i = 0; i < load->config->nets.count; i++)
		if (!nets_find(vmm->nets, load->config->nets.list[i].id))
			return error_set(err, ENODEV,
					 "Unknown Network Device.");
	for (size_t i = 0; i < load->config->drives.count; i++)
		if (!drives_has(vmm->drives, load->config->drives.list[i].id))
			return error_set(err, ENODEV, "Unknown Drive: %s",
					 load->config->drives.list[i].id);
	return 0;
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
		ret = load_drives(load, err);
	if (!ret)
		ret = load_nets(load, err);
	if (!ret)
		ret = check_overrides(load, err);
	if (!ret)
		ret = load_vsock(load, err);
	if (!ret)
		ret = check_recording(load, err);
	if (!ret)
		ret = load_mmds(load, metadata, err);
	return ret;
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
	};
	int ret = 0;

	if (!vmm->machine)
		ret = machine_create(&vmm->machine, err);
	phases_note(&load->phases, "vm");
	if (!ret)
		ret = mmds_start(vmm->mmds, vmm->loop, vmm->nets, err);
	if (!ret)
		ret = machine_restore(vmm->machine, &request, &snapshot, err);
	if (!ret && records_until_accept(load))
		vmm_record_until_accept(vmm);
	phases_note(&load->phases, "machine");
	return ret;
}

/* The snapshot that was loaded is the parent of those taken from now on. */
static int note_parent(struct load *load, struct error *err)
{
	load->vmm->parent = strdup(load->config->snapshot_path);
	return load->vmm->parent ? 0 : error_set_os(err, ENOMEM, "No memory:");
}

static int load_all(struct load *load, json_t *metadata, struct error *err)
{
	bool run = load->config->resume_vm;
	int ret = read_state(load, err);

	phases_note(&load->phases, "state file");
	if (!ret)
		ret = load_config(load, metadata, err);
	phases_note(&load->phases, "devices");
	if (!ret)
		ret = restore_machine(load, err);
	if (!ret)
		ret = note_parent(load, err);
	if (!ret)
		ret = machine_run(load->vmm->machine, run, err);
	phases_note(&load->phases, "vCPUs");
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

	phases_begin(&load.phases);
	ret = load_all(&load, metadata, err);
	state_file_release(&load.file);
	if (ret) {
		error_prefix(err, "Failed to restore from snapshot: ");
		return ret;
	}
	log_info("Snapshot phases in us: %s.", load.phases.text);
	vmm_record_latency(&vmm->metrics.latencies_us.vmm_load_snapshot,
			   "load snapshot", start);
	return 0;
}
