/* SPDX-License-Identifier: Apache-2.0 */
/*
 * State from one VM to another on the machine's own /dev/kvm, without running a
 * guest but for one instruction. Skipped where there is no KVM.
 */
#include "vmm/gmem.h"
#include "vmm/host_cpu_x86.h"
#include "vmm/kvm.h"
#include "vmm/kvm_state_x86.h"
#include "vmm/msrs_x86.h"
#include "vmm/vcpu.h"
#include "vmm/vcpu_state_x86.h"
#include "vmm/vcpu_x86.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <time.h>

#include <cmocka.h>

#define VCPUS 2
#define MEM_SIZE MIB(4)
#define WALL_CLOCK_GPA 0x3000
#define SYSTEM_TIME_GPA 0x4000
#define CODE_GPA 0x5000

struct vm {
	struct kvm kvm;
	struct gmem *mem;
	struct vcpu *vcpus[VCPUS];
	struct vcpu_machine machine;
};

struct fixture {
	struct vm first, second;
	struct state_writer writer;
	struct state_file file;
	struct error err;
};

/* Everything the other ioctls return, for comparison. */
struct seen {
	struct kvm_mp_state mp_state;
	struct kvm_regs regs;
	struct kvm_sregs sregs;
	struct kvm_xcrs xcrs;
	struct kvm_debugregs debugregs;
	struct kvm_lapic_state lapic;
	struct kvm_vcpu_events events;
	struct kvm_xsave xsave; /* last: newer headers let it grow */
};

#define NO_ERROR(f, expression)                                                \
	do {                                                                   \
		int ret_ = (expression);                                       \
		assert_string_equal((f)->err.text, "");                        \
		assert_int_equal(ret_, 0);                                     \
	} while (0)

#define DO(fd, request, arg) assert_true(ioctl(fd, request, arg) >= 0)

/* -------------------------------------------------------------------- VMs */

static void make_vm(struct fixture *f, struct vm *vm, bool with_pit)
{
	const struct gmem_range range = {0, MEM_SIZE};
	const struct gmem_request request = {
		.ranges = &range, .count = 1, .fd = -1};

	NO_ERROR(f, kvm_open(&vm->kvm, &f->err));
	NO_ERROR(f, gmem_create(&vm->mem, &request, &f->err));
	NO_ERROR(f, kvm_set_memory(&vm->kvm, vm->mem, true, &f->err));
	NO_ERROR(f, kvm_create_irqchip(&vm->kvm, with_pit, &f->err));
	for (uint32_t i = 0; i < VCPUS; i++)
		NO_ERROR(f, vcpu_create(&vm->vcpus[i], &vm->kvm, i,
					&vm->machine, &f->err));
}

static void boot_vm(struct fixture *f, struct vm *vm)
{
	const struct cpu_topology topology = {VCPUS, false};
	const struct boot_entry entry = {.rip = CODE_GPA};

	for (uint32_t i = 0; i < VCPUS; i++)
		NO_ERROR(f, vcpu_x86_setup(vm->vcpus[i], &vm->kvm, &topology,
					   &entry, &f->err));
}

static void save_vm(struct fixture *f, struct vm *vm)
{
	struct kvm *kvm = &vm->kvm;
	struct kvm_x86_clock clock;

	state_writer_init(&f->writer);
	NO_ERROR(f, kvm_x86_read_clock(kvm, &clock, &f->err));
	for (uint32_t i = 0; i < VCPUS; i++)
		NO_ERROR(f, vcpu_x86_save(vm->vcpus[i], kvm, &clock, &f->writer,
					  &f->err));
	NO_ERROR(f,
		 kvm_x86_save(kvm, vm->vcpus[0], &clock, &f->writer, &f->err));
	assert_int_equal(state_writer_finish(&f->writer), 0);
	state_file_release(&f->file);
	NO_ERROR(f, state_file_parse(&f->file, take_ptr(f->writer.bytes),
				     f->writer.len, &f->err));
}

