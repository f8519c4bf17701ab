/* SPDX-License-Identifier: Apache-2.0 */
/* What a guest can do to the metadata service with TCP. */
#include "tests/fake/mmds_peer.h"
#include "tests/fake/tick.h"
#include "tests/fake/turn.h"
#include "vmm/mmds_http.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#define CLIENTS_MAX 30

/* Enough for everything that is ready to be served. */
static void turns(struct fixture *f)
{
	for (int i = 0; i < 2 * CLIENTS_MAX; i++)
		turn_once(f->loop);
}

/* ------------------------------------------------------------ many at once */

/* A guest that keeps only count of what comes. */
struct crowd {
	struct fixture *f;
	struct peer peers[CLIENTS_MAX];
	size_t got[CLIENTS_MAX];
	unsigned resets[CLIENTS_MAX], ends[CLIENTS_MAX];
};

#define CROWD_PORT 4000

static void crowd_deliver(void *arg, const uint8_t *frame, size_t len)
{
	struct crowd *crowd = arg;
	struct segment segment;
	size_t i;

	assert_true(frame_parse_tcp(frame, len, &segment));
	i = segment.to_port - (size_t)CROWD_PORT;
	if (i >= CLIENTS_MAX)
		return;
	if (segment.flags & TCP_FLAG_RST)
		crowd->resets[i]++;
	if (segment.seq != crowd->peers[i].ack)
		return;
	crowd->got[i] += segment.len;
	crowd->peers[i].ack += (uint32_t)segment.len;
	if (segment.flags & TCP_FLAG_FIN) {
		crowd->ends[i]++;
		crowd->peers[i].ack++;
	}
}

static void crowd_connects(struct crowd *crowd, struct fixture *f, uint16_t mss)
{
	*crowd = (struct crowd){.f = f};
	for (size_t i = 0; i < CLIENTS_MAX; i++) {
		struct peer *peer = &crowd->peers[i];

		*peer = (struct peer){.f = f,
				      .port = (uint16_t)(CROWD_PORT + i),
				      .seq = 1000,
				      .mss = mss};
		peer_opens(peer);
		peer_sends(peer, TCP_FLAG_ACK, "");
	}
	turns(f);
	fake_net_of(f->net[0])->deliver = crowd_deliver;
	fake_net_of(f->net[0])->arg = crowd;
}

static void crowd_sends(struct crowd *crowd, uint8_t flags, const char *data)
{
	for (size_t i = 0; i < CLIENTS_MAX; i++)
		peer_sends(&crowd->peers[i], flags, data);
}

static size_t crowd_served(const struct crowd *crowd)
{
	size_t count = 0;

	for (size_t i = 0; i < CLIENTS_MAX; i++)
		count += crowd->got[i] > 0;
	return count;
}

static void test_one_request_is_answered_in_a_turn(void **state)
{
	struct fixture *f = *state;
	struct crowd crowd;

	crowd_connects(&crowd, f, 1460);
	crowd_sends(&crowd, TCP_FLAG_ACK, REQUEST);
	for (size_t i = 1; i <= CLIENTS_MAX; i++) {
		turn_once(f->loop);
		assert_int_equal(crowd_served(&crowd), i);
	}
}

/* More than there is memory for at once. */
static void test_many_large_answers_come_whole(void **state)
{
	struct fixture *f = *state;
	struct crowd crowd;

	crowd_connects(&crowd, f, 1460);
	crowd_sends(&crowd, TCP_FLAG_ACK, REQUEST_LONG);
	turns(f);
	assert_int_equal(crowd_served(&crowd), CLIENTS_MAX);
	for (size_t turns = 0; turns < 60; turns++) {
		crowd_sends(&crowd, TCP_FLAG_ACK, "");
		ticks(f, 1);
	}
	for (size_t i = 0; i < CLIENTS_MAX; i++)
		assert_int_equal(crowd.got[i], ANSWER_LONG_LEN);
	crowd_sends(&crowd, TCP_FLAG_ACK | TCP_FLAG_FIN, "");
	turns(f);
	for (size_t i = 0; i < CLIENTS_MAX; i++)
		assert_int_equal(crowd.ends[i], 1);
	assert_int_equal(f->counters.connections_destroyed.value, CLIENTS_MAX);
}

