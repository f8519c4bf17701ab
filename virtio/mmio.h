/* SPDX-License-Identifier: Apache-2.0 */
/*
 * virtio over MMIO, version 2 (virtio 1.2, section 4.2): a 4 KiB register
 * window per device, one GSI, one ioeventfd per queue.
 *
 * A guest kick travels: write to QueueNotify -> ioeventfd (no exit) -> loop ->
 * mmio_kicked -> virtio_device_queue_event -> device -> queue_push ->
 * virtio_device_notify_used -> the interrupt line.
 */
#ifndef EMBER_MMIO_H
#define EMBER_MMIO_H

#include "virtio/device.h"
#include "vmm/bus.h"
#include "vmm/loop.h"

struct kvm;
struct state_file;
struct state_writer;
struct virtio_mmio;

#define VIRTIO_MMIO_WINDOW 0x1000

/* Borrows @dev, which must outlive the transport. */
int virtio_mmio_create(struct virtio_mmio **ret_mmio, struct virtio_device *dev,
		       uint64_t base, uint32_t gsi) must_check;

/* Takes the device off the machine and resets it. Accepts NULL. vCPUs must
 * have stopped. */
void virtio_mmio_destroy(struct virtio_mmio *mmio);

/* Connects to the machine: irqfd, ioeventfds, bus range, loop sources. The
 * irqchip must exist. */
int virtio_mmio_attach(struct virtio_mmio *mmio, struct kvm *kvm,
		       struct bus *bus, struct loop *loop, struct gmem *mem,
		       struct error *err) must_check;

/* Appends section 'VDEV' number @instance, the place on the bus. Loop thread,
 * machine paused; before guest memory and irqchip are saved, for either may
 * change. The device goes on afterwards, once it is kicked again. */
void virtio_mmio_save(struct virtio_mmio *mmio, struct state_writer *writer,
		      uint16_t instance);

/* The same back, after virtio_mmio_attach, with guest memory in place, before
 * vCPUs run. Loop thread. The device is held: virtio_device_hold(dev, false)
 * and virtio_mmio_rekick set it going. -errno with a sentence: then it is as
 * after a reset. */
int virtio_mmio_load(struct virtio_mmio *mmio, const struct state_file *file,
		     uint16_t instance, struct error *err) must_check;

/* Is there a section of that number? */
bool virtio_mmio_is_saved(const struct state_file *file, uint16_t instance);

/* Kicks and interrupts may have been lost around a snapshot: kicks all queues
 * of an active device, and raises again an interrupt that the driver has not
 * acknowledged. In the microVM that goes on and in the one that was loaded,
 * once the irqchip is in its state, before vCPUs run. Loop thread. */
void virtio_mmio_rekick(struct virtio_mmio *mmio);

struct virtio_device *virtio_mmio_device(const struct virtio_mmio *mmio);
uint64_t virtio_mmio_base(const struct virtio_mmio *mmio);
uint32_t virtio_mmio_gsi(const struct virtio_mmio *mmio);

/* The register file, for the bus and for tests. Any vCPU thread; offsets are
 * relative to the window. */
extern const struct bus_ops virtio_mmio_bus_ops;

#endif
