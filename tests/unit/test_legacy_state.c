/* SPDX-License-Identifier: Apache-2.0 */
/* Saving and loading of the serial port and the keyboard controller. */
#include "snapshot/state.h"
#include "tests/fake/slot.h"
#include "vmm/i8042.h"
#include "vmm/serial.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>
#include <sys/eventfd.h>

#include <cmocka.h>

enum { DATA, IER, IIR, LCR, MCR, LSR, MSR, SCR, FCR = IIR };
enum { KBD_DATA = 0, KBD_COMMAND = 4 };

#define OFF_SECTION 28 /* of the only section, behind its head */

struct fixture {
	struct serial *serial, *other_serial;
	struct i8042 *i8042, *other_i8042;
	struct irq_line irq, other_irq; /* eventfds that only the test reads */
	struct uart_metrics uart;
	struct i8042_metrics keyboard;
};

static void no_reset(void *arg)
{
	(void)arg;
}

static void create(struct fixture *f, struct serial **ret_serial,
		   struct i8042 **ret_i8042, struct irq_line *irq)
{
	irq->fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
	assert_int_equal(serial_create(ret_serial, -1, &f->uart), 0);
	assert_int_equal(i8042_create(ret_i8042, no_reset, NULL, &f->keyboard),
			 0);
	serial_set_irq(*ret_serial, irq);
	i8042_set_irq(*ret_i8042, irq);
}

static int setup(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));

	assert_non_null(f);
	create(f, &f->serial, &f->i8042, &f->irq);
	create(f, &f->other_serial, &f->other_i8042, &f->other_irq);
	*state = f;
	return 0;
}

static int teardown(void **state)
{
	struct fixture *f = *state;

	serial_destroy(f->serial);
	serial_destroy(f->other_serial);
	i8042_destroy(f->i8042);
	i8042_destroy(f->other_i8042);
	close_fd(&f->irq.fd);
	close_fd(&f->other_irq.fd);
	free(f);
	return 0;
}

static uint8_t get(struct serial *serial, uint64_t reg)
{
	uint8_t value = 0;

	serial_bus_ops.read(serial, reg, &value, 1);
	return value;
}

static void set(struct serial *serial, uint64_t reg, uint8_t value)
{
	serial_bus_ops.write(serial, reg, &value, 1);
}

static uint8_t key_get(struct i8042 *i8042, uint64_t port)
{
	uint8_t value = 0;

	i8042_bus_ops.read(i8042, port, &value, 1);
	return value;
}

static void key_set(struct i8042 *i8042, uint64_t port, uint8_t value)
{
	i8042_bus_ops.write(i8042, port, &value, 1);
}

static uint64_t edges(const struct irq_line *irq)
{
	uint64_t count;

	return read(irq->fd, &count, sizeof(count)) < 0 ? 0 : count;
}

static void finish(struct state_writer *writer, struct state_file *file)
{
	assert_int_equal(state_writer_finish(writer), 0);
	assert_int_equal(state_file_parse(file, take_ptr(writer->bytes),
					  writer->len, NULL),
			 0);
}

static void save_serial(struct fixture *f, struct state_file *file)
{
	struct state_writer writer;

	state_writer_init(&writer);
	serial_save(f->serial, &writer);
	finish(&writer, file);
}

static void save_i8042(struct fixture *f, struct state_file *file)
{
	struct state_writer writer;

	state_writer_init(&writer);
	i8042_save(f->i8042, &writer);
	finish(&writer, file);
}

static void move_serial(struct fixture *f)
{
	struct state_file file;

	save_serial(f, &file);
	assert_int_equal(serial_load(f->other_serial, &file, NULL), 0);
	state_file_release(&file);
}

static void move_i8042(struct fixture *f)
{
	struct state_file file;

	save_i8042(f, &file);
	assert_int_equal(i8042_load(f->other_i8042, &file, NULL), 0);
	state_file_release(&file);
}

