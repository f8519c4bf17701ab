/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Theory of operation.
 *
 * Output is instant: a byte written to the transmit register is written to the
 * output descriptor before the access ends, so the transmitter is always empty
 * and its interrupt is due again at once. Input waits in a ring of 64 bytes.
 * While that is full the loop stops listening to the input; the vCPU thread
 * that makes room again says so through an eventfd, because a vCPU thread must
 * not touch the loop.
 *
 * The interrupt line is edge-triggered and raised when a condition appears that
 * was not there before. Which condition that is, the driver reads from IIR: the
 * most urgent one, until it is dealt with.
 *
 * The modem lines are those of a peer that is always there. They only change
 * when a driver loops its own outputs back to find out what it has in front of
 * it. Numbers and names are those of the 16550A data sheet.
 */
#include "vmm/serial.h"

#include "snapshot/state.h"
#include "vmm/ratelimit.h"
#include "vmm/terminal.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sys/eventfd.h>
#include <sys/stat.h>

#define INPUT_SIZE 64
/* So empty the ring has to get before more is asked for. */
#define INPUT_LOW 16

/* Registers by offset; the first two mean the divisor while LCR.DLAB is set. */
enum {
	REG_DATA = 0,
	REG_IER = 1,
	REG_IIR = 2, /* write: FCR */
	REG_LCR = 3,
	REG_MCR = 4,
	REG_LSR = 5,
	REG_MSR = 6,
	REG_SCR = 7,
};

enum {
	IER_RX = 1,
	IER_TX = 2,
	IER_LINE = 4,
	IER_MODEM = 8,
	IER_MASK = 0x0f,
	IIR_MODEM = 0,
	IIR_NONE = 1,
	IIR_TX = 2,
	IIR_RX = 4,
	IIR_LINE = 6,
	IIR_FIFO_ON = 0xc0,
	FCR_ENABLE = 1,
	LCR_DLAB = 0x80,
	MCR_DTR = 1,
	MCR_RTS = 2,
	MCR_OUT1 = 4,
	MCR_OUT2 = 8,
	MCR_LOOP = 0x10,
	MCR_MASK = 0x1f,
	LSR_DATA_READY = 1,
	LSR_OVERRUN = 2,
	LSR_TX_EMPTY = 0x60, /* holding register and shift register */
};

/* Modem inputs; each has a "changed" bit four below, except that RI only counts
 * when it goes away. */
enum {
	MSR_CTS = 0x10,
	MSR_DSR = 0x20,
	MSR_RI = 0x40,
	MSR_DCD = 0x80,
	MSR_CONNECTED = MSR_CTS | MSR_DSR | MSR_DCD,
};

struct serial {
	pthread_mutex_t lock; /* guards the registers and the ring */
	uint8_t ier, fcr, lcr, mcr, scr;
	uint8_t divisor_low, divisor_high;
	bool tx_pending; /* transmit-empty interrupt not seen by the driver */
	bool overrun;
	uint8_t modem_changes; /* not seen by the driver */
	uint8_t input[INPUT_SIZE];
	size_t input_start, input_len;
	bool input_stalled; /* the loop waits for room */

	int out_fd;
	struct rate_limiter limiter; /* of output */
	const struct irq_line *irq;
	struct uart_metrics *metrics;

	struct loop_source in_source;
	struct loop_source room_source; /* eventfd: the ring has room again */
};

/* -------------------------------------------------------------- interrupts */

static uint8_t interrupt_id(const struct serial *serial)
{
	if ((serial->ier & IER_LINE) && serial->overrun)
		return IIR_LINE;
	if ((serial->ier & IER_RX) && serial->input_len)
		return IIR_RX;
	if ((serial->ier & IER_TX) && serial->tx_pending)
		return IIR_TX;
	if ((serial->ier & IER_MODEM) && serial->modem_changes)
		return IIR_MODEM;
	return IIR_NONE;
}

static void raise_if_due(const struct serial *serial)
{
	if (serial->irq && interrupt_id(serial) != IIR_NONE)
		irq_line_trigger(serial->irq);
}

/* ------------------------------------------------------------------- input */

static void receive_one(struct serial *serial, uint8_t byte)
{
	size_t end = (serial->input_start + serial->input_len) % INPUT_SIZE;

	serial->input[end] = byte;
	serial->input_len++;
}

size_t serial_receive(struct serial *serial, const uint8_t *data, size_t len)
{
	size_t fitted = 0;

	pthread_mutex_lock(&serial->lock);
	while (fitted < len && serial->input_len < INPUT_SIZE)
		receive_one(serial, data[fitted++]);
	serial->input_stalled = serial->input_len == INPUT_SIZE;
	raise_if_due(serial);
	pthread_mutex_unlock(&serial->lock);
	return fitted;
}

