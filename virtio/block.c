/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Theory of operation.
 *
 * A request (virtio 1.2, 5.2.6) is a 16-byte header, data, and a status byte
 * that the device writes. Only the order is given, not how the driver cuts it
 * into buffers: the header is copied from the readable stream, the status goes
 * to the last writable byte, and data is what remains of either stream.
 *
 * A kick drains the ring: pop, serve, push, until nothing is left or a ring's
 * worth is done; then one decision about an interrupt. A file that cannot be
 * read or written fails the request; a ring that makes no sense asks for a
 * reset of the device.
 */
#include "virtio/block.h"

#include "virtio/block_file.h"
#include "vmm/log.h"
#include "vmm/ratelimit.h"

#include <errno.h>
#include <string.h>

#define VIRTIO_ID_BLOCK 2

/* Feature bits (5.2.3). */
#define VIRTIO_BLK_F_RO 5
#define VIRTIO_BLK_F_FLUSH 9

/* Request types and status values (5.2.6). */
enum {
	BLOCK_IN = 0,
	BLOCK_OUT = 1,
	BLOCK_FLUSH = 4,
	BLOCK_GET_ID = 8,
};

enum {
	BLOCK_S_OK = 0,
	BLOCK_S_IOERR = 1,
	BLOCK_S_UNSUPP = 2,
};

struct block_header {
	le32 type;
	le32 reserved;
	le64 sector;
};

struct block {
	struct virtio_device dev;
	struct block_file file;
	struct block_metrics *metrics;
	struct rate_limiter limiter;
	struct loop_timer timer;
	bool blocked;	    /* the limiter's timer is running */
	struct chain chain; /* the request being served */
	struct iovec iov[CHAIN_SEGMENTS_MAX];
};

static struct block *to_block(struct virtio_device *dev)
{
	return container_of(dev, struct block, dev);
}

/* -------------------------------------------------------- serving requests */

/* Whole sectors, all of them on the disk. */
static bool range_valid(const struct block *block, uint64_t sector,
			uint64_t len)
{
	uint64_t sectors = len / BLOCK_SECTOR_SIZE;

	return len % BLOCK_SECTOR_SIZE == 0 && sector <= block->file.sectors &&
	       sectors <= block->file.sectors - sector;
}

static uint8_t serve_in(struct block *block, const struct block_header *header)
{
	uint64_t len = block->chain.writable.left - 1; /* the status byte */
	uint64_t sector = le64_get(header->sector);
	uint64_t start = monotonic_ns();
	size_t borrowed;
	int count;

	if (!range_valid(block, sector, len))
		return BLOCK_S_IOERR;
	count = chain_borrow_writable(&block->chain, len, block->iov,
				      CHAIN_SEGMENTS_MAX, &borrowed);
	if (count < 0)
		return BLOCK_S_IOERR;
	if (block_file_read(&block->file, block->iov, count,
			    sector * BLOCK_SECTOR_SIZE)) {
		/* How much arrived is unknown: all of it may be changed. */
		chain_return_writable(&block->chain, borrowed);
		block->chain.written = 0;
		return BLOCK_S_IOERR;
	}
	chain_return_writable(&block->chain, borrowed);
	metric_inc(&block->metrics->read_count);
	metric_add(&block->metrics->read_bytes, len);
	metric_agg_record(&block->metrics->read_agg,
			  (monotonic_ns() - start) / 1000);
	return BLOCK_S_OK;
}

static uint8_t serve_out(struct block *block, const struct block_header *header)
{
	uint64_t len = block->chain.readable.left;
	uint64_t sector = le64_get(header->sector);
	uint64_t start = monotonic_ns();
	size_t borrowed;
	int count;

	if (block->file.read_only || !range_valid(block, sector, len))
		return BLOCK_S_IOERR;
	count = chain_borrow_readable(&block->chain, len, block->iov,
				      CHAIN_SEGMENTS_MAX, &borrowed);
	if (count < 0)
		return BLOCK_S_IOERR;
	if (block_file_write(&block->file, block->iov, count,
			     sector * BLOCK_SECTOR_SIZE))
		return BLOCK_S_IOERR;
	metric_inc(&block->metrics->write_count);
	metric_add(&block->metrics->write_bytes, len);
	metric_agg_record(&block->metrics->write_agg,
			  (monotonic_ns() - start) / 1000);
	return BLOCK_S_OK;
}

