/* SPDX-License-Identifier: Apache-2.0 */
/*
 * From a connection to the guest: when it is its turn, a connection pays what
 * it owes, reads its socket into the guest's buffers, and asks for another turn
 * if there is more.
 */
#include "virtio/vsock_device.h"
#include "vmm/log.h"

#include <errno.h>
#include <sys/socket.h>

/* Iovecs of one readv; a buffer of Linux is one or two. */
#define READ_IOVS 64

/* Bytes the guest has room for (5.10.6.3). What it says cannot be trusted: more
 * in flight than it has room for is no room. */
static uint32_t credit(const struct conn *conn)
{
	uint32_t in_flight = conn->sent - conn->guest_fwd_cnt;

	return in_flight < conn->guest_buf_alloc
		       ? conn->guest_buf_alloc - in_flight
		       : 0;
}

/* A packet in the front buffer, its data already in place. */
static size_t put_packet(struct conn *conn, enum vsock_op op, uint32_t flags,
			 uint32_t len)
{
	struct vsock *vsock = conn->vsock;
	const struct vsock_packet packet = {
		.host_port = conn->host_port,
		.guest_port = conn->guest_port,
		.type = VSOCK_TYPE_STREAM,
		.op = (uint16_t)op,
		.flags = flags,
		.len = len,
		.buf_alloc = VSOCK_BUF_ALLOC,
		.fwd_cnt = conn->fwd_cnt,
	};

	vsock_put_header(vsock, &packet);
	rx_window_return(&vsock->window, (uint32_t)VSOCK_HEADER_LEN + len);
	/* Every header tells the credit. */
	conn->told_fwd_cnt = conn->fwd_cnt;
	conn->owed &= ~(unsigned)OWE_CREDIT_UPDATE;
	return VSOCK_HEADER_LEN + len;
}

/* What each thing owed is, in the order in which it is paid. What ends our
 * sending comes after the data, which is between the two. */
struct debt {
	unsigned owed;
	enum vsock_op op;
};

static const struct debt before_data[] = {
	{OWE_REQUEST, VSOCK_OP_REQUEST},
	{OWE_RESPONSE, VSOCK_OP_RESPONSE},
};

static const struct debt after_data[] = {
	{OWE_CREDIT_REQUEST, VSOCK_OP_CREDIT_REQUEST},
	{OWE_CREDIT_UPDATE, VSOCK_OP_CREDIT_UPDATE},
	{OWE_SHUTDOWN, VSOCK_OP_SHUTDOWN},
};

/* As far as buffers go. The bytes. */
static size_t pay(struct conn *conn, const struct debt *debts, size_t count)
{
	size_t bytes = 0;

	for (size_t i = 0; i < count; i++) {
		if (!(conn->owed & debts[i].owed) || !conn->vsock->window.count)
			continue;
		conn->owed &= ~debts[i].owed;
		if (debts[i].owed == OWE_REQUEST)
			conn_set_deadline(conn); /* the guest's time */
		bytes += put_packet(conn, debts[i].op,
				    debts[i].op == VSOCK_OP_SHUTDOWN
					    ? conn->shutdown_flags
					    : 0,
				    0);
	}
	return bytes;
}

/* Iovecs for the data parts of the buffers in the window, up to @len bytes. */
static int data_parts(const struct rx_window *window, size_t len,
		      struct iovec *iov, uint32_t *ret_len)
{
	size_t left = len;
	int n = 0;

	for (uint16_t i = 0; i < window->count && left && n < READ_IOVS; i++) {
		uint32_t room = rx_window_buffer(window, i)->len;
		uint32_t part;
		int added;

		if (room <= VSOCK_HEADER_LEN)
			break;
		part = (uint32_t)MIN(left, room - VSOCK_HEADER_LEN);
		part = MIN(part, (uint32_t)VSOCK_DATA_MAX);
		added = rx_window_iov(window, i, VSOCK_HEADER_LEN, part,
				      &iov[n], READ_IOVS - n);
		for (int k = 0; k < added; k++)
			left -= iov[n + k].iov_len;
		n += added;
	}
	*ret_len = (uint32_t)(len - left);
	return n;
}

