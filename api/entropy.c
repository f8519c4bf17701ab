/* SPDX-License-Identifier: Apache-2.0 */
/* /entropy */
#include "api/resources.h"

#include <errno.h>

int api_put_entropy(struct api_call *call)
{
	return error_set(&call->err, ENOTSUP, "not yet");
}

json_t *entropy_to_json(const struct entropy_config *config)
{
	(void)config;
	return json_null();
}
