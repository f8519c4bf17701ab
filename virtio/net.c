/* SPDX-License-Identifier: Apache-2.0 */
#include "virtio/net_device.h"
#include "vmm/log.h"

#include <errno.h>
#include <linux/if_tun.h>
#include <string.h>

#define VIRTIO_ID_NET 1

#define NO_LIMITERS "vhost knows no rate limiters: an interface has either"

static struct net *to_net(struct virtio_device *dev)
{
	return container_of(dev, struct net, dev);
}

bool net_has_vhost(const struct net *net)
{
	return net->vhost.fd >= 0;
}

static bool net_queue_event(struct virtio_device *dev, uint16_t q)
{
	struct net *net = to_net(dev);

	if (net_has_vhost(net))
		return false;
	if (q == NET_TX_QUEUE)
		return net_tx_kicked(net);
	net_rx_kicked(net);
	return false;
}

/* -------------------------------------------------------------- life cycle */

/* Interrupts come from vhost from now on: all that can be said is that there
 * may be something in the queues. A device that is held is started later. */
static int start_vhost(struct net *net)
{
	atomic_store(&net->dev.interrupt_always, VIRTIO_INTERRUPT_QUEUE);
	if (net->dev.held)
		return 0;
	return vhost_net_start(&net->vhost, &net->dev, net->tap.fd);
}

/* What the guest takes is what the tap may send it (5.1.3.1 has the rules that
 * the first bit is needed for the others). */
static unsigned tap_offloads(const struct net *net)
{
	static const struct {
		unsigned feature, flag;
	} offloads[] = {
		{VIRTIO_NET_F_GUEST_CSUM, TUN_F_CSUM},
		{VIRTIO_NET_F_GUEST_TSO4, TUN_F_TSO4},
		{VIRTIO_NET_F_GUEST_TSO6, TUN_F_TSO6},
		{VIRTIO_NET_F_GUEST_UFO, TUN_F_UFO},
	};
	unsigned flags = 0;

	if (!virtio_device_negotiated(&net->dev, VIRTIO_NET_F_GUEST_CSUM))
		return 0;
	for (size_t i = 0; i < ARRAY_SIZE(offloads); i++)
		if (virtio_device_negotiated(&net->dev, offloads[i].feature))
			flags |= offloads[i].flag;
	return flags;
}

static int net_activate(struct virtio_device *dev)
{
	struct net *net = to_net(dev);
	int ret = tap_set_offloads(&net->tap, tap_offloads(net));

	if (!ret && net_has_vhost(net))
		ret = start_vhost(net);
	if (ret) {
		metric_inc(&net->metrics->activate_fails);
		log_error("net: tap %s cannot be used: %s (os error %d)",
			  net->tap.name, os_error_text(-ret), -ret);
	}
	return ret;
}

static void leave_vhost(struct net *net)
{
	vhost_net_stop(&net->vhost, &net->dev);
	atomic_store(&net->dev.interrupt_always, 0);
}

/* The loop's part is net_settle; vhost must be gone before the driver goes on.
 */
static void net_reset(struct virtio_device *dev)
{
	leave_vhost(to_net(dev));
}

static void net_hold(struct virtio_device *dev, bool on)
{
	struct net *net = to_net(dev);

	if (!net_has_vhost(net))
		return;
	if (on)
		vhost_net_stop(&net->vhost, dev);
	else if (start_vhost(net))
		virtio_device_needs_reset(dev, "vhost does not go on");
}

/* vhost is stopped, and has told where it stands; where the rings end is in
 * them. */
static void net_quiesce(struct virtio_device *dev)
{
	struct net *net = to_net(dev);

	if (!net_has_vhost(net)) {
		net_rx_quiesce(net);
		return;
	}
	queue_adopt_used(&dev->queues[NET_RX_QUEUE]);
	queue_adopt_used(&dev->queues[NET_TX_QUEUE]);
}

static void net_save(struct virtio_device *dev, struct state_writer *writer)
{
	const struct net *net = to_net(dev);
	uint64_t now = monotonic_ns();

	ratelimit_save(&net->rx_gate.limiter, writer, now);
	ratelimit_save(&net->tx_gate.limiter, writer, now);
}

static int net_load(struct virtio_device *dev, struct state_reader *reader,
		    struct error *err)
{
	struct net *net = to_net(dev);
	uint64_t now = monotonic_ns();
	int ret = ratelimit_load(&net->rx_gate.limiter, reader, now, err);

	if (!ret)
		ret = ratelimit_load(&net->tx_gate.limiter, reader, now, err);
	if (ret || !net_has_vhost(net))
		return ret;
	return ratelimit_enabled(&net->rx_gate.limiter) ||
			       ratelimit_enabled(&net->tx_gate.limiter)
		       ? error_set(err, EINVAL, NO_LIMITERS)
		       : 0;
}

/* vhost found a queue broken, and says no more about it. */
static void on_vhost_error(struct loop_source *source, uint32_t events)
{
	struct net *net = container_of(source, struct net, vhost.errors);

	(void)events;
	pthread_mutex_lock(&net->dev.lock);
	virtio_device_settle(&net->dev);
	if (net->dev.active) {
		leave_vhost(net);
		vhost_net_clear_errors(&net->vhost);
		metric_inc(&net->metrics->event_fails);
		virtio_device_needs_reset(&net->dev, "vhost broke off");
	}
	pthread_mutex_unlock(&net->dev.lock);
}

/* Kicks to transmit are between KVM and vhost. Those of the other queue are
 * heard here too: through them the loop learns of a reset. */
