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
 */
#include "snapshot/config_state.h"
#include "snapshot/describe.h"
#include "snapshot/memory_file.h"
#include "snapshot/phases.h"
#include "vmm/vmm_private.h"

#include <errno.h>
#include <string.h>
#include <time.h>

#define STATE_WHAT "snapshot backing file"

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
	for (size_t i = 0; i < pmems_count(vmm->pmems); i++)
		config_state_save_pmem(writer, (uint16_t)i,
				       pmems_config(vmm->pmems, i));
	if (vmm->vsock)
		config_state_save_vsock(writer, &vmm->vsock_config);
	if (vmm->entropy)
		config_state_save_entropy(writer, &vmm->entropy_config);
	if (vmm->balloon)
		config_state_save_balloon(writer, &vmm->balloon_config);
	if (vmm->hotplug)
		config_state_save_hotplug(writer, &vmm->hotplug_config);
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

/* What another process serves has its state there. */
static int check_devices(const struct vmm *vmm, struct error *err)
{
	char list[ERROR_TEXT_MAX / 2] = "";
	size_t len = 0;

	for (size_t i = 0; i < drives_count(vmm->drives); i++) {
		const char *id = drives_vhost_user(vmm->drives, i);

		if (id && len < sizeof(list))
			len += (size_t)snprintf(list + len, sizeof(list) - len,
						"%svhost-user-block(id: %s)",
						len ? ", " : "", id);
	}
	if (!len)
		return 0;
	return error_set(err, ENOTSUP,
			 "Cannot save the microVM state: Operation not "
			 "allowed: Devices without snapshot support are "
			 "present: %s",
			 list);
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
	ret = check_devices(vmm, err);
	if (ret)
		return ret;
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
