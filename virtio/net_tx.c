/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Theory of operation.
 *
 * A kick drains the queue. The header and the first bytes of a frame are
 * copied, checked, and sent from the copy; the rest goes to the tap straight
 * from guest memory. What the service wants goes there instead.
 */
#include "virtio/net_device.h"
#include "vmm/log.h"

#include <errno.h>
#include <string.h>

/* A frame's head in our memory: nothing of it can change after the checks. */
struct frame_head {
	struct net_header header;
	uint8_t bytes[NET_PEEK_LEN];
};

static bool malformed(struct net *net, const char *why)
{
	metric_inc(&net->metrics->tx_malformed_frames);
	metric_inc(&net->metrics->tx_fails);
	log_guest("net: frame dropped: %s", why);
	return false;
}

/* Takes the head of the frame off the chain. */
static bool read_head(struct net *net, struct frame_head *head, size_t *ret_len,
		      size_t *ret_frame_len)
{
	struct chain *chain = &net->chain;
	uint64_t total = chain->readable.left;
	size_t len;

	if (total < sizeof(head->header) + ETHERNET_LEN)
		return malformed(net, "shorter than its headers");
	if (total > sizeof(head->header) + NET_FRAME_MAX)
		return malformed(net, "longer than 64 KiB");
	len = MIN((size_t)total - sizeof(head->header), sizeof(head->bytes));
	if (chain_read(chain, head, sizeof(head->header) + len))
		return malformed(net, "not in RAM");
	*ret_len = len;
	*ret_frame_len = (size_t)total - sizeof(head->header);
	if (!net_header_sanitize(&head->header, net->dev.driver_features,
				 *ret_frame_len))
		return malformed(net, "offload that was not negotiated");
	return true;
}

/* The source address follows the destination's. */
static void check_source(struct net *net, const struct frame_head *head)
{
	if (net->has_mac && memcmp(head->bytes + MAC_LEN, net->mac, MAC_LEN))
		metric_inc(&net->metrics->tx_spoofed_mac_count);
}

static void to_service(struct net *net, struct frame_head *head,
		       size_t head_len, size_t frame_len)
{
	uint8_t frame[NET_SERVICE_FRAME_MAX];

	if (frame_len > sizeof(frame)) {
		malformed(net, "too long for the metadata service");
		return;
	}
	memcpy(frame, head->bytes, head_len);
	if (chain_read(&net->chain, frame + head_len, frame_len - head_len) ||
	    !net_frame_complete_checksum(frame, frame_len, &head->header)) {
		malformed(net, "not in RAM, or no room for its checksum");
		return;
	}
	net->service.input(net->service.arg, frame, frame_len);
}

static void count_sent(struct net *net, size_t frame_len, uint64_t start)
{
	metric_add(&net->metrics->tx_bytes_count, frame_len);
	metric_inc(&net->metrics->tx_packets_count);
	metric_inc(&net->metrics->tx_count);
	metric_agg_record(&net->metrics->tap_write_agg,
			  (monotonic_ns() - start) / 1000);
}

static void to_tap(struct net *net, struct frame_head *head, size_t head_len,
		   size_t frame_len)
{
	size_t borrowed = 0;
	uint64_t start = monotonic_ns();
	int n;

	net->iov[0] = (struct iovec){head, sizeof(head->header) + head_len};
	n = chain_borrow_readable(&net->chain, frame_len - head_len,
				  &net->iov[1], CHAIN_SEGMENTS_MAX, &borrowed);
	if (n < 0 || borrowed != frame_len - head_len) {
		malformed(net, "not in RAM");
		return;
	}
	if (writev(net->tap.fd, net->iov, 1 + n) >= 0) {
		count_sent(net, frame_len, start);
	} else if (errno == EINVAL) {
		/* The kernel looked at the header and the frame: the guest's
		 * doing. */
		malformed(net, "the tap does not accept it");
	} else {
		metric_inc(&net->metrics->tap_write_fails);
		metric_inc(&net->metrics->tx_fails);
		log_guest("net: cannot write to tap %s: %s (os error %d)",
			  net->tap.name, os_error_text(errno), errno);
	}
}

/* The bytes to charge for: none for frames that stay in the house. */
static size_t send_frame(struct net *net)
{
	struct frame_head head;
	size_t head_len = 0, frame_len = 0;

	if (!read_head(net, &head, &head_len, &frame_len))
		return 0;
	check_source(net, &head);
	if (net->service.wants &&
	    net->service.wants(net->service.arg, head.bytes, head_len)) {
		to_service(net, &head, head_len, frame_len);
		return 0;
	}
	to_tap(net, &head, head_len, frame_len);
	return frame_len;
}

/* @waiting frames want to go. */
static bool may_send(struct net *net, uint16_t waiting)
{
	if (!waiting || limiter_gate_pass(&net->tx_gate, net->dev.loop))
		return true;
	metric_inc(&net->metrics->tx_rate_limiter_throttled);
	metric_add(&net->metrics->tx_remaining_reqs_count, waiting);
	return false;
}

/* Frames taken off the queue, or -EPROTO. */
static int drain(struct net *net, struct queue *queue)
{
	size_t bytes = 0;
	int frames = 0;

	while (frames < NET_BATCH_FRAMES && bytes < NET_BATCH_BYTES) {
		size_t len;
		int ret;

		if (!may_send(net, queue_pending(queue)))
			break;
		ret = queue_pop(queue, &net->chain);
		if (ret < 0)
			return ret;
		if (ret == 0)
			break;
		len = send_frame(net);
		if (len)
			limiter_gate_charge(&net->tx_gate, len, 1);
		queue_put(queue, net->chain.head, 0);
		bytes += len;
		frames++;
	}
	return frames;
}

/* True: there is more to send. */
static bool transmit(struct net *net)
{
	struct queue *queue = &net->dev.queues[NET_TX_QUEUE];
	int frames;
	bool more;

	queue_kicks_disable(queue);
	frames = drain(net, queue);
	if (frames < 0) {
		metric_inc(&net->metrics->tx_fails);
		virtio_device_needs_reset(&net->dev, "broken transmit queue");
		return false;
	}
	more = queue_kicks_enable(queue) &&
	       !limiter_gate_is_shut(&net->tx_gate);
	if (frames) {
		queue_publish(queue);
		virtio_device_notify_queues(
			&net->dev,
			BIT(NET_TX_QUEUE) |
				(net_rx_after_tx(net) ? BIT(NET_RX_QUEUE) : 0));
	} else if (!limiter_gate_is_shut(&net->tx_gate)) {
		metric_inc(&net->metrics->no_tx_avail_buffer);
	}
	return more;
}

static void on_tx_timer(struct loop_timer *timer)
{
	struct net *net = container_of(timer, struct net, tx_gate.timer);

	pthread_mutex_lock(&net->dev.lock);
	virtio_device_settle(&net->dev);
	metric_inc(&net->metrics->tx_rate_limiter_event_count);
	if (net->dev.active && transmit(net))
		limiter_gate_yield(&net->tx_gate, net->dev.loop);
	pthread_mutex_unlock(&net->dev.lock);
}

/* -------------------------------------------------------------- life cycle */

void net_tx_init(struct net *net, const struct rate_limiter_config *limits)
{
	limiter_gate_init(&net->tx_gate, limits, on_tx_timer);
}

bool net_tx_kicked(struct net *net)
{
	metric_inc(&net->metrics->tx_queue_event_count);
	return !limiter_gate_is_shut(&net->tx_gate) && transmit(net);
}

void net_tx_stop(struct net *net)
{
	limiter_gate_reset(&net->tx_gate);
}
