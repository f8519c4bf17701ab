/* SPDX-License-Identifier: Apache-2.0 */
/*
 * JSON text whose numbers read back as what they were. jansson writes reals
 * with one precision for all, 12.12 as 12.119999999999999, and has no integers
 * beyond 2^63-1.
 *
 * Those up to 2^64-1 are kept as an array of one string that is not UTF-8,
 * which nobody can send: to look-ups and merges it is a value that is neither
 * object nor string. Only json_text can write it.
 *
 * Any thread; no state.
 */
#ifndef EMBER_JSON_TEXT_H
#define EMBER_JSON_TEXT_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

/* @value as compact text with sorted keys, to be freed; any kind of value. NULL
 * without memory. */
char *json_text(const json_t *value);

/* The keys of @object in order, as many as it has: the caller frees the array,
 * the keys stay the object's. NULL without memory. */
const char **json_text_keys(const json_t *object);

/* An integer that may be beyond 2^63-1; a new reference. NULL without memory.
 */
json_t *json_text_uint(uint64_t value);

/* Is it such an integer, and not the array that it looks like? */
bool json_text_is_uint(const json_t *value);

#endif
