/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What all virtio devices share (virtio 1.2, section 2): features, status,
 * config space, queues, and the way to the driver (interrupts). A device type
 * is a const table of operations; an instance embeds struct virtio_device.
 * The device never knows its transport, the transport never knows the device.
 *
 * Locking: dev->lock guards everything here except the interrupt, which has a
 * lock of its own (taken last), so that acknowledging it never waits for disk
 * I/O. Every
 * operation is called with the lock held. queue_event and settle run on the
 * loop thread; activate, config_write and reset on whichever vCPU thread wrote
 * the register. What belongs to the loop (its sources, timers, sockets) is
 * therefore left alone by activate and reset; settle follows them and brings it
 * in line.
 */
#ifndef EMBER_DEVICE_H
#define EMBER_DEVICE_H

#include "virtio/queue.h"
#include "vmm/irq.h"
#include "vmm/loop.h"

#include <pthread.h>
#include <stdatomic.h>

#define VIRTIO_QUEUES_MAX 5
#define VIRTIO_CONFIG_MAX 64

/* Device status bits (2.1). */
enum {
	VIRTIO_STATUS_ACKNOWLEDGE = 1,
	VIRTIO_STATUS_DRIVER = 2,
	VIRTIO_STATUS_DRIVER_OK = 4,
	VIRTIO_STATUS_FEATURES_OK = 8,
	VIRTIO_STATUS_NEEDS_RESET = 64,
	VIRTIO_STATUS_FAILED = 128,
};

/* Reserved feature bits (6). */
#define VIRTIO_F_EVENT_IDX 29
#define VIRTIO_F_VERSION_1 32

/* Interrupt status bits (4.2.2). */
enum {
	VIRTIO_INTERRUPT_QUEUE = 1,
	VIRTIO_INTERRUPT_CONFIG = 2,
};

struct state_reader;
struct state_writer;
struct virtio_device;

struct virtio_device_ops { /* always static const */
	const char *name;
	uint32_t id;	      /* device type (5) */
	uint16_t queue_count; /* or less, see struct virtio_device */

	/* How many of its queues, from the first on, there are with the
	 * features that the driver accepted: others need not be ready. NULL:
	 * all. */
	uint16_t (*queues_used)(const struct virtio_device *dev);
	/* DRIVER_OK was set and the queues are valid. */
	int (*activate)(struct virtio_device *dev);
	/* The device was activated or reset since the last call (or both): the
	 * loop's part of it. May be NULL. Comes before any queue_event. */
	void (*settle)(struct virtio_device *dev);
	/* The driver kicked queue @q (or might have). True: there is more to
	 * do, call again once others had their turn. */
	bool (*queue_event)(struct virtio_device *dev, uint16_t q);
	/* NULL: config space is read-only to the driver. */
	void (*config_write)(struct virtio_device *dev, size_t off,
			     const uint8_t *data, size_t len);
	/* The machine pauses or goes on, with nothing that runs for the
	 * device outside of the loop while it is paused. May be NULL. */
	void (*hold)(struct virtio_device *dev, bool on);
	/* The active device will be saved: what is in flight is finished or put
	 * back, so that queues and guest memory tell all there is. The device
	 * goes on afterwards. Loop thread, machine paused. May be NULL. */
	void (*quiesce)(struct virtio_device *dev);
	/* What is the type's own in a snapshot; either may be NULL. load comes
	 * last, when the device is active and settled if it was when saved; it
	 * validates all it reads. Loop thread. */
	void (*save)(struct virtio_device *dev, struct state_writer *writer);
	int (*load)(struct virtio_device *dev, struct state_reader *reader,
		    struct error *err);
	/* What of the config space must be as it was saved, for people. NULL:
	 * the host's side decides, and the driver is told of a change; or, with
	 * config_write, it is the driver's and comes back as saved. */
	const char *config_fixed;
	/* Forget everything the driver set up; queues are reset afterwards. */
	void (*reset)(struct virtio_device *dev);
	/* Releases the instance; it is never activated here. */
	void (*destroy)(struct virtio_device *dev);
};

struct virtio_device {
	const struct virtio_device_ops *ops;
	pthread_mutex_t lock;
	struct gmem *mem; /* these two are set before the machine starts */
	struct loop *loop;

	uint64_t features;	  /* offered */
	uint64_t driver_features; /* accepted by the driver */
	uint8_t status;
	bool active;	/* between activate and reset */
	bool unsettled; /* ops->settle is due */
	bool held;	/* see ops->hold */

