/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/fake/mmds_store.h"
#include "vmm/mmds_http.h"
#include "vmm/mmds_token.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

/* The answer to a request; to be freed. */
static char *ask(struct store *f, const char *request, uint64_t *ret_body)
{
	uint64_t body;
	size_t len = 0;
	char *answer = mmds_http_answer(f->mmds, request, strlen(request), &len,
					&body);

	assert_non_null(answer);
	assert_int_equal(strlen(answer), len);
	if (ret_body)
		*ret_body = body;
	return answer;
}

static void assert_answer(struct store *f, const char *request, unsigned status,
			  const char *type, const char *body)
{
	char expected[4096], *answer = ask(f, request, NULL);

	snprintf(expected, sizeof(expected),
		 "HTTP/1.1 %u \r\nServer: Firecracker API\r\n"
		 "Connection: keep-alive\r\nContent-Type: %s\r\n"
		 "Content-Length: %zu\r\n\r\n%s",
		 status, type, strlen(body), body);
	assert_string_equal(answer, expected);
	free(answer);
}

static void test_values_in_both_formats(void **state)
{
#define META "/latest/meta-data"
#define UNSUPPORTED "Cannot retrieve value. The value has an unsupported type."
	static const struct {
		const char *path, *plain, *json; /* plain NULL: 501 */
	} cases[] = {
		{"/", "latest/\nzone",
		 "{\"latest\":{\"dynamic\":{\"x\":\"1\"},\"meta-data\":"
		 "{\"ami-id\":\"ami-12345\",\"count\":7,\"empty\":{},\"none\":"
		 "null,\"on\":true,\"tags\":[\"a\",{\"b\":\"c\"}]}},\"zone\":"
		 "\"here\"}"},
		{"/latest", "dynamic/\nmeta-data/", NULL},
		{"//latest///dynamic//", "x", "{\"x\":\"1\"}"},
		{"http://169.254.169.254/zone", "here", "\"here\""},
		{META "/ami-id", "ami-12345", "\"ami-12345\""},
		{META "/ami-id/", "ami-12345", "\"ami-12345\""},
		{META "/empty", "", "{}"},
		{META "/count", NULL, "7"},
		{META "/on", NULL, "true"},
		{META "/none", NULL, "null"},
		{META "/tags", NULL, "[\"a\",{\"b\":\"c\"}]"},
		{META "/tags/0", "a", "\"a\""},
		{META "/tags/1", "b", "{\"b\":\"c\"}"},
		{META "/tags/1/b", "c", "\"c\""},
	};
	struct store *f = *state;
	char request[512];

	assert_int_equal(store_configure(f, MMDS_V1, false, 0, "eth0", NULL),
			 0);
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		snprintf(request, sizeof(request), "GET %s HTTP/1.1\r\n\r\n",
			 cases[i].path);
		if (cases[i].plain)
			assert_answer(f, request, 200, "text/plain",
				      cases[i].plain);
		else
			assert_answer(f, request, 501, "text/plain",
				      UNSUPPORTED);
		snprintf(request, sizeof(request),
			 "GET %s HTTP/1.1\r\nacCept: application/json\r\n\r\n",
			 cases[i].path);
		if (cases[i].json)
			assert_answer(f, request, 200, "application/json",
				      cases[i].json);
	}
	assert_int_equal(f->counters.rx_no_token.value,
			 2 * ARRAY_SIZE(cases) - 1);
}

