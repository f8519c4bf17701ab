/* SPDX-License-Identifier: Apache-2.0 */
/* /entropy */
#include "api/resources.h"

static const struct json_field put_fields[] = {
	{.name = "rate_limiter",
	 .kind = FIELD_OBJECT,
	 .flags = FIELD_NULLABLE,
	 .offset = offsetof(struct entropy_config, rate_limiter),
	 .present = NO_PRESENT,
	 .parse = limiter_parse},
};

const struct json_shape entropy_shape = {put_fields, ARRAY_SIZE(put_fields),
					 false};

int api_put_entropy(struct api_call *call)
{
	struct vmm_action action = {.type = VMM_ACTION_SET_ENTROPY};
	int ret = json_read_body(&call->body, &entropy_shape, &action.entropy,
				 &call->err);

	return ret ? ret : api_submit(call, &action);
}

json_t *entropy_to_json(const struct entropy_config *config)
{
	return json_pack("{s:o}", "rate_limiter",
			 limiter_to_json(&config->rate_limiter.values));
}