static void test_serial_registers_are_kept(void **state)
{
	struct fixture *f = *state;

	set(f->serial, LCR, 0x80);
	set(f->serial, DATA, 1);
	set(f->serial, IER, 2);
	set(f->serial, LCR, 0x1b);
	set(f->serial, IER, 0x05);
	set(f->serial, FCR, 1);
	set(f->serial, MCR, 0x0b);
	set(f->serial, SCR, 0xa5);
	move_serial(f);
	assert_int_equal(get(f->other_serial, IER), 0x05);
	assert_int_equal(get(f->other_serial, IIR), 0xc1);
	assert_int_equal(get(f->other_serial, LCR), 0x1b);
	assert_int_equal(get(f->other_serial, MCR), 0x0b);
	assert_int_equal(get(f->other_serial, SCR), 0xa5);
	set(f->other_serial, LCR, 0x80);
	assert_int_equal(get(f->other_serial, DATA), 1);
	assert_int_equal(get(f->other_serial, IER), 2);
	assert_int_equal(edges(&f->other_irq), 0);
}

/* A driver that waits for "transmitter empty" hears of it nowhere else. */
static void test_serial_transmit_interrupt_is_not_lost(void **state)
{
	struct fixture *f = *state;

	set(f->serial, IER, 2);
	assert_int_equal(edges(&f->irq), 1);
	move_serial(f); /* before the driver got to it */
	assert_int_equal(edges(&f->other_irq), 1);
	assert_int_equal(get(f->other_serial, IIR) & 0x0f, 2);
	assert_int_equal(get(f->other_serial, IIR) & 0x0f, 1);
	set(f->other_serial, DATA, 'x');
	assert_int_equal(edges(&f->other_irq), 1);

	/* the one that goes on may have lost it, too */
	serial_rekick(f->serial);
	assert_int_equal(edges(&f->irq), 1);
	get(f->serial, IIR);
	serial_rekick(f->serial);
	assert_int_equal(edges(&f->irq), 0);
}

static void test_serial_input_is_kept(void **state)
{
	static const uint8_t text[64] = "0123456789";
	struct fixture *f = *state;

	set(f->serial, IER, 1);
	assert_int_equal(serial_receive(f->serial, text, 60), 60);
	for (size_t i = 0; i < 8; i++)
		assert_int_equal(get(f->serial, DATA), text[i]);
	/* around the end, and full */
	assert_int_equal(serial_receive(f->serial, text, 20), 12);
	move_serial(f);
	assert_int_equal(edges(&f->other_irq), 1);
	for (size_t i = 8; i < 60; i++)
		assert_int_equal(get(f->other_serial, DATA), text[i]);
	for (size_t i = 0; i < 12; i++)
		assert_int_equal(get(f->other_serial, DATA), text[i]);
	assert_int_equal(get(f->other_serial, LSR) & 1, 0);
}

static void test_keyboard_bytes_and_state_are_kept(void **state)
{
	struct fixture *f = *state;

	assert_int_equal(i8042_ctrl_alt_del(f->i8042), 0);
	key_set(f->i8042, KBD_COMMAND, 0x60); /* write the command byte... */
	move_i8042(f);
	assert_int_equal(edges(&f->other_irq), 1);
	key_set(f->other_i8042, KBD_DATA, 0x44); /* ...which this is */
	assert_int_equal(key_get(f->other_i8042, KBD_DATA), 0x14);
	assert_int_equal(key_get(f->other_i8042, KBD_DATA), 0x11);
	assert_int_equal(key_get(f->other_i8042, KBD_DATA), 0xe0);
	assert_int_equal(key_get(f->other_i8042, KBD_DATA), 0x71);
	key_set(f->other_i8042, KBD_COMMAND, 0x20);
	assert_int_equal(key_get(f->other_i8042, KBD_DATA), 0x44);
}

static void test_keyboard_without_bytes_makes_no_interrupt(void **state)
{
	struct fixture *f = *state;

	move_i8042(f);
	assert_int_equal(edges(&f->other_irq), 0);
	i8042_rekick(f->other_i8042);
	assert_int_equal(edges(&f->other_irq), 0);
}

