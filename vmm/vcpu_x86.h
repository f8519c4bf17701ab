/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What makes a KVM vCPU an x86_64 processor at the start of a kernel: CPUID as
 * the guest shall see it, model-specific registers, registers, local APIC.
 *
 * Thread: loop, before the vCPU's thread runs.
 */
#ifndef EMBER_VCPU_X86_H
#define EMBER_VCPU_X86_H

#include "vmm/boot_x86.h"
#include "vmm/error.h"

#include <stdbool.h>

struct kvm;
struct kvm_cpuid2;
struct vcpu;

struct cpu_topology {
	uint32_t vcpu_count;
	bool smt; /* two threads per core */
};

/*
 * Turns what the host supports (@supported) into what vCPU @id of @topology
 * shall see. Returns a new allocation, NULL when out of memory. Reads the
 * host's own CPUID for caches and the nominal frequency only.
 */
struct kvm_cpuid2 *vcpu_x86_cpuid(const struct kvm_cpuid2 *supported,
				  const struct cpu_topology *topology,
				  uint32_t id) must_check;

/* Sets up @vcpu to start at @entry; application processors (id > 0) get the
 * same but their registers, and wait for INIT and SIPI in the irqchip. */
int vcpu_x86_setup(const struct vcpu *vcpu, struct kvm *kvm,
		   const struct cpu_topology *topology,
		   const struct boot_entry *entry,
		   struct error *err) must_check;

#endif
