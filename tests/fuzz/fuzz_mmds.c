/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The metadata service as a guest reaches it. The first byte of the input says
 * how: the text of a request, given to the HTTP side as it is; data for a TCP
 * connection, cut into segments; raw frames, two bytes of length before each
 * one, whose checksums are put right so that they get past the first check; or
 * moves of a guest that plays with TCP, three bytes for each.
 */
#include "tests/fake/frames.h"
#include "tests/fake/net.h"
#include "tests/fake/tick.h"
#include "tests/fake/turn.h"
#include "vmm/log.h"
#include "vmm/mmds_http.h"
#include "vmm/nets.h"

#include <assert.h>
#include <string.h>

#define FRAME_MAX 1514

int LLVMFuzzerInitialize(int *argc, char ***argv);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct metrics metrics;
static struct mmds_metrics counters;
static struct loop *loop;
static struct nets *nets;
static struct mmds *mmds;
static struct net *net;

/* Of the connection that the input's data goes to. */
static uint32_t service_seq;

/* Connections of the guest that plays. */
#define PLAYERS 4
#define PLAYER_PORT 2000

static struct player {
	uint16_t port;
	uint32_t seq, ack;
	size_t asked; /* bytes of its requests */
} players[PLAYERS];

static void player_hears(const struct segment *segment)
{
	struct player *player = &players[segment->to_port % PLAYERS];
	uint32_t known = player->ack - segment->seq;
	uint32_t len = (uint32_t)segment->len +
		       (segment->flags & TCP_FLAG_FIN ? 1 : 0);

	if (segment->to_port != player->port)
		return;
	if (segment->flags & TCP_FLAG_SYN)
		player->ack = segment->seq + 1;
	else if (known < len)
		player->ack += len - known;
}

static void deliver(void *arg, const uint8_t *frame, size_t len)
{
	struct segment segment;

	(void)arg;
	assert(len <= FRAME_MAX);
	if (!frame_parse_tcp(frame, len, &segment))
		return;
	service_seq = segment.seq + (uint32_t)segment.len +
		      (segment.flags & TCP_FLAG_SYN ? 1 : 0);
	player_hears(&segment);
}

static int put_document(void)
{
	char text[30001];
	json_t *document;
	int ret;

	memset(text, 'd', sizeof(text) - 1);
	text[sizeof(text) - 1] = '\0';
	document = json_pack("{s:{s:s, s:[i,s]}, s:s}", "latest", "id", "x",
			     "list", 1, "two", "long", text);
	ret = mmds_put(mmds, document, NULL);
	json_decref(document);
	return ret;
}

static int set_up(void)
{
	const struct log_config quiet = {.level = LOG_LEVEL_OFF};
	struct net_config config = {.iface_id = strdup("eth0"),
				    .host_dev_name = strdup("tap0")};
	struct mmds_config service = {.interface_count = 1,
				      .interfaces = calloc(1, sizeof(char *))};
	int ret;

	if (log_configure(&quiet, NULL) || !service.interfaces)
		return -1;
	service.interfaces[0] = strdup("eth0");
	metrics_init(&metrics, "fuzz");
	ret = loop_create(&loop);
	if (!ret)
		ret = nets_create(&nets, &metrics);
	if (!ret)
		ret = nets_set(nets, &config, NULL);
	if (!ret)
		ret = mmds_create(&mmds, "fuzz", 51200, &counters);
	if (!ret)
		ret = mmds_configure(mmds, &service, nets, NULL);
	if (!ret)
		ret = put_document();
	net = nets_find(nets, "eth0");
	fake_net_of(net)->deliver = deliver;
	return ret ? -1 : 0;
}

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
	(void)argc;
	(void)argv;
	return set_up();
}

static void ask(const uint8_t *data, size_t size)
{
	size_t head = mmds_http_head_len((const char *)data, size), len;
	char *request, *answer;
	uint64_t body;

	if (!head || head > MMDS_REQUEST_MAX)
		return;
	/* Exactly as long as it is, for the address sanitizer. */
	request = malloc(head);
	assert(request);
	memcpy(request, data, head);
	answer = mmds_http_answer(mmds, request, head, &len, &body);
	assert(answer && len > 20 && memcmp(answer, "HTTP/1.", 7) == 0);
	free(answer);
	free(request);
}

