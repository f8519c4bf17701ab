/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Theory of operation.
 *
 * We accept, libmicrohttpd speaks HTTP. One thread waits in select for the
 * listening socket, for the connections (at most ten) and for the word to stop.
 * select, because the library's epoll mode is edge-triggered and misses the end
 * of a connection that was half-closed before it was accepted. Accepting
 * ourselves lets us turn away what is one connection too many with the exact
 * bytes clients expect, and use a Unix socket.
 *
 * A request comes in pieces: handle_access is called once when the head is
 * there, again for parts of the body, and once more at the end. The pieces are
 * gathered in a struct request, then routed. Requests of all connections run
 * one after the other.
 */
#include "api/server.h"

#include "api/router.h"
#include "vmm/log.h"
#include "vmm/seccomp.h"

#include <errno.h>
#include <fcntl.h>
#include <microhttpd.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <sys/select.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#define CONNECTIONS_MAX 10
#define BACKLOG 128
#define CONNECTION_MEMORY KIB(8)

/* jansson recurses: this is for its deepest nesting (2048). */
#define STACK_SIZE MIB(1)

/* A body over the limit is read and dropped up to here, so that the connection
 * can be used again; a longer one costs the connection. */
#define DRAIN_MAX MIB(1)

/* How long clients wait when there are no descriptors to accept them. */
#define ACCEPT_PAUSE_NS UINT64_C(100000000)

#define REQUEST_LINE_MAX 1024
#define HEADER_LINE_MAX 1024

static const char too_many[] = "HTTP/1.1 503\r\n"
			       "Server: Firecracker API\r\n"
			       "Connection: close\r\n"
			       "Content-Length: 40\r\n\r\n"
			       "{ \"error\": \"Too many open connections\" }";

struct api_server {
	struct vmm *vmm;
	size_t max_payload;
	const struct seccomp_filters *filters;
	int listen_fd, stop_fd;
	int low[CONNECTIONS_MAX]; /* numbers kept for clients; -1: in use */
	struct MHD_Daemon *daemon;
	unsigned connections;
	uint64_t accept_at_ns; /* not before; 0: at any time */
	pthread_t thread;
	bool started;
};

/* One request being received. */
struct request {
	char *path;
	char *body;
	size_t body_len, body_size;
	uint64_t announced; /* Content-Length */
	bool seen;	    /* handle_access was called before */
	bool too_large;
};

/* ------------------------------------------------------------- one request */

/* The library's first word of a request: the path as it was sent. What is
 * returned comes back as *context. */
static void *begin_request(void *arg, const char *uri,
			   struct MHD_Connection *connection)
{
	struct request *request = calloc(1, sizeof(*request));

	(void)arg;
	(void)connection;
	if (request)
		request->path = strdup(uri);
	return request;
}

static void end_request(void *arg, struct MHD_Connection *connection,
			void **context, enum MHD_RequestTerminationCode code)
{
	struct request *request = *context;

	(void)arg;
	(void)connection;
	(void)code;
	if (!request)
		return;
	free(request->path);
	free(request->body);
	free(request);
	*context = NULL;
}

static uint64_t content_length(struct MHD_Connection *connection)
{
	const char *text = MHD_lookup_connection_value(
		connection, MHD_HEADER_KIND, MHD_HTTP_HEADER_CONTENT_LENGTH);

	return text ? strtoull(text, NULL, 10) : 0;
}

static enum MHD_Result append_body(const struct api_server *server,
				   struct request *request, const char *data,
				   size_t len)
{
	size_t size = request->body_len + len;
	char *grown;

	if (request->too_large || size > server->max_payload) {
		request->too_large = true;
		request->announced = MAX(request->announced, size);
		return MHD_YES;
	}
	if (size > request->body_size) {
		size = MIN(2 * size, server->max_payload);
		grown = realloc(request->body, size);
		if (!grown)
			return MHD_NO;
		request->body = grown;
		request->body_size = size;
	}
	memcpy(request->body + request->body_len, data, len);
	request->body_len += len;
	return MHD_YES;
}

static enum MHD_Result send_response(struct MHD_Connection *connection,
				     struct api_response *response)
{
	static char nothing[1];
	size_t len = response->body ? strlen(response->body) : 0;
	struct MHD_Response *answer = MHD_create_response_from_buffer(
		len, response->body ? response->body : nothing,
		response->body ? MHD_RESPMEM_MUST_FREE
			       : MHD_RESPMEM_PERSISTENT);
	enum MHD_Result ret;

