/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Lets a loop run on the test's own thread, for a while.
 */
#ifndef FAKE_TURN_H
#define FAKE_TURN_H

#include "vmm/loop.h"

/* Until @done(@arg), looked at every millisecond. False after five seconds. */
bool turn_until(struct loop *loop, bool (*done)(void *arg), void *arg);

/* One round, without waiting for anything. */
void turn_once(struct loop *loop);

/* Long enough for everything that is ready to be served. */
void turn_briefly(struct loop *loop);

#endif
