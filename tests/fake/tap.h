/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Instead of virtio/tap.c: a tap is one end of a pair of datagram sockets, of
 * which the test holds the other.
 */
#ifndef FAKE_TAP_H
#define FAKE_TAP_H

#include "virtio/tap.h"

struct fake_tap {
	int peer;	     /* the network: frames with their headers */
	unsigned offloads;   /* as last set */
	int refuse_offloads; /* errno for the next attempt */
};

/* Of the last tap that was opened. */
extern struct fake_tap fake_tap;

#endif
