/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/fake/kvm.h"
#include "tests/fake/ring.h"
#include "virtio/mmio.h"

#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

#define BASE UINT64_C(0xc0001000)
#define GSI 5

/* A device that only counts what happens to it. */
struct probe {
	struct virtio_device dev;
	int activated, events, resets, config_writes;
	int fail_activation;
	bool again;
};

struct fixture {
	struct ring ring;
	struct kvm kvm;
	struct bus bus;
	struct loop *loop;
	struct probe probe;
	struct virtio_mmio *mmio;
};

static int probe_activate(struct virtio_device *dev)
{
	struct probe *probe = container_of(dev, struct probe, dev);

	probe->activated++;
	return probe->fail_activation;
}

static bool probe_event(struct virtio_device *dev, uint16_t q)
{
	struct probe *probe = container_of(dev, struct probe, dev);
	bool again = probe->again;

	(void)q;
	probe->events++;
	probe->again = false;
	return again;
}

static void probe_config_write(struct virtio_device *dev, size_t off,
			       const uint8_t *data, size_t len)
{
	struct probe *probe = container_of(dev, struct probe, dev);

	memcpy(dev->config + off, data, len);
	probe->config_writes++;
}

static void probe_reset(struct virtio_device *dev)
{
	container_of(dev, struct probe, dev)->resets++;
}

static void probe_destroy(struct virtio_device *dev)
{
	(void)dev;
}

static const struct virtio_device_ops probe_ops = {
	.name = "probe",
	.id = 42,
	.queue_count = 2,
	.activate = probe_activate,
	.queue_event = probe_event,
	.config_write = probe_config_write,
	.reset = probe_reset,
	.destroy = probe_destroy,
};

static int setup(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));
	struct error err = {0};

	assert_non_null(f);
	memset(&fake_kvm, 0, sizeof(fake_kvm));
	assert_int_equal(ring_create(&f->ring, 8), 0);
	assert_int_equal(loop_create(&f->loop), 0);
	virtio_device_init(&f->probe.dev, &probe_ops, BIT(3), "abcdefgh", 8);
	assert_int_equal(virtio_mmio_create(&f->mmio, &f->probe.dev, BASE, GSI),
			 0);
	assert_int_equal(virtio_mmio_attach(f->mmio, &f->kvm, &f->bus, f->loop,
					    f->ring.mem, &err),
			 0);
	*state = f;
	return 0;
}

static int teardown(void **state)
{
	struct fixture *f = *state;

	virtio_mmio_destroy(f->mmio);
	virtio_device_destroy(&f->probe.dev);
	loop_destroy(f->loop);
	ring_destroy(&f->ring);
	free(f);
	return 0;
}

static uint32_t rd(struct fixture *f, uint64_t off)
{
	uint8_t data[4];
	le32 value;

	bus_read(&f->bus, BASE + off, data, sizeof(data));
	memcpy(&value, data, sizeof(value));
	return le32_get(value);
}

static void wr(struct fixture *f, uint64_t off, uint32_t value)
{
	le32 le = le32_make(value);
	uint8_t data[4];

	memcpy(data, &le, sizeof(le));
	bus_write(&f->bus, BASE + off, data, sizeof(data));
}

static void set_features(struct fixture *f, uint32_t low, uint32_t high)
{
	wr(f, 0x70, 1);
	wr(f, 0x70, 3);
	wr(f, 0x24, 0);
	wr(f, 0x20, low);
	wr(f, 0x24, 1);
	wr(f, 0x20, high);
	wr(f, 0x70, 11);
}

static void set_queue(struct fixture *f, uint32_t q, uint32_t desc)
{
	wr(f, 0x30, q);
	wr(f, 0x38, 8);
	wr(f, 0x80, desc);
	wr(f, 0x90, RING_DRIVER);
	wr(f, 0xa0, RING_DEVICE);
	wr(f, 0x44, 1);
}

static void bring_up(struct fixture *f)
{
	set_features(f, 0, 1);
	set_queue(f, 0, RING_DESC);
	set_queue(f, 1, RING_DESC);
	wr(f, 0x70, 15);
}

