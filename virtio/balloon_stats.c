/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Statistics go round in one buffer: the driver fills it and makes it available
 * and the device keeps it; to give it back is to ask for new ones (5.5.6.3).
 */
#include "virtio/balloon_device.h"
#include "vmm/log.h"

#include <string.h>

/* A driver has about as many as it has tags; more is noise. */
#define ENTRIES_MAX 64

struct entry {
	le16 tag;
	uint8_t value[8]; /* le64, where no le64 may lie */
};

static void keep(struct balloon *balloon, const struct entry *entry)
{
	uint16_t tag = le16_get(entry->tag);
	le64 value;

	/* Drivers that know more are no worse for it. */
	if (tag >= BALLOON_STATS_MAX)
		return;
	memcpy(&value, entry->value, sizeof(value));
	balloon->stats.values[tag] = le64_get(value);
	balloon->stats.known |= (uint32_t)BIT(tag);
}

static int read_stats(struct balloon *balloon, struct chain *chain)
{
	struct entry entry;

	for (int i = 0; i < ENTRIES_MAX && chain->readable.left; i++) {
		if (chain_read(chain, &entry, sizeof(entry)))
			return -1;
		keep(balloon, &entry);
	}
	return 0;
}

static void note(struct balloon *balloon, struct chain *chain)
{
	if (read_stats(balloon, chain)) {
		metric_inc(&balloon->metrics->stats_update_fails);
		log_guest("balloon: statistics that cannot be read");
		return;
	}
	metric_inc(&balloon->metrics->stats_updates_count);
}

int balloon_take_stats(struct balloon *balloon, uint16_t q)
{
	struct queue *queue = &balloon->dev.queues[q];
	struct chain *chain = &balloon->jobs[BALLOON_STATS].chain;
	int returned = 0;

	for (int i = 0; i < queue->size; i++) {
		int ret = queue_pop(queue, chain);

		if (ret < 0)
			return ret;
		if (ret == 0)
			break;
		note(balloon, chain);
		/* One is enough. */
		if (balloon->held) {
			queue_put(queue, balloon->held_head, 0);
			returned++;
		}
		balloon->held = true;
		balloon->held_head = chain->head;
	}
	if (returned)
		queue_publish(queue);
	return returned;
}

void balloon_ask_stats(struct balloon *balloon, uint16_t q)
{
	struct queue *queue = &balloon->dev.queues[q];

	if (!balloon->held)
		return;
	balloon->held = false;
	queue_put(queue, balloon->held_head, 0);
	queue_publish(queue);
	virtio_device_notify_used(&balloon->dev, q);
}
