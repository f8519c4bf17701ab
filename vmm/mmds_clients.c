/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Theory of operation.
 *
 * A client's buffer is as large as TCP's window, and the window opens again
 * only for what has left the buffer. So everything that TCP accepts fits, and a
 * guest that sends more requests than are answered is slowed down by TCP.
 *
 * When all connections are in use, lwIP makes room for a new one by aborting
 * the one that is idle longest among those of a lower priority. That is given
 * to clients that had their answer and ask no more, and to those that have not
 * asked anything for long. If there are none the guest's SYN is not answered,
 * and comes again.
 *
 * lwIP's assertions must hold whatever a guest sends. Two of them are about
 * appending to data that is still to be sent, after the guest has changed its
 * window: send_more never does that.
 */
#include "vmm/mmds_clients.h"

#include "vmm/mmds_http.h"

#include <errno.h>
#include <lwip/priv/tcp_priv.h>
#include <lwip/tcp.h>
#include <string.h>

#define HTTP_PORT 80

/* Five seconds, in which even a busy guest finishes its handshake. */
#define OPENING_TICKS 10
/* How long a connection may be silent while others want one. */
#define IDLE_NS UINT64_C(10000000000)

_Static_assert(MMDS_CLIENTS_MAX == MEMP_NUM_TCP_PCB, "one slot for each");
_Static_assert(TCP_WND > MMDS_REQUEST_MAX, "the longest request comes whole");

struct mmds_client {
	struct mmds_clients *clients;
	size_t slot;
	struct tcp_pcb *pcb;
	char data[TCP_WND]; /* requests */
	size_t len;
	uint64_t skip; /* bytes of a body nobody reads */
	char *answer;  /* being sent */
	size_t answer_len, answer_sent, answer_acked;
	bool ended;	   /* the guest sends no more */
	bool served;	   /* has had an answer */
	uint64_t since_ns; /* of the connection, or its last data */
	bool fresh;	   /* there may be a request to answer */
};

static void client_free(struct mmds_client *client)
{
	client->clients->slots[client->slot] = NULL;
	metric_inc(&client->clients->metrics->connections_destroyed);
	free(client->answer);
	free(client);
}

/* lwIP has freed the connection already. */
static void on_error(void *arg, err_t err)
{
	(void)err;
	if (arg)
		client_free(arg);
}

/* Ends the connection with RST. */
static void client_abort(struct mmds_client *client)
{
	struct tcp_pcb *pcb = client->pcb;

	tcp_arg(pcb, NULL);
	client_free(client);
	tcp_abort(pcb);
}

static void client_close(struct mmds_client *client)
{
	struct tcp_pcb *pcb = client->pcb;

	/* With data that nobody has taken it would be a reset. */
	tcp_recved(pcb, (u16_t)client->len);
	tcp_recv(pcb, NULL);
	tcp_sent(pcb, NULL);
	tcp_err(pcb, NULL);
	if (tcp_close(pcb) != ERR_OK) {
		client_abort(client);
		return;
	}
	tcp_arg(pcb, NULL);
	client_free(client);
}

/* Nobody waits for this one. */
static bool expendable(const struct tcp_pcb *pcb)
{
	const struct mmds_client *client = pcb->callback_arg;

	if (pcb->state == SYN_RCVD)
		return tcp_ticks - pcb->tmr >= OPENING_TICKS;
	if (!client || client->answer || client->fresh)
		return false;
	return client->served || monotonic_ns() - client->since_ns > IDLE_NS;
}

void mmds_clients_make_room(void)
{
	for (struct tcp_pcb *pcb = tcp_active_pcbs; pcb; pcb = pcb->next)
		tcp_setprio(pcb,
			    expendable(pcb) ? TCP_PRIO_MIN : TCP_PRIO_NORMAL);
}

/* ------------------------------------------------------------------ answers */

/* What tcp_write can take in one call: it takes all or nothing, and makes
 * segments of this size. */
static size_t room(const struct tcp_pcb *pcb)
{
	size_t mss = MIN(pcb->mss, pcb->snd_wnd_max / 2);

	if (!mss)
		mss = pcb->mss;
	if (pcb->snd_queuelen >= TCP_SND_QUEUELEN)
		return 0;
	return MIN(mss * (size_t)(TCP_SND_QUEUELEN - pcb->snd_queuelen),
		   (size_t)tcp_sndbuf(pcb));
}

/* As much of the answer as TCP takes now. */
static void send_more(struct mmds_client *client)
{
	struct tcp_pcb *pcb = client->pcb;
	size_t len = MIN(client->answer_len - client->answer_sent, room(pcb));

	/* In both cases acknowledgements bring us here again. */
	if (!len || pcb->unsent)
		return;
	if (tcp_write(pcb, client->answer + client->answer_sent, (u16_t)len,
		      TCP_WRITE_FLAG_COPY) != ERR_OK)
		return; /* no memory: see mmds_clients_resume */
	client->answer_sent += len;
	tcp_output(pcb);
}

static err_t on_sent(void *arg, struct tcp_pcb *pcb, u16_t len)
{
	struct mmds_client *client = arg;

	(void)pcb;
	client->answer_acked += len;
	if (client->answer_acked < client->answer_len) {
		send_more(client);
		return ERR_OK;
	}
	free(take_ptr(client->answer));
	client->fresh = true;
	return ERR_OK;
}

