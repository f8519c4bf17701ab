/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/msrs_x86.h"

#include "vmm/kvm.h"
#include "vmm/log.h"
#include "vmm/vcpu.h"

#include <errno.h>
#include <string.h>
#include <sys/ioctl.h>

/* KVM's limit for one call is below 256. */
#define PER_CALL 255

#define MSR_WALL_CLOCK_OLD 0x11
#define MSR_WALL_CLOCK 0x4b564d00
#define MSR_TSC_DEADLINE 0x6e0

/* What is read from every vCPU of a VM. */
struct msr_set {
	uint32_t count;
	uint32_t listed; /* the first so many are in KVM's list */
	uint32_t indices[];
};

/* Kept by KVM, but not always in its list. All are 0 after a reset. */
static const struct {
	uint32_t first, last;
} unlisted[] = {
	{MSR_TSC_DEADLINE, MSR_TSC_DEADLINE},
	{0xda0, 0xda0},		  /* IA32_XSS */
	{0x200, 0x20f},		  /* MTRRs of variable ranges */
	{0x250, 0x250},		  /* fixed MTRRs: 64 KiB, 16 KiB, 4 KiB */
	{0x258, 0x259},		  /* */
	{0x268, 0x26f},		  /* */
	{0x2ff, 0x2ff},		  /* MTRRdefType */
	{0x4b564d01, 0x4b564d0f}, /* KVM's own, from the lower end */
	{0x4b564df0, 0x4b564dff}, /* and from the upper one (PVM guests) */
};

/* MSRs that some hosts refuse to have set. A guest cannot change them: they say
 * what the processor is, and the vCPU keeps what this host makes them. */
static const uint32_t read_only[] = {
	0x34,  /* SMI_COUNT: KVM without SMM */
	0x3a,  /* FEATURE_CONTROL: locked, or no VMX */
	0x8b,  /* BIOS_SIGN_ID: the microcode's revision */
	0xce,  /* PLATFORM_INFO */
	0x10a, /* ARCH_CAPABILITIES */
	0x10b, /* FLUSH_CMD: write-only */
	0x10c, /* feature MSRs between the two, by model */
	0x10d, /* */
	0x345, /* PERF_CAPABILITIES */
};

/* What one call takes. */
union msr_call {
	uint8_t room[sizeof(struct kvm_msrs) +
		     PER_CALL * sizeof(struct kvm_msr_entry)];
	struct kvm_msrs msrs;
};

struct kvm_msrs *msrs_x86_alloc(size_t count)
{
	struct kvm_msrs *msrs =
		calloc(1, sizeof(*msrs) + count * sizeof(msrs->entries[0]));

	if (msrs)
		msrs->nmsrs = (uint32_t)count;
	return msrs;
}

/* ------------------------------------------------------------------ the set */

static bool contains(const struct msr_set *set, uint32_t index)
{
	for (uint32_t i = 0; i < set->count; i++)
		if (set->indices[i] == index)
			return true;
	return false;
}

static void add(struct msr_set *set, uint32_t index)
{
	if (index == MSR_WALL_CLOCK || index == MSR_WALL_CLOCK_OLD)
		return;
	if (set->count < MSRS_MAX && !contains(set, index))
		set->indices[set->count++] = index;
}

static void fill_set(struct msr_set *set, const struct kvm_msr_list *list)
{
	for (uint32_t i = 0; i < list->nmsrs; i++)
		add(set, list->indices[i]);
	set->listed = set->count;
	for (size_t i = 0; i < ARRAY_SIZE(unlisted); i++)
		for (uint32_t j = unlisted[i].first; j <= unlisted[i].last; j++)
			add(set, j);
}

static int make_set(struct kvm *kvm, struct error *err)
{
	union {
		uint8_t room[sizeof(struct kvm_msr_list) +
			     MSRS_MAX * sizeof(uint32_t)];
		struct kvm_msr_list list;
	} call = {0};

	call.list.nmsrs = MSRS_MAX;
	if (ioctl(kvm->fd, KVM_GET_MSR_INDEX_LIST, &call))
		return error_set_os(err, errno, "KVM_GET_MSR_INDEX_LIST:");
	kvm->msrs = calloc(1, sizeof(*kvm->msrs) +
				      MSRS_MAX * sizeof(kvm->msrs->indices[0]));
	if (!kvm->msrs)
		return error_set_os(err, ENOMEM, "Cannot list MSRs:");
	fill_set(kvm->msrs, &call.list);
	return 0;
}

/* ------------------------------------------------------------------ reading */

/*
 * The vCPUs of a VM are alike: what one refuses is not asked of the next. Where
 * KVM does not know the first of a range of unlisted ones, it knows none: each
 * question that is refused costs another call.
 */
static void forget(struct msr_set *set, uint32_t at)
{
	uint32_t end = at + 1;

	if (at < set->listed)
		set->listed--;
	else
		while (end < set->count &&
		       set->indices[end] == set->indices[end - 1] + 1)
			end++;
	memmove(&set->indices[at], &set->indices[end],
		(set->count - end) * sizeof(set->indices[0]));
	set->count -= end - at;
}

/* Unlisted ones that are 0 need no mention: a new vCPU has zeros. */
static void keep(struct kvm_msrs *msrs, const struct msr_set *set, uint32_t at,
		 const struct kvm_msrs *part)
{
	for (uint32_t i = 0; i < part->nmsrs; i++)
		if (at + i < set->listed || part->entries[i].data)
			msrs->entries[msrs->nmsrs++] = part->entries[i];
}

