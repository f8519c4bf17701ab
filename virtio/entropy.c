/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Theory of operation.
 *
 * A request is a buffer to fill (virtio 1.2, 5.4.6.2). The kernel's generator
 * writes straight into the guest's memory: the bytes are nowhere else, and so
 * nobody but this guest ever has them. A device may fill less than it was
 * given, as this one does with what is longer than 64 KiB.
 *
 * The host's generator never runs dry once it is seeded, which it is long
 * before there are guests; should it fail, the request comes back empty, and
 * the driver asks again.
 */
#include "virtio/entropy.h"

#include "vmm/limiter_gate.h"
#include "vmm/log.h"

#include <errno.h>
#include <sys/random.h>

#define VIRTIO_ID_ENTROPY 4

#define REQUEST_BYTES_MAX KIB(64)

/* One turn of the loop gives at most this much: some 2 ms of work. */
#define TURN_BYTES_MAX KIB(512)

struct entropy {
	struct virtio_device dev;
	struct entropy_metrics *metrics;
	struct limiter_gate gate;
	struct chain chain; /* the request being served */
	struct iovec iov[CHAIN_SEGMENTS_MAX];
};

static struct entropy *to_entropy(struct virtio_device *dev)
{
	return container_of(dev, struct entropy, dev);
}

/* -------------------------------------------------------- serving requests */

/* Fewer than all: the kernel looks for signals now and then. */
static int fill(uint8_t *buf, size_t len)
{
	size_t done = 0;

	while (done < len) {
		ssize_t n = getrandom(buf + done, len - done, GRND_NONBLOCK);

		if (n < 0 && errno != EINTR)
			return -errno;
		done += n > 0 ? (size_t)n : 0;
	}
	return 0;
}

static int fill_all(struct entropy *entropy, int count)
{
	for (int i = 0; i < count; i++) {
		const struct iovec *iov = &entropy->iov[i];
		int ret = fill(iov->iov_base, iov->iov_len);

		if (ret)
			return ret;
	}
	return 0;
}

/* Returns the bytes that the request has cost, also when it got none. */
static size_t serve(struct entropy *entropy)
{
	struct chain *chain = &entropy->chain;
	size_t len = MIN(chain->writable.left, REQUEST_BYTES_MAX);
	size_t borrowed;
	int count;
	int ret;

	if (chain->readable.left || !len) {
		metric_inc(&entropy->metrics->entropy_event_fails);
		log_guest("entropy: a request that is not a buffer to fill");
		return 0;
	}
	count = chain_borrow_writable(chain, len, entropy->iov,
				      CHAIN_SEGMENTS_MAX, &borrowed);
	if (count < 0) {
		metric_inc(&entropy->metrics->entropy_event_fails);
		log_guest("entropy: a buffer is not in RAM");
		return 0;
	}
	ret = fill_all(entropy, count);
	/* What was written before it failed may be anything but new. */
	chain_return_writable(chain, borrowed);
	if (ret) {
		chain->written = 0;
		metric_inc(&entropy->metrics->host_rng_fails);
		log_guest_at(LOG_LEVEL_ERROR,
			     "entropy: the host has no random bytes: %s",
			     os_error_text(-ret));
		return borrowed;
	}
	metric_add(&entropy->metrics->entropy_bytes, borrowed);
	return borrowed;
}

static bool may_serve(struct entropy *entropy)
{
	if (limiter_gate_pass(&entropy->gate, entropy->dev.loop))
		return true;
	metric_inc(&entropy->metrics->entropy_rate_limiter_throttled);
	return false;
}

/* Returns the number served or -EPROTO. At most one ring's worth, and not too
 * many bytes: other devices of the loop want their turn. */
