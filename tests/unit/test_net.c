/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/fake/ring.h"
#include "tests/fake/tap.h"
#include "tests/fake/turn.h"
#include "virtio/net_device.h"
#include "virtio/net_frame.h"

#include <errno.h>
#include <linux/if_tun.h>
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>

#include <cmocka.h>

#define HEADER_LEN sizeof(struct net_header)
#define RX_BUFFER(i) (RING_DATA + (i)*UINT64_C(0x1000))
#define TX_BUFFER (RING_DATA + 0x40000)
#define NEEDS_CSUM 1
#define ALL_FEATURES UINT64_MAX

struct fixture {
	struct ring rx, tx;
	struct loop *loop;
	struct net *net;
	struct virtio_device *dev;
	struct net_metrics metrics;
};

static void activate(struct fixture *f, uint64_t features)
{
	f->dev->driver_features =
		f->dev->features & features & ~BIT(VIRTIO_F_EVENT_IDX);
	ring_share(&f->rx, &f->rx, 0, 256);
	ring_share(&f->tx, &f->rx, 1, 256);
	for (uint16_t q = 0; q < 2; q++) {
		struct ring *ring = q ? &f->tx : &f->rx;

		ring_describe(ring, &f->dev->queues[q]);
	}
	virtio_device_activate(f->dev);
	pthread_mutex_lock(&f->dev->lock);
	virtio_device_settle(f->dev);
	pthread_mutex_unlock(&f->dev->lock);
}

static void create(struct fixture *f, const struct net_config *config,
		   uint64_t features)
{
	assert_int_equal(net_create(&f->net, config, &f->metrics, NULL), 0);
	f->dev = net_virtio(f->net);
	f->dev->mem = f->rx.mem;
	f->dev->loop = f->loop;
	activate(f, features);
}

static struct net_config config_of(char *tap)
{
	return (struct net_config){
		.iface_id = tap,
		.host_dev_name = tap,
		.has_guest_mac = true,
		.guest_mac = {6, 0, 1, 2, 3, 4},
		.mtu = 1400,
	};
}

static int setup(void **state)
{
	static char tap[] = "tap0";
	const struct net_config config = config_of(tap);
	struct fixture *f = calloc(1, sizeof(*f));

	assert_non_null(f);
	assert_int_equal(loop_create(&f->loop), 0);
	assert_int_equal(ring_create(&f->rx, 256), 0);
	create(f, &config, ALL_FEATURES);
	*state = f;
	return 0;
}

static void destroy_device(struct fixture *f)
{
	pthread_mutex_lock(&f->dev->lock);
	virtio_device_reset(f->dev);
	virtio_device_settle(f->dev);
	pthread_mutex_unlock(&f->dev->lock);
	virtio_device_destroy(f->dev);
}

static int teardown(void **state)
{
	struct fixture *f = *state;

	destroy_device(f);
	ring_destroy(&f->rx);
	loop_destroy(f->loop);
	free(f);
	return 0;
}

/* --------------------------------------------------------------- transmit */

static void kick(struct fixture *f, uint16_t q)
{
	pthread_mutex_lock(&f->dev->lock);
	while (virtio_device_queue_event(f->dev, q))
		;
	pthread_mutex_unlock(&f->dev->lock);
}

static size_t make_frame(uint8_t *to, size_t len, struct net_header header)
{
	static const uint8_t addresses[] = {0xff, 0xff, 0xff, 0xff, 0xff, 0xff,
					    6,	  0,	1,    2,    3,	  4};

	for (size_t i = 0; i < len; i++)
		to[HEADER_LEN + i] = (uint8_t)(i * 7);
	memcpy(to, &header, HEADER_LEN);
	memcpy(to + HEADER_LEN, addresses, MIN(len, sizeof(addresses)));
	return HEADER_LEN + len;
}

/* One descriptor; true if it came back (it always must). */
static void send_raw(struct fixture *f, const void *data, size_t len)
{
	uint32_t id, used;

	assert_int_equal(gmem_write(f->rx.mem, TX_BUFFER, data, len), 0);
	ring_set_desc(&f->tx, 0, TX_BUFFER, (uint32_t)len, 0, 0);
	ring_publish(&f->tx, 0);
	kick(f, 1);
	assert_true(ring_take(&f->tx, &id, &used));
	assert_int_equal(id, 0);
	assert_int_equal(used, 0);
}

