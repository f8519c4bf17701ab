/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Theory of operation.
 *
 * loop_run waits in epoll for sources. A control eventfd is the loop's own
 * first source: writing it wakes the loop for calls of other threads and for
 * the end.
 *
 * Timers are a list sorted by deadline; a timerfd is set to the first of them.
 * It is set again only when an earlier one comes, so that waiting for traffic
 * costs nothing for a timer that is minutes away.
 *
 * epoll hands out up to EVENTS_MAX events at once, and a handler may remove any
 * source, so removal also wipes the source from the rest of the current batch.
 */
#include "vmm/loop.h"

#include "vmm/log.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <sys/eventfd.h>
#include <sys/timerfd.h>

#define EVENTS_MAX 32
#define NS_PER_S UINT64_C(1000000000)

/* A call from another thread; lives on the caller's stack. */
struct call {
	loop_call_fn fn;
	void *arg;
	int ret;
	bool done;
	struct call *next;
};

struct loop {
	int epoll_fd;
	struct loop_source wakeup;
	struct loop_source sources; /* list head */
	struct loop_timer *timers;  /* by deadline, soonest first */
	struct loop_source alarm;   /* timerfd */
	uint64_t alarm_ns;	    /* what it is set to; 0: not set */
	bool timers_due;	    /* look at the timers now */
	bool devices_on;

	/* the batch being handled */
	struct epoll_event batch[EVENTS_MAX];
	int batch_len, batch_pos;

	_Atomic bool stopping;
	pthread_mutex_t lock; /* guards what follows */
	pthread_cond_t call_done;
	struct call *calls, **calls_tail;
	bool closed; /* no call will be run any more */
};

/* ----------------------------------------------------------------- sources */

static bool wanted(const struct loop *loop, const struct loop_source *source)
{
	return source->events &&
	       (loop->devices_on || source->class == LOOP_CONTROL);
}

static int epoll_set(const struct loop *loop, int op,
		     struct loop_source *source)
{
	struct epoll_event event = {
		.events = source->events,
		.data.ptr = source,
	};

	return epoll_ctl(loop->epoll_fd, op, source->fd, &event) ? -errno : 0;
}

int loop_add(struct loop *loop, struct loop_source *source)
{
	int ret = wanted(loop, source) ? epoll_set(loop, EPOLL_CTL_ADD, source)
				       : 0;

	if (ret)
		return ret;
	source->loop = loop;
	source->prev = &loop->sources;
	source->next = loop->sources.next;
	source->next->prev = source;
	loop->sources.next = source;
	return 0;
}

int loop_modify(struct loop_source *source, uint32_t events)
{
	struct loop *loop = source->loop;
	bool was = wanted(loop, source);
	uint32_t old = source->events;
	int ret = 0;

	source->events = events;
	if (was && wanted(loop, source))
		ret = epoll_set(loop, EPOLL_CTL_MOD, source);
	else if (was)
		ret = epoll_set(loop, EPOLL_CTL_DEL, source);
	else if (wanted(loop, source))
		ret = epoll_set(loop, EPOLL_CTL_ADD, source);
	if (ret)
		source->events = old;
	return ret;
}

static void forget_pending(struct loop *loop, const struct loop_source *source)
{
	for (int i = loop->batch_pos; i < loop->batch_len; i++)
		if (loop->batch[i].data.ptr == source)
			loop->batch[i].data.ptr = NULL;
}

void loop_remove(struct loop_source *source)
{
	struct loop *loop = source->loop;

	if (!loop)
		return;
	if (wanted(loop, source))
		epoll_set(loop, EPOLL_CTL_DEL, source);
	forget_pending(loop, source);
	source->prev->next = source->next;
	source->next->prev = source->prev;
	source->loop = NULL;
}

/*
 * Off means out of the epoll set: with an empty event mask epoll would still
 * report errors and hang-ups. Adding a source again reports what is ready, so
 * edges that came meanwhile are not lost.
 */
