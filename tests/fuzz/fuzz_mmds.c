/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The metadata service as a guest reaches it. The first byte of the input says
 * how: the text of a request, given to the HTTP side as it is; data for a TCP
 * connection, cut into segments; or raw frames, two bytes of length before each
 * one, whose checksums are put right so that they get past the first check.
 */
#include "tests/fake/frames.h"
#include "tests/fake/net.h"
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

static void deliver(void *arg, const uint8_t *frame, size_t len)
{
	struct segment segment;

	(void)arg;
	assert(len <= FRAME_MAX);
	if (frame_parse_tcp(frame, len, &segment))
		service_seq = segment.seq + (uint32_t)segment.len +
			      (segment.flags & TCP_FLAG_SYN ? 1 : 0);
}

static int set_up(void)
{
	const struct log_config quiet = {.level = LOG_LEVEL_OFF};
	struct net_config config = {.iface_id = strdup("eth0"),
				    .host_dev_name = strdup("tap0")};
	struct mmds_config service = {.interface_count = 1,
				      .interfaces = calloc(1, sizeof(char *))};
	json_t *document;
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
	if (ret)
		return -1;
	document = json_pack("{s:{s:s, s:[i,s]}}", "latest", "id", "x", "list",
			     1, "two");
	ret = mmds_put(mmds, document, NULL);
	json_decref(document);
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

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	if (size < 2)
		return 0;
	switch (data[0] % 3) {
	case 0:
		ask(data + 1, size - 1);
		break;
	case 1:
		converse(data + 1, size - 1);
		break;
	default:
		send_frames(data + 1, size - 1);
		break;
	}
	return 0;
}