	uint8_t config[VIRTIO_CONFIG_MAX];
	size_t config_len;
	uint32_t config_generation;

	/* ops->queue_count, if the type does not change it after init. */
	uint16_t queue_count;
	struct queue queues[VIRTIO_QUEUES_MAX];

	/* Where kicks arrive; the transport's, NULL without one. */
	struct loop_source *kicks[VIRTIO_QUEUES_MAX];
	/* What wakes the loop to settle, where kicks are somebody else's. NULL:
	 * the kicks of queue 0. */
	struct loop_source *wake;

	pthread_mutex_t irq_lock;
	_Atomic uint32_t interrupt_status; /* the line is up while not 0 */
	/* Reads as set besides: of a device whose interrupts are made by
	 * someone else, through irq.fd. */
	_Atomic uint32_t interrupt_always;
	struct irq_line irq;
};

/* Fills in the common part; @dev is zeroed memory of its owner. Adds
 * VIRTIO_F_VERSION_1 to @features. */
void virtio_device_init(struct virtio_device *dev,
			const struct virtio_device_ops *ops, uint64_t features,
			const void *config, size_t config_len);

/* Accepts NULL. Calls ops->destroy. */
void virtio_device_destroy(struct virtio_device *dev);

bool virtio_device_negotiated(const struct virtio_device *dev, unsigned bit);

/* Queues in use once the driver's features are known. */
uint16_t virtio_device_queues_used(const struct virtio_device *dev);

/* Lock held. Bytes outside the config space read as zero. */
void virtio_device_read_config(const struct virtio_device *dev, size_t off,
			       uint8_t *data, size_t len);

/* Lock held. Validates and activates every ready queue, then the device; on
 * failure sets NEEDS_RESET (and says so to the driver). */
void virtio_device_activate(struct virtio_device *dev);

/* Lock held. Back to the state before the driver was seen (2.4). */
void virtio_device_reset(struct virtio_device *dev);

/* Lock held, loop thread. Runs ops->settle if it is due: the first thing to do
 * in any handler of a device's own sources and timers. */
void virtio_device_settle(struct virtio_device *dev);

/* Lock held, any thread. Has the loop thread settle, if that is due. */
void virtio_device_settle_soon(struct virtio_device *dev);

/* Takes the lock. The machine is paused (@on), or about to go on. */
void virtio_device_hold(struct virtio_device *dev, bool on);

/* Appends the device to the open section. Takes the lock; loop thread, machine
 * paused. Finishes what is in flight first, and may change guest memory and
 * raise the interrupt for that: so it comes before both are saved. */
void virtio_device_save(struct virtio_device *dev, struct state_writer *writer);

/*
 * The rest of @reader's section into a device that is new and attached, with
 * guest memory in place. Takes the lock; loop thread. Leaves it as
 * virtio_device_hold(dev, true) does, and without a rekick. -errno with a
 * sentence: then it is as if it had been reset.
 */
int virtio_device_load(struct virtio_device *dev, struct state_reader *reader,
		       struct error *err) must_check;

/* No lock needed. If the driver has not acknowledged an interrupt, raises it
 * again: it may have been lost with the irqchip it was raised at. */
void virtio_device_interrupt_again(struct virtio_device *dev);

/* Lock held, loop thread. Settles, then runs ops->queue_event when @q exists
 * and the device is active; otherwise nothing. True: call again soon. */
bool virtio_device_queue_event(struct virtio_device *dev, uint16_t q);

/* No lock needed. The driver has seen these bits of the interrupt status. */
void virtio_device_acknowledge(struct virtio_device *dev, uint32_t bits);

/* Lock held. Tells the driver about used buffers if it asked to be told. */
void virtio_device_notify_used(struct virtio_device *dev, uint16_t q);

/* The same for several queues, bits in @queues, with one interrupt. */
void virtio_device_notify_queues(struct virtio_device *dev, uint64_t queues);

/* Lock held. New config space bytes, generation + 1 and an interrupt if the
 * device is active. */
void virtio_device_set_config(struct virtio_device *dev, const void *config,
			      size_t len);

/* Lock held. The driver broke the rules: DEVICE_NEEDS_RESET (2.1.1), one
 * rate-limited log line with @why; the device does nothing until reset. */
void virtio_device_needs_reset(struct virtio_device *dev, const char *why);

#endif