/* RFC 6901: escapes, and array indexes in one form only. */
static void test_paths_are_json_pointers(void **state)
{
	static const struct {
		const char *path, *value; /* NULL: there is none */
	} cases[] = {
		{"/a~1b", "slash"},  {"/t~0x", "tilde"},
		{"/~01", "escaped"}, {"/end~", "lone"},
		{"/a~1b/", "slash"}, {"/list/0", "0"},
		{"/list/1", "1"},    {"/list/10", "10"},
		{"/t~x", "tilde"},   {"/a/b", NULL},
		{"/list/00", NULL},  {"/list/01", NULL},
		{"/list/+1", NULL},  {"/list/-", NULL},
		{"/list/11", NULL},  {"/list/1~0", NULL},
		{"/list/1e0", NULL}, {"/list/18446744073709551616", NULL},
	};
	struct store *f = *state;
	char request[128], text[128];

	assert_int_equal(store_configure(f, MMDS_V1, false, 0, "eth0", NULL),
			 0);
	assert_int_equal(store_put(f,
				   "{\"a/b\":\"slash\",\"t~x\":\"tilde\","
				   "\"~1\":\"escaped\",\"end~\":\"lone\","
				   "\"list\":[\"0\",\"1\",\"2\",\"3\",\"4\","
				   "\"5\",\"6\",\"7\",\"8\",\"9\",\"10\"]}",
				   NULL),
			 0);
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		snprintf(request, sizeof(request), "GET %s HTTP/1.1\r\n\r\n",
			 cases[i].path);
		snprintf(text, sizeof(text), "Resource not found: %s.",
			 cases[i].path);
		assert_answer(f, request, cases[i].value ? 200 : 404,
			      "text/plain",
			      cases[i].value ? cases[i].value : text);
	}
}

static void test_keys_come_in_order(void **state)
{
	struct store *f = *state;

	assert_int_equal(store_configure(f, MMDS_V1, false, 0, "eth0", NULL),
			 0);
	assert_int_equal(
		store_put(f, "{\"b\":1,\"a\":[{\"z\":1,\"y\":2}]}", NULL), 0);
	assert_int_equal(store_patch(f, "{\"aa\":{\"d\":1,\"c\":2}}", NULL), 0);
	assert_answer(f, "GET / HTTP/1.1\r\n\r\n", 200, "text/plain",
		      "a\naa/\nb");
	assert_answer(f, "GET /aa HTTP/1.1\r\n\r\n", 200, "text/plain", "c\nd");
	assert_answer(f, "GET / HTTP/1.1\r\nAccept: application/json\r\n\r\n",
		      200, "application/json",
		      "{\"a\":[{\"y\":2,\"z\":1}],"
		      "\"aa\":{\"c\":2,\"d\":1},\"b\":1}");
}

static void test_white_space_ends_no_value(void **state)
{
	struct store *f = *state;
	char *answer;

	assert_int_equal(store_configure(f, MMDS_V1, false, 0, "eth0", NULL),
			 0);
	assert_answer(f,
		      "GET /zone HTTP/1.1\r\n"
		      "Accept: application/json \t \r\n\r\n",
		      200, "application/json", "\"here\"");
	answer = ask(f,
		     "PUT /latest/api/token HTTP/1.1\r\n"
		     "X-metadata-token-ttl-seconds: 60 \r\n\r\n",
		     NULL);
	assert_memory_equal(answer, "HTTP/1.1 200 \r\n", 15);
	assert_non_null(strstr(answer, "-ttl-seconds: 60\r\n"));
	free(answer);
}

static void test_accept_of_other_types_is_plain(void **state)
{
	static const char *const accepts[] = {"*/*", "", "text/plain",
					      "application/xml"};
	struct store *f = *state;
	char request[128];

	assert_int_equal(store_configure(f, MMDS_V1, false, 0, "eth0", NULL),
			 0);
	for (size_t i = 0; i < ARRAY_SIZE(accepts); i++) {
		snprintf(request, sizeof(request),
			 "GET /zone HTTP/1.1\r\nAccept: %s\r\n\r\n",
			 accepts[i]);
		assert_answer(f, request, 200, "text/plain", "here");
	}
}

static void test_imds_compat_is_plain_whatever_is_accepted(void **state)
{
	struct store *f = *state;

	assert_int_equal(store_configure(f, MMDS_V1, true, 0, "eth0", NULL), 0);
	assert_answer(f,
		      "GET /latest HTTP/1.1\r\n"
		      "Accept: application/json\r\n\r\n",
		      200, "application/json", "dynamic/\nmeta-data/");
	assert_answer(f, "GET /latest HTTP/1.1\r\n\r\n", 200, "text/plain",
		      "dynamic/\nmeta-data/");
}

