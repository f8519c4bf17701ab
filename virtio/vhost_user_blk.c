/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Theory of operation.
 *
 * The driver finds a device with the back end's features and configuration.
 * When it is activated, the loop thread tells the back end where memory and
 * queue are, and hands it two eventfds: the one that KVM signals for a kick,
 * and the one that makes KVM raise the interrupt. From then on there is nothing
 * to do here, but to notice that the back end went away.
 *
 * An eventfd that the back end has may be in any state and mode: it is never
 * written to or listened to here again, or it could be made to block or to spin
 * the loop. So the loop is woken over one of our own (wake).
 *
 * A reset waits on the vCPU thread that asked for it until the back end has
 * stopped, since the driver may use its buffers for something else afterwards.
 * A back end that does not stop within a second is given up, as is one that
 * says something without being asked: the connection is closed, and the device
 * needs a reset that will not help. Its requests hang. It keeps the memory that
 * it was given: that cannot be taken back.
 *
 * A pause does not stop the back end: without vCPUs there are no new requests,
 * and there are no snapshots that those in flight could be missing from.
 */
#include "virtio/vhost_user_blk.h"

#include "virtio/vhost_user.h"
#include "vmm/log.h"

#include <errno.h>
#include <string.h>
#include <sys/eventfd.h>

#define VIRTIO_ID_BLOCK 2

/* Feature bits (5.2.3). */
#define VIRTIO_BLK_F_RO 5
#define VIRTIO_BLK_F_FLUSH 9

/* struct virtio_blk_config as far as write_zeroes_may_unmap and its padding
 * (5.2.4): what a driver may look at with any of the features offered. */
#define CONFIG_LEN 60

struct vhost_user_blk {
	struct virtio_device dev;
	struct vhost_user vhost;
	struct vhost_user_block_metrics *metrics;
	char *path; /* of the socket, for the log */
	bool running;
	bool stopping; /* its answer to that was not looked at yet */
	bool lost;     /* of no use any more; the loop closes it */
	struct loop_source wake;
	struct loop_source end; /* of the connection; not listened to: fd -1 */
};

static struct vhost_user_blk *to_blk(struct virtio_device *dev)
{
	return container_of(dev, struct vhost_user_blk, dev);
}

static void stop_watching(struct vhost_user_blk *blk)
{
	loop_remove(&blk->end);
	blk->end.fd = -1;
}

/* Loop thread. */
static void give_up(struct vhost_user_blk *blk, const char *why)
{
	stop_watching(blk);
	vhost_user_close(&blk->vhost);
	blk->lost = true;
	blk->running = blk->stopping = false;
	atomic_store(&blk->dev.interrupt_always, 0);
	log_error("vhost-user back end %s is lost: %s", blk->path, why);
	if (blk->dev.active)
		virtio_device_needs_reset(&blk->dev, "no back end");
}

static void on_end(struct loop_source *source, uint32_t events)
{
	struct vhost_user_blk *blk =
		container_of(source, struct vhost_user_blk, end);
	int ret;

	(void)events;
	pthread_mutex_lock(&blk->dev.lock);
	virtio_device_settle(&blk->dev);
	if (!blk->lost) {
		ret = vhost_user_check_idle(&blk->vhost);
		if (ret)
			give_up(blk, ret == -EPROTO ? "it speaks unasked"
						    : os_error_text(-ret));
	}
	pthread_mutex_unlock(&blk->dev.lock);
}

static void on_wake(struct loop_source *source, uint32_t events)
{
	struct vhost_user_blk *blk =
		container_of(source, struct vhost_user_blk, wake);

	(void)events;
	pthread_mutex_lock(&blk->dev.lock);
	virtio_device_settle(&blk->dev);
	pthread_mutex_unlock(&blk->dev.lock);
}

/* --------------------------------------------------- the loop thread's part */

