/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/fake/ring.h"
#include "tests/fake/turn.h"
#include "virtio/vsock_device.h"

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/un.h>

#include <cmocka.h>

#define CID 52
#define GUEST_PORT 1024
#define BUFFER_LEN                                                             \
	UINT32_C(4140) /* as Linux posts them: 4 KiB and a header              \
			*/
#define RX_BUFFER(i) (RING_DATA + (i)*UINT64_C(0x1100))
#define BUFFERS 64
#define BLOCK 4096
#define TX_BUFFER (RING_DATA + 0x80000)

struct fixture {
	struct ring rx, tx, event;
	struct loop *loop;
	struct vsock *vsock;
	struct virtio_device *dev;
	struct vsock_metrics metrics;
	char dir[32], path[64];
};

static void activate(struct fixture *f)
{
	struct ring *rings[] = {&f->rx, &f->tx, &f->event};

	f->dev->driver_features = f->dev->features & ~BIT(VIRTIO_F_EVENT_IDX);
	for (uint16_t q = 0; q < ARRAY_SIZE(rings); q++) {
		ring_share(rings[q], &f->rx, q, BUFFERS);
		ring_describe(rings[q], &f->dev->queues[q]);
	}
	virtio_device_activate(f->dev);
	pthread_mutex_lock(&f->dev->lock);
	virtio_device_settle(f->dev);
	pthread_mutex_unlock(&f->dev->lock);
}

static void kick(struct fixture *f, uint16_t q)
{
	pthread_mutex_lock(&f->dev->lock);
	while (virtio_device_queue_event(f->dev, q))
		;
	pthread_mutex_unlock(&f->dev->lock);
}

static void post(struct fixture *f, uint16_t i, uint32_t len)
{
	ring_set_desc(&f->rx, i, RX_BUFFER(i), len, RING_WRITE, 0);
	ring_publish(&f->rx, i);
}

static void post_all(struct fixture *f, uint32_t len)
{
	for (uint16_t i = 0; i < BUFFERS; i++)
		post(f, i, len);
	kick(f, 0);
}

static void create(struct fixture *f, uint64_t max_connections)
{
	const struct vsock_config config = {
		.guest_cid = CID,
		.uds_path = f->path,
		.max_connections = max_connections,
	};

	assert_int_equal(vsock_create(&f->vsock, &config, &f->metrics, NULL),
			 0);
	f->dev = vsock_virtio(f->vsock);
	f->dev->mem = f->rx.mem;
	f->dev->loop = f->loop;
	activate(f);
}

static void destroy(struct fixture *f)
{
	pthread_mutex_lock(&f->dev->lock);
	virtio_device_reset(f->dev);
	virtio_device_settle(f->dev);
	pthread_mutex_unlock(&f->dev->lock);
	virtio_device_destroy(f->dev);
	unlink(f->path);
}

static int setup(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));

	assert_non_null(f);
	strcpy(f->dir, "/tmp/ember-vsock-XXXXXX");
	assert_non_null(mkdtemp(f->dir));
	snprintf(f->path, sizeof(f->path), "%s/v", f->dir);
	assert_int_equal(loop_create(&f->loop), 0);
	assert_int_equal(ring_create(&f->rx, BUFFERS), 0);
	create(f, 0);
	post_all(f, BUFFER_LEN);
	*state = f;
	return 0;
}

static int teardown(void **state)
{
	struct fixture *f = *state;

	destroy(f);
	ring_destroy(&f->rx);
	loop_destroy(f->loop);
	assert_int_equal(rmdir(f->dir), 0);
	free(f);
	return 0;
}

/* ------------------------------------------------------- the guest's side */

struct packet {
	struct vsock_header header;
	uint8_t data[VSOCK_DATA_MAX + 64];
	uint32_t len; /* of data */
};

static struct vsock_header header_of(enum vsock_op op, uint32_t host_port,
				     uint32_t len)
{
	return (struct vsock_header){
		.src_cid = le64_make(CID),
		.dst_cid = le64_make(VSOCK_HOST_CID),
		.src_port = le32_make(GUEST_PORT),
		.dst_port = le32_make(host_port),
		.len = le32_make(len),
		.type = le16_make(VSOCK_TYPE_STREAM),
		.op = le16_make((uint16_t)op),
		.buf_alloc = le32_make(1 << 18),
	};
}

/* @len bytes of data, whatever the header says. */
static void guest_sends(struct fixture *f, const struct vsock_header *header,
			const void *data, size_t len)
{
	uint32_t id, used;

	assert_int_equal(
		gmem_write(f->rx.mem, TX_BUFFER, header, sizeof(*header)), 0);
	assert_int_equal(gmem_write(f->rx.mem, TX_BUFFER + 0x1000, data, len),
			 0);
	ring_set_desc(&f->tx, 0, TX_BUFFER, sizeof(*header),
		      len ? RING_NEXT : 0, 1);
	ring_set_desc(&f->tx, 1, TX_BUFFER + 0x1000, (uint32_t)len, 0, 0);
	ring_publish(&f->tx, 0);
	kick(f, 1);
	assert_true(ring_take(&f->tx, &id, &used));
	assert_int_equal(id, 0);
}

static void guest_says(struct fixture *f, enum vsock_op op, uint32_t host_port)
{
	const struct vsock_header header = header_of(op, host_port, 0);

	guest_sends(f, &header, "", 0);
}

static void guest_shuts(struct fixture *f, uint32_t host_port, uint32_t flags)
{
	struct vsock_header header = header_of(VSOCK_OP_SHUTDOWN, host_port, 0);

	header.flags = le32_make(flags);
	guest_sends(f, &header, "", 0);
}

static void guest_writes(struct fixture *f, uint32_t host_port,
			 const void *data, size_t len)
{
	const struct vsock_header header =
		header_of(VSOCK_OP_RW, host_port, (uint32_t)len);

	guest_sends(f, &header, data, len);
}

/* A packet that has come already; its buffer is posted anew. */
static bool guest_has(struct fixture *f, struct packet *packet)
{
	uint32_t id, len;

	if (!ring_take(&f->rx, &id, &len))
		return false;
	assert_true(len >= VSOCK_HEADER_LEN);
	packet->len = len - (uint32_t)VSOCK_HEADER_LEN;
	assert_int_equal(gmem_read(f->rx.mem, RX_BUFFER(id), &packet->header,
				   VSOCK_HEADER_LEN),
			 0);
	assert_int_equal(gmem_read(f->rx.mem, RX_BUFFER(id) + VSOCK_HEADER_LEN,
				   packet->data, packet->len),
			 0);
	assert_int_equal(le32_get(packet->header.len), packet->len);
	assert_int_equal(le64_get(packet->header.dst_cid), CID);
	assert_int_equal(le64_get(packet->header.src_cid), VSOCK_HOST_CID);
	post(f, (uint16_t)id, BUFFER_LEN);
	kick(f, 0);
	return true;
}

