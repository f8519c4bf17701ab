/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/fake/kvm.h"

#include <errno.h>

struct fake_kvm fake_kvm;

int kvm_add_ioeventfd(struct kvm *kvm, uint64_t addr, uint32_t value, int fd,
		      struct error *err)
{
	(void)kvm;
	if (fake_kvm.ioeventfd_count == FAKE_KVM_EVENTS_MAX)
		return error_set(err, ENOSPC, "too many ioeventfds");
	fake_kvm.ioeventfds[fake_kvm.ioeventfd_count++] =
		(struct fake_kvm_event){addr, value, fd};
	return 0;
}

/* A rising line is seen where its irqfd is. */
void kvm_set_irq(const struct kvm *kvm, uint32_t gsi, bool high)
{
	const uint64_t one = 1;

	(void)kvm;
	for (size_t i = 0; i < fake_kvm.irqfd_count && high; i++)
		if (fake_kvm.irqfds[i].value == gsi &&
		    write(fake_kvm.irqfds[i].fd, &one, sizeof(one)) < 0)
			return;
}

int kvm_add_irqfd(struct kvm *kvm, uint32_t gsi, int fd, struct error *err)
{
	(void)kvm;
	if (fake_kvm.irqfd_count == FAKE_KVM_EVENTS_MAX)
		return error_set(err, ENOSPC, "too many irqfds");
	fake_kvm.irqfds[fake_kvm.irqfd_count++] =
		(struct fake_kvm_event){0, gsi, fd};
	return 0;
}

int kvm_plug_slot(struct kvm *kvm, const struct gmem_region *region, uint64_t n,
		  bool there)
{
	(void)kvm;
	(void)region;
	if (++fake_kvm.slot_calls == fake_kvm.slot_fail ||
	    n >= FAKE_KVM_SLOTS_MAX)
		return -ENOMEM;
	if (there)
		fake_kvm.slots |= BIT(n);
	else
		fake_kvm.slots &= ~BIT(n);
	return 0;
}
