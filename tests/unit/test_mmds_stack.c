/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/fake/mmds_peer.h"
#include "tests/fake/tick.h"
#include "tests/fake/turn.h"

#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

static void test_arp_is_answered(void **state)
{
	static const uint8_t service_mac[] = {6, 1, 0x23, 0x45, 0x67, 1};
	struct fixture *f = *state;
	uint8_t request[64];
	const uint8_t *answer;
	size_t len;

	fixture_send(f, 1, request, frame_arp(request, FRAME_SERVICE_IP));
	answer = next_frame(f, 1, &len);
	assert_true(len >= 42);
	assert_memory_equal(answer, request + 6, 6);
	assert_memory_equal(answer + 6, service_mac, 6);
	assert_int_equal(frame_be16(answer + 20), 2);
	assert_memory_equal(answer + 22, service_mac, 6);
	assert_int_equal(frame_be32(answer + 28), FRAME_SERVICE_IP);
	assert_int_equal(frame_be32(answer + 38), FRAME_GUEST_IP);
	assert_silence(f, 0);
}

static void test_other_frames_go_to_the_tap(void **state)
{
	struct fixture *f = *state;
	const struct segment syn = {
		.from_port = 5, .to_port = HTTP_PORT, .flags = TCP_FLAG_SYN};
	uint8_t frame[FAKE_FRAME_MAX];
	size_t len = frame_arp(frame, FRAME_SERVICE_IP + 1);

	assert_false(fake_net_send(f->net[0], frame, len));
	len = frame_arp(frame, FRAME_SERVICE_IP);
	frame[21] = 2; /* an answer, not a request */
	assert_false(fake_net_send(f->net[0], frame, len));
	len = frame_tcp(frame, &syn);
	frame[FRAME_ETHERNET + 19] ^= 1; /* to another host */
	assert_false(fake_net_send(f->net[0], frame, len));
	len = frame_tcp(frame, &syn);
	frame[12] = 0x86; /* IPv6 */
	assert_false(fake_net_send(f->net[0], frame, len));
	len = frame_tcp(frame, &syn);
	assert_false(fake_net_send(f->net[0], frame, FRAME_ETHERNET + 19));
	assert_true(fake_net_send(f->net[0], frame, len));
}

static void test_a_request_is_answered(void **state)
{
	struct fixture *f = *state;
	struct peer peer = peer_connects(f, 0, 4000);

	peer_sends(&peer, TCP_FLAG_ACK | TCP_FLAG_PSH, REQUEST);
	assert_answered(&peer);
	/* The connection stays for more. */
	peer_sends(&peer, TCP_FLAG_ACK | TCP_FLAG_PSH, REQUEST);
	assert_answered(&peer);
	peer_sends(&peer, TCP_FLAG_ACK | TCP_FLAG_FIN, "");
	assert_true(peer_gets(&peer).flags & TCP_FLAG_FIN);
	assert_int_equal(f->counters.connections_created.value, 1);
	assert_int_equal(f->counters.connections_destroyed.value, 1);
}

static void test_pipelined_requests_are_answered_in_turn(void **state)
{
	struct fixture *f = *state;
	struct peer peer = peer_connects(f, 0, 4000);

	peer_sends(&peer, TCP_FLAG_ACK, REQUEST REQUEST REQUEST);
	for (int i = 0; i < 3; i++)
		assert_answered(&peer);
}

static void test_slow_requests_are_waited_for(void **state)
{
	struct fixture *f = *state;
	struct peer peer = peer_connects(f, 0, 4000);
	const char *text = REQUEST;
	char byte[2] = "";

	for (; *text; text++) {
		byte[0] = *text;
		peer_sends(&peer, TCP_FLAG_ACK, byte);
		turn_briefly(f->loop);
	}
	assert_answered(&peer);
}

