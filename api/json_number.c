/* SPDX-License-Identifier: Apache-2.0 */
#include "api/json_number.h"

#include "vmm/json_text.h"
#include "vmm/util.h"

#include <ctype.h>
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

/* Integers with fewer digits fit. */
#define DIGITS_MIN 19

#define LARGEST "9223372036854775807" /* 2^63-1 */

/* One number of a text. */
struct number {
	const char *digits; /* behind the sign */
	size_t count;	    /* of digits; 0: not an integer */
	bool negative;
};

/* Where in a text we are. */
struct scan {
	const char *at, *end;
};

static bool is_digit(const char *c)
{
	return isdigit((unsigned char)*c);
}

/* To behind the string that begins here. */
static void skip_string(struct scan *scan)
{
	for (scan->at++; scan->at < scan->end && *scan->at != '"'; scan->at++)
		if (*scan->at == '\\' && scan->at + 1 < scan->end)
			scan->at++;
	if (scan->at < scan->end)
		scan->at++;
}

/* To the first character of a number; false: there are no more. */
static bool find_number(struct scan *scan)
{
	while (scan->at < scan->end && *scan->at != '-' && !is_digit(scan->at))
		if (*scan->at == '"')
			skip_string(scan);
		else
			scan->at++;
	return scan->at < scan->end;
}

static bool next_number(struct scan *scan, struct number *number)
{
	if (!find_number(scan))
		return false;
	number->negative = *scan->at == '-';
	scan->at += number->negative;
	number->digits = scan->at;
	while (scan->at < scan->end && is_digit(scan->at))
		scan->at++;
	number->count = (size_t)(scan->at - number->digits);
	/* Fraction and exponent, or what is no number at all. */
	while (scan->at < scan->end && *scan->at &&
	       (is_digit(scan->at) || strchr(".eE+-", *scan->at))) {
		number->count = 0;
		scan->at++;
	}
	return true;
}

enum size {
	SIZE_SIGNED,   /* fits 64 bits with a sign */
	SIZE_UNSIGNED, /* 2^63 to 2^64-1 */
	SIZE_REAL,
};

static enum size size_of(const struct number *number, uint64_t *ret_value)
{
	const uint64_t limit = (uint64_t)INT64_MAX + number->negative;

	/* A zero in front is not JSON: jansson shall see it. */
	if (number->count < DIGITS_MIN || *number->digits == '0')
		return SIZE_SIGNED;
	errno = 0;
	*ret_value = strtoull(number->digits, NULL, 10);
	if (!errno && *ret_value <= limit)
		return SIZE_SIGNED;
	return errno || number->negative ? SIZE_REAL : SIZE_UNSIGNED;
}

/* 17 digits say which real it is; with an exponent they take no more room than
 * the integer. One that is too large stays, and is refused. */
static void write_real(const struct number *number, char *digits)
{
	double value = strtod(number->digits, NULL);
	char exact[32], text[32];
	int len;

	if (isinf(value))
		return;
	snprintf(exact, sizeof(exact), "%.16e", value);
	/* d.dddddddddddddddde+XX */
	len = snprintf(text, sizeof(text), "%c%.16se%ld", exact[0], exact + 2,
		       strtol(exact + 19, NULL, 10) - 16);
	memset(digits, ' ', number->count);
	memcpy(digits, text, MIN((size_t)len, number->count));
}

bool json_number_fit(char *text, size_t len)
{
	struct scan scan = {text, text + len};
	struct number number;
	bool found = false;
	uint64_t value;

	while (next_number(&scan, &number)) {
		enum size size = size_of(&number, &value);
		char *digits = text + (number.digits - text);

		if (size == SIZE_UNSIGNED) {
			memset(digits, ' ', number.count);
			memcpy(digits, LARGEST, sizeof(LARGEST) - 1);
			found = true;
		} else if (size == SIZE_REAL) {
			write_real(&number, digits);
		}
	}
	return found;
}

/* ------------------------------------------------------ the way back */

/* The next of those integers of the text that were read as 2^63-1. */
static uint64_t next_largest(struct scan *scan)
{
	struct number number;

	while (next_number(scan, &number)) {
		uint64_t value = 0;
		enum size size = size_of(&number, &value);

		if (size == SIZE_UNSIGNED ||
		    (value == INT64_MAX && !number.negative))
			return value;
	}
	return INT64_MAX;
}

static json_t *restored(json_t *value, struct scan *scan);

/* Objects keep the order in which their members were read. */
static void restore_object(json_t *object, struct scan *scan)
{
	void *iter = json_object_iter(object);

	for (; iter; iter = json_object_iter_next(object, iter)) {
		json_t *new = restored(json_object_iter_value(iter), scan);

		if (new)
			json_object_iter_set_new(object, iter, new);
	}
}

static void restore_array(json_t *array, struct scan *scan)
{
	for (size_t i = 0; i < json_array_size(array); i++) {
		json_t *new = restored(json_array_get(array, i), scan);

		if (new)
			json_array_set_new(array, i, new);
	}
}

/* What @value has to be replaced by, a new reference, or NULL. */
static json_t *restored(json_t *value, struct scan *scan)
{
	uint64_t number;

	if (json_is_object(value))
		restore_object(value, scan);
	if (json_is_array(value))
		restore_array(value, scan);
	if (!json_is_integer(value) || json_integer_value(value) != INT64_MAX)
		return NULL;
	number = next_largest(scan);
	return number > INT64_MAX ? json_text_uint(number) : NULL;
}

json_t *json_number_restore(json_t *value, const char *text, size_t len)
{
	struct scan scan = {text, text + len};
	json_t *new = restored(value, &scan);

	if (!new)
		return value;
	json_decref(value);
	return new;
}
