/* SPDX-License-Identifier: Apache-2.0 */
/* /serial */
#include "api/resources.h"

#include <errno.h>

int api_put_serial(struct api_call *call)
{
	return error_set(&call->err, ENOTSUP, "not yet");
}