static void send_frame(struct fixture *f, size_t len, struct net_header header)
{
	static uint8_t frame[HEADER_LEN + NET_FRAME_MAX + 100];

	send_raw(f, frame, make_frame(frame, len, header));
}

/* What the network got, or -1. */
static ssize_t network_gets(void *to, size_t size)
{
	return recv(fake_tap.peer, to, size, 0);
}

static void test_frames_reach_the_tap_whole(void **state)
{
	static const size_t lengths[] = {14, 42, 60, 1514, 65000, 65550};
	static uint8_t got[80000], expected[80000];
	struct fixture *f = *state;

	for (size_t i = 0; i < ARRAY_SIZE(lengths); i++) {
		size_t len = make_frame(expected, lengths[i],
					(struct net_header){0});

		send_frame(f, lengths[i], (struct net_header){0});
		assert_int_equal(network_gets(got, sizeof(got)), len);
		assert_memory_equal(got, expected, len);
	}
	assert_int_equal(f->metrics.tx_packets_count.value,
			 ARRAY_SIZE(lengths));
	assert_int_equal(f->metrics.tx_malformed_frames.value, 0);
	assert_int_equal(f->metrics.tx_spoofed_mac_count.value, 0);
}

static void test_frame_in_many_pieces_is_joined(void **state)
{
	struct fixture *f = *state;
	uint8_t frame[200], got[300];
	size_t len = make_frame(frame, 100, (struct net_header){0});
	uint32_t id, used;

	assert_int_equal(gmem_write(f->rx.mem, TX_BUFFER, frame, len), 0);
	for (uint16_t i = 0; i < len; i++)
		ring_set_desc(&f->tx, i, TX_BUFFER + i, 1,
			      i + 1u < len ? RING_NEXT : 0, (uint16_t)(i + 1));
	ring_publish(&f->tx, 0);
	kick(f, 1);
	assert_true(ring_take(&f->tx, &id, &used));
	assert_int_equal(network_gets(got, sizeof(got)), len);
	assert_memory_equal(got, frame, len);
}

static struct net_header offload(uint8_t flags, uint8_t gso, uint16_t start,
				 uint16_t offset)
{
	return (struct net_header){
		.flags = flags,
		.gso_type = gso,
		.gso_size = le16_make(1000),
		.csum_start = le16_make(start),
		.csum_offset = le16_make(offset),
	};
}

static void test_offloads_are_passed_on(void **state)
{
	struct fixture *f = *state;
	uint8_t got[4000];

	send_frame(f, 3000, offload(NEEDS_CSUM, 1, 34, 16));
	assert_int_equal(network_gets(got, sizeof(got)), HEADER_LEN + 3000);
	assert_int_equal(got[0], NEEDS_CSUM);
	assert_int_equal(got[1], 1);
	/* the guest's number of buffers means nothing in this direction */
	send_frame(f, 60,
		   (struct net_header){.flags = 0xfe,
				       .num_buffers = le16_make(9)});
	assert_int_equal(network_gets(got, sizeof(got)), HEADER_LEN + 60);
	assert_int_equal(got[0], 0);
	assert_int_equal(got[10], 0);
}

static void test_malformed_frames_are_dropped(void **state)
{
	static const struct {
		size_t len;
		struct net_header header;
	} cases[] = {
		{0, {0}},
		{13, {0}},
		{NET_FRAME_MAX + 1, {0}},
		{60, {.flags = NEEDS_CSUM, .csum_start = {59}}},
		{60,
		 {.flags = NEEDS_CSUM,
		  .csum_start = {0xffff},
		  .csum_offset = {0xffff}}},
		{600, {.gso_type = 1}}, /* segmentation without checksum */
		{600, {.flags = NEEDS_CSUM, .gso_type = 2}},
		{600, {.flags = NEEDS_CSUM, .gso_type = 5}},
		{600, {.flags = NEEDS_CSUM, .gso_type = 0x81}},
	};
	struct fixture *f = *state;
	uint8_t got[100];

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		send_frame(f, cases[i].len, cases[i].header);
		assert_int_equal(network_gets(got, sizeof(got)), -1);
		assert_int_equal(f->metrics.tx_malformed_frames.value, i + 1);
	}
	send_raw(f, "x", 1); /* not even a header */
	assert_int_equal(f->metrics.tx_malformed_frames.value,
			 ARRAY_SIZE(cases) + 1);
	send_frame(f, 60, (struct net_header){0});
	assert_int_equal(network_gets(got, sizeof(got)), HEADER_LEN + 60);
}

