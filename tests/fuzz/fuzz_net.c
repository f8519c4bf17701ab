/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Frames that a guest sends: the input gives the features it negotiated, how
 * the frame is cut into descriptors, and the header and frame themselves. Each
 * must come back; what reaches the tap carries only offloads that were
 * negotiated; what the service wants never reaches it.
 */
#include "tests/fake/ring.h"
#include "tests/fake/tap.h"
#include "virtio/net.h"
#include "virtio/net_frame.h"
#include "vmm/log.h"

#include <assert.h>
#include <string.h>
#include <sys/socket.h>

#define TX_BUFFER RING_DATA
#define PIECES_MAX 4
#define WANTED 0x5a

int LLVMFuzzerInitialize(int *argc, char ***argv);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const uint8_t gso_features[] = {
	[1] = VIRTIO_NET_F_HOST_TSO4,
	[3] = VIRTIO_NET_F_HOST_UFO,
	[4] = VIRTIO_NET_F_HOST_TSO6,
};

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
	const struct log_config quiet = {.level = LOG_LEVEL_OFF};

	(void)argc;
	(void)argv;
	return log_configure(&quiet, NULL) ? -1 : 0;
}

static bool wants(void *arg, const uint8_t *head, size_t len)
{
	(void)arg;
	return len > 0 && head[0] == WANTED;
}

static void input(void *arg, const uint8_t *frame, size_t len)
{
	(void)frame; /* its checksum may stand anywhere in it */
	assert(len <= NET_SERVICE_FRAME_MAX);
	*(size_t *)arg += len;
}

static struct net *make_net(struct ring *ring, struct net_metrics *metrics,
			    uint64_t features,
			    const struct net_service *service)
{
	static char name[] = "tap0";
	const struct net_config config = {.iface_id = name,
					  .host_dev_name = name};
	struct net *net = NULL;
	struct virtio_device *dev;
	struct ring rx;

	if (net_create(&net, &config, metrics, NULL))
		abort();
	dev = net_virtio(net);
	dev->mem = ring->mem;
	dev->driver_features = dev->features & features;
	ring_share(&rx, ring, 0, 16);
	ring_share(ring, ring, 1, 16);
	ring_describe(&rx, &dev->queues[0]);
	ring_describe(ring, &dev->queues[1]);
	virtio_device_activate(dev);
	dev->unsettled = false; /* there is no loop, and nothing to receive */
	net_set_service(net, service);
	return net;
}

/* Cuts @len bytes into pieces as the two bytes of @cuts say. */
static void put_pieces(struct ring *ring, size_t len, const uint8_t *cuts)
{
	const uint32_t lengths[PIECES_MAX] = {cuts[0] % 64u, cuts[1] % 64u,
					      cuts[0] / 4u, UINT32_MAX};
	uint64_t at = TX_BUFFER;
	uint16_t i = 0;

	do {
		uint32_t piece = MIN(lengths[i], (uint32_t)len);

		ring_set_desc(ring, i, at, piece, piece < len ? RING_NEXT : 0,
			      (uint16_t)(i + 1));
		at += piece;
		len -= piece;
		i++;
	} while (len);
	ring_publish(ring, 0);
}

static void check_output(uint64_t features)
{
	uint8_t frame[sizeof(struct net_header) + 4096];
	struct net_header header;
	ssize_t n = recv(fake_tap.peer, frame, sizeof(frame), 0);

	if (n < 0)
		return;
	assert((size_t)n >= sizeof(header) + ETHERNET_LEN);
	assert(frame[sizeof(header)] != WANTED);
	memcpy(&header, frame, sizeof(header));
	assert(header.flags == 0 || features & BIT(VIRTIO_NET_F_CSUM));
	assert(header.gso_type < ARRAY_SIZE(gso_features));
	if (header.gso_type)
		assert(features & BIT(gso_features[header.gso_type]));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	size_t wanted = 0;
	const struct net_service service = {wants, input, &wanted};
	struct net_metrics metrics = {0};
	struct virtio_device *dev;
	uint64_t features;
	struct ring ring;
	uint32_t id, len;

	if (size < 6 || size > 8192 || ring_create(&ring, 16))
		return 0;
	features = data[0] | (uint64_t)data[1] << 8 | (uint64_t)data[2] << 16;
	dev = net_virtio(make_net(&ring, &metrics, features, &service));
	features = dev->driver_features;
	if (gmem_write(ring.mem, TX_BUFFER, data + 5, size - 5))
		abort();
	put_pieces(&ring, size - 5, data + 3);
	pthread_mutex_lock(&dev->lock);
	(void)virtio_device_queue_event(dev, 1);
	pthread_mutex_unlock(&dev->lock);
	assert(ring_take(&ring, &id, &len) && id == 0 && len == 0);
	check_output(features);
	virtio_device_destroy(dev);
	ring_destroy(&ring);
	return 0;
}
