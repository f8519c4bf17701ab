/* SPDX-License-Identifier: Apache-2.0 */
#include "virtio/vhost_net.h"

#include "virtio/net_frame.h"
#include "vmm/log.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/vhost.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>

#define QUEUES 2

/* What of the driver's features concerns the rings; the rest is the tap's. */
#define RING_FEATURES                                                          \
	(BIT(VIRTIO_F_VERSION_1) | BIT(VIRTIO_F_EVENT_IDX) |                   \
	 BIT(VIRTIO_NET_F_MRG_RXBUF))

#define MEMORY_TABLE_MAX                                                       \
	(sizeof(struct vhost_memory) +                                         \
	 GMEM_REGIONS_MAX * sizeof(struct vhost_memory_region))

int vhost_net_open(struct vhost_net *vhost, struct error *err)
{
	AUTO_CLOSE int fd = open("/dev/vhost-net", O_RDWR | O_CLOEXEC);
	uint64_t features = 0;

	if (fd < 0)
		return error_set_os(err, errno,
				    "vhost was asked for, but /dev/vhost-net "
				    "cannot be opened:");
	if (ioctl(fd, VHOST_SET_OWNER) ||
	    ioctl(fd, VHOST_GET_FEATURES, &features))
		return error_set_os(err, errno, "vhost does not answer:");
	if ((features & RING_FEATURES) != RING_FEATURES)
		return error_set(err, ENOTSUP,
				 "vhost of this kernel lacks features: it has "
				 "%#lx",
				 (unsigned long)features);
	vhost->errors = (struct loop_source){
		.fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK),
		.events = EPOLLIN | EPOLLET,
		.class = LOOP_DEVICE,
	};
	if (vhost->errors.fd < 0)
		return error_set_os(err, errno, "No eventfd for vhost:");
	vhost->fd = take_fd(&fd);
	return 0;
}

void vhost_net_close(struct vhost_net *vhost)
{
	if (vhost->fd < 0)
		return;
	close_fd(&vhost->fd);
	close_fd(&vhost->errors.fd);
	vhost->running = false;
	free(take_ptr(vhost->log));
}

static int set_memory(const struct vhost_net *vhost, const struct gmem *mem)
{
	_Alignas(struct vhost_memory) uint8_t space[MEMORY_TABLE_MAX] = {0};
	struct vhost_memory *table = (struct vhost_memory *)(void *)space;

	table->nregions = (uint32_t)gmem_region_count(mem);
	for (size_t i = 0; i < table->nregions; i++) {
		const struct gmem_region *region = gmem_region(mem, i);

		table->regions[i] = (struct vhost_memory_region){
			.guest_phys_addr = region->gpa,
			.memory_size = region->len,
			.userspace_addr = (uintptr_t)region->hva,
		};
	}
	return ioctl(vhost->fd, VHOST_SET_MEM_TABLE, table) ? -errno : 0;
}

/* ------------------------------------------------------- what vhost writes */

static int make_log(struct vhost_net *vhost, const struct gmem *mem)
{
	const struct gmem_region *last =
		gmem_region(mem, gmem_region_count(mem) - 1);

	vhost->log_words = (last->gpa + last->len) / PAGE_SIZE_4K / 64 + 1;
	vhost->log = calloc(vhost->log_words, sizeof(*vhost->log));
	return vhost->log ? 0 : -ENOMEM;
}

/* Has vhost log if it is of use; memory was set before. */
static int start_log(struct vhost_net *vhost, const struct gmem *mem,
		     uint64_t *features)
{
	uint64_t base;
	int ret;

	if (!gmem_tracks_dirty(mem))
		return 0;
	ret = vhost->log ? 0 : make_log(vhost, mem);
	if (ret)
		return ret;
	base = (uintptr_t)vhost->log;
	*features |= BIT(VHOST_F_LOG_ALL);
	return ioctl(vhost->fd, VHOST_SET_LOG_BASE, &base) ? -errno : 0;
}

/* Of the pages in words [first, end) of the log. */
static void collect_words(struct vhost_net *vhost, struct gmem *mem,
			  size_t first, size_t end)
{
	for (size_t i = first; i < end; i++) {
		uint64_t bits = vhost->log[i];

		vhost->log[i] = 0;
		for (; bits; bits &= bits - 1) {
			uint64_t page = i * 64 + (uint64_t)__builtin_ctzl(bits);

			gmem_mark_dirty(mem, page * PAGE_SIZE_4K, PAGE_SIZE_4K);
		}
	}
}

