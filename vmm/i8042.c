/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Theory of operation.
 *
 * Bytes for the guest wait in a ring of 16 and are read one by one from the
 * data port. Each byte that becomes readable raises IRQ 1 if the command byte
 * enables it. The keyboard speaks scan code set 2, and a driver that finds the
 * translate bit of the command byte clear takes it so. When a driver sets that
 * bit, make codes are turned into set 1 on the way (the three keys that are
 * ever pressed are in a table).
 *
 * There is no second ("aux") port for a mouse. A driver that looks for one
 * waits half a second for every answer it does not get, polling: so it is
 * answered, in a way that means no.
 *
 * Port 0x61 lies in between: timer gate, speaker and NMI reasons of the PC. It
 * is only seen here when there is no PIT, which brings its own.
 */
#include "vmm/i8042.h"

#include "snapshot/state.h"

#include <errno.h>
#include <pthread.h>
#include <stdbool.h>

#define BUFFER_SIZE 16

/* Offsets from port 0x60. */
enum {
	PORT_DATA = 0,
	PORT_SPEAKER = 1,
	PORT_COMMAND = 4,
};

/* Port 0x61: the low bits can be written. Loops that wait for the refresh bit
 * to change or for timer 2 to run out must end. */
enum {
	SPEAKER_WRITABLE = 0x0f,
	SPEAKER_REFRESH = 0x10,
	SPEAKER_TIMER2_OUT = 0x20,
};

/* Status register. */
enum {
	STATUS_OUTPUT_FULL = 1,
	STATUS_SYSTEM = 4,
	STATUS_UNLOCKED = 0x10,
};

/* Command byte. */
enum {
	CTR_KEYBOARD_IRQ = 1,
	CTR_SYSTEM = 4,
	CTR_KEYBOARD_OFF = 0x10,
	CTR_AUX_OFF = 0x20,
	CTR_TRANSLATE = 0x40,
};

/* Controller commands. */
enum {
	CMD_READ_CTR = 0x20,
	CMD_WRITE_CTR = 0x60,
	CMD_AUX_OFF = 0xa7,
	CMD_AUX_ON = 0xa8,
	CMD_AUX_TEST = 0xa9,
	CMD_SELF_TEST = 0xaa,
	CMD_KEYBOARD_TEST = 0xab,
	CMD_KEYBOARD_OFF = 0xad,
	CMD_KEYBOARD_ON = 0xae,
	CMD_READ_OUTPUT = 0xd0,
	CMD_WRITE_OUTPUT = 0xd1,
	CMD_KEYBOARD_LOOP = 0xd2,
	CMD_AUX_LOOP = 0xd3,
	CMD_AUX_SEND = 0xd4,
	CMD_RESET = 0xfe,
};

enum {
	SELF_TEST_PASSED = 0x55,
	KEYBOARD_TEST_PASSED = 0x00,
	AUX_TEST_CLOCK_STUCK = 0x01,
};

/* Keyboard commands and answers. */
enum {
	KEY_SET_LEDS = 0xed,
	KEY_SCAN_SET = 0xf0,
	KEY_IDENTIFY = 0xf2,
	KEY_SET_RATE = 0xf3,
	KEY_RESET = 0xff,
	KEY_ACK = 0xfa,
	KEY_TEST_PASSED = 0xaa,
};

/* What the next byte to the data port means. */
enum expects {
	EXPECT_KEYBOARD_COMMAND,
	EXPECT_KEYBOARD_ARGUMENT,
	EXPECT_CTR,
	EXPECT_OUTPUT_PORT,
	EXPECT_LOOP,
	EXPECT_NOTHING,
};

struct i8042 {
	pthread_mutex_t lock;
	uint8_t ctr;
	uint8_t output_port;
	uint8_t speaker;
	enum expects expects;
	uint8_t buffer[BUFFER_SIZE];
	size_t start, len;
	const struct irq_line *irq;
	struct i8042_metrics *metrics;
	void (*reset)(void *arg);
	void *reset_arg;
};

/* ----------------------------------------------------- bytes for the guest */

static void raise_irq(const struct i8042 *dev)
{
	if (dev->irq && dev->len && (dev->ctr & CTR_KEYBOARD_IRQ))
		irq_line_trigger(dev->irq);
}

/* A guest that never reads loses bytes, as on the real thing. */
static void queue_byte(struct i8042 *dev, uint8_t byte)
{
	if (dev->len == BUFFER_SIZE) {
		metric_inc(&dev->metrics->error_count);
		return;
	}
	dev->buffer[(dev->start + dev->len++) % BUFFER_SIZE] = byte;
	if (dev->len == 1)
		raise_irq(dev);
}

static uint8_t read_data(struct i8042 *dev)
{
	uint8_t byte;

	if (dev->len == 0) {
		metric_inc(&dev->metrics->missed_read_count);
		return 0;
	}
	byte = dev->buffer[dev->start];
	dev->start = (dev->start + 1) % BUFFER_SIZE;
	dev->len--;
	raise_irq(dev);
	return byte;
}

