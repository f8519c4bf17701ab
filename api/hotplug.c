/* SPDX-License-Identifier: Apache-2.0 */
/* /hotplug/memory */
#include "api/resources.h"

#include <errno.h>

int api_put_hotplug(struct api_call *call)
{
	return error_set(&call->err, ENOTSUP, "not yet");
}

int api_get_hotplug(struct api_call *call)
{
	return error_set(&call->err, ENOTSUP, "not yet");
}

int api_patch_hotplug(struct api_call *call)
{
	return error_set(&call->err, ENOTSUP, "not yet");
}

json_t *hotplug_to_json(const struct hotplug_config *config)
{
	(void)config;
	return json_null();
}
