/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Theory of operation.
 *
 * http_parser cuts the request up; what matters of it is kept in a struct
 * request. A handler by method fills in a struct reply, which is written out at
 * the end. Every error is a reply too, in plain text.
 */
#include "vmm/mmds_http.h"

#include "vmm/json_text.h"
#include "vmm/mmds_token.h"

#include <ctype.h>
#include <errno.h>
#include <http_parser.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#define TOKEN_PATH "/latest/api/token"

/* Candidates are at most this long. */
#define TOKEN_TEXT_MAX 70

#define HEADER_NAME_MAX 64

struct request {
	const char *uri; /* once read: the path in it */
	size_t uri_len;
	char path[MMDS_REQUEST_MAX + 1]; /* that in its simplest form */
	bool has_body;

	char name[HEADER_NAME_MAX + 1]; /* the header being read */
	size_t name_len;
	char value[MMDS_REQUEST_MAX + 1];
	size_t value_len;
	bool in_value;

	bool has_token, has_ttl, forwarded, wants_json;
	char token[TOKEN_TEXT_MAX + 2]; /* one too long stays too long */
	char ttl[24];
	const char *ttl_name; /* as it will be echoed */
};

struct reply {
	unsigned status;
	bool json; /* type of the content */
	char *body;
	const char *allow;
	const char *ttl_name, *ttl;
};

/* -------------------------------------------------------- reading requests */

/* As much as fits; what is longer is not valid anyway. */
static void keep(char *to, size_t size, const char *value)
{
	size_t len = strnlen(value, size - 1);

	memcpy(to, value, len);
	to[len] = '\0';
}

static void keep_token(struct request *request)
{
	request->has_token = true;
	keep(request->token, sizeof(request->token), request->value);
}

static void keep_ttl(struct request *request)
{
	request->has_ttl = true;
	keep(request->ttl, sizeof(request->ttl), request->value);
}

static void keep_ttl_plain(struct request *request)
{
	request->ttl_name = "x-metadata-token-ttl-seconds";
	keep_ttl(request);
}

static void keep_ttl_aws(struct request *request)
{
	request->ttl_name = "x-aws-ec2-metadata-token-ttl-seconds";
	keep_ttl(request);
}

static void keep_forwarded(struct request *request)
{
	request->forwarded = true;
}

static void keep_accept(struct request *request)
{
	if (strcmp(request->value, "application/json") == 0)
		request->wants_json = true;
}

static const struct {
	const char *name;
	void (*take)(struct request *request);
} headers[] = {
	{"X-metadata-token", keep_token},
	{"X-aws-ec2-metadata-token", keep_token},
	{"X-metadata-token-ttl-seconds", keep_ttl_plain},
	{"X-aws-ec2-metadata-token-ttl-seconds", keep_ttl_aws},
	{"X-Forwarded-For", keep_forwarded},
	{"Accept", keep_accept},
};

/* White space around a value is not part of it (RFC 9110, 5.5); the parser cuts
 * off only what is before it. */
static void trim(struct request *request)
{
	char *end = request->value + request->value_len;

	while (end > request->value && (end[-1] == ' ' || end[-1] == '\t'))
		end--;
	*end = '\0';
}

/* Name and value are complete. */
static void end_header(struct request *request)
{
	if (request->in_value)
		trim(request);
	for (size_t i = 0; i < ARRAY_SIZE(headers) && request->in_value; i++)
		if (strcasecmp(headers[i].name, request->name) == 0)
			headers[i].take(request);
	request->in_value = false;
	request->name_len = request->value_len = 0;
}

/* Appends what fits; a name that is too long is none of ours. */
static void append(char *text, size_t *len, size_t max, const char *at,
		   size_t n)
{
	n = MIN(n, max - *len);
	memcpy(text + *len, at, n);
	*len += n;
	text[*len] = '\0';
}

static int on_url(http_parser *parser, const char *at, size_t len)
{
	struct request *request = parser->data;

	/* All of the head is parsed at once, so it comes in one piece. */
	request->uri = at;
	request->uri_len = len;
	return 0;
}

static int on_field(http_parser *parser, const char *at, size_t len)
{
	struct request *request = parser->data;

	if (request->in_value)
		end_header(request);
	append(request->name, &request->name_len, HEADER_NAME_MAX, at, len);
	return 0;
}

