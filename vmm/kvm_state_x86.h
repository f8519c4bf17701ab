/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What KVM keeps for the VM as a whole, in a state file: section `KVM `.
 *
 *   u8      is there a PIT?
 *   blobs   kvm_irqchip of the first PIC, the second one and the IOAPIC;
 *           kvm_pit_state2 if there is a PIT
 *   le64    kvmclock in nanoseconds
 *   u8      is the next field known?
 *   le64    wall clock at that moment, nanoseconds since 1970
 *   le64    guest-physical address that the wall clock is written to, 0: none
 *
 * Order on a restore: kvm_set_memory, kvm_x86_load_early,
 * kvm_create_irqchip, vCPUs, kvm_x86_load_clock, vcpu_x86_load of each,
 * kvm_x86_load; only then ioeventfds and irqfds.
 *
 * Thread: loop, while all vCPUs are out of the guest.
 */
#ifndef EMBER_KVM_STATE_X86_H
#define EMBER_KVM_STATE_X86_H

#include "snapshot/state.h"

struct kvm;
struct vcpu;

/* The VM's clock, and the host's TSC at the same moment. */
struct kvm_x86_clock {
	uint64_t ns;
	bool has_realtime;
	uint64_t realtime_ns;
	uint64_t host_tsc; /* 0: KVM does not tell */
};

/* For kvm_x86_save and each vcpu_x86_save. */
int kvm_x86_read_clock(const struct kvm *kvm, struct kvm_x86_clock *ret_clock,
		       struct error *err) must_check;

/* @vcpu: any of the VM's. */
int kvm_x86_save(const struct kvm *kvm, const struct vcpu *vcpu,
		 const struct kvm_x86_clock *clock, struct state_writer *writer,
		 struct error *err) must_check;

/* What other parts need to know before they are loaded. */
struct kvm_x86_early {
	bool has_pit; /* for kvm_create_irqchip */
};

/* -EINVAL with a sentence, also if there is no wall clock to go by. */
int kvm_x86_load_early(const struct state_file *file, bool clock_realtime,
		       struct kvm_x86_early *ret_early,
		       struct error *err) must_check;

/* How far the clock is beyond what was saved, and the host's TSC then. */
struct kvm_x86_gap {
	uint64_t ns;
	uint64_t host_tsc; /* 0: KVM does not tell */
};

/* After all vCPUs are made. With @clock_realtime the guest's clock goes on as
 * if the VM had run on, else as if it had been paused. @ret_gap is for
 * vcpu_x86_load. */
int kvm_x86_load_clock(const struct kvm *kvm, const struct state_file *file,
		       bool clock_realtime, struct kvm_x86_gap *ret_gap,
		       struct error *err) must_check;

/*
 * After all vCPUs are loaded: interrupt controllers, PIT. @vcpu: any of the
 * VM's. If the guest has told KVM where it wants the wall clock, KVM writes it
 * there: this touches guest memory. -EINVAL with a sentence, or KVM's refusal.
 */
int kvm_x86_load(const struct kvm *kvm, const struct vcpu *vcpu,
		 const struct state_file *file, struct error *err) must_check;

#endif
