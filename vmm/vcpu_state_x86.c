/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/vcpu_state_x86.h"

#include "vmm/host_cpu_x86.h"
#include "vmm/kvm.h"
#include "vmm/kvm_state_x86.h"
#include "vmm/log.h"
#include "vmm/msrs_x86.h"
#include "vmm/vcpu.h"

#include <errno.h>
#include <string.h>
#include <sys/ioctl.h>

#define MSR_TSC 0x10

#define SECTION_TAG STATE_TAG('V', 'C', 'P', 'U')
#define SECTION_VERSION 1

struct vcpu_state {
	char *host;
	struct kvm_cpuid2 *cpuid;
	uint32_t tsc_khz;
	struct kvm_mp_state mp_state;
	struct kvm_regs regs;
	struct kvm_sregs sregs;
	void *xsave;
	size_t xsave_size;
	struct kvm_xcrs xcrs;
	struct kvm_debugregs debugregs;
	struct kvm_lapic_state lapic;
	struct kvm_msrs *msrs;
	struct kvm_vcpu_events events;
};

/*
 * Structures of fixed size, in the order they are read, kept and written in.
 *
 * Reading MP_STATE may turn an INIT or SIPI that waits into state, so all else
 * is read after it; reading VCPU_EVENTS comes last because it collects what
 * other reads leave behind. Writing: the mode of the local APIC is in SREGS,
 * the mode of its timer in LAPIC, and MSRs need both.
 */
static const struct part {
	unsigned long get, set;
	const char *get_name, *set_name;
	uint16_t off, size;
} parts[] = {
#define PART(name, member)                                                     \
	{                                                                      \
		KVM_GET_##name, KVM_SET_##name, "KVM_GET_" #name ":",          \
			"KVM_SET_" #name ":",                                  \
			offsetof(struct vcpu_state, member),                   \
			sizeof(((struct vcpu_state *)0)->member)               \
	}
	PART(MP_STATE, mp_state),
	PART(REGS, regs),
	PART(SREGS, sregs),
	/* XSAVE, whose size varies, comes here. */
	PART(XCRS, xcrs),
	PART(DEBUGREGS, debugregs),
	PART(LAPIC, lapic),
	/* and the MSRs here */
	PART(VCPU_EVENTS, events),
#undef PART
};
enum { PART_XCRS = 3, PART_EVENTS = 6, PART_COUNT = 7 };

static void release(struct vcpu_state *state)
{
	free(take_ptr(state->host));
	free(take_ptr(state->cpuid));
	free(take_ptr(state->xsave));
	free(take_ptr(state->msrs));
}

static struct kvm_cpuid2 *alloc_cpuid(uint32_t count)
{
	struct kvm_cpuid2 *cpuid =
		calloc(1, sizeof(*cpuid) + count * sizeof(cpuid->entries[0]));

	if (cpuid)
		cpuid->nent = count;
	return cpuid;
}

/* Bytes that KVM_SET_XSAVE reads and KVM_GET_XSAVE2 writes here. */
static size_t host_xsave_size(const struct kvm *kvm)
{
	int size = ioctl(kvm->vm_fd, KVM_CHECK_EXTENSION, KVM_CAP_XSAVE2);

	return MAX(sizeof(struct kvm_xsave), (size_t)MAX(size, 0));
}

static int no_memory(struct error *err)
{
	return error_set_os(err, ENOMEM, "No room for the vCPU's state:");
}

/* --------------------------------------------------------------------- TSC */

/*
 * The TSC and kvmclock are two views of one clock: guests that compare them
 * call the TSC unstable if they are a millisecond apart. Reading and writing
 * them one after the other makes them so, more on a busy host. Therefore both
 * are taken at one moment of the host's TSC, as Linux's
 * Documentation/virt/kvm/devices/vcpu.rst says for KVM_VCPU_TSC_OFFSET. That
 * is possible where the TSC is not scaled.
 */

