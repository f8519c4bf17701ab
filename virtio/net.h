/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Network device (virtio 1.2, section 5.1) over a tap: one pair of queues,
 * checksum and segmentation offloads passed through to the tap, mergeable
 * receive buffers. Frames move between tap and guest memory by readv and
 * writev, without a copy in between.
 *
 * A service (the metadata service) may answer frames of the guest instead of
 * the network; what it claims never reaches the tap.
 */
#ifndef EMBER_NET_H
#define EMBER_NET_H

#include "virtio/device.h"
#include "vmm/config.h"
#include "vmm/metrics.h"

struct net;

/* Called on the loop thread with the device's lock held. */
struct net_service {
	/* Is this frame for the service? @head has the first @len bytes of it,
	 * at most NET_PEEK_LEN, from the Ethernet header on. */
	bool (*wants)(void *arg, const uint8_t *head, size_t len);
	/* A frame it wanted, checksums complete; to be copied. */
	void (*input)(void *arg, const uint8_t *frame, size_t len);
	void *arg;
};

/* Frames for the service are at most this long; longer ones are dropped. */
#define NET_SERVICE_FRAME_MAX 4096

/* Opens the tap and builds the device. @config is only read. */
int net_create(struct net **ret_net, const struct net_config *config,
	       struct net_metrics *metrics, struct error *err) must_check;

struct virtio_device *net_virtio(struct net *net);

/* The tap's name. */
const char *net_tap_name(const struct net *net);

/* The kernel serves the queues: limits and services are not possible. */
bool net_has_vhost(const struct net *net);

/* PATCH of the limiters; NULL leaves one alone. Loop thread, takes the lock. */
void net_update_limiters(struct net *net, const struct rate_limiter_update *rx,
			 const struct rate_limiter_update *tx);

/* NULL: none. Before the machine starts. */
void net_set_service(struct net *net, const struct net_service *service);

/* A frame from the service to the guest; not charged to any limiter. Loop
 * thread, takes the lock. -ENOBUFS when the guest has no buffer for it. */
int net_deliver(struct net *net, const uint8_t *frame, size_t len) must_check;

#endif
