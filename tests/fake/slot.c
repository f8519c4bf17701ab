/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/fake/slot.h"

#include <assert.h>
#include <string.h>
#include <zlib.h>

void slot_create(struct slot *slot, struct virtio_device *dev,
		 struct loop *loop, struct gmem *mem)
{
	int ret;

	*slot = (struct slot){.dev = dev, .loop = loop};
	memset(&fake_kvm, 0, sizeof(fake_kvm));
	ret = virtio_mmio_create(&slot->mmio, dev, SLOT_BASE, SLOT_GSI);
	assert(ret == 0);
	ret = virtio_mmio_attach(slot->mmio, &slot->kvm, &slot->bus, loop, mem,
				 NULL);
	assert(ret == 0);
}

void slot_destroy(struct slot *slot)
{
	memset(&fake_kvm, 0, sizeof(fake_kvm));
	virtio_mmio_destroy(slot->mmio);
	virtio_device_destroy(slot->dev);
}

void slot_activate(struct slot *slot, struct ring *const *rings,
		   uint64_t features)
{
	struct virtio_device *dev = slot->dev;

	pthread_mutex_lock(&dev->lock);
	dev->status = 15;
	dev->driver_features = dev->features & features;
	for (uint16_t q = 0; q < dev->queue_count; q++)
		ring_describe(rings[q], &dev->queues[q]);
	virtio_device_activate(dev);
	virtio_device_settle(dev);
	assert(dev->active);
	pthread_mutex_unlock(&dev->lock);
}

void slot_kick(struct slot *slot, uint16_t q)
{
	pthread_mutex_lock(&slot->dev->lock);
	while (virtio_device_queue_event(slot->dev, q))
		;
	pthread_mutex_unlock(&slot->dev->lock);
}

uint64_t slot_edges(struct slot *slot)
{
	uint64_t count;

	return read(slot->dev->irq.fd, &count, sizeof(count)) < 0 ? 0 : count;
}

void slot_save(struct slot *slot, struct state_file *ret_file)
{
	struct state_writer writer;
	int ret;

	loop_enable_devices(slot->loop, false);
	virtio_device_hold(slot->dev, true);
	state_writer_init(&writer);
	virtio_mmio_save(slot->mmio, &writer, 0);
	ret = state_writer_finish(&writer);
	assert(ret == 0);
	ret = state_file_parse(ret_file, take_ptr(writer.bytes), writer.len,
			       NULL);
	assert(ret == 0);
}

void slot_resume(struct slot *slot)
{
	virtio_device_hold(slot->dev, false);
	virtio_mmio_rekick(slot->mmio);
	loop_enable_devices(slot->loop, true);
}

int slot_load(struct slot *slot, const struct state_file *file,
	      struct error *err)
{
	int ret = virtio_mmio_load(slot->mmio, file, 0, err);

	if (!ret)
		slot_resume(slot);
	return ret;
}

struct gmem *memory_copy(const struct gmem *mem)
{
	const struct gmem_region *from = gmem_region(mem, 0);
	const struct gmem_range range = {from->gpa, from->len};
	struct gmem *copy = NULL;
	int ret = gmem_create(&copy,
			      &(const struct gmem_request){
				      .ranges = &range, .count = 1, .fd = -1},
			      NULL);

	assert(ret == 0);
	ret = gmem_write(copy, from->gpa, from->hva, from->len);
	assert(ret == 0);
	return copy;
}

void file_sign(uint8_t *bytes, size_t len)
{
	const size_t end = len - sizeof(le32);
	const le32 crc = le32_make((uint32_t)crc32_z(0, bytes, end));

	memcpy(bytes + end, &crc, sizeof(crc));
}

bool file_damage(const struct state_file *file, size_t off, uint8_t value,
		 struct state_file *ret_file)
{
	uint8_t *bytes = malloc(file->len);

	assert(bytes && off < file->len);
	memcpy(bytes, file->bytes, file->len);
	bytes[off] = value;
	file_sign(bytes, file->len);
	return state_file_parse(ret_file, bytes, file->len, NULL) == 0;
}
