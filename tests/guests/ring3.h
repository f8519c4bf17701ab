/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Ring 3, where machines without virtualization hardware run instructions at
 * full speed: what touches memory by the megabyte belongs there.
 */
#ifndef GUEST_RING3_H
#define GUEST_RING3_H

#define RING3_LIMIT                                                            \
	0x10000000u /* what is mapped there: 256 MiB, one to one               \
		     */

/* Before the first call. Takes the interrupt table. */
void ring3_init(void);

/* Runs @fn in ring 3, without interrupts, and returns when it does. No port,
 * and thus no print, is to be had there. */
void ring3_call(void (*fn)(void));

#endif
