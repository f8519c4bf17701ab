/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Theory of operation.
 *
 * The net device asks about each frame it is to send whether it is for the
 * service: an ARP request for the service's address, or IPv4 to it. Those that
 * are get copied and put into a queue (mmds_input, under the device's lock). A
 * timer with no delay then feeds them to lwIP with no lock held, and what lwIP
 * sends goes to net_deliver, which takes the lock again. The same timer then
 * has at most one request answered, and comes back for the next.
 *
 * lwIP never has to find out where the guest is: every link has one peer, whose
 * address is that of its last frame. Connections stay on their link, and what
 * belongs to none goes back the way the frame came: that is the default route
 * for the time, and there are no others.
 *
 * Its clock runs only while a connection has something outstanding.
 *
 * lwIP trusts its peers more than a monitor may trust a guest; its assertions
 * end the process. What reaches it is therefore kept within what it can bear:
 * see mmds_stack_tcp_hook, stop_probing, and send_more in mmds_clients.c.
 */
#include "vmm/mmds_stack.h"

#include "virtio/net.h"
#include "virtio/net_frame.h"
#include "vmm/lwip/hooks.h"
#include "vmm/mmds_clients.h"

#include <errno.h>
#include <lwip/etharp.h>
#include <lwip/init.h>
#include <lwip/priv/tcp_priv.h>
#include <lwip/tcp.h>
#include <netif/ethernet.h>
#include <string.h>

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
	struct loop *loop;
	struct mmds_metrics *metrics;
	uint32_t address;
	struct mmds_clients clients; /* of all links */
	struct port *ports;
	struct input inputs[INPUTS_MAX];
	size_t input_count;
	struct loop_timer input_timer, tick_timer;
};

/* lwIP's clock, in milliseconds. */
u32_t sys_now(void);
u32_t sys_now(void)
{
	return (u32_t)(monotonic_ns() / 1000000);
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
	bool needed = tcp_tw_pcbs || mmds_clients_busy(&stack->clients);

	for (const struct tcp_pcb *pcb = tcp_active_pcbs; pcb; pcb = pcb->next)
		needed |= outstanding(pcb);
	if (needed && !stack->tick_timer.deadline_ns)
		loop_timer_arm(stack->loop, &stack->tick_timer, TICK_NS);
}

/* lwIP starts to probe the window of a guest that takes no more data, and
 * forgets to stop when a probe has brought the last of it: its clock would find
 * that its assertions don't hold. */
static void stop_probing(void)
{
	for (struct tcp_pcb *pcb = tcp_active_pcbs; pcb; pcb = pcb->next)
		if (!pcb->unsent)
			pcb->persist_backoff = 0;
}

static void on_tick(struct loop_timer *timer)
{
	struct mmds_stack *stack =
		container_of(timer, struct mmds_stack, tick_timer);

	tcp_tmr();
	stop_probing();
	mmds_clients_resume(&stack->clients);
	start_clock(stack);
}

/* -------------------------------------------------------- frames to a guest */

