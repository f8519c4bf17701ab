/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Numbers of JSON texts that jansson cannot read. It keeps integers in 64 bits
 * with a sign, and refuses what does not fit. Here integers up to 2^64-1 are
 * integers, and beyond 64 bits they are reals.
 *
 * Thread: API (or main for files).
 */
#ifndef EMBER_JSON_NUMBER_H
#define EMBER_JSON_NUMBER_H

#include <jansson.h>
#include <stdbool.h>

/* Rewrites the numbers of @text, which is followed by a null character, so that
 * jansson reads it, and nothing changes its place: from 2^63 to 2^64-1 they
 * become 2^63-1. Returns whether there was one of those. Text that is not JSON
 * does not become JSON. */
bool json_number_fit(char *text, size_t len);

/* @value, which was read from @text after json_number_fit, with the integers
 * that stand in @text (see json_text_uint). Takes @value and returns what
 * stands for it. */
json_t *json_number_restore(json_t *value, const char *text, size_t len);

#endif