/* The first activation of a machine: kicks are the back end's from now on. */
static int take_over_kicks(struct vhost_user_blk *blk)
{
	struct virtio_device *dev = &blk->dev;
	int ret;

	if (dev->wake)
		return 0;
	ret = loop_add(dev->loop, &blk->wake);
	if (!ret)
		ret = loop_modify(dev->kicks[0], 0);
	if (!ret)
		dev->wake = &blk->wake;
	return ret;
}

static int watch_end(struct vhost_user_blk *blk)
{
	if (blk->end.fd >= 0)
		return 0;
	blk->end.fd = blk->vhost.fd;
	return loop_add(blk->dev.loop, &blk->end);
}

static void start(struct vhost_user_blk *blk)
{
	uint64_t begin = monotonic_ns();
	struct error err = {0};
	int ret = take_over_kicks(blk);

	if (!ret)
		ret = watch_end(blk);
	if (ret)
		error_set_os(&err, -ret, "The loop cannot watch it:");
	else
		ret = vhost_user_start(&blk->vhost, &blk->dev, &err);
	if (ret) {
		metric_inc(&blk->metrics->activate_fails);
		give_up(blk, err.text);
		return;
	}
	blk->running = true;
	metric_set(&blk->metrics->activate_time_us,
		   (monotonic_ns() - begin) / 1000);
}

/* The machine ends: its loop and its kicks are not ours any more. */
static void leave_loop(struct vhost_user_blk *blk)
{
	loop_remove(&blk->wake);
	stop_watching(blk);
	blk->dev.wake = NULL;
}

static void blk_settle(struct virtio_device *dev)
{
	struct vhost_user_blk *blk = to_blk(dev);
	int ret = 0;

	if (blk->stopping)
		ret = vhost_user_end_stop(&blk->vhost);
	blk->stopping = false;
	if (ret)
		give_up(blk, os_error_text(-ret));
	else if (blk->lost && blk->vhost.fd >= 0)
		give_up(blk, "it does not stop");
	if (!dev->kicks[0])
		leave_loop(blk);
	else if (dev->active && !blk->running && !blk->lost)
		start(blk);
}

/* ------------------------------------------------- the vCPU threads' part */

/* Interrupts come from the back end from now on: all that can be said is that
 * there may be something in the queue. */
static int blk_activate(struct virtio_device *dev)
{
	struct vhost_user_blk *blk = to_blk(dev);

	if (blk->lost) {
		metric_inc(&blk->metrics->activate_fails);
		return -ENOTCONN;
	}
	atomic_store(&dev->interrupt_always, VIRTIO_INTERRUPT_QUEUE);
	return 0;
}

static void blk_reset(struct virtio_device *dev)
{
	struct vhost_user_blk *blk = to_blk(dev);

	atomic_store(&dev->interrupt_always, 0);
	if (!blk->running)
		return;
	blk->running = false;
	blk->stopping = vhost_user_ask_stop(&blk->vhost) == 0;
	blk->lost = !blk->stopping;
}

/* Kicks are not for us. */
static bool blk_queue_event(struct virtio_device *dev, uint16_t q)
{
	(void)dev;
	(void)q;
	return false;
}

/* -------------------------------------------------------------- life cycle */

static void blk_destroy(struct virtio_device *dev)
{
	struct vhost_user_blk *blk = to_blk(dev);

	vhost_user_close(&blk->vhost);
	close_fd(&blk->wake.fd);
	free(blk->path);
	free(blk);
}

static const struct virtio_device_ops blk_ops = {
	.name = "vhost-user-block",
	.id = VIRTIO_ID_BLOCK,
	.queue_count = 1,
	.activate = blk_activate,
	.settle = blk_settle,
	.queue_event = blk_queue_event,
	.reset = blk_reset,
	.destroy = blk_destroy,
};

