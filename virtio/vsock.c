/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Theory of operation.
 *
 * From the guest: a kick of the transmit queue drains it; each packet's header
 * is copied and checked, then the connection it names gets it, or a connection
 * is made, or the guest is told that there is none.
 *
 * To the guest: connections that have something to tell wait in a list. A turn
 * (vsock_turn) serves them one after the other while there are receive buffers,
 * each for a bounded number of bytes, then tells the driver once.
 *
 * A reset of the device by the driver ends all connections; they are taken
 * apart on the loop thread, by vsock_settle.
 */
#include "virtio/vsock_device.h"
#include "vmm/log.h"

#include <errno.h>
#include <string.h>
#include <sys/random.h>

#define VIRTIO_ID_VSOCK 19
#define VIRTIO_F_IN_ORDER 35

/* What one turn of the loop does at most, in either direction. */
#define BATCH_PACKETS 64
#define BATCH_BYTES KIB(512)
#define BATCH_BUFFERS 256

static struct vsock *to_vsock(struct virtio_device *dev)
{
	return container_of(dev, struct vsock, dev);
}

/* ----------------------------------------------------------- to the guest */

void vsock_put_header(struct vsock *vsock, const struct vsock_packet *packet)
{
	const struct vsock_header header = {
		.src_cid = le64_make(VSOCK_HOST_CID),
		.dst_cid = le64_make(vsock->guest_cid),
		.src_port = le32_make(packet->host_port),
		.dst_port = le32_make(packet->guest_port),
		.len = le32_make(packet->len),
		.type = le16_make(packet->type),
		.op = le16_make(packet->op),
		.flags = le32_make(packet->flags),
		.buf_alloc = le32_make(packet->buf_alloc),
		.fwd_cnt = le32_make(packet->fwd_cnt),
	};

	rx_window_write(&vsock->window, 0, &header, sizeof(header));
	metric_inc(&vsock->metrics->rx_packets_count);
}

void vsock_reject(struct vsock *vsock, uint32_t host_port, uint32_t guest_port)
{
	size_t slot;

	/* A guest that does not read gets no more answers. */
	if (vsock->stray_count == STRAYS_MAX)
		return;
	slot = (vsock->stray_first + vsock->stray_count++) % STRAYS_MAX;
	vsock->strays[slot] = (struct stray){host_port, guest_port};
}

static size_t send_stray(struct vsock *vsock)
{
	const struct stray *stray = &vsock->strays[vsock->stray_first];
	const struct vsock_packet packet = {
		.host_port = stray->host_port,
		.guest_port = stray->guest_port,
		.type = VSOCK_TYPE_STREAM,
		.op = VSOCK_OP_RST,
	};

	vsock_put_header(vsock, &packet);
	rx_window_return(&vsock->window, VSOCK_HEADER_LEN);
	vsock->stray_first = (vsock->stray_first + 1) % STRAYS_MAX;
	vsock->stray_count--;
	return VSOCK_HEADER_LEN;
}

bool vsock_fill(struct vsock *vsock, uint32_t want)
{
	if (!rx_window_fill(&vsock->window, want))
		return true;
	metric_inc(&vsock->metrics->rx_queue_event_fails);
	virtio_device_needs_reset(&vsock->dev, "broken receive queue");
	return false;
}

/* A buffer at the front. False when there is none: the driver will kick. */
static bool have_buffer(struct vsock *vsock)
{
	struct queue *queue = &vsock->dev.queues[VSOCK_RX_QUEUE];

	for (;;) {
		if (!vsock_fill(vsock, 1))
			return false;
		if (vsock->window.count)
			return true;
		if (!queue_kicks_enable(queue))
			break;
		queue_kicks_disable(queue);
	}
	vsock->starved = true;
	return false;
}

static bool anything_to_tell(const struct vsock *vsock)
{
	return vsock->stray_count || !conn_list_empty(&vsock->ready);
}

static size_t tell_next(struct vsock *vsock)
{
	if (vsock->stray_count)
		return send_stray(vsock);
	return conn_transmit(
		container_of(vsock->ready.next, struct conn, ready));
}

