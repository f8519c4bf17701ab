/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/vcpu_x86.h"

#include <cpuid.h>
#include <linux/kvm.h>
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

/* What a host might offer: enough leaves for every rule. */
static const struct kvm_cpuid_entry2 common_leaves[] = {
	{.function = 1, .ecx = 1u << 15, .ebx = 0xffffffff},
	{.function = 4, .index = 0, .eax = 0xfc000000 | 1 << 5 | 1},
	{.function = 4, .index = 3, .eax = 3 << 5 | 3},
	{.function = 6, .eax = 0xff, .ecx = 0xff},
	{.function = 7, .ecx = 0xff},
	{.function = 0xa, .eax = 0x07300804, .edx = 1},
	{.function = 0x40000000, .ebx = 0x4b4d564b},
	{.function = 0x80000002},
	{.function = 0x80000003},
	{.function = 0x80000004},
	{.function = 0x80000008, .ecx = 0xffff},
	{.function = 0x8000001d, .index = 0, .eax = 1 << 5 | 1},
	{.function = 0x8000001d, .index = 3, .eax = 3 << 5 | 3},
	{.function = 0x8000001e, .eax = 99, .ebx = 0xffff, .ecx = 0x703},
};

static struct kvm_cpuid2 *make_host(uint32_t vendor_ebx)
{
	uint32_t count = ARRAY_SIZE(common_leaves);
	struct kvm_cpuid2 *host = calloc(
		1, sizeof(*host) + (count + 1) * sizeof(host->entries[0]));

	assert_non_null(host);
	host->nent = count + 1;
	host->entries[0].ebx = vendor_ebx;
	memcpy(&host->entries[1], common_leaves, sizeof(common_leaves));
	return host;
}

static const struct kvm_cpuid_entry2 *get(const struct kvm_cpuid2 *cpuid,
					  uint32_t leaf, uint32_t subleaf)
{
	for (uint32_t i = 0; i < cpuid->nent; i++)
		if (cpuid->entries[i].function == leaf &&
		    cpuid->entries[i].index == subleaf)
			return &cpuid->entries[i];
	fail_msg("leaf %#x.%u is missing", leaf, subleaf);
	abort(); /* not reached; the compiler can't know */
}

static struct kvm_cpuid2 *shape(uint32_t vendor_ebx, uint32_t vcpus, bool smt,
				uint32_t id)
{
	const struct cpu_topology topology = {vcpus, smt};
	struct kvm_cpuid2 *host = make_host(vendor_ebx);
	struct kvm_cpuid2 *cpuid = vcpu_x86_cpuid(host, &topology, id);

	free(host);
	assert_non_null(cpuid);
	return cpuid;
}

static void test_cpuid_leaf_1_names_this_vcpu(void **state)
{
	struct kvm_cpuid2 *cpuid = shape(signature_INTEL_ebx, 4, false, 3);
	const struct kvm_cpuid_entry2 *e = get(cpuid, 1, 0);

	(void)state;
	assert_int_equal(e->ebx >> 24, 3);
	assert_int_equal(e->ebx >> 16 & 0xff, 4);
	assert_int_equal(e->ebx >> 8 & 0xff, 8);
	assert_int_equal(e->ecx >> 15 & 1, 0); /* PDCM */
	assert_int_equal(e->ecx >> 24 & 1, 1); /* TSC deadline */
	assert_int_equal(e->ecx >> 31, 1);     /* hypervisor */
	assert_int_equal(e->edx >> 28 & 1, 1); /* HTT */
	free(cpuid);
	cpuid = shape(signature_INTEL_ebx, 1, false, 0);
	assert_int_equal(get(cpuid, 1, 0)->edx >> 28 & 1, 0);
	free(cpuid);
}

