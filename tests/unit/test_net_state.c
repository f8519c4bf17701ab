/* SPDX-License-Identifier: Apache-2.0 */
/* Saving and loading of network devices. */
#include "tests/fake/slot.h"
#include "tests/fake/tap.h"
#include "tests/fake/turn.h"
#include "virtio/net_device.h"

#include <errno.h>
#include <linux/if_tun.h>
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>
#include <sys/socket.h>

#include <cmocka.h>

#define HEADER_LEN sizeof(struct net_header)
#define RX_BUFFER(i) (RING_DATA + (i)*UINT64_C(0x1000))
#define TX_BUFFER(i) (RING_DATA + 0x80000 + (i)*UINT64_C(0x1000))
#define RING_SIZE 16
#define EVENT_IDX BIT(VIRTIO_F_EVENT_IDX)
#define ALL UINT64_MAX

struct guest {
	struct ring rx, tx;
	struct slot slot;
	struct net *net;
};

struct fixture {
	struct loop *loop;
	struct net_metrics metrics;
	struct guest guest;
	struct net_config config;
	char tap[8];
};

static void create(struct fixture *f, struct guest *guest)
{
	assert_int_equal(net_create(&guest->net, &f->config, &f->metrics, NULL),
			 0);
	slot_create(&guest->slot, net_virtio(guest->net), f->loop,
		    guest->rx.mem);
}

static void start(struct fixture *f, uint64_t features)
{
	struct ring *const rings[] = {&f->guest.rx, &f->guest.tx};

	create(f, &f->guest);
	slot_activate(&f->guest.slot, rings, features);
}

static int setup(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));

	assert_non_null(f);
	strcpy(f->tap, "tap0");
	f->config = (struct net_config){
		.iface_id = f->tap,
		.host_dev_name = f->tap,
		.has_guest_mac = true,
		.guest_mac = {6, 0, 1, 2, 3, 4},
		.mtu = 1400,
	};
	assert_int_equal(loop_create(&f->loop), 0);
	assert_int_equal(ring_create(&f->guest.rx, RING_SIZE), 0);
	ring_share(&f->guest.tx, &f->guest.rx, 1, RING_SIZE);
	*state = f;
	return 0;
}

static int teardown(void **state)
{
	struct fixture *f = *state;

	if (f->guest.slot.mmio)
		slot_destroy(&f->guest.slot);
	ring_destroy(&f->guest.rx);
	loop_destroy(f->loop);
	free(f);
	return 0;
}

static int clone_load(struct fixture *f, struct guest *clone,
		      const struct state_file *file, struct error *err)
{
	*clone = f->guest;
	clone->rx.mem = clone->tx.mem = memory_copy(f->guest.rx.mem);
	create(f, clone);
	loop_enable_devices(f->loop, true);
	return slot_load(&clone->slot, file, err);
}

static void clone_destroy(struct guest *clone)
{
	slot_destroy(&clone->slot);
	ring_destroy(&clone->rx);
}

static void post(struct guest *guest, uint16_t i, uint32_t len)
{
	ring_set_desc(&guest->rx, i, RX_BUFFER(i), len, RING_WRITE, 0);
	ring_publish(&guest->rx, i);
}

static void publish_frame(struct guest *guest, uint16_t i, uint8_t fill)
{
	uint8_t frame[HEADER_LEN + 60] = {0};

	memset(frame + HEADER_LEN, fill, 60);
	assert_int_equal(
		gmem_write(guest->rx.mem, TX_BUFFER(i), frame, sizeof(frame)),
		0);
	ring_set_desc(&guest->tx, i, TX_BUFFER(i), sizeof(frame), 0, 0);
	ring_publish(&guest->tx, i);
}

/* From the network, as a tap gives it. */
static void network_sends(int peer, size_t len, uint8_t fill)
{
	static uint8_t frame[HEADER_LEN + 10000];

	memset(frame, 0, HEADER_LEN);
	memset(frame + HEADER_LEN, fill, len);
	assert_int_equal(send(peer, frame, HEADER_LEN + len, 0),
			 HEADER_LEN + len);
}

/* The fill of the next frame the network got; -1: none. */
static int network_gets(int peer)
{
	uint8_t frame[2000];

	return recv(peer, frame, sizeof(frame), 0) > 0 ? frame[HEADER_LEN] : -1;
}

/* The fill of the next frame in one buffer of the guest; -1: none. */
static int guest_gets(struct guest *guest, uint16_t *ret_buffer)
{
	uint32_t id, len;
	uint8_t byte = 0;

	if (!ring_take(&guest->rx, &id, &len))
		return -1;
	assert_int_equal(
		gmem_read(guest->rx.mem, RX_BUFFER(id) + HEADER_LEN, &byte, 1),
		0);
	*ret_buffer = (uint16_t)id;
	return byte;
}