/* Of vCPUs nobody has set otherwise; 0 if KVM does not tell. */
static uint32_t host_tsc_khz(const struct vcpu *vcpu, const struct kvm *kvm)
{
	int khz = ioctl(kvm->vm_fd, KVM_GET_TSC_KHZ, 0);

	if (khz <= 0) /* kernels before 5.18; ten times as slow */
		khz = ioctl(vcpu_fd(vcpu), KVM_GET_TSC_KHZ, 0);
	return khz > 0 ? (uint32_t)khz : 0;
}

/* What is added to the host's TSC, got or set. */
static bool tsc_offset(const struct vcpu *vcpu, unsigned long request,
		       uint64_t *offset)
{
	const struct kvm_device_attr attr = {
		.group = KVM_VCPU_TSC_CTRL,
		.attr = KVM_VCPU_TSC_OFFSET,
		.addr = (uintptr_t)offset,
	};

	return ioctl(vcpu_fd(vcpu), request, &attr) == 0;
}

static struct kvm_msr_entry *find_tsc(const struct vcpu_state *state)
{
	for (uint32_t i = 0; i < state->msrs->nmsrs; i++)
		if (state->msrs->entries[i].index == MSR_TSC)
			return &state->msrs->entries[i];
	return NULL;
}

/* Is it as fast as the host's, whose value was @host_tsc? */
static bool is_unscaled(const struct vcpu *vcpu, const struct kvm *kvm,
			const struct vcpu_state *state, uint64_t host_tsc)
{
	return host_tsc && state->tsc_khz &&
	       state->tsc_khz == host_tsc_khz(vcpu, kvm);
}

/* What was read came a little after the clock. */
static void fetch_tsc(const struct vcpu *vcpu, const struct kvm *kvm,
		      const struct kvm_x86_clock *clock,
		      struct vcpu_state *state)
{
	struct kvm_msr_entry *tsc = find_tsc(state);
	uint64_t offset;

	if (tsc && is_unscaled(vcpu, kvm, state, clock->host_tsc) &&
	    tsc_offset(vcpu, KVM_GET_DEVICE_ATTR, &offset))
		tsc->data = clock->host_tsc + offset;
}

/* Otherwise it is written with the MSRs, a little after the clock was. */
static void apply_tsc(const struct vcpu *vcpu, const struct kvm *kvm,
		      const struct kvm_x86_gap *gap, struct vcpu_state *state)
{
	struct kvm_msr_entry *tsc = find_tsc(state);
	uint64_t offset;

	if (!tsc)
		return;
	tsc->data += (uint64_t)((unsigned __int128)gap->ns * state->tsc_khz /
				1000000);
	offset = tsc->data - gap->host_tsc;
	if (is_unscaled(vcpu, kvm, state, gap->host_tsc) &&
	    tsc_offset(vcpu, KVM_SET_DEVICE_ATTR, &offset))
		*tsc = state->msrs->entries[--state->msrs->nmsrs];
}

/* --------------------------------------------------------- from and to KVM */

static int fetch_parts(const struct vcpu *vcpu, struct vcpu_state *state,
		       size_t first, size_t end, struct error *err)
{
	for (size_t i = first; i < end; i++)
		if (ioctl(vcpu_fd(vcpu), parts[i].get,
			  (char *)state + parts[i].off))
			return error_set_os(err, errno, "%s",
					    parts[i].get_name);
	return 0;
}

static int apply_parts(const struct vcpu *vcpu, const struct vcpu_state *state,
		       size_t first, size_t end, struct error *err)
{
	for (size_t i = first; i < end; i++)
		if (ioctl(vcpu_fd(vcpu), parts[i].set,
			  (const char *)state + parts[i].off))
			return error_set_os(err, errno, "%s",
					    parts[i].set_name);
	return 0;
}