/* Pieces so small that there is not enough of them for all. */
static void test_answers_wait_for_memory(void **state)
{
	struct fixture *f = *state;
	struct crowd crowd;

	crowd_connects(&crowd, f, 28);
	crowd_sends(&crowd, TCP_FLAG_ACK, REQUEST_LONG);
	turns(f);
	assert_in_range(crowd_served(&crowd), 2, CLIENTS_MAX - 1);
	for (size_t i = 0; i < 400; i++) {
		crowd_sends(&crowd, TCP_FLAG_ACK, "");
		turn_once(f->loop);
	}
	for (size_t i = 0; i < CLIENTS_MAX; i++)
		assert_int_equal(crowd.got[i], ANSWER_LONG_LEN);
}

/* The others stop in the middle, and what they have is all there is. */
static void test_answers_begin_by_the_clock(void **state)
{
	struct fixture *f = *state;
	struct crowd crowd;
	size_t last = CLIENTS_MAX - 1;

	crowd_connects(&crowd, f, 28);
	crowd_sends(&crowd, TCP_FLAG_ACK, REQUEST_LONG);
	turns(f);
	assert_int_equal(crowd.got[last], 0);
	for (size_t i = 0; i < last; i++)
		peer_sends(&crowd.peers[i], TCP_FLAG_ACK | TCP_FLAG_RST, "");
	turn_once(f->loop);
	ticks(f, 1);
	assert_true(crowd.got[last] > 0);
}

static void test_new_connections_replace_the_longest_idle(void **state)
{
	struct fixture *f = *state;
	struct peer peer = {.f = f, .i = 1, .port = 9000, .seq = 7};
	struct crowd crowd;

	crowd_connects(&crowd, f, 1460);
	crowd_sends(&crowd, TCP_FLAG_ACK, REQUEST);
	turns(f);
	crowd_sends(&crowd, TCP_FLAG_ACK, "");
	turns(f);
	/* The first asks and waits, the second has just asked. */
	peer_sends(&crowd.peers[0], TCP_FLAG_ACK, REQUEST_LONG);
	peer_sends(&crowd.peers[1], TCP_FLAG_ACK, REQUEST);
	turns(f);
	peer_sends(&crowd.peers[1], TCP_FLAG_ACK, "");
	turns(f);
	peer_opens(&peer);
	peer_sends(&peer, TCP_FLAG_ACK, REQUEST);
	assert_answered(&peer);
	for (size_t i = 0; i < CLIENTS_MAX; i++)
		assert_int_equal(crowd.resets[i], i == 2);
	assert_int_equal(f->counters.connections_destroyed.value, 1);
}

/* Neither a refusal nor somebody else's end: the guest's TCP tries again. */
static void test_connections_too_many_wait(void **state)
{
	struct fixture *f = *state;
	struct peer peer = {.f = f, .i = 1, .port = 9000, .seq = 7};
	struct crowd crowd;

	crowd_connects(&crowd, f, 1460);
	peer_sends_at(&peer, 7, TCP_FLAG_SYN, "", 0);
	turns(f);
	assert_silence(f, 1);
	crowd_sends(&crowd, TCP_FLAG_ACK, REQUEST_LONG);
	turns(f);
	peer_sends_at(&peer, 7, TCP_FLAG_SYN, "", 0);
	turns(f);
	assert_silence(f, 1);
	assert_int_equal(f->counters.connections_destroyed.value, 0);
	peer_sends(&crowd.peers[5], TCP_FLAG_ACK | TCP_FLAG_RST, "");
	turns(f);
	peer_opens(&peer);
}

static void test_half_open_connections_keep_nobody_out(void **state)
{
	struct fixture *f = *state;
	struct peer peer = {.f = f, .seq = 7};

	for (peer.port = 4000; peer.port < 4100; peer.port++) {
		peer_sends_at(&peer, 7, TCP_FLAG_SYN, "", 0);
		turn_once(f->loop);
	}
	f->inbox[0].count = f->inbox[0].taken = 0;
	ticks(f, 24);
	f->inbox[0].count = f->inbox[0].taken = 0;
	peer = peer_connects(f, 0, 5000);
	peer_sends(&peer, TCP_FLAG_ACK, REQUEST);
	assert_answered(&peer);
}

/* -------------------------------------------------------- sizes and windows */

static void test_segments_are_536_bytes_unless_told(void **state)
{
	static const struct {
		uint16_t mss;
		size_t len;
	} cases[] = {{0, 536}, {100, 100}, {1460, 1460}, {9000, 1460}};
	struct fixture *f = *state;

	for (uint16_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct peer peer = {.f = f,
				    .port = (uint16_t)(4000 + i),
				    .seq = 1,
				    .mss = cases[i].mss};

		peer_opens(&peer);
		peer_sends(&peer, TCP_FLAG_ACK, REQUEST_LONG);
		assert_int_equal(peer_gets(&peer).len, cases[i].len);
		peer_sends(&peer, TCP_FLAG_ACK | TCP_FLAG_RST, "");
		turns(f);
		f->inbox[0].count = f->inbox[0].taken = 0;
	}
}

