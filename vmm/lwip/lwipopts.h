/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Settings of lwIP for the metadata service: one thread, no operating system,
 * Ethernet, ARP, IPv4 and TCP. All memory is in pools of fixed size, so that a
 * guest can exhaust only its own service. The names are lwIP's.
 */
#ifndef EMBER_LWIPOPTS_H
#define EMBER_LWIPOPTS_H

#define NO_SYS 1
#define SYS_LIGHTWEIGHT_PROT 0
#define LWIP_NETCONN 0
#define LWIP_SOCKET 0
#define LWIP_TIMERS 0 /* vmm/mmds_stack.c calls tcp_tmr itself */

#define LWIP_ARP 1
#define LWIP_IPV6 0
#define LWIP_ICMP 0
#define LWIP_RAW 0
#define LWIP_UDP 0
#define LWIP_DHCP 0
#define LWIP_DNS 0
#define LWIP_TCP 1
#define IP_FORWARD 0
#define IP_REASSEMBLY 0
#define IP_FRAG 0
#define IP_OPTIONS_ALLOWED 0
#define LWIP_STATS 0
#define LWIP_NETIF_HOSTNAME 0

#define MEM_ALIGNMENT 8
/* Full send buffers of all connections with their headers, and the frames that
 * wait in vmm/mmds_stack.c. Not touched before it is used. */
#define MEM_SIZE 524288
#define MEMP_NUM_PBUF 128
#define PBUF_POOL_SIZE 0
#define MEMP_NUM_TCP_PCB 30 /* connections */
#define MEMP_NUM_TCP_PCB_LISTEN 32
#define MEMP_NUM_TCP_SEG 768 /* the same with segments of 536 bytes */

#define TCP_TTL 1
#define TCP_MSS 1460
#define TCP_WND 4000 /* one request of the greatest length, and more */
#define TCP_SND_BUF (8 * TCP_MSS)
#define TCP_SND_QUEUELEN 64
#define TCP_MSL 1000
#define TCP_QUEUE_OOSEQ 1
#define TCP_OOSEQ_MAX_PBUFS 8
#define LWIP_TCP_KEEPALIVE 0

#define LWIP_HOOK_FILENAME "hooks.h"
#define LWIP_HOOK_TCP_INPACKET_PCB(pcb, header, len, len1, more, p)            \
	mmds_stack_tcp_hook(pcb, header, len, more, (p)->tot_len)

#endif