static void test_offloads_never_negotiated_are_refused(void **state)
{
	static const struct {
		uint64_t features;
		uint8_t gso_type;
	} cases[] = {
		{0, 0},
		{~BIT(VIRTIO_NET_F_CSUM), 0},
		{~BIT(VIRTIO_NET_F_HOST_TSO4), 1},
		{~BIT(VIRTIO_NET_F_HOST_UFO), 3},
		{~BIT(VIRTIO_NET_F_HOST_TSO6), 4},
	};
	struct fixture *f = *state;
	uint8_t got[2000];

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		pthread_mutex_lock(&f->dev->lock);
		virtio_device_reset(f->dev);
		pthread_mutex_unlock(&f->dev->lock);
		activate(f, cases[i].features);
		send_frame(f, 600,
			   offload(NEEDS_CSUM, cases[i].gso_type, 34, 16));
		assert_int_equal(f->metrics.tx_malformed_frames.value, i + 1);
		assert_int_equal(network_gets(got, sizeof(got)), -1);
		send_frame(f, 600, (struct net_header){0});
		assert_int_equal(network_gets(got, sizeof(got)), 612);
	}
}

/* Each shape is given back, and the device goes on. */
static void test_evil_transmit_chains_come_back(void **state)
{
	static const struct {
		uint64_t at;
		uint32_t len;
		uint16_t flags;
	} cases[] = {
		{TX_BUFFER, 100, RING_WRITE}, /* nothing readable */
		{TX_BUFFER, 0, 0},	      /* nothing at all */
		{RING_MEMORY - 20, 100, 0},   /* the frame outside RAM */
		{RING_MEMORY - 80, 100, 0},   /* ... behind the head */
		{UINT64_MAX - 50, 100, 0},    /* wraps around */
		{TX_BUFFER, UINT32_MAX, 0},   /* endless */
	};
	struct fixture *f = *state;
	uint8_t got[200];

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		uint32_t id, used;

		ring_set_desc(&f->tx, 3, cases[i].at, cases[i].len,
			      cases[i].flags, 0);
		ring_publish(&f->tx, 3);
		kick(f, 1);
		assert_true(ring_take(&f->tx, &id, &used));
		assert_int_equal(id, 3);
		assert_int_equal(network_gets(got, sizeof(got)), -1);
	}
	assert_int_equal(f->metrics.tx_malformed_frames.value,
			 ARRAY_SIZE(cases));
	send_frame(f, 60, (struct net_header){0});
	assert_int_equal(network_gets(got, sizeof(got)), 72);
}

static void test_broken_queues_need_a_reset(void **state)
{
	struct fixture *f = *state;
	uint8_t got[200];

	for (uint16_t q = 0; q < 2; q++) {
		ring_publish(q ? &f->tx : &f->rx, 300);
		assert_int_equal(send(fake_tap.peer, got, 80, 0), 80);
		kick(f, q);
		turn_briefly(f->loop);
		assert_false(f->dev->active);
		assert_true(f->dev->status & VIRTIO_STATUS_NEEDS_RESET);
		pthread_mutex_lock(&f->dev->lock);
		virtio_device_reset(f->dev);
		pthread_mutex_unlock(&f->dev->lock);
		activate(f, ALL_FEATURES);
		send_frame(f, 60, (struct net_header){0});
		assert_int_equal(network_gets(got, sizeof(got)), 72);
	}
}

static void test_spoofed_source_is_counted(void **state)
{
	struct fixture *f = *state;
	uint8_t frame[100], got[100];
	size_t len = make_frame(frame, 60, (struct net_header){0});

	frame[HEADER_LEN + 11] ^= 1;
	send_raw(f, frame, len);
	assert_int_equal(f->metrics.tx_spoofed_mac_count.value, 1);
	assert_int_equal(network_gets(got, sizeof(got)), len);
}

