/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/serial.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/wait.h>
#include <termios.h>
#include <time.h>

#include <cmocka.h>

#define MS UINT64_C(1000000)
#define STREAM_BYTES 3000

enum { DATA, IER, IIR, LCR, MCR, LSR, MSR, SCR, FCR = IIR };

struct fixture {
	struct serial *serial;
	struct uart_metrics metrics;
	struct irq_line irq; /* an eventfd that nobody but the test reads */
	int out[2];	     /* pipe behind the transmitter */
	int in[2];	     /* pipe in front of the receiver */
	struct loop *loop;
	struct loop_timer end;
};

static void stop_loop(struct loop_timer *timer)
{
	loop_stop(timer->loop);
}

static int setup(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));

	assert_non_null(f);
	assert_int_equal(pipe2(f->out, O_NONBLOCK | O_CLOEXEC), 0);
	assert_int_equal(pipe2(f->in, O_CLOEXEC), 0);
	f->irq.fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
	f->end.fn = stop_loop;
	assert_int_equal(loop_create(&f->loop), 0);
	assert_int_equal(serial_create(&f->serial, f->out[1], &f->metrics), 0);
	serial_set_irq(f->serial, &f->irq);
	*state = f;
	return 0;
}

static int teardown(void **state)
{
	struct fixture *f = *state;

	serial_destroy(f->serial);
	serial_destroy(NULL);
	loop_destroy(f->loop);
	close_fd(&f->irq.fd);
	for (size_t i = 0; i < 2; i++) {
		close_fd(&f->out[i]);
		close_fd(&f->in[i]);
	}
	free(f);
	return 0;
}

static uint8_t get(struct fixture *f, uint64_t reg)
{
	uint8_t value = 0;

	serial_bus_ops.read(f->serial, reg, &value, 1);
	return value;
}

static void set(struct fixture *f, uint64_t reg, uint8_t value)
{
	serial_bus_ops.write(f->serial, reg, &value, 1);
}

static void receive(struct fixture *f, const char *text)
{
	size_t len = strlen(text);

	assert_int_equal(serial_receive(f->serial, (const uint8_t *)text, len),
			 len);
}

/* Edges since the last call. */
static uint64_t edges(struct fixture *f)
{
	uint64_t count;

	return read(f->irq.fd, &count, sizeof(count)) < 0 ? 0 : count;
}

static const char *output(struct fixture *f)
{
	static char text[128];
	ssize_t n = read(f->out[0], text, sizeof(text) - 1);

	text[MAX(n, 0)] = '\0';
	return text;
}

static void run_for(struct fixture *f, uint64_t ms)
{
	loop_timer_arm(f->loop, &f->end, ms * MS);
	assert_int_equal(loop_run(f->loop), 0);
}

/* --------------------------------------------------------------- registers */

/* The steps by which Linux' 8250 driver tells a 16550A from its relatives. */
static void test_probe_finds_a_16550a(void **state)
{
	struct fixture *f = *state;

	set(f, IER, 0);
	assert_int_equal(get(f, IER), 0);
	set(f, IER, 0x0f);
	assert_int_equal(get(f, IER), 0x0f);
	set(f, IER, 0x40); /* not an XScale */
	assert_int_equal(get(f, IER), 0);
	set(f, MCR, 0x1a); /* loop, OUT2, RTS */
	assert_int_equal(get(f, MSR) & 0xf0, 0x90);
	set(f, MCR, 0);
	set(f, FCR, 1);
	assert_int_equal(get(f, IIR) >> 6, 3);
	set(f, LCR, 0x80); /* no EFR: not a 16650 */
	assert_int_not_equal(get(f, IIR), 0);
	set(f, FCR, 0xa8);
	assert_int_equal(get(f, IIR) & 0x20, 0); /* not a 16750 */
	set(f, LCR, 0x03);
	assert_int_equal(get(f, LCR), 0x03);
	set(f, SCR, 0xa5);
	assert_int_equal(get(f, SCR), 0xa5);
	set(f, FCR, 0);
	assert_int_equal(get(f, IIR) >> 6, 0);
}

