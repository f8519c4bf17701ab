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

/* ----------------------------------------------------------- rate limiters */

#define BUCKET(member) offsetof(struct token_bucket_config, member)

static const struct json_field bucket_fields[] = {
	{.name = "size",
	 .kind = FIELD_UINT,
	 .flags = FIELD_REQUIRED,
	 .offset = BUCKET(size),
	 .present = NO_PRESENT},
	{.name = "one_time_burst",
	 .kind = FIELD_UINT,
	 .flags = FIELD_NULLABLE,
	 .offset = BUCKET(one_time_burst),
	 .present = NO_PRESENT},
	{.name = "refill_time",
	 .kind = FIELD_UINT,
	 .flags = FIELD_REQUIRED,
	 .offset = BUCKET(refill_time_ms),
	 .present = NO_PRESENT},
};

static const struct json_shape bucket_shape = {bucket_fields,
					       ARRAY_SIZE(bucket_fields), true};

static int parse_bucket(const struct json_text *text, const json_t *value,
			void *field, struct error *err)
{
	return json_read_object(text, value, &bucket_shape, field, err);
}

#define LIMITER(member) offsetof(struct rate_limiter_config, member)

static const struct json_field limiter_fields[] = {
	{.name = "bandwidth",
	 .kind = FIELD_OBJECT,
	 .flags = FIELD_NULLABLE,
	 .offset = LIMITER(bandwidth),
	 .present = NO_PRESENT,
	 .parse = parse_bucket},
	{.name = "ops",
	 .kind = FIELD_OBJECT,
	 .flags = FIELD_NULLABLE,
	 .offset = LIMITER(ops),
	 .present = NO_PRESENT,
	 .parse = parse_bucket},
};

static const struct json_shape limiter_shape = {
	limiter_fields, ARRAY_SIZE(limiter_fields), false};

static int parse_limiter(const struct json_text *text, const json_t *value,
			 void *field, struct error *err)
{
	return json_read_object(text, value, &limiter_shape, field, err);
}

/* ------------------------------------------------------------------ drives */

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
	 .present = NO_PRESENT},
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
	 .parse = parse_limiter},
	{.name = "io_engine",
	 .kind = FIELD_CHOICE,
	 .flags = FIELD_NULLABLE,
	 .offset = AT(io_engine),
	 .present = NO_PRESENT,
	 .choices = engine_choices},
	{.name = "socket",
	 .kind = FIELD_STRING,
	 .flags = FIELD_NULLABLE,
	 .offset = AT(socket),
	 .present = NO_PRESENT},
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
	 .parse = parse_limiter},
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

/* Taking a drive off needs PCI, which this machine does not have; the state is
 * checked first, as for every request. */
static void view_nothing(const struct vmm_view *view, void *arg)
{
	(void)view;
	(void)arg;
}

int api_delete_drive(struct api_call *call)
{
	struct vmm_action action = {.type = VMM_ACTION_VIEW,
				    .view = {view_nothing, NULL}};
	int ret = api_check_id(call, NULL);

	if (!ret)
		ret = api_submit(call, &action);
	return ret ? ret : error_set(&call->err, EPERM, "PCI is not enabled");
}

static json_t *bucket_to_json(const struct token_bucket_config *bucket)
{
	json_t *burst =
		bucket->one_time_burst
			? json_integer((json_int_t)bucket->one_time_burst)
			: json_null();

	if (!bucket->size || !bucket->refill_time_ms) {
		json_decref(burst);
		return json_null();
	}
	return json_pack("{s:I, s:o, s:I}", "size", (json_int_t)bucket->size,
			 "one_time_burst", burst, "refill_time",
			 (json_int_t)bucket->refill_time_ms);
}

static json_t *limiter_to_json(const struct drive_config *config)
{
	if (!config->has_rate_limiter)
		return json_null();
	return json_pack("{s:o, s:o}", "bandwidth",
			 bucket_to_json(&config->rate_limiter.bandwidth), "ops",
			 bucket_to_json(&config->rate_limiter.ops));
}

json_t *drive_to_json(const struct drive_config *config)
{
	return json_pack(
		"{s:s, s:s?, s:b, s:s, s:b, s:s?, s:o, s:s, s:s?}", "drive_id",
		config->drive_id, "partuuid", config->partuuid,
		"is_root_device", config->is_root_device, "cache_type",
		cache_choices[config->cache_type].name, "is_read_only",
		config->is_read_only, "path_on_host", config->path_on_host,
		"rate_limiter", limiter_to_json(config), "io_engine",
		engine_choices[config->io_engine].name, "socket",
		config->socket);
}