	if (!answer) {
		free(response->body);
		return MHD_NO;
	}
	if (response->deprecated)
		MHD_add_response_header(answer, "Deprecation", "true");
	if (len)
		MHD_add_response_header(answer, MHD_HTTP_HEADER_CONTENT_TYPE,
					"application/json");
	ret = MHD_queue_response(connection, response->status, answer);
	MHD_destroy_response(answer);
	return ret;
}

static enum MHD_Result refuse(struct MHD_Connection *connection,
			      const char *why)
{
	struct api_response response = {0};

	api_refuse(why, &response);
	return send_response(connection, &response);
}

static bool method_supported(const char *method)
{
	static const char *const methods[] = {"GET", "PUT", "PATCH", "DELETE"};

	for (size_t i = 0; i < ARRAY_SIZE(methods); i++)
		if (strcmp(methods[i], method) == 0)
			return true;
	return false;
}

static enum MHD_Result refuse_size(const struct api_server *server,
				   struct MHD_Connection *connection,
				   const struct request *request)
{
	char why[160];

	snprintf(why, sizeof(why),
		 "Request payload with size %lu is larger than the limit of "
		 "%zu allowed by server.",
		 (unsigned long)request->announced, server->max_payload);
	return refuse(connection, why);
}

/* An iterator over headers: @arg is set when one is too long. */
static enum MHD_Result measure_header(void *arg, enum MHD_ValueKind kind,
				      const char *key, const char *value)
{
	bool *too_long = arg;

	(void)kind;
	*too_long |= strlen(key) + (value ? strlen(value) : 0) >
		     HEADER_LINE_MAX - 4; /* colon, space, line end */
	return MHD_YES;
}

static bool has_long_header(struct MHD_Connection *connection)
{
	bool too_long = false;

	MHD_get_connection_values(connection, MHD_HEADER_KIND, measure_header,
				  &too_long);
	return too_long;
}

static enum MHD_Result answer(const struct api_server *server,
			      struct MHD_Connection *connection,
			      const char *method, const struct request *request)
{
	const struct api_request api = {
		.method = method,
		.path = request->path,
		.body = request->body ? request->body : "",
		.body_len = request->body_len,
	};
	struct api_response response;

	if (request->too_large)
		return refuse_size(server, connection, request);
	if (!method_supported(method))
		return refuse(connection,
			      "Invalid HTTP Method: Unsupported HTTP method.");
	if (strlen(method) + strlen(request->path) > REQUEST_LINE_MAX - 12 ||
	    has_long_header(connection))
		return refuse(connection, "Invalid request.");
	api_route(server->vmm, &api, &response);
	return send_response(connection, &response);
}

static enum MHD_Result begin_body(const struct api_server *server,
				  struct MHD_Connection *connection,
				  const char *version, struct request *request)
{
	request->seen = true;
	request->announced = content_length(connection);
	request->too_large = request->announced > server->max_payload;
	if (request->announced > DRAIN_MAX && request->too_large)
		return refuse_size(server, connection, request);
	/* Connections stay open for old clients as well. */
	if (strcmp(version, MHD_HTTP_VERSION_1_0) == 0)
		return MHD_set_connection_value(connection, MHD_HEADER_KIND,
						MHD_HTTP_HEADER_CONNECTION,
						"Keep-Alive");
	return MHD_YES;
}

static enum MHD_Result handle_access(void *arg,
				     struct MHD_Connection *connection,
				     const char *url, const char *method,
				     const char *version, const char *data,
				     size_t *data_len, void **context)
{
	const struct api_server *server = arg;
	struct request *request = *context;
	enum MHD_Result ret;

	(void)url;
	if (!request || !request->path)
		return MHD_NO;
	if (!request->seen)
		return begin_body(server, connection, version, request);
	if (*data_len == 0)
		return answer(server, connection, method, request);
	ret = append_body(server, request, data, *data_len);
	*data_len = 0;
	return ret;
}

/* ------------------------------------------------------------- connections */

static void count_connection(void *arg, struct MHD_Connection *connection,
			     void **context,
			     enum MHD_ConnectionNotificationCode code)
{
	struct api_server *server = arg;

	(void)connection;
	(void)context;
	if (code == MHD_CONNECTION_NOTIFY_STARTED)
		server->connections++;
	else
		server->connections--;
}

