/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Theory of operation.
 *
 * The tap is watched while the guest has buffers. A frame is read straight into
 * as many of them as it needs (rx_window.h), their number goes into the header,
 * and all of them are published at once: the driver must find the whole frame
 * (5.1.6.3.1). Without buffers the tap is left alone, and full, until the
 * driver posts some.
 *
 * A tap does not say how long the next frame is, and cuts what does not fit. So
 * behind the guest's buffers there is one of our own: what spills into it waits
 * for the driver to post more, or tells us that a frame had to be dropped.
 */
#include "virtio/net_device.h"
#include "vmm/log.h"

#include <errno.h>

/* Two frames this close together belong together. */
#define CLOSE_NS 25000

static bool mergeable(const struct net *net)
{
	return virtio_device_negotiated(&net->dev, VIRTIO_NET_F_MRG_RXBUF);
}

/* The tap is read only while there is somewhere to put a frame. */
static void watch_tap(struct net *net)
{
	uint32_t events = net->starved || limiter_gate_is_shut(&net->rx_gate) ||
					  net->tap_gone
				  ? 0
				  : EPOLLIN;

	if (net->tap_source.loop && net->tap_source.events != events &&
	    loop_modify(&net->tap_source, events))
		log_error("net: cannot watch the tap %s", net->tap.name);
}

/* Once deleted, an interface has nothing to say but errors, for ever. */
static void lose_tap(struct net *net)
{
	if (!net->tap_gone)
		log_warn("net: the tap %s is gone", net->tap.name);
	net->tap_gone = true;
	metric_inc(&net->metrics->tap_read_fails);
	metric_inc(&net->metrics->rx_fails);
}

static bool fill(struct net *net, uint32_t want)
{
	if (!rx_window_fill(&net->window, want))
		return true;
	metric_inc(&net->metrics->rx_fails);
	virtio_device_needs_reset(&net->dev, "broken receive queue");
	return false;
}

/*
 * Buffers for at least @least bytes, or all that the window can hold; if the
 * driver has them, for the longest of frames. False when it has to post some
 * first: it will kick then.
 */
static bool have_buffers(struct net *net, uint32_t least)
{
	struct queue *queue = &net->dev.queues[NET_RX_QUEUE];
	uint32_t want = mergeable(net) ? (uint32_t)NET_SPILL_LEN : least;

	for (;;) {
		if (!fill(net, want))
			return false;
		if (net->window.bytes >= least || rx_window_full(&net->window))
			return true;
		if (!queue_kicks_enable(queue))
			break;
		queue_kicks_disable(queue);
	}
	metric_inc(&net->metrics->no_rx_avail_buffer);
	net->starved = true;
	return false;
}

static bool may_receive(struct net *net)
{
	if (limiter_gate_pass(&net->rx_gate, net->dev.loop))
		return true;
	metric_inc(&net->metrics->rx_rate_limiter_throttled);
	return false;
}

/* What of the header is ours to say: the tap knows neither the number of
 * buffers nor whether the driver wants to hear of checksums (5.1.6.4.1). */
static void complete_header(struct net *net, uint16_t count)
{
	const le16 num_buffers = le16_make(count);
	const uint8_t no_flags = 0;

	rx_window_write(&net->window, offsetof(struct net_header, num_buffers),
			&num_buffers, sizeof(num_buffers));
	if (!virtio_device_negotiated(&net->dev, VIRTIO_NET_F_GUEST_CSUM))
		rx_window_write(&net->window,
				offsetof(struct net_header, flags), &no_flags,
				sizeof(no_flags));
}

/* Gives back the buffers that the first @len bytes of the window fill. */
static void hand_over(struct net *net, uint32_t len)
{
	struct rx_window *window = &net->window;
	uint32_t left = len;
	uint16_t count = 0;

	for (uint32_t sum = 0; sum < len; count++)
		sum += rx_window_buffer(window, count)->len;
	complete_header(net, count);
	for (; count; count--) {
		uint32_t part = MIN(left, rx_window_buffer(window, 0)->len);

		rx_window_return(window, part);
		left -= part;
	}
}

