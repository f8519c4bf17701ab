/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/loop.h"

#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <sys/eventfd.h>
#include <sys/resource.h>

#include <cmocka.h>

#define SOURCES 3
#define CALLERS 4
#define CALLS_EACH 200
#define MS UINT64_C(1000000)

/* An eventfd on the loop, and what its handler does. */
struct probe {
	struct loop_source source;
	unsigned int calls;
	uint32_t events;
	bool keep; /* does not read the eventfd */
	struct loop_source *removes;
	struct loop *stops;
};

struct alarm {
	struct loop_timer timer;
	unsigned int fired, order;
	uint64_t at_ns;
	unsigned int again; /* how often it arms itself anew */
	struct loop *stops;
	unsigned int *sequence;
};

struct fixture {
	struct loop *loop;
	struct probe probes[SOURCES];
	struct alarm alarms[SOURCES];
	struct alarm end; /* stops the loop */
	unsigned int sequence;
};

static void on_probe(struct loop_source *source, uint32_t events)
{
	struct probe *probe = container_of(source, struct probe, source);
	uint64_t count;

	probe->calls++;
	probe->events = events;
	if (!probe->keep)
		assert_int_equal(read(source->fd, &count, 8), 8);
	if (probe->removes)
		loop_remove(probe->removes);
	if (probe->stops)
		loop_stop(probe->stops);
}

static void on_alarm(struct loop_timer *timer)
{
	struct alarm *alarm = container_of(timer, struct alarm, timer);

	alarm->fired++;
	alarm->order = ++*alarm->sequence;
	alarm->at_ns = monotonic_ns();
	if (alarm->again && alarm->again--)
		loop_timer_arm(timer->loop, timer, MS);
	else if (alarm->stops)
		loop_stop(alarm->stops);
}

static int setup(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));

	assert_non_null(f);
	assert_int_equal(loop_create(&f->loop), 0);
	for (size_t i = 0; i < SOURCES; i++) {
		f->probes[i].source = (struct loop_source){
			.fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK),
			.events = EPOLLIN,
			.class = LOOP_DEVICE,
			.fn = on_probe,
		};
		f->alarms[i].timer.fn = on_alarm;
		f->alarms[i].sequence = &f->sequence;
	}
	f->end.timer.fn = on_alarm;
	f->end.sequence = &f->sequence;
	f->end.stops = f->loop;
	*state = f;
	return 0;
}

static int teardown(void **state)
{
	struct fixture *f = *state;

	for (size_t i = 0; i < SOURCES; i++) {
		loop_remove(&f->probes[i].source);
		close(f->probes[i].source.fd);
	}
	loop_destroy(f->loop);
	free(f);
	return 0;
}

static void add(struct fixture *f, size_t i)
{
	assert_int_equal(loop_add(f->loop, &f->probes[i].source), 0);
}

static void ring(const struct probe *probe)
{
	const uint64_t one = 1;

	assert_int_equal(write(probe->source.fd, &one, 8), 8);
}

/* Serves what is ready and what comes within @ms. */
static void run_for(struct fixture *f, uint64_t ms)
{
	loop_timer_arm(f->loop, &f->end.timer, ms * MS);
	assert_int_equal(loop_run(f->loop), 0);
}

static void test_run_ready_source_gets_events(void **state)
{
	struct fixture *f = *state;

	add(f, 0);
	ring(&f->probes[0]);
	run_for(f, 5);
	assert_int_equal(f->probes[0].calls, 1);
	assert_int_equal(f->probes[0].events, EPOLLIN);
}

static void test_add_bad_descriptor_is_refused(void **state)
{
	struct fixture *f = *state;
	struct loop_source bad = {.fd = -1, .events = EPOLLIN};

	assert_int_equal(loop_add(f->loop, &bad), -EBADF);
	loop_remove(&bad); /* it never was there */
}

static void test_remove_pending_source_is_not_called(void **state)
{
	struct fixture *f = *state;

	/* Both are ready in one round; whichever is first removes the other. */
	add(f, 0);
	add(f, 1);
	f->probes[0].removes = &f->probes[1].source;
	f->probes[1].removes = &f->probes[0].source;
	ring(&f->probes[0]);
	ring(&f->probes[1]);
	run_for(f, 5);
	assert_int_equal(f->probes[0].calls + f->probes[1].calls, 1);
}

static void test_remove_itself_ends_calls(void **state)
{
	struct fixture *f = *state;

	add(f, 0);
	f->probes[0].keep = true;
	f->probes[0].removes = &f->probes[0].source;
	ring(&f->probes[0]);
	run_for(f, 5);
	assert_int_equal(f->probes[0].calls, 1);
	loop_remove(&f->probes[0].source); /* twice does no harm */
	add(f, 0);
}

