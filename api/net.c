/* SPDX-License-Identifier: Apache-2.0 */
/* /network-interfaces/{iface_id} */
#include "api/resources.h"

#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

#define MTU_MIN 68
#define MTU_MAX 65535

static int hex_digit(char c)
{
	if (isdigit((unsigned char)c))
		return c - '0';
	c = (char)tolower((unsigned char)c);
	return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* Six groups of two digits with colons between them. */
static bool read_mac(const char *text, uint8_t mac[MAC_LEN])
{
	if (strlen(text) != 3 * MAC_LEN - 1)
		return false;
	for (size_t i = 0; i < MAC_LEN; i++, text += 3) {
		int high = hex_digit(text[0]);
		int low = hex_digit(text[1]);

		if (high < 0 || low < 0 || (i < MAC_LEN - 1 && text[2] != ':'))
			return false;
		mac[i] = (uint8_t)(high << 4 | low);
	}
	return true;
}

static int parse_mac(const struct json_text *text, const json_t *value,
		     void *field, struct error *err)
{
	const char *string = json_string_value(value);

	(void)text;
	if (!string || !read_mac(string, field))
		return error_set(err, EINVAL,
				 "The provided MAC address is invalid.");
	return 0;
}

static int parse_mtu(const struct json_text *text, const json_t *value,
		     void *field, struct error *err)
{
	json_int_t mtu = json_integer_value(value);

	(void)text;
	if (!json_is_integer(value))
		return error_set(err, EINVAL,
				 "invalid type: `mtu` is not an integer, "
				 "expected u16");
	if (mtu < MTU_MIN || mtu > MTU_MAX)
		return error_set(err, EINVAL,
				 "MTU %lld is out of range [%d, %d]",
				 (long long)mtu, MTU_MIN, MTU_MAX);
	*(uint64_t *)field = (uint64_t)mtu;
	return 0;
}

#define AT(member) offsetof(struct net_config, member)

static const struct json_field put_fields[] = {
	{.name = "iface_id",
	 .kind = FIELD_STRING,
	 .flags = FIELD_REQUIRED,
	 .offset = AT(iface_id),
	 .present = NO_PRESENT},
	{.name = "host_dev_name",
	 .kind = FIELD_STRING,
	 .flags = FIELD_REQUIRED,
	 .offset = AT(host_dev_name),
	 .present = NO_PRESENT},
	{.name = "guest_mac",
	 .kind = FIELD_OBJECT,
	 .flags = FIELD_NULLABLE,
	 .offset = AT(guest_mac),
	 .present = AT(has_guest_mac),
	 .parse = parse_mac},
	{.name = "mtu",
	 .kind = FIELD_OBJECT,
	 .flags = FIELD_NULLABLE,
	 .offset = AT(mtu),
	 .present = NO_PRESENT,
	 .parse = parse_mtu},
	{.name = "rx_rate_limiter",
	 .kind = FIELD_OBJECT,
	 .flags = FIELD_NULLABLE,
	 .offset = AT(rx_rate_limiter),
	 .present = NO_PRESENT,
	 .parse = limiter_parse},
	{.name = "tx_rate_limiter",
	 .kind = FIELD_OBJECT,
	 .flags = FIELD_NULLABLE,
	 .offset = AT(tx_rate_limiter),
	 .present = NO_PRESENT,
	 .parse = limiter_parse},
	{.name = "tap_fd",
	 .kind = FIELD_UINT,
	 .flags = FIELD_NULLABLE,
	 .offset = AT(tap_fd),
	 .present = AT(has_tap_fd),
	 .max = INT32_MAX},
	{.name = "vhost",
	 .kind = FIELD_BOOL,
	 .offset = AT(vhost),
	 .present = NO_PRESENT},
};

const struct json_shape net_put_shape = {put_fields, ARRAY_SIZE(put_fields),
					 false};

#define UPDATE(member) offsetof(struct net_update, member)

static const struct json_field patch_fields[] = {
	{.name = "iface_id",
	 .kind = FIELD_STRING,
	 .flags = FIELD_REQUIRED,
	 .offset = UPDATE(iface_id),
	 .present = NO_PRESENT},
	{.name = "rx_rate_limiter",
	 .kind = FIELD_OBJECT,
	 .flags = FIELD_NULLABLE,
	 .offset = UPDATE(rx_rate_limiter),
	 .present = UPDATE(has_rx_rate_limiter),
	 .parse = limiter_parse},
	{.name = "tx_rate_limiter",
	 .kind = FIELD_OBJECT,
	 .flags = FIELD_NULLABLE,
	 .offset = UPDATE(tx_rate_limiter),
	 .present = UPDATE(has_tx_rate_limiter),
	 .parse = limiter_parse},
};

static const struct json_shape patch_shape = {patch_fields,
					      ARRAY_SIZE(patch_fields), false};

/* Unlike other resources this one quotes both ids. */
static int check_ids(struct api_call *call, const char *body_id)
{
	if (strcmp(call->id, body_id) == 0)
		return 0;
	return error_set(&call->err, EINVAL,
			 "The id from the path [%s] does not match the id from "
			 "the body [%s]!",
			 call->id, body_id);
}

int api_put_net(struct api_call *call)
{
	struct vmm_action action = {.type = VMM_ACTION_SET_NET};
	int ret = api_check_id(call, NULL);

	if (!ret)
		ret = json_read_body(&call->body, &net_put_shape, &action.net,
				     &call->err);
	if (!ret)
		ret = check_ids(call, action.net.iface_id);
	if (!ret)
		ret = api_submit(call, &action);
	net_config_release(&action.net);
	return ret;
}

int api_patch_net(struct api_call *call)
{
	struct vmm_action action = {.type = VMM_ACTION_UPDATE_NET};
	int ret = api_check_id(call, NULL);

	if (!ret)
		ret = json_read_body(&call->body, &patch_shape,
				     &action.net_update, &call->err);
	if (!ret)
		ret = check_ids(call, action.net_update.iface_id);
	if (!ret)
		ret = api_submit(call, &action);
	net_update_release(&action.net_update);
	return ret;
}

static json_t *mac_to_json(const struct net_config *config)
{
	const uint8_t *mac = config->guest_mac;

	if (!config->has_guest_mac)
		return json_null();
	return json_sprintf("%02x:%02x:%02x:%02x:%02x:%02x", mac[0], mac[1],
			    mac[2], mac[3], mac[4], mac[5]);
}

/* What only ember has appears only when it was asked for. */
static void add_extras(json_t *object, const struct net_config *config)
{
	if (config->has_tap_fd)
		json_object_set_new(object, "tap_fd",
				    json_integer((json_int_t)config->tap_fd));
	if (config->vhost)
		json_object_set_new(object, "vhost", json_true());
}

json_t *net_to_json(const struct net_config *config)
{
	json_t *object = json_pack(
		"{s:s, s:s, s:o, s:o, s:o, s:o}", "iface_id", config->iface_id,
		"host_dev_name", config->host_dev_name, "guest_mac",
		mac_to_json(config), "mtu",
		config->mtu ? json_integer((json_int_t)config->mtu)
			    : json_null(),
		"rx_rate_limiter",
		limiter_to_json(&config->rx_rate_limiter.values),
		"tx_rate_limiter",
		limiter_to_json(&config->tx_rate_limiter.values));

	if (object)
		add_extras(object, config);
	return object;
}