static void test_answers_in_tiny_segments_come_whole(void **state)
{
	static const uint16_t sizes[] = {1, 10, 28};
	struct fixture *f = *state;

	for (uint16_t i = 0; i < ARRAY_SIZE(sizes); i++) {
		struct peer peer = {.f = f,
				    .port = (uint16_t)(4000 + i),
				    .seq = 1,
				    .mss = sizes[i]};

		peer_opens(&peer);
		peer_sends(&peer, TCP_FLAG_ACK, REQUEST);
		assert_answered(&peer);
		if (sizes[i] > 1) {
			peer_sends(&peer, TCP_FLAG_ACK, REQUEST_LONG);
			peer_reads_long(&peer);
		}
		peer_sends(&peer, TCP_FLAG_ACK | TCP_FLAG_FIN, "");
		assert_true(peer_gets(&peer).flags & TCP_FLAG_FIN);
	}
}

/* An acknowledgement that announces segments of one byte. */
static void peer_shrinks(const struct peer *peer)
{
	const struct segment segment = {
		.from_port = peer->port,
		.to_port = HTTP_PORT,
		.seq = peer->seq,
		.ack = peer->ack,
		.flags = TCP_FLAG_ACK,
		.shut = peer->shut,
		.mss = 1,
	};
	uint8_t frame[FAKE_FRAME_MAX];

	fixture_send(peer->f, peer->i, frame, frame_tcp(frame, &segment));
	turns(peer->f);
}

static void test_segment_size_counts_in_a_syn_only(void **state)
{
	struct fixture *f = *state;
	struct peer peer = {.f = f, .port = 4000, .seq = 1, .mss = 1460};

	peer_opens(&peer);
	peer_sends(&peer, TCP_FLAG_ACK, REQUEST_LONG);
	turns(f);
	peer.ack += 1460; /* more is in flight, and more is to be sent */
	peer_shrinks(&peer);
	peer.ack -= 1460;
	peer_reads_long(&peer);
}

static void test_segment_size_does_not_change_while_probing(void **state)
{
	struct fixture *f = *state;
	struct peer peer = {.f = f, .port = 4000, .seq = 1, .mss = 1460};
	char text[sizeof(ANSWER)];

	peer_opens(&peer);
	peer_sends(&peer, TCP_FLAG_ACK, "G");
	peer.shut = 65535 - 50;
	peer_sends(&peer, TCP_FLAG_ACK, &REQUEST[1]);
	peer_shrinks(&peer);
	ticks(f, 20);
	peer_reads(&peer, text, 50);
	peer.shut = 0;
	peer_sends(&peer, TCP_FLAG_ACK, "");
	peer_reads(&peer, text + 50, strlen(ANSWER) - 50);
	assert_string_equal(text, ANSWER);
}

/* Takes what has come, up to where something is missing. */
static void peer_takes(struct peer *peer)
{
	const struct inbox *inbox = &peer->f->inbox[peer->i];

	while (inbox->taken < inbox->count) {
		struct segment segment = next_segment(peer->f, peer->i);
		uint32_t known = peer->ack - segment.seq;

		if (known < segment.len)
			peer->ack += (uint32_t)segment.len - known;
	}
}

static void test_windows_may_grow_from_one_byte(void **state)
{
	static const uint16_t windows[] = {10, 1, 3, 200, 0, 1460, 65535};
	struct fixture *f = *state;
	struct peer peer = {
		.f = f, .port = 4000, .seq = 1, .mss = 1460, .shut = 65535 - 1};
	uint32_t end;

	peer_opens(&peer);
	end = peer.ack + (uint32_t)ANSWER_LONG_LEN;
	peer_sends(&peer, TCP_FLAG_ACK, REQUEST_LONG);
	for (size_t i = 0; i < ARRAY_SIZE(windows); i++) {
		ticks(f, 20);
		peer_takes(&peer);
		peer.shut = (uint16_t)(65535 - windows[i]);
		peer_sends(&peer, TCP_FLAG_ACK, "");
		turns(f);
	}
	for (size_t i = 0; i < 100 && peer.ack != end; i++) {
		peer_takes(&peer);
		peer_sends(&peer, TCP_FLAG_ACK, "");
		ticks(f, 1);
	}
	assert_int_equal(peer.ack, end);
}