static void send_segment(uint16_t port, uint32_t seq, uint8_t flags,
			 const uint8_t *data, size_t len)
{
	const struct segment segment = {
		.from_port = port,
		.to_port = 80,
		.seq = seq,
		.ack = service_seq,
		.flags = flags,
		.data = data,
		.len = len,
	};
	uint8_t frame[FRAME_MAX];

	if (fake_net_send(net, frame, frame_tcp(frame, &segment)))
		turn_once(loop);
}

/* The first byte of each segment says where and how long it is. */
static void converse(const uint8_t *data, size_t size)
{
	static uint16_t port = 1024;
	uint32_t seq = 1;

	if (mmds_start(mmds, loop, nets, NULL))
		abort();
	port++;
	send_segment(port, 0, TCP_FLAG_SYN, NULL, 0);
	send_segment(port, seq, TCP_FLAG_ACK, NULL, 0);
	while (size > 1) {
		size_t len = MIN((size_t)data[0] % 64, size - 1);

		send_segment(port, seq,
			     data[0] & 0x40 ? TCP_FLAG_ACK
					    : TCP_FLAG_ACK | TCP_FLAG_PSH,
			     data + 1, len);
		/* Some overlap, some leave a gap. */
		seq += (uint32_t)len + (data[0] & 0x80 ? data[0] % 3u - 1 : 0);
		data += 1 + len;
		size -= 1 + len;
	}
	send_segment(port, seq, TCP_FLAG_ACK | TCP_FLAG_FIN, NULL, 0);
	mmds_stop(mmds);
}

static void send_frames(const uint8_t *data, size_t size)
{
	uint8_t frame[FRAME_MAX];

	if (mmds_start(mmds, loop, nets, NULL))
		abort();
	while (size > 2) {
		size_t len = frame_be16(data) % sizeof(frame);

		len = MIN(len, size - 2);
		memcpy(frame, data + 2, len);
		frame_fix_checksums(frame, len);
		if (fake_net_send(net, frame, len))
			turn_once(loop);
		data += 2 + len;
		size -= 2 + len;
	}
	mmds_stop(mmds);
}

/* ------------------------------------------------------------------- moves */

/* What the bytes of a move say, and who makes it. */
struct move {
	struct player *player;
	uint8_t kind, more;
	uint16_t window, mss;
};

static void say(const struct move *move, uint8_t flags, const void *data,
		size_t len)
{
	const struct player *player = move->player;
	const struct segment segment = {
		.from_port = player->port,
		.to_port = 80,
		.seq = player->seq,
		.ack = player->ack,
		.flags = flags,
		.shut = (uint16_t)(65535 - move->window),
		.mss = move->mss,
		.data = data,
		.len = len,
	};
	uint8_t frame[FRAME_MAX];

	if (fake_net_send(net, frame, frame_tcp(frame, &segment)))
		turn_once(loop);
}

static void move_open(const struct move *move)
{
	move->player->seq = 1000;
	say(move, TCP_FLAG_SYN, NULL, 0);
	move->player->seq++;
	say(move, TCP_FLAG_ACK, NULL, 0);
}

static void move_acknowledge(const struct move *move)
{
	say(move, TCP_FLAG_ACK, NULL, 0);
}

static void move_ask(const struct move *move)
{
	static const char requests[] =
		"GET /long HTTP/1.1\r\n\r\n"
		"GET /latest HTTP/1.1\r\n\r\n"
		"PUT /latest/api/token HTTP/1.1\r\n"
		"X-metadata-token-ttl-seconds: 5\r\n\r\n"
		"GET /long HTTP/1.1\r\nContent-Length: 9\r\n\r\n";
	struct player *player = move->player;
	size_t left = sizeof(requests) - 1 - player->asked;
	size_t len = MIN((size_t)move->more % 64 + 1, left);

	say(move, TCP_FLAG_ACK, requests + player->asked, len);
	player->seq += (uint32_t)len;
	player->asked = len == left ? 0 : player->asked + len;
}

