/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/kvm_state_x86.h"

#include "vmm/kvm.h"
#include "vmm/msrs_x86.h"

#include <errno.h>
#include <string.h>
#include <sys/ioctl.h>
#include <time.h>

#define SECTION_TAG STATE_TAG('K', 'V', 'M', ' ')
#define SECTION_VERSION 1

/* Both PICs and the IOAPIC, by KVM's numbers. */
#define CHIP_COUNT 3

struct kvm_state {
	bool has_pit;
	struct kvm_irqchip chips[CHIP_COUNT];
	struct kvm_pit_state2 pit;
	uint64_t clock_ns;
	bool has_realtime;
	uint64_t realtime_ns;
	uint64_t wall_clock_gpa;
};

/* --------------------------------------------------------- from and to KVM */

static int fetch_clock(const struct kvm *kvm, struct kvm_state *state,
		       struct error *err)
{
	struct kvm_clock_data clock = {0};

	if (ioctl(kvm->vm_fd, KVM_GET_CLOCK, &clock))
		return error_set_os(err, errno, "KVM_GET_CLOCK:");
	state->clock_ns = clock.clock;
	state->has_realtime = clock.flags & KVM_CLOCK_REALTIME;
	if (state->has_realtime)
		state->realtime_ns = clock.realtime;
	return 0;
}

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
	return fetch_clock(kvm, state, err);
}

static int apply_clock(const struct kvm *kvm, const struct kvm_state *state,
		       bool clock_realtime, struct error *err)
{
	/* Only this flag means something here; older kernels know none. */
	struct kvm_clock_data clock = {
		.clock = state->clock_ns,
		.flags = clock_realtime ? KVM_CLOCK_REALTIME : 0,
		.realtime = clock_realtime ? state->realtime_ns : 0,
	};

	if (ioctl(kvm->vm_fd, KVM_SET_CLOCK, &clock))
		return error_set_os(err, errno, "KVM_SET_CLOCK:");
	return 0;
}

static int apply(const struct kvm *kvm, const struct kvm_state *state,
		 bool clock_realtime, struct error *err)
{
	for (uint32_t i = 0; i < CHIP_COUNT; i++)
		if (ioctl(kvm->vm_fd, KVM_SET_IRQCHIP, &state->chips[i]))
			return error_set_os(err, errno,
					    "KVM_SET_IRQCHIP %u:", i);
	if (state->has_pit && ioctl(kvm->vm_fd, KVM_SET_PIT2, &state->pit))
		return error_set_os(err, errno, "KVM_SET_PIT2:");
	return apply_clock(kvm, state, clock_realtime, err);
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
	state_put_u64(writer, state->clock_ns);
	state_put_u8(writer, state->has_realtime);
	state_put_u64(writer, state->realtime_ns);
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
	state->clock_ns = state_get_u64(&reader);
	state->has_realtime = state_get_bool(&reader);
	state->realtime_ns = state_get_u64(&reader);
	state->wall_clock_gpa = state_get_u64(&reader);
	return state_reader_end(&reader, err);
}

/* ------------------------------------------------------------------- public */

int kvm_x86_save(const struct kvm *kvm, const struct vcpu *vcpu,
		 struct state_writer *writer, struct error *err)
{
	struct kvm_state state = {
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

static uint64_t wall_clock_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_REALTIME, &now);
	return (uint64_t)now.tv_sec * UINT64_C(1000000000) +
	       (uint64_t)now.tv_nsec;
}

int kvm_x86_load_early(const struct state_file *file, bool clock_realtime,
		       struct kvm_x86_early *ret_early, struct error *err)
{
	struct kvm_state state = {0};
	uint64_t now = wall_clock_ns();
	int ret = get(file, &state, err);

	if (ret)
		return ret;
	if (clock_realtime && !state.has_realtime)
		return error_set(err, EINVAL,
				 "clock_realtime requested but not present in "
				 "the snapshot state");
	*ret_early = (struct kvm_x86_early){.has_pit = state.has_pit};
	/* Nothing goes backwards, as with KVM_SET_CLOCK. */
	if (clock_realtime && now > state.realtime_ns)
		ret_early->gap_ns = now - state.realtime_ns;
	return 0;
}

int kvm_x86_load(const struct kvm *kvm, const struct vcpu *vcpu,
		 const struct state_file *file, bool clock_realtime,
		 struct error *err)
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
	ret = apply(kvm, &state, clock_realtime, err);
	if (ret || !state.wall_clock_gpa)
		return ret;
	/* KVM counts the wall clock back from the clock as it is now. */
	return msrs_x86_set_wall_clock(vcpu, state.wall_clock_gpa, err);
}