static void test_tap_that_fails_is_counted(void **state)
{
	struct fixture *f = *state;

	close_fd(&fake_tap.peer);
	send_frame(f, 60, (struct net_header){0});
	assert_int_equal(f->metrics.tap_write_fails.value, 1);
	assert_int_equal(f->metrics.tx_fails.value, 1);
	assert_true(f->dev->active);
}

/* ---------------------------------------------------------------- receive */

static void post(struct fixture *f, uint16_t i, uint32_t len)
{
	ring_set_desc(&f->rx, i, RX_BUFFER(i), len, RING_WRITE, 0);
	ring_publish(&f->rx, i);
}

/* Longer ones overlap; that matters only to those who look into them. */
static void post_many(struct fixture *f, uint16_t count, uint32_t len)
{
	for (uint16_t i = 0; i < count; i++)
		post(f, i, len);
}

static void network_sends(size_t len)
{
	static uint8_t frame[HEADER_LEN + NET_FRAME_MAX];

	len = make_frame(frame, len, (struct net_header){0});
	assert_int_equal(send(fake_tap.peer, frame, len, 0), len);
}

struct waiting {
	struct ring *ring;
	uint32_t id, len;
};

static bool taken(void *arg)
{
	struct waiting *waiting = arg;

	return ring_take(waiting->ring, &waiting->id, &waiting->len);
}

/* The next buffer the guest gets back. */
static uint32_t guest_gets(struct fixture *f, uint32_t *ret_id)
{
	struct waiting waiting = {.ring = &f->rx};

	assert_true(turn_until(f->loop, taken, &waiting));
	*ret_id = waiting.id;
	return waiting.len;
}

static uint16_t num_buffers(struct fixture *f, uint16_t buffer)
{
	struct net_header header;

	assert_int_equal(
		gmem_read(f->rx.mem, RX_BUFFER(buffer), &header, HEADER_LEN),
		0);
	return le16_get(header.num_buffers);
}

static void test_frame_fills_as_many_buffers_as_needed(void **state)
{
	struct fixture *f = *state;
	uint8_t byte;
	uint32_t id;

	post_many(f, 128, 1000);
	kick(f, 0);
	network_sends(988);
	assert_int_equal(guest_gets(f, &id), 1000);
	assert_int_equal(id, 0);
	assert_int_equal(num_buffers(f, 0), 1);
	network_sends(2500);
	for (uint32_t i = 0; i < 3; i++) {
		assert_int_equal(guest_gets(f, &id), i < 2 ? 1000 : 512);
		assert_int_equal(id, 1 + i);
	}
	assert_int_equal(num_buffers(f, 1), 3);
	assert_int_equal(gmem_read(f->rx.mem, RX_BUFFER(2), &byte, 1), 0);
	assert_int_equal(byte, (uint8_t)(988 * 7));
	assert_int_equal(f->metrics.rx_packets_count.value, 2);
	assert_int_equal(f->metrics.rx_bytes_count.value, 988 + 2500);
}

static void test_without_buffers_frames_wait_in_the_tap(void **state)
{
	struct fixture *f = *state;
	uint32_t id, len;

	network_sends(100);
	network_sends(200);
	turn_briefly(f->loop);
	assert_false(ring_take(&f->rx, &id, &len));
	assert_true(f->metrics.no_rx_avail_buffer.value > 0);
	post_many(f, 32, 4096);
	kick(f, 0);
	assert_int_equal(guest_gets(f, &id), 112);
	assert_int_equal(guest_gets(f, &id), 212);
}

