/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A machine into a snapshot and out of it again.
 *
 * Saving: devices first, since finishing what they have in flight may change
 * guest memory and the interrupt controllers, then vCPUs and KVM.
 *
 * Restoring is in the order that KVM wants: memory slots before the irqchip
 * (law 1), state of vCPUs before that of the irqchip, both before anything of
 * ours can raise an interrupt, and what may have been lost is raised again when
 * all is in place. Last the guest is told that it is a copy.
 */
#include "vmm/machine_private.h"

#include "snapshot/memory_file.h"
#include "snapshot/phases.h"
#include "snapshot/prefetch.h"
#include "snapshot/recorder.h"
#include "snapshot/state.h"
#include "snapshot/uffd.h"
#include "virtio/mem.h"
#include "vmm/kvm_state_x86.h"
#include "vmm/log.h"
#include "vmm/vcpu_state_x86.h"

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

/* How long a page-fault handler may take for the few pages that a load itself
 * needs, and for a working set that is brought in before the guest runs. */
#define LOAD_SECONDS 10
#define PREFETCH_SECONDS 60

/* ------------------------------------------------------------------ saving */

static int save_vcpus(struct machine *machine, struct state_writer *writer,
		      struct error *err)
{
	struct kvm_x86_clock clock = {0};
	int ret = kvm_x86_read_clock(&machine->kvm, &clock, err);

	for (size_t i = 0; i < machine->vcpu_count && !ret; i++)
		ret = vcpu_x86_save(machine->vcpus[i], &machine->kvm, &clock,
				    writer, err);
	if (ret)
		return ret;
	return kvm_x86_save(&machine->kvm, machine->vcpus[0], &clock, writer,
			    err);
}

int machine_save(struct machine *machine, struct state_writer *writer,
		 struct error *err)
{
	machine->rekick = true; /* before it goes on */
	for (size_t i = 0; i < machine->virtio_count; i++)
		virtio_mmio_save(machine->virtio[i], writer, (uint16_t)i);
	if (machine->hotplug)
		mem_device_save(machine->hotplug, writer);
	serial_save(machine->serial, writer);
	i8042_save(machine->i8042, writer);
	vmgenid_save(&machine->vmgenid, writer);
	vmclock_save(&machine->vmclock, writer);
	return save_vcpus(machine, writer, err);
}

/* What has changed since the last time, as bits; none without tracking. */
static int collect_dirty(struct machine *machine, struct error *err)
{
	size_t words = gmem_size(machine->mem) / PAGE_SIZE_4K / 64 + 1;
	int ret;

	if (!machine->tracks_dirty)
		return 0;
	machine->dirty = calloc(words, sizeof(*machine->dirty));
	if (!machine->dirty)
		return error_set_os(err, ENOMEM, "Cannot list dirty pages:");
	ret = kvm_collect_dirty(&machine->kvm, machine->mem, machine->dirty);
	if (ret)
		return error_set_os(err, -ret, "Cannot list dirty pages:");
	gmem_take_dirty(machine->mem, machine->dirty);
	return 0;
}

int machine_open_memory_file(struct machine *machine,
			     const struct memory_file_request *request,
			     struct memory_file **ret_file, struct error *err)
{
	return memory_file_open(ret_file, machine->mem, request, err);
}

int machine_fill_memory_file(struct machine *machine, struct memory_file *file,
			     struct phases *phases, struct error *err)
{
	const struct memory_file_stats *stats = memory_file_stats(file);
	int ret = collect_dirty(machine, err);

	PHASE_END(phases, create_dirty_log);
	if (!ret)
		ret = memory_file_fill(file, machine->dirty, err);
	if (ret)
		return ret;
	PHASE_SET(phases, create_scan, stats->us_scan);
	PHASE_SET(phases, create_write, stats->us_write);
	PHASE_SET(phases, create_sync, stats->us_sync);
	log_info("%lu pages are in the memory file.",
		 (unsigned long)stats->pages_written);
	return 0;
}

void machine_end_snapshot(struct machine *machine, bool done)
{
	if (machine->dirty && !done)
		gmem_return_dirty(machine->mem, machine->dirty);
	free(take_ptr(machine->dirty));
}

/* --------------------------------------------------------------- restoring */

