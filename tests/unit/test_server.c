/* SPDX-License-Identifier: Apache-2.0 */
#include "api/server.h"
#include "tests/fake/vmm.h"
#include "vmm/log.h"

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/select.h>
#include <sys/socket.h>
#include <sys/un.h>

#include <cmocka.h>

#define CLIENTS 10
#define REQUEST "GET /version HTTP/1.1\r\n\r\n"
#define OK "HTTP/1.1 200 "
#define TOO_MANY "HTTP/1.1 503\r\n"

struct fixture {
	struct api_server *server;
	char directory[32], path[48];
	int fillers[2 * FD_SETSIZE]; /* of descriptor numbers */
	size_t filler_count;
};

static int setup(void **state)
{
	const struct log_config quiet = {.level = LOG_LEVEL_OFF};
	const struct rlimit limit = {2 * FD_SETSIZE, 2 * FD_SETSIZE};
	struct fixture *f = calloc(1, sizeof(*f));
	struct error err = {0};

	assert_non_null(f);
	assert_int_equal(log_configure(&quiet, NULL), 0);
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &limit), 0);
	strcpy(f->directory, "/tmp/ember-server-XXXXXX");
	assert_non_null(mkdtemp(f->directory));
	snprintf(f->path, sizeof(f->path), "%s/s", f->directory);
	const struct api_options options = {.socket_path = f->path,
					    .max_payload = 1000};
	assert_int_equal(
		api_server_start(&f->server, fake_vmm_get(), &options, &err),
		0);
	*state = f;
	return 0;
}

static int teardown(void **state)
{
	struct fixture *f = *state;

	for (size_t i = 0; i < f->filler_count; i++)
		close_fd(&f->fillers[i]);
	api_server_stop(f->server);
	unlink(f->path);
	rmdir(f->directory);
	free(f);
	return 0;
}

static int connect_client(struct fixture *f)
{
	struct sockaddr_un addr = {.sun_family = AF_UNIX};
	const struct timeval patience = {.tv_sec = 20};
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	assert_true(fd >= 0);
	snprintf(addr.sun_path, sizeof(addr.sun_path), "%s", f->path);
	assert_int_equal(connect(fd, (struct sockaddr *)&addr, sizeof(addr)),
			 0);
	assert_int_equal(setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience,
				    sizeof(patience)),
			 0);
	return fd;
}

/* Asks; does the answer begin so? One that is turned away may find that nobody
 * listens to it. */
static bool ask(int fd, const char *head)
{
	char answer[512];
	ssize_t n = send(fd, REQUEST, sizeof(REQUEST) - 1, MSG_NOSIGNAL);

	assert_true(n > 0 || errno == EPIPE);
	n = recv(fd, answer, sizeof(answer), 0);
	return n > 0 && strncmp(answer, head, strlen(head)) == 0;
}

/*
 * A client that is served, on a number that is none of the server's. For a
 * moment it has one of those all the same, since client and server are one
 * process here: then the server may turn it away, and it asks again.
 */
static int served_client(struct fixture *f)
{
	for (int attempt = 0; attempt < 1000; attempt++) {
		int low = connect_client(f);
		int fd = fcntl(low, F_DUPFD_CLOEXEC, FD_SETSIZE);

		close_fd(&low);
		assert_true(fd >= 0);
		if (ask(fd, OK))
			return fd;
		close_fd(&fd);
	}
	fail();
	return -1;
}

static void wait_for_service(struct fixture *f)
{
	int fd = served_client(f);

	close_fd(&fd);
}

/* Takes all numbers below @end that are free. */
static void fill(struct fixture *f, int end)
{
	int fd;

	while ((fd = fcntl(STDERR_FILENO, F_DUPFD_CLOEXEC, 0)) < end) {
		assert_true(fd >= 0);
		f->fillers[f->filler_count++] = fd;
	}
	close_fd(&fd);
}

static void test_server_clients_beyond_what_select_takes(void **state)
{
	struct fixture *f = *state;
	int clients[CLIENTS + 1];

	wait_for_service(f);
	fill(f, FD_SETSIZE + 10);
	for (int round = 0; round < 3; round++) {
		wait_for_service(f);
		for (size_t i = 0; i < CLIENTS; i++)
			clients[i] = served_client(f);
		clients[CLIENTS] = connect_client(f);
		assert_true(ask(clients[CLIENTS], TOO_MANY));
		for (size_t i = 0; i <= CLIENTS; i++)
			close_fd(&clients[i]);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(
			test_server_clients_beyond_what_select_takes, setup,
			teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
