/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/kvm_state_x86.h"
#include "vmm/vcpu_state_x86.h"

#include "tests/fake/kvm_ioctl.h"
#include "vmm/gmem.h"
#include "vmm/host_cpu_x86.h"
#include "vmm/kvm.h"
#include "vmm/log.h"
#include "vmm/vcpu.h"

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#define VCPU_TAG STATE_TAG('V', 'C', 'P', 'U')
#define KVM_TAG STATE_TAG('K', 'V', 'M', ' ')

#define SAVED (&fake_host.vcpus[0])
#define LOADED (&fake_host.vcpus[1])

/* A vCPU is its descriptor and its number here. */
struct vcpu {
	int fd;
	uint32_t id;
};

int vcpu_fd(const struct vcpu *vcpu)
{
	return vcpu->fd;
}

uint32_t vcpu_id(const struct vcpu *vcpu)
{
	return vcpu->id;
}

/* One is saved and the other loaded: both are number 0 of their VM. */
static const struct vcpu saved_vcpu = {FAKE_VCPU_FD, 0};
static const struct vcpu loaded_vcpu = {FAKE_VCPU_FD + 1, 0};

struct fixture {
	struct kvm kvm;
	struct error err;
	struct state_writer writer;
	struct state_file file;
	struct kvm_x86_early early;
	struct kvm_x86_clock clock;
	struct kvm_x86_gap gap;
	char log[64];
};

/* ------------------------------------------------------------------ fixture */

static void fill(void *data, size_t len, uint8_t first)
{
	for (size_t i = 0; i < len; i++)
		((uint8_t *)data)[i] = (uint8_t)(first + i * 7);
}

/* As MSRs of a new vCPU are: those that exist, and what they are. */
static void reset_msrs(struct fake_vcpu *vcpu)
{
	vcpu->msr_count = 0;
	fake_add_msr(vcpu, 0x10, 0);
	fake_add_msr(vcpu, 0x6e0, 0);
	fake_add_msr(vcpu, 0x11, 0);
	fake_add_msr(vcpu, 0x4b564d00, 0);
	fake_add_msr(vcpu, 0x4b564d01, 0);
	fake_add_msr(vcpu, 0x4b564d02, 0);
	fake_add_msr(vcpu, 0x4b564d05, 1);
	fake_add_msr(vcpu, 0x2ff, 0);
	fake_add_msr(vcpu, 0xda0, 0);
	fake_add_msr(vcpu, 0x10a, 5);
	fake_add_msr(vcpu, 0xc0000082, 0);
}

static void list_msrs(void)
{
	/* 0x777 is listed, but none has it. */
	static const uint32_t listed[] = {
		0x6e0, 0x11,  0x4b564d00, 0x4b564d05,
		0x777, 0x10a, 0x10,	  0xc0000082,
	};

	memcpy(fake_host.listed, listed, sizeof(listed));
	fake_host.listed_count = ARRAY_SIZE(listed);
}

static void set_saved_msrs(void)
{
	fake_msr(SAVED, 0x10)->data = 1000;
	fake_msr(SAVED, 0x6e0)->data = 2000;
	fake_msr(SAVED, 0x11)->data = 0x3001;
	fake_msr(SAVED, 0x4b564d00)->data = 0x3001;
	fake_msr(SAVED, 0x4b564d02)->data = 0x4001;
	fake_msr(SAVED, 0x4b564d05)->data = 0;
	fake_msr(SAVED, 0x2ff)->data = 0x806;
	fake_msr(SAVED, 0xc0000082)->data = 0xffffffff81000000;
}

static void set_cpuid(void)
{
	static const struct kvm_cpuid_entry2 host[] = {
		{.function = 0, .eax = 0xd, .ebx = 1, .ecx = 2, .edx = 3},
		{.function = 1, .eax = 0x00a10f11, .ecx = 0xf, .edx = 0xff},
		{.function = 7, .flags = 1, .ebx = 0x20, .edx = 1u << 29},
		{.function = 0xd, .flags = 1, .eax = 7},
		{.function = 0x80000001, .edx = 0x100},
	};

	memcpy(fake_host.supported, host, sizeof(host));
	fake_host.supported_count = ARRAY_SIZE(host);
	memcpy(SAVED->cpuid, host, sizeof(host));
	SAVED->cpuid_count = ARRAY_SIZE(host);
	/* As vmm/cpuid_x86.c and the guest's CR4 make them. */
	SAVED->cpuid[1].ecx |= 1u << 24 | 1u << 27 | 1u << 31;
	SAVED->cpuid[1].edx |= 1u << 28;
	SAVED->cpuid[2].ebx |= 1u << 6 | 1u << 13;
}

