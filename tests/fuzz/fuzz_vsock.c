/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Packets of any kind from a guest, two connections beside them: one that the
 * host opened, one to a path on which a test listens. The input is a list of
 * packets: an operation, which connection is meant, how long the data is said
 * to be and how long it is, flags and credit. Everything sent must come back,
 * and no connection may outlive the device.
 */
#include "tests/fake/ring.h"
#include "tests/fake/turn.h"
#include "virtio/vsock_device.h"
#include "vmm/log.h"

#include <assert.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>

#define CID 3
#define RING_SIZE 16
#define TX_BUFFER (RING_DATA + 0x40000)
#define LISTEN_PORT 7
#define PACKET_BYTES 8
#define PACKETS_MAX 64

int LLVMFuzzerInitialize(int *argc, char ***argv);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static char path[64] = "/tmp/ember-fuzz-XXXXXX";
static int listener = -1;
static struct loop *loop;

static int make_listener(void)
{
	struct sockaddr_un addr = {.sun_family = AF_UNIX};

	snprintf(addr.sun_path, sizeof(addr.sun_path), "%s_%u", path,
		 LISTEN_PORT);
	listener = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0);
	return bind(listener, (struct sockaddr *)&addr, sizeof(addr)) ||
			       listen(listener, 64)
		       ? -1
		       : 0;
}

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
	const struct log_config quiet = {.level = LOG_LEVEL_OFF};

	(void)argc;
	(void)argv;
	if (!mkdtemp(path) || log_configure(&quiet, NULL) || loop_create(&loop))
		return -1;
	strcat(path, "/v");
	signal(SIGPIPE, SIG_IGN);
	return make_listener();
}

static int connect_host(void)
{
	struct sockaddr_un addr = {.sun_family = AF_UNIX};
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0);

	strcpy(addr.sun_path, path);
	if (connect(fd, (struct sockaddr *)&addr, sizeof(addr)) ||
	    write(fd, "CONNECT 5\nhello", 15) != 15)
		abort();
	return fd;
}

struct guest {
	struct virtio_device *dev;
	struct ring rx, tx, event;
	uint32_t host_port; /* of the host's connection */
};

static void kick(struct guest *guest, uint16_t q)
{
	pthread_mutex_lock(&guest->dev->lock);
	while (virtio_device_queue_event(guest->dev, q))
		;
	pthread_mutex_unlock(&guest->dev->lock);
}

static void post(struct guest *guest, uint16_t i)
{
	ring_set_desc(&guest->rx, i, RING_DATA + i * UINT64_C(0x1000), 600,
		      RING_WRITE, 0);
	ring_publish(&guest->rx, i);
}

static struct vsock *make_vsock(struct guest *guest,
				struct vsock_metrics *metrics)
{
	const struct vsock_config config = {
		.guest_cid = CID, .uds_path = path, .max_connections = 16};
	struct ring *rings[] = {&guest->rx, &guest->tx, &guest->event};
	struct vsock *vsock = NULL;

	if (vsock_create(&vsock, &config, metrics, NULL))
		abort();
	guest->dev = vsock_virtio(vsock);
	guest->dev->mem = guest->rx.mem;
	guest->dev->loop = loop;
	guest->dev->driver_features =
		guest->dev->features & ~BIT(VIRTIO_F_EVENT_IDX);
	for (uint16_t q = 0; q < ARRAY_SIZE(rings); q++) {
		ring_share(rings[q], &guest->rx, q, RING_SIZE);
		ring_describe(rings[q], &guest->dev->queues[q]);
	}
	virtio_device_activate(guest->dev);
	virtio_device_settle(guest->dev);
	for (uint16_t i = 0; i < RING_SIZE; i++)
		post(guest, i);
	return vsock;
}

/* Takes what came and posts the buffers again. */
static void receive(struct guest *guest)
{
	struct vsock_header header;
	uint32_t id, len;

	while (ring_take(&guest->rx, &id, &len)) {
		assert(id < RING_SIZE && len >= sizeof(header) && len <= 600);
		if (gmem_read(guest->rx.mem, RING_DATA + id * UINT64_C(0x1000),
			      &header, sizeof(header)))
			abort();
		assert(le32_get(header.len) + sizeof(header) == len);
		assert(le64_get(header.dst_cid) == CID);
		if (le16_get(header.op) == VSOCK_OP_REQUEST)
			guest->host_port = le32_get(header.src_port);
		post(guest, (uint16_t)id);
		kick(guest, 0);
	}
}