static int fetch_cpuid(const struct vcpu *vcpu, struct vcpu_state *state,
		       struct error *err)
{
	state->cpuid = alloc_cpuid(KVM_CPUID_ENTRIES_MAX);
	if (!state->cpuid)
		return no_memory(err);
	if (ioctl(vcpu_fd(vcpu), KVM_GET_CPUID2, state->cpuid))
		return error_set_os(err, errno, "KVM_GET_CPUID2:");
	return 0;
}

static void fetch_tsc_khz(const struct vcpu *vcpu, struct vcpu_state *state)
{
	int khz = ioctl(vcpu_fd(vcpu), KVM_GET_TSC_KHZ, 0);

	/* A host whose TSC is unstable has no answer. */
	state->tsc_khz = khz > 0 ? (uint32_t)khz : 0;
}

static int fetch_xsave(const struct vcpu *vcpu, const struct kvm *kvm,
		       struct vcpu_state *state, struct error *err)
{
	bool large;

	state->xsave_size = host_xsave_size(kvm);
	state->xsave = calloc(1, state->xsave_size);
	if (!state->xsave)
		return no_memory(err);
	large = state->xsave_size > sizeof(struct kvm_xsave);
	if (ioctl(vcpu_fd(vcpu), large ? KVM_GET_XSAVE2 : KVM_GET_XSAVE,
		  state->xsave))
		return error_set_os(err, errno, "KVM_GET_XSAVE:");
	return 0;
}

static int fetch_host(struct kvm *kvm, struct vcpu_state *state,
		      struct error *err)
{
	const char *host;
	int ret = host_cpu_identity(kvm, &host, err);

	if (ret)
		return ret;
	state->host = strdup(host);
	return state->host ? 0 : no_memory(err);
}

static int fetch(const struct vcpu *vcpu, struct kvm *kvm,
		 const struct kvm_x86_clock *clock, struct vcpu_state *state,
		 struct error *err)
{
	int ret = fetch_parts(vcpu, state, 0, PART_XCRS, err);

	if (!ret)
		ret = fetch_host(kvm, state, err);
	if (!ret)
		ret = fetch_cpuid(vcpu, state, err);
	if (!ret)
		ret = fetch_xsave(vcpu, kvm, state, err);
	fetch_tsc_khz(vcpu, state);
	if (!ret)
		ret = fetch_parts(vcpu, state, PART_XCRS, PART_EVENTS, err);
	if (!ret)
		ret = msrs_x86_read(vcpu, kvm, &state->msrs, err);
	if (ret)
		return ret;
	fetch_tsc(vcpu, kvm, clock, state);
	return fetch_parts(vcpu, state, PART_EVENTS, PART_COUNT, err);
}

/* KVM takes a small difference as none. */
static void apply_tsc_khz(const struct vcpu *vcpu, const struct kvm *kvm,
			  uint32_t khz)
{
	uint32_t here = host_tsc_khz(vcpu, kvm);

	if (!khz || khz == here)
		return;
	if (ioctl(vcpu_fd(vcpu), KVM_SET_TSC_KHZ, (unsigned long)khz) == 0)
		return;
	if (vcpu_id(vcpu) == 0)
		log_warn("The guest's TSC ran at %u kHz and runs at %u kHz "
			 "here: this host cannot scale it",
			 khz, here);
}

static int apply_cpuid(const struct vcpu *vcpu, struct kvm *kvm,
		       const struct vcpu_state *state, struct error *err)
{
	int ret = host_cpu_check(kvm, state->cpuid, state->host,
				 vcpu_id(vcpu) == 0, err);

	if (ret)
		return ret;
	if (ioctl(vcpu_fd(vcpu), KVM_SET_CPUID2, state->cpuid))
		return error_set_os(err, errno, "KVM_SET_CPUID2:");
	return 0;
}

/* KVM reads as many bytes as this host keeps, whatever was saved. */
static int fit_xsave(const struct kvm *kvm, struct vcpu_state *state,
		     struct error *err)
{
	size_t size = host_xsave_size(kvm);
	uint8_t *xsave;

