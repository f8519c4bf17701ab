/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The part of a keyboard controller (i8042, ports 0x60-0x64, IRQ 1) that a
 * server kernel needs: the reset command, and a keyboard that can press
 * Ctrl-Alt-Del. Accesses come from vCPU threads; the device locks itself.
 */
#ifndef EMBER_I8042_H
#define EMBER_I8042_H

#include "vmm/bus.h"
#include "vmm/irq.h"
#include "vmm/metrics.h"

#define I8042_PORT 0x60
#define I8042_PORT_COUNT 5

struct i8042;
struct state_file;
struct state_writer;

/* @reset(@arg) is called on the vCPU thread that asked for a reset. */
int i8042_create(struct i8042 **ret_i8042, void (*reset)(void *arg), void *arg,
		 struct i8042_metrics *metrics) must_check;
void i8042_destroy(struct i8042 *i8042);
void i8042_set_irq(struct i8042 *i8042, const struct irq_line *irq);

/* Queues the make codes of Ctrl, Alt and Del. -ENOSPC when the guest has not
 * read earlier ones. Any thread. */
int i8042_ctrl_alt_del(struct i8042 *i8042) must_check;

/* Appends section 'KBD ': registers and bytes not read. Machine paused. */
void i8042_save(struct i8042 *i8042, struct state_writer *writer);

/* The same back, then i8042_rekick. Before vCPUs run. -errno with a sentence:
 * nothing has changed. */
int i8042_load(struct i8042 *i8042, const struct state_file *file,
	       struct error *err) must_check;

/* Triggers the line if a byte waits: the edge may have been lost with the
 * irqchip. Once that is in its state; any thread. */
void i8042_rekick(struct i8042 *i8042);

extern const struct bus_ops i8042_bus_ops;

#endif