static void load_vm(struct fixture *f, struct vm *vm, bool clock_realtime)
{
	struct kvm_x86_gap gap;

	NO_ERROR(f, kvm_x86_load_clock(&vm->kvm, &f->file, clock_realtime, &gap,
				       &f->err));
	for (uint32_t i = 0; i < VCPUS; i++)
		NO_ERROR(f, vcpu_x86_load(vm->vcpus[i], &vm->kvm, &f->file,
					  &gap, &f->err));
	NO_ERROR(f, kvm_x86_load(&vm->kvm, vm->vcpus[0], &f->file, &f->err));
}

static void drop_vm(struct vm *vm)
{
	for (size_t i = 0; i < VCPUS; i++)
		vcpu_destroy(vm->vcpus[i]);
	kvm_close(&vm->kvm);
	gmem_destroy(vm->mem);
}

static int setup(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));

	assert_non_null(f);
	kvm_init(&f->first.kvm);
	kvm_init(&f->second.kvm);
	*state = f;
	return 0;
}

static int teardown(void **state)
{
	struct fixture *f = *state;

	drop_vm(&f->first);
	drop_vm(&f->second);
	state_writer_release(&f->writer);
	state_file_release(&f->file);
	free(f);
	return 0;
}

/* For the machine at hand, not for the program. */
static void need_kvm(struct fixture *f)
{
	struct kvm kvm;

	if (kvm_open(&kvm, &f->err)) {
		print_message("no KVM: %s\n", f->err.text);
		skip();
	}
	kvm_close(&kvm);
}

/* ----------------------------------------------------- distinctive contents */

static uint64_t get_msr(const struct vcpu *vcpu, uint32_t index)
{
	AUTO_FREE struct kvm_msrs *msrs = msrs_x86_alloc(1);

	assert_non_null(msrs);
	msrs->entries[0].index = index;
	assert_int_equal(ioctl(vcpu_fd(vcpu), KVM_GET_MSRS, msrs), 1);
	return msrs->entries[0].data;
}

static void set_msr(const struct vcpu *vcpu, uint32_t index, uint64_t value)
{
	AUTO_FREE struct kvm_msrs *msrs = msrs_x86_alloc(1);

	assert_non_null(msrs);
	msrs->entries[0].index = index;
	msrs->entries[0].data = value;
	assert_int_equal(ioctl(vcpu_fd(vcpu), KVM_SET_MSRS, msrs), 1);
}

static void put32(struct kvm_lapic_state *lapic, size_t off, uint32_t value)
{
	memcpy(lapic->regs + off, &value, sizeof(value));
}

/* Registers, segments, FPU. */
static void set_core(const struct vcpu *vcpu)
{
	uint64_t id = vcpu_id(vcpu);
	struct kvm_regs regs = {
		.rax = 0xaaaa0000 + id,
		.r15 = UINT64_C(0x1234567812345678) + id,
		.rsp = 0x2000 + id,
		.rip = CODE_GPA,
		.rflags = 0x202,
	};
	struct kvm_xsave xsave;
	uint64_t features = 3;

	DO(vcpu_fd(vcpu), KVM_SET_REGS, &regs);
	DO(vcpu_fd(vcpu), KVM_GET_XSAVE, &xsave);
	/* x87: FCW; then MXCSR, xmm0 to xmm15 (SDM 1, 13.4.1). */
	xsave.region[0] = 0x27f;
	xsave.region[6] = 0x1fa0;
	for (uint32_t i = 40; i < 104; i++)
		xsave.region[i] = 0x1000000u * (uint32_t)(id + 1) + i;
	memcpy(&xsave.region[128], &features, sizeof(features));
	DO(vcpu_fd(vcpu), KVM_SET_XSAVE, &xsave);
}

static void set_debugregs(const struct vcpu *vcpu)
{
	struct kvm_debugregs debugregs;

	DO(vcpu_fd(vcpu), KVM_GET_DEBUGREGS, &debugregs);
	debugregs.db[0] = 0x1111 + vcpu_id(vcpu);
	debugregs.db[3] = 0x3333;
	debugregs.dr7 = 0x403;
	DO(vcpu_fd(vcpu), KVM_SET_DEBUGREGS, &debugregs);
}