static void test_modify_to_nothing_silences_source(void **state)
{
	struct fixture *f = *state;

	add(f, 0);
	assert_int_equal(loop_modify(&f->probes[0].source, 0), 0);
	ring(&f->probes[0]);
	run_for(f, 5);
	assert_int_equal(f->probes[0].calls, 0);
}

static void test_modify_changes_and_restores_events(void **state)
{
	struct fixture *f = *state;

	add(f, 0);
	assert_int_equal(loop_modify(&f->probes[0].source, 0), 0);
	ring(&f->probes[0]);
	assert_int_equal(loop_modify(&f->probes[0].source, EPOLLIN), 0);
	assert_int_equal(loop_modify(&f->probes[0].source, EPOLLIN | EPOLLOUT),
			 0);
	f->probes[0].stops = f->loop;
	assert_int_equal(loop_run(f->loop), 0);
	assert_int_equal(f->probes[0].events, EPOLLIN | EPOLLOUT);
}

static void test_disabled_devices_stay_silent(void **state)
{
	struct fixture *f = *state;

	f->probes[1].source.class = LOOP_CONTROL;
	add(f, 0);
	add(f, 1);
	loop_enable_devices(f->loop, false);
	add(f, 2); /* added while off */
	f->probes[1].stops = f->loop;
	for (size_t i = 0; i < SOURCES; i++)
		ring(&f->probes[i]);
	assert_int_equal(loop_run(f->loop), 0);
	assert_int_equal(f->probes[0].calls, 0);
	assert_int_equal(f->probes[1].calls, 1);
	assert_int_equal(f->probes[2].calls, 0);
}

static void test_enable_delivers_what_became_ready(void **state)
{
	struct fixture *f = *state;

	f->probes[0].source.events = EPOLLIN | EPOLLET;
	add(f, 0);
	add(f, 1);
	loop_enable_devices(f->loop, false);
	loop_enable_devices(f->loop, false); /* idempotent */
	add(f, 2);
	for (size_t i = 0; i < SOURCES; i++)
		ring(&f->probes[i]);
	loop_enable_devices(f->loop, true);
	run_for(f, 5);
	for (size_t i = 0; i < SOURCES; i++)
		assert_int_equal(f->probes[i].calls, 1);
}

static void test_modify_while_disabled_counts_later(void **state)
{
	struct fixture *f = *state;

	add(f, 0);
	add(f, 1);
	assert_int_equal(loop_modify(&f->probes[1].source, 0), 0);
	loop_enable_devices(f->loop, false);
	assert_int_equal(loop_modify(&f->probes[0].source, 0), 0);
	assert_int_equal(loop_modify(&f->probes[1].source, EPOLLIN), 0);
	ring(&f->probes[0]);
	ring(&f->probes[1]);
	loop_enable_devices(f->loop, true);
	run_for(f, 5);
	assert_int_equal(f->probes[0].calls, 0);
	assert_int_equal(f->probes[1].calls, 1);
}

static void test_disabled_hang_up_does_not_spin(void **state)
{
	struct fixture *f = *state;
	int ends[2];

	assert_int_equal(pipe(ends), 0);
	close(f->probes[0].source.fd);
	f->probes[0].source.fd = ends[0];
	f->probes[0].keep = true;
	add(f, 0);
	loop_enable_devices(f->loop, false);
	close(ends[1]);
	f->probes[1].source.class = LOOP_CONTROL;
	f->probes[1].stops = f->loop;
	add(f, 1);
	ring(&f->probes[1]);
	assert_int_equal(loop_run(f->loop), 0);
	assert_int_equal(f->probes[0].calls, 0);
}

static void disable_devices(struct loop_source *source, uint32_t events)
{
	(void)events;
	loop_enable_devices(source->loop, false);
	loop_stop(source->loop);
}

static void test_disable_within_round_holds_back_pending(void **state)
{
	struct fixture *f = *state;

	/* The control source was ready first, so it is served first. */
	f->probes[1].source.class = LOOP_CONTROL;
	f->probes[1].source.fn = disable_devices;
	add(f, 1);
	add(f, 0);
	ring(&f->probes[1]);
	ring(&f->probes[0]);
	assert_int_equal(loop_run(f->loop), 0);
	assert_int_equal(f->probes[0].calls, 0);
}

