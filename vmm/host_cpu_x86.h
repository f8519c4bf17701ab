/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Can this host run a guest that was saved elsewhere?
 *
 * What KVM offers is the answer, but asking it takes as long as a good part of
 * a restore where CPUID traps (a host that is virtual itself). The processor's
 * own CPUID is no substitute, in either direction: KVM emulates features that
 * the processor lacks, and may withhold others that it has. So a snapshot says
 * on which processor and kernel it was made; where those are the same, KVM
 * offers the same, and only where they differ it is asked.
 *
 * Thread: loop.
 */
#ifndef EMBER_HOST_CPU_X86_H
#define EMBER_HOST_CPU_X86_H

#include "vmm/error.h"

#include <stdbool.h>

struct kvm;
struct kvm_cpuid2;

/* The processor's features, the kernel's build and how its KVM is set up, as
 * one line of text, borrowed from @kvm. */
int host_cpu_identity(struct kvm *kvm, const char **ret_text,
		      struct error *err) must_check;

/*
 * -ENOTSUP with a sentence that names leaves, registers and bits if @guest (a
 * CPUID as vcpu_x86_cpuid shapes it) has features which this host's KVM does
 * not offer. Another vendor, family or model is a warning when @warn is set.
 * @identity: of the host that @guest was saved on; NULL if unknown.
 */
int host_cpu_check(struct kvm *kvm, const struct kvm_cpuid2 *guest,
		   const char *identity, bool warn,
		   struct error *err) must_check;

#endif
