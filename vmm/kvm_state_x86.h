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
 * Order on a restore: kvm_x86_load_early, kvm_set_memory,
 * kvm_create_irqchip, vCPUs, vcpu_x86_load of each, kvm_x86_load; only then
 * ioeventfds and irqfds.
 *
 * Thread: loop, while all vCPUs are out of the guest.
 */
#ifndef EMBER_KVM_STATE_X86_H
#define EMBER_KVM_STATE_X86_H

#include "snapshot/state.h"

struct kvm;
struct vcpu;

/* @vcpu: any of the VM's. */
int kvm_x86_save(const struct kvm *kvm, const struct vcpu *vcpu,
		 struct state_writer *writer, struct error *err) must_check;

/* What other parts need to know before they are loaded. */
struct kvm_x86_early {
	bool has_pit; /* for kvm_create_irqchip */
	/* With @clock_realtime: how long ago the VM was saved, by the wall
	 * clock, for vcpu_x86_load; else 0. */
	uint64_t gap_ns;
};

/* -EINVAL with a sentence, also if there is no wall clock to go by. */
int kvm_x86_load_early(const struct state_file *file, bool clock_realtime,
		       struct kvm_x86_early *ret_early,
		       struct error *err) must_check;

/*
 * After all vCPUs are loaded: interrupt controllers, PIT, clock. With
 * @clock_realtime the guest's clock goes on as if the VM had run on, else as
 * if it had been paused. @vcpu: any of the VM's. If the guest has told KVM
 * where it wants the wall clock, KVM writes it there: this touches guest
 * memory. -EINVAL with a sentence, or KVM's refusal.
 */
int kvm_x86_load(const struct kvm *kvm, const struct vcpu *vcpu,
		 const struct state_file *file, bool clock_realtime,
		 struct error *err) must_check;

#endif
