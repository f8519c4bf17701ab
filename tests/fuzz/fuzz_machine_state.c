/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A state file of anybody's making, from the side of the machine: what was
 * configured, vCPU, KVM's own devices, where the memory file is. KVM is faked
 * and takes everything that the real one looks at itself. The input is the
 * file, whose CRC is put right. What loads passes the API's validators.
 *
 * With EMBER_STATE_SEEDS=<directory> the program writes a file as the monitor
 * makes them: that is the corpus.
 */
#include "snapshot/config_state.h"
#include "snapshot/describe.h"
#include "snapshot/pair.h"
#include "tests/fake/kvm_ioctl.h"
#include "vmm/host_cpu_x86.h"
#include "vmm/kvm.h"
#include "vmm/kvm_state_x86.h"
#include "vmm/log.h"
#include "vmm/vcpu.h"
#include "vmm/vcpu_state_x86.h"

#include <assert.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <zlib.h>

#define SIZE_MAX_INPUT 16384

int LLVMFuzzerInitialize(int *argc, char ***argv);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* A vCPU is its descriptor and its number here. */
struct vcpu {
	int fd;
	uint32_t id;
};

static const struct vcpu vcpus[] = {{FAKE_VCPU_FD, 0}, {FAKE_VCPU_FD + 1, 1}};

int vcpu_fd(const struct vcpu *vcpu)
{
	return vcpu->fd;
}

uint32_t vcpu_id(const struct vcpu *vcpu)
{
	return vcpu->id;
}

/* -------------------------------------------------------------------- host */

static void reset_host(void)
{
	static const struct kvm_cpuid_entry2 leaves[] = {
		{.function = 0, .eax = 0xd, .ebx = 1},
		{.function = 1, .eax = 0x00a10f11, .ecx = 0xf, .edx = 0xff},
		{.function = 7, .flags = 1, .ebx = 0x20},
	};
	static const uint32_t msrs[] = {0x10,  0x11,	   0x6e0,
					0x10a, 0x4b564d00, 0x4b564d01};

	fake_host.call_count = 0;
	fake_host.tsc_khz = 2500000;
	fake_host.xsave_size = 4096;
	memcpy(fake_host.supported, leaves, sizeof(leaves));
	fake_host.supported_count = ARRAY_SIZE(leaves);
	memcpy(fake_host.listed, msrs, sizeof(msrs));
	fake_host.listed_count = ARRAY_SIZE(msrs);
	for (uint32_t i = 0; i < ARRAY_SIZE(fake_host.chips); i++)
		fake_host.chips[i].chip_id = i;
	for (size_t i = 0; i < FAKE_VCPUS; i++) {
		struct fake_vcpu *vcpu = &fake_host.vcpus[i];

		memcpy(vcpu->cpuid, leaves, sizeof(leaves));
		vcpu->cpuid_count = ARRAY_SIZE(leaves);
		vcpu->tsc_khz = fake_host.tsc_khz;
		vcpu->msr_count = 0;
		for (size_t k = 0; k < ARRAY_SIZE(msrs); k++)
			fake_add_msr(vcpu, msrs[k], 0);
	}
}

static struct kvm open_host(void)
{
	struct kvm kvm;

	reset_host();
	kvm_init(&kvm);
	kvm.fd = FAKE_KVM_FD;
	kvm.vm_fd = FAKE_VM_FD;
	return kvm;
}

/* -------------------------------------------------------------------- load */

static void load_kvm(const struct state_file *file)
{
	struct kvm kvm = open_host();
	struct kvm_x86_early early = {0};
	struct kvm_x86_gap gap = {0};
	struct error err = {0};
	int ret = kvm_x86_load_early(file, true, &early, &err);

	assert(!ret || err.text[0]);
	kvm.has_pit = early.has_pit;
	err.text[0] = '\0';
	ret = kvm_x86_load_clock(&kvm, file, file->len % 2, &gap, &err);
	assert(!ret || err.text[0]);
	for (size_t i = 0; i < ARRAY_SIZE(vcpus); i++) {
		err.text[0] = '\0';
		ret = vcpu_x86_load(&vcpus[i], &kvm, file, &gap, &err);
		assert(!ret || err.text[0]);
	}
	err.text[0] = '\0';
	ret = kvm_x86_load(&kvm, &vcpus[0], file, &err);
	assert(!ret || err.text[0]);
	kvm_close(&kvm);
}

static void load_machine(const struct state_file *file)
{
	struct machine_update update = {
		.has_vcpu_count = true,
		.has_mem_size_mib = true,
		.has_smt = true,
		.has_track_dirty_pages = true,
		.has_huge_pages = true,
	};
	struct machine_config config = machine_config_default;
	struct boot_source_config boot = {0};
	struct error err = {0};

	if (config_state_load_machine(file, &update.values, &err) ||
	    machine_config_update(&config, &update, &err))
		assert(err.text[0]);
	err.text[0] = '\0';
	assert(!config_state_load_boot(file, &boot, &err) || err.text[0]);
	boot_source_config_release(&boot);
}