static int open_memory(const struct machine_request *request,
		       const struct machine_snapshot *snapshot, int *ret_fd,
		       struct error *err)
{
	*ret_fd = -1;
	if (snapshot->uffd)
		return 0;
	return pair_open_memory(snapshot->state, snapshot->memory_path,
				machine_memory_size(request), ret_fd, err);
}

static int map_memory(struct machine *machine,
		      const struct machine_request *request,
		      const struct machine_snapshot *snapshot,
		      struct error *err)
{
	int fd;
	int ret = request->hotplug ? mem_device_load(request->hotplug,
						     snapshot->state, err)
				   : 0;

	if (ret)
		return ret;
	ret = open_memory(request, snapshot, &fd, err);
	if (!ret)
		ret = machine_map_memory(machine, request,
					 snapshot->uffd ? GMEM_UFFD : GMEM_FILE,
					 fd, err);
	if (!ret && snapshot->uffd)
		ret = uffd_attach(machine->mem, snapshot->memory_path,
				  &machine->uffd, &machine->uffd_socket, err);
	if (!ret)
		gmem_set_handler(machine->mem, machine->uffd_socket);
	if (ret)
		error_prefix(err,
			     snapshot->uffd
				     ? "Failed to load guest memory: Error "
				       "creating guest memory from uffd: "
				     : "Failed to load guest memory: Error "
				       "creating guest memory from file: ");
	return ret;
}

static int restore_kvm(struct machine *machine,
		       const struct machine_request *request,
		       const struct state_file *state, bool clock_realtime,
		       struct error *err)
{
	struct kvm_x86_early early = {0};
	struct kvm_x86_gap gap = {0};
	int ret = kvm_x86_load_early(state, clock_realtime, &early, err);

	if (!ret)
		ret = kvm_create_irqchip(&machine->kvm, early.has_pit, err);
	if (!ret)
		ret = machine_build_vcpus(machine, request, err);
	/* Not for a boot: woken, a vCPU may come before the answer to the
	 * request, by some milliseconds where there is one processor. */
	for (size_t i = 0; i < machine->vcpu_count && !ret; i++)
		ret = vcpu_make_thread(machine->vcpus[i], err);
	if (!ret)
		ret = kvm_x86_load_clock(&machine->kvm, state, clock_realtime,
					 &gap, err);
	for (size_t i = 0; i < machine->vcpu_count && !ret; i++)
		ret = vcpu_x86_load(machine->vcpus[i], &machine->kvm, state,
				    &gap, err);
	if (!ret)
		ret = kvm_x86_load(&machine->kvm, machine->vcpus[0], state,
				   err);
	return ret;
}

static int restore_devices(struct machine *machine,
			   const struct machine_request *request,
			   const struct state_file *state, struct error *err)
{
	int ret = machine_build_devices(machine, request, err);

	if (!ret)
		ret = serial_load(machine->serial, state, err);
	if (!ret)
		ret = i8042_load(machine->i8042, state, err);
	for (size_t i = 0; i < machine->virtio_count && !ret; i++)
		ret = virtio_mmio_load(machine->virtio[i], state, (uint16_t)i,
				       err);
	if (!ret &&
	    virtio_mmio_is_saved(state, (uint16_t)machine->virtio_count))
		ret = error_set(err, EINVAL,
				"The snapshot has more devices than the %zu "
				"that are configured in it",
				machine->virtio_count);
	return ret;
}

/* Another identity, and no trust in the time that passed. */
static int renew(struct machine *machine, const struct state_file *state,
		 struct error *err)
{
	int ret = vmgenid_load(&machine->vmgenid, machine->mem, &machine->kvm,
			       state, err);

	if (!ret)
		ret = vmclock_load(&machine->vmclock, machine->mem,
				   &machine->kvm, state, err);
	if (!ret)
		ret = vmgenid_renew(&machine->vmgenid, err);
	if (!ret)
		ret = vmclock_renew(&machine->vmclock, err);
	return ret;
}

/* ---------------------------------------------------------- the working set */

/* Nobody was there to watch when they came, and they are all there. */
static int check_recordable(const struct machine *machine, struct error *err)
{
	if (gmem_backing(machine->mem) != GMEM_ANONYMOUS)
		return 0;
	return error_set(
		err, ENOTSUP,
		"No working set can be recorded: the memory was copied "
		"into 2 MiB pages");
}