/* More requests than are answered at once. */
static void move_flood(const struct move *move)
{
	char data[1400];

	memset(data, move->more, sizeof(data));
	for (size_t i = 0; i + 23 <= sizeof(data) && move->more & 1; i += 23)
		memcpy(data + i, "GET /latest HTTP/1.1\r\n\r\n", 24 - 1);
	say(move, TCP_FLAG_ACK, data, sizeof(data));
	move->player->seq += sizeof(data);
}

static void move_repeat(const struct move *move)
{
	struct player was = *move->player;

	move->player->ack -= move->more * 11u;
	say(move, TCP_FLAG_ACK, NULL, 0);
	*move->player = was;
}

static void move_foresee(const struct move *move)
{
	struct player was = *move->player;

	move->player->ack += move->more % 5u;
	say(move, TCP_FLAG_ACK, NULL, 0);
	*move->player = was;
}

static void move_jump(const struct move *move)
{
	static const char data[60] = "GET /latest HTTP/1.1\r\n\r\n";
	struct player was = *move->player;

	move->player->seq += move->more * 17u - 1000;
	say(move, move->more & 7 ? TCP_FLAG_ACK : TCP_FLAG_ACK | TCP_FLAG_FIN,
	    data, move->more % sizeof(data));
	*move->player = was;
}

static void move_end(const struct move *move)
{
	say(move, TCP_FLAG_ACK | TCP_FLAG_FIN, NULL, 0);
	move->player->seq++;
}

static void move_reset(const struct move *move)
{
	say(move, TCP_FLAG_ACK | TCP_FLAG_RST, NULL, 0);
}

static void move_begin_again(const struct move *move)
{
	say(move, move->more & 1 ? TCP_FLAG_SYN : TCP_FLAG_SYN | TCP_FLAG_ACK,
	    NULL, 0);
}

static void move_lose(const struct move *move)
{
	fake_net_of(net)->deliver = move->more & 1 ? deliver : NULL;
}

static void move_wait(const struct move *move)
{
	for (int i = move->more % 16; i >= 0; i--)
		if (fake_tick())
			turn_once(loop);
}

/* Others come, until nobody else is left in the table. */
static void move_crowd(const struct move *move)
{
	struct player other = {.seq = 7};
	struct move theirs = *move;

	theirs.player = &other;
	for (int i = 0; i < move->more % 40; i++) {
		other.port = (uint16_t)(3000 + i);
		say(&theirs, TCP_FLAG_SYN, NULL, 0);
	}
}

static void (*const moves[])(const struct move *move) = {
	move_open,  move_acknowledge, move_ask,	 move_ask,
	move_flood, move_repeat,      move_jump, move_end,
	move_reset, move_begin_again, move_lose, move_wait,
	move_wait,  move_crowd,	      move_ask,	 move_foresee,
};

static void play(const uint8_t *data, size_t size)
{
	static const uint16_t windows[] = {65535, 0,   1,   2,	 3,    10,
					   50,	  115, 200, 536, 1460, 3000};
	static const uint16_t sizes[] = {0,    0,  0,	 0,    1,   2,
					 10,   28, 64,	 100,  536, 1000,
					 1460, 0,  1461, 65535};

	if (mmds_start(mmds, loop, nets, NULL))
		abort();
	for (uint16_t i = 0; i < PLAYERS; i++)
		players[i] = (struct player){
			.port = (uint16_t)(PLAYER_PORT + i), .seq = 1000};
	for (; size > 2; data += 3, size -= 3) {
		const struct move move = {
			.player = &players[data[0] >> 4 & 3],
			.kind = data[0] & 15,
			.more = data[2],
			.window = windows[(data[1] & 15) % ARRAY_SIZE(windows)],
			.mss = sizes[data[1] >> 4],
		};

		moves[move.kind](&move);
		turn_once(loop);
	}
	fake_net_of(net)->deliver = deliver;
	mmds_stop(mmds);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	if (size < 2)
		return 0;
	switch (data[0] % 4) {
	case 0:
		ask(data + 1, size - 1);
		break;
	case 1:
		converse(data + 1, size - 1);
		break;
	case 2:
		send_frames(data + 1, size - 1);
		break;
	default:
		play(data + 1, size - 1);
		break;
	}
	return 0;
}