static void announce_room(struct serial *serial)
{
	const uint64_t one = 1;

	if (!serial->input_stalled || serial->input_len > INPUT_LOW)
		return;
	serial->input_stalled = false;
	if (serial->room_source.fd >= 0 &&
	    write(serial->room_source.fd, &one, sizeof(one)) < 0)
		metric_inc(&serial->metrics->error_count);
}

static uint8_t read_data(struct serial *serial)
{
	uint8_t byte;

	if (serial->input_len == 0) {
		metric_inc(&serial->metrics->missed_read_count);
		return 0;
	}
	byte = serial->input[serial->input_start];
	serial->input_start = (serial->input_start + 1) % INPUT_SIZE;
	serial->input_len--;
	metric_inc(&serial->metrics->read_count);
	announce_room(serial);
	return byte;
}

/* Room for input; with none, the loop will want to hear when there is. */
static size_t input_room(struct serial *serial)
{
	size_t room;

	pthread_mutex_lock(&serial->lock);
	room = INPUT_SIZE - serial->input_len;
	serial->input_stalled = room == 0;
	pthread_mutex_unlock(&serial->lock);
	return room;
}

static bool is_stalled(struct serial *serial)
{
	bool stalled;

	pthread_mutex_lock(&serial->lock);
	stalled = serial->input_stalled;
	pthread_mutex_unlock(&serial->lock);
	return stalled;
}

/* Loop thread. No more is read than fits, so that nothing is lost. Whether to
 * go on listening is asked last: had the guest made room meanwhile, it would
 * have said so already, and nobody would say it again. */
static void on_input(struct loop_source *source, uint32_t events)
{
	struct serial *serial = container_of(source, struct serial, in_source);
	uint8_t buf[INPUT_SIZE];
	size_t room = input_room(serial);
	ssize_t n = 0;

	(void)events;
	if (room) {
		n = read(source->fd, buf, room);
		/* End of input: a closed pipe would be ready for ever. */
		if (n == 0 || (n < 0 && errno != EAGAIN && errno != EINTR)) {
			loop_remove(source);
			return;
		}
	}
	if (n > 0)
		serial_receive(serial, buf, (size_t)n);
	if (is_stalled(serial) && loop_modify(source, 0))
		loop_remove(source);
}

static void on_room(struct loop_source *source, uint32_t events)
{
	struct serial *serial =
		container_of(source, struct serial, room_source);
	uint64_t count;

	(void)events;
	if (read(source->fd, &count, sizeof(count)) < 0)
		return;
	if (serial->in_source.loop && loop_modify(&serial->in_source, EPOLLIN))
		loop_remove(&serial->in_source);
}

static int watch_input(struct serial *serial, struct loop *loop, int in_fd)
{
	int flags = fcntl(in_fd, F_GETFL);
	int ret;

	if (flags < 0 || fcntl(in_fd, F_SETFL, flags | O_NONBLOCK))
		return -errno;
	serial->room_source.fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (serial->room_source.fd < 0)
		return -errno;
	serial->in_source.fd = in_fd;
	ret = loop_add(loop, &serial->room_source);
	return ret ? ret : loop_add(loop, &serial->in_source);
}

void serial_restore_terminal(void)
{
	terminal_restore();
}

int serial_attach_input(struct serial *serial, struct loop *loop, int in_fd)
{
	struct stat st;
	int ret;

	if (fstat(in_fd, &st))
		return 0; /* closed: no input */
	if (!isatty(in_fd))
		return S_ISFIFO(st.st_mode) ? watch_input(serial, loop, in_fd)
					    : 0;
	if (terminal_is_background(in_fd))
		return 0;
	ret = terminal_make_raw(in_fd);
	return ret ? ret : watch_input(serial, loop, in_fd);
}

/* --------------------------------------------------------------- registers */

/* Is there a token for one more byte of output? */
static bool may_transmit(struct serial *serial)
{
	uint64_t now;

	if (!ratelimit_enabled(&serial->limiter))
		return true;
	now = monotonic_ns();
	if (!ratelimit_ready(&serial->limiter, now))
		return false;
	ratelimit_charge(&serial->limiter, 1, 0, now);
	return true;
}

static void transmit(struct serial *serial, uint8_t byte)
{
	ssize_t n;

	if (serial->mcr & MCR_LOOP) {
		if (serial->input_len < INPUT_SIZE)
			receive_one(serial, byte);
		else
			serial->overrun = true;
		return;
	}
	if (!may_transmit(serial)) {
		metric_inc(&serial->metrics->rate_limiter_dropped_bytes);
		return;
	}
	n = serial->out_fd < 0 ? 1 : write(serial->out_fd, &byte, 1);
	metric_inc(n == 1 ? &serial->metrics->write_count
			  : &serial->metrics->missed_write_count);
}

