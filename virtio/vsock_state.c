/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Theory of operation.
 *
 * Connections do not outlive a snapshot, neither in a microVM that was loaded
 * nor in the one that goes on: the host's ends stay with one process, and two
 * guests cannot both go on with them. So they end when the device is saved, and
 * the guest is told by an event (5.10.6.7), upon which it drops its own ends;
 * what listens there goes on. The event is in guest memory before that is
 * saved, so that both guests find it.
 *
 * A guest drops all connections it has when it gets to the event, new ones too.
 * Therefore it is sent nothing before it has posted another event buffer, which
 * it does when it has dealt with the event. The index of its ring tells, not
 * the kick: kicks are repeated after a snapshot. A guest that has never posted
 * one does without events: it learns by the answer to its next packet that a
 * connection is no more, and is not waited for.
 */
#include "snapshot/state.h"
#include "virtio/vsock_device.h"
#include "vmm/log.h"

#include <errno.h>

static struct vsock *to_vsock(struct virtio_device *dev)
{
	return container_of(dev, struct vsock, dev);
}

static struct queue *event_queue(struct vsock *vsock)
{
	return &vsock->dev.queues[VSOCK_EVENT_QUEUE];
}

/* Has its driver ever posted a buffer? */
static bool takes_events(struct vsock *vsock)
{
	return queue_driver_index(event_queue(vsock)) != 0;
}

/* Puts the event into the first buffer that holds it. 1, 0 when there is none,
 * or -EPROTO: the driver could post useless ones for ever. */
static int put_event(struct vsock *vsock, bool *ret_used)
{
	const struct vsock_event event = {
		.id = le32_make(VSOCK_EVENT_TRANSPORT_RESET),
	};
	struct queue *queue = event_queue(vsock);

	for (uint16_t n = 0; n < queue->size; n++) {
		int ret = queue_pop(queue, &vsock->chain), failed;

		if (ret <= 0)
			return ret;
		failed = chain_write(&vsock->chain, &event, sizeof(event));
		queue_push(queue, &vsock->chain);
		*ret_used = true;
		if (!failed)
			return 1;
		log_guest("vsock: an event buffer is too short, or not in RAM");
	}
	return -EPROTO;
}

/* Where the driver's index is comes first: it may answer at once. */
static void tell_reset(struct vsock *vsock)
{
	bool used = false;
	int ret;

	if (!takes_events(vsock))
		return;
	vsock->awaits_ack = true;
	vsock->event_idx_told = queue_kick_at_next(event_queue(vsock));
	ret = put_event(vsock, &used);
	vsock->reset_owed = ret == 0;
	if (ret < 0) {
		metric_inc(&vsock->metrics->ev_queue_event_fails);
		virtio_device_needs_reset(&vsock->dev, "broken event queue");
	} else if (used) {
		virtio_device_notify_used(&vsock->dev, VSOCK_EVENT_QUEUE);
	}
}

void vsock_event_kicked(struct vsock *vsock)
{
	if (vsock->reset_owed) {
		tell_reset(vsock);
		return;
	}
	if (!vsock->awaits_ack ||
	    queue_driver_index(event_queue(vsock)) == vsock->event_idx_told)
		return;
	vsock->awaits_ack = false;
	vsock_turn(vsock, false);
}

void vsock_quiesce(struct virtio_device *dev)
{
	struct vsock *vsock = to_vsock(dev);

	vsock_drop_connections(vsock);
	vsock_bury_all(vsock); /* the guest does not wait for the loop now */
	rx_window_unpop(&vsock->window);
	tell_reset(vsock);
}

void vsock_save(struct virtio_device *dev, struct state_writer *writer)
{
	const struct vsock *vsock = to_vsock(dev);

	state_put_u32(writer, vsock->last_port);
	state_put_u8(writer, vsock->reset_owed);
}

/* One that next_port can have given, or none yet. */
static bool port_valid(uint32_t port)
{
	return port == VSOCK_HOST_PORT_FIRST - 1 ||
	       (port >= VSOCK_HOST_PORT_FIRST &&
		port < 2 * VSOCK_HOST_PORT_FIRST);
}

int vsock_load(struct virtio_device *dev, struct state_reader *reader,
	       struct error *err)
{
	struct vsock *vsock = to_vsock(dev);
	uint32_t last_port = state_get_u32(reader);
	bool reset_owed = state_get_bool(reader);

	if (!port_valid(last_port) && !reader->failed)
		return error_set(err, EINVAL,
				 "%u is not a port that hosts connect from",
				 last_port);
	vsock->last_port = last_port;
	if (!dev->active || !takes_events(vsock))
		return 0;
	vsock->reset_owed = reset_owed;
	vsock->awaits_ack = true;
	vsock->event_idx_told = queue_driver_index(event_queue(vsock));
	return 0;
}