struct waiting {
	struct fixture *f;
	struct packet *packet;
};

static bool packet_came(void *arg)
{
	struct waiting *waiting = arg;

	return guest_has(waiting->f, waiting->packet);
}

/* The next packet, which must be @op. Its host port. */
static uint32_t guest_gets(struct fixture *f, enum vsock_op op,
			   struct packet *packet)
{
	static struct packet ignored;
	struct waiting waiting = {f, packet ? packet : &ignored};

	assert_true(turn_until(f->loop, packet_came, &waiting));
	assert_int_equal(le16_get(waiting.packet->header.op), op);
	return le32_get(waiting.packet->header.src_port);
}

static void guest_gets_nothing(struct fixture *f)
{
	static struct packet packet;

	turn_briefly(f->loop);
	assert_false(guest_has(f, &packet));
}

/* Until it has @len bytes of data. */
static void guest_reads(struct fixture *f, void *data, size_t len)
{
	static struct packet packet;
	size_t have = 0;

	while (have < len) {
		guest_gets(f, VSOCK_OP_RW, &packet);
		assert_true(have + packet.len <= len);
		memcpy((uint8_t *)data + have, packet.data, packet.len);
		have += packet.len;
	}
}

/* -------------------------------------------------------- the host's side */

static int host_connects(struct fixture *f, const char *greeting)
{
	struct sockaddr_un addr = {.sun_family = AF_UNIX};
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0);
	ssize_t len = (ssize_t)strlen(greeting);

	strcpy(addr.sun_path, f->path);
	assert_int_equal(connect(fd, (struct sockaddr *)&addr, sizeof(addr)),
			 0);
	assert_int_equal(write(fd, greeting, (size_t)len), len);
	return fd;
}

static int host_listens(struct fixture *f, uint32_t port, int backlog)
{
	struct sockaddr_un addr = {.sun_family = AF_UNIX};
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0);

	assert_true(snprintf(addr.sun_path, sizeof(addr.sun_path), "%s_%u",
			     f->path, port) > 0);
	unlink(addr.sun_path);
	assert_int_equal(bind(fd, (struct sockaddr *)&addr, sizeof(addr)), 0);
	assert_int_equal(listen(fd, backlog), 0);
	return fd;
}

static void host_unlinks(struct fixture *f, uint32_t port)
{
	char path[128];

	snprintf(path, sizeof(path), "%s_%u", f->path, port);
	assert_int_equal(unlink(path), 0);
}

struct reading {
	int fd;
	uint8_t *data;
	size_t len, have;
	bool ended;
};

static bool has_read(void *arg)
{
	struct reading *reading = arg;
	ssize_t n = 1;

	while (n > 0 && reading->have < reading->len) {
		n = read(reading->fd, reading->data + reading->have,
			 reading->len - reading->have);
		reading->have += n > 0 ? (size_t)n : 0;
	}
	reading->ended = n == 0 || (n < 0 && errno != EAGAIN);
	return reading->ended || reading->have == reading->len;
}

/* Exactly @len bytes. */
static void host_reads(struct fixture *f, int fd, void *data, size_t len)
{
	struct reading reading = {.fd = fd, .data = data, .len = len};

	assert_true(turn_until(f->loop, has_read, &reading));
	assert_int_equal(reading.have, len);
}

static void host_gets_end(struct fixture *f, int fd)
{
	uint8_t byte;
	struct reading reading = {.fd = fd, .data = &byte, .len = 1};

	assert_true(turn_until(f->loop, has_read, &reading));
	assert_int_equal(reading.have, 0);
}

/* A connection from the host that the guest accepted; its port. */
static uint32_t connect_host(struct fixture *f, int *ret_fd)
{
	char line[32] = "", expected[32];
	uint32_t port;

	*ret_fd = host_connects(f, "CONNECT 1024\n");
	port = guest_gets(f, VSOCK_OP_REQUEST, NULL);
	guest_says(f, VSOCK_OP_RESPONSE, port);
	snprintf(expected, sizeof(expected), "OK %u\n", port);
	host_reads(f, *ret_fd, line, strlen(expected));
	assert_string_equal(line, expected);
	return port;
}

/* And one that the guest asked for. */
static int connect_guest(struct fixture *f, uint32_t port)
{
	int listener = host_listens(f, port, 8), fd;

	guest_says(f, VSOCK_OP_REQUEST, port);
	assert_int_equal(guest_gets(f, VSOCK_OP_RESPONSE, NULL), port);
	fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK);
	assert_true(fd >= 0);
	close(listener);
	host_unlinks(f, port);
	return fd;
}

/* ------------------------------------------------------------ connections */

static void test_host_connects_and_data_flows(void **state)
{
	struct fixture *f = *state;
	char text[16] = "";
	int fd;
	uint32_t port = connect_host(f, &fd);

	assert_true(port >= UINT32_C(1) << 30);
	assert_int_equal(write(fd, "to the guest", 12), 12);
	guest_reads(f, text, 12);
	assert_memory_equal(text, "to the guest", 12);
	guest_writes(f, port, "to the host", 11);
	host_reads(f, fd, text, 11);
	assert_memory_equal(text, "to the host", 11);
	assert_int_equal(f->metrics.rx_bytes_count.value, 12);
	assert_int_equal(f->metrics.tx_bytes_count.value, 11);
	close(fd);
}

static void count(void *arg)
{
	++*(int *)arg;
}

/* Neither a guest's own connection nor one that it refuses, and only once. */
static void test_accept_is_told_once(void **state)
{
	struct fixture *f = *state;
	int accepted = 0, fds[4];
	uint32_t port;

	vsock_on_accept(f->vsock, count, &accepted);
	fds[0] = connect_guest(f, 77);
	fds[1] = host_connects(f, "CONNECT 1024\n");
	port = guest_gets(f, VSOCK_OP_REQUEST, NULL);
	guest_says(f, VSOCK_OP_RST, port);
	host_gets_end(f, fds[1]);
	assert_int_equal(accepted, 0);
	connect_host(f, &fds[2]);
	assert_int_equal(accepted, 1);
	connect_host(f, &fds[3]);
	assert_int_equal(accepted, 1);
	for (size_t i = 0; i < ARRAY_SIZE(fds); i++)
		close(fds[i]);
}

