/* SPDX-License-Identifier: Apache-2.0 */
/* Where a machine puts memory that is not RAM. Linked with --wrap=ioctl. */
#include "vmm/machine_private.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>
#include <sys/ioctl.h>

#include <cmocka.h>

#define SLOTS_MAX 8

int __wrap_ioctl(int fd, unsigned long request, void *arg);

static struct {
	uint32_t leaf, eax; /* CPUID has this leaf only */
	unsigned asked;
	int error; /* of new slots */
	size_t count;
	struct kvm_userspace_memory_region slots[SLOTS_MAX];
} host;

int __wrap_ioctl(int fd, unsigned long request, void *arg)
{
	struct kvm_cpuid2 *cpuid = arg;

	(void)fd;
	if (request == KVM_GET_SUPPORTED_CPUID) {
		host.asked++;
		cpuid->nent = 1;
		cpuid->entries[0] = (struct kvm_cpuid_entry2){
			.function = host.leaf, .eax = host.eax};
		return 0;
	}
	assert_int_equal(request, KVM_SET_USER_MEMORY_REGION);
	assert_true(host.count < SLOTS_MAX);
	memcpy(&host.slots[host.count++], arg, sizeof(host.slots[0]));
	errno = host.error;
	return host.error ? -1 : 0;
}

static int setup(void **state)
{
	struct machine *machine = calloc(1, sizeof(*machine));

	assert_non_null(machine);
	memset(&host, 0, sizeof(host));
	host.leaf = 0x80000008;
	host.eax = 40;
	machine->device_memory_next = MEMMAP_DEVICE_MEMORY;
	*state = machine;
	return 0;
}

static int teardown(void **state)
{
	struct machine *machine = *state;

	free(machine->kvm.cpuid);
	free(machine);
	return 0;
}

static void test_take_addresses_goes_upwards(void **state)
{
	struct machine *machine = *state;
	uint64_t gpa = 0;

	assert_int_equal(machine_take_addresses(machine, "a", MIB(2), MIB(2),
						&gpa, NULL),
			 0);
	assert_int_equal(gpa, MEMMAP_DEVICE_MEMORY);
	assert_int_equal(machine_take_addresses(machine, "b", GIB(1), MIB(128),
						&gpa, NULL),
			 0);
	assert_int_equal(gpa, MEMMAP_DEVICE_MEMORY + MIB(128));
	assert_int_equal(machine->device_memory_next,
			 MEMMAP_DEVICE_MEMORY + MIB(128) + GIB(1));
	assert_int_equal(host.asked, 1);
}

static void test_take_addresses_keeps_to_the_width(void **state)
{
	struct machine *machine = *state;
	struct error err = {0};
	uint64_t gpa = 7;

	assert_int_equal(machine_take_addresses(machine, "Pmem p",
						GIB(512) + MIB(2), MIB(2), &gpa,
						&err),
			 -ENOSPC);
	assert_string_equal(err.text,
			    "Pmem p: 524290 MiB at guest address 0x8000000000 "
			    "do not fit below 0x10000000000, where its "
			    "addresses end");
	assert_int_equal(gpa, 7);
	assert_int_equal(machine_take_addresses(machine, "Pmem p", UINT64_MAX,
						MIB(2), &gpa, &err),
			 -ENOSPC);
	assert_int_equal(machine_take_addresses(machine, "Pmem p", GIB(512),
						MIB(2), &gpa, &err),
			 0);
	assert_int_equal(
		machine_take_addresses(machine, "Pmem p", 1, 1, &gpa, &err),
		-ENOSPC);
}

static void test_address_end_is_what_can_be_mapped(void **state)
{
	static const struct {
		uint32_t leaf, eax;
		uint64_t end;
	} cases[] = {
		{0x80000008, 39, BIT(39)},
		{0x80000008, 0x3030, BIT(48)},
		{0x80000008, 0x303934, BIT(48)},
		{0x80000008, 0x393934, BIT(52)},
		{0x80000008, 0xff, BIT(63)},
		{0x80000007, 52, BIT(36)},
	};
	struct machine *machine = *state;

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		uint64_t end = 0;

		free(take_ptr(machine->kvm.cpuid));
		host.leaf = cases[i].leaf;
		host.eax = cases[i].eax;
		assert_int_equal(kvm_address_end(&machine->kvm, &end, NULL), 0);
		assert_int_equal(end, cases[i].end);
	}
}

static void note(void *arg, uint64_t gpa)
{
	*(uint64_t *)arg = gpa;
}

static void test_place_windows_registers_and_tells(void **state)
{
	static char memory[1];
	struct machine *machine = *state;
	uint64_t gpas[2] = {0};
	const struct machine_window windows[] = {
		{"a", memory, MIB(4), false, note, &gpas[0]},
		{"b", memory, MIB(2), true, note, &gpas[1]},
	};
	const struct machine_request request = {.windows = windows,
						.window_count = 2};
	const struct kvm_userspace_memory_region *slots = host.slots;

	assert_int_equal(machine_place_windows(machine, &request, NULL), 0);
	assert_int_equal(gpas[0], MEMMAP_DEVICE_MEMORY);
	assert_int_equal(gpas[1], MEMMAP_DEVICE_MEMORY + MIB(4));
	assert_int_equal(host.count, 2);
	assert_int_equal(slots[0].slot, KVM_SLOT_PMEM);
	assert_int_equal(slots[0].flags, 0);
	assert_int_equal(slots[0].memory_size, MIB(4));
	assert_int_equal(slots[0].userspace_addr, (uintptr_t)memory);
	assert_int_equal(slots[1].slot, KVM_SLOT_PMEM + 1);
	assert_int_equal(slots[1].flags, KVM_MEM_READONLY);
	assert_int_equal(slots[1].guest_phys_addr, gpas[1]);
}

static void test_place_windows_says_why_not(void **state)
{
	struct machine *machine = *state;
	uint64_t gpa = 0;
	const struct machine_window window = {"a",   &gpa, MIB(2),
					      false, note, &gpa};
	const struct machine_request request = {.windows = &window,
						.window_count = 1};
	struct error err = {0};

	host.error = ENOMEM;
	assert_int_equal(machine_place_windows(machine, &request, &err),
			 -ENOMEM);
	assert_string_equal(err.text,
			    "Pmem device a: KVM_SET_USER_MEMORY_REGION of slot "
			    "16: Out of memory (os error 12)");
	machine->address_end = MEMMAP_DEVICE_MEMORY;
	assert_int_equal(machine_place_windows(machine, &request, &err),
			 -ENOSPC);
	assert_string_equal(err.text,
			    "Pmem device a: persistent memory: 2 MiB at guest "
			    "address 0x8000200000 do not fit below "
			    "0x8000000000, where its addresses end");
	assert_int_equal(gpa, 0);
}

int main(void)
{
#define CASE(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
	const struct CMUnitTest tests[] = {
		CASE(test_take_addresses_goes_upwards),
		CASE(test_take_addresses_keeps_to_the_width),
		CASE(test_address_end_is_what_can_be_mapped),
		CASE(test_place_windows_registers_and_tells),
		CASE(test_place_windows_says_why_not),
	};
#undef CASE

	return cmocka_run_group_tests(tests, NULL, NULL);
}
