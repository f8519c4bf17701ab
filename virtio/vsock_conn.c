/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Theory of operation.
 *
 * Data from the host waits in the kernel until the guest has credit and receive
 * buffers for it; then one readv puts it into as many buffers as there are.
 * Data from the guest goes to the socket straight from guest memory; only what
 * the socket does not take is copied, at most what we gave credit for.
 *
 * The socket is watched edge-triggered, so that nothing has to be switched off
 * and on: `readable` says that a read may find something. A read that comes
 * back short has emptied the socket, unless the host has ended its direction:
 * then only a read of 0 bytes is the end.
 *
 * Ends (5.10.6.6.1). The host shuts down one direction: SHUTDOWN with that one.
 * It closes: SHUTDOWN with both, and the guest answers with RST. The guest
 * shuts down one direction: so do we. It closes (both): RST, after which the
 * host may still read what was sent, as long as it does. It reads no more (or
 * is gone): SHUTDOWN for that direction, and what still comes is thrown away.
 */
#include "virtio/vsock_device.h"
#include "vmm/log.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

/* A credit update goes out on its own when the guest believes that less room
 * than this is left. */
#define CREDIT_LOW KIB(4)

#define WATCH_READ (EPOLLIN | EPOLLPRI | EPOLLRDHUP | EPOLLET)
#define WATCH_BOTH (WATCH_READ | EPOLLOUT)

/* ----------------------------------------------------------------- helpers */

void conn_owe(struct conn *conn, unsigned what)
{
	conn->owed |= what;
	conn_list_append(&conn->vsock->ready, &conn->ready);
}

void conn_set_deadline(struct conn *conn)
{
	struct vsock *vsock = conn->vsock;

	/* All delays are the same, so the list is in order by itself. */
	conn_list_remove(&conn->due);
	conn->deadline_ns = monotonic_ns() + VSOCK_TIMEOUT_NS;
	if (conn_list_empty(&vsock->due))
		loop_timer_arm(vsock->dev.loop, &vsock->due_timer,
			       VSOCK_TIMEOUT_NS);
	conn_list_append(&vsock->due, &conn->due);
}

void conn_clear_deadline(struct conn *conn)
{
	struct vsock *vsock = conn->vsock;

	conn_list_remove(&conn->due);
	/* Idle means that no timer fires either. */
	if (conn_list_empty(&vsock->due))
		loop_timer_cancel(&vsock->due_timer);
}

/* One is kept: a host that is a little slow makes a connection wait often, and
 * a buffer of this size is a mapping of its own. */
static uint8_t *take_buffer(struct vsock *vsock)
{
	return vsock->spare ? take_ptr(vsock->spare) : malloc(VSOCK_BUF_ALLOC);
}

static void drop_pending(struct conn *conn)
{
	struct vsock *vsock = conn->vsock;

	if (!conn->pending)
		return;
	free(vsock->spare);
	vsock->spare = take_ptr(conn->pending);
	conn->pending_off = conn->pending_len = 0;
	vsock->pending_count--;
}

void conn_finish(struct conn *conn)
{
	loop_remove(&conn->source);
	close_fd(&conn->source.fd);
	conn_clear_deadline(conn);
	conn_list_remove(&conn->retry);
	drop_pending(conn);
	conn->state = CONN_OVER;
	conn->owed = 0;
	conn_owe(conn, OWE_RST);
}

void conn_shut_down(struct conn *conn, unsigned flags)
{
	if ((conn->shutdown_flags & flags) == flags)
		return;
	conn->shutdown_flags |= flags;
	if (conn->shutdown_flags == VSOCK_SHUTDOWN_BOTH) {
		conn->state = CONN_CLOSING;
		conn_set_deadline(conn);
	}
	conn_owe(conn, OWE_SHUTDOWN);
}

/* ----------------------------------------------------------- guest to host */

/* The guest closed: once the host has everything, its socket is closed too. A
 * host that writes instead is told that nobody reads. */
static void guest_closed(struct conn *conn)
{
	if (!conn->pending_len || conn->hung_up) {
		conn_finish(conn);
		return;
	}
	vsock_reject(conn->vsock, conn->host_port, conn->guest_port);
	vsock_table_remove(conn->vsock, conn);
	conn_list_remove(&conn->ready);
	conn->owed = 0;
	conn->state = CONN_DRAINING;
	conn_set_deadline(conn);
	shutdown(conn->source.fd, SHUT_RD);
}