static void test_each_connection_has_its_own_port(void **state)
{
	struct fixture *f = *state;
	int fds[3];
	uint32_t ports[3];

	for (int i = 0; i < 3; i++)
		ports[i] = connect_host(f, &fds[i]);
	assert_int_not_equal(ports[0], ports[1]);
	assert_int_not_equal(ports[1], ports[2]);
	for (int i = 0; i < 3; i++) {
		char byte = 0, sent = (char)('a' + i);

		guest_writes(f, ports[i], &sent, 1);
		host_reads(f, fds[i], &byte, 1);
		assert_int_equal(byte, sent);
		close(fds[i]);
	}
}

static void test_greetings_of_any_legal_form(void **state)
{
	static const char *const greetings[] = {
		"CONNECT 1024\n",	"connect 1024\n",
		"Connect \t 1024 \r\n", "CONNECT 1024 and more\n",
		"CONNECT 0000001024\n",
	};
	struct fixture *f = *state;

	for (size_t i = 0; i < ARRAY_SIZE(greetings); i++) {
		int fd = host_connects(f, greetings[i]);
		static struct packet packet;

		guest_gets(f, VSOCK_OP_REQUEST, &packet);
		assert_int_equal(le32_get(packet.header.dst_port), 1024);
		guest_says(f, VSOCK_OP_RST, le32_get(packet.header.src_port));
		host_gets_end(f, fd);
		close(fd);
	}
}

static void test_greetings_that_are_none_close(void **state)
{
	static const char *const greetings[] = {
		"\n",
		"CONNECT\n",
		"CONNECT \n",
		"CONNECTX 5\n",
		"GET / HTTP/1.1\r\n",
		"CONNECT 4294967296\n",
		"CONNECT -1\n",
		"CONNECT 0x10\n",
		"CONNECT 99999999999999999999\n",
		"CONNECT 1024                                  \n",
		"a line that goes on and on and on and never ends",
	};
	struct fixture *f = *state;

	for (size_t i = 0; i < ARRAY_SIZE(greetings); i++) {
		int fd = host_connects(f, greetings[i]);

		host_gets_end(f, fd);
		close(fd);
	}
	guest_gets_nothing(f);
	assert_int_equal(f->metrics.conns_added.value, ARRAY_SIZE(greetings));
	assert_int_equal(f->metrics.conns_removed.value, ARRAY_SIZE(greetings));
}

static void test_greeting_byte_by_byte_with_data_behind(void **state)
{
	struct fixture *f = *state;
	const char *rest = "ONNECT 1024\nhello";
	int fd = host_connects(f, "C");
	char text[8];
	uint32_t port;

	for (; *rest; rest++) {
		turn_briefly(f->loop);
		assert_int_equal(write(fd, rest, 1), 1);
	}
	port = guest_gets(f, VSOCK_OP_REQUEST, NULL);
	guest_gets_nothing(f); /* data waits for the answer */
	guest_says(f, VSOCK_OP_RESPONSE, port);
	guest_reads(f, text, 5);
	assert_memory_equal(text, "hello", 5);
	close(fd);
}

static void test_guest_connects_to_a_path(void **state)
{
	struct fixture *f = *state;
	int fd = connect_guest(f, 77);
	char text[8];

	guest_writes(f, 77, "abc", 3);
	host_reads(f, fd, text, 3);
	assert_memory_equal(text, "abc", 3);
	assert_int_equal(write(fd, "defg", 4), 4);
	guest_reads(f, text, 4);
	assert_memory_equal(text, "defg", 4);
	close(fd);
}

static void test_guest_gets_reset_when_nobody_listens(void **state)
{
	struct fixture *f = *state;
	int listener;

	guest_says(f, VSOCK_OP_REQUEST, 5);
	assert_int_equal(guest_gets(f, VSOCK_OP_RST, NULL), 5);
	listener = host_listens(f, 6, 8);
	close(listener); /* the path is there, the listener is not */
	guest_says(f, VSOCK_OP_REQUEST, 6);
	assert_int_equal(guest_gets(f, VSOCK_OP_RST, NULL), 6);
	host_unlinks(f, 6);
	assert_int_equal(f->metrics.conns_removed.value, 2);
}

/* -------------------------------------------------------------------- ends */

static void test_host_closes(void **state)
{
	struct fixture *f = *state;
	static struct packet packet;
	int fd;
	uint32_t port = connect_host(f, &fd);

	assert_int_equal(write(fd, "last", 4), 4);
	close(fd);
	guest_gets(f, VSOCK_OP_RW, &packet);
	assert_int_equal(packet.len, 4);
	guest_gets(f, VSOCK_OP_SHUTDOWN, &packet);
	assert_int_equal(le32_get(packet.header.flags), VSOCK_SHUTDOWN_BOTH);
	guest_says(f, VSOCK_OP_RST, port);
	guest_gets_nothing(f);
	assert_int_equal(f->metrics.conns_removed.value, 1);
}

static void test_host_shuts_one_direction(void **state)
{
	struct fixture *f = *state;
	static struct packet packet;
	char text[8];
	int fd;
	uint32_t port = connect_host(f, &fd);

	shutdown(fd, SHUT_WR);
	guest_gets(f, VSOCK_OP_SHUTDOWN, &packet);
	assert_int_equal(le32_get(packet.header.flags), VSOCK_SHUTDOWN_SEND);
	guest_writes(f, port, "reply", 5);
	host_reads(f, fd, text, 5);
	assert_memory_equal(text, "reply", 5);
	close(fd);
	guest_gets(f, VSOCK_OP_SHUTDOWN, &packet);
	assert_int_equal(le32_get(packet.header.flags), VSOCK_SHUTDOWN_BOTH);
}

static void test_guest_shuts_one_direction(void **state)
{
	struct fixture *f = *state;
	char text[8];
	int fd;
	uint32_t port = connect_host(f, &fd);

	guest_writes(f, port, "end", 3);
	guest_shuts(f, port, VSOCK_SHUTDOWN_SEND);
	host_reads(f, fd, text, 3);
	host_gets_end(f, fd);
	assert_int_equal(write(fd, "reply", 5), 5);
	guest_reads(f, text, 5);
	guest_shuts(f, port, VSOCK_SHUTDOWN_BOTH);
	guest_gets(f, VSOCK_OP_RST, NULL);
	assert_int_equal(f->metrics.conns_removed.value, 1);
	close(fd);
}