/* The timer in TSC deadline mode, and armed: two minutes from now or so. */
static void set_lapic(const struct vcpu *vcpu)
{
	enum { TPR = 0x80, SVR = 0xf0, LVT_TIMER = 0x320, DEADLINE = 2 << 17 };
	struct kvm_lapic_state lapic;
	uint64_t now;

	DO(vcpu_fd(vcpu), KVM_GET_LAPIC, &lapic);
	put32(&lapic, SVR, 0x1ff);
	put32(&lapic, TPR, 0x30);
	put32(&lapic, LVT_TIMER, DEADLINE | (0x40 + vcpu_id(vcpu)));
	DO(vcpu_fd(vcpu), KVM_SET_LAPIC, &lapic);
	now = get_msr(vcpu, 0x10);
	set_msr(vcpu, 0x6e0, now + UINT64_C(300000000000));
	assert_true(get_msr(vcpu, 0x6e0) > now);
}

static void set_msrs(const struct vcpu *vcpu)
{
	static const struct {
		uint32_t index;
		uint64_t value;
	} msrs[] = {
		{0x174, 0x10},			  /* SYSENTER_CS */
		{0x176, 0x1760},		  /* SYSENTER_EIP */
		{0xc0000081, 0x23001000000000},	  /* STAR */
		{0xc0000082, 0xffffffff81000000}, /* LSTAR */
		{0xc0000102, 0xffff888000000000}, /* KERNEL_GS_BASE */
		{0x277, 0x0007040600070406}, /* PAT without write-protect */
		{0x200, 0x80000006},	     /* an MTRR's base */
		{0x2ff, 0xc06},		     /* MTRRdefType */
		{0x4b564d01, SYSTEM_TIME_GPA | 1}, /* kvmclock */
		{0x4b564d05, 0},		   /* no polling by the host */
		{0x4b564d00, WALL_CLOCK_GPA},	   /* of the VM */
		{0x3b, 0},			   /* TSC_ADJUST */
	};

	for (size_t i = 0; i < ARRAY_SIZE(msrs); i++)
		set_msr(vcpu, msrs[i].index, msrs[i].value);
}

static void set_events(const struct vcpu *vcpu)
{
	struct kvm_vcpu_events events;

	DO(vcpu_fd(vcpu), KVM_GET_VCPU_EVENTS, &events);
	events.nmi.pending = 1;
	events.flags |= KVM_VCPUEVENT_VALID_NMI_PENDING;
	DO(vcpu_fd(vcpu), KVM_SET_VCPU_EVENTS, &events);
}

static void set_vcpu(const struct vcpu *vcpu)
{
	struct kvm_mp_state mp_state = {KVM_MP_STATE_HALTED};

	set_core(vcpu);
	set_debugregs(vcpu);
	set_lapic(vcpu);
	set_msrs(vcpu);
	set_events(vcpu);
	if (vcpu_id(vcpu) == 0)
		DO(vcpu_fd(vcpu), KVM_SET_MP_STATE, &mp_state);
}

static void set_ioapic(const struct vm *vm)
{
	struct kvm_irqchip chip = {.chip_id = KVM_IRQCHIP_IOAPIC};

	DO(vm->kvm.vm_fd, KVM_GET_IRQCHIP, &chip);
	for (uint32_t i = 0; i < KVM_IOAPIC_NUM_PINS; i++) {
		chip.chip.ioapic.redirtbl[i].bits = 0;
		chip.chip.ioapic.redirtbl[i].fields.vector =
			(uint8_t)(0x50 + i);
		chip.chip.ioapic.redirtbl[i].fields.mask = i & 1;
		chip.chip.ioapic.redirtbl[i].fields.dest_id = i % VCPUS;
	}
	DO(vm->kvm.vm_fd, KVM_SET_IRQCHIP, &chip);
}

/* -------------------------------------------------------------- comparison */