/* The host's end cannot be written to any more; it may still have something to
 * say. */
static void host_refuses(struct conn *conn)
{
	drop_pending(conn);
	if (conn->state == CONN_DRAINING) {
		conn_destroy(conn);
		return;
	}
	conn->refused = true;
	conn->readable = true;
	if (conn->state == CONN_OPEN)
		conn_shut_down(conn, VSOCK_SHUTDOWN_RECEIVE);
}

/* What the guest shut down, as far as its data has been passed on. */
static void apply_guest_shutdown(struct conn *conn)
{
	if (conn->guest_shutdown == VSOCK_SHUTDOWN_BOTH) {
		guest_closed(conn);
		return;
	}
	if ((conn->guest_shutdown & VSOCK_SHUTDOWN_SEND) && !conn->pending_len)
		shutdown(conn->source.fd, SHUT_WR);
	if (conn->guest_shutdown & VSOCK_SHUTDOWN_RECEIVE)
		shutdown(conn->source.fd, SHUT_RD);
}

/* @len more bytes have left for the host. */
static void forwarded(struct conn *conn, size_t len, uint32_t known_pending)
{
	uint32_t believed;

	conn->fwd_cnt += (uint32_t)len;
	metric_add(&conn->vsock->metrics->tx_bytes_count, len);
	believed = conn->fwd_cnt + known_pending - conn->told_fwd_cnt;
	if (conn->state == CONN_OPEN && believed > VSOCK_BUF_ALLOC - CREDIT_LOW)
		conn_owe(conn, OWE_CREDIT_UPDATE);
}

static int watch(struct conn *conn, uint32_t events)
{
	return conn->source.events == events
		       ? 0
		       : loop_modify(&conn->source, events);
}

/* The socket has room again. */
static void flush_pending(struct conn *conn)
{
	size_t before = conn->pending_len;
	ssize_t n = 0;

	while (conn->pending_len) {
		n = write(conn->source.fd, conn->pending + conn->pending_off,
			  conn->pending_len);
		if (n < 0)
			break;
		conn->pending_off += (size_t)n;
		conn->pending_len -= (size_t)n;
		forwarded(conn, (size_t)n, (uint32_t)conn->pending_len);
	}
	if (n < 0 && errno == EAGAIN) {
		/* A host that reads, however slowly, gets all of it. */
		if (conn->state == CONN_DRAINING && conn->pending_len < before)
			conn_set_deadline(conn);
		return;
	}
	if (n < 0) {
		metric_inc(&conn->vsock->metrics->tx_flush_fails);
		host_refuses(conn);
		return;
	}
	drop_pending(conn);
	if (conn->state == CONN_DRAINING) {
		conn_destroy(conn);
		return;
	}
	if (watch(conn, WATCH_READ))
		log_error("vsock: cannot watch a connection");
	if (conn->guest_shutdown)
		apply_guest_shutdown(conn);
}

/* Keeps the @len readable bytes that are left of @chain. */
static int keep_pending(struct conn *conn, struct chain *chain, size_t len)
{
	if (!conn->pending) {
		if (conn->vsock->pending_count < PENDING_MAX)
			conn->pending = take_buffer(conn->vsock);
		if (!conn->pending)
			return -ENOMEM;
		conn->vsock->pending_count++;
	}
	if (conn->pending_off) {
		memmove(conn->pending, conn->pending + conn->pending_off,
			conn->pending_len);
		conn->pending_off = 0;
	}
	if (chain_read(chain, conn->pending + conn->pending_len, len))
		return -EFAULT;
	conn->pending_len += len;
	return watch(conn, WATCH_BOTH);
}

/* Writes up to @len readable bytes straight from guest memory and moves past
 * what was written. Their number, or -errno. */