static void write_block(struct fixture *f, uint32_t port, size_t number)
{
	uint8_t block[BLOCK];

	memset(block, (int)number, sizeof(block));
	guest_writes(f, port, block, sizeof(block));
}

/* As much as there is credit for, when nobody reads. The number of blocks. */
static size_t fill_up(struct fixture *f, uint32_t port)
{
	static struct packet packet;
	size_t blocks = 0, forwarded = 0;

	do {
		for (; blocks * BLOCK < forwarded + VSOCK_BUF_ALLOC; blocks++)
			write_block(f, port, blocks);
		turn_briefly(f->loop);
		while (guest_has(f, &packet))
			forwarded = le32_get(packet.header.fwd_cnt);
	} while (blocks * BLOCK < forwarded + VSOCK_BUF_ALLOC);
	return blocks;
}

/* Passes over credit updates. */
static void guest_gets_at_last(struct fixture *f, enum vsock_op op)
{
	static struct packet packet;
	struct waiting waiting = {f, &packet};

	do
		assert_true(turn_until(f->loop, packet_came, &waiting));
	while (le16_get(packet.header.op) == VSOCK_OP_CREDIT_UPDATE);
	assert_int_equal(le16_get(packet.header.op), op);
}

static void test_guest_closes_with_data_unread(void **state)
{
	struct fixture *f = *state;
	uint8_t block[BLOCK];
	int fd;
	uint32_t port = connect_host(f, &fd);
	size_t blocks = fill_up(f, port);

	assert_true(blocks * BLOCK > VSOCK_BUF_ALLOC);
	guest_shuts(f, port, VSOCK_SHUTDOWN_BOTH);
	guest_gets_at_last(f, VSOCK_OP_RST);
	for (size_t i = 0; i < blocks; i++) {
		host_reads(f, fd, block, sizeof(block));
		assert_int_equal(block[0], (uint8_t)i);
		assert_int_equal(block[BLOCK - 1], (uint8_t)i);
	}
	host_gets_end(f, fd);
	assert_int_equal(f->metrics.conns_removed.value, 1);
	close(fd);
}

static void test_host_that_hangs_up_while_data_waits(void **state)
{
	struct fixture *f = *state;
	int fd;
	uint32_t port = connect_host(f, &fd);

	(void)fill_up(f, port);
	close(fd);
	guest_gets_at_last(f, VSOCK_OP_SHUTDOWN);
	write_block(f, port, 0); /* into the void */
	guest_says(f, VSOCK_OP_RST, port);
	turn_briefly(f->loop);
	assert_int_equal(f->metrics.conns_removed.value, 1);
}

/* ------------------------------------------------------------------ credit */

static struct vsock_header credit_update(uint32_t port, uint32_t buf_alloc,
					 uint32_t fwd_cnt)
{
	struct vsock_header header = header_of(VSOCK_OP_CREDIT_UPDATE, port, 0);

	header.buf_alloc = le32_make(buf_alloc);
	header.fwd_cnt = le32_make(fwd_cnt);
	return header;
}

static void test_data_stops_without_credit(void **state)
{
	struct fixture *f = *state;
	struct vsock_header update;
	static struct packet packet;
	char text[250];
	int fd;
	uint32_t port = connect_host(f, &fd);

	update = credit_update(port, 100, 0);
	guest_sends(f, &update, "", 0);
	memset(text, 'x', sizeof(text));
	assert_int_equal(write(fd, text, 250), 250);
	guest_reads(f, text, 100);
	guest_gets(f, VSOCK_OP_CREDIT_REQUEST, NULL);
	/* A guest without room says so; asking again would never end. */
	guest_sends(f, &update, "", 0);
	guest_gets_nothing(f);
	update = credit_update(port, 100, 60);
	guest_sends(f, &update, "", 0);
	guest_reads(f, text, 60);
	guest_gets(f, VSOCK_OP_CREDIT_REQUEST, NULL);
	/* Forged: more forwarded than was ever sent is no room. */
	update = credit_update(port, 100, 5000);
	guest_sends(f, &update, "", 0);
	guest_gets_nothing(f);
	update = credit_update(port, UINT32_MAX, 160);
	guest_sends(f, &update, "", 0);
	guest_gets(f, VSOCK_OP_RW, &packet);
	assert_int_equal(packet.len, 90);
	close(fd);
}

static void test_credit_comes_back_as_the_host_reads(void **state)
{
	static uint8_t data[VSOCK_BUF_ALLOC];
	struct fixture *f = *state;
	static struct packet packet;
	int fd;
	uint32_t port = connect_host(f, &fd);

	guest_writes(f, port, data, 1000);
	guest_gets_nothing(f); /* not for so little */
	guest_says(f, VSOCK_OP_CREDIT_REQUEST, port);
	guest_gets(f, VSOCK_OP_CREDIT_UPDATE, &packet);
	assert_int_equal(le32_get(packet.header.fwd_cnt), 1000);
	assert_int_equal(le32_get(packet.header.buf_alloc), VSOCK_BUF_ALLOC);
	guest_writes(f, port, data, 62000);
	guest_gets(f, VSOCK_OP_CREDIT_UPDATE, &packet);
	assert_int_equal(le32_get(packet.header.fwd_cnt), 63000);
	host_reads(f, fd, data, 63000);
	close(fd);
}

/* The host reads nothing; the guest goes on beyond what it was given. */
static void test_guest_beyond_its_credit_is_cut_off(void **state)
{
	static uint8_t data[32768];
	struct fixture *f = *state;
	static struct packet packet = {0};
	int fd;
	uint32_t port = connect_host(f, &fd);

	for (int i = 0; i < 100; i++) {
		guest_writes(f, port, data, sizeof(data));
		if (guest_has(f, &packet) &&
		    le16_get(packet.header.op) == VSOCK_OP_RST)
			break;
	}
	assert_int_equal(le16_get(packet.header.op), VSOCK_OP_RST);
	assert_int_equal(f->metrics.conns_killed.value, 1);
	assert_int_equal(f->metrics.conns_removed.value, 1);
	close(fd);
}

/* ------------------------------------------------------------- adversaries */

