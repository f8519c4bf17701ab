/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/fake/tick.h"

#include "vmm/loop.h"

#define TICK_NS UINT64_C(250000000)

void __real_loop_timer_arm(struct loop *loop, struct loop_timer *timer,
			   uint64_t delay_ns);
void __real_loop_timer_cancel(struct loop_timer *timer);
void __wrap_loop_timer_arm(struct loop *loop, struct loop_timer *timer,
			   uint64_t delay_ns);
void __wrap_loop_timer_cancel(struct loop_timer *timer);

static struct loop_timer *kept;

void __wrap_loop_timer_arm(struct loop *loop, struct loop_timer *timer,
			   uint64_t delay_ns)
{
	if (delay_ns == TICK_NS)
		kept = timer;
	else
		__real_loop_timer_arm(loop, timer, delay_ns);
}

void __wrap_loop_timer_cancel(struct loop_timer *timer)
{
	if (kept == timer)
		kept = NULL;
	__real_loop_timer_cancel(timer);
}

bool fake_tick(void)
{
	struct loop_timer *timer = take_ptr(kept);

	if (timer)
		timer->fn(timer);
	return timer != NULL;
}