static void test_requests_that_are_refused(void **state)
{
	static const struct {
		const char *request;
		unsigned status;
		const char *body;
	} cases[] = {
		{"GET /nothing HTTP/1.1\r\n\r\n", 404,
		 "Resource not found: /nothing."},
		{"GET /latest//none/ HTTP/1.1\r\n\r\n", 404,
		 "Resource not found: /latest//none/."},
		{"GET http://169.254.169.254//none HTTP/1.1\r\n\r\n", 404,
		 "Resource not found: //none."},
		{"GET /zone/deeper HTTP/1.1\r\n\r\n", 404,
		 "Resource not found: /zone/deeper."},
		{"GET /latest/meta-data/tags/2 HTTP/1.1\r\n\r\n", 404,
		 "Resource not found: /latest/meta-data/tags/2."},
		{"GET /latest/meta-data/tags/-1 HTTP/1.1\r\n\r\n", 404,
		 "Resource not found: /latest/meta-data/tags/-1."},
		{"GET /latest/meta-data/tags/0x HTTP/1.1\r\n\r\n", 404,
		 "Resource not found: /latest/meta-data/tags/0x."},
		{"GET / HTTP/1.1\r\nContent-Length: 3\r\n\r\n", 400,
		 "Invalid request."},
		{"PUT /latest/api/token HTTP/1.1\r\n"
		 "X-metadata-token-ttl-seconds: 60\r\n"
		 "Content-Length: 3\r\n\r\n",
		 400, "Invalid request."},
		{"POST / HTTP/1.1\r\nContent-Length: 3\r\n\r\n", 501,
		 "Invalid HTTP Method: Unsupported HTTP method."},
		{"PATCH / HTTP/1.1\r\nNo colon\r\n\r\n", 400,
		 "Invalid request."},
		{"GET http:// HTTP/1.1\r\n\r\n", 400, "Invalid URI."},
		{"GET / HTTP/2.0\r\n\r\n", 501,
		 "Invalid HTTP Version: Unsupported HTTP version."},
		{"GET / HTTP/1.2\r\n\r\n", 501,
		 "Invalid HTTP Version: Unsupported HTTP version."},
		{"POST / HTTP/1.1\r\n\r\n", 501,
		 "Invalid HTTP Method: Unsupported HTTP method."},
		{"HEAD / HTTP/1.1\r\n\r\n", 501,
		 "Invalid HTTP Method: Unsupported HTTP method."},
		{"BREW / HTTP/1.1\r\n\r\n", 501,
		 "Invalid HTTP Method: Unsupported HTTP method."},
		{"PUT /zone// HTTP/1.1\r\n\r\n", 404,
		 "Resource not found: /zone//."},
		{"PUT /latest/api/token HTTP/1.1\r\n\r\n", 400,
		 "Token time to live value not found. Use "
		 "`X-metadata-token-ttl-seconds` or "
		 "`X-aws-ec2-metadata-token-ttl-seconds` header to specify the "
		 "token's lifetime."},
		{"PUT /latest/api/token HTTP/1.1\r\n"
		 "X-metadata-token-ttl-seconds: 0\r\n\r\n",
		 400,
		 "Invalid time to live value provided for token: 0. Please "
		 "provide a value between 1 and 21600."},
		{"PUT /latest/api/token HTTP/1.1\r\n"
		 "X-metadata-token-ttl-seconds: 21601\r\n\r\n",
		 400,
		 "Invalid time to live value provided for token: 21601. Please "
		 "provide a value between 1 and 21600."},
		{"PUT /latest/api/token HTTP/1.1\r\n"
		 "X-metadata-token-ttl-seconds: soon\r\n\r\n",
		 400,
		 "Invalid header. Reason: Invalid value. "
		 "Key:x-metadata-token-ttl-seconds; Value:soon"},
		{"PUT /latest/api/token HTTP/1.1\r\n"
		 "X-metadata-token-ttl-seconds: 60\r\n"
		 "x-FORWARDED-for: 10.0.0.1\r\n\r\n",
		 400,
		 "Invalid header. Reason: Unsupported header name. Key: "
		 "X-Forwarded-For"},
	};
	struct store *f = *state;

	assert_int_equal(store_configure(f, MMDS_V1, false, 0, "eth0", NULL),
			 0);
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++)
		assert_answer(f, cases[i].request, cases[i].status,
			      "text/plain", cases[i].body);
}

