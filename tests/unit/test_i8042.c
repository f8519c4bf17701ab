/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/i8042.h"

#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>
#include <sys/eventfd.h>

#include <cmocka.h>

enum { DATA = 0, SPEAKER = 1, STATUS = 4, COMMAND = 4 };
enum { FULL = 1 };

#define ROUNDS 300

struct fixture {
	struct i8042 *dev;
	struct i8042_metrics metrics;
	struct irq_line irq; /* an eventfd that nobody but the test reads */
	unsigned int resets;
};

static void on_reset(void *arg)
{
	struct fixture *f = arg;

	f->resets++;
}

static int setup(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));

	assert_non_null(f);
	f->irq.fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
	assert_int_equal(i8042_create(&f->dev, on_reset, f, &f->metrics), 0);
	i8042_set_irq(f->dev, &f->irq);
	*state = f;
	return 0;
}

static int teardown(void **state)
{
	struct fixture *f = *state;

	i8042_destroy(f->dev);
	i8042_destroy(NULL);
	close_fd(&f->irq.fd);
	free(f);
	return 0;
}

static uint8_t get(struct fixture *f, uint64_t port)
{
	uint8_t value = 0;

	i8042_bus_ops.read(f->dev, port, &value, 1);
	return value;
}

static void set(struct fixture *f, uint64_t port, uint8_t value)
{
	i8042_bus_ops.write(f->dev, port, &value, 1);
}

static bool has_data(struct fixture *f)
{
	return get(f, STATUS) & FULL;
}

/* Edges since the last call. */
static uint64_t edges(struct fixture *f)
{
	uint64_t count;

	return read(f->irq.fd, &count, sizeof(count)) < 0 ? 0 : count;
}

/* What is there to read is exactly @bytes. */
static void assert_answer(struct fixture *f, const char *bytes, size_t len)
{
	for (size_t i = 0; i < len; i++) {
		assert_true(has_data(f));
		assert_int_equal(get(f, DATA), (uint8_t)bytes[i]);
	}
	assert_false(has_data(f));
}

static void write_ctr(struct fixture *f, uint8_t ctr)
{
	set(f, COMMAND, 0x60);
	set(f, DATA, ctr);
}

static uint8_t read_ctr(struct fixture *f)
{
	set(f, COMMAND, 0x20);
	return get(f, DATA);
}

static void test_status_at_start_is_idle_and_unlocked(void **state)
{
	struct fixture *f = *state;

	assert_int_equal(get(f, STATUS), 0x14);
	assert_int_equal(get(f, DATA), 0);
	assert_int_equal(f->metrics.missed_read_count.value, 1);
}

static void test_controller_commands_answer(void **state)
{
	static const struct {
		uint8_t command;
		const char *answer;
		size_t len;
	} cases[] = {
		{0xaa, "\x55", 1}, /* self test */
		{0xab, "\0", 1},   /* keyboard interface test */
		{0xa9, "\x01", 1}, /* aux interface test: there is none */
		{0xd0, "\xcf", 1}, /* output port */
		{0xad, "", 0},	   {0xae, "", 0}, {0xa7, "", 0},
		{0xa8, "", 0},	   {0x00, "", 0}, {0xff, "", 0},
	};
	struct fixture *f = *state;

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		set(f, COMMAND, cases[i].command);
		assert_answer(f, cases[i].answer, cases[i].len);
	}
	assert_int_equal(f->metrics.missed_write_count.value, 2);
	assert_int_equal(f->resets, 0);
}

static void test_command_byte_is_kept(void **state)
{
	struct fixture *f = *state;

	/* Not translating: a driver then takes the keyboard's own codes. */
	assert_int_equal(read_ctr(f), 0x25);
	write_ctr(f, 0x43);
	assert_int_equal(read_ctr(f), 0x43);
	set(f, COMMAND, 0xad);
	set(f, COMMAND, 0xa7);
	assert_int_equal(read_ctr(f), 0x73);
	set(f, COMMAND, 0xae);
	set(f, COMMAND, 0xa8);
	assert_int_equal(read_ctr(f), 0x43);
}