/* The last byte goes out to probe a window that is shut, and is taken. */
static void test_last_byte_may_be_a_probe(void **state)
{
	struct fixture *f = *state;
	struct peer peer = {.f = f, .port = 4000, .seq = 1, .mss = 1460};
	char text[sizeof(ANSWER)];
	size_t len = strlen(ANSWER);

	peer_opens(&peer);
	peer_sends(&peer, TCP_FLAG_ACK, "G");
	peer.shut = (uint16_t)(65535 - (len - 1));
	peer_sends(&peer, TCP_FLAG_ACK, &REQUEST[1]);
	turns(f);
	ticks(f, 10);
	peer.shut = 65535;
	peer_reads(&peer, text, len - 1);
	ticks(f, 40);
	peer_reads(&peer, text + len - 1, 1);
	assert_string_equal(text + len - 1, "e");
	/* What comes out of order keeps the clock going. */
	peer_sends_at(&peer, peer.seq + 5, TCP_FLAG_ACK, "x", 1);
	ticks(f, 20);
	peer.shut = 0;
	peer_sends(&peer, TCP_FLAG_ACK, REQUEST);
	f->inbox[0].count = f->inbox[0].taken = 0;
	assert_answered(&peer);
}

static void test_clock_stands_still_when_nothing_is_to_come(void **state)
{
	struct fixture *f = *state;
	struct peer peer = peer_connects(f, 0, 4000);

	peer_sends(&peer, TCP_FLAG_ACK, REQUEST);
	assert_answered(&peer);
	turns(f);
	while (fake_tick())
		;
	peer_sends(&peer, TCP_FLAG_ACK, REQUEST);
	turns(f);
	assert_true(fake_tick());
	assert_answered(&peer);
}

/* ----------------------------------------------------------------- requests */

/* @count requests in segments of up to 1000 bytes, @total bytes in all. */
static char *make_requests(size_t count, size_t *ret_total)
{
	size_t len = strlen(REQUEST);
	char *text = malloc(count * len + 1);

	for (size_t i = 0; i < count; i++)
		memcpy(text + i * len, REQUEST, len);
	*ret_total = count * len;
	return text;
}

static void peer_sends_pieces(struct peer *peer, const char *data, size_t len)
{
	while (len) {
		size_t n = MIN(len, (size_t)1000);

		peer_sends_bytes(peer, data, n);
		data += n;
		len -= n;
	}
}

static void test_a_window_full_of_requests_is_answered(void **state)
{
	struct fixture *f = *state;
	struct peer peer = peer_connects(f, 0, 4000);
	size_t total, count = 4000 / strlen(REQUEST);
	char *requests = make_requests(count, &total);

	for (int round = 0; round < 3; round++) {
		peer_sends_pieces(&peer, requests, total);
		for (size_t i = 0; i < count; i++)
			assert_answered(&peer);
	}
	free(requests);
}

/* A head of @len bytes. */
static char *make_head(size_t len)
{
	static const char start[] = "GET /key HTTP/1.1\r\nX: ";
	char *text = malloc(len + 1);

	memset(text, 'x', len);
	memcpy(text, start, strlen(start));
	strcpy(text + len - 4, "\r\n\r\n");
	return text;
}

static void test_requests_of_2500_bytes_and_no_more(void **state)
{
	struct fixture *f = *state;
	struct peer peer = peer_connects(f, 0, 4000);
	char *fits = make_head(2500), *longer = make_head(2501);

	peer_sends_pieces(&peer, fits, 2500);
	assert_answered(&peer);
	peer_sends_pieces(&peer, longer, 2501);
	assert_true(peer_gets(&peer).flags & TCP_FLAG_RST);
	free(fits);
	free(longer);
}

static void test_requests_behind_a_long_one_are_answered(void **state)
{
	struct fixture *f = *state;
	struct peer peer = peer_connects(f, 0, 4000);
	char *head = make_head(2404);

	peer_sends_pieces(&peer, head, 2400);
	turns(f);
	peer_sends(&peer, TCP_FLAG_ACK,
		   "\r\n\r\n" REQUEST REQUEST REQUEST REQUEST REQUEST REQUEST);
	for (int i = 0; i < 7; i++)
		assert_answered(&peer);
	free(head);
}

