/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Theory of operation.
 *
 * The host's target is in the config space, and a change of it is an interrupt;
 * the driver inflates or deflates until it is there, as far as it can, and
 * writes down how far it has come. Which of the optional queues exist is a
 * matter of what was negotiated: those that are left out have no number
 * (5.5.2).
 *
 * Requests are dealt with when they come, in turns. The one buffer that the
 * device keeps, for statistics, is put back before a snapshot, and taken again
 * by whoever goes on, so that it is never lost.
 */
#include "virtio/balloon_device.h"

#include "snapshot/state.h"

#include <errno.h>
#include <string.h>

#define VIRTIO_ID_BALLOON 5
#define PAGES_PER_MIB (MIB(1) / PAGE_SIZE_4K)
#define NS_PER_SECOND UINT64_C(1000000000)

/* ---------------------------------------------------------- which queue? */

static bool has_queue(uint64_t features, enum balloon_role role)
{
	static const uint64_t needs[BALLOON_ROLES] = {
		[BALLOON_STATS] = BIT(BALLOON_F_STATS_VQ),
		[BALLOON_HINT] = BIT(BALLOON_F_FREE_PAGE_HINT),
		[BALLOON_REPORT] = BIT(BALLOON_F_PAGE_REPORTING),
	};

	return (features & needs[role]) == needs[role];
}

static uint16_t count_queues(uint64_t features)
{
	uint16_t count = 0;

	for (unsigned role = 0; role < BALLOON_ROLES; role++)
		count += has_queue(features, role);
	return count;
}

static uint16_t balloon_queues_used(const struct virtio_device *dev)
{
	return count_queues(dev->driver_features);
}

/* @q is one that is used. */
static enum balloon_role role_of(const struct virtio_device *dev, uint16_t q)
{
	unsigned role = 0;

	for (;; role++)
		if (has_queue(dev->driver_features, role) && q-- == 0)
			return role;
}

static uint16_t queue_of(const struct virtio_device *dev,
			 enum balloon_role wanted)
{
	uint16_t q = 0;

	for (unsigned role = 0; role < wanted; role++)
		q += has_queue(dev->driver_features, role);
	return q;
}

static bool has_stats(const struct balloon *balloon)
{
	return balloon->dev.active &&
	       virtio_device_negotiated(&balloon->dev, BALLOON_F_STATS_VQ);
}

/* ---------------------------------------------------------- config space */

struct balloon_space balloon_space(const struct balloon *balloon)
{
	struct balloon_space space;

	memcpy(&space, balloon->dev.config, sizeof(space));
	return space;
}

/* The driver reads it when it is told. */
static void tell_driver(struct balloon *balloon)
{
	struct balloon_space space = balloon_space(balloon);

	space.num_pages = le32_make((uint32_t)balloon->target_pages);
	space.free_page_hint_cmd_id = le32_make(balloon->host_cmd);
	virtio_device_set_config(&balloon->dev, &space, sizeof(space));
}

void balloon_command(struct balloon *balloon, uint32_t cmd)
{
	balloon->host_cmd = cmd;
	tell_driver(balloon);
}

/* Of the three fields one is the driver's to write (5.5.4). */
static void balloon_config_write(struct virtio_device *dev, size_t off,
				 const uint8_t *data, size_t len)
{
	const size_t first = offsetof(struct balloon_space, actual);

	for (size_t i = 0; i < len; i++)
		if (off + i - first < sizeof(le32))
			dev->config[off + i] = data[i];
}

/* Nothing of the target, which is the host's. */
static void forget_driver(struct balloon *balloon)
{
	struct balloon_space space = {
		.num_pages = le32_make((uint32_t)balloon->target_pages),
	};

	balloon->host_cmd = BALLOON_CMD_STOP;
	balloon->has_guest_cmd = false;
	balloon->stats.known = 0;
	memcpy(balloon->dev.config, &space, sizeof(space));
}

/* --------------------------------------------------------------- serving */

static bool broken(struct balloon *balloon)
{
	metric_inc(&balloon->metrics->event_fails);
	virtio_device_needs_reset(&balloon->dev, "broken queue");
	return false;
}

static bool serve_pages(struct balloon *balloon, uint16_t q,
			enum balloon_role role)
{
	bool more = false;
	int served = balloon_serve_pages(balloon, q, role, &more);