static void test_forged_packets_change_nothing(void **state)
{
	struct fixture *f = *state;
	struct vsock_header header;
	char byte;
	int fd;
	uint32_t port = connect_host(f, &fd);

	header = header_of(VSOCK_OP_RST, port, 0);
	header.src_cid = le64_make(CID + 1);
	guest_sends(f, &header, "", 0);
	header.src_cid = le64_make(CID | UINT64_C(1) << 32);
	guest_sends(f, &header, "", 0);
	header = header_of(VSOCK_OP_REQUEST, 5, 0);
	header.dst_cid = le64_make(3);
	guest_sends(f, &header, "", 0);
	header.dst_cid = le64_make(UINT64_MAX);
	guest_sends(f, &header, "", 0);
	guest_gets_nothing(f);
	guest_writes(f, port, "x", 1);
	host_reads(f, fd, &byte, 1);
	close(fd);
}

static void test_unknown_connections_are_reset(void **state)
{
	static const enum vsock_op ops[] = {
		VSOCK_OP_RESPONSE,
		VSOCK_OP_SHUTDOWN,
		VSOCK_OP_RW,
		VSOCK_OP_CREDIT_UPDATE,
		VSOCK_OP_CREDIT_REQUEST,
		VSOCK_OP_INVALID,
	};
	struct fixture *f = *state;

	for (size_t i = 0; i < ARRAY_SIZE(ops); i++) {
		guest_says(f, ops[i], 99);
		assert_int_equal(guest_gets(f, VSOCK_OP_RST, NULL), 99);
	}
	guest_says(f, (enum vsock_op)4711, 99);
	guest_gets(f, VSOCK_OP_RST, NULL);
	guest_says(f, VSOCK_OP_RST, 99); /* or two would never stop */
	guest_gets_nothing(f);
	assert_int_equal(f->metrics.conns_added.value, 0);
}

static void test_bad_packets_end_their_connection(void **state)
{
	static const struct {
		uint16_t type, op;
		uint32_t len;
	} cases[] = {
		{VSOCK_TYPE_STREAM, VSOCK_OP_REQUEST, 0},
		{VSOCK_TYPE_STREAM, VSOCK_OP_INVALID, 0},
		{VSOCK_TYPE_STREAM, 8, 0},
		{VSOCK_TYPE_STREAM, UINT16_MAX, 0},
		{2, VSOCK_OP_RW, 0},		       /* no such type */
		{VSOCK_TYPE_STREAM, VSOCK_OP_RW, 100}, /* says more */
		{VSOCK_TYPE_STREAM, VSOCK_OP_RW, UINT32_MAX},
		{VSOCK_TYPE_STREAM, VSOCK_OP_RW, VSOCK_DATA_MAX + 1},
	};
	struct fixture *f = *state;

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		int fd;
		uint32_t port = connect_host(f, &fd);
		struct vsock_header header =
			header_of(VSOCK_OP_RW, port, cases[i].len);

		header.type = le16_make(cases[i].type);
		header.op = le16_make(cases[i].op);
		guest_sends(f, &header, "abc", 3);
		assert_int_equal(guest_gets(f, VSOCK_OP_RST, NULL), port);
		host_gets_end(f, fd);
		close(fd);
	}
}

static void test_evil_transmit_chains_come_back(void **state)
{
	static const struct {
		uint64_t at;
		uint32_t len;
		uint16_t flags;
	} cases[] = {
		{TX_BUFFER, 43, 0},	      {TX_BUFFER, 0, 0},
		{TX_BUFFER, 100, RING_WRITE}, {RING_MEMORY - 8, 100, 0},
		{UINT64_MAX - 8, 100, 0},
	};
	struct fixture *f = *state;

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		uint32_t id, len;

		ring_set_desc(&f->tx, 4, cases[i].at, cases[i].len,
			      cases[i].flags, 0);
		ring_publish(&f->tx, 4);
		kick(f, 1);
		assert_true(ring_take(&f->tx, &id, &len));
		assert_int_equal(id, 4);
	}
	guest_gets_nothing(f);
	guest_says(f, VSOCK_OP_RW, 3);
	guest_gets(f, VSOCK_OP_RST, NULL);
}

/* Data that is announced, but lies outside RAM. */
static void test_data_outside_memory_ends_the_connection(void **state)
{
	struct fixture *f = *state;
	uint32_t id, len;
	int fd;
	uint32_t port = connect_host(f, &fd);
	const struct vsock_header header = header_of(VSOCK_OP_RW, port, 100);

	assert_int_equal(
		gmem_write(f->rx.mem, TX_BUFFER, &header, sizeof(header)), 0);
	ring_set_desc(&f->tx, 0, TX_BUFFER, sizeof(header), RING_NEXT, 1);
	ring_set_desc(&f->tx, 1, RING_MEMORY - 10, 100, 0, 0);
	ring_publish(&f->tx, 0);
	kick(f, 1);
	assert_true(ring_take(&f->tx, &id, &len));
	turn_briefly(f->loop);
	assert_true(f->dev->active);
	guest_says(f, VSOCK_OP_RST, port);
	host_gets_end(f, fd);
	close(fd);
}

static void test_guest_that_never_reads_is_owed_little(void **state)
{
	struct fixture *f = *state;
	static struct packet packet;
	int resets = 0;

	/* All its buffers filled, then a flood that asks for answers. */
	for (uint32_t i = 0; i < 2000; i++)
		guest_says(f, VSOCK_OP_RW, 100 + i);
	while (turn_briefly(f->loop), guest_has(f, &packet)) {
		assert_int_equal(le16_get(packet.header.op), VSOCK_OP_RST);
		resets++;
	}
	assert_in_range(resets, BUFFERS, BUFFERS + 256);
	guest_says(f, VSOCK_OP_RW, 5);
	assert_int_equal(guest_gets(f, VSOCK_OP_RST, NULL), 5);
}

static void test_broken_queues_need_a_reset(void **state)
{
	struct fixture *f = *state;
	int fd;

	for (uint16_t q = 0; q < 2; q++) {
		uint32_t port;

		if (q == 0)
			post(f, 0, 10); /* no room for a header */
		else
			ring_publish(&f->tx, 999);
		kick(f, q);
		for (int i = 0; i < BUFFERS + 1 && f->dev->active; i++)
			guest_says(f, VSOCK_OP_RW, 5);
		assert_false(f->dev->active);
		assert_true(f->dev->status & VIRTIO_STATUS_NEEDS_RESET);
		pthread_mutex_lock(&f->dev->lock);
		virtio_device_reset(f->dev);
		pthread_mutex_unlock(&f->dev->lock);
		activate(f);
		post_all(f, BUFFER_LEN);
		port = connect_host(f, &fd);
		guest_says(f, VSOCK_OP_RST, port);
		close(fd);
	}
}

