/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/fake/frames.h"
#include "tests/fake/net.h"
#include "tests/fake/turn.h"
#include "vmm/mmds.h"
#include "vmm/nets.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#define INTERFACES 2
#define FRAMES_MAX 256
#define HTTP_PORT 80

/* What one guest interface was sent. */
struct inbox {
	uint8_t frames[FRAMES_MAX][FAKE_FRAME_MAX];
	size_t lens[FRAMES_MAX];
	size_t count, taken;
};

struct fixture {
	struct loop *loop;
	struct metrics metrics;
	struct nets *nets;
	struct mmds *mmds;
	struct mmds_metrics counters;
	struct net *net[INTERFACES];
	struct inbox inbox[INTERFACES];
};

static const char *const ids[INTERFACES] = {"eth0", "eth1"};

static void deliver(void *arg, const uint8_t *frame, size_t len)
{
	struct inbox *inbox = arg;

	assert_true(inbox->count < FRAMES_MAX && len <= FAKE_FRAME_MAX);
	memcpy(inbox->frames[inbox->count], frame, len);
	inbox->lens[inbox->count++] = len;
}

static void add_interface(struct fixture *f, size_t i)
{
	struct net_config config = {.iface_id = strdup(ids[i]),
				    .host_dev_name = strdup(ids[i])};

	assert_int_equal(nets_set(f->nets, &config, NULL), 0);
	f->net[i] = nets_find(f->nets, ids[i]);
	fake_net_of(f->net[i])->deliver = deliver;
	fake_net_of(f->net[i])->arg = &f->inbox[i];
}

static void put_document(struct fixture *f, size_t len)
{
	char *text = calloc(1, len + 1);
	json_t *value;

	memset(text, 'd', len);
	value = json_pack("{s:s, s:s}", "key", "value", "long", text);
	assert_int_equal(mmds_put(f->mmds, value, NULL), 0);
	json_decref(value);
	free(text);
}

static int setup(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));
	struct mmds_config config = {.version = MMDS_V1,
				     .interface_count = INTERFACES};

	assert_non_null(f);
	metrics_init(&f->metrics, "test");
	assert_int_equal(loop_create(&f->loop), 0);
	assert_int_equal(nets_create(&f->nets, &f->metrics), 0);
	assert_int_equal(mmds_create(&f->mmds, "vm", 51200, &f->counters), 0);
	config.interfaces = calloc(INTERFACES, sizeof(char *));
	for (size_t i = 0; i < INTERFACES; i++) {
		add_interface(f, i);
		config.interfaces[i] = strdup(ids[i]);
	}
	put_document(f, 40000);
	assert_int_equal(mmds_configure(f->mmds, &config, f->nets, NULL), 0);
	assert_int_equal(mmds_start(f->mmds, f->loop, f->nets, NULL), 0);
	*state = f;
	return 0;
}

static int teardown(void **state)
{
	struct fixture *f = *state;

	mmds_destroy(f->mmds);
	nets_destroy(f->nets);
	loop_destroy(f->loop);
	metrics_release(&f->metrics);
	free(f);
	return 0;
}

/* ------------------------------------------------------- the guest's side */

static void send_to(struct fixture *f, size_t i, const uint8_t *frame,
		    size_t len)
{
	assert_true(fake_net_send(f->net[i], frame, len));
}

struct waiting {
	struct inbox *inbox;
};

static bool frame_came(void *arg)
{
	struct waiting *waiting = arg;

	return waiting->inbox->taken < waiting->inbox->count;
}

static const uint8_t *next_frame(struct fixture *f, size_t i, size_t *ret_len)
{
	struct inbox *inbox = &f->inbox[i];
	struct waiting waiting = {inbox};

	assert_true(turn_until(f->loop, frame_came, &waiting));
	*ret_len = inbox->lens[inbox->taken];
	if (inbox->taken + 1 == inbox->count) {
		/* All seen: the next one may be written over the first. */
		static uint8_t last[FAKE_FRAME_MAX];

		memcpy(last, inbox->frames[inbox->taken], *ret_len);
		inbox->taken = inbox->count = 0;
		return last;
	}
	return inbox->frames[inbox->taken++];
}

