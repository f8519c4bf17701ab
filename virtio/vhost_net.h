/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A network device whose queues the kernel serves (drivers/vhost/net.c of
 * Linux; the interface is linux/vhost.h). Kicks go from KVM to vhost and
 * interrupts from vhost to KVM over the device's eventfds: this process sees
 * neither frames nor kicks.
 *
 * Where each queue stands is in its next_avail while vhost is stopped, so a
 * device may be stopped and started again at any time. Then, too, gmem knows
 * what vhost has written, if it tracks that.
 *
 * Thread: holder of the device's lock.
 */
#ifndef EMBER_VHOST_NET_H
#define EMBER_VHOST_NET_H

#include "virtio/device.h"

struct vhost_net {
	int fd; /* -1: not used */
	bool running;
	/* One bit per 4 KiB of guest address that vhost wrote to; NULL: nobody
	 * wants to know. */
	uint64_t *log;
	size_t log_words;
	/* Becomes ready, edge-triggered, when vhost gave up on a queue. The
	 * owner sets fn and registers it. */
	struct loop_source errors;
};

/* -errno with a sentence when there is no vhost here, or it is too old. */
int vhost_net_open(struct vhost_net *vhost, struct error *err) must_check;
void vhost_net_close(struct vhost_net *vhost);

/* Serves the first two queues of @dev, which are valid, with the tap @tap_fd,
 * whose header has the size of virtio 1. -errno: nothing runs. */
int vhost_net_start(struct vhost_net *vhost, struct virtio_device *dev,
		    int tap_fd) must_check;

/* Forgets what vhost gave up on before. */
void vhost_net_clear_errors(const struct vhost_net *vhost);

/* On return nothing touches guest memory any more. */
void vhost_net_stop(struct vhost_net *vhost, struct virtio_device *dev);

#endif
