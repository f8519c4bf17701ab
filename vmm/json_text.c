/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/json_text.h"

#include "vmm/util.h"

#include <stdbool.h>
#include <stdio.h>
#include <string.h>

/* Stands before the digits of an integer; no byte of UTF-8. */
#define MARK '\xff'

struct output {
	char *text;
	size_t len, size;
};

/* Also called by jansson: -1 without memory. */
static int append(const char *data, size_t len, void *arg)
{
	struct output *out = arg;

	if (len >= out->size - out->len) {
		size_t size = 2 * (out->size + len);
		char *grown = realloc(out->text, size);

		if (!grown)
			return -1;
		out->text = grown;
		out->size = size;
	}
	memcpy(out->text + out->len, data, len);
	out->len += len;
	return 0;
}

static int append_string(const char *text, struct output *out)
{
	return append(text, strlen(text), out);
}

/* The shortest of the texts that read back as @value, with at least a point or
 * an exponent. */
static int write_real(double value, struct output *out)
{
	char digits[40], text[48];
	const char *exponent;

	for (int precision = 15; precision <= 17; precision++) {
		snprintf(digits, sizeof(digits), "%.*g", precision, value);
		if (strtod(digits, NULL) == value)
			break;
	}
	exponent = strchr(digits, 'e');
	if (exponent) /* e+07 becomes e7 */
		snprintf(text, sizeof(text), "%.*se%ld",
			 (int)(exponent - digits), digits,
			 strtol(exponent + 1, NULL, 10));
	else
		snprintf(text, sizeof(text), "%s%s", digits,
			 strchr(digits, '.') ? "" : ".0");
	return append_string(text, out);
}

/* The digits of an integer beyond jansson's, or NULL. */
static const char *large_integer(const json_t *array)
{
	const char *text = json_string_value(json_array_get(array, 0));

	return text && text[0] == MARK ? text + 1 : NULL;
}

static int write_value(const json_t *value, struct output *out);

static int write_array(const json_t *array, struct output *out)
{
	const char *digits = large_integer(array);
	int ret;

	if (digits)
		return append_string(digits, out);
	ret = append_string("[", out);
	for (size_t i = 0; i < json_array_size(array) && !ret; i++) {
		if (i)
			ret = append_string(",", out);
		if (!ret)
			ret = write_value(json_array_get(array, i), out);
	}
	return ret ? ret : append_string("]", out);
}

static int write_key(const char *key, struct output *out)
{
	json_t *string = json_string_nocheck(key);
	int ret = -1;

	if (string)
		ret = write_value(string, out);
	json_decref(string);
	return ret ? ret : append_string(":", out);
}

static int compare_keys(const void *a, const void *b)
{
	return strcmp(*(const char *const *)a, *(const char *const *)b);
}

const char **json_text_keys(const json_t *object)
{
	const char **keys = calloc(json_object_size(object) + 1, sizeof(*keys));
	size_t count = 0;
	const char *key;
	json_t *value;

	if (!keys)
		return NULL;
	/* jansson's iteration macro takes a mutable object; nothing is. */
	json_object_foreach((json_t *)(uintptr_t)object, key, value)
		keys[count++] = key;
	for (size_t i = 1; i < count; i++)
		if (strcmp(keys[i - 1], keys[i]) > 0) {
			qsort(keys, count, sizeof(*keys), compare_keys);
			break;
		}
	return keys;
}

static int write_object(const json_t *object, struct output *out)
{
	const char **keys = json_text_keys(object);
	int ret = keys ? append_string("{", out) : -1;

	for (size_t i = 0; i < json_object_size(object) && !ret; i++) {
		if (i)
			ret = append_string(",", out);
		if (!ret)
			ret = write_key(keys[i], out);
		if (!ret)
			ret = write_value(json_object_get(object, keys[i]),
					  out);
	}
	free(keys);
	return ret ? ret : append_string("}", out);
}

static int write_value(const json_t *value, struct output *out)
{
	if (json_is_object(value))
		return write_object(value, out);
	if (json_is_array(value))
		return write_array(value, out);
	if (json_is_real(value))
		return write_real(json_real_value(value), out);
	return json_dump_callback(value, append, out, JSON_ENCODE_ANY);
}

bool json_text_is_uint(const json_t *value)
{
	return json_is_array(value) && large_integer(value);
}

char *json_text(const json_t *value)
{
	struct output out = {.text = malloc(64), .size = 64};

	if (!out.text || write_value(value, &out)) {
		free(out.text);
		return NULL;
	}
	out.text[out.len] = '\0';
	return out.text;
}

json_t *json_text_uint(uint64_t value)
{
	char text[24];
	int len = snprintf(text, sizeof(text), "%c%lu", MARK,
			   (unsigned long)value);

	if (value <= INT64_MAX)
		return json_integer((json_int_t)value);
	return json_pack("[o]", json_stringn_nocheck(text, (size_t)len));
}