static void test_bodies_are_refused_before_they_come(void **state)
{
	static const char *const requests[] = {
		"GET /key HTTP/1.1\r\nContent-Length: 100\r\n\r\n123456789",
		("PUT /latest/api/token HTTP/1.1\r\n"
		 "X-metadata-token-ttl-seconds: 60\r\n"
		 "Content-Length: 100\r\n\r\n123456789"),
	};
	struct fixture *f = *state;

	for (uint16_t i = 0; i < ARRAY_SIZE(requests); i++) {
		struct peer peer = peer_connects(f, 0, (uint16_t)(4000 + i));
		char rest[91 + 1], text[256] = "";
		struct segment answer;

		peer_sends(&peer, TCP_FLAG_ACK, requests[i]);
		answer = peer_gets(&peer);
		memcpy(text, answer.data, MIN(answer.len, sizeof(text) - 1));
		assert_memory_equal(text, "HTTP/1.1 400 \r\n", 15);
		assert_non_null(strstr(text, "\r\n\r\nInvalid request."));
		peer.ack += (uint32_t)answer.len;
		/* The next request is behind all of the body. */
		memset(rest, '\r', sizeof(rest) - 1);
		rest[sizeof(rest) - 1] = '\0';
		peer_sends(&peer, TCP_FLAG_ACK, rest);
		peer_sends(&peer, TCP_FLAG_ACK, REQUEST);
		assert_answered(&peer);
	}
}

/* All that the window has room for, and more, in one frame, out of order. */
static void test_what_is_beyond_the_window_is_not_kept(void **state)
{
	struct fixture *f = *state;
	struct peer peer = peer_connects(f, 0, 4000);
	char *head = make_head(2400);

	peer_sends(&peer, TCP_FLAG_ACK, REQUEST_LONG);
	turns(f);
	peer_sends_pieces(&peer, head, 2000); /* not served yet: it stays */
	turns(f);
	/* From 1000 before the end of the window to 400 after it. */
	peer_sends_at(&peer, peer.seq + 1000, TCP_FLAG_ACK, head, 1400);
	peer_sends_at(&peer, peer.seq, TCP_FLAG_ACK, head, 1000);
	turns(f);
	assert_int_equal(f->counters.connections_destroyed.value, 0);
	free(head);
}

static void test_answers_come_after_the_guests_end(void **state)
{
	struct fixture *f = *state;
	struct peer peer = peer_connects(f, 0, 4000);

	peer_sends(&peer, TCP_FLAG_ACK, REQUEST_LONG);
	turns(f);
	peer_sends(&peer, TCP_FLAG_ACK | TCP_FLAG_FIN, REQUEST);
	peer_reads_long(&peer);
	assert_answered(&peer);
	assert_true(peer_gets(&peer).flags & TCP_FLAG_FIN);
	assert_int_equal(f->counters.connections_destroyed.value, 1);
}

static void test_half_a_request_ends_without_reset(void **state)
{
	struct fixture *f = *state;
	struct peer peer = peer_connects(f, 0, 4000);

	peer_sends(&peer, TCP_FLAG_ACK | TCP_FLAG_FIN, "GET /");
	assert_int_equal(peer_gets(&peer).flags, TCP_FLAG_FIN | TCP_FLAG_ACK);
	assert_int_equal(f->counters.connections_destroyed.value, 1);
}

int main(void)
{
#define CASE(name)                                                             \
	cmocka_unit_test_setup_teardown(name, fixture_setup, fixture_teardown)
	const struct CMUnitTest tests[] = {
		CASE(test_one_request_is_answered_in_a_turn),
		CASE(test_many_large_answers_come_whole),
		CASE(test_answers_wait_for_memory),
		CASE(test_answers_begin_by_the_clock),
		CASE(test_new_connections_replace_the_longest_idle),
		CASE(test_connections_too_many_wait),
		CASE(test_half_open_connections_keep_nobody_out),
		CASE(test_segments_are_536_bytes_unless_told),
		CASE(test_answers_in_tiny_segments_come_whole),
		CASE(test_segment_size_counts_in_a_syn_only),
		CASE(test_segment_size_does_not_change_while_probing),
		CASE(test_windows_may_grow_from_one_byte),
		CASE(test_last_byte_may_be_a_probe),
		CASE(test_clock_stands_still_when_nothing_is_to_come),
		CASE(test_a_window_full_of_requests_is_answered),
		CASE(test_requests_of_2500_bytes_and_no_more),
		CASE(test_requests_behind_a_long_one_are_answered),
		CASE(test_bodies_are_refused_before_they_come),
		CASE(test_what_is_beyond_the_window_is_not_kept),
		CASE(test_answers_come_after_the_guests_end),
		CASE(test_half_a_request_ends_without_reset),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
