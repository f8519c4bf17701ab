/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/fake/mmds_peer.h"

#include "tests/fake/tick.h"
#include "tests/fake/turn.h"
#include "vmm/nets.h"

#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

static const char *const ids[INTERFACES] = {"eth0", "eth1"};

void fixture_deliver(void *arg, const uint8_t *frame, size_t len)
{
	struct inbox *inbox = arg;

	assert_true(inbox->count - inbox->taken < FRAMES_MAX &&
		    len <= FAKE_FRAME_MAX);
	memcpy(inbox->frames[inbox->count % FRAMES_MAX], frame, len);
	inbox->lens[inbox->count++ % FRAMES_MAX] = len;
}

static void add_interface(struct fixture *f, size_t i)
{
	struct net_config config = {.iface_id = strdup(ids[i]),
				    .host_dev_name = strdup(ids[i])};

	assert_int_equal(nets_set(f->nets, &config, NULL), 0);
	f->net[i] = nets_find(f->nets, ids[i]);
	fake_net_of(f->net[i])->deliver = fixture_deliver;
	fake_net_of(f->net[i])->arg = &f->inbox[i];
}

static void put_document(struct fixture *f)
{
	char *text = calloc(1, LONG_LEN + 1);
	json_t *value;

	memset(text, 'd', LONG_LEN);
	value = json_pack("{s:s, s:s}", "key", "value", "long", text);
	assert_int_equal(mmds_put(f->mmds, value, NULL), 0);
	json_decref(value);
	free(text);
}

int fixture_setup(void **state)
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
	put_document(f);
	assert_int_equal(mmds_configure(f->mmds, &config, f->nets, NULL), 0);
	assert_int_equal(mmds_start(f->mmds, f->loop, f->nets, NULL), 0);
	*state = f;
	return 0;
}

int fixture_teardown(void **state)
{
	struct fixture *f = *state;

	for (size_t i = 0; i < INTERFACES; i++)
		fake_net_of(f->net[i])->deliver = NULL;
	mmds_destroy(f->mmds);
	nets_destroy(f->nets);
	loop_destroy(f->loop);
	metrics_release(&f->metrics);
	free(f);
	return 0;
}

void fixture_send(struct fixture *f, size_t i, const uint8_t *frame, size_t len)
{
	assert_true(fake_net_send(f->net[i], frame, len));
}

static bool frame_came(void *arg)
{
	const struct inbox *inbox = arg;

	return inbox->taken < inbox->count;
}

const uint8_t *next_frame(struct fixture *f, size_t i, size_t *ret_len)
{
	struct inbox *inbox = &f->inbox[i];

	assert_true(turn_until(f->loop, frame_came, inbox));
	*ret_len = inbox->lens[inbox->taken % FRAMES_MAX];
	memcpy(inbox->last, inbox->frames[inbox->taken++ % FRAMES_MAX],
	       *ret_len);
	return inbox->last;
}

struct segment next_segment(struct fixture *f, size_t i)
{
	struct segment segment;
	size_t len;
	const uint8_t *frame = next_frame(f, i, &len);

	assert_true(frame_parse_tcp(frame, len, &segment));
	assert_int_equal(segment.from_port, HTTP_PORT);
	assert_int_equal(frame[FRAME_ETHERNET + 8], 1); /* stays on the link */
	return segment;
}

void assert_silence(struct fixture *f, size_t i)
{
	turn_briefly(f->loop);
	assert_int_equal(f->inbox[i].count, f->inbox[i].taken);
}

void ticks(struct fixture *f, unsigned count)
{
	while (count--) {
		fake_tick();
		turn_once(f->loop);
	}
}

void peer_sends_at(const struct peer *peer, uint32_t seq, uint8_t flags,
		   const void *data, size_t len)
{
	const struct segment segment = {
		.from_port = peer->port,
		.to_port = HTTP_PORT,
		.seq = seq,
		.ack = peer->ack,
		.flags = flags,
		.shut = peer->shut,
		.mss = flags & TCP_FLAG_SYN ? peer->mss : 0,
		.data = data,
		.len = len,
	};
	uint8_t frame[FAKE_FRAME_MAX];

	fixture_send(peer->f, peer->i, frame, frame_tcp(frame, &segment));
}

void peer_sends_bytes(struct peer *peer, const void *data, size_t len)
{
	peer_sends_at(peer, peer->seq, TCP_FLAG_ACK | TCP_FLAG_PSH, data, len);
	peer->seq += (uint32_t)len;
}

void peer_sends(struct peer *peer, uint8_t flags, const char *data)
{
	peer_sends_at(peer, peer->seq, flags, data, strlen(data));
	peer->seq += (uint32_t)strlen(data) +
		     (flags & (TCP_FLAG_SYN | TCP_FLAG_FIN) ? 1 : 0);
}

void peer_opens(struct peer *peer)
{
	struct segment answer;

	peer_sends(peer, TCP_FLAG_SYN, "");
	do
		answer = next_segment(peer->f, peer->i);
	while (answer.to_port != peer->port);
	assert_int_equal(answer.flags, TCP_FLAG_SYN | TCP_FLAG_ACK);
	assert_int_equal(answer.ack, peer->seq);
	peer->ack = answer.seq + 1;
}

struct peer peer_connects(struct fixture *f, size_t i, uint16_t port)
{
	struct peer peer = {.f = f, .i = i, .port = port, .seq = 1000};

	peer_opens(&peer);
	peer_sends(&peer, TCP_FLAG_ACK, "");
	return peer;
}

void peer_reads(struct peer *peer, char *data, size_t len)
{
	size_t have = 0;

	while (have < len) {
		struct segment segment = next_segment(peer->f, peer->i);

		assert_int_equal(segment.to_port, peer->port);
		if (!segment.len || segment.seq + segment.len == peer->ack)
			continue; /* nothing, or the same again */
		assert_int_equal(segment.seq, peer->ack);
		assert_true(have + segment.len <= len);
		memcpy(data + have, segment.data, segment.len);
		have += segment.len;
		peer->ack += (uint32_t)segment.len;
		peer_sends(peer, TCP_FLAG_ACK, "");
	}
	data[have] = '\0';
}

void peer_reads_long(struct peer *peer)
{
	static char text[ANSWER_LONG_LEN + 1];
	const char *body;

	peer_reads(peer, text, ANSWER_LONG_LEN);
	body = text + ANSWER_LONG_LEN - LONG_LEN;
	assert_memory_equal(body - 4, "\r\n\r\n", 4);
	assert_int_equal(strspn(body, "d"), LONG_LEN);
}

struct segment peer_gets(struct peer *peer)
{
	struct segment segment;

	do
		segment = next_segment(peer->f, peer->i);
	while (segment.to_port != peer->port ||
	       (segment.flags == TCP_FLAG_ACK && !segment.len));
	return segment;
}

void assert_answered(struct peer *peer)
{
	char text[sizeof(ANSWER)];

	peer_reads(peer, text, strlen(ANSWER));
	assert_string_equal(text, ANSWER);
}