static void test_identity_registers(void **state)
{
	struct fixture *f = *state;

	assert_int_equal(rd(f, 0x00), 0x74726976);
	assert_int_equal(rd(f, 0x04), 2);
	assert_int_equal(rd(f, 0x08), 42);
	assert_int_equal(rd(f, 0x0c), 0);
	assert_int_equal(rd(f, 0x34), 256);
	wr(f, 0x30, 2);
	assert_int_equal(rd(f, 0x34), 0); /* no such queue */
	assert_int_equal(rd(f, 0x44), 0);
}

static void test_features_come_in_halves(void **state)
{
	struct fixture *f = *state;

	assert_int_equal(rd(f, 0x10), 8);
	wr(f, 0x14, 1);
	assert_int_equal(rd(f, 0x10), 1); /* VERSION_1 */
	wr(f, 0x14, 2);
	assert_int_equal(rd(f, 0x10), 0);
}

static void test_driver_ok_activates(void **state)
{
	struct fixture *f = *state;

	bring_up(f);
	assert_int_equal(rd(f, 0x70), 15);
	assert_int_equal(f->probe.activated, 1);
	assert_true(f->probe.dev.active);
}

static void test_features_not_on_offer_are_refused(void **state)
{
	struct fixture *f = *state;

	set_features(f, 4, 1);
	assert_int_equal(rd(f, 0x70), 3);
	wr(f, 0x70, 0);
	set_features(f, 8, 0); /* without VERSION_1 */
	assert_int_equal(rd(f, 0x70), 3);
}

static void test_status_steps_cannot_be_skipped(void **state)
{
	struct fixture *f = *state;
	static const uint32_t wrong[] = {2, 3, 4, 8, 11, 15, 0x40, 0x100};

	for (size_t i = 0; i < ARRAY_SIZE(wrong); i++) {
		wr(f, 0x70, wrong[i]);
		assert_int_equal(rd(f, 0x70), 0);
	}
	bring_up(f);
	wr(f, 0x70, 11); /* bits are not taken back */
	assert_int_equal(rd(f, 0x70), 15);
	wr(f, 0x70, 0x8f);
	assert_int_equal(rd(f, 0x70), 0x8f);
}

static void test_queue_set_up_outside_its_phase_is_ignored(void **state)
{
	struct fixture *f = *state;

	set_queue(f, 0, 0x7000);
	assert_int_equal(f->probe.dev.queues[0].desc_gpa, 0);
	assert_int_equal(rd(f, 0x44), 0);
	bring_up(f);
	set_queue(f, 0, 0x7000);
	assert_int_equal(f->probe.dev.queues[0].desc_gpa, RING_DESC);
}

static void test_bad_queue_needs_reset(void **state)
{
	struct fixture *f = *state;

	set_features(f, 0, 1);
	set_queue(f, 0, RING_DESC);
	set_queue(f, 1, 0xfffff000);
	wr(f, 0x70, 15);
	assert_int_equal(rd(f, 0x70), 15 | 0x40);
	assert_int_equal(rd(f, 0x60), 2);
	assert_int_equal(f->probe.activated, 0);
	wr(f, 0x70, 0);
	bring_up(f);
	assert_int_equal(rd(f, 0x70), 15);
}

static void test_reset_forgets_everything(void **state)
{
	struct fixture *f = *state;

	bring_up(f);
	wr(f, 0x70, 0);
	assert_int_equal(f->probe.resets, 1);
	assert_int_equal(rd(f, 0x70), 0);
	assert_int_equal(f->probe.dev.driver_features, 0);
	assert_false(f->probe.dev.queues[0].ready);
	bring_up(f);
	assert_int_equal(f->probe.activated, 2);
}