static void test_divisor_latch_hides_data_and_ier(void **state)
{
	struct fixture *f = *state;

	assert_int_equal(get(f, LCR), 0x03);
	set(f, IER, 0x05);
	set(f, LCR, 0x83);
	assert_int_equal(get(f, DATA), 12); /* 9600 baud */
	set(f, DATA, 0x01);
	set(f, IER, 0x02);
	assert_int_equal(get(f, DATA), 0x01);
	assert_int_equal(get(f, IER), 0x02);
	set(f, LCR, 0x03);
	assert_int_equal(get(f, IER), 0x05);
	assert_string_equal(output(f), "");
}

static void test_access_of_other_width_is_ignored(void **state)
{
	struct fixture *f = *state;
	uint8_t data[4] = {'x', 'y', 'z', 0};

	serial_bus_ops.write(f->serial, DATA, data, 4);
	serial_bus_ops.read(f->serial, LSR, data, 2);
	assert_int_equal(data[0], 'x');
	assert_string_equal(output(f), "");
	assert_int_equal(f->metrics.missed_write_count.value, 1);
	assert_int_equal(f->metrics.missed_read_count.value, 1);
}

static void test_write_to_status_is_ignored(void **state)
{
	struct fixture *f = *state;

	set(f, LSR, 0);
	set(f, MSR, 0);
	assert_int_equal(get(f, LSR), 0x60);
	assert_int_equal(get(f, MSR), 0xb0);
	assert_int_equal(f->metrics.missed_write_count.value, 2);
}

/* ------------------------------------------------------------------ output */

static void test_transmit_writes_bytes_at_once(void **state)
{
	struct fixture *f = *state;

	for (const char *text = "hi\r\n"; *text; text++) {
		set(f, DATA, (uint8_t)*text);
		assert_int_equal(get(f, LSR), 0x60);
	}
	assert_string_equal(output(f), "hi\r\n");
	assert_int_equal(f->metrics.write_count.value, 4);
	assert_int_equal(edges(f), 0); /* nobody asked for interrupts */
}

static void test_transmit_into_full_pipe_drops_and_counts(void **state)
{
	struct fixture *f = *state;
	int size = fcntl(f->out[1], F_SETPIPE_SZ, 4096);

	for (int i = 0; i < size + 3; i++)
		set(f, DATA, 'x');
	assert_int_equal(f->metrics.write_count.value, size);
	assert_int_equal(f->metrics.missed_write_count.value, 3);
	assert_int_equal(get(f, LSR), 0x60);
}

/* Three bytes and a burst of two; what exceeds them is not written later. */
static void test_transmit_beyond_the_limit_is_dropped_and_counted(void **state)
{
	const struct token_bucket_config limit = {3, 2, 3600000};
	const struct token_bucket_config none = {0};
	struct fixture *f = *state;

	serial_limit_output(f->serial, &limit);
	for (const char *c = "0123456789"; *c; c++)
		set(f, DATA, (uint8_t)*c);
	assert_string_equal(output(f), "01234");
	assert_int_equal(f->metrics.write_count.value, 5);
	assert_int_equal(f->metrics.rate_limiter_dropped_bytes.value, 5);
	assert_int_equal(f->metrics.missed_write_count.value, 0);
	assert_int_equal(get(f, LSR), 0x60); /* the driver sees nothing of it */
	serial_limit_output(f->serial, &none);
	set(f, DATA, 'x');
	assert_string_equal(output(f), "x");
}

static void test_transmit_without_output_is_discarded(void **state)
{
	struct fixture *f = *state;
	struct serial *serial;
	uint8_t byte = 'x';

	assert_int_equal(serial_create(&serial, -1, &f->metrics), 0);
	serial_bus_ops.write(serial, DATA, &byte, 1);
	serial_destroy(serial);
	assert_int_equal(f->metrics.write_count.value, 1);
}

/* -------------------------------------------------------------- interrupts */

/* What Linux checks before it relies on the transmit interrupt. */
static void test_transmit_interrupt_comes_again_when_enabled(void **state)
{
	struct fixture *f = *state;

	for (int i = 0; i < 2; i++) {
		set(f, IER, 2);
		assert_int_equal(edges(f), 1);
		assert_int_equal(get(f, IIR), 2);
		assert_int_equal(get(f, IIR), 1); /* reading acknowledges */
		set(f, IER, 0);
	}
	assert_int_equal(edges(f), 0);
}