static void go_on(struct fixture *f, uint64_t features)
{
	struct state_file file;
	struct guest clone;
	uint16_t buffer;

	start(f, features);
	for (uint16_t i = 0; i < 8; i++)
		post(&f->guest, i, 2000);
	slot_kick(&f->guest.slot, 0);
	network_sends(fake_tap.peer, 100, 1);
	turn_briefly(f->loop);
	assert_int_equal(guest_gets(&f->guest, &buffer), 1);
	publish_frame(&f->guest, 0, 10);
	slot_kick(&f->guest.slot, 1);
	assert_int_equal(network_gets(fake_tap.peer), 10);
	/* sent, but the kick is lost; more buffers, and theirs is lost too */
	publish_frame(&f->guest, 1, 11);
	post(&f->guest, 8, 2000);
	slot_save(&f->guest.slot, &file);

	assert_int_equal(clone_load(f, &clone, &file, NULL), 0);
	assert_int_equal(network_gets(fake_tap.peer), -1);
	turn_briefly(f->loop);
	assert_int_equal(network_gets(fake_tap.peer), 11);
	assert_int_equal(network_gets(fake_tap.peer), -1);
	/* buffers in the order in which they were posted, none twice */
	for (uint16_t i = 1; i < 9; i++) {
		network_sends(fake_tap.peer, 100, (uint8_t)(20 + i));
		turn_briefly(f->loop);
		assert_int_equal(guest_gets(&clone, &buffer), 20 + i);
		assert_int_equal(buffer, i);
	}
	assert_int_equal(guest_gets(&clone, &buffer), -1);
	clone_destroy(&clone);
	state_file_release(&file);
}

static void test_clone_goes_on_without_event_idx(void **state)
{
	go_on(*state, ~EVENT_IDX);
}

static void test_clone_goes_on_with_event_idx(void **state)
{
	go_on(*state, ALL);
}

static void test_clone_goes_on_without_mergeable_buffers(void **state)
{
	go_on(*state, ~BIT(VIRTIO_NET_F_MRG_RXBUF));
}

static void test_original_goes_on(void **state)
{
	struct fixture *f = *state;
	struct state_file file;
	uint16_t buffer;

	start(f, ALL);
	for (uint16_t i = 0; i < 8; i++)
		post(&f->guest, i, 2000);
	network_sends(fake_tap.peer, 100, 1);
	turn_briefly(f->loop);
	publish_frame(&f->guest, 0, 10);
	slot_save(&f->guest.slot, &file);
	state_file_release(&file);
	network_sends(fake_tap.peer, 100, 2);
	slot_resume(&f->guest.slot);
	turn_briefly(f->loop);
	assert_int_equal(network_gets(fake_tap.peer), 10);
	for (uint16_t i = 0; i < 2; i++) {
		assert_int_equal(guest_gets(&f->guest, &buffer), 1 + i);
		assert_int_equal(buffer, i);
	}
	assert_int_equal(guest_gets(&f->guest, &buffer), -1);
}

/* Its beginning is in buffers that are put back. */
static void test_spilled_frame_is_dropped(void **state)
{
	struct fixture *f = *state;
	struct state_file file;
	struct guest clone;
	uint16_t buffer;

	start(f, ALL);
	post(&f->guest, 0, 1000);
	network_sends(fake_tap.peer, 3000, 1);
	turn_briefly(f->loop);
	assert_int_not_equal(f->guest.net->spilled_len, 0);
	slot_save(&f->guest.slot, &file);
	assert_int_equal(f->metrics.rx_fails.value, 1);
	assert_int_equal(clone_load(f, &clone, &file, NULL), 0);
	network_sends(fake_tap.peer, 100, 2);
	turn_briefly(f->loop);
	assert_int_equal(guest_gets(&clone, &buffer), 2);
	assert_int_equal(buffer, 0);
	clone_destroy(&clone);

	/* and the original does not wait for its end either */
	post(&f->guest, 1, 1000);
	slot_resume(&f->guest.slot);
	turn_briefly(f->loop);
	assert_int_equal(guest_gets(&f->guest, &buffer), -1);
	assert_int_equal(f->guest.net->spilled_len, 0);
	state_file_release(&file);
}

static void test_offloads_are_set_again(void **state)
{
	struct fixture *f = *state;
	struct state_file file;
	struct guest clone;

	start(f, ~BIT(VIRTIO_NET_F_GUEST_TSO6));
	slot_save(&f->guest.slot, &file);
	assert_int_equal(clone_load(f, &clone, &file, NULL), 0);
	assert_int_equal(fake_tap.offloads,
			 TUN_F_CSUM | TUN_F_TSO4 | TUN_F_UFO);
	clone_destroy(&clone);
	state_file_release(&file);
}

