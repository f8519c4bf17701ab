/* SPDX-License-Identifier: Apache-2.0 */
/* /mmds and /mmds/config */
#include "api/resources.h"
#include "vmm/json_text.h"

#include <arpa/inet.h>
#include <errno.h>
#include <string.h>

/* ------------------------------------------------------------------ config */

static const struct json_choice version_choices[] = {
	{"V1", MMDS_V1},
	{"V2", MMDS_V2},
	{NULL, 0},
};

static int parse_interfaces(const struct json_text *text, const json_t *value,
			    void *field, struct error *err)
{
	struct mmds_config *config =
		container_of((char ***)field, struct mmds_config, interfaces);
	size_t count = json_array_size(value);

	(void)text;
	if (!json_is_array(value))
		return error_set(err, EINVAL,
				 "invalid type: `network_interfaces` is not an "
				 "array, expected a sequence");
	config->interfaces = calloc(count + 1, sizeof(char *));
	if (!config->interfaces)
		return error_set_os(err, ENOMEM, "Cannot keep the list:");
	for (size_t i = 0; i < count; i++) {
		const char *id = json_string_value(json_array_get(value, i));

		if (!id)
			return error_set(err, EINVAL,
					 "invalid type: an element of "
					 "`network_interfaces` is not a "
					 "string, expected a string");
		config->interfaces[config->interface_count++] = strdup(id);
	}
	return 0;
}

static int parse_address(const struct json_text *text, const json_t *value,
			 void *field, struct error *err)
{
	const char *string = json_string_value(value);
	struct in_addr address;

	(void)text;
	if (!string || inet_pton(AF_INET, string, &address) != 1)
		return error_set(err, EINVAL, "invalid IPv4 address syntax");
	*(uint32_t *)field = ntohl(address.s_addr);
	return 0;
}

#define AT(member) offsetof(struct mmds_config, member)

static const struct json_field config_fields[] = {
	{.name = "version",
	 .kind = FIELD_CHOICE,
	 .offset = AT(version),
	 .present = NO_PRESENT,
	 .choices = version_choices},
	{.name = "network_interfaces",
	 .kind = FIELD_OBJECT,
	 .flags = FIELD_REQUIRED,
	 .offset = AT(interfaces),
	 .present = NO_PRESENT,
	 .parse = parse_interfaces},
	{.name = "ipv4_address",
	 .kind = FIELD_OBJECT,
	 .flags = FIELD_NULLABLE,
	 .offset = AT(ipv4_address),
	 .present = AT(has_ipv4_address),
	 .parse = parse_address},
	{.name = "imds_compat",
	 .kind = FIELD_BOOL,
	 .offset = AT(imds_compat),
	 .present = NO_PRESENT},
};

const struct json_shape mmds_config_shape = {config_fields,
					     ARRAY_SIZE(config_fields), false};

int api_put_mmds_config(struct api_call *call)
{
	struct vmm_action action = {.type = VMM_ACTION_SET_MMDS_CONFIG};
	int ret = json_read_body(&call->body, &mmds_config_shape, &action.mmds,
				 &call->err);

	if (!ret && action.mmds.version == MMDS_V1)
		api_deprecated(call, "PUT /mmds/config: V1 is deprecated. Use "
				     "V2 instead.");
	if (!ret)
		ret = api_submit(call, &action);
	mmds_config_release(&action.mmds);
	return ret;
}

json_t *mmds_config_to_json(const struct mmds_config *config)
{
	struct in_addr address = {htonl(config->ipv4_address)};
	char text[INET_ADDRSTRLEN];
	json_t *interfaces = json_array();

	for (size_t i = 0; i < config->interface_count; i++)
		json_array_append_new(interfaces,
				      json_string(config->interfaces[i]));
	inet_ntop(AF_INET, &address, text, sizeof(text));
	return json_pack("{s:s, s:o, s:s, s:b}", "version",
			 version_choices[config->version].name,
			 "network_interfaces", interfaces, "ipv4_address", text,
			 "imds_compat", config->imds_compat);
}

/* ---------------------------------------------------------------- the data */

static int check_path(struct api_call *call)
{
	if (!call->id)
		return 0;
	return error_set(&call->err, EINVAL,
			 "Unrecognized %s request path `%s`.",
			 call->route->method, call->id);
}

static int change(struct api_call *call, enum vmm_action_type type)
{
	struct vmm_action action = {.type = type};
	int ret = check_path(call);

	if (ret)
		return ret;
	action.metadata = json_parse_body(&call->body, &call->err);
	if (!action.metadata)
		return -EINVAL;
	ret = api_submit(call, &action);
	json_decref(action.metadata);
	return ret;
}

int api_put_mmds(struct api_call *call)
{
	return change(call, VMM_ACTION_PUT_METADATA);
}

int api_patch_mmds(struct api_call *call)
{
	return change(call, VMM_ACTION_PATCH_METADATA);
}

int api_get_mmds(struct api_call *call)
{
	struct vmm_action action = {.type = VMM_ACTION_GET_METADATA};
	int ret = check_path(call);

	if (!ret)
		ret = api_submit(call, &action);
	if (ret)
		return ret;
	call->response->body = json_text(action.metadata);
	json_decref(action.metadata);
	return call->response->body
		       ? 0
		       : error_set_os(&call->err, ENOMEM, "Cannot answer:");
}