static void set_saved_vcpu(void)
{
	fill(&SAVED->regs, sizeof(SAVED->regs), 1);
	fill(&SAVED->sregs, sizeof(SAVED->sregs), 2);
	fill(SAVED->xsave, sizeof(SAVED->xsave), 3);
	fill(&SAVED->xcrs, sizeof(SAVED->xcrs), 4);
	fill(&SAVED->debugregs, sizeof(SAVED->debugregs), 5);
	fill(&SAVED->lapic, sizeof(SAVED->lapic), 6);
	SAVED->mp_state.mp_state = KVM_MP_STATE_HALTED;
	SAVED->events.nmi.pending = 1;
	SAVED->events.flags = KVM_VCPUEVENT_VALID_SHADOW;
	SAVED->tsc_khz = LOADED->tsc_khz = fake_host.tsc_khz;
	reset_msrs(SAVED);
	reset_msrs(LOADED);
	set_saved_msrs();
}

/* Another process takes over: it knows nothing of what the first one asked. */
static void forget_host(struct fixture *f)
{
	kvm_close(&f->kvm);
	f->kvm.fd = FAKE_KVM_FD;
	f->kvm.vm_fd = FAKE_VM_FD;
	fake_host.call_count = 0;
}

static int setup(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));
	struct log_config config = {.path = f->log, .level = LOG_LEVEL_WARN};
	int fd;

	assert_non_null(f);
	memset(&fake_host, 0, sizeof(fake_host));
	fake_host.tsc_khz = 2500000;
	fake_host.xsave_size = 4096;
	for (uint32_t i = 0; i < ARRAY_SIZE(fake_host.chips); i++) {
		fake_host.chips[i].chip_id = i;
		fill(&fake_host.chips[i].chip, 512, (uint8_t)i);
	}
	list_msrs();
	set_cpuid();
	set_saved_vcpu();
	kvm_init(&f->kvm);
	f->kvm.fd = FAKE_KVM_FD;
	f->kvm.vm_fd = FAKE_VM_FD;
	state_writer_init(&f->writer);
	strcpy(f->log, "/tmp/test_kvm_state.XXXXXX");
	fd = mkstemp(f->log);
	assert_true(fd >= 0);
	close(fd);
	assert_int_equal(log_configure(&config, &f->err), 0);
	*state = f;
	return 0;
}

static int teardown(void **state)
{
	struct fixture *f = *state;

	kvm_close(&f->kvm);
	state_writer_release(&f->writer);
	state_file_release(&f->file);
	unlink(f->log);
	free(f);
	return 0;
}

static bool logged(const struct fixture *f, const char *text)
{
	char buf[4096];
	int fd = open(f->log, O_RDONLY | O_CLOEXEC);
	ssize_t len = read(fd, buf, sizeof(buf) - 1);

	close(fd);
	buf[MAX(len, 0)] = '\0';
	return strstr(buf, text) != NULL;
}

/* What was written becomes the file that is read. */
static void finish(struct fixture *f)
{
	uint8_t *bytes = f->writer.bytes;

	assert_int_equal(state_writer_finish(&f->writer), 0);
	bytes = f->writer.bytes;
	f->writer.bytes = NULL;
	state_file_release(&f->file);
	assert_int_equal(
		state_file_parse(&f->file, bytes, f->writer.len, &f->err), 0);
	state_writer_init(&f->writer);
}

static void save_vcpu(struct fixture *f)
{
	int ret = vcpu_x86_save(&saved_vcpu, &f->kvm, &f->clock, &f->writer,
				&f->err);

	assert_string_equal(f->err.text, "");
	assert_int_equal(ret, 0);
	finish(f);
	forget_host(f);
}

static int load_vcpu(struct fixture *f)
{
	return vcpu_x86_load(&loaded_vcpu, &f->kvm, &f->file, &f->gap, &f->err);
}

static void load_vcpu_ok(struct fixture *f)
{
	int ret = load_vcpu(f);

	assert_string_equal(f->err.text, "");
	assert_int_equal(ret, 0);
}

static void load_vcpu_fails(struct fixture *f, int code, const char *text)
{
	assert_int_equal(load_vcpu(f), -code);
	assert_string_equal(f->err.text, text);
}

/* --------------------------------------------------------------------- vCPU */

static void test_load_vcpu_gives_what_was_saved(void **state)
{
	struct fixture *f = *state;

	save_vcpu(f);
	load_vcpu_ok(f);
	/* Wall clock addresses are the VM's. */
	fake_msr(SAVED, 0x11)->data = fake_msr(SAVED, 0x4b564d00)->data = 0;
	SAVED->events.flags |= KVM_VCPUEVENT_VALID_NMI_PENDING;
	memset(SAVED->xsave + 4096, 0, sizeof(SAVED->xsave) - 4096);
	assert_memory_equal(SAVED, LOADED, sizeof(*SAVED));
}

static void test_save_vcpu_reads_in_the_order_that_loses_nothing(void **state)
{
	struct fixture *f = *state;

	assert_int_equal(vcpu_x86_save(&saved_vcpu, &f->kvm, &f->clock,
				       &f->writer, &f->err),
			 0);
	assert_int_equal(fake_call_place(KVM_GET_MP_STATE), 0);
	assert_int_equal(fake_call_place(KVM_GET_VCPU_EVENTS),
			 (int)fake_host.call_count - 1);
}