	if (served < 0)
		return broken(balloon);
	if (served)
		virtio_device_notify_used(&balloon->dev, q);
	return more;
}

static void arm_timer(struct balloon *balloon)
{
	loop_timer_arm(balloon->dev.loop, &balloon->timer,
		       balloon->interval_s * NS_PER_SECOND);
}

static bool serve_stats(struct balloon *balloon, uint16_t q)
{
	struct queue *queue = &balloon->dev.queues[q];
	int returned;

	if (balloon->fresh)
		arm_timer(balloon);
	balloon->fresh = false;
	queue_kicks_disable(queue);
	returned = balloon_take_stats(balloon, q);
	if (returned < 0)
		return broken(balloon);
	if (returned)
		virtio_device_notify_used(&balloon->dev, q);
	return queue_kicks_enable(queue);
}

static bool balloon_queue_event(struct virtio_device *dev, uint16_t q)
{
	struct balloon *balloon = to_balloon(dev);
	enum balloon_role role = role_of(dev, q);

	if (role == BALLOON_STATS)
		return serve_stats(balloon, q);
	if (role == BALLOON_INFLATE)
		metric_inc(&balloon->metrics->inflate_count);
	else if (role == BALLOON_DEFLATE)
		metric_inc(&balloon->metrics->deflate_count);
	return serve_pages(balloon, q, role);
}

static void ask_stats(struct balloon *balloon)
{
	if (!has_stats(balloon) || balloon->fresh)
		return;
	balloon_ask_stats(balloon, queue_of(&balloon->dev, BALLOON_STATS));
	arm_timer(balloon);
}

/* Linux kicks for its first buffer before it has said that it is ready, when a
 * kick means nothing yet (3.1.1). */
static void look_for_stats(struct balloon *balloon)
{
	if (!has_stats(balloon) ||
	    !serve_stats(balloon, queue_of(&balloon->dev, BALLOON_STATS)))
		return;
	balloon->fresh = true;
	loop_timer_arm(balloon->dev.loop, &balloon->timer, 0);
}

static void on_timer(struct loop_timer *timer)
{
	struct balloon *balloon = container_of(timer, struct balloon, timer);

	pthread_mutex_lock(&balloon->dev.lock);
	virtio_device_settle(&balloon->dev);
	if (balloon->fresh)
		look_for_stats(balloon);
	else
		ask_stats(balloon);
	pthread_mutex_unlock(&balloon->dev.lock);
}

/* -------------------------------------------------------------- life cycle */

static int balloon_activate(struct virtio_device *dev)
{
	forget_driver(to_balloon(dev));
	return 0;
}

static void balloon_reset(struct virtio_device *dev)
{
	forget_driver(to_balloon(dev));
}

static void balloon_settle(struct virtio_device *dev)
{
	struct balloon *balloon = to_balloon(dev);

	loop_timer_cancel(&balloon->timer);
	balloon->held = false;
	for (size_t i = 0; i < ARRAY_SIZE(balloon->jobs); i++)
		balloon->jobs[i].open = false;
	balloon->fresh = has_stats(balloon);
	if (balloon->fresh)
		loop_timer_arm(dev->loop, &balloon->timer, 0);
}

/* The requests that are being worked on begin anew, in both microVMs. */
static void balloon_quiesce(struct virtio_device *dev)
{
	struct balloon *balloon = to_balloon(dev);

	for (uint16_t q = 0; q < balloon_queues_used(dev); q++) {
		enum balloon_role role = role_of(dev, q);
		bool *open = role == BALLOON_STATS ? &balloon->held
						   : &balloon->jobs[role].open;

		queue_unpop(&dev->queues[q], *open);
		*open = false;
	}
}

static void balloon_destroy(struct virtio_device *dev)
{
	free(to_balloon(dev));
}

/* --------------------------------------------------------------- snapshots */

/* What is the driver's, and what it was told. */
struct saved {
	uint32_t actual, host_cmd, last_cmd;
};

static const struct state_field fields[] = {
	STATE_FIELD(struct saved, actual),
	STATE_FIELD(struct saved, host_cmd),
	STATE_FIELD(struct saved, last_cmd),
};

static const struct state_field stats_fields[] = {
	STATE_FIELD(struct balloon_stats, known),
	STATE_ARRAY(struct balloon_stats, values),
};