static int on_value(http_parser *parser, const char *at, size_t len)
{
	struct request *request = parser->data;

	if (!request->in_value)
		request->value[0] = '\0';
	request->in_value = true;
	append(request->value, &request->value_len, MMDS_REQUEST_MAX, at, len);
	return 0;
}

/* The parser must not wait for a body. */
static int on_head(http_parser *parser)
{
	end_header(parser->data);
	http_parser_pause(parser, 1);
	return 0;
}

static const http_parser_settings settings = {
	.on_url = on_url,
	.on_header_field = on_field,
	.on_header_value = on_value,
	.on_headers_complete = on_head,
};

/* Leaves the path of the URI: what follows scheme and host. */
static void cut_host(struct request *request)
{
	static const char scheme[] = "http://";
	const char *from = request->uri, *end = from + request->uri_len;

	if (request->uri_len < sizeof(scheme) - 1 ||
	    strncasecmp(from, scheme, sizeof(scheme) - 1) != 0)
		return;
	from += sizeof(scheme) - 1;
	while (from < end && *from != '/')
		from++;
	request->uri = from;
	request->uri_len = (size_t)(end - from);
}

/* The path with single slashes, and without one at the end. */
static void simplify(struct request *request)
{
	char *to = request->path;

	for (size_t i = 0; i < request->uri_len; i++)
		if (request->uri[i] != '/' || to == request->path ||
		    to[-1] != '/')
			*to++ = request->uri[i];
	if (to > request->path + 1 && to[-1] == '/')
		to--;
	*to = '\0';
}

size_t mmds_http_head_len(const char *data, size_t len)
{
	const char *end = memmem(data, len, "\r\n\r\n", 4);

	return end ? (size_t)(end - data) + 4 : 0;
}

/* ----------------------------------------------------------------- replies */

static void say(struct reply *reply, unsigned status, const char *fmt, ...)
	printf_like(3, 4);

static void say(struct reply *reply, unsigned status, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	reply->status = status;
	if (vasprintf(&reply->body, fmt, ap) < 0)
		reply->body = NULL;
	va_end(ap);
}

/* Names the path as it was asked for. */
static void not_found(struct reply *reply, const struct request *request)
{
	say(reply, 404, "Resource not found: %.*s.", (int)request->uri_len,
	    request->uri);
}

/* What both methods ask of a request. */
static bool is_proper(const struct request *request, struct reply *reply)
{
	if (request->has_body)
		say(reply, 400, "Invalid request.");
	else if (!request->path[0])
		say(reply, 400, "Invalid URI.");
	else
		return true;
	return false;
}

/* -------------------------------------------------------------- GET: a value
 */

/* RFC 6901, section 4: digits without leading zeros. */
static json_t *array_item(json_t *array, const char *name)
{
	char *end;
	unsigned long index;

	if (!isdigit((unsigned char)name[0]) || (name[0] == '0' && name[1]))
		return NULL;
	index = strtoul(name, &end, 10);
	return *end || json_text_is_uint(array) ? NULL
						: json_array_get(array, index);
}

/* The same section: ~1 stands for a slash, ~0 for a tilde. */
static void unescape(char *name)
{
	char *to = name;

	for (; *name; name++) {
		bool escaped =
			name[0] == '~' && (name[1] == '0' || name[1] == '1');

		if (escaped)
			name++;
		*to++ = !escaped ? *name : *name == '1' ? '/' : '~';
	}
	*to = '\0';
}

/* What a path like /a/b/0 names. */
static json_t *look_up(json_t *value, const char *path)
{
	char names[MMDS_REQUEST_MAX + 1];
	char *save = NULL;

	snprintf(names, sizeof(names), "%s", path);
	for (char *name = strtok_r(names, "/", &save); name && value;
	     name = strtok_r(NULL, "/", &save)) {
		unescape(name);
		value = json_is_array(value) ? array_item(value, name)
					     : json_object_get(value, name);
	}
	return value;
}

/* Keys, one a line; those of objects end in a slash. They are in order, as in
 * all of the document. NULL without memory. */