static void test_load_vcpu_writes_in_the_order_that_kvm_needs(void **state)
{
	static const unsigned long order[] = {
		KVM_SET_CPUID2,	     KVM_SET_MP_STATE, KVM_SET_REGS,
		KVM_SET_SREGS,	     KVM_SET_XSAVE,    KVM_SET_XCRS,
		KVM_SET_DEBUGREGS,   KVM_SET_LAPIC,    KVM_SET_MSRS,
		KVM_SET_VCPU_EVENTS,
	};
	struct fixture *f = *state;

	save_vcpu(f);
	load_vcpu_ok(f);
	for (size_t i = 1; i < ARRAY_SIZE(order); i++)
		assert_true(fake_call_place(order[i - 1]) <
			    fake_call_place(order[i]));
	/* The TSC and all others, then its deadline. */
	assert_int_equal(fake_calls(KVM_SET_MSRS), 2);
	assert_int_equal(fake_call_place(KVM_SET_VCPU_EVENTS),
			 (int)fake_host.call_count - 1);
	assert_int_equal(fake_calls(KVM_GET_SUPPORTED_CPUID), 0);
}

static size_t vcpu_requests(void)
{
	size_t count = 0;

	for (size_t i = 0; i < fake_host.call_count; i++)
		count += fake_host.calls[i].fd >= FAKE_VCPU_FD;
	return count;
}

/* Each takes some 5 us: KVM loads and puts the vCPU around it. */
static void test_vcpu_state_takes_eleven_requests(void **state)
{
	struct fixture *f = *state;

	/* The first of a VM finds out which MSRs there are. */
	assert_int_equal(vcpu_x86_save(&saved_vcpu, &f->kvm, &f->clock,
				       &f->writer, &f->err),
			 0);
	fake_host.call_count = 0;
	assert_int_equal(vcpu_x86_save(&loaded_vcpu, &f->kvm, &f->clock,
				       &f->writer, &f->err),
			 0);
	assert_int_equal(vcpu_requests(), 11);
	state_writer_release(&f->writer);
	state_writer_init(&f->writer);
	save_vcpu(f);
	load_vcpu_ok(f);
	assert_int_equal(vcpu_requests(), 11);
}

static void test_load_vcpu_without_its_section_fails(void **state)
{
	struct fixture *f = *state;
	const struct vcpu other = {FAKE_VCPU_FD + 1, 3};

	save_vcpu(f);
	assert_int_equal(
		vcpu_x86_load(&other, &f->kvm, &f->file, &f->gap, &f->err),
		-EINVAL);
	assert_true(f->err.text[0]);
	assert_int_equal(fake_host.call_count, 0);
}

static void test_vcpu_refusals_of_kvm_name_the_request(void **state)
{
	static const struct {
		unsigned long request;
		const char *name;
	} sets[] = {
		{KVM_SET_CPUID2, "KVM_SET_CPUID2"},
		{KVM_SET_MP_STATE, "KVM_SET_MP_STATE"},
		{KVM_SET_REGS, "KVM_SET_REGS"},
		{KVM_SET_SREGS, "KVM_SET_SREGS"},
		{KVM_SET_XSAVE, "KVM_SET_XSAVE"},
		{KVM_SET_XCRS, "KVM_SET_XCRS"},
		{KVM_SET_DEBUGREGS, "KVM_SET_DEBUGREGS"},
		{KVM_SET_LAPIC, "KVM_SET_LAPIC"},
		{KVM_SET_MSRS, "KVM_SET_MSRS"},
		{KVM_SET_VCPU_EVENTS, "KVM_SET_VCPU_EVENTS"},
	};
	struct fixture *f = *state;
	char text[128];

	save_vcpu(f);
	for (size_t i = 0; i < ARRAY_SIZE(sets); i++) {
		snprintf(text, sizeof(text),
			 "vCPU 0: %s: Invalid argument (os error 22)",
			 sets[i].name);
		fake_host.fail = sets[i].request;
		load_vcpu_fails(f, EINVAL, text);
	}
}

static void test_save_vcpu_fails_with_any_request(void **state)
{
	static const unsigned long gets[] = {
		KVM_GET_MP_STATE,	KVM_GET_REGS,	     KVM_GET_SREGS,
		KVM_GET_CPUID2,		KVM_GET_XSAVE,	     KVM_GET_XCRS,
		KVM_GET_DEBUGREGS,	KVM_GET_LAPIC,	     KVM_GET_MSRS,
		KVM_GET_MSR_INDEX_LIST, KVM_GET_VCPU_EVENTS,
	};
	struct fixture *f = *state;
	size_t len = f->writer.len;

	for (size_t i = 0; i < ARRAY_SIZE(gets); i++) {
		forget_host(f);
		fake_host.fail = gets[i];
		assert_int_equal(vcpu_x86_save(&saved_vcpu, &f->kvm, &f->clock,
					       &f->writer, &f->err),
				 -EINVAL);
		assert_non_null(strstr(f->err.text, "vCPU 0: KVM_GET_"));
		assert_int_equal(f->writer.len, len);
	}
}

