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

struct virtio_device *virtio_mmio_device(const struct virtio_mmio *mmio);
uint64_t virtio_mmio_base(const struct virtio_mmio *mmio);
uint32_t virtio_mmio_gsi(const struct virtio_mmio *mmio);

/* The register file, for the bus and for tests. Any vCPU thread; offsets are
 * relative to the window. */
extern const struct bus_ops virtio_mmio_bus_ops;

#endif