static void test_transmit_interrupt_once_per_burst(void **state)
{
	struct fixture *f = *state;

	set(f, IER, 2);
	get(f, IIR);
	edges(f);
	for (int i = 0; i < 16; i++)
		set(f, DATA, 'x');
	assert_int_equal(edges(f), 1);
	assert_int_equal(get(f, IIR), 2);
	set(f, DATA, 'x');
	assert_int_equal(edges(f), 1);
}

static void test_receive_interrupt_until_drained(void **state)
{
	struct fixture *f = *state;

	set(f, IER, 1);
	assert_int_equal(edges(f), 0);
	receive(f, "ab");
	assert_int_equal(edges(f), 1);
	assert_int_equal(get(f, LSR), 0x61);
	assert_int_equal(get(f, IIR), 4);
	assert_int_equal(get(f, DATA), 'a');
	assert_int_equal(get(f, IIR), 4);
	assert_int_equal(get(f, DATA), 'b');
	assert_int_equal(get(f, IIR), 1);
	assert_int_equal(get(f, LSR), 0x60);
	assert_int_equal(f->metrics.read_count.value, 2);
}

static void test_receive_before_enable_interrupts_then(void **state)
{
	struct fixture *f = *state;

	receive(f, "a");
	assert_int_equal(edges(f), 0);
	set(f, IER, 1);
	assert_int_equal(edges(f), 1);
}

static void overrun(struct fixture *f)
{
	set(f, MCR, 0x10);
	for (int i = 0; i < 65; i++)
		set(f, DATA, 'x');
}

static void test_interrupts_have_priorities(void **state)
{
	struct fixture *f = *state;

	overrun(f);
	set(f, IER, 0x0f);
	assert_int_equal(get(f, IIR), 6); /* line status: overrun */
	assert_int_equal(get(f, LSR), 0x63);
	assert_int_equal(get(f, LSR), 0x61);
	assert_int_equal(get(f, IIR), 4); /* received data */
	for (int i = 0; i < 64; i++)
		get(f, DATA);
	assert_int_equal(get(f, IIR), 2); /* transmitter empty */
	assert_int_equal(get(f, IIR), 0); /* modem status */
	assert_int_not_equal(get(f, MSR) & 0x0f, 0);
	assert_int_equal(get(f, IIR), 1);
}

/* ---------------------------------------------------------- loopback, input */

static void test_loopback_returns_bytes_not_to_output(void **state)
{
	struct fixture *f = *state;

	set(f, IER, 1);
	set(f, MCR, 0x10);
	set(f, DATA, 'l');
	assert_int_equal(edges(f), 1);
	assert_int_equal(get(f, DATA), 'l');
	set(f, MCR, 0);
	assert_string_equal(output(f), "");
}

static void test_loopback_wires_modem_lines(void **state)
{
	static const struct {
		uint8_t mcr, msr;
	} steps[] = {
		/* inputs, and what changed since the last look */
		{0x00, 0xb0}, {0x10, 0x0b}, {0x11, 0x22}, {0x13, 0x31},
		{0x17, 0x70}, {0x1f, 0xf8}, {0x1b, 0xb4}, {0x0f, 0xb0},
	};
	struct fixture *f = *state;

	for (size_t i = 0; i < ARRAY_SIZE(steps); i++) {
		set(f, MCR, steps[i].mcr);
		assert_int_equal(get(f, MSR), steps[i].msr);
	}
	assert_int_equal(get(f, MCR), 0x0f);
	set(f, MCR, 0xff);
	assert_int_equal(get(f, MCR), 0x1f);
}