static void balloon_save(struct virtio_device *dev, struct state_writer *writer)
{
	const struct balloon *balloon = to_balloon(dev);
	const struct balloon_space space = balloon_space(balloon);
	const struct saved saved = {
		.actual = le32_get(space.actual),
		.host_cmd = balloon->host_cmd,
		.last_cmd = balloon->last_cmd,
	};

	state_put_fields(writer, &saved, fields, ARRAY_SIZE(fields));
	state_put_fields(writer, &balloon->stats, stats_fields,
			 ARRAY_SIZE(stats_fields));
}

/*
 * A run of hints does not go on in another microVM: its driver is told that it
 * has ended. The numbers of runs do, since a driver does not begin one that it
 * has had.
 */
static int balloon_load(struct virtio_device *dev, struct state_reader *reader,
			struct error *err)
{
	struct balloon *balloon = to_balloon(dev);
	struct balloon_space space = {
		.num_pages = le32_make((uint32_t)balloon->target_pages),
	};
	struct balloon_stats stats = {0};
	struct saved saved = {0};

	state_get_fields(reader, &saved, fields, ARRAY_SIZE(fields));
	state_get_fields(reader, &stats, stats_fields,
			 ARRAY_SIZE(stats_fields));
	if (reader->failed)
		return state_reader_end(reader, err);
	if (stats.known >> BALLOON_STATS_MAX)
		return error_set(err, EINVAL,
				 "it has statistics that there are not");
	balloon->stats = stats;
	space.actual = le32_make(saved.actual);
	balloon->last_cmd = saved.last_cmd;
	memcpy(dev->config, &space, sizeof(space));
	if (saved.host_cmd == BALLOON_CMD_STOP)
		return 0;
	dev->config_generation++;
	if (dev->active)
		atomic_fetch_or(&dev->interrupt_status,
				VIRTIO_INTERRUPT_CONFIG);
	return 0;
}

static const struct virtio_device_ops balloon_ops = {
	.name = "balloon",
	.id = VIRTIO_ID_BALLOON,
	.queue_count = BALLOON_ROLES,
	.queues_used = balloon_queues_used,
	.activate = balloon_activate,
	.settle = balloon_settle,
	.queue_event = balloon_queue_event,
	.config_write = balloon_config_write,
	.quiesce = balloon_quiesce,
	.save = balloon_save,
	.load = balloon_load,
	.reset = balloon_reset,
	.destroy = balloon_destroy,
};

static uint64_t features_of(const struct balloon_config *config)
{
	uint64_t features = 0;

	if (config->deflate_on_oom)
		features |= BIT(BALLOON_F_DEFLATE_ON_OOM);
	if (config->stats_polling_interval_s)
		features |= BIT(BALLOON_F_STATS_VQ);
	if (config->free_page_hinting)
		features |= BIT(BALLOON_F_FREE_PAGE_HINT);
	if (config->free_page_reporting)
		features |= BIT(BALLOON_F_PAGE_REPORTING);
	return features;
}

int balloon_create(struct balloon **ret_device,
		   const struct balloon_config *config, struct metrics *metrics,
		   struct error *err)
{
	struct balloon *balloon = calloc(1, sizeof(*balloon));
	struct balloon_space space = {0};

	if (!balloon)
		return error_set_os(err, ENOMEM, "No memory for a balloon:");
	balloon->metrics = &metrics->balloon;
	balloon->interval_s = config->stats_polling_interval_s;
	balloon->timer.fn = on_timer;
	balloon->target_pages = config->amount_mib * PAGES_PER_MIB;
	balloon->last_cmd = BALLOON_CMD_FIRST - 1;
	space.num_pages = le32_make((uint32_t)balloon->target_pages);
	virtio_device_init(&balloon->dev, &balloon_ops, features_of(config),
			   &space, sizeof(space));
	balloon->dev.queue_count = count_queues(balloon->dev.features);
	*ret_device = balloon;
	return 0;
}

struct virtio_device *balloon_virtio(struct balloon *device)
{
	return &device->dev;
}

/* ----------------------------------------------------------------- control */

static int check_active(const struct balloon *balloon, struct error *err)
{
	if (!balloon->dev.active)
		return error_set(err, ENODEV,
				 "Balloon: Device not activated yet.");
	return 0;
}

