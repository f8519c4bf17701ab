/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The event loop: epoll, timers and calls from other threads.
 *
 * One thread runs it and owns every device and all VM state. A source is
 * embedded in its owner and says which function gets the events; the loop
 * allocates nothing per event. Handlers never block.
 *
 * While the microVM is paused only control sources are served: device sources
 * stay registered but deliver nothing until they are enabled again.
 *
 * Life cycle: loop_create -> loop_add... -> loop_run (returns after loop_stop)
 * -> loop_destroy. Except for loop_call and loop_stop everything here belongs
 * to the loop's thread (before loop_run: to the thread that will run it).
 */
#ifndef EMBER_LOOP_H
#define EMBER_LOOP_H

#include "vmm/util.h"

#include <stdbool.h>
#include <sys/epoll.h>

struct loop;
struct loop_source;
struct loop_timer;

typedef void (*loop_source_fn)(struct loop_source *source, uint32_t events);
typedef void (*loop_timer_fn)(struct loop_timer *timer);
typedef void (*loop_call_fn)(void *arg);

enum loop_class {
	LOOP_CONTROL, /* API, signals: served in every state */
	LOOP_DEVICE,  /* guest-facing: silent while paused */
};

/* Owned by whoever registers it; must outlive the registration. */
struct loop_source {
	int fd;
	uint32_t events; /* EPOLLIN, EPOLLOUT, EPOLLET... */
	enum loop_class class;
	loop_source_fn fn;
	/* private */
	struct loop *loop;
	struct loop_source *prev, *next;
};

/* Zero-initialise with fn set. Armed timers are device-class: they do not fire
 * while devices are disabled, and fire late rather than never. */
struct loop_timer {
	loop_timer_fn fn;
	/* private */
	struct loop *loop;
	uint64_t deadline_ns; /* CLOCK_MONOTONIC; 0 when idle */
	struct loop_timer *next;
};

int loop_create(struct loop **ret_loop) must_check;

/* Accepts NULL. Sources still registered are forgotten, not closed. */
void loop_destroy(struct loop *loop);

int loop_add(struct loop *loop, struct loop_source *source) must_check;

/* Changes the events of a registered source (0 = none for now). */
int loop_modify(struct loop_source *source, uint32_t events) must_check;

/* Safe on a source that was never added, and from inside any handler, also
 * for another source that has an event pending in the same round. */
void loop_remove(struct loop_source *source);

/* Turns every LOOP_DEVICE source and all timers off or on. Edge-triggered
 * sources that became ready meanwhile are delivered after turning on. */
void loop_enable_devices(struct loop *loop, bool on);

/* (Re)arms @timer to fire once, @delay_ns from now. */
void loop_timer_arm(struct loop *loop, struct loop_timer *timer,
		    uint64_t delay_ns);
void loop_timer_cancel(struct loop_timer *timer);

static inline bool loop_timer_is_armed(const struct loop_timer *timer)
{
	return timer->deadline_ns;
}

/* One round: waits for events, then serves them and the timers that are due.
 * Returns 0 or -errno of epoll_wait. */
int loop_turn(struct loop *loop) must_check;

/* Serves events until loop_stop. Returns 0 or -errno of epoll_wait. */
int loop_run(struct loop *loop) must_check;

/* Any thread, any time, idempotent: makes loop_run return. Async-signal-safe.
 */
void loop_stop(struct loop *loop);

/* Any thread but the loop's own: runs @fn(@arg) on the loop and waits for it.
 * Calls queue up in order. Returns -ESHUTDOWN when the loop has stopped (or
 * stops before it got to this call): then @fn was not and will not be run. */
int loop_call(struct loop *loop, loop_call_fn fn, void *arg) must_check;

#endif
