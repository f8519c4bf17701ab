/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/ratelimit.h"

#include "snapshot/state.h"
#include "vmm/log.h"

#include <errno.h>

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

/* --------------------------------------------------------------- snapshots */

/* A bucket with its time as a distance from now. */
struct saved_bucket {
	uint64_t size, refill_ns, burst, budget;
	uint64_t elapsed_ns; /* in which too little for a token has flowed */
	uint64_t debt_ns;
};

static const struct state_field fields[] = {
	STATE_FIELD(struct saved_bucket, size),
	STATE_FIELD(struct saved_bucket, refill_ns),
	STATE_FIELD(struct saved_bucket, burst),
	STATE_FIELD(struct saved_bucket, budget),
	STATE_FIELD(struct saved_bucket, elapsed_ns),
	STATE_FIELD(struct saved_bucket, debt_ns),
};

static void bucket_save(const struct token_bucket *bucket,
			struct state_writer *writer, uint64_t now_ns)
{
	struct token_bucket now = *bucket;
	struct saved_bucket saved = {0};

	if (bucket->size) {
		refill(&now, now_ns);
		saved = (struct saved_bucket){
			.size = now.size,
			.refill_ns = now.refill_ns,
			.burst = now.burst,
			.budget = now.budget,
			.elapsed_ns = now_ns - MIN(now_ns, now.updated_ns),
			.debt_ns = now.updated_ns - MIN(now_ns, now.updated_ns),
		};
	}
	state_put_fields(writer, &saved, fields, ARRAY_SIZE(fields));
}

static bool bucket_valid(const struct saved_bucket *saved)
{
	if (!saved->size)
		return !(saved->refill_ns | saved->burst | saved->budget |
			 saved->elapsed_ns | saved->debt_ns);
	return saved->refill_ns && saved->budget <= saved->size &&
	       saved->elapsed_ns <= saved->refill_ns &&
	       !(saved->elapsed_ns && saved->debt_ns);
}

static bool bucket_load(struct token_bucket *bucket,
			struct state_reader *reader, uint64_t now_ns)
{
	struct saved_bucket saved;

	state_get_fields(reader, &saved, fields, ARRAY_SIZE(fields));
	*bucket = (struct token_bucket){
		.size = saved.size,
		.refill_ns = saved.refill_ns,
		.burst = saved.burst,
		.budget = saved.budget,
		.updated_ns =
			saturate((unsigned __int128)now_ns -
				 MIN(now_ns, saved.elapsed_ns) + saved.debt_ns),
	};
	return bucket_valid(&saved);
}

void ratelimit_save(const struct rate_limiter *limiter,
		    struct state_writer *writer, uint64_t now_ns)
{
	bucket_save(&limiter->bytes, writer, now_ns);
	bucket_save(&limiter->ops, writer, now_ns);
}

int ratelimit_load(struct rate_limiter *limiter, struct state_reader *reader,
		   uint64_t now_ns, struct error *err)
{
	struct rate_limiter loaded;

	if (!bucket_load(&loaded.bytes, reader, now_ns) ||
	    !bucket_load(&loaded.ops, reader, now_ns))
		return error_set(
			err, EINVAL,
			"A rate limiter has more tokens than its size, "
			"or a size without a refill time");
	*limiter = loaded;
	return 0;
}