static void test_keyboard_commands_answer(void **state)
{
	static const struct {
		const char *bytes;
		size_t count;
		const char *answer;
		size_t len;
	} cases[] = {
		{"\xff", 1, "\xfa\xaa", 2},	/* reset */
		{"\xf2", 1, "\xfa\xab\x83", 3}, /* identify */
		{"\xf4", 1, "\xfa", 1},		/* enable */
		{"\xf5", 1, "\xfa", 1},		/* disable */
		{"\xed\xff", 2, "\xfa\xfa", 2}, /* lights, all of them */
		{"\xf3\xff", 2, "\xfa\xfa", 2}, /* repeat rate */
		{"\xf0\x02", 2, "\xfa\xfa", 2}, /* scan code set */
	};
	struct fixture *f = *state;

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		for (size_t j = 0; j < cases[i].count; j++)
			set(f, DATA, (uint8_t)cases[i].bytes[j]);
		assert_answer(f, cases[i].answer, cases[i].len);
	}
}

/* What Linux does to find a mouse, which must be over at once. */
static void test_aux_probe_gets_no_for_an_answer(void **state)
{
	struct fixture *f = *state;

	set(f, COMMAND, 0xd3);
	set(f, DATA, 0x5a);
	assert_int_equal(get(f, STATUS) & 0x21, 0x01); /* not from aux */
	set(f, COMMAND, 0xa9);
	assert_answer(f, "\x5a\x01", 2);
	set(f, COMMAND, 0xd4); /* to a mouse that is not there */
	set(f, DATA, 0xff);
	assert_false(has_data(f));
	set(f, COMMAND, 0xd2);
	set(f, DATA, 0x77);
	assert_answer(f, "\x77", 1);
}

static void test_reset_commands_reset_once_each(void **state)
{
	struct fixture *f = *state;

	set(f, COMMAND, 0xfe);
	assert_int_equal(f->resets, 1);
	set(f, COMMAND, 0xd1);
	set(f, DATA, 0xce); /* the reset line is active low */
	assert_int_equal(f->resets, 2);
	set(f, COMMAND, 0xd1);
	set(f, DATA, 0xdf);
	assert_int_equal(f->resets, 2);
	set(f, COMMAND, 0xd0);
	assert_answer(f, "\xdf", 1);
	assert_int_equal(f->metrics.reset_count.value, 2);
}

static void test_interrupt_for_each_byte_at_the_front(void **state)
{
	struct fixture *f = *state;

	assert_int_equal(i8042_ctrl_alt_del(f->dev), 0);
	for (int i = 0; i < 4; i++) {
		assert_int_equal(edges(f), 1);
		get(f, DATA);
	}
	assert_int_equal(edges(f), 0);
}

static void test_interrupt_waits_until_enabled(void **state)
{
	struct fixture *f = *state;

	write_ctr(f, 0x04);
	set(f, DATA, 0xf2);
	get(f, DATA);
	assert_int_equal(edges(f), 0);
	write_ctr(f, 0x05);
	assert_int_equal(edges(f), 1);
	get(f, DATA);
	get(f, DATA);
	assert_int_equal(edges(f), 1);
	write_ctr(f, 0x05); /* nothing there any more */
	assert_int_equal(edges(f), 0);
}

static void test_ctrl_alt_del_sends_make_codes(void **state)
{
	static const struct {
		uint8_t ctr;
		const char *codes, *identity;
	} cases[] = {
		{0x05, "\x14\x11\xe0\x71", "\xfa\xab\x83"},
		{0x45, "\x1d\x38\xe0\x53", "\xfa\xab\x41"},
	};
	struct fixture *f = *state;

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		write_ctr(f, cases[i].ctr);
		assert_int_equal(i8042_ctrl_alt_del(f->dev), 0);
		assert_answer(f, cases[i].codes, 4);
		set(f, DATA, 0xf2);
		assert_answer(f, cases[i].identity, 3);
	}
}

