/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/mmds_http.h"
#include "vmm/mmds_token.h"
#include "vmm/nets.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#define LIMIT 51200
#define DOCUMENT                                                               \
	"{\"latest\":{\"meta-data\":{\"ami-id\":\"ami-12345\",\"tags\":"       \
	"[\"a\",{\"b\":\"c\"}],\"count\":7,\"on\":true,\"none\":null,"         \
	"\"empty\":{}},\"dynamic\":{\"x\":\"1\"}},\"zone\":\"here\"}"

struct fixture {
	struct metrics metrics;
	struct nets *nets;
	struct mmds *mmds;
	struct mmds_metrics counters;
};

static json_t *json(const char *text)
{
	json_t *value = json_loads(text, JSON_DECODE_ANY, NULL);

	assert_non_null(value);
	return value;
}

static int put(struct fixture *f, const char *text, struct error *err)
{
	json_t *value = json(text);
	int ret = mmds_put(f->mmds, value, err);

	json_decref(value);
	return ret;
}

static int patch(struct fixture *f, const char *text, struct error *err)
{
	json_t *value = json(text);
	int ret = mmds_patch(f->mmds, value, err);

	json_decref(value);
	return ret;
}

static int configure(struct fixture *f, enum mmds_version version,
		     bool imds_compat, uint32_t address, const char *id,
		     struct error *err)
{
	struct mmds_config config = {
		.version = version,
		.imds_compat = imds_compat,
		.has_ipv4_address = address != 0,
		.ipv4_address = address,
		.interfaces = id ? calloc(1, sizeof(char *)) : NULL,
		.interface_count = id ? 1 : 0,
	};
	int ret;

	if (id)
		config.interfaces[0] = strdup(id);
	ret = mmds_configure(f->mmds, &config, f->nets, err);
	mmds_config_release(&config);
	return ret;
}

static int setup(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));
	struct net_config config = {.iface_id = strdup("eth0"),
				    .host_dev_name = strdup("tap0")};

	assert_non_null(f);
	metrics_init(&f->metrics, "test");
	assert_int_equal(nets_create(&f->nets, &f->metrics), 0);
	assert_int_equal(nets_set(f->nets, &config, NULL), 0);
	assert_int_equal(mmds_create(&f->mmds, "vm-1", LIMIT, &f->counters), 0);
	assert_int_equal(configure(f, MMDS_V2, false, 0, "eth0", NULL), 0);
	assert_int_equal(put(f, DOCUMENT, NULL), 0);
	*state = f;
	return 0;
}

static int teardown(void **state)
{
	struct fixture *f = *state;

	mmds_destroy(f->mmds);
	nets_destroy(f->nets);
	metrics_release(&f->metrics);
	free(f);
	return 0;
}

/* ------------------------------------------------------------- the document */

static void assert_document(struct fixture *f, const char *text)
{
	json_t *expected = json(text), *value = mmds_get(f->mmds);

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
	struct fixture *f = *state;

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		assert_int_equal(put(f, cases[i].document, NULL), 0);
		assert_int_equal(patch(f, cases[i].patch, NULL), 0);
		assert_document(f, cases[i].result);
	}
}

static void test_patch_needs_a_document(void **state)
{
	struct fixture *f = *state;
	struct mmds *full = f->mmds;
	struct error err = {0};

	assert_int_equal(mmds_create(&f->mmds, "x", LIMIT, &f->counters), 0);
	assert_int_equal(patch(f, "{}", &err), -EINVAL);
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
	struct fixture *f = *state;
	char *fits = text_of(LIMIT, "a"), *larger = text_of(LIMIT + 1, "a");
	struct error err = {0};

	assert_int_equal(put(f, larger, &err), -EFBIG);
	assert_string_equal(err.text, "MMDS limit exceeded error: The MMDS "
				      "patch request doesn't fit.");
	assert_document(f, DOCUMENT);
	assert_int_equal(put(f, fits, NULL), 0);
	assert_int_equal(patch(f, "{\"b\":1}", &err), -EFBIG);
	assert_document(f, fits);
	assert_int_equal(patch(f, "{\"a\":1}", NULL), 0);
	assert_document(f, "{\"a\":1}");
	free(fits);
	free(larger);
}

static void test_configuration_is_checked(void **state)
{
	struct fixture *f = *state;
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

		assert_true(configure(f, MMDS_V1, true, cases[i].address,
				      cases[i].id, &err) < 0);
		assert_non_null(strstr(err.text, cases[i].text));
	}
	assert_int_equal(mmds_config(f->mmds)->version, MMDS_V2);
	assert_int_equal(configure(f, MMDS_V1, true, 0xa9fe0100, "eth0", NULL),
			 0);
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

/* -------------------------------------------------------------------- HTTP */

