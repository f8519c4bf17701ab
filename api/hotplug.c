/* SPDX-License-Identifier: Apache-2.0 */
/* /hotplug/memory */
#include "api/resources.h"

#include <errno.h>

#define AT(member) offsetof(struct hotplug_config, member)

static const struct json_field put_fields[] = {
	{.name = "total_size_mib",
	 .kind = FIELD_UINT,
	 .flags = FIELD_REQUIRED,
	 .offset = AT(total_size_mib),
	 .present = NO_PRESENT,
	 .max = UINT32_MAX},
	{.name = "block_size_mib",
	 .kind = FIELD_UINT,
	 .offset = AT(block_size_mib),
	 .present = NO_PRESENT,
	 .max = UINT32_MAX},
	{.name = "slot_size_mib",
	 .kind = FIELD_UINT,
	 .offset = AT(slot_size_mib),
	 .present = NO_PRESENT,
	 .max = UINT32_MAX},
};

const struct json_shape hotplug_shape = {put_fields, ARRAY_SIZE(put_fields),
					 false};

static const struct json_field patch_fields[] = {
	{.name = "requested_size_mib",
	 .kind = FIELD_UINT,
	 .flags = FIELD_REQUIRED,
	 .offset = offsetof(struct vmm_action, size_mib),
	 .present = NO_PRESENT,
	 .max = UINT32_MAX},
};

static const struct json_shape patch_shape = {patch_fields,
					      ARRAY_SIZE(patch_fields), false};

void hotplug_defaults(struct hotplug_config *config)
{
	*config = (struct hotplug_config){
		.block_size_mib = HOTPLUG_BLOCK_DEFAULT_MIB,
		.slot_size_mib = HOTPLUG_SLOT_DEFAULT_MIB,
	};
}

int api_put_hotplug(struct api_call *call)
{
	struct vmm_action action = {.type = VMM_ACTION_SET_HOTPLUG};
	int ret;

	hotplug_defaults(&action.hotplug);
	ret = json_read_body(&call->body, &hotplug_shape, &action.hotplug,
			     &call->err);
	return ret ? ret : api_submit(call, &action);
}

int api_patch_hotplug(struct api_call *call)
{
	struct vmm_action action = {.type = VMM_ACTION_RESIZE_HOTPLUG};
	int ret =
		json_read_body(&call->body, &patch_shape, &action, &call->err);

	return ret ? ret : api_submit(call, &action);
}

int api_get_hotplug(struct api_call *call)
{
	struct vmm_action action = {.type = VMM_ACTION_GET_HOTPLUG};
	const struct hotplug_status *status = &action.hotplug_status;
	json_t *object;
	int ret = api_submit(call, &action);

	if (ret)
		return ret;
	object = hotplug_to_json(&status->config);
	json_object_set_new(object, "plugged_size_mib",
			    json_integer((json_int_t)status->plugged_size_mib));
	json_object_set_new(
		object, "requested_size_mib",
		json_integer((json_int_t)status->requested_size_mib));
	call->response->body = object ? json_dumps(object, JSON_COMPACT) : NULL;
	json_decref(object);
	return call->response->body
		       ? 0
		       : error_set_os(&call->err, ENOMEM, "Cannot answer:");
}

json_t *hotplug_to_json(const struct hotplug_config *config)
{
	return json_pack("{s:I, s:I, s:I}", "total_size_mib",
			 (json_int_t)config->total_size_mib, "block_size_mib",
			 (json_int_t)config->block_size_mib, "slot_size_mib",
			 (json_int_t)config->slot_size_mib);
}