static uint8_t serve_flush(struct block *block,
			   const struct block_header *header)
{
	(void)header;
	if (!virtio_device_negotiated(&block->dev, VIRTIO_BLK_F_FLUSH))
		return BLOCK_S_UNSUPP;
	metric_inc(&block->metrics->flush_count);
	return block_file_flush(&block->file) ? BLOCK_S_IOERR : BLOCK_S_OK;
}

static uint8_t serve_get_id(struct block *block,
			    const struct block_header *header)
{
	uint64_t room = block->chain.writable.left - 1;

	(void)header;
	if (room < BLOCK_SERIAL_LEN)
		return BLOCK_S_IOERR;
	return chain_write(&block->chain, block->file.serial, BLOCK_SERIAL_LEN)
		       ? BLOCK_S_IOERR
		       : BLOCK_S_OK;
}

static const struct {
	uint32_t type;
	uint8_t (*serve)(struct block *block,
			 const struct block_header *header);
} request_types[] = {
	{BLOCK_IN, serve_in},
	{BLOCK_OUT, serve_out},
	{BLOCK_FLUSH, serve_flush},
	{BLOCK_GET_ID, serve_get_id},
};

static uint8_t serve(struct block *block)
{
	struct block_header header;

	if (chain_read(&block->chain, &header, sizeof(header)))
		return BLOCK_S_IOERR;
	for (size_t i = 0; i < ARRAY_SIZE(request_types); i++)
		if (request_types[i].type == le32_get(header.type))
			return request_types[i].serve(block, &header);
	return BLOCK_S_UNSUPP;
}

/* Serves one request and leaves its status in the last writable byte. A chain
 * without one is given back all the same: there is nowhere to complain. */
static void complete(struct block *block)
{
	struct chain *chain = &block->chain;
	uint8_t status;

	if (chain->writable.left == 0) {
		metric_inc(&block->metrics->invalid_reqs_count);
		log_guest("block: request without room for a status");
		return;
	}
	status = serve(block);
	if (status != BLOCK_S_OK)
		metric_inc(status == BLOCK_S_UNSUPP
				   ? &block->metrics->invalid_reqs_count
				   : &block->metrics->execute_fails);
	if (chain_seek_writable_tail(chain, 1) ||
	    chain_write(chain, &status, 1))
		log_guest("block: the status byte is not in RAM");
}

static bool may_serve(struct block *block)
{
	uint64_t now;

	if (!ratelimit_enabled(&block->limiter))
		return true;
	now = monotonic_ns();
	if (ratelimit_ready(&block->limiter, now))
		return true;
	metric_inc(&block->metrics->rate_limiter_throttled_events);
	loop_timer_arm(block->dev.loop, &block->timer,
		       ratelimit_delay_ns(&block->limiter, now));
	block->blocked = true;
	return false;
}

/* One operation, and the data of the request, in whichever direction. */
static void serve_and_charge(struct block *block)
{
	const struct chain *chain = &block->chain;
	uint64_t out = chain->readable.left, in = chain->writable.left;
	uint64_t bytes = 0;

	if (out > sizeof(struct block_header))
		bytes += out - sizeof(struct block_header);
	if (in > 1)
		bytes += in - 1; /* the status byte */
	complete(block);
	if (ratelimit_enabled(&block->limiter))
		ratelimit_charge(&block->limiter, bytes, 1, monotonic_ns());
}

/* Returns the number served or -EPROTO. At most one ring's worth: what comes
 * meanwhile has to queue behind the other devices of the loop. */
static int drain(struct block *block, struct queue *queue)
{
	int served = 0;
	int ret = 1;

	while (served < queue->size && may_serve(block)) {
		ret = queue_pop(queue, &block->chain);
		if (ret <= 0)
			break;
		serve_and_charge(block);
		queue_push(queue, &block->chain);
		served++;
	}
	return ret < 0 ? ret : served;
}

/* True: there is more to do. */
static bool serve_queue(struct block *block)
{
	struct virtio_device *dev = &block->dev;
	struct queue *queue = &dev->queues[0];
	int served;
	bool more;

	queue_kicks_disable(queue);
	served = drain(block, queue);
	if (served < 0) {
		metric_inc(&block->metrics->event_fails);
		virtio_device_needs_reset(dev, "broken request queue");
		return false;
	}
	more = queue_kicks_enable(queue) && !block->blocked;
	if (served)
		virtio_device_notify_used(dev, 0);
	return more;
}

