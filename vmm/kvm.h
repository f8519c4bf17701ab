/* SPDX-License-Identifier: Apache-2.0 */
/*
 * /dev/kvm and the VM object: thin, checked wrappers around the ioctls that
 * build a VM. The order they must be called in (design law 1) is enforced:
 * memory slots, then the irqchip, then ioeventfds and irqfds; a slot that came
 * later would wait milliseconds for an SRCU grace period.
 *
 * Thread: loop. Errors carry a sentence for the API.
 */
#ifndef EMBER_KVM_H
#define EMBER_KVM_H

#include "vmm/error.h"

#include <linux/kvm.h>
#include <stdbool.h>

struct gmem;

#define KVM_CPUID_ENTRIES_MAX 256

struct kvm {
	int fd; /* /dev/kvm */
	int vm_fd;
	size_t run_size; /* bytes of the mapping of a vCPU fd */
	bool has_irqchip;
	struct kvm_cpuid2 *cpuid; /* what this host can offer; owned */
};

/* Opens /dev/kvm, checks API version and required capabilities, creates the
 * VM and reads the supported CPUID. Leaves @kvm as kvm_close would on error. */
int kvm_open(struct kvm *kvm, struct error *err) must_check;

/* Accepts a struct that kvm_init set up and nothing more. */
void kvm_close(struct kvm *kvm);
void kvm_init(struct kvm *kvm);

/* Registers all regions of @mem as slots 0..n-1. Before kvm_create_irqchip. */
int kvm_set_memory(struct kvm *kvm, const struct gmem *mem, bool log_dirty,
		   struct error *err) must_check;

/* TSS and identity map addresses, PIC, IOAPIC, LAPICs; the PIT when asked. */
int kvm_create_irqchip(struct kvm *kvm, bool with_pit,
		       struct error *err) must_check;

/* Returns the new vCPU's fd or -errno. */
int kvm_create_vcpu(struct kvm *kvm, uint32_t id, struct error *err) must_check;

/* Makes a 32-bit write of @value to MMIO @addr signal @fd without an exit. */
int kvm_add_ioeventfd(struct kvm *kvm, uint64_t addr, uint32_t value, int fd,
		      struct error *err) must_check;

/* Raises or lowers the line @gsi, here and now. Any thread. */
void kvm_set_irq(const struct kvm *kvm, uint32_t gsi, bool high);

/* Makes a write to eventfd @fd raise one edge on @gsi. */
int kvm_add_irqfd(struct kvm *kvm, uint32_t gsi, int fd,
		  struct error *err) must_check;

#endif
