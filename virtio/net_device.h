/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The parts of the network device, shared by the files that make it up:
 *
 *   net.c     the device: features, life cycle, limits
 *   net_rx.c  from the tap to the guest
 *   net_tx.c  from the guest to the tap, or to the service
 *
 * Everything here is called on the loop thread with the device's lock held.
 */
#ifndef EMBER_NET_DEVICE_H
#define EMBER_NET_DEVICE_H

#include "virtio/net.h"
#include "virtio/net_frame.h"
#include "virtio/rx_window.h"
#include "virtio/tap.h"
#include "virtio/vhost_net.h"
#include "vmm/limiter_gate.h"

enum {
	NET_RX_QUEUE,
	NET_TX_QUEUE,
	NET_QUEUE_COUNT,
};

/* One turn of the loop moves at most this much in either direction. */
#define NET_BATCH_FRAMES 64
#define NET_BATCH_BYTES KIB(512)
#define NET_BATCH_BUFFERS 256

/* The longest thing a tap gives. */
#define NET_SPILL_LEN (sizeof(struct net_header) + NET_FRAME_MAX)

struct net {
	struct virtio_device dev;
	struct net_metrics *metrics;
	struct tap tap;
	struct vhost_net vhost; /* open: it does the work, not the loop */
	bool has_mac;
	uint8_t mac[MAC_LEN];
	struct net_service service; /* wants: NULL when there is none */

	/* receive */
	struct loop_source tap_source; /* registered while active */
	struct rx_window window;
	/* The end of a frame that was longer than all buffers: it waits here
	 * for more of them, its beginning in those there were. */
	uint8_t *spill;
	uint32_t spilled_from, spilled_len; /* of the frame; len 0: none */
	bool starved;			    /* the driver owes us buffers */
	bool tap_gone;			    /* somebody deleted the interface */
	bool burst;			    /* frames come several at a time */
	bool answers;	       /* frames come as answers to those just sent */
	uint64_t rx_ns, tx_ns; /* when the last frame was moved */
	struct limiter_gate rx_gate;

	/* transmit */
	struct limiter_gate tx_gate;
	struct chain chain; /* the frame being sent */
	struct iovec iov[1 + CHAIN_SEGMENTS_MAX];
};

void net_rx_init(struct net *net, const struct rate_limiter_config *limits);
void net_tx_init(struct net *net, const struct rate_limiter_config *limits);

/* The driver was activated, or is gone. */
void net_rx_start(struct net *net);
void net_rx_stop(struct net *net);
void net_tx_stop(struct net *net);

/* Puts back the buffers that were popped ahead; a frame that has not found
 * enough of them is lost. */
void net_rx_quiesce(struct net *net);

/* The driver may have posted buffers. */
void net_rx_kicked(struct net *net);

/* Frames were just sent: looks whether the network has answered already. True:
 * there is something to tell the driver. */
bool net_rx_after_tx(struct net *net);

/* The driver has frames to send. True: call again. */
bool net_tx_kicked(struct net *net);

#endif