static void test_missing_sections_are_refused(void **state)
{
	struct fixture *f = *state;
	struct error err = {0};
	struct state_file file;

	save_serial(f, &file);
	assert_int_equal(i8042_load(f->i8042, &file, &err), -EINVAL);
	assert_string_equal(err.text, "Section KBD  0 is missing");
	state_file_release(&file);
	save_i8042(f, &file);
	assert_int_equal(serial_load(f->serial, &file, &err), -EINVAL);
	assert_string_equal(err.text, "Section UART 0 is missing");
	state_file_release(&file);
}

static void test_impossible_serial_states_are_refused(void **state)
{
	static const struct {
		size_t off;
		uint8_t value;
	} cases[] = {
		{0, 0x10}, {1, 2},   {3, 0x20}, {7, 2},	  {8, 2},
		{9, 0x10}, {74, 64}, {75, 1},	{82, 65}, {89, 1},
	};
	struct fixture *f = *state;
	struct state_file file, bad;

	set(f->serial, SCR, 0x77);
	save_serial(f, &file);
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct error err = {0};

		assert_true(file_damage(&file, OFF_SECTION + cases[i].off,
					cases[i].value, &bad));
		assert_int_equal(serial_load(f->other_serial, &bad, &err),
				 -EINVAL);
		assert_true(err.text[0]);
		assert_int_equal(get(f->other_serial, SCR), 0);
		state_file_release(&bad);
	}
	state_file_release(&file);
}

static void use(struct fixture *f)
{
	for (uint64_t reg = 0; reg < 8; reg++)
		for (int i = 0; i < 70; i++)
			get(f->other_serial, reg);
	serial_receive(f->other_serial, (const uint8_t *)"0123456789", 10);
	set(f->other_serial, MCR, 0x10);
	for (int i = 0; i < 70; i++)
		set(f->other_serial, DATA, 'x');
	(void)!i8042_ctrl_alt_del(f->other_i8042);
	for (int i = 0; i < 20; i++)
		key_set(f->other_i8042, KBD_DATA, 0xf2);
	for (int i = 0; i < 20; i++)
		key_get(f->other_i8042, KBD_DATA);
}

static void test_damaged_bytes_do_no_harm(void **state)
{
	struct fixture *f = *state;
	struct state_file files[2], bad;

	assert_int_equal(i8042_ctrl_alt_del(f->i8042), 0);
	serial_receive(f->serial, (const uint8_t *)"0123456789", 10);
	save_serial(f, &files[0]);
	save_i8042(f, &files[1]);
	for (size_t i = 0; i < 2 * 256 * files[0].len; i++) {
		const struct state_file *file = &files[i % 2];
		struct error err = {0};
		int ret;

		if (i / 512 >= file->len ||
		    !file_damage(file, i / 512, (uint8_t)(i / 2), &bad))
			continue;
		ret = i % 2 ? i8042_load(f->other_i8042, &bad, &err)
			    : serial_load(f->other_serial, &bad, &err);
		assert_true(ret == 0 || err.text[0]);
		if (ret == 0)
			use(f);
		state_file_release(&bad);
	}
	state_file_release(&files[0]);
	state_file_release(&files[1]);
}

int main(void)
{
#define CASE(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
	const struct CMUnitTest tests[] = {
		CASE(test_serial_registers_are_kept),
		CASE(test_serial_transmit_interrupt_is_not_lost),
		CASE(test_serial_input_is_kept),
		CASE(test_keyboard_bytes_and_state_are_kept),
		CASE(test_keyboard_without_bytes_makes_no_interrupt),
		CASE(test_missing_sections_are_refused),
		CASE(test_impossible_serial_states_are_refused),
		CASE(test_damaged_bytes_do_no_harm),
	};
#undef CASE

	return cmocka_run_group_tests(tests, NULL, NULL);
}