/* @len bytes were read into the data parts: heads for them. */
static void put_data(struct conn *conn, uint32_t len)
{
	struct rx_window *window = &conn->vsock->window;

	conn->sent += len;
	metric_add(&conn->vsock->metrics->rx_bytes_count, len);
	while (len) {
		uint32_t room = rx_window_buffer(window, 0)->len -
				(uint32_t)VSOCK_HEADER_LEN;
		uint32_t part = MIN(MIN(len, room), (uint32_t)VSOCK_DATA_MAX);

		put_packet(conn, VSOCK_OP_RW, 0, part);
		len -= part;
	}
}

static void reached_end(struct conn *conn)
{
	conn->readable = false;
	conn->eof = true;
	conn_shut_down(conn, conn->hung_up ? VSOCK_SHUTDOWN_BOTH
					   : VSOCK_SHUTDOWN_SEND);
}

/* How much may be read now; asks the guest for credit if that is what lacks.
 * Once: a guest answers at once, whether it has room or not. */
static uint32_t may_read(struct conn *conn)
{
	uint32_t len = credit(conn);

	if (conn->state != CONN_OPEN || !conn->readable)
		return 0;
	if (len == 0 && !conn->credit_asked)
		conn_owe(conn, OWE_CREDIT_REQUEST);
	conn->credit_asked = len == 0;
	return MIN(len, (uint32_t)VSOCK_DATA_MAX);
}

/*
 * As readv, but says when there may be more although there was room for it:
 * what was sent with descriptors is read alone.
 */
static ssize_t read_socket(struct conn *conn, struct iovec *iov, int count)
{
	struct msghdr message = {.msg_iov = iov, .msg_iovlen = (size_t)count};
	ssize_t n = recvmsg(conn->source.fd, &message, 0);

	if (n > 0 && (message.msg_flags & MSG_CTRUNC))
		conn->patchy = true;
	return n;
}

/* Moves data from the socket to the guest. The bytes. */
static size_t transmit_data(struct conn *conn)
{
	struct rx_window *window = &conn->vsock->window;
	uint32_t want = may_read(conn);
	struct iovec iov[READ_IOVS];
	uint32_t room = 0;
	ssize_t n;
	int parts;

	if (!want || !vsock_fill(conn->vsock, want + VSOCK_HEADER_LEN))
		return 0;
	parts = data_parts(window, want, iov, &room);
	if (!parts) {
		/* A buffer that holds no data at all is of no use. */
		rx_window_return(window, 0);
		return 0;
	}
	n = read_socket(conn, iov, parts);
	if (n > 0) {
		put_data(conn, (uint32_t)n);
		conn->readable =
			conn->read_ended || conn->patchy || (uint32_t)n == room;
		return (size_t)n;
	}
	if (n == 0 || (errno != EAGAIN && errno != EINTR)) {
		if (n < 0) {
			metric_inc(&conn->vsock->metrics->rx_read_fails);
			conn->hung_up = true;
		}
		reached_end(conn);
	} else if (errno == EAGAIN) {
		conn->readable = conn->patchy = false;
	}
	return 0;
}

static size_t transmit_rst(struct conn *conn)
{
	size_t len = put_packet(conn, VSOCK_OP_RST, 0, 0);

	conn_destroy(conn);
	return len;
}

size_t conn_transmit(struct conn *conn)
{
	size_t bytes;

	conn_list_remove(&conn->ready);
	if (conn->owed & OWE_RST)
		return transmit_rst(conn);
	bytes = pay(conn, before_data, ARRAY_SIZE(before_data));
	if (conn->vsock->window.count)
		bytes += transmit_data(conn);
	bytes += pay(conn, after_data, ARRAY_SIZE(after_data));
	if (conn->owed || (conn->state == CONN_OPEN && conn->readable &&
			   (credit(conn) || !conn->credit_asked)))
		conn_owe(conn, 0);
	return bytes;
}