/* Frames in a tap may be longer than what the driver takes, or has posted. */
static void test_long_frame_waits_for_more_buffers(void **state)
{
	struct fixture *f = *state;
	uint8_t byte;
	uint32_t id, len;

	post_many(f, 2, 1000);
	kick(f, 0);
	network_sends(2988);
	turn_briefly(f->loop);
	assert_false(ring_take(&f->rx, &id, &len));
	assert_int_equal(f->metrics.rx_packets_count.value, 0);
	ring_set_desc(&f->rx, 2, RX_BUFFER(2), 4000, RING_WRITE, 0);
	ring_publish(&f->rx, 2);
	kick(f, 0);
	for (uint32_t i = 0; i < 3; i++) {
		assert_int_equal(guest_gets(f, &id), 1000);
		assert_int_equal(id, i);
	}
	assert_int_equal(num_buffers(f, 0), 3);
	assert_int_equal(gmem_read(f->rx.mem, RX_BUFFER(2) + 999, &byte, 1), 0);
	assert_int_equal(byte, (uint8_t)(2987 * 7));
	assert_int_equal(f->metrics.rx_bytes_count.value, 2988);
	assert_int_equal(f->metrics.rx_fails.value, 0);
}

/* Every buffer the ring has; what is in them does not matter. */
static void post_all(struct fixture *f, uint32_t len)
{
	for (uint16_t i = 0; i < 256; i++) {
		ring_set_desc(&f->rx, i, RX_BUFFER(i % 64), len, RING_WRITE, 0);
		ring_publish(&f->rx, i);
	}
}

/* All the ring holds is not enough: the frame is lost, the next one is not. */
static void test_frame_longer_than_the_ring_is_dropped(void **state)
{
	struct fixture *f = *state;
	uint32_t id;

	post_all(f, 200);
	kick(f, 0);
	network_sends(60000);
	network_sends(60);
	assert_int_equal(guest_gets(f, &id), 72);
	assert_int_equal(id, 0);
	assert_int_equal(num_buffers(f, 0), 1);
	assert_int_equal(f->metrics.rx_fails.value, 1);
	assert_int_equal(f->metrics.rx_packets_count.value, 1);
}

static void negotiate(struct fixture *f, uint64_t features)
{
	pthread_mutex_lock(&f->dev->lock);
	virtio_device_reset(f->dev);
	pthread_mutex_unlock(&f->dev->lock);
	activate(f, features);
}

/* Jumbo frames of a driver that merges buffers but takes no large segments. */
static void test_jumbo_frame_is_never_cut(void **state)
{
	struct fixture *f = *state;
	uint32_t id;

	negotiate(f, BIT(VIRTIO_NET_F_MRG_RXBUF));
	post_many(f, 64, 2048);
	kick(f, 0);
	network_sends(9000);
	for (uint32_t i = 0; i < 5; i++)
		assert_int_equal(guest_gets(f, &id), i < 4 ? 2048 : 820);
	assert_int_equal(num_buffers(f, 0), 5);
	assert_int_equal(f->metrics.rx_bytes_count.value, 9000);
}

static void test_frame_too_long_for_a_plain_driver_is_dropped(void **state)
{
	struct fixture *f = *state;
	uint32_t id;

	negotiate(f, 0);
	post_many(f, 2, 1526);
	kick(f, 0);
	network_sends(1600);
	network_sends(1514);
	assert_int_equal(guest_gets(f, &id), 1526);
	assert_int_equal(id, 0);
	assert_int_equal(f->metrics.rx_fails.value, 1);
}

/* 5.1.6.4.1: not a word of checksums to who does not want to hear it. */
static void test_flags_are_clear_without_guest_csum(void **state)
{
	static uint8_t frame[HEADER_LEN + 100] = {2 /* DATA_VALID */};
	struct fixture *f = *state;
	uint8_t flags;
	uint32_t id;

	for (int wanted = 0; wanted < 2; wanted++) {
		negotiate(f, wanted ? ALL_FEATURES : 0);
		post_many(f, 2, 1526);
		kick(f, 0);
		assert_int_equal(send(fake_tap.peer, frame, sizeof(frame), 0),
				 sizeof(frame));
		assert_int_equal(guest_gets(f, &id), sizeof(frame));
		assert_int_equal(gmem_read(f->rx.mem, RX_BUFFER(id), &flags, 1),
				 0);
		assert_int_equal(flags, wanted ? 2 : 0);
	}
}

/* What an interface that was deleted reports never ends. */
static void test_deleted_tap_does_not_spin(void **state)
{
	struct fixture *f = *state;
	int fds[2];

	assert_int_equal(pipe(fds), 0);
	close_fd(&fds[0]);
	assert_true(dup2(fds[1], f->net->tap.fd) >= 0);
	close_fd(&fds[1]);
	negotiate(f, ALL_FEATURES);
	post_many(f, 4, 4096);
	kick(f, 0);
	turn_briefly(f->loop);
	assert_true(f->net->tap_gone);
	assert_in_range(f->metrics.rx_tap_event_count.value, 1, 2);
	assert_in_range(f->metrics.tap_read_fails.value, 1, 2);
}

