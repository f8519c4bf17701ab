/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Theory of operation.
 *
 * A kick drains the ring: pop, begin, and with the engine "Sync" do and push,
 * until nothing is left or a ring's worth is done; then one decision about an
 * interrupt. With "Async" what was begun is submitted in one go, and pushed
 * when the kernel is done with it, in whichever order that is.
 *
 * Whatever ends the driver's or our own interest in what is in flight (reset,
 * pause, snapshot, another file) waits for it first: a device that is not
 * active has nothing in flight.
 *
 * A ring that makes no sense asks for a reset of the device.
 */
#include "virtio/block.h"

#include "virtio/block_ring.h"
#include "vmm/limiter_gate.h"
#include "vmm/log.h"

#include <assert.h>
#include <errno.h>
#include <string.h>

#define VIRTIO_ID_BLOCK 2

/* 5.2.4: drives without DISCARD and WRITE_ZEROES end behind seg_max. */
struct block_config {
	le64 capacity; /* sectors */
	le32 size_max; /* not offered */
	le32 seg_max;
	le32 not_offered[5];
	le32 max_discard_sectors;
	le32 max_discard_seg;
	le32 discard_sector_alignment;
	le32 max_write_zeroes_sectors;
	le32 max_write_zeroes_seg;
	uint8_t write_zeroes_may_unmap;
	uint8_t unused[3];
};

/* Without the padding of the structure, and without what is about ranges. */
#define CONFIG_LEN 60
#define CONFIG_LEN_SHORT offsetof(struct block_config, not_offered)

static_assert(offsetof(struct block_config, max_discard_sectors) == 36,
	      "virtio 1.2, 5.2.4");

struct block {
	struct virtio_device dev;
	struct block_file file;
	struct block_metrics *metrics;
	struct limiter_gate gate;
	struct block_ring_user user;  /* of the ring of "Async" drives */
	bool starved;		      /* the ring has no room */
	bool pushed;		      /* and the driver was not told yet */
	struct block_request request; /* the one being served by "Sync" */
};

static struct block *to_block(struct virtio_device *dev)
{
	return container_of(dev, struct block, dev);
}

static bool is_async(const struct block *block)
{
	return block->user.ring;
}

static struct block_disk disk_of(const struct block *block)
{
	return (struct block_disk){
		.file = &block->file,
		.metrics = block->metrics,
		.features = block->dev.driver_features,
	};
}

/* -------------------------------------------------------- serving requests */

static struct block_request *take_request(struct block *block)
{
	struct block_request *request = &block->request;

	if (is_async(block))
		request = block_ring_take(&block->user);
	if (request)
		return request;
	metric_inc(&block->metrics->io_engine_throttled_events);
	block->starved = true;
	return NULL;
}

static void give_request(struct block *block, struct block_request *request)
{
	if (is_async(block))
		block_ring_give(&block->user, request);
}

static void push(struct block *block, struct block_request *request)
{
	queue_push(&block->dev.queues[0], &request->chain);
	block->pushed = true;
	give_request(block, request);
}

/* From wherever it stands to its end, on this thread. */
static void run(struct block *block, struct block_request *request)
{
	const struct block_disk disk = disk_of(block);

	while (block_request_next(request, &disk,
				  block_file_run(&block->file, &request->io)))
		;
	push(block, request);
}

/* Zeros that the driver need not send are written all the same, here or by the
 * file system. */
static void charge_zeroes(struct block *block,
			  const struct block_request *request)
{
	uint64_t bytes = block_request_zeroes(request);

	if (bytes)
		limiter_gate_charge(&block->gate, bytes, 0);
}

static void begin(struct block *block, struct block_request *request)
{
	const struct block_disk disk = disk_of(block);
	bool more = block_request_begin(request, &disk);

	charge_zeroes(block, request);
	if (!more)
		push(block, request);
	else if (is_async(block))
		block_ring_queue(&block->user, request);
	else
		run(block, request);
}

