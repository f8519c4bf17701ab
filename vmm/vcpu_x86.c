/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/vcpu_x86.h"

#include "vmm/kvm.h"
#include "vmm/memmap_x86.h"
#include "vmm/vcpu.h"

#include <errno.h>
#include <string.h>
#include <sys/ioctl.h>

enum {
	CR0_PE = 1u << 0,
	CR0_ET = 1u << 4,
	CR0_PG = 1u << 31,
	CR4_PAE = 1u << 5,
	EFER_LME = 1u << 8,
	EFER_LMA = 1u << 10,
	RFLAGS_RESERVED = 2, /* bit 1 always reads as one */
};

/* Model-specific registers a kernel may rely on at its entry. The zeros are
 * what a reset leaves; they are written so that no host default leaks in. */
static const struct {
	uint32_t index;
	uint64_t value;
} boot_msrs[] = {
	{0x174, 0},	    /* SYSENTER_CS */
	{0x175, 0},	    /* SYSENTER_ESP */
	{0x176, 0},	    /* SYSENTER_EIP */
	{0xc0000081, 0},    /* STAR */
	{0xc0000083, 0},    /* CSTAR */
	{0xc0000102, 0},    /* KERNEL_GS_BASE */
	{0xc0000084, 0},    /* SYSCALL_MASK */
	{0xc0000082, 0},    /* LSTAR */
	{0x10, 0},	    /* TSC */
	{0x1a0, 1},	    /* MISC_ENABLE: fast strings */
	{0x2ff, 0x800 | 6}, /* MTRRdefType: enabled, write-back */
};

/* Segment values as the descriptors that boot_x86.c puts into the GDT at
 * 0x500 define them: code 0x08, data 0x10, task state 0x18. */
struct segment_set {
	struct kvm_segment code, data, task;
};

static const struct segment_set long_mode_segments = {
	.code = {.limit = 0xffffffff,
		 .selector = 0x08,
		 .type = 11,
		 .present = 1,
		 .s = 1,
		 .l = 1,
		 .g = 1},
	.data = {.limit = 0xffffffff,
		 .selector = 0x10,
		 .type = 3,
		 .present = 1,
		 .db = 1,
		 .s = 1,
		 .g = 1},
	.task = {.limit = 0xfffff,
		 .selector = 0x18,
		 .type = 11,
		 .present = 1,
		 .g = 1},
};

static const struct segment_set protected_mode_segments = {
	.code = {.limit = 0xffffffff,
		 .selector = 0x08,
		 .type = 11,
		 .present = 1,
		 .db = 1,
		 .s = 1,
		 .g = 1},
	.data = {.limit = 0xffffffff,
		 .selector = 0x10,
		 .type = 3,
		 .present = 1,
		 .db = 1,
		 .s = 1,
		 .g = 1},
	.task = {.limit = 0x67, .selector = 0x18, .type = 11, .present = 1},
};

static int set_cpuid(const struct vcpu *vcpu, struct kvm *kvm,
		     const struct cpu_topology *topology, struct error *err)
{
	const struct kvm_cpuid2 *supported;
	AUTO_FREE struct kvm_cpuid2 *cpuid = NULL;
	int ret = kvm_supported_cpuid(kvm, &supported, err);

	if (ret)
		return ret;
	cpuid = vcpu_x86_cpuid(supported, topology, vcpu_id(vcpu));
	if (!cpuid)
		return error_set_os(err, ENOMEM, "Cannot set CPUID:");
	if (ioctl(vcpu_fd(vcpu), KVM_SET_CPUID2, cpuid))
		return error_set_os(err, errno, "KVM_SET_CPUID2:");
	return 0;
}

static int set_msrs(const struct vcpu *vcpu, struct error *err)
{
	const size_t count = ARRAY_SIZE(boot_msrs);
	AUTO_FREE struct kvm_msrs *msrs =
		calloc(1, sizeof(*msrs) + count * sizeof(msrs->entries[0]));
	int done;

	if (!msrs)
		return error_set_os(err, ENOMEM, "Cannot set MSRs:");
	msrs->nmsrs = count;
	for (size_t i = 0; i < count; i++) {
		msrs->entries[i].index = boot_msrs[i].index;
		msrs->entries[i].data = boot_msrs[i].value;
	}
	done = ioctl(vcpu_fd(vcpu), KVM_SET_MSRS, msrs);
	if (done < 0)
		return error_set_os(err, errno, "KVM_SET_MSRS:");
	if ((size_t)done != count)
		return error_set(err, EINVAL, "This host refuses MSR %#x",
				 boot_msrs[done].index);
	return 0;
}