/* -------------------------------------------------------------- TSC, XSAVE */

static void test_load_vcpu_scales_another_tsc(void **state)
{
	struct fixture *f = *state;

	save_vcpu(f);
	fake_host.tsc_khz = 3000000;
	fake_host.scales_tsc = true;
	load_vcpu_ok(f);
	assert_int_equal(LOADED->tsc_khz, 2500000);
	assert_false(logged(f, "TSC"));
}

static void test_load_vcpu_warns_of_a_tsc_it_cannot_scale(void **state)
{
	struct fixture *f = *state;

	save_vcpu(f);
	fake_host.tsc_khz = 3000000;
	load_vcpu_ok(f);
	assert_true(logged(f, "TSC ran at 2500000 kHz and runs at 3000000"));
}

static void test_load_vcpu_lets_the_tsc_count_on(void **state)
{
	struct fixture *f = *state;

	save_vcpu(f);
	f->gap.ns = UINT64_C(3600000000000);
	load_vcpu_ok(f);
	assert_int_equal(fake_msr(LOADED, 0x10)->data,
			 1000 + UINT64_C(3600) * fake_host.tsc_khz * 1000);
	assert_int_equal(fake_msr(LOADED, 0x6e0)->data, 2000);
}

static void test_tsc_is_that_of_the_clocks_moment(void **state)
{
	struct fixture *f = *state;

	fake_host.has_tsc_offset = true;
	f->clock.host_tsc = 5000;
	SAVED->tsc_offset = 70;
	save_vcpu(f);
	f->gap = (struct kvm_x86_gap){.ns = 1000000, .host_tsc = 9000000};
	load_vcpu_ok(f);
	assert_int_equal(LOADED->tsc_offset,
			 UINT64_C(5070) + fake_host.tsc_khz - 9000000);
	/* Not by way of the register, and not too late for the deadline. */
	assert_int_equal(fake_msr(LOADED, 0x10)->data, 0);
	assert_int_equal(fake_msr(LOADED, 0x6e0)->data, 2000);
	assert_true(fake_call_place(KVM_SET_DEVICE_ATTR) <
		    fake_call_place(KVM_SET_MSRS));
}

static void test_tsc_is_read_and_written_where_kvm_has_no_offset(void **state)
{
	struct fixture *f = *state;

	f->clock.host_tsc = 5000;
	save_vcpu(f);
	f->gap.host_tsc = 9000;
	load_vcpu_ok(f);
	assert_int_equal(fake_msr(LOADED, 0x10)->data, 1000);
}

static void test_tsc_that_is_scaled_is_written(void **state)
{
	struct fixture *f = *state;

	fake_host.has_tsc_offset = true;
	f->clock.host_tsc = 5000;
	SAVED->tsc_offset = 70;
	save_vcpu(f);
	fake_host.tsc_khz = 3000000;
	fake_host.scales_tsc = true;
	f->gap.host_tsc = 9000;
	load_vcpu_ok(f);
	assert_int_equal(fake_msr(LOADED, 0x10)->data, 5070);
	assert_int_equal(LOADED->tsc_offset, 0);
}

static void test_xsave_larger_than_4096_is_kept(void **state)
{
	struct fixture *f = *state;

	fake_host.xsave_size = 8192;
	save_vcpu(f);
	load_vcpu_ok(f);
	assert_memory_equal(SAVED->xsave, LOADED->xsave, 8192);
	fake_host.xsave_size = 0;
	load_vcpu_fails(f, ENOTSUP,
			"The snapshot has 8192 bytes of XSAVE state, this host "
			"keeps 4096");
}

static void test_xsave_smaller_than_the_hosts_is_padded(void **state)
{
	struct fixture *f = *state;

	save_vcpu(f);
	fake_host.xsave_size = 8192;
	fill(LOADED->xsave, 8192, 9);
	load_vcpu_ok(f);
	assert_memory_equal(SAVED->xsave, LOADED->xsave, 4096);
	assert_int_equal(LOADED->xsave[4096] | LOADED->xsave[8191], 0);
}

/* --------------------------------------------------------------------- MSRs */

static void test_save_asks_each_refused_msr_once_per_vm(void **state)
{
	struct fixture *f = *state;
	size_t first;

	assert_int_equal(vcpu_x86_save(&saved_vcpu, &f->kvm, &f->clock,
				       &f->writer, &f->err),
			 0);
	first = fake_calls(KVM_GET_MSRS);
	assert_true(first > 1);
	assert_int_equal(vcpu_x86_save(&saved_vcpu, &f->kvm, &f->clock,
				       &f->writer, &f->err),
			 0);
	assert_int_equal(fake_calls(KVM_GET_MSRS), first + 1);
	assert_int_equal(fake_calls(KVM_GET_MSR_INDEX_LIST), 1);
}

