/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Socket device (virtio 1.2, section 5.10): stream sockets between the guest
 * and Unix sockets of the host.
 *
 *   host to guest   connect to uds_path, send "CONNECT <port>\n", read
 *                   "OK <host port>\n"
 *   guest to host   connect to CID 2, port N: reaches the Unix socket that
 *                   listens on <uds_path>_N
 *
 * The listening socket is bound when the device is created, and served while
 * the guest's driver is up.
 */
#ifndef EMBER_VSOCK_H
#define EMBER_VSOCK_H

#include "virtio/device.h"
#include "vmm/config.h"
#include "vmm/metrics.h"

#define VSOCK_CID_MIN 3

struct vsock;

/* Binds config->uds_path, which must not exist. @config is only read. */
int vsock_create(struct vsock **ret_vsock, const struct vsock_config *config,
		 struct vsock_metrics *metrics, struct error *err) must_check;

struct virtio_device *vsock_virtio(struct vsock *vsock);

/* @fn is called once, when the guest next accepts a connection that a host
 * asked for. Thread: loop, with the device's lock held: it must not block. */
void vsock_on_accept(struct vsock *vsock, void (*fn)(void *arg), void *arg);

#endif