/* Delivery mode bits of a local vector table entry (bits 8..10). */
static void set_delivery_mode(struct kvm_lapic_state *lapic, size_t offset,
			      uint32_t mode)
{
	uint32_t lvt;

	memcpy(&lvt, lapic->regs + offset, sizeof(lvt));
	lvt = (lvt & ~0x700u) | mode << 8;
	memcpy(lapic->regs + offset, &lvt, sizeof(lvt));
}

/* As the MultiProcessor specification wires them: LINT0 to the PIC, LINT1 to
 * NMI. */
static int set_lapic(const struct vcpu *vcpu, struct error *err)
{
	enum { LVT_LINT0 = 0x350, LVT_LINT1 = 0x360, EXTINT = 7, NMI = 4 };
	struct kvm_lapic_state lapic;

	if (ioctl(vcpu_fd(vcpu), KVM_GET_LAPIC, &lapic))
		return error_set_os(err, errno, "KVM_GET_LAPIC:");
	set_delivery_mode(&lapic, LVT_LINT0, EXTINT);
	set_delivery_mode(&lapic, LVT_LINT1, NMI);
	if (ioctl(vcpu_fd(vcpu), KVM_SET_LAPIC, &lapic))
		return error_set_os(err, errno, "KVM_SET_LAPIC:");
	return 0;
}

static void set_segments(struct kvm_sregs *sregs, const struct segment_set *set)
{
	sregs->cs = set->code;
	sregs->ds = sregs->es = sregs->fs = sregs->gs = sregs->ss = set->data;
	sregs->tr = set->task;
	sregs->gdt.base = MEMMAP_BOOT_GDT;
	sregs->gdt.limit = 4 * sizeof(uint64_t) - 1;
	sregs->idt.base = MEMMAP_BOOT_IDT;
	sregs->idt.limit = sizeof(uint64_t) - 1;
}

static int set_sregs(const struct vcpu *vcpu, const struct boot_entry *entry,
		     struct error *err)
{
	struct kvm_sregs sregs;

	if (ioctl(vcpu_fd(vcpu), KVM_GET_SREGS, &sregs))
		return error_set_os(err, errno, "KVM_GET_SREGS:");
	if (entry->protocol == BOOT_PVH) {
		set_segments(&sregs, &protected_mode_segments);
		sregs.cr0 = CR0_PE | CR0_ET;
		sregs.cr4 = 0;
	} else {
		set_segments(&sregs, &long_mode_segments);
		sregs.cr0 |= CR0_PE | CR0_PG;
		sregs.cr3 = MEMMAP_PML4;
		sregs.cr4 |= CR4_PAE;
		sregs.efer |= EFER_LME | EFER_LMA;
	}
	if (ioctl(vcpu_fd(vcpu), KVM_SET_SREGS, &sregs))
		return error_set_os(err, errno, "KVM_SET_SREGS:");
	return 0;
}

static int set_regs(const struct vcpu *vcpu, const struct boot_entry *entry,
		    struct error *err)
{
	struct kvm_regs regs = {
		.rip = entry->rip,
		.rflags = RFLAGS_RESERVED,
	};

	if (entry->protocol == BOOT_PVH) {
		regs.rbx = MEMMAP_PVH_INFO;
	} else {
		regs.rsi = MEMMAP_ZERO_PAGE;
		regs.rsp = regs.rbp = MEMMAP_BOOT_STACK;
	}
	if (ioctl(vcpu_fd(vcpu), KVM_SET_REGS, &regs))
		return error_set_os(err, errno, "KVM_SET_REGS:");
	return 0;
}

int vcpu_x86_setup(const struct vcpu *vcpu, struct kvm *kvm,
		   const struct cpu_topology *topology,
		   const struct boot_entry *entry, struct error *err)
{
	/* CPUID first: which MSRs exist depends on it. */
	int ret = set_cpuid(vcpu, kvm, topology, err);

	if (ret)
		return ret;
	ret = set_msrs(vcpu, err);
	if (ret)
		return ret;
	if (vcpu_id(vcpu) == 0) {
		ret = set_sregs(vcpu, entry, err);
		if (ret)
			return ret;
		ret = set_regs(vcpu, entry, err);
		if (ret)
			return ret;
	}
	return set_lapic(vcpu, err);
}
