/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/nets.h"

#include "virtio/net.h"
#include "virtio/tap.h"

#include <errno.h>
#include <string.h>

struct interface {
	struct net_config config;
	struct net *net;
	struct net_metrics metrics;
};

struct nets {
	struct metrics *metrics;
	size_t count;
	struct interface *list[CONFIG_NETS_MAX];
};

int nets_create(struct nets **ret_nets, struct metrics *metrics)
{
	struct nets *nets = calloc(1, sizeof(*nets));

	if (!nets)
		return -ENOMEM;
	nets->metrics = metrics;
	*ret_nets = nets;
	return 0;
}

static void interface_destroy(struct nets *nets, struct interface *interface)
{
	metrics_remove_device(nets->metrics, &interface->metrics);
	virtio_device_destroy(net_virtio(interface->net));
	net_config_release(&interface->config);
	free(interface);
}

void nets_destroy(struct nets *nets)
{
	if (!nets)
		return;
	for (size_t i = 0; i < nets->count; i++)
		interface_destroy(nets, nets->list[i]);
	free(nets);
}

/* Index of the interface called @id, or the count. */
static size_t find(const struct nets *nets, const char *id)
{
	size_t i = 0;

	while (i < nets->count &&
	       strcmp(nets->list[i]->config.iface_id, id) != 0)
		i++;
	return i;
}

static int check_mac(const struct nets *nets, const struct net_config *config,
		     size_t slot, struct error *err)
{
	const uint8_t *mac = config->guest_mac;

	for (size_t i = 0; i < nets->count && config->has_guest_mac; i++) {
		const struct net_config *other = &nets->list[i]->config;

		if (i != slot && other->has_guest_mac &&
		    memcmp(other->guest_mac, mac, MAC_LEN) == 0)
			return error_set(err, EEXIST,
					 "The MAC address is already in use: "
					 "%02x:%02x:%02x:%02x:%02x:%02x",
					 mac[0], mac[1], mac[2], mac[3], mac[4],
					 mac[5]);
	}
	return 0;
}

/* A name attaches once, as the kernel sees to; descriptors could share a tap,
 * and each interface would get part of the frames. */
static int check_tap(const struct nets *nets, const struct net *net,
		     struct error *err)
{
	const char *name = net_tap_name(net);
	bool busy = false;
	int ret;

	for (size_t i = 0; i < nets->count; i++)
		busy |= strcmp(net_tap_name(nets->list[i]->net), name) == 0;
	if (!busy)
		return 0;
	ret = tap_refuse_busy(name, err);
	error_prefix(err, "Could not create the network device: ");
	return ret;
}

static int interface_create(struct nets *nets, struct interface **ret_interface,
			    struct net_config *config, struct error *err)
{
	struct interface *interface = calloc(1, sizeof(*interface));
	int ret;

	if (!interface)
		return error_set_os(err, ENOMEM, "Cannot create the device:");
	ret = net_create(&interface->net, config, &interface->metrics, err);
	if (ret) {
		free(interface);
		return ret;
	}
	ret = check_tap(nets, interface->net, err);
	if (ret) {
		interface_destroy(nets, interface);
		return ret;
	}
	ret = metrics_add_device(nets->metrics, METRICS_NET, config->iface_id,
				 &interface->metrics);
	if (ret) {
		interface_destroy(nets, interface);
		return error_set(err, -ret, "Too many devices have metrics");
	}
	interface->config = *config;
	*config = (struct net_config){0};
	*ret_interface = interface;
	return 0;
}

static void remove_at(struct nets *nets, size_t slot)
{
	interface_destroy(nets, nets->list[slot]);
	nets->count--;
	memmove(&nets->list[slot], &nets->list[slot + 1],
		(nets->count - slot) * sizeof(nets->list[0]));
}

static void insert_at(struct nets *nets, size_t slot,
		      struct interface *interface)
{
	memmove(&nets->list[slot + 1], &nets->list[slot],
		(nets->count - slot) * sizeof(nets->list[0]));
	nets->list[slot] = interface;
	nets->count++;
}

int nets_set(struct nets *nets, struct net_config *config, struct error *err)
{
	size_t slot = find(nets, config->iface_id);
	struct interface *interface = NULL;
	int ret = check_mac(nets, config, slot, err);

	if (slot < nets->count)
		remove_at(nets, slot);
	if (ret)
		return ret;
	if (slot == CONFIG_NETS_MAX)
		return error_set(err, ENOSPC,
				 "More than %d interfaces cannot be configured",
				 CONFIG_NETS_MAX);
	ret = interface_create(nets, &interface, config, err);
	if (interface)
		insert_at(nets, slot, interface);
	return ret;
}

int nets_update(struct nets *nets, const struct net_update *update,
		struct error *err)
{
	size_t slot = find(nets, update->iface_id);
	struct interface *interface;
	struct net_config *config;

	if (slot == nets->count)
		return error_set(err, ENOENT,
				 "Unable to update the network device: Failed "
				 "perform action on device: Device not found");
	interface = nets->list[slot];
	config = &interface->config;
	if (net_has_vhost(interface->net) &&
	    (rate_limiter_config_limits(&update->rx_rate_limiter.values) ||
	     rate_limiter_config_limits(&update->tx_rate_limiter.values)))
		return error_set(err, EINVAL,
				 "Unable to update the network device: vhost "
				 "knows no rate limiters");
	net_update_limiters(
		interface->net,
		update->has_rx_rate_limiter ? &update->rx_rate_limiter : NULL,
		update->has_tx_rate_limiter ? &update->tx_rate_limiter : NULL);
	rate_limiter_config_update(&config->rx_rate_limiter.values,
				   &update->rx_rate_limiter);
	rate_limiter_config_update(&config->tx_rate_limiter.values,
				   &update->tx_rate_limiter);
	return 0;
}

size_t nets_count(const struct nets *nets)
{
	return nets->count;
}

const struct net_config *nets_config(const struct nets *nets, size_t i)
{
	return &nets->list[i]->config;
}

struct virtio_device *nets_device(const struct nets *nets, size_t i)
{
	return net_virtio(nets->list[i]->net);
}

struct net *nets_find(const struct nets *nets, const char *iface_id)
{
	size_t slot = find(nets, iface_id);

	return slot < nets->count ? nets->list[slot]->net : NULL;
}
