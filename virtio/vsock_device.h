/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The parts of the socket device, shared by the files that make it up:
 *
 *   vsock.c        the device: queues, packets in and out, who is next
 *   vsock_conn.c   one connection: from the guest to the host, and its end
 *   vsock_send.c   one connection: from the host to the guest
 *   vsock_host.c   the host's side: listening, CONNECT, connecting
 *   vsock_table.c  connections by port
 *   vsock_state.c  snapshots, and how the guest learns of them
 *
 * Everything runs on the loop thread with the device's lock held. A connection
 * lives from conn_create to conn_destroy; whatever ends it goes through there.
 */
#ifndef EMBER_VSOCK_DEVICE_H
#define EMBER_VSOCK_DEVICE_H

#include "virtio/rx_window.h"
#include "virtio/vsock.h"
#include "virtio/vsock_packet.h"

/* How long the other side may take to answer a request or to finish a
 * connection that we have shut down. */
#define VSOCK_TIMEOUT_NS UINT64_C(2000000000)

enum conn_state {
	CONN_GREETING,	 /* host connected, has not said CONNECT */
	CONN_REQUESTED,	 /* host waits for the guest to accept */
	CONN_CONNECTING, /* guest waits for room in a host's backlog */
	CONN_OPEN,
	CONN_CLOSING,  /* we said SHUTDOWN for both: the guest has the word */
	CONN_DRAINING, /* gone for the guest; the host reads what is left */
	CONN_OVER,     /* no socket any more; the guest is owed an RST */
	CONN_DEAD,     /* the device was reset: waits to be destroyed */
};

/* Packets the guest is owed, as bits. */
enum {
	OWE_REQUEST = 1,
	OWE_RESPONSE = 2,
	OWE_SHUTDOWN = 4,
	OWE_CREDIT_UPDATE = 8,
	OWE_CREDIT_REQUEST = 16,
	OWE_RST = 32, /* and that is the end of the connection */
};

struct conn_link {
	struct conn_link *prev, *next; /* NULL: in no list */
};

struct conn {
	struct vsock *vsock;
	struct loop_source source;
	enum conn_state state;
	uint32_t host_port, guest_port;

	struct conn *hash_next; /* vsock_table.c */
	struct conn_link all;	/* vsock->all, or vsock->dead */
	struct conn_link ready; /* vsock->ready: something to tell the guest */
	struct conn_link due;	/* vsock->due: has a deadline */
	struct conn_link retry; /* vsock->retry: CONN_CONNECTING */
	uint64_t deadline_ns;

	/* host to guest */
	unsigned owed;
	bool readable;	 /* the socket may have data, or its end */
	bool patchy;	 /* ... also after a read that came back short */
	bool read_ended; /* the host will send no more: read to the end */
	bool hung_up;	 /* ... and reads no more */
	bool eof;	 /* read to the end */
	unsigned shutdown_flags;
	uint32_t guest_buf_alloc, guest_fwd_cnt; /* as the guest said */
	uint32_t sent;				 /* bytes of data to it */
	bool credit_asked;

	/* guest to host */
	bool refused;		 /* the host does not read any more */
	unsigned guest_shutdown; /* what the guest will no longer do */
	uint32_t fwd_cnt;	 /* bytes passed on to the host */
	uint32_t told_fwd_cnt;	 /* ... as the guest knows it */
	uint8_t *pending;	 /* what the host's socket did not take */
	size_t pending_off, pending_len;
};

/* The device's queues. */
enum {
	VSOCK_RX_QUEUE,
	VSOCK_TX_QUEUE,
	VSOCK_EVENT_QUEUE,
	VSOCK_QUEUE_COUNT,
};

/* Ports given to connections from the host have bit 30 set, bit 31 clear. */
#define VSOCK_HOST_PORT_FIRST (UINT32_C(1) << 30)

/* A port pair that does not exist, for which the guest gets an RST. */
struct stray {
	uint32_t host_port, guest_port;
};

#define STRAYS_MAX 256

/* Buffers for what hosts are slow to read, of all connections together. */
#define PENDING_MAX (MIB(64) / VSOCK_BUF_ALLOC)

/* Connections dealt with in one turn, where all may come at once. */
#define CONNS_PER_TURN 32

struct vsock {
	struct virtio_device dev;
	struct vsock_metrics *metrics;
	uint64_t guest_cid;
	char *path;

	struct loop_source listener; /* fd open for the device's life */
	struct loop_timer listen_timer, due_timer, retry_timer, turn_timer,
		dead_timer;
	uint32_t last_port;	     /* given to a connection from the host */
	void (*accepted)(void *arg); /* NULL: nobody waits for it */
	void *accepted_arg;

	struct conn **buckets; /* vsock_table.c */
	size_t bucket_count, hash_count;
	uint32_t hash_seed;

	size_t conn_count, conn_max, pending_count;
	uint8_t *spare; /* such a buffer, or NULL */
	struct conn_link all, ready, due, retry, dead; /* list heads */

	struct stray strays[STRAYS_MAX];
	size_t stray_first, stray_count;

