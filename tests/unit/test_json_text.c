/* SPDX-License-Identifier: Apache-2.0 */
#include "api/json.h"
#include "vmm/json_text.h"
#include "vmm/util.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

static json_t *parse(const char *text, bool exact)
{
	const struct json_text body = {text, strlen(text)};
	struct error err = {0};

	return exact ? json_parse_exact(&body, &err) : json_parse(&body, &err);
}

/* What comes back of @text. */
static char *round_trip(const char *text, bool exact)
{
	json_t *value = parse(text, exact);
	char *result;

	assert_non_null(value);
	result = json_text(value);
	assert_non_null(result);
	json_decref(value);
	return result;
}

static void assert_round_trip(const char *text, const char *expected)
{
	char *result = round_trip(text, true);

	assert_string_equal(result, expected);
	free(result);
}

static void test_json_text_same_numbers_come_back(void **state)
{
	static const char *const texts[] = {
		"0",
		"-1",
		"9223372036854775807",
		"-9223372036854775807",
		"-9223372036854775808",
		"9223372036854775808",
		"18446744073709551615",
		"12.12",
		"0.1",
		"-0.1",
		"1.0",
		"4.94065645841247e-324",
		"1.7976931348623157e308",
		"0.30000000000000004",
		"3.141592653589793",
		"2.2250738585072014e-308",
		"0.9999999999999999",
		"1e22",
		"[9223372036854775807,9223372036854775808,9223372036854775807]",
		("{\"a\":[18446744073709551615,{\"b\":9223372036854775809}],"
		 "\"c\":9223372036854775807,\"d\":10000000000000000000}"),
		"\"9223372036854775808\"",
		"{\"9223372036854775808\":10223372036854775808}",
		"[\"\\\\\",9223372036854775808,\"\\\"9223372036854775809\"]",
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(texts); i++)
		assert_round_trip(texts[i], texts[i]);
}

/* What has more digits than its type can keep, and other spellings. */
static void test_json_text_numbers_are_what_they_were(void **state)
{
	static const struct {
		const char *text, *expected;
	} cases[] = {
		{"18446744073709551616", "1.8446744073709552e19"},
		{"99999999999999999999", "1e20"},
		{"-9223372036854775809", "-9.223372036854776e18"},
		{"-18446744073709551615", "-1.8446744073709552e19"},
		{"123456789012345678901234567890", "1.2345678901234568e29"},
		{"0.12345678901234567890123", "0.12345678901234568"},
		{"1.9223372036854775808", "1.9223372036854776"},
		{"9223372036854775808.5", "9.223372036854776e18"},
		{"9223372036854775808e2", "9.223372036854776e20"},
		{"1E+2", "100.0"},
		{"1e0000000000000000000000002", "100.0"},
		{"1.10", "1.1"},
		{"1e-7", "1e-7"},
		{"-0.0", "-0.0"},
		{"{ \"b\" : 1, \"a\" : [ ] }", "{\"a\":[],\"b\":1}"},
		{"{\"k\\u00e9\\n\\\"\":\"\\u0001\"}",
		 "{\"k\xc3\xa9\\n\\\"\":\"\\u0001\"}"},
		{"{\"b\":9223372036854775809,\"a\":9223372036854775808}",
		 "{\"a\":9223372036854775808,\"b\":9223372036854775809}"},
		{" [ true , false , null , \"\" , { } ] ",
		 "[true,false,null,\"\",{}]"},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++)
		assert_round_trip(cases[i].text, cases[i].expected);
}

static void test_json_parse_what_is_not_json_stays_so(void **state)
{
	static const char *const texts[] = {
		"018446744073709551615",
		"-09223372036854775809",
		"00000000000000000000001",
		"9223372036854775808.",
		"9223372036854775808e",
		"-",
		"--9223372036854775808",
		"+9223372036854775808",
		"92233720368547758089223372036854775808x",
		"1e400",
		"\"9223372036854775808",
		"\"\\",
		"9223372036854775808 9223372036854775808",
		"",
	};
	char huge[400];

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(texts); i++) {
		assert_null(parse(texts[i], true));
		assert_null(parse(texts[i], false));
	}
	memset(huge, '9', sizeof(huge) - 1);
	huge[sizeof(huge) - 1] = '\0';
	assert_null(parse(huge, true));
	huge[308] = '\0';
	assert_round_trip(huge, "1e308");
}

static void test_json_parse_settings_have_the_largest(void **state)
{
	char *text = round_trip("[9223372036854775808,18446744073709551615,"
				"-9223372036854775808,18446744073709551616]",
				false);

	(void)state;
	assert_string_equal(text, "[9223372036854775807,9223372036854775807,"
				  "-9223372036854775808,"
				  "1.8446744073709552e19]");
	free(text);
}

/* Random bits are reals with all their digits. */
static void test_json_text_reals_read_back(void **state)
{
	uint64_t bits = 1;

	(void)state;
	for (int i = 0; i < 20000; i++) {
		double value, back;
		json_t *real;
		char *text;

		bits = bits * UINT64_C(6364136223846793005) +
		       1442695040888963407;
		memcpy(&value, &bits, sizeof(value));
		real = json_real(value);
		if (!real) /* not a number, or infinite */
			continue;
		text = json_text(real);
		back = strtod(text, NULL);
		assert_memory_equal(&back, &value, sizeof(value));
		free(text);
		json_decref(real);
	}
}

/* Nearly as deep as what is parsed. */
static void test_json_text_nesting_is_no_harm(void **state)
{
	enum { DEPTH = 2000 };
	char text[2 * DEPTH + 20];

	(void)state;
	memset(text, '[', DEPTH);
	strcpy(text + DEPTH, "9223372036854775808");
	memset(text + strlen(text), ']', DEPTH);
	text[2 * DEPTH + 19] = '\0';
	assert_round_trip(text, text);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_json_text_same_numbers_come_back),
		cmocka_unit_test(test_json_text_numbers_are_what_they_were),
		cmocka_unit_test(test_json_parse_what_is_not_json_stays_so),
		cmocka_unit_test(test_json_parse_settings_have_the_largest),
		cmocka_unit_test(test_json_text_reals_read_back),
		cmocka_unit_test(test_json_text_nesting_is_no_harm),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