void loop_enable_devices(struct loop *loop, bool on)
{
	struct loop_source *source = loop->sources.next;
	int ret;

	if (loop->devices_on == on)
		return;
	for (; source != &loop->sources; source = source->next) {
		if (source->class != LOOP_DEVICE || !source->events)
			continue;
		ret = epoll_set(loop, on ? EPOLL_CTL_ADD : EPOLL_CTL_DEL,
				source);
		if (ret)
			log_error("Cannot watch descriptor %d: %s (os error "
				  "%d)",
				  source->fd, os_error_text(-ret), -ret);
		if (!on)
			forget_pending(loop, source);
	}
	loop->devices_on = on;
	loop->timers_due = true;
}

/* ------------------------------------------------------------------ timers */

void loop_timer_cancel(struct loop_timer *timer)
{
	struct loop_timer **link;

	if (!timer->deadline_ns)
		return;
	link = &timer->loop->timers;
	while (*link != timer)
		link = &(*link)->next;
	*link = timer->next;
	timer->deadline_ns = 0;
}

/* Sets the timerfd to the first deadline, unless it rings before that anyway.
 */
static void set_alarm(struct loop *loop)
{
	const struct loop_timer *first = loop->timers;
	struct itimerspec spec = {0};

	if (!first || (loop->alarm_ns && loop->alarm_ns <= first->deadline_ns))
		return;
	loop->alarm_ns = first->deadline_ns;
	spec.it_value.tv_sec = (time_t)(loop->alarm_ns / NS_PER_S);
	spec.it_value.tv_nsec = (long)(loop->alarm_ns % NS_PER_S);
	if (timerfd_settime(loop->alarm.fd, TFD_TIMER_ABSTIME, &spec, NULL))
		log_error("Cannot set a timer: %s (os error %d)",
			  os_error_text(errno), errno);
}

/* Never read: the next setting clears it, and edges are all that counts. */
static void on_alarm(struct loop_source *source, uint32_t events)
{
	struct loop *loop = source->loop;

	(void)events;
	loop->alarm_ns = 0;
	loop->timers_due = true;
}

void loop_timer_arm(struct loop *loop, struct loop_timer *timer,
		    uint64_t delay_ns)
{
	struct loop_timer **link = &loop->timers;

	loop_timer_cancel(timer);
	timer->loop = loop;
	if (__builtin_add_overflow(monotonic_ns(), delay_ns,
				   &timer->deadline_ns))
		timer->deadline_ns = UINT64_MAX;
	while (*link && (*link)->deadline_ns <= timer->deadline_ns)
		link = &(*link)->next;
	timer->next = *link;
	*link = timer;
	if (delay_ns == 0)
		loop->timers_due = true;
	else
		set_alarm(loop);
}

/* Fires what is due now; what a handler arms anew waits for the next round. */
static void fire_timers(struct loop *loop)
{
	uint64_t now;

	if (!loop->timers_due || !loop->devices_on)
		return;
	loop->timers_due = false;
	now = monotonic_ns();
	while (loop->devices_on && loop->timers &&
	       loop->timers->deadline_ns <= now &&
	       !atomic_load(&loop->stopping)) {
		struct loop_timer *timer = loop->timers;

		loop_timer_cancel(timer);
		timer->fn(timer);
	}
	set_alarm(loop);
}

/* Number of events, or -errno. */
static int wait_for_events(struct loop *loop)
{
	bool at_once = loop->timers_due && loop->devices_on;
	int n = epoll_wait(loop->epoll_fd, loop->batch, EVENTS_MAX,
			   at_once ? 0 : -1);

	return n < 0 ? -errno : n;
}

/* ------------------------------------------------------- calls and the end */

static void wake(const struct loop *loop)
{
	const uint64_t one = 1;

	/* Fails only when the counter is full: the loop is awake then. */
	if (write(loop->wakeup.fd, &one, sizeof(one)) < 0)
		return;
}

void loop_stop(struct loop *loop)
{
	atomic_store(&loop->stopping, true);
	wake(loop);
}

int loop_call(struct loop *loop, loop_call_fn fn, void *arg)
{
	struct call call = {.fn = fn, .arg = arg, .ret = -ESHUTDOWN};

	pthread_mutex_lock(&loop->lock);
	if (!loop->closed) {
		*loop->calls_tail = &call;
		/* The caller stays until the call is done. */
		/* cppcheck-suppress autoVariables */
		loop->calls_tail = &call.next;
		wake(loop);
		while (!call.done)
			pthread_cond_wait(&loop->call_done, &loop->lock);
	}
	pthread_mutex_unlock(&loop->lock);
	return call.ret;
}

