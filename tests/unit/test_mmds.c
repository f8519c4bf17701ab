/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/fake/mmds_store.h"
#include "vmm/mmds_token.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

/* ------------------------------------------------------------- the document */

static void assert_document(struct store *f, const char *text)
{
	json_t *expected = store_json(text), *value = mmds_get(f->mmds);

	assert_true(json_equal(value, expected));
	json_decref(expected);
	json_decref(value);
}

/* The examples of RFC 7396, appendix A. */
static void test_patch_merges(void **state)
{
	static const struct {
		const char *document, *patch, *result;
	} cases[] = {
		{"{\"a\":\"b\"}", "{\"a\":\"c\"}", "{\"a\":\"c\"}"},
		{"{\"a\":\"b\"}", "{\"b\":\"c\"}", "{\"a\":\"b\",\"b\":\"c\"}"},
		{"{\"a\":\"b\"}", "{\"a\":null}", "{}"},
		{"{\"a\":\"b\",\"b\":\"c\"}", "{\"a\":null}", "{\"b\":\"c\"}"},
		{"{\"a\":[\"b\"]}", "{\"a\":\"c\"}", "{\"a\":\"c\"}"},
		{"{\"a\":\"c\"}", "{\"a\":[\"b\"]}", "{\"a\":[\"b\"]}"},
		{"{\"a\":{\"b\":\"c\"}}", "{\"a\":{\"b\":\"d\",\"c\":null}}",
		 "{\"a\":{\"b\":\"d\"}}"},
		{"{\"a\":[{\"b\":\"c\"}]}", "{\"a\":[1]}", "{\"a\":[1]}"},
		{"[\"a\",\"b\"]", "[\"c\",\"d\"]", "[\"c\",\"d\"]"},
		{"{\"a\":\"b\"}", "[\"c\"]", "[\"c\"]"},
		{"{\"a\":\"foo\"}", "null", "null"},
		{"{\"a\":\"foo\"}", "\"bar\"", "\"bar\""},
		{"{\"e\":null}", "{\"a\":1}", "{\"e\":null,\"a\":1}"},
		{"[1,2]", "{\"a\":\"b\",\"c\":null}", "{\"a\":\"b\"}"},
		{"{}", "{\"a\":{\"bb\":{\"ccc\":null}}}",
		 "{\"a\":{\"bb\":{}}}"},
	};
	struct store *f = *state;

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		assert_int_equal(store_put(f, cases[i].document, NULL), 0);
		assert_int_equal(store_patch(f, cases[i].patch, NULL), 0);
		assert_document(f, cases[i].result);
	}
}

static void test_patch_needs_a_document(void **state)
{
	struct store *f = *state;
	struct mmds *full = f->mmds;
	struct error err = {0};

	assert_int_equal(mmds_create(&f->mmds, "x", LIMIT, &f->counters), 0);
	assert_int_equal(store_patch(f, "{}", &err), -EINVAL);
	assert_string_equal(err.text,
			    "The MMDS data store is not initialized.");
	assert_document(f, "{}");
	mmds_destroy(f->mmds);
	f->mmds = full;
}

/* @len bytes of JSON text. */
static char *text_of(size_t len, const char *key)
{
	char *text = malloc(len + 1);
	int head = sprintf(text, "{\"%s\":\"", key);

	memset(text + head, 'x', len - (size_t)head);
	strcpy(text + len - 2, "\"}");
	return text;
}

static void test_too_large_a_document_changes_nothing(void **state)
{
	struct store *f = *state;
	char *fits = text_of(LIMIT, "a"), *larger = text_of(LIMIT + 1, "a");
	struct error err = {0};

	assert_int_equal(store_put(f, larger, &err), -EFBIG);
	assert_string_equal(err.text, "MMDS limit exceeded error: The MMDS "
				      "patch request doesn't fit.");
	assert_document(f, DOCUMENT);
	assert_int_equal(store_put(f, fits, NULL), 0);
	assert_int_equal(store_patch(f, "{\"b\":1}", &err), -EFBIG);
	assert_document(f, fits);
	assert_int_equal(store_patch(f, "{\"a\":1}", NULL), 0);
	assert_document(f, "{\"a\":1}");
	free(fits);
	free(larger);
}