static void test_more_msrs_than_fit_a_call_are_kept(void **state)
{
	struct fixture *f = *state;

	for (uint32_t i = 0; i < 300; i++) {
		fake_add_msr(SAVED, 0x20000 + i, i);
		fake_add_msr(LOADED, 0x20000 + i, 0);
		fake_host.listed[fake_host.listed_count++] = 0x20000 + i;
	}
	save_vcpu(f);
	load_vcpu_ok(f);
	for (uint32_t i = 0; i < 300; i++)
		assert_int_equal(fake_msr(LOADED, 0x20000 + i)->data, i);
	assert_int_equal(fake_msr(LOADED, 0x6e0)->data, 2000);
}

static void test_refused_msr_with_the_hosts_value_is_no_loss(void **state)
{
	struct fixture *f = *state;

	save_vcpu(f);
	fake_host.unwritable[0] = 0xc0000082;
	fake_msr(LOADED, 0xc0000082)->data = 0xffffffff81000000;
	load_vcpu_ok(f);
	assert_false(logged(f, "MSR"));
	assert_int_equal(fake_msr(LOADED, 0x6e0)->data, 2000);
}

static void test_refused_read_only_msr_is_a_warning(void **state)
{
	struct fixture *f = *state;

	save_vcpu(f);
	fake_host.unwritable[0] = 0x10a;
	fake_msr(LOADED, 0x10a)->data = 7;
	load_vcpu_ok(f);
	assert_true(logged(f, "MSR 0x10a was 0x5 when saved and is 0x7 here"));
	assert_int_equal(fake_msr(LOADED, 0xc0000082)->data,
			 0xffffffff81000000);
}

static void test_refused_msr_is_named_with_its_value(void **state)
{
	struct fixture *f = *state;

	save_vcpu(f);
	fake_host.unwritable[0] = 0xc0000082;
	load_vcpu_fails(f, EINVAL,
			"vCPU 0: This host refuses the value "
			"0xffffffff81000000 of MSR 0xc0000082");
}

/* ----------------------------------------------------------------- features */

/* As if the snapshot came from a host of which nothing else is known. */
static void check(struct fixture *f, int code, const char *text)
{
	AUTO_FREE struct kvm_cpuid2 *guest =
		calloc(1, sizeof(*guest) + sizeof(SAVED->cpuid));

	assert_non_null(guest);
	guest->nent = SAVED->cpuid_count;
	memcpy(guest->entries, SAVED->cpuid, sizeof(SAVED->cpuid));
	assert_int_equal(host_cpu_check(&f->kvm, guest, NULL, true, &f->err),
			 -code);
	assert_string_equal(f->err.text, text);
}

static void test_features_shaped_by_the_monitor_are_not_missed(void **state)
{
	check(*state, 0, "");
}

static void test_features_that_the_host_lacks_are_named(void **state)
{
	SAVED->cpuid[2].ebx |= 1u << 16;
	check(*state, ENOTSUP,
	      "The snapshot needs CPU features that this host lacks: leaf "
	      "0x7.0 ebx bit 16");
	SAVED->cpuid[2].ebx |= 1u << 30;
	SAVED->cpuid[4].ecx = 1;
	check(*state, ENOTSUP,
	      "The snapshot needs CPU features that this host lacks: leaf "
	      "0x7.0 ebx bits 16, 30; leaf 0x80000001.0 ecx bit 0");
}

static void test_features_by_the_thousand_fit_the_sentence(void **state)
{
	struct fixture *f = *state;
	AUTO_FREE struct kvm_cpuid2 *guest =
		calloc(1, sizeof(*guest) + 5 * sizeof(guest->entries[0]));

	assert_non_null(guest);
	guest->nent = 5;
	memset(guest->entries, 0xff, 5 * sizeof(guest->entries[0]));
	for (uint32_t i = 0; i < 5; i++) {
		guest->entries[i].function = SAVED->cpuid[i].function;
		guest->entries[i].index = 0;
	}
	assert_int_equal(
		host_cpu_check(&f->kvm, guest, "elsewhere", true, &f->err),
		-ENOTSUP);
}

static void test_another_model_is_a_warning(void **state)
{
	SAVED->cpuid[1].eax = 0x00a20f11;
	check(*state, 0, "");
	assert_true(logged(*state, "another family or model"));
	assert_false(logged(*state, "another vendor"));
	SAVED->cpuid[0].ebx++;
	check(*state, 0, "");
	assert_true(logged(*state, "another vendor"));
}