static char *list_keys(json_t *object)
{
	const char *key;
	json_t *value;
	size_t len = 1;
	char *text, *to;

	json_object_foreach(object, key, value) len += strlen(key) + 2;
	text = to = malloc(len);
	if (!text)
		return NULL;
	*to = '\0';
	json_object_foreach(object, key, value)
	{
		if (to > text)
			*to++ = '\n';
		to = stpcpy(to, key);
		to = stpcpy(to, json_is_object(value) ? "/" : "");
	}
	return text;
}

/* The plain format of instance metadata services. */
static void reply_plain(struct reply *reply, json_t *value)
{
	reply->status = 200;
	if (json_is_object(value))
		reply->body = list_keys(value);
	else if (json_is_string(value))
		reply->body = strdup(json_string_value(value));
	else
		say(reply, 501,
		    "Cannot retrieve value. The value has an unsupported "
		    "type.");
	reply->json = reply->json && reply->status == 200;
}

static bool may_get(struct mmds *mmds, const struct request *request,
		    struct reply *reply)
{
	struct mmds_metrics *metrics = mmds_metrics(mmds);
	bool valid = request->has_token &&
		     mmds_token_valid(mmds_tokens(mmds), request->token);

	if (!request->has_token)
		metric_inc(&metrics->rx_no_token);
	else if (!valid)
		metric_inc(&metrics->rx_invalid_token);
	if (valid || mmds_config(mmds)->version == MMDS_V1)
		return true;
	if (request->has_token)
		say(reply, 401, "MMDS token not valid.");
	else
		say(reply, 401,
		    "No MMDS token provided. Use `X-metadata-token` or "
		    "`X-aws-ec2-metadata-token` header to specify the session "
		    "token.");
	return false;
}

static void answer_get(struct mmds *mmds, const struct request *request,
		       struct reply *reply)
{
	json_t *document = mmds_document(mmds);
	json_t *value;
	json_t *none = json_null();

	if (!is_proper(request, reply) || !may_get(mmds, request, reply))
		return;
	value = look_up(document ? document : none, request->path);
	if (!value) {
		not_found(reply, request);
		return;
	}
	reply->json = request->wants_json;
	if (!request->wants_json || mmds_config(mmds)->imds_compat) {
		reply_plain(reply, value);
		return;
	}
	reply->status = 200;
	reply->body = json_text(value);
}

/* -------------------------------------------------------------- PUT: a token
 */

static void answer_put(struct mmds *mmds, const struct request *request,
		       struct reply *reply)
{
	char token[MMDS_TOKEN_LEN + 1];
	unsigned long ttl;
	char *end;

	if (!is_proper(request, reply))
		return;
	if (request->forwarded) {
		say(reply, 400,
		    "Invalid header. Reason: Unsupported header name. Key: "
		    "X-Forwarded-For");
		return;
	}
	if (strcmp(request->path, TOKEN_PATH) != 0) {
		not_found(reply, request);
		return;
	}
	if (!request->has_ttl) {
		say(reply, 400,
		    "Token time to live value not found. Use "
		    "`X-metadata-token-ttl-seconds` or "
		    "`X-aws-ec2-metadata-token-ttl-seconds` header to specify "
		    "the token's lifetime.");
		return;
	}
	ttl = strtoul(request->ttl, &end, 10);
	if (!isdigit((unsigned char)request->ttl[0]) || *end) {
		say(reply, 400,
		    "Invalid header. Reason: Invalid value. Key:%s; Value:%s",
		    request->ttl_name, request->ttl);
		return;
	}
	if (ttl < MMDS_TOKEN_TTL_MIN || ttl > MMDS_TOKEN_TTL_MAX) {
		say(reply, 400,
		    "Invalid time to live value provided for token: %lu. "
		    "Please provide a value between %d and %d.",
		    ttl, MMDS_TOKEN_TTL_MIN, MMDS_TOKEN_TTL_MAX);
		return;
	}
	if (mmds_token_make(mmds_tokens(mmds), (uint32_t)ttl, token)) {
		say(reply, 500, "No randomness for a token.");
		return;
	}
	reply->ttl_name = request->ttl_name;
	reply->ttl = request->ttl;
	say(reply, 200, "%s", token);
}

/* ------------------------------------------------------------ all together */

