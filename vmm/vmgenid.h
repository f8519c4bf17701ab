/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The generation id of a virtual machine ("Virtual Machine Generation ID",
 * Microsoft 2012): 16 random bytes in guest memory that are others after every
 * restore, so that two clones of one snapshot don't go on with the same random
 * numbers. acpi.c announces where they are and the interrupt that says that
 * they changed.
 *
 * The guest reads them whenever it likes; nothing here runs while it does, but
 * at boot and at restore. Owned by the machine, which releases nothing: memory
 * and KVM are borrowed and must outlive it. Thread: loop.
 */
#ifndef EMBER_VMGENID_H
#define EMBER_VMGENID_H

#include "vmm/error.h"

#define VMGENID_LEN 16
#define VMGENID_ALIGN 8

struct gmem;
struct kvm;
struct state_file;
struct state_writer;

struct vmgenid {
	struct gmem *mem;
	const struct kvm *kvm;
	uint64_t gpa;
};

/* For a new machine: places the first id at MEMMAP_VMGENID. -EFAULT when there
 * is no RAM, -errno of getrandom. */
int vmgenid_create(struct vmgenid *vmgenid, struct gmem *mem,
		   const struct kvm *kvm, struct error *err) must_check;

/* Section GENI: where the id is. */
void vmgenid_save(const struct vmgenid *vmgenid, struct state_writer *writer);

/* For a restored machine, instead of vmgenid_create; the id is still the old
 * one. -EINVAL unless the address is one that a machine could have had;
 * @vmgenid is untouched then. */
int vmgenid_load(struct vmgenid *vmgenid, struct gmem *mem,
		 const struct kvm *kvm, const struct state_file *file,
		 struct error *err) must_check;

/* Makes a new id and tells the guest, which hears of it once it runs. After
 * memory, interrupt controllers and vCPUs have their state back (it would
 * overwrite the interrupt), before any vCPU runs. When this fails (-errno of
 * getrandom) the machine is a copy and must not run. */
int vmgenid_renew(const struct vmgenid *vmgenid, struct error *err) must_check;

#endif