static void test_load_vcpu_from_another_host_asks_kvm(void **state)
{
	struct fixture *f = *state;

	SAVED->cpuid[2].ebx |= 1u << 16;
	f->kvm.host = strdup("another host");
	save_vcpu(f);
	load_vcpu_fails(f, ENOTSUP,
			"The snapshot needs CPU features that this host lacks: "
			"leaf 0x7.0 ebx bit 16");
	assert_int_equal(fake_calls(KVM_GET_SUPPORTED_CPUID), 1);
	assert_int_equal(fake_calls(KVM_SET_CPUID2), 0);
}

/* -------------------------------------------------------------- hostile bytes
 */

/* A file with one section, of the first @len bytes of @reader's. */
static void replace(struct fixture *f, const struct state_reader *reader,
		    const uint8_t *bytes, size_t len)
{
	state_begin(&f->writer, reader->tag, 1, 0);
	state_put(&f->writer, bytes, len);
	state_end(&f->writer);
	finish(f);
}

/* Loads each beginning of the section, and the section with each byte spoilt:
 * a sentence for the former, no crash for the latter. */
static void torture(struct fixture *f, uint32_t tag,
		    int (*load)(struct fixture *))
{
	struct state_reader reader;
	uint8_t *bytes;
	size_t len;

	assert_true(state_find(&f->file, tag, 0, &reader));
	len = reader.left;
	bytes = malloc(len + 1);
	assert_non_null(bytes);
	memcpy(bytes, reader.at, len);
	for (size_t i = 0; i < len; i++) {
		fake_host.call_count = 0;
		f->err = (struct error){0};
		replace(f, &reader, bytes, i);
		assert_int_equal(load(f), -EINVAL);
		assert_non_null(strstr(f->err.text, "malformed"));
		assert_int_equal(fake_host.call_count, 0);
		bytes[i] ^= 0xff;
		f->err = (struct error){0};
		replace(f, &reader, bytes, len);
		if (load(f))
			assert_true(f->err.text[0]);
		bytes[i] ^= 0xff;
	}
	bytes[len] = 0;
	replace(f, &reader, bytes, len + 1);
	assert_int_equal(load(f), -EINVAL);
	free(bytes);
}

static void test_load_vcpu_survives_any_bytes(void **state)
{
	struct fixture *f = *state;

	save_vcpu(f);
	torture(f, VCPU_TAG, load_vcpu);
}

/* ----------------------------------------------------------------------- VM */

static void save_kvm(struct fixture *f)
{
	assert_int_equal(kvm_x86_read_clock(&f->kvm, &f->clock, &f->err), 0);
	assert_int_equal(kvm_x86_save(&f->kvm, &saved_vcpu, &f->clock,
				      &f->writer, &f->err),
			 0);
	finish(f);
	fake_host.call_count = 0;
}

static int load_early(struct fixture *f, bool clock_realtime)
{
	return kvm_x86_load_early(&f->file, clock_realtime, &f->early, &f->err);
}

static int load_clock(struct fixture *f, bool clock_realtime)
{
	return kvm_x86_load_clock(&f->kvm, &f->file, clock_realtime, &f->gap,
				  &f->err);
}

static int load_kvm(struct fixture *f)
{
	int ret = load_clock(f, false);

	return ret ? ret
		   : kvm_x86_load(&f->kvm, &loaded_vcpu, &f->file, &f->err);
}

static void test_load_kvm_gives_what_was_saved(void **state)
{
	struct fixture *f = *state;
	struct fake_host before;

	f->kvm.has_pit = true;
	fill(&fake_host.pit, sizeof(fake_host.pit), 8);
	fake_host.clock.clock = 123456;
	save_kvm(f);
	before = fake_host;
	memset(&fake_host.pit, 0, sizeof(fake_host.pit));
	fake_host.clock.clock = 0;
	for (uint32_t i = 0; i < 3; i++)
		memset(&fake_host.chips[i], 0, sizeof(fake_host.chips[i]));
	assert_int_equal(load_early(f, false), 0);
	assert_true(f->early.has_pit);
	assert_int_equal(load_kvm(f), 0);
	assert_memory_equal(fake_host.chips, before.chips,
			    sizeof(before.chips));
	assert_memory_equal(&fake_host.pit, &before.pit, sizeof(before.pit));
	assert_int_equal(fake_host.clock.clock, 123456);
	assert_int_equal(fake_host.clock.flags, 0);
	/* The wall clock depends on the clock. */
	assert_int_equal(fake_msr(LOADED, 0x4b564d00)->data, 0x3001);
	assert_true(fake_call_place(KVM_SET_CLOCK) <
		    fake_call_place(KVM_SET_MSRS));
}

static void test_load_kvm_without_a_pit(void **state)
{
	struct fixture *f = *state;

	save_kvm(f);
	assert_int_equal(load_early(f, false), 0);
	assert_false(f->early.has_pit);
	assert_int_equal(load_kvm(f), 0);
	assert_int_equal(fake_calls(KVM_SET_PIT2), 0);
	f->kvm.has_pit = true;
	assert_int_equal(load_kvm(f), -EINVAL);
	assert_string_equal(f->err.text,
			    "The snapshot has no PIT, this VM has one");
}

