/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/fake/turn.h"

#include "vmm/util.h"

#include <assert.h>

#define POLL_NS UINT64_C(1000000)
#define LIMIT_NS UINT64_C(5000000000)
#define BRIEF_NS UINT64_C(5000000)

/* Makes the loop come back from waiting. */
static void on_poll(struct loop_timer *timer)
{
	loop_timer_arm(timer->loop, timer, POLL_NS);
}

static bool turn(struct loop *loop, bool (*done)(void *arg), void *arg,
		 uint64_t limit_ns)
{
	uint64_t end = monotonic_ns() + limit_ns;
	struct loop_timer timer = {.fn = on_poll};
	bool fulfilled = false;

	loop_timer_arm(loop, &timer, POLL_NS);
	while (!fulfilled && monotonic_ns() < end) {
		int ret = loop_turn(loop);

		assert(ret == 0);
		fulfilled = done && done(arg);
	}
	loop_timer_cancel(&timer);
	return fulfilled;
}

bool turn_until(struct loop *loop, bool (*done)(void *arg), void *arg)
{
	return turn(loop, done, arg, LIMIT_NS);
}

static void on_nothing(struct loop_timer *timer)
{
	(void)timer;
}

void turn_once(struct loop *loop)
{
	struct loop_timer timer = {.fn = on_nothing};
	int ret;

	loop_timer_arm(loop, &timer, 0);
	ret = loop_turn(loop);
	assert(ret == 0);
	loop_timer_cancel(&timer);
}

void turn_briefly(struct loop *loop)
{
	(void)turn(loop, NULL, NULL, BRIEF_NS);
}