static ssize_t write_through(const struct conn *conn, struct chain *chain,
			     size_t len)
{
	struct chain_cursor start = chain->readable;
	struct iovec iov[CHAIN_SEGMENTS_MAX];
	size_t borrowed = 0;
	ssize_t written;
	int n = chain_borrow_readable(chain, len, iov, CHAIN_SEGMENTS_MAX,
				      &borrowed);

	chain->readable = start;
	if (n < 0)
		return n;
	written = writev(conn->source.fd, iov, n);
	if (written < 0)
		return errno == EAGAIN ? 0 : -errno;
	chain_skip(chain, (uint64_t)written);
	return written;
}

static void receive_data(struct conn *conn, size_t len, struct chain *chain)
{
	ssize_t written = 0;

	if (conn->state != CONN_OPEN || !len)
		return;
	/* Only a guest that ignores our credit gets here. */
	if (conn->pending_len + len > VSOCK_BUF_ALLOC ||
	    (conn->guest_shutdown & VSOCK_SHUTDOWN_SEND)) {
		log_guest("vsock: data beyond the credit or the end");
		metric_inc(&conn->vsock->metrics->conns_killed);
		conn_finish(conn);
		return;
	}
	if (!conn->refused && !conn->pending_len)
		written = write_through(conn, chain, len);
	if (written < 0) {
		metric_inc(&conn->vsock->metrics->tx_write_fails);
		host_refuses(conn);
	}
	if (conn->refused) {
		conn->fwd_cnt += (uint32_t)len;
		return;
	}
	len -= (size_t)written;
	if (len && keep_pending(conn, chain, len)) {
		log_guest("vsock: no memory for what the host does not read");
		metric_inc(&conn->vsock->metrics->conns_killed);
		conn_finish(conn);
		return;
	}
	forwarded(conn, (size_t)written, (uint32_t)conn->pending_len);
}

/* -------------------------------------------------- packets from the guest */

static void on_response(struct conn *conn)
{
	char text[32];
	int len;

	if (conn->state != CONN_REQUESTED)
		return;
	conn_clear_deadline(conn);
	conn->state = CONN_OPEN;
	len = snprintf(text, sizeof(text), "OK %u\n", conn->host_port);
	if (write(conn->source.fd, text, (size_t)len) != len)
		host_refuses(conn);
	vsock_accepted(conn->vsock);
}

static void on_shutdown(struct conn *conn, unsigned flags)
{
	if (conn->state != CONN_OPEN && conn->state != CONN_CLOSING) {
		conn_finish(conn);
		return;
	}
	conn->guest_shutdown |= flags & VSOCK_SHUTDOWN_BOTH;
	apply_guest_shutdown(conn);
}

void conn_receive(struct conn *conn, const struct vsock_packet *packet,
		  struct chain *chain)
{
	if (packet->op == VSOCK_OP_RST) {
		conn_destroy(conn);
		return;
	}
	if (conn->state == CONN_OVER)
		return;
	conn->guest_buf_alloc = packet->buf_alloc;
	conn->guest_fwd_cnt = packet->fwd_cnt;
	switch (packet->op) {
	case VSOCK_OP_RESPONSE:
		on_response(conn);
		break;
	case VSOCK_OP_SHUTDOWN:
		on_shutdown(conn, packet->flags);
		return;
	case VSOCK_OP_RW:
		receive_data(conn, packet->len, chain);
		break;
	case VSOCK_OP_CREDIT_REQUEST:
		conn_owe(conn, OWE_CREDIT_UPDATE);
		return;
	case VSOCK_OP_CREDIT_UPDATE:
		break;
	default: /* a second REQUEST, or no operation at all */
		metric_inc(&conn->vsock->metrics->conns_killed);
		conn_finish(conn);
		return;
	}
	if (conn->readable)
		conn_owe(conn, 0);
}

/* -------------------------------------------------------------- life cycle */

/* A request that the guest has not been given, because it has to deal with a
 * snapshot's reset first, has not run out of time. */
static bool is_held_back(const struct conn *conn)
{
	return conn->vsock->awaits_ack && (conn->owed & OWE_REQUEST);
}

void conn_timed_out(struct conn *conn)
{
	if (is_held_back(conn)) {
		conn_set_deadline(conn);
		return;
	}
	conn_clear_deadline(conn);
	metric_inc(&conn->vsock->metrics->conns_killed);
	/* The guest does not know of these, or not any more. */
	if (conn->state == CONN_GREETING || conn->state == CONN_DRAINING)
		conn_destroy(conn);
	else
		conn_finish(conn);
}

