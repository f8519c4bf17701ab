/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/fake/kvm_ioctl.h"

#include <assert.h>
#include <errno.h>
#include <stdarg.h>
#include <string.h>

struct fake_host fake_host;

int __real_ioctl(int fd, unsigned long request, void *arg);
int __wrap_ioctl(int fd, unsigned long request, void *arg);

static int refuse(int code)
{
	errno = code;
	return -1;
}

size_t fake_calls(unsigned long request)
{
	size_t count = 0;

	for (size_t i = 0; i < fake_host.call_count; i++)
		count += fake_host.calls[i].request == request;
	return count;
}

int fake_call_place(unsigned long request)
{
	for (size_t i = 0; i < fake_host.call_count; i++)
		if (fake_host.calls[i].request == request)
			return (int)i;
	return -1;
}

/* --------------------------------------------------------------------- MSRs */

struct kvm_msr_entry *fake_msr(struct fake_vcpu *vcpu, uint32_t index)
{
	for (uint32_t i = 0; i < vcpu->msr_count; i++)
		if (vcpu->msrs[i].index == index)
			return &vcpu->msrs[i];
	return NULL;
}

void fake_add_msr(struct fake_vcpu *vcpu, uint32_t index, uint64_t value)
{
	assert(vcpu->msr_count < FAKE_MSRS_MAX);
	vcpu->msrs[vcpu->msr_count++] =
		(struct kvm_msr_entry){.index = index, .data = value};
}

static bool writable(uint32_t index)
{
	for (size_t i = 0; i < ARRAY_SIZE(fake_host.unwritable); i++)
		if (fake_host.unwritable[i] == index)
			return false;
	return true;
}

static int get_msrs(struct fake_vcpu *vcpu, struct kvm_msrs *msrs)
{
	if (msrs->nmsrs > 255)
		return refuse(E2BIG);
	for (uint32_t i = 0; i < msrs->nmsrs; i++) {
		struct kvm_msr_entry *msr =
			fake_msr(vcpu, msrs->entries[i].index);

		if (!msr)
			return (int)i;
		msrs->entries[i].data = msr->data;
	}
	return (int)msrs->nmsrs;
}

static int set_msrs(struct fake_vcpu *vcpu, const struct kvm_msrs *msrs)
{
	if (msrs->nmsrs > 255)
		return refuse(E2BIG);
	for (uint32_t i = 0; i < msrs->nmsrs; i++) {
		struct kvm_msr_entry *msr =
			fake_msr(vcpu, msrs->entries[i].index);

		if (!msr || !writable(msr->index))
			return (int)i;
		msr->data = msrs->entries[i].data;
	}
	return (int)msrs->nmsrs;
}

static int list_msrs(struct kvm_msr_list *list)
{
	bool fits = list->nmsrs >= fake_host.listed_count;

	list->nmsrs = fake_host.listed_count;
	if (!fits)
		return refuse(E2BIG);
	memcpy(list->indices, fake_host.listed,
	       list->nmsrs * sizeof(list->indices[0]));
	return 0;
}

/* -------------------------------------------------------------------- CPUID */

static int get_cpuid(struct kvm_cpuid2 *cpuid, uint32_t count,
		     const struct kvm_cpuid_entry2 *entries)
{
	if (cpuid->nent < count)
		return refuse(E2BIG);
	cpuid->nent = count;
	memcpy(cpuid->entries, entries, count * sizeof(entries[0]));
	return 0;
}

static int set_cpuid(struct fake_vcpu *vcpu, const struct kvm_cpuid2 *cpuid)
{
	if (cpuid->nent > ARRAY_SIZE(vcpu->cpuid))
		return refuse(E2BIG);
	vcpu->cpuid_count = cpuid->nent;
	memcpy(vcpu->cpuid, cpuid->entries,
	       cpuid->nent * sizeof(vcpu->cpuid[0]));
	return 0;
}

/* ----------------------------------------------------------------- the rest */

static int copy(void *to, const void *from, size_t len)
{
	memcpy(to, from, len);
	return 0;
}

static int set_tsc_khz(struct fake_vcpu *vcpu, uintptr_t khz)
{
	if (!fake_host.scales_tsc)
		return refuse(EINVAL);
	vcpu->tsc_khz = (uint32_t)khz;
	return 0;
}

static int tsc_offset(struct fake_vcpu *vcpu,
		      const struct kvm_device_attr *attr, bool set)
{
	uint64_t *value = (uint64_t *)(uintptr_t)attr->addr;

	if (!fake_host.has_tsc_offset || attr->group != KVM_VCPU_TSC_CTRL ||
	    attr->attr != KVM_VCPU_TSC_OFFSET)
		return refuse(ENXIO);
	if (set)
		vcpu->tsc_offset = *value;
	else
		*value = vcpu->tsc_offset;
	return 0;
}

static size_t xsave_size(void)
{
	return MAX((size_t)fake_host.xsave_size, sizeof(struct kvm_xsave));
}

