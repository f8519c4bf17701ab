/* SPDX-License-Identifier: Apache-2.0 */
/*
 * From JSON text to a struct, by a table of fields: strict about what it does
 * not know, about types, ranges and duplicates. Errors are sentences that name
 * the field, in the wording clients know where they look for one.
 *
 * Thread: API (or main for the configuration file).
 */
#ifndef EMBER_JSON_H
#define EMBER_JSON_H

#include "vmm/error.h"

#include <jansson.h>
#include <stdbool.h>

enum field_kind {
	FIELD_STRING, /* char *, newly allocated */
	FIELD_BOOL,   /* bool */
	FIELD_UINT,   /* uint64_t up to .max */
	FIELD_CHOICE, /* int-sized enum, see .choices */
	FIELD_OBJECT, /* whatever .parse makes of it */
};

enum field_flags {
	FIELD_REQUIRED = 1,
	FIELD_NULLABLE = 2, /* null counts as absent */
};

struct json_choice {
	const char *name; /* NULL ends the list */
	int value;
};

struct json_text;

struct json_field {
	const char *name;
	enum field_kind kind;
	unsigned flags;
	size_t offset;	/* of the value in the struct */
	size_t present; /* of a bool that is set when given, or NO_PRESENT */
	uint64_t max;	/* FIELD_UINT; 0: no limit but the type's */
	const struct json_choice *choices;
	bool ignore_case; /* FIELD_CHOICE */
	int (*parse)(const struct json_text *text, const json_t *value,
		     void *field, struct error *err);
};

#define NO_PRESENT SIZE_MAX

struct json_shape {
	const struct json_field *fields;
	size_t count;
	bool tolerant; /* unknown fields are ignored */
};

/* A body and where it ends, for error texts. */
struct json_text {
	const char *text;
	size_t len;
};

/* Parses a body; NULL with @err set when it is not JSON. Integers that only fit
 * 64 bits without a sign are all equally too large for a setting: they read as
 * 2^63-1. */
json_t *json_parse(const struct json_text *text, struct error *err) must_check;

/* The same for what somebody else will read: it has those integers as
 * json_text_uint makes them. */
json_t *json_parse_exact(const struct json_text *text,
			 struct error *err) must_check;

/* The latter for a request's body; the error has the prefix of bodies. */
json_t *json_parse_body(const struct json_text *text,
			struct error *err) must_check;

/* Fills in @out, which has its defaults already. On failure strings that were
 * stored stay in @out: release it as after success. */
int json_read_object(const struct json_text *text, const json_t *object,
		     const struct json_shape *shape, void *out,
		     struct error *err) must_check;

/* Both in one, for a whole body; the error has the prefix of request bodies. */
int json_read_body(const struct json_text *text, const struct json_shape *shape,
		   void *out, struct error *err) must_check;

#endif
