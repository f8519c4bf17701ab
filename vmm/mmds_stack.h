/* SPDX-License-Identifier: Apache-2.0 */
/*
 * TCP/IP for the metadata service: lwIP, one virtual link per interface of the
 * guest. It sees only frames that are meant for it and talks only to the guest
 * whose frame it was; it has no way to any network.
 *
 * lwIP's state is global to the process: one stack at a time. Thread: loop.
 */
#ifndef EMBER_MMDS_STACK_H
#define EMBER_MMDS_STACK_H

#include "vmm/mmds.h"

struct mmds_stack;
struct net;

/* @address: the service's, in host byte order. */
int mmds_stack_create(struct mmds_stack **ret_stack, struct mmds *mmds,
		      struct loop *loop, uint32_t address) must_check;

/* Takes the service away from the interfaces. Accepts NULL. */
void mmds_stack_destroy(struct mmds_stack *stack);

/* Serves the guest behind @net, which must outlive the stack. */
int mmds_stack_add(struct mmds_stack *stack, struct net *net) must_check;

#endif