static const struct {
	uint8_t set2, set1;
} translated[] = {
	{0x14, 0x1d}, /* Ctrl */
	{0x11, 0x38}, /* Alt */
	{0x71, 0x53}, /* Del, behind 0xe0 */
};

static uint8_t translate(const struct i8042 *dev, uint8_t code)
{
	if (!(dev->ctr & CTR_TRANSLATE))
		return code;
	for (size_t i = 0; i < ARRAY_SIZE(translated); i++)
		if (translated[i].set2 == code)
			return translated[i].set1;
	return code;
}

int i8042_ctrl_alt_del(struct i8042 *dev)
{
	static const uint8_t keys[] = {0x14, 0x11, 0xe0, 0x71};
	int ret = 0;

	pthread_mutex_lock(&dev->lock);
	if (BUFFER_SIZE - dev->len < sizeof(keys))
		ret = -ENOSPC;
	for (size_t i = 0; i < sizeof(keys) && !ret; i++)
		queue_byte(dev, translate(dev, keys[i]));
	pthread_mutex_unlock(&dev->lock);
	return ret;
}

/* ---------------------------------------------------------------- commands */

static void reset_machine(struct i8042 *dev)
{
	metric_inc(&dev->metrics->reset_count);
	dev->reset(dev->reset_arg);
}

static void controller_command(struct i8042 *dev, uint8_t command)
{
	switch (command) {
	case CMD_READ_CTR:
		queue_byte(dev, dev->ctr);
		return;
	case CMD_WRITE_CTR:
		dev->expects = EXPECT_CTR;
		return;
	case CMD_AUX_OFF:
		dev->ctr |= CTR_AUX_OFF;
		return;
	case CMD_AUX_ON:
		dev->ctr &= (uint8_t)~CTR_AUX_OFF;
		return;
	case CMD_AUX_TEST:
		queue_byte(dev, AUX_TEST_CLOCK_STUCK);
		return;
	case CMD_SELF_TEST:
		queue_byte(dev, SELF_TEST_PASSED);
		return;
	case CMD_KEYBOARD_TEST:
		queue_byte(dev, KEYBOARD_TEST_PASSED);
		return;
	case CMD_KEYBOARD_OFF:
		dev->ctr |= CTR_KEYBOARD_OFF;
		return;
	case CMD_KEYBOARD_ON:
		dev->ctr &= (uint8_t)~CTR_KEYBOARD_OFF;
		return;
	case CMD_READ_OUTPUT:
		queue_byte(dev, dev->output_port);
		return;
	case CMD_WRITE_OUTPUT:
		dev->expects = EXPECT_OUTPUT_PORT;
		return;
	case CMD_KEYBOARD_LOOP:
	case CMD_AUX_LOOP: /* comes back as if from the keyboard: no aux */
		dev->expects = EXPECT_LOOP;
		return;
	case CMD_AUX_SEND:
		dev->expects = EXPECT_NOTHING;
		return;
	case CMD_RESET:
		reset_machine(dev);
		return;
	default:
		metric_inc(&dev->metrics->missed_write_count);
		return;
	}
}

static void keyboard_command(struct i8042 *dev, uint8_t command)
{
	queue_byte(dev, KEY_ACK);
	switch (command) {
	case KEY_RESET:
		queue_byte(dev, KEY_TEST_PASSED);
		return;
	case KEY_IDENTIFY: /* an MF2 keyboard */
		queue_byte(dev, 0xab);
		queue_byte(dev, dev->ctr & CTR_TRANSLATE ? 0x41 : 0x83);
		return;
	case KEY_SET_LEDS:
	case KEY_SCAN_SET:
	case KEY_SET_RATE:
		dev->expects = EXPECT_KEYBOARD_ARGUMENT;
		return;
	default: /* enable, disable, defaults: nothing to do but agree */
		return;
	}
}

static void write_data(struct i8042 *dev, uint8_t value)
{
	enum expects expects = dev->expects;

	dev->expects = EXPECT_KEYBOARD_COMMAND;
	switch (expects) {
	case EXPECT_CTR:
		dev->ctr = value;
		raise_irq(dev);
		return;
	case EXPECT_LOOP:
		queue_byte(dev, value);
		return;
	case EXPECT_NOTHING:
		return;
	case EXPECT_OUTPUT_PORT:
		dev->output_port = value;
		if (!(value & 1)) /* the reset line, active low */
			reset_machine(dev);
		return;
	case EXPECT_KEYBOARD_ARGUMENT:
		queue_byte(dev, KEY_ACK);
		return;
	case EXPECT_KEYBOARD_COMMAND:
	default:
		keyboard_command(dev, value);
		return;
	}
}

/* ------------------------------------------------------------------- ports */

static uint8_t read_status(const struct i8042 *dev)
{
	return STATUS_SYSTEM | STATUS_UNLOCKED |
	       (dev->len ? STATUS_OUTPUT_FULL : 0);
}

static uint8_t read_speaker(struct i8042 *dev)
{
	dev->speaker ^= SPEAKER_REFRESH;
	return dev->speaker | SPEAKER_TIMER2_OUT;
}