/* However finely a driver cuts its buffers, a turn ends soon. */
static void test_turn_is_bounded_by_buffers(void **state)
{
	struct fixture *f = *state;

	for (int i = 0; i < 8; i++)
		network_sends(1400);
	turn_briefly(f->loop);
	post_all(f, 14);
	kick(f, 0);
	assert_in_range(f->metrics.rx_packets_count.value, 1, 3);
}

static void test_broken_buffer_found_by_the_service_needs_reset(void **state)
{
	static const uint8_t frame[60];
	struct fixture *f = *state;

	ring_set_desc(&f->rx, 0, RING_MEMORY - 4, 2000, RING_WRITE, 0);
	ring_publish(&f->rx, 0);
	assert_int_equal(net_deliver(f->net, frame, sizeof(frame)), -ENOBUFS);
	assert_true(f->dev->status & VIRTIO_STATUS_NEEDS_RESET);
}

/* A driver that takes neither merged buffers nor large frames. */
static void test_plain_driver_gets_one_buffer_a_frame(void **state)
{
	struct fixture *f = *state;
	uint32_t id;

	pthread_mutex_lock(&f->dev->lock);
	virtio_device_reset(f->dev);
	pthread_mutex_unlock(&f->dev->lock);
	activate(f, 0);
	assert_int_equal(fake_tap.offloads, 0);
	post_many(f, 2, 1526);
	kick(f, 0);
	network_sends(1514);
	network_sends(60);
	assert_int_equal(guest_gets(f, &id), 1526);
	assert_int_equal(num_buffers(f, 0), 1);
	assert_int_equal(guest_gets(f, &id), 72);
}

static void test_reset_with_frames_in_flight(void **state)
{
	struct fixture *f = *state;
	uint32_t id;

	post_many(f, 32, 4096);
	kick(f, 0);
	network_sends(100);
	assert_int_equal(guest_gets(f, &id), 112);
	pthread_mutex_lock(&f->dev->lock);
	virtio_device_reset(f->dev);
	pthread_mutex_unlock(&f->dev->lock);
	network_sends(100); /* nobody is there */
	turn_briefly(f->loop);
	activate(f, ALL_FEATURES);
	post_many(f, 32, 4096);
	kick(f, 0);
	network_sends(300);
	(void)guest_gets(f, &id);
	assert_int_equal(id, 0);
}

/* --------------------------------------------------- features and limits */

static void test_offloads_of_the_tap_follow_the_driver(void **state)
{
	static const struct {
		uint64_t features;
		unsigned offloads;
	} cases[] = {
		{ALL_FEATURES,
		 TUN_F_CSUM | TUN_F_TSO4 | TUN_F_TSO6 | TUN_F_UFO},
		{BIT(VIRTIO_NET_F_GUEST_CSUM), TUN_F_CSUM},
		{BIT(VIRTIO_NET_F_GUEST_CSUM) | BIT(VIRTIO_NET_F_GUEST_TSO4),
		 TUN_F_CSUM | TUN_F_TSO4},
		{BIT(VIRTIO_NET_F_GUEST_TSO4), 0},
	};
	struct fixture *f = *state;

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		pthread_mutex_lock(&f->dev->lock);
		virtio_device_reset(f->dev);
		pthread_mutex_unlock(&f->dev->lock);
		activate(f, cases[i].features);
		assert_int_equal(fake_tap.offloads, cases[i].offloads);
	}
}

static void test_tap_without_offloads_fails_activation(void **state)
{
	struct fixture *f = *state;

	pthread_mutex_lock(&f->dev->lock);
	virtio_device_reset(f->dev);
	pthread_mutex_unlock(&f->dev->lock);
	fake_tap.refuse_offloads = EINVAL;
	activate(f, ALL_FEATURES);
	assert_false(f->dev->active);
	assert_true(f->dev->status & VIRTIO_STATUS_NEEDS_RESET);
	assert_int_equal(f->metrics.activate_fails.value, 1);
}

