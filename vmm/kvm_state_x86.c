/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/kvm_state_x86.h"

#include "vmm/kvm.h"
#include "vmm/msrs_x86.h"

#include <errno.h>
#include <string.h>
#include <sys/ioctl.h>

#define SECTION_TAG STATE_TAG('K', 'V', 'M', ' ')
#define SECTION_VERSION 1

/* Both PICs and the IOAPIC, by KVM's numbers. */
#define CHIP_COUNT 3

struct kvm_state {
	bool has_pit;
	struct kvm_irqchip chips[CHIP_COUNT];
	struct kvm_pit_state2 pit;
	struct kvm_x86_clock clock;
	uint64_t wall_clock_gpa;
};

/* --------------------------------------------------------- from and to KVM */

static int fetch(const struct kvm *kvm, struct kvm_state *state,
		 struct error *err)
{
	for (uint32_t i = 0; i < CHIP_COUNT; i++) {
		state->chips[i].chip_id = i;
		if (ioctl(kvm->vm_fd, KVM_GET_IRQCHIP, &state->chips[i]))
			return error_set_os(err, errno,
					    "KVM_GET_IRQCHIP %u:", i);
	}
	state->has_pit = kvm->has_pit;
	if (kvm->has_pit && ioctl(kvm->vm_fd, KVM_GET_PIT2, &state->pit))
		return error_set_os(err, errno, "KVM_GET_PIT2:");
	return 0;
}

static int apply(const struct kvm *kvm, const struct kvm_state *state,
		 struct error *err)
{
	for (uint32_t i = 0; i < CHIP_COUNT; i++)
		if (ioctl(kvm->vm_fd, KVM_SET_IRQCHIP, &state->chips[i]))
			return error_set_os(err, errno,
					    "KVM_SET_IRQCHIP %u:", i);
	if (state->has_pit && ioctl(kvm->vm_fd, KVM_SET_PIT2, &state->pit))
		return error_set_os(err, errno, "KVM_SET_PIT2:");
	return 0;
}

/* ------------------------------------------------------ from and to a file */

static void put(struct state_writer *writer, const struct kvm_state *state)
{
	state_put_u8(writer, state->has_pit);
	for (size_t i = 0; i < CHIP_COUNT; i++)
		state_put_blob(writer, &state->chips[i],
			       sizeof(state->chips[i]));
	if (state->has_pit)
		state_put_blob(writer, &state->pit, sizeof(state->pit));
	state_put_u64(writer, state->clock.ns);
	state_put_u8(writer, state->clock.has_realtime);
	state_put_u64(writer, state->clock.realtime_ns);
	state_put_u64(writer, state->wall_clock_gpa);
}

static void get_chip(struct state_reader *reader, struct kvm_irqchip *chip,
		     uint32_t id)
{
	state_get_blob_exact(reader, chip, sizeof(*chip));
	if (chip->chip_id != id)
		reader->failed = true;
}

static int get(const struct state_file *file, struct kvm_state *state,
	       struct error *err)
{
	struct state_reader reader;
	int ret =
		state_need(file, SECTION_TAG, 0, SECTION_VERSION, &reader, err);

	if (ret)
		return ret;
	state->has_pit = state_get_bool(&reader);
	for (uint32_t i = 0; i < CHIP_COUNT; i++)
		get_chip(&reader, &state->chips[i], i);
	if (state->has_pit)
		state_get_blob_exact(&reader, &state->pit, sizeof(state->pit));
	state->clock.ns = state_get_u64(&reader);
	state->clock.has_realtime = state_get_bool(&reader);
	state->clock.realtime_ns = state_get_u64(&reader);
	state->wall_clock_gpa = state_get_u64(&reader);
	return state_reader_end(&reader, err);
}

/* ------------------------------------------------------------------- public */

int kvm_x86_read_clock(const struct kvm *kvm, struct kvm_x86_clock *ret_clock,
		       struct error *err)
{
	struct kvm_clock_data clock = {0};

	if (ioctl(kvm->vm_fd, KVM_GET_CLOCK, &clock))
		return error_set_os(err, errno, "KVM_GET_CLOCK:");
	*ret_clock = (struct kvm_x86_clock){.ns = clock.clock};
	ret_clock->has_realtime = clock.flags & KVM_CLOCK_REALTIME;
	if (ret_clock->has_realtime)
		ret_clock->realtime_ns = clock.realtime;
	if (clock.flags & KVM_CLOCK_HOST_TSC)
		ret_clock->host_tsc = clock.host_tsc;
	return 0;
}

int kvm_x86_save(const struct kvm *kvm, const struct vcpu *vcpu,
		 const struct kvm_x86_clock *clock, struct state_writer *writer,
		 struct error *err)
{
	struct kvm_state state = {
		.clock = *clock,
		.wall_clock_gpa = msrs_x86_wall_clock(vcpu),
	};
	int ret = fetch(kvm, &state, err);

	if (ret)
		return ret;
	state_begin(writer, SECTION_TAG, SECTION_VERSION, 0);
	put(writer, &state);
	state_end(writer);
	return 0;
}

int kvm_x86_load_early(const struct state_file *file, bool clock_realtime,
		       struct kvm_x86_early *ret_early, struct error *err)
{
	struct kvm_state state = {0};
	int ret = get(file, &state, err);

	if (ret)
		return ret;
	if (clock_realtime && !state.clock.has_realtime)
		return error_set(err, EINVAL,
				 "clock_realtime requested but not present in "
				 "the snapshot state");
	*ret_early = (struct kvm_x86_early){.has_pit = state.has_pit};
	return 0;
}

int kvm_x86_load_clock(const struct kvm *kvm, const struct state_file *file,
		       bool clock_realtime, struct kvm_x86_gap *ret_gap,
		       struct error *err)
{
	struct kvm_state state = {0};
	struct kvm_x86_clock now = {0};
	int ret = get(file, &state, err);
	/* Only this flag means something here; older kernels know none. */
	struct kvm_clock_data clock = {
		.clock = state.clock.ns,
		.flags = clock_realtime ? KVM_CLOCK_REALTIME : 0,
		.realtime = clock_realtime ? state.clock.realtime_ns : 0,
	};

	if (ret)
		return ret;
	if (ioctl(kvm->vm_fd, KVM_SET_CLOCK, &clock))
		return error_set_os(err, errno, "KVM_SET_CLOCK:");
	ret = kvm_x86_read_clock(kvm, &now, err);
	if (ret)
		return ret;
	*ret_gap = (struct kvm_x86_gap){.host_tsc = now.host_tsc};
	if (now.ns > state.clock.ns)
		ret_gap->ns = now.ns - state.clock.ns;
	return 0;
}

int kvm_x86_load(const struct kvm *kvm, const struct vcpu *vcpu,
		 const struct state_file *file, struct error *err)
{
	struct kvm_state state = {0};
	int ret = get(file, &state, err);

	if (ret)
		return ret;
	if (state.has_pit != kvm->has_pit)
		return error_set(err, EINVAL,
				 "The snapshot has %s PIT, this VM has %s",
				 state.has_pit ? "a" : "no",
				 kvm->has_pit ? "one" : "none");
	ret = apply(kvm, &state, err);
	if (ret || !state.wall_clock_gpa)
		return ret;
	/* KVM counts the wall clock back from the clock as it is now. */
	return msrs_x86_set_wall_clock(vcpu, state.wall_clock_gpa, err);
}
