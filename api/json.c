/* SPDX-License-Identifier: Apache-2.0 */
#include "api/json.h"

#include "api/json_number.h"

#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#define BODY_PREFIX                                                            \
	"An error occurred when deserializing the json body of a request: "

/* ------------------------------------------------------ places in the text */

struct place {
	unsigned line, column; /* both count from 1 */
};

static struct place place_of(const struct json_text *text, size_t off)
{
	struct place place = {1, 1};

	for (size_t i = 0; i < off && i < text->len; i++) {
		place.column++;
		if (text->text[i] == '\n')
			place = (struct place){place.line + 1, 1};
	}
	return place;
}

/* The last character that is not white space: where an object ends. */
static struct place end_place(const struct json_text *text)
{
	size_t len = text->len;

	while (len && isspace((unsigned char)text->text[len - 1]))
		len--;
	return place_of(text, len ? len - 1 : 0);
}

/* The closing quote of the first `"key"`. */
static struct place key_place(const struct json_text *text, const char *key)
{
	char quoted[128];
	int n = snprintf(quoted, sizeof(quoted), "\"%s\"", key);
	const char *at = NULL;

	if (n > 0 && (size_t)n < sizeof(quoted))
		at = memmem(text->text, text->len, quoted, (size_t)n);
	if (!at)
		return end_place(text);
	return place_of(text, (size_t)(at - text->text) + (size_t)n - 1);
}

static int error_at(struct error *err, struct place place, const char *what)
{
	return error_set(err, EINVAL, "%s at line %u column %u", what,
			 place.line, place.column);
}

/* ----------------------------------------------------------------- parsing */

/* jansson says: duplicate object key near '"name"'. */
static void duplicate_field(const char *text, struct place place,
			    struct error *err)
{
	const char *name = strchr(text, '"');
	size_t len = name ? strcspn(name + 1, "\"") : 0;
	char what[128];

	snprintf(what, sizeof(what), "duplicate field `%.*s`",
		 (int)MIN(len, (size_t)64), name ? name + 1 : "");
	error_at(err, place, what);
}

static json_t *syntax_error(const json_error_t *error, struct error *err)
{
	const struct place place = {
		.line = error->line > 0 ? (unsigned)error->line : 1,
		.column = error->column > 0 ? (unsigned)error->column : 0,
	};

	enum json_error_code code = json_error_code(error);

	if (code == json_error_premature_end_of_input) {
		error_at(err, place, "EOF while parsing an object");
	} else if (code == json_error_end_of_input_expected) {
		error_at(err, place, "trailing characters");
	} else if (code == json_error_numeric_overflow) {
		error_at(err, place, "invalid type: number, expected u64");
	} else if (code == json_error_duplicate_key) {
		duplicate_field(error->text, place, err);
	} else {
		error_at(err, place, error->text);
		error_prefix(err, "expected value: ");
	}
	return NULL;
}

static json_t *parse(const struct json_text *text, bool exact,
		     struct error *err)
{
	AUTO_FREE char *copy = malloc(text->len + 1);
	json_error_t error;
	json_t *value;
	bool large;

	if (!copy) {
		error_set_os(err, ENOMEM, "Cannot parse:");
		return NULL;
	}
	memcpy(copy, text->text, text->len);
	copy[text->len] = '\0';
	large = json_number_fit(copy, text->len);
	value = json_loadb(copy, text->len,
			   JSON_REJECT_DUPLICATES | JSON_DECODE_ANY, &error);
	if (!value)
		return syntax_error(&error, err);
	if (!exact || !large)
		return value;
	memcpy(copy, text->text, text->len); /* which the fitting changed */
	return json_number_restore(value, copy, text->len);
}

json_t *json_parse(const struct json_text *text, struct error *err)
{
	return parse(text, false, err);
}

json_t *json_parse_exact(const struct json_text *text, struct error *err)
{
	return parse(text, true, err);
}

/* ------------------------------------------------------------------ values */