static void test_other_mac_or_mtu_is_refused(void **state)
{
	struct fixture *f = *state;
	struct error err = {0};
	struct state_file file;
	struct guest clone;

	start(f, ALL);
	slot_save(&f->guest.slot, &file);
	f->config.mtu = 1500;
	assert_int_equal(clone_load(f, &clone, &file, &err), -EINVAL);
	assert_string_equal(err.text, "Device 0 (net): guest_mac and mtu must "
				      "be the same as in the snapshot");
	clone_destroy(&clone);
	f->config.mtu = 1400;
	f->config.guest_mac[5]++;
	assert_int_equal(clone_load(f, &clone, &file, &err), -EINVAL);
	clone_destroy(&clone);
	/* fewer features */
	f->config.has_guest_mac = false;
	assert_int_equal(clone_load(f, &clone, &file, &err), -EINVAL);
	assert_string_equal(err.text, "Device 0 (net): features 0x20 of the "
				      "snapshot are not offered here");
	clone_destroy(&clone);
	state_file_release(&file);
}

static void test_limiters_are_kept(void **state)
{
	struct fixture *f = *state;
	const struct token_bucket_config one = {.size = 1,
						.refill_time_ms = 3600000};
	struct state_file file;
	struct guest clone;
	uint16_t buffer;

	f->config.rx_rate_limiter.values.ops = one;
	f->config.tx_rate_limiter.values.ops = one;
	start(f, ALL);
	post(&f->guest, 0, 2000);
	post(&f->guest, 1, 2000);
	publish_frame(&f->guest, 0, 10);
	publish_frame(&f->guest, 1, 11);
	network_sends(fake_tap.peer, 100, 1);
	slot_kick(&f->guest.slot, 1);
	turn_briefly(f->loop);
	assert_int_equal(guest_gets(&f->guest, &buffer), 1);
	slot_save(&f->guest.slot, &file);
	assert_int_equal(clone_load(f, &clone, &file, NULL), 0);
	network_sends(fake_tap.peer, 100, 2);
	turn_briefly(f->loop);
	assert_int_equal(guest_gets(&clone, &buffer), -1);
	assert_int_equal(network_gets(fake_tap.peer), -1);
	clone_destroy(&clone);
	state_file_release(&file);
}

static void damage_byte(struct fixture *f, const struct state_file *file,
			size_t off, uint8_t value)
{
	struct error err = {0};
	struct state_file bad;
	struct guest clone;

	if (!file_damage(file, off, value, &bad))
		return;
	if (clone_load(f, &clone, &bad, &err)) {
		assert_true(err.text[0] != '\0');
		assert_false(clone.slot.dev->active);
	} else {
		network_sends(fake_tap.peer, 3000, 2);
		turn_once(f->loop);
		slot_kick(&clone.slot, 0);
		slot_kick(&clone.slot, 1);
		turn_once(f->loop);
	}
	clone_destroy(&clone);
	state_file_release(&bad);
}

static void test_damaged_bytes_do_no_harm(void **state)
{
	struct fixture *f = *state;
	struct state_file file;

	start(f, ALL);
	for (uint16_t i = 0; i < 8; i++)
		post(&f->guest, i, 2000);
	publish_frame(&f->guest, 0, 10);
	slot_kick(&f->guest.slot, 1);
	publish_frame(&f->guest, 1, 11);
	slot_save(&f->guest.slot, &file);
	for (size_t off = 0; off < file.len; off++) {
		damage_byte(f, &file, off, (uint8_t)(file.bytes[off] ^ 1));
		damage_byte(f, &file, off, (uint8_t)(file.bytes[off] ^ 0x80));
		damage_byte(f, &file, off, 0xff);
	}
	state_file_release(&file);
}

int main(void)
{
#define CASE(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
	const struct CMUnitTest tests[] = {
		CASE(test_clone_goes_on_without_event_idx),
		CASE(test_clone_goes_on_with_event_idx),
		CASE(test_clone_goes_on_without_mergeable_buffers),
		CASE(test_original_goes_on),
		CASE(test_spilled_frame_is_dropped),
		CASE(test_offloads_are_set_again),
		CASE(test_other_mac_or_mtu_is_refused),
		CASE(test_limiters_are_kept),
		CASE(test_damaged_bytes_do_no_harm),
	};
#undef CASE

	return cmocka_run_group_tests(tests, NULL, NULL);
}