static void test_config_space_holds_mac_and_mtu(void **state)
{
	static const uint8_t expected[12] = {
		6, 0, 1, 2, 3, 4, 0, 0, 0, 0, 1400 & 0xff, 1400 >> 8};
	static char tap[] = "tap1";
	struct net_config config = config_of(tap);
	struct fixture *f = *state;
	uint8_t space[12];

	virtio_device_read_config(f->dev, 0, space, sizeof(space));
	assert_memory_equal(space, expected, sizeof(space));
	assert_true(f->dev->features & BIT(VIRTIO_NET_F_MAC));
	assert_true(f->dev->features & BIT(VIRTIO_NET_F_MTU));
	assert_string_equal(net_tap_name(f->net), "tap0");
	destroy_device(f);
	config.has_guest_mac = false;
	config.mtu = 0;
	create(f, &config, ALL_FEATURES);
	assert_false(f->dev->features &
		     (BIT(VIRTIO_NET_F_MAC) | BIT(VIRTIO_NET_F_MTU)));
}

struct count {
	struct ring *ring;
	int frames, wanted;
};

static bool counted(void *arg)
{
	struct count *count = arg;
	uint32_t id, len;

	while (ring_take(count->ring, &id, &len))
		count->frames++;
	return count->frames >= count->wanted;
}

/* Four frames at once and ten a second after that. */
static void test_limits_hold_frames_back_and_can_be_lifted(void **state)
{
	const struct rate_limiter_update limit = {
		.values = {.ops = {4, 0, 400}}, .has_ops = true};
	const struct rate_limiter_update lifted = {.has_ops = true};
	struct fixture *f = *state;
	struct count sent = {.ring = &f->tx, .wanted = 12};
	struct count received = {.ring = &f->rx, .wanted = 12};
	uint8_t frame[100];
	size_t len = make_frame(frame, 60, (struct net_header){0});

	net_update_limiters(f->net, &limit, &limit);
	assert_int_equal(gmem_write(f->rx.mem, TX_BUFFER, frame, len), 0);
	for (uint16_t i = 0; i < 12; i++) {
		ring_set_desc(&f->tx, i, TX_BUFFER, (uint32_t)len, 0, 0);
		ring_publish(&f->tx, i);
	}
	post_many(f, 64, 8192);
	for (int i = 0; i < 8; i++)
		network_sends(60);
	kick(f, 1);
	kick(f, 0);
	turn_briefly(f->loop);
	assert_false(counted(&sent));
	assert_in_range(sent.frames, 4, 11);
	assert_false(counted(&received));
	assert_in_range(received.frames, 1, 7);
	assert_true(f->metrics.tx_rate_limiter_throttled.value > 0);
	assert_true(f->metrics.rx_rate_limiter_throttled.value > 0);
	net_update_limiters(f->net, &lifted, &lifted);
	assert_true(turn_until(f->loop, counted, &sent));
	received.wanted = 8;
	assert_true(turn_until(f->loop, counted, &received));
}

/* ----------------------------------------------------------------- service */

struct service {
	uint8_t frame[NET_SERVICE_FRAME_MAX];
	size_t len;
	int frames;
};

static bool service_wants(void *arg, const uint8_t *head, size_t len)
{
	(void)arg;
	return len > 20 && head[20] == 20 * 7;
}

static void service_input(void *arg, const uint8_t *frame, size_t len)
{
	struct service *service = arg;

	memcpy(service->frame, frame, len);
	service->len = len;
	service->frames++;
}

static void test_service_frames_never_reach_the_tap(void **state)
{
	struct fixture *f = *state;
	struct service got = {0};
	const struct net_service service = {service_wants, service_input, &got};
	uint8_t frame[100];

	net_set_service(f->net, &service);
	send_frame(f, 800, (struct net_header){0});
	assert_int_equal(got.frames, 1);
	assert_int_equal(got.len, 800);
	assert_int_equal(got.frame[799], (uint8_t)(799 * 7));
	assert_int_equal(network_gets(frame, sizeof(frame)), -1);
	/* longer than the service takes: dropped, not sent elsewhere */
	send_frame(f, NET_SERVICE_FRAME_MAX + 1, (struct net_header){0});
	assert_int_equal(got.frames, 1);
	assert_int_equal(network_gets(frame, sizeof(frame)), -1);
	/* not for it */
	make_frame(frame, 60, (struct net_header){0});
	frame[HEADER_LEN + 20] = 0;
	send_raw(f, frame, HEADER_LEN + 60);
	assert_int_equal(got.frames, 1);
	assert_int_equal(network_gets(frame, sizeof(frame)), 72);
}