static struct segment next_segment(struct fixture *f, size_t i)
{
	struct segment segment;
	size_t len;
	const uint8_t *frame = next_frame(f, i, &len);

	assert_true(frame_parse_tcp(frame, len, &segment));
	assert_int_equal(segment.from_port, HTTP_PORT);
	assert_int_equal(frame[FRAME_ETHERNET + 8], 1); /* stays on the link */
	return segment;
}

static void assert_silence(struct fixture *f, size_t i)
{
	turn_briefly(f->loop);
	assert_int_equal(f->inbox[i].count, f->inbox[i].taken);
}

/* A TCP connection as the guest sees it. */
struct peer {
	struct fixture *f;
	size_t i;
	uint16_t port;
	uint32_t seq, ack;
};

static void peer_sends_at(const struct peer *peer, uint32_t seq, uint8_t flags,
			  const void *data, size_t len)
{
	const struct segment segment = {
		.from_port = peer->port,
		.to_port = HTTP_PORT,
		.seq = seq,
		.ack = peer->ack,
		.flags = flags,
		.data = data,
		.len = len,
	};
	uint8_t frame[FAKE_FRAME_MAX];

	send_to(peer->f, peer->i, frame, frame_tcp(frame, &segment));
}

static void peer_sends(struct peer *peer, uint8_t flags, const char *data)
{
	peer_sends_at(peer, peer->seq, flags, data, strlen(data));
	peer->seq += (uint32_t)strlen(data) +
		     (flags & (TCP_FLAG_SYN | TCP_FLAG_FIN) ? 1 : 0);
}

static struct peer peer_connects(struct fixture *f, size_t i, uint16_t port)
{
	struct peer peer = {.f = f, .i = i, .port = port, .seq = 1000};
	struct segment answer;

	peer_sends(&peer, TCP_FLAG_SYN, "");
	answer = next_segment(f, i);
	assert_int_equal(answer.flags, TCP_FLAG_SYN | TCP_FLAG_ACK);
	assert_int_equal(answer.to_port, port);
	assert_int_equal(answer.ack, peer.seq);
	peer.ack = answer.seq + 1;
	peer_sends(&peer, TCP_FLAG_ACK, "");
	return peer;
}

/* Reads @len bytes of data, acknowledging each segment. */
static void peer_reads(struct peer *peer, char *data, size_t len)
{
	size_t have = 0;

	while (have < len) {
		struct segment segment = next_segment(peer->f, peer->i);

		assert_int_equal(segment.to_port, peer->port);
		if (!segment.len)
			continue;
		assert_int_equal(segment.seq, peer->ack);
		assert_true(have + segment.len <= len);
		memcpy(data + have, segment.data, segment.len);
		have += segment.len;
		peer->ack += (uint32_t)segment.len;
		peer_sends(peer, TCP_FLAG_ACK, "");
	}
	data[have] = '\0';
}

#define REQUEST "GET /key HTTP/1.1\r\n\r\n"
#define ANSWER                                                                 \
	"HTTP/1.1 200 \r\nServer: Firecracker API\r\n"                         \
	"Connection: keep-alive\r\nContent-Type: text/plain\r\n"               \
	"Content-Length: 5\r\n\r\nvalue"

static void assert_answered(struct peer *peer)
{
	char text[sizeof(ANSWER)];

	peer_reads(peer, text, strlen(ANSWER));
	assert_string_equal(text, ANSWER);
}

/* The next segment of this connection that is more than an acknowledgement. */
static struct segment peer_gets(struct peer *peer)
{
	struct segment segment;

	do
		segment = next_segment(peer->f, peer->i);
	while (segment.to_port != peer->port ||
	       (segment.flags == TCP_FLAG_ACK && !segment.len));
	return segment;
}