static void test_other_methods_say_what_is_allowed(void **state)
{
	static const char *const requests[] = {
		"DELETE / HTTP/1.1\r\n\r\n",
		"PATCH / HTTP/1.1\r\n\r\n",
		"PATCH / HTTP/1.1\r\nContent-Length: 2\r\n\r\n",
		"DELETE / HTTP/1.1\r\nContent-Length: 2\r\n\r\n",
	};
	struct store *f = *state;

	for (size_t i = 0; i < ARRAY_SIZE(requests); i++) {
		char *answer = ask(f, requests[i], NULL);

		assert_string_equal(
			answer, "HTTP/1.1 405 \r\nServer: Firecracker API\r\n"
				"Connection: keep-alive\r\nAllow: GET, PUT\r\n"
				"Content-Type: text/plain\r\n"
				"Content-Length: 24\r\n\r\n"
				"Not allowed HTTP method.");
		free(answer);
	}
}

static void test_answers_have_the_version_of_the_request(void **state)
{
	struct store *f = *state;
	char *answer = ask(f, "DELETE / HTTP/1.0\r\n\r\n", NULL);

	assert_memory_equal(answer, "HTTP/1.0 405 \r\n", 15);
	free(answer);
}

/* The token that a PUT gives. */
static void get_token(struct store *f, const char *header,
		      char token[MMDS_TOKEN_LEN + 1])
{
	char request[256], expected[256], *answer;
	size_t len;

	snprintf(request, sizeof(request),
		 "PUT /latest/api/token HTTP/1.1\r\nX-%s: 60\r\n\r\n", header);
	answer = ask(f, request, NULL);
	len = (size_t)snprintf(expected, sizeof(expected),
			       "HTTP/1.1 200 \r\nServer: Firecracker API\r\n"
			       "Connection: keep-alive\r\nx-%s: 60\r\n"
			       "Content-Type: text/plain\r\n"
			       "Content-Length: 48\r\n\r\n",
			       header);
	assert_memory_equal(answer, expected, len);
	assert_int_equal(strlen(answer), len + MMDS_TOKEN_LEN);
	strcpy(token, answer + len);
	free(answer);
}

static void test_version_2_wants_a_token(void **state)
{
	static const char *const headers[][2] = {
		{"metadata-token-ttl-seconds", "metadata-token"},
		{"aws-ec2-metadata-token-ttl-seconds",
		 "aws-ec2-metadata-token"},
	};
	struct store *f = *state;
	char token[MMDS_TOKEN_LEN + 1], request[512];

	assert_answer(f, "GET /zone HTTP/1.1\r\n\r\n", 401, "text/plain",
		      "No MMDS token provided. Use `X-metadata-token` or "
		      "`X-aws-ec2-metadata-token` header to specify the "
		      "session token.");
	for (size_t i = 0; i < ARRAY_SIZE(headers); i++) {
		get_token(f, headers[i][0], token);
		snprintf(request, sizeof(request),
			 "GET /zone HTTP/1.1\r\nX-%s: %s\r\n\r\n",
			 headers[i][1], token);
		assert_answer(f, request, 200, "text/plain", "here");
		token[5] ^= 1;
		snprintf(request, sizeof(request),
			 "GET /zone HTTP/1.1\r\nX-%s: %s\r\n\r\n",
			 headers[i][1], token);
		assert_answer(f, request, 401, "text/plain",
			      "MMDS token not valid.");
	}
	assert_int_equal(f->counters.rx_no_token.value, 1);
	assert_int_equal(f->counters.rx_invalid_token.value, 2);
}

static void assert_not_valid(struct store *f, const char *token)
{
	char request[512];

	snprintf(request, sizeof(request),
		 "GET /zone HTTP/1.1\r\nX-metadata-token: %s\r\n\r\n", token);
	assert_answer(f, request, 401, "text/plain", "MMDS token not valid.");
}

