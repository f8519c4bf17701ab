/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Instead of virtio/net.c: interfaces of which there is nothing but the service
 * behind them. Tests hand it frames of a guest, and get what it delivers.
 */
#ifndef FAKE_NET_H
#define FAKE_NET_H

#include "virtio/net.h"

#define FAKE_FRAME_MAX 1600

struct fake_net {
	struct net_service service;
	/* Called for each frame that is delivered; NULL: the guest has no
	 * buffers. */
	void (*deliver)(void *arg, const uint8_t *frame, size_t len);
	void *arg;
};

struct fake_net *fake_net_of(struct net *net);

/* As the guest would send it. False: it went to the tap. */
bool fake_net_send(struct net *net, const uint8_t *frame, size_t len);

#endif
