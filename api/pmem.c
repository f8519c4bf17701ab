/* SPDX-License-Identifier: Apache-2.0 */
/* /pmem/{id} */
#include "api/resources.h"

#define AT(member) offsetof(struct pmem_config, member)

static const struct json_field put_fields[] = {
	{.name = "id",
	 .kind = FIELD_STRING,
	 .flags = FIELD_REQUIRED,
	 .offset = AT(id),
	 .present = NO_PRESENT},
	{.name = "path_on_host",
	 .kind = FIELD_STRING,
	 .flags = FIELD_REQUIRED,
	 .offset = AT(path_on_host),
	 .present = NO_PRESENT},
	{.name = "root_device",
	 .kind = FIELD_BOOL,
	 .offset = AT(root_device),
	 .present = NO_PRESENT},
	{.name = "read_only",
	 .kind = FIELD_BOOL,
	 .offset = AT(read_only),
	 .present = NO_PRESENT},
	{.name = "rate_limiter",
	 .kind = FIELD_OBJECT,
	 .flags = FIELD_NULLABLE,
	 .offset = AT(rate_limiter),
	 .present = NO_PRESENT,
	 .parse = limiter_parse},
};

const struct json_shape pmem_put_shape = {put_fields, ARRAY_SIZE(put_fields),
					  false};

#define UPDATE(member) offsetof(struct pmem_update, member)

static const struct json_field patch_fields[] = {
	{.name = "id",
	 .kind = FIELD_STRING,
	 .flags = FIELD_REQUIRED,
	 .offset = UPDATE(id),
	 .present = NO_PRESENT},
	{.name = "rate_limiter",
	 .kind = FIELD_OBJECT,
	 .flags = FIELD_NULLABLE,
	 .offset = UPDATE(rate_limiter),
	 .present = UPDATE(has_rate_limiter),
	 .parse = limiter_parse},
};

static const struct json_shape patch_shape = {patch_fields,
					      ARRAY_SIZE(patch_fields), false};

int api_put_pmem(struct api_call *call)
{
	struct vmm_action action = {.type = VMM_ACTION_SET_PMEM};
	int ret = api_check_id(call, NULL);

	if (!ret)
		ret = json_read_body(&call->body, &pmem_put_shape, &action.pmem,
				     &call->err);
	if (!ret)
		ret = api_check_id(call, action.pmem.id);
	if (!ret)
		ret = api_submit(call, &action);
	pmem_config_release(&action.pmem);
	return ret;
}

int api_patch_pmem(struct api_call *call)
{
	struct vmm_action action = {.type = VMM_ACTION_UPDATE_PMEM};
	int ret = api_check_id(call, NULL);

	if (!ret)
		ret = json_read_body(&call->body, &patch_shape,
				     &action.pmem_update, &call->err);
	if (!ret)
		ret = api_check_id(call, action.pmem_update.id);
	if (!ret)
		ret = api_submit(call, &action);
	pmem_update_release(&action.pmem_update);
	return ret;
}

json_t *pmem_to_json(const struct pmem_config *config)
{
	return json_pack("{s:s, s:s, s:b, s:b, s:o}", "id", config->id,
			 "path_on_host", config->path_on_host, "root_device",
			 config->root_device, "read_only", config->read_only,
			 "rate_limiter",
			 limiter_to_json(&config->rate_limiter.values));
}