static int resize(struct balloon *balloon, uint64_t mib, uint64_t memory_mib,
		  struct error *err)
{
	int ret = check_active(balloon, err);

	if (ret)
		return ret;
	if (mib > memory_mib)
		return error_set(err, EINVAL,
				 "Balloon: Requested memory should be less "
				 "than %luMiB",
				 (unsigned long)memory_mib);
	balloon->target_pages = mib * PAGES_PER_MIB;
	tell_driver(balloon);
	return 0;
}

int balloon_resize(struct balloon *balloon, uint64_t mib, uint64_t memory_mib,
		   struct error *err)
{
	int ret;

	pthread_mutex_lock(&balloon->dev.lock);
	ret = resize(balloon, mib, memory_mib, err);
	pthread_mutex_unlock(&balloon->dev.lock);
	return ret;
}

int balloon_set_interval(struct balloon *balloon, uint64_t seconds,
			 struct error *err)
{
	if (balloon->interval_s == seconds)
		return 0;
	if (!balloon->interval_s || !seconds)
		return error_set(err, EINVAL,
				 "Balloon: Statistics cannot be "
				 "enabled/disabled after activation.");
	pthread_mutex_lock(&balloon->dev.lock);
	balloon->interval_s = seconds;
	virtio_device_settle(&balloon->dev);
	ask_stats(balloon);
	pthread_mutex_unlock(&balloon->dev.lock);
	return 0;
}

int balloon_get_stats(struct balloon *balloon, struct balloon_stats *ret_stats,
		      struct error *err)
{
	struct balloon_space space;

	if (!balloon->interval_s)
		return error_set(err, EINVAL,
				 "Balloon: Received stats query when stats are "
				 "disabled.");
	pthread_mutex_lock(&balloon->dev.lock);
	space = balloon_space(balloon);
	*ret_stats = balloon->stats;
	pthread_mutex_unlock(&balloon->dev.lock);
	ret_stats->target_pages = le32_get(space.num_pages);
	ret_stats->actual_pages = le32_get(space.actual);
	return 0;
}

static int check_hinting(const struct balloon *balloon, struct error *err)
{
	if (!(balloon->dev.features & BIT(BALLOON_F_FREE_PAGE_HINT)))
		return error_set(err, EINVAL,
				 "Balloon: Attempting to use hinting when not "
				 "enabled");
	return 0;
}

static int set_hinting(struct balloon *balloon, uint32_t cmd, struct error *err)
{
	int ret = check_active(balloon, err);

	if (!ret)
		balloon_command(balloon, cmd);
	return ret;
}

/* After 2^32 runs come those again that the driver has long forgotten. */
static uint32_t next_run(const struct balloon *balloon)
{
	return MAX(balloon->last_cmd + 1, (uint32_t)BALLOON_CMD_FIRST);
}

int balloon_start_hinting(struct balloon *balloon, bool acknowledge,
			  struct error *err)
{
	int ret = check_hinting(balloon, err);

	if (ret)
		return ret;
	pthread_mutex_lock(&balloon->dev.lock);
	ret = set_hinting(balloon, next_run(balloon), err);
	if (!ret) {
		balloon->last_cmd = balloon->host_cmd;
		balloon->acknowledge = acknowledge;
	}
	pthread_mutex_unlock(&balloon->dev.lock);
	return ret;
}

int balloon_stop_hinting(struct balloon *balloon, struct error *err)
{
	int ret = check_hinting(balloon, err);

	if (ret)
		return ret;
	pthread_mutex_lock(&balloon->dev.lock);
	ret = set_hinting(balloon, BALLOON_CMD_DONE, err);
	pthread_mutex_unlock(&balloon->dev.lock);
	return ret;
}

int balloon_get_hinting(struct balloon *balloon,
			struct hinting_status *ret_status, struct error *err)
{
	int ret = check_hinting(balloon, err);

	if (ret)
		return ret;
	pthread_mutex_lock(&balloon->dev.lock);
	*ret_status = (struct hinting_status){
		.host_cmd = balloon->host_cmd,
		.has_guest_cmd = balloon->has_guest_cmd,
		.guest_cmd = balloon->guest_cmd,
	};
	pthread_mutex_unlock(&balloon->dev.lock);
	return 0;
}