static void test_receive_more_than_fits_says_so(void **state)
{
	struct fixture *f = *state;
	uint8_t bytes[100];

	for (size_t i = 0; i < sizeof(bytes); i++)
		bytes[i] = (uint8_t)i;
	assert_int_equal(serial_receive(f->serial, bytes, 10), 10);
	for (int i = 0; i < 5; i++)
		get(f, DATA);
	/* The ring wraps here. */
	assert_int_equal(serial_receive(f->serial, bytes + 10, 90), 59);
	for (int i = 5; i < 69; i++)
		assert_int_equal(get(f, DATA), i);
	assert_int_equal(get(f, DATA), 0);
	assert_int_equal(f->metrics.missed_read_count.value, 1);
}

static void test_fifo_reset_keeps_what_was_typed(void **state)
{
	struct fixture *f = *state;

	receive(f, "a");
	set(f, FCR, 0x07);
	assert_int_equal(get(f, LSR), 0x61);
	assert_int_equal(get(f, DATA), 'a');
}

/* A vCPU: reads as long as there is something, then looks again. */
static void *drain(void *arg)
{
	struct fixture *f = arg;
	uint32_t next = 0;

	while (next < STREAM_BYTES)
		if (get(f, LSR) & 1)
			assert_int_equal(get(f, DATA), next++ % 251);
		else
			usleep(20);
	loop_stop(f->loop);
	return NULL;
}

static void test_input_from_pipe_loses_nothing(void **state)
{
	struct fixture *f = *state;
	uint8_t bytes[STREAM_BYTES];
	pthread_t vcpu;

	for (size_t i = 0; i < sizeof(bytes); i++)
		bytes[i] = (uint8_t)(i % 251);
	assert_int_equal(write(f->in[1], bytes, sizeof(bytes)), sizeof(bytes));
	assert_int_equal(serial_attach_input(f->serial, f->loop, f->in[0]), 0);
	assert_int_equal(pthread_create(&vcpu, NULL, drain, f), 0);
	assert_int_equal(loop_run(f->loop), 0);
	pthread_join(vcpu, NULL);
}

static uint64_t thread_cpu_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &ts);
	return (uint64_t)ts.tv_sec * 1000 * MS + (uint64_t)ts.tv_nsec;
}

static void test_input_nobody_reads_does_not_spin(void **state)
{
	struct fixture *f = *state;
	char bytes[100] = {0};
	uint64_t start;

	assert_int_equal(write(f->in[1], bytes, sizeof(bytes)), 100);
	assert_int_equal(serial_attach_input(f->serial, f->loop, f->in[0]), 0);
	start = thread_cpu_ns();
	run_for(f, 50);
	assert_true(thread_cpu_ns() - start < 25 * MS);
}

static void test_input_at_its_end_does_not_spin(void **state)
{
	struct fixture *f = *state;
	uint64_t start;

	assert_int_equal(write(f->in[1], "end", 3), 3);
	close_fd(&f->in[1]);
	assert_int_equal(serial_attach_input(f->serial, f->loop, f->in[0]), 0);
	start = thread_cpu_ns();
	run_for(f, 50);
	assert_true(thread_cpu_ns() - start < 25 * MS);
	for (const char *text = "end"; *text; text++)
		assert_int_equal(get(f, DATA), *text);
}

static void test_attach_other_files_are_left_alone(void **state)
{
	struct fixture *f = *state;
	char path[] = "/tmp/ember-serial-XXXXXX";
	int file = mkstemp(path);
	int null = open("/dev/null", O_RDONLY | O_CLOEXEC);

	unlink(path);
	assert_int_equal(write(file, "typed", 5), 5);
	assert_int_equal(lseek(file, 0, SEEK_SET), 0);
	assert_int_equal(serial_attach_input(f->serial, f->loop, file), 0);
	assert_int_equal(serial_attach_input(f->serial, f->loop, null), 0);
	assert_int_equal(serial_attach_input(f->serial, f->loop, -1), 0);
	run_for(f, 2);
	assert_int_equal(lseek(file, 0, SEEK_CUR), 0);
	assert_int_equal(get(f, LSR), 0x60);
	close(null);
	close(file);
}

/* --------------------------------------------------------------- terminals */