static void turn_away(int fd)
{
	/* Whether it arrives is the client's business. */
	ssize_t n = send(fd, too_many, sizeof(too_many) - 1,
			 MSG_NOSIGNAL | MSG_DONTWAIT);

	if (n < 0)
		log_debug("A client left before it was turned away");
	close_fd(&fd);
}

/* The client stays in the queue, and the socket readable: it is left alone for
 * a while, or the thread would do nothing but try. */
static void pause_accepting(struct api_server *server, int error)
{
	if (error != EMFILE && error != ENFILE && error != ENOMEM &&
	    error != ENOBUFS)
		return;
	if (!server->accept_at_ns)
		log_error("Cannot accept clients of the API: %s (os error %d)",
			  os_error_text(error), error);
	server->accept_at_ns = monotonic_ns() + ACCEPT_PAUSE_NS;
}

/* select takes numbers below FD_SETSIZE only, and a socket device may hold as
 * many connections: numbers for our clients are kept by duplicates of a
 * descriptor. With a limit of descriptors that low there is no need. */
static void keep_low_numbers(struct api_server *server)
{
	struct rlimit limit;

	if (getrlimit(RLIMIT_NOFILE, &limit) || limit.rlim_cur <= FD_SETSIZE)
		return;
	for (size_t i = 0; i < ARRAY_SIZE(server->low); i++) {
		if (server->low[i] >= 0)
			continue;
		server->low[i] = fcntl(server->stop_fd, F_DUPFD_CLOEXEC, 0);
		if (server->low[i] >= FD_SETSIZE)
			close_fd(&server->low[i]);
		if (server->low[i] < 0)
			return;
	}
}

/* The same client under a number that select takes; or as it was. */
static int lower(struct api_server *server, int fd)
{
	for (size_t i = 0; i < ARRAY_SIZE(server->low); i++) {
		int low = server->low[i];

		if (fd < FD_SETSIZE)
			break;
		if (low < 0 || dup3(fd, low, O_CLOEXEC) < 0)
			continue;
		close_fd(&fd);
		server->low[i] = -1;
		fd = low;
	}
	return fd;
}

static void accept_client(struct api_server *server)
{
	struct sockaddr_un addr;
	socklen_t len = sizeof(addr);
	int fd = accept4(server->listen_fd, (struct sockaddr *)&addr, &len,
			 SOCK_NONBLOCK | SOCK_CLOEXEC);

	if (fd < 0) {
		pause_accepting(server, errno);
		return;
	}
	server->accept_at_ns = 0;
	fd = lower(server, fd);
	if (server->connections >= CONNECTIONS_MAX || fd >= FD_SETSIZE) {
		turn_away(fd);
		return;
	}
	if (MHD_add_connection(server->daemon, fd, (struct sockaddr *)&addr,
			       len) != MHD_YES)
		log_error("Cannot serve a connection to the API");
}

/* Milliseconds until clients are accepted again, rounded up. */
static uint64_t pause_left(const struct api_server *server)
{
	uint64_t now = server->accept_at_ns ? monotonic_ns() : 0;

	return now < server->accept_at_ns
		       ? (server->accept_at_ns - now + 999999) / 1000000
		       : 0;
}

/* What to wait for, and for how long; returns what select returns. */
static int wait_for_work(const struct api_server *server, fd_set *reads,
			 fd_set *writes, fd_set *errors)
{
	int highest = MAX(server->listen_fd, server->stop_fd);
	uint64_t pause = pause_left(server);
	MHD_UNSIGNED_LONG_LONG ms;
	struct timeval timeout;

	FD_ZERO(reads);
	FD_ZERO(writes);
	FD_ZERO(errors);
	MHD_get_fdset(server->daemon, reads, writes, errors, &highest);
	if (!pause)
		FD_SET(server->listen_fd, reads);
	FD_SET(server->stop_fd, reads);
	if (MHD_get_timeout(server->daemon, &ms) != MHD_YES)
		ms = UINT64_MAX;
	if (pause)
		ms = MIN(ms, pause);
	timeout = (struct timeval){
		.tv_sec = (time_t)(ms / 1000),
		.tv_usec = (suseconds_t)(ms % 1000 * 1000),
	};
	return select(highest + 1, reads, writes, errors,
		      ms == UINT64_MAX ? NULL : &timeout);
}