	struct rx_window window;
	bool starved; /* the driver owes us receive buffers */
	/* After a snapshot the guest has to drop its connections; until it
	 * says so it is sent nothing that it would drop with them. */
	bool reset_owed;	 /* it has no buffer to be told in */
	bool awaits_ack;	 /* it is told, or will be */
	uint16_t event_idx_told; /* where its event queue was then */
	struct chain chain;
};

/* ------------------------------------------------------------------- lists */

static inline void conn_list_init(struct conn_link *head)
{
	head->prev = head->next = head;
}

static inline bool conn_list_empty(const struct conn_link *head)
{
	return head->next == head;
}

static inline void conn_list_append(struct conn_link *head,
				    struct conn_link *link)
{
	if (link->next)
		return;
	link->prev = head->prev;
	link->next = head;
	head->prev->next = link;
	head->prev = link;
}

static inline void conn_list_remove(struct conn_link *link)
{
	if (!link->next)
		return;
	link->prev->next = link->next;
	link->next->prev = link->prev;
	link->prev = link->next = NULL;
}

/* ------------------------------------------------------------- vsock_table */

/* Grows with its contents. -ENOMEM. */
int vsock_table_insert(struct vsock *vsock, struct conn *conn) must_check;
void vsock_table_remove(struct vsock *vsock, const struct conn *conn);
void vsock_table_clear(struct vsock *vsock);
struct conn *vsock_table_find(const struct vsock *vsock, uint32_t host_port,
			      uint32_t guest_port);

/* -------------------------------------------------------------- vsock_conn */

/* Takes @fd (also on failure; may be -1 for now) and watches it. NULL when
 * there are too many connections, or no memory. */
struct conn *conn_create(struct vsock *vsock, int fd, enum conn_state state);
void conn_destroy(struct conn *conn);

/* The device was reset: out of every list but vsock->dead. Takes no system
 * call, which conn_destroy does. */
void conn_kill(struct conn *conn);

/* Gives a connection without one a socket. */
int conn_set_socket(struct conn *conn, int fd) must_check;

/* The guest will hear of it in turn. */
void conn_owe(struct conn *conn, unsigned what);

/* The connection is over: its socket is closed now, and it is gone once the
 * guest has been sent an RST. */
void conn_finish(struct conn *conn);

/* We will neither send nor take anything more; the guest answers with RST, or
 * is told after a while. */
void conn_shut_down(struct conn *conn, unsigned flags);

void conn_set_deadline(struct conn *conn);
void conn_clear_deadline(struct conn *conn);

/* Nobody answered in time, or took what was left. May destroy @conn. */
void conn_timed_out(struct conn *conn);

/* A packet of the guest for this connection; its data is what is left of the
 * readable stream of @chain. May destroy @conn. */
void conn_receive(struct conn *conn, const struct vsock_packet *packet,
		  struct chain *chain);

/* -------------------------------------------------------------- vsock_send */

/* Tells the guest what comes next for it, with at least one buffer in the
 * window. May destroy @conn; otherwise queues it again if there is more. The
 * bytes put into buffers. */
size_t conn_transmit(struct conn *conn);

/* -------------------------------------------------------------- vsock_host */

/* Listening starts and stops with the driver. */
void vsock_host_start(struct vsock *vsock);
void vsock_host_stop(struct vsock *vsock);
int vsock_host_bind(struct vsock *vsock, struct error *err) must_check;

/* The host's socket of a connection in CONN_GREETING is readable. */
void vsock_host_greet(struct conn *conn);

/* A guest's REQUEST: connects to the host's socket of that port. */
void vsock_host_connect(struct vsock *vsock, const struct vsock_packet *packet);

/* ------------------------------------------------------------- vsock_state */

/* See struct virtio_device_ops. */
void vsock_quiesce(struct virtio_device *dev);
void vsock_save(struct virtio_device *dev, struct state_writer *writer);
int vsock_load(struct virtio_device *dev, struct state_reader *reader,
	       struct error *err) must_check;

/* The driver may have posted event buffers. */
void vsock_event_kicked(struct vsock *vsock);

/* ------------------------------------------------------------------- vsock */

/* All connections are over, without a word to the guest. Their sockets are
 * closed now or, if they are many, by and by. */
void vsock_drop_connections(struct vsock *vsock);

/* Closes at once what is left of those. */
void vsock_bury_all(struct vsock *vsock);

/* The guest has accepted a connection of a host. */
void vsock_accepted(struct vsock *vsock);

/* An RST for a connection that does not exist. */
void vsock_reject(struct vsock *vsock, uint32_t host_port, uint32_t guest_port);

/* Takes in receive buffers for @want bytes, if there are as many. False when
 * the queue is broken and the device needs a reset. */
bool vsock_fill(struct vsock *vsock, uint32_t want);

/* Writes the header of a packet to the guest into the front buffer. */
void vsock_put_header(struct vsock *vsock, const struct vsock_packet *packet);

/* Sends what is ready, as far as buffers go, and tells the driver. @tx_used:
 * transmit buffers were given back in the same breath. */
void vsock_turn(struct vsock *vsock, bool tx_used);

#endif