static void test_configuration_is_checked(void **state)
{
	struct store *f = *state;
	static const struct {
		uint32_t address;
		const char *id, *text;
	} cases[] = {
		{0, NULL, "The list of network interface IDs that allow"},
		{0, "eth1", "The list of network interface IDs provided"},
		{0xa9fe00ff, "eth0", "The MMDS IPv4 address is not link local"},
		{0xa9feff00, "eth0", "The MMDS IPv4 address is not link local"},
		{0x0a000001, "eth0", "The MMDS IPv4 address is not link local"},
	};

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct error err = {0};

		assert_true(store_configure(f, MMDS_V1, true, cases[i].address,
					    cases[i].id, &err) < 0);
		assert_non_null(strstr(err.text, cases[i].text));
	}
	assert_int_equal(mmds_config(f->mmds)->version, MMDS_V2);
	assert_int_equal(
		store_configure(f, MMDS_V1, true, 0xa9fe0100, "eth0", NULL), 0);
	assert_int_equal(mmds_config(f->mmds)->ipv4_address, 0xa9fe0100);
}

/* ------------------------------------------------------------------ tokens */

static void test_tokens_are_good_until_they_expire(void **state)
{
	struct mmds_tokens tokens, others;
	char token[MMDS_TOKEN_LEN + 1], other[MMDS_TOKEN_LEN + 1];
	uint64_t end;

	(void)state;
	mmds_tokens_init(&tokens, "vm-1");
	mmds_tokens_init(&others, "vm-1");
	assert_false(mmds_token_valid(&tokens, ""));
	assert_int_equal(mmds_token_make(&tokens, 1, token), 0);
	assert_int_equal(strlen(token), MMDS_TOKEN_LEN);
	assert_true(mmds_token_valid(&tokens, token));
	assert_int_equal(mmds_token_make(&tokens, 1, other), 0);
	assert_string_not_equal(token, other);
	/* Another process has another key. */
	assert_int_equal(mmds_token_make(&others, 60, other), 0);
	assert_false(mmds_token_valid(&tokens, other));
	end = monotonic_ns() + UINT64_C(1100000000);
	while (monotonic_ns() < end)
		assert_true(mmds_token_valid(&others, other));
	assert_false(mmds_token_valid(&tokens, token));
}

static void test_tokens_cannot_be_changed(void **state)
{
	static const char *const texts[] = {
		"",
		"x",
		"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA",
		"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=",
		"!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!",
	};
	struct mmds_tokens tokens;
	char token[MMDS_TOKEN_LEN + 1];

	(void)state;
	mmds_tokens_init(&tokens, "vm-1");
	assert_int_equal(mmds_token_make(&tokens, 60, token), 0);
	for (size_t i = 0; i < MMDS_TOKEN_LEN; i++) {
		char old = token[i];

		token[i] = old == 'A' ? 'B' : 'A';
		assert_false(mmds_token_valid(&tokens, token));
		token[i] = old;
	}
	assert_true(mmds_token_valid(&tokens, token));
	for (size_t i = 0; i < ARRAY_SIZE(texts); i++)
		assert_false(mmds_token_valid(&tokens, texts[i]));
	strcpy(tokens.id, "microvmid=vm-2");
	assert_false(mmds_token_valid(&tokens, token));
}

int main(void)
{
#define CASE(name)                                                             \
	cmocka_unit_test_setup_teardown(name, store_setup, store_teardown)
	const struct CMUnitTest tests[] = {
		CASE(test_patch_merges),
		CASE(test_patch_needs_a_document),
		CASE(test_too_large_a_document_changes_nothing),
		CASE(test_configuration_is_checked),
		CASE(test_tokens_are_good_until_they_expire),
		CASE(test_tokens_cannot_be_changed),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