static void test_requests_without_end_are_reset(void **state)
{
	struct fixture *f = *state;
	struct peer peer = peer_connects(f, 0, 4000);
	char part[1001];

	memset(part, 'x', sizeof(part) - 1);
	part[sizeof(part) - 1] = '\0';
	for (int i = 0; i < 3; i++)
		peer_sends(&peer, TCP_FLAG_ACK, part);
	assert_true(peer_gets(&peer).flags & TCP_FLAG_RST);
	assert_int_equal(f->counters.connections_destroyed.value, 1);
	peer = peer_connects(f, 0, 4001);
	peer_sends(&peer, TCP_FLAG_ACK, REQUEST);
	assert_answered(&peer);
}

static void test_large_answers_come_whole(void **state)
{
	struct fixture *f = *state;
	struct peer peer = peer_connects(f, 0, 4000);

	peer_sends(&peer, TCP_FLAG_ACK, REQUEST_LONG);
	peer_reads_long(&peer);
}

static void test_segments_out_of_order_are_sorted(void **state)
{
	struct fixture *f = *state;
	struct peer peer = peer_connects(f, 0, 4000);
	const char *text = REQUEST;
	size_t len = strlen(text);

	/* The end, a piece in the middle twice, overlaps, then the start. */
	peer_sends_at(&peer, peer.seq + 12, TCP_FLAG_ACK, text + 12, len - 12);
	peer_sends_at(&peer, peer.seq + 6, TCP_FLAG_ACK, text + 6, 4);
	peer_sends_at(&peer, peer.seq + 6, TCP_FLAG_ACK, text + 6, 4);
	peer_sends_at(&peer, peer.seq + 4, TCP_FLAG_ACK, text + 4, 10);
	peer_sends_at(&peer, peer.seq, TCP_FLAG_ACK, text, 8);
	peer.seq += (uint32_t)len;
	assert_answered(&peer);
	peer_sends(&peer, TCP_FLAG_ACK, REQUEST);
	assert_answered(&peer);
}

static void test_bad_checksums_are_ignored(void **state)
{
	struct fixture *f = *state;
	struct peer peer = peer_connects(f, 0, 4000);
	const struct segment segment = {
		.from_port = peer.port,
		.to_port = HTTP_PORT,
		.seq = peer.seq,
		.ack = peer.ack,
		.flags = TCP_FLAG_ACK,
		.data = (const uint8_t *)REQUEST,
		.len = strlen(REQUEST),
	};
	uint8_t frame[FAKE_FRAME_MAX];
	size_t len = frame_tcp(frame, &segment);
	/* in the IP header, in the TCP header, in the data */
	static const size_t at[] = {10, 36, 45};

	for (size_t i = 0; i < ARRAY_SIZE(at); i++) {
		frame[FRAME_ETHERNET + at[i]] ^= 0x20;
		fixture_send(f, 0, frame, len);
		assert_silence(f, 0);
		frame[FRAME_ETHERNET + at[i]] ^= 0x20;
	}
	fixture_send(f, 0, frame, len);
	peer.seq += (uint32_t)segment.len;
	assert_answered(&peer);
}

static void test_other_ports_and_protocols(void **state)
{
	struct fixture *f = *state;
	const struct segment syn = {
		.from_port = 9, .to_port = 81, .seq = 5, .flags = TCP_FLAG_SYN};
	uint8_t frame[FAKE_FRAME_MAX];
	size_t len = frame_tcp(frame, &syn);
	struct segment answer;
	const uint8_t *reset;

	fixture_send(f, 0, frame, len);
	reset = next_frame(f, 0, &len);
	assert_true(frame_parse_tcp(reset, len, &answer));
	assert_true(answer.flags & TCP_FLAG_RST);
	len = frame_tcp(frame, &syn);
	frame[FRAME_ETHERNET + 9] = 17; /* UDP: swallowed */
	fixture_send(f, 0, frame, len);
	frame[FRAME_ETHERNET + 9] = 1; /* ICMP */
	fixture_send(f, 0, frame, len);
	assert_silence(f, 0);
}