/* ------------------------------------------------------------------ limits */

static void test_connections_are_limited(void **state)
{
	struct fixture *f = *state;
	uint32_t port;
	int fds[3];

	destroy(f);
	create(f, 2);
	post_all(f, BUFFER_LEN);
	port = connect_host(f, &fds[0]);
	fds[1] = connect_guest(f, 9);
	fds[2] = host_connects(f, "");
	host_gets_end(f, fds[2]);
	close(fds[2]);
	guest_says(f, VSOCK_OP_REQUEST, 10);
	guest_gets(f, VSOCK_OP_RST, NULL);
	/* One that ends makes room. */
	guest_says(f, VSOCK_OP_RST, port);
	host_gets_end(f, fds[0]);
	connect_host(f, &fds[2]);
	for (int i = 0; i < 3; i++)
		close(fds[i]);
}

static void test_reset_of_the_device_ends_everything(void **state)
{
	struct fixture *f = *state;
	int fds[3];

	connect_host(f, &fds[0]);
	fds[1] = connect_guest(f, 9);
	fds[2] = host_connects(f, "CONNECT 1024\n");
	guest_gets(f, VSOCK_OP_REQUEST, NULL);
	pthread_mutex_lock(&f->dev->lock);
	virtio_device_reset(f->dev);
	pthread_mutex_unlock(&f->dev->lock);
	activate(f);
	post_all(f, BUFFER_LEN);
	for (int i = 0; i < 3; i++) {
		host_gets_end(f, fds[i]);
		close(fds[i]);
	}
	assert_int_equal(f->metrics.conns_removed.value, 3);
	connect_host(f, &fds[0]);
	close(fds[0]);
}

static void test_full_backlog_is_waited_for(void **state)
{
	struct fixture *f = *state;
	int listener = host_listens(f, 8, 0), first, second;

	guest_says(f, VSOCK_OP_REQUEST, 8);
	guest_gets(f, VSOCK_OP_RESPONSE, NULL);
	guest_says(f, VSOCK_OP_RW, 4); /* others are served meanwhile */
	guest_gets(f, VSOCK_OP_RST, NULL);
	{
		struct vsock_header header = header_of(VSOCK_OP_REQUEST, 8, 0);

		header.src_port = le32_make(GUEST_PORT + 1);
		guest_sends(f, &header, "", 0);
	}
	guest_gets_nothing(f);
	first = accept(listener, NULL, NULL);
	assert_true(first >= 0);
	guest_gets(f, VSOCK_OP_RESPONSE, NULL);
	second = accept(listener, NULL, NULL);
	assert_true(second >= 0);
	close(first);
	close(second);
	close(listener);
	host_unlinks(f, 8);
}

static void test_who_does_not_answer_is_dropped(void **state)
{
	struct fixture *f = *state;
	int listener = host_listens(f, 8, 0);
	int silent = host_connects(f, "CONN");
	int waiting = host_connects(f, "CONNECT 1024\n");
	uint32_t port;
	int closed;

	port = guest_gets(f, VSOCK_OP_REQUEST, NULL);
	connect_host(f, &closed);
	close(closed);
	guest_gets(f, VSOCK_OP_SHUTDOWN, NULL); /* and the guest says nothing */
	host_gets_end(f, silent);
	assert_int_equal(guest_gets(f, VSOCK_OP_RST, NULL), port);
	guest_gets(f, VSOCK_OP_RST, NULL);
	host_gets_end(f, waiting);
	assert_int_equal(f->metrics.conns_killed.value, 3);
	assert_int_equal(f->metrics.conns_removed.value, 3);
	close(silent);
	close(waiting);
	close(listener);
	host_unlinks(f, 8);
}

/* ---------------------------------------------------- ends that nobody likes
 */

static bool no_connection(void *arg)
{
	struct fixture *f = arg;

	return f->metrics.conns_removed.value == f->metrics.conns_added.value;
}

/* Fills what the host's socket takes and some of what we keep beside it. */
static void guest_writes_until_it_waits(struct fixture *f, uint32_t port)
{
	static const uint8_t data[16384];
	struct conn *conn = vsock_table_find(f->vsock, port, GUEST_PORT);

	assert_non_null(conn);
	while (conn->pending_len + sizeof(data) <= VSOCK_BUF_ALLOC) {
		guest_writes(f, port, data, sizeof(data));
		turn_once(f->loop);
	}
	assert_true(conn->pending_len > 0);
}

static void take_all_packets(struct fixture *f)
{
	static struct packet packet;

	turn_briefly(f->loop);
	while (guest_has(f, &packet))
		turn_once(f->loop);
}

struct slow_hosts {
	const struct vsock *vsock;
	int fds[2];
};

static bool nothing_waits(void *arg)
{
	const struct slow_hosts *hosts = arg;
	char data[16384];

	for (size_t i = 0; i < ARRAY_SIZE(hosts->fds); i++)
		while (read(hosts->fds[i], data, sizeof(data)) > 0)
			;
	return hosts->vsock->pending_count == 0;
}

/* Of two that waited one buffer is kept, for whoever waits next. */
static void test_hosts_that_were_slow_leave_a_buffer(void **state)
{
	struct fixture *f = *state;
	struct slow_hosts hosts = {f->vsock,
				   {connect_guest(f, 8), connect_guest(f, 9)}};
	uint8_t *spare;

	assert_null(f->vsock->spare);
	guest_writes_until_it_waits(f, 8);
	guest_writes_until_it_waits(f, 9);
	assert_int_equal(f->vsock->pending_count, 2);
	assert_true(turn_until(f->loop, nothing_waits, &hosts));
	spare = f->vsock->spare;
	assert_non_null(spare);
	take_all_packets(f);
	guest_writes_until_it_waits(f, 8);
	assert_ptr_equal(vsock_table_find(f->vsock, 8, GUEST_PORT)->pending,
			 spare);
	assert_null(f->vsock->spare);
	close(hosts.fds[0]);
	close(hosts.fds[1]);
}

/* Killed with data pending, then closed before the RST is out: once this left
 * a connection that nothing would ever end. */
