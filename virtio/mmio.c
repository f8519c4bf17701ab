/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Theory of operation.
 *
 * Registers are 32 bits wide and listed in one table: which function reads or
 * writes each of them. The status register is a small state machine; what else
 * may be written depends on it (virtio 1.2, 3.1.1):
 *
 *   0 -> ACKNOWLEDGE -> +DRIVER -> +FEATURES_OK -> +DRIVER_OK
 *        features are written ^     ^ queues are    ^ the device is
 *        here                         set up here     activated
 *
 * An access that breaks the rules is ignored and logged, rate-limited; reads
 * then give zero. Writing 0 to the status register resets the device at any
 * time.
 *
 * Two registers never take the device's lock: InterruptStatus and
 * InterruptACK. The driver reads and writes them on every interrupt, and must
 * not wait for the disk I/O that the loop thread may be doing under the lock.
 *
 * Kicks don't come here at all: KVM turns a write of n to QueueNotify into a
 * signal on the eventfd of queue n, and the loop thread hears it (mmio_kicked).
 */
#include "virtio/mmio_transport.h"
#include "vmm/kvm.h"
#include "vmm/log.h"

#include <errno.h>
#include <string.h>
#include <sys/eventfd.h>

#define MAGIC 0x74726976 /* "virt" */
#define VERSION 2
#define VENDOR 0

#define REG_QUEUE_NOTIFY 0x50
#define REG_INTERRUPT_STATUS 0x60
#define REG_INTERRUPT_ACK 0x64
#define REG_CONFIG 0x100

/* ------------------------------------------------------- reading registers */

static uint32_t read_magic(struct virtio_mmio *mmio)
{
	(void)mmio;
	return MAGIC;
}

static uint32_t read_version(struct virtio_mmio *mmio)
{
	(void)mmio;
	return VERSION;
}

static uint32_t read_device_id(struct virtio_mmio *mmio)
{
	return mmio->dev->ops->id;
}

static uint32_t read_vendor(struct virtio_mmio *mmio)
{
	(void)mmio;
	return VENDOR;
}

/* 64 feature bits are read in two halves. */
static uint32_t read_device_features(struct virtio_mmio *mmio)
{
	if (mmio->device_features_sel > 1)
		return 0;
	return (uint32_t)(mmio->dev->features >>
			  (32 * mmio->device_features_sel));
}

/* NULL when the driver selected a queue that does not exist. */
static struct queue *selected_queue(struct virtio_mmio *mmio)
{
	if (mmio->queue_sel >= mmio->dev->queue_count)
		return NULL;
	return &mmio->dev->queues[mmio->queue_sel];
}

static uint32_t read_queue_size_max(struct virtio_mmio *mmio)
{
	const struct queue *queue = selected_queue(mmio);

	return queue ? queue->size_max : 0;
}

static uint32_t read_queue_ready(struct virtio_mmio *mmio)
{
	const struct queue *queue = selected_queue(mmio);

	return queue ? queue->ready : 0;
}

static uint32_t read_status(struct virtio_mmio *mmio)
{
	return mmio->dev->status;
}

static uint32_t read_config_generation(struct virtio_mmio *mmio)
{
	return mmio->dev->config_generation;
}

/* ------------------------------------------------------- writing registers */

static void write_device_features_sel(struct virtio_mmio *mmio, uint32_t value)
{
	mmio->device_features_sel = value;
}

static void write_driver_features_sel(struct virtio_mmio *mmio, uint32_t value)
{
	mmio->driver_features_sel = value;
}

static void write_driver_features(struct virtio_mmio *mmio, uint32_t value)
{
	uint64_t *features = &mmio->dev->driver_features;

	if (mmio->driver_features_sel == 0)
		*features = (*features & ~(uint64_t)UINT32_MAX) | value;
	else if (mmio->driver_features_sel == 1)
		*features = (uint32_t)*features | (uint64_t)value << 32;
}

static void write_queue_sel(struct virtio_mmio *mmio, uint32_t value)
{
	mmio->queue_sel = value;
}

static void write_queue_size(struct virtio_mmio *mmio, uint32_t value)
{
	struct queue *queue = selected_queue(mmio);

	/* A size too large to store is as wrong as 0, which activation
	 * refuses. */
	if (queue)
		queue->size = value <= queue->size_max ? (uint16_t)value : 0;
}

static void write_queue_ready(struct virtio_mmio *mmio, uint32_t value)
{
	struct queue *queue = selected_queue(mmio);

	if (queue)
		queue->ready = value == 1;
}

static void set_low(uint64_t *address, uint32_t value)
{
	*address = (*address & ~(uint64_t)UINT32_MAX) | value;
}

static void set_high(uint64_t *address, uint32_t value)
{
	*address = (uint32_t)*address | (uint64_t)value << 32;
}