static void test_thirty_connections_at_once(void **state)
{
	struct fixture *f = *state;
	struct peer peers[30];

	for (uint16_t i = 0; i < 30; i++)
		peers[i] =
			peer_connects(f, i % INTERFACES, (uint16_t)(5000 + i));
	for (size_t i = 0; i < 30; i++) {
		peer_sends(&peers[i], TCP_FLAG_ACK, REQUEST);
		assert_answered(&peers[i]);
	}
	for (size_t i = 0; i < 30; i++)
		peer_sends(&peers[i], TCP_FLAG_RST | TCP_FLAG_ACK, "");
	turn_briefly(f->loop);
	assert_int_equal(f->counters.connections_destroyed.value, 30);
	assert_int_equal(f->counters.connections_created.value, 30);
	peers[0] = peer_connects(f, 0, 6000);
	peer_sends(&peers[0], TCP_FLAG_ACK, REQUEST);
	assert_answered(&peers[0]);
}

/* Two guests' interfaces use the same address and port. */
static void test_connections_keep_to_their_interface(void **state)
{
	struct fixture *f = *state;
	struct peer peer = peer_connects(f, 0, 4000), other = peer;

	other.i = 1;
	peer_sends_at(&other, other.seq, TCP_FLAG_ACK, REQUEST,
		      strlen(REQUEST));
	turn_briefly(f->loop);
	assert_int_equal(f->inbox[0].count, f->inbox[0].taken);
	while (f->inbox[1].taken < f->inbox[1].count)
		assert_int_equal(next_segment(f, 1).len, 0);
	peer_sends(&peer, TCP_FLAG_ACK, REQUEST);
	assert_answered(&peer);
}

/* lwIP would answer to itself, over any link. */
static void test_frames_from_its_own_address_are_dropped(void **state)
{
	struct fixture *f = *state;
	const struct segment syn = {
		.from_port = 9, .to_port = HTTP_PORT, .flags = TCP_FLAG_SYN};
	uint8_t frame[FAKE_FRAME_MAX];
	size_t len = frame_tcp(frame, &syn);

	memcpy(frame + FRAME_ETHERNET + 12, frame + FRAME_ETHERNET + 16, 4);
	frame_fix_checksums(frame, len);
	fixture_send(f, 0, frame, len);
	assert_silence(f, 0);
	assert_silence(f, 1);
	assert_int_equal(f->counters.rx_accepted_unusual.value, 1);
}

static void test_resets_go_back_the_way_the_segment_came(void **state)
{
	struct fixture *f = *state;
	struct peer peer = {.f = f, .port = 4000, .seq = 1};

	for (peer.i = 0; peer.i < INTERFACES; peer.i++) {
		peer_sends_at(&peer, 1, TCP_FLAG_ACK, "x", 1);
		assert_true(peer_gets(&peer).flags & TCP_FLAG_RST);
		assert_silence(f, 1 - peer.i);
	}
}

static void test_what_is_beyond_the_window_is_acknowledged(void **state)
{
	struct fixture *f = *state;
	struct peer peer = peer_connects(f, 0, 4000);
	struct segment answer;

	peer_sends_at(&peer, peer.seq + 4000, TCP_FLAG_ACK, "x", 1);
	answer = next_segment(f, 0);
	assert_int_equal(answer.flags, TCP_FLAG_ACK);
	assert_int_equal(answer.ack, peer.seq);
}

