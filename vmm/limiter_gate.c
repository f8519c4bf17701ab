/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/limiter_gate.h"

void limiter_gate_init(struct limiter_gate *gate,
		       const struct rate_limiter_config *config,
		       loop_timer_fn fn)
{
	*gate = (struct limiter_gate){.timer.fn = fn};
	ratelimit_init(&gate->limiter, config, monotonic_ns());
}

/* Most have no limits, and shall not look at the clock. */
bool limiter_gate_pass(struct limiter_gate *gate, struct loop *loop)
{
	uint64_t now;

	if (!ratelimit_enabled(&gate->limiter))
		return true;
	now = monotonic_ns();
	if (ratelimit_ready(&gate->limiter, now))
		return true;
	loop_timer_arm(loop, &gate->timer,
		       ratelimit_delay_ns(&gate->limiter, now));
	return false;
}

void limiter_gate_charge(struct limiter_gate *gate, uint64_t bytes,
			 uint64_t ops)
{
	if (ratelimit_enabled(&gate->limiter))
		ratelimit_charge(&gate->limiter, bytes, ops, monotonic_ns());
}

bool limiter_gate_is_shut(const struct limiter_gate *gate)
{
	return loop_timer_is_armed(&gate->timer);
}

void limiter_gate_yield(struct limiter_gate *gate, struct loop *loop)
{
	loop_timer_arm(loop, &gate->timer, 0);
}

void limiter_gate_reset(struct limiter_gate *gate)
{
	loop_timer_cancel(&gate->timer);
}

void limiter_gate_update(struct limiter_gate *gate, struct loop *loop,
			 const struct rate_limiter_update *update)
{
	ratelimit_update(&gate->limiter, update, monotonic_ns());
	if (limiter_gate_is_shut(gate))
		loop_timer_arm(loop, &gate->timer, 0);
}
