/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The host's end of a network interface: a tap device with a virtio-net header
 * (Documentation/networking/tuntap.rst of Linux). Non-blocking. Loop thread.
 */
#ifndef EMBER_TAP_H
#define EMBER_TAP_H

#include "vmm/error.h"

#include <limits.h>
#include <stdbool.h>

#define TAP_NAME_MAX 15

#define TAP_OFFLOADS_UNKNOWN UINT_MAX

struct tap {
	int fd; /* -1: none */
	char name[TAP_NAME_MAX + 1];
	unsigned offloads; /* as last set */
};

/* Attaches to the tap called @name, which the kernel creates if the caller may.
 * EBUSY when somebody else is attached. */
int tap_open(struct tap *tap, const char *name, struct error *err) must_check;

/* The same EBUSY, for a tap that this process itself has already. */
int tap_refuse_busy(const char *name, struct error *err) must_check;

/* Takes a tap that was opened by someone else: @fd is duplicated. It must be a
 * tap with IFF_NO_PI and IFF_VNET_HDR. */
int tap_adopt(struct tap *tap, int fd, struct error *err) must_check;

/* What the guest accepts from us: TUN_F_... bits (TUNSETOFFLOAD). Any thread.
 * The kernel takes its lock of all network interfaces for it, for which others
 * may queue; so only a change goes to the kernel. */
int tap_set_offloads(struct tap *tap, unsigned flags) must_check;

/* Safe on one that was never opened, if fd is -1. */
void tap_close(struct tap *tap);

#endif