static void test_load_kvm_with_realtime_moves_the_clock(void **state)
{
	struct fixture *f = *state;

	fake_host.clock = (struct kvm_clock_data){
		.clock = 5,
		.flags = KVM_CLOCK_REALTIME | KVM_CLOCK_HOST_TSC |
			 KVM_CLOCK_TSC_STABLE,
		.realtime = 1700000000000000000,
		.host_tsc = 7,
	};
	save_kvm(f);
	assert_int_equal(load_clock(f, true), 0);
	assert_int_equal(fake_host.clock.flags, KVM_CLOCK_REALTIME);
	assert_int_equal(fake_host.clock.realtime, 1700000000000000000);
	assert_int_equal(fake_host.clock.host_tsc, 0);
	assert_int_equal(load_kvm(f), 0);
	assert_int_equal(fake_host.clock.flags, 0);
}

static void test_load_clock_tells_how_far_it_is(void **state)
{
	struct fixture *f = *state;

	fake_host.clock.clock = 123456;
	save_kvm(f);
	assert_int_equal(load_clock(f, false), 0);
	assert_int_equal(f->gap.ns, 0);
	assert_int_equal(f->gap.host_tsc, 0);
	fake_host.clock_step = 44;
	fake_host.host_tsc = 7000;
	assert_int_equal(load_clock(f, false), 0);
	assert_int_equal(f->gap.ns, 44);
	assert_int_equal(f->gap.host_tsc, 7000);
}

static void test_load_kvm_with_realtime_but_none_saved_fails(void **state)
{
	struct fixture *f = *state;

	save_kvm(f);
	assert_int_equal(load_early(f, true), -EINVAL);
	assert_string_equal(f->err.text,
			    "clock_realtime requested but not present in the "
			    "snapshot state");
	assert_int_equal(fake_host.call_count, 0);
}

static void test_load_kvm_survives_any_bytes(void **state)
{
	struct fixture *f = *state;

	f->kvm.has_pit = true;
	save_kvm(f);
	torture(f, KVM_TAG, load_kvm);
}

/* -------------------------------------------------------------- dirty pages */

static void test_collect_dirty_joins_the_slots(void **state)
{
	static const struct gmem_range ranges[] = {
		{0, 3 * 4096}, {MIB(1), 70 * 4096}, {MIB(4), 64 * 4096}};
	struct fixture *f = *state;
	struct gmem *mem;
	/* 137 pages take three words. */
	uint64_t bitmap[3] = {BIT(1)};

	assert_int_equal(gmem_create(&mem,
				     &(const struct gmem_request){
					     .ranges = ranges,
					     .count = ARRAY_SIZE(ranges),
					     .fd = -1},
				     &f->err),
			 0);
	assert_int_equal(kvm_set_memory(&f->kvm, mem, false, &f->err), 0);
	assert_false(f->kvm.logs_dirty);
	assert_int_equal(kvm_collect_dirty(&f->kvm, mem, bitmap), -ENOENT);
	assert_int_equal(kvm_set_memory(&f->kvm, mem, true, &f->err), 0);
	assert_true(f->kvm.logs_dirty);
	fake_host.dirty[0][0] = BIT(2);
	fake_host.dirty[1][0] = BIT(0) | BIT(60) | BIT(61) | BIT(63);
	fake_host.dirty[1][1] = BIT(5);
	fake_host.dirty[2][0] = BIT(0) | BIT(63);
	assert_int_equal(kvm_collect_dirty(&f->kvm, mem, bitmap), 0);
	assert_int_equal(bitmap[0], BIT(1) | BIT(2) | BIT(3) | BIT(63));
	assert_int_equal(bitmap[1],
			 BIT(0) | BIT(2) | BIT(72 - 64) | BIT(73 - 64));
	assert_int_equal(bitmap[2], BIT(136 - 128));
	assert_int_equal(kvm_collect_dirty(&f->kvm, mem, bitmap), 0);
	assert_int_equal(bitmap[2], BIT(136 - 128));
	fake_host.fail = KVM_GET_DIRTY_LOG;
	assert_int_equal(kvm_collect_dirty(&f->kvm, mem, bitmap), -EINVAL);
	gmem_destroy(mem);
}

