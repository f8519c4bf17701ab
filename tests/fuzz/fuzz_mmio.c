/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Any sequence of register accesses, memory writes and kicks on a block
 * device: the input is a list of commands of eight bytes.
 */
#include "tests/fake/kvm.h"
#include "tests/fake/ring.h"
#include "virtio/block.h"
#include "virtio/mmio.h"
#include "vmm/log.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>

#define BASE UINT64_C(0xc0001000)

struct command {
	uint8_t kind, len_log2;
	uint16_t where;
	uint32_t value;
};

int LLVMFuzzerInitialize(int *argc, char ***argv);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static char disk_path[64];

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
	const struct log_config quiet = {.level = LOG_LEVEL_OFF};
	int fd = memfd_create("disk", 0);

	(void)argc;
	(void)argv;
	if (fd < 0 || ftruncate(fd, 65536) || log_configure(&quiet, NULL))
		return -1;
	snprintf(disk_path, sizeof(disk_path), "/proc/self/fd/%d", fd);
	return 0;
}

static void run(const struct command *command, struct bus *bus,
		struct gmem *mem, struct virtio_device *dev)
{
	size_t len = (size_t)1 << (command->len_log2 & 3);
	uint64_t off = command->where & 0xfff;
	uint8_t bytes[8] = {0};

	memcpy(bytes, &command->value, sizeof(command->value));
	switch (command->kind & 3) {
	case 0:
		bus_read(bus, BASE + off, bytes, len);
		return;
	case 1:
		bus_write(bus, BASE + off, bytes, len);
		return;
	case 2:
		if (gmem_write(mem, RING_DESC + command->where, bytes, len))
			return;
		return;
	default:
		pthread_mutex_lock(&dev->lock);
		virtio_device_queue_event(dev, command->where);
		pthread_mutex_unlock(&dev->lock);
		return;
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	const struct drive_config config = {.drive_id = disk_path,
					    .path_on_host = disk_path,
					    .cache_type = CACHE_WRITEBACK};
	struct block_metrics metrics = {0};
	struct virtio_mmio *mmio = NULL;
	struct block *block = NULL;
	struct loop *loop = NULL;
	struct bus bus = {0};
	struct kvm kvm = {0};
	struct ring ring;
	struct command command;

	memset(&fake_kvm, 0, sizeof(fake_kvm));
	if (ring_create(&ring, 16) || loop_create(&loop) ||
	    block_create(&block, &config, &metrics, NULL) ||
	    virtio_mmio_create(&mmio, block_virtio(block), BASE, 5) ||
	    virtio_mmio_attach(mmio, &kvm, &bus, loop, ring.mem, NULL))
		abort();
	for (; size >= sizeof(command); size -= sizeof(command)) {
		memcpy(&command, data, sizeof(command));
		data += sizeof(command);
		run(&command, &bus, ring.mem, block_virtio(block));
	}
	virtio_mmio_destroy(mmio);
	virtio_device_destroy(block_virtio(block));
	loop_destroy(loop);
	ring_destroy(&ring);
	return 0;
}