/* The answer to a request; to be freed. */
static char *ask(struct fixture *f, const char *request, uint64_t *ret_body)
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

static void assert_answer(struct fixture *f, const char *request,
			  unsigned status, const char *type, const char *body)
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
	struct fixture *f = *state;
	char request[512];

	assert_int_equal(configure(f, MMDS_V1, false, 0, "eth0", NULL), 0);
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

static void test_accept_of_other_types_is_plain(void **state)
{
	static const char *const accepts[] = {"*/*", "", "text/plain",
					      "application/xml"};
	struct fixture *f = *state;
	char request[128];

	assert_int_equal(configure(f, MMDS_V1, false, 0, "eth0", NULL), 0);
	for (size_t i = 0; i < ARRAY_SIZE(accepts); i++) {
		snprintf(request, sizeof(request),
			 "GET /zone HTTP/1.1\r\nAccept: %s\r\n\r\n",
			 accepts[i]);
		assert_answer(f, request, 200, "text/plain", "here");
	}
}

static void test_imds_compat_is_plain_whatever_is_accepted(void **state)
{
	struct fixture *f = *state;

	assert_int_equal(configure(f, MMDS_V1, true, 0, "eth0", NULL), 0);
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
		 "Resource not found: /latest/none."},
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
		{"PUT /zone HTTP/1.1\r\n\r\n", 404,
		 "Resource not found: /zone."},
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
	struct fixture *f = *state;

	assert_int_equal(configure(f, MMDS_V1, false, 0, "eth0", NULL), 0);
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++)
		assert_answer(f, cases[i].request, cases[i].status,
			      "text/plain", cases[i].body);
}

static void test_other_methods_say_what_is_allowed(void **state)
{
	struct fixture *f = *state;
	char *answer = ask(f, "DELETE / HTTP/1.0\r\n\r\n", NULL);

	assert_string_equal(answer,
			    "HTTP/1.0 405 \r\nServer: Firecracker API\r\n"
			    "Connection: keep-alive\r\nAllow: GET, PUT\r\n"
			    "Content-Type: text/plain\r\n"
			    "Content-Length: 24\r\n\r\n"
			    "Not allowed HTTP method.");
	free(answer);
	answer = ask(f, "PATCH / HTTP/1.1\r\n\r\n", NULL);
	assert_memory_equal(answer, "HTTP/1.1 405 \r\n", 15);
	free(answer);
}

/* The token that a PUT gives. */
static void get_token(struct fixture *f, const char *header,
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
	struct fixture *f = *state;
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

static void test_version_1_serves_with_a_bad_token_too(void **state)
{
	struct fixture *f = *state;

	assert_int_equal(configure(f, MMDS_V1, false, 0, "eth0", NULL), 0);
	assert_answer(f, "GET /zone HTTP/1.1\r\nX-metadata-token: bad\r\n\r\n",
		      200, "text/plain", "here");
	assert_int_equal(f->counters.rx_invalid_token.value, 1);
}

static void test_no_document_is_null(void **state)
{
	struct fixture *f = *state;
	struct mmds *full = f->mmds;

	assert_int_equal(mmds_create(&f->mmds, "x", LIMIT, &f->counters), 0);
	assert_int_equal(configure(f, MMDS_V1, false, 0, "eth0", NULL), 0);
	assert_answer(f, "GET / HTTP/1.1\r\nAccept: application/json\r\n\r\n",
		      200, "application/json", "null");
	assert_answer(f, "GET /a HTTP/1.1\r\n\r\n", 404, "text/plain",
		      "Resource not found: /a.");
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
	struct fixture *f = *state;
	uint64_t body;

	free(ask(f, "GET / HTTP/1.1\r\nContent-Length: 77\r\n\r\n", &body));
	assert_int_equal(body, 77);
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
	struct fixture *f = *state;

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
	struct fixture *f = *state;
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
#define CASE(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
	const struct CMUnitTest tests[] = {
		CASE(test_patch_merges),
		CASE(test_patch_needs_a_document),
		CASE(test_too_large_a_document_changes_nothing),
		CASE(test_configuration_is_checked),
		CASE(test_tokens_are_good_until_they_expire),
		CASE(test_tokens_cannot_be_changed),
		CASE(test_values_in_both_formats),
		CASE(test_accept_of_other_types_is_plain),
		CASE(test_imds_compat_is_plain_whatever_is_accepted),
		CASE(test_requests_that_are_refused),
		CASE(test_other_methods_say_what_is_allowed),
		CASE(test_version_2_wants_a_token),
		CASE(test_version_1_serves_with_a_bad_token_too),
		CASE(test_no_document_is_null),
		CASE(test_heads_are_cut_at_the_empty_line),
		CASE(test_bodies_are_announced_to_be_skipped),
		CASE(test_garbage_gets_an_answer),
		CASE(test_long_parts_do_no_harm),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