static void drop_frame(struct net *net, const char *why)
{
	metric_inc(&net->metrics->rx_fails);
	log_guest("net: frame to the guest dropped: %s", why);
}

/* Gives the guest a whole frame from the tap. */
static size_t deliver(struct net *net, uint32_t len)
{
	uint32_t frame_len = len - (uint32_t)sizeof(struct net_header);

	hand_over(net, len);
	limiter_gate_charge(&net->rx_gate, frame_len, 1);
	metric_add(&net->metrics->rx_bytes_count, frame_len);
	metric_inc(&net->metrics->rx_packets_count);
	metric_inc(&net->metrics->rx_count);
	return len;
}

/* The frame whose end waits for buffers; there are as many as there will be. */
static size_t deliver_spilled(struct net *net)
{
	uint32_t len = net->spilled_len;

	net->spilled_len = 0;
	if (net->window.bytes < len) {
		drop_frame(net, "longer than all buffers of the driver");
		return len;
	}
	rx_window_write(&net->window, net->spilled_from, net->spill,
			len - net->spilled_from);
	return deliver(net, len);
}

/* Where a frame goes: the buffers it may fill, then what catches the rest.
 * The number of iovecs; *@ret_room is what the buffers hold. */
static int frame_iov(struct net *net, const struct iovec **ret_iov,
		     uint32_t *ret_room)
{
	const struct iovec tail = {net->spill, NET_SPILL_LEN};
	int n;

	if (mergeable(net)) {
		*ret_room = net->window.bytes;
		return rx_window_all(&net->window, &tail, ret_iov);
	}
	*ret_room = rx_window_buffer(&net->window, 0)->len;
	n = rx_window_iov(&net->window, 0, 0, *ret_room, net->iov,
			  CHAIN_SEGMENTS_MAX);
	net->iov[n] = tail;
	*ret_iov = net->iov;
	return n + 1;
}

/* One frame from the tap. Its length with header, 0 when there was none. */
static uint32_t read_frame(struct net *net, uint32_t *ret_room)
{
	const struct iovec *iov;
	int count = frame_iov(net, &iov, ret_room);
	ssize_t n = readv(net->tap.fd, iov, count);

	if (n >= (ssize_t)sizeof(struct net_header))
		return (uint32_t)n;
	if (n < 0 && errno != EAGAIN && errno != EINTR)
		lose_tap(net);
	return 0;
}

/* The bytes moved; 0 when nothing more can be received now. */
static size_t receive_frame(struct net *net)
{
	uint32_t len, room;

	if (!may_receive(net) || !have_buffers(net, 1))
		return 0;
	if (!net->spilled_len) {
		len = read_frame(net, &room);
		if (len == 0)
			return 0;
		if (len <= room)
			return deliver(net, len);
		if (!mergeable(net)) {
			drop_frame(net, "longer than the driver's buffer");
			return len;
		}
		net->spilled_from = room;
		net->spilled_len = len;
	}
	return have_buffers(net, net->spilled_len) ? deliver_spilled(net) : 0;
}

static void tell_driver(struct net *net)
{
	if (rx_window_publish(&net->window))
		virtio_device_notify_used(&net->dev, NET_RX_QUEUE);
}

/* Up to @max frames; how many there were. What is left makes the tap's source
 * report again. */
static int receive_frames(struct net *net, int max)
{
	size_t bytes = 0;
	int n = 0;

	while (n < max && bytes < NET_BATCH_BYTES &&
	       net->window.unpublished < NET_BATCH_BUFFERS) {
		size_t moved = receive_frame(net);

		if (moved == 0)
			break;
		bytes += moved;
		n++;
	}
	watch_tap(net);
	return n;
}

static void receive(struct net *net)
{
	receive_frames(net, NET_BATCH_FRAMES);
	if (net->dev.active)
		tell_driver(net);
}

/*
 * A read that finds nothing costs as much as one that finds a frame. Where
 * frames come one at a time, with a pause in between, the second read is left
 * to the next event; where one event follows the other, all is read at once.
 */