/* The kernel is done with a call of @request. It may not have been able to make
 * it without waiting, for want of memory or threads: then we do. */
static void go_on(struct block *block, struct block_request *request)
{
	const struct block_disk disk = disk_of(block);
	int ret;

	if (request->res == -EAGAIN || request->res == -ECANCELED) {
		run(block, request);
		return;
	}
	ret = block_io_advance(&request->io, request->res);
	if (ret <= 0 && !block_request_next(request, &disk, ret))
		push(block, request);
	else
		block_ring_queue(&block->user, request);
}

/* Gives back what is done; submits what is queued, and what goes on. */
static void finish_requests(struct block *block)
{
	struct block_request *request;
	bool more = true;

	if (!is_async(block))
		return;
	while (more) {
		block_ring_submit(&block->user);
		more = false;
		while ((request = block_ring_next_done(&block->user))) {
			go_on(block, request);
			more = true;
		}
	}
}

/* Until all that is in flight was given back. */
static void finish_all(struct block *block)
{
	finish_requests(block);
	while (block->user.in_flight) {
		block_ring_wait(&block->user);
		finish_requests(block);
	}
}

static void tell_driver(struct block *block)
{
	if (block->pushed)
		virtio_device_notify_used(&block->dev, 0);
	block->pushed = false;
}

static bool may_serve(struct block *block)
{
	if (limiter_gate_pass(&block->gate, block->dev.loop))
		return true;
	metric_inc(&block->metrics->rate_limiter_throttled_events);
	return false;
}

/* Returns the number begun or -EPROTO. At most one ring's worth: what comes
 * meanwhile has to queue behind the other devices of the loop. */
static int drain(struct block *block, struct queue *queue)
{
	int served = 0;
	int ret = 1;

	while (served < queue->size && queue_pending(queue) &&
	       may_serve(block)) {
		struct block_request *request = take_request(block);

		if (!request)
			break;
		ret = queue_pop(queue, &request->chain);
		if (ret <= 0) {
			give_request(block, request);
			break;
		}
		limiter_gate_charge(&block->gate, block_request_bytes(request),
				    1);
		begin(block, request);
		served++;
	}
	return ret < 0 ? ret : served;
}

/* What is waiting still: for the limiter, the ring, or another turn. */
static void count_rest(struct block *block, const struct queue *queue,
		       int served)
{
	if (!served)
		metric_inc(&block->metrics->no_avail_buffer);
	metric_add(&block->metrics->remaining_reqs_count, queue_pending(queue));
}

/* True: there is more to do. */
static bool serve_queue(struct block *block)
{
	struct virtio_device *dev = &block->dev;
	struct queue *queue = &dev->queues[0];
	int served;
	bool more;

	block->starved = false;
	queue_kicks_disable(queue);
	served = drain(block, queue);
	if (served < 0) {
		finish_all(block);
		block->pushed = false;
		metric_inc(&block->metrics->event_fails);
		virtio_device_needs_reset(dev, "broken request queue");
		return false;
	}
	finish_requests(block);
	more = queue_kicks_enable(queue) &&
	       !limiter_gate_is_shut(&block->gate) && !block->starved;
	count_rest(block, queue, served);
	tell_driver(block);
	return more;
}

static bool block_queue_event(struct virtio_device *dev, uint16_t q)
{
	struct block *block = to_block(dev);

	(void)q;
	metric_inc(&block->metrics->queue_event_count);
	if (!limiter_gate_is_shut(&block->gate))
		return serve_queue(block);
	finish_requests(block);
	tell_driver(block);
	return false;
}

static void on_timer(struct loop_timer *timer)
{
	struct block *block = container_of(timer, struct block, gate.timer);

	pthread_mutex_lock(&block->dev.lock);
	virtio_device_settle(&block->dev);
	metric_inc(&block->metrics->rate_limiter_event_count);
	if (block->dev.active && serve_queue(block))
		limiter_gate_yield(&block->gate, block->dev.loop);
	pthread_mutex_unlock(&block->dev.lock);
}