/* `string "x"`, `integer `3``, ... as the reader of the text wrote it. */
static void describe(const json_t *value, char *buf, size_t size)
{
	switch (json_typeof(value)) {
	case JSON_OBJECT:
		snprintf(buf, size, "map");
		return;
	case JSON_ARRAY:
		snprintf(buf, size, "sequence");
		return;
	case JSON_STRING:
		snprintf(buf, size, "string \"%.64s\"",
			 json_string_value(value));
		return;
	case JSON_INTEGER:
		snprintf(buf, size, "integer `%lld`",
			 (long long)json_integer_value(value));
		return;
	case JSON_REAL:
		snprintf(buf, size, "floating point `%g`",
			 json_real_value(value));
		return;
	case JSON_TRUE:
	case JSON_FALSE:
		snprintf(buf, size, "boolean `%s`",
			 json_is_true(value) ? "true" : "false");
		return;
	case JSON_NULL:
	default:
		snprintf(buf, size, "null");
		return;
	}
}

static int wrong_type(const struct json_text *text,
		      const struct json_field *field, const json_t *value,
		      const char *expected, struct error *err)
{
	char got[96], what[256];

	describe(value, got, sizeof(got));
	snprintf(what, sizeof(what), "invalid type: %s, expected %s for `%s`",
		 got, expected, field->name);
	return error_at(err, key_place(text, field->name), what);
}

static int read_string(const struct json_text *text,
		       const struct json_field *field, const json_t *value,
		       void *out, struct error *err)
{
	char **slot = out;

	if (!json_is_string(value))
		return wrong_type(text, field, value, "a string", err);
	free(*slot);
	*slot = strdup(json_string_value(value));
	return *slot ? 0 : error_set_os(err, ENOMEM, "Cannot parse:");
}

static int read_bool(const struct json_text *text,
		     const struct json_field *field, const json_t *value,
		     void *out, struct error *err)
{
	if (!json_is_boolean(value))
		return wrong_type(text, field, value, "a boolean", err);
	*(bool *)out = json_is_true(value);
	return 0;
}

static const char *uint_name(uint64_t max)
{
	switch (max) {
	case UINT8_MAX:
		return "u8";
	case UINT16_MAX:
		return "u16";
	case UINT32_MAX:
		return "u32";
	default:
		return "u64";
	}
}

static int read_uint(const struct json_text *text,
		     const struct json_field *field, const json_t *value,
		     void *out, struct error *err)
{
	json_int_t number = json_integer_value(value);

	if (!json_is_integer(value) || number < 0 ||
	    (field->max && (uint64_t)number > field->max))
		return wrong_type(text, field, value, uint_name(field->max),
				  err);
	*(uint64_t *)out = (uint64_t)number;
	return 0;
}

/* "unknown variant `x`, expected one of `A`, `B`" */
static int unknown_choice(const struct json_text *text,
			  const struct json_field *field, const char *name,
			  struct error *err)
{
	char what[512];
	size_t len = (size_t)snprintf(what, sizeof(what),
				      "unknown variant `%.64s`, expected one "
				      "of",
				      name);

	for (const struct json_choice *c = field->choices; c->name; c++)
		len += (size_t)snprintf(
			what + len, sizeof(what) - len, "%s `%s`",
			c == field->choices ? "" : ",", c->name);
	return error_at(err, key_place(text, field->name), what);
}

static int read_choice(const struct json_text *text,
		       const struct json_field *field, const json_t *value,
		       void *out, struct error *err)
{
	const char *name = json_string_value(value);

	if (!name)
		return error_at(err, key_place(text, field->name),
				"expected value");
	for (const struct json_choice *c = field->choices; c->name; c++) {
		int differs = field->ignore_case ? strcasecmp(c->name, name)
						 : strcmp(c->name, name);

		if (differs)
			continue;
		*(int *)out = c->value;
		return 0;
	}
	return unknown_choice(text, field, name, err);
}

