/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The network interfaces of a microVM: what the client configured, with the
 * device and its open tap behind each, in the order of their first appearance.
 * Thread: loop.
 */
#ifndef EMBER_NETS_H
#define EMBER_NETS_H

#include "vmm/config.h"
#include "vmm/metrics.h"

struct nets;
struct net;
struct virtio_device;

int nets_create(struct nets **ret_nets, struct metrics *metrics) must_check;

/* The machine the devices were attached to must be gone. Accepts NULL. */
void nets_destroy(struct nets *nets);

/* Adds or replaces an interface: opens its tap, which no other interface may
 * have (-EBUSY), takes the strings of @config.
 * A replaced one is closed first, as its tap is likely to be the same; so when
 * the new one fails, neither is left. */
int nets_set(struct nets *nets, struct net_config *config,
	     struct error *err) must_check;

/* Applies new limits to an interface of a started microVM. */
int nets_update(struct nets *nets, const struct net_update *update,
		struct error *err) must_check;

size_t nets_count(const struct nets *nets);
const struct net_config *nets_config(const struct nets *nets, size_t i);
struct virtio_device *nets_device(const struct nets *nets, size_t i);

/* NULL when there is none of that id. */
struct net *nets_find(const struct nets *nets, const char *iface_id);

#endif