/* ---------------------------------------------------------------- the ring */

static void on_done(struct block_ring_user *user)
{
	struct block *block = container_of(user, struct block, user);

	pthread_mutex_lock(&block->dev.lock);
	virtio_device_settle(&block->dev);
	finish_requests(block); /* a device that is not active has none */
	tell_driver(block);
	pthread_mutex_unlock(&block->dev.lock);
}

/* As if the driver had kicked. */
static void wake(struct block_ring_user *user)
{
	struct block *block = container_of(user, struct block, user);
	const struct loop_source *kick = block->dev.kicks[0];
	const uint64_t one = 1;

	if (kick && write(kick->fd, &one, sizeof(one)) < 0)
		log_error("block: cannot wake the loop");
}

int block_use_ring(struct block *block, struct block_ring *ring,
		   struct error *err)
{
	int ret = block_ring_join(ring, &block->user, block->file.fd);

	if (ret)
		return error_set_os(err, -ret,
				    "Unable to create the virtio block "
				    "device: io_uring does not take its file:");
	return 0;
}

/* -------------------------------------------------------------- life cycle */

static int block_activate(struct virtio_device *dev)
{
	(void)dev;
	return 0;
}

/* Any thread. The rings are not ours any more when this returns, nor is the
 * memory; what was in flight is not given back. */
static void block_reset(struct virtio_device *dev)
{
	struct block *block = to_block(dev);
	struct block_request *request;

	if (!is_async(block))
		return;
	block_ring_wait(&block->user);
	while ((request = block_ring_next_done(&block->user))) {
		block_request_drop(request);
		block_ring_give(&block->user, request);
	}
	block->pushed = block->starved = false;
}

static void block_settle(struct virtio_device *dev)
{
	struct block *block = to_block(dev);

	limiter_gate_reset(&block->gate);
	if (dev->active && is_async(block) &&
	    block_ring_watch(block->user.ring, dev->loop))
		log_error("block: io_uring cannot be watched");
}

/* The loop will not look while the machine is paused. */
static void block_hold(struct virtio_device *dev, bool on)
{
	struct block *block = to_block(dev);

	if (!on)
		return;
	finish_all(block);
	tell_driver(block);
}

/* The snapshot is of no use if the disk is older than it. */
static void block_quiesce(struct virtio_device *dev)
{
	struct block *block = to_block(dev);

	finish_all(block);
	tell_driver(block);
	if (!block->file.read_only && block_file_flush(&block->file)) {
		metric_inc(&block->metrics->execute_fails);
		log_error("block: the file cannot be flushed for a snapshot");
	}
}

static void block_save(struct virtio_device *dev, struct state_writer *writer)
{
	ratelimit_save(&to_block(dev)->gate.limiter, writer, monotonic_ns());
}

static int block_load(struct virtio_device *dev, struct state_reader *reader,
		      struct error *err)
{
	return ratelimit_load(&to_block(dev)->gate.limiter, reader,
			      monotonic_ns(), err);
}

static void block_destroy(struct virtio_device *dev)
{
	struct block *block = to_block(dev);

	block_ring_leave(&block->user);
	block_file_close(&block->file);
	free(block);
}

static const struct virtio_device_ops block_ops = {
	.name = "block",
	.id = VIRTIO_ID_BLOCK,
	.queue_count = 1,
	.activate = block_activate,
	.settle = block_settle,
	.queue_event = block_queue_event,
	.hold = block_hold,
	.quiesce = block_quiesce,
	.save = block_save,
	.load = block_load,
	.reset = block_reset,
	.destroy = block_destroy,
};

/* What this version cannot do is refused, not ignored. */
static int check_config(const struct drive_config *config, struct error *err)
{
	if (!config->path_on_host || config->socket)
		return error_set(err, EINVAL, "Invalid block config.");
	return 0;
}

