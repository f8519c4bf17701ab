/* SPDX-License-Identifier: Apache-2.0 */
/*
 * KVM's ioctls without KVM: for programs linked with --wrap=ioctl. What is set
 * is what is got, per descriptor; every request is remembered in order.
 *
 * Descriptors are numbers that no file has: FAKE_KVM_FD + 0 is /dev/kvm, + 1
 * the VM, + 2 and so on its vCPUs. Others go to the real ioctl.
 */
#ifndef FAKE_KVM_IOCTL_H
#define FAKE_KVM_IOCTL_H

#include "vmm/util.h"

#include <linux/kvm.h>
#include <stdbool.h>

#define FAKE_KVM_FD 5000
#define FAKE_VM_FD (FAKE_KVM_FD + 1)
#define FAKE_VCPU_FD (FAKE_KVM_FD + 2)
#define FAKE_VCPUS 2
#define FAKE_MSRS_MAX 400
#define FAKE_SLOTS 72
#define FAKE_CALLS_MAX 4096

struct fake_vcpu {
	uint32_t cpuid_count;
	struct kvm_cpuid_entry2 cpuid[64];
	uint32_t tsc_khz;
	uint64_t tsc_offset;
	struct kvm_mp_state mp_state;
	struct kvm_regs regs;
	struct kvm_sregs sregs;
	uint8_t xsave[8192];
	struct kvm_xcrs xcrs;
	struct kvm_debugregs debugregs;
	struct kvm_lapic_state lapic;
	struct kvm_vcpu_events events;
	/* Those that exist; what is not here is refused. */
	uint32_t msr_count;
	struct kvm_msr_entry msrs[FAKE_MSRS_MAX];
};

struct fake_call {
	int fd;
	unsigned long request;
};

struct fake_host {
	/* What the host is like. */
	uint32_t supported_count;
	struct kvm_cpuid_entry2 supported[64];
	uint32_t listed_count;
	uint32_t listed[FAKE_MSRS_MAX];
	uint32_t tsc_khz;
	bool scales_tsc;
	bool has_tsc_offset;
	uint64_t host_tsc;	/* at KVM_GET_CLOCK, which is silent about 0 */
	uint64_t clock_step;	/* from KVM_SET_CLOCK to KVM_GET_CLOCK */
	int xsave_size;		/* KVM_CAP_XSAVE2 */
	int slot_count;		/* KVM_CAP_NR_MEMSLOTS */
	uint32_t unwritable[8]; /* MSRs that can be read only; 0 for none */
	unsigned long fail;	/* this request fails with EINVAL */
	/* The VM and its vCPUs. */
	struct kvm_irqchip chips[3];
	struct kvm_pit_state2 pit;
	struct kvm_clock_data clock;
	uint64_t slot_pages[FAKE_SLOTS];
	uint64_t dirty[FAKE_SLOTS][4]; /* per slot */
	struct fake_vcpu vcpus[FAKE_VCPUS];
	/* What happened. */
	struct fake_call calls[FAKE_CALLS_MAX];
	size_t call_count;
};

/* One per test program; tests set it up. */
extern struct fake_host fake_host;

/* How often @request was made, and at which place for the first time (-1). */
size_t fake_calls(unsigned long request);
int fake_call_place(unsigned long request);

/* Existing MSR, or NULL. */
struct kvm_msr_entry *fake_msr(struct fake_vcpu *vcpu, uint32_t index);
void fake_add_msr(struct fake_vcpu *vcpu, uint32_t index, uint64_t value);

#endif
