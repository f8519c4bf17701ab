/* SPDX-License-Identifier: Apache-2.0 */
#include "jailer/tap.h"

#include <arpa/inet.h>
#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

/* The kernel's bounds for a tap: an IPv4 packet that must go through, and what
 * its own buffers take. */
#define MTU_MIN 68
#define MTU_MAX 65521
#define MTU_MIN_V6 1280 /* RFC 8200, 5 */

#define VALUE_MAX 63

static int refuse(const char *text, const char *part, const char *why,
		  struct error *err)
{
	return error_set(err, EINVAL, "'%s' of argument 'tap': '%s' %s.", text,
			 part, why);
}

/* What the kernel and everybody's tools take for a name; `%d` would ask the
 * kernel for a number. */
static bool name_valid(const char *name)
{
	static const char others[] = "-_.";
	size_t len = strlen(name);

	if (len == 0 || len >= IFNAMSIZ)
		return false;
	for (size_t i = 0; i < len; i++)
		if (!isalnum((unsigned char)name[i]) &&
		    !strchr(others, name[i]))
			return false;
	return strcmp(name, ".") != 0 && strcmp(name, "..") != 0;
}

static int parse_prefix(const char *text, unsigned int max,
			unsigned int *ret_prefix)
{
	uint64_t prefix;

	if (arguments_number(text, &prefix) || prefix > max)
		return -EINVAL;
	*ret_prefix = (unsigned int)prefix;
	return 0;
}

/* An address that an end of a line can have. */
static bool address_usable(const struct tap_address *address)
{
	const uint8_t *bytes = address->bytes;
	uint8_t any = 0;

	for (size_t i = 0; i < sizeof(address->bytes); i++)
		any |= bytes[i];
	if (address->family == AF_INET6)
		return any && bytes[0] != 0xff;
	return any && bytes[0] < 224;
}

static const char *set_address(struct tap_spec *spec, const char *value)
{
	struct tap_address address = {.family = AF_INET};
	char text[VALUE_MAX + 1];
	char *slash;

	strcpy(text, value);
	slash = strchr(text, '/');
	if (spec->address_count == TAP_ADDRESSES_MAX)
		return "is one address too many";
	if (!slash)
		return "has no prefix length, as in 172.16.0.1/30";
	*slash = '\0';
	if (strchr(text, ':'))
		address.family = AF_INET6;
	if (inet_pton(address.family, text, address.bytes) != 1)
		return "is no IPv4 or IPv6 address";
	if (parse_prefix(slash + 1, address.family == AF_INET ? 32 : 128,
			 &address.prefix))
		return "has a prefix length out of range";
	if (!address_usable(&address))
		return "is no address of a host";
	spec->addresses[spec->address_count++] = address;
	return NULL;
}

static int hex_digit(char c)
{
	static const char digits[] = "0123456789abcdef";
	const char *at = c ? strchr(digits, tolower((unsigned char)c)) : NULL;

	return at ? (int)(at - digits) : -1;
}

/* Six pairs of hexadecimal digits, colons between them. */
static bool parse_mac(const char *text, uint8_t mac[TAP_MAC_LEN])
{
	if (strlen(text) != TAP_MAC_LEN * 3 - 1)
		return false;
	for (size_t i = 0; i < TAP_MAC_LEN; i++) {
		int high = hex_digit(text[i * 3]);
		int low = hex_digit(text[i * 3 + 1]);

		if (high < 0 || low < 0)
			return false;
		if (i + 1 < TAP_MAC_LEN && text[i * 3 + 2] != ':')
			return false;
		mac[i] = (uint8_t)(high << 4 | low);
	}
	return true;
}

static const char *set_mac(struct tap_spec *spec, const char *value)
{
	static const uint8_t zero[TAP_MAC_LEN];

	if (spec->has_mac)
		return "is a second MAC address";
	if (!parse_mac(value, spec->mac))
		return "is no MAC address";
	if (spec->mac[0] & 1 || memcmp(spec->mac, zero, sizeof(zero)) == 0)
		return "is no MAC address of a single station";
	spec->has_mac = true;
	return NULL;
}

static const char *set_mtu(struct tap_spec *spec, const char *value)
{
	uint64_t mtu;

	if (spec->mtu)
		return "is a second MTU";
	if (arguments_number(value, &mtu) || mtu < MTU_MIN || mtu > MTU_MAX)
		return "is no MTU from 68 to 65521";
	spec->mtu = (uint32_t)mtu;
	return NULL;
}

/* A setter returns NULL, or what is wrong with the value. */
static const struct {
	const char *key;
	const char *(*set)(struct tap_spec *spec, const char *value);
} settings[] = {
	{"addr=", set_address},
	{"mac=", set_mac},
	{"mtu=", set_mtu},
};

static const char *set(struct tap_spec *spec, const char *part)
{
	for (size_t i = 0; i < ARRAY_SIZE(settings); i++) {
		size_t len = strlen(settings[i].key);

		if (strncmp(part, settings[i].key, len) == 0)
			return settings[i].set(spec, part + len);
	}
	return "is none of: addr=, mac=, mtu=";
}

static bool mtu_fits(const struct tap_spec *spec)
{
	bool v6 = false;

	for (size_t i = 0; i < spec->address_count; i++)
		v6 |= spec->addresses[i].family == AF_INET6;
	return !spec->mtu || !v6 || spec->mtu >= MTU_MIN_V6;
}

/* Copies the part of @rest up to the next comma, and moves @rest behind that,
 * or to NULL behind the last part. Whether it was copied whole. */
static bool next_part(const char **rest, char part[VALUE_MAX + 1])
{
	const char *text = *rest;
	size_t len = strcspn(text, ",");

	snprintf(part, VALUE_MAX + 1, "%.*s", (int)MIN(len, VALUE_MAX), text);
	*rest = text[len] ? text + len + 1 : NULL;
	return len <= VALUE_MAX;
}

int tap_spec_parse(struct tap_spec *ret_spec, const char *text,
		   struct error *err)
{
	struct tap_spec spec = {0};
	char part[VALUE_MAX + 1];
	const char *rest = text;

	if (!next_part(&rest, part) || !name_valid(part))
		return refuse(text, part,
			      "is no name of an interface: 1 to 15 letters, "
			      "digits, '-', '_', '.'",
			      err);
	strcpy(spec.name, part);
	while (rest) {
		bool whole = next_part(&rest, part);
		const char *why = whole ? set(&spec, part) : "is too long";

		if (why)
			return refuse(text, part, why, err);
	}
	if (!mtu_fits(&spec))
		return refuse(text, text, "has too small an MTU for IPv6", err);
	*ret_spec = spec;
	return 0;
}

int tap_specs_parse(struct tap_spec *specs, const struct argument_list *list,
		    struct error *err)
{
	for (size_t i = 0; i < list->count; i++) {
		int ret = tap_spec_parse(&specs[i], list->values[i], err);

		if (ret)
			return ret;
		for (size_t j = 0; j < i; j++)
			if (strcmp(specs[i].name, specs[j].name) == 0)
				return refuse(list->values[i], specs[i].name,
					      "is the name of another tap",
					      err);
	}
	return 0;
}