static void test_timers_fire_in_order_of_deadline(void **state)
{
	struct fixture *f = *state;
	static const uint64_t delays[SOURCES] = {3 * MS, MS, 2 * MS};
	static const unsigned int orders[SOURCES] = {3, 1, 2};
	uint64_t start = monotonic_ns();

	for (size_t i = 0; i < SOURCES; i++)
		loop_timer_arm(f->loop, &f->alarms[i].timer, delays[i]);
	run_for(f, 4);
	for (size_t i = 0; i < SOURCES; i++) {
		assert_int_equal(f->alarms[i].fired, 1);
		assert_int_equal(f->alarms[i].order, orders[i]);
		assert_true(f->alarms[i].at_ns - start >= delays[i]);
	}
}

static void test_timer_armed_anew_fires_again(void **state)
{
	struct fixture *f = *state;

	f->alarms[0].again = 3;
	f->alarms[0].stops = f->loop;
	loop_timer_arm(f->loop, &f->alarms[0].timer, 0);
	assert_int_equal(loop_run(f->loop), 0);
	assert_int_equal(f->alarms[0].fired, 4);
}

static void test_timer_armed_twice_moves(void **state)
{
	struct fixture *f = *state;

	loop_timer_arm(f->loop, &f->alarms[0].timer, UINT64_MAX);
	loop_timer_arm(f->loop, &f->alarms[1].timer, 1000 * MS);
	loop_timer_arm(f->loop, &f->alarms[0].timer, MS);
	run_for(f, 3);
	assert_int_equal(f->alarms[0].fired, 1);
	assert_int_equal(f->alarms[1].fired, 0);
}

static void test_timer_cancelled_is_silent(void **state)
{
	struct fixture *f = *state;

	loop_timer_cancel(&f->alarms[0].timer); /* never armed */
	for (size_t i = 0; i < SOURCES; i++)
		loop_timer_arm(f->loop, &f->alarms[i].timer, MS);
	loop_timer_cancel(&f->alarms[1].timer);
	loop_timer_cancel(&f->alarms[1].timer);
	run_for(f, 3);
	assert_int_equal(f->alarms[0].fired, 1);
	assert_int_equal(f->alarms[1].fired, 0);
	assert_int_equal(f->alarms[2].fired, 1);
}

static void check_silence(void *arg)
{
	struct fixture *f = arg;

	assert_int_equal(f->alarms[0].fired, 0);
}

static void enable_devices(void *arg)
{
	struct fixture *f = arg;

	check_silence(f);
	loop_enable_devices(f->loop, true);
}

static void *call_later(void *arg)
{
	struct fixture *f = arg;

	usleep(5000);
	/* The loop is awake twice while the timer is due. */
	assert_int_equal(loop_call(f->loop, check_silence, f), 0);
	usleep(1000);
	assert_int_equal(loop_call(f->loop, enable_devices, f), 0);
	return NULL;
}

static void test_timers_wait_for_devices(void **state)
{
	struct fixture *f = *state;
	pthread_t thread;

	loop_timer_arm(f->loop, &f->alarms[0].timer, MS);
	f->alarms[0].stops = f->loop;
	loop_enable_devices(f->loop, false);
	assert_int_equal(pthread_create(&thread, NULL, call_later, f), 0);
	assert_int_equal(loop_run(f->loop), 0);
	pthread_join(thread, NULL);
	assert_int_equal(f->alarms[0].fired, 1);
}

static void test_stop_before_run_serves_nothing(void **state)
{
	struct fixture *f = *state;

	add(f, 0);
	ring(&f->probes[0]);
	loop_timer_arm(f->loop, &f->alarms[0].timer, 0);
	loop_stop(f->loop);
	loop_stop(f->loop);
	assert_int_equal(loop_run(f->loop), 0);
	assert_int_equal(f->probes[0].calls, 0);
	assert_int_equal(f->alarms[0].fired, 0);
}

static void *stop_later(void *arg)
{
	usleep(2000);
	loop_stop(arg);
	return NULL;
}

static void test_stop_from_other_thread_ends_run(void **state)
{
	struct fixture *f = *state;
	pthread_t thread;

	assert_int_equal(pthread_create(&thread, NULL, stop_later, f->loop), 0);
	assert_int_equal(loop_run(f->loop), 0);
	pthread_join(thread, NULL);
}

/* What the callers share is not locked: only the loop's thread touches it. */
struct shared {
	struct loop *loop;
	pthread_t loop_thread;
	unsigned int total, callers_left;
	unsigned int refused;
};

static void count_call(void *arg)
{
	struct shared *shared = arg;

	assert_true(pthread_equal(pthread_self(), shared->loop_thread));
	shared->total++;
}