static void send_packet(struct guest *guest, const uint8_t *data)
{
	const uint32_t host_ports[] = {guest->host_port, LISTEN_PORT, 99,
				       data[6] * UINT32_C(0x01010101)};
	const uint32_t len = data[2] | (uint32_t)data[3] << 8;
	const uint32_t said = data[1] & 0x10 ? len + data[4] : len;
	const struct vsock_header header = {
		.src_cid = le64_make(data[1] & 0x20 ? data[6] : CID),
		.dst_cid = le64_make(data[1] & 0x40 ? data[6] : 2),
		.src_port = le32_make(data[1] & 0x08 ? data[7] : 5),
		.dst_port = le32_make(host_ports[data[1] % 4]),
		.len = le32_make(said),
		.type = le16_make(data[1] & 0x80 ? data[6] : 1),
		.op = le16_make(data[0]),
		.flags = le32_make(data[4]),
		.buf_alloc = le32_make((uint32_t)data[5] << 10),
		.fwd_cnt = le32_make(data[6]),
	};
	uint32_t id, used;

	if (gmem_write(guest->rx.mem, TX_BUFFER, &header, sizeof(header)))
		abort();
	ring_set_desc(&guest->tx, 0, TX_BUFFER, sizeof(header), RING_NEXT, 1);
	ring_set_desc(&guest->tx, 1, TX_BUFFER + 0x1000, len, 0, 0);
	ring_publish(&guest->tx, 0);
	kick(guest, 1);
	assert(ring_take(&guest->tx, &id, &used) && id == 0 && used == 0);
}

/* The host's ends: reads a little of what came, or hangs up. */
static void host_acts(int *fd, uint8_t how)
{
	char buf[512] = {0};

	if (how & 1)
		(void)!read(*fd, buf, sizeof(buf));
	if (how & 2)
		(void)!send(*fd, buf, how, MSG_NOSIGNAL);
	if ((how & 0x1c) == 0x1c)
		shutdown(*fd, SHUT_WR);
	if ((how & 0xe0) == 0xe0)
		close_fd(fd);
}

static void play(struct guest *guest, int *fd, const uint8_t *data, size_t size)
{
	int accepted = -1;

	for (int i = 0; i < PACKETS_MAX && size >= PACKET_BYTES; i++) {
		send_packet(guest, data);
		turn_once(loop);
		receive(guest);
		host_acts(fd, data[7]);
		if (accepted < 0)
			accepted = accept4(listener, NULL, NULL, SOCK_NONBLOCK);
		else
			host_acts(&accepted, data[6]);
		data += PACKET_BYTES;
		size -= PACKET_BYTES;
	}
	for (int i = 0; i < 4; i++) {
		turn_once(loop);
		receive(guest);
	}
	close_fd(&accepted);
}

static void drain_listener(void)
{
	int fd;

	while ((fd = accept(listener, NULL, NULL)) >= 0)
		close_fd(&fd);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct vsock_metrics metrics = {0};
	struct guest guest = {0};
	struct vsock *vsock;
	int fd;

	if (size < PACKET_BYTES || ring_create(&guest.rx, RING_SIZE))
		return 0;
	vsock = make_vsock(&guest, &metrics);
	fd = connect_host();
	for (int i = 0; i < 100 && !guest.host_port; i++) {
		turn_once(loop);
		receive(&guest);
	}
	assert(guest.host_port);
	play(&guest, &fd, data, size);
	assert(vsock->conn_count <= vsock->conn_max);
	virtio_device_reset(guest.dev);
	virtio_device_settle(guest.dev);
	assert(vsock->conn_count == 0 && vsock->hash_count == 0);
	assert(metrics.conns_added.value == metrics.conns_removed.value);
	virtio_device_destroy(guest.dev);
	unlink(path);
	close_fd(&fd);
	drain_listener();
	ring_destroy(&guest.rx);
	return 0;
}