static void test_ctrl_alt_del_needs_room_for_all(void **state)
{
	struct fixture *f = *state;

	for (int i = 0; i < 4; i++)
		assert_int_equal(i8042_ctrl_alt_del(f->dev), 0);
	assert_int_equal(i8042_ctrl_alt_del(f->dev), -ENOSPC);
	for (int i = 0; i < 3; i++)
		get(f, DATA);
	assert_int_equal(i8042_ctrl_alt_del(f->dev), -ENOSPC);
	get(f, DATA);
	assert_int_equal(i8042_ctrl_alt_del(f->dev), 0);
	assert_int_equal(f->metrics.error_count.value, 0);
}

static void test_answers_nobody_reads_are_bounded(void **state)
{
	struct fixture *f = *state;

	for (int i = 0; i < 20; i++)
		set(f, DATA, 0xf4);
	for (int i = 0; i < 16; i++)
		assert_int_equal(get(f, DATA), 0xfa);
	assert_false(has_data(f));
	assert_int_equal(f->metrics.error_count.value, 4);
}

static void test_speaker_port_lets_waiting_loops_end(void **state)
{
	struct fixture *f = *state;
	uint8_t first = get(f, SPEAKER);

	assert_int_equal(first & 0xc0, 0); /* no NMI reason */
	assert_int_equal(first & 0x20, 0x20);
	assert_int_equal(first ^ get(f, SPEAKER), 0x10);
	set(f, SPEAKER, 0xff);
	assert_int_equal(get(f, SPEAKER) & ~0x10, 0x2f);
	set(f, SPEAKER, 0x01);
	assert_int_equal(get(f, SPEAKER) & ~0x10, 0x21);
}

static void test_other_accesses_are_counted_as_missed(void **state)
{
	struct fixture *f = *state;
	uint8_t data[4] = {0xfe, 0, 0, 0};

	i8042_bus_ops.write(f->dev, COMMAND, data, 2);
	i8042_bus_ops.write(f->dev, 2, data, 1);
	i8042_bus_ops.read(f->dev, DATA, data, 4);
	i8042_bus_ops.read(f->dev, 3, data, 1);
	assert_int_equal(f->resets, 0);
	assert_int_equal(data[0], 0xfe);
	assert_int_equal(f->metrics.missed_write_count.value, 2);
	assert_int_equal(f->metrics.missed_read_count.value, 2);
	assert_int_equal(f->metrics.write_count.value, 2);
	assert_int_equal(f->metrics.read_count.value, 2);
}

/* A client presses keys while a vCPU reads them. */
static void *press(void *arg)
{
	struct fixture *f = arg;

	for (int i = 0; i < ROUNDS;)
		if (i8042_ctrl_alt_del(f->dev) == 0)
			i++;
		else
			usleep(10);
	return NULL;
}

static void test_ctrl_alt_del_from_other_thread_stays_whole(void **state)
{
	static const uint8_t codes[] = {0x14, 0x11, 0xe0, 0x71};
	struct fixture *f = *state;
	pthread_t client;

	assert_int_equal(pthread_create(&client, NULL, press, f), 0);
	for (size_t i = 0; i < ROUNDS * 4;)
		if (has_data(f))
			assert_int_equal(get(f, DATA), codes[i++ % 4]);
		else
			usleep(10);
	pthread_join(client, NULL);
}

#define CASE(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		CASE(test_status_at_start_is_idle_and_unlocked),
		CASE(test_controller_commands_answer),
		CASE(test_command_byte_is_kept),
		CASE(test_keyboard_commands_answer),
		CASE(test_aux_probe_gets_no_for_an_answer),
		CASE(test_reset_commands_reset_once_each),
		CASE(test_interrupt_for_each_byte_at_the_front),
		CASE(test_interrupt_waits_until_enabled),
		CASE(test_ctrl_alt_del_sends_make_codes),
		CASE(test_ctrl_alt_del_needs_room_for_all),
		CASE(test_answers_nobody_reads_are_bounded),
		CASE(test_speaker_port_lets_waiting_loops_end),
		CASE(test_other_accesses_are_counted_as_missed),
		CASE(test_ctrl_alt_del_from_other_thread_stays_whole),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
