/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Model-specific registers of a vCPU, all of them at once.
 *
 * Which there are is the host's business: those that KVM lists, and some that
 * it keeps but does not list. KVM_GET_MSRS and KVM_SET_MSRS stop at the first
 * one that they refuse. Reading leaves such a one out; writing goes on only if
 * nothing is lost.
 *
 * Left out on purpose: the address of the wall clock (msrs_x86_wall_clock),
 * which is one for the VM, and machine check banks, which KVM fills only when
 * asked to by the monitor.
 *
 * Thread: loop, while the vCPU is out of the guest.
 */
#ifndef EMBER_MSRS_X86_H
#define EMBER_MSRS_X86_H

#include "vmm/error.h"

struct kvm;
struct kvm_msrs;
struct vcpu;

/* Far more than any host has. */
#define MSRS_MAX 1024

/* Room for @count, zeroed; NULL when out of memory. */
struct kvm_msrs *msrs_x86_alloc(size_t count) must_check;

/* Reads what KVM lets read; *@ret_msrs (malloc) is the caller's. */
int msrs_x86_read(const struct vcpu *vcpu, struct kvm *kvm,
		  struct kvm_msrs **ret_msrs, struct error *err) must_check;

/* Writes @msrs, which is in another order afterwards, the TSC deadline after
 * all others. -EINVAL with a sentence that names MSR and value. */
int msrs_x86_write(const struct vcpu *vcpu, struct kvm_msrs *msrs,
		   struct error *err) must_check;

/* The guest-physical address that KVM writes the wall clock to whenever the
 * address is set, 0 for none: of the VM, through whichever vCPU. */
uint64_t msrs_x86_wall_clock(const struct vcpu *vcpu);
int msrs_x86_set_wall_clock(const struct vcpu *vcpu, uint64_t gpa,
			    struct error *err) must_check;

#endif
