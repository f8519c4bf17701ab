/* SPDX-License-Identifier: Apache-2.0 */
/*
 * VMClock (UAPI.13; layout of Linux's include/uapi/linux/vmclock-abi.h): a page
 * of guest memory that programs in the guest can map. Ours tells no time. It
 * says that time was disrupted and that the machine is another one now, which a
 * program can see by a look at two counters. acpi.c announces where the page is
 * and the interrupt that says that it changed.
 *
 * Owned by the machine, which releases nothing: memory and KVM are borrowed and
 * must outlive it. Thread: loop.
 */
#ifndef EMBER_VMCLOCK_H
#define EMBER_VMCLOCK_H

#include "vmm/error.h"

#define VMCLOCK_LEN 0x1000

struct gmem;
struct kvm;
struct state_file;
struct state_writer;

struct vmclock {
	struct gmem *mem;
	const struct kvm *kvm;
	uint64_t gpa;
};

/* For a new machine: fills the page at MEMMAP_VMCLOCK. -EFAULT when there is
 * no RAM. */
int vmclock_create(struct vmclock *vmclock, struct gmem *mem,
		   const struct kvm *kvm, struct error *err) must_check;

/* Section VCLK: where the page is. */
void vmclock_save(const struct vmclock *vmclock, struct state_writer *writer);

/* For a restored machine, instead of vmclock_create; the counters are still the
 * old ones. -EINVAL unless the address is one that a machine could have had;
 * @vmclock is untouched then. */
int vmclock_load(struct vmclock *vmclock, struct gmem *mem,
		 const struct kvm *kvm, const struct state_file *file,
		 struct error *err) must_check;

/* Counts disruption and generation up and tells the guest, which hears of it
 * once it runs. After memory, interrupt controllers and vCPUs have their state
 * back (it would overwrite the interrupt), before any vCPU runs. */
int vmclock_renew(const struct vmclock *vmclock, struct error *err) must_check;

#endif