	if (state->xsave_size > size)
		return error_set(err, ENOTSUP,
				 "The snapshot has %zu bytes of XSAVE state, "
				 "this host keeps %zu",
				 state->xsave_size, size);
	xsave = realloc(state->xsave, size);
	if (!xsave)
		return no_memory(err);
	memset(xsave + state->xsave_size, 0, size - state->xsave_size);
	state->xsave = xsave;
	state->xsave_size = size;
	return 0;
}

static int apply_xsave(const struct vcpu *vcpu, const struct kvm *kvm,
		       struct vcpu_state *state, struct error *err)
{
	int ret = fit_xsave(kvm, state, err);

	if (ret)
		return ret;
	if (ioctl(vcpu_fd(vcpu), KVM_SET_XSAVE, state->xsave))
		return error_set_os(err, errno, "KVM_SET_XSAVE:");
	return 0;
}

static int apply(const struct vcpu *vcpu, struct kvm *kvm,
		 const struct kvm_x86_gap *gap, struct vcpu_state *state,
		 struct error *err)
{
	/* CPUID first: all else is checked against it. */
	int ret = apply_cpuid(vcpu, kvm, state, err);

	if (ret)
		return ret;
	apply_tsc_khz(vcpu, kvm, state->tsc_khz);
	apply_tsc(vcpu, kvm, gap, state);
	ret = apply_parts(vcpu, state, 0, PART_XCRS, err);
	if (!ret)
		ret = apply_xsave(vcpu, kvm, state, err);
	if (!ret)
		ret = apply_parts(vcpu, state, PART_XCRS, PART_EVENTS, err);
	if (!ret)
		ret = msrs_x86_write(vcpu, state->msrs, err);
	if (!ret)
		ret = apply_parts(vcpu, state, PART_EVENTS, PART_COUNT, err);
	return ret;
}

/* ------------------------------------------------------ from and to a file */

static const struct state_field cpuid_fields[] = {
	STATE_FIELD(struct kvm_cpuid_entry2, function),
	STATE_FIELD(struct kvm_cpuid_entry2, index),
	STATE_FIELD(struct kvm_cpuid_entry2, flags),
	STATE_FIELD(struct kvm_cpuid_entry2, eax),
	STATE_FIELD(struct kvm_cpuid_entry2, ebx),
	STATE_FIELD(struct kvm_cpuid_entry2, ecx),
	STATE_FIELD(struct kvm_cpuid_entry2, edx),
};

static const struct state_field msr_fields[] = {
	STATE_FIELD(struct kvm_msr_entry, index),
	STATE_FIELD(struct kvm_msr_entry, data),
};

static void put_parts(struct state_writer *writer,
		      const struct vcpu_state *state, size_t first, size_t end)
{
	for (size_t i = first; i < end; i++)
		state_put_blob(writer, (const char *)state + parts[i].off,
			       parts[i].size);
}

static void put(struct state_writer *writer, const struct vcpu_state *state)
{
	state_put_string(writer, state->host);
	state_put_u32(writer, state->cpuid->nent);
	for (uint32_t i = 0; i < state->cpuid->nent; i++)
		state_put_fields(writer, &state->cpuid->entries[i],
				 cpuid_fields, ARRAY_SIZE(cpuid_fields));
	state_put_u32(writer, state->tsc_khz);
	put_parts(writer, state, 0, PART_XCRS);
	state_put_blob(writer, state->xsave, state->xsave_size);
	put_parts(writer, state, PART_XCRS, PART_EVENTS);
	state_put_u32(writer, state->msrs->nmsrs);
	for (uint32_t i = 0; i < state->msrs->nmsrs; i++)
		state_put_fields(writer, &state->msrs->entries[i], msr_fields,
				 ARRAY_SIZE(msr_fields));
	put_parts(writer, state, PART_EVENTS, PART_COUNT);
}

