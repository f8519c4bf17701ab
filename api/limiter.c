/* SPDX-License-Identifier: Apache-2.0 */
/* Rate limiters and token buckets, as several resources have them. */
#include "api/resources.h"

#define BUCKET(member) offsetof(struct token_bucket_config, member)

static const struct json_field bucket_fields[] = {
	{.name = "size",
	 .kind = FIELD_UINT,
	 .flags = FIELD_REQUIRED,
	 .offset = BUCKET(size),
	 .present = NO_PRESENT},
	{.name = "one_time_burst",
	 .kind = FIELD_UINT,
	 .flags = FIELD_NULLABLE,
	 .offset = BUCKET(one_time_burst),
	 .present = NO_PRESENT},
	{.name = "refill_time",
	 .kind = FIELD_UINT,
	 .flags = FIELD_REQUIRED,
	 .offset = BUCKET(refill_time_ms),
	 .present = NO_PRESENT},
};

static const struct json_shape bucket_shape = {bucket_fields,
					       ARRAY_SIZE(bucket_fields), true};

int bucket_parse(const struct json_text *text, const json_t *value, void *field,
		 struct error *err)
{
	return json_read_object(text, value, &bucket_shape, field, err);
}

#define LIMITER(member) offsetof(struct rate_limiter_update, member)

static const struct json_field limiter_fields[] = {
	{.name = "bandwidth",
	 .kind = FIELD_OBJECT,
	 .flags = FIELD_NULLABLE,
	 .offset = LIMITER(values.bandwidth),
	 .present = LIMITER(has_bandwidth),
	 .parse = bucket_parse},
	{.name = "ops",
	 .kind = FIELD_OBJECT,
	 .flags = FIELD_NULLABLE,
	 .offset = LIMITER(values.ops),
	 .present = LIMITER(has_ops),
	 .parse = bucket_parse},
};

static const struct json_shape limiter_shape = {
	limiter_fields, ARRAY_SIZE(limiter_fields), false};

int limiter_parse(const struct json_text *text, const json_t *value,
		  void *field, struct error *err)
{
	return json_read_object(text, value, &limiter_shape, field, err);
}

static json_t *bucket_to_json(const struct token_bucket_config *bucket)
{
	json_t *burst;

	if (!token_bucket_config_limits(bucket))
		return json_null();
	burst = bucket->one_time_burst
			? json_integer((json_int_t)bucket->one_time_burst)
			: json_null();
	return json_pack("{s:I, s:o, s:I}", "size", (json_int_t)bucket->size,
			 "one_time_burst", burst, "refill_time",
			 (json_int_t)bucket->refill_time_ms);
}

json_t *limiter_to_json(const struct rate_limiter_config *config)
{
	if (!rate_limiter_config_limits(config))
		return json_null();
	return json_pack("{s:o, s:o}", "bandwidth",
			 bucket_to_json(&config->bandwidth), "ops",
			 bucket_to_json(&config->ops));
}