/* Reads on from number @at of the set: how many, or -errno. */
static int read_part(const struct vcpu *vcpu, const struct msr_set *set,
		     uint32_t at, struct kvm_msrs *part)
{
	int done;

	part->nmsrs = MIN(set->count - at, (uint32_t)PER_CALL);
	for (uint32_t i = 0; i < part->nmsrs; i++)
		part->entries[i].index = set->indices[at + i];
	done = ioctl(vcpu_fd(vcpu), KVM_GET_MSRS, part);
	if (done < 0)
		return -errno;
	part->nmsrs = MIN(part->nmsrs, (uint32_t)done);
	return done;
}

static int read_all(const struct vcpu *vcpu, struct msr_set *set,
		    struct kvm_msrs *msrs)
{
	union msr_call call = {0};
	struct kvm_msrs *part = &call.msrs;
	uint32_t at = 0;

	while (at < set->count) {
		uint32_t wanted = MIN(set->count - at, (uint32_t)PER_CALL);
		int done = read_part(vcpu, set, at, part);

		if (done < 0)
			return done;
		keep(msrs, set, at, part);
		at += part->nmsrs;
		if (part->nmsrs < wanted)
			forget(set, at);
	}
	return 0;
}

int msrs_x86_read(const struct vcpu *vcpu, struct kvm *kvm,
		  struct kvm_msrs **ret_msrs, struct error *err)
{
	struct kvm_msrs *msrs;
	int ret = kvm->msrs ? 0 : make_set(kvm, err);

	if (ret || !kvm->msrs)
		return ret;
	msrs = msrs_x86_alloc(MSRS_MAX);
	if (!msrs)
		return error_set_os(err, ENOMEM, "Cannot read MSRs:");
	msrs->nmsrs = 0;
	ret = read_all(vcpu, kvm->msrs, msrs);
	if (ret) {
		free(msrs);
		return error_set_os(err, -ret, "KVM_GET_MSRS:");
	}
	*ret_msrs = msrs;
	return 0;
}

static bool read_one(const struct vcpu *vcpu, uint32_t index,
		     uint64_t *ret_value)
{
	union msr_call call = {0};

	call.msrs.nmsrs = 1;
	call.msrs.entries[0].index = index;
	if (ioctl(vcpu_fd(vcpu), KVM_GET_MSRS, &call) != 1)
		return false;
	*ret_value = call.msrs.entries[0].data;
	return true;
}

/* ------------------------------------------------------------------ writing */

static bool is_read_only(uint32_t index)
{
	for (size_t i = 0; i < ARRAY_SIZE(read_only); i++)
		if (read_only[i] == index)
			return true;
	return false;
}

/* Is it no loss that KVM refused @entry? */
static int judge_refusal(const struct vcpu *vcpu,
			 const struct kvm_msr_entry *entry, struct error *err)
{
	uint64_t value = 0;
	bool known = read_one(vcpu, entry->index, &value);

	if (known && value == entry->data)
		return 0;
	if (!is_read_only(entry->index))
		return error_set(err, EINVAL,
				 "This host refuses the value %#llx of MSR %#x",
				 (unsigned long long)entry->data, entry->index);
	log_warn("vCPU %u: MSR %#x was %#llx when saved and is %#llx here",
		 vcpu_id(vcpu), entry->index, (unsigned long long)entry->data,
		 (unsigned long long)value);
	return 0;
}

static int write_some(const struct vcpu *vcpu,
		      const struct kvm_msr_entry *entries, uint32_t count,
		      struct error *err)
{
	union msr_call call = {0};
	struct kvm_msrs *part = &call.msrs;
	uint32_t at = 0;
	int ret = 0;

	while (at < count && !ret) {
		int done;

		part->nmsrs = MIN(count - at, (uint32_t)PER_CALL);
		memcpy(part->entries, entries + at,
		       part->nmsrs * sizeof(entries[0]));
		done = ioctl(vcpu_fd(vcpu), KVM_SET_MSRS, part);
		if (done < 0)
			return error_set_os(err, errno, "KVM_SET_MSRS:");
		at += MIN((uint32_t)done, part->nmsrs);
		if ((uint32_t)done < part->nmsrs)
			ret = judge_refusal(vcpu, &entries[at++], err);
	}
	return ret;
}

/* Moves the TSC deadline to the end; how many others there are. */
static uint32_t part_deadline(struct kvm_msrs *msrs)
{
	uint32_t others = msrs->nmsrs;

	for (uint32_t i = 0; i < others;) {
		struct kvm_msr_entry entry = msrs->entries[i];

		if (entry.index != MSR_TSC_DEADLINE) {
			i++;
			continue;
		}
		msrs->entries[i] = msrs->entries[--others];
		msrs->entries[others] = entry;
	}
	return others;
}

int msrs_x86_write(const struct vcpu *vcpu, struct kvm_msrs *msrs,
		   struct error *err)
{
	uint32_t others = part_deadline(msrs);
	int ret = write_some(vcpu, msrs->entries, others, err);

	/* KVM arms its timer with the TSC of that moment. */
	if (!ret)
		ret = write_some(vcpu, msrs->entries + others,
				 msrs->nmsrs - others, err);
	return ret;
}

/* --------------------------------------------------------------- wall clock */

uint64_t msrs_x86_wall_clock(const struct vcpu *vcpu)
{
	uint64_t gpa = 0;

	return read_one(vcpu, MSR_WALL_CLOCK, &gpa) ? gpa : 0;
}

int msrs_x86_set_wall_clock(const struct vcpu *vcpu, uint64_t gpa,
			    struct error *err)
{
	const struct kvm_msr_entry entry = {
		.index = MSR_WALL_CLOCK,
		.data = gpa,
	};

	return write_some(vcpu, &entry, 1, err);
}