static void test_expired_tokens_are_not_valid(void **state)
{
	struct store *f = *state;
	char token[MMDS_TOKEN_LEN + 1], *answer;

	answer = ask(f,
		     "PUT /latest/api/token HTTP/1.1\r\n"
		     "X-metadata-token-ttl-seconds: 1\r\n\r\n",
		     NULL);
	strcpy(token, answer + strlen(answer) - MMDS_TOKEN_LEN);
	free(answer);
	usleep(1100000);
	assert_not_valid(f, token);
}

static void test_long_tokens_are_not_valid(void **state)
{
	struct store *f = *state;
	char token[MMDS_TOKEN_LEN + 1], longer[128];

	get_token(f, "metadata-token-ttl-seconds", token);
	for (int len = MMDS_TOKEN_LEN + 1; len < 100; len++) {
		snprintf(longer, sizeof(longer), "%s%0*d", token,
			 len - MMDS_TOKEN_LEN, 0);
		assert_int_equal(strlen(longer), len);
		assert_not_valid(f, longer);
	}
}

static void test_version_1_gives_tokens_too(void **state)
{
	struct store *f = *state;
	char token[MMDS_TOKEN_LEN + 1], request[512];

	assert_int_equal(store_configure(f, MMDS_V1, false, 0, "eth0", NULL),
			 0);
	get_token(f, "metadata-token-ttl-seconds", token);
	snprintf(request, sizeof(request),
		 "GET /zone HTTP/1.1\r\nX-metadata-token: %s\r\n\r\n", token);
	assert_answer(f, request, 200, "text/plain", "here");
	assert_int_equal(f->counters.rx_invalid_token.value, 0);
}

static void test_version_1_serves_with_a_bad_token_too(void **state)
{
	struct store *f = *state;

	assert_int_equal(store_configure(f, MMDS_V1, false, 0, "eth0", NULL),
			 0);
	assert_answer(f, "GET /zone HTTP/1.1\r\nX-metadata-token: bad\r\n\r\n",
		      200, "text/plain", "here");
	assert_int_equal(f->counters.rx_invalid_token.value, 1);
}

static void test_no_document_is_null(void **state)
{
	struct store *f = *state;
	struct mmds *full = f->mmds;

	assert_int_equal(mmds_create(&f->mmds, "x", LIMIT, &f->counters), 0);
	assert_int_equal(store_configure(f, MMDS_V1, false, 0, "eth0", NULL),
			 0);
	assert_answer(f, "GET / HTTP/1.1\r\nAccept: application/json\r\n\r\n",
		      200, "application/json", "null");
	assert_answer(f, "GET /a HTTP/1.1\r\n\r\n", 404, "text/plain",
		      "Resource not found: /a.");
	/* Whatever is accepted. */
	assert_int_equal(store_configure(f, MMDS_V1, true, 0, "eth0", NULL), 0);
	assert_answer(f, "GET / HTTP/1.1\r\n\r\n", 501, "text/plain",
		      UNSUPPORTED);
	assert_answer(f, "GET / HTTP/1.1\r\nAccept: application/json\r\n\r\n",
		      501, "text/plain", UNSUPPORTED);
	mmds_destroy(f->mmds);
	f->mmds = full;
}

static void test_heads_are_cut_at_the_empty_line(void **state)
{
	static const struct {
		const char *data;
		size_t len;
	} cases[] = {
		{"", 0},
		{"GET / HTTP/1.1\r\n", 0},
		{"GET / HTTP/1.1\r\n\r", 0},
		{"GET / HTTP/1.1\n\n", 0},
		{"GET / HTTP/1.1\r\n\r\n", 18},
		{"GET / HTTP/1.1\r\nA: b\r\n\r\nGET", 24},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++)
		assert_int_equal(mmds_http_head_len(cases[i].data,
						    strlen(cases[i].data)),
				 cases[i].len);
}