/* A new terminal: our end, and theirs in @ret_theirs. */
static int open_terminal(int *ret_theirs)
{
	int ours = posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC);
	char name[64];

	assert_true(ours >= 0);
	assert_int_equal(grantpt(ours), 0);
	assert_int_equal(unlockpt(ours), 0);
	assert_int_equal(ptsname_r(ours, name, sizeof(name)), 0);
	*ret_theirs = open(name, O_RDWR | O_NOCTTY | O_CLOEXEC);
	assert_true(*ret_theirs >= 0);
	return ours;
}

static void test_attach_terminal_is_raw_until_destroyed(void **state)
{
	struct fixture *f = *state;
	/* Compared whole: padding included. */
	struct termios before = {0}, during, after = {0};
	int theirs, ours = open_terminal(&theirs);

	assert_int_equal(tcgetattr(theirs, &before), 0);
	assert_int_equal(serial_attach_input(f->serial, f->loop, theirs), 0);
	assert_int_equal(tcgetattr(theirs, &during), 0);
	assert_int_equal(during.c_lflag & (ICANON | ECHO | ISIG), 0);
	assert_int_equal(write(ours, "\x03q\r", 3), 3);
	run_for(f, 10);
	for (const char *text = "\x03q\r"; *text; text++)
		assert_int_equal(get(f, DATA), *text);
	serial_destroy(f->serial);
	f->serial = NULL;
	assert_int_equal(tcgetattr(theirs, &after), 0);
	assert_memory_equal(&after, &before, sizeof(before));
	serial_restore_terminal(); /* again does no harm */
	close(theirs);
	close(ours);
}

/* In a process whose terminal belongs to another process group. */
static int attach_in_background(struct fixture *f, int theirs)
{
	struct termios before = {0}, after = {0};

	if (setpgid(0, 0) || tcgetattr(theirs, &before))
		return 1;
	if (serial_attach_input(f->serial, f->loop, theirs))
		return 2;
	if (tcgetattr(theirs, &after))
		return 3;
	return memcmp(&before, &after, sizeof(before)) ? 4 : 0;
}

static int lead_session(struct fixture *f, int theirs)
{
	int status = 0;
	pid_t child;

	if (setsid() < 0 || ioctl(theirs, TIOCSCTTY, 0))
		return 10;
	child = fork();
	if (child == 0)
		_exit(attach_in_background(f, theirs));
	if (waitpid(child, &status, WUNTRACED) != child)
		return 11;
	if (WIFEXITED(status))
		return WEXITSTATUS(status);
	kill(child, SIGKILL);
	return 12; /* stopped */
}

static void test_attach_terminal_in_background_is_left_alone(void **state)
{
	int theirs, ours = open_terminal(&theirs);
	pid_t leader = fork();
	int status;

	if (leader == 0)
		_exit(lead_session(*state, theirs));
	assert_int_equal(waitpid(leader, &status, 0), leader);
	assert_int_equal(status, 0);
	close(theirs);
	close(ours);
}

#define CASE(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		CASE(test_probe_finds_a_16550a),
		CASE(test_divisor_latch_hides_data_and_ier),
		CASE(test_access_of_other_width_is_ignored),
		CASE(test_write_to_status_is_ignored),
		CASE(test_transmit_writes_bytes_at_once),
		CASE(test_transmit_into_full_pipe_drops_and_counts),
		CASE(test_transmit_beyond_the_limit_is_dropped_and_counted),
		CASE(test_transmit_without_output_is_discarded),
		CASE(test_transmit_interrupt_comes_again_when_enabled),
		CASE(test_transmit_interrupt_once_per_burst),
		CASE(test_receive_interrupt_until_drained),
		CASE(test_receive_before_enable_interrupts_then),
		CASE(test_interrupts_have_priorities),
		CASE(test_loopback_returns_bytes_not_to_output),
		CASE(test_loopback_wires_modem_lines),
		CASE(test_receive_more_than_fits_says_so),
		CASE(test_fifo_reset_keeps_what_was_typed),
		CASE(test_input_from_pipe_loses_nothing),
		CASE(test_input_nobody_reads_does_not_spin),
		CASE(test_input_at_its_end_does_not_spin),
		CASE(test_attach_other_files_are_left_alone),
		CASE(test_attach_terminal_is_raw_until_destroyed),
		CASE(test_attach_terminal_in_background_is_left_alone),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
