/* SPDX-License-Identifier: Apache-2.0 */
/* /balloon, /balloon/statistics, /balloon/hinting/... */
#include "api/resources.h"

#include <errno.h>

int api_put_balloon(struct api_call *call)
{
	return error_set(&call->err, ENOTSUP, "not yet");
}

int api_get_balloon(struct api_call *call)
{
	return error_set(&call->err, ENOTSUP, "not yet");
}

int api_patch_balloon(struct api_call *call)
{
	return error_set(&call->err, ENOTSUP, "not yet");
}

json_t *balloon_to_json(const struct balloon_config *config)
{
	(void)config;
	return json_null();
}