static uint8_t read_iir(struct serial *serial)
{
	uint8_t id = interrupt_id(serial);

	/* Reading it acknowledges the transmit-empty interrupt. */
	if (id == IIR_TX)
		serial->tx_pending = false;
	return (uint8_t)(id | (serial->fcr & FCR_ENABLE ? IIR_FIFO_ON : 0));
}

static uint8_t read_lsr(struct serial *serial)
{
	uint8_t lsr = LSR_TX_EMPTY;

	if (serial->input_len)
		lsr |= LSR_DATA_READY;
	if (serial->overrun)
		lsr |= LSR_OVERRUN;
	serial->overrun = false;
	return lsr;
}

/* In loopback the modem outputs come back as inputs. */
static uint8_t modem_inputs(const struct serial *serial)
{
	static const struct {
		uint8_t output, input;
	} wires[] = {
		{MCR_DTR, MSR_DSR},
		{MCR_RTS, MSR_CTS},
		{MCR_OUT1, MSR_RI},
		{MCR_OUT2, MSR_DCD},
	};
	uint8_t inputs = 0;

	if (!(serial->mcr & MCR_LOOP))
		return MSR_CONNECTED;
	for (size_t i = 0; i < ARRAY_SIZE(wires); i++)
		if (serial->mcr & wires[i].output)
			inputs |= wires[i].input;
	return inputs;
}

static uint8_t read_msr(struct serial *serial)
{
	uint8_t msr = modem_inputs(serial) | serial->modem_changes;

	serial->modem_changes = 0;
	return msr;
}

static uint8_t read_register(struct serial *serial, uint64_t reg)
{
	bool dlab = serial->lcr & LCR_DLAB;

	switch (reg) {
	case REG_DATA:
		return dlab ? serial->divisor_low : read_data(serial);
	case REG_IER:
		return dlab ? serial->divisor_high : serial->ier;
	case REG_IIR:
		return read_iir(serial);
	case REG_LCR:
		return serial->lcr;
	case REG_MCR:
		return serial->mcr;
	case REG_LSR:
		return read_lsr(serial);
	case REG_MSR:
		return read_msr(serial);
	case REG_SCR:
	default:
		return serial->scr;
	}
}

static void write_data(struct serial *serial, uint8_t value)
{
	bool was_pending = serial->tx_pending;

	transmit(serial, value);
	serial->tx_pending = true;
	/* A driver fills the FIFO with many bytes: one edge is enough. */
	if (!was_pending || (serial->mcr & MCR_LOOP))
		raise_if_due(serial);
}

/* Enabling the transmit interrupt with an empty transmitter raises it. */
static void write_ier(struct serial *serial, uint8_t value)
{
	bool tx_on = (value & IER_TX) && !(serial->ier & IER_TX);

	serial->ier = value & IER_MASK;
	if (tx_on)
		serial->tx_pending = true;
	raise_if_due(serial);
}

/* A driver clears the FIFO when it finds the port, to be rid of noise on the
 * line. There is none here: what waits was typed by somebody, and is kept. */
static void write_fcr(struct serial *serial, uint8_t value)
{
	serial->fcr = value & FCR_ENABLE;
}

static void write_mcr(struct serial *serial, uint8_t value)
{
	uint8_t before = modem_inputs(serial);
	uint8_t changes;

	serial->mcr = value & MCR_MASK;
	changes = before ^ modem_inputs(serial);
	if (!(before & MSR_RI))
		changes &= (uint8_t)~MSR_RI;
	serial->modem_changes |= changes >> 4;
	raise_if_due(serial);
}

static void write_register(struct serial *serial, uint64_t reg, uint8_t value)
{
	bool dlab = serial->lcr & LCR_DLAB;

	switch (reg) {
	case REG_DATA:
		if (dlab)
			serial->divisor_low = value;
		else
			write_data(serial, value);
		return;
	case REG_IER:
		if (dlab)
			serial->divisor_high = value;
		else
			write_ier(serial, value);
		return;
	case REG_IIR:
		write_fcr(serial, value);
		return;
	case REG_LCR:
		serial->lcr = value;
		return;
	case REG_MCR:
		write_mcr(serial, value);
		return;
	case REG_SCR:
		serial->scr = value;
		return;
	default: /* LSR and MSR are read-only */
		metric_inc(&serial->metrics->missed_write_count);
		return;
	}
}

/* Registers are bytes; wider accesses are not for this device. */
static void serial_read(void *dev, uint64_t off, uint8_t *data, size_t len)
{
	struct serial *serial = dev;

	if (len != 1) {
		metric_inc(&serial->metrics->missed_read_count);
		return;
	}
	pthread_mutex_lock(&serial->lock);
	data[0] = read_register(serial, off);
	pthread_mutex_unlock(&serial->lock);
}

