/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Theory of operation.
 *
 * Memory needs no device: the guest reads and writes it without an exit. What
 * is left to do is the flush (virtio 1.2, 5.19.6): a request is a 32-bit type,
 * its answer a 32-bit result.
 *
 * One sync of the file answers all flushes that waited when it began: what they
 * cover was written before. Those that come during the sync wait for the next,
 * which is after the other devices of the loop had their turn. A sync waits for
 * the disk, as a flush of a block device with the "Sync" engine does.
 */
#include "virtio/pmem.h"

#include "snapshot/state.h"
#include "vmm/limiter_gate.h"
#include "vmm/log.h"

#include <errno.h>

#define VIRTIO_ID_PMEM 27

/* Request type and results (5.19.6). */
#define PMEM_FLUSH 0
#define PMEM_OK 0
#define PMEM_FAILED UINT32_MAX

/* Config space (5.19.4): in bytes. */
struct pmem_layout {
	le64 start;
	le64 size;
};

struct pmem {
	struct virtio_device dev;
	struct pmem_file file;
	struct pmem_metrics *metrics;
	struct limiter_gate gate;
	struct chain chain;
};

static struct pmem *to_pmem(struct virtio_device *dev)
{
	return container_of(dev, struct pmem, dev);
}

/* -------------------------------------------------------- serving requests */

/* True: the file is as the guest wants it. */
static bool flush(struct pmem *pmem)
{
	int ret = pmem_file_flush(&pmem->file);

	if (!ret)
		return true;
	metric_inc(&pmem->metrics->event_fails);
	log_guest("pmem: the file cannot be flushed: %s (os error %d)",
		  os_error_text(-ret), -ret);
	return false;
}

static bool asks_for_flush(struct pmem *pmem)
{
	le32 type;

	return !chain_read(&pmem->chain, &type, sizeof(type)) &&
	       le32_get(type) == PMEM_FLUSH;
}

/* A request without room for an answer is given back all the same: there is
 * nowhere to complain. */
static void answer(struct pmem *pmem, bool flushed)
{
	bool valid = asks_for_flush(pmem);
	le32 result = le32_make(valid && flushed ? PMEM_OK : PMEM_FAILED);

	if (chain_write(&pmem->chain, &result, sizeof(result)))
		valid = false;
	if (valid)
		return;
	metric_inc(&pmem->metrics->event_fails);
	log_guest("pmem: not a flush request");
}

static bool may_serve(struct pmem *pmem)
{
	if (limiter_gate_pass(&pmem->gate, pmem->dev.loop))
		return true;
	metric_inc(&pmem->metrics->rate_limiter_throttled_events);
	return false;
}

/* One operation, and all of the file, that being what is made durable. */
static bool flush_and_charge(struct pmem *pmem)
{
	bool flushed = flush(pmem);

	limiter_gate_charge(&pmem->gate, pmem->file.size, 1);
	return flushed;
}

/* Answers what is waiting now. Returns the number or -EPROTO. */
static int drain(struct pmem *pmem, struct queue *queue)
{
	uint16_t waiting = queue_pending(queue);
	bool flushed;

	if (!waiting || !may_serve(pmem))
		return 0;
	/* Of a ring that holds more than it can, not even the first is there;
	 * queue_pop says so. */
	flushed = waiting <= queue->size && flush_and_charge(pmem);
	for (uint16_t i = 0; i < waiting; i++) {
		int ret = queue_pop(queue, &pmem->chain);

		if (ret <= 0)
			return ret;
		answer(pmem, flushed);
		queue_push(queue, &pmem->chain);
	}
	return waiting;
}

/* True: there is more to do. */
static bool serve_queue(struct pmem *pmem)
{
	struct virtio_device *dev = &pmem->dev;
	struct queue *queue = &dev->queues[0];
	int served;
	bool more;

	queue_kicks_disable(queue);
	served = drain(pmem, queue);
	if (served < 0) {
		metric_inc(&pmem->metrics->event_fails);
		virtio_device_needs_reset(dev, "broken request queue");
		return false;
	}
	more = queue_kicks_enable(queue) && !limiter_gate_is_shut(&pmem->gate);
	if (served)
		virtio_device_notify_used(dev, 0);
	return more;
}

static bool pmem_queue_event(struct virtio_device *dev, uint16_t q)
{
	struct pmem *pmem = to_pmem(dev);

	(void)q;
	metric_inc(&pmem->metrics->queue_event_count);
	return !limiter_gate_is_shut(&pmem->gate) && serve_queue(pmem);
}

