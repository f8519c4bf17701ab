/* SPDX-License-Identifier: Apache-2.0 */
/*
 * CPUID as the guest sees it.
 *
 * The host's supported leaves are copied, then shaped by a list of small
 * functions, one per leaf or family of leaves. Two things are rebuilt: the
 * topology (one socket; cores of one or two threads; APIC ids are the vCPU
 * numbers) and what would tell too much of, or promise too much about, the
 * host (power management, performance counters, model name).
 */
#include "vmm/vcpu_x86.h"

#include <cpuid.h>
#include <linux/kvm.h>
#include <stdio.h>
#include <string.h>

/* Entries that shaping may add to those of the host. */
#define EXTRA_ENTRIES 24

/* Every APIC id of a package fits in this many bits. */
#define CORE_LEVEL_SHIFT 5

#define BIT32(n) (UINT32_C(1) << (n))

struct shape {
	struct kvm_cpuid2 *cpuid;
	size_t capacity;
	uint32_t id;
	uint32_t vcpu_count;
	uint32_t threads_per_core;
	bool intel, amd;
};

static struct kvm_cpuid_entry2 *find(const struct shape *shape, uint32_t leaf,
				     uint32_t subleaf)
{
	for (uint32_t i = 0; i < shape->cpuid->nent; i++) {
		struct kvm_cpuid_entry2 *e = &shape->cpuid->entries[i];

		if (e->function == leaf && e->index == subleaf)
			return e;
	}
	return NULL;
}

/* Finds or adds; NULL only when the table is full. */
static struct kvm_cpuid_entry2 *provide(struct shape *shape, uint32_t leaf,
					uint32_t subleaf)
{
	struct kvm_cpuid_entry2 *e = find(shape, leaf, subleaf);

	if (e || shape->cpuid->nent == shape->capacity)
		return e;
	e = &shape->cpuid->entries[shape->cpuid->nent++];
	*e = (struct kvm_cpuid_entry2){
		.function = leaf,
		.index = subleaf,
		.flags = KVM_CPUID_FLAG_SIGNIFCANT_INDEX,
	};
	return e;
}

static void set_field(uint32_t *reg, unsigned low, unsigned width, uint32_t val)
{
	uint32_t mask = (BIT32(width) - 1) << low;

	*reg = (*reg & ~mask) | ((val << low) & mask);
}

static void set_bit(uint32_t *reg, unsigned bit, bool on)
{
	set_field(reg, bit, 1, on);
}

/* Processor identity and features. */
static void shape_leaf_1(struct shape *shape)
{
	struct kvm_cpuid_entry2 *e = find(shape, 1, 0);

	if (!e)
		return;
	set_field(&e->ebx, 8, 8, 8); /* CLFLUSH: 8 quadwords */
	set_field(&e->ebx, 16, 8, shape->vcpu_count);
	set_field(&e->ebx, 24, 8, shape->id);
	set_bit(&e->ecx, 15, false); /* PDCM: no performance capabilities */
	set_bit(&e->ecx, 24, true);  /* TSC deadline timer, in KVM's LAPIC */
	set_bit(&e->ecx, 31, true);  /* running under a hypervisor */
	set_bit(&e->edx, 28, shape->vcpu_count > 1); /* HTT */
}

/* Threads that share a cache: those of one core up to level 2, else all. */
static uint32_t cache_sharers(const struct shape *shape, uint32_t level)
{
	return level <= 2 ? shape->threads_per_core : shape->vcpu_count;
}

/* Deterministic cache parameters (Intel). */
static void shape_leaf_4(struct shape *shape)
{
	uint32_t cores = shape->vcpu_count / shape->threads_per_core;

	for (uint32_t i = 0; i < shape->cpuid->nent; i++) {
		struct kvm_cpuid_entry2 *e = &shape->cpuid->entries[i];
		uint32_t level = (e->eax >> 5) & 7;

		if (e->function != 4 || (e->eax & 0x1f) == 0)
			continue;
		set_field(&e->eax, 14, 12, cache_sharers(shape, level) - 1);
		set_field(&e->eax, 26, 6, cores ? cores - 1 : 0);
	}
}

/* Thermal and power: no turbo, no energy bias hint. */
static void shape_leaf_6(struct shape *shape)
{
	struct kvm_cpuid_entry2 *e = find(shape, 6, 0);

	if (!e)
		return;
	set_bit(&e->eax, 1, false);
	set_bit(&e->ecx, 3, false);
}

/* Structured extended features. */
static void shape_leaf_7(struct shape *shape)
{
	struct kvm_cpuid_entry2 *e = find(shape, 7, 0);

	if (!e)
		return;
	set_bit(&e->ebx, 6, true);  /* FDP_EXCPTN_ONLY */
	set_bit(&e->ebx, 13, true); /* FCS and FDS deprecated */
	set_bit(&e->ecx, 5, false); /* WAITPKG: would stall the host CPU */
}

/* Performance monitoring: none. */
static void shape_leaf_a(struct shape *shape)
{
	struct kvm_cpuid_entry2 *e = find(shape, 0xa, 0);

	if (e)
		e->eax = e->ebx = e->ecx = e->edx = 0;
}