#define QUEUE_ADDRESS_WRITER(name, half, field)                                \
	static void name(struct virtio_mmio *mmio, uint32_t value)             \
	{                                                                      \
		struct queue *queue = selected_queue(mmio);                    \
                                                                               \
		if (queue)                                                     \
			half(&queue->field, value);                            \
	}
QUEUE_ADDRESS_WRITER(write_desc_low, set_low, desc_gpa)
QUEUE_ADDRESS_WRITER(write_desc_high, set_high, desc_gpa)
QUEUE_ADDRESS_WRITER(write_driver_low, set_low, driver_gpa)
QUEUE_ADDRESS_WRITER(write_driver_high, set_high, driver_gpa)
QUEUE_ADDRESS_WRITER(write_device_low, set_low, device_gpa)
QUEUE_ADDRESS_WRITER(write_device_high, set_high, device_gpa)

/* A kick reaches this only when the value names no queue; see kvm_add_ioeventfd
 * for those that do. */
static void write_queue_notify(struct virtio_mmio *mmio, uint32_t value)
{
	if (value >= mmio->dev->queue_count)
		log_guest("%s: kick of queue %u, which does not exist",
			  mmio->dev->ops->name, value);
}

/* ----------------------------------------------------- the status register */

/* Each state by the bits that stand for it, in the order of initialisation. */
#define STATUS_ACKNOWLEDGE VIRTIO_STATUS_ACKNOWLEDGE
#define STATUS_DRIVER (STATUS_ACKNOWLEDGE | VIRTIO_STATUS_DRIVER)
#define STATUS_FEATURES_OK (STATUS_DRIVER | VIRTIO_STATUS_FEATURES_OK)
#define STATUS_DRIVER_OK (STATUS_FEATURES_OK | VIRTIO_STATUS_DRIVER_OK)

static const struct {
	uint32_t from, to;
} status_steps[] = {
	{0, STATUS_ACKNOWLEDGE},
	{STATUS_ACKNOWLEDGE, STATUS_DRIVER},
	{STATUS_DRIVER, STATUS_FEATURES_OK},
	{STATUS_FEATURES_OK, STATUS_DRIVER_OK},
};

static bool legal_step(uint32_t from, uint32_t to)
{
	for (size_t i = 0; i < ARRAY_SIZE(status_steps); i++)
		if (status_steps[i].from == from && status_steps[i].to == to)
			return true;
	return false;
}

/* 2.2: only offered features, and no legacy driver. */
static bool features_acceptable(const struct virtio_device *dev)
{
	return !(dev->driver_features & ~dev->features) &&
	       virtio_device_negotiated(dev, VIRTIO_F_VERSION_1);
}

static void reset(struct virtio_mmio *mmio)
{
	virtio_device_reset(mmio->dev);
	mmio->device_features_sel = 0;
	mmio->driver_features_sel = 0;
	mmio->queue_sel = 0;
}

static void write_status(struct virtio_mmio *mmio, uint32_t value)
{
	struct virtio_device *dev = mmio->dev;

	if (value == 0) {
		reset(mmio);
		virtio_device_settle_soon(dev);
		return;
	}
	if (value & VIRTIO_STATUS_FAILED) {
		dev->status |= VIRTIO_STATUS_FAILED;
		return;
	}
	if (value == dev->status)
		return;
	if (!legal_step(dev->status, value)) {
		log_guest("%s: status %#x cannot follow %#x", dev->ops->name,
			  value, dev->status);
		return;
	}
	/* The driver reads back whether FEATURES_OK stuck (3.1.1, step 6). */
	if (value == STATUS_FEATURES_OK && !features_acceptable(dev)) {
		log_guest("%s: features %#lx are not on offer", dev->ops->name,
			  (unsigned long)dev->driver_features);
		return;
	}
	dev->status = (uint8_t)value;
	if (value == STATUS_DRIVER_OK) {
		virtio_device_activate(dev);
		virtio_device_settle_soon(dev);
	}
}

/* ------------------------------------------------------- the register file */

/* When a register may be written. */
enum phase {
	ANY_TIME,
	FEATURES, /* between DRIVER and FEATURES_OK */
	QUEUES,	  /* between FEATURES_OK and DRIVER_OK */
};

struct reg {
	uint32_t (*read)(struct virtio_mmio *mmio);
	void (*write)(struct virtio_mmio *mmio, uint32_t value);
	enum phase phase;
};

#define REG(offset) [(offset) / 4]