/* ------------------------------------------------------------------- tests */

static void test_arp_is_answered(void **state)
{
	static const uint8_t service_mac[] = {6, 1, 0x23, 0x45, 0x67, 1};
	struct fixture *f = *state;
	uint8_t request[64];
	const uint8_t *answer;
	size_t len;

	send_to(f, 1, request, frame_arp(request, FRAME_SERVICE_IP));
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
	static char text[41000];
	struct fixture *f = *state;
	struct peer peer = peer_connects(f, 0, 4000);
	size_t head;

	peer_sends(&peer, TCP_FLAG_ACK, "GET /long HTTP/1.1\r\n\r\n");
	head = strlen(ANSWER) - strlen("5") + strlen("40000") - strlen("value");
	peer_reads(&peer, text, head + 40000);
	assert_int_equal(strspn(text + head, "d"), 40000);
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
		send_to(f, 0, frame, len);
		assert_silence(f, 0);
		frame[FRAME_ETHERNET + at[i]] ^= 0x20;
	}
	send_to(f, 0, frame, len);
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

	send_to(f, 0, frame, len);
	reset = next_frame(f, 0, &len);
	assert_true(frame_parse_tcp(reset, len, &answer));
	assert_true(answer.flags & TCP_FLAG_RST);
	len = frame_tcp(frame, &syn);
	frame[FRAME_ETHERNET + 9] = 17; /* UDP: swallowed */
	send_to(f, 0, frame, len);
	frame[FRAME_ETHERNET + 9] = 1; /* ICMP */
	send_to(f, 0, frame, len);
	assert_silence(f, 0);
}

static void test_thirty_connections_at_once_and_no_more(void **state)
{
	struct fixture *f = *state;
	struct peer peers[30], extra = {.f = f, .port = 9000, .seq = 7};

	for (uint16_t i = 0; i < 30; i++)
		peers[i] =
			peer_connects(f, i % INTERFACES, (uint16_t)(5000 + i));
	peer_sends(&extra, TCP_FLAG_SYN, "");
	turn_briefly(f->loop);
	for (size_t i = 0; i < 30; i++) {
		peer_sends(&peers[i], TCP_FLAG_ACK, REQUEST);
		assert_answered(&peers[i]);
	}
	for (size_t i = 0; i < 30; i++)
		peer_sends(&peers[i], TCP_FLAG_RST | TCP_FLAG_ACK, "");
	turn_briefly(f->loop);
	assert_int_equal(f->counters.connections_destroyed.value,
			 f->counters.connections_created.value);
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
	for (size_t n = f->inbox[1].taken; n < f->inbox[1].count; n++) {
		struct segment segment;

		assert_true(frame_parse_tcp(f->inbox[1].frames[n],
					    f->inbox[1].lens[n], &segment));
		assert_int_equal(segment.len, 0);
	}
	peer_sends(&peer, TCP_FLAG_ACK, REQUEST);
	assert_answered(&peer);
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
	send_to(f, 0, frame, frame_arp(frame, FRAME_SERVICE_IP));
	while (next_frame(f, 0, &len)[13] != 6)
		;
}

static void test_a_flood_of_frames_is_cut(void **state)
{
	struct fixture *f = *state;
	uint8_t frame[64];
	size_t len = frame_arp(frame, FRAME_SERVICE_IP);

	for (int i = 0; i < 1000; i++)
		send_to(f, 0, frame, len);
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
	fake_net_of(f->net[0])->deliver = deliver;
	/* TCP comes back to it. */
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
#define CASE(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
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
		CASE(test_thirty_connections_at_once_and_no_more),
		CASE(test_connections_keep_to_their_interface),
		CASE(test_garbage_does_no_harm),
		CASE(test_a_flood_of_frames_is_cut),
		CASE(test_guest_without_buffers_loses_frames_only),
		CASE(test_stopped_service_leaves_the_interfaces),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
