/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A KVM that only remembers which eventfds it was given, and which slots of
 * pluggable memory.
 */
#ifndef FAKE_KVM_H
#define FAKE_KVM_H

#include "vmm/kvm.h"

#define FAKE_KVM_EVENTS_MAX 32
#define FAKE_KVM_SLOTS_MAX 64

struct fake_kvm_event {
	uint64_t addr;	/* ioeventfd */
	uint32_t value; /* ioeventfd: datamatch; irqfd: GSI */
	int fd;
};

struct fake_kvm {
	struct fake_kvm_event ioeventfds[FAKE_KVM_EVENTS_MAX];
	size_t ioeventfd_count;
	struct fake_kvm_event irqfds[FAKE_KVM_EVENTS_MAX];
	size_t irqfd_count;
	uint64_t slots; /* of pluggable memory, one bit each */
	unsigned slot_calls;
	unsigned slot_fail; /* the call of that number fails; 0: none */
};

/* One per test program; tests zero it. */
extern struct fake_kvm fake_kvm;

#endif