static bool block_queue_event(struct virtio_device *dev, uint16_t q)
{
	struct block *block = to_block(dev);

	(void)q;
	metric_inc(&block->metrics->queue_event_count);
	return !block->blocked && serve_queue(block);
}

static void on_timer(struct loop_timer *timer)
{
	struct block *block = container_of(timer, struct block, timer);

	pthread_mutex_lock(&block->dev.lock);
	virtio_device_settle(&block->dev);
	metric_inc(&block->metrics->rate_limiter_event_count);
	block->blocked = false;
	if (block->dev.active && serve_queue(block)) {
		block->blocked = true; /* until the loop comes round */
		loop_timer_arm(block->dev.loop, timer, 0);
	}
	pthread_mutex_unlock(&block->dev.lock);
}

/* -------------------------------------------------------------- life cycle */

static int block_activate(struct virtio_device *dev)
{
	(void)dev;
	return 0;
}

static void block_reset(struct virtio_device *dev)
{
	(void)dev; /* requests are served at once: none is in flight */
}

static void block_settle(struct virtio_device *dev)
{
	struct block *block = to_block(dev);

	loop_timer_cancel(&block->timer);
	block->blocked = false;
}

/* Requests are complete already; an engine with some in flight would wait for
 * them here. The snapshot is of no use if the disk is older than it. */
static void block_quiesce(struct virtio_device *dev)
{
	struct block *block = to_block(dev);

	if (!block->file.read_only && block_file_flush(&block->file)) {
		metric_inc(&block->metrics->execute_fails);
		log_error("block: the file cannot be flushed for a snapshot");
	}
}

static void block_save(struct virtio_device *dev, struct state_writer *writer)
{
	ratelimit_save(&to_block(dev)->limiter, writer, monotonic_ns());
}

static int block_load(struct virtio_device *dev, struct state_reader *reader,
		      struct error *err)
{
	return ratelimit_load(&to_block(dev)->limiter, reader, monotonic_ns(),
			      err);
}

static void block_destroy(struct virtio_device *dev)
{
	struct block *block = to_block(dev);

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
	if (config->io_engine == IO_ENGINE_ASYNC)
		return error_set(err, ENOTSUP,
				 "io_engine Async is not supported by this "
				 "version.");
	return 0;
}

static uint64_t features_of(const struct drive_config *config)
{
	uint64_t features = BIT(VIRTIO_F_EVENT_IDX);

	if (config->is_read_only)
		features |= BIT(VIRTIO_BLK_F_RO);
	if (config->cache_type == CACHE_WRITEBACK)
		features |= BIT(VIRTIO_BLK_F_FLUSH);
	return features;
}

int block_create(struct block **ret_block, const struct drive_config *config,
		 struct block_metrics *metrics, struct error *err)
{
	struct block *block = calloc(1, sizeof(*block));
	le64 capacity;
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
	block->timer.fn = on_timer;
	ratelimit_init(&block->limiter, &config->rate_limiter.values,
		       monotonic_ns());
	capacity = le64_make(block->file.sectors);
	virtio_device_init(&block->dev, &block_ops, features_of(config),
			   &capacity, sizeof(capacity));
	*ret_block = block;
	return 0;
}

struct virtio_device *block_virtio(struct block *block)
{
	return &block->dev;
}

int block_set_path(struct block *block, const char *path, struct error *err)
{
	struct block_file file;
	le64 capacity;
	int ret = block_file_open(&file, path, block->file.read_only, err);

	if (ret)
		return ret;
	pthread_mutex_lock(&block->dev.lock);
	block_file_close(&block->file);
	block->file = file;
	capacity = le64_make(file.sectors);
	virtio_device_set_config(&block->dev, &capacity, sizeof(capacity));
	pthread_mutex_unlock(&block->dev.lock);
	return 0;
}

void block_update_limiter(struct block *block,
			  const struct rate_limiter_update *update)
{
	pthread_mutex_lock(&block->dev.lock);
	ratelimit_update(&block->limiter, update, monotonic_ns());
	if (block->blocked)
		loop_timer_arm(block->dev.loop, &block->timer, 0);
	pthread_mutex_unlock(&block->dev.lock);
}
