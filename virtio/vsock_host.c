/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The host's side: a listening Unix socket on which clients ask for a port of
 * the guest, and the sockets <path>_<port> that guests reach. Nothing here
 * waits: a line that is not there yet is looked for again when more comes, a
 * full backlog is tried again from a timer.
 */
#include "virtio/vsock_device.h"
#include "vmm/log.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <sys/un.h>

#define BACKLOG 128
#define ACCEPTS_PER_TURN 16
#define NS_PER_MS UINT64_C(1000000)

/* Without descriptors or memory for another connection: when to try again. */
#define LISTEN_PAUSE_NS (100 * NS_PER_MS)
#define RETRY_NS (10 * NS_PER_MS)

/* "CONNECT 4294967295\n", with some room for spaces. */
#define GREETING_MAX 32

/*
 * The API's thread waits with select, which knows descriptors up to 1023 only.
 * Connections are what there may be many of: they make room for it.
 */
#define LOW_FDS 1024
#define LOW_FDS_FOR_CONNECTIONS 512

/* Takes @fd and returns the one to use; -1: there is none to spare. */
static int keep_low_fds_free(int fd)
{
	int high;

	if (fd < LOW_FDS_FOR_CONNECTIONS || fd >= LOW_FDS)
		return fd;
	high = fcntl(fd, F_DUPFD_CLOEXEC, LOW_FDS);
	close_fd(&fd);
	return high;
}

/* --------------------------------------------------------------- listening */

static void accept_clients(struct vsock *vsock)
{
	for (int i = 0; i < ACCEPTS_PER_TURN; i++) {
		int fd = accept4(vsock->listener.fd, NULL, NULL,
				 SOCK_NONBLOCK | SOCK_CLOEXEC);
		struct conn *conn;

		if (fd < 0 && (errno == EAGAIN || errno == EINTR ||
			       errno == ECONNABORTED))
			return;
		if (fd < 0) {
			/* The client stays in the backlog. Waiting for it
			 * would be an endless loop of failures. */
			log_guest("vsock: cannot accept: %s (os error %d)",
				  os_error_text(errno), errno);
			metric_inc(&vsock->metrics->muxer_event_fails);
			if (loop_modify(&vsock->listener, 0))
				log_error("vsock: cannot stop listening");
			loop_timer_arm(vsock->dev.loop, &vsock->listen_timer,
				       LISTEN_PAUSE_NS);
			return;
		}
		fd = keep_low_fds_free(fd);
		conn = fd < 0 ? NULL : conn_create(vsock, fd, CONN_GREETING);
		if (!conn)
			log_guest("vsock: a connection too many was closed");
		else
			conn_set_deadline(conn);
	}
}

static void on_client(struct loop_source *source, uint32_t events)
{
	struct vsock *vsock = container_of(source, struct vsock, listener);

	(void)events;
	pthread_mutex_lock(&vsock->dev.lock);
	virtio_device_settle(&vsock->dev);
	if (vsock->dev.active)
		accept_clients(vsock);
	pthread_mutex_unlock(&vsock->dev.lock);
}

static void on_listen_timer(struct loop_timer *timer)
{
	struct vsock *vsock = container_of(timer, struct vsock, listen_timer);

	pthread_mutex_lock(&vsock->dev.lock);
	virtio_device_settle(&vsock->dev);
	if (vsock->listener.loop && loop_modify(&vsock->listener, EPOLLIN))
		log_error("vsock: cannot listen again");
	pthread_mutex_unlock(&vsock->dev.lock);
}

static bool set_address(struct sockaddr_un *addr, const char *path)
{
	*addr = (struct sockaddr_un){.sun_family = AF_UNIX};
	if (strlen(path) >= sizeof(addr->sun_path))
		return false;
	strcpy(addr->sun_path, path);
	return true;
}

int vsock_host_bind(struct vsock *vsock, struct error *err)
{
	struct sockaddr_un addr;
	AUTO_CLOSE int fd = -1;

	errno = ENAMETOOLONG;
	if (set_address(&addr, vsock->path))
		fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC,
			    0);
	if (fd < 0 || bind(fd, (struct sockaddr *)&addr, sizeof(addr)) ||
	    listen(fd, BACKLOG))
		return error_set_os(err, errno,
				    "Error binding to the host-side Unix "
				    "socket:");
	vsock->listener = (struct loop_source){
		.fd = take_fd(&fd),
		.class = LOOP_DEVICE,
		.fn = on_client,
	};
	vsock->listen_timer.fn = on_listen_timer;
	vsock->last_port = VSOCK_HOST_PORT_FIRST - 1;
	return 0;
}

/* ------------------------------------------------------- CONNECT, line by line
 */

/* The next host port that is not in use with @guest_port. */
static uint32_t next_port(struct vsock *vsock, uint32_t guest_port)
{
	do
		vsock->last_port =
			((vsock->last_port + 1) & ~(UINT32_C(1) << 31)) |
			VSOCK_HOST_PORT_FIRST;
	while (vsock_table_find(vsock, vsock->last_port, guest_port));
	return vsock->last_port;
}

/* "CONNECT <port>", in any case; what follows does not matter. */
static bool parse_greeting(char *line, uint32_t *ret_port)
{
	static const char spaces[] = " \t\r\n\v\f";
	char *save = NULL;
	char *word = strtok_r(line, spaces, &save);
	uint64_t port = 0;

	if (!word || strcasecmp(word, "connect") != 0)
		return false;
	word = strtok_r(NULL, spaces, &save);
	if (!word || !*word || strlen(word) > 10)
		return false;
	for (; *word; word++) {
		if (*word < '0' || *word > '9')
			return false;
		port = port * 10 + (uint64_t)(*word - '0');
	}
	*ret_port = (uint32_t)port;
	return port <= UINT32_MAX;
}

