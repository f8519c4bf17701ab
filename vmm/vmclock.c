/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/vmclock.h"

#include "snapshot/state.h"
#include "vmm/gmem.h"
#include "vmm/irq.h"
#include "vmm/memmap_x86.h"
#include "vmm/system_data.h"

#include <errno.h>

static const struct system_data vmclock_data = {
	.name = "VMClock",
	.tag = STATE_TAG('V', 'C', 'L', 'K'),
	.len = VMCLOCK_LEN,
	.align = VMCLOCK_LEN,
};

#define MAGIC 0x4b4c4356
#define VERSION 1

enum {
	COUNTER_INVALID = 0xff, /* no clock is advertised */
	STATUS_UNKNOWN = 0,
	/* As in Linux's header, which all readers are built with; the document
	 * lacks flag 7 (monotonic) and numbers these one lower. */
	FLAG_VM_GEN_COUNTER_PRESENT = 1 << 8,
	FLAG_NOTIFICATION_PRESENT = 1 << 9,
};

/* From seq_count on, fields change only while that is odd. */
struct page {
	le32 magic;
	le32 size;
	le16 version;
	uint8_t counter_id;
	uint8_t time_type;
	le32 seq_count;
	le64 disruption_marker;
	le64 flags;
	uint8_t pad[2];
	uint8_t clock_status;
	uint8_t leap_second_smearing_hint;
	le16 tai_offset_sec;
	uint8_t leap_indicator;
	uint8_t counter_period_shift;
	le64 counter_value;
	le64 counter_period_frac_sec;
	le64 counter_period_esterror_rate_frac_sec;
	le64 counter_period_maxerror_rate_frac_sec;
	le64 time_sec;
	le64 time_frac_sec;
	le64 time_esterror_nanosec;
	le64 time_maxerror_nanosec;
	le64 vm_generation_counter;
};
_Static_assert(sizeof(struct page) == 0x70, "vmclock-abi.h");
_Static_assert(offsetof(struct page, flags) == 0x18, "vmclock-abi.h");
_Static_assert(offsetof(struct page, counter_value) == 0x28, "vmclock-abi.h");
_Static_assert(offsetof(struct page, vm_generation_counter) == 0x68,
	       "vmclock-abi.h");

int vmclock_create(struct vmclock *vmclock, struct gmem *mem,
		   const struct kvm *kvm, struct error *err)
{
	const struct page page = {
		.magic = le32_make(MAGIC),
		.size = le32_make(VMCLOCK_LEN),
		.version = le16_make(VERSION),
		.counter_id = COUNTER_INVALID,
		.clock_status = STATUS_UNKNOWN,
		.flags = le64_make(FLAG_VM_GEN_COUNTER_PRESENT |
				   FLAG_NOTIFICATION_PRESENT),
	};
	/* The rest of the page is zero, as all new memory is. */
	int ret = gmem_write(mem, MEMMAP_VMCLOCK, &page, sizeof(page));

	if (ret)
		return error_set_os(err, -ret, "Cannot write the VMClock:");
	*vmclock = (struct vmclock){
		.mem = mem,
		.kvm = kvm,
		.gpa = MEMMAP_VMCLOCK,
	};
	return 0;
}

void vmclock_save(const struct vmclock *vmclock, struct state_writer *writer)
{
	system_data_save(&vmclock_data, vmclock->gpa, writer);
}

int vmclock_load(struct vmclock *vmclock, struct gmem *mem,
		 const struct kvm *kvm, const struct state_file *file,
		 struct error *err)
{
	uint64_t gpa;
	int ret = system_data_load(&vmclock_data, mem, file, &gpa, err);

	if (!ret)
		*vmclock = (struct vmclock){.mem = mem, .kvm = kvm, .gpa = gpa};
	return ret;
}

/* ----------------------------------------------------------------- renewal */

static int set_seq_count(const struct vmclock *vmclock, uint32_t value)
{
	const le32 le = le32_make(value);

	return gmem_write(vmclock->mem,
			  vmclock->gpa + offsetof(struct page, seq_count), &le,
			  sizeof(le));
}

static int set_counter(const struct vmclock *vmclock, size_t off,
		       uint64_t value)
{
	const le64 le = le64_make(value);

	return gmem_write(vmclock->mem, vmclock->gpa + off, &le, sizeof(le));
}

/* UAPI.13, "The vmclock_abi structure", steps 1 to 3. Readers look at seq_count
 * before and after with a read barrier next to each look; ours are the write
 * barriers that go with these. The page is the guest's memory: what stands
 * there may be anything, and counting on from anything is fine. */
static int count_up(const struct vmclock *vmclock)
{
	struct page page;
	uint32_t odd;
	int ret = gmem_read(vmclock->mem, vmclock->gpa, &page, sizeof(page));

	if (ret)
		return ret;
	odd = le32_get(page.seq_count) | 1;
	ret = set_seq_count(vmclock, odd);
	__atomic_thread_fence(__ATOMIC_RELEASE);
	if (!ret)
		ret = set_counter(vmclock,
				  offsetof(struct page, disruption_marker),
				  le64_get(page.disruption_marker) + 1);
	if (!ret)
		ret = set_counter(vmclock,
				  offsetof(struct page, vm_generation_counter),
				  le64_get(page.vm_generation_counter) + 1);
	__atomic_thread_fence(__ATOMIC_RELEASE);
	return ret ? ret : set_seq_count(vmclock, odd + 1);
}

int vmclock_renew(const struct vmclock *vmclock, struct error *err)
{
	int ret = count_up(vmclock);

	if (ret)
		return error_set_os(err, -ret, "Cannot renew the VMClock:");
	irq_pulse(vmclock->kvm, IRQ_GSI_VMCLOCK);
	return 0;
}
