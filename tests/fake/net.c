/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/fake/net.h"

#include "virtio/net_frame.h"
#include "virtio/tap.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

struct net {
	struct virtio_device dev;
	struct fake_net fake;
	char tap[TAP_NAME_MAX + 1];
	bool vhost;
};

static void fake_destroy(struct virtio_device *dev)
{
	free(container_of(dev, struct net, dev));
}

static const struct virtio_device_ops fake_ops = {
	.name = "net",
	.queue_count = 2,
	.destroy = fake_destroy,
};

int net_create(struct net **ret_net, const struct net_config *config,
	       struct net_metrics *metrics, struct error *err)
{
	struct net *net = calloc(1, sizeof(*net));

	(void)metrics;
	if (!net)
		return error_set_os(err, ENOMEM, "No fake interface:");
	snprintf(net->tap, sizeof(net->tap), "%s", config->host_dev_name);
	net->vhost = config->vhost;
	virtio_device_init(&net->dev, &fake_ops, 0, "", 0);
	*ret_net = net;
	return 0;
}

struct virtio_device *net_virtio(struct net *net)
{
	return &net->dev;
}

const char *net_tap_name(const struct net *net)
{
	return net->tap;
}

bool net_has_vhost(const struct net *net)
{
	return net->vhost;
}

void net_update_limiters(struct net *net, const struct rate_limiter_update *rx,
			 const struct rate_limiter_update *tx)
{
	(void)net;
	(void)rx;
	(void)tx;
}

void net_set_service(struct net *net, const struct net_service *service)
{
	net->fake.service = service ? *service : (struct net_service){0};
}

int net_deliver(struct net *net, const uint8_t *frame, size_t len)
{
	if (!net->fake.deliver)
		return -ENOBUFS;
	net->fake.deliver(net->fake.arg, frame, len);
	return 0;
}

struct fake_net *fake_net_of(struct net *net)
{
	return &net->fake;
}

bool fake_net_send(struct net *net, const uint8_t *frame, size_t len)
{
	const struct net_service *service = &net->fake.service;

	if (!service->wants || !service->wants(service->arg, frame,
					       MIN(len, (size_t)NET_PEEK_LEN)))
		return false;
	service->input(service->arg, frame, len);
	return true;
}