/* 4.2.2, Table 4.1 */
static const struct reg regs[REG_CONFIG / 4] = {
	REG(0x000) = {.read = read_magic},
	REG(0x004) = {.read = read_version},
	REG(0x008) = {.read = read_device_id},
	REG(0x00c) = {.read = read_vendor},
	REG(0x010) = {.read = read_device_features},
	REG(0x014) = {.write = write_device_features_sel},
	REG(0x020) = {.write = write_driver_features, .phase = FEATURES},
	REG(0x024) = {.write = write_driver_features_sel},
	REG(0x030) = {.write = write_queue_sel},
	REG(0x034) = {.read = read_queue_size_max},
	REG(0x038) = {.write = write_queue_size, .phase = QUEUES},
	REG(0x044) = {.read = read_queue_ready,
		      .write = write_queue_ready,
		      .phase = QUEUES},
	REG(0x050) = {.write = write_queue_notify},
	REG(0x070) = {.read = read_status, .write = write_status},
	REG(0x080) = {.write = write_desc_low, .phase = QUEUES},
	REG(0x084) = {.write = write_desc_high, .phase = QUEUES},
	REG(0x090) = {.write = write_driver_low, .phase = QUEUES},
	REG(0x094) = {.write = write_driver_high, .phase = QUEUES},
	REG(0x0a0) = {.write = write_device_low, .phase = QUEUES},
	REG(0x0a4) = {.write = write_device_high, .phase = QUEUES},
	REG(0x0fc) = {.read = read_config_generation},
};

static bool in_phase(const struct virtio_device *dev, enum phase phase)
{
	switch (phase) {
	case FEATURES:
		return dev->status == STATUS_DRIVER;
	case QUEUES:
		return dev->status == STATUS_FEATURES_OK;
	case ANY_TIME:
	default:
		return true;
	}
}

static bool is_register(uint64_t off, size_t len)
{
	return off < REG_CONFIG && off % 4 == 0 && len == 4;
}

static void refuse(const struct virtio_mmio *mmio, const char *what,
		   uint64_t off, size_t len)
{
	log_guest("%s: %s of %zu bytes at %#lx is not possible",
		  mmio->dev->ops->name, what, len, (unsigned long)off);
}

static uint32_t read_register(struct virtio_mmio *mmio, uint64_t off)
{
	const struct reg *reg = &regs[off / 4];
	uint32_t value;

	if (off == REG_INTERRUPT_STATUS)
		return atomic_load(&mmio->dev->interrupt_status) |
		       atomic_load(&mmio->dev->interrupt_always);
	if (!reg->read) {
		refuse(mmio, "read", off, 4);
		return 0;
	}
	pthread_mutex_lock(&mmio->dev->lock);
	value = reg->read(mmio);
	pthread_mutex_unlock(&mmio->dev->lock);
	return value;
}

static void write_register(struct virtio_mmio *mmio, uint64_t off,
			   uint32_t value)
{
	const struct reg *reg = &regs[off / 4];

	if (off == REG_INTERRUPT_ACK) {
		virtio_device_acknowledge(mmio->dev, value);
		return;
	}
	if (!reg->write) {
		refuse(mmio, "write", off, 4);
		return;
	}
	pthread_mutex_lock(&mmio->dev->lock);
	if (in_phase(mmio->dev, reg->phase))
		reg->write(mmio, value);
	else
		refuse(mmio, "write in this status", off, 4);
	pthread_mutex_unlock(&mmio->dev->lock);
}

static void mmio_read(void *arg, uint64_t off, uint8_t *data, size_t len)
{
	struct virtio_mmio *mmio = arg;
	le32 value;

	if (off >= REG_CONFIG) {
		pthread_mutex_lock(&mmio->dev->lock);
		virtio_device_read_config(mmio->dev, off - REG_CONFIG, data,
					  len);
		pthread_mutex_unlock(&mmio->dev->lock);
	} else if (is_register(off, len)) {
		value = le32_make(read_register(mmio, off));
		memcpy(data, &value, sizeof(value));
	} else {
		refuse(mmio, "read", off, len);
	}
}

static void write_config(struct virtio_mmio *mmio, uint64_t off,
			 const uint8_t *data, size_t len)
{
	struct virtio_device *dev = mmio->dev;

	if (!dev->ops->config_write || off > dev->config_len ||
	    len > dev->config_len - off) {
		refuse(mmio, "write", REG_CONFIG + off, len);
		return;
	}
	pthread_mutex_lock(&dev->lock);
	dev->ops->config_write(dev, off, data, len);
	pthread_mutex_unlock(&dev->lock);
}

static void mmio_write(void *arg, uint64_t off, const uint8_t *data, size_t len)
{
	struct virtio_mmio *mmio = arg;
	le32 value;

	if (off >= REG_CONFIG) {
		write_config(mmio, off - REG_CONFIG, data, len);
	} else if (is_register(off, len)) {
		memcpy(&value, data, sizeof(value));
		write_register(mmio, off, le32_get(value));
	} else {
		refuse(mmio, "write", off, len);
	}
}