static void look(const struct vcpu *vcpu, struct seen *seen)
{
	int fd = vcpu_fd(vcpu);

	memset(seen, 0, sizeof(*seen));
	DO(fd, KVM_GET_MP_STATE, &seen->mp_state);
	DO(fd, KVM_GET_REGS, &seen->regs);
	DO(fd, KVM_GET_SREGS, &seen->sregs);
	DO(fd, KVM_GET_XSAVE, &seen->xsave);
	DO(fd, KVM_GET_XCRS, &seen->xcrs);
	DO(fd, KVM_GET_DEBUGREGS, &seen->debugregs);
	DO(fd, KVM_GET_LAPIC, &seen->lapic);
	DO(fd, KVM_GET_VCPU_EVENTS, &seen->events);
}

/* The TSC, and of Hyper-V's the time and how long the vCPU's thread ran. */
static bool runs_on(uint32_t msr)
{
	return msr == 0x10 || msr == 0x40000010 || msr == 0x40000020;
}

static void compare_msrs(struct fixture *f, size_t i)
{
	AUTO_FREE struct kvm_msrs *a = NULL;
	AUTO_FREE struct kvm_msrs *b = NULL;

	NO_ERROR(f,
		 msrs_x86_read(f->first.vcpus[i], &f->first.kvm, &a, &f->err));
	NO_ERROR(f, msrs_x86_read(f->second.vcpus[i], &f->second.kvm, &b,
				  &f->err));
	assert_int_equal(a->nmsrs, b->nmsrs);
	for (uint32_t j = 0; j < a->nmsrs; j++) {
		assert_int_equal(a->entries[j].index, b->entries[j].index);
		/* They do in both, but not while the second was loaded. */
		if (runs_on(a->entries[j].index))
			assert_in_range(b->entries[j].data -
						a->entries[j].data +
						UINT64_C(10000000000),
					0, UINT64_C(20000000000));
		else
			assert_int_equal(a->entries[j].data,
					 b->entries[j].data);
	}
}

static void compare_cpuid(const struct vcpu *one, const struct vcpu *other)
{
	size_t size = sizeof(struct kvm_cpuid2) +
		      KVM_CPUID_ENTRIES_MAX * sizeof(struct kvm_cpuid_entry2);
	AUTO_FREE struct kvm_cpuid2 *a = calloc(1, size);
	AUTO_FREE struct kvm_cpuid2 *b = calloc(1, size);

	assert_non_null(a);
	assert_non_null(b);
	a->nent = b->nent = KVM_CPUID_ENTRIES_MAX;
	DO(vcpu_fd(one), KVM_GET_CPUID2, a);
	DO(vcpu_fd(other), KVM_GET_CPUID2, b);
	assert_memory_equal(a, b, size);
}

static void compare_vcpus(struct fixture *f)
{
	for (size_t i = 0; i < VCPUS; i++) {
		struct seen a, b;

		look(f->first.vcpus[i], &a);
		look(f->second.vcpus[i], &b);
		assert_memory_equal(&a.regs, &b.regs, sizeof(a.regs));
		assert_memory_equal(&a.sregs, &b.sregs, sizeof(a.sregs));
		assert_memory_equal(&a.xsave, &b.xsave, sizeof(a.xsave));
		assert_memory_equal(&a.lapic, &b.lapic, sizeof(a.lapic));
		assert_memory_equal(&a, &b, sizeof(a));
		assert_int_equal(b.events.nmi.pending, 1);
		compare_msrs(f, i);
		compare_cpuid(f->first.vcpus[i], f->second.vcpus[i]);
	}
}

static void compare_chips(struct fixture *f)
{
	for (uint32_t i = 0; i < 3; i++) {
		struct kvm_irqchip a = {.chip_id = i}, b = {.chip_id = i};

		DO(f->first.kvm.vm_fd, KVM_GET_IRQCHIP, &a);
		DO(f->second.kvm.vm_fd, KVM_GET_IRQCHIP, &b);
		assert_memory_equal(&a, &b, sizeof(a));
	}
}

/* ------------------------------------------------------------------- tests */

static uint64_t clock_of(const struct vm *vm)
{
	struct kvm_clock_data clock = {0};

	DO(vm->kvm.vm_fd, KVM_GET_CLOCK, &clock);
	return clock.clock;
}

