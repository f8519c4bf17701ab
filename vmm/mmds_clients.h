/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The metadata service's TCP connections: collects requests, has mmds_http.c
 * answer them, and sends the answers as fast as the guest takes them.
 *
 * lwIP's callbacks only store what came. Requests are answered one at a time by
 * mmds_clients_serve, so that no guest can keep the loop from its other work.
 * Thread: loop.
 */
#ifndef EMBER_MMDS_CLIENTS_H
#define EMBER_MMDS_CLIENTS_H

#include "vmm/mmds.h"

/* The limit is lwIP's, see MEMP_NUM_TCP_PCB. */
#define MMDS_CLIENTS_MAX 30

struct mmds_client;
struct tcp_pcb;

/* Zero-initialise with the first two set. */
struct mmds_clients {
	struct mmds *mmds;
	struct mmds_metrics *metrics;
	/* private */
	struct tcp_pcb *listener;
	struct mmds_client *slots[MMDS_CLIENTS_MAX]; /* NULL: free */
	size_t turn; /* who is looked at first */
};

/* From now on connections are accepted. -ENOMEM. */
int mmds_clients_listen(struct mmds_clients *clients) must_check;

/* Ends all connections and the listening. */
void mmds_clients_close(struct mmds_clients *clients);

/* Answers at most one request. True: it did, call again in the next turn. */
bool mmds_clients_serve(struct mmds_clients *clients);

/* Tries again where TCP took nothing of an answer for want of memory: no
 * acknowledgement will come for that. */
void mmds_clients_resume(struct mmds_clients *clients);

/* Another connection is about to begin: tells lwIP which ones may be aborted
 * for it, if it has to. */
void mmds_clients_make_room(void);

/* Is there an answer that has not arrived completely? */
bool mmds_clients_busy(const struct mmds_clients *clients);

#endif