/* Looks at what has come without taking it. The line's length with its end; 0:
 * there is no line yet; -EPROTO: there will be none. */
static ssize_t peek_line(const struct conn *conn, char text[GREETING_MAX + 1])
{
	ssize_t n = recv(conn->source.fd, text, GREETING_MAX, MSG_PEEK);
	const char *end;

	if (n < 0)
		return errno == EAGAIN ? 0 : -EPROTO;
	text[n] = '\0';
	end = memchr(text, '\n', (size_t)n);
	if (!end)
		return n == GREETING_MAX || conn->read_ended ? -EPROTO : 0;
	return end + 1 - text;
}

void vsock_host_greet(struct conn *conn)
{
	struct vsock *vsock = conn->vsock;
	char text[GREETING_MAX + 1];
	ssize_t len = peek_line(conn, text);

	if (len == 0)
		return;
	if (len < 0 || read(conn->source.fd, text, (size_t)len) != len) {
		conn_destroy(conn);
		return;
	}
	text[len] = '\0';
	if (!parse_greeting(text, &conn->guest_port)) {
		conn_destroy(conn);
		return;
	}
	conn->host_port = next_port(vsock, conn->guest_port);
	conn->readable = true; /* behind the line there may be more */
	conn->state = CONN_REQUESTED;
	conn_set_deadline(conn);
	if (vsock_table_insert(vsock, conn)) {
		conn_destroy(conn);
		return;
	}
	conn_owe(conn, OWE_REQUEST);
}

/* ---------------------------------------------------- guests that connect */

/* 0, -EAGAIN when the backlog is full, or why not. */
static int try_connect(const struct vsock *vsock, int fd, uint32_t port)
{
	char path[sizeof(((struct sockaddr_un *)NULL)->sun_path)];
	struct sockaddr_un addr;
	int len = snprintf(path, sizeof(path), "%s_%u", vsock->path, port);

	if (len < 0 || (size_t)len >= sizeof(path) || !set_address(&addr, path))
		return -ENAMETOOLONG;
	if (connect(fd, (struct sockaddr *)&addr, sizeof(addr)))
		return -errno;
	return 0;
}

static void connected(struct conn *conn, int fd)
{
	conn_list_remove(&conn->retry);
	conn_clear_deadline(conn);
	conn->state = CONN_OPEN;
	if (conn_set_socket(conn, fd))
		conn_finish(conn);
	else
		conn_owe(conn, OWE_RESPONSE);
}

/* One attempt. What fails for good gets an RST. */
static void attempt(struct conn *conn)
{
	struct vsock *vsock = conn->vsock;
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	int ret;

	if (fd >= 0)
		fd = keep_low_fds_free(fd);
	if (fd < 0) {
		log_guest("vsock: no socket: %s (os error %d)",
			  os_error_text(errno), errno);
		conn_finish(conn);
		return;
	}
	ret = try_connect(vsock, fd, conn->host_port);
	if (ret == 0) {
		connected(conn, fd);
		return;
	}
	close_fd(&fd);
	if (ret != -EAGAIN) {
		conn_finish(conn);
		return;
	}
	if (conn_list_empty(&vsock->retry))
		loop_timer_arm(vsock->dev.loop, &vsock->retry_timer, RETRY_NS);
	conn_list_append(&vsock->retry, &conn->retry);
}

void vsock_host_connect(struct vsock *vsock, const struct vsock_packet *packet)
{
	struct conn *conn = conn_create(vsock, -1, CONN_CONNECTING);

	if (!conn) {
		log_guest("vsock: a connection too many was refused");
		vsock_reject(vsock, packet->host_port, packet->guest_port);
		return;
	}
	conn->host_port = packet->host_port;
	conn->guest_port = packet->guest_port;
	conn->guest_buf_alloc = packet->buf_alloc;
	conn->guest_fwd_cnt = packet->fwd_cnt;
	if (vsock_table_insert(vsock, conn)) {
		vsock_reject(vsock, packet->host_port, packet->guest_port);
		conn_destroy(conn);
		return;
	}
	conn_set_deadline(conn);
	attempt(conn);
}

/* Backlogs may have room now. Those that have waited longest get one attempt
 * each, and then wait behind the others. */
static void on_retry_timer(struct loop_timer *timer)
{
	struct vsock *vsock = container_of(timer, struct vsock, retry_timer);
	struct conn_link waiting;

	pthread_mutex_lock(&vsock->dev.lock);
	virtio_device_settle(&vsock->dev);
	conn_list_init(&waiting);
	for (int i = 0; i < CONNS_PER_TURN && !conn_list_empty(&vsock->retry);
	     i++) {
		struct conn_link *link = vsock->retry.next;

		conn_list_remove(link);
		conn_list_append(&waiting, link);
	}
	if (!conn_list_empty(&vsock->retry))
		loop_timer_arm(vsock->dev.loop, timer, RETRY_NS);
	while (!conn_list_empty(&waiting)) {
		struct conn_link *link = waiting.next;

		conn_list_remove(link);
		attempt(container_of(link, struct conn, retry));
	}
	vsock_turn(vsock, false);
	pthread_mutex_unlock(&vsock->dev.lock);
}

/* ------------------------------------------------------- start and stop */

void vsock_host_start(struct vsock *vsock)
{
	vsock->retry_timer.fn = on_retry_timer;
	vsock->listener.events = EPOLLIN;
	if (loop_add(vsock->dev.loop, &vsock->listener))
		log_error("vsock: cannot listen on %s", vsock->path);
}

void vsock_host_stop(struct vsock *vsock)
{
	loop_remove(&vsock->listener);
	loop_timer_cancel(&vsock->listen_timer);
	loop_timer_cancel(&vsock->retry_timer);
}