static void test_interrupt_status_is_acknowledged_bit_by_bit(void **state)
{
	struct fixture *f = *state;
	uint64_t edges;

	bring_up(f);
	pthread_mutex_lock(&f->probe.dev.lock);
	virtio_device_notify_used(&f->probe.dev, 0);
	virtio_device_set_config(&f->probe.dev, "ABCDEFGH", 8);
	pthread_mutex_unlock(&f->probe.dev.lock);
	assert_int_equal(rd(f, 0x60), 3);
	wr(f, 0x64, 1);
	assert_int_equal(rd(f, 0x60), 2);
	assert_int_equal(rd(f, 0xfc), 1); /* config generation */
	assert_int_equal(fake_kvm.irqfds[0].value, GSI);
	assert_int_equal(read(fake_kvm.irqfds[0].fd, &edges, 8), 8);
	assert_int_equal(edges, 2);
}

static void test_config_space_is_bytes(void **state)
{
	struct fixture *f = *state;
	uint8_t data[8];

	bus_read(&f->bus, BASE + 0x101, data, 2);
	assert_memory_equal(data, "bc", 2);
	bus_read(&f->bus, BASE + 0x104, data, 8); /* half of it is behind */
	assert_memory_equal(data, "efgh\0\0\0\0", 8);
	bus_write(&f->bus, BASE + 0x107, (const uint8_t *)"!", 1);
	assert_int_equal(f->probe.config_writes, 1);
	bus_write(&f->bus, BASE + 0x107, (const uint8_t *)"!!", 2);
	bus_write(&f->bus, BASE + 0x9f0, (const uint8_t *)"!", 1);
	assert_int_equal(f->probe.config_writes, 1);
}

static void test_wrong_widths_and_holes_read_zero(void **state)
{
	struct fixture *f = *state;
	uint8_t data[8];

	for (uint64_t off = 0; off < 0x100; off++)
		for (size_t len = 1; len <= 8; len *= 2) {
			bus_read(&f->bus, BASE + off, data, len);
			bus_write(&f->bus, BASE + off, data, len);
			if (len != 4)
				assert_memory_equal(data, "\0\0\0\0\0\0\0",
						    len);
		}
	assert_int_equal(rd(f, 0x70), 0);
	bring_up(f);
	assert_int_equal(rd(f, 0x70), 15);
}

static void stop_loop(struct loop_timer *timer)
{
	loop_stop(timer->loop);
}

static void run_loop_for(struct fixture *f, uint64_t ns)
{
	struct loop_timer timer = {.fn = stop_loop};

	loop_timer_arm(f->loop, &timer, ns);
	assert_int_equal(loop_run(f->loop), 0);
}

static void test_kick_reaches_the_device_until_it_is_done(void **state)
{
	struct fixture *f = *state;
	const uint64_t one = 1;

	assert_int_equal(fake_kvm.ioeventfd_count, 2);
	assert_int_equal(fake_kvm.ioeventfds[1].addr, BASE + 0x50);
	assert_int_equal(fake_kvm.ioeventfds[1].value, 1);
	bring_up(f);
	f->probe.again = true;
	assert_int_equal(write(fake_kvm.ioeventfds[1].fd, &one, 8), 8);
	run_loop_for(f, 20000000);
	assert_int_equal(f->probe.events, 2);
}

static void test_kick_of_inactive_device_is_nothing(void **state)
{
	struct fixture *f = *state;
	const uint64_t one = 1;

	assert_int_equal(write(fake_kvm.ioeventfds[0].fd, &one, 8), 8);
	wr(f, 0x50, 7); /* and one of a queue that does not exist */
	run_loop_for(f, 20000000);
	assert_int_equal(f->probe.events, 0);
}

int main(void)
{
#define CASE(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
	const struct CMUnitTest tests[] = {
		CASE(test_identity_registers),
		CASE(test_features_come_in_halves),
		CASE(test_driver_ok_activates),
		CASE(test_features_not_on_offer_are_refused),
		CASE(test_status_steps_cannot_be_skipped),
		CASE(test_queue_set_up_outside_its_phase_is_ignored),
		CASE(test_bad_queue_needs_reset),
		CASE(test_reset_forgets_everything),
		CASE(test_interrupt_status_is_acknowledged_bit_by_bit),
		CASE(test_config_space_is_bytes),
		CASE(test_wrong_widths_and_holes_read_zero),
		CASE(test_kick_reaches_the_device_until_it_is_done),
		CASE(test_kick_of_inactive_device_is_nothing),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