void mmds_clients_resume(struct mmds_clients *clients)
{
	for (size_t i = 0; i < ARRAY_SIZE(clients->slots); i++) {
		struct mmds_client *client = clients->slots[i];

		if (client && client->answer && !client->pcb->unacked)
			send_more(client);
	}
}

bool mmds_clients_busy(const struct mmds_clients *clients)
{
	for (size_t i = 0; i < ARRAY_SIZE(clients->slots); i++)
		if (clients->slots[i] && clients->slots[i]->answer)
			return true;
	return false;
}

/* ----------------------------------------------------------------- requests */

static void drop_front(struct mmds_client *client, size_t len)
{
	client->len -= len;
	memmove(client->data, client->data + len, client->len);
	tcp_recved(client->pcb, (u16_t)len);
}

static void skip_body(struct mmds_client *client)
{
	size_t len = (size_t)MIN(client->skip, (uint64_t)client->len);

	client->skip -= len;
	if (len)
		drop_front(client, len);
}

/* Data, or the end of it when @data is NULL. */
static err_t on_data(void *arg, struct tcp_pcb *pcb, struct pbuf *data,
		     err_t err)
{
	struct mmds_client *client = arg;

	(void)err;
	(void)pcb;
	client->fresh = true;
	client->since_ns = monotonic_ns();
	if (!data) {
		client->ended = true;
		return ERR_OK;
	}
	if (data->tot_len > sizeof(client->data) - client->len) {
		pbuf_free(data); /* beyond the window: lwIP cuts that off */
		client_abort(client);
		return ERR_ABRT;
	}
	client->len += pbuf_copy_partial(data, client->data + client->len,
					 data->tot_len, 0);
	pbuf_free(data);
	skip_body(client);
	return ERR_OK;
}

static void answer(struct mmds_client *client, size_t len)
{
	client->answer =
		mmds_http_answer(client->clients->mmds, client->data, len,
				 &client->answer_len, &client->skip);
	if (!client->answer) {
		client_abort(client);
		return;
	}
	client->answer_sent = client->answer_acked = 0;
	client->served = true;
	drop_front(client, len);
	skip_body(client);
	send_more(client);
}

/* Answers the first request that is complete, if the one before is done with.
 * Returns whether there was one. */
static bool attend(struct mmds_client *client)
{
	size_t len;

	if (!client->fresh || client->answer)
		return false;
	client->fresh = false;
	len = mmds_http_head_len(client->data,
				 MIN(client->len, (size_t)MMDS_REQUEST_MAX));
	if (len)
		answer(client, len);
	else if (client->len >= MMDS_REQUEST_MAX)
		client_abort(client);
	else if (client->ended)
		client_close(client);
	return len != 0;
}

bool mmds_clients_serve(struct mmds_clients *clients)
{
	for (size_t i = 0; i < ARRAY_SIZE(clients->slots); i++) {
		size_t slot = (clients->turn + i) % ARRAY_SIZE(clients->slots);

		if (clients->slots[slot] && attend(clients->slots[slot])) {
			clients->turn = slot + 1;
			return true;
		}
	}
	return false;
}

/* -------------------------------------------------------------- connections */

static int take_slot(struct mmds_clients *clients, struct mmds_client *client)
{
	for (size_t i = 0; i < ARRAY_SIZE(clients->slots); i++)
		if (!clients->slots[i]) {
			clients->slots[i] = client;
			client->slot = i;
			return 0;
		}
	return -ENOSPC;
}

static err_t on_accept(void *arg, struct tcp_pcb *pcb, err_t err)
{
	struct mmds_clients *clients = arg;
	struct mmds_client *client;

	if (err != ERR_OK || !pcb)
		return ERR_MEM;
	client = malloc(sizeof(*client));
	if (!client)
		return ERR_MEM;
	*client = (struct mmds_client){
		.clients = clients,
		.pcb = pcb,
		.since_ns = monotonic_ns(),
	};
	if (take_slot(clients, client)) {
		free(client);
		return ERR_MEM;
	}
	tcp_arg(pcb, client);
	tcp_err(pcb, on_error);
	tcp_recv(pcb, on_data);
	tcp_sent(pcb, on_sent);
	tcp_nagle_disable(pcb);
	metric_inc(&clients->metrics->connections_created);
	return ERR_OK;
}

int mmds_clients_listen(struct mmds_clients *clients)
{
	struct tcp_pcb *pcb = tcp_new(), *listener;

	if (!pcb)
		return -ENOMEM;
	listener = tcp_bind(pcb, IP4_ADDR_ANY, HTTP_PORT) == ERR_OK
			   ? tcp_listen(pcb)
			   : NULL;
	if (!listener) {
		tcp_abort(pcb);
		return -ENOMEM;
	}
	tcp_arg(listener, clients);
	tcp_accept(listener, on_accept);
	clients->listener = listener;
	return 0;
}

void mmds_clients_close(struct mmds_clients *clients)
{
	tcp_close(clients->listener);
	while (tcp_active_pcbs)
		tcp_abort(tcp_active_pcbs);
	while (tcp_tw_pcbs)
		tcp_abort(tcp_tw_pcbs);
}