static void receive_adaptively(struct net *net)
{
	uint64_t now = monotonic_ns();
	int n;

	net->answers = now - net->tx_ns < CLOSE_NS;
	if (now - net->rx_ns < CLOSE_NS)
		net->burst = true;
	n = receive_frames(net, net->burst ? NET_BATCH_FRAMES : 1);
	if (n < 2)
		net->burst = false;
	net->rx_ns = monotonic_ns();
	if (net->dev.active)
		tell_driver(net);
}

bool net_rx_after_tx(struct net *net)
{
	net->tx_ns = monotonic_ns();
	if (!net->answers || net->starved ||
	    limiter_gate_is_shut(&net->rx_gate) || net->tap_gone)
		return false;
	if (receive_frames(net, 1) == 0)
		net->answers = false;
	return net->dev.active && rx_window_publish(&net->window);
}

static void on_tap(struct loop_source *source, uint32_t events)
{
	struct net *net = container_of(source, struct net, tap_source);

	pthread_mutex_lock(&net->dev.lock);
	virtio_device_settle(&net->dev);
	if (net->dev.active) {
		metric_inc(&net->metrics->rx_tap_event_count);
		if (events & EPOLLERR)
			lose_tap(net);
		receive_adaptively(net);
	}
	pthread_mutex_unlock(&net->dev.lock);
}

static void on_rx_timer(struct loop_timer *timer)
{
	struct net *net = container_of(timer, struct net, rx_gate.timer);

	pthread_mutex_lock(&net->dev.lock);
	virtio_device_settle(&net->dev);
	metric_inc(&net->metrics->rx_event_rate_limiter_count);
	if (net->dev.active)
		receive(net);
	pthread_mutex_unlock(&net->dev.lock);
}

/* Buffers for @len bytes, header included, at the front of the window. */
static bool have_room(struct net *net, size_t len)
{
	struct rx_window *window = &net->window;

	if (net->spilled_len || !fill(net, (uint32_t)len) || !window->count)
		return false;
	return (mergeable(net) ? window->bytes
			       : rx_window_buffer(window, 0)->len) >= len;
}

int net_deliver(struct net *net, const uint8_t *frame, size_t len)
{
	const struct net_header header = {0};
	size_t total = sizeof(header) + len;
	int ret = -ENOBUFS;

	pthread_mutex_lock(&net->dev.lock);
	virtio_device_settle(&net->dev);
	if (net->dev.active && have_room(net, total)) {
		rx_window_write(&net->window, 0, &header, sizeof(header));
		rx_window_write(&net->window, sizeof(header), frame,
				(uint32_t)len);
		hand_over(net, (uint32_t)total);
		tell_driver(net);
		ret = 0;
	}
	pthread_mutex_unlock(&net->dev.lock);
	return ret;
}

/* -------------------------------------------------------------- life cycle */

void net_rx_kicked(struct net *net)
{
	metric_inc(&net->metrics->rx_queue_event_count);
	if (!net->starved)
		return;
	net->starved = false;
	queue_kicks_disable(&net->dev.queues[NET_RX_QUEUE]);
	receive(net);
}

void net_rx_quiesce(struct net *net)
{
	if (net->spilled_len)
		drop_frame(net, "half of it came before a snapshot");
	net->spilled_len = 0;
	rx_window_unpop(&net->window);
}

void net_rx_init(struct net *net, const struct rate_limiter_config *limits)
{
	limiter_gate_init(&net->rx_gate, limits, on_rx_timer);
}

void net_rx_start(struct net *net)
{
	rx_window_init(&net->window, &net->dev.queues[NET_RX_QUEUE],
		       sizeof(struct net_header));
	queue_kicks_disable(&net->dev.queues[NET_RX_QUEUE]);
	net->tap_source = (struct loop_source){
		.fd = net->tap.fd,
		.events = EPOLLIN,
		.class = LOOP_DEVICE,
		.fn = on_tap,
	};
	if (loop_add(net->dev.loop, &net->tap_source))
		log_error("net: cannot watch the tap %s", net->tap.name);
}

void net_rx_stop(struct net *net)
{
	loop_remove(&net->tap_source);
	limiter_gate_reset(&net->rx_gate);
	net->starved = false;
	net->spilled_len = 0;
	rx_window_init(&net->window, &net->dev.queues[NET_RX_QUEUE],
		       sizeof(struct net_header));
}