static void on_timer(struct loop_timer *timer)
{
	struct pmem *pmem = container_of(timer, struct pmem, gate.timer);

	pthread_mutex_lock(&pmem->dev.lock);
	virtio_device_settle(&pmem->dev);
	metric_inc(&pmem->metrics->rate_limiter_event_count);
	if (pmem->dev.active && serve_queue(pmem))
		limiter_gate_yield(&pmem->gate, pmem->dev.loop);
	pthread_mutex_unlock(&pmem->dev.lock);
}

/* -------------------------------------------------------------- life cycle */

static int pmem_activate(struct virtio_device *dev)
{
	(void)dev;
	return 0;
}

static void pmem_reset(struct virtio_device *dev)
{
	(void)dev; /* requests are served at once: none is in flight */
}

static void pmem_settle(struct virtio_device *dev)
{
	struct pmem *pmem = to_pmem(dev);

	limiter_gate_reset(&pmem->gate);
}

/* The snapshot is of no use if the file is older than it. */
static void pmem_quiesce(struct virtio_device *dev)
{
	struct pmem *pmem = to_pmem(dev);

	if (!flush(pmem))
		log_error("pmem: the file cannot be flushed for a snapshot");
}

static void pmem_save(struct virtio_device *dev, struct state_writer *writer)
{
	state_put_u64(writer, to_pmem(dev)->file.size);
	ratelimit_save(&to_pmem(dev)->gate.limiter, writer, monotonic_ns());
}

/* What is in the file is the user's business, but one of another length is not
 * the one that the guest had. */
static int pmem_load(struct virtio_device *dev, struct state_reader *reader,
		     struct error *err)
{
	struct pmem *pmem = to_pmem(dev);
	uint64_t size = state_get_u64(reader);

	if (size != pmem->file.size)
		return error_set(err, EINVAL,
				 "the pmem file has %lu bytes, the snapshot "
				 "was taken with %lu",
				 (unsigned long)pmem->file.size,
				 (unsigned long)size);
	return ratelimit_load(&pmem->gate.limiter, reader, monotonic_ns(), err);
}

static void pmem_destroy(struct virtio_device *dev)
{
	struct pmem *pmem = to_pmem(dev);

	pmem_close(pmem);
	free(pmem);
}

static const struct virtio_device_ops pmem_ops = {
	.name = "pmem",
	.id = VIRTIO_ID_PMEM,
	.queue_count = 1,
	.activate = pmem_activate,
	.settle = pmem_settle,
	.queue_event = pmem_queue_event,
	.quiesce = pmem_quiesce,
	.save = pmem_save,
	.load = pmem_load,
	/* The guest has it mapped there, as long as that. */
	.config_fixed = "the sizes of pmem files, in whole 2 MiB",
	.reset = pmem_reset,
	.destroy = pmem_destroy,
};

int pmem_create(struct pmem **ret_pmem, const struct pmem_config *config,
		struct pmem_metrics *metrics, struct error *err)
{
	struct pmem *pmem = calloc(1, sizeof(*pmem));
	const struct pmem_layout nowhere = {0};

	if (!pmem)
		return error_set_os(err, ENOMEM,
				    "Cannot create the pmem device:");
	pmem->file.fd = -1;
	pmem->metrics = metrics;
	limiter_gate_init(&pmem->gate, &config->rate_limiter.values, on_timer);
	virtio_device_init(&pmem->dev, &pmem_ops, 0, &nowhere, sizeof(nowhere));
	*ret_pmem = pmem;
	return 0;
}

struct virtio_device *pmem_virtio(struct pmem *pmem)
{
	return &pmem->dev;
}

int pmem_open(struct pmem *pmem, const char *path, bool read_only,
	      struct error *err)
{
	return pmem_file_open(&pmem->file, path, read_only, err);
}

void pmem_close(struct pmem *pmem)
{
	pmem_file_close(&pmem->file);
}

const struct pmem_file *pmem_file(const struct pmem *pmem)
{
	return &pmem->file;
}

void pmem_place(struct pmem *pmem, uint64_t gpa)
{
	const struct pmem_layout layout = {
		.start = le64_make(gpa),
		.size = le64_make(pmem->file.len),
	};

	pthread_mutex_lock(&pmem->dev.lock);
	virtio_device_set_config(&pmem->dev, &layout, sizeof(layout));
	pthread_mutex_unlock(&pmem->dev.lock);
}

void pmem_update_limiter(struct pmem *pmem,
			 const struct rate_limiter_update *update)
{
	pthread_mutex_lock(&pmem->dev.lock);
	limiter_gate_update(&pmem->gate, pmem->dev.loop, update);
	pthread_mutex_unlock(&pmem->dev.lock);
}