static void test_garbage_does_no_harm(void **state)
{
	struct fixture *f = *state;
	const struct segment base = {
		.from_port = 7, .to_port = HTTP_PORT, .flags = TCP_FLAG_SYN};
	uint8_t frame[FAKE_FRAME_MAX];
	uint32_t random = 12345;
	size_t len;

	for (int i = 0; i < 20000; i++) {
		len = frame_tcp(frame, &base);
		for (int k = 0; k < 4; k++) {
			random = random * 1664525 + 1013904223;
			frame[(random >> 16) % len] = (uint8_t)(random >> 8);
		}
		len = (random >> 20) % 4 ? len : (random >> 10) % len;
		if (i % 2)
			frame_fix_checksums(frame, len);
		(void)fake_net_send(f->net[i % INTERFACES], frame, len);
		if (i % 64 == 0) {
			turn_briefly(f->loop);
			f->inbox[0].count = f->inbox[0].taken = 0;
			f->inbox[1].count = f->inbox[1].taken = 0;
		}
	}
	turn_briefly(f->loop);
	f->inbox[0].count = f->inbox[0].taken = 0;
	/* Half-open connections may fill the table for a while; the service
	 * is there. */
	fixture_send(f, 0, frame, frame_arp(frame, FRAME_SERVICE_IP));
	while (next_frame(f, 0, &len)[13] != 6)
		;
}

static void test_a_flood_of_frames_is_cut(void **state)
{
	struct fixture *f = *state;
	uint8_t frame[64];
	size_t len = frame_arp(frame, FRAME_SERVICE_IP);

	for (int i = 0; i < 1000; i++)
		fixture_send(f, 0, frame, len);
	turn_briefly(f->loop);
	assert_in_range(f->inbox[0].count, 1, 64);
	assert_true(f->counters.rx_accepted_err.value >= 936);
}

static void test_guest_without_buffers_loses_frames_only(void **state)
{
	struct fixture *f = *state;
	struct peer peer = {.f = f, .port = 4000, .seq = 1};

	fake_net_of(f->net[0])->deliver = NULL;
	peer_sends_at(&peer, 1, TCP_FLAG_SYN, "", 0);
	turn_briefly(f->loop);
	assert_true(f->counters.tx_errors.value > 0);
	fake_net_of(f->net[0])->deliver = fixture_deliver;
	/* TCP comes back to it. */
	ticks(f, 20);
	assert_int_equal(next_segment(f, 0).flags, TCP_FLAG_SYN | TCP_FLAG_ACK);
}

static void test_stopped_service_leaves_the_interfaces(void **state)
{
	struct fixture *f = *state;
	uint8_t frame[64];
	struct peer peer = peer_connects(f, 0, 4000);

	peer_sends(&peer, TCP_FLAG_ACK, "GET");
	turn_briefly(f->loop);
	mmds_stop(f->mmds);
	assert_false(fake_net_send(f->net[0], frame,
				   frame_arp(frame, FRAME_SERVICE_IP)));
	assert_int_equal(f->counters.connections_destroyed.value, 1);
	assert_int_equal(mmds_start(f->mmds, f->loop, f->nets, NULL), 0);
	f->inbox[0].count = f->inbox[0].taken = 0;
	peer = peer_connects(f, 0, 4001);
}

int main(void)
{
#define CASE(name)                                                             \
	cmocka_unit_test_setup_teardown(name, fixture_setup, fixture_teardown)
	const struct CMUnitTest tests[] = {
		CASE(test_arp_is_answered),
		CASE(test_other_frames_go_to_the_tap),
		CASE(test_a_request_is_answered),
		CASE(test_pipelined_requests_are_answered_in_turn),
		CASE(test_slow_requests_are_waited_for),
		CASE(test_requests_without_end_are_reset),
		CASE(test_large_answers_come_whole),
		CASE(test_segments_out_of_order_are_sorted),
		CASE(test_bad_checksums_are_ignored),
		CASE(test_other_ports_and_protocols),
		CASE(test_thirty_connections_at_once),
		CASE(test_connections_keep_to_their_interface),
		CASE(test_frames_from_its_own_address_are_dropped),
		CASE(test_resets_go_back_the_way_the_segment_came),
		CASE(test_what_is_beyond_the_window_is_acknowledged),
		CASE(test_garbage_does_no_harm),
		CASE(test_a_flood_of_frames_is_cut),
		CASE(test_guest_without_buffers_loses_frames_only),
		CASE(test_stopped_service_leaves_the_interfaces),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