static void *serve(void *arg)
{
	struct api_server *server = arg;
	fd_set reads, writes, errors;

	if (seccomp_enter_as(server->filters, SECCOMP_API, "ember_api")) {
		vmm_stop(server->vmm, EXIT_FAILURE,
			 "the API thread cannot be filtered");
		return NULL;
	}
	log_info("API server started.");
	keep_low_numbers(server);
	for (;;) {
		if (wait_for_work(server, &reads, &writes, &errors) < 0)
			continue;
		if (FD_ISSET(server->stop_fd, &reads))
			return NULL;
		if (FD_ISSET(server->listen_fd, &reads))
			accept_client(server);
		MHD_run_from_select(server->daemon, &reads, &writes, &errors);
		keep_low_numbers(server);
	}
}

/* -------------------------------------------------------------- life cycle */

static int socket_error(const char *path, int code, struct error *err)
{
	return error_set(err, code,
			 "Failed to open the API socket at: %.512s. Check that "
			 "it is not already used.",
			 path);
}

int api_server_check(const struct api_options *options, struct error *err)
{
	struct stat st;

	if (lstat(options->socket_path, &st))
		return 0;
	return socket_error(options->socket_path, EADDRINUSE, err);
}

static int bind_socket(const char *path, struct error *err)
{
	struct sockaddr_un addr = {.sun_family = AF_UNIX};
	AUTO_CLOSE int fd = -1;

	if (strlen(path) < sizeof(addr.sun_path)) {
		strcpy(addr.sun_path, path);
		fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC,
			    0);
	}
	if (fd < 0 || bind(fd, (struct sockaddr *)&addr, sizeof(addr)) ||
	    listen(fd, BACKLOG))
		return socket_error(path, fd < 0 ? ENAMETOOLONG : errno, err);
	return take_fd(&fd);
}

static struct MHD_Daemon *start_library(struct api_server *server)
{
	return MHD_start_daemon(
		MHD_USE_NO_LISTEN_SOCKET | MHD_USE_SUPPRESS_DATE_NO_CLOCK, 0,
		NULL, NULL, handle_access, server, MHD_OPTION_URI_LOG_CALLBACK,
		begin_request, (void *)NULL, MHD_OPTION_NOTIFY_COMPLETED,
		end_request, (void *)NULL, MHD_OPTION_NOTIFY_CONNECTION,
		count_connection, server, MHD_OPTION_CONNECTION_LIMIT,
		CONNECTIONS_MAX + 1u, MHD_OPTION_CONNECTION_MEMORY_LIMIT,
		(size_t)CONNECTION_MEMORY, MHD_OPTION_END);
}

static int set_up(struct api_server *server)
{
	server->stop_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (server->stop_fd < 0)
		return -errno;
	server->daemon = start_library(server);
	return server->daemon ? 0 : -ENOMEM;
}

static int start_thread(struct api_server *server)
{
	pthread_attr_t attr;
	int ret;

	pthread_attr_init(&attr);
	pthread_attr_setstacksize(&attr, STACK_SIZE);
	ret = pthread_create(&server->thread, &attr, serve, server);
	pthread_attr_destroy(&attr);
	server->started = ret == 0;
	return -ret;
}

int api_server_start(struct api_server **ret_server, struct vmm *vmm,
		     const struct api_options *options, struct error *err)
{
	struct api_server *server = calloc(1, sizeof(*server));
	int ret;

	if (!server)
		return error_set_os(err, ENOMEM, "Cannot start the API:");
	server->vmm = vmm;
	server->max_payload = options->max_payload;
	server->filters = options->filters;
	server->stop_fd = -1;
	for (size_t i = 0; i < ARRAY_SIZE(server->low); i++)
		server->low[i] = -1;
	server->listen_fd = bind_socket(options->socket_path, err);
	if (server->listen_fd < 0) {
		ret = server->listen_fd;
		api_server_stop(server);
		return ret;
	}
	log_info("Listening on API socket (\"%s\").", options->socket_path);
	ret = set_up(server);
	if (!ret)
		ret = start_thread(server);
	if (ret) {
		api_server_stop(server);
		return error_set_os(err, -ret, "Cannot start the API:");
	}
	*ret_server = server;
	return 0;
}

void api_server_stop(struct api_server *server)
{
	const uint64_t one = 1;

	if (!server)
		return;
	if (server->started &&
	    write(server->stop_fd, &one, sizeof(one)) == sizeof(one))
		pthread_join(server->thread, NULL);
	if (server->daemon)
		MHD_stop_daemon(server->daemon);
	for (size_t i = 0; i < ARRAY_SIZE(server->low); i++)
		close_fd(&server->low[i]);
	close_fd(&server->listen_fd);
	close_fd(&server->stop_fd);
	free(server);
}