static int drain(struct entropy *entropy, struct queue *queue)
{
	size_t bytes = 0;
	int served = 0;

	while (served < queue->size && bytes < TURN_BYTES_MAX &&
	       may_serve(entropy)) {
		int ret = queue_pop(queue, &entropy->chain);
		size_t cost;

		if (ret <= 0)
			return ret < 0 ? ret : served;
		cost = serve(entropy);
		queue_push(queue, &entropy->chain);
		limiter_gate_charge(&entropy->gate, cost, 1);
		bytes += cost;
		served++;
	}
	return served;
}

/* True: there is more to do. */
static bool serve_queue(struct entropy *entropy)
{
	struct virtio_device *dev = &entropy->dev;
	struct queue *queue = &dev->queues[0];
	int served;
	bool more;

	queue_kicks_disable(queue);
	served = drain(entropy, queue);
	if (served < 0) {
		metric_inc(&entropy->metrics->entropy_event_fails);
		virtio_device_needs_reset(dev, "broken request queue");
		return false;
	}
	more = queue_kicks_enable(queue) &&
	       !limiter_gate_is_shut(&entropy->gate);
	if (served)
		virtio_device_notify_used(dev, 0);
	return more;
}

static bool entropy_queue_event(struct virtio_device *dev, uint16_t q)
{
	struct entropy *entropy = to_entropy(dev);

	(void)q;
	metric_inc(&entropy->metrics->entropy_event_count);
	return !limiter_gate_is_shut(&entropy->gate) && serve_queue(entropy);
}

static void on_timer(struct loop_timer *timer)
{
	struct entropy *entropy =
		container_of(timer, struct entropy, gate.timer);

	pthread_mutex_lock(&entropy->dev.lock);
	virtio_device_settle(&entropy->dev);
	metric_inc(&entropy->metrics->rate_limiter_event_count);
	if (entropy->dev.active && serve_queue(entropy))
		limiter_gate_yield(&entropy->gate, entropy->dev.loop);
	pthread_mutex_unlock(&entropy->dev.lock);
}

/* -------------------------------------------------------------- life cycle */

static int entropy_activate(struct virtio_device *dev)
{
	(void)dev;
	return 0;
}

static void entropy_reset(struct virtio_device *dev)
{
	(void)dev; /* requests are served at once: none is in flight */
}

static void entropy_settle(struct virtio_device *dev)
{
	struct entropy *entropy = to_entropy(dev);

	limiter_gate_reset(&entropy->gate);
}

static void entropy_save(struct virtio_device *dev, struct state_writer *writer)
{
	ratelimit_save(&to_entropy(dev)->gate.limiter, writer, monotonic_ns());
}

static int entropy_load(struct virtio_device *dev, struct state_reader *reader,
			struct error *err)
{
	return ratelimit_load(&to_entropy(dev)->gate.limiter, reader,
			      monotonic_ns(), err);
}

static void entropy_destroy(struct virtio_device *dev)
{
	free(to_entropy(dev));
}

static const struct virtio_device_ops entropy_ops = {
	.name = "entropy",
	.id = VIRTIO_ID_ENTROPY,
	.queue_count = 1,
	.activate = entropy_activate,
	.settle = entropy_settle,
	.queue_event = entropy_queue_event,
	.save = entropy_save,
	.load = entropy_load,
	.reset = entropy_reset,
	.destroy = entropy_destroy,
};

int entropy_create(struct entropy **ret_device,
		   const struct entropy_config *config, struct metrics *metrics,
		   struct error *err)
{
	struct entropy *entropy = calloc(1, sizeof(*entropy));

	if (!entropy)
		return error_set_os(err, ENOMEM,
				    "Cannot create the entropy device:");
	entropy->metrics = &metrics->entropy;
	limiter_gate_init(&entropy->gate, &config->rate_limiter.values,
			  on_timer);
	virtio_device_init(&entropy->dev, &entropy_ops, 0, "", 0);
	*ret_device = entropy;
	return 0;
}

struct virtio_device *entropy_virtio(struct entropy *device)
{
	return &device->dev;
}