/* Of pluggable memory the slots in which anything is plugged. */
static void test_pluggable_memory_has_slots_where_it_is_plugged(void **state)
{
	static const struct gmem_range ranges[] = {{0, 64 * 4096},
						   {GIB(4), 512 * 4096}};
	/* 4 slots of 8 blocks of 16 pages; the second slot has two */
	static const uint8_t plugged[] = {0, 0x81, 0, 0};
	static const struct gmem_pluggable pluggable = {16 * 4096, 128 * 4096,
							plugged};
	struct fixture *f = *state;
	const struct gmem_region *region;
	struct gmem *mem;
	uint64_t bitmap[9] = {0};

	assert_int_equal(gmem_create(&mem,
				     &(const struct gmem_request){
					     .ranges = ranges,
					     .count = ARRAY_SIZE(ranges),
					     .pluggable = &pluggable,
					     .fd = -1},
				     &f->err),
			 0);
	region = gmem_pluggable(mem);
	fake_host.slot_count = KVM_SLOT_HOTPLUG + 3;
	assert_int_equal(kvm_set_memory(&f->kvm, mem, true, &f->err), -EINVAL);
	assert_non_null(strstr(f->err.text, "4 slots of 0 MiB are more than "
					    "the 3"));
	fake_host.slot_count = KVM_SLOT_HOTPLUG + 4;
	assert_int_equal(kvm_set_memory(&f->kvm, mem, true, &f->err), 0);
	assert_int_equal(fake_host.slot_pages[0], 64);
	assert_int_equal(fake_host.slot_pages[1], 0);
	assert_int_equal(fake_host.slot_pages[KVM_SLOT_HOTPLUG], 0);
	assert_int_equal(fake_host.slot_pages[KVM_SLOT_HOTPLUG + 1], 128);

	assert_int_equal(kvm_plug_slot(&f->kvm, region, 3, true), 0);
	gmem_plug(mem, GIB(4) + 400 * 4096, 16 * 4096, true);
	assert_int_equal(fake_host.slot_pages[KVM_SLOT_HOTPLUG + 3], 128);
	fake_host.dirty[0][0] = BIT(2);
	fake_host.dirty[KVM_SLOT_HOTPLUG + 1][0] = BIT(3);
	fake_host.dirty[KVM_SLOT_HOTPLUG + 2][0] = BIT(4); /* there is none */
	fake_host.dirty[KVM_SLOT_HOTPLUG + 3][1] = BIT(5);
	assert_int_equal(kvm_collect_dirty(&f->kvm, mem, bitmap), 0);
	assert_int_equal(bitmap[0], BIT(2));
	assert_int_equal(bitmap[(64 + 128) / 64], BIT(3));
	assert_int_equal(bitmap[(64 + 256) / 64], 0);
	assert_int_equal(bitmap[(64 + 384) / 64 + 1], BIT(5));

	assert_int_equal(kvm_plug_slot(&f->kvm, region, 3, false), 0);
	assert_int_equal(fake_host.slot_pages[KVM_SLOT_HOTPLUG + 3], 0);
	fake_host.fail = KVM_SET_USER_MEMORY_REGION;
	assert_int_equal(kvm_plug_slot(&f->kvm, region, 3, true), -EINVAL);
	gmem_destroy(mem);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_load_vcpu_gives_what_was_saved),
		TEST(test_save_vcpu_reads_in_the_order_that_loses_nothing),
		TEST(test_load_vcpu_writes_in_the_order_that_kvm_needs),
		TEST(test_vcpu_state_takes_eleven_requests),
		TEST(test_load_vcpu_without_its_section_fails),
		TEST(test_vcpu_refusals_of_kvm_name_the_request),
		TEST(test_save_vcpu_fails_with_any_request),
		TEST(test_load_vcpu_scales_another_tsc),
		TEST(test_load_vcpu_warns_of_a_tsc_it_cannot_scale),
		TEST(test_load_vcpu_lets_the_tsc_count_on),
		TEST(test_tsc_is_that_of_the_clocks_moment),
		TEST(test_tsc_is_read_and_written_where_kvm_has_no_offset),
		TEST(test_tsc_that_is_scaled_is_written),
		TEST(test_xsave_larger_than_4096_is_kept),
		TEST(test_xsave_smaller_than_the_hosts_is_padded),
		TEST(test_save_asks_each_refused_msr_once_per_vm),
		TEST(test_more_msrs_than_fit_a_call_are_kept),
		TEST(test_refused_msr_with_the_hosts_value_is_no_loss),
		TEST(test_refused_read_only_msr_is_a_warning),
		TEST(test_refused_msr_is_named_with_its_value),
		TEST(test_features_shaped_by_the_monitor_are_not_missed),
		TEST(test_features_that_the_host_lacks_are_named),
		TEST(test_features_by_the_thousand_fit_the_sentence),
		TEST(test_another_model_is_a_warning),
		TEST(test_load_vcpu_from_another_host_asks_kvm),
		TEST(test_load_vcpu_survives_any_bytes),
		TEST(test_load_kvm_gives_what_was_saved),
		TEST(test_load_kvm_without_a_pit),
		TEST(test_load_kvm_with_realtime_moves_the_clock),
		TEST(test_load_clock_tells_how_far_it_is),
		TEST(test_load_kvm_with_realtime_but_none_saved_fails),
		TEST(test_load_kvm_survives_any_bytes),
		TEST(test_collect_dirty_joins_the_slots),
		TEST(test_pluggable_memory_has_slots_where_it_is_plugged),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
