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
struct gmem_region;
struct msr_set;

#define KVM_CPUID_ENTRIES_MAX 256

/* Where the numbers of memory slots begin. */
enum {
	KVM_SLOT_RAM = 0,
	KVM_SLOT_PMEM = 16,
	KVM_SLOT_HOTPLUG = 64,
};

struct kvm {
	int fd; /* /dev/kvm */
	int vm_fd;
	size_t run_size; /* bytes of the mapping of a vCPU fd */
	bool has_irqchip;
	bool has_pit;
	bool logs_dirty;
	/* Made when first asked for, owned: */
	struct kvm_cpuid2 *cpuid; /* kvm_supported_cpuid */
	char *host;		  /* host_cpu_identity */
	struct msr_set *msrs;	  /* msrs_x86_read */
};

/* Opens /dev/kvm, checks API version and required capabilities and creates the
 * VM. Leaves @kvm as kvm_close would on error. */
int kvm_open(struct kvm *kvm, struct error *err) must_check;

/* Accepts a struct that kvm_init set up and nothing more. */
void kvm_close(struct kvm *kvm);
void kvm_init(struct kvm *kvm);

/* What this host can offer to a guest, borrowed from @kvm. The first call takes
 * some 0.3 ms where the host is virtual itself: a restore does without if it
 * can (vmm/host_cpu_x86.h). */
int kvm_supported_cpuid(struct kvm *kvm, const struct kvm_cpuid2 **ret_cpuid,
			struct error *err) must_check;

/*
 * Registers all regions of @mem as slots 0..n-1, and of a pluggable region the
 * slots in which a block is plugged. Before kvm_create_irqchip. -EINVAL with a
 * sentence where the pluggable region has more slots than KVM.
 */
int kvm_set_memory(struct kvm *kvm, const struct gmem *mem, bool log_dirty,
		   struct error *err) must_check;

/*
 * Registers slot @n of the pluggable region, or takes it from the guest, for
 * which there is nothing then. The guest may run: the call waits for an SRCU
 * grace period, which is microseconds to milliseconds. What the dirty log of a
 * slot has is lost with it. Loop thread. -errno.
 */
int kvm_plug_slot(struct kvm *kvm, const struct gmem_region *region, uint64_t n,
		  bool there) must_check;

/* What the guest shall find besides its RAM. */
struct kvm_window {
	uint64_t gpa, len;
	const void *hva;
	bool read_only; /* what the guest writes there ends in an MMIO exit */
};

/* Registers @window as @slot, without a dirty log. Before
 * kvm_create_irqchip. */
int kvm_set_window(struct kvm *kvm, uint32_t slot,
		   const struct kvm_window *window,
		   struct error *err) must_check;

/* The first address that the guest's processors cannot form. */
int kvm_address_end(struct kvm *kvm, uint64_t *ret_end,
		    struct error *err) must_check;

/*
 * Moves the log of pages that vCPUs have written into @bitmap, by OR: one bit
 * per 4 KiB page of all regions of @mem in order. The log is empty afterwards.
 * -ENOENT if there is no log, -errno; pages logged so far are in @bitmap even
 * then.
 */
int kvm_collect_dirty(const struct kvm *kvm, const struct gmem *mem,
		      uint64_t *bitmap) must_check;

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
