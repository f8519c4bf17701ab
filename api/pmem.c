/* SPDX-License-Identifier: Apache-2.0 */
/* /pmem/{id} */
#include "api/resources.h"

#include <errno.h>

int api_put_pmem(struct api_call *call)
{
	return error_set(&call->err, ENOTSUP, "not yet");
}

int api_patch_pmem(struct api_call *call)
{
	return error_set(&call->err, ENOTSUP, "not yet");
}

json_t *pmem_to_json(const struct pmem_config *config)
{
	(void)config;
	return json_null();
}