static void test_service_gets_complete_checksums(void **state)
{
	struct fixture *f = *state;
	struct service got = {0};
	const struct net_service service = {service_wants, service_input, &got};
	uint32_t sum = 0;

	net_set_service(f->net, &service);
	send_frame(f, 101, offload(NEEDS_CSUM, 0, 34, 16));
	assert_int_equal(got.frames, 1);
	/* The sum over everything but the field itself is its complement. */
	for (size_t i = 34; i < 102; i += 2)
		sum += (uint32_t)(got.frame[i] << 8 |
				  (i + 1 < 101 ? got.frame[i + 1] : 0));
	sum -= (uint32_t)(got.frame[50] << 8 | got.frame[51]);
	sum += (uint32_t)((uint8_t)(50 * 7) << 8 | (uint8_t)(51 * 7));
	while (sum >> 16)
		sum = (sum & 0xffff) + (sum >> 16);
	assert_int_equal((uint16_t)~sum, got.frame[50] << 8 | got.frame[51]);
}

static void test_service_delivers_to_the_guest(void **state)
{
	struct fixture *f = *state;
	uint8_t frame[1514], got[1514];
	uint32_t id;

	memset(frame, 0x5a, sizeof(frame));
	assert_int_equal(net_deliver(f->net, frame, sizeof(frame)), -ENOBUFS);
	post(f, 0, 1000);
	assert_int_equal(net_deliver(f->net, frame, sizeof(frame)), -ENOBUFS);
	post(f, 1, 1000);
	assert_int_equal(net_deliver(f->net, frame, sizeof(frame)), 0);
	assert_int_equal(guest_gets(f, &id), 1000);
	assert_int_equal(guest_gets(f, &id), 526);
	assert_int_equal(num_buffers(f, 0), 2);
	assert_int_equal(
		gmem_read(f->rx.mem, RX_BUFFER(0) + HEADER_LEN, got, 988), 0);
	assert_memory_equal(got, frame, 988);
}

int main(void)
{
#define CASE(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
	const struct CMUnitTest tests[] = {
		CASE(test_frames_reach_the_tap_whole),
		CASE(test_frame_in_many_pieces_is_joined),
		CASE(test_offloads_are_passed_on),
		CASE(test_malformed_frames_are_dropped),
		CASE(test_offloads_never_negotiated_are_refused),
		CASE(test_evil_transmit_chains_come_back),
		CASE(test_broken_queues_need_a_reset),
		CASE(test_spoofed_source_is_counted),
		CASE(test_tap_that_fails_is_counted),
		CASE(test_frame_fills_as_many_buffers_as_needed),
		CASE(test_without_buffers_frames_wait_in_the_tap),
		CASE(test_long_frame_waits_for_more_buffers),
		CASE(test_frame_longer_than_the_ring_is_dropped),
		CASE(test_jumbo_frame_is_never_cut),
		CASE(test_frame_too_long_for_a_plain_driver_is_dropped),
		CASE(test_flags_are_clear_without_guest_csum),
		CASE(test_deleted_tap_does_not_spin),
		CASE(test_turn_is_bounded_by_buffers),
		CASE(test_broken_buffer_found_by_the_service_needs_reset),
		CASE(test_plain_driver_gets_one_buffer_a_frame),
		CASE(test_reset_with_frames_in_flight),
		CASE(test_offloads_of_the_tap_follow_the_driver),
		CASE(test_tap_without_offloads_fails_activation),
		CASE(test_config_space_holds_mac_and_mtu),
		CASE(test_limits_hold_frames_back_and_can_be_lifted),
		CASE(test_service_frames_never_reach_the_tap),
		CASE(test_service_gets_complete_checksums),
		CASE(test_service_delivers_to_the_guest),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