static void caller_done(void *arg)
{
	struct shared *shared = arg;

	if (--shared->callers_left == 0)
		loop_stop(shared->loop);
}

static void *call_often(void *arg)
{
	struct shared *shared = arg;

	for (int i = 0; i < CALLS_EACH; i++)
		assert_int_equal(loop_call(shared->loop, count_call, shared),
				 0);
	assert_int_equal(loop_call(shared->loop, caller_done, shared), 0);
	return NULL;
}

static void test_call_from_many_threads_runs_each_once(void **state)
{
	struct fixture *f = *state;
	struct shared shared = {.loop = f->loop,
				.loop_thread = pthread_self(),
				.callers_left = CALLERS};
	pthread_t threads[CALLERS];

	for (size_t i = 0; i < CALLERS; i++)
		assert_int_equal(
			pthread_create(&threads[i], NULL, call_often, &shared),
			0);
	assert_int_equal(loop_run(f->loop), 0);
	for (size_t i = 0; i < CALLERS; i++)
		pthread_join(threads[i], NULL);
	assert_int_equal(shared.total, CALLERS * CALLS_EACH);
}

static void stop_and_count(void *arg)
{
	struct shared *shared = arg;

	shared->total++;
	loop_stop(shared->loop);
}

static void *call_once(void *arg)
{
	struct shared *shared = arg;
	int ret = loop_call(shared->loop, stop_and_count, shared);

	if (ret == -ESHUTDOWN)
		__atomic_fetch_add(&shared->refused, 1, __ATOMIC_RELAXED);
	else
		assert_int_equal(ret, 0);
	return NULL;
}

static void test_call_pending_at_stop_is_refused(void **state)
{
	struct fixture *f = *state;
	struct shared shared = {.loop = f->loop};
	pthread_t threads[CALLERS];

	/* The first call that runs stops the loop; the others must not hang,
	 * whether they were queued by then or come later. */
	for (size_t i = 0; i < CALLERS; i++)
		assert_int_equal(
			pthread_create(&threads[i], NULL, call_once, &shared),
			0);
	assert_int_equal(loop_run(f->loop), 0);
	for (size_t i = 0; i < CALLERS; i++)
		pthread_join(threads[i], NULL);
	assert_int_equal(shared.total, 1);
	assert_int_equal(shared.refused, CALLERS - 1);
	assert_int_equal(loop_call(f->loop, stop_and_count, &shared),
			 -ESHUTDOWN);
}

static void test_turn_serves_one_round(void **state)
{
	struct fixture *f = *state;

	assert_int_equal(loop_add(f->loop, &f->probes[0].source), 0);
	ring(&f->probes[0]);
	assert_int_equal(loop_turn(f->loop), 0);
	assert_int_equal(f->probes[0].calls, 1);
	loop_timer_arm(f->loop, &f->end.timer, 0);
	assert_int_equal(loop_turn(f->loop), 0);
	assert_int_equal(loop_run(f->loop), 0); /* ended already */
}

static void test_create_without_descriptors_fails(void **state)
{
	struct rlimit old, none;
	struct loop *loop = NULL;

	(void)state;
	assert_int_equal(getrlimit(RLIMIT_NOFILE, &old), 0);
	none = (struct rlimit){0, old.rlim_max};
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &none), 0);
	assert_int_equal(loop_create(&loop), -EMFILE);
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &old), 0);
	assert_null(loop);
	loop_destroy(NULL);
}

#define CASE(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		CASE(test_run_ready_source_gets_events),
		CASE(test_add_bad_descriptor_is_refused),
		CASE(test_remove_pending_source_is_not_called),
		CASE(test_remove_itself_ends_calls),
		CASE(test_modify_to_nothing_silences_source),
		CASE(test_modify_changes_and_restores_events),
		CASE(test_disabled_devices_stay_silent),
		CASE(test_enable_delivers_what_became_ready),
		CASE(test_modify_while_disabled_counts_later),
		CASE(test_disabled_hang_up_does_not_spin),
		CASE(test_disable_within_round_holds_back_pending),
		CASE(test_timers_fire_in_order_of_deadline),
		CASE(test_timer_armed_anew_fires_again),
		CASE(test_timer_armed_twice_moves),
		CASE(test_timer_cancelled_is_silent),
		CASE(test_timers_wait_for_devices),
		CASE(test_stop_before_run_serves_nothing),
		CASE(test_stop_from_other_thread_ends_run),
		CASE(test_call_from_many_threads_runs_each_once),
		CASE(test_call_pending_at_stop_is_refused),
		CASE(test_turn_serves_one_round),
		CASE(test_create_without_descriptors_fails),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
