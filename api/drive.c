/* SPDX-License-Identifier: Apache-2.0 */
/* /drives/{drive_id} */
#include "api/resources.h"

#include <errno.h>

static const struct json_choice cache_choices[] = {
	{"Unsafe", CACHE_UNSAFE},
	{"Writeback", CACHE_WRITEBACK},
	{NULL, 0},
};

static const struct json_choice engine_choices[] = {
	{"Sync", IO_ENGINE_SYNC},
	{"Async", IO_ENGINE_ASYNC},
	{NULL, 0},
};

#define AT(member) offsetof(struct drive_config, member)

static const struct json_field put_fields[] = {
	{.name = "drive_id",
	 .kind = FIELD_STRING,
	 .flags = FIELD_REQUIRED,
	 .offset = AT(drive_id),
	 .present = NO_PRESENT},
	{.name = "partuuid",
	 .kind = FIELD_STRING,
	 .flags = FIELD_NULLABLE,
	 .offset = AT(partuuid),
	 .present = NO_PRESENT},
	{.name = "is_root_device",
	 .kind = FIELD_BOOL,
	 .flags = FIELD_REQUIRED,
	 .offset = AT(is_root_device),
	 .present = NO_PRESENT},
	{.name = "cache_type",
	 .kind = FIELD_CHOICE,
	 .offset = AT(cache_type),
	 .present = NO_PRESENT,
	 .choices = cache_choices},
	{.name = "is_read_only",
	 .kind = FIELD_BOOL,
	 .flags = FIELD_NULLABLE,
	 .offset = AT(is_read_only),
	 .present = AT(has_is_read_only)},
	{.name = "path_on_host",
	 .kind = FIELD_STRING,
	 .flags = FIELD_NULLABLE,
	 .offset = AT(path_on_host),
	 .present = NO_PRESENT},
	{.name = "rate_limiter",
	 .kind = FIELD_OBJECT,
	 .flags = FIELD_NULLABLE,
	 .offset = AT(rate_limiter),
	 .present = AT(has_rate_limiter),
	 .parse = limiter_parse},
	{.name = "io_engine",
	 .kind = FIELD_CHOICE,
	 .flags = FIELD_NULLABLE,
	 .offset = AT(io_engine),
	 .present = AT(has_io_engine),
	 .choices = engine_choices},
	{.name = "socket",
	 .kind = FIELD_STRING,
	 .flags = FIELD_NULLABLE,
	 .offset = AT(socket),
	 .present = NO_PRESENT},
	{.name = "discard",
	 .kind = FIELD_BOOL,
	 .flags = FIELD_NULLABLE,
	 .offset = AT(discard),
	 .present = AT(has_discard)},
};

const struct json_shape drive_put_shape = {put_fields, ARRAY_SIZE(put_fields),
					   false};

#define UPDATE(member) offsetof(struct drive_update, member)

static const struct json_field patch_fields[] = {
	{.name = "drive_id",
	 .kind = FIELD_STRING,
	 .flags = FIELD_REQUIRED,
	 .offset = UPDATE(drive_id),
	 .present = NO_PRESENT},
	{.name = "path_on_host",
	 .kind = FIELD_STRING,
	 .flags = FIELD_NULLABLE,
	 .offset = UPDATE(path_on_host),
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

int api_put_drive(struct api_call *call)
{
	struct vmm_action action = {.type = VMM_ACTION_SET_DRIVE};
	int ret = api_check_id(call, NULL);

	if (!ret)
		ret = json_read_body(&call->body, &drive_put_shape,
				     &action.drive, &call->err);
	if (!ret)
		ret = api_check_id(call, action.drive.drive_id);
	if (!ret)
		ret = api_submit(call, &action);
	drive_config_release(&action.drive);
	return ret;
}

int api_patch_drive(struct api_call *call)
{
	struct vmm_action action = {.type = VMM_ACTION_UPDATE_DRIVE};
	int ret = api_check_id(call, NULL);

	if (!ret)
		ret = json_read_body(&call->body, &patch_shape,
				     &action.drive_update, &call->err);
	if (!ret)
		ret = api_check_id(call, action.drive_update.drive_id);
	if (!ret)
		ret = api_submit(call, &action);
	drive_update_release(&action.drive_update);
	return ret;
}

/* Of a drive with a socket the back end decides these. */
static void hide_engine(json_t *object)
{
	json_object_set_new(object, "is_read_only", json_null());
	json_object_set_new(object, "io_engine", json_null());
}

/* What is not in the interface that clients know is shown where it was used. */
json_t *drive_to_json(const struct drive_config *config)
{
	json_t *object = json_pack(
		"{s:s, s:s?, s:b, s:s, s:b, s:s?, s:o, s:s, s:s?}", "drive_id",
		config->drive_id, "partuuid", config->partuuid,
		"is_root_device", config->is_root_device, "cache_type",
		cache_choices[config->cache_type].name, "is_read_only",
		config->is_read_only, "path_on_host", config->path_on_host,
		"rate_limiter", limiter_to_json(&config->rate_limiter.values),
		"io_engine", engine_choices[config->io_engine].name, "socket",
		config->socket);

	if (object && config->has_discard && !config->discard)
		json_object_set_new(object, "discard", json_false());
	if (object && config->socket)
		hide_engine(object);
	return object;
}
