/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A KVM that only remembers which eventfds it was given.
 */
#ifndef FAKE_KVM_H
#define FAKE_KVM_H

#include "vmm/kvm.h"

#define FAKE_KVM_EVENTS_MAX 32

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
};

/* One per test program; tests zero it. */
extern struct fake_kvm fake_kvm;

#endif