static void settle_vhost(struct net *net)
{
	struct loop_source *kick = net->dev.kicks[NET_TX_QUEUE];
	uint32_t events = net->dev.active ? 0 : EPOLLIN | EPOLLET;

	if (kick && loop_modify(kick, events))
		log_error("net: cannot change who hears kicks");
	loop_remove(&net->vhost.errors);
	if (!net->dev.active)
		vhost_net_clear_errors(&net->vhost);
	net->vhost.errors.fn = on_vhost_error;
	if (net->dev.active && loop_add(net->dev.loop, &net->vhost.errors))
		log_error("net: cannot watch vhost");
}

static void net_settle(struct virtio_device *dev)
{
	struct net *net = to_net(dev);

	if (net_has_vhost(net)) {
		settle_vhost(net);
		return;
	}
	net_rx_stop(net);
	net_tx_stop(net);
	if (dev->active)
		net_rx_start(net);
}

static void net_destroy(struct virtio_device *dev)
{
	struct net *net = to_net(dev);

	vhost_net_close(&net->vhost);
	tap_close(&net->tap);
	free(net->spill);
	free(net);
}

static const struct virtio_device_ops net_ops = {
	.name = "net",
	.id = VIRTIO_ID_NET,
	.queue_count = NET_QUEUE_COUNT,
	.activate = net_activate,
	.settle = net_settle,
	.queue_event = net_queue_event,
	.hold = net_hold,
	.quiesce = net_quiesce,
	.save = net_save,
	.load = net_load,
	.config_fixed = "guest_mac and mtu",
	.reset = net_reset,
	.destroy = net_destroy,
};

#define NET_FEATURES                                                           \
	(BIT(VIRTIO_NET_F_CSUM) | BIT(VIRTIO_NET_F_GUEST_CSUM) |               \
	 BIT(VIRTIO_NET_F_GUEST_TSO4) | BIT(VIRTIO_NET_F_GUEST_TSO6) |         \
	 BIT(VIRTIO_NET_F_GUEST_UFO) | BIT(VIRTIO_NET_F_HOST_TSO4) |           \
	 BIT(VIRTIO_NET_F_HOST_TSO6) | BIT(VIRTIO_NET_F_HOST_UFO) |            \
	 BIT(VIRTIO_NET_F_MRG_RXBUF) | BIT(VIRTIO_F_EVENT_IDX))

/* 5.1.4 */
struct net_space {
	uint8_t mac[MAC_LEN];
	le16 status;
	le16 max_virtqueue_pairs;
	le16 mtu;
};

static void init_device(struct net *net, const struct net_config *config)
{
	struct net_space space = {.mtu = le16_make((uint16_t)config->mtu)};
	uint64_t features = NET_FEATURES;

	net->has_mac = config->has_guest_mac;
	if (net->has_mac) {
		features |= BIT(VIRTIO_NET_F_MAC);
		memcpy(net->mac, config->guest_mac, MAC_LEN);
		memcpy(space.mac, config->guest_mac, MAC_LEN);
	}
	if (config->mtu)
		features |= BIT(VIRTIO_NET_F_MTU);
	virtio_device_init(&net->dev, &net_ops, features, &space,
			   sizeof(space));
}

/* The tap, and vhost if it was asked for. */
static int open_backend(struct net *net, const struct net_config *config,
			struct error *err)
{
	int ret = config->has_tap_fd
			  ? tap_adopt(&net->tap, (int)config->tap_fd, err)
			  : tap_open(&net->tap, config->host_dev_name, err);

	if (ret || !config->vhost)
		return ret;
	if (rate_limiter_config_limits(&config->rx_rate_limiter.values) ||
	    rate_limiter_config_limits(&config->tx_rate_limiter.values))
		return error_set(err, EINVAL, NO_LIMITERS);
	return vhost_net_open(&net->vhost, err);
}

int net_create(struct net **ret_net, const struct net_config *config,
	       struct net_metrics *metrics, struct error *err)
{
	struct net *net = calloc(1, sizeof(*net));
	int ret;

	if (!net)
		return error_set_os(err, ENOMEM,
				    "Could not create the network device:");
	net->tap.fd = net->vhost.fd = -1;
	net->metrics = metrics;
	net->spill = malloc(NET_SPILL_LEN);
	ret = net->spill ? open_backend(net, config, err)
			 : error_set_os(err, ENOMEM, "No memory for it:");
	if (ret) {
		error_prefix(err, "Could not create the network device: ");
		tap_close(&net->tap);
		free(net->spill);
		free(net);
		return ret;
	}
	net_rx_init(net, &config->rx_rate_limiter.values);
	net_tx_init(net, &config->tx_rate_limiter.values);
	init_device(net, config);
	*ret_net = net;
	return 0;
}

struct virtio_device *net_virtio(struct net *net)
{
	return &net->dev;
}

const char *net_tap_name(const struct net *net)
{
	return net->tap.name;
}

void net_set_service(struct net *net, const struct net_service *service)
{
	net->service = service ? *service : (struct net_service){0};
}

/* What waits for tokens tries again at once. */
void net_update_limiters(struct net *net, const struct rate_limiter_update *rx,
			 const struct rate_limiter_update *tx)
{
	pthread_mutex_lock(&net->dev.lock);
	if (rx)
		limiter_gate_update(&net->rx_gate, net->dev.loop, rx);
	if (tx)
		limiter_gate_update(&net->tx_gate, net->dev.loop, tx);
	pthread_mutex_unlock(&net->dev.lock);
}