/* As early as can be: what the restore itself touches belongs to the set. */
static int prepare_memory(struct machine *machine,
			  const struct machine_request *request,
			  const struct machine_snapshot *snapshot,
			  struct error *err)
{
	int ret = 0;

	if (snapshot->record_path) {
		ret = check_recordable(machine, err);
		if (!ret)
			ret = recorder_create(&machine->recorder, machine->mem,
					      snapshot->record_path,
					      request->filters, err);
	}
	if (!ret && snapshot->working_set_path)
		ret = prefetch_create(&machine->prefetch, machine->mem,
				      snapshot->working_set_path,
				      snapshot->prefetch, request->filters,
				      err);
	return ret;
}

void machine_start_watch(struct machine *machine)
{
	if (machine->recorder)
		recorder_start(machine->recorder);
}

void machine_begin_watch(struct machine *machine)
{
	if (machine->recorder)
		recorder_begin(machine->recorder);
}

void machine_begin_prefetch(struct machine *machine)
{
	if (machine->prefetch)
		prefetch_begin(machine->prefetch);
}

/* In this order: the guest must not see the empty pages that it gets once
 * nobody fills them any more, and a vCPU may be waiting for one. */
void machine_stop(struct machine *machine)
{
	if (!machine)
		return;
	for (size_t i = 0; i < machine->vcpu_count; i++)
		vcpu_request_stop(machine->vcpus[i]);
	if (machine->uffd >= 0)
		uffd_detach(machine->mem, machine->uffd);
	for (size_t i = 0; i < machine->vcpu_count; i++)
		vcpu_stop(machine->vcpus[i]);
}

void machine_end_restore(struct machine *machine)
{
	prefetch_destroy(take_ptr(machine->prefetch));
	recorder_destroy(take_ptr(machine->recorder));
	close_fd(&machine->uffd);
	close_fd(&machine->uffd_socket);
}

/* A part of machine_restore. */
typedef int restore_step(struct machine *machine,
			 const struct machine_request *request,
			 const struct machine_snapshot *snapshot,
			 struct error *err);

static int restore_parts(struct machine *machine,
			 const struct machine_request *request,
			 const struct machine_snapshot *snapshot,
			 struct error *err)
{
	int ret = restore_kvm(machine, request, snapshot->state,
			      snapshot->clock_realtime, err);

	PHASE_END(snapshot->phases, load_vcpus);
	if (!ret)
		ret = restore_devices(machine, request, snapshot->state, err);
	PHASE_END(snapshot->phases, load_devices);
	if (!ret)
		ret = renew(machine, snapshot->state, err);
	machine_mark_clock_stopped(machine);
	PHASE_END(snapshot->phases, load_identity);
	return ret;
}

/* What the loop touches of the memory meanwhile may never come: rings, the
 * generation id, what KVM writes for the clock, the working set. */
static int watched(struct machine *machine,
		   const struct machine_request *request,
		   const struct machine_snapshot *snapshot, restore_step *step,
		   unsigned seconds, struct error *err)
{
	struct uffd_watch watch;
	int late;
	int ret = uffd_watch_begin(&watch, machine->mem, machine->uffd, seconds,
				   request->filters, err);

	if (ret)
		return ret;
	ret = step(machine, request, snapshot, err);
	late = uffd_watch_end(&watch, err);
	return late ? late : ret;
}

int machine_restore(struct machine *machine,
		    const struct machine_request *request,
		    const struct machine_snapshot *snapshot, struct error *err)
{
	int ret;

	machine_init(machine, request);
	machine->rekick = true;
	machine->address_end = UINT64_MAX; /* what there is was there before */
	ret = machine_place_windows(machine, request, err);
	if (!ret)
		ret = map_memory(machine, request, snapshot, err);
	PHASE_END(snapshot->phases, load_memory);
	if (!ret && (snapshot->working_set_path || snapshot->record_path))
		ret = watched(machine, request, snapshot, prepare_memory,
			      PREFETCH_SECONDS, err);
	PHASE_END(snapshot->phases, load_working_set);
	if (!ret)
		ret = watched(machine, request, snapshot, restore_parts,
			      LOAD_SECONDS, err);
	return ret;
}