/* Extended topology, leaves 0xb and 0x1f: threads, then cores. */
static void shape_topology_leaf(struct shape *shape, uint32_t leaf)
{
	const struct {
		uint32_t shift, count, type;
	} levels[] = {
		{shape->threads_per_core > 1, shape->threads_per_core, 1},
		{CORE_LEVEL_SHIFT, shape->vcpu_count, 2},
		{0, 0, 0}, /* no further level */
	};

	for (uint32_t i = 0; i < ARRAY_SIZE(levels); i++) {
		struct kvm_cpuid_entry2 *e = provide(shape, leaf, i);

		if (!e)
			return;
		e->eax = levels[i].shift;
		e->ebx = levels[i].count;
		e->ecx = i | levels[i].type << 8;
		e->edx = shape->id;
	}
}

static void shape_topology(struct shape *shape)
{
	shape_topology_leaf(shape, 0xb);
	if (find(shape, 0x1f, 0))
		shape_topology_leaf(shape, 0x1f);
}

/* L1 and L2 descriptors come from the processor the vCPU runs on. */
static void shape_legacy_caches(struct shape *shape)
{
	for (uint32_t leaf = 0x80000005; leaf <= 0x80000006; leaf++) {
		struct kvm_cpuid_entry2 *e = find(shape, leaf, 0);

		if (e)
			__cpuid(leaf, e->eax, e->ebx, e->ecx, e->edx);
	}
}

/* AMD: thread count and the width of an APIC id. */
static void shape_amd_size(struct shape *shape)
{
	struct kvm_cpuid_entry2 *e = find(shape, 0x80000008, 0);

	if (!e || !shape->amd)
		return;
	set_field(&e->ecx, 0, 8, shape->vcpu_count - 1);
	set_field(&e->ecx, 12, 4, CORE_LEVEL_SHIFT);
}

/* AMD: cache topology, as leaf 4. */
static void shape_amd_caches(struct shape *shape)
{
	for (uint32_t i = 0; i < shape->cpuid->nent; i++) {
		struct kvm_cpuid_entry2 *e = &shape->cpuid->entries[i];
		uint32_t level = (e->eax >> 5) & 7;

		if (e->function != 0x8000001d || (e->eax & 0x1f) == 0)
			continue;
		set_field(&e->eax, 14, 12, cache_sharers(shape, level) - 1);
	}
}

/* AMD: extended APIC id, core id, node id. */
static void shape_amd_core(struct shape *shape)
{
	struct kvm_cpuid_entry2 *e = find(shape, 0x8000001e, 0);

	if (!e || !shape->amd)
		return;
	e->eax = shape->id;
	e->ebx = (shape->id / shape->threads_per_core) |
		 (shape->threads_per_core - 1) << 8;
	e->ecx = 0; /* one node, number 0 */
}

/* The host's nominal frequency as its own brand string gives it (" @ 2.50GHz"),
 * empty when it gives none, as that of some virtual machines. */
static void host_frequency(char *buf, size_t len)
{
	uint32_t brand[13] = {0};
	const char *at;

	for (uint32_t i = 0; i < 3; i++)
		__cpuid(0x80000002 + i, brand[4 * i], brand[4 * i + 1],
			brand[4 * i + 2], brand[4 * i + 3]);
	at = strchr((const char *)brand, '@');
	snprintf(buf, len, "%s%s", at ? " " : "", at ? at : "");
}

/* A model name that does not tell one host of a fleet from another. */
static void shape_brand(struct shape *shape)
{
	char name[48] = {0};
	char frequency[20];
	uint32_t words[12];

	if (shape->intel) {
		host_frequency(frequency, sizeof(frequency));
		snprintf(name, sizeof(name), "Intel(R) Xeon(R) Processor%s",
			 frequency);
	} else if (shape->amd) {
		snprintf(name, sizeof(name), "AMD EPYC");
	} else {
		return;
	}
	memcpy(words, name, sizeof(words));
	for (uint32_t i = 0; i < 3; i++) {
		struct kvm_cpuid_entry2 *e = find(shape, 0x80000002 + i, 0);

		if (!e)
			continue;
		e->eax = words[4 * i];
		e->ebx = words[4 * i + 1];
		e->ecx = words[4 * i + 2];
		e->edx = words[4 * i + 3];
	}
}

static void (*const shapers[])(struct shape *) = {
	shape_leaf_1,	  shape_leaf_4,	  shape_leaf_6,	       shape_leaf_7,
	shape_leaf_a,	  shape_topology, shape_legacy_caches, shape_amd_size,
	shape_amd_caches, shape_amd_core, shape_brand,
};

/* "GenuineIntel" and "AuthenticAMD", by their first register. */
static void find_vendor(struct shape *shape)
{
	const struct kvm_cpuid_entry2 *e = find(shape, 0, 0);

	shape->intel = e && e->ebx == signature_INTEL_ebx;
	shape->amd = e && e->ebx == signature_AMD_ebx;
}

struct kvm_cpuid2 *vcpu_x86_cpuid(const struct kvm_cpuid2 *supported,
				  const struct cpu_topology *topology,
				  uint32_t id)
{
	size_t capacity = (size_t)supported->nent + EXTRA_ENTRIES;
	struct shape shape = {
		.capacity = capacity,
		.id = id,
		.vcpu_count = topology->vcpu_count,
		.threads_per_core =
			topology->smt && topology->vcpu_count > 1 ? 2 : 1,
	};

	shape.cpuid =
		calloc(1, sizeof(*shape.cpuid) +
				  capacity * sizeof(shape.cpuid->entries[0]));
	if (!shape.cpuid)
		return NULL;
	memcpy(shape.cpuid, supported,
	       sizeof(*supported) +
		       supported->nent * sizeof(shape.cpuid->entries[0]));
	find_vendor(&shape);
	for (size_t i = 0; i < ARRAY_SIZE(shapers); i++)
		shapers[i](&shape);
	return shape.cpuid;
}
