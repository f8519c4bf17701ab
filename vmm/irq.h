/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Interrupt lines: an eventfd bound to a GSI of the in-kernel irqchip
 * (KVM_IRQFD), edge-triggered. Triggering is one write and may be done from
 * any thread. GSIs for virtio devices are handed out in order by irq_pool.
 */
#ifndef EMBER_IRQ_H
#define EMBER_IRQ_H

#include "vmm/error.h"

struct kvm;

/* KVM's in-kernel IOAPIC has pins 0..23. 0-4 belong to legacy devices; the last
 * two are kept for the generation-id and clock devices of a restored guest, so
 * that the number of virtio devices (17) never depends on them. */
enum {
	IRQ_GSI_I8042 = 1,
	IRQ_GSI_SERIAL = 4,
	IRQ_GSI_FIRST_DEVICE = 5,
	IRQ_GSI_LAST_DEVICE = 21,
};

struct irq_line {
	int fd; /* eventfd, -1 when closed */
	uint32_t gsi;
};

struct irq_pool {
	uint32_t next; /* next free GSI; start at IRQ_GSI_FIRST_DEVICE */
};

/* -ENOSPC `Could not allocate GSI: The requested resource is not available.` */
int irq_pool_take(struct irq_pool *pool, uint32_t *ret_gsi,
		  struct error *err) must_check;

/* Opens the eventfd and binds it. The in-kernel irqchip must exist. */
int irq_line_open(struct irq_line *line, struct kvm *kvm, uint32_t gsi,
		  struct error *err) must_check;

/* Accepts a line that was never opened (fd -1). */
void irq_line_close(struct irq_line *line);

/* Raises one edge. Any thread. */
void irq_line_trigger(const struct irq_line *line);

#endif