const struct bus_ops virtio_mmio_bus_ops = {
	.read = mmio_read,
	.write = mmio_write,
};

/* ------------------------------------------------------------- guest kicks */

/*
 * The eventfd is watched edge-triggered and never read: each signal is an edge,
 * whatever the counter says, and a read per kick would be a system call for
 * nothing. A device that has more to do is kicked again from here, behind
 * whatever else the loop has to serve.
 */
static void mmio_kicked(struct loop_source *source, uint32_t events)
{
	struct mmio_kick *kick = container_of(source, struct mmio_kick, source);
	struct virtio_device *dev = kick->mmio->dev;
	const uint64_t one = 1;
	bool again;

	(void)events;
	pthread_mutex_lock(&dev->lock);
	again = virtio_device_queue_event(dev, kick->queue);
	pthread_mutex_unlock(&dev->lock);
	/* Can only fail when 2^64-2 kicks were never read. */
	if (again && write(source->fd, &one, sizeof(one)) < 0)
		log_error("%s: cannot kick queue %u", dev->ops->name,
			  kick->queue);
}

static int attach_kick(struct mmio_kick *kick, struct kvm *kvm,
		       struct loop *loop, struct error *err)
{
	int ret;

	kick->source.fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (kick->source.fd < 0)
		return error_set_os(err, errno,
				    "Could not create a queue eventfd:");
	ret = kvm_add_ioeventfd(kvm, kick->mmio->base + REG_QUEUE_NOTIFY,
				kick->queue, kick->source.fd, err);
	if (ret)
		return ret;
	ret = loop_add(loop, &kick->source);
	if (ret)
		return error_set_os(err, -ret, "Could not watch a queue:");
	kick->mmio->dev->kicks[kick->queue] = &kick->source;
	return 0;
}

/* -------------------------------------------------------------- life cycle */

int virtio_mmio_create(struct virtio_mmio **ret_mmio, struct virtio_device *dev,
		       uint64_t base, uint32_t gsi)
{
	struct virtio_mmio *mmio = calloc(1, sizeof(*mmio));

	if (!mmio)
		return -ENOMEM;
	mmio->dev = dev;
	mmio->base = base;
	mmio->gsi = gsi;
	for (uint16_t q = 0; q < VIRTIO_QUEUES_MAX; q++) {
		mmio->kicks[q].mmio = mmio;
		mmio->kicks[q].queue = q;
		mmio->kicks[q].source.fd = -1;
		mmio->kicks[q].source.events = EPOLLIN | EPOLLET;
		mmio->kicks[q].source.class = LOOP_DEVICE;
		mmio->kicks[q].source.fn = mmio_kicked;
	}
	*ret_mmio = mmio;
	return 0;
}

void virtio_mmio_destroy(struct virtio_mmio *mmio)
{
	if (!mmio)
		return;
	for (uint16_t q = 0; q < VIRTIO_QUEUES_MAX; q++) {
		loop_remove(&mmio->kicks[q].source);
		close_fd(&mmio->kicks[q].source.fd);
	}
	irq_line_close(&mmio->dev->irq);
	memset(mmio->dev->kicks, 0, sizeof(mmio->dev->kicks));
	reset(mmio);
	virtio_device_settle(mmio->dev);
	mmio->dev->mem = NULL;
	mmio->dev->loop = NULL;
	free(mmio);
}

int virtio_mmio_attach(struct virtio_mmio *mmio, struct kvm *kvm,
		       struct bus *bus, struct loop *loop, struct gmem *mem,
		       struct error *err)
{
	const struct bus_range window = {
		.name = mmio->dev->ops->name,
		.base = mmio->base,
		.len = VIRTIO_MMIO_WINDOW,
		.ops = &virtio_mmio_bus_ops,
		.dev = mmio,
	};
	int ret = irq_line_open_level(&mmio->dev->irq, kvm, mmio->gsi, err);

	if (ret)
		return ret;
	for (uint16_t q = 0; q < mmio->dev->queue_count; q++) {
		ret = attach_kick(&mmio->kicks[q], kvm, loop, err);
		if (ret)
			return ret;
	}
	mmio->dev->mem = mem;
	mmio->dev->loop = loop;
	ret = bus_add(bus, &window);
	if (ret)
		return error_set_os(err, -ret,
				    "Could not place %s at %#lx:", window.name,
				    (unsigned long)window.base);
	return 0;
}

struct virtio_device *virtio_mmio_device(const struct virtio_mmio *mmio)
{
	return mmio->dev;
}

uint64_t virtio_mmio_base(const struct virtio_mmio *mmio)
{
	return mmio->base;
}

uint32_t virtio_mmio_gsi(const struct virtio_mmio *mmio)
{
	return mmio->gsi;
}
