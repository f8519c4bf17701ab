/* SPDX-License-Identifier: Apache-2.0 */
#include "api/wire.h"

#include <setjmp.h>
#include <stdarg.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#define NO_CONTENT                                                             \
	"HTTP/1.1 204 \r\nServer: Firecracker API\r\n"                         \
	"Connection: keep-alive\r\n\r\n"

static void test_rewrite_gives_the_head_clients_expect(void **state)
{
	static const struct {
		const char *before, *after;
	} cases[] = {
		{"HTTP/1.1 204 No Content\r\n\r\n", NO_CONTENT},
		{"HTTP/1.1 200 OK\r\nDeprecation: true\r\nContent-Type: a\r\n"
		 "Date: today\r\nContent-Length: 3\r\n\r\n",
		 "HTTP/1.1 200 \r\nServer: Firecracker API\r\n"
		 "Connection: keep-alive\r\nDeprecation: true\r\n"
		 "Content-Type: a\r\nContent-Length: 3\r\n\r\n"},
		{"HTTP/1.0 400 Bad Request\r\nConnection: close\r\n\r\n",
		 "HTTP/1.1 400 \r\nServer: Firecracker API\r\n"
		 "Connection: close\r\n\r\n"},
	};
	char out[API_WIRE_HEAD_MAX];

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		size_t len = api_wire_rewrite(cases[i].before,
					      strlen(cases[i].before), out,
					      sizeof(out));

		assert_int_equal(len, strlen(cases[i].after));
		assert_memory_equal(out, cases[i].after, len);
	}
	assert_int_equal(strlen(NO_CONTENT), 66);
}

static void test_rewrite_leaves_other_bytes_alone(void **state)
{
	char out[64];

	(void)state;
	assert_int_equal(api_wire_rewrite("{}", 2, out, sizeof(out)), 0);
	assert_int_equal(api_wire_rewrite("HTTP/1.1 200\r\n", 14, out, 10), 0);
}

static void test_sendmsg_sends_head_and_body_at_once(void **state)
{
	char head[] = "HTTP/1.1 200 OK\r\n\r\n", body[] = "{}", got[256];
	struct iovec iov[] = {{head, sizeof(head) - 1}, {body, 2}};
	const struct msghdr msg = {.msg_iov = iov, .msg_iovlen = 2};
	int ends[2];
	ssize_t n;

	(void)state;
	assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, ends), 0);
	/* The library is told about its own bytes, not ours. */
	assert_int_equal(api_wire_sendmsg(ends[0], &msg, 0),
			 (ssize_t)sizeof(head) + 1);
	n = read(ends[1], got, sizeof(got));
	assert_int_equal(n, 66 + 2);
	assert_memory_equal(got + n - 4, "\r\n{}", 4);
	close(ends[1]);
	assert_int_equal(api_wire_send(ends[0], head, sizeof(head) - 1, 0), -1);
	close(ends[0]);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_rewrite_gives_the_head_clients_expect),
		cmocka_unit_test(test_rewrite_leaves_other_bytes_alone),
		cmocka_unit_test(test_sendmsg_sends_head_and_body_at_once),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