static void test_close_after_a_kill_leaves_nothing(void **state)
{
	struct fixture *f = *state;
	int fd = connect_guest(f, 8);

	guest_writes_until_it_waits(f, 8);
	destroy(f);
	create(f, 0); /* a guest that posts no buffers */
	close(fd);
	f->metrics = (struct vsock_metrics){0};
	fd = host_listens(f, 8, 8);
	guest_says(f, VSOCK_OP_REQUEST, 8);
	guest_writes_until_it_waits(f, 8);
	guest_says(f, VSOCK_OP_REQUEST, 8); /* a second time: an offence */
	assert_int_equal(f->vsock->pending_count, 0);
	guest_shuts(f, 8, VSOCK_SHUTDOWN_BOTH);
	post_all(f, BUFFER_LEN);
	take_all_packets(f);
	assert_true(no_connection(f));
	close(fd);
	host_unlinks(f, 8);
}

/* A host that does not read what a guest left behind has as long as any other
 * peer that does not answer. */
static void test_data_left_behind_does_not_wait_for_ever(void **state)
{
	struct fixture *f = *state;
	int fd = connect_guest(f, 8);

	guest_writes_until_it_waits(f, 8);
	take_all_packets(f);
	guest_shuts(f, 8, VSOCK_SHUTDOWN_BOTH);
	guest_gets(f, VSOCK_OP_RST, NULL);
	assert_int_equal(f->metrics.conns_removed.value, 0);
	assert_int_equal(send(fd, "x", 1, MSG_NOSIGNAL), -1);
	assert_int_equal(errno, EPIPE); /* nobody reads */
	assert_true(turn_until(f->loop, no_connection, f));
	assert_int_equal(f->metrics.conns_killed.value, 1);
	assert_int_equal(f->vsock->pending_count, 0);
	close(fd);
}

/* It is told, and what it still writes goes nowhere without stopping it. */
static void test_host_that_reads_no_more(void **state)
{
	static const uint8_t data[30000];
	struct fixture *f = *state;
	static struct packet packet;
	char text[8];
	int fd;
	uint32_t port = connect_host(f, &fd);

	shutdown(fd, SHUT_RD);
	guest_writes(f, port, data, sizeof(data));
	guest_gets(f, VSOCK_OP_SHUTDOWN, &packet);
	assert_int_equal(le32_get(packet.header.flags), VSOCK_SHUTDOWN_RECEIVE);
	for (int i = 0; i < 8; i++)
		guest_writes(f, port, data, sizeof(data));
	guest_says(f, VSOCK_OP_CREDIT_REQUEST, port);
	guest_gets(f, VSOCK_OP_CREDIT_UPDATE, &packet);
	assert_int_equal(le32_get(packet.header.fwd_cnt), 9 * sizeof(data));
	assert_int_equal(write(fd, "still", 5), 5);
	guest_reads(f, text, 5);
	close(fd);
	guest_gets(f, VSOCK_OP_SHUTDOWN, &packet);
	assert_int_equal(le32_get(packet.header.flags), VSOCK_SHUTDOWN_BOTH);
}

static void send_with_descriptor(int fd, const char *text)
{
	union {
		struct cmsghdr header;
		char space[CMSG_SPACE(sizeof(int))];
	} control = {.header = {.cmsg_level = SOL_SOCKET,
				.cmsg_type = SCM_RIGHTS,
				.cmsg_len = CMSG_LEN(sizeof(int))}};
	char copy[8];
	struct iovec iov = {copy, strlen(text)};
	struct msghdr message = {.msg_iov = &iov,
				 .msg_iovlen = 1,
				 .msg_control = &control,
				 .msg_controllen = sizeof(control)};

	memcpy(copy, text, strlen(text));
	memcpy(CMSG_DATA(&control.header), &fd, sizeof(fd));
	assert_int_equal(sendmsg(fd, &message, 0), strlen(text));
}

/* Reads that end before the data does: behind descriptors that came along, and
 * before an out-of-band byte. */
static void test_data_in_pieces_arrives_whole(void **state)
{
	struct fixture *f = *state;
	char text[16];
	int fd;

	connect_host(f, &fd);
	turn_briefly(f->loop);
	send_with_descriptor(fd, "AAAA");
	assert_int_equal(write(fd, "BBBB", 4), 4);
	guest_reads(f, text, 8);
	assert_memory_equal(text, "AAAABBBB", 8);
	if (send(fd, "X", 1, MSG_OOB) == 1) { /* Linux 5.15 */
		assert_int_equal(write(fd, "CCCC", 4), 4);
		guest_reads(f, text, 4);
		assert_memory_equal(text, "CCCC", 4);
	}
	close(fd);
}

static void test_failure_ends_connections_soon(void **state)
{
	struct fixture *f = *state;
	struct loop_source kick_source = {.fd = eventfd(0, EFD_NONBLOCK)};
	uint64_t kicks = 0;
	int fd;

	connect_host(f, &fd);
	f->dev->kicks[0] = &kick_source;
	ring_publish(&f->tx, 999);
	kick(f, 1);
	assert_true(f->dev->status & VIRTIO_STATUS_NEEDS_RESET);
	assert_int_equal(read(kick_source.fd, &kicks, sizeof(kicks)),
			 sizeof(kicks));
	f->dev->kicks[0] = NULL;
	kick(f, 0); /* what the loop does on hearing it */
	host_gets_end(f, fd);
	close(fd);
	close(kick_source.fd);
}

/* However many connections there are, a reset of the device takes only a few of
 * them apart in one turn. */
static void test_reset_with_a_crowd_is_done_in_steps(void **state)
{
	enum { CROWD = 1000 };
	struct fixture *f = *state;
	int listener = host_listens(f, 8, 0);
	struct vsock_header header = header_of(VSOCK_OP_REQUEST, 8, 0);

	for (uint32_t i = 0; i < CROWD; i++) {
		header.src_port = le32_make(5000 + i);
		guest_sends(f, &header, "", 0);
	}
	assert_int_equal(f->metrics.conns_added.value, CROWD);
	pthread_mutex_lock(&f->dev->lock);
	virtio_device_reset(f->dev);
	virtio_device_settle(f->dev);
	pthread_mutex_unlock(&f->dev->lock);
	assert_in_range(f->metrics.conns_removed.value, 1, CROWD / 2);
	activate(f);
	assert_true(turn_until(f->loop, no_connection, f));
	assert_int_equal(f->vsock->conn_count, 0);
	close(listener);
	host_unlinks(f, 8);
}

/* ----------------------------------------------------- sizes and creation */