static int read_field(const struct json_text *text,
		      const struct json_field *field, const json_t *value,
		      void *out, struct error *err)
{
	void *slot = (char *)out + field->offset;
	int ret = -EINVAL;

	switch (field->kind) {
	case FIELD_STRING:
		ret = read_string(text, field, value, slot, err);
		break;
	case FIELD_BOOL:
		ret = read_bool(text, field, value, slot, err);
		break;
	case FIELD_UINT:
		ret = read_uint(text, field, value, slot, err);
		break;
	case FIELD_CHOICE:
		ret = read_choice(text, field, value, slot, err);
		break;
	case FIELD_OBJECT:
	default:
		ret = field->parse(text, value, slot, err);
		break;
	}
	if (!ret && field->present != NO_PRESENT)
		*(bool *)((char *)out + field->present) = true;
	return ret;
}

/* ----------------------------------------------------------------- objects */

static bool is_known(const struct json_shape *shape, const char *key)
{
	for (size_t i = 0; i < shape->count; i++)
		if (strcmp(shape->fields[i].name, key) == 0)
			return true;
	return false;
}

static int unknown_field(const struct json_text *text,
			 const struct json_shape *shape, const char *key,
			 struct error *err)
{
	char what[768];
	size_t len = (size_t)snprintf(what, sizeof(what),
				      "unknown field `%.64s`, expected%s", key,
				      shape->count > 1 ? " one of" : "");

	for (size_t i = 0; i < shape->count; i++)
		len += (size_t)snprintf(what + len, sizeof(what) - len,
					"%s `%s`", i ? "," : "",
					shape->fields[i].name);
	return error_at(err, key_place(text, key), what);
}

static int missing_field(const struct json_text *text, const char *name,
			 struct error *err)
{
	char what[96];

	snprintf(what, sizeof(what), "missing field `%s`", name);
	return error_at(err, end_place(text), what);
}

static int check_keys(const struct json_text *text, const json_t *object,
		      const struct json_shape *shape, struct error *err)
{
	const char *key;
	json_t *value;

	if (shape->tolerant)
		return 0;
	/* jansson's iteration macro takes a mutable object; nothing is. */
	json_object_foreach((json_t *)(uintptr_t)object, key, value)
	{
		if (!is_known(shape, key))
			return unknown_field(text, shape, key, err);
	}
	return 0;
}

int json_read_object(const struct json_text *text, const json_t *object,
		     const struct json_shape *shape, void *out,
		     struct error *err)
{
	char got[96];
	int ret;

	if (!json_is_object(object)) {
		describe(object, got, sizeof(got));
		error_at(err, end_place(text), got);
		return error_prefix(err, "invalid type, expected a map: ");
	}
	ret = check_keys(text, object, shape, err);
	for (size_t i = 0; i < shape->count && !ret; i++) {
		const struct json_field *field = &shape->fields[i];
		const json_t *value = json_object_get(object, field->name);

		if (value && json_is_null(value) &&
		    (field->flags & FIELD_NULLABLE))
			value = NULL;
		if (value)
			ret = read_field(text, field, value, out, err);
		else if (field->flags & FIELD_REQUIRED)
			ret = missing_field(text, field->name, err);
	}
	return ret;
}

static void wrap_body_error(struct error *err)
{
	error_prefix(err, BODY_PREFIX);
	/* The sentence ends with a full stop. */
	if (strlen(err->text) + 1 < sizeof(err->text))
		strcat(err->text, ".");
}

json_t *json_parse_body(const struct json_text *text, struct error *err)
{
	json_t *value = json_parse_exact(text, err);

	if (!value)
		wrap_body_error(err);
	return value;
}

int json_read_body(const struct json_text *text, const struct json_shape *shape,
		   void *out, struct error *err)
{
	json_t *object = json_parse(text, err);
	int ret = object ? json_read_object(text, object, shape, out, err)
			 : -EINVAL;

	json_decref(object);
	if (!ret)
		return 0;
	wrap_body_error(err);
	return ret;
}
