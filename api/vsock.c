/* SPDX-License-Identifier: Apache-2.0 */
/* /vsock */
#include "api/resources.h"

#define AT(member) offsetof(struct vsock_config, member)

static const struct json_field put_fields[] = {
	{.name = "guest_cid",
	 .kind = FIELD_UINT,
	 .flags = FIELD_REQUIRED,
	 .offset = AT(guest_cid),
	 .present = NO_PRESENT,
	 .max = UINT32_MAX},
	{.name = "uds_path",
	 .kind = FIELD_STRING,
	 .flags = FIELD_REQUIRED,
	 .offset = AT(uds_path),
	 .present = NO_PRESENT},
	{.name = "vsock_id",
	 .kind = FIELD_STRING,
	 .flags = FIELD_NULLABLE,
	 .offset = AT(vsock_id),
	 .present = NO_PRESENT},
	{.name = "max_connections",
	 .kind = FIELD_UINT,
	 .flags = FIELD_NULLABLE,
	 .offset = AT(max_connections),
	 .present = NO_PRESENT,
	 .max = VSOCK_CONNECTIONS_MAX},
};

const struct json_shape vsock_shape = {put_fields, ARRAY_SIZE(put_fields),
				       false};

int api_put_vsock(struct api_call *call)
{
	struct vmm_action action = {.type = VMM_ACTION_SET_VSOCK};
	int ret = json_read_body(&call->body, &vsock_shape, &action.vsock,
				 &call->err);

	if (!ret && action.vsock.vsock_id)
		api_deprecated(call,
			       "PUT /vsock: vsock_id field is deprecated.");
	if (!ret)
		ret = api_submit(call, &action);
	vsock_config_release(&action.vsock);
	return ret;
}

json_t *vsock_to_json(const struct vsock_config *config)
{
	json_t *object = json_pack("{s:I, s:s}", "guest_cid",
				   (json_int_t)config->guest_cid, "uds_path",
				   config->uds_path);

	if (object && config->max_connections)
		json_object_set_new(
			object, "max_connections",
			json_integer((json_int_t)config->max_connections));
	return object;
}
