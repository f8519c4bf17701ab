/* SPDX-License-Identifier: Apache-2.0 */
/*
 * COM1: a 16550A UART at port 0x3f8, IRQ 4. Output goes to a file descriptor,
 * never blocking the vCPU: bytes that do not fit are dropped and counted.
 * Input comes from stdin when that is a terminal or a FIFO.
 *
 * Register accesses come from vCPU threads, input from the loop; the device's
 * own lock guards both.
 */
#ifndef EMBER_SERIAL_H
#define EMBER_SERIAL_H

#include "vmm/bus.h"
#include "vmm/irq.h"
#include "vmm/loop.h"
#include "vmm/metrics.h"

#define SERIAL_PORT 0x3f8
#define SERIAL_PORT_COUNT 8

struct serial;
struct state_file;
struct state_writer;

/* @out_fd is borrowed and must be non-blocking; -1: output is discarded. */
int serial_create(struct serial **ret_serial, int out_fd,
		  struct uart_metrics *metrics) must_check;
void serial_destroy(struct serial *serial);

/* Bytes of output that exceed @bucket (vmm/ratelimit.h) are dropped, and
 * counted apart from those that do not fit. Before the guest runs. */
void serial_limit_output(struct serial *serial,
			 const struct token_bucket_config *bucket);

/* The line is triggered on receive, transmit-empty and error conditions. */
void serial_set_irq(struct serial *serial, const struct irq_line *irq);

/* Serves @in_fd (made non-blocking and, if a terminal, raw) as input. Regular
 * files and others are left alone (returns 0), and so is the terminal of a
 * process in the background: reading it would stop the process. Loop thread. */
int serial_attach_input(struct serial *serial, struct loop *loop,
			int in_fd) must_check;

/* Puts the terminal back, if it was made raw; async-signal-safe. */
void serial_restore_terminal(void);

/* Queues bytes as received; returns how many fit. Loop thread. */
size_t serial_receive(struct serial *serial, const uint8_t *data, size_t len);

/* Appends section 'UART': registers, input that waits, interrupts not seen.
 * Machine paused. */
void serial_save(struct serial *serial, struct state_writer *writer);

/* The same back, then serial_rekick. Loop thread, before vCPUs run. -errno with
 * a sentence: nothing has changed. */
int serial_load(struct serial *serial, const struct state_file *file,
		struct error *err) must_check;

/* Triggers the line if there is something the driver has not seen: the edge may
 * have been lost with the irqchip. Once that is in its state; any thread. */
void serial_rekick(struct serial *serial);

extern const struct bus_ops serial_bus_ops;

#endif
