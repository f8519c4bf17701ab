/* SPDX-License-Identifier: Apache-2.0 */
/* Prints the CPUID leaves that a monitor shapes, and checks the registers and
 * MSRs that it sets before the first instruction. */
#include "guest.h"

static void print_leaf(uint32_t leaf, uint32_t subleaf)
{
	struct cpuid r = cpuid(leaf, subleaf);
	const uint32_t words[] = {leaf, subleaf, r.eax, r.ebx, r.ecx, r.edx};

	print("cpuid");
	for (size_t i = 0; i < ARRAY_SIZE(words); i++) {
		print(" ");
		print_hex(words[i]);
	}
	print("\n");
}

static const struct {
	const char *name;
	uint32_t index;
	uint64_t value;
} msrs[] = {
	{"sysenter_cs", 0x174, 0},
	{"sysenter_esp", 0x175, 0},
	{"sysenter_eip", 0x176, 0},
	{"star", 0xc0000081, 0},
	{"lstar", 0xc0000082, 0},
	{"cstar", 0xc0000083, 0},
	{"syscall_mask", 0xc0000084, 0},
	{"kernel_gs_base", 0xc0000102, 0},
	{"mtrr_default_type", 0x2ff, 0x806},
};

void guest_main(uintptr_t info, uint32_t protocol)
{
	static const struct {
		uint32_t leaf, subleaf;
	} leaves[] = {
		{0, 0},		 {1, 0},	  {4, 0},
		{4, 3},		 {6, 0},	  {7, 0},
		{0xa, 0},	 {0xb, 0},	  {0xb, 1},
		{0x40000000, 0}, {0x40000001, 0}, {0x80000000, 0},
		{0x80000002, 0}, {0x80000003, 0}, {0x80000004, 0},
		{0x8000001d, 0}, {0x8000001e, 0},
	};

	(void)info;
	(void)protocol;
	for (size_t i = 0; i < ARRAY_SIZE(leaves); i++)
		print_leaf(leaves[i].leaf, leaves[i].subleaf);
	for (size_t i = 0; i < ARRAY_SIZE(msrs); i++)
		check(rdmsr(msrs[i].index) == msrs[i].value, msrs[i].name,
		      rdmsr(msrs[i].index));
	check(rdmsr(0x1a0) & 1, "fast_strings", rdmsr(0x1a0));
	print_done();
	guest_reset();
}