static void get_parts(struct state_reader *reader, struct vcpu_state *state,
		      size_t first, size_t end)
{
	for (size_t i = first; i < end; i++)
		state_get_blob_exact(reader, (char *)state + parts[i].off,
				     parts[i].size);
}

/* A number of things of which there are at most @max. */
static uint32_t get_count(struct state_reader *reader, uint32_t max)
{
	uint32_t count = state_get_u32(reader);

	if (count <= max)
		return count;
	reader->failed = true;
	return 0;
}

static void get_cpuid(struct state_reader *reader, struct vcpu_state *state)
{
	uint32_t count = get_count(reader, KVM_CPUID_ENTRIES_MAX);

	state->cpuid = alloc_cpuid(count);
	for (uint32_t i = 0; state->cpuid && i < count; i++)
		state_get_fields(reader, &state->cpuid->entries[i],
				 cpuid_fields, ARRAY_SIZE(cpuid_fields));
}

static void get_msrs(struct state_reader *reader, struct vcpu_state *state)
{
	uint32_t count = get_count(reader, MSRS_MAX);

	state->msrs = msrs_x86_alloc(count);
	for (uint32_t i = 0; state->msrs && i < count; i++)
		state_get_fields(reader, &state->msrs->entries[i], msr_fields,
				 ARRAY_SIZE(msr_fields));
}

static void get_xsave(struct state_reader *reader, struct vcpu_state *state)
{
	const void *xsave = state_get_blob(reader, &state->xsave_size);

	if (!xsave || state->xsave_size < sizeof(struct kvm_xsave)) {
		reader->failed = true;
		return;
	}
	state->xsave = malloc(state->xsave_size);
	if (state->xsave)
		memcpy(state->xsave, xsave, state->xsave_size);
}

static int get(struct state_reader *reader, struct vcpu_state *state,
	       struct error *err)
{
	int ret;

	state->host = state_get_string(reader);
	get_cpuid(reader, state);
	state->tsc_khz = state_get_u32(reader);
	get_parts(reader, state, 0, PART_XCRS);
	get_xsave(reader, state);
	get_parts(reader, state, PART_XCRS, PART_EVENTS);
	get_msrs(reader, state);
	get_parts(reader, state, PART_EVENTS, PART_COUNT);
	ret = state_reader_end(reader, err);
	if (ret)
		return ret;
	if (!state->cpuid || !state->xsave || !state->msrs)
		return no_memory(err);
	/* KVM says which NMIs wait, but not that it does; without the flag
	 * it would drop them. */
	state->events.flags |= KVM_VCPUEVENT_VALID_NMI_PENDING;
	return 0;
}

/* ------------------------------------------------------------------- public */

int vcpu_x86_save(const struct vcpu *vcpu, struct kvm *kvm,
		  const struct kvm_x86_clock *clock,
		  struct state_writer *writer, struct error *err)
{
	struct vcpu_state state = {0};
	int ret = fetch(vcpu, kvm, clock, &state, err);

	if (!ret) {
		state_begin(writer, SECTION_TAG, SECTION_VERSION,
			    (uint16_t)vcpu_id(vcpu));
		put(writer, &state);
		state_end(writer);
	} else {
		error_prefix(err, "vCPU %u: ", vcpu_id(vcpu));
	}
	release(&state);
	return ret;
}

int vcpu_x86_load(const struct vcpu *vcpu, struct kvm *kvm,
		  const struct state_file *file, const struct kvm_x86_gap *gap,
		  struct error *err)
{
	struct vcpu_state state = {0};
	struct state_reader reader;
	int ret = state_need(file, SECTION_TAG, (uint16_t)vcpu_id(vcpu),
			     SECTION_VERSION, &reader, err);

	if (ret)
		return ret;
	ret = get(&reader, &state, err);
	if (!ret)
		ret = apply(vcpu, kvm, gap, &state, err);
	if (ret && ret != -ENOTSUP)
		error_prefix(err, "vCPU %u: ", vcpu_id(vcpu));
	release(&state);
	return ret;
}