static void test_state_goes_from_one_vm_to_another(void **state)
{
	struct fixture *f = *state;
	uint64_t clock, deadline;

	need_kvm(f);
	make_vm(f, &f->first, true);
	boot_vm(f, &f->first);
	for (size_t i = 0; i < VCPUS; i++)
		set_vcpu(f->first.vcpus[i]);
	set_ioapic(&f->first);
	deadline = get_msr(f->first.vcpus[0], 0x6e0);
	clock = clock_of(&f->first);
	save_vm(f, &f->first);
	make_vm(f, &f->second, true);
	load_vm(f, &f->second, false);
	assert_in_range(clock_of(&f->second), clock, clock + 5000000000);
	assert_int_equal(get_msr(f->second.vcpus[0], 0x6e0), deadline);
	assert_int_equal(get_msr(f->second.vcpus[1], 0x4b564d00),
			 WALL_CLOCK_GPA);
	compare_vcpus(f);
	compare_chips(f);
}

static void test_second_snapshot_is_like_the_first(void **state)
{
	struct fixture *f = *state;
	struct state_reader a, b;
	struct state_file first;

	need_kvm(f);
	make_vm(f, &f->first, false);
	boot_vm(f, &f->first);
	save_vm(f, &f->first);
	first = f->file;
	f->file = (struct state_file){0};
	save_vm(f, &f->first);
	for (uint16_t i = 0; i < VCPUS; i++) {
		assert_true(state_find(&first, STATE_TAG('V', 'C', 'P', 'U'), i,
				       &a));
		assert_true(state_find(&f->file, STATE_TAG('V', 'C', 'P', 'U'),
				       i, &b));
		assert_int_equal(a.left, b.left);
	}
	state_file_release(&first);
}

/* KVM looks at its clocks when a vCPU enters the guest. */
static void run_one_exit(const struct vm *vm)
{
	static const uint8_t code[] = {0xe6, 0x80}; /* out %al, $0x80 */
	const struct vcpu *vcpu = vm->vcpus[0];
	struct kvm_sregs sregs;
	struct kvm_regs regs = {.rip = CODE_GPA, .rflags = 2};
	struct kvm_run *run = mmap(NULL, vm->kvm.run_size, PROT_READ,
				   MAP_SHARED, vcpu_fd(vcpu), 0);

	assert_true(run != MAP_FAILED);
	assert_int_equal(gmem_write(vm->mem, CODE_GPA, code, sizeof(code)), 0);
	DO(vcpu_fd(vcpu), KVM_GET_SREGS, &sregs);
	sregs.cr0 = 1 << 4; /* real mode */
	sregs.cr4 = sregs.efer = 0;
	sregs.cs.l = 0;
	sregs.cs.base = sregs.cs.selector = 0;
	sregs.cs.limit = 0xffff;
	sregs.cs.g = 0;
	DO(vcpu_fd(vcpu), KVM_SET_SREGS, &sregs);
	DO(vcpu_fd(vcpu), KVM_SET_REGS, &regs);
	DO(vcpu_fd(vcpu), KVM_RUN, NULL);
	assert_int_equal(run->exit_reason, KVM_EXIT_IO);
	munmap(run, vm->kvm.run_size);
}

static void test_realtime_moves_the_clock_by_the_time_that_passed(void **state)
{
	const struct timespec pause = {.tv_nsec = 300000000};
	struct kvm_clock_data clock = {0};
	struct fixture *f = *state;
	uint64_t saved;

	need_kvm(f);
	make_vm(f, &f->first, false);
	boot_vm(f, &f->first);
	run_one_exit(&f->first);
	DO(f->first.kvm.vm_fd, KVM_GET_CLOCK, &clock);
	if (!(clock.flags & KVM_CLOCK_REALTIME)) {
		print_message("KVM does not tell the wall clock here\n");
		skip();
	}
	save_vm(f, &f->first);
	saved = clock_of(&f->first);
	nanosleep(&pause, NULL);
	make_vm(f, &f->second, false);
	load_vm(f, &f->second, true);
	assert_true(clock_of(&f->second) >= saved + 290000000);
}