static void test_small_buffers_get_data_in_pieces(void **state)
{
	struct fixture *f = *state;
	static struct packet packet;
	size_t have = 0;
	char text[100];
	int fd;

	connect_host(f, &fd);
	pthread_mutex_lock(&f->dev->lock);
	virtio_device_reset(f->dev);
	pthread_mutex_unlock(&f->dev->lock);
	close(fd);
	activate(f);
	for (uint16_t i = 0; i < 32; i++)
		post(f, i, VSOCK_HEADER_LEN + i % 10);
	kick(f, 0);
	connect_host(f, &fd);
	for (size_t i = 0; i < sizeof(text); i++)
		text[i] = (char)i;
	assert_int_equal(write(fd, text, sizeof(text)), sizeof(text));
	while (have < sizeof(text)) {
		uint32_t id, len;

		turn_briefly(f->loop);
		assert_true(ring_take(&f->rx, &id, &len));
		assert_true(len <= VSOCK_HEADER_LEN + id % 10);
		assert_int_equal(gmem_read(f->rx.mem,
					   RX_BUFFER(id) + VSOCK_HEADER_LEN,
					   packet.data, id % 10),
				 0);
		for (size_t i = 0; i + VSOCK_HEADER_LEN < len; i++)
			assert_int_equal(packet.data[i], (uint8_t)have++);
	}
	close(fd);
}

/* What a connection has moved so far. */
struct traffic {
	uint8_t out[1 << 20], back[1 << 20];
	size_t sent, received;
	uint32_t guest_has_read;
};

static void host_moves(struct traffic *traffic, int fd)
{
	ssize_t n = write(fd, traffic->out + traffic->sent,
			  sizeof(traffic->out) - traffic->sent);

	traffic->sent += n > 0 ? (size_t)n : 0;
	n = read(fd, traffic->back + traffic->received,
		 sizeof(traffic->back) - traffic->received);
	assert_true(n > 0 || errno == EAGAIN);
	traffic->received += n > 0 ? (size_t)n : 0;
}

static void test_megabyte_both_ways_compares_equal(void **state)
{
	static struct traffic traffic;
	static struct packet packet;
	struct fixture *f = *state;
	int fd;
	uint32_t port = connect_host(f, &fd);

	for (size_t i = 0; i < sizeof(traffic.out); i++)
		traffic.out[i] = (uint8_t)(i * 31 + i / 256);
	/* The guest echoes what it gets. */
	while (traffic.received < sizeof(traffic.out)) {
		struct vsock_header header;

		host_moves(&traffic, fd);
		turn_once(f->loop);
		if (!guest_has(f, &packet) ||
		    le16_get(packet.header.op) != VSOCK_OP_RW)
			continue;
		traffic.guest_has_read += packet.len;
		header = header_of(VSOCK_OP_RW, port, packet.len);
		header.fwd_cnt = le32_make(traffic.guest_has_read);
		guest_sends(f, &header, packet.data, packet.len);
	}
	assert_memory_equal(traffic.out, traffic.back, sizeof(traffic.out));
	close(fd);
}

static void test_create_refuses_what_cannot_be(void **state)
{
	struct fixture *f = *state;
	static char missing[] = "/nonexistent/dir/v";
	char endless[200], fresh[64];
	const struct {
		struct vsock_config config;
		const char *text;
	} cases[] = {
		{{.guest_cid = CID, .uds_path = f->path},
		 "Address in use (os error 98)"},
		{{.guest_cid = CID, .uds_path = missing},
		 "No such file or directory (os error 2)"},
		{{.guest_cid = CID, .uds_path = endless}, "Filename too long"},
		{{.guest_cid = 2, .uds_path = fresh},
		 "guest_cid 2 is reserved"},
		{{.guest_cid = 0, .uds_path = fresh},
		 "guest_cid 0 is reserved"},
		{{.guest_cid = UINT32_MAX, .uds_path = fresh},
		 "guest_cid 4294967295 is reserved"},
	};

	memset(endless, 'x', sizeof(endless) - 1);
	endless[sizeof(endless) - 1] = '\0';
	snprintf(fresh, sizeof(fresh), "%s/w", f->dir);
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct vsock *vsock = NULL;
		struct error err = {0};

		assert_true(vsock_create(&vsock, &cases[i].config, &f->metrics,
					 &err) < 0);
		assert_null(vsock);
		assert_non_null(strstr(err.text, cases[i].text));
		assert_non_null(strstr(
			err.text, "Cannot create backend for vsock device: "));
	}
	assert_int_equal(access(fresh, F_OK), -1);
}

int main(void)
{
#define CASE(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
	const struct CMUnitTest tests[] = {
		CASE(test_host_connects_and_data_flows),
		CASE(test_accept_is_told_once),
		CASE(test_each_connection_has_its_own_port),
		CASE(test_greetings_of_any_legal_form),
		CASE(test_greetings_that_are_none_close),
		CASE(test_greeting_byte_by_byte_with_data_behind),
		CASE(test_guest_connects_to_a_path),
		CASE(test_guest_gets_reset_when_nobody_listens),
		CASE(test_host_closes),
		CASE(test_host_shuts_one_direction),
		CASE(test_guest_shuts_one_direction),
		CASE(test_guest_closes_with_data_unread),
		CASE(test_host_that_hangs_up_while_data_waits),
		CASE(test_data_stops_without_credit),
		CASE(test_credit_comes_back_as_the_host_reads),
		CASE(test_guest_beyond_its_credit_is_cut_off),
		CASE(test_forged_packets_change_nothing),
		CASE(test_unknown_connections_are_reset),
		CASE(test_bad_packets_end_their_connection),
		CASE(test_evil_transmit_chains_come_back),
		CASE(test_data_outside_memory_ends_the_connection),
		CASE(test_guest_that_never_reads_is_owed_little),
		CASE(test_broken_queues_need_a_reset),
		CASE(test_connections_are_limited),
		CASE(test_reset_of_the_device_ends_everything),
		CASE(test_full_backlog_is_waited_for),
		CASE(test_who_does_not_answer_is_dropped),
		CASE(test_hosts_that_were_slow_leave_a_buffer),
		CASE(test_close_after_a_kill_leaves_nothing),
		CASE(test_data_left_behind_does_not_wait_for_ever),
		CASE(test_host_that_reads_no_more),
		CASE(test_data_in_pieces_arrives_whole),
		CASE(test_failure_ends_connections_soon),
		CASE(test_reset_with_a_crowd_is_done_in_steps),
		CASE(test_small_buffers_get_data_in_pieces),
		CASE(test_megabyte_both_ways_compares_equal),
		CASE(test_create_refuses_what_cannot_be),
	};

	/* The monitor counts it and goes on. */
	signal(SIGPIPE, SIG_IGN);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
