/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The parts of a machine, for the files that put it together:
 *
 *   machine.c           from its configuration, with a kernel
 *   machine_snapshot.c  into a snapshot, and out of it
 *
 * Thread: loop.
 */
#ifndef EMBER_MACHINE_PRIVATE_H
#define EMBER_MACHINE_PRIVATE_H

#include "virtio/mmio.h"
#include "vmm/acpi_power.h"
#include "vmm/boot_timer.h"
#include "vmm/i8042.h"
#include "vmm/kvm.h"
#include "vmm/machine.h"
#include "vmm/serial.h"
#include "vmm/vcpu.h"
#include "vmm/vmclock.h"
#include "vmm/vmgenid.h"

struct prefetch;
struct recorder;

#define MACHINE_DEVICES_MAX (IRQ_GSI_LAST_DEVICE - IRQ_GSI_FIRST_DEVICE + 1)

struct machine {
	struct kvm kvm;
	struct gmem *mem;
	/* Of the guest's addresses: the next that is free for memory of
	 * devices, and where they end; 0: not asked for yet. */
	uint64_t device_memory_next, address_end;
	struct bus pio, mmio;
	struct irq_pool gsis;
	struct loop *loop;
	struct machine_events events;
	struct vcpu_metrics *vcpu_metrics;

	struct serial *serial;
	struct i8042 *i8042;
	struct irq_line serial_irq, i8042_irq;
	struct acpi_power power;
	struct boot_timer boot_timer;
	struct vmgenid vmgenid;
	struct vmclock vmclock;

	struct virtio_mmio *virtio[MACHINE_DEVICES_MAX];
	size_t virtio_count;

	struct vcpu_machine vcpu_machine;
	struct vcpu *vcpus[CONFIG_VCPUS_MAX];
	size_t vcpu_count;

	struct mem_device *hotplug; /* NULL: none */

	bool tracks_dirty;
	uint64_t *dirty; /* on its way into a snapshot; NULL: none is taken */
	bool rekick; /* kicks and interrupts may have been lost: before it goes
			on */
	int uffd, uffd_socket;	   /* held for a page-fault handler; -1: none */
	struct prefetch *prefetch; /* NULL: no working set was to be brought in
				    */
	struct recorder *recorder; /* NULL: nobody watches */
};

/* ------------------------------------------------------- from machine.c */

/* Before anything else of @machine is used. */
void machine_init(struct machine *machine,
		  const struct machine_request *request);

/*
 * Takes @len bytes of guest addresses for memory of a device, from
 * MEMMAP_DEVICE_MEMORY upwards in the order of calls: first the windows, then
 * memory that is plugged in. @align: a power of two. -ENOSPC with a sentence
 * that begins with @what when the guest's processors have no such addresses (a
 * restored guest is where it was, and is not asked).
 */
int machine_take_addresses(struct machine *machine, const char *what,
			   uint64_t len, uint64_t align, uint64_t *ret_gpa,
			   struct error *err) must_check;

/* Registers the windows with KVM: before machine_map_memory. */
int machine_place_windows(struct machine *machine,
			  const struct machine_request *request,
			  struct error *err) must_check;

/* Bytes of guest memory, and of its memory file. */
uint64_t machine_memory_size(const struct machine_request *request);

/* Creates guest memory and registers it with KVM. @fd: the memory file of
 * GMEM_FILE, taken over in any case; else -1. */
int machine_map_memory(struct machine *machine,
		       const struct machine_request *request,
		       enum gmem_backing backing, int fd,
		       struct error *err) must_check;
int machine_build_vcpus(struct machine *machine,
			const struct machine_request *request,
			struct error *err) must_check;
int machine_build_devices(struct machine *machine,
			  const struct machine_request *request,
			  struct error *err) must_check;

/* Tells guests with kvmclock that they were stopped. */
void machine_mark_clock_stopped(struct machine *machine);

/* ---------------------------------------------- from machine_snapshot.c */

/* What goes on beside a restored guest: from when the vCPUs have their threads,
 * and from when it first runs. */
void machine_start_watch(struct machine *machine);
void machine_begin_watch(struct machine *machine);
void machine_begin_prefetch(struct machine *machine);

/* Ends what a restore left running; vCPUs are stopped. */
void machine_end_restore(struct machine *machine);

#endif