/* Tells the guest's memory, and starts over. vhost is stopped. The log begins
 * at address 0; where there is no memory nobody has written to it. */
static void collect_log(struct vhost_net *vhost, struct gmem *mem)
{
	for (size_t i = 0; vhost->log && i < gmem_region_count(mem); i++) {
		const struct gmem_region *region = gmem_region(mem, i);
		uint64_t end = (region->gpa + region->len) / PAGE_SIZE_4K;

		collect_words(vhost, mem, region->gpa / PAGE_SIZE_4K / 64,
			      MIN(end / 64 + 1, vhost->log_words));
	}
}

/* ------------------------------------------------------------ start and stop
 */

static int set_queue(const struct vhost_net *vhost,
		     const struct virtio_device *dev, uint16_t q)
{
	const struct queue *queue = &dev->queues[q];
	struct vhost_vring_state size = {q, queue->size};
	struct vhost_vring_state base = {q, queue->next_avail};
	struct vhost_vring_addr addr = {
		.index = q,
		.desc_user_addr = (uintptr_t)queue->desc,
		.avail_user_addr = (uintptr_t)queue->driver,
		.used_user_addr = (uintptr_t)queue->device,
		.flags = vhost->log ? BIT(VHOST_VRING_F_LOG) : 0,
		.log_guest_addr = queue->device_gpa,
	};
	struct vhost_vring_file kick = {q, dev->kicks[q]->fd};
	struct vhost_vring_file call = {q, dev->irq.fd};
	struct vhost_vring_file errors = {q, vhost->errors.fd};

	if (ioctl(vhost->fd, VHOST_SET_VRING_NUM, &size) ||
	    ioctl(vhost->fd, VHOST_SET_VRING_BASE, &base) ||
	    ioctl(vhost->fd, VHOST_SET_VRING_ADDR, &addr) ||
	    ioctl(vhost->fd, VHOST_SET_VRING_KICK, &kick) ||
	    ioctl(vhost->fd, VHOST_SET_VRING_CALL, &call) ||
	    ioctl(vhost->fd, VHOST_SET_VRING_ERR, &errors))
		return -errno;
	return 0;
}

static int set_backend(const struct vhost_net *vhost, uint16_t q, int tap_fd)
{
	struct vhost_vring_file backend = {q, tap_fd};

	return ioctl(vhost->fd, VHOST_NET_SET_BACKEND, &backend) ? -errno : 0;
}

/* Detaching waits for whatever is being moved. */
static void detach(const struct vhost_net *vhost)
{
	for (uint16_t q = 0; q < QUEUES; q++)
		if (set_backend(vhost, q, -1))
			log_error("vhost does not let go of queue %u: %s", q,
				  os_error_text(errno));
}

int vhost_net_start(struct vhost_net *vhost, struct virtio_device *dev,
		    int tap_fd)
{
	uint64_t features = dev->driver_features & RING_FEATURES;
	int ret = set_memory(vhost, dev->mem);

	if (!ret)
		ret = start_log(vhost, dev->mem, &features);
	if (!ret && ioctl(vhost->fd, VHOST_SET_FEATURES, &features))
		ret = -errno;
	for (uint16_t q = 0; q < QUEUES && !ret; q++)
		ret = set_queue(vhost, dev, q);
	for (uint16_t q = 0; q < QUEUES && !ret; q++)
		ret = set_backend(vhost, q, tap_fd);
	if (ret) {
		detach(vhost);
		return ret;
	}
	vhost->running = true;
	return 0;
}

void vhost_net_clear_errors(const struct vhost_net *vhost)
{
	uint64_t count;

	if (read(vhost->errors.fd, &count, sizeof(count)) < 0)
		return; /* none */
}

void vhost_net_stop(struct vhost_net *vhost, struct virtio_device *dev)
{
	if (!vhost->running)
		return;
	detach(vhost);
	for (uint16_t q = 0; q < QUEUES; q++) {
		struct vhost_vring_state base = {.index = q};

		if (ioctl(vhost->fd, VHOST_GET_VRING_BASE, &base))
			log_error("vhost does not say where queue %u stands",
				  q);
		else
			dev->queues[q].next_avail = (uint16_t)base.num;
	}
	vhost->running = false;
	collect_log(vhost, dev->mem);
}
