/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A microVM with the metadata service behind two interfaces, and the guest's
 * end of TCP connections to it. For tests with cmocka; what goes wrong fails
 * the test.
 */
#ifndef FAKE_MMDS_PEER_H
#define FAKE_MMDS_PEER_H

#include "tests/fake/frames.h"
#include "tests/fake/net.h"
#include "vmm/mmds.h"

#define INTERFACES 2
#define FRAMES_MAX 256
#define HTTP_PORT 80

/* What one guest interface was sent. */
struct inbox {
	uint8_t frames[FRAMES_MAX][FAKE_FRAME_MAX];
	size_t lens[FRAMES_MAX];
	size_t count, taken;
	uint8_t last[FAKE_FRAME_MAX]; /* that was taken */
};

/* The document: key is the string value, long has 40000 times the letter d. */
struct fixture {
	struct loop *loop;
	struct metrics metrics;
	struct nets *nets;
	struct mmds *mmds;
	struct mmds_metrics counters;
	struct net *net[INTERFACES];
	struct inbox inbox[INTERFACES];
};

#define LONG_LEN 40000

int fixture_setup(void **state);
int fixture_teardown(void **state);

/* Puts what the service sends into an inbox, the @arg. */
void fixture_deliver(void *arg, const uint8_t *frame, size_t len);

/* Over interface @i; the service must want it. */
void fixture_send(struct fixture *f, size_t i, const uint8_t *frame,
		  size_t len);

/* Waits for it. Good until the next one is asked for. */
const uint8_t *next_frame(struct fixture *f, size_t i, size_t *ret_len);
struct segment next_segment(struct fixture *f, size_t i);
void assert_silence(struct fixture *f, size_t i);

/* The same, with the service's clock running. */
void ticks(struct fixture *f, unsigned count);

/* A TCP connection as the guest sees it. */
struct peer {
	struct fixture *f;
	size_t i;
	uint16_t port;
	uint32_t seq, ack;
	uint16_t mss, shut; /* see struct segment */
};

void peer_sends_at(const struct peer *peer, uint32_t seq, uint8_t flags,
		   const void *data, size_t len);
void peer_sends_bytes(struct peer *peer, const void *data, size_t len);
void peer_sends(struct peer *peer, uint8_t flags, const char *data);

/* Sends the SYN of @peer, and gets the answer. */
void peer_opens(struct peer *peer);
struct peer peer_connects(struct fixture *f, size_t i, uint16_t port);

/* Reads @len bytes of data, acknowledging each segment. */
void peer_reads(struct peer *peer, char *data, size_t len);

/* The same with the long answer; checks it. */
void peer_reads_long(struct peer *peer);

/* The next segment of this connection that is more than an acknowledgement. */
struct segment peer_gets(struct peer *peer);

#define REQUEST "GET /key HTTP/1.1\r\n\r\n"
#define REQUEST_LONG "GET /long HTTP/1.1\r\n\r\n"
#define ANSWER                                                                 \
	"HTTP/1.1 200 \r\nServer: Firecracker API\r\n"                         \
	"Connection: keep-alive\r\nContent-Type: text/plain\r\n"               \
	"Content-Length: 5\r\n\r\nvalue"

/* Length of the answer to REQUEST_LONG: its number has four digits more. */
#define ANSWER_LONG_LEN (sizeof(ANSWER) - sizeof("value") + 4 + LONG_LEN)

void assert_answered(struct peer *peer);

#endif