static struct call *take_call(struct loop *loop)
{
	struct call *call = loop->calls;

	if (!call)
		return NULL;
	loop->calls = call->next;
	if (!loop->calls)
		loop->calls_tail = &loop->calls;
	return call;
}

static void run_calls(struct loop *loop)
{
	struct call *call;

	pthread_mutex_lock(&loop->lock);
	while (!atomic_load(&loop->stopping) && (call = take_call(loop))) {
		pthread_mutex_unlock(&loop->lock);
		call->fn(call->arg);
		pthread_mutex_lock(&loop->lock);
		call->ret = 0;
		call->done = true;
		pthread_cond_broadcast(&loop->call_done);
	}
	pthread_mutex_unlock(&loop->lock);
}

/* Callers that are still waiting, or come later, get -ESHUTDOWN. */
static void refuse_calls(struct loop *loop)
{
	struct call *call;

	pthread_mutex_lock(&loop->lock);
	loop->closed = true;
	while ((call = take_call(loop)))
		call->done = true;
	pthread_cond_broadcast(&loop->call_done);
	pthread_mutex_unlock(&loop->lock);
}

static void on_wakeup(struct loop_source *source, uint32_t events)
{
	uint64_t count;

	(void)events;
	if (read(source->fd, &count, sizeof(count)) == sizeof(count))
		run_calls(source->loop);
}

/* ---------------------------------------------------------------- the loop */

static void handle_batch(struct loop *loop)
{
	loop->batch_pos = 0;
	while (loop->batch_pos < loop->batch_len &&
	       !atomic_load(&loop->stopping)) {
		struct epoll_event *event = &loop->batch[loop->batch_pos++];
		struct loop_source *source = event->data.ptr;

		if (source)
			source->fn(source, event->events);
	}
	loop->batch_len = loop->batch_pos = 0;
}

int loop_turn(struct loop *loop)
{
	int n = wait_for_events(loop);

	if (n < 0 && n != -EINTR)
		return n;
	loop->batch_len = MAX(n, 0);
	handle_batch(loop);
	fire_timers(loop);
	return 0;
}

int loop_run(struct loop *loop)
{
	int ret = 0;

	while (!atomic_load(&loop->stopping) && !ret)
		ret = loop_turn(loop);
	refuse_calls(loop);
	return ret;
}

int loop_create(struct loop **ret_loop)
{
	struct loop *loop = calloc(1, sizeof(*loop));
	int ret;

	if (!loop)
		return -ENOMEM;
	loop->sources.prev = loop->sources.next = &loop->sources;
	loop->devices_on = true;
	loop->calls_tail = &loop->calls;
	pthread_mutex_init(&loop->lock, NULL);
	pthread_cond_init(&loop->call_done, NULL);
	loop->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	loop->wakeup = (struct loop_source){
		.fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK),
		.events = EPOLLIN,
		.class = LOOP_CONTROL,
		.fn = on_wakeup,
	};
	loop->alarm = (struct loop_source){
		.fd = timerfd_create(CLOCK_MONOTONIC,
				     TFD_CLOEXEC | TFD_NONBLOCK),
		.events = EPOLLIN | EPOLLET,
		.class = LOOP_CONTROL,
		.fn = on_alarm,
	};
	ret = loop->epoll_fd < 0 || loop->wakeup.fd < 0 || loop->alarm.fd < 0
		      ? -errno
		      : loop_add(loop, &loop->wakeup);
	if (!ret)
		ret = loop_add(loop, &loop->alarm);
	if (ret) {
		loop_destroy(loop);
		return ret;
	}
	*ret_loop = loop;
	return 0;
}

void loop_destroy(struct loop *loop)
{
	if (!loop)
		return;
	close_fd(&loop->wakeup.fd);
	close_fd(&loop->alarm.fd);
	close_fd(&loop->epoll_fd);
	pthread_cond_destroy(&loop->call_done);
	pthread_mutex_destroy(&loop->lock);
	free(loop);
}