void vsock_turn(struct vsock *vsock, bool tx_used)
{
	size_t bytes = 0;
	int steps = 0;

	while (vsock->dev.active && !vsock->starved && !vsock->awaits_ack &&
	       anything_to_tell(vsock) && have_buffer(vsock)) {
		if (bytes >= BATCH_BYTES || steps++ == BATCH_PACKETS ||
		    vsock->window.unpublished >= BATCH_BUFFERS) {
			loop_timer_arm(vsock->dev.loop, &vsock->turn_timer, 0);
			break;
		}
		bytes += tell_next(vsock);
	}
	if (!vsock->dev.active)
		return;
	virtio_device_notify_queues(
		&vsock->dev,
		(rx_window_publish(&vsock->window) ? BIT(VSOCK_RX_QUEUE) : 0) |
			(tx_used ? BIT(VSOCK_TX_QUEUE) : 0));
}

/* --------------------------------------------------------- from the guest */

static bool read_packet(struct vsock *vsock, struct vsock_packet *ret_packet)
{
	struct vsock_header header;

	if (chain_read(&vsock->chain, &header, sizeof(header))) {
		log_guest("vsock: packet without a header");
		return false;
	}
	/* What is for others, or pretends to be from others, is dropped. */
	if (le64_get(header.dst_cid) != VSOCK_HOST_CID ||
	    le64_get(header.src_cid) != vsock->guest_cid) {
		log_guest("vsock: packet from CID %lu to CID %lu",
			  (unsigned long)le64_get(header.src_cid),
			  (unsigned long)le64_get(header.dst_cid));
		return false;
	}
	*ret_packet = (struct vsock_packet){
		.host_port = le32_get(header.dst_port),
		.guest_port = le32_get(header.src_port),
		.len = le32_get(header.len),
		.type = le16_get(header.type),
		.op = le16_get(header.op),
		.flags = le32_get(header.flags),
		.buf_alloc = le32_get(header.buf_alloc),
		.fwd_cnt = le32_get(header.fwd_cnt),
	};
	return true;
}

/* Data that the packet announces must be there, and not be too much. */
static bool length_valid(const struct vsock *vsock,
			 const struct vsock_packet *packet)
{
	return packet->len <= VSOCK_DATA_MAX &&
	       (packet->op != VSOCK_OP_RW ||
		packet->len <= vsock->chain.readable.left);
}

static void serve_packet(struct vsock *vsock)
{
	struct vsock_packet packet;
	struct conn *conn;

	if (!read_packet(vsock, &packet))
		return;
	metric_inc(&vsock->metrics->tx_packets_count);
	conn = vsock_table_find(vsock, packet.host_port, packet.guest_port);
	if (packet.type != VSOCK_TYPE_STREAM || !length_valid(vsock, &packet)) {
		log_guest("vsock: packet of type %u with %u bytes", packet.type,
			  packet.len);
		if (conn)
			conn_finish(conn);
		else
			vsock_reject(vsock, packet.host_port,
				     packet.guest_port);
	} else if (conn) {
		conn_receive(conn, &packet, &vsock->chain);
	} else if (packet.op == VSOCK_OP_REQUEST) {
		vsock_host_connect(vsock, &packet);
	} else if (packet.op != VSOCK_OP_RST) {
		vsock_reject(vsock, packet.host_port, packet.guest_port);
	}
}

/* Packets taken off the queue, or -EPROTO. */
static int drain(struct vsock *vsock, struct queue *queue)
{
	uint64_t bytes = 0;
	int packets = 0;

	while (packets < BATCH_PACKETS && bytes < BATCH_BYTES) {
		int ret = queue_pop(queue, &vsock->chain);

		if (ret < 0)
			return ret;
		if (ret == 0)
			break;
		bytes += vsock->chain.readable.left;
		serve_packet(vsock);
		queue_put(queue, vsock->chain.head, 0);
		packets++;
	}
	return packets;
}

