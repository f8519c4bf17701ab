/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Interrupt lines to the GSIs of the in-kernel irqchip, edge-triggered. GSIs
 * for virtio devices are handed out in order by irq_pool.
 *
 * A line can be triggered: one write to an eventfd (KVM_IRQFD), after which a
 * kernel worker makes an edge. Or, where the guest acknowledges interrupts, it
 * is raised and later lowered: then the edge is made by the caller, without the
 * detour over the worker. Any thread may do either.
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
	IRQ_GSI_VMGENID = 22,
	IRQ_GSI_VMCLOCK = 23,
};

struct irq_line {
	int fd; /* eventfd, -1 when closed */
	uint32_t gsi;
	const struct kvm *kvm; /* of a line that is raised and lowered */
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

/* The same for a line that will be raised and lowered; borrows @kvm. */
int irq_line_open_level(struct irq_line *line, struct kvm *kvm, uint32_t gsi,
			struct error *err) must_check;

/* Accepts a line that was never opened (fd -1). */
void irq_line_close(struct irq_line *line);

/* Raises one edge. Any thread. */
void irq_line_trigger(const struct irq_line *line);

/* For lines opened as such; raising any other one triggers it. */
void irq_line_raise(const struct irq_line *line);
void irq_line_lower(const struct irq_line *line);

/* One edge on a line that has no eventfd because it is needed that rarely. It
 * is in the irqchip's state when this returns. Any thread. */
void irq_pulse(const struct kvm *kvm, uint32_t gsi);

#endif
