/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Theory of operation.
 *
 * The net device asks about each frame it is to send whether it is for the
 * service: an ARP request for the service's address, or IPv4 to it. Those that
 * are get copied and put into a queue (mmds_input, under the device's lock). A
 * timer with no delay then feeds them to lwIP with no lock held, and what lwIP
 * sends goes to net_deliver, which takes the lock again.
 *
 * lwIP never has to find out where the guest is: every link has one peer, whose
 * address is that of its last frame. Answers to a frame go back the way the
 * frame came, whatever lwIP thinks of routes.
 *
 * Its clock runs only while a connection has something outstanding.
 */
#include "vmm/mmds_stack.h"

#include "virtio/net.h"
#include "virtio/net_frame.h"
#include "vmm/log.h"
#include "vmm/mmds_http.h"

#include <errno.h>
#include <lwip/etharp.h>
#include <lwip/init.h>
#include <lwip/priv/tcp_priv.h>
#include <lwip/tcp.h>
#include <netif/ethernet.h>
#include <string.h>

#define HTTP_PORT 80
#define FRAME_MAX 1514 /* what lwIP sends */

/* Frames waiting to be looked at. More are dropped, as on any network. */
#define INPUTS_MAX 64

#define TICK_NS ((uint64_t)TCP_TMR_INTERVAL * 1000000)

static const uint8_t service_mac[MAC_LEN] = {0x06, 0x01, 0x23,
					     0x45, 0x67, 0x01};

/* A virtual link to the guest behind one interface. */
struct port {
	struct mmds_stack *stack;
	struct net *net;
	struct netif netif;
	struct eth_addr peer;
	struct port *next;
};

struct input {
	struct port *port;
	struct pbuf *frame;
};

struct mmds_stack {
	struct mmds *mmds;
	struct loop *loop;
	struct mmds_metrics *metrics;
	uint32_t address;
	struct tcp_pcb *listener;
	struct port *ports;
	struct port *current; /* whose frame lwIP is looking at */
	struct input inputs[INPUTS_MAX];
	size_t input_count;
	struct loop_timer input_timer, tick_timer;
};

/* One TCP connection. */
struct client {
	struct mmds_stack *stack;
	struct tcp_pcb *pcb;
	char request[MMDS_REQUEST_MAX];
	size_t request_len;
	uint64_t skip; /* bytes of a body nobody reads */
	char *answer;  /* being sent */
	size_t answer_len, answer_sent, answer_acked;
	bool ended; /* the guest sends no more */
};

/* lwIP's clock, in milliseconds. */
u32_t sys_now(void);
u32_t sys_now(void)
{
	return (u32_t)(monotonic_ns() / 1000000);
}

/* --------------------------------------------------------------- connections
 */

static void client_free(struct client *client)
{
	metric_inc(&client->stack->metrics->connections_destroyed);
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

/* Ends the connection with RST. What a callback returns afterwards. */
static err_t client_abort(struct client *client)
{
	struct tcp_pcb *pcb = client->pcb;

	tcp_arg(pcb, NULL);
	client_free(client);
	tcp_abort(pcb);
	return ERR_ABRT;
}

static err_t client_close(struct client *client)
{
	struct tcp_pcb *pcb = client->pcb;

	tcp_recv(pcb, NULL);
	tcp_sent(pcb, NULL);
	tcp_err(pcb, NULL);
	if (tcp_close(pcb) != ERR_OK) {
		tcp_err(pcb, on_error);
		return client_abort(client);
	}
	tcp_arg(pcb, NULL);
	client_free(client);
	return ERR_OK;
}

/* As much of the answer as TCP takes now. */
static void send_more(struct client *client)
{
	size_t len = MIN(client->answer_len - client->answer_sent,
			 (size_t)tcp_sndbuf(client->pcb));

	if (!len || tcp_write(client->pcb, client->answer + client->answer_sent,
			      (u16_t)len, TCP_WRITE_FLAG_COPY) != ERR_OK)
		return; /* acknowledgements bring us here again */
	client->answer_sent += len;
	tcp_output(client->pcb);
}

static void drop_front(struct client *client, size_t len)
{
	client->request_len -= len;
	memmove(client->request, client->request + len, client->request_len);
}

static void skip_body(struct client *client)
{
	size_t len = (size_t)MIN(client->skip, (uint64_t)client->request_len);

	drop_front(client, len);
	client->skip -= len;
}

/* Answers the first request that is complete, if the one before is done with.
 */
static err_t serve(struct client *client)
{
	size_t len;

	skip_body(client);
	if (client->answer)
		return ERR_OK;
	len = mmds_http_head_len(client->request, client->request_len);
	if (len) {
		client->answer = mmds_http_answer(
			client->stack->mmds, client->request, len,
			&client->answer_len, &client->skip);
		if (!client->answer)
			return client_abort(client);
		client->answer_sent = client->answer_acked = 0;
		drop_front(client, len);
		send_more(client);
		return ERR_OK;
	}
	if (client->ended)
		return client_close(client);
	if (client->request_len == MMDS_REQUEST_MAX)
		return client_abort(client);
	return ERR_OK;
}

static err_t on_sent(void *arg, struct tcp_pcb *pcb, u16_t len)
{
	struct client *client = arg;

	(void)pcb;
	client->answer_acked += len;
	if (client->answer_acked < client->answer_len) {
		send_more(client);
		return ERR_OK;
	}
	free(take_ptr(client->answer));
	return serve(client);
}

/* Data, or the end of it when @data is NULL. */
static err_t on_data(void *arg, struct tcp_pcb *pcb, struct pbuf *data,
		     err_t err)
{
	struct client *client = arg;
	size_t room;

	(void)err;
	if (!data) {
		client->ended = true;
		return client->answer ? ERR_OK : serve(client);
	}
	skip_body(client);
	room = MMDS_REQUEST_MAX - client->request_len;
	/* More requests than are answered at once: TCP keeps them for now. */
	if (data->tot_len > room && client->answer)
		return ERR_MEM;
	if (data->tot_len > room) {
		pbuf_free(data);
		return client_abort(client);
	}
	pbuf_copy_partial(data, client->request + client->request_len,
			  data->tot_len, 0);
	client->request_len += data->tot_len;
	tcp_recved(pcb, data->tot_len);
	pbuf_free(data);
	return serve(client);
}

static err_t on_accept(void *arg, struct tcp_pcb *pcb, err_t err)
{
	struct mmds_stack *stack = arg;
	struct client *client;

	if (err != ERR_OK || !pcb)
		return ERR_VAL;
	client = calloc(1, sizeof(*client));
	if (!client)
		return ERR_MEM;
	client->stack = stack;
	client->pcb = pcb;
	tcp_arg(pcb, client);
	tcp_err(pcb, on_error);
	tcp_recv(pcb, on_data);
	tcp_sent(pcb, on_sent);
	tcp_nagle_disable(pcb);
	metric_inc(&stack->metrics->connections_created);
	return ERR_OK;
}

/* ---------------------------------------------------------------- the clock */

static bool outstanding(const struct tcp_pcb *pcb)
{
	return pcb->state != ESTABLISHED || pcb->unsent || pcb->unacked ||
	       pcb->ooseq || pcb->refused_data ||
	       (pcb->flags & (TF_ACK_DELAY | TF_CLOSEPEND));
}

static void start_clock(struct mmds_stack *stack)
{
	bool needed = tcp_tw_pcbs != NULL;

	for (const struct tcp_pcb *pcb = tcp_active_pcbs; pcb; pcb = pcb->next)
		needed |= outstanding(pcb);
	if (needed && !stack->tick_timer.deadline_ns)
		loop_timer_arm(stack->loop, &stack->tick_timer, TICK_NS);
}

static void on_tick(struct loop_timer *timer)
{
	struct mmds_stack *stack =
		container_of(timer, struct mmds_stack, tick_timer);

	tcp_tmr();
	start_clock(stack);
}

/* -------------------------------------------------------- frames to a guest */

static err_t link_output(struct netif *netif, struct pbuf *p)
{
	struct port *port = netif->state;
	struct mmds_metrics *metrics = port->stack->metrics;
	uint8_t frame[FRAME_MAX];
	size_t len = p->tot_len;

	if (port->stack->current)
		port = port->stack->current;
	metric_inc(&metrics->tx_count);
	if (len > sizeof(frame) ||
	    pbuf_copy_partial(p, frame, (u16_t)len, 0) != len ||
	    net_deliver(port->net, frame, len)) {
		metric_inc(&metrics->tx_errors);
		return ERR_BUF; /* lost, like on any network */
	}
	metric_inc(&metrics->tx_frames);
	metric_add(&metrics->tx_bytes, len);
	return ERR_OK;
}

/* Instead of ARP: there is only one place to send to. */
static err_t output_ip(struct netif *netif, struct pbuf *p,
		       const ip4_addr_t *address)
{
	struct port *port = netif->state;

	(void)address;
	if (port->stack->current)
		port = port->stack->current;
	return ethernet_output(netif, p, (struct eth_addr *)netif->hwaddr,
			       &port->peer, ETHTYPE_IP);
}

/* ----------------------------------------------------- frames from a guest */

#define ETHERTYPE_IPV4 0x0800
#define ETHERTYPE_ARP 0x0806
#define ARP_REQUEST 1

static uint32_t be16(const uint8_t *bytes)
{
	return (uint32_t)bytes[0] << 8 | bytes[1];
}

static uint32_t be32(const uint8_t *bytes)
{
	return be16(bytes) << 16 | be16(bytes + 2);
}

/* The peek of NET_PEEK_LEN is exactly an ARP packet, and covers both addresses
 * of IPv4. */
static bool mmds_wants(void *arg, const uint8_t *head, size_t len)
{
	const struct port *port = arg;
	const uint8_t *packet = head + ETHERNET_LEN;

	if (len < ETHERNET_LEN + 20)
		return false;
	switch (be16(head + 12)) {
	case ETHERTYPE_IPV4:
		return be32(packet + 16) == port->stack->address;
	case ETHERTYPE_ARP:
		return len >= NET_PEEK_LEN && be16(packet + 6) == ARP_REQUEST &&
		       be32(packet + 24) == port->stack->address;
	default:
		return false;
	}
}

static void mmds_input(void *arg, const uint8_t *frame, size_t len)
{
	struct port *port = arg;
	struct mmds_stack *stack = port->stack;
	struct pbuf *p = NULL;

	metric_inc(&stack->metrics->rx_count);
	if (stack->input_count < INPUTS_MAX)
		p = pbuf_alloc(PBUF_RAW, (u16_t)len, PBUF_RAM);
	if (!p) {
		metric_inc(&stack->metrics->rx_accepted_err);
		return;
	}
	pbuf_take(p, frame, (u16_t)len);
	stack->inputs[stack->input_count++] = (struct input){port, p};
	loop_timer_arm(stack->loop, &stack->input_timer, 0);
}

/* A connection belongs to the link over which it came: neither what arrives on
 * another one nor what the clock sends may change that. */
static void adopt(struct port *port)
{
	for (struct tcp_pcb *pcb = tcp_active_pcbs; pcb; pcb = pcb->next)
		if (pcb->netif_idx == NETIF_NO_INDEX)
			tcp_bind_netif(pcb, &port->netif);
}

static void feed(struct mmds_stack *stack, const struct input *input)
{
	struct eth_hdr header;

	pbuf_copy_partial(input->frame, &header, sizeof(header), 0);
	input->port->peer = header.src;
	stack->current = input->port;
	metric_inc(&stack->metrics->rx_accepted);
	if (ethernet_input(input->frame, &input->port->netif) != ERR_OK) {
		metric_inc(&stack->metrics->rx_bad_eth);
		pbuf_free(input->frame);
	}
	adopt(input->port);
	stack->current = NULL;
}

static void on_input(struct loop_timer *timer)
{
	struct mmds_stack *stack =
		container_of(timer, struct mmds_stack, input_timer);

	for (size_t i = 0; i < stack->input_count; i++)
		feed(stack, &stack->inputs[i]);
	stack->input_count = 0;
	start_clock(stack);
}

/* -------------------------------------------------------------- life cycle */

static err_t init_netif(struct netif *netif)
{
	netif->name[0] = 'm';
	netif->name[1] = 'd';
	netif->mtu = 1500;
	netif->hwaddr_len = MAC_LEN;
	memcpy(netif->hwaddr, service_mac, MAC_LEN);
	netif->flags = NETIF_FLAG_ETHERNET | NETIF_FLAG_LINK_UP;
	netif->output = output_ip;
	netif->linkoutput = link_output;
	return ERR_OK;
}

/* One for all links: what it accepts is tied to its link by adopt. */
static int listen_for_clients(struct mmds_stack *stack)
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
	tcp_arg(listener, stack);
	tcp_accept(listener, on_accept);
	stack->listener = listener;
	return 0;
}

int mmds_stack_add(struct mmds_stack *stack, struct net *net)
{
	struct port *port = calloc(1, sizeof(*port));
	const struct net_service service = {mmds_wants, mmds_input, port};
	ip4_addr_t address = {.addr = htobe32(stack->address)};
	ip4_addr_t any = {0};

	if (!port)
		return -ENOMEM;
	port->stack = stack;
	port->net = net;
	if (!netif_add(&port->netif, &address, &any, &any, port, init_netif,
		       ethernet_input)) {
		free(port);
		return -ENOMEM;
	}
	port->next = stack->ports;
	stack->ports = port;
	netif_set_default(&port->netif);
	netif_set_up(&port->netif);
	/* Only now: or it would announce itself before the guest is there. */
	port->netif.flags |= NETIF_FLAG_ETHARP;
	net_set_service(net, &service);
	return 0;
}

int mmds_stack_create(struct mmds_stack **ret_stack, struct mmds *mmds,
		      struct loop *loop, uint32_t address)
{
	static bool initialised; /* lwIP's own state is as global */
	struct mmds_stack *stack = calloc(1, sizeof(*stack));
	int ret;

	if (!stack)
		return -ENOMEM;
	if (!initialised)
		lwip_init();
	initialised = true;
	stack->mmds = mmds;
	stack->loop = loop;
	stack->metrics = mmds_metrics(mmds);
	stack->address = address;
	stack->input_timer.fn = on_input;
	stack->tick_timer.fn = on_tick;
	ret = listen_for_clients(stack);
	if (ret) {
		free(stack);
		return ret;
	}
	*ret_stack = stack;
	return 0;
}

static void port_destroy(struct port *port)
{
	net_set_service(port->net, NULL);
	netif_remove(&port->netif);
	free(port);
}

void mmds_stack_destroy(struct mmds_stack *stack)
{
	if (!stack)
		return;
	loop_timer_cancel(&stack->input_timer);
	loop_timer_cancel(&stack->tick_timer);
	for (size_t i = 0; i < stack->input_count; i++)
		pbuf_free(stack->inputs[i].frame);
	tcp_close(stack->listener);
	while (tcp_active_pcbs)
		tcp_abort(tcp_active_pcbs);
	while (tcp_tw_pcbs)
		tcp_abort(tcp_tw_pcbs);
	while (stack->ports) {
		struct port *port = stack->ports;

		stack->ports = port->next;
		port_destroy(port);
	}
	free(stack);
}