/* True: there is more to take. */
static bool take_packets(struct vsock *vsock)
{
	struct queue *queue = &vsock->dev.queues[VSOCK_TX_QUEUE];
	int packets;
	bool more;

	queue_kicks_disable(queue);
	packets = drain(vsock, queue);
	if (packets < 0) {
		metric_inc(&vsock->metrics->tx_queue_event_fails);
		virtio_device_needs_reset(&vsock->dev, "broken transmit queue");
		return false;
	}
	more = queue_kicks_enable(queue);
	if (packets)
		queue_publish(queue);
	vsock_turn(vsock, packets > 0);
	return more;
}

static bool vsock_queue_event(struct virtio_device *dev, uint16_t q)
{
	struct vsock *vsock = to_vsock(dev);

	switch (q) {
	case VSOCK_TX_QUEUE:
		metric_inc(&vsock->metrics->tx_queue_event_count);
		return take_packets(vsock);
	case VSOCK_RX_QUEUE:
		metric_inc(&vsock->metrics->rx_queue_event_count);
		if (!vsock->starved)
			return false;
		vsock->starved = false;
		queue_kicks_disable(&dev->queues[VSOCK_RX_QUEUE]);
		vsock_turn(vsock, false);
		return false;
	default:
		vsock_event_kicked(vsock);
		return false;
	}
}

/* ------------------------------------------------------------------ timers */

/* After a pause many may be due at once. */
static void on_due_timer(struct loop_timer *timer)
{
	struct vsock *vsock = container_of(timer, struct vsock, due_timer);
	uint64_t now = monotonic_ns();

	pthread_mutex_lock(&vsock->dev.lock);
	virtio_device_settle(&vsock->dev);
	for (int i = 0; !conn_list_empty(&vsock->due); i++) {
		struct conn *conn =
			container_of(vsock->due.next, struct conn, due);

		if (conn->deadline_ns > now || i == CONNS_PER_TURN) {
			loop_timer_arm(vsock->dev.loop, timer,
				       conn->deadline_ns > now
					       ? conn->deadline_ns - now
					       : 0);
			break;
		}
		conn_timed_out(conn);
	}
	vsock_turn(vsock, false);
	pthread_mutex_unlock(&vsock->dev.lock);
}

/* Takes apart some of the connections that a reset left behind. */
static void bury(struct vsock *vsock)
{
	for (int i = 0; i < CONNS_PER_TURN && !conn_list_empty(&vsock->dead);
	     i++)
		conn_destroy(container_of(vsock->dead.next, struct conn, all));
	if (!conn_list_empty(&vsock->dead))
		loop_timer_arm(vsock->dev.loop, &vsock->dead_timer, 0);
}

void vsock_bury_all(struct vsock *vsock)
{
	loop_timer_cancel(&vsock->dead_timer);
	while (!conn_list_empty(&vsock->dead))
		conn_destroy(container_of(vsock->dead.next, struct conn, all));
}

static void on_dead_timer(struct loop_timer *timer)
{
	struct vsock *vsock = container_of(timer, struct vsock, dead_timer);

	pthread_mutex_lock(&vsock->dev.lock);
	bury(vsock);
	pthread_mutex_unlock(&vsock->dev.lock);
}

static void on_turn_timer(struct loop_timer *timer)
{
	struct vsock *vsock = container_of(timer, struct vsock, turn_timer);

	pthread_mutex_lock(&vsock->dev.lock);
	virtio_device_settle(&vsock->dev);
	vsock_turn(vsock, false);
	pthread_mutex_unlock(&vsock->dev.lock);
}

/* -------------------------------------------------------------- life cycle */

static int vsock_activate(struct virtio_device *dev)
{
	(void)dev;
	return 0;
}

static void vsock_reset(struct virtio_device *dev)
{
	(void)dev; /* see vsock_settle */
}

void vsock_drop_connections(struct vsock *vsock)
{
	while (!conn_list_empty(&vsock->all))
		conn_kill(container_of(vsock->all.next, struct conn, all));
	vsock_table_clear(vsock);
	bury(vsock);
	vsock->stray_count = 0;
}