static int plain_vcpu_ioctl(struct fake_vcpu *vcpu, unsigned long request,
			    void *arg)
{
	const struct {
		unsigned long get, set;
		void *data;
		size_t size;
	} parts[] = {
#define PART(name, member)                                                     \
	{KVM_GET_##name, KVM_SET_##name, &vcpu->member, sizeof(vcpu->member)}
		PART(MP_STATE, mp_state),
		PART(REGS, regs),
		PART(SREGS, sregs),
		PART(XCRS, xcrs),
		PART(DEBUGREGS, debugregs),
		PART(LAPIC, lapic),
		PART(VCPU_EVENTS, events),
#undef PART
		{KVM_GET_XSAVE, KVM_SET_XSAVE, vcpu->xsave, xsave_size()},
		{KVM_GET_XSAVE2, 0, vcpu->xsave, xsave_size()},
	};

	for (size_t i = 0; i < ARRAY_SIZE(parts); i++) {
		if (parts[i].get == request)
			return copy(arg, parts[i].data, parts[i].size);
		if (parts[i].set == request)
			return copy(parts[i].data, arg, parts[i].size);
	}
	return refuse(ENOTTY);
}

static int vcpu_ioctl(struct fake_vcpu *vcpu, unsigned long request, void *arg)
{
	switch (request) {
	case KVM_GET_CPUID2:
		return get_cpuid(arg, vcpu->cpuid_count, vcpu->cpuid);
	case KVM_SET_CPUID2:
		return set_cpuid(vcpu, arg);
	case KVM_GET_TSC_KHZ:
		return (int)vcpu->tsc_khz;
	case KVM_SET_TSC_KHZ:
		return set_tsc_khz(vcpu, (uintptr_t)arg);
	case KVM_GET_DEVICE_ATTR:
	case KVM_SET_DEVICE_ATTR:
		return tsc_offset(vcpu, arg, request == KVM_SET_DEVICE_ATTR);
	case KVM_GET_MSRS:
		return get_msrs(vcpu, arg);
	case KVM_SET_MSRS:
		return set_msrs(vcpu, arg);
	default:
		return plain_vcpu_ioctl(vcpu, request, arg);
	}
}

static int set_slot(const struct kvm_userspace_memory_region *slot)
{
	assert(slot->slot < ARRAY_SIZE(fake_host.slot_pages));
	fake_host.slot_pages[slot->slot] = slot->memory_size / PAGE_SIZE_4K;
	return 0;
}

/* As many words as the slot's pages take. */
static int dirty_log(const struct kvm_dirty_log *log)
{
	size_t slot = log->slot;

	assert(slot < ARRAY_SIZE(fake_host.dirty));
	memcpy(log->dirty_bitmap, fake_host.dirty[slot],
	       (fake_host.slot_pages[slot] + 63) / 64 * sizeof(uint64_t));
	memset(fake_host.dirty[slot], 0, sizeof(fake_host.dirty[slot]));
	return 0;
}

static int get_clock(struct kvm_clock_data *clock)
{
	*clock = fake_host.clock;
	clock->clock += fake_host.clock_step;
	if (fake_host.host_tsc) {
		clock->flags |= KVM_CLOCK_HOST_TSC;
		clock->host_tsc = fake_host.host_tsc;
	}
	return 0;
}

static int vm_ioctl(unsigned long request, void *arg)
{
	struct kvm_irqchip *chip = arg;

	switch (request) {
	case KVM_CHECK_EXTENSION:
		return (uintptr_t)arg == KVM_CAP_XSAVE2 ? fake_host.xsave_size
							: 0;
	case KVM_GET_TSC_KHZ:
		return (int)fake_host.tsc_khz;
	case KVM_SET_USER_MEMORY_REGION:
		return set_slot(arg);
	case KVM_GET_DIRTY_LOG:
		return dirty_log(arg);
	case KVM_GET_IRQCHIP:
		return copy(chip, &fake_host.chips[chip->chip_id],
			    sizeof(*chip));
	case KVM_SET_IRQCHIP:
		return copy(&fake_host.chips[chip->chip_id], chip,
			    sizeof(*chip));
	case KVM_GET_PIT2:
		return copy(arg, &fake_host.pit, sizeof(fake_host.pit));
	case KVM_SET_PIT2:
		return copy(&fake_host.pit, arg, sizeof(fake_host.pit));
	case KVM_GET_CLOCK:
		return get_clock(arg);
	case KVM_SET_CLOCK:
		return copy(&fake_host.clock, arg, sizeof(fake_host.clock));
	default:
		return refuse(ENOTTY);
	}
}

static int kvm_ioctl(unsigned long request, void *arg)
{
	switch (request) {
	case KVM_CHECK_EXTENSION:
		return (uintptr_t)arg == KVM_CAP_NR_MEMSLOTS
			       ? fake_host.slot_count
			       : 0;
	case KVM_GET_SUPPORTED_CPUID:
		return get_cpuid(arg, fake_host.supported_count,
				 fake_host.supported);
	case KVM_GET_MSR_INDEX_LIST:
		return list_msrs(arg);
	default:
		return refuse(ENOTTY);
	}
}

int __wrap_ioctl(int fd, unsigned long request, void *arg)
{
	if (fd < FAKE_KVM_FD || fd >= FAKE_VCPU_FD + FAKE_VCPUS)
		return __real_ioctl(fd, request, arg);
	if (fake_host.call_count < FAKE_CALLS_MAX)
		fake_host.calls[fake_host.call_count++] =
			(struct fake_call){fd, request};
	if (request == fake_host.fail)
		return refuse(EINVAL);
	if (fd == FAKE_KVM_FD)
		return kvm_ioctl(request, arg);
	if (fd == FAKE_VM_FD)
		return vm_ioctl(request, arg);
	return vcpu_ioctl(&fake_host.vcpus[fd - FAKE_VCPU_FD], request, arg);
}
