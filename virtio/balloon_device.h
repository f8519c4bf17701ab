/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The parts of the balloon device, for the files that make it up:
 *
 *   balloon.c        its life cycle, its target, which queue is which
 *   balloon_pages.c  pages that come back: inflate, hints, reports
 *   balloon_stats.c  statistics
 *
 * Lock held in all functions, loop thread.
 */
#ifndef EMBER_BALLOON_DEVICE_H
#define EMBER_BALLOON_DEVICE_H

#include "virtio/balloon.h"

/* Feature bits (5.5.3). */
#define BALLOON_F_STATS_VQ 1
#define BALLOON_F_DEFLATE_ON_OOM 2
#define BALLOON_F_FREE_PAGE_HINT 3
#define BALLOON_F_PAGE_REPORTING 5

/* What a queue is for, in the order of queues (5.5.2). */
enum balloon_role {
	BALLOON_INFLATE,
	BALLOON_DEFLATE,
	BALLOON_STATS,
	BALLOON_HINT,
	BALLOON_REPORT,
	BALLOON_ROLES,
};

/* Command ids that are none of a run (5.5.6.5). */
enum {
	BALLOON_CMD_STOP = 0,
	BALLOON_CMD_DONE = 1,
	BALLOON_CMD_FIRST = 2,
};

/* The config space (5.5.4). */
struct balloon_space {
	le32 num_pages, actual, free_page_hint_cmd_id;
};

/* A request that may take several turns. */
struct balloon_job {
	bool open;	  /* taken off its queue, not given back */
	uint16_t segment; /* of the writable ones, the next */
	uint64_t off;	  /* in that segment */
	struct chain chain;
};

/* What a turn may still do, before others have theirs. */
struct balloon_turn {
	int64_t calls, pages;
};

struct balloon {
	struct virtio_device dev;
	struct balloon_metrics *metrics;
	uint64_t target_pages;
	bool complained; /* that the host takes nothing back */
	struct balloon_job jobs[BALLOON_ROLES];

	uint64_t interval_s; /* 0: no statistics */
	struct loop_timer timer;
	bool fresh; /* nobody has looked for a buffer yet */
	bool held;  /* the buffer that the next statistics come in... */
	uint16_t held_head;
	struct balloon_stats stats; /* targets aside */

	uint32_t host_cmd, last_cmd; /* last: of the last run */
	bool has_guest_cmd, acknowledge;
	uint32_t guest_cmd;
};

static inline struct balloon *to_balloon(struct virtio_device *dev)
{
	return container_of(dev, struct balloon, dev);
}

/* ----------------------------------------------------- from balloon.c */

struct balloon_space balloon_space(const struct balloon *balloon);

/* Of a run, or one of the ids above; tells the driver. */
void balloon_command(struct balloon *balloon, uint32_t cmd);

/* ----------------------------------------------- from balloon_pages.c */

/* Serves requests of queue @q. Their number, with *@ret_more if there is more
 * to do; -EPROTO. */
int balloon_serve_pages(struct balloon *balloon, uint16_t q,
			enum balloon_role role, bool *ret_more) must_check;

/* ----------------------------------------------- from balloon_stats.c */

/* Takes what the driver has to say and keeps its buffer. Number of older ones
 * that it gave back; -EPROTO. */
int balloon_take_stats(struct balloon *balloon, uint16_t q) must_check;

/* Gives the buffer back, if there is one: the driver fills it again. */
void balloon_ask_stats(struct balloon *balloon, uint16_t q);

#endif