static void test_cpuid_power_and_counters_are_hidden(void **state)
{
	struct kvm_cpuid2 *cpuid = shape(signature_INTEL_ebx, 1, false, 0);

	(void)state;
	assert_int_equal(get(cpuid, 6, 0)->eax & 2, 0);
	assert_int_equal(get(cpuid, 6, 0)->ecx & 8, 0);
	assert_int_equal(get(cpuid, 7, 0)->ecx & 32, 0);
	assert_int_equal(get(cpuid, 7, 0)->ebx, 1 << 6 | 1 << 13);
	assert_int_equal(get(cpuid, 0xa, 0)->eax, 0);
	assert_int_equal(get(cpuid, 0xa, 0)->edx, 0);
	free(cpuid);
}

static void test_cpuid_topology_counts_threads_then_cores(void **state)
{
	static const struct {
		bool smt;
		uint32_t shift, threads, l1_sharers;
	} cases[] = {
		{false, 0, 1, 0},
		{true, 1, 2, 1},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct kvm_cpuid2 *cpuid =
			shape(signature_INTEL_ebx, 4, cases[i].smt, 2);

		assert_int_equal(get(cpuid, 0xb, 0)->eax, cases[i].shift);
		assert_int_equal(get(cpuid, 0xb, 0)->ebx, cases[i].threads);
		assert_int_equal(get(cpuid, 0xb, 0)->edx, 2);
		assert_int_equal(get(cpuid, 0xb, 1)->eax, 5);
		assert_int_equal(get(cpuid, 0xb, 1)->ebx, 4);
		assert_int_equal(get(cpuid, 0xb, 1)->ecx, 0x201);
		assert_int_equal(get(cpuid, 0xb, 2)->ebx, 0);
		assert_int_equal(get(cpuid, 4, 0)->eax >> 14 & 0xfff,
				 cases[i].l1_sharers);
		assert_int_equal(get(cpuid, 4, 3)->eax >> 14 & 0xfff, 3);
		assert_int_equal(get(cpuid, 4, 0)->eax >> 26,
				 4 / cases[i].threads - 1);
		free(cpuid);
	}
}

static void test_cpuid_amd_leaves_follow_the_topology(void **state)
{
	struct kvm_cpuid2 *cpuid = shape(signature_AMD_ebx, 4, true, 3);

	(void)state;
	assert_int_equal(get(cpuid, 0x80000008, 0)->ecx, 0x5f03);
	assert_int_equal(get(cpuid, 0x8000001d, 0)->eax >> 14 & 0xfff, 1);
	assert_int_equal(get(cpuid, 0x8000001d, 3)->eax >> 14 & 0xfff, 3);
	assert_int_equal(get(cpuid, 0x8000001e, 0)->eax, 3);
	assert_int_equal(get(cpuid, 0x8000001e, 0)->ebx, 0x101);
	assert_int_equal(get(cpuid, 0x8000001e, 0)->ecx, 0);
	free(cpuid);
}

static void test_cpuid_brand_is_generic(void **state)
{
	struct kvm_cpuid2 *amd = shape(signature_AMD_ebx, 1, false, 0);
	struct kvm_cpuid2 *intel = shape(signature_INTEL_ebx, 1, false, 0);

	(void)state;
	assert_memory_equal(&get(amd, 0x80000002, 0)->eax, "AMD EPYC", 8);
	assert_memory_equal(&get(intel, 0x80000002, 0)->eax, "Intel(R) Xeon(R)",
			    16);
	free(amd);
	free(intel);
}

static void test_cpuid_hypervisor_leaf_is_kept(void **state)
{
	struct kvm_cpuid2 *cpuid = shape(signature_AMD_ebx, 1, false, 0);

	(void)state;
	assert_int_equal(get(cpuid, 0x40000000, 0)->ebx, 0x4b4d564b);
	free(cpuid);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_cpuid_leaf_1_names_this_vcpu),
		cmocka_unit_test(test_cpuid_power_and_counters_are_hidden),
		cmocka_unit_test(test_cpuid_topology_counts_threads_then_cores),
		cmocka_unit_test(test_cpuid_amd_leaves_follow_the_topology),
		cmocka_unit_test(test_cpuid_brand_is_generic),
		cmocka_unit_test(test_cpuid_hypervisor_leaf_is_kept),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