static void serial_write(void *dev, uint64_t off, const uint8_t *data,
			 size_t len)
{
	struct serial *serial = dev;

	if (len != 1) {
		metric_inc(&serial->metrics->missed_write_count);
		return;
	}
	pthread_mutex_lock(&serial->lock);
	write_register(serial, off, data[0]);
	pthread_mutex_unlock(&serial->lock);
}

const struct bus_ops serial_bus_ops = {
	.read = serial_read,
	.write = serial_write,
};

/* --------------------------------------------------------------- snapshots */

#define SECTION STATE_TAG('U', 'A', 'R', 'T')
#define SECTION_VERSION 1

/* That the loop waits for room is not among them: another loop does not. */
static const struct state_field fields[] = {
	STATE_FIELD(struct serial, ier),
	STATE_FIELD(struct serial, fcr),
	STATE_FIELD(struct serial, lcr),
	STATE_FIELD(struct serial, mcr),
	STATE_FIELD(struct serial, scr),
	STATE_FIELD(struct serial, divisor_low),
	STATE_FIELD(struct serial, divisor_high),
	STATE_FIELD(struct serial, tx_pending),
	STATE_FIELD(struct serial, overrun),
	STATE_FIELD(struct serial, modem_changes),
	STATE_ARRAY(struct serial, input),
	STATE_FIELD(struct serial, input_start),
	STATE_FIELD(struct serial, input_len),
};

void serial_save(struct serial *serial, struct state_writer *writer)
{
	pthread_mutex_lock(&serial->lock);
	state_begin(writer, SECTION, SECTION_VERSION, 0);
	state_put_fields(writer, serial, fields, ARRAY_SIZE(fields));
	state_end(writer);
	pthread_mutex_unlock(&serial->lock);
}

/* Only bits that can be written, and a ring that is one. */
static bool state_valid(const struct serial *serial)
{
	return !(serial->ier & ~IER_MASK) && !(serial->fcr & ~FCR_ENABLE) &&
	       !(serial->mcr & ~MCR_MASK) && !(serial->modem_changes & 0xf0) &&
	       serial->input_start < INPUT_SIZE &&
	       serial->input_len <= INPUT_SIZE;
}

static int try_load(struct state_reader reader, struct error *err)
{
	struct serial tried = {0};
	int ret;

	state_get_fields(&reader, &tried, fields, ARRAY_SIZE(fields));
	ret = state_reader_end(&reader, err);
	if (ret || state_valid(&tried))
		return ret;
	return error_set(err, EINVAL, "COM1 is in a state that does not exist");
}

int serial_load(struct serial *serial, const struct state_file *file,
		struct error *err)
{
	struct state_reader reader;
	int ret = state_need(file, SECTION, 0, SECTION_VERSION, &reader, err);

	if (!ret)
		ret = try_load(reader, err);
	if (ret)
		return ret;
	pthread_mutex_lock(&serial->lock);
	state_get_fields(&reader, serial, fields, ARRAY_SIZE(fields));
	pthread_mutex_unlock(&serial->lock);
	serial_rekick(serial);
	return 0;
}

void serial_rekick(struct serial *serial)
{
	pthread_mutex_lock(&serial->lock);
	raise_if_due(serial);
	pthread_mutex_unlock(&serial->lock);
}

/* -------------------------------------------------------------- life cycle */

int serial_create(struct serial **ret_serial, int out_fd,
		  struct uart_metrics *metrics)
{
	struct serial *serial = calloc(1, sizeof(*serial));

	if (!serial)
		return -ENOMEM;
	pthread_mutex_init(&serial->lock, NULL);
	serial->lcr = 3;	  /* 8 bits, no parity, as firmware leaves it */
	serial->divisor_low = 12; /* 9600 baud */
	serial->out_fd = out_fd;
	serial->metrics = metrics;
	serial->in_source = (struct loop_source){
		.fd = -1,
		.events = EPOLLIN,
		.class = LOOP_DEVICE,
		.fn = on_input,
	};
	serial->room_source = (struct loop_source){
		.fd = -1,
		.events = EPOLLIN,
		.class = LOOP_DEVICE,
		.fn = on_room,
	};
	*ret_serial = serial;
	return 0;
}

void serial_destroy(struct serial *serial)
{
	if (!serial)
		return;
	serial_restore_terminal();
	loop_remove(&serial->in_source); /* the descriptor is stdin: it stays */
	loop_remove(&serial->room_source);
	close_fd(&serial->room_source.fd);
	pthread_mutex_destroy(&serial->lock);
	free(serial);
}

void serial_limit_output(struct serial *serial,
			 const struct token_bucket_config *bucket)
{
	const struct rate_limiter_config config = {.bandwidth = *bucket};

	ratelimit_init(&serial->limiter, &config, monotonic_ns());
}

void serial_set_irq(struct serial *serial, const struct irq_line *irq)
{
	serial->irq = irq;
}
