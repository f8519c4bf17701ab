/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A vCPU in a state file: section `VCPU`, one per vCPU.
 *
 *   string  the host it was saved on (vmm/host_cpu_x86.h)
 *   le32 count, then so many CPUID entries: function, index, flags, eax, ebx,
 *           ecx, edx, each le32
 *   le32    frequency of its TSC in kHz, 0 if KVM did not tell
 *   blobs   kvm_mp_state, kvm_regs, kvm_sregs, kvm_xsave (4096 bytes or more),
 *           kvm_xcrs, kvm_debugregs, kvm_lapic_state
 *   le32 count, then so many MSRs: index (le32), value (le64)
 *   blob    kvm_vcpu_events
 *
 * Thread: loop, while the vCPU is out of the guest.
 */
#ifndef EMBER_VCPU_STATE_X86_H
#define EMBER_VCPU_STATE_X86_H

#include "snapshot/state.h"

struct kvm;
struct kvm_x86_clock;
struct kvm_x86_gap;
struct vcpu;

/* @vcpu is paused, its last I/O completed, and so are all others. Its TSC is
 * saved as it was at the moment of @clock, if KVM tells enough for that. */
int vcpu_x86_save(const struct vcpu *vcpu, struct kvm *kvm,
		  const struct kvm_x86_clock *clock,
		  struct state_writer *writer, struct error *err) must_check;

/*
 * Instead of vcpu_x86_setup: the irqchip exists, the vCPU has not run. Its TSC
 * goes on with the clock, as @gap says. Guest memory is not touched. -EINVAL
 * with a sentence for a malformed section,
 * -ENOTSUP for features that this host lacks, else KVM's refusal; the vCPU may
 * have changed then and must not run. kvm_x86_load follows after all vCPUs.
 */
int vcpu_x86_load(const struct vcpu *vcpu, struct kvm *kvm,
		  const struct state_file *file, const struct kvm_x86_gap *gap,
		  struct error *err) must_check;

#endif