static uint64_t wanted_features(const struct drive_config *config)
{
	uint64_t features = BIT(VIRTIO_F_EVENT_IDX) | BIT(VIRTIO_BLK_F_RO);

	if (config->cache_type == CACHE_WRITEBACK)
		features |= BIT(VIRTIO_BLK_F_FLUSH);
	return features;
}

/* Everything that can fail; what is there already is in @blk. */
static int prepare(struct vhost_user_blk *blk,
		   const struct drive_config *config, uint8_t *space,
		   struct error *err)
{
	int ret;

	blk->wake.fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (blk->wake.fd < 0)
		return error_set_os(err, errno, "No eventfd:");
	blk->path = strdup(config->socket);
	if (!blk->path)
		return error_set_os(err, ENOMEM, "No memory:");
	ret = vhost_user_connect(&blk->vhost, config->socket,
				 wanted_features(config), err);
	if (!ret)
		ret = vhost_user_get_config(&blk->vhost, space, CONFIG_LEN,
					    err);
	return ret;
}

int vhost_user_blk_create(struct vhost_user_blk **ret_blk,
			  const struct drive_config *config,
			  struct vhost_user_block_metrics *metrics,
			  struct error *err)
{
	struct vhost_user_blk *blk = calloc(1, sizeof(*blk));
	uint64_t begin = monotonic_ns();
	uint8_t space[CONFIG_LEN];
	int ret;

	if (!blk)
		return error_set_os(err, ENOMEM, "No memory:");
	blk->metrics = metrics;
	blk->vhost.fd = -1;
	blk->wake = (struct loop_source){
		.fd = -1,
		.events = EPOLLIN | EPOLLET, /* and never read */
		.class = LOOP_DEVICE,
		.fn = on_wake,
	};
	blk->end = (struct loop_source){
		.fd = -1,
		.events = EPOLLIN | EPOLLRDHUP | EPOLLET,
		.class = LOOP_DEVICE,
		.fn = on_end,
	};
	ret = prepare(blk, config, space, err);
	if (ret) {
		error_prefix(err, "Vhost user backend error: ");
		blk_destroy(&blk->dev);
		return ret;
	}
	/* What is between the two of us is none of the driver's features. */
	virtio_device_init(&blk->dev, &blk_ops,
			   blk->vhost.features &
				   ~BIT(VHOST_USER_F_PROTOCOL_FEATURES),
			   space, sizeof(space));
	metric_set(&metrics->init_time_us, (monotonic_ns() - begin) / 1000);
	*ret_blk = blk;
	return 0;
}

struct virtio_device *vhost_user_blk_virtio(struct vhost_user_blk *blk)
{
	return &blk->dev;
}

bool vhost_user_blk_read_only(const struct vhost_user_blk *blk)
{
	return blk->dev.features & BIT(VIRTIO_BLK_F_RO);
}

/* Lock held. */
static int refresh(struct vhost_user_blk *blk, struct error *err)
{
	uint8_t space[CONFIG_LEN];
	int ret;

	virtio_device_settle(&blk->dev);
	if (blk->lost)
		return error_set(err, ENOTCONN, "The back end %s is gone",
				 blk->path);
	ret = vhost_user_get_config(&blk->vhost, space, sizeof(space), err);
	if (!ret)
		virtio_device_set_config(&blk->dev, space, sizeof(space));
	else if (ret != -ETIMEDOUT)
		give_up(blk, err->text);
	return ret;
}

int vhost_user_blk_refresh(struct vhost_user_blk *blk, struct error *err)
{
	uint64_t begin = monotonic_ns();
	int ret;

	pthread_mutex_lock(&blk->dev.lock);
	ret = refresh(blk, err);
	pthread_mutex_unlock(&blk->dev.lock);
	if (ret) {
		metric_inc(&blk->metrics->cfg_fails);
		error_prefix(err, "Vhost user backend error: ");
		return ret;
	}
	metric_set(&blk->metrics->config_change_time_us,
		   (monotonic_ns() - begin) / 1000);
	return 0;
}
