/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A rate limiter in the way of a device's work, and the timer that comes when
 * there are tokens again.
 *
 * Before each piece of work limiter_gate_pass, after it limiter_gate_charge. If
 * there are no tokens the gate is shut: the device leaves its work alone, kicks
 * or not, until the timer's function is called, with the gate open again.
 *
 * Embedded in its device. Thread: loop, the device's lock held.
 */
#ifndef EMBER_LIMITER_GATE_H
#define EMBER_LIMITER_GATE_H

#include "vmm/loop.h"
#include "vmm/ratelimit.h"

struct limiter_gate {
	struct rate_limiter limiter; /* to save and load */
	struct loop_timer timer;
};

/* @fn finds the device by the timer. */
void limiter_gate_init(struct limiter_gate *gate,
		       const struct rate_limiter_config *config,
		       loop_timer_fn fn);

/* May the next piece of work be done? False: the gate is shut now. */
bool limiter_gate_pass(struct limiter_gate *gate, struct loop *loop);

/* Takes what a piece of work has cost. */
void limiter_gate_charge(struct limiter_gate *gate, uint64_t bytes,
			 uint64_t ops);

bool limiter_gate_is_shut(const struct limiter_gate *gate);

/* There is more to do, but others first: shut until the loop comes round. */
void limiter_gate_yield(struct limiter_gate *gate, struct loop *loop);

/* Open, and no timer: the driver is gone, or another one is there. */
void limiter_gate_reset(struct limiter_gate *gate);

/* PATCH: what waits for tokens tries again at once. */
void limiter_gate_update(struct limiter_gate *gate, struct loop *loop,
			 const struct rate_limiter_update *update);

#endif
