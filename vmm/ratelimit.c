/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/ratelimit.h"

#include "vmm/log.h"

#define NS_PER_MS UINT64_C(1000000)
#define DELAY_MIN_NS NS_PER_MS

static uint64_t saturate(unsigned __int128 value)
{
	return value > UINT64_MAX ? UINT64_MAX : (uint64_t)value;
}

/* How long @tokens take to flow in. */
static uint64_t time_of(const struct token_bucket *bucket, uint64_t tokens)
{
	return saturate((unsigned __int128)tokens * bucket->refill_ns /
			bucket->size);
}

static void bucket_init(struct token_bucket *bucket,
			const struct token_bucket_config *config,
			uint64_t now_ns)
{
	*bucket = (struct token_bucket){0};
	if (!config->size || !config->refill_time_ms)
		return;
	bucket->size = config->size;
	bucket->refill_ns =
		saturate((unsigned __int128)config->refill_time_ms * NS_PER_MS);
	bucket->burst = config->one_time_burst;
	bucket->budget = config->size;
	bucket->updated_ns = now_ns;
}

/* Counts in what has flowed since. The rest of a token stays in the time. */
static void refill(struct token_bucket *bucket, uint64_t now_ns)
{
	uint64_t elapsed, tokens;

	if (now_ns <= bucket->updated_ns)
		return;
	elapsed = now_ns - bucket->updated_ns;
	if (elapsed >= bucket->refill_ns) {
		bucket->budget = bucket->size;
		bucket->updated_ns = now_ns;
		return;
	}
	tokens = (uint64_t)((unsigned __int128)elapsed * bucket->size /
			    bucket->refill_ns);
	if (tokens == 0)
		return;
	bucket->updated_ns += time_of(bucket, tokens);
	bucket->budget = tokens < bucket->size - bucket->budget
				 ? bucket->budget + tokens
				 : bucket->size;
}

static bool bucket_ready(struct token_bucket *bucket, uint64_t now_ns)
{
	if (!bucket->size || bucket->burst)
		return true;
	refill(bucket, now_ns);
	return bucket->budget > 0;
}

static void bucket_charge(struct token_bucket *bucket, uint64_t tokens,
			  uint64_t now_ns)
{
	uint64_t from_burst = MIN(tokens, bucket->burst);
	uint64_t debt_ns;

	if (!bucket->size)
		return;
	bucket->burst -= from_burst;
	tokens -= from_burst;
	refill(bucket, now_ns);
	if (tokens <= bucket->budget) {
		bucket->budget -= tokens;
		return;
	}
	if (tokens > bucket->size)
		log_guest_at(LOG_LEVEL_ERROR,
			     "Consumed %lu tokens from bucket of size %lu",
			     (unsigned long)tokens,
			     (unsigned long)bucket->size);
	debt_ns = time_of(bucket, tokens - bucket->budget);
	bucket->budget = 0;
	bucket->updated_ns = saturate(
		(unsigned __int128)MAX(now_ns, bucket->updated_ns) + debt_ns);
}

static uint64_t bucket_delay_ns(struct token_bucket *bucket, uint64_t now_ns)
{
	uint64_t debt_ns;

	if (bucket_ready(bucket, now_ns))
		return 0;
	debt_ns = bucket->updated_ns > now_ns ? bucket->updated_ns - now_ns : 0;
	return saturate((unsigned __int128)debt_ns + time_of(bucket, 1) + 1);
}

void ratelimit_init(struct rate_limiter *limiter,
		    const struct rate_limiter_config *config, uint64_t now_ns)
{
	bucket_init(&limiter->bytes, &config->bandwidth, now_ns);
	bucket_init(&limiter->ops, &config->ops, now_ns);
}

void ratelimit_update(struct rate_limiter *limiter,
		      const struct rate_limiter_update *update, uint64_t now_ns)
{
	if (update->has_bandwidth)
		bucket_init(&limiter->bytes, &update->values.bandwidth, now_ns);
	if (update->has_ops)
		bucket_init(&limiter->ops, &update->values.ops, now_ns);
}

bool ratelimit_enabled(const struct rate_limiter *limiter)
{
	return limiter->bytes.size || limiter->ops.size;
}

bool ratelimit_ready(struct rate_limiter *limiter, uint64_t now_ns)
{
	return bucket_ready(&limiter->bytes, now_ns) &&
	       bucket_ready(&limiter->ops, now_ns);
}

void ratelimit_charge(struct rate_limiter *limiter, uint64_t bytes,
		      uint64_t ops, uint64_t now_ns)
{
	bucket_charge(&limiter->bytes, bytes, now_ns);
	bucket_charge(&limiter->ops, ops, now_ns);
}

uint64_t ratelimit_delay_ns(struct rate_limiter *limiter, uint64_t now_ns)
{
	uint64_t delay = MAX(bucket_delay_ns(&limiter->bytes, now_ns),
			     bucket_delay_ns(&limiter->ops, now_ns));

	return MAX(delay, DELAY_MIN_NS);
}
