/* SPDX-License-Identifier: Apache-2.0 */
/* /serial */
#include "api/resources.h"

#define AT(member) offsetof(struct serial_config, member)

static const struct json_field put_fields[] = {
	{.name = "serial_out_path",
	 .kind = FIELD_STRING,
	 .flags = FIELD_NULLABLE,
	 .offset = AT(out_path),
	 .present = NO_PRESENT},
	{.name = "rate_limiter",
	 .kind = FIELD_OBJECT,
	 .flags = FIELD_NULLABLE,
	 .offset = AT(rate_limiter),
	 .present = NO_PRESENT,
	 .parse = bucket_parse},
};

static const struct json_shape put_shape = {put_fields, ARRAY_SIZE(put_fields),
					    false};

int api_put_serial(struct api_call *call)
{
	struct vmm_action action = {.type = VMM_ACTION_SET_SERIAL};
	int ret = json_read_body(&call->body, &put_shape, &action.serial,
				 &call->err);

	if (!ret)
		ret = api_submit(call, &action);
	serial_config_release(&action.serial);
	return ret;
}