static bool tsc_offset(struct vm *vm, unsigned long request, uint64_t *offset)
{
	const struct kvm_device_attr attr = {
		.group = KVM_VCPU_TSC_CTRL,
		.attr = KVM_VCPU_TSC_OFFSET,
		.addr = (uintptr_t)offset,
	};

	return ioctl(vcpu_fd(vm->vcpus[0]), request, &attr) == 0;
}

/* Some say yes to any offset, and run all guests on the host's TSC. */
static bool has_tsc_offset(struct vm *vm)
{
	uint64_t wanted = 123456789, found = 0;

	return tsc_offset(vm, KVM_SET_DEVICE_ATTR, &wanted) &&
	       tsc_offset(vm, KVM_GET_DEVICE_ATTR, &found) && found == wanted;
}

/* The guest's TSC at kvmclock 0, had it always run. */
static int64_t tsc_at_zero(struct vm *vm, uint32_t khz)
{
	struct kvm_clock_data clock = {0};
	uint64_t offset = 0;

	DO(vm->kvm.vm_fd, KVM_GET_CLOCK, &clock);
	assert_true(clock.flags & KVM_CLOCK_HOST_TSC);
	assert_true(tsc_offset(vm, KVM_GET_DEVICE_ATTR, &offset));
	return (int64_t)(clock.host_tsc + offset) -
	       (int64_t)((unsigned __int128)clock.clock * khz / 1000000);
}

/* A guest compares the two, and this process may stand still in between. */
static void test_tsc_and_clock_stay_together(void **state)
{
	struct fixture *f = *state;
	struct kvm_clock_data clock = {0};
	int64_t before, after;
	uint32_t khz;

	need_kvm(f);
	make_vm(f, &f->first, false);
	boot_vm(f, &f->first);
	run_one_exit(&f->first);
	khz = (uint32_t)ioctl(vcpu_fd(f->first.vcpus[0]), KVM_GET_TSC_KHZ, 0);
	DO(f->first.kvm.vm_fd, KVM_GET_CLOCK, &clock);
	if (!(clock.flags & KVM_CLOCK_HOST_TSC) || !has_tsc_offset(&f->first)) {
		print_message("KVM has no TSC of the guest's own here\n");
		skip();
	}
	before = tsc_at_zero(&f->first, khz);
	save_vm(f, &f->first);
	make_vm(f, &f->second, false);
	load_vm(f, &f->second, false);
	after = tsc_at_zero(&f->second, khz);
	/* Two microseconds, for what KVM rounds. */
	assert_in_range(after - before + khz / 500, 0, 2 * (khz / 500));
}

static void test_dirty_pages_of_the_guest_are_collected(void **state)
{
	struct fixture *f = *state;
	uint64_t bitmap[MEM_SIZE / 4096 / 64] = {0};

	need_kvm(f);
	make_vm(f, &f->first, false);
	boot_vm(f, &f->first);
	assert_true(f->first.kvm.logs_dirty);
	assert_int_equal(kvm_collect_dirty(&f->first.kvm, f->first.mem, bitmap),
			 0);
	assert_int_equal(bitmap[0], 0);
	/* KVM writes the wall clock, and marks what it writes. */
	set_msr(f->first.vcpus[0], 0x4b564d00, WALL_CLOCK_GPA);
	assert_int_equal(kvm_collect_dirty(&f->first.kvm, f->first.mem, bitmap),
			 0);
	assert_int_equal(bitmap[0], BIT(WALL_CLOCK_GPA / 4096));
	memset(bitmap, 0, sizeof(bitmap));
	assert_int_equal(kvm_collect_dirty(&f->first.kvm, f->first.mem, bitmap),
			 0);
	assert_int_equal(bitmap[0], 0);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_state_goes_from_one_vm_to_another),
		TEST(test_second_snapshot_is_like_the_first),
		TEST(test_realtime_moves_the_clock_by_the_time_that_passed),
		TEST(test_tsc_and_clock_stay_together),
		TEST(test_dirty_pages_of_the_guest_are_collected),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