static void load_devices(const struct state_file *file)
{
	bool found = true;

	for (uint16_t i = 0; i < 3; i++) {
		struct drive_config drive = {0};
		struct net_config net = {0};
		struct error err = {0};

		if (!config_state_load_drive(file, i, &drive, &found, &err))
			assert(!found ||
			       (drive.drive_id[0] && drive.path_on_host));
		if (!config_state_load_net(file, i, &net, &found, &err))
			assert(!found ||
			       (net.iface_id[0] && net.host_dev_name));
		drive_config_release(&drive);
		net_config_release(&net);
	}
}

static void load_services(const struct state_file *file)
{
	struct vsock_config vsock = {0};
	struct hotplug_config hotplug = {0};
	struct mmds_config mmds = {0};
	struct snapshot_meta meta = {0};
	struct snapshot_pair pair;
	struct error err = {0};
	bool found;

	if (!config_state_load_vsock(file, &vsock, &found, &err))
		assert(!found || vsock.uds_path);
	if (!config_state_load_hotplug(file, &hotplug, &found, &err))
		assert(!found || !hotplug_config_check(&hotplug, NULL));
	if (!config_state_load_mmds(file, &mmds, &found, &err))
		for (size_t i = 0; i < mmds.interface_count; i++)
			assert(strlen(mmds.interfaces[i]) < SIZE_MAX_INPUT);
	(void)!snapshot_meta_load(file, &meta, &err);
	if (!pair_load(file, &pair, &err))
		assert(!strchr(pair.name, '/'));
	vsock_config_release(&vsock);
	mmds_config_release(&mmds);
	snapshot_meta_release(&meta);
}

/* -------------------------------------------------------------------- seeds */

static char some_text[] = "text";

static void save_config(struct state_writer *writer)
{
	static char *interfaces[] = {some_text};
	const struct boot_source_config boot = {.kernel_image_path = some_text,
						.boot_args = some_text};
	const struct drive_config drive = {.drive_id = some_text,
					   .path_on_host = some_text};
	const struct net_config net = {.iface_id = some_text,
				       .host_dev_name = some_text};
	const struct vsock_config vsock = {.uds_path = some_text};
	const struct mmds_config mmds = {.interfaces = interfaces,
					 .interface_count = 1};
	const struct snapshot_meta meta = {.version = some_text,
					   .id = some_text};
	const struct snapshot_pair pair = {.name = ".ember-00000000-0"};

	config_state_save_machine(writer, &machine_config_default);
	config_state_save_boot(writer, &boot);
	config_state_save_drive(writer, 0, &drive);
	config_state_save_net(writer, 0, &net);
	config_state_save_vsock(writer, &vsock);
	config_state_save_mmds(writer, &mmds);
	snapshot_meta_save(writer, &meta);
	pair_save(writer, &pair);
}

static void write_seed(const char *dir)
{
	struct kvm kvm = open_host();
	struct kvm_x86_clock clock = {0};
	struct state_writer writer;
	char path[256];
	int fd;

	kvm.has_pit = true;
	state_writer_init(&writer);
	save_config(&writer);
	if (kvm_x86_read_clock(&kvm, &clock, NULL) ||
	    vcpu_x86_save(&vcpus[0], &kvm, &clock, &writer, NULL) ||
	    kvm_x86_save(&kvm, &vcpus[0], &clock, &writer, NULL) ||
	    state_writer_finish(&writer))
		abort();
	snprintf(path, sizeof(path), "%s/machine", dir);
	fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0644);
	if (fd < 0 || write(fd, writer.bytes, writer.len) < 0)
		abort();
	close_fd(&fd);
	state_writer_release(&writer);
	kvm_close(&kvm);
}

/* ------------------------------------------------------------------ fuzzing */

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
	const struct log_config quiet = {.level = LOG_LEVEL_OFF};
	const char *seeds = getenv("EMBER_STATE_SEEDS");

	(void)argc;
	(void)argv;
	if (log_configure(&quiet, NULL))
		return -1;
	if (seeds)
		write_seed(seeds);
	return 0;
}

static void sign(uint8_t *bytes, size_t len)
{
	const size_t end = len - sizeof(le32);
	const le32 crc = le32_make((uint32_t)crc32_z(0, bytes, end));

	memcpy(bytes + end, &crc, sizeof(crc));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct state_file file;
	uint8_t *bytes;

	if (size < sizeof(le32) || size > SIZE_MAX_INPUT)
		return 0;
	bytes = malloc(size);
	if (!bytes)
		abort();
	memcpy(bytes, data, size);
	sign(bytes, size);
	if (state_file_parse(&file, bytes, size, NULL))
		return 0;
	load_kvm(&file);
	load_machine(&file);
	load_devices(&file);
	load_services(&file);
	state_file_release(&file);
	return 0;
}