static void test_bodies_are_announced_to_be_skipped(void **state)
{
	struct store *f = *state;
	uint64_t body;

	free(ask(f, "GET / HTTP/1.1\r\nContent-Length: 77\r\n\r\n", &body));
	assert_int_equal(body, 77);
	free(ask(f, "POST / HTTP/1.1\r\nContent-Length: 5\r\n\r\n", &body));
	assert_int_equal(body, 5);
	free(ask(f, "PATCH / HTTP/1.1\r\nContent-Length: 6\r\n\r\n", &body));
	assert_int_equal(body, 6);
	free(ask(f, "GET / HTTP/1.1\r\n\r\n", &body));
	assert_int_equal(body, 0);
}

static void test_garbage_gets_an_answer(void **state)
{
	static const char *const requests[] = {
		"\r\n\r\n",
		"GET\r\n\r\n",
		"GET  HTTP/1.1\r\n\r\n",
		"GET / HTTP/1.1\r\nNo colon\r\n\r\n",
		"GET / HTTP/1.1\r\n: empty\r\n\r\n",
		"GET / HTTP/1.1\r\nContent-Length: x\r\n\r\n",
		("GET / HTTP/1.1\r\nContent-Length: "
		 "99999999999999999999\r\n\r\n"),
		"GET / HTTP/9\r\n\r\n",
		"GET /\x7f\x01 HTTP/1.1\r\n\r\n",
		"\x16\x03\x01\x02\r\n\r\n",
	};
	struct store *f = *state;

	for (size_t i = 0; i < ARRAY_SIZE(requests); i++) {
		char *answer = ask(f, requests[i], NULL);

		assert_true(strncmp(answer, "HTTP/1.1 4", 10) == 0 ||
			    strncmp(answer, "HTTP/1.1 5", 10) == 0 ||
			    strncmp(answer, "HTTP/1.0 4", 10) == 0);
		free(answer);
	}
}

/* As long as requests may be, in each of their parts. */
static void test_long_parts_do_no_harm(void **state)
{
	static const char *const shapes[] = {
		"GET /%s HTTP/1.1\r\n\r\n",
		"GET / HTTP/1.1\r\n%s: x\r\n\r\n",
		"GET / HTTP/1.1\r\nX-metadata-token: %s\r\n\r\n",
		("PUT /latest/api/token HTTP/1.1\r\n"
		 "X-metadata-token-ttl-seconds: %s\r\n\r\n"),
		"%s / HTTP/1.1\r\n\r\n",
	};
	struct store *f = *state;
	char filler[MMDS_REQUEST_MAX - 100], request[MMDS_REQUEST_MAX + 1];

	for (size_t i = 0; i < ARRAY_SIZE(shapes); i++)
		for (int c = '0'; c <= 'A'; c += 'A' - '0') {
			memset(filler, c, sizeof(filler) - 1);
			filler[sizeof(filler) - 1] = '\0';
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
			snprintf(request, sizeof(request), shapes[i], filler);
#pragma GCC diagnostic pop
			free(ask(f, request, NULL));
		}
}

int main(void)
{
#define CASE(name)                                                             \
	cmocka_unit_test_setup_teardown(name, store_setup, store_teardown)
	const struct CMUnitTest tests[] = {
		CASE(test_values_in_both_formats),
		CASE(test_paths_are_json_pointers),
		CASE(test_keys_come_in_order),
		CASE(test_white_space_ends_no_value),
		CASE(test_accept_of_other_types_is_plain),
		CASE(test_imds_compat_is_plain_whatever_is_accepted),
		CASE(test_requests_that_are_refused),
		CASE(test_other_methods_say_what_is_allowed),
		CASE(test_answers_have_the_version_of_the_request),
		CASE(test_version_2_wants_a_token),
		CASE(test_expired_tokens_are_not_valid),
		CASE(test_long_tokens_are_not_valid),
		CASE(test_version_1_gives_tokens_too),
		CASE(test_version_1_serves_with_a_bad_token_too),
		CASE(test_no_document_is_null),
		CASE(test_heads_are_cut_at_the_empty_line),
		CASE(test_bodies_are_announced_to_be_skipped),
		CASE(test_garbage_gets_an_answer),
		CASE(test_long_parts_do_no_harm),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