static void vsock_settle(struct virtio_device *dev)
{
	struct vsock *vsock = to_vsock(dev);

	vsock_host_stop(vsock);
	loop_timer_cancel(&vsock->due_timer);
	loop_timer_cancel(&vsock->turn_timer);
	vsock_drop_connections(vsock);
	vsock->starved = vsock->reset_owed = vsock->awaits_ack = false;
	rx_window_init(&vsock->window, &dev->queues[VSOCK_RX_QUEUE],
		       VSOCK_HEADER_LEN);
	if (!dev->active)
		return;
	queue_kicks_disable(&dev->queues[VSOCK_RX_QUEUE]);
	vsock_host_start(vsock);
}

static void vsock_destroy(struct virtio_device *dev)
{
	struct vsock *vsock = to_vsock(dev);

	vsock_bury_all(vsock);
	close_fd(&vsock->listener.fd);
	free(vsock->spare);
	free(vsock->buckets);
	free(vsock->path);
	free(vsock);
}

static const struct virtio_device_ops vsock_ops = {
	.name = "vsock",
	.id = VIRTIO_ID_VSOCK,
	.queue_count = VSOCK_QUEUE_COUNT,
	.activate = vsock_activate,
	.settle = vsock_settle,
	.queue_event = vsock_queue_event,
	.quiesce = vsock_quiesce,
	.save = vsock_save,
	.load = vsock_load,
	.config_fixed = "guest_cid",
	.reset = vsock_reset,
	.destroy = vsock_destroy,
};

static int set_up(struct vsock *vsock, const struct vsock_config *config,
		  struct error *err)
{
	if (config->guest_cid < VSOCK_CID_MIN ||
	    config->guest_cid >= UINT32_MAX)
		return error_set(err, EINVAL,
				 "guest_cid %lu is reserved: it must be "
				 "between %d and %u",
				 (unsigned long)config->guest_cid,
				 VSOCK_CID_MIN, UINT32_MAX - 1);
	vsock->guest_cid = config->guest_cid;
	vsock->conn_max = config->max_connections ? config->max_connections
						  : VSOCK_CONNECTIONS_DEFAULT;
	vsock->path = strdup(config->uds_path);
	if (!vsock->path ||
	    getrandom(&vsock->hash_seed, sizeof(vsock->hash_seed), 0) < 0)
		return error_set_os(err, ENOMEM, "No memory for it:");
	return vsock_host_bind(vsock, err);
}

int vsock_create(struct vsock **ret_vsock, const struct vsock_config *config,
		 struct vsock_metrics *metrics, struct error *err)
{
	const le64 cid = le64_make(config->guest_cid);
	struct vsock *vsock = calloc(1, sizeof(*vsock));
	int ret;

	if (!vsock)
		return error_set_os(err, ENOMEM, "No memory for a vsock:");
	ret = set_up(vsock, config, err);
	if (ret) {
		error_prefix(err, "Cannot create backend for vsock device: ");
		free(vsock->path);
		free(vsock);
		return ret;
	}
	vsock->metrics = metrics;
	vsock->due_timer.fn = on_due_timer;
	vsock->turn_timer.fn = on_turn_timer;
	vsock->dead_timer.fn = on_dead_timer;
	conn_list_init(&vsock->all);
	conn_list_init(&vsock->ready);
	conn_list_init(&vsock->due);
	conn_list_init(&vsock->retry);
	conn_list_init(&vsock->dead);
	virtio_device_init(&vsock->dev, &vsock_ops,
			   BIT(VIRTIO_F_IN_ORDER) | BIT(VIRTIO_F_EVENT_IDX),
			   &cid, sizeof(cid));
	*ret_vsock = vsock;
	return 0;
}

struct virtio_device *vsock_virtio(struct vsock *vsock)
{
	return &vsock->dev;
}

void vsock_on_accept(struct vsock *vsock, void (*fn)(void *arg), void *arg)
{
	pthread_mutex_lock(&vsock->dev.lock);
	vsock->accepted = fn;
	vsock->accepted_arg = arg;
	pthread_mutex_unlock(&vsock->dev.lock);
}

void vsock_accepted(struct vsock *vsock)
{
	if (vsock->accepted)
		vsock->accepted(vsock->accepted_arg);
	vsock->accepted = NULL;
}