static void note_events(struct conn *conn, uint32_t events)
{
	if (events & (EPOLLRDHUP | EPOLLHUP | EPOLLERR))
		conn->read_ended = true;
	if (events & (EPOLLHUP | EPOLLERR))
		conn->hung_up = true;
	if (events & (EPOLLIN | EPOLLRDHUP | EPOLLHUP | EPOLLERR))
		conn->readable = true;
	/* A read ends before an out-of-band byte. */
	if (events & EPOLLPRI)
		conn->patchy = true;
}

static void serve_socket(struct conn *conn, uint32_t events)
{
	note_events(conn, events);
	switch (conn->state) {
	case CONN_GREETING:
		vsock_host_greet(conn);
		return;
	case CONN_REQUESTED:
		/* Nobody waits for the guest's answer any more. */
		if (conn->hung_up)
			conn_finish(conn);
		return;
	case CONN_DRAINING:
		if (conn->hung_up)
			conn_destroy(conn);
		else
			flush_pending(conn);
		return;
	case CONN_OPEN:
		if (conn->eof && conn->hung_up)
			conn_shut_down(conn, VSOCK_SHUTDOWN_BOTH);
		else if (conn->readable && !conn->eof)
			conn_owe(conn, 0);
		if (conn->pending_len &&
		    (events & (EPOLLOUT | EPOLLHUP | EPOLLERR)))
			flush_pending(conn);
		return;
	case CONN_CLOSING:
		if (conn->pending_len)
			flush_pending(conn);
		return;
	case CONN_CONNECTING:
	case CONN_OVER:
	case CONN_DEAD:
	default:
		return;
	}
}

static void on_socket(struct loop_source *source, uint32_t events)
{
	struct conn *conn = container_of(source, struct conn, source);
	struct vsock *vsock = conn->vsock;

	pthread_mutex_lock(&vsock->dev.lock);
	/* Settling after a reset ends all connections, this one too. */
	if (vsock->dev.unsettled) {
		virtio_device_settle(&vsock->dev);
	} else {
		serve_socket(conn, events);
		vsock_turn(vsock, false);
	}
	pthread_mutex_unlock(&vsock->dev.lock);
}

int conn_set_socket(struct conn *conn, int fd)
{
	conn->source.fd = fd;
	return loop_add(conn->vsock->dev.loop, &conn->source);
}

struct conn *conn_create(struct vsock *vsock, int fd, enum conn_state state)
{
	struct conn *conn = NULL;

	if (vsock->conn_count < vsock->conn_max)
		conn = calloc(1, sizeof(*conn));
	if (!conn) {
		close_fd(&fd);
		return NULL;
	}
	conn->vsock = vsock;
	conn->state = state;
	conn->source.fd = -1;
	conn->source.events = WATCH_READ;
	conn->source.class = LOOP_DEVICE;
	conn->source.fn = on_socket;
	conn_list_append(&vsock->all, &conn->all);
	vsock->conn_count++;
	metric_inc(&vsock->metrics->conns_added);
	if (fd >= 0 && conn_set_socket(conn, fd)) {
		conn_destroy(conn);
		return NULL;
	}
	return conn;
}

void conn_kill(struct conn *conn)
{
	struct vsock *vsock = conn->vsock;

	conn_list_remove(&conn->ready);
	conn_list_remove(&conn->due);
	conn_list_remove(&conn->retry);
	conn_list_remove(&conn->all);
	conn_list_append(&vsock->dead, &conn->all);
	conn->state = CONN_DEAD;
}

void conn_destroy(struct conn *conn)
{
	struct vsock *vsock = conn->vsock;

	loop_remove(&conn->source);
	close_fd(&conn->source.fd);
	if (conn->state != CONN_DEAD)
		vsock_table_remove(vsock, conn);
	conn_list_remove(&conn->all);
	conn_list_remove(&conn->ready);
	conn_clear_deadline(conn);
	conn_list_remove(&conn->retry);
	drop_pending(conn);
	vsock->conn_count--;
	metric_inc(&vsock->metrics->conns_removed);
	free(conn);
}
