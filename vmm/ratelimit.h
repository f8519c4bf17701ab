/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Token buckets: how much a device may do per unit of time.
 *
 * A bucket of `size` tokens is refilled continuously, a whole one within
 * `refill_time`; `one_time_burst` comes on top, is spent first and never
 * refilled. A limiter has one bucket for bytes and one for operations, either
 * of which may be absent.
 *
 * Work is admitted while no bucket is empty and charged afterwards, when its
 * size is known. What exceeds the tokens is a debt: nothing is admitted until
 * it is paid. So nothing ever has to be put back, and over time the rate is
 * exactly the configured one. Deliberately without a timer, which those have
 * who can come back later (vmm/limiter_gate.h).
 *
 * Thread: holder of the device's lock. Times are monotonic_ns().
 */
#ifndef EMBER_RATELIMIT_H
#define EMBER_RATELIMIT_H

#include "vmm/config.h"
#include "vmm/error.h"

struct state_reader;
struct state_writer;

struct token_bucket {
	uint64_t size; /* 0: no limit */
	uint64_t refill_ns;
	uint64_t burst, budget; /* tokens left */
	/* Tokens up to here are counted in; in the future: a debt. */
	uint64_t updated_ns;
};

struct rate_limiter {
	struct token_bucket bytes, ops;
};

/* Full buckets as configured; a size or time of 0 means none. */
void ratelimit_init(struct rate_limiter *limiter,
		    const struct rate_limiter_config *config, uint64_t now_ns);

/* PATCH: absent buckets (see config.h) stay as they are, others start anew. */
void ratelimit_update(struct rate_limiter *limiter,
		      const struct rate_limiter_update *update,
		      uint64_t now_ns);

bool ratelimit_enabled(const struct rate_limiter *limiter);

/* May the next piece of work be done? */
bool ratelimit_ready(struct rate_limiter *limiter, uint64_t now_ns);

/* Takes what a piece of work has cost. */
void ratelimit_charge(struct rate_limiter *limiter, uint64_t bytes,
		      uint64_t ops, uint64_t now_ns);

/* Nanoseconds until ratelimit_ready, at least a millisecond: a guest must not
 * be able to make the loop spin. */
uint64_t ratelimit_delay_ns(struct rate_limiter *limiter, uint64_t now_ns);

/* Limits and tokens. Times are kept as distances from now: another host's clock
 * shows something else. */
void ratelimit_save(const struct rate_limiter *limiter,
		    struct state_writer *writer, uint64_t now_ns);

/* -EINVAL with a sentence: @limiter is as it was. */
int ratelimit_load(struct rate_limiter *limiter, struct state_reader *reader,
		   uint64_t now_ns, struct error *err) must_check;

#endif
