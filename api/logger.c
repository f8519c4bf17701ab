/* SPDX-License-Identifier: Apache-2.0 */
/* /logger and /metrics */
#include "api/resources.h"

#include <errno.h>
#include <string.h>

/* ------------------------------------------------------------------ logger */

static const struct json_choice level_choices[] = {
	{"Off", LOG_LEVEL_OFF},	    {"Trace", LOG_LEVEL_TRACE},
	{"Debug", LOG_LEVEL_DEBUG}, {"Info", LOG_LEVEL_INFO},
	{"Warn", LOG_LEVEL_WARN},   {"Warning", LOG_LEVEL_WARN},
	{"Error", LOG_LEVEL_ERROR}, {NULL, 0},
};

#define LOGGER(member) offsetof(struct log_config, member)

static const struct json_field logger_fields[] = {
	{.name = "log_path",
	 .kind = FIELD_STRING,
	 .flags = FIELD_NULLABLE,
	 .offset = LOGGER(path),
	 .present = NO_PRESENT},
	{.name = "level",
	 .kind = FIELD_CHOICE,
	 .flags = FIELD_NULLABLE,
	 .offset = LOGGER(level),
	 .present = NO_PRESENT,
	 .choices = level_choices,
	 .ignore_case = true},
	{.name = "show_level",
	 .kind = FIELD_BOOL,
	 .flags = FIELD_NULLABLE,
	 .offset = LOGGER(show_level),
	 .present = NO_PRESENT},
	{.name = "show_log_origin",
	 .kind = FIELD_BOOL,
	 .flags = FIELD_NULLABLE,
	 .offset = LOGGER(show_origin),
	 .present = NO_PRESENT},
	{.name = "module",
	 .kind = FIELD_STRING,
	 .flags = FIELD_NULLABLE,
	 .offset = LOGGER(module),
	 .present = NO_PRESENT},
};

const struct json_shape logger_shape = {logger_fields,
					ARRAY_SIZE(logger_fields), false};

/* Leaving the level out means Info, not the level there was. */
void logger_defaults(struct log_config *config)
{
	*config = (struct log_config){.level = LOG_LEVEL_INFO};
}

int api_put_logger(struct api_call *call)
{
	struct vmm_action action = {.type = VMM_ACTION_SET_LOGGER};
	int ret;

	logger_defaults(&action.logger);
	ret = json_read_body(&call->body, &logger_shape, &action.logger,
			     &call->err);
	if (!ret)
		ret = api_submit(call, &action);
	log_config_release(&action.logger);
	return ret;
}

/* ----------------------------------------------------------------- metrics */

/* Keeps a map of strings as the text between its braces. */
static int parse_properties(const struct json_text *text, const json_t *value,
			    void *field, struct error *err)
{
	char **slot = field;
	const char *key;
	json_t *member;
	char *dump;

	(void)text;
	if (!json_is_object(value))
		return error_set(err, EINVAL,
				 "invalid type: `properties` is not a map");
	json_object_foreach((json_t *)(uintptr_t)value, key, member)
	{
		if (!json_is_string(member))
			return error_set(err, EINVAL,
					 "invalid type: property `%.64s` is "
					 "not a string",
					 key);
	}
	dump = json_dumps(value, JSON_COMPACT);
	if (!dump)
		return error_set_os(err, ENOMEM, "Cannot parse:");
	free(*slot);
	*slot = strndup(dump + 1, strlen(dump) - 2);
	free(dump);
	return *slot ? 0 : error_set_os(err, ENOMEM, "Cannot parse:");
}

#define METRICS(member) offsetof(struct metrics_config, member)

static const struct json_field metrics_fields[] = {
	{.name = "metrics_path",
	 .kind = FIELD_STRING,
	 .flags = FIELD_REQUIRED,
	 .offset = METRICS(path),
	 .present = NO_PRESENT},
	{.name = "emit_id",
	 .kind = FIELD_BOOL,
	 .offset = METRICS(emit_id),
	 .present = NO_PRESENT},
	{.name = "emit_snapshot_phases",
	 .kind = FIELD_BOOL,
	 .offset = METRICS(emit_snapshot_phases),
	 .present = NO_PRESENT},
	{.name = "properties",
	 .kind = FIELD_OBJECT,
	 .flags = FIELD_NULLABLE,
	 .offset = METRICS(properties_json),
	 .present = NO_PRESENT,
	 .parse = parse_properties},
};

const struct json_shape metrics_shape = {metrics_fields,
					 ARRAY_SIZE(metrics_fields), true};

int api_put_metrics(struct api_call *call)
{
	struct vmm_action action = {.type = VMM_ACTION_SET_METRICS};
	int ret = json_read_body(&call->body, &metrics_shape, &action.metrics,
				 &call->err);

	if (!ret)
		ret = api_submit(call, &action);
	metrics_config_release(&action.metrics);
	return ret;
}