static uint64_t features_of(const struct drive_config *config)
{
	uint64_t features = BIT(VIRTIO_F_EVENT_IDX) | BIT(VIRTIO_BLK_F_SEG_MAX);

	if (config->is_read_only)
		features |= BIT(VIRTIO_BLK_F_RO);
	if (config->cache_type == CACHE_WRITEBACK)
		features |= BIT(VIRTIO_BLK_F_FLUSH);
	if (drive_config_discards(config))
		features |= BIT(VIRTIO_BLK_F_DISCARD) |
			    BIT(VIRTIO_BLK_F_WRITE_ZEROES);
	return features;
}

/* What a driver is told of @file; its length. */
static size_t describe(const struct block_file *file, bool discards,
		       struct block_config *ret_config)
{
	*ret_config = (struct block_config){
		.capacity = le64_make(file->sectors),
		.seg_max = le32_make(BLOCK_SEGMENTS_MAX),
		.max_discard_sectors = le32_make(BLOCK_DISCARD_SECTORS_MAX),
		.max_discard_seg = le32_make(BLOCK_RANGES_MAX),
		.discard_sector_alignment = le32_make(file->unit),
		.max_write_zeroes_sectors = le32_make(BLOCK_ZEROES_SECTORS_MAX),
		.max_write_zeroes_seg = le32_make(BLOCK_RANGES_MAX),
		.write_zeroes_may_unmap = 1,
	};
	return discards ? CONFIG_LEN : CONFIG_LEN_SHORT;
}

int block_create(struct block **ret_block, const struct drive_config *config,
		 struct block_metrics *metrics, struct error *err)
{
	struct block *block = calloc(1, sizeof(*block));
	struct block_config space;
	size_t len;
	int ret;

	if (!block)
		return error_set_os(err, ENOMEM,
				    "Unable to create the virtio block "
				    "device:");
	ret = check_config(config, err);
	if (!ret)
		ret = block_file_open(&block->file, config->path_on_host,
				      config->is_read_only, err);
	if (ret) {
		error_prefix(err, "Unable to create the virtio block device: ");
		free(block);
		return ret;
	}
	block->metrics = metrics;
	block->user.done = on_done;
	block->user.wake = wake;
	limiter_gate_init(&block->gate, &config->rate_limiter.values, on_timer);
	len = describe(&block->file, drive_config_discards(config), &space);
	virtio_device_init(&block->dev, &block_ops, features_of(config), &space,
			   len);
	*ret_block = block;
	return 0;
}

struct virtio_device *block_virtio(struct block *block)
{
	return &block->dev;
}

/* Lock held. What is in flight belongs to the old file. */
static int replace_file(struct block *block, struct block_file *file,
			struct error *err)
{
	struct block_config space;
	size_t len = block->dev.config_len;
	int ret = 0;

	if (is_async(block)) {
		finish_all(block);
		tell_driver(block);
		ret = block_ring_set_file(&block->user, file->fd);
	}
	if (ret)
		return error_set_os(err, -ret,
				    "io_uring does not take the file:");
	block_file_close(&block->file);
	block->file = *file;
	describe(file, len == CONFIG_LEN, &space);
	virtio_device_set_config(&block->dev, &space, len);
	return 0;
}

int block_set_path(struct block *block, const char *path, struct error *err)
{
	struct block_file file;
	int ret = block_file_open(&file, path, block->file.read_only, err);

	if (ret)
		return ret;
	pthread_mutex_lock(&block->dev.lock);
	ret = replace_file(block, &file, err);
	pthread_mutex_unlock(&block->dev.lock);
	if (ret)
		block_file_close(&file);
	return ret;
}

void block_update_limiter(struct block *block,
			  const struct rate_limiter_update *update)
{
	pthread_mutex_lock(&block->dev.lock);
	limiter_gate_update(&block->gate, block->dev.loop, update);
	pthread_mutex_unlock(&block->dev.lock);
}