static err_t link_output(struct netif *netif, struct pbuf *p)
{
	struct port *port = netif->state;
	struct mmds_metrics *metrics = port->stack->metrics;
	uint8_t frame[FRAME_MAX];
	size_t len = p->tot_len;

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
	/* Not from itself (RFC 1122, 3.2.1.3): lwIP would answer to any link.
	 */
	if (be16(frame + 12) == ETHERTYPE_IPV4 &&
	    be32(frame + ETHERNET_LEN + 12) == stack->address) {
		metric_inc(&stack->metrics->rx_accepted_unusual);
		return;
	}
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

/* Does lwIP read a segment size in these options? */
static bool has_segment_size(const uint8_t *options, size_t len)
{
	size_t i = 0;

	while (i < len && options[i] != LWIP_TCP_OPT_EOL) {
		if (options[i] == LWIP_TCP_OPT_MSS)
			return true;
		if (options[i] == LWIP_TCP_OPT_NOP)
			i++;
		else if (i + 1 < len && options[i + 1] >= 2)
			i += options[i + 1];
		else
			return false;
	}
	return false;
}

/* Does it end within what may come? lwIP keeps what is beyond when it comes out
 * of order, and later finds that there is no window for it. */
static bool in_window(const struct tcp_pcb *pcb, const struct tcp_hdr *header,
		      size_t len)
{
	uint32_t end = header->seqno + (uint32_t)len;

	if (TCPH_FLAGS(header) & TCP_FIN)
		end++;
	return TCP_SEQ_LEQ(end, pcb->rcv_nxt + pcb->rcv_wnd);
}

err_t mmds_stack_tcp_hook(struct tcp_pcb *pcb, const struct tcp_hdr *header,
			  size_t options, const uint8_t *more, size_t len)
{
	unsigned flags = TCPH_FLAGS(header);

	/* @more: of frames in two pieces, which mmds_input does not make. */
	if (more)
		return ERR_VAL;
	if (!(flags & TCP_SYN) &&
	    has_segment_size((const uint8_t *)(header + 1), options))
		return ERR_VAL;
	if (pcb->state == LISTEN)
		mmds_clients_make_room();
	if (pcb->state == LISTEN || pcb->state == TIME_WAIT || flags & TCP_RST)
		return ERR_OK;
	/* Nobody accepts a connection of ours, or has data before the start. */
	if (flags & TCP_SYN && (flags & TCP_ACK || len))
		return ERR_VAL;
	if (in_window(pcb, header, len))
		return ERR_OK;
	tcp_set_flags(pcb, TF_ACK_NOW); /* says what the window is; see feed */
	return ERR_VAL;
}

/* What mmds_stack_tcp_hook has dropped. */
static void acknowledge(void)
{
	for (struct tcp_pcb *pcb = tcp_active_pcbs; pcb; pcb = pcb->next)
		if (pcb->flags & TF_ACK_NOW)
			tcp_output(pcb);
}

static void feed(struct mmds_stack *stack, const struct input *input)
{
	struct eth_hdr header;

	pbuf_copy_partial(input->frame, &header, sizeof(header), 0);
	input->port->peer = header.src;
	netif_set_default(&input->port->netif);
	metric_inc(&stack->metrics->rx_accepted);
	if (ethernet_input(input->frame, &input->port->netif) != ERR_OK) {
		metric_inc(&stack->metrics->rx_bad_eth);
		pbuf_free(input->frame);
	}
	adopt(input->port);
	stop_probing();
	acknowledge();
}

static void on_input(struct loop_timer *timer)
{
	struct mmds_stack *stack =
		container_of(timer, struct mmds_stack, input_timer);

	for (size_t i = 0; i < stack->input_count; i++)
		feed(stack, &stack->inputs[i]);
	stack->input_count = 0;
	mmds_clients_resume(&stack->clients);
	if (mmds_clients_serve(&stack->clients))
		loop_timer_arm(stack->loop, timer, 0);
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

int mmds_stack_add(struct mmds_stack *stack, struct net *net)
{
	struct port *port = calloc(1, sizeof(*port));
	const struct net_service service = {mmds_wants, mmds_input, port};
	ip4_addr_t address = {.addr = htobe32(stack->address)};
	/* No other address is on the link, as far as routes go. */
	ip4_addr_t mask = {.addr = UINT32_MAX}, no_gateway = {0};

	if (!port)
		return -ENOMEM;
	port->stack = stack;
	port->net = net;
	if (!netif_add(&port->netif, &address, &mask, &no_gateway, port,
		       init_netif, ethernet_input)) {
		free(port);
		return -ENOMEM;
	}
	port->next = stack->ports;
	stack->ports = port;
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
	stack->loop = loop;
	stack->metrics = mmds_metrics(mmds);
	stack->clients.mmds = mmds;
	stack->clients.metrics = stack->metrics;
	stack->address = address;
	stack->input_timer.fn = on_input;
	stack->tick_timer.fn = on_tick;
	ret = mmds_clients_listen(&stack->clients);
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
	mmds_clients_close(&stack->clients);
	while (stack->ports) {
		struct port *port = stack->ports;

		stack->ports = port->next;
		port_destroy(port);
	}
	free(stack);
}