static void answer_other(struct mmds *mmds, const struct request *request,
			 struct reply *reply)
{
	(void)mmds;
	(void)request;
	reply->allow = "GET, PUT";
	say(reply, 405, "Not allowed HTTP method.");
}

static const struct {
	unsigned method;
	void (*answer)(struct mmds *mmds, const struct request *request,
		       struct reply *reply);
} methods[] = {
	{HTTP_GET, answer_get},
	{HTTP_PUT, answer_put},
	{HTTP_PATCH, answer_other},
	{HTTP_DELETE, answer_other},
};

static void answer_method(struct mmds *mmds, unsigned method,
			  const struct request *request, struct reply *reply)
{
	for (size_t i = 0; i < ARRAY_SIZE(methods); i++)
		if (methods[i].method == method)
			methods[i].answer(mmds, request, reply);
}

static bool method_known(unsigned method)
{
	for (size_t i = 0; i < ARRAY_SIZE(methods); i++)
		if (methods[i].method == method)
			return true;
	return false;
}

/* What is wrong with the head of a request; false if nothing is. */
static bool refuse_head(const http_parser *parser, struct reply *reply)
{
	unsigned error = HTTP_PARSER_ERRNO(parser);

	if (error == HPE_INVALID_METHOD || !method_known(parser->method))
		say(reply, 501,
		    "Invalid HTTP Method: Unsupported HTTP method.");
	else if (error == HPE_INVALID_VERSION ||
		 (error == HPE_PAUSED &&
		  (parser->http_major != 1 || parser->http_minor > 1)))
		say(reply, 501,
		    "Invalid HTTP Version: Unsupported HTTP version.");
	else if (error == HPE_INVALID_URL)
		say(reply, 400, "Invalid URI.");
	else if (error != HPE_PAUSED)
		say(reply, 400, "Invalid request.");
	else
		return false;
	return true;
}

static void answer_request(struct mmds *mmds, const http_parser *parser,
			   struct request *request, struct reply *reply,
			   uint64_t *ret_body)
{
	if (HTTP_PARSER_ERRNO(parser) == HPE_PAUSED &&
	    parser->content_length != UINT64_MAX)
		*ret_body = parser->content_length;
	if (refuse_head(parser, reply))
		return;
	request->has_body = *ret_body != 0;
	cut_host(request);
	simplify(request);
	answer_method(mmds, parser->method, request, reply);
}

/* The one header that some replies have more. */
static void write_extra_header(const struct reply *reply, char *line,
			       size_t size)
{
	line[0] = '\0';
	if (reply->allow)
		snprintf(line, size, "Allow: %s\r\n", reply->allow);
	else if (reply->ttl)
		snprintf(line, size, "%s: %s\r\n", reply->ttl_name, reply->ttl);
}

static char *write_reply(const struct reply *reply, unsigned minor,
			 size_t *ret_len)
{
	char extra[96], *text;
	int len;

	if (!reply->body)
		return NULL;
	write_extra_header(reply, extra, sizeof(extra));
	len = asprintf(&text,
		       "HTTP/1.%u %u \r\n"
		       "Server: Firecracker API\r\n"
		       "Connection: keep-alive\r\n"
		       "%sContent-Type: %s\r\n"
		       "Content-Length: %zu\r\n\r\n"
		       "%s",
		       minor, reply->status, extra,
		       reply->json ? "application/json" : "text/plain",
		       strlen(reply->body), reply->body);
	if (len < 0)
		return NULL;
	*ret_len = (size_t)len;
	return text;
}

char *mmds_http_answer(struct mmds *mmds, const char *data, size_t len,
		       size_t *ret_len, uint64_t *ret_body)
{
	struct request request = {0};
	struct reply reply = {0};
	http_parser parser;
	unsigned minor;
	char *text;

	*ret_body = 0;
	http_parser_init(&parser, HTTP_REQUEST);
	parser.data = &request;
	http_parser_execute(&parser, &settings, data, len);
	answer_request(mmds, &parser, &request, &reply, ret_body);
	minor = parser.http_major == 1 && parser.http_minor == 0 ? 0 : 1;
	text = write_reply(&reply, minor, ret_len);
	free(reply.body);
	return text;
}