static void write_speaker(struct i8042 *dev, uint8_t value)
{
	dev->speaker = (uint8_t)((dev->speaker & ~SPEAKER_WRITABLE) |
				 (value & SPEAKER_WRITABLE));
}

static void i8042_read(void *arg, uint64_t off, uint8_t *data, size_t len)
{
	struct i8042 *dev = arg;

	pthread_mutex_lock(&dev->lock);
	if (len == 1 && off == PORT_DATA)
		data[0] = read_data(dev);
	else if (len == 1 && off == PORT_COMMAND)
		data[0] = read_status(dev);
	else if (len == 1 && off == PORT_SPEAKER)
		data[0] = read_speaker(dev);
	else
		metric_inc(&dev->metrics->missed_read_count);
	metric_inc(&dev->metrics->read_count);
	pthread_mutex_unlock(&dev->lock);
}

static void i8042_write(void *arg, uint64_t off, const uint8_t *data,
			size_t len)
{
	struct i8042 *dev = arg;

	pthread_mutex_lock(&dev->lock);
	if (len == 1 && off == PORT_DATA)
		write_data(dev, data[0]);
	else if (len == 1 && off == PORT_COMMAND)
		controller_command(dev, data[0]);
	else if (len == 1 && off == PORT_SPEAKER)
		write_speaker(dev, data[0]);
	else
		metric_inc(&dev->metrics->missed_write_count);
	metric_inc(&dev->metrics->write_count);
	pthread_mutex_unlock(&dev->lock);
}

const struct bus_ops i8042_bus_ops = {
	.read = i8042_read,
	.write = i8042_write,
};

/* --------------------------------------------------------------- snapshots */

#define SECTION STATE_TAG('K', 'B', 'D', ' ')
#define SECTION_VERSION 1

static const struct state_field fields[] = {
	STATE_FIELD(struct i8042, ctr),
	STATE_FIELD(struct i8042, output_port),
	STATE_FIELD(struct i8042, speaker),
	STATE_FIELD(struct i8042, expects),
	STATE_ARRAY(struct i8042, buffer),
	STATE_FIELD(struct i8042, start),
	STATE_FIELD(struct i8042, len),
};

void i8042_save(struct i8042 *dev, struct state_writer *writer)
{
	pthread_mutex_lock(&dev->lock);
	state_begin(writer, SECTION, SECTION_VERSION, 0);
	state_put_fields(writer, dev, fields, ARRAY_SIZE(fields));
	state_end(writer);
	pthread_mutex_unlock(&dev->lock);
}

static bool state_valid(const struct i8042 *dev)
{
	return !(dev->speaker & ~(SPEAKER_WRITABLE | SPEAKER_REFRESH)) &&
	       dev->expects <= EXPECT_NOTHING && dev->start < BUFFER_SIZE &&
	       dev->len <= BUFFER_SIZE;
}

void i8042_rekick(struct i8042 *dev)
{
	pthread_mutex_lock(&dev->lock);
	raise_irq(dev);
	pthread_mutex_unlock(&dev->lock);
}

static int try_load(struct state_reader reader, struct error *err)
{
	struct i8042 tried = {0};
	int ret;

	state_get_fields(&reader, &tried, fields, ARRAY_SIZE(fields));
	ret = state_reader_end(&reader, err);
	if (ret || state_valid(&tried))
		return ret;
	return error_set(err, EINVAL,
			 "The keyboard controller is in a state that does not "
			 "exist");
}

int i8042_load(struct i8042 *dev, const struct state_file *file,
	       struct error *err)
{
	struct state_reader reader;
	int ret = state_need(file, SECTION, 0, SECTION_VERSION, &reader, err);

	if (!ret)
		ret = try_load(reader, err);
	if (ret)
		return ret;
	pthread_mutex_lock(&dev->lock);
	state_get_fields(&reader, dev, fields, ARRAY_SIZE(fields));
	pthread_mutex_unlock(&dev->lock);
	i8042_rekick(dev);
	return 0;
}

/* -------------------------------------------------------------- life cycle */

int i8042_create(struct i8042 **ret_i8042, void (*reset)(void *arg), void *arg,
		 struct i8042_metrics *metrics)
{
	struct i8042 *dev = calloc(1, sizeof(*dev));

	if (!dev)
		return -ENOMEM;
	pthread_mutex_init(&dev->lock, NULL);
	dev->ctr = CTR_SYSTEM | CTR_AUX_OFF | CTR_KEYBOARD_IRQ;
	dev->output_port = 0xcf;
	dev->reset = reset;
	dev->reset_arg = arg;
	dev->metrics = metrics;
	*ret_i8042 = dev;
	return 0;
}

void i8042_destroy(struct i8042 *dev)
{
	if (!dev)
		return;
	pthread_mutex_destroy(&dev->lock);
	free(dev);
}

void i8042_set_irq(struct i8042 *dev, const struct irq_line *irq)
{
	dev->irq = irq;
}
