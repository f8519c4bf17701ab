/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The front end's side of the vhost-user protocol (QEMU's
 * docs/interop/vhost-user.rst): messages over a Unix socket by which another
 * process, the back end, learns where guest memory and a device's rings are. It
 * then serves them on its own: kicks go to it from KVM, and its interrupts to
 * KVM, over eventfds.
 *
 * The back end is trusted with the guest's memory, and with nothing of ours. It
 * may answer what it likes, late, or not at all: every answer is checked, and
 * waited for a second at most. Descriptors that it sends are dropped.
 *
 * A connection on which something went wrong is of no use any more; the owner
 * closes it. Thread: holder of the device's lock.
 */
#ifndef EMBER_VHOST_USER_H
#define EMBER_VHOST_USER_H

#include "virtio/device.h"

/* Feature bits besides the device's own. */
#define VHOST_USER_F_PROTOCOL_FEATURES 30

/* What an answer may take. */
#define VHOST_USER_TIMEOUT_NS UINT64_C(1000000000)

struct vhost_user {
	int fd;		   /* -1: closed */
	uint64_t features; /* agreed on, PROTOCOL_FEATURES among them */
	size_t owed;	   /* bytes of a configuration that is late; 0: none */
};

/*
 * Connects to the back end at the socket @path, and agrees with it on features:
 * what it has of @wanted (VERSION_1 and PROTOCOL_FEATURES it must have), and
 * the protocol's CONFIG. @ret_vhost is untouched on error. Waits a second at
 * most for all of it. -errno with a sentence.
 */
int vhost_user_connect(struct vhost_user *ret_vhost, const char *path,
		       uint64_t wanted, struct error *err) must_check;

/* The same on a stream socket that is connected; takes @fd in any case. */
int vhost_user_adopt(struct vhost_user *ret_vhost, int fd, uint64_t wanted,
		     struct error *err) must_check;

void vhost_user_close(struct vhost_user *vhost);

/* The first @len bytes of the device's configuration space. After -ETIMEDOUT
 * the connection is still good: the answer may come late, for nobody. */
int vhost_user_get_config(struct vhost_user *vhost, void *config, size_t len,
			  struct error *err) must_check;

/*
 * Has the back end serve queue 0 of @dev, which is active, with the features
 * that the driver accepted. All of guest memory must be in a memfd. Does not
 * wait: a back end that does not like what it is told ends the connection.
 */
int vhost_user_start(struct vhost_user *vhost, const struct virtio_device *dev,
		     struct error *err) must_check;

/*
 * Has it stop, in two steps. The first waits until there is an answer, and
 * reads nothing: it may be taken on a vCPU thread. When it returns 0 an honest
 * back end does not touch guest memory any more. -ETIMEDOUT, -EBUSY if it owes
 * another answer, -errno. The second looks at the answer.
 */
int vhost_user_ask_stop(struct vhost_user *vhost) must_check;
int vhost_user_end_stop(struct vhost_user *vhost) must_check;

/* 0: it is there and has nothing to say, as it should be between requests, but
 * for what it owes: that is taken. */
int vhost_user_check_idle(struct vhost_user *vhost) must_check;

#endif
