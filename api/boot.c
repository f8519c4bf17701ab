/* SPDX-License-Identifier: Apache-2.0 */
/* /boot-source */
#include "api/resources.h"

#define AT(member) offsetof(struct boot_source_config, member)

static const struct json_field fields[] = {
	{.name = "kernel_image_path",
	 .kind = FIELD_STRING,
	 .flags = FIELD_REQUIRED,
	 .offset = AT(kernel_image_path),
	 .present = NO_PRESENT},
	{.name = "initrd_path",
	 .kind = FIELD_STRING,
	 .flags = FIELD_NULLABLE,
	 .offset = AT(initrd_path),
	 .present = NO_PRESENT},
	{.name = "boot_args",
	 .kind = FIELD_STRING,
	 .flags = FIELD_NULLABLE,
	 .offset = AT(boot_args),
	 .present = NO_PRESENT},
};

const struct json_shape boot_source_shape = {fields, ARRAY_SIZE(fields), false};

int api_put_boot_source(struct api_call *call)
{
	struct vmm_action action = {.type = VMM_ACTION_SET_BOOT_SOURCE};
	int ret = json_read_body(&call->body, &boot_source_shape, &action.boot,
				 &call->err);

	if (!ret)
		ret = api_submit(call, &action);
	boot_source_config_release(&action.boot);
	return ret;
}

json_t *boot_source_to_json(const struct boot_source_config *config)
{
	return json_pack("{s:s, s:s?, s:s?}", "kernel_image_path",
			 config->kernel_image_path ? config->kernel_image_path
						   : "",
			 "initrd_path", config->initrd_path, "boot_args",
			 config->boot_args);
}
